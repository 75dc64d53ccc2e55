"""``silly.sync.singleflight``: one call at a time for each key."""

from __future__ import annotations

import contextvars
import gc
import traceback
import weakref
from typing import Any

import pytest

import silly
from silly import task, time
from silly._core import scheduler
from silly.sync import channel, singleflight

from .children import Child
from .conftest import Logs
from .leaks import leaks_nothing
from .test_task import in_loop, in_thread, settle


class Bad(Exception):
    """What a call of these tests raises."""


class Odd(BaseException):
    """Another, which is no Exception."""


class Calls:
    """A function that waits until ``go`` gets what it is to return, or to raise."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.go = channel.new()

    def __call__(self, key: Any) -> Any:
        self.keys.append(key)
        (value,), _err = self.go.pop()
        if isinstance(value, BaseException):
            raise value
        return value

    def answer(self, value: Any) -> None:
        self.go.push((value,))


@pytest.fixture
def calls() -> Calls:
    return Calls()


def callers(sf: singleflight.SingleFlight[Any, Any], key: Any, count: int = 3) -> list[task.Task]:
    tasks = [task.fork(sf.call, key) for _ in range(count)]
    settle()
    return tasks


# ---- shared -------------------------------------------------------------------------------------------------------------


def test_a_call() -> None:
    sf = singleflight.new(lambda key: key * 2)
    assert sf.call(21) == 42
    assert sf.call("ab") == "abab"
    assert sf._flights == {}


def test_callers_share_one_call(calls: Calls) -> None:
    sf = singleflight.new(calls)
    waiting = callers(sf, "key")
    assert calls.keys == ["key"]
    assert task.inspect()[waiting[0]]["waits"] == "singleflight.call('key')"
    value = object()
    calls.answer(value)
    assert [t.join()[0] is value for t in waiting] == [True] * 3
    assert sf._flights == {}


@pytest.mark.parametrize("value", [None, (), (None, "err"), 0, False])
def test_any_result(calls: Calls, value: Any) -> None:
    sf = singleflight.new(calls)
    waiting = callers(sf, "key")
    calls.answer(value)
    assert [t.join() for t in waiting] == [(value, None)] * 3


def test_nothing_is_kept(calls: Calls) -> None:
    sf = singleflight.new(calls)
    for number in range(3):
        calls.answer(number)
        assert sf.call("key") == number
    assert calls.keys == ["key"] * 3


def test_keys_have_nothing_to_do_with_each_other(calls: Calls) -> None:
    sf = singleflight.new(lambda key: (time.sleep(1), key)[1])
    keys: list[Any] = ["a", "b", 1, ("a", 1), None]
    waiting = [task.fork(sf.call, key) for key in keys]
    assert [t.join()[0] for t in waiting] == keys
    other = singleflight.new(calls)
    waiting = callers(other, 1.0, 1) + callers(other, True, 1)
    assert calls.keys == [1.0], "keys that are equal are one key"
    calls.answer("x")
    assert [t.join()[0] for t in waiting] == ["x", "x"]


def test_a_dict_is_a_key_by_its_identity() -> None:
    """As a table is in Lua."""
    asked: list[Any] = []

    def ask(key: dict[str, str]) -> str:
        asked.append(key)
        time.sleep(1)
        return key["name"]

    sf = singleflight.new(ask)
    one, other = {"name": "x"}, {"name": "x"}
    waiting = callers(sf, one) + callers(sf, other)
    assert [t.join()[0] for t in waiting] == ["x"] * 6
    assert [each is one for each in asked] == [True, False]


def test_who_comes_while_the_callers_are_woken_begins_a_new_call(calls: Calls) -> None:
    sf = singleflight.new(calls)
    first = callers(sf, "key", 1)[0]
    calls.answer("one")
    calls.answer("two")
    later = task.fork(sf.call, "key")
    assert (later.join(), first.join()) == (("two", None), ("one", None))
    assert calls.keys == ["key"] * 2


def test_the_call_has_the_context_of_the_caller_that_began_it(calls: Calls) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")

    def look(key: str) -> str:
        time.sleep(1)
        value = var.get()
        var.set("changed")
        return value

    sf = singleflight.new(look)

    def caller(name: str) -> tuple[str, str]:
        var.set(name)
        return sf.call("key"), var.get()

    waiting = [task.fork(caller, name) for name in ("first", "second")]
    assert [t.join()[0] for t in waiting] == [("first", "first"), ("first", "second")]


# ---- errors -------------------------------------------------------------------------------------------------------------


def test_an_error_is_raised_in_each_caller(calls: Calls) -> None:
    sf = singleflight.new(calls)
    texts: list[str] = []

    def caller() -> None:
        try:
            sf.call("key")
        except Bad:
            texts.append(traceback.format_exc())

    waiting = [task.fork(caller) for _ in range(3)]
    settle()
    calls.answer(Bad("boom"))
    for t in waiting:
        t.join()
    assert len(texts) == 3
    for text in texts:
        # From the caller to the function, and nothing of the other callers.
        assert text.count("in caller\n") == text.count("in __call__\n") == text.count("Bad: boom") == 1
    assert sf._flights == {}


@pytest.mark.parametrize("kind", [KeyError, TimeoutError, Odd])
def test_errors_keep_their_type(calls: Calls, kind: type[BaseException]) -> None:
    sf = singleflight.new(calls)
    exc = kind("boom")
    calls.answer(exc)
    with pytest.raises(kind) as caught:
        sf.call("key")
    assert caught.value is exc


def test_the_context_of_an_error_is_its_own(calls: Calls) -> None:
    """And not that of another caller."""

    def fails(key: str) -> None:
        time.sleep(1)
        raise Bad

    sf = singleflight.new(fails)

    def in_an_except_block() -> None:
        try:
            raise KeyError
        except KeyError:
            with pytest.raises(Bad):
                sf.call("key")

    other = task.fork(in_an_except_block)
    settle()
    with pytest.raises(Bad) as caught:
        sf.call("key")
    assert caught.value.__context__ is None
    assert other.join() == (None, None)


def test_after_an_error_the_next_caller_tries_again(calls: Calls) -> None:
    sf = singleflight.new(calls)
    calls.answer(Bad())
    with pytest.raises(Bad):
        sf.call("key")
    calls.answer("well")
    assert sf.call("key") == "well"


def test_an_error_leaves_no_cycle() -> None:
    class Connection:
        pass

    gone: list[weakref.ref[Connection]] = []

    def fails(key: str) -> None:
        conn = Connection()
        gone.append(weakref.ref(conn))
        time.sleep(0)
        raise Bad

    sf = singleflight.new(fails)

    def caller() -> None:
        try:
            sf.call("key")
        except Bad:
            pass

    settle()
    gc.disable()
    try:
        waiting = [task.fork(caller) for _ in range(3)]
        for t in waiting:
            t.join()
        assert gone[0]() is None
    finally:
        gc.enable()


# ---- interrupted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1])
def test_a_cancelled_caller_leaves_and_the_others_get_the_result(calls: Calls, at: int) -> None:
    sf = singleflight.new(calls)
    waiting = callers(sf, "key")
    cancelled = waiting.pop(at)
    cancelled.cancel()
    assert cancelled.join() == (None, "cancelled")
    calls.answer("result")
    assert [t.join() for t in waiting] == [("result", None)] * 2
    assert calls.keys == ["key"]


def test_a_caller_whose_deadline_runs_out_leaves(calls: Calls) -> None:
    sf = singleflight.new(calls)
    with time.deadline(1), pytest.raises(TimeoutError, match=r"singleflight\.call\('key'\): the deadline of 1 ms ran out"):
        sf.call("key")
    second = callers(sf, "key", 1)[0]
    calls.answer("result")
    assert second.join() == ("result", None)
    assert calls.keys == ["key"]


def test_a_caller_that_is_cancelled_after_the_end_gets_the_result(calls: Calls) -> None:
    sf = singleflight.new(calls)
    caller = callers(sf, "key", 1)[0]
    calls.answer("result")
    while sf._flights:
        time.sleep(0)
    caller.cancel()
    assert caller.join() == ("result", None)


def test_the_call_goes_on_without_callers(calls: Calls, logs: Logs) -> None:
    """Its error is logged then."""
    sf = singleflight.new(calls)
    for answer in ("result", Bad("nobody gets it")):
        caller = callers(sf, "key", 1)[0]
        caller.cancel()
        caller.join()
        assert list(sf._flights) == ["key"]
        if isinstance(answer, Bad):
            logs.expect(r"ERROR exception in <task Calls\.__call__ RUN, forked at .*:[\s\S]*Bad: nobody gets it")
        calls.answer(answer)
        settle()
        assert sf._flights == {}
    assert logs.count() == 1


@pytest.mark.parametrize("started", [True, False])
def test_the_task_of_the_call_is_cancelled(calls: Calls, started: bool) -> None:
    sf = singleflight.new(calls)
    caller = task.fork(sf.call, "key")
    while "key" not in sf._flights:
        time.sleep(0)
    if started:
        settle()
    running = sf._flights["key"].task
    assert running is not None
    running.cancel()
    with pytest.raises(silly.Error, match=r"^singleflight\.call\('key'\): cancelled$"):
        caller.join()
    assert sf._flights == {}
    calls.answer("again")
    assert sf.call("key") == "again"


def test_a_function_that_calls_itself_for_its_key() -> None:
    def again(key: str) -> Any:
        return sf.call("a" if key == "b" else key)

    sf: singleflight.SingleFlight[str, Any] = singleflight.new(again)
    text = r"singleflight\.call\('a'\): the function would wait for its own result"
    for key in ("a", "b"):
        with pytest.raises(RuntimeError, match=text):
            sf.call(key)
    assert sf._flights == {}


# ---- elsewhere ----------------------------------------------------------------------------------------------------------


def test_at_the_end_of_the_process() -> None:
    """A call starts in a ``finally`` block too; when nothing waits any more, it ends the task."""
    script = """
import silly
from silly import task, time
from silly._core import ending
from silly.sync import singleflight
ending.plan, ending.FINALLY = ending.Plan(drain=0), 0.3
def slow(key):
    time.sleep(key)
    return key
sf = singleflight.new(slow)
def cleans():
    try:
        task.wait()
    finally:
        print("slept", sf.call(1))
        try:
            print("never", sf.call(60_000))
        finally:
            print("ends")
task.fork(cleans)
time.after(1, lambda: silly.exit(3))
silly.run()
"""
    with Child("-c", script) as child:
        assert [child.line(), child.line()] == ["slept 1", "ends"]
        assert (child.wait(), child.errors()) == (3, "")


def test_two_callers_that_find_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer may wait wherever memory is taken, so that another caller begins the call."""

    class Slow(singleflight._Flight):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            time.sleep(0)

    monkeypatch.setattr(singleflight, "_Flight", Slow)
    asked: list[str] = []

    def load(key: str) -> str:
        asked.append(key)
        time.sleep(1)
        return key

    sf = singleflight.new(load)
    callers = [task.fork(sf.call, "key") for _ in range(3)]
    assert [each.join(5_000) for each in callers] == [("key", None)] * 3
    assert asked == ["key"]


def test_a_call_that_ends_between_the_look_and_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = singleflight._Flight.wait

    def slow(flight: singleflight._Flight) -> Any:
        settle()
        return wait(flight)

    monkeypatch.setattr(singleflight._Flight, "wait", slow)
    sf = singleflight.new(lambda key: key)
    assert task.fork(sf.call, "key").join(5_000) == ("key", None)


def test_wrong_arguments(calls: Calls) -> None:
    with pytest.raises(TypeError, match=r"singleflight\.new needs a function, not str"):
        singleflight.new("load")  # type: ignore[arg-type]
    sf = singleflight.new(calls)
    with pytest.raises(TypeError, match="unhashable"):
        sf.call(["a", "list"])
    assert (sf._flights, calls.keys) == ({}, [])


def test_where_no_task_runs(calls: Calls) -> None:
    sf = singleflight.new(calls)
    for outcome in (in_thread(lambda: sf.call("key")), in_loop(lambda: sf.call("key"))):
        assert outcome[0] == "raised"
        assert isinstance(outcome[1], RuntimeError)
    with task.no_switch(), pytest.raises(RuntimeError, match="call: may wait"):
        sf.call("key")
    assert (sf._flights, calls.keys) == ({}, [])
    assert scheduler.tasks == {}


def test_nothing_is_left() -> None:
    sf = singleflight.new(lambda key: None)
    leaks_nothing(lambda: sf.call("key"))
    assert sf._flights == {}
