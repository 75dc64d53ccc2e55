"""What a datagram and its answer cost: each loop in a process of its own, by CPU time."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from harness.candidates import OURS, Candidate
from harness.processes import HERE
from harness.results import Row
from harness.scripts import script_rows
from harness.servers import Settings

TITLE = "UDP"
RUNS = 5


def _script(name: str, script: str, *arguments: str, modules: str = "") -> Candidate:
    return Candidate(name, (sys.executable, str(HERE / "micro" / script), *arguments), tuple(modules.split()))


CANDIDATES = [
    _script(OURS, "datagrams_silly.py"),
    _script("gevent", "datagrams_gevent.py", modules="gevent"),
    _script("asyncio", "datagrams_asyncio.py"),
    _script("asyncio+uvloop", "datagrams_asyncio.py", "uvloop", modules="uvloop"),
]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    yield from script_rows(CANDIDATES, settings.runs, "CPU ns")
