"""``Task.join``: waiting for the end of a task."""

from __future__ import annotations

from typing import Any

from .. import _log, errno
from . import scheduler, tasks
from .callers import check_timeout
from .scheduler import loop, main
from .tasks import DeadlineOver, Failure, Leaving, Task
from .waiting import Waiters

_WAIT = "task.join"
_raised: list[Failure] = []
"""What ``join`` has raised since ``_cut`` ran. One call of it is posted for all: the
loop runs a slice of tasks after each, and these may fail and join as well."""


def _join(task: Task[Any], timeout: float | None) -> tuple[Any, str | None]:
    """See ``Task.join``."""
    if loop.no_switch:
        scheduler.refuse(_WAIT)
    if timeout is not None:
        check_timeout(_WAIT, timeout)
    if task._status is not None:
        try:
            _joiners_of(task).wait(_WAIT, None, task._missed, timeout)
        except Leaving:
            return None, errno.CLOSED
        except DeadlineOver as over:
            return None, str(over)
    failure = task._failure
    if failure is not None:
        # The traceback will hold the frames that the exception now passes through, and
        # these may hold the task: a cycle. It is cut when they have got it.
        if not _raised:
            loop.post(_cut)
        _raised.append(failure)
    try:
        return task._outcome()
    finally:
        del task, failure


def _joiners_of(task: Task[Any]) -> Waiters[None]:
    """See ``tasks.joiners_of``."""
    me = scheduler.current(_WAIT)
    if task is main:
        raise ValueError("task.join: the main program can't be joined, it ends with the process")
    if task is me:
        raise RuntimeError("task.join: a task can't join itself")
    if task._joiners is None:
        task._joiners = Waiters()
    return task._joiners


def _cut() -> None:
    """Removes from the exceptions what raising them in a task that joins has added, and
    the variables of the code that has failed: these may hold the task as well."""
    failures = _raised.copy()
    _raised.clear()
    for failure in failures:
        _log.release(failure.restored())


tasks.join_task = _join
tasks.joiners_of = _joiners_of
