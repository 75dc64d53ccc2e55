"""A flag that tasks wait for.

    ready = event.new()
    task.fork(lambda: ready.set())
    ready.wait()                        # -> (True, None)

``set`` wakes every task that waits, and from then on ``wait`` doesn't wait, until
``clear``. To hand something over use ``silly.sync.channel``.
"""

from __future__ import annotations

from threading import get_ident

from .._core import scheduler
from .._core.callers import check_timeout
from .._core.result import OK, Result
from .._core.tasks import Task
from .._core.waiting import Waiters

__all__ = ["Event", "new"]

_WAIT = "event.wait"

_loop = scheduler.loop


class Event:
    """See the module."""

    __slots__ = ("__weakref__", "_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: Waiters[None] = Waiters()
        """The tasks that wait in ``wait``, and the watches of ``task.select``."""

    def set(self) -> None:
        """Sets the event, and wakes every task that waits. Never waits.

            ready = event.new()
            ready.set()

        May be called in any thread: then the event is set in the next turn of the loop.
        """
        if get_ident() != _loop.thread:
            if _loop.thread < 0:
                scheduler.check_thread()  # says that silly has ended, or doesn't work here
            _loop.post(self.set)
            return
        self._set = True
        self._waiters.wake_all()

    def clear(self) -> None:
        """Makes the event unset: the next ``wait`` waits. A task that ``set`` has woken
        goes on all the same.

            ready = event.new()
            ready.set()
            ready.clear()
        """
        scheduler.check_thread()
        self._set = False

    def is_set(self) -> bool:
        """Returns whether the event is set.

            ready = event.new()
            ready.is_set()              # -> False
        """
        return self._set

    def wait(self, timeout: float | None = None) -> Result:
        """Waits until the event is set, for at most ``timeout`` milliseconds.

            ready = event.new()
            ok, err = ready.wait(10)
            err                         # -> "event.wait: the time-out of 10 ms ran out"

        Returns ``(True, None)`` or ``(False, err)``: a text as above, or that of a
        ``time.deadline``; ``errno.CLOSED`` when nothing waits any more at the process's
        end.
        """
        if get_ident() != _loop.thread:
            scheduler.check_thread()
        if _loop.no_switch:
            scheduler.refuse(_WAIT)
        if timeout is not None:
            check_timeout(_WAIT, timeout)
        if self._set:
            return OK
        return self._waiters.wait_result(_WAIT, None, self._missed, timeout)

    def _missed(self) -> None:
        """Wakes all that wait, if a signal handler has set the event meanwhile."""
        if self._set:
            self._waiters.wake_all()

    # ---- for task.select -------------------------------------------------------------

    def _ready(self) -> bool:
        """Whether ``wait`` would not wait now."""
        return self._set

    def _watch(self, watch: Task) -> None:
        """Wakes ``watch`` once the event is set: at once if it is."""
        self._waiters.add(watch)
        self._missed()

    def _unwatch(self, watch: Task) -> None:
        self._waiters.remove(watch)


def new() -> Event:
    """Returns a new event.

        ready = event.new()

    It is not set.
    """
    return Event()
