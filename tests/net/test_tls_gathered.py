"""What a turn writes over TLS is gathered and sealed once: in order with all else that touches OpenSSL, and never sent before
it is sealed, nor twice, whatever happens between."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from silly import errno
from silly._core.loop import READ
from silly.net import _output, _tls_pipe, tls
from silly.sync import channel

from ..helpers import WITHIN, Raw, joined, spawn, turn
from .support import Job, until
from .test_tls_abuse import client_victim, victim
from .test_tls_pipe import lengths
from .tls_recorder import RecordedStream
from .tls_records import ALERT, CLOSE_NOTIFY, HANDSHAKE, KEY_UPDATE_REQUESTED, Forger
from .tls_support import listening

MIB = 1 << 20
EXTRA = 22
"""Bytes that a record adds to its data."""


def raw_records(forger: Forger) -> bytes:
    """What has come, as it is on the connection."""
    until(forger.raw.conn.unreadbytes)
    turn(3)
    data, err = forger.raw.conn.read(forger.raw.conn.unreadbytes())
    assert err is None
    return data


def test_a_turn_s_writes_are_one_record() -> None:
    with victim() as (conn, forger):

        def write() -> int:
            for number in range(50):
                assert conn.write(b"%02d" % number) == (True, None)
            assert conn._stream.write_nowait(b"pong") is None
            assert conn._stream.writev([b"two ", b"pieces"]) is None
            unsent: int = conn.unsentbytes()
            return unsent

        assert joined(spawn(write)) == 114
        records = raw_records(forger)
        assert [length - 17 for length in lengths(records)] == [114]
        forger.ssl.bio_write(records)
        assert forger.read(114) == b"".join(b"%02d" % number for number in range(50)) + b"pongtwo pieces"
        assert conn.unsentbytes() == 0


def test_writes_are_queued_as_over_tcp() -> None:
    """By ``try_queue``, which counts them; with the same obstacles."""
    with victim() as (conn, forger):
        stream = conn._stream

        def write() -> None:
            before = stream.queued
            assert stream.try_queue(b"one")
            assert conn.write("two") == (True, None)
            assert stream.queued == before + 2
            assert (stream._gathered, stream._out) == ([b"one", b"two"], [])

        joined(spawn(write))
        assert forger.read(6) == b"onetwo"


ACTIONS: dict[str, Callable[[Any], object]] = {
    "a write that waits": lambda stream: stream.write(b"x" * 100_000),
    "pieces": lambda stream: stream.writev([b"x" * 10, b"x" * 99_990]),
    "a control frame": lambda stream: stream.write_nowait(b"x" * 100_000),
    "what was written is counted": lambda stream: (stream.written(), stream.write(b"x" * 100_000)),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_what_follows_what_is_gathered(name: str) -> None:
    with victim() as (conn, forger):

        def write() -> None:
            assert conn.write("gathered") == (True, None)
            ACTIONS[name](conn._stream)

        writing = spawn(write)
        assert forger.read(100_008) == b"gathered" + b"x" * 100_000
        joined(writing)


@pytest.mark.parametrize("size", [10, 65_536, 300_000])
def test_a_file_follows(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with victim() as (conn, forger):

            def write() -> str | None:
                conn.write("before")
                err: str | None = conn._stream.sendfile(fd, 0, size)
                conn.write("behind")
                return err

            writing = spawn(write)
            assert forger.read(size + 12) == b"before" + content + b"behind"
            assert joined(writing) is None
    finally:
        os.close(fd)


def test_the_answer_to_a_key_update() -> None:
    """OpenSSL makes it while data waits for being sealed: the records go out in the order in which they were made."""
    with victim() as (conn, forger):
        stream = conn._stream
        for number in range(3):
            received = stream.received
            update = forger.record(KEY_UPDATE_REQUESTED, HANDSHAKE)
            forger.next_key()

            def write(number: int = number, update: bytes = update, received: int = received) -> None:
                conn.write(b"before %d" % number)
                forger.raw.send(update)
                until(lambda: stream.received != received)
                conn.write(b"behind %d" % number)

            joined(spawn(write))
            assert forger.read(16) == b"before %dbehind %d" % (number, number)


def test_the_answer_to_a_key_update_in_the_same_turn() -> None:
    """Between two writes of one task, without a flush."""
    with victim() as (conn, forger):
        stream = conn._stream
        for number in range(3):
            update = forger.record(KEY_UPDATE_REQUESTED, HANDSHAKE)
            forger.next_key()

            def write(number: int = number, update: bytes = update) -> None:
                received = stream.received
                conn.write(b"before %d" % number)
                forger.raw.conn._stream.sock.send(update)
                select.select([stream.sock], [], [], WITHIN / 1000)
                stream.on_event(READ)
                assert stream.received > received
                assert stream._gathered == [b"before %d" % number]
                conn.write(b"behind %d" % number)

            joined(spawn(write))
            assert forger.read(16) == b"before %dbehind %d" % (number, number)


@pytest.mark.parametrize("end", ["close", "hang_up", "say_goodbye"])
def test_the_end_follows(end: str) -> None:
    with victim() as (conn, forger):
        stream = conn._stream

        def write() -> None:
            conn.write("last")
            if end == "say_goodbye":
                stream.goodbye = b" words"
                stream.say_goodbye()
                stream.close()
            else:
                getattr(stream, end)()

        joined(spawn(write))
        expected = b"last words" if end == "say_goodbye" else b"last"
        assert forger.read(len(expected)) == expected
        with pytest.raises(SSL.ZeroReturnError):
            forger.read(1)
        forger.raw.eof()


@pytest.mark.parametrize("end", ["abort", "reset"])
def test_an_abort_drops_it(end: str) -> None:
    """Nothing of it leaves, sealed or not, and nothing is held."""
    with victim() as (conn, forger):
        stream = conn._stream

        def write() -> None:
            conn.write("secret")
            getattr(stream, end)()
            assert (stream._gathered, stream._out, stream.unsent) == ([], [], 0)
            assert stream.pipe.sealed == 0

        joined(spawn(write))
        data, err = forger.raw.conn.read(1, WITHIN)
        assert data is None
        assert err in (errno.EOF, errno.CONNRESET)


def test_a_reset_between_a_write_and_the_flush() -> None:
    """The next write says so, or the next read, as over TCP."""
    with victim() as (conn, forger):
        stream = conn._stream

        def write() -> None:
            assert conn.write("gathered") == (True, None)
            forger.raw.conn._stream.reset()

        job = Job(lambda: conn.read(1))
        turn()
        joined(spawn(write))
        err = job.result()[1]
        assert err in (errno.CONNRESET, errno.PIPE)
        assert conn.write("x") == (False, err)
        assert (stream._gathered, stream._out, stream.unsent) == ([], [], 0)


@pytest.mark.parametrize("size", [5, 20_000])
def test_sealing_fails_at_the_flush(size: int, logs: Any) -> None:
    """The write has succeeded; what comes next says so. Nothing is sealed again."""
    logs.expect("INFO tls: .*: TLS: ")
    with victim() as (conn, _):
        stream = conn._stream
        reading = Job(lambda: conn.read(1))
        turn()

        def write() -> None:
            assert conn.write(b"x" * size) == (True, None)
            stream.ssl.shutdown()

        joined(spawn(write))
        assert reading.result() == (None, errno.TLS)
        assert conn.write("x") == (False, errno.TLS)
        assert (stream._gathered, stream._out, stream.unsent, stream.pipe.sealed) == ([], [], 0, 0)
    assert len(logs.lines) == 1


def test_sealing_fails_at_close(logs: Any) -> None:
    logs.expect("INFO tls: .*: TLS: ")
    with victim() as (conn, _):
        stream = conn._stream

        def write() -> None:
            assert conn.write(b"x") == (True, None)
            stream.ssl.shutdown()
            assert conn.close() == (True, None)

        joined(spawn(write))
        assert stream.sock is None
        assert conn.close() == (False, errno.CLOSED)


@pytest.mark.parametrize("failure", [MemoryError(), KeyboardInterrupt("not by this"), ZeroDivisionError()])
def test_sealing_is_interrupted(failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data may be missing then, which the peer could not see: nothing more is sent."""
    with victim() as (conn, _):
        stream = conn._stream

        class Failing:
            sealed = 0
            partial = 0

            def seal(self, pieces: list[Any]) -> bytes:
                pieces.clear()
                raise failure

        stream.pipe = Failing()

        def write() -> None:
            assert conn.write(b"x" * 10) == (True, None)
            with pytest.raises(type(failure)):
                stream.flush()
            assert stream.sock is None
            assert conn.write("x") == (False, errno.NOMEM if isinstance(failure, MemoryError) else errno.TLS)

        joined(spawn(write))


def test_output_that_is_blocked_is_sealed_when_it_can_go() -> None:
    """Only about 64 KiB of it are ciphertext, so what waits takes its memory once. Nothing is lost or exchanged."""
    with victim() as (conn, forger):
        stream = conn._stream
        data = os.urandom(16 * MIB)
        writing = Job(lambda: conn.write(data)).blocked()
        assert stream.blocked
        assert sum(map(len, stream._out)) < _tls_pipe.PIECE + 20_000
        assert stream.unsent == sum(map(len, stream._out)) + sum(map(len, stream._gathered)) > 2 * MIB
        assert stream.write_nowait(b"pong") is None
        assert stream._gathered[-1] == b"pong"
        closing = Job(lambda: (writing.result(), conn.write("last"), conn.close()))
        assert forger.read(len(data) + 8) == data + b"ponglast"
        assert closing.result() == ((True, None), (True, None), (True, None))
        with pytest.raises(SSL.ZeroReturnError):
            forger.read(1)


def test_close_while_output_is_blocked() -> None:
    """All is sealed then, for the close_notify."""
    with victim() as (conn, forger):
        data = os.urandom(16 * MIB)
        writing = Job(lambda: conn.write(data)).blocked()
        conn.close()
        assert (conn._stream._gathered, conn._stream.blocked) == ([], True)
        assert writing.result() == (False, errno.CLOSED)
        assert forger.read(len(data)) == data
        with pytest.raises(SSL.ZeroReturnError):
            forger.read(1)


def test_the_limit_of_unsent_bytes() -> None:
    """A writer waits past it, and goes on at a quarter, though most of it isn't sealed."""
    with victim() as (conn, forger):
        stream = conn._stream
        writing = Job(lambda: conn.write(b"x" * 16 * MIB)).blocked()
        assert stream.unsent > stream.limits.unsent
        read = 0
        while stream.unsent > stream.limits.unsent // 4:
            read += len(forger.read(100_000))
            turn()
        assert writing.result() == (True, None)
        forger.read(16 * MIB - read)


def test_a_client_that_wrote_waits_for_tickets() -> None:
    """Also if what it wrote was not sealed yet."""
    with client_victim() as (conn, forger):
        stream = conn._stream

        def write() -> None:
            conn.write("data")
            conn.close()
            assert stream._fragile

        joined(spawn(write))
        assert forger.read(4) == b"data"


def test_the_peer_s_end_while_data_is_gathered() -> None:
    """What was written still reaches a peer that sends no more."""
    with victim() as (conn, forger):
        forger.raw.send(forger.record(CLOSE_NOTIFY, ALERT))
        assert conn.read(1, WITHIN) == (None, errno.EOF)
        joined(spawn(lambda: [conn.write("a"), conn.write("b")]))
        assert forger.read(2) == b"ab"


def test_bytes_on_the_connection_are_counted() -> None:
    """Also while some are not sealed: asking seals them."""
    with victim() as (conn, forger):
        stream = conn._stream
        before = stream.written()

        def write() -> list[int]:
            counts = [stream.written() - before]
            for data in ("a", "b"):
                conn.write(data)
            counts.append(stream.unsent)
            counts.append(stream.written() - before)
            conn.write("c")
            counts.append(stream.written() - before)
            return counts

        assert joined(spawn(write)) == [0, 2, 2 + EXTRA, 3 + 2 * EXTRA]
        assert forger.read(3) == b"abc"
        assert stream.written() - before == 3 + 2 * EXTRA


def test_the_main_program_s_write_goes_at_once() -> None:
    with victim() as (conn, forger):
        conn.write("now")
        assert conn.unsentbytes() == 0
        assert forger.read(3) == b"now"


# ---- the recorder sees plaintext, whichever way it would take -----------------------------------------------------------


@pytest.fixture
def leaks() -> Iterator[list[str]]:
    """What the recorder has found: it must be something."""
    yield RecordedStream.wrong
    assert RecordedStream.wrong, "a leak was not seen"
    RecordedStream.wrong.clear()


class Leaking:
    """A ``Pipe`` that doesn't seal: what it returns goes out by C's ``flush``, or by ``_transmit``."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self.sealed = 0

    def seal(self, pieces: list[Any]) -> bytes:
        data = b"".join(pieces)
        pieces.clear()
        self.sealed += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


@pytest.mark.parametrize("size", [1, 100, 20_000, 100_000])
def test_a_leak_by_flush_or_transmit_is_seen(size: int, leaks: list[str]) -> None:
    with victim() as (conn, _):
        conn._stream.pipe = Leaking(conn._stream.pipe)
        joined(spawn(lambda: conn.write(b"GET / HTTP/1.1\r\n"[:1] + b"x" * (size - 1))))
        until(lambda: leaks)
        conn._stream.abort()


def test_a_leak_by_sendmsg_is_seen(leaks: list[str]) -> None:
    with victim() as (conn, _):
        stream = conn._stream
        stream._out.extend([b"x" * 50_000, b"y" * 50_000])
        stream.unsent += 100_000
        stream._transmit()
        stream.abort()


def test_a_leak_by_sendfile_is_seen(leaks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with victim() as (conn, _):
            monkeypatch.setattr(tls.TlsStream, "plain", True)
            joined(spawn(lambda: conn._stream.sendfile(fd, 0, 100_000)))
            conn._stream.abort()
    finally:
        os.close(fd)
    assert _output.GATHER < 100_000


def test_the_answer_to_a_renegotiation_after_a_file_failed(tmp_path: Path) -> None:
    """The peer could not decrypt what waits without the alert that OpenSSL has made before. (Its OpenSSL ends there.)"""
    (tmp_path / "file").write_bytes(b"short")
    conns = channel.new()

    def accept(conn: Any) -> None:
        conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        conns.push((conn,))
        conn.read(1)

    with listening(accept) as listener, Raw.connect(listener) as raw, open(tmp_path / "file", "rb") as file:
        forger = Forger(raw, version=SSL.TLS1_2_VERSION).shake_hands()
        (conn,), _ = conns.pop()
        stream = conn._stream
        raw.conn._stream.set_mark(1)
        assert joined(spawn(lambda: conn.write(b"x" * MIB))) == (True, None)
        assert joined(spawn(lambda: stream.sendfile(file.fileno(), 0, 10))) == "the file ended 5 bytes too early"
        assert stream.blocked
        assert stream._gathered
        received = stream.received
        forger.ssl.renegotiate()
        with pytest.raises(SSL.WantReadError):
            forger.ssl.do_handshake()
        raw.send(forger.output())
        until(lambda: stream.received != received)
        raw.conn._stream.set_mark(MIB)
        assert "no renegotiation" in forger.failure()
