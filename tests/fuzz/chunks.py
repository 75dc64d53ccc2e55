"""Bodies in the chunked transfer coding, trailers included, asked for in any sizes.

What must hold: only ProtocolError with a status for it; neither the segmentation nor what is asked for changes anything; what
is taken is the same when it is written anew, in one chunk or many, and h11 and httptools take it so too or refuse it. A
response's body is taken wherever a request's is, and as that. All that for both implementations of the wire functions, which
agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h11
import httptools

from silly._wire.http1 import CHUNKED, parse_request
from silly._wire.limits import Limits

from ..implementations import AVAILABLE, using
from .messages import ENDED, LIMITS, WIDE, Message, Read, agree, drive, flat, from_h11, from_httptools, pairs, read_body
from .requests import refuse
from .source import Source, cut

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUEST = parse_request(HEAD[:-4], WIDE)
TIMES = [1, 1, 2, 100]


def reading(limits: Limits, most: list[int], response: bool = False) -> Any:
    def steps(buf: bytearray, messages: list[Message]) -> Iterator[None]:
        messages.append(Message(REQUEST))
        yield from read_body(buf, messages[-1], CHUNKED, limits, most, response)

    return steps


def run(data: bytes) -> None:
    source = Source(data)
    limits = source.choose(LIMITS)
    sizes, most = source.sizes(), source.sizes()
    # What only much of the same brings about: floods of chunks, and of their extensions.
    stream = source.take(source.byte()) * source.choose(TIMES) + source.rest()
    read = []
    for functions in AVAILABLE:
        with using(functions):
            read.append(check(stream, limits, sizes, most))
    assert all(other == read[0] for other in read), "the implementations agree"


def check(stream: bytes, limits: Limits, sizes: list[int], most: list[int]) -> list[object]:
    """Holds one implementation to all of it; what it has read."""
    whole = drive([stream], reading(limits, [2**20]))
    pieced = drive(cut(stream, sizes), reading(limits, most))
    others = [drive([stream], reading(limits, most)), drive(cut(stream, sizes), reading(limits, [2**20]))]
    assert all(other.like(whole) for other in (pieced, *others)), "neither the pieces nor what is asked for changes anything"
    loose = drive([stream], reading(limits, [2**20], response=True))
    assert drive(cut(stream, sizes), reading(limits, most, response=True)).like(loose)
    compare(stream, loose)
    seen: list[object] = [
        ([message.seen() for message in got.messages], got.verdict, got.rest) for got in (whole, pieced, *others, loose)
    ]
    if whole.verdict != ENDED:
        return seen
    assert loose.like(whole)
    message = whole.messages[0]
    body = bytes(message.body)
    end = b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs(message.trailer)).encode("latin-1") + b"\r\n"
    for size in (1, 7, len(body) or 1):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        again = b"".join(b"%X;x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end
        got = drive([again], reading(WIDE, [2**20])).messages[0]
        assert (got.complete, bytes(got.body), pairs(got.trailer)) == (True, body, pairs(message.trailer))
    assert not flat(message.trailer) or b":" in stream
    return seen


def compare(stream: bytes, ours: Read) -> None:
    agree(ours, *from_h11(h11.Connection(h11.SERVER, max_incomplete_event_size=2**20), HEAD + stream, refuse))
    agree(ours, *from_httptools(httptools.HttpRequestParser, HEAD + stream))


def seed(stream: bytes, limits: int = 0, again: bytes = b"", times: int = 0, most: bytes = b"\x02\x01\x05") -> bytes:
    return bytes((limits,)) + b"\x02\x07\x03" + most + bytes((len(again),)) + again + bytes((times,)) + stream


BODIES = [
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"1A;a=b\r\n" + b"x" * 26 + b"\r\n0;c\r\n\r\n",
    b"0\r\nX-Sum: 1\r\nA:\r\na: \xe9 \r\n\r\n",
]
BODIES += [
    b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"7\r\n\r\n0\r\n\r\n\r\n000\r\n\r\n",
    b"5 ; a\t\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
]
BODIES += [b"5  \r\nhello\r\n0\t \r\n\r\n", b"0 \r\nA: b\r\n\t c \r\n \r\nB: d\r\n\r\n", b"0\r\n A: b\r\n\r\n"]
SEEDS = [seed(body, limits, most=most) for body in BODIES for limits in (0, 1) for most in (b"\0", b"\x02\x01\x05")]
SEEDS += [seed(BODIES[0], 0, chunk, 3) for chunk in (b"1\r\nx\r\n", b"1;" + b"e" * 200 + b"\r\nx\r\n", b"2\r\n\r\n\r\n")]
SEEDS += [seed(b"0\r\n", limits, b"A: b\r\n", times) for limits in (0, 1) for times in (2, 3)]
TOKENS = [
    *BODIES,
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"0\r\n",
    b"1\r\nx\r\n",
    b"5",
    b"ff",
    b"FFFFFFFFFFFFFFFF",
    b"7fffffffffffffff",
]
TOKENS += [
    b"0x",
    b"+",
    b"-",
    b"_",
    b" ",
    b"\t",
    b";",
    b";a=b",
    b';a="b"',
    b"\0",
    b"\xe9",
    b":",
    b"A: b\r\n",
    b"Host: x\r\n",
    b"\r\n ",
]
TOKENS += [b"GET / HTTP/1.1\r\n", b"Trailer: x\r\n", b"00000000000000000", b"e" * 100]
