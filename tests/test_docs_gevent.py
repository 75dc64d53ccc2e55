"""The code of docs/from-gevent.md runs, and the names that its tables give exist."""

from __future__ import annotations

import importlib.util
import io
import re
import sqlite3
import threading
from pathlib import Path

import pytest

from silly import check, task, testing, time
from silly.net import http, tcp

from .helpers import raw_server, serving
from .net.support import until
from .test_api import PUBLIC
from .test_docs import DOCS
from .test_docs_tasks import code, echo

PAGE = "from-gevent.md"
MODULES = {name.rpartition(".")[2]: name for name in PUBLIC if name.count(".") < 3}


def rows() -> list[list[str]]:
    """The cells of each row of the tables."""
    lines = re.findall(r"^\|(.*)\|$", (DOCS / PAGE).read_text(), re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines if "---" not in line]


def test_each_name_of_ours_exists() -> None:
    """``task.fork`` and so on, in the second column."""
    named = {name for row in rows() for name in re.findall(r"\b(\w+\.\w+)\(?", " ".join(re.findall("`(.*?)`", row[1])))}
    ours = {name for name in named if name.partition(".")[0] in MODULES}
    assert len(ours) > 25
    missing = [
        name for name in ours if not hasattr(importlib.import_module(MODULES[name.partition(".")[0]]), name.partition(".")[2])
    ]
    assert missing == []


def test_each_name_of_gevent_exists() -> None:
    """The calls of ``gevent`` itself; where it is installed."""
    gevent = pytest.importorskip("gevent")
    named = {name for row in rows() for name in re.findall(r"`gevent\.([\w.]+)", row[0])}
    assert len(named) > 20
    assert [name for name in named if not hasattr(gevent, name) and not _exists(f"gevent.{name}")] == []


def _exists(name: str) -> bool:
    """Whether there is a module, or something in one, of this name."""
    module, _, attribute = name.rpartition(".")
    return importlib.util.find_spec(name if module == "gevent" else module) is not None and (
        module == "gevent" or hasattr(importlib.import_module(module), attribute)
    )


def test_a_name_of_gevent_is_answered_with_ours() -> None:
    """Where one looks for it first: in ``silly.task``."""
    for name in ("spawn", "spawn_later", "spawn_raw", "joinall", "killall", "iwait", "getcurrent", "sleep", "Timeout", "Pool"):
        with pytest.raises(AttributeError, match=rf"'{name}': use ") as info:
            getattr(task, name)
        ours = re.findall(r"\b(\w+)\.(\w+)", str(info.value).partition(": use ")[2])
        for module, attribute in ours:
            assert hasattr(task.Task if module == "t" else importlib.import_module(MODULES[module]), attribute)
    with pytest.raises(AttributeError, match=r"attribute 'spwan'$"):
        getattr(task, "spwan")  # noqa: B009 - mypy knows that there is none


# ---- libraries that block ------------------------------------------------------------


def database(tmp_path: Path) -> str:
    path = str(tmp_path / "shop.db")
    db = sqlite3.connect(path)
    with db:
        db.execute("create table fruit (name)")
        db.execute("insert into fruit values ('apple'), ('pear')")
    db.close()
    return path


def test_a_query_in_a_thread(tmp_path: Path) -> None:
    guide = code(PAGE, "In place of monkey.patch_all")
    assert guide["query"](database(tmp_path), "select name from fruit order by name") == [("apple",), ("pear",)]
    with pytest.raises(sqlite3.OperationalError):
        guide["query"](database(tmp_path / "no" / "such"), "select 1")


def test_a_database_with_a_thread_of_its_own(tmp_path: Path) -> None:
    guide = code(PAGE, "In place of monkey.patch_all", 1)
    hive = guide["hive"]
    worker = guide["database"](database(tmp_path))
    for _ in range(3):  # a connection of sqlite3 raises in another thread than its own
        assert hive.invoke(worker, "select name from fruit order by name") == [("apple",), ("pear",)]


def test_lines_of_a_thread() -> None:
    guide = code(PAGE, "In place of monkey.patch_all", 2)
    lines = guide["lines_of"](io.StringIO("".join(f"{number}\n" for number in range(1000))))
    assert list(lines) == [f"{number}\n" for number in range(1000)]
    until(lambda: not any("(read)" in thread.name for thread in threading.enumerate()))


# ---- habits --------------------------------------------------------------------------


def test_a_crawl() -> None:
    guide = code(PAGE, "Habits, translated")
    with serving(lambda stream: stream.answer(200)) as server:
        good, bad = f"http://{server.addr}/", "http://127.0.0.1:1/"
        found = guide["crawl"]([good, bad])
    http.closeidle()
    assert (found[good], found[bad].phase) == (200, "connect")


def test_a_time_out_around_several_calls() -> None:
    guide = code(PAGE, "Habits, translated", 1)
    with raw_server(echo) as server, check(tcp.connect(server.addr)) as conn:
        assert guide["greet"](conn) == b"hello\n"
    with raw_server(lambda conn: conn.read(100)) as server, check(tcp.connect(server.addr)) as conn, time.deadline(5):
        assert guide["greet"](conn) != "hello\n"


def test_the_ends_of_tasks_as_they_come() -> None:
    as_they_end = code(PAGE, "Habits, translated", 2)["as_they_end"]

    def sleep(ms: int) -> int:
        time.sleep(ms)
        return ms

    with testing.clock() as clock:
        tasks = [task.fork(sleep, ms) for ms in (300, 60_000, 100, 200)]
        assert list(as_they_end(tasks, 1000)) == [(100, None), (200, None), (300, None)]
        assert clock.elapsed == 1000
        assert list(as_they_end(tasks, 1000)) == [(300, None), (100, None), (200, None)]  # all of them had ended
        tasks[1].cancel()
        tasks[1].join()


def test_killing_what_still_runs() -> None:
    stop = code(PAGE, "Habits, translated", 3)["stop"]
    assert stop([task.fork(time.sleep, 60_000), task.fork(int, "1")]) == [(None, "cancelled"), (None, "cancelled")]
    done = task.fork(int, "1")
    time.sleep(0)
    assert stop([done]) == [(1, None)]
