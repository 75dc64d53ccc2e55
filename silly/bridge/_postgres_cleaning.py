"""For ``psycopg``: what remains to be done when a task was interrupted in the middle of
an operation. Tasks of their own do it, so that the interrupted one goes on at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit
from psycopg import errors, generators, pq

from .._core import scheduler
from .._core.deadline import Timeout
from .._core.tasks import DeadlineOver, Task
from .._log import task as logger
from .._shown import shown
from ._postgres import Operation, drain

if TYPE_CHECKING:
    from ._postgres_connection import Connection

__all__ = ["PATIENCE", "Cancelling", "Cleaning"]

PATIENCE = 5000
"""Milliseconds in which a connection must be fit for use again; else it is closed."""
_AFTER = "PostgreSQL, after an interrupted query"
"""What such a task waits on, in reports."""


def _cancel(cancelling: Any) -> Generator[Any, Any, None]:
    """An operation: asks the server to cancel what a connection does. At its end the
    server has sent its signal, so it can't hit a later query."""
    cancelling.start()
    yield from generators.cancel(cancelling)


class Cancelling:
    """Cancels on the server what a connection does that is about to be closed. A task
    of its own does it.

    The process's end drops a task that has not started, and interrupts one that waits.
    Neither ends this as long as tasks may wait.
    """

    __slots__ = ("_done", "_todo")
    awaits = False

    def __init__(self, connection: Connection[Any]) -> None:
        self._todo: deque[Operation[Any]] = deque((Operation(_cancel(connection.pgconn.cancel_conn())),))
        self._done = False

    def begin(self, *, held: bool = False) -> Task[Any] | None:
        """Makes its task, and starts it unless ``held``. Returns None if no task will
        ever run again."""
        if scheduler.over():
            return None
        task = scheduler.fork(self._run, (), None, Cancelling._run.__code__, 0, ours=True, held=held)
        task._keeper = self
        return task

    def ended(self, task: Task[Any]) -> None:
        """Its task has ended, or was dropped."""
        if not self._done:
            self._again(task)

    def _again(self, task: Task[Any]) -> None:
        self.begin()

    def _run(self) -> None:
        why = ""
        try:
            with Timeout(PATIENCE):
                while self._todo:
                    try:
                        self._todo[0].run(_AFTER)
                    except GreenletExit:
                        if scheduler.starts or scheduler.exiting:
                            raise
                        continue  # the process ends, but tasks may wait
                    except errors.Error as exc:
                        if not self._fit_after(exc):
                            raise
                    self._todo.popleft()
        except (errors.Error, DeadlineOver) as exc:
            why = shown(exc)
        except BaseException as exc:
            why = shown(exc)
            raise
        finally:
            self._done = True
            while self._todo:
                self._todo.popleft().close()
            self._finish(why)

    def _fit_after(self, exc: errors.Error) -> bool:
        """Whether it goes on after an operation that has failed."""
        return False

    def _finish(self, why: str) -> None:
        """Called at the end. ``why``: the reason, if it has failed."""
        if why:
            logger.limited("postgres", f"a query of PostgreSQL goes on, though its connection is closed: {why}")


class Cleaning(Cancelling):
    """Makes a connection fit for use, or else closes it. Its task has the connection's
    lock meanwhile."""

    __slots__ = ("_connection", "took_over")

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self.took_over = False
        """Whether what runs on the server is its own: a query that it cancels, or a
        COMMIT that it awaits."""
        self._todo = deque()
        self._done = False

    def cancel(self) -> None:
        """Adds: cancel the query, and read to its end."""
        super().__init__(self._connection)
        self.drain()

    def drain(self) -> None:
        """Adds: read to the end of the query."""
        self._todo.append(Operation(drain(self._connection), self._connection.pgconn))

    def add(self, operation: Operation[Any]) -> None:
        """Adds an operation, which is run to its end."""
        self._todo.append(operation)

    def take_over(self) -> Task[Any] | None:
        """Starts it at once: the present task was interrupted."""
        self.took_over = True
        task = self.begin()
        if task is None:
            self._connection._end()
        else:
            self._connection.lock.take_over(task)
        return task

    def queue(self) -> None:
        """Starts it when nobody else has the lock."""
        task = self.begin(held=True)
        if task is None:
            self._connection._end()
        else:
            self._connection.lock.start_with(task)

    def _again(self, task: Task[Any]) -> None:
        lock = self._connection.lock
        if lock.leave(task):
            self.queue()
        else:
            lock.holder = self.begin()

    def _fit_after(self, exc: errors.Error) -> bool:
        """A COMMIT may fail, of which the interrupted task knows nothing."""
        pgconn = self._connection.pgconn
        if pgconn.status != pq.ConnStatus.OK or pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            return False
        logger.limited(
            "postgres", f"the end of a transaction of PostgreSQL, whose task was interrupted, has failed: {shown(exc)}"
        )
        return True

    def _finish(self, why: str) -> None:
        connection = self._connection
        connection._cleaning = None
        if why and not connection.closed:
            connection._end()
            logger.limited("postgres", f"a connection to PostgreSQL was closed after an interrupted query: {why}")
        connection.lock.release()
