"""Deadlines: the objects that ``time.deadline`` returns.

A ``Deadline`` bounds a block of its task. Its timer *strikes*: a task that waits gets
``DeadlineOver`` where it waits, at once; one that runs or is ready gets it where it
would block next (``park`` checks ``Task._over``). A task that was woken before the
deadline struck still gets its wake-up value, so nothing that was handed over is lost.

Blocks nest, and blocks in generators end in any order. So a task has a list of its open
deadlines. ``_over`` is the earliest of those that have struck.
"""

from __future__ import annotations

from greenlet import getcurrent

from . import scheduler
from .loop import monotonic
from .scheduler import loop
from .tasks import SLEEP, WAIT, DeadlineOver, Task, take_blow, when_of
from .timers import Timer

active = 0
"""How many deadlines have yet to strike. While one has, something can wake its task."""


class Deadline:
    """Bounds how long the current task may wait in a ``with`` block; see
    ``time.deadline``."""

    __slots__ = ("_over", "_task", "_timer", "ms", "when")
    word = "deadline"

    def __init__(self, ms: float) -> None:
        self.ms = ms
        self.when = 0.0
        self._over = False
        self._task: Task | None = None
        self._timer: Timer | None = None

    @property
    def expired(self) -> bool:
        """Whether the time is over. The value is frozen when the block ends."""
        if not self._over and self._task is not None:
            return monotonic() >= self.when
        return self._over

    def text(self, what: object) -> str:
        """Returns the error text for the operation ``what`` that it ended."""
        return f"{what}: the {self.word} of {self.ms:.15g} ms ran out"

    def __enter__(self) -> Deadline:
        global active
        task: Task | None = loop.current
        if task is None or task._greenlet is not getcurrent():
            raise RuntimeError(scheduler.not_here("no task runs", "time.deadline"))
        if self._timer is not None:
            raise RuntimeError("time.deadline: each with block needs a deadline of its own")
        self._task = task
        self.when = monotonic() + self.ms / 1000
        # Internal: a deadline alone must not keep silly.run waiting.
        self._timer = loop.timers.add(self.when, _strike, self, internal=True)
        active += 1
        if task._deadlines is None:
            task._deadlines = []
        task._deadlines.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends it: its block was left, or its task finished without leaving the
        block."""
        global active
        self._over = self.expired
        task, self._task = self._task, None
        if task is None:
            return
        assert self._timer is not None
        if loop.timers.cancel(self._timer):
            active -= 1
        assert task._deadlines is not None
        # Not always the last of the list: blocks in generators end in any order.
        task._deadlines.remove(self)
        if task._over is self:
            task._over = earliest_over(task)


class Timeout(Deadline):
    """Bounds one wait: the time-out that a call was given."""

    __slots__ = ()
    word = "time-out"


def earliest_over(task: Task) -> Deadline | None:
    """Returns the earliest of the task's deadlines that have struck."""
    return min((each for each in task._deadlines or () if each._over), key=when_of, default=None)


def _strike(deadline: Deadline) -> None:
    """The timer's callback."""
    global active
    active -= 1
    task = deadline._task
    assert task is not None
    deadline._over = True
    if task._over is None:
        task._over = deadline
    if task._status in (WAIT, SLEEP):
        blow = take_blow(task) if task._blow is not None else None
        scheduler.throw(task, blow or DeadlineOver(task._over.text(task._what)))
