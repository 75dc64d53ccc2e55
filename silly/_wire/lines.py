"""What is taken off the front of a buffer: so many bytes, a line, or whatever else ends
with a delimiter. ``_speedups.c`` has ``take_until`` in C."""

from __future__ import annotations


def take(buf: bytearray, size: int) -> bytes:
    """Removes and returns the first ``size`` bytes of ``buf``, which must hold them."""
    if size == len(buf):
        data = bytes(buf)
        buf.clear()
    else:
        with memoryview(buf) as view:
            data = bytes(view[:size])
        del buf[:size]
    return data


def take_until(buf: bytearray, delimiter: bytes, start: int, most: int, /) -> bytes | None:
    """Removes and returns what ``buf`` has up to and including the first ``delimiter``
    that lies at ``start`` or later.

        buf = bytearray(b"one\\ntwo")
        take_until(buf, b"\\n", 0, 80)       # -> b"one\\n"; b"two" is left

    Returns None, and leaves ``buf`` as it is, if there is none, if that would be more
    than ``most`` bytes, and for an empty delimiter.
    """
    end = buf.find(delimiter, start) + len(delimiter)
    if end < len(delimiter) or end > most or not delimiter:
        return None
    return take(buf, end)
