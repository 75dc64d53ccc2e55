"""What a task is, how it ends, and the exceptions that strike where it waits. The
scheduler runs tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from enum import Enum
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar
from weakref import ref

from greenlet import GreenletExit

from .._shown import name_of, traceback_of
from ._accelerated import TaskFields
from .result import returns_pair

if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar

    from .deadline import Deadline
    from .group import Group
    from .waiting import Waiters

    T = _TypeVar("T", default=Any)
else:
    T = TypeVar("T")

_context = BaseException.__dict__["__context__"]
"""The context of an exception, whatever its class makes of that word. (A frozen
dataclass lets nothing be set.)"""

RUN = "RUN"
WAIT = "WAIT"
READY = "READY"
SLEEP = "SLEEP"


class DeadlineOver(TimeoutError):
    """Raised where a task blocks when its deadline runs out."""


class Leaving(GreenletExit):
    """Raised where a task blocks when nothing blocks any more: the time of the
    process's end is over."""


class Cancelled(GreenletExit):
    """Raised where a task waits that was cancelled (``Task.cancel``). It is an end, not
    an error: ``except Exception`` and ``silly.pcall`` let it pass, and a task that it
    ends is not logged."""


class Blow(Enum):
    """A cancel that has not struck yet. A task without one has None."""

    STRIKES = "strikes where the task next waits"
    PUT_OFF = "put off by task.shield"
    GROUP = "of a group that has failed, whose block the task is in"


class GroupBlow(Cancelled):
    """The blow of a group that has failed, to the task that is in its block. The group
    knows it by ``group``, and replaces it by the exceptions.

    If it strikes where the block cleans up after a cancel, it takes the place of that
    one, which must not be lost: ``replaces``."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.group = group
        # A cancel that the block has swallowed is gone.
        self.replaces: Cancelled | None = None if group.struck is None else group.struck()


class Failure(NamedTuple):
    """The exception that has ended a task, and what it was then. Each task that joins
    raises it, and so adds its own frames and context."""

    exc: BaseException
    traceback: TracebackType | None
    context: BaseException | None

    def restored(self) -> BaseException:
        """Returns the exception as it was then."""
        _context.__set__(self.exc, self.context)
        return BaseException.with_traceback(self.exc, self.traceback)


def failure_of(exc: BaseException, inner: bool = False) -> Failure:
    """Returns the failure of code that has raised ``exc``. ``inner``: without the frame
    that has caught it, which goes on, and must not be held."""
    trace = traceback_of(exc)
    if inner and trace is not None:
        trace = trace.tb_next
        BaseException.with_traceback(exc, trace)
    return Failure(exc, trace, _context.__get__(exc))


class Keeper(Protocol):
    """What a task was started for, such as a group. It reports an exception of the
    task, so that none is logged; one with ``awaits = False`` doesn't."""

    def ended(self, task: Task[Any]) -> object:
        """``task`` has ended. Called before the tasks that join it are woken, most
        often in its own greenlet. Must not wait."""


def _unset(task: Task[Any], *args: Any) -> Any:
    raise RuntimeError("nothing is set")


join_task: Callable[[Task[Any], float | None], tuple[Any, Any]] = _unset
"""Implements ``Task.join``. ``joining`` sets it and the next, ``cancelling`` the
last."""
joiners_of: Callable[[Task[Any]], Waiters[None]] = _unset
"""Returns the queue of those that join a task, which has not finished. Raises if the
current task can't join it."""
cancel_task: Callable[[Task[Any]], bool] = _unset


class Task(TaskFields, Generic[T]):
    """A function that was forked. ``T`` is what the function returns."""

    __slots__ = (
        "__weakref__",
        "_args",
        "_cancelled",
        "_code",
        "_context",
        "_deadlines",
        "_failure",
        "_func",
        "_groups",
        "_joiners",
        "_keeper",
        "_kwargs",
        "_lasti",
        "_shields",
    )

    def __init__(
        self,
        func: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        code: CodeType | None,
        lasti: int,
    ) -> None:
        self._func: Callable[..., T] | None = func
        self._args = args
        self._kwargs = kwargs
        self._status = READY
        self._value = None
        self._what = None
        self._greenlet = None
        self._context: Context | None = None
        """Without one it starts in an empty context, which Python makes when the task
        first needs it: few handlers of connections do."""
        self._deadlines: list[Deadline] | None = None
        self._over = None
        self._blow = None
        self._shields = 0
        """How many blocks of ``task.shield`` it is in."""
        self._cancelled = False
        """Whether it has finished without a result and without an error: it was
        cancelled, never ran, or its end was another GreenletExit."""
        self._failure: Failure | None = None
        """The error that has ended it, once it has finished."""
        self._joiners: Waiters[None] | None = None
        """The tasks that wait in ``join``."""
        self._keeper: Keeper | None = None
        self._groups: list[Group] | None = None
        """The groups whose blocks it is in, the outermost first."""
        # ``origin`` works the line number out on demand: that costs more than a fork.
        self._code = code
        self._lasti = lasti

    @property
    def done(self) -> bool:
        """Whether it has finished: ``join`` would not wait."""
        return self._status is None

    @returns_pair("task.join", "value")
    def join(self, timeout: float | None = None) -> tuple[T, None] | tuple[None, str]:
        """Waits until the task has finished, for at most ``timeout`` milliseconds, and
        returns ``(value, None)``: what its function has returned.

            t = task.fork(lambda: 6 * 7)
            value, err = t.join()           # -> (42, None)

        The errors: ``(None, "cancelled")`` if the task was cancelled or did not run to
        its end because the process ends; ``(None, "task.join: the time-out of 100 ms
        ran out")``, and so for a ``time.deadline``: the task goes on;
        ``(None, errno.CLOSED)`` when nothing waits any more at the process's end.

        An exception that has ended the task is raised here, in each task that joins. It
        is logged as well, unless a task waited for it when it came.

        Raises RuntimeError if a task joins itself, and ValueError for the main program,
        which ends with the process.
        """
        return join_task(self, timeout)

    def cancel(self) -> bool:
        """Ends the task where it waits, by raising ``Cancelled`` there. Never waits.
        Returns False if the task has finished already.

            t = task.fork(lambda: time.sleep(60_000))
            time.sleep(0)
            t.cancel()                      # -> True
            t.join()                        # -> (None, "cancelled")

        It is one blow. It strikes once, where the task waits, or else where it next
        waits or yields (``time.sleep(0)`` too); a task that was woken meanwhile gets
        what it was woken with first. After the blow, in ``finally`` and ``with``
        blocks, calls block as ever, and a second ``cancel`` strikes again. A task that
        has not started never runs. A task that cancels itself is struck at its next
        wait. ``task.shield`` puts the blow off.

        Raises ValueError for the main program, and RuntimeError in another thread.
        """
        return cancel_task(self)

    # For ``task.select``: see ``select.py``.

    def _ready(self) -> bool:
        if self._status is None:
            return True
        joiners_of(self)
        return False

    def _watch(self, watch: Task[Any]) -> None:
        joiners_of(self).add(watch)

    def _unwatch(self, watch: Task[Any]) -> None:
        if self._joiners is not None:
            self._joiners.remove(watch)

    def _missed(self) -> None:
        """Wakes the tasks that join it if it has ended since they looked: a finalizer
        may run, and wait, between any two steps."""
        if self._status is None and self._joiners is not None:
            self._joiners.wake_all()

    def _outcome(self) -> tuple[T, None] | tuple[None, str]:
        """Returns the result of a finished task as ``join`` does, or raises the
        exception that has ended it, as it was then."""
        failure = self._failure
        if failure is None:
            return (None, "cancelled") if self._cancelled else (self._value, None)
        try:
            raise failure.restored()
        finally:
            del self, failure  # the traceback holds this frame

    def name(self) -> str:
        """Returns the name of its function (see ``name_of``), or ``main``."""
        func = self._func
        return name_of(func) if func is not None else "finished"

    def origin(self) -> str:
        """Returns where it was forked, as ``file:line``."""
        code = self._code
        if code is None:
            return "the main program"
        line = next((ln for start, end, ln in code.co_lines() if start <= self._lasti < end), None)
        return f"{code.co_filename}:{line or code.co_firstlineno}"

    def waiting(self) -> str:
        """Returns what it waits on, in words."""
        if self._status == READY:
            return "its turn to run"
        if self._status == RUN:
            return "nothing: it runs"
        if not self._deadlines:
            return str(self._what)
        soonest = min(self._deadlines, key=when_of)
        return f"{self._what}, within a {soonest.word} of {soonest.ms:.15g} ms"

    def __repr__(self) -> str:
        state = "finished" if self._status is None else f"{self.name()} {self._status}"
        return f"<task {state}, forked at {self.origin()}>"


def take_blow(task: Task[Any]) -> Cancelled | None:
    """Removes the blow that strikes ``task`` if it waits now, and returns it. Returns
    None if each is put off."""
    if task._blow is Blow.STRIKES:
        cancelled = Cancelled()
        task._blow = None
        for group in task._groups or ():
            group.struck = ref(cancelled)
            if group.strikes:
                task._blow = Blow.GROUP
        return cancelled
    # A shield that is around the block of the group does not put off the group's blow.
    for group in task._groups or ():
        if group.strikes and task._shields <= group.shields:
            group.strikes = False
            return GroupBlow(group)
    return None


def when_of(deadline: Deadline) -> float:
    """Returns when ``deadline`` strikes."""
    return deadline.when
