"""A child of ``os.fork``. The connections, the listeners, the timers and the other
tasks are the parent's; the child has a copy of each descriptor, and nothing else.

The child closes those copies at once, without a byte, a ``shutdown``, a change of the
selector's set (which the parent shares) or the removal of a socket's path. So the
parent's ``close`` is seen by its peer at once, its reset is sent, and its port is free,
however long the child lives. In the child each connection says ``errno.CLOSED``,
closing anything is quiet, and what needs the loop raises RuntimeError.

If a task forked, or the function of ``task.thread`` or ``silly.hive``, the child ends
where that function returns: ``leave``. If the main program or another thread did, it
ends as any child of ``os.fork`` does.

A child that C code forks without Python's knowledge keeps its copies until it ends or
executes a program; a child of ``subprocess`` executes one at once.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from errno import EBADF
from threading import get_ident
from typing import NoReturn

from greenlet import getcurrent

from .. import _log
from . import scheduler, worker
from .scheduler import loop
from .signals import forget_signals


def _after_fork() -> None:
    """Runs in the child, before ``os.fork`` returns there."""
    in_task = get_ident() == loop.thread and loop.current is not None and scheduler.main_greenlet is not getcurrent()
    if in_task or isinstance(threading.current_thread(), worker.WorkerThread):
        # The parent registered what runs at its own end, such as the removal of a file.
        # ``leave`` runs what the child registers. (The main program's child ends as
        # Python has it.)
        atexit._clear()
    forget_signals(scheduler._wakeup)
    scheduler.in_child = True
    scheduler.loop.to_hub = scheduler.no_loop
    scheduler.leave_child = worker.leave_child = leave
    scheduler.hook(None, None)  # the parent calls them for its tasks
    scheduler.onerror(None)
    loop.interrupted = _back_in_the_loop
    loop.starved = _not_starved
    loop.disown()


def _back_in_the_loop(exc: BaseException) -> NoReturn:
    """The child was forked by a callback of the loop, such as a signal handler, and has
    come back there: by the exception ``exc``, or because the selector is closed."""
    leave(None if isinstance(exc, OSError) and exc.errno == EBADF else exc)


def _not_starved() -> bool:
    """Makes a loop that the child has come back to ask its selector, which is closed.
    """
    return False


def leave(exc: BaseException | None) -> NoReturn:
    """Ends the child, whose task has ended, with ``exc`` or without. As at the end of a
    script, the threads that it started are awaited, what it registered with ``atexit``
    runs, and the status is 0, that of a SystemExit, or 1 after another exception, which
    is shown. But ``finally`` blocks of the main program don't run, nor those of other
    tasks: they are the parent's."""
    status = 1
    try:
        status = _status(exc)
        # As ``multiprocessing`` ends its children.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(status & 0xFF)


def exit_status(exc: SystemExit) -> int:
    """Returns the status that ``sys.exit(x)`` asks for: 0 for None and x for a number.
    Anything else is printed, and the status is 1."""
    if exc.code is None:
        return 0
    if isinstance(exc.code, int):
        return exc.code
    _log.say(exc.code)
    return 1


def _status(exc: BaseException | None) -> int:
    if isinstance(exc, SystemExit):
        return exit_status(exc)
    if exc is None:
        return 0
    tb = exc.__traceback__
    sys.excepthook(type(exc), exc, tb.tb_next if tb is not None else None)
    if isinstance(exc, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)  # so its parent sees why it ended
    return 1


os.register_at_fork(after_in_child=_after_fork)
