"""A closed-loop load: N connections, each sends, waits for the whole answer, and sends again. No library, one thread.

Used by run.py, in a process of its own: python benchmarks/load.py MODE HOST PORT CONNECTIONS SIZE SECONDS DEPTH
MODE is ws (masked text frames), tcp (lines) or http (GET /hello). Prints the number of messages answered.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys
import time

KEY = b"\x12\x34\x56\x78"
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def text_frame(payload: bytes, masked: bool) -> bytes:
    size = len(payload)
    flag = 0x80 if masked else 0
    if size < 126:
        head = bytes((0x81, flag | size))
    elif size < 65536:
        head = struct.pack(">BBH", 0x81, flag | 126, size)
    else:
        head = struct.pack(">BBQ", 0x81, flag | 127, size)
    if not masked:
        return head + payload
    return head + KEY + bytes(b ^ KEY[i & 3] for i, b in enumerate(payload))


class Client:
    """One connection; ``answer`` is how many bytes answer what is sent at a time."""

    def __init__(self, sock: socket.socket, request: bytes, answer: int) -> None:
        self.sock, self.request, self.answer = sock, request, answer
        self.missing = answer

    def received(self, size: int) -> bool:
        """Whether that completed the answer."""
        self.missing -= size
        if self.missing > 0:
            return False
        self.missing = self.answer
        return True


def connect(mode: str, host: str, port: int, size: int, depth: int) -> Client:
    sock = socket.create_connection((host, port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if mode == "tcp":
        request = b"x" * size + b"\n"
        return Client(sock, request * depth, len(request) * depth)
    if mode == "ws":
        sock.sendall(UPGRADE.format(host=host, port=port).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        if b" 101 " not in head:
            raise SystemExit(f"no upgrade: {head!r}")
        payload = b"x" * size
        return Client(sock, text_frame(payload, True) * depth, len(text_frame(payload, False)) * depth)
    request = f"GET /hello HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    sock.sendall(request)
    answer = sock.recv(65536)
    return Client(sock, request * depth, len(answer) * depth)


def main() -> None:
    mode, host, port, connections, size, seconds, depth = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:8])
    clients = [connect(mode, host, int(port), int(size), int(depth)) for _ in range(int(connections))]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.sock, selectors.EVENT_READ, client)
        client.sock.sendall(client.request)
    messages = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _mask in selector.select(1):
            client = key.data
            data = client.sock.recv(1 << 20)
            if not data:
                raise SystemExit("the server closed a connection")
            if client.received(len(data)):
                messages += int(depth)
                client.sock.sendall(client.request)
    print(messages)


main()
