"""The code of docs/threads.md runs, and does what the page says."""

from __future__ import annotations

import gc
import hashlib
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from silly import hive, task, time

from .net.support import until
from .test_docs import DOCS, defined

PAGE = "threads.md"


@pytest.fixture
def guide() -> Any:
    names = defined(PAGE, 3)
    yield names
    names.clear()
    gc.collect()
    until(lambda: not any(thread.workers for thread in hive._all))
    hive.prune()


def test_a_task_that_calls_what_blocks(guide: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"fish")
    assert guide["report"](path) == hashlib.sha256(b"fish").hexdigest()
    t = task.fork(task.thread, guide["checksum"], path)
    (digest, err), _ = t.join()
    assert (digest, err) == (hashlib.sha256(b"fish").hexdigest(), None)
    with pytest.raises(FileNotFoundError):
        guide["report"](tmp_path / "none")


def test_the_deadline_and_its_text(guide: Any) -> None:
    gate = threading.Event()
    text = re.findall(r'`\(None, "(task\.thread: the deadline of )5000( ms ran out)"\)`', (DOCS / PAGE).read_text())
    with time.deadline(20):
        assert task.thread(gate.wait) == (None, "20".join(text[0]))
    gate.set()


def test_a_worker_that_keeps_something(guide: Any) -> None:
    assert guide["rows"] == [("Ada",)]
    assert hive.invoke(guide["visits"], "SELECT COUNT(*) FROM visits") == [(1,)]


def test_a_thread_that_calls_tasks(guide: Any) -> None:
    assert (guide["first"], guide["answer"], guide["err"]) == ("one", "ADA", None)
    assert guide["inbox"].pop() == ("two", None)


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
    """The main thread ends it as the page says."""
    script = """
import threading
ready = threading.Event()
def work():
    global task, silly
    import silly
    from silly import task, time
    def main():
        ready.set()
        try:
            time.sleep(60_000)
        finally:
            print("ends")
    try:
        silly.run(main)
    except SystemExit:
        print("over")
thread = threading.Thread(target=work)
thread.start()
ready.wait(30)
posted = task.post(silly.exit)
thread.join()
print(posted)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True)
    assert (done.stdout, done.stderr) == ("ends\nover\nTrue\n", "")
