"""``task.thread``, ``task.threads``, ``task.post`` and ``task.call``, with real threads."""

from __future__ import annotations

import contextvars
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import task, time
from silly._core import scheduler, threads, worker
from silly.sync import channel

from .conftest import Logs
from .core.test_worker import assert_no_threads
from .leaks import leaves_no_cycle, raises
from .net.support import until

PATIENCE = 20.0
"""Seconds after which something that should have happened has failed."""


@pytest.fixture(autouse=True)
def no_threads_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No threads of ours after a test, and the number as it was."""
    monkeypatch.setattr(worker, "IDLE", 0.02)
    assert_no_threads()
    yield
    task.threads(64)
    assert_no_threads()


class Held:
    """A function for a thread, which returns when it is let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self._go = threading.Event()
        self.ended = threading.Event()

    def __call__(self, value: object = "let go") -> object:
        self.began.set()
        assert self._go.wait(PATIENCE)
        self.ended.set()
        return value

    def go(self) -> None:
        self._go.set()

    def running(self) -> None:
        """Waits until it runs."""
        until(self.began.is_set)

    def gives_up(self, ms: float) -> tuple[object, str | None]:
        """Waits for its end, for ``ms`` milliseconds; they are not over before it runs."""
        task.fork(self.began.wait, PATIENCE)  # holds the loop, so that no deadline strikes before
        with time.deadline(ms):
            return task.thread(self)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.go()


def failing(kind: type[BaseException] = ValueError) -> None:
    raise kind("boom")


# ---- task.thread ---------------------------------------------------------------------


def test_all_arguments_are_the_function_s() -> None:
    def show(*args: object, **kwargs: object) -> object:
        return args, kwargs, threading.get_ident() != scheduler.loop.thread

    kwargs = {"func": 1, "self": 2, "timeout": 3, "pool": 4, "what": 5, "who": 6, "loop": 7}
    assert task.thread(show, None, "a", **kwargs) == (((None, "a"), kwargs, True), None)
    assert task.thread(int) == (0, None)


def test_only_the_calling_task_waits(held: Held) -> None:
    ran = []
    other = task.fork(lambda: (ran.append("other"), held.go()))
    assert task.thread(held, 7) == (7, None)
    assert ran == ["other"]
    assert other.done


def test_the_exception_is_raised_here_with_its_traceback() -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        task.thread(failing)
    names = [entry.name for entry in caught.traceback]
    assert names[0] == "test_the_exception_is_raised_here_with_its_traceback"
    assert names[-1] == "failing"
    assert "run" not in names
    assert "_work" not in names
    assert caught.value.__context__ is None


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GreenletExit, BaseException, StopIteration])
def test_what_is_no_error_is_raised_here_too(kind: type[BaseException]) -> None:
    with pytest.raises(kind) as caught:
        task.thread(failing, kind)
    assert type(caught.value) is kind


def test_an_exception_leaves_no_cycle() -> None:
    leaves_no_cycle(lambda thing: task.thread(raises, thing))


def test_a_deadline_bounds_it_and_the_function_goes_on(held: Held) -> None:
    before = scheduler.loop.work
    assert held.gives_up(20) == (None, "task.thread: the deadline of 20 ms ran out")
    assert scheduler.loop.work == before, "the end of the process does not wait for it"
    assert not held.ended.is_set()
    held.go()
    assert held.ended.wait(PATIENCE)


def test_a_deadline_that_is_over_starts_nothing() -> None:
    ran = []
    with time.deadline(0):
        time.sleep(0)
        until_over()
        assert task.thread(ran.append, 1)[1] == "task.thread: the deadline of 0 ms ran out"
    assert task.thread(int) == (0, None)
    assert ran == []


def until_over() -> None:
    while not scheduler.expired():
        time.sleep(0)


def test_a_time_out_of_the_function_is_its_own() -> None:
    """A TimeoutError that it raises is not taken for the deadline's, whatever its class."""

    def slow() -> None:
        with time.deadline(1):
            time.sleep(1000)

    with pytest.raises(TimeoutError, match=r"time\.sleep"):
        task.thread(task.call, slow)


def test_a_cancel_ends_the_wait_and_the_function_goes_on(held: Held) -> None:
    t = task.fork(task.thread, held)
    held.running()
    assert t.cancel()
    assert t.join() == (None, "cancelled")
    assert not held.ended.is_set()
    held.go()
    assert held.ended.wait(PATIENCE)


def test_a_cancel_before_it_starts_nothing() -> None:
    ran: list[int] = []

    def body() -> None:
        task.running().cancel()
        task.thread(ran.append, 1)

    assert task.fork(body).join() == (None, "cancelled")
    assert task.thread(int) == (0, None)
    assert ran == []


def test_in_a_group_that_has_failed_nothing_starts() -> None:
    ran: list[int] = []
    chan = channel.new()

    def child() -> None:
        chan.push(1)
        raise ValueError("no")

    with pytest.raises(ExceptionGroup), task.group() as g:
        g.fork(child)
        chan.pop()
        task.thread(ran.append, 1)
    assert task.thread(int) == (0, None)
    assert ran == []


def test_a_result_that_is_there_wins_over_a_cancel(held: Held) -> None:
    """The task was woken first."""
    t = task.fork(task.thread, held)
    me = task.running()
    held.running()
    (job,) = worker.waited_for
    done = job.done

    def woken(result: object, exc: BaseException | None) -> None:
        done(result, exc)
        assert t.cancel()
        task.wakeup(me)

    job.done = woken
    held.go()
    task.wait()
    assert t.join() == (("let go", None), None)


def test_the_exception_of_a_dropped_function_is_logged(logs: Logs) -> None:
    class Late(Held):
        def __call__(self, value: object = None) -> object:
            super().__call__()
            raise ValueError("too late")

    late = Late()
    assert late.gives_up(10)[0] is None
    logs.expect(r"(?s)ERROR task.thread: exception in .*Late.*, whose result nobody awaits any more:.*too late")
    late.go()
    until(lambda: logs.count())


def test_the_dropped_end_of_a_function_is_not_logged() -> None:
    class Late(Held):
        def __call__(self, value: object = None) -> object:
            super().__call__()
            raise SystemExit(3)

    late = Late()
    assert late.gives_up(10)[0] is None
    late.go()
    assert_no_threads()
    time.sleep(1)


def test_a_function_that_has_not_begun_goes_with_its_caller(held: Held) -> None:
    task.threads(1)
    running = task.fork(task.thread, held)
    held.running()
    ran: list[int] = []
    waiting = [task.fork(task.thread, ran.append, n) for n in range(100)]
    until(lambda: worker.calls.waiting() == 100)
    for n, t in enumerate(waiting):
        if n != 50:
            assert t.cancel()
    until(lambda: worker.calls.waiting() == 1)
    held.go()
    assert running.join() == (("let go", None), None)
    assert waiting[50].join() == ((None, None), None)
    assert ran == [50]
    assert all(t.join() == (None, "cancelled") for n, t in enumerate(waiting) if n != 50)


def test_they_begin_in_their_order(held: Held) -> None:
    task.threads(1)
    first = task.fork(task.thread, held)
    held.running()
    ran: list[int] = []
    all_of_them = [task.fork(task.thread, ran.append, n) for n in range(50)]
    until(lambda: worker.calls.waiting() == 50)
    held.go()
    for t in (first, *all_of_them):
        t.join()
    assert ran == list(range(50))


def test_context_variables_follow_and_come_not_back() -> None:
    var = contextvars.ContextVar("var", default="none")
    var.set("the task's")

    def look() -> str:
        seen = var.get()
        var.set("the thread's")
        return seen

    assert task.thread(look) == ("the task's", None)
    assert task.thread(look) == ("the task's", None), "the thread keeps nothing"
    assert var.get() == "the task's"


def test_the_system_s_refusal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    before = scheduler.loop.work
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert task.thread(int) == (None, "task.thread: can't start new thread")
    assert scheduler.loop.work == before
    assert not worker.waited_for
    assert task.thread(int) == (0, None)


def test_a_thousand_at_a_time() -> None:
    going = most = 0
    lock = threading.Lock()

    def job(n: int) -> int:
        nonlocal going, most
        with lock:
            going += 1
            most = max(most, going)
        threading.Event().wait(0.001)
        with lock:
            going -= 1
        return n * n

    tasks = [task.fork(task.thread, job, n) for n in range(1000)]
    assert [t.join() for t in tasks] == [((n * n, None), None) for n in range(1000)]
    assert 1 < most <= 64


@pytest.mark.parametrize("seed", range(5))
def test_a_storm_of_cancels(seed: int) -> None:
    """Each task gets its own result or is cancelled, and nothing is left."""
    rng = random.Random(seed)
    ran: list[int] = []
    task.threads(4)

    def job(n: int) -> int:
        ran.append(n)
        threading.Event().wait(rng.random() / 1000)
        return n

    def body(n: int) -> object:
        with time.deadline(rng.choice([0, 1, 5, 10_000])):
            return task.thread(job, n)

    tasks = [task.fork(body, n) for n in range(300)]
    while not all(t.done for t in tasks):
        rng.choice(tasks).cancel()
        time.sleep(rng.choice([0, 0, 0, 1]))
    for n, t in enumerate(tasks):
        value, err = t.join()
        if err is None:
            assert value in ((n, None), (None, value[1]))
        else:
            assert err == "cancelled"
    assert len(ran) == len(set(ran))
    assert not worker.waited_for
    assert worker.calls.waiting() == 0
    until(lambda: worker.calls.under_way() == 0)
    assert scheduler.loop.work == 0


# ---- task.threads --------------------------------------------------------------------


def test_the_number_of_threads() -> None:
    assert task.threads() == 64
    assert task.threads(3) == 64
    assert task.threads(1024) == 3
    assert task.threads(1) == 1024
    assert task.threads() == 1


WRONG = [(0, ValueError), (-1, ValueError), (1025, ValueError), (True, TypeError), (2.0, TypeError), ("8", TypeError)]


@pytest.mark.parametrize(("most", "kind"), WRONG)
def test_numbers_that_make_no_sense(most: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"task\.threads"):
        task.threads(most)
    assert task.threads() == 64


def test_with_more_threads_those_that_wait_begin_at_once(held: Held) -> None:
    task.threads(1)
    others = [Held() for _ in range(3)]
    first = task.fork(task.thread, held)
    held.running()
    tasks = [task.fork(task.thread, each) for each in others]
    until(lambda: worker.calls.waiting() == 3)
    task.threads(3)
    others[1].running()
    assert not others[2].began.is_set()
    for each in others:
        each.go()
    for t in tasks:
        assert t.join() == (("let go", None), None)
    held.go()
    assert first.join()[1] is None


def test_with_fewer_threads_each_ends_after_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE", PATIENCE)
    held = [Held() for _ in range(8)]
    tasks = [task.fork(task.thread, each) for each in held]
    for each in held:
        each.running()
    task.threads(2)
    assert worker.calls._threads == 8
    ran: list[int] = []
    more = [task.fork(task.thread, ran.append, n) for n in range(20)]
    for each in held[:6]:
        each.go()
    until(lambda: worker.calls._threads == 2)
    assert ran == [], "two functions run already"
    for each in held[6:]:
        each.go()
    for t in (*tasks, *more):
        assert t.join()[1] is None
    assert sorted(ran) == list(range(20))
    task.threads(1)
    until(lambda: worker.calls._threads == 1)
    monkeypatch.setattr(worker, "IDLE", 0.02)
    task.thread(int)


# ---- when all threads are busy -------------------------------------------------------


def test_a_line_names_the_call_that_has_waited_longest(held: Held, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CROWDED", 0.05)
    task.threads(1)
    first = task.fork(task.thread, held)
    held.running()

    def fetch() -> None: ...

    tasks = [task.fork(task.thread, each) for each in (fetch, int, int)]  # in one turn: all of them wait when the line comes
    logs.expect(
        r"WARNING task\.thread: its thread is busy, and 3 calls wait; the oldest, \S+fetch, has waited for \d+\.\d s; "
        r"Held\.__call__ has run for \d+\.\d s$"
    )
    until(lambda: logs.count())
    time.sleep(120)
    assert logs.count() == 1, "once for as long as calls wait"
    held.go()
    for t in (first, *tasks):
        assert t.join()[1] is None


def test_no_line_for_calls_that_come_and_go(held: Held, logs: Logs) -> None:
    task.threads(1)
    tasks = [task.fork(task.thread, held)]
    held.running()
    tasks += [task.fork(task.thread, int) for _ in range(100)]
    until(lambda: worker.calls.waiting() == 100)
    assert worker.calls._timer is not None
    held.go()
    for t in tasks:
        t.join()
    assert worker.calls._timer is None
    assert logs.count() == 0


# ---- task.post -----------------------------------------------------------------------


def in_thread(func: Callable[[], object]) -> object:
    """``func()`` in a thread of the test's own; raises what it raises."""
    got: list[Any] = []

    def work() -> None:
        try:
            got.append((func(), None))
        except BaseException as exc:
            got.append((None, exc))

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: got)
    thread.join(PATIENCE)
    result, exc = got[0]
    if exc is not None:
        raise exc
    return result


def test_a_thread_starts_tasks_in_its_order() -> None:
    got = channel.new()

    def work() -> None:
        for n in range(1000):
            assert task.post(got.push, n) is True

    tasks = [task.fork(task.thread, work) for _ in range(4)]
    items = [got.pop()[0] for _ in range(4000)]
    assert sorted(items) == sorted(list(range(1000)) * 4)
    for t in tasks:
        assert t.join() == ((None, None), None)


def test_one_thread_s_posts_keep_their_order() -> None:
    got: list[int] = []
    in_thread(lambda: [task.post(got.append, n) for n in range(500)])
    until(lambda: len(got) == 500)
    assert got == list(range(500))


def test_a_posted_function_is_a_task_with_all_arguments() -> None:
    seen = channel.new()

    def main(*args: object) -> None:
        time.sleep(1)
        seen.push((args, task.running().name(), threading.get_ident() == scheduler.loop.thread))

    in_thread(lambda: task.post(main, None, 2))
    (args, name, here), _ = seen.pop()
    assert args == (None, 2)
    assert name.endswith("main")
    assert here


def test_posts_from_a_signal_handler_and_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = channel.new()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: task.post(seen.push, number))
    try:
        signal.raise_signal(signal.SIGUSR1)
        with time.deadline(PATIENCE * 1000):
            assert seen.pop() == (signal.SIGUSR1, None)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert task.post(seen.push, "from a task")
    assert seen.pop() == ("from a task", None)


def test_context_variables_of_the_poster_and_of_the_caller() -> None:
    var = contextvars.ContextVar("var", default="none")
    seen = channel.new()

    def work() -> object:
        var.set("the thread's")
        task.post(lambda: seen.push(var.get()))
        return task.call(var.get)

    assert in_thread(work) == "the thread's"
    assert seen.pop() == ("the thread's", None)
    assert var.get() == "none"


def test_the_exception_of_a_posted_task_is_logged(logs: Logs) -> None:
    logs.expect(r"(?s)ERROR exception in <task failing RUN, forked at \S+test_threads\.py:\d+>:.*ValueError: boom")
    in_thread(lambda: task.post(failing))
    until(lambda: logs.count())


# ---- task.call -----------------------------------------------------------------------


def test_a_thread_gets_the_result_of_a_task() -> None:
    def main(a: int, b: int) -> tuple[int, bool]:
        time.sleep(1)
        return a + b, threading.get_ident() == scheduler.loop.thread

    assert in_thread(lambda: task.call(main, 2, 3)) == (5, True)
    assert task.thread(task.call, main, 2, 3) == ((5, True), None)


def test_the_task_s_exception_is_raised_in_the_thread(logs: Logs) -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        in_thread(lambda: task.call(failing))
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "failing"
    assert "_worker" not in names
    assert logs.count() == 0


def test_a_cancelled_task_has_no_result() -> None:
    tasks: list[task.Task] = []

    def main() -> None:
        tasks.append(task.running())
        task.wait()

    t = task.fork(task.thread, task.call, main)
    until(lambda: tasks)
    tasks[0].cancel()
    with pytest.raises(silly.Error, match=r"task\.call: \S+main has no result: it was cancelled"):
        t.join()


def test_a_returned_pair_is_the_result() -> None:
    assert task.thread(task.call, lambda: (None, "an error")) == ((None, "an error"), None)


def test_a_call_in_silly_s_own_thread_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"^task\.call: called in silly's own thread, .*; call int itself, or start it"):
        task.call(int)


def test_a_thread_that_waits_no_longer(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task goes on; an exception of it is logged, for nobody gets it."""
    gate = channel.new()

    def main() -> None:
        gate.pop()
        raise ValueError("unheard")

    class Interrupted(BaseException):
        pass

    def interrupt() -> bool:
        raise Interrupted

    monkeypatch.setattr(threads, "LOOK", 0.01)
    monkeypatch.setattr(threads, "over", interrupt)
    waiting = threads.Call(main)
    scheduler.loop.post(waiting.begin, (), contextvars.copy_context(), main.__code__, 0)
    with pytest.raises(Interrupted):
        in_thread(waiting.wait)
    logs.expect(r"(?s)ERROR task\.call: exception in \S+main, for which no thread waits any more:.*unheard")
    gate.push(True)
    until(lambda: logs.count())


def test_a_thousand_calls_from_many_threads() -> None:
    def work(n: int) -> list[int]:
        return [task.call(lambda i=i: (time.sleep(0), i)[1]) for i in range(n, n + 50)]

    tasks = [task.fork(task.thread, work, n) for n in range(0, 1000, 50)]
    got = [t.join()[0] for t in tasks]
    assert [i for value, err in got for i in value] == list(range(1000))  # type: ignore[misc]


def test_a_task_that_waits_for_a_thread_s_post_is_no_deadlock() -> None:
    """Nothing else could wake it: no timer, no socket."""
    me = task.running()
    thread = threading.Thread(target=lambda: (threading.Event().wait(0.05), task.post(task.wakeup, me, "woken")))
    thread.start()
    assert task.wait() == "woken"
    thread.join()


def test_nor_is_one_that_a_dropped_function_wakes() -> None:
    me = task.running()

    class Waker(Held):
        def __call__(self, value: object = None) -> object:
            super().__call__()
            return task.post(task.wakeup, me, "woken")

    waker = Waker()
    assert waker.gives_up(5)[0] is None
    waker.go()
    assert task.wait() == "woken"


# ---- all of them ---------------------------------------------------------------------

CALLS: list[Callable[[Any], object]] = [task.thread, task.post, task.call]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", [None, 1, "int", 0, []])
def test_what_is_no_function(call: Callable[[Any], object], wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"task\.\w+ needs a function, not \w+"):
        call(wrong)


def test_no_switch_refuses_a_call_that_waits() -> None:
    ran: list[int] = []
    with task.no_switch(), pytest.raises(RuntimeError, match=r"task\.thread: may wait"):
        task.thread(ran.append, 1)
    with task.no_switch():
        assert task.post(ran.append, 2)
    until(lambda: ran)
    assert ran == [2]


def test_memory_is_flat() -> None:
    from .leaks import leaks_nothing

    def use() -> None:
        task.thread(int)

    leaks_nothing(use)
