"""Coroutines of asyncio in tasks: the types of their values."""

from collections.abc import AsyncIterator
from typing import assert_type

from silly import bridge


async def add(a: int, b: int) -> int:
    return a + b


async def words() -> AsyncIterator[str]:
    yield "one"


def main() -> None:
    value, err = bridge.asyncio.run(add(1, 2), 1000)
    assert_type(value, int | None)
    if value is None:
        assert_type(err, str | None)
    items = bridge.asyncio.iterate(words(), timeout=1000)
    for word in items:
        assert_type(word, str)
    assert_type(items.err, str | None)


def wrong() -> None:
    bridge.asyncio.run(add)  # wrong: arg-type, reportArgumentType
    bridge.asyncio.iterate([1, 2])  # wrong: arg-type, reportArgumentType
