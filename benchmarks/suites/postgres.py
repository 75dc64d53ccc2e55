"""What a query of PostgreSQL costs the process that asks: one row by its key, prepared, one query after another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.candidates import OURS, micro
from harness.results import Row
from harness.scripts import script_rows
from harness.servers import Settings

TITLE = "PostgreSQL"
RUNS = 3

_NEEDS = {OURS: "psycopg", "psycopg, blocking": "psycopg", "psycopg, asyncio": "psycopg", "asyncpg": "asyncpg"}
CANDIDATES = [micro(name, "postgres.py", name, modules=modules) for name, modules in _NEEDS.items()]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row. The server is that of the tests."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    sys.path.insert(0, root)
    try:
        from tests.servers import NoServer, postgres
    finally:
        sys.path.remove(root)
    try:
        with postgres.running() as server:
            env = {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": "postgres", "PGSSLMODE": "disable"}
            candidates = [replace(each, env=env) for each in CANDIDATES]
            yield from script_rows(candidates, settings.runs, "CPU ns")
    except (NoServer, ImportError) as why:
        print(why)
