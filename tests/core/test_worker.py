"""Worker threads, for calls that block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly import time
from silly._core import scheduler, worker
from silly.sync import channel

from ..net.support import until

PATIENCE = 20.0
"""Seconds after which something that should have happened has failed."""


def submit(func: Callable[..., Any], *args: Any) -> channel.Channel:
    """A channel that gets ``(result, exception)`` of the job."""
    chan = channel.new()
    worker.files.submit(scheduler.loop, func, args, lambda result, exc: chan.push((result, exc)))
    return chan


def taken(chan: channel.Channel) -> Any:
    item, err = chan.pop()
    assert err is None
    return item


def threads() -> list[threading.Thread]:
    """Those of pools whose threads end by themselves."""
    return [each for each in threading.enumerate() if isinstance(each, worker.WorkerThread) and each.name != "silly-hive"]


def assert_no_threads() -> None:
    for thread in threads():
        thread.join(PATIENCE)
    assert threads() == []


@pytest.fixture(autouse=True)
def no_threads_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No threads from other tests before, none of ours after."""
    monkeypatch.setattr(worker, "IDLE", 0.02)
    assert_no_threads()
    yield
    assert_no_threads()


def test_the_result_comes_back_in_the_loop_s_thread() -> None:
    ran_in: list[int] = []

    def job(a: int, b: int) -> int:
        ran_in.append(threading.get_ident())
        return a + b

    assert taken(submit(job, 2, 3)) == (5, None)
    assert ran_in != [threading.get_ident()]


@pytest.mark.parametrize("kind", [ValueError, OSError, SystemExit, KeyboardInterrupt])
def test_an_exception_comes_back_too(kind: type[BaseException]) -> None:
    def job() -> None:
        raise kind("boom")

    result, exc = taken(submit(job))
    assert result is None
    assert type(exc) is kind
    assert taken(submit(lambda: "the next job")) == ("the next job", None)


def test_jobs_run_side_by_side() -> None:
    barrier = threading.Barrier(worker.files.most)
    jobs = [submit(barrier.wait, PATIENCE) for _ in range(worker.files.most)]
    results = [taken(job) for job in jobs]
    assert sorted(result for result, _ in results) == list(range(worker.files.most))


def test_more_jobs_than_threads_all_get_their_turn() -> None:
    gate = threading.Event()
    jobs = [submit(lambda i=i: gate.wait(PATIENCE) and i) for i in range(3 * worker.files.most)]
    assert len(threads()) == worker.files.most
    gate.set()
    assert [taken(job) for job in jobs] == [(i, None) for i in range(3 * worker.files.most)]


def test_a_job_never_waits_behind_another_while_a_thread_may_be_started() -> None:
    """Not even when an idle thread was told of the first, and has not taken it yet."""
    assert taken(submit(int)) == (0, None)
    second_ran = threading.Event()
    with worker.files._guard:  # so that the idle thread takes nothing
        first = submit(second_ran.wait, PATIENCE)
        second = submit(second_ran.set)
        assert len(threads()) == 2
    assert taken(first) == (True, None)
    assert taken(second) == (None, None)


def test_a_queued_job_that_is_given_up_never_runs() -> None:
    gate = threading.Event()
    before = scheduler.loop.work
    running = [submit(gate.wait, PATIENCE) for _ in range(worker.files.most)]
    ran: list[int] = []
    queued = [worker.files.submit(scheduler.loop, ran.append, (i,), lambda result, exc: None) for i in range(100)]
    until(lambda: worker.files.waiting() == 100)
    for job in queued[:99]:
        job.give_up()
        job.give_up()
    assert worker.files.waiting() == 1
    assert scheduler.loop.work == before + len(running) + 1
    gate.set()
    assert [taken(job) for job in running] == [(True, None)] * len(running)
    until(lambda: ran == [99])
    until(lambda: scheduler.loop.work == before)


def test_a_running_job_that_is_given_up_goes_on() -> None:
    gate, done = threading.Event(), channel.new()
    started = threading.Event()

    def func() -> int:
        started.set()
        gate.wait(PATIENCE)
        return 7

    before = scheduler.loop.work
    job = worker.files.submit(scheduler.loop, func, (), lambda result, exc: done.push(result))
    started.wait(PATIENCE)
    job.give_up()
    assert scheduler.loop.work == before, "the end of the process does not wait for it"
    gate.set()
    with time.deadline(PATIENCE * 1000):
        assert done.pop() == (7, None)
    assert scheduler.loop.work == before


def test_a_pool_s_jobs_don_t_hold_up_another_s() -> None:
    gate = threading.Event()
    held = [submit(gate.wait, PATIENCE) for _ in range(worker.files.most + 1)]
    done = channel.new()
    worker.lookups.submit(scheduler.loop, int, ("7",), lambda result, exc: done.push(result))
    assert done.pop() == (7, None)
    gate.set()
    assert [taken(job) for job in held] == [(True, None)] * len(held)


def test_idle_threads_end_and_new_ones_start() -> None:
    for _ in range(3):
        assert taken(submit(str, 1)) == ("1", None)
        assert_no_threads()


def test_an_idle_thread_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE", 0.5)
    used = {taken(submit(threading.get_ident))[0] for _ in range(20)}
    assert len(used) == 1
    assert len(threads()) == 1


def test_a_job_counts_as_work_until_its_result_was_given() -> None:
    before = scheduler.loop.work
    gate = threading.Event()
    job = submit(gate.wait, PATIENCE)
    assert scheduler.loop.work == before + 1
    gate.set()
    taken(job)
    assert scheduler.loop.work == before


def test_threads_are_daemons() -> None:
    gate = threading.Event()
    job = submit(gate.wait, PATIENCE)
    assert [thread.daemon for thread in threads()] == [True]
    gate.set()
    assert taken(job) == (True, None)


def test_a_refused_thread_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    before = scheduler.loop.work
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            worker.files.submit(scheduler.loop, int, (), lambda result, exc: None)
    assert (scheduler.loop.work, worker.files.waiting(), worker.files._threads) == (before, 0, 0)
    done = channel.new()
    worker.files.submit(scheduler.loop, int, ("7",), lambda result, exc: done.push(result))
    assert done.pop() == (7, None)


def test_a_job_for_which_no_thread_could_be_started_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    first = submit(gate.wait, PATIENCE)

    def refuse(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        second = submit(str, 2)
    gate.set()
    assert (taken(first), taken(second)) == ((True, None), ("2", None))
