"""Choices made from the bytes of an input, so that a mutation of them is another choice."""

from __future__ import annotations

from typing import TypeVar

from silly._wire.error import ProtocolError

T = TypeVar("T")


class Source:
    """Takes an input apart from its front; past its end everything is 0 or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def choose(self, values: list[T]) -> T:
        return values[self.byte() % len(values)]

    def take(self, size: int) -> bytes:
        self._at = min(self._at, len(self._data))
        got = self._data[self._at : self._at + size]
        self._at += len(got)
        return got

    def rest(self) -> bytes:
        return self.take(self.left)

    def sizes(self) -> list[int]:
        """Up to seven sizes of pieces."""
        return list(self.take(self.byte() % 8)) or [1]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """``data`` in pieces of these sizes, again and again; a size of 0 is an empty piece, unless all are.

    After 250 pieces the rest is one, so that no input takes long.
    """
    pieces = []
    at = 0
    step = sizes if any(sizes) else [1]
    while at < len(data):
        size = step[len(pieces) % len(step)] if len(pieces) < 250 else len(data)
        pieces.append(data[at : at + size])
        at += size
    return pieces


def allowed(exc: ProtocolError, codes: frozenset[int]) -> int:
    """The error's code, which must be one of those listed; its text must be fit for a close frame and a log line."""
    assert exc.code in codes, f"code {exc.code}: {exc.text}"
    assert 0 < len(exc.text) < 500, exc.text
    assert exc.text.isprintable(), exc.text
    return exc.code
