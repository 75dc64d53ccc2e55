"""``silly.sync.mutex``: one task at a time for each key, whatever interrupts those that wait."""

from __future__ import annotations

import random
from typing import Any

import pytest

import silly
from silly import task, time
from silly._core import scheduler
from silly._core.waiting import Leaving
from silly.sync import channel, mutex

from .children import Child
from .leaks import leaks_nothing
from .test_task import in_loop, in_thread, settle


class Holder:
    """A task that locks a key, and holds it until ``let_go`` is called."""

    def __init__(self, m: mutex.Mutex, key: Any = "key") -> None:
        self._go = channel.new()
        self.got = False
        self.task = task.fork(self._hold, m, key)
        settle()

    def _hold(self, m: mutex.Mutex, key: Any) -> None:
        with m.lock(key):
            self.got = True
            self._go.pop()

    def let_go(self) -> None:
        self._go.push(True)
        settle()


def free(m: mutex.Mutex) -> bool:
    """Whether it keeps nothing."""
    return m._keys == {}


# ---- one at a time ------------------------------------------------------------------------------------------------------


def test_one_task_at_a_time() -> None:
    m = mutex.new()
    order: list[tuple[int, str]] = []

    def body(number: int) -> None:
        with m.lock("key"):
            order.append((number, "in"))
            time.sleep(1)
            order.append((number, "out"))

    for t in [task.fork(body, number) for number in range(5)]:
        t.join()
    assert order == [(number, word) for number in range(5) for word in ("in", "out")]
    assert free(m)


def test_first_come_first_served() -> None:
    m = mutex.new()
    holders = [Holder(m) for _ in range(4)]
    assert [each.got for each in holders] == [True, False, False, False]
    for number, each in enumerate(holders, 1):
        each.let_go()
        assert sum(each.got for each in holders) == min(number + 1, 4)
        assert all(each.got for each in holders[: number + 1])
    assert free(m)


def test_a_task_that_comes_after_the_unlock_does_not_pass_one_that_waits() -> None:
    m = mutex.new()
    lock = m.lock("key")
    got: list[str] = []

    def body(name: str) -> None:
        with m.lock("key"):
            got.append(name)

    task.fork(body, "waited")
    settle()
    lock.unlock()
    with m.lock("key"):  # before the other has run
        got.append("main")
    assert got == ["waited", "main"]
    assert free(m)


def test_keys_have_nothing_to_do_with_each_other() -> None:
    m = mutex.new()
    others = mutex.new()
    with m.lock("key"), time.deadline(0):
        held = [Holder(m, "other"), Holder(m, 7), Holder(m, ("a", 1)), Holder(others, "key"), Holder(m, None)]
        assert all(each.got for each in held)
        assert len(m._keys) == 5
    for each in held:
        each.let_go()
    assert free(m)
    assert free(others)


def test_a_dict_is_a_key_by_its_identity() -> None:
    """As a table is in Lua."""
    m = mutex.new()
    one, other = {"name": "x"}, {"name": "x"}
    with m.lock(one):
        one["name"] = "y"
        second = Holder(m, one)
        third = Holder(m, other)
        assert (second.got, third.got) == (False, True)
    settle()
    assert second.got
    second.let_go()
    third.let_go()
    assert free(m)


def test_a_key_that_cannot_be_hashed() -> None:
    m = mutex.new()
    with pytest.raises(TypeError, match="unhashable"):
        m.lock(["a", "list"])
    assert free(m)


# ---- re-entrant ---------------------------------------------------------------------------------------------------------


def test_the_task_that_holds_it_may_lock_it_again() -> None:
    m = mutex.new()
    with time.deadline(0):
        first, second, third = m.lock("key"), m.lock("key"), m.lock("key")
    other = Holder(m)
    for each in (second, first):
        each.unlock()
        settle()
        assert not other.got
    third.unlock()
    settle()
    assert other.got
    other.let_go()
    assert free(m)


def test_the_task_that_got_it_by_waiting_may_lock_it_again() -> None:
    m = mutex.new()
    done: list[str] = []

    def body() -> None:
        with m.lock("key"), m.lock("key"):
            done.append("twice")

    with m.lock("key"), m.lock("key"):
        t = task.fork(body)
        settle()
    assert t.join(10_000) == (None, None)
    assert done == ["twice"]
    assert free(m)


def test_a_second_unlock_does_nothing() -> None:
    m = mutex.new()
    with m.lock("key") as early:
        other = Holder(m)
        early.unlock()
        settle()
        assert other.got
        early.unlock()
        third = Holder(m)
    settle()
    assert not third.got, "the second unlock and the end of the block have not unlocked the other's lock"
    other.let_go()
    assert third.got
    third.let_go()
    assert free(m)


def test_another_task_may_unlock() -> None:
    m = mutex.new()
    lock = m.lock("key")
    assert task.fork(lock.unlock).join() == (None, None)
    assert free(m)
    with time.deadline(0):
        m.lock("key").unlock()


def test_an_exception_frees_it() -> None:
    m = mutex.new()
    with pytest.raises(KeyError), m.lock("key"):
        raise KeyError
    assert free(m)


# ---- interrupted --------------------------------------------------------------------------------------------------------


def test_a_deadline() -> None:
    m = mutex.new()
    holder = Holder(m)
    text = r"mutex\.lock\('key'\), which Holder\._hold holds: the deadline of 1 ms ran out"
    with time.deadline(1), pytest.raises(TimeoutError, match=text):
        m.lock("key")
    after = Holder(m)
    holder.let_go()
    assert after.got
    after.let_go()
    assert free(m)


def test_a_task_that_has_finished_without_unlocking() -> None:
    m = mutex.new()
    lock, _err = task.fork(m.lock, "key").join()
    assert lock is not None
    text = r"mutex\.lock\('key'\), which a task that has finished holds: the deadline of 0 ms ran out"
    with time.deadline(0), pytest.raises(TimeoutError, match=text):
        m.lock("key")
    lock.unlock()
    assert free(m)


def test_a_deadline_that_is_over_does_not_keep_a_free_lock() -> None:
    m = mutex.new()
    holder = Holder(m, "other")
    with time.deadline(0):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                m.lock("other")
        with m.lock("key"):
            pass
    holder.let_go()
    assert free(m)


def test_a_deadline_that_strikes_after_the_hand_over_loses_nothing() -> None:
    m = mutex.new()
    lock = m.lock("key")
    got: list[bool] = []

    def body() -> None:
        with time.deadline(5) as limit, m.lock("key"):
            got.append(limit.expired)

    t = task.fork(body)
    settle()
    lock.unlock()
    begin = time.monotonic()
    while time.monotonic() < begin + 10:  # holds the loop until the deadline is over
        pass
    assert t.join() == (None, None)
    assert got == [True]
    assert free(m)


def test_a_cancelled_task_leaves_the_queue() -> None:
    m = mutex.new()
    first, second, third = (Holder(m) for _ in range(3))
    assert second.task.cancel()
    assert second.task.join() == (None, "cancelled")
    assert not second.got
    first.let_go()
    assert third.got
    third.let_go()
    assert free(m)


def test_a_cancel_after_the_hand_over_strikes_at_the_next_wait() -> None:
    m = mutex.new()
    lock = m.lock("key")
    second, third = Holder(m), Holder(m)
    lock.unlock()
    second.task.cancel()
    assert second.task.join() == (None, "cancelled")
    assert second.got
    settle()
    assert third.got, "the with block has freed it"
    third.let_go()
    assert free(m)


@pytest.mark.parametrize("exc", [Leaving, silly.Error, KeyboardInterrupt])
@pytest.mark.parametrize("followed", [True, False])
def test_one_that_is_interrupted_after_the_hand_over_hands_it_on(exc: type[BaseException], followed: bool) -> None:
    m = mutex.new()
    lock = m.lock("key")
    ended: list[type[BaseException]] = []

    def body() -> None:
        try:
            m.lock("key")
        except BaseException as exc:
            ended.append(type(exc))

    second = task.fork(body)
    settle()
    third = Holder(m) if followed else None
    lock.unlock()
    scheduler._ready.remove(second)
    scheduler.loop.post(scheduler.throw, second, exc())
    second.join()
    assert ended == [exc]
    settle()
    if third is not None:
        assert third.got
        third.let_go()
    assert free(m)


def test_a_signal_handler_that_unlocks_between_the_look_and_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    m = mutex.new()
    lock = m.lock("key")
    wait = mutex._HeldKey.wait
    looked: list[bool] = []

    def interrupted(held: mutex._HeldKey) -> bool:
        lock.unlock()
        looked.append(wait(held))
        return looked[-1]

    monkeypatch.setattr(mutex._HeldKey, "wait", interrupted)
    other = Holder(m)
    assert looked == [False]
    assert other.got
    other.let_go()
    assert free(m)


def test_two_tasks_that_find_a_key_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer may wait wherever memory is taken, so that another task locks the key."""

    class Slow(mutex._HeldKey):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            time.sleep(0)

    monkeypatch.setattr(mutex, "_HeldKey", Slow)
    m = mutex.new()
    inside: list[int] = []

    def locks() -> None:
        with m.lock("key"):
            inside.append(len(m._keys))
            time.sleep(1)
            inside.append(-1)

    for each in [task.fork(locks) for _ in range(2)]:
        each.join()
    assert inside == [1, -1, 1, -1]
    assert free(m)


def test_random_blows() -> None:
    """Whatever strikes whom: never two in, everybody who waits gets it, nothing is left. One task is spared: it gets in each
    time."""
    m = mutex.new()
    rng = random.Random(7)
    inside: dict[int, int] = {}
    runs: list[int] = []

    def body(number: int) -> None:
        for _ in range(20):
            key = rng.randrange(3)
            with time.deadline(rng.choice([0, 1, 60_000]) if number else 60_000):
                try:
                    with m.lock(key):
                        assert key not in inside, "two hold the key"
                        inside[key] = number
                        try:
                            time.sleep(rng.choice([0, 0, 0, 1]))
                            runs.append(number)
                        finally:
                            del inside[key]
                except TimeoutError:
                    pass

    tasks = [task.fork(body, number) for number in range(30)]
    while any(not t.done for t in tasks):
        if rng.random() < 0.3:
            rng.choice(tasks[1:]).cancel()
        time.sleep(0)
    for t in tasks:
        t.join()
    assert runs.count(0) == 20
    assert free(m)


# ---- elsewhere ----------------------------------------------------------------------------------------------------------


def test_where_no_task_runs() -> None:
    m = mutex.new()
    lock = m.lock("key")
    for outcome in (in_thread(lambda: m.lock("other")), in_loop(lambda: m.lock("other")), in_thread(lock.unlock)):
        assert outcome[0] == "raised"
        assert isinstance(outcome[1], RuntimeError)
    assert len(m._keys) == 1
    lock.unlock()
    assert free(m)


def test_no_switch() -> None:
    m = mutex.new()
    with task.no_switch(), pytest.raises(RuntimeError, match="lock: may wait"):
        m.lock("key")
    lock = m.lock("key")
    with task.no_switch():
        lock.unlock()
    assert free(m)


def test_the_end_of_the_process() -> None:
    """A task that waits ends; one that locks in a ``finally`` block gets what is free, and waits for the rest."""
    script = """
import silly
from silly import task, time
from silly._core import ending
from silly.sync import mutex
ending.plan, ending.FINALLY = ending.Plan(drain=0), 0.3
m = mutex.new()
def waits(name, key):
    try:
        with m.lock(key):
            print(name, "got", key)
    finally:
        print(name, "ends")
def holds():
    with m.lock("held"):
        try:
            task.wait()
        finally:
            with m.lock("free"), m.lock("held"):
                print("holder got both")
            try:
                time.sleep(60_000)
            finally:
                print("holder leaves")
def late():
    try:
        task.wait()
    finally:
        try:
            m.lock("held")
        finally:
            print("late ends")
task.fork(holds)
task.fork(waits, "waiter", "held")
task.fork(late)
time.after(1, lambda: silly.exit(3))
silly.run()
"""
    with Child("-c", script) as child:
        assert child.process.stdout is not None
        lines = child._bounded(child.process.stdout.read).splitlines()
        assert (child.wait(), child.errors()) == (3, "")
    assert sorted(lines) == ["holder got both", "holder leaves", "late ends", "waiter ends"]


def test_tasks_that_wait_for_each_other_are_named() -> None:
    script = """
import silly
from silly import task, time
from silly.sync import mutex
m = mutex.new()
def body(one, other):
    with m.lock(one):
        time.sleep(1)
        with m.lock(other):
            pass
def left(): body("a", "b")
def right(): body("b", "a")
task.fork(left)
task.fork(right)
silly.run()
"""
    with Child("-c", script) as child:
        assert child.wait() == 1
        assert "left: waits on mutex.lock('b'), which right holds" in child.errors()
        assert "right: waits on mutex.lock('a'), which left holds" in child.errors()


def test_nothing_is_left() -> None:
    m = mutex.new()

    def run() -> None:
        with m.lock("key"), m.lock(("another", 1)):
            pass

    leaks_nothing(run)
    assert free(m)


def test_hand_overs_leave_nothing() -> None:
    m = mutex.new()

    def run() -> None:
        lock = m.lock("key")
        t = task.fork(lambda: m.lock("key").unlock())
        time.sleep(0)
        lock.unlock()
        t.join()

    leaks_nothing(run)
    assert free(m)
