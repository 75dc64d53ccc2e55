"""Tasks (upstream: ``silly.task``): functions that run side by side and block as they please.

``fork`` puts a function on a queue; the caller goes on. Tasks run one at a time, each until it blocks: between two blocking
calls no other task runs, so plain data needs no locks. What blocks: ``task.wait``, ``time.sleep``, ``channel.pop`` of an
empty channel, ``read`` on any connection, ``connect``, and ``write`` past a connection's high mark. What never blocks:
``fork``, ``wakeup``, ``time.after``, ``listen``, ``channel.push``. ``time.deadline`` bounds what blocks.

``fork`` and ``wakeup`` append to one FIFO queue, which is run after every event. An exception ends its task alone, and is
logged with its traceback. Each task starts with a copy of its forker's context variables.

    def greet(name):
        time.sleep(1000)
        print("hello", name)

    task.fork(greet, "world")
    silly.run()
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, TypedDict

from greenlet import GreenletExit

from ._core import scheduler
from ._core.scheduler import Task

__all__ = ["Task", "fork", "hook", "inspect", "readycount", "running", "status", "wait", "wakeup"]

_WAIT = "task.wait"


class Inspection(TypedDict):
    """What ``inspect`` tells of a task."""

    name: str
    status: str
    waits: str
    forked: str
    traceback: str


def fork(func: Callable[..., object], userdata: Any = None) -> Task:
    """Starts ``func`` as a task, after the tasks that are ready now, and returns it.

    ``func`` gets ``userdata`` if that isn't None, else no argument. Raises TypeError for what can't be called, and
    RuntimeError in another thread than the loop's. ``fork`` also works as a decorator of a function without arguments.
    """
    if not callable(func):
        raise TypeError(f"task.fork needs a function, not {type(func).__name__}")
    frame = sys._getframe(1)
    return scheduler.fork(func, userdata, frame.f_code, frame.f_lasti)


def wait() -> Any:
    """Blocks until another task calls ``wakeup`` on this one, and returns the result given there.

    Raises TimeoutError when a ``time.deadline`` runs out; a ``wakeup`` that comes after that is one too many, and raises.
    """
    if scheduler.leaving():
        raise GreenletExit
    return scheduler.park(_WAIT)


def wakeup(task: Task, result: Any = None) -> None:
    """Makes a task that is blocked in ``wait`` ready, with the value that ``wait`` returns there.

    Raises RuntimeError for a task in any other state: that is a bug in the program. Raises TypeError for what is no task.
    """
    scheduler.check_thread("task.wakeup")
    if not isinstance(task, Task):
        raise TypeError(f"task.wakeup needs a task, not {type(task).__name__}")
    if task._status != scheduler.WAIT:
        raise RuntimeError(f"BUG: wakeup on task stat:{task._status}, {task}")
    if task._what is not _WAIT:
        raise RuntimeError(f"BUG: wakeup of {task}, which waits on {task.waiting()}, not in task.wait")
    scheduler.wake(task, result)


def running() -> Task:
    """The task that runs now: the caller. The main program counts as one."""
    return scheduler.current()


def status(task: Task) -> str | None:
    """``"RUN"``, ``"WAIT"``, ``"READY"``, ``"SLEEP"`` (in ``time.sleep``), or None when it has finished."""
    if not isinstance(task, Task):
        raise TypeError(f"task.status needs a task, not {type(task).__name__}")
    return task._status


def readycount() -> int:
    """How many tasks are ready to run."""
    return len(scheduler.loop.ready) + len(scheduler.loop.deferred)


def inspect() -> dict[Task, Inspection]:
    """Every task that hasn't finished: name, status, what it waits on, where it was forked, and its stack."""
    everyone = [*scheduler.tasks]
    if scheduler.main._status != scheduler.RUN or scheduler.loop.current is scheduler.main:
        everyone.append(scheduler.main)
    caller = sys._getframe(1)
    return {task: _inspect(task, caller) for task in everyone}


def _inspect(task: Task, caller: FrameType) -> Inspection:
    green = task._greenlet
    frame = caller if task is scheduler.loop.current else green.gr_frame if green is not None else None
    stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
    return {
        "name": task.name(),
        "status": task._status or "",
        "waits": task.waiting(),
        "forked": task.origin(),
        "traceback": stack,
    }


def hook(create: Callable[[Task], object] | None = None, term: Callable[[Task], object] | None = None) -> None:
    """Calls ``create(task)`` whenever a task is forked and ``term(task)`` when one ends; None removes a hook.

    ``term`` runs in the task that ends, and must not block.
    """
    scheduler.hook(create, term)
