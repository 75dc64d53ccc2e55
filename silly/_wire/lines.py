"""Lines, and whatever else ends with a delimiter. ``_speedups.c`` has the same in C."""

from __future__ import annotations


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
    if end == len(buf):
        data = bytes(buf)
        buf.clear()
    else:
        with memoryview(buf) as view:
            data = bytes(view[:end])
        del buf[:end]
    return data
