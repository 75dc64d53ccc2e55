"""That a test on either implementation of the wire functions runs on that alone, and how one is chosen for a process."""

from __future__ import annotations

import gc
import importlib
import json
import runpy
import sys
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

import silly
from silly._wire import accelerated, mask, messages

from . import implementations
from .children import Child
from .implementations import (
    ACCELERATED,
    AVAILABLE,
    CHOOSERS,
    CHOSEN,
    EXTENSIONS,
    FORBIDDEN,
    HOMES,
    IMPLEMENTATIONS,
    MISSING,
    PURE,
    bindings,
    needs_c,
    using,
)

implementations.load_all()

ROOT = Path(silly.__file__).parent


@needs_c
def test_the_extension_is_there() -> None:
    """Without it the tests skip that need it; but with ``SILLY_NEED_C=1``, which continuous integration sets, they fail."""
    assert not MISSING
    assert set(ACCELERATED) == set(PURE) == set(CHOSEN)
    assert not [name for name in PURE if ACCELERATED[name] is PURE[name]]


@pytest.mark.parametrize("source", sorted(ROOT.rglob("*.c")), ids=lambda path: str(path.relative_to(ROOT)))
@needs_c
def test_every_extension_was_built(source: Path) -> None:
    name = ".".join(("silly", *source.relative_to(ROOT).with_suffix("").parts))
    module = importlib.import_module(name)
    assert isinstance(module.__loader__, ExtensionFileLoader)


# ---- that all are found --------------------------------------------------------------------------------------------------


def test_all_of_silly_uses_those_that_speedups_chose() -> None:
    """A module that imported a function from ``mask`` or ``messages`` would always run Python."""
    users = {"silly._wire.accelerated", "silly._wire.accelerated_http", "silly._wire.chunked", "silly._wire.ws"}
    users |= {"silly.net.http._connection", "silly.net.http._serverresponse"}
    assert {binding.module for binding in bindings()} >= users
    assert [binding for binding in bindings() if binding.value is not CHOSEN[binding.function]] == []


def holders(functions: dict[str, Any]) -> Iterator[str]:
    """Whatever holds one of these ``functions``, but for their homes and the tables of these tests."""
    gc.collect()
    known = [vars(sys.modules[home]) for home in HOMES if home in sys.modules]
    known += [PURE, ACCELERATED, CHOSEN, FORBIDDEN]
    modules = {id(vars(module)): name for name, module in list(sys.modules.items()) if isinstance(module, ModuleType)}
    for name in functions:
        own = [*vars(functions[name]).values(), functions[name].__mro__] if isinstance(functions[name], type) else []
        for holder in gc.get_referrers(functions[name]):
            if not isinstance(holder, FrameType) and not any(holder is other for other in (*known, *own)):
                yield f"{name}: {modules.get(id(holder)) or repr(holder)[:200]}"


@needs_c
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_nothing_stays_on_the_other_implementation(name: str) -> None:
    """Neither as another module's global, nor in a class, a default, a closure or a list, where ``using`` doesn't look."""
    (other,) = [functions for functions in AVAILABLE if functions is not IMPLEMENTATIONS[name]]
    with using(IMPLEMENTATIONS[name]):
        assert list(holders(other)) == []
        assert all(binding.value is IMPLEMENTATIONS[name][binding.function] for binding in bindings())
    assert all(binding.value is CHOSEN[binding.function] for binding in bindings())


def test_bindings_that_using_misses_are_found() -> None:
    def default(unmask: Any = mask.unmask) -> None:
        """Nobody calls it."""

    class Attribute:
        take = staticmethod(messages.take_messages)

    found = "\n".join(holders(PURE))
    assert "unmask: (<function unmask" in found
    assert "take_messages: <staticmethod" in found
    del default, Attribute


def test_using_within_using() -> None:
    with using(FORBIDDEN):
        with using(PURE):
            assert accelerated.apply_mask is mask.apply_mask
        with pytest.raises(AssertionError, match="this test runs once, but uses 'apply_mask'"):
            accelerated.apply_mask(b"", bytes(4))
    assert accelerated.apply_mask is CHOSEN["apply_mask"]


# ---- the choice ----------------------------------------------------------------------------------------------------------


def chosen(monkeypatch: pytest.MonkeyPatch, pure: str | None) -> dict[str, Any]:
    """The names of the modules that choose, as a process has them whose ``SILLY_PURE`` is this."""
    if pure is None:
        monkeypatch.delenv("SILLY_PURE", raising=False)
    else:
        monkeypatch.setenv("SILLY_PURE", pure)
    found = {}
    for chooser in CHOOSERS:
        assert chooser.__file__ is not None
        names = runpy.run_path(chooser.__file__, run_name=chooser.__name__)
        found.update({name: names[name] for name in chooser.__all__})
    return found


@needs_c
@pytest.mark.parametrize("pure", [None, "", "0"])
def test_c_is_chosen_where_it_was_built(monkeypatch: pytest.MonkeyPatch, pure: str | None) -> None:
    assert chosen(monkeypatch, pure) == {**ACCELERATED, "in_c": True}


def test_python_is_chosen_when_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, "1") == {**PURE, "in_c": False}


@pytest.mark.parametrize("missing", [*([name] for name in EXTENSIONS), EXTENSIONS], ids="-".join)
def test_python_is_chosen_where_c_is_missing(monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
    """Each extension by itself."""
    due = {**PURE, "in_c": bool(ACCELERATED) and "silly._wire._speedups" not in missing}
    for extension in EXTENSIONS:
        if extension in missing:
            monkeypatch.setitem(sys.modules, extension, None)
        elif ACCELERATED:
            built = vars(sys.modules[extension])
            due.update({name: built[name] for name in PURE if name in built})
    assert chosen(monkeypatch, None) == due


# ---- the limits ----------------------------------------------------------------------------------------------------------

LIMITS = """
import importlib, json, socket, sys
from silly._wire import mask, messages, payload
from silly.net import _gathered

# Neither module in C is loaded yet: this process was told to do without.
numbers = json.loads(sys.argv[1])
messages.BATCH, messages.FRAGMENT = numbers["BATCH"], numbers["FRAGMENT"]
payload.RESERVE, payload.LEAST = numbers["RESERVE"], numbers["LEAST"]
_gathered.GATHER, _gathered.JOINED = numbers["GATHER"], numbers["JOINED"]

def most(size, holds):
    while not holds(size):
        size -= 1
    return size

def room(payload):
    with payload.room() as view:
        return len(view)

def limits(take_messages, message_frame, Payload, Gathered):
    rest = []
    take_messages(bytearray(b"\\x82\\x01x" * 1000), rest, False, 100)
    yield "BATCH", 1 + len(rest)
    yield "FRAGMENT", 1 + most(70_000, lambda size: message_frame(b"x" * size, "binary", None) is not None)
    given = Payload(10**8, None)
    given.add(bytearray(10**6))
    reserve = (room(given) + 10**6) // 10**6
    yield "RESERVE", reserve
    yield "LEAST", room(Payload(10**8, None)) // reserve
    yield "GATHER", 1 + most(200_000, lambda size: Gathered(None).try_queue(b"x" * size))

    class Output(Gathered):
        def _flush(self, sent, failure):
            self.unsent = -1

    def joins(size):
        end, other = socket.socketpair()
        output = Output(None)
        output.fd = end.fileno()
        output._out.extend([b"x", b"x" * (size - 1)])
        output.unsent = size
        output.flush()
        end.close()
        other.close()
        return output.unsent == 0

    yield "JOINED", most(numbers["JOINED"] + 1, joins)

for name in sys.argv[2:]:
    if name == "pure":
        found = limits(messages.take_messages, messages.message_frame, payload.Payload, _gathered.Gathered)
    else:
        wire, net = importlib.import_module("silly._wire._speedups"), importlib.import_module("silly.net._speedups")
        found = limits(wire.take_messages, wire.message_frame, wire.Payload, net.Gathered)
    print(json.dumps(dict(found)))
"""


@needs_c
@pytest.mark.parametrize(
    "numbers",
    [
        {"BATCH": 3, "FRAGMENT": 100, "RESERVE": 2, "LEAST": 500, "GATHER": 1000, "JOINED": 10},
        {"BATCH": 200, "FRAGMENT": 60_000, "RESERVE": 20, "LEAST": 20_000, "GATHER": 150_000, "JOINED": 40_000},
    ],
)
def test_a_limit_that_is_changed_in_python_is_changed_in_c(numbers: dict[str, int]) -> None:
    with Child("-c", LIMITS, json.dumps(numbers), "pure", "c", env={"SILLY_PURE": "1"}) as child:
        assert [json.loads(child.line()) for _ in range(2)] == [numbers, numbers]
        assert (child.wait(), child.errors()) == (0, "")


@needs_c
@pytest.mark.parametrize("number", [0, -1])
def test_c_refuses_invalid_limits(number: int) -> None:
    for home, name, module in (
        ("silly._wire.messages", "BATCH", "silly._wire._speedups"),
        ("silly._wire.payload", "LEAST", "silly._wire._speedups"),
        ("silly._wire.chunk_data", "OVERHEAD", "silly._wire._chunked_speedups"),
        ("silly.net._gathered", "JOINED", "silly.net._speedups"),
    ):
        program = f"import importlib, {home}\n{home}.{name} = {number}\nimportlib.import_module('{module}')"
        with Child("-c", program, env={"SILLY_PURE": "1"}) as child:
            assert child.wait() == 1
            assert child.errors().endswith(f"ValueError: {name} is not a positive number\n")
