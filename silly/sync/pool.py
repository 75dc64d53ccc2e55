"""A pool of anything that is expensive to make and serves one task at a time:
connections to a database, sessions, parsers.

    def connect():
        return tcp.connect("127.0.0.1:8080")

    conns = pool.new(connect, close=tcp.Conn.close, max_open=4, idle_time=60_000)
    with conns.take() as conn:
        conn.write("hello")
        conn.read(5)                    # -> (b"hello", None)

A task that needs an item gets the idle one that was used last; else it makes one; else,
with ``max_open`` open already, it waits its turn, first come, first served.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any, Generic, TypeVar

from .. import errno
from .._core import scheduler
from .._core.callers import check_timeout
from .._core.deadline import Timeout
from .._core.loop import monotonic
from .._core.result import Error
from .._core.timers import FOREVER, Timer
from .._core.waiting import DeadlineOver, Leaving, Waiters
from .._ends import ENDS
from .._log import task as logger
from .._shown import name_of, shown
from .._wire.numbers import check_int, check_ms
from ._pooled import Closing, Pooled

__all__ = ["Pool", "Take", "new"]

_GET = "pool.get"
_IS_CLOSED = f"{_GET}: the pool is closed"
_CLOSED: Any = object()

_T = TypeVar("_T")
_P = TypeVar("_P", bound="Pool[Any]")

_loop = scheduler.loop


class Pool(Generic[_T]):
    """See the module, and ``new``. Its ``with`` block closes it at the end."""

    __slots__ = (
        "__weakref__",
        "_check",
        "_close",
        "_closed",
        "_create",
        "_entries",
        "_idle",
        "_idle_time",
        "_lifetime",
        "_max_idle",
        "_max_open",
        "_open",
        "_timer",
        "_waiters",
    )

    def __init__(
        self,
        create: Callable[[], tuple[_T, None] | tuple[None, Any]],
        close: Callable[[_T], object] | None,
        check: Callable[[_T], object] | None,
        max_open: float,
        max_idle: float,
        lifetime: float,
        idle_time: float,
    ) -> None:
        """Times are in seconds here; FOREVER stands for "no bound"."""
        self._create = create
        self._close = close
        self._check = check
        self._max_open = max_open
        self._max_idle = max_idle
        self._lifetime = lifetime
        self._idle_time = idle_time
        self._entries: dict[int, Pooled[_T]] = {}
        """Every item that is open, by its ``id``."""
        self._idle: list[Pooled[_T]] = []
        """The items that nobody uses, the one that was used last at the end. While
        there is one, no task waits."""
        self._open = 0
        """How many places are taken: by items, and by those being made or closed."""
        self._waiters: Waiters[Pooled[_T] | None] = Waiters()
        """The tasks that wait. One is woken with an item, with None for a place in
        which it may make one, or with ``_CLOSED``."""
        self._timer: Timer | None = None
        self._closed = False

    @property
    def open(self) -> int:
        """How many items are open, those being made or closed included."""
        return self._open

    @property
    def idle(self) -> int:
        """How many items nobody uses."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many tasks wait for an item."""
        return len(self._waiters)

    # ---- taking ----------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> tuple[_T, None] | tuple[None, Any]:
        """Takes an item, and returns ``(item, None)``. The task must give it back by
        ``put`` or ``drop``; ``with pool.take()`` does that by itself.

            conns = pool.new(lambda: tcp.connect("127.0.0.1:8080"))
            conn, err = conns.get(1000)
            if conn is not None:
                conns.put(conn)

        It waits for at most ``timeout`` milliseconds in all: for its turn, and in
        ``check`` and ``create``, which run in this task. What those raise is raised
        here.

        The errors: that of ``create``; ``"pool.get: the time-out of 100 ms ran out"``,
        or the same of a ``time.deadline``; ``"pool.get: the pool is closed"``;
        ``errno.CLOSED`` when nothing waits any more at the process's end.
        """
        try:
            entry, err = self._obtain(timeout)
        except Leaving:
            return None, errno.CLOSED
        except DeadlineOver as over:
            return None, str(over)
        return (None, err) if entry is None else (entry.item, None)

    def take(self, timeout: float | None = None) -> Take[_T]:
        """Takes an item for a ``with`` block.

            conns = pool.new(lambda: tcp.connect("127.0.0.1:8080"))
            with conns.take(1000) as conn:
                conn.write("hello")

        The block puts the item back at its end. If an exception or a cancel leaves the
        block, it drops the item, since nobody knows in what state that is. A block that
        has called ``put`` or ``drop`` itself leaves the rest as it is.

        Entering waits as ``get`` does. It raises TimeoutError when the time runs out,
        and ``silly.Error`` for the other errors.
        """
        return Take(self, timeout)

    def _obtain(self, timeout: float | None) -> tuple[Pooled[_T], None] | tuple[None, Any]:
        """``get``; raises Leaving, and DeadlineOver of this task's deadlines."""
        if get_ident() != _loop.thread:
            raise RuntimeError(scheduler.not_here("", _GET))
        if _loop.no_switch:
            scheduler.refuse(_GET)
        if timeout is None:
            return self._next()
        check_timeout(_GET, timeout)
        with Timeout(timeout):
            return self._next()

    def _next(self) -> tuple[Pooled[_T], None] | tuple[None, Any]:
        """Waits for an item or a place, and returns an item to use."""
        entry: Pooled[_T] | None = None
        if self._closed:
            return None, _IS_CLOSED
        if self._idle:
            entry = self._idle.pop()
        elif self._open < self._max_open:
            self._open += 1
        else:
            entry = self._waiters.wait(_GET, self._give_back, self._missed)
            if entry is _CLOSED:
                return None, _IS_CLOSED
        if entry is None:
            return self._make()
        if self._usable(entry):
            return self._hand_out(entry)
        closing = self._discard(entry)
        if closing is not None:
            closing.wait(_GET, self._give_back)  # its place is not free before
        return self._make()

    def _hand_out(self, entry: Pooled[_T]) -> tuple[Pooled[_T], None] | tuple[None, Any]:
        """Gives an item to this task, unless the pool was closed meanwhile."""
        if self._closed:
            self._drop(entry)
            return None, _IS_CLOSED
        entry.idle_since = FOREVER
        entry.taken = True
        entry.uses += 1
        return entry, None

    def _usable(self, entry: Pooled[_T]) -> bool:
        """Whether an item that has served before may serve again."""
        if self._due(entry) <= monotonic():
            return False
        if self._check is None:
            return True
        try:
            answer = self._check(entry.item)
        except BaseException as exc:
            if isinstance(exc, ENDS) or (isinstance(exc, DeadlineOver) and scheduler.expired()):
                self._drop(entry)
                raise
            logger.limited("pool", f"{name_of(self._check)} of a pool has raised, so the item is closed: {shown(exc)}")
            return False
        if isinstance(answer, tuple) and answer:  # a pair of a value and an error
            return answer[0] is not None and answer[0] is not False
        return bool(answer)

    def _make(self) -> tuple[Pooled[_T], None] | tuple[None, Any]:
        """Makes an item to use, in a place that this task has."""
        if self._closed:
            self._leave()
            return None, _IS_CLOSED
        try:
            made: Any = self._create()
            if not isinstance(made, tuple) or len(made) != 2:
                raise TypeError(
                    f"{_GET}: {name_of(self._create)} must return a pair, (item, None) or (None, error), not {shown(made)}"
                )
            item, err = made
            if item is not None and id(item) in self._entries:
                raise RuntimeError(f"{_GET}: {name_of(self._create)} returned an item that the pool has already")
        except BaseException:
            self._leave()
            raise
        if item is None:
            self._leave()
            return None, err
        entry = self._entries[id(item)] = Pooled(item)
        return self._hand_out(entry)

    def _missed(self) -> None:
        """Wakes ``get`` if a signal handler has done what it waits for since it
        looked."""
        if self._closed:
            self._waiters.wake_all(_CLOSED)
        elif self._waiters.first is None:
            return
        elif self._idle:
            self._waiters.wake_one(self._idle.pop())
        elif self._open < self._max_open:
            self._open += 1
            self._waiters.wake_one()

    # ---- giving back -----------------------------------------------------------------

    def put(self, item: _T) -> None:
        """Gives back an item that may serve again: to the task that has waited longest,
        if one waits. Never waits itself. Any task may call it.

            conns = pool.new(lambda: tcp.connect("127.0.0.1:8080"))
            conn, err = conns.get()
            conns.put(conn)
            conns.idle                  # -> 1

        Raises RuntimeError if ``item`` was not taken from this pool, or was given back
        already.
        """
        if get_ident() != _loop.thread:
            scheduler.check_thread(closes=True)
            return
        self._give_back(self._returned(item, "pool.put"))

    def drop(self, item: _T) -> None:
        """Gives back an item that must not serve again: it is closed. Never waits.

            conns = pool.new(lambda: tcp.connect("127.0.0.1:8080"))
            conn, err = conns.get()
            conns.drop(conn)

        Raises RuntimeError as ``put`` does.
        """
        if get_ident() != _loop.thread:
            scheduler.check_thread(closes=True)
            return
        self._drop(self._returned(item, "pool.drop"))

    def close(self) -> None:
        """Closes the pool and its idle items. Never waits. An item that is in use is
        closed when it is given back, and tasks that wait get an error.

            conns = pool.new(lambda: tcp.connect("127.0.0.1:8080"))
            conns.close()
            conns.get()             # -> (None, "pool.get: the pool is closed")
        """
        if get_ident() != _loop.thread:
            scheduler.check_thread(closes=True)
            return
        self._closed = True
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None
        while self._idle:
            self._drop(self._idle.pop())
        self._waiters.wake_all(_CLOSED)

    def __enter__(self) -> Pool[_T]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _returned(self, item: _T, call: str) -> Pooled[_T]:
        entry = self._entries.get(id(item))
        if entry is None or not entry.taken:
            raise RuntimeError(f"{call}: the item is not in use; give back what get returned, and once: {shown(item)}")
        entry.taken = False
        return entry

    def _give_back(self, entry: Pooled[_T] | None) -> None:
        """Takes back an item, or a place (None) of a task that was ended before it
        could make one."""
        if entry is None:
            self._leave()
        elif entry is _CLOSED:
            return
        elif self._closed or self._due(entry) <= monotonic():
            self._drop(entry)
        elif not self._waiters.wake_one(entry):
            if len(self._idle) >= self._max_idle:
                self._drop(entry)
            else:
                entry.idle_since = monotonic()
                self._idle.append(entry)
                self._arm(self._due(entry))

    def _drop(self, entry: Pooled[_T]) -> None:
        """Closes an item, and then gives its place on."""
        if self._discard(entry) is None:
            self._leave()

    def _discard(self, entry: Pooled[_T]) -> Closing | None:
        """Begins to close an item. Returns None if there is nothing to do: then the
        caller has the item's place."""
        del self._entries[id(entry.item)]
        if self._close is None:
            return None
        closing = Closing(self._leave)
        closing.begin(self._close, entry.item)
        return closing

    def _leave(self) -> None:
        """Gives a place on: to the task that has waited longest, if one waits."""
        if not self._waiters.wake_one():
            self._open -= 1

    # ---- time ------------------------------------------------------------------------

    def _due(self, entry: Pooled[_T]) -> float:
        """Returns when an item becomes too old, or has been idle for too long."""
        return min(entry.made + self._lifetime, entry.idle_since + self._idle_time)

    def _arm(self, when: float) -> None:
        """Makes sure that ``_expire`` is called at ``when``."""
        if when == FOREVER or (self._timer is not None and self._timer.when <= when):
            return
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        # Internal: idle items don't keep the process alive.
        self._timer = _loop.timers.add(when, self._expire, internal=True)

    def _expire(self, _: None) -> None:
        """Closes the idle items that are due."""
        self._timer = None
        now = monotonic()
        for entry in tuple(self._idle):
            if self._due(entry) <= now:
                self._idle.remove(entry)
                self._drop(entry)
        if self._idle:
            self._arm(min(map(self._due, self._idle)))


class Take(Generic[_T]):
    """What ``Pool.take`` returns, for one ``with`` block."""

    __slots__ = ("_entry", "_pool", "_timeout", "_use")

    def __init__(self, pool: Pool[_T], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._entry: Pooled[_T] | None = None
        self._use = 0

    def __enter__(self) -> _T:
        if self._entry is not None:
            raise RuntimeError("pool.take: each with block needs a take of its own")
        entry, err = self._pool._obtain(self._timeout)
        if entry is None:
            raise Error(err)
        self._entry = entry
        self._use = entry.uses
        return entry.item

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        entry = self._entry
        assert entry is not None
        if entry.taken and entry.uses == self._use:
            if kind is None:
                self._pool.put(entry.item)
            else:
                self._pool.drop(entry.item)


def new(
    create: Callable[[], tuple[_T, None] | tuple[None, Any]],
    *,
    close: Callable[[_T], object] | None = None,
    check: Callable[[_T], object] | None = None,
    max_open: int | None = 10,
    max_idle: int | None = None,
    lifetime: float | None = None,
    idle_time: float | None = None,
) -> Pool[_T]:
    """Returns a new, empty pool.

        conns = pool.new(lambda: tcp.connect("127.0.0.1:8080"), max_open=4)

    ``create()`` makes an item, and returns ``(item, None)`` or ``(None, err)``. It may
    wait, and runs in the task that needs the item. Every item is an object of its own.

    ``close(item)`` ends an item. It may wait, and runs in a task of its own. What it
    raises is logged.

    ``check(item)`` is asked before an item serves again, in the task that takes it. If
    it returns a false value or a pair with an error, or raises, the item is closed, and
    the task makes a new one.

    At most ``max_open`` items are open at a time, those being made or closed included;
    at most ``max_idle`` stay open while nobody uses them. An item is closed
    ``lifetime`` milliseconds after it was made, once it is not in use, and when it has
    been idle for ``idle_time`` milliseconds. None means that there is no such bound.

    Raises TypeError if a function can't be called, and ValueError for a number out of
    range.
    """
    return make(Pool, create, close, check, max_open, max_idle, lifetime, idle_time)


def make(
    kind: type[_P],
    create: Callable[[], tuple[_T, None] | tuple[None, Any]],
    close: Callable[[_T], object] | None,
    check: Callable[[_T], object] | None,
    max_open: int | None,
    max_idle: int | None,
    lifetime: float | None,
    idle_time: float | None,
) -> _P:
    """For modules of the library: ``new``, of a class that is derived from ``Pool``."""
    for name, func in (("create", create), ("close", close), ("check", check)):
        if not callable(func) and (func is not None or name == "create"):
            raise TypeError(f"pool.new: {name} is a function, not {type(func).__name__}")
    for name, number, least in (("max_open", max_open, 1), ("max_idle", max_idle, 0)):
        if number is not None:
            check_int(f"pool.new: {name}", number, least)
    for name, ms in (("lifetime", lifetime), ("idle_time", idle_time)):
        if ms is not None:
            check_ms(f"pool.new: {name}", ms, positive=True)
    return kind(
        create,
        close,
        check,
        FOREVER if max_open is None else max_open,
        FOREVER if max_idle is None else max_idle,
        FOREVER if lifetime is None else lifetime / 1000,
        FOREVER if idle_time is None else idle_time / 1000,
    )
