"""The wire functions in C: held against those in Python on whatever can be generated, and against what only C can do wrong.

Wrong arguments, a buffer that somebody holds, no memory, a finalizer that strikes in the middle: an exception, and nothing
lost; and no reference may leak. What the functions are for, ``test_messages.py`` and ``test_mask.py`` test on both.
"""

from __future__ import annotations

import copy
import gc
import importlib.machinery
import importlib.util
import itertools
import pickle
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire.messages import BATCH

from ..implementations import ACCELERATED, PURE, needs_c
from ..leaks import leaks_nothing
from .strategies import STEADY, damaged, frame_streams
from .support import BINARY, CONT, FIN, KEY, PING, TEXT, encode, head

pytestmark = needs_c

MASKED = pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])


def call(name: str, *args: Any) -> Any:
    return ACCELERATED[name](*args)


# ---- the same as Python --------------------------------------------------------------------------------------------------


def check_take(data: bytes | bytearray, masked: bool, most: int) -> int:
    """Both take the same messages off ``data`` and leave the same, however often they are asked; how many they took."""
    buffers = [bytearray(data), bytearray(data)]
    count = 0
    while True:
        rests: list[list[Any]] = [["old"], ["old"]]
        ours, theirs = (
            functions["take_messages"](buf, rest, masked, most)
            for functions, buf, rest in zip((ACCELERATED, PURE), buffers, rests, strict=True)
        )
        assert (ours, rests[0], buffers[0]) == (theirs, rests[1], buffers[1])
        if ours is None:
            return count
        assert [list(map(type, taken)) for taken in (ours, *rests[0][1:])] == [
            list(map(type, taken)) for taken in (theirs, *rests[1][1:])
        ]
        count += len(rests[0])


def random_frame(numbers: random.Random, masked: bool, kinds: int) -> bytes:
    """A good data frame, or a bad one of the first 5 kinds."""
    size = numbers.choice([0, 1, 5, 30, 124, 125, 126, 127, 1000, 1023, 1024, 1025, 5000])
    kind = numbers.randrange(kinds)
    first = FIN | numbers.choice([TEXT, BINARY])
    text = ("aé日😀x" * size)[: size // 2].encode()
    payload = text if first == FIN | TEXT else numbers.randbytes(size)
    form = None
    if kind == 0:
        first = numbers.choice([TEXT, BINARY, CONT, FIN, FIN | PING, 0xC1, 0xA2, 0x92, 0x83, numbers.randrange(256)])
    elif kind == 1 and payload:
        at = numbers.randrange(len(payload))
        payload = payload[:at] + bytes((numbers.randrange(256),)) + payload[at + 1 :]
    elif kind == 2:
        form = numbers.choice([2, 8])
    elif kind == 3:
        masked = not masked
    elif kind == 4:
        return head(first, numbers.choice([2**31, 2**32 + 5, 2**62, 2**63 - 1, 2**63, 2**64 - 1]), masked) + payload
    return encode(first, payload, masked, form, numbers.randbytes(4))


@MASKED
def test_random_streams(masked: bool) -> None:
    numbers = random.Random(5)
    taken = []
    for _ in range(800):
        kinds = numbers.choice([6, 20, 1000])
        frames = [random_frame(numbers, masked, kinds) for _ in range(numbers.choice([1, 2, 5, BATCH + 2]))]
        stream = b"".join(frames)
        whole = len(frames[0])
        mosts = [whole, whole - 2, whole - 3, whole - 7, 0, 125, 2**20, 2**63 - 1]
        taken.append(check_take(stream, masked, numbers.choice(mosts)))
        check_take(stream[: numbers.randrange(len(stream) + 1)], masked, 2**20)
    assert max(taken) > BATCH
    assert {0, 1, 2} <= set(taken)


@MASKED
def test_a_stream_cut_at_every_byte(masked: bool) -> None:
    numbers = random.Random(6)
    for length in (0, 3, 125, 126, 65536):
        frames = [encode(FIN | opcode, bytes(range(65, 91)), masked, key=numbers.randbytes(4)) for opcode in (TEXT, BINARY)]
        frames.insert(numbers.randrange(3), head(FIN | BINARY, length, masked) + (KEY if masked else b"") + bytes(length))
        stream = b"".join(frames)
        for size in range(len(stream) + 1) if len(stream) < 500 else (*range(300), *range(len(stream) - 100, len(stream) + 1)):
            check_take(stream[:size], masked, 2**20)


@MASKED
def test_every_first_and_second_byte(masked: bool) -> None:
    """With payload enough for any length of 7 bits, and with lengths behind it that are none."""
    for behind in (bytes(300), b"\xff" * 300, b"\0\x7e" + bytes(300), bytes(5) + b"\1" + bytes(70_000)):
        for first, second in itertools.product(range(256), (*range(0, 256, 9), 125, 126, 127, 253, 254, 255)):
            check_take(bytes((first, second)) + behind, masked, 2**20)


@MASKED
def test_generated_streams(masked: bool) -> None:
    @STEADY
    @given(st.one_of(frame_streams(masked), st.binary(max_size=60)), st.integers(-1, 400))
    def run(stream: bytes, most: int) -> None:
        check_take(stream, masked, most)

    run()


@STEADY
@given(st.data(), st.lists(st.text(max_size=30), max_size=5))
def test_damaged_texts(data: Any, texts: list[str]) -> None:
    stream = b"".join(encode(FIN | TEXT, text.encode(), False) for text in texts)
    check_take(data.draw(damaged(stream)), False, 2**20)


def test_random_texts_that_are_not_utf8() -> None:
    """What is UTF-8, both decide alike: surrogates, overlong forms and the like are common among these bytes."""
    numbers = random.Random(8)
    octets = bytes.fromhex("00 41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")
    taken = 0
    for size in range(1, 5):
        for _ in range(4000):
            taken += check_take(encode(FIN | TEXT, bytes(numbers.choices(octets, k=size)), False), False, 2**20)
    assert 200 < taken < 15_000


DATA = st.one_of(
    st.text(st.characters(codec=None), max_size=100),
    st.binary(max_size=100),
    st.builds(lambda unit, size: unit * size, st.sampled_from(["x", "é", b"x", "\ud800"]), st.integers(32_000, 70_000)),
    st.sampled_from([None, 1, bytearray(b"x"), memoryview(b"x"), [], object()]),
)
TYPES = st.sampled_from(["text", "binary", None, "ping", "".join(["te", "xt"]), "".join(list("binary")), 5, b"text"])


@STEADY
@given(DATA, TYPES, st.one_of(st.none(), st.binary(min_size=4, max_size=4)))
def test_frames(data: Any, typ: Any, key: bytes | None) -> None:
    assert call("message_frame", data, typ, key) == PURE["message_frame"](data, typ, key)


def test_a_long_text_does_not_keep_its_utf8() -> None:
    """CPython stores the UTF-8 that was asked for with the text; a text that goes in fragments isn't asked."""
    for unit in ("é", "日", "😀"):
        text = unit * 100_000
        before = sys.getsizeof(text)
        assert call("message_frame", text, "text", None) is None
        assert sys.getsizeof(text) == before


@STEADY
@given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4), st.integers(0, 50), st.integers(0, 3000))
def test_masks(data: bytes, key: bytes, before: int, size: int) -> None:
    assert call("apply_mask", data, key) == PURE["apply_mask"](data, key)
    buf = bytearray(bytes(before) + key + data)
    end = min(before + 4 + size, len(buf))
    assert call("unmask", buf, before + 4, end) == PURE["unmask"](buf, before + 4, end)


DELIMITERS = st.sampled_from([b"\n", b"\r\n", b"aab", b"ab", b"aa"])
PIECES = st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"aab", b"\0", b"\xff"]), max_size=30).map(b"".join)


@STEADY
@given(PIECES, st.one_of(DELIMITERS, PIECES), st.integers(0, 40), st.integers(-1, 60))
def test_lines(data: bytes, delimiter: bytes, start: int, most: int) -> None:
    buffers = [bytearray(data), bytearray(data)]
    for _ in range(3):
        ours, theirs = (
            functions["take_until"](buf, delimiter, start, most)
            for functions, buf in zip((ACCELERATED, PURE), buffers, strict=True)
        )
        assert (ours, buffers[0]) == (theirs, buffers[1])


def test_payloads() -> None:
    """Both do the same, whatever they are asked in whatever order."""
    numbers = random.Random(9)
    done = 0
    for _ in range(400):
        size, key = numbers.choice([0, 1, 10, 9000, 100_000]), numbers.choice([None, KEY])
        pair = [functions["Payload"](size, key) for functions in (ACCELERATED, PURE)]
        for _ in range(numbers.randrange(30)):
            data = numbers.randbytes(numbers.choice([0, 1, 3, 1000, 20_000]))
            count = numbers.choice([0, 1, 3, 1000, -1])
            step = numbers.choice([add, add, receive, receive, received, whole, so_far])
            ours, theirs = (outcome(step, payload, data, count) for payload in pair)
            assert ours == theirs
            assert pair[0].left == pair[1].left
            if step is whole and isinstance(ours, bytes):
                done += 1
                break
    assert done > 20


def add(payload: Any, data: bytes, count: int) -> object:
    buf = bytearray(data)
    payload.add(buf)
    return bytes(buf)


def receive(payload: Any, data: bytes, count: int) -> object:
    with payload.room() as room:
        size = min(len(room), len(data))
        room[:size] = data[:size]
    payload.received(size)
    return size


def received(payload: Any, data: bytes, count: int) -> object:
    with payload.room() as room:
        room[:] = bytes(len(room))
    return payload.received(count)


def whole(payload: Any, data: bytes, count: int) -> object:
    return payload.take()


def so_far(payload: Any, data: bytes, count: int) -> object:
    return payload.so_far()


def outcome(step: Callable[[Any, bytes, int], object], payload: Any, data: bytes, count: int) -> object:
    try:
        return step(payload, data, count)
    except (ValueError, BufferError) as exc:
        return type(exc), str(exc)


# ---- wrong arguments -----------------------------------------------------------------------------------------------------

GOOD: dict[str, tuple[Any, ...]] = {
    "apply_mask": (b"data", KEY),
    "unmask": (bytearray(KEY + b"data"), 4, 8),
    "take_messages": (bytearray(b"\x81\x01x"), [], False, 100),
    "message_frame": ("x", "text", KEY),
    "take_until": (bytearray(b"one\ntwo"), b"\n", 0, 80),
}
FOUR = "a masking key has 4 bytes, not "


@pytest.mark.parametrize("name", GOOD)
def test_wrong_counts_of_arguments(name: str) -> None:
    good = GOOD[name]
    for count in {0, 1, 2, 3, 4, 5, 6, 50} - {len(good)}:
        with pytest.raises(TypeError, match=f"^{name} takes {len(good)} arguments, not {count}$"):
            call(name, *(good * 50)[:count])
    with pytest.raises(TypeError, match="keyword"):
        ACCELERATED[name](*good[:-1], key=good[-1])
    with pytest.raises(TypeError, match="keyword"):
        ACCELERATED[name](*good, more=1)


class NoTruth:
    def __bool__(self) -> bool:
        raise LookupError("no truth")


class Indexed:
    """An object whose ``__index__`` returns an integer, and fails."""

    def __index__(self) -> int:
        raise LookupError("no index")


STRIDED = memoryview(bytes(20))[::2]

WRONG: list[tuple[str, tuple[Any, ...], type[Exception], str]] = [
    *[("apply_mask", (data, KEY), TypeError, "bytes-like") for data in ("text", None, 5, [1], object())],
    *[("apply_mask", (b"data", key), TypeError, "bytes-like") for key in ("text", None, 5, [1, 2, 3, 4])],
    *[("apply_mask", (b"data", bytes(size)), ValueError, f"{FOUR}{size}") for size in (0, 1, 3, 5, 8, 4096)],
    ("apply_mask", (STRIDED, KEY), BufferError, "contiguous"),
    ("apply_mask", (b"data", STRIDED[:4]), BufferError, "contiguous"),
    *[("unmask", (buf, 4, 4), TypeError, "bytes-like") for buf in ("text", None, 5, [1])],
    *[("unmask", (bytearray(9), at, 9), TypeError, "integer") for at in ("4", None, 4.0, b"4")],
    *[("unmask", (bytearray(9), 4, end), TypeError, "integer") for end in ("9", None, 9.0, [])],
    *[
        ("unmask", (bytearray(20), at, end), ValueError, rf"no payload at \[{at}:{end}\] of 20 bytes")
        for at, end in ((0, 0), (3, 9), (-1, 9), (5, 4), (4, 21), (20, 21), (21, 21), (4, -1), (-20, -10), (4, sys.maxsize))
    ],
    ("unmask", (bytearray(20), -sys.maxsize - 1, 20), ValueError, "no payload"),
    ("unmask", (bytearray(20), sys.maxsize, sys.maxsize), ValueError, "no payload"),
    ("unmask", (bytearray(), 4, 4), ValueError, "no payload"),
    ("unmask", (bytearray(20), 4, 2**63), OverflowError, "too large"),
    ("unmask", (bytearray(20), -(2**70), 4), OverflowError, "too large"),
    *[
        ("take_messages", (buf, [], True, 1), TypeError, "needs a bytearray and a list")
        for buf in (b"\x81\x00", memoryview(b"\x81\x00"), "text", None, [])
    ],
    *[("take_messages", (bytearray(2), rest, True, 1), TypeError, "needs a bytearray and a list") for rest in ((), None, {})],
    *[("take_messages", (bytearray(2), [], True, most), TypeError, "integer") for most in ("1", None, 1.0, b"")],
    ("take_messages", (bytearray(2), [], True, 2**63), OverflowError, "too large"),
    ("take_messages", (bytearray(2), [], True, -(2**70)), OverflowError, "too large"),
    ("take_messages", (bytearray(2), [], NoTruth(), 1), LookupError, "no truth"),
    *[("message_frame", ("x", "text", key), TypeError, "bytes") for key in ("text", 5, [], bytearray(4), memoryview(KEY))],
    *[("message_frame", (b"x", "binary", bytes(size)), ValueError, f"{FOUR}{size}") for size in (0, 1, 3, 5, 4096)],
    *[
        ("take_until", (buf, delimiter, 0, 9), TypeError, "needs a bytearray and bytes")
        for buf, delimiter in ((b"\n", b"\n"), ("\n", b"\n"), (None, b"\n"), (bytearray(2), "\n"), (bytearray(2), bytearray(2)))
    ],
    *[("take_until", (bytearray(b"\n"), b"\n", start, 9), TypeError, "integer") for start in ("0", None, 0.0)],
    *[("take_until", (bytearray(b"\n"), b"\n", 0, most), TypeError, "integer") for most in ("9", None, 9.0)],
    ("take_until", (bytearray(b"\n"), b"\n", 2**63, 9), OverflowError, "too large"),
    ("take_until", (bytearray(b"\n"), b"\n", 0, -(2**70)), OverflowError, "too large"),
]


@pytest.mark.parametrize(("name", "args", "error", "text"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments(name: str, args: tuple[Any, ...], error: type[Exception], text: str) -> None:
    for _ in range(3):
        with pytest.raises(error, match=text):
            call(name, *args)


def test_wrong_arguments_change_nothing() -> None:
    buf, rest = bytearray(b"\x81\x01x"), ["old"]
    for masked, most in ((NoTruth(), 1), (False, "1"), (False, 2**64), (NoTruth(), 2**64)):
        with pytest.raises((LookupError, TypeError, OverflowError)):
            call("take_messages", buf, rest, masked, most)
    assert (buf, rest) == (b"\x81\x01x", ["old"])


PAYLOADS: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    *[(lambda cls, args=args: cls(*args), TypeError, "Payload") for args in ((), (1,), (1, None, 2), (1, None, None, None))],
    *[(lambda cls, size=size: cls(size, None), TypeError, "integer") for size in ("1", None, 1.0, b"1")],
    *[(lambda cls, key=key: cls(1, key), TypeError, "bytes") for key in ("text", 5, [], bytearray(4))],
    (lambda cls: cls(2**63, None), OverflowError, "too large"),
    (lambda cls: cls(1, key=None), TypeError, "keyword"),
    (lambda cls: cls(size=1, key=None), TypeError, "keyword"),
    *[(lambda cls, buf=buf: cls(1, None).add(buf), TypeError, "bytearray") for buf in (b"x", memoryview(b"x"), "x", None)],
    *[(lambda cls, size=size: cls(1, None).received(size), TypeError, "integer") for size in ("1", None, 1.0)],
    (lambda cls: cls(1, None).received(2**63), OverflowError, "too large"),
    *[(lambda cls, name=name: getattr(cls(0, None), name)(1), TypeError, "argument") for name in ("room", "take", "so_far")],
    *[(lambda cls, name=name: getattr(cls(0, None), name)(), TypeError, "argument") for name in ("add", "received")],
    *[(lambda cls, name=name: setattr(cls(0, None), name, 1), AttributeError, name) for name in ("left", "take", "other")],
    (lambda cls: setattr(cls, "take", None), TypeError, "immutable"),
    (lambda cls: type("Other", (cls,), {}), TypeError, "base"),
    (lambda cls: object.__new__(cls), TypeError, "not safe"),
    *[(lambda cls, use=use: use(cls(9, None)), TypeError, "Payload") for use in (copy.copy, pickle.dumps, len)],
]


@pytest.mark.parametrize(("use", "error", "text"), PAYLOADS, ids=range(len(PAYLOADS)))
def test_payloads_used_wrongly(use: Callable[[Any], object], error: type[Exception], text: str) -> None:
    for _ in range(3):
        with pytest.raises(error, match=text):
            use(ACCELERATED["Payload"])


def test_the_room_of_a_payload_outlives_its_name() -> None:
    payload = call("Payload", 10_000, None)
    room = payload.room()
    other = memoryview(room)
    del payload
    room.release()
    other[:] = bytes(10_000)
    other.release()
    with memoryview(call("Payload", 0, None)) as empty:
        assert len(empty) == 0


def test_integers_of_other_kinds() -> None:
    assert call("unmask", bytearray(9), True + 4, 9) == b"\0" * 4
    with pytest.raises((TypeError, LookupError)):
        call("unmask", bytearray(9), Indexed(), 9)
    with pytest.raises((TypeError, LookupError)):
        call("take_messages", bytearray(9), [], True, Indexed())


def test_subclasses() -> None:
    class Buffer(bytearray):
        pass

    class Rest(list[Any]):
        pass

    buf, rest = Buffer(b"\x81\x01x\x82\x01y\x88"), Rest()
    assert call("take_messages", buf, rest, False, 100) == ("x", "text")
    assert (buf, rest) == (b"\x88", [(b"y", "binary")])
    key = type("Key", (bytes,), {})(KEY)
    assert call("message_frame", "x", "text", key) == encode(FIN | TEXT, b"x", True)


def test_views_of_other_shapes() -> None:
    numbers = memoryview(bytes(range(16))).cast("I")
    assert call("apply_mask", numbers, bytes(4)) == bytes(range(16))
    assert call("apply_mask", memoryview(bytes(range(16))).cast("B", (4, 4)), bytes(4)) == bytes(range(16))


# ---- a buffer that changes or is held ------------------------------------------------------------------------------------


@MASKED
def test_a_finalizer_that_strikes_within(masked: bool) -> None:
    """The collector may run whatever in the middle of a call: it can't take the buffer away from under it."""
    data = b"".join(encode(FIN | BINARY, b"payload", masked) for _ in range(BATCH + 1))
    buf = bytearray()
    # A tuple that was freed is used again, for which the collector isn't asked.
    kept: list[Any] = [(number, number) for number in range(5000)]
    struck = refused = 0

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal struck, refused
            struck += 1
            try:
                buf.extend(b"\xff" * 10_000)
                del buf[-10_000:]
            except BufferError:
                refused += 1

    before = gc.get_threshold()
    try:
        gc.set_threshold(0)
        for threshold in range(1, 60):
            buf[:], rest = data, []
            kept.append(rest)
            gc.collect(0)  # it counts allocations from here on
            Cycle()
            gc.set_threshold(threshold)
            assert call("take_messages", buf, rest, masked, 100) == (b"payload", "binary")
            gc.set_threshold(0)
            assert rest == [(b"payload", "binary")] * (BATCH - 1)
            assert len(buf) == len(data) // (BATCH + 1)
    finally:
        gc.set_threshold(*before)
        gc.collect()
    assert struck
    if sys.version_info < (3, 12):
        assert refused, "from 3.12 on the collector waits until the call is over"


def test_a_buffer_may_be_its_own_key() -> None:
    key = bytearray(KEY)
    assert call("apply_mask", key, key) == bytes(4)
    assert call("apply_mask", memoryview(key), key) == bytes(4)
    key += b"no buffer is held any more"


# ---- memory --------------------------------------------------------------------------------------------------------------


def failures(
    name: str,
    prepare: Callable[[], tuple[Any, ...]],
    check: Callable[[tuple[Any, ...]], None],
    lasting: bool,
    compare: bool = True,
) -> int:
    """Has each allocation of a call fail in turn (``lasting``: and all that follow), and holds the arguments of the calls that
    failed to ``check``. How many did."""
    testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi, which has allocations fail")
    function = ACCELERATED[name]
    due = function(*prepare())
    count = good = number = 0
    while good < 10:  # in a row: behind the last allocation of a call
        args = prepare()
        result = None
        testcapi.set_nomemory(number, 0 if lasting else number + 1)
        try:
            result = function(*args)
        except MemoryError:
            pass
        finally:
            testcapi.remove_mem_hooks()
        number += 1
        if result is None:
            count += 1
            good = 0
            check(args)
        else:
            good += 1
            assert result == due or not compare
    return count


LASTING = pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])


@LASTING
@MASKED
def test_messages_without_memory(masked: bool, lasting: bool) -> None:
    frames = [encode(FIN | opcode, b"x" * size, masked) for opcode in (TEXT, BINARY) for size in (1, 10, 1500, 5000)]
    for count in (1, 2, 12):
        for behind in (b"", b"\x81"):
            data = b"".join(itertools.islice(itertools.cycle(frames), count)) + behind

            def prepare(data: bytes = data) -> tuple[Any, ...]:
                return bytearray(data), [], masked, 2**20

            def check(args: tuple[Any, ...], data: bytes = data) -> None:
                assert args[:2] == (data, []), "nothing is lost, and nothing taken twice"

            assert failures("take_messages", prepare, check, lasting) >= count


@LASTING
@pytest.mark.parametrize("key", [None, KEY], ids=["unmasked", "masked"])
def test_frames_without_memory(key: bytes | None, lasting: bool) -> None:
    for unit in ("x", "é", b"x"):
        for size in (10, 3000):

            def prepare(unit: Any = unit, size: int = size) -> tuple[Any, ...]:
                return unit * size, "text" if isinstance(unit, str) else "binary", key

            assert failures("message_frame", prepare, lambda args: None, lasting) >= 1


@LASTING
def test_lines_without_memory(lasting: bool) -> None:
    for data in (b"x" * 100 + b"\n", b"x" * 100 + b"\n" + b"y" * 100):

        def prepare(data: bytes = data) -> tuple[Any, ...]:
            return bytearray(data), b"\n", 0, 1000

        def check(args: tuple[Any, ...], data: bytes = data) -> None:
            assert args[0] == data, "nothing is lost"

        assert failures("take_until", prepare, check, lasting) >= 1


@LASTING
def test_masks_without_memory(lasting: bool) -> None:
    for size in (10, 5000):
        assert failures("apply_mask", lambda size=size: (bytes(size), KEY), lambda args: None, lasting) >= 1  # type: ignore[misc]
        prepare = lambda size=size: (bytearray(size + 4), 4, size + 4)  # type: ignore[misc]  # noqa: E731
        assert failures("unmask", prepare, lambda args: None, lasting) >= 1


@LASTING
def test_payloads_without_memory(lasting: bool) -> None:
    """``add`` moves what has come to a larger place, maybe several times; where it can't, nothing was added."""
    testcapi = pytest.importorskip("_testcapi", reason="this Python has no _testcapi, which has allocations fail")
    data = random.Random(3).randbytes(100_000)
    due = PURE["apply_mask"](data, KEY)
    failed = 0
    for number in range(20):
        payload = call("Payload", len(data), KEY)
        for piece in (data[:3000], data[3000:]):
            buf = bytearray(piece)
            before = payload.left
            testcapi.set_nomemory(number, 0 if lasting else number + 1)
            try:
                payload.add(buf)
            except MemoryError:
                testcapi.remove_mem_hooks()
                failed += 1
                assert (buf, payload.left) == (piece, before)
                payload.add(buf)
            finally:
                testcapi.remove_mem_hooks()
            assert buf == b""
        assert payload.take() == due
    assert failed >= 2
    assert failures("Payload", lambda: (10, KEY), lambda args: None, lasting, compare=False) >= 1


def attempt(name: str, *args: Any) -> Any:
    """The result of a call, or the error that it raises."""
    try:
        return ACCELERATED[name](*args)
    except Exception as exc:
        return type(exc)


def take(data: bytes, masked: bool = True, most: Any = 10_000) -> Callable[[], object]:
    def run() -> None:
        attempt("take_messages", bytearray(data), [], masked, most)

    return run


def take_held() -> None:
    buf = bytearray(b"\x81\x01x\x82\x01y")
    with memoryview(buf):
        attempt("take_messages", buf, [], False, 100)


def take_line_held() -> None:
    buf = bytearray(b"one\ntwo")
    with memoryview(buf):
        assert attempt("take_until", buf, b"\n", 0, 80) is BufferError
    assert buf == b"one\ntwo"


def use_payload(size: int = 9000, come: int = 9000) -> Callable[[], object]:
    def run() -> None:
        payload = ACCELERATED["Payload"](size, KEY)
        payload.add(bytearray(come // 2))
        with payload.room() as room:
            rest = min(len(room), come - come // 2)
        payload.received(rest)
        payload.so_far()
        if not payload.left:
            payload.take()

    return run


def misuse_payload() -> None:
    payload = ACCELERATED["Payload"](9000, None)
    for use in (payload.take, lambda: payload.received(10**6), lambda: payload.received(None), lambda: payload.add(b"")):
        try:
            use()
        except (TypeError, ValueError):
            pass
    held = bytearray(100)
    with memoryview(held), payload.room():
        try:
            payload.room()
        except BufferError:
            pass
    with memoryview(held):
        try:
            payload.add(held)
        except BufferError:
            pass


LONG = "é" * 1000
CALLS: dict[str, Callable[[], object]] = {
    "apply_mask": lambda: attempt("apply_mask", bytearray(b"data"), KEY),
    "apply_mask with a wrong key": lambda: attempt("apply_mask", bytearray(b"data"), b"key"),
    "apply_mask with no key": lambda: attempt("apply_mask", bytearray(b"data"), None),
    "unmask": lambda: attempt("unmask", bytearray(KEY + b"data"), 4, 8),
    "unmask with a wrong place": lambda: attempt("unmask", bytearray(KEY + b"data"), 4, 9),
    "take_messages": take(b"".join(encode(FIN | first, b"x" * 300, True) for first in (TEXT, BINARY, TEXT))),
    "take_messages of a long text": take(encode(FIN | TEXT, LONG.encode(), True)),
    "take_messages of bad texts": take(encode(FIN | TEXT, b"a", True) + encode(FIN | TEXT, b"x" * 2000 + b"\xff", True)),
    "take_messages of nothing": take(encode(FIN | PING, b"", True)),
    "take_messages with a wrong limit": take(b"\x81\x80" + KEY, True, None),
    "take_messages from what is held": take_held,
    "message_frame": lambda: attempt("message_frame", "x" * 200, "text", KEY),
    "message_frame of octets": lambda: attempt("message_frame", b"x" * 200, "binary", None),
    "message_frame of another text each time": lambda: attempt("message_frame", "é" * 200, "text", KEY),
    "message_frame of none": lambda: attempt("message_frame", b"x", "text", KEY),
    "message_frame of a surrogate": lambda: attempt("message_frame", "\ud800" * 10, "text", KEY),
    "message_frame with a wrong key": lambda: attempt("message_frame", "x" * 200, "text", b"key"),
    "message_frame with no key": lambda: attempt("message_frame", "x" * 200, "text", 5),
    "take_until": lambda: attempt("take_until", bytearray(b"one\ntwo"), b"\n", 0, 80),
    "take_until of all": lambda: attempt("take_until", bytearray(b"one\r\n"), b"\r\n", 0, 80),
    "take_until of nothing": lambda: attempt("take_until", bytearray(b"one"), b"\n", 0, 80),
    "take_until with a wrong limit": lambda: attempt("take_until", bytearray(b"one\n"), b"\n", 0, "80"),
    "take_until from what is held": take_line_held,
    "Payload": use_payload(),
    "Payload that isn't whole": use_payload(10**6, 9000),
    "Payload used wrongly": misuse_payload,
    "Payload with a wrong key": lambda: attempt("Payload", 10, b"key"),
    "Payload with a wrong size": lambda: attempt("Payload", None, KEY),
    "a wrong count": lambda: attempt("message_frame", "x"),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_reference_leaks(name: str) -> None:
    """Nor of these objects. (From 3.12 on the constants are held for ever anyway, and their references are not counted.)"""
    held = [KEY, LONG] + (["text", "binary", None, True, ()] if sys.version_info < (3, 12) else [])
    leaks_nothing(CALLS[name], held)


def test_the_messages_have_no_other_references() -> None:
    buf, rest = bytearray(b"".join(encode(FIN | BINARY, b"message %d" % i, True) for i in range(5))), []  # type: ignore[var-annotated]
    first = call("take_messages", buf, rest, True, 100)
    assert sys.getrefcount(first) == 2, "this name's, and the call's"
    assert {sys.getrefcount(item) for item in rest} == {3}, "the list's, the loop's, and the call's"
    assert {sys.getrefcount(item[0]) for item in (first, *rest)} == {2}, "the tuple's, and the call's"


def test_a_second_copy_of_the_module() -> None:
    """Its names are its own, and go with it."""
    origin = sys.modules["silly._wire._speedups"].__file__
    assert origin is not None
    for _ in range(5):
        loader = importlib.machinery.ExtensionFileLoader("silly._wire._speedups", origin)
        spec = importlib.util.spec_from_file_location("silly._wire._speedups", origin, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        assert module.message_frame("x", "text", None) == b"\x81\x01x"  # type: ignore[attr-defined]
        taken = module.take_messages(bytearray(b"\x81\x01x"), [], False, 1)  # type: ignore[attr-defined]
        del module, spec, loader
        gc.collect()
        assert taken == ("x", "text")
    assert call("message_frame", "x", "text", None) == b"\x81\x01x"
