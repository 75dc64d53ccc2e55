"""``--workers N``: how workers live, fail, are replaced and end."""

from __future__ import annotations

import itertools
import os
import re
import select
import signal
import subprocess
import sys
import termios
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from silly import task, time
from silly.net import tcp
from silly.ops import _link
from silly.ops.master import Master
from silly.ops.options import Options

from ..children import LIMIT, Child
from ..net.support import until
from .crew import Crew, is_gone


def test_each_worker_gets_its_share_and_all_have_one_free_port(tmp_path: Path) -> None:
    with Crew(tmp_path, 4, "--max-age", "10000h").up() as crew:  # epoll takes no such time
        shares = Counter(crew.ask().split()[0] for _ in range(400))
        assert sorted(shares) == ["1", "2", "3", "4"]
        assert min(shares.values()) > 50, shares


# ---- workers that end -------------------------------------------------------------------------------------------------


def test_what_waits_for_a_worker_that_is_killed_gets_its_successor(tmp_path: Path) -> None:
    with Crew(tmp_path, 1).up() as crew:
        old = crew.pids()[1][0]
        os.kill(old, signal.SIGSTOP)
        waiting = [crew.connect() for _ in range(20)]
        os.kill(old, signal.SIGKILL)
        answers = {crew.ask(conn=conn) for conn in waiting}
        assert answers == {f"1 {crew.pids()[1][1]}"}
        crew.says(rf"WARNING worker 1 \(pid {old}\) was ended by SIGKILL; another is started now")


def test_what_waits_for_a_slot_that_is_given_up_gets_another_worker(tmp_path: Path) -> None:
    """And the slot serves again when its worker comes up: nothing is lost on the way there and back."""
    with Crew(tmp_path, 2, changes="from silly.ops import _crew; _crew.BACK_OFF = 0.01").up() as crew:
        bad = tmp_path / "bad2"
        bad.touch()
        os.kill(crew.pids()[2][0], signal.SIGSTOP)
        waiting = [crew.connect() for _ in range(40)]
        os.kill(crew.pids()[2][0], signal.SIGKILL)
        assert {crew.ask(conn=conn).split()[0] for conn in waiting} == {"1"}
        crew.says("ERROR .*Worker 2 has ended again and again: the next try is in 30 s")
        first = crew.pids()
        assert len(first[2]) == 5, "one that was ready, and four that failed"
        assert {crew.ask().split()[0] for _ in range(40)} == {"1"}

        bad.unlink()
        crew.send(signal.SIGHUP)
        with task.group() as g:
            asking = [g.fork(lambda: [crew.ask().split()[0] for _ in range(20)]) for _ in range(2)]
            crew.says(rf"worker 1 \(pid {first[1][0]}\) has ended with status 0")
        assert {each for answers in asking for each in answers.join()[0]} <= {"1", "2"}
        crew.says("is ready", 4)
        assert {crew.ask().split()[0] for _ in range(40)} == {"1", "2"}


def test_a_listener_that_one_worker_closes_is_served_by_the_others(tmp_path: Path) -> None:
    with Crew(tmp_path, 2).up() as crew:
        closed = crew.ask("stop").split()[0]
        assert {crew.ask().split()[0] for _ in range(40)} == {"12".replace(closed, "")}


def test_a_worker_that_listens_anew_accepts_for_the_slot_that_is_given_up_again(tmp_path: Path) -> None:
    """Also where the master hears only afterwards that the listener from before has closed."""
    with Crew(tmp_path, 2, changes="from silly.ops import _crew; _crew.BACK_OFF = 0.01").up() as crew:
        (tmp_path / "bad2").touch()
        os.kill(crew.pids()[2][0], signal.SIGKILL)
        crew.says("ERROR .*Worker 2 has ended again and again")
        with crew.connect() as conn, crew.connect() as other:
            crew.send(signal.SIGSTOP)
            try:
                for each, word in (conn, "stop"), (conn, "again"), (other, "who"), (other, "who"):
                    each.write(f"{word}\n")
                    if word != "again":  # that waits for the master; by the last answer it has been asked
                        assert each.read("\n", LIMIT)[0]
            finally:
                crew.send(signal.SIGCONT)
            assert conn.read("\n", LIMIT) == (b"None\n", None)
        assert {crew.ask()[0] for _ in range(20)} == {"1"}


@pytest.mark.parametrize(("word", "how"), [("die", "has ended with status 3"), ("leave", "begins to end")])
def test_a_worker_that_ends_by_itself_has_a_successor_at_once(tmp_path: Path, word: str, how: str) -> None:
    with Crew(tmp_path, 1).up() as crew:
        with crew.connect() as conn:
            conn.write(f"{word}\n")
            conn.read("\n")
        assert crew.ask() == f"1 {crew.pids()[1][1]}"
        crew.says(rf"{how}; another is started now")


def test_a_worker_that_somebody_ends_by_signals_has_not_failed(tmp_path: Path) -> None:
    with Crew(tmp_path, 1).up() as crew:
        for number in range(2, 7):
            os.kill(int(crew.ask().split()[1]), signal.SIGTERM)
            crew.says("is ready", number)
        assert "again" not in crew.said()


def test_a_script_that_fails_in_all_workers_ends_the_master(tmp_path: Path) -> None:
    with Crew(tmp_path, 2, app="raise ValueError('no database')") as crew:
        assert crew.wait() == 1
        said = crew.said()
    assert said.count("ValueError: no database") == 10
    assert "ERROR all workers have failed again and again, so the master ends" in said
    waits = re.findall(r"worker 1 .* another is started (now|in [\d.]+ s)", said)
    assert waits == ["now", "in 0.1 s", "in 0.2 s", "in 0.4 s"]


def test_a_worker_that_a_signal_without_a_name_ends(tmp_path: Path) -> None:
    with Crew(tmp_path, 1).up() as crew:
        os.kill(int(crew.ask().split()[1]), signal.SIGRTMIN + 6)
        crew.says(rf"worker 1 .* was ended by signal {signal.SIGRTMIN + 6}; another is started now")
        crew.says("is ready", 2)


def test_a_script_that_has_nothing_left_to_do_is_not_started_again(tmp_path: Path) -> None:
    with Crew(tmp_path, 2, app="import os; from silly import env; os.write(1, b'%s\\n' % env.get('worker').encode())") as crew:
        assert {crew.line(), crew.line()} == {"1", "2"}
        assert crew.wait() == 0
        assert crew.said().count("nothing was left to do") == 2


@pytest.mark.parametrize("sent", [b"[1, 2]", b"[" * 60_000, b'{"op": "listen", "key": "k", "lease": Infinity}'])
def test_a_worker_that_sends_what_none_sends_is_killed(tmp_path: Path, sent: bytes) -> None:
    (tmp_path / "unsent").write_bytes(sent)
    app = """\
import os
from silly.net import _binding
if os.path.exists("unsent"):
    with open("unsent", "rb") as file:
        os.unlink("unsent")
        _binding.lender.__self__._sock.send(file.read())
os.write(1, b"up\\n")
"""
    with Crew(tmp_path, 1, app=app) as crew:
        crew.says("ERROR worker 1 .* is killed: it has sent what no worker sends")
        crew.says("nothing was left to do")
        assert crew.wait() == 0


def test_a_worker_that_never_stops_sending_does_not_keep_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = itertools.repeat(_link.Message("noticed", {}, [], whole=True), 100_000)
    monkeypatch.setattr(_link, "receive", lambda sock: next(sent))
    Master(Options(workers=1), [])._read(SimpleNamespace(slot=1, link=None))  # type: ignore[arg-type]


# ---- replacing --------------------------------------------------------------------------------------------------------


def test_replacing_loses_no_connection_and_no_descriptor(tmp_path: Path) -> None:
    with Crew(tmp_path, 4).up() as crew:
        before, ended = crew.descriptors(), False
        counts = Counter[str]()

        def load() -> None:
            while not ended:
                counts[crew.ask()] += 1
                time.sleep(5)

        with task.group() as g:
            for _ in range(2):
                g.fork(load)
            for each in range(2):
                crew.send(signal.SIGHUP)
                crew.says(r"worker 4 .* is told to drain and end", each + 1)
            ended = True
        crew.says(r"has ended with status 0", 8)
        assert all(len(pids) == 3 for pids in crew.pids().values())
        assert sum(counts.values()) > 50
        assert len(counts) > 5, "all that time somebody answered"
        assert crew.descriptors() == before


def test_a_second_sighup_replaces_what_started_before_it(tmp_path: Path) -> None:
    with Crew(tmp_path, 2).up() as crew:
        crew.send(signal.SIGHUP)
        crew.says("is started", 3)
        crew.send(signal.SIGHUP)
        crew.says("is ready", 5)
        crew.says("has ended with status 0", 3)
        assert {slot: len(pids) for slot, pids in crew.pids().items()} == {1: 3, 2: 2}


def test_a_successor_that_does_not_come_up_leaves_the_old_ones(tmp_path: Path) -> None:
    with Crew(tmp_path, 2).up() as crew:
        (tmp_path / "bad1").touch()
        before = crew.pids()
        crew.send(signal.SIGHUP)
        crew.says("ERROR worker 1 .* has ended with status 3 before it was ready: worker 1 .* stays, and so do the others$")
        assert {crew.ask() for _ in range(20)} == {f"{slot} {pids[0]}" for slot, pids in before.items()}


@pytest.mark.parametrize(("options", "word", "why"), [
    ("--max-age 500ms", "who", r"is \d s old"),
    ("--max-rss 100M", "grow", r"takes \d+ MiB, more than --max-rss 100 MiB"),
])
def test_a_worker_that_is_too_old_or_too_large_is_replaced(tmp_path: Path, options: str, word: str, why: str) -> None:
    with Crew(tmp_path, 1, *options.split()).up() as crew:
        old = crew.ask(word)
        crew.says(rf"worker 1 \(pid {old[2:]}\) {why}, and is replaced")
        until(lambda: crew.ask() != old)


def test_a_limit_of_memory_that_no_worker_can_keep_replaces_none(tmp_path: Path) -> None:
    with Crew(tmp_path, 1, "--max-rss", "1M").up() as crew:
        crew.says(r"WARNING worker 1 .* takes \d+ MiB from the start, more than --max-rss 1 MiB")


# ---- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_lets_requests_finish(tmp_path: Path) -> None:
    with Crew(tmp_path, 2, "--drain", "20s").up() as crew, crew.connect() as conn:
        conn.write("hold\n")
        assert conn.read("\n") == (b"held\n", None)
        crew.send(signal.SIGINT)
        crew.says("SIGINT: 2 workers told to drain and end")
        conn.write("go on\n")
        line, _ = conn.read("\n")
        assert line is not None
        assert [int(line.split()[1])] in crew.pids().values()
        conn.close()
        assert crew.wait() == 0


def test_with_a_notice_all_goes_on_until_it_is_over(tmp_path: Path) -> None:
    """And no connection that comes meanwhile is lost, though the sockets close at its end."""
    with Crew(tmp_path, 2, "--notice", "600ms").up() as crew:
        crew.send(signal.SIGTERM)
        crew.says("told to drain and end")
        begin, answers = time.monotonic(), 0
        while (conn := tcp.connect(crew.addr, timeout=5000)[0]) is not None:
            assert crew.ask(conn=conn)[0] in "12"
            answers += 1
        assert answers > 10
        assert time.monotonic() - begin >= 500
        assert crew.wait() == 0


def test_a_worker_that_is_replaced_gives_no_notice(tmp_path: Path) -> None:
    with Crew(tmp_path, 1, "--notice", "30s").up() as crew:
        crew.send(signal.SIGHUP)
        crew.says("has ended with status 0")
        crew.send(signal.SIGTERM)
        crew.says("SIGTERM: 1 worker told to drain")
        crew.send(signal.SIGTERM)
        assert crew.wait() == 128 + signal.SIGTERM


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with Crew(tmp_path, 2, "--drain", "20s").up() as crew, crew.connect() as conn:
        conn.write("hold\n")
        conn.read("\n")
        crew.send(signal.SIGTERM)
        crew.says("told to drain and end")
        crew.send(signal.SIGTERM)
        assert crew.wait() == 128 + signal.SIGTERM
        crew.says("SIGTERM again: . workers? killed")
        assert all(is_gone(pid) for pids in crew.pids().values() for pid in pids)


def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    app = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(100)"
    times = "from silly.ops import master; master.MARGIN = master.FINALLY = 0.1"
    with Crew(tmp_path, 1, "--drain", "0", app=app, changes=times) as crew:
        crew.line()
        crew.send(signal.SIGTERM)
        assert crew.wait() == 128 + signal.SIGTERM
        crew.says("ERROR worker 1 .* has not ended in time, and is killed")


def test_workers_whose_master_is_killed_drain_and_end(tmp_path: Path) -> None:
    with Crew(tmp_path, 2).up() as crew, crew.connect() as conn:
        conn.write("hold\n")
        conn.read("\n")
        crew.process.kill()
        crew.says("ERROR .* the master is gone, so this worker drains and ends", 2)
        conn.write("go on\n")
        assert conn.read("\n")[0]
        conn.close()
        assert crew.wait() == -signal.SIGKILL, "which waits until no worker has its stdout any more"


def test_workers_that_drain_when_their_master_is_killed_go_on_to_drain(tmp_path: Path) -> None:
    with Crew(tmp_path, 1, "--drain", "20s").up() as crew, crew.connect() as conn:
        conn.write("hold\n")
        conn.read("\n")
        crew.send(signal.SIGTERM)
        while (other := tcp.connect(crew.addr, timeout=5000)[0]) is not None:
            other.close()
        crew.process.kill()
        crew.says("ERROR .* the master is gone")
        conn.write("go on\n")
        assert conn.read("\n")[0]
        conn.close()
        assert crew.wait() == -signal.SIGKILL


def test_signals_are_passed_on(tmp_path: Path) -> None:
    with Crew(tmp_path, 2).up() as crew:
        for name in ("SIGUSR1", "SIGUSR2"):
            crew.send(getattr(signal, name))
            assert {crew.line(), crew.line()} == {f"{name} 1", f"{name} 2"}
        crew.says(r"worker 2 \(pid \d+\): ready, \d s old, \d+ MiB")


def test_ctrl_c_is_ignored_if_whoever_started_it_ignores_it(tmp_path: Path) -> None:
    """As in one process: a shell does so for what a script starts with "&"."""
    changes = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    with Crew(tmp_path, 1, changes=changes).up() as crew:
        crew.send(signal.SIGINT)
        crew.send(signal.SIGUSR2)
        crew.says(r"worker 1 \(pid \d+\): ready, ")
        crew.send(signal.SIGTERM)
        assert crew.wait() == 0
        assert "SIGINT" not in crew.said()


IN_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "silly", "--workers", "1", "app.py"])
"""


def test_in_a_terminal_workers_may_write_and_ctrl_c_ends_them(tmp_path: Path) -> None:
    """Though it stops what writes in the background, where workers are."""
    (tmp_path / "app.py").write_text("from silly.net import tcp\ntcp.listen('127.0.0.1:0', print)\n")
    ours, theirs = os.openpty()
    modes = termios.tcgetattr(theirs)
    modes[3] |= termios.TOSTOP
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    command = [sys.executable, "-c", IN_TERMINAL]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    try:
        os.close(theirs)
        said = b""
        while b"is ready" not in said:
            assert select.select([ours], [], [], LIMIT / 1000)[0], said.decode()
            said += os.read(ours, 4096)
        os.write(ours, b"\x03")
        assert process.wait(LIMIT / 1000) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


# ---- what can't work --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("args", "words"), [
    ("--workers 2 missing.py", "can't open 'missing.py'"),
    ("--workers 2 wrong.py", "'wrong.py' is not a Python script"),
    ("--workers 2 -", "a file, not standard input"),
    ("--max-age 1h wrong.py", "--max-age is for workers: write --workers N too"),
])
def test_bad_options_end_with_words_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text("def")
    with Child("-m", "silly", *args.split()) as child:
        assert child.wait() == 2
        assert words in child.said()
        assert "started" not in child.said()


@pytest.mark.parametrize("value", ["", "0:1", "99999:1", "nonsense"])
def test_a_link_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    (tmp_path / "app.py").write_text("print('runs')")
    with Child("-m", "silly", str(tmp_path / "app.py"), env={"SILLY_WORKER_LINK": value}) as child:
        assert child.wait() == 2
        assert "no link to a master: unset it" in child.said()
