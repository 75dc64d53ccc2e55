"""Content codings: gzip and deflate, whole and in every segmentation, bounded, and strict about their end."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable

import pytest

from silly._wire import content
from silly._wire.content import ContentDecoder, known
from silly._wire.error import ProtocolError

from .support import bytewise, halves, segmentations

TEXT = b"Hello, hello, hello. " * 5
NOISE = bytes((i * i * 7 + i * 13) >> 3 & 255 for i in range(3000))


def compressed(data: bytes, bits: int, level: int = 6) -> bytes:
    stream = zlib.compressobj(level, wbits=bits)
    return stream.compress(data) + stream.flush()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def bare(data: bytes) -> bytes:
    return compressed(data, -15)


def decoded(coding: str, pieces: Iterable[bytes], most: int = 2**20) -> bytes:
    decoder = ContentDecoder(coding)
    out = b""
    for piece in pieces:
        while True:
            got = decoder.decode(piece, most)
            assert len(got) <= most
            out += got
            piece = b""
            if not decoder.waiting:
                break
    decoder.finish()
    return out


def refused(coding: str, pieces: Iterable[bytes]) -> str:
    with pytest.raises(ProtocolError) as caught:
        decoded(coding, pieces)
    assert caught.value.code == 502
    return caught.value.text


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "GZip", " deflate\t", "X-GZIP"])
def test_known(coding: str) -> None:
    assert known(coding)


@pytest.mark.parametrize("coding", [None, "", "identity", "br", "gzip, deflate", "gzip,", "gzip, gzip", "compress", "gzip;q=1"])
def test_not_known(coding: str | None) -> None:
    assert not known(coding)


def test_accepted_codings_are_known() -> None:
    assert all(known(coding) for coding in content.CODINGS.split(", "))


@pytest.mark.parametrize("most", [1, 7, 2**20])
@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzipped),
        ("x-gzip", gzipped),
        ("deflate", zlib.compress),
        ("Deflate", lambda data: zlib.compress(data, 0)),
        ("deflate", bare),
        ("deflate", lambda data: compressed(data, -15, 0)),
        ("gzip", lambda data: gzipped(data[:10]) + gzipped(data[10:])),
        ("gzip", lambda data: gzipped(b"") + gzipped(data) + gzipped(b"") * 3),
    ],
)
def test_decoded(coding: str, encode: Callable[[bytes], bytes], most: int) -> None:
    data = encode(TEXT)
    for pieces in segmentations(data):
        assert decoded(coding, pieces, most) == TEXT


@pytest.mark.parametrize("most", [1, 100, 3000, 5000])
@pytest.mark.parametrize(("coding", "encode"), [("gzip", gzipped), ("deflate", zlib.compress), ("deflate", bare)])
def test_noise(coding: str, encode: Callable[[bytes], bytes], most: int) -> None:
    assert decoded(coding, [encode(NOISE)], most) == NOISE
    assert decoded(coding, bytewise(encode(NOISE)), most) == NOISE


@pytest.mark.parametrize(
    ("coding", "data"), [("gzip", gzipped(b"")), ("deflate", zlib.compress(b"")), ("deflate", bare(b"")), ("gzip", b"")]
)
def test_empty(coding: str, data: bytes) -> None:
    for pieces in segmentations(data):
        assert decoded(coding, pieces) == b""


def test_nothing_at_all() -> None:
    for coding in ("gzip", "deflate"):
        ContentDecoder(coding).finish()


@pytest.mark.parametrize(("coding", "encode"), [("gzip", gzipped), ("deflate", zlib.compress), ("deflate", bare)])
def test_cut_short(coding: str, encode: Callable[[bytes], bytes]) -> None:
    data = encode(TEXT)
    for size in range(1, len(data)):
        assert refused(coding, [data[:size]]) == "the content ends before its coding does"
        assert refused(coding, bytewise(data[:size])) == "the content ends before its coding does"


def test_second_member_cut_short() -> None:
    data = gzipped(TEXT)
    for size in range(1, len(data)):
        refused("gzip", [data + data[:size]])


@pytest.mark.parametrize("behind", [b"\0", b"garbage", b"\0" * 100, b"\x1f", b"\x1f\x8b"])
@pytest.mark.parametrize(("coding", "encode"), [("gzip", gzipped), ("deflate", zlib.compress), ("deflate", bare)])
def test_data_behind_the_end(coding: str, encode: Callable[[bytes], bytes], behind: bytes) -> None:
    data = encode(b"x") + behind
    for pieces in segmentations(data):
        refused(coding, pieces)


def test_deflate_has_no_members() -> None:
    for encode in (zlib.compress, bare):
        assert "behind the end" in refused("deflate", [encode(b"x") * 2])


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", b"<html>"),
        ("gzip", zlib.compress(TEXT)),
        ("gzip", bare(TEXT)),
        ("gzip", gzipped(TEXT)[:-8] + b"\0" * 8),
        ("gzip", gzipped(TEXT)[:-4] + b"\0" * 4),
        ("gzip", b"\x1f\x8b\x07" + bytes(20)),
        ("deflate", b"<html>"),
        ("deflate", gzipped(TEXT)),
        ("deflate", zlib.compress(TEXT)[:-1] + b"\0"),
        ("deflate", b"\xff\xff\xff"),
        # A preset dictionary, which the decoder doesn't have.
        ("deflate", b"\x78\xbb\0\0\0\0" + bytes(10)),
    ],
)
def test_an_unknown_coding(coding: str, data: bytes) -> None:
    for pieces in segmentations(data):
        text = refused(coding, pieces)
        assert text.startswith(("bad content coding", "the content ends", "data behind"))
        assert len(text) < 200


def test_a_bomb_is_given_as_asked() -> None:
    bomb = gzipped(bytes(10_000_000))
    assert len(bomb) < 10_000
    decoder = ContentDecoder("gzip")
    assert decoder.decode(bomb, 1000) == bytes(1000)
    assert decoder.waiting
    assert decoder.decode(b"", 1) == b"\0"
    size = 1001
    while decoder.waiting:
        size += len(decoder.decode(b"", 100_000))
    assert size == 10_000_000
    decoder.finish()


def test_a_full_piece_may_be_the_last() -> None:
    decoder = ContentDecoder("gzip")
    assert decoder.decode(gzipped(b"abc"), 3) == b"abc"
    while decoder.waiting:
        assert decoder.decode(b"", 3) == b""
    decoder.finish()


def test_two_bytes_tell_the_formats_apart() -> None:
    for encode in (zlib.compress, bare):
        for pieces in halves(encode(b"ab")):
            assert decoded("deflate", pieces) == b"ab"


@pytest.mark.parametrize(
    ("coding", "start", "again"),
    [
        ("gzip", b"", gzipped(b"")),
        ("gzip", gzipped(b"x" * 100), gzipped(b"")),
        ("deflate", b"\x78\x9c", b"\0\0\0\xff\xff"),
        ("deflate", b"", b"\0\0\0\xff\xff"),
    ],
)
def test_endless_coding_of_nothing(coding: str, start: bytes, again: bytes) -> None:
    """No limit of the content would end it."""
    flood = again * (100_000 // len(again))
    assert "far longer" in refused(coding, [start, flood, flood])
    assert "far longer" in refused(coding, [start, *[again] * 40_000])


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_messages_flushed_one_by_one(coding: str) -> None:
    """As servers of events do: their coding is longer than they are, by far less than what is refused."""
    stream = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
    pieces = [stream.compress(b".") + stream.flush(zlib.Z_FULL_FLUSH) for _ in range(30_000)]
    assert decoded(coding, [*pieces, stream.flush()]) == b"." * 30_000


def test_a_member_for_each_byte() -> None:
    assert decoded("gzip", [gzipped(b"x") * 3000] * 3) == b"x" * 9000


def test_waiting_data_is_not_overhead() -> None:
    """A reader that takes little may be given much."""
    noise = NOISE * 50
    assert decoded("gzip", [compressed(noise, 31, 0)], 10) == noise
