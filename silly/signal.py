"""Signals of the operating system, handled by tasks. The module itself is the function:

    from silly import signal

    def reload(name):
        print("reloads on", name)       # -> reloads on SIGHUP

    signal("SIGHUP", reload)

The handler is called in a task of its own, so it may do all that a task may: wait, use
the network, lock. This works in each way to start a program: by ``python -m silly``, in
a script that calls ``silly.run``, and in a plain script whose main program waits.

A handler of the standard library's ``signal.signal`` is different: it runs at once,
between two steps of whatever runs, and must not wait. See ``docs/signals.md``.
"""

from __future__ import annotations

import inspect
import signal as _signal
import sys
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from types import CodeType, FrameType, ModuleType

from ._core import scheduler
from ._core.signals import give_back, interrupt_safely, take, takes
from ._shown import name_of, shown

__all__ = ["signal"]

_handlers: dict[int, tuple[Callable[[str], object], CodeType, int, Context]] = {}
"""By signal: the handler, where ``signal`` was called, and the context variables
there."""


def signal(sig: str | int, handler: Callable[[str], object] | None) -> Callable[[str], object] | None:
    """Calls ``handler(name)`` in a new task whenever the process gets the signal
    ``sig``.

        def shut_down(name):
            print("got", name)          # -> got SIGTERM

        signal("SIGTERM", shut_down)    # -> None

    ``sig`` is a name (``"SIGTERM"``) or a number (``signal.SIGTERM`` of the standard
    library). ``name`` is the signal's name. The handler replaces what happens by
    default: under ``silly.run`` the graceful end by SIGINT and SIGTERM, elsewhere
    KeyboardInterrupt and what the system does. Each signal starts a task, with the
    context variables of this call, also while the task of an earlier one still runs.

    Returns the handler that ``signal`` had set for ``sig`` before, or None. With None
    (or ``SIG_DFL``) as ``handler`` the default is restored.

    A handler is no work that is left: ``silly.run`` still returns when no task is left.
    But a program that waits for one gets no error that nothing can ever wake it. While
    a task holds the loop, the handler waits for it like any task, and nothing forces an
    end.

    Raises ValueError for a signal that does not exist here or can't be handled
    (SIGKILL, SIGSTOP), TypeError if ``handler`` can't be called with one argument, and
    RuntimeError in a thread other than the main thread of both Python and silly.
    """
    scheduler.check_thread()
    number = _number(sig)
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signal: Python handles signals only in its main thread, and silly was imported in another one")
    ours = takes(number, _caught)
    before = _handlers[number][0] if ours else None
    default: object = _signal.SIG_DFL
    if handler is not None and handler is not default:
        _check(handler)
        frame = sys._getframe(1)
        if frame.f_globals is globals():
            frame = sys._getframe(2)  # it was called as the module
        _handlers[number] = handler, frame.f_code, frame.f_lasti, copy_context()
        if not ours:
            _take(number)
    elif ours:
        give_back(number)
        del _handlers[number]
        if number == _signal.SIGINT and scheduler.hub:
            # The loop runs: from now on Python's own handler must not raise in it.
            interrupt_safely(scheduler.loop, scheduler.in_main, scheduler.interrupted, scheduler.interrupt_posted)
    return before


def _number(sig: object) -> _signal.Signals:
    """Returns the signal with the name or number ``sig``."""
    try:
        if isinstance(sig, str):
            return _signal.Signals[sig]
        if isinstance(sig, int):
            return _signal.Signals(sig)
    except (KeyError, ValueError):
        raise ValueError(f"signal: there is no signal {shown(sig)} here; an example of a name is 'SIGTERM'") from None
    raise TypeError(f"signal needs a signal's name or number, not {type(sig).__name__}")


def _check(handler: object) -> None:
    """Raises TypeError if ``handler`` can't be called with a signal's name, as far as
    that can be told."""
    if not callable(handler):
        raise TypeError(f"signal needs a function or None as the handler, not {type(handler).__name__}")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return  # it is written in C, and doesn't say
    try:
        signature.bind("SIGTERM")
    except TypeError as exc:
        call = f"{name_of(handler)}('SIGTERM')"
        raise TypeError(f"signal: the handler is called with the signal's name, as {call}: {exc}") from None


def _take(number: _signal.Signals) -> None:
    try:
        take(number, _caught)
    except OSError as exc:
        del _handlers[number]
        raise ValueError(f"signal: {number.name} can't be handled: {exc.strerror}") from None


def _caught(number: int, frame: FrameType | None) -> None:
    """Python's handler of all signals that have one of ours: starts its task."""
    handler, code, lasti, context = _handlers[number]
    # A copy: the task of an earlier signal may still run in its own.
    scheduler.fork(handler, (_signal.Signals(number).name,), None, code, lasti, context.copy())


class _Module(ModuleType):
    """This module, which can be called."""

    def __call__(self, sig: str | int, handler: Callable[[str], object] | None) -> Callable[[str], object] | None:
        return signal(sig, handler)


sys.modules[__name__].__class__ = _Module
