"""``bridge.psycopg``: psycopg's own API on the loop."""

from __future__ import annotations

import inspect
import random
import socket
import subprocess
import sys
import threading
import time as std_time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.adapt import Dumper
from psycopg.rows import dict_row

from silly import bridge, task, time
from silly._core import scheduler
from silly._core.scheduler import Cancelled
from silly.bridge import _postgres_hosts
from silly.bridge._postgres_hosts import looked_up
from silly.testing import _left
from tests.conftest import Logs
from tests.helpers import turn
from tests.servers import free_port
from tests.servers.postgres import PASSWORD, Postgres

from .postgres import WITHIN, connected, observer

PRIVATE: dict[Any, dict[str, str]] = {
    psycopg.Connection: {
        "_connect_gen": "(conninfo: 'str' = '') -> 'PQGenConn[Self]'",
        "_get_connection_params": "(conninfo: 'str', **kwargs: 'Any') -> 'ConnDict'",
        "_commit_gen": "(self) -> 'PQGen[None]'",
        "_rollback_gen": "(self) -> 'PQGen[None]'",
        "_cancel_gen": "(self) -> 'PQGenConn[None]'",
        "_try_cancel": "(self, *, timeout: 'float' = 5.0) -> 'None'",
        "_should_cancel": "(self) -> 'bool'",
        "_check_connection_ok": "(self) -> 'None'",
        "wait": "(self, gen: 'PQGen[RV]', interval: 'float' = 0.1, timeout: 'float | None' = None) -> 'RV'",
    },
    psycopg.Transaction: {
        "_check_enter": "(self) -> 'None'",
        "_enter_gen": "(self) -> 'PQGen[None]'",
        "_exit_gen": "(self, exc_type: 'type[BaseException] | None', exc_val: 'BaseException | None', "
        "exc_tb: 'TracebackType | None') -> 'PQGen[bool]'",
    },
    psycopg._preparing.PrepareManager: {"maintain_gen": "(self, conn: 'BaseConnection[Any]') -> 'PQGen[None]'"},
    psycopg.ServerCursor: {"_close_gen": "(self) -> 'PQGen[None]'", "_close": "(self) -> 'None'"},
    psycopg._conninfo_utils: {
        "get_param": "(params: 'ConnMapping', name: 'str') -> 'str | None'",
        "split_attempts": "(params: 'ConnMapping') -> 'list[ConnDict]'",
    },
}
"""What the bridge uses of psycopg that is private, or not in its manual. Its attributes ``_pipeline``, ``_tpc``,
``_num_transactions`` and ``_prepared`` are below. If this changes, read the new code before you change this."""


def test_the_private_names_of_psycopg(postgres: Postgres) -> None:
    for owner, names in PRIVATE.items():
        for name, signature in names.items():
            assert str(inspect.signature(getattr(owner, name))) == signature, (owner, name)
    assert issubclass(errors._WaitTimeout, psycopg.OperationalError)
    with connected(postgres) as conn:
        assert (conn._pipeline, conn._tpc, conn._num_transactions) == (None, None, 0)
        assert conn._prepared.clear() is False
        with conn.pipeline():
            assert conn.pgconn.pipeline_status == 1


# ---- connecting --------------------------------------------------------------------------------------------------------


def test_ways_to_connect(postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = tmp_path / "services"
    service.write_text(f"# ours\n[shop]\nhost=localhost\nport={postgres.port}\nuser=postgres\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    url = f"postgresql://postgres@localhost:{postgres.port}/postgres"
    closed = free_port()
    for arguments in (
        {"conninfo": postgres.conninfo},
        {"conninfo": postgres.local},
        {"conninfo": url},
        {"conninfo": "service=shop"},
        {"conninfo": "user=postgres dbname=postgres", "host": "localhost,127.0.0.1", "port": f"{closed},{postgres.port}"},
        {"conninfo": "user=postgres dbname=postgres", "host": "no-such-host.invalid,127.0.0.1", "port": postgres.port},
    ):
        with bridge.psycopg.connect(**arguments) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
            assert isinstance(conn, psycopg.Connection)
            assert "silly.bridge.psycopg.Connection" in repr(conn)
    with bridge.psycopg.connect(url, autocommit=True, prepare_threshold=None, row_factory=dict_row) as conn:
        assert (conn.autocommit, conn.prepare_threshold) == (True, None)
        assert conn.execute("select 1 as one").fetchone() == {"one": 1}


def test_scram_and_tls(postgres: Postgres) -> None:
    """The name of the host is checked, though its address was looked up before."""
    ca = postgres.folder / "ca.pem"
    info = f"host=localhost port={postgres.port} dbname=postgres user=scram sslmode=verify-full sslrootcert={ca}"
    with bridge.psycopg.connect(info, password=PASSWORD) as conn:
        assert conn.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (True,)
        with pytest.raises(TimeoutError), time.deadline(50):
            conn.execute("select pg_sleep(60)")
        conn.rollback()  # the cancel took the same way
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        bridge.psycopg.connect(info, password="wrong")


def test_errors_of_connecting(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"failed to resolve host 'no-such-host\.invalid'"):
        bridge.psycopg.connect("host=no-such-host.invalid")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        bridge.psycopg.connect(f"host=127.0.0.1 port={free_port()}")
    with pytest.raises(psycopg.OperationalError, match="could not match"):
        bridge.psycopg.connect("host=a,b hostaddr=127.0.0.1")
    with pytest.raises(psycopg.ProgrammingError):
        bridge.psycopg.connect("nonsense")
    with task.no_switch(), pytest.raises(RuntimeError, match=r"bridge\.psycopg\.connect: may wait"):
        bridge.psycopg.connect(postgres.conninfo)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = scheduler.loop.turns
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            bridge.psycopg.connect(f"host=127.0.0.1 port={silent.getsockname()[1]} user=x connect_timeout=2")
        assert scheduler.loop.turns > before


def test_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stop nobody, and each address of each host is tried, with its own port."""
    found = {"a": ["192.0.2.1", "192.0.2.2"], "b": ["192.0.2.3"]}
    go = threading.Event()

    def getaddrinfo(host: str, *rest: Any) -> list[Any]:
        go.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in found[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    job = task.fork(looked_up, {"host": "a,/tmp,b", "port": "1,2,3"})
    turn(20)
    assert not job.done
    go.set()
    expected = {"host": "a,a,/tmp,b", "hostaddr": "192.0.2.1,192.0.2.2,,192.0.2.3", "port": "1,1,2,3"}
    assert job.join(WITHIN) == (expected, None)
    assert looked_up({"host": "a", "hostaddr": "::1", "port": "7"})["hostaddr"] == "::1"
    assert looked_up({"host": "/tmp"}) == {"host": "/tmp"}


def test_a_name_server_that_hangs(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name has its time: the next one is looked up all the same. A deadline ends it at once."""
    go, asked = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any) -> Any:
        return go.wait(10) if host == "hangs" else asked(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(_postgres_hosts, "timeout_from_conninfo", lambda params: 0.1)
    with bridge.psycopg.connect(f"host=hangs,localhost port={postgres.port} user=postgres dbname=postgres") as conn:
        assert conn.info.host == "localhost"
    with pytest.raises(errors.ConnectionTimeout, match="the look-up of host 'hangs' took too long"):
        bridge.psycopg.connect("host=hangs")
    with pytest.raises(TimeoutError, match="the look-up of hangs"), time.deadline(10):
        bridge.psycopg.connect("host=hangs")
    go.set()


# ---- psycopg's features ------------------------------------------------------------------------------------------------


def test_fifty_at_once(postgres: Postgres) -> None:
    begin, ticks = std_time.monotonic(), [0]

    def tick() -> None:
        while True:
            time.sleep(10)
            ticks[0] += 1

    ticker = task.fork(tick)

    def work(number: int) -> Any:
        with connected(postgres) as conn:
            return conn.execute("select %s::int, pg_sleep(0.4)", (number,)).fetchone()[0]

    assert list(task.map(work, range(50), 50)) == list(range(50))
    assert std_time.monotonic() - begin < 15  # and not 20
    assert ticks[0] > 10  # the loop never stood still for long
    ticker.cancel()


def test_copy(postgres: Postgres) -> None:
    with connected(postgres) as conn:
        conn.execute("create temp table t (n int, s text)")
        before = scheduler.loop.turns
        with conn.cursor().copy("copy t from stdin") as copy:
            for number in range(20_000):
                copy.write_row((number, "x" * 100))
        with conn.cursor().copy("copy t to stdout (format binary)") as copy:
            copy.set_types(["int4", "text"])
            assert sum(row[0] for row in copy.rows()) == sum(range(20_000))
        assert scheduler.loop.turns - before > 10
        with pytest.raises(ZeroDivisionError), conn.cursor().copy("copy t from stdin") as copy:
            copy.write_row((1, 1 / 0))
        conn.rollback()


def test_statements(postgres: Postgres) -> None:
    with connected(postgres) as conn:
        assert [conn.execute("select %s + 1", (n,), prepare=True).fetchone()[0] for n in range(10)] == list(range(1, 11))
        assert conn.execute("select %s::bytea", (b"\0\xff",), binary=True).fetchone() == (b"\0\xff",)
        with conn.pipeline() as pipeline:
            cursors = [conn.execute("select %s::int", (n,)) for n in range(50)]
            pipeline.sync()
            assert [cursor.fetchone()[0] for cursor in cursors] == list(range(50))
        with conn.cursor("many") as cursor:
            cursor.execute("select generate_series(1, 1000)")
            assert cursor.fetchone() == (1,)
            assert len(list(cursor)) == 999
        cursor = conn.cursor()
        cursor.executemany("select %s::int", [(n,) for n in range(3)], returning=True)
        assert [each.fetchone() for each in cursor.results()] == [(0,), (1,), (2,)]
        assert [n for (n,) in conn.cursor().stream("select generate_series(1, 3)")] == [1, 2, 3]


def test_transactions_and_errors(postgres: Postgres) -> None:
    with connected(postgres) as conn:
        with pytest.raises(psycopg.errors.UndefinedTable), conn.transaction():
            conn.execute("select * from nowhere")
        with conn.transaction() as outer:
            conn.execute("create temp table t (n int)")
            with conn.transaction() as inner:
                conn.execute("insert into t values (1)")
                raise psycopg.Rollback(inner)
            with conn.transaction(force_rollback=True):
                conn.execute("insert into t values (2)")
            assert conn.execute("select count(*) from t").fetchone() == (0,)
            assert outer.connection is conn
        with conn.pipeline(), conn.transaction():
            conn.execute("insert into t values (3)")
        with pytest.raises(psycopg.errors.UniqueViolation), conn.transaction():
            conn.execute("create unique index on t (n)")
            conn.execute("insert into t values (3)")
        xid = conn.xid(1, "whole", "x")
        conn.commit()
        conn.tpc_begin(xid)
        conn.execute("select 1")
        conn.tpc_rollback()
        conn.autocommit = True
        conn.read_only = True
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert conn.adapters is not psycopg.adapters
    with pytest.raises(psycopg.OperationalError, match="the connection is closed"):
        conn.execute("select 1")
    conn.close()


def test_a_dumper_that_raises(postgres: Postgres) -> None:
    """RuntimeError too, which here is no sign that the task can't wait."""

    class Bad:
        pass

    class BadDumper(Dumper):
        def dump(self, obj: Any) -> bytes:
            raise RuntimeError("bad")

    with connected(postgres, autocommit=True) as conn:
        conn.adapters.register_dumper(Bad, BadDumper)
        with conn.pipeline():
            with pytest.raises(RuntimeError, match="bad"):
                conn.execute("select %s", (Bad(),))
            assert conn.execute("select 1").fetchone() == (1,)


def test_the_server_ends_the_connection(postgres: Postgres) -> None:
    with observer(postgres) as seen, connected(postgres) as conn:
        job = task.fork(lambda: conn.execute("select pg_sleep(60)"))
        seen.until_running()
        seen.ask("select pg_terminate_backend(%s)", conn.info.backend_pid)
        with pytest.raises(psycopg.errors.AdminShutdown):
            job.join(WITHIN)


def test_two_thousand_queries_leave_nothing(postgres: Postgres) -> None:
    with connected(postgres, autocommit=True) as conn:
        conn.execute("select 1")
        before = _left.found().counts
        for number in range(2000):
            assert conn.execute("select %s::int", (number,)).fetchone() == (number,)
        assert _left.found().counts == before


def test_a_connection_that_is_dropped(postgres: Postgres) -> None:
    conn = bridge.psycopg.connect(postgres.conninfo)
    conn.execute("select 1")
    held = [conn]
    del conn
    with pytest.warns(ResourceWarning, match="was deleted while still open"):
        held.clear()


@pytest.fixture
def table(postgres: Postgres) -> Iterator[str]:
    with psycopg.connect(postgres.conninfo) as conn:
        conn.execute("create table sums (n int primary key, total bigint)")
        conn.execute("insert into sums select n, 0 from generate_series(0, 9) n")
    yield "sums"
    with psycopg.connect(postgres.conninfo) as conn:
        conn.execute("drop table sums")


@pytest.mark.parametrize("seed", range(3))
def test_blows_at_random(postgres: Postgres, table: str, seed: int, logs: Logs) -> None:
    """No answer belongs to another task, and each transaction has its effect whole, or not at all."""
    rng = random.Random(seed)
    low, high = [0], [0]  # bounds of what was committed

    def work(conn: Any, shared: Any) -> None:
        for _ in range(12):
            number = rng.randrange(10**6)
            try:
                with time.deadline(rng.choice((1, 2, 4, 8, 1000))):
                    what = rng.randrange(3)
                    if what == 0:
                        assert shared.execute("select %s::int", (number,)).fetchone() == (number,)
                    elif what == 1:
                        assert shared.execute("select %s::int, pg_sleep(0.003)", (number,)).fetchone()[0] == number
                    else:
                        one, other = rng.sample(range(10), 2)
                        high[0] += 1
                        made = 100 + high[0]
                        with conn.transaction():
                            conn.execute("update sums set total = total + 1 where n = %s", (min(one, other),))
                            conn.execute("update sums set total = total - 1 where n = %s", (max(one, other),))
                            conn.execute("insert into sums values (%s, 0)", (made,))
                        low[0] += 1
            except TimeoutError:
                pass

    def alone(shared: Any) -> None:
        with connected(postgres) as conn:
            for _ in range(10):
                try:
                    work(conn, shared)
                    break
                except Cancelled:
                    pass  # and then it goes on
            assert conn.execute("select 1").fetchone() == (1,)

    with connected(postgres, autocommit=True) as shared:
        jobs = [task.fork(alone, shared) for _ in range(6)]
        for _ in range(6):
            time.sleep(rng.randrange(1, 15))
            rng.choice(jobs).cancel()
        for job in jobs:
            job.join(WITHIN)
        assert shared.execute("select 7").fetchone() == (7,)
    with psycopg.connect(postgres.conninfo) as conn:
        assert conn.execute("select sum(total) from sums").fetchone() == (0,)
        made = conn.execute("select count(*) from sums where n > 100").fetchone()
        assert made is not None
        assert low[0] <= made[0] <= high[0]


def test_psycopgs_connection_for_asyncio(postgres: Postgres) -> None:
    async def ask() -> Any:
        async with await psycopg.AsyncConnection.connect(postgres.conninfo) as conn:
            return await (await conn.execute("select 1")).fetchone()

    assert bridge.asyncio.run(ask()) == ((1,), None)


# ---- the pool ----------------------------------------------------------------------------------------------------------


def test_a_pool(postgres: Postgres, logs: Logs) -> None:
    logs.expect("came back in a transaction, which is rolled back")
    with observer(postgres) as seen, bridge.psycopg.pool(postgres.conninfo, max_open=3) as db:

        def work(number: int) -> Any:
            with db.take() as conn, conn.transaction():
                return conn.execute("select %s::int, pg_sleep(0.01)", (number,)).fetchone()[0]

        assert list(task.map(work, range(30), 30)) == list(range(30))
        assert db.open == 3
        with db.take() as conn:
            pid = conn.info.backend_pid
            conn.execute("begin")
            conn.execute("create table left_open (n int)")
        with db.take() as conn:
            assert conn.info.backend_pid == pid
            assert conn.execute("select to_regclass('left_open')").fetchone() == (None,)
        seen.ask("select pg_terminate_backend(%s)", pid)
        seen.ask("select pg_sleep(0.05)")
        with db.take() as conn:
            assert conn.execute("select 1").fetchone() == (1,)
        with pytest.raises(TimeoutError), time.deadline(50), db.take() as conn:
            conn.execute("select pg_sleep(60)")
        seen.until_running(0)
        with db.take() as conn:
            conn.close()
        assert db.open <= 2
    with pytest.raises(ValueError, match="max_open"):
        bridge.psycopg.pool(max_open=0)
    with bridge.psycopg.pool(f"host=127.0.0.1 port={free_port()}") as db, pytest.raises(psycopg.OperationalError):
        db.get()


def caught(conn: Any) -> None:
    with pytest.raises(TimeoutError), time.deadline(20):
        conn.execute("select pg_sleep(60)")


def caught_in_a_block(conn: Any) -> None:
    with pytest.raises(TimeoutError), time.deadline(20), conn.transaction():
        conn.execute("select pg_sleep(60)")


def two_phase(conn: Any) -> None:
    conn.tpc_begin(conn.xid(1, "left", "x"))


def in_a_block(conn: Any) -> Any:
    block = conn.transaction()
    block.__enter__()
    return block


def in_a_pipeline(conn: Any) -> Any:
    block = conn.pipeline()
    block.__enter__()
    return block


@pytest.mark.parametrize("leave", [caught, caught_in_a_block, two_phase, in_a_block, in_a_pipeline])
def test_what_comes_back_to_a_pool_serves_the_next_one(postgres: Postgres, leave: Any) -> None:
    with bridge.psycopg.pool(postgres.conninfo, max_open=1, autocommit=False) as db:
        with db.take() as conn:
            pid = conn.info.backend_pid
            left = leave(conn)
        with db.take() as conn:
            assert (conn.info.backend_pid == pid) is (leave in (caught, caught_in_a_block))
            assert conn.execute("select 1").fetchone() == (1,)
            assert conn.pgconn.pipeline_status == 0
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            conn.commit()
        del left


def test_a_notification_that_comes_while_the_connection_is_idle(postgres: Postgres) -> None:
    with observer(postgres) as seen, bridge.psycopg.pool(postgres.conninfo, max_open=1) as db:
        with db.take() as conn:
            conn.execute("listen idle")
            fd = conn.fileno()
        seen.conn.execute("notify idle, 'news'")
        assert bridge.descriptor.wait(fd, bridge.descriptor.READ, WITHIN) == (bridge.descriptor.READ, None)
        with db.take() as conn:
            assert [each.payload for each in conn.notifies(timeout=5, stop_after=1)] == ["news"]


# ---- what is missing ---------------------------------------------------------------------------------------------------


def test_another_thread(postgres: Postgres) -> None:
    with connected(postgres) as conn:

        def use(func: Any) -> str:
            with pytest.raises(RuntimeError) as caught:
                func()
            return str(caught.value)

        for func in (lambda: bridge.psycopg.connect(postgres.conninfo), lambda: conn.execute("select 1"), conn.close):
            assert "called from another thread" in task.thread(use, func)[0]
        said = task.thread(use, lambda: bridge.psycopg.connect(postgres.conninfo))[0]
        assert said.startswith("bridge.psycopg.connect: called from another thread")
        assert conn.execute("select 1").fetchone() == (1,)


MISSING = """
import sys, types
what = sys.argv[1]
if what == "missing":
    sys.modules["psycopg"] = None
elif what == "old":
    sys.modules["psycopg"] = types.SimpleNamespace(__version__="3.2.1")
else:
    import psycopg
    psycopg.capabilities.has_cancel_safe = lambda check=False: False
from silly import bridge
try:
    bridge.psycopg
except ImportError as exc:
    print(exc)
"""


@pytest.mark.parametrize(
    ("what", "words"),
    [("missing", "needs psycopg 3.3: pip"), ("old", "and this is 3.2.1: pip"), ("libpq", "libpq 17 or newer")],
)
def test_psycopg_is_not_there(what: str, words: str) -> None:
    said = subprocess.run([sys.executable, "-c", MISSING, what], capture_output=True, text=True, timeout=60, check=True).stdout
    assert words in said
    assert "pip install 'silly-runtime[postgres]'" in said
