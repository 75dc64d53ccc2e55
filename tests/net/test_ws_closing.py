"""The closing handshake in every order: who begins, how the other answers, who is blocked meanwhile, and where it breaks off.

In each case: at most one close frame of ours and nothing after it, everybody wakes with the same words, ``closecode``,
``closereason`` and ``cause`` say what happened, and TCP ends within the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from silly import check, errno
from silly._core import scheduler
from silly._wire.lines import take
from silly.net import websocket
from silly.sync import channel

from ..children import in_thread
from ..helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    WITHIN,
    both_sides,
    client_side,
    joined,
    server_side,
    serving,
    spawn,
    turn,
)
from .support import until
from .ws_support import narrow, refused

KIB = 1024
MIB = 1024 * 1024
CLOSED = "closed"
SHORT = {"close_timeout": 100, "linger": 200}
OURS = b"\x0b\xb8bye"
UNANSWERED = "the peer did not answer the close frame within the limit 'close_timeout' of 100 ms"
Side = Callable[..., AbstractContextManager[tuple[Any, Any]]]


@pytest.fixture(params=[server_side, client_side], ids=["server", "client"])
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param


def frames_until_the_end(peer: Any) -> list[tuple[int, bytes]]:
    """What the peer gets until TCP ends, whether by FIN or by RST; a frame that is cut there is left out."""
    got = []
    data = b""
    while True:
        chunk, err = peer.conn.read(1, WITHIN)
        if chunk is None:
            assert err != errno.TIMEDOUT
            break
        data += chunk + take(peer.conn._stream.buf, peer.conn.unreadbytes())
    at = 0
    while len(data) - at >= 2:
        size, start = data[at + 1] & 0x7F, at + 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : start], "big")
        key = b"\0\0\0\0"
        if not peer.masks:
            key = data[start : start + 4]
            start += 4
        if len(data) < start + size:
            break
        body = data[start : start + size]
        got.append((data[at], bytes(byte ^ key[i & 3] for i, byte in enumerate(body)) if size < 126 else body))
        at = start + size
    return got


def check_wire(peer: Any, close: bytes) -> None:
    """Exactly one close frame came, with that payload, and nothing after it."""
    frames = frames_until_the_end(peer)
    assert [payload for first, payload in frames if first == FIN | CLOSE] == [close]
    assert frames[-1] == (FIN | CLOSE, close)


# ---- ours first -----------------------------------------------------------------------------------------------------

ANSWERS: dict[str, Callable[[Any], object]] = {
    "answers": lambda peer: (peer.put_close(3000, "ok"), peer.half_close()),
    "answers and leaves TCP open": lambda peer: peer.put_close(3000, "ok"),
    "answers after data": lambda peer: (
        peer.put(TEXT, "da"),
        peer.put(FIN | PING, "p"),
        peer.put(FIN | CONTINUATION, "ta"),
        peer.put(FIN | BINARY, bytes(100_000)),
        peer.put_close(3000, "ok"),
    ),
    "answers within a message": lambda peer: (peer.put(BINARY, "da"), peer.put_close(3000, "ok")),
    "closes too": lambda peer: peer.put_close(3000, "ok"),
    "answers twice": lambda peer: (peer.put_close(3000, "ok"), peer.put_close(3001, "twice")),
    "never answers": lambda peer: None,
    "sends on and never answers": lambda peer: peer.put(FIN | TEXT, "on"),
    "ends": lambda peer: peer.half_close(),
    "ends within a frame": lambda peer: (peer.send(peer.frame(FIN | TEXT, b"data")[:4]), peer.half_close()),
    "ends within its close frame": lambda peer: (peer.send(peer.frame(FIN | CLOSE, b"\x0b\xb8ok")[:4]), peer.half_close()),
    "resets": lambda peer: peer.reset(),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("how", ["close", "write, then read", "write, nobody reads", "write, then close"])
def test_ours_first(side: Side, how: str, answer: str) -> None:
    with side(SHORT) as (sock, peer):
        if answer == "closes too":
            ANSWERS[answer](peer)
        result = None
        if how == "close":
            doing = spawn(lambda: sock.close(3000, "bye"))
        else:
            result = sock.write(OURS, "close")
            assert result == (True, None)
            assert sock.write("late") == (False, CLOSED)
            doing = spawn(sock.close if how == "write, then close" else lambda: None)
        turn(3)
        if answer != "closes too":
            ANSWERS[answer](peer)
        seen = []
        if how == "write, then read":
            while not seen or seen[-1][0] is not None:
                seen.append(sock.read(WITHIN))
        if answer == "resets":
            until(lambda: sock.closecode is not None)
        else:
            check_wire(peer, OURS)
            peer.close()
        joined(doing)
        until(lambda: sock._session.stream.sock is None)
        answered = answer.startswith("answers") or answer == "closes too"
        if how == "write, nobody reads" and answer == "answers after data":
            answered = False  # past 64 KiB nobody looks
        assert (sock.closecode, sock.closereason) == ((3000, "ok") if answered else (1006, ""))
        if seen:
            types = [typ for data, typ in seen if data is not None]
            assert ("close" in types) is answered
            assert types.count("close") <= 1
            if answered:
                assert types[-1] == "close"
                assert seen[-1][1] == CLOSED
        if how == "close":
            assert sock.cause == "closed here: 3000"
        elif answered and how != "write, then close":
            assert sock.cause == "closed by the peer: 3000 'ok'"
        elif how == "write, nobody reads" and not answer.startswith(("resets", "ends")):
            assert sock.cause == UNANSWERED
        assert sock.cause
        left = sock.read()
        while how == "write, nobody reads" and left[0] is not None:
            left = sock.read()  # what had arrived
        assert left[0] is None
        assert not sock.write("late")
        sock.close()
        assert sock.close() == (False, CLOSED)


# ---- theirs first ---------------------------------------------------------------------------------------------------

STATES = ["idle", "reads", "pieces", "writes", "waits its turn", "message", "blocked control frame"]


class Busy:
    """Tasks that are blocked on ``sock`` in the states asked for; ``results`` joins them."""

    def __init__(self, sock: Any, peer: Any, states: list[str]) -> None:
        self.block = channel.new()
        self.tasks: list[Any] = []
        self.blocked = False
        for state in states:
            if state in ("writes", "waits its turn", "blocked control frame") and not self.blocked:
                self.blocked = True
                self.tasks.append(spawn(lambda: sock.write(bytes(32 * MIB))))
                until(lambda: sock._session.stream.blocked and sock.conn.unsentbytes() > MIB)
            if state == "reads":
                self.tasks.append(spawn(sock.read))
            elif state == "pieces":
                peer.put(BINARY, "begun")
                pieces = sock.pieces()
                assert next(pieces) == b"begun"
                self.tasks.append(spawn(lambda pieces=pieces: (list(pieces), pieces.err)))
            elif state == "waits its turn":
                self.tasks.append(spawn(lambda: sock.write("small", "text")))
            elif state == "blocked control frame":
                self.tasks.append(spawn(lambda: sock.write("p", "ping")))
            elif state == "message":
                self.tasks.append(spawn(lambda: self.message(sock)))
                self.tasks.append(spawn(lambda: sock.write("waits for that", "text")))
            turn(2)

    def message(self, sock: Any) -> Any:
        with sock.message() as message:
            message.write("begun")
            message.flush()
            self.block.pop()
            return message.write(bytes(MIB))

    def errors(self) -> set[str]:
        """Their results. The task in the block of ``message`` goes on last, after all others."""
        held = self.tasks[:1] if self.held else []
        results = [joined(task) for task in self.tasks if task not in held]
        self.block.close()
        return {result[1] for result in results + [joined(task) for task in held]}

    held = False


@pytest.mark.parametrize("state", STATES)
def test_theirs_first(side: Side, state: str) -> None:
    """The peer closes and reads nothing more: blocked tasks wake within the limit."""
    with side({**SHORT, "write_timeout": 60_000}) as (sock, peer):
        busy = Busy(sock, peer, [state] if state != "idle" else [])
        busy.held = state == "message"
        peer.put_close(3001, "theirs")
        until(lambda: sock.closecode is not None)
        assert (sock.closecode, sock.closereason) == (3001, "theirs")
        assert sock.cause == "closed by the peer: 3001 'theirs'"
        if state == "reads":
            assert joined(busy.tasks.pop(0)) == (b"\x0b\xb9theirs", "close")
        until(lambda: sock._session.stream.sock is None)
        errors = busy.errors()
        assert len(errors) <= 1
        assert errors <= {CLOSED, sock.cause}
        frames = [frame for frame in frames_until_the_end(peer) if frame[0] == FIN | CLOSE]
        assert frames in ([], [(FIN | CLOSE, b"\x0b\xb9")])
        if not busy.blocked:
            assert frames
        sock.close()
        assert sock.close() == (False, CLOSED)


def test_theirs_first_and_it_reads_on(side: Side) -> None:
    """Our answer to a close ends a message that is on its way, and writers behind it get an error."""
    with side(SHORT) as (sock, peer):
        busy = Busy(sock, peer, ["writes", "waits its turn"])
        peer.put_close(1001)
        until(lambda: sock.closecode is not None)
        frames = frames_until_the_end(peer)
        assert frames[-1] == (FIN | CLOSE, b"\x03\xe9")
        assert len([first for first, _ in frames if first & FIN]) == 1
        assert len(busy.errors()) == 1


# ---- from another task ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("state", STATES[1:])
def test_close_from_another_task(side: Side, state: str, answers: bool) -> None:
    with side({**SHORT, "write_timeout": 60_000}) as (sock, peer):
        busy = Busy(sock, peer, [state])
        busy.held = state == "message"
        if answers:
            peer.put_close(3000, "ok")
        closing = [spawn(lambda: sock.close(3000, "bye")) for _ in range(3)]
        if state == "reads" and answers:
            joined(busy.tasks.pop(0))
        if not busy.blocked and not peer.masks:
            peer.half_close()
        assert joined(closing[0]) == (True, None)
        assert [joined(each) for each in closing[1:]] == [(False, CLOSED)] * 2
        assert busy.errors() <= {CLOSED}
        assert sock.closecode == (3000 if answers else 1006)
        assert sock.cause in ("closed here: 3000", "closed by the peer: 3000 'ok'")


def test_close_from_the_task_that_is_in_a_message(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        with sock.message() as message:
            message.write("begun")
            message.flush()
            peer.put_close()
            assert sock.close() == (True, None)
            assert message.write("x" * MIB) == (False, CLOSED)
        assert message.err == CLOSED
        assert peer.get() == (BINARY, b"begun")
        check_wire(peer, b"\x03\xe8")


# ---- resets ---------------------------------------------------------------------------------------------------------

RESETS: dict[str, Callable[[Any, Any], object]] = {
    "before anything": lambda sock, peer: None,
    "after a ping": lambda sock, peer: peer.put(FIN | PING, "p"),
    "within a frame": lambda sock, peer: peer.send(peer.frame(FIN | TEXT, b"data")[:5]),
    "within a message": lambda sock, peer: peer.put(TEXT, "data"),
    "after our message": lambda sock, peer: (sock.write("x"), peer.get()),
    "within our message": lambda sock, peer: peer.get(),
    "after our close": lambda sock, peer: sock.write(OURS, "close"),
    "after their close": lambda sock, peer: peer.put_close(3001, "theirs"),
    "after both": lambda sock, peer: (sock.write(OURS, "close"), peer.put_close(3001, "theirs")),
}


@pytest.mark.parametrize(
    ("when", "blocked"),
    [(when, False) for when in RESETS if when != "within our message"]
    + [(when, True) for when in RESETS if when != "after our message"],
)
def test_reset(side: Side, when: str, blocked: bool) -> None:
    with side({**SHORT, "write_timeout": 60_000}) as (sock, peer):
        busy = Busy(sock, peer, ["writes", "waits its turn", "blocked control frame"] if blocked else [])
        RESETS[when](sock, peer)
        turn(2)
        seen: list[Any] = []

        def read() -> None:
            while not seen or seen[-1][0] is not None:
                seen.append(sock.read())

        reading = spawn(read)
        turn(2)
        peer.reset()
        joined(reading)
        errors = busy.errors()
        assert len(errors) <= 1
        sock.close()
        until(lambda: sock._session.stream.sock is None)
        theirs = when in ("after their close", "after both")
        assert sock.closecode in ((3001, 1006) if theirs else (1006,))
        if any(typ == "close" for data, typ in seen if data is not None):
            assert sock.closecode == 3001
        assert sock.cause
        if not theirs and when != "after our close":
            assert sock.cause in seen[-1][1]
            assert errors <= {seen[-1][1]}
        assert sock.read() == (None, seen[-1][1])


# ---- both ends are ours ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["server", "client", "both"])
@pytest.mark.parametrize("how", ["close", "write"])
@pytest.mark.parametrize("traffic", [False, True])
def test_both_ends(first: str, how: str, traffic: bool) -> None:
    with both_sides() as (server, client):
        ends = {"server": server, "client": client}

        def read_all(sock: Any) -> Any:
            while (got := sock.read())[0] is not None and got[1] != "close":
                pass
            sock.close()
            return got

        def write_all(sock: Any) -> Any:
            while (result := sock.write(bytes(100_000))):
                pass
            return result[1]

        readers = [spawn(lambda sock=sock: read_all(sock)) for sock in ends.values()]
        writers = [spawn(lambda sock=sock: write_all(sock)) for sock in ends.values() if traffic]
        turn(5)
        for name, sock in ends.items():
            if first in (name, "both"):
                if how == "close":
                    spawn(lambda sock=sock, name=name: sock.close(3000, name))
                else:
                    assert sock.write(b"\x0b\xb8" + name.encode(), "close") == (True, None)
        for each in readers:
            joined(each)
        assert {joined(each) for each in writers} <= {CLOSED}
        assert (server.closecode, client.closecode) == (3000, 3000)
        for sock in ends.values():
            until(lambda sock=sock: sock._session.stream.sock is None)


def test_a_flood_after_a_close_written_by_hand(side: Side) -> None:
    """Nobody reads, and the peer goes on sending: it can't keep the connection for longer than the limit."""
    with side(SHORT) as (sock, peer):
        assert sock.write(OURS, "close") == (True, None)
        frames = peer.frame(FIN | BINARY, bytes(4000)) * 100

        def flood() -> None:
            while peer.conn.write(frames):
                turn()

        flooding = spawn(flood)
        until(lambda: sock._session.stream.sock is None)
        assert (sock.closecode, sock.cause) == (1006, UNANSWERED)
        joined(flooding)
        assert sock.conn.unreadbytes() < 128 * 1024


def test_pings_and_pongs_after_a_close_frame(side: Side) -> None:
    """No frame of ours follows our close frame, whatever the peer still asks for."""
    with side(SHORT) as (sock, peer):
        assert sock.write(OURS, "close") == (True, None)
        peer.put(FIN | PING, "a")
        assert sock.read(WITHIN) == (b"a", "ping")
        peer.put(FIN | PONG, "b")
        assert sock.read(WITHIN) == (b"b", "pong")
        assert sock.write("a", "pong") == (False, CLOSED)
        check_wire(peer, OURS)


def test_close_written_by_hand_is_answered_in_time_or_not_at_all() -> None:
    with client_side({"close_timeout": 50}) as (sock, _):
        assert sock.write(b"\x03\xe8", "close")
        data, err = sock.read()
        assert data is None
        assert "close_timeout" in err
        assert sock.read() == (None, err)
        assert sock.closecode == 1006


def test_a_message_that_is_unfinished_when_our_close_frame_is_not_answered(side: Side) -> None:
    """Once a reader was told of the end nothing comes behind that; what had arrived is ``partial``."""
    with side({"close_timeout": 50}) as (sock, peer):
        peer.put(TEXT, "not whole")
        assert sock.write(b"", "close")
        _, err = sock.read()
        assert "close_timeout" in err
        assert sock.partial == "not whole"
        assert sock.read() == (None, err)
        pieces = sock.pieces()
        assert (list(pieces), pieces.err) == ([], err)
        assert sock.closecode == 1006
        assert sock.close() == (False, CLOSED)


@pytest.mark.parametrize("reason", ["bye", b"bye", bytearray(b"bye"), None])
def test_reasons_of_every_kind(reason: Any) -> None:
    codes = channel.new()

    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        assert sock.read()[1] == "close"
        codes.push((sock.closecode, sock.closereason))

    with serving(handler) as server:
        sock = check(websocket.connect(f"ws://{server.addr}/"))
        assert sock.close(None if reason is None else 4000, reason)
        assert codes.pop()[0] == ((1000, "") if reason is None else (4000, "bye"))
        with pytest.raises(ValueError, match="UTF-8"):
            sock.close(1000, b"\xff")
        with pytest.raises(TypeError):
            sock.close(1000, 5)  # type: ignore[arg-type]


def test_a_write_that_would_wait_while_the_process_ends(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing blocks then, and no deadline has run out."""
    with side({"unsent": 64 * KIB, **SHORT}) as (sock, peer):
        narrow(sock, peer)
        writing = spawn(lambda: [sock.write(bytes(60 * KIB)) for _ in range(20)][-1])
        refused(sock, 64 * KIB)
        monkeypatch.setattr(scheduler, "exiting", True)
        result = sock.write(b"x" * 1000)
        monkeypatch.undo()
        assert result == (False, CLOSED)
        sock.conn.close()
        assert joined(writing) == (False, CLOSED)


@pytest.mark.parametrize("how", ["write", "close", "theirs"])
def test_a_pong_that_waited_does_not_follow_the_close_frame(side: Side, how: str) -> None:
    with side({"close_timeout": 5_000, "unsent": 256 * KIB, "linger": 5_000}) as (sock, peer):
        narrow(sock, peer)
        writing = spawn(lambda: sock.write(bytes(MIB)))
        refused(sock, 256 * KIB)
        peer.put(FIN | PING, "p")
        assert sock.read(WITHIN) == (b"p", "ping")  # so it was acted upon
        if how == "close":
            closing = spawn(lambda: sock.close(3000, "bye"))
        elif how == "write":
            assert sock.write(OURS, "close") == (True, None)
        else:
            peer.put_close(3000)
            assert sock.read(WITHIN) == (b"\x0b\xb8", "close")
        turn()
        frames = []
        while not frames or frames[-1][0] != FIN | CLOSE:
            frames.append(peer.get())
        assert frames[-1][1] == (b"\x0b\xb8" if how == "theirs" else OURS)
        if how != "theirs":
            peer.put_close(3000)
        peer.half_close()
        if how != "close":
            closing = spawn(sock.close)
        peer.eof()
        joined(writing)
        assert joined(closing) == (True, None)


@pytest.mark.parametrize("how", ["close", "with"])
def test_another_thread_closes_nothing(side: Side, how: str) -> None:
    """It gets RuntimeError, and the socket stays as it was."""

    def leave(sock: Any) -> None:
        if how == "close":
            sock.close()
        with sock:
            pass

    with side(SHORT) as (sock, peer):
        raised: list[str] = []

        def in_a_thread() -> None:
            try:
                leave(sock)
            except RuntimeError as exc:
                raised.append(str(exc))

        in_thread(in_a_thread)
        assert "another thread" in raised[0]
        assert sock.write("still open", "text")
        assert peer.get() == (FIN | TEXT, b"still open")
