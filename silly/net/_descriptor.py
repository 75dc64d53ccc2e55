"""Receiving and sending on a connection's descriptor, which does not block, in pure
Python. ``_speedups.c`` has the same in C."""

from __future__ import annotations

import os

NOTHING = -1
"""Returned if the call would have blocked."""


def receive(fd: int, buf: bytearray, size: int, /) -> int:
    """Appends at most ``size`` received bytes to ``buf``. Returns how many, 0 at the
    end of the data, or ``NOTHING``. Raises OSError."""
    try:
        data = os.read(fd, size)
    except BlockingIOError:
        return NOTHING
    buf += data
    return len(data)


def send(fd: int, data: bytes | memoryview, /) -> int:
    """Returns how many bytes of ``data`` the kernel took, or ``NOTHING``. Raises
    OSError."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return NOTHING

