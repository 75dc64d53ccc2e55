"""A queue between tasks: any number of tasks push, one pops.

    chan = channel.new()
    task.fork(lambda: chan.push("hello"))
    item, err = chan.pop()              # -> ("hello", None)

An item goes straight to the task that waits, or else into the queue. If that task is
ended before it runs, the item goes to the front of the queue. After ``close`` the
queued items can still be popped; then ``pop`` returns ``(None, reason)``. ``None``
can't be pushed, because it would look like the end. ``""`` and ``0`` can, so a loop
ends with ``if item is None: break``. The queue has no bound: a task that pushes what
others send limits it by ``len(chan)``.

``send`` and ``recv`` are the older names of ``push`` and ``pop``.
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
    """See the module. ``reason`` is None while the channel is open, and then the reason
    that ``close`` was given.
    """

    __slots__ = ("__weakref__", "_items", "_readers", "reason")

    def __init__(self) -> None:
        self._items: deque[_T] = deque()
        self._readers: Waiters[Any] = Waiters()
        """The task that waits in ``pop``: never more than one."""
        self.reason: Any = None

    def __len__(self) -> int:
        """Returns how many items are queued."""
        return len(self._items)

    def __bool__(self) -> bool:
        return True

    def push(self, item: _T) -> tuple[bool, Any]:
        """Hands ``item`` to the task that waits in ``pop``, or queues it. Never blocks.

            chan.push("hello")                  # -> (True, None)

        Returns ``(False, reason)`` after ``close``, and ``(False, "Nil data")`` for
        None. ``reason`` is whatever ``close`` was given; the pair is true if its first
        item is.
        """
        scheduler.check_thread()
        if item is None:
            return failure("Nil data")
        if self.reason is not None:
            return Result((False, self.reason))
        # A signal handler that pushes may have woken the reader since it was looked at.
        if self._readers.first is None or not self._readers.wake_one(item):
            self._items.append(item)
        return OK

    send = push

    def pop(self) -> tuple[_T, None] | tuple[None, Any]:
        """Returns ``(item, None)``, and waits for an item if the queue is empty.

            chan.push("hello")
            item, err = chan.pop()              # -> ("hello", None)

        The errors: ``(None, reason)`` if the channel is closed and empty;
        ``(None, "Channel is mpsc")`` if another task waits already;
        ``(None, "channel.pop: the deadline of 100 ms ran out")`` when a
        ``time.deadline`` is over, and then no item is taken.
        """
        scheduler.check_thread()
        if self._items:
            return self._items.popleft(), None
        if self.reason is not None:
            return None, self.reason
        if self._readers.first is not None:
            return None, "Channel is mpsc"
        try:
            item = self._readers.wait(_WAIT, self._put_back, self._missed)
        except Leaving:
            return None, errno.CLOSED
        except scheduler.DeadlineOver:
            return None, scheduler.ran_out(_WAIT)
        if item is _CLOSED:
            return None, self.reason
        return item, None

    recv = pop

    def _put_back(self, item: Any) -> None:
        """Hands on an item whose task was ended before it could take it: to the next
        task that waits, or back into the queue.
        """
        if item is not _CLOSED and not self._readers.wake_one(item):
            self._items.appendleft(item)

    def _missed(self) -> None:
        """Wakes ``pop`` if a signal handler has pushed or closed since it looked."""
        if self._items:
            if self._readers.first is not None:  # else that handler's first item has woken it
                self._readers.wake_one(self._items.popleft())
        elif self.reason is not None:
            self._readers.wake_all(_CLOSED)

    def close(self, reason: Any = None) -> None:
        """Ends the channel. ``push`` and ``pop`` return ``reason`` as their error from
        then on, ``"channel closed"`` if it is None.

            chan.close("game over")
            item, err = chan.pop()              # -> (None, "game over")

        If a channel is closed twice, the first reason stays.
        """
        scheduler.check_thread(closes=True)
        if self.reason is None:
            self.reason = "channel closed" if reason is None else reason
        self._readers.wake_all(_CLOSED)

    def clear(self) -> None:
        """Drops the queued items."""
        self._items.clear()


def new() -> Channel[Any]:
    """Returns a new, open, empty channel. Its items are of any type, unless the
    variable is annotated.

        chan = channel.new()
        jobs: channel.Channel[str] = channel.new()
    """
    return Channel()
