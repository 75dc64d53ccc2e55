"""A task that blocks switches to the next ready one itself: order, slices, values, contexts, failures and ends are as if each
switch went by way of the loop."""

from __future__ import annotations

import gc
import random
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import pytest
from greenlet import greenlet

from silly import task, time
from silly._core import scheduler
from silly._core.loop import EVENTS, READ, WRITE
from silly._core.poller import SelectorPoller
from silly._core.scheduler import SLICE
from silly.net import tcp
from silly.sync import channel

from ..children import Child
from ..conftest import Logs
from ..helpers import joined, spawn, turn
from ..net.support import Job, until

Body = Callable[[], Any]
ERROR, HANGUP = 8, 16
"""Masks of epoll that are never asked for."""


def waiting(*bodies: Body) -> list[task.Task]:
    """A task for each body, which has waited once and will run its body when it wakes."""

    def wait_first(body: Body) -> None:
        task.wait()
        body()

    tasks = [task.fork(lambda body=body: wait_first(body)) for body in bodies]
    until(lambda: all(task.status(each) == "WAIT" for each in tasks))
    return tasks


def finished(tasks: list[task.Task]) -> bool:
    return all(task.status(each) is None for each in tasks)


def wake(tasks: list[task.Task]) -> None:
    for each in tasks:
        task.wakeup(each)


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts in its one item the switches by way of the hub."""
    count = [0]
    to_hub = scheduler.loop.to_hub

    def counted(*args: Any) -> Any:
        count[0] += 1
        return to_hub(*args)

    monkeypatch.setattr(scheduler.loop, "to_hub", counted)
    return count


# ---- order ----------------------------------------------------------------------------------------------------------


def test_a_task_that_blocks_switches_to_the_next_itself(switches: list[int]) -> None:
    tasks = waiting(*[task.wait for _ in range(10)])
    turn()
    before = switches[0]
    wake(tasks)
    turn()
    assert switches[0] - before < 10
    wake(tasks)
    until(lambda: finished(tasks))


def test_new_tasks_and_waiting_ones_run_in_the_order_of_the_queue() -> None:
    ran: list[Any] = []
    old = waiting(*[lambda i=i: (ran.append(f"old {i}"), task.wait(), ran.append(f"again {i}")) for i in range(4)])
    new = []
    for i, each in enumerate(old):
        task.wakeup(each)
        new.append(task.fork(lambda i=i: (ran.append(f"new {i}"), task.wait())))
    until(lambda: len(ran) == 8)
    assert ran == [f"{kind} {i}" for i in range(4) for kind in ("old", "new")]
    wake(old)
    until(lambda: len(ran) == 12)
    assert ran[8:] == [f"again {i}" for i in range(4)]
    wake(new)
    until(lambda: finished(old + new))


Op = tuple[str, int]


def programs(rng: random.Random, count: int) -> list[list[Op]]:
    """What each of ``count`` tasks does: wakes others that wait, forks, waits, yields, blocks."""
    kinds = ["wake", "wake", "wake", "wait", "wait", "fork", "note"]
    return [[(rng.choice(kinds), rng.randrange(count)) for _ in range(rng.randrange(3, 25))] for _ in range(count)]


def model(programs: list[list[Op]]) -> list[str]:
    """What happens in which order: one queue, first in, first out."""
    log: list[str] = []
    queue: deque[int] = deque()
    state = ["unborn"] * len(programs)

    def body(me: int) -> Generator[None]:
        for kind, other in programs[me]:
            if kind == "wake" and state[other] == "waiting":
                log.append(f"{me} wakes {other}")
                state[other] = "ready"
                queue.append(other)
            elif kind == "fork" and state[other] == "unborn":
                log.append(f"{me} forks {other}")
                state[other] = "ready"
                queue.append(other)
            elif kind == "wait":
                log.append(f"{me} waits")
                state[me] = "waiting"
                yield
                log.append(f"{me} goes on")
        log.append(f"{me} ends")
        state[me] = "ended"

    bodies = [body(i) for i in range(len(programs))]
    state[0] = "ready"
    queue.append(0)
    while True:
        while queue:
            me = queue.popleft()
            state[me] = "running"
            next(bodies[me], None)
        left = [i for i, each in enumerate(state) if each == "waiting"]
        if not left:
            return log
        log.append(f"outside wakes {left}")
        for i in left:
            state[i] = "ready"
            queue.append(i)


@pytest.mark.parametrize("seed", range(30))
def test_the_order_against_a_model(seed: int) -> None:
    plans = programs(random.Random(seed), 12)
    log: list[str] = []
    tasks: dict[int, task.Task] = {}

    def body(me: int) -> None:
        for kind, other in plans[me]:
            if kind == "wake" and other in tasks and task.status(tasks[other]) == "WAIT":
                log.append(f"{me} wakes {other}")
                task.wakeup(tasks[other])
            elif kind == "fork" and other not in tasks:
                log.append(f"{me} forks {other}")
                tasks[other] = task.fork(body, other)
            elif kind == "wait":
                log.append(f"{me} waits")
                task.wait()
                log.append(f"{me} goes on")
        log.append(f"{me} ends")

    def first() -> None:
        body(0)

    tasks[0] = task.fork(first)
    while True:
        turn(2)
        left = sorted(i for i, each in tasks.items() if task.status(each) == "WAIT")
        if not left:
            break
        log.append(f"outside wakes {left}")
        wake([tasks[i] for i in left])
    assert log == model(plans)


def test_each_gets_the_value_it_was_woken_with() -> None:
    got: list[Any] = []
    tasks = [task.fork(lambda i=i: got.extend((i, task.wait()) for _ in range(3))) for i in range(20)]
    until(lambda: all(task.status(each) == "WAIT" for each in tasks))
    values = [None, (), (1, 2), ValueError("a value"), "text", {}]
    expected = []
    for _ in range(3):
        for i, each in enumerate(tasks):
            value = values[i % len(values)]
            expected.append((i, value))
            task.wakeup(each, value)
        turn(2)
    assert got == expected


def test_a_task_that_was_woken_before_it_blocks() -> None:
    """It is in the queue itself; those before it run first."""
    ran: list[str] = []

    def body() -> None:
        me = scheduler.current()
        wake(others[:1])
        scheduler.wake(me, "early")
        wake(others[1:])
        ran.append(scheduler.park("a test"))

    others = waiting(lambda: ran.append("before"), lambda: ran.append("behind"))
    me = task.fork(body)
    until(lambda: finished([me, *others]))
    assert ran == ["before", "early", "behind"]


def test_a_task_alone_in_the_queue_that_was_woken_before_it_blocks() -> None:
    got: list[Any] = []

    def body() -> None:
        task.wait()
        for i in range(3):
            scheduler.wake(scheduler.current(), i)
            got.append(scheduler.park("a test"))

    me = task.fork(body)
    until(lambda: task.status(me) == "WAIT")
    task.wakeup(me)
    until(lambda: finished([me]))
    assert got == [0, 1, 2]


def test_the_main_program_takes_its_turn_among_the_tasks() -> None:
    ran: list[str] = []
    me = task.running()
    tasks = waiting(lambda: ran.append("a"), lambda: (ran.append("b"), task.wakeup(me, "value")), lambda: ran.append("c"))
    last = waiting(lambda: ran.append("d"))
    wake(tasks)
    first = task.fork(lambda: (task.wait(), ran.append("never too early")))
    ran.append(task.wait())
    assert ran == ["a", "b", "c", "value"]
    wake(last)
    until(lambda: task.status(first) == "WAIT")
    wake([first])
    until(lambda: finished([*tasks, *last, first]))
    assert ran[4:] == ["d", "never too early"]


# ---- slices, fairness ------------------------------------------------------------------------------------------------


@pytest.fixture
def relay() -> Iterator[list[int]]:
    """Tasks that wake each other for ever, each switch direct; counts in its one item the rounds."""
    count = [0]
    stop: list[bool] = []
    tasks: list[task.Task] = []

    def run(i: int) -> None:
        while not stop:
            task.wait()
            count[0] += 1
            if not stop:
                task.wakeup(tasks[(i + 1) % len(tasks)])

    tasks += [task.fork(lambda i=i: run(i)) for i in range(3)]
    until(lambda: all(task.status(each) == "WAIT" for each in tasks))
    task.wakeup(tasks[0])
    yield count
    stop.append(True)
    while not finished(tasks):
        wake([each for each in tasks if task.status(each) == "WAIT"])
        turn()


def test_tasks_that_wake_each_other_starve_no_other(relay: list[int]) -> None:
    """I/O, timers and posted calls have their turn after a slice."""
    reads, writes = socket.socketpair()
    with reads, writes:
        reads.setblocking(False)
        ready = channel.new()
        scheduler.loop.register(reads.fileno(), READ, lambda mask: ready.push(reads.recv(1)))
        for _ in range(5):
            before = relay[0]
            writes.send(b"x")
            assert ready.pop() == (b"x", None)
            time.sleep(1)
            turn()
            assert relay[0] > before
        scheduler.loop.unregister(reads.fileno())


def test_a_slice_bounds_direct_switches(relay: list[int]) -> None:
    counts = []
    for _ in range(5):
        turn()
        counts.append(relay[0])
    steps = [b - a for a, b in pairwise(counts)]
    # A turn drains several times; each is a slice at most.
    assert all(0 < step <= 4 * SLICE for step in steps)
    assert max(steps) >= SLICE - 10


def test_output_of_a_full_slice_is_sent(relay: list[int]) -> None:
    listener, err = tcp.listen("127.0.0.1:0", lambda conn: conn.write(conn.read(5)[0]))
    assert err is None
    with listener:
        conn, err = tcp.connect(f"127.0.0.1:{listener.port}")
        assert err is None
        with conn:
            asked = spawn(lambda: (conn.write("hello"), conn.read(5)))
            assert joined(asked)[1] == (b"hello", None)


def test_a_deep_chain_needs_no_stack() -> None:
    count = 20_000
    ran = []
    tasks = [task.fork(lambda i=i: (task.wait(), ran.append(i))) for i in range(200)]
    until(lambda: all(task.status(each) == "WAIT" for each in tasks))
    limit = sys.getrecursionlimit()
    depth = 0
    frame = sys._getframe()
    while frame is not None:
        depth += 1
        frame = frame.f_back  # type: ignore[assignment]
    me = task.running()
    hops = [0]

    def hop(i: int) -> None:
        while hops[0] < count:
            hops[0] += 1
            task.wakeup(pair[1 - i])
            task.wait()
        if task.status(pair[1 - i]) == "WAIT":
            task.wakeup(pair[1 - i])
        else:
            task.wakeup(me)

    sys.setrecursionlimit(depth + 100)
    try:
        pair: list[task.Task] = []
        pair += waiting(lambda: hop(0), lambda: hop(1))
        task.wakeup(pair[0])
        task.wait()
        wake(tasks)
        until(lambda: finished(tasks + pair))
    finally:
        sys.setrecursionlimit(limit)
    assert ran == list(range(200))


# ---- what is each task's own -------------------------------------------------------------------------------------------


def test_contexts_stay_each_task_s_own() -> None:
    variable: ContextVar[int] = ContextVar("variable", default=-1)
    seen: list[tuple[int, int]] = []

    def body(i: int) -> None:
        variable.set(i)
        for _ in range(5):
            task.wait()
            seen.append((i, variable.get()))
            variable.set(variable.get() + 100)

    tasks = [task.fork(lambda i=i: body(i)) for i in range(10)]
    for _ in range(6):
        turn(2)
        wake([each for each in tasks if task.status(each) == "WAIT"])
    assert len(seen) == 50
    assert all(value == i + 100 * k for i in range(10) for k, (_, value) in enumerate([s for s in seen if s[0] == i]))
    assert variable.get() == -1


def test_the_exception_that_is_handled_stays_each_task_s_own() -> None:
    seen = []

    def failing(i: int) -> None:
        try:
            raise ValueError(i)
        except ValueError as exc:
            for _ in range(3):
                task.wait()
                seen.append(sys.exc_info()[1] is exc)

    def clean() -> None:
        for _ in range(3):
            task.wait()
            seen.append(sys.exc_info()[1] is None)

    tasks = [task.fork(lambda i=i: failing(i) if i % 2 else clean()) for i in range(8)]
    for _ in range(4):
        turn(2)
        wake([each for each in tasks if task.status(each) == "WAIT"])
    assert seen == [True] * 24


def test_the_running_task_and_its_status() -> None:
    seen = []
    tasks: list[task.Task] = []

    def body(i: int) -> None:
        for _ in range(3):
            task.wait()
            seen.append(task.running() is tasks[i])
            seen.append(task.status(tasks[i]) == "RUN")
            following = tasks[(i + 1) % len(tasks)]
            seen.append(task.status(following) in ("READY", "WAIT", None))
            seen.append(task.inspect()[tasks[i]]["status"] == "RUN")

    tasks += [task.fork(lambda i=i: body(i)) for i in range(5)]
    for _ in range(3):
        until(lambda: all(task.status(each) == "WAIT" for each in tasks))
        wake(tasks)
    until(lambda: finished(tasks))
    assert seen == [True] * 60


# ---- ends -----------------------------------------------------------------------------------------------------------


def test_tasks_that_end_and_fail_in_a_chain(logs: Logs) -> None:
    logs.expect("ERROR exception in <task .*(.|\n)*ValueError: 2")
    ran = []

    def body(i: int) -> None:
        ran.append(i)
        if i == 2:
            raise ValueError(i)
        if i % 2:
            task.wait()
            ran.append(i + 100)

    tasks = waiting(*[lambda i=i: body(i) for i in range(6)])
    wake(tasks)
    turn(2)
    assert ran == list(range(6))
    wake([tasks[i] for i in (1, 3, 5)])
    until(lambda: finished(tasks))
    assert ran[6:] == [101, 103, 105]


@pytest.mark.parametrize("pool", [0, 1, 3])
def test_greenlets_that_don_t_return_to_the_pool(pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends for good gives control to the loop, not to the task that switched to it."""
    monkeypatch.setattr(scheduler, "POOL", pool)
    ran: list[str] = []
    for _ in range(3):
        tasks = waiting(*[lambda i=i: (ran.append(f"{i}"), task.wait(), ran.append(f"again {i}")) for i in range(6)])
        wake(tasks)
        turn(2)
        wake(tasks)
        turn(2)
        assert finished(tasks)
        assert ran == [*map(str, range(6)), *[f"again {i}" for i in range(6)]]
        ran.clear()
    gc.collect()


def test_hooks_see_the_task_that_ends() -> None:
    seen: list[bool] = []
    ended: list[task.Task] = []

    def term(each: task.Task) -> None:
        ended.append(each)
        seen.append(task.running() is each)

    tasks = waiting(*[lambda: None for _ in range(4)])
    task.hook(None, term)
    try:
        wake(tasks)
        until(lambda: finished(tasks))
    finally:
        task.hook(None, None)
    assert ended == tasks
    assert seen == [True] * 4


def test_a_hook_that_blocks_lets_the_next_run() -> None:
    ran: list[str] = []
    block = channel.new()

    def term(each: task.Task) -> None:
        ran.append(f"hook {names[each]}")
        if names[each] == "a":
            block.pop()
            ran.append("hook goes on")

    tasks = waiting(lambda: ran.append("a"), lambda: ran.append("b"))
    names = dict(zip(tasks, "ab", strict=True))
    task.hook(None, term)
    try:
        wake(tasks)
        until(lambda: finished(tasks[1:]))
        block.push(1)
        until(lambda: finished(tasks))
    finally:
        task.hook(None, None)
    assert ran == ["a", "hook a", "b", "hook b", "hook goes on"]


def test_deadlines_that_strike_tasks_in_a_chain() -> None:
    """Each that waits gets its own; one that was woken before gets what it was woken with."""
    got: list[Any] = []
    queues = [channel.new() for _ in range(6)]

    def body(i: int) -> None:
        with time.deadline(10 if i % 2 else 60_000):
            item, err = queues[i].pop()
            got.append((i, item or err))

    tasks = [task.fork(lambda i=i: body(i)) for i in range(6)]
    until(lambda: len(got) == 3)
    assert got == [(i, "channel.pop: the deadline of 10 ms ran out") for i in (1, 3, 5)]
    for queue in queues:
        queue.push("item")
    until(lambda: finished(tasks))
    assert got[3:] == [(0, "item"), (2, "item"), (4, "item")]


def test_an_exception_thrown_where_a_task_waits_in_a_chain() -> None:
    ran: list[str] = []

    def body(i: int) -> None:
        try:
            task.wait()
        finally:
            ran.append(f"finally {i}")
            time.sleep(0)
            ran.append(f"end {i}")

    jobs = [Job(lambda i=i: body(i)).blocked() for i in range(3)]
    for job in jobs:
        job.kill()
    assert ran == [f"{what} {i}" for i in range(3) for what in ("finally", "end")]


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------


def interrupt_after(name: str) -> Callable[[Any, str, Any], None]:
    """A profiler that raises SIGINT when the scheduler's ``park`` has called ``name``. (The main program's is in Python.)"""
    code = scheduler.plain_park.__code__

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "c_return" and frame.f_code is code and getattr(arg, "__name__", "") == name:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    return profile


@pytest.mark.parametrize("name", ["getcurrent", "popleft", "switch"])
def test_an_interrupt_of_the_main_program_loses_no_ready_task(name: str) -> None:
    """It is raised there at any bytecode, so also where a task has just left the queue."""
    ran: list[int] = []
    tasks = waiting(*[lambda i=i: ran.append(i) for i in range(3)])
    me = task.running()
    task.fork(lambda: task.wakeup(me))
    task.wait()  # now the main program runs in a drain
    assert scheduler.loop.left
    wake(tasks)
    sys.setprofile(interrupt_after(name))
    try:
        time.sleep(10)
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    until(lambda: finished(tasks))
    assert ran == [0, 1, 2]


class Raised(BaseException):
    """What a signal handler of the application raises."""


def raise_after(name: str, function: Callable[..., Any]) -> Callable[[Any, str, Any], None]:
    """A profiler that raises where a signal handler may: when ``function`` has called ``name``."""

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "c_return" and frame.f_code is function.__code__ and getattr(arg, "__name__", "") == name:
            sys.setprofile(None)
            raise Raised

    return profile


@pytest.mark.parametrize("name", ["extend", "popleft", "switch"])
def test_what_a_signal_handler_raises_in_the_loop_loses_no_ready_task(name: str) -> None:
    ran: list[int] = []
    tasks = waiting(*[lambda i=i: [time.sleep(0), ran.append(i)] for i in range(3)])

    def begin() -> None:
        wake(tasks)
        tasks.append(task.fork(ran.append, 3))

    function = scheduler.loop.turn if name == "extend" else scheduler._run_ready
    scheduler.loop.post(sys.setprofile, raise_after(name, function))  # the hub's own
    scheduler.loop.post(begin)
    try:
        with pytest.raises(Raised):
            time.sleep(10_000)
    finally:
        scheduler.loop.post(sys.setprofile, None)
    until(lambda: finished(tasks))
    assert sorted(ran) == [0, 1, 2, 3]


def test_what_a_signal_handler_raises_where_a_task_blocks_loses_no_ready_task(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In C no handler runs there."""
    monkeypatch.setattr(scheduler, "park", scheduler.plain_park)
    logs.expect(r"ERROR exception in <task .*>:[\s\S]*Raised")
    ran: list[int] = []

    def first() -> None:
        sys.setprofile(raise_after("popleft", scheduler.plain_park))
        task.wait()

    tasks = waiting(first, *[lambda i=i: ran.append(i) for i in range(3)])
    wake(tasks)
    until(lambda: finished(tasks))
    assert ran == [0, 1, 2]


def test_an_interrupt_while_tasks_run_in_a_chain() -> None:
    """It reaches the main program where it waits, and every task goes on."""
    ran: list[Any] = []
    me = task.running()

    def body(i: int) -> None:
        if i == 1:
            signal.raise_signal(signal.SIGINT)
        ran.append(i)
        task.wait()
        ran.append(i + 100)

    tasks = waiting(*[lambda i=i: body(i) for i in range(3)])
    wake(tasks)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10_000)
    assert task.running() is me
    until(lambda: ran == [0, 1, 2])
    wake(tasks)
    until(lambda: finished(tasks))
    assert ran[3:] == [100, 101, 102]


# ---- the end of the process ---------------------------------------------------------------------------------------------

EXIT = """
import silly, sys
from silly import task, time

tasks = []

def body(i):
    try:
        task.wait()
        task.wait()
    finally:
        print("finally", i, flush=True)
        # Wakes one that has had no GreenletExit yet, and blocks.
        later = [each for each in tasks[i + 1:] if task.status(each) == "WAIT"]
        if later:
            task.wakeup(later[0])
        time.sleep(1)
        print("end", i, flush=True)

for i in range(4):
    tasks.append(task.fork(lambda i=i: body(i)))

def ender():
    for each in tasks:
        task.wakeup(each)
    {how}

time.after(1, lambda: task.fork(ender))
{main}
"""


@pytest.mark.parametrize("how", ["silly.exit(5)", "sys.exit(5)"])
@pytest.mark.parametrize("main", ["silly.run()", "time.sleep(30_000)"])
def test_the_end_with_tasks_that_wake_each_other(how: str, main: str) -> None:
    with Child("-c", EXIT.format(how=how, main=main)) as child:
        lines = sorted(child.line() for _ in range(8))
        assert child.wait() == 5, child.errors()
        assert "Traceback" not in child.errors()
    assert lines == sorted(f"{what} {i}" for i in range(4) for what in ("finally", "end"))


SIGNAL = """
import silly, os, signal
from silly import task

pair = []

def run(i):
    try:
        while True:
            task.wait()
            rounds[0] += 1
            if rounds[0] == 5000:
                os.kill(os.getpid(), signal.SIGTERM)
            task.wakeup(pair[1 - i])
    finally:
        print("finally", i, flush=True)

rounds = [0]
pair += [task.fork(lambda i=i: run(i)) for i in range(2)]
task.fork(lambda: task.wakeup(pair[0]))
silly.run()
"""


def test_a_signal_while_tasks_wake_each_other_for_ever() -> None:
    with Child("-c", SIGNAL) as child:
        lines = sorted([child.line(), child.line()])
        assert child.wait() == 0, child.errors()
        assert child.errors() == ""
    assert lines == ["finally 0", "finally 1"]


# ---- the loop below --------------------------------------------------------------------------------------------------


class Stale:
    """A poller that reports an event out of date, once."""

    def __init__(self, poller: Any, event: tuple[int, int]) -> None:
        self._poller, self._event = poller, event

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        scheduler.loop._poller = self._poller
        return [self._event, *self._poller.poll(0, maxevents)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)


@pytest.mark.parametrize("mask", [READ, WRITE, READ | WRITE, ERROR, HANGUP, READ | ERROR | HANGUP])
@pytest.mark.parametrize("reading", [False, True])
def test_a_number_used_again_within_a_turn(mask: int, reading: bool) -> None:
    """The event of a descriptor that was closed in the same turn reaches who got its number, and does no harm."""
    loop = scheduler.loop
    accepted: list[Any] = []
    listener, err = tcp.listen("127.0.0.1:0", accepted.append)
    assert err is None
    with listener:
        old, err = tcp.connect(f"127.0.0.1:{listener.port}")
        assert err is None
        number = old._stream.fd
        old._stream.abort()
        fresh, err = tcp.connect(f"127.0.0.1:{listener.port}")
        assert err is None
        with fresh:
            assert fresh._stream.fd == number
            until(lambda: len(accepted) == 2)
            job = Job(lambda: fresh.read(5)).blocked() if reading else None
            poller = loop._poller
            loop._poller = Stale(poller, (number, mask))
            until(lambda: loop._poller is poller)
            assert fresh.isalive()
            accepted[1].write("hello")
            assert (job.result() if job else fresh.read(5)) == (b"hello", None)
        for conn in accepted:
            conn.close()


def test_more_active_descriptors_than_a_turn_looks_at() -> None:
    """All have something all the time: none is served twice before another is served once, by more than a turn or two."""
    loop = scheduler.loop
    count = 3 * EVENTS
    served = [0] * count
    pairs = [socket.socketpair() for _ in range(count)]
    try:
        for i, (reads, writes) in enumerate(pairs):
            writes.send(b"x")

            def callback(mask: int, i: int = i) -> None:
                served[i] += 1  # what came stays there

            loop.register(reads.fileno(), READ, callback)
        until(lambda: max(served) >= 20)
        assert min(served) >= 18
    finally:
        for reads, writes in pairs:
            loop.unregister(reads.fileno())
            reads.close()
            writes.close()


def test_the_selector_of_other_systems_reports_the_same() -> None:
    poller = SelectorPoller()
    a, b = socket.socketpair()
    with a, b:
        fd = a.fileno()
        poller.register(fd, READ)
        assert poller.poll(0, 1) == []
        b.send(b"x")
        assert poller.poll(None, 1) == [(fd, READ)]
        poller.modify(fd, READ | WRITE)
        assert poller.poll(0, 1) == [(fd, READ | WRITE)]
        poller.modify(fd, WRITE)
        assert poller.poll(0, 1) == [(fd, WRITE)]
        b.close()
        poller.modify(fd, READ)
        a.recv(1)
        assert poller.poll(0, 1) == [(fd, READ)]
        with pytest.raises(FileExistsError):
            poller.register(fd, READ)
        poller.unregister(fd)
        for call, *args in (poller.unregister, fd), (poller.modify, fd, READ):
            with pytest.raises(FileNotFoundError):
                call(*args)
        assert poller.poll(0, 1) == []
    poller.close()


def test_a_foreign_greenlet_can_t_block() -> None:
    """Not even while tasks are ready."""
    seen: list[bool] = []

    def inner() -> None:
        assert scheduler.loop.ready
        with pytest.raises(RuntimeError, match="in a greenlet that silly did not start"):
            task.wait()
        seen.append(True)

    def body() -> None:
        greenlet(inner).switch()
        seen.append(True)

    tasks = waiting(body, lambda: seen.append(False))
    wake(tasks)
    until(lambda: finished(tasks))
    assert seen == [True, True, False]
