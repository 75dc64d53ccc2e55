"""What a datagram and its answer cost: each loop in a process of its own, by CPU time."""

from __future__ import annotations

from collections.abc import Iterator

from harness.candidates import OURS, micro
from harness.results import Row
from harness.scripts import script_rows
from harness.servers import Settings

TITLE = "UDP"
RUNS = 5

CANDIDATES = [
    micro(OURS, "datagrams_silly.py"),
    micro("gevent", "datagrams_gevent.py", modules="gevent"),
    micro("asyncio", "datagrams_asyncio.py"),
    micro("asyncio+uvloop", "datagrams_asyncio.py", "uvloop", modules="uvloop"),
]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    yield from script_rows(CANDIDATES, settings.runs, "CPU ns")
