"""Both implementations of the wire functions (and a class), either of which a test may run on: ``silly._wire.accelerated`` and
``accelerated_http`` choose one for a process, by what was built.

The modules that use them have bound their names at import. ``using`` finds all such bindings, and exchanges their values;
``tests/test_implementations.py`` looks for what it might not find.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import silly
from silly._wire import accelerated, accelerated_http, answer, chunk_data, http1, lines, mask, messages, payload

Functions = dict[str, Any]

PURE: Functions = {
    "apply_mask": mask.apply_mask,
    "unmask": mask.unmask,
    "take_messages": messages.take_messages,
    "message_frame": messages.message_frame,
    "take_until": lines.take_until,
    "take_request": http1.take_request,
    "answer_lines": answer.answer_lines,
    "take_chunks": chunk_data.take_chunks,
    "Payload": payload.Payload,
}
ACCELERATED: Functions = {}
"""Those in C; empty when an extension isn't there."""
MISSING = ""
"""Why it isn't."""
EXTENSIONS = [f"silly._wire.{path.stem}" for path in sorted(Path(lines.__file__).parent.glob("*.c"))]
try:
    in_c = {name: value for extension in EXTENSIONS for name, value in vars(import_module(extension)).items()}
except ImportError as exc:
    MISSING = f"the wire code in C isn't there: {exc}"
else:
    ACCELERATED.update({name: in_c[name] for name in PURE})

NEEDED = os.environ.get("SILLY_NEED_C") == "1"
"""That it isn't is a failure, no reason to skip: so continuous integration says."""
needs_c = pytest.mark.skipif(not ACCELERATED and not NEEDED, reason=MISSING)

NAMES = ["pure", "accelerated"]
"""The implementations that the tests run on in this process. CI runs the suite twice, each time on one."""
if os.environ.get("SILLY_PURE") == "1":
    NAMES = ["pure"]
elif NEEDED:
    NAMES = ["accelerated"]

CHOOSERS = (accelerated, accelerated_http)
CHOSEN: Functions = {name: getattr(chooser, name) for chooser in CHOOSERS for name in chooser.__all__ if name != "in_c"}
IMPLEMENTATIONS = {"pure": PURE, "accelerated": ACCELERATED}
AVAILABLE = [functions for functions in IMPLEMENTATIONS.values() if functions]

HOMES = {
    f"silly._wire.{name}" for name in ("answer", "chunk_data", "http1", "lines", "mask", "messages", "payload")
} | set(EXTENSIONS)
"""The modules that they are written in: what these have bound is their own."""


def _forbidden(name: str) -> Any:
    def forbidden(*args: object) -> None:
        raise AssertionError(f"this test runs once, but uses {name!r}: it must run on both implementations (see ONCE)")

    return forbidden


FORBIDDEN: Functions = {name: _forbidden(name) for name in PURE} | {"take_until": CHOSEN["take_until"]}
"""For tests that are said to use none of them, but for lines: the tests' own clients read them."""


class Binding(NamedTuple):
    """That the global ``name`` of a module holds the wire function ``function``."""

    module: str
    name: str
    function: str

    @property
    def value(self) -> Any:
        return vars(sys.modules[self.module])[self.name]


_names = {id(value): name for functions in (PURE, ACCELERATED, FORBIDDEN) for name, value in functions.items()}
_bindings: list[Binding] = []
_seen: tuple[str, ...] = ()


def bindings() -> list[Binding]:
    """All of them in the modules of silly that are loaded."""
    global _seen
    if (names := tuple(sys.modules)) != _seen:
        _seen = names
        loaded = [name for name in names if name.startswith("silly.") and name not in HOMES]
        _bindings[:] = [
            Binding(module, name, _names[id(value)])
            for module in loaded
            for name, value in vars(sys.modules[module]).items()
            if id(value) in _names
        ]
    return _bindings


def load_all() -> None:
    """Loads every module of silly: what is loaded while a test runs would bind that test's implementation."""
    for info in pkgutil.walk_packages(silly.__path__, "silly."):
        if info.name not in HOMES:
            import_module(info.name)


_current = CHOSEN


def _put(functions: Functions) -> None:
    global _current
    _current = functions
    for binding in bindings():
        vars(sys.modules[binding.module])[binding.name] = functions[binding.function]


@contextmanager
def using(functions: Functions) -> Iterator[None]:
    """All of silly uses these ``functions`` within the block."""
    before = _current
    _put(functions)
    try:
        yield
    finally:
        _put(before)


# ---- for the conftest.py of a package whose tests run on both ------------------------------------------------------------


@pytest.fixture(autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test on one of the two, "pure" or "accelerated", as ``run_on_both`` says; else with none at all."""
    name = getattr(request, "param", "")
    if name and not IMPLEMENTATIONS[name]:
        (pytest.fail if NEEDED else pytest.skip)(MISSING)
    with using(IMPLEMENTATIONS[name] if name else FORBIDDEN):
        yield name


def run_on_both(metafunc: pytest.Metafunc, once: set[str]) -> None:
    """Has each test run on the implementations of ``NAMES``, but for those that ``once`` names (as ``module`` or
    ``module.function``), which use neither."""
    module = metafunc.module.__name__.rpartition(".")[2]
    if once.isdisjoint((module, f"{module}.{metafunc.function.__name__}")):
        metafunc.parametrize("implementation", NAMES, indirect=True)
