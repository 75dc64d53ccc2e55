"""A server with ``picows``: the path says what to do, the query with what. ``id`` is printed with the outcome.

Arguments: a certificate and its key, for a second port with TLS. The third port is of ``picows.websockets``, which only
echoes, and compresses.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from child import WITHIN, Mismatch, end_with_stdin, failed, ok
from picows import WSTransport, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener, ws_create_server
from picows.websockets.asyncio.server import serve as deflating_serve
from picows.websockets.exceptions import ConnectionClosed
from picows_common import BINARY, CLOSE, PONG, TEXT, Endpoint
from samples import BAD_UTF8, MESSAGES, MIB, binary, text

Query = dict[str, str]


async def echo(end: Endpoint, query: Query) -> list[Any]:
    """Echoes until the client closes."""
    while (event := await end.event()).type != CLOSE:
        if event.type is None:
            raise Mismatch("no close frame")
        if event.type != PONG:
            end.send(event.data)
    return list(event.data)


async def agreed(end: Endpoint, query: Query) -> list[Any]:
    """Tells what was negotiated; then as ``echo``."""
    end.send(json.dumps([None, end.transport.response.headers.get("Sec-WebSocket-Protocol")]))
    return await echo(end, query)


async def gone(end: Endpoint, query: Query) -> None:
    """Waits for the end of the connection, whatever it is."""
    while (await end.event()).type is not None:
        pass


async def headers(end: Endpoint, query: Query) -> list[Any]:
    """Tells what was asked for."""
    request = end.transport.request
    fields = [[name.lower(), value] for name, value in request.headers.items()]
    end.send(json.dumps({"target": request.path.decode(), "header": fields}))
    return await end.end()


async def fragments(end: Endpoint, query: Query) -> list[Any]:
    """Fragmented messages, with pings between."""
    for typ, pieces in MESSAGES:
        end.send_pieces(TEXT if typ == "text" else BINARY, pieces, True)
        await end.expect(PONG, b"0", "the answer to a ping")
        await end.expect(PONG, b"1", "the answer to a ping")
    return await end.end()


async def pings(end: Endpoint, query: Query) -> list[Any]:
    """Pings the client."""
    for payload in (b"", b"p", binary(125), "ä€😀".encode()):
        end.transport.send_ping(payload)
        await end.expect(PONG, payload, "the answer to a ping")
    end.send("pinged")
    return await end.end()


async def flood(end: Endpoint, query: Query) -> list[Any]:
    """Large messages."""
    for number in range(int(query["count"])):
        end.send(text(MIB) if number % 2 else binary(MIB))
    return await end.end()


async def close(end: Endpoint, query: Query) -> list[Any]:
    """Sends a message if it is to, and closes."""
    if query["before"]:
        end.send(query["before"])
    end.close(int(query["code"]), query["reason"].encode())
    return await end.end()


async def big(end: Endpoint, query: Query) -> list[Any]:
    """Sends more than the client takes."""
    end.send(binary(int(query["size"])))
    return await end.end()


async def small(end: Endpoint, query: Query) -> list[Any]:
    """Gets more than it takes; the code that it sends for it."""
    if (event := await end.event()).type is not None:
        raise Mismatch(f"{event.type} came")
    handshake = end.transport.close_handshake
    return [int(handshake.sent.code) if handshake and handshake.sent else None]


async def bad_utf8(end: Endpoint, query: Query) -> list[Any]:
    """Text that isn't UTF-8."""
    end.send_pieces(TEXT, [BAD_UTF8[int(query["number"])]], False)
    return await end.end()


SCENARIOS: dict[str, Callable[[Endpoint, Query], Awaitable[Any]]] = {
    f"/{f.__name__}": f for f in (echo, agreed, gone, headers, fragments, pings, flood, close, big, small, bad_utf8)
}


class Scenario(Endpoint):
    """A connection that runs the scenario of its path, and tells the test what came of it."""

    running: set[asyncio.Task[None]] = set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        task = asyncio.get_running_loop().create_task(self._run())
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _run(self) -> None:
        target = self.transport.request.path.decode()
        query = queried(target)
        try:
            result = await asyncio.wait_for(SCENARIOS[urlsplit(target).path](self, query), WITHIN)
        except Exception:
            failed(target)
        else:
            ok(query["id"], result)


def queried(target: str) -> Query:
    """The query: ``known`` has subprotocols in the order of preference, ``forced`` one that is answered in any case."""
    return dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))


def accepted(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
    """The answer to a request."""
    query = queried(request.path.decode())
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    chosen = query.get("forced") or next((name for name in json.loads(query.get("known", "[]")) if name in offered), None)
    fields = {"Sec-WebSocket-Protocol": chosen} if chosen else {}
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(fields), Scenario())


async def deflating_echo(ws: Any) -> None:
    """Echoes until the client closes; its code and reason are the outcome."""
    try:
        while True:
            await ws.send(await ws.recv())
    except ConnectionClosed:
        ok(queried(ws.request.path)["id"], [int(ws.close_code), ws.close_reason])


async def main() -> None:
    """Listens, with TLS too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[1:3])
    servers = [await ws_create_server(accepted, "127.0.0.1", 0, ssl=tls, max_frame_size=2 * MIB) for tls in (None, context)]
    servers.append(await deflating_serve(deflating_echo, "127.0.0.1", 0, compression="deflate"))
    ok("port", [server.sockets[0].getsockname()[1] for server in servers])
    await asyncio.Event().wait()


if __name__ == "__main__":
    end_with_stdin()
    asyncio.run(main())
