"""The scenarios of ``silly.sync``, and of groups, maps and selects of tasks; see ``blow_scenarios``."""

from __future__ import annotations

from typing import Any

import pytest

from silly import errno, task, testing, time
from silly._core import scheduler
from silly.sync import channel, event, mutex, pool, semaphore, singleflight, waitgroup

from .blow_scenarios import check, must, scenario
from .blows import WITHIN, Blows, Cancelled, Job, again
from .helpers import turn


def _all(*jobs: Job) -> list[Any]:
    return [job.result() for job in jobs]


@scenario
def bounded_channels(blows: Blows) -> None:
    """Three tasks push, two pop: each item comes once, and those of one task in its order."""
    chan: Any = channel.new(2)
    got: list[tuple[int, int]] = []

    def give(name: int) -> None:
        for number in range(6):
            check(again(chan.push, (name, number)))

    def take() -> None:
        while (item := again(chan.pop, WITHIN)[0]) is not None:
            got.append(item)
            again(time.sleep, 0)

    takers = [Job(take) for _ in range(2)]
    _all(*[Job(lambda name=name: give(name)) for name in range(3)])
    chan.close()
    _all(*takers)
    check(sorted(got) == [(name, number) for name in range(3) for number in range(6)], got)
    for name in range(3):
        check([number for each, number in got if each == name] == [*range(6)], got)


class _Inside:
    """How many tasks are inside, of the ``most`` that may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = 0
        self.entered = 0

    def __enter__(self) -> None:
        self.now += 1
        self.entered += 1
        check(self.now <= self.most, "too many hold it")

    def __exit__(self, *exc: object) -> None:
        self.now -= 1


@scenario
def mutexes(blows: Blows) -> None:
    locks = mutex.new()
    inside = _Inside(1)

    def work() -> None:
        for _ in range(3):
            with again(locks.lock, "key"), again(locks.lock, "key"), inside:
                again(time.sleep, 0)

    _all(*[Job(work) for _ in range(3)])
    check(inside.entered == 9 and not locks._keys)


@scenario
def semaphores(blows: Blows) -> None:
    few = semaphore.new(2)
    inside = _Inside(2)

    def work() -> None:
        for _ in range(2):
            must(again(few.acquire, WITHIN))
            with inside:
                again(time.sleep, 0)
            few.release()
            again(few.__enter__)
            with inside:
                again(time.sleep, 0)
            few.__exit__(None, None, None)

    _all(*[Job(work) for _ in range(4)])
    check(inside.entered == 16 and few._free == 2)


@scenario
def events(blows: Blows) -> None:
    ready = event.new()

    def work() -> None:
        check(again(ready.wait, WITHIN) == (True, None))

    jobs = [Job(work) for _ in range(3)]
    time.sleep(0)
    ready.set()
    _all(*jobs)


@scenario
def waitgroups(blows: Blows) -> None:
    group = waitgroup.new()
    ended: list[int] = []

    def one(number: int) -> None:
        again(time.sleep, number % 2)
        ended.append(number)

    def work() -> None:
        check(again(group.wait, WITHIN) == (True, None))
        check(len(ended) == 4)

    for number in range(4):
        group.fork(one, number)
    _all(*[Job(work) for _ in range(2)])
    check(not group.count and not group.errors)


@scenario
def singleflights(blows: Blows) -> None:
    calls: list[str] = []

    def find(key: str) -> str:
        calls.append(key)
        again(time.sleep, 2)
        return key.upper()

    flights = singleflight.new(find)
    check(_all(*[Job(lambda: again(flights.call, "key")) for _ in range(3)]) == ["KEY"] * 3)
    check(not flights._flights and len(calls) <= 1 + blows.count)


@scenario
def pools(blows: Blows) -> None:
    """Items that fail their check, with a close that waits, so that each way is struck."""
    made: list[Any] = []
    closed: list[Any] = []
    inside = _Inside(2)

    def create() -> Any:
        time.sleep(0)
        made.append(object())
        return made[-1], None

    def sound(item: Any) -> bool:
        time.sleep(0)
        return made.index(item) % 2 == 0

    def close(item: Any) -> None:
        again(time.sleep, 0)
        closed.append(item)

    items = pool.new(create, max_open=2, check=sound, close=close)

    def work() -> None:
        for _ in range(4):
            item = must(again(items.get, WITHIN))
            check(item not in closed)
            with inside:
                again(time.sleep, 0)
            items.put(item)

    _all(*[Job(work) for _ in range(4)])
    items.close()
    while len(closed) < len(made):
        time.sleep(0)
    check(sorted(map(id, made)) == sorted(map(id, closed)), len(made), len(closed))
    check(inside.entered == 16 and not items._open, items._open)


@scenario
def groups(blows: Blows) -> None:
    """A blow to the owner cancels the children, waits for them and goes on."""

    def child(number: int) -> int:
        try:
            time.sleep(number % 3)
        finally:
            ended.append(number)
        return number

    def work() -> str:
        try:
            with task.group(limit=2) as group:
                children.extend(group.fork(child, number) for number in range(5))
        except Cancelled:
            check(all(each.done for each in children))
            return "struck"
        check(all(each.done for each in children))
        return "ended"

    for _ in range(2):
        ended: list[int] = []
        children: list[Any] = []
        how = Job(work).result()
        check(how == "ended" or blows.count)
        check(blows.count or sorted(ended) == [*range(5)])


@scenario
def maps(blows: Blows) -> None:
    """What comes is in order, and nothing goes on after the loop."""
    running = _Inside(2)

    def double(number: int) -> int:
        with running:
            again(time.sleep, number % 3)
        return 2 * number

    def work(ordered: bool) -> None:
        got: list[int] = []
        try:
            with task.map(double, range(7), 2, ordered) as results:
                for value in results:
                    got.append(value)
                    time.sleep(0)
        except Cancelled:
            check(blows.count)
            check(not ordered or got == [0, 2, 4, 6, 8, 10, 12][: len(got)])
        else:
            check(sorted(got) == [0, 2, 4, 6, 8, 10, 12], got)

    for ordered in (True, False):
        Job(lambda ordered=ordered: work(ordered)).result()
        check(not running.now, "a task goes on")


@scenario
def selects(blows: Blows) -> None:
    """What ``task.select`` names can be taken without a wait, and it has taken nothing."""
    one: Any = channel.new()
    two: Any = channel.new()

    def work() -> list[int]:
        got: list[int] = []
        left = [one, two]
        while left:
            which, err = again(task.select, *left, timeout=WITHIN)
            check(err is None, err)
            item, _ = which.pop()
            if item is None:
                left.remove(which)
            else:
                got.append(item)
            again(time.sleep, 0)
        check(again(task.select, channel.new(), timeout=1)[0] is None)
        return got

    job = Job(work)
    for number in range(1, 6):
        turn(3)  # so that it waits
        (one if number % 2 else two).push(number)
    one.close()
    two.close()
    check(sorted(job.result()) == [*range(1, 6)])


@scenario
def threads(blows: Blows) -> None:
    """A cancelled caller leaves; the pool's threads serve the next one."""

    def work() -> None:
        for number in range(4):
            check(again(task.thread, divmod, 7 * number, 7) == ((number, 0), None))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scheduler, "exiting", True)
            check(again(task.thread, int) == (None, errno.CLOSED))

    Job(work).result()
    for job in [Job(lambda: again(task.thread, int)) for _ in range(2)]:
        check(job.result() == (0, None))


@scenario
def shuffled_blocks(blows: Blows) -> None:
    """A task that is struck where a block begins leaves the order as it was."""

    def block() -> None:
        with testing.shuffled(1):
            pass

    Job(lambda: again(block)).result()
    check(scheduler.SLICE == 256)
