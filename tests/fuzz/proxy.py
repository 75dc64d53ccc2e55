"""The header of the PROXY protocol.

What must hold: nothing but ProtocolError is raised; a header is the same in any pieces; it is taken whole and no byte more; and
what is refused stays so, whatever comes behind it.
"""

from __future__ import annotations

from ipaddress import ip_address

from silly._wire.error import ProtocolError
from silly._wire.proxy_protocol import LONGEST_REST, SIGNATURE, crc32c, take_header
from silly._wire.proxy_protocol import Source as Found

from .source import Source, allowed, cut

CODES = frozenset((400,))
BEHIND = b"\x16\x03\x01GET / HTTP/1.1\r\n"


def read(pieces: list[bytes]) -> tuple[str | None, int] | str | None:
    """The address and how much is left; the error; or None if it isn't complete."""
    buf = bytearray()
    need = 0
    for number, piece in enumerate(pieces):
        buf += piece
        if len(buf) < need:
            continue
        try:
            got = take_header(buf)
        except ProtocolError as exc:
            allowed(exc, CODES)
            return "refused"
        if isinstance(got, Found):
            return got.remoteaddr, len(buf) + sum(map(len, pieces[number + 1 :]))
        assert len(buf) < got <= 16 + LONGEST_REST
        need = got
    return None


def run(data: bytes) -> None:
    source = Source(data)
    sizes = source.sizes()
    summed = source.byte() % 4 == 1
    header = source.rest()
    if summed:
        header += b"\3\0\4\0\0\0\0"
        header = header[:-4] + crc32c(header).to_bytes(4, "big")
    whole = read([header + BEHIND])
    assert read(cut(header + BEHIND, sizes)) == whole
    alone = read([header])
    if isinstance(alone, tuple):
        assert isinstance(whole, tuple)
        assert (whole[0], whole[1] - len(BEHIND)) == alone
        if alone[0] is not None:
            host, _, port = alone[0].rpartition(":")
            ip_address(host.strip("[]"))
            assert int(port) in range(65536)
    elif alone is not None:
        assert whole == alone


V4 = bytes((192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187))
LINES = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN anything\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 056324 443\r\n",
    b"PROXY TCP4\n",
    b"PROXY UNKNOWN ".ljust(110, b"x"),
]
BINARIES = [
    b"\x21\x11\0\x0c" + V4,
    b"\x21\x11\0\x13" + V4,
    b"\x21\x11\0\x14" + V4 + b"\4\0\5hello",
    b"\x20\0\0\0",
    b"\x21\0\0\1x",
    b"\x21\x21\0\x24" + bytes(36),
    b"\x21\x21\0\x24" + bytes(10) + b"\xff\xff" + bytes(24),
    b"\x21\x31\0\xd8" + bytes(216),
    b"\x21\x11\xff\xff",
    b"\x11\x11\0\0",
    b"\x21\x41\0\0",
]
SEEDS = [b"\1\5\0" + line for line in LINES]
SEEDS += [bytes((1, 7, summed)) + SIGNATURE + binary for binary in BINARIES for summed in (0, 1)]
TOKENS = [*LINES, *BINARIES, SIGNATURE, b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"\r\n", b"\r", b"\n", b" "]
TOKENS += [b"192.0.2.1", b"::", b"0", b"65535", b"65536", b"\3\0\4", b"\4\0\0", b"\0\x0c", b"\xff"]
