"""Servers for pages, each in a process of its own, so that selenium may block the test's."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WAIT = 20
"""Seconds; only bounds a test that fails."""


class ServerProcess:
    """Runs a script of this directory with ``python -m silly``. ``told`` is what it prints first, a line of JSON."""

    def __init__(self, script: str, directory: Path, *arguments: str) -> None:
        self._errors = open(directory / f"{script}.stderr", "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "silly", str(HERE / script), *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        assert self._process.stdout is not None
        try:
            assert select.select([self._process.stdout], [], [], WAIT)[0], "it says nothing"
            line = self._process.stdout.readline()
            assert line, f"it ended; on stderr: {self.errors()}"
        except BaseException:
            self._end()
            raise
        self.told: Any = json.loads(line)

    def errors(self) -> str:
        """What it has written on standard error."""
        self._errors.seek(0)
        return self._errors.read()

    def stop(self) -> str:
        """Ends it, as it must; what it has logged. A second call does nothing."""
        if self._errors.closed:
            return ""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(WAIT)
            errors = self.errors()
        finally:
            self._end()
        assert self._process.returncode == 0, errors
        assert "Traceback" not in errors, errors
        assert "Warning" not in errors, errors
        return errors

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()
