"""A queue of waiting tasks: what everything that blocks is built on.

The scheduler's ``park`` and ``wake`` leave four rules to their callers; this type holds
them, so that a primitive need not:

* While the process is ending nothing blocks: ``wait`` lets others run once, and raises
  ``Leaving``. A primitive with an error in its result returns ``errno.CLOSED`` for it.
* ``wait`` raises ``DeadlineOver`` when the task's deadline (``time.deadline``) runs out
  or is over already. A primitive with an error in its result returns that.
* Whatever is raised at the wait (these two, GreenletExit, KeyboardInterrupt or any other
  exception), the task has left the queue by then, and nothing wakes it twice.
* What a task was woken with is never lost. A task that was woken, and is interrupted
  before it runs, calls its ``give_back`` with that value, which hands it on: a turn to
  the next in the queue, an item to where it came from.

A semaphore, for example:

    class Semaphore:
        def __init__(self, free):
            self._free = free
            self._waiters = Waiters()

        def acquire(self):
            if self._free:
                self._free -= 1
            else:
                self._waiters.wait("semaphore.acquire", self.release)

        def release(self, _=None):
            if not self._waiters.wake_one():
                self._free += 1

It has no error in its results, so ``acquire`` catches nothing: a deadline raises
TimeoutError, and ``Leaving``, which is a GreenletExit, ends the task quietly. With an
error it would say:

    try:
        self._waiters.wait("semaphore.acquire", self.release)
    except Leaving:
        return failure(errno.CLOSED)
    except scheduler.DeadlineOver:
        return failure(scheduler.ran_out("semaphore.acquire"))

**Memory.** A queue takes 48 bytes, and no container while at most one task waits. An
owner that exists by the thousands and seldom waits (a connection) keeps None in its
place until the first wait.

One thing is out of reach: the exception of a signal handler that runs in the main
program may come at any bytecode, so also where ``wait`` returns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from greenlet import GreenletExit

from . import scheduler
from .scheduler import READY, Task, park

V = TypeVar("V")

_loop = scheduler.loop
_ready = _loop.ready


class Leaving(GreenletExit):
    """Raised by ``Waiters.wait``: the process is ending, so nothing blocks any more."""


class Waiters(Generic[V]):
    """Tasks that wait for one thing, first come, first served. See the module's header.

    ``V`` is the type of what they are woken with.
    """

    __slots__ = ("_more", "first")

    def __init__(self) -> None:
        self.first: Task | None = None
        """The task that ``wake_one`` would wake. Owners may ask whether it is None."""
        self._more: OrderedDict[Task, None] | None = None
        """Those behind it; None or empty where ``first`` is None."""

    def __len__(self) -> int:
        """How many tasks wait."""
        return 0 if self.first is None else 1 + len(self._more or ())

    def wait(self, what: Any, give_back: Callable[[V], object] | None = None) -> V:
        """Blocks the current task until it is woken, and returns what it is woken with.

        ``what`` says on what it waits, for people: a text, or an object whose ``str``
        tells. ``give_back(value)`` is called in the interrupted task when it had been
        woken with ``value`` already; without it the value is dropped.

        Raises ``Leaving`` and ``DeadlineOver`` (see the module's header), whatever
        else is thrown where the task waits, and RuntimeError where there is no task.
        """
        if scheduler.exiting:
            scheduler.pause()
            raise Leaving
        task: Task = _loop.current  # None where there is no task: ``park`` raises then
        if self.first is None:
            self.first = task
        else:
            if self._more is None:
                self._more = OrderedDict()
            self._more[task] = None
        try:
            value: V = park(what)
        except BaseException:
            if not self._remove(task):
                given, task._value = task._value, None
                if give_back is not None:
                    give_back(given)
            raise
        return value

    def wake_one(self, value: Any = None) -> bool:
        """Wakes the task that has waited longest; False when none waits.

        It returns ``value`` from ``wait``, and runs in its turn. Never blocks.
        """
        task = self.first
        if task is None:
            return False
        more = self._more
        self.first = more.popitem(last=False)[0] if more else None
        task._value = value
        task._status = READY
        _ready.append(task)
        return True

    def wake_all(self, value: Any = None) -> None:
        """Wakes every task that waits, in the order in which they came."""
        while self.wake_one(value):
            pass

    def _remove(self, task: Task) -> bool:
        """Takes out a task that was interrupted; False when it had been woken."""
        more = self._more
        if self.first is task:
            self.first = more.popitem(last=False)[0] if more else None
            return True
        if more is not None and task in more:
            del more[task]
            return True
        return False
