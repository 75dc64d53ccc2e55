"""CONTRIBUTING.md, README.md and the hooks name commands, files and directories: each of them exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = ["CONTRIBUTING.md", "README.md", "tests/README.md", *GUIDES]


def code(page: str) -> list[str]:
    """What stands in backticks on a page, and the lines of its blocks of commands."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", text)] + "".join(blocks).splitlines()


def targets() -> set[str]:
    rules = re.findall(r"^([\w./ -]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {name for rule in rules for name in rule.split()}


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_make(page: str) -> None:
    commands = [shlex.split(each, comments=True) for each in code(page) if each.startswith("make ")]
    asked = {word for command in commands for word in command[1:] if "=" not in word}
    assert asked <= targets()


def test_contributing_names_the_everyday_commands() -> None:
    named = {each.split()[1] for each in code("CONTRIBUTING.md") if each.startswith("make ")}
    assert named >= {"lint", "test", "test-oldest", "cov", "fuzz", "sanitize", "mutate", "bench", "bench-check", "port-check"}


@pytest.mark.parametrize("page", PAGES)
def test_files(page: str) -> None:
    """What looks like a path from the top of the repository is one; ``x`` and ``*`` may stand for a name."""
    words = {word.rstrip("`,;:") for each in code(page) for word in each.split()}
    paths = {word for word in words if re.match(r"(?:silly|tests|docs|benchmarks|examples|\.ci)/", word)}
    assert page != "CONTRIBUTING.md" or len(paths) > 40
    missing = {path for path in paths if not list(ROOT.glob(path.rstrip("/")))}
    assert not missing


def test_every_directory_of_tests_is_named() -> None:
    found = {f"{path.parent.name}/" for path in (ROOT / "tests").glob("*/__init__.py")}
    assert found
    assert found <= set(code("tests/README.md"))


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    """Links within the repository lead somewhere."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    missing = {link for link in links if not ((ROOT / page).parent / link).exists()}
    assert not missing


def test_the_hooks_run_the_tools_of_the_environment() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"entry: (\S+)", hooks) == [".venv/bin/ruff", ".venv/bin/mypy"]
    assert "repo: http" not in hooks
