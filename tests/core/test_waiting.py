"""``Waiters``, the queue of waiting tasks: its order, and what it holds to, whatever is
thrown at a wait."""

from __future__ import annotations

import gc
import inspect
import random
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import errno, task, time
from silly._core import deadline, scheduler, waiting
from silly._core.result import OK
from silly._core.waiting import Leaving, Waiters

from ..children import Child
from ..net.support import until
from ..test_task import settle

loop = scheduler.loop


class Odd(BaseException):
    """An exception that nothing knows, as a cancellation would be."""


KINDS: list[type[BaseException]] = [GreenletExit, KeyboardInterrupt, SystemExit, ValueError, Odd]


class Waiting:
    """A task that waits in ``queue``, and what became of that."""

    def __init__(self, queue: Waiters[Any], give_back: Callable[[Any], object] | None = None) -> None:
        self.got: Any = None
        self.task = task.fork(lambda: self._wait(queue, give_back))
        settle()

    def _wait(self, queue: Waiters[Any], give_back: Callable[[Any], object] | None) -> None:
        try:
            self.got = ("woken", queue.wait("a test", give_back))
        except BaseException as exc:
            self.got = ("thrown", type(exc))


def throw(waiting: Waiting, kind: type[BaseException]) -> None:
    """Throws where it waits, also if it was woken already and has not run."""
    if waiting.task in scheduler._ready:
        scheduler._ready.remove(waiting.task)
    loop.post(scheduler.throw, waiting.task, kind())
    until(lambda: task.status(waiting.task) is None)


# ---- order --------------------------------------------------------------------------------------------------------------


def test_first_come_first_served() -> None:
    queue: Waiters[int] = Waiters()
    assert not queue
    assert queue.wake_one(0) is False
    tasks = []
    for number in range(5):
        assert len(queue) == number
        tasks.append(Waiting(queue))
        assert bool(queue)
        assert queue.first is tasks[0].task
    for number in range(3):
        assert queue.wake_one(number) is True
        assert len(queue) == 4 - number
    assert [each.got for each in tasks] == [None] * 5, "to wake never blocks"
    settle()
    assert [each.got for each in tasks] == [("woken", 0), ("woken", 1), ("woken", 2), None, None]
    queue.wake_all(7)
    assert len(queue) == 0
    assert queue.first is None
    settle()
    assert [each.got for each in tasks[3:]] == [("woken", 7), ("woken", 7)]
    queue.wake_all(8)
    assert queue.wake_one() is False


def test_tasks_run_in_the_order_in_which_they_were_woken() -> None:
    queue: Waiters[Any] = Waiters()
    ran: list[int] = []
    for number in range(10):
        task.fork(lambda number=number: ran.append((queue.wait("a test"), number)[1]))
    settle()
    queue.wake_one()
    queue.wake_all()
    settle()
    assert ran == list(range(10))


def test_one_that_waits_again_is_behind_the_others() -> None:
    queue: Waiters[int] = Waiters()
    got: list[tuple[str, int]] = []

    def body(name: str) -> None:
        for _ in range(2):
            got.append((name, queue.wait("a test")))

    for name in "abc":
        task.fork(body, name)
    settle()
    queue.wake_all(1)
    settle()
    assert [name for name, _ in got] == ["a", "b", "c"], "one call wakes no task twice"
    assert len(queue) == 3
    queue.wake_one(2)
    queue.wake_all(3)
    settle()
    assert got[3:] == [("a", 2), ("b", 3), ("c", 3)]


def test_inspect_shows_what_it_waits_on() -> None:
    queue: Waiters[None] = Waiters()
    each = Waiting(queue)
    assert task.inspect()[each.task]["waits"] == "a test"
    assert task.status(each.task) == "WAIT"
    queue.wake_one()
    assert task.status(each.task) == "READY"
    settle()


# ---- thrown at the wait -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_thrown_before_it_is_woken(kind: type[BaseException], at: int) -> None:
    queue: Waiters[str] = Waiters()
    given: list[str] = []
    tasks = [Waiting(queue, given.append) for _ in range(3)]
    ended = tasks.pop(at)
    throw(ended, kind)
    assert ended.got == ("thrown", kind)
    assert len(queue) == 2
    assert queue.first is tasks[0].task
    for value in ("one", "two"):
        assert queue.wake_one(value)
    assert not queue.wake_one("three")
    settle()
    assert [each.got for each in tasks] == [("woken", "one"), ("woken", "two")]
    assert given == []


@pytest.mark.parametrize("kind", KINDS)
def test_thrown_after_it_was_woken_and_before_it_runs(kind: type[BaseException]) -> None:
    queue: Waiters[str] = Waiters()
    given: list[str] = []
    first, second = Waiting(queue, given.append), Waiting(queue, given.append)
    queue.wake_one("a value")
    throw(first, kind)
    assert first.got == ("thrown", kind)
    assert given == ["a value"]
    assert second.got is None
    assert len(queue) == 1
    queue.wake_one("another")
    settle()
    assert second.got == ("woken", "another")
    assert given == ["a value"]


def test_without_give_back_the_value_is_dropped() -> None:
    class Value:
        pass

    queue: Waiters[Value] = Waiters()
    gone: list[weakref.ref[Value]] = []

    def callback() -> None:
        value = Value()
        gone.append(weakref.ref(value))
        queue.wake_one(value)
        scheduler._ready.remove(scheduler.main)
        scheduler.throw_main(Odd())

    loop.post(callback)
    with pytest.raises(Odd):
        queue.wait("a test")
    time.sleep(0)  # the callback has returned
    assert gone[0]() is None
    assert len(queue) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_may_be_handed_on_from_task_to_task(kind: type[BaseException]) -> None:
    """Each is ended before it runs; the last keeps it."""
    queue: Waiters[str] = Waiters()
    left: list[str] = []

    def hand_on(value: str) -> None:
        if not queue.wake_one(value):
            left.append(value)

    tasks = [Waiting(queue, hand_on) for _ in range(4)]
    queue.wake_one("a turn")
    for each in tasks[:3]:
        assert task.status(each.task) == "READY"
        throw_at_once(each, kind)
    settle()
    assert [each.got for each in tasks] == [("thrown", kind)] * 3 + [("woken", "a turn")]
    late = Waiting(queue, hand_on)
    queue.wake_one("unwanted")
    throw(late, kind)
    assert left == ["unwanted"]


def throw_at_once(waiting: Waiting, kind: type[BaseException]) -> None:
    """``throw``, before any other task runs."""
    scheduler._ready.remove(waiting.task)
    done: list[bool] = []

    def callback() -> None:
        scheduler.throw(waiting.task, kind())
        for each in list(scheduler._ready):
            scheduler._ready.remove(each)
            held.append(each)
        done.append(True)

    held: list[Any] = []
    loop.post(callback)
    until(lambda: done)
    scheduler._ready.extend(held)


def test_an_exception_of_give_back_takes_the_place_of_the_other() -> None:
    def fail(value: str) -> None:
        raise KeyError(value)

    queue: Waiters[str] = Waiters()
    each = Waiting(queue, fail)
    queue.wake_one("a value")
    throw(each, GreenletExit)
    assert each.got == ("thrown", KeyError)


def test_give_back_may_wait_itself() -> None:
    queue: Waiters[str] = Waiters()
    got: list[str] = []
    each = Waiting(queue, lambda value: got.extend((value, queue.wait("another wait"))))
    queue.wake_one("first")
    scheduler._ready.remove(each.task)
    loop.post(scheduler.throw, each.task, Odd())
    until(lambda: queue.first is each.task)
    queue.wake_one("second")
    settle()
    assert got == ["first", "second"]
    assert each.got == ("thrown", Odd)


def test_ctrl_c_in_the_main_program_after_it_was_woken() -> None:
    queue: Waiters[str] = Waiters()
    given: list[str] = []

    def callback() -> None:
        queue.wake_one("a value")
        scheduler.interrupted(KeyboardInterrupt())

    loop.post(callback)
    with pytest.raises(KeyboardInterrupt):
        queue.wait("a test", given.append)
    assert given == ["a value"]
    assert len(queue) == 0


# ---- deadlines ----------------------------------------------------------------------------------------------------------


def test_a_deadline_that_is_over_already() -> None:
    queue: Waiters[str] = Waiters()
    given: list[str] = []
    with time.deadline(0):
        until(scheduler.expired)
        with pytest.raises(scheduler.DeadlineOver, match=r"a test: the deadline of 0 ms ran out"):
            queue.wait("a test", given.append)
    assert len(queue) == 0
    assert given == []


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("behind", [0, 1])
def test_a_deadline_that_runs_out_while_it_waits(before: int, behind: int) -> None:
    queue: Waiters[str] = Waiters()
    given: list[str] = []
    others = [Waiting(queue) for _ in range(before)]
    task.fork(lambda: others.extend(Waiting(queue) for _ in range(behind)))
    with pytest.raises(scheduler.DeadlineOver), time.deadline(30):
        queue.wait("a test", given.append)
    assert len(queue) == before + behind
    queue.wake_all("a value")
    settle()
    assert [each.got for each in others] == [("woken", "a value")] * (before + behind)
    assert given == []


def test_one_that_was_woken_before_its_deadline_gets_the_value() -> None:
    queue: Waiters[str] = Waiters()
    given: list[str] = []

    def callback() -> None:
        queue.wake_one("in time")
        assert limit._timer is not None
        loop.timers.cancel(limit._timer)
        deadline._strike(limit)

    with time.deadline(600_000) as limit:
        loop.post(callback)
        assert queue.wait("a test", given.append) == "in time"
        assert scheduler.expired()
    assert given == []


# ---- where nothing can wait ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 2])
def test_in_a_callback_of_the_loop(others: int) -> None:
    queue: Waiters[int] = Waiters()
    tasks = [Waiting(queue) for _ in range(others)]
    raised: list[str] = []

    def callback() -> None:
        try:
            queue.wait("a test", raised.append)  # type: ignore[arg-type]
        except RuntimeError as exc:
            raised.append(str(exc))

    loop.post(callback)
    until(lambda: raised)
    where = "a callback of the loop (a signal handler, a finalizer or a hook)"
    assert raised == [f"a test: cannot block in {where}; fork a task instead"]
    assert len(queue) == others
    queue.wake_all(1)
    settle()
    assert [each.got for each in tasks] == [("woken", 1)] * others


@contextmanager
def ending() -> Iterator[None]:
    """As in the phase in which nothing blocks. (That it is so while a process ends is
    tested in processes of their own.)"""
    scheduler.exiting = True
    try:
        yield
    finally:
        scheduler.exiting = False


def test_while_the_process_is_ending() -> None:
    queue: Waiters[int] = Waiters()
    turns = loop.turns
    with ending(), pytest.raises(Leaving):
        queue.wait("a test")
    assert loop.turns > turns, "others have run"
    assert len(queue) == 0
    assert issubclass(Leaving, GreenletExit), "it ends a task quietly"


@pytest.mark.parametrize("kind", KINDS)
def test_thrown_at_the_pause_of_one_that_leaves(kind: type[BaseException]) -> None:
    queue: Waiters[int] = Waiters()
    given: list[int] = []
    me = task.running()

    def callback() -> None:
        loop.deferred.remove(me)
        scheduler.throw_main(kind())

    time.sleep(0)  # now a turn has just begun: the callback runs before the pause is over
    loop.post(callback)
    with ending(), pytest.raises(kind):
        queue.wait("a test", given.append)
    assert len(queue) == 0
    assert given == []


END = """
import silly
from silly import task, time
from silly.sync import channel
chan = channel.new()
def pusher():
    try:
        task.wait()
    finally:
        if {late}:
            chan.push("an item")
            time.sleep(0)
def end():
    if not {late}:
        chan.push("an item")  # the main program is ready now, and does not run
    silly.exit(4)
task.fork(pusher)
time.sleep(0)
task.fork(end)
try:
    print(chan.pop())
finally:
    print("put back:", chan.pop()[0], flush=True)
"""


@pytest.mark.parametrize("late", [False, True])
def test_an_item_for_the_main_program_when_the_process_ends(late: bool) -> None:
    """Before its end reaches it the main program does not run; what it was woken with
    is not lost."""
    with Child("-c", END.format(late=late)) as child:
        assert child.line() == "put back: an item", child.errors()
        assert child.wait() == 4
        assert child.errors() == ""


# ---- what is built on it ------------------------------------------------------------------------------------------------


def example() -> Any:
    """The semaphore of the module's header, as it stands there."""
    _, found, rest = inspect.getdoc(waiting).partition("    class Semaphore:\n")  # type: ignore[union-attr]
    code, _, _ = rest.partition("\nIt returns no errors")
    space: dict[str, Any] = {"Waiters": Waiters}
    exec(textwrap.dedent(found + code), space)
    return space["Semaphore"]


@pytest.mark.parametrize("over", [False, True], ids=["blow", "deadline"])
def test_one_that_is_woken_before_it_waits_and_then_may_not_wait(over: bool) -> None:
    """A signal handler wakes it between its look and its wait, and a blow or a deadline strikes there. It must not stay in the
    queue of tasks that are ready: that would end its next wait."""
    queue: Waiters[str] = Waiters()
    back: list[str] = []

    def body() -> Any:
        limit = time.deadline(0) if over else time.deadline(60_000)
        with limit, pytest.raises(TimeoutError if over else task.Cancelled):
            if not over:
                task.running().cancel()
            while over and not scheduler.expired():
                time.sleep(0)
            queue.wait("a test", back.append, lambda: queue.wake_one("an item"))
        assert back == ["an item"]
        assert task.status(task.running()) == "RUN"
        return task.wait()

    waiting = task.fork(body)
    for _ in range(3):
        settle()
        time.sleep(1)
    assert task.status(waiting) == "WAIT"
    task.wakeup(waiting, "done")
    assert waiting.join() == ("done", None)


def test_the_header_s_example() -> None:
    semaphore = example()(2)
    running: list[int] = []
    most: list[int] = []

    def body() -> None:
        semaphore.acquire()
        running.append(1)
        most.append(len(running))
        time.sleep(0)
        running.pop()
        semaphore.release()

    tasks = [task.fork(body) for _ in range(10)]
    until(lambda: all(task.status(each) is None for each in tasks))
    assert max(most) == 2
    assert len(most) == 10
    assert semaphore._free == 2


def test_the_header_s_example_with_an_error_in_its_result() -> None:
    _, _, rest = inspect.getdoc(waiting).partition("returns errors has:\n")  # type: ignore[union-attr]
    code, _, _ = rest.partition("\n**Memory.**")
    space: dict[str, Any] = {}
    exec(f"def acquire(self):\n{code}", space)
    acquire = space["acquire"]
    semaphore = example()(0)
    with time.deadline(1):
        assert acquire(semaphore) == (False, "semaphore.acquire: the deadline of 1 ms ran out")
    with ending():
        assert acquire(semaphore) == (False, errno.CLOSED)
    task.fork(semaphore.release)
    assert acquire(semaphore) == OK


@pytest.mark.parametrize("seed", range(10))
def test_places_are_never_lost(seed: int) -> None:
    """Tasks take and free the places of a semaphore, and are ended at any point:
    waiting, woken, or holding a place."""
    rng = random.Random(seed)
    places = rng.randrange(1, 4)
    semaphore = example()(places)
    held: set[int] = set()

    def body(number: int) -> None:
        for _ in range(3):
            try:
                with time.deadline(rng.choice([0, 1, 600_000])):
                    semaphore.acquire()
            except TimeoutError:
                continue
            held.add(number)
            try:
                assert len(held) <= places
                time.sleep(0)
            finally:
                held.discard(number)
                semaphore.release()

    tasks = [task.fork(body, number) for number in range(30)]

    def strike() -> None:
        """Ends one that waits for a place, or has been woken with one."""
        candidates = [each for each in tasks if each._status in ("WAIT", "READY") and each._what == "semaphore.acquire"]
        if candidates:
            victim = rng.choice(candidates)
            if victim in scheduler._ready:
                scheduler._ready.remove(victim)
            scheduler.throw(victim, rng.choice([GreenletExit, Leaving])())

    for _ in range(15):
        loop.post(strike)
        time.sleep(0)
    until(lambda: all(task.status(each) is None for each in tasks))
    assert semaphore._free == places
    assert len(semaphore._waiters) == 0


# ---- memory -------------------------------------------------------------------------------------------------------------


def test_memory_of_a_queue() -> None:
    """The header says so; an idle connection's budget is counted in bytes."""
    queue: Waiters[None] = Waiters()
    assert sys.getsizeof(queue) <= 48
    one = Waiting(queue)
    assert queue._more is None, "no container for one that waits"
    two = Waiting(queue)
    queue.wake_all()
    settle()
    assert (one.got, two.got) == (("woken", None), ("woken", None))
    assert not any(isinstance(each, scheduler.Task) for each in gc.get_referents(queue)), "it keeps no task"
