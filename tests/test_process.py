"""``silly.process``: starting programs, and their pipes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import check, errno, process, task, time
from silly._core import loop, scheduler
from silly.process import DEVNULL, PIPE, STDOUT

from .conftest import Logs
from .net.support import Job, until

WITHIN = 10_000


def both(*args: str, **options: Any) -> process.Process:
    """A child with pipes for stdin and stdout."""
    return check(process.start(args, stdin=PIPE, stdout=PIPE, **options))


def python(code: str, **options: Any) -> process.Process:
    return both(sys.executable, "-S", "-c", code, **options)


def everything(conn: process.Conn) -> bytes:
    """What comes until the end."""
    got = b""
    while (piece := conn.read(1, WITHIN)[0]) is not None:
        got += piece + check(conn.read(conn.unreadbytes()))
    assert conn.read(1) == (None, errno.EOF)
    return got


# ---- pipes ---------------------------------------------------------------------------


def test_a_child_that_reads_to_the_end_and_answers() -> None:
    with both("sort") as child:
        assert child.stdin.write("b\na\n") == (True, None)
        assert child.wait(20) == (None, "child.wait: the time-out of 20 ms ran out")
        child.stdin.close()
        assert child.stdout.read("\n", WITHIN) == (b"a\n", None)
        assert child.stdout.read(2, WITHIN) == (b"b\n", None)
        assert child.stdout.read("\n", WITHIN) == (None, errno.EOF)
        assert not child.stdout.isalive()
        assert child.wait(WITHIN) == (0, None)
        assert child.status == 0


def test_much_data_both_ways_at_once() -> None:
    """Neither side waits for the other for ever, and nothing is lost behind a close."""
    sent = os.urandom(100_000) * 20
    with both("cat") as child:

        def write() -> None:
            child.stdin.write([sent[:1], bytearray(sent[1:5]), memoryview(sent)[5:500_000]])
            for at in range(500_000, len(sent), 50_000):
                assert child.stdin.write(sent[at : at + 50_000]) == (True, None)
            child.stdin.close()

        writing = Job(write)
        assert everything(child.stdout) == sent
        writing.result()
        assert child.wait(WITHIN) == (0, None)


def test_a_child_may_take_its_time_to_read(tmp_path: Path) -> None:
    """The limits of time are for peers of a network. What a close leaves to send is sent too."""
    os.mkfifo(tmp_path / "gate")
    limits = silly.Limits(unsent=1000, write_timeout=20, linger=20)
    with both("sh", "-c", "read x < gate; exec cat", cwd=tmp_path, limits=limits) as child:
        writing = Job(lambda: child.stdin.write(b"x" * 200_000)).blocked()
        assert child.stdin.unsentbytes() > 1000
        time.sleep(60)
        assert child.stdin.isalive()
        with time.deadline(1):
            assert child.stdin.write("more") == (False, errno.TIMEDOUT)
        child.stdin.close()
        assert writing.result() == (False, errno.CLOSED)
        time.sleep(60)
        (tmp_path / "gate").write_text("\n")
        assert len(everything(child.stdout)) == 200_004


def test_output_that_nobody_reads_holds_the_child_back() -> None:
    with check(process.start(["yes"], stdout=PIPE)) as child:
        until(lambda: child.stdout._stream.paused)
        assert child.stdout.unreadbytes() < 100_000
        assert child.stdout.read(4) == (b"y\ny\n", None)
        assert check(child.stdout.read(300_000, WITHIN))[-2:] == b"y\n"
        child.stdout.limit(1000)
        assert child.stdout.close() == (True, None)
        assert child.wait(WITHIN) == (-signal.SIGPIPE, None)


def test_stdin_that_the_child_has_closed() -> None:
    with both("sh", "-c", "exec <&-; echo; read x <&1") as child:
        assert child.stdout.read("\n", WITHIN) == (b"\n", None)
        child.stdin.write("lost\n")
        until(lambda: not child.stdin.isalive())
        assert child.stdin.write("more\n") == (False, errno.PIPE)
    with both("sh", "-c", "read x; echo $x; exec sleep 100") as child:
        big = Job(lambda: child.stdin.write(b"x\n" * 2_000_000)).blocked()
        assert child.stdout.read("\n", WITHIN) == (b"x\n", None)
        child.kill()
        assert big.result() == (False, errno.PIPE)


def test_a_pipe_has_one_direction() -> None:
    with both("cat") as child:
        for call in (lambda: child.stdin.read(1), lambda: child.stdin.read("\n"), lambda: task.select(child.stdin)):
            with pytest.raises(RuntimeError, match=r"^stdin of cat \(\d+\) is only written to, and can't be read from$"):
                call()
        for data in (b"x", "x", [b"x"]):
            with pytest.raises(RuntimeError, match=r"^stdout of cat \(\d+\) is only read from"):
                child.stdout.write(data)
        with pytest.raises(RuntimeError, match=r"^child\.stderr: there is no such pipe; start it with stderr=process\.PIPE"):
            child.stderr.close()
        assert re.fullmatch(r"<process connection with stdin of cat \(\d+\), open>", repr(child.stdin))
        with pytest.raises(RuntimeError, match=r"^stdout of cat \(\d+\) is only read from"):
            child.stdout.closewrite()
        assert child.stdin.write("still\n")[0]
        assert child.stdout.readsome(timeout=WITHIN) == (b"still\n", None)
        assert child.stdin.closewrite() == (True, None)
        assert child.stdin.closewrite() == (False, errno.CLOSED)
        assert child.wait(WITHIN) == (0, None)


def test_a_delimiter_that_does_not_come(logs: Logs) -> None:
    logs.expect(r"process: stdout of yes \(\d+\): no delimiter within the limit 'delimited' of 5000 bytes")
    with check(process.start(["yes"], stdout=PIPE, limits=silly.Limits(delimited=5000))) as child:
        assert child.stdout.read("z", WITHIN) == (None, errno.MSGSIZE)


def test_pipes_are_selected_and_a_read_waits_alone() -> None:
    with both("cat") as one, both("cat") as other:
        assert one.stdout.read(1, 10) == (None, errno.TIMEDOUT)
        with time.deadline(10):
            assert one.stdout.read(1) == (None, errno.TIMEDOUT)
        other.stdin.write("x")
        assert task.select(one.stdout, other.stdout, timeout=WITHIN) == (other.stdout, None)
        reading = Job(lambda: one.stdout.read(1)).blocked()
        with pytest.raises(RuntimeError, match="another task is already reading"):
            one.stdout.read(1)
        one.stdout.close()
        assert reading.result() == (None, errno.CLOSED)


def test_the_end_of_the_output_is_that_of_the_last_process_which_has_it() -> None:
    with check(process.start(["sh", "-c", "(read x; echo later) <&3 3<&- & echo first"], stdout=PIPE, stdin=PIPE)) as child:
        assert child.wait(WITHIN)[0] is not None
        while (line := child.stdout.read("\n", WITHIN)[0]) is not None:
            assert line in (b"first\n", b"later\n")


# ---- what the child gets -------------------------------------------------------------


def test_where_the_three_come_from(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out"
    path.write_text("hello\n")
    with path.open() as file, check(process.start(["cat"], stdin=file, stdout=PIPE)) as child:
        assert everything(child.stdout) == b"hello\n"
    script = ["sh", "-c", "echo out; echo err >&2"]
    with path.open("w") as file, check(process.start(script, stdout=file.fileno(), stderr=STDOUT)) as child:
        assert child.wait(WITHIN) == (0, None)
    assert path.read_text() == "out\nerr\n"
    with check(process.start(script, stdout=DEVNULL, stderr=PIPE)) as child:
        assert everything(child.stderr) == b"err\n"
    with check(process.start(script, stdout=PIPE, stderr=STDOUT)) as child:
        assert everything(child.stdout) == b"out\nerr\n"
    with check(process.start(script, stderr=PIPE)) as child:
        assert everything(child.stderr) == b"err\n"
    with check(process.start(script, stderr=STDOUT)) as child:
        assert child.wait(WITHIN) == (0, None)
    assert capfd.readouterr() == ("out\nout\nerr\n", "")


def test_the_pipes_are_real_ones() -> None:
    """A child may open them by their names in /dev, which it can't do with a socket."""
    with both("sh", "-c", "cat /dev/stdin > /dev/stdout") as child:
        child.stdin.write("hello")
        child.stdin.close()
        assert everything(child.stdout) == b"hello"


def test_the_folder_the_environment_and_nothing_else(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ.get('A'), os.environ.get('HOME'), os.listdir('/proc/self/fd'))"
    env = {"A": "ü", "PATH": os.environ["PATH"]}
    with both("cat"), python(code, cwd=tmp_path, env=env) as child:
        assert everything(child.stdout).decode() == f"{tmp_path} ü None ['0', '1', '2', '3']\n"  # 3 is the list's own
    with check(process.start([b"sh", Path("-c"), "echo $1", b"", b"\xff"], stdout=PIPE)) as child:
        assert everything(child.stdout) == b"\xff\n"


def test_signals_have_their_defaults() -> None:
    """Python ignores SIGPIPE; the child must not."""
    with check(process.start(["sh", "-c", "kill -PIPE $$"])) as child:
        assert child.wait(WITHIN) == (-signal.SIGPIPE, None)


# ---- what can't be started -----------------------------------------------------------


@pytest.mark.parametrize("pty", [False, True])
def test_why_it_does_not_start(tmp_path: Path, pty: bool) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "script").write_text("#!/nosuch\n")
    (tmp_path / "script").chmod(0o755)

    def err(*args: Any, **options: Any) -> str | None:
        child, err = process.start(args, pty=pty, **options)
        assert child is None
        return err

    assert err("nosuch") == "process.start: nosuch: No such file or directory (2): there is no such program in PATH"
    assert err("/no/such") == "process.start: /no/such: No such file or directory (2)"
    assert err("ls", env={"PATH": "/nosuch"})
    assert err(tmp_path / "plain") == f"process.start: {tmp_path}/plain: Permission denied (13)"
    assert err("./plain", cwd=tmp_path) == "process.start: ./plain: Permission denied (13)"
    assert err("ls", cwd="/nosuch") == "process.start: cwd '/nosuch': No such file or directory (2)"
    assert err("ls", cwd=tmp_path / "plain") == f"process.start: cwd '{tmp_path}/plain': Not a directory (20)"
    if not pty:  # there the shell says so, on the terminal
        named = "No such file or directory (2): the program that its first line names"
        assert err(tmp_path / "script") == f"process.start: {tmp_path}/script: {named}"
        assert err("./script", cwd=tmp_path) == f"process.start: ./script: {named}"
        assert err("script", env={"PATH": tmp_path}) == f"process.start: script: {named}"
        assert err("ls", stdout=987_654) == "process.start: ls: Bad file descriptor (9)"


@pytest.mark.parametrize("where", ["process.PIPE, 1", "process.PIPE, stderr=process.STDOUT"])
def test_a_descriptor_that_is_closed(where: str) -> None:
    """No pipe of the child's own may get its number."""
    code = f"import os, sys; from silly import process; os.close(1); sys.exit(process.start(['true'], {where})[1])"
    done, _ = process.run([sys.executable, "-c", code], timeout=WITHIN)
    assert done == (1, b"", b"process.start: true: Bad file descriptor (9)\n")


def test_no_descriptors_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """That none of ours is left open, each test's end says."""
    pipe = os.pipe
    made: list[tuple[int, int]] = []

    def few() -> tuple[int, int]:
        if len(made) == 2:
            raise OSError(24, "Too many open files")
        made.append(pipe())
        return made[-1]

    monkeypatch.setattr(os, "pipe", few)
    assert process.start(["ls"], PIPE, PIPE, PIPE) == (None, f"process.start: ls: {errno.MFILE}")


@pytest.mark.parametrize(
    ("registered", "options"), [(2, {"pty": True}), (4, {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE})], ids=["pty", "pipes"]
)
def test_a_loop_that_takes_no_more_descriptors(monkeypatch: pytest.MonkeyPatch, registered: int, options: Any) -> None:
    """As by the limit of epoll (max_user_watches). No child is left, and no descriptor: see the test before."""
    register = loop.Loop.register
    left = 0
    pids: list[int] = []

    class Started(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            pids.append(self.pid)

    def full(self: loop.Loop, fd: int, *args: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        register(self, fd, *args)

    monkeypatch.setattr(loop.Loop, "register", full)
    monkeypatch.setattr(process, "Popen", Started)
    for most in range(registered):
        left = most
        child, err = process.start(["sleep", "100"], **options)
        assert child is None
        assert "No space left on device" in str(err)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    ("ls -l", {}, "no shell is used"),
    (b"ls", {}, "no shell is used"),
    (7, {}, "a list of the program and its arguments, not int"),
    ([], {}, "this one is empty"),
    (["ls", 7], {}, "an argument is str, bytes or a path, not int"),
    (["ls", "a\0b"], {}, "an argument can't hold a zero byte"),
    (["ls", "\ud800"], {}, "an argument can't be encoded"),
    (["ls"], {"cwd": 7}, "cwd is str, bytes or a path"),
    (["ls"], {"env": []}, "env is a dict, not list"),
    (["ls"], {"env": {"A": 7}}, r"env\['A'\] is str, bytes or a path, not int"),
    (["ls"], {"env": {"A=B": "x"}}, "no variable can be named 'A=B'"),
    (["ls"], {"stdin": "text"}, "stdin is None, PIPE, DEVNULL, a descriptor or an open file, not str"),
    (["ls"], {"stdin": True}, "not bool"),
    (["ls"], {"stdout": STDOUT}, "STDOUT is for stderr"),
    (["ls"], {"stderr": -7}, "-7 is no descriptor"),
    (["ls"], {"stdin": 2**31}, "is no descriptor"),
    (["ls"], {"pty": True, "stdout": PIPE}, "leave them out"),
    (["ls"], {"pty": True, "size": 80}, "size is a pair"),
    (["ls"], {"pty": True, "size": (0, 80)}, "size: rows is an int from 1 to 65535, not 0"),
    (["ls"], {"limits": 7}, "Limits"),
]


@pytest.mark.parametrize(("args", "options", "text"), WRONG, ids=[text for _, _, text in WRONG])
def test_wrong_arguments(args: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        process.start(args, **options)


def test_the_pair_explains_itself() -> None:
    pair: Any = process.start(["true"])
    with pytest.raises(AttributeError, match=r"child, err = process\.start\(…\)"):
        pair.wait()
    check(pair).wait(WITHIN)


# ---- run -----------------------------------------------------------------------------


def test_a_program_that_is_called_like_a_function(tmp_path: Path) -> None:
    assert process.run(["sort"], "b\na\n") == ((0, b"a\nb\n", b""), None)
    script = "cat; echo err >&2; echo $A; pwd; exit 3"
    done, _ = process.run(["sh", "-c", script], b"in\n", cwd=tmp_path, env={"A": "b", "PATH": os.environ["PATH"]})
    assert done == process.Finished(3, f"in\nb\n{tmp_path}\n".encode(), b"err\n")
    assert process.run(["cat"]) == ((0, b"", b""), None)  # its stdin is empty
    assert process.run(["sh", "-c", "kill -9 $$"]) == ((-9, b"", b""), None)
    assert process.run(["nosuch"])[1] == "process.run: nosuch: No such file or directory (2): there is no such program in PATH"
    with pytest.raises(TypeError, match="data to send"):
        process.run(["cat"], 7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^process\.run needs a list"):
        process.run("cat")
    with pytest.raises(ValueError, match=r"^process\.run: cwd can't hold a zero byte"):
        process.run(["cat"], cwd="\0")


def test_run_with_more_than_any_pipe_holds() -> None:
    data = os.urandom(100_000) * 30
    code = "import sys; d = sys.stdin.buffer.read(); sys.stderr.buffer.write(d); sys.stdout.buffer.write(d)"
    done, err = process.run([sys.executable, "-S", "-c", code], data, WITHIN)
    assert err is None
    assert done == (0, data, data)
    assert process.run(["true"], data) == ((0, b"", b""), None)  # it reads nothing of that
    assert process.run(["echo"], most=1) == ((0, b"\n", b""), None)
    none, err = process.run(["yes"], most=100_000)
    assert none is None
    assert re.fullmatch(r"process\.run: stdout of yes \(\d+\): more than 100000 bytes", str(err))


def test_run_ends_in_time_and_kills() -> None:
    turns = scheduler.loop.turns
    assert process.run(["sleep", "100"], timeout=20) == (None, "process.run: the time-out of 20 ms ran out")
    closed = ["sh", "-c", "exec sleep 100 >&- 2>&-"]
    assert process.run(closed, timeout=50) == (None, "process.run: the time-out of 50 ms ran out")
    with time.deadline(20):
        assert process.run(["sleep", "100"]) == (None, "process.run: the deadline of 20 ms ran out")
    running = Job(lambda: process.run(["sleep", "100"])).blocked()
    running.task.cancel()
    with pytest.raises(scheduler.Cancelled):
        running.result()
    assert scheduler.loop.turns > turns


def test_fifty_at_once() -> None:
    with task.group() as group:
        jobs = [group.fork(process.run, ["cat"], f"{n}" * 1000) for n in range(50)]
    assert [job.join()[0][0].stdout for job in jobs] == [f"{n}".encode() * 1000 for n in range(50)]
