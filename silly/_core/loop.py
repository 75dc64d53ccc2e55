"""The event loop: one selector, timers, calls posted by other threads, and a hook that runs ready tasks.

Nothing here knows a greenlet, a socket or a protocol. What the layers above give it is callbacks:

* ``register(fd, events, callback)``: ``callback(mask)`` when the descriptor is ready. Descriptors are registered once,
  when a connection is made, and stay so: registering around every wait costs twice as much per message. An event of a
  descriptor that was closed in the same turn may reach the callback of one that got its number; callbacks check their own
  state first, and what isn't there is not received.
* ``timers.add(when, callback, arg)``, ``post(callback, *args)`` (from any thread).
* ``ready``, a queue of whatever ``drain()`` runs, and ``dirty``, the streams that have gathered output to send.

**The order of one turn** (tests hold it to this):

1. what was deferred becomes ready; ready tasks run (``drain``), a slice at a time;
2. what tasks wrote is sent, here and in the turn before;
3. the time-out is computed, and the selector asked;
4. the callback of each event, ``EVENTS`` of them at most, then ready tasks;
5. for each timer that was due when the selector returned, in the order of their times: its callback, then ready tasks;
6. for each call posted by a thread: the call, then ready tasks.

So a timer that is cancelled by a task of the same turn does not fire. What a turn's events bring is received together, and what
its tasks write goes out together, before the selector is asked again: that costs less than one by one, and tasks switch to
each other without coming back here in between. A drain is a bounded slice, and with tasks still ready the selector is asked
without waiting: tasks can't starve I/O.

**How long a turn takes**, from the selector's return until it is asked again, is nobody's but the tasks' doing.
``busy_since`` tells when the present one began, for the watchdog's thread. ``lagged`` is the sum of those that held the loop
for more than ``LAG``: a peer whose answer is late because we did not look is not late. The sum is up to date before timers
that became due during a hold fire.
"""

from __future__ import annotations

import socket
import traceback
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any, Protocol

from .. import logger
from .poller import READ, WRITE, Poller, new_poller
from .timers import FOREVER, Timers

__all__ = ["LAG", "LONGEST", "READ", "WRITE", "Dirty", "Handler", "Loop"]

EVENTS = 64
"""Events of one turn at most: what they bring is held in memory until the tasks run."""
LONGEST = 86400.0
"""Seconds of one wait at most: epoll takes 31 bits of milliseconds, and raises for a
timer that is 25 days off."""
LAG = 0.1
"""Seconds of one turn beyond which it has held the loop: what shorter ones add to a
peer's answer is noise."""


_BOTH = READ | WRITE
"""Whoever registered is told of an error or a hang-up as of any event."""


class Dirty(Protocol):
    """A stream with gathered output."""

    def flush(self) -> None: ...


class Handler(Protocol):
    """Something that owns a descriptor: a listener or a stream. It is in
    ``loop.handlers`` while that is open."""

    def wakes(self) -> bool:
        """Whether an event of this descriptor can set a task going, or output is still
        to be sent."""

    def shutdown(self) -> None:
        """The process is ending gracefully: stop taking work, say goodbye to the peer,
        don't wait."""

    def close(self) -> object:
        """Close in good order, in the background: ``loop.work`` counts it until it is
        done."""

    def abort(self) -> None:
        """Close at once."""


class Watched(Protocol):
    """A handler that ``Loop.watch`` takes."""

    watched: int | None
    """Its place in ``Loop.waking``, or None."""

    def wakes(self) -> bool:
        """See ``Handler``."""


def _unset() -> None:
    raise RuntimeError("the loop has no scheduler")


class Loop:
    """See the module's header."""

    __slots__ = (
        "_callbacks",
        "_poller",
        "_posted",
        "_signalled",
        "_waker",
        "busy_since",
        "current",
        "deferred",
        "dirty",
        "drain",
        "handlers",
        "interrupted",
        "lagged",
        "left",
        "listeners",
        "ready",
        "starved",
        "thread",
        "timers",
        "turns",
        "wakeup_fd",
        "waking",
        "work",
    )

    def __init__(self, poller: Poller | None = None) -> None:
        self._poller = poller or new_poller()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self.timers = Timers()
        self.ready: deque[Any] = deque()
        self.deferred: list[Any] = []
        """What becomes ready with the next turn: after the I/O that is pending now."""
        self.current: Any = None
        """What of ``ready`` runs now. Here with ``left``, for speed: an attribute is
        set several times faster than a global."""
        self.left = 0
        """How many more may run in the present slice of a drain; 0 while none is under
        way."""
        self.dirty: list[Dirty] = []
        self.handlers: set[Handler] = set()
        self.listeners = 0
        """How many handlers listen: while one does, the loop is never done."""
        self.work = 0
        """Things under way that no task waits for: jobs of worker threads, closed
        streams still sending."""
        self.waking: list[Watched] = []
        """Every handler that can set a task going, and some that can no longer; see
        ``can_wake``."""
        self.turns = 0
        self.busy_since = 0.0
        """When the selector returned last (of the monotonic clock); 0.0 while it waits,
        and before the loop runs."""
        self.lagged = 0.0
        """Seconds that turns longer than ``LAG`` took, in all. A turn that leaves no
        timer armed is not measured: whoever compares two readings has a timer that
        brings him to the second."""
        self.thread = get_ident()
        self.drain: Callable[[], None] = _unset
        self.starved: Callable[[], bool] = lambda: False
        """Asked before waiting with no listener and no timer of the application's; True
        starts a new turn."""
        self.interrupted: Callable[[BaseException], None] = _reraise
        """Gets what isn't an Exception (KeyboardInterrupt) out of a turn; the loop then
        goes on."""
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._signalled = False
        self._waker, waker = socket.socketpair()
        self._waker.setblocking(False)
        waker.setblocking(False)
        self.wakeup_fd = waker
        self.register(self._waker.fileno(), READ, self._woken)

    def watch(self, handler: Watched) -> None:
        """From now on ``handler`` can set a task going: somebody reads, the kernel
        refused output, a connect is under way. Not for one that is watched already."""
        handler.watched = len(self.waking)
        self.waking.append(handler)

    def unwatch(self, handler: Watched) -> None:
        """Forgets a handler that is watched: it is closed."""
        last = self.waking.pop()
        if last is not handler:
            assert handler.watched is not None
            self.waking[handler.watched] = last
            last.watched = handler.watched
        handler.watched = None

    def can_wake(self) -> bool:
        """Whether an event of a descriptor can set a task going, or output is still to
        be sent. Asked before each wait of a program that listens nowhere.

        To ask every handler would cost more with each idle connection. To ask the one
        that could last time first would not help a program that goes from connection to
        connection. A counter would be exact, but every message would pay for it twice.
        So a handler is watched from when it first can, and stays so: nothing is done
        for the next message. Here those that no longer can are dropped until one is
        found that can. Each drop is paid for by the ``watch`` before it.
        """
        waking = self.waking
        while waking:
            if waking[-1].wakes():
                return True
            waking.pop().watched = None
        return False

    def register(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Reports ``events`` (READ, WRITE or both) of ``fd`` to ``callback``."""
        self._poller.register(fd, events)
        self._callbacks[fd] = callback

    def modify(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Changes the events or the callback of a registered descriptor."""
        self._poller.modify(fd, events)
        self._callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        """Forgets a descriptor. A descriptor without interest must be unregistered: its
        reset would be reported for ever."""
        del self._callbacks[fd]
        self._poller.unregister(fd)

    def registered(self) -> int:
        """How many descriptors are registered (the loop's own not counted)."""
        return len(self._callbacks) - 1

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs ``callback(*args)`` in the loop's next turn. Safe from any thread, a
        signal handler and a finalizer."""
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
        # Here, not where the queue is read: a thread may be stopped between queueing
        # its call and sending its wake-up. The queue is read later in this turn, and a
        # call posted from now on sends a wake-up of its own.
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
        end = when = 0.0
        timeout: float | None
        if ready or self._posted or self.deferred:
            timeout = 0
        else:
            if not self.listeners and not timers.users and self.starved():
                return
            when = timers.next()
            if when == FOREVER:
                timeout, end = None, since
            else:
                end = monotonic()
                timeout = when - end
                if timeout < 0:
                    timeout = 0
                elif timeout > LONGEST:
                    timeout = LONGEST
        self.busy_since = 0.0
        events = self._poller.poll(timeout, EVENTS)
        self.busy_since = now = monotonic()
        if 0.0 < since < (end or now) - LAG:  # with tasks ready the selector did not wait: the turn ended just now
            self.lagged += (end or now) - since
        callbacks = self._callbacks
        for fd, mask in events:
            try:
                callback = callbacks[fd]
            except KeyError:
                continue  # unregistered earlier in this turn
            if mask > _BOTH:
                mask = _BOTH
            try:
                callback(mask)
            except Exception:
                _report(callback)
        if ready:
            drain()
        if when <= now and timers.heap:
            # The pair is not unpacked: the argument of the last timer would stay alive
            # in a local until the next one.
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
        self._poller.close()
        self._waker.close()
        self.wakeup_fd.close()


def _reraise(exc: BaseException) -> None:
    raise exc


def _report(callback: Callable[..., object]) -> None:
    logger.error(f"exception in {getattr(callback, '__qualname__', callback)}:\n{traceback.format_exc().rstrip()}")
