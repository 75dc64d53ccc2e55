"""Scripts that measure themselves: they print one JSON object, and are run by turns."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from .candidates import Candidate, take_turns
from .load import PATIENCE
from .processes import LOAD, pin
from .programs import LoadError
from .results import Row


def output(command: Sequence[str], env: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs ``command`` on the load's processor; what it printed."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **(env or {})}) as process:
        pin(process.pid, LOAD)
        try:
            out, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise LoadError(f"{command[-1]} took more than {PATIENCE:.0f} s") from None
    if process.returncode:
        raise LoadError(errors.strip()[-1000:] or f"status {process.returncode}")
    figures: dict[str, Any] = json.loads(out)
    return figures


def script_rows(candidates: Sequence[Candidate], runs: int, unit: str) -> list[Row]:
    """Rows of scripts that print ``{name of a row: figure}``. A row has the scripts that printed a figure for it."""
    measured, absent = take_turns(candidates, lambda candidate: output(candidate.command, candidate.env), runs)
    names = dict.fromkeys(name for turns in measured.values() for name in turns[0])
    rows = []
    for name in names:
        figures = {who: [turn[name] for turn in turns] for who, turns in measured.items() if name in turns[0]}
        rows.append(Row(name, unit, figures, missing=absent))
    return rows
