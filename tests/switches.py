"""Which public calls may wait: the table in docs/tasks.md, and whether it is true.

``public_calls`` finds the calls, ``table`` reads what the page says of them. ``Watch``
sees each switch away from a task, and notes the calls that the table says never wait.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import greenlet

from silly._core import callers, scheduler
from silly._core.cancelling import Shield
from silly._core.deadline import Deadline
from silly._core.group import Group
from silly._core.mapping import Results
from silly._core.unswitching import NoSwitch
from silly.bridge.asyncio import AsyncItems
from silly.net.http._body import BodyPieces
from silly.sync._bounded import BoundedChannel

from .test_api import PUBLIC, documented, public_names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tasks.md"

NEVER, MAY, ALWAYS, AS_FUNCTION, LAST = "never", "may wait", "always", "as its function", "never returns"

RETURNED: dict[str, tuple[type, str]] = {
    "bridge.asyncio.iterate()": (AsyncItems, ""),
    "channel.new(size)": (BoundedChannel, "push send pop recv clear"),
    "http.ClientStream.pieces()": (BodyPieces, ""),
    "http.ServerStream.pieces()": (BodyPieces, ""),
    "task.group()": (Group, "fork"),
    "task.map()": (Results, "close"),
    "task.no_switch()": (NoSwitch, ""),
    "task.shield()": (Shield, ""),
    "time.deadline()": (Deadline, ""),
}
"""Classes that no module offers, but whose objects a call returns, each with the methods that a program calls, beside
``with`` and ``for``. Add yours here."""

INTERNAL = {"testing.Clock.busy", "testing.Clock.wait"}
"""Methods that only the library calls."""

SPECIAL = ("__enter__", "__exit__", "__iter__", "__next__")
"""Methods that ``with`` and ``for`` call. Those that only return the object are left out."""


def _function(value: Any) -> Any:
    """The function behind a method, a class method or a wrapper; None for anything else."""
    value = inspect.unwrap(getattr(value, "__func__", value))
    return value if inspect.isfunction(value) else None


def _trivial(function: Any) -> bool:
    """Whether it only returns its ``self``."""
    code = function.__code__
    return not code.co_names and code.co_argcount == 1 and code.co_flags & inspect.CO_GENERATOR == 0


def _modules() -> Iterator[tuple[str, Any]]:
    """The public modules, by the names that programs have for them."""
    for name in PUBLIC:
        module = importlib.import_module(name)
        inside = name.split(".")
        # Not the files of http, which it offers itself, nor pytest's plugin.
        if (hasattr(module, "__all__") or name.count(".") == 1) and name != "silly.testing.plugin":
            yield callers.short_name(inside), module


class Call(NamedTuple):
    """A public call: its function, and its class if it is a method."""

    function: Any
    owner: type | None


def public_calls() -> dict[str, Call]:
    """The public functions and methods, and what ``with`` and ``for`` call of public objects, by the names in the table."""
    found: dict[str, Call] = {}
    classes = {place: owner for place, (owner, _) in RETURNED.items()}
    for short, module in _modules():
        for name, _ in documented(module):
            value = getattr(module, name, None)
            if inspect.isclass(value):
                classes[f"{short}.{name}"] = value
        for name in public_names(module):
            function = _function(getattr(module, name))
            if function is not None and not inspect.isclass(getattr(module, name)):
                found[f"{short}.{name}"] = Call(function, _owner(getattr(module, name)))
    for place, owner in classes.items():
        for name, function in _methods(owner, classes):
            if f"{place}.{name}" in INTERNAL:
                continue
            if place not in RETURNED or name in (*SPECIAL, *RETURNED[place][1].split()):
                found[f"{place}.{name}"] = Call(function, owner)
    return found


def _owner(value: Any) -> type | None:
    """The class of a bound method, such as ``http.get``."""
    return type(value.__self__) if inspect.ismethod(value) else None


def _methods(owner: type, classes: dict[str, type]) -> Iterator[tuple[str, Any]]:
    """The public methods of a class, without those of a public class below it."""
    seen = set()
    for base in owner.__mro__:
        if base is not owner and base in classes.values():
            return
        if not base.__module__.startswith("silly"):
            continue
        for name, value in vars(base).items():
            function = _function(value)
            if function is None or name in seen or not _shown(name, function):
                continue
            seen.add(name)
            yield name, function


def _shown(name: str, function: Any) -> bool:
    return name in SPECIAL and not _trivial(function) if name.startswith("_") else True


class Row(NamedTuple):
    """What the page says about a call."""

    says: str
    when: str


def _keys(part: str, written: str, calls: dict[str, Call]) -> list[str]:
    """The calls that ``written`` stands for: ``with x`` and ``for … in x`` mean the special methods of x. ``part`` is which
    end of a ``with`` block, or both if it is empty."""
    word, _, place = written.rpartition(" ")
    if not word:
        return [written]
    wanted = {"begin": SPECIAL[:1], "end": SPECIAL[1:2], "": SPECIAL[:2] if word == "with" else SPECIAL[2:]}[part]
    return [key for name in wanted if (key := f"{place}.{name}") in calls] or [f"{place}.{wanted[-1]}"]


def table(text: str, calls: dict[str, Call]) -> list[tuple[str, Row]]:
    """The rows of the page, one for each call that they name."""
    rows = []
    for names, says, when in re.findall(r"^\| ([^|]*`) \| ([a-z ]*) \| (.*?) ?\|$", text, re.MULTILINE):
        if says in (NEVER, MAY, ALWAYS, AS_FUNCTION, LAST):
            for part, written in re.findall("(?:the (begin|end) of )?`(.*?)`", names):
                rows += [(key, Row(says, when)) for key in _keys(part, written, calls)]
    return rows


CALLS = public_calls()
TABLE: dict[str, Row] = dict(table(PAGE.read_text(), CALLS))


def never_codes(calls: dict[str, Call], rows: dict[str, Row]) -> dict[CodeType, str]:
    """The code of what must not wait: the calls that the table says so of, and properties and constructors."""
    codes: dict[CodeType, str] = {}
    for name, (function, owner) in calls.items():
        if name in rows and rows[name].says == NEVER:
            codes.setdefault(function.__code__, name)
        for base in owner.__mro__ if owner is not None else ():
            if base.__module__.startswith("silly"):
                for inner, value in vars(base).items():
                    if isinstance(value, property) and not inner.startswith("_"):
                        codes.setdefault(value.fget.__code__, f"{base.__name__}.{inner}")
    may = {calls[name].function.__code__ for name, row in rows.items() if name in calls and row.says != NEVER}
    return {code: name for code, name in codes.items() if code not in may}  # ``close`` may be two calls


def switched(frame: FrameType | None, codes: dict[CodeType, str]) -> Iterator[str]:
    """The calls among ``codes`` by which the program has come to ``frame``, where its task waits."""
    while frame is not None and frame.f_code.co_filename.startswith(callers.PACKAGE):
        if frame.f_code in codes:
            yield codes[frame.f_code]
        frame = frame.f_back


class Watch:
    """Sees each switch away from a task, and keeps the names of calls that waited though the table says never."""

    def __init__(self, codes: dict[CodeType, str]) -> None:
        self.codes = codes
        self.wrong: set[str] = set()
        self._before: Callable[..., object] | None = None

    def __enter__(self) -> Watch:
        self._before = greenlet.settrace(self._trace)
        return self

    def __exit__(self, *exc: object) -> None:
        greenlet.settrace(self._before)

    def _trace(self, event: str, switch: tuple[Any, Any]) -> None:
        origin = switch[0]
        if origin is not scheduler.hub:
            self.wrong.update(switched(origin.gr_frame, self.codes))
