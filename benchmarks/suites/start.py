"""How long an import takes: CPU time of a fresh interpreter, less that of one that imports nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from harness.candidates import OURS, Candidate, take_turns
from harness.figures import summary
from harness.processes import LOAD, pin
from harness.programs import LoadError
from harness.results import Row
from harness.servers import Settings

TITLE = "Start-up"
RUNS = 15

IMPORTS = {
    OURS: ("import silly.net.websocket", "silly"),
    "websockets": ("import websockets.asyncio.server, websockets.asyncio.client", "websockets"),
    "aiohttp": ("import aiohttp.web", "aiohttp"),
    "picows": ("import picows", "picows"),
    "gevent": ("import gevent.pywsgi, gevent.monkey", "gevent"),
}
EMPTY = "nothing"


def one(candidate: Candidate) -> float:
    """CPU ms of a fresh interpreter."""
    process = subprocess.Popen(candidate.command, cwd="/", env={**os.environ, **candidate.env})
    pin(process.pid, LOAD)
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise LoadError(f"{candidate.command[-1]!r} ended with status {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    # A cache of compiled modules of our own, which all share: the user's may be switched off.
    cache = {"PYTHONPYCACHEPREFIX": str(settings.directory / "cache"), "PYTHONDONTWRITEBYTECODE": ""}
    statements = {EMPTY: ("pass", ""), **IMPORTS}
    candidates = [
        Candidate(name, (sys.executable, "-P", "-c", statement), tuple(module.split()), env=cache)
        for name, (statement, module) in statements.items()
    ]
    take_turns(candidates, one, 1)  # all modules are in the cache from here on
    figures, missing = take_turns(candidates, one, settings.runs)
    empty = summary(figures.pop(EMPTY)).median
    less = {name: [figure - empty for figure in turns] for name, turns in figures.items()}
    yield Row(f"an import, beside the {empty:.1f} ms of an interpreter that imports nothing", "CPU ms", less, missing=missing)
