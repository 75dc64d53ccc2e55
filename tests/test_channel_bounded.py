"""``channel.new(size)``: places, many readers, time-outs, cancels; loops over channels; ``select``'s interface."""

from __future__ import annotations

import random
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import task, time
from silly._core import scheduler
from silly.sync import channel

from .leaks import leaks_nothing
from .test_task import settle, started

pytestmark = pytest.mark.usefixtures("virtual")


def end_woken(t: task.Task[Any]) -> None:
    """Ends a task that was woken, before it runs, as Ctrl-C ends a main program."""
    scheduler._ready.remove(t)
    scheduler.loop.post(scheduler.throw, t, GreenletExit())
    time.sleep(1)


# ---- places ------------------------------------------------------------------------------------------------------


def test_a_full_channel_makes_push_wait() -> None:
    chan = channel.new(2)
    assert chan.push(1) == (True, None)
    assert chan.push(2) == (True, None)
    third = started(chan.push, 3)
    assert (len(chan), task.status(third), task.inspect()[third]["waits"]) == (2, "WAIT", "channel.push")
    assert chan.pop() == (1, None)
    assert len(chan) == 2, "the place belongs to the item that waited"
    assert third.join() == ((True, None), None)
    assert [chan.pop(), chan.pop()] == [(2, None), (3, None)]


def test_items_keep_the_order_of_their_pushes() -> None:
    chan = channel.new(1)
    pushing = [task.fork(chan.push, number) for number in range(10)]
    settle()
    got = []
    for number in range(10):
        got.append(chan.pop()[0])
        if number == 4:
            pushing.append(task.fork(chan.push, 10))  # behind those that wait, though a place may be free
    got.append(chan.pop()[0])
    assert got == list(range(11))
    assert all(t.join() == ((True, None), None) for t in pushing)


def test_many_readers_are_served_in_order() -> None:
    chan = channel.new(3)
    got: list[Any] = []
    for name in "abc":
        task.fork(lambda name=name: got.append((name, chan.pop())))
    settle()
    for number in range(3):
        chan.push(number)
    assert len(chan) == 0, "handed over"
    settle()
    assert got == [("a", (0, None)), ("b", (1, None)), ("c", (2, None))]


def test_workers_share_the_items() -> None:
    chan: channel.Channel[int] = channel.new(4)
    done: list[int] = []

    def work() -> None:
        for item in chan:
            time.sleep(0)
            done.append(item)

    workers = [task.fork(work) for _ in range(5)]
    for number in range(1000):
        assert chan.push(number)
        assert len(chan) <= 4
    chan.close()
    assert all(each.join() == (None, None) for each in workers)
    assert sorted(done) == list(range(1000))


def test_clear_makes_places() -> None:
    chan = channel.new(1)
    chan.push("dropped")
    waiting = [started(chan.push, name) for name in ("a", "b")]
    chan.clear()
    settle()
    assert [t.done for t in waiting] == [True, False]
    assert [chan.pop(), chan.pop()] == [("a", None), ("b", None)]


@pytest.mark.parametrize("size", [0, -1, 1.0, True, "1", 2**63])
def test_a_wrong_size(size: Any) -> None:
    with pytest.raises(ValueError, match=r"channel\.new: size is an int from 1"):
        channel.new(size)


@pytest.mark.parametrize("size", [None, 1])
def test_wrong_arguments(size: Any) -> None:
    chan = channel.new(size)
    with pytest.raises(ValueError, match=r"channel\.pop: the time-out"):
        chan.pop(-1)
    with pytest.raises(TypeError, match=r"channel\.pop: the time-out"):
        chan.pop("1")  # type: ignore[arg-type]
    assert chan.push(None) == (False, "Nil data")
    if size:
        with pytest.raises(ValueError, match=r"channel\.push: the time-out"):
            chan.push(1, -1)
    assert len(chan) == 0
    assert bool(chan)


def test_send_and_recv_are_the_older_names() -> None:
    chan = channel.new(1)
    chan.send(1)
    waiting = started(chan.send, 2)
    assert [chan.recv(), chan.recv()] == [(1, None), (2, None)]
    assert waiting.join() == ((True, None), None)


# ---- close -------------------------------------------------------------------------------------------------------


def test_close_ends_all_who_wait() -> None:
    chan = channel.new(1)
    readers = [started(chan.pop) for _ in range(3)]
    chan.close("over")
    assert [t.join() for t in readers] == [((None, "over"), None)] * 3
    chan = channel.new(1)
    chan.push("kept")
    writers = [started(chan.push, name) for name in "ab"]
    chan.close("over")
    assert [t.join() for t in writers] == [((False, "over"), None)] * 2
    assert chan.push("late") == (False, "over")
    assert [chan.pop(), chan.pop()] == [("kept", None), (None, "over")]


def test_items_that_were_accepted_before_a_close_are_popped() -> None:
    chan = channel.new(1)
    chan.push(1)
    waiting = started(chan.push, 2)
    assert chan.pop() == (1, None)
    chan.close()
    assert waiting.join() == ((True, None), None)
    assert [chan.pop(), chan.pop()] == [(2, None), (None, "channel closed")]


# ---- loops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 2])
def test_a_loop_ends_at_close(size: Any) -> None:
    chan: channel.Channel[str] = channel.new(size)
    got: list[str] = []

    def body() -> None:
        for item in chan:
            got.append(item)
        got.append("end")

    reading = task.fork(body)
    for item in ("", "a", "b"):
        chan.push(item)
    settle()
    assert got == ["", "a", "b"]
    chan.push("last")
    chan.close("whatever")
    assert reading.join() == (None, None)
    assert got == ["", "a", "b", "last", "end"]
    assert list(chan) == []


def test_a_loop_that_is_left_has_taken_no_more() -> None:
    chan = channel.new(3)
    for number in range(3):
        chan.push(number)
    for _ in chan:
        break
    assert len(chan) == 2


def test_a_loop_under_a_deadline_raises() -> None:
    chan = channel.new(1)
    chan.push(1)
    got = []
    with time.deadline(5), pytest.raises(TimeoutError, match=r"channel\.pop: the deadline of 5 ms ran out"):
        for item in chan:
            got.append(item)
    assert got == [1]


def test_a_second_loop_over_a_channel_without_a_bound() -> None:
    chan = channel.new()
    reading = started(chan.pop)
    with pytest.raises(RuntimeError, match=r"channel\.new\(size\)"):
        list(chan)
    chan.close()
    assert reading.join() == ((None, "channel closed"), None)


# ---- time --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1])
def test_pop_with_a_time_out(size: Any) -> None:
    chan = channel.new(size)
    assert chan.pop(3) == (None, "channel.pop: the time-out of 3 ms ran out")
    assert chan.pop(0) == (None, "channel.pop: the time-out of 0 ms ran out")
    chan.push("a")
    assert chan.pop(0) == ("a", None)
    with time.deadline(2):
        assert chan.pop(10_000) == (None, "channel.pop: the deadline of 2 ms ran out")
        chan.push("b")
        assert chan.pop(10_000) == ("b", None), "what is there needs no time"


def test_push_with_a_time_out() -> None:
    chan = channel.new(1)
    chan.push("a", 0)
    behind = started(chan.push, "c", 10_000)
    assert chan.push("b", 3) == (False, "channel.push: the time-out of 3 ms ran out")
    with time.deadline(2):
        assert chan.push("b") == (False, "channel.push: the deadline of 2 ms ran out")
    assert [chan.pop(), chan.pop()] == [("a", None), ("c", None)]
    assert behind.join() == ((True, None), None)
    assert chan.pop(0)[0] is None, "b was never pushed"


# ---- cancels and other ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_cancelled_push(at: int) -> None:
    chan = channel.new(1)
    chan.push("first")
    waiting = [started(chan.push, number) for number in range(3)]
    waiting[at].cancel()
    assert waiting[at].join() == (None, "cancelled")
    rest = [number for number in range(3) if number != at]
    assert [chan.pop()[0] for _ in range(3)] == ["first", *rest]
    assert chan.pop(0)[0] is None


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_cancelled_pop(at: int) -> None:
    chan = channel.new(1)
    waiting = [started(chan.pop) for _ in range(3)]
    waiting[at].cancel()
    assert waiting[at].join() == (None, "cancelled")
    for name in "ab":
        chan.push(name)
    assert [t.join() for t in waiting if t is not waiting[at]] == [(("a", None), None), (("b", None), None)]
    assert len(chan) == 0


def test_a_cancel_after_the_hand_over_strikes_later() -> None:
    chan = channel.new(1)
    got: list[Any] = []

    def body() -> None:
        got.append(chan.pop())
        chan.pop()

    reading = started(body)
    chan.push("a")
    reading.cancel()
    assert reading.join() == (None, "cancelled")
    assert got == [("a", None)]
    chan.push("b")
    pushing = started(lambda: (got.append(chan.push("c")), time.sleep(10_000)))
    chan.pop()
    pushing.cancel()
    assert pushing.join() == (None, "cancelled")
    assert got[1:] == [(True, None)]
    assert chan.pop() == ("c", None)


def test_a_reader_that_is_ended_after_it_was_woken_hands_its_item_on() -> None:
    chan = channel.new(2)
    first, second = started(chan.pop), started(chan.pop)
    chan.push("a")
    end_woken(first)
    assert second.join() == (("a", None), None)
    last = started(chan.pop)
    chan.push("b")
    chan.push("c")
    end_woken(last)
    assert [chan.pop(), chan.pop()] == [("b", None), ("c", None)]


def test_a_writer_that_is_ended_after_it_was_woken_has_pushed() -> None:
    chan = channel.new(1)
    chan.push("a")
    first, second = started(chan.push, "b"), started(chan.push, "c")
    assert chan.pop() == ("a", None)
    end_woken(first)
    assert first.join() == (None, "cancelled")
    assert [chan.pop(), chan.pop()] == [("b", None), ("c", None)]
    assert second.join() == ((True, None), None)


def test_random_blows_lose_and_double_nothing() -> None:
    """What was pushed for sure is popped, each once and in the order of its task, unless its reader was struck with it in
    hand, which a woken one never is."""
    rng = random.Random(15)
    chan: channel.Channel[tuple[int, int]] = channel.new(3)
    pushed: list[tuple[int, int]] = []
    popped: list[tuple[int, int]] = []

    def blow() -> None:
        if rng.random() < 0.05:
            rng.choice(alive).cancel()

    def push(who: int) -> None:
        for number in range(20):
            blow()
            if chan.push((who, number), rng.choice([None, 0, 1])):
                pushed.append((who, number))

    def pop() -> None:
        while True:
            blow()
            item, err = chan.pop(rng.choice([None, 0, 1]))
            if item is not None:
                popped.append(item)
            elif err == "channel closed":
                return

    writers = [task.fork(push, who) for who in range(40)]
    readers = [task.fork(pop) for _ in range(10)]
    alive = [*writers, *readers]
    while not all(t.done for t in writers):
        time.sleep(0)
        if all(t.done for t in readers):
            readers.append(task.fork(pop))
            alive.append(readers[-1])
    chan.close()
    for t in readers:
        t.join()
    popped.extend(chan)
    assert len(popped) == len(set(popped))
    assert set(popped) == set(pushed)
    assert sum(t._cancelled for t in alive) > 20


# ---- no_switch, select, memory -----------------------------------------------------------------------------------


def test_no_switch() -> None:
    chan, unbound = channel.new(1), channel.new()
    with task.no_switch():
        assert unbound.push(1)
        for call in (lambda: chan.push(1), chan.pop, unbound.pop):
            with pytest.raises(RuntimeError, match="no_switch"):
                call()
        chan.close()
    assert (len(chan), len(unbound)) == (0, 1)


@pytest.mark.parametrize("size", [None, 2])
def test_what_select_asks(size: Any) -> None:
    chan = channel.new(size)
    assert not chan._ready()
    woken: list[str] = []

    def watching(name: str) -> None:
        me = task.running()
        chan._watch(me)
        scheduler.park("a test")
        woken.append(name)

    for name in "ab":
        started(watching, name)
    chan.push("item")
    assert (len(chan), chan._ready()) == (1, True), "a watch takes nothing"
    settle()
    assert woken == ["a", "b"]
    chan.pop()
    assert not chan._ready()
    started(watching, "c")
    chan.push("more")
    chan.push("more")
    settle()
    assert woken == ["a", "b", "c"]
    chan.clear()
    other = started(watching, "d")
    chan._unwatch(other)
    chan._unwatch(other)
    chan.push("more")
    settle()
    assert woken == ["a", "b", "c"]
    chan._watch(other)
    chan.close()
    settle()
    assert woken == ["a", "b", "c", "d"]
    assert chan._ready()


@pytest.mark.parametrize("size", [None, 2])
@pytest.mark.parametrize("closed", [False, True])
def test_a_watch_that_comes_too_late(size: Any, closed: bool) -> None:
    """What it is to see is there already."""
    chan = channel.new(size)
    chan.push(1)
    if closed:
        chan.pop()
        chan.close()
    watching = started(lambda: (chan._watch(task.running()), scheduler.park("a test")))
    assert watching.done


def test_select_and_a_reader() -> None:
    """Who pops gets the item, and a watch is told of what is queued."""
    for chan in (channel.new(2), channel.new()):
        reading = started(chan.pop)
        if chan is not None and type(chan) is channel.Channel:
            with pytest.raises(RuntimeError, match=r"another task waits in channel\.pop"):
                chan._ready()
        else:
            assert not chan._ready()
        chan.push("a")
        assert reading.join() == (("a", None), None)


def test_what_comes_back_wakes_a_watch() -> None:
    chan = channel.new(1)
    first = started(chan.pop)
    chan.push("a")
    watching = task.fork(lambda: (chan._watch(task.running()), scheduler.park("a test")))
    time.sleep(0)
    # ``first`` has run by now in the normal course; here it is the next that is ended while it holds an item.
    assert first.join() == (("a", None), None)
    second = started(chan.pop)
    chan.push("b")
    end_woken(second)
    settle()
    assert watching.done
    assert chan.pop() == ("b", None)


def test_memory_is_flat() -> None:
    chan = channel.new(1)

    def run() -> None:
        chan.push(1)
        waiting = task.fork(chan.push, 2)
        time.sleep(0)
        chan.pop()
        chan.pop()
        waiting.join()

    leaks_nothing(run)
