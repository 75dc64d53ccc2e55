"""The header of the PROXY protocol, versions 1 and 2: the vectors of its document, cut at every byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire.error import ProtocolError
from silly._wire.proxy_protocol import LONGEST_REST, SIGNATURE, crc32c, take_header

from .strategies import STEADY
from .support import TRAILING, bytewise, halves

V4 = bytes((192, 0, 2, 1, 198, 51, 100, 1)) + struct.pack(">HH", 56324, 443)
V6 = bytes.fromhex("20010db8000000000000000000000001") + bytes(15) + b"\2" + struct.pack(">HH", 4711, 443)
MAPPED = bytes(10) + b"\xff\xff\xc0\0\2\1" + bytes(16) + struct.pack(">HH", 4711, 443)
PATHS = b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")


def binary(rest: bytes = b"", family: int = 0x11, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(rest) if length is None else length) + rest


def field(kind: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BH", kind, len(value) if length is None else length) + value


def summed(addresses: bytes, before: bytes = b"", behind: bytes = b"", change: int = 0) -> bytes:
    """A header with its checksum."""
    blank = binary(addresses + before + field(3, bytes(4)) + behind)
    at = 16 + len(addresses + before) + 3
    return blank[:at] + struct.pack(">I", crc32c(blank) ^ change) + blank[at + 4 :]


GOOD = {
    # The examples of the document, section 2.1.
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": "255.255.255.255:65535",
    b"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".replace(b"f...f", b"ffff:ffff:ffff:ffff:ffff:ffff"): (
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
    ),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n": None,
    b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n": "192.168.0.1:56324",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 0 0\r\n": "192.0.2.1:0",
    b"PROXY TCP6 2001:DB8::1 ::1 4711 443\r\n": "[2001:db8::1]:4711",
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n": "192.0.2.1:4711",
    b"PROXY UNKNOWN \xe9".replace(b"\xe9", b"anything at all") + b"\r\n": None,
    binary(V4): "192.0.2.1:56324",
    binary(V4, 0x12): "192.0.2.1:56324",
    binary(V6, 0x21): "[2001:db8::1]:4711",
    binary(MAPPED, 0x21): "192.0.2.1:4711",
    binary(PATHS, 0x31): None,
    binary(b"", 0): None,
    binary(b"whatever", 0): None,
    # LOCAL: all of the rest means nothing.
    binary(b"", 0, 0x20): None,
    binary(V4, 0x11, 0x20): None,
    binary(b"\3", 0xFF, 0x20): None,
    # Further fields: an authority (SNI), one of TLS with fields within, padding, an empty one.
    binary(V4 + field(2, b"example.com") + field(4, bytes(9)) + field(0xEE, b"")): "192.0.2.1:56324",
    binary(V4 + field(0x20, b"\1\0\0\0\0" + field(0x21, b"TLSv1.3"))): "192.0.2.1:56324",
    summed(V4): "192.0.2.1:56324",
    summed(V4, field(2, b"a"), field(4, b"")): "192.0.2.1:56324",
}  # fmt: skip


def read(pieces: list[bytes]) -> tuple[str | None, bytes]:
    """What a header says, and what is left of the buffer. Asks only when there is as much as was asked for."""
    buf = bytearray()
    need = 0
    found = None
    for piece in pieces:
        buf += piece
        if found is None and len(buf) >= need:
            got = take_header(buf)
            if isinstance(got, int):
                assert got > len(buf), "it asks for no more than it has"
                need = got
            else:
                found = got
    assert found is not None
    return found.remoteaddr, bytes(buf)


@pytest.mark.parametrize("header", GOOD, ids=lambda header: header[:24].hex() + f"-{len(header)}")
def test_good_headers(header: bytes) -> None:
    for behind in (b"", TRAILING, header):
        data = header + behind
        for pieces in ([data], bytewise(data), *halves(data)):
            assert read(pieces) == (GOOD[header], behind)
    for size in range(len(header)):
        assert isinstance(take_header(bytearray(header[:size])), int)


LINE = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
BAD = {
    "no header": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": bytes.fromhex("160301020001"),
    "an empty line": b"\r\nPROXY",
    "lower case": b"proxy TCP4",
    "a leading blank": b" PROXY TCP4",
    "only a word": b"PROXY\r\n",
    "no end": b"PROXY UNKNOWN ".ljust(107, b"x"),
    "CR too late": b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    "a bare LF": b"PROXY UNKNOWN\n",
    "a LF before": LINE.replace(b" 443", b"\n443"),
    "a bare CR": b"PROXY UNKNOWN\rx",
    "UDP4": LINE.replace(b"TCP4", b"UDP4"),
    "tcp4": LINE.replace(b"TCP4", b"tcp4"),
    "UNKNOWNX": b"PROXY UNKNOWNX\r\n",
    "not ASCII": b"PROXY UNKNOWN \xff\r\n",
    "IPv6 as TCP4": LINE.replace(b"192.0.2.1", b"::1"),
    "IPv4 as TCP6": LINE.replace(b"TCP4", b"TCP6"),
    "IPv4 written as IPv6, as TCP4": LINE.replace(b"192.0.2.1", b"::ffff:192.0.2.1"),
    "a zero before": LINE.replace(b"192.0.2.1", b"192.0.2.01"),
    "a bad destination": LINE.replace(b"192.0.2.2", b"192.0.2"),
    "a bad IPv6 address": b"PROXY TCP6 ::1::2 ::1 1 1\r\n",
    "no address": LINE.replace(b"192.0.2.2 ", b""),
    "two blanks": LINE.replace(b" 443", b"  443"),
    "a blank at the end": LINE.replace(b"443", b"443 "),
    "a tab": LINE.replace(b" 443", b"\t443"),
    "one more": LINE.replace(b"443", b"443 443"),
    "a zero before the port": LINE.replace(b"56324", b"06324"),
    "00": LINE.replace(b"443", b"00"),
    "a port too large": LINE.replace(b"443", b"65536"),
    "a long port": LINE.replace(b"443", b"000443"),
    "a signed port": LINE.replace(b"443", b"+443"),
    "a changed signature": SIGNATURE[:11] + b"\r",
    "version 1 in binary": binary(V4, command=0x11),
    "version 3": binary(V4, command=0x31),
    "command 2": binary(V4, command=0x22),
    "family 4": binary(V4, 0x41),
    "transport 3": binary(V4, 0x13),
    "a family too short": binary(V4[:11], 0x11),
    "IPv6 too short": binary(V6[:35], 0x21),
    "Unix too short": binary(PATHS[:215], 0x31),
    "too long": binary(b"", length=LONGEST_REST + 1),
    "LOCAL too long": binary(b"", 0, 0x20, length=65535),
    "a field past the end": binary(V4 + field(2, b"a", 2)),
    "half a field": binary(V4 + b"\4\0"),
    "a wrong checksum": summed(V4, change=1),
    "a checksum that leaves out what follows": summed(V4)[:14] + b"\0\x17" + summed(V4)[16:] + field(4, b"x"),
    "a short checksum": binary(V4 + field(3, b"abc")),
}  # fmt: skip


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bad_headers(data: bytes) -> None:
    """However they come; and each at the byte that proves it, so that no more is waited for."""
    refused, texts = [], []
    for size in range(len(data) + 1):
        try:
            got = take_header(bytearray(data[:size]))
        except ProtocolError as exc:
            refused.append(size)
            texts.append(exc.text)
        else:
            assert isinstance(got, int), "never good"
    assert all(len(text) < 300 and text.isprintable() for text in texts)
    assert refused[-1:] == [len(data)]
    assert refused == list(range(refused[0], len(data) + 1)), "what is bad stays so"
    assert refused[0] <= 106 or data.startswith(SIGNATURE), "107 bytes end with CRLF"


def test_it_asks_for_all_of_version_2_at_once() -> None:
    header = binary(V4 + field(4, bytes(1000)))
    assert take_header(bytearray()) == 1
    assert take_header(bytearray(header[:12])) == 16
    assert take_header(bytearray(header[:16])) == len(header)


def test_the_longest_header() -> None:
    header = binary(V4 + field(4, bytes(LONGEST_REST - 15)))
    assert read([header + b"x"]) == ("192.0.2.1:56324", b"x")


def test_the_checksum() -> None:
    """The vectors of RFC 3720, section B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(st.data())
@STEADY
def test_any_bytes(data: st.DataObject) -> None:
    header = data.draw(st.sampled_from(list(GOOD)))
    damaged = bytearray(header)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = take_header(damaged)
    except ProtocolError:
        return
    assert isinstance(found, int) or found.remoteaddr is None or ":" in found.remoteaddr
