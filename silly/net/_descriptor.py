"""Receiving and sending on a connection's descriptor, which does not block, in pure Python; ``_speedups.c`` has the same in
C."""

from __future__ import annotations

import os

NOTHING = -1
"""Returned where the call would have waited."""


def receive(fd: int, buf: bytearray, size: int, /) -> int:
    """Appends what has come to ``buf``, ``size`` bytes at most: how many, 0 at the end of the data, or ``NOTHING``."""
    try:
        data = os.read(fd, size)
    except BlockingIOError:
        return NOTHING
    buf += data
    return len(data)


def send(fd: int, data: bytes | memoryview, /) -> int:
    """How many bytes of ``data`` the system took, or ``NOTHING``."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return NOTHING

