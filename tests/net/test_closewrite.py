"""``conn.closewrite``: our direction ends, and the peer's goes on."""

from __future__ import annotations

import gc
import os
import select
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import check, errno, task, time
from silly._core import scheduler
from silly.net import tcp
from silly.net._gathered import GATHER
from silly.net._output import FAIR_SHARE
from silly.sync import channel

from ..children import Child, in_thread
from .check_stream import KERNEL, MIB, Pair, Transport, UnixTransport
from .support import Job, turns, until
from .test_tls_abuse import ALERT, CLOSE_NOTIFY, HANDSHAKE, KEY_UPDATE_REQUESTED, client_victim, victim
from .tls_support import connect, listening, python_context

WITHIN = 10_000

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def narrow(*conns: Any) -> None:
    """Gives the kernel little room."""
    for conn in conns:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            conn._stream.sock.setsockopt(socket.SOL_SOCKET, option, KERNEL)


def test_one_direction_ends(any_pair: Pair) -> None:
    conn, peer = any_pair()
    assert conn.write("the question")
    assert conn.closewrite() == (True, None)
    assert conn.unsentbytes() == 0, "it doesn't wait for the end of the slice"
    assert conn.isalive()
    for call in (lambda: conn.write("more"), lambda: conn.write(["mo", "re"]), conn.closewrite):
        assert call() == (False, errno.CLOSED)
    assert peer.read(12, WITHIN) == (b"the question", None)
    assert peer.read(1, WITHIN) == (None, errno.EOF)
    assert not peer.isalive()
    peer.write("the answer\n")
    assert conn.read("\n", WITHIN) == (b"the answer\n", None)
    assert conn.isalive()
    peer.write("and more")
    peer.close()
    assert conn.read(8, WITHIN) == (b"and more", None)
    assert conn.readsome(timeout=WITHIN) == (None, errno.EOF)
    assert not conn.isalive()
    assert conn.write("x") == (False, errno.CLOSED)
    assert conn.close() == (True, None)
    assert conn.close() == conn.closewrite() == (False, errno.CLOSED)


def test_both_directions_end(any_pair: Pair) -> None:
    conn, peer = any_pair()
    assert conn.closewrite()
    assert peer.read(1, WITHIN) == (None, errno.EOF)
    peer.write("x")
    assert peer.closewrite() == (True, None)
    assert conn.read(2, WITHIN) == (None, errno.EOF)
    assert conn.read(1) == (b"x", None)
    assert not conn.isalive()
    assert conn.close() == peer.close() == (True, None)


def test_much_is_delivered_first(any_pair: Pair) -> None:
    """Also what a task is blocked with, which is told that it was taken."""
    conn, peer = any_pair()
    narrow(conn, peer)
    data = bytes(range(256)) * 4096 * 3
    writing = Job(lambda: conn.write(data)).blocked()
    assert conn.closewrite() == (True, None)
    assert conn.unsentbytes() > 0
    assert conn.isalive()
    got = Job(lambda: peer.read(len(data), WITHIN))
    assert writing.result() == (True, None)
    assert got.result() == (data, None)
    assert peer.read(1, WITHIN) == (None, errno.EOF)
    peer.write("taken")
    assert conn.read(5, WITHIN) == (b"taken", None)


def test_what_was_only_gathered_is_delivered_first() -> None:
    """The kernel refuses a part of it when ``closewrite`` sends it."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with check(tcp.adopt(ours)) as conn, check(tcp.adopt(theirs)) as peer:
        data = bytes(60_000)

        def write() -> tuple[bool, Any, bool]:
            conn.write(data)
            return conn._stream.blocked, conn.closewrite(), conn._stream.blocked

        assert Job(write).result() == (False, (True, None), True)
        assert peer.read(len(data), WITHIN) == (data, None)
        assert peer.read(1, WITHIN) == (None, errno.EOF)


def test_a_peer_that_stops_reading() -> None:
    """What is left can't be sent; what it sends can still be read."""
    ours, theirs = socket.socketpair()
    with check(tcp.adopt(ours)) as conn, theirs:
        narrow(conn)
        Job(lambda: conn.write(bytes(3 * MIB))).blocked()
        assert conn.closewrite()
        theirs.shutdown(socket.SHUT_RD)
        theirs.recv(MIB)  # the kernel takes more again
        until(lambda: not conn.isalive())
        assert conn.write("x") == (False, errno.PIPE)
        theirs.sendall(b"bye")
        theirs.shutdown(socket.SHUT_WR)
        assert conn.read(3, WITHIN) == (b"bye", None)
        assert conn.read(1, WITHIN) == (None, errno.PIPE)


def test_close_after_it_still_delivers(any_pair: Pair) -> None:
    conn, peer = any_pair()
    narrow(conn, peer)
    data = bytes(3 * MIB)
    Job(lambda: conn.write(data)).blocked()
    assert conn.closewrite() == (True, None)
    peer.write("unread")
    until(lambda: conn.unreadbytes() == 6)
    assert conn.close() == (True, None)
    assert peer.read(len(data), WITHIN) == (data, None)
    assert peer.read(1, WITHIN) == (None, errno.EOF)


def test_data_that_comes_after_close_destroys_nothing(any_pair: Pair) -> None:
    """A closed socket would answer it with a reset: ``close`` awaits the peer's end, as it does without ``closewrite``."""
    conn, peer = any_pair()
    peer.write("unread")
    until(lambda: conn.unreadbytes() == 6)
    conn.write("the answer")
    assert conn.closewrite()
    conn.close()
    for _ in range(3):
        assert peer.write("more")
        turns()
    assert peer.read(10, WITHIN) == (b"the answer", None)
    assert peer.read(1, WITHIN) == (None, errno.EOF)
    assert conn._stream.sock is not None
    peer.close()
    until(lambda: conn._stream.sock is None)


def test_a_write_that_lets_others_run_was_not_in_vain(any_pair: Pair) -> None:
    conn, peer = any_pair()
    conn._stream._since_pause = FAIR_SHARE  # it has sent so much without waiting
    writing, ending = Job(lambda: conn.write(bytes(GATHER))), Job(conn.closewrite)
    assert ending.result() == writing.result() == (True, None)
    assert peer.read(GATHER, WITHIN) == (bytes(GATHER), None)


def test_a_reader_goes_on(any_pair: Pair) -> None:
    conn, peer = any_pair()
    reading = Job(lambda: conn.read(4)).blocked()
    selecting = any_pair()
    selected = Job(lambda: task.select(selecting[0])).blocked()
    assert conn.closewrite() == selecting[0].closewrite() == (True, None)
    peer.write("data")
    selecting[1].write("x")
    assert reading.result() == (b"data", None)
    assert selected.result() == (selecting[0], None)


def test_a_reset_after_it(transport: Transport, any_pair: Pair) -> None:
    conn, peer = any_pair()
    assert conn.closewrite()
    turns()
    (peer._stream.abort if isinstance(transport, UnixTransport) else partial(transport.reset, peer))()
    got, err = conn.read(100, WITHIN)
    assert got is None
    assert err in (errno.CONNRESET, errno.TLS, errno.EOF)  # a Unix socket, and TLS, know other ends
    assert not conn.isalive()
    assert conn.write("x")[1] in (err, errno.CLOSED)


def test_a_broken_connection(transport: Transport, any_pair: Pair) -> None:
    conn, peer = any_pair()
    transport.reset(peer)
    until(lambda: not conn.isalive())
    ok, err = conn.closewrite()
    # A Unix socket, and TLS, may see an end, and only then that nothing can be sent.
    assert ok or err in (errno.CONNRESET, errno.PIPE, errno.TLS)
    conn.close()
    assert conn.closewrite() == (False, errno.CLOSED)


@pytest.mark.parametrize("reads", [True, False])
def test_a_peer_that_takes_nothing(reads: bool) -> None:
    """It is cut off as before: a reader is told, and nothing stays."""
    accepted = channel.new()
    limits = silly.Limits(write_timeout=60, unsent=64 * 1024)
    with check(tcp.listen("127.0.0.1:0", accepted.push)) as listener:
        conn = check(tcp.connect(listener.addr, limits=limits))
        with conn, accepted.pop()[0] as peer:
            narrow(conn, peer)
            peer.limit(1)
            writing = Job(lambda: conn.write(bytes(20 * MIB))).blocked()
            assert conn.closewrite() == (True, None)
            reading = Job(lambda: conn.read(1)).blocked() if reads else None
            assert writing.result() == (False, errno.TIMEDOUT)
            assert reading is None or reading.result() == (None, errno.TIMEDOUT)
            assert conn.write("x") == conn.closewrite() == (False, errno.TIMEDOUT)
            assert conn._stream.sock is None


def test_no_direction_ends_in_the_middle_of_a_file(any_pair: Pair, tmp_path: Path) -> None:
    conn, peer = any_pair()
    narrow(conn, peer)
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * MIB))
    fd = os.open(path, os.O_RDONLY)
    try:
        sending = Job(lambda: (conn._stream.sendfile(fd, 0, 3 * MIB), conn.closewrite())).blocked()
        with pytest.raises(RuntimeError, match="another task is sending a file"):
            conn.closewrite()
        assert peer.read(3 * MIB, WITHIN) == (bytes(3 * MIB), None)
        assert peer.read(1, WITHIN) == (None, errno.EOF)
        assert sending.result() == (None, (True, None))
        assert conn._stream.sendfile(fd, 0, 1) == errno.CLOSED
    finally:
        os.close(fd)


def test_what_nothing_holds_is_closed(any_pair: Pair) -> None:
    accepted = channel.new()
    with check(tcp.listen("127.0.0.1:0", accepted.push)) as listener:
        stream = (conn := check(tcp.connect(listener.addr)))._stream
        conn.closewrite()
        with accepted.pop()[0] as peer:
            assert peer.read(1, WITHIN) == (None, errno.EOF)
            del conn
            gc.collect()
            until(lambda: stream.sock is None)
    assert stream not in scheduler.loop.handlers


def test_the_end_of_the_process_delivers_it(tmp_path: Path) -> None:
    """8 MB to a peer that reads slowly, and a script that ends at once."""
    script = tmp_path / "app.py"
    script.write_text(
        "import sys\nimport silly\nfrom silly.net import tcp\n"
        "conn = silly.check(tcp.connect(sys.argv[1]))\n"
        "for _ in range(8):\n    conn.write(b'x' * 1_000_000)\n"
        "print(conn.unsentbytes() > 0, conn.closewrite(), flush=True)\n"
    )
    got = channel.new()

    def slow(conn: tcp.Conn) -> None:
        size = 0
        while (piece := conn.readsome(100_000)[0]) is not None:
            size += len(piece)
            time.sleep(1)
        got.push(size)

    with check(tcp.listen("127.0.0.1:0", slow)) as listener, Child(str(script), listener.addr) as child:
        assert child.line() == "True Result(True, None)"
        assert got.pop() == (8_000_000, None)
        assert child.wait() == 0


# ---- against the sockets of Python -----------------------------------------------------------------------------------


def ask(sock: Any, answer: bytes) -> bytes:
    """Reads up to the end, and then answers."""
    got = b""
    while piece := sock.recv(4096):
        got += piece
    sock.sendall(answer)
    return got


def test_tcp_ends_by_a_fin() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        conn = check(tcp.connect(f"127.0.0.1:{server.getsockname()[1]}"))
        with conn, server.accept()[0] as sock:
            conn.write(["one ", "two"])
            assert conn.closewrite()
            assert in_thread(ask, sock, b"three") == b"one two"
            assert conn.read(5, WITHIN) == (b"three", None)
            sock.shutdown(socket.SHUT_WR)
            assert conn.read(1, WITHIN) == (None, errno.EOF)


@pytest.mark.parametrize("version", VERSIONS)
def test_tls_ends_by_a_close_notify(version: ssl.TLSVersion) -> None:
    """TCP stays open in both directions; Python's ``ssl`` goes on sending in TLS 1.2 too."""
    seen: list[Any] = []

    def serve(conn: Any) -> None:
        with conn:
            seen.append(conn.read(5, WITHIN))
            seen.append((conn.write("answer"), conn.closewrite(), conn.write("x")))
            seen.append(conn.read(5, WITHIN))
            seen.append((conn.isalive(), conn.readsome(timeout=WITHIN), conn.isalive()))

    def client() -> tuple[bytes, bool]:
        with (
            socket.create_connection(("127.0.0.1", listener.port), 10) as raw,
            python_context(version).wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
        ):
            sock.sendall(b"hello")
            got = ask(sock, b"after")
            ended = bool(select.select([sock], [], [], 0)[0])  # a FIN would be readable
            sock.unwrap()
            return got, ended

    with listening(serve) as listener:
        assert in_thread(client) == (b"answer", False)
        until(lambda: len(seen) == 4)
    assert seen[:3] == [(b"hello", None), ((True, None), (True, None), (False, errno.CLOSED)), (b"after", None)]
    assert seen[3][1:] == ((None, errno.EOF), False)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tls_peer_that_ends_at_once(version: ssl.TLSVersion) -> None:
    """As TLS 1.2 demands: its close_notify is a proper end."""
    ends: list[Any] = []

    def serve(conn: Any) -> None:
        with conn:
            conn.write("answer")
            conn.closewrite()
            ends.append(conn.read(1, WITHIN))

    def client() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", listener.port), 10) as raw,
            python_context(version).wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
        ):
            got = b""
            while piece := sock.recv(100):
                got += piece
            sock.unwrap()
            return got

    with listening(serve) as listener:
        assert in_thread(client) == b"answer"
        until(lambda: ends)
    assert ends == [(None, errno.EOF)]


def test_close_after_it_awaits_the_tickets(debugged: list[str]) -> None:
    """The server's tickets (TLS 1.3) come later. At a closed socket they would cause a reset, which may destroy the data. No
    second close_notify is made."""
    accepted = channel.new()
    with listening(accepted.push) as listener:
        conn = connect(listener)
        assert conn._stream._tickets_due
        conn.write("data")
        assert conn.closewrite()
        conn.close()
        turns()
        assert conn._stream.sock is not None
        with accepted.pop()[0] as peer:
            assert peer.read(4, WITHIN) == (b"data", None)
            assert peer.read(1, WITHIN) == (None, errno.EOF)
        until(lambda: conn._stream.sock is None)
    assert [line for line in debugged if "close_notify" in line] == []


@pytest.mark.parametrize("make", [victim, client_victim])
def test_key_updates_after_it(make: Any) -> None:
    """OpenSSL wants to answer them, and no more can be sent. Nothing breaks."""
    with make() as (conn, forger):
        conn.write("last")
        assert conn.closewrite()
        assert forger.read(4) == b"last"
        for number in range(10):
            forger.raw.send(forger.record(KEY_UPDATE_REQUESTED, HANDSHAKE))
            forger.next_key()
            forger.put(b"%d" % number)
            assert conn.read(1, WITHIN) == (b"%d" % number, None)
        assert conn.isalive()
        assert conn.unsentbytes() == 0
        forger.put(CLOSE_NOTIFY, ALERT)
        assert conn.read(1, WITHIN) == (None, errno.EOF)


def test_invalid_tls_after_it(logs: Any) -> None:
    logs.expect(r"INFO tls: 127\.0\.0\.1:\d+: TLS: ")
    with victim() as (conn, forger):
        assert conn.closewrite()
        forger.raw.send(forger.record(b"\x02\x28", ALERT))
        assert conn.read(1, WITHIN) == (None, errno.TLS)
        assert not conn.isalive()
        assert conn.write("x") == (False, errno.TLS)


def test_tcp_ends_without_a_close_notify_after_it() -> None:
    with victim() as (conn, forger):
        assert conn.closewrite()
        forger.put(b"cut")
        forger.raw.conn.close()
        assert conn.read(4, WITHIN) == (None, errno.TLS)
        assert conn.read(3) == (b"cut", None)
