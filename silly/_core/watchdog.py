"""The watchdog: a thread that reports which task holds the loop, while it holds it.

A task that computes for seconds, or calls something that blocks the operating system's
thread, stops every other task. Peers see a dead connection, and nothing in the log says
why. So a thread checks ``loop.busy_since``. A turn longer than ``HELD`` is reported
twice: once while it lasts, with the line that is running, and once when it ends, with
its length:

    task handle held the loop for 1.2 s at /path/app.py:88: nothing else runs …
    task handle held the loop for 3.4 s in all

The main program counts as a task from when it first blocks or registers a descriptor:
what it does then holds the loop. A hold that keeps nobody waiting is not reported: a
REPL at its prompt, or a task while there is no other task, no timer and no descriptor,
such as a script that imports large modules before it listens.

**The thread sleeps while the loop does**, without a time-out, and at a prompt too. The
loop wakes it by ``on_busy``: where a wait in the selector ends, and where the main
program blocks. Before the thread sleeps it sets ``on_busy``, and then checks that the
loop is still at rest. The loop first sets ``busy_since``, and then looks at
``on_busy``. So at least one of the two sees what the other has done.

The thread is a daemon, and needs nothing from the loop. C code that holds the
interpreter's lock stops this thread too, so such a hold may go unreported. A child of
``os.fork`` has no loop, and no watchdog.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from types import FrameType, FunctionType, MethodType
from typing import NamedTuple

from .._log import task as logger
from . import scheduler
from .callers import PACKAGE, outside
from .loop import monotonic

INTERVAL = 0.25
"""Seconds between two checks."""
HELD = 1.0
"""A turn of more than this many seconds is reported."""
FOLLOW = 0.05
"""Seconds between two checks of a reported hold, so that its length is right to 0.1
s."""
RETRY = 10.0
"""Seconds after which the thread is started again, if the system has refused it."""

_ADVICE = (
    "nothing else runs meanwhile; give a call that blocks to task.thread (docs/libraries.md has other ways), "
    "and call time.sleep(0) in long loops"
)
_PYTHONS = os.path.dirname(os.__file__) + os.sep, "<frozen "
"""How the file names of Python's own modules begin."""

_loop = scheduler.loop
_gate = threading.Lock()
"""Released to let the thread go on, which acquires it again by going on."""
_gate.acquire()
_thread: threading.Thread | None = None
_stopping = False


def _wake() -> None:
    """The loop's ``on_busy``: opens the gate, or starts the thread."""
    global _thread
    _loop.on_busy = None  # first: the thread may sleep again before this returns
    try:
        if _thread is not None and _thread.ident is not None:
            _open()
        else:
            _thread = threading.Thread(target=_work, name="silly-watchdog", daemon=True)
            _thread.start()
    except RuntimeError as exc:
        if not threading.main_thread().is_alive():
            return  # Python 3.12 starts no thread for what atexit calls
        logger.warn(f"the watchdog doesn't run: {exc}")
        _loop.timers.add(monotonic() + RETRY, _rest, internal=True)
    except BaseException:  # a signal handler's
        _rest()
        raise


def _open() -> None:
    try:
        _gate.release()
    except RuntimeError:
        pass  # it was open


def _rest(_: None = None) -> None:
    """Makes the loop wake the thread from now on."""
    _loop.on_busy = _wake


class _Hold(NamedTuple):
    """A hold that was reported."""

    turn: float
    """The ``busy_since`` of its turn."""
    task: object
    who: str
    since: float


class _Rounds:
    """What the thread knows from one look to the next."""

    def __init__(self) -> None:
        self.told: _Hold | None = None
        """The hold that goes on, if it was reported."""
        self._harmless = 0.0
        """When last seen that what runs keeps nobody waiting."""
        self._task: object = None
        self._task_since = 0.0
        """When ``_task`` was first seen to run."""

    def look(self, now: float) -> None:
        """Checks once."""
        turn, task = _loop.busy_since, _loop.current
        if _at_rest() or _alone():
            self._harmless = now
        if task is not self._task:
            self._task, self._task_since = task, now
        told = self.told
        if told is not None:
            end = now
            if turn == told.turn:
                if task is told.task or now - self._task_since < HELD:
                    return
                end = self._harmless = self._task_since  # another task of the same turn holds the loop now
            logger.warn(f"{told.who} held the loop for {end - told.since:.1f} s in all")
            self.told = None
        since = max(turn, self._harmless)
        if not turn or now - since < HELD:
            return
        who, where = _holder()
        if _loop.busy_since == turn:  # else it has just ended: the frame may be another turn's
            logger.warn(f"{who} held the loop for {now - since:.1f} s{where}: {_ADVICE}")
            self.told = _Hold(turn, task, who, since)

    def sleep(self) -> None:
        """Sleeps until the loop has something to do, if it has nothing now."""
        _rest()
        if _at_rest():
            _gate.acquire()
            self._harmless = monotonic()
            if _stopping:
                _open()  # to go on and end
        _loop.on_busy = None


def _work() -> None:
    global _thread
    rounds = _Rounds()
    turns = -1
    try:
        while True:
            _gate.acquire(timeout=INTERVAL if rounds.told is None else FOLLOW)
            if _stopping:
                return
            rounds.look(monotonic())
            if rounds.told is None and _loop.turns == turns and _at_rest():
                rounds.sleep()
            turns = _loop.turns
    except BaseException:
        _thread = None  # a handler of log lines has raised: the next turn starts another
        _rest()
        raise


def _at_rest() -> bool:
    """Whether the loop waits in the selector, or the main program is a REPL at its
    prompt."""
    if not _loop.busy_since:
        return True
    main = scheduler.main
    return _loop.current is main and main._status == scheduler.RUN and hasattr(sys, "ps1")


def _alone() -> bool:
    """Whether nothing could run beside what runs now, so that it may hold the loop."""
    tasks = len(scheduler.tasks) - (_loop.current in scheduler.tasks)
    # A guest has a descriptor of its own, even if nothing runs there.
    registered = _loop.registered() - sum(not guest.may_wake() for guest in scheduler.guests)
    return not (tasks or registered or _loop.timers.users or _loop.work or _loop._posted)


def holder() -> str:
    """Returns who holds the loop now, and where, in words. May be called in any
    thread."""
    who, where = _holder()
    return f"{who}, which holds the loop{where}"


def _holder() -> tuple[str, str]:
    """Returns who holds the loop now, and where."""
    frames = _frames()
    task = _loop.current
    if task is scheduler.main:
        who = "the main program"
    elif task is None:
        who = "a callback"
    elif frames and _is_ours(task._func):
        who = f"task {frames[-1].f_code.co_qualname}"  # the handler of a connection
    else:
        who = f"task {task.name()}"
    if not frames:
        return who, ""
    inner = frames[0]
    yours = next((frame for frame in frames if _is_yours(frame.f_code.co_filename)), inner)
    where = f" at {yours.f_code.co_filename}:{yours.f_lineno}"
    if yours is not inner:
        where += f" (in {inner.f_code.co_qualname}, {inner.f_code.co_filename}:{inner.f_lineno})"
    return who, where


def _frames() -> list[FrameType]:
    """Returns the frames of the loop's thread, the innermost first, without the
    library's own."""
    frames = []
    frame = outside(sys._current_frames().get(_loop.thread))
    while frame is not None:
        frames.append(frame)
        frame = outside(frame.f_back)
    return frames


def _is_ours(func: object) -> bool:
    """Whether the function of a task is a method of the library's, which runs a
    function of the application's."""
    inner = func.__func__ if isinstance(func, MethodType) else None
    return isinstance(inner, FunctionType) and inner.__code__.co_filename.startswith(PACKAGE)


def _is_yours(filename: str) -> bool:
    """Whether a file is the application's: neither Python's nor an installed
    package's."""
    return not filename.startswith(_PYTHONS) and f"-packages{os.sep}" not in filename


def _stop() -> None:
    """Stops the thread at exit: it must not write to files that are being closed."""
    global _stopping
    _stopping = True
    thread = _thread
    if thread is not None and thread.ident is not None:
        _open()
        thread.join(1.0)


def _after_fork() -> None:
    """A child of ``os.fork`` has no such thread, and no loop that turns."""
    global _thread
    _thread = None
    _loop.on_busy = None


_rest()
atexit.register(_stop)
os.register_at_fork(after_in_child=_after_fork)
