"""When a program counts as ready. Each runs under the launcher, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..children import Child

BEGIN = """\
import sys
import silly
from silly import task, time
from silly.net import tcp, udp
from silly.ops import ready

ready.SETTLED = 0.2


def say(*words):
    print(*words, flush=True)


def listen():
    return tcp.listen("127.0.0.1:0", lambda conn: None)


ready.when_ready(lambda: (say("ready"), ready.when_ready(lambda: say("at once"))))
"""


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("listen()\ntask.fork(lambda: (time.sleep(1), silly.exit()))\nsay('last line')", "last line, ready, at once"),
        ("time.sleep(300)\nsay('last line')", "last line, ready, at once"),
        ("listen()\ntime.sleep(600)\nsilly.exit()", "ready, at once"),
        ("udp.bind('127.0.0.1:0')\ntime.sleep(600)\nsilly.exit()", "ready, at once"),
        # Anew by each that listens: not 0.2 s after the first.
        (
            "for _ in range(4):\n    listen()\n    time.sleep(100)\nsay('listens')\ntime.sleep(600)\nsilly.exit()",
            "listens, ready, at once",
        ),
        ("listen()[0].close()\nsilly.exit()", ""),
        ("listen()\nraise SystemExit(3)", ""),
        ("listen()\n1 / 0", ""),
    ],
    ids=["ends", "never listens", "listens and goes on", "datagrams", "listens again", "exits", "ends by itself", "fails"],
)
def test_when(tmp_path: Path, script: str, lines: str) -> None:
    path = tmp_path / "app.py"
    path.write_text(f"{BEGIN}{script}\n")
    with Child("-m", "silly", str(path)) as child:
        assert child.process.stdout is not None
        got = child._bounded(child.process.stdout.read).split("\n")[:-1]
        child.wait()
    assert got == [line for line in lines.split(", ") if line]


def test_a_child_of_fork_is_never_ready(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text(f"{BEGIN}import os\nif os.fork():\n    os.wait()\n    say('parent')\n")
    with Child("-W", "ignore", "-m", "silly", str(path)) as child:
        assert [child.line() for _ in range(3)] == ["parent", "ready", "at once"]
        child.wait()
