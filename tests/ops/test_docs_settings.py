"""The heading "Settings, log files, development" of docs/deploying.md: its files are read as it says, its numbers are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from silly import _usage, env
from silly.ops import envfile, options, ready, reload

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/deploying.md"
TEXT = PAGE.read_text().partition("## Settings, log files, development\n")[2].partition("\n## systemd")[0]


def block(kind: str) -> str:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)[0]


def test_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(env, "_loaded", {})
    Path("app.env").write_text(block("sh"))
    assert envfile.read("app.env") == {
        "DATABASE_URL": "postgres://localhost/app",
        "SILLY_PORT": "8080",
        "GREETING": "two\nlines",
        "PATTERN": "as it is: \\n $HOME",
    }
    Path("common.conf").write_text("level = 'info'\n")
    Path("app.conf").write_text(block("lua"))
    scope: dict[str, object] = {}
    exec(block("python"), scope)
    assert scope["port"] == 8080
    assert env.get("level") == "info"
    assert env.get("server.names.2") == "b.example"
    assert env.get("timeout") == 30_000


def test_the_numbers_and_options() -> None:
    assert ready.SETTLED == 1
    assert reload.DRAIN == 500
    assert 1 / reload.INTERVAL == 2.5
    for option in options._TAKES:
        if option != "--no-environment":
            assert option in _usage.USAGE
