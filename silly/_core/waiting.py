"""A queue of waiting tasks: the base of every primitive that blocks.

The scheduler's ``park`` and ``wake`` leave four rules to their callers. This type
implements them, so that a primitive need not:

* When the time of the process's end is over nothing blocks: ``wait`` lets other tasks
  run once, and raises ``Leaving``. It raises that also in a task that waits at that
  moment. A primitive that returns errors returns ``errno.CLOSED`` for it.
* ``wait`` raises ``DeadlineOver`` when the task's deadline (``time.deadline``) runs out
  or is over already, or the time-out that ``wait`` was given. A primitive that returns
  errors returns its text.
* When ``wait`` raises (these two, ``Cancelled``, KeyboardInterrupt or any other
  exception), the task has left the queue, so nothing wakes it twice.
* A wake-up value is never lost. A task that was woken, but is interrupted before it
  runs, calls ``give_back`` with the value. That hands it on: a turn to the next task in
  the queue, an item back to where it came from.

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

It returns no errors, so ``acquire`` catches nothing. A deadline raises TimeoutError,
and ``Leaving``, which is a GreenletExit, ends the task quietly. A primitive that
returns errors has:

    return self._waiters.wait_result("semaphore.acquire", self.release)

**Memory.** A queue takes 48 bytes, and no container while at most one task waits. An
object that exists by the thousands and seldom waits, such as a connection, makes its
queue at the first wait.

One case can't be covered: a signal handler in the main program may raise at any
bytecode, so also where ``wait`` returns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .. import errno
from . import scheduler
from .deadline import Timeout
from .result import OK, Result, failure
from .scheduler import park
from .tasks import READY, RUN, DeadlineOver, Leaving, Task

__all__ = ["DeadlineOver", "Leaving", "Waiters"]

V = TypeVar("V")

_loop = scheduler.loop
_ready = _loop.ready


class Waiters(Generic[V]):
    """Tasks that wait for one thing, first come, first served. See the module's header.

    ``V`` is the type of the wake-up values.
    """

    __slots__ = ("_more", "first")

    def __init__(self) -> None:
        self.first: Task | None = None
        """The task that ``wake_one`` would wake, or None. Owners may compare it with
        None."""
        self._more: OrderedDict[Task, None] | None = None
        """The tasks behind it; None or empty if ``first`` is None."""

    def __len__(self) -> int:
        """How many tasks wait."""
        return 0 if self.first is None else 1 + len(self._more or ())

    def wait(
        self,
        what: object,
        give_back: Callable[[V], object] | None = None,
        missed: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> V:
        """Blocks the current task until it is woken, and returns the wake-up value.

        ``what`` describes in reports what it waits on: a text, or an object whose
        ``str`` is that text. ``give_back(value)`` is called in a task that is
        interrupted after it was woken with ``value``; without it the value is dropped.
        ``missed()`` is called once the task is in the queue: it wakes the task if a
        signal handler has done what the task waits for after the caller had looked.
        ``timeout`` is in milliseconds, and checked by the caller.

        Raises ``Leaving`` and ``DeadlineOver`` (see the module's header), any exception
        thrown where the task waits, and RuntimeError where no task runs.
        """
        if timeout is not None:
            # Around it all: between the queue and ``park`` nothing may run that waits,
            # and a finalizer may run wherever memory is taken.
            with Timeout(timeout):
                return self.wait(what, give_back, missed)
        if scheduler.exiting:
            scheduler.pause()
            raise Leaving
        task: Task | None = _loop.current
        if task is None:
            raise RuntimeError(scheduler.not_here("cannot block", what))
        if self.first is None:
            self.first = task
        else:
            self.add(task)
        value: V
        try:
            if missed is not None:
                missed()
            value = park(what)
        except BaseException:
            if not self.remove(task):
                if task._status == READY:
                    # ``missed`` has woken it, and then it did not wait at all.
                    _ready.remove(task)
                    task._status = RUN
                given, task._value = task._value, None
                if give_back is not None:
                    give_back(given)
            raise
        return value

    def wait_result(
        self,
        what: object,
        give_back: Callable[[V], object] | None = None,
        missed: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> Result:
        """As ``wait``. Returns ``(True, None)``, and in place of ``Leaving`` and
        ``DeadlineOver`` the error, ``(False, err)``."""
        try:
            self.wait(what, give_back, missed, timeout)
        except Leaving:
            return failure(errno.CLOSED)
        except DeadlineOver as over:
            return failure(str(over))
        return OK

    def add(self, task: Task[Any]) -> None:
        """Queues ``task``, which need not be the current one, and does not block it."""
        if self.first is None:
            self.first = task
        else:
            if self._more is None:
                self._more = OrderedDict()
            self._more[task] = None

    def wake_one(self, value: Any = None) -> bool:
        """Wakes the task that has waited longest; returns False if none waits.

        The task's ``wait`` returns ``value`` when its turn comes. Never blocks.
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

    def remove(self, task: Task[Any]) -> bool:
        """Removes a task that is not to be woken; returns False if it was woken
        already."""
        more = self._more
        if self.first is task:
            self.first = more.popitem(last=False)[0] if more else None
            return True
        if more is not None and task in more:
            del more[task]
            return True
        return False
