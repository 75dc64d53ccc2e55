"""For the tests of ``bridge.psycopg``: what is on the server, told by a connection of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from silly import bridge
from tests.net.support import until
from tests.servers.postgres import Postgres

WITHIN = 10_000
"""Milliseconds that bound what a test waits for."""


class Observer:
    """A connection of plain psycopg. What it asks takes no time."""

    def __init__(self, server: Postgres) -> None:
        self.conn = psycopg.connect(server.conninfo, autocommit=True)

    def ask(self, query: str, *params: Any) -> Any:
        row = self.conn.execute(query, params or None).fetchone()
        return None if row is None else row[0]

    def running(self) -> int:
        """How many queries of others run."""
        query = "select count(*) from pg_stat_activity where state = 'active' and backend_type = 'client backend' and pid <> %s"
        count: int = self.ask(query, self.conn.info.backend_pid)
        return count

    def until_running(self, count: int = 1) -> None:
        until(lambda: self.running() == count, WITHIN)


@contextmanager
def observer(server: Postgres) -> Iterator[Observer]:
    found = Observer(server)
    try:
        yield found
    finally:
        found.conn.close()


@contextmanager
def connected(server: Postgres, **options: Any) -> Iterator[bridge.psycopg.Connection[Any]]:
    """A connection, closed at the end without a COMMIT."""
    conn = bridge.psycopg.connect(server.conninfo, **options)
    try:
        yield conn
    finally:
        conn.close()
