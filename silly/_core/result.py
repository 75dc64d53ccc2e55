"""The results of calls that may fail: pairs of a value and an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

_T = TypeVar("_T")
_E = TypeVar("_E", bound=str)
_F = TypeVar("_F", bound=Callable[..., Any])
if TYPE_CHECKING:
    # Type checkers bring this module: it need not be installed. The default makes
    # ``Result`` alone mean ``Result[str]``.
    from typing_extensions import TypeVar as _TypeVar

    E = _TypeVar("E", bound=str, covariant=True, default=str)
else:
    E = TypeVar("E", bound=str, covariant=True)


class Error(Exception):
    """Raised by ``silly.check`` for an error, and in the main program if nothing can
    wake it."""


class OwnMembers(type):
    """The class of an error that is a ``str`` with more members: lists only those.
    Otherwise ``help()`` would show 400 lines about methods of ``str``.
    """

    def __dir__(cls) -> list[str]:
        return [name for name in vars(cls) if not name.startswith("_")]


class Result(tuple[bool, E | None], Generic[E]):
    """``(ok, err)``: unpacks like any pair, but is true only if ``ok`` is.

    So both habits of Lua work: ``ok, err = conn.write(x)`` and
    ``if not conn.write(x):``.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return self[0]

    def __repr__(self) -> str:
        return f"Result({self[0]!r}, {self[1]!r})"


OK: Result[Any] = Result((True, None))
"""The one success value: shared, so that success costs nothing."""


def failure(err: _E) -> Result[_E]:
    """Returns the error ``(False, err)``."""
    return Result((False, err))


def check(pair: tuple[_T | None, Any]) -> _T:
    """Returns the first item of a pair, or raises ``silly.Error(err)`` if that is
    ``None`` or ``False``. It is for those who prefer exceptions; in Lua it is
    ``assert``.

        conn = silly.check(tcp.connect("127.0.0.1:8080"))
    """
    value, err = pair
    if value is None or value is False:
        raise Error(err)
    return value


class Pair(tuple[Any, Any]):
    """``(value, None)`` or ``(None, err)``: a tuple, which explains itself to a program
    that uses it as the value. Each function has a subclass of its own.
    """

    __slots__ = ()
    explanation = ""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(self.explanation)

    def __enter__(self) -> NoReturn:
        raise TypeError(self.explanation)

    def __exit__(self, *exc: object) -> NoReturn:
        raise TypeError(self.explanation)


def returns_pair(call: str, value: str) -> Callable[[_F], _F]:
    """Decorates a function that returns a pair. What ``call`` returns then explains
    itself, with ``value`` as the name of the first item. Not for calls as frequent as
    ``read``.
    """
    explanation = f"{call} returns a pair: {value}, err = {call}(…)"
    kind: type[Pair] = type("Pair", (Pair,), {"__slots__": (), "explanation": explanation})

    def decorate(func: _F) -> _F:
        @wraps(func)
        def paired(*args: Any, **kwargs: Any) -> Pair:
            return kind(func(*args, **kwargs))

        return cast(_F, paired)

    return decorate


_DATA = (str, bytes, bytearray, memoryview, dict, list)


def mistake(value: object, instead: str | None, any_type: bool = False) -> str | None:
    """Says what is wrong with a function that returned ``value``, or returns None if
    that is harmless. ``instead``: how data is sent; None if it may be dropped.
    ``any_type``: whether a value of any type is a mistake, not only data."""
    if isinstance(value, CoroutineType):
        value.close()  # else Python warns that it was never awaited
        instead = "write def instead of async def, and calls without await, or run it with bridge.asyncio.run"
        return f"returned a coroutine, which never runs: {instead}"
    if isinstance(value, (GeneratorType, AsyncGeneratorType)):
        what = "call a function for each piece" if instead is None else "send each piece"
        return f"returned a generator, which never runs: it contains yield; {what} instead"
    if instead is None or isinstance(value, (Result, Pair)) or not (any_type or isinstance(value, _DATA)):
        return None
    return f"returned {_article(type(value).__name__)}, which is not sent: {instead}"


def _article(name: str) -> str:
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
