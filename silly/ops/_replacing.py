"""Replacing the workers of a master: for SIGHUP, for their age, for their memory.

One slot at a time: its successor is started, and once that is ready the old worker
drains. A successor that doesn't come up leaves the old one where it is. What SIGHUP
wanted ends there too: the next would hardly do better.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .._core.loop import monotonic
from .._log import task as logger
from ._crew import REST, Life, Member, Slot
from .options import Options

COMES_UP = 60.0
"""Seconds that a successor may take until it is ready."""
LOOK = 1.0
"""Seconds between two looks at the memory of the workers."""
JITTER = 0.2
"""A worker is replaced between 0.8 and 1 times its greatest age."""

_SIGHUP = "SIGHUP"


class Replacements:
    """See the module's header. ``start(slot)`` starts a worker, and ``drain(member)``
    lets one drain."""

    def __init__(
        self,
        options: Options,
        slots: list[Slot],
        start: Callable[[Slot], Member | None],
        drain: Callable[[Member], object],
    ) -> None:
        self._max_rss = options.max_rss
        self._max_age = options.max_age / 1000
        self._slots = slots
        self._start = start
        self._drain = drain
        self._wanted: dict[Slot, str] = {}
        """The slots whose workers are to be replaced, in this order, and why."""
        self._present: Slot | None = None
        """The slot whose new worker starts."""
        self._look_at = monotonic() + LOOK

    @property
    def reloads(self) -> bool:
        """Whether workers are still to be replaced for SIGHUP."""
        return _SIGHUP in self._wanted.values()

    @property
    def under_way(self) -> bool:
        """Whether a new worker is awaited."""
        return self._present is not None

    def want_all(self) -> None:
        """SIGHUP has come."""
        if self._present is not None:
            logger.info("SIGHUP: all workers are replaced, once more")
        # Also the one whose successor starts just now: what it loads may be old.
        self._wanted = dict.fromkeys(self._slots, _SIGHUP)

    def ready(self, slot: Slot, member: Member) -> None:
        """A worker is ready; if it is a successor, the old one drains."""
        if self._max_age:
            member.old_at = monotonic() + self._max_age * random.uniform(1 - JITTER, 1)
        if self._max_rss and (rss := member.rss()) > self._max_rss:
            member.large = True
            limit = f"more than --max-rss {size(self._max_rss)}"
            logger.warn(f"{member} takes {size(rss)} from the start, {limit}: it isn't replaced for its memory")
        if slot.successor is member:
            old, slot.worker, slot.successor = slot.worker, member, None
            if old is not None:
                logger.info(f"{old} is told to drain and end")
                self._drain(old)
        self.over(slot)

    def over(self, slot: Slot) -> None:
        """The worker that started in ``slot`` is ready, or has ended."""
        if self._present is slot:
            self._present = None

    def failed(self, slot: Slot, why: str) -> None:
        """A successor has not come up."""
        slot.successor = None
        slot.not_before = monotonic() + REST
        self.over(slot)
        others = [each for each, reason in self._wanted.items() if reason == _SIGHUP]
        for each in others:
            del self._wanted[each]
        logger.error(f"{why} before it was ready: {slot.worker} stays{', and so do the others' if others else ''}")

    def due(self) -> list[float]:
        """Returns when ``act`` has something to do."""
        due = [
            max(slot.worker.old_at, slot.not_before)
            for slot in self._slots
            if slot.worker is not None and slot.worker.old_at is not None and self._counts(slot)
        ]
        if (starting := self._starting()) is not None:
            due.append(starting.started + COMES_UP)
        if self._max_rss:
            due.append(self._look_at)
        return due

    def act(self, now: float) -> None:
        """Does what is due: looks for workers that are too old or too large, and goes
        on with the replacements."""
        self._look(now)
        self._bound(now)
        while self._present is None and self._wanted:
            slot = next(iter(self._wanted))
            self._begin(slot, self._wanted.pop(slot), now)

    def _counts(self, slot: Slot) -> bool:
        """Whether the age or memory of its worker may be a reason to replace it."""
        return slot.serves and slot not in self._wanted and slot is not self._present

    def _look(self, now: float) -> None:
        looks = self._max_rss and now >= self._look_at
        if looks:
            self._look_at = now + LOOK
        for slot in self._slots:
            worker = slot.worker
            if worker is None or not self._counts(slot) or now < slot.not_before:
                continue
            if worker.old_at is not None and now >= worker.old_at:
                self._wanted[slot] = f"is {now - worker.started:.0f} s old"
            elif looks and not worker.large and (rss := worker.rss()) > self._max_rss:
                self._wanted[slot] = f"takes {size(rss)}, more than --max-rss {size(self._max_rss)}"

    def _starting(self) -> Member | None:
        """Returns the worker whose start is awaited."""
        return None if self._present is None else self._present.successor or self._present.worker

    def _bound(self, now: float) -> None:
        """Gives up a start that takes too long."""
        slot, starting = self._present, self._starting()
        if slot is None or starting is None or now < starting.started + COMES_UP:
            return
        if starting is slot.successor:
            starting.kill()
            self.failed(slot, f"{starting} took more than {COMES_UP:g} s, and is killed,")
        else:
            self.over(slot)  # the slot had no worker, and the others needn't wait for it

    def _begin(self, slot: Slot, why: str, now: float) -> None:
        worker = slot.worker
        if worker is None:
            slot.fresh()
        else:
            logger.info(f"{worker} is replaced: SIGHUP" if why == _SIGHUP else f"{worker} {why}, and is replaced")
            if worker.life is Life.STARTING:
                self._drain(worker)  # what it loads may be old, and nobody is served by it yet
                slot.worker = None
        if self._start(slot) is not None:
            self._present = slot
        else:
            slot.not_before = now + REST


def size(size: int) -> str:
    """Returns a number of bytes as text."""
    return f"{size / 2**20:.0f} MiB"
