"""``Task.cancel`` and ``task.shield``.

A cancel is one *blow*, in ``Task._blow`` until it strikes. It never switches: a task
that waits is struck in the loop's next turn, unless something wakes it before. Then it
gets what it was woken with, so nothing is lost, and the blow strikes where it next
blocks (``park`` and ``pause`` look).
"""

from __future__ import annotations

from typing import Any

from . import scheduler, tasks
from .scheduler import loop, main
from .tasks import SLEEP, WAIT, Blow, Task, take_blow


def cancel(task: Task[Any]) -> bool:
    """See ``Task.cancel``."""
    scheduler.check_thread()
    if task is main:
        raise ValueError("task.cancel: the main program can't be cancelled; silly.exit() ends the process")
    if task._status is None:
        return False
    if task._greenlet is None:
        scheduler.drop(task)
        if task._status == WAIT:
            scheduler.wake(task)  # a group holds it back
    elif task._shields:
        task._blow = Blow.PUT_OFF
    elif task._blow is None or task._blow is Blow.GROUP:
        task._blow = Blow.STRIKES
        strike_soon(task)
    return True


def strike_soon(task: Task[Any]) -> None:
    """Strikes a task that waits in the loop's next turn."""
    if task._status in (WAIT, SLEEP):
        loop.post(_strike, task)


def _strike(task: Task[Any]) -> None:
    """Strikes the task, unless it was woken meanwhile."""
    if task._blow is not None and task._status in (WAIT, SLEEP) and (blow := take_blow(task)) is not None:
        scheduler.throw(task, blow)


class Shield:
    """See ``task.shield``."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: Task[Any] | None = None

    def __enter__(self) -> None:
        if self._task is not None:
            raise RuntimeError("task.shield: each with block needs a shield of its own")
        task = self._task = scheduler.current()
        task._shields += 1
        if task._blow is Blow.STRIKES:
            task._blow = Blow.PUT_OFF

    def __exit__(self, *exc: object) -> None:
        task = self._task
        assert task is not None
        task._shields -= 1
        if not task._shields and task._blow is Blow.PUT_OFF:
            task._blow = Blow.STRIKES
        if task._blow is not None and task._status in (WAIT, SLEEP):
            loop.post(_strike, task)  # another task has ended a generator of its


tasks.cancel_task = cancel
