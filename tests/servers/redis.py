"""Redis, with nothing on disk, on a port of loopback and on a Unix domain socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import LOOPBACK, Server, accepts, folder, free_port, program

PACKAGE = "redis-server"


class Redis(NamedTuple):
    """A running server."""

    host: str
    port: int
    path: Path
    """Its Unix domain socket."""
    server: Server


@contextmanager
def running() -> Iterator[Redis]:
    """Runs a server. Raises ``NoServer`` if Redis is not installed."""
    redis = program("redis-server", PACKAGE)
    with folder() as where:
        port, path = free_port(), where / "redis"
        settings = {"bind": LOOPBACK, "port": str(port), "unixsocket": str(path), "dir": str(where), "appendonly": "no"}
        argv = [redis, "--save", "", *(word for name, value in settings.items() for word in (f"--{name}", value))]
        with Server(argv, where, lambda: accepts(port) and accepts(str(path))) as server:
            yield Redis(LOOPBACK, port, path, server)
