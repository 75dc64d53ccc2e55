"""``bridge.asyncio``: coroutines in silly's thread. Their end with the process is in ``test_asyncio_ending.py``, aiohttp in
``test_asyncio_http.py``."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import socket
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

import silly
from silly import task, testing, time
from silly._core import scheduler, watchdog
from silly.bridge import _asyncio_loop
from silly.bridge.asyncio import iterate, run
from silly.sync import channel, event
from silly.testing import _left

from ..conftest import Logs
from ..leaks import Thing, leaves_no_cycle
from ..leaks import raises as raise_it
from ..net.support import turns, until
from ..test_task import settle

loop = scheduler.loop
LONG = 3600
"""Seconds that nothing waits."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nothing stays with asyncio, or on its loop."""
    yield
    host = _asyncio_loop.present()
    if host is not None:
        until(lambda: not host.coroutines())
        assert (host.calls, host.given_up, loop.work) == (0, set(), 0)
        assert asyncio._get_running_loop() is None
        assert sys.get_asyncgen_hooks() == (None, None)


async def give(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def stay() -> None:
    await asyncio.sleep(LONG)


class Staying:
    """A coroutine that waits until it is cancelled, and notes how it ended."""

    def __init__(self, last: BaseException | None = None) -> None:
        self.begun = event.new()
        self.ended = ""
        self._last = last

    async def run(self) -> None:
        self.begun.set()
        try:
            await stay()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.ended = "cancelled"
            if self._last is not None:
                raise self._last from None
            raise

    def task(self, *args: Any) -> task.Task[Any]:
        """A task that waits for it, once it has begun."""
        t = task.fork(lambda: run(self.run(), *args))
        assert self.begun.wait(5000)
        return t


# ---- values and exceptions -----------------------------------------------------------


def test_values() -> None:
    assert run(give(3)) == (3, None)
    assert run(give(None), 1000) == (None, None)
    t = task.fork(lambda: run(give("in a task")))
    assert t.join(5000) == (("in a task", None), None)


def test_it_explains_itself() -> None:
    pair: Any = run(give(3))
    with pytest.raises(AttributeError, match=r"bridge\.asyncio\.run returns a pair: value, err = bridge\.asyncio\.run\(…\)"):
        pair.anything


def test_what_can_be_awaited() -> None:
    class Waits:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return "an object"

    async def make() -> Any:
        here = asyncio.get_running_loop()
        ready = here.create_future()
        here.call_soon(ready.set_result, "a future")
        return ready, here.create_task(give("a task"))

    assert run(Waits()) == ("an object", None)
    (ready, job), err = run(make())
    assert err is None
    assert (run(ready), run(job)) == (("a future", None), ("a task", None))
    assert run(ready) == ("a future", None)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (give, r"not function: call the function, bridge\.asyncio\.run\(give\(…\)\)"),
        (3, "needs a coroutine or another awaitable, not int$"),
        (None, "not NoneType$"),
    ],
)
def test_what_can_not_be_awaited(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        run(value)


def test_an_asynchronous_generator_is_for_iterate() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    wrong: Any = numbers()
    with pytest.raises(TypeError, match=r"not async_generator: bridge\.asyncio\.iterate goes through its items"):
        run(wrong)


def test_a_future_of_another_loop() -> None:
    other = asyncio.new_event_loop()
    try:
        with pytest.raises(ValueError, match=r"belongs to another loop of asyncio; make it .* in a coroutine"):
            run(other.create_future())
    finally:
        other.close()


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_a_bad_time_out(timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"bridge\.asyncio\.run: the time-out"):
        run(give(1), timeout)  # a warning that it was never awaited would fail the test


def test_an_exception_is_raised_with_its_traceback() -> None:
    async def inner() -> None:
        raise_it(Thing())

    with pytest.raises(ValueError) as raised:
        run(inner())
    assert [entry.name for entry in raised.traceback][-2:] == ["inner", "raises"]
    assert raised.value.__context__ is None


@pytest.mark.parametrize("exc", [TimeoutError, StopAsyncIteration, KeyError, OSError, GeneratorExit])
def test_exceptions(exc: type[BaseException]) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise exc("its own")

    with pytest.raises(exc, match="its own"):
        run(fail(), 1000)


def test_an_exception_leaves_no_cycle() -> None:
    async def fail(thing: Thing) -> None:
        raise_it(thing)

    leaves_no_cycle(lambda thing: run(fail(thing)))


def test_what_asyncio_has() -> None:
    """Groups, gathering, time-outs, locks, queues and threads."""

    async def all_of_it() -> list[Any]:
        got: list[Any] = list(await asyncio.gather(give(1), give(2)))
        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(give(n)) for n in (3, 4)]
        got += [job.result() for job in jobs]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await stay()
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.Lock():
            queue.put_nowait(5)
            got.append(await queue.get())
        got.append(await asyncio.to_thread(threading.current_thread) is not threading.main_thread())
        return got

    assert run(all_of_it()) == ([1, 2, 3, 4, 5, True], None)
    run(asyncio_loop().shutdown_default_executor())
    # The loop lasts as long as the process, and others' tests use its threads: it makes new ones.
    asyncio_loop()._executor_shutdown_called = False  # type: ignore[attr-defined]
    asyncio_loop()._default_executor = None  # type: ignore[attr-defined]


def asyncio_loop() -> asyncio.AbstractEventLoop:
    async def get() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    return silly.check(run(get()))


def test_many_at_once() -> None:
    """Fifty wait at the same time, and the loop turns meanwhile."""
    begin = loop.turns

    async def nap(number: int) -> int:
        await asyncio.sleep(0.05)
        return number

    before = time.monotonic()
    assert [value for value, _ in task.map(lambda n: run(nap(n)), range(50), 50)] == [*range(50)]
    assert time.monotonic() - before < 2000
    assert loop.turns > begin


def test_context_variables() -> None:
    name = contextvars.ContextVar("name", default="none")

    async def see() -> str:
        await asyncio.sleep(0)
        seen = name.get()
        name.set("the coroutine's")
        return seen

    def call() -> None:
        name.set("the task's")
        assert run(see()) == ("the task's", None)
        assert name.get() == "the task's"

    task.fork(call).join()
    assert run(see()) == ("none", None)


def test_many_runs_leave_nothing() -> None:
    async def nothing() -> None:
        pass

    def count() -> tuple[int, Any]:
        gc.collect()
        return len(gc.get_objects()), _left.found().counts

    for _ in range(100):
        run(nothing())
        run(stay(), 0)
    until(lambda: not loop.work)
    turns()
    before = count()
    for _ in range(10_000):
        run(nothing())
    for _ in range(200):
        run(stay(), 0)
    until(lambda: not loop.work)
    turns()
    after = count()
    assert after[1] == before[1]
    assert after[0] - before[0] < 200


# ---- where it can't be called --------------------------------------------------------


def test_a_call_that_waits_in_a_coroutine() -> None:
    chan: Any = channel.new()

    async def wrong(call: Callable[[], object]) -> None:
        call()

    here = r" in a coroutine of asyncio; await asyncio's own calls there, or start a task with task\.fork"
    calls: dict[str, Callable[[], object]] = {
        "time.sleep": lambda: time.sleep(1),
        "channel.pop": chan.pop,
        "task.wait": task.wait,
        "task.join": lambda: task.fork(settle).join(),
        "task.group": lambda: task.group().__enter__(),
        "event.wait": lambda: event.new().wait(),
        "bridge.asyncio.run": lambda: run(give(1)),
    }
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match=rf"^{name}: .*{here}"):
            run(wrong(call))
    settle()


def test_run_where_no_task_may_switch() -> None:
    coroutine = give(1)
    with task.no_switch(), pytest.raises(RuntimeError, match=r"bridge\.asyncio\.run: may wait, and no other task"):
        run(coroutine)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        run(coroutine)


def test_run_in_a_thread() -> None:
    with pytest.raises(RuntimeError, match=r"bridge\.asyncio\.run: called from another thread"):
        task.thread(lambda: run(give(1)))


def test_calls_that_do_not_wait_work_in_a_coroutine() -> None:
    chan: Any = channel.new()
    done = event.new()

    async def work() -> str:
        t = task.fork(chan.push, "from its task")
        chan.push("from the coroutine")
        done.set()
        while not t.done:
            await asyncio.sleep(0)
        return "over"

    t = task.fork(done.wait)
    assert run(work()) == ("over", None)
    assert chan.pop() == ("from the coroutine", None)
    assert chan.pop() == ("from its task", None)
    t.join()


def test_greenlets_within_a_coroutine() -> None:
    """As SQLAlchemy does it: code that blocks runs in a greenlet of its own, which switches to the coroutine to await."""

    def blocking() -> list[int]:
        parent = getcurrent().parent
        assert parent is not None
        with pytest.raises(RuntimeError, match=r"time\.sleep: no task runs"):
            time.sleep(1)
        return [parent.switch(give(n)) for n in range(3)]

    async def spawn() -> list[int]:
        inner = greenlet(blocking, getcurrent())
        got = inner.switch()
        while not inner.dead:
            got = inner.switch(await got)
        return got

    assert run(spawn()) == ([0, 1, 2], None)


# ---- time, and cancelling ------------------------------------------------------------


def test_time_out() -> None:
    it = Staying()
    t = it.task(1)
    assert t.join(5000) == ((None, "bridge.asyncio.run: the time-out of 1 ms ran out"), None)
    until(lambda: it.ended)
    assert it.ended == "cancelled"


def test_deadline() -> None:
    with time.deadline(1) as limit:
        assert run(stay()) == (None, "bridge.asyncio.run: the deadline of 1 ms ran out")
        assert limit.expired
        never = stay()
        assert run(never) == (None, "bridge.asyncio.run: the deadline of 1 ms ran out")
        assert never.cr_frame is None, "it has begun"


def test_no_time_at_all() -> None:
    """What has begun is cancelled, and what has not is closed without a warning."""
    assert run(stay(), 0) == (None, "bridge.asyncio.run: the time-out of 0 ms ran out")


@pytest.mark.parametrize("late", [False, True])
def test_cancel(late: bool) -> None:
    it = Staying()
    t = task.fork(lambda: run(it.run()))
    if late:
        assert it.begun.wait(5000)
    t.cancel()
    assert t.join(5000) == (None, "cancelled")
    until(lambda: not loop.work)
    assert it.ended == ("cancelled" if late else "")


def test_a_blow_before_the_coroutine_begins() -> None:
    coroutine = stay()
    t = task.fork(run, coroutine)
    loop.post(scheduler.throw, t, scheduler.Cancelled())  # before asyncio's turn, which the task will ask for
    assert t.join(5000) == (None, "cancelled")
    assert coroutine.cr_frame is None, "it has begun"


def test_cancel_of_a_group() -> None:
    its = [Staying() for _ in range(3)]
    with pytest.raises(ExceptionGroup), task.group() as group:
        for it in its:
            group.fork(run, it.run())
        for it in its:
            assert it.begun.wait(5000)
        1 / 0
    until(lambda: not loop.work)
    assert [it.ended for it in its] == ["cancelled"] * 3


def test_work_counts_what_was_cancelled() -> None:
    ends = asyncio.Event()

    async def slow() -> None:
        try:
            await stay()
        finally:
            await ends.wait()

    assert run(slow(), 1)[0] is None
    turns()
    assert loop.work == 1
    ends.set()  # by a task: asyncio's loop is resumed
    until(lambda: not loop.work)


def test_an_exception_after_the_time_is_logged(logs: Logs) -> None:
    logs.expect(r"ERROR bridge\.asyncio\.run: exception in Staying\.run, whose result nobody awaits any more:\n[^!]*KeyError")
    it = Staying(KeyError("last"))
    it.task(1).join()
    until(lambda: it.ended)


def test_a_value_and_a_cancel_in_one_turn() -> None:
    """It was done before the blow struck: the task gets the value, and the blow at its next wait."""
    got = []

    async def strike() -> str:
        await asyncio.sleep(0)
        t.cancel()
        return "the value"

    def work() -> None:
        got.append(run(strike()))
        time.sleep(LONG * 1000)

    t = task.fork(work)
    assert t.join(5000) == (None, "cancelled")
    assert got == [("the value", None)]


def test_an_exception_is_not_lost_when_its_task_is_struck(logs: Logs) -> None:
    logs.expect(r"ERROR bridge\.asyncio\.run: exception in .*fail, whose result nobody awaits any more:")

    plain = loop.run_ready

    def strike() -> None:
        loop.run_ready = plain
        assert scheduler.main in loop.ready
        scheduler.interrupted(KeyboardInterrupt())

    async def fail() -> None:
        loop.run_ready = strike  # in the next turn: the main program is struck where it is about to run
        await asyncio.sleep(0)
        raise KeyError("lost?")

    with pytest.raises(KeyboardInterrupt):
        run(fail())


def test_a_coroutine_that_asyncio_cancels() -> None:
    async def cancelled() -> None:
        me = asyncio.current_task()
        assert me is not None
        asyncio.get_running_loop().call_soon(me.cancel)
        await stay()

    assert run(cancelled()) == (None, "cancelled")


def test_a_coroutine_that_asyncio_cancels_before_it_begins() -> None:
    async def cancel_all() -> None:
        for each in asyncio.all_tasks():
            if each.get_name() == "stay":
                each.cancel()

    first = asyncio_loop().create_task(cancel_all())
    assert run(stay()) == (None, "cancelled")
    assert first.done()


def test_a_task_factory_that_is_eager() -> None:
    """It is for the tasks within asyncio, and doesn't begin a coroutine in silly's task."""
    if sys.version_info < (3, 12):
        pytest.skip("Python 3.12 has the first eager tasks")
    inner = asyncio_loop()
    inner.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    try:

        async def look() -> bool:
            return asyncio.get_running_loop() is inner and await asyncio.create_task(give(True))

        assert run(look()) == (True, None)
    finally:
        inner.set_task_factory(None)


def test_what_was_given_up_is_not_garbage() -> None:
    """Nothing but itself holds it while it waits in its ``finally`` block."""
    ends = None

    async def slow() -> None:
        nonlocal ends
        try:
            await stay()
        finally:
            future = asyncio.get_running_loop().create_future()
            ends = weakref.ref(future)
            await future

    assert run(slow(), 1)[0] is None
    until(lambda: ends is not None)
    gc.collect()
    assert loop.work == 1
    assert ends is not None
    ends().set_result(None)


# ---- beside other loops --------------------------------------------------------------


def test_asyncio_run_works_in_a_task() -> None:
    """Even while coroutines wait here."""
    it = Staying()
    t = it.task()
    assert asyncio.run(give(1)) == 1
    assert task.fork(lambda: asyncio.run(give(2))).join() == (2, None)
    t.cancel()
    t.join()


def test_the_running_loop_in_callbacks_and_tasks() -> None:
    seen = []

    async def look() -> None:
        loop.post(lambda: seen.append(asyncio._get_running_loop()))
        task.fork(lambda: seen.append(asyncio._get_running_loop()))
        await asyncio.sleep(0.001)
        assert asyncio.get_running_loop() is asyncio_loop_of_host()

    run(look())
    assert seen == [None, None]


def asyncio_loop_of_host() -> Any:
    host = _asyncio_loop.present()
    return host and host.asyncio


def test_hooks_for_asynchronous_generators() -> None:
    """They are those of the loop within it, and the program's own outside."""
    ours: list[Any] = []
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(ours.append, None)
    try:

        async def numbers() -> AsyncIterator[int]:
            yield 1
            await asyncio.sleep(0)
            yield 2

        async def take() -> list[int]:
            return [n async for n in numbers()]

        assert run(take()) == ([1, 2], None)
        assert ours == []
        assert sys.get_asyncgen_hooks().firstiter == ours.append
        generator: Any = numbers()
        with pytest.raises(StopIteration):
            generator.__anext__().send(None)
        assert ours == [generator]
        with pytest.raises(StopIteration):
            generator.aclose().send(None)
    finally:
        sys.set_asyncgen_hooks(*before)


# ---- tasks and threads use the loop --------------------------------------------------


def test_a_task_gives_to_a_coroutine() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    t = task.fork(lambda: run(queue.get()))
    turns()
    queue.put_nowait(7)
    assert t.join(5000) == ((7, None), None)


def test_a_task_sets_a_timer_of_asyncio() -> None:
    due = event.new()
    inner = asyncio_loop()
    turns()
    inner.call_later(0.001, due.set)
    assert due.wait(5000)


def test_a_thread_gives_to_a_coroutine() -> None:
    inner = asyncio_loop()
    got = inner.create_future()
    thread = threading.Thread(target=inner.call_soon_threadsafe, args=(got.set_result, 8))
    t = task.fork(run, got)
    turns()
    thread.start()
    assert t.join(5000) == ((8, None), None)
    thread.join()


def test_coroutines_in_the_background() -> None:
    """They go on while silly does, and are not something that a task waits for."""
    chan: Any = channel.new()

    async def keeper() -> None:
        try:
            while True:
                await asyncio.sleep(0.001)
                chan.push("beat")
        finally:
            chan.push("over")

    keeping = asyncio_loop().create_task(keeper())
    assert not loop.can_wake()
    for _ in range(3):
        assert chan.pop() == ("beat", None)  # no deadlock is reported
    keeping.cancel()
    while chan.pop() != ("over", None):
        pass


def test_fairness() -> None:
    """A coroutine that never waits for anything lets the tasks run."""
    seen = []

    async def spin() -> int:
        count = 0
        while len(seen) < 10:
            await asyncio.sleep(0)
            count += 1
        return count

    def count() -> None:
        while len(seen) < 10:
            seen.append(1)
            time.sleep(0)

    t = task.fork(count)
    count_of_rounds, err = run(spin(), 5000)
    assert err is None
    assert count_of_rounds < 100
    t.join()


def test_stop_does_not_end_the_loop() -> None:
    async def stop() -> None:
        asyncio.get_running_loop().stop()

    assert run(stop()) == (None, None)
    turns()
    assert run(give(1)) == (1, None)


def test_an_error_in_a_callback_is_asyncios_matter(caplog: pytest.LogCaptureFixture) -> None:
    asyncio_loop().call_soon(raise_it, Thing())
    turns()
    assert "Exception in callback raises" in caplog.text


def test_a_child_process() -> None:
    async def child() -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hello')", stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out, process.returncode

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # child watchers, in Python 3.12
        assert run(child(), 20_000) == ((b"hello\n", 0), None)


# ---- signals and ends ----------------------------------------------------------------


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_end_is_raised_in_the_caller(end: type[BaseException]) -> None:
    async def finish() -> None:
        await asyncio.sleep(0)
        raise end(3)

    with pytest.raises(end):
        run(finish())
    assert run(give(1)) == (1, None)


def test_an_interrupt_in_a_callback_reaches_the_main_program() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    asyncio_loop().call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(5000)
    assert run(give(1)) == (1, None)


def test_ctrl_c_while_a_coroutine_runs() -> None:
    """It doesn't strike in the coroutine, but where the main program waits."""
    seen = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
        seen.append("whole")
        await stay()

    with pytest.raises(KeyboardInterrupt):
        run(work())
    assert seen == ["whole"]


def test_handlers_of_signals() -> None:
    """``add_signal_handler`` works; silly's loop and asyncio's are both woken."""
    got = event.new()

    async def begin() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, got.set)

    async def end() -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    run(begin())
    try:
        for _ in range(2):
            task.fork(os.kill, os.getpid(), signal.SIGUSR1)
            assert got.wait(5000)
            got.clear()
    finally:
        run(end())
        signal.signal(signal.SIGUSR1, before)
        signal.set_wakeup_fd(-1)


# ---- items ---------------------------------------------------------------------------


class Source:
    """An asynchronous generator that notes its end."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.over = False

    async def items(self) -> AsyncIterator[int]:
        try:
            for i in range(self.most):
                await asyncio.sleep(0)
                yield i
            await stay()
        finally:
            self.over = True


def test_items() -> None:
    async def three() -> AsyncIterator[int]:
        for i in range(3):
            yield i

    items = iterate(three(), 1000)
    assert [*items] == [0, 1, 2]
    assert items.err is None
    assert [*items] == []


def test_items_end_with_the_time() -> None:
    source = Source(2)
    items = iterate(source.items(), 20)
    assert [*items] == [0, 1]
    assert items.err == "bridge.asyncio.iterate: the time-out of 20 ms ran out"
    assert [*items] == []
    until(lambda: source.over)


def test_items_that_raise() -> None:
    async def fail() -> AsyncIterator[int]:
        yield 1
        raise KeyError("items")

    items = iterate(fail())
    assert next(items) == 1
    with pytest.raises(KeyError, match="items"):
        next(items)
    assert [*items] == []


def test_items_that_are_left_early_close_the_generator() -> None:
    source = Source(100)
    for item in iterate(source.items()):
        if item == 3:
            break
    until(lambda: source.over)


def test_items_for_one_task_at_a_time() -> None:
    async def none() -> AsyncIterator[int]:
        await asyncio.sleep(0.02)
        yield 1

    items = iterate(none())
    t = task.fork(next, items)
    turns()
    with pytest.raises(RuntimeError, match="another task waits for the next item"):
        next(items)
    assert t.join(5000) == (1, None)
    assert [*items] == []


def test_items_of_something_else() -> None:
    with pytest.raises(TypeError, match="needs what async for takes, not list"):
        iterate([1])  # type: ignore[arg-type]
    wrong: Any = give(1)
    with pytest.raises(TypeError, match=r"not coroutine; run it first, with bridge\.asyncio\.run"):
        iterate(wrong)
    wrong.close()


# ---- the tools -----------------------------------------------------------------------


def test_a_virtual_clock() -> None:
    """Asyncio's time is silly's."""

    async def nap() -> float:
        begin = asyncio.get_running_loop().time()
        await asyncio.sleep(LONG)
        return asyncio.get_running_loop().time() - begin

    with testing.clock() as clock:
        assert clock.held is None
        passed, err = run(nap())
        assert err is None
        assert LONG <= passed < LONG + 0.01
        assert LONG * 1000 <= clock.elapsed <= LONG * 1000 + 10
        assert run(stay(), 1000)[0] is None
        assert clock.held is None


def test_the_loop_itself_is_not_something_left() -> None:
    before = _left.found()
    host = _asyncio_loop.present()
    if host is not None:
        host.abort()
        gc.collect()
        before = _left.found()
    t = Staying().task()
    assert _left.found().counts["coroutines of asyncio"] == 1
    named = [*_left._named(_left.found(), before)]
    assert len(named) == 2
    assert named[0].endswith("waits on bridge.asyncio.run")
    assert named[1] == "  the coroutine Staying.run"
    t.cancel()
    t.join()
    assert _left.left(before) is None


def test_an_idle_loop_waits_for_nothing() -> None:
    """The watchdog says nothing of a program that computes beside it: it holds nobody up."""
    asyncio_loop()
    turns()
    assert watchdog._alone()
    it = Staying()
    keeping = asyncio_loop().create_task(it.run())
    it.begun.wait(5000)
    turns()
    assert not watchdog._alone()
    keeping.cancel()
    until(lambda: it.ended)


def test_a_loop_that_waits_for_a_descriptor_waits_for_something() -> None:
    one, two = socket.socketpair()
    with one, two:
        asyncio_loop().add_reader(one, one.recv, 1)
        turns()
        assert not watchdog._alone()
        with testing.clock() as clock:
            assert clock.held == "asyncio's loop, with 0 coroutines"
        asyncio_loop().remove_reader(one)


def test_a_selector_that_fails_does_not_end_the_loop(logs: Logs) -> None:
    logs.expect(r"ERROR exception in asyncio's loop:\n[^!]*OSError: no luck")
    asyncio_loop()
    host = _asyncio_loop.present()
    assert host is not None
    turns()

    def fail(timeout: float | None) -> bool:
        host._selector.wait = host._wait
        raise OSError("no luck")

    host._selector.wait = fail
    assert run(give(1)) == (1, None)


def test_a_cancel_after_the_loop_was_aborted(logs: Logs) -> None:
    """As what a failed test leaves behind is cleaned up."""
    logs.expect("WARNING the coroutine Staying.run did not end before silly did")
    t = Staying().task()
    host = _asyncio_loop.present()
    assert host is not None
    host.abort()
    assert not host.outside()  # the watchdog's thread may still ask
    t.cancel()
    assert t.join(5000) == (None, "cancelled")
    assert (host.calls, loop.work) == (0, 0)
    assert run(give(1)) == (1, None)


def test_an_idle_loop_is_garbage_once_it_has_ended() -> None:
    asyncio_loop()
    host = _asyncio_loop.present()
    assert host is not None
    ref, inner = weakref.ref(host), weakref.ref(host.asyncio)
    host.abort()
    del host
    turns()
    gc.collect()
    assert ref() is None
    assert inner() is None
