"""Responses as a client reads them: interim ones, the final one and its body, whatever ends that; then the next.

What must hold: only ProtocolError, whatever a server sends; the segmentation changes nothing; what is taken is well-formed,
means the same when it is written anew, and h11 and httptools frame it alike or refuse it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h11
import httptools

from silly._wire.error import ProtocolError
from silly._wire.header import compose
from silly._wire.http1 import (
    INTERIM,
    UNTIL_CLOSE,
    HeadReader,
    ResponseHead,
    ResponseReader,
    parse_response,
    response_body_length,
)
from silly._wire.limits import Limits

from .messages import CODES, LIMITS, WIDE, Message, Read, agree, check_fields, drive, from_h11, from_httptools, pairs, read_body
from .source import Source, allowed, cut

METHODS = ["GET", "HEAD", "CONNECT"]


def reading(limits: Limits, most: list[int], method: str) -> Any:
    def steps(buf: bytearray, messages: list[Message]) -> Iterator[None]:
        heads = HeadReader(limits)
        while True:
            while (head := heads.next(buf)) is None:
                yield
            response = parse_response(head, limits)
            length = response_body_length(response, method)
            messages.append(Message(response))
            yield from read_body(buf, messages[-1], length, limits, most, response=True)
            if response.status == 101 or (method == "CONNECT" and 200 <= response.status < 300):
                return

    return steps


def check(response: ResponseHead, method: str) -> None:
    assert response.version in ("HTTP/1.1", "HTTP/1.0")
    assert 100 <= response.status <= 999
    assert compose([("x", response.reason)])
    check_fields(response.header)
    lines = [f"{response.version} {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in pairs(response.header)]
    meant = parse_response("\r\n".join(lines).encode("latin-1"), WIDE)
    assert meant == response, "written anew it means the same"
    assert response_body_length(meant, method) == response_body_length(response, method)


def bodyless_with_length(response: ResponseHead) -> bool:
    """Where llhttp expects a body after a 1xx, 204 or 304: RFC 9112, section 6.3, rule 1, has none."""
    framed = "content-length" in response.header or "transfer-encoding" in response.header
    return framed and (response.status < 200 or response.status in (204, 304))


class Client:
    """h11's side of the client."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
        self.ask()

    def ask(self) -> None:
        target = "x:80" if self.method == "CONNECT" else "/"
        self.connection.send(h11.Request(method=self.method, target=target, headers=[("Host", "x")]))
        self.connection.send(h11.EndOfMessage())

    def again(self, connection: h11.Connection) -> None:
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
            self.ask()


def check_final(stream: bytes, limits: Limits, sizes: list[int], whole: Read) -> None:
    """``ResponseReader`` returns the first response that is final, where one is."""
    statuses = [message.head.status for message in whole.messages]
    due = next((message.head for message in whole.messages if message.head.status >= 200), None)
    for upgrade in (False, True):
        reader, buf = ResponseReader(limits, upgrade), bytearray()
        got = None
        try:
            for piece in cut(stream, sizes):
                buf += piece
                got = got or reader.next(buf)
        except ProtocolError as exc:
            allowed(exc, CODES)
            assert isinstance(whole.verdict, int) or reader.interim > INTERIM or (not upgrade and 101 in statuses)
            continue
        assert reader.interim <= INTERIM
        assert due is None or got == due or (upgrade and got is not None and got.status == 101)


def run(data: bytes) -> None:
    source = Source(data)
    limits = source.choose(LIMITS)
    method = source.choose(METHODS)
    sizes, most = source.sizes(), source.sizes()
    stream = source.rest()
    whole = drive([stream], reading(limits, [2**20], method))
    assert drive(cut(stream, sizes), reading(limits, most, method)).like(whole), "the segmentation changes nothing"
    check_final(stream, limits, sizes, whole)
    for message in whole.messages:
        check(message.head, method)
        length = response_body_length(message.head, method)
        assert message.complete or message is whole.messages[-1]
        assert not message.complete or length < 0 or len(message.body) == length
        assert length != UNTIL_CLOSE or not message.complete
    if whole.whole:
        client = Client(method)
        agree(whole, *from_h11(client.connection, stream, client.again))
        if method == "GET" and not any(bodyless_with_length(message.head) for message in whole.messages):
            agree(whole, *from_httptools(httptools.HttpResponseParser, stream))


LINES = [
    "HTTP/1.1 200 OK",
    "HTTP/1.0 404 Not Found",
    "HTTP/1.1 204 ",
    "HTTP/1.1 304",
    "HTTP/1.1 100 Continue",
    "HTTP/1.1 101 null",
]
LINES += ["HTTP/1.1 103 Early Hints", "HTTP/1.1 999 \xe9"]
FIELDS = ["Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close", "Content-Length: 0", "A: b", "Set-Cookie: 1"]
FIELDS += ["Set-Cookie: 2", "Transfer-Encoding: gzip, chunked", "Connection: keep-alive", "Content-Encoding: gzip"]
BODIES = ["hello", "5\r\nhello\r\n0\r\n\r\n", "5;a\r\nhello\r\n0\r\nX: y\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "\r\n"]


def seed(stream: str, method: int = 0, limits: int = 0) -> bytes:
    return bytes((limits, method)) + b"\x02\x07\x03\x02\x01\x05" + stream.encode("latin-1")


def head(line: str, *fields: str) -> str:
    return "\r\n".join([line, *fields, "", ""])


SEEDS = [seed(head(line, field) + BODIES[0]) for line in LINES for field in FIELDS[:4]]
SEEDS += [seed(head(LINES[0], FIELDS[1]) + body + head(LINES[0], FIELDS[3]), method) for body in BODIES for method in range(3)]
SEEDS += [
    seed(head(LINES[4]) + head(LINES[6], *FIELDS[4:7]) + head(LINES[0], FIELDS[0]) + "hello" + head(LINES[2]), 0, limits)
    for limits in (0, 1)
]
SEEDS += [seed(head(line) + BODIES[0], method) for line in LINES for method in range(3)]
FOLDS = ["A: b \r\n\t c", "A:\r\n b\r\n \r\n\tc", "Content-Length:\r\n 5", "Upgrade: x\r\n "]
FOLDS += ["Sec-WebSocket-X: a\r\n b", "\tA: b"]
PADDED = ["5  \r\nhello\r\n0\t\r\n\r\n", "5 \t;a\r\nhello\r\n0 \r\nA: b\r\n c\r\n\r\n"]
SEEDS += [seed(head(LINES[0], fold, FIELDS[0]) + BODIES[0], 0, limits) for fold in FOLDS for limits in (0, 1)]
SEEDS += [seed(head(LINES[0], FIELDS[1]) + body) for body in PADDED]
TOKENS = [f"{line}\r\n".encode("latin-1") for line in LINES + FIELDS] + [body.encode() for body in BODIES]
TOKENS += [
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
    b"0",
    b"1",
    b"+5",
    b"identity",
]
TOKENS += [
    b"99",
    b"1000",
    b"HTTP/1.1 ",
    b"HTTP/2 200",
    b"ICY 200 OK",
    b"\r\n ",
    b"\r\n\t",
    b"5 \r\n",
    b" :",
    b"chunked",
    b"x" * 50,
    b"Content-Length:",
]
