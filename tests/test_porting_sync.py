"""The programs of docs/porting/ about mutexes, wait groups, single flights and signals: Lua and Python match line for
line, and the Python runs as it stands."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from silly._core import scheduler

from .children import Child
from .conftest import Logs
from .net.support import until
from .test_porting_pages import line_for_line, printed, sections

MUTEX, WAITGROUP, SINGLEFLIGHT = sections("mutex.md"), sections("waitgroup.md"), sections("singleflight.md")
SIGNAL = sections("signal.md")

PRINTS: dict[str, list[str]] = {
    "A till for two clerks": [
        "Ada: 0 and 10 is 10",
        "Bo: 10 and 20 is 30",
        "Ada: 30 and 30 is 60",
        "The till has 60",
    ],
    "A lock within a lock": ["The crate weighs 10", "Repacked: 28"],
    "Unlocked before the end": ["The menu is printed", "The map is printed", "The menu is folded", "The map is folded"],
    "Two keys have nothing to do with each other": [
        "Off goes crew 1",
        "Off goes crew 3",
        "Back is crew 3",
        "Back is crew 1",
        "Off goes crew 2",
        "Back is crew 2",
        "The race is over",
    ],
    "An error lets go of the lock": ["no strudel today", "pie is done"],
    "Two locks, always in the same order": ["3 on shelf 1, 5 on shelf 2", "4 on shelf 1, 4 on shelf 2"],
    "All the stones are carried": [
        "4 on their way",
        *[f"a stone of {kilos}" for kilos in (1, 2, 3, 4)],
        "4 in the wall, 0 on their way",
    ],
    "One of them fails": ["Looked into: attic, barn"],
    "What went wrong, and where": ["pump 2 has no water", "pump 4 has no water"],
    "Groups in a group": ["floor 1: 2 rooms are clean", "floor 2: 3 rooms are clean", "The house is clean"],
    "Two at a time": ["2 at a time, 0 at the end"],
    "One look at the sky for all": [
        *[f"{person} clouds in the west" for person in (1, 2, 3, 4, 5)],
        "1 clouds in the west 2",
    ],
    "A cache that is filled once": [
        "thinking of fox",
        "thinking of bear",
        *["Once there was a fox"] * 3,
        "Once there was a bear",
    ],
    "An error reaches every caller": ["False", "False", "False", "on floor 7 at try 2"],
}
"""What the programs print that need no signal."""

ASKED: dict[str, tuple[list[tuple[int, str]], int]] = {
    "The shop closes": ([(signal.SIGTERM, "SIGTERM: no new customers\nThe door is locked")], 0),
    "New prices without a restart": (
        [
            (signal.SIGHUP, "SIGHUP: list 2"),
            (signal.SIGHUP, "SIGHUP: the old prices stay"),
            (signal.SIGHUP, "SIGHUP: list 4"),
        ],
        signal.SIGTERM,
    ),
    "A signal makes the log talk": ([(signal.SIGUSR1, "talkative"), (signal.SIGUSR1, "quiet")], signal.SIGTERM),
    "The handler before": (
        [(signal.SIGUSR2, "SIGUSR2: the cat hunts"), *[(signal.SIGUSR2, "SIGUSR2: the cat sleeps")] * 2],
        signal.SIGINT,
    ),
}
"""The signals that are sent to the others, and the lines that they print; then the signal that ends them, or 0."""

WAYS = {"launcher": "", "run": "import silly\n\nsilly.run()\n", "plain": "time.sleep(600_000)\n"}
"""How a program is started, by what is added to it."""

EVERY = [*MUTEX.items(), *WAITGROUP.items(), *SINGLEFLIGHT.items(), *SIGNAL.items()]


@pytest.mark.parametrize("example", EVERY, ids=lambda example: example[0])
def test_line_for_line(example: tuple[str, tuple[str, str]]) -> None:
    line_for_line(*example[1])


def test_every_example_is_run() -> None:
    assert [title for title, _ in EVERY] == [*PRINTS, *ASKED]


@pytest.mark.parametrize("title", PRINTS)
def test_a_program(title: str, capsys: pytest.CaptureFixture[str], logs: Logs) -> None:
    if title == "One of them fails":
        logs.expect("RuntimeError: too deep")
    python = {**MUTEX, **WAITGROUP, **SINGLEFLIGHT}[title][1]
    exec(python, {})
    printed(capsys, *PRINTS[title])
    until(lambda: not scheduler.tasks)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(source: str, way: str) -> Child:
        path = tmp_path / "app.py"
        path.write_text(source + WAYS[way])
        children.append(Child(*(["-m", "silly"] if way == "launcher" else []), str(path)))
        return children[-1]

    yield start
    for child in children:
        child.__exit__(None, None, None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("title", ASKED)
def test_a_program_that_handles_signals(start: Any, title: str, way: str) -> None:
    child = start(SIGNAL[title][1], way)
    child.line()
    signals, last = ASKED[title]
    for number, lines in signals:
        child.process.send_signal(number)
        for line in lines.splitlines():
            assert child.line() == line
    if last:
        child.process.send_signal(last)
    if not last or way != "plain":
        assert (child.wait(), child.errors()) == (0, "")
    else:  # of a plain script SIGTERM and SIGINT are Python's
        assert child.wait() == -last
