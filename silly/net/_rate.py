"""Whether a peer sends fast enough: bytes a second over the last so many seconds.

    meter = RateMeter(rate=240, window=60.0)
    meter.start(peers_clock())              # from now on we wait for the peer
    ...                                     # at most for meter.left seconds
    if meter.stop(peers_clock(), total):    # total: bytes since the transfer began
        print("too slow")

The average since the beginning would not do: a peer could send much at first, and then
hold what it has sent for days with a byte now and then.

Only the peer's time counts: not the time in which nobody waits for it (``stop``), nor
that in which a task holds the loop (``peers_clock``), nor that in which nobody looked
(``look``).
"""

from __future__ import annotations

from .._core import scheduler
from .._core.loop import LAG, monotonic

SLOTS = 6
"""The window is measured in so many slots of equal length."""

_loop = scheduler.loop


def peers_clock() -> float:
    """Returns the time, in seconds, on a clock that stands still while a task holds the
    loop: what a peer sends meanwhile is not late, only read late."""
    now = monotonic()
    if 0.0 < _loop.busy_since < now - LAG:
        now = _loop.busy_since  # this turn will be lag, but is not counted before its end
    return now - _loop.lagged


class RateMeter:
    """Measures one transfer; it has no clock of its own. Times are in seconds.

        meter = RateMeter(rate=240, window=60.0)
        meter.start(100.0)
        meter.look(110.0, 2400)     # -> False: not too slow
        meter.left                  # -> 10.0: look again then

    ``rate``: bytes a second that the peer must send at least. The rule: at the end of
    each sixth (slot) of a ``window``, the last ``window`` seconds in which the peer's
    time ran must have brought ``rate * window`` bytes. So the first verdict comes after
    a whole window. A peer that stops is found out after at least one window, and at
    most one and a sixth.
    """

    __slots__ = ("_gained", "_need", "_passed", "_present", "_since", "_slot", "_total", "running", "too_slow")

    def __init__(self, rate: float, window: float) -> None:
        self._need = rate * window
        self._slot = window / SLOTS
        self._gained: tuple[int, ...] = ()
        """Bytes of each of the last whole slots, at most SLOTS."""
        self._present = 0
        """Bytes of the present slot."""
        self._passed = 0.0
        """Seconds of the present slot that have passed."""
        self._total = 0
        self._since = 0.0
        self.running = False
        """Whether the peer's time runs."""
        self.too_slow = False
        """The verdict. It stands: a peer that was too slow once stays so."""

    @property
    def left(self) -> float:
        """The seconds of the peer's time until a look is due: the end of the slot."""
        return self._slot - self._passed

    def start(self, now: float) -> None:
        """The peer's time runs from ``now`` on."""
        self.running = True
        self._since = now

    def stop(self, now: float, total: int) -> bool:
        """Like ``look``, and the peer's time stops."""
        self.look(now, total)
        self.running = False
        return self.too_slow

    def look(self, now: float, total: int) -> bool:
        """Counts the time until ``now``, if the peer's time runs. Returns whether the
        peer is too slow.

        ``total``: all bytes since the transfer began. What came while the peer's time
        stood still counts too. A total that falls counts again when it is higher than
        it ever was.

        The time since the last look counts for one slot at most. If it was more, nobody
        looked when ``left`` had passed: the process was stopped, or the machine slept.
        """
        if self.running:
            self._passed += min(max(0.0, now - self._since), self._slot)
            self._since = max(now, self._since)
        if total > self._total:
            self._present += total - self._total
            self._total = total
        if self._passed >= self._slot:
            self._passed -= self._slot
            self._gained = (*self._gained[1 - SLOTS :], self._present)
            self._present = 0
            if len(self._gained) == SLOTS and sum(self._gained) < self._need:
                self.too_slow = True
        return self.too_slow
