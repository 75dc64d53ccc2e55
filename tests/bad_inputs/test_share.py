"""A few bytes on the wire can be much work: after a share of it, counted in bytes, other tasks and I/O go first."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from silly import Limits, errno, time
from silly._wire import content, deflate
from silly._wire.deflate import SHARE
from silly.net import tcp
from silly.net.tcp import BURST, STEP
from silly.net.websocket import _unread

from ..helpers import BINARY, CONTINUATION, FIN, TEXT, Peer, joined, spawn, turn
from .support import DEFLATE, KIB, MIB, SHORT, TCP, Memory, Role, Told, Way, both_roles, both_transports, origin, read
from .test_deflate import RSV1, bomb, deflated
from .test_http_client_bombs import coded, response

WORK = 0
"""Bytes that zlib gave or took in all."""


class Inflating:
    """zlib's decompressor, which counts."""

    def __init__(self, *args: Any) -> None:
        global WORK
        WORK += 256
        self._stream = zlib.decompressobj(*args)

    def decompress(self, data: bytes, most: int) -> bytes:
        global WORK
        out = self._stream.decompress(data, most)
        WORK += len(out)
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Deflating:
    """zlib's compressor, which counts."""

    def __init__(self, *args: Any) -> None:
        self._stream = zlib.compressobj(*args)

    def compress(self, data: bytes) -> bytes:
        global WORK
        WORK += len(data)
        return self._stream.compress(data)

    def flush(self, mode: int) -> bytes:
        return self._stream.flush(mode)


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    global WORK
    WORK = 0
    for module in (deflate, content):
        names = SimpleNamespace(**{**vars(zlib), "decompressobj": Inflating, "compressobj": Deflating})
        monkeypatch.setattr(module, "zlib", names)


class Watch:
    """The most that ``count()`` grew between two turns of another task. At the end it must have grown by ``least``."""

    longest = 0

    def __init__(self, count: Callable[[], int]) -> None:
        self.count = count
        self.running = True

    def __call__(self) -> None:
        while self.running:
            before = self.count()
            time.sleep(0)
            self.longest = max(self.longest, self.count() - before)


@contextmanager
def watched(least: int, most: int, count: Callable[[], int] = lambda: WORK) -> Iterator[None]:
    begin = count()
    watch = Watch(count)
    watching = spawn(watch)
    try:
        yield
    finally:
        watch.running = False
        joined(watching)
    assert count() - begin >= least
    assert 0 < watch.longest <= most


LEAST = 16 * MIB
MOST = 3 * SHARE
"""What may be inflated in a row: a share, and a last step or a short message of half a megabyte."""


def sixteen(peer: Any) -> bytes:
    """16 messages of 1 MiB, each a KiB on the wire."""
    return bytes(peer.frame(FIN | RSV1 | BINARY, bomb(MIB)) * 16)


@both_transports
@both_roles
def test_messages_of_a_mebibyte_do_not_hold_the_loop(role: Role, way: Way) -> None:
    with role(way, SHORT, DEFLATE, compression=True) as (sock, peer), watched(LEAST, MOST):
        peer.send(sixteen(peer))
        for _ in range(16):
            assert read(sock)[0] == bytes(MIB)


@both_roles
@pytest.mark.parametrize("kind", [BINARY, TEXT])
@pytest.mark.parametrize("fragments", [1, 20])
def test_one_large_message(fragments: int, kind: int, role: Role) -> None:
    with role(TCP, {**SHORT, "message": 16 * MIB}, DEFLATE, compression=True) as (sock, peer):
        wire = bomb(16 * MIB)
        size = -(-len(wire) // fragments)
        frames = [
            peer.frame((CONTINUATION if at else RSV1 | kind) | (FIN if at + size >= len(wire) else 0), wire[at : at + size])
            for at in range(0, len(wire), size)
        ]
        with watched(LEAST, MOST):
            peer.send(b"".join(frames))
            data, typ = read(sock)
        assert len(data) == 16 * MIB
        assert typ == {BINARY: "binary", TEXT: "text"}[kind]


@both_roles
@pytest.mark.parametrize("end", [b"", b"\0"])
def test_a_large_message_whose_last_frame_says_nothing(end: bytes, role: Role) -> None:
    """All before it has come by then, and is inflated when it ends."""
    with role(TCP, {**SHORT, "message": 16 * MIB}, DEFLATE, compression=True) as (sock, peer):
        whole = deflated(bytes(16 * MIB), tail=True)
        wire = whole[:-4] if not end else whole
        reading = spawn(lambda: read(sock))
        peer.put(RSV1 | BINARY, wire)
        turn(5)
        assert 0 < WORK < MIB
        with watched(15 * MIB, MOST):
            peer.put(FIN | CONTINUATION, end)
            assert joined(reading) == (bytes(16 * MIB), "binary")


@both_roles
def test_a_message_in_pieces(role: Role) -> None:
    with role(TCP, SHORT, DEFLATE, compression=True) as (sock, peer), watched(LEAST, MOST):
        peer.put(FIN | RSV1 | BINARY, bomb(16 * MIB))
        pieces = sock.pieces()
        assert sum(map(len, pieces)) == 16 * MIB
        assert pieces.err is None


@both_roles
def test_a_message_that_is_dropped(role: Role) -> None:
    with role(TCP, SHORT, DEFLATE, compression=True) as (sock, peer), watched(LEAST, MOST):
        peer.put(FIN | RSV1 | BINARY, bomb(16 * MIB))
        peer.put(FIN | TEXT, "next")
        assert next(sock.pieces())
        assert read(sock) == ("next", "text")


@both_roles
def test_messages_that_come_while_we_close(role: Role) -> None:
    """They are inflated for their limit and dropped."""
    with role(TCP, {"close_timeout": 5000}, DEFLATE, compression=True) as (sock, peer):
        with watched(LEAST, MOST):
            closing = spawn(sock.close)
            peer.send(sixteen(peer))
            peer.put(FIN | 8, b"\x03\xe8")
            peer.conn.read(4)
            peer.close()
            joined(closing)
        assert sock.closecode == 1000


@both_roles
def test_blocks_that_inflate_to_nothing(role: Role) -> None:
    """Each of two bytes makes a new zlib stream."""
    with role(TCP, {**SHORT, "message": 100 * KIB}, DEFLATE, compression=True) as (sock, peer), watched(40_000 * 256, MOST):
        peer.put(FIN | RSV1 | BINARY, b"\x03\0" * 40_000 + b"\0")
        assert read(sock) == (b"", "binary")


@both_roles
def test_what_we_compress(role: Role) -> None:
    """An answer that shrinks to nothing fills no buffer, so its writer never waits."""
    with role(TCP, SHORT, DEFLATE, compression=True) as (sock, _peer), watched(8 * MIB, 2 * SHARE + 64 * KIB):
        for _ in range(4):
            assert sock.write(bytes(MIB))
        with sock.message() as message:
            for _ in range(64):
                assert message.write(bytes(64 * KIB))


# ---- not compressed: what a receive buffer holds ------------------------------------------------------------------------


@both_roles
def test_large_messages_in_a_large_buffer(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """``receive_mark`` may be raised; each 16 KiB count as a message."""
    monkeypatch.setattr(_unread, "LOOK", 60.0)  # else they may be taken to a queue, which costs nothing to empty
    with role(TCP, {**SHORT, "receive_mark": 16 * MIB}) as (sock, peer):
        got = 0
        peer.send(peer.frame(FIN | BINARY, bytes(512 * KIB)) * 16)
        while sock.conn.unreadbytes() < 8 * MIB:
            turn()
        with watched(16, 1 + MIB // (512 * KIB), lambda: got):
            while got < 16:
                assert len(read(sock)[0]) == 512 * KIB
                got += 1


def test_large_reads_of_a_large_buffer() -> None:
    done = []

    def accept(conn: Any) -> None:
        conn.limit(16 * MIB)
        while conn.unreadbytes() < 8 * MIB:
            turn()
        got = 0
        with watched(32, BURST * STEP // (256 * KIB) + 1, lambda: got):
            for n in [256 * KIB, "\n"] * 16:
                data, err = conn.read(n)
                assert err is None
                assert len(data) == 256 * KIB
                got += 1
        done.append(got)

    listener, err = tcp.listen(addr="127.0.0.1:0", accept=accept, limits=Limits(receive_mark=16 * MIB))
    assert err is None
    conn, err = tcp.connect(f"127.0.0.1:{listener.port}")
    assert err is None
    assert conn.write((bytes(256 * KIB - 1) + b"\n") * 32)
    while not done:
        turn()
    conn.close()
    listener.close()


# ---- HTTP ---------------------------------------------------------------------------------------------------------------


def members(count: int) -> bytes:
    """gzip members of a byte each: nearly all of the work is their beginning."""
    return coded("gzip", b"x") * count


@both_transports
@pytest.mark.parametrize("how", ["whole", "in-pieces", "by-length"])
@pytest.mark.parametrize("row", ["bomb", "members"])
def test_a_coded_response(row: str, how: str, way: Way) -> None:
    data, size, least = (bomb_of(16 * MIB), 16 * MIB, LEAST) if row == "bomb" else (members(20_000), 20_000, 20_000 * 256)

    def answering(told: Told, peer: Peer) -> bool:
        peer.send(response("gzip", data))
        return True

    with origin(way, answering) as server, way.client({"body": 32 * MIB}) as client, watched(least, MOST):
        if how == "whole":
            got, err = client.get(way.web(server))
            assert err is None
            assert len(got.body) == size
        else:
            stream, err = client.request("GET", way.web(server))
            assert err is None
            assert stream.closewrite()
            if how == "by-length":
                body, err = stream.read(size)
                assert err is None
                assert len(body) == size
            else:
                pieces = stream.pieces()
                assert sum(map(len, pieces)) == size
                assert pieces.err is None
            stream.close()


def bomb_of(size: int) -> bytes:
    return coded("gzip", *[bytes(MIB)] * (size // MIB))


# ---- what an unfinished message holds -----------------------------------------------------------------------------------


@both_transports
@both_roles
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("final", [False, True])
def test_an_unfinished_compressed_message_holds_little(final: bool, reads: bool, role: Role, way: Way) -> None:
    """A kilobyte that would be a megabyte stays a kilobyte until the message ends."""
    with role(way, SHORT, DEFLATE, compression=True) as (sock, peer):
        wire = bomb(MIB - KIB)
        assert len(wire) < 1100
        reading = spawn(lambda: read(sock)) if reads else None
        turn(2)
        whole = peer.frame(FIN | RSV1 | BINARY, wire)
        begun = whole[:-1] if final else peer.frame(RSV1 | BINARY, wire[:-1])
        with Memory() as memory:
            peer.send(begun)
            turn(5)
        assert memory.held < 200 * KIB
        assert len(sock._session.messages.partial(sock.conn._stream.buf)) <= 16 * KIB + 32 * len(wire) + 1
        peer.send(whole[-1:] if final else peer.frame(FIN | CONTINUATION, wire[-1:]))
        assert (joined(reading) if reads else read(sock)) == (bytes(MIB - KIB), "binary")


@both_roles
def test_what_is_not_inflated_yet_can_be_read_in_pieces(role: Role) -> None:
    with role(TCP, SHORT, DEFLATE, compression=True) as (sock, peer):
        wire = bomb(MIB)
        peer.put(RSV1 | BINARY, wire[:-1])
        assert sock.read(20) == (None, errno.TIMEDOUT)
        held = len(sock.partial)
        assert 0 < held < 100 * KIB
        pieces = sock.pieces(20)
        size = sum(map(len, pieces))
        assert pieces.err == errno.TIMEDOUT
        assert MIB - 10 * KIB < size <= MIB
        peer.put(FIN | CONTINUATION, wire[-1:])
        assert size + sum(map(len, pieces)) == MIB


@both_roles
def test_the_blocks_of_an_unfinished_message_are_counted(role: Role, logs: Any) -> None:
    """Blocks that inflate to nothing come under the limit of the message, in any number of frames."""
    logs.expect("1009")
    with role(TCP, {**SHORT, "message": 10_000}, DEFLATE, compression=True) as (sock, peer):
        reading = spawn(lambda: read(sock))
        block = b"\0\0\0\xff\xff" * 40
        peer.put(RSV1 | BINARY, block)
        sent = 0
        while sent < 1000 and not peer.conn.unreadbytes():
            peer.put(CONTINUATION, block)
            turn(2)
            sent += 1
        assert joined(reading)[0] is None
        assert peer.get_close()[0] == 1009
        assert sent < 100
