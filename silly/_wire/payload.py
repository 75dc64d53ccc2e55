"""A large payload while it arrives, in pure Python. ``_speedups.c`` has the same in C;
there ``take`` returns the memory that was received into, so that nothing is copied."""

from __future__ import annotations

from .mask import apply_mask

RESERVE = 8
"""At most this many times the bytes received are reserved: a length that a peer only
announces must not fill the memory."""
LEAST = 8192
"""For that, at least this many bytes count as received."""


class Payload:
    """The payload of one frame, of ``size`` bytes, masked unless ``key`` is None.

    Receive into ``room()``, release that, and tell ``received`` how many bytes came; or
    let ``add`` take them out of a buffer. Both unmask. Once ``left``, the number of
    bytes still to come, is 0, ``take`` returns the payload. While a room is in use,
    all methods but ``so_far`` raise BufferError.
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
        """The data. Raises BufferError while a room is in use."""
        data = self._whole()
        data.append(0)
        del data[-1]
        return data

    def room(self) -> memoryview:
        """Where the next bytes go; empty only when none are to come. Raises ValueError
        when the payload was taken."""
        return self._room(0)

    def _room(self, coming: int) -> memoryview:
        """``room``, for ``coming`` bytes that are about to be added."""
        data = self._free()
        have = len(data)
        if self._got == have:
            data += bytes(min(self._size, RESERVE * max(have + coming, LEAST)) - have)
        return memoryview(data)[self._got :]

    def received(self, size: int) -> None:
        """Counts the first ``size`` bytes of the room as received.

        Raises ValueError if the room is smaller.
        """
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
