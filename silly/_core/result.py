"""What fallible calls return (porting contract, "Rules of translation")."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


class Error(Exception):
    """Raised by ``silly.check`` for an error pair, and where a blocked main program can never be woken."""


class Result(tuple[bool, str | None]):
    """``(ok, err)``: unpacks like a pair, and is as true as its first item.

    So both of Lua's habits port: ``ok, err = conn.write(x)`` and ``if not conn.write(x): ...``.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return self[0]

    def __repr__(self) -> str:
        return f"Result({self[0]!r}, {self[1]!r})"


OK = Result((True, None))
"""The one success value: shared, so that success costs nothing."""


def failure(err: str) -> Result:
    """The error pair ``(False, err)``."""
    return Result((False, err))


def check(pair: tuple[_T | None, Any]) -> _T:
    """Returns the first item of a pair, or raises ``silly.Error(err)`` when it is ``None`` or ``False``.

    Lua's ``assert(tcp.connect(addr))``, for those who prefer exceptions::

        conn = silly.check(tcp.connect("127.0.0.1:8080"))
    """
    value, err = pair
    if value is None or value is False:
        raise Error(err)
    return value


class Pair(tuple[Any, Any]):
    """``(value, None)`` or ``(None, err)``: a tuple in everything, but it explains itself
    to a program that uses it as the value. Each function has a subclass of its own."""

    __slots__ = ()
    explanation = ""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(self.explanation)

    def __enter__(self) -> NoReturn:
        raise TypeError(self.explanation)

    def __exit__(self, *exc: object) -> NoReturn:
        raise TypeError(self.explanation)


def returns_pair(call: str, value: str) -> Callable[[_F], _F]:
    """Decorates a function that returns a pair: what ``call`` returns then explains
    itself, with ``value`` as the name of the first item. Not for calls as frequent as
    ``read``."""
    explanation = f"{call} returns a pair: {value}, err = {call}(…)"
    kind: type[Pair] = type("Pair", (Pair,), {"__slots__": (), "explanation": explanation})

    def decorate(func: _F) -> _F:
        @wraps(func)
        def paired(*args: Any, **kwargs: Any) -> Pair:
            return kind(func(*args, **kwargs))

        return cast(_F, paired)

    return decorate
