"""``silly.hive``: workers that have a thread for life."""

from __future__ import annotations

import contextvars
import gc
import random
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from silly import hive, task, time
from silly._core import scheduler, worker
from silly.hive import _all

from .conftest import Logs
from .leaks import leaks_nothing, leaves_no_cycle, raises
from .net.support import until
from .test_threads import PATIENCE, Held, held

__all__ = ["held"]


@pytest.fixture(autouse=True)
def no_threads_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No threads from other tests before, none of ours after."""
    monkeypatch.setattr(worker, "IDLE", 0.02)
    forget_all()
    yield
    forget_all()


def forget_all() -> None:
    """Ends the threads of workers that nobody has any more."""
    hive.limit(0, 64)
    gc.collect()
    until(lambda: not any(thread.workers for thread in _all))
    threads = [thread for thread in threading.enumerate() if thread.name == "silly-hive"]
    hive.prune()
    assert hive.threads() == 0
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def here() -> int:
    return threading.get_ident()


def test_the_worker_s_function_gets_what_spawn_and_invoke_were_given() -> None:
    def make(*init: object, **more: object) -> Any:
        return lambda *args, **kwargs: (init, more, args, kwargs)

    w = hive.spawn(make, None, 2, cell=3, make=4)
    assert hive.invoke(w, None, 6, cell=7, func=8) == ((None, 2), {"cell": 3, "make": 4}, (None, 6), {"cell": 7, "func": 8})


def test_several_results_are_a_tuple() -> None:
    w = hive.spawn(lambda init: lambda a, b: (a + init, a + b, a * b), 6)
    a, b, c = hive.invoke(w, 2, 3)
    assert (a, b, c) == (8, 5, 6)


def test_a_worker_has_one_thread_for_life() -> None:
    idents = set()

    def make() -> Any:
        idents.add(here())
        return here

    w = hive.spawn(make)
    idents |= {hive.invoke(w) for _ in range(20)}
    time.sleep(100)
    idents.add(hive.invoke(w))
    assert len(idents) == 1
    assert idents != {here()}


def test_state_that_belongs_to_a_thread() -> None:
    def make(name: str) -> Any:
        db = sqlite3.connect(name)
        db.execute("CREATE TABLE fish (name TEXT)")
        return lambda query, *values: db.execute(query, values).fetchall() if query != "close" else db.close()

    w = hive.spawn(make, ":memory:")
    tasks = [task.fork(hive.invoke, w, "INSERT INTO fish VALUES (?)", str(n)) for n in range(50)]
    for t in tasks:
        assert t.join() == ([], None)
    assert hive.invoke(w, "SELECT COUNT(*) FROM fish") == [(50,)]
    hive.invoke(w, "close")  # its thread may: where Python 3.13 finds it unclosed it warns, in whatever test that is


def test_workers_run_side_by_side() -> None:
    barrier = threading.Barrier(8)
    tasks = [task.fork(hive.invoke, hive.spawn(lambda: barrier.wait), PATIENCE) for _ in range(8)]
    assert sorted(t.join()[0] for t in tasks) == list(range(8))  # type: ignore[type-var]


def test_the_calls_of_a_worker_come_one_after_the_other_in_their_order() -> None:
    ran: list[int] = []
    going = []

    def make() -> Any:
        def call(n: int) -> int:
            going.append(n)
            assert going == [n]
            threading.Event().wait(random.random() / 1000)
            ran.append(going.pop())
            return n

        return call

    w = hive.spawn(make)
    tasks = [task.fork(hive.invoke, w, n) for n in range(100)]
    assert [t.join() for t in tasks] == [(n, None) for n in range(100)]
    assert ran == list(range(100))


def test_an_exception_is_raised_in_the_invoker_and_the_worker_lives() -> None:
    def make() -> Any:
        def root(x: float) -> float:
            if x < 0:
                raise ValueError("negative")
            return x**0.5

        return root

    w = hive.spawn(make)
    with pytest.raises(ValueError, match="negative") as caught:
        hive.invoke(w, -5)
    assert caught.traceback[-1].name == "root"
    assert hive.invoke(w, 4) == 2


def test_what_make_raises_is_raised_by_spawn() -> None:
    with pytest.raises(ZeroDivisionError):
        hive.spawn(lambda: 1 // 0)
    with pytest.raises(TypeError, match=r"hive\.spawn: .* must return the worker's function, not int"):
        hive.spawn(lambda: 7)  # type: ignore[arg-type,return-value]


def test_the_system_s_refusal_of_a_thread_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(worker.WorkerThread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            hive.spawn(lambda: divmod)
        gc.collect()
        until(lambda: not any(thread.workers for thread in _all))
    assert hive.invoke(hive.spawn(lambda: divmod), 17, 5) == (3, 2)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"hive\.spawn needs a function that returns the worker's function, not str"):
        hive.spawn("return 1")  # type: ignore[arg-type]
    for wrong in (None, int, "w"):
        with pytest.raises(TypeError, match=r"hive\.invoke needs a worker of hive\.spawn"):
            hive.invoke(wrong)  # type: ignore[arg-type]
    for least, most in ((-1, 2), (3, 2), (0, 0), (0, 1025)):
        with pytest.raises(ValueError, match=r"hive\.limit: 0 <= min <= max"):
            hive.limit(least, most)
    for least_, most_ in (("1", 2), (1, 2.0), (True, 2)):
        with pytest.raises(TypeError, match=r"hive\.limit needs ints"):
            hive.limit(least_, most_)  # type: ignore[arg-type]


def test_a_deadline_drops_what_has_not_begun_and_what_runs_goes_on(held: Held) -> None:
    ran: list[int] = []

    def make() -> Any:
        return lambda func, *args: func(*args)

    w = hive.spawn(make)
    running = task.fork(hive.invoke, w, held, 1)
    held.running()
    with time.deadline(10), pytest.raises(TimeoutError, match=r"^hive\.invoke: the deadline of 10 ms ran out$"):
        hive.invoke(w, ran.append, 2)
    t = task.fork(hive.invoke, w, ran.append, 3)
    time.sleep(0)
    t.cancel()
    assert t.join() == (None, "cancelled")
    running.cancel()
    assert running.join() == (None, "cancelled")
    assert not held.ended.is_set()
    held.go()
    assert hive.invoke(w, ran.append, 4) is None
    assert held.ended.is_set(), "the next call begins after it"
    assert ran == [4]


def test_a_deadline_of_spawn(held: Held) -> None:
    with time.deadline(10), pytest.raises(TimeoutError, match=r"^hive\.spawn: the deadline of 10 ms ran out$"):
        hive.spawn(lambda: held() and int)
    assert hive.threads() == 1
    assert _all[0].workers == 1, "its thread is not free yet"
    held.go()
    until(lambda: not _all or not _all[0].workers)


def test_no_switch_refuses_both() -> None:
    w = hive.spawn(lambda: int)
    with task.no_switch():
        with pytest.raises(RuntimeError, match=r"hive\.invoke: may wait"):
            hive.invoke(w)
        with pytest.raises(RuntimeError, match=r"hive\.spawn: may wait"):
            hive.spawn(lambda: int)


def test_context_variables_follow() -> None:
    var = contextvars.ContextVar("var", default="none")
    var.set("spawned")
    w = hive.spawn(lambda: (var.get(), var.get)[1])
    var.set("invoked")
    assert hive.invoke(w) == "invoked"


def test_more_workers_than_threads_share_them() -> None:
    hive.limit(2, 4)
    barrier = threading.Barrier(4)
    workers = [hive.spawn(lambda: lambda: (barrier.wait(PATIENCE), here())[1]) for _ in range(8)]
    assert hive.threads() == 4
    assert sorted(thread.workers for thread in _all) == [2, 2, 2, 2]
    tasks = [task.fork(hive.invoke, w) for w in workers]
    idents = [t.join()[0] for t in tasks]
    assert len(set(idents)) == 4
    again = [task.fork(hive.invoke, w) for w in workers]
    assert [t.join()[0] for t in again] == idents


def test_the_number_of_threads_follows_the_workers_and_the_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE", PATIENCE)
    hive.limit(2, 8)
    assert hive.threads() == 0
    workers = [hive.spawn(lambda: int) for _ in range(5)]
    assert hive.threads() == 5
    hive.prune()
    assert hive.threads() == 5, "each has a worker"
    w = workers.pop()
    workers.clear()
    until(lambda: sum(thread.workers for thread in _all) == 1)
    assert hive.threads() == 5
    another = hive.spawn(lambda: int)
    assert hive.threads() == 5, "a thread without a worker takes the next"
    del another
    until(lambda: sum(thread.workers for thread in _all) == 1)
    hive.prune()
    assert hive.threads() == 2
    assert hive.invoke(w) == 0
    hive.limit(0, 1)
    hive.prune()
    assert hive.threads() == 1


def test_a_thread_without_a_worker_ends_by_itself() -> None:
    w = hive.spawn(lambda: int)
    assert hive.threads() == 1
    del w
    until(lambda: hive.threads() == 0)


def test_the_function_is_released_in_its_thread() -> None:
    freed = []

    class Thing:
        def __del__(self) -> None:
            freed.append(here())

    def make() -> Any:
        thing = Thing()
        return lambda: (here(), thing)[0]

    w = hive.spawn(make)
    ident = hive.invoke(w)
    del w
    until(lambda: freed)
    assert freed == [ident]


def test_an_exception_leaves_no_cycle() -> None:
    w = hive.spawn(lambda: raises)
    leaves_no_cycle(lambda thing: hive.invoke(w, thing))


def test_a_line_says_that_calls_wait(held: Held, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CROWDED", 0.05)
    w = hive.spawn(lambda: held)
    tasks = [task.fork(hive.invoke, w) for _ in range(2)]
    logs.expect(
        r"WARNING silly\.hive: its thread is busy, and 1 call waits; the oldest, Held\.__call__, has waited for \d+\.\d s; "
        r"Held\.__call__ has run for \d+\.\d s$"
    )
    until(lambda: logs.count())
    held.go()
    for t in tasks:
        assert t.join() == ("let go", None)


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_cancels(seed: int) -> None:
    rng = random.Random(seed)
    hive.limit(0, 3)
    ran: list[int] = []

    def make() -> Any:
        return lambda n: (ran.append(n), threading.Event().wait(rng.random() / 1000), n)[2]

    workers = [hive.spawn(make) for _ in range(6)]
    tasks = [task.fork(hive.invoke, workers[n % 6], n) for n in range(300)]
    while not all(t.done for t in tasks):
        rng.choice(tasks).cancel()
        time.sleep(rng.choice([0, 0, 1]))
    for n, t in enumerate(tasks):
        assert t.join() in ((n, None), (None, "cancelled"))
    assert len(ran) == len(set(ran))
    assert [hive.invoke(w, 1000 + n) for n, w in enumerate(workers)] == [1000 + n for n in range(6)]
    assert scheduler.loop.work == 0


def test_memory_is_flat() -> None:
    w = hive.spawn(lambda: int)
    leaks_nothing(lambda: hive.invoke(w))
