"""Sending on a connection's descriptor, which does not block, in pure Python.
``_speedups.c`` has the same in C."""

from __future__ import annotations

import os

NOTHING = -1
"""Returned if the call would have blocked."""


def send(fd: int, data: bytes | memoryview, /) -> int:
    """Returns how many bytes of ``data`` the kernel took, or ``NOTHING``. Raises
    OSError."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return NOTHING

