"""The connections of an HTTP client by origin: idle ones are kept, used ones
counted."""

from __future__ import annotations

from collections.abc import Callable

from ... import errno
from ..._core import scheduler
from ..._core.loop import READ, monotonic
from ..._core.timers import Timer
from ..._core.waiting import Leaving, Waiters
from ..._shown import cut
from ..._wire.url import Url
from ..tcp import Conn
from ._error import RequestError

Dial = Callable[[Url], tuple[Conn, None] | tuple[None, RequestError]]
"""Connects to the origin of a URL. The error's text is only the cause."""

BUSY = f"{errno.TIMEDOUT}; all connections that 'max_per_host' allows are in use"
"""The cause when the wait for a place took too long."""

_loop = scheduler.loop


class _Origin:
    """The connections to one origin: the idle ones, each with the time since when it is
    idle; how many are in use; and the tasks that wait for one."""

    __slots__ = ("idle", "using", "waiting")

    def __init__(self) -> None:
        self.idle: list[tuple[Conn, float]] = []
        self.using = 0
        self.waiting: Waiters[None] = Waiters()


class ConnPool:
    """The pool of a client. ``idle_timeout`` is in ms. For each origin it keeps at most
    ``most_idle`` idle connections, and at most ``most`` are in use (0: any number)."""

    def __init__(self, dial: Dial, most_idle: int, most: int, idle_timeout: float) -> None:
        self._dial = dial
        self._most_idle = most_idle
        self._most = most
        self._idle_timeout = idle_timeout / 1000
        self._origins: dict[tuple[str, str, int], _Origin] = {}
        self._timer: Timer | None = None
        self.closed = False

    def checkout(self, url: Url, fresh: bool = False) -> tuple[Conn, bool] | RequestError:
        """Returns a connection to the origin of ``url`` and whether it has served
        before, or an error, whose text is only the cause. ``fresh``: only a new
        connection will do.

        Waits while as many as allowed are in use.
        """
        origin = self._origins.get(url.origin)
        if origin is None:
            origin = self._origins[url.origin] = _Origin()
        if self._most and origin.using >= self._most:
            err = self._wait(origin, url)
            if err is not None:
                return err
        else:
            origin.using += 1
        try:
            while origin.idle and not fresh:
                conn, _ = origin.idle.pop()
                receive_idle(conn)
                if _usable(conn):
                    return conn, True
                conn.close()
            conn_or_none, err = self._dial(url)
        except BaseException:
            self._leave(url, origin)
            raise
        if conn_or_none is None:
            self._leave(url, origin)
            assert err is not None
            return err
        return conn_or_none, False

    def _wait(self, origin: _Origin, url: Url) -> RequestError | None:
        """Waits until a connection hands its place over; returns None or the error."""
        try:
            origin.waiting.wait(f"a free connection to {cut(url.authority)}", lambda _: self._leave(url, origin))
        except Leaving:
            return RequestError(errno.CLOSED, "pool", errno.CLOSED)
        except scheduler.DeadlineOver:
            return RequestError(BUSY, "pool", errno.TIMEDOUT)
        return None

    def checkin(self, url: Url, conn: Conn) -> None:
        """Takes back a connection that may serve again."""
        origin = self._origins[url.origin]
        # Reading pauses when a body arrives that no task waits for. While it pauses, an
        # end or unexpected data from the server would go unnoticed.
        conn.limit(None)
        if self.closed or len(origin.idle) >= self._most_idle or not _usable(conn):
            conn.close()
        else:
            origin.idle.append((conn, monotonic()))
            if self._timer is None:
                self._timer = _loop.timers.add(monotonic() + self._idle_timeout, self._expire, internal=True)
        self._leave(url, origin)

    def leave(self, url: Url) -> None:
        """Notes that a connection in use has been closed."""
        self._leave(url, self._origins[url.origin])

    def _leave(self, url: Url, origin: _Origin) -> None:
        if origin.waiting.wake_one():
            return  # the place now belongs to that task
        origin.using -= 1
        self._forget(url.origin, origin)

    def _forget(self, key: tuple[str, str, int], origin: _Origin) -> None:
        if not origin.using and not origin.idle and self._origins.get(key) is origin:
            del self._origins[key]

    def _expire(self, _: None) -> None:
        """Closes connections that were idle too long, or that the peer has ended."""
        self._timer = None
        now = monotonic()
        soonest: float | None = None
        for key, origin in list(self._origins.items()):
            kept = []
            for conn, since in origin.idle:
                if since + self._idle_timeout <= now or not _usable(conn):
                    conn.close()
                else:
                    kept.append((conn, since))
                    soonest = since if soonest is None else min(soonest, since)
            origin.idle = kept
            self._forget(key, origin)
        if soonest is not None:
            # One timer serves all: with thousands of origins, one each would cost too
            # much.
            when = max(soonest + self._idle_timeout, now + self._idle_timeout / 16)
            self._timer = _loop.timers.add(when, self._expire, internal=True)

    def close_idle(self) -> None:
        """Closes every idle connection."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None
        for key, origin in list(self._origins.items()):
            idle, origin.idle = origin.idle, []
            for conn, _ in idle:
                conn.close()
            self._forget(key, origin)


def receive_idle(conn: Conn) -> None:
    """Reads whatever the kernel holds for an idle connection, its end included."""
    if not conn._stream.paused and conn.isalive():
        conn._stream.on_event(READ)


def _usable(conn: Conn) -> bool:
    """Whether an idle connection is open and the server has sent nothing on it."""
    return conn.isalive() and not conn.unreadbytes()
