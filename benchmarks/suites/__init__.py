"""The suites, each a module with ``TITLE``, ``RUNS`` (turns unless asked otherwise) and ``rows(settings)``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from harness.results import Row
from harness.servers import Settings

from . import client, echo, growth, http, libraries, parsers, postgres, start, tasks, tcp, tls, transfers, udp


class Suite(Protocol):
    """What each of the modules is."""

    TITLE: str
    RUNS: int

    def rows(self, settings: Settings) -> Iterator[Row]:
        """Measures, row by row."""


SUITES: dict[str, Suite] = {
    "echo": echo,
    "tls": tls,
    "http": http,
    "transfers": transfers,
    "tcp": tcp,
    "udp": udp,
    "client": client,
    "tasks": tasks,
    "libraries": libraries,
    "start": start,
    "growth": growth,
    "parsers": parsers,
    "postgres": postgres,
}
