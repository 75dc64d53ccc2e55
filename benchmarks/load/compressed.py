"""The load for compressed messages, which ``load.c`` has not: zlib is at hand in Python, its headers for C may not be. It costs
more than some servers do, so these get little at a time, all alike; their CPU time is what counts.

    python benchmarks/load/compressed.py text|binary PORT [--connections=N] [--size=S] [--seconds=T]

A closed loop like ``load.c``, with the same protocol towards its parent process: each connection sends a message, checks every
byte of the echo, and sends the next. The messages are JSON, 64 different ones by turns, and echoes must be compressed too.
"""

from __future__ import annotations

import argparse
import json
import random
import selectors
import socket
import struct
import sys
import time
import zlib
from contextlib import suppress
from itertools import cycle

KEY = b"\x12\x34\x56\x78"
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
FIN, RSV1, TEXT, BINARY, CLOSE = 0x80, 0x40, 1, 2, 8
WARM = 0.2
"""Seconds."""


def mask(payload: bytes) -> bytes:
    """``payload`` as a client sends it."""
    size = len(payload)
    key = (KEY * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack(">BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, size)
    return head + KEY + mask(payload)


def deflated(data: bytes) -> bytes:
    """``data`` as a message of permessage-deflate that refers to none before it, with the smallest window."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -9)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def json_message(size: int, source: random.Random) -> bytes:
    """JSON of ``size`` bytes, such as applications send."""
    items: list[dict[str, object]] = []
    while len(json.dumps(items)) < size:
        name, price = source.choice(("apples", "pears", "plums", "quinces")), round(source.uniform(1, 99), 2)
        items.append({"id": source.randrange(10**6), "name": name, "price": price, "stock": source.random() < 0.5})
    return json.dumps(items)[:size].encode()


class Connection:
    """One connection: what it has still to send, and the part of an echo that has come."""

    def __init__(
        self, options: argparse.Namespace, selector: selectors.BaseSelector, messages: list[tuple[bytes, bytes]], first: int
    ) -> None:
        self.sock = socket.create_connection(("127.0.0.1", options.port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upgrade(options)
        self.sock.setblocking(False)
        self.selector = selector
        self.watched = selectors.EVENT_READ
        selector.register(self.sock, self.watched, self)
        self.messages = cycle(messages[first % len(messages) :] + messages[: first % len(messages)])
        self.inflate = zlib.decompressobj(-15)
        self.buffer = bytearray()
        self.data = bytearray()
        self.expected = b""
        self.unsent = memoryview(b"")
        self.begin = 0.0

    def _upgrade(self, options: argparse.Namespace) -> None:
        self.sock.sendall(UPGRADE.format(port=options.port).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.sock.recv(1)
            if not byte:
                raise SystemExit(f"no answer to the handshake: {head!r}")
            head += byte
        if b" 101 " not in head or b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" not in head:
            raise SystemExit(f"no upgrade: {head!r}")
        if b"permessage-deflate" not in head:
            raise SystemExit("the server does not compress")

    def start(self) -> None:
        """Sends the next message."""
        self.expected, request = next(self.messages)
        self.unsent = memoryview(request)
        self.begin = time.perf_counter()
        self.send()

    def send(self) -> None:
        """Sends what can be sent now."""
        with suppress(BlockingIOError):
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        watch = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
        if watch != self.watched:
            self.selector.modify(self.sock, watch, self)
            self.watched = watch

    def receive(self) -> bool:
        """Takes what has come: whether the echo is complete."""
        got = self.sock.recv(1 << 18)
        if not got:
            raise SystemExit("the server ended a connection")
        self.buffer += got
        return self._frames()

    def _frames(self) -> bool:
        buffer = self.buffer
        while len(buffer) >= 2:
            first, size = buffer[0], buffer[1]
            at = 2 if size < 126 else 4 if size == 126 else 10
            if len(buffer) < at:
                return False
            if size > 125:
                size = int.from_bytes(buffer[2:at], "big")
            if len(buffer) < at + size:
                return False
            payload = bytes(buffer[at : at + size])
            del buffer[: at + size]
            if first & 0x0F == CLOSE:
                raise SystemExit(f"the server closed: {payload!r}")
            if first & 0x08:
                continue  # a ping, left unanswered
            if first & 0x0F and not first & RSV1:
                raise SystemExit("an echo that is not compressed")
            self.data += payload
            if first & FIN:
                return self._message()
        return False

    def _message(self) -> bool:
        if self.inflate.decompress(bytes(self.data) + b"\x00\x00\xff\xff") != self.expected:
            raise SystemExit("an echo is not what was sent")
        self.data.clear()
        return True


def run(connections: list[Connection], selector: selectors.BaseSelector, seconds: float) -> tuple[list[float], float]:
    """Runs for ``seconds`` until all is answered: how long each answer took, in seconds, and how long the run."""
    begin = time.perf_counter()
    end = begin + seconds
    latencies = []
    due = len(connections)
    for connection in connections:
        connection.start()
    while due:
        events = selector.select(10)
        if not events:
            raise SystemExit("no answer for 10 s")
        for key, ready in events:
            connection = key.data
            if ready & selectors.EVENT_WRITE:
                connection.send()
            if not ready & selectors.EVENT_READ or not connection.receive():
                continue
            now = time.perf_counter()
            latencies.append(now - connection.begin)
            if now < end:
                connection.start()
            else:
                due -= 1
    return latencies, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["text", "binary"])
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    first = FIN | (TEXT if options.mode == "text" else BINARY)
    source = random.Random(1)
    texts = [json_message(options.size, source) for _ in range(64)]
    messages = [(text, frame(first | RSV1, deflated(text))) for text in texts]
    selector = selectors.DefaultSelector()
    connections = [Connection(options, selector, messages, number) for number in range(options.connections)]
    run(connections, selector, WARM)
    print("ready", flush=True)
    while sys.stdin.readline():
        latencies, seconds = run(connections, selector, options.seconds)
        latencies.sort()
        p50, p99 = (round(latencies[len(latencies) * part // 100] * 1e6, 1) for part in (50, 99))
        print(json.dumps({"messages": len(latencies), "seconds": seconds, "p50_us": p50, "p99_us": p99}), flush=True)


if __name__ == "__main__":
    main()
