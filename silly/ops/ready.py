"""When a program is ready: a supervisor may then end its predecessor.

It is ready when the script's last line has run; or, if the script itself goes on for
ever, ``SETTLED`` seconds after it began to listen last. So a program loads what it
needs first, and listens last. A program that never listens and whose script goes on is
never ready, nor is one that has begun to end.
"""

from __future__ import annotations

from collections.abc import Callable

from .._core import scheduler
from .._core.loop import monotonic
from .._core.timers import Timer

SETTLED = 1.0
"""Seconds after the latest ``listen`` after which a script that goes on counts as
ready."""

_loop = scheduler.loop
_callbacks: list[Callable[[], object]] = []
"""What is called once the program is ready."""
_is_ready = False
_settling: Timer | None = None
"""Is due when the script counts as ready, though its last line has not run."""


def when_ready(callback: Callable[[], object]) -> None:
    """Calls ``callback`` once, in the loop or in the script's task, when the program is
    ready; now, if it is. It must not block.
    """
    if _is_ready:
        callback()
        return
    _callbacks.append(callback)
    scheduler.listens = _listens


def _listens() -> None:
    """The program has begun to listen somewhere: it may go on to do so elsewhere."""
    global _settling
    if _settling is not None:
        _loop.timers.cancel(_settling)
    _settling = _loop.timers.add(monotonic() + SETTLED, now, internal=True)


def now(_: None = None) -> None:
    """The script's last line has run, or it counts as if. The launcher calls it, and a
    master when its workers are ready."""
    global _is_ready, _settling
    if _is_ready or not scheduler.begins or scheduler.in_child:
        return
    _is_ready = True
    scheduler.listens = None
    if _settling is not None:
        _loop.timers.cancel(_settling)
        _settling = None
    callbacks = _callbacks[:]
    _callbacks.clear()
    for callback in callbacks:
        callback()
