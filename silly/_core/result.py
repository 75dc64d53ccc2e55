"""What fallible calls return (porting contract, "Rules of translation")."""

from __future__ import annotations

from typing import Any, TypeVar

_T = TypeVar("_T")


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
