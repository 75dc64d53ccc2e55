"""Channels and other threads: ``push`` and ``close`` from them, and what they may not call."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from silly import errno, task, time
from silly._core import scheduler
from silly.sync import channel
from silly.sync._offers import State

WITHIN = 20_000
"""Milliseconds that bound what a test waits for; only a test that fails waits so long."""


class Thread:
    """A thread that has begun; its result or exception comes by ``result``."""

    def __init__(self, func: Callable[..., Any], *args: Any) -> None:
        self._outcome: Any = None
        self._thread = threading.Thread(target=self._run, args=(func, args), daemon=True)
        self._thread.start()

    def _run(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self._outcome = func(*args), None
        except BaseException as exc:
            self._outcome = None, exc

    @property
    def done(self) -> bool:
        return self._outcome is not None

    def result(self) -> Any:
        """Waits for it, and lets the loop turn meanwhile."""
        with time.deadline(WITHIN):
            while not self.done:
                time.sleep(1)
        self._thread.join(WITHIN / 1000)
        value, exc = self._outcome
        if exc is not None:
            raise exc
        return value


def until(condition: Callable[[], object]) -> None:
    with time.deadline(WITHIN):
        while not condition():
            time.sleep(1)


@pytest.mark.parametrize("size", [None, 1, 10])
def test_a_thread_pushes_and_closes(size: Any) -> None:
    chan = channel.new(size)

    def work() -> list[Any]:
        answers = [chan.push(number) for number in range(500)]
        chan.close("read all")
        return [*answers, chan.push(500), chan.push(None)]

    thread = Thread(work)
    got = []
    while (item := chan.pop(WITHIN)[0]) is not None:
        got.append(item)
        assert size is None or len(chan) <= size
    assert got == list(range(500))
    assert chan.pop() == (None, "read all")
    assert thread.result() == [(True, None)] * 500 + [(False, "read all"), (False, "Nil data")]


@pytest.mark.parametrize("size", [None, 3])
def test_threads_and_tasks_push_together(size: Any) -> None:
    """Every item comes, once, and from each in its order."""
    chan: channel.Channel[tuple[int, int]] = channel.new(size)

    def push(who: int) -> bool:
        return all(chan.push((who, number)) for number in range(200))

    threads = [Thread(push, who) for who in range(3)]
    tasks = [task.fork(push, who) for who in range(3, 6)]
    got = []
    while len(got) < 6 * 200:
        item, err = chan.pop(WITHIN)
        assert item is not None, err
        got.append(item)
    for who in range(6):
        assert [number for other, number in got if other == who] == list(range(200))
    assert all(t.join() == (True, None) for t in tasks)
    assert all(each.result() for each in threads)


def test_a_thread_waits_while_the_channel_is_full() -> None:
    chan = channel.new(1)
    chan.push("a")
    thread = Thread(chan.push, "b")
    until(lambda: chan._offers)
    behind = task.fork(chan.push, "c")
    time.sleep(5)
    assert (thread.done, behind.done, len(chan)) == (False, False, 1)
    assert [chan.pop(), chan.pop(), chan.pop()] == [("a", None), ("b", None), ("c", None)]
    assert (thread.result(), behind.join()) == ((True, None), ((True, None), None))


def test_a_thread_whose_time_is_over_has_not_pushed() -> None:
    chan = channel.new(1)
    chan.push("a")
    assert Thread(chan.push, "b", 5).result() == (False, "channel.push: the time-out of 5 ms ran out")
    until(lambda: not chan._offers)
    assert [chan.pop(), chan.pop(1)[0]] == [("a", None), None]


def test_the_time_of_a_thread_runs_though_the_loop_is_held() -> None:
    chan = channel.new(1)
    thread = Thread(chan.push, "late", 5)
    thread._thread.join(WITHIN / 1000)  # holds the loop
    assert thread.result() == (False, "channel.push: the time-out of 5 ms ran out")
    assert len(chan) == 0
    assert chan.push("next", 1)


def test_a_thread_that_waits_when_the_channel_is_closed() -> None:
    chan = channel.new(1)
    chan.push("a")
    thread = Thread(chan.push, "b")
    until(lambda: chan._offers)
    chan.close("over")
    assert thread.result() == (False, "over")
    assert [chan.pop(), chan.pop()] == [("a", None), (None, "over")]


def test_a_thread_closes_while_tasks_wait() -> None:
    for chan in (channel.new(), channel.new(1)):
        reading = task.fork(chan.pop)
        time.sleep(0)
        Thread(chan.close, "from afar").result()
        assert reading.join(WITHIN) == ((None, "from afar"), None)
    full = channel.new(1)
    full.push("a")
    writing = task.fork(full.push, "b")
    time.sleep(0)
    Thread(full.close).result()
    assert writing.join(WITHIN) == ((False, "channel closed"), None)


@pytest.mark.parametrize("size", [None, 5])
def test_nothing_is_pushed_after_the_close_of_a_thread(size: Any) -> None:
    """Though the loop has not turned since."""
    chan = channel.new(size)
    chan.push("first")
    Thread(chan.close)._thread.join(WITHIN / 1000)
    assert chan.push("late") == (False, "channel closed")
    assert list(chan) == ["first"]


def test_what_a_thread_has_pushed_comes_before_what_is_pushed_after_it() -> None:
    """Though the loop has not turned in between, and a task waits for it."""
    chan = channel.new()
    reading = task.fork(lambda: [chan.pop()[0] for _ in range(3)])
    time.sleep(0)
    thread = Thread(chan.push, "from a thread")
    thread._thread.join(WITHIN / 1000)
    chan.push("from the main program")
    chan.push("more")
    assert reading.join(WITHIN) == (["from a thread", "from the main program", "more"], None)
    chan = channel.new()
    reading = task.fork(lambda: [chan.pop()[0] for _ in range(2)])
    time.sleep(0)
    Thread(chan.push, "before the end")._thread.join(WITHIN / 1000)
    chan.close()
    assert reading.join(WITHIN) == (["before the end", None], None)


def test_a_thread_wakes_a_watch() -> None:
    for chan in (channel.new(), channel.new(1)):
        watching = task.fork(lambda chan=chan: (chan._watch(task.running()), scheduler.park("a test")))
        time.sleep(0)
        assert Thread(chan.push, "a").result()
        assert watching.join(WITHIN) == ((None, None), None)


@pytest.mark.parametrize("size", [None, 1])
def test_what_a_thread_may_not_call(size: Any) -> None:
    chan = channel.new(size)
    with pytest.raises(RuntimeError, match=r"channel\.pop: called from another thread"):
        Thread(chan.pop).result()
    with pytest.raises(ValueError, match=r"channel\.push: the time-out"):
        Thread(chan.push, 1, -1).result()
    with pytest.raises(RuntimeError, match=r"called from another thread"):
        Thread(channel.new(1).clear).result()


def test_an_offer_is_answered_once() -> None:
    """However the thread's end of time and the answer meet."""
    for _ in range(50):
        chan = channel.new(1)
        chan.push("first")
        thread = Thread(chan.push, "second", 1)
        until(lambda chan=chan, thread=thread: chan._offers or thread.done)
        time.sleep(1)
        chan.clear()
        until(lambda thread=thread: thread.done)
        ok, _err = thread.result()
        assert ok is (len(chan) == 1)
    assert {state.name for state in State} == {"OFFERED", "ACCEPTED", "REFUSED", "WITHDRAWN"}


SCRIPT = """
import threading
import silly
from silly import task, time
from silly.sync import channel

chan = channel.new(1)
chan.push("full")
answers = []
thread = threading.Thread(target=lambda: print(*chan.push("more"), flush=True))
thread.start()
{then}
"""


@pytest.mark.parametrize("then", ["", "time.sleep(300)", "time.sleep(300); silly.exit(0)", "silly.run()"])
def test_a_thread_that_waits_when_the_process_ends(then: str) -> None:
    """It is told, though nothing turns the loop any more: Python waits for it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(then=then)], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"False {errno.CLOSED}\n", "", 0)


WAITS = """
import threading, time as clock
from silly.sync import channel, event

chan, ready = channel.new({size}), event.new()

def work():
    clock.sleep(0.3)
    chan.push("an item")
    clock.sleep(0.3)
    chan.close()
    clock.sleep(0.3)
    ready.set()

threading.Thread(target=work).start()
print(chan.pop(), chan.pop(), ready.wait())
"""


@pytest.mark.parametrize("size", ["", "5"])
def test_a_program_that_waits_for_a_thread_is_no_deadlock(size: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITS.format(size=size)], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (
        "('an item', None) (None, 'channel closed') Result(True, None)\n",
        "",
        0,
    )
