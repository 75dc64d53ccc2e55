"""The drain of an HTTP server: how WebSockets are closed, and what the log says.

``server.drain`` and the end of the process make a ``Drain``, in the same way
(``Server._begin_drain``). Each connection gets it and acts on it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Collection
from itertools import count
from math import ceil
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from ..._core import scheduler
from ..._core.loop import monotonic
from ..._core.timers import Timer
from ..._log import http as logger
from ..._shown import counted
from ..._wire.numbers import check_int
from ..._wire.ws import close_payload
from ..tcp import deadline_after

if TYPE_CHECKING:
    from ._connection import Connection
    from .h1 import Hijacker

LINES = 5.0
"""Seconds until the first line about what is left. Each further one comes after twice
the time, at most ``MOST`` seconds later."""
MOST = 60.0

_loop = scheduler.loop
_numbers = count()

unready: WeakSet[object] = WeakSet()
"""The servers that have given notice, or drain: ``/readyz`` says 503."""


class Terms(NamedTuple):
    """How a server drains: the time over which WebSockets are closed, in seconds; with
    what code; and what a refused one is told to wait, in seconds, or None."""

    spread: float
    code: int
    retry_after: int | None


def check_terms(ms: float | None, notice: float, spread: float, code: int, retry_after: int | None) -> Terms:
    """Returns the arguments of ``server.drain``. Raises ValueError and TypeError."""
    for name, value in (("ms", ms), ("notice", notice), ("spread", spread)):
        if value is not None or name != "ms":
            try:
                deadline_after(value)  # type: ignore[arg-type]  # None of the others raises too
            except (TypeError, ValueError) as exc:
                raise type(exc)(f"server.drain: {name}: {exc}") from None
    if ms is not None and spread > ms:
        raise ValueError(
            f"server.drain: a spread of {spread:g} ms is longer than the {ms:g} ms after which everything is cut off"
        )
    close_payload(code)  # raises if it is none
    if retry_after is not None:
        check_int("server.drain: retry_after, in seconds,", retry_after)
    return Terms(spread / 1000, code, retry_after)


class Drain:
    """A server's drain, from when it stops listening. ``connections`` are those that
    are left. ``name`` is the server's in the log."""

    def __init__(self, name: str, connections: Collection[Connection], terms: Terms) -> None:
        self._name = name
        self._connections = connections
        self._terms = terms
        self._began = monotonic()
        self._partings: list[tuple[float, int, Hijacker]] = []
        """A heap of the WebSockets to be closed, by their times."""
        self._next: Timer | None = None
        """When the first of them is due. A timer of the application's kind: the end of
        the process waits for it, even if nothing else can happen."""
        self._line: Timer | None = None
        self._pause = LINES
        self._said = False
        """Whether the log says that it drains, so that it must say how that ended."""
        self.was_cut = False
        """Whether ``cut`` was called."""

    # ---- WebSockets ------------------------------------------------------------------

    def retry_after(self) -> int:
        """How many seconds a refused WebSocket is told to wait: by default a random
        number, since others are told too, and all that are closed come back."""
        given = self._terms.retry_after
        return given if given is not None else random.randint(1, max(1, ceil(self._terms.spread)))

    def part(self, hijacker: Hijacker) -> None:
        """Tells ``hijacker`` to go away, at a random time within the spread."""
        if not self._terms.spread:
            hijacker.go_away(self._terms.code)
            return
        due = self._began + self._terms.spread * random.random()
        heapq.heappush(self._partings, (due, next(_numbers), hijacker))
        if self._partings[0][2] is hijacker:
            self._arm()

    def hasten(self, terms: Terms) -> None:
        """Somebody else drains too: WebSockets that are still to be closed are closed
        within that spread too. Of all else the first terms count."""
        now = monotonic()
        self._partings = [(min(due, now + terms.spread * random.random()), n, each) for due, n, each in self._partings]
        heapq.heapify(self._partings)
        self._part_due(None)

    def _arm(self) -> None:
        if self._next is not None:
            _loop.timers.cancel(self._next)
        self._next = _loop.timers.add(self._partings[0][0], self._part_due) if self._partings else None

    def _part_due(self, _: None) -> None:
        now = monotonic()
        while self._partings and self._partings[0][0] <= now:
            heapq.heappop(self._partings)[2].go_away(self._terms.code)
        self._arm()

    # ---- the log ---------------------------------------------------------------------

    def begin(self) -> None:
        """All connections were told. Logs what is left, if something is."""
        self._log("drains")

    def _log(self, what: str) -> None:
        upgraded = sum(each.upgraded for each in self._connections)
        busy = sum(each.busy for each in self._connections) - upgraded
        if busy or upgraded:
            self._said = True
            parts = [counted(number, noun) for number, noun in ((busy, "request"), (upgraded, "WebSocket")) if number]
            logger.info(f"{self._name} {what}: {' and '.join(parts)} left")
        self._line = _loop.timers.add(monotonic() + self._pause, self._still, internal=True)

    def _still(self, _: None) -> None:
        self._pause = min(MOST, 2 * self._pause)
        self._log(f"drains for {monotonic() - self._began:.0f} s")

    def cut(self, number: int) -> None:
        """So many connections are cut off, which is all that are left."""
        if number and not self.was_cut:
            took = monotonic() - self._began
            logger.info(f"{self._name} drained for {took:.1f} s: {counted(number, 'connection')} cut off")
        self.was_cut = True
        self._said = False
        self.stop()

    def over(self) -> None:
        """No connection is left."""
        if self._said:
            self._said = False
            logger.info(f"{self._name} has drained in {monotonic() - self._began:.1f} s")
        self.stop()

    def stop(self) -> None:
        """Cancels the timers."""
        self._partings.clear()
        for timer in (self._next, self._line):
            if timer is not None:
                _loop.timers.cancel(timer)
        self._next = self._line = None
