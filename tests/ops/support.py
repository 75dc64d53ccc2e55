"""Programs under the launcher, followed by what they write to files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 30.0
"""Seconds after which something is taken not to come."""


def until(what: Callable[[], object], words: Callable[[], object] = lambda: "") -> None:
    """Waits until ``what()`` is true."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, words()
        time.sleep(0.01)


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def has(path: Path, *texts: str) -> None:
    """Waits until the file has each of ``texts``."""
    until(lambda: all(text in text_of(path) for text in texts), lambda: f"{path.name}: {text_of(path)!r}")


def launcher(changes: str = "") -> list[str]:
    """The command line of the launcher, and of the processes that it starts. ``changes`` is code that makes times shorter."""
    if not changes:
        return [sys.executable, "-m", "silly"]
    return [sys.executable, "-c", f"import sys\n{changes}\nfrom silly.__main__ import main\nsys.exit(main(sys.argv[1:]))"]


def launch(folder: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the launcher until it ends."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environ}
    command = [*launcher(), *args]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=False
    )


@contextmanager
def running(folder: Path, *args: str, changes: str = "", **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher, whose output goes to the file ``out``. Killed at the end."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environ}
    command = [*launcher(changes), *args]
    with open(folder / "out", "wb") as out, subprocess.Popen(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def in_background(folder: Path, *args: str) -> Iterator[int]:
    """A daemon, by its number; ended in any case."""
    done = launch(folder, "--daemon", "--pid-file", "pid", *args)
    assert (done.returncode, done.stderr) == (0, ""), done
    pid = int((folder / "pid").read_text())
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
