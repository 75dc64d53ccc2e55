"""The code of docs/threads.md runs, and does what the page says."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time as clock
from pathlib import Path
from typing import Any

import pytest

from silly import task, time
from silly._core import scheduler

from .helpers import spawn
from .net.support import until
from .test_docs import DOCS, defined

PAGE = "threads.md"


@pytest.fixture
def guide() -> Any:
    before = signal.getsignal(signal.SIGUSR1)
    names = defined(PAGE, 2)
    yield names
    signal.signal(signal.SIGUSR1, before)
    names["pool"].shutdown()


def test_a_result_of_a_thread(guide: Any) -> None:
    ran: list[str] = []
    gate = threading.Event()
    other = task.fork(lambda: (ran.append("other"), gate.set()))

    def blocking(name: str) -> Any:
        return gate.wait(30), name, threading.get_ident() != scheduler.loop.thread

    assert guide["in_thread"](blocking, "x") == (True, "x", True)
    assert ran == ["other"]
    assert task.status(other) is None
    with pytest.raises(ZeroDivisionError):
        guide["in_thread"](lambda: 1 // 0)


def test_a_deadline_ends_the_wait_for_a_thread(guide: Any) -> None:
    gate = threading.Event()
    with time.deadline(20), pytest.raises(TimeoutError):
        guide["in_thread"](gate.wait)
    gate.set()


def test_threads_that_call_a_task(guide: Any) -> None:
    """Every item comes, once, and from each thread in its order; also to a task that waits already."""
    got: list[tuple[int, int]] = []

    def body() -> None:
        while len(got) < 4 * 50:
            got.append(guide["get"]())

    reading = spawn(body)
    until(lambda: guide["bell"]._readers.first is not None)
    threads = [threading.Thread(target=lambda i=i: [guide["put"]((i, n)) for n in range(50)]) for i in range(4)]
    for thread in threads:
        thread.start()
    assert reading.pop()[1] is None
    for thread in threads:
        thread.join()
    assert len(guide["bell"]) <= 2
    for i in range(4):
        assert [n for thread_, n in got if thread_ == i] == list(range(50))


def test_a_task_that_waits_is_woken_at_once(guide: Any) -> None:
    """The loop has nothing else to do, and no timer to look at."""
    started = clock.monotonic()
    thread = threading.Thread(target=guide["put"], args=("item",))
    reading = spawn(guide["get"])
    until(lambda: guide["bell"]._readers.first is not None)
    thread.start()
    assert reading.pop()[0][0] == "item"
    thread.join()
    assert clock.monotonic() - started < 30


def test_what_the_page_quotes_is_what_a_thread_gets(tmp_path: Path) -> None:
    (quoted,) = re.findall(r"```\n(time\.sleep: .*)\n```", (DOCS / PAGE).read_text())
    script = """
import threading
from silly import time
def work():
    try:
        time.sleep(1)
    except RuntimeError as exc:
        print(exc)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.startswith(quoted)


def test_silly_in_a_thread_of_its_own() -> None:
    script = """
import threading
def work():
    import silly
    from silly import time
    def main():
        time.sleep(1)
        print("main")
    silly.run(main)
    print("over")
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True)
    assert (done.stdout, done.stderr) == ("main\nover\n", "")
