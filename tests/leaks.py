"""Whether calls leak memory or references, for the tests of the code in C."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Sequence


def leaks_nothing(run: Callable[[], object], held: Sequence[object] = (), warm: int = 100) -> None:
    """``run`` leaves no memory behind, and no references to the objects ``held``. It runs ``warm`` times first.

    A leak would be some bytes for each of 10,000 calls, every time; what the interpreter keeps for itself now and then is not.
    """
    tracemalloc.start()
    try:
        for _ in range(warm):
            run()
        grown = []
        while len(grown) < 3:
            gc.collect()
            before, counts = tracemalloc.get_traced_memory()[0], [sys.getrefcount(item) for item in held]
            for _ in range(10_000):
                run()
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - before)
            assert [item for item, count in zip(held, counts, strict=True) if abs(sys.getrefcount(item) - count) > 500] == []
            if grown[-1] < 5_000:
                return
    finally:
        tracemalloc.stop()
    raise AssertionError(f"10,000 calls leave so many bytes behind: {grown}")
