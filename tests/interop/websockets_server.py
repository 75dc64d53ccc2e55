"""A server with ``websockets``: the path says what to do, the query with what. ``id`` is printed with the outcome.

Arguments: a certificate and its key, for a second port with TLS.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from child import WITHIN, Mismatch, end_with_stdin, equal, failed, ok
from samples import BAD_UTF8, MESSAGES, MIB, binary, text
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response

Query = dict[str, str]


async def end(ws: ServerConnection) -> list[Any]:
    """Reads to the end; the code and reason of the client's close frame."""
    try:
        while True:
            await ws.recv()
    except ConnectionClosed as exc:
        if exc.rcvd is None:
            raise Mismatch(f"no close frame, but {exc!r}") from None
        return [int(exc.rcvd.code), exc.rcvd.reason]


async def echo(ws: ServerConnection, query: Query) -> list[Any]:
    """Echoes until the client closes."""
    try:
        while True:
            await ws.send(await ws.recv())
    except ConnectionClosed:
        return await end(ws)


async def agreed(ws: ServerConnection, query: Query) -> list[Any]:
    """Tells what was negotiated; then as ``echo``."""
    deflate = None
    for e in ws.protocol.extensions:
        deflate = [
            e.local_no_context_takeover,
            e.remote_no_context_takeover,
            e.local_max_window_bits,
            e.remote_max_window_bits,
        ]
    await ws.send(json.dumps([deflate, ws.subprotocol]))
    return await echo(ws, query)


async def gone(ws: ServerConnection, query: Query) -> None:
    """Waits for the end of the connection, whatever it is."""
    await ws.wait_closed()


async def headers(ws: ServerConnection, query: Query) -> list[Any]:
    """Tells what was asked for."""
    assert ws.request is not None
    fields = [[name.lower(), value] for name, value in ws.request.headers.raw_items()]
    await ws.send(json.dumps({"target": ws.request.path, "header": fields}))
    return await end(ws)


async def frames(ws: ServerConnection, query: Query) -> list[Any]:
    """Sizes of the frames of each message."""
    for _ in range(int(query["count"])):
        sizes = [len(frame) async for frame in ws.recv_streaming(decode=False)]
        await ws.send(json.dumps(sizes))
    return await end(ws)


async def fragments(ws: ServerConnection, query: Query) -> list[Any]:
    """Fragmented messages, with pings between."""
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
    return await end(ws)


async def pings(ws: ServerConnection, query: Query) -> list[Any]:
    """Pings the client."""
    for payload in (b"", b"p", binary(125), "ä€😀".encode()):
        await (await ws.ping(payload))
    await ws.send("pinged")
    return await end(ws)


async def flood(ws: ServerConnection, query: Query) -> list[Any]:
    """Large messages."""
    for number in range(int(query["count"])):
        await ws.send(text(MIB) if number % 2 else binary(MIB))
    return await end(ws)


async def close(ws: ServerConnection, query: Query) -> list[Any]:
    """Sends a message if it is to, and closes."""
    if query["before"]:
        await ws.send(query["before"])
    await ws.close(int(query["code"]), query["reason"])
    equal(ws.protocol.close_rcvd_then_sent, False, "who closed last")
    return await end(ws)


async def big(ws: ServerConnection, query: Query) -> list[Any]:
    """Sends more than the client takes."""
    try:
        await ws.send(binary(int(query["size"])))
    except ConnectionClosed:
        pass
    return await end(ws)


async def small(ws: ServerConnection, query: Query) -> list[Any]:
    """Gets more than it takes; the code that it sends for it."""
    try:
        await ws.recv()
    except ConnectionClosed as exc:
        return [int(exc.sent.code) if exc.sent else None]
    raise Mismatch("it came")


async def bad_utf8(ws: ServerConnection, query: Query) -> list[Any]:
    """Text that isn't UTF-8."""
    await ws.send(BAD_UTF8[int(query["number"])], text=True)
    return await end(ws)


SCENARIOS: dict[str, Callable[[ServerConnection, Query], Awaitable[Any]]] = {
    f"/{f.__name__}": f for f in (echo, agreed, gone, headers, frames, fragments, pings, flood, close, big, small, bad_utf8)
}


def queried(request: Request) -> Query:
    """The query: ``deflate`` has options of compression, ``known`` subprotocols in the order of preference, ``forced`` one that
    is answered in any case."""
    return dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))


def configure(ws: ServerConnection, request: Request) -> None:
    """Sets what the query asks for."""
    query = queried(request)
    if "deflate" in query:
        ws.protocol.available_extensions = [ServerPerMessageDeflateFactory(**json.loads(query["deflate"]))]
    ws.protocol.available_subprotocols = json.loads(query.get("known", "null"))


def force(ws: ServerConnection, request: Request, response: Response) -> None:
    """Answers with a subprotocol that was not offered, if asked to."""
    query = queried(request)
    if "forced" in query:
        response.headers["Sec-WebSocket-Protocol"] = query["forced"]


def choose(ws: ServerConnection, offered: Sequence[Any]) -> Any:
    """The first of ours that the client offers; ``websockets`` by itself refuses a client that offers none of them."""
    return next((name for name in ws.protocol.available_subprotocols or () if name in offered), None)


async def handler(ws: ServerConnection) -> None:
    """Runs the scenario of the path, and tells the test what came of it."""
    assert ws.request is not None
    query = queried(ws.request)
    try:
        result = await asyncio.wait_for(SCENARIOS[urlsplit(ws.request.path).path](ws, query), WITHIN)
    except Exception:
        failed(ws.request.path)
    else:
        ok(query["id"], result)


async def main() -> None:
    """Listens, with TLS too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[1:3])
    options: dict[str, Any] = {
        "max_size": 2 * MIB,
        "process_request": configure,
        "process_response": force,
        "select_subprotocol": choose,
    }
    async with (
        serve(handler, "127.0.0.1", 0, **options) as plain,
        serve(handler, "127.0.0.1", 0, ssl=context, **options) as secure,
    ):
        ok("port", [server.sockets[0].getsockname()[1] for server in (plain, secure)])
        await asyncio.Event().wait()


if __name__ == "__main__":
    end_with_stdin()
    asyncio.run(main())
