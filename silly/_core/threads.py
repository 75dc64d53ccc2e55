"""Between tasks and threads: ``task.thread``, ``task.post``, ``task.call``, and what
``silly.hive`` is built on.

A task gives a thread a function by ``run``. A thread gives the loop a function by
``post`` or ``call``, which use ``Loop.post`` and so need no lock: a signal handler and
a finalizer may call ``post`` too.

**A thread that waits in** ``call`` **never hangs** because silly has ended. The loop
can't tell it: at the end of the interpreter it no longer turns, while Python waits for
that thread. So the thread looks itself, every ``LOOK`` seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from threading import get_ident
from types import CodeType
from typing import Any

from .. import errno
from .._ends import ENDS
from .._log import task as logger
from .._shown import name_of
from . import scheduler, worker
from .result import Error
from .scheduler import loop, over
from .tasks import DeadlineOver, Leaving, Task
from .waiting import Waiters

LOOK = 0.25
"""Seconds between two looks of a thread in ``task.call`` whether silly has ended."""
MOST = 1024
"""The most threads that ``task.threads`` allows."""

Outcome = tuple[Any, BaseException | None]
"""``(result, None)`` of a function, or ``(None, exception)``."""


# ---- from a task to a thread ---------------------------------------------------------


def run(
    pool: worker.Workers, what: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], who: object = None
) -> Outcome:
    """Calls ``func(*args, **kwargs)`` in a thread of ``pool``, with a copy of the
    task's context variables, and returns its outcome. ``what`` is the public call that
    waits, ``who`` the function that the log names, if it isn't ``func``.

    If the task is interrupted, a function that has not begun is not called; one that
    has goes on, and its result is dropped. Raises what ``Waiters.wait`` raises, and
    ``NoThread`` if the system refuses even one thread.
    """
    _check(what)
    waiting: Waiters[Outcome] = Waiters()

    def done(result: Any, exc: BaseException | None) -> None:
        if not waiting.wake_one((result, exc)):
            dropped((result, exc))

    def dropped(outcome: Outcome) -> None:
        exc = outcome[1]
        if exc is not None and not isinstance(exc, ENDS):
            logger.dropped(f"{what}: exception in {name_of(who or func)}, whose result nobody awaits any more:", exc)

    job = pool.submit(loop, partial(copy_context().run, func, *args, **kwargs), (), done, who or func)
    worker.waited_for.add(job)
    try:
        return waiting.wait(what, dropped)
    finally:
        worker.waited_for.discard(job)
        job.give_up()


def _check(what: str) -> None:
    """Raises what a wait would raise at once, so that nothing has begun then."""
    task = scheduler.current()
    if scheduler.leaving():
        raise Leaving
    scheduler.check_wait(task, what)


def result(outcome: Outcome) -> Any:
    """Returns the result of a function, or raises its exception."""
    value, exc = outcome
    if exc is None:
        return value
    try:
        raise exc
    finally:
        del outcome, exc  # the traceback refers to this frame


def thread(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, str | None]:
    """See ``task.thread``."""
    try:
        outcome = run(worker.calls, "task.thread", func, args, kwargs)
    except DeadlineOver as over:
        return None, str(over)
    except Leaving:
        return None, errno.CLOSED
    except worker.NoThread as refused:
        return None, f"task.thread: {refused}"
    try:
        return result(outcome), None
    finally:
        del outcome


def threads(most: int | None) -> int:
    """See ``task.threads``."""
    before = worker.calls.most
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int):
            raise TypeError(f"task.threads needs an int, not {type(most).__name__}")
        if not 1 <= most <= MOST:
            raise ValueError(f"task.threads: {most} is not from 1 to {MOST}")
        worker.calls.resize(most)
    return before


# ---- from a thread to a task ---------------------------------------------------------


def post(func: Callable[..., object], args: tuple[Any, ...], code: CodeType, lasti: int) -> bool:
    """See ``task.post``."""
    if not scheduler.starts or over():
        return False
    loop.post(scheduler.fork, func, args, None, code, lasti, copy_context())
    return True


class Call:
    """A call of ``task.call``: the keeper of its task. The thread waits for it."""

    __slots__ = ("_alone", "_ended", "_func", "_task", "_why")

    def __init__(self, func: Callable[..., Any]) -> None:
        self._func = func
        self._task: Task[Any] | None = None
        """The task, when it has ended."""
        self._why = "the process is ending"
        """Why the call has no result, if the task has ended without one."""
        self._alone = False
        """Whether the thread waits no longer."""
        self._ended = threading.Lock()
        """The thread waits until it is released."""
        self._ended.acquire()

    def begin(self, args: tuple[Any, ...], context: Context, code: CodeType, lasti: int) -> None:
        """Starts the task. Runs in the loop's thread."""
        task: Task[Any] | None = None
        try:
            task = scheduler.fork(self._func, args, None, code, lasti, context)
        finally:
            if task is None or task.done:
                self._ended.release()  # it will not run: the process ends
            else:
                task._keeper = self

    def ended(self, task: Task[Any]) -> None:
        """The task has ended."""
        self._task = task
        if task._cancelled and scheduler.begins:
            self._why = "it was cancelled"
        self._ended.release()
        if self._alone and task._failure is not None:
            text = f"task.call: exception in {name_of(self._func)}, for which no thread waits any more:"
            logger.dropped(text, task._failure.exc)

    def wait(self) -> Any:
        """Waits in the thread for the task's end, and returns its result."""
        try:
            while not self._ended.acquire(timeout=LOOK):
                if over():
                    raise self.failed("silly has ended")
        except BaseException:
            self._alone = True
            raise
        task, self._task = self._task, None
        if task is None or task._cancelled:
            raise self.failed(self._why)
        return task._outcome()[0]

    def failed(self, why: str) -> Error:
        """Returns the error for a call without a result."""
        return Error(f"task.call: {name_of(self._func)} has no result: {why}")


def call(func: Callable[..., Any], args: tuple[Any, ...], code: CodeType, lasti: int) -> Any:
    """See ``task.call``."""
    if get_ident() == loop.thread:
        raise RuntimeError(
            f"task.call: called in silly's own thread, where it would wait for ever; "
            f"call {name_of(func)} itself, or start it with task.fork"
        )
    if scheduler.in_child:
        raise RuntimeError(scheduler.not_here(""))
    waiting = Call(func)
    if not scheduler.starts or over():
        raise waiting.failed("the process is ending")
    loop.post(waiting.begin, args, copy_context(), code, lasti)
    return waiting.wait()
