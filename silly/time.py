"""Time (upstream: ``silly.time``). Every time is in milliseconds.

A timer's function runs in a task of its own. Timers due together fire in the order they were set. Resolution is 1 ms.

``deadline`` bounds whatever a task does, however many calls that takes:

    with time.deadline(2000):
        conn, err = tcp.connect("example.org:80")
        if conn is not None:
            line, err = conn.read("\\n")
"""

from __future__ import annotations

import sys
import time as _time
from collections.abc import Callable
from contextvars import Context, copy_context
from types import CodeType
from typing import Any

from ._core import scheduler
from ._core.deadline import Deadline
from ._core.timers import Timer

__all__ = ["after", "cancel", "deadline", "monotonic", "now", "sleep"]

_loop = scheduler.loop


def now() -> int:
    """Milliseconds since 1970-01-01 UTC. The system's clock: it can jump."""
    return _time.time_ns() // 1_000_000


def monotonic() -> int:
    """Milliseconds of a clock that never goes back; its start has no meaning."""
    return _time.monotonic_ns() // 1_000_000


def sleep(ms: float) -> None:
    """Blocks the task for ``ms`` milliseconds; ``sleep(0)`` lets every other ready task go first, once.

    Raises ValueError for a negative or not finite time, and TimeoutError when a ``deadline`` runs out, which never ends
    ``sleep(0)``. When the process is ending it returns at once.
    """
    _check(ms)
    if scheduler.leaving():
        return
    if ms == 0:
        scheduler.pause()
        return
    timer = _loop.timers.add(_time.monotonic() + ms / 1000, scheduler.wake, scheduler.current())
    try:
        scheduler.park("time.sleep", scheduler.SLEEP)
    finally:
        _loop.timers.cancel(timer)


def deadline(ms: float) -> Deadline:
    """Bounds everything that the current task waits for in a ``with`` block: in ``ms`` milliseconds it must be done.

    When they are over, a call that waits returns its error, and so does every further one that would have to wait until the
    block ends: ``errno.TIMEDOUT`` from connections, a text such as ``"channel.pop: the deadline of 100 ms ran out"`` from
    others. A call that has no error in its result (``sleep``, ``task.wait``, ``silly.run``) raises TimeoutError with such a
    text. A call that need not wait is not affected: what has arrived can still be read. Nothing is lost: what had arrived
    stays, connections stay usable, and what a blocked ``write`` was given still goes out.

    Blocks nest, and the deadline that ends first counts. Tasks that are forked in the block aren't bounded by it. The block
    neither raises nor hides anything itself; ``with time.deadline(100) as limit`` gives an object whose ``expired`` tells
    whether the time is over. A task that computes without waiting is not interrupted.

    Raises ValueError for a negative or not finite time; entering the block raises RuntimeError where there is no task.
    """
    _check(ms)
    return Deadline(ms)


def after(ms: float, func: Callable[..., object], userdata: Any = None) -> Timer:
    """Runs ``func`` in a new task after ``ms`` milliseconds; returns what ``cancel`` takes.

    ``func`` gets ``userdata`` if that isn't None, else no argument (upstream passes the session). An armed timer keeps
    the process alive.
    """
    _check(ms)
    if not callable(func):
        raise TypeError(f"time.after needs a function, not {type(func).__name__}")
    scheduler.check_thread("time.after")
    frame = sys._getframe(1)
    call = func, userdata, frame.f_code, frame.f_lasti, copy_context()
    # Set while the process is ending it never runs, so it must not delay the end either.
    return _loop.timers.add(_time.monotonic() + ms / 1000, _fire, call, internal=scheduler.exiting)


def _fire(call: tuple[Callable[..., object], Any, CodeType, int, Context]) -> None:
    scheduler.fork(*call)


def cancel(timer: Timer) -> bool:
    """Cancels a timer that ``after`` returned; False when it had fired or been cancelled before."""
    scheduler.check_thread("time.cancel")
    if not isinstance(timer, Timer):
        raise TypeError(f"time.cancel needs what time.after returned, not {type(timer).__name__}")
    return _loop.timers.cancel(timer)


def _check(ms: float) -> None:
    if not isinstance(ms, (int, float)):
        raise TypeError(f"a time in milliseconds is a number, not {type(ms).__name__}")
    if not 0 <= ms < float("inf"):
        raise ValueError(f"a time in milliseconds is finite and not negative, not {ms}")
