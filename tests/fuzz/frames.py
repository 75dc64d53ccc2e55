"""Frames and messages: ``MessageReader`` in both roles, with and without compression, whole, in pieces and unread.

What must hold: only ProtocolError with a close code for it; the segmentation changes nothing; no more is asked for or kept
than the limits allow; what ``complete`` lets be taken unread changes nothing; pieces make what is read whole;
``take_messages`` before ``next`` changes nothing; and all that for both implementations of the wire functions, which agree.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

from silly._wire import accelerated
from silly._wire.deflate import Inflater
from silly._wire.error import ProtocolError
from silly._wire.limits import Limits
from silly._wire.ws import (
    BINARY,
    BINARY_END,
    CLOSE,
    CONTINUATION,
    DROP,
    FIN,
    PIECES,
    PING,
    PONG,
    RSV1,
    TEXT,
    TEXT_END,
    WHOLE,
    MessageReader,
)

from ..implementations import AVAILABLE, using
from ..wire.support import encode
from .source import Source, allowed, cut

CODES = frozenset((1002, 1007, 1008, 1009))
MESSAGES = [2**20, 50, 1, 125, 126, 1000, 70_000]
LONGEST = 2**21
FRAGMENTS = [0, 1, 2, 5]
FIRSTS = [FIN | TEXT, FIN | BINARY, TEXT, BINARY, CONTINUATION, FIN, FIN | PING, FIN | PONG, FIN | CLOSE]
FIRSTS += [first | RSV1 for first in (FIN | TEXT, FIN | BINARY, TEXT, BINARY)]
KEYS = [bytes(4), b"\x37\xfa\x21\x3d", b"\xff\0\0\0", b"abcd"]
UNREAD, READ_ONE, READ_ALL = range(3)
EARLY = 64
"""In a choice: to take what may be taken before anybody reads."""
LATE = 192
"""Choices from here on: to read in pieces only when some of the message has come."""
DROPPED = (CONTINUATION, "dropped")


class Case(NamedTuple):
    server: bool
    inflater: Callable[[], Inflater | None]
    limits: Limits
    data: bytes

    def reader(self, limits: Limits | None = None) -> MessageReader:
        return MessageReader(self.server, limits or self.limits, self.inflater())


class Read(NamedTuple):
    messages: list[tuple[int, Any]]
    code: int | None

    def like(self, other: Read) -> bool:
        """The same messages and verdict. A message that is too long, with damage right behind, may be reported as either: zlib
        reads on until it has something to put out."""
        return self == other or (self.messages == other.messages and {self.code, other.code} == {1007, 1009})

    @property
    def data(self) -> list[tuple[int, Any]]:
        return [message for message in self.messages if message[0] <= BINARY]


def build(source: Source, server: bool) -> bytes:
    """A stream of frames whose lengths and masks are right, unless a choice makes them wrong."""
    compressor = zlib.compressobj(wbits=-15)
    out = b""
    while source.left and len(out) < 2**17:
        how = source.byte()
        first = source.choose(FIRSTS) if how & 0x01 else source.byte()
        payload = source.take(source.byte())
        if how & 0x02:
            payload *= (1, 3, 40, 600)[source.byte() % 4]
        if how & 0x04:
            payload = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
            if first & FIN:
                payload = payload[:-4]
        form = {0x08: 2, 0x10: 8}.get(how & 0x18) if len(payload) < 65536 else None
        masked = server is not (how & 0xE0 == 0xE0)
        out += encode(first, payload, masked, form, KEYS[(how >> 5) % 4])
    return out


def gathered(case: Case, pieces: list[bytes], limits: Limits | None = None) -> Read:
    """All that ``next`` yields; what it asks for and keeps is held against the limits on the way."""
    reader = case.reader(limits)
    limits = limits or case.limits
    buf = bytearray()
    messages: list[tuple[int, Any]] = []
    partials: list[tuple[int, Any]] = []
    whole = 0
    for piece in pieces:
        buf += piece
        try:
            while not isinstance(got := reader.next(buf), int):
                assert got[0] in (TEXT, BINARY, CLOSE, PING, PONG)
                assert len(got[1]) <= (limits.message if got[0] <= BINARY else 125)
                whole += got[0] <= BINARY
                messages.append(got)
        except ProtocolError as exc:
            reader.partial(buf)
            return Read(messages, allowed(exc, CODES))
        assert len(buf) < got <= max(limits.message, 125) + 14, "what it asks for grows, within the limit"
        if held := reader.partial(buf):
            assert len(held) <= limits.message
            partials.append((whole, held))
    data = Read(messages, None).data
    for index, held in partials:
        assert index >= len(data) or data[index][1].startswith(held), "the reported part of a message is its beginning"
    return Read(messages, None)


def batched(case: Case, pieces: list[bytes], whole: Read) -> tuple[list[tuple[int, Any]], bytes]:
    """What ``take_messages`` takes wherever it may, as the socket asks it, and ``next`` where it takes nothing; and what is
    left in the buffer."""
    reader = case.reader()
    buf = bytearray()
    messages: list[tuple[int, Any]] = []
    code = None
    try:
        for piece in pieces:
            buf += piece
            while True:
                before = bytes(buf)
                rest: list[tuple[str | bytes, str]] = []
                taken = accelerated.take_messages(buf, rest, case.server, reader.fast_limit)
                if taken is not None:
                    messages += [(TEXT if typ == "text" else BINARY, data) for data, typ in (taken, *reversed(rest))]
                    continue
                assert (buf, rest) == (before, []), "where it takes nothing, it changes nothing"
                got = reader.next(buf)
                if isinstance(got, int):
                    break
                messages.append(got)
    except ProtocolError as exc:
        code = allowed(exc, CODES)
    assert Read(messages, code).like(whole), "taking messages together changes nothing"
    return messages, bytes(buf)


def written(messages: list[tuple[int, Any]], masked: bool) -> list[bytes | None]:
    """The frames of these messages, which must be right."""
    frames = []
    for index, (opcode, data) in enumerate(messages):
        key = KEYS[index % len(KEYS)] if masked else None
        frames.append(accelerated.message_frame(data, "text" if opcode == TEXT else "binary", key))
        payload = data.encode() if isinstance(data, str) else data
        if len(payload) < 300:  # the reference takes its time
            assert frames[-1] == encode(FIN | opcode, payload, masked, key=key or b"")
    return frames


def take_unread(reader: MessageReader, buf: bytearray, messages: list[tuple[int, Any]]) -> None:
    """Takes what may be taken while no task reads, as the socket does: frame by frame."""
    while (size := reader.complete(buf)) >= 0:
        frame = buf[:size]
        del buf[:size]
        got = reader.next(frame)
        assert not frame, "it is one frame, and whole"
        if not isinstance(got, int):
            messages.append(got)


def unread(case: Case, pieces: list[bytes], plan: list[int], whole: Read) -> None:
    """Now and then somebody reads, and else what may be taken is taken."""
    reader = case.reader()
    buf = bytearray()
    messages: list[tuple[int, Any]] = []
    code = None
    try:
        for piece, choice in zip([*pieces, b""], cycle(plan)):
            buf += piece
            step = choice % 3 if piece else READ_ALL
            if step == UNREAD:
                take_unread(reader, buf, messages)
                continue
            while not isinstance(got := reader.next(buf), int):
                messages.append(got)
                if step == READ_ONE:
                    break
    except ProtocolError as exc:
        code = allowed(exc, CODES)
    assert Read(messages, code).like(whole), "taking it while no task reads changes nothing"


def streamed(case: Case, pieces: list[bytes], plan: list[int]) -> None:
    """Messages read whole, in pieces, and dropped in the middle, in turn."""
    most = case.limits.message
    whole = gathered(case, [case.data], Limits(message=LONGEST, fragments=2**40))
    reader = case.reader(Limits(message=most, fragments=2**40))
    buf = bytearray()
    messages: list[tuple[int, Any]] = []
    parts: list[Any] = []
    code = None
    try:
        for piece in pieces:
            buf += piece
            if plan[len(messages) % len(plan)] & EARLY:
                taken: list[tuple[int, Any]] = []
                try:
                    take_unread(reader, buf, taken)
                finally:
                    messages += [message for message in taken if message[0] in (TEXT, BINARY)]
            while True:
                choice = plan[len(messages) % len(plan)]
                mode = choice % 3
                idle = reader.mode == DROP or not reader.opcode
                if mode == PIECES and choice >= LATE and reader.payload is None and idle:
                    reader.read_whole()
                elif mode != WHOLE:
                    reader.read_pieces(LONGEST if mode == DROP else most)
                    if reader.mode == PIECES and reader.held:
                        parts.append(reader.take_piece())
                elif idle:
                    reader.read_whole()
                got = reader.next(buf)
                if isinstance(got, int):
                    break
                opcode, data = got
                if opcode in (TEXT_END, BINARY_END):
                    parts.append(data)
                    messages.append((TEXT if opcode == TEXT_END else BINARY, type(data)().join(parts)))
                    parts.clear()
                elif opcode in (TEXT, BINARY):
                    messages.append(got)
                elif opcode == CONTINUATION and reader.opcode and reader.mode != DROP:
                    parts.append(reader.take_piece())
                    if mode == DROP:
                        reader.read_whole()
                        messages.append(DROPPED)
                        parts.clear()
    except ProtocolError as exc:
        code = allowed(exc, CODES)
    expected, codes = whole.data, {whole.code, 1009}
    for index, (_, message) in enumerate(expected):
        size = len(message.encode() if isinstance(message, str) else message)
        if size > (LONGEST if plan[index % len(plan)] % 3 == DROP else most):
            expected, codes = expected[:index], {1009}
            break
    for message, due in zip(messages, expected, strict=False):
        assert message in (due, DROPPED)
    if whole.code == 1009:
        return  # a compressed frame of such a length is refused at its header; in pieces, it is inflated first
    assert len(messages) - (messages[-1:] == [DROPPED]) <= len(expected) <= len(messages)
    assert code in codes
    if code != whole.code:
        assert plan[len(expected) % len(plan)] % 3 != DROP, "what is dropped has no limit"


def run(data: bytes) -> None:
    source = Source(data)
    flags = source.byte()
    server, forgets = bool(flags & 1), bool(flags & 4)
    limits = Limits(message=source.choose(MESSAGES), fragments=source.choose(FRAGMENTS))
    sizes = source.sizes()
    plan = source.sizes()
    stream = build(source, server) if flags & 8 else source.rest()
    case = Case(server, lambda: Inflater(forgets, 15) if flags & 2 else None, limits, stream)
    ways = [cut(stream, sizes)]
    if len(stream) < 256:
        ways.append(cut(stream, [1]))
    read = []
    for functions in AVAILABLE:
        with using(functions):
            read.append(check(case, ways, plan))
    assert all(other == read[0] for other in read), "the implementations agree"


def check(case: Case, ways: list[list[bytes]], plan: list[int]) -> list[object]:
    """Holds one implementation to all of it; what it has read."""
    whole = gathered(case, [case.data])
    read: list[object] = [whole, written(whole.data, not case.server)]
    for pieces in ways:
        assert gathered(case, pieces).like(whole), "the segmentation changes nothing"
        read.append(batched(case, pieces, whole))
        unread(case, pieces, plan, whole)
        streamed(case, pieces, plan)
    return read


def seed(flags: int, frames: list[tuple[int, bytes]], plan: bytes = b"\1", how: int = 1, limits: bytes = b"\0\0") -> bytes:
    """An input whose stream is built: the frames' first bytes, by their index in FIRSTS, and payloads."""
    records = [bytes((how, FIRSTS.index(first), len(payload))) + payload for first, payload in frames]
    return bytes((flags | 8,)) + limits + b"\2\3\1" + bytes((len(plan),)) + plan + b"".join(records)


HELLO = bytes.fromhex("f248cdc9c90700")
_PLAIN = [(FIN | TEXT, "añ€😀".encode()), (FIN | PING, b"p"), (TEXT, b"a\xc3"), (FIN | PONG, b""), (FIN, b"\xb1")]
_PLAIN += [(FIN | BINARY, b"x" * 200), (BINARY, b""), (CONTINUATION, b"y"), (FIN, b"z"), (FIN | CLOSE, b"\x03\xe8bye")]
_DEFLATED = [(FIN | RSV1 | TEXT, HELLO), (RSV1 | BINARY, HELLO[:3]), (FIN | PING, b"p"), (FIN, HELLO[3:])]
_DEFLATED += [(FIN | RSV1 | TEXT, bytes.fromhex("f200110000")), (FIN | TEXT, b"plain"), (FIN | RSV1 | BINARY, b"\x03\x00\x00")]
_SQUEEZED = [(RSV1 | TEXT, b"word " * 20), (FIN, b"word " * 20), (FIN | RSV1 | BINARY, bytes(200)), (FIN | CLOSE, b"")]
SEEDS = [seed(server, _PLAIN, plan) for server in (0, 1) for plan in (b"\0\1\2", b"\1\2\3", b"\2\0")]
SEEDS += [seed(flags, _DEFLATED, plan) for flags in (2, 3, 6, 7) for plan in (b"\0\1\2", b"\2\1")]
SEEDS += [seed(flags, _SQUEEZED, b"\1\2", 5, limits) for flags in (2, 3, 6) for limits in (b"\0\0", b"\1\1", b"\4\2")]
SEEDS += [bytes((server, 0, 0, 0, 0)) + encode(FIN | TEXT, b"hi", server) for server in (False, True)]
SEEDS += [bytes((0, 0, 0, 1, 1, 0)) + head for head in (b"\x82\x7f\x80", b"\x82\x7f" + bytes(8), b"\x82\x7f" + b"\xff" * 8)]
# Large enough to be received where it stays; read in pieces from the start, from its middle, or not at all.
_LARGE = bytes((0x23, FIRSTS.index(FIN | BINARY), 255)) + bytes(range(255)) + b"\3"
_SMALL = bytes((0x21, FIRSTS.index(FIN | TEXT), 1)) + b"x"
SEEDS += [
    bytes((8 | server, 0, 0, 2, 255, 254, 2, first, second)) + _SMALL + _LARGE + _SMALL + _LARGE
    for server in (0, 1)
    for first, second in ((WHOLE, LATE + PIECES), (PIECES, WHOLE), (LATE + PIECES, DROP), (DROP, LATE + PIECES))
]
# Dropped: what is left of it has no limit, not even that of the next, which is read in pieces.
_DROPPED = [(BINARY, b"x" * 10), (FIN, b"x" * 200), (FIN | BINARY, b"z")]
SEEDS += [seed(server, _DROPPED, b"\2\1", 1, b"\1\0") for server in (0, 1)]
SEEDS += [seed(0, [(FIN | CLOSE, code.to_bytes(2, "big") + b"\xc3\xa9")]) for code in (1000, 1004, 1014, 2999, 4999)]

TOKENS = [bytes((1, index)) for index in range(len(FIRSTS))] + [bytes((first,)) for first in FIRSTS]
TOKENS += [b"\x7e\x00\x7e", b"\x7f" + bytes(5) + b"\1\0\0", b"\xfe\x00\x7d", b"\x7f\x80", b"\x03\xe8", b"\x0b\xb8", HELLO]
TOKENS += [b"\xc3", b"\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xe2\x82\xac", b"\0\0\xff\xff", b"\x03\x00", b"\x00"]
