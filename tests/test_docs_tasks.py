"""The code of docs/tasks.md runs, and does what the page says."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from silly import check, errno, task, testing, time
from silly.net import http, tcp, websocket
from silly.sync import channel

from .helpers import both_sides, raw_server, serving
from .net.support import until
from .test_docs import DOCS

PAGE = "tasks.md"


def code(page: str, heading: str, number: int = 0) -> dict[str, Any]:
    """Runs a block of Python below a heading, or below a paragraph that begins with that word, and returns its names."""
    text = (DOCS / page).read_text()
    (below,) = re.findall(rf"^(?:#+ {heading}$|\*\*{heading}\.\*\*)(.*)", text, re.MULTILINE | re.DOTALL)
    block = re.findall(r"```python\n(.*?)```", below, re.DOTALL)[number]
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    return namespace


def echo(conn: Any) -> None:
    while (line := conn.read("\n")[0]) is not None:
        conn.write(line)


def test_two_tasks_run_at_the_same_time() -> None:
    assert code(PAGE, "Tasks")["main"]() == 6


def test_a_change_that_no_other_task_sees_halfway() -> None:
    guide = code(PAGE, "What switches")
    assert [guide["take_seat"]() for _ in range(3)] == [True, True, False]
    assert guide["seats"] == {"free": 0, "taken": 2}


# ---- patterns ------------------------------------------------------------------------


def test_worker_pool() -> None:
    guide = code(PAGE, "Worker pool")
    jobs, done, running = guide["jobs"], [], [0, 0]

    def work(job: int) -> None:
        running[0] += 1
        running[1] = max(running)
        time.sleep(0)
        running[0] -= 1
        done.append(job)

    pool = task.fork(guide["work_off"], jobs, work, 3)
    for job in range(300):
        assert jobs.push(job, 30_000)
    jobs.close()
    assert pool.join() == (None, None)
    assert sorted(done) == list(range(300))
    assert running == [0, 3]


def test_worker_pool_whose_work_fails() -> None:
    guide = code(PAGE, "Worker pool")
    guide["jobs"].push(0)
    with pytest.raises(ExceptionGroup) as info:
        guide["work_off"](guide["jobs"], lambda job: 1 // job, 3)
    assert [type(each) for each in info.value.exceptions] == [ZeroDivisionError]


def test_a_map_over_pages() -> None:
    guide = code(PAGE, "Worker pool", 1)
    with serving(lambda stream: stream.answer(200 if stream.path == "/good" else 404)) as server:
        good, bad = (f"http://{server.addr}/{path}" for path in ("good", "bad"))
        found = guide["check_sites"]([good, bad, "http://127.0.0.1:1/"])
    http.closeidle()
    assert [found[good], found[bad]] == [200, 404]
    assert found["http://127.0.0.1:1/"].errno == errno.CONNREFUSED


def test_outbox_and_fan_out() -> None:
    guide = code(PAGE, "Outbox")
    told: dict[str, Any] = {}
    exec(re.findall(r"```python\n(members.*?)```", (DOCS / PAGE).read_text(), re.DOTALL)[0], told)
    with both_sides() as (here, peer), both_sides() as (there, other):
        for sock in (here, there):
            told["members"].add(guide["Member"](sock))
        told["tell_all"]("hello")
        assert peer.read(5000) == other.read(5000) == ("hello", "text")
        for member in told["members"]:
            member.outbox.close()
            assert member.writer.join(5000) == (None, None)


def test_an_outbox_that_is_full() -> None:
    guide = code(PAGE, "Outbox")
    with both_sides() as (here, peer):
        member = guide["Member"](here)
        for _ in range(guide["MOST"]):
            assert member.send("text") == (True, None)
        assert member.send("text")[0] is False
        assert member.writer.join(5000) == (None, None)
        while peer.read(5000)[1] != "close":
            pass
        assert (peer.closecode, peer.closereason) == (1008, "you read too slowly")


def test_the_first_answer_of_several() -> None:
    first_of = code(PAGE, "Fan-out", 1)["first_of"]
    ended: list[str] = []

    def slow() -> None:
        try:
            time.sleep(60_000)
        finally:
            ended.append("slow")

    def fast() -> str:
        time.sleep(1)
        return "fast"

    assert first_of([slow, fast], 30_000) == ("fast", None)
    assert first_of([slow], 5)[0] is None
    until(lambda: ended == ["slow", "slow"])


def test_a_rate() -> None:
    guide = code(PAGE, "Rate limit")
    slept: list[int] = []
    guide["time"] = type("Clock", (), {"monotonic": staticmethod(lambda: 5000), "sleep": staticmethod(slept.append)})
    rate = guide["Rate"](100)
    for _ in range(3):
        rate.wait()
    assert slept == [0, 100, 200]


def test_retry() -> None:
    retry = code(PAGE, "Retry")["retry"]
    answers = [(None, "no"), (None, "not yet"), ("yes", None)]
    assert retry(lambda: answers.pop(0), ms=2) == ("yes", None)
    assert retry(lambda: (None, "never"), tries=2, ms=2) == (None, "never")
    with raw_server(echo) as server, check(retry(lambda: tcp.connect(server.addr))) as conn:
        assert conn.isalive()


def test_a_time_out_loses_nothing() -> None:
    ask = code(PAGE, "Time-out")["ask"]
    gate = channel.new()

    def answer(conn: Any) -> None:
        conn.read("\n")
        conn.write("forty")
        gate.pop()
        conn.write("-two\n")

    with raw_server(answer) as server, check(tcp.connect(server.addr)) as conn:
        assert ask(conn, "what?", 50) == (None, errno.TIMEDOUT)
        gate.push(True)
        assert conn.read("\n") == (b"forty-two\n", None)


# ---- cancelling ----------------------------------------------------------------------


def test_what_a_cancelled_task_does_at_its_end() -> None:
    session = code(PAGE, "Cancelling")["session"]
    with raw_server(session) as server, check(tcp.connect(server.addr)) as conn:
        assert conn.read("\n") == (b"tick\n", None)
        (serving_task,) = [each for each in task.inspect() if each.name() == "session"]
        assert serving_task.cancel()
        assert conn.read("\n") == (b"bye\n", None)
        assert conn.read(1) == (None, errno.EOF)
        assert serving_task.join(5000) == (None, "cancelled")


def test_a_cancel_does_not_strike_in_a_shield() -> None:
    move = code(PAGE, "Shield")["move"]
    with raw_server(echo) as server, check(tcp.connect(server.addr)) as source, check(tcp.connect(server.addr)) as target:
        moving = task.fork(lambda: (move(source, target), time.sleep(0)))
        until(lambda: source._stream._reader is not None)
        moving.cancel()
        source.write("line\n")
        assert moving.join(5000) == (None, "cancelled")
        assert target.read("\n") == (b"line\n", None)


def test_a_group_of_two_loads() -> None:
    page = code(PAGE, "Groups")["page"]
    assert page("ann", str.title, len) == "Ann: 3 mails"
    with pytest.raises(ExceptionGroup):
        page("ann", int, lambda user: time.sleep(60_000))


def test_a_group_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = code(PAGE, "Groups", 1)["numbers"]
    numbers(["1", "2"])
    numbers(["1", "two"])
    assert capsys.readouterr().out == "[1, 2]\ninvalid literal for int() with base 10: 'two'\n"


def test_a_map_that_is_left_early() -> None:
    first_even = code(PAGE, "Map")["first_even"]
    ended: list[int] = []

    def work(number: int) -> int:
        try:
            time.sleep(60_000 if number % 2 else 1)
            return number
        finally:
            ended.append(number)

    assert first_even(work, [1, 3, 4, 5]) == 4
    assert sorted(ended) == [1, 3, 4, 5]


def test_one_task_for_both_directions() -> None:
    serve = code(PAGE, "Select")["serve"]
    with both_sides() as (here, peer):
        outbox = channel.new()
        serving_task = task.fork(serve, here, outbox, 30_000)
        peer.write("ping", "text")
        assert peer.read(5000) == ("ping", "text")
        outbox.push("news")
        assert peer.read(5000) == ("news", "text")
        peer.close()
        assert serving_task.join(5000) == (None, None)
    with both_sides() as (here, peer):
        idle = task.fork(serve, here, channel.new(), 5)
        assert peer.read(5000)[1] == "close"
        assert idle.join(5000) == (None, None)


def test_pings_do_not_put_off_the_end_of_an_idle_peer() -> None:
    serve = code(PAGE, "Select")["serve"]

    def handler(stream: Any) -> None:
        serve(check(websocket.upgrade(stream)), channel.new(), 45_000)

    with testing.clock() as clock:
        sock = check(testing.websocket(handler))
        time.sleep(10_000)
        sock.write("hello", "text")
        while (read := sock.read())[1] == "ping":
            pass
        assert read == ("hello", "text")
        while (read := sock.read())[1] == "ping":
            pass
        assert read[1] == "close"
        assert clock.elapsed == 55_000
        sock.close()


def test_a_thread_that_takes_too_long() -> None:
    slow_sum = code(PAGE, "Threads")["slow_sum"]
    assert slow_sum([1, 2], 30_000) == (3, None)
    gate = threading.Event()

    def numbers() -> Any:
        gate.wait(30)
        yield 1

    total, err = slow_sum(numbers(), 10)
    assert total is None
    assert "deadline of 10 ms" in err
    gate.set()
