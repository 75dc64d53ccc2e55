"""What ``task.select`` needs of a body, of a request or a response.

It is ready when ``read(1)`` needn't wait: a byte of the body has come (decoded, without
the framing), its end, or an error. A client's response is ready no sooner than its
head.

The peer's limits hold as in a ``read`` that waits: ``body_timeout``, ``body_rate``, a
client's ``head_timeout`` and its total time-out. When one has passed, the body is
broken, and so ready.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from ... import errno
from ..._core import scheduler
from ..._core.loop import monotonic
from ..._core.select import next_turn
from ..._wire.error import ProtocolError
from .._pace import Pace
from .._rate import peers_clock
from .._stream import Stream

if TYPE_CHECKING:
    from ._body import Incoming
    from ._clientstream import ClientStream

_loop = scheduler.loop


class WatchedBody:
    """A body that a select watches."""

    __slots__ = ("came", "due", "pace", "source", "watch")

    def __init__(self, watch: scheduler.Task, source: Stream) -> None:
        self.watch = watch
        self.source = source
        self.came = -1
        """How many bytes had come when ``due`` was set."""
        self.due = inf
        """When the peer's silence ends the wait, a time of ``time.monotonic()``."""
        self.pace: Pace | None = None
        """How fast the server takes the rest of the request."""


def body_ready(body: Incoming[Any]) -> bool:
    """Whether ``read(1)`` needn't wait. Raises RuntimeError if another task reads."""
    source = body._source
    if body._err is not None or source is None:
        return True
    source.check_no_reader()
    if body._decoded is not None and not body._available():
        try:
            body._others_first = body._advance(1)
        except ProtocolError as exc:
            body._broken(exc)
            return True
    if body._available() or body._at_end():
        return True
    if body._others_first:
        return False
    if source.err is not None:
        return True
    if body._last <= _loop.busy_since:
        body._too_late()
        return True
    watched, meter = body._watched, body._meter
    if meter is not None and meter.look(peers_clock(), _came(body, source)):
        body._too_slow()
    elif watched is not None and watched.due <= _loop.busy_since and watched.came == _came(body, source):
        body._stalled()
    return body._err is not None


def _came(body: Incoming[Any], source: Stream) -> int:
    """How many bytes of the body have come, as sent, the framing's too."""
    return body._taken + len(source.buf) + source.partial


def watch_body(body: Incoming[Any], watch: scheduler.Task) -> None:
    """Wakes ``watch`` when more of the body has come, or a limit has passed."""
    source = body._source
    if body._others_first:
        body._others_first = False
        next_turn(watch)  # much was decoded
        return
    if source is None:
        scheduler.wake(watch)
        return
    body._before_wait()
    watched = _begin(body, watch, source)
    came = _came(body, source)
    if watched.came != came:
        watched.came = came
        watched.due = monotonic() + body.limits.body_timeout / 1000
    until = min(watched.due, body._last)
    meter = body._rate_meter(None)
    if meter is not None:
        if not meter.running:
            meter.start(peers_clock())
        until = min(until, monotonic() + meter.left)
    source.watch_data(watch, len(source.buf) + 1, deadline=until)


def _begin(body: Incoming[Any], watch: scheduler.Task, source: Stream) -> WatchedBody:
    """Returns what is known of the wait of ``watch``, which may go on."""
    watched = body._watched
    if watched is None or watched.watch is not watch or watched.source is not source:
        watched = body._watched = WatchedBody(watch, source)
    return watched


def unwatch_body(body: Incoming[Any], watch: scheduler.Task) -> None:
    """Forgets ``watch``, and stops measuring the peer."""
    watched = body._watched
    if watched is None or watched.watch is not watch:
        return
    body._watched = None
    watched.source.unwatch_data(watch)
    meter = body._meter
    if meter is not None and meter.running:
        meter.stop(peers_clock(), _came(body, watched.source))


def head_ready(stream: ClientStream) -> bool:
    """Whether ``read`` needn't wait for the response's head: it has come, or never
    will. Raises RuntimeError if another task reads."""
    source = stream._source
    if source is None or not stream._head_sent:
        return True
    source.check_no_reader()
    try:
        if stream._next_head(False):
            return True
    except ProtocolError as exc:
        stream._bad_head(exc)
        return True
    if source.buf:
        stream._replay = None
    if source.err is not None:
        return True
    watched = stream._watched
    if watched is None or min(watched.due, stream._last) > _loop.busy_since:
        return False
    if stream._last > _loop.busy_since:
        watched.pace = source.held_back(watched.pace)
        if watched.pace is not None:  # the server still takes the request
            watched.due = inf
            return False
    stream._failed("head", "waiting for the response", stream._bound(errno.TIMEDOUT, stream._bounds.head), errno.TIMEDOUT)
    return True


def watch_head(stream: ClientStream, watch: scheduler.Task) -> None:
    """Wakes ``watch`` when more of the response's head has come, or a limit has
    passed."""
    source = stream._source
    if source is None:
        scheduler.wake(watch)
        return
    watched = _begin(stream, watch, source)
    if watched.due == inf:
        watched.due = monotonic() + stream._bounds.head / 1000
    source.watch_data(watch, len(source.buf) + 1, deadline=min(watched.due, stream._last))
