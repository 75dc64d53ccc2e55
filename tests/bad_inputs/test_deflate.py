"""Compression under attack: bombs, reserved bits, bad streams, and every bad parameter of permessage-deflate (RFC 7692)."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from ..helpers import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, joined, spawn, turn
from .support import (
    DEFLATE,
    KIB,
    LOG,
    MIB,
    SHORT,
    TCP,
    TLS,
    Held,
    Memory,
    Role,
    Way,
    accepted,
    answer,
    both_roles,
    both_transports,
    connecting,
    every_way,
    read,
    request,
    server_role,
    taken,
)

RSV1 = 0x40
EXTENSION = "Sec-WebSocket-Extensions"


def deflated(data: bytes, *, tail: bool = False, final: bool = False, window: int = -15) -> bytes:
    """A message's payload (section 7.2.1). ``tail``: the four bytes that are to be removed stay; ``final``: BFINAL is set."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    if final:
        return packer.compress(data) + packer.flush()
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed if tail else packed[:-4]


def inflated(data: bytes, window: int = -15) -> bytes:
    return zlib.decompressobj(window).decompress(data + b"\0\0\xff\xff")


@cache
def bomb(size: int) -> bytes:
    """A thousandth of ``size``, that inflates to it."""
    return deflated(b"\0" * size)


def pieces(payload: bytes, count: int) -> Iterable[tuple[int, bytes]]:
    """``payload`` in ``count`` fragments: first bytes (without the type) and payloads."""
    size = -(-len(payload) // count)
    for i in range(count):
        last = FIN if i == count - 1 else 0
        yield (last | (RSV1 | BINARY if not i else CONTINUATION)), payload[i * size : (i + 1) * size]


# ---- bombs ----------------------------------------------------------------------------------------------------------

BOMB_ID = "CVE-2018-1000518-CVE-2021-21419-CVE-2026-1526"
BOMBS = {
    "one-frame": lambda peer: [(FIN | RSV1 | BINARY, bomb(10 * MIB))],
    "one-text-frame": lambda peer: [(FIN | RSV1 | TEXT, bomb(10 * MIB))],
    "four-fragments": lambda peer: list(pieces(bomb(10 * MIB), 4)),
    "many-fragments": lambda peer: list(pieces(bomb(10 * MIB), 500)),
    "in-the-last-fragment": lambda peer: [
        (RSV1 | BINARY, deflated(b"a" * 10, tail=True)),
        (CONTINUATION, deflated(b"b" * 10, tail=True)),
        (FIN | CONTINUATION, bomb(10 * MIB)),
    ],
    "never-ending": lambda peer: [(RSV1 | BINARY, bomb(10 * MIB))],
    "bomb-behind-a-final-block": lambda peer: [(FIN | RSV1 | BINARY, deflated(b"a", final=True) + b"\0" + bomb(10 * MIB))],
}


@both_transports
@both_roles
@pytest.mark.parametrize("row", BOMBS)
def test_bomb(row: str, role: Role, way: Way, logs: Any) -> None:
    """The limit holds for what comes out; inflating stops there, and memory stays by the limit, not by the bomb."""
    logs.expect(LOG)
    codes = (1007, 1009) if row == "bomb-behind-a-final-block" else (1009,)
    with role(way, {**SHORT, "message": 256 * KIB}, DEFLATE, compression=True) as (sock, peer):
        data = b"".join(peer.frame(first, payload) for first, payload in BOMBS[row](peer))
        reading = spawn(lambda: read(sock))
        turn()
        with Memory() as memory:
            peer.send(data)
            got, err = joined(reading)
        assert got is None
        assert sock.closecode in codes
        assert peer.get_close()[0] == sock.closecode
        if sock.closecode == 1009:
            assert "limit 'message' of 262144 bytes" in err
        peer.eof()
    assert memory.peak < 4 * 256 * KIB


@both_roles
@pytest.mark.parametrize("way", [Way(False, True), Way(True, True)], ids=["dribbled-tcp", "dribbled-tls"])
def test_bomb_dribbled(role: Role, way: Way, logs: Any) -> None:
    """The same, told while it is still arriving."""
    logs.expect(LOG)
    with role(way, {**SHORT, "message": 16 * KIB}, DEFLATE, compression=True) as (sock, peer):
        payload = bomb(MIB)
        reading = spawn(lambda: read(sock))
        with Memory() as memory:
            way.deliver(peer, peer.frame(FIN | RSV1 | BINARY, payload))
        assert peer.get_close()[0] == 1009
        assert joined(reading)[0] is None
    assert memory.peak < 256 * KIB


@every_way
@both_roles
def test_exactly_at_the_limit(role: Role, way: Way, logs: Any) -> None:
    """A message exactly as long passes, the next byte doesn't."""
    logs.expect(LOG)
    with role(way, {**SHORT, "message": 5000}, DEFLATE, compression=True) as (sock, peer):
        reading = spawn(lambda: [read(sock), read(sock), read(sock)[0]])
        frames = [
            (FIN | RSV1 | BINARY, deflated(b"x" * 5000)),
            (FIN | RSV1 | TEXT, deflated(b"y" * 5000)),
            (FIN | RSV1 | BINARY, deflated(b"x" * 5001)),
        ]
        way.deliver(peer, b"".join(peer.frame(*frame) for frame in frames))
        assert joined(reading) == [(b"x" * 5000, "binary"), ("y" * 5000, "text"), None]
        assert peer.get_close()[0] == 1009


@both_roles
def test_expansion_past_the_limit_is_no_fault_of_the_wire_size(role: Role) -> None:
    """Bytes that don't compress may be longer on the wire than the limit; the message is not."""
    noise = os.urandom(5000)
    payload = deflated(noise)
    assert len(payload) > 5000
    with role(TCP, {**SHORT, "message": 5000}, DEFLATE, compression=True) as (sock, peer):
        peer.put(FIN | RSV1 | BINARY, payload)
        assert read(sock) == (noise, "binary")


@both_roles
def test_endless_empty_blocks(role: Role, logs: Any) -> None:
    """Blocks that inflate to nothing: bytes on the wire without end, and no message. The limits end it."""
    logs.expect(LOG)
    with role(TCP, {**SHORT, "message": 1000, "fragments": 10}, DEFLATE, compression=True) as (sock, peer):
        reading = spawn(lambda: read(sock))
        frames = [(RSV1 | BINARY, b"\0\0\0\xff\xff" * 100), *[(CONTINUATION, b"\0\0\0\xff\xff" * 100)] * 10]
        with Memory() as memory:
            peer.send(b"".join(peer.frame(*frame) for frame in frames))
            assert joined(reading)[0] is None
        assert peer.get_close()[0] in (1008, 1009)
    assert memory.peak < 256 * KIB


# ---- frames ---------------------------------------------------------------------------------------------------------

HELLO = deflated(b"Hello")
FAULTS: dict[str, tuple[list[tuple[int, bytes]], int]] = {
    "websockets-16.1-rsv1-continuation": ([(RSV1 | TEXT, HELLO[:3]), (FIN | RSV1 | CONTINUATION, HELLO[3:])], 1002),
    "websockets-16.1-rsv1-continuation-of-plain": ([(TEXT, b"a"), (FIN | RSV1 | CONTINUATION, HELLO)], 1002),
    "eventlet-720-rsv1-ping": ([(FIN | RSV1 | PING, HELLO)], 1002),
    "eventlet-720-rsv1-pong": ([(FIN | RSV1 | PONG, HELLO)], 1002),
    "eventlet-720-rsv1-close": ([(FIN | RSV1 | CLOSE, b"\x03\xe8")], 1002),
    "eventlet-720-rsv1-ping-in-a-message": ([(RSV1 | TEXT, HELLO[:3]), (FIN | RSV1 | PING, b"")], 1002),
    "rsv2": ([(FIN | 0x20 | TEXT, b"x")], 1002),
    "rsv1-and-rsv3": ([(FIN | RSV1 | 0x10 | TEXT, HELLO)], 1002),
    "rsv1-orphan-continuation": ([(FIN | RSV1 | CONTINUATION, HELLO)], 1002),
    "rsv1-text-in-a-message": ([(RSV1 | TEXT, HELLO), (FIN | RSV1 | TEXT, HELLO)], 1002),
    "bad-block-type": ([(FIN | RSV1 | BINARY, b"\x07\xff\xff")], 1007),
    "bad-stored-length": ([(FIN | RSV1 | BINARY, b"\0\x05\x00\x05\x00abcde")], 1007),
    "bad-distance": ([(FIN | RSV1 | BINARY, b"\x4b\x04\xa2\x00\xff\xff\xff")], 1007),
    "noise": ([(FIN | RSV1 | BINARY, b"\xff" * 50)], 1007),
    "bad-in-the-first-fragment": ([(RSV1 | BINARY, b"\xff" * 50)], 1007),
    "cut-in-a-block": ([(FIN | RSV1 | BINARY, deflated(bytes(range(256)))[:100])], 1007),
    "cut-in-a-stored-block": ([(FIN | RSV1 | BINARY, b"\0\x0a\x00\xf5\xffabc")], 1007),
    "utf8-after-inflating": ([(FIN | RSV1 | TEXT, deflated(b"ok\xff"))], 1007),
    "utf8-cut-after-inflating": ([(FIN | RSV1 | TEXT, deflated(b"ok\xe2\x82"))], 1007),
    "utf8-surrogate-in-a-fragment": ([(RSV1 | TEXT, deflated(b"\xed\xa0\x80" + b"x" * 100, tail=True))], 1007),
}


@every_way
@both_roles
@pytest.mark.parametrize("row", FAULTS)
def test_fault(row: str, role: Role, way: Way, logs: Any) -> None:
    logs.expect(LOG)
    frames, code = FAULTS[row]
    with role(way, {**SHORT, "message": 1000}, DEFLATE, compression=True) as (sock, peer):
        reading = spawn(lambda: read(sock))
        way.deliver(peer, b"".join(peer.frame(*frame) for frame in frames) + peer.frame(FIN | TEXT, b"behind"))
        assert peer.get_close()[0] == code
        assert joined(reading)[0] is None
        assert sock.closecode == code
        peer.eof()
    assert len(logs.lines) == 1


@every_way
@both_roles
@pytest.mark.parametrize("gap", range(4))
@pytest.mark.parametrize("control", ["ping", "pong", "close"])
def test_aiohttp_12988_control_between_compressed_fragments(control: str, gap: int, role: Role, way: Way) -> None:
    payload = deflated("é€ ".encode() * 5)
    frames = [(RSV1 | TEXT, payload[:2]), (CONTINUATION, payload[2:4]), (FIN | CONTINUATION, payload[4:])]
    data = b"\x03\xe8" if control == "close" else b"c"
    frames.insert(gap, (FIN | {"ping": PING, "pong": PONG, "close": CLOSE}[control], data))
    shown: list[Any] = [("é€ " * 5, "text")]
    if control == "close" and gap < 3:
        shown = []
    shown.insert(0 if gap < 3 else 1, (data, control))
    with role(way, SHORT, DEFLATE, compression=True) as (sock, peer):
        reading = spawn(lambda: [read(sock) for _ in shown])
        way.deliver_all(peer, b"".join(peer.frame(*frame) for frame in frames))
        assert joined(reading) == shown


LEGAL = {
    "example": (b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),  # section 7.2.3.1
    "stored": (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),  # section 7.2.3.3
    "final-block": (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),  # section 7.2.3.4
    "two-blocks": (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),  # section 7.2.3.5
    "empty": (b"\0", b""),  # section 7.2.3.6
}


@every_way
@both_roles
@pytest.mark.parametrize("row", LEGAL)
def test_legal_payloads(row: str, role: Role, way: Way) -> None:
    """The examples of section 7.2.3, in one frame and in frames of one byte, then a message without compression."""
    payload, message = LEGAL[row]
    with role(way, SHORT, DEFLATE, compression=True) as (sock, peer):
        reading = spawn(lambda: [read(sock) for _ in range(3)])
        frames = [(FIN | RSV1 | BINARY, payload), (RSV1 | TEXT, b"")]
        frames += [(CONTINUATION, payload[at : at + 1]) for at in range(len(payload))] + [(FIN | CONTINUATION, b"")]
        way.deliver_all(peer, b"".join(peer.frame(*frame) for frame in [*frames, (FIN | TEXT, b"plain")]))
        assert joined(reading) == [(message, "binary"), (message.decode(), "text"), ("plain", "text")]


@both_transports
@both_roles
def test_eventlet_720_what_we_send(role: Role, way: Way) -> None:
    """Control frames and continuations never carry RSV1, compressed first frames do."""
    message = os.urandom(100 * KIB) * 2
    with role(way, SHORT, DEFLATE, compression=True) as (sock, peer):
        sending = spawn(
            lambda: [
                sock.write("p" * 100, "ping"),
                sock.write("p" * 100, "pong"),
                sock.write(message, compress=True),
                sock.write("x" * 1000, "text", compress=False),
                sock.write("", "text", compress=True),
            ]
        )
        assert peer.get() == (FIN | PING, b"p" * 100)
        assert peer.get() == (FIN | PONG, b"p" * 100)
        first, got = peer.get()
        assert first & 0x7F == RSV1 | BINARY
        while not first & FIN:
            first, more = peer.get()
            assert first & 0x7F == CONTINUATION
            got += more
        unpacker = zlib.decompressobj(-15)
        assert unpacker.decompress(got + b"\0\0\xff\xff") == message
        assert peer.get() == (FIN | TEXT, b"x" * 1000)
        first, got = peer.get()
        assert first in (FIN | TEXT, FIN | RSV1 | TEXT)
        assert got == b"" if first == FIN | TEXT else unpacker.decompress(got + b"\0\0\xff\xff") == b""
        assert all(joined(sending))
        peer.put(FIN | PING, "q")
        assert read(sock) == (b"q", "ping")
        assert peer.get() == (FIN | PONG, b"q")


# ---- parameters -----------------------------------------------------------------------------------------------------

BITS = ["1000", "16", "7", "0", "-1", "+10", "010", "08", "1e1", "0xa", "10.0", '"1000"', "x", "9" * 400]
BAD = [f"{name}={value}" for name in ("server_max_window_bits", "client_max_window_bits") for value in BITS]
BAD += [
    "server_max_window_bits",
    "server_no_context_takeover=1",
    "client_no_context_takeover=true",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "server_max_window_bits=10; server_max_window_bits=11",
    "client_max_window_bits; client_max_window_bits=10",
    "unknown",
    "unknown=1",
    "__proto__",
    "constructor=1",
    "max_window_bits=10",
]
GARBAGE = ["=", "=10", ";", '"', "server_max_window_bits==10", "server_max_window_bits=1 0", "a b", "(", "\xff"]
GARBAGE += [f"server_max_window_bits={value}" for value in ("", '""', '"10', "\xb2", "\xb910", '"10"x', "(10)")]


def id_of(value: str) -> str:
    return value[:60].encode("unicode_escape").decode().replace(" ", "")


@every_way
@pytest.mark.parametrize("bad", BAD, ids=id_of)
def test_cve_2026_2229_offer(bad: str, way: Way) -> None:
    """Section 7: an offer with a bad parameter is declined; the upgrade itself goes through, without the extension."""
    with accepted(way, request(f"{EXTENSION}: {DEFLATE}; {bad}"), compression=True) as (sock, peer, response):
        assert "sec-websocket-extensions" not in response.header
        assert sock.compression is None
        peer.put(FIN | TEXT, "x")
        assert read(sock) == ("x", "text")


@every_way
@pytest.mark.parametrize("bad", GARBAGE, ids=id_of)
def test_cve_2026_2229_offer_that_is_not_a_list(bad: str, way: Way, logs: Any) -> None:
    """Beyond the grammar: declined or 400, never taken, never worse."""
    logs.allow(LOG)
    held = Held(compression=True)
    with way.serving(held) as server, way.dial(server) as peer:
        way.deliver_all(peer, request(f"{EXTENSION}: {DEFLATE}; {bad}"))
        response = peer.response()
        assert response.status in (101, 400)
        assert "sec-websocket-extensions" not in response.header
        peer.close()
        held.release()


@every_way
@pytest.mark.parametrize("bad", [*BAD, *GARBAGE, "client_max_window_bits=10", "x-webkit-deflate-frame"], ids=id_of)
def test_cve_2026_2229_answer(bad: str, way: Way) -> None:
    """Section 7.1.2.2: ``client_max_window_bits`` is answered to an offer with it alone; the rest is never right."""
    sock, err, heads = connecting(
        way,
        lambda head: answer(head, f"{EXTENSION}: {DEFLATE if 'server_max' in bad else taken(head)}; {bad}"),
        compression=True,
        stays=True,
    )
    if bad == "client_max_window_bits=10" and bad[:-3] in heads[0]:
        assert err is None
        assert sock.close()
        return
    assert sock is None
    assert isinstance(err, str)


@both_transports
@pytest.mark.parametrize(
    "value",
    [
        "permessage-deflate, permessage-deflate",
        "permessage-deflate, permessage-bzip2",
        "permessage-bzip2",
        "x-webkit-deflate-frame",
        "Permessage-Deflate2",
        "",
        ",",
        "deflate",
        "permessage",
        "permessage-deflate-",
    ],
    ids=id_of,
)
def test_answer_with_other_extensions(value: str, way: Way) -> None:
    def reply(head: str) -> bytes:
        items = [taken(head) if item == DEFLATE else item for item in value.split(", ")]
        return answer(head, f"{EXTENSION}: {', '.join(items)}")

    sock, err, _ = connecting(way, reply, compression=True, stays=True)
    if not value.strip(" ,") and sock is not None:  # an empty list names none
        assert sock.compression is None
        sock.close()
        return
    assert sock is None
    assert "xtension" in err or "permessage" in err


@every_way
@pytest.mark.parametrize("value", [DEFLATE, "permessage-deflate; server_no_context_takeover", "permessage-bzip2", "x"])
def test_cve_2026_59881_extension_not_offered(value: str, way: Way) -> None:
    sock, err, _ = connecting(way, lambda head: answer(head, f"{EXTENSION}: {value}"), stays=True)
    assert sock is None
    assert "sec-websocket-extensions" in err.lower()


@both_transports
@pytest.mark.parametrize(
    "offers",
    [
        [f"{DEFLATE}; server_max_window_bits=1000, {DEFLATE}"],
        [f"{DEFLATE}; unknown", DEFLATE],
        ["permessage-bzip2", DEFLATE],
        [f"permessage-bzip2; a=b; c, {DEFLATE}"],
        [f", ,{DEFLATE},"],
    ],
)
def test_a_good_offer_behind_a_bad_one(offers: list[str], way: Way) -> None:
    with accepted(way, request(*[f"{EXTENSION}: {offer}" for offer in offers]), compression=True) as (_, _, response):
        assert response.header["sec-websocket-extensions"].startswith(DEFLATE)


@pytest.mark.parametrize("bits", range(8, 16))
def test_server_window_is_kept(bits: int) -> None:
    """An offer that names a window is declined, or what we send can be inflated with that window. zlib makes 8 to 9."""
    with accepted(TCP, request(f"{EXTENSION}: {DEFLATE}; server_max_window_bits={bits}"), compression=True) as found:
        sock, peer, response = found
        value = response.header.get("sec-websocket-extensions")
        if value is None:
            assert bits == 8
            return
        assert "server_max_window_bits" in value
        message = (os.urandom(300) + b"-" * 100) * 20
        assert sock.write(message, compress=True)
        first, got = peer.get()
        assert first == FIN | RSV1 | BINARY
        assert inflated(got, -bits) == message


@pytest.mark.parametrize("bits", range(9, 16))
def test_client_window_is_kept(bits: int) -> None:
    """A peer with the negotiated window is understood."""
    offer = request(f"{EXTENSION}: {DEFLATE}; client_max_window_bits={bits}")
    with accepted(TCP, offer, compression=True) as (sock, peer, response):
        assert DEFLATE in response.header["sec-websocket-extensions"]
        message = (os.urandom(300) + b"-" * 100) * 20
        peer.put(FIN | RSV1 | BINARY, deflated(message, window=-bits))
        assert read(sock) == (message, "binary")


@pytest.mark.parametrize("role", [server_role])
@pytest.mark.parametrize("way", [TCP, TLS], ids=["tcp", "tls"])
def test_not_negotiated_then_rsv1(role: Role, way: Way, logs: Any) -> None:
    """CVE-2026-59881: willing, but the peer has not offered it."""
    logs.expect(LOG)
    with role(way, SHORT, compression=True) as (sock, peer):
        peer.put(FIN | RSV1 | TEXT, HELLO)
        assert read(sock)[0] is None
        assert peer.get_close()[0] == 1002
