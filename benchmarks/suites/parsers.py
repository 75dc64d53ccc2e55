"""What parsing and composing cost, without sockets: each library in a process of its own, by CPU time."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from harness.candidates import OURS, Candidate
from harness.processes import HERE
from harness.results import Row
from harness.scripts import script_rows
from harness.servers import Settings

TITLE = "Parsers"
RUNS = 3


def _script(name: str, library: str, **env: str) -> Candidate:
    return Candidate(name, (sys.executable, str(HERE / "micro" / f"parsers_{library}.py")), (library,), env=env)


CANDIDATES = [
    _script(OURS, "silly"),
    _script("silly, pure Python", "silly", SILLY_PURE="1"),
    *[_script(library, library) for library in ("websockets", "wsproto", "h11", "httptools")],
]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    yield from script_rows(CANDIDATES, settings.runs, "CPU ns")
