"""Where a listener listens: every address of a name, the rights of a Unix domain socket, and the line that says so."""

from __future__ import annotations

import grp
import logging
import os
import pwd
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import check, errno, logger, time
from silly._core import scheduler
from silly.net import _binding, _listener, http, tcp, tls, websocket
from silly.sync import channel

from ..children import Child
from ..helpers import Raw
from . import authorities
from .http_support import certs, hello
from .support import Job, has_ipv6, turns, until
from .tls_support import echo

V4, V6 = socket.AF_INET, socket.AF_INET6
BOTH = [(V6, ("::1", 0, 0, 0)), (V4, ("127.0.0.1", 0))]
needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="THIS MACHINE HAS NO IPv6 LOOPBACK: two families are not tested")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: what other users may do is not tested")
KINDS = ["tcp", "tls", "http", "https"]


def listen(kind: str, addr: str, **options: Any) -> Any:
    """The pair of a listener that echoes lines, or of a server."""
    if kind == "tcp":
        return tcp.listen(addr, echo, **options)
    if kind == "tls":
        return tls.listen(addr, certs(), echo, **options)
    return http.listen(addr, hello, certs=certs() if kind == "https" else None, **options)


def talk(kind: str, addr: str) -> None:
    """Has the listener answer at ``addr``."""
    ca = authorities.root().pem
    if kind in ("http", "https"):
        conn = check(tls.connect(addr, "localhost", ca=ca) if kind == "https" else tcp.connect(addr))
        client = Raw(conn)
        client.send("GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client.response().body == b"hello /x"
        client.close()
        return
    with check(tls.connect(addr, "localhost", ca=ca) if kind == "tls" else tcp.connect(addr)) as conn:
        conn.write("hello\n")
        assert conn.read("\n", 10_000) == (b"hello\n", None)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user may enter, with a short name."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


# ---- every address of a name ------------------------------------------------------------------------------------------


@needs_ipv6
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_listened_on_at_each_of_its_addresses(kind: str, names: dict[str, Any]) -> None:
    """On Debian ``localhost`` is ``::1`` and ``127.0.0.1``. The second gets the port that the first got."""
    names["both.test"] = BOTH + BOTH  # what is found twice counts once
    with check(listen(kind, "both.test:0")) as listener:
        port = listener.port
        assert listener.addrs == (f"[::1]:{port}", f"127.0.0.1:{port}")
        assert listener.addr == f"[::1]:{port}"
        for addr in listener.addrs:
            talk(kind, addr)
            assert addr in repr(listener)
    for addr in (f"[::1]:{port}", f"127.0.0.1:{port}"):
        assert tcp.connect(addr) == (None, errno.CONNREFUSED)


@needs_ipv6
def test_a_websocket_at_each_address_of_a_name(names: dict[str, Any]) -> None:
    names["both.test"] = BOTH

    def handler(stream: Any) -> None:
        with check(websocket.upgrade(stream)) as sock:
            sock.write(stream.remoteaddr.rpartition(":")[0], "text")

    with check(http.listen("both.test:0", handler)) as server:
        for host in ("[::1]", "127.0.0.1"):
            with check(websocket.connect(f"ws://{host}:{server.port}/")) as sock:
                assert sock.read(10_000) == (host, "text")


def test_one_address_is_a_tuple_of_one(tmp_path: Path) -> None:
    with check(tcp.listen("127.0.0.1:0", echo)) as listener:
        assert listener.addrs == (listener.addr,)
    with check(tcp.listen(":0", echo)) as listener:
        assert listener.addrs == (listener.addr,)
    with check(tcp.listen(f"unix:{tmp_path}/s", echo)) as listener:
        assert listener.addrs == (f"unix:{tmp_path}/s",)


@needs_ipv6
@pytest.mark.parametrize(("taken", "binds"), [(2, True), (3, False)])
def test_a_free_port_that_is_taken_at_the_second_address(
    taken: int, binds: bool, names: dict[str, Any], logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried with three ports."""
    names["both.test"] = BOTH
    bind = _binding.bind_inet
    others: list[socket.socket] = []
    ports: list[int] = []

    def taking(family: Any, sockaddr: Any, *more: Any) -> Any:
        sock = bind(family, sockaddr, *more)
        if family == V6:
            ports.append(sock.getsockname()[1])
            if len(ports) <= taken:
                others.append(bind(V4, ("127.0.0.1", ports[-1])))
                others[-1].listen()
        return sock

    monkeypatch.setattr(_binding, "bind_inet", taking)
    if not binds:
        logs.expect(rf"^ERROR tcp\.listen both\.test:0: 127\.0\.0\.1:\d+: Address already in use \({98}\)$")
    listener, err = tcp.listen("both.test:0", echo)
    for other in others:
        other.close()
    assert len(ports) == 3
    if binds:
        assert listener is not None
        with listener:
            assert listener.addrs == (f"[::1]:{ports[-1]}", f"127.0.0.1:{ports[-1]}")
    else:
        assert (listener, err) == (None, errno.ADDRINUSE)


@needs_ipv6
@pytest.mark.parametrize("kind", KINDS)
def test_all_addresses_or_none(kind: str, names: dict[str, Any], logs: Any) -> None:
    """A port that is in use at the second address: the line says where, and the first is free again."""
    with check(tcp.listen("127.0.0.1:0", echo)) as other:
        names["both.test"] = [(family, (host, other.port, *rest)) for family, (host, _, *rest) in BOTH]
        logs.expect(rf"^ERROR {kind.rstrip('s') if kind == 'https' else kind}\.listen .*: {other.addr}: Address already in use")
        assert listen(kind, f"both.test:{other.port}") == (None, errno.ADDRINUSE)
        with check(tcp.listen(f"[::1]:{other.port}", echo)) as listener:
            talk("tcp", listener.addr)


ELSEWHERE = (V4, ("192.0.2.77", 0))
"""An address of no machine."""


@pytest.mark.parametrize("order", [[ELSEWHERE, BOTH[1]], [BOTH[1], ELSEWHERE]])
def test_what_the_machine_lacks_is_left_out_if_something_remains(order: list[Any], names: dict[str, Any], logs: Any) -> None:
    names["some.test"] = order
    lines: list[str] = []
    logs.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")
    level = logger.getlevel()
    logger.setlevel(logger.DEBUG)
    try:
        with check(tcp.listen("some.test:0", echo)) as listener:
            assert listener.addrs == (f"127.0.0.1:{listener.port}",)
            talk("tcp", listener.addr)
    finally:
        logger.setlevel(level)
    assert len(lines) == 2
    assert lines[0].startswith("DEBUG tcp.listen some.test:0: without 192.0.2.77:")
    assert lines[0].endswith(f": {errno.ADDRNOTAVAIL}")


@pytest.mark.parametrize("error", [97, 99, 92])  # EAFNOSUPPORT, EADDRNOTAVAIL, ENOPROTOOPT
def test_a_machine_without_ipv6(error: int, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    names["both.test"] = BOTH
    names["six.test"] = BOTH[:1]
    bind = _binding.bind_inet

    def no_ipv6(family: Any, *args: Any) -> Any:
        if family == V6:
            raise OSError(error, os.strerror(error))
        return bind(family, *args)

    monkeypatch.setattr(_binding, "bind_inet", no_ipv6)
    with check(tcp.listen("both.test:0", echo)) as listener:
        assert listener.addrs == (f"127.0.0.1:{listener.port}",)
        talk("tcp", listener.addr)
    logs.expect(r"^ERROR tcp\.listen six\.test:0: ")
    assert tcp.listen("six.test:0", echo) == (None, errno.from_oserror(OSError(error, "")))


def test_nothing_of_what_the_name_means_is_here(names: dict[str, Any], logs: Any) -> None:
    names["away.test"] = [ELSEWHERE, (V4, ("192.0.2.78", 0))]
    logs.expect(r"^ERROR tcp\.listen away\.test:0: Cannot assign requested address \(99\)$")
    assert tcp.listen("away.test:0", echo) == (None, errno.ADDRNOTAVAIL)


@needs_ipv6
def test_each_address_has_the_backlog(names: dict[str, Any]) -> None:
    names["both.test"] = BOTH
    with check(tcp.listen("both.test:0", echo, backlog=7)) as listener:
        # struct tcp_info of a listening socket: tcpi_sacked is the most that wait.
        infos = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32) for sock in listener._bound.socks]
        assert [int.from_bytes(info[28:32], sys.byteorder) for info in infos] == [7, 7]


@needs_ipv6
def test_a_limit_on_connections_is_for_all_addresses_together(names: dict[str, Any]) -> None:
    names["both.test"] = BOTH
    server = check(http.listen("both.test:0", hello, limits=silly.Limits(connections=1)))
    with server, check(tcp.connect(server.addrs[0])) as first:
        first.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.read("hello /", 10_000)[1] is None
        with check(tcp.connect(server.addrs[1])) as second:
            assert second.read("\r\n", 10_000) == (b"HTTP/1.1 503 Service Unavailable\r\n", None)


@needs_ipv6
def test_without_descriptors_all_addresses_pause_and_one_line_says_so(
    names: dict[str, Any], logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names["both.test"] = BOTH
    monkeypatch.setattr(_listener, "PAUSE", 0.02)
    logs.expect(r"^ERROR listener \[::1\]:\d+: Too many open files: accepting pauses")
    with check(tcp.listen("both.test:0", echo)) as listener:
        before = scheduler.loop.registered()
        listener._pause(OSError(24, "Too many open files"))
        assert scheduler.loop.registered() == before - 2
        for addr in listener.addrs:
            talk("tcp", addr)
    paused = check(tcp.listen("both.test:0", echo))
    paused._pause(OSError(24, "Too many open files"))
    paused.close()
    until(lambda: not len(scheduler.loop.timers))
    assert tcp.connect(paused.addrs[1]) == (None, errno.CONNREFUSED)


@needs_ipv6
def test_accepting_goes_on_once_the_system_can_watch_the_descriptors(
    names: dict[str, Any], logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no descriptors may have no memory to watch them either when the pause is over."""
    names["both.test"] = BOTH
    monkeypatch.setattr(_listener, "PAUSE", 0.02)
    logs.expect("accepting pauses")
    register = scheduler.loop.register
    failures = iter([False, True, True])

    def fails(fd: int, events: int, callback: Any) -> None:
        if next(failures, False):
            raise OSError(12, "Cannot allocate memory")
        register(fd, events, callback)

    with check(tcp.listen("both.test:0", echo)) as listener:
        listener._pause(OSError(24, "Too many open files"))
        monkeypatch.setattr(type(scheduler.loop), "register", lambda loop, *args: fails(*args))
        until(lambda: not listener._paused)
        monkeypatch.undo()
        assert next(failures, None) is None
        for addr in listener.addrs:
            talk("tcp", addr)


@needs_ipv6
@pytest.mark.parametrize("end", ["shutdown", "abort"])
def test_the_end_of_the_process_closes_all_addresses(end: str, names: dict[str, Any]) -> None:
    names["both.test"] = BOTH
    listener = check(tcp.listen("both.test:0", echo))
    getattr(listener._handler, end)()
    assert [tcp.connect(addr) for addr in listener.addrs] == [(None, errno.CONNREFUSED)] * 2
    assert listener.close() == (False, errno.CLOSED)


FORKS = """
import os, signal, socket, sys
import silly
from silly.net import tcp

socket.getaddrinfo = lambda *args: [
    (socket.AF_INET6, 1, 6, "", ("::1", args[1], 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", args[1]))
]
listener = silly.check(tcp.listen("both.test:0", print))  # before the loop runs
reads, writes = os.pipe()
pid = os.fork()
if not pid:
    os.write(writes, b"x")
    signal.pause()
os.read(reads, 1)  # the child is past what it does first
listener.close()
again, err = tcp.listen(f"both.test:{listener.port}", print)
print(again is not None and again.addrs == listener.addrs, err, flush=True)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
"""


@needs_ipv6
def test_a_child_of_fork_has_no_copy_of_any_address() -> None:
    with Child("-c", FORKS, env={"PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}) as child:
        assert child.line() == "True None"
        assert child.wait() == 0


@pytest.mark.parametrize("path", [True, False])
def test_a_listener_that_cannot_be_registered_leaves_nothing(
    path: bool, names: dict[str, Any], logs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The system refuses the selector's second descriptor. The fixture counts what is left. No line says that it listens."""
    logs.listening = True
    names["two.test"] = [(V4, ("127.0.0.1", 0)), (V4, ("127.0.0.2", 0))]
    register = type(scheduler.loop).register
    calls = []

    def refusing(*args: Any) -> None:
        calls.append(args)
        if len(calls) == (1 if path else 2):
            raise OSError(28, "No space left on device")
        register(*args)

    monkeypatch.setattr(type(scheduler.loop), "register", refusing)
    logs.expect(r"^ERROR tcp\.listen .*: No space left on device")
    assert tcp.listen(f"unix:{tmp_path}/s" if path else "two.test:0", echo) == (None, "No space left on device (28)")
    assert list(tmp_path.iterdir()) == []


def test_every_address_at_a_port_that_is_taken(logs: Any) -> None:
    with check(tcp.listen(":0", echo)) as listener:
        logs.expect(rf"^ERROR tcp\.listen :{listener.port}: Address already in use")
        assert tcp.listen(f":{listener.port}", echo) == (None, errno.ADDRINUSE)


@pytest.mark.parametrize("addr", [":0", "127.0.0.1:0", "two.test:0"])
def test_a_socket_that_cannot_listen(addr: str, names: dict[str, Any], logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is bound. The fixture counts what is left."""
    calls = []

    def refuse(sock: Any, backlog: int) -> None:
        calls.append(backlog)
        raise OSError(95, "Operation not supported")

    names["two.test"] = [(V4, ("127.0.0.1", 0)), (V4, ("127.0.0.2", 0))]
    monkeypatch.setattr(socket.socket, "listen", refuse)
    which = r"127\.0\.0\.1:\d+: " if addr == "two.test:0" else ""
    logs.expect(rf"^ERROR tcp\.listen {addr}: {which}Operation not supported")
    assert tcp.listen(addr, echo, backlog=9) == (None, errno.OPNOTSUPP)
    assert calls == [9]


@pytest.mark.parametrize("addresses", [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])
def test_addresses_of_a_name_that_exclude_each_other(addresses: tuple[str, str], names: dict[str, Any], logs: Any) -> None:
    """Both can be bound, but only one can listen. The error names the other."""
    names["two.test"] = [(V4, (addr, 0)) for addr in addresses]
    logs.expect(rf"^ERROR tcp\.listen two\.test:0: {re.escape(addresses[1])}:\d+: Address already in use")
    assert tcp.listen("two.test:0", echo) == (None, errno.ADDRINUSE)


# ---- the look-up ------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(names: dict[str, Any]) -> Iterator[threading.Event]:
    """``slow.test`` is found when the event is set."""
    answer = threading.Event()
    names["slow.test"] = lambda: answer.wait(30) and BOTH[1:]
    yield answer
    answer.set()
    until(lambda: scheduler.loop.work == 0)


def test_a_look_up_holds_up_no_other_task(slow: threading.Event) -> None:
    listening = Job(lambda: tcp.listen("slow.test:0", echo)).blocked()
    assert "the look-up of slow.test:0" in listening.task.waiting()
    slow.set()
    with check(listening.result()) as listener:
        talk("tcp", listener.addr)


def test_a_look_up_obeys_a_deadline(slow: threading.Event, logs: Any) -> None:
    logs.expect(r"^ERROR tcp\.listen slow\.test:0: Operation timed out")
    with time.deadline(20):
        assert tcp.listen("slow.test:0", echo) == (None, errno.TIMEDOUT)


def test_nothing_listens_once_the_process_has_begun_to_end(slow: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it begins during the look-up."""
    listening = Job(lambda: tcp.listen("slow.test:0", echo)).blocked()
    monkeypatch.setattr(scheduler, "begins", False)
    assert tcp.listen("127.0.0.1:0", echo) == (None, errno.CLOSED)
    slow.set()
    assert listening.result() == (None, errno.CLOSED)


def test_a_look_up_ends_when_nothing_blocks_any_more(slow: threading.Event) -> None:
    """As every wait, when the time of the process's end is over."""
    listening = Job(lambda: tcp.listen("slow.test:0", echo)).blocked()
    scheduler.loop.post(scheduler.throw, listening.task, scheduler.Leaving())
    assert listening.result() == (None, errno.CLOSED)


def test_an_address_needs_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it can be listened on where no task runs."""
    done = channel.new()
    scheduler.loop.post(lambda: done.push(tcp.listen("127.0.0.1:0", echo)))
    (listener, err), _ = done.pop()
    assert err is None
    listener.close()


def test_a_name_needs_a_task() -> None:
    done = channel.new()

    def call() -> None:
        try:
            tcp.listen("localhost:0", echo)
        except RuntimeError as exc:
            done.push(str(exc))

    scheduler.loop.post(call)
    assert "cannot block in a callback of the loop" in done.pop()[0]


def link_local() -> str | None:
    """An address of this machine that needs its zone."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().split("\n")
    except OSError:
        return None
    for line in lines:
        if line.startswith("fe80"):
            packed, _, _, _, _, name = line.split()
            return f"{socket.inet_ntop(V6, bytes.fromhex(packed))}%{name}"
    return None


@pytest.mark.skipif(link_local() is None, reason="THIS MACHINE HAS NO LINK-LOCAL ADDRESS: zones are not tested")
def test_an_address_with_a_zone() -> None:
    """Its own address, and its peer's, have it too: without it nobody can connect there."""
    peers = channel.new()
    with check(tcp.listen(f"[{link_local()}]:0", lambda conn: peers.push(conn.remoteaddr))) as listener:
        assert listener.addr == f"[{link_local()}]:{listener.port}"
        with check(tcp.connect(listener.addr)):
            assert peers.pop()[0].startswith(f"[{link_local()}]:")


def test_a_zone_that_is_not_there(logs: Any) -> None:
    logs.expect(r"^ERROR tcp\.listen \[fe80::1%nowhere\]:0: Address resolution failed")
    assert tcp.listen("[fe80::1%nowhere]:0", echo) == (None, errno.RESOLVE)


def test_two_zones_are_two_addresses(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[Any] = []
    bind = _binding.bind_inet

    def note(family: Any, sockaddr: Any, *more: Any) -> Any:
        bound.append(sockaddr)
        return bind(V4, ("127.0.0.1", sockaddr[1])) if len(bound) == 1 else bind(V4, ("127.0.0.2", sockaddr[1]))

    monkeypatch.setattr(_binding, "bind_inet", note)
    names["zones.test"] = [(V6, ("fe80::1", 0, 0, scope)) for scope in (1, 2, 1)]
    with check(tcp.listen("zones.test:0", echo)) as listener:
        assert bound == [("fe80::1", 0, 0, 1), ("fe80::1", listener.port, 0, 2)]


# ---- the rights of a Unix domain socket -------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0o700])
@pytest.mark.parametrize("umask", [0, 0o77])
def test_the_mode_of_a_unix_socket(kind: str, mode: int, umask: int, folder: Path) -> None:
    """Exactly what was asked for, whatever the umask, also where a dead socket was."""
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    before = os.umask(umask)
    try:
        with check(listen(kind, f"unix:{path}", mode=mode)) as listener:
            assert mode_of(path) == mode
            talk(kind, listener.addr)
    finally:
        os.umask(before)
    assert not path.exists()


def test_without_mode_the_umask_decides(folder: Path) -> None:
    before = os.umask(0o27)
    try:
        with check(tcp.listen(f"unix:{folder}/s", echo)):
            assert mode_of(folder / "s") == 0o750
    finally:
        os.umask(before)


class Steps:
    """What is true of a path each time that the file is to be changed, and before the socket listens."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.seen: list[tuple[str, int, int]] = []
        self._wrap(monkeypatch, os, "chown")
        self._wrap(monkeypatch, os, "chmod")
        self._wrap(monkeypatch, socket.socket, "listen")

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with socket.socket(socket.AF_UNIX) as peer:
                self.seen.append((name, mode_of(self.path), peer.connect_ex(str(self.path))))
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)


def test_a_unix_socket_is_never_wider_than_asked(folder: Path, no_umask: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has its mode the file allows nothing, and until it has its owner nobody can connect, root neither."""
    path = folder / "s"
    steps = Steps(path, monkeypatch)
    with check(tcp.listen(f"unix:{path}", echo, mode=0o620, owner=(os.getuid(), os.getgid()))) as listener:
        monkeypatch.undo()
        talk("tcp", listener.addr)
    assert [(name, oct(mode), err) for name, mode, err in steps.seen] == [
        ("chmod", "0o0", 111),  # ECONNREFUSED
        ("chown", "0o620", 111),
        ("listen", "0o620", 111),
    ]


def test_where_a_socket_has_no_mode_of_its_own_nobody_connects_before_it_has_its_rights(
    folder: Path, no_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""

    def refuse(*args: Any) -> None:
        raise OSError(22, "Invalid argument")

    path = folder / "s"
    monkeypatch.setattr(os, "fchmod", refuse)
    steps = Steps(path, monkeypatch)
    with check(tcp.listen(f"unix:{path}", echo, mode=0o600)):
        monkeypatch.undo()
        assert mode_of(path) == 0o600
    assert [(name, err) for name, _, err in steps.seen] == [("chmod", 111), ("listen", 111)]


CONNECTS = """
import os, socket, sys
uid, gid, *paths = sys.argv[1:]
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))
for path in paths:
    with socket.socket(socket.AF_UNIX) as sock:
        print(sock.connect_ex(path))
"""


@needs_root
def test_who_may_connect(folder: Path) -> None:
    """Asked as another user, by another process."""
    nobody = pwd.getpwnam("nobody")
    group = grp.getgrgid(nobody.pw_gid).gr_name
    asked: dict[str, tuple[dict[str, Any], int]] = {
        "mine": ({"mode": 0o600}, 13),
        "all": ({"mode": 0o666}, 0),
        "theirs": ({"mode": 0o600, "owner": "nobody"}, 0),
        "group": ({"mode": 0o660, "owner": f":{group}"}, 0),
        "other": ({"mode": 0o660, "owner": (0, 0)}, 13),
    }
    listeners = [check(tcp.listen(f"unix:{folder}/{name}", echo, **options)) for name, (options, _) in asked.items()]
    ids = str(nobody.pw_uid), str(nobody.pw_gid)
    command = [sys.executable, "-I", "-c", CONNECTS, *ids, *[str(folder / name) for name in asked]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    turns()
    for listener in listeners:
        listener.close()
    assert done.stderr == ""
    assert list(map(int, done.stdout.split())) == [err for _, err in asked.values()]
    until(lambda: not scheduler.tasks)


def owners() -> list[tuple[Any, tuple[int, int]]]:
    """Owners that we may set, and whose the file is then."""
    uid, gid = os.geteuid(), os.getegid()
    user, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid).gr_name
    found: list[tuple[Any, tuple[int, int]]] = [
        (user, (uid, gid)),
        (f"{user}:{group}", (uid, gid)),
        (f":{group}", (uid, gid)),
        (f"{uid}:{gid}", (uid, gid)),
        ((uid, gid), (uid, gid)),
        ((-1, -1), (uid, gid)),
    ]
    if uid == 0:
        other = pwd.getpwnam("nobody")
        name = grp.getgrgid(other.pw_gid).gr_name
        found += [
            ("nobody", (other.pw_uid, gid)),
            (f"nobody:{name}", (other.pw_uid, other.pw_gid)),
            (f":{name}", (uid, other.pw_gid)),
            ("54321:54322", (54321, 54322)),
            ((54321, -1), (54321, gid)),
            ((2**32 - 2, 2**32 - 2), (2**32 - 2, 2**32 - 2)),
        ]
    return found


@pytest.mark.parametrize(("owner", "ids"), owners())
def test_the_owner_of_a_unix_socket(owner: Any, ids: tuple[int, int], folder: Path) -> None:
    with check(tcp.listen(f"unix:{folder}/s", echo, owner=owner)) as listener:
        found = os.stat(folder / "s")
        assert (found.st_uid, found.st_gid) == ids
        assert mode_of(folder / "s") == 0o777 & ~current_umask()
        talk("tcp", listener.addr)


def current_umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


@pytest.mark.parametrize(
    ("owner", "err"),
    [
        ("no such user", "there is no user 'no such user'"),
        ("root:no such group", "there is no group 'no such group'"),
        (":no such group", "there is no group 'no such group'"),
        ("4294967295", "there is no user '4294967295'"),
        ("-1", "there is no user '-1'"),
    ],
)
def test_an_owner_that_there_is_not(owner: str, err: str, folder: Path, logs: Any) -> None:
    logs.expect(rf"^ERROR tcp\.listen unix:.*/s: {err}$")
    assert tcp.listen(f"unix:{folder}/s", echo, owner=owner) == (None, err)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["chown", "chmod", "listen"])
def test_what_the_system_refuses_leaves_no_file(name: str, folder: Path, logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    about = "the owner 12:13: " if name == "chown" else ""
    logs.expect(rf"^ERROR tcp\.listen unix:.*/s: {about}Operation not permitted")
    monkeypatch.setattr(socket.socket if name == "listen" else os, name, refuse)
    options: dict[str, Any] = {"owner": (12, 13)} if name == "chown" else {"mode": 0o600}
    assert tcp.listen(f"unix:{folder}/s", echo, **options) == (None, "Operation not permitted (1)")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mode": "0660"}, TypeError, "mode is a number of permission bits such as 0o660, not str"),
        ({"mode": True}, TypeError, "mode is .* not bool"),
        ({"mode": 0o660 * 1.0}, TypeError, "mode is .* not float"),
        ({"mode": 660}, ValueError, "mode is from 0 to 0o777, not 660: permission bits are octal"),
        ({"mode": -1}, ValueError, "mode is from 0 to 0o777, not -1"),
        ({"mode": 0o1000}, ValueError, "mode is from 0 to 0o777"),
        ({"mode": 10**5000}, ValueError, "mode is from 0 to 0o777"),
        ({"owner": ""}, ValueError, "owner is 'user', 'user:group' or ':group', not ''"),
        ({"owner": ":"}, ValueError, "owner is"),
        ({"owner": "a:"}, ValueError, "owner is"),
        ({"owner": "a:b:c"}, ValueError, "owner is"),
        ({"owner": "a\0"}, ValueError, "owner is"),
        ({"owner": "\ud800"}, ValueError, "owner is"),
        ({"owner": 0}, TypeError, "owner is 'user:group' or a pair of numbers, not int"),
        ({"owner": ["a", "b"]}, TypeError, "owner is .* not list"),
        ({"owner": (0,)}, ValueError, "owner has two numbers"),
        ({"owner": (0, "root")}, ValueError, "owner has two numbers"),
        ({"owner": (-2, 0)}, ValueError, "owner has two numbers"),
        ({"owner": (0, 2**32 - 1)}, ValueError, "owner has two numbers"),
        ({"owner": (True, 0)}, ValueError, "owner has two numbers"),
    ],
)
def test_rights_that_cannot_be(kind: str, options: Any, error: type[Exception], words: str, folder: Path) -> None:
    what = kind.removesuffix("s") if kind == "https" else kind
    with pytest.raises(error, match=rf"^{what}\.listen: {words}"):
        listen(kind, f"unix:{folder}/s", **options)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("options", [{"mode": 0o660}, {"owner": "root"}, {"owner": (0, 0)}])
@pytest.mark.parametrize("addr", ["127.0.0.1:0", ":0", "localhost:0"])
def test_rights_are_for_unix_sockets(addr: str, options: Any) -> None:
    words = r"^tcp\.listen: mode and owner are for Unix sockets \('unix:/path'\), not for "
    with pytest.raises(ValueError, match=f"{words}'{addr}'"):
        tcp.listen(addr, echo, **options)


def test_rights_in_a_dict(folder: Path) -> None:
    """As any setting."""
    with check(http.listen({"addr": f"unix:{folder}/s", "handler": hello, "mode": 0o600})):
        assert mode_of(folder / "s") == 0o600
    with pytest.raises(TypeError, match="settings in a dict and as arguments"):
        http.listen({"addr": f"unix:{folder}/s", "handler": hello}, mode=0o600)


def test_a_listener_that_closes_takes_no_other_s_place_away(folder: Path, logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that starts while it closes finds a socket that is alive, and leaves it; later it finds no file."""
    addr = f"unix:{folder}/s"
    first = check(tcp.listen(addr, echo))
    unlink = os.unlink
    others: list[Any] = []

    def meanwhile(path: Any) -> None:
        monkeypatch.undo()
        others.append(tcp.listen(addr, echo))
        unlink(path)

    logs.expect("Address already in use")
    monkeypatch.setattr(os, "unlink", meanwhile)
    first.close()
    assert others == [(None, errno.ADDRINUSE)]
    assert list(folder.iterdir()) == []


def test_a_file_that_its_owner_replaces_is_not_given_the_mode(folder: Path, logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the file is given may put a link in its place, even in a directory such as ``/tmp``. The mode of what that leads to
    stays as it was, and a socket that nobody can find is an error."""
    path, secret = folder / "s", folder / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)

    def then_replace(*args: Any, **kwargs: Any) -> None:
        path.unlink()
        path.symlink_to(secret)

    logs.expect("Address already in use")
    monkeypatch.setattr(os, "chown", then_replace)
    assert tcp.listen(f"unix:{path}", echo, mode=0o666, owner=(12, 13)) == (None, errno.ADDRINUSE)
    assert mode_of(secret) == 0o600
    assert path.is_symlink()


@pytest.mark.parametrize("gone", [True, False])
def test_a_socket_whose_place_another_process_takes_before_it_listens(
    gone: bool, folder: Path, logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks dead until it listens. Who starts at the same time may take its place, and keeps it."""
    addr = f"unix:{folder}/s"
    listen = socket.socket.listen
    others: list[Any] = []

    def meanwhile(sock: socket.socket, backlog: int) -> None:
        monkeypatch.undo()
        others.append(check(tcp.listen(addr, echo)))
        if gone:
            others[0].close()
        listen(sock, backlog)

    err = "No such file or directory (2)" if gone else errno.ADDRINUSE
    logs.expect(rf"^ERROR tcp\.listen unix:.*: {re.escape(err)}")
    monkeypatch.setattr(socket.socket, "listen", meanwhile)
    assert tcp.listen(addr, echo) == (None, err)
    if not gone:
        talk("tcp", addr)
        others[0].close()
    assert list(folder.iterdir()) == []


def test_a_path_that_no_file_can_have() -> None:
    for call in (lambda: tcp.listen("unix:/tmp/\ud800", echo), lambda: tcp.connect("unix:/tmp/\ud800")):
        with pytest.raises(ValueError, match=r"'unix:/tmp/\\ud800' has characters that no file's name can have"):
            call()


def test_the_file_is_removed_though_the_program_has_changed_its_directory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    listener = check(tcp.listen("unix:s", echo, mode=0o600))
    assert listener.addr == "unix:s"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").write_text("another's")
    listener.close()
    assert list(folder.iterdir()) == []
    assert (tmp_path / "s").exists()


# ---- the line that says where -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_listener_says_where_it_listens(kind: str, logs: Any) -> None:
    logs.listening = True
    logs.expect("^INFO listening on ")
    with check(listen(kind, "127.0.0.1:0")) as listener:
        assert logs.lines == [f"INFO listening on {kind}://127.0.0.1:{listener.port}"]
    assert len(logs.lines) == 1


@needs_ipv6
def test_a_listener_names_each_address(names: dict[str, Any], logs: Any) -> None:
    names["both.test"] = BOTH
    logs.listening = True
    logs.expect("^INFO listening on ")
    with check(http.listen("both.test:0", hello)) as server:
        assert logs.lines == [f"INFO listening on http://[::1]:{server.port}, http://127.0.0.1:{server.port}"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_listener_at_a_path_says_so(kind: str, folder: Path, logs: Any) -> None:
    logs.listening = True
    logs.expect("^INFO listening on ")
    with check(listen(kind, f"unix:{folder}/s")):
        assert logs.lines == [f"INFO listening on unix:{folder}/s ({kind})"]


def test_a_listener_that_fails_says_nothing_of_listening(logs: Any) -> None:
    logs.listening = True
    logs.expect(r"^ERROR http\.listen 192\.0\.2\.77:0: Cannot assign")
    assert http.listen("192.0.2.77:0", hello) == (None, errno.ADDRNOTAVAIL)
    assert len(logs.lines) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_that_the_line_raises_leaves_nothing(kind: str) -> None:
    """A handler of the application may raise one. The fixture counts what is left."""

    class Ends(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "listening on" in record.getMessage():
                raise KeyboardInterrupt

    log = logging.getLogger("silly")
    log.addHandler(handler := Ends())
    try:
        with pytest.raises(KeyboardInterrupt):
            listen(kind, "127.0.0.1:0")
    finally:
        log.removeHandler(handler)
