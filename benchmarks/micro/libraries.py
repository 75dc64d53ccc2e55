"""What a command of other people's clients costs, in CPU µs of this process: on silly, and elsewhere.

    python benchmarks/micro/libraries.py WAY ADDRESSES

WAY is ``silly`` (bridge.socket), ``silly_asyncio`` (bridge.asyncio), ``asyncio``, ``gevent`` or ``blocking``. ADDRESSES is
JSON: ``redis`` and ``mariadb`` are pairs of host and port; each may be missing. 50 tasks with a connection each work at the
same time, but ``blocking`` does one thing after another.
"""

# ruff: noqa: E402 - gevent must patch before anything else is imported

from __future__ import annotations

import sys

WAY = sys.argv[1]
if WAY == "gevent":
    from gevent import monkey

    monkey.patch_all()

import json
import os
from collections.abc import Callable
from typing import Any

import timing

TASKS = 1 if WAY == "blocking" else 50
USER, PASSWORD = "silly", "sesame"
VALUE = "x" * 64
ROWS = 100
MAKE = "CREATE TABLE IF NOT EXISTS fish (id INT PRIMARY KEY, name VARCHAR(20))"
FIND = "SELECT id, name FROM fish WHERE id = "
COUNT = "SELECT COUNT(*) FROM fish"

Work = Callable[[int, int], Any]
"""``work(number, count)``: what the task ``number`` does ``count`` times."""


def all_of(work: Work) -> Callable[[int], object]:
    """``repeat(count)``: the tasks do ``count`` things in all."""

    def repeat(count: int) -> None:
        share = -(-count // TASKS)
        if WAY == "blocking":
            work(0, share)
        elif WAY == "gevent":
            import gevent

            gevent.joinall([gevent.spawn(work, number, share) for number in range(TASKS)], raise_error=True)
        elif WAY == "silly":
            from silly import task

            with task.group() as group:
                for number in range(TASKS):
                    group.fork(work, number, share)
        else:
            import asyncio

            async def together() -> None:
                await asyncio.gather(*[work(number, share) for number in range(TASKS)])

            run(together())

    return repeat


def run(coroutine: Any) -> Any:
    """Runs a coroutine to its end."""
    if WAY == "asyncio":
        return runner.run(coroutine)
    from silly import bridge

    value, err = bridge.asyncio.run(coroutine)
    if err is not None:
        raise SystemExit(err)
    return value


if WAY == "asyncio":
    import asyncio

    runner = asyncio.Runner()


def redis_work(host: str, port: int) -> Work:
    """SET and GET, which count as two."""
    import redis

    if WAY in ("asyncio", "silly_asyncio"):
        import redis.asyncio

        async def make() -> Any:
            return redis.asyncio.Redis(host=host, port=port)

        theirs = run(make())

        async def pairs(number: int, count: int) -> None:
            for _ in range(count // 2):
                await theirs.set(f"fish {number}", VALUE)
                await theirs.get(f"fish {number}")

        return pairs
    if WAY == "silly":
        from silly import bridge

        class Connection(redis.Connection):
            def _connect(self) -> Any:
                return bridge.socket.create_connection((self.host, self.port))

        client = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Connection, host=host, port=port))
    else:
        client = redis.Redis(host=host, port=port)

    def work(number: int, count: int) -> None:
        for _ in range(count // 2):
            client.set(f"fish {number}", VALUE)
            client.get(f"fish {number}")

    return work


def mariadb_work(host: str, port: int) -> Work:
    """One row, by its key, with PyMySQL."""
    import pymysql

    def connect() -> Any:
        conn = pymysql.connect(
            host=host, port=port, user=USER, password=PASSWORD, database="test", ssl_disabled=True, autocommit=True,
            defer_connect=True,
        )  # fmt: skip
        if WAY == "silly":
            from silly import bridge

            conn.connect(bridge.socket.create_connection((host, port)))
        else:
            conn.connect()
        return conn

    conns = [connect() for _ in range(TASKS)]
    with conns[0].cursor() as cursor:
        cursor.execute(MAKE)
        cursor.executemany("INSERT IGNORE INTO fish VALUES (%s, %s)", [(n, f"cod {n}") for n in range(ROWS)])

    def work(number: int, count: int) -> None:
        with conns[number].cursor() as cursor:
            for n in range(count):
                cursor.execute(FIND + "%s", (n % ROWS,))
                cursor.fetchone()

    return work


def main() -> None:
    addresses = json.loads(sys.argv[2])
    asynchronous = WAY in ("asyncio", "silly_asyncio")
    figures = {}
    if "redis" in addresses:
        figures["redis-py: SET or GET of 64 bytes"] = timing.measure(all_of(redis_work(*addresses["redis"])))
    if "mariadb" in addresses and not asynchronous:
        figures["PyMySQL: a row by its key"] = timing.measure(all_of(mariadb_work(*addresses["mariadb"])))
    print(json.dumps({name: figure / 1000 for name, figure in figures.items()}), flush=True)
    os._exit(0)  # nothing is worth closing


main()
