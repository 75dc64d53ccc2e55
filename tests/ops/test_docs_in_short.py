"""The heading "In short" of docs/deploying.md: its program runs by its unit's command, and systemd takes the unit."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from silly.net import http

from .support import PATIENCE, running, text_of, until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploying.md"
TEXT = PAGE.read_text().partition("\n## In short\n")[2].partition("\n## ")[0]


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)
    return found


def test_the_program_by_the_command_of_the_unit(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(block("python"))
    (command,) = re.findall("^ExecStart=(.*)$", block("systemd"), re.MULTILINE)
    python, *module = shlex.split(command)[:3]
    assert (python, module) == ("/srv/app/.venv/bin/python", ["-m", "silly"])
    args = command.partition(" -m silly ")[2].replace(":8080", ":0").replace("--notice 3s", "--notice 0").split()
    with running(tmp_path, *args) as process:
        until(lambda: text_of(tmp_path / "out").count(" is ready") == 4)
        port = re.findall(r"listening on http://127.0.0.1:(\d+)", text_of(tmp_path / "out"))[0]
        response, _ = http.get(f"http://127.0.0.1:{port}/", {"x-forwarded-for": "192.0.2.1"}, timeout=PATIENCE * 1000)
        assert response is not None
        assert response.text.strip() == "hello, 192.0.2.1:0"
        ready, _ = http.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE * 1000)
        assert ready is not None
        assert ready.status == 200
        http.closeidle()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("NO SYSTEMD: systemd-analyze is not installed (Debian: apt install systemd)")
    unit = block("systemd").replace("/srv/app/.venv/bin/python", sys.executable)
    (tmp_path / "app.service").write_text(unit)
    command = [analyze, "verify", "--man=no", "app.service"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert [line for line in (done.stdout + done.stderr).splitlines() if "app.service" in line] == []
