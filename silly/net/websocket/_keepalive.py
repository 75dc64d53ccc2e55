"""Keepalive of one WebSocket: pings (RFC 6455, section 5.5.2), and who doesn't answer is given up.

One timer for each socket. At a ping it is set to whatever comes first, the next ping or the time when the pong is due; then
it looks whether anything has been heard. The loop holds the timer, so the timer holds the socket by a weak reference only.
"""

from __future__ import annotations

import weakref
from time import monotonic
from typing import TYPE_CHECKING

from ..._core import scheduler, watchdog
from ..._core.timers import Timer
from ..._wire.limits import Limits
from ..._wire.mask import MaskKeys
from .._stream import Stream

if TYPE_CHECKING:
    from ._socket import Socket

_loop = scheduler.loop
_tokens = MaskKeys()


class Keepalive:
    """See the module's header. ``latency`` is the last round trip in ms, or None."""

    __slots__ = ("_count", "_lagged", "_limits", "_pinged", "_sock", "_stream", "_timer", "_token", "_watched", "latency")

    def __init__(self, sock: weakref.ref[Socket], stream: Stream, limits: Limits) -> None:
        self._sock = sock
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
        if limits.ping_interval:
            self._arm(monotonic() + limits.ping_interval / 1000)

    def _arm(self, when: float) -> None:
        self._timer = _loop.timers.add(when, _tick, self._sock, internal=True)

    def stop(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None
        if self._watched:
            self._watched = False
            watchdog.unwatch()

    def closing(self, due: float) -> None:
        """A close frame was sent: no more pings; at ``due`` the socket is told that the time is over."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        self._arm(due)

    def is_ours(self, pong: bytes) -> bool:
        """Whether ``pong`` answers one of our pings."""
        return len(pong) == 8 and self._count > 0 and pong[:4] == self._token

    def answered(self, pong: bytes) -> None:
        """A pong of ours has arrived."""
        if int.from_bytes(pong[4:], "big") == self._count:
            self.latency = (monotonic() - self._pinged) * 1000

    def tick(self, sock: Socket) -> None:
        """The timer: sends a ping, or looks for its answer."""
        self._timer = None
        stream = self._stream
        if stream.closed:
            return  # by ``sock.conn``: whoever reads or writes next is told
        if stream.goodbye is None:
            sock._closing_over()
            return
        limits = self._limits
        now = monotonic()
        interval = limits.ping_interval / 1000
        if stream.werr is not None and stream.err is None:
            stream.fail(stream.werr)  # reading pauses, else the reset would have been seen; what had arrived can still be read
        if stream.err is not None:  # the connection is broken, or the peer has ended
            if sock._to_read():
                self._arm(now + interval)  # a reader has something to read before that
            else:
                sock._gone(stream.err)
            return
        if stream.blocked:
            # The last ping may stand in that output, and the limit 'write_timeout' watches over it.
            stream.heard = True
            self._arm(now + interval)
            return
        if self._pinged:
            # Unread data holds the peer back, and its pong with it.
            if not stream.heard and not stream.paused:
                due = self._pinged + limits.pong_timeout / 1000 + _loop.lagged - self._lagged
                if now < due:
                    self._arm(min(due, now + interval))  # not only at ``due``: when heard before, the next ping goes out
                else:
                    sock._no_pong()
                return
            if now < self._pinged + interval:
                self._arm(self._pinged + interval)
                return
        self._ping(sock, now)
        self._arm(now + min(limits.ping_interval, limits.pong_timeout) / 1000)

    def _ping(self, sock: Socket, now: float) -> None:
        if not self._token:
            self._token = _tokens.next()
        self._count += 1
        self._pinged = now
        self._lagged = _loop.lagged
        self._stream.heard = False
        sock._send_ping(self._token + self._count.to_bytes(4, "big"))


def _tick(ref: weakref.ref[Socket]) -> None:
    sock = ref()
    if sock is not None:
        sock._keepalive.tick(sock)
