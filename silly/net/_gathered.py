"""What a stream does for nearly every event and every write, in pure Python.
``_speedups.c`` has the same in C, with the limits from here. ``_stream.py`` and
``_output.py`` do the rest.

Over TLS there are two lists of output, and no flag says which of the two kinds of bytes
one holds: what is written goes into ``_gathered``, the kernel gets what is in ``_out``,
and only ``seal`` leads from one to the other. Over plain TCP they are the same list.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from .._core import scheduler
from .._core.loop import READ
from .._core.scheduler import wake
from ._descriptor import send

GATHER = 64 * 1024
"""With this many unsent bytes, output is sent before the end of the slice."""
JOINED = 16 * 1024
"""Up to this many bytes, several pieces are joined and sent in one call. Over TLS they
are one record."""


class Sealer(Protocol):
    """What makes records of data: ``_tls_pipe.Pipe``."""

    def seal(self, pieces: list[bytes | memoryview], /) -> bytes: ...


class Gathered:
    """The base of ``Output``. Made in the loop's thread. ``pipe`` seals what is
    written; None over plain TCP."""

    __slots__ = (
        "_all_dirty",
        "_blocked",
        "_dirty",
        "_gathered",
        "_out",
        "_payload",
        "_reader",
        "_recv_size",
        "_thread",
        "buf",
        "fd",
        "file_sender",
        "flushed",
        "need",
        "peer_alive",
        "pipe",
        "queued",
        "received",
        "unsent",
        "werr",
    )

    _flush: Callable[[int, BaseException | None], None]
    """Defined by ``Output``: continues where ``flush`` can't. Its arguments: how many
    bytes were sent, and the error of sending or sealing."""
    _other_event: Callable[[int], None]
    """Defined by ``Stream``: handles an event that is more than data for ``buf``."""
    _came: Callable[[int], None]
    """Defined by ``Stream``: handles that so many bytes have come, 0 for the end, which
    wake no reader."""
    _receive_failed: Callable[[OSError], None]
    """Defined by ``Stream``: handles an error of receiving."""

    def __init__(self, pipe: Sealer | None, /) -> None:
        self.fd = -1
        """The descriptor, or -1 once it is closed."""
        self.buf = bytearray()
        """What has come and was not taken yet."""
        self.need = 0
        """How many bytes ``buf`` must hold before the reader goes on."""
        self.peer_alive = True
        """Whether anything has come from the peer since this was last cleared."""
        self._reader: scheduler.Task | None = None
        """The task that waits for data, or None."""
        self._payload: object = None
        """Where the reader wants the data instead of in ``buf``, or None."""
        self._recv_size = 0
        """The most bytes of one receive."""
        self.werr: str | None = None
        """The error of every write once nothing can be sent any more."""
        self.unsent = 0
        """Bytes in ``_gathered`` and ``_out``."""
        self._out: list[bytes | memoryview] = []
        """What the kernel gets."""
        self.pipe = pipe
        self._gathered = self._out if pipe is None else []
        """What was written and is not sealed yet; without a ``pipe`` it is ``_out``
        itself. Neither list is ever exchanged for another."""
        self._dirty = False
        """Whether it is in ``_all_dirty``."""
        self._all_dirty: list[Any] = []
        """The streams that the loop will flush."""
        self._blocked = False
        """Whether the kernel refused output and has not taken any since."""
        self.file_sender: object = None
        """The task that sends a file, or None."""
        self.received = 0
        """Bytes that were received."""
        self.flushed = 0
        """Bytes that were sent by a ``flush`` that sent everything. ``_flush`` counts
        the others."""
        self.queued = 0
        """How often ``try_queue`` has returned True."""
        self._thread = get_ident()
        """The only thread whose data ``try_queue`` takes."""

    def on_event(self, mask: int, /) -> None:
        """Handles an event of the descriptor. For nearly every message this receives
        into ``buf``, and makes the reader ready."""
        if mask != READ or self._payload is not None or self.fd < 0:
            self._other_event(mask)
            return
        try:
            data = os.read(self.fd, self._recv_size)
        except BlockingIOError:
            return
        except OSError as exc:
            self._receive_failed(exc)
            return
        self.buf += data
        self.received += len(data)
        self.peer_alive = True
        reader = self._reader
        if reader is not None and data and len(self.buf) >= self.need:
            self._reader = None
            wake(reader)
        else:
            self._came(len(data))

    def try_queue(self, data: bytes) -> bool:
        """Queues ``data`` if it is small and output is not blocked; else returns
        False."""
        if (
            self.werr is not None
            or self._blocked
            or self.file_sender is not None
            or type(data) is not bytes
            or self.unsent + len(data) >= GATHER
            or get_ident() != self._thread
        ):
            return False
        self._gathered.append(data)
        self.unsent += len(data)
        self.queued += 1
        if not self._dirty:
            self._dirty = True
            self._all_dirty.append(self)
        return True

    def flush(self) -> None:
        """Seals and sends the gathered output. The loop calls it for dirty streams."""
        self._dirty = False
        out = self._out
        if self._blocked:
            return
        if self.pipe is not None and self._gathered:
            if out or self.unsent > JOINED:
                self._flush(0, None)
                return
            plain = self.unsent
            try:
                records = self.pipe.seal(self._gathered)
                out.append(records)
                self.unsent += len(records) - plain
            except BaseException as exc:
                self._flush(0, exc)
                return
        if not out:
            return
        if len(out) > 1 and self.unsent > JOINED:
            self._flush(0, None)
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        try:
            sent = send(self.fd, data)
        except OSError as exc:
            # Pass it on: the system reports a reset only once, then a broken pipe.
            self._flush(0, exc)
            return
        if sent == len(data):
            self.flushed += sent
            self.unsent -= sent
            out.clear()
        else:
            self._flush(max(sent, 0), None)
