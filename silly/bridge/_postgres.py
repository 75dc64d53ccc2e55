"""For ``psycopg``: the operations of that library, driven on the loop, and the lock of
a connection.

psycopg writes each operation as a generator, which yields when it has to wait for the
socket. Its connections pass all of them to one method, ``wait``.
"""

from __future__ import annotations

from collections.abc import Generator
from threading import get_ident
from typing import Any, Generic, TypeVar

import psycopg
from greenlet import getcurrent
from psycopg import errors, generators, pq

from .._core import scheduler
from .._core.descriptor import FORGOTTEN, READ, WRITE, find
from .._core.loop import monotonic
from .._core.tasks import DeadlineOver, Leaving, Task
from .._core.waiting import Waiters

__all__ = ["ConnectionLock", "Operation", "_check_wait", "drain"]

_T = TypeVar("_T")

_loop = scheduler.loop
_EVENTS = {1: READ, 2: WRITE, 3: READ | WRITE}
"""By psycopg's ``Wait``."""
_READY = {0: 0, READ: 1, WRITE: 2, READ | WRITE: 3}
"""psycopg's ``Ready``, by what ``Descriptor.wait`` returns."""


def _check_wait(what: str) -> None:
    """Raises what a wait would raise at once. So an operation that can't wait sends
    nothing."""
    task: Task[Any] | None = _loop.current
    if task is None or task._greenlet is not getcurrent():
        raise RuntimeError(scheduler.not_here("cannot block", what))
    scheduler.check_wait(task, what)
    if scheduler.leaving():
        raise Leaving


class Operation(Generic[_T]):
    """A generator of psycopg. If a wait in it is struck, it can go on from there, in
    another task too."""

    __slots__ = ("_gen", "_pgconn", "_yielded")

    def __init__(self, gen: Generator[Any, Any, _T], pgconn: pq.abc.PGconn | None = None) -> None:
        """``pgconn``: for whose descriptor it waits. None: it yields the descriptor as
        well, since it may change."""
        self._gen = gen
        self._pgconn = pgconn
        self._yielded: Any = None

    @property
    def began(self) -> bool:
        """Whether it has waited, so that something may be on its way to the server."""
        return self._yielded is not None

    def run(self, what: str, timeout: float | None = None) -> _T:
        """Drives it to its end, for at most ``timeout`` seconds, and returns its
        result. Raises what it raises, what a wait raises, and ``_WaitTimeout``, as the
        functions of ``psycopg.waiting`` do."""
        gen, pgconn = self._gen, self._pgconn
        deadline = None if timeout is None else monotonic() + timeout
        try:
            if self._yielded is None:
                self._yielded = next(gen)
            while True:
                try:
                    # Asked each time: the number may be another descriptor's once the
                    # connection is closed. Then this raises OperationalError.
                    fd, wanted = (pgconn.socket, self._yielded) if pgconn is not None else self._yielded
                    got = find(fd).wait(_EVENTS[wanted], what, deadline, untried=True)
                except DeadlineOver:
                    raise
                except (OSError, errors.OperationalError) as exc:
                    self.close()
                    raise errors.OperationalError("the connection is closed") from exc
                if got == FORGOTTEN:
                    self.close()
                    raise errors.OperationalError("the connection was closed by another task")
                self._yielded = gen.send(_READY[got])
                if deadline is not None and monotonic() >= deadline:
                    self.close()
                    raise errors._WaitTimeout("wait timeout expired")
        except StopIteration as stop:
            result: _T = stop.value
            return result

    def close(self) -> None:
        """Drops it."""
        try:
            self._gen.close()
        except errors.Error:
            pass  # a pipeline's tries to fetch what is left, of a connection that is closed


def drain(connection: psycopg.Connection[Any]) -> Generator[Any, Any, None]:
    """An operation: reads and drops what the server still sends for one that was
    interrupted. It sends no further statement, as the interrupted one might do."""
    pgconn = connection.pgconn
    yield from generators.send(pgconn)
    while (result := (yield from generators.fetch(pgconn))) is not None:
        if result.status == pq.ExecStatus.COPY_IN:
            while not pgconn.put_copy_end(b"interrupted"):
                yield 2
            yield from generators.send(pgconn)
        elif result.status == pq.ExecStatus.COPY_OUT:
            while (size := pgconn.get_copy_data(1)[0]) >= 0:
                if not size:
                    yield 1
                    pgconn.consume_input()
        elif result.status == pq.ExecStatus.COPY_BOTH:
            raise errors.NotSupportedError("replication can't be interrupted")
    # The results were not looked at: a statement may have been dropped, or not made. A
    # transaction that has failed can drop none; its rollback does it then.
    connection._prepared.clear()
    if pgconn.transaction_status != pq.TransactionStatus.INERROR:
        yield from connection._prepared.maintain_gen(connection)


class ConnectionLock:
    """The lock of a connection, in place of psycopg's ``threading.Lock``: a task that
    waits for it blocks no other. First come, first served.

    A task that was interrupted can't keep the others out until the connection can be
    used again. So another task takes the lock over (``take_over``). The interrupted one
    has not left its ``with lock`` then: ``owed`` counts such blocks.
    """

    __slots__ = ("_waiters", "given_up", "held", "holder", "owed")

    def __init__(self) -> None:
        self.held = False
        self.holder: Task[Any] | None = None
        """The task that has it, if one does: None where no task runs."""
        self.owed = 0
        self.given_up = False
        """Whether a task that has lost it is about to leave its block on its own."""
        self._waiters: Waiters[None] = Waiters()

    def acquire(self, blocking: bool = True) -> bool:
        """Waits until the caller has it. Never waits if it is free, so a deadline that
        is over does not matter then."""
        if get_ident() != _loop.thread:
            raise RuntimeError(scheduler.not_here("cannot block", "the lock of a connection"))
        if not self.held:
            self.held, self.holder = True, _loop.current
        elif blocking:
            self._waiters.wait("the lock of a PostgreSQL connection", self._pass_on, self._missed)
        else:
            return False
        return True

    def release(self) -> None:
        """Gives it to the task that has waited longest, or frees it."""
        if get_ident() != _loop.thread:
            _loop.post(self.release)  # a finalizer runs anywhere
        elif self.owed and self.holder is not _loop.current:
            self.owed -= 1
            self.given_up = False
        elif self.held:
            self._pass_on()
        else:
            raise RuntimeError("the lock of a PostgreSQL connection is not locked")

    def locked(self) -> bool:
        return self.held

    def lost(self) -> bool:
        """Whether another task has taken it over from the caller."""
        return self.owed > 0 and self.holder is not _loop.current

    def take_over(self, task: Task[Any]) -> None:
        """Gives it to ``task``, in place of the one that has it."""
        if self.held:
            self.owed += 1
        self.held, self.holder = True, task

    def start_with(self, task: Task[Any]) -> None:
        """Wakes ``task``, which has not started, when it is its turn to have it."""
        if self.held:
            self._waiters.add(task)
        else:
            self.held, self.holder = True, task
            scheduler.wake(task)

    def leave(self, task: Task[Any]) -> bool:
        """Takes a task of ``start_with`` out of the queue. Returns False if it has the
        lock already."""
        return self._waiters.remove(task)

    def _pass_on(self, _: None = None) -> None:
        self.holder = self._waiters.first
        self.held = self._waiters.wake_one()

    def _missed(self) -> None:
        """Wakes the task if a signal handler has released it since it looked."""
        if not self.held:
            self._pass_on()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()
