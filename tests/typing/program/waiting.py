"""Bounded channels, semaphores, events and pools: what goes in and what comes out."""

from typing import assert_type

import silly
from silly import task
from silly.net import tcp
from silly.sync import channel, event, pool, semaphore


def work(jobs: channel.Channel[str], few: semaphore.Semaphore) -> int:
    done = 0
    for job in jobs:
        assert_type(job, str)
        with few:
            done += len(job)
    return done


def connect() -> tuple[tcp.Conn, None] | tuple[None, str]:
    return tcp.connect("127.0.0.1:8080", timeout=1000)


def main() -> None:
    jobs: channel.Channel[str] = channel.new(10)
    t = task.fork(work, jobs, semaphore.new(2))
    ok, reason = jobs.push("a job", 100)
    print(ok, reason)
    job, _ = jobs.pop(100)
    assert_type(job, str | None)
    jobs.close()
    done, _ = t.join()
    assert_type(done, int | None)
    ready = event.new()
    ready.set()
    if ready.wait(100) and ready.is_set():
        ready.clear()
    few = semaphore.new(1)
    if few.acquire(timeout=100):
        few.release()
    conns = pool.new(connect, close=lambda conn: conn.close(), check=tcp.Conn.isalive, max_open=4, idle_time=60_000)
    assert_type(conns, pool.Pool[tcp.Conn])
    with conns, conns.take(1000) as conn:
        assert_type(conn, tcp.Conn)
    conn_or_none, err = conns.get(100)
    if conn_or_none is None:
        print(err)
    else:
        conns.put(conn_or_none)
    conns.drop(silly.check(conns.get()))
    print(conns.open + conns.idle + conns.waiting)


def wrong(jobs: channel.Channel[str], conns: pool.Pool[tcp.Conn]) -> None:
    jobs.push(5)  # wrong: arg-type, reportArgumentType
    channel.new("10")  # wrong: arg-type, reportArgumentType
    semaphore.new()  # wrong: call-arg, reportCallIssue
    conn, _ = conns.get()
    conn.close()  # wrong: union-attr, reportOptionalMemberAccess
    conns.put("a connection")  # wrong: arg-type, reportArgumentType
    pool.new(connect, tcp.Conn.close)  # wrong: call-arg, reportCallIssue
    pool.new(connect, lifetime="1 s")  # wrong: arg-type, reportArgumentType


silly.run(main)
