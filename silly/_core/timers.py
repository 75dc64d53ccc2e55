"""Timers: a heap with lazy cancellation. Pure: the clock is an argument, so tests make up their own time.

A cancelled timer stays in the heap, dead, until it comes to the top or until the dead outnumber the living; then the
heap is rebuilt. So 200,000 read timeouts armed and cancelled don't stay in memory, and each costs O(log n) once.
Timers due together fire in the order they were set.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

FOREVER = math.inf
"""When what is never due is due."""
_COMPACT_FROM = 64
"""Below this many dead timers a rebuild isn't worth its time."""


class Timer:
    """One armed call: ``callback(arg)`` at ``when`` (seconds of the monotonic clock). ``callback`` is None once it
    fired or was cancelled."""

    __slots__ = ("arg", "callback", "internal", "when")

    def __init__(self, when: float, callback: Callable[[Any], None], arg: Any, internal: bool) -> None:
        self.when = when
        self.callback: Callable[[Any], None] | None = callback
        self.arg = arg
        self.internal = internal


class Timers:
    """The heap. ``users`` counts the live timers that an application set; internal ones (read timeouts, lingering
    closes) don't keep the process alive."""

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
        """Disarms ``timer``; False when it had fired or been cancelled before."""
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
        """When the first live timer is due; ``FOREVER`` when there is none."""
        heap = self.heap
        while heap:
            if heap[0][2].callback is not None:
                return heap[0][0]
            heapq.heappop(heap)
            self._dead -= 1
        return FOREVER

    def pop(self, now: float) -> tuple[Callable[[Any], None], Any] | None:
        """Takes the first timer due at ``now``: its callback and argument, or None."""
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
        """Disarms every timer that the application set (the process is ending)."""
        for _, _, timer in list(self.heap):
            if not timer.internal:
                self.cancel(timer)
