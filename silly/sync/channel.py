"""A queue between tasks: many push, one pops (upstream: ``silly.sync.channel``).

    chan = channel.new()
    task.fork(lambda: chan.push("hello"))
    item, err = chan.pop()

An item goes straight to the task that waits, else into the queue. After ``close`` what was queued can still be popped; then
``pop`` gives ``(None, reason)``. ``None`` is no item: it would look like the end. ``""`` and ``0`` are items, so a ported
loop says ``if item is None: break``. The queue has no bound: whoever pushes for others limits itself by ``len(chan)``.

``push`` and ``pop`` are upstream's modern names; ``send`` and ``recv`` are the older ones.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

from .. import errno
from .._core import scheduler
from .._core.result import OK, Result, failure
from .._core.waiting import Leaving, Waiters

__all__ = ["Channel", "new"]

_CLOSED = object()
_WAIT = "channel.pop"
_T = TypeVar("_T")


class Channel(Generic[_T]):
    """See the module. ``reason`` is None while the channel is open, then what ``close`` was given."""

    __slots__ = ("__weakref__", "_items", "_readers", "reason")

    def __init__(self) -> None:
        self._items: deque[_T] = deque()
        self._readers: Waiters[Any] = Waiters()
        """The task that waits in ``pop``: never more than one."""
        self.reason: Any = None

    def __len__(self) -> int:
        """How many items are queued."""
        return len(self._items)

    def __bool__(self) -> bool:
        return True

    def push(self, item: _T) -> Result:
        """Hands ``item`` to the task that waits in ``pop``, or queues it. Never blocks.

        ``(False, reason)`` after ``close``; ``(False, "Nil data")`` for None.
        """
        scheduler.check_thread("channel.push")
        if item is None:
            return failure("Nil data")
        if self.reason is not None:
            return failure(self.reason)
        if self._readers.first is not None:
            self._readers.wake_one(item)
        else:
            self._items.append(item)
        return OK

    send = push

    def pop(self) -> tuple[_T, None] | tuple[None, Any]:
        """``(item, None)``, waiting for one if need be; ``(None, reason)`` when closed and empty.

        ``(None, "Channel is mpsc")`` when another task waits already; ``(None, "channel.pop: the deadline of 100 ms ran out")``
        in a ``time.deadline`` that is over, and nothing is taken then.
        """
        scheduler.check_thread("channel.pop")
        if self._items:
            return self._items.popleft(), None
        if self.reason is not None:
            return None, self.reason
        if self._readers.first is not None:
            return None, "Channel is mpsc"
        try:
            item = self._readers.wait(_WAIT, self._put_back)
        except Leaving:
            return None, errno.CLOSED
        except scheduler.DeadlineOver:
            return None, scheduler.ran_out(_WAIT)
        if item is _CLOSED:
            return None, self.reason
        return item, None

    recv = pop

    def _put_back(self, item: Any) -> None:
        """The task that ``item`` was handed to was ended before it could take it: the next one gets it."""
        if item is not _CLOSED and not self._readers.wake_one(item):
            self._items.appendleft(item)

    def close(self, reason: Any = None) -> None:
        """Ends the channel; ``reason`` (``"channel closed"`` if None) is what ``push`` and ``pop`` give as the error.

        The first reason stays when it is closed twice.
        """
        scheduler.check_thread("channel.close")
        if self.reason is None:
            self.reason = "channel closed" if reason is None else reason
        self._readers.wake_all(_CLOSED)

    def clear(self) -> None:
        """Drops what is queued."""
        self._items.clear()


def new() -> Channel[Any]:
    """A new, open, empty channel, for items of any type unless it is annotated:
    ``jobs: Channel[Job] = channel.new()``."""
    return Channel()
