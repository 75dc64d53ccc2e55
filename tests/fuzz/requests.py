"""Requests in a row on one connection, their bodies and trailers included.

What must hold: only ProtocolError with a status for it; the segmentation changes nothing; what is taken is well-formed,
means the same when it is written anew, and h11 and httptools frame it alike or refuse it. ``take_request`` before
``HeadReader`` changes nothing, in C and in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import h11
import httptools

from silly._wire.header import TOKEN
from silly._wire.http1 import CHUNKED, HeadReader, Request, parse_request, request_head
from silly._wire.limits import Limits

from ..implementations import AVAILABLE
from .messages import LIMITS, WIDE, Message, agree, check_fields, drive, flat, from_h11, from_httptools, pairs, read_body
from .source import Source, cut

TARGET = re.compile(r"[!\"$-~]+")


def nothing(buf: bytearray, limits: Limits) -> None:
    """Takes no request."""


def reading(limits: Limits, most: list[int], take_request: Any = nothing) -> Any:
    def steps(buf: bytearray, messages: list[Message]) -> Iterator[None]:
        heads = HeadReader(limits)
        while True:
            request = take_request(buf, limits)
            while request is None:
                head = heads.next(buf)
                if head is None:
                    yield
                else:
                    assert len(head) <= limits.head
                    request = parse_request(head, limits)
            messages.append(Message(request))
            yield from read_body(buf, messages[-1], request.body, limits, most)
            if request.last:
                return

    return steps


def check(request: Request) -> None:
    assert TOKEN.fullmatch(request.method)
    assert TARGET.fullmatch(request.target)
    assert request.target.partition("?") in (
        (request.path, "?", request.query),
        (request.path, "", ""),
    ), "path and query make the target"
    assert request.path.startswith("/") or request.method in ("OPTIONS", "CONNECT")
    assert request.version in ("HTTP/1.1", "HTTP/1.0")
    assert request.version == "HTTP/1.0" or "host" in request.header
    assert CHUNKED <= request.body < 2**63
    assert "," not in (request.header["content-length"] or "")
    assert not ("content-length" in request.header and "transfer-encoding" in request.header)
    check_fields(request.header)
    assert request.last or request.keepalive
    assert request.last or (request.method != "CONNECT" and "websocket" not in (request.header["upgrade"] or ""))
    again = request_head(request.method, request.target, pairs(request.header))
    if request.version == "HTTP/1.0":
        again = again.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
    meant = parse_request(again[:-4], WIDE)
    assert meant == request, "written anew it means the same"
    assert pairs(meant.header) == pairs(request.header)


def refuse(connection: h11.Connection) -> None:
    """Answers, so that h11 goes on to the next request: an upgrade or a tunnel would end what it parses."""
    connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
        connection.start_next_cycle()


def run(data: bytes) -> None:
    source = Source(data)
    limits = source.choose(LIMITS)
    sizes, most = source.sizes(), source.sizes()
    stream = source.rest()
    whole = drive([stream], reading(limits, [2**20]))
    assert drive(cut(stream, sizes), reading(limits, most)).like(whole), "the segmentation changes nothing"
    for functions in AVAILABLE:
        for pieces in ([stream], cut(stream, sizes)):
            assert drive(pieces, reading(limits, most, functions["take_request"])).like(whole)
    for message in whole.messages:
        check(message.head)
        assert message.complete or message is whole.messages[-1]
        if message.complete and message.head.body >= 0:
            assert len(message.body) == message.head.body
            assert not flat(message.trailer)
    if whole.whole:
        agree(whole, *from_h11(h11.Connection(h11.SERVER, max_incomplete_event_size=2**20), stream, refuse))
        agree(whole, *from_httptools(httptools.HttpRequestParser, stream))


STARTS = ["GET / HTTP/1.1", "POST /a/b?c=d HTTP/1.1", "HEAD http://y:81/z HTTP/1.1", "OPTIONS * HTTP/1.1"]
STARTS += ["CONNECT y:443 HTTP/1.1", "PUT /%2e HTTP/1.0", "get //x HTTP/1.1"]
FIELDS = ["Host: x", "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close", "Connection: keep-alive, te"]
FIELDS += ["A: b", "a:\t c ", "Set-Cookie: 1", "Host: [::1]:80", "Upgrade: WebSocket", "Expect: 100-continue", "TE: trailers"]
FIELDS += ["Cookie: a=b", "Host: y:", "Upgrade: websocket", "Connection: Upgrade"]
CHUNKS = ["5\r\nhello\r\n0\r\n\r\n", "2;a=b\r\nhi\r\n0\r\nX: y\r\n\r\n"]


def seed(requests: str, limits: int = 0, sizes: bytes = b"\x02\x07\x03", most: bytes = b"\x02\x01\x05") -> bytes:
    return bytes((limits,)) + sizes + most + requests.encode("latin-1")


def head(start: str, *fields: str) -> str:
    return "\r\n".join([start, *fields, "", ""])


SEEDS = [seed(head(start, "Host: x", field)) for start in STARTS for field in FIELDS]
SEEDS += [
    seed(head(STARTS[1], "Host: x", "Content-Length: 5") + "hello" + head(STARTS[0], "Host: x"), limits) for limits in (0, 1)
]
SEEDS += [seed(head(STARTS[1], "Host: x", FIELDS[2]) + body + head(STARTS[0], "Host: x")) for body in CHUNKS]
SEEDS += [seed("\r\n" + head(STARTS[5], FIELDS[4]) + "\r\n" + head(STARTS[0]), most=b"\0")]
TOKENS = [f"{line}\r\n".encode() for line in STARTS + FIELDS] + [chunk.encode() for chunk in CHUNKS]
TOKENS += [
    head(STARTS[0], "Host: x").encode(),
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\0",
    b"\x7f",
    b"\xe9",
]
TOKENS += [
    b"0",
    b"+5",
    b"-0",
    b"0x5",
    b"9223372036854775808",
    b"chunked",
    b"gzip, chunked",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"%zz",
    b"#",
]
TOKENS += [
    b"http://",
    b"https://u@",
    b"?",
    b"*",
    b"[::1]",
    b":99999",
    b"close",
    b"identity",
    b"Host:",
    b"\r\n ",
    b" :",
    b"x" * 50,
]
