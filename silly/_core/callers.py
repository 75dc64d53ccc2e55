"""Finds the program's frames among the library's, and the name of the call that the
program made. Only errors, reports and warnings use it, so it may be slow. The check of
a time-out is here because it may warn."""

from __future__ import annotations

import inspect
import re
import sys
from types import CodeType, FrameType
from typing import Any

from .._log import task as logger
from .._wire.numbers import check_ms

PACKAGE = (lambda: 0).__code__.co_filename.rpartition("_core")[0]
"""What the file names of all code of the library begin with. Not ``__file__``: in a zip
file of compiled modules, and where a tool has frozen them, code has other names."""

_VARIABLES = {"process": "child", "socket": "sock", "writer": "message"}
"""The documentation's names for objects, where they are not the last word of the name
of the class."""

_SHORT = 1000
"""The most places in a program whose times of less than 1 ms are remembered."""
_AGAIN = 10
"""How often the same time of less than 1 ms must come in a row to be taken for one that
was not computed. One call may look at its time-out several times."""
_short: dict[tuple[str, int], tuple[float, int] | None] = {}
"""Such places, each with the last such time and how often it came in a row, or None
after the warning."""


def outside(frame: FrameType | None) -> FrameType | None:
    """Returns the innermost frame, from ``frame`` outwards, outside the library."""
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame


def place_of(greenlet: Any) -> str:
    """Returns where in the program a suspended greenlet stands, as ``file:line``; "" if
    it has not begun, or has ended."""
    frame = outside(greenlet.gr_frame if greenlet is not None else None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def called(frame: FrameType | None) -> str | None:
    """Returns the public name of the call by which the program came to ``frame``, such
    as ``time.sleep`` or ``conn.read``, or None if the library called itself."""
    found = None
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        found = _public(frame) or found
        frame = frame.f_back
    return found


def _public(frame: FrameType) -> str | None:
    """Returns the name under which a program calls the function of ``frame``; None if
    it is private, a wrapper, or only calls what it is given."""
    name = frame.f_code.co_name
    module: str = frame.f_globals["__name__"]
    if name == "__next__":
        return f"next({_variable(frame.f_locals['self'])})"
    if name[0] in "_<" or "<locals>" in frame.f_code.co_qualname or module.startswith("silly._") or name == "pcall":
        return None
    owner = frame.f_locals.get("self")
    places = module.partition("._")[0].split(".")
    for count in range(1, len(places) + 1):
        home = sys.modules.get(".".join(places[:count]))  # at the end of the interpreter None is left
        shown = getattr(home, name, None)
        of_owner = shown is not None and getattr(shown, "__self__", None) is owner
        if of_owner and (owner is not None or _is_of(shown, frame.f_code)):
            return f"{short_name(places[:count])}.{name}"
    return f"{short_name(places) if owner is None else _variable(owner)}.{name}"


def _is_of(function: object, code: CodeType) -> bool:
    """Whether ``code`` is that of a function, or of the one that it wraps. Functions of
    two modules may have one name."""
    return getattr(inspect.unwrap(function), "__code__", None) is code  # type: ignore[arg-type]


def short_name(places: list[str]) -> str:
    """Returns the name that programs have for the module of a dotted name. Those of
    ``silly.bridge`` have names of other libraries, so they keep that word."""
    return ".".join(places[-2:] if places[-2:-1] == ["bridge"] else places[-1:])


def _variable(owner: object) -> str:
    """Returns what the documentation calls an object of this class, or of the class of
    the library that it is derived from."""
    kind = next(each for each in type(owner).__mro__ if each.__module__.startswith("silly."))
    word: str = re.findall("[A-Z]?[a-z]+", kind.__name__)[-1].lower()
    return _VARIABLES.get(word, word)


def seconds_meant(ms: float) -> None:
    """Warns, once for each place in the program, that times are in milliseconds. Called
    for a time of more than 0 and less than 1 ms, which is most likely meant in seconds
    if it stands in the code as a number, or comes again and again. A time that was
    computed, such as the rest of a time-out, may be as short, but is seldom the same
    twice.
    """
    here = sys._getframe(1)
    frame = outside(here)
    if frame is None:
        return
    ms = float(ms)  # a number of another library may compare with the constants in its own way
    place = frame.f_code.co_filename, frame.f_lineno
    last = _short.get(place, (0.0, 0))
    if last is None or (place not in _short and len(_short) >= _SHORT):
        return
    count = last[1] + 1 if last[0] == ms else 1
    if count < _AGAIN and ms not in frame.f_code.co_consts:
        _short[place] = ms, count
        return
    _short[place] = None
    at = f"{place[0]}:{place[1]}"
    logger.warn(f"{called(here)}: {ms:g} at {at} is {ms:g} ms: every time is in milliseconds, and {ms:g} s is {ms * 1000:g}")


def check_timeout(call: str, timeout: float) -> None:
    """Raises TypeError or ValueError if the time-out of ``call`` is no time in
    milliseconds."""
    check_ms(f"{call}: the time-out", timeout)
    if 0 < timeout < 1:
        seconds_meant(timeout)
