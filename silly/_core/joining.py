"""``Task.join``: waiting for the end of a task."""

from __future__ import annotations

from typing import Any

from .. import errno
from .._wire.numbers import check_ms
from . import scheduler, tasks
from .scheduler import loop, main
from .tasks import DeadlineOver, Failure, Leaving, Task
from .waiting import Waiters

_WAIT = "task.join"


def _join(task: Task[Any], timeout: float | None) -> tuple[Any, str | None]:
    """See ``Task.join``."""
    if loop.no_switch:
        scheduler.refuse(_WAIT)
    if timeout is not None:
        check_ms("task.join: the time-out", timeout)
    if task._status is not None:
        try:
            _joiners_of(task).wait(_WAIT, timeout=timeout)
        except Leaving:
            return None, errno.CLOSED
        except DeadlineOver as over:
            return None, str(over)
    failure = task._failure
    if failure is not None:
        # The traceback will hold the frames that the exception now passes through, and
        # these may hold the task: a cycle. It is cut when they have got it.
        loop.post(_cut, failure)
    try:
        return task._outcome()
    finally:
        del task, failure


def _joiners_of(task: Task[Any]) -> Waiters[None]:
    """See ``tasks.joiners_of``."""
    me = scheduler.current()
    if task is main:
        raise ValueError("task.join: the main program can't be joined, it ends with the process")
    if task is me:
        raise RuntimeError("task.join: a task can't join itself")
    if task._joiners is None:
        task._joiners = Waiters()
    return task._joiners


def _cut(failure: Failure) -> None:
    """Removes from the exception what raising it in a task that joins has added."""
    BaseException.with_traceback(failure.exc, failure.traceback)
    failure.exc.__context__ = failure.context


tasks.join_task = _join
tasks.joiners_of = _joiners_of
