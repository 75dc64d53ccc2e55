"""A signal handler runs between two bytecodes of whatever runs. Here one runs before each bytecode of the scheduler, of
the timers and of what waits, one bytecode in each run: nothing that it forks, sets, cancels or wakes may be lost, and
nothing that it interrupts. By tracing, so that no timing decides."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from silly import task, time
from silly._core import loop, scheduler, timers, waiting
from silly._core.timers import FOREVER, Timer, Timers
from silly.sync import _bounded, _channel, _offers, channel, event, pool, semaphore

from ..net.support import until


class Raised(Exception):
    pass


class Tracer:
    """Runs ``handler`` before the bytecode number ``at`` of the functions of ``modules``, counted from ``__enter__``."""

    def __init__(self, at: int, handler: Callable[[], object], modules: tuple[Any, ...]) -> None:
        self._files = {module.__file__ for module in modules}
        self._left = at
        self._handler = handler
        self.ran = False

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode" and not self.ran:
            self._left -= 1
            if self._left < 0:
                self.ran = True
                self._handler()
        return self._trace

    def __enter__(self) -> Tracer:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(None)


@pytest.fixture(autouse=True)
def no_other_tracer() -> Any:
    before = sys.gettrace()
    yield
    sys.settrace(before)


@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize("act", ["add the first", "add the last", "cancel", "cancel many", "cancel all and add"])
def test_timers_at_every_bytecode(act: str, internal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a model: each timer fires once, in order, unless its ``cancel`` said that it was in time."""
    monkeypatch.setattr(timers, "_COMPACT_FROM", 2)

    def run(at: int) -> bool:
        heap = Timers()
        fired: list[Any] = []
        wanted: dict[Timer, Any] = {}
        seen: dict[Timer, float] = {}

        def add(when: float, inner: bool = False) -> Timer:
            timer = heap.add(when, fired.append, when, internal=inner)
            wanted[timer] = seen[timer] = when
            return timer

        def cancel(timer: Timer) -> None:
            if heap.cancel(timer):
                del wanted[timer]

        def handler() -> None:
            match act:
                case "add the first":
                    add(0.5, internal)
                case "add the last":
                    add(99.0, internal)
                case "cancel":
                    cancel(armed[0])
                case "cancel many":
                    for timer in armed[2:7]:
                        cancel(timer)
                case _:
                    for timer in [*seen]:
                        cancel(timer)
                    add(0.25, internal)

        armed = [add(float(when), when % 2 == 0) for when in range(3, 12)]
        with Tracer(at, handler, (timers,)) as tracer:
            add(1.0)
            add(2.0, True)
            for timer in armed[3:8]:
                cancel(timer)
            for now in (0.75, 1.5, 4.0):
                heap.next()
                while (due := heap.pop(now)) is not None:
                    due[0](due[1])
        assert len(heap) == len(wanted) - len(fired), at
        while (due := heap.pop(100.0)) is not None:
            due[0](due[1])
        assert sorted(fired) == sorted(wanted.values()), at
        assert (len(heap), heap.users, heap.next(), heap.heap) == (0, {}, FOREVER, []), at
        return tracer.ran

    at = 0
    while run(at):
        at += 1
    assert at > 500


@pytest.mark.parametrize("act", ["fork", "after", "cancel", "wakeup", "push"])
def test_the_scheduler_at_every_bytecode(act: str) -> None:
    """Two tasks that hand items to each other, with a third that waits for the handler."""
    main = task.running()

    def run(at: int) -> bool:
        done: list[str] = []
        mine: channel.Channel[str] = channel.new()
        ping: channel.Channel[int] = channel.new()
        pong: channel.Channel[int] = channel.new()
        late = time.after(60_000, done.append, "late")

        def waiter() -> None:
            if act == "push":
                done.append(str(mine.pop()[0]))
            elif act == "wakeup":
                done.append(str(task.wait()))

        def one() -> None:
            tracer.__enter__()
            for i in range(2):
                ping.push(i)
                pong.pop()
            done.append("one")

        def two() -> None:
            tracer.__enter__()
            for _ in range(2):
                ping.pop()
                pong.push(1)
            time.sleep(1)
            done.append("two")
            task.wakeup(main)

        def handler() -> None:
            match act:
                case "fork":
                    task.fork(done.append, "handler")
                case "after":
                    time.after(0, done.append, "handler")
                case "cancel":
                    assert time.cancel(late)
                    done.append("handler")
                case "wakeup":
                    if task.status(waits) == "WAIT":
                        task.wakeup(waits, "handler")
                    else:
                        done.append("handler")
                case _:
                    mine.push("handler")

        tracer = Tracer(at, handler, (scheduler, loop, timers, waiting, _channel, time, task))
        waits = task.fork(waiter)
        if act == "wakeup":
            time.sleep(0)
        scheduler.loop.post(tracer.__enter__)  # each greenlet has a tracer of its own: the loop, the tasks, and this one
        tasks = [task.fork(one), task.fork(two)]
        with tracer:
            task.wait()
        reached, tracer.ran = tracer.ran, True  # the tracers of the other greenlets stay
        until(lambda: "one" in done)
        if not reached:
            handler()
        until(lambda: done.count("handler") == 1)
        time.cancel(late)
        until(lambda: all(task.status(each) is None for each in [waits, *tasks]))
        assert sorted(done) == ["handler", "one", "two"], at
        return reached

    at = 0
    while run(at):
        at += 1
    assert at > 300


def unbounded_pop() -> tuple[Any, Any, Any]:
    chan = channel.new()
    return chan.pop, lambda: chan.push("item"), ("item", None)


def unbounded_end() -> tuple[Any, Any, Any]:
    chan = channel.new()
    return chan.pop, chan.close, (None, "channel closed")


def bounded_pop() -> tuple[Any, Any, Any]:
    chan = channel.new(1)
    return chan.pop, lambda: chan.push("item"), ("item", None)


def bounded_push() -> tuple[Any, Any, Any]:
    chan = channel.new(1)
    chan.push("item")
    return lambda: (chan.push("other"), chan.pop()), chan.pop, ((True, None), ("other", None))


def bounded_end() -> tuple[Any, Any, Any]:
    chan = channel.new(1)
    chan.push("item")
    return lambda: (chan.push("other"), len(chan)), chan.close, ((False, "channel closed"), 1)


def permit() -> tuple[Any, Any, Any]:
    few = semaphore.new(1)
    few.acquire()
    return lambda: (few.acquire(), few._free), few.release, ((True, None), 0)


def flag() -> tuple[Any, Any, Any]:
    ready = event.new()
    return ready.wait, ready.set, (True, None)


def pooled_item() -> tuple[Any, Any, Any]:
    items = pool.new(lambda: ([], None), max_open=1)
    item = items.get()
    return lambda: (items.get(), items.open, items.idle), lambda: items.put(item[0]), (item, 1, 0)


def pooled_place() -> tuple[Any, Any, Any]:
    items = pool.new(lambda: ([], None), max_open=1)
    item, _ = items.get()
    return lambda: (items.get(), items.open, items.idle), lambda: items.drop(item), (([], None), 1, 0)


def pool_end() -> tuple[Any, Any, Any]:
    items = pool.new(lambda: ([], None), max_open=1)
    items.get()
    return items.get, items.close, (None, "pool.get: the pool is closed")


@pytest.mark.parametrize(
    "make",
    [
        unbounded_pop,
        unbounded_end,
        bounded_pop,
        bounded_push,
        bounded_end,
        permit,
        flag,
        pooled_item,
        pooled_place,
        pool_end,
    ],
)
def test_what_waits_at_every_bytecode(make: Callable[[], tuple[Any, Any, Any]]) -> None:
    """The handler does what the task is about to wait for, once: the task gets it."""

    def run(at: int) -> bool:
        wait, handler, expected = make()
        tracer = Tracer(at, handler, (waiting, _channel, _bounded, _offers, semaphore, event, pool))
        got: list[Any] = []

        def body() -> None:
            with tracer:
                got.append(wait())

        waits = task.fork(body)
        time.sleep(0)
        reached, tracer.ran = tracer.ran, True
        if not reached:
            handler()
        until(lambda: task.status(waits) is None)
        assert got == [expected], at
        return reached

    at = 0
    while run(at):
        at += 1
    assert at > 20


@pytest.mark.parametrize("pooled", [False, True], ids=["new", "pooled"])
def test_a_handler_that_raises_where_a_task_starts_loses_no_task(pooled: bool, logs: Any) -> None:
    """In a new greenlet, and in one from the pool. Once the task's own greenlet runs, the task is interrupted, and ends."""
    if not pooled:
        logs.expect(r"exception in .*body RUN.*\n(.*\n)*  .*Raised")
    places: list[str] = []

    def raises() -> None:
        places.append(sys._getframe(2).f_code.co_name)
        raise Raised

    def run(at: int) -> bool:
        ran: list[int] = []
        started: list[Any] = []
        if pooled:
            until(lambda: bool(scheduler._pool))
        else:
            scheduler._pool.clear()
        tracer = Tracer(at, raises, (scheduler,))

        def body() -> None:
            tracer.ran = True
            ran.append(1)

        def callback() -> None:
            started.append(scheduler.fork(body, (), None, None, 0))
            try:
                with tracer:
                    scheduler._run_ready()
            except Raised:
                ran.append(0)

        scheduler.loop.post(callback)
        until(lambda: bool(started) and task.status(started[0]) is None)
        assert 1 in ran or places[-1] == "_worker", (at, places[-1])
        return 0 in ran

    at = 0
    while run(at):
        at += 1
    assert places.count("_run_ready") > 40
