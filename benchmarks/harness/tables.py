"""Rows as text."""

from __future__ import annotations

from .figures import Summary
from .results import Row


def number(value: float) -> str:
    """Three significant digits, or all digits before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values: Summary, unit: str = "") -> str:
    """``median [least-most]``."""
    return f"{number(values.median)}{unit} [{number(values.least)}-{number(values.most)}]"


def table(row: Row) -> str:
    """A row: a line for each candidate, its median and spread, the ratio of theirs to ours, and whatever more there is."""
    width = max(len(name) for name in [*row.figures, *row.missing])
    lines = [f"{row.name}: {row.unit}"]
    for name in row.figures:
        ratio = row.ratio(name)
        beside = spread(ratio, "x ours") if ratio else ""
        more = "  ".join([f"{what} {number(value)}" for what, value in row.more.get(name, {}).items()])
        lines.append(f"  {name:{width}}  {spread(row.summary(name)):24} {beside:24} {more}".rstrip())
    lines += [f"  {name:{width}}  left out: {reason}" for name, reason in row.missing.items()]
    return "\n".join(lines)
