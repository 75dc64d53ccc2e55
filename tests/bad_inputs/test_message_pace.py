"""The limit ``message_rate``: an unfinished message must go on, or the connection ends with 1008.

The tests set the clock, and let each sixth of the window be looked at by hand; two use the real timer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from silly import errno
from silly.net.websocket import _message_pace

from ..helpers import BINARY, CONTINUATION, FIN, PING, PONG, TEXT, joined, spawn, turn
from ..net.support import until
from .support import DEFLATE, KIB, LOG, SHORT, TCP, Role, Way, both_roles, both_transports, read
from .test_deflate import RSV1, bomb

SLOT = 10
RATE = "message slower than the limit 'message_rate' of 240 bytes a second"
SLOW = LOG + RATE + ": close 1008"


class Clock:
    """The peer's clock: it stands still but for ``pass_by``."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, sock: Any, slots: int = 1) -> None:
        """So many sixths of a window, each looked at, unless nothing is watched any more."""
        for _ in range(slots):
            self.now += SLOT
            pace = sock._session.pace
            if pace is not None:
                pace.stop()
                pace._on_timer(sock._session)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_message_pace, "peers_clock", clock)
    return clock


def begun(peer: Any, size: int = 50_000) -> dict[str, bytes]:
    """Messages of which some is missing."""
    packed = bomb(size * 20)[: size // 50]
    return {
        "compressed-fragment": peer.frame(RSV1 | BINARY, packed),
        "compressed-frame": peer.frame(FIN | RSV1 | BINARY, packed)[:-10],
        "fragment": peer.frame(BINARY, b"x" * 1000),
        "text-fragment": peer.frame(TEXT, b"x" * 1000),
        "empty-fragment": peer.frame(TEXT, b""),
        "frame": peer.frame(FIN | BINARY, b"x" * size)[:1000],
        "text-frame": peer.frame(FIN | TEXT, b"x" * size)[:1000],
        "large-frame": peer.frame(FIN | BINARY, b"x" * 200_000)[:20_000],
        "a-byte": peer.frame(FIN | BINARY, b"x")[:1],
        "half-a-head": peer.frame(FIN | BINARY, b"x" * size)[:3],
        "half-a-ping": peer.frame(FIN | PING, b"x" * 20)[:10],
    }


ROWS = list(begun(type("Framer", (), {"frame": staticmethod(lambda first, data: bytes(20) + data)})))


def told(sock: Any, peer: Any, reading: Any) -> None:
    """The peer gets 1008 with the limit's name, and the reader is told it too."""
    code, reason = peer.get_close()
    assert code == 1008
    assert reason == RATE
    got, err = joined(reading) if reading is not None else read(sock)
    assert got is None
    assert RATE in err
    assert sock.closecode == 1008
    assert sock._session.pace is None


def watched(sock: Any, reading: Any) -> None:
    """Waits until the message is watched that was begun."""
    for _ in range(1000):
        stream = sock._session.stream
        if sock._session.pace is not None and (reading is None or stream._reader is not None):
            return
        turn()
        if reading is None:
            sock._session.take_unread()
    pytest.fail("nothing is watched")


READERS: dict[str, Callable[[Any], Any]] = {
    "read": lambda sock: spawn(lambda: sock.read()),
    "pieces": lambda sock: spawn(lambda: pieces_of(sock)),
    "nobody": lambda sock: None,
}


def pieces_of(sock: Any) -> Any:
    pieces = sock.pieces()
    for _ in pieces:
        pass
    return None, pieces.err


@both_transports
@both_roles
@pytest.mark.parametrize(
    ("row", "reader"),
    # Without a reader that one is left to it: see test_what_waits_for_its_reader_is_not_unfinished.
    [(row, reader) for row in ROWS for reader in READERS if (row, reader) != ("compressed-fragment", "nobody")],
)
def test_a_message_that_does_not_go_on(row: str, reader: str, role: Role, way: Way, clock: Clock, logs: Any) -> None:
    logs.expect(SLOW)
    with role(way, SHORT, DEFLATE, compression=True) as (sock, peer):
        reading = READERS[reader](sock)
        turn(2)
        peer.send(begun(peer)[row])
        turn(5)
        watched(sock, reading)
        clock.pass_by(sock, 5)
        assert not sock._session.stream.closed
        clock.pass_by(sock, 2)  # with 20,000 bytes the first sixth pays for the window, and no more
        told(sock, peer, reading)


@both_roles
@pytest.mark.parametrize("per_slot", [0, 1, 2000, 2400, 20_000])
def test_the_rate(per_slot: int, role: Role, clock: Clock, logs: Any) -> None:
    """240 bytes a second go through, less does not; the bytes come in dribs."""
    if per_slot < 2400:
        logs.expect(SLOW)
    with role(TCP, SHORT) as (sock, peer):
        reading = spawn(lambda: sock.read())
        whole = peer.frame(FIN | BINARY, b"x" * 60_000)
        at = 100
        peer.send(whole[:at])
        watched(sock, reading)
        slots = 0
        while at < len(whole) and not sock._session.stream.closed and slots < 40:
            piece = whole[at : at + per_slot]
            peer.send(piece)
            at += per_slot
            turn(2)
            clock.pass_by(sock)
            slots += 1
        if per_slot < 2400:
            assert slots == 6
            told(sock, peer, reading)
        else:
            assert joined(reading) == (b"x" * 60_000, "binary")
            assert slots == -(-(len(whole) - 100) // per_slot)


@both_roles
def test_nothing_is_paid_in_advance(role: Role, clock: Clock, logs: Any) -> None:
    logs.expect(SLOW)
    with role(TCP, SHORT) as (sock, peer):
        reading = spawn(lambda: sock.read())
        peer.put(BINARY, b"x" * 900_000)
        while len(sock._session.messages.partial(sock.conn._stream.buf)) < 900_000:
            turn()
        clock.pass_by(sock, 8)
        told(sock, peer, reading)


@both_roles
def test_pings_and_empty_fragments_do_not_pay(role: Role, clock: Clock, logs: Any) -> None:
    logs.expect(SLOW)
    with role(TCP, SHORT) as (sock, peer):
        pongs = 0

        def reads() -> Any:
            got = "ping", "ping"
            while got[1] in ("ping", "pong"):
                got = sock.read()
            return got

        reading = spawn(reads)
        peer.put(BINARY, b"x")
        watched(sock, reading)
        for _ in range(6):
            for _ in range(100):
                peer.put(FIN | PING, b"x" * 100)
                peer.put(FIN | PONG, b"x" * 100)
                peer.put(CONTINUATION, b"")
            for _ in range(100):
                assert peer.get() == (FIN | PONG, b"x" * 100)
                pongs += 1
            until(lambda: not sock._session.stream.buf)  # what stands behind the last ping
            clock.pass_by(sock)
        assert pongs == 600
        told(sock, peer, reading)


@both_roles
def test_each_message_has_its_own_time(role: Role, clock: Clock) -> None:
    """A peer whose every message is slow, but ends, is never too slow: whenever it is looked at one is unfinished."""
    with role(TCP, SHORT, DEFLATE, compression=True) as (sock, peer):
        reading = spawn(lambda: [sock.read()[0] for _ in range(30)])
        frames = [peer.frame(FIN | BINARY, b"%d" % n) if n % 3 else peer.frame(FIN | RSV1 | TEXT, bomb(n)) for n in range(30)]
        for frame in frames:
            peer.send(frame[:3])
            turn(2)
            clock.pass_by(sock)
            peer.send(frame[3:])
            turn(2)
        assert joined(reading) == ["\0" * n if n % 3 == 0 else b"%d" % n for n in range(30)]
        clock.pass_by(sock)
        assert sock._session.pace is None


@both_roles
def test_a_reader_that_is_busy_blames_nobody(role: Role, clock: Clock) -> None:
    """The buffer is full, so the peer can't send."""
    with role(TCP, {**SHORT, "receive_mark": 4 * KIB}) as (sock, peer):
        pieces = sock.pieces()
        peer.put(BINARY, b"x" * 100)
        assert len(next(pieces)) == 100
        sock._session.unfinished()
        peer.send(peer.frame(CONTINUATION, b"x" * 100_000)[:20_000])
        while not sock.conn._stream.paused:
            turn()
        assert sock._session.pace is not None
        clock.pass_by(sock, 20)
        assert sock._session.pace is not None
        assert sock.conn.isalive()
        sock.close()


@both_roles
def test_what_waits_for_its_reader_is_not_unfinished(role: Role, clock: Clock) -> None:
    """A message that has come, and is left to its reader since it is compressed; and one that was read later."""
    with role(TCP, SHORT, DEFLATE, compression=True) as (sock, peer):
        peer.put(FIN | RSV1 | BINARY, bomb(50_000))
        turn(3)
        sock._session.take_unread()
        assert sock._session.pace is None
        clock.pass_by(sock, 20)
        assert read(sock) == (bytes(50_000), "binary")
        peer.put(RSV1 | BINARY, bomb(50_000))
        turn(3)
        sock._session.take_unread()
        assert sock._session.pace is None
        assert sock._session.pace is None


@both_roles
def test_it_goes_on_after_a_time_out(role: Role, clock: Clock, logs: Any) -> None:
    """Reads that give up begin no new time."""
    logs.expect(SLOW)
    with role(TCP, SHORT) as (sock, peer):
        peer.put(TEXT, b"x")
        for _ in range(6):
            assert sock.read(1) == (None, errno.TIMEDOUT)
            clock.pass_by(sock)
        told(sock, peer, None)


@both_roles
def test_messages_before_it_are_read_first(role: Role, clock: Clock, logs: Any) -> None:
    logs.expect(SLOW)
    with role(TCP, SHORT) as (sock, peer):
        peer.put(FIN | TEXT, "first")
        peer.put(TEXT, b"x")
        watched(sock, None)
        clock.pass_by(sock, 7)
        assert read(sock) == ("first", "text")
        got, err = read(sock)
        assert got is None
        assert RATE in err
        assert peer.get_close() == (1008, RATE)


@both_roles
def test_any_pace(role: Role, clock: Clock) -> None:
    with role(TCP, {**SHORT, "message_rate": 0}) as (sock, peer):
        reading = spawn(lambda: sock.read())
        peer.put(TEXT, b"x")
        turn(3)
        assert sock._session.pace is None
        peer.put(FIN | CONTINUATION, b"y")
        assert joined(reading) == ("xy", "text")


@both_transports
@both_roles
@pytest.mark.parametrize("reader", READERS)
def test_by_the_real_clock(reader: str, role: Role, way: Way, monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    logs.expect(SLOW)
    monkeypatch.setattr(_message_pace, "WINDOW", 0.12)
    with role(way, SHORT, DEFLATE, compression=True) as (sock, peer):
        reading = READERS[reader](sock)
        peer.send(peer.frame(FIN | RSV1 | BINARY, bomb(1000))[:-1])
        told(sock, peer, reading)


@both_roles
def test_no_timer_is_left(role: Role, clock: Clock) -> None:
    """The connection ends while a message is unfinished."""
    with role(TCP, SHORT) as (sock, peer):
        reading = spawn(lambda: sock.read())
        peer.put(TEXT, b"x")
        watched(sock, reading)
        peer.close()
        assert joined(reading)[0] is None
        assert sock._session.pace is None
