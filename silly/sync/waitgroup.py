"""Waits for a number of tasks.

    def fetch(page):
        time.sleep(10)
        print("page", page)                 # -> page 1

    wg = waitgroup.new()
    wg.fork(fetch, 1)
    wg.wait()

An exception of a task is logged and ends that task alone; ``wait`` returns when the
others are done too. ``task.group`` is stricter: there the first exception ends all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .._core import cancelling, joining, scheduler  # noqa: F401 - Task.cancel and Task.join need these two
from .._core.callers import check_timeout
from .._core.result import OK, Result
from .._core.tasks import Task
from .._core.waiting import Waiters

__all__ = ["WaitGroup", "new"]

ERRORS = 1000
"""The most exceptions that a group keeps."""

P = ParamSpec("P")
T = TypeVar("T")

_loop = scheduler.loop
_WAIT = "waitgroup.wait"


class _Members:
    """The tasks of a group: how many there are, and what waits for them."""

    __slots__ = ("count", "errors", "waiters")
    awaits = False

    def __init__(self) -> None:
        self.count = 0
        self.errors: list[BaseException] = []
        self.waiters: Waiters[None] = Waiters()

    def ended(self, task: Task) -> None:
        """A task of the group has ended."""
        if task._failure is not None and len(self.errors) < ERRORS:
            self.errors.append(task._failure.exc)
        self.count -= 1
        self.missed()

    def missed(self) -> None:
        """Wakes the tasks that wait, if no task of the group is left."""
        if not self.count:
            self.waiters.wake_all()


class WaitGroup:
    """Tasks that can be waited for; see the module."""

    __slots__ = ("__weakref__", "_members")

    def __init__(self) -> None:
        self._members = _Members()

    @property
    def count(self) -> int:
        """How many tasks of the group have not ended."""
        return self._members.count

    @property
    def errors(self) -> list[BaseException]:
        """The exceptions that ended tasks of the group, the first of them first; at
        most 1,000. ``wg.errors.clear()`` forgets them."""
        return self._members.errors

    def fork(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Starts ``func(*args, **kwargs)`` as a task of the group, after the tasks that
        are ready now, and returns the task. Never waits.

            def greet(name):
                print("hello", name)        # -> hello world

            wg.fork(greet, "world")
            wg.wait()                       # -> (True, None)

        The exception of a task is logged at its end, unless another task joins it, and
        kept in ``errors``. A task that is cancelled is no error.

        Raises TypeError if ``func`` can't be called, and RuntimeError in a thread that
        is not the loop's.
        """
        if not callable(func):
            raise TypeError(f"wg.fork needs a function, not {type(func).__name__}")
        frame = sys._getframe(1)
        members = self._members
        task = scheduler.fork(func, args, kwargs or None, frame.f_code, frame.f_lasti)
        if not task.done:  # else the process is ending, and it was not started
            task._keeper = members
            members.count += 1
        return task

    def wait(self, timeout: float | None = None) -> Result:
        """Waits until all tasks of the group have ended, those that are forked
        meanwhile too. Any number of tasks may wait.

            ok, err = wg.wait(100)          # -> (True, None)

        Returns ``(True, None)``, also if tasks have failed: see ``errors``. Returns
        ``(False, "waitgroup.wait: the time-out of 100 ms ran out")`` after ``timeout``
        ms, or a like text when a ``time.deadline`` runs out; the tasks go on.

        Raises ValueError for a time that is negative or longer than 100 years, and
        RuntimeError in a task of the group itself, which would wait for itself.
        """
        if _loop.no_switch:
            scheduler.refuse(_WAIT)
        if timeout is not None:
            check_timeout(_WAIT, timeout)
        members = self._members
        if scheduler.current()._keeper is members:
            raise RuntimeError("waitgroup.wait: a task of the group would wait for its own end")
        if not members.count:
            return OK
        return members.waiters.wait_result(_WAIT, None, members.missed, timeout)


def new() -> WaitGroup:
    """Returns a new group.

        wg = waitgroup.new()

    It has no tasks.
    """
    return WaitGroup()
