"""A socket that nobody reads: what arrives is taken and acted upon, once, and the reader still sees all of it later."""

from __future__ import annotations

import random
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from silly import time
from silly._core import scheduler
from silly._wire.ws import MessageReader
from silly.net.websocket import _socket, _unread
from silly.sync import channel

from ..helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    WITHIN,
    client_side,
    joined,
    server_side,
    spawn,
    turn,
)
from .support import monotonic, until
from .ws_support import nobody_reads_at_once, one

KIB = 1024
MIB = 1024 * 1024
CLOSED = "closed"
Side = Callable[..., AbstractContextManager[tuple[Any, Any]]]


@pytest.fixture(params=[server_side, client_side], ids=["server", "client"])
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param


@pytest.fixture
def pair(side: Side) -> Iterator[tuple[Any, Any]]:
    with side() as both:
        yield both


def read(sock: Any) -> Any:
    return sock.read(WITHIN)


# ---- pings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["idle", "pops", "writes", "in a message"])
def test_pings_are_answered_in_order_and_shown_once(pair: Any, handler: str) -> None:
    sock, peer = pair
    block = channel.new()

    def in_a_message() -> None:
        with sock.message() as message:
            message.write("x")
            block.pop()

    jobs: dict[str, Callable[[], object]] = {
        "idle": lambda: None,
        "pops": block.pop,
        "writes": lambda: sock.write(b"x" * MIB),  # the kernel takes that, and pongs: while it refuses only the newest is kept
        "in a message": in_a_message,
    }
    job = spawn(jobs[handler])
    turn()
    frames = []
    for i in range(5):
        peer.put(FIN | PING, f"a{i}")
        peer.put(FIN | BINARY, f"data {i}")
        peer.put(FIN | PING, f"b{i}")
    pongs = []
    while len(pongs) < 10:
        first, payload = peer.get()
        (pongs if first == FIN | PONG else frames).append((first, payload))
    assert pongs == [(FIN | PONG, f"{letter}{i}".encode()) for i in range(5) for letter in "ab"]
    block.close()
    while handler == "writes" and sum(len(payload) for _, payload in frames) < MIB:
        frames.append(peer.get())
    joined(job)
    for i in range(5):
        assert read(sock) == (f"a{i}".encode(), "ping")
        assert sock.write(f"a{i}", "pong") == (True, None)  # by hand: it has been answered
        assert read(sock) == (f"data {i}".encode(), "binary")
        assert read(sock) == (f"b{i}".encode(), "ping")
    assert sock.write("end", "text") == (True, None)
    frames.append(peer.get())
    while handler == "in a message" and frames[-1] != (FIN | TEXT, b"end"):
        frames.append(peer.get())
    assert frames[-1] == (FIN | TEXT, b"end")
    assert sock.write("b4", "pong") == (True, None)
    assert sock.write("b4", "pong") == (True, None)
    assert peer.get() == (FIN | PONG, b"b4")  # the second: each ping takes one pong
    peer.silent()


def test_a_ping_within_a_fragmented_message(pair: Any) -> None:
    sock, peer = pair
    peer.put(TEXT, "one ")
    peer.put(FIN | PING, "between")
    assert peer.get() == (FIN | PONG, b"between")
    peer.put(CONTINUATION, "two ")
    peer.put(FIN | PING, "")
    assert peer.get() == (FIN | PONG, b"")
    peer.put(FIN | CONTINUATION, "three")
    assert [read(sock) for _ in range(3)] == [(b"between", "ping"), (b"", "ping"), ("one two three", "text")]
    peer.silent()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_ping_behind_a_frame_of_which_some_was_read(pair: Any, opcode: int) -> None:
    """A read that timed out has taken a part of a frame; the rest of it, and pings, come while nobody reads."""
    sock, peer = pair
    frame = peer.frame(FIN | opcode, b"x" * 1000)
    peer.send(frame[:500])
    reading = spawn(lambda: sock.read(20))
    assert joined(reading)[0] is None
    peer.send(frame[500:] + peer.frame(FIN | PING, b"behind"))
    assert peer.get() == (FIN | PONG, b"behind")
    data, typ = read(sock)
    assert (data, typ) == (("x" * 1000, "text") if opcode == TEXT else (b"x" * 1000, "binary"))
    assert read(sock) == (b"behind", "ping")
    peer.silent()


def test_a_ping_behind_the_message_that_was_read_is_answered() -> None:
    """They came together, and nothing comes after them: nobody would look."""
    with server_side() as (sock, peer):
        reading = spawn(lambda: one(sock))
        peer.send(peer.frame(FIN | TEXT, b"a") + peer.frame(FIN | PING, b"p"))
        assert joined(reading) == ("a", "text")
        assert peer.get() == (FIN | PONG, b"p")
        assert one(sock) == (b"p", "ping")


def test_nothing_is_taken_past_the_mark(side: Side) -> None:
    with side({"receive_mark": 16 * KIB}) as (sock, peer):
        frames = [peer.frame(FIN | BINARY, b"%03d" % i * 333) for i in range(400)]
        peer.send(b"".join(frames) + peer.frame(FIN | PING, b"late"))
        until(lambda: sock._session.stream.paused)
        turn(3)
        peer.silent()
        assert sock.conn.unreadbytes() < 64 * KIB
        for i in range(400):
            assert read(sock) == (b"%03d" % i * 333, "binary")
        assert peer.get() == (FIN | PONG, b"late")
        assert read(sock) == (b"late", "ping")


def test_reading_what_was_taken_lets_others_run(pair: Any) -> None:
    sock, peer = pair
    count = 2000
    peer.send(peer.frame(FIN | TEXT, b"x") * count + peer.frame(FIN | PING, b"p"))
    assert peer.get() == (FIN | PONG, b"p")
    ran = 0
    stop = False

    def others() -> None:
        nonlocal ran
        while not stop:
            ran += 1
            time.sleep(0)

    running = spawn(others)
    for _ in range(count):
        assert sock.read() == ("x", "text")
    assert ran > count // 100
    stop = True
    joined(running)


@pytest.mark.parametrize("way", ["read", "pieces"])
def test_taking_while_the_reader_lets_others_run(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it then finds taken is what is next."""
    with server_side() as (sock, peer):
        pause = scheduler.pause
        sent: list[bytes] = []

        def put(count: int) -> None:
            before = len(sock._session.taken)
            for _ in range(count):
                sent.append(b"%d" % len(sent))
                peer.put(FIN | PING, sent[-1])
            until(lambda: sock.conn.unreadbytes() > 0 or len(sock._session.taken) > before)

        def looks() -> None:
            pause()
            sock._session.take_unread()
            if len(sent) < 300:
                put(3)
                sock._session.take_unread()

        monkeypatch.setattr(_socket, "BURST", 8)
        put(20)
        seen: list[bytes] = []
        with monkeypatch.context() as patch:
            patch.setattr(scheduler, "pause", looks)
            if way == "read":
                while len(seen) < len(sent):
                    data, typ = one(sock)
                    assert typ == "ping"
                    seen.append(data)
            else:
                peer.put(FIN | TEXT, "x")
                assert list(sock.pieces(WITHIN)) == ["x"]
        assert seen in ([], sent)
        assert [peer.get() for _ in sent] == [(FIN | PONG, ping) for ping in sent]


def test_reading_goes_on_past_the_mark_when_nobody_ever_reads(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """More pings at once than the mark: those that were answered make room for the rest, and for the close."""
    nobody_reads_at_once(monkeypatch)
    count = 3000
    with side({"receive_mark": 4 * KIB, "close_timeout": 50}) as (sock, peer):
        sending = spawn(lambda: peer.send(b"".join(peer.frame(FIN | PING, b"%04d" % i) for i in range(count))))
        for i in range(count):
            assert peer.get() == (FIN | PONG, b"%04d" % i)
        joined(sending)
        assert sock.conn.unreadbytes() < 4 * KIB
        peer.put_close(3000)
        assert peer.get_close() == (3000, "")
        assert sock.closecode == 3000


def test_pongs_do_not_fill_the_queue_of_a_socket_that_only_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread pongs of ours, and pings that were answered, would fill the buffer in hours; then nothing more would be seen."""
    monkeypatch.setattr(_unread, "UNREAD", 0.0)
    with server_side({"receive_mark": KIB, "ping_interval": 2, "pong_timeout": 60_000}) as (sock, peer):
        pongs = 0
        while pongs < 200:
            first, payload = peer.get()
            if first == FIN | PING:
                peer.put(FIN | PONG, payload)
                peer.put(FIN | PING, b"%d" % pongs)
                pongs += 1
        peer.put(FIN | PING, "seen?")
        while peer.get() != (FIN | PONG, b"seen?"):
            pass
        assert not sock._session.stream.paused
        peer.put_close(1000)
        while peer.get()[0] != FIN | CLOSE:
            pass
        # The newest that nobody read are still shown, in their order, and none of ours.
        seen = []
        while not seen or seen[-1][1] != "close":
            seen.append(one(sock))
        assert seen[-2] == (b"seen?", "ping")
        numbers = [int(data) for data, typ in seen[:-2]]
        assert numbers == list(range(numbers[0], 200))


def test_messages_stay_when_control_frames_between_them_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unread, "UNREAD", 0.0)
    with server_side({"receive_mark": 4 * KIB}) as (sock, peer):
        for i in range(10):
            peer.put(FIN | TEXT, f"message {i}")
            for k in range(40):
                peer.put(FIN | PING, b"%d %d" % (i, k))
        pongs = [peer.get() for _ in range(400)]
        assert pongs == [(FIN | PONG, b"%d %d" % (i, k)) for i in range(10) for k in range(40)]
        until(lambda: sock._session.unread is not None and 0 < sock._session.unread._answered <= KIB)
        peer.put(FIN | TEXT, "end")
        seen = []
        while not seen or seen[-1] != ("end", "text"):
            seen.append(one(sock))
        assert [data for data, typ in seen if typ == "text"] == [f"message {i}" for i in range(10)] + ["end"]
        shown = [data for data, typ in seen if typ == "ping"]
        assert shown == [b"9 %d" % k for k in range(40 - len(shown), 40)] or len(shown) > 40


# ---- close ----------------------------------------------------------------------------------------------------------


def test_a_close_is_answered_and_the_reader_sees_what_came_before(pair: Any) -> None:
    sock, peer = pair
    peer.put(FIN | TEXT, "before")
    peer.put(FIN | PING, "p")
    peer.put_close(3001, "bye")
    assert peer.get() == (FIN | PONG, b"p")
    assert peer.get_close() == (3001, "")
    assert (sock.closecode, sock.closereason) == (3001, "bye")
    assert sock.cause == "closed by the peer: 3001 'bye'"
    assert sock.write("late") == (False, CLOSED)
    assert sock.write("late", "ping") == (False, CLOSED)
    assert sock.write(b"x" * MIB) == (False, CLOSED)
    with sock.message() as message:
        assert message.write("late") == (False, CLOSED)
    assert message.err == CLOSED
    assert read(sock) == ("before", "text")
    assert read(sock) == (b"p", "ping")
    assert read(sock) == (b"\x0b\xb9bye", "close")
    assert read(sock) == (None, CLOSED)
    assert sock.pieces(WITHIN).typ is None


def test_a_close_after_the_pieces_of_a_message(pair: Any) -> None:
    sock, peer = pair
    peer.put(BINARY, "one")
    peer.put(FIN | CONTINUATION, "two")
    peer.put_close(1001)
    assert peer.get_close() == (1001, "")
    pieces = sock.pieces(WITHIN)
    assert b"".join(pieces) == b"onetwo"
    assert (pieces.typ, pieces.err) == ("binary", None)
    pieces = sock.pieces(WITHIN)
    assert list(pieces) == []
    assert (pieces.typ, pieces.err) == ("close", CLOSED)


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind data"])
def test_what_follows_a_close_is_ignored(side: Side, behind: bool) -> None:
    with side({"close_timeout": 50}) as (sock, peer):
        frames = [
            *([peer.frame(FIN | TEXT, b"data")] if behind else []),
            peer.frame(FIN | CLOSE, b"\x03\xe8first"),
            peer.frame(FIN | CLOSE, b"\x03\xe9second"),
            peer.frame(FIN | PING, b"p"),
            peer.frame(FIN | CLOSE, b"\x00\x00"),
            peer.frame(0x0F),
        ]
        peer.send(b"".join(frames))
        assert peer.get_close() == (1000, "")
        peer.put(0x0B)
        assert (sock.closecode, sock.closereason) == (1000, "first")
        if behind:
            assert read(sock) == ("data", "text")
        assert read(sock) == (b"\x03\xe8first", "close")


def test_a_close_that_nobody_ever_reads_ends_tcp(side: Side) -> None:
    with side({"close_timeout": 50}) as (sock, peer):
        peer.put(FIN | PING, "p")
        peer.put_close(1000)
        assert peer.get() == (FIN | PONG, b"p")
        assert peer.get_close() == (1000, "")
        peer.eof()  # the limit 'close_timeout'
        assert (sock.closecode, sock.cause) == (1000, "closed by the peer: 1000")
        assert sock.write("x", "text") == (False, CLOSED)
        # What had arrived can still be read.
        assert sock.read() == (b"p", "ping")
        assert sock.read() == (b"\x03\xe8", "close")
        assert sock.read() == (None, CLOSED)
        assert sock.close() == (True, None)
        assert sock.close() == (False, CLOSED)


@pytest.mark.parametrize("late", [False, True], ids=["before close is due", "after"])
def test_a_close_that_is_read_and_then_forgotten_ends_tcp(side: Side, late: bool) -> None:
    """Data before the close waits for its reader, however long; TCP ends within the limit."""
    with side({"close_timeout": 50}) as (sock, peer):
        peer.put(FIN | TEXT, "data")
        peer.put_close(1000)
        assert peer.get_close() == (1000, "")
        if late:
            peer.eof()
        else:
            peer.silent()
        assert read(sock) == ("data", "text")
        assert read(sock) == (b"\x03\xe8", "close")
        peer.eof()
        assert (sock.closecode, sock.cause) == (1000, "closed by the peer: 1000")


def test_a_close_whose_data_was_read_ends_tcp(side: Side) -> None:
    """The reader took the data before the close frame, but never reads that."""
    with side({"close_timeout": 50}) as (sock, peer):
        peer.put(FIN | TEXT, "data")
        peer.put_close(1000)
        assert peer.get_close() == (1000, "")
        assert read(sock) == ("data", "text")
        peer.eof()
        assert sock.closecode == 1000


def test_our_close_frame_is_never_answered_and_nobody_reads(side: Side) -> None:
    with side({"close_timeout": 50}) as (sock, peer):
        assert sock.write(b"\x03\xe8", "close") == (True, None)
        peer.put(FIN | TEXT, "unread")
        assert peer.get_close() == (1000, "")
        peer.eof()
        assert sock.closecode == 1006
        assert sock.cause == "the peer did not answer the close frame within the limit 'close_timeout' of 50 ms"
        assert sock.read() == ("unread", "text")
        assert sock.read() == (None, sock.cause)


# ---- faults ---------------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[Any], bytes], int]] = {
    "bad opcode": (lambda peer: peer.frame(FIN | 0x03), 1002),
    "bad control opcode": (lambda peer: peer.frame(FIN | 0x0B), 1002),
    "reserved bit": (lambda peer: peer.frame(FIN | 0x10 | BINARY, b"x"), 1002),
    "reserved bit of a ping": (lambda peer: peer.frame(FIN | 0x40 | PING, b"x"), 1002),
    "fragmented ping": (lambda peer: peer.frame(PING, b"x"), 1002),
    "long ping": (lambda peer: peer.frame(FIN | PING, b"x" * 126), 1002),
    "close code": (lambda peer: peer.frame(FIN | CLOSE, b"\x03\xed"), 1002),
    "half a close code": (lambda peer: peer.frame(FIN | CLOSE, b"\x03"), 1002),
    "close reason": (lambda peer: peer.frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007),
    "masking": (lambda peer: bytes((FIN | PING, 0x00 if peer.masks else 0x80)) + b"\0" * 6, 1002),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_alone_is_answered_at_once(side: Side, fault: str, logs: Any) -> None:
    logs.expect("INFO websocket: .*: close 100[27]$")
    make, code = FAULTS[fault]
    with side() as (sock, peer):
        peer.put(FIN | PING, "before")
        peer.put(FIN | PONG, "before")
        peer.send(make(peer))
        assert peer.get() == (FIN | PONG, b"before")
        assert peer.get_close()[0] == code
        assert sock.closecode == code
        assert "broke the protocol" in sock.read()[1]
        assert sock.write("x") == (False, sock.read()[1])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_behind_data_waits_for_the_reader(side: Side, fault: str, logs: Any) -> None:
    logs.expect("INFO websocket: .*: close 100[27]$")
    make, code = FAULTS[fault]
    with side() as (sock, peer):
        peer.put(FIN | PING, "before")
        peer.put(FIN | TEXT, "data")
        peer.send(make(peer))
        assert peer.get() == (FIN | PONG, b"before")
        peer.silent()
        assert sock.closecode is None
        assert read(sock) == (b"before", "ping")
        assert read(sock) == ("data", "text")
        assert "broke the protocol" in read(sock)[1]
        assert peer.get_close()[0] == code
        assert sock.closecode == code


@pytest.mark.parametrize("first", [False, True])
def test_a_fault_between_data_and_a_close_that_nobody_reads(first: bool, logs: Any) -> None:
    """[text][orphan continuation][close]: the text is read, early or late, and nothing more."""
    logs.expect("continuation without a message to continue")
    with server_side({"close_timeout": 50}) as (sock, peer):
        peer.send(peer.frame(FIN | TEXT, b"a") + peer.frame(FIN | CONTINUATION, b"b") + peer.frame(FIN | CLOSE, b"\x03\xe8"))
        if not first:
            until(lambda: sock._session.fault is not None)
            assert (sock.closecode, sock.cause) == (None, None)
        assert one(sock) == ("a", "text")
        assert "broke the protocol" in sock.read()[1]
        code, _ = peer.get_close()
        assert code == sock.closecode == 1002
        peer.close()  # to whom a fault was told it is left to end
        until(lambda: sock._session.stream.sock is None)
        assert sock.read()[0] is None


def test_control_frames_while_output_is_refused(side: Side, logs: Any) -> None:
    logs.expect(r"INFO websocket: .*: more control frames than the limit 'control_frames' of 10 from a peer that doesn't read")
    with side({"control_frames": 10, "linger": 100}) as (sock, peer):
        writing = spawn(lambda: sock.write(b"x" * 32 * MIB))
        until(lambda: sock._session.stream.blocked)
        peer.send(b"".join(peer.frame(FIN | PING, b"%d" % i) for i in range(11)))
        until(lambda: sock.closecode is not None)
        assert sock.closecode == 1008
        assert "'control_frames' of 10" in sock.closereason
        data, err = sock.read()
        assert data is None
        assert err
        assert joined(writing) == (False, err)


def test_pongs_go_out_while_a_writer_keeps_the_output_full() -> None:
    """The kernel refuses output all the while, and still takes some: the pongs must not wait until it has taken everything."""
    with server_side({"unsent": 64 * KIB, "control_frames": 20}) as (sock, peer):
        sock.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
        peer.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
        stop = False

        def write() -> None:
            while not stop and sock.write(bytes(60 * KIB)):
                pass

        def answer() -> None:
            while one(sock)[1] == "ping":
                pass

        writing, reading = spawn(write), spawn(answer)
        until(lambda: sock._session.stream.blocked)
        refused = 0
        for i in range(40):
            peer.put(FIN | PING, b"%d" % i)
            refused += sock._session.stream.blocked
            while peer.get() != (FIN | PONG, b"%d" % i):
                pass
        assert refused > 20  # the limit 'control_frames'
        stop = True
        peer.put(FIN | TEXT, "end")
        while not len(writing):
            peer.get()
        joined(writing)
        joined(reading)


# ---- where taking stops ----------------------------------------------------------------------------------------------


def taken(sock: Any) -> int:
    return len(sock._session.taken)


def test_what_was_taken_is_not_in_the_buffer_and_is_one_piece(pair: Any) -> None:
    sock, peer = pair
    peer.put(FIN | TEXT, "whole")
    peer.put(TEXT, "one ")
    peer.put(FIN | CONTINUATION, "two")
    peer.put(FIN | BINARY, b"")
    until(lambda: taken(sock) == 3)
    assert sock.conn.unreadbytes() == 0
    for typ, expected in (("text", ["whole"]), ("text", ["one two"]), ("binary", [])):
        pieces = sock.pieces(WITHIN)
        assert (list(pieces), pieces.typ, pieces.err) == (expected, typ, None)
    peer.put(FIN | TEXT, "é" * 10)
    until(lambda: taken(sock) == 1)
    pieces = sock.pieces(WITHIN, limit=20)
    assert list(pieces) == ["é" * 10]


@pytest.mark.parametrize("size", [9, 4 * KIB])
def test_taking_stops_at_the_mark(side: Side, size: int) -> None:
    """Tiny messages count more than their bytes. What is read makes room again, though the reader stops."""
    with side({"receive_mark": 16 * KIB}) as (sock, peer):
        count = 64 * KIB // size
        peer.send(b"".join(peer.frame(FIN | BINARY, b"%04d" % i + b"x" * (size - 4)) for i in range(count)))
        peer.put(FIN | PING, "behind")
        until(lambda: sock._session.stream.paused and sock._session.unread.timer is not None and taken(sock) > 1)
        turn(3)
        held = taken(sock)
        assert held * size < 16 * KIB + size
        assert held <= 16 * KIB // 16
        peer.silent()
        for i in range(held // 2):
            assert read(sock)[0][:4] == b"%04d" % i
        until(lambda: taken(sock) > held // 2 + 1)  # it looks again, though nothing arrives
        for i in range(held // 2, count):
            assert read(sock)[0][:4] == b"%04d" % i
        assert peer.get() == (FIN | PONG, b"behind")
        assert read(sock) == (b"behind", "ping")


def test_taking_pings_stops_at_the_mark(side: Side) -> None:
    with side({"receive_mark": 2 * KIB}) as (sock, peer):
        count = 300
        peer.send(b"".join(peer.frame(FIN | PING, b"%03d" % i) for i in range(count)))
        until(lambda: sock._session.stream.paused or sock._session.stream.buf)
        until(lambda: taken(sock) and sock._session.unread.timer is not None)
        turn(3)
        held = taken(sock)
        assert held == -(-2 * KIB // (3 + 16))
        assert [peer.get() for _ in range(held)] == [(FIN | PONG, b"%03d" % i) for i in range(held)]
        peer.silent()
        for i in range(count):
            assert read(sock) == (b"%03d" % i, "ping")
        assert [peer.get() for _ in range(held, count)] == [(FIN | PONG, b"%03d" % i) for i in range(held, count)]


def test_nothing_is_inflated_unread(side: Side) -> None:
    deflate = zlib.compressobj(9, wbits=-12)
    packed = (deflate.compress(b"x" * KIB) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with side(compression=True) as (sock, peer):
        peer.put(FIN | TEXT, "plain")
        peer.put(FIN | PING, "before")
        peer.put(FIN | 0x40 | TEXT, packed)
        peer.put(FIN | PING, "behind")
        assert peer.get() == (FIN | PONG, b"before")
        turn(3)
        assert taken(sock) == 2
        assert sock.conn.unreadbytes() > len(packed)
        peer.silent()
        assert [read(sock) for _ in range(3)] == [("plain", "text"), (b"before", "ping"), ("x" * KIB, "text")]
        assert peer.get() == (FIN | PONG, b"behind")
        assert read(sock) == (b"behind", "ping")


@pytest.mark.parametrize("frames", [1, 2])
def test_pieces_of_a_message_longer_than_the_limit_that_nobody_read(side: Side, frames: int) -> None:
    with side({"message": 1000}) as (sock, peer):
        peer.put(FIN | BINARY, bytes(1000))
        if frames == 1:
            peer.put(FIN | BINARY, bytes(1500))
        else:
            peer.put(BINARY, bytes(900))
            peer.put(FIN | PING, "between")
            peer.put(FIN | CONTINUATION, bytes(600))
        until(lambda: taken(sock) == frames)
        turn(3)
        assert taken(sock) == frames
        assert list(sock.pieces(WITHIN)) == [bytes(1000)]
        pieces = sock.pieces(WITHIN, limit=1500)
        assert b"".join(pieces) == bytes(1500)
        assert (pieces.typ, pieces.err) == ("binary", None)


def test_a_message_longer_than_the_limit_that_nobody_read(side: Side, logs: Any) -> None:
    logs.expect("INFO websocket: .*: message longer than the limit 'message' of 1000 bytes: close 1009$")
    with side({"message": 1000}) as (sock, peer):
        peer.put(BINARY, bytes(900))
        peer.put(FIN | CONTINUATION, bytes(600))
        until(lambda: sock._session.messages.held)
        turn(3)
        peer.silent()
        assert "'message' of 1000 bytes" in read(sock)[1]
        assert peer.get_close()[0] == 1009


def test_pieces_of_a_message_that_is_unfinished(pair: Any) -> None:
    """The fragments that have come were taken, so that the ping was seen; a reader gets them at once."""
    sock, peer = pair
    peer.put(TEXT, "é".encode() + b"\xc3")
    peer.put(FIN | PING, "p")
    assert peer.get() == (FIN | PONG, b"p")
    pieces = sock.pieces(WITHIN)
    assert next(pieces) == "é"
    assert pieces.typ == "text"
    peer.put(CONTINUATION, b"\xa9")
    assert next(pieces) == "é"
    peer.put(FIN | PING, "q")  # between the fragments of a message that is being read
    assert peer.get() == (FIN | PONG, b"q")
    peer.put(FIN | CONTINUATION, "end")
    assert list(pieces) == ["end"]
    assert pieces.err is None


def test_pieces_with_a_limit_of_a_message_that_is_unfinished(pair: Any, logs: Any) -> None:
    logs.expect("INFO websocket: .*: message longer than the limit 'limit' of 3 bytes: close 1009$")
    sock, peer = pair
    peer.put(BINARY, "1234")
    until(lambda: sock._session.messages.held)
    pieces = sock.pieces(WITHIN, limit=3)
    assert list(pieces) == []
    assert "'limit' of 3 bytes" in str(pieces.err)
    assert peer.get_close()[0] == 1009


@pytest.mark.parametrize("end", ["close", "fault", "eof"])
def test_a_message_that_will_never_be_whole(pair: Any, end: str, logs: Any) -> None:
    """Of which a fragment was taken: who reads in pieces gets that first."""
    logs.allow("unknown opcode 3: close 1002$")
    sock, peer = pair
    peer.put(BINARY, "begun")
    until(lambda: sock._session.messages.held)
    if end == "close":
        peer.put_close(1000)
        assert peer.get_close() == (1000, "")
    elif end == "fault":
        peer.put(FIN | 0x03)
        until(lambda: sock._session.fault is not None)
        peer.silent()
    else:
        peer.half_close()
        until(lambda: sock._session.stream.err is not None)
    pieces = sock.pieces(WITHIN)
    assert list(pieces) == [b"begun"]
    assert pieces.err is not None
    assert pieces.typ == ("close" if end == "close" else "binary")
    assert sock.read()[0] is None


def test_a_peer_that_ends_within_a_message_leaves_what_had_come(side: Side) -> None:
    """Keepalive doesn't end the connection before that is read."""
    with side({"ping_interval": 5, "pong_timeout": 60_000}) as (sock, peer):
        peer.put(BINARY, "begun")
        until(lambda: sock._session.messages.held)
        peer.half_close()
        until(lambda: sock._session.stream.err is not None)
        first = sock._session.keepalive._timer.when
        until(lambda: sock._session.keepalive._timer.when != first)
        assert sock.read()[0] is None
        assert sock.partial == b"begun"


@pytest.mark.parametrize("held", [False, True], ids=["", "fault behind data"])
def test_close_with_messages_that_were_taken(side: Side, held: bool, logs: Any) -> None:
    """They are dropped. A fault that is known is not waited for."""
    logs.allow("unknown opcode 3 .while closing.$")
    with side({"close_timeout": 60_000}) as (sock, peer):
        peer.put(FIN | TEXT, "dropped")
        if held:
            peer.put(FIN | 0x03)
            until(lambda: sock._session.fault is not None)
        until(lambda: taken(sock) == 1)
        closing = spawn(sock.close)
        assert peer.get_close() == (1000, "")
        if not held:
            peer.put_close(1000)
        peer.close()
        assert joined(closing) == (True, None)
        assert sock.read() == (None, CLOSED)
        assert sock.closecode == (1006 if held else 1000)


def test_conn_close_behind_a_fault_that_waits_for_the_reader(pair: Any) -> None:
    sock, peer = pair
    peer.put(FIN | TEXT, "dropped")
    peer.put(FIN | 0x03)
    until(lambda: sock._session.fault is not None)
    sock.conn.close()
    assert sock.read() == (None, CLOSED)
    assert sock.closecode == 1006


def test_conn_close_wakes_writers_behind_an_idle_message(pair: Any) -> None:
    sock, _ = pair
    with sock.message() as message:
        waiting = [spawn(lambda: sock.write("x")) for _ in range(3)]
        turn()
        sock.conn.close()
        assert [joined(each) for each in waiting] == [(False, CLOSED)] * 3
        assert message.write("x")
        assert message.flush() == (False, CLOSED)


def test_pongs_by_hand_for_many_pings_that_were_taken(pair: Any) -> None:
    """Each was answered; so none of these goes out."""
    sock, peer = pair
    for i in range(60):
        peer.put(FIN | PING, b"%d" % i)
    assert [peer.get() for _ in range(60)] == [(FIN | PONG, b"%d" % i) for i in range(60)]
    until(lambda: taken(sock) == 60)
    for i in range(60):
        assert read(sock) == (b"%d" % i, "ping")
        assert sock.write(b"%d" % i, "pong") == (True, None)
    peer.silent()


# ---- a slow reader, against a model ---------------------------------------------------------------------------------


def counting_right(self: Any, session: Any, take: Callable[..., None] = _unread.Unread.take) -> None:
    """``Unread.take``, and what it counts, counted anew."""
    take(self, session)
    sizes = [(len(data) + _unread.OVERHEAD, typ) for data, typ in session.taken]
    answered = sum(size for size, typ in sizes if typ in ("ping", "pong"))
    if session.err is None and (self._held, self._answered) != (sum(size for size, _ in sizes), answered):
        raise AssertionError((self._held, self._answered, sizes))


@pytest.mark.parametrize("seed", range(12))
def test_a_slow_reader_against_a_model(side: Side, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reader sees is what was sent, and each ping is answered once, in order."""
    monkeypatch.setattr(_unread.Unread, "take", counting_right)
    rng = random.Random(seed)
    with side() as (sock, peer):
        expected: list[tuple[Any, str]] = []
        pings: list[bytes] = []
        frames: list[bytes] = []
        for i in range(rng.randrange(20, 120)):
            kind = rng.choice(["text", "binary", "ping", "ping", "pong", "fragments"])
            data = f"{kind} {i} ".encode() * rng.choice([1, 1, 1, 9 if kind in ("ping", "pong") else rng.choice([9, 100])])
            if kind == "fragments":
                cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 4)))
                for first, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(data)], strict=True)):
                    last = end == len(data) and first == len(cuts)
                    frames.append(peer.frame((FIN if last else 0) | (CONTINUATION if first else BINARY), data[begin:end]))
                    if rng.random() < 0.3 and not last:
                        inner = f"inner {i} {first}".encode()
                        frames.append(peer.frame(FIN | PING, inner))
                        pings.append(inner)
                        expected.append((inner, "ping"))
                expected.append((data, "binary"))
                continue
            opcode = {"text": TEXT, "binary": BINARY, "ping": PING, "pong": PONG}[kind]
            frames.append(peer.frame(FIN | opcode, data))
            expected.append((data.decode() if kind == "text" else data, kind))
            if kind == "ping":
                pings.append(data)
        end = rng.choice(["close", "text"])
        frames.append(peer.frame(FIN | CLOSE, b"\x03\xe8") if end == "close" else peer.frame(FIN | TEXT, b"end"))
        expected.append((b"\x03\xe8", "close") if end == "close" else ("end", "text"))
        stream = b"".join(frames)

        def send() -> None:
            at = 0
            while at < len(stream):
                size = rng.choice([1, 2, 7, 50, 300, 2000])
                peer.send(stream[at : at + size])
                at += size
                if rng.random() < 0.5:
                    time.sleep(rng.choice([0, 0, 1, 20]))

        sending = spawn(send)
        seen = []
        while len(seen) < len(expected):
            pause = rng.random()
            if pause < 0.1:
                # As long as it takes until what is there has been taken.
                looks = sock._session.unread and sock._session.unread.timer
                until(lambda: looks is None or sock._session.unread.timer is not looks)  # noqa: B023
            elif pause < 0.3:
                time.sleep(rng.choice([0, 1]))
            got = sock.read(rng.choice([None, WITHIN, 0, 1]))
            if got[0] is None:
                assert "timed out" in got[1], got
                continue
            seen.append(got)
            if got[1] == "ping" and rng.random() < 0.3:
                sock.write(got[0], "pong")  # by hand: done already
        joined(sending)
        assert seen == expected
        for payload in pings:
            assert peer.get() == (FIN | PONG, payload)
        if end == "close":
            assert peer.get_close() == (1000, "")
        peer.silent()


def test_taking_is_linear(side: Side) -> None:
    """A reader that takes one message at a time, and new data after each: every frame is looked at about once."""
    with side() as (sock, peer):
        looked = 0
        complete = MessageReader.complete

        def counted(self: Any, buf: bytearray, data: bool = True) -> Any:
            nonlocal looked
            looked += 1
            return complete(self, buf, data)

        frame = peer.frame(FIN | BINARY, b"x" * 90)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MessageReader, "complete", counted)
            patch.setattr("silly.net.websocket._unread.LOOK", 0.001)
            peer.send(frame * 300)
            sent = 300
            for i in range(200):
                peer.send(frame + peer.frame(FIN | PING, b"%d" % i))
                sent += 1
                assert peer.get() == (FIN | PONG, b"%d" % i)
                assert read(sock)[1] == "binary"
            assert looked <= sent + 200 + 2 * 200  # each time once more to find that there is nothing
        got = [read(sock)[1] for _ in range(500)]
        assert got.count("ping") == 200


def test_taking_for_a_slow_reader_costs_what_was_read(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what is queued: peers could keep the queues of many slow readers full of tiny messages."""
    sized = 0
    size = _unread._size

    def counted(item: Any) -> int:
        nonlocal sized
        sized += 1
        return size(item)

    with side() as (sock, peer):
        peer.send(peer.frame(FIN | TEXT) * 9000)
        session = sock._session
        held = 64 * KIB // _unread.OVERHEAD
        until(lambda: taken(sock) == held)
        monkeypatch.setattr(_unread, "_size", counted)
        for _ in range(20):
            assert read(sock) == ("", "text")
            queue = session.taken
            session.take_unread()
            assert taken(sock) == held
            assert session.taken is queue  # a new one would be a copy
        assert sized <= 2 * 20
        monkeypatch.undo()
        assert [read(sock) for _ in range(9000 - 20)] == [("", "text")] * (9000 - 20)


def test_a_reader_that_finds_all_in_the_buffer_is_no_nobody(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read nothing that was taken, but it does read: no ping is dropped while it is busy for a moment."""
    monkeypatch.setattr(_unread, "LOOK", 1000.0)
    monkeypatch.setattr(_unread, "UNREAD", 0.02)
    sock, peer = pair
    session = sock._session
    frame = peer.frame(FIN | BINARY, b"x" * 90)
    peer.send(frame[:50])
    until(lambda: sock.conn.unreadbytes() == 50)
    session.take_unread()  # nothing can be taken
    begin = monotonic()
    until(lambda: monotonic() > begin + 0.03)
    peer.send(frame[50:])
    assert read(sock) == (b"x" * 90, "binary")
    count = 1500
    peer.send(b"".join([peer.frame(FIN | PING, b"%04d" % i) for i in range(count)]))
    until(lambda: sock.conn.unreadbytes() == count * len(peer.frame(FIN | PING, b"0000")))
    session.take_unread()
    assert taken(sock) == count
    assert [read(sock) for _ in range(count)] == [(b"%04d" % i, "ping") for i in range(count)]


def test_what_can_not_be_taken_costs_an_idle_socket_nothing(pair: Any) -> None:
    """There is no timer while nothing that arrived can be taken, or while the queue is full and nothing else has come."""
    sock, peer = pair
    session = sock._session
    peer.send(peer.frame(FIN | BINARY, b"x" * 90)[:50])
    until(lambda: session.unread is not None and session.unread.timer is not None)
    until(lambda: session.unread.timer is None)
    turn(3)
    assert session.unread.timer is None
    assert sock.conn.unreadbytes() == 50
    peer.send(peer.frame(FIN | BINARY, b"x" * 90)[50:])
    peer.send(peer.frame(FIN | BINARY, b"y" * (64 * KIB - 90 - 2 * _unread.OVERHEAD)))
    until(lambda: taken(sock) == 2)
    assert session.unread._held == 64 * KIB
    turn(3)
    assert session.unread.timer is None


def test_a_message_that_fills_all_room_is_looked_at_less_and_less_often(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unread, "LOOK", 0.001)
    sock, peer = pair
    session = sock._session
    for opcode in (BINARY, CONTINUATION, CONTINUATION):
        peer.send(peer.frame(opcode, b"x" * 32 * KIB))
    until(lambda: session.messages.held == 64 * KIB and session.unread.timer is not None)
    begin = monotonic()
    until(lambda: monotonic() > begin + 0.05)
    session.take_unread()
    assert session.unread.timer.when > monotonic() + 0.04
