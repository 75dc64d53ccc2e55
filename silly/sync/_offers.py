"""Items whose ``push`` waits for a place in a full channel: of tasks and of threads, in
one queue."""

from __future__ import annotations

import threading
from collections import OrderedDict
from enum import Enum, auto
from typing import Any

from .._core import scheduler
from .._core.loop import monotonic
from .._core.waiting import Waiters

LOOK = 0.2
"""Seconds after which a thread that waits looks whether the loop can still answer."""

lock = threading.RLock()
"""Held where a thread and the loop change the same thing. It can be taken again by its
holder, because a signal handler or a finalizer may interrupt that."""


class State(Enum):
    """What has become of an offer."""

    OFFERED = auto()
    ACCEPTED = auto()
    REFUSED = auto()
    """The channel was closed."""
    WITHDRAWN = auto()
    """Its ``push`` waits no longer."""


class Offer(Waiters[None]):
    """An item that a task offers; the task waits in it."""

    __slots__ = ("item", "state")

    def __init__(self, item: Any) -> None:
        super().__init__()
        self.item = item
        self.state = State.OFFERED

    def answer(self, state: State) -> bool:
        """Ends the wait. Returns False if the offer was withdrawn."""
        self.state = state
        self.wake_one()
        return True

    def missed(self) -> None:
        """Ends the wait if a signal handler has answered before the task waits."""
        if self.state is not State.OFFERED:
            self.wake_one()


class ThreadOffer:
    """An item that another thread offers; the thread waits in ``wait``."""

    __slots__ = ("_answered", "item", "state")

    def __init__(self, item: Any) -> None:
        self.item = item
        self.state = State.OFFERED
        self._answered = threading.Lock()
        """Free once there is an answer."""
        self._answered.acquire()

    def answer(self, state: State) -> bool:
        """Ends the wait. Returns False if the offer was withdrawn."""
        with lock:
            if self.state is not State.OFFERED:
                return False
            self.state = state
        self._answered.release()
        return True

    def wait(self, timeout: float | None) -> State:
        """Blocks the thread until the answer comes, for at most ``timeout`` ms, and not
        after the end of the loop. Returns what has become of the offer."""
        end = None if timeout is None else monotonic() + timeout / 1000
        try:
            while not self._answered.acquire(timeout=LOOK if end is None else min(LOOK, max(0.0, end - monotonic()))):
                if (end is not None and monotonic() >= end) or unanswered():
                    break
        finally:
            with lock:
                if self.state is State.OFFERED:
                    self.state = State.WITHDRAWN
        return self.state


Offers = OrderedDict[Offer | ThreadOffer, None]
"""The items whose ``push`` waits, in their order."""


def unanswered() -> bool:
    """Whether the loop answers no thread any more."""
    return scheduler.exiting or scheduler.over()
