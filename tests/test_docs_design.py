"""docs/design.md names code, states, phases and limits: they are those of the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from silly import Limits
from silly._core.ending import TABLE
from silly.net.http import _serverresponse as response
from silly.net.websocket import _sending as websocket

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "design.md").read_text()
SOURCES = [path for path in (ROOT / "silly").rglob("*") if path.suffix in (".py", ".c")]


def table(header: str) -> dict[str, str]:
    """The rows of the table whose first line starts with ``header``: first and last column."""
    lines = TEXT.split(f"\n{header}", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines]
    return {row[0]: row[-1] for row in rows}


def defined(path: str) -> set[str]:
    """What the module with that end of a path defines, methods as ``Class.method`` too."""
    (found,) = [source for source in SOURCES if source.as_posix().endswith(f"/{path}")]
    names: set[str] = set()
    for node in ast.walk(ast.parse(found.read_text())):
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


def test_the_code_exists() -> None:
    named = re.findall(r"`([\w/]+\.py): ([\w.]+)`", TEXT)
    assert len(named) > 25
    assert [f"{path}: {name}" for path, name in named if name not in defined(path)] == []


def test_the_methods_exist() -> None:
    """Those that are named without their file."""
    known = set().union(*(defined(path.relative_to(ROOT).as_posix()) for path in SOURCES if path.suffix == ".py"))
    named = set(re.findall(r"`([A-Z]\w+\.[a-z_]\w+)`", TEXT))
    assert len(named) > 10
    assert named - known == {"ProtocolError.code"}, "that is a field"


def test_the_files_exist() -> None:
    words = {word for code in re.findall(r"`([^`\n]+)`", TEXT) for word in code.split()}
    named = {word for word in words if re.fullmatch(r"[\w/]+\.(py|c)", word)}
    paths = [path.as_posix() for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")]]
    assert len(named) > 40
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in paths)] == []


def test_the_phases() -> None:
    rows = table("| phase |")
    assert {phase: set(then.replace(",", "").split()) for phase, then in rows.items()} == {
        phase.value: {each.value for each in rules.then} for phase, rules in TABLE.items()
    }


def test_what_can_happen_in_each_phase() -> None:
    """The columns between are those of ``Rules``."""
    rows = TEXT.split("\n| phase |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    said = {row[0]: [cell.startswith("yes") for cell in row[2:5]] for row in (line.strip("| ").split(" | ") for line in rows)}
    assert said == {phase.value: [rules.blocks, rules.starts, rules.begins] for phase, rules in TABLE.items()}


def test_the_states() -> None:
    states = [response.UNANSWERED, response.ANSWERED, response.STREAMING, response.ENDED, response.CUT, response.HIJACKED]
    tables = TEXT.split("\n| state |")[1:]
    assert len(tables) == 2
    first = [line.strip("| ").split(" | ")[0] for line in tables[0].split("\n\n")[0].splitlines()[2:]]
    second = [line.strip("| ").split(" | ")[0] for line in tables[1].split("\n\n")[0].splitlines()[2:]]
    assert first == [websocket.OPEN, websocket.CLOSING, websocket.CLOSED]
    assert second == states


def test_every_limit_has_a_row() -> None:
    named = {name for row in table("| limit |") for name in re.findall(r"`([a-z_]+)`", row)}
    assert named - {"readall"} == set(Limits.__slots__)
