"""How a child ends: the inner half of ``silly.process``, which the loop refers to.

Only the loop's thread reaps a child, when its pidfd says that it has ended (or, where
there is none, a thread). So a signal never strikes another process that has got its
number. No handler of SIGCHLD is set, and other people's children are left alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

from ._core import scheduler
from ._core.deadline import Timeout, earliest_over
from ._core.loop import READ, QuietHandler
from ._core.result import Result
from ._core.waiting import DeadlineOver, Leaving, Waiters
from ._log import task as logger

KILLED = 1000
"""Milliseconds that the end of ``with child`` waits for a killed child: one that hangs
in the kernel ends later, or never."""
POLL = 0.05
"""Seconds between two looks at a child where the system offers nothing better (macOS
before Python 3.13)."""

UNKNOWN = 255
"""The status if the system doesn't say how it ended. It must not look like success."""

_loop = scheduler.loop


class ChildProcess(QuietHandler):
    """The inner half of a ``Process``, which the loop refers to."""

    __slots__ = ("_told", "fd", "held", "name", "pid", "status", "waiters", "watched")

    def __init__(self, pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self.status: int | None = None
        """The exit status, once it was reaped."""
        self.waiters: Waiters[None] = Waiters()
        self.held = False
        """Whether a ``with`` block will kill it."""
        self._told = False
        """Whether the log says that it is left running."""
        self.watched: int | None = None
        """For the loop: see ``Watched`` there."""
        self.fd = -1
        """The pidfd, or -1: then a thread waits."""

    def watch_end(self) -> None:
        """Makes the loop reap it when it has ended. Raises OSError or RuntimeError if
        the system refuses what that needs."""
        try:
            self.fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # another system, or a sandbox
            threading.Thread(target=self._await, name=f"silly-process-{self.pid}", daemon=True).start()
        else:
            try:
                _loop.register(self.fd, READ, self._on_event)
            except OSError:
                os.close(self.fd)
                raise
        _loop.handlers.add(self)

    def _await(self) -> None:
        """The thread. It doesn't reap the child: until that is done, no other can have
        its number."""
        while not hasattr(os, "waitid") and self.status is None and not scheduler.over():
            time.sleep(POLL)
            _loop.post(self.look)
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except (AttributeError, ChildProcessError):
            pass  # there was no need to, or somebody else has reaped it
        _loop.post(self.look)

    def _on_event(self, mask: int) -> None:
        self.look()

    def look(self) -> None:
        """Reaps the child if it has ended, and wakes the tasks that wait for that."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.status = UNKNOWN
                logger.warn(f"process: {self.name}: its exit status is lost: SIGCHLD is ignored, or other code has reaped it")
            else:
                if not pid:
                    return
                self.status = os.waitstatus_to_exitcode(status)
            self._forget()
            self.waiters.wake_all()

    def _forget(self) -> None:
        """The loop has no more to do with it."""
        _loop.forget(self)
        if self.fd >= 0:
            _loop.unregister(self.fd)
            os.close(self.fd)
            self.fd = -1

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended. Raises OSError."""
        self.look()
        if self.status is None:
            with suppress(ProcessLookupError):  # it has ended just now, and SIGCHLD is ignored
                os.kill(self.pid, number)

    def await_killed(self) -> None:
        """Waits until the killed child is reaped, but not for long. The deadlines of
        the task don't matter: they strike again where it waits next."""
        try:
            task = scheduler.current()
        except RuntimeError:
            return  # in a finalizer, or a callback of the loop, which reaps it later
        self._watch()
        try:
            with Timeout(KILLED) as limit:
                while self.status is None and not limit.expired:
                    task._over = None
                    with suppress(DeadlineOver):
                        self.waiters.wait("the end of with child", None, self._missed)
            if self.status is None:
                logger.warn(f"process: {self.name} has not ended {KILLED} ms after SIGKILL")
        except Leaving:
            pass
        finally:
            task._over = earliest_over(task)

    def wait(self, timeout: float | None) -> Result:
        """Waits until it is reaped."""
        self._watch()
        return self.waiters.wait_result("child.wait", None, self._missed, timeout)

    def _missed(self) -> None:
        """Wakes the task if the child was reaped after it had looked: a signal handler
        or a finalizer may call ``kill``."""
        if self.status is not None:
            self.waiters.wake_all()

    def _watch(self) -> None:
        if self.watched is None:
            _loop.watch(self)

    # For the loop: see ``Handler``.

    def wakes(self) -> bool:
        return self.waiters.first is not None

    def close(self) -> None:
        """No task is left. ``abort`` follows."""

    def abort(self) -> None:
        """The process ends. A ``with`` block that nobody has left, in a task that was
        cut off or in a generator, must not leave the child running."""
        if self.held:
            with suppress(OSError):
                self.send_signal(signal.SIGKILL)
        elif not self._told:
            self.look()
            if self.status is None:
                self._told = True
                logger.warn(f"process: {self.name} is left running; a with block would end it")

    def disown(self) -> None:
        """In a child of ``os.fork``: it is the parent's."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __repr__(self) -> str:
        return f"process {self.name}"


def kill_all() -> bool:
    """Kills every child that runs, for ``silly.testing``. Returns whether there was
    one: the loop has yet to learn of its end."""
    running = [handler for handler in list(_loop.handlers) if isinstance(handler, ChildProcess)]
    for child in running:
        child.send_signal(signal.SIGKILL)
    return bool(running)
