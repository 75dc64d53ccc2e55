"""Shuffling of the ready tasks: see ``testing.shuffled``.

Ready tasks are in one queue, and a task that blocks switches straight to its first. For
the time of a block a slice of the ready tasks is one task long, so each task that
blocks comes back to the hub, which chooses the next one.
"""

from __future__ import annotations

import random
from types import TracebackType

from .._core import scheduler
from .._wire.numbers import check_int
from . import _clock

_loop = scheduler.loop
_active = False


class Shuffled:
    """A ``with testing.shuffled(seed)`` block. ``seed`` is an int."""

    def __init__(self, seed: int | None) -> None:
        self.seed = random.randrange(2**32) if seed is None else seed
        self._random = random.Random(self.seed)
        self._run_ready = _loop.run_ready
        self._slice = scheduler.SLICE

    def __enter__(self) -> Shuffled:
        global _active
        scheduler.check_thread()
        if _active:
            raise RuntimeError("testing.shuffled: the tasks are shuffled already")
        if _loop.no_switch:
            scheduler.refuse("testing.shuffled")
        _active = True
        self._run_ready = _loop.run_ready
        _loop.run_ready = self._run
        scheduler.SLICE = 1
        _loop.left = 0  # of the slice that runs now
        # To the beginning of a turn: the order must not depend on where this one is.
        try:
            scheduler.pause()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        _clock.count_anew()
        self._random.seed(self.seed)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        global _active
        _active = False
        _loop.run_ready = self._run_ready
        scheduler.SLICE = self._slice
        if exc is not None:
            exc.add_note(f"the tasks were shuffled: testing.shuffled({self.seed})")

    def _run(self) -> None:
        """Runs at most a slice of the ready tasks, in a random order."""
        ready = _loop.ready
        for _ in range(self._slice):
            if not ready or not _active:
                return
            at = self._random.randrange(len(ready))
            # One call for each change: a signal handler may append between any two.
            chosen = ready[at]
            del ready[at]
            ready.appendleft(chosen)
            self._run_ready()


def shuffled(seed: int | None = None) -> Shuffled:
    """Runs the ready tasks in a random order in a ``with`` block, to find bugs that one
    order of events hides. The same ``seed`` (int) gives the same order.

        for seed in range(100):
            with testing.shuffled(seed):
                first = task.fork(time.sleep, 0)
                second = task.fork(time.sleep, 0)
                first.join()
                second.join()

    Without a seed it takes a random one. An exception that leaves the block gets a note
    with the seed. All else that the order depends on must be the same too: with
    ``testing.clock`` and ``testing.pair`` neither time nor a network is part of it.

    Only which of the ready tasks runs next is random. A task still goes on until it
    blocks, timers fire in their order, and what comes on one connection stays in order.
    Raises ValueError for a seed that isn't an int of at least 0, and RuntimeError where
    the tasks are shuffled already.
    """
    if seed is not None:
        check_int("testing.shuffled: the seed", seed)
    return Shuffled(seed)
