"""Locks by key. While a task holds the lock of a key, other tasks that lock the same
key wait; locks of different keys have nothing to do with each other.

    m = mutex.new()
    stock = {"apples": 3}

    def sell(fruit):
        with m.lock(fruit):
            left = stock[fruit]
            time.sleep(10)                  # other tasks run here
            stock[fruit] = left - 1

    other = task.fork(sell, "apples")
    sell("apples")
    other.join()
    print(stock)                            # -> {'apples': 1}

Between two calls that may wait no other task runs, so plain data needs no lock. One is
needed where a task waits in the middle, as above.

The lock is *re-entrant*: the task that holds a key may lock it again, and then has to
unlock it as often. Tasks get it in the order in which they came. A task that is
interrupted while it waits (by a deadline, by ``cancel``, by the end of the process)
never keeps the lock, even if it was its turn already: the next one gets it.
"""

from __future__ import annotations

from typing import Any

from .._core import scheduler
from .._core.tasks import Task
from .._core.waiting import Waiters
from .._shown import shown
from ._keys import key_of

__all__ = ["Lock", "Mutex", "new"]

_loop = scheduler.loop
_AGAIN = object()
"""The wake-up value of a task that looks again. All others have got the lock."""


class _HeldKey:
    """A key that is held, and the tasks that wait for it."""

    __slots__ = ("_waiters", "depth", "keys", "name", "owner", "shows")

    def __init__(self, keys: dict[Any, _HeldKey], name: Any, shows: Any, owner: Task) -> None:
        self.keys = keys
        self.name = name
        """What stands for the key in ``keys``."""
        self.shows = shows
        """The key."""
        self.owner: Task | None = owner
        """The task that holds it. None if nobody does, and then it is not in ``keys``.
        """
        self.depth = 1
        """How many times the owner has to unlock it."""
        self._waiters: Waiters[Any] | None = None

    def __str__(self) -> str:
        """Returns what a task that waits for it waits on."""
        text = f"mutex.lock({shown(self.shows, 50)})"
        if self.owner is None:
            return text
        return f"{text}, which {'a task that has finished' if self.owner.done else self.owner.name()} holds"

    def wait(self) -> bool:
        """Waits until the current task holds it, and returns True. Returns False if it
        may be free, and the caller has to look again."""
        if self._waiters is None:
            self._waiters = Waiters()
        return self._waiters.wait(self, self._give_back, self._missed) is not _AGAIN

    def _missed(self) -> None:
        """Wakes the task if a signal handler has unlocked the key since it looked."""
        assert self._waiters is not None
        if self.owner is None:
            self._waiters.wake_one(_AGAIN)

    def _give_back(self, value: object) -> None:
        """The task that had got it was interrupted before it ran."""
        if value is not _AGAIN:
            self._pass_on()

    def unlock(self) -> None:
        self.depth -= 1
        if not self.depth:
            self._pass_on()

    def _pass_on(self) -> None:
        """Gives it to the task that has waited longest, or frees it."""
        waiters = self._waiters
        self.owner = waiters.first if waiters is not None else None
        if waiters is None or self.owner is None:
            del self.keys[self.name]
        else:
            self.depth = 1
            waiters.wake_one()


class Lock:
    """A lock that a task has got from ``Mutex.lock``. It is a context manager, whose
    end unlocks. A lock that is dropped without ``unlock`` stays locked."""

    __slots__ = ("__weakref__", "_held")

    def __init__(self, held: _HeldKey) -> None:
        self._held: _HeldKey | None = held

    def unlock(self) -> None:
        """Unlocks the key, or undoes one of several ``lock`` of the same task. The task
        that has waited longest gets the key. Never waits.

            lock = m.lock("stock")
            lock.unlock()

        Any task may call it. A second call does nothing, so it may stand in a ``with``
        block, to unlock early.
        """
        scheduler.check_thread(closes=True)
        held, self._held = self._held, None
        if held is not None:
            held.unlock()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.unlock()


class Mutex:
    """Locks by key; see the module. A key that nobody holds takes no memory."""

    __slots__ = ("__weakref__", "_keys")

    def __init__(self) -> None:
        self._keys: dict[Any, _HeldKey] = {}

    def lock(self, key: Any) -> Lock:
        """Locks ``key``, and waits while another task holds it. Returns the lock.

            with m.lock("stock"):
                time.sleep(10)

        ``key`` is any value that can be hashed. A dict stands for itself, not for its
        contents. The task that holds ``key`` already need not wait.

        Raises TimeoutError when a ``time.deadline`` runs out, TypeError for any other
        key that can't be hashed, and RuntimeError where no task runs. When the 3 s of
        the process's end are over and it would have to wait, it ends the task
        (GreenletExit).
        """
        if _loop.no_switch:
            scheduler.refuse("mutex.lock")
        me = scheduler.current()
        name = key_of(key)
        while True:
            held = self._keys.get(name)
            if held is None:
                mine = _HeldKey(self._keys, name, key, me)
                held = self._keys.setdefault(name, mine)
                if held is not mine:
                    continue  # a finalizer has waited here, and another task came
            elif held.owner is me:
                held.depth += 1
            elif not held.wait():
                continue
            return Lock(held)


def new() -> Mutex:
    """Returns a new mutex.

        m = mutex.new()

    No key is locked in it.
    """
    return Mutex()
