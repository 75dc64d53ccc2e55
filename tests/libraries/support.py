"""What the tests of other people's libraries share: the page's code, and a task that counts while it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from silly import task, time

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "libraries.md").read_text()
BEAT = 5
"""Milliseconds between two beats."""
WAIT = 300
"""Milliseconds for which each server of these tests lets its client wait, at least."""
ENOUGH = 8
"""Beats in that time that show a loop which turned. A quiet machine has 50."""
STILL = 2
"""Beats that a loop may have which stood still for that time: one before, one after."""


class Beats:
    """Counts the turns of the loop that are ``BEAT`` apart."""

    def __init__(self) -> None:
        self.count = 0

    def run(self) -> None:
        while True:
            time.sleep(BEAT)
            self.count += 1


@contextmanager
def beating() -> Iterator[Beats]:
    """Counts while the block runs."""
    beats = Beats()
    beater = task.fork(beats.run)
    try:
        yield beats
    finally:
        beater.cancel()
        beater.join()


def blocks(section: str) -> list[str]:
    """The code of a section of the page."""
    (text,) = re.findall(rf"^## {re.escape(section)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found: list[str] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    return found


def defined(section: str, **given: object) -> dict[str, Any]:
    """Runs the code of a section with the names ``given``. Returns the names that it defines."""
    names: dict[str, Any] = dict(given)
    for block in blocks(section):
        exec(block, names)
    return names


def run(section: str, **given: object) -> dict[str, Any]:
    """As ``defined``. The code must wait for ``WAIT`` ms while the loop turns."""
    with beating() as beats:
        names = defined(section, **given)
    assert beats.count >= ENOUGH, f"the loop stood still: {beats.count} beats in {WAIT} ms"
    return names


def stands_still(call: Callable[[], object]) -> None:
    """``call``, which waits for ``WAIT`` ms, holds up the loop all that time: what the page warns of is true."""
    begin = time.monotonic()
    with beating() as beats:
        call()
        count = beats.count
    took = time.monotonic() - begin
    assert took >= WAIT * 0.9, took
    assert count <= STILL, f"the loop turned: {count} beats in {took} ms"


def all_at_once(count: int, func: Callable[[int], Any]) -> list[Any]:
    """``func(number)`` in ``count`` tasks. Their results, in order."""
    with time.deadline(40_000), task.group() as group:
        tasks = [group.fork(func, number) for number in range(count)]
    return [each.join()[0] for each in tasks]
