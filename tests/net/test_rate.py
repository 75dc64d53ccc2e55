"""How fast a peer sends: the window of ``_rate``, by a clock that the tests set."""

from __future__ import annotations

import random

import pytest

from silly._core import scheduler
from silly.net import _rate
from silly.net._rate import SLOTS, RateMeter, peers_clock

from ..helpers import turn


class Transfer:
    """A peer and its meter: each ``second`` brings bytes, while the meter runs."""

    def __init__(self, rate: float = 240, window: float = 60.0) -> None:
        self.meter = RateMeter(rate, window)
        self.now = 1000.0
        self.total = 0
        self.seconds = 0
        self.meter.start(self.now)

    def second(self, size: int) -> bool:
        self.now += 1
        self.seconds += 1
        self.total += size
        return self.meter.look(self.now, self.total)

    def until_slow(self, size: int, most: int = 1000) -> int:
        """After how many seconds of ``size`` bytes the peer is too slow; 0: never."""
        begin = self.seconds
        return self.seconds - begin if any(self.second(size) for _ in range(most)) else 0


@pytest.mark.parametrize("size", [0, 1, 100, 239])
def test_too_slow_from_the_beginning(size: int) -> None:
    assert Transfer().until_slow(size) == 60


@pytest.mark.parametrize("size", [240, 241, 10**6])
def test_fast_enough(size: int) -> None:
    assert Transfer().until_slow(size) == 0


@pytest.mark.parametrize("before", [0, 1, 5, 9])
@pytest.mark.parametrize("size", [0, 1, 200])
def test_nothing_is_paid_in_advance(size: int, before: int) -> None:
    """338 MiB at once are worth no more than their 60 seconds."""
    transfer = Transfer()
    for _ in range(before):
        assert not transfer.second(240)
    assert not transfer.second(338 * 2**20)
    assert 60 <= transfer.until_slow(size) <= 70


def test_a_gap_within_the_window() -> None:
    """What matters is what 60 seconds bring, not how evenly."""
    transfer = Transfer()
    for _ in range(100):
        assert not transfer.second(240 * 60)
        for _ in range(49):
            assert not transfer.second(0)


def test_the_verdict_stands() -> None:
    transfer = Transfer()
    assert transfer.until_slow(0) == 60
    assert transfer.second(10**9)
    assert transfer.meter.too_slow


def test_time_in_which_nobody_waits_is_not_the_peers() -> None:
    transfer = Transfer()
    for _ in range(200):
        assert not transfer.meter.stop(transfer.now, transfer.total)
        assert not transfer.meter.running
        for _ in range(30):
            assert not transfer.second(0)
        transfer.meter.start(transfer.now)
        assert not transfer.second(240)


def test_what_comes_while_nobody_waits_counts() -> None:
    transfer = Transfer()
    for _ in range(200):
        transfer.meter.stop(transfer.now, transfer.total)
        transfer.second(240)
        transfer.meter.start(transfer.now)
        assert not transfer.second(0)


def test_time_in_which_nobody_looked_is_not_the_peers() -> None:
    """The machine slept for a day: that is worth one slot."""
    transfer = Transfer()
    for _ in range(60):
        assert not transfer.second(240)
    transfer.now += 86400
    assert not transfer.second(240 * 11)
    assert transfer.until_slow(240) == 0


def test_a_clock_that_goes_back_counts_no_time() -> None:
    transfer = Transfer()
    for _ in range(59):
        assert not transfer.second(0)
    transfer.now -= 30
    for _ in range(30):
        assert not transfer.second(0)
    assert transfer.second(0)


def test_a_total_that_falls_counts_again_only_above_what_it_was() -> None:
    """A TLS record that is half there counts, but not once more when it brings less than that."""
    transfer = Transfer()
    for second in range(70):
        transfer.total = 16000 if second % 2 else 0
        assert transfer.second(0) is (second == 69)


def test_when_to_look_again() -> None:
    meter = RateMeter(240, 60.0)
    assert meter.left == 10.0
    meter.start(5.0)
    meter.look(9.0, 0)
    assert meter.left == 6.0
    meter.stop(14.0, 0)
    meter.look(20.0, 0)
    assert meter.left == 1.0
    meter.start(30.0)
    meter.look(32.0, 0)
    assert meter.left == 9.0


@pytest.mark.parametrize("seed", range(20))
def test_against_every_byte_remembered(seed: int) -> None:
    """The slots give the verdict that a list of all that came gives at the end of each."""
    rng = random.Random(seed)
    rate, window = rng.choice([(240, 60), (5, 6), (1000, 12)])
    transfer = Transfer(rate, window)
    came: list[int] = []
    while len(came) < 50 * window:
        size = rng.choice([0, 0, rate // 2, rate, 2 * rate, rng.randrange(4 * rate)])
        came.append(size)
        due = len(came) >= window and len(came) % (window // SLOTS) == 0 and sum(came[-window:]) < rate * window
        assert transfer.second(size) is due
        if due:
            break


def test_memory_is_bounded() -> None:
    transfer = Transfer()
    transfer.until_slow(240, 10_000)
    assert len(transfer.meter._gained) == SLOTS


# ---- the clock ------------------------------------------------------------------------------------------------------


def test_the_clock_runs() -> None:
    before = peers_clock()
    turn(3)
    assert peers_clock() > before


def test_the_clock_stands_while_a_task_holds_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a look within that turn, and for one after it."""
    turn()
    before = peers_clock()
    offset = 0.0
    real = _rate.monotonic
    monkeypatch.setattr(_rate, "monotonic", lambda: real() + offset)
    offset = 50.0
    assert abs(peers_clock() - before) < 5
    monkeypatch.setattr(scheduler.loop, "busy_since", scheduler.loop.busy_since + 50.0)
    monkeypatch.setattr(scheduler.loop, "lagged", scheduler.loop.lagged + 50.0)
    assert abs(peers_clock() - before) < 5


def test_the_clock_before_the_loop_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler.loop, "busy_since", 0.0)
    assert peers_clock() + scheduler.loop.lagged > 0
