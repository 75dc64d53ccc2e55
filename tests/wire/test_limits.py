"""The limits: their defaults as docs/design.md gives them, and what they refuse."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
from typing import Any

import pytest

from silly._wire.limits import DEFAULT, Limits

from .support import described

DEFAULTS = {
    "message": 2**20,
    "fragments": 0,
    "message_rate": 240,
    "head": 64 * 1024,
    "header_lines": 128,
    "line": 8 * 1024,
    "head_timeout": 10_000,
    "idle_timeout": 75_000,
    "body_timeout": 30_000,
    "body_rate": 240,
    "body": 16 * 2**20,
    "handshake_timeout": 10_000,
    "close_timeout": 10_000,
    "control_frames": 100,
    "ping_interval": 20_000,
    "pong_timeout": 20_000,
    "receive_mark": 64 * 1024,
    "delimited": 2**20,
    "unsent": 2**20,
    "write_timeout": 30_000,
    "write_rate": 240,
    "linger": 10_000,
    "connections": 0,
    "address_connections": 0,
}
MAY_BE_ZERO = {
    "fragments",
    "message_rate",
    "body_rate",
    "write_rate",
    "connections",
    "address_connections",
    "ping_interval",
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_default(name: str, value: int) -> None:
    assert getattr(DEFAULT, name) == getattr(Limits(), name) == value


def test_every_limit_has_a_row() -> None:
    assert {field.name for field in dataclasses.fields(Limits)} == set(DEFAULTS)


def test_help_describes_every_limit() -> None:
    found = described(Limits)
    assert {name: default for name, (default, _) in found.items()} == DEFAULTS
    for name, (_, text) in found.items():
        assert len(text) > 20, name
        assert text.endswith("."), name
    assert "The longest WebSocket message." in pydoc.render_doc(Limits)


def test_repr_shows_what_differs_from_the_default() -> None:
    assert repr(Limits()) == repr(DEFAULT) == "Limits()"
    assert repr(Limits(message=5, ping_interval=0)) == "Limits(message=5, ping_interval=0)"
    every = {name: value + 1 for name, value in DEFAULTS.items()}
    for limits in (Limits(), Limits(linger=1), Limits(**every)):
        assert eval(repr(limits)) == limits

    def listen(limits: Limits = DEFAULT) -> None: ...

    assert "= Limits()" in str(inspect.signature(listen))


@pytest.mark.parametrize("bad", [-1, -(2**40), True, False, 1.0, "1", None, [1], float("inf")], ids=repr)
@pytest.mark.parametrize("name", DEFAULTS)
def test_invalid_limits(name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=f"limit '{name}'"):
        Limits(**{name: bad})


@pytest.mark.parametrize("name", DEFAULTS)
def test_zero(name: str) -> None:
    if name in MAY_BE_ZERO:
        assert getattr(Limits(**{name: 0}), name) == 0
    else:
        with pytest.raises(ValueError, match=f"limit '{name}'"):
            Limits(**{name: 0})


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("value", [1, 77, 2**40])
def test_a_limit_that_is_set(name: str, value: int) -> None:
    limits = Limits(**{name: value})
    assert getattr(limits, name) == value
    others = {other: due for other, due in DEFAULTS.items() if other != name}
    assert {other: getattr(limits, other) for other in others} == others


@pytest.mark.parametrize(
    ("message", "fragments"), [(1, 1024), (262_144, 1024), (262_399, 1024), (262_400, 1025), (2**20, 4096), (2**24, 65536)]
)
def test_fragments_follow_the_message(message: int, fragments: int) -> None:
    assert Limits(message=message).most_fragments == fragments
    assert Limits(message=message, fragments=7).most_fragments == 7
    assert dataclasses.replace(Limits(), message=message).most_fragments == fragments


def test_limits_are_immutable_and_keyword_only() -> None:
    limits: Any = Limits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.message = 1
    with pytest.raises(TypeError):
        limits.other = 1
    kind: Any = Limits
    with pytest.raises(TypeError):
        kind(1)
    with pytest.raises(TypeError):
        kind(mesage=1)
    assert hash(limits) == hash(DEFAULT)
