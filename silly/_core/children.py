"""Tasks that were started together and are awaited together: the base of
``task.group`` and ``task.map``.

**Awaiting them** is not cut short, since the block that started them must not be left
while they run. What strikes the task that waits here (a cancel, a deadline, Ctrl-C, the
process's end) is kept, and raised when the last one has ended:

* A cancel, and whatever else is thrown, cancels them all: each time, so that a second
  cancel gets through to one that has outlived the first.
* A deadline cancels them once. After that nothing is left for it to do here. It strikes
  again where the task waits next, as ever.
* The report that nothing can ever wake them (``ending.deadlock``) cancels them too. If
  it comes once more, they have outlived that, and are left to themselves.
* When nothing blocks any more, at the process's end, other tasks run turn by turn until
  the last has ended, or until all that is left is cut off.
"""

from __future__ import annotations

from types import FrameType
from typing import Any

from .._ends import ENDS
from .._log import task as logger
from .._shown import cut
from . import scheduler
from .cancelling import cancel
from .deadline import earliest_over
from .loop import monotonic
from .scheduler import loop, tasks
from .tasks import Cancelled, DeadlineOver, GroupBlow, Task
from .timers import Timer
from .waiting import Waiters

OUTER = (*ENDS, GeneratorExit)
"""What comes to a block from outside: no errors of its code."""
PATIENCE = 3.0
"""Seconds after which tasks are named in the log that a cancel has not ended."""
_NAMED = 5
"""The most tasks that are named in a line."""


class Children:
    """See the module. The classes derived from it are the ``Keeper`` of their tasks:
    ``ended`` takes a task out of ``_left``, and wakes the one that waits when none is
    left."""

    __slots__ = ("_cancelled", "_left", "_place", "_timer", "_waiters")

    def __init__(self, call: str, frame: FrameType) -> None:
        self._place = f"{call} at {frame.f_code.co_filename}:{frame.f_lineno}"
        """The call that made it, and where: a text for the log and for errors."""
        self._left: dict[Task[Any], None] = {}
        """The tasks that have not ended, in the order of forking."""
        self._cancelled = False
        """Whether they were cancelled. What is forked from then on never runs."""
        self._timer: Timer | None = None
        """The timer of ``_name``. Set when they are cancelled."""
        self._waiters: Waiters[None] = Waiters()
        """The task that waits for them: one at most."""

    def _cancel(self) -> None:
        """Cancels the tasks that are left."""
        self._cancelled = True
        for task in [*self._left]:
            if task not in tasks:
                self._left.pop(task, None)  # it was cut off at the end of the process
            elif scheduler.starts:
                cancel(task)
            # Else the process's end has ended each task by a GreenletExit. A blow on
            # top of it would strike in their ``finally`` blocks.
        if self._left and self._timer is None:
            # Internal: it must not keep silly.run waiting.
            self._timer = loop.timers.add(monotonic() + PATIENCE, Children._name, self, internal=True)

    def _missed_end(self) -> None:
        """Wakes the task that awaits the others if the last has ended since it looked:
        a finalizer may run, and wait, between any two steps."""
        if not self._left:
            self._waiters.wake_all()

    def _await(self, what: str, thrown: BaseException | None = None) -> BaseException | None:
        """Waits until each task has ended. Returns what was thrown at the current task
        meanwhile, or ``thrown``: the one that matters most. See the module."""
        me = scheduler.current(what)
        deaf = isinstance(thrown, DeadlineOver)
        deadlocks = scheduler.deadlocks
        try:
            while self._left:
                if deaf:
                    me._over = None
                try:
                    self._waiters.wait(what, None, self._missed_end)
                except DeadlineOver as over:
                    deaf = True
                    if not self._cancelled:
                        thrown = _stronger(thrown, over, me)
                        self._cancel()
                except BaseException as exc:
                    thrown = _stronger(thrown, exc, me)
                    if scheduler.deadlocks > deadlocks + 1:
                        self._leave()  # else that report would come again and again
                    self._cancel()
            return thrown
        finally:
            if deaf:
                me._over = earliest_over(me)
            self._stop_timer()
            del thrown, me  # the traceback holds this frame

    def _leave(self) -> None:
        """Leaves the tasks to themselves."""
        for task in self._left:
            task._keeper = None  # what it raises is logged
        self._left.clear()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            loop.timers.cancel(self._timer)

    def _name(self) -> None:
        """The timer's callback: names what a cancel has not ended."""
        lines = self._survivors()
        more = f" (… {len(lines) - _NAMED} more)" if len(lines) > _NAMED else ""
        if lines:
            logger.warn(f"{self._place}: {PATIENCE:g} s after its cancel these go on: {'; '.join(lines[:_NAMED])}{more}")

    def _survivors(self) -> list[str]:
        """Returns what goes on, a text for each."""
        return [
            f"{task.name()}, forked at {task.origin()}, which waits on {cut(task.waiting())}"
            for task in self._left
            if task in tasks
        ]


def _rank(exc: BaseException, task: Task[Any]) -> tuple[int, int]:
    """Returns how much ``exc`` matters, which was thrown at ``task``: less is more."""
    if isinstance(exc, GroupBlow):
        # One of a group that is around this one. It is the task's end only up to there.
        groups = task._groups or []
        return 2, groups.index(exc.group) if exc.group in groups else len(groups)
    if isinstance(exc, Cancelled):
        return 1, 0
    if isinstance(exc, OUTER):
        return 0, 0
    return (4 if isinstance(exc, DeadlineOver) else 3), 0


def _stronger(old: BaseException | None, new: BaseException, task: Task[Any]) -> BaseException:
    """Returns the exception of the two that matters more; the new one if none does."""
    if old is None:
        return new
    try:
        if _rank(new, task) > _rank(old, task):
            old, new = new, old
        if not isinstance(old, (*OUTER, DeadlineOver)):
            # An error of the block, or of a signal handler in the main program. It will
            # not be raised.
            logger.dropped(f"exception in {task}:", old)
        return new
    finally:
        del old, new
