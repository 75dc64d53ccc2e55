"""What the worst inputs cost a server: CPU milliseconds, and how far its memory grows. `python benchmarks/worst_inputs.py`

Each input goes to a fresh server process on one connection, after a first echo has warmed it up; the figure covers the time
from its first byte to the pong of a ping sent behind it, or to the end. Beside ours, the server of `websockets`, if that is
installed, with its defaults: it too takes messages of 1 MiB and compresses. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import importlib.util
import select
import socket
import statistics
import struct
import sys
import zlib
from collections.abc import Callable, Sequence

from harness.processes import Server, silly

WEBSOCKETS = """
import asyncio, sys
from websockets.asyncio.server import serve
async def echo(ws):
    async for message in ws:
        await ws.send(message)
async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1])):
        await asyncio.Future()
asyncio.run(main())
"""
SERVERS = {"silly": silly("ws_deflate.py", "--port={port}")}
if importlib.util.find_spec("websockets"):
    SERVERS["websockets"] = (sys.executable, "-c", WEBSOCKETS, "{port}")

UPGRADE = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
MIB = 1024 * 1024
FIN, RSV1, TEXT, BINARY, CLOSE, PING = 0x80, 0x40, 1, 2, 8, 9


def frame(first: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A client's frame, masked with zeros; ``length``: announced, whatever the payload."""
    size = len(payload) if length is None else length
    if size < 126:
        head = struct.pack(">BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack(">BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


def fragments(payload: bytes, count: int) -> bytes:
    return frame(BINARY, payload) + frame(0, payload) * (count - 2) + frame(FIN, payload)


def deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def bomb() -> bytes:
    """A frame of about a megabyte that inflates a thousandfold."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(MIB)
    payload = b"".join(deflate.compress(zeros) for _ in range(1000))
    return frame(FIN | RSV1 | BINARY, (payload + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4])


INPUTS: dict[str, Callable[[], bytes]] = {
    "1 MiB message in one frame": lambda: frame(FIN | BINARY, bytes(MIB)),
    "1 MiB message in 256-byte fragments": lambda: fragments(bytes(256), 4096),
    "1 MiB message in 1-byte fragments": lambda: fragments(b"x", MIB),
    "1,000,000 empty fragments": lambda: frame(TEXT) + frame(0) * 1_000_000,
    "one byte more than 1 MiB announced": lambda: frame(FIN | BINARY, b"", MIB + 1),
    "2^63-1 bytes announced": lambda: frame(FIN | BINARY, b"", 2**63 - 1),
    "1000:1 bomb of 1 MB": bomb,
    "1000:1 of just 1 MiB": lambda: frame(FIN | RSV1 | BINARY, deflated(bytes(MIB))),
    "compressed, but not by deflate": lambda: frame(FIN | RSV1 | TEXT, b"\xff" * 65536),
    "bad UTF-8 in the last byte of 1 MiB": lambda: frame(FIN | TEXT, b"x" * (MIB - 1) + b"\xff"),
    "100,000 pings": lambda: frame(FIN | PING, b"ping") * 100_000,
    "100,000 pings, pongs unread": lambda: frame(FIN | PING, bytes(125)) * 100_000,
}


def connect(port: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", int(port)), 60)
    sock.sendall(UPGRADE.format(port=port).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    sock.sendall(frame(FIN | TEXT, b"warm"))
    if sock.recv(100)[0] & 0x8F != FIN | TEXT:  # it may be compressed
        raise SystemExit("no echo")
    return sock


DONE = b"\x8a\x04done"
"""The pong of a last ping: everything before it has been dealt with."""


def send(sock: socket.socket, data: bytes, reads: bool) -> str:
    """Sends ``data`` and reads, if not at first then once nothing more can be sent, until the last pong or the end."""
    sock.setblocking(False)
    view = memoryview(data + frame(FIN | PING, b"done"))
    last = b""
    while True:
        can_read, can_write, _ = select.select([sock] if reads else [], [sock] if view else [], [], 0.5)
        reads = reads or not can_write
        try:
            if can_write:
                view = view[sock.send(view[:65536]) :]
            got = sock.recv(MIB) if can_read else None
        except OSError as exc:
            return close_code(last) or f"reset ({exc.strerror})"
        if got:
            last = (last + got)[-200:]
            if last.endswith(DONE):
                return "all of it dealt with"
        elif got is not None:
            return close_code(last) or "end"


def close_code(last: bytes) -> str:
    at = last.rfind(b"\x88")
    return f"close {int.from_bytes(last[at + 2 : at + 4], 'big')}" if at >= 0 and len(last) - at > 3 else ""


def measure(command: Sequence[str], name: str, data: bytes) -> tuple[float, int, str]:
    """CPU ms, KiB of growth, and the outcome."""
    with Server(command) as server, connect(server.port) as sock:
        server.reset()
        before, memory = server.cpu_seconds(), server.memory("VmRSS")
        outcome = send(sock, data, "unread" not in name)
        return (server.cpu_seconds() - before) * 1000, server.memory("VmHWM") - memory, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("names", nargs="*", help="inputs that contain one of these")
    options = parser.parse_args()
    print(f"{'input (' + str(options.runs) + ' runs, median)':40} {'server':12} {'CPU ms':>10} {'growth KiB':>11}  outcome")
    for name, make in INPUTS.items():
        if options.names and not any(part in name for part in options.names):
            continue
        data = make()
        for server, command in SERVERS.items():
            runs = [measure(command, name, data) for _ in range(options.runs)]
            cpu, growth = (statistics.median(run[i] for run in runs) for i in (0, 1))
            outcomes = " or ".join(sorted({run[2] for run in runs}))
            print(f"{name:40} {server:12} {cpu:10.2f} {growth:11,.0f}  {outcomes}", flush=True)


if __name__ == "__main__":
    main()
