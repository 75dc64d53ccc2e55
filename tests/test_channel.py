"""``silly.sync.channel``."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import task, time
from silly._core import scheduler
from silly.sync import channel

from .test_task import settle


def popper(chan: channel.Channel) -> list[Any]:
    """A list that gets what a task pops."""
    got: list[Any] = []
    task.fork(lambda: got.append(chan.pop()))
    settle()
    return got


# ---- push, pop, close, clear ------------------------------------------------------------------------------------


def test_push_and_pop() -> None:
    chan = channel.new()
    ok, err = chan.push("apple")
    assert (ok, err) == (True, None)
    assert chan.pop() == ("apple", None)
    for fruit in ("pear", "plum"):
        assert chan.push(fruit)
    assert [chan.pop() for _ in range(2)] == [("pear", None), ("plum", None)]


def test_the_queue_keeps_its_order() -> None:
    chan = channel.new()
    for i in range(30):
        chan.push(i)
    assert [chan.pop()[0] for _ in range(10)] == list(range(10))
    assert len(chan) == 20
    chan.push(30)
    assert [chan.pop()[0] for _ in range(21)] == list(range(10, 31))


def test_a_push_wakes_the_task_that_waits() -> None:
    chan = channel.new()
    got = popper(chan)
    assert got == []
    chan.push("letter")
    assert got == [], "push never blocks"
    settle()
    assert got == [("letter", None)]


def test_items_pushed_before_the_poppers_run() -> None:
    chan = channel.new()
    got: list[Any] = []
    for _ in range(2):
        task.fork(lambda: got.append(chan.pop()))
    chan.push("one")
    chan.push("two")
    settle()
    assert got == [("one", None), ("two", None)]


def test_a_closed_channel_is_drained_and_then_gives_the_reason() -> None:
    chan = channel.new()
    assert chan.reason is None
    chan.push("last")
    chan.close("sold out")
    assert chan.reason == "sold out"
    ok, err = chan.push("late")
    assert (ok, err) == (False, "sold out")
    assert not chan.push("late")
    assert chan.pop() == ("last", None)
    assert chan.pop() == (None, "sold out")
    assert chan.pop() == (None, "sold out")


def test_close_wakes_the_task_that_waits() -> None:
    chan = channel.new()
    task.fork(chan.close)
    assert chan.pop() == (None, "channel closed")


@pytest.mark.parametrize("item", [7, 2.5, "text", b"bytes", True, [7], {"a": 1}, len, ValueError("x")])
def test_any_item(item: Any) -> None:
    chan = channel.new()
    chan.push(item)
    popped, err = chan.pop()
    assert popped is item
    assert err is None


def test_a_queue_that_was_emptied_goes_on() -> None:
    chan = channel.new()
    for i in range(500):
        chan.push(i)
    assert [chan.pop()[0] for _ in range(500)] == list(range(500))
    got = popper(chan)
    chan.push("one more")
    settle()
    assert got == [("one more", None)]


def test_many_tasks_push_and_one_pops() -> None:
    chan = channel.new()
    got: list[Any] = []

    def consume() -> None:
        for _ in range(8):
            got.append(chan.pop())

    consumer = task.fork(consume)
    producers = [task.fork(chan.push, number * number) for number in range(8)]
    settle()
    assert got == [(number * number, None) for number in range(8)]
    assert {task.status(t) for t in [consumer, *producers]} == {None}


def test_items_pushed_before_a_close_are_popped() -> None:
    chan = channel.new()

    def body() -> None:
        chan.push("first")
        chan.push("second")
        chan.close()

    task.fork(body)
    assert [chan.pop() for _ in range(3)] == [("first", None), ("second", None), (None, "channel closed")]


def test_clear_drops_queued_items_but_not_those_handed_over() -> None:
    chan = channel.new()

    def body() -> None:
        chan.push("first")
        chan.push("second")
        assert len(chan) == 1
        chan.clear()
        assert len(chan) == 0
        chan.close()

    task.fork(body)
    assert [chan.pop() for _ in range(2)] == [("first", None), (None, "channel closed")]


def test_clear_leaves_the_channel_open() -> None:
    chan = channel.new()
    chan.push(1)
    chan.clear()
    assert chan.reason is None
    assert chan.push(2)
    assert chan.pop() == (2, None)


# ---- items, and the tasks that wait -----------------------------------------------------------------------------


@pytest.mark.parametrize("item", [0, "", b"", False, (), 0.0])
@pytest.mark.parametrize("waiting", [False, True])
def test_falsy_items_are_items(item: Any, waiting: bool) -> None:
    chan = channel.new()
    if waiting:
        got = popper(chan)
        chan.push(item)
        settle()
        popped, err = got[0]
    else:
        chan.push(item)
        popped, err = chan.pop()
    assert popped is item
    assert err is None


def test_none_is_refused() -> None:
    chan = channel.new()
    ok, err = chan.push(None)
    assert (ok, err) == (False, "Nil data")
    assert len(chan) == 0
    got = popper(chan)
    assert not chan.push(None)
    settle()
    assert got == []
    chan.close()
    settle()
    assert got == [(None, "channel closed")]


def test_the_first_reason_stays() -> None:
    chan = channel.new()
    chan.close("first")
    chan.close("second")
    chan.close()
    assert chan.reason == "first"
    assert chan.pop() == (None, "first")


def test_a_reason_may_be_any_value() -> None:
    reason = {"code": 1}
    chan = channel.new()
    got = popper(chan)
    chan.close(reason)
    settle()
    assert got == [(None, reason)]
    assert chan.push(1)[1] is reason


@pytest.mark.parametrize("reason", ["", 0, False])
def test_a_falsy_reason_closes_too(reason: Any) -> None:
    chan = channel.new()
    chan.close(reason)
    assert chan.pop() == (None, reason)
    assert not chan.push(1)


def test_a_second_popper_gets_an_error_and_the_first_its_item() -> None:
    chan = channel.new()
    got = popper(chan)
    assert chan.pop() == (None, "Channel is mpsc")
    chan.push("for the first")
    settle()
    assert got == [("for the first", None)]
    assert popper(chan) == []
    chan.close()
    settle()


def test_an_item_goes_straight_to_the_task_that_waits() -> None:
    chan = channel.new()
    got = popper(chan)
    chan.push("direct")
    assert len(chan) == 0
    # Who pops before the woken task has run doesn't get its item.
    chan.push("queued")
    assert chan.pop() == ("queued", None)
    settle()
    assert got == [("direct", None)]


def test_close_right_after_a_direct_hand_over() -> None:
    chan = channel.new()
    got = popper(chan)
    chan.push("direct")
    chan.close()
    settle()
    assert got == [("direct", None)]
    assert chan.pop() == (None, "channel closed")


def test_one_task_can_push_and_pop_by_turns_with_another() -> None:
    ping, pong = channel.new(), channel.new()

    def echo() -> None:
        while True:
            item, _ = ping.pop()
            if item is None:
                pong.close("echo ended")
                break
            pong.push(item)

    task.fork(echo)
    got = []
    for i in range(100):
        ping.push(i)
        got.append(pong.pop()[0])
    ping.close()
    assert pong.pop() == (None, "echo ended")
    assert got == list(range(100))


def test_send_and_recv_are_the_older_names() -> None:
    chan = channel.new()
    assert chan.send("item") == (True, None)
    assert chan.recv() == ("item", None)
    task.fork(chan.send, "later")
    assert chan.recv() == ("later", None)


def test_len_and_truth() -> None:
    chan = channel.new()
    assert (len(chan), bool(chan)) == (0, True)
    chan.push(1)
    assert (len(chan), bool(chan)) == (1, True)
    assert isinstance(chan, channel.Channel)


def test_a_task_that_is_ended_while_it_waits_leaves_the_channel_usable() -> None:
    chan = channel.new()
    ended: list[str] = []

    def body() -> None:
        try:
            chan.pop()
        except GreenletExit:
            ended.append("GreenletExit")
            raise

    me = task.fork(body)
    settle()
    scheduler.loop.post(scheduler.throw, me, GreenletExit())
    time.sleep(1)
    assert ended == ["GreenletExit"]
    assert task.status(me) is None
    chan.push("not lost")
    assert len(chan) == 1
    assert popper(chan) == [("not lost", None)]


def ended_after_it_was_woken(chan: channel.Channel, item: str) -> task.Task:
    """A task that ``item`` was handed to. It will end before it runs, as Ctrl-C ends a main program."""
    first = task.fork(chan.pop)
    settle()
    chan.push(item)
    scheduler._ready.remove(first)
    scheduler.loop.post(scheduler.throw, first, GreenletExit())
    return first


def test_a_task_that_is_ended_after_it_was_woken_leaves_its_item() -> None:
    chan = channel.new()
    first = ended_after_it_was_woken(chan, "first")
    chan.push("second")
    time.sleep(1)
    assert task.status(first) is None
    assert [chan.pop(), chan.pop()] == [("first", None), ("second", None)]
    ended_after_it_was_woken(chan, "last")
    chan.close()
    time.sleep(1)
    assert [chan.pop(), chan.pop()] == [("last", None), (None, "channel closed")]


def test_a_task_that_is_ended_after_it_was_woken_leaves_its_successor_waiting() -> None:
    chan = channel.new()
    first = ended_after_it_was_woken(chan, "first")
    got: list[Any] = []
    task.fork(lambda: got.extend(chan.pop() for _ in range(2)))
    time.sleep(0)
    time.sleep(0)
    assert task.status(first) is None
    assert len(got) <= 1
    chan.push("second")
    settle()
    try:
        assert got == [("first", None), ("second", None)]
    finally:
        chan.close()
        settle()


def test_a_task_that_is_ended_after_the_channel_was_closed() -> None:
    chan = channel.new()
    first = task.fork(chan.pop)
    settle()
    chan.close()
    scheduler._ready.remove(first)
    scheduler.loop.post(scheduler.throw, first, GreenletExit())
    time.sleep(1)
    assert task.status(first) is None
    assert len(chan) == 0


def test_a_channel_does_not_keep_what_was_popped() -> None:
    class Item:
        pass

    chan = channel.new()
    item = Item()
    gone = weakref.ref(item)
    got = popper(chan)
    chan.push(item)
    settle()
    del item
    got.clear()
    gc.collect()
    assert gone() is None
