"""The plots, from the results that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .candidates import OURS
from .results import Row, rows_of
from .tables import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUR_COLOUR = "#d1495b"
COLOURS = {"picows+uvloop": "#00798c", "websockets+uvloop": "#edae49"}
OTHER_COLOUR = "#8d99ae"
COSTS = [
    # suite, row, title
    ("echo", "64 connections, 64 bytes", "WebSocket echo, 64 bytes"),
    ("echo", "64 connections, 64 bytes, 16 in flight on each", "WebSocket echo, 16 in flight"),
    ("tls", "wss, 64 connections, 64 bytes", "WebSocket echo over TLS, 64 bytes"),
    ("tls", "lines, 64 connections, 64 bytes", "Line echo over TLS"),
    ("http", "64 connections, Host alone", "HTTP hello"),
    ("http", "64 connections, a browser's headers", "HTTP hello, a browser's headers"),
    ("tcp", "64 connections, 64 bytes", "TCP line echo"),
    ("transfers", "upload, chunked, in pieces", "HTTP upload, chunked"),
]
CURVES = [
    # group, title, label of x, label of y
    ("active connections", "All connections active", "connections", "CPU µs a message"),
    ("idle connections beside 64 active ones", "64 active, others idle", "idle connections", "CPU µs a message"),
    ("receivers of a broadcast", "Broadcast", "receivers", "CPU µs a receiver"),
]


def draw(suites: dict[str, Any], directory: Path) -> tuple[list[Path], str]:
    """Draws what there are results of: the files, and why there are none where that is so."""
    try:
        import matplotlib
    except ImportError as exc:
        return [], f"matplotlib can't be imported: {exc}"
    matplotlib.use("Agg")
    matplotlib.rcParams.update({
        "svg.fonttype": "none",  # text as text: smaller, and it can be searched
        "svg.hashsalt": "silly",  # the same results make the same file
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
    })  # fmt: skip
    rows = {name: rows_of(suite) for name, suite in suites.items()}
    drawn = [_costs(rows, directory), _curves(rows.get("growth", []), directory), _memory(rows.get("growth", []), directory)]
    files = [file for file in drawn if file is not None]
    return files, "" if files else "there are no results to draw"


def _save(figure: Any, file: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return file


def _bars(axes: Axes, row: Row, title: str, label: str) -> None:
    """One bar for each candidate, the cheapest on top, with a line from its least to its most."""
    names = sorted(row.figures, key=lambda name: row.summary(name).median, reverse=True)
    for place, name in enumerate(names):
        figures = row.summary(name)
        axes.barh(place, figures.median, color=OUR_COLOUR if name == OURS else OTHER_COLOUR, height=0.7)
        axes.plot([figures.least, figures.most], [place, place], color="black", linewidth=1)
        axes.text(max(figures.most, figures.median), place, " " + number(figures.median), va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(label, fontsize=9)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)


def _costs(rows: dict[str, list[Row]], directory: Path) -> Path | None:
    import matplotlib.pyplot as plt

    found = [(row, title) for suite, name, title in COSTS for row in rows.get(suite, []) if row.name == name and row.figures]
    if not found:
        return None
    across = min(2, len(found))
    down = (len(found) + 1) // 2
    figure, grid = plt.subplots(down, across, figsize=(5.5 * across, 2.8 * down), squeeze=False, layout="constrained")
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    for axes, (row, title) in zip(grid.flat, found, strict=False):
        _bars(axes, row, title, f"{row.unit} (less is better)")
    return _save(figure, directory / "costs.svg")


def _curves(rows: list[Row], directory: Path) -> Path | None:
    import matplotlib.pyplot as plt

    found = [curve for curve in CURVES if any(row.group == curve[0] for row in rows)]
    if not found:
        return None
    figure, grid = plt.subplots(1, len(found), figsize=(4.2 * len(found), 3.4), squeeze=False, layout="constrained")
    for axes, (group, title, across, up) in zip(grid.flat, found, strict=True):
        of_group = [row for row in rows if row.group == group]
        for name in dict.fromkeys(name for row in of_group for name in row.figures):
            places = [row.at for row in of_group if name in row.figures]
            points = [row.summary(name) for row in of_group if name in row.figures]
            colour = OUR_COLOUR if name == OURS else COLOURS.get(name, OTHER_COLOUR)
            axes.plot(places, [figures.median for figures in points], marker="o", label=name, color=colour)
            least, most = [figures.least for figures in points], [figures.most for figures in points]
            axes.fill_between(places, least, most, color=colour, alpha=0.2)
        places = [row.at for row in of_group]
        axes.set_xscale("symlog" if 0 in places else "log", **({"linthresh": 10} if 0 in places else {}))
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.minorticks_off()
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_xlabel(across, fontsize=9)
        axes.set_ylabel(up, fontsize=9)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, frameon=False)
    return _save(figure, directory / "growth.svg")


def _memory(rows: list[Row], directory: Path) -> Path | None:
    import matplotlib.pyplot as plt

    found = [row for row in rows if row.group == "memory" and row.figures]
    if not found:
        return None
    height = 0.85 + 0.35 * max(len(row.figures) for row in found)
    figure, grid = plt.subplots(1, len(found), figsize=(4.8 * len(found), height), squeeze=False, layout="constrained")
    for axes, row in zip(grid.flat, found, strict=True):
        _bars(axes, row, row.name, "KiB of resident memory each (less is better)")
    return _save(figure, directory / "memory.svg")
