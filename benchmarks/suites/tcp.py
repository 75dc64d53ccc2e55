"""What an echoed line costs the server."""

from __future__ import annotations

from collections.abc import Iterator

from harness.candidates import ours, peer
from harness.load import Load
from harness.results import Row
from harness.servers import Settings, load_row

TITLE = "TCP line echo"
RUNS = 5

CANDIDATES = [
    ours("tcp_echo.py"),
    peer("gevent", "gevent_tcp.py", "gevent"),
    peer("asyncio streams+uvloop", "asyncio_tcp.py", "uvloop"),
]
LOADS = [
    Load(name="64 connections, 64 bytes", mode="lines", connections=64),
    Load(name="64 connections, 64 bytes, 16 in flight on each", mode="lines", connections=64, depth=16),
]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    for load in LOADS:
        yield load_row(load, CANDIDATES, settings, "CPU µs a line")
