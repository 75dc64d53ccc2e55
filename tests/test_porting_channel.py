"""The programs of docs/porting/channel.md: Lua and Python match line for line, and the Python runs as it stands."""

from __future__ import annotations

import pytest

from silly import task, time
from silly.sync import channel

from .net.support import until
from .test_porting_pages import Output, line_for_line, sections

CHANNEL = sections("channel.md")

PRINTS = {
    "In at one end, out at the other": ["red None", "green None", "blue None", "False Nil data"],
    "A reader that waits": [
        "Waiting for the post",
        "The postman comes",
        "The postman goes",
        "It says: see you on Sunday",
    ],
    "Closing time": [
        "False it is midnight",
        "the last guest None",
        "None it is midnight",
        "None channel closed",
    ],
    "Swept clean": ["On the desk: a cup of tea"],
    "One bakes, the other sells": [
        *[f"Baked: loaf {loaf}" for loaf in (1, 2, 3)],
        "The oven is off",
        *[f"Sold: loaf {loaf}" for loaf in (1, 2, 3)],
        "The shelf is empty",
    ],
    "A queue for what comes too fast": [
        "All orders are in",
        *[f"order {number} is done" for number in (1, 2, 3, 4)],
        "Home at last: no more orders",
    ],
    "Not for ever": ["We hang up: nobody answers", "Too late"],
}


@pytest.mark.parametrize("title", CHANNEL)
def test_line_for_line(title: str) -> None:
    line_for_line(*CHANNEL[title])


@pytest.mark.parametrize("title", CHANNEL)
def test_it_runs(title: str, capsys: Output) -> None:
    exec(CHANNEL[title][1], {})
    lines: list[str] = []

    def done() -> bool:
        lines.extend(capsys.readouterr().out.splitlines())
        return len(lines) >= len(PRINTS[title])

    until(done)
    assert lines == PRINTS[title]


def test_wakeup_does_not_end_a_pop() -> None:
    """As the page says; upstream's channel goes on to take the task for one that waits."""
    chan = channel.new()
    reading = task.fork(chan.pop)
    time.sleep(0)
    with pytest.raises(RuntimeError, match=r"waits on channel\.pop, not in task\.wait"):
        task.wakeup(reading)
    chan.push("not lost")
    assert reading.join() == (("not lost", None), None)
