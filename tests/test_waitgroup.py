"""``silly.sync.waitgroup``: waiting for a number of tasks."""

from __future__ import annotations

import contextvars
import gc
import weakref
from typing import Any

import pytest

from silly import errno, task, time
from silly._core import scheduler
from silly._core.waiting import Leaving, Waiters
from silly.sync import channel, waitgroup

from .children import Child
from .conftest import Logs
from .leaks import leaks_nothing
from .test_task import in_loop, in_thread, settle

pytestmark = pytest.mark.usefixtures("virtual")

OK = (True, None)


class Bad(Exception):
    """What a task of these tests raises."""


def boom(text: str = "boom") -> None:
    raise Bad(text)


def test_wait_returns_when_all_have_ended() -> None:
    wg = waitgroup.new()
    ended: list[int] = []

    def body(number: int) -> None:
        time.sleep(number)
        ended.append(number)

    for number in (3, 1, 2):
        wg.fork(body, number)
    assert wg.count == 3
    assert wg.wait() == OK
    assert sorted(ended) == [1, 2, 3]
    assert wg.count == 0


def test_an_empty_group_does_not_wait() -> None:
    with time.deadline(0):
        assert waitgroup.new().wait() == OK


def test_arguments_and_results() -> None:
    wg = waitgroup.new()
    t = wg.fork(lambda *args, **kwargs: (args, kwargs), 1, None, func=2, self=3)
    assert t.join() == (((1, None), {"func": 2, "self": 3}), None)
    assert t.name() == "finished"
    named = wg.fork(settle)
    assert named.name() == "settle"
    assert named.origin().startswith(__file__)
    assert wg.wait() == OK


def test_context_variables_follow() -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
    var.set("the forker's")
    wg = waitgroup.new()
    assert wg.fork(var.get).join() == ("the forker's", None)


def test_any_number_of_tasks_may_wait() -> None:
    wg = waitgroup.new()
    go = channel.new()
    wg.fork(go.pop)
    order: list[int] = []
    waiting = [task.fork(lambda number=number: (wg.wait(), order.append(number))[0]) for number in range(5)]
    settle()
    assert order == []
    go.push(True)
    assert [t.join() for t in waiting] == [(OK, None)] * 5
    assert order == [0, 1, 2, 3, 4]


def test_tasks_that_are_forked_meanwhile_are_waited_for() -> None:
    wg = waitgroup.new()
    ended: list[str] = []

    def second() -> None:
        time.sleep(1)
        ended.append("second")

    def first() -> None:
        wg.fork(second)
        ended.append("first")

    wg.fork(first)
    assert wg.wait() == OK
    assert ended == ["first", "second"]


def test_a_group_can_be_used_again() -> None:
    wg = waitgroup.new()
    for _ in range(3):
        wg.fork(time.sleep, 1)
        assert wg.wait() == OK


# ---- errors -------------------------------------------------------------------------------------------------------------


def test_errors_are_logged_and_kept_and_wait_returns(logs: Logs) -> None:
    logs.expect(r"ERROR exception in <task boom RUN, forked at .*test_waitgroup\.py:\d+>:")
    wg = waitgroup.new()
    wg.fork(boom, "one")
    wg.fork(time.sleep, 1)
    wg.fork(boom, "two")
    assert wg.wait() == OK
    assert [(type(exc), str(exc)) for exc in wg.errors] == [(Bad, "one"), (Bad, "two")]
    assert logs.count() == 2
    wg.errors.clear()
    assert wg.errors == []


def test_the_hook_for_errors_may_wait(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.expect("Bad: boom")
    told: list[Any] = []

    def report(failed: task.Task, exc: BaseException) -> None:
        time.sleep(1)
        told.append((failed, exc))

    monkeypatch.setattr(scheduler, "_on_error", report)
    wg = waitgroup.new()
    t = wg.fork(boom)
    assert wg.wait() == OK
    assert told == [(t, wg.errors[0])]


def test_a_join_gets_the_error_too() -> None:
    wg = waitgroup.new()
    t = wg.fork(boom)
    with pytest.raises(Bad):
        t.join()
    assert [type(exc) for exc in wg.errors] == [Bad]
    assert wg.wait() == OK


def test_only_so_many_errors_are_kept(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.allow("Bad")
    monkeypatch.setattr(waitgroup, "ERRORS", 3)
    wg = waitgroup.new()
    for number in range(5):
        wg.fork(boom, str(number))
    assert wg.wait() == OK
    assert [str(exc) for exc in wg.errors] == ["0", "1", "2"]


def test_an_error_keeps_no_variables(logs: Logs) -> None:
    """A failed handler's connection is closed though the group keeps the exception."""
    logs.expect("Bad")

    class Connection:
        pass

    gone: list[weakref.ref[Connection]] = []

    def fails() -> None:
        conn = Connection()
        gone.append(weakref.ref(conn))
        boom()

    gc.disable()
    try:
        wg = waitgroup.new()
        wg.fork(fails)
        assert wg.wait() == OK
        assert wg.errors
        assert gone[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("started", [True, False])
def test_a_cancelled_task_is_no_error(started: bool) -> None:
    wg = waitgroup.new()
    t = wg.fork(task.wait)
    if started:
        settle()
    assert t.cancel()
    assert wg.wait() == OK
    assert (t.join(), wg.errors, wg.count) == ((None, "cancelled"), [], 0)


# ---- interrupted --------------------------------------------------------------------------------------------------------


def test_a_time_out_and_a_deadline() -> None:
    wg = waitgroup.new()
    go = channel.new()
    t = wg.fork(go.pop)
    assert wg.wait(1) == (False, "waitgroup.wait: the time-out of 1 ms ran out")
    assert wg.wait(0) == (False, "waitgroup.wait: the time-out of 0 ms ran out")
    with time.deadline(1):
        assert wg.wait() == (False, "waitgroup.wait: the deadline of 1 ms ran out")
    assert not t.done
    go.push(True)
    assert wg.wait(10_000) == OK
    with time.deadline(0):
        assert wg.wait(0) == OK


def test_a_cancelled_waiter_leaves() -> None:
    wg = waitgroup.new()
    go = channel.new()
    wg.fork(go.pop)
    one, other = task.fork(wg.wait), task.fork(wg.wait)
    settle()
    one.cancel()
    assert one.join() == (None, "cancelled")
    go.push(True)
    assert other.join() == (OK, None)


def test_a_waiter_that_is_cancelled_after_it_was_woken_returns() -> None:
    wg = waitgroup.new()
    go = channel.new()
    wg.fork(go.pop)
    waiter = task.fork(wg.wait)
    settle()
    go.push(True)
    while wg.count:
        time.sleep(0)
    waiter.cancel()
    assert waiter.join() == (OK, None)


def test_the_last_task_ends_between_the_look_and_the_wait() -> None:
    """It does not, but a signal handler could do as much."""
    wg = waitgroup.new()
    members = wg._members

    class Late(Waiters[None]):
        def wait(self, *args: Any) -> None:
            members.count = 0
            return super().wait(*args)

    members.count, members.waiters = 1, Late()
    assert wg.wait(10_000) == OK


def test_nothing_waits_when_the_process_has_ended() -> None:
    wg = waitgroup.new()
    go = channel.new()
    wg.fork(go.pop)
    got: list[Any] = []
    waiter = task.fork(lambda: got.append(wg.wait()))
    settle()
    scheduler.loop.post(scheduler.throw, waiter, Leaving())
    waiter.join()
    assert got == [(False, errno.CLOSED)]
    go.push(True)
    assert wg.wait() == OK


def test_a_task_that_is_forked_too_late() -> None:
    script = """
import silly
from silly import task, time
from silly.sync import waitgroup
def main():
    wg = waitgroup.new()
    try:
        task.wait()
    finally:
        wg.fork(print, "never")
        print(wg.count, wg.wait())
task.fork(main)
time.after(1, silly.exit)
silly.run()
"""
    with Child("-c", script) as child:
        assert child.line() == "0 Result(True, None)"
        assert child.wait() == 0
        assert "was not started: the process is ending" in child.errors()


# ---- mistakes -----------------------------------------------------------------------------------------------------------


def test_a_task_of_the_group_would_wait_for_itself() -> None:
    wg = waitgroup.new()
    t = wg.fork(wg.wait)
    with pytest.raises(RuntimeError, match=r"waitgroup\.wait: a task of the group would wait for its own end"):
        t.join()
    other = waitgroup.new()
    assert wg.fork(other.wait).join() == (OK, None)
    assert wg.wait() == OK


def test_wrong_arguments() -> None:
    wg = waitgroup.new()
    with pytest.raises(TypeError, match=r"wg\.fork needs a function, not str"):
        wg.fork("main")  # type: ignore[arg-type]
    for wrong in (-1, 1e20, float("nan")):
        with pytest.raises(ValueError, match=r"waitgroup\.wait: the time-out is in milliseconds"):
            wg.wait(wrong)
    with pytest.raises(TypeError, match="milliseconds"):
        wg.wait("1")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        wg.count = 3  # type: ignore[misc]
    assert wg.count == 0


def test_where_no_task_runs() -> None:
    wg = waitgroup.new()
    for outcome in (in_thread(lambda: wg.fork(settle)), in_thread(wg.wait), in_loop(wg.wait)):
        assert outcome[0] == "raised"
        assert isinstance(outcome[1], RuntimeError)
    assert wg.count == 0


def test_no_switch() -> None:
    wg = waitgroup.new()
    with task.no_switch():
        wg.fork(settle)
        with pytest.raises(RuntimeError, match="wait: may wait"):
            wg.wait()
    assert wg.wait() == OK


def test_nothing_is_left() -> None:
    wg = waitgroup.new()

    def run() -> None:
        wg.fork(int)
        wg.wait()

    leaks_nothing(run)


def test_its_tasks_are_whole_in_a_program_that_never_imports_task() -> None:
    script = """
from silly.sync import waitgroup
wg = waitgroup.new()
print(wg.fork(lambda: 42).join(), wg.fork(print).cancel(), wg.wait()[0])
"""
    with Child("-c", script) as child:
        assert child.line() == "(42, None) True True"
        assert child.wait() == 0
