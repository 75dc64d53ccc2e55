"""A cancel or a deadline in the middle of a command: the next task on these connections gets its own answer, not that one's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from silly import bridge, task, time
from tests.net.support import until
from tests.servers import mariadb as mariadb_server

from .support import defined

STRIKES = 40


def strike(ask: Callable[[int], int]) -> None:
    """``ask(number)`` must return ``number``, also after others were cancelled or ran out of time in the middle."""
    rng = random.Random(1)

    def asked(number: int) -> None:
        answers.append((number, ask(number)))

    def in_time(number: int, ms: int) -> None:
        try:
            with time.deadline(ms):
                asked(number)
        except Exception as exc:
            errors.append(exc)

    answers: list[tuple[int, int]] = []
    errors: list[Exception] = []
    for number in range(0, STRIKES, 2):
        job = task.fork(asked, number)
        time.sleep(rng.choice([0, 1, 2, 3]))
        job.cancel()
        job.join()
        in_time(number + 1, rng.choice([0, 1, 2, 3]))
    struck = STRIKES - len(answers)
    assert struck > STRIKES // 4, "this test strikes seldom"
    for number in range(STRIKES, STRIKES + 5):
        asked(number)
    assert [answer for _, answer in answers] == [number for number, _ in answers]


def test_redis(redis_server: Any) -> None:
    import redis

    page = defined("redis-py", HOST=redis_server.host, PORT=redis_server.port)
    store = redis.Redis(connection_pool=page["Pool"](1, host=redis_server.host, port=redis_server.port))

    def ask(number: int) -> int:
        store.blpop("no such list", 0.002)
        return int(store.echo(str(number)))

    strike(ask)
    store.connection_pool.disconnect()
    page["store"].connection_pool.disconnect()


@pytest.fixture
def given(mariadb: Any) -> dict[str, object]:
    user, password = mariadb_server.USER, mariadb_server.PASSWORD
    return {"HOST": mariadb.host, "PORT": mariadb.port, "USER": user, "PASSWORD": password}


def test_pymysql(given: dict[str, object]) -> None:
    page = defined("PyMySQL", **given, TLS=None)

    def ask(number: int) -> int:
        with page["conns"].take() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT SLEEP(0.002), %s", (number,))
            answer: int = cursor.fetchone()[1]
            return answer

    strike(ask)
    page["conns"].close()
    until(lambda: page["conns"].open == 0)


def test_sqlalchemy(given: dict[str, object]) -> None:
    import sqlalchemy

    page = defined("SQLAlchemy", **given)

    def ask(number: int) -> int:
        with page["conns"].take() as conn, conn.begin():
            return int(conn.execute(sqlalchemy.text("SELECT SLEEP(0.002), :number"), {"number": number}).one()[1])

    strike(ask)
    page["conns"].close()
    until(lambda: page["conns"].open == 0)


def test_asyncpg(postgres: Any) -> None:
    page = defined("asyncpg", HOST=postgres.host, PORT=postgres.port)
    page["dbs"], _ = bridge.asyncio.run(page["connect"]())

    def ask(number: int) -> int:
        rows, err = bridge.asyncio.run(page["query"]("SELECT $1::text, pg_sleep(0.002)", str(number)))
        if err is not None:
            raise TimeoutError(err)
        return int(rows[0][0])

    strike(ask)
    bridge.asyncio.run(page["dbs"].close())
