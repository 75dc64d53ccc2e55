"""Accepted connections whose handler doesn't run yet: the header of the PROXY protocol
or a TLS handshake is under way.
"""

from __future__ import annotations

from collections.abc import Callable

from .._core import scheduler
from .._core.timers import Timer
from ._stream import Stream, newcomers_until

_loop = scheduler.loop


class Newcomers:
    """Those of one listener. A task of each connection serves it from the beginning, so
    the end of the process waits for them; ``hurry`` bounds how long."""

    __slots__ = ("_hurried", "_timer", "ended", "streams")

    def __init__(self) -> None:
        self.streams: set[Stream] = set()
        self.ended: Callable[[], object] | None = None
        """Called when the task of a connection ends, and no newcomer is left."""
        self._hurried = False
        self._timer: Timer | None = None
        """Hangs up on those that are left."""

    def add(self, stream: Stream) -> None:
        """A connection was accepted, or has come a step further."""
        self.streams.add(stream)
        if self._hurried:
            self.hurry()

    def discard(self, stream: Stream) -> None:
        """The connection is no newcomer any more, or gone."""
        self.streams.discard(stream)
        if not self.streams and self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None

    def hurry(self) -> None:
        """The process ends, or the server closes: those that are there have
        ``NEWCOMER`` seconds from now. One that comes later has them too."""
        self._hurried = True
        if self.streams and self._timer is None:
            self._timer = _loop.timers.add(newcomers_until(), self._too_late, internal=True)

    def _too_late(self, _: None) -> None:
        self._timer = None
        for stream in list(self.streams):
            stream.hang_up()

    def task_ended(self) -> None:
        """The task of a connection ends."""
        if not self.streams and self.ended is not None:
            self.ended()
