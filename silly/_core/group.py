"""``task.group``: a block that ends when all tasks that were forked in it have ended.

An exception of a task, or of the block, *fails* the group. It cancels the other tasks
and the block itself, and is raised when all have ended. The block is cancelled by a
blow of the group's own (``tasks.GroupBlow``), so that the end of the block can tell it
from a cancel that comes from outside. That one is not the group's to swallow: it goes
on.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from types import FrameType
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar
from weakref import ref

from .._log import task as logger
from .._shown import cut
from . import scheduler
from .cancelling import strike_soon
from .children import OUTER, Children
from .scheduler import loop, wake
from .tasks import WAIT, Blow, Cancelled, DeadlineOver, Failure, GroupBlow, Task, failure_of

P = ParamSpec("P")
T = TypeVar("T")

_WAIT = "task.group"


class Stage(Enum):
    """How far a group has come."""

    NEW = "the group's block has not begun"
    OPEN = "the block runs"
    ENDING = "the block has ended, and the tasks are awaited"
    ENDED = "the group has ended"


class Group(Children):
    """The tasks of a block. See ``task.group``."""

    __slots__ = ("_errors", "_held", "_limit", "_owner", "_running", "_stage", "shields", "strikes", "struck")

    def __init__(self, limit: int | None, frame: FrameType) -> None:
        super().__init__(_WAIT, frame)
        self._limit = limit or 0
        self._stage = Stage.NEW
        self._owner: Task[Any] | None = None
        """The task whose block it is, while the group is open or ending."""
        self._running: set[Task[Any]] = set()
        """The tasks that count for the limit: those that have started, or are ready."""
        self._held: OrderedDict[Task[Any], None] | None = None if limit is None else OrderedDict()
        """With a limit: the tasks that wait until fewer run. One that was cancelled
        meanwhile is still here until it ends, but does not wait any more."""
        self._errors: dict[int, Failure] = {}
        """What has failed it, by the ``id`` of the exception: one that a task has got
        from another, by joining it, counts once."""
        self.strikes = False
        """Whether its blow to the block has yet to strike."""
        self.struck: ref[Cancelled] | None = None
        """The last cancel that has struck in its block."""
        self.shields = 0
        """How many blocks of ``task.shield`` it is in. These don't put off its blow."""

    def fork(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Starts ``func`` as a task of the group, and returns the task. Never waits.

            with task.group(limit=2) as g:
                tasks = [g.fork(pow, 2, n) for n in range(4)]
            [t.join()[0] for t in tasks]        # -> [1, 2, 4, 8]

        ``func`` is called with all the arguments that follow it. If ``limit`` tasks of
        the group run already, the task starts when one of them has ended, after those
        that were forked before it. In a group that has failed or was cancelled the task
        never runs, and its ``join`` returns ``(None, "cancelled")``.

        Any task may call it while the group's block or one of the group's tasks goes
        on. Raises RuntimeError before the block and when the group has ended, TypeError
        if ``func`` can't be called.
        """
        if not callable(func):
            raise TypeError(f"group.fork needs a function, not {type(func).__name__}")
        if self._owner is None:
            raise RuntimeError(f"group.fork: {self._stage.value}; fork inside: with task.group() as g:")
        frame = sys._getframe(1)
        waiting = self._held
        held = self._cancelled or (waiting is not None and len(self._running) >= self._limit)
        task = scheduler.fork(func, args, kwargs or None, frame.f_code, frame.f_lasti, held=held)
        if task._status is None:
            return task  # the process ends
        self._left[task] = None
        task._keeper = self
        if self._cancelled:
            task.cancel()
        elif waiting is not None:
            if held:
                task._what = "a place in task.group"
                waiting[task] = None
            else:
                self._running.add(task)
        return task

    def ended(self, task: Task[Any]) -> None:
        """See ``Keeper``."""
        self._left.pop(task, None)
        if task._failure is not None:
            self._fail(task._failure)
        if self._held is not None:
            self._held.pop(task, None)  # it was cancelled before it could start
            self._running.discard(task)
            self._start(self._held)
        if not self._left:
            self._waiters.wake_one()

    def _start(self, held: OrderedDict[Task[Any], None]) -> None:
        """Starts tasks that were held back, as many as the limit allows."""
        while held and len(self._running) < self._limit and scheduler.starts:
            task, _ = held.popitem(last=False)
            if task._status == WAIT:
                task._what = None
                self._running.add(task)
                wake(task)

    def _fail(self, failure: Failure) -> None:
        """Notes the exception of a task, or of the block; cancels the rest at the first
        one."""
        self._errors.setdefault(id(failure.exc), failure)
        if self._cancelled:
            return
        self._cancel()
        if self._stage is Stage.OPEN:
            owner = self._owner
            assert owner is not None
            self.strikes = True
            if owner._blow is None:
                owner._blow = Blow.GROUP
            strike_soon(owner)

    # ---- the block -------------------------------------------------------------------

    def __enter__(self) -> Group:
        if loop.no_switch:
            scheduler.refuse(_WAIT)
        if self._stage is not Stage.NEW:
            raise RuntimeError("task.group: each with block needs a group of its own")
        owner = scheduler.current("task.group")
        self._owner = owner
        self._stage = Stage.OPEN
        self.shields = owner._shields
        if owner._groups is None:
            owner._groups = []
        owner._groups.append(self)
        return self

    def __exit__(self, kind: object, exc: BaseException | None, tb: object) -> Literal[False]:
        owner = self._owner
        thrown: BaseException | None = None
        assert owner is not None
        if scheduler.in_child or scheduler.closed:
            return False  # its tasks are the parent's, or gone
        if loop.current is not owner or loop.no_switch:
            self._give_up(owner)
            return False
        self._stage = Stage.ENDING
        self.strikes = False
        try:
            if isinstance(exc, GroupBlow) and exc.group is self:
                thrown = exc.replaces
            elif exc is not None:
                thrown = self._thrown(exc, owner)
            thrown = self._await(_WAIT, thrown)
            if thrown is not None and not isinstance(thrown, (*OUTER, DeadlineOver)):
                thrown = self._thrown(thrown, owner)  # by a signal handler, in the main program
            self._close(owner)
            if isinstance(thrown, OUTER):
                self._hand_on(thrown)
            elif self._errors:
                self._raise(thrown, exc)
            if thrown is not None and thrown is not exc:
                raise thrown
            return False
        finally:
            del owner, thrown  # the traceback holds this frame

    def _thrown(self, exc: BaseException, owner: Task[Any]) -> BaseException | None:
        """Acts on an exception of the block. Returns it if it comes from outside: an
        end of the owner, or a deadline around the block. Another fails the group."""
        if isinstance(exc, OUTER) or (isinstance(exc, DeadlineOver) and owner._over is not None):
            self._cancel()
            return exc
        self._fail(failure_of(exc))
        return None

    def _close(self, owner: Task[Any]) -> None:
        """Ends the group."""
        self._stage = Stage.ENDED
        self._owner = None  # an exception that ends the owner may hold the group
        if self._held is not None:
            self._held.clear()
        groups = owner._groups
        assert groups is not None
        # Not always the last of the list: blocks in generators end in any order.
        groups.remove(self)
        if owner._blow is Blow.GROUP and not any(group.strikes for group in groups):
            owner._blow = None

    def _raise(self, over: BaseException | None, exc: BaseException | None) -> NoReturn:
        """Raises what has failed the group, with ``over``, the deadline that has ended
        it. ``exc`` is the exception that is being handled: that of the block."""
        group = self._gathered(over)
        try:
            raise group
        finally:
            if exc is not None:
                group.__context__ = None  # it is among them, or the group's own blow
            del group, over, exc  # the traceback holds this frame

    def _gathered(self, over: BaseException | None) -> BaseExceptionGroup[BaseException]:
        found = [] if over is None else [over]
        found += [failure.restored() for failure in self._errors.values()]
        self._errors.clear()
        return BaseExceptionGroup(self._place, found)

    def _hand_on(self, end: BaseException) -> None:
        """The owner's ``end`` is raised, and not what has failed the group: that goes
        to the group around this one, if it is the reason, or else to the log."""
        if self._errors and isinstance(end, GroupBlow) and end.group._stage is Stage.OPEN:
            end.group._fail(Failure(self._gathered(None), None, None))
        errors, self._errors = self._errors, {}
        for exc, _, _ in errors.values():
            scheduler.report(logger, f"exception in {self._place}, which was ended meanwhile:", exc)

    def _give_up(self, owner: Task[Any]) -> None:
        """The block was left where its tasks can't be awaited."""
        self._cancel()
        self._leave()
        self._stop_timer()
        self._close(owner)
        for failure in self._errors.values():
            logger.dropped(f"exception in {self._place}:", failure.exc)
        self._errors.clear()
        if owner._status is None or owner is scheduler.main or owner in scheduler.tasks:
            raise RuntimeError(
                f"{self._place}: its block was left by another task than the one that had entered it, "
                "or in task.no_switch(); its tasks were cancelled, and not awaited"
            )
        # Else the owner was cut off at the end of the process.

    def _survivors(self) -> list[str]:
        lines = super()._survivors()
        owner = self._owner
        if self._stage is Stage.OPEN and owner is not None:
            lines.insert(0, f"the block, in {owner.name()}, which waits on {cut(owner.waiting())}")
        return lines
