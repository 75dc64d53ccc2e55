"""``tcp.adopt``: a connection of a socket that somebody else has made."""

from __future__ import annotations

import gc
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import bridge, check, errno
from silly._core import scheduler
from silly._core.descriptor import READ, Descriptor
from silly.net import tcp
from silly.sync import channel

from ..children import in_thread
from .support import Job, has_ipv6, reset_on_close, until

WITHIN = 10_000


@contextmanager
def connected(family: socket.AddressFamily = socket.AF_INET, path: str = "") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, by the standard library: the one that connected, and the one that was accepted."""
    address: Any = path if family == socket.AF_UNIX else ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0)
    with socket.socket(family) as listening, socket.socket(family) as one:
        listening.bind(address)
        listening.listen()
        one.connect(listening.getsockname())
        with listening.accept()[0] as other:
            yield one, other


FAMILIES = [
    "ipv4",
    pytest.param("ipv6", marks=pytest.mark.skipif(not has_ipv6(), reason="THIS MACHINE HAS NO IPv6 LOOPBACK")),
    "unix",
    "pair",
]


@pytest.fixture(params=FAMILIES)
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of each kind of connection."""
    with ExitStack() as stack:
        if request.param == "pair":
            yield tuple(stack.enter_context(each) for each in socket.socketpair())  # type: ignore[misc]
        else:
            family = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6, "unix": socket.AF_UNIX}[request.param]
            yield stack.enter_context(connected(family, str(tmp_path / "s")))


@pytest.mark.parametrize("kind", ["socket", "number"])
@pytest.mark.parametrize("blocks", [True, False])
def test_it_is_a_connection(ends: Any, kind: str, blocks: bool) -> None:
    ours, theirs = ends
    ours.setblocking(blocks)
    fd = ours.fileno()
    os.set_inheritable(fd, True)
    conn = check(tcp.adopt(ours if kind == "socket" else ours.detach()))
    assert ours.fileno() == -1
    with conn:
        assert conn._stream.fd == fd
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        if ours.family != socket.AF_UNIX:
            assert conn._stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        reading = Job(lambda: conn.read("\n", WITHIN)).blocked()
        theirs.sendall(b"hello\n")
        assert reading.result() == (b"hello\n", None)
        assert conn.write("world")
        assert conn.closewrite()
        assert theirs.recv(100) == b"world"
        assert theirs.recv(100) == b""
        theirs.close()
        assert conn.read(1, WITHIN) == (None, errno.EOF)
    until(lambda: conn._stream.sock is None)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_what_has_come_already(ends: Any) -> None:
    ours, theirs = ends
    theirs.sendall(b"early")
    theirs.close()
    with check(tcp.adopt(ours)) as conn:
        assert conn.read(5, WITHIN) == (b"early", None)
        assert conn.read(1, WITHIN) == (None, errno.EOF)


def test_the_address_of_the_peer(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with connected() as (one, other):
        port = other.getsockname()[1]
        with check(tcp.adopt(one)) as conn:
            assert conn.remoteaddr == f"127.0.0.1:{port}"
    with connected(socket.AF_UNIX, path) as ends:
        for each in ends:
            with check(tcp.adopt(each)) as conn:
                assert conn.remoteaddr == f"unix:{path}"
    one, other = socket.socketpair()
    with other, check(tcp.adopt(one, "the child")) as conn:
        assert conn.remoteaddr == "the child"
        assert repr(conn) == "<tcp connection with the child, open>"


def test_limits(logs: Any) -> None:
    logs.expect("INFO tcp: unix:: no delimiter within the limit 'delimited' of 3 bytes")
    one, other = socket.socketpair()
    with other, check(tcp.adopt(one, limits=silly.Limits(delimited=3))) as conn:
        other.sendall(b"12345")
        assert conn.read("\n", WITHIN) == (None, errno.MSGSIZE)


def test_both_ends_are_ours() -> None:
    one, other = (check(tcp.adopt(each)) for each in socket.socketpair())
    with one, other:
        reading = Job(lambda: one.read(3_000_000, WITHIN)).blocked()
        other.write(bytes(3_000_000))
        assert reading.result() == (bytes(3_000_000), None)


def test_what_nothing_holds_is_closed() -> None:
    one, other = socket.socketpair()
    with other:
        check(tcp.adopt(one)).write("last")
        gc.collect()
        assert in_thread(other.recv, 100) == b"last"
        assert in_thread(other.recv, 100) == b""


# ---- what can't be taken over ----------------------------------------------------------------------------------------


@contextmanager
def unusable(kind: str, tmp_path: Path) -> Iterator[int]:
    """A descriptor of some kind."""
    with ExitStack() as stack:
        if kind == "pipe":
            reads, writes = os.pipe()
            stack.callback(os.close, reads)
            stack.callback(os.close, writes)
            yield reads
        elif kind in ("file", "directory"):
            path = tmp_path / "file"
            path.touch()
            fd = os.open(path if kind == "file" else tmp_path, os.O_RDONLY)
            stack.callback(os.close, fd)
            yield fd
        elif kind == "device":
            yield stack.enter_context(open(os.devnull)).fileno()
        elif kind == "epoll":
            yield stack.enter_context(select.epoll()).fileno()
        else:
            yield stack.enter_context(a_socket(kind)).fileno()


def a_socket(kind: str) -> socket.socket:
    if kind == "listening":
        return socket.create_server(("127.0.0.1", 0))
    if kind == "packets":
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        other.close()
        return one
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)


REFUSED = {
    "pipe": "is a pipe, not a socket",
    "file": "is a file, not a socket",
    "directory": "is a directory, not a socket",
    "device": "is a terminal or another device, not a socket",
    "epoll": "is an epoll, or another object of the kernel's, not a socket",
    "datagram": "is a datagram socket, not a stream socket",
    "packets": "is a socket for packets, not a stream socket",
    "listening": "listens, and is no connection: tcp.listen takes it, as 'fd:{fd}'",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_connection(kind: str, tmp_path: Path) -> None:
    """It stays as it was."""
    with unusable(kind, tmp_path) as fd:
        before = os.get_blocking(fd), os.get_inheritable(fd)
        assert tcp.adopt(fd) == (None, f"descriptor {fd} {REFUSED[kind].format(fd=fd)}")
        assert (os.get_blocking(fd), os.get_inheritable(fd)) == before
        gc.collect()
        os.fstat(fd)


def test_what_is_not_connected() -> None:
    with socket.socket() as sock:
        assert tcp.adopt(sock) == (None, errno.NOTCONN)
        assert sock.getblocking()
        assert os.get_blocking(sock.fileno())
    assert tcp.adopt(sock) == (None, "the socket is closed")
    fd = os.dup(0)
    os.close(fd)
    assert tcp.adopt(fd) == (None, f"descriptor {fd} is not open")


def test_what_the_peer_has_reset() -> None:
    with connected() as (ours, theirs):
        reset_on_close(theirs)
        theirs.close()
        select.select([ours], [], [])
        assert tcp.adopt(ours) == (None, errno.NOTCONN)
        assert ours.fileno() >= 0


def test_what_this_process_uses() -> None:
    accepted = channel.new()
    with check(tcp.listen("127.0.0.1:0", accepted.push)) as listener, check(tcp.connect(listener.addr)) as conn:
        peer = accepted.pop()[0]
        fd = conn._stream.fd
        in_use = f"descriptor {fd} is in use in this process: the connection with {listener.addr}"
        assert tcp.adopt(fd) == (None, in_use)
        peer.close()
        assert conn.read(1, WITHIN) == (None, errno.EOF)
        assert tcp.adopt(fd) == (None, in_use), "it is not registered any more"
        for sock in (scheduler.loop.wakeup_fd, scheduler.loop._waker):
            assert tcp.adopt(sock.fileno()) == (None, f"descriptor {sock.fileno()} is in use in this process by silly itself")


def test_what_a_task_waits_for() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        waiting = Job(lambda: bridge.descriptor.wait(ours, READ, WITHIN)).blocked()
        assert tcp.adopt(ours) == (None, f"descriptor {ours.fileno()} is in use in this process: {waits(ours)}")
        theirs.sendall(b"x")
        assert waiting.result() == (READ, None)
        with check(tcp.adopt(ours)) as conn:
            assert conn.read(1, WITHIN) == (b"x", None)


def waits(sock: socket.socket) -> str:
    return f"the wait for descriptor {sock.fileno()}"


def test_a_record_of_a_bridge_is_forgotten() -> None:
    """One that stays registered while no task waits, as that of a ``bridge.socket.Socket``."""
    ours, theirs = socket.socketpair()
    with theirs:
        record = Descriptor(ours.fileno(), edge=True)
        theirs.sendall(b"x")
        Job(lambda: record.wait(READ, "the test")).result()
        with check(tcp.adopt(ours)) as conn:
            assert conn.read(1, WITHIN) == (b"x", None)
            record.forget()
            theirs.sendall(b"y")
            assert conn.read(1, WITHIN) == (b"y", None)


def test_a_failure_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no memory to watch it: it is the caller's, and blocks as before."""

    def register(*args: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = set(scheduler.loop.handlers)
        with monkeypatch.context() as patch:
            patch.setattr(type(scheduler.loop), "register", register)
            assert tcp.adopt(ours) == (None, errno.NOMEM)
        gc.collect()
        assert scheduler.loop.handlers == before
        assert os.get_blocking(ours.fileno())
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"


WRONG: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: tcp.adopt("3"), TypeError, "tcp.adopt takes a socket.socket or the number of a descriptor, not str"),  # type: ignore[arg-type]
    (lambda: tcp.adopt(None), TypeError, "not NoneType"),  # type: ignore[arg-type]
    (lambda: tcp.adopt(True), TypeError, "not bool"),
    (lambda: tcp.adopt(-1), ValueError, "tcp.adopt: the number of a descriptor is an int from 0 to"),
    (lambda: tcp.adopt(2**31), ValueError, "tcp.adopt: the number of a descriptor"),
    (lambda: tcp.adopt(0, 5), TypeError, "tcp.adopt: remoteaddr is text"),  # type: ignore[arg-type]
    (lambda: tcp.adopt(0, limits={}), TypeError, "limits"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "kind", "text"), WRONG)
def test_bad_arguments(call: Callable[[], object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        call()


def test_a_socket_with_tls() -> None:
    ours, theirs = socket.socketpair()
    context = ssl.create_default_context()
    with theirs, context.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False) as sock:
        with pytest.raises(TypeError, match=r"tcp.adopt: the TLS state of an ssl.SSLSocket would be lost"):
            tcp.adopt(sock)
        assert sock.fileno() >= 0


def test_in_a_thread() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(RuntimeError, match="thread"):
        in_thread(tcp.adopt, ours)
