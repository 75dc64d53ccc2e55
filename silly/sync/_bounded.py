"""The bounded channel."""

from __future__ import annotations

from collections import OrderedDict
from threading import get_ident
from typing import Any

from .. import errno
from .._core import scheduler
from .._core.callers import check_timeout
from .._core.result import OK, Result, failure
from .._core.waiting import DeadlineOver, Leaving
from ._channel import POP, PUSH, Channel, T, check_other_thread
from ._offers import Offer, Offers, State, ThreadOffer, unanswered

_loop = scheduler.loop


class BoundedChannel(Channel[T]):
    """A channel that ``new(size)`` has made."""

    __slots__ = ("_offers", "_places")
    _many_read = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self._places = size
        """How many items may be queued; 0 once the channel is closed."""
        self._offers: Offers | None = None
        """The items whose ``push`` waits, in their order. While there is one, the queue
        is full."""

    def push(self, item: T, timeout: float | None = None) -> tuple[bool, Any]:
        if get_ident() != _loop.thread:
            return self._push_in_thread(item, timeout)
        if _loop.no_switch:
            scheduler.refuse(PUSH)
        if timeout is not None:
            check_timeout(PUSH, timeout)
        if item is None:
            return failure("Nil data")
        if 0 < len(self._items) < self._places:
            self._items.append(item)  # by far the most frequent; nobody waits for an item
            return OK
        if self.reason is not None:
            return Result((False, self.reason))
        if not self._items:
            self._put(item)
            return OK
        offer = Offer(item)
        self._add(offer)
        err: Any
        try:
            offer.wait(PUSH, None, lambda: self._push_missed(offer), timeout)
        except Leaving:
            err = errno.CLOSED
        except DeadlineOver as over:
            err = str(over)
        else:
            err = self.reason
        finally:
            assert self._offers is not None
            self._offers.pop(offer, None)
        return OK if offer.state is State.ACCEPTED else Result((False, err))

    send = push

    def _push_in_thread(self, item: T, timeout: float | None) -> tuple[bool, Any]:
        check_other_thread(timeout)
        if item is None:
            return failure("Nil data")
        offer = ThreadOffer(item)
        _loop.post(self._receive, offer)
        state = offer.wait(timeout)
        if state is State.ACCEPTED:
            return OK
        if state is State.REFUSED:
            return Result((False, self.reason))
        _loop.post(self._forget, offer)
        if timeout is None or unanswered():
            return failure(errno.CLOSED)
        return failure(f"{PUSH}: the time-out of {timeout:.15g} ms ran out")

    def pop(self, timeout: float | None = None) -> tuple[T, None] | tuple[None, Any]:
        if get_ident() != _loop.thread:
            scheduler.check_thread()
        if _loop.no_switch:
            scheduler.refuse(POP)
        if timeout is not None:
            check_timeout(POP, timeout)
        if self._items:
            if not self._offers:
                return self._items.popleft(), None
            item = self._items.popleft()
            self._admit()
            return item, None
        return super().pop(timeout)

    recv = pop

    def close(self, reason: Any = None) -> None:
        self._places = 0
        super().close(reason)

    def _put(self, item: T) -> None:
        """Hands out or queues an item for which there is a place."""
        if self._readers.first is None or not self._readers.wake_one(item):
            self._items.append(item)
            if self._watchers is not None:
                self._watchers.wake_all()

    def _add(self, offer: Offer | ThreadOffer) -> None:
        """Queues an item for which there is no place."""
        if self._offers is None:
            self._offers = OrderedDict()
        self._offers[offer] = None

    def _receive(self, offer: ThreadOffer) -> None:
        """Takes what a thread offers, in a callback of the loop."""
        if self.reason is not None:
            offer.answer(State.REFUSED)
        elif len(self._items) >= self._places:
            self._add(offer)
        elif offer.answer(State.ACCEPTED):
            self._put(offer.item)

    def _forget(self, offer: ThreadOffer) -> None:
        """Drops an offer that its thread has withdrawn."""
        if self._offers is not None:
            self._offers.pop(offer, None)

    def _admit(self) -> None:
        """Queues items whose ``push`` waits, as far as there are places."""
        offers = self._offers
        while offers and len(self._items) < self._places:
            offer, _ = offers.popitem(last=False)
            if offer.answer(State.ACCEPTED):
                self._items.append(offer.item)

    def _push_missed(self, offer: Offer) -> None:
        """Answers ``push`` if a signal handler has popped or closed since it looked."""
        if self.reason is None:
            self._admit()
        else:
            self._refuse()
        offer.missed()

    def _refuse(self) -> None:
        while self._offers:
            self._offers.popitem(last=False)[0].answer(State.REFUSED)

    def _ended(self) -> None:
        super()._ended()
        self._refuse()

    def clear(self) -> None:
        scheduler.check_thread()
        super().clear()
        self._admit()
