"""``--daemon`` and ``--pid-file``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .support import PATIENCE, alive, has, in_background, launch, running, text_of, until

SERVES = """\
import os, sys
from silly import logger
from silly.net import tcp
print("starts", flush=True)
listener, _ = tcp.listen("127.0.0.1:0", lambda conn: conn.read(1))
"""


def test_it_returns_when_the_program_is_ready(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SERVES)
    with in_background(tmp_path, "--log-path", "log", "app.py") as pid:
        has(tmp_path / "log", "starts", "listening on tcp://127.0.0.1:")
        assert os.getsid(pid) not in (pid, os.getsid(0))
        os.kill(pid, signal.SIGHUP)
        has(tmp_path / "log", "SIGHUP: the program has no handler for it, and goes on")
        again = launch(tmp_path, "--daemon", "--pid-file", "pid", "app.py")
        assert (again.returncode, again.stdout) == (2, "")
        assert again.stderr == f"silly: it runs already: process {pid} has {tmp_path / 'pid'}\n"
        os.kill(pid, signal.SIGTERM)
        until(lambda: not alive(pid))
    assert not (tmp_path / "pid").exists()


ENDS = """\
import os
from silly import env, time
from silly.net import tcp

if env.get("worker") == "2":
    with open("new", "w") as file:
        file.write(str(os.getpid()))
    os.rename("new", "other")
else:
    while not os.path.exists("other") or os.path.exists("/proc/" + open("other").read()):
        time.sleep(10)
    tcp.listen("127.0.0.1:0", lambda conn: conn.read(1))
"""


def test_workers_are_ready_though_one_has_nothing_left_to_do(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(ENDS)
    with in_background(tmp_path, "--workers", "2", "--log-path", "log", "app.py"):
        has(tmp_path / "log", "listening on tcp://127.0.0.1:")


def test_without_a_log_its_output_is_seen_until_it_is_ready(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SERVES + "logger.warn('the last line')\n")
    done = launch(tmp_path, "-d", "--pid-file", "pid", "app.py")
    try:
        assert (done.returncode, done.stdout) == (0, "starts\n")
        assert done.stderr.endswith("WARNING the last line\n")
        pid = int(text_of(tmp_path / "pid"))
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
    finally:
        os.kill(int(text_of(tmp_path / "pid")), signal.SIGTERM)
    until(lambda: not (tmp_path / "pid").exists())


def test_it_starts_without_standard_output(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("open('ran', 'w').close()\n")
    command = f'exec "{sys.executable}" -m silly --daemon app.py >&-'
    assert subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, timeout=PATIENCE, check=False).returncode == 0
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("script", "status", "error"),
    [
        ("x x", 2, "SyntaxError"),
        ("import sys; sys.exit(5)", 5, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9, ""),
    ],
    ids=["no script", "exits", "fails", "killed"],
)
def test_a_program_that_ends_before_it_is_ready_gives_its_status(tmp_path: Path, script: str, status: int, error: str) -> None:
    (tmp_path / "app.py").write_text(script)
    done = launch(tmp_path, "--daemon", "--pid-file", "pid", "app.py")
    assert done.returncode == status
    assert error in done.stderr
    again = launch(tmp_path, "--daemon", "--log-path", "log", "app.py")
    assert again.returncode == status
    assert again.stderr.endswith(f"silly: app.py has ended with status {status}: see above, or log\n")


def test_sigterm_while_it_starts_ends_the_program(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os\nfrom silly import time\nprint(os.getpid(), flush=True)\ntime.sleep(60000)\n")
    with running(tmp_path, "--daemon", "app.py") as first:
        until(lambda: text_of(tmp_path / "out").endswith("\n"))
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE) == 0
        assert not alive(int(text_of(tmp_path / "out")))


def test_a_stale_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os\nprint(open('pid').read() == f'{os.getpid()}\\n')\n")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    pid = tmp_path / "pid"
    for stale in ("", "0", str(ended.pid), "9" * 30):
        pid.write_text(stale)
        done = launch(tmp_path, "--pid-file", "pid", "app.py")
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", ""), stale
        assert not pid.exists()
    pid.write_text(f"{os.getpid()}\n")
    done = launch(tmp_path, "--pid-file", "pid", "app.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"silly: process {os.getpid()} of {pid} runs already; if that is another program, remove the file\n"
    os.utime(pid, (0, 0))  # from before this process began: its number was another's
    assert launch(tmp_path, "--pid-file", "pid", "app.py").stdout == "True\n"


def test_a_file_of_a_killed_process_that_nobody_has_waited_for_is_replaced(tmp_path: Path) -> None:
    """Process 1 of a container may wait for none."""
    (tmp_path / "app.py").write_text("print('ran')\n")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as killed:
        (tmp_path / "pid").write_text(f"{killed.pid}\n")
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
        done = launch(tmp_path, "--pid-file", "pid", "app.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def test_a_file_that_holds_something_else_stays(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("print('ran')\n")
    done = launch(tmp_path, "--pid-file", "app.py", "app.py")
    words = f"{app} has no number of a process, so it isn't replaced: name another --pid-file, or remove it"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"silly: {words}\n")
    assert app.read_text() == "print('ran')\n"


def test_a_child_that_outlives_the_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, signal\nif (pid := os.fork()) == 0:\n    signal.pause()\n"
        "print(pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    crashed = launch(tmp_path, "--log-path", "log", "--pid-file", "pid", "app.py", PYTHONWARNINGS="ignore")
    try:
        assert crashed.returncode == -9
        (tmp_path / "app.py").write_text("print('ran')\n")
        done = launch(tmp_path, "--pid-file", "pid", "app.py")
        assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    finally:
        os.kill(int(text_of(tmp_path / "log")), signal.SIGKILL)


@pytest.mark.parametrize("option", ["--daemon", "--reload"])
def test_a_script_on_standard_input_cannot_be_started_again(tmp_path: Path, option: str) -> None:
    done = launch(tmp_path, option, "-")
    assert (done.returncode, done.stderr) == (2, f"silly: {option} needs a script in a file, not standard input\n")
