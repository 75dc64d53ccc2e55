"""Content codings, decoded as they arrive and as much as is asked for.

What must hold: only ProtocolError; neither the segmentation nor what is asked for changes anything; never more than asked for;
what is taken is what zlib and gzip make of it, and what they make without a doubt is taken.
"""

from __future__ import annotations

import gzip
import zlib
from itertools import cycle

from silly._wire.content import ContentDecoder, known
from silly._wire.error import ProtocolError

from .source import Source, allowed, cut

CODINGS = ["gzip", "deflate", "x-gzip", "Deflate "]
TIMES = [1, 1, 5, 200]
AS_IT_IS, COMPRESSED, BARE, MEMBERS = range(4)
BITS = {COMPRESSED: 15, BARE: -15, MEMBERS: 31}


def compressed(data: bytes, bits: int, level: int = 6) -> bytes:
    stream = zlib.compressobj(level, wbits=bits)
    return stream.compress(data) + stream.flush()


def build(source: Source, coding: str) -> bytes:
    """Mostly what is right, since no mutation finds a checksum."""
    how = source.byte() % 4
    keep = source.byte()
    damage = source.byte()
    times = source.choose(TIMES)
    payload = source.rest()
    if how == AS_IT_IS:
        return payload * times
    bits = 31 if how == COMPRESSED and "gzip" in coding else BITS[how]
    data = compressed(payload * times, bits, damage % 10)
    if how == MEMBERS:
        data += compressed(payload[:100], 31) + compressed(b"", 31) * (times % 7)
    if keep & 1:
        at = damage * len(data) // 256
        data = data[:at] + (b"" if keep & 2 else bytes((keep,))) + data[at + (keep >> 2 & 1) :]
    return data[: len(data) * (keep >> 3) // 31] if keep & 2 else data


def decoded(coding: str, pieces: list[bytes], most: list[int]) -> tuple[bytes, int | None]:
    decoder = ContentDecoder(coding)
    sizes = cycle([max(1, size) for size in most])
    out = bytearray()
    try:
        for piece in pieces:
            while True:
                size = next(sizes)
                got = decoder.decode(piece, size)
                assert len(got) <= size, "no more than asked for"
                assert got or piece or not decoder.waiting, "it says that it has more only where that gets on"
                out += got
                piece = b""
                if not decoder.waiting:
                    break
        decoder.finish()
    except ProtocolError as exc:
        return bytes(out), allowed(exc, frozenset((502,)))
    return bytes(out), None


def oracle(coding: str, data: bytes) -> bytes | None:
    """The content, by zlib alone; None when it is none, is cut short, or has more behind it."""
    bits = 31
    if coding not in ("gzip", "x-gzip"):
        zlib_header = len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        bits = 15 if zlib_header else -15
    out = b""
    while data:
        stream = zlib.decompressobj(bits)
        try:
            out += stream.decompress(data)
        except zlib.error:
            return None
        if not stream.eof or (stream.unused_data and bits != 31):
            return None
        data = stream.unused_data
    return out


def run(data: bytes) -> None:
    source = Source(data)
    coding = source.choose(CODINGS)
    sizes, most = source.sizes(), source.sizes()
    stream = build(source, coding)
    assert known(coding)
    whole, code = decoded(coding, [stream], [2**30])
    due = oracle(coding, stream)
    assert (code is None) is (due is not None)
    for pieces, asked in (
        (cut(stream, sizes), [2**30]),
        ([stream], [size + 200 for size in most]),
        (cut(stream, sizes), [1000, 7000]),
    ):
        out, again = decoded(coding, pieces, asked)
        assert again == code, "neither the pieces nor what is asked for changes anything"
        assert out == whole if code is None else out.startswith(whole) or whole.startswith(out)
    if code is None and stream:
        assert whole == due
        if coding in ("gzip", "x-gzip"):
            assert gzip.decompress(stream) == whole


def seed(coding: int, how: int, keep: int = 0, damage: int = 6, times: int = 0, payload: bytes = b"Hello, hello") -> bytes:
    return bytes((coding,)) + b"\x02\x01\x09" + b"\x02\x03\x40" + bytes((how, keep, damage, times)) + payload


SEEDS = [seed(coding, how, times=times) for coding in range(4) for how in range(4) for times in (0, 3)]
SEEDS += [seed(coding, how, keep) for coding in (0, 1) for how in (1, 2, 3) for keep in (1, 3, 5, 7, 0xF2, 0x82, 0xFB)]
SEEDS += [
    seed(coding, 0, payload=compressed(b"x" * 50, bits) + more)
    for coding, bits in ((0, 31), (1, 15), (1, -15))
    for more in (b"", b"\0")
]
SEEDS += [seed(0, 1, damage=level, payload=bytes(range(256))) for level in (0, 1, 9)]
TOKENS = [compressed(b"", bits) for bits in (31, 15, -15)] + [compressed(b"Hello" * 9, bits) for bits in (31, 15, -15)]
TOKENS += [
    b"\x1f\x8b\x08",
    b"\x1f\x8b\x08\x1f",
    b"\x78\x9c",
    b"\x78\x01",
    b"\x03\0",
    b"\0\0\xff\xff",
    b"\x01\0\0\xff\xff",
    b"\0",
    b"\xff",
]
