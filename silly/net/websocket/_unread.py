"""A socket that nobody reads: after a while what has arrived is taken off the buffer,
so that its control frames are answered. The package's header gives the reasons.

What is taken goes into ``session.taken``, the same queue that holds the rest of a batch
of messages, so the reader gets everything in order.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from ..._core import scheduler
from ..._core.loop import monotonic
from ..._core.timers import Timer
from ..._wire.error import ProtocolError
from ..._wire.messages import Taken
from ..._wire.ws import BINARY, CONTINUATION, TEXT

if TYPE_CHECKING:
    from ._session import Session

LOOK = 0.1
"""Seconds after which data that nobody waits for is taken. A busy handler usually reads
it before."""
UNREAD = 10.0
"""Seconds without a read after which nobody seems to read the socket; before that the
reader may only be slow."""
OVERHEAD = 16
"""Bytes that each message in the queue counts in addition to its data. A tiny message
really needs about 100 more, so the queue uses at most seven times the memory that it
counts."""

_CONTROLS = ("ping", "pong")


def _act_on(session: Session, opcode: int, data: Any, queued: int) -> Taken | None:
    """Handles what was taken, and returns what a reader will see of it, or None.
    ``queued`` items are to be read before it.
    """
    if CONTINUATION < opcode <= BINARY:
        session.set_aside += 1
        return data, "text" if opcode == TEXT else "binary"
    shown = session.control(opcode, data, queued)
    if shown is None or shown[0] is None:
        return None
    data, typ = shown
    return data, typ


def end_by_fault(session: Session, exc: ProtocolError, taken: list[Taken], held: bool) -> None:
    """Handles a fault of the peer behind what was ``taken``. If there is data before
    it, a reader gets the data first; else the connection ends now. ``held`` says
    whether some of the open message is held, which may be read in pieces.
    """
    if held or any(typ not in _CONTROLS for _, typ in chain(taken, session.taken)):
        session.fault = exc
        session.err = session.blame(exc)
    else:
        session.broke(exc)


def _size(item: Taken) -> tuple[int, int]:
    """The bytes that a message in the queue counts, and those of them that count as a
    control frame's: all or none."""
    size = len(item[0]) + OVERHEAD
    return size, size if item[1] in _CONTROLS else 0


def _sums(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    return sum([size for size, _ in sizes]), sum([control for _, control in sizes])


class Unread:
    """See the module's header. ``timer`` runs while there may be something to take."""

    __slots__ = ("_answered", "_held", "_queue", "_since", "_sizes", "timer")

    def __init__(self) -> None:
        self.timer: Timer | None = None
        self._queue: list[Taken] = []
        """The queue as the last ``take`` left it. If it is another one now, or shorter,
        somebody has read."""
        self._sizes: list[tuple[int, int]] = []
        """The ``_size`` of each message in it. So a call costs what was read since the
        last one, not what is queued: a peer could fill the queues of many slow
        readers."""
        self._since = 0.0
        """When the last read was noticed."""
        self._held = 0
        """The size of the queue in bytes."""
        self._answered = 0
        """The size of the control frames in it, in bytes."""

    def stop(self) -> None:
        """Cancels the timer: nothing more will be taken, or it is taken now."""
        if self.timer is not None:
            scheduler.loop.timers.cancel(self.timer)
            self.timer = None

    def take(self, session: Session) -> None:
        """Takes what may be taken, and handles the control frames in it.

        Stops when the queue holds ``receive_mark`` bytes, so memory stays bounded; the
        timer then tries again later.
        """
        stream, messages = session.stream, session.messages
        now = monotonic()
        if not session.taken and not messages.held:
            self._since = now  # all that came before has been read
        self._count(session.taken, now)
        taken: list[Taken] = []
        sizes: list[tuple[int, int]] = []
        buf = stream.buf
        try:
            while self._held < stream.mark and session.err is None:
                size = messages.complete(buf, self._held + messages.held < stream.mark)
                if size < 0:
                    break
                frame = buf[:size]
                del buf[:size]
                try:
                    got = messages.next(frame)
                except ProtocolError as exc:
                    end_by_fault(session, exc, taken, messages.held > 0)
                    break
                if isinstance(got, int):
                    continue
                shown = _act_on(session, *got, len(taken) + len(session.taken))
                if shown is not None:
                    taken.append(shown)
                    held, answered = _size(shown)
                    sizes.append((held, answered))
                    self._held += held
                    self._answered += answered
        finally:
            if taken and not stream.closed:
                taken.reverse()
                sizes.reverse()
                self._sizes[:0] = sizes
                if session.taken:
                    session.taken[:0] = taken  # a new list would cost a copy of the queue
                else:
                    session.taken = self._queue = taken
        if session.err is not None:
            return
        full = self._held + messages.held >= stream.mark
        if self._answered > stream.mark >> 2 and now >= self._since + UNREAD:
            session.taken = self._queue = self._thin_out(session.taken, stream.mark >> 3)
            self._sizes = [_size(item) for item in self._queue]
        if stream.paused:
            stream.set_mark(stream.mark)  # reading may go on
        if full and buf:
            # Wait as long again as nobody has read so far.
            self._arm(session, max(LOOK, min(now - self._since, UNREAD)))

    def wait(self, session: Session) -> None:
        """Sets the timer, because there is something to take."""
        self._arm(session, LOOK)

    def _arm(self, session: Session, seconds: float) -> None:
        self.timer = scheduler.loop.timers.add(monotonic() + seconds, self._on_timer, session, internal=True)

    def _on_timer(self, session: Session) -> None:
        self.timer = None
        session.take_unread()

    def _count(self, queue: list[Taken], now: float) -> None:
        """Brings the sizes up to date if somebody has read since the last call."""
        if queue is not self._queue:
            self._queue, self._sizes = queue, [_size(item) for item in queue]
            self._held, self._answered = _sums(self._sizes)
        else:
            read = self._sizes[len(queue) :]
            if not read:
                return
            del self._sizes[len(queue) :]
            held, answered = _sums(read)
            self._held -= held
            self._answered -= answered
        self._since = now

    def _thin_out(self, queue: list[Taken], most: int) -> list[Taken]:
        """Drops control frames, which would fill the queue in hours, but for the newest
        ``most`` bytes.
        """
        kept = []
        self._answered = 0
        for item in queue:
            size, control = _size(item)
            if control:
                if self._answered + size > most:
                    most = 0
                    self._held -= size
                    continue
                self._answered += size
            kept.append(item)
        return kept
