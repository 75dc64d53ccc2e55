"""The event loop: one selector, timers, calls posted by other threads, and a hook that
runs ready tasks.

It knows nothing of greenlets, connections or protocols. The layers above give it
callbacks:

* ``register(fd, events, callback)``: ``callback(mask)`` when the descriptor is ready. A
  descriptor is registered once, when the connection is made: registering around every
  wait would double the cost per message. If a descriptor is closed and its number is
  reused in the same turn, an old event may reach the new callback. So callbacks
  re-check their state, and a spurious read finds nothing.
* ``timers.add(when, callback, arg)``, ``post(callback, *args)`` (from any thread).
* ``ready``, the queue of tasks that ``run_ready()`` runs, and ``dirty``, the streams
  with output to send.

**The order of one turn** (tests check it):

1. Deferred tasks become ready. A slice of the ready tasks runs (``run_ready``).
2. What tasks wrote, here or in the last turn, is sent.
3. The time-out is computed, and the selector is asked.
4. The callback of each event runs, for at most ``EVENTS`` events; then ready tasks.
5. If a timer was due when the selector returned, the turn *looks again*: it sends what
   tasks wrote, asks the selector without waiting, and does step 4. This goes on until
   nothing is ready, for at most one batch of events for each ``EVENTS`` registered
   descriptors, and at most ``LOOKS`` batches if there are fewer descriptors.
6. For each call that a thread posted: the call, then ready tasks.
7. For each timer that was due when the selector returned first, in order of time: its
   callback, then ready tasks.

So a timer that a task of the same turn cancels does not fire, and *what came in time is
in time*: a time-out strikes only after every descriptor, and every thread's result, was
looked at as of the time that it was due, however long a task held the loop or the
process was stopped. The number of batches is bounded, so load can't starve timers. At
rest there is no timer due, and step 5 costs nothing.

A turn first receives the data of all its events, then runs the tasks, then sends all
that they wrote. That costs less than doing it one by one, and tasks switch to each
other without coming back here in between. A slice is bounded, and while tasks are still
ready the selector is asked without waiting, so tasks can't starve I/O.

**The length of a turn**, from the selector's return until it is asked again, depends
only on the tasks. ``busy_since`` is when the present turn began or looked again: for
the watchdog's thread, and for a timer's callback that compares times, since what came
later was not looked at yet. When the loop sets it, it calls ``on_busy``, which wakes
the watchdog's thread: that sleeps while the loop does. ``lagged`` is the sum of the
turns longer than ``LAG``: a peer's answer is not late if we only read it late. The sum
is updated before the timers that came due during such a turn fire.

**The clock** is ``monotonic``. Every module that arms timers or compares times with
theirs imports it from here and not from ``time``, so that ``silly.testing`` can replace
it everywhere.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any, Protocol

from .._ends import ENDS
from .._log import task as logger
from .._shown import name_of
from ._accelerated import LoopFields
from .poller import READ, WRITE, NoPoller, Poller, new_poller
from .timers import FOREVER, Timers

__all__ = ["LAG", "LONGEST", "READ", "WRITE", "Dirty", "Handler", "Loop", "QuietHandler", "monotonic"]

EVENTS = 64
"""The most events in one batch. Their data is held in memory until the tasks run."""
LOOKS = 4
"""The most batches of events that a turn looks at again, with few descriptors. One
connection may need some: a request's head of 64 KiB arrives in four events."""
LONGEST = 86400.0
"""The most seconds of one wait. epoll takes 31 bits of milliseconds, and raises for a
timer that is 25 days away."""
LAG = 0.1
"""A turn of more than this many seconds counts as lag. What shorter ones add to the
time of a peer's answer is noise."""

_BOTH = READ | WRITE
"""An error or a hang-up is reported as both, whatever was registered."""


class Dirty(Protocol):
    """A stream with gathered output."""

    def flush(self) -> None: ...


class Handler(Protocol):
    """Something that the process's end concerns. Nearly always it owns a descriptor (a
    listener, a stream, a connect under way), and is in ``loop.handlers`` while that is
    open. An HTTP server is there too."""

    def wakes(self) -> bool:
        """Whether an event of this descriptor can wake a task, or output is unsent."""

    def shutdown(self) -> None:
        """The process begins to end: stop accepting work, and tell peers, without
        waiting. Tasks go on. Called again just before ``close`` when no task is
        left."""

    def close(self) -> object:
        """Close in the background, after sending what was written. ``loop.work`` counts
        it until it is done."""

    def hurry(self, last: bool) -> None:
        """Called now and then while the process waits for closed handlers: give up a
        peer that got everything, and has sent nothing since the last call. ``last``:
        give it up even if it is still sending."""

    def abort(self) -> None:
        """Close at once."""

    def disown(self) -> None:
        """In a child of ``os.fork``: close this process's copy of the descriptor, and
        do nothing else. The other copy is the parent's."""


class Watched(Handler, Protocol):
    """A handler that ``Loop.watch`` takes."""

    watched: int | None
    """Its place in ``Loop.waking``, or None."""


class QuietHandler:
    """A base for each ``Handler`` that has nothing to tell a peer when the process
    ends, and of which nothing is on its way after ``close``."""

    __slots__ = ()

    def shutdown(self) -> None:
        """Does nothing."""

    def hurry(self, last: bool) -> None:
        """Does nothing."""


def _unset() -> None:
    raise RuntimeError("the loop has no scheduler")


class Loop(LoopFields):
    """See the module's header."""

    __slots__ = (
        "_callbacks",
        "_poller",
        "_posted",
        "_signalled",
        "_waker",
        "busy_since",
        "dirty",
        "handlers",
        "interrupted",
        "lagged",
        "listeners",
        "may_queue",
        "on_busy",
        "ready",
        "run_ready",
        "signals_to",
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
        self.deferred = []
        self.current = None
        self.left = 0
        self.no_switch = False
        self.may_queue = False
        """Whether a write may just queue its data, which is what nearly every one does:
        a task runs, or the loop, and not the main program, which may be a REPL; and
        no block of ``task.no_switch`` is open. So a write need not look at both."""
        self.to_hub = _unset
        self.dirty: list[Dirty] = []
        self.handlers: set[Handler] = set()
        self.listeners = 0
        """How many handlers listen. While one does, the loop is never done."""
        self.work = 0
        """How many things are under way that no task waits for: jobs of worker threads,
        and closed streams that are still sending."""
        self.waking: list[Watched] = []
        """Every handler that can wake a task, and some that no longer can; see
        ``can_wake``."""
        self.turns = 0
        self.busy_since = 0.0
        """When the selector was last asked without waiting, or returned
        (``time.monotonic()``); 0.0 while it waits. Before the loop runs: when the first
        descriptor was registered, since from then on a peer may wait, or 0.0."""
        self.on_busy: Callable[[], object] | None = None
        """Called after ``busy_since`` is set, unless it is None. It sets itself to
        None, so a busy loop does not call it again."""
        self.lagged = 0.0
        """The total seconds of turns longer than ``LAG``. A turn that leaves no timer
        armed is not measured: callers that compare two readings keep a timer of their
        own."""
        self.thread = get_ident()
        self.run_ready: Callable[[], None] = _unset
        self.starved: Callable[[], bool] = lambda: False
        """Called before a wait without a listener or a timer of the application; True
        starts a new turn."""
        self.interrupted: Callable[[BaseException], None] = _reraise
        """Called with what a turn raises: an end such as KeyboardInterrupt, or what a
        signal handler raised while the selector waited. The loop then goes on."""
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._signalled = False
        self._waker, waker = socket.socketpair()
        self._waker.setblocking(False)
        waker.setblocking(False)
        self.wakeup_fd = waker
        self.signals_to = -1
        """The descriptor that gets the numbers of signals that woke the loop: the
        application's own one for this, or -1."""
        self.register(self._waker.fileno(), READ, self.woken)

    def watch(self, handler: Watched) -> None:
        """Notes that ``handler`` can wake a task from now on: a task reads, the kernel
        refused output, or a connect is under way. It must not be watched already."""
        handler.watched = len(self.waking)
        self.waking.append(handler)

    def forget(self, handler: Watched) -> None:
        """Forgets a handler, which is closed."""
        self.handlers.discard(handler)
        at = handler.watched
        if at is None:
            return
        waking = self.waking
        last = waking[-1]
        waking[at] = last
        last.watched = at
        handler.watched = None
        waking.pop()  # last: Ctrl-C raises after a call, and must cost no other its place

    def can_wake(self) -> bool:
        """Whether an event of a descriptor can wake a task, or output is unsent. Called
        before each wait of a program that listens nowhere.

        Asking every handler would cost more with each idle connection. Asking the last
        one that could first would not help a program that goes from connection to
        connection. A counter would be exact, but every message would update it twice.
        So a handler is watched from the first time that it can wake a task, and stays
        watched: the next message costs nothing. Here the handlers that no longer can
        are dropped until one is found that can. Each drop is paid for by its
        ``watch``.
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
        if not self.turns and self.on_busy is not None:
            self._busy()  # the main program has not blocked yet, and from now on it holds the loop

    def modify(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Changes the events or the callback of a registered descriptor."""
        self._poller.modify(fd, events)
        self._callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        """Forgets a descriptor. One that no event is wanted of must be unregistered: a
        reset of it would be reported for ever."""
        del self._callbacks[fd]
        self._poller.unregister(fd)

    def watches(self, fd: int) -> bool:
        """Whether a descriptor is registered, or is one of the loop's own."""
        return fd in self._callbacks or fd == self.wakeup_fd.fileno()

    def registered(self) -> int:
        """How many descriptors are registered, without the loop's own."""
        return len(self._callbacks) - 1

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs ``callback(*args)`` in the loop's next turn. May be called from any
        thread, signal handler or finalizer."""
        self._posted.append((callback, args))
        if not self._signalled:
            self._signalled = True
            try:
                self.wakeup_fd.send(b"\0")
            except OSError:
                pass  # full of earlier wake-ups, which is enough; or closed, at the end of the process

    def woken(self, mask: int = READ) -> None:
        """Takes what woke the loop, and hands the numbers of signals on."""
        try:
            data = self._waker.recv(4096)
            if self.signals_to >= 0 and (numbers := data.replace(b"\0", b"")):
                os.write(self.signals_to, numbers)
        except OSError:
            pass  # nothing has come, or the application's descriptor is full or closed
        # Not where the queue is read: a thread may be suspended between queueing its
        # call and sending its wake-up. The queue is read later in this turn, and a call
        # posted from now on sends its own wake-up.
        self._signalled = False

    def flush(self) -> None:
        """Sends what tasks wrote."""
        dirty = self.dirty
        for stream in dirty:  # it may grow meanwhile
            try:
                stream.flush()
            except ENDS:
                raise
            except BaseException as exc:
                _report(stream.flush, exc)
        dirty.clear()

    def run(self) -> None:
        """Runs turns for ever, in the greenlet that calls it."""
        self._busy()
        while True:
            try:
                self.turn()
            except BaseException as exc:
                if not self.busy_since:
                    self._busy()  # a signal handler has raised where the selector waited
                self.interrupted(exc)

    def _busy(self) -> None:
        """The loop is busy from now on."""
        self.busy_since = monotonic()
        if self.on_busy is not None:
            self.on_busy()

    def turn(self) -> None:
        """Runs one turn, in the order that the module's header states."""
        self.turns += 1
        ready = self.ready
        run_ready = self.run_ready
        if self.deferred:
            # Apart first: if a signal handler raises, no task must be ready twice.
            deferred, self.deferred = self.deferred, []
            ready.extend(deferred)
            del deferred
        if ready:
            run_ready()
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
        if self.on_busy is not None:
            self.on_busy()
        if 0.0 < since < (end or now) - LAG:  # with tasks ready the selector did not wait: the turn ended just now
            self.lagged += (end or now) - since
        callbacks = self._callbacks
        looks = -1  # how many more batches there may be; -1 before the first
        while True:
            for fd, mask in events:
                try:
                    callback = callbacks[fd]
                except KeyError:
                    continue  # unregistered earlier in this turn
                if mask > _BOTH:
                    mask = _BOTH
                try:
                    callback(mask)
                except ENDS:
                    raise
                except BaseException as exc:
                    _report(callback, exc)
            if ready:
                run_ready()
            if when > now:
                break
            when = timers.next()
            if when > now or not looks:
                break
            if looks < 0:
                looks = max(LOOKS, -(-self.registered() // EVENTS))
            looks -= 1
            events = self._look_again()
            if not events:
                break
        posted = self._posted
        if posted:
            for _ in range(len(posted)):
                call, args = posted.popleft()
                try:
                    call(*args)
                except ENDS:
                    raise
                except BaseException as exc:
                    _report(call, exc)
                if ready:
                    run_ready()
            del call, args
        if when <= now:
            # Not unpacked into locals: they would keep the last timer's argument alive.
            while (due := timers.pop(now)) is not None:
                try:
                    due[0](due[1])
                except ENDS:
                    raise
                except BaseException as exc:
                    _report(due[0], exc)
                if ready:
                    run_ready()

    def _look_again(self) -> list[tuple[int, int]]:
        """Sends what tasks wrote, and asks the selector without waiting. Updates
        ``busy_since`` and ``lagged`` as if a turn began."""
        if self.dirty:
            self.flush()
        now = monotonic()
        if now - self.busy_since > LAG:
            self.lagged += now - self.busy_since
        self.busy_since = now
        return self._poller.poll(0, EVENTS)

    def disown(self) -> None:
        """Leaves everything to the parent, in a child of ``os.fork``: nothing here is
        called any more."""
        self.thread = -1
        self.current = None
        self.close()
        # Its set is shared with the parent, so nothing is unregistered.
        self._poller = NoPoller()
        self._signalled = True  # the other end of ``wakeup_fd`` is the parent's
        for handler in self.handlers:
            handler.disown()
        for kept in (self.handlers, self.ready, self.deferred, self.dirty, self.waking, self._callbacks):
            kept.clear()
        self.timers.clear()
        for at in range(len(self._posted)):  # ``turn`` may be counting them
            self._posted[at] = _nothing, ()

    def close(self) -> None:
        """Releases the loop's own descriptors."""
        self.busy_since = 0.0
        self._poller.close()
        self._waker.close()
        self.wakeup_fd.close()


def _nothing() -> None:
    """A call that was posted by the parent."""


def _reraise(exc: BaseException) -> None:
    raise exc


def _report(callback: Callable[..., object], exc: BaseException) -> None:
    logger.dropped(f"exception in {name_of(callback)}:", exc)
