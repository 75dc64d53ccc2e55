"""The loop sleeps while nothing happens: a descriptor in a dead state is not reported for ever."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from silly import errno, time
from silly._core import scheduler
from silly.net import tcp
from silly.sync import channel

from .support import Job, never_answers, reset_on_close, turns, until

QUIET = 10
"""Turns that a wait of 50 ms may take: one, and a few for what was still under way. A loop that spins takes thousands."""


def quiet() -> bool:
    """Whether the loop sleeps."""
    turns()
    before = scheduler.loop.turns
    time.sleep(50)
    return scheduler.loop.turns - before <= QUIET


@pytest.fixture
def conn() -> Iterator[Any]:
    """A connection, and the raw socket of its peer."""
    accepted = channel.new()
    listener, _ = tcp.listen("127.0.0.1:0", accepted.push)
    raw = socket.create_connection(("127.0.0.1", listener.port))
    found, _ = accepted.pop()
    yield found, raw
    raw.close()
    found._stream.abort()
    listener.close()


def test_idle(conn: Any) -> None:
    assert quiet()
    assert conn[0].isalive()


def test_half_closed_peer(conn: Any) -> None:
    conn, raw = conn
    raw.sendall(b"abc")
    raw.shutdown(socket.SHUT_WR)
    until(lambda: not conn.isalive())
    assert quiet()
    assert conn.read(4) == (None, errno.EOF)
    assert quiet()
    assert conn.write("still")
    assert raw.recv(5) == b"still"
    assert quiet()


def test_half_closed_peer_that_then_resets(conn: Any) -> None:
    conn, raw = conn
    raw.shutdown(socket.SHUT_WR)
    until(lambda: not conn.isalive())
    reset_on_close(raw)
    raw.close()
    assert quiet()
    ok, err = conn.write("x")
    assert not ok
    assert err in (errno.CONNRESET, errno.PIPE)
    assert quiet()


def test_paused(conn: Any) -> None:
    conn, raw = conn
    raw.setblocking(False)
    sent = 0
    try:
        while True:
            sent += raw.send(b"x" * 65536)
            turns(1)
    except BlockingIOError:
        pass
    assert conn.unreadbytes() < sent
    assert quiet()


def test_paused_peer_that_resets(conn: Any) -> None:
    conn, raw = conn
    conn.limit(1)
    raw.sendall(b"x")
    until(conn.unreadbytes)
    reset_on_close(raw)
    raw.close()
    assert quiet()
    assert conn.isalive()
    assert conn.read(2) == (None, errno.CONNRESET)
    assert quiet()


def test_paused_peer_that_closes(conn: Any) -> None:
    conn, raw = conn
    conn.limit(1)
    raw.sendall(b"x")
    until(conn.unreadbytes)
    raw.close()
    assert quiet()
    assert conn.read(2) == (None, errno.EOF)


def test_closed_by_the_peer_and_never_read(conn: Any) -> None:
    conn, raw = conn
    raw.sendall(b"unread")
    raw.close()
    assert quiet()
    assert not conn.isalive()
    assert conn.unreadbytes() == 6


def test_reset_and_never_read(conn: Any) -> None:
    conn, raw = conn
    reset_on_close(raw)
    raw.close()
    assert quiet()
    assert not conn.isalive()


def test_blocked_writer(conn: Any) -> None:
    conn, _ = conn
    writing = Job(lambda: conn.write(b"x" * 20_000_000)).blocked()
    assert quiet()
    conn._stream.abort()
    assert writing.result() == (False, errno.CLOSED)


def test_blocked_writer_with_a_half_closed_peer(conn: Any) -> None:
    conn, raw = conn
    writing = Job(lambda: conn.write(b"x" * 20_000_000)).blocked()
    raw.shutdown(socket.SHUT_WR)
    until(lambda: not conn.isalive())
    assert quiet()
    reset_on_close(raw)
    raw.close()
    ok, err = writing.result()
    assert not ok
    assert err in (errno.CONNRESET, errno.PIPE)


def test_written_and_quiet_again(conn: Any) -> None:
    """Interest in writing ends with the output."""
    conn, raw = conn
    raw.setblocking(False)
    writing = Job(lambda: conn.write(b"x" * 20_000_000)).blocked()
    left = 20_000_000
    while left:
        try:
            left -= len(raw.recv(1 << 20))
        except BlockingIOError:
            turns(1)
    assert writing.result() == (True, None)
    assert quiet()


def test_closed_and_lingering_for_a_slow_peer(conn: Any) -> None:
    conn, raw = conn
    Job(lambda: conn.write(b"x" * 20_000_000)).blocked()
    conn.close()
    assert quiet()
    raw.shutdown(socket.SHUT_WR)
    assert quiet()


def test_closed_and_waiting_for_the_end_of_the_peer(conn: Any) -> None:
    conn, raw = conn
    raw.sendall(b"unread")
    until(conn.unreadbytes)
    conn.write("answer")
    conn.close()
    assert quiet()
    raw.sendall(b"more")
    assert quiet()
    assert conn._stream.sock is not None
    raw.shutdown(socket.SHUT_WR)
    assert quiet()
    assert conn._stream.sock is None


def test_connecting() -> None:
    with never_answers() as (host, port):
        connecting = Job(lambda: tcp.connect(f"{host}:{port}", timeout=200)).blocked()
        assert quiet()
        assert connecting.result() == (None, errno.TIMEDOUT)
