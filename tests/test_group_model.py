"""``task.group`` beside a model: random trees of groups, whose tasks and blocks fail, cancel each other, swallow blows, fork
more, and are struck by cancels and deadlines from outside.

The model keeps, for each group, what was forked, what runs, and which exceptions have left a task or the block. The group
must agree: nothing starts out of order, above the limit or after the failure, nothing goes on after the block, and each
exception comes out once: raised, or, where an end goes on instead, handed to the group outside or logged.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import task, time
from silly._core import scheduler
from silly._core.tasks import GroupBlow

from .conftest import Logs


class Boom(Exception):
    """Each one has a number of its own."""


def booms(exc: BaseException) -> Iterator[Boom]:
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from booms(each)
    elif isinstance(exc, Boom):
        yield exc
    else:
        assert isinstance(exc, TimeoutError), exc


class World:
    """One random run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.count = 0
        self.groups: dict[Any, Record] = {}
        self.logged: set[str] = set()
        self.victims: list[Any] = []
        self.cancelled: set[Any] = set()
        """The roots that must end by a cancel."""

    def boom(self) -> Boom:
        self.count += 1
        return Boom(f"<{self.count}>")

    def chance(self, odds: float) -> bool:
        return self.rng.random() < odds

    def wait(self) -> None:
        time.sleep(self.rng.choice([0, 0, 0, 1, 2]))

    def owner(self) -> None:
        """The root of a tree."""
        try:
            self.block(3)
        except (BaseExceptionGroup, TimeoutError):
            pass
        while task.running()._blow is not None:
            time.sleep(0)  # a blow that has not struck in the groups strikes here

    def block(self, depth: int) -> None:
        """A group, and all that happens in its block."""
        record = Record(self, self.rng.choice([None, None, 1, 2, 3]))
        outcome: BaseException | None = None
        try:
            with task.group(record.limit) as record.group:
                self.groups[record.group] = record
                try:
                    self.act(record, depth)
                except BaseException as exc:
                    if not isinstance(exc, (GreenletExit, TimeoutError)):
                        record.failed_with(exc)
                    raise
        except BaseException as exc:
            outcome = exc
        record.check(outcome)
        if outcome is not None and (not isinstance(outcome, Exception) or self.chance(0.5)):
            raise outcome

    def act(self, record: Record, depth: int) -> None:
        """Some random steps, of a block or of a task in its group."""
        rng = self.rng
        for _ in range(rng.randint(0, 5)):
            step = rng.random()
            if step < 0.35:
                record.fork(depth)
            elif step < 0.6:
                self.wait()
            elif step < 0.66:
                raise self.boom()
            elif step < 0.74 and record.members:
                rng.choice(record.members).task.cancel()
            elif step < 0.86 and depth:
                self.block(depth - 1)
            elif step < 0.92 and depth:
                with time.deadline(rng.choice([1, 2, 5])):
                    try:
                        self.block(depth - 1)
                    except TimeoutError:
                        pass
            elif step < 0.96:
                with task.shield():
                    self.wait()
            else:
                try:
                    self.wait()
                    self.wait()
                except task.Cancelled as exc:
                    if self.chance(0.7):
                        raise
                    if not isinstance(exc, GroupBlow):
                        self.cancelled.discard(task.running())

    def strike(self) -> None:
        """Cancels roots from outside, at random times."""
        for _ in range(self.rng.randint(0, 4)):
            self.wait()
            victim = self.rng.choice(self.victims)
            if victim.cancel():
                self.cancelled.add(victim)


class Member:
    """A task of a group."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.task: Any = None
        self.raised: BaseException | None = None


class Record:
    """What the model knows of a group."""

    def __init__(self, world: World, limit: int | None) -> None:
        self.world = world
        self.limit = limit
        self.group: Any = None
        self.members: list[Member] = []
        self.running = 0
        self.last = -1
        """The member that has started last."""
        self.failed = self.over = False
        self.errors: set[Boom] = set()

    def fork(self, depth: int) -> None:
        member = Member(len(self.members))
        self.members.append(member)
        late = self.failed
        member.task = self.group.fork(self.run, member, depth)
        if late:
            assert member.task._func in (scheduler.dropped, None)

    def run(self, member: Member, depth: int) -> int:
        assert not self.failed, "it has started after the failure"
        assert not self.over
        assert member.index > self.last, "out of order"
        self.last = member.index
        self.running += 1
        assert self.limit is None or self.running <= self.limit
        try:
            try:
                self.world.act(self, depth)
            except task.Cancelled:
                if self.world.chance(0.2):
                    raise self.world.boom()
                if self.world.chance(0.3):
                    self.world.wait()
                if self.world.chance(0.9):
                    raise
            return member.index
        except BaseException as exc:
            assert not self.over, "it outlives the group"
            if not isinstance(exc, (GreenletExit, TimeoutError)):
                member.raised = exc
                self.failed_with(exc)
            raise
        finally:
            self.running -= 1

    def failed_with(self, exc: BaseException) -> None:
        self.failed = True
        self.errors |= set(booms(exc))

    def check(self, outcome: BaseException | None) -> None:
        """The group has ended with ``outcome``."""
        self.over = True
        assert self.running == 0
        assert not self.group._left
        with pytest.raises(RuntimeError, match="the group has ended"):
            self.group.fork(print)
        for member in self.members:
            assert member.task.done
            if member.raised is not None:
                assert member.task._failure.exc is member.raised
            else:
                assert member.task._outcome() in ((None, "cancelled"), (member.index, None))
        if outcome is None:
            assert not self.failed
        elif isinstance(outcome, BaseExceptionGroup):
            assert set(booms(outcome)) == self.errors
            assert self.errors
            found = list(booms(outcome))
            assert len(found) == len(set(found)), "an exception came twice"
        elif isinstance(outcome, TimeoutError):
            assert not self.failed
        elif isinstance(outcome, GroupBlow):
            outer = self.world.groups[outcome.group]
            assert outer is not self, "the group's own blow has come out"
            assert outer.failed
            outer.errors |= self.errors
        else:
            assert isinstance(outcome, task.Cancelled)
            self.world.logged |= {str(exc) for exc in self.errors}


@pytest.mark.parametrize("batch", range(10))
def test_random_trees(batch: int, logs: Logs) -> None:
    logs.allow(r"exception in task.group at .*, which was ended meanwhile:")
    ends = {"returned": 0, "cancelled": 0}
    for seed in range(batch * 100, batch * 100 + 100):
        world = World(seed)
        first = len(logs.lines)
        world.victims = [task.fork(world.owner) for _ in range(world.rng.randint(1, 3))]
        striker = task.fork(world.strike)
        with time.deadline(10_000):
            for t in (striker, *world.victims):
                got = t.join()
                assert got in ((None, None), (None, "cancelled")), (seed, got)
                assert (got[1] == "cancelled") == (t in world.cancelled), (seed, "a blow was lost or doubled")
                ends["cancelled" if got[1] else "returned"] += 1
        said = {name for line in logs.lines[first:] for name in re.findall(r"Boom: (<\d+>)", line)}
        assert said == world.logged, seed
    assert min(ends.values()) > 5, "the odds are wrong"
