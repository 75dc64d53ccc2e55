"""RFC 7692: permessage-deflate, with a peer that uses zlib by hand and holds the echo to what was negotiated."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest

from silly.net import websocket
from silly.sync import channel

from ..helpers import BINARY, CONTINUATION, FIN, PING, PONG, TEXT, Peer, Raw, joined, raw_server, serving, spawn, switching
from .support import (
    CLIENT,
    ROLES,
    RSV1,
    SERVER,
    Application,
    Event,
    Frame,
    Link,
    RawEnd,
    Vector,
    binary,
    cases,
    check,
    client_link,
    close,
    last,
    more,
    ping,
    pong,
    server_link,
    text,
)

FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
BITS = ("server_max_window_bits", "client_max_window_bits")
TAIL = b"\x00\x00\xff\xff"
WIDE = {"server_max_window_bits": 15, "client_max_window_bits": 15}
Parameters = dict[str, str | None]


# ---- the peer's own deflate -----------------------------------------------------------------------------------------


def inflated(stream: Any, data: bytes) -> bytes:
    """In steps of 64 bytes, so that a distance beyond the window is seen, which zlib forgives within one step."""
    out = []
    for at in range(0, len(data), 256):
        rest = data[at : at + 256]
        while True:
            piece = stream.decompress(rest, 64)
            out.append(piece)
            rest = stream.unconsumed_tail
            if not rest and len(piece) < 64:
                break
    return b"".join(out)


class Codec:
    """Both directions of the peer. Sizes in bits; ``takeover``: whether the window outlives a message."""

    def __init__(self, out_bits: int, out_takeover: bool, in_bits: int, in_takeover: bool) -> None:
        # zlib has no raw window of 8 bits; its 9 never reaches back further than 250 bytes, which fits.
        self.out_bits, self.out_takeover = max(out_bits, 9), out_takeover
        self.in_bits, self.in_takeover = in_bits, in_takeover
        self.out: Any = None
        self.into: Any = None

    def squeeze(self, data: bytes) -> bytes:
        if self.out is None or not self.out_takeover:
            self.out = zlib.compressobj(wbits=-self.out_bits)
        whole = self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH)
        assert whole.endswith(TAIL)
        return whole[:-4] or b"\x00"

    def inflate(self, data: bytes) -> bytes:
        if self.into is None or not self.in_takeover:
            self.into = zlib.decompressobj(wbits=-self.in_bits)
        return inflated(self.into, data + TAIL)


def extension(value: str) -> tuple[str, Parameters]:
    """One extension of a header field; each parameter once."""
    name, *rest = [part.strip() for part in value.split(";")]
    found: Parameters = {}
    for part in rest:
        key, equals, item = part.partition("=")
        assert key not in found, f"7.1: {key} twice"
        found[key] = item.strip('"') if equals else None
    return name, found


def agreed(offer: Parameters, answer: Parameters, ours: str) -> Codec | None:
    """The codec of the side ``ours`` for an answer that is valid for the offer; None for one that isn't (7.1)."""
    bits = {}
    for key, value in answer.items():
        if key in FLAGS:
            if value is not None:
                return None
        elif key in BITS:
            if value is None or value not in [str(size) for size in range(8, 16)]:
                return None
            bits[key] = int(value)
        else:
            return None
    if "server_no_context_takeover" in offer and "server_no_context_takeover" not in answer:
        return None
    most = int(offer.get("server_max_window_bits") or 16)
    if "server_max_window_bits" in offer and bits.get("server_max_window_bits", 16) > most:
        return None
    if "client_max_window_bits" in answer and "client_max_window_bits" not in offer:
        return None
    hint = int(offer.get("client_max_window_bits") or 15)
    if bits.get("client_max_window_bits", 0) > hint:
        return None
    of_server = (bits.get("server_max_window_bits", 15), "server_no_context_takeover" not in answer)
    of_client = (bits.get("client_max_window_bits", hint), "client_no_context_takeover" not in answer)
    return Codec(*of_client, *of_server) if ours == CLIENT else Codec(*of_server, *of_client)


def written(parameters: Parameters) -> str:
    return "; ".join(["permessage-deflate", *[key if value is None else f"{key}={value}" for key, value in parameters.items()]])


@contextmanager
def squeezed(
    role: str,
    parameters: Parameters | None = None,
    compression: Any = True,
    limits: dict[str, int] | None = None,
    must: bool = True,
    app: Application = Link.echo,
) -> Iterator[tuple[Any, Any]]:
    """A link with compression: ``parameters`` are the peer's offer (to a server) or answer (to a client).

    Gives the link and the peer's codec; both None when a client refused the answer, and only the codec None when a server
    declined the offer. ``must``: neither may be.
    """
    wanted = parameters or {}
    if role == SERVER:
        with server_link(limits, [f"Sec-WebSocket-Extensions: {written(wanted)}"], app=app, compression=compression) as link:
            value = link.response.header.get("sec-websocket-extensions")
            codec = None
            if value is not None:
                name, answer = extension(value)
                assert name == "permessage-deflate"
                codec = agreed(wanted, answer, CLIENT)
                assert codec is not None, ("7.1: an answer that the offer does not allow", value)
                link.peer.inflate = codec.inflate
            assert codec is not None or not must, "declined"
            yield link, codec
        return
    heads: list[str] = []

    def fields(head: str) -> Sequence[str]:
        heads.append(head)
        return [f"Sec-WebSocket-Extensions: {written(wanted)}"]

    with client_link(limits, fields, app=app, compression=compression) as link:
        codec = agreed(offered(heads[0])[0], wanted, SERVER)
        assert codec is not None, "an answer that the offer does not allow was taken"
        link.peer.inflate = codec.inflate
        yield link, codec


def offered(head: str) -> list[Parameters]:
    """The offers of a client's request."""
    lines = [line.split(":", 1)[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-extensions:")]
    found = [extension(value) for line in lines for value in line.split(",")]
    assert {name for name, _ in found} == {"permessage-deflate"}
    return [parameters for _, parameters in found]


# ---- payloads -------------------------------------------------------------------------------------------------------

SIZES = (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)
KINDS = ("prose", "noise", "near", "far")
DICE = random.Random(7692)
NOISE = DICE.randbytes(131072)
LETTERS = "".join(DICE.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(131072)).encode()
PROSE = b"".join(b'{"id": %d, "name": "user %d", "text": "quick brown fox", "ok": true}, ' % (n, n * 7) for n in range(2000))


def payload(kind: str, size: int, salt: int = 0) -> bytes:
    """``near`` and ``far`` repeat themselves at distances that lie in small windows or only in large ones."""
    if kind == "prose":
        return (PROSE[salt * 10 :] + PROSE)[:size]
    if kind == "noise":
        return (NOISE[salt * 10 :] + NOISE)[:size]
    period = 90 if kind == "near" else (300, 700, 1500, 3000, 6000, 12000, 24000)[salt % 7]
    unit = LETTERS[salt : salt + period]
    return (unit * (size // period + 1))[:size]


def is_text(kind: str) -> bool:
    return kind != "noise"


def converse(link: Any, codec: Any, messages: Sequence[tuple[str, bytes]], mode: str = "whole", squeeze: bool = True) -> None:
    """Each message there and back, compressed by the peer if ``squeeze``."""
    for kind, data in messages:
        opcode = TEXT if is_text(kind) else BINARY
        frame = (FIN | RSV1 | opcode, codec.squeeze(data)) if squeeze else (FIN | opcode, data)
        link.peer.play([frame], mode)
        assert link.peer.event() == ("text" if is_text(kind) else "binary", data)


def test_oracle() -> None:
    """The peer's codec round-trips, and sees a distance beyond its window."""
    for bits in range(8, 16):
        codec = Codec(bits, True, bits, True)
        for kind, size in product(KINDS, (0, 16, 1024, 32768)):
            data = payload(kind, size)
            assert codec.inflate(codec.squeeze(data)) == data
    far = Codec(15, True, 8, True)
    with pytest.raises(zlib.error):
        far.inflate(far.squeeze(payload("far", 4096, 1)))
    with pytest.raises(zlib.error):
        parted = Codec(15, True, 15, False)
        for _ in range(2):
            parted.inflate(parted.squeeze(payload("noise", 100)))


# ---- every combination of parameters --------------------------------------------------------------------------------


def combinations(hints: Sequence[str | None]) -> list[Parameters]:
    """Of the two flags, the server's bits and the client's; "" for a parameter that is absent, None for one without value."""
    found = []
    for server_flag, client_flag, server, client in product(
        (False, True), (False, True), ("", *map(str, range(8, 16))), ("", *hints, *map(str, range(8, 16)))
    ):
        parameters: Parameters = {}
        if server_flag:
            parameters["server_no_context_takeover"] = None
        if client_flag:
            parameters["client_no_context_takeover"] = None
        if server:
            parameters["server_max_window_bits"] = server
        if client != "":
            parameters["client_max_window_bits"] = client
        found.append(parameters)
    return found


def named(parameters: Parameters) -> str:
    short = {FLAGS[0]: "s-reset", FLAGS[1]: "c-reset", BITS[0]: "s-bits", BITS[1]: "c-bits"}
    return "-".join(short[key] + (f"={value}" if value else "") for key, value in parameters.items()) or "none"


def talk(index: int) -> list[tuple[str, bytes]]:
    """A conversation: sizes and kinds go round, so that each meets every value of each parameter."""
    size = SIZES[index % len(SIZES)]
    count = 4 if size <= 32768 else 2
    first = index // len(SIZES) + index
    messages = [(KINDS[(first + n) % 4], payload(KINDS[(first + n) % 4], size, index + n // 2)) for n in range(count)]
    # The last one again: with takeover it is found in the window, without it must not be.
    small = ("prose", payload("prose", 200, index))
    return [*messages, small, small]


OFFERS = combinations([None])
ANSWERS = combinations([])


@pytest.mark.parametrize(
    ("index", "compression"),
    [
        pytest.param(index, compression, id=f"7.1-offer-{named(offer)}-{name}")
        for index, offer in enumerate(OFFERS)
        for name, compression in (("defaults", True), ("wide", WIDE))
        if name == "defaults" or index % 3 == 0
    ],
)
def test_offers(index: int, compression: Any) -> None:
    """A server answers each offer with an agreement that it allows and keeps to, or declines windows of 8 bits."""
    offer = OFFERS[index]
    must = "8" not in (offer.get("server_max_window_bits"), offer.get("client_max_window_bits"))
    with squeezed(SERVER, offer, compression, must=must) as (link, codec):
        link.writing = {"compress": True} if index % 2 else {}
        messages = talk(index)
        converse(link, codec, messages, squeeze=codec is not None)
        if codec is not None and index % 2:
            assert link.peer.compressed == len(messages)
        link.closes_well()


@pytest.mark.parametrize("index", range(len(ANSWERS)), ids=lambda index: f"7.1-answer-{named(ANSWERS[index])}")
def test_answers(index: int) -> None:
    """A client takes each answer that its offer allows, and keeps to it; it fails the others."""
    answer = ANSWERS[index]
    heads = channel.new()

    def script(conn: Any) -> None:
        peer = RawEnd(conn, masks=False)
        head = peer.read("\r\n\r\n").decode()
        heads.push((peer, head))
        peer.send(switching(head)[:-2] + f"Sec-WebSocket-Extensions: {written(answer)}\r\n\r\n".encode())

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}/", compression=WIDE)
        (peer, head), _ = heads.pop()
        codec = agreed(offered(head)[0], answer, SERVER)
        try:
            if codec is None or (sock is None and "8" in answer.values()):
                assert sock is None
                assert isinstance(err, str)
                peer.eof()
                return
            assert err is None
            link = Link(CLIENT)
            link.peer = peer
            link.writing = {"compress": True} if index % 2 else {}
            peer.inflate = codec.inflate
            running = spawn(lambda: link.echo(sock))
            messages = talk(index)
            converse(link, codec, messages)
            if index % 2:
                assert peer.compressed == len(messages)
            link.closes_well()
            joined(running)
        finally:
            peer.close()
            if sock is not None:
                sock.close()


@pytest.mark.parametrize(
    "options",
    [
        dict(zip((*FLAGS, *BITS), values, strict=True))
        for values in (
            (False, False, 15, 15),
            (True, False, 15, 15),
            (False, True, 15, 15),
            (True, True, 15, 15),
            (False, False, 9, 15),
            (False, False, 15, 9),
            (True, True, 9, 9),
            (False, True, 10, 14),
            (True, False, 13, 11),
        )
    ],
    ids=lambda options: "7.1-client-offers-" + "-".join(str(value) for value in options.values()),
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_offer_of_a_client(options: dict[str, Any], kind: str) -> None:
    """What a client offers is well formed, and a plain acceptance of it holds."""
    heads = channel.new()

    def script(conn: Any) -> None:
        peer = RawEnd(conn, masks=False)
        head = peer.read("\r\n\r\n").decode()
        offer = offered(head)[0]
        answer = {key: value for key, value in offer.items() if key != BITS[1] or value is not None}
        heads.push((peer, agreed(offer, answer, SERVER)))
        peer.send(switching(head)[:-2] + f"Sec-WebSocket-Extensions: {written(answer)}\r\n\r\n".encode())

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}/", compression=websocket.Deflate(**options))
        (peer, codec), _ = heads.pop()
        try:
            assert err is None
            assert codec is not None
            if options[FLAGS[0]]:
                assert not codec.out_takeover
            assert codec.out_bits <= options[BITS[0]]
            link = Link(CLIENT)
            link.peer = peer
            peer.inflate = codec.inflate
            running = spawn(lambda: link.echo(sock))
            converse(link, codec, [(kind, payload(kind, size, size % 7)) for size in (300, 5000, 40000, 300)])
            link.closes_well()
            joined(running)
        finally:
            peer.close()
            if sock is not None:
                sock.close()


# ---- sizes and kinds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "reset"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"7.2-size-{size}")
def test_sizes(size: int, kind: str, takeover: bool, role: str) -> None:
    """Several messages of each size, compressed both ways."""
    parameters: Parameters = {} if takeover else dict.fromkeys(FLAGS)
    with squeezed(role, parameters, WIDE) as (link, codec):
        link.writing = {"compress": True}
        count = 8 if size <= 4096 else 3
        converse(link, codec, [(kind, payload(kind, size, n // 2)) for n in range(count)])
        assert link.peer.compressed == count
        link.closes_well()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("segment", [2, 64, 997], ids=lambda size: f"7.2-segments-{size}")
def test_segments(segment: int, kind: str, role: str) -> None:
    with squeezed(role, {}, WIDE) as (link, codec):
        for n in range(3):
            data = payload(kind, 500 if segment == 2 else 20_000, n)
            opcode = TEXT if is_text(kind) else BINARY
            link.peer.cut(link.peer.frame(FIN | RSV1 | opcode, codec.squeeze(data)), segment)
            assert link.peer.event() == ("text" if is_text(kind) else "binary", data)
        link.closes_well()


@pytest.mark.parametrize("role", ROLES)
def test_without_compression_on_our_side(role: str) -> None:
    """7.2-false: the application may leave it; plain and compressed messages mix, and the window is kept meanwhile."""
    with squeezed(role, {}, WIDE) as (link, codec):
        for n, compress in enumerate([False, True, False, None, True] * 3):
            link.writing = {"compress": compress}
            before = link.peer.compressed
            converse(link, codec, [("prose", payload("prose", 900, n))], squeeze=n % 3 != 0)
            if compress is not None:
                assert link.peer.compressed == before + bool(compress)
        link.closes_well()


@pytest.mark.parametrize("role", ROLES)
def test_takeover_is_used(role: str) -> None:
    """7.1.1-takeover: a message that repeats the last one is far smaller then; without takeover it is not."""
    sizes: dict[bool, list[int]] = {}
    for takeover in (True, False):
        with squeezed(role, {} if takeover else dict.fromkeys(FLAGS), WIDE) as (link, codec):
            link.writing = {"compress": True}
            sizes[takeover] = []
            whole = link.peer.inflate
            link.peer.inflate = lambda data, whole=whole, takeover=takeover: sizes[takeover].append(len(data)) or whole(data)
            converse(link, codec, [("far", LETTERS[:2000])] * 2)
            link.closes_well()
    assert sizes[True][1] < 200 < sizes[True][0]
    assert sizes[False][0] == sizes[False][1]


# ---- frames as RFC 7692 prints them, and odd streams ----------------------------------------------------------------

HELLO = [("text", b"Hello")]
CT = FIN | RSV1 | TEXT
PRINTED: dict[str, tuple[list[Frame], list[Event]]] = {
    "7.2.3.1-hello": ([(CT, bytes.fromhex("f248cdc9c90700"))], HELLO),
    "7.2.3.1-hello-in-two": ([(RSV1 | TEXT, bytes.fromhex("f248cd")), last(bytes.fromhex("c9c90700"))], HELLO),
    "7.2.3.2-window": ([(CT, bytes.fromhex("f248cdc9c90700")), (CT, bytes.fromhex("f200110000"))], HELLO * 2),
    "7.2.3.3-stored": ([(CT, bytes.fromhex("000500faff48656c6c6f00"))], HELLO),
    "7.2.3.4-final-block": ([(CT, bytes.fromhex("f348cdc9c9070000"))], HELLO),
    "7.2.3.4-final-block-and-more": (
        [(CT, bytes.fromhex("f348cdc9c9070000")), (CT, bytes.fromhex("f248cdc9c90700")), (CT, bytes.fromhex("f200110000"))],
        HELLO * 3,
    ),
    "7.2.3.5-two-blocks": ([(CT, bytes.fromhex("f248050000 00ffffcac9c90700"))], HELLO),
    "7.2.3.6-empty": ([(CT, b"\x00")], [("text", b"")]),
    "7.2.3.6-empty-binary": ([(FIN | RSV1 | BINARY, b"\x00")], [("binary", b"")]),
    "7.2.3.6-empty-by-a-block": ([(CT, bytes.fromhex("0200"))], [("text", b"")]),
    "7.2.3.6-empty-in-fragments": ([(RSV1 | TEXT, b""), more(b""), last(b"\x00")], [("text", b"")]),
    "7.2.3.6-empty-then-hello": ([(CT, b"\x00"), (CT, bytes.fromhex("f248cdc9c90700"))], [("text", b""), *HELLO]),
    "6.1-plain": ([text("Hello")], HELLO),
    "6.1-plain-empty": ([text(""), binary(b"")], [("text", b""), ("binary", b"")]),
    "6.1-plain-and-compressed": (
        [text("Hello"), (CT, bytes.fromhex("f248cdc9c90700")), text("Hello"), (CT, bytes.fromhex("f200110000")), binary(b"x")],
        [*HELLO * 4, ("binary", b"x")],
    ),
    "6.1-plain-fragments": ([text("Hel", final=False), ping(b"p"), last("lo")], [("pong", b"p"), *HELLO]),
    "6.1-controls-between": (
        [
            (RSV1 | TEXT, bytes.fromhex("f2")),
            ping(b"1"),
            more(bytes.fromhex("48cd")),
            pong(b"2"),
            more(b""),
            ping(b"3"),
            last(bytes.fromhex("c9c90700")),
        ],
        [("pong", b"1"), ("pong", b"3"), *HELLO],
    ),
    "6.1-empty-first-fragment": ([(RSV1 | TEXT, b""), last(bytes.fromhex("f248cdc9c90700"))], HELLO),
    "6.1-empty-last-fragment": ([(RSV1 | TEXT, bytes.fromhex("f248cdc9c90700")), last(b"")], HELLO),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", ["whole", "frames", "octets"])
@pytest.mark.parametrize("name", PRINTED)
def test_printed(name: str, mode: str, role: str) -> None:
    frames, due = PRINTED[name]
    with squeezed(role, {}, WIDE) as (link, _):
        link.peer.play(frames, mode)
        got = [link.peer.event() for _ in due]
        assert [event for event in got if event[0] != "pong"] == [event for event in due if event[0] != "pong"]
        assert [event for event in got if event[0] == "pong"] == [event for event in due if event[0] == "pong"]
        link.closes_well()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ["prose", "noise", "far"])
@pytest.mark.parametrize("count", [2, 3, 10, 200, 0], ids=lambda count: f"6.1-fragments-{count or 'octets'}")
def test_fragments(count: int, kind: str, role: str) -> None:
    """Compressed messages in fragments, a control frame in each gap."""
    with squeezed(role, {}, WIDE) as (link, codec):
        for n in range(3):
            data = payload(kind, 6000 if count else 700, n)
            wire = codec.squeeze(data)
            size = -(-len(wire) // count) if count else 1
            parts = [wire[at : at + size] for at in range(0, len(wire), size)]
            first = RSV1 | (TEXT if is_text(kind) else BINARY)
            pings = 0
            for at, part in enumerate(parts):
                end = FIN if at == len(parts) - 1 else 0
                link.peer.put(end | (CONTINUATION if at else first), part)
                if not end:
                    link.peer.put(FIN | (PING if at % 2 else PONG), b"%d" % at)
                    pings += at % 2
            got = [link.peer.event() for _ in range(pings + 1)]
            assert [event for event in got if event[0] != "pong"] == [("text" if is_text(kind) else "binary", data)]
            assert [event for event in got if event[0] == "pong"] == [("pong", b"%d" % at) for at in range(1, 2 * pings, 2)]
        link.closes_well()


def test_close_inside_a_compressed_message() -> None:
    """7.1.5-close-inside: answered with its code."""
    for role in ROLES:
        with squeezed(role, {}, WIDE) as (link, codec):
            wire = codec.squeeze(payload("prose", 500))
            link.peer.put(RSV1 | TEXT, wire[:100])
            link.peer.put(*close(1001))
            assert link.peer.event() == ("close", b"\x03\xe9")
            link.tcp_ends()
            link.until_ended()
            assert link.messages == []


# ---- faults ---------------------------------------------------------------------------------------------------------

WORD = bytes.fromhex("f248cdc9c90700")


def raw_deflate(data: bytes) -> bytes:
    codec = Codec(15, True, 15, True)
    return codec.squeeze(data)


BAD_TEXT = raw_deflate(b"\xed\xa0\x80")
FAULTS: dict[str, tuple[list[Frame], list[Event], int]] = {
    "6.1-rsv1-on-a-continuation": ([(RSV1 | TEXT, WORD[:3]), (FIN | RSV1 | CONTINUATION, WORD[3:])], [], 1002),
    "6.1-rsv1-on-a-middle-one": ([(RSV1 | TEXT, WORD[:3]), (RSV1, WORD[3:4]), last(WORD[4:])], [], 1002),
    "6.1-rsv1-on-a-plain-messages-continuation": ([text("a", final=False), (FIN | RSV1, b"b")], [], 1002),
    "6.1-rsv1-on-an-orphan": ([(FIN | RSV1, b"")], [], 1002),
    "6.1-rsv1-on-a-ping": ([(FIN | RSV1 | PING, b"x")], [], 1002),
    "6.1-rsv1-on-a-pong": ([(FIN | RSV1 | PONG, b"")], [], 1002),
    "6.1-rsv1-on-a-close": ([(FIN | RSV1 | 8, b"\x03\xe8")], [], 1002),
    "6.1-rsv1-on-a-ping-inside": ([(RSV1 | TEXT, WORD[:3]), (FIN | RSV1 | PING, b""), last(WORD[3:])], [], 1002),
    **{
        f"5.2-rsv-{bits}-on-{name}": ([(CT, WORD), (FIN | bits << 4 | opcode, b"x")], HELLO, 1002)
        for bits in (1, 2, 3, 5, 6, 7)
        for name, opcode in (("text", TEXT), ("binary", BINARY), ("ping", PING))
    },
    "7.2.2-block-type-3": ([(CT, b"\xff\xff\xff")], [], 1007),
    "7.2.2-stored-length": ([(CT, b"\x00\x05\x00\x00\x00Hello\x00")], [], 1007),
    "7.2.2-bad-distance": ([(CT, bytes.fromhex("f200110000"))], [], 1007),
    "7.2.2-bad-behind-a-good-one": ([(CT, WORD), (CT, b"\xff\xff\xff")], HELLO, 1007),
    "7.2.2-bad-in-a-fragment": ([(RSV1 | TEXT, WORD[:3]), last(b"\xff\xff\xff\xff")], [], 1007),
    "7.2.2-cut": ([(FIN | RSV1 | BINARY, raw_deflate(NOISE[:500])[:-20])], [], 1007),
    "7.2.2-cut-in-fragments": ([(RSV1 | BINARY, raw_deflate(NOISE[:500])[:-20]), last(b"")], [], 1007),
    "7.2.2-cut-in-a-stored-block": ([(CT, b"\x00\x05\x00\xfa\xffHel")], [], 1007),
    "8.1-bad-text": ([(CT, raw_deflate(b"ok \xff text"))], [], 1007),
    "8.1-cut-text": ([(CT, raw_deflate("€".encode()[:2]))], [], 1007),
    "8.1-bad-text-in-fragments": ([(RSV1 | TEXT, BAD_TEXT[:2]), last(BAD_TEXT[2:])], [], 1007),
    "8.1-surrogate": ([(CT, raw_deflate(b"\xed\xa0\x80"))], [], 1007),
    "5.4-message-inside": ([(RSV1 | TEXT, WORD[:3]), (CT, WORD)], [], 1002),
    "5.4-plain-message-inside": ([(RSV1 | TEXT, WORD[:3]), text("x")], [], 1002),
    "5.2-unknown-opcode": ([(FIN | RSV1 | 3, b"")], [], 1002),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", ["whole", "frames", "octets"])
@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, mode: str, role: str, logs: Any) -> None:
    frames, due, code = FAULTS[name]
    logs.allow(r"^INFO websocket: ")
    with squeezed(role, {}, WIDE) as (link, _):
        link.peer.play([*frames, text("late")], mode)
        for event in due:
            assert link.peer.event() == event
        link.fails(code)
        assert link.messages == due


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("fragments", [1, 2, 50], ids=lambda count: f"8-bomb-in-{count}")
@pytest.mark.parametrize("size", [100_001, 5_000_000], ids=["one-more", "fiftyfold"])
def test_bombs(size: int, fragments: int, role: str, logs: Any) -> None:
    """The limit is that of the inflated message; 1009 without inflating it all."""
    logs.allow(r"^INFO websocket: ")
    wire = raw_deflate(b"\0" * size)
    with squeezed(role, {}, WIDE, {"message": 100_000}) as (link, codec):
        converse(link, codec, [("prose", payload("prose", 100_000))])
        codec.out = None
        step = -(-len(wire) // fragments)
        parts = [wire[at : at + step] for at in range(0, len(wire), step)]
        frames = [(CONTINUATION if at else RSV1 | BINARY, part) for at, part in enumerate(parts)]
        frames[-1] = (frames[-1][0] | FIN, frames[-1][1])
        link.peer.play(frames, "whole")
        link.fails(1009)


def unasked() -> list[Vector]:
    found = []
    for name, frames in {
        "text": [(CT, WORD)],
        "binary": [(FIN | RSV1 | BINARY, WORD)],
        "empty": [(CT, b"\x00")],
        "no-payload": [(CT, b"")],
        "fragments": [(RSV1 | TEXT, WORD[:3]), last(WORD[3:])],
        "continuation": [text("a", final=False), (FIN | RSV1, b"b")],
        "ping": [(FIN | RSV1 | PING, b"")],
    }.items():
        found.append(Vector(f"6-rsv1-without-negotiation-{name}", [*frames, text("late")], [], 1002))
        found.append(Vector(f"6-rsv1-without-negotiation-{name}-later", [text("a"), *frames], [("text", b"a")], 1002))
    return found


@cases(unasked())
def test_not_negotiated(vector: Vector, role: str, mode: str, logs: Any) -> None:
    """CVE-2026-59881: nothing is inflated that was not agreed on."""
    check(vector, role, mode, logs)


@pytest.mark.parametrize("enabled", [True, False], ids=["7-nobody-asked", "7-enabled-but-not-agreed"])
def test_client_whose_offer_was_declined(enabled: bool, logs: Any) -> None:
    logs.allow(r"^INFO websocket: ")
    with client_link(compression=enabled) as link:
        assert link.sock is None or link.sock.compression is None
        link.peer.put(*text("plain"))
        assert link.peer.event() == ("text", b"plain")
        assert link.sock.compression is None
        link.peer.put(CT, WORD)
        link.fails(1002)


# ---- offers and answers that are wrong ------------------------------------------------------------------------------

BAD_VALUES = [
    "server_no_context_takeover=true",
    "server_no_context_takeover=1",
    "client_no_context_takeover=0",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits",
    *[
        f"{side}_max_window_bits={value}"
        for side in ("server", "client")
        for value in ("7", "16", "0", "08", "010", "1000", "-9", "+9", "9.0", "0x9", "x", '"x"', "99999999999999999999")
    ],
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=10; client_max_window_bits=11",
    "client_max_window_bits; client_max_window_bits=10",
    "unknown",
    "unknown=1",
    "server_no_context_takeover; unknown",
    "server_max_window_bits=10; client_max_window_bits=99",
]


@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: f"7.1-bad-offer-{value}")
def test_bad_offers(value: str, logs: Any) -> None:
    """A server declines such an offer and goes on without; a good one behind it still counts."""
    logs.allow(r"^INFO websocket: ")
    bad = f"Sec-WebSocket-Extensions: permessage-deflate; {value}"
    with server_link(None, [bad], compression=True) as link:
        assert "sec-websocket-extensions" not in link.response.header
        link.peer.put(*text("plain"))
        assert link.peer.event() == ("text", b"plain")
        assert link.sock.compression is None
        link.peer.put(CT, WORD)
        link.fails(1002)
    for fields in ([f"{bad}, permessage-deflate"], [bad, "Sec-WebSocket-Extensions: permessage-deflate"]):
        with server_link(None, fields, compression=True) as link:
            name, answer = extension(link.response.header["sec-websocket-extensions"])
            assert name == "permessage-deflate"
            codec = agreed({}, answer, CLIENT)
            assert codec is not None
            link.peer.inflate = codec.inflate
            link.peer.put(CT, codec.squeeze(b"Hello"))
            assert link.peer.event() == ("text", b"Hello")
            link.closes_well()


MALFORMED = [
    "permessage-deflate; server_no_context_takeover=",
    "permessage-deflate; server_max_window_bits=",
    'permessage-deflate; client_max_window_bits=""',
    'permessage-deflate; client_max_window_bits="10',
    'x-unknown; a="b, c; d", permessage-deflate',
    "permessage-deflate;",
    "permessage-deflate; ; client_max_window_bits",
    "permessage-deflate client_max_window_bits",
    "permessage-deflate; client max window bits",
    "permessage/deflate",
    "permessage-deflate; =10",
    "; client_max_window_bits",
    "=",
]


@pytest.mark.parametrize("value", MALFORMED, ids=lambda value: f"9.1-malformed-{value}")
def test_malformed_offers(value: str, logs: Any) -> None:
    """RFC 6455, 9.1: what the grammar doesn't know (nor a quoted value that is no token) fails the handshake."""
    logs.allow(r"^INFO websocket: ")
    results = []

    def handler(stream: Any) -> None:
        results.append(websocket.upgrade(stream, compression=True))

    with serving(handler) as server, Raw.connect(server) as peer:
        peer.send(Peer.upgrade_request(f"Sec-WebSocket-Extensions: {value}"))
        assert peer.response().status == 400
        peer.eof()
    assert results[0][0] is None


GOOD_OFFERS = {
    "5.1-upper-case-field": ["SEC-WEBSOCKET-EXTENSIONS: permessage-deflate"],
    "5.1-spaces": ["Sec-WebSocket-Extensions:  permessage-deflate ;  client_max_window_bits \t"],
    "5.1-no-spaces": ["Sec-WebSocket-Extensions:permessage-deflate;client_max_window_bits;server_no_context_takeover"],
    "5.1-behind-an-unknown-one": ["Sec-WebSocket-Extensions: x-unknown; a=1, permessage-deflate"],
    "5.1-before-an-unknown-one": ["Sec-WebSocket-Extensions: permessage-deflate, x-webkit-deflate-frame"],
    "5.1-behind-a-quoted-value": ['Sec-WebSocket-Extensions: x-unknown; a="b"; c="d", permessage-deflate'],
    "5.1-two-lines": ["Sec-WebSocket-Extensions: x-unknown", "Sec-WebSocket-Extensions: permessage-deflate"],
    "5.1-two-offers": ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, permessage-deflate"],
    "5.1-empty-elements": ["Sec-WebSocket-Extensions: , permessage-deflate,"],
}


@pytest.mark.parametrize("name", GOOD_OFFERS)
def test_ways_of_offering(name: str) -> None:
    with server_link(None, GOOD_OFFERS[name], compression=True) as link:
        extension_name, answer = extension(link.response.header["sec-websocket-extensions"])
        assert extension_name == "permessage-deflate"
        offer: Parameters = {"client_max_window_bits": None} if "client_max_window_bits" in GOOD_OFFERS[name][0] else {}
        codec = agreed(offer, answer, CLIENT)
        assert codec is not None
        link.peer.inflate = codec.inflate
        converse(link, codec, [("prose", payload("prose", 2000))] * 2)
        assert link.sock.compression is not None
        link.closes_well()


@pytest.mark.parametrize("role", ROLES)
def test_off_by_default(role: str) -> None:
    """7-off: neither offered nor answered unless the application asks."""
    if role == SERVER:
        with server_link(None, ["Sec-WebSocket-Extensions: permessage-deflate"]) as link:
            assert "sec-websocket-extensions" not in link.response.header
            link.peer.put(*text("x"))
            assert link.peer.event() == ("text", b"x")
            assert link.sock.compression is None
            link.closes_well()
    else:
        heads: list[str] = []
        with client_link(None, lambda head: heads.append(head) or ()) as link:
            assert "extensions" not in heads[0].lower()
            link.closes_well()


BAD_ANSWERS = [
    *[f"permessage-deflate; {value}" for value in BAD_VALUES],
    *MALFORMED,
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate, permessage-deflate",
    "permessage-deflate, x-unknown",
    "x-unknown",
    "x-webkit-deflate-frame",
    "permessage-bzip2",
]


@pytest.mark.parametrize("value", BAD_ANSWERS, ids=lambda value: f"7.1-bad-answer-{value}")
def test_bad_answers(value: str) -> None:
    """CVE-2026-2229: a client fails the connection for such an answer."""
    peers = channel.new()

    def script(conn: Any) -> None:
        peer = RawEnd(conn, masks=False)
        peers.push(peer)
        peer.send(switching(peer.read("\r\n\r\n").decode())[:-2] + f"Sec-WebSocket-Extensions: {value}\r\n\r\n".encode())

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}/", compression=WIDE)
        peer, _ = peers.pop()
        try:
            assert sock is None
            assert isinstance(err, str)
            peer.eof()
        finally:
            peer.close()
            if sock is not None:
                sock.close()
