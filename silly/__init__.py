"""A greenlet coroutine runtime and network stack, for code in plain, blocking style:
no async, no callbacks, no monkey-patching.

    import silly

    def main():
        conn = silly.check(silly.net.tcp.connect("127.0.0.1:8080"))
        conn.write("hello\\n")

    silly.run(main)

``import silly`` is enough: ``silly.task``, ``silly.time``, ``silly.net.tcp``, … load
when they are first used.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from . import _streams as _streams  # first: it keeps places free of the loop's descriptors
from ._core import ending
from ._core.result import Error, Result, check
from ._ends import ENDS
from ._version import version
from ._wire.limits import Limits

if TYPE_CHECKING:
    from . import bridge as bridge
    from . import env as env
    from . import errno as errno
    from . import hive as hive
    from . import logger as logger
    from . import net as net
    from . import process as process
    from . import sync as sync
    from . import task as task
    from . import testing as testing
    from . import time as time
    from .signal import signal as signal

__all__ = ["Error", "Limits", "Result", "check", "exit", "genid", "pcall", "pid", "run", "version"]

pid = os.getpid()
"""This process's number."""

_SUBMODULES = frozenset(
    ("bridge", "env", "errno", "hive", "logger", "net", "process", "signal", "sync", "task", "testing", "time")
)
_ids = itertools.count(1)


def genid() -> int:
    """Returns a number that no other call in this process returns."""
    return next(_ids)


def run(main: Callable[[], object] | None = None) -> None:
    """Runs tasks until none is left and nothing listens.

        def main():
            print("hello")                  # -> hello

        silly.run(main)

    It is the last line of a script that is started with plain ``python``. It forks
    ``main`` first, if one is given. Inside a task that is all it does, and it returns
    at once, so the same script works under ``python -m silly``.

    The first SIGINT or SIGTERM ends the process gracefully, as ``exit`` does:
    ``SystemExit(0)`` comes out of ``run``. A second signal ends the process at once,
    and an end that a task holds off is forced after 3 s, with status 128 + the signal's
    number. If nothing can ever wake the tasks that are left, they are logged, and the
    process ends with status 1.

    Raises TypeError if ``main`` can't be called.
    """
    if main is not None and not callable(main):
        raise TypeError(f"silly.run needs a function, not {type(main).__name__}")
    ending.run(main, sys._getframe(1))


def exit(status: int = 0) -> NoReturn:
    """Ends the process gracefully with ``status``; never returns.

        def shut_down():
            server.drain(10_000)
            silly.exit()

        task.fork(shut_down)

    Listeners close, and no task or timer starts any more that had not run. WebSockets
    of servers send close 1001, and handlers of connections finish, for 2 s at most, or
    what the launcher's ``--drain`` says. Then all tasks get ``GreenletExit`` where they
    wait, and their ``with`` and ``finally`` blocks run; these may use the network until
    one more second is over. Output is flushed within the same time. ``docs/ending.md``
    has the whole order.

    In a task ``exit`` raises ``GreenletExit`` at once, and a handler that calls it
    counts as ended. In a signal handler that interrupts a task or the loop it returns,
    and what was interrupted goes on until the end begins. Raises TypeError if
    ``status`` is not an int.
    """
    if not isinstance(status, int):
        raise TypeError(f"an exit status is an int, not {type(status).__name__}")
    ending.exit(status)


def pcall(func: Callable[..., Any], *args: Any) -> tuple[bool, Any]:
    """Calls ``func(*args)``, and returns what it raises instead of raising it.

        silly.pcall(int, "42")              # -> (True, 42)
        ok, err = silly.pcall(int, "forty")
        ok                                  # -> False

    Returns ``(True, result)``, or ``(False, traceback)`` with the traceback as text if
    ``func`` raised. KeyboardInterrupt, SystemExit and GreenletExit pass through,
    because they are ends and not errors.
    """
    try:
        return True, func(*args)
    except ENDS:
        raise
    except BaseException:
        return False, traceback.format_exc()


if not TYPE_CHECKING:  # a type checker knows the names above, and must report all others

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
