"""``task.no_switch``: a block in which no other task may run."""

from __future__ import annotations

from . import scheduler
from .scheduler import loop


class NoSwitch:
    """See ``task.no_switch``."""

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before = False

    def __enter__(self) -> None:
        scheduler.current()
        self._before, loop.no_switch = loop.no_switch, True

    def __exit__(self, *exc: object) -> None:
        loop.no_switch = self._before
