"""The code of docs/logs.md runs, and its numbers are those of the code."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from silly import _log, _shown, _stderr, logger, task

from .helpers import turn

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "logs.md").read_text()


def test_the_code(tmp_path: Path, logs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logs.expect("INFO port 8080 {'a': 1}$")
    logs.expect("WARNING 3 of 5$")
    namespace: dict[str, Any] = {}
    level = logger.getlevel()
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, namespace)
    assert logger.getlevel() == logger.WARN
    logger.setlevel(level)
    writer, handler = namespace["to_file"](tmp_path / "log")
    logs.expect("INFO hello$")
    logger.info("hello")
    writer.stop()
    logging.getLogger("silly").removeHandler(handler)
    writer.handlers[0].close()
    assert (tmp_path / "log").read_text() == "hello\n"
    tls = logging.getLogger("silly.tls")
    assert tls.level == logging.WARNING
    tls.setLevel(logging.NOTSET)
    logs.expect(r"exception in <task <lambda> at [\s\S]*ZeroDivisionError")
    task.fork(lambda: 1 / 0)
    turn(2)
    task.onerror(None)
    assert capsys.readouterr().out.startswith("report: ZeroDivisionError in <task <lambda> at ")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (r"Of each kind (\d+) go through at once", _log._BURST),
        (r"and\n(\d+) a second after that", _log._RATE),
        (r"for at most ([\d.]+) s\.", _stderr.END),
        (r"At most (\d+) MiB of lines wait", _stderr.MOST / 2**20),
        (r"at most (\d+) KiB long", _log.TRACE / 2**10),
        (r"at most (\d+)\ncharacters of a value", _shown.MOST),
    ],
)
def test_the_numbers(words: str, value: float) -> None:
    (found,) = re.findall(words, TEXT)
    assert float(found) == value


def test_the_shares_of_the_levels() -> None:
    assert "below WARN half of that, below ERROR\nthree quarters" in TEXT
    shares = [_stderr._room(level) / _stderr.MOST for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)]
    assert shares == [0.5, 0.5, 0.75, 1.0]
