"""``Task.cancel``, ``task.shield`` and ``task.no_switch``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

import silly
from silly import task, time
from silly._core import scheduler
from silly.net import tcp
from silly.sync import channel

from .children import Child
from .conftest import Logs
from .leaks import leaks_nothing
from .test_task import in_thread, settle

pytestmark = pytest.mark.usefixtures("virtual")

# ---- one blow ---------------------------------------------------------------------------------------------------


def test_a_cancel_strikes_where_the_task_waits() -> None:
    seen: list[Any] = []

    def body() -> None:
        try:
            time.sleep(60_000)
        except task.Cancelled as exc:
            seen.append(exc)
            raise

    t = task.fork(body)
    settle()
    assert t.cancel() is True
    assert seen == []  # cancel does not switch
    assert t.join() == (None, "cancelled")
    assert len(seen) == 1
    assert t.cancel() is False


def test_it_is_one_blow_and_calls_wait_again_after_it() -> None:
    chan = channel.new()
    seen: list[Any] = []

    def body() -> None:
        try:
            task.wait()
        finally:
            time.sleep(1)
            seen.append(chan.pop())

    t = task.fork(body)
    settle()
    t.cancel()
    t.cancel()  # the same blow: it has not struck yet
    time.after(5, chan.push, "item")
    assert t.join() == (None, "cancelled")
    assert seen == [("item", None)]


def test_a_second_cancel_strikes_again() -> None:
    struck: list[int] = []

    def body() -> None:
        for number in range(3):
            try:
                task.wait()
            except task.Cancelled:
                struck.append(number)

    t = task.fork(body)
    for _ in range(3):
        time.sleep(0)
        settle()
        assert t.cancel()
        time.sleep(1)
    assert t.join() == (None, None)
    assert struck == [0, 1, 2]


def test_a_task_that_swallows_it_is_not_cancelled() -> None:
    def body() -> str:
        try:
            task.wait()
        except task.Cancelled:
            pass
        return "value"

    t = task.fork(body)
    settle()
    t.cancel()
    assert t.join() == ("value", None)


def test_a_task_that_has_not_started_never_runs() -> None:
    ran: list[int] = []
    t = task.fork(ran.append, 1)
    assert t.cancel()
    assert not t.done
    assert t.join() == (None, "cancelled")
    assert ran == []


def test_a_woken_task_gets_what_it_was_woken_with() -> None:
    chan = channel.new()
    got: list[Any] = []

    def body() -> None:
        got.append(chan.pop())
        got.append("goes on")
        time.sleep(0)
        got.append("never")

    t = task.fork(body)
    settle()
    chan.push("item")
    t.cancel()
    assert t.join() == (None, "cancelled")
    assert got == [("item", None), "goes on"]


def test_what_wakes_a_task_between_the_cancel_and_the_blow_is_not_lost() -> None:
    chan = channel.new()
    got: list[Any] = []
    t = task.fork(lambda: got.append(chan.pop()))
    settle()
    t.cancel()
    chan.push("item")
    assert t.join() == (None, None)  # it ended before it waited again
    assert got == [("item", None)]


def test_a_blow_that_waits_for_the_next_wait_strikes_a_yield() -> None:
    def body() -> None:
        task.running().cancel()
        time.sleep(0)
        raise AssertionError("it goes on")

    assert task.fork(body).join() == (None, "cancelled")


def test_cancel_does_not_let_others_run() -> None:
    ran: list[int] = []
    victim = task.fork(task.wait)
    settle()
    task.fork(ran.append, 1)
    victim.cancel()
    assert ran == []
    victim.join()


def test_no_pcall_and_no_handler_of_exceptions_stops_it(logs: Logs) -> None:
    def body() -> None:
        try:
            silly.pcall(task.wait)
        except Exception:
            raise AssertionError("an error") from None

    t = task.fork(body)
    settle()
    t.cancel()
    assert t.join() == (None, "cancelled")


def test_cancelled_comes_before_a_deadline() -> None:
    def body() -> str:
        me = task.running()
        with time.deadline(0):
            me.cancel()
            try:
                time.sleep(60_000)
            except task.Cancelled:
                pass
            try:
                time.sleep(60_000)
            except TimeoutError:
                return "then the deadline"
        return "neither"

    assert task.fork(body).join() == ("then the deadline", None)


def test_cancelled_comes_before_a_deadline_that_strikes_first() -> None:
    """The timer fires after the cancel, and before the loop has struck."""
    seen: list[type[BaseException]] = []
    victim: task.Task[Any]

    def body() -> None:
        with time.deadline(10):
            try:
                task.wait()
            except BaseException as exc:
                seen.append(type(exc))

    victim = task.fork(body)
    time.sleep(0)
    due = scheduler.loop.timers.next()
    # In the turn in which the deadline is due, a task that the timer before it has forked:
    scheduler.loop.timers.add(due - 1e-6, lambda _: task.fork(victim.cancel), internal=True)
    victim.join()
    assert seen == [task.Cancelled]


def test_cancel_in_another_thread_is_refused() -> None:
    t = task.fork(task.wait)
    settle()
    kind, exc = in_thread(t.cancel)
    assert kind == "raised"
    assert "another thread" in str(exc)
    t.cancel()
    t.join()


def test_a_million_would_be_flat() -> None:
    def one() -> None:
        t = task.fork(task.wait)
        time.sleep(0)
        t.cancel()
        t.join()
        t = task.fork(task.wait)
        t.cancel()
        t.join()

    leaks_nothing(one)
    assert not scheduler.tasks


# ---- shield -----------------------------------------------------------------------------------------------------


def test_a_shield_puts_the_blow_off() -> None:
    done: list[str] = []

    def body() -> None:
        with task.shield():
            with task.shield():
                time.sleep(1)
            time.sleep(1)
            done.append("shielded")
        done.append("after")
        time.sleep(0)
        done.append("never")

    t = task.fork(body)
    settle()
    t.cancel()
    t.cancel()
    assert t.join() == (None, "cancelled")
    assert done == ["shielded", "after"]


def test_a_pending_blow_is_put_off_too() -> None:
    done: list[str] = []

    def body() -> None:
        task.running().cancel()
        with task.shield():
            time.sleep(0)
            done.append("shielded")
        time.sleep(0)

    assert task.fork(body).join() == (None, "cancelled")
    assert done == ["shielded"]


def test_a_shield_stops_no_deadline() -> None:
    with time.deadline(1), task.shield(), pytest.raises(TimeoutError):
        time.sleep(60_000)


def test_a_shield_is_for_one_block() -> None:
    shield = task.shield()
    with shield, pytest.raises(RuntimeError, match="of its own"), shield:
        pass
    assert task.running()._shields == 0


def test_a_shield_that_another_task_ends() -> None:
    """It closes a generator that is in the block, while the task waits elsewhere."""

    def shielded() -> Iterator[None]:
        with task.shield():
            yield

    kept: list[Any] = []

    def body() -> None:
        kept.append(shielded())
        next(kept[0])
        task.wait()

    t = task.fork(body)
    settle()
    t.cancel()
    settle()
    kept[0].close()
    assert t.join(5_000) == (None, "cancelled")


# ---- no_switch --------------------------------------------------------------------------------------------------


def test_what_waits_is_refused_inside_no_switch() -> None:
    chan = channel.new()
    t = task.fork(task.wait)

    def body() -> None:
        with task.no_switch():
            with task.no_switch():
                pass
            for call in (lambda: time.sleep(0), lambda: time.sleep(1), task.wait, t.join, chan.pop):
                with pytest.raises(RuntimeError, match=r"may wait.*task\.no_switch"):
                    call()
            assert task.readycount() == 0

    settle()
    task.fork(body).join()
    body()  # in the main program
    time.sleep(0)
    t.cancel()
    t.join()


def test_no_switch_ends_with_its_block() -> None:
    with pytest.raises(KeyError), task.no_switch():
        raise KeyError
    time.sleep(0)
    assert scheduler.loop.no_switch is False


def no_switch_in_a_generator() -> Iterator[None]:
    with task.no_switch():
        yield


def test_blocks_of_no_switch_end_in_any_order() -> None:
    first = no_switch_in_a_generator()
    next(first)
    with task.no_switch():
        first.close()  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="may wait"):
            time.sleep(0)
    time.sleep(0)
    assert scheduler.loop.no_switch is False


def test_no_switch_ends_with_its_task() -> None:
    kept: list[Any] = []

    def body() -> None:
        kept.append(no_switch_in_a_generator())
        next(kept[0])

    task.fork(body)
    settle()
    with task.no_switch():
        kept[0].close()
        assert scheduler.loop.no_switch is True
    time.sleep(0)


def test_no_switch_is_for_one_block() -> None:
    block = task.no_switch()
    with block, pytest.raises(RuntimeError, match="of its own"), block:
        pass
    assert scheduler.loop.no_switch is False


# ---- the end of the process -------------------------------------------------------------------------------------


def test_a_cancel_strikes_in_no_finally_block_of_the_end() -> None:
    """A task that the end of the process ends before a cancel has struck is not struck twice."""
    script = """
import silly
from silly import task, time
def child(name, wait):
    try:
        wait()
    finally:
        time.sleep(1)
        print(name, "has cleaned up")
def owner():
    t = task.fork(child, "child", task.wait)
    try:
        task.wait()
    finally:
        t.cancel()
        print(t.join())
def ends():
    t = task.fork(child, "woken", task.wait)
    time.sleep(1)
    task.wakeup(t)
    t.cancel()
    silly.exit()
task.fork(owner)
task.fork(ends)
silly.run()
"""
    with Child("-c", script) as child:
        assert child.process.stdout is not None
        lines = child._bounded(child.process.stdout.read).splitlines()
        assert (child.wait(), child.errors()) == (0, "")
    assert sorted(lines) == ["(None, 'cancelled')", "child has cleaned up", "woken has cleaned up"]


def test_exit_inside_no_switch() -> None:
    script = """
import silly
from silly import task, time
def waits():
    try:
        task.wait()
    finally:
        time.sleep(1)
        print("cleaned up")
task.fork(waits)
time.sleep(0)
with task.no_switch():
    silly.exit(3)
"""
    with Child("-c", script) as child:
        assert child.line() == "cleaned up"
        assert (child.wait(), child.errors()) == (3, "")


# ---- at random --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_no_item_is_lost_or_doubled(seed: int) -> None:
    rng = random.Random(seed)
    chan: channel.Channel[int] = channel.new()
    got: list[int] = []
    sent = 0
    reader: task.Task[Any] | None = None

    def read() -> None:
        while True:
            item, err = chan.pop()
            assert item is not None, err
            got.append(item)
            if rng.random() < 0.3:
                time.sleep(0)

    for _ in range(200):
        if reader is None or reader.done:
            reader = task.fork(read)
        for _ in range(rng.randrange(3)):
            chan.push(sent)
            sent += 1
        if rng.random() < 0.5:
            time.sleep(0)
        if rng.random() < 0.7:
            reader.cancel()
        for _ in range(rng.randrange(3)):
            chan.push(sent)
            sent += 1
        if rng.random() < 0.5:
            time.sleep(0)
        if rng.random() < 0.5:
            reader.join(5)
    if reader is not None:
        reader.cancel()
        reader.join()
    while len(chan):
        item, _ = chan.pop()
        assert item is not None
        got.append(item)
    assert got == list(range(sent))


def test_a_cancelled_read_loses_no_byte() -> None:
    def handler(conn: tcp.Conn) -> None:
        conn.write("hello ")
        conn.read(1)
        conn.write("world")
        conn.read(1)

    listener = silly.check(tcp.listen(addr="127.0.0.1:0", accept=handler))
    with listener, silly.check(tcp.connect(f"127.0.0.1:{listener.port}")) as conn:
        t = task.fork(conn.read, 11)
        while not conn._stream.buf:
            time.sleep(1)
        t.cancel()
        assert t.join() == (None, "cancelled")
        conn.write("x")
        assert conn.read(11, 5000) == (b"hello world", None)
