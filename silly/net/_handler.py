"""Checks the handlers that a program gives to a listener or a router, so that a bad one
raises there, and not again and again for each peer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from types import MethodType

from .._shown import name_of

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MARKS: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def check_handler(what: str, handler: Callable[..., object], given: str, names: Collection[str] = ()) -> None:
    """Checks that ``handler`` can be called with one argument, which errors call
    ``given``, and the keyword arguments ``names``. ``what`` begins the errors.

    Raises TypeError for a coroutine function and for a generator function, whose calls
    run nothing, and ValueError if it does not take these arguments, as far as that can
    be told.
    """
    name = name_of(handler)
    called = getattr(handler, "__call__", None)  # noqa: B004
    target: Callable[..., object] = handler
    if not isinstance(handler, MethodType) and isinstance(called, MethodType):
        target = called  # of an instance that can be called
    if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        raise TypeError(f"{what}: {name} is an async function, which never runs here: write def, and calls without await")
    if inspect.isgeneratorfunction(target):
        raise TypeError(f"{what}: {name} has a yield, so a call of it would run nothing: write each piece to the {given}")
    if hasattr(target, "__signature__"):
        return  # what it says of itself, which may be another function's
    # With ``self``, which is a name that a keyword argument can't have either.
    func, before = (target.__func__, [None]) if isinstance(target, MethodType) else (target, [])
    try:
        # Not that of a function which it wraps: the wrapper is called.
        signature = inspect.signature(func, follow_wrapped=False)
    except (ValueError, TypeError):
        return  # written in C: it can't be told
    try:
        signature.bind(*before, None, **dict.fromkeys(names))
    except TypeError as exc:
        parameters = list(signature.parameters.values())[len(before) :]
        raise ValueError(f"{what}: {_explained(name, given, names, parameters, str(exc))}") from None


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
