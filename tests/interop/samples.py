"""What is sent in the tests, for both ends. Plain Python: third-party scripts import it too."""

from __future__ import annotations

import base64
import random

MIB = 2**20
SIZES = [0, 1, 124, 125, 126, 127, 65535, 65536, 65537, MIB]
"""Around each form of a frame's length, and of our fragments; the last is exactly our limit."""

BAD_UTF8 = [b"\xff", b"abc\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"]
"""A byte that never occurs, a cut sequence, a surrogate, an overlong form, past U+10FFFF."""

CODES = [
    (1000, ""),
    (1000, "done"),
    (1001, "going away"),
    (1002, "protocol"),
    (1003, "unsupported"),
    (1007, "data"),
    (1008, "policy"),
    (1009, "big"),
    (1010, "extension"),
    (1011, "x" * 123),
    (1012, "restart"),
    (1014, "gateway"),
    (3000, "registered"),
    (4000, "ä€😀"),
    (4999, "😀" * 30),
]
"""Close codes that may be sent, and reasons up to the longest that fits."""


def binary(size: int) -> bytes:
    """``size`` bytes whose period is no power of two."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def text(size: int) -> str:
    """Text of ``size`` bytes in UTF-8, code points of 4 bytes that start at 1, so that 64 KiB cuts one."""
    if not size:
        return ""
    count, rest = divmod(size - 1, 4)
    points = "".join(chr(0x1F600 + i) for i in range(61))
    return "a" + (points * (count // 61 + 1))[:count] + "z" * rest


def cuts(data: bytes, *sizes: int) -> list[bytes]:
    """``data`` in pieces of the given sizes, and what is left."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


FRAGMENTED_TEXT = ["aä€😀".encode()[i : i + 1] for i in range(10)]
"""A code point of each length, byte by byte."""
EMOJI = cuts("😀😁😂".encode(), 2, 0, 5, 0)
"""Code points of 4 bytes cut in their middle, and empty fragments."""
EMPTY = [b"", b"", b""]
FULL = cuts(binary(MIB), 1, 65535, 65536, 65537, 300_000)
"""Exactly our limit."""
EXACT_TEXT = cuts(text(MIB).encode(), 3, 65536, 65537, 125, 126)
MESSAGES = [
    ("text", FRAGMENTED_TEXT),
    ("text", EMOJI),
    ("text", EMPTY),
    ("binary", EMPTY),
    ("binary", FULL),
    ("text", EXACT_TEXT),
]
"""Fragmented messages: type, fragments."""


def noise(size: int) -> bytes:
    """``size`` bytes that don't compress; always the same."""
    return random.Random(size).randbytes(size)


_ALIKE = base64.b64encode(noise(600)).decode()


def phases() -> dict[str, list[str | bytes]]:
    """Messages for a connection that compresses, in the order in which they are sent."""
    return {
        "sizes": [data for size in (0, 1, 125, 126, 65535, 65536, 65537) for data in (text(size), binary(size))],
        # 806 bytes each, of which about 600 are left by themselves, and next to nothing after the one before.
        "alike": [f"{number:05} {_ALIKE}" for number in range(40)],
        "noise": [noise(size) for size in (1, 125, 126, 65536, 65537)],
    }


BETWEEN = b"between"
"""The payload of the ping that precedes each message of the phases."""
NEXT = "next"
"""The message behind each phase."""
