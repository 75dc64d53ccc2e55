"""What the load counts, by windows: the harness says which window is open."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 10
"""How many lost requests of a window are told in full."""


@dataclass
class Window:
    """A request belongs to the window in which it was due; what happens to a WebSocket, to the one in which it happens.

    ``lost``: by what happened, without a whole answer. ``retried``: the numbers of the requests whose kept connection ended
    without a byte of the answer, which were sent again on a new one. ``busy``: answers 503 with Retry-After. ``late``: the
    greatest time by which the load itself was late, in s.

    ``took``: from when a request was due to the whole answer, in s, without the time that its handler waits by design.
    ``attempts``: when WebSockets came back, on the clock; ``reconnected``: the time from a close to the next handshake.
    """

    name: str
    requests: int = 0
    on_new: int = 0
    whole: int = 0
    busy: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    retried: list[int] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    late: float = 0.0
    closed: Counter[str] = field(default_factory=Counter)
    echoes: int = 0
    unanswered: int = 0
    ws_lost: Counter[str] = field(default_factory=Counter)
    ws_busy: int = 0
    reconnected: list[float] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def end(self) -> None:
        self.seconds += time.monotonic() - self.began

    def lose(self, reason: str, what: str) -> None:
        self.lost[reason] += 1
        self._example(reason, what)

    def lose_ws(self, reason: str, what: str) -> None:
        self.ws_lost[reason] += 1
        self._example(reason, what)

    def _example(self, reason: str, what: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{time.monotonic() - self.began:.3f} s: {reason}: {what}")

    def report(self) -> dict[str, Any]:
        """As it is printed. Times in ms."""
        return {
            "window": self.name,
            "seconds": round(self.seconds, 1),
            "requests": self.requests,
            "on_new": self.on_new,
            "whole": self.whole,
            "busy": self.busy,
            "lost": dict(self.lost),
            "retried": self.retried,
            "ms": _spread(self.took),
            "late_ms": round(self.late * 1000, 1),
            "echoes": self.echoes,
            "closed": dict(self.closed),
            "unanswered": self.unanswered,
            "ws_lost": dict(self.ws_lost),
            "ws_busy": self.ws_busy,
            "reconnected": len(self.reconnected),
            "reconnect_ms": _spread(self.reconnected),
            "most_in_100_ms": most_within(self.attempts, 0.1),
            "examples": self.examples,
        }


def _spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    figures = {"p50": hundredths[49], "p99": hundredths[98], "max": max(seconds)}
    return {name: round(value * 1000, 2) for name, value in figures.items()}


def most_within(times: list[float], seconds: float) -> int:
    """The greatest number of ``times`` within ``seconds``."""
    ordered, first, most = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class Tally:
    """The windows, and the one that is open."""

    def __init__(self) -> None:
        self.now = Window("before")
        self.windows = {"before": self.now}

    def begin(self, name: str) -> None:
        """Ends the window that is open. One that was there before goes on."""
        self.now.end()
        self.now = self.windows.setdefault(name, Window(name))
        self.now.began = time.monotonic()
