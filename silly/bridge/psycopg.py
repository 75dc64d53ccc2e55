"""psycopg 3, the library for PostgreSQL, on the loop: its own API, with waits that
block the calling task only.

    from silly import bridge

    with bridge.psycopg.connect("host=db.example dbname=shop") as conn:
        row = conn.execute("select count(*) from orders").fetchone()

It needs the extra ``postgres``: ``pip install 'silly-runtime[postgres]'``. psycopg has
the licence LGPL-3.0.

Whatever strikes a task that waits (a deadline, a cancel, the process's end) strikes it
at once. A task of our own then cancels the query on the server, reads to its end, and
has the connection's lock meanwhile. So the connection can be used afterwards.
"""

from __future__ import annotations

from . import _postgres_needs  # noqa: F401 - first: it says what is missing

# isort: split

from typing import Any

import psycopg
from psycopg import errors, generators, pq
from psycopg.abc import AdaptContext, ConnParam
from psycopg.rows import RowFactory

from .._core import scheduler
from .._log import task as logger
from ..sync.pool import Pool, make
from ._postgres import Operation
from ._postgres_connection import Connection, ServerCursor, Transaction

__all__ = ["Connection", "ConnectionPool", "ServerCursor", "Transaction", "connect", "pool"]

_loop = scheduler.loop
_IDLE = pq.TransactionStatus.IDLE


def connect(
    conninfo: str = "",
    *,
    autocommit: bool = False,
    prepare_threshold: int | None = 5,
    context: AdaptContext | None = None,
    row_factory: RowFactory[Any] | None = None,
    cursor_factory: type[psycopg.Cursor[Any]] | None = None,
    **kwargs: ConnParam,
) -> Connection[Any]:
    """Connects to a server, and returns the ``Connection``, as ``psycopg.connect`` with
    the same arguments does.

        conn = bridge.psycopg.connect("host=db.example dbname=shop", autocommit=True)
        conn.execute("select 1").fetchone()      # -> (1,)
        conn.close()

    Host names are looked up without stopping other tasks, for ``connect_timeout``
    seconds at most, as each attempt to connect.

    Raises psycopg's errors (OperationalError if no host can be reached), TimeoutError
    at a ``time.deadline``, and RuntimeError outside the loop's thread. A task that is
    interrupted while it connects leaves nothing open.
    """
    if _loop.no_switch:
        scheduler.refuse("bridge.psycopg.connect")
    return Connection.connect(
        conninfo,
        autocommit=autocommit,
        prepare_threshold=prepare_threshold,
        context=context,
        row_factory=row_factory,
        cursor_factory=cursor_factory,
        **kwargs,
    )


class ConnectionPool(Pool[Connection[Any]]):
    """What ``pool`` returns: a ``sync.pool.Pool`` whose connections come back clean."""

    __slots__ = ()

    def put(self, item: Connection[Any]) -> None:
        """As ``Pool.put``. A transaction that the user has left open is rolled back,
        and logged. A connection that is closed, or in a block of ``transaction()`` or
        ``pipeline()`` or a two-phase transaction still, is dropped."""
        cleaned = item._cleaning is not None  # then a block may have ended, and the count is behind
        if item.closed or item._tpc or item._pipeline or (item._num_transactions and not cleaned):
            self.drop(item)
            return
        super().put(item)
        if cleaned or item.pgconn.transaction_status != _IDLE:
            if not cleaned:
                logger.limited("postgres", "a connection to PostgreSQL came back in a transaction, which is rolled back")
            item._later(Operation(item._rollback_gen(), item.pgconn))


def pool(
    conninfo: str = "",
    *,
    max_open: int | None = 10,
    max_idle: int | None = None,
    lifetime: float | None = None,
    idle_time: float | None = None,
    autocommit: bool = True,
    **kwargs: Any,
) -> ConnectionPool:
    """Returns a pool of connections, a ``sync.pool.Pool``.

        db = bridge.psycopg.pool("host=db.example dbname=shop", max_open=4)
        with db.take() as conn, conn.transaction():
            conn.execute("update stock set n = n - 1 where item = %s", ["apple"])

    ``max_open``, ``max_idle``, ``lifetime`` and ``idle_time`` (ms) are those of
    ``sync.pool.new``; everything else is for ``connect``. The connections are in
    autocommit mode by default, so that only blocks of ``transaction()`` are
    transactions. What is open when a connection comes back is rolled back. A connection
    that the server has closed meanwhile is replaced.

    It takes the place of psycopg_pool, whose threads can't use these connections.
    """
    return make(
        ConnectionPool,
        lambda: (connect(conninfo, autocommit=autocommit, **kwargs), None),
        Connection.close,
        _serves,
        max_open,
        max_idle,
        lifetime,
        idle_time,
    )


def _serves(connection: Connection[Any]) -> bool:
    """Whether an idle connection may serve again. Sends nothing: what the server has
    sent is enough to know that it has closed it. ``consume_input`` raises then."""
    if connection._cleaning is None and not connection.closed:
        pgconn = connection.pgconn
        try:
            pgconn.consume_input()
            pgconn.consume_input()  # the first may have read why the server ends it, and no further
            next(generators.fetch(pgconn), None)  # hands on the notifications that it has read
        except errors.OperationalError:
            return False
    return not connection.closed
