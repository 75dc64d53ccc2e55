"""In a program that ``--reload`` has started: tells the files of the modules that it
has imported, through a pipe. Each is followed by a null character.

The loop's timer looks for new ones twice a second, and once more at the end. It also
sees that nobody reads the pipe any more: who watched was killed, and the program ends.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import sysconfig

from .._core import scheduler
from .._core.loop import monotonic
from .._log import task as logger
from ._another import RELOAD_PIPE

INTERVAL = 0.5
"""Seconds between two looks."""

_loop = scheduler.loop
_LIBRARIES = ("stdlib", "platstdlib", "purelib", "platlib")
_ELSEWHERE = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in _LIBRARIES})
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class _Teller:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._known: set[str] = set()
        self._count = 0
        self._unsent = b""
        self._poll = select.poll()
        self._poll.register(fd, 0)

    def tell(self) -> None:
        if len(sys.modules) != self._count:
            self._count = len(sys.modules)
            for module in list(sys.modules.values()):
                path = getattr(module, "__file__", None)
                if isinstance(path, str) and path not in self._known:
                    self._known.add(path)
                    real = os.path.realpath(path)
                    if not real.startswith(_ELSEWHERE) and not any(part in real for part in _PACKAGES):
                        self._unsent += os.fsencode(real) + b"\0"
        if self._unsent:
            try:
                self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
            except BlockingIOError:
                pass
            except BrokenPipeError:
                self._unsent = b""  # who watched is gone

    def look(self, _: None = None) -> None:
        self.tell()
        if self._poll.poll(0):  # an error: there is nothing else that was asked for
            logger.warn("the process that watches the files is gone, so this one ends")
            signal.raise_signal(signal.SIGTERM)
            return
        _loop.timers.add(monotonic() + INTERVAL, self.look, internal=True)


def tell_files() -> None:
    """Begins to tell."""
    fd = int(os.environ.pop(RELOAD_PIPE))
    os.set_inheritable(fd, False)
    os.set_blocking(fd, False)
    teller = _Teller(fd)
    atexit.register(teller.tell)
    teller.look()
