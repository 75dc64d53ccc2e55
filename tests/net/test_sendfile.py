"""Files on byte streams: ``Stream.sendfile`` on tcp, Unix domain sockets and TLS."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from errno import EINVAL, EIO
from itertools import pairwise
from typing import Any

import pytest

import silly
from silly import errno, task, time
from silly._core import scheduler
from silly._wire.lines import take
from silly.net import _stream
from silly.sync import channel

from . import check_stream
from .support import Job, turns, until
from .test_stream_tls import TlsTransport

KIB = 1024
MIB = 1024 * 1024
BIG = 20 * MIB

Pair = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the file holds: no two of its lines are the same."""
    data = b"".join(b"%015d\n" % number for number in range(BIG // 16))
    (tmp_path_factory.getbasetemp() / "big").write_bytes(data)
    return data


@pytest.fixture
def file(big: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A descriptor of the big file."""
    fd = os.open(tmp_path_factory.getbasetemp() / "big", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A descriptor of a file of 4 MiB of its own, to read and write."""
    path = tmp_path_factory.mktemp("files") / "small"
    path.write_bytes(b"0123456789abcdef" * (4 * MIB // 16))
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture(params=["tcp", "accepted", "unix", "tls", "tls accepted"])
def transport(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "unix":
        unix = check_stream.UnixTransport()
        unix.addr = f"unix:{tmp_path_factory.mktemp('unix')}/s"
        return unix
    kind = TlsTransport if request.param.startswith("tls") else check_stream.Transport
    return kind("127.0.0.1:0", swapped=request.param.endswith("accepted"))


@pytest.fixture
def plain_transport() -> Any:
    return check_stream.Transport("127.0.0.1:0")


def _pairs(transport: Any) -> Iterator[Pair]:
    accepted = channel.new()
    listener = transport.listen(accepted.push)
    streams = []

    def make(**limits: int) -> tuple[Any, Any]:
        client = transport.connect(listener.addr)
        server, _ = accepted.pop()
        for conn in (client, server):
            streams.append(conn._stream)
            conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, check_stream.KERNEL)
            conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, check_stream.KERNEL)
            if limits:
                conn._stream.limits = silly.Limits(**limits)
        return (server, client) if transport.swapped else (client, server)

    yield make
    listener.close()
    for stream in streams:
        stream.abort()


@pytest.fixture
def pair(transport: Any) -> Iterator[Pair]:
    """Makes a connection: the end that sends, and its peer."""
    yield from _pairs(transport)


@pytest.fixture
def plain(plain_transport: Any) -> Iterator[Pair]:
    """``pair`` where the system call serves."""
    yield from _pairs(plain_transport)


def everything(conn: Any) -> tuple[bytes, str]:
    """What arrives up to the end, and how it ended."""
    stream = conn._stream
    got = bytearray()
    while True:
        data, err = conn.read(1, 10_000)
        if data is None:
            return bytes(got), err
        got += data + take(stream.buf, len(stream.buf))


def cut(transport: Any) -> str:
    """How the end of a connection looks whose sender could not go on: TLS tells it from an ordered end."""
    return errno.TLS if isinstance(transport, TlsTransport) else errno.EOF


# ---- what arrives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB, MIB + 1, 3 * MIB + 7])
def test_a_part(pair: Pair, big: bytes, file: int, size: int) -> None:
    conn, peer = pair()
    sending = Job(lambda: (conn.write("head"), conn._stream.sendfile(file, 12345, size), conn.write("tail")))
    assert peer.read(size + 8, 10_000) == (b"head" + big[12345 : 12345 + size] + b"tail", None)
    assert sending.result() == ((True, None), None, (True, None))
    assert os.lseek(file, 0, os.SEEK_CUR) == 0  # the descriptor's owner may read on


def test_the_whole_of_a_big_file(pair: Pair, big: bytes, file: int) -> None:
    conn, peer = pair()
    sending = Job(lambda: (conn._stream.sendfile(file, 0, BIG), conn.close()))
    assert everything(peer) == (big, errno.EOF)
    assert sending.result() == (None, (True, None))


def test_one_after_the_other(pair: Pair, big: bytes, file: int) -> None:
    """Small parts, which are queued, and large ones, which are not, keep their order."""
    conn, peer = pair()
    parts = [(0, 10), (10, 200 * KIB), (7, 64 * KIB), (99, 65 * KIB), (0, 0), (1, MIB), (5, 5)]

    def send() -> list[str | None]:
        return [conn._stream.sendfile(file, offset, size) for offset, size in parts]

    sending = Job(send)
    expected = b"".join(big[offset : offset + size] for offset, size in parts)
    assert peer.read(len(expected), 10_000) == (expected, None)
    assert sending.result() == [None] * len(parts)


def test_behind_output_that_waits(pair: Pair, big: bytes, file: int) -> None:
    conn, peer = pair(unsent=4 * MIB)
    before = b"before--" * (256 * KIB)
    sending = Job(lambda: (conn.write(before), conn._stream.sendfile(file, 0, MIB)))
    assert peer.read(len(before), 10_000) == (before, None)
    assert peer.read(MIB, 10_000) == (big[:MIB], None)
    assert sending.result() == ((True, None), None)


def test_a_small_part_does_not_wait(pair: Pair, big: bytes, file: int) -> None:
    conn, peer = pair()
    before = b"x" * (512 * KIB)
    assert Job(lambda: (conn.write(before), conn._stream.sendfile(file, 0, 64 * KIB))).result() == ((True, None), None)
    assert conn.unsentbytes() > 0
    assert peer.read(len(before) + 64 * KIB, 10_000) == (before + big[: 64 * KIB], None)


def test_a_slow_reader(pair: Pair, big: bytes, file: int) -> None:
    conn, peer = pair()
    sending = Job(lambda: conn._stream.sendfile(file, 0, 6 * MIB)).blocked()
    got = bytearray()
    for size in (1, 10, 1000, 100_000, 1, MIB):
        data, err = peer.read(size, 10_000)
        assert err is None
        got += data
        turns(3)
        assert task.status(sending.task) in ("WAIT", "READY")
    assert peer.read(6 * MIB - len(got), 10_000) == (big[len(got) : 6 * MIB], None)
    assert bytes(got) == big[: len(got)]
    assert sending.result() is None


def test_both_ways_at_once(pair: Pair, big: bytes, file: int) -> None:
    ends = pair()
    sending = [Job(lambda end=end: end._stream.sendfile(file, 0, 3 * MIB)) for end in ends]
    reading = [Job(lambda end=end: end.read(3 * MIB, 10_000)) for end in ends]
    assert [job.result() for job in reading] == [(big[: 3 * MIB], None)] * 2
    assert [job.result() for job in sending] == [None, None]


def test_after_the_peer_s_data_has_ended(pair: Pair, transport: Any, big: bytes, file: int) -> None:
    conn, peer = pair()
    transport.half_close(peer)
    assert conn.read(1, 10_000) == (None, errno.EOF)
    sending = Job(lambda: conn._stream.sendfile(file, 0, 2 * MIB))
    assert peer.read(2 * MIB, 10_000) == (big[: 2 * MIB], None)
    assert sending.result() is None


# ---- what breaks it off ---------------------------------------------------------------------------------------------


def test_reset_by_the_peer(pair: Pair, transport: Any, file: int) -> None:
    conn, peer = pair()
    sending = Job(lambda: conn._stream.sendfile(file, 0, BIG)).blocked()
    transport.reset(peer)
    assert sending.result() in transport.reset_while_writing
    assert conn._stream.sendfile(file, 0, 10) is not None
    assert not conn.write("x")


def test_unnoticed_reset_by_the_peer(plain: Pair, plain_transport: Any, file: int) -> None:
    conn, peer = plain()
    plain_transport.reset(peer)
    assert conn._stream.sendfile(file, 0, BIG) == errno.CONNRESET
    assert conn.read(1, 10_000) == (None, errno.CONNRESET)


def test_closed_by_another_task(pair: Pair, big: bytes, file: int) -> None:
    conn, peer = pair()
    sending = Job(lambda: conn._stream.sendfile(file, 0, BIG)).blocked()
    assert conn.close() == (True, None)
    assert sending.result() == errno.CLOSED
    got, err = everything(peer)
    assert err == errno.EOF
    assert len(got) < BIG
    assert big.startswith(got)
    assert conn._stream.sendfile(file, 0, 1) == errno.CLOSED


def test_aborted_by_another_task(pair: Pair, file: int) -> None:
    conn, _ = pair()
    sending = Job(lambda: conn._stream.sendfile(file, 0, BIG)).blocked()
    conn._stream.abort()
    assert sending.result() == errno.CLOSED


def test_closed_while_it_lets_others_run(plain: Pair, file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    conn, _ = plain()
    monkeypatch.setattr(os, "sendfile", lambda out, fd, offset, count: count)
    sending = Job(lambda: conn._stream.sendfile(file, 0, BIG))
    task.fork(conn._stream.abort)
    assert sending.result() == errno.CLOSED


def test_deadline(pair: Pair, transport: Any, big: bytes, file: int) -> None:
    """What was queued still goes out; then nothing does, since it would be taken for the rest of the file."""
    conn, peer = pair()

    def send() -> tuple[Any, ...]:
        with time.deadline(20):
            return conn.write("head"), conn._stream.sendfile(file, 0, BIG)

    assert Job(send).result() == ((True, None), errno.TIMEDOUT)
    assert conn._stream.blocked == (conn.unsentbytes() > 0)
    assert conn.write("more") == (False, errno.TIMEDOUT)
    assert conn._stream.sendfile(file, 0, 10) == errno.TIMEDOUT
    assert not conn.isalive()
    assert conn.close() == (True, None)
    got, err = everything(peer)
    assert err == cut(transport)
    assert len(got) < BIG
    assert (b"head" + big).startswith(got)


def test_deadline_before_anything_of_the_file(pair: Pair, transport: Any, file: int) -> None:
    conn, peer = pair(unsent=4 * MIB)
    before = b"x" * (3 * MIB)

    def send() -> tuple[Any, ...]:
        with time.deadline(20):
            return conn.write(before), conn._stream.sendfile(file, 0, BIG)

    assert Job(send).result() == ((True, None), errno.TIMEDOUT)
    assert conn.close() == (True, None)
    got, err = everything(peer)
    assert err == cut(transport)
    assert got[: len(before)] == before


@pytest.mark.parametrize("by_kernel", [True, False])
def test_deadline_with_a_peer_that_keeps_up(plain: Pair, file: int, monkeypatch: pytest.MonkeyPatch, by_kernel: bool) -> None:
    conn, _ = plain()
    sent = []

    def take(*args: Any) -> int:
        if not by_kernel:
            raise OSError(EINVAL, "not from there")
        sent.append(args[3])
        return int(args[3])

    monkeypatch.setattr(os, "sendfile", take)
    monkeypatch.setattr(_stream.Stream, "write", lambda _, data: sent.append(len(data)))

    def send() -> str | None:
        with time.deadline(0):
            time.sleep(0)
            until(scheduler.expired)
            return conn._stream.sendfile(file, 0, BIG)

    assert Job(send).result() == errno.TIMEDOUT
    assert len(sent) == 1
    monkeypatch.undo()


def test_small_parts_go_out_after_a_deadline(pair: Pair, big: bytes, file: int) -> None:
    """As ``write`` does: a task whose time is over can still report that."""
    conn, peer = pair()

    def send() -> str | None:
        with time.deadline(0):
            until(scheduler.expired)
            return conn._stream.sendfile(file, 0, 10)

    assert Job(send).result() is None
    assert peer.read(10, 10_000) == (big[:10], None)


def test_a_peer_that_takes_nothing(pair: Pair, file: int) -> None:
    conn, _ = pair(write_timeout=50)
    assert Job(lambda: conn._stream.sendfile(file, 0, BIG)).result() == errno.TIMEDOUT
    assert conn._stream.sock is None
    assert conn.read(1) == (None, errno.TIMEDOUT)


def test_greenletexit(pair: Pair, transport: Any, big: bytes, file: int) -> None:
    conn, peer = pair()
    Job(lambda: conn._stream.sendfile(file, 0, BIG)).blocked().kill()
    assert conn.write("more") == (False, errno.CLOSED)
    assert conn.close() == (True, None)
    got, err = everything(peer)
    assert err == cut(transport)
    assert big.startswith(got)


def test_a_file_that_became_shorter(pair: Pair, transport: Any, small: int) -> None:
    conn, peer = pair()
    sending = Job(lambda: (conn.write("head"), conn._stream.sendfile(small, 0, 4 * MIB))).blocked()
    os.ftruncate(small, 3 * MIB)
    reading = Job(lambda: everything(peer))
    result = sending.result()
    assert result[1] == "the file ended 1.0 MB too early"
    assert conn.write("more") == (False, result[1])
    conn.close()
    got, err = reading.result()
    assert got == b"head" + (b"0123456789abcdef" * (3 * MIB // 16))
    assert err == cut(transport)


@pytest.mark.parametrize("size", [10, 100 * KIB])
def test_a_file_that_is_shorter(pair: Pair, small: int, size: int) -> None:
    conn, peer = pair()
    os.ftruncate(small, size - 1)
    assert Job(lambda: conn._stream.sendfile(small, 0, size)).result() == "the file ended 1 bytes too early"
    conn.close()
    assert len(everything(peer)[0]) == size - 1


# ---- files that sendfile(2) can't send from -------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 300 * KIB])
def test_without_the_system_call(plain: Pair, big: bytes, file: int, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    conn, peer = plain()
    real = os.sendfile

    def fails(out: int, fd: int, offset: int, count: int) -> int:
        if offset >= after:
            raise OSError(EINVAL, "not from there")
        return real(out, fd, offset, min(count, after - offset))

    monkeypatch.setattr(os, "sendfile", fails)
    sending = Job(lambda: (conn.write("head"), conn._stream.sendfile(file, 0, 3 * MIB), conn.write("tail")))
    assert peer.read(3 * MIB + 8, 10_000) == (b"head" + big[: 3 * MIB] + b"tail", None)
    assert sending.result() == ((True, None), None, (True, None))


def test_a_disk_that_fails(pair: Pair, file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> bytes:
        raise OSError(EIO, "broken")

    monkeypatch.setattr(os, "sendfile", fails)
    monkeypatch.setattr(os, "pread", fails)
    for size in (10, BIG):
        conn, _ = pair()
        assert conn._stream.sendfile(file, 0, size) == "Input/output error (5)"
        assert conn.write("more") == (False, "Input/output error (5)")


# ---- other tasks ----------------------------------------------------------------------------------------------------


def test_others_run_meanwhile(plain: Pair, file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer takes everything at once, so that nothing makes the sender wait."""
    conn, _ = plain()
    sent = 0

    def take(out: int, fd: int, offset: int, count: int) -> int:
        nonlocal sent
        sent += count
        return count

    monkeypatch.setattr(os, "sendfile", take)
    steps = []

    def watch() -> None:
        while sent < BIG:
            steps.append(sent)
            time.sleep(0)

    watching = Job(watch)
    assert Job(lambda: conn._stream.sendfile(file, 0, BIG)).result() is None
    watching.result()
    assert max(after - before for before, after in pairwise(steps)) <= MIB


def test_many_parts_let_others_run(plain: Pair, file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    conn, _ = plain()
    monkeypatch.setattr(os, "sendfile", lambda out, fd, offset, count: count)
    turns = 0
    done = False

    def watch() -> None:
        nonlocal turns
        while not done:
            turns += 1
            time.sleep(0)

    watching = Job(watch)
    assert Job(lambda: [conn._stream.sendfile(file, 0, 512 * KIB) for _ in range(20)]).result() == [None] * 20
    done = True
    watching.result()
    assert turns >= 9


@pytest.mark.parametrize("size", [10, MIB])
def test_other_tasks_may_not_write(pair: Pair, big: bytes, file: int, size: int) -> None:
    """What others try to write is refused before it is encoded, so the transfer goes on to its end, over TLS too."""
    conn, peer = pair()
    stream = conn._stream
    sending = Job(lambda: stream.sendfile(file, 0, 6 * MIB)).blocked()
    got = b""
    for intrude in (
        lambda: conn.write("x" * size),
        lambda: conn.write(["x", b"y" * size]),
        lambda: stream.writev([b"x", b"y"]),
        lambda: stream.writev([b"x" * size]),
        lambda: stream.write_nowait(b"x"),
        lambda: stream.sendfile(file, 0, size),
    ):
        with pytest.raises(RuntimeError, match="another task is sending a file on it"):
            Job(intrude).result()
        got += peer.read(100_000, 10_000)[0]  # and meanwhile it does go on
    assert task.status(sending.task) != "EXIT"
    assert peer.read(6 * MIB - len(got), 10_000) == (big[len(got) : 6 * MIB], None)
    assert big.startswith(got)
    assert sending.result() is None
    assert conn.write("tail") == (True, None)
    stream.flush()
    assert peer.read(4, 10_000) == (b"tail", None)


def test_writers_that_wait_already(plain: Pair, big: bytes, file: int) -> None:
    """Who wrote before, and waits for the kernel to take it, is before the file, and goes on."""
    conn, peer = plain(unsent=64 * KIB)
    before = b"x" * (4 * MIB)
    writing = Job(lambda: conn.write(before)).blocked()
    sending = Job(lambda: conn._stream.sendfile(file, 0, MIB)).blocked()
    assert peer.read(len(before) + MIB, 10_000) == (before + big[:MIB], None)
    assert writing.result() == (True, None)
    assert sending.result() is None


def test_the_loop_knows_that_it_goes_on(pair: Pair, file: int) -> None:
    """Nothing is queued, and yet an event of the descriptor sets a task going: the process must not end for want of any."""
    conn, _ = pair()
    sending = Job(lambda: conn._stream.sendfile(file, 0, BIG)).blocked()
    assert conn._stream.wakes()
    conn._stream.abort()
    assert sending.result() == errno.CLOSED


# ---- mistakes -------------------------------------------------------------------------------------------------------


def test_bad_arguments(pair: Pair, file: int) -> None:
    conn, peer = pair()
    for offset, size in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="sendfile needs an offset and a size"):
            conn._stream.sendfile(file, offset, size)
    conn.write("fine")
    conn._stream.flush()
    assert peer.read(4, 10_000) == (b"fine", None)
    assert conn._stream.sendfile(9999, 0, 10) == errno.BADF


def test_in_a_callback_of_the_loop(plain: Pair, file: int, logs: Any) -> None:
    conn, peer = plain()
    logs.expect("stream.sendfile: no task runs in a callback of the loop")
    scheduler.loop.post(conn._stream.sendfile, file, 0, 10)
    turns()
    conn.write("fine")
    conn._stream.flush()
    assert peer.read(4, 10_000) == (b"fine", None)
