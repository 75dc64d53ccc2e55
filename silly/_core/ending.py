"""Starting and ending: ``silly.run``, ``silly.exit``, signals, the interpreter's exit.

The process is in one *phase*:

    running ──> draining ──> ending ──> closing ──> over ──> draining …
     │  │         ^             │          ^         ^
     │  └> notice ┘             └> leaving ┘         │   at once: when no task is left
     └──── the script came to its end ───────────────┘

* *Running*: everything works.
* *Notice* begins with a signal, if the ``plan`` has time for it and something listens.
  Everything works, but ``/readyz`` says 503, so that load balancers look away.
* *Draining* begins when the notice is over; with ``begin_exit(status)``, by
  ``silly.exit``, ``sys.exit`` in a task, or a signal; or because nothing can wake the
  remaining tasks. A task that had not run and a timer of ``time.after`` that was set
  before never start. Listeners accept what waits in the kernel, and close. Peers are
  told (HTTP by ``Connection: close``, WebSockets by close 1001), and HTTP connections
  that wait for a request end. The tasks that *serve*, which run the handler of a
  connection, go on until the last has ended, for ``plan.drain`` ms at most. The other
  tasks may run meanwhile, but are not waited for. The main greenlet is held: it does
  not run again before the phase is *over*.
* *Ending*: each waiting task gets GreenletExit where it waits. A task that was woken
  but has not run counts as waiting; its wake-up value is dropped. The ``finally``
  blocks may block, so they can use the network. What they fork is not started.
* *Leaving*: ``FINALLY`` seconds after the time of draining is over, or when nothing can
  wake the tasks that are left, nothing blocks any more. Waiting tasks get ``Leaving``,
  and calls that would block return ``errno.CLOSED``. ``LEAVE`` seconds later a task
  that still goes on is cut off.
* *Closing*: no task is left. Every connection sends what was written, then closes. A
  peer that got everything is given up after ``QUIET`` seconds in which it sent nothing.
* *Over*: the main greenlet gets SystemExit(status), once everything is sent or the time
  is over. Connections that are still open are cut off. After that the main program can
  block and start tasks again, in its ``finally`` blocks for example. A script that ends
  without ``silly.exit`` gets here too; its output is delivered at the interpreter's
  exit.

``TABLE``, in ``phases``, says what can happen in each phase. Its first three columns
are copied to ``scheduler``, for code that asks for each message.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from itertools import islice
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from greenlet import GreenletExit, getcurrent

from .. import _log
from .._ends import ENDS
from .._log import task as logger
from .._shown import traceback_of
from . import deadline, guard, scheduler, worker
from .callers import place_of
from .child import exit_status
from .loop import monotonic
from .phases import TABLE, Phase
from .result import Error
from .scheduler import READY, SLEEP, WAIT, Leaving, Task, loop, main, tasks
from .signals import Signals, awaited, handled, interrupt_safely
from .timers import Timer


class Plan(NamedTuple):
    """How long the parts of an end may take, in ms."""

    notice: int = 0
    """How long everything goes on after a signal, while ``/readyz`` says 503."""
    drain: int = 2000
    """How long handlers of connections may go on."""
    spread: int = 0
    """The time over which WebSockets are closed. At most ``drain``."""
    code: int = 1001
    """The code that they are closed with."""


plan = Plan()
"""The plan of this process. The launcher sets it before the loop runs."""
FINALLY = 1.0
"""Seconds for ``finally`` blocks, after ``plan.drain``."""
QUIET = 0.25
"""Seconds without a sign of life after which a peer's end is not awaited any more, if
the peer got everything. Four times as long if it goes on sending."""
LEAVE = 0.1
"""Seconds after that in which tasks may end whose calls don't block any more."""
SHOWN = 20
"""The most tasks that the log names which did not end."""

strict = False
"""Whether a step that is not in ``TABLE`` raises RuntimeError; the tests set it. By
default the step is logged as an error and taken anyway: a process that doesn't end is
worse than one that ends out of order."""


class _State:
    """The state of the end."""

    __slots__ = (
        "at_begin",
        "drain",
        "ended",
        "grace",
        "joining",
        "leaves_python",
        "notice",
        "overdue",
        "phase",
        "quiet",
        "serving",
        "signal",
        "status",
        "told",
        "until",
    )

    def __init__(self) -> None:
        self.at_begin: list[Callable[[], object]] = []
        """What is called when an end begins."""
        self.phase = Phase.RUNNING
        self.status = 0
        """The exit status of the process."""
        self.signal = 0
        """The signal that began the end, or 0. An end that it begins and that is forced
        has the status 128 + this."""
        self.joining = False
        """Whether the main program is in ``silly.run``."""
        self.leaves_python = False
        """Whether the interpreter's exit has begun: nothing is left that ``silly.exit``
        in a signal handler could end."""
        self.until = 0.0
        """When the notice is over; from *draining* on, when the time for ``finally``
        blocks is."""
        self.told = False
        """Whether listeners and peers were told that the end has begun."""
        self.serving = 0
        """How many tasks that serve the phase draining waits for."""
        self.ended: set[Task] = set()
        """The tasks that have got their GreenletExit already, by calling
        ``silly.exit``."""
        self.notice: Timer | None = None
        """The timer that ends the phase notice."""
        self.drain: Timer | None = None
        """The timer that ends the phase draining."""
        self.grace: Timer | None = None
        """The timer that cuts the graceful end short."""
        self.quiet: Timer | None = None
        """The timer of ``_hurry``, in the phase closing."""
        self.overdue = False
        """Whether the graceful end took longer than its time."""


_state = _State()


def phase() -> Phase:
    """Returns the present phase."""
    return _state.phase


def begun() -> bool:
    """Whether the end of the process has begun, be it with a notice."""
    return _state.phase is not Phase.RUNNING and _state.phase is not Phase.OVER


def began_by() -> int:
    """Returns the number of the signal that began the end, or 0."""
    return _state.signal


def at_begin(func: Callable[[], object]) -> None:
    """Calls ``func()`` once, in the loop, when the end begins: with the notice, if
    there is one, else when the process begins to drain. If it has begun, that is soon.
    """
    if begun():
        loop.post(func)
    else:
        _state.at_begin.append(func)


def _begins() -> None:
    """Calls what waits for the beginning of an end."""
    calls, _state.at_begin = _state.at_begin, []
    for call in calls:
        loop.post(call)  # one by one: an exception of one is logged, and no other's


def _grace() -> float:
    """The most seconds of an end, from when it begins to drain."""
    return plan.drain / 1000 + FINALLY


def enter(then: Phase) -> None:
    """Goes on to the phase ``then``."""
    now = _state.phase
    if then not in TABLE[now].then:
        text = f"BUG: the process can't go from {now.value} to {then.value}"
        if strict:
            raise RuntimeError(text)
        logger.error(text)
    _state.phase = then
    rules = TABLE[then]
    scheduler.exiting, scheduler.starts, scheduler.begins = not rules.blocks, rules.starts, rules.begins
    scheduler.serving_ended = _serving_ended if then is Phase.DRAINING else None
    if _state.notice is not None:
        loop.timers.cancel(_state.notice)
        _state.notice = None
    if then is Phase.OVER:
        guard.over()
        _state.signal = 0
        for timer in (_state.drain, _state.grace, _state.quiet):
            if timer is not None:
                loop.timers.cancel(timer)
        _state.drain = _state.grace = _state.quiet = None
        _state.ended.clear()


class _Held:
    """Stands in for the main greenlet while it is held, so that nothing runs the main
    program: neither waking it nor a deadline."""

    gr_frame = None

    def switch(self) -> Any:
        """Leaves main as it is, woken: ``Waiters.wait`` gives its value back when it is
        interrupted. If a task that blocks has switched here, the hub goes on."""
        main._status = READY
        return None if getcurrent() is scheduler.hub else scheduler.loop.to_hub()

    def throw(self, exc: BaseException) -> None:
        """Drops a deadline's exception."""


_held: Any = _Held()


# ---- beginning an end ----------------------------------------------------------------


def run(main_func: Callable[..., object] | None, frame: FrameType) -> None:
    """See ``silly.run``."""
    scheduler.check_thread()
    if loop.no_switch:
        scheduler.refuse("silly.run")
    if main_func is not None:
        scheduler.fork(main_func, (), None, frame.f_code, frame.f_lasti)
    if getcurrent() is not scheduler.main_greenlet:
        return
    interrupt_safely(loop, scheduler.in_main, scheduler.interrupted, scheduler.interrupt_posted)
    with Signals(_asked):
        _state.joining = True
        try:
            scheduler.park("silly.run")
        finally:
            _state.joining = False


def exit(status: int) -> NoReturn:
    """See ``silly.exit``."""
    if scheduler.in_child:
        raise SystemExit(status)  # nothing of the parent's is ended
    if _state.leaves_python:
        return None  # type: ignore[misc]
    scheduler.check_thread()
    if not scheduler.in_main() and (number := handled(sys._getframe(1))):
        # What the handler has interrupted goes on: it may be a request, or the loop.
        return _signalled(number, status)  # type: ignore[misc]
    if getcurrent() is scheduler.hub:
        # A handler that has dropped its arguments, so ``handled`` can't know it.
        return begin_exit(status)  # type: ignore[misc]
    task = scheduler.current()
    scheduler.end_no_switch()
    if scheduler.begins:
        _mark(status)
    elif task is not main:
        scheduler.pause()
    if task is main:
        _drain()
        main._greenlet = _held
        main._status = WAIT
        scheduler._main_to_hub()  # it ends with what ``_finish`` throws
    _leave(task)
    raise GreenletExit


def _asked(number: int) -> None:
    """Signal ``number`` asks the process to end, with a notice if there is one to be
    given: nobody looks away from a program that listens nowhere. Called in its handler.
    """
    if not plan.notice or not loop.listeners or begun():
        _signalled(number, 0)
        return
    notice = plan.notice / 1000
    guard.begin(number, notice + _grace())
    _state.signal = number
    _state.until = monotonic() + notice
    enter(Phase.NOTICE)
    loop.post(_give_notice)


def _give_notice() -> None:
    if _state.phase is Phase.NOTICE:
        logger.info(f"the process goes on for {plan.notice / 1000:g} s of notice, then it drains and ends")
        _begins()
        _state.notice = loop.timers.add(_state.until, _notice_over, internal=True)


def _notice_over(_: None) -> None:
    _state.notice = None
    begin_exit(0)


def _signalled(number: int, status: int) -> None:
    """Signal ``number`` ends the process. Called in its handler."""
    guard.begin(number, _grace())
    if scheduler.begins:
        _state.signal = number
        begin_exit(status)


def _interrupted(exc: BaseException) -> None:
    """Acts on what a turn of the loop raised."""
    if isinstance(exc, SystemExit):
        begin_exit(exit_status(exc))
    elif isinstance(exc, ENDS) or (scheduler.begins and not _state.joining) or _of_the_loop(exc):
        scheduler.interrupted(exc)
    else:
        # In a script that blocks by itself the main program gets it, as always in
        # Python. Here nothing could catch it.
        logger.dropped("exception in a signal handler:", exc)


def _of_the_loop(exc: BaseException) -> bool:
    """Whether the loop itself raised ``exc``, and no signal handler did."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(traceback_of(exc))]
    return all(name.partition(".")[0] in ("silly", "selectors") for name in names)


def _system_exit(exc: SystemExit) -> None:
    """``sys.exit`` in a task."""
    task = scheduler.current()
    if task in _state.ended:
        return  # it was noted where it left a handler
    status = exit_status(exc)
    if scheduler.begins:
        _mark(status)
    _leave(task)


def begin_exit(status: int) -> None:
    """Begins the graceful end, unless one is under way. May be called wherever the
    loop's thread is, so also in a signal handler: listeners and peers are told at the
    end of the turn."""
    if scheduler.begins and not _state.leaves_python:
        _mark(status)
        loop.post(_drain)


def _mark(status: int) -> None:
    """Begins the phase draining: nothing that has not begun to run will start, but the
    handlers of connections that were accepted. Changes no queue, because a signal
    handler may interrupt the code that does."""
    enter(Phase.DRAINING)
    _state.status = status
    _state.until = guard.until(_grace())
    _state.told = False
    for task, serves in list(tasks.items()):
        if task._greenlet is None and not serves:
            scheduler.drop(task)
    for timer in list(loop.timers.users):
        if timer.callback is scheduler.fork_due:
            timer.callback = _nothing


def _nothing(_: Any = None) -> None:
    """What a timer does that came too late to start its task."""


def _leave(task: Task) -> None:
    """``task`` has called ``silly.exit``, or ends with ``sys.exit``. It counts as
    ended: no exception will be raised in it, and the phase draining doesn't wait for
    it."""
    _state.ended.add(task)
    if tasks.get(task):
        tasks[task] = False
        if _state.told and _state.phase is Phase.DRAINING:
            _serving_ended()
    _drain()


# ---- the phases ----------------------------------------------------------------------


def _drain(_: None = None) -> None:
    """Stops listening, tells the peers, and waits for the tasks that serve."""
    if _state.phase is not Phase.DRAINING or _state.told:
        return
    _state.told = True
    _begins()
    _forget_timers(_nothing)
    _state.drain = loop.timers.add(_state.until - FINALLY, _end_tasks, internal=True)
    _state.grace = loop.timers.add(_state.until, _grace_over, internal=True)
    for handler in list(loop.handlers):
        handler.shutdown()
    main._greenlet = _held
    _forget_timers(scheduler.wake, main)  # else its sleep would be something to wait for
    _state.serving = sum(tasks.values())
    if not _state.serving:
        _end_tasks()


def _forget_timers(callback: Callable[[Any], None], arg: Task | None = None) -> None:
    for timer in list(loop.timers.users):
        if timer.callback is callback and (arg is None or timer.arg is arg):
            loop.timers.cancel(timer)


def _serving_ended() -> None:
    """A task that serves has ended; if it was the last, the next phase begins. Not
    here, but at the end of the turn: what that task has forked starts."""
    if _state.told:
        _state.serving -= 1
        if not _state.serving:
            loop.post(_end_tasks)


def _end_tasks(_: None = None) -> None:
    """Raises GreenletExit in the tasks that are left."""
    if _state.phase is not Phase.DRAINING:
        return
    enter(Phase.ENDING)
    _forget_timers(scheduler.fork_due)
    for queue in (loop.ready, loop.deferred):
        for task in queue:
            task._status = WAIT
        queue.clear()
    for task in list(tasks):
        if task._greenlet is None:
            if task._func is scheduler.dropped:
                scheduler.finished(task)
            else:
                scheduler.not_started(task)
    if getcurrent() is scheduler.hub:
        _throw_exits()
    else:
        loop.post(_throw_exits)


def _throw_exits() -> None:
    if _state.phase is Phase.OVER:
        return  # Ctrl-C has ended the main program meanwhile
    for task in list(tasks):
        if task in _state.ended or task._greenlet is None:
            continue
        if task._status == READY:
            # Woken by the finally block of a task ended earlier in this loop.
            for queue in (loop.ready, loop.deferred):
                if task in queue:
                    queue.remove(task)
        task._blow = None  # it ends, once: a cancel must not strike in its finally blocks as well
        scheduler.throw(task, GreenletExit())


def _stop_blocking() -> None:
    """Nothing blocks any more, and what blocks now goes on."""
    enter(Phase.LEAVING)
    for task in list(tasks):
        if task._status in (WAIT, SLEEP):
            scheduler.throw(task, Leaving())


def _close_connections() -> None:
    """No task is left: every connection sends what was written, and closes."""
    enter(Phase.CLOSING)
    for handler in list(loop.handlers):
        handler.shutdown()
        handler.close()
    _hurry(4)


def _hurry(rounds: int) -> None:
    """Gives up peers that got everything and do not end their own direction."""
    for handler in list(loop.handlers):
        handler.hurry(rounds <= 0)
    _state.quiet = loop.timers.add(monotonic() + QUIET, _hurry, rounds - 1, internal=True)


def _grace_over(_: None) -> None:
    _state.grace = None
    _state.overdue = True
    _end_tasks()
    if _state.phase is not Phase.ENDING or not tasks:
        _cut_off(None)
        return
    _state.grace = loop.timers.add(monotonic() + LEAVE, _cut_off, internal=True)
    _stop_blocking()


def _cut_off(_: None) -> None:
    """The time is over: drops the tasks that are left."""
    if _state.signal and tasks:  # peers that don't take their output change no status
        _state.status = 128 + _state.signal
    within = f"did not end within {_grace():g} s of the process's end"
    for task in islice(tasks, SHOWN):
        logger.warn(f"{task} {within}")
    if len(tasks) > SHOWN:
        logger.warn(f"{len(tasks) - SHOWN} more tasks {within}")
    loop.ready.clear()
    loop.deferred.clear()
    tasks.clear()
    _finish()


def _finish() -> None:
    """Completes a graceful end: cuts off what is still open, and raises SystemExit in
    the main greenlet."""
    for handler in list(loop.handlers):
        handler.abort()
    enter(Phase.OVER)
    scheduler.throw_main(SystemExit(_state.status))


# ---- when nothing is left to do ------------------------------------------------------


def _starved() -> bool:
    """Called before the loop waits without a listener or a timer of the application.

    Finishes ``silly.run`` or the present phase of the end if nothing is left to wait
    for, and reports a deadlock. Returns True if it did something.

    Each turn of a client program comes here, so the cost must not grow with the number
    of connections and waiting tasks.
    """
    if scheduler.begins:
        if loop.work or loop._posted or loop.can_wake():
            return False
        if not tasks and _state.joining:
            scheduler.wake(main)
        elif deadline.active or awaited() or worker.others() or loop._posted or any(one.may_wake() for one in scheduler.guests):
            return False
        elif _state.phase is Phase.NOTICE:
            begin_exit(0)  # an end that was asked for, and nothing listens any more
        else:
            deadlock()
        return True
    if scheduler.exiting:
        if tasks if _state.phase is Phase.LEAVING else loop.work:
            return False
        if _state.phase is Phase.LEAVING:
            _close_connections()
        else:
            _finish()
    elif _state.phase is Phase.ENDING and not tasks:
        _close_connections()
    elif loop.work or loop.can_wake() or deadline.active:
        return False
    elif _state.phase is Phase.DRAINING:
        _end_tasks()
    else:
        _stop_blocking()
    return True


def deadlock(why: str = "nothing can ever wake the tasks that are left (no timer, no socket, no posted call)") -> None:
    """Nothing can ever wake the remaining tasks. Reports each: in the log, and begins
    the end, if the main program is in ``silly.run``; else as an Error in the main
    program. ``why`` begins the report."""
    lines = [f"  {task.name()}: waits on {task.waiting()}; forked at {task.origin()}{_where(task)}" for task in tasks]
    if not _state.joining:
        lines.append(f"  the main program: waits on {main.waiting()}")
    text = f"{why}:\n" + "\n".join(lines)
    if _state.joining:
        logger.error(text)
        begin_exit(1)
    else:
        scheduler.deadlocks += 1
        scheduler.throw_main(Error(text))


def _where(task: Task) -> str:
    """Returns where a suspended task waits, without the library's own frames."""
    place = place_of(task._greenlet)
    return f", waits at {place}" if place else ""


# ---- the interpreter's exit ----------------------------------------------------------


def _at_exit() -> None:
    """Runs at the exit of plain python. Delivers what was written, and reports a script
    that never ran its tasks. Does nothing if the loop runs in another thread, which is
    a daemon's: Python stops it, and until then it uses the loop."""
    if scheduler.in_child:
        return  # the descriptors are the parent's
    if scheduler.home.is_alive() and scheduler.home is not threading.current_thread():
        return
    never_ran = [task for task in tasks if task._greenlet is None]
    if _state.phase is not Phase.OVER:
        enter(Phase.OVER)
    _state.leaves_python = True
    try:
        _deliver()
    finally:  # a signal may cut it short, and no peer may take the part for the whole
        for handler in list(loop.handlers):
            handler.abort()
        scheduler.close_loop()
    if not never_ran or hasattr(sys, "ps1") or sys.flags.interactive or getattr(sys, "last_value", None) is not None:
        return
    names = "\n".join(f"  {task.name()}, forked at {task.origin()}" for task in never_ran)
    _log.say(
        f"silly: the script ended, but tasks that it forked never ran:\n{names}\n"
        "Either end the script with silly.run(), or start it with: python -m silly SCRIPT"
    )
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        _log.end()
    finally:
        os._exit(1)  # nothing gentler can change the exit status this late


def _deliver() -> None:
    """Turns the loop, without tasks, until the closed connections have sent their
    output, for the time of an end at most."""
    loop.run_ready = loop.ready.clear
    loop.starved = lambda: False
    loop.on_busy = None  # this late no thread can be started
    loop.timers.clear_users()
    for task in (main, *tasks):
        scheduler.drop_deadlines(task)
    for job in worker.waited_for:
        job.let_go()  # no task waits any more
    # If the grace of ``begin_exit`` has run out already, there is no second one.
    end = monotonic() + (0.0 if _state.overdue else _grace())
    loop.timers.add(end, lambda _: None, internal=True)
    for handler in list(loop.handlers):
        if handler.wakes():
            handler.close()
    while loop.work and monotonic() < end:
        loop.turn()


loop.starved = _starved
loop.interrupted = _interrupted
scheduler.system_exit = _system_exit
scheduler.interrupt_posted = lambda on_its_way: guard.interrupt(_grace(), on_its_way)
atexit.register(_at_exit)
