"""Server processes: where they run, what CPU time they have used, how much memory they hold. Linux only: it reads /proc."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent.parent
"""The directory of the benchmarks."""
BUILD = HERE / "build"
"""What can be made again: the compiled load, Node's packages, results of quick runs. Not in git."""

LISTENING = "0A"
"""A state in /proc/net/tcp."""
SERVER, LOAD = 0, 1
"""Which processor is whose, where there are two."""


def silly(script: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a script of ours; with ``-P``, so that the installed package is measured, wherever this is run."""
    return (sys.executable, "-P", "-m", "silly", str(HERE / script), *arguments)


def pin(pid: int, number: int) -> None:
    """Keeps a process on one of the processors that we may use."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, {processors[number % len(processors)]})


def free_port() -> str:
    """A port of 127.0.0.1 that nobody uses. Not one of those that the system gives away: it may be gone in a moment."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return str(port)


def raise_open_files() -> int:
    """Lets this process, and those that it starts, open as many files as the system allows: how many that is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, for ``time.clock_gettime``: user and system time of all its threads, in ns."""
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise OSError(error, os.strerror(error))
    return clock.value


class ServerError(Exception):
    """A server that ended, or does not listen; with what it wrote to stderr."""


class Server:
    """A server process, on a processor to itself where there are two. ``{port}`` in its command becomes a free port.

    A context manager that waits until the server listens, and kills it at the end.
    """

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the server ends
        self.process = subprocess.Popen(
            [part.replace("{port}", self.port) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, **(env or {})},
        )
        self._proc = Path(f"/proc/{self.process.pid}")
        try:
            pin(self.process.pid, SERVER)
            self._clock = cpu_clock(self.process.pid)
            self._wait()
        except BaseException:
            self._end()
            raise

    def _wait(self) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise ServerError(f"the server ended with status {self.process.returncode}: {self.errors()}")
            if self._listens():
                return
            time.sleep(0.02)
        raise ServerError(f"the server does not listen on port {self.port}: {self.errors()}")

    def _listens(self) -> bool:
        """Whether it is this process that listens on the port."""
        try:
            ours = {os.readlink(file) for file in (self._proc / "fd").iterdir()}
        except OSError:
            return False  # it has closed a file, or ended, meanwhile
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].partition(":")[2], 16) == int(self.port):
                return f"socket:[{fields[9]}]" in ours
        return False

    def errors(self) -> str:
        """The end of what it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-1000:]

    def cpu_seconds(self) -> float:
        """User and system time that it has used."""
        return time.clock_gettime(self._clock)

    def memory(self, what: str) -> int:
        """A line of the process's status, in KiB: VmRSS or VmHWM, its peak since ``reset``."""
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(what))

    def reset(self) -> None:
        """Forgets the peak of its memory."""
        (self._proc / "clear_refs").write_text("5")

    def open_files(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(self._proc / "fd"))

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._errors.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._end()
