"""What our servers cost: CPU microseconds of the server process for each message. `make bench` runs this.

Machines are noisy: compare the figures of one run, and look at their spread. The figure is user and system time of the server,
not wall time; the load runs in a process of its own, and both are kept apart where there are two processors.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOADS = [
    # name, server, mode, connections, bytes, in flight
    ("WebSocket echo, 1 connection", "ws_echo.py", "ws", 1, 64, 1),
    ("WebSocket echo, 64 connections", "ws_echo.py", "ws", 64, 64, 1),
    ("WebSocket echo, 64 connections, 16 in flight", "ws_echo.py", "ws", 64, 64, 16),
    ("WebSocket echo, 64 KiB", "ws_echo.py", "ws", 8, 65535, 1),
    ("HTTP hello, 64 connections", "http_hello.py", "http", 64, 0, 1),
    ("TCP line echo, 64 connections", "tcp_echo.py", "tcp", 64, 64, 1),
    ("TCP line echo, 64 connections, 16 in flight", "tcp_echo.py", "tcp", 64, 64, 16),
]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pin(pid: int, number: int) -> None:
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, {processors[number % len(processors)]})


def measure(server: str, mode: str, connections: int, size: int, depth: int, seconds: float) -> float:
    """CPU microseconds of the server a message."""
    port = free_port()
    command = [sys.executable, "-m", "silly", str(HERE / server), f"--port={port}"]
    with subprocess.Popen(command) as process:
        try:
            pin(process.pid, 0)
            wait_for(port)
            before = cpu_seconds(process.pid)
            load = [sys.executable, str(HERE / "load.py"), mode, "127.0.0.1", port]
            load += [str(connections), str(size), str(seconds), str(depth)]
            with subprocess.Popen(load, stdout=subprocess.PIPE, text=True) as loader:
                pin(loader.pid, 1)
                answered, _ = loader.communicate()
            if loader.returncode or not int(answered):
                raise SystemExit(f"{server}: the load failed")
            return (cpu_seconds(process.pid) - before) / int(answered) * 1e6
        finally:
            process.terminate()


def free_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def wait_for(port: str) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", int(port)), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    print(f"{'CPU us a message, the median of ' + str(options.runs) + ' runs':52} median   least - most")
    for name, server, mode, connections, size, depth in LOADS:
        figures = [measure(server, mode, connections, size, depth, options.seconds) for _ in range(options.runs)]
        print(f"{name:52} {statistics.median(figures):6.2f}   {min(figures):.2f} - {max(figures):.2f}", flush=True)


if __name__ == "__main__":
    main()
