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
from typing import Any

from .. import errno
from .._core import scheduler
from .._core.result import OK, Result, failure

__all__ = ["Channel", "new"]

_CLOSED = object()
_WAIT = "channel.pop"


class Channel:
    """See the module. ``reason`` is None while the channel is open, then what ``close`` was given."""

    __slots__ = ("__weakref__", "_items", "_reader", "reason")

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._reader: scheduler.Task | None = None
        self.reason: Any = None

    def __len__(self) -> int:
        """How many items are queued."""
        return len(self._items)

    def __bool__(self) -> bool:
        return True

    def push(self, item: Any) -> Result:
        """Hands ``item`` to the task that waits in ``pop``, or queues it. Never blocks.

        ``(False, reason)`` after ``close``; ``(False, "Nil data")`` for None.
        """
        scheduler.check_thread("channel.push")
        if item is None:
            return failure("Nil data")
        if self.reason is not None:
            return failure(self.reason)
        reader = self._reader
        if reader is not None:
            self._reader = None
            scheduler.wake(reader, item)
        else:
            self._items.append(item)
        return OK

    send = push

    def pop(self) -> tuple[Any, Any]:
        """``(item, None)``, waiting for one if need be; ``(None, reason)`` when closed and empty.

        ``(None, "Channel is mpsc")`` when another task waits already; ``(None, "channel.pop: the deadline of 100 ms ran out")``
        in a ``time.deadline`` that is over, and nothing is taken then.
        """
        scheduler.check_thread("channel.pop")
        if self._items:
            return self._items.popleft(), None
        if self.reason is not None:
            return None, self.reason
        if self._reader is not None:
            return None, "Channel is mpsc"
        if scheduler.leaving():
            return None, errno.CLOSED
        self._reader = me = scheduler.current()
        try:
            item = scheduler.park(_WAIT)
        except BaseException as exc:
            # Woken and then interrupted before it ran, it may have a successor by now.
            if self._reader is me:
                self._reader = None
            if isinstance(exc, scheduler.DeadlineOver):
                return None, scheduler.ran_out(_WAIT)
            raise
        if item is _CLOSED:
            return None, self.reason
        return item, None

    recv = pop

    def close(self, reason: Any = None) -> None:
        """Ends the channel; ``reason`` (``"channel closed"`` if None) is what ``push`` and ``pop`` give as the error.

        The first reason stays when it is closed twice.
        """
        scheduler.check_thread("channel.close")
        if self.reason is None:
            self.reason = "channel closed" if reason is None else reason
        reader = self._reader
        if reader is not None:
            self._reader = None
            scheduler.wake(reader, _CLOSED)

    def clear(self) -> None:
        """Drops what is queued."""
        self._items.clear()


def new() -> Channel:
    """A new, open, empty channel."""
    return Channel()
