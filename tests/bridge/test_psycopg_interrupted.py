"""``bridge.psycopg``: what a deadline, a cancel, a close and the process's end do to each operation, and to the query."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

from silly import bridge, task, time
from silly._core.scheduler import Cancelled
from silly.bridge import _postgres_cleaning
from tests.children import Child
from tests.conftest import Logs
from tests.helpers import turn
from tests.servers.postgres import Postgres

from .postgres import WITHIN, Observer, connected, observer

Connection = bridge.psycopg.Connection

SLEEP = "select pg_sleep(60)"
SLEEPS_LATER = "select repeat('x', 100000), case n when 3 then pg_sleep(60) end from generate_series(1, 3) n"
"""Its first rows fill the server's buffer, so they come at once."""
SETUP = """
create table slow (n int);
create function sleeps() returns trigger language plpgsql as $$begin perform pg_sleep(60); return new; end$$;
create trigger sleeps before insert on slow for each row execute function sleeps();
create table deferred (n int);
create constraint trigger sleeps after insert on deferred deferrable initially deferred
    for each row execute function sleeps();
create table plain (n int);
"""


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[Postgres]:
    with psycopg.connect(postgres.conninfo) as conn:
        conn.execute(SETUP)
    yield postgres
    with psycopg.connect(postgres.conninfo) as conn:
        conn.execute("drop table slow, deferred, plain; drop function sleeps")


@pytest.fixture
def seen(server: Postgres) -> Iterator[Observer]:
    with observer(server) as found:
        yield found


# ---- what waits --------------------------------------------------------------------------------------------------------


def execute(conn: Connection[Any]) -> None:
    conn.execute(SLEEP)


def prepared(conn: Connection[Any]) -> None:
    for _ in range(3):
        conn.execute("select pg_sleep(%s)", (0,), prepare=True)
    conn.execute("select pg_sleep(%s)", (60,), prepare=True)


def block(conn: Connection[Any]) -> None:
    with conn.transaction():
        conn.execute("insert into plain values (1)")
        with conn.transaction():
            conn.execute(SLEEP)


def stream(conn: Connection[Any]) -> None:
    for _ in conn.cursor().stream(SLEEPS_LATER):
        pass


def copy_out(conn: Connection[Any]) -> None:
    with conn.cursor().copy(f"copy ({SLEEPS_LATER}) to stdout") as copy:
        for _ in copy:
            pass


def copy_in(conn: Connection[Any]) -> None:
    with conn.cursor().copy("copy slow from stdin") as copy:
        for _ in range(1000):
            copy.write(b"1\n" * 10_000)


def server_cursor(conn: Connection[Any]) -> None:
    with conn.cursor("mine") as cursor:
        cursor.execute(SLEEP)
        cursor.fetchone()


def two_phase(conn: Connection[Any]) -> None:
    conn.tpc_begin(conn.xid(1, "begun", "x"))
    conn.execute(SLEEP)


def executemany(conn: Connection[Any]) -> None:
    conn.cursor().executemany("select pg_sleep(%s)", [(60,)] * 2)


def pipeline(conn: Connection[Any]) -> None:
    with conn.pipeline():
        conn.execute("select 1")
        conn.execute(SLEEP).fetchone()


DRAINED = [execute, prepared, block, stream, copy_out, copy_in, server_cursor, two_phase]
CLOSED = [executemany, pipeline]
"""After these the connection is closed."""


# ---- what strikes ------------------------------------------------------------------------------------------------------


def by_deadline(conn: Connection[Any], work: Callable[[Connection[Any]], None], seen: Observer) -> None:
    with pytest.raises(TimeoutError, match="the deadline of 100 ms ran out"), time.deadline(100):
        work(conn)


def by_cancel(conn: Connection[Any], work: Callable[[Connection[Any]], None], seen: Observer) -> None:
    ended = []

    def run() -> None:
        try:
            work(conn)
        except Cancelled:
            ended.append("cancelled")
            raise

    job = task.fork(run)
    seen.until_running()
    turn(2)
    job.cancel()
    assert job.join(WITHIN) == (None, "cancelled")
    assert ended == ["cancelled"]


@pytest.mark.parametrize("strike", [by_deadline, by_cancel])
@pytest.mark.parametrize("work", DRAINED)
def test_the_query_is_cancelled_and_the_connection_can_be_used(
    server: Postgres, seen: Observer, work: Callable[[Connection[Any]], None], strike: Callable[..., None], caplog: Any
) -> None:
    with connected(server) as conn:
        strike(conn, work, seen)
        seen.until_running(0)
        conn.tpc_rollback() if work is two_phase else conn.rollback()
        assert conn.execute("select 42").fetchone() == (42,)
        assert (conn._num_transactions, conn.lock.owed, conn._cleaning) == (0, 0, None)
        with conn.transaction():
            pass
        assert seen.ask("select count(*) from plain") == 0
        assert [each for each in caplog.messages if "error ignored" in each and work is not copy_out] == []


@pytest.mark.parametrize("strike", [by_deadline, by_cancel])
@pytest.mark.parametrize("work", CLOSED)
def test_the_query_is_cancelled_and_the_connection_closed(
    server: Postgres, seen: Observer, work: Callable[[Connection[Any]], None], strike: Callable[..., None]
) -> None:
    with connected(server, autocommit=True) as conn:
        strike(conn, work, seen)
        assert conn.closed
        seen.until_running(0)


@pytest.mark.parametrize("work", [*DRAINED, *CLOSED])
def test_close_while_another_task_waits(server: Postgres, seen: Observer, work: Callable[[Connection[Any]], None]) -> None:
    with connected(server) as conn:

        def run() -> None:
            with pytest.raises(psycopg.OperationalError):
                work(conn)

        job = task.fork(run)
        seen.until_running()
        turn(2)
        waiting = task.fork(run)  # for the lock
        turn(2)
        conn.close()
        assert job.join(WITHIN) == (None, None)
        assert waiting.join(WITHIN) == (None, None)
        seen.until_running(0)


def test_a_pipeline_of_two_tasks_whose_end_is_struck(server: Postgres, seen: Observer) -> None:
    """By the deadline of the one, where it waits for the other."""
    with connected(server, autocommit=True) as conn:

        def other() -> None:
            with pytest.raises(psycopg.OperationalError):
                conn.execute(SLEEP).fetchone()

        with time.deadline(100), pytest.raises(TimeoutError), conn.pipeline():
            job = task.fork(other)
            seen.until_running()
        assert conn.closed
        assert conn._pipeline is None or not conn._pipeline.level
        assert job.join(WITHIN) == (None, None)
        seen.until_running(0)


def test_others_wait_until_the_connection_is_fit(server: Postgres, seen: Observer) -> None:
    with connected(server, autocommit=True) as conn:
        order = []

        def other(number: int) -> None:
            order.append(conn.execute("select %s::int", (number,)).fetchone()[0])

        def struck() -> None:
            with time.deadline(100), pytest.raises(TimeoutError):
                conn.execute(SLEEP)
            order.append("struck")

        job = task.fork(struck)
        seen.until_running()
        others = [task.fork(other, number) for number in range(3)]
        for each in (job, *others):
            each.join(WITHIN)
        assert order == ["struck", 0, 1, 2]


def test_who_waits_for_the_connection_is_struck_at_once(server: Postgres, seen: Observer) -> None:
    with connected(server, autocommit=True) as conn:
        first = task.fork(lambda: conn.execute("select pg_sleep(0.3)"))
        turn(3)
        with pytest.raises(TimeoutError, match="the lock of a PostgreSQL connection"), time.deadline(20):
            conn.execute("select 1")
        second = task.fork(lambda: conn.execute("select 1"))
        turn(2)
        second.cancel()
        assert second.join(WITHIN) == (None, "cancelled")
        assert first.join(WITHIN)[1] is None
        assert conn.execute("select 2").fetchone() == (2,)


def test_an_operation_that_can_not_wait_sends_nothing(server: Postgres, seen: Observer) -> None:
    with connected(server, autocommit=True) as conn, time.deadline(1):
        with pytest.raises(TimeoutError):
            time.sleep(100)
        with pytest.raises(TimeoutError):
            conn.execute("insert into plain values (7)")
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert seen.ask("select count(*) from plain") == 0
        with task.no_switch(), pytest.raises(RuntimeError, match=r"task\.no_switch"):
            conn.execute("select 1")


@pytest.mark.parametrize("end", ["exception", "rollback", "commit", "connection"])
def test_a_transaction_that_is_left_when_its_deadline_is_over_is_rolled_back(
    server: Postgres, seen: Observer, end: str, caplog: Any
) -> None:
    """The deadline strikes outside of psycopg."""
    with connected(server) as conn:

        def late() -> None:
            conn.execute("insert into plain values (8)")
            with pytest.raises(TimeoutError):
                time.sleep(1000)
            if end in ("exception", "connection"):
                raise ValueError
            if end == "rollback":
                raise psycopg.Rollback

        raised = {"commit": pytest.raises(TimeoutError), "rollback": nullcontext()}.get(end, pytest.raises(ValueError))
        with time.deadline(30), raised, conn if end == "connection" else conn.transaction():
            late()
        if end == "connection":
            assert conn.closed
        else:
            assert conn.execute("select count(*) from plain where n = 8").fetchone() == (0,)
            assert conn._num_transactions == 0
            conn.rollback()
        assert caplog.messages == []


def test_rollback_under_a_deadline_that_is_over(server: Postgres, seen: Observer) -> None:
    with connected(server) as conn:
        with time.deadline(100):
            with pytest.raises(TimeoutError):
                conn.execute(SLEEP)
            conn.rollback()
        assert conn.execute("select 1").fetchone() == (1,)
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


@pytest.mark.parametrize("how", ["commit", "block"])
def test_a_commit_that_was_sent_is_not_cancelled(
    server: Postgres, seen: Observer, how: str, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    """But it has not forever: then the connection is closed."""
    monkeypatch.setattr(_postgres_cleaning, "PATIENCE", 200)
    logs.expect("a connection to PostgreSQL was closed after an interrupted query.*200 ms ran out")
    with connected(server) as conn:
        with pytest.raises(TimeoutError), time.deadline(100):
            if how == "commit":
                conn.execute("insert into deferred values (1)")
                conn.commit()
            else:
                with conn.transaction():
                    conn.execute("insert into deferred values (1)")
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select 1")
        assert conn.broken
    seen.ask("select pg_terminate_backend(pid) from pg_stat_activity where query = 'COMMIT' and state = 'active'")
    seen.until_running(0)


def test_a_commit_of_a_connection_that_is_closed_is_not_cancelled(server: Postgres, seen: Observer, caplog: Any) -> None:
    """What awaits it does not touch the descriptor, which is another connection's at once."""
    seen.conn.execute(
        "create function naps() returns trigger language plpgsql as $$begin perform pg_sleep(0.2); return new; end$$"
    )
    seen.conn.execute("create table kept (n int)")
    seen.conn.execute(
        "create constraint trigger naps after insert on kept deferrable initially deferred for each row execute function naps()"
    )
    with pytest.raises(TimeoutError), time.deadline(100), bridge.psycopg.connect(server.conninfo) as conn:
        fd = conn.fileno()
        conn.execute("insert into kept values (1)")
    with connected(server) as conn:
        assert conn.fileno() == fd
        conn.execute("select 1")
    seen.until_running(0)
    assert seen.ask("select count(*) from kept") == 1
    seen.conn.execute("drop table kept; drop function naps")
    assert caplog.messages == []


def test_statements_that_are_prepared_after_an_interrupt(server: Postgres, seen: Observer) -> None:
    with connected(server, autocommit=True) as conn:
        for end in (conn.rollback, lambda: conn.execute("rollback")):
            for begin in ("select 1", "begin"):
                conn.execute("select 1", prepare=True)
                conn.execute(begin)
                with pytest.raises(TimeoutError), time.deadline(20):
                    conn.execute(SLEEP)
                end()
                for _ in range(3):
                    assert conn.execute("select %s + 1", (1,), prepare=True).fetchone() == (2,)
        assert conn.execute("select count(*) from pg_prepared_statements").fetchone() == (1,)


def test_a_commit_that_fails_when_nobody_waits_for_it(server: Postgres, seen: Observer, logs: Logs) -> None:
    logs.expect("the end of a transaction of PostgreSQL, whose task was interrupted, has failed: .*late")
    fails = "create function fails() returns trigger language plpgsql as $$begin perform pg_sleep(0.2); raise 'late'; end$$"
    with connected(server) as conn:
        conn.execute(fails)
        conn.execute("create temp table t (n int)")
        conn.execute(
            "create constraint trigger f after insert on t deferrable initially deferred for each row execute function fails()"
        )
        conn.execute("insert into t values (1)")
        with pytest.raises(TimeoutError), time.deadline(50):
            conn.commit()
        assert conn.execute("select to_regclass('t')").fetchone() == (None,)


def test_close_while_what_others_left_waits_its_turn(server: Postgres, seen: Observer) -> None:
    """A rollback is due after the query of another task; that is cancelled all the same."""
    with connected(server) as conn:

        def sleeps() -> None:
            with pytest.raises(psycopg.OperationalError):
                conn.execute(SLEEP)

        job = task.fork(sleeps)
        seen.until_running()
        with time.deadline(1):
            with pytest.raises(TimeoutError):
                time.sleep(100)
            conn.rollback()
        assert conn._cleaning is not None
        conn.close()
        assert job.join(WITHIN) == (None, None)
        seen.until_running(0)


def test_a_loop_over_a_stream_that_is_left(server: Postgres, seen: Observer) -> None:
    with connected(server, autocommit=True) as conn:
        many = "select n, repeat('x', 1000) from generate_series(1, 1000000) n"
        for row in conn.cursor().stream(many):
            assert row[0] == 1
            break
        assert conn.execute("select 1").fetchone() == (1,)
        with time.deadline(50), pytest.raises(TimeoutError):
            for _ in conn.cursor().stream(many):
                time.sleep(1000)
        assert conn.execute("select 2").fetchone() == (2,)
        with pytest.raises(ValueError), conn.cursor().copy(f"copy ({many}) to stdout") as copy:
            copy.read()
            raise ValueError
        assert conn.execute("select 3").fetchone() == (3,)


def test_a_loop_over_a_stream_is_left_without_a_wait(server: Postgres, seen: Observer, caplog: Any) -> None:
    """Since a finalizer ends it: there a cancel would be lost, and it may run in a callback or another thread."""
    with connected(server, autocommit=True) as conn:

        def leaves() -> None:
            rows = conn.cursor().stream(SLEEPS_LATER)
            next(rows)
            job.cancel()
            rows.close()
            time.sleep(WITHIN)

        job = task.fork(leaves)
        assert job.join(WITHIN) == (None, "cancelled")
        for close in (lambda rows: task.thread(rows.close), lambda rows: time.after(1, rows.close)):
            rows = conn.cursor().stream(SLEEPS_LATER)
            next(rows)
            close(rows)
            seen.until_running(0)
            assert conn.execute("select 1").fetchone() == (1,)
    assert caplog.messages == []


def test_an_interrupted_copy_reads_no_more(server: Postgres, seen: Observer) -> None:
    """Not the end of the data, and not another task's."""
    with connected(server, autocommit=True) as conn:
        with conn.cursor().copy(f"copy ({SLEEPS_LATER}) to stdout") as copy:
            with pytest.raises(TimeoutError), time.deadline(50):
                for _ in copy:
                    pass
            seen.until_running(0)
            with pytest.raises(psycopg.errors.QueryCanceled, match="interrupted"):
                copy.read()
        with pytest.raises(psycopg.errors.QueryCanceled), conn.cursor().copy("copy slow from stdin") as copy:  # noqa: SIM117
            with pytest.raises(TimeoutError), time.deadline(50):
                for _ in range(1000):
                    copy.write(b"1\n" * 10_000)
        assert conn.execute("select count(*) from slow").fetchone() == (0,)


def test_cancel_safe(server: Postgres, seen: Observer) -> None:
    with connected(server, autocommit=True) as conn:
        for cancel in (conn.cancel_safe, conn.cancel):

            def sleeps() -> None:
                with pytest.raises(psycopg.errors.QueryCanceled):
                    conn.execute(SLEEP)

            job = task.fork(sleeps)
            seen.until_running()
            cancel()
            assert job.join(WITHIN) == (None, None)


def test_a_prepared_two_phase_transaction_stays(server: Postgres, seen: Observer) -> None:
    with connected(server) as conn:
        conn.tpc_begin(conn.xid(1, "stays", "x"))
        conn.execute("insert into plain values (9)")
        conn.tpc_prepare()
        with time.deadline(1):
            with pytest.raises(TimeoutError):
                time.sleep(100)
            with pytest.raises(TimeoutError):
                conn.tpc_commit()
        assert conn.closed
    assert [str(xid) for xid in seen.conn.tpc_recover()] == [str(seen.conn.xid(1, "stays", "x"))]
    seen.conn.tpc_rollback(seen.conn.xid(1, "stays", "x"))


def test_connecting_is_struck() -> None:
    """By a server that says nothing. Nothing stays open: the fixtures look."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        info = f"host=127.0.0.1 port={silent.getsockname()[1]} user=x"
        with pytest.raises(TimeoutError, match="connecting to PostgreSQL"), time.deadline(50):
            bridge.psycopg.connect(info)
        job = task.fork(lambda: bridge.psycopg.connect(info))
        turn(5)
        job.cancel()
        assert job.join(WITHIN) == (None, "cancelled")


def test_a_notification_is_waited_for(server: Postgres, seen: Observer) -> None:
    with connected(server, autocommit=True) as conn:
        conn.execute("listen news")
        with pytest.raises(TimeoutError), time.deadline(50):
            list(conn.notifies())
        assert not conn.closed
        assert list(conn.notifies(timeout=0.01)) == []
        job = task.fork(lambda: [each.payload for each in conn.notifies(stop_after=2)])
        turn(3)
        seen.conn.execute("notify news, 'a'")
        seen.conn.execute("notify news, 'b'")
        assert job.join(WITHIN) == (["a", "b"], None)


ENDS = """
import sys
from silly import bridge, task, time
import silly

conn = bridge.psycopg.connect(sys.argv[1])
what = sys.argv[2]
query = "select pg_sleep(60)"
def work():
    try:
        conn.execute(query)
    finally:
        print(type(sys.exc_info()[1]).__name__, flush=True)
if what == "task":
    task.fork(work)
    time.sleep(300)
    silly.exit(3)
if what == "struck":
    with time.deadline(300):
        try:
            work()
        except TimeoutError:
            silly.exit(3)  # before the task has started that cancels the query
if what == "main":
    time.after(300, lambda: silly.exit(3))
    work()
if what == "interrupt":
    import os, signal
    time.after(300, lambda: os.kill(os.getpid(), signal.SIGINT))
    work()
"""


@pytest.mark.parametrize(
    ("what", "status", "said"), [("task", 3, "GreenletExit"), ("main", 3, "SystemExit"), ("struck", 3, "DeadlineOver")]
)
def test_the_process_ends(server: Postgres, seen: Observer, what: str, status: int, said: str) -> None:
    with Child("-c", ENDS, server.conninfo, what) as child:
        seen.until_running()
        assert child.line() == said
        assert child.wait() == status
    seen.until_running(0)


def test_ctrl_c(server: Postgres, seen: Observer) -> None:
    with Child("-c", ENDS, server.conninfo, "interrupt") as child:
        seen.until_running()
        assert child.line() == "KeyboardInterrupt"
        assert child.wait() == -2
    seen.until_running(0)
