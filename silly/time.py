"""Time. Every time is in milliseconds, at most 100 years, with a resolution of 1 ms.

This is not the standard library's ``time``, whose times are in seconds. For that one
write ``import time as clock``. A time of less than 1 ms may be given, but one that
stands in the code as a number, as in ``time.sleep(0.5)``, logs a warning: most likely
seconds are meant.

The function of a timer runs in a task of its own. Timers that are due together fire in
the order in which they were set.

``deadline`` bounds all that a task does in a block, however many calls that takes:

    with time.deadline(2000):
        conn, err = tcp.connect("example.org:8080")
        if conn is not None:
            conn.write("hello\\n")
            line, err = conn.read("\\n")
"""

from __future__ import annotations

import sys
import time as _time
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from ._core import scheduler
from ._core.callers import seconds_meant
from ._core.deadline import Deadline
from ._core.loop import monotonic as _monotonic
from ._core.timers import Timer
from ._wire.numbers import check_ms

__all__ = ["after", "cancel", "deadline", "monotonic", "now", "sleep"]

_loop = scheduler.loop
_time_ns = _time.time_ns
P = ParamSpec("P")


def now() -> int:
    """Returns the milliseconds since 1970-01-01 UTC, by the system's clock, which can
    jump.

        begin = time.now()
        time.sleep(10)
        print("it took", time.now() - begin, "ms")
    """
    return _time_ns() // 1_000_000


def monotonic() -> int:
    """Returns the milliseconds of a clock that never goes back. Only differences mean
    something.

        begin = time.monotonic()
        time.sleep(10)
        time.monotonic() - begin >= 10      # -> True
    """
    return int(_monotonic() * 1000)


def sleep(ms: float) -> None:
    """Blocks the task for ``ms`` milliseconds. Other tasks run meanwhile.

        for count in range(3):
            print(count)
            time.sleep(10)

    ``sleep(0)`` lets every other ready task run once; no deadline ends it. When the 3 s
    of the process's end are over, ``sleep`` returns at once. Raises ValueError for a
    time that is negative or longer than 100 years, and TimeoutError when a ``deadline``
    runs out.
    """
    if _loop.no_switch:
        scheduler.refuse("time.sleep")
    if type(ms) is int and not ms:
        scheduler.pause()  # by far the most frequent sleep
        return
    check_ms("time.sleep: the time", ms)
    if scheduler.leaving():
        return
    if ms < 1:
        if not ms:
            scheduler.pause()
            return
        seconds_meant(ms)
    timer = _loop.timers.add(_monotonic() + ms / 1000, scheduler.wake, scheduler.current())
    try:
        scheduler.park("time.sleep", scheduler.SLEEP)
    except scheduler.Leaving:
        pass
    finally:
        _loop.timers.cancel(timer)


def deadline(ms: float) -> Deadline:
    """Bounds what the current task waits for in a ``with`` block, to ``ms``
    milliseconds in all.

        with time.deadline(50) as limit:
            item, err = chan.pop()
        err                 # -> "channel.pop: the deadline of 50 ms ran out"
        limit.expired       # -> True

    When the time is over, a call that waits returns its error, and until the block ends
    so does every further call that would have to wait. The error is ``errno.TIMEDOUT``
    from a connection, and a text as above from others. A call without an error in its
    result (``sleep``, ``task.wait``, ``silly.run``) raises TimeoutError with such a
    text.

    A call that need not wait is not affected: what has arrived can still be read.
    Nothing is lost: connections stay usable, and what a blocked ``write`` was given
    still goes out. A task that computes without waiting is not interrupted. The block
    itself neither raises nor hides anything.

    Blocks nest, and the deadline that ends first counts. It does not bound tasks that
    are forked in the block.

    Raises ValueError for a time that is negative or longer than 100 years. Entering the
    block raises RuntimeError if there is no task to bound.
    """
    check_ms("time.deadline: the time", ms)
    if 0 < ms < 1:
        seconds_meant(ms)
    return Deadline(ms)


def after(ms: float, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
    """Runs ``func`` in a new task after ``ms`` milliseconds. Returns the timer, for
    ``cancel``.

        timer = time.after(10, lambda: print("10 ms later"))

    ``func`` is called with all the arguments that follow it. A timer keeps the process
    alive until it has fired or is cancelled. It does not delay the end of the process:
    a timer that was set before that begins never fires.

    Raises ValueError for a time that is negative or longer than 100 years, TypeError if
    ``func`` can't be called, and RuntimeError in a thread that is not the loop's.
    """
    check_ms("time.after: the time", ms)
    if 0 < ms < 1:
        seconds_meant(ms)
    if not callable(func):
        raise TypeError(f"time.after needs a function, not {type(func).__name__}")
    scheduler.check_thread()
    frame = sys._getframe(1)
    call = func, args, kwargs or None, frame.f_code, frame.f_lasti, copy_context()
    # A timer whose task would not start must not delay the end of the process.
    return _loop.timers.add(_monotonic() + ms / 1000, scheduler.fork_due, call, internal=not scheduler.starts)


def cancel(timer: Timer) -> bool:
    """Cancels a timer that ``after`` returned. Returns False if it had fired, or had
    been cancelled before. Raises TypeError for anything but a timer.

        timer = time.after(10, lambda: print("never"))
        time.cancel(timer)                  # -> True
    """
    scheduler.check_thread(closes=True)
    if not isinstance(timer, Timer):
        raise TypeError(f"time.cancel needs what time.after returned, not {type(timer).__name__}")
    return _loop.timers.cancel(timer)


_OURS = {
    "time": "now",
    "time_ns": "now",
    "monotonic_ns": "monotonic",
    "perf_counter": "monotonic",
    "perf_counter_ns": "monotonic",
}
"""What stands for functions of the standard library's ``time``."""

if not TYPE_CHECKING:  # a type checker knows the names above, and must report all others

    def __getattr__(name: str) -> NoReturn:
        text = f"module {__name__!r} has no attribute {name!r}"
        if not name.startswith("_") and hasattr(_time, name):
            ours = f"use time.{_OURS[name]}(), in milliseconds, or " if name in _OURS else ""
            text = f"{text}: it is not the standard library's; {ours}import time as clock, and write clock.{name}"
        raise AttributeError(text)
