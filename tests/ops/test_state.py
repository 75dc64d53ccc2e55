"""``silly.ops.state``, and SIGUSR2."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from silly import task, time
from silly.net import tcp
from silly.ops import state

from .support import has, running


def test_the_state_has_what_there_is() -> None:
    before = state.take()

    def waits() -> None:
        time.sleep(60_000)

    def serve(conn: tcp.Conn) -> None:
        conn.read(1)

    listener, _ = tcp.listen("127.0.0.1:0", serve)
    assert listener is not None
    tasks = [task.fork(waits) for _ in range(20)]
    conn, _ = tcp.connect(listener.addr)
    assert conn is not None
    with listener, conn:
        time.sleep(20)
        now = state.take()
        assert now.tasks - before.tasks == 21
        assert now.connections - before.connections == 2
        assert f"<listener {listener.addr}>" in now.listeners
        assert now.timers - before.timers == 20
        assert (now.descriptors or 0) - (before.descriptors or 0) == 3
        assert (now.memory or 0) > 2**20
        assert (now.age or 0) > 0
        assert (now.pid, now.phase) == (os.getpid(), "running")
        count, text = now.waits[0]
        assert count == 20
        assert text.startswith(f"{waits.__qualname__}: waits on ")
        assert f", at {__file__}:" in text
        words = state.in_words(now)
        assert f"\n  20 of {waits.__qualname__}: " in words
    for each in tasks:
        each.cancel()
    time.sleep(20)


def test_what_is_listed_is_bounded() -> None:
    blocks = "\n".join(f"def f{n}():\n    time.sleep(60_000)" for n in range(state.GROUPS + 5))
    scope: dict[str, object] = {"time": time}
    exec(blocks, scope)
    tasks = [task.fork(scope[f"f{n}"]) for n in range(state.GROUPS + 5)]  # type: ignore[arg-type]
    time.sleep(0)
    now = state.take()
    assert len(now.waits) == state.GROUPS
    assert state.in_words(now).endswith("\n  and 5 more")
    for each in tasks:
        each.cancel()
    time.sleep(20)


HOLDS = """\
import time as clock
from silly import task
def hold():
    print("holds", flush=True)
    clock.sleep(60)
task.fork(hold)
"""


def test_sigusr2_while_a_task_holds_the_loop(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HOLDS)
    with running(tmp_path, "app.py") as process:
        has(tmp_path / "out", "holds")
        process.send_signal(signal.SIGUSR2)
        has(tmp_path / "out", "the loop doesn't answer: task hold, which holds the loop at ", "  1 of hold: ")
