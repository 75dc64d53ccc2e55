"""The watchdog: a thread that reports which task holds the loop, while it holds it.

A task that computes for seconds, or calls something that blocks the operating system's
thread, stops every other task. Peers see a dead connection, and nothing in the log says
why. So while the loop is needed (between ``watch`` and ``unwatch``) a thread checks
``loop.busy_since``. A turn longer than ``HELD`` is reported twice: once while it lasts,
with the line that is running, and once when it ends, with its length:

    task handle held the loop for 1.2 s at /path/app.py:88
    task handle held the loop for 3.4 s in all

The main program counts as a task after its first wait: what it does then holds the
loop. A REPL waiting at its prompt is not reported.

The thread starts with the first watcher and ends ``IDLE`` seconds after the last. It is
a daemon, and needs nothing from the loop. C code that holds the interpreter's lock
stops this thread too, so such a hold may go unreported.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from time import monotonic
from types import FrameType

from .._log import task as logger
from . import scheduler

INTERVAL = 0.25
"""Seconds between two checks."""
HELD = 1.0
"""A turn of more than this many seconds is reported."""
FOLLOW = 0.05
"""Seconds between two checks of a reported hold, so that its length is right to 0.1
s."""
IDLE = 5.0
"""The thread ends after this many seconds without a watcher."""

_loop = scheduler.loop
_lock = threading.RLock()  # reentrant: a finalizer may call unwatch within watch
_users = 0
_thread: threading.Thread | None = None
_stopping = threading.Event()


def watch() -> None:
    """Adds a watcher, which needs the loop to turn. Called in the loop's thread."""
    global _users
    with _lock:
        _users += 1
        start()


def unwatch() -> None:
    """Removes a watcher."""
    global _users
    with _lock:
        _users = max(0, _users - 1)  # a child of os.fork starts without watchers


def start() -> None:
    """Starts the thread unless it runs. Without a watcher it ends after ``IDLE``
    seconds."""
    global _thread
    with _lock:
        if _thread is not None or _stopping.is_set():
            return
        thread = threading.Thread(target=_work, name="silly-watchdog", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            # Not an error of the watcher: it works without the thread, and the next one
            # tries again.
            logger.warn(f"nothing watches the loop: {exc}")
            return
        _thread = thread


class _Hold:
    """A hold that was reported."""

    def __init__(self, since: float, who: str) -> None:
        self.since = since
        self.who = who


def _work() -> None:
    global _thread
    told: _Hold | None = None
    idle_since = monotonic()
    try:
        while not _stopping.wait(FOLLOW if told is not None else INTERVAL):
            now = monotonic()
            told = _look(told, now)
            if _users or told is not None:
                idle_since = now
            elif now - idle_since > IDLE:
                with _lock:
                    if not _users:
                        _thread = None
                        return
    except BaseException:
        with _lock:
            _thread = None  # a handler of log lines has raised: the next watcher starts another
        raise


def _look(told: _Hold | None, now: float) -> _Hold | None:
    """Checks once. Returns the reported hold that goes on, or None."""
    since = _loop.busy_since
    if told is not None:
        if since == told.since:
            return told
        logger.warn(f"{told.who} held the loop for {now - told.since:.1f} s in all")
    if not since or now - since < HELD:
        return None
    if _loop.current is scheduler.main and hasattr(sys, "ps1"):
        return None
    who = _who()
    where = _where()
    if _loop.busy_since != since:
        return None  # it has just ended: the frame may be another turn's
    logger.warn(f"{who} held the loop for {now - since:.1f} s{where}")
    return _Hold(since, who)


def holder() -> str:
    """Returns who holds the loop now, and where, in words. May be called in any
    thread."""
    return f"{_who()}, which holds the loop{_where()}"


def _who() -> str:
    task = _loop.current
    if task is scheduler.main:
        return "the main program"
    return "a callback" if task is None else f"task {task.name()}"


def _where() -> str:
    """Returns where the loop's thread runs now, without the library's own frames."""
    frame: FrameType | None = sys._current_frames().get(_loop.thread)
    frame = scheduler.outside(frame)
    return f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def _stop() -> None:
    """Stops the thread at exit: it must not write to files that are being closed."""
    _stopping.set()
    thread = _thread
    if thread is not None:
        thread.join(1.0)


def _after_fork() -> None:
    """Resets the state in a child of ``os.fork``, which has no such thread; the
    parent's may have held the locks."""
    global _lock, _users, _thread, _stopping
    _lock = threading.RLock()
    _stopping = threading.Event()
    _stopping.set()
    _users = 0
    _thread = None


atexit.register(_stop)
os.register_at_fork(after_in_child=_after_fork)
