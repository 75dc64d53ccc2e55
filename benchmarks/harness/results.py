"""Results: rows of figures, and the file that keeps them, suite by suite, so that one suite can be measured again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .candidates import OURS
from .figures import Summary, ratios, summary


@dataclass
class Row:
    """One comparison. ``figures``: of each candidate, one a turn, in ``unit``; less is better.

    ``more``: further figures of a candidate, by name, for information. ``missing``: candidates without figures, and why.
    ``group`` and ``at`` say where the row belongs in a plot: the name of its curve, and the place on it.
    """

    name: str
    unit: str
    figures: dict[str, list[float]]
    more: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    group: str = ""
    at: int = 0

    def summary(self, candidate: str) -> Summary:
        """Of a candidate's turns."""
        return summary(self.figures[candidate])

    def ratio(self, candidate: str) -> Summary | None:
        """How much dearer a candidate is than we are, turn by turn; None where there is nothing to compare."""
        if candidate == OURS or OURS not in self.figures:
            return None
        return summary(ratios(self.figures[candidate], self.figures[OURS]))


def to_json(rows: list[Row], about: dict[str, Any]) -> dict[str, Any]:
    """A suite as it is kept; medians and ratios are stored beside the turns, for readers of the file."""
    kept = []
    for row in rows:
        each = asdict(row)
        each["summaries"] = {name: asdict(row.summary(name)) for name in row.figures}
        each["ratios"] = {name: asdict(ratio) for name in row.figures if (ratio := row.ratio(name))}
        kept.append(each)
    return {"about": about, "rows": kept}


def rows_of(suite: dict[str, Any]) -> list[Row]:
    """The rows of a suite that was kept."""
    names = Row.__dataclass_fields__
    return [Row(**{name: value for name, value in row.items() if name in names}) for row in suite["rows"]]


def read(file: Path) -> dict[str, Any]:
    """The suites in ``file``, by name; none when there is no such file."""
    return json.loads(file.read_text())["suites"] if file.exists() else {}


def merge(file: Path, name: str, suite: dict[str, Any]) -> None:
    """Writes a suite into ``file``, in the place of what it had of that name; the others stay."""
    suites = {**read(file), name: suite}
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(".new")
    whole.write_text(json.dumps({"suites": suites}, indent=1) + "\n")
    whole.replace(file)
