"""Work stays linear in the bytes received: twice the input, at most two and a half times the work, however hostile.

Work is counted, not timed: calls, of Python and of C functions, and the bytes that a buffer or zlib hands out.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from functools import partial
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from silly._wire import content, deflate, handshake, mask
from silly._wire.chunked import ChunkedReader
from silly._wire.content import ContentDecoder
from silly._wire.deflate import Deflate, Deflater, Inflater, check_answer, negotiate
from silly._wire.error import ProtocolError
from silly._wire.header import Header
from silly._wire.http1 import HeadReader, parse_request
from silly._wire.limits import DEFAULT, Limits
from silly._wire.ws import BINARY, CONTINUATION, FIN, PING, RSV1, TEXT, MessageReader

from ..wire.support import encode, encode_fast

LIMITS = Limits(fragments=2**40)
mask.apply_mask(bytes(1024), b"mask")  # it works its tables out at the first long payload
moved = 0
"""Bytes handed out since the count began."""


class Buffer(bytearray):
    """Counts the bytes that are taken out of it, and those that its searches may have looked at."""

    def __getitem__(self, key: Any) -> Any:
        global moved
        got = super().__getitem__(key)
        if isinstance(key, slice):
            moved += len(got)
        return got

    def find(self, sub: Any, start: Any = 0, end: Any = None, /) -> int:
        global moved
        stop = len(self) if end is None else min(end, len(self))
        found = super().find(sub, start, stop)
        moved += max(0, (found if found >= 0 else stop) - start)
        return found


class Stream:
    """zlib's decompressor, counting the bytes that it takes, gives, and gives back."""

    def __init__(self, bits: int) -> None:
        self._stream = zlib.decompressobj(bits)

    def decompress(self, data: bytes, most: int) -> bytes:
        global moved
        out = self._stream.decompress(data, most)
        moved += len(data) + len(out) + len(self._stream.unused_data) + len(self._stream.unconsumed_tail)
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@pytest.fixture(autouse=True)
def _counting(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("error", "compressobj", "DEFLATED", "Z_SYNC_FLUSH", "Z_DEFAULT_STRATEGY", "Z_RLE")
    shown = {name: getattr(zlib, name) for name in names}
    monkeypatch.setattr(deflate, "zlib", SimpleNamespace(decompressobj=Stream, **shown))
    monkeypatch.setattr(content, "zlib", SimpleNamespace(decompressobj=Stream, error=zlib.error))


def work(call: Callable[[], object]) -> int:
    global moved
    moved = calls = 0

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return calls + moved


def check_linear(build: Callable[[int], Callable[[], object]], size: int) -> None:
    """``build(n)`` gives what is to be measured for an input of ``n`` parts."""
    build(2)()  # what is worked out once is so now
    once, twice = work(build(size)), work(build(2 * size))
    assert once > size // 100, "something was counted"
    assert twice < 2.5 * once, f"{size}: {once}, {2 * size}: {twice}"


def test_quadratic_work_is_seen() -> None:
    def build(size: int) -> Callable[[], object]:
        buf = Buffer(bytes(size))
        return lambda: [buf[:at] for at in range(size)]

    with pytest.raises(AssertionError, match=r"1000: \d+, 2000: \d+"):
        check_linear(build, 1000)


# ---- frames -----------------------------------------------------------------------------------------------------------


def gathering(reader: MessageReader, pieces: list[bytes]) -> int:
    buf = Buffer()
    messages = 0
    for piece in pieces:
        buf += piece
        while not isinstance(reader.next(buf), int):
            messages += 1
    return messages


def streaming(reader: MessageReader, pieces: list[bytes]) -> None:
    buf = Buffer()
    for piece in pieces:
        buf += piece
        while True:
            reader.read_pieces(2**30)
            got = reader.next(buf)
            if isinstance(got, int):
                break
            reader.take_piece()


def dropping(reader: MessageReader, pieces: list[bytes]) -> None:
    buf = Buffer()
    for piece in pieces:
        buf += piece
        reader.read_pieces(2**30)
        while not isinstance(reader.next(buf), int):
            reader.read_whole()


def unread(reader: MessageReader, pieces: list[bytes]) -> None:
    """No task reads until everything has arrived."""
    buf = Buffer()
    for piece in pieces:
        buf += piece
        while (size := reader.complete(buf)) >= 0:
            frame = Buffer(buf[:size])
            del buf[:size]
            reader.next(frame)
    gathering(reader, [bytes(buf)])


WAYS = [gathering, streaming, dropping, unread]
squeezed = partial(Deflater(True, 15, Deflate()).piece, final=True)


def repeated(first: int, rest: int, last: int, payload: bytes) -> Callable[[int, bool], bytes]:
    """A message in many fragments, each with this payload."""
    return lambda size, server: (
        encode(first, payload, server) + encode(rest, payload, server) * size + encode(last, payload, server)
    )


STREAMS: dict[str, Callable[[int, bool], bytes]] = {
    "one-byte fragments of text": repeated(TEXT, CONTINUATION, FIN, b"x"),
    "one-byte fragments of data": repeated(BINARY, CONTINUATION, FIN, b"x"),
    "empty fragments": repeated(BINARY, CONTINUATION, FIN, b""),
    "empty fragments of text": repeated(TEXT, CONTINUATION, FIN, b""),
    "pings": lambda size, server: encode(FIN | PING, b"p", server) * size,
    "pings in a message": lambda size, server: encode(TEXT, b"x", server) + encode(FIN | PING, b"", server) * size,
    "fragments and pings": lambda size, server: (
        encode(BINARY, b"x", server) + (encode(CONTINUATION, b"x", server) + encode(FIN | PING, b"", server)) * size
    ),
    "messages": lambda size, server: encode(FIN | TEXT, b"hi", server) * size,
    "a text": lambda size, server: encode_fast(FIN | TEXT, "é".encode() * size, server),
    "data": lambda size, server: encode_fast(FIN | BINARY, bytes(2 * size), server),
    "compressed messages": lambda size, server: encode(FIN | RSV1 | TEXT, b"\xca\0\0", server) * size,
    "compressed fragments": lambda size, server: (
        encode(RSV1 | BINARY, b"", server) + encode(CONTINUATION, b"\x00\x00\x00\xff\xff", server) * size
    ),
    # For each of these a slice of the input, a few KiB, is moved; this counts the slices.
    "final blocks": lambda size, server: encode_fast(FIN | RSV1 | BINARY, b"\x03\x00" * (10 * size) + b"\0", server),
    "a bomb": lambda size, server: encode_fast(FIN | RSV1 | BINARY, squeezed(bytes(500 * size)), server),
}


@pytest.mark.parametrize("segment", [1, 2**20], ids=["in-bytes", "whole"])
@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
@pytest.mark.parametrize("name", STREAMS)
def test_frames(name: str, server: bool, segment: int) -> None:
    for way in WAYS:

        def build(size: int, way: Callable[..., object] = way) -> Callable[[], object]:
            stream = STREAMS[name](size, server)
            pieces = [stream[at : at + segment] for at in range(0, len(stream), segment)]
            inflater = Inflater(False, 12)
            return lambda: way(MessageReader(server, LIMITS, inflater), pieces)

        check_linear(build, 200)


# ---- inflate ----------------------------------------------------------------------------------------------------------

BLOCKS = [bytes.fromhex(block) for block in ("0300", "4b0400", "000000ffff", "010000ffff", "4a04000000ffff")]


@pytest.mark.parametrize("block", BLOCKS, ids=bytes.hex)
@pytest.mark.parametrize("segment", [1, 5000, 2**20])
def test_inflate(block: bytes, segment: int) -> None:
    """Slices of 4 KiB are moved for each final block in them, but no more: so the input is many slices."""

    def build(size: int) -> Callable[[], object]:
        data = block * size + b"\0"
        pieces = [data[at : at + segment] for at in range(0, len(data), segment)]

        def run() -> None:
            gathered, in_slices = Inflater(False, 15), Inflater(False, 15)
            for piece in pieces:
                gathered.inflate(piece, 2**20)
                for at in range(0, len(piece), 1024):
                    in_slices.inflate(piece[at : at + 1024], 2**20)
            for inflater in (gathered, in_slices):
                while inflater.more:
                    inflater.inflate(b"", 2**20)

        return run

    check_linear(build, 500 if segment == 1 else 4000)


# ---- handshake --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "permessage-deflate", 'foo; bar="'])
@pytest.mark.parametrize("flood", [",", ";", '"', " ", "\t", "=", "\\", "x", ";x", ";x=y", ",x", ' ;x="y"', ", ", "; ", "x,"])
def test_a_field_of_separators(before: str, flood: str) -> None:
    """Of 4 and of 8 KiB, as much as a line may have. What the expressions do within one call, test_deflate.py bounds."""

    def attempt(call: Callable[..., object], *args: object) -> None:
        try:
            call(*args)
        except ProtocolError:
            pass

    def build(size: int) -> Callable[[], object]:
        field = before + flood * (size // len(flood))
        header = Header([("Sec-WebSocket-Protocol", field), ("Upgrade", field), ("Connection", field), ("Origin", field)])

        def run() -> None:
            attempt(negotiate, field, Deflate())
            attempt(check_answer, field, Deflate())
            attempt(handshake.offered_subprotocols, header)
            attempt(handshake.check_request, "GET", "HTTP/1.1", header, 0)
            attempt(handshake.check_origin, header)
            attempt(handshake.check_origin, header, ["https://example.com"])

        return run

    check_linear(build, 4096)


@pytest.mark.parametrize("segment", [1, 7, 2**20])
def test_a_head_of_separators(segment: int) -> None:
    def build(size: int) -> Callable[[], object]:
        stream = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"Upgrade: ,,,,;;;;\r\n" * (size // 20) + b"\r\n"

        def run() -> None:
            reader, buf = HeadReader(DEFAULT), Buffer()
            for at in range(0, len(stream), segment):
                buf += stream[at : at + segment]
                head = reader.next(buf)
            assert head is not None
            parse_request(head, Limits(header_lines=10_000))

        return run

    check_linear(build, 16384)


# ---- bodies -----------------------------------------------------------------------------------------------------------

CHUNKS: dict[str, Callable[[int], bytes]] = {
    "one-byte chunks": lambda size: b"1\r\nx\r\n" * size + b"0\r\n\r\n",
    "chunks of line ends": lambda size: b"2\r\n\r\n\r\n" * size + b"0\r\n\r\n",
    "short extensions": lambda size: b"1;a=b;c=d\r\nx\r\n" * size + b"0\r\n\r\n",
    "long extensions": lambda size: (b"7a;" + b"e" * 240 + b"\r\n" + b"x" * 122 + b"\r\n") * (size // 20) + b"0\r\n\r\n",
    "a chunk": lambda size: b"%x\r\n%b\r\n0\r\n\r\n" % (8 * size, bytes(8 * size)),
    "trailers": lambda size: b"0\r\n" + b"A: b\r\n" * size + b"\r\n",
    "a long trailer": lambda size: b"0\r\nA: " + b"x" * size + b"\r\n\r\n",
}


@pytest.mark.parametrize("most", [1, 100, 2**20])
@pytest.mark.parametrize("segment", [1, 1000, 2**20], ids=["in-bytes", "in-pieces", "whole"])
@pytest.mark.parametrize("name", CHUNKS)
def test_chunks(name: str, segment: int, most: int) -> None:
    """aiohttp CVE-2025-69229, whatever is read at a time."""

    def build(size: int) -> Callable[[], object]:
        stream = CHUNKS[name](size)
        pieces = [stream[at : at + segment] for at in range(0, len(stream), segment)]

        def run() -> None:
            reader, buf = ChunkedReader(Limits(header_lines=10_000)), Buffer()
            try:
                for piece in pieces:
                    buf += piece
                    while reader.read(buf, most):
                        pass
            except ProtocolError:
                assert "line ends" in name

        return run

    check_linear(build, 400)


def test_what_a_one_byte_chunk_costs() -> None:
    """A client may send 16 MiB of them: each costs its bytes, looked at twice, and a few calls."""
    count = 2**14
    stream = CHUNKS["one-byte chunks"](count)
    assert work(lambda: ChunkedReader(DEFAULT).read(Buffer(stream), count)) < 40 * count


@pytest.mark.parametrize("segment", [1, 64])
@pytest.mark.parametrize("bits", [31, 15, -15])
def test_content(bits: int, segment: int) -> None:
    """A bomb, and behind a gzip member any number of empty ones, fed as they arrive."""

    def build(size: int) -> Callable[[], object]:
        stream = zlib.compressobj(wbits=bits)
        data = stream.compress(bytes(500 * size)) + stream.flush()
        if bits == 31:
            empty = zlib.compressobj(wbits=bits)
            data += empty.flush() * size
        pieces = [data[at : at + segment] for at in range(0, len(data), segment)]

        def run() -> None:
            decoder = ContentDecoder("gzip" if bits == 31 else "deflate")
            for piece in pieces:
                decoder.decode(piece, 1000)
                while decoder.waiting:
                    decoder.decode(b"", 1000)
            decoder.finish()

        return run

    check_linear(build, 2000)
