"""What large HTTP transfers cost: server CPU seconds a GiB, and MB a second. `python benchmarks/transfers.py`

One connection takes or gives SIZE bytes, `--runs` times in turn with the others; medians. Over plain TCP and over TLS. Beside
ours (`http_transfers.py`), uvicorn with httptools and uvloop, if `--peer` names a Python that has them: its uploads are read
message by message, its downloads sent in pieces of 64 KiB or at once. The server has a processor to itself, where there are
two. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.certificate import make_certificate
from harness.processes import LOAD, Server, pin, silly

SIZE = 100 * 1024 * 1024
GIB = 2**30
PEER = """
import sys, uvicorn
PIECE, LARGE = bytes(65536), bytes(100 * 2**20)
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path, query = scope["path"], scope["query_string"]
    async def begin(size):
        head = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
    if path in ("/pieces", "/readall"):
        size, more, body = 0, True, []
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
            if path == "/readall":
                body.append(message["body"])
        body = b"".join(body)
        answer = b"%d" % size
        await begin(len(answer))
        await send({"type": "http.response.body", "body": answer})
        return
    size = int(query.partition(b"=")[2])
    await begin(size)
    if path == "/bytes":
        await send({"type": "http.response.body", "body": LARGE[:size]})
        return
    for _ in range(size // 65536):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
cert = {"ssl_certfile": sys.argv[2], "ssl_keyfile": sys.argv[3]} if len(sys.argv) > 2 else {}
quiet = {"log_level": "error", "access_log": False}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", **quiet, **cert)
"""
TRANSFERS = {
    "upload, pieces": "/pieces",
    "upload, chunked, pieces": "/pieces",
    "upload, readall": "/readall",
    "upload, chunked, readall": "/readall",
    "download, write in pieces": f"/write?size={SIZE}",
    "download, closewrite of bytes": f"/bytes?size={SIZE}",
    "download, sendfile": "/file",
}
PIECE = bytes(256 * 1024)


def connect(port: str, secure: bool) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", int(port)), 60)
    if not secure:
        return sock
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


def upload(sock: socket.socket, path: str, chunked: bool) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {SIZE}"
    sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
    piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    for _ in range(SIZE // len(PIECE)):
        sock.sendall(piece)
    if chunked:
        sock.sendall(b"0\r\n\r\n")
    answer = b""
    while not answer.endswith(str(SIZE).encode()):
        data = sock.recv(65536)
        if not data:
            raise SystemExit(f"the upload failed: {answer!r}")
        answer += data


def download(sock: socket.socket, path: str) -> None:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(65536)
    if b" 200 " not in head[:20]:
        raise SystemExit(f"the download failed: {head!r}")
    buffer = bytearray(1024 * 1024)
    left = SIZE - len(head.partition(b"\r\n\r\n")[2])
    while left:
        size = sock.recv_into(buffer)
        if not size:
            raise SystemExit("the download broke off")
        left -= size


def client(name: str, port: str, secure: bool) -> None:
    """The client's process: one transfer to warm up, then one between two lines of output, on request."""
    path = TRANSFERS[name]
    with connect(port, secure) as sock:
        for _ in range(2):
            if name.startswith("upload"):
                upload(sock, path, "chunked" in name)
            else:
                download(sock, path)
            print("done", flush=True)
            sys.stdin.readline()


def measure(command: list[str], name: str, secure: bool) -> tuple[float, float]:
    """CPU seconds a GiB, and MB a second."""
    with Server(command) as server:
        args = [sys.executable, __file__, "--client", name, server.port, str(int(secure))]
        with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            pin(process.pid, LOAD)
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != "done\n":
                raise SystemExit(f"{name}: the client failed")
            cpu, begin = server.cpu_seconds(), time.monotonic()
            process.stdin.write("go\n")
            process.stdin.flush()
            process.stdout.readline()
            seconds = time.monotonic() - begin
            cpu = server.cpu_seconds() - cpu
            process.communicate()
            return cpu / SIZE * GIB, SIZE / seconds / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer", help="a Python that has uvicorn, httptools and uvloop")
    parser.add_argument("names", nargs="*", help="transfers that contain one of these")
    options = parser.parse_args()
    if options.client:
        name, port, secure = options.client
        client(name, port, secure == "1")
        return
    print(f"{'transfer of 100 MiB (' + str(options.runs) + ' runs, median)':46} {'server':8} {'CPU s/GiB':>10} {'MB/s':>8}")
    with tempfile.TemporaryDirectory() as directory:
        cert, key = make_certificate(Path(directory))
        file = Path(directory) / "file"
        file.write_bytes(bytes(SIZE))
        ours = [*silly("http_transfers.py", "--port={port}", f"--file={file}")]
        servers = {"silly": (ours, [f"--cert={cert}", f"--key={key}"])}
        if options.peer:
            servers["uvicorn"] = ([options.peer, "-c", PEER, "{port}"], [cert, key])
        for secure in (False, True):
            for name in TRANSFERS:
                if options.names and not any(part in name for part in options.names):
                    continue
                figures: dict[str, list[tuple[float, float]]] = {}
                for _ in range(options.runs):
                    for server, (command, tls) in servers.items():
                        if server == "silly" or "sendfile" not in name:
                            figures.setdefault(server, []).append(measure(command + tls * secure, name, secure))
                for server, runs in figures.items():
                    cpu, rate = (statistics.median(run[i] for run in runs) for i in (0, 1))
                    print(f"{name + (', TLS' if secure else ''):46} {server:8} {cpu:10.2f} {rate:8.0f}", flush=True)


if __name__ == "__main__":
    main()
