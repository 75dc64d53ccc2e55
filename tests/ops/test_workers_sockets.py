"""``--workers N``: the sockets that the master lends, and the link over which it does."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from silly.net import tcp
from silly.ops import _link

from ..children import Child
from .crew import Crew

UNIX = """\
import os
from silly import env
from silly.net import tcp

def handle(conn):
    with conn:
        conn.read("\\n")
        conn.write(f"{env.get('worker')} {os.getpid()}\\n")

listener, err = tcp.listen("unix:s", handle, mode=0o600)
os.write(1, f"unix:{os.path.abspath('s')}\\n".encode() if listener.addr == "unix:s" else err.encode())
"""


def test_a_unix_socket_is_one_for_all(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "s"))
    with Crew(tmp_path, 2, app=UNIX).up() as crew:
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        for slot in (1, 2):
            os.kill(crew.pids()[slot][0], signal.SIGKILL)
            assert crew.ask()
            crew.says("is ready", 2 + slot)
    assert not (tmp_path / "s").exists()


IN_TWO_FOLDERS = """\
import os
from silly import env
from silly.net import tcp
errors = []
for folder in ".", "shared", f"own{env.get('worker')}":
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    errors.append(tcp.listen("unix:s", print)[1])
os.write(1, f"{errors} {os.path.exists('s')}\\n".encode())
"""


def test_a_path_is_one_of_the_workers_own_folder(tmp_path: Path) -> None:
    with Crew(tmp_path, 2, app=IN_TWO_FOLDERS) as crew:
        assert {crew.line(), crew.line()} == {"[None, None, None] True"}
    assert not list(tmp_path.rglob("s"))


INHERITS = """\
import os, socket, sys
sock = socket.create_server(("127.0.0.1", 0))
os.dup2(sock.fileno(), 9)
os.execv(sys.executable, [sys.executable, "-m", "silly", "--workers", "2", "app.py"])
"""
INHERITED = """\
import os
from silly.net import tcp
listener, err = tcp.listen("fd:9", lambda conn: conn.close(b"served"))
second = tcp.listen("fd:9", print)[1]
missing = tcp.listen("fd:99", print)[1]
os.write(1, f"{err}; {second}; {missing}; {listener.addr}\\n".encode())
"""


def test_an_inherited_socket_is_the_masters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").write_text(INHERITED)
    monkeypatch.chdir(tmp_path)
    with Child("-c", INHERITS) as child:
        (words, addr), other = child.line().rsplit("; ", 1), child.line()
        assert words == "None; fd:9 is in use in this process; descriptor 99 is not open"
        assert other == f"{words}; {addr}"
        conn, err = tcp.connect(addr)
        assert conn is not None, err
        conn.close()
        assert child.stop() == 0


IN_USE = """\
import os, sys
from silly.net import tcp
first = tcp.listen(sys.argv[1], print)[1]
listener, _ = tcp.listen("127.0.0.1:0", print)
same = tcp.listen(listener.addr, print)[1]
every = tcp.listen(f":{listener.port}", print)[1]
listener.close()
again, err = tcp.listen("127.0.0.1:0", print)
other, _ = tcp.listen("127.0.0.1:0", print)
os.write(1, f"{first}; {same}; {every}; {err}; {again.port != other.port}\\n".encode())
"""


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_an_address_in_use_is_the_same_error_as_in_one_process(tmp_path: Path, options: tuple[str, ...]) -> None:
    """That of another program, which shares it among its own processes; that of this one; and one that takes it in."""
    (tmp_path / "app.py").write_text(IN_USE)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        addr = "{}:{}".format(*other.getsockname())
        with Child("-m", "silly", *options, str(tmp_path / "app.py"), addr) as child:
            used = "Address already in use (98)"
            for _ in range(2 if options else 1):
                assert child.line() == f"{used}; {used}; {used}; None; True"
            assert child.stop() == 0


def test_what_no_worker_listens_on_any_more_is_closed(tmp_path: Path) -> None:
    """Else its connections would wait for ever."""
    with Crew(tmp_path, 2).up() as crew:
        crew.ask("stop")
        crew.ask("stop")
        while (conn := tcp.connect(crew.addr, timeout=5000)[0]) is not None:
            conn.close()


# ---- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_with_descriptors() -> None:
    ours, theirs = _link.new_pair()
    with ours, theirs, open(os.devnull) as file:
        with pytest.raises(BlockingIOError):
            _link.receive(ours)
        assert _link.send(theirs, "lent", [file.fileno()], key="\udc80")
        message = _link.receive(ours)
        assert message is not None
        assert message[:2] == ("lent", {"key": "\udc80"})
        (fd,) = message.fds
        assert message.whole
        assert os.path.samestat(os.fstat(fd), os.fstat(file.fileno()))
        assert not os.get_inheritable(fd)
        _link.close(message.fds)
        theirs.close()
        assert _link.receive(ours) is None
        assert not _link.send(ours, "notice")


@pytest.mark.parametrize("data", [b"x", b"[1]", b"{}", b'"op"', b"\xff", b"{"])
def test_a_message_that_is_none(data: bytes) -> None:
    ours, theirs = _link.new_pair()
    with ours, theirs:
        socket.send_fds(theirs, [data], [theirs.fileno()])
        with pytest.raises(ValueError, match="a message that is none"):
            _link.receive(ours)


def test_a_link_that_nobody_reads_is_no_place_to_wait() -> None:
    ours, theirs = _link.new_pair()
    with ours, theirs:
        sent = 0
        while _link.send(ours, "release", key="k", slot=1):
            sent += 1
        assert sent > 10
