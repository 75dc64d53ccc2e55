"""How long small things take: CPU nanoseconds each."""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import median
from time import process_time

LEAST = 0.02
"""Seconds of CPU time that one repeat takes at least."""
REPEATS = 7


def measure(repeat: Callable[[int], object]) -> float:
    """CPU ns of one of the ``count`` things that ``repeat(count)`` does: the median of some repeats."""
    count = 1
    while True:
        begin = process_time()
        repeat(count)
        took = process_time() - begin
        if took >= LEAST:
            break
        count = max(count + 1, int(count * min(10.0, 1.3 * LEAST / took if took > 0 else 10.0)))
    figures = []
    for _ in range(REPEATS):
        begin = process_time()
        repeat(count)
        figures.append((process_time() - begin) / count * 1e9)
    return median(figures)


def times(func: Callable[[], object]) -> Callable[[int], None]:
    """Calls ``func`` as often as ``measure`` asks for."""

    def repeat(count: int) -> None:
        for _ in range(count):
            func()

    return repeat


def report(measures: dict[str, Callable[[int], object]]) -> None:
    """Measures each and prints all as JSON."""
    print(json.dumps({name: measure(repeat) for name, repeat in measures.items()}), flush=True)
