"""A client with ``websockets``: runs the scenarios that standard input names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

from child import Mismatch, clients, equal
from samples import BAD_UTF8, BETWEEN, MESSAGES, MIB, NEXT, SIZES, binary, noise, phases, text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close


async def sizes(url: str, ca: str | None = None) -> None:
    """Echoes of every size, each type; then our fragments as they come."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    # Of a compressed message it counts what came, and noise of 1 MiB takes a little more when it is compressed.
    async with connect(url, ssl=context, max_size=2 * MIB) as ws:
        for size in SIZES:
            for data in (text(size), binary(size)):
                await ws.send(data)
                equal(await ws.recv(), data, f"echo of {size} bytes, {type(data).__name__}")
        await ws.send(noise(MIB))
        equal(await ws.recv(), noise(MIB), "echo of noise")
        for data in () if ws.protocol.extensions else (text(MIB).encode(), binary(MIB)):
            await ws.send(data, text=data[:1] == b"a")
            frames = [frame async for frame in ws.recv_streaming(decode=False)]
            equal(b"".join(frames), data, "fragments")
            equal([len(frame) for frame in frames], [65536] * 16, "sizes of the fragments")
    await closed(ws, 1000)


async def closed(ws: ClientConnection, code: int, reason: str | None = None) -> None:
    """The server must have sent a close frame with this code, after data if there is any left."""
    try:
        while True:
            await ws.recv()
    except ConnectionClosed as exc:
        if exc.rcvd is None:
            raise Mismatch(f"no close frame, but {exc!r}") from None
        equal(int(exc.rcvd.code), code, "close code")
        if reason is not None:
            equal(exc.rcvd.reason, reason, "close reason")


async def fragments(url: str) -> None:
    """Fragmented messages."""
    async with connect(url) as ws:
        await send_fragments(ws)
    await closed(ws, 1000)


async def send_fragments(ws: ClientConnection) -> None:
    """Fragmented messages and their echoes, with a ping and its pong between two fragments of each."""
    for typ, pieces in MESSAGES:
        pongs: list[Any] = []

        async def with_pings(pieces: list[bytes] = pieces, pongs: list[Any] = pongs) -> AsyncIterator[bytes]:
            for number, piece in enumerate(pieces):
                yield piece
                if number in (0, 1):
                    pongs.append(await ws.ping(f"{number}"))

        await ws.send(with_pings(), text=typ == "text")
        for pong in pongs:
            await pong
        whole = b"".join(pieces)
        equal(await ws.recv(), whole.decode() if typ == "text" else whole, "echo of a fragmented message")


async def compressed(url: str, deflate: dict[str, Any] | None) -> Any:
    """Echoes of what compresses and what does not, in one piece and in fragments, with the options given; those agreed on."""
    options = {"compress_settings": {"memLevel": 5}} if deflate is None else deflate
    extensions = [ClientPerMessageDeflateFactory(**options)]
    async with connect(url, compression=None, extensions=extensions, max_size=2 * MIB) as ws:
        for messages in phases().values():
            for data in messages:
                pong = await ws.ping(BETWEEN)
                await ws.send(data)
                equal(await ws.recv(), data, f"echo of {len(data)}, {type(data).__name__}")
                await pong
            await ws.send(NEXT)
            equal(await ws.recv(), NEXT, "echo")
        await send_fragments(ws)
        await ws.close(1000, "bye")
        await closed(ws, 1000)
        for e in ws.protocol.extensions:
            return [
                e.remote_no_context_takeover,
                e.local_no_context_takeover,
                e.remote_max_window_bits,
                e.local_max_window_bits,
            ]
        return None


async def subprotocol(url: str, offered: list[str]) -> str | None:
    """Offers subprotocols; which was chosen."""
    async with connect(url, subprotocols=offered) as ws:  # type: ignore[arg-type]
        await ws.send("hello")
        equal(await ws.recv(), "hello", "echo")
    await closed(ws, 1000)
    return ws.subprotocol


async def pings(url: str) -> None:
    """Pings of every size; then the server's, which the library answers."""
    async with connect(url) as ws:
        for payload in (b"", b"p", binary(125), "ä€😀".encode()):
            pong = await ws.ping(payload)
            await pong
        await ws.send("ping me")
        equal(await ws.recv(), "pinged", "after the server's pings")
        await ws.pong(b"nobody asked")
    await closed(ws, 1000)


async def flood(url: str, count: int) -> None:
    """Reads large messages while pinging."""
    async with connect(url) as ws:
        await ws.send("go")
        pongs = []
        for number in range(count):
            pongs.append(await ws.ping(f"{number}"))
            data = await ws.recv()
            equal(data, text(MIB) if number % 2 else binary(MIB), f"message {number}")
        for pong in pongs:
            await pong
    await closed(ws, 1000)


async def close_first(url: str, code: int, reason: str) -> None:
    """Closes; the server answers with the same code."""
    async with connect(url) as ws:
        await ws.close(code, reason)
        equal(ws.protocol.close_sent, Close(code, reason), "sent")
        await closed(ws, code)
        equal(ws.protocol.close_rcvd_then_sent, False, "who closed last")


async def be_closed(url: str, code: int, reason: str, before: list[str]) -> None:
    """The server sends the messages ``before``, then closes."""
    async with connect(url) as ws:
        for data in before:
            equal(await ws.recv(), data, "a message before the close")
        await closed(ws, code, reason)
        equal(ws.protocol.close_rcvd_then_sent, True, "who closed first")


async def too_big(url: str, in_flight: bool) -> None:
    """Past the limit by one byte, and far past it, in one frame; or in fragments of which some follow the fault."""
    for data in ([binary(MIB), b"x"], [binary(MIB - 1)] * 8) if in_flight else (binary(MIB + 1), binary(8 * MIB)):
        # No "async with": its close() trips over a transport that ended while it had data to send (asyncio, Python 3.11).
        ws = await connect(url)
        try:
            await ws.send(data)
        except ConnectionClosed:
            pass  # it says why on its own
        await closed(ws, 1009)


async def bad_utf8(url: str, number: int, in_flight: bool) -> None:
    """Text that isn't UTF-8: in one frame, or cut at its end; or in fragments of which some follow the fault."""
    bad = BAD_UTF8[number]
    for data in ([bad[:1], bad[1:]], [b"fine", bad, b"fine"]) if in_flight else (bad, [b"fine", b"abc\xc3"]):
        async with connect(url) as ws:
            try:
                await ws.send(data, text=True)
            except ConnectionClosed:
                pass
            await closed(ws, 1007)


async def offers(url: str, compression: bool, subprotocols: list[str], header: list[list[str]]) -> dict[str, Any]:
    """Asks for extensions and subprotocols, which the server does not do; then an echo."""
    async with connect(
        url,
        compression="deflate" if compression else None,
        subprotocols=subprotocols or None,  # type: ignore[arg-type]
        additional_headers=[(name, value) for name, value in header],
    ) as ws:
        equal(list(ws.protocol.extensions), [], "extensions")
        equal(ws.subprotocol, None, "subprotocol")
        await ws.send("x" * 10_000)
        equal(await ws.recv(), "x" * 10_000, "echo")
        request = ws.request
        return {"extensions": request.headers.get("sec-websocket-extensions"), "header": dict(ws.response.headers.raw_items())}


async def refused(url: str, status: int, header: list[list[str]]) -> None:
    """The handshake must fail with this status."""
    try:
        async with connect(url, additional_headers=[(name, value) for name, value in header]):
            raise Mismatch("it was accepted")
    except InvalidStatus as exc:
        equal(exc.response.status_code, status, "status")


async def distrust(url: str) -> None:
    """Without the test's CA the certificate must not pass: a check of the test itself."""
    try:
        async with connect(url, ssl=ssl.create_default_context()):
            raise Mismatch("it was trusted")
    except ssl.SSLCertVerificationError:
        pass


async def many(url: str, count: int) -> None:
    """Many connections at a time, each with echoes in flight."""

    async def one(number: int) -> None:
        async with connect(url) as ws:
            for turn in range(10):
                await ws.send(f"{number} {turn}")
            for turn in range(10):
                equal(await ws.recv(), f"{number} {turn}", "echo")
        await closed(ws, 1000)

    await asyncio.gather(*[one(number) for number in range(count)])


if __name__ == "__main__":
    clients(
        sizes,
        fragments,
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
    )
