"""Signals: what wakes the loop, Ctrl-C while the main program is blocked, and the
graceful end of ``silly.run``.

While ``silly.run`` runs, the first SIGINT or SIGTERM ends the process gracefully, and
the second ends it at once. Elsewhere, in a plain script or at the REPL, Ctrl-C raises
KeyboardInterrupt in the main program, as usual.

A signal handler in Python runs between two bytecodes of whatever the main thread runs:
of a task, of the main program, or of the loop. While the main program is blocked, each
signal wakes the loop, so what its handler forks, wakes or sets a timer for needs no
other event (``Wakeup``).
"""

from __future__ import annotations

import inspect
import itertools
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from .loop import Loop

Handler = Callable[[int, FrameType | None], object]
"""A handler as ``signal.signal`` takes it."""

_own: list[Handler] = []
"""Our own handlers: those of ``interrupt_safely`` and ``Signals``."""

_WAKING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")
    if hasattr(signal, name)
]
"""The signals whose handlers count in ``awaited``. SIGCHLD is not one of them:
libraries set a handler for it that wakes nothing."""


def awaited() -> bool:
    """Whether the application has a handler of its own for a signal, which could wake a
    task. One of ``silly.signal`` counts for any signal: it starts a task."""
    return bool(awaited_handlers())


def awaited_handlers() -> list[object]:
    """Returns the handlers that count in ``awaited``."""
    return [handler for number in (*_WAKING, *_taken) if _is_applications(handler := signal.getsignal(number))]


def _is_applications(handler: Any) -> bool:
    return callable(handler) and handler is not signal.default_int_handler and handler not in _own


def handled(frame: FrameType | None) -> int:
    """Returns the number of the signal whose handler has called, directly or not, the
    code of ``frame``; 0 if none has.

    Python gives a handler the number and the frame that it interrupts. So a frame whose
    arguments are a signal's number and the frame behind it is a handler's.
    """
    while frame is not None:
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount]
        if code.co_flags & inspect.CO_NEWLOCALS:
            values = [frame.f_locals.get(name) for name in names]
            if code.co_flags & inspect.CO_VARARGS:
                values += frame.f_locals.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
            for number, behind in itertools.pairwise(values):
                if behind is frame.f_back and behind is not None and number in signal.valid_signals():
                    return int(number)
        frame = frame.f_back
    return 0


class Wakeup:
    """A context in which each signal wakes the loop, so that its handler runs now and
    what that does is seen. The main program is in it while it is blocked.

    The descriptor that the application has set (``signal.set_wakeup_fd``) is set again
    afterwards, and meanwhile gets the same bytes from the loop.
    """

    __slots__ = ("_before", "_fd", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        # Python lets only the main thread handle signals.
        main = threading.current_thread() is threading.main_thread()
        self._fd = loop.wakeup_fd.fileno() if main else -1
        self._before = -1

    def __enter__(self) -> None:
        if self._fd >= 0:
            before = signal.set_wakeup_fd(self._fd, warn_on_full_buffer=False)
            if before != self._fd:  # else a handler's exit waits where the main program was about to
                self._before = self._loop.signals_to = before

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            if self._before >= 0:
                self._loop.woken()
            self.restore()

    def restore(self) -> None:
        """Sets the application's descriptor again, unless it has set another one."""
        before, self._before = self._before, -1
        self._loop.signals_to = -1
        try:
            now = signal.set_wakeup_fd(before)
        except (OSError, ValueError):
            now = signal.set_wakeup_fd(-1)  # the application has closed it
        if now != self._fd:
            signal.set_wakeup_fd(now)


def interrupt_safely(
    loop: Loop,
    in_main: Callable[[], bool],
    deliver: Callable[[BaseException], object],
    posted: Callable[[Callable[[], bool]], object],
) -> None:
    """Makes Ctrl-C reach the blocked main program between two callbacks of the loop.

    Python's own handler raises at any bytecode. Inside the scheduler that could lose a
    task that has just left the queue, so the exception is posted to the loop, and
    ``posted(on_its_way)`` is called; ``on_its_way()`` says whether the main program has
    yet to get it. Only a second Ctrl-C raises at once, for when something keeps the
    loop from turning.
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
        posted(lambda: pending)

    _own.append(caught)
    signal.signal(signal.SIGINT, caught)


_GRACEFUL = (signal.SIGINT, signal.SIGTERM)
"""The signals that end the process gracefully while ``silly.run`` runs."""
_replaced: dict[int, Any] = {}
"""The original handlers of the signals that ``Signals`` handles now."""
_active: Signals | None = None
"""The ``Signals`` that is entered: the process is in ``silly.run``."""
_provided: dict[int, Handler] = {}
"""By signal, the handler that ``provide`` has set."""
_taken: dict[int, tuple[Handler, Any]] = {}
"""By signal, the handler that ``take`` has set last, and the one before it."""


def provide(number: int, handler: Handler) -> None:
    """Handles a signal whose default action would end the process, unless it has a
    handler already, or is ignored. It doesn't count in ``awaited``, and the application
    may replace it."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL:
        _own.append(handler)
        _provided[number] = handler
        signal.signal(number, handler)


def takes(number: int, handler: Handler) -> bool:
    """Whether ``take(number, handler)`` is in force: the application may have set
    another handler since, by ``signal.signal``."""
    return number in _taken and signal.getsignal(number) is handler


def take(number: int, handler: Handler) -> None:
    """Makes ``handler`` handle a signal, in place of any other handler, that of
    ``Signals`` included.

    Raises ValueError in a thread other than Python's main thread, and OSError for a
    signal that can't be handled.
    """
    before = signal.getsignal(number)
    signal.signal(number, handler)
    original = _replaced.pop(number, None)
    if _active is not None and before == _active._caught:
        before = original
    _taken[number] = handler, before


def give_back(number: int) -> None:
    """Ends ``take``: the handler before it handles the signal again. Within
    ``silly.run`` a SIGINT or SIGTERM that had none ends the process gracefully."""
    before = _original(_taken.pop(number)[1])
    if _active is not None and number in _GRACEFUL and _is_default(before):
        _active.handle(number, before)
    else:
        signal.signal(number, before)


def _original(handler: Any) -> Any:
    """Returns what ``signal.signal`` takes: a handler that C code has set is not shown
    by ``signal.getsignal``, and is lost."""
    return signal.SIG_DFL if handler is None else handler


def _is_default(handler: Any) -> bool:
    return handler in (signal.SIG_DFL, signal.default_int_handler, *_own)


def forget_signals(wakeup: Wakeup) -> None:
    """Restores what the application had set in a forked child, where no loop turns."""
    global _active
    if wakeup._fd >= 0:
        wakeup.restore()
    for number, (handler, before) in _taken.items():
        if signal.getsignal(number) is handler:
            signal.signal(number, _original(before))
    for number, handler in _replaced.items():
        signal.signal(number, handler)
    for number, handler in _provided.items():
        if signal.getsignal(number) is handler:
            signal.signal(number, signal.SIG_DFL)
    _taken.clear()
    _active = None
    if signal.getsignal(signal.SIGINT) in _own:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Signals:
    """A context in which SIGINT and SIGTERM call ``graceful(number)``, unless the
    application has its own handlers.

    The first signal restores the default action, so a second one always ends the
    process.
    """

    def __init__(self, graceful: Callable[[int], object]) -> None:
        self._graceful = graceful
        self._signalled = False

    def __enter__(self) -> None:
        global _active
        if threading.current_thread() is not threading.main_thread():
            return
        _own.append(self._caught)
        _active = self
        for number in _GRACEFUL:
            handler = signal.getsignal(number)
            if _is_default(handler):
                self.handle(number, handler)

    def handle(self, number: int, original: Any) -> None:
        """Handles a signal in place of the handler ``original``."""
        _replaced[number] = original
        signal.signal(number, signal.SIG_DFL if self._signalled else self._caught)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        for each in _replaced:
            signal.signal(each, signal.SIG_DFL)
        self._graceful(number)

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        global _active
        if threading.current_thread() is threading.main_thread():
            _active = None
            for number, handler in _replaced.items():
                signal.signal(number, handler)
            _replaced.clear()
            _own.remove(self._caught)
