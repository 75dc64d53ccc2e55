"""The output that a stream has gathered, in pure Python; ``_speedups.c`` has the same in C, with
the limits that stand here. What happens for nearly every write is here, all else in
``_output.py``."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

from ._descriptor import send

GATHER = 64 * 1024
"""Unsent bytes that are sent without waiting for the end of the drain."""
JOINED = 16 * 1024
"""Up to so many bytes several pieces are joined to be sent."""


class Gathered:
    """The base of ``Output``, which sets the attributes. It is made in the thread of the loop."""

    __slots__ = ("_all_dirty", "_blocked", "_dirty", "_out", "_thread", "fd", "file_sender", "unsent", "werr")

    _flush: Callable[[int, OSError | None], None]
    """Of ``Output``: goes on where ``flush`` met more than it can do: how many bytes were sent, and what sending them met."""

    def __init__(self) -> None:
        self.fd = -1
        self.werr: str | None = None
        """What a write gives once nothing can be sent any more."""
        self.unsent = 0
        """Bytes in ``_out``."""
        self._out: list[bytes | memoryview] = []
        self._dirty = False
        """Whether it is in ``_all_dirty``."""
        self._all_dirty: list[Any] = []
        """Those that the loop will flush."""
        self._blocked = False
        """Whether the kernel refused output and has not taken it since."""
        self.file_sender: object = None
        """The task that sends a file, or None."""
        self._thread = get_ident()
        """The thread whose data ``try_queue`` takes. 0 is no thread's number: then it takes none."""

    def try_queue(self, data: bytes) -> bool:
        """Queues ``data``, if nothing stands against it, and it is little; False when nothing was done."""
        if (
            self.werr is not None
            or self._blocked
            or self.file_sender is not None
            or type(data) is not bytes
            or self.unsent + len(data) >= GATHER
            or get_ident() != self._thread
        ):
            return False
        self._out.append(data)
        self.unsent += len(data)
        if not self._dirty:
            self._dirty = True
            self._all_dirty.append(self)
        return True

    def flush(self) -> None:
        """Sends what was gathered. The loop calls it for dirty streams."""
        self._dirty = False
        out = self._out
        if not out or self._blocked:
            return
        if len(out) > 1 and self.unsent > JOINED:
            self._flush(0, None)
            return
        try:
            sent = send(self.fd, out[0] if len(out) == 1 else b"".join(out))
        except OSError as exc:
            # Not left to the next attempt: the system tells a reset once, after that only a broken pipe.
            self._flush(0, exc)
            return
        if sent == self.unsent:
            out.clear()
            self.unsent = 0
        else:
            self._flush(max(sent, 0), None)
