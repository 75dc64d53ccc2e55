"""The scheduler: runs tasks in greenlets, on the loop. ``silly.task`` is its public
API.

A *task* is a function that was forked. It runs in a greenlet of a pool (starting a
pooled greenlet costs a twentieth of making a new one) with a copy of its forker's
context variables. The main greenlet imported this module and runs the script or the
REPL. It counts as a task too, so a plain script may block. The loop lives in a greenlet
of its own, the *hub*. A task that blocks switches to the hub, or straight to the next
ready task.

**Blocking and waking.** ``park(what)`` blocks the current task, and returns the value
that was passed to ``wake(task, value)``. A primitive is built on ``waiting.Waiters``,
which implements the rules; its header has an example. ``task.wait``, ``time.sleep`` and
``Stream.fill`` use ``park`` itself, and keep the rules by hand:

* The waker first clears the place where the task was stored, then wakes it. So nothing
  wakes it twice.
* ``park`` may raise any exception thrown at the task (GreenletExit, KeyboardInterrupt,
  ``DeadlineOver``). Then the primitive clears that place itself.
* ``park`` raises ``DeadlineOver`` when the task's deadline runs out or already has. A
  primitive that returns errors returns that one (``ran_out`` makes the text).
* The primitive calls ``leaving()`` before it stores the task. Near the end of the
  process (phase *leaving*) this yields once and returns True: nothing blocks any more,
  and the primitive returns ``errno.CLOSED``. A task that waits when that phase begins
  gets ``Leaving``, and its primitive returns the same.
* A handler whose events can wake a task is watched by the loop (``loop.watch``).

Deadlines are in ``deadline.py``, the start and the end of the process in ``ending.py``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from threading import get_ident
from types import CodeType
from typing import Any, NoReturn, Protocol

from greenlet import GreenletExit, getcurrent, greenlet

from .. import _log
from .._ends import ENDS
from .._log import task as logger
from .._shown import name_of, shown
from ._accelerated import switching
from .callers import called
from .loop import Loop, monotonic
from .result import OK, mistake
from .signals import Wakeup, interrupt_safely
from .tasks import READY as READY
from .tasks import RUN as RUN
from .tasks import SLEEP as SLEEP
from .tasks import WAIT as WAIT
from .tasks import Cancelled as Cancelled
from .tasks import DeadlineOver as DeadlineOver
from .tasks import Leaving as Leaving
from .tasks import Task as Task
from .tasks import failure_of, take_blow
from .timers import Timer

SLICE = 256
"""The most tasks that run before the loop does I/O again."""
POOL = 1024
"""The most idle greenlets that are kept. A task beyond them costs 10 µs more."""


def _nothing(_: object) -> None:
    """What ``interrupt_posted`` does until it is set."""


class Guest(Protocol):
    """An event loop of another library that runs in this one."""

    where: str
    """Where its code runs, and what to do there, in words."""
    fd: int
    """The descriptor that it has registered here, which is ready when something has
    come for it."""
    timer: Timer | None
    """Its next timer here."""
    given_up: set[Any]
    """Its coroutines that were cancelled and have not ended. ``loop.work`` counts them
    too."""

    def runs(self) -> bool:
        """Whether its code runs now. No task does then."""

    def may_wake(self) -> bool:
        """Whether something could happen that makes its code go on, and that may wake a
        task then. It doesn't hold up the end of the process."""

    def outside(self) -> bool:
        """Whether it waits for a descriptor other than its own."""

    def files(self) -> tuple[int, ...]:
        """Returns its own descriptors."""

    def coroutines(self) -> set[Any]:
        """Returns those that have not ended."""

    def name(self, coroutine: Any, /) -> str:
        """Returns what the log calls a coroutine."""


loop = Loop()
home = threading.current_thread()
"""The loop's thread."""
tasks: dict[Task, bool] = {}
"""Every forked task that hasn't finished, in the order of forking. The value says
whether it *serves*: it runs the handler of a connection that a listener has accepted.
The end of the process lets such tasks finish (phase *draining*)."""

exiting = False
"""Whether nothing blocks any more: the opposite of ``blocks`` in ``ending.TABLE``. This
and the next two are set by ``ending``."""
starts = True
"""Whether what the application forks is started, as ``starts`` there."""
begins = True
"""Whether a listener or an end of the process may begin, as ``begins`` there."""
serving_ended: Callable[[], object] | None = None
"""Called when a task that serves has finished; set in the phase *draining*."""
deadlocks = 0
"""How often the main program was told that nothing can wake the tasks that are left."""
in_child = False
"""Whether this is a child of ``os.fork``, where silly does not work."""
closed = False
"""Whether the loop is closed, because the interpreter is ending."""
listens: Callable[[], object] | None = None
"""Called when the program has begun to listen somewhere, or to receive datagrams.
``ops.ready`` sets it while somebody wants to know."""
system_exit: Callable[[SystemExit], object] = loop.interrupted
"""Called with the SystemExit of a task. ``ending`` sets it."""
leave_child: Callable[..., object] = loop.interrupted
"""Called in a child of ``os.fork`` with what has ended the task that forked it.
``child`` sets it."""
guests: list[Guest] = []
"""The loops of other libraries that run in this one."""
unswitched: set[object] = set()
"""The blocks of ``task.no_switch`` that the current task is in."""
interrupt_posted: Callable[[Callable[[], bool]], object] = _nothing
"""Called when Ctrl-C is on its way to the main program; the argument says whether it
still is. ``ending`` sets it."""
_wakeup = Wakeup(loop)
_pool: list[greenlet] = []
_on_create: Callable[[Task], object] | None = None
_on_term: Callable[[Task], object] | None = None
_on_error: Callable[[Task, BaseException], object] | None = None


def _main() -> None:
    raise RuntimeError("the main program is not forked")


def _make_main() -> Task:
    task: Task[Any] = Task(_main, (), None, None, 0)
    task._greenlet = main_greenlet
    task._status = RUN
    _main.__qualname__ = "main"
    return task


main_greenlet = getcurrent()
main = _make_main()
loop.current = main


def current(what: object = "this call") -> Task:
    """Returns the running task; the main program counts as one. Raises RuntimeError in
    a callback of the loop or another thread, for the call ``what``."""
    task: Task | None = loop.current
    if task is None or task._greenlet is not getcurrent():
        raise RuntimeError(not_here("no task runs", what))
    return task


def not_here(verb: str, what: object = "this call") -> str:
    """Returns why a call of the program is impossible here, and what to do instead.
    ``verb`` says what can't be done where no task runs. ``what`` names the call if it
    is one of the library's own."""
    call = called(sys._getframe(1)) or what
    if in_child:
        return (
            f"{call}: in a child of os.fork(), where silly does not work; "
            "start a process that imports it itself (subprocess, or multiprocessing with 'spawn')"
        )
    if closed:
        return f"{call}: silly has ended, because the interpreter is ending; call atexit.register after importing silly"
    if get_ident() != loop.thread:
        return f"{call}: called from another thread, {shown(threading.current_thread().name)}; {_home()}"
    for guest in guests:
        if guest.runs():
            return f"{call}: {verb} {guest.where}"
    if getcurrent() is hub:
        return f"{call}: {verb} in a callback of the loop (a signal handler, a finalizer or a hook); fork a task instead"
    return f"{call}: {verb} in a greenlet that silly did not start (another library's, or your own); fork a task instead"


def _home() -> str:
    """Returns where silly runs, for a call from another thread."""
    if home.is_alive():
        return (
            f"silly runs only in the thread that imported it, {shown(home.name)}. "
            "task.call or task.post runs a function there (docs/threads.md); or use the standard library here"
        )
    return "silly runs only in the thread that imported it, which has ended: import silly in the main thread first"


def check_thread(*, closes: bool = False) -> None:
    """Raises RuntimeError outside the loop's thread. ``closes``: the call only closes
    something. In a child of ``os.fork``, and when the loop is closed, that does
    nothing, so that ``with`` and ``finally`` blocks don't hide how the process ends."""
    if get_ident() != loop.thread and not (closes and (in_child or closed)):
        raise RuntimeError(not_here(""))


def close_loop() -> None:
    """Ends the loop, because the interpreter is ending: what needs it raises
    RuntimeError from now on."""
    global closed
    closed = True
    loop.to_hub = no_loop
    loop.thread = -1
    loop.current = None
    loop.close()


def over() -> bool:
    """Whether no task will ever run again: the interpreter is ending, the loop's thread
    has ended, or this is a child of ``os.fork``."""
    return loop.thread < 0 or not home.is_alive()


def no_loop() -> NoReturn:
    """Replaces the switch to the loop when the loop no longer runs."""
    raise RuntimeError(not_here(""))


def plain_park(what: object, status: str = WAIT) -> Any:
    """``park`` in Python."""
    task: Task | None = loop.current
    if task is None or task._greenlet is not getcurrent():
        raise RuntimeError(not_here("cannot block", what))
    check_wait(task, what)
    task._what = what
    task._status = status
    try:
        if task is main:
            _main_to_hub()
        elif loop.left and _ready and (green := (following := _ready[0])._greenlet) is not None:
            # Another task is ready: switching to it directly saves the switch to the
            # hub. Not from the main program, which signals are to wake.
            loop.left -= 1
            loop.current = following
            try:
                _ready.popleft()
                following._status = RUN
                green.switch()
            except BaseException:
                if loop.current is following and following is not task:
                    _put_back(following)
                    loop.current = task
                    task._status = RUN
                raise
        else:
            loop.to_hub()
    finally:
        # Now, and not where the task waits next: a finalizer, which may wait too, would
        # run while something else is about to wake the task.
        task._what = None
    # It stays in its field until now: as an argument of a switch it would be kept for
    # as long as the task waits that has switched.
    value = task._value
    task._value = None
    return value


def _main_to_hub() -> None:
    """Blocks the main program. Signals wake the loop until it goes on."""
    if loop.on_busy is not None:
        loop.on_busy()  # the loop begins to run, or a REPL at its prompt held nobody up until now
    try:
        loop.may_queue = True
        with _wakeup:
            loop.to_hub()
    finally:
        loop.may_queue = False


def _put_back(task: Task) -> None:
    """A signal handler has raised where ``task`` left the queue, and before it ran."""
    task._status = READY
    if not _ready or _ready[0] is not task:
        _ready.appendleft(task)


def plain_wake(task: Task, value: Any = None) -> None:
    """``wake`` in Python."""
    task._value = value
    task._status = READY
    _ready.append(task)


def plain_pause() -> None:
    """``pause`` in Python."""
    task = current()
    if loop.no_switch:
        refuse("this call")
    if task._blow is not None:
        strike(task)
    loop.deferred.append(task)
    task._what = "its turn"
    task._status = READY
    try:
        if task is main:
            _main_to_hub()
        else:
            loop.to_hub()
    finally:
        task._what = None
    task._value = None


def check_wait(task: Task, what: object) -> None:
    """Raises what a wait of ``task``, which runs, raises at once: in a block of
    ``task.no_switch``, after a cancel, or after the end of a deadline."""
    if loop.no_switch:
        refuse(what)
    if task._blow is not None:
        strike(task)
    if task._over is not None:
        raise DeadlineOver(ran_out(what))


def strike(task: Task) -> None:
    """Raises the blow that strikes ``task`` where it is about to wait, if one does."""
    blow = take_blow(task)
    try:
        if blow is not None:
            raise blow
    finally:
        del blow  # the traceback holds this frame


def refuse(what: object) -> None:
    """Raises RuntimeError for the call ``what``, in a block of ``task.no_switch``. Does
    nothing in another thread, which the block does not concern."""
    if get_ident() != loop.thread:
        return
    call = called(sys._getframe(1)) or what
    raise RuntimeError(f"{call}: may wait, and no other task may run inside task.no_switch(); call it outside the block")


def end_no_switch() -> None:
    """Ends all blocks of ``task.no_switch``: their task is over, or ends the process.
    """
    unswitched.clear()
    loop.no_switch, loop.may_queue = False, loop.current is not main


def leaving() -> bool:
    """Whether nothing blocks any more, because the time of the process's end is over;
    if so, it lets other tasks run first. Called by whatever is about to block."""
    if not exiting:
        return False
    pause()
    return True


def fork(
    func: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    code: CodeType | None,
    lasti: int,
    context: Context | None = None,
    serves: bool = False,
    ours: bool = False,
    held: bool = False,
) -> Task[Any]:
    """Makes a ready task that runs ``func`` in ``context``, by default in a copy of the
    caller's, or in an empty one if it serves: then the caller is the loop. ``code`` and
    ``lasti`` are where it was forked. ``serves`` as in ``tasks``.

    From the phase *ending* on the task never runs, unless it is the library's own
    (``ours``). ``held``: the task is not ready yet, and starts when the caller wakes
    it. Raises RuntimeError outside the loop's thread.
    """
    if get_ident() != loop.thread:
        raise RuntimeError(not_here(""))
    task: Task[Any] = Task(func, args, kwargs, code, lasti)
    if not starts and not ours:
        not_started(task)
        return task
    if context is None and not serves:
        context = copy_context()
    task._context = context
    tasks[task] = serves
    if _on_create is not None:
        try:
            _on_create(task)
        except ENDS:
            finished(task)
            raise
        except BaseException as exc:
            logger.dropped(f"exception in the create hook of {task}:", exc)
    if held:
        task._status = WAIT
    else:
        _ready.append(task)
    return task


def fork_due(call: tuple[Callable[..., object], tuple[Any, ...], dict[str, Any] | None, CodeType, int, Context]) -> None:
    """The callback of a timer of ``time.after``."""
    fork(*call)


def not_started(task: Task) -> None:
    """Drops a task that was forked too late to run."""
    logger.warn(f"{task} was not started: the process is ending")
    task._cancelled = True
    finished(task)


def drop(task: Task) -> None:
    """Makes a task that has not started one that never runs. What it held is released
    now, and it ends in its turn."""
    task._func, task._args, task._kwargs = dropped, (), None
    task._cancelled = True


def dropped() -> None:
    """What a task does that never runs."""


def hook(create: Callable[[Task], object] | None, term: Callable[[Task], object] | None) -> None:
    """Makes each fork call ``create(task)``, and each end of a task ``term(task)``.
    None removes a hook."""
    global _on_create, _on_term
    _on_create, _on_term = create, term


def onerror(func: Callable[[Task, BaseException], object] | None) -> None:
    """Makes ``uncaught`` call ``func(task, exception)``. None removes it."""
    global _on_error
    _on_error = func


def uncaught(log: _log.Log, text: str, exc: BaseException) -> None:
    """Logs an exception, no end, that the current task's code has raised and nobody has
    caught; then calls the hook for errors. Raises only ends."""
    drop_deadlines(current())  # they were for the code that has failed
    report(log, text, exc)


def report(log: _log.Log, text: str, exc: BaseException) -> None:
    """Logs an exception that nobody will catch, and calls the hook for errors, if a
    task runs."""
    try:
        log.error(text, exc)
        if _on_error is not None and loop.current is not None:
            _tell(_on_error, log, exc)
    finally:
        _log.release(exc)


def _tell(func: Callable[[Task, BaseException], object], log: _log.Log, exc: BaseException) -> None:
    try:
        func(current(), exc)
    except ENDS:
        raise
    except BaseException as again:
        log.dropped(f"exception in the hook for errors {name_of(func)}:", again)


def drop_deadlines(task: Task) -> None:
    """Ends all deadlines of ``task``."""
    for deadline in tuple(task._deadlines or ()):
        deadline.stop()


def finished(task: Task, value: object = None) -> None:
    """Releases what ``task`` holds: it has ended, with the result ``value``, or will
    never start."""
    if task._deadlines:
        drop_deadlines(task)  # those of generators that it did not finish
    if loop.no_switch and task is loop.current:
        end_no_switch()  # likewise
    # First: a finalizer may run here, and wait, so the task must still be whole.
    task._func = task._kwargs = task._context = None
    task._args = ()
    task._value = value
    task._status = task._greenlet = task._what = task._blow = None
    if task._keeper is not None:
        keeper, task._keeper = task._keeper, None
        keeper.ended(task)
    if task._joiners is not None:
        task._joiners.wake_all()
    if tasks.pop(task, False) and serving_ended is not None:
        serving_ended()


def _worker() -> None:
    """Runs one task after another in a pooled greenlet: each time the current one. It
    is no argument, since Python would keep the tuple of the arguments to the end."""
    me = getcurrent()
    while True:
        task: Task = loop.current
        try:
            func = task._func
            assert func is not None
            value = func(*task._args) if task._kwargs is None else func(*task._args, **task._kwargs)
            if value is not None and value is not OK and not _awaited(task):
                returned(task, value, tasks.get(task, False))
        except BaseException as exc:
            value = None
            _failed(task, exc)
        func = None
        if _on_term is not None:
            try:
                _on_term(task)
            except BaseException as exc:
                _raised("the term hook of ", task, exc)
        if in_child:
            leave_child(None)
        finished(task, value)
        value = None
        if len(_pool) >= POOL:
            return
        me.gr_context = None
        _pool.append(me)
        del task
        loop.to_hub()


def _awaited(task: Task) -> bool:
    """Whether another task waits for the result of ``task``."""
    if task._keeper is not None and getattr(task._keeper, "awaits", True):
        return True
    return task._joiners is not None and task._joiners.first is not None


def returned(who: object, value: object, serves: bool) -> None:
    """Logs that the ``value`` that a task or function (``who``, as text) returned is
    dropped, if that looks like a mistake. ``serves``: whether it is the handler of a
    connection."""
    why = mistake(value, "call conn.write(data)" if serves else None)
    if why is not None:
        logger.limited("returned", f"{who} {why}", logger.ERROR)


def _failed(task: Task, exc: BaseException) -> None:
    """Notes how ``task`` has ended, other than by returning. An error that nobody waits
    for is logged."""
    task._value = None  # a wake-up value that it has not taken
    if isinstance(exc, ENDS) or in_child:
        task._cancelled = True
        _raised("", task, exc)
        return
    failure = failure_of(exc, inner=True)  # the frame of the worker holds other tasks
    if not _awaited(task):
        _raised("", task, exc)
    task._failure = failure


def _raised(where: str, task: Task, exc: BaseException) -> None:
    """Acts on what came out of a task, or out of its hook: an end, or an error."""
    if isinstance(exc, GreenletExit):
        return
    if in_child:
        leave_child(exc)
    elif isinstance(exc, SystemExit):
        system_exit(exc)
    elif isinstance(exc, KeyboardInterrupt):
        loop.post(interrupted, exc)
    else:
        try:
            uncaught(logger, f"exception in {where}{task}:", exc)
        except ENDS as end:
            _raised("", task, end)


def _run_ready() -> None:
    """Runs at most a slice of the ready tasks. A task that blocks switches to the next
    one itself, if that has started already."""
    ready = _ready
    loop.left = SLICE
    try:
        while ready and loop.left:
            loop.left -= 1
            task = loop.current = ready[0]
            task._status = RUN
            ready.popleft()
            green = task._greenlet
            if green is None:
                green = task._greenlet = _pool.pop() if _pool else greenlet(_worker, hub)
                green.gr_context = task._context
            green.switch()
    except BaseException:
        task = loop.current
        # A signal handler raised. A task that has run since is not RUN any more.
        if task is not None and task._status == RUN:
            green = task._greenlet
            if green is not None and green.dead:
                finished(task)  # it raised in ``_worker`` itself
            else:
                if green is not None and _idle(green):
                    task._greenlet = None
                _put_back(task)
        raise
    finally:
        loop.left = 0
        loop.current = None
    if ready:
        loop.flush()  # the slice is full: its output does not wait for the other tasks


def _idle(green: greenlet) -> bool:
    """Whether a living greenlet runs no task: it is new, or was taken from the pool."""
    frame = green.gr_frame
    return frame is None or frame.f_code is _worker.__code__


# ---- deadlines, which ``deadline.py`` sets -------------------------------------------


def expired() -> bool:
    """Whether a deadline of the current task has struck, so that it can't block. False
    where no task runs."""
    task: Task | None = loop.current
    return task is not None and task._over is not None


def ran_out(what: object) -> str:
    """Returns the error text for the operation ``what`` that the current task's
    deadline has ended. Raises RuntimeError if ``expired()`` is False."""
    task: Task | None = loop.current
    if task is None or task._over is None:
        raise RuntimeError(f"BUG: {what}: no deadline has run out")
    return task._over.text(what)


# ---- interrupting --------------------------------------------------------------------


def throw(task: Task, exc: BaseException) -> None:
    """Raises ``exc`` in a waiting task, where it waits. Its wake-up value, if it was
    woken, stays in ``_value`` for ``Waiters``."""
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


def interrupted(exc: BaseException) -> None:
    """Raises ``exc``, such as KeyboardInterrupt, in the main greenlet where it waits.
    The loop stays alive."""
    if isinstance(exc, GreenletExit):
        raise exc  # the interpreter is ending the hub
    for queue in (_ready, loop.deferred):
        if main in queue:
            queue.remove(main)
    throw_main(exc)


def in_main() -> bool:
    """Whether the main program runs."""
    return getcurrent() is main_greenlet


def _hub() -> None:
    loop.current = None
    interrupt_safely(loop, in_main, interrupted, interrupt_posted)
    loop.run()


def _set_internal(seconds: float, call: Callable[[Any], None]) -> None:
    loop.timers.add(monotonic() + seconds, call, internal=True)


hub = greenlet(_hub)
_ready = loop.ready
loop.to_hub = hub.switch
loop.run_ready = _run_ready
loop.interrupted = interrupted
_log.later = lambda seconds, call: loop.post(_set_internal, seconds, call)

park: Callable[..., Any] = plain_park
"""``park(what, status=WAIT)``: blocks the current task until ``wake(task, value)``, and
returns that value. ``what`` describes what it waits on, in reports."""
pause: Callable[[], None] = plain_pause
"""``pause()``: lets every other ready task and pending I/O go first. Works even if the
task's deadline is over."""
wake: Callable[..., None] = plain_wake
"""``wake(task, value=None)``: makes a parked task ready. It runs in its turn, and its
``park`` returns ``value``."""
if switching is not None:
    _begin, park, pause, wake = switching
    _begin(loop, main, plain_park, plain_pause, _put_back, getcurrent)
