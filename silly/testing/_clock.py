"""The virtual clock: see ``testing.clock``.

The loop asks its poller with the time until the next timer. ``VirtualPoller`` stands in
for the poller: where the real one would wait, and nothing but a timer could end that
wait, it sets the clock to that timer and returns at once. Nothing on the path of a
message knows of it.

Every module takes its clock from ``_core/loop.py``. It is replaced there, and in each
module that has imported it. When the block ends the library's clock goes on from where
the virtual one stood: it never goes back, so timers and times that the program has kept
stay right.
"""

from __future__ import annotations

import sys
import threading
import time as _time
from collections.abc import Callable

from .. import time
from .._core import ending, scheduler
from .._core import loop as _home
from .._core.poller import Poller
from .._core.signals import awaited_handlers
from .._log import task as logger
from .._shown import shown
from .._wire.numbers import check_int, check_ms
from ._pairs import PairStream

JUMPS = 100_000
"""The most jumps of one clock by default."""
TURNS = 1000
"""Turns of the loop at one time of the clock, after which it creeps: by ``CREEP``
seconds for each turn more."""
CREEP = 0.0001
SLICE = 0.05
"""Seconds of one wait while something outside could wake a task. Then it is asked
again: a thread may have ended."""
MOMENT = 0.005
"""Seconds that ``advance`` gives what is outside before each jump."""
PATIENCE = 1.0
"""Seconds of waiting for what is outside after which a line says so, once."""

_loop = scheduler.loop
_real = _time.monotonic
_ahead = 0.0
"""How far the library's clock is ahead of the system's, in seconds, outside a block."""
_active: Clock | None = None


def _running() -> float:
    """The library's clock after a block, if the virtual one was ahead of the
    system's."""
    return _real() + _ahead


def _replace(before: Callable[[], float], after: Callable[[], float]) -> None:
    """Replaces the clock in every module of the library that has imported it, under
    whatever name."""
    for name, module in list(sys.modules.items()):
        # Within ``_stderr`` a thread waits for a pipe, in real time.
        if name.startswith("silly.") and name not in (__name__, "silly._stderr"):
            for key, value in list(vars(module).items()):
                if value is before:
                    setattr(module, key, after)


class Clock:
    """The virtual clock of a ``with testing.clock()`` block."""

    def __init__(self, jumps: int) -> None:
        self._jumps = jumps
        self._left = jumps
        self._start = self._now = 0.0
        self._began = 0
        """``time.time_ns()`` at the start."""
        self._until = 0.0
        """``advance`` is under way up to this time."""
        self._turns = 0
        """Turns since the last jump."""
        self._waited = 0.0
        """Seconds of waiting for what is outside."""
        self._read = self._seconds  # one object, to be found again
        self._threads: set[threading.Thread] = set()
        """Those from before the block: they are not the test's."""
        self._handlers: list[object] = []
        """The handlers of signals from before: a runner of tests may have one."""

    @property
    def elapsed(self) -> int:
        """How many milliseconds have passed on this clock since its block began.

            with testing.clock() as clock:
                time.sleep(5000)
                clock.elapsed               # -> 5000
        """
        return int(self._now * 1000) - int(self._start * 1000)

    @property
    def held(self) -> str | None:
        """What could wake a task beside timers, in words, so that the clock doesn't
        jump; None if nothing could.

            with testing.clock() as clock:
                clock.held                  # -> None
        """
        work = _loop.work
        outside = set(_loop._callbacks)
        outside.discard(_loop._waker.fileno())
        for handler in _loop.handlers:
            if isinstance(handler, PairStream):
                outside.discard(handler.fd)
                if handler.closed and handler.sock is not None:
                    work -= 1  # it delivers what was written
        for guest in scheduler.guests:
            work -= len(guest.given_up)  # asyncio's timers are silly's
            if not guest.outside():
                outside.discard(guest.fd)
        for fd in outside:
            callback = _loop._callbacks[fd]
            callback = getattr(callback, "func", callback)  # that of a listener is a partial
            return repr(getattr(callback, "__self__", callback))
        if work > 0:
            return "a job of a thread"
        for thread in threading.enumerate():
            waits = not thread.name.startswith("silly-") or thread.name.startswith("silly-process-")
            if thread not in self._threads and waits:
                return f"the thread {shown(thread.name)}, which was started since the clock"
        return None

    def advance(self, ms: float) -> None:
        """Sets the clock ``ms`` milliseconds ahead. Waits until all that is due by then
        has happened.

            def report():
                time.sleep(500)
                print("half a second")      # -> half a second

            with testing.clock() as clock:
                task.fork(report)
                clock.advance(1000)

        ``time.sleep(ms)`` does the same as long as the clock isn't ``held``. This call
        moves it even then: before each jump what is outside, such as a real connection,
        has 5 ms. Raises ValueError for a time that is negative or longer than 100
        years, and TimeoutError when a ``time.deadline`` runs out.
        """
        if _loop.no_switch:
            scheduler.refuse("clock.advance")
        if _active is not self:
            raise RuntimeError("clock.advance: the block of this clock has ended, or has not begun")
        check_ms("clock.advance: the time", ms)
        self._until = max(self._until, self._now + ms / 1000)
        time.sleep(ms)

    # ---- the block -------------------------------------------------------------------

    def __enter__(self) -> Clock:
        global _active
        scheduler.check_thread()
        if _active is not None:
            raise RuntimeError("testing.clock: the clock is virtual already")
        if self._start:
            raise RuntimeError("testing.clock: each with block needs a clock of its own")
        _active = self
        # In the middle of a millisecond: a sum of whole ones is then never rounded to
        # the wrong side.
        self._start = self._now = (int(_home.monotonic() * 1000) + 1.5) / 1000
        self._began = _time.time_ns()
        self._threads = set(threading.enumerate())
        self._handlers = awaited_handlers()
        _replace(_home.monotonic, self._read)
        time._time_ns = self._time_ns
        _loop._poller = VirtualPoller(_loop._poller, self)
        return self

    def __exit__(self, *exc: object) -> None:
        global _active, _ahead
        poller = _loop._poller
        if isinstance(poller, VirtualPoller):  # else this is a child of os.fork
            _loop._poller = poller.real
        _ahead = self._now - _real()
        # The system's clock may have caught up, while the program waited for sockets.
        _ahead = max(_ahead, 0.0)
        _replace(self._read, _running if _ahead else _real)
        time._time_ns = _time.time_ns
        _active = None

    def _seconds(self) -> float:
        return self._now

    def _time_ns(self) -> int:
        return self._began + self.elapsed * 1_000_000

    # ---- what the poller calls -------------------------------------------------------

    def busy(self) -> None:
        """There is something to do, so the clock stands still. But not for ever: a
        program may ask for the time again and again, and yield in between."""
        self._turns += 1
        if self._turns > TURNS:
            self._now += CREEP

    def wait(self, poller: Poller, timeout: float | None, most: int) -> list[tuple[int, int]]:
        """Waits for events as ``poller.poll`` does, or jumps."""
        when = _loop.timers.next()
        advancing = when <= self._until
        held = None
        events = poller.poll(0, most)
        if not events:
            held = self.held
            if held is not None and advancing:
                events = poller.poll(MOMENT, most)
        if events:
            self.busy()
            return events
        if held is None and timeout is None and awaited_handlers() != self._handlers:
            held = "a handler of a signal, which was set since the clock,"
        if held is not None and not advancing:
            return self._wait_outside(poller, timeout, most, held)
        if timeout is None:
            if scheduler.begins:
                ending.deadlock()
                return []
            return poller.poll(None, most)
        if not self._left and scheduler.begins:
            self._left = self._jumps
            ending.deadlock(
                f"the clock has jumped {self._jumps} times, and what the test waits for has not come: "
                "it may wait for ever while something like a keepalive goes on (testing.clock(jumps=…) allows more)"
            )
            return []
        self._left -= 1
        self._turns = 0
        self._now = max(self._now, when)
        return []

    def _wait_outside(self, poller: Poller, timeout: float | None, most: int, held: str) -> list[tuple[int, int]]:
        """Waits in real time, which passes on this clock too."""
        begin = _real()
        events = poller.poll(SLICE if timeout is None else min(timeout, SLICE), most)
        passed = _real() - begin
        self._now += passed
        if self._waited < PATIENCE <= self._waited + passed:
            logger.info(f"testing.clock goes in real time, and does not jump: {held} could wake a task")
        self._waited += passed
        return events


def count_anew() -> None:
    """Counts the turns from now on, where a clock is virtual: what happens next must
    not depend on what was before."""
    if _active is not None:
        _active._turns = 0


class VirtualPoller:
    """The loop's poller in a block of ``Clock``."""

    def __init__(self, real: Poller, clock: Clock) -> None:
        self.real = real
        self._clock = clock
        self.register = real.register
        self.modify = real.modify
        self.unregister = real.unregister
        self.close = real.close

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        """See ``Clock.wait``."""
        if timeout == 0:
            self._clock.busy()
            return self.real.poll(0, maxevents)
        return self._clock.wait(self.real, timeout, maxevents)


def clock(*, jumps: int = JUMPS) -> Clock:
    """Makes a virtual clock for a ``with`` block. Where the program would wait for
    nothing but a timer, the clock jumps to that timer, so hours pass in no time. It
    stands still while tasks run. (After a thousand turns of the loop at one time it
    creeps, so that a loop which polls until a time is over comes to its end.)

        with testing.clock() as clock:
            time.sleep(5000)
            clock.elapsed                   # -> 5000

    ``time.now``, ``time.monotonic``, ``time.sleep``, ``time.after``, ``time.deadline``
    and every time-out, keepalive and rate limit of the library follow it. The standard
    library's ``time`` doesn't, nor do the ``Date`` fields of HTTP and the access log.

    It doesn't jump while anything else could wake a task: a listener, a connection that
    is not of ``testing.pair``, a job of a worker thread, or a thread that was started
    in the block. Then time passes as usual, and after a second a line of the log says
    what it is: ``clock.held``.

    If nothing at all can wake the tasks, the main program gets a ``silly.Error`` that
    names what each waits on. It also gets one after ``jumps`` jumps: the program may
    wait for ever while, for example, the keepalive of a WebSocket goes on.

    After the block ``time.now`` is the system's clock again. ``time.monotonic`` goes on
    from where the virtual clock stood, since it never goes back. Raises RuntimeError in
    a thread that is not the loop's, and where a clock is virtual already.
    """
    check_int("testing.clock: jumps", jumps, 1)
    return Clock(jumps)
