"""What ends with a delimiter, taken off a buffer."""

from __future__ import annotations

import random

import pytest

from silly._wire import accelerated


@pytest.mark.parametrize(
    ("data", "delimiter", "start", "most", "taken"),
    [
        (b"one\ntwo\n", b"\n", 0, 80, b"one\n"),
        (b"one\n", b"\n", 0, 80, b"one\n"),
        (b"\n", b"\n", 0, 80, b"\n"),
        (b"", b"\n", 0, 80, None),
        (b"one", b"\n", 0, 80, None),
        (b"one\r", b"\r\n", 0, 80, None),
        (b"one\r\r\ntwo", b"\r\n", 0, 80, b"one\r\r\n"),
        (b"aab", b"ab", 0, 80, b"aab"),
        (b"a\0b\0", b"\0", 0, 80, b"a\0"),
        (b"one\ntwo\n", b"\n", 3, 80, b"one\n"),
        (b"one\ntwo\n", b"\n", 4, 80, b"one\ntwo\n"),
        (b"one\n", b"\n", 4, 80, None),
        (b"one\n", b"\n", 5, 80, None),
        (b"one\n", b"\n", 0, 4, b"one\n"),
        (b"one\n", b"\n", 0, 3, None),
        (b"one\r\n", b"\r\n", 0, 4, None),
        (b"\n", b"\n", 0, 0, None),
        (b"\n", b"\n", 0, -1, None),
        (b"one\n", b"", 0, 80, None),
    ],
)
def test_take_until(data: bytes, delimiter: bytes, start: int, most: int, taken: bytes | None) -> None:
    buf = bytearray(data)
    got = accelerated.take_until(buf, delimiter, start, most)
    assert got == taken
    assert type(got) is bytes or got is None
    assert buf == data[len(taken or b"") :]


def test_take_until_where_the_buffer_is_held() -> None:
    buf = bytearray(b"one\ntwo")
    with memoryview(buf):
        with pytest.raises(BufferError):
            accelerated.take_until(buf, b"\n", 0, 80)
        assert accelerated.take_until(buf, b"?", 0, 80) is None
    assert accelerated.take_until(buf, b"\n", 0, 80) == b"one\n"


@pytest.mark.parametrize("delimiter", [b"\n", b"\r\n", b"--end"])
def test_take_until_of_a_buffer_that_grows(delimiter: bytes) -> None:
    """As a reader asks: each byte is searched once, however the data comes."""
    numbers = random.Random(1)
    lines = [bytes(numbers.choices(b"abc-\r", k=numbers.choice([0, 1, 5, 300]))) + delimiter for _ in range(50)]
    lines = [line if line.find(delimiter) == len(line) - len(delimiter) else delimiter for line in lines]
    for size in (1, 2, 7, 1000):
        stream = b"".join(lines)
        buf = bytearray()
        got = []
        start = 0
        for at in range(0, len(stream), size):
            buf += stream[at : at + size]
            while (line := accelerated.take_until(buf, delimiter, start, 1000)) is not None:
                got.append(line)
                start = 0
            start = max(0, len(buf) - len(delimiter) + 1)
        assert (got, buf) == (lines, b"")
