"""``task.map``."""

from __future__ import annotations

import gc
import itertools
import random
import re
import signal
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import task, time
from silly._core import scheduler
from silly.sync import channel

from .conftest import Logs
from .leaks import leaks_nothing
from .test_group import LONG, run_python, until
from .test_task import in_thread, settle

pytestmark = pytest.mark.usefixtures("virtual")

ORDERS = pytest.mark.parametrize("ordered", [True, False])


def double(n: int) -> int:
    return 2 * n


class Work:
    """A function for a map that says what happens to it."""

    def __init__(self, *fails: int, wait: Any = None) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.struck: list[int] = []
        self.running = self.most = 0
        self._fails = fails
        self._wait = wait or (lambda n: time.sleep(0))

    def __call__(self, n: int) -> int:
        self.begun.append(n)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self._wait(n)
            if n in self._fails:
                raise ValueError(f"no {n}")
        except task.Cancelled:
            self.struck.append(n)
            raise
        finally:
            self.running -= 1
            self.ended.append(n)
        return 10 * n


def forever(n: int) -> None:
    time.sleep(LONG)


# ---- results ----------------------------------------------------------------------------------------------------


@ORDERS
@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_each_item_has_its_result_and_at_most_limit_run(limit: int, ordered: bool) -> None:
    work = Work(wait=lambda n: time.sleep(n % 3))
    values = list(task.map(work, range(20), limit, ordered))
    assert (values if ordered else sorted(values)) == [10 * n for n in range(20)]
    assert work.begun == list(range(20))
    assert work.most == min(limit, 20)


def test_the_order_of_the_items_and_that_in_which_they_end() -> None:
    work = Work(wait=lambda n: time.sleep(20 - 5 * n))
    assert list(task.map(work, range(4), 4)) == [0, 10, 20, 30]
    assert list(task.map(work, range(4), 4, ordered=False)) == [30, 20, 10, 0]


def test_results_may_be_none_or_pairs() -> None:
    assert list(task.map(lambda n: None, range(3), 2)) == [None] * 3
    assert list(task.map(lambda n: (None, "refused"), range(2), 2)) == [(None, "refused")] * 2


@ORDERS
def test_no_items(ordered: bool) -> None:
    results = task.map(double, [], 3, ordered)
    assert list(results) == []
    assert list(results) == []


@ORDERS
def test_items_may_be_endless_and_are_drawn_at_most_limit_ahead(ordered: bool) -> None:
    drawn = itertools.count()
    work = Work()
    results = task.map(work, drawn, 3, ordered)
    for taken in range(10):
        assert next(results) == 10 * taken
        settle()
        assert len(work.begun) == taken + 3
    results.close()
    assert next(drawn) == 12


def test_a_slow_first_item_holds_the_others_back_in_order() -> None:
    gate = channel.new()
    work = Work(wait=lambda n: gate.pop() if n == 0 else None)
    results = task.map(work, range(100), 4)
    time.after(20, gate.push, True)
    assert next(results) == 0
    assert len(work.begun) <= 4
    results.close()


def test_nothing_starts_before_the_first_result_is_asked_for() -> None:
    work = Work()
    results = task.map(work, range(3), 3)
    settle()
    assert work.begun == []
    assert next(results) == 0
    results.close()


def test_items_are_drawn_in_the_task_that_asks() -> None:
    drawers: list[Any] = []

    def items() -> Iterator[int]:
        for n in range(5):
            time.sleep(1)
            drawers.append(task.running())
            yield n

    assert list(task.map(double, items(), 2)) == [0, 2, 4, 6, 8]
    assert set(drawers) == {task.running()}


def test_the_tasks_say_where_the_map_was_made() -> None:
    line = test_the_tasks_say_where_the_map_was_made.__code__.co_firstlineno + 2
    results = task.map(lambda n: task.running().origin(), [1], 1)
    assert next(results) == f"{__file__}:{line}"


def test_wrong_arguments() -> None:
    for limit in (0, True, None, 1.5):
        with pytest.raises(ValueError, match=r"task.map: the limit is an int from 1 to"):
            task.map(double, [], limit)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"task.map needs a function, not int"):
        task.map(1, [], 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not iterable"):
        task.map(double, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        task.map(double, [])  # type: ignore[call-arg]


def test_a_thread_can_not_use_it() -> None:
    results = task.map(double, [1], 1)
    how, exc = in_thread(lambda: next(results))
    assert how == "raised"
    assert type(exc) is RuntimeError
    assert "another thread" in str(exc)


def test_no_switch_refuses() -> None:
    work = Work()
    results = task.map(work, [1], 1)
    with task.no_switch():
        with pytest.raises(RuntimeError, match=r"next\(results\): may wait, .* task.no_switch"):
            next(results)
        with pytest.raises(RuntimeError, match="may wait"), results:
            pass
    assert work.begun == []
    assert next(results) == 10


# ---- exceptions -------------------------------------------------------------------------------------------------


def test_an_exception_is_raised_at_its_place_and_the_rest_is_cancelled() -> None:
    work = Work(2, wait=lambda n: time.sleep(LONG if n > 2 else 5 if n < 2 else 0))
    results = task.map(work, itertools.count(), 5)
    got: list[int] = []
    with pytest.raises(ValueError, match="no 2"):
        for value in results:
            got.append(value)
    assert got == [0, 10]
    assert work.begun == [0, 1, 2, 3, 4]  # no item is drawn behind a failure
    assert work.struck == []  # it does not wait for them
    until(lambda: work.struck == [3, 4])
    assert list(results) == []


def test_without_order_it_is_raised_when_it_comes() -> None:
    work = Work(2, wait=lambda n: time.sleep(0 if n == 2 else LONG))
    with pytest.raises(ValueError, match="no 2"):
        next(task.map(work, range(5), 5, ordered=False))
    until(lambda: sorted(work.struck) == [0, 1, 3, 4])


def test_the_exception_has_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        next(task.map(lambda n: 1 // n, [0], 1))
    assert [entry.name for entry in caught.traceback][-1] == "<lambda>"


def test_exceptions_whose_results_nobody_takes_are_logged(logs: Logs) -> None:
    logs.expect(r"exception in a task of task.map at .*test_map.py:\d+, whose result was not taken:\n(.*\n)*.*ValueError: no 1")
    with pytest.raises(ValueError, match="no 0"):
        list(task.map(Work(0, 1), range(3), 3))


def test_what_a_cancelled_task_raises_is_logged(logs: Logs) -> None:
    logs.expect("exception in <task .*cleans_up RUN.*KeyError: 'clean-up'".replace(".*K", "(.*\n)*.*K"))

    def cleans_up(n: int) -> None:
        try:
            time.sleep(LONG)
        finally:
            raise KeyError("clean-up")

    results = task.map(cleans_up, [1], 1)
    t = task.fork(lambda: next(results))
    time.sleep(1)
    t.cancel()
    t.join()
    settle()


@ORDERS
def test_an_exception_of_the_items_comes_behind_the_results_before_it(ordered: bool) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("end of the tape")

    work = Work(wait=lambda n: time.sleep(1))
    got: list[int] = []
    with pytest.raises(OSError, match="end of the tape") as caught:
        for value in task.map(work, items(), 10, ordered):
            got.append(value)
    assert sorted(got) == [0, 10, 20]
    assert [entry.name for entry in caught.traceback][-1] == "items"


@pytest.mark.parametrize("end", [KeyboardInterrupt, GreenletExit, task.Cancelled])
def test_an_end_that_the_items_raise_comes_at_once(end: Any) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise end

    work = Work()
    with pytest.raises(end):
        next(task.map(work, items(), 5))
    settle()
    assert work.begun == []


def test_stop_iteration_does_not_end_the_loop() -> None:
    with pytest.raises(RuntimeError, match=r"task.map: the function has raised StopIteration"):
        list(task.map(lambda n: next(iter([])), range(3), 1))


def test_an_item_whose_task_was_cancelled_has_no_result() -> None:
    def body(n: int) -> int:
        if n == 1:
            task.running().cancel()
        time.sleep(1)
        return n

    results = task.map(body, range(5), 2)
    assert next(results) == 0
    with pytest.raises(RuntimeError, match="no result, because the task of the item was cancelled"):
        next(results)
    assert list(results) == []


# ---- leaving ----------------------------------------------------------------------------------------------------


@ORDERS
def test_break_cancels_without_waiting(ordered: bool) -> None:
    work = Work(wait=lambda n: time.sleep(n and LONG))
    for value in task.map(work, itertools.count(), 4, ordered):
        assert value == 0
        break
    assert work.ended == [0]
    until(lambda: work.struck == [1, 2, 3])


def test_an_exception_in_the_loop_cancels_without_waiting() -> None:
    work = Work(wait=lambda n: time.sleep(n and LONG))
    with pytest.raises(KeyError):
        for value in task.map(work, itertools.count(), 4):
            raise KeyError(value)
    until(lambda: work.struck == [1, 2, 3])


def test_a_generator_around_it_that_is_closed() -> None:
    work = Work(wait=lambda n: time.sleep(n and LONG))

    def values() -> Iterator[int]:
        yield from task.map(work, itertools.count(), 4)

    generator = values()
    assert next(generator) == 0
    generator.close()
    until(lambda: work.struck == [1, 2, 3])
    generator = values()
    next(generator)
    del generator
    until(lambda: work.struck == [1, 2, 3] * 2)


def test_results_that_a_thread_drops() -> None:
    work = Work(wait=lambda n: time.sleep(n and LONG))
    box = [task.map(work, itertools.count(), 4)]
    next(box[0])
    in_thread(box.clear)
    until(lambda: work.struck == [1, 2, 3])


def test_results_in_a_cycle_are_left_to_the_collector() -> None:
    work = Work(wait=lambda n: time.sleep(n and LONG))

    class Owner:
        pass

    owner: Any = Owner()
    owner.me, owner.results = owner, task.map(work, itertools.count(), 4)
    next(owner.results)
    del owner
    gc.collect()
    until(lambda: work.struck == [1, 2, 3])


def test_a_generator_of_items_is_closed_when_the_loop_is_left() -> None:
    closed: list[int] = []

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(1)

    results = task.map(double, items(), 3)
    next(results)
    results.close()
    assert closed == [1]
    for _ in task.map(double, items(), 3):
        break
    until(lambda: closed == [1, 1])


def test_close_in_a_thread() -> None:
    results = task.map(forever, range(3), 2)
    how, exc = in_thread(results.close)
    assert how == "raised"
    assert "another thread" in str(exc)


# ---- as a block -------------------------------------------------------------------------------------------------


def test_the_block_waits() -> None:
    def wait(n: int) -> None:
        try:
            time.sleep(n and LONG)
        finally:
            time.sleep(1)

    work = Work(wait=wait)
    with task.map(work, itertools.count(), 4) as results:
        assert next(results) == 0
    assert work.struck == [1, 2, 3]
    assert sorted(work.ended) == [0, 1, 2, 3]
    assert list(results) == []


def test_the_block_waits_after_an_exception() -> None:
    work = Work(1, wait=lambda n: time.sleep(LONG if n > 1 else 0))
    with pytest.raises(ValueError, match="no 1"), task.map(work, itertools.count(), 4) as results:
        try:
            list(results)
        finally:
            assert work.struck == []
    assert work.struck == [2, 3]


def test_the_block_waits_after_a_cancel_of_the_consumer() -> None:
    """The blow strikes in ``next``; the tasks get one blow, and may take their time."""

    def wait(n: int) -> None:
        try:
            forever(n)
        finally:
            time.sleep(1)
            time.sleep(1)

    def consumer() -> None:
        try:
            with task.map(work, itertools.count(), 3) as results:
                next(results)
        finally:
            ended.extend(work.ended)

    work = Work(wait=wait)
    ended: list[int] = []
    t = task.fork(consumer)
    time.sleep(1)
    t.cancel()
    assert t.join() == (None, "cancelled")
    assert sorted(ended) == [0, 1, 2]


def test_exceptions_in_the_block_pass() -> None:
    work = Work(wait=lambda n: time.sleep(n and LONG))
    with pytest.raises(KeyError), task.map(work, itertools.count(), 4) as results:
        raise KeyError(next(results))
    assert work.struck == [1, 2, 3]


def test_exceptions_that_come_while_the_block_waits_are_logged(logs: Logs) -> None:
    logs.expect("whose result was not taken:\n(.*\n)*.*KeyError: 'clean-up'")

    def body(n: int) -> None:
        try:
            time.sleep(n and LONG)
        finally:
            if n:
                raise KeyError("clean-up")

    with task.map(body, range(2), 2) as results:
        next(results)


def test_blows_and_deadlines_while_the_block_waits() -> None:
    blows: list[str] = []

    def stubborn(n: int) -> None:
        for name in ("first", "second", "third"):
            try:
                time.sleep(n and LONG)
            except task.Cancelled:
                blows.append(name)

    def owner() -> None:
        with time.deadline(5), task.map(stubborn, itertools.count(), 2) as results:
            next(results)

    t = task.fork(owner)
    until(lambda: blows)
    time.sleep(10)
    assert blows == ["first"]  # a deadline changes nothing here
    for count in (2, 3):
        t.cancel()
        until(lambda count=count: len(blows) == count)
    assert t.join() == (None, "cancelled")


# ---- deadlines, cancels, other tasks ----------------------------------------------------------------------------


@ORDERS
def test_a_deadline_ends_the_results(ordered: bool) -> None:
    work = Work(wait=lambda n: time.sleep(n and LONG))
    results = task.map(work, itertools.count(), 3, ordered)
    with pytest.raises(TimeoutError, match=r"task.map: the deadline of 5 ms ran out"), time.deadline(5):
        list(results)
    until(lambda: sorted(work.struck) == [1, 2, *([3] if 3 in work.begun else [])])
    assert list(results) == []


@ORDERS
def test_a_cancel_of_the_consumer_cancels_the_tasks(ordered: bool) -> None:
    work = Work(wait=forever)
    t = task.fork(lambda: list(task.map(work, itertools.count(), 3, ordered)))
    time.sleep(1)
    t.cancel()
    assert t.join() == (None, "cancelled")
    until(lambda: work.struck == [0, 1, 2])


def test_a_cancel_of_the_consumer_that_has_its_result_strikes_next() -> None:
    got: list[int] = []

    def consumer() -> None:
        for value in task.map(work, range(3), 1):
            got.append(value)

    work = Work(wait=lambda n: n == 1 and t.cancel())
    t = task.fork(consumer)
    assert t.join() == (None, "cancelled")
    assert got == [0, 10]


def test_tasks_may_take_results_in_turn_but_not_at_once() -> None:
    results = task.map(lambda n: time.sleep(5 * n) or n, range(4), 2)
    assert next(results) == 0
    t = task.fork(lambda: next(results))
    time.sleep(0)
    with pytest.raises(RuntimeError, match=r"task.map: another task waits for the next result"):
        next(results)
    assert t.join() == (1, None)
    assert list(results) == [2, 3]


def test_closing_wakes_a_task_that_waits_for_a_result() -> None:
    results = task.map(forever, range(3), 2)
    t = task.fork(lambda: list(results))
    time.sleep(1)
    results.close()
    assert t.join() == ([], None)


def test_a_map_in_a_map() -> None:
    def row(n: int) -> list[int]:
        return list(task.map(lambda m: n * m, range(3), 2))

    assert list(task.map(row, range(3), 2)) == [[0, 0, 0], [0, 1, 2], [0, 2, 4]]


def test_ctrl_c_in_the_main_program() -> None:
    work = Work(wait=forever)
    time.after(1, signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), task.map(work, range(3), 3) as results:
        list(results)
    until(lambda: work.struck == [0, 1, 2])


def test_the_end_of_the_process() -> None:
    done = run_python(
        """
import silly
from silly import task, time

def work(n):
    try:
        time.sleep(60_000)
    finally:
        time.sleep(1)
        print("cleaned up", flush=True)

def loop():
    for value in task.map(work, range(1000), 3):
        print("never")

def block():
    with task.map(work, range(1000), 3) as results:
        next(results)

task.fork(loop)
time.after(20, silly.exit, 3)
silly.run(block)
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("cleaned up\n" * 6, "", 3)


# ---- references -------------------------------------------------------------------------------------------------


class Thing:
    """Something that a task holds."""


def test_a_failed_task_is_released_with_its_exception_and_not_by_the_collector() -> None:
    things: list[weakref.ref[Thing]] = []

    def fails(n: int) -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        raise ValueError

    def items() -> Iterator[int]:
        yield 1
        thing = Thing()
        things.append(weakref.ref(thing))
        raise ValueError

    def consumer(func: Any) -> None:
        for _ in task.map(func, items(), 1):
            pass

    gc.collect()
    gc.disable()
    try:
        for func in (fails, double):
            with pytest.raises(ValueError):
                consumer(func)
            t = task.fork(consumer, func)
            with pytest.raises(ValueError):
                t.join()
            del t
            for _ in range(2):
                time.sleep(0)
        assert len(things) == 4
        assert [thing() for thing in things] == [None] * 4
    finally:
        gc.enable()


def test_memory_is_flat() -> None:
    results = task.map(double, itertools.count(), 5)
    leaks_nothing(lambda: next(results))
    results.close()
    leaks_nothing(lambda: list(task.map(double, (1, 2), 2)))
    assert not scheduler.tasks


# ---- beside a model ---------------------------------------------------------------------------------------------


class Boom(Exception):
    """Of the function, at an item."""


class Story:
    """One random run: what each item does is fixed before, so a plain loop tells what must come."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.size = rng.randint(0, 12)
        self.limit = rng.randint(1, 5)
        self.ordered = rng.random() < 0.5
        self.waits = [rng.choice([None, 0, 0, 1, 2]) for _ in range(self.size)]
        self.fails = {n for n in range(self.size) if rng.random() < 0.08}
        self.tape_ends = rng.random() < 0.2
        self.leaves = rng.choice([None, None, rng.randint(1, 12)])
        self.block = rng.random() < 0.5
        self.drawn = self.running = 0
        self.got: list[int] = []
        self.raised: set[int] = set()
        self.begun: list[int] = []

    def items(self) -> Iterator[int]:
        for n in range(self.size):
            if self.rng.random() < 0.2:
                time.sleep(0)
            assert n < len(self.got) + self.limit, "too far ahead"
            self.drawn += 1
            yield n
        if self.tape_ends:
            raise OSError("end of the tape")

    def work(self, n: int) -> int:
        self.begun.append(n)
        self.running += 1
        assert self.running <= self.limit
        try:
            if self.waits[n] is not None:
                time.sleep(self.waits[n])
            if n in self.fails:
                self.raised.add(n)
                raise Boom(f"<{n}>")
            return n
        finally:
            self.running -= 1

    def consume(self, results: Any) -> None:
        for value in results:
            self.got.append(value)
            if self.rng.random() < 0.3:
                time.sleep(self.rng.choice([0, 1]))
            if len(self.got) == self.leaves:
                break

    def run(self) -> str:
        results = task.map(self.work, self.items(), self.limit, self.ordered)
        try:
            if self.block:
                with results:
                    self.consume(results)
            else:
                self.consume(results)
        except (Boom, OSError) as exc:
            return str(exc)
        finally:
            if self.block and not isinstance(sys.exc_info()[1], Boom):
                assert not results._run._left
        return "done"

    def check(self, outcome: str | None) -> None:
        assert self.begun == list(range(len(self.begun)))
        assert len(set(self.got)) == len(self.got)
        assert not self.fails & set(self.got)
        if self.ordered:
            assert self.got == list(range(len(self.got)))
        if outcome is None:
            return  # it was cancelled
        if outcome == "done":
            assert len(self.got) == (self.size if self.leaves is None else min(self.size, self.leaves))
        elif outcome == "end of the tape":
            assert self.tape_ends
            assert sorted(self.got) == list(range(self.size))
        elif self.ordered:
            assert outcome == f"<{len(self.got)}>"
        else:
            assert outcome in {f"<{n}>" for n in self.raised}


@pytest.mark.parametrize("batch", range(5))
def test_random_maps(batch: int, logs: Logs) -> None:
    logs.allow("Boom: <")
    ends: dict[str, int] = {}
    for seed in range(batch * 100, batch * 100 + 100):
        story = Story(seed)
        before = dict.fromkeys(scheduler.tasks)
        first = len(logs.lines)
        t = task.fork(story.run)
        if story.rng.random() < 0.3:
            for _ in range(story.rng.randint(0, 10)):
                time.sleep(0)
            t.cancel()
        outcome, err = t.join()
        assert err in (None, "cancelled")
        story.check(outcome)
        until(lambda before=before: scheduler.tasks.keys() <= before.keys())
        for _ in range(2):
            time.sleep(0)  # the finalizer of the results only leaves a note
        assert story.running == 0
        said = {int(n) for line in logs.lines[first:] for n in re.findall(r"Boom: <(\d+)>", line)}
        heard = {int(outcome[1:-1])} if outcome and outcome[0] == "<" else set()
        assert said == story.raised - heard, seed
        kind = "failed" if heard else outcome or "cancelled"
        ends[kind] = ends.get(kind, 0) + 1
    assert min(ends[kind] for kind in ("done", "failed", "cancelled", "end of the tape")) > 2, ends


def test_items_of_a_generator_that_waits_at_its_end_when_the_loop_is_left() -> None:
    ended = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            time.sleep(1)
            ended.append(task.running())

    for _ in task.map(lambda n: time.sleep(LONG) if n else None, items(), 3):
        break
    until(lambda: ended)
    assert ended == [task.running()]
