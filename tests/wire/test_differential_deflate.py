"""Compressed streams against wsproto and websockets: verdicts and messages agree, but for the differences listed here.

The negotiation is compared with websockets in test_deflate.py, and with wsproto here: ``OFFERS`` are those that it understands
otherwise. A difference in what is read has a test of the input, written from the RFCs and zlib alone, and a row that needs it:

- ``ENDS_WITHIN``: a message may not end within a block (RFC 7692, section 7.2.2, takes the four last bytes off a flushed
  stream, so it ends between blocks). They take what has come of it, and the rest of the block from the next message.
- ``FINAL_BLOCK``: a block with BFINAL=1 may come anywhere (section 7.2.3.4 for the last). Their zlib stream has ended then:
  the rest of the message is lost, and with context takeover every later message. We go on with a new stream.
- ``EARLIER``: we tell a fault at its first byte: in a frame that is not whole yet, and in half a surrogate, which CPython's
  decoder, theirs, keeps until its third byte has come; control frames may pass before that.
- ``CONTROL_WITHIN`` (wsproto): a control frame between the fragments of a compressed message. wsproto forgets then that the
  message is compressed (it resets its state at any frame's end).
- ``CODE_1014`` (wsproto): IANA registered it after the RFC.
- ``CODE_1007`` (websockets): we refuse damaged data with 1007, as wsproto does; websockets with 1002.
- ``LONG_LENGTH`` (websockets): a length that isn't in its shortest form is an error (RFC 6455, section 5.2).
- ``CLOSE_WITHIN`` (websockets): a close frame between fragments is a close frame, not an error (RFC 6455, section 5.4).
- ``TWO_FAULTS`` (websockets): a close frame whose code may not be sent, and whose reason isn't UTF-8. We tell the first.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from silly._wire.deflate import NAME, Deflate, Inflater, Parameters, check_answer, negotiate, offer
from silly._wire.error import ProtocolError
from silly._wire.limits import Limits
from silly._wire.ws import MessageReader, parse_close

from .strategies import CLOSES, STEADY, TEXTS, damaged
from .support import BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, attempt, encode, naive_mask

ENDS_WITHIN = "ends within a block"
FINAL_BLOCK = "goes on after a final block"
EARLIER = "told earlier"
CONTROL_WITHIN = "a control frame within a compressed message"
CODE_1014 = "1014 may be sent"
CODE_1007 = "1007, not 1002"
LONG_LENGTH = "a length not in its shortest form"
CLOSE_WITHIN = "a close frame within a message"
TWO_FAULTS = "the first of two faults"

RSV1 = 0x40
TAIL = b"\0\0\xff\xff"
NO_LIMITS = Limits(message=2**63 - 1, fragments=2**40)
"""The others are given none."""
HELLO = bytes.fromhex("f248cdc9c90700")
AGAIN = bytes.fromhex("f200110000")
"""Hello once more, out of the window."""


class Verdict(NamedTuple):
    messages: list[tuple[int, Any]]
    """Up to the first close frame, which stands there as its code and reason."""
    code: int | None


# ---- three readers ----------------------------------------------------------------------------------------------------


def our_read(data: bytes, server: bool, forgets: bool) -> Verdict:
    reader = MessageReader(server, NO_LIMITS, Inflater(forgets, 15))
    buf = bytearray(data)
    messages: list[tuple[int, Any]] = []
    try:
        while not isinstance(got := reader.next(buf), int):
            if got[0] == CLOSE:
                return Verdict([*messages, (CLOSE, parse_close(got[1]))], None)
            messages.append(got)
    except ProtocolError as exc:
        return Verdict(messages, exc.code)
    return Verdict(messages, None)


def wsproto_read(data: bytes, server: bool, forgets: bool) -> Verdict:
    extension = WsprotoDeflate()
    takeover = "; client_no_context_takeover; server_no_context_takeover" if forgets else ""
    extension.finalize(f"{NAME}{takeover}")
    protocol = FrameProtocol(client=not server, extensions=[extension])
    protocol.receive_bytes(data)
    messages: list[tuple[int, Any]] = []
    parts: list[Any] = []
    try:
        for frame in protocol.received_frames():
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                parts.append(frame.payload)
                if frame.message_finished:
                    messages.append((int(frame.opcode), type(parts[0])().join(parts)))
                    parts = []
            elif frame.opcode is Opcode.CLOSE:
                messages.append((CLOSE, (int(frame.payload[0]), frame.payload[1])))
            else:
                messages.append((int(frame.opcode), bytes(frame.payload)))
    except ParseFailed as exc:
        return Verdict(messages, int(exc.code))
    return Verdict(messages, None)


def websockets_read(data: bytes, server: bool, forgets: bool) -> Verdict:
    """Its frames, put together as its own connections do it."""
    protocol = Protocol(SERVER if server else CLIENT, state=OPEN, max_size=None)
    protocol.extensions = [PerMessageDeflate(forgets, forgets, 15, 15)]
    protocol.receive_data(data)
    messages: list[tuple[int, Any]] = []
    parts: list[Any] = []
    opcode = TEXT
    decoder = codecs.getincrementaldecoder("utf-8")()
    for frame in protocol.events_received():
        assert not isinstance(frame, (str, bytes))
        kind, payload = int(frame.opcode), bytes(frame.data)  # type: ignore[union-attr]
        if kind == CLOSE:
            return Verdict([*messages, (CLOSE, parse_close(payload))], None)
        if kind in (PING, PONG):
            messages.append((kind, payload))
            continue
        opcode = kind or opcode
        try:
            parts.append(decoder.decode(payload, frame.fin) if opcode == TEXT else payload)  # type: ignore[union-attr]
        except UnicodeDecodeError:
            return Verdict(messages, 1007)
        if frame.fin:  # type: ignore[union-attr]
            messages.append((opcode, type(parts[0])().join(parts)))
            parts = []
    if protocol.parser_exc is None:
        return Verdict(messages, None)
    assert protocol.close_sent is not None
    return Verdict(messages, protocol.close_sent.code)


# ---- what is in a stream, by the RFCs and zlib alone --------------------------------------------------------------------


def close_facts(payload: bytes) -> str | None:
    code = int.from_bytes(payload[:2], "big")
    if code == 1014:
        return CODE_1014
    allowed = 1000 <= code <= 1003 or 1007 <= code <= 1013 or 3000 <= code <= 4999
    return None if allowed or payload[2:].decode("utf-8", "ignore").encode() == payload[2:] else TWO_FAULTS


def ends_between_blocks(stream: Any) -> bool:
    try:
        if stream.decompress(TAIL):
            return False
        if stream.eof:
            return not stream.unused_data
        # Between blocks, and only there, an empty final block ends the stream.
        probe = stream.copy()
        probe.decompress(b"\x03\x00")
        return bool(probe.eof)
    except zlib.error:
        return False


def facts(data: bytes, server: bool, forgets: bool) -> dict[str, int]:
    """What may be read otherwise, and how many messages come before it: of the frames that are whole, up to the first fault
    of the compressed data."""
    reasons: dict[str, int] = {}
    stream = zlib.decompressobj(-15)
    at = messages = 0
    opened = compressed = False
    while len(data) - at >= 2:
        first, length = data[at], data[at + 1] & 0x7F
        start = at + 2 + {126: 2, 127: 8}.get(length, 0)
        if length > 125:
            length = int.from_bytes(data[at + 2 : start], "big")
            if length < (126 if start == at + 4 else 65536):
                reasons.setdefault(LONG_LENGTH, messages)
        key = data[start : start + 4] if server else bytes(4)
        start += 4 if server else 0
        at = start + length
        if at > len(data):
            break
        payload = naive_mask(data[start:at], key)
        if first & 0x0F >= CLOSE:
            if opened and compressed:
                reasons.setdefault(CONTROL_WITHIN, messages)
            if first & 0x0F == CLOSE:
                if opened:
                    reasons.setdefault(CLOSE_WITHIN, messages)
                if found := close_facts(payload):
                    reasons.setdefault(found, messages)
            messages += 1
            continue
        if not opened:
            compressed = bool(first & RSV1)
        opened = not first & FIN
        if compressed:
            try:
                while payload:
                    stream.decompress(payload)
                    payload = stream.unused_data
                    if stream.eof:
                        reasons.setdefault(FINAL_BLOCK, messages)
                        stream = zlib.decompressobj(-15)
            except zlib.error:
                return {**reasons, CODE_1007: messages}
            if not opened:
                if not ends_between_blocks(stream):
                    return {**reasons, ENDS_WITHIN: messages, CODE_1007: messages}
                if stream.eof:
                    reasons.setdefault(FINAL_BLOCK, messages)
                if stream.eof or forgets:
                    stream = zlib.decompressobj(-15)
        messages += not opened
    return reasons


def compare(data: bytes, server: bool, forgets: bool, read: Callable[[bytes, bool, bool], Verdict]) -> str | None:
    """The reason of a difference that is meant, or None when there is no difference."""
    ours, theirs = our_read(data, server, forgets), read(data, server, forgets)
    if ours == theirs:
        return None
    known = facts(data, server, forgets)
    common = theirs.messages[: len(ours.messages)] == ours.messages

    def before(reason: str) -> bool:
        """Whether that is in the data, and what comes before it is read alike."""
        return reason in known and theirs.messages[: known[reason]] == ours.messages[: known[reason]]

    if before(ENDS_WITHIN) and ours.code == 1007 and len(ours.messages) == known[ENDS_WITHIN] and common:
        return ENDS_WITHIN
    if before(FINAL_BLOCK):
        return FINAL_BLOCK
    if read is wsproto_read and before(CONTROL_WITHIN):
        return CONTROL_WITHIN
    if read is wsproto_read and before(CODE_1014) and theirs.code == 1002:
        return CODE_1014
    if read is websockets_read:
        if before(CLOSE_WITHIN) and theirs.code == 1002 and theirs.messages == ours.messages[:-1]:
            return CLOSE_WITHIN
        if before(LONG_LENGTH) and ours.code == 1002 and common:
            return LONG_LENGTH
        if TWO_FAULTS in known and (ours.code, theirs.code) == (1002, 1007) and ours.messages == theirs.messages:
            return TWO_FAULTS
        if CODE_1007 in known and (ours.code, theirs.code) == (1007, 1002) and ours.messages == theirs.messages:
            return CODE_1007
    passed = theirs.messages[len(ours.messages) :]
    if ours.code is not None and theirs.code in (None, ours.code) and common and all(kind > BINARY for kind, _ in passed):
        return EARLIER
    pytest.fail(f"{data.hex(' ')}, server {server}, forgets {forgets}: we say {ours}, {read.__name__} {theirs}, {known}")


# ---- generated streams --------------------------------------------------------------------------------------------------


def squeezed(stream: Any, payload: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    return bytes(stream.compress(payload) + stream.flush(flush))


@st.composite
def deflated_streams(draw: Any, server: bool) -> tuple[bytes, bool]:
    """Messages, most of them compressed, in fragments with control frames between; then damaged. And whether they are without
    context takeover."""
    forgets = draw(st.booleans())
    stream = zlib.compressobj(wbits=-15)
    out = b""
    for _ in range(draw(st.integers(1, 4))):
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        payload = draw(st.one_of(TEXTS, st.binary(max_size=80), st.sampled_from([b"word " * 40, b"", b"Hello"])))
        rsv = RSV1 if draw(st.sampled_from([True, True, True, False])) else 0
        if rsv:
            stream = zlib.compressobj(draw(st.sampled_from([0, 6])), wbits=-15) if forgets else stream
            payload = squeezed(stream, payload)[:-4] or b"\0"
            kind = draw(st.sampled_from(["good"] * 12 + ["raw", "cut", "final"]))
            if kind == "raw":
                payload = draw(st.one_of(st.binary(max_size=20), st.sampled_from([HELLO, AGAIN, b"", b"\x03\0\0", b"\x07"])))
            elif kind == "cut":
                payload = payload[: draw(st.integers(0, len(payload)))]
            elif kind == "final":
                payload = squeezed(zlib.compressobj(wbits=-15), b"final", zlib.Z_FINISH) + b"\0"
        at = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=2)))
        parts = [payload[i:j] for i, j in zip([0, *at], [*at, len(payload)], strict=True)]
        for index, part in enumerate(parts):
            if draw(st.sampled_from([False] * 5 + [True])):
                out += encode(FIN | draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=5)), server)
            first = (CONT if index else opcode | rsv) | (FIN if index == len(parts) - 1 else 0)
            form = draw(st.sampled_from([None] * 30 + [2, 8]))
            out += encode(first, part, server, form, draw(st.sampled_from([b"\x37\xfa\x21\x3d", bytes(4)])))
        if draw(st.sampled_from([False] * 9 + [True])):
            out += encode(FIN | CLOSE, draw(CLOSES), server)
    return bytes(draw(damaged(out))), forgets


READERS = [pytest.param(wsproto_read, id="wsproto"), pytest.param(websockets_read, id="websockets")]
ROLES = [pytest.param(True, id="server"), pytest.param(False, id="client")]
TAKEOVER = [pytest.param(False, id="takeover"), pytest.param(True, id="no-takeover")]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("server", ROLES)
def test_streams(read: Callable[[bytes, bool, bool], Verdict], server: bool) -> None:
    reasons: list[str | None] = []

    @STEADY
    @given(deflated_streams(server))
    def run(case: tuple[bytes, bool]) -> None:
        data, forgets = case
        reasons.append(compare(data, server, forgets, read))

    run()
    assert reasons.count(None) > len(reasons) / 2, "most of what is generated is read alike"


ROWS: list[tuple[str, list[tuple[int, bytes]], str | None, str | None]] = [
    ("hello", [(FIN | RSV1 | TEXT, HELLO)], None, None),
    ("twice", [(FIN | RSV1 | TEXT, HELLO), (FIN | RSV1 | TEXT, AGAIN)], None, None),
    ("plain between", [(FIN | RSV1 | TEXT, HELLO), (FIN | TEXT, b"x"), (FIN | RSV1 | TEXT, HELLO)], None, None),
    ("fragments", [(RSV1 | TEXT, HELLO[:3]), (CONT, b""), (FIN, HELLO[3:])], None, None),
    ("ping before", [(FIN | PING, b"p"), (FIN | RSV1 | TEXT, HELLO)], None, None),
    ("compressed ping", [(FIN | RSV1 | PING, b"p")], None, None),
    ("compressed continuation", [(RSV1 | TEXT, HELLO[:3]), (FIN | RSV1, HELLO[3:])], None, None),
    ("compressed only later", [(TEXT, b"a"), (FIN | RSV1, HELLO)], None, None),
    ("not UTF-8", [(FIN | RSV1 | TEXT, bytes.fromhex("fa0f00"))], None, None),
    ("nothing", [(FIN | RSV1 | BINARY, b"")], ENDS_WITHIN, ENDS_WITHIN),
    ("cut", [(FIN | RSV1 | BINARY, HELLO[:3])], ENDS_WITHIN, ENDS_WITHIN),
    ("cut, then another", [(FIN | RSV1 | BINARY, HELLO[:3]), (FIN | RSV1 | BINARY, HELLO)], ENDS_WITHIN, ENDS_WITHIN),
    ("final block", [(FIN | RSV1 | TEXT, bytes.fromhex("f348cdc9c9070000"))], None, None),
    ("more after it", [(FIN | RSV1 | TEXT, bytes.fromhex("f348cdc9c90700") + HELLO)], FINAL_BLOCK, FINAL_BLOCK),
    ("damaged", [(FIN | RSV1 | TEXT, b"\x07")], None, CODE_1007),
    ("ping within", [(RSV1 | TEXT, HELLO[:3]), (FIN | PING, b"p"), (FIN, HELLO[3:])], CONTROL_WITHIN, None),
    ("close within", [(TEXT, b"a"), (FIN | CLOSE, b"\x03\xe8")], None, CLOSE_WITHIN),
    ("1014", [(FIN | CLOSE, (1014).to_bytes(2, "big"))], CODE_1014, None),
    ("two faults", [(FIN | CLOSE, b"\x03\xe7\xff")], None, TWO_FAULTS),
]


@pytest.mark.parametrize("forgets", TAKEOVER)
@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(("frames", "wsproto", "websockets"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_each_difference(
    frames: list[tuple[int, bytes]], wsproto: str | None, websockets: str | None, server: bool, forgets: bool
) -> None:
    if forgets and AGAIN in [payload for _, payload in frames]:
        websockets = CODE_1007  # it refers to what is forgotten
    data = b"".join(encode(first, payload, server) for first, payload in frames)
    assert (compare(data, server, forgets, wsproto_read), compare(data, server, forgets, websockets_read)) == (
        wsproto,
        websockets,
    )


@pytest.mark.parametrize("server", ROLES)
def test_after_a_final_block(server: bool) -> None:
    """With context takeover the others have lost every later message; without it they are back with the next."""
    final = encode(FIN | RSV1 | TEXT, bytes.fromhex("f348cdc9c9070000"), server)
    data = final + encode(FIN | RSV1 | TEXT, HELLO, server)
    assert our_read(data, server, False) == our_read(data, server, True) == ([(TEXT, "Hello")] * 2, None)
    for read in (wsproto_read, websockets_read):
        assert compare(data, server, True, read) is None
        assert compare(data, server, False, read) == FINAL_BLOCK


@pytest.mark.parametrize("server", ROLES)
def test_lengths(server: bool) -> None:
    for form in (2, 8):
        data = encode(FIN | RSV1 | TEXT, HELLO, server, form)
        assert compare(data, server, True, websockets_read) == LONG_LENGTH
        assert compare(data, server, True, wsproto_read) is None


# ---- negotiation with wsproto -------------------------------------------------------------------------------------------

BITS = st.integers(9, 15)
"""wsproto has no window of 8 bits."""


@STEADY
@given(st.booleans(), st.booleans(), BITS, BITS, st.booleans(), st.booleans(), BITS, BITS)
def test_wsproto_offers(a: bool, b: bool, server: int, client: int, c: bool, d: bool, most: int, least: int) -> None:
    """What it offers we accept, and it takes the answer; both sides mean the same then."""
    theirs = WsprotoDeflate(
        client_no_context_takeover=a, server_no_context_takeover=b, server_max_window_bits=server, client_max_window_bits=client
    )
    options = Deflate(
        client_no_context_takeover=c, server_no_context_takeover=d, server_max_window_bits=most, client_max_window_bits=least
    )
    got = negotiate(f"{NAME}; {theirs.offer()}", options)
    assert got is not None
    agreed, answer = got
    assert agreed == Parameters(b or d, a or c, min(server, most), min(client, least))
    theirs.finalize(answer)
    assert agreed == Parameters(
        theirs.server_no_context_takeover,
        theirs.client_no_context_takeover,
        theirs.server_max_window_bits,
        theirs.client_max_window_bits,
    )


@STEADY
@given(st.booleans(), st.booleans(), BITS, BITS, BITS, BITS)
def test_wsproto_answers(a: bool, b: bool, server: int, client: int, most: int, least: int) -> None:
    """What it answers our first offer with we take. It never says less than was asked, and names its own bits for ours."""
    options = Deflate(
        client_no_context_takeover=a, server_no_context_takeover=b, server_max_window_bits=server, client_max_window_bits=client
    )
    theirs = WsprotoDeflate(server_max_window_bits=most, client_max_window_bits=least)
    answer = theirs.accept(offer(options).split(", ")[0])
    assert isinstance(answer, str)
    got, code = attempt(lambda: check_answer(f"{NAME}; {answer}" if answer else NAME, options))
    assert code is None
    assert got == Parameters(b, a, server, min(least, client))


ASKED = st.fixed_dictionaries(
    {},
    optional={
        "server_no_context_takeover": st.just(""),
        "client_no_context_takeover": st.just(""),
        "server_max_window_bits": BITS.map(str),
        "client_max_window_bits": st.just("") | BITS.map(str),
    },
)
WIDE = Deflate(server_max_window_bits=15, client_max_window_bits=15)


def wsproto_accepts(offered: str) -> Parameters | None:
    theirs = WsprotoDeflate()
    if theirs.accept(offered) is None:
        return None
    return Parameters(
        theirs.server_no_context_takeover,
        theirs.client_no_context_takeover,
        theirs.server_max_window_bits,
        theirs.client_max_window_bits,
    )


@STEADY
@given(st.data(), ASKED)
def test_offers_are_understood_alike(data: Any, asked: dict[str, str]) -> None:
    pairs = data.draw(st.permutations([f"; {name}={value}" if value else f"; {name}" for name, value in asked.items()]))
    offered = NAME + "".join(pairs)
    got = negotiate(offered, WIDE)
    assert got is not None
    assert got[0] == wsproto_accepts(offered)


OFFERS: list[tuple[str, Parameters | None, str]] = [
    # Section 7.1: a server declines what it doesn't know, what comes twice, and values that may not be.
    ("unknown", None, "accepts"),
    ("server_no_context_takeover; server_no_context_takeover", None, "accepts"),
    ("server_no_context_takeover=1", None, "accepts"),
    ("server_no_context_takeover_and_more", None, "accepts"),
    ("server_max_window_bits", None, "accepts"),
    ("server_max_window_bits=09", None, "accepts"),
    ("server_max_window_bits=16", None, "declines"),
    ("server_max_window_bits=x", None, "raises"),
    # A value may be quoted (RFC 6455, section 9.1), and a window may have 8 bits.
    ('server_max_window_bits="10"', Parameters(False, False, 10, 15), "raises"),
    ("server_max_window_bits=8", Parameters(False, False, 8, 15), "declines"),
    ("client_max_window_bits=8", Parameters(False, False, 15, 8), "declines"),
]


@pytest.mark.parametrize(("parameters", "agreed", "wsproto"), OFFERS)
def test_offers_that_wsproto_understands_otherwise(parameters: str, agreed: Parameters | None, wsproto: str) -> None:
    offered = f"{NAME}; {parameters}"
    got = negotiate(offered, WIDE)
    assert (got and got[0]) == agreed
    try:
        theirs = "declines" if wsproto_accepts(offered) is None else "accepts"
    except ValueError:
        theirs = "raises"
    assert theirs == wsproto
