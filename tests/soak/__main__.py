"""Slow readers at their real pace, with the real programs and the default limits. `make soak`; takes 13 minutes, mostly idle.

curl reads from our server at 5 to 60 KB/s: directly, over TLS, through nginx (unbuffered, over a Unix socket) and through
HAProxy; what is sent at once, and files. Each body must arrive whole, and a reader of 5 KB/s must still be served at the end.
Meanwhile attackers read 100 and 200 bytes a second: they must be cut off. All run at once; `make soak ARGS="TLS 200"` runs
those whose names have all these words. Exits with 1 if anything failed, and with 2 without the programs: nothing is shown
then.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.proxies.support import haproxy, missing, nginx, program
from tests.soak.bodies import body

SIZES = {10: 8_000_000, 30: 22_000_000, 60: 30_000_000}
"""Bytes of a body for a rate in KiB/s: the kernel's buffers are full for long, and all ends within 13 minutes."""
FOREVER = 30_000_000
PATIENCE = 600
"""Seconds that a reader of 5 KB/s reads of a body that would take it longer."""
CUT = 400
"""Seconds within which an attacker must be cut off: ``write_timeout``, and ten times that for what it took first."""
ESTABLISHED = 1

NGINX = """
    proxy_read_timeout 1h;
    send_timeout 1h;
    server {
        listen 127.0.0.1:PORT;
        location / { proxy_pass http://unix:FOLDER/back; proxy_http_version 1.1; proxy_buffering off; }
    }
    server { listen unix:FOLDER/up; }
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen slow
    bind 127.0.0.1:PORT
    bind unix@FOLDER/up
    server back 127.0.0.1:BACK
"""


class Outcome(NamedTuple):
    front: str
    kind: str
    pace: str
    size: int
    got: str
    good: bool


def free_port() -> int:
    """A port that nobody uses, below those that the system gives away."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)):
                return port


def curl(folder: Path, url: str, rate: int, seconds: int) -> tuple[int, str, Path]:
    """Reads ``url`` at ``rate`` KiB/s. Returns curl's status, what it says, and the file with the body."""
    descriptor, name = tempfile.mkstemp(dir=folder)
    os.close(descriptor)
    argv = ["curl", "-sSk", "--limit-rate", f"{rate}k", "--max-time", str(seconds), "-o", name, "-w", "%{time_total} s", url]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    return done.returncode, " ".join([done.stdout, done.stderr.strip()]), Path(name)


def reads_all(folder: Path, front: str, base: str, kind: str, rate: int) -> Outcome:
    size = SIZES[rate]
    status, said, file = curl(folder, f"{base}/{kind}/{size}", rate, 3 * size // (rate * 1024))
    same = hashlib.file_digest(file.open("rb"), "sha256").digest() == digest(folder, size)
    got = f"{file.stat().st_size:,} of {size:,}, {said}"
    return Outcome(front, kind, f"{rate} KiB/s", size, got, status == 0 and same)


def reads_on(folder: Path, front: str, base: str, kind: str) -> Outcome:
    """28 is curl's status for the end of its own time."""
    status, said, file = curl(folder, f"{base}/{kind}/{FOREVER}", 5, PATIENCE)
    got = f"{file.stat().st_size:,}, {said}"
    return Outcome(front, kind, "5 KiB/s", FOREVER, got, status == 28 and file.stat().st_size > 2_000_000)


def attacks(folder: Path, front: str, port: int, kind: str, rate: int, buffer: int) -> Outcome:
    """Reads ``rate`` bytes each second, over TLS too: below OpenSSL. ``buffer``: of its kernel, 0 for the default."""
    with socket.socket() as sock:
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(("127.0.0.1", port))
        request = f"GET /{kind}/{FOREVER} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        if front == "TLS":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(4096))
            tls.write(request)
            request = outgoing.read()
        sock.sendall(request)
        begin = time.monotonic()
        got = 0
        cut = False
        while not cut and time.monotonic() - begin < CUT:
            time.sleep(1)
            try:
                got += len(sock.recv(rate))
            except ConnectionError:
                cut = True
            # What had arrived can be read after a reset.
            cut = cut or struct.unpack_from("B", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128))[0] != ESTABLISHED
        took = time.monotonic() - begin
    how = f"cut off after {took:.0f} s" if cut else "not cut off"
    return Outcome(front, kind, f"{rate} B/s{'' if buffer else ', large buffer'}", FOREVER, f"{got:,}, {how}", cut)


def digest(folder: Path, size: int) -> bytes:
    with (folder / str(size)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def main() -> int:
    absent = [missing(name) for name in ("nginx", "haproxy") if missing(name)]
    if program("curl") is None:
        absent.append("NO CURL (Debian: apt install --no-install-recommends curl)")
    if absent or sys.platform != "linux":
        print("SOAK SKIPPED, nothing was shown:", *absent or ["it needs Linux"], sep="\n", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    jobs: list[tuple[Callable[..., Outcome], tuple[Any, ...]]] = []
    with ExitStack() as stack:
        nginx_port, haproxy_port = free_port(), free_port()
        proxy = stack.enter_context(nginx(NGINX.replace("PORT", str(nginx_port)), ["up"]))
        folder = proxy.folder
        for size in {*SIZES.values(), FOREVER}:
            (folder / str(size)).write_bytes(body(size))
        server = subprocess.Popen([sys.executable, "-m", "tests.soak.server", folder], stdout=subprocess.PIPE, text=True)
        stack.callback(server.wait)
        stack.callback(server.terminate)
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        text = HAPROXY.replace("PORT", str(haproxy_port)).replace("BACK", str(ports["plain"]))
        stack.enter_context(haproxy(text, ["up"]))
        fronts = {
            "direct": f"http://127.0.0.1:{ports['plain']}",
            "TLS": f"https://127.0.0.1:{ports['tls']}",
            "nginx": f"http://127.0.0.1:{nginx_port}",
            "HAProxy": f"http://127.0.0.1:{haproxy_port}",
        }
        for kind in ("bytes", "file"):
            for front, base in fronts.items():
                jobs += [(reads_all, (folder, front, base, kind, rate)) for rate in SIZES]
            for front in ("direct", "TLS"):
                jobs.append((reads_on, (folder, front, fronts[front], kind)))
                port = ports["tls" if front == "TLS" else "plain"]
                jobs += [(attacks, (folder, front, port, kind, rate, 4096)) for rate in (100, 200)]
                jobs.append((attacks, (folder, front, port, kind, 200, 0)))

        def named(func: Callable[..., Outcome], args: tuple[Any, ...]) -> bool:
            text = " ".join([func.__name__, *map(str, args[1:])])
            return all(word in text for word in sys.argv[1:])

        jobs = [job for job in jobs if named(*job)]

        def run(func: Callable[..., Outcome], args: tuple[Any, ...]) -> None:
            outcome = func(*args)
            outcomes.append(outcome)
            how = "ok    " if outcome.good else "FAILED"
            print("  ".join([f"{part:22}" for part in outcome[:3]]), how, outcome.got, flush=True)

        threads = [threading.Thread(target=run, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    failed = len(jobs) - sum(outcome.good for outcome in outcomes)
    print(f"{len(jobs)} readers, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
