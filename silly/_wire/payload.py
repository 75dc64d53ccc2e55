"""A large payload while it arrives, in pure Python; ``_speedups.c`` has the same in C, where what is taken in the end is what
was received into, so that nothing is copied."""

from __future__ import annotations

from .mask import apply_mask

RESERVE = 8
"""Times what has come of a payload is what is reserved for it: what a peer only announces must not fill the memory."""
LEAST = 8192
"""Bytes of it that are taken to have come."""


class Payload:
    """The payload of one frame, of ``size`` bytes, masked with ``key`` unless that is None.

    Whoever receives does so into ``room()``, releases that, and tells ``received`` how much it was; what came to a buffer is
    added by ``add``. Both unmask. Once ``left``, the number of bytes still to come, is 0, ``take`` gives the payload. Raises
    BufferError for what is asked while the room is in use.
    """

    __slots__ = ("_data", "_got", "_key", "_size")

    def __init__(self, size: int, key: bytes | None) -> None:
        if size < 0:
            raise ValueError(f"no payload has {size} bytes")
        if key is not None and len(key) != 4:
            raise ValueError(f"a masking key has 4 bytes, not {len(key)}")
        self._data: bytearray | None = bytearray()
        self._size = size
        self._got = 0
        self._key = key

    @property
    def left(self) -> int:
        """The bytes that are still to come."""
        return self._size - self._got

    def _whole(self) -> bytearray:
        if self._data is None:
            raise ValueError("the payload was taken")
        return self._data

    def _free(self) -> bytearray:
        """Raises BufferError while the room is in use."""
        data = self._whole()
        data.append(0)
        del data[-1]
        return data

    def room(self) -> memoryview:
        """Where the next bytes go; empty only when none are to come. Raises ValueError when the payload was taken."""
        return self._room(0)

    def _room(self, coming: int) -> memoryview:
        """``room``, when ``coming`` bytes are there to be added."""
        data = self._free()
        have = len(data)
        if self._got == have:
            data += bytes(min(self._size, RESERVE * max(have + coming, LEAST)) - have)
        return memoryview(data)[self._got :]

    def received(self, size: int) -> None:
        """The first ``size`` bytes of the room were received. Raises ValueError when there is no such room."""
        data = self._free()
        end = self._got + size
        if size < 0 or end > len(data):
            raise ValueError(f"there is no room for {size} bytes")
        if self._key is not None:
            turn = self._got & 3
            data[self._got : end] = apply_mask(data[self._got : end], self._key[turn:] + self._key[:turn])
        self._got = end

    def add(self, buf: bytearray) -> None:
        """Takes what belongs to the payload off the front of ``buf``."""
        while buf and self.left:
            with self._room(len(buf)) as room:
                size = min(len(buf), len(room))
                room[:size] = buf[:size]
            del buf[:size]
            self.received(size)

    def take(self) -> bytes:
        """The payload, once. Raises ValueError while some of it is still to come."""
        data = self._free()
        if self.left:
            raise ValueError(f"{self.left} bytes of the payload are still to come")
        self._data = None
        return bytes(data)

    def so_far(self) -> bytes:
        """A copy of what has come."""
        return bytes(self._whole()[: self._got])
