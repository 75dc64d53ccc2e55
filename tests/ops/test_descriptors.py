"""A process that runs out of descriptors, under the launcher."""

from __future__ import annotations

import os
import resource
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

from .support import PATIENCE, has, running, text_of

SERVES = """\
from silly import logger, signal
from silly.net import tcp

def greet(conn):
    with conn:
        conn.write("hello\\n")
        conn.read(1)

listener, _ = tcp.listen("127.0.0.1:0", greet)
print("port", listener.port, flush=True)
"""


def test_accepting_pauses_and_goes_on_when_descriptors_are_free(tmp_path: Path) -> None:
    """Meanwhile SIGUSR2 shows what is the matter, and SIGUSR1 leaves the log as it is."""
    log = tmp_path / "log"
    (tmp_path / "app.py").write_text(SERVES)
    with running(tmp_path, "--log-path", "log", "app.py") as process, ExitStack() as clients:
        has(log, "listening on", "port ")
        port = int(text_of(log).partition("port ")[2].split()[0])
        fds = f"/proc/{process.pid}/fd"
        most = max(map(int, os.listdir(fds))) + 6  # five connections
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, 1000))

        def connect() -> socket.socket:
            return clients.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))

        conns = [connect() for _ in range(10)]
        has(log, f"ERROR listener 127.0.0.1:{port}: Too many open files: accepting pauses")
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
        has(log, "can't be opened again, so the file from before stays: Too many open files")
        has(log, f"descriptors: {most} of {most}\n", "tasks: ")
        assert conns[0].recv(100) == b"hello\n"
        for conn in conns[:5]:
            conn.close()
        assert [conn.recv(100) for conn in conns[5:]] == [b"hello\n"] * 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
