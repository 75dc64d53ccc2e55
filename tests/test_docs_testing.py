"""The code of docs/testing.md is a project's tests, which pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from silly.testing import _clock, _left

from .test_docs import DOCS

TEXT = (DOCS / "testing.md").read_text()


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    conftest = [block for block in blocks if block.startswith("pytest_plugins")]
    assert len(blocks) == 5
    (tmp_path / "conftest.py").write_text(*conftest)
    (tmp_path / "test_page.py").write_text("\n\n".join(block for block in blocks if block not in conftest))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -W error --strict-markers\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout
    assert "55 passed" in done.stdout


def test_the_numbers_of_the_page() -> None:
    assert f"jumped {_clock.JUMPS:,} times" in TEXT
    assert f"after {_clock.TURNS:,} turns at one time the clock goes on by {_clock.CREEP * 1000:g} ms each turn" in TEXT
    assert f"within {_left.PATIENCE // 1000} s" in " ".join(TEXT.split())
