"""The five WebSocket examples, line for line: docs/porting/ shows what runs in examples/, and both languages need about
as many statements.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "docs/porting").glob("*.lua"))


def lua_statements(source: str) -> int:
    """The number of statements in Lua code: declarations, calls, ``if``/``for``/``while``, ``return``,
    ``break``. A function counts as one, since Python defines it in a statement of its own."""
    code = re.sub(r"--[^\n]*", "", source)
    code = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', code)
    count = len(re.findall(r"\b(?:local|if|elseif|while|for|return|break)\b", code))
    count += len(re.findall(r"\bfunction\b", code))
    calls = [line.strip() for line in code.splitlines()]
    return count + sum(bool(re.match(r"[a-z_.]+(?:[:.][a-z_]+)?\s*[({]", line)) for line in calls if not keyword(line))


def keyword(line: str) -> bool:
    return re.match(r"(?:local|if|elseif|while|for|return|break|end|function|else)\b", line) is not None


def python_statements(source: str) -> int:
    tree = ast.parse(source)
    return sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) - 1  # the docstring


def test_the_examples_are_there() -> None:
    assert len(NAMES) == 5


@pytest.mark.parametrize("name", NAMES)
def test_line_for_line(name: str) -> None:
    lua = lua_statements((ROOT / f"docs/porting/{name}.lua").read_text())
    python = python_statements((ROOT / f"examples/{name}.py").read_text())
    print(f"{name}: {lua} statements in Lua, {python} in Python")
    # Python adds: def main, `from silly import env` (shared with task), `if server:` around the print, and imports of pathlib.
    assert python <= lua + 4
    assert python >= lua - 4


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_what_runs(name: str) -> None:
    page = (ROOT / "docs/porting/websocket.md").read_text()
    code = (ROOT / f"examples/{name}.py").read_text().split('"""', 2)[2].strip("\n")
    assert f"```python\n{code}\n```" in page
    assert f"```lua\n{(ROOT / f'docs/porting/{name}.lua').read_text().strip()}\n```" in page
