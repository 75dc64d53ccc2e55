"""A queue between tasks.

    chan = channel.new()
    task.fork(lambda: chan.push("hello"))
    item, err = chan.pop()              # -> ("hello", None)

``new()`` makes one without a bound: any number of tasks push, and one pops. A program
that pushes what others send limits it by ``len(chan)``. ``new(size)`` makes a bounded
one, and any number of tasks push and pop: ``push`` waits while ``size`` items are
queued.

    jobs = channel.new(100)
    task.fork(lambda: jobs.push("wash up"))
    for job in jobs:
        print(job)                      # -> wash up
        jobs.close()

Tasks that wait are served first come, first served. An item goes straight to the task
that waits longest, or else into the queue. If that task is ended before it runs, the
item goes to the next one, or to the front of the queue. After ``close`` the queued
items can still be popped; then ``pop`` returns ``(None, reason)``. ``None`` can't be
pushed, because it would look like the end. ``""`` and ``0`` can, so a loop that calls
``pop`` ends with ``if item is None: break``.

Other threads may call ``push`` and ``close``, and nothing else. ``send`` and ``recv``
are the older names of ``push`` and ``pop``.
"""

from __future__ import annotations

from typing import Any

from .._wire.numbers import check_int
from ._bounded import BoundedChannel
from ._channel import Channel

__all__ = ["Channel", "new"]


def new(size: int | None = None) -> Channel[Any]:
    """Returns a new, open, empty channel; ``size`` is the most items that it queues, 1
    or more. Its items are of any type, unless the variable is annotated.

        chan = channel.new()
        jobs: channel.Channel[str] = channel.new(100)

    Without ``size`` it has no bound, and one task at a time may wait in ``pop``. With
    ``size`` any number may. Raises ValueError if ``size`` is not an int from 1 on.
    """
    if size is None:
        return Channel()
    check_int("channel.new: size", size, 1)
    return BoundedChannel(size)
