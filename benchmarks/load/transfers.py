"""The load of the suite ``transfers``: an HTTP client with one connection.

    python benchmarks/load/transfers.py PORT upload|chunked|download PATH SIZE [--tls]

It sends SIZE bytes to PATH, with Content-Length or chunked, and expects their number as the answer; or asks for PATH and
expects SIZE bytes. It speaks the protocol of ``load.c`` towards its parent process: one transfer to warm the server up, then
one for each line. Certificates are not verified.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import time

PIECE = bytes(256 * 1024)


def connect(port: int, secure: bool) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 60)
    if not secure:
        return sock
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


def receive(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise SystemExit("the server ended the connection")
    return data


def answer(sock: socket.socket) -> tuple[int, bytes]:
    """The length that a response announces, and what has come of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    if b" 200 " not in head[:20] or b"content-length" not in fields:
        raise SystemExit(f"not the response that was expected: {head!r}")
    return int(fields[b"content-length"]), body


def upload(sock: socket.socket, path: str, size: int, chunked: bool) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    sock.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{framing}\r\n\r\n".encode())
    piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    for _ in range(size // len(PIECE)):
        sock.sendall(piece)
    if chunked:
        sock.sendall(b"0\r\n\r\n")
    length, body = answer(sock)
    while len(body) < length:
        body += receive(sock)
    if body != str(size).encode():
        raise SystemExit(f"the server has received {body!r} bytes")


def download(sock: socket.socket, path: str, size: int) -> None:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    length, body = answer(sock)
    if length != size:
        raise SystemExit(f"the server sends {length} bytes")
    room = bytearray(1024 * 1024)
    left = size - len(body)
    while left:
        got = sock.recv_into(room)
        if not got:
            raise SystemExit("the download broke off")
        left -= got


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("kind", choices=["upload", "chunked", "download"])
    parser.add_argument("path")
    parser.add_argument("size", type=int)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    if options.size % len(PIECE):
        parser.error(f"SIZE is a multiple of {len(PIECE)}")
    with connect(options.port, options.tls) as sock:

        def transfer() -> float:
            begin = time.perf_counter()
            if options.kind == "download":
                download(sock, options.path, options.size)
            else:
                upload(sock, options.path, options.size, options.kind == "chunked")
            return time.perf_counter() - begin

        transfer()
        print("ready", flush=True)
        while sys.stdin.readline():
            print(json.dumps({"messages": 1, "seconds": transfer()}), flush=True)


if __name__ == "__main__":
    main()
