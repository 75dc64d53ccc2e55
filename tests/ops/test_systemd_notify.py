"""sd_notify: what systemd is told of a program, and that it kills one whose loop is held."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from time import CLOCK_MONOTONIC, clock_gettime
from typing import Any

import pytest

from silly import check
from silly.net import tcp
from silly.ops import systemd

from ..children import Child, in_thread
from ..net.support import until

WITHIN = 30
"""Seconds."""

APP = """\
import os, sys
import silly
from silly.net import tcp
def hold(conn):
    print("held", flush=True)
    os.open(sys.argv[1], os.O_RDONLY)           # a pipe: until somebody opens its other end
    conn.write("over")
    conn.close()
print(*[name for name in os.environ if name.startswith(("NOTIFY", "WATCHDOG"))], "none", flush=True)
print(silly.check(tcp.listen("127.0.0.1:0", hold)).addr, flush=True)
"""


class Supervisor:
    """The socket of systemd. ``abstract``: without a file."""

    def __init__(self, path: Path, abstract: bool = False) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(f"\0{path}" if abstract else str(path))
        self.addr = f"@{path}" if abstract else str(path)

    def get(self) -> str:
        """The next message. Blocks the thread."""
        self.sock.settimeout(WITHIN)
        return self.sock.recv(4096).decode()

    def silent(self, seconds: float) -> None:
        """Drops what has come, and nothing else comes in that time."""
        self.sock.setblocking(False)
        try:
            while self.sock.recv(4096):
                pass
        except BlockingIOError:
            self.sock.settimeout(seconds)
        with pytest.raises(TimeoutError):
            self.sock.recv(4096)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    found = Supervisor(tmp_path / "notify")
    yield found
    found.sock.close()


@pytest.fixture
def told(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """This process tells the supervisor."""
    monkeypatch.setattr(systemd, "_systemd", systemd._Systemd())
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.addr)
    assert systemd.take()
    yield supervisor
    sock = systemd._systemd.sock
    assert sock is not None
    sock.close()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    found = tmp_path / "app.py"
    found.write_text(APP)
    os.mkfifo(tmp_path / "fifo")
    return found


# ---- a process of its own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_and_stopping(abstract: bool, tmp_path: Path, script: Path) -> None:
    supervisor = Supervisor(tmp_path / "notify-of-its-own", abstract)
    env = {"NOTIFY_SOCKET": supervisor.addr, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}
    with supervisor.sock, Child("-m", "silly", str(script), str(tmp_path / "fifo"), env=env) as child:
        assert child.line() == "none", "its children would tell systemd something else"
        child.line()
        assert in_thread(supervisor.get) == "READY=1\nSTATUS=serving"
        assert child.stop() == 0
        # No sign of life between them: the watchdog is for process 1. 3 s, and MARGIN.
        assert in_thread(supervisor.get) == "STOPPING=1\nEXTEND_TIMEOUT_USEC=5000000\nSTATUS=ending, within 2 s"
        assert child.errors() == ""


def test_a_held_loop_gives_no_sign_of_life(supervisor: Supervisor, tmp_path: Path, script: Path) -> None:
    """So systemd kills the process. A loop that only waits does."""
    fifo = str(tmp_path / "fifo")
    env = {"NOTIFY_SOCKET": supervisor.addr, "WATCHDOG_USEC": "100000"}
    with Child("-m", "silly", str(script), fifo, env=env) as child:
        child.line()
        addr = child.line()
        messages = {in_thread(supervisor.get) for _ in range(4)}
        assert messages == {"WATCHDOG=1", "READY=1\nSTATUS=serving"}
        with check(tcp.connect(addr)) as conn:
            assert child.line() == "held"
            in_thread(supervisor.silent, 0.3)
            os.close(in_thread(os.open, fifo, os.O_WRONLY))
            assert in_thread(supervisor.get) == "WATCHDOG=1"
            assert conn.read(4, WITHIN * 1000) == (b"over", None)


def test_the_end_of_a_script_that_fails(supervisor: Supervisor, tmp_path: Path) -> None:
    """It was never ready."""
    script = tmp_path / "bad.py"
    script.write_text("raise SystemExit(3)\n")
    with Child("-m", "silly", str(script), env={"NOTIFY_SOCKET": supervisor.addr}) as child:
        assert child.wait() == 3
    assert in_thread(supervisor.get).startswith("STOPPING=1\n")


# ---- messages --------------------------------------------------------------------------------------------------------


def test_a_reload(told: Supervisor) -> None:
    systemd.reloading()
    found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=reloading", told.get())
    assert found
    assert 0 <= clock_gettime(CLOCK_MONOTONIC) - int(found[1]) / 1e6 < WITHIN
    systemd.ready("serving with 4 workers")
    assert told.get() == "READY=1\nSTATUS=serving with 4 workers"
    assert "NOTIFY_SOCKET" not in os.environ


def test_messages_for_which_there_is_no_room_come_later(told: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is lost, nothing waits, and signs of life don't pile up."""
    monkeypatch.setattr(systemd, "AGAIN", 0.001)
    count = 0
    while not systemd._systemd.unsent:
        systemd.say(f"STATUS={count}")
        count += 1
        assert count < 100_000
    systemd.ready()
    monkeypatch.setattr(systemd._systemd, "interval", 3600.0)
    assert systemd.alive(50.0) == 3650.0
    got: list[str] = []

    def all_came() -> bool:
        told.sock.setblocking(False)
        try:
            while True:
                got.append(told.sock.recv(4096).decode())
        except BlockingIOError:
            return got[-1].startswith("READY=1")

    until(all_came)
    assert got == [*(f"STATUS={number}" for number in range(count)), "READY=1\nSTATUS=serving"]
    until(lambda: not systemd._systemd.waits)


def test_signs_of_life_without_the_loop(told: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a master sends them: each of its turns asks when the next is due."""
    assert systemd.alive(50.0) is None
    monkeypatch.setattr(systemd._systemd, "interval", 2.0)
    assert [systemd.alive(now) for now in (50.0, 51.9, 52.5)] == [52.0, 52.0, 54.5]
    systemd.ready()
    assert [told.get() for _ in range(3)] == ["WATCHDOG=1", "WATCHDOG=1", "READY=1\nSTATUS=serving"]


def test_a_supervisor_that_is_gone(told: Supervisor, logs: Any) -> None:
    logs.expect(r"WARNING systemd is not told 'READY=1\\nSTATUS=serving': No such file or directory")
    os.unlink(told.addr)
    systemd.ready()
    assert not systemd._systemd.unsent


@pytest.mark.parametrize("addr", ["vsock:2:1234", "notify"])
def test_addresses_of_another_kind(addr: str, monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    monkeypatch.setattr(systemd, "_systemd", systemd._Systemd())
    logs.expect(f"WARNING systemd is told nothing: NOTIFY_SOCKET is '{addr}', and not '/path' or '@name'")
    monkeypatch.setenv("NOTIFY_SOCKET", addr)
    assert not systemd.take()
    systemd.ready()


def test_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_systemd", systemd._Systemd())
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.take()
    systemd.stopping(0)


@pytest.mark.parametrize("usec", ["0", "-1", "1.5", "x", "9" * 30])
def test_times_of_the_watchdog_that_are_none(
    usec: str, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, logs: Any
) -> None:
    monkeypatch.setattr(systemd, "_systemd", systemd._Systemd())
    logs.expect(f"WARNING systemd gets no signs of life: WATCHDOG_USEC is '{usec}'")
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.addr)
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    assert systemd.take()
    assert systemd._systemd.interval == 0
    systemd._systemd.sock.close()  # type: ignore[union-attr]
