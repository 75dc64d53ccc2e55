"""``silly.time``: clocks, sleep, timers, deadlines."""

from __future__ import annotations

import contextvars
import re
import time as os_time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from silly import check, errno, task, time
from silly._core import callers, scheduler
from silly._wire.numbers import MOST_MS
from silly.net import http, tcp, websocket
from silly.sync import channel

from .conftest import Logs
from .net.support import monotonic
from .test_task import settle


def pop(chan: channel.Channel) -> Any:
    item, err = chan.pop()
    assert err is None
    return item


# ---- clocks -----------------------------------------------------------------------------------------------------


def test_now_is_the_system_s_clock_in_milliseconds() -> None:
    before = os_time.time()
    now = time.now()
    assert isinstance(now, int)
    assert before * 1000 - 1 <= now <= os_time.time() * 1000


def test_monotonic_is_in_milliseconds_and_never_goes_back() -> None:
    before = monotonic()
    times = [time.monotonic() for _ in range(1000)]
    assert times == sorted(times)
    assert all(isinstance(ms, int) for ms in times)
    assert before * 1000 - 1 <= times[0] <= times[-1] <= monotonic() * 1000


# ---- sleep ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [1, 5, 0.5, 2.5])
def test_sleep_lasts_at_least_as_long_as_asked(ms: float) -> None:
    start = os_time.monotonic()
    assert time.sleep(ms) is None
    assert os_time.monotonic() - start >= ms / 1000


def test_sleep_0_lets_every_ready_task_go_first_once() -> None:
    order: list[str] = []

    def body(name: str) -> None:
        for i in range(3):
            order.append(f"{name}{i}")
            time.sleep(0)

    for name in "ab":
        task.fork(body, name)
    time.sleep(0)
    order.append("main")
    settle()
    assert order == ["a0", "b0", "main", "a1", "b1", "a2", "b2"]


def test_sleep_0_lets_io_go_first_and_comes_back() -> None:
    turns = scheduler.loop.turns
    for _ in range(10):
        time.sleep(0)
    assert 9 <= scheduler.loop.turns - turns <= 11


def test_tasks_that_yield_for_ever_do_not_keep_io_and_timers_from_happening() -> None:
    going = True

    def spin() -> None:
        while going:
            time.sleep(0)

    spinner = task.fork(spin)
    chan = channel.new()
    time.after(1, chan.push, "timer")
    scheduler.loop.post(chan.push, "posted")
    assert {pop(chan), pop(chan)} == {"timer", "posted"}
    going = False
    settle()
    assert task.status(spinner) is None


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    order = channel.new()

    def body(ms: int) -> None:
        time.sleep(ms)
        order.push(ms)

    for ms in (9, 3, 6):
        task.fork(body, ms)
    assert [pop(order) for _ in range(3)] == [3, 6, 9]


# ---- after ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, None, "", False, ()])
def test_after_passes_the_arguments_as_given(value: Any) -> None:
    chan = channel.new()
    time.after(1, lambda *args, **kwargs: chan.push((args, kwargs)), value, 2, func=value, ms=4)
    assert pop(chan) == ((value, 2), {"func": value, "ms": 4})


def test_after_without_arguments_passes_none() -> None:
    chan = channel.new()
    time.after(1, lambda *args: chan.push(args))
    assert pop(chan) == ()


def test_a_timer_s_function_runs_in_a_task_of_its_own_and_may_block() -> None:
    chan = channel.new()
    main = task.running()

    def body() -> None:
        me = task.running()
        time.sleep(1)
        chan.push((me is not main, task.status(me)))

    time.after(1, body)
    assert pop(chan) == (True, "RUN")


def test_inspect_shows_where_a_timer_s_task_was_set() -> None:
    chan = channel.new()
    time.after(1, lambda: chan.push(task.inspect()[task.running()]["forked"]))
    file, _, line = pop(chan).rpartition(":")
    assert file == __file__
    code = test_inspect_shows_where_a_timer_s_task_was_set.__code__
    assert int(line) == code.co_firstlineno + 2


def test_timers_due_together_fire_in_the_order_they_were_set(monkeypatch: pytest.MonkeyPatch) -> None:
    order = channel.new()
    at = time._monotonic()
    monkeypatch.setattr(time, "_monotonic", lambda: at)  # it stands still, so they are due at the same time
    for i in range(20):
        time.after(1, order.push, i)
    assert [pop(order) for _ in range(20)] == list(range(20))


def test_a_timer_fires_once() -> None:
    fired: list[int] = []
    time.after(0, fired.append, 1)
    time.sleep(3)
    assert fired == [1]


def test_after_0_fires_soon_but_not_at_once() -> None:
    chan = channel.new()
    time.after(0, chan.push, "timer")
    assert len(chan) == 0
    assert pop(chan) == "timer"


def test_an_exception_in_a_timer_s_function_is_logged_and_ends_only_that_call(logs: Logs) -> None:
    logs.expect(r"ERROR exception in <task \S*boom RUN, forked at \S*test_time.py:\d+>:[\s\S]*ValueError: boom")
    chan = channel.new()

    def boom() -> None:
        raise ValueError("boom")

    time.after(1, boom)
    time.after(2, chan.push, "next")
    assert pop(chan) == "next"


def test_a_timer_may_be_very_far_off() -> None:
    timers = [time.after(ms, task.wait) for ms in (30 * 86_400_000, MOST_MS, float(MOST_MS))]
    time.sleep(1)
    assert [time.cancel(timer) for timer in timers] == [True] * 3


# ---- cancel -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [0, 1])
def test_a_cancelled_timer_does_not_fire(ms: int) -> None:
    fired: list[str] = []
    timer = time.after(ms, fired.append, "fired")
    assert time.cancel(timer) is True
    time.sleep(ms + 2)
    assert fired == []


def test_cancelling_twice() -> None:
    timer = time.after(60_000, task.wait)
    assert time.cancel(timer) is True
    assert time.cancel(timer) is False


def test_cancelling_a_timer_that_fired() -> None:
    chan = channel.new()
    timer = time.after(1, chan.push, "fired")
    assert pop(chan) == "fired"
    assert time.cancel(timer) is False


def test_cancelling_some_of_many() -> None:
    fired: list[int] = []
    timers = [time.after(0, fired.append, i) for i in range(10)]
    for timer in timers[::2]:
        time.cancel(timer)
    time.sleep(2)
    assert fired == [1, 3, 5, 7, 9]


def test_a_thousand_timers_set_and_cancelled() -> None:
    before = len(scheduler.loop.timers)
    timers = [time.after(10_000, task.wait) for _ in range(1000)]
    assert len(scheduler.loop.timers) == before + 1000
    assert all(time.cancel(timer) for timer in timers)
    assert len(scheduler.loop.timers) == before


def test_a_timer_cancelled_by_a_task_that_ran_in_the_same_turn_does_not_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Any] = []
    at = time._monotonic()
    monkeypatch.setattr(time, "_monotonic", lambda: at)  # it stands still, so they are due at the same time
    time.after(1, lambda: order.append(time.cancel(second)))
    second = time.after(1, order.append, "fired")
    third = channel.new()
    time.after(1, third.push, "third")
    assert pop(third) == "third"
    assert order == [True]


def test_a_timer_lets_go_of_its_arguments() -> None:
    class Data:
        alive = 0

        def __init__(self) -> None:
            Data.alive += 1

        def __del__(self) -> None:
            Data.alive -= 1

    chan = channel.new()
    cancelled = time.after(60_000, lambda data: None, Data())
    fired = time.after(1, lambda data: chan.push("fired"), Data())
    time.cancel(cancelled)
    assert pop(chan) == "fired"
    # Looked at in a later turn, and by no timer.
    scheduler.loop.post(lambda: chan.push(Data.alive))
    assert pop(chan) == 0
    assert (time.cancel(cancelled), time.cancel(fired)) == (False, False)


# ---- bad values -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sleep", "after"])
def call(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], object]]:
    before = len(scheduler.loop.timers)
    yield time.sleep if request.param == "sleep" else (lambda ms: time.after(ms, task.wait))
    assert len(scheduler.loop.timers) == before


@pytest.mark.parametrize("ms", [-1, -0.001, float("nan"), float("inf"), float("-inf"), 10**400, 1e300, MOST_MS + 1])
def test_an_invalid_time_raises_valueerror(call: Callable[[Any], object], ms: float) -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        call(ms)


@pytest.mark.parametrize("ms", [None, "1", b"1", [1], 1j, True])
def test_a_time_must_be_a_number(call: Callable[[Any], object], ms: Any) -> None:
    with pytest.raises(TypeError, match="milliseconds"):
        call(ms)


@pytest.mark.parametrize("func", [None, 1, "func"])
def test_after_refuses_a_non_callable(func: Any) -> None:
    with pytest.raises(TypeError, match="function"):
        time.after(1, func)


@pytest.mark.parametrize("timer", [None, 1, task.wait])
def test_cancel_refuses_other_objects_than_timers(timer: Any) -> None:
    with pytest.raises(TypeError, match=r"time\.after"):
        time.cancel(timer)


def test_a_timers_function_runs_in_the_context_that_set_it() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen = channel.new()

    def setter() -> None:
        variable.set("setter's")
        time.after(0, lambda: seen.push(variable.get()))
        variable.set("changed since")

    task.fork(setter)
    assert seen.pop() == ("setter's", None)


# ---- what was meant for the standard library's time -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ours"), [("time", "now"), ("time_ns", "now"), ("perf_counter", "monotonic"), ("monotonic_ns", "monotonic")]
)
def test_a_function_of_the_standard_library_s_time_says_which_is_ours(name: str, ours: str) -> None:
    text = (
        f"module 'silly.time' has no attribute '{name}': it is not the standard library's; "
        f"use time.{ours}(), in milliseconds, or import time as clock, and write clock.{name}"
    )
    with pytest.raises(AttributeError, match=f"^{re.escape(text)}$"):
        getattr(time, name)
    assert hasattr(time, ours)
    assert not hasattr(time, name)


def test_every_other_name_of_the_standard_library_s_time_says_whose_it_is() -> None:
    others = [name for name in dir(os_time) if not name.startswith("_") and name not in time._OURS and name not in time.__all__]
    assert {"strftime", "gmtime", "localtime", "struct_time", "process_time"} <= set(others)
    for name in others:
        with pytest.raises(AttributeError) as caught:
            getattr(time, name)
        assert str(caught.value) == (
            f"module 'silly.time' has no attribute '{name}': it is not the standard library's; "
            f"import time as clock, and write clock.{name}"
        )


@pytest.mark.parametrize("name", ["sleeep", "__path__", "_STRUCT_TM_ITEMS", "zzz"])
def test_a_name_that_no_module_has_is_python_s_plain_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"^module 'silly.time' has no attribute '{name}'$"):
        getattr(time, name)


WARNING = r"^WARNING {}: {} at \S*test_time\.py:\d+ is {} ms: every time is in milliseconds, and {} s is {}$"


@pytest.fixture(autouse=True)
def untold() -> None:
    """Each test's places in the code are new ones."""
    callers._short.clear()


def test_a_sleep_of_half_a_second_that_was_ported_is_told_once(logs: Logs) -> None:
    logs.expect(WARNING.format(r"time\.sleep", 0.5, 0.5, 0.5, 500))
    for _ in range(3):
        time.sleep(0.5)
    assert len(logs.lines) == 1


SHORT: dict[str, Callable[[Any], object]] = {
    "time.sleep": lambda conn: time.sleep(0.25),
    "time.after": lambda conn: time.cancel(time.after(0.25, task.wait)),
    "time.deadline": lambda conn: time.deadline(0.25),
    "conn.read": lambda conn: conn.read(1, 0.25),
    "conn.read of a line": lambda conn: conn.read("\n", timeout=0.25),
    "tcp.connect": lambda conn: tcp.connect("127.0.0.1:1", timeout=0.25),
    "websocket.connect": lambda conn: websocket.connect("ws://127.0.0.1:1/", timeout=0.25),
    "http.newclient": lambda conn: http.newclient(read_timeout=0.25),
    "http.get": lambda conn: http.get("http://127.0.0.1:1/", timeout=0.25),
}


@pytest.fixture
def conn() -> Iterator[Any]:
    """A connection whose peer says nothing."""
    with check(tcp.listen("127.0.0.1:0", lambda conn: conn.read(1))) as listener, check(tcp.connect(listener.addr)) as conn:
        yield conn


@pytest.mark.parametrize("name", SHORT)
def test_every_time_that_stands_in_the_code_and_is_less_than_1_ms_is_told(name: str, conn: Any, logs: Logs) -> None:
    logs.expect(WARNING.format(re.escape(name.partition(" ")[0]), 0.25, 0.25, 0.25, 250))
    for _ in range(2):
        SHORT[name](conn)
    assert len(logs.lines) == 1


def test_a_setting_of_less_than_1_ms_that_comes_again_and_again_is_told(logs: Logs) -> None:
    interval = float("0.125")
    logs.expect(WARNING.format(r"time\.sleep", 0.125, 0.125, 0.125, 125))
    for _ in range(20):
        time.sleep(interval)
    assert len(logs.lines) == 1


def test_the_rest_of_a_time_may_be_short(conn: Any, logs: Logs) -> None:
    """No false alarm for what was computed, nor for 0, for 1, or for fractions above."""
    for i in range(50):
        time.sleep((i + 1) / 64)
        conn.read(1, (i + 1) / 64)
    for ms in (0, 1, 1.5):
        time.sleep(ms)
        conn.read(1, ms)
    assert logs.lines == []


class Array(float):
    """Compares as the numbers of numpy do, with what looks like an array: by element."""

    def __eq__(self, other: object) -> bool:
        if isinstance(other, tuple):
            raise ValueError("The truth value of an array with more than one element is ambiguous")
        return float(self) == other

    __hash__ = float.__hash__


@pytest.mark.parametrize("ms", [Array(0.25), Fraction(1, 4)])
def test_a_short_time_of_another_library_s_type(ms: Any, conn: Any, logs: Logs) -> None:
    logs.expect(WARNING.format(r"conn\.read", "0.25", "0.25", "0.25", 250))
    for _ in range(20):
        assert conn.read(1, ms) == (None, errno.TIMEDOUT), ("a constant", "to compare with")


def test_what_is_remembered_of_a_program_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_SHORT", 3)
    for i in range(10):
        exec(compile("\n" * i + "time.sleep(1 / ms)", "program.py", "exec"), {"time": time, "ms": 64 + i})
    assert len(callers._short) == 3
