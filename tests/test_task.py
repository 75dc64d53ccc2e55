"""``silly.task``: fork, wait, wakeup, inspect and the hooks."""

from __future__ import annotations

import contextvars
import functools
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import greenlet
import pytest

import silly
from silly import task, time
from silly._core import scheduler
from silly._core.timers import Timer
from silly.net import tcp
from silly.sync import channel

from .conftest import Logs

HERE = __file__


def settle() -> None:
    """Lets everything that is ready run."""
    while task.readycount():
        time.sleep(0)


def started(func: Any, *args: Any) -> task.Task[Any]:
    """A task that has run until it waits, or ends."""
    t = task.fork(func, *args)
    settle()
    return t


def in_loop(func: Callable[[], object]) -> Any:
    """What ``func()`` returns or raises in a callback of the loop."""
    chan = channel.new()

    def callback() -> None:
        try:
            chan.push(("returned", func()))
        except Exception as exc:
            chan.push(("raised", exc))

    scheduler.loop.post(callback)
    return chan.pop()[0]


def in_thread(func: Callable[[], object]) -> Any:
    """The same in another thread."""
    outcome: list[Any] = []

    def body() -> None:
        try:
            outcome.append(("returned", func()))
        except Exception as exc:
            outcome.append(("raised", exc))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return outcome[0]


# ---- fork -------------------------------------------------------------------------------------------------------


def test_fork_goes_on_and_the_task_runs_later() -> None:
    ran: list[str] = []
    task.fork(lambda: ran.append("task"))
    ran.append("caller")
    settle()
    assert ran == ["caller", "task"]


def test_forked_tasks_run_in_the_order_of_forking_and_later_ones_go_to_the_tail() -> None:
    order: list[Any] = []

    def parent(name: str) -> None:
        order.append(name)
        task.fork(lambda: order.append(f"child of {name}"))

    for name in "abc":
        task.fork(parent, name)
    settle()
    assert order == ["a", "b", "c", "child of a", "child of b", "child of c"]


def test_fork_and_wakeup_share_one_queue() -> None:
    order: list[str] = []

    def waiter() -> None:
        order.append(task.wait())

    one, two = task.fork(waiter), task.fork(waiter)
    settle()
    task.fork(order.append, "forked 1")
    task.wakeup(two, "woken 2")
    task.fork(order.append, "forked 2")
    task.wakeup(one, "woken 1")
    settle()
    assert order == ["forked 1", "woken 2", "forked 2", "woken 1"]


@pytest.mark.parametrize("value", [0, None, "", False, (), [], b"", "x", {"a": 1}])
def test_a_function_gets_the_arguments_as_given(value: Any) -> None:
    got: list[Any] = []
    task.fork(lambda *args, **kwargs: got.extend((args, kwargs)), value, 2, func=value, userdata=3)
    settle()
    assert got == [(value, 2), {"func": value, "userdata": 3}]
    assert got[0][0] is value


def test_a_function_without_arguments_gets_none() -> None:
    got: list[Any] = []
    task.fork(lambda *args: got.append(args))
    settle()
    assert got == [()]


def test_fork_as_a_decorator() -> None:
    ran: list[str] = []

    @task.fork
    def main() -> None:
        ran.append("main")

    assert isinstance(main, task.Task)
    assert task.status(main) == "READY"
    settle()
    assert ran == ["main"]


@pytest.mark.parametrize("what", [None, 5, "main", []])
def test_fork_refuses_a_non_callable(what: Any) -> None:
    with pytest.raises(TypeError, match="function"):
        task.fork(what)
    assert task.readycount() == 0


def test_anything_callable_can_be_forked_and_named() -> None:
    class Callable_:
        def __call__(self) -> None:
            task.wait()

        def method(self) -> None:
            task.wait()

    one = Callable_()
    tasks = [task.fork(one), task.fork(one.method), task.fork(functools.partial(task.wait)), task.fork(task.wait)]
    names = [task.inspect()[t]["name"] for t in tasks]
    settle()
    assert "Callable_" in names[0]
    assert names[1].endswith("Callable_.method")
    assert "partial" in names[2]
    assert names[3] == "wait"
    for t in tasks:
        task.wakeup(t)
    settle()


def test_a_finished_task_lets_go_of_its_function_and_arguments() -> None:
    class Big:
        def __call__(self, *args: object, **kwargs: object) -> None:
            pass

    func = Big()
    gone = weakref.ref(func)
    done = task.fork(func, func, func=func)
    del func
    settle()
    gc.collect()
    assert gone() is None
    assert task.status(done) is None


# ---- status, running, readycount --------------------------------------------------------------------------------


def test_the_states_of_a_task() -> None:
    seen: list[str | None] = []

    def body() -> None:
        seen.append(task.status(me))
        task.wait()
        seen.append(task.status(me))
        time.sleep(1)
        seen.append(task.status(me))

    me = task.fork(body)
    assert task.status(me) == "READY"
    settle()
    assert task.status(me) == "WAIT"
    task.wakeup(me)
    assert task.status(me) == "READY"
    settle()
    assert task.status(me) == "SLEEP"
    while task.status(me) is not None:
        time.sleep(1)
    assert seen == ["RUN", "RUN", "RUN"]


def test_a_task_in_sleep_0_is_ready() -> None:
    me = task.fork(functools.partial(time.sleep, 0))
    seen: list[str | None] = []
    task.fork(lambda: seen.append(task.status(me)))
    settle()
    assert seen == ["READY"]


def test_status_refuses_other_objects_than_tasks() -> None:
    with pytest.raises(TypeError, match="task"):
        task.status(greenlet.getcurrent())  # type: ignore[arg-type]


def test_running_is_the_caller() -> None:
    got: list[task.Task] = []
    me = task.fork(lambda: got.append(task.running()))
    settle()
    assert got == [me]


def test_the_main_program_is_a_task_too() -> None:
    main = task.running()
    assert task.running() is main
    assert task.status(main) == "RUN"
    task.fork(lambda: task.wakeup(main, "hello"))
    assert task.wait() == "hello"
    assert "main" in repr(main)


def test_readycount() -> None:
    assert task.readycount() == 0
    tasks = [task.fork(task.wait) for _ in range(5)]
    assert task.readycount() == 5
    settle()
    assert task.readycount() == 0
    for t in tasks:
        task.wakeup(t)
    assert task.readycount() == 5
    settle()
    assert [task.status(t) for t in tasks] == [None] * 5


# ---- wait and wakeup --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", False, (), "hello", 42, True, {"a": 1}, task.wait])
def test_wait_returns_the_value_of_wakeup(value: Any) -> None:
    got: list[Any] = []
    me = task.fork(lambda: got.append(task.wait()))
    settle()
    assert task.wakeup(me, value) is None
    settle()
    assert got[0] is value


def test_an_exception_given_to_wakeup_is_a_value() -> None:
    got: list[Any] = []
    me = task.fork(lambda: got.append(task.wait()))
    settle()
    exc = ValueError("not raised")
    task.wakeup(me, exc)
    settle()
    assert got == [exc]


def test_waiting_again_and_again() -> None:
    got: list[Any] = []

    def body() -> None:
        got.extend(task.wait() for _ in range(3))

    me = task.fork(body)
    for value in "abc":
        settle()
        assert task.status(me) == "WAIT"
        task.wakeup(me, value)
    settle()
    assert got == ["a", "b", "c"]
    assert task.status(me) is None


def test_tasks_run_in_the_order_of_waking_and_each_wakes_once() -> None:
    order: list[int] = []
    tasks = [task.fork(lambda: order.append(task.wait())) for _ in range(50)]
    settle()
    for i, t in enumerate(tasks):
        task.wakeup(t, i)
        with pytest.raises(RuntimeError, match=r"not (wait )?in task\.wait"):
            task.wakeup(t, i)
    settle()
    assert order == list(range(50))


def test_wakeup_never_blocks() -> None:
    order: list[str] = []

    def body() -> None:
        task.wait()
        order.append("woken")

    me = task.fork(body)
    settle()
    task.wakeup(me)
    order.append("caller")
    settle()
    assert order == ["caller", "woken"]


def test_wakeup_of_a_task_that_has_not_started() -> None:
    ran: list[str] = []
    me = task.fork(lambda: ran.append("once"))
    with pytest.raises(RuntimeError, match=r"^task\.wakeup: <task .* READY, .*> does not wait in task\.wait$"):
        task.wakeup(me)
    settle()
    assert ran == ["once"]


def test_wakeup_of_a_finished_task() -> None:
    me = task.fork(lambda: None)
    settle()
    with pytest.raises(RuntimeError, match=r"not (wait )?in task\.wait"):
        task.wakeup(me)
    assert task.readycount() == 0


def test_wakeup_of_the_running_task() -> None:
    with pytest.raises(RuntimeError, match=r"^task\.wakeup: <task .* RUN, .*> does not wait in task\.wait$"):
        task.wakeup(task.running())
    assert task.readycount() == 0


def test_wakeup_of_a_sleeping_task() -> None:
    stop = channel.new()

    def body() -> None:
        time.sleep(1)
        stop.push("slept")

    me = task.fork(body)
    settle()
    with pytest.raises(RuntimeError, match=r"^task\.wakeup: .* SLEEP, .* does not wait in task\.wait$"):
        task.wakeup(me)
    assert stop.pop() == ("slept", None)


def test_wakeup_of_a_task_that_waits_in_channel_pop() -> None:
    chan = channel.new()
    got: list[Any] = []
    me = task.fork(lambda: got.append(chan.pop()))
    settle()
    with pytest.raises(RuntimeError, match=r"^task\.wakeup: .* waits on channel\.pop, not in task\.wait$"):
        task.wakeup(me, "stray")
    chan.push("item")
    settle()
    assert got == [("item", None)]


def test_wakeup_of_a_task_that_waits_in_conn_read() -> None:
    accepted = channel.new()
    listener = silly.check(tcp.listen("127.0.0.1:0", accepted.push))
    conn = silly.check(tcp.connect(listener.addr))
    peer, _ = accepted.pop()
    got: list[Any] = []
    with listener, conn, peer:
        me = task.fork(lambda: got.append(conn.read(5)))
        settle()
        assert task.status(me) == "WAIT"
        with pytest.raises(RuntimeError, match=r"not (wait )?in task\.wait"):
            task.wakeup(me, "stray")
        peer.write("hello")
        while task.status(me) is not None:
            time.sleep(1)
    assert got == [(b"hello", None)]


@pytest.mark.parametrize("what", [None, 1, "task", greenlet.getcurrent()])
def test_wakeup_refuses_other_objects_than_tasks(what: Any) -> None:
    with pytest.raises(TypeError, match="task"):
        task.wakeup(what)


def test_orphaned_waiting_tasks_are_kept() -> None:
    ended: list[int] = []

    def body(i: int) -> None:
        task.wait()
        ended.append(i)

    for i in range(1, 6):
        task.fork(body, i)
    settle()
    gc.collect()
    left = [t for t, info in task.inspect().items() if info["name"].endswith("body")]
    assert [task.status(t) for t in left] == ["WAIT"] * 5
    for t in left:
        task.wakeup(t)
    settle()
    assert ended == [1, 2, 3, 4, 5]


# ---- inspect and hooks ------------------------------------------------------------------------------------------


def line_of(text: str) -> int:
    """The number of the line of this file that holds ``text`` first."""
    with open(HERE, encoding="utf-8") as file:
        return min(i for i, line in enumerate(file, 1) if text in line)


def test_inspect_shows_where_a_task_was_forked_and_where_it_waits() -> None:
    def waiter() -> None:
        task.wait()  # the waiter waits here

    me = task.fork(waiter)  # the waiter is forked here
    info = task.inspect()[me]
    assert info["status"] == "READY"
    assert info["traceback"] == ""
    settle()
    info = task.inspect()[me]
    assert info["name"].endswith("waiter")
    assert info["status"] == "WAIT"
    assert info["waits"] == "task.wait"
    assert info["forked"] == f"{HERE}:{line_of('# the waiter is forked here')}"
    assert f'"{HERE}", line {line_of("# the waiter waits here")}' in info["traceback"]
    task.wakeup(me)
    assert task.inspect()[me]["waits"] == "its turn to run"
    settle()
    assert me not in task.inspect()


def test_inspect_shows_the_fork_s_line_even_with_a_decorator_and_a_loop() -> None:
    tasks = []
    for _ in range(2):
        tasks.append(task.fork(task.wait))  # forked in a loop
    infos = task.inspect()
    assert {infos[t]["forked"] for t in tasks} == {f"{HERE}:{line_of('# forked in a loop')}"}
    settle()
    for t in tasks:
        task.wakeup(t)
    settle()


def test_inspect_says_what_a_task_waits_on() -> None:
    chan = channel.new()
    popper = task.fork(chan.pop)
    sleeper = task.fork(functools.partial(time.sleep, 1))
    settle()
    infos = task.inspect()
    assert infos[popper]["waits"] == "channel.pop"
    assert (infos[sleeper]["waits"], infos[sleeper]["status"]) == ("time.sleep", "SLEEP")
    chan.push("end")
    while task.status(sleeper) is not None:
        time.sleep(1)


def test_inspect_shows_the_caller_and_the_main_program() -> None:
    main = task.running()
    infos: list[Any] = []

    def body() -> None:
        infos.append(task.inspect())  # the caller of inspect

    me = task.fork(body)
    settle()
    info = infos[0][me]
    assert (info["status"], info["waits"]) == ("RUN", "nothing: it runs")
    stack = [line for line in info["traceback"].splitlines() if line.startswith("  File")]
    assert f'"{HERE}", line {line_of("# the caller of inspect")}' in stack[-1], "the stack ends where inspect was called"
    assert infos[0][main]["name"] == "main"
    assert infos[0][main]["status"] in ("WAIT", "READY", "SLEEP")
    assert task.inspect()[main]["status"] == "RUN"


def test_the_place_of_a_fork_over_several_lines() -> None:
    """That of the call, not of what is evaluated behind it in the code."""
    arguments = (task.readycount,)
    # fmt: off
    forked = task.fork(
        *arguments
    )
    # fmt: on
    line = line_of("forked = task.fork(")
    origin = forked.origin()
    settle()
    assert origin == f"{HERE}:{line}"


def test_a_task_s_repr() -> None:
    def worker() -> None:
        task.wait()

    me = task.fork(worker)
    assert "worker READY, forked at" in repr(me)
    assert f"{HERE}:" in repr(me)
    settle()
    task.wakeup(me)
    settle()
    assert "finished" in repr(me)


@pytest.fixture
def hooked() -> Iterator[tuple[list[task.Task], list[task.Task]]]:
    created: list[task.Task] = []
    ended: list[task.Task] = []
    task.hook(created.append, ended.append)
    yield created, ended
    task.hook()


def test_hooks_are_called_at_each_fork_and_each_end(hooked: tuple[list[task.Task], list[task.Task]]) -> None:
    created, ended = hooked
    tasks = [task.fork(lambda: None) for _ in range(2)]
    assert created == tasks
    assert ended == []
    settle()
    assert ended == tasks
    task.hook()
    task.fork(lambda: None)
    settle()
    assert (len(created), len(ended)) == (2, 2)


def test_the_term_hook_is_called_for_a_task_that_fails(
    hooked: tuple[list[task.Task], list[task.Task]], logs: Logs
) -> None:
    logs.expect("ERROR exception in .*boom")
    _, ended = hooked

    def boom() -> None:
        raise ValueError("boom")

    me = task.fork(boom)
    settle()
    assert ended == [me]


def test_the_term_hook_runs_in_the_task_that_ends() -> None:
    seen: list[Any] = []
    task.hook(term=lambda t: seen.append((t is task.running(), task.status(t))))
    try:
        task.fork(lambda: None)
        settle()
    finally:
        task.hook()
    assert seen == [(True, "RUN")]


@pytest.mark.parametrize("which", ["create", "term"])
def test_a_hook_that_raises_is_logged_and_the_task_lives(which: str, logs: Logs) -> None:
    logs.expect("ERROR exception in the (create|term) hook of [^\n]*:\n[^$]*ValueError: hook")
    ran: list[str] = []

    def bad(_: task.Task) -> None:
        raise ValueError("hook")

    task.hook(**{which: bad})
    try:
        me = task.fork(lambda: ran.append("ran"))
        settle()
    finally:
        task.hook()
    assert ran == ["ran"]
    assert task.status(me) is None


# ---- context variables ------------------------------------------------------------------------------------------

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def test_a_task_has_a_copy_of_its_forker_s_context() -> None:
    seen: list[str] = []

    def child() -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set("changed by the child")
        task.fork(lambda: seen.append(VARIABLE.get()))

    token = VARIABLE.set("of the forker")
    task.fork(child)
    VARIABLE.set("changed after the fork")
    settle()
    assert seen == ["of the forker", "changed by the child"]
    assert VARIABLE.get() == "changed after the fork"
    VARIABLE.reset(token)


def test_a_pooled_greenlet_shows_nothing_of_the_task_before() -> None:
    seen: list[str] = []
    for i in range(3):

        def body(i: int) -> None:
            seen.append(VARIABLE.get())
            VARIABLE.set(f"of task {i}")
            time.sleep(0)
            seen.append(VARIABLE.get())

        task.fork(body, i)
        settle()
    assert seen == ["unset", "of task 0", "unset", "of task 1", "unset", "of task 2"]


def test_each_task_keeps_its_context_across_switches() -> None:
    seen: list[str] = []

    def body(name: str) -> None:
        VARIABLE.set(name)
        for _ in range(3):
            time.sleep(0)
            seen.append(VARIABLE.get())

    for name in "ab":
        task.fork(body, name)
    settle()
    assert seen == ["a", "b"] * 3
    assert VARIABLE.get() == "unset"


def test_the_context_is_let_go_with_the_task() -> None:
    class Value:
        pass

    variable: contextvars.ContextVar[Value] = contextvars.ContextVar("variable")
    value = Value()
    gone = weakref.ref(value)

    def body(value: Value) -> None:
        variable.set(value)
        time.sleep(0)

    task.fork(body, value)
    del value
    settle()
    gc.collect()
    assert gone() is None


# ---- errors -----------------------------------------------------------------------------------------------------


def test_an_exception_is_logged_with_its_traceback_and_ends_only_that_task(logs: Logs) -> None:
    logs.expect(
        r"ERROR exception in <task \S*crash RUN, forked at \S*test_task.py:\d+>:[\s\S]*line \d+, in crash"
        r"[\s\S]*ValueError: this task fails"
    )
    order: list[str] = []

    def crash() -> None:
        order.append("crash")
        raise ValueError("this task fails")

    task.fork(order.append, "before")
    me = task.fork(crash)
    task.fork(order.append, "after")
    assert task.status(me) == "READY"
    settle()
    assert task.status(me) is None
    assert order == ["before", "crash", "after"]
    assert len(logs.lines) == 1


def test_a_task_that_fails_after_blocking(logs: Logs) -> None:
    logs.expect("KeyError: 'late'")

    def crash() -> None:
        raise KeyError(task.wait())

    me = task.fork(crash)
    settle()
    task.wakeup(me, "late")
    settle()
    assert task.status(me) is None


def test_greenletexit_ends_a_task_in_silence(logs: Logs) -> None:
    order: list[str] = []

    def body() -> None:
        try:
            raise greenlet.GreenletExit
        finally:
            order.append("finally")

    me = task.fork(body)
    settle()
    assert task.status(me) is None
    assert order == ["finally"]
    assert logs.lines == []


def test_keyboardinterrupt_in_a_task_reaches_the_main_program_and_the_loop_goes_on() -> None:
    def body() -> None:
        raise KeyboardInterrupt

    me = task.fork(body)
    ran: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        task.wait()
    assert task.status(me) is None
    task.fork(ran.append, "the loop lives")
    time.sleep(1)
    assert ran == ["the loop lives"]


def test_an_interrupt_takes_nothing_from_a_task_that_came_to_wait_in_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main program was handed an item, and interrupted before it ran; another task waits on the channel by then."""
    chan = channel.new()
    got: list[Any] = []

    def successor() -> None:
        chan.push("for the main program")
        scheduler.loop.post(scheduler.interrupted, KeyboardInterrupt())
        got.append(chan.pop())

    # One task for each drain, so that the loop looks at posted calls while the main program is still in the queue.
    monkeypatch.setattr(scheduler, "SLICE", 1)
    time.sleep(1)
    task.fork(successor)
    for _ in range(3):
        task.fork(lambda: None)
    with pytest.raises(KeyboardInterrupt):
        chan.pop()
    chan.push("for the successor")
    settle()
    assert got == [("for the main program", None)], "it is handed on, not lost"
    assert chan.pop() == ("for the successor", None)


# ---- where blocking is a mistake --------------------------------------------------------------------------------


BLOCKING: dict[str, Callable[[], object]] = {
    "task.wait": task.wait,
    "time.sleep": lambda: time.sleep(1),
    "time.sleep(0)": lambda: time.sleep(0),
    "channel.pop": lambda: channel.new().pop(),
    "tcp.connect": lambda: tcp.connect("127.0.0.1:1"),
    "task.running": task.running,
}


@pytest.mark.parametrize("name", BLOCKING)
def test_blocking_in_a_callback_of_the_loop_raises(name: str) -> None:
    kind, exc = in_loop(BLOCKING[name])
    assert kind == "raised"
    assert isinstance(exc, RuntimeError)
    assert "callback of the loop" in str(exc)
    time.sleep(1)  # nothing was left half done


ARMED = Timer(0.0, print, None, True)
THREADED: dict[str, Callable[[], object]] = {
    **BLOCKING,
    "task.fork": lambda: task.fork(task.wait),
    "task.wakeup": lambda: task.wakeup(scheduler.main),
    "time.after": lambda: time.after(1, task.wait),
    "time.cancel": lambda: time.cancel(ARMED),
    "tcp.listen": lambda: tcp.listen("127.0.0.1:0", print),
    "silly.run": silly.run,
    "silly.exit": silly.exit,
}


@pytest.mark.parametrize("name", THREADED)
def test_a_call_from_another_thread_raises(name: str) -> None:
    kind, exc = in_thread(THREADED[name])
    assert kind == "raised"
    assert isinstance(exc, RuntimeError)
    assert "another thread" in str(exc)


def test_a_connection_used_from_another_thread_raises() -> None:
    accepted = channel.new()
    listener = silly.check(tcp.listen("127.0.0.1:0", accepted.push))
    conn = silly.check(tcp.connect(listener.addr))
    peer, _ = accepted.pop()
    with listener, conn, peer:
        for call in (lambda: conn.write("x"), lambda: conn.read(1), conn.close, listener.close):
            kind, exc = in_thread(call)
            assert (kind, type(exc)) == ("raised", RuntimeError)
            assert "another thread" in str(exc)
        assert conn.write("hello")
        assert peer.read(5) == (b"hello", None)


def test_popping_a_queued_item_from_another_thread_raises() -> None:
    chan = channel.new()
    chan.push("item")
    kind, exc = in_thread(chan.pop)
    assert (kind, type(exc)) == ("raised", RuntimeError)
    assert len(chan) == 1


def test_blocking_in_a_greenlet_of_one_s_own_raises() -> None:
    outcome: list[Any] = []

    def body() -> None:
        try:
            task.wait()
        except RuntimeError as exc:
            outcome.append(str(exc))

    greenlet.greenlet(body).switch()
    assert len(outcome) == 1
    assert "greenlet that silly did not start" in outcome[0]


# ---- many -------------------------------------------------------------------------------------------------------


def test_10_000_tasks() -> None:
    total = 0

    def body(i: int) -> None:
        nonlocal total
        one = task.wait()
        total += one + i

    tasks = [task.fork(body, i) for i in range(1, 10_001)]
    settle()
    assert {task.status(t) for t in tasks} == {"WAIT"}
    for t in tasks:
        task.wakeup(t, 1)
    settle()
    assert {task.status(t) for t in tasks} == {None}
    assert total == 10_000 + 10_000 * 10_001 // 2


def test_a_finished_task_s_greenlet_is_used_again() -> None:
    used: set[int] = set()
    kept: list[Any] = []

    def body() -> None:
        kept.append(greenlet.getcurrent())
        used.add(id(kept[-1]))

    for _ in range(100):
        task.fork(body)
        settle()
    assert len(used) == 1


def live_greenlets() -> int:
    """Counts the greenlets that someone made. A thread's own one, which has no parent,
    comes with its first line of the log: the watchdog may write one at any time."""
    gc.collect()
    greenlets = [each for each in gc.get_objects() if isinstance(each, greenlet.greenlet)]
    return sum(each.parent is not None for each in greenlets)


def test_the_number_of_greenlets_stays() -> None:
    def burst(n: int) -> None:
        for _ in range(n):
            task.fork(functools.partial(time.sleep, 0))
        settle()

    burst(scheduler.POOL + 500)
    before = live_greenlets()
    for _ in range(3):
        burst(scheduler.POOL + 500)
    assert live_greenlets() <= before
    assert len(scheduler._pool) <= scheduler.POOL


def test_a_failing_task_does_not_cost_its_greenlet(logs: Logs) -> None:
    logs.expect("ZeroDivisionError")

    def fail() -> None:
        1 / 0

    task.fork(fail)
    settle()
    before = live_greenlets()
    for _ in range(20):
        task.fork(fail)
        settle()
    assert live_greenlets() <= before


def test_deep_recursion_in_one_task_does_not_reach_another(logs: Logs) -> None:
    logs.expect("RecursionError")
    depth: list[int] = []

    def dive() -> None:
        dive()

    task.fork(dive)
    task.fork(lambda: depth.append(len(list(frames()))))
    settle()
    assert depth[0] < 20


def frames() -> Iterator[Any]:
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]


def test_a_task_sees_no_exception_that_its_forker_is_handling() -> None:
    seen: list[Any] = []

    def body() -> None:
        seen.append(sys.exc_info())

    try:
        raise ValueError("the forker's")
    except ValueError:
        task.fork(body)
        settle()
        assert sys.exc_info()[0] is ValueError
    assert seen == [(None, None, None)]


def test_tasks_run_in_the_process_that_forked_them() -> None:
    pids: list[int] = []
    task.fork(lambda: pids.append(os.getpid()))
    settle()
    assert pids == [silly.pid]
