"""Signals: Ctrl-C while the main program is blocked, and the graceful end of
``silly.run``.

While ``silly.run`` runs, the first SIGINT or SIGTERM ends the process gracefully, and
the second ends it at once. Elsewhere, in a plain script or at the REPL, Ctrl-C raises
KeyboardInterrupt in the main program, as usual.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from .loop import Loop

_interrupts: list[Callable[[int, FrameType | None], None]] = []


def interrupt_safely(loop: Loop, in_main: Callable[[], bool], deliver: Callable[[BaseException], object]) -> None:
    """Makes Ctrl-C reach the blocked main program between two callbacks of the loop.

    Python's own handler raises at any bytecode. Inside the scheduler that could lose a
    task that has just left the queue, so the exception is posted to the loop. Only a
    second Ctrl-C raises at once, for when something keeps the loop from turning.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    pending = False

    def delivered() -> None:
        nonlocal pending
        pending = False
        deliver(KeyboardInterrupt())

    def caught(number: int, frame: FrameType | None) -> None:
        nonlocal pending
        if pending or in_main():
            pending = False
            raise KeyboardInterrupt
        pending = True
        loop.post(delivered)

    _interrupts.append(caught)
    signal.signal(signal.SIGINT, caught)


_replaced: dict[int, Any] = {}
"""The original handlers of the signals that ``Signals`` handles now."""


def forget_signals() -> None:
    """Restores the original handlers in a forked child, where no loop turns."""
    if _replaced:
        signal.set_wakeup_fd(-1)
    for number, handler in _replaced.items():
        signal.signal(number, handler)
    if signal.getsignal(signal.SIGINT) in _interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Signals:
    """A context in which SIGINT and SIGTERM call ``graceful()``, unless the application
    has its own handlers.

    The first signal restores the default action, so a second one always ends the
    process.
    """

    def __init__(self, loop: Loop, graceful: Callable[[], object]) -> None:
        self._loop = loop
        self._graceful = graceful
        self._saved_fd = -1

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread handle signals
        # A Python signal handler runs between bytecodes, so a signal must wake the
        # selector.
        self._saved_fd = signal.set_wakeup_fd(self._loop.wakeup_fd.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler, *_interrupts):
                _replaced[number] = handler
                signal.signal(number, self._caught)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        for each in _replaced:
            signal.signal(each, signal.SIG_DFL)
        self._graceful()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._saved_fd)
            for number, handler in _replaced.items():
                signal.signal(number, handler)
            _replaced.clear()
