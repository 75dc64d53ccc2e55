"""WebSocket through nginx (as its documentation sets it up) and HAProxy, with our server as their upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from threading import Semaphore
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from silly import Limits
from silly.net import websocket
from silly.net.http import ServerStream
from silly.sync import channel
from tests.children import in_thread
from tests.conftest import Logs
from tests.net.support import Job

from .corpus import CHUNKED, HIDDEN, UPGRADE, request
from .support import Client, Front, behind

MIB = 2**20
WITHIN = 15
"""Seconds."""


def visit(front: Front, scenario: Callable[[ClientConnection], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What ``scenario(ws)`` returns for a client of ``websockets``, which runs in a thread."""

    async def run() -> Any:
        async with asyncio.timeout(WITHIN), unix_connect(front.addr.removeprefix("unix:"), "ws://test/chat", **options) as ws:
            return await scenario(ws)

    return in_thread(lambda: asyncio.run(run()))


def echo(stream: ServerStream) -> None:
    """Echoes until the close; plain requests get their path."""
    if stream.header["upgrade"] != "websocket":
        stream.respond(200)
        stream.closewrite(stream.path)
        return
    sock, _ = websocket.upgrade(stream, compression=True)
    if sock is None:
        return
    while True:
        data, typ = sock.read()
        if data is None or typ == "close":
            return
        if typ in ("text", "binary"):
            sock.write(data, typ)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages(keeping_front: Front, compression: str | None) -> None:
    async def scenario(ws: ClientConnection) -> None:
        assert bool(ws.protocol.extensions) is (compression is not None)
        messages: list[str | bytes] = ["", b"", "h\xe4ll\u20ac \U0001f600", bytes(range(256)), "x" * 65536, "ab" * (MIB // 2)]
        messages.append(bytes(range(256)) * (MIB // 256 - 1))
        for message in messages:
            await ws.send(message)
            assert await ws.recv() == message
        for message in messages:
            await ws.send(message)
        assert [await ws.recv() for _ in messages] == messages
        await ws.send(["in ", "three ", "fragments"])
        assert await ws.recv() == "in three fragments"
        for _ in range(3):
            await (await ws.ping(b"there?"))

    with behind(keeping_front, echo):
        visit(keeping_front, scenario, compression=compression)


def test_many_at_a_time(keeping_front: Front) -> None:
    """Beside plain requests, over the same upstream."""
    path = keeping_front.addr.removeprefix("unix:")

    async def one(number: int) -> None:
        async with unix_connect(path, "ws://test/chat") as ws:
            for turn in range(5):
                await ws.send(f"{number} {turn}")
                assert await ws.recv() == f"{number} {turn}"

    async def all_of_them() -> None:
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*map(one, range(30)))

    with behind(keeping_front, echo), Client.connect(keeping_front) as client:
        visitors = Job(lambda: in_thread(lambda: asyncio.run(all_of_them())))
        for number in range(50):
            assert client.ask(f"/{number}").body.decode() == f"/{number}"
        visitors.result()


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (4321, "r\xe9ason " * 10)])
def test_close_by_the_client(keeping_front: Front, code: int, reason: str) -> None:
    ends = channel.new()

    def handler(stream: ServerStream) -> None:
        sock, _ = websocket.upgrade(stream)
        assert sock is not None
        assert sock.read()[1] == "close"
        ends.push((sock.closecode, sock.closereason))

    async def scenario(ws: ClientConnection) -> None:
        await ws.close(code, reason)
        assert ws.close_code == code

    with behind(keeping_front, handler):
        visit(keeping_front, scenario)
        assert ends.pop()[0] == (code, reason)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1012, "restart"), (4321, "x" * 123)])
def test_close_by_us(keeping_front: Front, code: int, reason: str) -> None:
    def handler(stream: ServerStream) -> None:
        sock, _ = websocket.upgrade(stream)
        assert sock is not None
        sock.write("last words", "text")
        sock.close(code, reason)

    async def scenario(ws: ClientConnection) -> Any:
        assert await ws.recv() == "last words"
        with pytest.raises(ConnectionClosed) as raised:
            await ws.recv()
        assert raised.value.rcvd is not None
        return raised.value.rcvd.code, raised.value.rcvd.reason

    with behind(keeping_front, handler):
        assert visit(keeping_front, scenario) == (code, reason)


def test_handler_raises(keeping_front: Front, logs: Logs) -> None:
    logs.expect("^ERROR exception in the handler of GET /chat")

    def handler(stream: ServerStream) -> None:
        websocket.upgrade(stream)
        raise KeyError("lost")

    async def scenario(ws: ClientConnection) -> Any:
        with pytest.raises(ConnectionClosed) as raised:
            await ws.recv()
        assert raised.value.rcvd is not None
        return raised.value.rcvd.code

    with behind(keeping_front, handler):
        assert visit(keeping_front, scenario) == 1011


def test_keepalive_pings(keeping_front: Front) -> None:
    """Ours cross the proxy, and so do the pongs."""

    def handler(stream: ServerStream) -> None:
        sock, _ = websocket.upgrade(stream, limits=Limits(ping_interval=5))
        assert sock is not None
        while sock.latency is None:
            sock.read(5)
        sock.close(4000)

    async def scenario(ws: ClientConnection) -> Any:
        await ws.wait_closed()
        return ws.close_code

    with behind(keeping_front, handler):
        assert visit(keeping_front, scenario) == 4000


def test_client_is_gone(keeping_front: Front) -> None:
    """A client that leaves without a close frame ends the socket here."""
    ends = channel.new()

    def handler(stream: ServerStream) -> None:
        sock, _ = websocket.upgrade(stream)
        assert sock is not None
        ends.push(sock.read())
        ends.push(sock.read())

    with behind(keeping_front, handler):
        for leave in (Client.reset, Client.close):
            client = Client.connect(keeping_front)
            client.send(request(*UPGRADE, line="GET /chat HTTP/1.1") + b"\x81\x82\x00\x00\x00\x00hi")
            assert client.reply().status == 101
            assert ends.pop()[0] == ("hi", "text")
            leave(client)
            (data, _), _ = ends.pop()
            assert data is None


def test_drain(keeping_front: Front) -> None:
    """Clients get close 1001: the server goes away."""

    async def scenario(ws: ClientConnection) -> Any:
        await ws.send("hello")
        assert await ws.recv() == "hello"
        opened.release()
        await ws.wait_closed()
        return ws.close_code

    opened = Semaphore(0)
    with behind(keeping_front, echo) as server:
        visitor = Job(lambda: visit(keeping_front, scenario))
        in_thread(lambda: opened.acquire(timeout=WITHIN))
        assert server.drain(10_000) == (True, None)
        assert visitor.result() == 1001


# ---- refused upgrades, and upgrades with a body -----------------------------------------------------------------------


def test_refused(keeping_front: Front) -> None:
    """The answer passes, and the connection serves on."""

    def handler(stream: ServerStream) -> None:
        stream.respond(403, {"x-path": stream.path})
        stream.closewrite("not you")

    async def scenario(ws: ClientConnection) -> None:
        raise AssertionError("it was not refused")

    with behind(keeping_front, handler), Client.connect(keeping_front) as client:
        with pytest.raises(InvalidStatus) as raised:
            visit(keeping_front, scenario)
        assert (raised.value.response.status_code, raised.value.response.body) == (403, b"not you")
        for number in range(5):
            client.send(request(*UPGRADE, line=f"GET /{number} HTTP/1.1"))
            reply = client.reply()
            assert (reply.status, reply.header["x-path"], reply.body) == (403, f"/{number}", b"not you")
            assert client.ask("/plain").header["x-path"] == "/plain"


@pytest.mark.parametrize("version", ["8", "13, 8"])
def test_bad_version(keeping_front: Front, version: str, logs: Logs) -> None:
    logs.expect("^INFO websocket: .*Sec-WebSocket-Version")
    with behind(keeping_front, echo), Client.connect(keeping_front) as client:
        fields = [f"Sec-WebSocket-Version: {version}" if "Version" in field else field for field in UPGRADE]
        client.send(request(*fields, line="GET /chat HTTP/1.1"))
        reply = client.reply()
        assert (reply.status, reply.header["sec-websocket-version"]) == (426, "13")


BODIES = {
    "length": request(*UPGRADE, f"Content-Length: {len(HIDDEN)}", line="GET /chat HTTP/1.1", body=HIDDEN),
    "chunked": request(
        *UPGRADE, CHUNKED, line="GET /chat HTTP/1.1", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    ),
}


@pytest.mark.parametrize("accepts", [True, False], ids=["accepting", "refusing"])
@pytest.mark.parametrize("body", BODIES)
def test_upgrade_with_a_body(keeping_front: Front, body: str, accepts: bool, logs: Logs) -> None:
    """CVE-2026-69243, CVE-2026-58055: what such a request carries is never served as another request, and nobody gets the
    answer to it. (HAProxy takes the upgrade out of such a request.)"""
    logs.allow(r"^INFO (http|websocket): ")
    answer = 403 if not accepts else 200 if keeping_front.name == "haproxy" else 400
    served = []

    def handler(stream: ServerStream) -> None:
        served.append(stream.path)
        if accepts or stream.path != "/chat":
            echo(stream)
        else:
            stream.respond(403)

    with behind(keeping_front, handler):
        for number in range(5):
            with Client.connect(keeping_front) as evil, Client.connect(keeping_front) as honest:
                assert honest.ask(f"/before-{number}").body.decode() == f"/before-{number}"
                evil.send(BODIES[body])
                assert evil.reply().status == answer
                for turn in range(3):
                    path = f"/after-{number}-{turn}"
                    assert honest.ask(path).body.decode() == path
    assert [path for path in served if not path.startswith(("/before", "/after"))] == ["/chat"] * 5
