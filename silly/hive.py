"""Workers in threads of their own, for what blocks and keeps state: a connection of
SQLite, a shell, the standard input.

    def make(init):
        def add(a, b):
            return a + b + init

        return add

    worker = hive.spawn(make, 10)
    hive.invoke(worker, 5, 3)           # -> 18

``make`` and the function that it returns always run in the same thread, so objects that
belong to one thread work. A worker does one call at a time, in the order in which they
came. For calls that keep no state use ``task.thread``.

A worker shares the memory of the program: arguments and results are the objects
themselves, no copies. Functions that only compute in Python gain nothing, since Python
runs one thread at a time.

Each worker has a thread of its own, as long as there are at most ``limit``'s maximum.
More workers than that share threads, so one's long call holds up another. A thread ends
10 s after the last of its workers was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ._core import scheduler
from ._core import threads as _threads
from ._core.scheduler import loop as _loop
from ._core.worker import NoThread as _NoThread
from ._core.worker import Workers as _Workers
from ._shown import name_of as _name_of

__all__ = ["Worker", "invoke", "limit", "prune", "spawn", "threads"]

T = TypeVar("T")


class _Thread:
    """A thread, and how many workers it has."""

    __slots__ = ("pool", "workers")

    def __init__(self) -> None:
        self.pool = _Workers("silly-hive", 1, "silly.hive", lasting=True)
        self.workers = 0


_all: list[_Thread] = []
_least = 0
_most = 64


class Worker(Generic[T]):
    """What ``spawn`` returns, for ``invoke``. When it is forgotten, its function is
    too, in its thread."""

    __slots__ = ("__weakref__", "_cell", "_thread")

    def __init__(self, thread: _Thread) -> None:
        self._thread = thread
        self._cell: list[Callable[..., T]] = []
        """The function, once it is made. No other object holds it."""
        thread.workers += 1

    def __del__(self) -> None:
        # Not here: this may run in the middle of any code, and in any thread.
        _loop.post(_forget, self._thread, self._cell)


def spawn(make: Callable[..., Callable[..., T]], /, *args: Any, **kwargs: Any) -> Worker[T]:
    """Makes a worker: calls ``make(*args, **kwargs)`` in the worker's thread, which
    must return the function that ``invoke`` calls. Waits until it has.

        import sqlite3

        def make():
            db = sqlite3.connect(":memory:")
            return lambda query: db.execute(query).fetchall()

        worker = hive.spawn(make)
        hive.invoke(worker, "SELECT 6 * 7") # -> [(42,)]

    Raises what ``make`` raises, TypeError if it returns no function, TimeoutError when
    a ``time.deadline`` runs out, and RuntimeError where no task runs or if the system
    refuses to start a thread. (Where Lua gives ``spawn`` a text that returns a
    function, ``make`` is a function that does.)
    """
    if not callable(make):
        raise TypeError(f"hive.spawn needs a function that returns the worker's function, not {type(make).__name__}")
    worker: Worker[T] = Worker(_choose())
    _threads.result(_threads.run(worker._thread.pool, "hive.spawn", _make, (worker._cell, make, args, kwargs), {}, make))
    return worker


def _make(cell: list[Any], make: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    func = make(*args, **kwargs)
    if not callable(func):
        raise TypeError(f"hive.spawn: {_name_of(make)} must return the worker's function, not {type(func).__name__}")
    cell.append(func)


def invoke(worker: Worker[T], /, *args: Any, **kwargs: Any) -> T:
    """Calls the worker's function with the arguments that follow, in its thread, and
    returns the result. Only the calling task waits.

        worker = hive.spawn(lambda: divmod)
        quotient, rest = hive.invoke(worker, 17, 5)     # -> (3, 2)

    What the function raises is raised here. The worker's calls come one after the
    other. Raises TimeoutError when a ``time.deadline`` runs out. Then, as after a
    ``Task.cancel``, a call that has not begun is dropped; one that has goes on, its
    result is dropped, and the worker's next call begins after it.

    Raises TypeError for anything but a worker, and RuntimeError where no task runs.
    """
    if _loop.no_switch:
        scheduler.refuse("hive.invoke")
    if not isinstance(worker, Worker):
        raise TypeError(f"hive.invoke needs a worker of hive.spawn, not {type(worker).__name__}")
    pool, cell = worker._thread.pool, worker._cell
    return _threads.result(_threads.run(pool, "hive.invoke", _call, (cell, args, kwargs), {}, cell[0]))  # type: ignore[no-any-return]


def _call(cell: list[Callable[..., T]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    return cell[0](*args, **kwargs)


def limit(min: int, max: int) -> None:
    """Sets how many threads there may be, and how many of those without a worker are
    kept. At first that is 64 and 0.

        hive.limit(2, 8)

    If there are more than ``max`` already, those stay as long as they have workers.

    Raises ValueError unless 0 <= ``min`` <= ``max`` and 1 <= ``max`` <= 1,024, and
    TypeError for anything but ints.
    """
    global _least, _most
    for each in (min, max):
        if isinstance(each, bool) or not isinstance(each, int):
            raise TypeError(f"hive.limit needs ints, not {type(each).__name__}")
    if not 0 <= min <= max or not 1 <= max <= _threads.MOST:
        raise ValueError(f"hive.limit: 0 <= min <= max and 1 <= max <= {_threads.MOST}, not {min} and {max}")
    _least, _most = min, max


def threads() -> int:
    """Returns how many threads there are. Those of ``task.thread`` aren't counted.

        print("threads:", hive.threads())

    At first it is 0.
    """
    return sum(thread.pool.threads() for thread in _all)


def prune() -> None:
    """Ends the threads that have no worker now, except for ``limit``'s minimum.

        hive.prune()

    You need not call it: they end after 10 s.
    """
    _sweep()
    for thread in [thread for thread in _all if not thread.workers][: max(0, len(_all) - _least)]:
        _all.remove(thread)
        thread.pool.resize(0)


def _sweep() -> None:
    """Forgets the threads that have ended."""
    _all[:] = [thread for thread in _all if thread.workers or thread.pool.threads()]


def _choose() -> _Thread:
    """Returns the thread for a new worker: one that has none, else a new one, else the
    one that has the least to do."""
    _sweep()
    for thread in _all:
        if not thread.workers:
            thread.pool.keep(True)
            return thread
    if len(_all) < _most:
        _all.append(thread := _Thread())
        return thread
    return min(_all, key=lambda thread: (thread.pool.under_way(), thread.workers))


def _forget(thread: _Thread, cell: list[Any]) -> None:
    """A worker is gone. Runs in the loop's thread."""

    def forgotten(result: None, exc: BaseException | None) -> None:
        thread.workers -= 1
        if not thread.workers and threads() > _least:
            thread.pool.keep(False)

    try:
        # Even if the cell is empty: ``make`` may still run.
        thread.pool.submit(_loop, cell.clear, (), forgotten).let_go()
    except _NoThread:
        forgotten(None, None)  # the thread was never there, nor was the function
