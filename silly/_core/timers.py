"""Timers: a heap with lazy cancellation. Pure: the clock is an argument, so tests can
set the time.

A cancelled timer leaves the heap at once if it is the last entry. Often it is, if it
was set last or is due last. Else it stays, dead, until it is the last entry or reaches
the top. When more than half of the timers are dead, the heap is rebuilt. So cancelled
timers don't pile up in memory, and each costs O(log n) once. Timers due at the same
time fire in the order in which they were set.

A signal handler may set and cancel timers between any two bytecodes of this module
(``next`` and ``pop`` are the loop's alone). So two tables say which timers are live,
and the heap is only their order. Each step is one call in C: the code that takes a
timer out of its table may fire or cancel it, and an entry of the heap without a timer
in a table is dead. Nothing is counted by reading a number and writing it back.
"""

from __future__ import annotations

import heapq
import itertools
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


_Entry = tuple[float, int, Timer]


class Timers:
    """The heap. ``users`` has the live timers that the application set; internal ones
    (read timeouts, lingering closes) don't keep the process alive."""

    __slots__ = ("_internal", "_internal_entries", "_sequence", "_user_entries", "heap", "users")

    def __init__(self) -> None:
        self.heap: list[_Entry] = []
        self.users: dict[Timer, _Entry] = {}
        self._internal: dict[Timer, _Entry] = {}
        self._user_entries = self.users.values()
        self._internal_entries = self._internal.values()
        self._sequence = itertools.count()

    def __len__(self) -> int:
        """The number of live timers, internal ones included."""
        return len(self.users) + len(self._internal)

    def add(self, when: float, callback: Callable[[Any], None], arg: Any = None, internal: bool = False) -> Timer:
        """Arms ``callback(arg)`` for ``when``."""
        timer = Timer(when, callback, arg, internal)
        entry = when, next(self._sequence), timer
        # Into the table first: a rebuild in between would drop it from the heap.
        if internal:
            self._internal[timer] = entry
        else:
            self.users[timer] = entry
        heapq.heappush(self.heap, entry)
        return timer

    def cancel(self, timer: Timer) -> bool:
        """Disarms ``timer``. Returns False if it has fired or was cancelled already."""
        if (self._internal if timer.internal else self.users).pop(timer, None) is None:
            return False
        timer.callback = timer.arg = None
        heap = self.heap
        try:
            while (last := heap[-1])[2].callback is None:
                taken = heap.pop()
                if taken is not last:
                    heapq.heappush(heap, taken)  # a signal handler has set it
        except IndexError:
            pass  # the heap is empty
        live = len(self.users) + len(self._internal)
        dead = len(heap) - live
        if dead >= _COMPACT_FROM and dead > live:
            self._rebuild()
        return True

    def _rebuild(self) -> None:
        """Drops the dead timers from the heap."""
        heap = self.heap
        # No bytecode runs while a table is copied. What is set between the lines is in
        # its table and goes into the heap, at worst twice.
        heap[:] = self._user_entries
        heap += self._internal_entries
        heapq.heapify(heap)

    def next(self) -> float:
        """Returns when the first live timer is due; ``FOREVER`` without one."""
        heap = self.heap
        while heap:
            try:
                entry = heap[0]
                if entry[2].callback is not None:
                    return entry[0]
                first = heapq.heappop(heap)
            except IndexError:
                continue  # a signal handler has cancelled the rest
            if first is not entry:
                heapq.heappush(heap, first)  # a signal handler has set it
        return FOREVER

    def pop(self, now: float) -> tuple[Callable[[Any], None], Any] | None:
        """Removes the first timer due at ``now``. Returns its callback and argument, or
        None if no timer is due."""
        heap = self.heap
        while self.next() <= now:
            try:
                entry = heapq.heappop(heap)
            except IndexError:
                continue
            when, _, timer = entry
            if when > now:
                heapq.heappush(heap, entry)  # a signal handler has cancelled the one that was due
                continue
            if (self._internal if timer.internal else self.users).pop(timer, None) is None:
                continue
            callback, arg = timer.callback, timer.arg
            assert callback is not None
            timer.callback = timer.arg = None
            return callback, arg
        return None

    def clear_users(self) -> None:
        """Disarms every timer that the application set: the process is ending."""
        for timer in list(self.users):
            self.cancel(timer)

    def clear(self) -> None:
        """Forgets every timer, in a child of ``os.fork``."""
        for kept in (self.heap, self.users, self._internal):
            kept.clear()
