"""The scheduler: tasks on greenlets, on the loop. ``silly.task`` is its public face.

A *task* is a function that was forked. It runs in a greenlet of a pool (starting a pooled greenlet costs a twentieth of a
new one) with a copy of its forker's context variables. The main greenlet, the one that imported us and runs the script or
the REPL, is a task too, so a plain script may block. The loop lives in a greenlet of its own, the *hub*: to block is to
switch to the hub, and only the hub switches to a task.

**Blocking and waking** (for the modules above; the public ``task.wait`` and ``task.wakeup`` are built on it). A primitive
remembers ``current()`` somewhere, calls ``park(what)``, and gets what the waker passed to ``wake(task, value)``. Its rules:

* Clear the place where the task was remembered first, then wake: so nothing wakes it twice.
* ``park`` may raise (GreenletExit, KeyboardInterrupt): then the primitive clears that place itself.
* Before it remembers the task it asks ``leaving()``. When the process is ending that yields once and is True: nothing
  blocks any more, and the primitive returns ``errno.CLOSED``.
* ``park`` raises ``DeadlineOver`` when the task's deadline (``time.deadline``) runs out, or has: a primitive with an error in
  its result clears its place and returns that (``ran_out`` makes the text); from any other it goes on to the caller. A task
  that was woken before the deadline struck gets what it was woken with, so nothing that was handed over is lost.

**Ending.** ``begin_exit(status)``: listeners close, open WebSockets send close 1001, each waiting task gets GreenletExit
where it waits, output is flushed for at most ``GRACE`` seconds, and the main greenlet gets SystemExit(status).
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections.abc import Callable
from contextvars import Context, copy_context
from threading import get_ident
from time import monotonic
from types import CodeType, FrameType
from typing import Any, NoReturn

from greenlet import GreenletExit, getcurrent, greenlet

from .. import logger
from .loop import Loop
from .result import Error
from .signals import Signals, forget_signals, interrupt_safely
from .timers import Timer

SLICE = 256
"""Tasks that run before I/O is looked at again."""
POOL = 1024
"""Idle greenlets kept: a burst of connections beyond them costs 10 µs each."""
GRACE = 3.0
"""Seconds for a graceful end: porting contract, "Scheduling"."""

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
        # The line number is worked out when somebody asks: that costs more than the fork.
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
        soonest = min(self._deadlines, key=_when)
        return f"{self._what}, within a deadline of {soonest.ms:.15g} ms"

    def __repr__(self) -> str:
        return f"<task {self.name()} {self._status or 'finished'}, forked at {self.origin()}>"


loop = Loop()
tasks: dict[Task, None] = {}
"""Every forked task that hasn't finished, in the order of forking (a dict: an ordered set)."""

exiting = False
_status = 0
_joining = False
_closing = False
_overdue = False
"""Whether the graceful end took longer than it may."""
_grace: Timer | None = None
_pool: list[greenlet] = []
_on_create: Callable[[Task], object] | None = None
_on_term: Callable[[Task], object] | None = None


def _main() -> None:
    raise RuntimeError("the main program is not forked")


def _make_main() -> Task:
    task = Task(_main, None, None, 0)
    task._greenlet = _main_greenlet
    task._status = RUN
    _main.__qualname__ = "main"
    return task


class _Held:
    """Stands for the main greenlet while the process ends: what wakes the main program must not set it going again."""

    gr_frame = None

    def switch(self, value: Any) -> None:
        main._value = value  # who waits there gives it back when it is interrupted


_main_greenlet = getcurrent()
_held: Any = _Held()
main = _make_main()
loop.current = main


def current() -> Task:
    """The running task (the main program counts as one). Raises RuntimeError in a loop callback or another thread."""
    task: Task | None = loop.current
    if task is None or task._greenlet is not getcurrent():
        raise RuntimeError(_not_here("only a task can be asked for", "this"))
    return task


def _not_here(verb: str, what: Any) -> str:
    if _forked:
        return f"BUG: {what}: in a child of os.fork(); silly belongs to the process that imported it"
    if get_ident() != loop.thread:
        return f"BUG: {what}: called from another thread; silly belongs to the thread that imported it"
    if getcurrent() is hub:
        return f"BUG: {what}: {verb} in a callback of the loop; fork a task instead"
    return f"BUG: {what}: {verb} in a greenlet that silly did not start"


def check_thread(what: str) -> None:
    """Raises RuntimeError in another thread than the loop's."""
    if get_ident() != loop.thread:
        raise RuntimeError(_not_here("", what))


def park(what: Any, status: str = WAIT) -> Any:
    """Blocks the current task until ``wake(task, value)``, and returns that value. ``what``: on what, for people."""
    task: Task | None = loop.current
    if task is None or task._greenlet is not getcurrent():
        raise RuntimeError(_not_here("cannot block", what))
    if task._over is not None:
        raise DeadlineOver(ran_out(what))
    task._what = what
    task._status = status
    if loop.left and _ready and not exiting and task is not main:
        # Another task is ready, and its turn: to switch there by way of the hub would be one switch more. Not from the main
        # program: Ctrl-C raises there at any bytecode, and the task that has just left the queue would be lost.
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
    """Makes a parked task ready; it runs in its turn, and ``park`` returns ``value`` there."""
    task._value = value
    task._status = READY
    _ready.append(task)


def pause() -> None:
    """Lets every other ready task, and pending I/O, go first. A deadline that is over makes no difference."""
    task = current()
    loop.deferred.append(task)
    task._what = "its turn"
    task._status = READY
    _to_hub()


def leaving() -> bool:
    """False, or, when the process is ending, True after letting others run. Asked by whatever is about to block."""
    if not exiting:
        return False
    pause()
    return True


def fork(
    func: Callable[..., object], userdata: Any, code: CodeType | None, lasti: int, context: Context | None = None
) -> Task:
    """Makes a task of ``func``, ready to run; ``code`` and ``lasti`` tell where. When the process is ending it never runs.

    It runs in ``context``, or in a copy of the caller's.
    """
    if get_ident() != loop.thread:
        raise RuntimeError(_not_here("", "task.fork"))
    task = Task(func, userdata, code, lasti)
    if exiting:
        logger.warn(f"{task} was not started: the process is ending")
        _finished(task)
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
    """Calls ``create(task)`` at each fork and ``term(task)`` at each end; None for none."""
    global _on_create, _on_term
    _on_create, _on_term = create, term


def _finished(task: Task) -> None:
    if task._deadlines:
        _drop_deadlines(task)  # of a generator that was left in the middle
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
            loop.post(begin_exit, _exit_status(exc))
        except Exception:
            logger.error(f"exception in {task}:\n{traceback.format_exc().rstrip()}")
        except BaseException as exc:
            loop.post(_interrupted, exc)
        func = None
        if _on_term is not None:
            try:
                _on_term(task)
            except Exception:
                logger.error(f"exception in the hook at the end of {task}:\n{traceback.format_exc().rstrip()}")
        _finished(task)
        if len(_pool) >= POOL:
            return
        me.gr_context = None
        _pool.append(me)
        del task
        task = _to_hub()


def _exit_status(exc: SystemExit) -> int:
    """What ``sys.exit(x)`` means: None is 0, a number itself, anything else is printed and means 1."""
    if exc.code is None:
        return 0
    if isinstance(exc.code, int):
        return exc.code
    print(exc.code, file=sys.stderr)
    return 1


def _drain() -> None:
    """Runs ready tasks, at most a slice of them. A task that blocks switches to the next one itself, if that ran before."""
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


# ---- deadlines --------------------------------------------------------------------------------------------------


class DeadlineOver(TimeoutError):
    """Raised where a task blocks, by the deadline that it runs under."""


class Deadline:
    """Bounds what the current task's calls may wait, in a ``with`` block; see ``time.deadline``."""

    __slots__ = ("_over", "_task", "_timer", "ms", "when")

    def __init__(self, ms: float) -> None:
        self.ms = ms
        self.when = 0.0
        self._over = False
        self._task: Task | None = None
        self._timer: Timer | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over. It stays as it is when the block ends."""
        if not self._over and self._task is not None:
            return monotonic() >= self.when
        return self._over

    def __enter__(self) -> Deadline:
        task: Task | None = loop.current
        if task is None or task._greenlet is not getcurrent():
            raise RuntimeError(_not_here("there is no task to bound", "time.deadline"))
        if self._timer is not None:
            raise RuntimeError("BUG: time.deadline: each with block needs a deadline of its own")
        self._task = task
        self.when = monotonic() + self.ms / 1000
        # Internal, or it would keep silly.run waiting for nothing but the deadline around it.
        self._timer = loop.timers.add(self.when, _strike, self, internal=True)
        if task._deadlines is None:
            task._deadlines = []
        task._deadlines.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._over = self.expired
        task, self._task = self._task, None
        assert self._timer is not None
        loop.timers.cancel(self._timer)
        # The task is not always the one that enters and leaves last: blocks in generators end in any order.
        deadlines = task._deadlines if task is not None else None
        if task is not None and deadlines is not None and self in deadlines:
            deadlines.remove(self)
            if task._over is self:
                task._over = min((each for each in deadlines if each._over), key=_when, default=None)


def _when(deadline: Deadline) -> float:
    return deadline.when


def _strike(deadline: Deadline) -> None:
    """The timer of ``deadline``: whoever waits gets it at once, whoever is ready or yields when it blocks next."""
    task = deadline._task
    assert task is not None
    deadline._over = True
    if task._over is None:
        task._over = deadline
    # While the process is ending nobody blocks, and the main greenlet is held.
    if task._status in (WAIT, SLEEP) and not exiting:
        _throw(task, DeadlineOver(_text(task._over, task._what)))


def _drop_deadlines(task: Task) -> None:
    """Ends the deadlines of ``task``, whatever block it is in."""
    for deadline in task._deadlines or ():
        assert deadline._timer is not None
        loop.timers.cancel(deadline._timer)
    task._deadlines = task._over = None


def _text(deadline: Deadline, what: Any) -> str:
    return f"{what}: the deadline of {deadline.ms:.15g} ms ran out"


def expired() -> bool:
    """Whether the current task is under a deadline that has struck: nothing blocks then. False where there is no task."""
    task: Task | None = loop.current
    return task is not None and task._over is not None


def ran_out(what: str) -> str:
    """The error of the operation ``what`` that the current task's deadline has ended, in words.

    Raises RuntimeError where ``expired()`` is False.
    """
    task: Task | None = loop.current
    if task is None or task._over is None:
        raise RuntimeError(f"BUG: {what}: no deadline has run out")
    return _text(task._over, what)


# ---- starting and ending ----------------------------------------------------------------------------------------


def run(main_func: Callable[..., object] | None, frame: FrameType) -> None:
    """See ``silly.run``."""
    global _joining
    check_thread("silly.run")
    if main_func is not None:
        fork(main_func, None, frame.f_code, frame.f_lasti)
    if getcurrent() is not _main_greenlet:
        return
    interrupt_safely(loop, lambda: getcurrent() is _main_greenlet, _interrupted)
    with Signals(loop, lambda: loop.post(begin_exit, 0)):
        _joining = True
        try:
            park("silly.run")
        finally:
            _joining = False


def exit(status: int) -> NoReturn:
    """See ``silly.exit``."""
    check_thread("silly.exit")
    if not exiting:
        loop.post(begin_exit, status)
        while not exiting:
            pause()  # where the end comes as to every other task, once: its finally blocks may block; no deadline ends it
    raise GreenletExit


def begin_exit(status: int) -> None:
    """Ends the process gracefully: see the module's header. Runs in the hub; the first call's status counts."""
    global exiting, _status, _closing, _grace
    if exiting:
        return
    exiting, _closing, _status = True, False, status
    loop.timers.clear_users()
    _grace = loop.timers.add(monotonic() + GRACE, _grace_over, internal=True)
    for handler in list(loop.handlers):
        handler.shutdown()
    # Who was woken but did not run yet is a waiting task like the others: its value is moot.
    _ready.extend(loop.deferred)
    loop.deferred.clear()
    for task in _ready:
        task._status = WAIT
    _ready.clear()
    main._greenlet = _held
    for task in list(tasks):
        if task._greenlet is None:
            _finished(task)
            continue
        if task._status == READY:
            _ready.remove(task)  # the finally block of a task before it has woken it
        _throw(task, GreenletExit())


def _throw(task: Task, exc: BaseException) -> None:
    """Raises ``exc`` in a waiting task, where it waits. What it was woken with stays in ``_value``, for ``Waiters``."""
    green = task._greenlet
    assert green is not None
    loop.current = task
    task._status = RUN
    green.throw(exc)
    loop.current = None


def _throw_main(exc: BaseException) -> None:
    """Raises ``exc`` in the main program, where it waits."""
    main._greenlet = _main_greenlet
    _throw(main, exc)


def _grace_over(_: None) -> None:
    global _overdue
    _overdue = True
    for task in tasks:
        logger.warn(f"{task} did not end within {GRACE:g} s of the process's end")
    _ready.clear()
    loop.deferred.clear()
    tasks.clear()
    _end()


def _starved() -> bool:
    """Called before the loop waits with no listener and no timer of the application's. Ends what is over."""
    global _closing
    if exiting:
        if tasks:
            return False
        if not _closing:
            _closing = True
            for handler in list(loop.handlers):
                handler.close()
            return True
        if loop.work:
            return False
        _end()
        return True
    if loop.work or any(handler.wakes() for handler in loop.handlers):
        return False
    if not tasks and _joining:
        wake(main)
    elif main._deadlines or any(task._deadlines for task in tasks):
        return False  # a deadline wakes its task
    else:
        _deadlock()
    return True


def _end() -> None:
    """The end of a graceful end: whatever is still open is closed, and the main greenlet gets its SystemExit."""
    global exiting, _grace
    if _grace is not None:
        loop.timers.cancel(_grace)
        _grace = None
    for handler in list(loop.handlers):
        handler.abort()
    exiting = False
    _throw_main(SystemExit(_status))


def _deadlock() -> None:
    """Nothing can ever wake again: says so, task by task."""
    lines = [f"  {task.name()}: waits on {task.waiting()}; forked at {task.origin()}{_where(task)}" for task in tasks]
    if not _joining:
        lines.append(f"  the main program: waits on {main.waiting()}")
    text = "nothing can ever wake the tasks that are left (no timer, no socket, no posted call):\n" + "\n".join(lines)
    if _joining:
        logger.error(text)
        begin_exit(1)
    else:
        _throw_main(Error(text))


def _where(task: Task) -> str:
    frame = waiting_frame(task)
    return f", waits at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


_PACKAGE = __file__.rpartition("_core")[0]


def waiting_frame(task: Task) -> FrameType | None:
    """The innermost frame of a suspended task that isn't the library's own."""
    return outside(task._greenlet.gr_frame if task._greenlet is not None else None)


def outside(frame: FrameType | None) -> FrameType | None:
    """The innermost frame, from ``frame`` outwards, that isn't the library's own."""
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def _interrupted(exc: BaseException) -> None:
    """KeyboardInterrupt and the like reach the main greenlet, where it waits; the loop stays alive."""
    if isinstance(exc, GreenletExit):
        raise exc  # the interpreter is taking the hub down
    for queue in (_ready, loop.deferred):
        if main in queue:
            queue.remove(main)
    _throw_main(exc)


def _hub() -> None:
    loop.current = None
    interrupt_safely(loop, lambda: getcurrent() is _main_greenlet, _interrupted)
    loop.run()


def _at_exit() -> None:
    """Under plain python: what was written is delivered, and a script that never ran its tasks does not end silently."""
    if _forked:
        return  # the descriptors are the parent's
    never_ran = [task for task in tasks if task._greenlet is None]
    _deliver()
    for handler in list(loop.handlers):
        handler.abort()
    loop.close()
    if not never_ran or hasattr(sys, "ps1") or sys.flags.interactive or getattr(sys, "last_value", None) is not None:
        return
    names = "\n".join(f"  {task.name()}, forked at {task.origin()}" for task in never_ran)
    print(
        f"silly: the script ended, but tasks that it forked never ran:\n{names}\n"
        "Either end the script with silly.run(), or start it with: python -m silly SCRIPT",
        file=sys.stderr,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)  # an exit status can't be changed any more by gentler means


def _deliver() -> None:
    """Turns the loop, without tasks, until closed connections have sent what they were given, for ``GRACE`` at most."""
    loop.drain = _ready.clear
    loop.starved = lambda: False
    loop.timers.clear_users()
    for task in (main, *tasks):
        _drop_deadlines(task)
    # What did not end within the grace of ``begin_exit`` gets no second one.
    end = monotonic() + (0.0 if _overdue else GRACE)
    loop.timers.add(end, lambda _: None, internal=True)
    for handler in list(loop.handlers):
        if handler.wakes():
            handler.close()
    while loop.work and monotonic() < end:
        loop.turn()


def _after_fork() -> None:
    """In a child of ``os.fork``: the loop, whose descriptors the parent uses, is out of reach from here on."""
    global _forked, _to_hub
    _forked = True
    loop.current = None
    _to_hub = _in_child
    loop.thread = -1
    forget_signals()


def _in_child() -> NoReturn:
    raise RuntimeError(_not_here("", "blocking"))


_forked = False
hub = greenlet(_hub)
_ready = loop.ready
_to_hub: Callable[[], Any] = hub.switch
loop.drain = _drain
loop.starved = _starved
loop.interrupted = _interrupted
atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
