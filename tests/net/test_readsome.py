"""``conn.readsome``: what is there, at least one byte. ``check_stream`` has what it shares with ``read``."""

from __future__ import annotations

import socket
import ssl
from itertools import pairwise
from typing import Any

import pytest

from silly import check, errno, task, time
from silly._core import scheduler
from silly.net import tcp
from silly.sync import channel

from ..children import in_thread
from .check_stream import KIB, Pair
from .support import Job, until
from .tls_support import listening, python_context

WITHIN = 10_000


def test_what_is_there(any_pair: Pair) -> None:
    conn, peer = any_pair()
    peer.write("hello world")
    until(lambda: conn.unreadbytes() == 11)
    turned = scheduler.loop.turns
    assert conn.readsome(5) == (b"hello", None)
    assert conn.readsome(100, timeout=0) == (b" world", None)
    assert scheduler.loop.turns == turned, "it waits only if nothing is there"
    peer.write("more")
    until(lambda: conn.unreadbytes() == 4)
    assert conn.readsome() == (b"more", None)
    assert conn.readsome(timeout=1) == (None, errno.TIMEDOUT)


def test_it_waits_for_one_byte(any_pair: Pair) -> None:
    conn, peer = any_pair()
    for most, first, rest in ((None, b"ab", b""), (2, b"ab", b""), (1, b"a", b"b")):
        job = Job(lambda most=most: conn.readsome(most)).blocked()  # type: ignore[misc]
        peer.write("ab")
        assert job.result() == (first, None)
        assert conn.unreadbytes() == len(rest)
        assert not rest or conn.readsome() == (rest, None)


def test_every_byte_by_itself(any_pair: Pair) -> None:
    """Whatever the pieces are, nothing is lost, and nothing is empty."""
    conn, peer = any_pair()
    sent = bytes(range(256))

    def send() -> None:
        for at in range(256):
            peer.write(sent[at : at + 1])
            time.sleep(0)
        peer.close()

    sending = Job(send)
    got = []
    while (piece := conn.readsome(7, WITHIN)[0]) is not None:
        assert 1 <= len(piece) <= 7
        got.append(piece)
    assert b"".join(got) == sent
    sending.result()


def test_with_the_other_reads(any_pair: Pair) -> None:
    conn, peer = any_pair()
    peer.write("a line\nrest")
    assert conn.read("\n") == (b"a line\n", None)
    assert conn.readsome(2) == (b"re", None)
    assert conn.read(2) == (b"st", None)
    peer.write("xy")
    assert task.select(conn, timeout=WITHIN) == (conn, None)
    assert conn.readsome() == (b"xy", None)
    assert conn.read(5, 1) == (None, errno.TIMEDOUT)
    peer.write("z")
    assert conn.readsome() == (b"z", None)


def test_the_end(any_pair: Pair) -> None:
    conn, peer = any_pair()
    peer.write("last")
    peer.close()
    until(lambda: not conn.isalive())
    assert conn.readsome(3) == (b"las", None)
    assert conn.readsome() == (b"t", None)
    assert conn.readsome() == (None, errno.EOF)
    conn.close()
    assert conn.readsome() == (None, errno.CLOSED)


def test_the_end_while_it_waits(any_pair: Pair) -> None:
    for end in ("peer", "here"):
        conn, peer = any_pair()
        job = Job(conn.readsome).blocked()
        (peer if end == "peer" else conn).close()
        assert job.result() == (None, errno.EOF if end == "peer" else errno.CLOSED)


def test_deadlines_and_cancels(any_pair: Pair) -> None:
    conn, peer = any_pair()
    with time.deadline(1):
        assert conn.readsome() == (None, errno.TIMEDOUT)
    job = task.fork(conn.readsome)
    time.sleep(0)
    job.cancel()
    assert job.join()[0] is None
    Job(conn.readsome).blocked().kill()
    assert conn._stream._reader is None
    peer.write("x")
    assert conn.readsome(timeout=WITHIN) == (b"x", None)


def test_a_second_reader(any_pair: Pair) -> None:
    conn, peer = any_pair()
    reading = Job(conn.readsome).blocked()
    for call in (conn.readsome, lambda: conn.read(1)):
        with pytest.raises(RuntimeError, match="another task is already reading"):
            call()
    peer.write("ab")
    assert reading.result() == (b"ab", None)
    reading = Job(lambda: conn.read(4)).blocked()
    peer.write("ab")
    until(lambda: conn.unreadbytes() == 2)
    with pytest.raises(RuntimeError, match="another task is already reading"):
        conn.readsome()
    peer.write("cd")
    assert reading.result() == (b"abcd", None)


def test_many_calls_let_others_run(any_pair: Pair) -> None:
    conn, peer = any_pair()
    conn.limit(64 * KIB)
    peer.write(b"x" * 3000)
    until(lambda: conn.unreadbytes() == 3000)
    read = 0
    steps = []

    def watch() -> None:
        while read < 3000:
            steps.append(read)
            time.sleep(0)

    watching = Job(watch)
    for _ in range(3000):
        assert conn.readsome(1)[1] is None
        read += 1
    watching.result()
    assert max(after - before for before, after in pairwise(steps)) <= 64


def test_much_data(any_pair: Pair) -> None:
    """More than any buffer: it comes whole, and each piece is bounded."""
    conn, peer = any_pair()
    sent = bytes(range(256)) * 4 * KIB
    job = Job(lambda: (peer.write(sent), peer.close()))
    got = []
    while (piece := conn.readsome(timeout=WITHIN)[0]) is not None:
        assert len(piece) <= 128 * KIB
        got.append(piece)
    assert b"".join(got) == sent
    job.result()


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        ((0,), ValueError, "conn.readsome: max, in bytes, is an int from 1 to"),
        ((-1,), ValueError, "conn.readsome: max"),
        ((2**63,), ValueError, "conn.readsome: max"),
        ((True,), ValueError, "conn.readsome: max"),
        (("\n",), ValueError, "conn.readsome: max"),
        ((1, -1), ValueError, "time-out"),
        ((None, "1"), TypeError, "time-out"),
    ],
)
def test_bad_arguments(args: Any, kind: type[Exception], text: str) -> None:
    """Data or not, the answer is the same, and nothing is taken."""
    accepted = channel.new()
    with check(tcp.listen("127.0.0.1:0", accepted.push)) as listener, check(tcp.connect(listener.addr)) as conn:
        for _ in range(2):
            with pytest.raises(kind, match=text):
                conn.readsome(*args)
            conn._stream.buf += b"x"
        assert conn.unreadbytes() == 2
        assert conn.readsome(1) == (b"x", None)
        accepted.pop()[0].close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pythons_ssl(version: ssl.TLSVersion) -> None:
    """A relay: what comes goes back, piece by piece."""

    def relay(conn: Any) -> None:
        with conn:
            while (piece := conn.readsome(timeout=WITHIN)[0]) is not None:
                conn.write(piece)

    def client() -> str | None:
        with (
            socket.create_connection(("127.0.0.1", listener.port), 10) as raw,
            python_context(version).wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            sent = bytes(range(256)) * 200
            for at in (0, 1, 3, 100, 20_000):
                sock.sendall(sent[:at])
                got = b""
                while len(got) < at:
                    got += sock.recv(at)
                assert got == sent[:at]
            seen = sock.version()
            sock.unwrap()  # waits for the relay's end
            return seen

    with listening(relay) as listener:
        assert in_thread(client) == version.name.replace("_", ".")
