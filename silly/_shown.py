"""How values of the application and of peers are shown in log lines and errors.

A value may be megabytes long, may hold secrets, and may raise when it is converted to
text. So every text is bounded, a function is shown by its name and never with the
arguments that are bound to it, and only ends are raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any

from ._ends import ENDS

MOST = 200
"""The most characters of a text, without the ``…`` that stands for what was cut off."""
_DEPTH = 4
"""How many levels of nested containers are shown."""
_LONG = 10**40
"""Of a larger int only the length is shown. (Python refuses to write one of more than
4,300 digits.)"""

_type_qualname: Callable[[type], str] = type.__dict__["__qualname__"].__get__
"""The name of a type, whatever its metaclass makes of that word."""
traceback_of: Callable[[BaseException], TracebackType | None] = BaseException.__dict__["__traceback__"].__get__
"""The traceback of an exception, whatever its class makes of that word."""


def shown(value: object, most: int = MOST) -> str:
    """Returns ``repr(value)``, or its first ``most`` characters and ``…``.

    Reads no more of text, bytes and containers than it shows. Raises only ``ENDS``.
    """
    try:
        return cut(_repr(value, most, _DEPTH), most)
    except ENDS:
        raise
    except BaseException as exc:
        return unspeakable(value, exc)


def said(value: object) -> str:
    """Returns ``str(value)``, or a replacement if that raises. Not bounded: for what
    the application wants to print. Raises only ``ENDS``."""
    try:
        return str(value)
    except ENDS:
        raise
    except BaseException as exc:
        return unspeakable(value, exc)


def counted(number: int, noun: str) -> str:
    """Returns ``1 worker`` or ``2 workers``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def name_of(func: object) -> str:
    """Returns the name of something that can be called: ``function``, ``Class.method``,
    ``<lambda> at file:line``, ``partial(function, …)``, or ``Class.__call__`` for any
    other object. At most ``MOST`` characters. Raises only ``ENDS``."""
    try:
        return cut(_name(func))
    except ENDS:
        raise
    except BaseException:
        return cut(f"{_type_qualname(type(func))}.__call__")


def _name(func: object) -> str:
    if isinstance(func, partial):
        return f"partial({_name(func.func)}, …)"
    name = getattr(func, "__qualname__", None)
    if type(name) is not str:
        return f"{_type_qualname(type(func))}.__call__" if callable(func) else shown(func)
    code = getattr(func, "__code__", None)
    if code is not None and name.endswith("<lambda>"):
        return f"<lambda> at {code.co_filename}:{code.co_firstlineno}"
    return name


def unspeakable(value: object, exc: BaseException) -> str:
    """Returns what can be said of a value whose text can't be had, because of ``exc``.
    """
    what, why = _type_qualname(type(value)), _type_qualname(type(exc))
    return f"<{cut(what)}, which can't be shown: {cut(why)}>"


def cut(text: str, most: int = MOST) -> str:
    """Returns ``text``, or its first ``most`` characters and ``…``."""
    return text if len(text) <= most else f"{text[:most]}…"


def _repr(value: Any, most: int, depth: int) -> str:
    """Returns ``repr(value)``, or a beginning of it with more than ``most``
    characters."""
    # Exact types: what derives from them may have a repr of its own.
    kind = type(value)
    if kind is str or kind is bytes or kind is bytearray:
        return repr(value[: most + 1])
    if kind is int and abs(value) > _LONG:
        return f"an int of {value.bit_length()} bits"
    if kind is list:
        return f"[{_joined(value, most, depth)}]"
    if kind is tuple:
        return f"({_joined(value, most, depth)}{',' if len(value) == 1 else ''})"
    if (kind is set or kind is frozenset) and value:
        text = f"{{{_joined(value, most, depth)}}}"
        return text if kind is set else f"frozenset({text})"
    if kind is dict:
        return f"{{{_joined(value.items(), most, depth, _pair)}}}"
    return repr(value)


def _pair(item: tuple[Any, Any], most: int, depth: int) -> str:
    key, value = item
    return f"{_repr(key, most, depth)}: {_repr(value, most, depth)}"


def _joined(values: Iterable[Any], most: int, depth: int, show: Callable[[Any, int, int], str] = _repr) -> str:
    """Returns what stands within the brackets: as many of ``values`` as are shown."""
    parts: list[str] = []
    room = most
    for value in values:
        if room < 0 or not depth:
            parts.append("…")
            break
        parts.append(show(value, room, depth - 1))
        room -= len(parts[-1]) + 2
    return ", ".join(parts)
