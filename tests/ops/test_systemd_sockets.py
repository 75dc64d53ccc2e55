"""``listen("systemd:web")``: sockets that systemd has passed."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from silly import check, errno
from silly._core import scheduler
from silly.net import _passed, http, tcp, tls, udp
from silly.ops import systemd

from ..children import LIMIT, Child, in_thread
from ..net import authorities
from ..net.support import until
from ..net.tls_support import python_client, python_context

WITHIN = 10_000
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
Pass = Callable[..., list[int]]


def greet(conn: Any) -> None:
    with conn:
        conn.write(f"hello {conn.remoteaddr}\n")


def greeted(addr: str) -> bytes:
    with check(tcp.connect(addr)) as conn:
        return conn.read("\n", WITHIN)[0] or b""


def listening(*addrs: str | tuple[str, int]) -> list[socket.socket]:
    """Sockets that listen at these paths and places."""
    socks = []
    for addr in addrs:
        if isinstance(addr, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(addr)
            sock.listen()
        else:
            sock = socket.create_server(addr)
        socks.append(sock)
    return socks


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pass]:
    """Passes sockets to this process as systemd does, though from another number on. Returns their numbers."""
    numbers: list[int] = []

    def give(socks: list[socket.socket], names: str | None, **changes: str | None) -> list[int]:
        # A free range of numbers: others of this process are low.
        first = 200
        for at, sock in enumerate(socks):
            number = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, first + at)
            assert number == first + at
            numbers.append(number)
            sock.close()
        monkeypatch.setattr(_passed, "FIRST", first)
        monkeypatch.setattr(_passed, "_looked", None)
        values = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(socks)), "LISTEN_FDNAMES": names, **changes}
        for name, value in values.items():
            if value is not None:
                monkeypatch.setenv(name, value)
        return numbers

    yield give
    for number in numbers:
        with suppress(OSError):  # its listener has closed it
            os.close(number)


# ---- what it takes ---------------------------------------------------------------------------------------------------


def test_all_sockets_of_one_name(passes: Pass, tmp_path: Path) -> None:
    """IPv4 and Unix in one unit have one name, unless it says otherwise."""
    path = str(tmp_path / "s")
    socks = listening(("127.0.0.1", 0), path, ("127.0.0.1", 0), ("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in socks]
    numbers = passes(socks, "web:web:admin:web")
    for number in numbers:
        os.set_inheritable(number, True)
    with check(tcp.listen("systemd:web", greet)) as listener:
        assert not any(os.get_inheritable(number) for number in numbers), "those of other names too"
        assert not [name for name in VARIABLES if name in os.environ]
        assert listener.addrs == (f"127.0.0.1:{ports[0]}", f"unix:{path}", f"127.0.0.1:{ports[3]}")
        assert (listener.addr, listener.port) == (f"127.0.0.1:{ports[0]}", ports[0])
        for addr in listener.addrs:
            line = greeted(addr)
            assert line == f"hello {addr}\n".encode() or (addr.startswith("127.") and line.startswith(b"hello 127.0.0.1:"))
        assert [each.name for each in _passed.left_over()] == ["admin"]
        with check(tcp.listen("systemd:admin", greet)) as admin:
            assert admin.port == ports[2]
            assert _passed.left_over() == []
    assert os.path.exists(path), "the file is systemd's"


def test_a_unix_socket_comes_first(passes: Pass, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    socks = listening(path, ("127.0.0.1", 0))
    port = socks[1].getsockname()[1]
    passes(socks, "web:web")
    with check(http.listen("systemd:web", lambda stream: stream.answer(200, "hello"))) as server, http.newclient() as web:
        assert (server.addr, server.port) == (f"unix:{path}", port)
        assert check(web.get(f"http://127.0.0.1:{port}/")).text == "hello\n"


def test_tls(passes: Pass) -> None:
    def echo(conn: Any) -> None:
        with conn:
            conn.write(conn.read("\n", WITHIN)[0] or b"")

    passes(listening(("127.0.0.1", 0)), "web")
    with check(tls.listen("systemd:web", [authorities.server().entry], echo)) as listener:
        assert in_thread(python_client, listener.port, python_context())["answer"] == b"hello\n"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_udp(passes: Pass, family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a stream socket of the same name, as with ListenStream= and ListenDatagram= in one unit."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.bind(("127.0.0.1" if family == socket.AF_INET else "::", 0))
    except OSError:
        sock.close()
        pytest.skip("THIS MACHINE HAS NO IPv6")
    passes([*listening(("127.0.0.1", 0)), sock], "dns:dns")
    receives: list[None] = []
    monkeypatch.setattr(scheduler, "listens", lambda: receives.append(None))
    with check(udp.bind("systemd:dns")) as server, check(udp.connect(f"127.0.0.1:{server.port}")) as client:
        client.sendto("hello")
        data, addr = server.recvfrom(WITHIN)
        assert data == b"hello"
        assert addr.startswith("127.0.0.1:")
        assert server.sendto(data, addr) == (True, None)
        assert client.recvfrom(WITHIN)[0] == b"hello"
        assert len(receives) == 1, "the program may be ready"
        assert udp.bind("systemd:dns")[1] == f"descriptor 201 is in use in this process: {server._socket}"


# ---- what it refuses -------------------------------------------------------------------------------------------------


def refused(addr: str, why: str, logs: Any) -> None:
    logs.expect(f"ERROR tcp.listen {addr}: .*")
    assert tcp.listen(addr, greet) == (None, why)


def test_names_that_are_not_there(passes: Pass, logs: Any) -> None:
    passes(listening(("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.1", 0)), "web:admin:web")
    names = "its names are 'web', 'admin' (FileDescriptorName= of the socket unit)"
    refused("systemd:nix", f"systemd has passed no socket 'nix'; {names}", logs)
    refused("systemd:", f"systemd has passed sockets, and this names none; {names}", logs)
    assert udp.bind("systemd:web")[1] == "descriptor 200 is a stream socket of family AF_INET, not one for UDP"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"LISTEN_FDS": None}, "no sockets to this process: LISTEN_FDS is not set. Is it started by a socket unit?"),
        ({"LISTEN_PID": "1"}, f"its sockets to process '1', and this one is {os.getpid()} (LISTEN_PID). Start Python without"),
        ({"LISTEN_FDS": "0"}, "no sockets to this process: LISTEN_FDS is '0'"),
        ({"LISTEN_FDS": "-1"}, "no sockets to this process: LISTEN_FDS is '-1'"),
        ({"LISTEN_FDS": "9" * 9}, "no sockets to this process: LISTEN_FDS is '999999999'"),
        ({"LISTEN_FDNAMES": "web:more"}, "LISTEN_FDS is 1, but LISTEN_FDNAMES has 2 names: 'web:more'"),
    ],
    ids=["none", "for another process", "0", "negative", "too many", "names"],
)
def test_what_is_not_for_us(passes: Pass, changes: dict[str, str | None], why: str, logs: Any) -> None:
    """A second look says the same, and a child of the program finds nothing."""
    (number,) = passes(listening(("127.0.0.1", 0)), "web", **changes)
    os.set_inheritable(number, True)
    logs.expect("ERROR tcp.listen systemd:web: ")
    for _ in range(2):
        said = tcp.listen("systemd:web", greet)[1]
        assert said is not None
        assert why in said
        assert not [name for name in VARIABLES if name in os.environ]
    assert os.get_inheritable(number), "it is not ours"
    assert _passed.left_over() == []


def test_a_socket_without_a_name(passes: Pass) -> None:
    passes(listening(("127.0.0.1", 0)), None)
    with check(tcp.listen("systemd:unknown", greet)) as listener:
        assert greeted(listener.addr).startswith(b"hello")


def test_a_socket_that_was_closed(passes: Pass, logs: Any) -> None:
    """Another one has its number meanwhile, and stays as it is."""
    (number,) = passes(listening(("127.0.0.1", 0)), "web")
    check(tcp.listen("systemd:web", greet)).close()
    with socket.create_server(("127.0.0.1", 0)) as other:
        os.dup2(other.fileno(), number)
        why = "the sockets 'web' of systemd were closed in this process, and come with its next start"
        refused("systemd:web", why, logs)


def test_one_that_is_no_listener(passes: Pass, logs: Any) -> None:
    """Then none of its name is taken, and all stay open."""
    socks = listening(("127.0.0.1", 0))
    first, second = passes([*socks, socket.socket()], "web:web")
    refused("systemd:web", f"descriptor {second} is a socket that does not listen", logs)
    os.close(second)  # raises if it is closed
    with check(tcp.listen("systemd:web", greet)) as listener:
        why = f"descriptor {first} is in use in this process: <listener {listener.addr}>"
        refused("systemd:web", why, logs)


@pytest.mark.parametrize("setting", [{"backlog": 5}, {"mode": 0o600}, {"owner": "root"}])
def test_settings_that_the_unit_has(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="who made systemd:web has set its backlog, mode and owner"):
        tcp.listen("systemd:web", greet, **setting)


@pytest.mark.parametrize("setting", [{"share": True}, {"broadcast": True}])
def test_settings_of_udp_that_the_unit_has(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the unit of 'systemd:dns' sets broadcast and share"):
        udp.bind("systemd:dns", **setting)


def test_a_warning_of_what_nothing_listens_on(passes: Pass, logs: Any) -> None:
    """It takes nothing from a program that will look later."""
    passes(listening(("127.0.0.1", 0), ("127.0.0.1", 0)), "web:admin")
    logs.expect(r"^WARNING systemd has passed sockets that nothing here listens on, .*: 'admin' \(descriptor 201\)$")
    with check(tcp.listen("fd:200", greet)):
        systemd._warn_unused(None)
        assert "LISTEN_FDS" in os.environ


# ---- a process of its own --------------------------------------------------------------------------------------------

APP = """\
import os, sys
import silly
from silly.net import http
from silly import process
def handler(stream):
    stream.answer(200, f"{os.getpid()} {stream.path}")
def main():
    server = silly.check(http.listen("systemd:web", handler))
    out, err = process.run([sys.executable, "-c", "import os; print(sum(k.startswith('LISTEN_') for k in os.environ))"])
    print(server.addr, os.getpid(), out.stdout.decode().strip(), flush=True)
silly.run(main) if "plain" in sys.argv else main()
"""


@pytest.mark.parametrize("kind", ["launcher", "plain"])
def test_by_systemd_socket_activate(kind: str, tmp_path: Path) -> None:
    """A real one passes the socket, and becomes the program with the first connection, which waits meanwhile."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("NO SYSTEMD: systemd-socket-activate is not installed (Debian: apt install systemd)")
    script = tmp_path / "app.py"
    script.write_text(APP)
    path = tmp_path / "s"
    argv = [sys.executable, *(["-m", "silly", str(script)] if kind == "launcher" else [str(script), "plain"])]
    argv = [activate, f"--listen={path}", "--fdname=web", *argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            until(path.exists, LIMIT)
            conn = check(connected(path))
            with conn:
                conn.write("GET /early HTTP/1.1\r\nhost: x\r\n\r\n")
                addr, pid, variables = in_thread(process.stdout.readline).split()
                assert (addr, int(pid), variables) == (f"unix:{path}", process.pid, "0")
                assert conn.read(f"{pid} /early\n", WITHIN)[1] is None
            process.send_signal(signal.SIGTERM)
            errors = in_thread(process.communicate)[1]
            assert process.returncode == 0, errors
            assert "listening on" in errors
            assert path.exists()
        finally:
            process.kill()


def connected(path: Path) -> tuple[Any, str | None]:
    """A connection to a Unix socket whose file is there: it may not listen yet."""
    tries: list[tuple[Any, str | None]] = []

    def attempt() -> bool:
        tries[:] = [tcp.connect(f"unix:{path}")]
        return tries[0][1] != errno.CONNREFUSED

    until(attempt, LIMIT)
    return tries[0]


START = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execv(sys.executable, [sys.executable, "-m", "silly", sys.argv[2]])
"""


def test_the_queue_survives_a_restart(tmp_path: Path) -> None:
    """Whoever connects while no program is there is answered by the next one: a program's end leaves the queue alone."""
    script = tmp_path / "app.py"
    script.write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        addr = f"127.0.0.1:{sock.getsockname()[1]}"
        waiting: list[Any] = []
        pids: set[int] = set()
        for _ in range(2):
            high = os.dup2(sock.fileno(), 100)
            try:
                child = subprocess.Popen(
                    [sys.executable, "-c", START, str(high), str(script)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    pass_fds=[high],
                )
            finally:
                os.close(high)
            with child:
                assert child.stdout is not None
                try:
                    pids.add(int(in_thread(child.stdout.readline).split()[1]))
                    for conn in waiting:
                        with conn:
                            assert conn.read(f"{child.pid} /waits\n", WITHIN)[1] is None
                    # It is stopped, so that these connections are in the queue when it ends.
                    child.send_signal(signal.SIGSTOP)
                    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
                    child.send_signal(signal.SIGTERM)
                    waiting = [check(tcp.connect(addr)) for _ in range(3)]
                    for conn in waiting:
                        conn.write("GET /waits HTTP/1.1\r\nhost: x\r\n\r\n")
                        until(lambda conn=conn: not conn.unsentbytes())
                    child.send_signal(signal.SIGCONT)
                    errors = in_thread(child.communicate)[1]
                    assert child.returncode == 0, errors
                finally:
                    child.kill()
        assert len(pids) == 2
        for conn in waiting:
            conn.close()


def test_a_process_that_was_passed_nothing(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text("from silly.net import tcp\nprint(tcp.listen('systemd:web', print)[1])\n")
    with Child(str(script)) as child:
        assert child.line().startswith("systemd has passed no sockets to this process: LISTEN_FDS is not set.")
        assert child.wait() == 0
