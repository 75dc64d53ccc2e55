"""The channel: without a bound, and all that a bounded one has in common with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import get_ident
from typing import Any, Generic, TypeVar

from .. import errno
from .._core import scheduler
from .._core.callers import check_timeout
from .._core.result import OK, Result, failure
from .._core.tasks import Task
from .._core.waiting import DeadlineOver, Leaving, Waiters
from ._offers import Offers, lock

CLOSED = object()
"""What a task that waits in ``pop`` is woken with at the end."""
MPSC = "Channel is mpsc"
POP = "channel.pop"
PUSH = "channel.push"
T = TypeVar("T")

_loop = scheduler.loop


class Channel(Generic[T]):
    """See ``silly.sync.channel``. ``reason`` is None while the channel is open, and
    then the reason that ``close`` was given.
    """

    __slots__ = ("__weakref__", "_items", "_readers", "_watchers", "reason")
    _many_read = False
    """Whether several tasks may wait in ``pop``."""
    _offers: Offers | None = None
    """The items whose ``push`` waits: only in a bounded channel."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        """What was pushed. While a task waits in ``pop`` it is empty, but for what
        another thread has pushed just now."""
        self._readers: Waiters[Any] = Waiters()
        """The tasks that wait in ``pop``: without a bound never more than one."""
        self._watchers: Waiters[None] | None = None
        """Those that wait in ``task.select``."""
        self.reason: Any = None

    def __len__(self) -> int:
        """Returns how many items are queued."""
        return len(self._items)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[T]:
        """Pops until the channel is closed and empty.

        Raises TimeoutError when a ``time.deadline`` runs out, and RuntimeError if
        another task waits already in ``pop`` of a channel without a bound.
        """
        scheduler.check_thread()
        items = self._items
        while True:
            if items and not self._offers and not _loop.no_switch:
                yield items.popleft()  # as ``pop`` does, without the call
                continue
            item, err = self.pop()
            if item is not None:
                yield item
                item = None  # so that it isn't kept while the next one is awaited
            elif self.reason is not None:
                return
            else:
                raise _without_end(err)

    def push(self, item: T, timeout: float | None = None) -> tuple[bool, Any]:
        """Hands ``item`` to the task that waits in ``pop``, or queues it.

            chan.push("hello")                  # -> (True, None)

        A bounded channel that is full makes it wait, for at most ``timeout``
        milliseconds. A channel without a bound never does. May be called in any thread,
        which waits then itself; its time runs until the loop has taken the item, so 0
        is never enough for a bounded channel.

        Returns ``(False, reason)`` after ``close``, also if that comes while it waits.
        ``reason`` is whatever ``close`` was given; the pair is true if its first item
        is. The other errors: ``(False, "Nil data")`` for None; ``(False,
        "channel.push: the time-out of 100 ms ran out")``, or the same of a
        ``time.deadline``: then the item was not pushed. A task that is cancelled while
        it waits has not pushed its item either.
        """
        if get_ident() != _loop.thread:
            return self._push_in_thread(item, timeout)
        if item is None:
            return failure("Nil data")
        if self.reason is not None:
            return Result((False, self.reason))
        if self._readers.first is None:
            self._items.append(item)
            if self._watchers is not None:
                self._watchers.wake_all()
        elif self._items or not self._readers.wake_one(item):
            # A thread has pushed just now, and its item comes first. Or a signal
            # handler that pushes has woken the reader since it was looked at.
            self._items.append(item)
            self._settle()
        return OK

    send = push

    def _push_in_thread(self, item: T, timeout: float | None) -> tuple[bool, Any]:
        """``push`` in another thread."""
        check_other_thread(timeout)
        if item is None:
            return failure("Nil data")
        with lock:
            if self.reason is not None:
                return Result((False, self.reason))
            self._items.append(item)
            first = len(self._items) == 1
        if first:
            _loop.post(self._settle)  # else the reader either finds it, or was told already
        return OK

    def pop(self, timeout: float | None = None) -> tuple[T, None] | tuple[None, Any]:
        """Returns ``(item, None)``. If the queue is empty it waits for an item, for at
        most ``timeout`` milliseconds.

            chan.push("hello")
            item, err = chan.pop()              # -> ("hello", None)

        The errors: ``(None, reason)`` if the channel is closed and empty;
        ``(None, "Channel is mpsc")`` if another task waits already, and the channel has
        no bound; ``(None, "channel.pop: the time-out of 100 ms ran out")``, or the same
        of a ``time.deadline``: then no item is taken.
        """
        if get_ident() != _loop.thread:
            scheduler.check_thread()
        if _loop.no_switch:
            scheduler.refuse(POP)
        if timeout is not None:
            check_timeout(POP, timeout)
        if self._items:
            return self._items.popleft(), None
        if self.reason is not None:
            return None, self.reason
        if self._readers.first is not None and not self._many_read:
            return None, MPSC
        try:
            item = self._readers.wait(POP, self._put_back, self._missed, timeout)
        except Leaving:
            return None, errno.CLOSED
        except DeadlineOver as over:
            return None, str(over)
        if item is CLOSED:
            return None, self.reason
        return item, None

    recv = pop

    def _put_back(self, item: Any) -> None:
        """Hands on an item whose task was ended before it could take it: to the next
        task that waits, or back into the queue.
        """
        if item is not CLOSED and not self._readers.wake_one(item):
            self._items.appendleft(item)
            self._settle()

    def _settle(self) -> None:
        """Hands out what is queued while a task waits: a thread or a signal handler has
        pushed it, or it came back."""
        while self._items and self._readers.first is not None:
            self._readers.wake_one(self._items.popleft())
        if self._items and self._watchers is not None:
            self._watchers.wake_all()

    def _missed(self) -> None:
        """Wakes ``pop`` if a signal handler has pushed or closed since it looked."""
        self._settle()
        if self.reason is not None:
            self._readers.wake_all(CLOSED)

    def close(self, reason: Any = None) -> None:
        """Ends the channel. ``push`` and ``pop`` return ``reason`` as their error from
        then on, ``"channel closed"`` if it is None.

            chan.close("game over")
            item, err = chan.pop()              # -> (None, "game over")

        If a channel is closed twice, the first reason stays. May be called in any
        thread.
        """
        if _loop.thread < 0:
            return  # the end of the interpreter, or a child of os.fork: nothing waits
        with lock:
            if self.reason is None:
                self.reason = "channel closed" if reason is None else reason
        if get_ident() == _loop.thread:
            self._ended()
        else:
            _loop.post(self._ended)

    def _ended(self) -> None:
        """Tells all tasks that wait that the channel is closed."""
        self._settle()
        self._readers.wake_all(CLOSED)
        if self._watchers is not None:
            self._watchers.wake_all()

    def clear(self) -> None:
        """Drops the queued items.

            chan.push("old news")
            chan.clear()
            len(chan)                           # -> 0

        The channel stays open. In a bounded one, items whose ``push`` waits come next.
        """
        self._items.clear()

    # ---- for task.select -------------------------------------------------------------

    def _ready(self) -> bool:
        """Whether ``pop`` would not wait now."""
        if self._items or self.reason is not None:
            return True
        if self._readers.first is not None and not self._many_read:
            raise RuntimeError(
                f"another task waits in channel.pop already: {self._readers.first}; "
                "channel.new(size) makes a channel with any number of readers"
            )
        return False

    def _watch(self, watch: Task) -> None:
        """Wakes ``watch`` once an item is queued or the channel is closed: at once if
        that is so."""
        if self._watchers is None:
            self._watchers = Waiters()
        self._watchers.add(watch)
        if self._items or self.reason is not None:
            self._watchers.wake_all()  # a signal handler has done it since ``_ready``

    def _unwatch(self, watch: Task) -> None:
        if self._watchers is not None:
            self._watchers.remove(watch)


def check_other_thread(timeout: float | None) -> None:
    """Raises what ``push`` in another thread raises."""
    if _loop.thread < 0:
        scheduler.check_thread()  # says that silly has ended, or doesn't work here
    if timeout is not None:
        check_timeout(PUSH, timeout)


def _without_end(err: Any) -> BaseException:
    """Returns what a loop over a channel raises when ``pop`` fails before the end."""
    if err == errno.CLOSED:
        return Leaving()
    if err == MPSC:
        return RuntimeError(
            "for item in channel: another task waits in channel.pop already; "
            "channel.new(size) makes a channel with any number of readers"
        )
    return DeadlineOver(err)
