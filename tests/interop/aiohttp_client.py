"""A client with ``aiohttp``, for WebSocket and HTTP: runs the scenarios that standard input names.

Its API sends no fragments, and it answers a close with 1000 whatever the code.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from typing import Any

from aiohttp import (
    ClientConnectorCertificateError,
    ClientResponse,
    ClientSession,
    ClientWebSocketResponse,
    TCPConnector,
    WSMsgType,
    WSServerHandshakeError,
)
from child import Mismatch, clients, equal
from samples import BAD_UTF8, BETWEEN, MIB, NEXT, SIZES, binary, noise, phases, text


async def echoed(ws: ClientWebSocketResponse, data: str | bytes, what: str) -> None:
    """Sends, and takes the echo."""
    if isinstance(data, str):
        await ws.send_str(data)
    else:
        await ws.send_bytes(data)
    equal((await ws.receive()).data, data, what)


async def closed(ws: ClientWebSocketResponse, code: int, reason: str | None = None) -> None:
    """The server must send a close frame with this code, after data if there is any left."""
    while True:
        message = await ws.receive()
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            break
    equal(message.type, WSMsgType.CLOSE, "the last message")
    equal(int(message.data), code, "close code")
    if reason is not None:
        equal(message.extra or "", reason, "close reason")


async def sizes(url: str, ca: str | None = None) -> None:
    """Echoes of every size, each type."""
    context = ssl.create_default_context(cafile=ca) if ca else True
    async with ClientSession() as session, session.ws_connect(url, compress=15, ssl=context) as ws:
        for size in SIZES:
            for data in (text(size), binary(size)):
                await echoed(ws, data, f"echo of {size} bytes, {type(data).__name__}")
        await echoed(ws, noise(MIB), "echo of noise")
        await ws.close()
        equal(ws.close_code, 1000, "close code")


async def pings(url: str) -> None:
    """Pings of every size; then the server's, answered by hand here."""
    async with ClientSession() as session, session.ws_connect(url, compress=15, autoping=False) as ws:
        for payload in (b"", b"p", binary(125), "ä€😀".encode()):
            await ws.ping(payload)
            pong = await ws.receive()
            equal(pong.type, WSMsgType.PONG, "the answer to a ping")
            equal(bytes(pong.data), payload, "the pong's payload")
        await ws.send_str("ping me")
        while (message := await ws.receive()).type is WSMsgType.PING:
            await ws.pong(message.data)
        equal(message.data, "pinged", "after the server's pings")
        await ws.pong(b"nobody asked")
        await ws.close()
        equal(ws.close_code, 1000, "close code")


async def flood(url: str, count: int) -> None:
    """Reads large messages while pinging. Of pings that wait for their pong only the last needs one (section 5.5.3)."""
    async with ClientSession() as session, session.ws_connect(url, compress=15, autoping=False) as ws:
        await ws.send_str("go")
        pongs = [-1]
        for number in range(count):
            await ws.ping(b"%d" % number)
            while (message := await ws.receive()).type is WSMsgType.PONG:
                pongs.append(int(message.data))
            equal(message.data, text(MIB) if number % 2 else binary(MIB), f"message {number}")
        while pongs[-1] != count - 1:
            pongs.append(int((await ws.receive()).data))
        equal(pongs, sorted(set(pongs)), "pongs")
        await ws.close()
        equal(ws.close_code, 1000, "close code")


async def close_first(url: str, code: int, reason: str) -> None:
    """Closes; the server answers with the same code."""
    async with ClientSession() as session, session.ws_connect(url, compress=15) as ws:
        await ws.close(code=code, message=reason.encode())
        equal(int(ws.close_code or 0), code, "the code that came back")


async def be_closed(url: str, code: int, reason: str, before: list[str]) -> None:
    """The server sends the messages ``before``, then closes."""
    async with ClientSession() as session, session.ws_connect(url, compress=15) as ws:
        for data in before:
            equal((await ws.receive()).data, data, "a message before the close")
        await closed(ws, code, reason)


async def too_big(url: str, in_flight: bool) -> None:
    """Past the limit by one byte, and far past it."""
    equal(in_flight, False, "in_flight")
    for data in (binary(MIB + 1), binary(8 * MIB)):
        async with ClientSession() as session, session.ws_connect(url, compress=15) as ws:
            await ws.send_bytes(data)
            await closed(ws, 1009)


async def bad_utf8(url: str, number: int, in_flight: bool) -> None:
    """Text that isn't UTF-8."""
    equal(in_flight, False, "in_flight")
    async with ClientSession() as session, session.ws_connect(url, compress=15) as ws:
        await ws.send_frame(BAD_UTF8[number], WSMsgType.TEXT)
        await closed(ws, 1007)


async def offers(url: str, compression: bool, subprotocols: list[str], header: list[list[str]]) -> dict[str, Any]:
    """Asks for extensions and subprotocols, which the server does not do; then an echo."""
    async with (
        ClientSession() as session,
        session.ws_connect(
            url,
            compress=15 if compression else 0,
            protocols=subprotocols,
            headers=[(name, value) for name, value in header],  # type: ignore[arg-type]
        ) as ws,
    ):
        equal(ws.compress, 0, "compression")
        equal(ws.protocol, None, "subprotocol")
        await echoed(ws, "x" * 10_000, "echo")
        response = ws._response
        return {
            "extensions": response.request_info.headers.get("sec-websocket-extensions"),
            "header": {name.lower(): value for name, value in response.headers.items()},
        }


async def compressed(url: str, deflate: dict[str, Any] | None) -> Any:
    """Echoes of what compresses and what does not; the parameters agreed on, where it knows them."""
    bits = (deflate or {}).get("server_max_window_bits", 15)
    async with ClientSession() as session, session.ws_connect(url, compress=bits) as ws:
        for messages in phases().values():
            for data in messages:
                await ws.ping(BETWEEN)
                await echoed(ws, data, f"echo of {len(data)}, {type(data).__name__}")
            await echoed(ws, NEXT, "echo")
        agreed = [None, ws.client_notakeover, None, ws.compress] if ws.compress else None
        await ws.close(code=1000, message=b"bye")
        equal(ws.close_code, 1000, "close code")
        return agreed


async def subprotocol(url: str, offered: list[str]) -> str | None:
    """Offers subprotocols; which was chosen."""
    async with ClientSession() as session, session.ws_connect(url, protocols=offered) as ws:
        await echoed(ws, "hello", "echo")
        await ws.close()
        equal(ws.close_code, 1000, "close code")
        return ws.protocol


async def refused(url: str, status: int, header: list[list[str]]) -> None:
    """The handshake must fail with this status."""
    try:
        async with ClientSession() as session, session.ws_connect(url, headers=dict(header)):
            raise Mismatch("it was accepted")
    except WSServerHandshakeError as exc:
        equal(exc.status, status, "status")


async def distrust(url: str) -> None:
    """Without the test's CA the certificate must not pass: a check of the test itself."""
    try:
        async with ClientSession() as session, session.ws_connect(url):
            raise Mismatch("it was trusted")
    except ClientConnectorCertificateError:
        pass


async def many(url: str, count: int) -> None:
    """Many connections at a time, each with echoes in flight."""

    async def one(session: ClientSession, number: int) -> None:
        async with session.ws_connect(url, compress=15) as ws:
            for turn in range(10):
                await ws.send_str(f"{number} {turn}")
            for turn in range(10):
                equal((await ws.receive()).data, f"{number} {turn}", "echo")
            await ws.close()
            equal(ws.close_code, 1000, "close code")

    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        await asyncio.gather(*[one(session, number) for number in range(count)])


# ---- HTTP -----------------------------------------------------------------------------------------------------------


async def answer(response: ClientResponse, status: int) -> bytes:
    """The body; the status must be this."""
    equal(response.status, status, "status")
    return await response.read()


async def http(url: str, size: int) -> None:
    """The HTTP client: one connection, used again and again."""
    data = binary(size)
    digest = hashlib.sha256(data).hexdigest()
    async with ClientSession(connector=TCPConnector(limit=1), base_url=url) as session:
        async with session.get("/peer") as got:
            first = await answer(got, 200)
        async with session.get("/hello", params={"name": "Wörld & more"}) as got:
            equal(await answer(got, 200), "Hello, Wörld & more".encode(), "body")
            equal(got.headers["content-type"], "text/plain; charset=utf-8", "content-type")
        async with session.head("/hello") as got:
            equal(await answer(got, 200), b"", "body of a HEAD")
            equal(got.headers["content-length"], "12", "content-length of a HEAD")
        for path, expect100 in (("/echo", False), ("/echo", True), ("/pieces", False)):
            async with session.post(path, data=b"posted", expect100=expect100) as got:
                equal(await answer(got, 200), b"posted", f"echo by {path}")
        async with session.post("/hash", data=data) as got:
            equal(await answer(got, 200), digest.encode(), "hash of an upload with a length")

        async def pieces() -> Any:
            for at in range(0, size, 100_003):
                yield data[at : at + 100_003]

        async with session.post("/hash", data=pieces()) as got:
            equal(await answer(got, 200), digest.encode(), "hash of a chunked upload")
        for query in ("", "?length=1"):
            async with session.get(f"/download{query}") as got:
                equal(await answer(got, 200), data, "download")
                equal("content-length" in got.headers, bool(query), "content-length is there")
                equal(got.headers.get("transfer-encoding"), None if query else "chunked", "transfer-encoding")
        for status in (204, 304, 404, 500):
            async with session.get(f"/status?code={status}") as got:
                equal(await answer(got, status), b"" if status in (204, 304) else b"status", "body")
        async with session.get("/peer") as got:
            equal(await answer(got, 200), first, "the connection")
        async with session.get("/hello", headers={"connection": "close"}) as got:
            equal(await answer(got, 200), b"Hello, World", "body")
            equal(got.headers["connection"], "close", "connection")
        async with session.get("/peer") as got:
            if await answer(got, 200) == first:
                raise Mismatch("the connection was not closed")


if __name__ == "__main__":
    clients(
        sizes,
        pings,
        flood,
        close_first,
        be_closed,
        too_big,
        bad_utf8,
        offers,
        compressed,
        subprotocol,
        refused,
        distrust,
        many,
        http,
    )
