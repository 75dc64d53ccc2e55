"""Child processes for tests, waited for without stopping the loop of the test's own process."""

from __future__ import annotations

import os
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

LIMIT = 30_000
"""Milliseconds that any wait for a child may take."""


def in_thread(func: Callable[..., Any], *args: Any) -> Any:
    """``func(*args)`` in a worker thread: blocks the calling task only."""
    me = task.running()
    worker.submit(scheduler.loop, func, args, lambda result, exc: task.wakeup(me, (result, exc)))
    result, exc = task.wait()
    if exc is not None:
        raise exc
    return result


class Child:
    """A running Python child. A context manager that ends it."""

    def __init__(self, *args: str, env: dict[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
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
        """What it wrote to stderr."""
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
