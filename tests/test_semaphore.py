"""``silly.sync.semaphore``."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import task, time
from silly._core import scheduler
from silly.sync import semaphore

from .leaks import leaks_nothing
from .test_task import settle, started

pytestmark = pytest.mark.usefixtures("virtual")


def test_permits() -> None:
    few = semaphore.new(2)
    assert few.acquire() == (True, None)
    assert few.acquire(0)
    waiting = started(few.acquire)
    assert (task.status(waiting), task.inspect()[waiting]["waits"]) == ("WAIT", "semaphore.acquire")
    few.release()
    assert few.acquire(0) == (False, "semaphore.acquire: the time-out of 0 ms ran out"), "the permit was handed over"
    assert waiting.join() == ((True, None), None)
    few.release()
    few.release()
    with pytest.raises(RuntimeError, match=r"semaphore\.release: every permit is free"):
        few.release()
    assert few.acquire(0)


def test_first_come_first_served() -> None:
    few = semaphore.new(1)
    order: list[int] = []

    def body(number: int) -> None:
        with few:
            order.append(number)
            time.sleep(0)

    few.acquire()
    tasks = [task.fork(body, number) for number in range(10)]
    settle()
    few.release()
    for each in tasks:
        assert each.join() == (None, None)
    assert order == list(range(10))


def test_never_more_than_there_are() -> None:
    few, inside, most = semaphore.new(3), 0, 0

    def body() -> None:
        nonlocal inside, most
        with few:
            inside += 1
            most = max(most, inside)
            time.sleep(0)
            inside -= 1

    for each in [task.fork(body) for _ in range(100)]:
        each.join()
    assert (most, inside) == (3, 0)


def test_times() -> None:
    few = semaphore.new(1)
    with few:
        assert few.acquire(3) == (False, "semaphore.acquire: the time-out of 3 ms ran out")
        with time.deadline(2):
            assert few.acquire(10_000) == (False, "semaphore.acquire: the deadline of 2 ms ran out")
            with pytest.raises(TimeoutError, match=r"semaphore\.acquire: the deadline of 2 ms ran out"), few:
                raise AssertionError("the body ran without a permit")
    with time.deadline(0):
        time.sleep(0)
        assert few.acquire(), "what is free needs no time"


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("blocks", [False, True])
def test_a_cancelled_waiter(at: int, blocks: bool) -> None:
    few = semaphore.new(1)
    got: list[int] = []

    def body(number: int) -> None:
        if blocks:
            with few:
                got.append(number)
        elif few.acquire():
            got.append(number)
            few.release()

    few.acquire()
    waiting = [started(body, number) for number in range(3)]
    waiting[at].cancel()
    assert waiting[at].join() == (None, "cancelled")
    few.release()
    settle()
    assert got == [number for number in range(3) if number != at]
    assert few.acquire(0)


def test_a_cancel_in_the_block_frees_the_permit() -> None:
    few = semaphore.new(1)

    def body() -> None:
        with few:
            time.sleep(10_000)

    holding = started(body)
    holding.cancel()
    assert few.acquire(10_000)
    assert holding.join() == (None, "cancelled")


def test_a_task_that_is_ended_after_it_was_woken_hands_its_permit_on() -> None:
    few = semaphore.new(1)
    few.acquire()
    first, second = started(few.acquire), started(few.acquire)
    few.release()
    scheduler._ready.remove(first)
    scheduler.loop.post(scheduler.throw, first, GreenletExit())
    assert second.join(10_000) == ((True, None), None)
    few.release()
    with pytest.raises(RuntimeError):
        few.release()


def test_random_blows_lose_and_double_no_permit() -> None:
    rng = random.Random(15)
    few, inside = semaphore.new(3), 0

    def body() -> None:
        nonlocal inside
        for _ in range(20):
            if rng.random() < 0.05:
                rng.choice(tasks).cancel()
            if few.acquire(rng.choice([None, 0, 1])):
                inside += 1
                assert inside <= 3
                try:
                    time.sleep(0)
                finally:
                    inside -= 1
                    few.release()

    tasks = [task.fork(body) for _ in range(60)]
    for each in tasks:
        each.join()
    assert sum(each._cancelled for each in tasks) > 10
    assert [few.acquire(0)[0] for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("n", [0, -1, 1.0, True, None, "2"])
def test_a_wrong_number(n: Any) -> None:
    with pytest.raises(ValueError, match=r"semaphore\.new: n is an int from 1"):
        semaphore.new(n)


def test_wrong_uses() -> None:
    few = semaphore.new(1)
    with pytest.raises(ValueError, match=r"semaphore\.acquire: the time-out"):
        few.acquire(-1)
    with task.no_switch():
        with pytest.raises(RuntimeError, match="no_switch"):
            few.acquire()
        with pytest.raises(RuntimeError, match="no_switch"), few:
            pass
    failed: list[str] = []

    def work() -> None:
        for call in (few.acquire, few.release, few.__enter__):
            try:
                call()
            except RuntimeError as exc:
                failed.append(str(exc))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [text.partition(",")[0] for text in failed] == [
        "semaphore.acquire: called from another thread",
        "semaphore.release: called from another thread",
        "semaphore.acquire: called from another thread",
    ]
    assert few.acquire(0)


def test_memory_is_flat() -> None:
    few = semaphore.new(1)

    def run() -> None:
        with few:
            waiting = task.fork(few.acquire)
            time.sleep(0)
        waiting.join()
        few.release()

    leaks_nothing(run)
