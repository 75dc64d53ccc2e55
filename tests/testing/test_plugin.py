"""``silly.testing.plugin``, in projects that have only pytest and silly."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]
"""Runs pytest over the text of a test module: returns what it prints."""
ASKS = 'pytest_plugins = ["silly.testing.plugin"]'


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(code: str, *options: str, status: int = 1, conftest: str | None = ASKS) -> str:
        (tmp_path / "test_it.py").write_text("import silly\nfrom silly import task, testing, time\nimport pytest\n" + code)
        if conftest is not None:
            (tmp_path / "conftest.py").write_text(conftest)
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -W error --strict-markers\n")
        # Without other plugins, as a new project has it.
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tmp_path)]
        env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


def line_of(code: str, text: str) -> int:
    """The line of ``text`` in the module that ``run`` writes."""
    return 4 + code[: code.index(text)].count("\n")


def test_what_leaves_nothing_passes(run: Run) -> None:
    code = """
def test_clean():
    t = task.fork(time.sleep, 10)
    timer = time.after(60_000, print)
    time.cancel(timer)
    client, server = testing.pair()
    client.write("x")
    client.close()
    server.close()

def test_still_under_way():
    "What ends by itself at once is no leak."
    task.fork(time.sleep, 100)
    client, server = testing.pair()
    del client, server
"""
    assert "2 passed" in run(code, status=0)


def test_each_thing_that_is_left_is_named_with_its_place(run: Run) -> None:
    code = """
from silly.sync import channel
from silly.net import tcp
from silly import process

def never():
    channel.new().pop()

def test_task():
    task.fork(never)  # the task

def test_timer():
    time.after(60_000, never)  # the timer

kept = []

def test_connection():
    kept.append(testing.pair())  # the pair

def test_listener():
    kept.append(tcp.listen("127.0.0.1:0", lambda conn: None))  # the listener

def test_file():
    kept.append(open(__file__))

def test_child():
    kept.append(process.start(["sleep", "100"]))  # the child

def test_clean():
    assert kept[-1][0].wait(5000) == (-9, None)
"""
    said = run(code)
    assert "7 passed, 6 errors" in said

    def place(text: str) -> str:
        return rf"\S*test_it\.py:{line_of(code, text)}"

    for pattern in (
        rf"tasks: 0 before, 1 after\n[\s\S]*?<task never WAIT, forked at {place('task.fork(never)')}>: waits on channel\.pop\n",
        rf"timers: 0 before, 1 after\n[\s\S]*?a timer of time\.after, for never, set at {place('time.after')}\n",
        rf"the connection with client:1, opened at {place('kept.append(testing')}\n",
        rf"the connection with server:1, opened at {place('kept.append(testing')}\n",
        rf"<listener 127\.0\.0\.1:\d+>.*\n[\s\S]*?open file \d+: socket:\[\d+\], opened at {place('kept.append(tcp')}\n",
        rf"process sleep \(\d+\), opened at {place('kept.append(process')}\n",
        r"open files: \d+ before, \d+ after\n  open file \d+: \S*/test_it\.py\n",
    ):
        assert re.search(pattern, said), f"{pattern}\n{said}"


def test_what_one_test_leaves_is_no_leak_of_the_next(run: Run) -> None:
    code = """
def test_leaves():
    for _ in range(100):
        task.fork(time.sleep, 60_000)

def test_clean():
    assert not silly.task.readycount()
    assert len(task.inspect()) == 1
"""
    said = run(code)
    assert "2 passed, 1 error" in said
    assert "tasks: 0 before, 100 after" in said


def test_what_a_fixture_of_the_session_holds_is_no_leak(run: Run) -> None:
    code = """
@pytest.fixture(scope="session")
def pair():
    ends = testing.pair()
    yield ends
    for end in ends:
        end.close()

@pytest.mark.parametrize("number", range(3))
def test_uses_it(pair, number):
    pair[0].write("x")
    assert pair[1].read(1) == (b"x", None)
"""
    assert "3 passed" in run(code, status=0)


def test_idle_connections_of_the_module_s_client_are_no_leak(run: Run) -> None:
    code = """
from silly.net import http

def test_get():
    def handler(stream):
        stream.respond(204)
    with silly.check(http.listen("127.0.0.1:0", handler)) as server:
        assert silly.check(http.get(f"http://{server.addr}/")).status == 204
"""
    assert "1 passed" in run(code, status=0)


def test_it_is_there_only_for_those_who_ask(run: Run) -> None:
    code = """
def test_leaves():
    task.fork(time.sleep, 60_000)
    time.sleep(0)
"""
    assert "1 passed" in run(code, conftest=None, status=0)
    assert "1 passed, 1 error" in run(code, "-p", "silly.testing.plugin", conftest=None)


# ---- the mark ------------------------------------------------------------------------


def test_a_test_with_the_mark_is_a_task(run: Run) -> None:
    code = """
@pytest.fixture
def number():
    return 7

@pytest.mark.silly_task(timeout=20_000)
def test_in_a_task(number):
    assert number == 7
    me = task.running()
    assert me.name() == "test_in_a_task"
    assert me.origin().rpartition(":")[0] == __file__
    task.fork(time.sleep, 1).join()

def test_in_the_main_program():
    assert task.running().name() == "main"

class TestMethods:
    @pytest.mark.silly_task(20_000)
    @pytest.mark.parametrize("value", [1, 2])
    def test_method(self, value):
        assert value in (1, 2)
        assert task.running().name() != "main"
"""
    assert "4 passed" in run(code, status=0)


def test_its_failure_is_shown_where_it_failed(run: Run) -> None:
    code = """
@pytest.mark.silly_task(timeout=20_000)
def test_fails():
    value = 7
    assert value == 8

@pytest.mark.silly_task(timeout=20_000)
def test_skips():
    pytest.skip("not here")
"""
    said = run(code)
    assert "1 failed, 1 skipped" in said
    assert "assert value == 8" in said
    assert "assert 7 == 8" in said
    assert "plugin.py" not in said


def test_the_time_out_is_real_time_and_names_where_it_waits(run: Run) -> None:
    code = """
@pytest.mark.silly_task(timeout=200)
def test_waits():
    try:
        time.sleep(60_000)  # here
    finally:
        time.sleep(1)
        print("cleaned up")

@pytest.mark.silly_task(timeout=20_000)
def test_hours_of_the_virtual_clock():
    with testing.clock():
        time.sleep(3_600_000)
"""
    said = run(code)
    assert "1 failed, 1 passed" in said
    place = rf"\S*test_it\.py:{line_of(code, 'time.sleep(60_000)')}"
    assert re.search(rf"the test takes longer than 200 ms: it waits on time\.sleep, at {place}", said), said


def test_one_that_would_wait_for_ever_gets_the_report(run: Run) -> None:
    code = """
from silly.sync import channel

@pytest.mark.silly_task(timeout=20_000)
def test_waits():
    channel.new().pop()
"""
    said = run(code)
    assert "1 failed" in said
    assert "error" not in said.splitlines()[-1]
    assert "nothing can ever wake the tasks that are left" in said
    assert "test_waits: waits on channel.pop" in said


def test_the_mark_needs_a_time_out(run: Run) -> None:
    code = """
@pytest.mark.silly_task
def test_it():
    pass

@pytest.mark.silly_task(timeout=0)
def test_other():
    pass
"""
    said = run(code)
    assert "2 failed" in said
    assert "silly_task: the timeout is a number of milliseconds, not NoneType" in said
    assert "silly_task: the timeout is in milliseconds, from more than 0 to" in said
