"""The code of docs/libraries.md runs against real servers, and the loop turns while it waits for them."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from silly import bridge, task, time
from tests.helpers import serving
from tests.net.support import until
from tests.servers import mariadb as mariadb_server

from .support import ENOUGH, PAGE, WAIT, beating, run


def slow(stream: Any) -> None:
    """Answers a request after ``WAIT`` ms."""
    time.sleep(WAIT)
    stream.respond(200)
    stream.close("fish")


# ---- bridge.socket -------------------------------------------------------------------


def test_redis(redis_server: Any) -> None:
    page = run("redis-py", HOST=redis_server.host, PORT=redis_server.port)
    client, pool = page["store"], page["store"].connection_pool
    try:
        assert page["nothing"] is None
        client.set("fish", "cod")
        assert client.get("fish") == b"cod"
        with client.pipeline() as pipeline:
            assert pipeline.incr("n").incr("n").delete("n").execute() == [1, 2, 1]
        assert len(pool._available_connections) == 1, "each call gives its connection back"
        assert page["locked"]("lock", lambda: client.get("lock") is not None)
        assert client.get("lock") is None
    finally:
        pool.disconnect()


def test_redis_tasks_that_want_the_same_lock(redis_server: Any) -> None:
    page = run("redis-py", HOST=redis_server.host, PORT=redis_server.port)
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(1)
        inside -= 1

    with time.deadline(20_000), task.group() as group:
        for _ in range(3):
            group.fork(page["locked"], "lock", work)
    assert (inside, most) == (0, 1)
    page["store"].connection_pool.disconnect()


@pytest.mark.parametrize("parser", ["_HiredisParser", "_RESP3Parser"])
def test_redis_messages_with_a_time_out(redis_server: Any, parser: str) -> None:
    """With both parsers: hiredis polls in its own way."""
    import redis
    import redis._parsers

    page = run("redis-py", HOST=redis_server.host, PORT=redis_server.port)
    pool = page["Pool"](host=redis_server.host, port=redis_server.port, parser_class=getattr(redis._parsers, parser))
    client = redis.Redis(connection_pool=pool)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    try:
        pubsub.subscribe("fish")
        until(lambda: client.pubsub_numsub("fish") == [(b"fish", 1)])
        while pubsub.get_message():
            pass
        with beating() as beats:
            assert pubsub.get_message(timeout=WAIT / 1000) is None
        assert beats.count >= ENOUGH
        time.after(20, client.publish, "fish", "cod")
        assert pubsub.get_message(timeout=20)["data"] == b"cod"
        with pytest.raises((TimeoutError, redis.TimeoutError)), time.deadline(20):
            while pubsub.get_message(timeout=20) is None:
                pass  # it would spin here, if nothing were raised
    finally:
        pubsub.close()
        pool.disconnect()
        page["store"].connection_pool.disconnect()


def test_redis_retries(redis_server: Any) -> None:
    """A server that is not there: the pauses between the attempts are ours."""
    import redis

    page = run("redis-py", HOST=redis_server.host, PORT=redis_server.port)
    page["store"].connection_pool.disconnect()
    retry = redis.retry.Retry(page["Backoff"](cap=WAIT / 1000, base=WAIT / 1000), 1)
    pool = page["Pool"](host="127.0.0.1", port=1)
    pool.connection_kwargs["retry"] = retry
    with beating() as beats, pytest.raises(redis.ConnectionError):
        redis.Redis(connection_pool=pool).ping()
    assert beats.count >= ENOUGH
    assert pool.places.acquire(0)[0], "the place of a connection that fails is free again"


@pytest.mark.parametrize("secure", [False, True])
def test_pymysql(mariadb: Any, secure: bool) -> None:
    context = None
    if secure:
        context = bridge.socket.create_default_context(cafile=str(mariadb.folder / "ca.pem"))
    given = {"HOST": mariadb.host, "PORT": mariadb.port, "USER": mariadb_server.USER, "PASSWORD": mariadb_server.PASSWORD}
    page = run("PyMySQL", **given, TLS=context)
    with page["conns"] as conns:
        assert page["row"] == (0, "Ada")
        with conns.take() as conn, conn.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
            assert bool(cursor.fetchone()[1]) is secure
        assert conns.open == 1
    until(lambda: conns.open == 0)


def test_pymysql_deadline(mariadb: Any) -> None:
    import pymysql

    given = {"HOST": mariadb.host, "PORT": mariadb.port, "USER": mariadb_server.USER, "PASSWORD": mariadb_server.PASSWORD}
    page = run("PyMySQL", **given, TLS=None)
    with page["conns"] as conns:
        with pytest.raises(pymysql.OperationalError), time.deadline(20), conns.take() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT SLEEP(10)")
        until(lambda: conns.open == 0)


def test_psycopg(postgres: Any) -> None:
    page = run("psycopg", CONNINFO=postgres.conninfo)
    assert page["row"][0] == "Ada"
    assert page["conn"].closed


def test_sqlalchemy(mariadb: Any) -> None:
    given = {"HOST": mariadb.host, "PORT": mariadb.port, "USER": mariadb_server.USER, "PASSWORD": mariadb_server.PASSWORD}
    page = run("SQLAlchemy", **given)
    assert tuple(page["row"]) == (0, "Ada")
    with page["conns"] as conns:
        assert (conns.open, conns.idle) == (1, 1)
    until(lambda: conns.open == 0)
    page["engine"].dispose()


def test_sqlalchemy_with_psycopg(postgres: Any) -> None:
    import sqlalchemy
    import sqlalchemy.orm
    from sqlalchemy.pool import NullPool

    def connect() -> Any:
        return bridge.psycopg.connect(postgres.conninfo)

    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    with beating() as beats, engine.connect() as conn, sqlalchemy.orm.Session(conn) as session:
        assert session.execute(sqlalchemy.text(f"SELECT 'Ada', pg_sleep({WAIT / 1000})")).one()[0] == "Ada"
    assert beats.count >= ENOUGH
    engine.dispose()


def test_smtplib(mail_server: Any) -> None:
    host, port, mails = mail_server
    page = run("smtplib", HOST=host, PORT=port)
    assert page["refused"] == {}
    assert mails.taken.pop() == b"Subject: fish\r\n\r\nHello!\r\n"


def test_http_client() -> None:
    with serving(slow) as server:
        page = run("http.client", HOST="127.0.0.1", PORT=server.port)
    assert (page["answer"].status, page["text"]) == (200, "fish")


def test_imaplib(imap_server: Any) -> None:
    page = run("imaplib", HOST="127.0.0.1", PORT=imap_server.port)
    assert (page["kind"], page["count"]) == ("OK", [b"3"])


# ---- task.thread ---------------------------------------------------------------------


def test_requests() -> None:
    ended: list[str] = []

    def handler(stream: Any) -> None:
        slow(stream)
        ended.append(stream.path)

    with serving(handler) as server:
        page = run("requests", URL=f"http://127.0.0.1:{server.port}/")
        with page["sessions"] as sessions:
            assert (page["err"], page["response"].text) == (None, "fish")
            assert (sessions.open, sessions.idle) == (1, 1)
            with time.deadline(WAIT // 3):
                response, err = page["get"](f"http://127.0.0.1:{server.port}/")
            assert (response, sessions.idle) == (None, 0), "its thread still uses the session"
            assert "deadline" in err
        until(lambda: sessions.open == 0)
        until(lambda: len(ended) == 2)


def test_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto takes the place of the network."""
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        page = run("boto3")
    assert page["err"] is None
    assert page["received"]["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "fish" in page["queue"]["QueueUrl"]


# ---- bridge.asyncio ------------------------------------------------------------------


def test_aiohttp() -> None:
    with serving(slow) as server:
        page = run("aiohttp", URL=f"http://127.0.0.1:{server.port}/")
    assert (page["text"], page["err"]) == ("fish", None)


def test_asyncpg(postgres: Any) -> None:
    page = run("asyncpg", HOST=postgres.host, PORT=postgres.port)
    assert page["err"] is None
    assert page["rows"][0][0] == "Ada"


def test_redis_asyncio(redis_server: Any) -> None:
    page = run("redis.asyncio", HOST=redis_server.host, PORT=redis_server.port)
    assert (page["fish"], page["nothing"], page["err"]) == (b"cod", None, None)


# ---- its own thread ------------------------------------------------------------------


def test_paho(mosquitto: Any) -> None:
    page = run("paho-mqtt", HOST=mosquitto.host, PORT=mosquitto.port)
    assert (page["first"], page["message"], page["err"]) == ("subscribing", b"cod", None)
    del page["client"]  # its finalizer closes its pipe, but not if a cycle of it and the page's functions is collected


# ---- the table -----------------------------------------------------------------------


def test_the_versions_that_the_table_names() -> None:
    """Those in use are no older, and the extra ``test`` asks for them."""
    table = PAGE.split("| library |", 1)[1].split("\n\n", 1)[0]
    told = dict(re.findall(r"([\w-]+) (\d+(?:\.\d+)+)", table))
    assert len(told) == 10
    setup = (Path(__file__).resolve().parents[2] / "setup.cfg").read_text()
    for name, version in told.items():
        used = metadata.version(name)
        assert [int(part) for part in re.findall(r"\d+", used)] >= [int(part) for part in version.split(".")], (name, used)
        assert re.search(rf"^test =\n(?:    .*\n)*?    {name}(\[\w+\])?>=", setup, re.MULTILINE), name


def test_each_library_has_a_row_and_a_section() -> None:
    rows = re.findall(r"^\| \[(.*?)\]\(#(.*?)\)", PAGE, re.MULTILINE)
    sections = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == sections[:-2]
    assert [anchor for _, anchor in rows] == [re.sub(r"[^\w-]", "", name.lower()) for name in sections[:-2]]
