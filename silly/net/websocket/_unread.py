"""Bookkeeping for a buffer that nobody reads, and that is looked through where it lies: how far, and which control frames in it
have been acted upon already. The package's header says what that is for."""

from __future__ import annotations

from time import monotonic

from ..._core import scheduler
from ..._core.timers import Timer
from ..._wire.ws import CLOSE, FIN, MessageReader

UNREAD = 10.0
"""Seconds after which a buffer that was looked through counts as read by nobody, rather than by somebody slow."""


class Unread:
    """See the module's header. ``timer`` is that of the next look."""

    __slots__ = ("_at", "_base", "_data", "_frames", "_since", "timer")

    def __init__(self) -> None:
        self.timer: Timer | None = None
        self._frames: list[tuple[int, int, bool]] = []
        """Where the control frames that were acted upon start and end, and whether they are pongs to pings of ours; counted
        from where the buffer began ``_base`` bytes ago."""
        self._base = 0
        self._at = 0
        """Up to where the buffer was looked through."""
        self._data = False
        """Whether data frames may come before that."""
        self._since = 0.0
        """When somebody read last, as far as is known."""

    def stop(self) -> None:
        """The connection has ended: nobody looks any more."""
        if self.timer is not None:
            scheduler.loop.timers.cancel(self.timer)
            self.timer = None

    def restart(self) -> int:
        """Somebody has read, nobody knows how much: looking begins anew. How many control frames, the first in the buffer, were
        acted upon before."""
        known = len(self._frames)
        self._frames.clear()
        self._base = self._at = 0
        self._data = False
        self._since = monotonic()
        return known

    def look(self, messages: MessageReader, buf: bytearray, data: bool) -> list[tuple[int, bytes, int, int]]:
        """The control frames that have come since the last look; see ``MessageReader.look``. ``data``: whether messages that
        were taken off the buffer are still to be read."""
        found, self._at, self._data = messages.look(buf, self._at, self._data or data)
        return found

    def add(self, start: int, end: int, ours: bool) -> None:
        """The control frame that lies there was acted upon."""
        self._frames.append((start + self._base, end + self._base, ours))

    def shown(self) -> bool:
        """A control frame was taken off the buffer: whether it was acted upon before."""
        if not self._frames:
            return False
        self._frames.pop(0)
        return True

    def taken(self, size: int) -> None:
        """Somebody has read so many bytes off the buffer: they need not be looked at again."""
        self._since = monotonic()
        self._base += size
        self._at = max(0, self._at - size)
        self._data = self._at > 0

    def size(self) -> int:
        """The bytes of the control frames that were acted upon and still lie in the buffer."""
        return sum(end - start for start, end, _ in self._frames)

    def abandoned(self) -> bool:
        """Whether nobody has read for long."""
        return monotonic() >= self._since + UNREAD

    def thin_out(self, buf: bytearray, most: int) -> None:
        """Cuts control frames that were acted upon out of the buffer: in hours they would fill it. The newest stay to be shown,
        ``most`` bytes of them, but for pongs to our pings; and a close frame stays."""
        base, size = self._base, self.size()
        kept = bytearray()
        left: list[tuple[int, int, bool]] = []
        at = 0
        for start, end, ours in self._frames:
            first, last = start - base, end - base
            if (ours or size > most) and buf[first] != FIN | CLOSE:
                kept += buf[at:first]
                at = last
            else:
                cut = at - len(kept)
                left.append((start - cut, end - cut, ours))
            size -= last - first
        self._at -= at - len(kept)
        kept += buf[at:]
        buf[:] = kept
        self._frames = left
