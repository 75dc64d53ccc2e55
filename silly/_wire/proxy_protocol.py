"""The PROXY protocol, versions 1 and 2, as a server gets it: a header before the first
byte of a connection, in which a proxy says whose connection it is. Pure.

HAProxy's ``proxy-protocol.txt`` defines it. This follows what it says to receivers: a
header that is not exactly right ends the connection.
"""

from __future__ import annotations

import re
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from .._shown import shown
from .error import ProtocolError
from .lines import take
from .networks import joined, parse_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""The first bytes of version 2. No other protocol begins so."""
LONGEST_LINE = 107
"""Bytes of the longest header of version 1, with its CRLF."""
LONGEST_REST = 4096
"""The most bytes behind the first 16 of a header of version 2. Addresses take at most
216; more is said of a TLS client's certificate."""

_BEGIN = b"PROXY "
_FIXED = 16
"""Bytes of version 2 before the addresses."""
_VERSION = 2
_LOCAL, _PROXY = 0, 1
_SIZES = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}
"""Bytes of the addresses of each family: unspecified, IPv4, IPv6, Unix."""
_TRANSPORTS = frozenset((0x0, 0x1, 0x2))
_CRC32C = 0x03
"""The type of the field that has a checksum of the header."""
_ADDRESS, _PORT = rb"([0-9A-Fa-f.:]{1,45})", rb"([0-9]{1,5})"
_LINE = re.compile(rb"PROXY (?:(TCP4|TCP6) %b %b %b %b|UNKNOWN(?: .*)?)" % (_ADDRESS, _ADDRESS, _PORT, _PORT))


class Source(NamedTuple):
    """What a header says."""

    remoteaddr: str | None
    """``host:port`` of the client; None if the connection is the proxy's own, or if
    nothing is known of its client."""


def take_header(buf: bytearray) -> Source | int:
    """Takes a header off the front of ``buf``. If it isn't complete, returns how many
    bytes ``buf`` must hold before the next call. What comes behind the header stays.

    Raises ProtocolError for anything else than a good header, at the first byte that
    proves it.
    """
    if SIGNATURE.startswith(buf[: len(SIGNATURE)]):
        return _take_binary(buf)
    if _BEGIN.startswith(buf[: len(_BEGIN)]):
        return _take_line(buf)
    raise _bad(f"no PROXY header, but {shown(bytes(buf[:20]))}")


def _bad(text: str) -> ProtocolError:
    return ProtocolError(text, 400)


# ---- version 1 -----------------------------------------------------------------------


def _take_line(buf: bytearray) -> Source | int:
    end = buf.find(b"\r", 0, LONGEST_LINE - 1)
    if b"\n" in (buf if end < 0 else buf[:end]):
        raise _bad("a bare LF in the PROXY header")
    if end < 0:
        if len(buf) >= LONGEST_LINE - 1:
            raise _bad(f"the line of the PROXY header has no end within {LONGEST_LINE} bytes")
        return len(buf) + 1
    if len(buf) == end + 1:
        return len(buf) + 1
    line = bytes(buf[:end])
    match = _LINE.fullmatch(line)
    if buf[end + 1] != 10 or match is None or not line.isascii():
        raise _bad(f"bad PROXY header {shown(line)}")
    remoteaddr = None
    if match[1] is not None:
        version = 4 if match[1] == b"TCP4" else 6
        for text in (match[2], match[3]):
            # By what it looks like: an IPv4 address may be written as an IPv6 one.
            if (b":" in text) != (version == 6) or parse_address(text.decode()) is None:
                raise _bad(f"bad address in the PROXY header {shown(line)}")
        for text in (match[4], match[5]):
            if int(text) > 65535 or (text != b"0" and text.startswith(b"0")):
                raise _bad(f"bad port in the PROXY header {shown(line)}")
        source = parse_address(match[2].decode())
        assert source is not None
        remoteaddr = joined(source, int(match[4]))
    del buf[: end + 2]
    return Source(remoteaddr)


# ---- version 2 -----------------------------------------------------------------------


def _take_binary(buf: bytearray) -> Source | int:
    if len(buf) < _FIXED:
        return len(buf) + 1 if len(buf) < len(SIGNATURE) else _FIXED
    version, command = divmod(buf[12], 16)
    family, transport = divmod(buf[13], 16)
    length = int.from_bytes(buf[14:_FIXED], "big")
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise _bad(f"version and command of the PROXY header are {buf[12]:#04x}")
    if length > LONGEST_REST:
        raise _bad(f"a PROXY header of {_FIXED + length} bytes")
    size = 0
    if command == _PROXY:
        if family not in _SIZES or transport not in _TRANSPORTS:
            raise _bad(f"family and transport of the PROXY header are {buf[13]:#04x}")
        size = _SIZES[family]
        if length < size:
            raise _bad(f"a PROXY header of family {family} with {length} bytes of addresses")
    if len(buf) < _FIXED + length:
        return _FIXED + length
    header = take(buf, _FIXED + length)
    if command == _LOCAL or not family:
        # The rest means nothing: not even the family of LOCAL does.
        return Source(None)
    _check_fields(header, _FIXED + size)
    if family == 0x1:
        port = int.from_bytes(header[24:26], "big")
        return Source(joined(IPv4Address(header[16:20]), port))
    if family == 0x2:
        address = IPv6Address(header[16:32])
        port = int.from_bytes(header[48:50], "big")
        return Source(joined(address.ipv4_mapped or address, port))
    return Source(None)  # a client of a Unix socket: it has no address, and hardly ever a name


def _check_fields(header: bytes, at: int) -> None:
    """Checks that the further fields end where the header does, and the checksum if
    there is one. Raises ProtocolError."""
    while at < len(header):
        end = at + 3 + int.from_bytes(header[at + 1 : at + 3], "big")
        if at + 3 > len(header) or end > len(header):
            raise _bad("a field of the PROXY header goes past its end")
        if header[at] == _CRC32C:
            if end - at != 7:
                raise _bad("the checksum of the PROXY header has not 4 bytes")
            given = int.from_bytes(header[at + 3 : end], "big")
            if given != crc32c(header[: at + 3] + bytes(4) + header[end:]):
                raise _bad("the checksum of the PROXY header is wrong")
        at = end


@cache
def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """The CRC-32C of ``data`` (RFC 3720, section B.4): 0xE3069283 for ``b"123456789"``.
    """
    table = _table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
