"""``silly.logger``."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import _log, logger, task, time
from silly._core import scheduler

from .conftest import Logs
from .helpers import turn
from .net.support import until

LEVELS = {"debug": logger.DEBUG, "info": logger.INFO, "warn": logger.WARN, "error": logger.ERROR}
LINES = _log.task
NAMES = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR"}


class Lines(logging.Handler):
    """An application's handler."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "held the loop for" not in record.getMessage():  # on a slow machine any test may
            self.lines.append((record.levelname, record.getMessage()))


@pytest.fixture(autouse=True)
def level_restored(logs: Logs) -> Iterator[None]:
    logs.allow("")
    before = logger.getlevel()
    yield
    logger.setlevel(before)


@pytest.fixture
def lines() -> Iterator[list[tuple[str, str]]]:
    """What an application's handler gets."""
    handler = Lines()
    log = logging.getLogger("silly")
    log.addHandler(handler)
    yield handler.lines
    log.removeHandler(handler)


@pytest.mark.parametrize("name", LEVELS)
def test_values_are_separated_by_spaces(lines: list[tuple[str, str]], name: str) -> None:
    logger.setlevel(logger.DEBUG)
    getattr(logger, name)("port", 8080, {"a": 1}, None, 1.5, b"x")
    getattr(logger, name)()
    assert lines == [(NAMES[name], "port 8080 {'a': 1} None 1.5 b'x'"), (NAMES[name], "")]


@pytest.mark.parametrize("name", LEVELS)
def test_formats(lines: list[tuple[str, str]], name: str) -> None:
    logger.setlevel(logger.DEBUG)
    getattr(logger, name + "f")("port %s of %s: 100%%", 8080, "host")
    assert lines == [(NAMES[name], "port 8080 of host: 100%")]


def test_a_percent_sign_in_a_value_is_text(lines: list[tuple[str, str]]) -> None:
    logger.info("50% of %s %d")
    logger.infof("%s", "100%s")
    assert lines == [("INFO", "50% of %s %d"), ("INFO", "100%s")]


@pytest.mark.parametrize("fmt", ["%d", "%", "%5s", "%q and %s", "100%\n"])
def test_a_format_with_anything_but_s_raises(fmt: str) -> None:
    with pytest.raises(ValueError, match="invalid option"):
        logger.infof(fmt, 1, 2)


def test_a_format_with_too_few_values_raises_and_one_with_too_many_does_not(lines: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match="too few"):
        logger.errorf("%s %s", 1)
    logger.errorf("%s", 1, 2)
    assert lines == [("ERROR", "1")]


@pytest.mark.parametrize("level", LEVELS)
def test_lines_below_the_level_are_dropped(lines: list[tuple[str, str]], level: str) -> None:
    logger.setlevel(LEVELS[level])
    assert logger.getlevel() == LEVELS[level]
    for name in LEVELS:
        getattr(logger, name)(name)
        getattr(logger, name + "f")("%s", name)
    assert lines == [(NAMES[name], name) for name in LEVELS if LEVELS[name] >= LEVELS[level] for _ in range(2)]


def test_a_dropped_line_costs_no_formatting(lines: list[tuple[str, str]]) -> None:
    class Loud:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    logger.setlevel(logger.ERROR)
    for call in (logger.debug, logger.info, logger.warn):
        call(Loud())
    for call in (logger.debugf, logger.infof, logger.warnf):
        call("%s", Loud())
    assert lines == []


def test_the_level_is_info_at_first() -> None:
    assert logger.getlevel() == logger.INFO


@pytest.mark.parametrize("level", [-1, 4, "info", None, 1.5])
def test_setlevel_refuses_an_invalid_level(level: Any) -> None:
    with pytest.raises(ValueError, match="log level"):
        logger.setlevel(level)
    assert logger.getlevel() == logger.INFO


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("a\rb", r"a\rb"),
        ("a\x00b\x7fc\x85d", r"a\x00b\x7fc\x85d"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("tab\tstays, é and 漢 too", "tab\tstays, é and 漢 too"),
    ],
)
@pytest.mark.parametrize("call", [logger.info, lambda text: logger.infof("%s", text)])
def test_control_characters_are_escaped(
    lines: list[tuple[str, str]], call: Callable[[str], None], text: str, shown: str
) -> None:
    call(text)
    assert lines == [("INFO", shown)]


@contextlib.contextmanager
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """Logging as a plain program has it: only what silly itself set up. (pytest adds handlers of its own.) Gives stderr."""
    out = io.BytesIO()
    root, silly = logging.getLogger(), logging.getLogger("silly")
    text = io.TextIOWrapper(out, "ascii", errors="backslashreplace", write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", text)
        patch.setattr(root, "handlers", [])
        patch.setattr(silly, "handlers", [h for h in silly.handlers if isinstance(h, _log._Stderr)])
        yield out
    text.detach()


STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"


def test_lines_go_to_stderr_where_nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    with plain(monkeypatch) as stderr:
        logger.info("port", 8080)
        logger.error("bad")
    assert re.fullmatch(rf"{STAMP} INFO port 8080\n{STAMP} ERROR bad\n", stderr.getvalue().decode())


def test_text_from_a_peer_cannot_forge_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with plain(monkeypatch) as stderr:
        logger.info("header:", "x\n2026-01-31 12:00:00.123 ERROR forged", "y\r\n2026-01-31 12:00:00.123 ERROR forged")
    lines = stderr.getvalue().decode().split("\n")
    assert sum(bool(re.match(STAMP, line)) for line in lines) == 1
    assert sum("forged" in line for line in lines) == 2


@pytest.mark.parametrize("name", ["", "silly"])
def test_an_application_that_adds_a_handler_gets_the_records_instead(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    handler = Lines()
    with plain(monkeypatch) as stderr:
        logging.getLogger(name).addHandler(handler)
        logger.info("to the application")
    assert handler.lines == [("INFO", "to the application")]
    assert stderr.getvalue() == b""


def test_text_that_the_terminal_cannot_show_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with plain(monkeypatch) as stderr:
        logger.info("é", "\ud800")
    assert stderr.getvalue().endswith(b"INFO \\xe9 \\ud800\n")


# ---- an application's handler that raises ---------------------------------------------------------------------------


class Broken(BaseException):
    """Neither an Exception nor an end, as ``asyncio.CancelledError``."""


class Raising(logging.Handler):
    """An application's handler with a bug."""

    def __init__(self, what: type[BaseException] = Broken) -> None:
        super().__init__()
        self.what = what
        self.calls = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.calls += 1
        raise self.what("no room")


@contextlib.contextmanager
def raising(monkeypatch: pytest.MonkeyPatch, handler: logging.Handler) -> Iterator[io.StringIO]:
    """With this handler; gives stderr."""
    out = io.StringIO()
    log = logging.getLogger("silly")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", out)
        log.addHandler(handler)
        yield out
        log.removeHandler(handler)


class Finalized:
    def __del__(self) -> None:
        logger.error("from a finalizer")


def in_thread() -> None:
    thread = threading.Thread(target=logger.warn, args=("from a thread",))
    thread.start()
    thread.join()


def fail(*_: Any) -> None:
    raise ZeroDivisionError


class Unspeakable:
    """A callback of which not even the name can be told."""

    def __getattr__(self, name: str) -> Any:
        raise Broken

    def __repr__(self) -> str:
        raise Broken

    def __call__(self, *_: Any) -> None:
        fail()


PLACES: dict[str, Callable[[], object]] = {
    "the program": lambda: logger.info("line"),
    "a callback": lambda: scheduler.loop.post(fail),
    "a timer": lambda: time.after(0, fail),
    "a task": lambda: task.fork(fail),
    "a thread": in_thread,
    "a finalizer": Finalized,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", [RuntimeError, Broken, RecursionError])
@pytest.mark.parametrize("place", PLACES)
def test_a_handler_that_raises_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, place: str, what: type[BaseException]
) -> None:
    handler = Raising(what)
    with raising(monkeypatch, handler) as stderr:
        PLACES[place]()
        until(lambda: handler.calls)
        turn(2)
    text = stderr.getvalue()
    assert "ERROR a handler of log lines failed at: " in text
    assert f"{what.__name__}: no room" in text
    assert text.count("failed at") == 1


@pytest.mark.filterwarnings("error")
def test_a_line_about_an_object_that_cannot_be_shown_ends_nothing(logs: Logs) -> None:
    time.after(0, Unspeakable())
    scheduler.loop.post(Unspeakable())
    task.fork(Unspeakable())
    until(lambda: len(logs.lines) == 3)
    assert all("Unspeakable.__call__" in line for line in logs.lines)


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit, scheduler.GreenletExit])
def test_a_handler_may_end_the_task(monkeypatch: pytest.MonkeyPatch, what: type[BaseException]) -> None:
    with raising(monkeypatch, Raising(what)) as stderr:
        with pytest.raises(what):
            logger.info("line")
        with pytest.raises(what):
            logger.info("line")
    assert stderr.getvalue() == ""


class Bare(Exception):
    __traceback__ = property(lambda self: 1 / 0)


def test_a_handler_that_raises_what_cannot_be_shown_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with raising(monkeypatch, Raising(Bare)) as stderr:
        logger.info("line")
    first, *trace, last = stderr.getvalue().splitlines()
    assert first.endswith("ERROR a handler of log lines failed at: line")
    assert trace[-1].strip() == 'raise self.what("no room")'
    assert last == "  <Bare, which can't be shown: ZeroDivisionError>"


def test_a_value_whose_text_raises_is_no_error_of_the_line(lines: list[tuple[str, str]]) -> None:
    """Log lines never raise: they stand in ``except`` blocks and finalizers. Ends pass."""
    logger.error("one", Unspeakable(), "two")
    logger.errorf("%s and %s", Unspeakable(), 2)
    unspeakable = "<Unspeakable, which can't be shown: Broken>"
    assert lines == [("ERROR", f"one {unspeakable} two"), ("ERROR", f"{unspeakable} and 2")]


def test_a_handler_that_keeps_raising_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And how often it happened. Without a clock: no second passes."""
    monkeypatch.setattr(_log, "monotonic", lambda: 1.0)
    monkeypatch.setattr(_log, "_REST", 0.0)
    with raising(monkeypatch, Raising()) as stderr:
        for i in range(20):
            logger.info("line", i)
        assert stderr.getvalue().count("failed at: line 0") == 1
        assert stderr.getvalue().count("Traceback") == 1
        until(lambda: "more" in stderr.getvalue())
    assert stderr.getvalue().count("Traceback") == 2
    assert stderr.getvalue().endswith("Broken: no room (… 18 more lines like it)\n")


def test_a_handler_that_raises_while_nobody_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with raising(monkeypatch, Raising()) as stderr:
        logger.info("line")
    assert stderr.getvalue() == ""


def test_a_handler_that_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own lines go to stderr: given to itself they would lead to more and more of them."""

    class Logging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logger.error("one", record.getMessage())
            logger.error("two")
            raise Broken

    with raising(monkeypatch, Logging()) as stderr:
        logger.info("line")
    lines = stderr.getvalue().splitlines()
    assert lines[0].endswith("ERROR one line")
    assert lines[1].endswith("ERROR two")
    assert lines[2].endswith("ERROR a handler of log lines failed at: line")


def test_a_handler_that_blocks_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks log meanwhile."""
    got = []

    class Blocking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            time.sleep(0)
            got.append(record.getMessage())

    with raising(monkeypatch, Blocking()) as stderr:
        for i in range(3):
            task.fork(lambda i=i: logger.info(i))
        until(lambda: len(got) == 3)
    assert got == ["0", "1", "2"]
    assert stderr.getvalue() == ""


def test_a_stack_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is lost, and counted. What the program has to tell comes through."""
    depths = []

    def deeper(depth: int) -> None:
        logger.info(depth)
        depths.append(depth)
        deeper(depth + 1)

    with plain(monkeypatch) as stderr:
        with pytest.raises(RecursionError):
            deeper(0)
        logger.info("after")
    lines = stderr.getvalue().decode().splitlines()
    assert lines[-1].endswith("INFO after")
    assert depths


def test_a_record_tells_who_logged(lines: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(Lines, "emit", lambda self, record: found.append((record.filename, record.funcName)))
    logger.info("line")
    logger.errorf("%s", 1)
    assert found == [("test_logger.py", "test_a_record_tells_who_logged")] * 2


# ---- the loggers of the subjects -------------------------------------------------------------------------------------

SUBJECTS = {
    # The longest prefix decides.
    "silly": "task",
    "silly.net": "tcp",
    "silly.net.tls": "tls",
    "silly.net._tls": "tls",
    "silly.net._certificates": "tls",
    "silly.net.http": "http",
    "silly.net.websocket": "websocket",
}
WITHOUT = {"silly._log", "silly.logger", "silly._stderr"}
"""What writes the lines, and has none of its own."""


def subject_of(module: str) -> str:
    return SUBJECTS[max((prefix for prefix in SUBJECTS if module.startswith(prefix)), key=len)]


def test_each_line_of_the_library_goes_to_the_logger_of_its_module() -> None:
    """None goes to the bare ``silly``: that is the application's. Only the launcher needs it, for ``-l``."""
    root = Path(silly.__file__).parent
    found: dict[str, str] = {}
    of_the_application: list[str] = []
    for path in root.rglob("*.py"):
        module = ".".join(("silly", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            for each in node.names:
                if node.module == "_log" and each.asname == "logger":
                    found[module] = each.name
                elif each.name == "logger" or node.module == "logger":
                    of_the_application.append(module)
        if module not in WITHOUT:
            assert "getLogger" not in ast.unparse(tree), module
    assert sorted(of_the_application) == ["silly", "silly.__main__"], "the first is for the type checker"
    uses = set(re.findall(r"\blogger\.(\w+)", (root / "__main__.py").read_text()))
    assert uses == {"setlevel"}
    assert len(found) >= 15
    assert {module: subject_of(module) for module in found} == found


def test_the_subjects_are_those_of_the_page() -> None:
    text = (Path(__file__).parent.parent / "docs" / "logs.md").read_text()
    names = [subject._log.name for subject in _log.SUBJECTS]
    assert re.findall(r"^\| `(silly\.\w+)` \|", text, re.MULTILINE) == names
    assert {*SUBJECTS.values()} == {name.removeprefix("silly.") for name in names}


@pytest.fixture
def http_log() -> Iterator[logging.Logger]:
    log = logging.getLogger("silly.http")
    yield log
    log.setLevel(logging.NOTSET)
    log.propagate = True
    log.disabled = False
    del log.handlers[:]


def test_a_line_of_the_application_is_of_silly_and_one_of_the_library_of_its_subject(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    with plain(monkeypatch):
        handler = Lines()
        monkeypatch.setattr(handler, "emit", lambda record: found.append((record.name, record.getMessage())))
        logging.getLogger("silly").addHandler(handler)
        logger.warn("mine")
        for subject in _log.SUBJECTS:
            subject.warn("theirs")
            subject.limited(subject._log.name, "a peer's")
    names = [subject._log.name for subject in _log.SUBJECTS]
    assert found == [("silly", "mine"), *[(name, text) for name in names for text in ("theirs", "a peer's")]]


@pytest.mark.parametrize("level", LEVELS)
def test_setlevel_holds_for_every_subject(lines: list[tuple[str, str]], level: str) -> None:
    logger.setlevel(LEVELS[level])
    for name in LEVELS:
        getattr(_log.http, name)(name)
        _log.http.limited(f"limited {name}", name, LEVELS[name])
    assert lines == [(NAMES[name], name) for name in LEVELS if LEVELS[name] >= LEVELS[level] for _ in range(2)]


def test_a_subject_s_own_level_goes_before_that_of_silly(lines: list[tuple[str, str]], http_log: logging.Logger) -> None:
    """As in ``logging``."""
    http_log.setLevel(logging.DEBUG)
    logger.setlevel(logger.ERROR)
    _log.http.debug("shown")
    _log.http.limited("a", "shown too", logger.DEBUG)
    _log.tls.debug("not shown")
    _log.tls.limited("b", "not shown", logger.DEBUG)
    http_log.setLevel(logging.CRITICAL)
    logger.setlevel(logger.DEBUG)
    _log.http.error("not shown")
    _log.http.limited("c", "not shown", logger.ERROR)
    _log.tls.debug("shown")
    assert lines == [("DEBUG", "shown"), ("DEBUG", "shown too"), ("DEBUG", "shown")]


def test_a_handler_of_a_subject_gets_its_lines_in_place_of_stderr(
    monkeypatch: pytest.MonkeyPatch, http_log: logging.Logger
) -> None:
    handler = Lines()
    with plain(monkeypatch) as stderr:
        http_log.addHandler(handler)
        _log.http.warn("of http")
        _log.tls.warn("of tls")
    assert handler.lines == [("WARNING", "of http")]
    assert stderr.getvalue().decode().endswith("WARNING of tls\n")
    assert b"of http" not in stderr.getvalue()


def test_a_subject_that_does_not_propagate_is_its_handlers_alone(
    monkeypatch: pytest.MonkeyPatch, http_log: logging.Logger, lines: list[tuple[str, str]]
) -> None:
    handler = Lines()
    http_log.addHandler(handler)
    http_log.propagate = False
    _log.http.warn("one")
    http_log.disabled = True
    _log.http.warn("two")
    assert (handler.lines, lines) == ([("WARNING", "one")], [])


def test_an_exception_is_on_stderr_once_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with plain(monkeypatch) as stderr:
        try:
            raise ValueError("one\ntwo\x1b")
        except ValueError as exc:
            _log.http.error("exception in x:", exc)
    first, *rest = stderr.getvalue().decode().splitlines()
    assert re.fullmatch(f"{STAMP} ERROR exception in x:", first)
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-2:] == ["  ValueError: one", "  two\\x1b"]
    assert all(line.startswith("  ") for line in rest)


def test_a_handler_that_fails_loses_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with raising(monkeypatch, Raising()) as stderr:
        _log.http.error("exception in x:", ValueError("lost"))
    text = stderr.getvalue()
    assert "failed at: exception in x:" in text
    assert "ValueError: lost" in text
    assert "Broken: no room" in text


def test_a_handler_that_logs_an_exception_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Logging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _log.tcp.error("inner:", ValueError("inner"))

    with raising(monkeypatch, Logging()) as stderr:
        logger.info("line")
    assert stderr.getvalue().endswith("ERROR inner:\n  ValueError: inner\n")


def test_the_handlers_of_all_subjects_are_flushed(monkeypatch: pytest.MonkeyPatch, http_log: logging.Logger) -> None:
    """Before an end that is forced."""
    flushed = []
    handler = Lines()
    monkeypatch.setattr(handler, "flush", lambda: flushed.append("http"))
    http_log.addHandler(handler)
    _log.flush()
    assert flushed == ["http"]


# ---- logging.config -------------------------------------------------------------------------------------------------

CONFIGURED = """
import logging, logging.config, os
from silly import _log, logger
config = {config}
handlers = {{"all": {{"class": "logging.StreamHandler", "formatter": "named"}}}}
formatters = {{"named": {{"format": "%(name)s %(message)s"}}}}
logging.config.dictConfig({{"version": 1, **config, "handlers": handlers, "formatters": formatters}})
for number in range(1000):
    logger.info(number)
_log.http.info("of the library")
logging.shutdown()
os._exit(0)
"""
ROOT = {"root": {"handlers": ["all"]}}
NAMED: list[tuple[dict[str, Any], str]] = [
    ({"loggers": {"silly": {"handlers": ["all"]}}}, "silly {}"),
    ({"loggers": {"silly": {"level": "INFO"}}, **ROOT}, "silly {}"),
    ({"disable_existing_loggers": False, **ROOT}, "silly {}"),
    ({"disable_existing_loggers": False}, "INFO {}"),
]


@pytest.mark.parametrize(("config", "form"), NAMED)
def test_dictconfig_as_the_page_says_loses_no_line(config: dict[str, Any], form: str) -> None:
    """``logging.shutdown`` writes what waits, though dictConfig makes ``logging`` forget the handlers that there are."""
    command = [sys.executable, "-c", CONFIGURED.format(config=config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    lines = [re.sub(f"^{STAMP} ", "", line) for line in done.stderr.splitlines()]
    http = form.replace("silly", "silly.http").format("of the library")
    assert lines == [*[form.format(number) for number in range(1000)], http]


# ---- lines that peers can cause -------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(_log, "monotonic", found)
    monkeypatch.setattr(_log, "_armed", True)  # nothing is told by a timer
    return found


def test_a_burst_goes_through_and_the_rest_is_counted(lines: list[tuple[str, str]], clock: Clock) -> None:
    for i in range(1000):
        LINES.limited("a", f"line {i}")
    assert [text for _, text in lines] == [f"line {i}" for i in range(100)]
    LINES.limited("b", "of another kind", logger.ERROR)
    assert lines.pop() == ("ERROR", "of another kind")
    del lines[:]
    clock.now += 0.1
    for _ in range(10):
        LINES.limited("a", "one more")
    assert lines.pop(0) == ("INFO", "one more (… 900 more lines like it)")
    assert lines == []
    clock.now += 0.35
    for i in range(5):
        LINES.limited("a", f"now {i}")
    assert [text for _, text in lines] == ["now 0 (… 9 more lines like it)", "now 1", "now 2"]
    clock.now += 3600
    del lines[:]
    for _ in range(200):
        LINES.limited("a", "later")
    assert len(lines) == 100


def test_what_was_held_back_is_told_after_a_while(lines: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_log, "_REST", 0.0)
    for i in range(103):
        LINES.limited("a", f"line {i}")
    LINES.limited("b", "told", burst=1)
    LINES.limited("b", "held back", burst=1)
    assert len(lines) == 101
    before = len(scheduler.loop.timers)
    until(lambda: len(lines) == 103)
    assert lines[-2:] == [("INFO", "line 102 (… 2 more lines like it)"), ("INFO", "held back")]
    assert len(scheduler.loop.timers) == before


def test_a_limited_line_that_is_dropped_is_not_counted(lines: list[tuple[str, str]], clock: Clock) -> None:
    logger.setlevel(logger.WARN)
    for _ in range(1000):
        LINES.limited("a", "line")
    logger.setlevel(logger.INFO)
    LINES.limited("a", "line")
    assert lines == [("INFO", "line")]


def test_a_limited_line_is_escaped(lines: list[tuple[str, str]]) -> None:
    LINES.limited("a", "x\x1b\ny")
    assert lines == [("INFO", "x\\x1b\n  y")]


NOT_BY_PEERS = {
    "reload",  # the application has called it
    "{what} {cut(addr)}: {why}",  # listen
    "{what} {cut(addr)}: {exc.strerror}",  # listen
    "listening on ",
    ": without ",  # listen
    "every time is in milliseconds",  # once for each place in the program
    "is never used",  # listen, reload
    "is not the issuer",  # the same
    "is trusted",  # once
    "is not verified",  # once
    "listener {self.addr}: {text}",  # once, when a listener closes
    "that wait in its queue are reset",  # the same
    "{self._name}",  # a server's drain: once at its beginning and its end, and each 5 s and more between
    "s of notice, then it drains",  # once
    "access log: ",  # at most once for each write, 5 in a second
}


def test_every_line_that_a_peer_can_cause_is_limited() -> None:
    """Each kind has a name of its own, and one level."""
    kinds, direct = [], []
    for path in (Path(silly.__file__).parent / "net").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logger.limited":
                assert isinstance(node.args[0], ast.Constant)
                kinds.append(node.args[0].value)
            elif isinstance(node, ast.Call) and re.fullmatch(r"logger\.[a-z]+", ast.unparse(node.func)):
                direct.append(ast.unparse(node))
    assert len(kinds) >= 15
    assert len(set(kinds)) == len(kinds)
    assert [line for line in direct if not any(text in line for text in NOT_BY_PEERS)] == []


def test_lines_are_limited_from_any_thread(lines: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer is set in the loop's thread all the same."""
    monkeypatch.setattr(_log, "_REST", 0.0)
    before = scheduler.loop.timers._sequence
    thread = threading.Thread(target=lambda: [LINES.limited("a", "line", burst=1) for _ in range(5)])
    thread.start()
    thread.join()
    assert scheduler.loop.timers._sequence == before
    until(lambda: len(lines) == 2)
    assert lines[-1] == ("INFO", "line (… 3 more lines like it)")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("warning", "use logger.warn, or a logger of the standard library's logging"),
        ("exception", "use logger.error, or a logger of the standard library's logging"),
        ("setLevel", "use logger.setlevel, or a logger of the standard library's logging"),
        ("getLogger", "it is not the standard library's logging; import logging, and write logging.getLogger"),
        ("basicConfig", "it is not the standard library's logging; import logging, and write logging.basicConfig"),
    ],
)
def test_a_name_of_the_standard_library_s_logging_says_what_to_write(name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=f"^module 'silly.logger' has no attribute '{name}': {hint}$"):
        getattr(logger, name)


@pytest.mark.parametrize("name", ["infoo", "__path__"])
def test_a_name_that_no_module_has_is_python_s_plain_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"^module 'silly.logger' has no attribute '{name}'$"):
        getattr(logger, name)
