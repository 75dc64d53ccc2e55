"""The limit ``message_rate``: a peer that has begun a message must go on with it. Else
we would hold what has come for ever, for a byte now and then or for pings alone.

A timer runs while a message is unfinished, and looks at it every sixth of a window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core import scheduler
from ..._core.loop import monotonic
from ..._core.timers import Timer
from .._rate import RateMeter, peers_clock

if TYPE_CHECKING:
    from ._session import Session

WINDOW = 60.0
"""The seconds over which the rate is measured."""

_loop = scheduler.loop


class MessagePace:
    """Watches the unfinished message of one socket."""

    __slots__ = ("_ended", "_meter", "_timer")

    def __init__(self, session: Session) -> None:
        self._timer: Timer | None = None
        self._begin(session)

    def _begin(self, session: Session) -> None:
        """Begins to measure the message that is unfinished now."""
        self._ended = session.messages.ended
        self._meter = RateMeter(session.limits.message_rate, WINDOW)
        self._meter.start(peers_clock())
        self._arm(session)

    def _arm(self, session: Session) -> None:
        self._timer = _loop.timers.add(monotonic() + self._meter.left, self._on_timer, session, internal=True)

    def stop(self) -> None:
        """Cancels the timer: the connection has ended."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None

    def _on_timer(self, session: Session) -> None:
        self._timer = None
        stream, messages, meter = session.stream, session.messages, self._meter
        came = messages.unfinished(stream.buf)
        if came is None or not session.open or stream.err is not None:
            session.pace = None
        elif messages.ended != self._ended:
            self._begin(session)  # it is another message
        elif stream.paused:
            meter.start(peers_clock())  # the peer can't send: we don't take it
            self._arm(session)
        elif meter.look(peers_clock(), came + stream.partial):
            session.pace = None
            session.too_slow()
        else:
            self._arm(session)
