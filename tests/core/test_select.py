"""``task.select`` itself, over things of the test's own, channels and tasks: what it returns, its order, its ends, and what it
leaves behind."""

from __future__ import annotations

import gc
import random
import signal
import threading
import weakref
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import errno, task, time
from silly._core import scheduler, select
from silly._core.tasks import Leaving
from silly.sync import channel, event

from ..children import Child
from ..leaks import leaks_nothing
from ..net.support import Job, until
from ..test_task import in_loop, in_thread, settle

loop = scheduler.loop


class Thing:
    """Ready when the test says so."""

    def __init__(self) -> None:
        self.ready = False
        self.asked = 0
        self.watches: list[Any] = []
        self.forgotten = 0

    def _ready(self) -> bool:
        self.asked += 1
        return self.ready

    def _watch(self, watch: Any) -> None:
        assert watch not in self.watches
        if self.ready:
            scheduler.wake(watch)
        else:
            self.watches.append(watch)

    def _unwatch(self, watch: Any) -> None:
        self.forgotten += 1
        if watch in self.watches:
            self.watches.remove(watch)

    def set(self) -> None:
        self.ready = True
        self.wake()

    def wake(self) -> None:
        watches, self.watches = self.watches, []
        for watch in watches:
            scheduler.wake(watch)


def things(count: int) -> list[Thing]:
    return [Thing() for _ in range(count)]


def selecting(*given: Any, **options: Any) -> Job:
    """A task that waits in a select."""
    return Job(lambda: task.select(*given, **options)).blocked()


# ---- what it returns ----------------------------------------------------------------------------------------------------


def test_what_is_ready_is_returned_without_waiting() -> None:
    a, b, c = things(3)
    b.set()
    c.set()
    turns = loop.turns
    assert task.select(a, b, c) == (b, None), "the first argument wins"
    assert task.select(c, a, b) == (c, None)
    assert loop.turns == turns
    assert (a.asked, b.asked, c.asked) == (1, 1, 1)
    assert not a.forgotten + b.forgotten + c.forgotten, "nothing was watched"


def test_it_takes_nothing() -> None:
    chan = channel.new()
    chan.push(1)
    chan.push(2)
    for _ in range(3):
        assert task.select(chan) == (chan, None)
    assert len(chan) == 2


@pytest.mark.parametrize("number", [0, 1, 2])
def test_it_waits_for_the_first(number: int) -> None:
    given = things(3)
    job = selecting(*given)
    assert [len(each.watches) for each in given] == [1, 1, 1]
    given[number].set()
    assert job.result() == (given[number], None)
    assert not any(each.watches for each in given)


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2], [0, 2], [2, 0]])
def test_the_first_argument_wins_whichever_was_woken_first(order: list[int]) -> None:
    given = things(3)
    job = selecting(*given)
    for number in order:
        given[number].set()
    assert job.result() == (given[min(order)], None)


def test_the_first_argument_wins_though_a_task_made_it_ready_later() -> None:
    """The watch of ``b`` is in the queue, and behind it a task that sets ``a`` before the selecting task's turn."""
    a, b = things(2)
    job = selecting(a, b)
    b.set()
    task.fork(a.set)
    settle()
    assert job.result() == (a, None)


def test_what_is_no_longer_ready_is_not_returned() -> None:
    a, b = things(2)
    job = selecting(a, b)
    a.set()
    a.ready = False  # another task took it
    settle()
    assert task.status(job.task) == "WAIT"
    assert len(a.watches) == 1, "it is watched again"
    b.set()
    assert job.result() == (b, None)


def test_only_what_was_woken_is_asked_again() -> None:
    given = things(5)
    job = selecting(*given)
    for _ in range(10):
        given[3].wake()
        settle()
    assert [each.asked for each in given] == [1, 1, 1, 11, 1]
    assert [len(each.watches) for each in given] == [1] * 5
    given[0].set()
    assert job.result() == (given[0], None)


def test_a_thing_that_is_ready_when_it_is_watched_need_not_wait() -> None:
    """As a signal handler can make it, between the two."""

    class Late(Thing):
        def _watch(self, watch: Any) -> None:
            self.ready = True
            super()._watch(watch)

    a, late = Thing(), Late()
    assert task.select(a, late, timeout=60_000) == (late, None)
    assert (a.forgotten, late.forgotten) == (1, 1)
    assert not a.watches


def test_the_same_thing_twice() -> None:
    thing = Thing()
    job = selecting(thing, thing)
    assert len(thing.watches) == 1
    thing.set()
    assert job.result() == (thing, None)


def test_several_tasks_select_the_same_thing() -> None:
    thing = Thing()
    jobs = [selecting(thing) for _ in range(3)]
    thing.set()
    assert [job.result() for job in jobs] == [(thing, None)] * 3


def test_a_thing_with_work_of_its_own_looks_once_a_turn() -> None:
    class Busy(Thing):
        def _watch(self, watch: Any) -> None:
            select.next_turn(watch)

    busy = Busy()
    job = Job(lambda: task.select(busy))
    turns = loop.turns
    until(lambda: busy.asked >= 20)
    assert loop.turns - turns >= 19
    busy.ready = True
    assert job.result() == (busy, None)


def test_tasks() -> None:
    chan = channel.new()
    quick, slow = task.fork(lambda: 6 * 7), task.fork(chan.pop)
    assert task.select(slow, quick, timeout=60_000) == (quick, None)
    turns = loop.turns
    assert quick.join() == (42, None)
    assert task.select(slow, quick) == (quick, None)
    assert loop.turns == turns
    chan.push("late")
    assert task.select(slow, timeout=60_000) == (slow, None)
    assert slow.join() == (("late", None), None)


def test_a_task_that_fails_or_is_cancelled_is_ready() -> None:
    """Its exception is not logged: who selects it joins it."""

    def fails() -> None:
        raise LookupError("a test")

    failing, waiting = task.fork(fails), task.fork(channel.new().pop)
    assert task.select(waiting, failing, timeout=60_000) == (failing, None)
    with pytest.raises(LookupError, match="a test"):
        failing.join()
    waiting.cancel()
    assert task.select(waiting, timeout=60_000) == (waiting, None)
    assert waiting.join() == (None, "cancelled")


def test_a_call_in_a_thread_is_selected_as_its_task() -> None:
    gate = threading.Lock()
    gate.acquire()
    waits = task.fork(task.thread, gate.acquire)
    quick = task.fork(task.thread, pow, 2, 5)
    assert task.select(waits, quick) == (quick, None)
    assert quick.join() == ((32, None), None)
    gate.release()
    assert task.select(waits) == (waits, None)
    assert waits.join() == ((True, None), None)


def test_events() -> None:
    first, second = event.new(), event.new()
    job = selecting(first, second)
    second.set()
    assert job.result() == (second, None)
    turns = loop.turns
    assert second.wait() == (True, None)
    assert loop.turns == turns
    second.clear()
    assert task.select(first, second, timeout=0)[0] is None


@pytest.mark.parametrize("bounded", [False, True])
def test_channels(bounded: bool) -> None:
    first: Any = channel.new(5) if bounded else channel.new()
    second: Any = channel.new(5) if bounded else channel.new()
    job = selecting(first, second)
    second.push("item")
    assert job.result() == (second, None)
    assert second.pop() == ("item", None)
    job = selecting(first, second)
    first.close("over")
    assert job.result() == (first, None)
    assert first.pop() == (None, "over")


def test_a_channel_that_another_task_pops_from() -> None:
    chan: Any = channel.new()
    job = Job(chan.pop).blocked()
    with pytest.raises(RuntimeError, match=r"another task waits in channel\.pop already"):
        task.select(chan)
    chan.push(1)
    assert job.result() == (1, None)
    chan = channel.new(1)  # it has any number of readers
    job = Job(chan.pop).blocked()
    select_too = selecting(chan)
    chan.push(1)
    chan.push(2)
    assert job.result() == (1, None)
    assert select_too.result() == (chan, None)


def test_a_task_that_can_not_be_joined() -> None:
    with pytest.raises(ValueError, match="the main program can't be joined"):
        task.select(task.running())
    job = Job(lambda: task.select(task.running()))
    with pytest.raises(RuntimeError, match="a task can't join itself"):
        job.result()


def test_a_watched_task_keeps_nothing() -> None:
    other = task.fork(channel.new().pop)
    settle()
    assert task.select(other, timeout=0)[0] is None
    assert other._joiners is not None
    assert len(other._joiners) == 0
    other.cancel()
    other.join()


# ---- wrong arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 1, "text", object(), [], (channel.new(),), channel.Channel, Thing])
def test_things_of_other_types(wrong: Any) -> None:
    ready = Thing()
    ready.set()
    for given in ((wrong,), (ready, wrong), (Thing(), wrong)):
        with pytest.raises(TypeError, match=rf"task\.select takes connections.*, not {type(wrong).__name__}"):
            task.select(*given)
    assert not ready.asked


def test_a_list_of_things() -> None:
    given: Any = [Thing()]
    with pytest.raises(TypeError, match=r"not list; give the things one by one: task\.select\(\*things\)"):
        task.select(given)


def test_a_program_that_does_not_unpack() -> None:
    ready = Thing()
    ready.set()
    with pytest.raises(AttributeError, match=r"task\.select returns a pair: which, err = task\.select\(…\)"):
        task.select(ready).set()  # type: ignore[union-attr]


def test_nothing() -> None:
    with pytest.raises(ValueError, match=r"task\.select needs at least one thing"):
        task.select()


@pytest.mark.parametrize(("wrong", "error"), [(-1, ValueError), (1e15, ValueError), ("1", TypeError), (True, TypeError)])
def test_time_outs_that_are_none(wrong: Any, error: type[Exception]) -> None:
    ready = Thing()
    ready.set()
    with pytest.raises(error, match=r"task\.select: the time-out"):
        task.select(ready, timeout=wrong)


@pytest.mark.parametrize("ready", [False, True])
def test_where_no_task_runs(ready: bool) -> None:
    thing = Thing()
    thing.ready = ready
    for call in (in_thread, in_loop):
        got, exc = call(lambda: task.select(thing))
        assert got == "raised"
        assert isinstance(exc, RuntimeError)
    assert not thing.watches


@pytest.mark.parametrize("ready", [False, True])
def test_no_switch(ready: bool) -> None:
    thing = Thing()
    thing.ready = ready
    with task.no_switch(), pytest.raises(RuntimeError, match=r"task\.select: may wait"):
        task.select(thing)
    assert not thing.asked


# ---- how a wait ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [0, 1, 5.5])
def test_time_out(ms: float) -> None:
    given = things(2)
    assert task.select(*given, timeout=ms) == (None, f"task.select: the time-out of {ms} ms ran out")
    assert not given[0].watches + given[1].watches
    assert [each.forgotten for each in given] == [1, 1]


def test_a_time_out_is_for_the_whole_call() -> None:
    """Wake-ups in vain don't prolong it."""
    thing = Thing()
    over: list[Any] = []

    def disturb() -> None:
        while not over:
            thing.wake()
            time.sleep(1)

    disturbing = task.fork(disturb)
    over.append(task.select(thing, timeout=20))
    disturbing.join()
    assert over == [(None, "task.select: the time-out of 20 ms ran out")]


def test_what_came_in_time_is_in_time() -> None:
    """The thing is set before the loop sees that the time-out has passed."""
    thing = Thing()
    job = selecting(thing, timeout=1)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        pass  # the task holds the loop
    thing.set()
    assert job.result() == (thing, None)


def test_deadlines() -> None:
    thing = Thing()
    with time.deadline(5):
        assert task.select(thing) == (None, "task.select: the deadline of 5 ms ran out")
        assert task.select(thing, timeout=60_000) == (None, "task.select: the deadline of 5 ms ran out")
        assert not thing.watches
        thing.set()
        assert task.select(thing) == (thing, None), "it doesn't wait"
    thing.ready = False
    with time.deadline(60_000):
        assert task.select(thing, timeout=5) == (None, "task.select: the time-out of 5 ms ran out")


@pytest.mark.parametrize("woken", [False, True])
@pytest.mark.parametrize("kind", [GreenletExit, KeyboardInterrupt, ValueError])
def test_whatever_is_thrown_leaves_nothing_watched(kind: type[BaseException], woken: bool) -> None:
    given = things(3)
    job = selecting(*given)
    if woken:
        given[1].set()
        scheduler._ready.clear()  # as the end of the process does
    loop.post(scheduler.throw, job.task, kind("a test"))
    with pytest.raises(kind, match="a test"):
        job.result()
    assert not any(each.watches for each in given)
    assert [each.forgotten for each in given] == [1] * 3


def test_cancel() -> None:
    given = things(2)
    waits = task.fork(task.select, *given)
    settle()
    waits.cancel()
    assert waits.join()[0] is None
    assert not given[0].watches + given[1].watches


def test_a_cancel_after_the_wake_up() -> None:
    """The task gets what it was woken with; the blow strikes where it next waits."""
    thing = Thing()
    got: list[Any] = []

    def body() -> None:
        got.append(task.select(thing))
        time.sleep(0)
        got.append("not reached")

    waits = task.fork(body)
    settle()
    thing.set()
    waits.cancel()
    waits.join()
    assert got == [(thing, None)]


def test_leaving() -> None:
    thing = Thing()
    job = selecting(thing)
    loop.post(scheduler.throw, job.task, Leaving())
    assert job.result() == (None, errno.CLOSED)
    assert not thing.watches


def test_a_wait_that_begins_when_nothing_blocks_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing()
    monkeypatch.setattr(scheduler, "exiting", True)
    assert task.select(thing) == (None, errno.CLOSED)
    assert not thing.watches
    thing.set()
    assert task.select(thing) == (thing, None)


def test_a_signal_handler_that_raises_in_the_turn_of_a_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch has its turn again."""
    thing = Thing()
    job = selecting(thing)
    once = iter([True])
    plain = select.Selecting.switch

    def switch(self: Any) -> Any:
        if next(once, False):
            signal.raise_signal(signal.SIGINT)
        return plain(self)

    monkeypatch.setattr(select.Selecting, "switch", switch)
    thing.set()
    with pytest.raises(KeyboardInterrupt):
        time.sleep(60_000)
    assert job.result() == (thing, None)


# ---- switching ----------------------------------------------------------------------------------------------------------


def test_a_task_that_blocks_switches_to_a_watch_and_goes_on() -> None:
    """The watch is the next one in the queue when the task parks: the hub goes on in its stead."""
    thing, chan = Thing(), channel.new()
    job = selecting(thing)

    def body() -> Any:
        thing.set()
        return chan.pop()

    other = Job(body)
    assert job.result() == (thing, None)
    other.blocked()
    chan.push("item")
    assert other.result() == ("item", None)


def test_a_task_that_switched_to_a_watch_gets_what_is_thrown() -> None:
    thing, chan = Thing(), channel.new()
    job = selecting(thing)

    def body() -> Any:
        thing.set()
        with time.deadline(1):
            return chan.pop()

    assert Job(body).result() == (None, "channel.pop: the deadline of 1 ms ran out")
    assert job.result() == (thing, None)


def test_a_watch_is_in_no_table() -> None:
    seen: list[Any] = []
    task.hook(seen.append, seen.append)
    try:
        thing = Thing()
        loop.post(thing.set)
        assert task.select(thing) == (thing, None)
    finally:
        task.hook()
    assert seen == []


def test_inspect_says_what_it_waits_on() -> None:
    thing = Thing()
    job = selecting(thing, timeout=60_000)
    assert task.inspect()[job.task]["waits"] == "task.select, within a time-out of 60000 ms"
    assert task.inspect()[job.task]["status"] == "WAIT"
    thing.set()
    job.result()


def test_others_run_once_in_64_calls_that_do_not_wait() -> None:
    thing = Thing()
    thing.set()
    rounds = 0
    ended = False

    def other() -> None:
        nonlocal rounds
        while not ended:
            rounds += 1
            time.sleep(0)

    counting = task.fork(other)
    time.sleep(0)
    before = rounds
    for _ in range(select.BURST * 10):
        task.select(thing)
    ended = True
    counting.join()
    assert 10 <= rounds - before <= 11


def test_fair_by_rotation() -> None:
    """As the docstring says."""
    order = things(3)
    for each in order:
        each.set()
    got = []
    for _ in range(6):
        which, _ = task.select(*order)
        assert which is not None
        got.append(which)
        order.remove(which)
        order.append(which)
    assert got[:3] == got[3:]
    assert len(set(got)) == 3


# ---- memory -------------------------------------------------------------------------------------------------------------


def test_memory_stays_flat() -> None:
    a, b = things(2)

    def once() -> None:
        loop.post(b.set)
        assert task.select(a, b)[0] is b
        b.ready = False
        assert task.select(a, timeout=0)[0] is None

    leaks_nothing(once, [a, b], warm=200)


def test_nothing_refers_to_a_select_that_is_over() -> None:
    thing, chan = Thing(), channel.new()
    job = selecting(thing, chan)
    watch = weakref.ref(thing.watches[0])
    chan.push(1)
    assert job.result() == (chan, None)
    chan.pop()
    gc.collect()
    assert watch() is None


# ---- the process --------------------------------------------------------------------------------------------------------


def test_the_end_of_the_process() -> None:
    code = """
import silly
from silly import task, time
from silly.sync import channel

def waits(chan):
    try:
        print(task.select(chan), flush=True)
    finally:
        print("ends", flush=True)
        print(task.select(channel.new(), timeout=5), flush=True)
        print(task.select(channel.new()), flush=True)

def main():
    task.fork(waits, channel.new())
    time.sleep(0)
    silly.exit(3)

silly.run(main)
"""
    with Child("-c", code) as child:
        assert child.line() == "ends"
        assert child.line() == repr((None, "task.select: the time-out of 5 ms ran out"))
        assert child.line() == repr((None, errno.CLOSED))
        assert child.wait() == 3


def test_a_deadlock_is_reported() -> None:
    code = """
from silly import task
from silly.sync import channel

task.select(channel.new(), channel.new())
"""
    with Child("-c", code) as child:
        assert child.wait() == 1
        assert "the main program: waits on task.select" in child.errors()


# ---- nothing lost -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost_or_doubled(seed: int) -> None:
    """Tasks push to channels at random moments; one task selects, with random time-outs, deadlines and cancels."""
    rng = random.Random(seed)
    chans: list[Any] = [channel.new() for _ in range(4)]
    got: list[list[int]] = [[] for _ in chans]
    cancelled = 0

    def push(number: int, many: int) -> None:
        for item in range(many):
            chans[number].push(item)
            if rng.random() < 0.5:
                time.sleep(rng.choice([0, 0, 1]))
        chans[number].close("over")

    def pops() -> bool:
        left = [number for number, chan in enumerate(chans) if chan.reason is None or len(chan)]
        while left:
            rng.shuffle(left)
            with time.deadline(rng.choice([0, 1, 1000])):
                which, _ = task.select(*[chans[number] for number in left], timeout=rng.choice([None, None, 0, 1]))
            if which is None:
                continue
            number = chans.index(which)
            turns = loop.turns
            item, err = which.pop()
            assert loop.turns == turns, "the pop didn't wait"
            if item is None:
                assert err == "over"
                left.remove(number)
            else:
                got[number].append(item)
        return True

    for number in range(len(chans)):
        task.fork(push, number, 50)
    while True:
        popping = task.fork(pops)
        if not cancelled or rng.random() < 0.8:
            time.sleep(rng.choice([0, 0, 1, 2]) if cancelled else 0)
            popping.cancel()
        value, _ = popping.join()
        if value:
            break
        cancelled += 1
    assert got == [list(range(50))] * len(chans)
    assert cancelled
