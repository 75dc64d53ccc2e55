"""A server program, as a supervisor has it: started, asked for its workers, replaced."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.processes import HERE, SERVER, ServerError, family, free_port, pin, silly

FD, NAME = 3, "web"
"""The first descriptor that systemd passes, and the name of ours."""
PATIENCE = 60.0
"""Seconds within which a server must do what it was asked for."""

# What systemd does for a unit with a socket: the process finds it at descriptor 3, and its own number in LISTEN_PID.
PASS = """
import os, sys
fd = int(sys.argv[1])
if fd != 3:
    os.dup2(fd, 3)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Candidate:
    """``command(port, workers)``; the port is None if the socket is inherited. ``inherits``: whether it can be."""

    name: str
    module: str
    command: Callable[[str | None, int], list[str]]
    websockets: bool = True
    inherits: bool = True


def _python(*args: str) -> list[str]:
    return [sys.executable, "-P", "-m", *args]


def _silly(*options: str) -> Callable[[str | None, int], list[str]]:
    def command(port: str | None, workers: int) -> list[str]:
        python, script = silly("restart_server.py")[:-1], silly("restart_server.py")[-1]
        many = ("--workers", str(workers)) if workers > 1 else ()
        return [*python, *many, *options, script, f"--listen=systemd:{NAME}" if port is None else f"--listen=127.0.0.1:{port}"]

    return command


def _uvicorn(port: str | None, workers: int) -> list[str]:
    where = ["--fd", str(FD)] if port is None else ["--host", "127.0.0.1", "--port", port]
    options = ["--workers", str(workers), "--no-access-log", "--timeout-graceful-shutdown", "10"]
    return _python("uvicorn", *where, *options, "--app-dir", str(HERE / "peers"), "asgi_restart:app")


def _granian(port: str | None, workers: int) -> list[str]:
    where = ["--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--working-dir", str(HERE / "peers")]
    options = ["--workers", str(workers), "--respawn-failed-workers", "--respawn-interval", "0.1"]
    return _python("granian", *where, *options, "asgi_restart:app")


def _gunicorn(port: str | None, workers: int) -> list[str]:
    where = [] if port is None else ["--bind", f"127.0.0.1:{port}"]  # it looks for LISTEN_FDS itself
    options = ["--worker-class", "gevent", "--workers", str(workers), "--chdir", str(HERE / "peers"), "--no-control-socket"]
    return _python("gunicorn", *where, *options, "gevent_restart:app")


OURS = Candidate("silly", "silly", _silly())
SPREAD = Candidate("silly, spread", "silly", _silly("--drain", "3s", "--spread", "2s"))
PEERS = (
    Candidate("uvicorn", "uvicorn", _uvicorn),
    Candidate("granian", "granian", _granian, inherits=False),
    Candidate("gunicorn", "gunicorn", _gunicorn, websockets=False),
)


def installed(candidate: Candidate) -> bool:
    return importlib.util.find_spec(candidate.module) is not None


class Service:
    """A running server. A context manager that starts it, and kills all of it at the end.

    ``begun``: the file in which it writes the numbers of the requests that reach it, and the worker of each; ``log``: for its
    output.
    """

    def __init__(self, candidate: Candidate, directory: Path, workers: int, inherited: bool, pinned: bool) -> None:
        self.candidate = candidate
        self.workers_due = workers
        self.port = free_port()
        self.begun = directory / "begun"
        self.log = directory / "log"
        self.statuses: list[int] = []
        self._pinned = pinned
        self._requests: dict[int, int] = {}
        self._read = 0
        self._socket: socket.socket | None = None
        if inherited:
            self._socket = socket.create_server(("127.0.0.1", int(self.port)), backlog=4096)
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        return self._processes[-1].pid

    def __enter__(self) -> Service:
        try:
            self.start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._kill()

    def start(self) -> None:
        """Starts it, and waits until it answers, with all its workers."""
        fd = None if self._socket is None else self._socket.fileno()
        command = self.candidate.command(self.port if fd is None else None, self.workers_due)
        if fd is not None:
            command = [sys.executable, "-c", PASS, str(fd), *command]
        with self.log.open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "RESTART_BEGUN": str(self.begun)},
                    pass_fds=() if fd is None else (fd,),
                    start_new_session=True,  # so that all its processes can be killed at once
                )
            )
        if self._pinned:
            pin(self.pid, SERVER)  # and with it those that it will start
        self.until(self._answers, "it does not answer")
        self.until(lambda: len(self.workers()) >= self.workers_due, "not all workers are there")

    def _answers(self) -> bool:
        if self._processes[-1].poll() is not None:
            raise ServerError(f"the server ended with status {self._processes[-1].returncode}: {self.tail()}")
        try:
            with socket.create_connection(("127.0.0.1", int(self.port)), 5) as sock:
                sock.sendall(b"GET /fast?id=0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return sock.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def until(self, done: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Waits until ``done()``. Raises ServerError after ``seconds``."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise ServerError(f"{self.candidate.name}: {what} within {seconds:.0f} s: {self.tail()}")
            time.sleep(0.02)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def workers(self) -> set[int]:
        """The processes that serve; of a server without workers, itself."""
        if self.workers_due == 1:
            return {self.pid}
        return {pid for pid in family(self.pid)[1:] if b"resource_tracker" not in _command(pid)}

    def requests(self) -> dict[int, int]:
        """The requests that have reached the program: the worker of each, by their numbers."""
        with self.begun.open() as file:
            file.seek(self._read)
            whole = file.read().rpartition("\n")[0]
        if whole:
            self._read += len(whole) + 1
            self._requests.update([(int(number), int(pid)) for number, pid in map(str.split, whole.splitlines())])
        return self._requests

    def serving(self) -> set[int]:
        """The workers to which requests have come."""
        return self.workers().intersection(self.requests().values())

    def until_replaced(self, old: set[int]) -> None:
        """Waits until none of ``old`` is left, and as many workers are there as should be."""

        def replaced() -> bool:
            now = self.workers()
            return not now & old and len(now) == self.workers_due

        self.until(replaced, "its workers are not replaced")

    def stop(self) -> None:
        """Ends it as a supervisor does, and waits for its end."""
        process = self._processes[-1]
        process.terminate()
        try:
            self.statuses.append(process.wait(PATIENCE))
        except subprocess.TimeoutExpired:
            raise ServerError(f"{self.candidate.name}: SIGTERM has not ended it in {PATIENCE:.0f} s: {self.tail()}") from None

    def _kill(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):  # all have ended already
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._socket is not None:
            self._socket.close()


def _command(pid: int) -> bytes:
    """The command line of a process; nothing, if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
