"""The items of a pool, and how one ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .._core import scheduler
from .._core.loop import monotonic
from .._core.tasks import Task
from .._core.timers import FOREVER
from .._core.waiting import Waiters
from .._ends import ENDS
from .._log import task as logger
from .._shown import name_of

_T = TypeVar("_T")


class Pooled(Generic[_T]):
    """An item of a pool, and what the pool knows of it."""

    __slots__ = ("idle_since", "item", "made", "taken", "uses")

    def __init__(self, item: _T) -> None:
        self.item = item
        self.made = monotonic()
        self.idle_since = FOREVER
        """FOREVER while it is not idle."""
        self.taken = False
        """Whether a task uses it."""
        self.uses = 0
        """How often it was taken, which tells one use from the next."""


class Closing(Waiters[None]):
    """The end of an item, whose place goes to the task that waits in here, or else to
    the next one that waits for the pool."""

    __slots__ = ("_leave",)

    def __init__(self, leave: Callable[[], object]) -> None:
        super().__init__()
        self._leave = leave

    def begin(self, close: Callable[[_T], object], item: _T) -> None:
        """Starts a task that closes the item. No deadline or cancel of the present task
        must cut that short."""
        scheduler.fork(close_item, (close, item), None, close_item.__code__, 0, ours=True)._keeper = self

    def ended(self, task: Task[Any]) -> None:
        """The task that closes the item has ended, in whatever way."""
        if not self.wake_one():
            self._leave()


def close_item(close: Callable[[_T], object], item: _T) -> None:
    """What the task does that closes an item."""
    try:
        close(item)
    except ENDS:
        raise
    except BaseException as exc:
        scheduler.uncaught(logger, f"exception in {name_of(close)} of a pool:", exc)
