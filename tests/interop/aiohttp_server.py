"""A server with ``aiohttp``: the path says what to do, the query with what. ``id`` is printed with the outcome.

Arguments: a certificate and its key, for a second port with TLS.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import WSMsgType, web
from child import WITHIN, Mismatch, end_with_stdin, equal, failed, ok
from samples import BAD_UTF8, MIB, binary, text

Query = Mapping[str, str]


async def end(ws: web.WebSocketResponse) -> list[Any]:
    """Reads to the end; the code and reason of the client's close frame."""
    while (message := await ws.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
        pass
    equal(message.type, WSMsgType.CLOSE, "the last message")
    return [int(message.data), message.extra or ""]


async def echo(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Echoes until the client closes; pings and pongs as the library does them."""
    ws._autoping = True
    while (message := await ws.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
        await (ws.send_str if message.type is WSMsgType.TEXT else ws.send_bytes)(message.data)
    equal(message.type, WSMsgType.CLOSE, "the last message")
    return [int(message.data), message.extra or ""]


async def agreed(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Tells what was negotiated, where it knows that; then as ``echo``."""
    assert ws._writer is not None
    deflate = [ws._writer.notakeover, None, ws.compress, None] if ws.compress else None
    await ws.send_str(json.dumps([deflate, ws.ws_protocol]))
    return await echo(ws, query)


async def gone(ws: web.WebSocketResponse, query: Query) -> None:
    """Waits for the end of the connection, whatever it is."""
    while not ws.closed:
        await ws.receive()


async def headers(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Tells what was asked for."""
    request = ws._req
    assert request is not None
    fields = [[name.lower(), value] for name, value in request.headers.items()]
    await ws.send_str(json.dumps({"target": request.raw_path, "header": fields}))
    return await end(ws)


async def pings(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Pings the client."""
    for payload in (b"", b"p", binary(125), "ä€😀".encode()):
        await ws.ping(payload)
        pong = await ws.receive()
        equal(pong.type, WSMsgType.PONG, "the answer to a ping")
        equal(bytes(pong.data), payload, "the pong's payload")
    await ws.send_str("pinged")
    return await end(ws)


async def flood(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Large messages."""
    for number in range(int(query["count"])):
        await (ws.send_str(text(MIB)) if number % 2 else ws.send_bytes(binary(MIB)))
    ws._autoping = True
    return await end(ws)


async def close(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Sends a message if it is to, and closes."""
    if query["before"]:
        await ws.send_str(query["before"])
    await ws.close(code=int(query["code"]), message=query["reason"].encode())
    return [ws.close_code]


async def big(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Sends more than the client takes."""
    await ws.send_bytes(binary(int(query["size"])))
    return await end(ws)


async def small(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Gets more than it takes; the code that it sends for it."""
    message = await ws.receive()
    if message.type is not WSMsgType.ERROR:
        raise Mismatch(f"{message.type} came")
    return [ws.close_code]


async def bad_utf8(ws: web.WebSocketResponse, query: Query) -> list[Any]:
    """Text that isn't UTF-8."""
    await ws.send_frame(BAD_UTF8[int(query["number"])], WSMsgType.TEXT)
    return await end(ws)


SCENARIOS: dict[str, Callable[[web.WebSocketResponse, Query], Awaitable[Any]]] = {
    f"/{f.__name__}": f for f in (echo, agreed, gone, headers, pings, flood, close, big, small, bad_utf8)
}


async def handler(request: web.Request) -> web.WebSocketResponse:
    """Runs the scenario of the path, and tells the test what came of it.

    Query: ``known`` are the subprotocols that the server knows; ``forced`` is one that is answered in any case.
    """
    ws = web.WebSocketResponse(max_msg_size=2 * MIB, protocols=json.loads(request.query.get("known", "[]")), autoping=False)
    if "forced" in request.query:
        ws.headers["Sec-WebSocket-Protocol"] = request.query["forced"]
    try:
        await ws.prepare(request)
        result = await asyncio.wait_for(SCENARIOS[request.path](ws, request.query), WITHIN)
    except Exception:
        failed(request.raw_path)
    else:
        ok(request.query["id"], result)
    return ws


async def main() -> None:
    """Listens, with TLS too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[1:3])
    app = web.Application()
    app.router.add_get("/{scenario}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    for tls in (None, context):
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    ok("port", [address[1] for address in runner.addresses])
    await asyncio.Event().wait()


if __name__ == "__main__":
    end_with_stdin()
    asyncio.run(main())
