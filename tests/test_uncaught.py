"""Exceptions that nobody caught: ``exc_info`` of their log records, and ``task.onerror``."""

from __future__ import annotations

import contextvars
import gc
import logging
import logging.handlers
import re
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import _log, task, time
from silly._core import scheduler
from silly.net import tcp, websocket
from silly.sync import channel

from .children import Child
from .conftest import Logs
from .helpers import Raw, serving, turn
from .net import tls_support
from .net.http_support import certs, connected
from .net.support import until


class Records(logging.Handler):
    """Keeps the records, as a test's handler does."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "held the loop for" not in text and not text.startswith("listening on "):  # on a slow machine any test may hold it
            self.records.append(record)


@pytest.fixture
def records(logs: Logs) -> Iterator[list[logging.LogRecord]]:
    logs.allow("exception in ")
    handler = Records()
    logging.getLogger("silly").addHandler(handler)
    yield handler.records
    logging.getLogger("silly").removeHandler(handler)


@pytest.fixture(autouse=True)
def no_hooks() -> Iterator[None]:
    yield
    task.onerror(None)
    task.hook()


class Bug(Exception):
    """What the code of these tests raises."""


def bug(*_: Any) -> None:
    raise Bug("a bug")


def raises_later(*_: Any) -> None:
    time.sleep(1)
    raise Bug("a bug")


# ---- where exceptions come from -------------------------------------------------------------------------------------


def a_task() -> None:
    task.fork(bug)


def a_task_that_blocked() -> None:
    task.fork(raises_later)


def a_timer() -> None:
    time.after(1, bug)


def a_term_hook() -> None:
    task.hook(term=bug)
    task.fork(len, "")
    turn(3)
    task.hook()


def a_create_hook() -> None:
    task.hook(create=bug)
    task.fork(len, "")
    task.hook()


def a_callback() -> None:
    scheduler.loop.post(bug)


def an_accept_handler_of_tcp() -> None:
    with silly.check(tcp.listen("127.0.0.1:0", bug)) as listener, silly.check(tcp.connect(listener.addr)) as conn:
        assert conn.read(1, 20_000)[0] is None


def an_accept_handler_of_tls() -> None:
    with tls_support.listening(bug) as listener, tls_support.connect(listener) as conn:
        assert conn.read(1, 20_000)[0] is None


def an_http_handler(scheme: str = "http") -> None:
    with serving(bug, **({"certs": certs()} if scheme == "https" else {})) as server, connected(server) as client:
        client.request("/")
        assert client.response().status == 500


def an_https_handler() -> None:
    an_http_handler("https")


def a_websocket_handler() -> None:
    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        with sock:
            sock.read()
            bug()

    with serving(handler) as server:
        sock = silly.check(websocket.connect(f"ws://127.0.0.1:{server.port}/"))
        sock.write("go")
        while sock.read()[0] is not None:
            pass
        assert sock.closecode == 1011
        sock.close()


OF_TASKS = [a_task, a_task_that_blocked, a_timer, a_term_hook, an_accept_handler_of_tcp, an_accept_handler_of_tls]
OF_HTTP = [an_http_handler, an_https_handler, a_websocket_handler]
OF_NO_TASK = [a_create_hook, a_callback]


@pytest.mark.parametrize("cause", [*OF_TASKS, *OF_HTTP, *OF_NO_TASK])
def test_the_record_of_an_uncaught_exception_has_exc_info(
    cause: Callable[[], None], records: list[logging.LogRecord]
) -> None:
    """Sentry and OpenTelemetry group by it. The record's own text has no traceback, its formatted text has one."""
    cause()
    until(lambda: records)
    (record,) = records
    assert record.exc_info
    kind, exc, tb = record.exc_info
    assert (kind, str(exc)) == (Bug, "a bug")
    assert tb is not None
    assert record.name == ("silly.http" if cause in OF_HTTP else "silly.task")
    assert "Traceback" not in record.getMessage()
    text = logging.Formatter("%(levelname)s %(message)s").format(record)
    assert text.count("Traceback (most recent call last)") == 1
    assert text.endswith("Bug: a bug")
    assert all(line.startswith("  ") for line in text.splitlines()[1:])


SCRIPT = """
import logging, signal, silly, sys
from silly import task
class Records(logging.Handler):
    def emit(self, record):
        if record.exc_info:
            print(record.name, record.exc_info[0].__name__, record.getMessage(), flush=True)
if "records" in sys.argv:
    logging.getLogger("silly").addHandler(Records())
task.onerror(lambda failed, exc: print("told", type(exc).__name__, flush=True))
def handler(*_):
    raise ZeroDivisionError
"""


def test_an_exception_of_a_script(tmp_path: Path) -> None:
    """Under the launcher: without the launcher's frames, and told to the hook."""
    script = tmp_path / "app.py"
    script.write_text(SCRIPT + "1 / 0\n")
    with Child("-m", "silly", str(script), "records") as child:
        assert child.line() == f"silly.task ZeroDivisionError {script}:"
        assert child.line() == "told ZeroDivisionError"
        assert child.wait() == 1
    with Child("-m", "silly", str(script)) as child:
        assert child.wait() == 1
        errors = child.errors()
    assert errors.count("Traceback") == 1
    assert f"ERROR {script}:\n  Traceback (most recent call last):\n    File \"{script}\"" in errors


def test_an_exception_of_a_signal_handler(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    # It comes when the script has long ended: else it would be raised in the script.
    begin = "signal.signal(signal.SIGALRM, handler)\nsignal.setitimer(signal.ITIMER_REAL, 0.5)\n"
    script.write_text(SCRIPT + FOREVER + begin)
    with Child("-m", "silly", str(script), "records") as child:
        assert child.line() == "silly.task ZeroDivisionError exception in a signal handler:"
        assert child.stop() == 0


FOREVER = "silly.net.tcp.listen('127.0.0.1:0', handler)\n"


# ---- what stays -----------------------------------------------------------------------------------------------------


class Big:
    """Something that must not live longer than the code that had it."""


@pytest.mark.parametrize("how", ["task", "http", "callback", "hook for errors"])
def test_nothing_of_the_code_that_failed_lives_on(how: str, records: list[logging.LogRecord]) -> None:
    """Though a handler keeps the record, and with it the traceback. A connection that nobody closed is closed."""
    gone: list[weakref.ref[Big]] = []

    def fails(*_: Any) -> None:
        big = Big()
        gone.append(weakref.ref(big))
        try:
            raise Bug
        except Bug as exc:
            raise ValueError(big.__class__) from exc

    gc.disable()
    try:
        if how == "task":
            task.fork(fails)
        elif how == "hook for errors":
            task.onerror(fails)
            task.fork(bug)
        elif how == "callback":
            scheduler.loop.post(fails)
        else:
            with serving(fails) as server, connected(server) as client:
                client.request("/")
                assert client.response().status == 500
        until(lambda: records)
        turn(2)
        assert [each() for each in gone] == [None]
    finally:
        gc.enable()
    assert records[0].exc_info


def test_a_generator_that_has_caught_the_exception_lives_on(records: list[logging.LogRecord]) -> None:
    kept: list[Any] = []

    def generator() -> Iterator[Any]:
        try:
            bug()
        except Bug as exc:
            yield exc
        yield "still here"

    def fails() -> None:
        kept.append(generator())
        raise next(kept[0])

    task.fork(fails)
    until(lambda: records)
    turn(2)
    assert next(kept[0]) == "still here"


class Bare(Exception):
    __traceback__ = property(lambda self: 1 / 0)


class Wrong(Exception):
    __cause__ = 7  # type: ignore[assignment]


class Group(ExceptionGroup[Exception]):
    exceptions = property(lambda self: 1 / 0)  # type: ignore[assignment]


ODD = [Bare("x"), Wrong("x"), Group("x", [ValueError("y")])]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_an_exception_whose_attributes_raise_ends_its_task_alone(odd: Exception, records: list[logging.LogRecord]) -> None:
    """What has failed before is not hidden by what fails in telling of it."""
    told = channel.new()

    def fails() -> None:
        raise odd

    def report(failed: task.Task, exc: BaseException) -> None:
        told.push(exc)
        raise odd

    task.onerror(report)
    task.fork(fails)
    task.fork(told.push, "another task")
    assert [told.pop()[0], told.pop()[0]] == [odd, "another task"]
    until(lambda: len(records) == 2)
    for record in records:
        text = logging.Formatter("%(message)s").format(record)
        assert re.search(r"\n  Traceback .*\n(    .*\n)+  <\w+, which can't be shown: \w+>$", text)


def test_an_exception_s_text_cannot_forge_a_line(records: list[logging.LogRecord]) -> None:
    def fails() -> None:
        raise Bug("x\n2026-01-31 12:00:00.123 ERROR forged\x1b[31m")

    task.fork(fails)
    until(lambda: records)
    text = logging.Formatter("%(message)s").format(records[0])
    assert "\n  2026-01-31 12:00:00.123 ERROR forged\\x1b[31m" in text
    lines: SimpleQueue[Any] = SimpleQueue()
    logging.handlers.QueueHandler(lines).emit(records[0])
    passed = lines.get()
    assert passed.getMessage() == text
    assert passed.exc_info is None, "no frame waits for the thread that writes"


@pytest.mark.parametrize("depth", [0, 400])
def test_a_long_traceback_is_cut_in_its_middle(depth: int, records: list[logging.LogRecord]) -> None:
    def one(left: int) -> None:
        other(left - 1) if left > 0 else bug()

    def other(left: int) -> None:
        one(left - 1)

    def fails() -> None:
        try:
            one(depth)
        except Bug:
            raise Bug("s" * 2_000_000 + "end") from None

    task.fork(fails)
    task.fork(one, depth)
    until(lambda: len(records) == 2)
    for record in records:
        text = record.exc_text
        assert text is not None
        assert len(text) < 1.5 * _log.TRACE
        assert text.startswith("  Traceback")
        assert text.endswith(("end", "a bug"))


# ---- task.onerror ---------------------------------------------------------------------------------------------------


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


@pytest.mark.parametrize("cause", [*OF_TASKS, *OF_HTTP])
def test_the_hook_for_errors_is_told_of_each(cause: Callable[[], None], records: list[logging.LogRecord]) -> None:
    """In the task that has failed, after the log line."""
    told: list[Any] = []

    def tell(failed: task.Task, exc: BaseException) -> None:
        told.append((failed is task.running(), type(exc), len(records)))

    task.onerror(tell)
    cause()
    until(lambda: told)
    assert told == [(True, Bug, 1)]


@pytest.mark.parametrize("cause", OF_NO_TASK)
def test_the_hook_for_errors_is_not_told_where_no_task_failed(
    cause: Callable[[], None], records: list[logging.LogRecord]
) -> None:
    told: list[Any] = []
    task.onerror(lambda *args: told.append(args))
    cause()
    until(lambda: records)
    turn(2)
    assert told == []


@pytest.mark.parametrize("kind", [GreenletExit, KeyboardInterrupt])
def test_the_hook_for_errors_is_not_told_of_ends(kind: type[BaseException]) -> None:
    told: list[Any] = []
    task.onerror(lambda *args: told.append(args))

    def ends() -> None:
        raise kind

    me = task.fork(ends)
    if kind is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            task.wait()
    until(lambda: task.status(me) is None)
    assert told == []


def test_the_hook_for_errors_has_the_task_s_context_variables(logs: Logs) -> None:
    logs.expect("Bug")
    told: list[str] = []

    def fails() -> None:
        WHO.set("the task")
        bug()

    task.onerror(lambda failed, exc: told.append(WHO.get()))
    task.fork(fails)
    until(lambda: told)
    assert told == ["the task"]
    assert WHO.get() == "nobody"


@pytest.mark.parametrize("cause", [a_task, an_http_handler])
def test_the_hook_for_errors_may_block(cause: Callable[[], None], records: list[logging.LogRecord]) -> None:
    """Others run meanwhile. A task's own deadlines, of code that has failed, don't bound it."""
    order: list[str] = []

    def tell(failed: task.Task, exc: BaseException) -> None:
        task.fork(order.append, "another task")
        time.sleep(1)
        order.append("the hook")

    task.onerror(tell)
    cause()
    until(lambda: len(order) == 2)
    assert order == ["another task", "the hook"]


@pytest.mark.parametrize("place", ["task", "http"])
def test_a_deadline_that_a_failed_generator_left_open_does_not_bound_the_hook(place: str, logs: Logs) -> None:
    logs.expect("Bug")
    told: list[str] = []
    kept: list[Any] = []

    def bounded() -> Iterator[None]:
        with time.deadline(0):
            yield

    def fails(stream: Any = None) -> None:
        kept.append(bounded())
        next(kept[0])
        bug()

    def tell(failed: task.Task, exc: BaseException) -> None:
        time.sleep(1)
        told.append("slept")

    task.onerror(tell)
    if place == "task":
        task.fork(fails)
        until(lambda: told)
    else:
        with serving(fails) as server, connected(server) as client:
            client.request("/")
            assert client.response().status == 500
    del kept[:]
    assert told == ["slept"]


def test_none_removes_the_hook_for_errors(logs: Logs) -> None:
    logs.expect("Bug")
    told: list[Any] = []
    task.onerror(lambda *args: told.append(args))
    task.onerror(None)
    task.fork(bug)
    until(lambda: logs.lines)
    turn(2)
    assert told == []


@pytest.mark.parametrize("cause", [a_task, an_http_handler])
def test_a_hook_for_errors_that_raises_is_logged_once(cause: Callable[[], None], records: list[logging.LogRecord]) -> None:
    def tell(failed: task.Task, exc: BaseException) -> None:
        raise ValueError("in the hook")

    task.onerror(tell)
    cause()
    until(lambda: len(records) >= 2)
    turn(3)
    assert [str(record.exc_info[1]) for record in records if record.exc_info] == ["a bug", "in the hook"]
    assert "exception in the hook for errors" in records[1].getMessage()
    assert "tell" in records[1].getMessage()


@pytest.mark.parametrize("kind", [GreenletExit, KeyboardInterrupt])
def test_an_end_in_the_hook_for_errors_ends_the_task(kind: type[BaseException], logs: Logs) -> None:
    logs.expect("Bug")

    def tell(failed: task.Task, exc: BaseException) -> None:
        raise kind

    task.onerror(tell)
    me = task.fork(bug)
    if kind is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            task.wait()
    until(lambda: task.status(me) is None)
    assert len(logs.lines) == 1


def test_sys_exit_in_the_hook_for_errors_ends_the_process(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(SCRIPT + "task.onerror(lambda *_: sys.exit(7))\ntask.fork(handler)\n" + FOREVER)
    with Child("-m", "silly", str(script)) as child:
        assert child.wait() == 7


def test_a_child_of_os_fork_does_not_call_the_parent_s_hook(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(SCRIPT + "import os\nif not os.fork():\n    1 / 0\nprint(os.wait()[1] != 0, flush=True)\n")
    with Child("-m", "silly", str(script)) as child:
        assert child.line() == "True"
        assert child.wait() == 0
        assert "in the hook" not in child.errors()


@pytest.mark.parametrize("func", [5, "report", [], object()])
def test_a_hook_that_cannot_be_called_is_refused(func: Any) -> None:
    with pytest.raises(TypeError, match=r"task\.onerror needs a function or None, not "):
        task.onerror(func)
    with pytest.raises(TypeError, match=r"task\.hook: create is a function or None, not "):
        task.hook(func)
    with pytest.raises(TypeError, match=r"task\.hook: term is a function or None, not "):
        task.hook(None, func)


def test_a_handler_that_is_kept_waiting_by_the_hook_still_gets_its_answer(logs: Logs) -> None:
    """The 500 comes when the hook has returned."""
    logs.expect("Bug")
    order: list[str] = []
    go = silly.sync.channel.new()

    def tell(failed: task.Task, exc: BaseException) -> None:
        go.pop()
        order.append("hook")

    task.onerror(tell)
    with serving(bug) as server, Raw.connect(server) as client:
        client.request("/")
        until(lambda: logs.lines)
        go.push("on")
        assert client.response().status == 500
        order.append("answer")
    assert order == ["hook", "answer"]
