"""``silly.logger``."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly import logger

from .conftest import Logs

LEVELS = {"debug": logger.DEBUG, "info": logger.INFO, "warn": logger.WARN, "error": logger.ERROR}
NAMES = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR"}


class Lines(logging.Handler):
    """An application's handler."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
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
        patch.setattr(silly, "handlers", [h for h in silly.handlers if isinstance(h, logger._Stderr)])
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
