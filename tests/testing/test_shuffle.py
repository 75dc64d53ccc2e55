"""``testing.shuffled``: the ready tasks in a random order that a seed repeats."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

import silly
from silly import task, testing, time
from silly._core import scheduler
from silly.sync import channel


def order_of(seed: int | None, count: int = 6, yields: int = 3) -> list[int]:
    """The order in which tasks run that yield ``yields`` times."""
    order: list[int] = []

    def run(number: int) -> None:
        for _ in range(yields):
            order.append(number)
            time.sleep(0)

    with testing.shuffled(seed):
        for t in [task.fork(run, number) for number in range(count)]:
            t.join()
    return order


def test_the_same_seed_gives_the_same_order() -> None:
    orders = {seed: order_of(seed) for seed in range(20)}
    assert {seed: order_of(seed) for seed in range(20)} == orders
    assert len({*map(tuple, orders.values())}) == 20
    assert all(sorted(order) == sorted([*range(6)] * 3) for order in orders.values())


def test_without_it_tasks_run_in_the_order_in_which_they_became_ready() -> None:
    order_of(1)
    order: list[int] = []
    for t in [task.fork(order.append, number) for number in range(100)]:
        t.join()
    assert order == [*range(100)]
    assert scheduler.SLICE == 256


def test_without_a_seed_it_takes_one_and_tells_it() -> None:
    seeds = {testing.shuffled().seed for _ in range(10)}
    assert len(seeds) > 1


def test_tasks_that_switch_straight_to_each_other_are_shuffled_too() -> None:
    """Tasks that have started, and are woken together: without a block each would switch to the next one itself."""

    def order_of_the_woken(seed: int) -> tuple[int, ...]:
        chans = [channel.new() for _ in range(3)]
        order: list[int] = []

        def run(at: int) -> None:
            chans[at].pop()
            order.append(at)
            chans[at].pop()

        tasks = [task.fork(run, at) for at in range(3)]
        time.sleep(0)
        with testing.shuffled(seed):
            task.fork(lambda: [chan.push(1) for chan in chans]).join()
            while len(order) < 3:
                time.sleep(0)
        for chan in chans:
            chan.push(2)
        for each in tasks:
            each.join()
        return tuple(order)

    assert {order_of_the_woken(seed) for seed in range(100)} == {*itertools.permutations(range(3))}


def test_it_finds_a_lost_update() -> None:
    def lost(seed: int) -> bool:
        count = 0

        def add(first: Any) -> None:
            nonlocal count
            if first is not None:
                first.join()
            value = count
            time.sleep(0)
            count = value + 1

        with testing.shuffled(seed):
            one = task.fork(add, None)
            # The program only works if this one is behind by luck.
            two = task.fork(lambda: (time.sleep(0), add(None)))
            one.join()
            two.join()
        return count != 2

    assert {lost(seed) for seed in range(50)} == {True, False}


def test_no_task_starves() -> None:
    with testing.shuffled(7):
        done: list[int] = []

        def spin(number: int) -> None:
            for _ in range(50):
                time.sleep(0)
            done.append(number)

        for t in [task.fork(spin, number) for number in range(300)]:
            t.join()
    assert sorted(done) == [*range(300)]


def test_with_a_clock_and_a_pair_a_whole_program_is_repeated() -> None:
    def run(seed: int) -> list[Any]:
        seen: list[Any] = []

        def answer(conn: Any, name: str) -> None:
            while (line := conn.read("\n", 1000)[0]) is not None:
                time.sleep(len(line) % 3)
                seen.append((clock.elapsed, name, line))
                conn.write(line)

        with testing.clock() as clock, testing.shuffled(seed):
            pairs = [testing.pair() for _ in range(4)]
            jobs = []
            for number, (client, server) in enumerate(pairs):
                jobs.append(task.fork(answer, server, f"server {number}"))
                jobs.append(task.fork(answer, client, f"client {number}"))
                client.write("a" * number + "\n")
            time.sleep(50)
            for each in itertools.chain(*pairs):
                each.close()
            for job in jobs:
                job.join()
        return seen

    first = {seed: run(seed) for seed in (1, 2, 3)}
    assert all(run(seed) == seen for seed, seen in first.items())
    assert first[1] != first[2]


def test_an_exception_gets_a_note_with_the_seed() -> None:
    with pytest.raises(ZeroDivisionError) as caught, testing.shuffled(42):
        1 // 0
    assert caught.value.__notes__ == ["the tasks were shuffled: testing.shuffled(42)"]


def test_a_block_within_another() -> None:
    with testing.shuffled(1), pytest.raises(RuntimeError, match="the tasks are shuffled already"), testing.shuffled(2):
        pass
    assert order_of(3) == order_of(3)


@pytest.mark.parametrize("seed", [-1, 1.5, "7", True])
def test_a_seed_is_an_int(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"testing\.shuffled: the seed is an int from 0"):
        testing.shuffled(seed)


def test_in_another_thread() -> None:
    failed: list[str] = []
    thread = threading.Thread(target=lambda: failed.append(silly.pcall(testing.shuffled(1).__enter__)[1]))
    thread.start()
    thread.join()
    assert "another thread" in failed[0]
