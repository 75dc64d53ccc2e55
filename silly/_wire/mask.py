"""Masking of WebSocket payloads (RFC 6455, section 5.3) in pure Python; masking and
unmasking are the same.

Short payloads go through one big integer; from ``_STRIDES`` bytes on, four translations
of every fourth byte are faster.
"""

from __future__ import annotations

import os

_STRIDES = 512
_REPEAT = [sum(1 << (32 * i) for i in range(words)) for words in range(_STRIDES // 4 + 1)]
"""A key of four bytes times the number at index n is the key repeated n times."""
_tables: list[bytes] = []


def apply_mask(data: bytes | bytearray | memoryview, key: bytes | bytearray) -> bytes:
    """``data`` XOR the four bytes of ``key``, repeated."""
    size = len(data)
    if size >= _STRIDES:
        return _strides(bytearray(data), key)
    words = (size + 3) >> 2
    mixed = int.from_bytes(data, "little") ^ (int.from_bytes(key, "little") * _REPEAT[words])
    return mixed.to_bytes(words << 2, "little")[:size]


def unmask(buf: bytearray, at: int, end: int) -> bytes:
    """The payload ``buf[at:end]`` of a frame, unmasked; its masking key is right before
    it."""
    size = end - at
    if size >= _STRIDES:
        return _strides(buf[at:end], buf[at - 4 : at])
    words = (size + 3) >> 2
    # Key and payload as one number: this saves a slice and a conversion.
    both = int.from_bytes(buf[at - 4 : end], "little")
    return ((both >> 32) ^ ((both & 0xFFFFFFFF) * _REPEAT[words])).to_bytes(words << 2, "little")[:size]


def _strides(data: bytearray, key: bytes | bytearray) -> bytes:
    """``apply_mask`` for long data, which it changes."""
    if not _tables:
        _tables.extend(bytes(i ^ k for i in range(256)) for k in range(256))
    for i in range(4):
        data[i::4] = data[i::4].translate(_tables[key[i]])
    return bytes(data)


class MaskKeys:
    """Unpredictable masking keys (section 10.3), drawn from the system in blocks, since
    each draw is slow."""

    __slots__ = ("_at", "_block")

    _BLOCK = 1024

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def next(self) -> bytes:
        """Four bytes that no peer can predict."""
        at = self._at
        if at >= len(self._block):
            self._block = os.urandom(self._BLOCK)
            at = 0
        self._at = at + 4
        return self._block[at : at + 4]
