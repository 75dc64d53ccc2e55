"""The event loop: one selector, timers, calls posted by other threads, and a hook that runs ready tasks.

Nothing here knows a greenlet, a socket or a protocol. What the layers above give it is callbacks:

* ``register(fd, events, callback)``: ``callback(mask)`` when the descriptor is ready. Descriptors are registered once,
  when a connection is made, and stay so: registering around every wait costs twice as much per message. An event that
  was reported in the same turn may still reach a callback just unregistered; callbacks check their own state first.
* ``timers.add(when, callback, arg)``, ``post(callback, *args)`` (from any thread).
* ``ready``, a queue of whatever ``drain()`` runs, and ``dirty``, the streams that have gathered output to send.

**The order of one turn** (tests hold it to this):

1. what was deferred becomes ready; ready tasks run (``drain``), a slice at a time;
2. what tasks wrote is sent, here and in the turn before;
3. the time-out is computed, and the selector asked;
4. for each event: its callback, then ready tasks;
5. for each timer that was due when the selector returned, in the order of their times: its callback, then ready tasks;
6. for each call posted by a thread: the call, then ready tasks.

So a task woken by an event runs before the next event is looked at, and a timer that it cancels does not fire. What a turn's
tasks write goes out together, before the selector is asked again: sending at the end costs less than in between. A drain
is a bounded slice, and with tasks still ready the selector is asked without waiting: tasks can't starve I/O.

**How long a turn takes**, from the selector's return until it is asked again, is nobody's but the tasks' doing.
``busy_since`` tells when the present one began, for the watchdog's thread. ``lagged`` is the sum of those that held the loop
for more than ``LAG``: a peer whose answer is late because we did not look is not late. The sum is up to date before timers
that became due during a hold fire.
"""

from __future__ import annotations

import selectors
import socket
import traceback
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any, Protocol

from .. import logger
from .timers import Timers

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
LONGEST = 86400.0
"""Seconds of one wait at most: epoll takes 31 bits of milliseconds, and raises for a timer that is 25 days off."""
LAG = 0.1
"""Seconds of one turn beyond which it has held the loop: what shorter ones add to a peer's answer is noise."""


class Dirty(Protocol):
    """A stream with gathered output."""

    def flush(self) -> None: ...


class Handler(Protocol):
    """Something that owns a descriptor: a listener or a stream. It is in ``loop.handlers`` while that is open."""

    def wakes(self) -> bool:
        """Whether an event of this descriptor can set a task going."""

    def shutdown(self) -> None:
        """The process is ending gracefully: stop taking work, say goodbye to the peer, don't wait."""

    def close(self) -> object:
        """Close in good order, in the background: ``loop.work`` counts it until it is done."""

    def abort(self) -> None:
        """Close at once."""


def _unset() -> None:
    raise RuntimeError("the loop has no scheduler")


class Loop:
    """See the module's header."""

    __slots__ = (
        "_posted",
        "_selector",
        "_signalled",
        "_waker",
        "busy_since",
        "deferred",
        "dirty",
        "drain",
        "handlers",
        "interrupted",
        "lagged",
        "listeners",
        "ready",
        "starved",
        "thread",
        "timers",
        "turns",
        "wakeup_fd",
        "work",
    )

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.timers = Timers()
        self.ready: deque[Any] = deque()
        self.deferred: list[Any] = []
        """What becomes ready with the next turn, so after the I/O that is pending now."""
        self.dirty: list[Dirty] = []
        self.handlers: set[Handler] = set()
        self.listeners = 0
        """How many handlers listen: while one does, the loop is never done."""
        self.work = 0
        """Things under way that no task waits for: jobs of worker threads, closed streams still sending."""
        self.turns = 0
        self.busy_since = 0.0
        """When the selector returned last (of the monotonic clock); 0.0 while it waits, and before the loop runs."""
        self.lagged = 0.0
        """Seconds that turns longer than ``LAG`` took, in all. A turn that leaves no timer armed is not measured: whoever
        compares two readings has a timer that brings him to the second."""
        self.thread = get_ident()
        self.drain: Callable[[], None] = _unset
        self.starved: Callable[[], bool] = lambda: False
        """Asked before waiting with no listener and no timer of the application's; True starts a new turn."""
        self.interrupted: Callable[[BaseException], None] = _reraise
        """Gets what isn't an Exception (KeyboardInterrupt) out of a turn; the loop then goes on."""
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._signalled = False
        self._waker, waker = socket.socketpair()
        self._waker.setblocking(False)
        waker.setblocking(False)
        self.wakeup_fd = waker
        self._selector.register(self._waker, READ, self._woken)

    def register(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Reports ``events`` (READ, WRITE or both) of ``fd`` to ``callback``."""
        self._selector.register(fd, events, callback)

    def modify(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Changes the events or the callback of a registered descriptor."""
        self._selector.modify(fd, events, callback)

    def unregister(self, fd: int) -> None:
        """Forgets a descriptor. A descriptor without interest must be unregistered: its reset would be reported for ever."""
        self._selector.unregister(fd)

    def registered(self) -> int:
        """How many descriptors are registered (the loop's own not counted)."""
        return len(self._selector.get_map()) - 1

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs ``callback(*args)`` in the loop's next turn. Safe from any thread, a signal handler and a finalizer."""
        self._posted.append((callback, args))
        if not self._signalled:
            self._signalled = True
            try:
                self.wakeup_fd.send(b"\0")
            except OSError:
                pass  # full of earlier wake-ups, which do as well; or closed, at the end of the process

    def _woken(self, mask: int) -> None:
        try:
            self._waker.recv(4096)
        except (BlockingIOError, InterruptedError):
            pass
        # Here, not where the queue is read: a thread may be stopped between queueing its call and sending its wake-up.
        # The queue is read later in this turn, and a call posted from now on sends a wake-up of its own.
        self._signalled = False

    def flush(self) -> None:
        """Sends what tasks wrote."""
        dirty = self.dirty
        for stream in dirty:  # which may grow meanwhile
            try:
                stream.flush()
            except Exception:
                _report(stream.flush)
        dirty.clear()

    def run(self) -> None:
        """Turns for ever, in the greenlet that calls it."""
        self.busy_since = monotonic()
        while True:
            try:
                self.turn()
            except BaseException as exc:
                self.interrupted(exc)

    def turn(self) -> None:
        """One turn, in the order that the module's header states."""
        self.turns += 1
        ready = self.ready
        drain = self.drain
        if self.deferred:
            ready.extend(self.deferred)
            self.deferred.clear()
        if ready:
            drain()
        if self.dirty:
            self.flush()
        timers = self.timers
        since = self.busy_since
        end = 0.0
        timeout: float | None
        if ready or self._posted or self.deferred:
            timeout = 0
        else:
            if not self.listeners and not timers.users and self.starved():
                return
            when = timers.next()
            if when is None:
                timeout, end = None, since
            else:
                end = monotonic()
                timeout = min(max(0.0, when - end), LONGEST)
        self.busy_since = 0.0
        events = self._selector.select(timeout)
        self.busy_since = now = monotonic()
        if 0.0 < since < (end or now) - LAG:  # with tasks ready the selector did not wait: the turn ended just now
            self.lagged += (end or now) - since
        for key, mask in events:
            try:
                key.data(mask)
            except Exception:
                _report(key.data)
            if ready:
                drain()
        if timers.heap:
            # The pair is not unpacked: the argument of the last timer would stay alive in a local until the next one.
            while (due := timers.pop(now)) is not None:
                try:
                    due[0](due[1])
                except Exception:
                    _report(due[0])
                if ready:
                    drain()
        posted = self._posted
        if posted:
            for _ in range(len(posted)):
                call, args = posted.popleft()
                try:
                    call(*args)
                except Exception:
                    _report(call)
                if ready:
                    drain()
            del call, args

    def close(self) -> None:
        """Releases the loop's own descriptors."""
        self.busy_since = 0.0
        self._selector.close()
        self._waker.close()
        self.wakeup_fd.close()


def _reraise(exc: BaseException) -> None:
    raise exc


def _report(callback: Callable[..., object]) -> None:
    logger.error(f"exception in {getattr(callback, '__qualname__', callback)}:\n{traceback.format_exc().rstrip()}")
