"""The programs of docs/porting/hive.md: Lua and Python match line for line, the Python runs and says what it should."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from silly import hive, task

from .net.support import until
from .test_porting_pages import line_for_line, sections

HIVE = sections("hive.md")

SAYS: dict[str, list[str]] = {
    "A worker with a state": ["The fish weighs 400 g"],
    "What blocks, side by side": ["Anna is back", "Bella is back", "Clara is back"],
    "One call at a time": ["ordered soup", "ordered fish", "served soup", "served soup, fish"],
    "A worker's error": ["refused: Traceback (most recent call last):", "ValueError: wrong word: salmon", "pass"],
    "How many threads": ["10 True"],
}


@pytest.fixture(autouse=True)
def no_workers_left() -> Iterator[None]:
    yield
    hive.limit(0, 64)
    gc.collect()
    until(lambda: not any(thread.workers for thread in hive._all))
    hive.prune()


@pytest.mark.parametrize("title", HIVE)
def test_line_for_line(title: str) -> None:
    line_for_line(*HIVE[title])


def test_every_program_has_its_lines() -> None:
    assert set(SAYS) == set(HIVE)


@pytest.mark.parametrize("title", HIVE)
def test_the_program_runs(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "program"}
    before = set(task.inspect())
    exec(compile(HIVE[title][1], title, "exec"), names)
    until(lambda: set(task.inspect()) <= before)
    said = [line for line in capsys.readouterr().out.splitlines() if line and not line.startswith(" ")]
    if title == "What blocks, side by side":
        said.sort()
    assert said == SAYS[title]
    names.clear()
