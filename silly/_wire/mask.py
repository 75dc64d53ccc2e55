"""Masking of WebSocket payloads (RFC 6455, section 5.3) in pure Python; masking and unmasking are the same.

Short payloads go through one big integer; from ``_STRIDES`` on, four translations of every fourth byte are faster.
"""

from __future__ import annotations

import os

_STRIDES = 512
_tables: list[bytes] = []


def apply_mask(data: bytes | bytearray | memoryview, key: bytes | bytearray) -> bytes:
    """``data`` XOR the four bytes of ``key``, repeated."""
    size = len(data)
    if size < _STRIDES:
        mask = int.from_bytes((key * (size // 4 + 1))[:size], "little")
        return (int.from_bytes(data, "little") ^ mask).to_bytes(size, "little")
    if not _tables:
        _tables.extend(bytes(i ^ k for i in range(256)) for k in range(256))
    out = bytearray(data)
    for i in range(4):
        out[i::4] = out[i::4].translate(_tables[key[i]])
    return bytes(out)


class MaskKeys:
    """Unpredictable masking keys (section 10.3), drawn from the system in blocks: a draw costs more than a key."""

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
