"""``silly.sync.channel``: upstream's testchannel.lua, and what the port adds."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import task, time
from silly._core import scheduler
from silly.sync import channel


def settle() -> None:
    while task.readycount():
        time.sleep(0)


def popper(chan: channel.Channel) -> list[Any]:
    """A list that gets what a task pops."""
    got: list[Any] = []
    task.fork(lambda: got.append(chan.pop()))
    settle()
    return got


# ---- upstream's cases -------------------------------------------------------------------------------------------


def test_case_1_push_and_pop() -> None:
    chan = channel.new()
    ok, err = chan.push("test message")
    assert (ok, err) == (True, None)
    assert chan.pop() == ("test message", None)
    for i in (1, 2, 3):
        assert chan.push(i)
    assert [chan.pop() for _ in range(3)] == [(1, None), (2, None), (3, None)]


def test_case_2_the_queue_keeps_its_order() -> None:
    chan = channel.new()
    for i in range(100):
        chan.push(i)
    assert [chan.pop()[0] for _ in range(50)] == list(range(50))
    assert len(chan) == 50
    assert [chan.pop()[0] for _ in range(50)] == list(range(50, 100))


def test_case_3_a_push_wakes_the_task_that_waits() -> None:
    chan = channel.new()
    got = popper(chan)
    assert got == []
    chan.push("wake up")
    assert got == [], "push never blocks"
    settle()
    assert got == [("wake up", None)]


def test_case_3_items_pushed_before_the_poppers_run() -> None:
    chan = channel.new()
    got: list[Any] = []
    for _ in range(2):
        task.fork(lambda: got.append(chan.pop()))
    chan.push("for co1")
    chan.push("for co2")
    settle()
    assert got == [("for co1", None), ("for co2", None)]


def test_case_4_a_closed_channel_is_drained_and_then_gives_the_reason() -> None:
    chan = channel.new()
    assert chan.reason is None
    chan.push("message")
    chan.close("abcdefg")
    assert chan.reason == "abcdefg"
    ok, err = chan.push("another message")
    assert (ok, err) == (False, "abcdefg")
    assert not chan.push("another message")
    assert chan.pop() == ("message", None)
    assert chan.pop() == (None, "abcdefg")
    assert chan.pop() == (None, "abcdefg")


def test_case_4_close_wakes_the_task_that_waits() -> None:
    chan = channel.new()
    task.fork(chan.close)
    assert chan.pop() == (None, "channel closed")


@pytest.mark.parametrize("item", [123, "string", True, [1, 2, 3], lambda: "func", {"a": 1}, ValueError("x")])
def test_case_5_any_item(item: Any) -> None:
    chan = channel.new()
    chan.push(item)
    popped, err = chan.pop()
    assert popped is item
    assert err is None


def test_case_6_a_thousand_items() -> None:
    chan = channel.new()
    for i in range(1000):
        chan.push(i)
    assert [chan.pop()[0] for _ in range(1000)] == list(range(1000))
    got = popper(chan)
    chan.push("after empty")
    settle()
    assert got == [("after empty", None)]


def test_case_7_ten_producers_and_a_consumer() -> None:
    chan = channel.new()
    got: list[Any] = []

    def consume() -> None:
        for _ in range(10):
            got.append(chan.pop())

    consumer = task.fork(consume)
    producers = [task.fork(chan.push, f"value{i}") for i in range(10)]
    settle()
    assert got == [(f"value{i}", None) for i in range(10)]
    assert {task.status(t) for t in [consumer, *producers]} == {None}


def test_case_8_close_after_pushes() -> None:
    chan = channel.new()

    def body() -> None:
        chan.push("test1")
        chan.push("test2")
        chan.close()

    task.fork(body)
    assert [chan.pop() for _ in range(3)] == [("test1", None), ("test2", None), (None, "channel closed")]


def test_case_8_clear_drops_what_is_queued_but_not_what_was_handed_over() -> None:
    chan = channel.new()

    def body() -> None:
        chan.push("test1")
        chan.push("test2")
        assert len(chan) == 1
        chan.clear()
        assert len(chan) == 0
        chan.close()

    task.fork(body)
    assert [chan.pop() for _ in range(2)] == [("test1", None), (None, "channel closed")]


def test_case_8_clear_leaves_the_channel_open() -> None:
    chan = channel.new()
    chan.push(1)
    chan.clear()
    assert chan.reason is None
    assert chan.push(2)
    assert chan.pop() == (2, None)


# ---- the port's own ---------------------------------------------------------------------------------------------


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
    scheduler.loop.post(scheduler._throw, me, GreenletExit())
    time.sleep(1)
    assert ended == ["GreenletExit"]
    assert task.status(me) is None
    chan.push("not lost")
    assert len(chan) == 1
    assert popper(chan) == [("not lost", None)]


def test_a_task_that_is_ended_after_it_was_woken_leaves_its_successor_waiting() -> None:
    """As Ctrl-C ends a main program that an item has just been handed to."""
    chan = channel.new()
    first = task.fork(chan.pop)
    settle()
    chan.push("for the first")
    scheduler._ready.remove(first)  # else it would run before its successor waits
    got = popper(chan)
    scheduler.loop.post(scheduler._throw, first, GreenletExit())
    time.sleep(1)
    assert task.status(first) is None
    chan.push("for the second")
    settle()
    try:
        assert [item for item, _ in got][-1:] == ["for the second"]
    finally:
        chan.close()
        settle()


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
