"""permessage-deflate's data: ``Inflater`` and ``Deflater``, messages one after another on one connection.

What must hold: only ProtocolError with 1007; the segmentation changes nothing, nor does inflating in pieces; no more comes out
than was asked for; what zlib alone makes of the same blocks is what comes out; what is deflated is inflated again.
"""

from __future__ import annotations

import zlib

from silly._wire.deflate import Deflate, Deflater, Inflater
from silly._wire.error import ProtocolError

from .source import Source, allowed, cut

CODES = frozenset((1007,))
TAIL = b"\0\0\xff\xff"
MOSTS = [2**20, 0, 1, 50, 1000, 70_000]


Verdict = tuple[list[bytes], int | None]
"""The messages up to the first that is damaged (1007) or too long (1009), and which of them it is."""


def reference(messages: list[bytes], forgets: bool) -> Verdict:
    """What zlib alone makes of the messages, without a limit."""
    stream = zlib.decompressobj(-15)
    out: list[bytes] = []
    try:
        for message in messages:
            got = b""
            rest = message
            while rest:
                got += stream.decompress(rest)
                rest = stream.unused_data
                if stream.eof:
                    stream = zlib.decompressobj(-15)
            more = stream.decompress(TAIL)
            if stream.eof:
                within = bool(more or stream.unused_data)
                stream = zlib.decompressobj(-15)
            else:
                # Between blocks, and only there, an empty final block ends the stream.
                probe = stream.copy()
                probe.decompress(b"\x03\x00")
                within = bool(more) or not probe.eof
            if within:
                return out, 1007
            out.append(got)
            if forgets:
                stream = zlib.decompressobj(-15)
    except zlib.error:
        return out, 1007
    return out, None


def inflated(inflater: Inflater, messages: list[bytes], sizes: list[int], most: int) -> Verdict:
    """The messages, as a reader inflates them."""
    out = []
    for message in messages:
        got = b""
        try:
            for piece in cut(message, sizes):
                got += inflater.inflate(piece, most - len(got))
                while inflater.more and len(got) <= most:
                    got += inflater.inflate(b"", most - len(got))
                assert len(got) <= most + 1
                if len(got) > most:
                    return out, 1009
            inflater.finish()
        except ProtocolError as exc:
            return out, allowed(exc, CODES)
        out.append(got)
    return out, None


def same(one: Verdict, other: Verdict) -> bool:
    """The same messages and verdict. A message that is too long, with damage right behind, may be reported as either:
    zlib reads on until it has output."""
    return one == other or (one[0] == other[0] and {one[1], other[1]} == {1007, 1009})


def in_slices(inflater: Inflater, messages: list[bytes], sizes: list[int]) -> Verdict:
    out = []
    for message in messages:
        got = b""
        try:
            for piece in cut(message, sizes):
                for at in range(0, len(piece), 1024):
                    got += inflater.inflate(piece[at : at + 1024], 2**40)
                    while inflater.more:
                        got += inflater.inflate(b"", 2**40)
            inflater.finish()
        except ProtocolError as exc:
            return out, allowed(exc, CODES)
        out.append(got)
    return out, None


def build(source: Source) -> list[bytes]:
    """Messages: as they stand, or compressed, with any kind of flush between their parts."""
    messages = []
    while source.left and len(messages) < 8:
        how = source.byte()
        payload = source.take(source.byte())
        if how & 0x01:
            # A little more than a piece of 64 KiB too: what is left of a match in zlib then, or of the input.
            longest = 2**16 + 4 * source.byte()
            payload = (payload * (1, 9, 300, 70_000)[source.byte() % 4])[:longest]
            stream = zlib.compressobj(how >> 4 & 7, wbits=-(9 + how % 7))
            kind = (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH, zlib.Z_PARTIAL_FLUSH)[how >> 1 & 3]
            payload = (stream.compress(payload) + stream.flush(kind)).removesuffix(TAIL)
            if how & 0x08:
                payload += source.take(source.byte() % 8)
        messages.append(payload)
    return messages


def run(data: bytes) -> None:
    source = Source(data)
    flags = source.byte()
    forgets = bool(flags & 1)
    bits = 8 + source.byte() % 8
    most = source.choose(MOSTS)
    sizes = source.sizes()
    if flags & 2:
        round_trip(source, forgets, bits, sizes)
        return
    messages = build(source)
    whole = inflated(Inflater(forgets, 15), messages, [2**20], most)
    for way in (sizes, [1]):
        assert same(inflated(Inflater(forgets, 15), messages, way, most), whole), "the segmentation changes nothing"
    if most == MOSTS[0]:
        assert in_slices(Inflater(forgets, 15), messages, sizes) == whole
        assert in_slices(Inflater(forgets, 15), messages, [2**20]) == whole
    # zlib sees what lies beyond the agreed window only as long as it is still in its output.
    got, code = inflated(Inflater(forgets, bits), messages, sizes, most)
    assert same((got, code), whole) or (code == 1007 and got == whole[0][: len(got)])
    expected = reference(messages, forgets)
    if whole[1] == 1009:
        assert whole[0] == expected[0][: len(whole[0])]
    else:
        assert same(whole, expected)


def round_trip(source: Source, forgets: bool, bits: int, sizes: list[int]) -> None:
    options = Deflate(level=source.byte() % 10, memory_level=1 + source.byte() % 9)
    deflater = Deflater(forgets, bits, options)
    inflater = Inflater(forgets, bits)
    payloads = []
    messages = []
    while source.left and len(payloads) < 8:
        payload = (source.take(source.byte()) * (1, 9, 300)[source.byte() % 3])[:10_000]
        parts = cut(payload, sizes)
        if source.byte() & 1 or not parts:
            messages.append(deflater.piece(payload, True))
        else:
            last = len(parts) - 1
            messages.append(b"".join(deflater.piece(part, index == last) for index, part in enumerate(parts)))
        payloads.append(payload)
    assert all(messages), "a compressed message is never empty"
    assert inflated(inflater, messages, sizes, 2**20) == (payloads, None)
    assert reference(messages, forgets) == (payloads, None)


HELLO = bytes.fromhex("f248cdc9c90700")
BLOCKS = [HELLO, bytes.fromhex("000500faff48656c6c6f00"), bytes.fromhex("f348cdc9c9070000"), b"\0", b"\x02\0", b"\x03\0\0"]
BLOCKS += [bytes.fromhex("f2480500 0000ffff cac9c90700"), bytes.fromhex("f200110000"), b"\x4b\x04\x00", b"\x4b\x04\x12\x00"]


def seed(flags: int, bits: int, most: int, records: list[bytes]) -> bytes:
    return bytes((flags, bits, most, 2, 3, 1)) + b"".join(records)


SEEDS = [
    seed(flags, 7, 0, [bytes((0, len(block))) + block for block in BLOCKS[at : at + 3]]) for flags in (0, 1) for at in range(8)
]
SEEDS += [
    seed(flags, 4, most, [bytes((how, 9)) + b"some text\0\2"])
    for flags in (0, 1)
    for most in (0, 3)
    for how in (1, 3, 5, 7, 57)
]
SEEDS += [seed(flags, bits, 0, [b"\6\4", b"\5Hello\1\1", b"\5Hello\0\0", b"\0\0\0"]) for flags in (2, 3) for bits in (0, 1, 7)]
SEEDS += [seed(0, 7, 0, [bytes((97, 1, 0, extra, 3))]) for extra in (0, 1, 20, 60, 64)]
TOKENS = [
    *BLOCKS,
    TAIL,
    b"\1\5Hello\3\2",
    b"\1\1x\x10\3",
    b"\0\3\3\0\0",
    b"\1\0\0\xff\xff",
    b"\4",
    b"\5",
    b"\x63\0",
    b"\xed\xc1",
    b"\x78\x9c",
]
