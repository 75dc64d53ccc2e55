"""The watchdog: a thread that tells who holds the loop, while it is held.

A task that computes for seconds, or calls something that blocks the operating system's thread, stops every other task: peers
see a dead connection, and nothing in the log tells why. So while somebody needs the loop to turn (``watch`` … ``unwatch``) a
thread looks at ``loop.busy_since``. A turn longer than ``HELD`` is told once, with the line that is running, and when it ends,
with its length:

    task handle held the loop for 1.2 s at /path/app.py:88
    task handle held the loop for 3.4 s in all

The main program counts as a task from its first wait on: what it does after a wait holds the loop. A REPL at its prompt does
so in good right, and is not told.

The thread starts with the first watcher and ends ``IDLE`` seconds after the last. It is a daemon, and asks nothing of the loop.
Code in C that holds the loop and the interpreter's lock keeps the thread from looking, too.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from time import monotonic
from types import FrameType

from .. import logger
from . import scheduler

INTERVAL = 0.25
"""Seconds between two looks."""
HELD = 1.0
"""Seconds of one turn after which it is told."""
FOLLOW = 0.05
"""Seconds between two looks at a hold that was told, so that its length is right to a digit."""
IDLE = 5.0
"""Seconds without a watcher after which the thread ends."""

_loop = scheduler.loop
_lock = threading.RLock()  # reentrant: a finalizer may call unwatch within watch
_users = 0
_thread: threading.Thread | None = None
_stopping = threading.Event()


def watch() -> None:
    """One more who needs the loop to turn. In the loop's thread; ``unwatch`` takes it back."""
    global _users
    with _lock:
        _users += 1
        start()


def unwatch() -> None:
    """Takes one ``watch`` back."""
    global _users
    with _lock:
        _users = max(0, _users - 1)  # in a child of os.fork: what the parent watched is not watched there


def start() -> None:
    """Starts the thread unless it runs. Without a watcher it ends by itself soon."""
    global _thread
    with _lock:
        if _thread is not None or _stopping.is_set():
            return
        thread = threading.Thread(target=_work, name="silly-watchdog", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            # What watches is no reason to refuse what is watched; the next watcher tries again.
            logger.warn(f"nothing watches the loop: {exc}")
            return
        _thread = thread


class _Hold:
    """A hold that was told."""

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
            _thread = None  # what handles log lines has raised: the next watcher starts another
        raise


def _look(told: _Hold | None, now: float) -> _Hold | None:
    """Looks once; the hold that is told and goes on, or None."""
    since = _loop.busy_since
    if told is not None:
        if since == told.since:
            return told
        logger.warn(f"{told.who} held the loop for {now - told.since:.1f} s in all")
    if not since or now - since < HELD:
        return None
    task = _loop.current
    if task is scheduler.main:
        if hasattr(sys, "ps1"):
            return None
        who = "the main program"
    else:
        who = "a callback" if task is None else f"task {task.name()}"
    where = _where()
    if _loop.busy_since != since:
        return None  # it has just ended: what was seen may be another turn's
    logger.warn(f"{who} held the loop for {now - since:.1f} s{where}")
    return _Hold(since, who)


def _where() -> str:
    """What the loop's thread runs now, without the library's own frames."""
    frame: FrameType | None = sys._current_frames().get(_loop.thread)
    frame = scheduler.outside(frame)
    return f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def _stop() -> None:
    """At exit: the thread must not write to streams that the interpreter is closing."""
    _stopping.set()
    thread = _thread
    if thread is not None:
        thread.join(1.0)


def _after_fork() -> None:
    """In a child of ``os.fork``, where neither the thread nor the loop is: the thread may have held the locks."""
    global _lock, _users, _thread, _stopping
    _lock = threading.RLock()
    _stopping = threading.Event()
    _stopping.set()
    _users = 0
    _thread = None


atexit.register(_stop)
os.register_at_fork(after_in_child=_after_fork)
