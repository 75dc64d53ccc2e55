"""Keepalive of one WebSocket: pings (RFC 6455, section 5.5.2), and a peer that doesn't answer is given up.

One timer for each socket. At a ping it is set to whatever comes first, the next ping or the time when the pong is due; then
it looks whether anything has been heard.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ..._core import scheduler, watchdog
from ..._core.timers import Timer
from ..._wire.limits import Limits
from ..._wire.mask import MaskKeys
from ..._wire.ws import FIN, PING
from .._stream import Stream
from ._sending import OPEN

if TYPE_CHECKING:
    from ._session import Session

_loop = scheduler.loop
_tokens = MaskKeys()


class Keepalive:
    """See the module's header. ``latency`` is the last round trip in ms, or None."""

    __slots__ = ("_count", "_lagged", "_limits", "_pinged", "_stream", "_timer", "_token", "_watched", "latency")

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._token = b""
        """What our pings begin with, drawn at the first: the application's own must not look like them."""
        self._count = 0
        self._pinged = 0.0
        """When the last ping went out; 0 before the first."""
        self._lagged = 0.0
        self.latency: float | None = None
        self._timer: Timer | None = None
        self._watched = True
        watchdog.watch()

    def start(self, session: Session) -> None:
        """Sets the timer of the first ping."""
        if self._limits.ping_interval:
            self._arm(session, monotonic() + self._limits.ping_interval / 1000)

    def _arm(self, session: Session, when: float) -> None:
        self._timer = _loop.timers.add(when, self.tick, session, internal=True)

    def stop(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None
        if self._watched:
            self._watched = False
            watchdog.unwatch()

    def closing(self, session: Session, due: float) -> None:
        """A close frame was sent: no more pings; at ``due`` the session is told that the time is over."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        self._arm(session, due)

    def is_ours(self, pong: bytes) -> bool:
        """Whether ``pong`` answers one of our pings."""
        return len(pong) == 8 and self._count > 0 and pong[:4] == self._token

    def answered(self, pong: bytes) -> None:
        """A pong of ours has arrived."""
        if int.from_bytes(pong[4:], "big") == self._count:
            self.latency = (monotonic() - self._pinged) * 1000

    def tick(self, session: Session) -> None:
        """The timer: sends a ping, or looks for its answer."""
        self._timer = None
        stream = self._stream
        if session.state is not OPEN:
            session.closing_over()
            return
        limits = self._limits
        now = monotonic()
        interval = limits.ping_interval / 1000
        if stream.werr is not None and stream.err is None:
            stream.fail(stream.werr)  # reading pauses, else the reset would have been seen; what had arrived can still be read
        if stream.err is not None:  # the connection is broken, or the peer has ended
            if session.has_more():
                self._arm(session, now + interval)  # a reader has something to read before that
            else:
                session.gone(stream.err)
            return
        if stream.blocked:
            # The last ping may stand in that output, and the limit 'write_timeout' watches over it.
            stream.peer_alive = True
            self._arm(session, now + interval)
            return
        if self._pinged:
            # Unread data holds the peer back, and its pong with it.
            if not stream.peer_alive and not stream.paused:
                due = self._pinged + limits.pong_timeout / 1000 + _loop.lagged - self._lagged
                if now < due:
                    # Not only at ``due``: if something is heard before, the next ping goes out.
                    self._arm(session, min(due, now + interval))
                else:
                    session.no_pong()
                return
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
        stream = self._stream
        stream.peer_alive = False
        stream.write_nowait(session.frame(FIN | PING, self._token + self._count.to_bytes(4, "big")))
