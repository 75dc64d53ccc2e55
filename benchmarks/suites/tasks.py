"""What tasks cost, without any network: each scheduler in a process of its own, by CPU time."""

from __future__ import annotations

from collections.abc import Iterator

from harness.candidates import OURS, micro
from harness.results import Row
from harness.scripts import script_rows
from harness.servers import Settings

TITLE = "Tasks"
RUNS = 5

CANDIDATES = [
    micro(OURS, "tasks_silly.py"),
    micro("gevent", "tasks_gevent.py", modules="gevent"),
    micro("asyncio", "tasks_asyncio.py"),
    micro("asyncio+uvloop", "tasks_asyncio.py", "uvloop", modules="uvloop"),
]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    yield from script_rows(CANDIDATES, settings.runs, "CPU ns")
