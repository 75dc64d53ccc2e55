"""``--reload``."""

from __future__ import annotations

import os
import signal
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from silly.ops import reload, reloaded
from silly.ops.options import Options

from .support import PATIENCE, alive, has, text_of, until
from .support import running as running_as

QUICK = """\
from silly.ops import reload, reloaded
reload.INTERVAL = reload.SETTLED = reloaded.INTERVAL = 0.05
reload.GRACE = 0.3
"""
running = partial(running_as, changes=QUICK)

APP = """\
import os, sys
sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "elsewhere"))
import far, near
from silly.net import tcp
print("starts", near.VALUE, far.VALUE, os.environ.get("FROM_FILE"), flush=True)
tcp.listen("127.0.0.1:0", lambda conn: conn.read(1))
"""


def project(folder: Path) -> Path:
    (folder / "app").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "app" / "near.py").write_text("VALUE = 1\n")
    (folder / "elsewhere" / "far.py").write_text("VALUE = 1\n")
    (folder / "app.env").write_text("FROM_FILE=1\n")
    app = folder / "app" / "app.py"
    app.write_text(APP)
    return app


def change(path: Path, text: str) -> None:
    """As many editors save."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_a_change_of_any_of_its_files_starts_it_anew(tmp_path: Path) -> None:
    app, out = project(tmp_path), tmp_path / "out"
    with running(tmp_path, "--reload", "--env-file", "app.env", "app/app.py") as process:
        has(out, "starts 1 1 1\n", "listening")
        change(app.with_name("near.py"), "VALUE = 22\n")
        has(out, "near.py changed: app/app.py starts anew", "starts 22 1 1\n")
        change(tmp_path / "app.env", "FROM_FILE=33\n")
        has(out, "app.env changed", "starts 22 1 33\n")
        change(tmp_path / "elsewhere" / "far.py", "VALUE = 44\n")
        has(out, "far.py changed", "starts 22 44 33\n")
        # A storm of changes is one.
        for number in range(20):
            (app.parent / f"new{number}.py").write_text("")
            change(app.with_name("near.py"), f"VALUE = {number}555\n")
        has(out, "changed: app/app.py starts anew", "starts 19555 44 33\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert text_of(out).count("starts ") - text_of(out).count("starts anew") == text_of(out).count("starts anew") + 1
    assert text_of(out).count("starts anew") <= 5


def test_a_program_that_fails_waits_for_the_next_change(tmp_path: Path) -> None:
    out, app = tmp_path / "out", tmp_path / "app.py"
    app.write_text("x x\n")
    with running(tmp_path, "--reload", "app.py") as process:
        has(out, "SyntaxError", "app.py has ended with status 2: it starts anew when a file changes")
        change(app, "1 / 0 # again\n")
        has(out, "ZeroDivisionError", "app.py has ended with status 1")
        change(app, "import os\nos.kill(os.getpid(), 9)\n")
        has(out, "app.py was ended by SIGKILL")
        change(app, "print('it ' + 'works', flush=True)\nfrom silly import time\ntime.sleep(60_000)\n")
        has(out, "it works")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_one_that_does_not_end_is_killed_and_ctrl_c_ends_all(tmp_path: Path) -> None:
    out, app = tmp_path / "out", tmp_path / "app.py"
    stubborn = "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += "print(os.getpid(), flush=True)\ntime.sleep(60)\n"
    app.write_text(stubborn)
    with running(tmp_path, "--reload", "--drain", "0", "app.py") as process:
        until(lambda: text_of(out).endswith("\n"))
        first = int(text_of(out).split()[0])
        change(app, stubborn + "#\n")
        has(out, "is killed")
        until(lambda: len([line for line in text_of(out).splitlines() if line.isdigit()]) == 2)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, 128 + signal.SIGKILL)
        for pid in (first, int([line for line in text_of(out).splitlines() if line.isdigit()][1])):
            assert not os.path.exists(f"/proc/{pid}")


SERVES = """\
import os
from silly.net import tcp
print(os.getpid(), flush=True)
tcp.listen("127.0.0.1:0", lambda conn: conn.read(1))
"""


def pids(out: Path) -> list[int]:
    return [int(line) for line in text_of(out).splitlines() if line.isdigit()]


def test_a_program_whose_watcher_is_killed_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "app.py").write_text(SERVES)
    with running(tmp_path, "--reload", "app.py") as process:
        has(out, "listening")
        process.kill()
    has(out, "the process that watches the files is gone, so this one ends")
    until(lambda: not alive(pids(out)[0]))


def test_all_ends_with_the_terminal(tmp_path: Path) -> None:
    """It sends SIGHUP. Nothing is started any more, by whatever change."""
    out, app = tmp_path / "out", tmp_path / "app.py"
    app.write_text(SERVES)
    with running(tmp_path, "--reload", "app.py") as process:
        has(out, "listening")
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE) == 0
        assert not alive(pids(out)[0])
    app.write_text("x x")
    with running(tmp_path, "--reload", "app.py") as process:
        has(out, "app.py has ended with status 2")
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE) == 0


def test_what_an_editor_leaves_beside_a_file_is_no_change(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "app.py").write_text(SERVES)
    with running(tmp_path, "--reload", "app.py") as process:
        has(out, "listening")
        os.symlink("somebody@somewhere.1", tmp_path / ".#app.py")
        for name in (".app.py.swp", "app.py~", "#app.py#", ".hidden.py", "4913"):
            (tmp_path / name).write_text("")
        (tmp_path / "new.py").write_text("")
        has(out, "new.py changed: app.py starts anew")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_with_too_many_files_only_a_change_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    monkeypatch.setattr(reload, "MOST", 5)
    logs.expect("WARNING --reload watches 5 files, and no more")
    for number in range(9):
        (tmp_path / f"{number}.py").write_text("")
    watcher = reload._Watcher(Options(), [str(tmp_path / "0.py")])
    before = watcher._look()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "told.py").write_text("")
    watcher._told.add(str(tmp_path / "elsewhere" / "told.py"))
    now = watcher._look()
    assert before.keys() != now.keys()
    assert watcher._differences(before, now) == []
    (tmp_path / "0.py").write_text("changed")
    assert watcher._differences(now, watcher._look()) == [str(tmp_path / "0.py")]


def test_what_it_tells_is_not_pythons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = os.path.join(sys.prefix, "src", "app.py")  # where pip has its editable checkouts
    monkeypatch.setitem(sys.modules, "beside", types.ModuleType("beside"))
    monkeypatch.setattr(sys.modules["beside"], "__file__", beside, raising=False)
    reads, writes = os.pipe()
    try:
        reloaded._Teller(writes).tell()
        told = os.read(reads, 1 << 16).decode().split("\0")
    finally:
        os.close(reads)
        os.close(writes)
    assert os.path.realpath(beside) in told
    assert os.path.realpath(pytest.__file__) not in told
    assert os.path.realpath(os.__file__) not in told
