"""Child processes for tests, waited for without stopping the loop of the test's own process."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from types import TracebackType
from typing import Any

from silly import task
from silly._core import scheduler, worker
from silly.time import after, cancel

_OF_SERVERS = r"INFO https?: \S+ (goes on for|drains|has drained|drained for)"
LISTENING = re.compile(
    rf"^\S+ \S+ (INFO listening on|INFO the process goes on for|{_OF_SERVERS})\b.*\n", re.MULTILINE
)
"""The lines of listeners, of servers that drain, and of a notice, on stderr."""
LIMIT = 30_000
"""Milliseconds that any wait for a child may take."""


def in_thread(func: Callable[..., Any], *args: Any) -> Any:
    """``func(*args)`` in a worker thread: blocks the calling task only."""
    me = task.running()
    worker.files.submit(scheduler.loop, func, args, lambda result, exc: task.wakeup(me, (result, exc)))
    result, exc = task.wait()
    if exc is not None:
        raise exc
    return result


class Pipe:
    """A pipe that nobody reads before ``until``. It is full from the start, unless ``fill`` is false."""

    def __init__(self, fill: bool = True) -> None:
        self.reads, self.writes = os.pipe()
        self._filling = 0
        poll = select.poll()
        poll.register(self.writes, select.POLLOUT)
        while fill and poll.poll(0):
            self._filling += os.write(self.writes, b"x" * select.PIPE_BUF)
        self._got = b""

    def until(self, end: bytes) -> str:
        """Reads up to ``end``, and returns what came after what the pipe was filled with. Blocks the thread."""
        poll = select.poll()
        poll.register(self.reads, select.POLLIN)
        while end not in self._got[self._filling :]:
            if not poll.poll(LIMIT):
                raise AssertionError(f"{end!r} doesn't come: {self._got[self._filling :]!r}")
            self._got += os.read(self.reads, 1 << 20)
        return self.take().decode()

    def take(self) -> bytes:
        """What was read, but not returned yet."""
        got = self._got[self._filling :]
        self._got, self._filling = b"", 0
        return got

    def free(self) -> None:
        """Reads what there is."""
        self._got += os.read(self.reads, 1 << 20)
        self.take()

    def close(self) -> None:
        for fd in (self.reads, self.writes):
            if fd >= 0:
                os.close(fd)


class Child:
    """A running Python child. A context manager that ends it."""

    def __init__(self, *args: str, env: dict[str, str] | None = None, stderr: int | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors if stderr is None else stderr,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def _bounded(self, func: Callable[..., Any], *args: Any) -> Any:
        killer = after(LIMIT, self.process.kill)
        try:
            return in_thread(func, *args)
        finally:
            cancel(killer)

    def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        line = self._bounded(self.process.stdout.readline)
        assert line, f"the child ended:\n{self.errors()}"
        return str(line).rstrip("\n")

    def wait(self) -> int:
        """Waits for its end; its exit status. What it wrote meanwhile is dropped."""
        assert self.process.stdout is not None
        self._bounded(self.process.stdout.read)
        return int(self._bounded(self.process.wait))

    def errors(self) -> str:
        """What it wrote to stderr, unless that was given; without what its listeners and servers say about themselves."""
        return LISTENING.sub("", self.said())

    def said(self) -> str:
        """All that it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._errors.close()
