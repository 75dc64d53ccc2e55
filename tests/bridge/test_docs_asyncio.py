"""The code of docs/bridges.md about asyncio runs, and does what the page says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import silly
from silly import bridge, task

from ..helpers import serving
from ..test_docs_bridges import section


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    pytest.importorskip("aiohttp")
    return section("asyncio")


def test_requests(names: dict[str, Any]) -> None:
    report = names["report"]

    def handle(stream: Any) -> None:
        stream.respond(200)
        stream.closewrite("hello")

    session = silly.check(bridge.asyncio.run(names["new_session"]()))
    with serving(handle) as server:
        url = f"http://127.0.0.1:{server.port}/"
        lines = [*task.map(lambda _: report(session, url), range(10), 10)]
    assert lines == [f"{url}: 200, 5 characters"] * 10
    assert "Cannot connect" in report(session, url)
    bridge.asyncio.run(session.close())


def test_items(names: dict[str, Any]) -> None:
    async def words() -> AsyncIterator[str]:
        for word in ("one", "two", "three"):
            yield word

    first = names["first"]
    assert first(words(), 2) == (["one", "two"], None)
    assert first(words(), 5, 1000) == (["one", "two", "three"], None)
