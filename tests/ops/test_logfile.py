"""``--log-path``, and SIGUSR1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .support import has, launch, running, text_of, until

COUNTS = """\
import silly
from silly import logger, task, time
from silly.net import http


def count():
    for number in range(1, 100000):
        logger.info("line", number)
        time.sleep(1)


task.fork(count)
log = http.AccessLog("common", "access.log")
print("begins", flush=True)
"""


def numbers(*paths: Path) -> list[int]:
    lines = "".join(map(text_of, paths)).splitlines()
    return [int(line.rpartition(" ")[2]) for line in lines if " INFO line " in line]


def test_rotation_loses_and_doubles_no_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(COUNTS)
    log, files = tmp_path / "app.log", [tmp_path / f"app.log.{number}" for number in range(3)]
    with running(tmp_path, "--log-path", "app.log", "app.py") as process:
        has(log, "begins", "INFO line 20\n")
        for file in files:
            os.rename(log, file)
            process.send_signal(signal.SIGUSR1)
            has(log, " INFO line ")
            os.rename(tmp_path / "access.log", tmp_path / "access.log.1")
            process.send_signal(signal.SIGUSR1)
            until((tmp_path / "access.log").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    found = numbers(*files, log)
    assert len(found) > 20
    assert found == list(range(1, len(found) + 1))
    assert text_of(tmp_path / "out") == ""


def test_a_file_that_cannot_be_opened_again_stays(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(COUNTS)
    folder = tmp_path / "logs"
    folder.mkdir()
    with running(tmp_path, "--log-path", "logs/app.log", "app.py") as process:
        has(folder / "app.log", "line 2\n")
        moved = tmp_path / "moved"
        os.rename(folder, moved)
        process.send_signal(signal.SIGUSR1)
        has(moved / "app.log", "app.log can't be opened again, so the file from before stays: No such file or directory")


def test_usr1_and_usr2_end_nothing_and_hide_no_deadlock(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, signal\nfrom silly import task, time\nfor each in signal.SIGUSR1, signal.SIGUSR2:\n"
        "    os.kill(os.getpid(), each)\n    time.sleep(20)\n"
        "def stuck():\n    task.wait()\ntask.fork(stuck)\n"
    )
    done = launch(tmp_path, "app.py")
    assert done.returncode == 1
    assert "state of process" in done.stderr
    assert "nothing can ever wake the tasks that are left" in done.stderr


def test_usr1_and_usr2_end_nothing_as_soon_as_there_is_a_pid_file(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from silly import time\nprint('runs', flush=True)\ntime.sleep(60_000)\n")
    with running(tmp_path, "--workers", "1", "--pid-file", "pid", "app.py") as process:
        until(lambda: text_of(tmp_path / "pid") or process.poll() is not None)
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGUSR2)
        has(tmp_path / "out", "runs")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize("options", [(), ("--workers", "1"), ("--reload",)], ids=["one", "workers", "reload"])
def test_usr1_while_the_interpreter_ends_is_ignored(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "app.py").write_text("from silly import time\nprint('runs', flush=True)\ntime.sleep(60_000)\n")
    with running(tmp_path, *options, "app.py") as process:
        has(tmp_path / "out", "runs")
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.0003)
        assert process.wait(30) == 0


def test_the_application_has_its_own_handlers(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, signal, sys, silly\nfrom silly import task, time\n"
        "def caught(name):\n    print(name, flush=True)\n"
        "silly.signal('SIGUSR1', caught)\nos.kill(os.getpid(), signal.SIGUSR1)\ntime.sleep(50)\n"
        "assert silly.signal('SIGUSR1', None) is caught\nos.kill(os.getpid(), signal.SIGUSR1)\ntime.sleep(50)\n"
        "if (pid := os.fork()) == 0:\n    os.kill(os.getpid(), signal.SIGUSR1)\n    os._exit(3)\n"
        "print(os.waitpid(pid, 0)[1], flush=True)\n"
    )
    done = launch(tmp_path, "app.py", PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stdout) == (0, f"SIGUSR1\n{int(signal.SIGUSR1)}\n"), done


FULL = """\
import os, resource, signal, sys, silly
from silly import logger, task, time

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger.info("before")
time.sleep(50)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat("app.log").st_size + 10, hard))
for number in range(5):
    logger.info("lost", number)
    print("lost too")
    print("and so", file=sys.stderr)
    time.sleep(20)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
logger.info("after")
"""


def test_a_full_disk_fails_nobody_and_lost_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FULL)
    done = launch(tmp_path, "--log-path", "app.log", "app.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    before, *cut, lost, after = text_of(tmp_path / "app.log").splitlines()
    assert before.endswith("INFO before")
    assert "".join(cut).count("lost") <= 1  # 10 bytes had room
    assert after.endswith("INFO after")
    assert lost.endswith((" 15 lines lost", " 14 lines lost", " 13 lines lost")), lost


def test_dev_full(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from silly import logger\nprint('x')\nlogger.info('y')\nopen('ran', 'w').close()\n")
    assert launch(tmp_path, "--log-path", "/dev/full", "app.py").returncode == 0
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("option", "path", "why"),
    [
        ("--log-path", "missing/app.log", "No such file or directory"),
        ("--log-path", ".", "Is a directory"),
        ("--log-path", "pipe", "No such device or address"),
        ("--pid-file", "missing/pid", "No such file or directory"),
        ("--env-file", "missing.env", "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, option: str, path: str, why: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "app.py").write_text("print('ran')\n")
    done = launch(tmp_path, option, path, "app.py")
    assert (done.returncode, done.stdout) == (2, "")
    verb = {"--log-path": "open", "--pid-file": "write", "--env-file": "read"}[option]
    assert done.stderr == f"silly: can't {verb} the {option} {path!r}: {why}\n"


def test_lines_of_a_worker_name_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from silly import logger\nlogger.info('hello %')\n")
    assert " INFO [worker 1] hello %\n" in launch(tmp_path, "--workers", "1", "app.py").stderr


CLOSED = """\
import os, sys
from silly import logger
from silly.net import tcp

def greet(conn):
    conn.write("hello\\n")

listener, _ = tcp.listen("127.0.0.1:0", greet)
logger.info("nobody reads this")
print("nor this")
with open("port.new", "w") as file:
    file.write(str(listener.port))
os.rename("port.new", "port")
"""


@pytest.mark.parametrize("options", ["", "--log-path app.log"])
def test_a_process_without_standard_streams_serves(tmp_path: Path, options: str) -> None:
    import socket

    (tmp_path / "app.py").write_text(CLOSED)
    command = f'exec "{sys.executable}" -m silly {options} app.py <&- >&- 2>&-'
    with subprocess.Popen(["/bin/sh", "-c", command], cwd=tmp_path) as process:
        try:
            until((tmp_path / "port").exists)
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", int(text_of(tmp_path / "port"))), 30) as sock:
                    assert sock.recv(100) == b"hello\n"
            for fd in range(3):
                assert os.readlink(f"/proc/{process.pid}/fd/{fd}") in ("/dev/null", str(tmp_path / "app.log"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    if options:
        has(tmp_path / "app.log", "nobody reads this", "nor this")
