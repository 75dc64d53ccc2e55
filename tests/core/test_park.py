"""``park`` and ``wake`` in C and in Python: the same, also where a task may not block, and where the switch fails."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import greenlet

from silly import task, time
from silly._core import _accelerated, _fields, scheduler
from silly._core.scheduler import READY, RUN, SLEEP, WAIT

from ..net.support import until


def _pure() -> Any:
    return SimpleNamespace(park=scheduler.plain_park, pause=scheduler.plain_pause, wake=scheduler.plain_wake)


def _accelerated_ones() -> Any:
    if _accelerated.switching is None:
        pytest.skip("silly._core._speedups isn't in use")
    return SimpleNamespace(**dict(zip(("begin", "park", "pause", "wake"), _accelerated.switching, strict=True)))


@pytest.fixture(params=[_pure, _accelerated_ones], ids=["pure", "accelerated"])
def code(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_the_implementation_that_was_chosen() -> None:
    pure = os.environ.get("SILLY_PURE") == "1"
    in_c = _accelerated.switching is not None
    assert not (pure and in_c)
    assert issubclass(scheduler.Task, _accelerated.TaskFields)
    assert (scheduler.park is scheduler.plain_park) is not in_c
    assert (_accelerated.TaskFields is _fields.TaskFields) is not in_c


def programs(code: Any, seed: int) -> list[Any]:
    """What tasks that park, wake each other and yield, by chance, have seen."""
    rng = random.Random(seed)
    log: list[Any] = []
    parked: list[task.Task] = []

    def body(i: int) -> None:
        me = task.running()
        for step in range(20):
            if rng.random() < 0.4 and parked:
                other = parked.pop(rng.randrange(len(parked)))
                log.append((i, step, "wakes", task.status(other)))
                code.wake(other, step) if rng.random() < 0.8 else code.wake(other)
                assert task.status(other) == READY
            elif rng.random() < 0.6:
                parked.append(me)
                status = rng.choice([WAIT, SLEEP])
                value = code.park(f"step {step}", status)
                log.append((i, step, value, task.status(me), me._value))
            else:
                code.pause()
                log.append((i, step, "goes on", task.status(me)))

    tasks = [task.fork(lambda i=i: body(i)) for i in range(8)]

    def end() -> None:
        while any(task.status(each) is not None for each in tasks):
            while parked:
                code.wake(parked.pop(0), "the end")
            time.sleep(0)

    ended = task.fork(end)
    until(lambda: task.status(ended) is None)
    return log


@pytest.mark.parametrize("seed", range(10))
def test_both_do_the_same(seed: int) -> None:
    expected = programs(_pure(), seed)
    assert any(entry[2] == "the end" or isinstance(entry[2], int) for entry in expected)
    assert programs(_accelerated_ones(), seed) == expected


def test_what_a_report_sees(code: Any) -> None:
    """Of a task that switched to the next, and of one that switched to the loop."""
    tasks = [task.fork(lambda: (code.park("first"), code.park("second", SLEEP))) for _ in range(2)]
    until(lambda: all(task.status(each) == WAIT for each in tasks))
    assert [each.waiting() for each in tasks] == ["first"] * 2
    for each in tasks:
        code.wake(each)
        assert each.waiting() == "its turn to run"
    until(lambda: all(task.status(each) == SLEEP for each in tasks))
    assert [each.waiting() for each in tasks] == ["second"] * 2
    for each in tasks:
        code.wake(each)
    until(lambda: all(task.status(each) is None for each in tasks))


def error_in(run: Any, code: Any) -> str:
    found: list[str] = []

    def try_it() -> None:
        try:
            code.park("a wait")
        except RuntimeError as exc:
            found.append(str(exc))

    run(try_it)
    until(lambda: bool(found))
    return found[0]


def in_thread(func: Any) -> None:
    thread = threading.Thread(target=func, name="another")
    thread.start()
    thread.join()


@pytest.mark.parametrize("run", [in_thread, scheduler.loop.post, lambda func: greenlet(func).switch()])
def test_where_no_task_runs_it_raises(code: Any, run: Any) -> None:
    assert "cannot block" in error_in(run, code) or "another thread" in error_in(run, code)
    assert error_in(run, code) == error_in(run, _pure())


def test_after_a_deadline_it_raises(code: Any) -> None:
    found: list[object] = []

    def body() -> None:
        with time.deadline(1):
            for _ in range(2):
                try:
                    code.park("a wait")
                except scheduler.DeadlineOver as exc:
                    found.append(str(exc))

    task.fork(body)
    until(lambda: len(found) == 2)
    assert found == ["a wait: the deadline of 1 ms ran out"] * 2


def test_after_a_deadline_it_pauses(code: Any) -> None:
    seen: list[object] = []

    def body() -> None:
        with time.deadline(1) as limit:
            while not limit.expired:
                code.pause()
            code.pause()
            seen.append(limit.expired)

    task.fork(body)
    until(lambda: bool(seen))
    assert seen == [True]


@pytest.mark.parametrize("run", [in_thread, scheduler.loop.post, lambda func: greenlet(func).switch()])
def test_where_no_task_runs_there_is_no_pause(code: Any, run: Any) -> None:
    found: list[str] = []

    def try_it() -> None:
        try:
            code.pause()
        except RuntimeError as exc:
            found.append(str(exc))

    run(try_it)
    until(lambda: bool(found))
    assert "no task runs" in found[0] or "another thread" in found[0]
    assert not scheduler.loop.deferred


def test_the_others_go_first(code: Any) -> None:
    """Those that are ready, without the loop in between; then what was deferred before."""
    ran: list[str] = []

    def body(name: str) -> None:
        for _ in range(2):
            ran.append(name)
            code.pause()

    tasks = [task.fork(body, name) for name in "abc"]
    until(lambda: all(task.status(each) is None for each in tasks))
    assert ran == [*"abcabc"]


class NotSwitched(BaseException):
    pass


class Stuck:
    """In place of a greenlet that can't be switched to."""

    def switch(self) -> None:
        raise NotSwitched


def test_a_task_that_can_not_be_switched_to_stays_the_first_in_the_queue(code: Any) -> None:
    seen: list[Any] = []

    def body() -> None:
        me = task.running()
        stuck = scheduler.Task(print, (), None, None, 0)
        stuck._greenlet = Stuck()  # type: ignore[assignment]
        stuck._value = "its value"
        ready = scheduler.loop.ready
        ready.appendleft(stuck)
        try:
            code.park("a wait")
        except NotSwitched:
            seen.extend([ready.popleft() is stuck, task.running() is me, me._status, stuck._status, stuck._value])

    task.fork(body)
    until(lambda: bool(seen))
    assert seen == [True, True, RUN, READY, "its value"]


def test_it_raises_what_is_thrown_where_the_task_waits(code: Any) -> None:
    seen: list[Any] = []

    def body() -> None:
        try:
            code.park("a wait")
        except NotSwitched:
            seen.append(task.running()._status)

    tasks = [task.fork(body) for _ in range(3)]
    until(lambda: all(task.status(each) == WAIT for each in tasks))
    for each in tasks:
        scheduler.loop.post(scheduler.throw, each, NotSwitched())
    until(lambda: len(seen) == 3)
    assert seen == [RUN] * 3


class Value:
    pass


def test_a_task_that_waits_keeps_nothing_of_the_next(code: Any) -> None:
    """It has switched to a task that was woken with a value, and waits on."""
    gone: list[bool] = []

    def first() -> None:
        code.park("a wait")
        value = Value()
        kept = weakref.ref(value)
        code.wake(tasks[1], value)
        del value
        gone.append(False)
        code.park(kept)

    def second() -> None:
        value = code.park("a wait")
        assert isinstance(value, Value)
        del value
        assert task.status(tasks[0]) == WAIT
        gone.append(tasks[0]._what() is None)

    tasks = [task.fork(first), task.fork(second)]
    until(lambda: all(task.status(each) == WAIT for each in tasks))
    code.wake(tasks[0])
    until(lambda: len(gone) == 2)
    code.wake(tasks[0])
    until(lambda: task.status(tasks[0]) is None)
    assert gone == [False, True]


@pytest.mark.parametrize("then", ["pause", "sleep", "park"])
def test_what_it_waited_on_is_gone_before_it_waits_again(code: Any, then: str) -> None:
    """Its finalizer waits, too: while the task is in a queue that would end the finalizer's wait, and the task would be
    lost."""
    ran: list[str] = []

    class What:
        def __del__(self) -> None:
            ran.append("finalizer")
            me = scheduler.current()
            scheduler.loop.post(code.wake, me)
            code.park("the finalizer")
            ran.append("finalized")

    def body() -> None:
        me = scheduler.current()
        ran.append(code.park(What()))
        match then:
            case "pause":
                code.pause()
            case "sleep":
                time.sleep(1)
            case _:
                scheduler.loop.post(code.wake, me, "again")
                ran.append(code.park("a wait"))
        ran.append("done")

    each = task.fork(body)
    until(lambda: task.status(each) == WAIT)
    code.wake(each, "woken")
    until(lambda: task.status(each) is None)
    assert ran == ["finalizer", "finalized", "woken", *(["again"] if then == "park" else []), "done"]


def test_a_pause_returns_nothing(code: Any) -> None:
    """Though a value is left of a wait that was interrupted."""
    got: list[Any] = []

    def body() -> None:
        task.running()._value = "left"
        got.append(code.pause())
        got.append(task.running()._value)

    task.fork(body)
    until(lambda: len(got) == 2)
    assert got == [None, None]


def test_nothing_leaks(code: Any) -> None:
    value, what = object(), object()

    def body() -> None:
        for _ in range(100):
            mine.append(task.running())
            assert code.park(what) is value

    mine: list[task.Task] = []

    def run() -> None:
        tasks = [task.fork(body) for _ in range(3)]

        def over() -> bool:
            while mine:
                code.wake(mine.pop(), value)
            return all(task.status(each) is None for each in tasks)

        until(over)

    run()
    gc.collect()
    before = sys.getrefcount(value), sys.getrefcount(what)
    for _ in range(3):
        run()
    gc.collect()
    assert (sys.getrefcount(value), sys.getrefcount(what)) == before


@pytest.mark.parametrize("fields", [_fields.TaskFields, _accelerated.TaskFields])
def test_a_cycle_of_a_task_is_collected(fields: Any) -> None:
    class Kind(fields):  # type: ignore[misc]
        __slots__ = ("__weakref__",)

    each = Kind()
    each._what = each._value = each
    gone = weakref.ref(each)
    del each
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("args", [(), (1, WAIT, 3)])
def test_park_in_c_refuses_wrong_arguments(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="park takes"):
        _accelerated_ones().park(*args)


@pytest.mark.parametrize("args", [(), ("no task",), (None, 1), (task.running(), 1, 2)])
def test_wake_in_c_refuses_wrong_arguments(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="wake takes"):
        _accelerated_ones().wake(*args)


@pytest.mark.parametrize("args", [(), (1, 2, 3, 4, 5, 6), (scheduler.loop, 2, 3, 4, 5, 6), (scheduler.loop, scheduler.main)])
def test_begin_refuses_wrong_arguments(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        _accelerated_ones().begin(*args)
