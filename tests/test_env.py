"""``silly.env``."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from silly import env


@pytest.fixture
def key() -> Any:
    name = f"test.{secrets.token_hex(8)}"
    yield name
    env.set(name, None)


def test_a_key_that_was_not_set_is_none(key: str) -> None:
    assert env.get(key) is None


@pytest.mark.parametrize("value", ["8080", "", 0, False, 1.5, {"a": 1}, [1]])
def test_a_value_comes_back_as_it_was_set(key: str, value: Any) -> None:
    assert env.set(key, value) is None
    assert env.get(key) is value


def test_the_last_value_counts(key: str) -> None:
    env.set(key, 1)
    env.set(key, 2)
    assert env.get(key) == 2


def test_none_removes_a_key_and_removing_twice_is_fine(key: str) -> None:
    env.set(key, 1)
    env.set(key, None)
    assert env.get(key) is None
    env.set(key, None)
    assert env.get(key) is None


def test_keys_are_literal(key: str) -> None:
    env.set(key, {"b": 1})
    assert env.get(f"{key}.b") is None
