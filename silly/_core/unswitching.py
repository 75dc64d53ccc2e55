"""``task.no_switch``: a block in which no other task may run."""

from __future__ import annotations

from . import scheduler
from .scheduler import loop, main, unswitched


class NoSwitch:
    """See ``task.no_switch``."""

    __slots__ = ()

    def __enter__(self) -> None:
        scheduler.current()
        if self in unswitched:
            raise RuntimeError("task.no_switch: each with block needs one of its own")
        unswitched.add(self)
        loop.no_switch, loop.may_queue = True, False

    def __exit__(self, *exc: object) -> None:
        # Not always the last that was entered: blocks in generators end in any order.
        unswitched.discard(self)
        if not unswitched:
            loop.no_switch, loop.may_queue = False, loop.current is not main
