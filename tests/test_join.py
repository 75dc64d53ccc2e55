"""``Task.join``: results, errors, time-outs, and that it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import gc
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import errno, task, time
from silly._core import deadline, joining, scheduler, waiting
from silly._core.waiting import Waiters
from silly.net import tcp

from .conftest import Logs
from .leaks import leaks_nothing
from .test_task import in_loop, in_thread, settle


class Bad(Exception):
    """What a task of these tests raises."""


def boom(exc: BaseException | None = None) -> None:
    raise exc or Bad("boom")


def outcome(func: Callable[[], Any]) -> Any:
    try:
        return func()
    except BaseException as exc:
        return type(exc)


class Waits:
    """Its finalizer waits."""

    def __init__(self) -> None:
        self.waited: list[bool] = []

    def __call__(self, *args: object) -> int:
        return 42

    def __del__(self) -> None:
        time.sleep(0)
        self.waited.append(True)


# ---- results ----------------------------------------------------------------------------------------------------


def test_join_waits_and_returns_the_result() -> None:
    t = task.fork(lambda a, b: time.sleep(1) or a + b, 2, b=3)
    assert not t.done
    assert t.join() == (5, None)
    assert t.done


def test_join_of_a_finished_task_returns_at_once() -> None:
    t = task.fork(lambda: "value")
    settle()
    assert t.done
    with time.deadline(0):
        assert t.join() == ("value", None)
        assert t.join(0) == ("value", None)


@pytest.mark.parametrize("value", [None, 0, "", (None, "err"), (False, "err")])
def test_a_result_is_returned_as_it_is(value: Any, logs: Logs) -> None:
    waits = task.fork(lambda: value)
    assert waits.join() == (value, None)
    late = task.fork(lambda: value)
    settle()
    assert late.join() == (value, None)


def test_a_result_that_is_joined_is_no_mistake(logs: Logs) -> None:
    value, _ = task.fork(lambda: (each for each in "abc")).join()
    assert list(value) == ["a", "b", "c"]


def test_a_value_that_an_interrupted_wait_left_is_no_result() -> None:
    def body() -> None:
        try:
            task.wait()
        except GreenletExit:
            pass

    t = task.fork(body)
    settle()
    task.wakeup(t, "left")
    scheduler._ready.remove(t)
    scheduler.loop.post(scheduler.throw, t, GreenletExit())
    assert t.join() == (None, None)


def test_finalizers_of_what_the_task_held_may_wait() -> None:
    func, arg = Waits(), Waits()
    waited = func.waited, arg.waited
    t = task.fork(func, arg)
    del func, arg
    assert t.join() == (42, None)
    assert t.done
    assert waited == ([True], [True])


def test_a_task_that_ends_between_the_look_and_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer may wait wherever memory is taken."""

    def slow() -> Waiters[None]:
        settle()
        return Waiters()

    monkeypatch.setattr(joining, "Waiters", slow)
    assert task.fork(lambda: 42).join(5_000) == (42, None)


def test_a_task_that_ends_before_the_time_out_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(deadline.Timeout):
        def __enter__(self) -> deadline.Deadline:
            task.fork(lambda: None)
            settle()
            return super().__enter__()

    monkeypatch.setattr(waiting, "Timeout", Slow)

    def body() -> int:
        time.sleep(0)
        return 42

    assert task.fork(body).join(5_000) == (42, None)


def test_every_joiner_gets_the_result_in_its_order() -> None:
    t = task.fork(lambda: time.sleep(1) or "value")
    got: list[Any] = []
    joiners = [task.fork(lambda i=i: got.append((i, t.join()))) for i in range(5)]
    for each in joiners:
        assert each.join() == (None, None)
    assert got == [(i, ("value", None)) for i in range(5)]


# ---- errors -----------------------------------------------------------------------------------------------------


def test_an_exception_is_raised_in_the_joiner_and_not_logged(logs: Logs) -> None:
    t = task.fork(boom)
    with pytest.raises(Bad) as caught:
        t.join()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "boom"
    assert "_worker" not in names


def test_an_exception_that_nobody_waits_for_is_logged_and_raised_later_too(logs: Logs) -> None:
    t = task.fork(boom)
    settle()
    logs.expect("Bad: boom")
    for _ in range(2):
        with pytest.raises(Bad) as caught:
            t.join()
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names.count("boom") == 1
        assert names.count("_join") == 1


def test_every_joiner_raises_the_exception_itself(logs: Logs) -> None:
    exc = Bad("mine")
    t = task.fork(lambda: time.sleep(1) or boom(exc))
    got: list[BaseException] = []

    def join() -> None:
        try:
            t.join()
        except Bad as own:
            got.append(own)

    for each in [task.fork(join) for _ in range(3)]:
        each.join()
    assert [each is exc for each in got] == [True] * 3


def test_the_hook_for_errors_sees_only_what_nobody_waits_for(logs: Logs) -> None:
    seen: list[BaseException] = []
    task.onerror(lambda _, exc: seen.append(exc))
    try:
        assert outcome(task.fork(boom).join) is Bad
        assert seen == []
        t = task.fork(boom)
        settle()
        logs.expect("Bad: boom")
        assert len(seen) == 1
        assert outcome(t.join) is Bad
    finally:
        task.onerror(None)


@pytest.mark.parametrize("exc", [GreenletExit, task.Cancelled])
def test_an_end_counts_as_cancelled(exc: type[BaseException]) -> None:
    assert task.fork(boom, exc()).join() == (None, "cancelled")


def test_the_context_of_a_joiner_is_no_part_of_the_exception(logs: Logs) -> None:
    t = task.fork(boom)
    try:
        raise KeyError("context")
    except KeyError:
        with pytest.raises(Bad) as caught:
            t.join()
    assert isinstance(caught.value.__context__, KeyError)
    time.sleep(1)
    assert caught.value.__context__ is None


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Lets nothing be set."""

    number: int


def test_an_exception_that_lets_nothing_be_set(logs: Logs) -> None:
    t = task.fork(boom, Frozen(1))
    for _ in range(2):
        with pytest.raises(Frozen):
            t.join()
        time.sleep(1)
    with pytest.raises(ExceptionGroup) as caught, task.group() as g:
        g.fork(boom, Frozen(1))
    assert caught.value.exceptions == (Frozen(1),)
    with pytest.raises(Frozen):
        list(task.map(boom, [Frozen(1)], 1))
    assert logs.lines == []



def test_a_failed_task_that_its_own_code_holds_is_in_no_cycle(logs: Logs) -> None:
    class Session:
        def __init__(self) -> None:
            self.task = task.fork(self.run)

        def run(self) -> None:
            raise Bad

    gc.collect()
    gc.disable()
    try:
        session = Session()
        gone = weakref.ref(session)
        with pytest.raises(Bad):
            session.task.join()
        time.sleep(1)  # the cycle is cut in the next turn
        del session
        assert gone() is None
    finally:
        gc.enable()


def test_joins_of_failed_tasks_hold_no_timer_up() -> None:
    fired: list[bool] = []
    time.after(1, fired.append, True)
    for _ in range(5_000):
        if fired:
            break
        with pytest.raises(Bad):
            task.fork(boom).join()
    assert fired


def test_a_failed_task_is_in_no_cycle(logs: Logs) -> None:
    """A joiner that holds the task in a variable, and what the task held, go by their counts."""

    class Held:
        pass

    gone: list[Any] = []

    def fails() -> None:
        held = Held()
        gone.append(weakref.ref(held))
        raise Bad

    def join() -> None:
        own = Held()
        gone.append(weakref.ref(own))
        t = task.fork(fails)
        gone.append(weakref.ref(t))
        try:
            t.join()
        except Bad:
            pass

    gc.collect()
    gc.disable()
    try:
        task.fork(join).join()
        time.sleep(1)  # the cycle is cut in the next turn
        assert [each() for each in gone] == [None] * 3
    finally:
        gc.enable()


def test_a_failed_handler_s_connection_closes_though_its_task_is_held(logs: Logs) -> None:
    held: list[task.Task[Any]] = []

    def handler(conn: Any) -> None:
        held.append(task.running())
        raise Bad

    listener = tcp.listen(addr="127.0.0.1:0", accept=handler)[0]
    assert listener is not None
    with listener:
        conn, err = tcp.connect(f"127.0.0.1:{listener.port}")
        assert conn is not None, err
        assert conn.read(1, 5000) == (None, errno.EOF)
        assert outcome(held[0].join) is Bad
    logs.expect("Bad")


# ---- time-outs and ends -----------------------------------------------------------------------------------------


def test_a_join_that_times_out_leaves_the_task_alone() -> None:
    t = task.fork(task.wait)
    assert t.join(1) == (None, "task.join: the time-out of 1 ms ran out")
    with time.deadline(1):
        assert t.join() == (None, "task.join: the deadline of 1 ms ran out")
        assert t.join(60_000) == (None, "task.join: the deadline of 1 ms ran out")
    with time.deadline(60_000):
        assert t.join(0) == (None, "task.join: the time-out of 0 ms ran out")
    task.wakeup(t, "value")
    assert t.join(60_000) == ("value", None)
    assert len(t._joiners or ()) == 0


def test_a_cancelled_joiner_leaves_and_the_task_goes_on() -> None:
    t = task.fork(task.wait)
    joiner = task.fork(t.join)
    settle()
    assert joiner.cancel()
    assert joiner.join() == (None, "cancelled")
    task.wakeup(t, "value")
    assert t.join() == ("value", None)


def test_join_does_not_raise_the_other_s_cancel() -> None:
    t = task.fork(task.wait)
    joiner = task.fork(t.join)
    settle()
    t.cancel()
    assert joiner.join() == ((None, "cancelled"), None)


# ---- mistakes ---------------------------------------------------------------------------------------------------


def test_a_task_can_t_join_itself() -> None:
    def body() -> None:
        task.running().join()

    with pytest.raises(RuntimeError, match="itself"):
        task.fork(body).join()


def test_the_main_program_can_t_be_joined_or_cancelled() -> None:
    main = task.running()

    def join() -> None:
        main.join()

    with pytest.raises(ValueError, match="main program"):
        task.fork(join).join()
    with pytest.raises(ValueError, match="main program"):
        main.cancel()
    with pytest.raises(ValueError, match="main program"):
        main.join()


@pytest.mark.parametrize("timeout", [-1, float("nan"), 1e300])
def test_a_wrong_time_out(timeout: float) -> None:
    t = task.fork(task.wait)
    settle()
    with pytest.raises(ValueError, match=r"task\.join: the time-out"):
        t.join(timeout)
    with pytest.raises(TypeError, match=r"task\.join: the time-out"):
        t.join("1")  # type: ignore[arg-type]
    t.cancel()
    t.join()


def test_join_where_no_task_can_wait() -> None:
    t = task.fork(task.wait)
    settle()
    kind, exc = in_thread(t.join)
    assert kind == "raised"
    assert "another thread" in str(exc)
    kind, exc = in_loop(t.join)
    assert kind == "raised"
    assert "callback of the loop" in str(exc)
    t.cancel()
    t.join()


def test_what_a_keeper_hears() -> None:
    """A group, a map or a thread job is told of the end before the joiners go on, and errors are its own."""
    heard: list[Any] = []

    class Keeper:
        def ended(self, child: task.Task[Any]) -> None:
            heard.append((child._value, child._failure and type(child._failure.exc), child._cancelled, child.done))

    def start(func: Callable[[], Any]) -> task.Task[Any]:
        t = task.fork(func)
        t._keeper = Keeper()
        return t

    start(lambda: "value").join()
    start(boom)
    late = start(task.wait)
    never = start(task.wait)
    never.cancel()
    settle()
    late.cancel()
    late.join()
    never.join()
    assert heard == [("value", None, False, True), (None, Bad, False, True), (None, None, True, True), (None, None, True, True)]


def test_fork_and_join_leave_nothing_behind() -> None:
    def one() -> None:
        task.fork(lambda: "value").join()

    leaks_nothing(one)
