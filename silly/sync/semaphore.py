"""Permits: at most ``n`` tasks do something at a time.

    few = semaphore.new(2)

    def fetch(url):
        with few:
            return http.get(url)

    tasks = [task.fork(fetch, "http://127.0.0.1:8080/") for _ in range(10)]

Tasks that wait get a permit first come, first served. ``new(1)`` makes a plain lock: of
one task at a time, not re-entrant. (``silly.sync.mutex`` is upstream's, by keys, and
re-entrant.)
"""

from __future__ import annotations

from threading import get_ident

from .._core import scheduler
from .._core.callers import check_timeout
from .._core.result import OK, Result
from .._core.waiting import Waiters
from .._wire.numbers import check_int

__all__ = ["Semaphore", "new"]

_ACQUIRE = "semaphore.acquire"

_loop = scheduler.loop


class Semaphore:
    """See the module. Its ``with`` block holds one permit."""

    __slots__ = ("__weakref__", "_free", "_most", "_waiters")

    def __init__(self, n: int) -> None:
        self._most = n
        self._free = n
        """The permits that nobody holds: 0 while a task waits for one."""
        self._waiters: Waiters[None] = Waiters()

    def acquire(self, timeout: float | None = None) -> Result:
        """Takes a permit. If none is free it waits, for at most ``timeout``
        milliseconds.

            few = semaphore.new(1)
            few.acquire()       # -> (True, None)
            ok, err = few.acquire(10)
            err                 # -> "semaphore.acquire: the time-out of 10 ms ran out"
            few.release()

        Returns ``(True, None)``; or ``(False, err)``, and then the task holds no
        permit. The errors: a text as above, or that of a ``time.deadline``;
        ``errno.CLOSED`` when nothing waits any more at the process's end.
        """
        if get_ident() != _loop.thread:
            scheduler.check_thread()
        if _loop.no_switch:
            scheduler.refuse(_ACQUIRE)
        if timeout is not None:
            check_timeout(_ACQUIRE, timeout)
        if self._free:
            self._free -= 1
            return OK
        return self._waiters.wait_result(_ACQUIRE, self._give_back, self._missed, timeout)

    def release(self) -> None:
        """Gives a permit back: to the task that has waited longest, if one waits. Never
        waits itself. Any task may call it.

            few = semaphore.new(1)
            few.acquire()
            few.release()

        Raises RuntimeError if no permit is taken.
        """
        if get_ident() != _loop.thread:
            scheduler.check_thread(closes=True)
        if self._waiters.first is not None and self._waiters.wake_one():
            return
        if self._free >= self._most:
            raise RuntimeError("semaphore.release: every permit is free; release once for each acquire that succeeded")
        self._free += 1

    def __enter__(self) -> None:
        """Takes a permit, as ``acquire``. Raises TimeoutError when a ``time.deadline``
        runs out."""
        if get_ident() != _loop.thread:
            raise RuntimeError(scheduler.not_here("", _ACQUIRE))
        if _loop.no_switch:
            scheduler.refuse(_ACQUIRE)
        if self._free:
            self._free -= 1
        else:
            self._waiters.wait(_ACQUIRE, self._give_back, self._missed)

    def __exit__(self, kind: object, exc: object, trace: object) -> None:
        if self._waiters.first is None and self._free < self._most and get_ident() == _loop.thread:
            self._free += 1  # as ``release`` does, without the call
        else:
            self.release()

    def _give_back(self, _: None) -> None:
        """Hands on the permit of a task that was ended before it could go on."""
        self.release()

    def _missed(self) -> None:
        """Wakes ``acquire`` if a signal handler has released since it looked."""
        if self._free and self._waiters.wake_one():
            self._free -= 1


def new(n: int) -> Semaphore:
    """Returns a new semaphore with ``n`` permits, all of them free.

        few = semaphore.new(10)

    Raises ValueError if ``n`` is not an int from 1 on.
    """
    check_int("semaphore.new: n", n, 1)
    return Semaphore(n)
