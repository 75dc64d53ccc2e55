"""Whether calls leak memory or references: of the code in C above all, and by way of exceptions."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from .net.support import until


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


class Thing:
    """What ``raises`` is called with."""


def raises(thing: Thing) -> None:
    raise ValueError


def leaves_no_cycle(call: Callable[[Thing], Any]) -> None:
    """``call(thing)`` calls ``raises(thing)``, most likely in a thread, and raises its exception. Nothing keeps ``thing``,
    though the collector doesn't run."""
    gc.collect()
    gc.disable()
    try:
        thing = Thing()
        ref = weakref.ref(thing)
        try:
            call(thing)
        except ValueError:
            pass
        else:
            pytest.fail("nothing was raised")
        del thing
        until(lambda: ref() is None)  # the thread may be at the end of its work
    finally:
        gc.enable()
