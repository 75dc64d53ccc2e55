"""Keepalive: a peer that answers is kept, whatever the application does. A silent one is given up, and every blocked task
wakes with the error."""

from __future__ import annotations

import gc
import time as clock
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

import silly
from silly import errno, time
from silly._core import scheduler
from silly.net import websocket
from silly.sync import channel

from ..helpers import (
    BINARY,
    CLOSE,
    FIN,
    PING,
    PONG,
    TEXT,
    WITHIN,
    Peer,
    ServerPeer,
    both_sides,
    client_side,
    joined,
    raw_server,
    server_side,
    spawn,
    switching,
    turn,
)
from .support import until
from .ws_support import narrow, refused

MIB = 1024 * 1024
Side = Callable[..., AbstractContextManager[tuple[Any, Any]]]

PINGS = {"ping_interval": 20, "pong_timeout": 30_000, "close_timeout": 50}
"""Pings at once, and nobody is given up."""
STRICT = {"ping_interval": 30, "pong_timeout": 60, "close_timeout": 50}
NO_PONG = "no pong for 0.06 s (the limit 'pong_timeout')"


@pytest.fixture(params=[server_side, client_side], ids=["server", "client"])
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param


def next_ping(peer: Peer) -> bytes:
    """The next ping; data before it is dropped."""
    while True:
        first, payload = peer.get()
        if first == FIN | PING:
            return payload
        assert first in (FIN | BINARY, FIN | TEXT), hex(first)


def pings(sock: Any) -> int:
    return sock._session.keepalive._count


@contextmanager
def answering(peer: Peer) -> Iterator[list[tuple[int, bytes]]]:
    """A task that answers the pings, and gathers the other frames."""
    others: list[tuple[int, bytes]] = []
    stop = False

    def run() -> None:
        while not stop:
            if peer.conn.unreadbytes() < 2:
                if not peer.conn.isalive():
                    return
                turn()
                continue
            first, payload = peer.get()
            if first == FIN | PING:
                peer.put(FIN | PONG, payload)
            else:
                others.append((first, payload))

    task = spawn(run)
    try:
        yield others
    finally:
        stop = True
        joined(task)


# ---- who sends pings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", ["sleeps", "pops", "writes", "reads", "pieces", "idle"])
def test_pings_go_out_and_pongs_count_whatever_the_handler_does(side: Side, busy: str) -> None:
    with side({**PINGS, "ping_interval": 150}) as (sock, peer):  # longer than a pong may lie there until somebody looks
        wait = channel.new()
        stop: list[int] = []

        def sleeps() -> None:
            while not stop:
                time.sleep(1)

        def writes() -> None:
            while not stop:
                assert sock.write("x" * 100, "text") == (True, None)
                time.sleep(1)

        jobs: dict[str, Callable[[], object]] = {
            "sleeps": sleeps,
            "pops": wait.pop,
            "writes": writes,
            "reads": sock.read,
            "pieces": lambda: list(sock.pieces()),
            "idle": lambda: None,
        }
        job = spawn(jobs[busy])
        assert sock.latency is None
        seen = []
        for _ in range(2):
            seen.append(next_ping(peer))
            peer.put(FIN | PONG, seen[-1])
        assert len(set(seen)) == 2
        until(lambda: sock.latency is not None)
        assert 0 <= sock.latency < WITHIN
        assert (sock.closecode, sock.cause) == (None, None)
        stop.append(1)
        wait.close()
        closing = spawn(sock.close)
        joined(job)
        joined(closing)


def test_no_keepalive(side: Side) -> None:
    with side({**STRICT, "ping_interval": 0}) as (sock, peer):
        assert sock._session.keepalive._timer is None
        peer.silent()
        peer.put(FIN | PING, "theirs")
        assert peer.get() == (FIN | PONG, b"theirs")
        assert sock.latency is None


def test_no_ping_after_a_close_frame(side: Side) -> None:
    with side({"ping_interval": 5, "close_timeout": 100}) as (sock, peer):
        next_ping(peer)
        assert sock.write(b"\x03\xe8", "close") == (True, None)
        while (frame := peer.get())[0] == FIN | PING:
            pass
        assert frame == (FIN | CLOSE, b"\x03\xe8")
        assert peer.rest() == b""  # until the limit 'close_timeout'


def test_no_ping_after_the_peers_close_frame(side: Side) -> None:
    with side({"ping_interval": 5, "close_timeout": 100}) as (sock, peer):
        next_ping(peer)
        peer.put_close(1000)
        while (frame := peer.get())[0] == FIN | PING:
            pass
        assert frame == (FIN | CLOSE, b"\x03\xe8")
        assert peer.rest() == b""
        assert sock.closecode == 1000


def test_both_ends_over_many_intervals() -> None:
    with both_sides({"ping_interval": 10, "pong_timeout": 30_000}) as (server, client):

        def text(sock: Any) -> Any:
            while (got := sock.read())[1] == "ping":
                pass
            return got

        reading = [spawn(lambda sock=sock: text(sock)) for sock in (server, client)]
        until(lambda: min(pings(server), pings(client)) >= 30)
        until(lambda: server.latency is not None and client.latency is not None)
        for sock in (server, client):
            assert sock.write("still here", "text") == (True, None)
        assert [joined(each) for each in reading] == [("still here", "text")] * 2
        assert server.cause is client.cause is None


# ---- who lives ------------------------------------------------------------------------------------------------------


def test_any_byte_counts_as_a_sign_of_life(side: Side) -> None:
    """The peer never answers a ping, but bytes of a frame that never ends arrive."""
    with side({"ping_interval": 50, "pong_timeout": 300, "close_timeout": 50}) as (sock, peer):
        frame = peer.frame(FIN | BINARY, b"x" * 100)
        for i in range(10):
            next_ping(peer)
            peer.send(frame[i : i + 1])
        assert pings(sock) >= 10
        assert sock.cause is None
        assert sock.latency is None
        peer.send(frame[10:])
        assert sock.read(WITHIN) == (b"x" * 100, "binary")


def test_pong_late_since_a_task_held_the_loop(side: Side) -> None:
    with side({"ping_interval": 20, "pong_timeout": 250, "close_timeout": 50}) as (sock, peer):
        payload = next_ping(peer)
        clock.sleep(0.5)  # this task holds the loop
        turn(2)  # in which the pong would be due
        assert sock.cause is None
        peer.put(FIN | PONG, payload)
        with answering(peer):
            until(lambda: pings(sock) > 3)
        assert sock.cause is None


def test_a_pong_behind_unread_data(side: Side) -> None:
    """Past 64 KiB nothing is taken, so no peer is given up for a pong that may be there."""
    frames = 40
    with side({"ping_interval": 50, "pong_timeout": 200, "close_timeout": 50}) as (sock, peer):
        peer.send(b"".join(peer.frame(FIN | BINARY, bytes((i,)) * 4096) for i in range(frames)))
        until(lambda: sock._session.stream.paused)
        until(lambda: pings(sock) >= 10)
        assert sock.cause is None
        with answering(peer):
            for i in range(frames):
                assert sock.read(WITHIN) == (bytes((i,)) * 4096, "binary")
            count = pings(sock)
            until(lambda: pings(sock) >= count + 3)
        assert sock.cause is None


def test_output_that_the_kernel_refuses_is_not_pinged(side: Side) -> None:
    """A ping within such output can't be answered yet; the limit 'write_timeout' applies."""
    with side({"ping_interval": 30, "pong_timeout": 600, "close_timeout": 50, "write_timeout": 60_000}) as (sock, peer):
        until(lambda: pings(sock) == 1)
        writing = spawn(lambda: sock.write(b"x" * 16 * MIB))
        ticks = 0
        tick = type(sock._session.keepalive).tick

        def counted(keepalive: Any, it: Any) -> None:
            nonlocal ticks
            ticks += 1
            tick(keepalive, it)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(sock._session.keepalive), "tick", counted)
            until(lambda: sock._session.stream.blocked)
            count = pings(sock)
            until(lambda: ticks >= 30)  # longer than ``pong_timeout``
            assert pings(sock) == count
        assert sock.cause is None
        left = 16 * MIB
        while left:
            first, payload = peer.get()
            if first == FIN | PING:
                peer.put(FIN | PONG, payload)
            else:
                left -= len(payload)
        assert joined(writing) == (True, None)


def test_a_pong_that_is_late_since_the_output_was_refused(side: Side) -> None:
    """The peer was pinged, then it took nothing for longer than the limit: its pong was not due in that time."""
    limits = {"ping_interval": 50, "pong_timeout": 600, "close_timeout": 50, "write_timeout": 60_000, "unsent": 128 * 1024}
    with side(limits) as (sock, peer):
        narrow(sock, peer)
        next_ping(peer)
        writing = spawn(lambda: sock.write(bytes(MIB)))
        refused(sock, 128 * 1024)
        time.sleep(900)
        left = MIB
        while left:
            first, payload = peer.get()
            if first != FIN | PING:
                left -= len(payload)
        assert joined(writing) == (True, None)
        # What the peer sends is life, so it sends nothing before it was pinged again: no close frame comes instead.
        peer.put(FIN | PONG, next_ping(peer))
        with answering(peer) as others:
            assert sock.write("still here", "text") == (True, None)
            until(lambda: (FIN | TEXT, b"still here") in others)
        assert (sock.closecode, sock.cause) == (None, None)


# ---- who doesn't ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [0, 2])
def test_a_silent_peer_is_given_up(side: Side, answers: int, logs: Any) -> None:
    logs.expect(r"INFO websocket: 127.0.0.1:\d+: no pong for .*'pong_timeout'\): close 1011$")
    with side({"ping_interval": 30, "pong_timeout": 300, "close_timeout": 50}) as (sock, peer):
        for _ in range(answers):
            peer.put(FIN | PONG, next_ping(peer))
        while (frame := peer.get())[0] == FIN | PING:
            pass
        text = "no pong for 0.3 s (the limit 'pong_timeout')"
        assert frame == (FIN | CLOSE, b"\x03\xf3" + text.encode())
        peer.eof()
        assert (sock.closecode, sock.closereason, sock.cause) == (1011, text, text)
        assert text in sock.read()[1]
        assert sock.write("x") == (False, sock.read()[1])
        assert sock.close() == (False, "closed")
    assert len(logs.lines) == 1


def test_all_blocked_tasks_wake_with_the_same_cause(side: Side, logs: Any) -> None:
    logs.expect("no pong")
    with side(STRICT) as (sock, _peer):
        block = channel.new()

        def holder() -> Any:
            with sock.message() as message:
                message.write(b"begun")
                message.flush()
                block.pop()  # busy elsewhere, in its turn
                return message.write(b"x" * MIB)

        holding = spawn(holder)
        turn()
        waiting = [spawn(lambda i=i: sock.write(f"small {i}", "text")) for i in range(3)]
        waiting.append(spawn(lambda: sock.write(b"x" * MIB)))
        reading = spawn(sock.read)
        turn()
        _, err = joined(reading)
        assert NO_PONG in err
        for each in waiting:
            assert joined(each) == (False, err)
        block.close()
        assert joined(holding) == (False, err)
        assert sock.pieces().err is None
        pieces = sock.pieces()
        assert list(pieces) == []
        assert pieces.err == err
        assert sock.write("x", "ping") == (False, err)
        assert sock.cause == NO_PONG


def test_every_error_names_write_timeout(side: Side) -> None:
    with side({**PINGS, "write_timeout": 200}) as (sock, _peer):
        until(lambda: pings(sock) >= 1)
        reading = spawn(sock.read)
        writing = [spawn(lambda: sock.write(b"x" * 16 * MIB)) for _ in range(3)]
        until(lambda: sock._session.stream.blocked)
        writing.append(spawn(lambda: sock.write("small", "text")))
        blocked = [spawn(lambda: sock.write("x", "ping")) for _ in range(3)]
        results = [joined(each) for each in writing + blocked]
        data, err = joined(reading)
        assert data is None
        assert "no progress in sending" in err
        assert "the limit 'write_timeout' of 200 ms" in err
        assert results == [(False, err)] * 7
        assert sock.closecode == 1006
        assert sock.cause
        assert sock.cause in err


def test_a_peer_that_ends_while_nobody_reads(side: Side) -> None:
    """Its end (FIN) is noticed at the next ping's time."""
    with side(STRICT) as (sock, peer):
        peer.half_close()
        until(lambda: sock.cause is not None)
        assert (sock.cause, sock.closecode) == (errno.EOF, 1006)
        data, err = sock.read()
        assert data is None
        assert errno.EOF in err
        until(lambda: sock._session.stream.sock is None)


def test_a_peer_that_ends_behind_unread_data(side: Side) -> None:
    """What came before its end is not lost."""
    with side(STRICT) as (sock, peer):
        peer.put(FIN | TEXT, "last words")
        peer.half_close()
        until(lambda: sock._session.stream.err is not None)
        ticks = set()
        until(lambda: ticks.add(sock._session.keepalive._timer.when) or len(ticks) > 5)
        assert sock.cause is None
        assert sock.read() == ("last words", "text")
        assert errno.EOF in sock.read()[1]


def test_what_had_arrived_is_read_after_the_peer_was_given_up(logs: Any) -> None:
    logs.expect("no pong for 0.1 s")
    with server_side({"ping_interval": 20, "pong_timeout": 100}) as (sock, peer):
        peer.put(FIN | TEXT, "one")
        peer.put(FIN | BINARY, "two")
        until(lambda: sock._session.stream.sock is None)
        assert sock.closecode == 1011
        assert sock.write("x") == (False, f"the connection with {sock.conn.remoteaddr} was given up: {sock.cause}")
        assert sock.read() == ("one", "text")
        assert sock.read() == (b"two", "binary")
        assert sock.read()[1].endswith("was given up: no pong for 0.1 s (the limit 'pong_timeout')")


def test_a_reset_while_reading_pauses_is_seen_by_keepalive() -> None:
    """Paused, the descriptor is not watched: only our ping meets the reset."""
    # The first ping must come after the reset: the next one would wait for its pong.
    with server_side({"receive_mark": 1000, "ping_interval": 500, "pong_timeout": 60_000}) as (sock, peer):
        peer.put(FIN | BINARY, bytes(900))
        peer.put(FIN | BINARY, bytes(900))
        until(lambda: sock._session.stream.paused)
        peer.reset()
        until(lambda: sock._session.stream.sock is None)
        assert sock.read() == (bytes(900), "binary")
        data, err = sock.read(WITHIN)
        while data is not None:
            data, err = sock.read(WITHIN)
        assert "without a closing handshake" in err
        assert sock.closecode == 1006


# ---- whose pongs are shown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looked", [False, True], ids=["read", "looked through"])
def test_only_our_own_pongs_are_hidden(side: Side, looked: bool) -> None:
    with side(PINGS) as (sock, peer):
        ours = next_ping(peer)
        other = bytes((ours[0] ^ 1,)) + ours[1:]
        assert sock.write("app", "ping") == (True, None)
        while (frame := peer.get())[0:2] != (FIN | PING, b"app"):
            assert frame[0] == FIN | PING
        peer.send(
            b"".join(
                peer.frame(FIN | first, payload)
                for first, payload in [
                    (PONG, b"unsolicited"),
                    (PONG, ours),
                    (PONG, b"app"),
                    (BINARY, b"data"),
                    (PONG, ours),
                    (PONG, b""),
                    (PONG, other),
                    (PING, ours),
                    (TEXT, b"end"),
                ]
            )
        )
        if looked:
            until(lambda: len(sock._session.taken) == 7)
        got = []
        while got[-1:] != [("end", "text")]:
            got.append(sock.read(WITHIN))
        assert got == [
            (b"unsolicited", "pong"),
            (b"app", "pong"),
            (b"data", "binary"),
            (b"", "pong"),
            (other, "pong"),
            (ours, "ping"),
            ("end", "text"),
        ]


def test_a_late_pong_does_not_change_the_latency(side: Side) -> None:
    with side(PINGS) as (sock, peer):
        first = next_ping(peer)
        turn(3)
        peer.put(FIN | TEXT, "alive")
        second = next_ping(peer)
        assert sock.read(WITHIN) == ("alive", "text")
        peer.put(FIN | PONG, first)
        peer.put(FIN | PONG, "x")
        assert sock.read(WITHIN) == (b"x", "pong")
        assert sock.latency is None
        assert first != second


# ---- nothing is left ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "reset", "condemned", "their close", "conn.close", "broken", "handler"])
def test_timers_return(side: Side, end: str, logs: Any) -> None:
    logs.allow("no pong|unknown opcode")
    before = len(scheduler.loop.timers)
    with side(STRICT if end == "condemned" else PINGS) as (sock, peer):
        next_ping(peer)
        if end == "close":
            sock.close()
        elif end == "reset":
            peer.reset()
            sock.read(WITHIN)
        elif end == "condemned":
            sock.read(WITHIN)
        elif end == "their close":
            peer.put_close()
            sock.read(WITHIN)
            sock.close()
        elif end == "conn.close":
            sock.conn.close()
        elif end == "broken":
            peer.put(0x0B)
            sock.read(WITHIN)
    sock.close()
    until(lambda: len(scheduler.loop.timers) == before)


@pytest.mark.parametrize("unread", [False, True])
def test_a_forgotten_client_says_1001_and_leaves_nothing(unread: bool) -> None:
    """While its keepalive runs, and with data that nobody has looked at yet."""
    peers = channel.new()

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        peer.send(switching(peer.read("\r\n\r\n").decode()))
        peers.push(peer)

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}", limits=silly.Limits(**PINGS))
        assert err is None
        peer, _ = peers.pop()
        next_ping(peer)
        if unread:
            peer.put(FIN | TEXT, "x")
            while sock._session.unread is None or sock._session.unread.timer is None:
                turn()
        del sock, err
        gc.collect()
        while (frame := peer.get())[0] == FIN | PING:
            pass
        assert frame == (FIN | CLOSE, b"\x03\xe9")
        peer.eof()
        peer.close()
