"""The scheduler: tasks on greenlets, on the loop. ``silly.task`` is its public face.

A *task* is a function that was forked. It runs in a greenlet of a pool (starting a
pooled greenlet costs a twentieth of a new one) with a copy of its forker's context
variables. The main greenlet, the one that imported us and runs the script or the REPL,
is a task too, so a plain script may block. The loop lives in a greenlet of its own, the
*hub*. A task that blocks switches to the hub, or straight to the next ready task.

**Blocking and waking.** ``park(what)`` blocks the current task, and returns what the
waker passed to ``wake(task, value)``. A primitive stands on ``waiting.Waiters``, which
holds the rules of that; its header has an example. ``task.wait``, ``time.sleep`` and
``Stream.fill`` are written on ``park`` itself, and hold to the rules by hand:

* Clear the place where the task was remembered first, then wake: so nothing wakes it
  twice.
* ``park`` may raise anything that is thrown at the task (GreenletExit, KeyboardInterrupt,
  ``DeadlineOver``): then the primitive clears that place itself.
* ``park`` raises ``DeadlineOver`` when the task's deadline runs out, or has. A primitive
  with an error in its result returns that (``ran_out`` makes the text).
* Before it remembers the task it asks ``leaving()``. When the process is ending that
  yields once and is True: nothing blocks any more, and the primitive returns
  ``errno.CLOSED``.
* What can wake a task by an event of a descriptor is watched by the loop (``loop.watch``).

Deadlines are in ``deadline.py``, the start and the end of the process in ``ending.py``.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from contextvars import Context, copy_context
from threading import get_ident
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from greenlet import GreenletExit, getcurrent, greenlet

from .. import logger
from .loop import Loop
from .signals import forget_signals, interrupt_safely

if TYPE_CHECKING:
    from .deadline import Deadline

SLICE = 256
"""Tasks that run before I/O is looked at again."""
POOL = 1024
"""Idle greenlets kept: a burst of connections beyond them costs 10 µs each."""

RUN = "RUN"
WAIT = "WAIT"
READY = "READY"
SLEEP = "SLEEP"


class Task:
    """A forked function. Opaque: give it to ``task.wakeup`` and ``task.status``."""

    __slots__ = (
        "__weakref__",
        "_code",
        "_context",
        "_deadlines",
        "_func",
        "_greenlet",
        "_lasti",
        "_over",
        "_status",
        "_userdata",
        "_value",
        "_what",
    )

    def __init__(self, func: Callable[..., object], userdata: Any, code: CodeType | None, lasti: int) -> None:
        self._func: Callable[..., object] | None = func
        self._userdata = userdata
        self._status: str | None = READY
        self._value: Any = None
        self._what: Any = None
        self._greenlet: greenlet | None = None
        self._context: Context | None = None
        self._deadlines: list[Deadline] | None = None
        self._over: Deadline | None = None
        # The line number is worked out when somebody asks: that costs more than the
        # fork.
        self._code = code
        self._lasti = lasti

    def name(self) -> str:
        """The function's qualified name, or ``main``."""
        func = self._func
        return str(getattr(func, "__qualname__", func)) if func is not None else "finished"

    def origin(self) -> str:
        """Where it was forked, as ``file:line``."""
        code = self._code
        if code is None:
            return "the main program"
        line = next((ln for start, end, ln in code.co_lines() if start <= self._lasti < end), None)
        return f"{code.co_filename}:{line or code.co_firstlineno}"

    def waiting(self) -> str:
        """What it waits on, in words."""
        if self._status == READY:
            return "its turn to run"
        if self._status == RUN:
            return "nothing: it runs"
        if not self._deadlines:
            return str(self._what)
        soonest = min(self._deadlines, key=when_of)
        return f"{self._what}, within a deadline of {soonest.ms:.15g} ms"

    def __repr__(self) -> str:
        return f"<task {self.name()} {self._status or 'finished'}, forked at {self.origin()}>"


def when_of(deadline: Deadline) -> float:
    """When it strikes."""
    return deadline.when


loop = Loop()
tasks: dict[Task, None] = {}
"""Every forked task that hasn't finished, in the order of forking (a dict: an ordered
set)."""

exiting = False
"""Whether the process is in a phase in which nothing blocks, and nothing is started.
``ending`` sets it."""
in_child = False
"""Whether this is a child of ``os.fork``, where nothing of this works."""
system_exit: Callable[[SystemExit], object] = loop.interrupted
"""Gets the ``sys.exit`` of a task. ``ending`` sets it; before that nothing does, and
the hub gets the exception."""
_pool: list[greenlet] = []
_on_create: Callable[[Task], object] | None = None
_on_term: Callable[[Task], object] | None = None


def _main() -> None:
    raise RuntimeError("the main program is not forked")


def _make_main() -> Task:
    task = Task(_main, None, None, 0)
    task._greenlet = main_greenlet
    task._status = RUN
    _main.__qualname__ = "main"
    return task


main_greenlet = getcurrent()
main = _make_main()
loop.current = main


def current() -> Task:
    """The running task (the main program counts as one). Raises RuntimeError in a loop
    callback or another thread."""
    task: Task | None = loop.current
    if task is None or task._greenlet is not getcurrent():
        raise RuntimeError(not_here("only a task can be asked for", "this"))
    return task


def not_here(verb: str, what: Any) -> str:
    """Why ``what`` is impossible here, where no task of ours runs; ``verb``: what can't
    be done in a callback."""
    if in_child:
        return f"BUG: {what}: in a child of os.fork(); silly belongs to the process that imported it"
    if get_ident() != loop.thread:
        return f"BUG: {what}: called from another thread; silly belongs to the thread that imported it"
    if getcurrent() is hub:
        return f"BUG: {what}: {verb} in a callback of the loop; fork a task instead"
    return f"BUG: {what}: {verb} in a greenlet that silly did not start"


def check_thread(what: str) -> None:
    """Raises RuntimeError in another thread than the loop's."""
    if get_ident() != loop.thread:
        raise RuntimeError(not_here("", what))


def park(what: Any, status: str = WAIT) -> Any:
    """Blocks the current task until ``wake(task, value)``, and returns that value.
    ``what``: on what, for people."""
    task: Task | None = loop.current
    if task is None or task._greenlet is not getcurrent():
        raise RuntimeError(not_here("cannot block", what))
    if task._over is not None:
        raise DeadlineOver(ran_out(what))
    task._what = what
    task._status = status
    if loop.left and _ready and not exiting and task is not main:
        # Another task is ready, and its turn: to switch there by way of the hub would
        # be one switch more. Not from the main program: Ctrl-C raises there at any
        # bytecode, and the task that has just left the queue would be lost.
        following = _ready[0]
        green = following._greenlet
        if green is not None:
            _ready.popleft()
            loop.left -= 1
            loop.current = following
            following._status = RUN
            value = following._value
            following._value = None
            return green.switch(value)
    return _to_hub()


def wake(task: Task, value: Any = None) -> None:
    """Makes a parked task ready; it runs in its turn, and ``park`` returns ``value``
    there."""
    task._value = value
    task._status = READY
    _ready.append(task)


def pause() -> None:
    """Lets every other ready task, and pending I/O, go first. A deadline that is over
    makes no difference."""
    task = current()
    loop.deferred.append(task)
    task._what = "its turn"
    task._status = READY
    _to_hub()


def leaving() -> bool:
    """False, or, when the process is ending, True after letting others run. Asked by
    whatever is about to block."""
    if not exiting:
        return False
    pause()
    return True


def fork(
    func: Callable[..., object], userdata: Any, code: CodeType | None, lasti: int, context: Context | None = None
) -> Task:
    """Makes a task of ``func``, ready to run; ``code`` and ``lasti`` tell where. When
    the process is ending it never runs.

    It runs in ``context``, or in a copy of the caller's.
    """
    if get_ident() != loop.thread:
        raise RuntimeError(not_here("", "task.fork"))
    task = Task(func, userdata, code, lasti)
    if exiting:
        logger.warn(f"{task} was not started: the process is ending")
        finished(task)
        return task
    task._context = copy_context() if context is None else context
    tasks[task] = None
    if _on_create is not None:
        try:
            _on_create(task)
        except Exception:
            logger.error(f"exception in the hook at the fork of {task}:\n{traceback.format_exc().rstrip()}")
    _ready.append(task)
    return task


def hook(create: Callable[[Task], object] | None, term: Callable[[Task], object] | None) -> None:
    """Calls ``create(task)`` at each fork and ``term(task)`` at each end; None for
    none."""
    global _on_create, _on_term
    _on_create, _on_term = create, term


def drop_deadlines(task: Task) -> None:
    """Ends the deadlines of ``task``, whatever block it is in."""
    for deadline in tuple(task._deadlines or ()):
        deadline.stop()


def finished(task: Task) -> None:
    """``task`` has ended, or will never start."""
    if task._deadlines:
        drop_deadlines(task)  # of a generator that was left in the middle
    task._status = task._func = task._userdata = task._greenlet = task._what = task._context = task._value = None
    tasks.pop(task, None)


def _worker(task: Task) -> None:
    """The life of a pooled greenlet: task after task."""
    me = getcurrent()
    while True:
        try:
            func = task._func
            assert func is not None
            if task._userdata is None:
                func()
            else:
                func(task._userdata)
        except GreenletExit:
            pass
        except SystemExit as exc:
            system_exit(exc)
        except Exception:
            logger.error(f"exception in {task}:\n{traceback.format_exc().rstrip()}")
        except BaseException as exc:
            loop.post(interrupted, exc)
        func = None
        if _on_term is not None:
            try:
                _on_term(task)
            except Exception:
                logger.error(f"exception in the hook at the end of {task}:\n{traceback.format_exc().rstrip()}")
        finished(task)
        if len(_pool) >= POOL:
            return
        me.gr_context = None
        _pool.append(me)
        del task
        task = _to_hub()


def _drain() -> None:
    """Runs ready tasks, at most a slice of them. A task that blocks switches to the
    next one itself, if that ran before."""
    ready = _ready
    loop.left = SLICE
    try:
        while ready and loop.left:
            loop.left -= 1
            task = ready.popleft()
            loop.current = task
            task._status = RUN
            green = task._greenlet
            if green is None:
                green = task._greenlet = _pool.pop() if _pool else greenlet(_worker, hub)
                green.gr_context = task._context
                green.switch(task)
            else:
                value = task._value
                task._value = None
                green.switch(value)
    finally:
        loop.left = 0
        loop.current = None
    if ready:
        loop.flush()  # the slice is cut: what its tasks wrote shall not wait for the rest


# ---- deadlines: what sets them is in ``deadline.py`` --------------------------------------------------------------


class DeadlineOver(TimeoutError):
    """Raised where a task blocks, by the deadline that it runs under."""


def expired() -> bool:
    """Whether the current task is under a deadline that has struck: nothing blocks
    then. False where there is no task."""
    task: Task | None = loop.current
    return task is not None and task._over is not None


def ran_out(what: object) -> str:
    """The error of the operation ``what`` that the current task's deadline has ended,
    in words.

    Raises RuntimeError where ``expired()`` is False.
    """
    task: Task | None = loop.current
    if task is None or task._over is None:
        raise RuntimeError(f"BUG: {what}: no deadline has run out")
    return task._over.text(what)


# ---- interrupting -------------------------------------------------------------------------------------------------


def throw(task: Task, exc: BaseException) -> None:
    """Raises ``exc`` in a waiting task, where it waits. What it was woken with stays in
    ``_value``, for ``Waiters``."""
    green = task._greenlet
    assert green is not None
    loop.current = task
    task._status = RUN
    green.throw(exc)
    loop.current = None


def throw_main(exc: BaseException) -> None:
    """Raises ``exc`` in the main program, where it waits."""
    main._greenlet = main_greenlet
    throw(main, exc)


_PACKAGE = __file__.rpartition("_core")[0]


def outside(frame: FrameType | None) -> FrameType | None:
    """The innermost frame, from ``frame`` outwards, that isn't the library's own."""
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def interrupted(exc: BaseException) -> None:
    """KeyboardInterrupt and the like reach the main greenlet, where it waits; the loop
    stays alive."""
    if isinstance(exc, GreenletExit):
        raise exc  # the interpreter is taking the hub down
    for queue in (_ready, loop.deferred):
        if main in queue:
            queue.remove(main)
    throw_main(exc)


def in_main() -> bool:
    """Whether the main program runs."""
    return getcurrent() is main_greenlet


def _hub() -> None:
    loop.current = None
    interrupt_safely(loop, in_main, interrupted)
    loop.run()


def _after_fork() -> None:
    """In a child of ``os.fork``: the loop, whose descriptors the parent uses, is out of
    reach from here on."""
    global in_child, _to_hub
    in_child = True
    loop.current = None
    _to_hub = _in_child
    loop.thread = -1
    forget_signals()


def _in_child() -> NoReturn:
    raise RuntimeError(not_here("", "blocking"))


hub = greenlet(_hub)
_ready = loop.ready
_to_hub: Callable[[], Any] = hub.switch
loop.drain = _drain
loop.interrupted = interrupted
os.register_at_fork(after_in_child=_after_fork)
