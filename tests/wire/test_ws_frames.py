"""Frames and messages (RFC 6455, sections 5 to 8), read in both roles: whole, byte by byte, in two parts, with trailing bytes.

What must hold, from the RFC: lengths in their shortest form, most significant bit clear (5.2); reserved
bits zero without an extension (5.2); frames masked from the client and only from it (5.1); control frames whole and of at
most 125 bytes (5.5), answered between fragments (5.4); one message at a time (5.4); text is UTF-8 as RFC 3629 has it, told
at the byte that proves the contrary (8.1); a close frame is empty or has a code that may be sent and a UTF-8 reason (5.5.1,
7.4). Sizes are refused on the header alone.
"""

from __future__ import annotations

import itertools
import re
import tracemalloc
from dataclasses import dataclass
from typing import Any

import pytest

from silly._wire import accelerated, ws
from silly._wire.deflate import Deflate, Deflater, Inflater
from silly._wire.error import ProtocolError
from silly._wire.limits import DEFAULT, Limits
from silly._wire.ws import MessageReader

from .support import (
    BINARY,
    CLOSE,
    CONT,
    FIN,
    KEY,
    PING,
    PONG,
    TEXT,
    TRAILING,
    Read,
    bytewise,
    encode,
    encode_fast,
    head,
    naive_mask,
    read_frames,
    segmentations,
)

ROLES = [pytest.param(True, id="server"), pytest.param(False, id="client")]
"""The role of the reader: a server's input is masked."""


def wire(frames: list[tuple[int, bytes]], masked: bool) -> bytes:
    return b"".join(encode(first, payload, masked) for first, payload in frames)


def check_read(data: bytes, expected: list[tuple[int, Any]], server: bool, limits: Limits = DEFAULT) -> None:
    """``data`` gives the messages however it arrives, and takes not a byte more."""
    for pieces in segmentations(data):
        got = read_frames(pieces, server, limits)
        assert got[:2] == (expected, None)
        assert got.rest == b""
    for patient in (False, True):
        for pieces in ([data + TRAILING], bytewise(data + TRAILING)):
            got = read_frames(pieces, server, limits, most=len(expected), patient=patient)
            assert got.messages == expected
            assert got.rest == TRAILING
    for _, value in expected:
        assert type(value) in (str, bytes)


# ---- 5.2 lengths ------------------------------------------------------------------------------------------------------

SHORT_LENGTHS = [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 255, 256]
LONG_LENGTHS = [4095, 4096, 65534, 65535, 65536, 65537]


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("length", SHORT_LENGTHS + LONG_LENGTHS, ids=lambda n: f"rfc6455-5.2-length-{n}")
def test_lengths(length: int, opcode: int, server: bool) -> None:
    payload = bytes(0x20 + i % 90 for i in range(length))
    data = encode(FIN | opcode, payload, server)
    check_read(data, [(opcode, payload.decode() if opcode == TEXT else payload)], server)


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_one_mebibyte(opcode: int, server: bool) -> None:
    payload = b"0123456789abcdef" * 65536
    expected = [(opcode, payload.decode() if opcode == TEXT else payload)]
    data = encode_fast(FIN | opcode, payload, server) + TRAILING
    pieces = [data[i : i + 4099] for i in range(0, len(data), 4099)]
    for cut in ([data], pieces):
        got = read_frames(cut, server, most=1)
        assert got.messages == expected
        assert got.rest == TRAILING


@pytest.mark.parametrize("length", [0, 1, 124, 125])
@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("server", ROLES)
def test_control_lengths(server: bool, opcode: int, length: int) -> None:
    payload = bytes(range(length))
    check_read(encode(FIN | opcode, payload, server), [(opcode, payload)], server)


# ---- faults: which, with which code, and at which byte ----------------------------------------------------------------


@dataclass
class Frame:
    """A frame that may be ill-formed."""

    first: int
    payload: bytes = b""
    form: int | None = None
    declared: int | None = None
    """The length in the header when it isn't that of the payload."""
    wrong_mask: bool = False

    def parts(self, server: bool) -> tuple[bytes, bytes, bytes]:
        masked = server != self.wrong_mask
        length = len(self.payload) if self.declared is None else self.declared
        start = head(self.first, length, masked, self.form)
        return start, KEY if masked else b"", naive_mask(self.payload, KEY) if masked else self.payload


@dataclass
class Fault:
    """``frames`` are refused with ``code``; ``at`` says where in the last of them.

    "first" and "second": at that byte. "length": at the end of the header, before the masking key. "end": with the frame.
    A number: at that byte of the payload. "msb": at the first byte of the 64-bit length.
    """

    id: str
    frames: list[Frame]
    code: int
    at: str | int
    messages: list[tuple[int, Any]] | None = None
    """Messages that come out before it."""
    limits: Limits = DEFAULT

    def build(self, server: bool) -> tuple[bytes, int]:
        data = b""
        for frame in self.frames[:-1]:
            data += b"".join(frame.parts(server))
        start, key, payload = self.frames[-1].parts(server)
        if isinstance(self.at, int):
            where = len(start) + len(key) + self.at
        else:
            whole = len(start) + len(key) + len(payload)
            where = {"first": 1, "second": 2, "msb": 3, "length": len(start), "end": whole}[self.at]
        return data + start + key + payload, len(data) + where


FIRST, LAST = Frame(TEXT, b"ab"), Frame(FIN | CONT, b"cd")
SMALL = Limits(message=10)
THREE = Limits(fragments=3)
EMPTY = Frame(CONT)

FAULTS = [
    # 5.2: the shortest form
    Fault("5.2-16-bit-form-of-0", [Frame(FIN | BINARY, b"", 2)], 1002, "length"),
    Fault("5.2-16-bit-form-of-1", [Frame(FIN | BINARY, b"x", 2)], 1002, "length"),
    Fault("5.2-16-bit-form-of-125", [Frame(FIN | TEXT, b"x" * 125, 2)], 1002, "length"),
    Fault("5.2-64-bit-form-of-0", [Frame(FIN | TEXT, b"", 8)], 1002, "length"),
    Fault("5.2-64-bit-form-of-125", [Frame(FIN | BINARY, b"x" * 125, 8)], 1002, "length"),
    Fault("5.2-64-bit-form-of-126", [Frame(FIN | BINARY, b"x" * 126, 8)], 1002, "length"),
    Fault("5.2-64-bit-form-of-65535", [Frame(FIN | BINARY, b"x" * 65535, 8)], 1002, "length"),
    Fault("5.2-64-bit-form-of-65535-in-a-continuation", [FIRST, Frame(FIN | CONT, b"x" * 65535, 8)], 1002, "length"),
    # 5.2: huge lengths, refused on the header (undici CVE-2026-1528, gorilla CVE-2020-27813)
    Fault("5.2-length-limit+1", [Frame(FIN | BINARY, b"xx", declared=2**20 + 1)], 1009, "length"),
    Fault("5.2-length-2^31", [Frame(FIN | BINARY, b"xx", declared=2**31)], 1009, "length"),
    Fault("5.2-length-2^32", [Frame(FIN | BINARY, b"xx", declared=2**32)], 1009, "length"),
    Fault("5.2-length-2^32+3", [Frame(FIN | TEXT, b"xxx", declared=2**32 + 3)], 1009, "length"),
    Fault("5.2-length-2^53+1", [Frame(FIN | TEXT, b"xx", declared=2**53 + 1)], 1009, "length"),
    Fault("5.2-length-2^63-1", [Frame(FIN | TEXT, b"xx", declared=2**63 - 1)], 1009, "length"),
    Fault("5.2-length-2^63", [Frame(FIN | BINARY, b"xx", declared=2**63)], 1002, "msb"),
    Fault("5.2-length-2^64-1", [Frame(FIN | TEXT, b"xx", declared=2**64 - 1)], 1002, "msb"),
    Fault("5.2-length-2^63-1-in-a-continuation", [FIRST, Frame(FIN | CONT, declared=2**63 - 1)], 1009, "length"),
    Fault("5.2-length-2^63-in-a-continuation", [FIRST, Frame(CONT, declared=2**63)], 1002, "msb"),
    # 5.1: masking
    Fault("5.1-mask-text", [Frame(FIN | TEXT, b"x", wrong_mask=True)], 1002, "second"),
    Fault("5.1-mask-empty", [Frame(FIN | BINARY, wrong_mask=True)], 1002, "second"),
    Fault("5.1-mask-126", [Frame(FIN | BINARY, b"x" * 126, wrong_mask=True)], 1002, "second"),
    Fault("5.1-mask-64-KiB", [Frame(FIN | BINARY, b"x" * 65536, wrong_mask=True)], 1002, "second"),
    Fault("5.1-mask-ping", [Frame(FIN | PING, b"x", wrong_mask=True)], 1002, "second"),
    Fault("5.1-mask-close", [Frame(FIN | CLOSE, wrong_mask=True)], 1002, "second"),
    Fault("5.1-mask-continuation", [FIRST, Frame(FIN | CONT, b"x", wrong_mask=True)], 1002, "second"),
    # 5.5: control frames
    Fault("5.5-ping-126", [Frame(FIN | PING, b"x" * 126)], 1002, "second"),
    Fault("5.5-pong-126", [Frame(FIN | PONG, b"x" * 126)], 1002, "second"),
    Fault("5.5-close-126", [Frame(FIN | CLOSE, b"\x03\xe8" + b"x" * 124)], 1002, "second"),
    Fault("5.5-ping-65536", [Frame(FIN | PING, b"x" * 65536)], 1002, "second"),
    Fault("5.5-ping-1-in-16-bits", [Frame(FIN | PING, b"x", 2)], 1002, "second"),
    Fault("5.5-ping-126-within-a-message", [FIRST, Frame(FIN | PING, b"x" * 126)], 1002, "second"),
    Fault("5.5-fragmented-ping", [Frame(PING, b"x")], 1002, "first"),
    Fault("5.5-fragmented-pong", [Frame(PONG)], 1002, "first"),
    Fault("5.5-fragmented-close", [Frame(CLOSE, b"\x03\xe8")], 1002, "first"),
    Fault("5.5-fragmented-ping-within-a-message", [FIRST, Frame(PING)], 1002, "first"),
    # 5.4: one message at a time; the state is no emptiness
    Fault("5.4-orphan-continuation", [Frame(FIN | CONT, b"x")], 1002, "first"),
    Fault("5.4-orphan-continuation-not-final", [Frame(CONT)], 1002, "first"),
    Fault("5.4-orphan-after-a-message", [Frame(FIN | TEXT, b"a"), Frame(FIN | CONT)], 1002, "first", [(TEXT, "a")]),
    Fault("5.4-orphan-after-fragments", [FIRST, LAST, Frame(CONT, b"x")], 1002, "first", [(TEXT, "abcd")]),
    Fault(
        "5.4-orphan-after-empty-fragments",
        [Frame(TEXT), Frame(FIN | CONT), Frame(FIN | CONT)], 1002, "first", [(TEXT, "")],
    ),
    Fault("5.4-text-within-text", [FIRST, Frame(FIN | TEXT, b"x")], 1002, "first"),
    Fault("5.4-text-not-final-within-text", [FIRST, Frame(TEXT, b"x")], 1002, "first"),
    Fault("5.4-binary-within-text", [FIRST, Frame(FIN | BINARY, b"x")], 1002, "first"),
    Fault("5.4-text-within-binary", [Frame(BINARY, b"x"), Frame(FIN | TEXT, b"x")], 1002, "first"),
    Fault("5.4-text-within-an-empty-text", [Frame(TEXT), Frame(FIN | TEXT, b"x")], 1002, "first"),
    Fault("5.4-binary-within-an-empty-binary", [Frame(BINARY), Frame(FIN | BINARY, b"x")], 1002, "first"),
    Fault("5.4-text-within-empty-fragments", [Frame(TEXT), EMPTY, EMPTY, Frame(FIN | TEXT, b"x")], 1002, "first"),
    Fault("5.4-text-after-a-ping", [FIRST, Frame(FIN | PING), Frame(FIN | TEXT)], 1002, "first", [(PING, b"")]),
    # limits
    Fault("limit-message-text", [Frame(FIN | TEXT, b"x" * 11)], 1009, "length", limits=SMALL),
    Fault("limit-message-binary", [Frame(FIN | BINARY, b"x" * 11)], 1009, "length", limits=SMALL),
    Fault("limit-message-first-fragment", [Frame(BINARY, b"x" * 11)], 1009, "length", limits=SMALL),
    Fault("limit-message-sum", [Frame(TEXT, b"x" * 6), Frame(FIN | CONT, b"x" * 5)], 1009, "length", limits=SMALL),
    Fault("limit-message-sum-binary", [Frame(BINARY, b"x" * 10), EMPTY, Frame(CONT, b"x")], 1009, "length", limits=SMALL),
    Fault("limit-message-not-final", [Frame(TEXT, b"x" * 9), Frame(CONT, b"xx")], 1009, "length", limits=SMALL),
    Fault("limit-message-counts-octets", [Frame(FIN | TEXT, "é".encode() * 6)], 1009, "length", limits=SMALL),
    Fault(
        "limit-message-of-the-second",
        [Frame(FIN | TEXT, b"a"), Frame(FIN | TEXT, b"x" * 11)], 1009, "length", [(TEXT, "a")], SMALL,
    ),
    Fault("limit-fragments", [FIRST, Frame(CONT, b"x"), Frame(CONT, b"x"), LAST], 1008, "length", limits=THREE),
    Fault("limit-fragments-empty", [Frame(TEXT), EMPTY, EMPTY, EMPTY], 1008, "length", limits=THREE),
    Fault("limit-fragments-empty-binary", [Frame(BINARY), EMPTY, EMPTY, Frame(FIN | CONT)], 1008, "length", limits=THREE),
    Fault("limit-fragments-of-one", [FIRST, LAST], 1008, "length", limits=Limits(fragments=1)),
    # 8.1: UTF-8 in the frame, in the first fragment, across fragments, at the end
    Fault("8.1-first-byte", [Frame(FIN | TEXT, b"\xff" + b"x" * 50)], 1007, 1),
    Fault("8.1-in-the-middle", [Frame(FIN | TEXT, "κόσμε".encode() + b"\xed\xa0\x80edited")], 1007, 12),
    Fault("8.1-first-fragment", [Frame(TEXT, b"ok\xc0\xaf")], 1007, 3),
    Fault("8.1-second-fragment", [FIRST, Frame(CONT, b"ok\xc0\xaf")], 1007, 3),
    Fault("8.1-across-fragments", [Frame(TEXT, b"\xed"), Frame(CONT, b"\xa0\x80")], 1007, 1),
    Fault("8.1-across-an-empty-fragment", [Frame(TEXT, b"\xf4"), EMPTY, Frame(FIN | CONT, b"\x90\x80\x80")], 1007, 1),
    Fault("8.1-across-a-ping", [Frame(TEXT, b"\xc3"), Frame(FIN | PING, b"\xa9"), LAST], 1007, 1, [(PING, b"\xa9")]),
    Fault("8.1-incomplete-in-one-frame", [Frame(FIN | TEXT, b"abc\xe2\x82")], 1007, "end"),
    Fault("8.1-incomplete-at-fin", [FIRST, Frame(FIN | CONT, b"\xf0\x9f\x98")], 1007, "end"),
    Fault("8.1-incomplete-at-an-empty-fin", [Frame(TEXT, b"\xc3"), Frame(FIN | CONT)], 1007, "end"),
    Fault("8.1-not-carried-over", [Frame(FIN | TEXT, b"ok"), Frame(FIN | TEXT, b"\xa9")], 1007, 1, [(TEXT, "ok")]),
    Fault("8.1-in-a-frame-still-arriving", [Frame(FIN | TEXT, b"abc\xff", declared=1000)], 1007, 4),
    Fault("8.1-in-a-continuation-still-arriving", [FIRST, Frame(CONT, b"\xe1\x80A", declared=70_000)], 1007, 3),
    # 5.5.1 and 7.4: in a close frame too
    Fault("5.5.1-half-a-code", [Frame(FIN | CLOSE, b"\x03")], 1002, "second"),
    Fault("5.5.1-reason-not-utf-8", [Frame(FIN | CLOSE, b"\x03\xe8\xff")], 1007, "end"),
    Fault("5.5.1-reason-cut", [Frame(FIN | CLOSE, b"\x03\xe8ok\xe2\x82")], 1007, "end"),
    Fault("5.5.1-reason-surrogate", [Frame(FIN | CLOSE, b"\x03\xe8\xed\xa0\x80")], 1007, 4),
    Fault("5.5.1-reason-not-utf-8-and-more", [Frame(FIN | CLOSE, b"\x03\xe8ok\xff and more")], 1007, 5),
    Fault("5.5.1-within-a-message", [FIRST, Frame(FIN | CLOSE, b"\x03\xed")], 1002, "end"),
    *[
        Fault(f"7.4-close-{code}", [Frame(FIN | CLOSE, code.to_bytes(2, "big") + b"why")], 1002, 2)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 32768, 65535)
    ],
]


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"rfc6455-{fault.id}")
def test_faults(fault: Fault, server: bool) -> None:
    data, at = fault.build(server)
    expected = fault.messages or []
    for tail in (b"", TRAILING):
        got = read_frames([data + tail], server, fault.limits)
        assert (got.messages, got.code) == (expected, fault.code)
    # Byte by byte the error comes at exactly that byte.
    got = read_frames(bytewise(data + TRAILING), server, fault.limits)
    assert (got.messages, got.code, got.fed) == (expected, fault.code, at)
    assert read_frames([data[: at - 1]], server, fault.limits).code is None
    assert read_frames([data[:at]], server, fault.limits).code == fault.code
    if len(data) <= 300:
        for i in range(1, len(data)):
            got = read_frames([data[:i], data[i:]], server, fault.limits)
            assert (got.messages, got.code) == (expected, fault.code)
    # A reader that waits for what it asked for comes to the same verdict.
    for pieces in ([data + TRAILING], bytewise(data + TRAILING)):
        got = read_frames(pieces, server, fault.limits, patient=True)
        assert (got.messages, got.code) == (expected, fault.code)


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize("declared", [2**20 + 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_an_oversized_payload_is_never_waited_for(opcode: int, declared: int, server: bool) -> None:
    """CVE-2026-54274: the header alone decides; the reader takes nothing and asks for nothing."""
    start = head(FIN | opcode, declared, server)
    buf = bytearray(start)
    reader = MessageReader(server, DEFAULT)
    with pytest.raises(ProtocolError) as info:
        reader.next(buf)
    assert info.value.code == (1002 if declared >= 2**63 else 1009)
    assert buf == start
    assert reader.partial(buf) == b""
    if declared < 2**63:
        fitting = MessageReader(server, Limits(message=declared))
        for size in range(1, len(start)):
            need = fitting.next(bytearray(start[:size]))
            assert isinstance(need, int)
            assert need <= len(start)


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize("within", [None, TEXT, BINARY], ids=["between", "within-text", "within-binary"])
def test_every_first_byte(within: int | None, server: bool) -> None:
    """5.2: reserved bits and opcodes 3-7 and 11-15 are refused; the others where 5.4 and 5.5 allow them."""
    for first in range(256):
        fin, reserved, opcode = first & 0x80, first & 0x70, first & 0x0F
        if opcode in (CLOSE, PING, PONG):
            good = bool(fin)
        elif opcode == CONT:
            good = within is not None
        else:
            good = opcode in (TEXT, BINARY) and within is None
        good = good and not reserved
        before = encode(within, b"", server) if within else b""
        got = read_frames(bytewise(before + encode(first, b"", server)), server)
        if good:
            message: list[tuple[int, Any]] = []
            if fin:
                kind = within or opcode if opcode == CONT else opcode
                message = [(kind, "" if kind == TEXT else b"")]
            assert got == (message, None, got.fed, b"", got.calls)
        else:
            assert (got.messages, got.code, got.fed) == ([], 1002, len(before) + 1)


@pytest.mark.parametrize("server", ROLES)
def test_every_second_byte_of_the_wrong_direction(server: bool) -> None:
    """5.1: the mask bit is looked at before anything else of the byte."""
    for low in range(128):
        second = low if server else 0x80 | low
        for first in (FIN | TEXT, FIN | BINARY, TEXT, FIN | PING, FIN | CLOSE):
            got = read_frames([bytes((first, second))], server)
            assert (got.code, got.rest) == (1002, bytes((first, second)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"\xc1\x80", "reserved bit", id="rsv1"),
        pytest.param(b"\x91\x80", "reserved bit", id="rsv3"),
        pytest.param(b"\x83\x80", "unknown opcode 3", id="opcode"),
        pytest.param(b"\x09\x80", "fragmented control", id="control"),
        pytest.param(b"\x80\x80", "continuation", id="orphan"),
        pytest.param(b"\x81\x00", "isn't masked", id="mask"),
        pytest.param(b"\x01\x80\0\0\0\0\x81", "new message", id="within"),
        pytest.param(b"\x89\xfe", "more than 125", id="long control"),
        pytest.param(b"\x81\xfe\0\x05", "shortest form", id="form"),
        pytest.param(b"\x81\xff\x80", "most significant bit", id="msb"),
        pytest.param(b"\x81\x81\0\0\0\0\xff", "UTF-8.* ff", id="utf-8"),
        pytest.param(b"\x88\x82\0\0\0\0\x03\xed", "close code 1005", id="code"),
    ],
)
def test_the_error_says_what_is_wrong(data: bytes, words: str) -> None:
    buf = bytearray(data)
    reader = MessageReader(True, DEFAULT)
    with pytest.raises(ProtocolError, match=words) as info:
        while True:
            reader.next(buf)
    assert str(info.value) == info.value.text
    assert 1000 <= info.value.code < 1016


# ---- 5.4 fragmentation ------------------------------------------------------------------------------------------------

CLOSE_1000 = (FIN | CLOSE, b"\x03\xe8bye")

SEQUENCES: list[tuple[str, list[tuple[int, bytes]], list[tuple[int, Any]]]] = [
    ("two", [(TEXT, b"Hel"), (FIN | CONT, b"lo")], [(TEXT, "Hello")]),
    ("three-binary", [(BINARY, b"\0"), (CONT, b"\1"), (FIN | CONT, b"\2")], [(BINARY, b"\0\1\2")]),
    ("empty-first", [(TEXT, b""), (FIN | CONT, b"x")], [(TEXT, "x")]),
    ("empty-last", [(TEXT, b"x"), (FIN | CONT, b"")], [(TEXT, "x")]),
    ("empty-middle", [(BINARY, b"x"), (CONT, b""), (CONT, b""), (FIN | CONT, b"y")], [(BINARY, b"xy")]),
    ("all-empty-text", [(TEXT, b""), (CONT, b""), (FIN | CONT, b"")], [(TEXT, "")]),
    ("all-empty-binary", [(BINARY, b""), (CONT, b""), (FIN | CONT, b"")], [(BINARY, b"")]),
    (
        "bytes-of-a-character",
        [(TEXT, b"\xf0"), (CONT, b"\x9f"), (CONT, b"\x98"), (FIN | CONT, b"\x80")], [(TEXT, "😀")],
    ),
    (
        "cut-character-and-ping",
        [(TEXT, b"\xc3"), (FIN | PING, b"\xff"), (FIN | CONT, b"\xa9")], [(PING, b"\xff"), (TEXT, "é")],
    ),
    (
        "control-in-each-gap",
        [(FIN | PONG, b""), (TEXT, b"a"), (FIN | PING, b"1"), (CONT, b"b"), (FIN | PONG, b"2"), (FIN | PING, b"3")]
        + [(CONT, b""), (FIN | PING, b""), (FIN | CONT, b"c"), (FIN | PING, b"4")],
        [(PONG, b""), (PING, b"1"), (PONG, b"2"), (PING, b"3"), (PING, b""), (TEXT, "abc"), (PING, b"4")],
    ),
    ("close-within-a-message", [(TEXT, b"a"), CLOSE_1000, (FIN | CONT, b"b")], [(CLOSE, CLOSE_1000[1]), (TEXT, "ab")]),
    (
        "close-in-a-later-gap",
        [(BINARY, b"a"), (CONT, b""), (FIN | CLOSE, b""), (FIN | CONT, b"b")], [(CLOSE, b""), (BINARY, b"ab")],
    ),
    ("message-after-fragments", [(TEXT, b"a"), (FIN | CONT, b"b"), (FIN | BINARY, b"c")], [(TEXT, "ab"), (BINARY, b"c")]),
    (
        "kinds-change",
        [(BINARY, b"\xff"), (FIN | CONT, b"\xfe"), (TEXT, b"\xc3\xa9"), (FIN | CONT, b"")],
        [(BINARY, b"\xff\xfe"), (TEXT, "é")],
    ),
    (
        "several-in-one-segment",
        [(FIN | TEXT, b"a"), (FIN | BINARY, b""), (FIN | TEXT, b"")], [(TEXT, "a"), (BINARY, b""), (TEXT, "")],
    ),
]


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(
    ("frames", "expected"), [pytest.param(f, e, id=f"rfc6455-5.4-{name}") for name, f, e in SEQUENCES]
)
def test_fragmentation(frames: list[tuple[int, bytes]], expected: list[tuple[int, Any]], server: bool) -> None:
    check_read(wire(frames, server), expected, server)


RFC_EXAMPLES = [
    ("unmasked-text", False, "81 05 48 65 6c 6c 6f", [(TEXT, "Hello")]),
    ("masked-text", True, "81 85 37 fa 21 3d 7f 9f 4d 51 58", [(TEXT, "Hello")]),
    ("fragmented", False, "01 03 48 65 6c 80 02 6c 6f", [(TEXT, "Hello")]),
    ("ping", False, "89 05 48 65 6c 6c 6f", [(PING, b"Hello")]),
    ("pong", True, "8a 85 37 fa 21 3d 7f 9f 4d 51 58", [(PONG, b"Hello")]),
    ("binary-256", False, "82 7e 01 00" + "61" * 256, [(BINARY, b"a" * 256)]),
    ("binary-64-KiB", False, "82 7f 00 00 00 00 00 01 00 00" + "61" * 65536, [(BINARY, b"a" * 65536)]),
]


@pytest.mark.parametrize(
    ("server", "octets", "expected"), [pytest.param(*row, id=f"rfc6455-5.7-{name}") for name, *row in RFC_EXAMPLES]
)
def test_the_examples_of_the_rfc(server: bool, octets: str, expected: list[tuple[int, Any]]) -> None:
    check_read(bytes.fromhex(octets), expected, server)


# ---- limits -----------------------------------------------------------------------------------------------------------

AT_LIMITS: list[tuple[str, list[tuple[int, bytes]], list[tuple[int, Any]], Limits]] = [
    ("one-frame", [(FIN | TEXT, b"x" * 10)], [(TEXT, "x" * 10)], SMALL),
    ("sum", [(TEXT, b"x" * 6), (CONT, b""), (CONT, b"x" * 4), (FIN | CONT, b"")], [(TEXT, "x" * 10)], SMALL),
    ("sum-binary", [(BINARY, b"x" * 10), (FIN | CONT, b"")], [(BINARY, b"x" * 10)], SMALL),
    (
        "controls-do-not-count",
        [(TEXT, b"x" * 9), (FIN | PING, b"y" * 100), (FIN | CONT, b"x")], [(PING, b"y" * 100), (TEXT, "x" * 10)], SMALL,
    ),
    (
        "each-message-anew",
        [(TEXT, b"x" * 6), (FIN | CONT, b"x" * 4), (BINARY, b"y" * 6), (FIN | CONT, b"y" * 4), (FIN | TEXT, b"z" * 10)],
        [(TEXT, "x" * 10), (BINARY, b"y" * 10), (TEXT, "z" * 10)], SMALL,
    ),
    ("fragments", [(TEXT, b"a"), (CONT, b"b"), (FIN | CONT, b"c")], [(TEXT, "abc")], THREE),
    (
        "fragments-each-message-anew",
        [(TEXT, b"a"), (CONT, b""), (FIN | CONT, b"c"), (BINARY, b""), (CONT, b""), (FIN | CONT, b"")],
        [(TEXT, "ac"), (BINARY, b"")], THREE,
    ),
    (
        "fragments-without-controls",
        [(TEXT, b"a"), (FIN | PING, b""), (FIN | PING, b""), (CONT, b"b"), (FIN | PONG, b""), (FIN | CONT, b"c")],
        [(PING, b""), (PING, b""), (PONG, b""), (TEXT, "abc")], THREE,
    ),
    ("one-fragment", [(FIN | TEXT, b"a"), (FIN | BINARY, b"b")], [(TEXT, "a"), (BINARY, b"b")], Limits(fragments=1)),
]


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(
    ("frames", "expected", "limits"), [pytest.param(*row, id=f"at-the-limit-{name}") for name, *row in AT_LIMITS]
)
def test_exactly_at_the_limit_passes(
    frames: list[tuple[int, bytes]], expected: list[tuple[int, Any]], limits: Limits, server: bool
) -> None:
    check_read(wire(frames, server), expected, server, limits)


def test_the_default_fragment_limit_counts_empty_fragments() -> None:
    """CVE-2026-48779: endless empty continuations."""
    most = DEFAULT.most_fragments
    data = encode(TEXT, b"", True) + encode(CONT, b"", True) * (most - 1)
    assert read_frames([data], True).code is None
    one_more = encode(FIN | CONT, b"", True)
    got = read_frames([data + one_more], True)
    assert (got.messages, got.code, got.rest) == ([], 1008, one_more)


# ---- 8.1 UTF-8 (RFC 3629) ---------------------------------------------------------------------------------------------

VALID_TEXT = (
    ["\0", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufdd0", "\ufdef", "\ufeffbom", "\ufffd"]
    + ["\ufffe", "\uffff"]
    + [chr(plane * 0x10000 + low) for plane in range(1, 17) for low in (0, 0xFFFE, 0xFFFF)]
    + ["κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "日本語\U0001f600"]
)


@pytest.mark.parametrize("server", ROLES)
def test_valid_utf8(server: bool) -> None:
    """RFC 3629: all planes, non-characters and the byte order mark included, cut at every octet and across fragments."""
    for text in VALID_TEXT:
        octets = text.encode()
        expected = [(TEXT, text)]
        check_read(encode(FIN | TEXT, octets, server), expected, server)
        for i in range(len(octets) + 1):
            data = wire([(TEXT, octets[:i]), (FIN | CONT, octets[i:])], server)
            for pieces in ([data], bytewise(data)):
                assert read_frames(pieces, server).messages == expected


BAD_UTF8 = [
    # (octets, how many of them prove the fault)
    ("continuation-80", "80", 1),
    ("continuation-bf", "bf", 1),
    ("overlong-c0", "c0 80", 1),
    ("overlong-c1", "c1 bf", 1),
    ("overlong-e0-80", "e0 80 80", 2),
    ("overlong-e0-9f", "e0 9f bf", 2),
    ("overlong-f0-80", "f0 80 80 80", 2),
    ("overlong-f0-8f", "f0 8f bf bf", 2),
    ("surrogate-d800", "ed a0 80", 2),
    ("surrogate-dfff", "ed bf bf", 2),
    ("surrogate-pair", "ed a0 bd ed b8 80", 2),
    ("beyond-110000", "f4 90 80 80", 2),
    ("beyond-f5", "f5 80 80 80", 1),
    ("beyond-f7", "f7 bf bf bf", 1),
    ("five-octets", "f8 88 80 80 80", 1),
    ("six-octets", "fc 84 80 80 80 80", 1),
    ("fe", "fe", 1),
    ("ff", "ff", 1),
    ("lone-lead-2", "c2 41", 2),
    ("two-leads-2", "c2 c2", 2),
    ("lone-lead-3", "e1 41", 2),
    ("cut-3", "e1 80 41", 3),
    ("lone-lead-4", "f1 41", 2),
    ("cut-4-after-2", "f1 80 41", 3),
    ("cut-4-after-3", "f1 80 80 41", 4),
    ("cut-by-a-lead", "f1 80 80 f1", 4),
]


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(
    ("octets", "proof"), [pytest.param(bytes.fromhex(h), n, id=f"rfc3629-{name}") for name, h, n in BAD_UTF8]
)
def test_bad_utf8_is_reported_at_its_byte(octets: bytes, proof: int, server: bool) -> None:
    key = 4 if server else 0
    for before in (b"", b"abc", "κόσμε".encode()):
        at = len(before) + proof
        payload = before + octets + b" tail"
        # whole, as one frame and as the first of several
        for first in (FIN | TEXT, TEXT):
            data = encode(first, payload, server)
            assert read_frames([data], server).code == 1007
            got = read_frames(bytewise(data), server)
            assert (got.messages, got.code, got.fed) == ([], 1007, 2 + key + at)
        # cut into two fragments at every octet: still told at the byte
        for i in range(len(payload)):
            one = encode(TEXT, payload[:i], server)
            data = one + encode(FIN | CONT, payload[i:], server)
            due = 2 + key + at if i >= at else len(one) + 2 + key + at - i
            for pieces in ([data[:due]], bytewise(data)):
                got = read_frames(pieces, server)
                assert (got.messages, got.code, got.fed) == ([], 1007, due)
            assert read_frames([data[: due - 1]], server).code is None
        # every octet a fragment
        data = b"".join(encode(CONT if i else TEXT, payload[i : i + 1], server) for i in range(len(payload)))
        got = read_frames(bytewise(data), server)
        assert (got.code, got.fed) == (1007, at * (3 + key))


UTF8 = re.compile(
    # RFC 3629, section 4
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|[\xee-\xef][\x80-\xbf]{2}"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*"
)
EDGES = bytes.fromhex("41 7f 80 8f 90 9f a0 bf c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5")


def test_utf8_agrees_with_the_grammar() -> None:
    """RFC 3629, section 4: every sequence of two octets, and of three and four at the edges of the grammar's ranges."""
    short = itertools.product(range(256), repeat=2)
    three = itertools.product(b"\xe0\xe1\xec\xed\xee\xef\xf0\xf4\xc2", EDGES, EDGES)
    four = itertools.product(b"\xf0\xf1\xf3\xf4\xf5", EDGES, b"\x7f\x80\xbf\xc2", b"\x7f\x80\xbf\xc2")
    seen = {True: 0, False: 0}
    for octets in map(bytes, itertools.chain(short, three, four)):
        good = UTF8.fullmatch(octets) is not None
        seen[good] += 1
        head_of = bytes((FIN | TEXT, len(octets)))
        whole = read_frames([head_of + octets], False)
        cut = read_frames([bytes((TEXT, 1)) + octets[:1], bytes((FIN, len(octets) - 1)) + octets[1:]], False)
        verdict = None if good else 1007
        assert (whole.code, cut.code) == (verdict, verdict), octets
    assert seen[True] > 18_000
    assert seen[False] > 40_000


# ---- 5.5.1 and 7.4 close ----------------------------------------------------------------------------------------------

CLOSES: list[tuple[str, bytes, tuple[int, str]]] = [
    ("empty", b"", (1005, "")),
    *[
        (f"code-{code}", code.to_bytes(2, "big") + b"why", (code, "why"))
        for code in (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999)
    ],
    ("no-reason", b"\x03\xe8", (1000, "")),
    ("reason-of-123", b"\x03\xe8" + b"x" * 123, (1000, "x" * 123)),
    ("reason-of-123-in-utf-8", b"\x03\xe8" + "é".encode() * 61 + b"x", (1000, "é" * 61 + "x")),
]


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(
    ("payload", "meaning"), [pytest.param(p, m, id=f"rfc6455-7.4-close-{name}") for name, p, m in CLOSES]
)
def test_close_bodies(payload: bytes, meaning: tuple[int, str], server: bool) -> None:
    check_read(encode(FIN | CLOSE, payload, server), [(CLOSE, payload)], server)
    assert ws.parse_close(payload) == meaning


def test_every_close_code() -> None:
    """7.4.1, 7.4.2 and the IANA registry: 1004 is reserved, 1005, 1006 and 1015 are never sent."""
    good = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    assert {code for code in range(65536) if ws.valid_close_code(code)} == good


# ---- partial ----------------------------------------------------------------------------------------------------------

PARTIALS: list[tuple[str, list[tuple[int, bytes]], int, str | bytes]] = [
    # (frames, bytes of the last frame's payload that are missing, what partial() gives)
    ("nothing", [(FIN | TEXT, b"")], 0, b""),
    ("a-message-is-out", [(FIN | TEXT, b"abc")], 0, b""),
    ("binary", [(FIN | BINARY, b"abcdef")], 2, b"abcd"),
    ("binary-none-of-it-yet", [(FIN | BINARY, b"ab")], 2, b""),
    ("binary-long", [(FIN | BINARY, b"x" * 70_000)], 1, b"x" * 69_999),
    ("text", [(FIN | TEXT, b"abcdef")], 2, "abcd"),
    ("text-none-of-it-yet", [(FIN | TEXT, b"ab")], 2, ""),
    ("text-within-a-character", [(FIN | TEXT, "aé日".encode())], 1, "aé"),
    ("fragments-text", [(TEXT, b"ab"), (CONT, b"cd")], 0, "abcd"),
    ("fragments-text-arriving", [(TEXT, b"ab"), (FIN | CONT, b"cd")], 1, "abc"),
    ("fragments-binary", [(BINARY, b"ab"), (CONT, b"cd")], 0, b"abcd"),
    ("fragments-binary-arriving", [(BINARY, b"ab"), (FIN | CONT, b"cd")], 1, b"abc"),
    ("fragments-are-out", [(BINARY, b"ab"), (FIN | CONT, b"cd")], 0, b""),
    ("fragments-empty-text", [(TEXT, b"")], 0, ""),
    ("ping-arriving", [(FIN | PING, b"ping")], 1, b""),
    ("ping-arriving-within-binary", [(BINARY, b"ab"), (FIN | PING, b"ping")], 2, b"ab"),
    ("ping-arriving-within-text", [(TEXT, b"ab"), (FIN | PING, b"ping")], 2, "ab"),
    ("ping-within-binary", [(BINARY, b"ab"), (FIN | PING, b"ping")], 0, b"ab"),
    ("message-after-binary", [(FIN | BINARY, b"ab"), (FIN | PING, b"ping")], 1, b""),
    ("close-arriving", [(FIN | CLOSE, b"\x03\xe8bye")], 1, b""),
]


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(
    ("frames", "missing", "expected"), [pytest.param(*row, id=f"partial-{name}") for name, *row in PARTIALS]
)
def test_partial(frames: list[tuple[int, bytes]], missing: int, expected: str | bytes, server: bool) -> None:
    data = wire(frames, server)
    data = data[: len(data) - missing]
    for pieces in ([data], bytewise(data)):
        reader = MessageReader(server, DEFAULT)
        buf = bytearray()
        for piece in pieces:
            buf += piece
            while not isinstance(reader.next(buf), int):
                pass
        assert reader.partial(buf) == expected
        assert type(reader.partial(buf)) is type(expected)


def test_partial_of_a_new_reader() -> None:
    assert MessageReader(True, DEFAULT).partial(bytearray()) == b""
    assert MessageReader(True, DEFAULT).partial(bytearray(b"\x82\x85\1\2")) == b""


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param([(TEXT, b"ab"), (FIN | BINARY, b"c")], "ab", id="text"),
        pytest.param([(BINARY, b"ab"), (FIN | BINARY, b"c")], b"ab", id="binary"),
        pytest.param([(TEXT, b"ab"), (CONT, b"\xff")], "ab", id="bad-utf-8"),
        pytest.param([(TEXT, b"ab"), (FIN | CONT, b"c\xc3")], "abc", id="incomplete-utf-8"),
    ],
)
def test_partial_after_a_fault(frames: list[tuple[int, bytes]], expected: str | bytes) -> None:
    reader = MessageReader(False, DEFAULT)
    buf = bytearray(wire(frames, False))
    with pytest.raises(ProtocolError):
        reader.next(buf)
    assert reader.partial(buf) == expected


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(encode(FIN | BINARY, b"abcd", False), id="whole"),
        pytest.param(encode(FIN | BINARY, b"abcd", False) + encode(FIN | BINARY, b"ef", False)[:-1], id="whole-and-more"),
        pytest.param(encode(FIN | BINARY, b"abcd", True)[:-1], id="masked"),
        pytest.param(encode(FIN | BINARY, b"a" * 126, False, 8)[:-1], id="not-the-shortest-form"),
        pytest.param(encode(FIN | BINARY, b"a" * 200, False)[:3], id="half-a-length"),
        pytest.param(encode_fast(FIN | BINARY, b"a" * 1001, False)[:-1], id="too-long"),
        pytest.param(encode(FIN | CONT, b"abcd", False)[:-1], id="continuation"),
        pytest.param(encode(FIN | PING, b"abcd", False)[:-1], id="ping"),
        pytest.param(encode(FIN | TEXT, b"abcd", False)[:-1], id="text"),
        pytest.param(encode(FIN | 0x40 | BINARY, b"abcd", False)[:-1], id="compressed"),
    ],
)
def test_partial_leaves_out_other_data_in_the_buffer(octets: bytes) -> None:
    """It was not read, or it is why reading failed."""
    reader = MessageReader(False, Limits(message=1000), Inflater(False, 15))
    assert reader.partial(bytearray(octets)) == b""


def test_the_partial_message_after_others_were_taken_together() -> None:
    """``take_messages`` tells the reader nothing."""
    reader = MessageReader(False, DEFAULT)
    frames = [encode(FIN | BINARY, payload, False) for payload in (b"one!", b"two", b"three")]
    buf = bytearray(frames[0][:-1])
    assert reader.next(buf) == 6
    assert reader.partial(buf) == b"one"
    buf += frames[0][-1:] + frames[1] + frames[2][:-1]
    rest: list[Any] = []
    assert accelerated.take_messages(buf, rest, False, reader.fast_limit) == (b"one!", "binary")
    assert rest == [(b"two", "binary")]
    assert reader.partial(buf) == b"thre"
    buf[:] = frames[2][:1]
    assert reader.partial(buf) == b""


def test_partial_of_a_message_in_pieces() -> None:
    """What was not taken yet; and nothing of the frame behind it, which is in error."""
    reader = MessageReader(False, DEFAULT)
    reader.read_pieces(DEFAULT.message)
    buf = bytearray(encode(BINARY, b"ab", False) + encode(CONT, b"cdef", False)[:-2])
    while not isinstance(reader.next(buf), int):
        pass
    assert reader.partial(buf) == b"abcd"
    assert reader.take_piece() == b"abcd"
    buf += b"ef" + encode(FIN | BINARY, b"ghij", False)[:-1]
    with pytest.raises(ProtocolError):
        while not isinstance(reader.next(buf), int):
            pass
    assert reader.partial(buf) == b"ef"


@pytest.mark.parametrize("how", ["in-pieces", "dropped", "compressed"])
def test_partial_within_a_frame_that_is_taken_as_it_arrives(how: str) -> None:
    """More of its payload is in the buffer, and looks like a frame that has begun."""
    reader = MessageReader(False, DEFAULT, Inflater(False, 15))
    if how != "compressed":
        reader.read_pieces(DEFAULT.message)
    buf = bytearray(encode(BINARY | (0x40 if how == "compressed" else 0), bytes(10), False)[:-10])
    assert isinstance(reader.next(buf), int)
    assert (buf, reader.opcode) == (b"", BINARY)
    if how == "dropped":
        reader.read_whole()
    buf += encode(FIN | CONT, b"abcd", False)[:-1]
    assert reader.partial(buf) == b""


# ---- modes ------------------------------------------------------------------------------------------------------------


def drain(reader: MessageReader, buf: bytearray) -> list[tuple[int, Any]]:
    """All that ``next`` has, with the pieces in the place of the signs that some have come."""
    found: list[tuple[int, Any]] = []
    while not isinstance(got := reader.next(buf), int):
        found.append((CONT, reader.take_piece()) if got[0] == CONT and reader.mode == ws.PIECES else got)
    return found


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(("kind", "end"), [(TEXT, ws.TEXT_END), (BINARY, ws.BINARY_END)])
def test_the_mode_holds_for_one_message(kind: int, end: int, server: bool) -> None:
    """PIECES is for the message that is open or comes next; after its end messages are whole again."""
    reader = MessageReader(server, DEFAULT)
    assert (reader.mode, reader.opcode) == (ws.WHOLE, 0)
    reader.read_pieces(6)
    assert (reader.mode, reader.opcode) == (ws.PIECES, 0)

    def said(data: bytes) -> str | bytes:
        return data.decode() if kind == TEXT else data

    data = [b"ab", b"cd", b"ef"]
    buf = bytearray(encode(kind, data[0], server) + encode(FIN | PING, b"p", server) + encode(CONT, data[1], server))
    assert drain(reader, buf) == [(CONT, said(b"ab")), (PING, b"p"), (CONT, said(b"cd"))]
    assert (reader.mode, reader.opcode) == (ws.PIECES, kind)
    buf += encode(FIN | CONT, data[2], server) + encode(FIN | kind, b"x" * 9, server)
    assert reader.next(buf) == (end, said(b"ef"))
    assert (reader.mode, reader.opcode) == (ws.WHOLE, 0)
    assert drain(reader, buf) == [(kind, said(b"x" * 9))]
    reader.read_pieces(6)
    buf += encode(FIN | kind, b"", server)
    assert drain(reader, buf) == [(end, said(b""))]


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_an_open_message_is_dropped_in_either_mode(kind: int, server: bool) -> None:
    """Whether it was to be whole or in pieces: none of it comes out, and no limit holds."""
    limits = Limits(message=10, fragments=2)
    for pieces in (False, True):
        reader = MessageReader(server, limits)
        if pieces:
            reader.read_pieces(10)
        buf = bytearray(encode(kind, b"ab", server))
        drain(reader, buf)
        assert reader.opcode == kind
        reader.read_whole()
        assert (reader.mode, reader.opcode) == (ws.DROP, kind)
        assert reader.partial(buf) in ("", b""), "nobody wants it"
        reader.read_pieces(10)
        reader.read_whole()
        assert reader.mode == ws.DROP, "it stays so until its end"
        for _ in range(2000):
            buf += encode(CONT, b"x" * 20, server)
        buf += encode(FIN | PONG, b"p", server)
        assert [message for message in drain(reader, buf) if message[0] != CONT] == [(PONG, b"p")]
        assert reader.partial(buf) in ("", b"")
        assert reader.mode == ws.DROP
        buf += encode(FIN | CONT, b"y", server)
        assert reader.next(buf) == (CONT, b"")
        assert (reader.mode, reader.opcode) == (ws.WHOLE, 0)
        buf += encode(FIN | kind, b"z", server) + encode(FIN | kind, b"x" * 11, server)
        assert reader.next(buf) == (kind, "z" if kind == TEXT else b"z")
        with pytest.raises(ProtocolError, match="the limit 'message' of 10 bytes"):
            reader.next(buf)


def test_the_limit_of_a_compressed_message_in_pieces_is_not_checked_at_its_header() -> None:
    """What comes before the limit is to be had."""
    payload = Deflater(False, 15, Deflate()).piece(bytes(range(256)) * 4, True)
    reader = MessageReader(False, DEFAULT, Inflater(False, 15))
    reader.read_pieces(100)
    buf = bytearray(encode(FIN | 0x40 | BINARY, payload, False)[:20])
    assert len(payload) > 200
    assert drain(reader, buf)[0][0] == CONT
    reader = MessageReader(False, Limits(message=100), Inflater(False, 15))
    with pytest.raises(ProtocolError, match="the limit 'message' of 100 bytes"):
        reader.next(bytearray(encode(FIN | 0x40 | BINARY, payload, False)[:20]))


def test_a_compressed_message_that_is_read_whole_is_taken_as_far_as_it_is_there() -> None:
    """It has a limit, so it needs no slices; the reader asks for more than there is."""
    payload = bytes(range(256)) * 40
    frame = encode(FIN | 0x40 | BINARY, Deflater(False, 15, Deflate(level=0)).piece(payload, True), False)
    reader = MessageReader(False, DEFAULT, Inflater(False, 15))
    buf = bytearray(frame[:-1])
    assert reader.next(buf) == 1
    assert buf == b""
    buf += frame[-1:]
    assert reader.next(buf) == (BINARY, payload)


# ---- building frames --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "octets"),
    [
        (0, "00"),
        (1, "01"),
        (125, "7d"),
        (126, "7e 00 7e"),
        (127, "7e 00 7f"),
        (65535, "7e ff ff"),
        (65536, "7f 00 00 00 00 00 01 00 00"),
    ],
    ids=lambda value: f"rfc6455-5.2-build-{value}" if isinstance(value, int) else "",
)
def test_frames_have_the_shortest_length(length: int, octets: str) -> None:
    payload = bytes(i % 251 for i in range(length))
    for first in (FIN | TEXT, FIN | BINARY, TEXT, BINARY, CONT, FIN | CONT, FIN | PING):
        start = bytes((first,)) + bytes.fromhex(octets)
        assert ws.frame(first, payload) == start + payload
        assert ws.frame_head(first, length) == start
        masked = bytes((first, 0x80 | start[1])) + start[2:]
        assert ws.masked_frame(first, payload, KEY) == masked + KEY + naive_mask(payload, KEY)
        assert ws.masked_frame(first, memoryview(payload), KEY) == masked + KEY + naive_mask(payload, KEY)


def test_close_payload() -> None:
    assert ws.close_payload(1000) == b"\x03\xe8"
    assert ws.close_payload(4999, "é") == b"\x13\x87\xc3\xa9"
    for code in (1000, 1003, 1007, 1011, 1014, 3000, 4999):
        assert ws.parse_close(ws.close_payload(code, "why")) == (code, "why")


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        pytest.param("x" * 123, "x" * 123, id="123"),
        pytest.param("x" * 124, "x" * 123, id="124"),
        pytest.param("x" * 122 + "é", "x" * 122, id="cut-within-2"),
        pytest.param("x" * 121 + "é", "x" * 121 + "é", id="fits-2"),
        pytest.param("x" * 121 + "日", "x" * 121, id="cut-within-3-after-2"),
        pytest.param("x" * 122 + "日", "x" * 122, id="cut-within-3-after-1"),
        pytest.param("x" * 120 + "😀", "x" * 120, id="cut-within-4-after-3"),
        pytest.param("😀" * 1000, "😀" * 30, id="long"),
    ],
)
def test_a_long_reason_is_cut_between_characters(reason: str, sent: str) -> None:
    payload = ws.close_payload(1001, reason)
    assert payload == b"\x03\xe9" + sent.encode()
    assert len(payload) <= 125


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, -1, True, 1000.0, "1000", None])
def test_bad_codes_are_not_sent(code: Any) -> None:
    with pytest.raises(ValueError, match="close code"):
        ws.close_payload(code)


def test_a_reason_that_is_not_text_is_not_sent() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        ws.close_payload(1000, "\ud800")


# ---- memory and work --------------------------------------------------------------------------------------------------


def peak(pieces: list[bytes], limits: Limits) -> tuple[int, Read]:
    """The most memory that reading the pieces takes, beyond that of the pieces themselves."""
    tracemalloc.start()
    try:
        got = read_frames(pieces, False, limits)
        return tracemalloc.get_traced_memory()[1], got
    finally:
        tracemalloc.stop()


def test_memory_of_a_dribbled_text() -> None:
    """CVE-2026-48779: a text that comes in single bytes costs no more than a few times its size."""
    size = 2**17
    data = head(FIN | TEXT, size, False) + b"x" * size
    # Single bytes have but 256 values, which CPython shares: the list's pointers are no part of what is measured.
    most, got = peak(bytewise(data), DEFAULT)
    assert got.messages == [(TEXT, "x" * size)]
    assert most < 3 * len(data)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_memory_of_tiny_fragments(opcode: int) -> None:
    size = 2**16
    data = [bytes((opcode, 1)) + b"x"] + [b"\x00\x01x"] * (size - 2) + [b"\x80\x01x"]
    most, got = peak(data, Limits(fragments=size))
    assert got.messages == [(opcode, "x" * size if opcode == TEXT else b"x" * size)]
    assert most < 3 * size


def test_memory_of_empty_fragments() -> None:
    """Empty fragments keep nothing at all."""
    data = [b"\x01\x00"] + [b"\x00\x00"] * 100_000
    most, got = peak(data, Limits(fragments=200_000))
    assert (got.messages, got.code) == ([], None)
    assert most < 16 * 1024


def test_memory_of_wide_characters() -> None:
    """One character of another plane makes CPython use four bytes for each of the result: nowhere but there."""
    size = 2**16
    text = "😀" + "x" * (size - 4)
    data = head(FIN | TEXT, size, False) + text.encode()
    most, got = peak(bytewise(data), DEFAULT)
    assert got.messages == [(TEXT, text)]
    assert most < 7 * size


def test_work_is_linear_in_the_bytes() -> None:
    """A patient reader is called a fixed number of times a binary frame, and once a piece for text, and for a payload so large
    that the socket receives it where it stays, whatever the pieces."""
    for server in (True, False):
        for size, most in ((ws.LARGE - 1, 7), (2 * ws.LARGE, 2 * ws.LARGE + 7)):
            binary = bytewise(encode_fast(FIN | BINARY, b"x" * size, server))
            assert read_frames(binary, server, patient=True).calls <= most
        text = bytewise(encode_fast(FIN | TEXT, b"x" * 100_000, server))
        assert read_frames(text, server, patient=True).calls <= 100_000 + 6
        many = encode(FIN | TEXT, b"hi", server) * 5000
        got = read_frames([many], server)
        assert len(got.messages) == 5000
        assert got.calls == 5001


@pytest.mark.parametrize("pieces", [1, 3, 100], ids=lambda n: f"pieces-of-{n}")
def test_each_octet_of_a_text_is_decoded_once(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0

    class Decoder(ws._utf8_decoder):  # type: ignore[misc, name-defined]
        def decode(self, data: bytes, final: bool = False) -> str:
            nonlocal decoded
            decoded += len(data)
            text: str = super().decode(data, final)
            return text

    monkeypatch.setattr(ws, "_utf8_decoder", Decoder)
    payload = "aé日😀".encode() * 200
    data = encode(TEXT, payload, True) + encode(FIN | CONT, payload, True)
    got = read_frames([data[i : i + pieces] for i in range(0, len(data), pieces)], True)
    assert got.messages == [(TEXT, payload.decode() * 2)]
    assert decoded == 2 * len(payload)
