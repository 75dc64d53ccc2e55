"""The connections of an HTTP client, by origin: kept alive while idle, and counted."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from ... import errno
from ..._core import scheduler
from ..._core.loop import READ
from ..._core.timers import Timer
from ..._core.waiting import Leaving, Waiters
from ..._wire.url import Url
from ..tcp import Conn

Dial = Callable[[Url], tuple[Conn, None] | tuple[None, str]]
"""Connects to the origin of a URL."""

BUSY = f"{errno.TIMEDOUT}; as many as 'max_per_host' allows are in use"
"""The error of a wait for a place that took too long."""

_loop = scheduler.loop


class _Origin:
    """The connections to one origin: those idle, with the time since when; how many are in use; and who waits for one."""

    __slots__ = ("idle", "using", "waiting")

    def __init__(self) -> None:
        self.idle: list[tuple[Conn, float]] = []
        self.using = 0
        self.waiting: Waiters[None] = Waiters()


class Pool:
    """``idle_timeout`` in ms; ``most_idle`` and ``most`` (0: any number) connections an origin."""

    def __init__(self, dial: Dial, most_idle: int, most: int, idle_timeout: float) -> None:
        self._dial = dial
        self._most_idle = most_idle
        self._most = most
        self._idle_timeout = idle_timeout / 1000
        self._origins: dict[tuple[str, str, int], _Origin] = {}
        self._timer: Timer | None = None
        self.closed = False

    def take(self, url: Url, fresh: bool = False) -> tuple[Conn, bool] | str:
        """A connection to the origin of ``url``, and whether it has served before; or the error. ``fresh``: it has not.

        Waits for one where there are as many as may be.
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
                look(conn)
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

    def _wait(self, origin: _Origin, url: Url) -> str | None:
        """Waits until a connection's place is handed over."""
        try:
            origin.waiting.wait(f"a free connection to {url.authority}", lambda _: self._leave(url, origin))
        except Leaving:
            return errno.CLOSED
        except scheduler.DeadlineOver:
            return BUSY
        return None

    def give(self, url: Url, conn: Conn) -> None:
        """A connection is free again, and may serve on."""
        origin = self._origins[url.origin]
        # Reading pauses where a body came that nobody waited for: then neither the server's end nor what it sends unasked
        # would be seen.
        conn.limit(None)
        if self.closed or len(origin.idle) >= self._most_idle or not _usable(conn):
            conn.close()
        else:
            origin.idle.append((conn, monotonic()))
            if self._timer is None:
                self._timer = _loop.timers.add(monotonic() + self._idle_timeout, self._expire, internal=True)
        self._leave(url, origin)

    def leave(self, url: Url) -> None:
        """A connection in use has been closed."""
        self._leave(url, self._origins[url.origin])

    def _leave(self, url: Url, origin: _Origin) -> None:
        if origin.waiting.wake_one():
            return  # that task has the place now
        origin.using -= 1
        self._forget(url.origin, origin)

    def _forget(self, key: tuple[str, str, int], origin: _Origin) -> None:
        if not origin.using and not origin.idle and self._origins.get(key) is origin:
            del self._origins[key]

    def _expire(self, _: None) -> None:
        """Closes what has been idle for too long, or was ended by the peer."""
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
            # Not for each connection by itself: with thousands of origins that would cost more than they do.
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


def look(conn: Conn) -> None:
    """Takes what has come while a connection was idle, or its end: that may be with the kernel still."""
    if not conn._stream.paused and conn.isalive():
        conn._stream.on_event(READ)


def _usable(conn: Conn) -> bool:
    """Whether an idle connection may serve: it is open, and the server has sent nothing that was not asked for."""
    return conn.isalive() and not conn.unreadbytes()
