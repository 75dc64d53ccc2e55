"""Other people's clients on our bridges, and elsewhere: CPU time of the client for each command, against real servers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from harness.candidates import OURS, Candidate
from harness.processes import HERE, SERVER, pin
from harness.results import Row
from harness.scripts import script_rows
from harness.servers import Settings

TITLE = "Other people's libraries"
RUNS = 3

CANDIDATES = [
    Candidate(OURS, ("silly",)),
    Candidate("bridge.asyncio", ("silly_asyncio",), ("redis",)),
    Candidate("asyncio", ("asyncio",), ("redis",)),
    Candidate("gevent", ("gevent",), ("gevent", "redis", "pymysql")),
    Candidate("blocking", ("blocking",), ("redis", "pymysql")),
]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row. Starts the servers; what has no server has no row."""
    sys.path.append(str(HERE.parent))
    from tests.servers import NoServer, mariadb, redis

    with ExitStack() as stack:
        addresses: dict[str, object] = {}
        for name, module in (("redis", redis), ("mariadb", mariadb)):
            try:
                server = stack.enter_context(module.running())
            except NoServer as why:
                print(f"benchmarks: left out: {why}", file=sys.stderr)
                continue
            pin(server.server.process.pid, SERVER)
            addresses[name] = (server.host, server.port)
        script = str(HERE / "micro" / "libraries.py")
        candidates = [
            replace(each, command=(sys.executable, script, each.command[0], json.dumps(addresses))) for each in CANDIDATES
        ]
        yield from script_rows(candidates, settings.runs, "CPU µs")
