"""Whether a peer takes our output fast enough: what it has acknowledged, and when.

What the kernel accepts from us tells little. Once its buffer is full, a third of it
must be free before it accepts more: up to two minutes pass with a peer that steadily
reads 30 KB/s. So what counts is what the peer acknowledges. Only a timer asks for it,
and only while output waits.

A peer with a large receive buffer acknowledges in steps too. It closes its window, and
opens it when much of the buffer is free: with ``curl --limit-rate 30k`` over loopback,
3 MB at a time, every 100 s. In between nothing tells it from a peer that does not read.
So a peer whose window is closed has longer: as long as what it took before lasts at
``SLOW`` bytes a second. A peer that does not acknowledge what is on the way to it
hasn't.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import NamedTuple

from .._wire.limits import Limits

LOOKS = 8
"""How many times in ``write_timeout`` a stalled connection is looked at."""
SLOW = 5000
"""Bytes a second. A reader of this pace is served, in however large steps its kernel
acknowledges. With a large ``write_rate`` it is ``FACTOR`` times that."""
FACTOR = 20
MOST = 10
"""What a peer took buys it at most this many times ``write_timeout``."""

DELAY = 500
"""The most milliseconds that a peer's kernel may wait before it acknowledges data (RFC
9293, section 3.8.6.3)."""

_INFO = struct.Struct("24xI28xI60xQ16xI80xI")
"""``tcpi_unacked``, ``tcpi_last_ack_recv``, ``tcpi_bytes_acked``,
``tcpi_notsent_bytes`` and ``tcpi_snd_wnd`` in Linux's ``struct tcp_info``. Other
systems have other structures."""
_COUNT = struct.Struct("i")

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ

    def _unsent(sock: socket.socket) -> int:
        return int(_COUNT.unpack(ioctl(sock.fileno(), TIOCOUTQ, bytes(_COUNT.size)))[0])

    def taken(sock: socket.socket, accepted: int) -> Taken:
        """Returns how much the peer has taken. ``accepted`` is how many bytes the
        kernel has taken of us; it is used where the kernel can't tell more."""
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
            unacked, since, size, notsent, window = _INFO.unpack(info)
            # A receiver may close its window and drop what is on the way.
            return Taken(size, not unacked or not window, notsent > 0, since <= DELAY)
        except (OSError, struct.error):
            pass  # a Unix socket, or a kernel before 5.4
        try:
            unsent = _unsent(sock)
            return Taken(accepted - unsent, True, unsent > 0)
        except OSError:
            return Taken(accepted, True, False)

else:

    def taken(sock: socket.socket, accepted: int) -> Taken:
        """See above."""
        return Taken(accepted, True, False)


class Taken(NamedTuple):
    """How much of our output a peer has taken."""

    size: int
    """Bytes since some moment of the connection."""
    closed: bool
    """Whether the peer holds us back: its window is closed, or nothing is on the way to
    it."""
    waiting: bool
    """Whether the kernel is known to hold output that it could not send yet."""
    lately: bool = False
    """Whether the peer is known to have acknowledged something within ``DELAY``. Its
    answer to what is on the way to it may not be due yet."""


class Pace:
    """How fast one peer has taken output, as seen by the looks at it so far."""

    __slots__ = ("_clock", "_grown", "_looked", "_marks", "_size", "credit")

    def __init__(self) -> None:
        self._size = 0
        self._looked = 0.0
        """When the last look was, in seconds of ``monotonic()``."""
        self.credit = 0.0
        """The seconds that what was taken still lasts, at ``SLOW``."""
        self._clock = 0.0
        """The seconds that count: those in which a peer with a closed window has credit
        don't."""
        self._grown = 0.0
        """The clock at the last look that saw more taken than before."""
        self._marks: list[tuple[float, int]] = []
        """The clock and the size at each look of this stall, over twice
        ``write_timeout``."""

    def resume(self) -> None:
        """Forgets the stall, which is over: the kernel has accepted all output."""
        self._marks.clear()

    def look(self, now: float, taken: Taken, limits: Limits) -> str | None:
        """Takes note of what the peer has taken until ``now``, in seconds of
        ``monotonic()``. Returns why the connection is to be given up, or None."""
        timeout = limits.write_timeout / 1000
        marks = self._marks
        passed = now - self._looked
        self._looked = now
        self._clock += max(0.0, passed - self.credit) if taken.closed else passed
        self.credit = max(0.0, self.credit - passed)
        if taken.size > self._size or not marks:  # the first look can't tell
            slow = max(SLOW, FACTOR * limits.write_rate)
            self.credit = min(self.credit + max(0, taken.size - self._size) / slow, MOST * timeout)
            self._grown = self._clock
        self._size = taken.size
        marks.append((self._clock, taken.size))
        while len(marks) > 1 and marks[1][0] <= self._clock - 2 * timeout:
            del marks[0]
        if self._clock - self._grown >= timeout:
            return f"no progress in sending {{}} within the limit 'write_timeout' of {limits.write_timeout} ms"
        since, before = marks[0]
        span = self._clock - since
        if span >= 2 * timeout and taken.size - before < limits.write_rate * span:
            return f"sending {{}} was slower than the limit 'write_rate' of {limits.write_rate} bytes a second"
        return None
