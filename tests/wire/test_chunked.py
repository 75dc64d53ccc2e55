"""The chunked transfer coding (RFC 9112, section 7.1): whole, byte by byte, in two parts, with pipelined bytes behind it."""

from __future__ import annotations

import pytest

from silly._wire.chunked import ChunkedReader
from silly._wire.error import ProtocolError
from silly._wire.limits import DEFAULT, Limits

from .support import TRAILING, CountingBuffer, bytewise, read_chunked, segmentations

PIPELINED = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"

GOOD: list[tuple[str, bytes, bytes, list[tuple[str, list[str]]]]] = [
    ("7.1-empty", b"0\r\n\r\n", b"", []),
    ("7.1-one", b"5\r\nhello\r\n0\r\n\r\n", b"hello", []),
    ("7.1-two", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", []),
    ("7.1-hex-upper", b"1A\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", b"x" * 26, []),
    ("7.1-hex-lower", b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", b"x" * 26, []),
    ("7.1-leading-zeros", b"0005\r\nhello\r\n0\r\n\r\n", b"hello", []),
    ("7.1-16-digits", b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", []),
    ("7.1-last-chunk-zeros", b"000\r\n\r\n", b"", []),
    ("7.1-data-that-looks-like-framing", b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n", []),
    ("7.1-data-of-crs", b"3\r\n\r\r\r\r\n0\r\n\r\n", b"\r\r\r", []),
    ("7.1.1-extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello", []),
    ("7.1.1-extension-quoted", b'5;a="b; c"\r\nhello\r\n0\r\n\r\n', b"hello", []),
    ("7.1.1-extension-bws", b"5 \t; a = b\r\nhello\r\n0 ;c\r\n\r\n", b"hello", []),
    ("7.1.1-extension-obs-text", b"5;a=\xe9\r\nhello\r\n0\r\n\r\n", b"hello", []),
    ("size-line-at-the-limit", b"5;" + b"x" * 252 + b"\r\nhello\r\n0\r\n\r\n", b"hello", []),
    ("7.1.2-trailer", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello", [("x-sum", ["1"])]),
    ("7.1.2-trailers", b"0\r\nA: 1\r\nB:2 \r\na: 3\r\n\r\n", b"", [("a", ["1", "3"]), ("b", ["2"])]),
    ("7.1.2-trailer-empty-value", b"0\r\nA:\r\n\r\n", b"", [("a", [""])]),
]


@pytest.mark.parametrize(
    ("data", "body", "trailer"), [pytest.param(*row, id=f"rfc9112-{name}") for name, *row in GOOD]
)
def test_good_bodies(data: bytes, body: bytes, trailer: list[tuple[str, list[str]]]) -> None:
    for tail in (b"", PIPELINED, TRAILING, b"\r\n", b"0\r\n\r\n"):
        for pieces in segmentations(data + tail):
            got = read_chunked(pieces)
            assert (got.body, got.done, got.code) == (body, True, None)
            assert got.rest == tail, "what follows is the next message's"
            assert got.trailer == trailer
            assert read_chunked(pieces, response=True) == got
    for most in (1, 2, 3, 7):
        for pieces in ([data + PIPELINED], bytewise(data + PIPELINED)):
            got = read_chunked(pieces, most=most)
            # A last read may be due to take the end, when all of the body has just been given.
            assert (got.body, got.done, got.rest, got.trailer) == (body, True, PIPELINED, trailer)
    # Any prefix is incomplete, neither done nor refused.
    for size in range(len(data)):
        got = read_chunked([data[:size]])
        assert (got.done, got.code) == (False, None)
        assert body.startswith(got.body)


# What a response's body may have too.
LOOSE: list[tuple[str, bytes, bytes, list[tuple[str, list[str]]]]] = [
    ("7.1-size-space-behind", b"5 \r\nhello\r\n0\r\n\r\n", b"hello", []),
    ("7.1-size-spaces-behind", b"5       \r\nhello\r\n0       \r\n\r\n", b"hello", []),
    ("7.1-size-tab-behind", b"5\t\r\nhello\r\n0\t\r\n\r\n", b"hello", []),
    ("7.1-size-and-blanks-at-the-limit", b"5" + b" " * 253 + b"\r\nhello\r\n0\r\n\r\n", b"hello", []),
    ("7.1-size-16-digits-and-a-space", b"0000000000000005 \r\nhello\r\n0\r\n\r\n", b"hello", []),
    ("5.2-trailer-folded", b"0\r\nA: b\r\n c\r\n\r\n", b"", [("a", ["b c"])]),
    ("5.2-trailers-folded", b"0\r\nA:\r\n\tb \r\n  c\r\nB: d\r\na: e\r\n \r\n\r\n", b"", [("a", ["b c", "e"]), ("b", ["d"])]),
    ("5.2-trailer-fold-like-a-field", b"0\r\nA: b\r\n Content-Length: 5\r\n\r\n", b"", [("a", ["b Content-Length: 5"])]),
]


@pytest.mark.parametrize(("data", "body", "trailer"), [pytest.param(*row, id=f"rfc9112-{name}") for name, *row in LOOSE])
def test_what_a_client_takes_too(data: bytes, body: bytes, trailer: list[tuple[str, list[str]]]) -> None:
    """As curl, aiohttp and http.client do; a server still refuses it."""
    for tail in (b"", PIPELINED, TRAILING, b"\r\n"):
        for pieces in segmentations(data + tail):
            got = read_chunked(pieces, response=True)
            assert (got.body, got.done, got.code, got.rest, got.trailer) == (body, True, None, tail, trailer)
            assert read_chunked(pieces).code == 400
    for size in range(len(data)):
        assert read_chunked([data[:size]], response=True)[1:3] == (False, None)


H = b"5\r\nhello\r\n"

# (name, data, code, bytes after which the error comes, if they come one by one)
BAD: list[tuple[str, bytes, int, int]] = [
    ("7.1-size-0x5", b"0x5\r\nhello\r\n", 400, 2),
    ("7.1-size-+5", b"+5\r\nhello\r\n", 400, 1),
    ("7.1-size--5", b"-5\r\nhello\r\n", 400, 1),
    ("7.1-size-5_0", b"5_0\r\n", 400, 2),
    ("7.1-size-space-first", b" 5\r\nhello\r\n", 400, 1),
    ("7.1-size-space-last", b"5 \r\nhello\r\n", 400, 3),
    ("7.1-size-space-within", b"5 5\r\n", 400, 3),
    ("7.1-size-arabic-digit", "\u0665\r\nhello\r\n".encode(), 400, 1),
    ("7.1-size-letter", b"g\r\n", 400, 1),
    ("7.1-size-empty", b"\r\nhello\r\n", 400, 1),
    ("7.1-size-extension-alone", b";a\r\nhello\r\n", 400, 1),
    ("7.1-size-comma", b"5,5\r\n", 400, 2),
    ("7.1-size-17-digits", b"00000000000000005\r\nhello\r\n", 400, 17),
    ("7.1-size-2^63", b"8000000000000000\r\n", 400, 18),
    ("7.1-size-2^64-1", b"ffffffffffffffff\r\n", 400, 18),
    ("7.1-size-2^64", b"10000000000000000\r\n", 400, 17),
    ("7.1-size-nul", b"5\0\r\n", 400, 2),
    ("7.1-size-bare-lf", b"5\nhello\r\n", 400, 2),
    ("7.1-size-bare-cr", b"5\rhello\r\n", 400, 3),
    ("7.1-size-cr-cr-lf", b"5\r\r\nhello\r\n", 400, 3),
    ("7.1.1-lf-in-an-extension", b"5;a\nb\r\nhello\r\n", 400, 4),
    ("7.1.1-lf-ends-an-extension", b"5;\nhello\r\n0\r\n\r\n", 400, 3),
    ("7.1.1-cr-in-an-extension", b"5;a\rb\r\nhello\r\n", 400, 5),
    ("7.1.1-nul-in-an-extension", b"5;\0\r\nhello\r\n", 400, 3),
    ("7.1-no-crlf-after-data", H[:-2] + b"0\r\n\r\n", 400, 9),
    ("7.1-too-much-data", b"5\r\nhello!\r\n", 400, 9),
    ("7.1-bare-lf-after-data", H[:-2] + b"\n0\r\n\r\n", 400, 9),
    ("7.1-bare-cr-after-data", H[:-1] + b"0\r\n\r\n", 400, 10),
    ("7.1-cr-cr-after-data", H[:-1] + b"\r\n0\r\n\r\n", 400, 10),
    ("7.1-space-after-data", H[:-2] + b" \r\n0\r\n\r\n", 400, 9),
    ("7.1-later-chunk", H + H + b"x\r\n", 400, 21),
    ("size-line-over-the-limit", b"5;" + b"x" * 253 + b"\r\nhello\r\n", 400, 256),
    ("size-line-far-over-the-limit", b"5;" + b"x" * 5000 + b"\r\nhello\r\n", 400, 256),
    ("7.1.2-request-line-as-trailer", b"0\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n", 400, 34),
    ("7.1.2-trailer-folded", b"0\r\nA: b\r\n c\r\n\r\n", 400, 15),
    ("7.1.2-trailer-space-before-colon", b"0\r\nA : b\r\n\r\n", 400, 12),
    ("7.1.2-trailer-bare-lf", b"0\r\nA: b\nC: d\r\n\r\n", 400, 8),
    ("7.1.2-trailer-bare-cr", b"0\r\n\rA: b\r\n\r\n", 400, 5),
    ("7.1.2-trailers-by-lf", b"0\r\nA: b\n\n", 400, 8),
    ("7.1.2-trailer-begins-by-lf", b"0\r\n\n", 400, 4),
    ("7.1.2-second-trailer-bare-lf", b"0\r\nA: b\r\nC: d\n\r\n", 400, 14),
    ("7.1.2-second-trailer-bare-cr", b"0\r\nA: b\r\nC: d\r\r\n", 400, 15),
    ("7.1.2-trailer-nul", b"0\r\nA: \0\r\n\r\n", 400, 7),
    ("7.1.2-trailer-no-colon", b"0\r\nA\r\n\r\n", 400, 8),
    ("7.1.2-trailer-empty-name", b"0\r\n: b\r\n\r\n", 400, 10),
    *[
        (f"9110-6.5.1-{name}", b"0\r\nA: b\r\n" + name + b": x\r\n\r\n", 400, 9 + len(name) + 7)
        for name in (
            *(b"Content-Length", b"Transfer-Encoding", b"host", b"CONNECTION", b"Upgrade", b"TE", b"Trailer", b"Cookie"),
            *(b"Authorization", b"Set-Cookie", b"Content-Type", b"Content-Encoding", b"Content-Range", b"Max-Forwards"),
            *(b"Cache-Control", b"Expect", b"Range", b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authorization"),
        )
    ],
]


@pytest.mark.parametrize(
    ("data", "code", "at"), [pytest.param(*row, id=f"rfc9112-{name}") for name, *row in BAD]
)
def test_bad_bodies(data: bytes, code: int, at: int) -> None:
    for pieces in segmentations(data):
        got = read_chunked(pieces)
        assert (got.code, got.done) == (code, False)
        assert got.trailer == []
    got = read_chunked(bytewise(data + TRAILING))
    assert (got.code, got.fed) == (code, at)
    assert read_chunked([data[: at - 1]]).code is None
    if data not in (loose for _, loose, _, _ in LOOSE) and not data.startswith(b"5 \r\n"):
        for pieces in segmentations(data + TRAILING):
            assert read_chunked(pieces, response=True).code == code
        assert read_chunked(bytewise(data + TRAILING), response=True).fed == at


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b" 5\r\n", id="space-before"),
        pytest.param(b"\t5\r\n", id="tab-before"),
        pytest.param(b" 5 \r\n", id="spaces-around"),
        pytest.param(b"5 5\r\n", id="space-within"),
        pytest.param(b"5 a\r\n", id="space-and-a-letter"),
        pytest.param(b"5 \x0b\r\n", id="vertical-tab"),
        pytest.param(b"5 \xa0\r\n", id="no-break-space"),
        pytest.param(b"5 \0\r\n", id="nul"),
        pytest.param(b"5 \n", id="bare-lf"),
        pytest.param(b"5 \rhello", id="bare-cr"),
        pytest.param(b" \r\n", id="blanks-alone"),
        pytest.param(b"5" + b" " * 254 + b"\r\n", id="blanks-over-the-limit"),
        pytest.param(b"5" + b" " * 5000, id="blanks-without-end"),
        pytest.param(b"0\r\n A: b\r\n\r\n", id="trailers-begin-by-a-fold"),
        pytest.param(b"0\r\n \r\n\r\n", id="trailers-begin-by-an-empty-fold"),
        pytest.param(b"0\r\nA\r\n : b\r\n\r\n", id="folded-name"),
        pytest.param(b"0\r\nContent-Length:\r\n 5\r\n\r\n", id="folded-length"),
        pytest.param(b"0\r\nUpgrade:\r\n x\r\n\r\n", id="folded-upgrade"),
        pytest.param(b"0\r\nSet-Cookie: a=b;\r\n HttpOnly\r\n\r\n", id="folded-field-that-may-not-be-a-trailer"),
    ],
)
def test_what_a_client_refuses_too(data: bytes) -> None:
    for pieces in segmentations(data):
        got = read_chunked(pieces, response=True)
        assert (got.code, got.done, got.trailer) == (400, False, [])


TIGHT = Limits(head=100, header_lines=3, line=40)


def trailers(size: int) -> bytes:
    """Trailers that take ``size`` bytes without the empty line at their end."""
    base = b"A: " + b"x" * 30 + b"\r\nB: " + b"x" * 30 + b"\r\nC: "
    return b"0\r\n" + base + b"x" * (size - len(base)) + b"\r\n\r\n"


@pytest.mark.parametrize("size", range(94, 108))
def test_the_limit_of_the_trailers(size: int) -> None:
    """gevent CVE-2023-41419, aiohttp CVE-2026-22815: trailers count as a head does, whole and dribbled."""
    data = trailers(size)
    for pieces in segmentations(data):
        got = read_chunked(pieces, TIGHT)
        assert (got.code, got.done) == ((431, False) if size > 100 else (None, True))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"0\r\nA: " + b"x" * 30 + b"\r\n " + b"y" * 4 + b"\r\n\r\n", None, id="line-at"),
        pytest.param(b"0\r\nA: " + b"x" * 30 + b"\r\n " + b"y" * 5 + b"\r\n\r\n", 431, id="line-over"),
        pytest.param(b"0\r\nA: b\r\n c\r\n d\r\n\r\n", None, id="lines-at"),
        pytest.param(b"0\r\nA: b\r\n c\r\n d\r\n e\r\n\r\n", 431, id="lines-over"),
        pytest.param(b"0\r\nA: b" + b"\r\n c" * 100, 431, id="endless-folds"),
    ],
)
def test_folds_of_trailers_count(data: bytes, code: int | None) -> None:
    for pieces in segmentations(data):
        got = read_chunked(pieces, TIGHT, response=True)
        assert (got.code, got.done) == (code, code is None)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"0\r\n" + b"A: b\r\n" * 3 + b"\r\n", None, id="lines-at"),
        pytest.param(b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", 431, id="lines-over"),
        pytest.param(b"0\r\nA: " + b"x" * 37 + b"\r\n\r\n", None, id="line-at"),
        pytest.param(b"0\r\nA: " + b"x" * 38 + b"\r\n\r\n", 431, id="line-over"),
        pytest.param(b"0\r\nA: " + b"x" * 500, 431, id="endless-line"),
        pytest.param(b"0\r\n" + b"A: b\r\n" * 100, 431, id="endless-lines"),
        pytest.param(b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 100, 431, id="endless-lines-after-data"),
    ],
)
def test_the_other_limits_of_the_trailers(data: bytes, code: int | None) -> None:
    for pieces in segmentations(data):
        got = read_chunked(pieces, TIGHT)
        assert (got.code, got.done) == (code, code is None)


def test_most() -> None:
    """Never more than asked for, never an empty answer while something can be given, and what is left stays in the buffer."""
    data = b"a\r\n0123456789\r\n3\r\nabc\r\n0\r\n\r\n"
    for most in range(1, 16):
        reader = ChunkedReader(DEFAULT)
        buf = bytearray(data + PIPELINED)
        taken = []
        while not reader.done:
            piece = reader.read(buf, most)
            assert len(piece) <= most
            assert piece or reader.done
            taken.append(piece)
        assert b"".join(taken) == b"0123456789abc"
        assert all(len(piece) == most for piece in taken[:-2])
        assert buf == PIPELINED
        assert reader.read(buf, most) == b""
        assert buf == PIPELINED
    reader = ChunkedReader(DEFAULT)
    buf = bytearray(data)
    assert reader.read(buf, 0) == b""
    assert buf == data
    assert reader.read(buf, 4) == b"0123"
    assert buf == data[7:]


def test_more_is_about_the_last_call_only() -> None:
    """``more`` says that a call has stopped at its number of chunks, and not that one before it has."""
    reader, buf = ChunkedReader(DEFAULT), bytearray(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
    assert not reader.more
    assert reader.read(buf, 100, 2) == b"ab"
    assert reader.more
    assert reader.read(buf, 100) == b"c"
    assert not reader.more
    assert reader.done


def test_a_fault_behind_good_data_comes_after_it() -> None:
    """The data before the fault is lost with it, but no byte behind the fault is taken for data."""
    reader = ChunkedReader(DEFAULT)
    buf = bytearray(H + b"zz\r\n")
    with pytest.raises(ProtocolError):
        reader.read(buf, 100)
    assert buf == b"zz\r\n"
    assert not reader.done
    reader = ChunkedReader(DEFAULT)
    buf = bytearray(H + b"zz\r\n")
    assert reader.read(buf, 5) == b"hello"
    with pytest.raises(ProtocolError):
        reader.read(buf, 5)


def test_tiny_chunks_take_few_steps() -> None:
    """aiohttp CVE-2025-69229: 100 KiB in chunks of one byte take one call a segment, and one look a byte."""
    size = 100 * 1024
    data = b"1\r\nx\r\n" * size + b"0\r\n\r\n"
    got = read_chunked([data])
    assert (got.body, got.done) == (b"x" * size, True)
    assert got.calls == 1
    pieces = [data[i : i + 1000] for i in range(0, len(data), 1000)]
    got = read_chunked(pieces)
    assert (got.body, got.done) == (b"x" * size, True)
    assert got.calls <= 2 * len(pieces)
    got = read_chunked(bytewise(data))
    assert (got.body, got.done) == (b"x" * size, True)
    assert got.calls <= len(data) + size + 1
    # And no byte is searched twice: the same for a tenth and for all of it.
    for part in (size // 10, size):
        body = data[: 6 * part] + b"0\r\n\r\n"
        for step in (len(body), 1000):
            buf = CountingBuffer()
            reader = ChunkedReader(DEFAULT)
            for i in range(0, len(body), step):
                buf += body[i : i + step]
                reader.read(buf, size + 1)
            assert reader.done
            assert buf.looked < 2 * len(body)


@pytest.mark.parametrize("tail", [b"A: b\r\n" * 10_000, b"A: " + b"x" * 60_000], ids=["lines", "line"])
def test_dribbled_trailers_are_searched_once(tail: bytes) -> None:
    buf = CountingBuffer()
    reader = ChunkedReader(DEFAULT)
    for byte in bytewise(b"0\r\n" + tail):
        buf += byte
        reader.read(buf, 10)
    assert not reader.done
    assert buf.looked < 10 * len(tail)


def test_a_big_chunk_is_not_waited_for() -> None:
    """A chunk is given as it arrives, however long it says it is."""
    reader = ChunkedReader(DEFAULT)
    buf = bytearray(b"7fffffffffffffff\r\nabc")
    assert reader.read(buf, 2**20) == b"abc"
    assert not buf
    buf += b"de"
    assert reader.read(buf, 1) == b"d"
    assert reader.read(buf, 1) == b"e"
    assert reader.read(buf, 1) == b""
