"""Server processes: where they run, what CPU time they have used, how much memory they hold. Linux only: it reads /proc."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
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


def family(pid: int) -> list[int]:
    """A process and all that it has started, and what these have started, as far as they still run."""
    found = [pid]
    for each in found:
        try:
            threads = list(Path(f"/proc/{each}/task").iterdir())
            found += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it, or a thread of it, has ended meanwhile
    return found


class ServerError(Exception):
    """A server that ended, or does not listen; with what it wrote to stderr."""


class Server:
    """A server, on a processor to itself where there are two. ``{port}`` in its command becomes a free port.

    A context manager that waits until the server listens, and kills it at the end. Some servers start others to do the
    work: their CPU time, memory and files are those of all their processes together.
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
            start_new_session=True,  # so that all its processes can be killed at once
        )
        self._clocks: dict[int, int] = {}
        try:
            pin(self.process.pid, SERVER)  # and with it those that it will start
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
        """Whether it is this server that listens on the port."""
        try:
            ours = {os.readlink(file) for proc in self._procs() for file in (proc / "fd").iterdir()}
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

    def _procs(self) -> list[Path]:
        return [Path(f"/proc/{pid}") for pid in family(self.process.pid)]

    def cpu_seconds(self) -> float:
        """User and system time that its processes have used. Raises ServerError if one has ended since this was called
        before: what it used in between is not known."""
        try:
            for pid in family(self.process.pid):
                if pid not in self._clocks:
                    self._clocks[pid] = cpu_clock(pid)
            return sum(time.clock_gettime(clock) for clock in self._clocks.values())
        except OSError as exc:
            raise ServerError(f"a process of the server has ended meanwhile ({exc}): {self.errors()}") from None

    def memory(self, what: str) -> int:
        """A line of the processes' status, in KiB: VmRSS or VmHWM, its peak since ``reset``."""
        total = 0
        for proc in self._procs():
            lines = (proc / "status").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith(what))
        return total

    def reset(self) -> None:
        """Forgets the peak of its memory."""
        for proc in self._procs():
            (proc / "clear_refs").write_text("5")

    def open_files(self) -> int:
        """How many files and sockets it has open."""
        return sum(len(os.listdir(proc / "fd")) for proc in self._procs())

    def _end(self) -> None:
        with suppress(ProcessLookupError):  # all have ended already
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._errors.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._end()
