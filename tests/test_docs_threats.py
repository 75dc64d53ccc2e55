"""docs/threat-model.md names tests, code and limits: each of them exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from silly import Limits

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
ARGUMENTS = {"read_timeout"}
"""Names in the column of limits that are arguments of a function."""


@cache
def defined(path: str) -> set[str]:
    """The functions and classes of a module; none if it is missing."""
    if not (ROOT / path).is_file():
        return set()
    kinds = ast.FunctionDef, ast.ClassDef
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, kinds)}


def test_every_row_has_every_column() -> None:
    assert len(ROWS) > 70
    assert {len(row) for row in ROWS} == {4}
    assert all(all(cell.strip() for cell in row) for row in ROWS)


def test_the_tests_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 100
    missing = [f"{path}::{name}" for path, name in named if name not in defined(f"tests/{path}")]
    assert not missing


def test_each_row_names_a_test_or_says_that_there_is_none() -> None:
    bad = [row[0] for row in ROWS if row[2] != "shown by" and not re.match(r"`[\w/]+\.py::test_\w+`|none", row[2])]
    assert not bad


def test_the_code_exists() -> None:
    named = re.findall(r"`([\w/]+\.py): (\w+)`", TEXT)
    assert len(named) > 20
    missing = [f"{path}: {name}" for path, name in named if name not in defined(f"silly/{path}")]
    assert not missing


def test_the_limits_exist() -> None:
    """A name in the second column that looks like a setting is a limit, and every limit has a row."""
    named = {name for row in ROWS for name in re.findall(r"`([a-z_]+)`", row[1])}
    ends = "_timeout", "_rate", "_interval", "_mark", "_frames", "_lines", "connections"
    settings = {name for name in named if name.endswith(ends)}
    assert settings - set(Limits.__slots__) == ARGUMENTS
    assert set(Limits.__slots__) - named == set()
