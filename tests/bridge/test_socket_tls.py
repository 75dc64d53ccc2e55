"""``bridge.socket``: TLS."""

from __future__ import annotations

import os
import socket as std
import ssl
import threading
from collections.abc import Callable, Iterator
from errno import EBADF
from pathlib import Path
from typing import Any

import pytest

from silly import task, time
from silly.bridge import socket
from silly.bridge._sockets import BURST
from silly.bridge.socket import Socket, SSLSocket
from silly.testing import _left

from ..net import authorities
from ..net.support import turns, until
from ..test_task import settle
from .support import WITHIN, mode, outcome, tell, threaded, waiting

pytestmark = pytest.mark.usefixtures("mode")
assert mode


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the client, and for the server."""
    client = socket.create_default_context(cadata=authorities.root().pem)
    server = socket.create_default_context(ssl.Purpose.CLIENT_AUTH)
    entry = authorities.server().entry
    for name, text in entry.items():
        (tmp_path / name).write_text(text)
    server.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    for context in (client, server):
        context.set_alpn_protocols(["chat/1"])
    return client, server


def small(pair: tuple[Socket, Socket]) -> tuple[Socket, Socket]:
    for each in pair:
        each.setsockopt(std.SOL_SOCKET, std.SO_SNDBUF, 4096)
    return pair


@pytest.fixture
def pair(contexts: Any) -> Iterator[tuple[SSLSocket, SSLSocket]]:
    """A client's and a server's side; the kernel takes little at a time."""
    one, two = small(socket.socketpair())
    t = task.fork(contexts[1].wrap_socket, two, server_side=True)
    with contexts[0].wrap_socket(one, server_hostname="localhost") as client, outcome(t) as server:
        yield client, server


def test_what_it_is(pair: Any) -> None:
    one, two = pair
    assert isinstance(one, SSLSocket)
    assert isinstance(one, ssl.SSLSocket)
    assert isinstance(one, Socket)
    assert (one.version(), one.selected_alpn_protocol(), two.server_side) == ("TLSv1.3", "chat/1", True)
    assert ("DNS", "localhost") in one.getpeercert()["subjectAltName"]
    assert one.context.sslsocket_class is SSLSocket
    assert one.gettimeout() is None
    with pytest.raises(NotImplementedError):
        one.dup()
    with pytest.raises(NotImplementedError):
        one.recvmsg(1)
    with pytest.raises(NotImplementedError):
        one.sendmsg([b"x"])


def test_every_way_to_read_and_to_write(pair: Any, tmp_path: Path) -> None:
    one, two = pair
    buffer = bytearray(5)
    (tmp_path / "file").write_bytes(b"hello")
    with (tmp_path / "file").open("rb") as file, one.makefile("rb") as lines:
        ways: list[tuple[Callable[[], Any], Any, Callable[[], Any]]] = [
            (lambda: one.recv(5), b"hello", lambda: two.send(b"hello")),
            (lambda: one.read(5), b"hello", lambda: two.write(b"hello")),
            (lambda: one.read(5, buffer), 5, lambda: two.sendall(b"hello")),
            (lambda: (one.recv_into(buffer), bytes(buffer)), (5, b"hello"), lambda: two.sendfile(file)),
            (lambda: (one.recv(2), one.pending(), one.recv(9)), (b"he", 3, b"llo"), lambda: two.send(bytearray(b"hello"))),
            (lambda: lines.read(5), b"hello", lambda: two.sendall(memoryview(b"hello"))),
        ]
        for take, expected, give in ways:
            t = waiting(take)
            assert give() in (None, 5)
            assert outcome(t) == expected
    for call in (lambda: one.send(b"x", 1), lambda: one.recv(1, 1), lambda: one.sendto(b"x", ("", 1))):
        with pytest.raises(ValueError, match="not allowed"):
            call()


def test_starttls_and_back(contexts: Any) -> None:
    """TLS in the middle of a conversation, and plain text after it."""
    one, two = socket.socketpair()
    with one, two:
        t = waiting(one.recv, 100)
        two.sendall(b"go ahead\n")
        assert outcome(t) == b"go ahead\n"
        one.settimeout(9)
        accepting = task.fork(contexts[1].wrap_socket, two, server_side=True, do_handshake_on_connect=False)
        secure = contexts[0].wrap_socket(one, server_hostname="localhost", do_handshake_on_connect=False)
        assert (one.fileno(), secure.gettimeout()) == (-1, 9)
        server = outcome(accepting)
        with secure, server:
            t = waiting(server.do_handshake)
            secure.do_handshake()
            outcome(t)
            t = waiting(secure.unwrap)
            assert server.recv(10) == b""
            server.unwrap()
            plain = outcome(t)
            assert plain is secure
            t = waiting(plain.recv, 10)
            server.sendall(b"hello")
            assert outcome(t) == b"hello"
            assert plain.send(b"x") == 1
            with pytest.raises(ValueError, match="No SSL wrapper"):
                plain.unwrap()


def test_accept_and_connect(contexts: Any) -> None:
    """A listening socket that was wrapped, and one that connects."""
    plain = Socket()
    plain.bind(("127.0.0.1", 0))
    plain.listen()
    with contexts[1].wrap_socket(plain, server_side=True) as listener:
        t = waiting(listener.accept)
        with contexts[0].wrap_socket(Socket(), server_hostname="localhost") as sock:
            sock.connect(("localhost", listener.getsockname()[1]))
            server, address = outcome(t)
            with server:
                assert (type(server), address) == (SSLSocket, sock.getsockname())
                server.sendall(b"hello")
                assert sock.recv(10) == b"hello"
        t = task.fork(listener.accept)
        with contexts[0].wrap_socket(Socket(), server_hostname="localhost") as sock:
            assert sock.connect_ex(listener.getsockname()) in (0, None)
            outcome(t)[0].close()


def test_a_connect_that_was_struck(contexts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be called again, and the handshake can go on."""
    gate = threading.Event()
    monkeypatch.setattr(std, "getaddrinfo", lambda *args: gate.wait(WITHIN / 1000))
    sock = contexts[0].wrap_socket(Socket(), server_hostname="localhost")
    with std.create_server(("127.0.0.1", 0)) as listener, sock:
        t = waiting(sock.connect, ("localhost", listener.getsockname()[1]))
        t.cancel()
        assert t.join(WITHIN) == (None, "cancelled")
        gate.set()
        t = waiting(sock.connect, listener.getsockname())
        turns()
        t.cancel()
        assert t.join(WITHIN) == (None, "cancelled")
        peer = Socket(fileno=listener.accept()[0].detach())
        t = task.fork(contexts[1].wrap_socket, peer, server_side=True)
        sock.do_handshake()
        outcome(t).close()


def test_handshakes_that_fail(contexts: Any) -> None:
    client, server = contexts
    for name, kind, words in (
        ("example.org", ssl.SSLCertVerificationError, "Hostname mismatch"),
        (None, ValueError, "check_hostname requires server_hostname"),
    ):
        one, two = socket.socketpair()
        with one, two:
            t = task.fork(tell, lambda two=two: server.wrap_socket(two, server_side=True))  # type: ignore[misc]
            with pytest.raises(kind, match=words):
                client.wrap_socket(one, server_hostname=name)
            one.close()
            assert outcome(t)[0] in ("SSLError", "SSLEOFError")
    one, two = socket.socketpair()
    with one, two:
        two.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            client.wrap_socket(one, server_hostname="localhost")
        assert two.recv(1 << 16).startswith(b"\x16\x03")


def test_what_strikes_a_handshake(contexts: Any) -> None:
    client = contexts[0]
    for strike in ("time-out", "deadline", "cancel"):
        one, two = socket.socketpair()
        if strike == "time-out":
            one.settimeout(0.01)
        with two:
            limit = time.deadline(10) if strike == "deadline" else time.deadline(WITHIN)

            def shake(one: Socket = one, limit: Any = limit) -> None:
                with limit:
                    client.wrap_socket(one, server_hostname="localhost")

            t = waiting(tell, shake)
            if strike == "cancel":
                t.cancel()
                assert t.join(WITHIN) == (None, "cancelled")
            else:
                assert outcome(t)[0] == ("DeadlineOver" if strike == "deadline" else "TimeoutError")
            assert len(two.recv(1 << 16)) > 100
            assert two.recv(1 << 16) == b""  # it was closed


def test_time_outs(pair: Any, contexts: Any) -> None:
    one = pair[0]
    one.settimeout(0)
    with pytest.raises(ssl.SSLWantReadError):
        one.recv(1)
    with pytest.raises(ssl.SSLWantWriteError):
        one.sendall(bytes(1_000_000))
    one.settimeout(0.01)
    with pytest.raises(TimeoutError, match="timed out"):
        one.recv(1)
    with time.deadline(1), pytest.raises(TimeoutError, match=r"sock\.read: the deadline of 1 ms ran out"):
        one.recv(1)
    plain, other = socket.socketpair()
    plain.setblocking(False)
    with other, pytest.raises(ValueError, match="should not be specified for non-blocking sockets"):
        contexts[0].wrap_socket(plain, server_hostname="localhost")
    plain, other = socket.socketpair()
    plain.setblocking(False)
    with other, contexts[0].wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False) as secure:
        with pytest.raises(ssl.SSLWantReadError):
            secure.do_handshake()
        t = task.fork(contexts[1].wrap_socket, other, server_side=True)
        secure.do_handshake(block=True)
        assert secure.gettimeout() == 0
        outcome(t).close()


def test_what_strikes_sendall(pair: Any) -> None:
    """The record that was begun goes out whole, and then what comes next: nothing is lost within."""
    one, two = pair
    records = b"".join(b"%09d " % number for number in range(50_000))
    t = waiting(one.sendall, records)
    t.cancel()
    assert t.join(WITHIN) == (None, "cancelled")
    with time.deadline(1), pytest.raises(TimeoutError):
        one.sendall(b"never sent")
    one.settimeout(0)
    with pytest.raises(ssl.SSLWantWriteError):
        one.send(b"not sent either")
    one.settimeout(None)
    t = waiting(one.sendall, b"end")
    got = bytearray()
    while not got.endswith(b"end"):
        got += two.recv(1 << 16)
    outcome(t)
    assert got[:-3] == records[: len(got) - 3]
    assert 0 < len(got) < len(records)


def test_a_time_out_bounds_sendall_as_a_whole(pair: Any) -> None:
    """The peer takes a record again and again, sooner than the time-out."""
    one, two = pair
    one.settimeout(0.1)

    def take() -> None:
        while two.recv(1 << 16):
            time.sleep(10)

    taking = task.fork(take)
    before = time.monotonic()
    with time.deadline(WITHIN), pytest.raises(TimeoutError, match=r"^timed out$"):
        one.sendall(bytes(50_000_000))
    assert time.monotonic() - before >= 99
    taking.cancel()
    taking.join()


def test_what_send_takes(pair: Any) -> None:
    """All of it, as in the standard library; with the time-out 0 a record."""
    one, two = pair
    for limit, size in ((None, 100_000), (0, 16 * 1024)):
        one.setsockopt(std.SOL_SOCKET, std.SO_SNDBUF, 64 * 1024)
        one.settimeout(limit)
        t = task.fork(one.send, bytes(100_000))
        got = 0
        with time.deadline(WITHIN):
            while got < size:
                got += len(two.recv(1 << 16))
        assert outcome(t) == got == size


def test_shutdown_while_other_tasks_wait(contexts: Any) -> None:
    """It ends their calls as in the standard library: what they catch is not a ValueError."""
    for strike in ("read", "read into", "write", "handshake"):
        one, two = small(socket.socketpair())
        with two:
            t = task.fork(contexts[1].wrap_socket, two, server_side=True, do_handshake_on_connect=strike != "handshake")
            with contexts[0].wrap_socket(one, server_hostname="localhost", do_handshake_on_connect=False) as client:
                if strike != "handshake":
                    client.do_handshake()
                calls: dict[str, Callable[[], Any]] = {
                    "read": lambda: client.recv(5),
                    "read into": lambda: client.recv_into(bytearray(5)),
                    "write": lambda: client.sendall(bytes(1_000_000)),
                    "handshake": client.do_handshake,
                }
                with outcome(t):
                    t = waiting(tell, calls[strike])
                    client.shutdown(std.SHUT_RDWR)
                    how, what = outcome(t)
                    assert what in (b"", 0) if "read" in strike else how in ("SSLEOFError", "BrokenPipeError")


def test_a_struck_record_and_the_end_of_tls(pair: Any) -> None:
    one, two = pair
    t = waiting(one.sendall, b"x" * 100_000)
    t.cancel()
    assert t.join(WITHIN) == (None, "cancelled")
    t = waiting(one.unwrap)
    got = 0
    while piece := two.recv(1 << 16):
        got += len(piece)
    assert got % (16 * 1024) == 0
    assert got > 0
    two.unwrap()
    assert outcome(t) is one


def test_a_cancel_and_a_close_while_it_reads(pair: Any) -> None:
    one = pair[0]
    t = waiting(one.recv, 10)
    with pytest.raises(RuntimeError, match=r"^sock\.read: another task reads from this socket"):
        one.recv(1)
    t.cancel()
    assert t.join(WITHIN) == (None, "cancelled")
    t = waiting(tell, lambda: one.recv(10))
    writer = waiting(tell, lambda: one.sendall(bytes(1_000_000)))
    with pytest.raises(RuntimeError, match=r"^sock\.send: another task writes to this socket"):
        one.sendall(b"x")
    one.close()
    assert outcome(t) == outcome(writer) == ("OSError", EBADF)


def test_a_file_is_closed_after_its_socket(pair: Any) -> None:
    one, two = pair
    with one.makefile("rb") as file:
        t = waiting(file.read, 5)
        two.sendall(b"hello")
        assert outcome(t) == b"hello"
        one.close()
        assert one.fileno() >= 0
    assert one.fileno() == -1
    with pytest.raises(ValueError, match="Read on closed or unwrapped SSL socket"):
        one.read(1)
    assert two.recv(1) == b""


def test_a_peer_that_ends_without_goodbye(contexts: Any) -> None:
    for suppress in (True, False):
        one, two = socket.socketpair()
        t = task.fork(contexts[1].wrap_socket, two, server_side=True)
        with contexts[0].wrap_socket(one, server_hostname="localhost", suppress_ragged_eofs=suppress) as client:
            server = outcome(t)
            server.sendall(b"hello")
            server.close()
            settle()
            assert client.recv(10) == b"hello"
            if suppress:
                assert client.recv(10) == b""
                assert client.recv_into(bytearray(10)) == 0
            else:
                with pytest.raises(ssl.SSLEOFError):
                    client.recv(10)


def test_a_socket_that_is_not_ours(contexts: Any) -> None:
    one, two = std.socketpair()
    with one, two:
        with pytest.raises(TypeError, match=r"is for a bridge\.socket\.Socket, not for socket; Socket\(fileno="):
            contexts[0].wrap_socket(one, server_hostname="localhost")
        assert one.fileno() >= 0


def test_refused_within_no_switch(contexts: Any) -> None:
    one, two = socket.socketpair()
    with one, two:
        with task.no_switch(), pytest.raises(RuntimeError, match=r"context\.wrap_socket: may wait"):
            contexts[0].wrap_socket(one, server_hostname="localhost")
        assert one.fileno() >= 0
        secure = contexts[0].wrap_socket(one, server_hostname="localhost", do_handshake_on_connect=False)
        with secure, task.no_switch():
            for call in (secure.do_handshake, lambda: secure.recv(1), lambda: secure.connect(("localhost", 1))):
                with pytest.raises(RuntimeError, match="no_switch"):
                    call()


def test_much_data_for_a_slow_reader(contexts: Any, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    begin = threading.Event()
    plain = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    plain.load_cert_chain(tmp_path / "cert", tmp_path / "key")

    def read(sock: std.socket) -> None:
        got = bytearray()
        with plain.wrap_socket(sock, server_side=True) as secure:
            begin.wait(WITHIN / 1000)
            while len(got) < len(data):
                got += secure.recv(50_000)
            secure.sendall(b"done")
        assert got == data

    with threaded(read) as address:
        sock = Socket()
        sock.setsockopt(std.SOL_SOCKET, std.SO_SNDBUF, 64 * 1024)
        sock.connect(address)
        with contexts[0].wrap_socket(sock, server_hostname="localhost") as secure:
            t = waiting(secure.sendall, data)
            begin.set()
            assert secure.recv(10) == b"done"
            outcome(t)


def test_other_tasks_run_though_there_is_always_data(pair: Any) -> None:
    one, two = pair
    one.sendall(b"x" * (BURST + 1))
    ran: list[int] = []
    other = task.fork(ran.append, 1)
    for _ in range(BURST + 1):
        two.recv(1)
    assert ran == [1]
    other.join()


def test_many_connections_leave_nothing_behind(contexts: Any) -> None:
    before = _left.found()

    def one_after_the_other() -> None:
        for _ in range(5):
            one, two = socket.socketpair()
            t = task.fork(contexts[1].wrap_socket, two, server_side=True)
            with contexts[0].wrap_socket(one, server_hostname="localhost") as client, outcome(t) as server:
                server.sendall(b"hello")
                assert client.recv(10) == b"hello"

    tasks = [task.fork(one_after_the_other) for _ in range(10)]
    for t in tasks:
        outcome(t)
    until(lambda: _left.left(before) is None)
