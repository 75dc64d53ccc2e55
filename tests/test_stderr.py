"""The queue in front of standard error: order, bounds, what is lost, replacements, children, and the end.

A pipe that nobody reads stands for a supervisor that has stopped: each test has its own, as ``sys.stderr``.
"""

from __future__ import annotations

import gzip
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from silly import _stderr
from silly._stderr import ENDS, Stderr

from . import children
from .children import Child
from .net.support import until

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


class Broken(BaseException):
    """No Exception, and no end either."""


class Pipe(children.Pipe):
    """One that can be ``sys.stderr`` here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fill: bool) -> None:
        super().__init__(fill)
        self.file: Any = open(self.writes, "w", encoding="utf-8", closefd=False)
        self.monkeypatch = monkeypatch

    def queue(self) -> Stderr:
        """A queue in front of this pipe, which is ``sys.stderr`` from now on. (Not before: pytest sets that after the
        fixtures.)"""
        self.monkeypatch.setattr(sys, "stderr", self.file)
        return queue()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    yield from of_test(Pipe(monkeypatch, True))


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    yield from of_test(Pipe(monkeypatch, False))


def of_test(pipe: Pipe) -> Iterator[Pipe]:
    yield pipe
    pipe.monkeypatch.undo()
    pipe.file.close()
    pipe.close()


def queue() -> Stderr:
    return Stderr(lambda count: f"… {count} lines lost\n")


def test_a_line_never_waits_and_the_order_is_kept(full: Pipe) -> None:
    out = full.queue()
    for i in range(1000):
        out.write(f"{i}\n", INFO)
    out.write("end\n", INFO)
    assert full.until(b"end\n") == "".join(f"{i}\n" for i in range(1000)) + "end\n"


def test_past_the_bound_lines_are_counted_where_they_are_missing(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stderr, "MOST", 200)
    out = full.queue()
    for _ in range(30):
        out.write("123456789\n", INFO)
    assert full.until(b"lost\n") == "123456789\n" * 10 + "… 20 lines lost\n"
    until(lambda: out._put == out._done)
    out.write("next\n", INFO)
    assert full.until(b"next\n") == "next\n"


def test_the_count_comes_before_the_first_line_that_finds_room(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stderr, "MOST", 200)
    out = full.queue()
    for _ in range(30):
        out.write("123456789\n", INFO)
    out._done += 50  # as if that were written
    out.write("next\n", INFO)
    assert full.until(b"next\n") == "123456789\n" * 10 + "… 20 lines lost\nnext\n"


def test_warnings_and_errors_are_kept_longest(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stderr, "MOST", 1000)
    out = full.queue()
    for level, text in ((INFO, "info"), (WARNING, "warn"), (ERROR, "errs"), (INFO, "late")):
        for i in range(100):
            out.write(f"{text} {i:04}\n", level)
    lines = full.until(b"lost\n").splitlines()
    kept = {text: sum(line.startswith(text) for line in lines) for text in ("info", "warn", "errs", "late")}
    assert kept == {"info": 50, "warn": 25, "errs": 25, "late": 0}
    assert lines[-1] == "… 300 lines lost"


def test_a_line_longer_than_the_bound_is_written(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stderr, "MOST", 10)
    out = full.queue()
    out.write("x" * 100 + "\n", INFO)
    assert full.until(b"\n") == "x" * 100 + "\n"


def test_many_lines_are_few_writes(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy loop lets the thread have the interpreter's lock only now and then."""
    writes = []
    write_all = _stderr.write_all
    monkeypatch.setattr(_stderr, "write_all", lambda fd, data: (writes.append(len(data)), write_all(fd, data)))
    out = full.queue()
    out.write("first\n", INFO)
    until(lambda: writes)
    for _ in range(2000):
        out.write("x" * 99 + "\n", INFO)
    out.write("end\n", INFO)
    full.until(b"end\n")
    assert len(writes) <= 6
    assert max(writes) <= _stderr.CHUNK


def test_what_waits_for_the_disk_is_not_bounded_by_the_queue(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Access logs: a thread of theirs waits, and the lines of others come in between."""
    monkeypatch.setattr(_stderr, "CHUNK", 100)
    out = full.queue()
    text = "".join(f"{i:09}\n" for i in range(100))
    thread = threading.Thread(target=out.write_waiting, args=(text,))
    thread.start()
    until(lambda: out._put == 100)
    out.write("between\n", INFO)
    got = full.until(b"000000099\n")
    assert got.replace("between\n", "") == text
    assert got.index("between\n") == 100
    thread.join(10)
    assert not thread.is_alive()


def test_a_reader_that_is_gone_costs_its_lines_only(empty: Pipe) -> None:
    out = empty.queue()
    os.close(empty.reads)
    out.write("gone\n", INFO)
    until(lambda: out._lost == 1)
    empty.reads, again = os.pipe()
    os.dup2(again, empty.writes)
    os.close(again)
    out.write("here\n", INFO)
    # The failed write may have ended within a line.
    assert empty.until(b"here\n") == "\n… 1 lines lost\nhere\n"


def test_a_closed_file_is_not_written_to(full: Pipe) -> None:
    """Its descriptor may be another's by now: a connection's, for one."""
    out = full.queue()
    out.write("first\n", INFO)
    until(lambda: not out._lines)
    out.write("second\n", INFO)
    full.file.close()
    full.free()
    until(lambda: out._put == out._done)
    assert out._lost == 1
    out.write("third\n", INFO)
    assert out._lost == 2


def test_nonblocking(full: Pipe) -> None:
    """Somebody who shares the descriptor has set it so."""
    os.set_blocking(full.writes, False)
    out = full.queue()
    for i in range(3):
        out.write(f"{i}\n", INFO)
    assert full.until(b"2\n") == "0\n1\n2\n"


def test_what_was_printed_before_comes_before(empty: Pipe) -> None:
    file = empty.file
    file.write("no line's end: ")
    _stderr.write_through(file, "a line\n")
    assert empty.until(b"\n") == "no line's end: a line\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
@pytest.mark.parametrize("errors", ["strict", "backslashreplace"])
def test_what_the_terminal_cannot_show(empty: Pipe, monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str) -> None:
    with open(empty.writes, "w", encoding=encoding, errors=errors, closefd=False) as file:
        monkeypatch.setattr(empty, "file", file)
        empty.queue().write("a\udc80\n", INFO)
        assert empty.until(b"\n") == "a\\udc80\n"


# ---- replacements ---------------------------------------------------------------------------------------------------


class Own(io.StringIO):
    """A replacement of stderr that has the descriptor of the original, as wrappers have, and does more than to write there."""

    def fileno(self) -> int:
        return 2


def test_replacements_are_written_at_once_and_by_their_own_methods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = queue()
    for make in (io.StringIO, Own):
        text = make()
        monkeypatch.setattr(sys, "stderr", text)
        out.write("a line\n", INFO)
        assert text.getvalue() == "a line\n"
    monkeypatch.setattr(sys, "stderr", gzip.open(tmp_path / "gz", "wt"))
    out.write("a line\n", INFO)
    sys.stderr.close()
    assert gzip.decompress((tmp_path / "gz").read_bytes()) == b"a line\n"
    assert out._thread is None


def test_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    out = queue()
    out.write("a line\n", INFO)
    out.flush()


class Raising(io.StringIO):
    what: Any = OSError("broken")

    def write(self, text: str) -> int:
        if self.what is not None:
            raise self.what
        return super().write(text)


@pytest.mark.parametrize("what", [OSError("full"), ValueError(), Broken(), *[end() for end in ENDS]])
def test_a_replacement_that_raises(monkeypatch: pytest.MonkeyPatch, what: BaseException) -> None:
    out, text = queue(), Raising()
    text.what = what
    monkeypatch.setattr(sys, "stderr", text)
    for _ in range(3):
        if isinstance(what, ENDS):
            with pytest.raises(type(what)):
                out.write("lost\n", INFO)
        else:
            out.write("lost\n", INFO)
    text.what = None
    out.write("a line\n", INFO)
    assert text.getvalue() == ("" if isinstance(what, ENDS) else "… 3 lines lost\n") + "a line\n"


# ---- without a thread -----------------------------------------------------------------------------------------------


def test_no_thread_can_be_had(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are written as far as stderr takes them at once; the next thread goes on."""

    def refused(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    out = full.queue()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        out.write("first\n", INFO)
        out.write("y" * 10_000 + "\n", INFO)
        assert out._done == 0
        full.free()
        out.write("second\n", INFO)
        assert full.until(b"second\n") == "first\n" + "y" * 10_000 + "\nsecond\n"
        os.write(full.writes, b"x" * 1000)
        out.write("third\n", INFO)
        out.flush()
        assert full.until(b"third\n") == "x" * 1000 + "third\n"
        os.close(full.reads)
        out.write("gone\n", INFO)
        full.reads = -1
        assert out._lost == 1


def test_who_waits_gets_a_thread_later(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise RuntimeError("can't start new thread")

    made = []
    thread = threading.Thread

    def new(*args: Any, **options: Any) -> Any:
        found = thread(*args, **options)
        if not made:
            monkeypatch.setattr(found, "start", refused)
        made.append(found)
        return found

    out = full.queue()
    waits = thread(target=out.write_waiting, args=("a line\n",))
    monkeypatch.setattr(threading, "Thread", new)
    waits.start()
    until(lambda: len(made) == 2)
    assert full.until(b"a line\n") == "a line\n"
    waits.join(10)
    assert not waits.is_alive()


def test_the_end_waits_a_bounded_time(full: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stderr, "END", 0.05)
    waits: list[float] = []
    wait = threading.Event.wait

    def noted(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread():
            assert timeout is not None
            waits.append(timeout)
        return wait(event, timeout)

    out = full.queue()
    out.write("a line\n", INFO)
    monkeypatch.setattr(threading.Event, "wait", noted)
    out.flush()
    out.end()
    out.write("after the end began\n", INFO)
    out.end()
    assert len(waits) == 4
    assert 0 < waits[0] <= 0.05
    assert 0 < waits[1] <= 0.05
    assert waits[2:] == [0, 0]
    assert full.until(b"began\n") == "a line\nafter the end began\n"


def test_flush_waits_until_all_is_written(empty: Pipe) -> None:
    out = empty.queue()
    for i in range(100):
        out.write(f"{i}\n", INFO)
        out.flush()
        assert os.read(empty.reads, 100) == f"{i}\n".encode()


def test_flush_while_the_thread_starts(empty: Pipe) -> None:
    """Another thread's line starts it, just before ``flush`` looks: two must not write."""
    out = empty.queue()
    real = out._guard

    class Late:
        """The guard, which another has first."""

        def __enter__(self) -> None:
            real.acquire()
            if out._guard is self:
                out._guard = real
                out.write("a line\n", INFO)

        def __exit__(self, *exc: object) -> None:
            real.release()

    drained: list[float] = []
    late: Any = Late()
    with empty.monkeypatch.context() as patch:
        patch.setattr(out, "_drain", drained.append)
        out._guard = late
        out.flush()
    assert drained == []
    assert empty.until(b"\n") == "a line\n"


FORKING = """
import logging, os, sys
from silly import logger
logger.info("of the parent")   # waits: stderr is full
pid = os.fork()
if pid == 0:
    os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 2)
    logger.info("of the child")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("waited", flush=True)
sys.stdin.read()
"""


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_writes_its_own_lines_at_once(tmp_path: Path) -> None:
    """It has no thread, and ends by ``os._exit``. What waited in its parent is written once."""
    pipe = children.Pipe()
    file = tmp_path / "child"
    with Child("-W", "ignore", "-c", FORKING, str(file), stderr=pipe.writes) as child:
        assert child.line() == "waited"
        assert pipe.until(b"of the parent\n").count("\n") == 1
        assert child.wait() == 0
    assert file.read_text().endswith("INFO of the child\n")
    assert file.read_text().count("\n") == 1
    pipe.close()


STUCK = """
import atexit, sys
atexit.register(lambda: logger.info("the last one"))  # runs after the queue's own end
from silly import logger
for i in range(100):
    logger.info(i)
print("logged", flush=True)
"""


def test_the_process_ends_though_nobody_reads_stderr() -> None:
    pipe = children.Pipe()
    with Child("-c", STUCK, stderr=pipe.writes) as child:
        assert child.line() == "logged"
        assert child.wait() == 0
    pipe.close()


def test_nothing_is_lost_at_the_end() -> None:
    with Child("-c", STUCK) as child:
        assert child.line() == "logged"
        assert child.wait() == 0
        lines = child.errors().splitlines()
    assert [line.rpartition("INFO ")[2] for line in lines] == [*map(str, range(100)), "the last one"]


NEVER_RAN = """
import silly
from silly import task
task.fork(print)
print("forked", flush=True)
"""


@pytest.mark.parametrize("fill", [False, True])
def test_a_report_at_the_end(fill: bool) -> None:
    """It is told by ``os._exit``'s status, and in words if stderr takes them."""
    pipe = children.Pipe(fill)
    with Child("-c", NEVER_RAN, stderr=pipe.writes) as child:
        assert child.line() == "forked"
        assert child.wait() == 1
    if not fill:
        assert "tasks that it forked never ran" in pipe.until(b"SCRIPT\n")
    pipe.close()


def test_sys_exit_with_a_text(tmp_path: Path) -> None:
    """``print`` would hold the loop here."""
    script = tmp_path / "app.py"
    script.write_text(
        "import sys, silly\nfrom silly import task\n"
        "class Bad:\n    def __str__(self):\n        raise BaseException\n"
        "what = sys.argv[1] if sys.argv[1:] else Bad()\n"
        "def ends():\n    print('ends', flush=True)\n    sys.exit(what)\n"
        "task.fork(ends)\nsilly.task.wait()\n"
    )
    pipe = children.Pipe()
    with Child("-m", "silly", str(script), "why", stderr=pipe.writes) as child:
        assert child.line() == "ends"
        assert child.wait() == 1
    pipe.close()
    for args, text in ((["why"], "why\n"), ([], "<Bad, which can't be shown: BaseException>\n")):
        with Child("-m", "silly", str(script), *args) as child:
            assert child.line() == "ends"
            assert (child.wait(), child.errors()) == (1, text)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of the system here")
def test_signal_handlers_may_log_wherever_they_come(empty: Pipe) -> None:
    """Within the queue's own code too, in the thread that has its lock."""
    out = empty.queue()
    logged = 0

    def handler(*_: Any) -> None:
        nonlocal logged
        logged += 1
        out.write("from the handler\n", INFO)

    before = signal.signal(signal.SIGALRM, handler)
    done = threading.Event()
    got: list[str] = []
    reader = threading.Thread(target=lambda: (got.append(empty.until(b"end\n")), done.set()))
    reader.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(20_000):
            out.write("from the program\n", ERROR)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    out.flush()
    out.write("end\n", ERROR)
    assert done.wait(10)
    reader.join()
    assert logged
    text = got[0]
    lost = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("…"))
    assert text.count("handler\n") + text.count("program\n") + lost == logged + 20_000
