"""Fifty tasks at once over each bridge. What they talk to answers none of them before all fifty are there."""

from __future__ import annotations

from typing import Any

import pytest

from silly import bridge, time
from silly.sync import event, pool
from tests.helpers import serving
from tests.net.support import until
from tests.servers import mariadb as mariadb_server

from .support import all_at_once, defined

TASKS = 50
WITHIN = 20_000
"""Milliseconds; only a test that fails waits so long."""


class Crowd:
    """A handler that answers nobody before all are there."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self._all = event.new()

    def open(self) -> None:
        """From now on nobody waits."""
        self._all.set()

    def shut(self) -> None:
        self._all.clear()

    def __call__(self, stream: Any) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside == TASKS:
            self._all.set()
        ok, _ = self._all.wait(WITHIN)
        self.inside -= 1
        stream.respond(200 if ok else 500)
        stream.close("fish")


def test_http_client() -> None:
    crowd = Crowd()
    with serving(crowd) as server:
        crowd.open()
        page = defined("http.client", HOST="127.0.0.1", PORT=server.port)
        crowd.shut()

        def ask(number: int) -> list[tuple[int, bytes]]:
            web = page["HTTPConnection"]("127.0.0.1", server.port, timeout=30)
            answers = []
            for _ in range(3):
                web.request("GET", "/")
                with web.getresponse() as answer:
                    answers.append((answer.status, answer.read()))
            web.close()
            return answers

        assert all_at_once(TASKS, ask) == [[(200, b"fish")] * 3] * TASKS
    assert crowd.most == TASKS


def test_smtplib(mail_server: Any) -> None:
    host, port, mails = mail_server
    page = defined("smtplib", HOST=host, PORT=port)
    mails.taken.clear()
    mails.crowd = TASKS

    def send(number: int) -> object:
        with page["SMTP"](host, port, timeout=30) as smtp:
            text = f"Subject: {number:02}\r\n\r\n" + "fish\r\n" * 1000
            return smtp.sendmail("ada@example.org", ["bob@example.org"], text)

    assert all_at_once(TASKS, send) == [{}] * TASKS
    assert sorted(mail[:11] for mail in mails.taken) == [b"Subject: %02d" % number for number in range(TASKS)]
    assert {len(mail) for mail in mails.taken} == {15 + 6000}
    assert mails.most == TASKS


def test_redis(redis_server: Any) -> None:
    """1,000 pairs of SET and GET over 20 connections; then 50 tasks that all wait in BLPOP."""
    page = defined("redis-py", HOST=redis_server.host, PORT=redis_server.port)
    client, conns = page["store"], page["store"].connection_pool

    def pairs(number: int) -> bool:
        for count in range(20):
            client.set(f"many {number}", f"{number} {count}")
            if client.get(f"many {number}") != f"{number} {count}".encode():
                return False
        return True

    assert all_at_once(TASKS, pairs) == [True] * TASKS
    assert 1 < len(conns._available_connections) <= 20
    conns.disconnect()

    import redis

    many = redis.Redis(connection_pool=page["Pool"](TASKS, host=redis_server.host, port=redis_server.port))

    def feed() -> None:
        until(lambda: client.info("clients")["blocked_clients"] == TASKS, WITHIN)
        for number in range(TASKS):
            client.rpush(f"list {number}", number)

    def take(number: int) -> object:
        if number == TASKS:
            return feed()
        return many.blpop(f"list {number}", 20)

    assert all_at_once(TASKS + 1, take)[:TASKS] == [(b"list %d" % n, b"%d" % n) for n in range(TASKS)]
    conns.disconnect()
    many.connection_pool.disconnect()


def test_pymysql(mariadb: Any) -> None:
    """All fifty statements run at the same time, as the server sees it. The last task ends them."""
    import pymysql

    given = {"HOST": mariadb.host, "PORT": mariadb.port, "USER": mariadb_server.USER, "PASSWORD": mariadb_server.PASSWORD}
    page = defined("PyMySQL", **given, TLS=None)
    page["conns"].close()

    counting = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(20)%'"

    def ask(number: int) -> object:
        with conns.take() as conn, conn.cursor() as cursor:
            if number < TASKS:
                with pytest.raises(pymysql.OperationalError, match="Query execution was interrupted"):
                    cursor.execute("SELECT SLEEP(20), %s", (number,))
                cursor.execute("SELECT %s", (number,))
                return cursor.fetchone()
            while cursor.execute(counting) and cursor.fetchone()[0] < TASKS:
                time.sleep(10)
            cursor.execute("SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(20)%'")
            for (each,) in cursor.fetchall():
                cursor.execute("KILL QUERY %s", (each,))
            return None

    with pool.new(page["connect"], close=lambda conn: conn.close(), max_open=TASKS + 1) as conns:
        assert all_at_once(TASKS + 1, ask)[:TASKS] == [(number,) for number in range(TASKS)]
    until(lambda: conns.open == 0)


def test_requests() -> None:
    crowd = Crowd()
    with serving(crowd) as server:
        url = f"http://127.0.0.1:{server.port}/"
        crowd.open()
        page = defined("requests", URL=url)
        crowd.shut()
        page["sessions"].close()

        page["sessions"] = pool.new(page["sessions"]._create, close=page["sessions"]._close, max_open=TASKS)
        with page["sessions"] as sessions:
            results = all_at_once(TASKS, lambda number: page["get"](url))
        assert [(response.text, err) for response, err in results] == [("fish", None)] * TASKS
        until(lambda: sessions.open == 0)
    assert crowd.most == TASKS


def test_aiohttp() -> None:
    crowd = Crowd()
    with serving(crowd) as server:
        url = f"http://127.0.0.1:{server.port}/"
        crowd.open()
        page = defined("aiohttp", URL=url)
        crowd.shut()
        results = all_at_once(TASKS, lambda number: bridge.asyncio.run(page["get"](url), timeout=WITHIN))
    assert results == [("fish", None)] * TASKS
    assert crowd.most == TASKS
