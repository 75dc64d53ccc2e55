"""The cost of the client's side: each client talks to our echo server, and only its own CPU time counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from harness.candidates import OURS, Candidate, take_turns
from harness.figures import summary
from harness.processes import HERE, Server, silly
from harness.results import Row
from harness.scripts import output
from harness.servers import Settings

TITLE = "WebSocket client"
RUNS = 5

KINDS = [
    # name, connections, unit
    ("1 connection, 64 bytes", 1, "CPU µs a message"),
    ("64 connections, 64 bytes", 64, "CPU µs a message"),
    ("connect, upgrade and close", 0, "CPU µs a connection"),
]
PEERS = ("picows", "websockets", "aiohttp")


def candidates(connections: int, seconds: float) -> list[Candidate]:
    """All clients do the same; ``{port}`` is the server's."""
    arguments = (f"--seconds={seconds}", f"--connections={connections}")
    found = [Candidate(OURS, silly("ws_client.py", "--port={port}", *arguments))]
    for name in PEERS:
        command = (sys.executable, str(HERE / "peers" / f"{name}_client.py"), "{port}", str(seconds), str(connections))
        found.append(Candidate(f"{name}+uvloop", command, (name, "uvloop")))
    return found


def one(candidate: Candidate) -> float:
    """CPU microseconds of a client for each thing done."""
    with Server(silly("ws_echo.py", "--port={port}")) as server:
        done = output([part.replace("{port}", server.port) for part in candidate.command])
    return float(done["cpu"]) / float(done["count"]) * 1e6


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    for name, connections, unit in KINDS:
        figures, missing = take_turns(candidates(connections, settings.seconds), one, settings.runs)
        row = Row(name, unit, figures, missing=missing)
        row.more = {who: {"a CPU second": 1e6 / summary(turns).median} for who, turns in figures.items()}
        yield row
