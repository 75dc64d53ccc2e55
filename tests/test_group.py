"""``task.group``."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import task, time
from silly._core import children, scheduler
from silly.sync import channel

from .conftest import Logs
from .leaks import leaks_nothing
from .test_task import in_thread, settle

pytestmark = pytest.mark.usefixtures("virtual")

LONG = 60_000
"""Milliseconds that nothing waits for: it is cancelled before."""


def until(done: Any) -> None:
    """Lets others run until ``done()``."""
    with time.deadline(10_000):
        while not done():
            time.sleep(1)


def fail(text: str = "no", after: float = 0) -> None:
    if after:
        time.sleep(after)
    raise ValueError(text)


def texts(group: BaseExceptionGroup[Any]) -> list[str]:
    return [str(exc) for exc in group.exceptions]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end."""
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)


def cleans_up(func: Any) -> None:
    """Waits for its cancel, and then calls ``func``."""
    try:
        time.sleep(LONG)
    finally:
        func()


class Log:
    """Tasks that say what happens to them, in ``lines``."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def sleeper(self, name: str) -> None:
        self.lines.append(f"{name} begins")
        try:
            time.sleep(LONG)
        except task.Cancelled:
            self.lines.append(f"{name} is struck")
            time.sleep(1)
            self.lines.append(f"{name} has cleaned up")
            raise


@pytest.fixture
def log() -> Log:
    return Log()


# ---- forking and awaiting ---------------------------------------------------------------------------------------


def test_the_block_ends_when_all_tasks_have_ended() -> None:
    ended: list[int] = []

    def body(n: int, more: str = "") -> str:
        time.sleep(n)
        ended.append(n)
        return more * n

    with task.group() as g:
        ts = [g.fork(body, n, more="x") for n in (5, 1, 3)]
        assert ended == []
        assert [t.done for t in ts] == [False] * 3
    assert sorted(ended) == [1, 3, 5]
    assert [t.join() for t in ts] == [("xxxxx", None), ("x", None), ("xxx", None)]


def test_an_empty_group_does_not_wait() -> None:
    ran: list[int] = []
    task.fork(lambda: ran.append(1))
    with task.group():
        pass
    assert ran == []
    settle()


def test_a_group_whose_tasks_have_ended_does_not_wait() -> None:
    with task.group() as g:
        t = g.fork(lambda: 1)
        t.join()
        ran: list[int] = []
        task.fork(lambda: ran.append(1))
    assert ran == []
    settle()


def test_fork_is_a_decorator_too() -> None:
    with task.group() as g:

        @g.fork
        def answer() -> int:
            return 42

    assert answer.join() == (42, None)


def test_a_task_may_fork_into_its_group_while_that_is_awaited() -> None:
    ended: list[int] = []

    def body(g: Any, n: int) -> None:
        if n:
            g.fork(body, g, n - 1)
        time.sleep(1)
        ended.append(n)

    with task.group(limit=1) as g:
        g.fork(body, g, 5)
    assert ended == [5, 4, 3, 2, 1, 0]


def test_a_stranger_may_fork_into_a_group() -> None:
    done = channel.new()
    with task.group() as g:
        task.fork(lambda: g.fork(done.push, "from a stranger"))
        assert done.pop() == ("from a stranger", None)


def test_a_pair_with_an_error_is_no_exception_and_check_makes_it_one() -> None:
    with task.group() as g:
        t = g.fork(lambda: (None, "refused"))
    assert t.join() == ((None, "refused"), None)
    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        g.fork(lambda: silly.check((None, "refused")))
    assert [type(exc) for exc in caught.value.exceptions] == [silly.Error]


def test_a_value_that_looks_like_a_mistake_is_the_tasks_result() -> None:
    with task.group() as g:
        t = g.fork(lambda: {"a": 1})
    assert t.join() == ({"a": 1}, None)


def test_wrong_arguments() -> None:
    for limit in (0, -1, True, 1.5, "2"):
        with pytest.raises(ValueError, match=r"task.group: the limit is an int from 1 to"):
            task.group(limit)  # type: ignore[arg-type]
    with task.group() as g, pytest.raises(TypeError, match=r"group.fork needs a function, not int"):
        g.fork(1)  # type: ignore[arg-type]


def test_fork_works_inside_the_block_only() -> None:
    g = task.group()
    with pytest.raises(RuntimeError, match=r"group.fork: the group's block has not begun; fork inside: with task.group"):
        g.fork(print)
    with g:
        pass
    with pytest.raises(RuntimeError, match=r"group.fork: the group has ended"):
        g.fork(print)
    with pytest.raises(RuntimeError, match="each with block needs a group of its own"), g:
        pass


def test_a_thread_can_not_use_it() -> None:
    with task.group() as g:
        for call in (lambda: g.fork(print), lambda: task.group().__enter__()):
            how, exc = in_thread(call)
            assert how == "raised"
            assert type(exc) is RuntimeError
            assert "another thread" in str(exc)


def test_no_switch_refuses_the_block() -> None:
    with task.no_switch(), pytest.raises(RuntimeError, match=r"may wait, .* task.no_switch"), task.group():
        pass


# ---- the limit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_the_limit_bounds_how_many_run_and_they_start_in_order(limit: int) -> None:
    running: set[int] = set()
    started: list[int] = []
    most: list[int] = []

    def body(n: int) -> None:
        running.add(n)
        started.append(n)
        most.append(len(running))
        time.sleep(n % 3)
        running.discard(n)

    with task.group(limit) as g:
        ts = [g.fork(body, n) for n in range(20)]
        assert started == []
        assert [task.status(t) for t in ts].count("READY") == limit
        assert ts[-1].waiting() == "a place in task.group"
    assert started == list(range(20))
    assert max(most) == limit


def test_the_order_holds_for_what_tasks_and_groups_inside_fork() -> None:
    started: list[str] = []

    def note(name: str) -> None:
        started.append(name)
        time.sleep(0)

    def nested(g: Any) -> None:
        started.append("nested")
        with task.group(1) as inner:
            inner.fork(note, "inner 1")
            g.fork(note, "outer 3")
            inner.fork(note, "inner 2")
            inner.fork(lambda: g.fork(note, "outer 4"))

    with task.group(1) as g:
        g.fork(nested, g)
        g.fork(note, "outer 1")
        g.fork(note, "outer 2")
    assert started == ["nested", "inner 1", "inner 2", "outer 1", "outer 2", "outer 3", "outer 4"]


def test_a_task_that_waits_for_a_place_may_be_cancelled_and_ends_at_once() -> None:
    def body() -> Any:
        ts[1].cancel()
        return ts[1].join()  # the only place is this task's own

    ran: list[int] = []
    with task.group(1) as g:
        ts: list[Any] = [g.fork(body), g.fork(ran.append, 1), g.fork(ran.append, 2)]
    assert ts[0].join() == ((None, "cancelled"), None)
    assert ran == [2]


# ---- failing ----------------------------------------------------------------------------------------------------


def test_the_first_exception_cancels_the_rest_and_the_block(log: Log) -> None:
    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        a = g.fork(log.sleeper, "a")
        g.fork(fail, after=1)
        log.sleeper("block")
    assert texts(caught.value) == ["no"]
    assert log.lines[:2] == ["block begins", "a begins"]
    assert sorted(log.lines[2:]) == ["a has cleaned up", "a is struck", "block has cleaned up", "block is struck"]
    assert a.join() == (None, "cancelled")


def test_the_message_says_where_the_group_was_made() -> None:
    frame = test_the_message_says_where_the_group_was_made.__code__
    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        g.fork(fail)
    assert caught.value.message == f"task.group at {__file__}:{frame.co_firstlineno + 2}"
    assert caught.value.__context__ is None


def test_an_exception_of_the_block_cancels_the_tasks(log: Log) -> None:
    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        g.fork(log.sleeper, "a")
        time.sleep(0)
        fail("of the block")
    assert texts(caught.value) == ["of the block"]
    assert caught.value.__context__ is None  # it is not shown twice
    assert log.lines == ["a begins", "a is struck", "a has cleaned up"]


def test_all_exceptions_are_gathered_in_the_order_in_which_they_came() -> None:
    def late() -> None:
        try:
            time.sleep(LONG)
        finally:
            fail("late")

    time.sleep(1)  # a strike that an earlier test has posted would reach the block before the task
    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        g.fork(late)
        g.fork(fail, "first")
        try:
            time.sleep(LONG)
        finally:
            fail("of the block")
    assert texts(caught.value) == ["first", "late", "of the block"]


def test_except_star_takes_its_part() -> None:
    seen: list[str] = []
    try:
        with task.group() as g:
            g.fork(cleans_up, lambda: {}["key"])
            g.fork(fail)
    except* KeyError:
        seen.append("KeyError")
    except* ValueError:
        seen.append("ValueError")
    assert seen == ["KeyError", "ValueError"]


def test_the_exceptions_have_their_tracebacks_and_contexts() -> None:
    def body() -> None:
        try:
            fail("cause")
        except ValueError:
            raise KeyError("result")

    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        g.fork(body)
    (exc,) = caught.value.exceptions
    assert str(exc.__context__) == "cause"
    assert exc.__traceback__ is not None
    assert exc.__traceback__.tb_frame.f_code.co_name == "body"


def test_the_tasks_join_raises_the_exception_too() -> None:
    with pytest.raises(ExceptionGroup), task.group() as g:
        t = g.fork(fail)
    with pytest.raises(ValueError, match="no"):
        t.join()


def test_an_exception_that_one_task_has_from_another_counts_once() -> None:
    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        t = g.fork(fail, after=1)
        g.fork(t.join)
        g.fork(lambda: t.join())
        t.join()
    assert texts(caught.value) == ["no"]


def test_what_has_not_started_never_runs() -> None:
    ran: list[str] = []
    with pytest.raises(ExceptionGroup), task.group(2) as g:
        ts = [g.fork(fail), g.fork(time.sleep, LONG), *[g.fork(ran.append, "held") for _ in range(5)]]
    assert ran == []
    assert [t.join() for t in ts[1:]] == [(None, "cancelled")] * 6
    with pytest.raises(ExceptionGroup), task.group() as g:
        ts = [g.fork(ran.append, "ready") for _ in range(5)]
        fail()
    assert ran == []
    assert [t.join() for t in ts] == [(None, "cancelled")] * 5


def test_what_is_forked_into_a_group_that_has_failed_never_runs() -> None:
    ran: list[int] = []
    late: list[Any] = []

    def body(g: Any) -> None:
        try:
            time.sleep(LONG)
        finally:
            late.append(g.fork(ran.append, 1))
            time.sleep(1)
            late.append(g.fork(ran.append, 2))

    for limit in (None, 2):
        late.clear()
        with pytest.raises(ExceptionGroup), task.group(limit) as g:
            g.fork(body, g)
            g.fork(fail)
        assert [t.join() for t in late] == [(None, "cancelled")] * 2
    assert ran == []


def test_a_task_that_was_cancelled_alone_is_no_error(log: Log) -> None:
    with task.group() as g:
        a, b = g.fork(log.sleeper, "a"), g.fork(time.sleep, 5)
        time.sleep(1)
        a.cancel()
        g.fork(task.running().name)
    assert a.join() == (None, "cancelled")
    assert b.join() == (None, None)
    with task.group() as g:

        @g.fork
        def ends() -> None:
            raise GreenletExit

    assert ends.join() == (None, "cancelled")


def test_what_is_no_exception_comes_in_a_base_exception_group() -> None:
    class Panic(BaseException):
        pass

    def body() -> None:
        raise Panic

    with pytest.raises(BaseExceptionGroup) as caught, task.group() as g:
        g.fork(cleans_up, fail)
        g.fork(body)
    assert type(caught.value) is BaseExceptionGroup
    assert [type(exc) for exc in caught.value.exceptions] == [Panic, ValueError]


def test_a_block_that_goes_on_after_the_blow_ends_with_the_exceptions() -> None:
    went_on = False
    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        g.fork(fail)
        try:
            task.wait()
        except task.Cancelled:
            pass
        time.sleep(1)  # one blow: this waits as ever
        went_on = True
    assert went_on
    assert texts(caught.value) == ["no"]


def test_a_blow_that_has_not_struck_the_block_goes_with_the_group() -> None:
    with pytest.raises(ExceptionGroup), task.group() as g:
        t = g.fork(fail)
        with task.shield():
            until(lambda: t.done)
    assert task.running()._blow is None
    time.sleep(0)


def test_the_main_programs_block_is_struck_too() -> None:
    assert task.running() is scheduler.main
    with pytest.raises(ExceptionGroup), task.group() as g:
        g.fork(fail, after=1)
        task.wait()


@pytest.mark.parametrize("wait", [task.wait, lambda: time.sleep(LONG), lambda: channel.new().pop()])
def test_it_strikes_in_any_call(wait: Any) -> None:
    with pytest.raises(ExceptionGroup), task.group() as g:
        g.fork(fail)
        wait()


def test_the_block_gets_what_it_was_woken_with() -> None:
    chan = channel.new()
    got: list[Any] = []

    def push_and_fail() -> None:
        chan.push("item")
        fail()

    with pytest.raises(ExceptionGroup), task.group() as g:
        g.fork(push_and_fail)
        got.append(chan.pop())
        time.sleep(0)
        got.append("not struck")
    assert got == [("item", None)]


# ---- shields ----------------------------------------------------------------------------------------------------


def test_a_shield_around_the_group_puts_off_a_cancel_but_not_the_groups_own_blow() -> None:
    seen: list[str] = []

    def body() -> None:
        try:
            with task.shield():
                with pytest.raises(ExceptionGroup), task.group() as g:
                    g.fork(fail, after=3)
                    task.wait()
                seen.append("failed")
                time.sleep(1)
                seen.append("after the block")
            time.sleep(1)
            seen.append("not struck")
        except task.Cancelled:
            seen.append("struck")

    t = task.fork(body)
    time.sleep(1)
    t.cancel()
    t.join()
    assert seen == ["failed", "after the block", "struck"]


def test_a_shield_in_the_block_puts_off_the_groups_blow() -> None:
    seen: list[str] = []
    with pytest.raises(ExceptionGroup), task.group() as g:
        t = g.fork(fail)
        with task.shield():
            until(lambda: t.done)
            time.sleep(1)
            seen.append("shielded")
        time.sleep(LONG)
        seen.append("not struck")
    assert seen == ["shielded"]


# ---- what strikes the owner -------------------------------------------------------------------------------------


def owner_of(body: Any, log: Log, *names: str) -> Any:
    """A task that has a group of sleepers and runs ``body`` in its block."""

    def owner() -> None:
        try:
            with task.group() as g:
                for name in names or ("a",):
                    g.fork(log.sleeper, name)
                body()
        except BaseException as exc:
            log.lines.append(f"owner: {type(exc).__name__}")
            raise
        log.lines.append("owner goes on")

    return task.fork(owner)


@pytest.mark.parametrize("body", [lambda: None, lambda: time.sleep(LONG)], ids=["at the end", "in the block"])
def test_a_cancel_of_the_owner_cancels_the_tasks_waits_and_goes_on(body: Any, log: Log) -> None:
    t = owner_of(body, log, "a", "b")
    time.sleep(1)
    t.cancel()
    assert t.join() == (None, "cancelled")
    assert log.lines == [
        *["a begins", "b begins", "a is struck", "b is struck", "a has cleaned up", "b has cleaned up"],
        "owner: Cancelled",
    ]


def test_a_second_cancel_strikes_the_tasks_again_and_the_owner_still_waits() -> None:
    seen: list[str] = []

    def stubborn() -> None:
        for n in range(3):
            try:
                time.sleep(LONG)
            except task.Cancelled:
                seen.append(f"blow {n}")

    def owner() -> None:
        with task.group() as g:
            g.fork(stubborn)

    t = task.fork(owner)
    for n in range(3):
        time.sleep(1)
        assert len(seen) == n
        assert t.cancel() is True
    assert t.join() == (None, "cancelled")
    assert seen == ["blow 0", "blow 1", "blow 2"]


def test_a_cancel_that_comes_when_all_have_ended_strikes_at_the_next_wait() -> None:
    seen: list[str] = []

    def owner() -> None:
        with task.group() as g:
            g.fork(task.running)
            g.fork(lambda: t.cancel())
        seen.append("left the group")
        time.sleep(0)
        seen.append("not struck")

    t = task.fork(owner)
    assert t.join() == (None, "cancelled")
    assert seen == ["left the group"]


def test_a_cancel_while_a_failed_group_is_awaited_goes_on_and_the_exceptions_are_logged(logs: Logs) -> None:
    logs.expect(r"^ERROR exception in task.group at .*test_group.py:\d+, which was ended meanwhile:\n(.*\n)*.*ValueError: no")

    def slow() -> None:
        with task.shield():
            time.sleep(10)

    def group() -> None:
        with task.group() as g:
            g.fork(slow)
            g.fork(fail)

    t = task.fork(group)
    time.sleep(1)
    t.cancel()
    assert t.join() == (None, "cancelled")


def test_exceptions_in_the_clean_up_of_a_cancel_are_logged_and_told_to_the_hook(logs: Logs, log: Log) -> None:
    logs.expect("which was ended meanwhile:\n(.*\n)*.*KeyError: 'clean-up'")
    told: list[BaseException] = []

    def body() -> None:
        try:
            time.sleep(LONG)
        finally:
            raise KeyError("clean-up")

    def owner() -> None:
        with task.group() as g:
            g.fork(body)

    task.onerror(lambda failed, exc: told.append(exc))
    try:
        t = task.fork(owner)
        time.sleep(1)
        t.cancel()
        assert t.join() == (None, "cancelled")
    finally:
        task.onerror(None)
    assert [type(exc) for exc in told] == [KeyError]


def test_a_block_that_swallows_a_cancel_from_outside_goes_on() -> None:
    def owner() -> str:
        with task.group() as g:
            t = g.fork(time.sleep, 5)
            try:
                time.sleep(LONG)
            except task.Cancelled:
                pass
        return str(t.join())

    t = task.fork(owner)
    time.sleep(1)
    t.cancel()
    assert t.join() == ("(None, None)", None)


@pytest.mark.parametrize("body", [lambda: None, task.wait], ids=["at the end", "in the block"])
def test_a_deadline_around_the_group_cancels_the_tasks_waits_and_goes_on(body: Any, log: Log) -> None:
    with time.deadline(5) as limit:
        with pytest.raises(TimeoutError, match=r"task\.\w+: the deadline of 5 ms ran out"), task.group() as g:
            g.fork(log.sleeper, "a")
            body()
        assert limit.expired
        with pytest.raises(TimeoutError):
            time.sleep(1)  # it is over for what comes as well
    time.sleep(1)
    assert log.lines == ["a begins", "a is struck", "a has cleaned up"]


def test_a_deadline_that_is_over_already_cancels_the_tasks(log: Log) -> None:
    with time.deadline(1):
        with pytest.raises(TimeoutError):
            time.sleep(5)
        with pytest.raises(TimeoutError), task.group() as g:
            g.fork(log.sleeper, "a")
        with task.group():
            pass  # nothing to wait for
    assert log.lines == []


def test_a_deadline_does_not_strike_twice_and_another_one_may_come() -> None:
    blows = 0

    def stubborn() -> None:
        nonlocal blows
        for ms in (LONG, 20):
            try:
                time.sleep(ms)
            except task.Cancelled:
                blows += 1

    with time.deadline(10) as outer, time.deadline(5) as inner:
        with pytest.raises(TimeoutError, match="of 5 ms"), task.group() as g:
            g.fork(stubborn)
        assert inner.expired
        assert outer.expired
        with pytest.raises(TimeoutError, match="of 5 ms"):
            time.sleep(1)
    time.sleep(1)
    assert blows == 1


def test_a_deadline_in_the_block_is_an_exception_of_the_block() -> None:
    with pytest.raises(ExceptionGroup) as caught, task.group(), time.deadline(1):
        time.sleep(5)
    assert [type(exc) for exc in caught.value.exceptions] == [scheduler.DeadlineOver]


def test_a_deadline_and_exceptions_are_raised_together() -> None:
    def body() -> None:
        try:
            time.sleep(LONG)
        finally:
            fail("clean-up")

    with pytest.raises(ExceptionGroup) as caught, time.deadline(5), task.group() as g:
        g.fork(body)
    assert [type(exc) for exc in caught.value.exceptions] == [scheduler.DeadlineOver, ValueError]


def test_a_deadline_while_a_failed_group_is_awaited_changes_nothing() -> None:
    def slow() -> None:
        with task.shield():
            time.sleep(10)

    with time.deadline(5):
        with pytest.raises(ExceptionGroup) as caught, task.group() as g:
            g.fork(slow)
            g.fork(fail)
        with pytest.raises(TimeoutError):
            time.sleep(1)
    assert texts(caught.value) == ["no"]


def test_an_end_that_the_block_raises_goes_on(log: Log) -> None:
    for end in (SystemExit, KeyboardInterrupt, GreenletExit):
        with pytest.raises(end), task.group() as g:
            g.fork(log.sleeper, "a")
            time.sleep(0)
            raise end
    assert log.lines == ["a begins", "a is struck", "a has cleaned up"] * 3


def test_ctrl_c_in_the_main_program(log: Log) -> None:
    for body in (task.wait, lambda: None):
        time.after(1, signal.raise_signal, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), task.group() as g:
            g.fork(log.sleeper, "a")
            body()
    assert log.lines == ["a begins", "a is struck", "a has cleaned up"] * 2


def test_an_exception_of_a_signal_handler_while_the_tasks_are_awaited() -> None:
    def handler(number: int, frame: object) -> None:
        fail("of the handler")

    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with pytest.raises(ExceptionGroup) as caught, task.group() as g:
            g.fork(time.sleep, LONG)
            sender.start()  # the block's exceptions are gathered too, should it come so early
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert texts(caught.value) == ["of the handler"]


# ---- groups in groups -------------------------------------------------------------------------------------------


def test_a_failure_outside_strikes_through_the_group_inside(log: Log) -> None:
    with pytest.raises(ExceptionGroup) as caught, task.group() as outer:
        outer.fork(fail, after=1)
        with task.group() as inner:
            inner.fork(log.sleeper, "a")
        log.lines.append("not struck")
    assert texts(caught.value) == ["no"]
    assert log.lines == ["a begins", "a is struck", "a has cleaned up"]


def test_a_failure_inside_does_not_touch_the_group_outside() -> None:
    with task.group() as outer:
        t = outer.fork(time.sleep, 3)
        with pytest.raises(ExceptionGroup), task.group() as inner:
            inner.fork(fail)
            task.wait()
        time.sleep(1)
    assert t.join() == (None, None)


@pytest.mark.parametrize("first", ["inner", "outer"])
def test_both_fail_in_the_same_turn(first: str) -> None:
    order: list[str] = []
    with pytest.raises(ExceptionGroup) as caught, task.group() as outer:
        try:
            with task.group() as inner:
                for name in (first, "outer" if first == "inner" else "inner"):
                    (inner if name == "inner" else outer).fork(fail, name)
                try:
                    task.wait()
                finally:
                    order.append("struck")
        except ExceptionGroup:
            order.append("caught")  # the blow of the outer group goes on
        order.append("not struck")
    assert order == ["struck"]
    found = [exc if isinstance(exc, ValueError) else texts(exc) for exc in caught.value.exceptions]
    assert [str(each) for each in found] == ["outer", "['inner']"]


@pytest.mark.parametrize("first", ["cancel", "failure"])
def test_a_cancel_beats_the_blow_of_a_group_outside_while_the_inner_one_is_awaited(first: str, logs: Logs) -> None:
    logs.expect("which was ended meanwhile:\n(.*\n)*.*ValueError: no")

    def slow() -> None:
        with task.shield():
            time.sleep(20)

    def owner() -> None:
        with task.group() as outer:
            outer.fork(fail, after=1 if first == "failure" else 8)
            with task.group() as inner:
                inner.fork(slow)

    t = task.fork(owner)
    time.sleep(1 if first == "cancel" else 8)
    t.cancel()
    assert t.join() == (None, "cancelled")


def test_a_cancel_from_outside_beats_the_blow_of_the_group(logs: Logs) -> None:
    logs.expect("which was ended meanwhile:\n(.*\n)*.*ValueError: no")

    def owner() -> None:
        with task.group() as g:
            g.fork(fail)
            task.fork(lambda: t.cancel())
            task.wait()

    t = task.fork(owner)
    assert t.join() == (None, "cancelled")


def test_a_cancelled_tree_ends_from_its_leaves(log: Log) -> None:
    def node(depth: int) -> None:
        try:
            with task.group() as g:
                for _ in range(2):
                    g.fork(node, depth - 1) if depth else g.fork(log.sleeper, "leaf")
        finally:
            log.lines.append(f"node {depth}")

    t = task.fork(node, 3)
    until(lambda: log.lines.count("leaf begins") == 16)
    t.cancel()
    assert t.join() == (None, "cancelled")
    assert log.lines.count("leaf has cleaned up") == 16
    ended = [line for line in log.lines if line.startswith("node")]
    assert ended[:2] == ["node 0"] * 2
    assert ended[-1] == "node 3"
    assert [ended.count(f"node {depth}") for depth in range(4)] == [8, 4, 2, 1]


def test_a_failure_deep_in_a_tree_comes_up_as_groups_in_groups() -> None:
    def node(depth: int) -> None:
        with task.group() as g:
            g.fork(time.sleep, LONG)
            g.fork(node, depth - 1) if depth else g.fork(fail, "deep")

    with pytest.raises(ExceptionGroup) as caught:
        node(3)
    exc: Any = caught.value
    for _ in range(4):
        (exc,) = exc.exceptions
    assert str(exc) == "deep"


# ---- generators -------------------------------------------------------------------------------------------------


def in_generator(log: Log, name: str = "a") -> Iterator[int]:
    with task.group() as g:
        g.fork(log.sleeper, name)
        yield 1
        yield 2


def test_closing_a_generator_with_a_group_cancels_and_waits(log: Log) -> None:
    generator = in_generator(log)
    next(generator)
    time.sleep(1)
    generator.close()
    assert log.lines == ["a begins", "a is struck", "a has cleaned up"]


def test_groups_in_generators_end_in_any_order(log: Log) -> None:
    a, b = in_generator(log, "a"), in_generator(log, "b")
    for each in (a, b):
        next(each)
    time.sleep(1)
    a.close()
    b.close()
    assert log.lines[2:] == ["a is struck", "a has cleaned up", "b is struck", "b has cleaned up"]
    assert not scheduler.main._groups


def test_another_task_that_leaves_the_block_cancels_without_waiting(log: Log) -> None:
    generator = in_generator(log)
    next(generator)
    time.sleep(1)

    def other() -> None:
        with pytest.raises(RuntimeError, match="its block was left by another task than the one that had entered it"):
            generator.close()

    t = task.fork(other)
    assert t.join() == (None, None)
    until(lambda: len(log.lines) == 3)
    assert log.lines == ["a begins", "a is struck", "a has cleaned up"]


# ---- a task that goes on ----------------------------------------------------------------------------------------


def test_a_task_that_swallows_the_blow_is_named_once(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    monkeypatch.setattr(children, "PATIENCE", 0.005)
    logs.expect(
        r"^WARNING task.group at .*test_group.py:\d+: 0.005 s after its cancel these go on: \S*stubborn, "
        r"forked at .*test_group.py:\d+, which waits on time.sleep"
    )

    def stubborn() -> None:
        with pytest.raises(task.Cancelled):
            time.sleep(LONG)
        until(lambda: logs.lines)
        time.sleep(10)

    with pytest.raises(ExceptionGroup), task.group() as g:
        g.fork(stubborn)
        time.sleep(0)
        fail()
    assert len(logs.lines) == 1


def test_a_block_that_swallows_the_blow_is_named_and_at_most_five_tasks(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    monkeypatch.setattr(children, "PATIENCE", 0.005)
    logs.expect(r"these go on: the block, in main, which waits on time.sleep[^;]*(; \S*stubborn, [^;]*){4} \(… 3 more\)$")

    def stubborn() -> None:
        with task.shield():
            until(lambda: logs.lines)

    with pytest.raises(ExceptionGroup), task.group() as g:
        for _ in range(7):
            g.fork(stubborn)
        g.fork(fail)
        with pytest.raises(task.Cancelled):
            time.sleep(LONG)
        until(lambda: logs.lines)
    assert len(logs.lines) == 1


def test_no_timer_stays_of_a_group_that_has_ended() -> None:
    before = len(scheduler.loop.timers)
    with pytest.raises(ExceptionGroup), task.group() as g:
        g.fork(time.sleep, LONG)
        g.fork(fail)
        task.wait()
    assert len(scheduler.loop.timers) == before


# ---- the end of the process -------------------------------------------------------------------------------------

END = """
import silly, signal
from silly import task, time

def sleeper(name):
    try:
        time.sleep(60_000)
    finally:
        time.sleep(1)
        print(name, "has cleaned up", flush=True)

def owner():
    try:
        with task.group(limit=2) as g:
            g.fork(sleeper, "a")
            g.fork(sleeper, "b")
            g.fork(print, "never", flush=True)
            g.fork(print, "never", flush=True)
            {body}
    finally:
        time.sleep(1)
        print("owner has cleaned up", flush=True)

{start}
"""


@pytest.mark.parametrize("body", ["pass", "task.wait()"])
@pytest.mark.parametrize(
    ("start", "status"),
    [
        ("time.after(20, silly.exit, 3); silly.run(owner)", 3),
        ("time.after(20, exit, 4); silly.run(owner)", 4),
        ("time.after(20, signal.raise_signal, signal.SIGTERM); silly.run(owner)", 0),
        ("task.fork(owner); time.after(20, silly.exit, 5); time.sleep(60_000)", 5),
    ],
)
def test_the_end_of_the_process(body: str, start: str, status: int) -> None:
    done = run_python(END.format(body=body, start=start))
    lines = done.stdout.split("\n")
    assert sorted(lines[:2]) == ["a has cleaned up", "b has cleaned up"]
    assert lines[2:] == ["owner has cleaned up", ""]
    assert done.returncode == status


@pytest.mark.parametrize("body", ["pass", "task.wait()"])
def test_the_end_of_the_process_with_the_main_program_as_owner(body: str) -> None:
    done = run_python(END.format(body=body, start="time.after(20, silly.exit, 6); owner()"))
    lines = done.stdout.split("\n")
    assert sorted(lines[:2]) == ["a has cleaned up", "b has cleaned up"]
    assert lines[2:] == ["owner has cleaned up", ""]
    assert done.returncode == 6


@pytest.mark.parametrize("limit", [1, None])
def test_the_end_of_the_process_with_tasks_that_have_not_started(limit: int | None) -> None:
    done = run_python(
        f"""
import silly
from silly import task, time

def owner():
    with task.group({limit}) as g:
        for _ in range(4):
            g.fork(print, "never")
        try:
            silly.exit(3)
        finally:
            g.fork(print, "never")

silly.run(owner)
"""
    )
    assert (done.stdout, done.returncode) == ("", 3)
    assert done.stderr.count("was not started: the process is ending") == len(done.stderr.splitlines()) == 1


def test_system_exit_of_a_task_ends_the_process() -> None:
    code = END.format(
        body="g.fork(lambda: time.sleep(5)); g2 = task.fork(lambda: (time.sleep(20), exit(7)))", start="silly.run(owner)"
    )
    assert run_python(code).returncode == 7
    done = run_python(
        """
import silly
from silly import task

def owner():
    with task.group() as g:
        g.fork(exit, 8)
        task.wait()

silly.run(owner)
"""
    )
    assert (done.returncode, done.stderr) == (8, "")


def test_a_task_that_outlives_the_grace_is_cut_off_with_its_owner() -> None:
    done = run_python(
        """
import silly
from silly import task, time

def stubborn():
    while True:
        try:
            time.sleep(60_000)
        except BaseException:
            pass

def owner():
    with task.group() as g:
        g.fork(stubborn)

time.after(20, silly.exit, 3)
try:
    OWNER
finally:
    print("main ends")
""".replace("OWNER", "owner()")
    )
    assert done.returncode == 3
    assert "did not end within 3 s" in done.stderr
    assert done.stdout == "main ends\n"


# ---- memory and references --------------------------------------------------------------------------------------


class Thing:
    """Something that a task holds."""


def test_a_failed_task_is_released_with_the_group_and_not_by_the_collector() -> None:
    things: list[weakref.ref[Thing]] = []

    def body() -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        time.sleep(0)
        fail()

    def owner(with_block: bool) -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        try:
            with task.group() as g:
                t = g.fork(body)
                g.fork(time.sleep, LONG)
                if with_block:
                    task.wait()
                    t.join()
        except ExceptionGroup:
            pass

    gc.collect()
    gc.disable()
    try:
        for with_block in (False, True):
            owner(with_block)
            t = task.fork(owner, with_block)
            t.join()
            time.sleep(0)
        assert len(things) == 8
        assert [thing() for thing in things] == [None] * 8
    finally:
        gc.enable()


def test_an_exception_that_ends_the_owner_is_no_cycle() -> None:
    things: list[weakref.ref[Thing]] = []

    def owner(how: str) -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        with task.group() as g:
            g.fork(time.sleep, LONG)
            if how == "failure":
                g.fork(fail)
            elif how == "body":
                fail()
            elif how == "cancel":
                task.running().cancel()

    gc.collect()
    gc.disable()
    try:
        for how in ("failure", "body", "cancel"):
            t = task.fork(owner, how)
            try:
                t.join()
            except ExceptionGroup:
                pass
            del t
            for _ in range(2):
                time.sleep(0)  # a join cuts its own part of the traceback off in the next turn
            assert [thing() for thing in things] == [None] * len(things), how
    finally:
        gc.enable()


def test_memory_is_flat() -> None:
    def once() -> None:
        with task.group() as g:
            g.fork(task.running)

    leaks_nothing(once)


def test_a_group_that_goes_on_for_ever_forgets_its_tasks() -> None:
    def some(g: Any, count: int) -> None:
        for _ in range(count // 100):
            ts = [g.fork(task.running) for _ in range(100)]
            ts[-1].join()

    for limit in (None, 10):
        with task.group(limit) as g:
            tracemalloc.start()
            try:
                some(g, 1000)
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
                some(g, 20_000)
                gc.collect()
                assert tracemalloc.get_traced_memory()[0] - before < 100_000
            finally:
                tracemalloc.stop()


def test_tasks_that_were_cancelled_before_they_got_a_place_are_forgotten() -> None:
    done = channel.new()
    with task.group(1) as g:
        g.fork(done.pop)
        gone = []
        for _ in range(100):
            t = g.fork(task.running)
            gone.append(weakref.ref(t))
            t.cancel()
            assert t.join() == (None, "cancelled")
        del t
        gc.collect()
        assert sum(each() is not None for each in gone) <= 1  # a frame may hold the last one
        last = g.fork(done.pop)
        done.push(1)
        done.push(2)
    assert last.join() == ((2, None), None)


def test_a_cancel_of_very_many_tasks_that_wait_for_a_place() -> None:
    with pytest.raises(ExceptionGroup), task.group(1) as g:
        for _ in range(20_000):
            g.fork(time.sleep, LONG)
        fail()


# ---- a cancel and a failure, one after the other --------------------------------------------------------------


def test_a_failure_while_the_block_cleans_up_after_a_cancel_does_not_take_its_place(logs: Logs) -> None:
    went_on = []

    def owner() -> None:
        failing = channel.new()

        def child() -> None:
            failing.pop()
            fail("later")

        try:
            with task.group() as g:
                g.fork(child)
                cleans_up(lambda: (failing.push(1), time.sleep(1000)))
        except* ValueError:
            went_on.append("caught")
        went_on.append("on")

    t = task.fork(owner)
    settle()
    t.cancel()
    assert t.join(5000) == (None, "cancelled")
    assert went_on == []
    logs.expect("which was ended meanwhile:\n(.*\n)*.*ValueError: later")


def test_a_failure_after_a_cancel_that_the_block_has_swallowed_is_raised() -> None:
    def owner() -> None:
        failing = channel.new()

        def child() -> None:
            failing.pop()
            fail("later")

        with task.group() as g:
            g.fork(child)
            try:
                time.sleep(LONG)
            except task.Cancelled:
                pass
            time.sleep(0)
            failing.push(1)
            time.sleep(LONG)

    t = task.fork(owner)
    settle()
    t.cancel()
    with pytest.raises(ExceptionGroup) as caught:
        t.join(5000)
    assert texts(caught.value) == ["later"]


def test_a_failure_and_a_cancel_at_once_strike_one_after_the_other(logs: Logs) -> None:
    logs.allow("which was ended meanwhile:\n(.*\n)*.*ValueError: no")
    struck = []

    def owner() -> None:
        def child() -> None:
            time.sleep(1)
            t.cancel()
            fail()

        with task.group() as g:
            g.fork(child)
            for _ in range(2):
                try:
                    time.sleep(2000)
                except task.Cancelled as exc:
                    struck.append(type(exc).__name__)

    t = task.fork(owner)
    try:
        t.join(10_000)
    except ExceptionGroup:
        pass
    assert struck == ["Cancelled", "GroupBlow"]


def test_a_deadlock_of_tasks_that_outlive_their_cancel_ends_the_program() -> None:
    code = """
from silly import task
from silly.sync import channel

def deaf():
    while True:
        try:
            channel.new().pop()
        except task.Cancelled:
            print("outlived")

with task.{call} as g:
    {body}
"""
    for call, body in (("group()", "g.fork(deaf)"), ("map(lambda _: deaf(), [1], 1)", "next(g)")):
        done = run_python(code.format(call=call, body=body))
        assert done.returncode == 1
        assert done.stdout.count("outlived") <= 2
        assert 1 <= done.stderr.count("nothing can ever wake the tasks that are left") <= 5
