"""Channels of items of one type, tasks, time, tcp."""

from dataclasses import dataclass
from typing import Any, assert_type

import silly
from silly import task, time
from silly.net import tcp
from silly.sync import channel


@dataclass
class Job:
    name: str
    conn: tcp.Conn


class Workers:
    def __init__(self) -> None:
        self.jobs: channel.Channel[Job] = channel.new()

    def work(self) -> None:
        while True:
            job, reason = self.jobs.pop()
            if job is None:
                print(reason)
                return
            assert_type(job, Job)
            job.conn.write(job.name)

    def accept(self, conn: tcp.Conn) -> None:
        line, err = conn.read("\n", 1000)
        if line is None:
            print(err)
        else:
            self.jobs.push(Job(line.decode(), conn))


def total(numbers: "channel.Channel[int]") -> int:
    result = 0
    while len(numbers):
        number, _ = numbers.recv()
        result += number or 0
    return result


def first(conns: list[tcp.Conn], numbers: "channel.Channel[int]", done: "task.Task[str]") -> None:
    conn, err = task.select(*conns, timeout=100)
    if conn is None:
        print(err)
    else:
        assert_type(conn, tcp.Conn)
        conn.read(1)
    which, err = task.select(numbers, done)
    if which is numbers:
        number, _ = numbers.pop()
        print(number, err)
    elif which is done:
        print(done.join())
    task.select(conns)  # wrong: type-var, reportArgumentType
    task.select(numbers, 5)  # wrong: type-var, reportArgumentType
    task.select(done, timeout="1")  # wrong: arg-type, reportArgumentType


def report(failed: task.Task, exc: BaseException) -> None:
    print(failed.name(), exc)


def crawl(group: task.Group, url: str) -> int:
    if url:
        group.fork(crawl, group, url[1:])
    return len(url)


def lengths(urls: list[str]) -> int:
    with task.group(limit=2) as group:
        first = group.fork(crawl, group, urls[0])
        group.fork(crawl, group, 5)  # wrong: arg-type, reportArgumentType
    assert_type(first, task.Task[int])
    found: task.Results[int] = task.map(len, urls, 10, ordered=False)
    with found as results:
        for length in results:
            assert_type(length, int)
    task.map(len, urls)  # wrong: call-arg, reportCallIssue
    return sum(task.map(len, urls, 10))


def main() -> None:
    task.onerror(report)
    task.onerror(None)
    task.onerror(total)  # wrong: arg-type, reportArgumentType
    workers = Workers()
    task.fork(workers.work)
    listener, err = tcp.listen("127.0.0.1:0", workers.accept)
    if listener is None:
        raise SystemExit(err)
    print(listener.port)
    anything = channel.new()
    assert_type(anything, channel.Channel[Any])
    anything.push("text")
    anything.push(5)
    timer = time.after(100, lambda: anything.close("enough"))
    time.cancel(timer)
    ok, reason = anything.push(b"bytes")
    print(ok, reason)
    with time.deadline(1000):
        print(total(channel.new()))
        print(lengths(["a", "b"]))


silly.run(main)


def wrong(jobs: channel.Channel[Job], numbers: channel.Channel[int]) -> None:
    jobs.push("a job")  # wrong: arg-type, reportArgumentType
    job, _ = jobs.pop()
    job.name  # wrong: union-attr, reportOptionalMemberAccess
    number, _ = numbers.pop()
    if number is not None:
        number.upper()  # wrong: attr-defined, reportAttributeAccessIssue
    total(jobs)  # wrong: arg-type, reportArgumentType
    task.fork("main")  # wrong: arg-type, reportArgumentType, reportCallIssue
    time.time()  # wrong: attr-defined, reportAttributeAccessIssue
    task.spawn(main)  # wrong: attr-defined, reportAttributeAccessIssue
    silly.sleep(1)  # wrong: attr-defined, reportAttributeAccessIssue
    silly.sync.queue.Queue()  # wrong: attr-defined, reportAttributeAccessIssue
    silly.net.socket.socket()  # wrong: attr-defined, reportAttributeAccessIssue
