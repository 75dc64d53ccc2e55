"""``silly.process`` with ``pty=True``: the child has a terminal."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

from silly import check, errno, process, time
from silly._core import scheduler

from .net.support import Job, until

WITHIN = 10_000


def terminal(*args: str, **options: Any) -> process.Process:
    return check(process.start(args, pty=True, **options))


def everything(child: process.Process) -> bytes:
    got = b""
    while (piece := child.stdout.read(1, WITHIN)[0]) is not None:
        got += piece
    assert child.stdout.read(1) == (None, errno.EOF)
    return got


def test_the_three_are_one_terminal_of_a_session_of_its_own() -> None:
    code = (
        "import os, sys; own = os.getpid(); tty = os.open('/dev/tty', os.O_RDWR)\n"
        "print([os.isatty(n) for n in (0, 1, 2)], os.getsid(0) == own, os.tcgetpgrp(tty) == os.getpgrp() == own)\n"
        "print(os.get_terminal_size(0), sorted(os.listdir('/proc/self/fd')), sys.argv[1:])"
    )
    with terminal(sys.executable, "-S", "-c", code, "a b", "$x", "", size=(25, 132)) as child:
        assert child.stdin is child.stdout
        with pytest.raises(RuntimeError, match=r"child\.stderr: .* what comes there is in child\.stdout"):
            child.stderr.close()
        assert child.stdout.read("\n", WITHIN) == (b"[True, True, True] True True\r\n", None)
        size = b"os.terminal_size(columns=132, lines=25)"
        assert everything(child) == size + b" ['0', '1', '2', '3', '4'] ['a b', '$x', '']\r\n"
        assert child.wait(WITHIN) == (0, None)
        assert not child.stdin.isalive()
        assert child.stdin.write("x") == (False, errno.PIPE)
        child.stdin.close()
        assert child.resize(1, 1) == (False, errno.CLOSED)


def test_echo_and_the_key_that_ends_the_input() -> None:
    with terminal("cat") as child:
        child.stdin.write("hello\n")
        assert child.stdout.read("\n", WITHIN) == (b"hello\r\n", None)  # the terminal's echo
        assert child.stdout.read("\n", WITHIN) == (b"hello\r\n", None)
        with pytest.raises(RuntimeError, match=r"^terminal of cat \(\d+\): .*'\\x04' is the key that ends the input"):
            child.stdin.closewrite()
        child.stdin.write("\x04")
        assert everything(child) == b""
        assert child.wait(WITHIN) == (0, None)


def test_the_key_that_interrupts() -> None:
    with terminal("sh", "-c", "echo on; exec sleep 100") as child:
        assert child.stdout.read("\n", WITHIN) == (b"on\r\n", None)
        child.stdin.write("\x03")
        assert child.wait(WITHIN) == (-signal.SIGINT, None)


def test_a_new_size_reaches_the_child() -> None:
    code = (
        "import os, signal\nsignal.signal(signal.SIGWINCH, lambda *_: print(os.get_terminal_size(), flush=True))\n"
        "print('on', flush=True)\nwhile True: signal.pause()"
    )
    with terminal(sys.executable, "-S", "-c", code) as child:
        assert child.stdout.read("\n", WITHIN) == (b"on\r\n", None)
        assert child.resize(50, 100) == (True, None)
        assert child.stdout.read("\n", WITHIN) == (b"os.terminal_size(columns=100, lines=50)\r\n", None)
        for rows, columns in ((0, 1), (1, 65536), (1.5, 1), (True, 1)):
            with pytest.raises(ValueError, match=r"child\.resize: (rows|columns) is an int from 1 to 65535"):
                child.resize(rows, columns)  # type: ignore[arg-type]


def test_much_output_and_a_close_hangs_up() -> None:
    with terminal("sh", "-c", "stty -opost; seq 100000; read x") as child:
        until(lambda: child.stdout._stream.paused)
        for number in range(1, 100_001):
            assert child.stdout.read("\n", WITHIN) == (b"%d\n" % number, None)
        child.stdout.close()
        assert child.wait(WITHIN) == (-signal.SIGHUP, None)


def test_input_that_is_not_read_waits() -> None:
    """Without a hang, and without a loop that spins."""
    with terminal("sh", "-c", "stty raw -echo; echo on; exec sleep 100") as child:
        assert child.stdout.read("on", WITHIN)[0] is not None
        child.stdin.write(b"x" * 100_000)
        until(lambda: child.stdin._stream.blocked)
        turns = scheduler.loop.turns
        time.sleep(50)
        assert scheduler.loop.turns < turns + 20
        assert child.stdin.unsentbytes() > 0
    assert child.status == -9


@pytest.mark.parametrize("closes", [False, True])
def test_the_program_ends_and_has_not_read_its_input(closes: bool) -> None:
    """What waits is dropped, and a closed terminal's descriptor is not left."""
    child = terminal("sh", "-c", "stty raw -echo; echo on; exec sleep 100")
    assert child.stdout.read("on", WITHIN)[0] is not None
    child.stdin.write(b"x" * 100_000)
    stream = child.stdin._stream
    until(lambda: stream.blocked)
    if closes:
        child.stdin.close()
    child.kill()
    assert child.wait(WITHIN) == (-9, None)
    until(lambda: child.stdin.unsentbytes() == 0)
    assert (stream.sock is None) is closes
    assert child.stdin.write("x") == (False, errno.CLOSED if closes else errno.PIPE)


def test_the_end_while_nobody_reads_does_not_spin() -> None:
    with terminal("sh", "-c", "stty -opost; seq 100000") as child:
        until(lambda: child.stdout._stream.paused)
        child.kill()
        child.wait(WITHIN)
        turns = scheduler.loop.turns
        time.sleep(50)
        assert scheduler.loop.turns < turns + 20
        assert everything(child).startswith(b"1\n2\n")


def test_the_end_while_nobody_reads_and_a_task_writes() -> None:
    """The system says neither that the terminal takes no more, nor that it is broken: only that it has hung up."""
    with terminal("sh", "-c", "stty -opost; seq 100000") as child:
        until(lambda: child.stdout._stream.paused)
        writing = Job(lambda: child.stdin.write(b"x\n" * 2_000_000)).blocked()
        child.kill()
        assert writing.result() == (False, errno.PIPE)
        turns = scheduler.loop.turns
        time.sleep(50)
        assert scheduler.loop.turns < turns + 20
        assert everything(child).startswith(b"1\n2\n")


def test_the_program_is_looked_for_as_without_a_terminal(tmp_path: Any) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "tool").chmod(0o755)
    for args, options in (
        (["./tool"], {"cwd": tmp_path}),
        (["tool"], {"env": {"PATH": f"/nosuch:{tmp_path}:{os.defpath}"}}),
        ([tmp_path / "tool"], {}),
    ):
        with terminal(*args, **options) as child:  # type: ignore[arg-type]
            assert everything(child) == b"here\r\n"
