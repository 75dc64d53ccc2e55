"""Shared by the suites: settings, and rows with the cost of a load for each server."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .candidates import Candidate, take_turns
from .load import Load, Measurement, measure
from .results import Row

UNIT = "CPU µs a message"


@dataclass(frozen=True)
class Settings:
    """``runs`` turns of ``seconds`` each; ``directory`` is for files that are needed meanwhile; ``open_files``: how many a
    process may have. ``quick``: only to see that all works, so what is large may be left out."""

    runs: int
    seconds: float
    directory: Path
    open_files: int
    quick: bool = False


def load_row(
    load: Load,
    candidates: Sequence[Candidate],
    settings: Settings,
    unit: str = UNIT,
    missing: dict[str, str] | None = None,
    group: str = "",
    at: int = 0,
) -> Row:
    """Runs ``load`` against each candidate by turns. ``missing``: who can't take part, beside those that aren't installed."""

    def one(candidate: Candidate) -> Measurement:
        return measure(candidate.command, load, settings.seconds, candidate.env)

    measured, absent = take_turns(candidates, one, settings.runs)
    row = Row(load.name, unit, {}, missing={**absent, **(missing or {})}, group=group, at=at)
    for name, turns in measured.items():
        row.figures[name] = [turn.cpu for turn in turns]
        wall = {"p50 µs": "p50", "p99 µs": "p99", "a second": "rate"}
        row.more[name] = {what: statistics.median(getattr(turn, field) for turn in turns) for what, field in wall.items()}
    return row
