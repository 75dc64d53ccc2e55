"""Starting and ending: ``silly.run``, ``silly.exit``, signals, the interpreter's exit.

The process is in one *phase*:

    running ──> draining ──> ending ──> closing ──> over
       │                        ^  │                 ^ │
       ├────────────────────────┘  └─────────────────┤ │  after the grace
       └── the script came to its end ───────────────┘ └──> ending: main program went on

* *Running*: everything works.
* *Draining*: not used yet.
* *Ending* begins with ``begin_exit(status)``, by ``silly.exit``, ``sys.exit`` in a
  task, a signal, or because nothing can wake the remaining tasks. Listeners close, open
  WebSockets send close 1001, and each waiting task gets GreenletExit where it waits. A
  task that was woken but has not run counts as waiting; its wake-up value is dropped.
  From here on nothing blocks and no task starts. The main greenlet is held: it does not
  run again before the phase is *over*.
* *Closing*: no task is left. Every connection sends what was written, then closes.
* *Over*: the main greenlet gets SystemExit(status), once everything is sent or
  ``GRACE`` seconds after the end began. Connections that are still open are cut off.
  After that the main program can block and start tasks again, in its ``finally`` blocks
  for example. A script that ends without ``silly.exit`` gets here too; its output is
  delivered at the interpreter's exit.

``TABLE`` says what can happen in each phase. ``scheduler.exiting`` is the opposite of
its column ``works``, as a flag for code that checks it for each message.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections.abc import Callable
from enum import Enum
from time import monotonic
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from greenlet import GreenletExit, getcurrent

from .. import logger
from .._ends import ENDS
from . import deadline, guard, scheduler
from .child import exit_status
from .result import Error
from .scheduler import READY, WAIT, Task, loop, main, tasks
from .signals import Signals, awaited, handled, interrupt_safely
from .timers import Timer

GRACE = 3.0
"""The most seconds that a graceful end may take."""


class Phase(Enum):
    """How far the process has come with its end; see the module's header."""

    RUNNING = "running"
    DRAINING = "draining"
    ENDING = "ending"
    CLOSING = "closing"
    OVER = "over"


class Rules(NamedTuple):
    """What can happen in a phase."""

    works: bool
    """Whether forked tasks start, tasks may block, and the application's timers
    fire."""
    ends: bool
    """Whether ``silly.exit`` or a signal begins an end. If not, one is already under
    way, and its status counts."""
    then: frozenset[Phase]
    """The phases that may follow."""


def _phases(*phases: Phase) -> frozenset[Phase]:
    return frozenset(phases)


TABLE: dict[Phase, Rules] = {
    Phase.RUNNING: Rules(True, True, _phases(Phase.DRAINING, Phase.ENDING, Phase.OVER)),
    Phase.DRAINING: Rules(True, True, _phases(Phase.ENDING, Phase.OVER)),
    Phase.ENDING: Rules(False, False, _phases(Phase.CLOSING, Phase.OVER)),
    Phase.CLOSING: Rules(False, False, _phases(Phase.OVER)),
    Phase.OVER: Rules(True, True, _phases(Phase.DRAINING, Phase.ENDING)),
}

strict = False
"""Whether a step that is not in ``TABLE`` raises RuntimeError; the tests set it. By
default the step is logged as an error and taken anyway: a process that doesn't end is
worse than one that ends out of order."""


class _State:
    """The state of the end."""

    __slots__ = ("grace", "joining", "overdue", "phase", "signal", "status")

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        self.status = 0
        """The exit status of the process."""
        self.signal = 0
        """The signal that began the end, or 0. An end that it begins and that is forced
        has the status 128 + this."""
        self.joining = False
        """Whether the main program is in ``silly.run``."""
        self.grace: Timer | None = None
        """The timer that cuts the graceful end short."""
        self.overdue = False
        """Whether the graceful end took longer than ``GRACE``."""


_state = _State()


def phase() -> Phase:
    """Returns the present phase."""
    return _state.phase


def enter(then: Phase) -> None:
    """Goes on to the phase ``then``."""
    now = _state.phase
    if then not in TABLE[now].then:
        text = f"BUG: the process can't go from {now.value} to {then.value}"
        if strict:
            raise RuntimeError(text)
        logger.error(text)
    _state.phase = then
    scheduler.exiting = not TABLE[then].works
    if then is Phase.OVER:
        guard.over()
        _state.signal = 0
        if _state.grace is not None:
            loop.timers.cancel(_state.grace)
            _state.grace = None


class _Held:
    """Stands in for the main greenlet while it is held, so that waking the main program
    does not run it."""

    gr_frame = None

    def switch(self, value: Any) -> None:
        main._value = value  # ``Waiters.wait`` gives it back when main is interrupted


_held: Any = _Held()


# ---- beginning an end ----------------------------------------------------------------


def run(main_func: Callable[..., object] | None, frame: FrameType) -> None:
    """See ``silly.run``."""
    scheduler.check_thread("silly.run")
    if main_func is not None:
        scheduler.fork(main_func, None, frame.f_code, frame.f_lasti)
    if getcurrent() is not scheduler.main_greenlet:
        return
    interrupt_safely(loop, scheduler.in_main, scheduler.interrupted, scheduler.interrupt_posted)
    with Signals(lambda number: _signalled(number, 0)):
        _state.joining = True
        try:
            scheduler.park("silly.run")
        finally:
            _state.joining = False


def exit(status: int) -> NoReturn:
    """See ``silly.exit``."""
    if scheduler.in_child:
        raise SystemExit(status)  # nothing of the parent's is ended
    scheduler.check_thread("silly.exit")
    if not scheduler.in_main() and (number := handled(sys._getframe(1))):
        # What the handler has interrupted goes on: it may be a request, or the loop.
        return _signalled(number, status)  # type: ignore[misc]
    if not scheduler.leaving():
        loop.post(begin_exit, status)
        while not scheduler.exiting:
            # This task is ended like every other, once: its finally blocks may block.
            # No deadline ends the wait.
            scheduler.pause()
    raise GreenletExit


def _signalled(number: int, status: int) -> None:
    """Signal ``number`` ends the process. Called in its handler."""
    guard.begin(number, GRACE)
    if TABLE[_state.phase].ends:
        _state.signal = number
        loop.post(begin_exit, status)


def _interrupted(exc: BaseException) -> None:
    """Acts on what a turn of the loop raised."""
    if isinstance(exc, SystemExit):
        _system_exit(exc)
    elif isinstance(exc, ENDS) or not (_state.joining or scheduler.exiting) or _of_the_loop(exc):
        scheduler.interrupted(exc)
    else:
        # In a script that blocks by itself the main program gets it, as always in
        # Python. Here nothing could catch it.
        lines = traceback.format_exception(exc)
        logger.error(f"exception in a signal handler:\n{''.join(lines).rstrip()}")


def _of_the_loop(exc: BaseException) -> bool:
    """Whether the loop itself raised ``exc``, and no signal handler did."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(exc.__traceback__)]
    return all(name.partition(".")[0] in ("silly", "selectors") for name in names)


def _system_exit(exc: SystemExit) -> None:
    """``sys.exit`` in a task."""
    loop.post(begin_exit, exit_status(exc))


def begin_exit(status: int) -> None:
    """Begins the graceful end, unless one is under way. Runs in the hub."""
    if not TABLE[_state.phase].ends:
        return
    enter(Phase.ENDING)
    _state.status = status
    loop.timers.clear_users()
    _state.grace = loop.timers.add(guard.until(GRACE), _grace_over, internal=True)
    for handler in list(loop.handlers):
        handler.shutdown()
    ready = loop.ready
    ready.extend(loop.deferred)
    loop.deferred.clear()
    for task in ready:
        task._status = WAIT
    ready.clear()
    main._greenlet = _held
    for task in list(tasks):
        if task._greenlet is None:
            scheduler.finished(task)
            continue
        if task._status == READY:
            ready.remove(task)  # woken by the finally block of a task ended earlier in this loop
        scheduler.throw(task, GreenletExit())


# ---- when nothing is left to do ------------------------------------------------------


def _starved() -> bool:
    """Called before the loop waits without a listener or a timer of the application.

    Finishes ``silly.run`` or the present phase of the end if nothing is left to wait
    for, and reports a deadlock. Returns True if it did something.

    Each turn of a client program comes here, so the cost must not grow with the number
    of connections and waiting tasks.
    """
    if not scheduler.exiting:
        if loop.work or loop.can_wake():
            return False
        if not tasks and _state.joining:
            scheduler.wake(main)
        elif deadline.active or awaited():
            return False
        else:
            _deadlock()
        return True
    if _state.phase is Phase.ENDING:
        if tasks:
            return False
        enter(Phase.CLOSING)
        for handler in list(loop.handlers):
            handler.close()
        return True
    if loop.work:
        return False
    _finish()
    return True


def _grace_over(_: None) -> None:
    _state.overdue = True
    if _state.signal and tasks:  # peers that don't take their output change no status
        _state.status = 128 + _state.signal
    for task in tasks:
        logger.warn(f"{task} did not end within {GRACE:g} s of the process's end")
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


def _deadlock() -> None:
    """Nothing can ever wake the remaining tasks. Reports each: in the log, and begins
    the end, if the main program is in ``silly.run``; else as an Error in the main
    program."""
    lines = [f"  {task.name()}: waits on {task.waiting()}; forked at {task.origin()}{_where(task)}" for task in tasks]
    if not _state.joining:
        lines.append(f"  the main program: waits on {main.waiting()}")
    text = "nothing can ever wake the tasks that are left (no timer, no socket, no posted call):\n" + "\n".join(lines)
    if _state.joining:
        logger.error(text)
        begin_exit(1)
    else:
        scheduler.throw_main(Error(text))


def _where(task: Task) -> str:
    """Returns where a suspended task waits, without the library's own frames."""
    frame = scheduler.outside(task._greenlet.gr_frame if task._greenlet is not None else None)
    return f", waits at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


# ---- the interpreter's exit ----------------------------------------------------------


def _at_exit() -> None:
    """Runs at the exit of plain python. Delivers what was written, and reports a script
    that never ran its tasks."""
    if scheduler.in_child:
        return  # the descriptors are the parent's
    never_ran = [task for task in tasks if task._greenlet is None]
    if _state.phase is not Phase.OVER:
        enter(Phase.OVER)
    _deliver()
    for handler in list(loop.handlers):
        handler.abort()
    loop.close()
    if not never_ran or hasattr(sys, "ps1") or sys.flags.interactive or getattr(sys, "last_value", None) is not None:
        return
    names = "\n".join(f"  {task.name()}, forked at {task.origin()}" for task in never_ran)
    logger._say(
        f"silly: the script ended, but tasks that it forked never ran:\n{names}\n"
        "Either end the script with silly.run(), or start it with: python -m silly SCRIPT"
    )
    sys.stdout.flush()
    logger._end()
    os._exit(1)  # nothing gentler can change the exit status this late


def _deliver() -> None:
    """Turns the loop, without tasks, until the closed connections have sent their
    output, for ``GRACE`` seconds at most."""
    loop.run_ready = loop.ready.clear
    loop.starved = lambda: False
    loop.timers.clear_users()
    for task in (main, *tasks):
        scheduler.drop_deadlines(task)
    # If the grace of ``begin_exit`` has run out already, there is no second one.
    end = monotonic() + (0.0 if _state.overdue else GRACE)
    loop.timers.add(end, lambda _: None, internal=True)
    for handler in list(loop.handlers):
        if handler.wakes():
            handler.close()
    while loop.work and monotonic() < end:
        loop.turn()


loop.starved = _starved
loop.interrupted = _interrupted
scheduler.system_exit = _system_exit
scheduler.interrupt_posted = lambda: guard.interrupted(GRACE)
atexit.register(_at_exit)
