"""Every wait of the library, struck by ``cancel``: nothing is lost, doubled or left behind. See ``blows``."""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from silly import time
from silly._core import scheduler
from silly.testing import _left

from .blow_scenarios import SCENARIOS, run
from .blows import AT_ONCE, LINES, WAITING, Blows, Job, Site, at, drawn, find_sites, nowhere
from .conftest import Logs

for path in Path(__file__).parent.glob("blow_scenarios_*.py"):
    importlib.import_module(f"{__package__}.{path.stem}")  # it adds scenarios

COUNT = int(os.environ.get("SILLY_BLOWS", "4"))
"""How many seeds are drawn for each scenario: ``SILLY_BLOWS=10000 pytest tests/test_blows.py -k drawn``."""

EXEMPT = {
    "run": "the main program, which can't be cancelled",
    "exit": "silly.exit at the end of the process: the task that called it ends in any case",
}
"""Functions of ``_core/ending.py`` whose waits no scenario needs to be struck at."""

_LOGGED = r"the handler was cancelled|http: .*: the request's body|^INFO |unanswered|did not respond|handshake failed"


@pytest.fixture(autouse=True)
def quiet(logs: Logs) -> None:
    logs.allow(_LOGGED)


def struck(name: str, blows: Blows) -> Blows:
    """Runs a scenario, which must leave nothing behind."""
    before = _left.found()
    try:
        run(name, blows)
    except BaseException as exc:
        blows.ended = True
        exc.add_note(f"{name}, struck at {[str(site) for site in blows.struck]}")
        raise
    left = _left.left(before)
    if left is not None:
        pytest.fail(f"{name}, struck at {[str(site) for site in blows.struck]}, leaves {left}", pytrace=False)
    return blows


def numbers(name: str, every: bool) -> Iterator[int]:
    """The waits to strike: every one, or of each site the first two and the last."""
    waits = struck(name, nowhere()).waits
    if every:
        return iter(range(len(waits)))
    of_site: dict[Site, list[int]] = {}
    for number, sites in enumerate(waits):
        for site in sites:
            of_site.setdefault(site, []).append(number)
    return iter(sorted({number for found in of_site.values() for number in (*found[:2], found[-1])}))


_reached: dict[str, set[Site]] = {}


def strike(name: str, every: bool) -> None:
    sites = _reached.setdefault(name, set())
    for number in numbers(name, every):
        for how in (AT_ONCE, WAITING):
            sites.update(struck(name, at(number, how)).struck)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_blow_at_each_site(name: str) -> None:
    strike(name, False)


@pytest.mark.large
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_blow_at_each_wait(name: str) -> None:
    strike(name, True)


def strike_drawn(name: str, seeds: range) -> None:
    for seed in seeds:
        rate = random.Random(seed).choice((0.02, 0.1, 0.4))
        try:
            struck(name, drawn((name, seed), rate))
        except BaseException as exc:
            exc.add_note(f"seed {seed}")  # it strikes the same again, as far as the kernel's timing goes
            raise


@pytest.mark.parametrize("name", SCENARIOS)
def test_drawn_blows(name: str) -> None:
    strike_drawn(name, range(COUNT))


@pytest.mark.large
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_many_drawn_blows(name: str) -> None:
    strike_drawn(name, range(COUNT, 50))


@pytest.mark.timeout(300)
def test_every_site_is_struck() -> None:
    """A new wait needs a scenario that a blow strikes there: add one to ``blow_scenarios``."""
    due = {site for site in find_sites() if not (site.file == "_core/ending.py" and site.name in EXEMPT)}
    for name in SCENARIOS:
        if name not in _reached:  # the tests above did not run, or in another process
            strike(name, False)
    for name in SCENARIOS:
        # Whether a call has to wait depends on how far the kernel and the threads have come.
        if due <= set().union(*_reached.values()):
            break
        strike(name, False)
    assert sorted(map(str, due - set().union(*_reached.values()))) == []
    assert LINES.unknown == set()


def test_the_sites() -> None:
    """What the search of the code must find, so that it can't pass by finding nothing."""
    found = {(site.file, site.name) for site in find_sites()}
    assert {
        ("net/_stream.py", "Stream.fill"),
        ("net/_output.py", "Output.wait_sent"),
        ("sync/_channel.py", "Channel.pop"),
        ("time.py", "sleep"),
        ("net/websocket/_session.py", "Session._wait_closed"),
    } <= found
    assert {name for file, name in found if file == "_core/ending.py"} == set(EXEMPT)
    assert ("net/websocket/_session.py", "Session.data_unread") not in found  # a timer: no task waits


def test_the_search(tmp_path: Path) -> None:
    """By the type, however the queue got its name; other things that have a ``wait`` are none."""
    (tmp_path / "a.py").write_text(
        "class Offer(Queue):\n    def wait_here(self) -> Waiters[None]: ...\n"
        "class Queue(Waiters[None]): ...\n"
        "class Door:\n"
        "    def __init__(self):\n        self.line: Waiters[None] | None = None\n        self.event = Event()\n"
        "    def enter(self):\n        self.line.wait('door')\n        self.event.wait(1)\n"
        "    def offer(self):\n        offer = Offer()\n        offer.wait('offer')\n"
        "    def other(self, offer):\n        offer.wait('thread')\n"
        "    def argument(self, given: Queue):\n        given.wait('given')\n"
        "    def returned(self):\n        got = self.x.wait_here()\n        got.wait('got')\n"
        "    def called(self):\n        self.x.wait_here().wait('called')\n"
        "def rest():\n    scheduler.pause()\n    return park(\n        'two lines'\n    )\n"
    )
    found = find_sites(tmp_path)
    assert [site.name for site in found] == [
        "Door.enter",
        "Door.offer",
        "Door.argument",
        "Door.returned",
        "Door.called",
        "rest",
        "rest",
    ]
    assert [site.last - site.line for site in found] == [0, 0, 0, 0, 0, 0, 2]


def test_what_was_struck_was_cancelled() -> None:
    """The blows are real: without the scenario's care the task ends."""
    blows = at(0, AT_ONCE)
    ended = []

    def work() -> None:
        try:
            time.sleep(0)
        finally:
            ended.append(scheduler.current()._blow)

    with blows.armed():
        job = Job(work)
        with pytest.raises(scheduler.Cancelled):
            job.result()
    assert ended == [None]
    assert [site.name for site in blows.struck] == ["sleep"]
