"""When a program is ready: a supervisor may then end its predecessor.

It is ready when the script's last line has run; or, if the script itself goes on for
ever, ``SETTLED`` seconds after it began to listen last. So a program loads what it
needs first, and listens last.
"""

from __future__ import annotations

from collections.abc import Callable

from .._core import scheduler

SETTLED = 1.0
"""Seconds after the latest ``listen`` after which a script that goes on counts as
ready."""

_loop = scheduler.loop
_callbacks: list[Callable[[], object]] | None = []
"""What is called once the program is ready; None when it is."""


def when_ready(callback: Callable[[], object]) -> None:
    """Calls ``callback`` once, in the loop, when the program is ready; now, if it is.
    """
    if _callbacks is None:
        callback()
    else:
        _callbacks.append(callback)


def script_ended() -> None:
    """The script's last line has run. The launcher calls it."""
    _ready()


def listens() -> None:
    """The program has begun to listen somewhere."""
    raise NotImplementedError  # settings: a timer, started anew by each call


def _ready() -> None:
    global _callbacks
    callbacks, _callbacks = _callbacks or [], None
    for callback in callbacks:
        callback()
