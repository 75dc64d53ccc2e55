"""Keepalive of one WebSocket: sends pings (RFC 6455, section 5.5.2), and gives up a
peer that doesn't answer.

Each socket has one timer. After a ping it runs until the next ping or until the pong is
due, whichever is first, and then checks whether the peer has sent anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core import scheduler
from ..._core.loop import monotonic
from ..._core.timers import Timer
from ..._wire.mask import MaskKeys
from ..._wire.ws import FIN, PING
from .._pace import Pace
from ._sending import OPEN

if TYPE_CHECKING:
    from ._session import Session

_loop = scheduler.loop
_tokens = MaskKeys()


class Keepalive:
    """See the module's header. ``latency`` is the last round trip in ms, or None."""

    __slots__ = ("_count", "_held", "_lagged", "_pace", "_pinged", "_timer", "_token", "latency")

    def __init__(self) -> None:
        self._token = b""
        """The first 4 bytes of our pings, random, so that the application's pings
        differ from them. Drawn for the first ping."""
        self._count = 0
        self._pinged = 0.0
        """When the last ping was sent; 0 before the first."""
        self._lagged = 0.0
        """The loop's ``lagged`` at that time."""
        self._held = 0.0
        """Until when the last ping was behind output that the peer was taking."""
        self._pace: Pace | None = None
        """How fast the peer takes that output, or None."""
        self.latency: float | None = None
        self._timer: Timer | None = None

    def start(self, session: Session) -> None:
        """Sets the timer for the first ping."""
        interval = session.limits.ping_interval
        if interval:
            self._arm(session, monotonic() + interval / 1000)

    def _arm(self, session: Session, when: float) -> None:
        self._timer = _loop.timers.add(when, _tick, session, internal=True)

    def stop(self) -> None:
        """Stops, because the connection has ended."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None

    def closing(self, session: Session, due: float) -> None:
        """Sends no more pings, because our close frame was sent. At ``due``, in seconds
        of ``monotonic()``, calls ``session.closing_over``.
        """
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        self._arm(session, due)

    def is_ours(self, pong: bytes) -> bool:
        """Returns whether ``pong`` answers one of our pings."""
        return len(pong) == 8 and self._count > 0 and pong[:4] == self._token

    def answered(self, pong: bytes) -> None:
        """Measures the latency, if ``pong`` answers our last ping."""
        if int.from_bytes(pong[4:], "big") == self._count:
            self.latency = (monotonic() - self._pinged) * 1000

    def tick(self, session: Session) -> None:
        """Sends a ping, or checks for its answer, since the timer has fired."""
        self._timer = None
        stream = session.stream
        if session.state is not OPEN:
            session.closing_over()
            return
        limits = session.limits
        now = monotonic()
        interval = limits.ping_interval / 1000
        if stream.werr is not None and stream.err is None:
            # Reading is paused, so the reset was not seen. What had arrived can still
            # be read.
            stream.fail(stream.werr)
        if stream.err is not None:  # the connection is broken, or the peer has ended it
            if session.has_more():
                self._arm(session, now + interval)  # a reader gets that first
            else:
                session.gone(stream.err)
            return
        if stream.blocked:
            # The last ping may be in that output. The limit ``write_timeout`` applies.
            stream.peer_alive = True
            self._arm(session, now + interval)
            return
        if self._pinged:
            # While reading is paused, the pong may be behind unread data.
            if not stream.peer_alive and not stream.paused:
                due = max(self._pinged, self._held) + limits.pong_timeout / 1000 + _loop.lagged - self._lagged
                if _loop.busy_since < due:  # what has come since was not looked at yet
                    # Not only at ``due``: if the peer has sent something by then, the
                    # next ping goes out.
                    self._arm(session, min(due, now + interval))
                    return
                self._pace = stream.held_back(self._pace)
                if self._pace is None:
                    session.no_pong()
                else:
                    self._held = now
                    self._arm(session, now + min(limits.ping_interval, limits.pong_timeout) / 1000)
                return
            self._pace = None
            if now < self._pinged + interval:
                self._arm(session, self._pinged + interval)
                return
        self._ping(session, now)
        self._arm(session, now + min(limits.ping_interval, limits.pong_timeout) / 1000)

    def _ping(self, session: Session, now: float) -> None:
        if not self._token:
            self._token = _tokens.next()
        self._count += 1
        self._pinged = now
        self._lagged = _loop.lagged
        session.stream.rest()
        session.stream.peer_alive = False
        session.stream.write_nowait(session.frame(FIN | PING, self._token + self._count.to_bytes(4, "big")))


def _tick(session: Session) -> None:
    """The timer's callback. A function, since each socket would hold a bound method of
    its own."""
    session.keepalive.tick(session)
