"""Timers: a heap with lazy cancellation. Pure: the clock is an argument, so tests can
set the time.

A cancelled timer stays in the heap, dead, until it reaches the top. When more than half
of the timers are dead, the heap is rebuilt. So cancelled timers don't pile up in
memory, and each costs O(log n) once. Timers due at the same time fire in the order in
which they were set.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

FOREVER = math.inf
"""The due time of a timer that is never due."""
_COMPACT_FROM = 64
"""The fewest dead timers that are worth a rebuild."""


class Timer:
    """One armed call: ``callback(arg)`` at ``when``, in seconds of the monotonic clock.
    ``callback`` is None once it has fired or was cancelled."""

    __slots__ = ("arg", "callback", "internal", "when")

    def __init__(self, when: float, callback: Callable[[Any], None], arg: Any, internal: bool) -> None:
        self.when = when
        self.callback: Callable[[Any], None] | None = callback
        self.arg = arg
        self.internal = internal


class Timers:
    """The heap. ``users`` counts the live timers that the application set; internal
    ones (read timeouts, lingering closes) don't keep the process alive."""

    __slots__ = ("_dead", "_sequence", "heap", "users")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self._dead = 0
        self.users = 0

    def __len__(self) -> int:
        """The number of live timers, internal ones included."""
        return len(self.heap) - self._dead

    def add(self, when: float, callback: Callable[[Any], None], arg: Any = None, internal: bool = False) -> Timer:
        """Arms ``callback(arg)`` for ``when``."""
        timer = Timer(when, callback, arg, internal)
        self._sequence += 1
        heapq.heappush(self.heap, (when, self._sequence, timer))
        if not internal:
            self.users += 1
        return timer

    def cancel(self, timer: Timer) -> bool:
        """Disarms ``timer``. Returns False if it has fired or was cancelled already."""
        if timer.callback is None:
            return False
        timer.callback = timer.arg = None
        if not timer.internal:
            self.users -= 1
        self._dead += 1
        if self._dead >= _COMPACT_FROM and self._dead * 2 > len(self.heap):
            self.heap = [entry for entry in self.heap if entry[2].callback is not None]
            heapq.heapify(self.heap)
            self._dead = 0
        return True

    def next(self) -> float:
        """Returns when the first live timer is due; ``FOREVER`` without one."""
        heap = self.heap
        while heap:
            if heap[0][2].callback is not None:
                return heap[0][0]
            heapq.heappop(heap)
            self._dead -= 1
        return FOREVER

    def pop(self, now: float) -> tuple[Callable[[Any], None], Any] | None:
        """Removes the first timer due at ``now``. Returns its callback and argument, or
        None if no timer is due."""
        if self.next() > now:
            return None
        timer = heapq.heappop(self.heap)[2]
        callback, arg = timer.callback, timer.arg
        assert callback is not None
        timer.callback = timer.arg = None
        if not timer.internal:
            self.users -= 1
        return callback, arg

    def clear_users(self) -> None:
        """Disarms every timer that the application set: the process is ending."""
        for _, _, timer in list(self.heap):
            if not timer.internal:
                self.cancel(timer)
