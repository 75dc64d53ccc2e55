"""The guard of an end: a thread that keeps the time of a graceful end, whatever the
loop does.

A signal that ends the process is handled between two bytecodes, but the end itself is
the loop's. A task that holds the loop (in a blocking call, or computing) would keep it
from beginning for ever. So our signal handlers begin a guard:

* ``SOON`` seconds later, if the loop has not turned, it logs which task holds the loop,
  and where.
* When the grace and ``MARGIN`` seconds are over and the end is not, it ends the process
  by force, with status 128 + the signal's number, as a shell reports it.
* Where code in C keeps the interpreter's lock, no thread of Python runs. For that
  ``faulthandler`` has a thread in C. It ends the process ``LAST`` seconds after the
  grace, with a dump of all stacks. Its status is 1: it gives no other. (It has only one
  timer: the application's own ``dump_traceback_later`` is replaced.)

Nothing helps against code in C that holds the lock when the signal comes: Python runs
no handler before that code is done, and knows nothing of the signal.
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from time import sleep

from .. import _log
from .._log import task as logger
from . import scheduler, watchdog
from .loop import monotonic

SOON = 0.1
"""Seconds after a signal in which the loop should turn."""
MARGIN = 0.25
"""Seconds that the loop has to end the process itself once the grace is over."""
LAST = 1.0
"""Seconds after the grace for which code in C may keep the lock."""
_WORDS = 0.25
"""The most seconds that a last line of the log may take: its handler may block."""
_STDERR = 2

_loop = scheduler.loop
_over: threading.Event | None = None
"""Set when the guarded end is over; None while there is none. A new one for each: to
clear an event takes its lock, which the code that the signal interrupts may hold."""
_until = 0.0
"""When the grace of the present end is over."""
_number = 0
"""The signal that began it."""


def until(grace: float) -> float:
    """Returns when the grace of an end that begins to drain now is over. If a signal
    began the end, it counts from that, and from now if that is sooner: the notice was
    cut short."""
    now = monotonic()
    if _over is None:
        return now + grace
    if now + grace < _until:
        over()
        begin(_number, grace)
    return _until


def begin(number: int, grace: float) -> None:
    """Begins to guard the end that signal ``number`` begins, and that may take
    ``grace`` seconds. Called in a signal handler."""
    global _over, _until, _number
    if _over is not None:
        return
    _over = threading.Event()
    _until = monotonic() + grace
    _number = number
    _arm()
    _start(_keep, _over, number, grace)


def over() -> None:
    """The end is over."""
    global _over
    event, _over = _over, None
    if event is not None:
        event.set()
        faulthandler.cancel_dump_traceback_later()


def interrupt(grace: float, on_its_way: Callable[[], bool]) -> None:
    """Ctrl-C is on its way to the main program, which waits. If it has not got it
    within ``grace`` seconds, the task that holds the loop is interrupted instead. What
    the main program does with it, such as its ``finally`` blocks, is not bounded."""
    _start(_keep_interrupt, grace, on_its_way)


def _start(func: Callable[..., object], *args: object) -> None:
    # Not ``threading.Thread``: a signal handler may have interrupted its code.
    try:
        _thread.start_new_thread(func, args)
    except RuntimeError as exc:
        logger.warn(f"nothing guards the end: {exc}")


def _arm() -> None:
    try:
        faulthandler.dump_traceback_later(max(0.001, _until + LAST - monotonic()), exit=True, file=_STDERR)
    except RuntimeError as exc:  # no thread
        logger.warn(f"nothing guards the end against code in C: {exc}")


def _keep(over: threading.Event, number: int, grace: float) -> None:
    """Runs in the thread."""
    name = signal.Signals(number).name
    since = _loop.busy_since
    if not over.wait(SOON) and 0.0 < since == _loop.busy_since:
        _tell(logger.warn, f"{name}: the end waits for {watchdog.holder()}")
    if not over.wait(max(0.0, _until + MARGIN - monotonic())):
        status = 128 + number
        text = f"{name}: the end took more than {grace:g} s, and is forced with status {status}; {watchdog.holder()}"
        _tell(logger.error, text, last=True)
        os._exit(status)


def _keep_interrupt(grace: float, on_its_way: Callable[[], bool]) -> None:
    """Runs in the thread."""
    since = _loop.busy_since
    sleep(SOON)
    if on_its_way() and 0.0 < since == _loop.busy_since:
        _tell(logger.warn, f"SIGINT: the main program waits for {watchdog.holder()}; a second one interrupts that")
        sleep(max(0.0, grace - SOON))
        if on_its_way() and since == _loop.busy_since:
            signal.pthread_kill(_loop.thread, signal.SIGINT)


def _tell(log: Callable[[str], None], text: str, last: bool = False) -> None:
    """Writes a line, in a thread of its own: a handler of the log may block."""
    done = _thread.allocate_lock()
    done.acquire()

    def write() -> None:
        try:
            log(text)
            if last:
                _log.flush()
                if sys.stdout is not None:
                    sys.stdout.flush()
        finally:
            done.release()

    _start(write)
    if last:
        done.acquire(timeout=_WORDS)


def _before_fork() -> None:
    """The timer of ``faulthandler`` must not be on in a child: it has no such thread,
    and would wait for it at its exit."""
    if _over is not None:
        faulthandler.cancel_dump_traceback_later()


def _after_fork_in_parent() -> None:
    if _over is not None:
        _arm()


def _after_fork_in_child() -> None:
    global _over
    _over = None


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
