"""For ``psycopg``: the connection, its transactions and its cursors on the server. Each
overrides of psycopg's class only how it waits, and what is done when a wait is struck.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo as _conninfo
from psycopg import errors, pq
from psycopg.rows import Row, RowFactory, tuple_row

from .._core import scheduler
from .._core.descriptor import find
from .._core.tasks import DeadlineOver, Task
from .._ends import ENDS
from ._postgres import ConnectionLock, Operation, _check_wait
from ._postgres_cleaning import PATIENCE, Cancelling, Cleaning
from ._postgres_hosts import looked_up

__all__ = ["Connection", "ServerCursor", "Transaction"]

_T = TypeVar("_T")

_loop = scheduler.loop
_ANSWER = "an answer of PostgreSQL"
_CONNECTING = "connecting to PostgreSQL"
_CANCEL = "cancelling a query of PostgreSQL"
_ACTIVE = pq.TransactionStatus.ACTIVE
_OK = pq.ConnStatus.OK


class Connection(psycopg.Connection[Row]):
    """A ``psycopg.Connection`` whose waits block the calling task only. Made by
    ``connect``. Everything of psycopg's class is there; this changes only how it waits.

    Tasks may share one: its operations queue, first come, first served. A transaction
    is not one operation, so tasks that use transactions need a connection each (see
    ``pool``).

    When a deadline, a cancel or the end of the process strikes a task that waits:

    * The query is cancelled on the server. Until that is done, other tasks wait for the
      connection. If it takes longer than 5 s, the connection is closed.
    * A COMMIT or ROLLBACK that was sent is not cancelled, but awaited likewise.
    * ``rollback()``, and a block of ``transaction()`` that is left by an exception,
      work under a deadline that is over too: they return at once, and the transaction
      is rolled back before the connection does anything else.
    * In pipeline mode, and so in ``executemany``, the connection is closed. In a
      prepared two-phase transaction too, without a cancel: that stays prepared.
    """

    __module__ = "silly.bridge.psycopg"

    lock: ConnectionLock  # type: ignore[assignment]

    def __init__(self, pgconn: pq.abc.PGconn, row_factory: RowFactory[Row] = tuple_row) -> None:  # type: ignore[assignment]
        super().__init__(pgconn, row_factory)
        self.lock = ConnectionLock()
        self.server_cursor_factory = ServerCursor
        self._cleaning: Cleaning | None = None
        """What is being done since an operation was interrupted."""

    # ---- connecting ------------------------------------------------------------------

    @classmethod
    def _get_connection_params(cls, conninfo: str, **kwargs: Any) -> dict[str, Any]:
        """psycopg's hook, called first by ``connect``: no name is left to look up."""
        _check_wait("bridge.psycopg.connect")
        return looked_up(super()._get_connection_params(conninfo, **kwargs))

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Generator[Any, Any, Any]:
        """psycopg's hook, called for each attempt. Waits itself, so what psycopg drives
        is at its end at once."""
        timeout = _conninfo.timeout_from_conninfo(_conninfo.conninfo_to_dict(conninfo))
        operation = Operation(super()._connect_gen(conninfo))
        try:
            _check_wait(_CONNECTING)
            connection = operation.run(_CONNECTING, timeout)
        finally:
            operation.close()
        yield from ()
        return connection

    # ---- operations ------------------------------------------------------------------

    def wait(self, gen: Generator[Any, Any, _T], interval: float = 0.0, timeout: float | None = None) -> _T:
        """Runs an operation of psycopg to its end. All its methods call this one, with
        the lock.

        ``timeout`` is in seconds; ``interval`` has no meaning here. Raises TimeoutError
        at a deadline.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.wait")
        return self._run(Operation(gen, self.pgconn), timeout)

    def _run(self, operation: Operation[_T], timeout: float | None = None, *, finishes: bool = False) -> _T:
        """``finishes``: an operation that has begun is not cancelled if it is
        interrupted, but brought to its end."""
        if self.lock.lost():
            if self.lock.given_up:
                return None  # type: ignore[return-value] # psycopg drops what is left of it
            raise errors.QueryCanceled("this operation was interrupted by a deadline or a cancel")
        if self.pgconn.status != _OK:
            self._check_connection_ok()
        may_wait = False
        try:
            _check_wait(_ANSWER)
            may_wait = True
            return operation.run(_ANSWER, timeout)
        except (DeadlineOver, *ENDS) as exc:
            rest = self._interrupted(operation, finishes)
            if rest is not None and isinstance(exc, KeyboardInterrupt | SystemExit):
                rest.join(PATIENCE)  # most likely they end the main program, and then no task runs any more
            raise
        except RuntimeError:
            if not may_wait and get_ident() == _loop.thread:
                self._interrupted(operation, finishes)
            raise

    def _interrupted(self, operation: Operation[Any] | None = None, finishes: bool = False) -> Task[Any] | None:
        """The present task will not go on with what it is in the middle of. Returns the
        task that does what remains, if something does."""
        pgconn = self.pgconn
        rest = None
        if pgconn.status == _OK:
            if pgconn.pipeline_status or (self._tpc and self._tpc[1]):
                rest = self._close()
            elif operation is not None and finishes and operation.began:
                cleaning = self._cleaning = Cleaning(self)
                cleaning.add(operation)
                cleaning.drain()  # Ctrl-C may have struck in the middle of it, and not where it waits
                return cleaning.take_over()
            elif pgconn.transaction_status == _ACTIVE:
                cleaning = self._cleaning = Cleaning(self)
                cleaning.cancel()
                rest = cleaning.take_over()
        if operation is not None and not finishes:
            operation.close()
        return rest

    def _conclude(self, gen: Generator[Any, Any, _T]) -> _T | None:
        """Runs an operation that ends a transaction. If the present task can't wait any
        more, it is done later, and this returns None."""
        if self.closed:
            self._check_connection_ok()
        operation = Operation(gen, self.pgconn)
        try:
            with self.lock:
                return self._run(operation, finishes=True)
        except DeadlineOver:
            if operation.began:
                raise
        except ENDS:
            if not operation.began:
                self._later(operation)
            raise
        self._later(operation)
        return None

    def _later(self, operation: Operation[Any]) -> None:
        """Has an operation done before anything else, or after what others wait for
        already. Nothing remains to be done if the connection is closed."""
        if self.closed:
            operation.close()
        elif self._cleaning is not None:
            self._cleaning.add(operation)
        else:
            cleaning = self._cleaning = Cleaning(self)
            cleaning.add(operation)
            cleaning.queue()

    def commit(self) -> None:
        """As psycopg's. A COMMIT that was sent is not cancelled: it may have its effect
        although a deadline or a cancel is raised here."""
        if _loop.no_switch:
            scheduler.refuse("conn.commit")
        with self.lock:
            self._run(Operation(self._commit_gen(), self.pgconn), finishes=True)

    def rollback(self) -> None:
        """As psycopg's.

            conn.rollback()

        Under a deadline that is over it returns at once, and the transaction is rolled
        back before the connection does anything else.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.rollback")
        self._conclude(self._rollback_gen())

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[Transaction]:
        """As psycopg's: a block that is a transaction, or a savepoint within one.

            with conn.transaction():
                conn.execute("create temp table visits (n int)")

        If a deadline or a cancel leaves the block, the transaction is rolled back, even
        if this task can't wait for that any more.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.transaction")
        block = Transaction(self, savepoint_name, force_rollback)
        if self._pipeline:
            with self.pipeline(), block, self.pipeline():
                yield block
        else:
            with block:
                yield block

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """As psycopg's: a block whose statements are sent without waiting for the
        answers.

            with conn.pipeline():
                conn.execute("select 1")

        If a deadline or a cancel strikes in it, the connection is closed.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.pipeline")
        try:
            with super().pipeline() as pipeline:
                yield pipeline
        except (DeadlineOver, *ENDS):
            if self._pipeline is not None and not self._pipeline.level:
                self._close()  # its end was struck where it waited for the lock, and will not come
            raise

    # ---- cancelling ------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancels what another task does with the connection, as ``cancel_safe``:
        psycopg's ``cancel`` would stop the thread.

            conn.cancel()
        """
        if _loop.no_switch:
            scheduler.refuse("conn.cancel")
        self.cancel_safe()

    def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """As psycopg's: asks the server to cancel what another task does with the
        connection, for at most ``timeout`` seconds.

            conn.cancel_safe(timeout=3)

        Raises CancellationTimeout after that, and TimeoutError at a ``time.deadline``.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.cancel_safe")
        if not self._should_cancel():
            return
        operation = Operation(self._cancel_gen())
        try:
            _check_wait(_CANCEL)
            operation.run(_CANCEL, timeout or None)
        except errors._WaitTimeout:
            raise errors.CancellationTimeout("cancellation timeout expired") from None
        finally:
            operation.close()

    def _try_cancel(self, *, timeout: float = 5.0) -> None:
        """psycopg calls this for an operation that its task gives up (a loop over
        ``stream`` or a COPY that it leaves), with the lock. It may be in a finalizer,
        where a cancel would be lost. So nothing waits here, nor in what follows."""
        if get_ident() != _loop.thread:
            _loop.post(Connection._give_up, self)
        else:
            self._give_up()

    def _give_up(self) -> None:
        if not self.lock.lost():
            self._interrupted()
        self.lock.given_up = self.lock.lost()

    # ---- closing ---------------------------------------------------------------------

    def close(self) -> None:
        """Closes the connection. Never waits.

            conn.close()

        A task that waits for it gets psycopg's OperationalError, and its query is
        cancelled on the server.
        """
        if get_ident() == _loop.thread:
            self._close()
            return
        scheduler.check_thread(closes=True)
        if not scheduler.in_child:
            super().close()

    def _close(self) -> Task[Any] | None:
        """Returns the task that cancels the query that ran, if one did."""
        rest = None
        if not self.closed:
            cleaned = self._cleaning is not None and self._cleaning.took_over
            if self.pgconn.transaction_status == _ACTIVE and not cleaned and not (self._tpc and self._tpc[1]):
                rest = Cancelling(self).begin()
            find(self.pgconn.socket).forget()
            super().close()
        return rest

    def _end(self) -> None:
        """Closes the connection because it can't be used any more."""
        if not self.closed:
            find(self.pgconn.socket).forget()
            self.pgconn.finish()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if _loop.no_switch:
            scheduler.refuse("the end of a with block of a connection")
        try:
            super().__exit__(kind, exc, tb)
        except (DeadlineOver, *ENDS):
            self._close()  # psycopg does this only after a COMMIT that has worked
            raise


class ServerCursor(psycopg.ServerCursor[Row]):
    """What ``Connection.cursor`` returns for a name."""

    __module__ = "silly.bridge.psycopg"
    __slots__ = ()

    _conn: Connection[Any]

    def close(self) -> None:
        """As psycopg's. Under a deadline that is over it returns at once, and the
        server closes the cursor before the connection does anything else."""
        if _loop.no_switch:
            scheduler.refuse("cursor.close")
        if not self.closed:
            try:
                if self._conn.pgconn.status == _OK:
                    self._conn._conclude(self._close_gen())
            finally:
                self._close()


class Transaction(psycopg.Transaction):
    """The block of ``Connection.transaction``."""

    __module__ = "silly.bridge.psycopg"

    _conn: Connection[Any]

    def __enter__(self) -> Transaction:
        if _loop.no_switch:
            scheduler.refuse("conn.transaction")
        conn = self._conn
        with conn.lock:
            self._check_enter()
            try:
                conn.wait(self._enter_gen())
            except BaseException as exc:
                # The block does not begin, so its end is due here.
                if self.status is self.Status.ACTIVE:
                    undo = self._exit_gen(type(exc), exc, None)
                    if self.pgconn.status != _OK:
                        self.status = self.Status.FAILED
                    elif conn.lock.lost():
                        conn._later(Operation(undo, self.pgconn))
                    else:
                        conn.wait(undo)
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> bool:
        if _loop.no_switch:
            scheduler.refuse("the end of a block of conn.transaction")
        conn = self._conn
        if self.pgconn.status != _OK:
            self.status = self.Status.FAILED
            return False
        if exc is not None or self.force_rollback:
            swallow = conn._conclude(self._exit_gen(kind, exc, tb))
            if swallow is None:  # it is done later
                swallow = isinstance(exc, psycopg.Rollback) and exc.transaction in (None, self)
            return swallow
        commit = Operation(self._exit_gen(None, None, None), self.pgconn)
        try:
            with conn.lock:
                return conn._run(commit, finishes=True)
        except (DeadlineOver, *ENDS) as struck:
            if not commit.began and self.status is self.Status.ACTIVE:
                conn._later(Operation(self._exit_gen(type(struck), struck, None), conn.pgconn))
            raise
