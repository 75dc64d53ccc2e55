"""Messages in pieces, both ways: whole and in order whatever the cuts, bounded memory, and an end in every way there is."""

from __future__ import annotations

import random
import signal
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

import silly
from silly import errno, time
from silly._core import scheduler
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
    both_sides,
    client_side,
    joined,
    server_side,
    spawn,
    turn,
)
from .support import Job, until

KIB = 1024
MIB = 1024 * 1024
RSV1 = 0x40
CLOSED = "closed"
SHORT = {"close_timeout": 50}
Side = Callable[..., AbstractContextManager[tuple[Any, Any]]]
WORDS = "aü€😀" * 20


@pytest.fixture(params=[server_side, client_side], ids=["server", "client"])
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param


@pytest.fixture
def pair(side: Side) -> Iterator[tuple[Any, Any]]:
    with side() as both:
        yield both


def deflated(data: bytes) -> bytes:
    """A message as permessage-deflate sends it, within any window that was agreed on."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def fragments(peer: Any, opcode: int, data: bytes, cuts: list[int], first: int = 0) -> list[bytes]:
    """``data`` as a fragmented message, cut there. ``first``: more bits of its first byte."""
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [
        peer.frame((first | opcode if i == 0 else CONTINUATION) | (FIN if i == len(parts) - 1 else 0), part)
        for i, part in enumerate(parts)
    ]


def message_of(peer: Any) -> tuple[int, bytes, list[int]]:
    """The next message: the first byte of its first frame, its payload, and the sizes of its fragments. Pings may pass."""
    first, payload = peer.get()
    kind, data, sizes = first, payload, [len(payload)]
    while not first & FIN:
        first, payload = peer.get()
        if first in (FIN | PING, FIN | PONG):
            first = 0
            continue
        assert first & 0x7F == CONTINUATION
        data += payload
        sizes.append(len(payload))
    return kind, data, sizes


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_any_cut(side: Side, opcode: int, compressed: bool) -> None:
    """Within code points, and within compressed data; with pings between."""
    rng = random.Random(opcode)
    data = WORDS.encode()
    with side(compression=compressed) as (sock, peer):
        wire = deflated(data) if compressed else data
        for step in (1, 2, 3, 5, 50, 1000):
            cuts = list(range(step, len(wire), step))
            frames = fragments(peer, opcode, wire, cuts, RSV1 if compressed else 0)
            frames = [peer.frame(FIN | PING, b"p") + frame if rng.random() < 0.1 else frame for frame in frames]
            stream = b"".join(frames)

            def send(stream: bytes = stream) -> None:
                at = 0
                while at < len(stream):
                    size = rng.choice([1, 3, 40, 4000])
                    peer.send(stream[at : at + size])
                    at += size
                    turn()

            sending = spawn(send)
            pieces = sock.pieces(WITHIN)
            assert pieces.typ is None
            got = list(pieces)
            joined(sending)
            assert all(got)
            assert (b"" if opcode == BINARY else "").join(got) == (data if opcode == BINARY else WORDS)
            assert (pieces.typ, pieces.err) == ("binary" if opcode == BINARY else "text", None)
            assert next(pieces, "over") == "over"
        peer.put(FIN | TEXT, "after")
        assert sock.read(WITHIN) == ("after", "text")  # and no ping


@pytest.mark.parametrize("frames", [[(FIN | TEXT, b"")], [(TEXT, b""), (CONTINUATION, b""), (FIN | CONTINUATION, b"")]])
def test_an_empty_message(pair: Any, frames: list[tuple[int, bytes]]) -> None:
    sock, peer = pair
    for frame in frames:
        peer.put(*frame)
    pieces = sock.pieces(WITHIN)
    assert list(pieces) == []
    assert (pieces.typ, pieces.err) == ("text", None)
    peer.put(FIN | BINARY, "x")
    assert sock.read(WITHIN) == (b"x", "binary")


def test_pieces_after_a_read_that_timed_out_within_the_message(pair: Any) -> None:
    for opcode, typ in ((TEXT, "text"), (BINARY, "binary")):
        sock, peer = pair
        frame = peer.frame(FIN | opcode, b"0123456789" * 10)
        peer.send(frame[:60])
        assert sock.read(20)[0] is None
        peer.send(frame[60:])
        pieces = sock.pieces(WITHIN)
        got = list(pieces)
        assert ("".join(got).encode() if typ == "text" else b"".join(got)) == b"0123456789" * 10
        assert (pieces.typ, pieces.err) == (typ, None)
        assert sock.partial in (b"", sock.partial[:60])


@pytest.mark.parametrize("before", [0, 2])
def test_reading_goes_on_after_a_time_out(pair: Any, before: int) -> None:
    sock, peer = pair
    pieces = sock.pieces(20)
    if before:
        peer.put(TEXT, "ab")
    assert list(pieces) == ["ab"][: before // 2]
    assert pieces.err == errno.TIMEDOUT
    with time.deadline(20):
        assert list(pieces) == []
    assert pieces.err
    if not before:
        peer.put(FIN | PING, "p")
        assert list(pieces) == []
        assert peer.get() == (FIN | PONG, b"p")
        peer.put(TEXT, "ab")
        assert next(pieces) == "ab"
    peer.put(FIN | CONTINUATION, "cd")
    assert list(pieces) == ["cd"]
    assert (pieces.typ, pieces.err) == ("text", None)


def test_a_deadline_names_the_operation(pair: Any) -> None:
    sock, peer = pair
    pieces = sock.pieces()
    with time.deadline(20):
        assert list(pieces) == []
    assert pieces.err == "sock.pieces: the deadline of 20 ms ran out"
    peer.put(FIN | TEXT, "x")
    assert list(pieces) == ["x"]


REST = ["one frame", "frames", "with a ping", "dribbled"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("then", ["read", "pieces", "limited pieces", "the old pieces too"])
@pytest.mark.parametrize("rest", REST)
def test_a_message_left_in_the_middle(side: Side, rest: str, then: str, compressed: bool) -> None:
    """The rest is dropped, whatever its form, and the next message comes whole."""
    with side(compression=compressed) as (sock, peer):
        data = random.Random(1).randbytes(20_000)
        wire = deflated(data) if compressed else data
        first = RSV1 if compressed else 0
        peer.put(first | BINARY, wire[:10_000])
        for piece in (pieces := sock.pieces(WITHIN)):
            assert data.startswith(piece)
            break
        tail = {
            "one frame": [peer.frame(FIN | CONTINUATION, wire[10_000:])],
            "frames": [peer.frame(CONTINUATION, wire[10_000:15_000]), peer.frame(FIN | CONTINUATION, wire[15_000:])],
            "with a ping": [peer.frame(FIN | PING, b"p"), peer.frame(FIN | CONTINUATION, wire[10_000:])],
            "dribbled": [peer.frame(FIN | CONTINUATION, wire[10_000:])],
        }[rest]
        tail.append(peer.frame(TEXT, b"ne") + peer.frame(FIN | CONTINUATION, b"xt"))
        stream = b"".join(tail)

        def send() -> None:
            for at in range(0, len(stream), 999):
                peer.send(stream[at : at + 999])
                turn(2)

        if rest == "dribbled":
            sending = spawn(send)
        else:
            peer.send(stream)
            sending = spawn(lambda: None)
        if then == "read":
            if rest == "with a ping":
                assert sock.read(WITHIN) == (b"p", "ping")
            assert sock.read(WITHIN) == ("next", "text")
        else:
            others = sock.pieces(WITHIN, 4 if then == "limited pieces" else None)
            assert "".join(others) == "next"
            assert (others.typ, others.err) == ("text", None)
            if then == "the old pieces too":
                assert list(pieces) == []
                assert "dropped" in pieces.err
        joined(sending)
        peer.put(FIN | TEXT, "last")
        assert sock.read(WITHIN) == ("last", "text")


def test_two_iterators_that_take_turns(pair: Any) -> None:
    """Whichever is asked gets the next message; what the other had begun is dropped."""
    sock, peer = pair
    one, two = sock.pieces(WITHIN), sock.pieces(WITHIN)
    peer.put(TEXT, "a")
    assert next(one) == "a"
    peer.send(peer.frame(FIN | CONTINUATION, b"A") + peer.frame(TEXT, b"b"))
    assert next(two) == "b"
    assert next(one, None) is None
    assert "dropped" in one.err
    peer.put(FIN | CONTINUATION, "B")
    assert list(two) == ["B"]


def test_asked_while_another_task_closes(pair: Any) -> None:
    sock, peer = pair
    peer.put(TEXT, "a")
    pieces = sock.pieces()
    assert next(pieces) == "a"
    closing = spawn(sock.close)
    assert peer.get_close() == (1000, "")
    assert sock._session.stream._reader is not None
    for each in (pieces, sock.pieces()):
        assert list(each) == []
        assert each.err == CLOSED
    peer.put_close()
    peer.half_close()
    joined(closing)


def test_closed_in_the_middle_of_a_message_that_goes_on(side: Side) -> None:
    """What the peer still sends of it is dropped as it comes."""
    with side() as (sock, peer):
        peer.put(BINARY, "begun")
        pieces = sock.pieces(WITHIN)
        assert next(pieces) == b"begun"
        part = peer.frame(CONTINUATION, bytes(64 * KIB))
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            closing = spawn(sock.close)
            assert peer.get_close() == (1000, "")
            for _ in range(320):  # 20 MiB
                peer.send(part)
            peer.put_close(3000)
            until(lambda: not peer.conn.unsentbytes())
            peer.half_close()
            assert joined(closing) == (True, None)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert sock.closecode == 3000
        assert peak < 8 * MIB
        assert list(pieces) == []
        assert pieces.err == CLOSED


def test_left_in_the_middle_and_closed(pair: Any) -> None:
    sock, peer = pair
    peer.put(TEXT, "a")
    assert next(sock.pieces(WITHIN)) == "a"
    peer.put(CONTINUATION, "b")
    closing = spawn(sock.close)
    assert peer.get_close() == (1000, "")
    peer.put(FIN | CONTINUATION, "c" * 100_000)
    peer.put_close()
    peer.half_close()
    assert joined(closing) == (True, None)
    assert sock.closecode == 1000


@pytest.mark.parametrize("end", ["close", "eof", "reset", "ours", "fault", "kill"])
def test_an_end_in_the_middle(side: Side, end: str, logs: Any) -> None:
    logs.allow("unknown opcode")
    with side(SHORT) as (sock, peer):
        peer.put(BINARY, "begun")
        pieces = sock.pieces()
        assert next(pieces) == b"begun"
        waiting = Job(lambda: list(pieces))
        waiting.blocked()
        if end == "close":
            peer.put_close(3000, "bye")
        elif end == "eof":
            peer.half_close()
        elif end == "reset":
            peer.reset()
        elif end == "ours":
            sock.close()
        elif end == "fault":
            peer.put(0x0B)
        if end == "kill":
            waiting.kill()
            peer.put(FIN | CONTINUATION, " and ended")
            assert list(pieces) == [b" and ended"]
            assert pieces.err is None
            return
        assert waiting.result() == []
        assert pieces.typ == ("close" if end == "close" else "binary")
        wanted = {"close": CLOSED, "ours": CLOSED, "fault": "unknown opcode 11"}.get(end, "without a closing handshake")
        assert wanted in pieces.err
        assert sock.read() == (None, pieces.err)
        assert list(pieces) == []


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("cut", [False, True], ids=["frame", "fragments"])
def test_the_limit(side: Side, cut: bool, compressed: bool, logs: Any) -> None:
    logs.expect("message longer than the limit 'limit' of 999 bytes: close 1009")
    with side(compression=compressed) as (sock, peer):
        data = bytes(1000)
        wire = deflated(data) if compressed else data
        cuts = [len(wire) // 2] if cut else []
        for limit in (1000, 999):
            peer.send(b"".join(fragments(peer, BINARY, wire, cuts, RSV1 if compressed else 0)))
            pieces = sock.pieces(WITHIN, limit)
            got = b"".join(pieces)
            if limit == 1000:
                assert (got, pieces.err) == (data, None)
        assert len(got) <= 999
        assert "the limit 'limit' of 999 bytes" in pieces.err
        assert peer.get_close() == (1009, "message longer than the limit 'limit' of 999 bytes")
        assert sock.closecode == 1009


def test_the_limits_of_whole_messages_do_not_apply(side: Side) -> None:
    with side({"message": 1000, "fragments": 3}) as (sock, peer):
        peer.send(b"".join(fragments(peer, BINARY, bytes(10_000), list(range(100, 10_000, 100)))))
        assert sum(map(len, sock.pieces(WITHIN))) == 10_000
        peer.put(FIN | BINARY, bytes(1000))
        assert sock.read(WITHIN) == (bytes(1000), "binary")


def test_a_bomb_stays_small(side: Side) -> None:
    size = 64 * MIB
    with side(compression=True) as (sock, peer):
        wire = deflated(bytes(size))
        sending = spawn(lambda: peer.send(peer.frame(FIN | RSV1 | BINARY, wire)))
        tracemalloc.start()
        try:
            got = most = 0
            for piece in sock.pieces(WITHIN):
                got += len(piece)
                most = max(most, len(piece))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        joined(sending)
        assert got == size
        assert most <= 2 * MIB
        assert peak < 16 * MIB


@pytest.mark.parametrize("bad", [-1, 1.5, True, "1"])
def test_bad_limits(pair: Any, bad: Any) -> None:
    with pytest.raises(ValueError, match="limit"):
        pair[0].pieces(limit=bad)


def test_a_second_reader(pair: Any) -> None:
    sock, peer = pair
    peer.put(TEXT, "a")
    pieces = sock.pieces()
    assert next(pieces) == "a"
    waiting = Job(lambda: list(pieces)).blocked()
    for read in (sock.read, lambda: next(sock.pieces()), lambda: next(pieces)):
        with pytest.raises(RuntimeError, match="already reading"):
            read()
    peer.put(FIN | CONTINUATION, "b")
    assert waiting.result() == ["b"]


# ---- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("typ", ["text", "binary"])
def test_message(side: Side, typ: str, compressed: bool) -> None:
    with side(compression=compressed) as (sock, peer):
        inflate = zlib.decompressobj(-15)
        for size in (0, 1, 65535, 65536, 65537, 300_000):
            data = (WORDS.encode() * (size // 100))[:size] if typ == "binary" else b"x" * size

            def send(data: bytes = data, size: int = size) -> Any:
                with sock.message(typ) as message:
                    for at in range(0, size, 7001):
                        assert message.write(data[at : at + 7001]) == (True, None)
                return message.err

            sending = spawn(send)
            first, wire, sizes = message_of(peer)
            assert joined(sending) is None
            assert first & 0x0F == (TEXT if typ == "text" else BINARY)
            assert bool(first & RSV1) is compressed
            assert (inflate.decompress(wire + b"\0\0\xff\xff") if compressed else wire) == data
            if not compressed:
                assert all(size == 65536 for size in sizes[:-1])
                assert sizes[-1] <= 65536


def test_message_uncompressed(side: Side) -> None:
    with side(compression=True) as (sock, peer):
        with sock.message("text", compress=False) as message:
            message.write("x" * 1000)
        assert message_of(peer)[:2] == (FIN | TEXT, b"x" * 1000)


def test_a_character_cut_between_two_writes(pair: Any) -> None:
    sock, peer = pair
    with sock.message("text") as message:
        for byte in WORDS.encode():
            assert message.write(bytes((byte,))) == (True, None)
    assert message_of(peer)[:2] == (FIN | TEXT, WORDS.encode())


def test_flush(pair: Any) -> None:
    sock, peer = pair
    with sock.message("text") as message:
        assert message.flush() == (True, None)
        message.write("one")
        peer.silent()
        assert message.flush() == (True, None)
        assert peer.get() == (TEXT, b"one")
        assert message.flush() == (True, None)
        assert sock.write("p", "ping") == (True, None)
        assert peer.get() == (FIN | PING, b"p")
        message.write("two")
        message.flush()
        assert peer.get() == (CONTINUATION, b"two")
    assert peer.get() == (FIN | CONTINUATION, b"")
    assert message.write("x") == (False, "the message has ended")
    assert message.flush() == (False, "the message has ended")
    peer.silent()


def test_others_wait_their_turn_and_then_go(pair: Any) -> None:
    sock, peer = pair
    with sock.message() as message:
        message.write("mine")
        message.flush()
        others = [spawn(lambda i=i: sock.write(f"{i}", "text")) for i in range(3)]

        def another() -> Any:
            with sock.message() as other:
                return other.write("another")

        others.append(spawn(another))
        turn(3)
        assert peer.get() == (BINARY, b"mine")
        peer.silent()
        with pytest.raises(RuntimeError, match="in the middle of a message"):
            sock.write("x")
        with pytest.raises(RuntimeError, match="in the middle of a message"), sock.message():
            pass
    assert peer.get() == (FIN | CONTINUATION, b"")
    assert [message_of(peer)[1] for _ in range(4)] == [b"0", b"1", b"2", b"another"]
    assert [joined(each) for each in others] == [(True, None)] * 4


@pytest.mark.parametrize("end", ["whole", "incomplete"])
def test_close_wakes_all_writers_that_wait_for_their_turn(pair: Any, end: str) -> None:
    """Not only when the closing handshake is over: the peer takes its time with its answer."""
    sock, peer = pair
    go = channel.new()

    def holder() -> None:
        with sock.message() as message:
            message.write("begun")
            message.flush()
            go.pop()
            if end == "incomplete":
                raise ZeroDivisionError

    def held() -> object:
        try:
            return holder()
        except ZeroDivisionError:
            return "raised"

    holding = spawn(held)
    assert peer.get() == (BINARY, b"begun")
    waiting = [spawn(lambda i=i: sock.write(f"small {i}", "text")) for i in range(4)]
    waiting.append(spawn(lambda: sock.write(bytes(MIB))))
    turn()
    closing = spawn(sock.close) if end == "whole" else holding
    turn()
    go.close()
    assert [joined(each) for each in waiting] == [(False, CLOSED)] * 5
    assert not len(closing)
    while peer.get()[0] != FIN | CLOSE:
        pass
    peer.put_close()
    peer.half_close()
    assert joined(closing) == ((True, None) if end == "whole" else "raised")
    if end == "whole":
        joined(holding)


def test_a_writer_that_is_interrupted_in_its_turn_passes_it_on(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches a main program that was given the turn and has not run yet."""
    sock, peer = pair
    go = channel.new()
    behind: list[Any] = []

    def holder() -> None:
        with sock.message() as message:
            message.write("begun")
            message.flush()
            go.pop()
        signal.raise_signal(signal.SIGINT)

    def others() -> None:
        behind.extend(spawn(lambda i=i: sock.write(f"behind {i}", "text")) for i in range(2))
        turn()
        go.close()

    holding = spawn(holder)
    assert peer.get() == (BINARY, b"begun")
    # One task for each drain, so that the loop looks at the interrupt while the main program is still in the queue.
    monkeypatch.setattr(scheduler, "SLICE", 1)
    time.sleep(1)
    leading = spawn(others)
    with pytest.raises(KeyboardInterrupt):
        sock.write("never", "text")
    until(lambda: all(len(each) for each in behind))
    assert [joined(each) for each in behind] == [(True, None)] * 2
    joined(leading)
    joined(holding)
    assert [peer.get() for _ in range(3)] == [
        (FIN | CONTINUATION, b""),
        (FIN | TEXT, b"behind 0"),
        (FIN | TEXT, b"behind 1"),
    ]


def test_a_busy_writer_lets_other_writers_in(pair: Any) -> None:
    """A task that sends large messages without a pause does not keep the turn."""
    sock, peer = pair
    large = spawn(lambda: [sock.write(bytes(8 * MIB)) for _ in range(5)])
    until(lambda: sock._session.stream.blocked)
    small = spawn(lambda: sock.write("small", "text"))
    kinds = [message_of(peer)[0] & 0x0F for _ in range(6)]
    assert kinds.index(TEXT) in (1, 2)
    assert joined(large) == [(True, None)] * 5
    assert joined(small) == (True, None)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("how", ["exception", "bad text", "cut text", "kill", "type"])
def test_a_block_that_fails_closes_with_1011(side: Side, how: str, begun: bool) -> None:
    with side(SHORT) as (sock, peer):
        block = channel.new()

        def send() -> None:
            with sock.message("text") as message:
                if begun:
                    message.write("begun")
                    message.flush()
                if how == "exception":
                    raise ZeroDivisionError
                if how == "bad text":
                    message.write(b"\xff")
                elif how == "cut text":
                    message.write("ü".encode()[:1])
                elif how == "type":
                    message.write(1)  # type: ignore[arg-type]
                else:
                    block.pop()

        sending = Job(send).blocked()
        waiting = spawn(lambda: sock.write("after", "text")) if how == "kill" else None
        if how == "kill":
            turn()
            sending.kill()
        else:
            with pytest.raises({"exception": ZeroDivisionError, "type": TypeError}.get(how, ValueError)):
                sending.result()
        if begun:
            assert peer.get() == (TEXT, b"begun")
        assert peer.get_close() == (1011, "")
        if waiting:
            assert joined(waiting) == (False, CLOSED)
        assert sock.cause == "a message was left incomplete by an exception"
        assert sock.write("x") == (False, CLOSED)


@pytest.mark.parametrize("begun", [False, True])
def test_a_deadline_in_a_message(side: Side, begun: bool) -> None:
    """Whatever was taken goes out; the message may go on, or ends with that. One that was not begun harms nobody."""
    with side({"unsent": 128 * KIB, **SHORT}) as (sock, peer):
        filling = spawn(lambda: None)
        if not begun:
            filling = spawn(lambda: sock.write(bytes(16 * MIB)))
            until(lambda: sock._session.stream.blocked)
        with time.deadline(50), sock.message() as message:
            if begun:
                message.write("begun")
                message.flush()
            ok, err = message.write(bytes(16 * MIB))
            assert not ok
            assert err == "message.write: the deadline of 50 ms ran out"
            assert message.write("more") == (False, err)
        if begun:
            # The piece that it struck in was taken, the one after it was not.
            assert message.err is None
            assert len(message_of(peer)[1]) == 5 + 16 * MIB
        else:
            assert message.err == err
            assert len(message_of(peer)[1]) == 16 * MIB
            assert joined(filling) == (True, None)
        assert sock.cause is None
        assert sock.write("after", "text") == (True, None)
        assert peer.get() == (FIN | TEXT, b"after")


@pytest.mark.parametrize("by_pieces", [False, True])
def test_a_deadline_while_another_task_is_in_the_middle_of_a_message(side: Side, by_pieces: bool) -> None:
    """The turn is not taken from that task, though the peer takes everything."""
    with side() as (sock, peer):

        def late() -> Any:
            with time.deadline(20):
                if not by_pieces:
                    return sock.write("late", "text")
                with sock.message("text") as message:
                    message.write("late")
                return False, message.err

        with sock.message("text") as message:
            assert message.write("one ")
            assert message.flush()
            what = "message.write" if by_pieces else "sock.write"
            assert joined(spawn(late)) == (False, f"{what}: the deadline of 20 ms ran out")
            assert message.write("two")
        assert message.err is None
        assert sock.write("", "text")
        assert message_of(peer)[1] == b"one two"
        assert peer.get() == (FIN | TEXT, b"")


def test_an_empty_message_waits_for_its_turn_too(side: Side) -> None:
    with side() as (sock, peer):
        with sock.message("text") as message:
            message.write("one")
            message.flush()
            writing = Job(lambda: sock.write("", "text"))
            writing.blocked()
        assert writing.result() == (True, None)
        assert message_of(peer)[1] == b"one"
        assert peer.get() == (FIN | TEXT, b"")


def test_a_deadline_at_the_end_of_a_message(side: Side) -> None:
    """What was begun goes out whole."""
    with side({"unsent": 1, **SHORT}) as (sock, peer):

        def send() -> int:
            size = 0
            with ExitStack() as late, sock.message() as message:
                while not sock._session.stream.blocked:
                    message.write(bytes(50_000))
                    message.flush()
                    size += 50_000
                    turn()
                message.write("end")
                late.enter_context(time.deadline(1))
                with pytest.raises(TimeoutError):
                    time.sleep(WITHIN)
            assert sock.conn.unsentbytes() > 1
            assert message.err is None
            return size

        size = joined(spawn(send))
        _, data, _ = message_of(peer)
        assert data == bytes(size) + b"end"
        assert sock.cause is None
        assert sock.write("after", "text") == (True, None)
        assert peer.get() == (FIN | TEXT, b"after")


def test_the_connection_is_lost_within_a_message(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        with sock.message() as message:
            message.write("begun")
            message.flush()
            peer.reset()
            until(lambda: sock._session.stream.err is not None)
            ok, err = message.write(bytes(MIB))
            assert not ok
            assert "without a closing handshake" in err
        assert message.err == err
        assert sock.read() == (None, err)


def test_writers_behind_an_idle_message_wake_when_the_connection_breaks() -> None:
    with server_side({"ping_interval": 0}) as (sock, peer):
        hold = channel.new()

        def idle() -> Any:
            with sock.message() as message:
                message.write("begun")
                message.flush()
                hold.pop()

        idling = spawn(idle)
        waiting = [spawn(lambda: sock.write("x")) for _ in range(3)]
        assert peer.get() == (BINARY, b"begun")
        peer.reset()
        errors = {joined(each)[1] for each in waiting}
        assert len(errors) == 1
        assert sock.write("y")[1] in errors
        hold.close()
        joined(idling)
        assert silly.pcall(sock.close)[0]


def test_the_peer_closes_within_a_message(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        with sock.message() as message:
            message.write("begun")
            message.flush()
            peer.put_close(3000)
            assert peer.get() == (BINARY, b"begun")
            assert peer.get_close() == (3000, "")
            assert message.write(bytes(MIB)) == (False, CLOSED)
        assert message.err == CLOSED
        assert sock.read(WITHIN) == (b"\x0b\xb8", "close")


def test_misuse(pair: Any) -> None:
    sock, peer = pair
    for bad in ("ping", "close", "txt", None):
        with pytest.raises(ValueError, match="'text' or 'binary'"):
            sock.message(bad)
    message = sock.message()
    with pytest.raises(RuntimeError, match="within its 'with' block"):
        message.write("x")
    with pytest.raises(RuntimeError, match="within its 'with' block"):
        message.flush()
    with message:
        pass
    with pytest.raises(RuntimeError, match="once"), message:
        pass
    assert peer.get() == (FIN | BINARY, b"")
    peer.silent()


# ---- both ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("upload", [False, True], ids=["to the client", "to the server"])
def test_more_than_memory_should_hold(upload: bool, compression: bool) -> None:
    size = 64 * MIB
    with both_sides(compression=compression) as (server, client):
        writer, reader = (client, server) if upload else (server, client)
        block = random.Random(1).randbytes(KIB) * 64

        def send() -> Any:
            with writer.message() as message:
                for _ in range(size // len(block)):
                    assert message.write(block) == (True, None)
            return message.err

        tracemalloc.start()
        try:
            sending = spawn(send)
            got = 0
            check = 0
            pieces = reader.pieces(WITHIN)
            for piece in pieces:
                got += len(piece)
                check = zlib.crc32(piece, check)
            assert joined(sending) is None
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (got, pieces.err) == (size, None)
        assert check == zlib.crc32(block * (size // len(block)))
        assert peak < 8 * MIB
