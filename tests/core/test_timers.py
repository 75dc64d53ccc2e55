"""The timers' heap, on a clock that the tests make up."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from silly._core.timers import FOREVER, Timers


def fired(timers: Timers, now: float) -> list[Any]:
    """The arguments of the timers that are due at ``now``, in the order in which they fire."""
    args = []
    while (due := timers.pop(now)) is not None:
        callback, arg = due
        callback(arg)
        args.append(arg)
    return args


def nothing(_: Any) -> None:
    pass


def test_an_empty_heap_has_nothing_due() -> None:
    timers = Timers()
    assert timers.next() == FOREVER
    assert timers.pop(1e9) is None
    assert len(timers) == 0
    assert timers.users == {}


def test_timers_fire_in_the_order_of_their_times() -> None:
    timers = Timers()
    times = list(range(1000))
    random.Random(1).shuffle(times)
    for when in times:
        timers.add(when, nothing, when)
    assert timers.next() == 0
    assert fired(timers, 499) == list(range(500))
    assert timers.next() == 500
    assert fired(timers, 1000) == list(range(500, 1000))
    assert len(timers) == 0


def test_timers_due_together_fire_in_the_order_they_were_set() -> None:
    timers = Timers()
    for i in range(100):
        timers.add(5.0, nothing, i)
    timers.add(4.0, nothing, "before")
    assert fired(timers, 5.0) == ["before", *range(100)]


def test_ties_keep_their_order_when_some_are_cancelled_and_the_heap_is_rebuilt() -> None:
    timers = Timers()
    armed = [timers.add(5.0, nothing, i) for i in range(1000)]
    for i, timer in enumerate(armed):
        if i % 4:
            timers.cancel(timer)
    assert fired(timers, 5.0) == list(range(0, 1000, 4))


def test_arguments_need_not_be_comparable() -> None:
    timers = Timers()
    first, second = object(), object()
    timers.add(1, nothing, first)
    timers.add(1, nothing, second)
    assert fired(timers, 1) == [first, second]


@pytest.mark.parametrize(("now", "due"), [(0.999, []), (1.0, ["x"]), (1.001, ["x"])])
def test_a_timer_is_due_from_its_time_on(now: float, due: list[str]) -> None:
    timers = Timers()
    timers.add(1.0, nothing, "x")
    assert fired(timers, now) == due


def test_a_cancelled_timer_does_not_fire() -> None:
    timers = Timers()
    timers.add(1, nothing, "a")
    b = timers.add(2, nothing, "b")
    timers.add(3, nothing, "c")
    assert timers.cancel(b) is True
    assert len(timers) == 2
    assert fired(timers, 10) == ["a", "c"]


def test_next_passes_over_cancelled_timers() -> None:
    timers = Timers()
    first = timers.add(1, nothing)
    timers.add(2, nothing)
    timers.cancel(first)
    assert timers.next() == 2


def test_a_second_cancel_is_false_and_changes_nothing() -> None:
    timers = Timers()
    timer = timers.add(1, nothing)
    timers.add(2, nothing)
    assert timers.cancel(timer) is True
    assert timers.cancel(timer) is False
    assert (len(timers), len(timers.users)) == (1, 1)


def test_cancel_after_firing_is_false_and_changes_nothing() -> None:
    timers = Timers()
    timer = timers.add(1, nothing, "a")
    timers.add(2, nothing, "b")
    assert fired(timers, 1) == ["a"]
    assert timers.cancel(timer) is False
    assert (len(timers), len(timers.users)) == (1, 1)
    assert fired(timers, 2) == ["b"]


def test_a_timer_can_be_set_and_cancelled_while_others_fire() -> None:
    timers = Timers()
    order = []

    def first(_: Any) -> None:
        order.append("first")
        timers.cancel(second)
        timers.add(1, third)

    def third(_: Any) -> None:
        order.append("third")

    timers.add(1, first)
    second = timers.add(1, lambda _: order.append("second"))
    fired(timers, 1)
    assert order == ["first", "third"]


def test_200_000_timers_armed_and_cancelled_do_not_stay() -> None:
    timers = Timers()
    kept = timers.add(1e6, nothing, "kept")
    largest = 0
    for i in range(200_000):
        timers.cancel(timers.add(30.0 + i * 1e-4, nothing))
        largest = max(largest, len(timers.heap))
    assert largest < 200
    assert (len(timers), len(timers.users)) == (1, 1)
    assert fired(timers, 1e6) == ["kept"]
    assert timers.cancel(kept) is False


def test_a_cancelled_timer_leaves_the_heap_at_once_if_nothing_is_behind_it() -> None:
    timers = Timers()
    kept = [timers.add(5.0, nothing, i) for i in range(3)]
    late = [timers.add(75.0 + i, nothing, i) for i in range(3)]
    timers.cancel(late[1])
    assert len(timers.heap) == 6
    timers.cancel(late[2])
    assert len(timers.heap) == 4, "and those before it that were cancelled already"
    timers.cancel(late[0])
    for timer in kept:
        timers.cancel(timer)
    assert timers.heap == []


def test_200_000_timers_armed_at_once_and_then_cancelled_do_not_stay() -> None:
    timers = Timers()
    armed = [timers.add(30.0 + i * 1e-4, nothing, i) for i in range(200_000)]
    for timer in armed[1:]:
        timers.cancel(timer)
    assert len(timers) == 1
    assert len(timers.heap) < 200
    assert fired(timers, 1000) == [0]


def test_a_timer_lets_go_of_its_argument_when_it_is_over() -> None:
    timers = Timers()
    big = object()
    before = sys.getrefcount(big)
    cancelled = timers.add(1, nothing, big)
    done = timers.add(2, nothing, big)
    timers.cancel(cancelled)
    timers.pop(2)
    assert cancelled.callback is done.callback is None
    assert sys.getrefcount(big) == before


def test_users_counts_only_what_the_application_set() -> None:
    timers = Timers()
    a = timers.add(1, nothing)
    timers.add(2, nothing)
    internal = timers.add(3, nothing, internal=True)
    assert (len(timers.users), len(timers)) == (2, 3)
    timers.cancel(a)
    timers.cancel(internal)
    assert (len(timers.users), len(timers)) == (1, 1)
    fired(timers, 2)
    assert (len(timers.users), len(timers)) == (0, 0)


def test_clear_users_leaves_the_internal_ones() -> None:
    timers = Timers()
    for i in range(300):
        timers.add(i, nothing, i, internal=i % 10 == 0)
    timers.clear_users()
    assert (len(timers.users), len(timers)) == (0, 30)
    assert fired(timers, 1000) == list(range(0, 300, 10))


def test_any_mix_of_calls_agrees_with_a_plain_list() -> None:
    rng = random.Random(7)
    timers = Timers()
    model: dict[int, tuple[float, int, Any]] = {}
    armed: list[tuple[int, Any]] = []
    now = 0.0
    for i in range(20_000):
        what = rng.random()
        if what < 0.5:
            when = now + rng.randrange(50)
            timer = timers.add(when, nothing, i)
            armed.append((i, timer))
            model[i] = (when, i, timer)
        elif what < 0.9 and armed:
            key, timer = armed.pop(rng.randrange(len(armed)))
            assert timers.cancel(timer) is (key in model)
            model.pop(key, None)
        else:
            now += rng.randrange(5)
            due = sorted(entry[:2] for entry in model.values() if entry[0] <= now)
            assert fired(timers, now) == [key for _, key in due]
            for _, key in due:
                del model[key]
        assert len(timers) == len(timers.users) == len(model)
