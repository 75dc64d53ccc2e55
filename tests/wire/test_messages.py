"""Messages taken off a buffer, and frames of messages (RFC 6455, section 5), as ``messages.py`` promises both, in C and Python.

``take_messages`` may take whole, valid, unfragmented data frames alone; it leaves everything else in place, and
``MessageReader.next`` then yields the same as without ``take_messages``. ``message_frame`` must give the frame
that the RFC asks for, or None.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire import accelerated
from silly._wire.error import ProtocolError
from silly._wire.limits import DEFAULT, Limits
from silly._wire.messages import BATCH, FRAGMENT
from silly._wire.ws import MessageReader

from .strategies import STEADY, cuts, frame_streams
from .support import (
    BINARY,
    CLOSE,
    CONT,
    FIN,
    KEY,
    PING,
    PONG,
    TEXT,
    bytewise,
    encode,
    encode_fast,
    head,
    naive_mask,
    read_frames,
)

MASKED = pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
NAMES = {TEXT: "text", BINARY: "binary"}
OPCODES = {name: opcode for opcode, name in NAMES.items()}
MOST = 2**20

Taken = tuple[Any, str]


def take(buf: bytearray, masked: bool, most: int = MOST) -> list[Taken]:
    """The messages of one call, in their order."""
    rest: list[Taken] = []
    before = bytes(buf)
    first = accelerated.take_messages(buf, rest, masked, most)
    if first is None:
        assert (buf, rest) == (before, []), "nothing has changed"
        return []
    assert len(buf) < len(before)
    assert before.endswith(buf)
    return [first, *reversed(rest)]


def message(opcode: int, payload: bytes) -> Taken:
    return payload.decode() if opcode == TEXT else payload, NAMES[opcode]


def same(got: list[Taken], due: list[Taken]) -> None:
    """Equal, and of the very types that a reader gets."""
    assert got == due
    for data, typ in got:
        assert type(data) is (str if typ == "text" else bytes)
        assert type(typ) is str


# ---- what is taken -------------------------------------------------------------------------------------------------------

LENGTHS = [0, 1, 2, 3, 4, 7, 8, 31, 32, 33, 124, 125, 126, 127, 128, 255, 256, 1023, 1024, 1025, 65534, 65535, 65536, 65537]


@MASKED
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("behind", [b"", b"\x81", b"\x89\x00\xff"])
@pytest.mark.parametrize("length", LENGTHS, ids=lambda n: f"rfc6455-5.2-length-{n}")
def test_a_message_of_each_length(length: int, behind: bytes, opcode: int, masked: bool) -> None:
    payload = bytes(0x20 + i % 90 for i in range(length))
    buf = bytearray(encode(FIN | opcode, payload, masked) + behind)
    same(take(buf, masked), [message(opcode, payload)])
    assert buf == behind


@MASKED
def test_a_mebibyte_and_more(masked: bool) -> None:
    for size in (2**20, 2**20 + 1, 2**23 + 13):
        payload = random.Random(size).randbytes(size)
        buf = bytearray(head(FIN | BINARY, size, masked) + (KEY if masked else b""))
        buf += accelerated.apply_mask(payload, KEY) if masked else payload
        same(take(buf, masked, size), [(payload, "binary")])
        assert not buf
        text = "aé日😀" * (size // 10)
        buf = bytearray(encode_fast(FIN | TEXT, text.encode(), masked))
        same(take(buf, masked, size), [(text, "text")])
        assert not buf


TEXTS = ["", "a", "é", "日", "😀", "aé日😀" * 300, "\0", "\ufeffx"]
TEXTS += ["\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"]


@MASKED
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts(text: str, masked: bool) -> None:
    buf = bytearray(encode(FIN | TEXT, text.encode(), masked))
    same(take(buf, masked), [(text, "text")])


@MASKED
def test_the_first_is_returned_and_the_next_is_last_in_the_rest(masked: bool) -> None:
    """``rest.pop()`` gives them in their order; what was in ``rest`` stays where it was."""
    buf = bytearray(b"".join(encode(FIN | TEXT, text, masked) for text in (b"1", b"2", b"3", b"4")))
    rest: list[Taken] = [("old", "text")]
    assert accelerated.take_messages(buf, rest, masked, MOST) == ("1", "text")
    assert rest == [("old", "text"), ("4", "text"), ("3", "text"), ("2", "text")]
    assert buf == b""


@MASKED
def test_one_message_leaves_the_rest_as_it_is(masked: bool) -> None:
    rest: list[Taken] = []
    buf = bytearray(encode(FIN | BINARY, b"x", masked))
    assert accelerated.take_messages(buf, rest, masked, MOST) == (b"x", "binary")
    assert (rest, buf) == ([], b"")


@MASKED
@pytest.mark.parametrize("count", [BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, 2 * BATCH + 5])
def test_a_batch(count: int, masked: bool) -> None:
    payloads = [b"%d" % i for i in range(count)]
    buf = bytearray(b"".join(encode(FIN | BINARY, payload, masked) for payload in payloads))
    got = []
    sizes = []
    while batch := take(buf, masked):
        got += batch
        sizes.append(len(batch))
    same(got, [(payload, "binary") for payload in payloads])
    assert sizes == [BATCH] * (count // BATCH) + [count % BATCH] * (count % BATCH > 0)
    assert buf == b""


@MASKED
def test_taken_messages_are_copies(masked: bool) -> None:
    buf = bytearray(encode(FIN | BINARY, b"payload", masked))
    got = take(buf, masked)
    buf += b"\xff" * 100
    same(got, [(b"payload", "binary")])


def test_whether_frames_are_masked_is_any_truth() -> None:
    for masked in (1, "x", [0]):
        assert accelerated.take_messages(bytearray(encode(FIN | TEXT, b"x", True)), [], masked, 1) == ("x", "text")  # type: ignore[arg-type]


# ---- what is left --------------------------------------------------------------------------------------------------------


BAD = b"x" * 5000 + b"\xe2\x82"
"""A long text that ends within a character."""


def others(masked: bool) -> dict[str, bytes]:
    """What is no whole, valid, unfragmented data frame of at most 70,000 bytes."""
    found = {
        f"{name} of {length}": encode(first, b"\x03\xe8"[:length] + bytes(length - min(length, 2)), masked)
        for name, first in (("ping", FIN | PING), ("pong", FIN | PONG), ("close", FIN | CLOSE))
        for length in (0, 2, 125)
    }
    for opcode in (TEXT, BINARY):
        name = NAMES[opcode]
        found[f"first fragment of a {name}"] = encode(opcode, b"x", masked)
        found[f"{name} with the wrong mask bit"] = encode(FIN | opcode, b"x", not masked)
        for bits in range(1, 8):
            found[f"{name} with reserved bits {bits:03b}"] = encode(FIN | bits << 4 | opcode, b"x", masked)
        for size in (0, 1, 125):
            found[f"{name} of {size} in 16 bits"] = encode(FIN | opcode, b"x" * size, masked, 2)
        for size in (0, 125, 126, 65535):
            found[f"{name} of {size} in 64 bits"] = encode_long(FIN | opcode, size, masked)
        found[f"{name} of one byte too many"] = encode_fast(FIN | opcode, b"x" * 70_001, masked)
        for size in (2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1):
            found[f"{name} of {size:#x}"] = head(FIN | opcode, size, masked) + b"\0\0\0\0x"
    found["continuation"] = encode(CONT, b"x", masked)
    found["last continuation"] = encode(FIN | CONT, b"x", masked)
    for opcode in (3, 7, 11, 15):
        found[f"opcode {opcode}"] = encode(FIN | opcode, b"x", masked)
    for bad in (b"\x80", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98", b"\xff", BAD):
        found[f"text that isn't UTF-8: {bad[-5:].hex(' ')}"] = encode(FIN | TEXT, bad, masked)
    return found


def encode_long(first: int, size: int, masked: bool) -> bytes:
    """A frame whose length is in 64 bits, though fewer would do."""
    return head(first, size, masked, 8) + (bytes(4) if masked else b"") + b"x" * size


@MASKED
@pytest.mark.parametrize("name", others(True))
def test_anything_else_is_left(name: str, masked: bool) -> None:
    other = others(masked)[name]
    good = encode(FIN | TEXT, b"good", masked)
    for behind in (b"", good):
        assert take(bytearray(other + behind), masked, 70_000) == []
    for count in (1, 2, BATCH - 1):
        buf = bytearray(good * count + other + good)
        same(take(buf, masked, 70_000), [("good", "text")] * count)
        assert buf == other + good


@MASKED
@pytest.mark.parametrize("length", [0, 1, 125, 126, 300, 65536])
def test_an_incomplete_frame_is_left(length: int, masked: bool) -> None:
    for opcode in (TEXT, BINARY):
        frame = encode(FIN | opcode, b"x" * length, masked)
        for size in {*range(min(len(frame), 320)), *range(max(0, len(frame) - 20), len(frame))}:
            assert take(bytearray(frame[:size]), masked) == []
            buf = bytearray(frame + frame[:size])
            same(take(buf, masked), [message(opcode, b"x" * length)])
            assert buf == frame[:size]


@MASKED
@pytest.mark.parametrize("most", [0, 1, 124, 125, 126, 127, 65535, 65536])
def test_one_exactly_at_the_limit_is_taken_and_one_above_is_left(most: int, masked: bool) -> None:
    at, above = (encode_fast(FIN | BINARY, b"x" * size, masked) for size in (most, most + 1))
    assert take(bytearray(above), masked, most) == []
    buf = bytearray(at + above + at)
    same(take(buf, masked, most), [(b"x" * most, "binary")])
    assert buf == above + at


@MASKED
def test_a_negative_limit_leaves_everything(masked: bool) -> None:
    """That of a reader which streams."""
    for most in (-1, -(2**31)):
        assert take(bytearray(encode(FIN | BINARY, b"", masked)), masked, most) == []


@MASKED
def test_the_largest_limit(masked: bool) -> None:
    frame = encode(FIN | BINARY, b"x", masked)
    buf = bytearray(frame + head(FIN | BINARY, 2**64 - 1, masked))
    same(take(buf, masked, 2**63 - 1), [(b"x", "binary")])
    assert take(buf, masked, 2**63 - 1) == []


@MASKED
def test_a_buffer_that_is_looked_at_meanwhile_loses_nothing(masked: bool) -> None:
    """It can't be changed then, which BufferError says."""
    frame = encode(FIN | TEXT, b"x", masked)
    for data in (frame, frame * 3, frame * 3 + b"\x81", frame * (BATCH + 1)):
        for old in ([], [("old", "text")]):
            buf = bytearray(data)
            rest: list[Taken] = list(old)
            with memoryview(buf), pytest.raises(BufferError):
                accelerated.take_messages(buf, rest, masked, MOST)
            assert (buf, rest) == (data, old)
            assert accelerated.take_messages(buf, rest, masked, MOST) == ("x", "text")


@MASKED
def test_a_buffer_that_has_had_its_front_deleted(masked: bool) -> None:
    """As a connection's has: its bytes begin anywhere in its memory."""
    payloads = [bytes(range(size)) for size in range(60)]
    buf = bytearray()
    got = []
    for payload in payloads:
        buf += encode(FIN | BINARY, payload, masked) + b"\x82"
        got += take(buf, masked)
        assert buf == b"\x82"
        del buf[:1]
    same(got, [(payload, "binary") for payload in payloads])


# ---- with the reader -----------------------------------------------------------------------------------------------------


def read_together(pieces: list[bytes], server: bool, limits: Limits) -> tuple[list[tuple[int, Any]], int | None]:
    """All that ``take_messages`` takes where no message is open, and ``next`` else, as the socket asks them; and the code of
    the error."""
    reader = MessageReader(server, limits)
    buf = bytearray()
    messages: list[tuple[int, Any]] = []
    for piece in pieces:
        buf += piece
        while True:
            taken = take(buf, server, reader.fast_limit)
            if taken:
                messages += [(OPCODES[typ], data) for data, typ in taken]
                fresh = MessageReader(server, limits)
                assert reader.partial(buf) == fresh.partial(buf), "nothing is left of what was taken"
                continue
            try:
                got = reader.next(buf)
            except ProtocolError as exc:
                return messages, exc.code
            if isinstance(got, int):
                break
            messages.append(got)
    return messages, None


@st.composite
def runs(draw: Any, masked: bool) -> bytes:
    """Messages that are taken together."""
    drawn = draw(st.lists(st.one_of(st.text(max_size=5), st.binary(max_size=200)), min_size=2, max_size=6))
    opcodes = [TEXT if isinstance(data, str) else BINARY for data in drawn]
    payloads = [data.encode() if isinstance(data, str) else data for data in drawn]
    return b"".join(encode(FIN | opcode, payload, masked) for opcode, payload in zip(opcodes, payloads, strict=True))


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_with_the_reader_the_messages_are_those_of_the_reader(server: bool) -> None:
    verdicts = set()
    together = 0
    long = st.just(encode(FIN | BINARY, bytes(51), server))  # chance alone seldom passes the limit below

    @STEADY
    @given(
        st.data(),
        st.lists(st.one_of(runs(server), frame_streams(server), long), max_size=3).map(b"".join),
        st.sampled_from([DEFAULT, Limits(message=50, fragments=2)]),
    )
    def run(data: Any, stream: bytes, limits: Limits) -> None:
        nonlocal together
        whole = read_frames([stream], server, limits)
        for pieces in ([stream], bytewise(stream), data.draw(cuts(stream))):
            assert read_together(pieces, server, limits) == (whole.messages, whole.code)
        verdicts.add(whole.code)
        together += len(take(bytearray(stream), server)) > 1

    run()
    assert verdicts >= {None, 1002, 1007, 1009}, "the generator reaches each kind of answer"
    assert together > 10


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_thousands_of_messages(server: bool) -> None:
    numbers = random.Random(server)
    stream = b"".join(
        encode(FIN | numbers.choice([TEXT, BINARY, BINARY, PING]), b"x" * numbers.choice([0, 1, 20, 125]), server, key=KEY)
        for _ in range(3000)
    )
    whole = read_frames([stream], server)
    assert len(whole.messages) == 3000
    for size in (1000, 4096, len(stream)):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert read_together(pieces, server, DEFAULT) == (whole.messages, None)


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_the_reader_refuses_a_message_too_long_behind_others(server: bool) -> None:
    limits = Limits(message=100)
    good = encode(FIN | TEXT, b"x" * 100, server)
    for bad, code in ((encode(FIN | TEXT, b"x" * 101, server), 1009), (encode(FIN | TEXT, b"\xff", server), 1007)):
        stream = good * 3 + bad + good
        assert read_together([stream], server, limits) == ([(TEXT, "x" * 100)] * 3, code)
        assert read_together(bytewise(stream), server, limits) == ([(TEXT, "x" * 100)] * 3, code)


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_nothing_is_taken_out_of_an_open_or_streamed_message(server: bool) -> None:
    """``MessageReader.fast_limit`` says when."""
    reader = MessageReader(server, DEFAULT)
    assert reader.fast_limit == DEFAULT.message
    buf = bytearray(encode(TEXT, b"a", server))
    assert isinstance(reader.next(buf), int)
    assert reader.fast_limit < 0
    buf += encode(FIN | CONT, b"b", server)
    assert reader.next(buf) == (TEXT, "ab")
    assert reader.fast_limit == DEFAULT.message
    reader.read_pieces(DEFAULT.message)
    assert reader.fast_limit < 0
    reader.read_whole()
    assert reader.fast_limit == DEFAULT.message


def test_a_limit_that_no_machine_reaches() -> None:
    reader = MessageReader(False, Limits(message=2**63 - 1))
    assert take(bytearray(encode(FIN | TEXT, b"x", False)), False, reader.fast_limit) == [("x", "text")]


# ---- frames --------------------------------------------------------------------------------------------------------------

KEYS = [None, KEY, bytes(4), b"\xff\xff\xff\xff", b"\0\0\0\x80"]


def due(data: str | bytes, typ: str, key: bytes | None) -> bytes:
    payload = data.encode() if isinstance(data, str) else data
    return encode(FIN | OPCODES[typ], payload, key is not None, key=key or b"")


@pytest.mark.parametrize("length", [*range(132), 255, 256, 1000, 65534, 65535], ids=lambda n: f"rfc6455-5.2-length-{n}")
def test_frames_of_each_length(length: int) -> None:
    text = "".join(chr(0x20 + i % 90) for i in range(length))
    sorts: list[tuple[Any, str]] = [(text, "text"), (text, "binary"), (text.encode(), "binary"), (bytes(length), "binary")]
    for (data, typ), key in itertools.product(sorts, KEYS if length < 2000 else KEYS[:2]):
        frame = accelerated.message_frame(data, typ, key)
        assert type(frame) is bytes
        assert frame == due(data, typ, key)


@pytest.mark.parametrize("key", [None, KEY], ids=["unmasked", "masked"])
@pytest.mark.parametrize("size", [FRAGMENT, FRAGMENT + 1, 2**20])
def test_a_message_for_fragments_gives_none(size: int, key: bytes | None) -> None:
    for data, typ in (("x" * size, "text"), ("x" * size, "binary"), (b"x" * size, "binary"), ("é" * (size // 2 + 1), "text")):
        assert accelerated.message_frame(data, typ, key) is None


@pytest.mark.parametrize("key", [None, KEY], ids=["unmasked", "masked"])
def test_octets_count_not_characters(key: bytes | None) -> None:
    for text in ("é" * 62, "é" * 63, "日" * 41, "日" * 42, "😀" * 31, "😀" * 32, "é" * 32767, "x" + "é" * 32767, *TEXTS):
        for _ in range(2):  # CPython keeps the UTF-8 of a text that it was asked for
            assert accelerated.message_frame(text, "text", key) == due(text, "text", key)
            assert accelerated.message_frame(text, "binary", key) == due(text, "binary", key)
    assert accelerated.message_frame("é" * 32768, "text", key) is None


class Text(str):
    __slots__ = ()


class Octets(bytes):
    __slots__ = ()


NOT_SENT_SO: list[tuple[Any, Any]] = [
    *[(b"x", "text"), (bytearray(b"x"), "binary"), (memoryview(b"x"), "binary")],
    *[(None, "text"), (1, "binary"), (["x"], "text")],
    *[(Text("x"), "text"), (Text("x"), "binary"), (Octets(b"x"), "binary"), (Octets(b"x"), "text")],
    *[("x", None), (b"x", None), ("x", ""), ("x", "ping"), ("x", "pong"), ("x", "close"), ("x", "Text"), (b"x", "binary ")],
    *[("x", 1), ("x", b"text"), (b"x", b"binary"), ("x", ["text"]), ("x", True)],
    *[("\ud800", "text"), ("a\udfff", "text"), ("\udcff", "binary"), ("x" * 200 + "\ud83d", "text"), ("\ud83d\ude00", "text")],
]


@pytest.mark.parametrize("key", [None, KEY], ids=["unmasked", "masked"])
@pytest.mark.parametrize(("data", "typ"), NOT_SENT_SO, ids=range(len(NOT_SENT_SO)))
def test_a_message_that_needs_checks_gives_none(data: Any, typ: Any, key: bytes | None) -> None:
    assert accelerated.message_frame(data, typ, key) is None


@pytest.mark.parametrize("name", ["text", "binary"])
def test_a_type_of_the_same_letters(name: str) -> None:
    """One that was put together while the program runs: its frame is right, or it is looked at more closely."""
    assert accelerated.message_frame("x", name, None) == due("x", name, None)
    for other in ("".join(list(name)), Text(name)):
        assert other is not name
        assert accelerated.message_frame("x", other, None) in (None, due("x", name, None))


@STEADY
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)), st.one_of(st.none(), st.binary(min_size=4, max_size=4)))
def test_frames_are_read_back(data: str | bytes, key: bytes | None) -> None:
    typ = "text" if isinstance(data, str) else "binary"
    frame = accelerated.message_frame(data, typ, key)
    assert frame == due(data, typ, key)
    same(take(bytearray(frame), key is not None), [(data, typ)])


# ---- masks ---------------------------------------------------------------------------------------------------------------

OCTETS = random.Random(6455).randbytes(400)


@pytest.mark.parametrize("offset", range(4), ids=lambda n: f"key-offset-{n}")
@pytest.mark.parametrize("start", range(16), ids=lambda n: f"alignment-{n}")
def test_masks_of_every_length_at_every_alignment(start: int, offset: int) -> None:
    key = KEY[offset:] + KEY[:offset]
    whole = naive_mask(OCTETS[start:], key)
    held = memoryview(OCTETS)
    buf = bytearray(bytes(start) + key + OCTETS[start:])
    for size in range(301):
        assert accelerated.apply_mask(held[start : start + size], key) == whole[:size]
        assert accelerated.unmask(buf, start + 4, start + 4 + size) == whole[:size]
    assert buf == bytes(start) + key + OCTETS[start:]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_masks_of_every_kind_of_input(kind: Any) -> None:
    for size in (0, 1, 5, 300, 600, 5000):
        data = bytes(i % 251 for i in range(size))
        for key in (KEY, bytearray(KEY)):
            got = accelerated.apply_mask(kind(data), key)
            assert type(got) is bytes
            assert got == naive_mask(data, KEY)
        got = accelerated.unmask(bytearray(b"xx" + KEY + data + b"yy"), 6, 6 + size)
        assert type(got) is bytes
        assert got == naive_mask(data, KEY)


@pytest.mark.parametrize("size", [2**16, 2**20 - 1, 2**20, 2**20 + 31, 2**23 + 7])
def test_large_masks(size: int) -> None:
    data = random.Random(size).randbytes(size)
    number = int.from_bytes(data, "big") ^ int.from_bytes((KEY * (size // 4 + 1))[:size], "big")
    due = number.to_bytes(size, "big")
    assert accelerated.apply_mask(data, KEY) == due
    assert accelerated.apply_mask(memoryview(b"x" + data)[1:], KEY) == due
    assert accelerated.unmask(bytearray(KEY + data), 4, 4 + size) == due
