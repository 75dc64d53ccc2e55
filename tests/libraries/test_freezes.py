"""What docs/libraries.md warns of is true: these calls hold up every task.

Each is bounded by a time-out of its own, but for SQLAlchemy's lock, which is never released: that one is in a child process,
and a thread of it ends it.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

from silly import bridge, time
from tests.children import in_thread
from tests.helpers import serving
from tests.servers import mariadb as mariadb_server

from .support import WAIT, stands_still

SECONDS = WAIT / 1000


def connection() -> Any:
    """The class of the page's connections to Redis, without what it does against polling."""
    import redis

    class Connection(redis.Connection):
        def _connect(self) -> Any:
            return bridge.socket.create_connection((self.host, self.port), 5)

    return Connection


def test_the_blocking_pool_of_redis(redis_server: Any) -> None:
    import redis

    pool = redis.BlockingConnectionPool(
        max_connections=1, timeout=SECONDS, connection_class=connection(), host=redis_server.host, port=redis_server.port
    )
    taken = pool.get_connection()
    time.after(WAIT // 3, pool.release, taken)  # too late, though it is in time

    def wants() -> None:
        with pytest.raises(redis.ConnectionError, match="No connection available"):
            pool.get_connection()

    stands_still(wants)
    pool.disconnect()


def test_the_lock_of_redis(redis_server: Any) -> None:
    import redis

    pool = redis.ConnectionPool(connection_class=connection(), host=redis_server.host, port=redis_server.port)
    client = redis.Redis(connection_pool=pool)
    with client.lock("held", timeout=10, thread_local=False):
        stands_still(lambda: client.lock("held", sleep=SECONDS).acquire(blocking_timeout=SECONDS * 1.5))
    pool.disconnect()


def test_a_retry_of_redis() -> None:
    import redis
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    retry = Retry(ConstantBackoff(SECONDS), 1)
    pool = redis.ConnectionPool(connection_class=connection(), host="127.0.0.1", port=1, retry=retry)

    def ping() -> None:
        with pytest.raises(redis.ConnectionError):
            redis.Redis(connection_pool=pool, retry=retry).ping()

    stands_still(ping)


def test_a_message_of_redis_with_a_time_out(redis_server: Any) -> None:
    """It is hiredis that polls."""
    import redis
    from redis._parsers import _HiredisParser

    pool = redis.ConnectionPool(
        connection_class=connection(), host=redis_server.host, port=redis_server.port, parser_class=_HiredisParser
    )
    pubsub = redis.Redis(connection_pool=pool).pubsub()
    pubsub.subscribe("fish")
    assert pubsub.get_message(timeout=10)["type"] == "subscribe"
    stands_still(lambda: pubsub.get_message(timeout=SECONDS))
    pubsub.close()
    pool.disconnect()


def test_a_context_that_pymysql_makes(mariadb: Any) -> None:
    """Without ``ssl`` and ``ssl_disabled`` it turns to TLS by itself, where the server has that."""
    import pymysql

    conn = pymysql.connect(user=mariadb_server.USER, password=mariadb_server.PASSWORD, defer_connect=True)
    conn.connect(bridge.socket.create_connection((mariadb.host, mariadb.port), 5))
    with conn, conn.cursor() as cursor:
        stands_still(lambda: cursor.execute(f"SELECT SLEEP({SECONDS})"))


def test_a_connection_of_psycopg_itself(postgres: Any) -> None:
    import psycopg

    with psycopg.connect(postgres.conninfo) as conn:
        stands_still(lambda: conn.execute(f"SELECT pg_sleep({SECONDS})"))


def test_requests_outside_of_a_thread() -> None:
    """The server is in the same thread, so it has no chance to answer."""
    import requests

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.close("fish")

    def get() -> None:
        with pytest.raises(requests.Timeout):
            requests.get(f"http://127.0.0.1:{server.port}/", timeout=SECONDS)

    with serving(handler) as server:
        stands_still(get)


def test_the_queue_of_sqlalchemy() -> None:
    import sqlalchemy
    from sqlalchemy.pool import QueuePool

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(":memory:", check_same_thread=False)

    engine = sqlalchemy.create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=SECONDS
    )
    taken = engine.connect()
    time.after(WAIT // 3, taken.close)  # too late, though it is in time

    def wants() -> None:
        with pytest.raises(sqlalchemy.exc.TimeoutError, match="QueuePool limit"):
            engine.connect()

    stands_still(wants)
    taken.close()
    engine.dispose()


FIRST = """
import os, sys, threading, traceback
import pymysql, sqlalchemy
from sqlalchemy.pool import NullPool
from silly import bridge, task

host, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
main = threading.get_ident()

def connect():
    conn = pymysql.connect(user=user, password=password, ssl_disabled=True, defer_connect=True)
    conn.connect(bridge.socket.create_connection((host, port), 5))
    return conn

def look():
    frames = traceback.extract_stack(sys._current_frames()[main])
    print("stands at", *(frame.name for frame in frames[-3:]), flush=True)
    os._exit(3)

conns = [connect(), connect()]
engine = sqlalchemy.create_engine("mysql+pymysql://", creator=conns.pop, poolclass=NullPool)

@sqlalchemy.event.listens_for(engine, "connect")
def slow(conn, record):     # its own questions may be answered before it looks
    with conn.cursor() as cursor:
        cursor.execute("SELECT SLEEP(0.2)")

watch = threading.Timer(1, look)
watch.daemon = True
watch.start()
tasks = [task.fork(engine.connect) for _ in range(2)]
for t in tasks:
    print(t.join())
print("done")
os._exit(0)
"""


def test_the_lock_of_sqlalchemy_s_first_connection(mariadb: Any) -> None:
    user = (mariadb_server.USER, mariadb_server.PASSWORD)
    command = [sys.executable, "-c", FIRST, mariadb.host, str(mariadb.port), *user]
    done = in_thread(lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False))
    assert done.returncode == 3, done.stderr
    assert re.fullmatch(r"(.* held the loop for .*/sqlalchemy/event/attr\.py:.*\n)?", done.stderr), done.stderr
    assert re.fullmatch(r"stands at .*_exec_w_sync_on_first_run\n", done.stdout), done.stdout
