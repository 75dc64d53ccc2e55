"""``silly.sync.event``."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import task, time
from silly._core import scheduler
from silly.sync import event

from .leaks import leaks_nothing
from .test_task import settle, started

pytestmark = pytest.mark.usefixtures("virtual")


def test_set_wakes_all_who_wait() -> None:
    ready = event.new()
    order: list[int] = []
    tasks = [task.fork(lambda number=number: (order.append(number), ready.wait())[1]) for number in range(5)]
    tasks += [task.fork(lambda: ready.wait(10_000))]
    settle()
    assert (ready.is_set(), task.inspect()[tasks[0]]["waits"]) == (False, "event.wait")
    ready.set()
    assert ready.is_set()
    assert not any(t.done for t in tasks), "set never waits"
    assert [t.join() for t in tasks] == [((True, None), None)] * 6
    assert order == list(range(5))
    assert ready.wait() == (True, None)
    assert ready.wait(0)
    ready.set()
    assert ready.wait()


def test_clear() -> None:
    ready = event.new()
    waiting = started(ready.wait)
    ready.set()
    ready.clear()
    assert not ready.is_set()
    assert ready.wait(0) == (False, "event.wait: the time-out of 0 ms ran out")
    assert waiting.join() == ((True, None), None), "it was woken before"
    ready.clear()
    again = started(ready.wait)
    assert not again.done
    ready.set()
    assert again.join() == ((True, None), None)


def test_times() -> None:
    ready = event.new()
    assert ready.wait(3) == (False, "event.wait: the time-out of 3 ms ran out")
    with time.deadline(2):
        assert ready.wait(10_000) == (False, "event.wait: the deadline of 2 ms ran out")
        ready.set()
        assert ready.wait()


def test_a_cancelled_waiter() -> None:
    ready = event.new()
    waiting = [started(ready.wait) for _ in range(3)]
    waiting[1].cancel()
    assert waiting[1].join() == (None, "cancelled")
    ready.set()
    assert [t.join() for t in waiting] == [((True, None), None), (None, "cancelled"), ((True, None), None)]


def test_a_waiter_that_is_ended_after_it_was_woken() -> None:
    ready = event.new()
    first, second = started(ready.wait), started(ready.wait)
    ready.set()
    scheduler._ready.remove(first)
    scheduler.loop.post(scheduler.throw, first, GreenletExit())
    assert second.join() == ((True, None), None)
    assert first.join(10_000) == (None, "cancelled")
    assert ready.is_set()


def in_thread(func: Any) -> Any:
    """What ``func`` raises in a thread, or None."""
    raised: list[Any] = [None]

    def work() -> None:
        try:
            func()
        except RuntimeError as exc:
            raised[0] = str(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return raised[0]


def test_threads() -> None:
    ready = event.new()
    waiting = started(ready.wait)
    assert in_thread(ready.set) is None
    assert waiting.join(10_000) == ((True, None), None)
    assert ready.is_set()
    assert in_thread(ready.wait).startswith("event.wait: called from another thread")
    assert in_thread(ready.clear).startswith("event.clear: called from another thread")


def test_wrong_uses() -> None:
    ready = event.new()
    with pytest.raises(TypeError, match=r"event\.wait: the time-out"):
        ready.wait("1")  # type: ignore[arg-type]
    with task.no_switch():
        ready.set()
        with pytest.raises(RuntimeError, match="no_switch"):
            ready.wait()


def test_what_select_asks() -> None:
    ready = event.new()
    assert not ready._ready()
    woken: list[str] = []

    def watching(name: str) -> None:
        ready._watch(task.running())
        scheduler.park("a test")
        woken.append(name)

    tasks = [started(watching, name) for name in "ab"]
    ready._unwatch(tasks[1])
    ready.set()
    ready.set()
    settle()
    assert (woken, ready._ready()) == (["a"], True)
    ready.clear()
    ready._watch(tasks[1])
    assert not ready._ready()
    ready.set()
    settle()
    assert woken == ["a", "b"]
    assert started(lambda: (ready._watch(task.running()), scheduler.park("a test"))).done, "it is set already"


def test_memory_is_flat() -> None:
    ready = event.new()

    def run() -> None:
        waiting = task.fork(ready.wait)
        time.sleep(0)
        ready.set()
        waiting.join()
        ready.clear()

    leaks_nothing(run)
