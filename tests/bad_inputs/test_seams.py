"""What other tasks do while a WebSocket's reader or writer lets them run, in the middle of much work."""

from __future__ import annotations

import os
import socket
import zlib
from typing import Any

import pytest

from silly import errno, time
from silly._core import scheduler

from ..helpers import BINARY, CONTINUATION, FIN, PING, PONG, joined, spawn, turn
from .support import DEFLATE, KIB, MIB, SHORT, TCP, Role, both_roles, read
from .test_deflate import RSV1


class Slow:
    """A compressor that lets others run until the deadline is over."""

    def __init__(self, deflater: Any) -> None:
        self._deflater = deflater

    def rest_due(self) -> bool:
        while not scheduler.expired():
            scheduler.pause()
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._deflater, name)


def packed(size: int) -> bytes:
    """Compressed to more than may be inflated at once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (packer.compress(bytes(size)) + packer.compress(os.urandom(1000)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def reading_of(sock: Any, way: str) -> Any:
    def reading() -> Any:
        try:
            if way == "read":
                return sock.read()
            pieces = sock.pieces()
            for _ in pieces:
                pass
            return None, pieces.err
        except RuntimeError as exc:
            return exc

    return spawn(reading)


def inflating(sock: Any) -> None:
    """Waits until the reader lets others run, though it has not inflated all."""
    for _ in range(1000):
        if sock._session.messages.waiting and sock._session.stream._reader is None:
            return
        turn()
    pytest.fail("the reader never lets others run")


@both_roles
@pytest.mark.parametrize("size", [400 * KIB, 16 * MIB])
@pytest.mark.parametrize("way", ["read", "pieces"])
def test_a_close_while_much_is_inflated(way: str, size: int, role: Role) -> None:
    """The reader is told "closed", as one that waits is."""
    limits = {"message": 32 * MIB, "close_timeout": 2000}
    with role(TCP, limits, DEFLATE, compression=True) as (sock, peer):
        reading = reading_of(sock, way)
        peer.send(peer.frame(FIN | RSV1 | BINARY, packed(size)))
        inflating(sock)
        closing = spawn(lambda: sock.close())
        assert joined(reading) == (None, "closed")
        assert peer.get_close()[0] == 1000
        peer.put_close()
        peer.close()
        assert joined(closing) == (True, None)


@both_roles
def test_another_task_reads_while_pieces_are_inflated(role: Role) -> None:
    """It drops the rest of the message, as it may; the reader of the pieces is told, and takes nothing of the next message."""
    with role(TCP, SHORT, DEFLATE, compression=True) as (sock, peer):
        pieces = sock.pieces()
        got: list[Any] = []
        reading = spawn(lambda: got.extend(pieces))
        peer.send(peer.frame(FIN | RSV1 | BINARY, packed(16 * MIB)))
        for text in (b"one", b"two", b"three"):
            peer.put(FIN | BINARY, text)
        inflating(sock)
        assert read(sock) == (b"one", "binary")
        joined(reading)
        assert pieces.err == "the rest of the message was dropped, because another was asked for"
        assert not any(text in got for text in (b"two", b"three"))
        assert read(sock) == (b"two", "binary")


@both_roles
def test_a_ping_behind_a_fragment_that_is_not_inflated_yet(role: Role) -> None:
    """A slow reader of pieces gets them all, and the ping is answered."""
    data = bytes(MIB)
    with role(TCP, {**SHORT, "message": 4 * MIB}, DEFLATE, compression=True) as (sock, peer):
        packer = zlib.compressobj(9, zlib.DEFLATED, -12)
        begin = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        end = (packer.compress(b"end") + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        peer.put(RSV1 | BINARY, begin)
        while not sock._session.messages.waiting:
            assert sock.read(20) == (None, errno.TIMEDOUT)
        pieces = sock.pieces()
        got = [next(pieces)]
        peer.put(FIN | PING, b"there?")
        for _ in range(1000):
            if sock._session.stream.buf:
                break
            turn()
        for _ in range(3):  # as after a tenth of a second
            sock._session.take_unread()
        peer.put(FIN | CONTINUATION, end)
        got += pieces
        assert pieces.err is None
        assert b"".join(got) == data + b"end"
        assert peer.get() == (FIN | PONG, b"there?")


@both_roles
def test_a_deadline_that_ends_while_a_message_is_compressed(role: Role) -> None:
    """The message goes out whole: its beginning, and the context of those behind it."""
    limits = {"unsent": 64 * KIB, "close_timeout": 20}
    noise = os.urandom(700 * KIB)
    with role(TCP, limits, DEFLATE, compression=True) as (sock, peer):
        stream = sock._session.stream
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        # The peer doesn't read: more than the limit is unsent.
        filled = 0
        while not stream.unsent > limits["unsent"]:
            with time.deadline(1):
                sock.write(noise, compress=False)
            filled += 1
        session = sock._session
        deflater, session.deflater = session.deflater, Slow(session.deflater)
        with time.deadline(2):
            ok, err = sock.write(noise)
        session.deflater = deflater
        assert not ok
        assert "deadline" in err
        inflate = zlib.decompressobj(-15)
        writing = spawn(lambda: sock.write(b"after" * 100))
        for want in [*[noise] * filled, noise, b"after" * 100]:
            first, payload = peer.get()
            packed = first & RSV1
            while not first & FIN:
                first, more = peer.get()
                assert first & 0x7F == CONTINUATION
                payload += more
            assert (inflate.decompress(payload + b"\0\0\xff\xff") if packed else payload) == want
        assert joined(writing) == (True, None)


@both_roles
@pytest.mark.parametrize("bound", ["timeout", "deadline"])
@pytest.mark.parametrize("way", ["read", "pieces"])
def test_a_message_without_end_that_is_dropped(way: str, bound: str, role: Role) -> None:
    """A time-out of the reader ends its wait for the next message."""
    with role(TCP, SHORT, DEFLATE, compression=True) as (sock, peer):
        packer = zlib.compressobj(9, zlib.DEFLATED, -12)
        frames = [
            peer.frame(first, packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH))
            for first in (RSV1 | BINARY, CONTINUATION)
        ]
        peer.send(frames[0])
        next(sock.pieces())
        over = False

        def go_on() -> None:
            while not over and not sock._session.stream.err:
                peer.send(frames[1])
                peer.conn._stream.flush()
                turn()

        sending = spawn(go_on)

        def wait(timeout: int | None) -> Any:
            if way == "read":
                return sock.read(timeout)[1]
            pieces = sock.pieces(timeout)
            assert next(pieces, None) is None
            return pieces.err

        def bounded() -> Any:
            if bound == "timeout":
                return wait(20)
            with time.deadline(20):
                return wait(None)

        reading = spawn(bounded)
        for _ in range(1000):
            if len(reading):
                break
            turn()
        ended, over = len(reading), True
        joined(sending)
        err = joined(reading)
        assert ended
        assert (err == errno.TIMEDOUT) if bound == "timeout" else ("deadline" in err)
