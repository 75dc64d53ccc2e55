"""``take_chunks`` in C: held against the one in Python on whatever can be generated, and against what only C can do wrong.

What it is for, ``test_chunked.py`` and ``test_chunked_floods.py`` test on both.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire.chunk_data import AT_SIZE, OVERHEAD

from ..implementations import ACCELERATED, PURE, needs_c
from ..leaks import leaks_nothing
from .strategies import STEADY, chunked_bodies, damaged
from .support import TRAILING
from .test_accelerated import LASTING, failures
from .test_chunked import BAD, GOOD, LOOSE

pytestmark = needs_c

MOST = 2**63 - 1
VECTORS = [row[1] for rows in (GOOD, LOOSE, BAD) for row in rows]
SIZES = [0, 1, 2, 15, 16, 100, 5000]


def call(*args: Any) -> Any:
    return ACCELERATED["take_chunks"](*args)


def attempt(*args: Any) -> Any:
    """The result of a call, or the type of the error that it raises."""
    try:
        return call(*args)
    except Exception as exc:
        return type(exc)


# ---- the same as Python --------------------------------------------------------------------------------------------------


def check(data: bytes, left: int = AT_SIZE, overhead: int = 0, most: int = MOST, chunks: int = MOST) -> bytes:
    """Both take the same off ``data`` and leave the same, however often they are asked; all that they took."""
    buffers = [bytearray(data), bytearray(data)]
    body = b""
    while True:
        ours, theirs = (
            functions["take_chunks"](buf, left, overhead, most, chunks)
            for functions, buf in zip((ACCELERATED, PURE), buffers, strict=True)
        )
        assert (ours, buffers[0]) == (theirs, buffers[1])
        assert list(map(type, ours)) == list(map(type, theirs))
        taken, left, overhead, chunks = ours
        assert len(taken) <= max(most, 0)
        if not taken:
            return body
        body += taken


@pytest.mark.parametrize("vector", VECTORS)
def test_the_vectors_cut_at_every_byte(vector: bytes) -> None:
    data = vector + TRAILING
    for size in range(min(len(data), 300) + 1):
        check(data[:size])
        check(data[size:])
    for most, chunks in ((1, MOST), (3, 2), (0, 1), (-1, -1), (100, 0)):
        check(data, AT_SIZE, 0, most, chunks)


def test_random_streams() -> None:
    numbers = random.Random(7)
    taken = []
    for _ in range(1000):
        chunks = []
        for _ in range(numbers.choice([1, 2, 20])):
            size = numbers.choice(SIZES)
            line = numbers.choice([b"%x", b"%X", b"%04x", b"%015x", b"%016x", b"%x ", b"%x;a=b"]) % size
            chunks.append(line + b"\r\n" + numbers.randbytes(size) + b"\r\n")
        stream = bytearray(b"".join(chunks))
        if numbers.random() < 0.5:
            stream[numbers.randrange(len(stream))] = numbers.choice(b"\r\n 0fFgG;\0\xff")
        left = numbers.choice([AT_SIZE, AT_SIZE, -5, 0, 1, 3, 10_000, 2**62, MOST])
        overhead = numbers.choice([0, 0, 1, OVERHEAD - 2, OVERHEAD])
        stream = stream[: numbers.choice([len(stream), numbers.randrange(len(stream) + 1)])]
        most = numbers.choice([1, 5, 1000, MOST] if len(stream) < 500 else [1000, MOST])
        taken.append(len(check(bytes(stream), left, overhead, most, numbers.choice([1, 3, MOST, MOST]))))
    assert max(taken) > 10_000
    assert 0 in taken


@pytest.mark.parametrize("place", range(3))
def test_every_byte_in_a_size_line(place: int) -> None:
    for byte in range(256):
        line = bytearray(b"5\r\n")
        line[place] = byte
        check(bytes(line) + b"hello\r\n")
        check(b"1" + bytes(line) + bytes(300))


def test_sizes_of_any_length() -> None:
    for digits in range(1, 20):
        for digit in b"01f":
            check(bytes([digit]) * digits + b"\r\nabc")
            check(b"0" * (digits - 1) + bytes([digit]) + b"\r\n" + b"x" * 15 + b"\r\n")


@pytest.mark.parametrize("overhead", [0, 1, 2, 3, OVERHEAD - 3, OVERHEAD - 2, OVERHEAD - 1, OVERHEAD])
def test_the_limit_of_the_overhead(overhead: int) -> None:
    """A chunk of a byte whose size has 15 digits owes one byte."""
    check((b"0" * 14 + b"1\r\nx\r\n") * 5, AT_SIZE, overhead)
    check(b"1\r\nx\r\n" * 5, AT_SIZE, overhead)


@STEADY
@given(st.data(), chunked_bodies(), st.integers(-1, 50), st.integers(-1, 5))
def test_generated_streams(data: Any, stream: bytes, most: int, chunks: int) -> None:
    check(data.draw(damaged(stream)), AT_SIZE, 0, most, chunks)


@STEADY
@given(st.binary(max_size=60), st.integers(-2, 70), st.integers(0, OVERHEAD))
def test_any_bytes(stream: bytes, left: int, overhead: int) -> None:
    check(stream, left, overhead)


# ---- what only C can do wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), TypeError),
        ((bytearray(), AT_SIZE, 0, 1), TypeError),
        ((bytearray(), AT_SIZE, 0, 1, 1, 1), TypeError),
        ((b"1\r\nx\r\n", AT_SIZE, 0, 1, 1), TypeError),
        ((memoryview(bytearray(b"1\r\nx")), AT_SIZE, 0, 1, 1), TypeError),
        ((bytearray(), None, 0, 1, 1), TypeError),
        ((bytearray(), AT_SIZE, "0", 1, 1), TypeError),
        ((bytearray(), AT_SIZE, 0, 1.5, 1), TypeError),
        ((bytearray(), AT_SIZE, 0, 1, None), TypeError),
        ((bytearray(), 2**63, 0, 1, 1), OverflowError),
        ((bytearray(), AT_SIZE, 0, 1, -(2**63) - 1), OverflowError),
        ((bytearray(), AT_SIZE, -1, 1, 1), ValueError),
        ((bytearray(), AT_SIZE, OVERHEAD + 1, 1, 1), ValueError),
    ],
)
def test_wrong_arguments(args: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        call(*args)


def take_held() -> None:
    buf = bytearray(b"1\r\nx\r\n1\r\ny\r\n")
    with memoryview(buf):
        assert attempt(buf, AT_SIZE, 0, 100, 100) is BufferError
        assert call(buf, 0, 0, 100, 100) == (b"", 0, 0, 100)
    assert buf == b"1\r\nx\r\n1\r\ny\r\n"


def test_a_buffer_that_is_held_stays_as_it_is() -> None:
    take_held()


@LASTING
def test_without_memory(lasting: bool) -> None:
    """Whatever can't be allocated: an exception, and nothing is taken."""
    data = b"7d0\r\n" + bytes(2000) + b"\r\n3e8\r\n" + bytes(900)

    def check_kept(args: tuple[Any, ...]) -> None:
        assert args[0] == data

    assert failures("take_chunks", lambda: (bytearray(data), AT_SIZE, 0, 2**40, 2**40), check_kept, lasting) >= 2


BODY = b"".join(b"%x\r\n%b\r\n" % (size, bytes(size)) for size in (1, 300, 5000))
CALLS: dict[str, Callable[[], object]] = {
    "some": lambda: call(bytearray(BODY), AT_SIZE, 0, 4000, 2**40),
    "all": lambda: call(bytearray(BODY), AT_SIZE, 0, MOST, MOST),
    "a part of a long chunk": lambda: call(bytearray(BODY), 2**62, 0, MOST, MOST),
    "nothing": lambda: call(bytearray(b"0\r\n\r\n"), AT_SIZE, OVERHEAD, MOST, 2**40),
    "too much overhead": lambda: attempt(bytearray(BODY), AT_SIZE, -1, 1, 1),
    "wrong arguments": lambda: (attempt(bytearray(BODY), 2**63, 0, 1, 1), attempt()),
    "what is held": take_held,
}


@pytest.mark.parametrize("name", CALLS)
def test_no_reference_leaks(name: str) -> None:
    leaks_nothing(CALLS[name])


def test_the_data_has_no_other_references() -> None:
    taken = call(bytearray(BODY), AT_SIZE, 0, 4000, 100)
    count = sys.getrefcount(taken[0])
    assert (sys.getrefcount(taken), count) == (2, 2), "this name's or the tuple's, and the call's"
