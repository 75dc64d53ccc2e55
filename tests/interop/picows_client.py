"""A client with ``picows``: runs the scenarios that standard input names. Compression is that of ``picows.websockets``."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from child import Mismatch, clients, equal
from picows import WSInvalidStatusError, ws_connect
from picows.websockets.asyncio.client import connect as deflating_connect
from picows_common import BINARY, PONG, TEXT, Endpoint
from samples import BAD_UTF8, BETWEEN, MESSAGES, MIB, NEXT, SIZES, binary, noise, phases, text


async def connect(url: str, **options: Any) -> Endpoint:
    """A connection."""
    _, endpoint = await ws_connect(Endpoint, url, **options)
    assert isinstance(endpoint, Endpoint)
    return endpoint


async def echoed(end: Endpoint, data: str | bytes, what: str) -> None:
    """Sends, and takes the echo."""
    end.send(data)
    await end.data(data, what)


async def bye(end: Endpoint, code: int = 1000, reason: str = "") -> None:
    """Closes; the server answers with the same code, and ends the connection."""
    end.close(code, reason.encode())
    await end.closed(code)


async def sizes(url: str, ca: str | None = None) -> None:
    """Echoes of every size, each type."""
    end = await connect(url, ssl_context=ssl.create_default_context(cafile=ca) if ca else None)
    for size in SIZES:
        for data in (text(size), binary(size)):
            await echoed(end, data, f"echo of {size} bytes, {type(data).__name__}")
    await echoed(end, noise(MIB), "echo of noise")
    await bye(end)


async def fragments(url: str) -> None:
    """Fragmented messages, with a ping and its pong between two fragments of each."""
    end = await connect(url)
    for typ, pieces in MESSAGES:
        end.send_pieces(TEXT if typ == "text" else BINARY, pieces, True)
        await end.expect(PONG, b"0", "the answer to a ping")
        await end.expect(PONG, b"1", "the answer to a ping")
        whole = b"".join(pieces)
        await end.data(whole.decode() if typ == "text" else whole, "echo of a fragmented message")
    await bye(end)


async def pings(url: str) -> None:
    """Pings of every size; then the server's, which the library answers."""
    end = await connect(url)
    for payload in (b"", b"p", binary(125), "ä€😀".encode()):
        end.transport.send_ping(payload)
        await end.expect(PONG, payload, "the answer to a ping")
    end.send("ping me")
    await end.data("pinged", "after the server's pings")
    end.transport.send_pong(b"nobody asked")
    await bye(end)


async def flood(url: str, count: int) -> None:
    """Reads large messages while pinging. Of pings that wait for their pong only the last needs one (section 5.5.3)."""
    end = await connect(url)
    end.send("go")
    pongs = [-1]
    for number in range(count):
        end.transport.send_ping(b"%d" % number)
        while (event := await end.event()).type == PONG:
            pongs.append(int(event.data))
        equal(event.data, text(MIB) if number % 2 else binary(MIB), f"message {number}")
    while pongs[-1] != count - 1:
        pongs.append(int((await end.event()).data))
    equal(pongs, sorted(set(pongs)), "pongs")
    await bye(end)


async def close_first(url: str, code: int | None, reason: str) -> None:
    """Closes; the server answers with the same code."""
    end = await connect(url)
    if code is not None:
        await bye(end, code, reason)
    else:
        end.close(None)
        await end.closed(1005)


async def be_closed(url: str, code: int, reason: str, before: list[str]) -> None:
    """The server sends the messages ``before``, then closes."""
    end = await connect(url)
    for data in before:
        await end.data(data, "a message before the close")
    await end.closed(code, reason)


async def too_big(url: str, in_flight: bool) -> None:
    """Past the limit by one byte, and far past it, in one frame; or in fragments of which some follow the fault."""
    fragmented = ([binary(MIB), b"x", b""], [binary(MIB - 1)] * 8)
    for pieces in fragmented if in_flight else ([binary(MIB + 1)], [binary(8 * MIB)]):
        end = await connect(url)
        end.send_pieces(BINARY, pieces, False)
        await end.closed(1009)


async def bad_utf8(url: str, number: int, in_flight: bool) -> None:
    """Text that isn't UTF-8: in one frame, or cut at its end; or in fragments of which some follow the fault."""
    bad = BAD_UTF8[number]
    for pieces in ([bad[:1], bad[1:], b"fine"], [b"fine", bad, b"fine"]) if in_flight else ([bad], [b"fine", b"abc\xc3"]):
        end = await connect(url)
        end.send_pieces(TEXT, pieces, False)
        await end.closed(1007)


async def offers(url: str, compression: bool, subprotocols: list[str], header: list[list[str]]) -> dict[str, Any]:
    """Asks for extensions and subprotocols, which the server does not do; then an echo."""
    asked = [(name, value) for name, value in header]
    if compression:
        asked.append(("Sec-WebSocket-Extensions", "permessage-deflate"))
    if subprotocols:
        asked.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    end = await connect(url, extra_headers=asked)
    await echoed(end, "x" * 10_000, "echo")
    await bye(end)
    request, response = end.transport.request, end.transport.response
    return {
        "extensions": request.headers.get("sec-websocket-extensions"),
        "header": {name.lower(): value for name, value in response.headers.items()},
    }


async def compressed(url: str, deflate: None) -> Any:
    """Echoes of what compresses and what does not; the parameters agreed on."""
    async with deflating_connect(url, compression="deflate") as ws:
        for messages in phases().values():
            for data in messages:
                pong = await ws.ping(BETWEEN)
                await ws.send(data)
                equal(await ws.recv(), data, f"echo of {len(data)}, {type(data).__name__}")
                await pong
            await ws.send(NEXT)
            equal(await ws.recv(), NEXT, "echo")
        await ws.close(1000, "bye")
        equal(int(ws.close_code), 1000, "close code")
        answer = ws.response.headers.get("Sec-WebSocket-Extensions")
        if answer is None:
            return None
        name, *parameters = answer.split("; ")
        equal(name, "permessage-deflate", "extension")
        got = dict((parameter + "=").split("=")[:2] for parameter in parameters)
        return [
            "server_no_context_takeover" in got,
            "client_no_context_takeover" in got,
            int(got.get("server_max_window_bits", 15)),
            int(got.get("client_max_window_bits", 15)),
        ]


async def subprotocol(url: str, offered: list[str]) -> str | None:
    """Offers subprotocols; which was chosen."""
    end = await connect(url, extra_headers={"Sec-WebSocket-Protocol": ", ".join(offered)})
    await echoed(end, "hello", "echo")
    await bye(end)
    chosen: str | None = end.transport.response.headers.get("Sec-WebSocket-Protocol")
    return chosen


async def refused(url: str, status: int, header: list[list[str]]) -> None:
    """The handshake must fail with this status."""
    try:
        await connect(url, extra_headers=[(name, value) for name, value in header])
    except WSInvalidStatusError as exc:
        equal(exc.response and int(exc.response.status), status, "status")
    else:
        raise Mismatch("it was accepted")


async def distrust(url: str) -> None:
    """Without the test's CA the certificate must not pass: a check of the test itself."""
    try:
        await connect(url)
    except ssl.SSLCertVerificationError:
        pass
    else:
        raise Mismatch("it was trusted")


async def many(url: str, count: int) -> None:
    """Many connections at a time, each with echoes in flight."""

    async def one(number: int) -> None:
        end = await connect(url)
        for turn in range(10):
            end.send(f"{number} {turn}")
        for turn in range(10):
            await end.data(f"{number} {turn}", "echo")
        await bye(end)

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
