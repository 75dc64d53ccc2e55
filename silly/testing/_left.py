"""What a test leaves behind: for ``plugin``, and for any other runner of tests.

``found`` counts what the library holds at a time, and ``left`` says what is there in
addition later, each with where it was forked, set or opened. The loop doesn't know who
opened a descriptor; ``record`` makes it remember.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from .. import time
from .._core import deadline, scheduler
from .._core.callers import outside
from .._core.loop import Loop, Watched
from .._core.tasks import Task
from .._core.timers import Timer
from .._shown import name_of, shown

PATIENCE = 2000
"""Milliseconds in which what a test has closed must be gone."""
FILES = "/proc/self/fd"
"""Where Linux lists the open files of the process."""

_loop = scheduler.loop
_opened: dict[int, str] = {}
"""By descriptor: where the program was when it was registered last."""


class Found(NamedTuple):
    """What there is at a time: how many of each kind, and which."""

    counts: dict[str, int]
    things: set[Any]
    """The tasks, timers and handlers."""
    files: dict[int, str]
    """The open files: what each descriptor is, on Linux."""


def record() -> None:
    """Makes the loop remember where each descriptor is opened."""
    setattr(Loop, "register", _register)  # noqa: B010  (mypy allows no assignment to a method)


_plain_register = Loop.register


def _register(loop: Loop, fd: int, events: int, callback: Callable[[int], None]) -> None:
    _plain_register(loop, fd, events, callback)
    frame = outside(sys._getframe(1))
    if frame is not None:
        _opened[fd] = f", opened at {frame.f_code.co_filename}:{frame.f_lineno}"
    elif fd in _opened:
        del _opened[fd]  # the loop itself has: a listener's connection


def found() -> Found:
    """Returns what there is now. Idle connections of ``http.get`` and so on are closed
    first: they are nobody's. Nor is asyncio's loop (``bridge.asyncio``) anybody's: what
    counts is what runs on it."""
    http = sys.modules.get("silly.net.http")
    if http is not None:
        http.closeidle()
    timers = _timers()
    files = _files()
    handlers = _handlers()
    coroutines = {coroutine for guest in scheduler.guests for coroutine in guest.coroutines()}
    counts = {
        "tasks": len(scheduler.tasks),
        "timers": len(timers),
        "registered descriptors": _loop.registered() - len(scheduler.guests),
        "handlers": len(handlers),
        "listeners": _loop.listeners,
        "work": _loop.work,
        "watched, though closed": len({*_loop.waking} - cast(set[Watched], _loop.handlers)),
        "deadlines": deadline.active,
        "ready": len(_loop.ready),
        "coroutines of asyncio": len(coroutines),
        "open files": len(files),
    }
    return Found(counts, {*scheduler.tasks, *timers, *handlers, *coroutines}, files)


def left(before: Found) -> str | None:
    """Lets the loop turn until the counts are those of ``before``, for 2 s at most.
    Returns what still differs, in words; None if nothing does."""
    begin = time.monotonic()
    collect_at = begin + 20
    while True:
        now = found()
        differs = [name for name, count in now.counts.items() if count != before.counts[name]]
        if not differs:
            return None
        if time.monotonic() > begin + PATIENCE:
            counts = (f"  {name}: {before.counts[name]} before, {now.counts[name]} after" for name in differs)
            return "\n".join([*counts, *_named(now, before)])
        time.sleep(1)
        if time.monotonic() > collect_at:
            gc.collect()
            collect_at = time.monotonic() + 500


def clean_up() -> None:
    """Ends every task, timer, connection and child, so that the next test begins
    without them."""
    for handler in list(_loop.handlers):
        handler.abort()
    for task in list(scheduler.tasks):
        task.cancel()
    _loop.timers.clear_users()
    time.sleep(1)
    processes = sys.modules.get("silly._process_child")
    until = time.monotonic() + PATIENCE
    while processes is not None and processes.kill_all() and time.monotonic() < until:
        time.sleep(1)  # until the loop has seen that they are gone


def _handlers() -> set[Any]:
    """Returns those of the loop that are no guests."""
    return {*_loop.handlers} - {*scheduler.guests}


def _timers() -> set[Timer]:
    return {*_loop.timers.users, *_loop.timers._internal} - {guest.timer for guest in scheduler.guests}


def _files() -> dict[int, str]:
    files: dict[int, str] = {}
    for fd in os.listdir(FILES) if os.path.isdir(FILES) else ():
        try:
            files[int(fd)] = os.readlink(os.path.join(FILES, fd))
        except OSError:
            pass  # it was that of the list
    for guest in scheduler.guests:
        for number in guest.files():
            files.pop(number, None)
    return files


def _named(now: Found, before: Found) -> Iterable[str]:
    """Names what is there ``now`` and was not ``before``."""
    for task in scheduler.tasks:
        if task not in before.things:
            yield f"  {task}: waits on {task.waiting()}"
    for guest in scheduler.guests:
        for coroutine in guest.coroutines():
            if coroutine not in before.things:
                yield f"  the coroutine {guest.name(coroutine)}"
    for handler in _handlers():
        if handler not in before.things:
            yield f"  {shown(handler)}{_place(getattr(handler, 'fd', -1))}"
    for timer in _timers():
        if timer not in before.things:
            yield f"  a timer of {_of_timer(timer)}"
    named = {getattr(handler, "fd", -1) for handler in _loop.handlers}
    for fd, file in now.files.items():
        if before.files.get(fd) != file and fd not in named:
            yield f"  open file {fd}: {file}{_place(fd)}"


def _place(fd: int) -> str:
    """Where a descriptor was opened, if it is registered still: its number may be
    another's by now."""
    return _opened.get(fd, "") if fd in _loop._callbacks else ""


def _of_timer(timer: Timer) -> str:
    if timer.callback is scheduler.fork_due:
        func, args, kwargs, code, lasti, _ = timer.arg
        return f"time.after, for {name_of(func)}, set at {Task(func, args, kwargs, code, lasti).origin()}"
    if isinstance(timer.arg, Task):
        return f"{timer.arg}"
    owner = getattr(timer.callback, "__self__", timer.arg)
    return f"the library: {shown(owner)}"
