"""The code of docs/sync.md about channels, semaphores, events and pools runs, and does what the page says."""

from __future__ import annotations

import inspect
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import task, time
from silly.net import http, tcp
from silly.sync import pool

from .helpers import serving

WITHIN = 20_000
TEXT = (Path(__file__).resolve().parent.parent / "docs" / "sync.md").read_text()


@pytest.fixture
def page() -> dict[str, Any]:
    """The names that the code of these sections defines."""
    names: dict[str, Any] = {}
    for section in ("Channel", "Semaphore", "Event", "Pool"):
        (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
        blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        assert blocks
        for block in blocks:
            exec(block, names)
    return names


def test_a_pool_of_workers(page: dict[str, Any]) -> None:
    inside = most = 0

    def handler(stream: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(1)
        inside -= 1
        stream.respond(404 if stream.path == "/7" else 200)
        stream.close()

    with serving(handler) as server:
        urls = [f"http://127.0.0.1:{server.port}/{number}" for number in range(30)]
        found = page["statuses"](iter(urls))
        assert found == {url: 404 if url.endswith("/7") else 200 for url in urls}
        assert most == 3
        most = 0
        tasks = [task.fork(page["fetch"], url) for url in urls]
        assert {t.join()[0][0].status for t in tasks} == {200, 404}
        assert most == 2
    http.closeidle()


def test_lines_from_a_thread(page: dict[str, Any]) -> None:
    reading, writing = os.pipe()
    with open(reading) as file:
        lines = page["lines_of"](file)
        os.write(writing, b"one\ntwo\n")
        with time.deadline(WITHIN):
            assert lines.pop() == ("one\n", None)
            os.write(writing, b"three\n")
            os.close(writing)
            assert list(lines) == ["two\n", "three\n"]
        for thread in threading.enumerate():
            if thread.name.endswith("(read)"):
                thread.join()


def test_an_event_that_stops(page: dict[str, Any]) -> None:
    calls: list[int] = []
    running = task.fork(page["every"], 1, lambda: calls.append(1))
    with time.deadline(WITHIN):
        while len(calls) < 3:
            time.sleep(1)
    page["stopping"].set()
    assert running.join() == (None, None)
    assert page["stopping"].is_set()


def test_a_pool_of_connections(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[Any] = []

    def accept(conn: Any) -> None:
        accepted.append(conn)
        while (line := conn.read("\r\n")[0]) is not None:
            if line == b"die\r\n":
                conn.close()
            else:
                conn.write(line.upper())

    listener = silly.check(tcp.listen("127.0.0.1:0", accept))
    real = tcp.connect
    monkeypatch.setattr(tcp, "connect", lambda addr, **options: real(listener.addr, **options))
    with listener, page["conns"] as conns, time.deadline(WITHIN):
        tasks = [task.fork(page["ask"], f"question {number}") for number in range(20)]
        assert [t.join()[0] for t in tasks] == [(b"QUESTION %d\r\n" % number, None) for number in range(20)]
        assert (len(accepted), conns.open, conns.idle, conns.waiting) == (4, 4, 4, 0)
        answer, err = page["ask"]("die")
        assert (answer, conns.idle) == (None, 3)
        assert err
        assert page["ask"]("again") == (b"AGAIN\r\n", None)


def test_the_table_names_the_options() -> None:
    table = TEXT.split("| option | default |", 1)[1].split("\n\n", 1)[0]
    said = dict(re.findall(r"^\| `(\w+)` \| (\w*) ?\|", table, re.MULTILINE))
    parameters = inspect.signature(pool.new).parameters
    empty = inspect.Parameter.empty
    assert said == {name: "" if each.default is empty else str(each.default) for name, each in parameters.items()}
