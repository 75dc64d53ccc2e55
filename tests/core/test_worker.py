"""Worker threads, for calls that block."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly._core import scheduler, worker
from silly.sync import channel

PATIENCE = 20.0
"""Seconds after which something that should have happened has failed."""


def submit(func: Callable[..., Any], *args: Any) -> channel.Channel:
    """A channel that gets ``(result, exception)`` of the job."""
    chan = channel.new()
    worker.submit(scheduler.loop, func, args, lambda result, exc: chan.push((result, exc)))
    return chan


def taken(chan: channel.Channel) -> Any:
    item, err = chan.pop()
    assert err is None
    return item


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "silly-worker"]


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
    barrier = threading.Barrier(worker.MAX_THREADS)
    jobs = [submit(barrier.wait, PATIENCE) for _ in range(worker.MAX_THREADS)]
    results = [taken(job) for job in jobs]
    assert sorted(result for result, _ in results) == list(range(worker.MAX_THREADS))


def test_more_jobs_than_threads_all_get_their_turn() -> None:
    gate = threading.Event()
    jobs = [submit(lambda i=i: gate.wait(PATIENCE) and i) for i in range(3 * worker.MAX_THREADS)]
    assert len(threads()) == worker.MAX_THREADS
    gate.set()
    assert [taken(job) for job in jobs] == [(i, None) for i in range(3 * worker.MAX_THREADS)]


def test_a_job_never_waits_behind_another_while_a_thread_may_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the thread of the first has just taken its job, and has not yet said so."""
    has_taken, go_on, second_ran = threading.Event(), threading.Event(), threading.Event()

    class Queue(queue.Queue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            job = super().get(block, timeout)
            if not has_taken.is_set():
                has_taken.set()
                go_on.wait(PATIENCE)
            return job

    monkeypatch.setattr(worker, "_jobs", Queue())
    first = submit(second_ran.wait, 3.0)
    assert has_taken.wait(PATIENCE)
    second = submit(second_ran.set)
    go_on.set()
    assert taken(first) == (True, None)
    assert taken(second) == (None, None)


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

    monkeypatch.setattr(worker, "_threads", 0)
    monkeypatch.setattr(worker, "_unfinished", 0)
    monkeypatch.setattr(worker, "_jobs", queue.SimpleQueue())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            worker.submit(scheduler.loop, int, (), lambda result, exc: None)
    done = channel.new()
    worker.submit(scheduler.loop, int, ("7",), lambda result, exc: done.push(result))
    assert done.pop() == (7, None)
