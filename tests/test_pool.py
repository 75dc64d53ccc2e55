"""``silly.sync.pool``."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import task, time
from silly._core import scheduler
from silly.sync import event, pool

from .leaks import leaks_nothing
from .net.support import until
from .test_task import settle, started


class Item:
    """What the pools here hold."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.healthy: Any = True
        self.closed = False

    def __repr__(self) -> str:
        return f"item {self.number}"


class Maker:
    """``create``, ``close`` and ``check`` of a pool, and what they were asked."""

    def __init__(self) -> None:
        self.made: list[Item] = []
        self.failing: Any = None
        """An error to return, or an exception to raise, in place of an item."""
        self.pause: Any = None
        """Milliseconds that each call sleeps."""
        self.open = 0
        self.most = 0
        self.checked: list[Item] = []

    def create(self) -> Any:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if self.pause is not None:
                time.sleep(self.pause)
            if isinstance(self.failing, BaseException):
                raise self.failing
        except BaseException:
            self.open -= 1
            raise
        if self.failing is not None:
            self.open -= 1
            return None, self.failing
        self.made.append(Item(len(self.made)))
        return self.made[-1], None

    def close(self, item: Item) -> None:
        assert not item.closed
        if self.pause is not None:
            time.sleep(self.pause)
        item.closed = True
        self.open -= 1

    def check(self, item: Item) -> Any:
        self.checked.append(item)
        if self.pause is not None:
            time.sleep(self.pause)
        if isinstance(item.healthy, BaseException):
            raise item.healthy
        return item.healthy

    def pool(self, **options: Any) -> pool.Pool[Item]:
        return pool.new(self.create, close=self.close, check=self.check, **options)


@pytest.fixture
def maker() -> Maker:
    return Maker()


def got(items: pool.Pool[Item], timeout: float | None = None) -> Item:
    return silly.check(items.get(timeout))


def counts(items: pool.Pool[Any]) -> tuple[int, int, int]:
    return items.open, items.idle, items.waiting


# ---- taking and giving back --------------------------------------------------------------------------------------


def test_an_item_serves_again(maker: Maker) -> None:
    items = maker.pool()
    first = got(items)
    assert counts(items) == (1, 0, 0)
    items.put(first)
    assert (counts(items), got(items)) == ((1, 1, 0), first)
    second = got(items)
    assert second is not first
    items.put(first)
    items.put(second)
    assert got(items) is second, "the one that was used last"
    assert maker.checked == [first, second]


def test_it_waits_when_all_are_in_use(maker: Maker) -> None:
    items = maker.pool(max_open=2)
    one, other = got(items), got(items)
    waiting = [started(items.get) for _ in range(3)]
    assert (counts(items), task.inspect()[waiting[0]]["waits"]) == ((2, 0, 3), "pool.get")
    items.put(one)
    assert counts(items) == (2, 0, 2), "handed over: the next one to ask is behind"
    waiting.append(task.fork(items.get))
    items.drop(other)
    for t, item in zip(waiting[:2], (one, maker.made[-1]), strict=True):
        (value, err), _ = t.join(10_000)
        assert err is None
        assert value in (item, maker.made[-1])
        items.put(value)
    for t in waiting[2:]:
        (value, err), _ = t.join(10_000)
        assert err is None
        items.put(value)
    assert counts(items) == (2, 2, 0)
    assert (len(maker.made), maker.most) == (3, 2)


def test_first_come_first_served(maker: Maker) -> None:
    items = maker.pool(max_open=1)
    order: list[int] = []

    def body(number: int) -> None:
        with items.take():
            order.append(number)
            time.sleep(0)

    for each in [task.fork(body, number) for number in range(20)]:
        assert each.join() == (None, None)
    assert order == list(range(20))
    assert len(maker.made) == 1


def test_what_is_no_item_in_use(maker: Maker) -> None:
    items = maker.pool()
    item = got(items)
    items.put(item)
    for give_back in (items.put, items.drop):
        for wrong in (item, Item(7), None):
            with pytest.raises(RuntimeError, match="the item is not in use"):
                give_back(wrong)  # type: ignore[arg-type]
    assert counts(items) == (1, 1, 0)


def test_no_more_idle_items_than_asked_for(maker: Maker) -> None:
    items = maker.pool(max_idle=1)
    three = [got(items) for _ in range(3)]
    for item in three:
        items.put(item)
    settle()
    assert [item.closed for item in three] == [False, True, True]
    assert counts(items) == (1, 1, 0)
    none = Maker().pool(max_idle=0)
    none.put(got(none))
    settle()
    assert counts(none) == (0, 0, 0)


def test_any_number(maker: Maker) -> None:
    items = maker.pool(max_open=None)
    many = [got(items) for _ in range(50)]
    for item in many:
        items.put(item)
    assert counts(items) == (50, 50, 0)


# ---- take --------------------------------------------------------------------------------------------------------


def test_take(maker: Maker) -> None:
    items = maker.pool()
    with items.take() as item:
        assert (item.number, counts(items)) == (0, (1, 0, 0))
    assert counts(items) == (1, 1, 0)
    with pytest.raises(ZeroDivisionError), items.take() as item:
        raise ZeroDivisionError
    settle()
    assert (item.closed, counts(items)) == (True, (0, 0, 0)), "in what state it is nobody knows"


def test_a_block_that_gives_back_itself(maker: Maker) -> None:
    items = maker.pool(max_open=1)
    with items.take() as item:
        items.drop(item)
    settle()
    assert counts(items) == (0, 0, 0)
    with items.take() as item:
        items.put(item)
        other = got(items)
        assert other is item
    assert counts(items) == (1, 0, 0), "the other use of it goes on"
    items.put(other)


def test_a_take_serves_one_block(maker: Maker) -> None:
    taking = maker.pool().take()
    with taking:
        pass
    with pytest.raises(RuntimeError, match="each with block needs a take of its own"), taking:
        pass


def test_a_take_that_fails(maker: Maker) -> None:
    items = maker.pool(max_open=1)
    maker.failing = "no luck"
    with pytest.raises(silly.Error, match="no luck"), items.take():
        pass
    maker.failing = None
    with items.take(), pytest.raises(TimeoutError, match=r"pool\.get: the time-out of 2 ms ran out"), items.take(2):
        pass
    items.close()
    with pytest.raises(silly.Error, match=r"pool\.get: the pool is closed"), items.take():
        pass


# ---- making ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["refused", ValueError("refused"), Item])
def test_a_failed_create_gives_the_turn_on(maker: Maker, failing: Any) -> None:
    items = maker.pool(max_open=1)
    first = got(items)
    maker.failing = failing

    def asking() -> Any:
        try:
            return items.get()
        except ValueError as exc:
            return None, str(exc)

    waiting = [started(asking) for _ in range(3)]
    items.drop(first)
    expected = failing if failing is Item else "refused"
    assert [t.join(10_000) for t in waiting] == [((None, expected), None)] * 3
    assert counts(items) == (0, 0, 0)
    maker.failing = None
    items.put(got(items))


@pytest.mark.parametrize("made", [Item(1), None, (1,), "ab"])
def test_a_create_that_returns_no_pair(made: Any) -> None:
    items = pool.new(lambda: made)
    with pytest.raises(TypeError, match=r"pool\.get: .*must return a pair, \(item, None\) or \(None, error\)"):
        items.get()
    assert counts(items) == (0, 0, 0)


def test_a_create_that_returns_an_item_twice() -> None:
    item = Item(1)
    items = pool.new(lambda: (item, None))
    assert items.get() == (item, None)
    with pytest.raises(RuntimeError, match="an item that the pool has already"):
        items.get()
    assert counts(items) == (1, 0, 0)
    items.put(item)
    assert items.get() == (item, None)


# ---- health ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sick", [False, None, 0, (None, "gone"), (False, "gone"), (), OSError("gone")])
def test_a_sick_item_is_replaced(maker: Maker, sick: Any, logs: Any) -> None:
    if isinstance(sick, OSError):
        logs.expect(r"INFO Maker\.check of a pool has raised, so the item is closed: OSError\('gone'\)")
    items = maker.pool(max_open=1)
    first = got(items)
    items.put(first)
    first.healthy = sick
    second = got(items)
    assert (first.closed, second.closed, counts(items)) == (True, False, (1, 0, 0))
    assert (second.number, maker.most) == (1, 1), "its place was free before the next one was made"


@pytest.mark.parametrize("well", [True, 1, ("value", None), (0, None)])
def test_a_healthy_item_serves(maker: Maker, well: Any) -> None:
    items = maker.pool()
    first = got(items)
    items.put(first)
    first.healthy = well
    assert got(items) is first


def test_an_item_that_is_handed_over_is_checked_too(maker: Maker) -> None:
    items = maker.pool(max_open=1)
    first = got(items)
    waiting = [started(items.get) for _ in range(2)]
    first.healthy = False
    items.put(first)
    (item, err), _ = waiting[0].join(10_000)
    assert (item.number, err, first.closed) == (1, None, True), "the task kept its turn"
    items.put(item)
    assert waiting[1].join(10_000) == ((item, None), None)


def test_a_check_that_takes_too_long(maker: Maker) -> None:
    items = maker.pool(max_open=1)
    items.put(got(items))
    maker.pause = 10_000
    assert items.get(3) == (None, "time.sleep: the time-out of 3 ms ran out")
    settle()
    assert counts(items) == (1, 0, 0), "it is being closed"
    closing = next(t for t in task.inspect() if t.name() == "close_item")
    closing.cancel()
    until(lambda: counts(items) == (0, 0, 0))


def test_an_end_in_a_check(maker: Maker) -> None:
    items = maker.pool(max_open=1)
    first = got(items)
    items.put(first)
    first.healthy = GreenletExit()
    asking = task.fork(items.get)
    assert asking.join() == (None, "cancelled")
    settle()
    assert (first.closed, counts(items)) == (True, (0, 0, 0))


# ---- time --------------------------------------------------------------------------------------------------------


def test_times(maker: Maker) -> None:
    items = maker.pool(max_open=1)
    first = got(items)
    assert items.get(3) == (None, "pool.get: the time-out of 3 ms ran out")
    with time.deadline(2):
        assert items.get(10_000) == (None, "pool.get: the deadline of 2 ms ran out")
    assert counts(items) == (1, 0, 0)
    items.put(first)
    assert items.get(0) == (first, None)
    items.drop(first)
    settle()
    maker.pause = 10_000
    assert items.get(3) == (None, "time.sleep: the time-out of 3 ms ran out"), "create counts"
    assert (maker.open, counts(items)) == (0, (0, 0, 0))


@pytest.mark.usefixtures("virtual")
def test_lifetime(maker: Maker) -> None:
    items = maker.pool(lifetime=20)
    first = got(items)
    items.put(first)
    assert got(items) is first
    time.sleep(25)
    items.put(first)
    settle()
    assert (first.closed, counts(items)) == (True, (0, 0, 0)), "once it is not in use"
    second = got(items)
    items.put(second)
    until(lambda: second.closed)
    assert counts(items) == (0, 0, 0)


def test_an_item_that_is_due_is_not_taken(maker: Maker) -> None:
    """Though its timer has not fired: the task holds the loop."""
    import time as clock

    items = maker.pool(lifetime=5)
    first = got(items)
    items.put(first)
    clock.sleep(0.02)
    assert got(items) is not first
    assert first.closed


@pytest.mark.usefixtures("virtual")
def test_idle_time(maker: Maker) -> None:
    items = maker.pool(idle_time=20)
    two = [got(items) for _ in range(2)]
    items.put(two[0])
    time.sleep(5)
    items.put(two[1])
    until(lambda: two[0].closed)
    until(lambda: two[1].closed)
    assert counts(items) == (0, 0, 0)
    assert items._timer is None


def test_idle_items_do_not_keep_the_process_alive(maker: Maker) -> None:
    before = len(scheduler.loop.timers.users)
    items = maker.pool(idle_time=60_000, lifetime=1_000_000)
    items.put(got(items))
    assert items._timer is not None
    assert len(scheduler.loop.timers.users) == before
    items.close()
    assert items._timer is None
    settle()


# ---- closing -----------------------------------------------------------------------------------------------------


def test_close(maker: Maker) -> None:
    items = maker.pool(max_open=2)
    used, idle = got(items), got(items)
    items.put(idle)
    items.close()
    items.close()
    settle()
    assert (used.closed, idle.closed, counts(items)) == (False, True, (1, 0, 0))
    assert items.get() == (None, "pool.get: the pool is closed")
    items.put(used)
    settle()
    assert (used.closed, counts(items)) == (True, (0, 0, 0))


def test_close_ends_those_who_wait(maker: Maker) -> None:
    with maker.pool(max_open=1) as items:
        item = got(items)
        waiting = [started(items.get) for _ in range(3)]
    assert [t.join() for t in waiting] == [((None, "pool.get: the pool is closed"), None)] * 3
    items.drop(item)
    settle()
    assert counts(items) == (0, 0, 0)


@pytest.mark.parametrize("sick", [False, True])
def test_a_pool_that_is_closed_meanwhile(maker: Maker, sick: bool) -> None:
    """While an item is made, checked, or closed to make place."""
    items = maker.pool(max_open=2)
    first = got(items)
    items.put(first)
    first.healthy = not sick
    maker.pause = 1
    asking = [task.fork(items.get) for _ in range(2)]
    time.sleep(0)
    items.close()
    assert [t.join() for t in asking] == [((None, "pool.get: the pool is closed"), None)] * 2
    until(lambda: counts(items) == (0, 0, 0))
    assert all(item.closed for item in maker.made)


def test_a_close_that_raises(logs: Any) -> None:
    logs.expect(r"(?s)ERROR exception in .*fail of a pool:\n.*ZeroDivisionError")

    def fail(item: Item) -> None:
        raise ZeroDivisionError

    items = pool.new(lambda: (Item(1), None), close=fail, max_open=1)
    items.drop(silly.check(items.get()))
    assert items.get(10_000)[1] is None


def test_a_place_is_free_when_the_item_is_closed(maker: Maker) -> None:
    gate = event.new()
    items = pool.new(maker.create, close=lambda item: (gate.wait(), maker.close(item)), max_open=1)
    items.drop(silly.check(items.get()))
    waiting = started(items.get)
    assert counts(items) == (1, 0, 1)
    gate.set()
    (item, err), _ = waiting.join()
    assert (item.number, err, maker.most) == (1, None, 1)
    items.put(item)
    with time.deadline(0):
        time.sleep(0)
        items.close()  # the deadline of this task does not cut it
    until(lambda: item.closed)


# ---- cancels and other ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_cancelled_waiter(maker: Maker, at: int) -> None:
    items = maker.pool(max_open=1)
    item = got(items)
    waiting = [started(items.get) for _ in range(3)]
    waiting[at].cancel()
    assert waiting[at].join() == (None, "cancelled")
    del waiting[at]
    for t in waiting:
        items.put(item)
        assert t.join() == ((item, None), None)


@pytest.mark.parametrize("give_back", ["put", "drop"])
def test_a_waiter_that_is_ended_after_it_was_woken(maker: Maker, give_back: str) -> None:
    items = pool.new(maker.create, max_open=1)
    item = silly.check(items.get())
    first, second = started(items.get), started(items.get)
    getattr(items, give_back)(item)
    scheduler._ready.remove(first)
    scheduler.loop.post(scheduler.throw, first, GreenletExit())
    (other, err), _ = second.join(10_000)
    assert (other is item, err) == (give_back == "put", None)
    items.put(other)
    assert counts(items) == (1, 1, 0)


def test_a_cancel_while_an_item_is_made(maker: Maker) -> None:
    items = maker.pool(max_open=1)
    maker.pause = 10_000
    making = started(items.get)
    waiting = started(items.get)
    maker.pause = None
    making.cancel()
    assert making.join() == (None, "cancelled")
    assert waiting.join(10_000) == ((maker.made[0], None), None)
    assert maker.open == 1


def test_random_blows_lose_and_double_nothing(maker: Maker) -> None:
    rng = random.Random(15)
    items = maker.pool(max_open=4, max_idle=3, lifetime=15, idle_time=5)
    using: set[int] = set()

    def body() -> None:
        for _ in range(20):
            maker.pause = rng.choice([None, 0])
            maker.failing = "refused" if rng.random() < 0.1 else None
            if rng.random() < 0.1:
                rng.choice(tasks).cancel()
            item, _err = items.get(rng.choice([None, 0, 1]))
            if item is None:
                continue
            assert item.number not in using
            assert not item.closed
            using.add(item.number)
            item.healthy = rng.random() < 0.8
            well = False
            try:
                time.sleep(0)
                well = rng.random() < 0.8
            finally:
                using.discard(item.number)
                (items.put if well else items.drop)(item)

    tasks = [task.fork(body) for _ in range(60)]
    for each in tasks:
        each.join()
    assert sum(each._cancelled for each in tasks) > 20
    maker.pause = maker.failing = None
    items.close()
    until(lambda: counts(items) == (0, 0, 0))
    assert (maker.open, maker.most, len(using)) == (0, 4, 0)
    assert all(item.closed for item in maker.made)


# ---- wrong uses, memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"close": 1}, TypeError),
        ({"check": "x"}, TypeError),
        ({"max_open": 0}, ValueError),
        ({"max_open": 1.5}, ValueError),
        ({"max_idle": -1}, ValueError),
        ({"lifetime": 0}, ValueError),
        ({"idle_time": "1"}, TypeError),
    ],
)
def test_wrong_arguments(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"pool\.new: {next(iter(options))}"):
        pool.new(lambda: (Item(1), None), **options)
    with pytest.raises(TypeError, match=r"pool\.new: create is a function"):
        pool.new(None)  # type: ignore[arg-type]


def test_wrong_uses(maker: Maker) -> None:
    items = maker.pool()
    with pytest.raises(ValueError, match=r"pool\.get: the time-out"):
        items.get(-1)
    item = got(items)
    with task.no_switch():
        for call in (items.get, items.take().__enter__):
            with pytest.raises(RuntimeError, match="no_switch"):
                call()
        items.put(item)
    failed: list[str] = []

    def work() -> None:
        for call in (items.get, items.take().__enter__, lambda: items.put(item), lambda: items.drop(item), items.close):
            try:
                call()
            except RuntimeError as exc:
                failed.append(str(exc).partition(",")[0])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    names = ("get", "get", "put", "drop", "close")
    assert failed == [f"pool.{name}: called from another thread" for name in names]
    assert counts(items) == (1, 1, 0)


def test_memory_is_flat() -> None:
    items = pool.new(lambda: (Item(1), None), close=lambda item: None, max_open=1)

    def run() -> None:
        with items.take() as item:
            waiting = task.fork(items.get)
            time.sleep(0)
            items.drop(item)
        (item, _err), _ = waiting.join()
        items.put(item)

    leaks_nothing(run)
