"""Checks the handlers that a program gives to a listener or a router, so that a bad one
raises there, and not again and again for each peer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import FunctionType, MethodType
from typing import Any

from .._shown import name_of

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_DEPTH = 8
"""How many objects that call each other are followed."""
_MARKS: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def check_handler(what: str, handler: Callable[..., object], given: str, names: Collection[str] = ()) -> None:
    """Checks that ``handler`` can be called with one argument, which errors call
    ``given``, and the keyword arguments ``names``. ``what`` begins the errors.

    Raises TypeError for a coroutine function and for a generator function, whose calls
    run nothing, and ValueError if it does not take these arguments, as far as that can
    be told.
    """
    name = name_of(handler)
    target = _called(handler)
    func, before = (target.__func__, [None]) if isinstance(target, MethodType) else (target, [])
    _check_runs(what, name, func, f"write each piece to the {given}")
    try:
        if hasattr(target, "__signature__"):
            return  # what it says of itself, which may be another function's
        # With ``self``, which is a name that a keyword argument can't have either. Not
        # that of a function which it wraps: the wrapper is called.
        signature = inspect.signature(func, follow_wrapped=False)
    except Exception:
        # It can't be told: it is written in C, or raises when it is asked. So do
        # annotations of Python 3.14 that name what only type checkers import.
        return
    try:
        signature.bind(*before, None, **dict.fromkeys(names))
    except TypeError as exc:
        parameters = list(signature.parameters.values())[len(before) :]
        raise ValueError(f"{what}: {_explained(name, given, names, parameters, str(exc))}") from None


def check_runs(what: str, func: Callable[..., object]) -> None:
    """Raises TypeError if ``func`` can't be called, or if a call of it runs nothing."""
    if not callable(func):
        raise TypeError(f"{what} is a function, not {type(func).__name__}")
    _check_runs(what, name_of(func), _called(func), "return what it finds")


def _check_runs(what: str, name: str, func: object, instead: str) -> None:
    flags = _flags(func)
    if flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
        raise TypeError(
            f"{what}: {name} is an async function, which never runs here: write def, and calls without await; "
            "bridge.asyncio.run runs a coroutine"
        )
    if flags & CO_GENERATOR:
        raise TypeError(f"{what}: {name} has a yield, so a call of it would run nothing: {instead}")


def _called(handler: Any) -> Any:
    """Returns the function, method, class or partial that a call of ``handler`` runs,
    or what is left where that can't be told.

    ``inspect.signature`` of an object follows its ``__call__`` too, but up to Python
    3.12 it takes one that is a static method, or an object itself, for a method.
    """
    target = handler
    for _ in range(_DEPTH):
        kind = type(target)  # a proxy or a mock says that it is another one
        if issubclass(kind, partial):
            return partial(_called(target.func), *target.args, **target.keywords)
        if issubclass(kind, (FunctionType, MethodType, type)):
            return target
        # As a call does: that of the class, whatever the object has.
        call = inspect.getattr_static(kind, "__call__", None)
        get = getattr(type(call), "__get__", None)
        target = call if get is None else get(call, target, kind)
    return target


def _flags(func: object) -> int:
    """Returns the flags of a function's code, 0 of anything else. Unlike
    ``inspect.iscoroutinefunction`` it doesn't believe marks, which ``functools.wraps``
    copies."""
    while isinstance(func, (partial, MethodType)):
        func = func.func if isinstance(func, partial) else func.__func__
    return func.__code__.co_flags if type(func) is FunctionType else 0


def _explained(name: str, given: str, names: Collection[str], parameters: list[inspect.Parameter], why: str) -> str:
    """Says why the handler can't be called, and what to do."""
    own = ", ".join(
        f"{_MARKS.get(each.kind, '')}{each.name}{'' if each.default is each.empty else '=…'}" for each in parameters
    )
    call = ", ".join([given, *(f"{each}=…" for each in names)])
    text = f"the handler is called as {name}({call}), but is defined as {name}({own}): {why}"
    positional = [each.name for each in parameters if each.kind in _POSITIONAL]
    if positional and positional[0] in names:
        return f"{text}. Its parameter {positional[0]!r} is the {given}: give the pattern's parameter another name"
    if names:
        return f"{text}. Its parameters must be the {given} and the names in the pattern"
    more = ", and what the pattern of a route names as {name}" if given == "stream" else ""
    return f"{text}. It gets only the {given}{more}"
