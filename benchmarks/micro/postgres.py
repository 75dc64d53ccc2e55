"""What a query costs with the library that the argument names: one row by its key, and 20 tasks at once with a connection
each. The server is where libpq's variables say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import timing

QUERY = "select n, 'x' from generate_series(1, 1) n where n = %s"
ONE, MANY = "a query, prepared", "a query, 20 connections at once"
CONNECTIONS = 20
Repeat = Callable[[int], object]


def silly() -> dict[str, Repeat]:
    from silly import bridge, task

    conns = [bridge.psycopg.connect(autocommit=True, prepare_threshold=0) for _ in range(CONNECTIONS)]

    def ask(conn: Any, count: int) -> None:
        for _ in range(count):
            conn.execute(QUERY, (1,)).fetchone()

    def at_once(count: int) -> None:
        for job in [task.fork(ask, conn, -(-count // CONNECTIONS)) for conn in conns]:
            job.join()

    return {ONE: lambda count: ask(conns[0], count), MANY: at_once}


def blocking() -> dict[str, Repeat]:
    import psycopg

    conn = psycopg.connect(autocommit=True, prepare_threshold=0)
    return {ONE: timing.times(lambda: conn.execute(QUERY, (1,)).fetchone())}


def of_asyncio(
    connect: Callable[[], Coroutine[Any, Any, Any]], ask: Callable[[Any], Coroutine[Any, Any, Any]]
) -> dict[str, Repeat]:
    loop = asyncio.new_event_loop()

    async def connected() -> list[Any]:
        return [await connect() for _ in range(CONNECTIONS)]

    conns = loop.run_until_complete(connected())

    async def asks(conn: Any, count: int) -> None:
        for _ in range(count):
            await ask(conn)

    async def at_once(count: int) -> None:
        await asyncio.gather(*(asks(conn, -(-count // CONNECTIONS)) for conn in conns))

    return {
        ONE: lambda count: loop.run_until_complete(asks(conns[0], count)),
        MANY: lambda count: loop.run_until_complete(at_once(count)),
    }


def psycopg_asyncio() -> dict[str, Repeat]:
    import psycopg

    async def ask(conn: Any) -> None:
        await (await conn.execute(QUERY, (1,))).fetchone()

    return of_asyncio(lambda: psycopg.AsyncConnection.connect(autocommit=True, prepare_threshold=0), ask)


def asyncpg() -> dict[str, Repeat]:
    import asyncpg

    return of_asyncio(asyncpg.connect, lambda conn: conn.fetchrow(QUERY.replace("%s", "$1"), 1))


KINDS = {"silly": silly, "psycopg, blocking": blocking, "psycopg, asyncio": psycopg_asyncio, "asyncpg": asyncpg}

if __name__ == "__main__":
    timing.report(KINDS[sys.argv[1]]())
