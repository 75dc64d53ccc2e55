"""aiohttp's client over ``bridge.asyncio``, against servers of silly in the same thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import silly
from silly import task, time
from silly._core import scheduler
from silly.bridge.asyncio import iterate, run
from silly.net import websocket
from silly.sync import event

from ..helpers import serving
from ..net.support import until

aiohttp = pytest.importorskip("aiohttp")


@contextmanager
def session() -> Iterator[Any]:
    async def begin() -> Any:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))

    opened = silly.check(run(begin()))
    try:
        yield opened
    finally:
        run(opened.close())
        run(asyncio.sleep(0))


async def get(client: Any, url: str) -> str:
    async with client.get(url) as response:
        return str(await response.text())


def test_fifty_at_once() -> None:
    """The server's handlers wait too, in the same thread. So the loop must turn."""
    inside = most = 0

    def handle(stream: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        until(lambda: most == 50)
        inside -= 1
        stream.respond(200)
        stream.closewrite(f"to {stream.path}")

    with serving(handle) as server, session() as client:
        url = f"http://127.0.0.1:{server.port}"
        before = scheduler.loop.turns
        with task.map(lambda n: silly.check(run(get(client, f"{url}/{n}"))), range(50), 50) as results:
            assert [*results] == [f"to /{n}" for n in range(50)]
        assert scheduler.loop.turns > before


def test_a_deadline_ends_a_request() -> None:
    """The client closes its connection, and the session works on."""

    ends = event.new()

    def handle(stream: Any) -> None:
        if stream.path == "/slow":
            ends.wait(10_000)
        stream.respond(200)
        stream.closewrite("quick")

    with serving(handle) as server, session() as client:
        url = f"http://127.0.0.1:{server.port}"
        with time.deadline(20):
            assert run(get(client, f"{url}/slow")) == (None, "bridge.asyncio.run: the deadline of 20 ms ran out")
        assert run(get(client, f"{url}/quick")) == ("quick", None)
        ends.set()


def test_messages_of_a_websocket() -> None:
    def handle(stream: Any) -> None:
        sock, err = websocket.upgrade(stream)
        assert sock is not None, err
        for word in ("one", "two", "three"):
            sock.write(word)
        sock.close()

    with serving(handle) as server, session() as client:
        url = f"http://127.0.0.1:{server.port}"
        connected = silly.check(run(client.ws_connect(url)))
        items = iterate(connected, 5000)
        assert [message.data for message in items] == [b"one", b"two", b"three"]
        assert items.err is None
