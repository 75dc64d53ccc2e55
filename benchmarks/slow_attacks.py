"""What slow and many clients cost an HTTP server, and its other clients. `python benchmarks/slow_attacks.py`

Each attack goes from a process of its own to a fresh server (`http_transfers.py`), while an honest client asks for `/hello`,
on a kept connection and on new ones by turns. Printed are the growth of the server's memory at its peak, in all and for each
connection of the attackers; its CPU time in each second of the attack, honest requests included; what the honest client
waited; how the attackers' connections ended, and when half of them were gone from the server. The row `none` is the honest
client alone. Time-outs are short (LIMITS), so that a run takes a minute and a half; the other limits are the defaults.
Attackers do not come again. The server has a processor to itself, where there are two; the attackers are nice to the honest
client, with whom they share the other. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from harness.processes import LOAD, Server, pin, raise_open_files, silly

LIMITS = {"head_timeout": 2000, "body_timeout": 1000, "idle_timeout": 2000, "write_timeout": 2000, "linger": 1000}
SECONDS = 6.0
HEAD = b"GET /hello HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /pieces HTTP/1.1\r\nHost: x\r\n"
MIB = 1024 * 1024
INTERVAL = 0.2
"""Seconds between two bytes of a slow sender."""


@dataclass
class Attack:
    """``count`` connections, each of which sends ``first`` and then ``drip`` every INTERVAL. ``reads``: whether it takes what
    the server sends."""

    name: str
    count: int
    first: bytes
    drip: bytes = b""
    reads: bool = True


ATTACKS = [
    Attack("none", 0, b""),
    Attack("slow heads", 1000, HEAD + b"X: ", b"x"),
    Attack("slow bodies, by length", 1000, POST + b"Content-Length: 1000000\r\n\r\n", b"x"),
    Attack("slow bodies, chunked", 1000, POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    Attack("bodies that never come", 1000, POST + b"Content-Length: 1000000\r\n\r\n"),
    Attack("slow readers of 8 MiB", 200, b"GET /fresh?size=%d HTTP/1.1\r\nHost: x\r\n\r\n" % (8 * MIB), reads=False),
    Attack("idle connections", 5000, b""),
    Attack("idle after a request", 5000, HEAD + b"\r\n"),
    Attack("10,000 pipelined requests", 1, (HEAD + b"\r\n") * 9999 + HEAD + b"Connection: close\r\n\r\n"),
    Attack("10,000 pipelined, answers unread", 1, b"GET /bytes?size=100000 HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000, reads=False),
    Attack("1 MiB in 1-byte chunks", 1, POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * MIB + b"0\r\n\r\n"),
]


class Client:
    """One connection of the attackers."""

    def __init__(self, port: str, attack: Attack) -> None:
        self.sock = socket.socket()
        if not attack.reads:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", int(port)))
        self.sock.setblocking(False)
        self.unsent = memoryview(attack.first)
        self.ending = ""
        self.got = b""

    def send(self) -> None:
        try:
            while self.unsent and not self.ending:
                self.unsent = self.unsent[self.sock.send(self.unsent[:65536]) :]
        except BlockingIOError:
            pass
        except OSError as exc:
            self.end(exc.strerror)

    def drip(self, data: bytes) -> None:
        self.unsent = memoryview(bytes(self.unsent) + data)
        self.send()

    def receive(self) -> None:
        """Keeps the first bytes, which are a status."""
        try:
            while not self.ending:
                data = self.sock.recv(65536)
                self.got = self.got or data[:12]
                if not data:
                    self.end("end")
        except BlockingIOError:
            pass
        except OSError as exc:
            self.end(exc.strerror)

    def end(self, how: str) -> None:
        self.ending = " ".join([self.got[9:].decode(), how]).strip()


def run_attack(attack: Attack, port: str) -> None:
    """The attackers' process: prints how many connections ended in what way."""
    os.nice(10)
    raise_open_files()
    clients: list[Client] = []
    end = time.monotonic() + SECONDS
    try:
        for _ in range(attack.count):
            clients.append(Client(port, attack))
            clients[-1].send()
    except OSError as exc:
        print(f"only {len(clients)} connections: {exc.strerror}", file=sys.stderr)
    poll = select.epoll()
    by_fd = {client.sock.fileno(): client for client in clients}
    for fd, client in by_fd.items():
        poll.register(fd, select.EPOLLIN * attack.reads | select.EPOLLOUT * bool(client.unsent))
    step = max(1, int(len(clients) * 0.01 / INTERVAL))
    at = 0
    while time.monotonic() < end:
        for fd, mask in poll.poll(0.01):
            client = by_fd[fd]
            if mask & select.EPOLLOUT:
                client.send()
            if mask & ~select.EPOLLOUT and attack.reads:
                client.receive()
            if client.ending or not attack.reads:
                poll.unregister(fd)
            elif not client.unsent:
                poll.modify(fd, select.EPOLLIN)
        if attack.drip and clients:
            for client in clients[at : at + step]:
                client.drip(attack.drip)
            at = at + step if at + step < len(clients) else 0
    end = time.monotonic() + 3
    while time.monotonic() < end and not all(client.ending for client in clients):
        for client in clients:
            client.receive()  # what the kernel still holds of a connection that was cut off
    print(json.dumps(collections.Counter(client.ending or "open" for client in clients)))


def ask(sock: socket.socket) -> None:
    sock.sendall(HEAD + b"\r\n")
    got = b""
    while not got.endswith(b"Silly!"):
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("the server closed an honest connection")
        got += data


def run_honest(port: str) -> None:
    """The honest client's process: prints how long each request took, in ms."""
    kept = socket.create_connection(("127.0.0.1", int(port)), 30)
    end = time.monotonic() + SECONDS
    took = []
    while time.monotonic() < end:
        for new in (False, True):
            begin = time.perf_counter()
            if new:
                with socket.create_connection(("127.0.0.1", int(port)), 30) as sock:
                    ask(sock)
            else:
                ask(kept)
            took.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.005)
    print(json.dumps(took))


def child(*args: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, __file__, *args], stdout=subprocess.PIPE, text=True)
    pin(process.pid, LOAD)
    return process


def measure(attack: Attack) -> str:
    limits = " ".join([f"{name}={value}" for name, value in LIMITS.items()])
    with Server(silly("http_transfers.py", "--port={port}", f"--limits={limits}")) as server:
        honest = child("--honest", server.port)
        time.sleep(0.5)
        server.reset()
        memory, cpu, files = server.memory("VmRSS"), server.cpu_seconds(), server.open_files()
        begin = time.monotonic()
        attackers = child("--attack", attack.name, server.port)
        most, gone = 0, 0.0
        while attackers.poll() is None:
            count = server.open_files() - files
            if count >= most:
                most, gone = count, 0.0
            elif count <= most / 2 and not gone:
                gone = time.monotonic() - begin
            time.sleep(0.05)
        seconds = time.monotonic() - begin
        growth, cpu = server.memory("VmHWM") - memory, (server.cpu_seconds() - cpu) * 1000 / seconds
        endings = json.loads(attackers.communicate()[0])
        took = json.loads(honest.communicate()[0])
    p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
    outcome = ", ".join([f"{count} {how}" for how, count in sorted(endings.items())])
    if gone and attack.count:
        outcome += f"; half gone after {gone:.1f} s"
    each = growth / attack.count if attack.count else 0
    return f"{attack.name:34} {growth:10,} {each:9.1f} {cpu:9.1f} {p50:8.2f} {p99:8.2f}  {outcome}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--honest", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="attacks that contain one of these")
    options = parser.parse_args()
    if options.attack:
        run_attack(next(attack for attack in ATTACKS if attack.name == options.attack[0]), options.attack[1])
    elif options.honest:
        run_honest(options.honest)
    else:
        most = raise_open_files() - 100
        print(f"{'attack':34} {'growth KiB':>10} {'each KiB':>9} {'CPU ms/s':>9} {'p50 ms':>8} {'p99 ms':>8}  outcome")
        for attack in ATTACKS:
            if most < attack.count:
                print(f"{attack.name}: {attack.count} connections need more descriptors than the {most + 100} allowed here")
                continue
            if not options.names or any(part in attack.name for part in options.names):
                print(measure(attack), flush=True)


if __name__ == "__main__":
    main()
