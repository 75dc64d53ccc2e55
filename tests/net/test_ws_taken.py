"""Messages that were taken off the buffer together with one that was read: none is lost, doubled or late, whoever reads next,
in whatever way, and whatever ends the connection behind them."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from silly import errno, time
from silly._wire.messages import BATCH
from silly.net import _stream
from silly.net.tcp import BURST
from silly.net.websocket import _socket, _unread
from silly.net.websocket._keepalive import Keepalive

from ..children import Child
from ..conftest import Logs
from ..helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    WITHIN,
    ahead_of_reader,
    joined,
    spawn,
    turn,
)
from .support import Job, until
from .ws_support import PLAIN, SIDES, Side

CLOSED = "closed"
RSV1 = 0x40
Shown = tuple[Any, str]


@pytest.fixture(params=PLAIN.values(), ids=PLAIN)
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param


@pytest.fixture(params=SIDES.values(), ids=SIDES)
def any_side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject, and the transport."""
    return request.param


def texts(peer: Any, count: int, begin: int = 0) -> bytes:
    """The frames of so many messages, which are numbers."""
    return b"".join([peer.frame(FIN | TEXT, b"%d" % i) for i in range(begin, begin + count)])


def numbers(count: int, begin: int = 0) -> list[Shown]:
    """What ``read`` returns for them."""
    return [(str(i), "text") for i in range(begin, begin + count)]


def arrived(sock: Any, peer: Any, data: bytes) -> None:
    """Sends ``data``, and waits until all of it lies in the buffer; then it is yet to be taken, since nobody reads."""
    before = sock.conn.unreadbytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_unread, "LOOK", 1000.0)
        stop_looking(sock)
        peer.send(data)
        until(lambda: sock.conn.unreadbytes() == before + len(data))
    stop_looking(sock)
    sock._session.data_unread()


def stop_looking(sock: Any) -> None:
    if sock._session.unread is not None:
        sock._session.unread.stop()


def take_first(sock: Any, peer: Any, count: int, behind: bytes = b"") -> None:
    """Of ``count`` messages and what is behind them, one segment, the first is read: the rest of them is taken."""
    arrived(sock, peer, texts(peer, count) + behind)
    assert sock.read() == ("0", "text")
    assert len(sock._session.taken) == count - 1
    assert sock.conn.unreadbytes() == len(behind)


def looked_through(sock: Any) -> None:
    """Waits until what may be taken off the buffer has been, if it is to be."""
    timer = sock._session.unread and sock._session.unread.timer
    until(lambda: timer is None or sock._session.unread.timer is not timer)


# ---- order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 5])
def test_a_segment_of_messages(any_side: Side, count: int) -> None:
    with any_side() as (sock, peer):
        peer.send(texts(peer, count))
        assert [sock.read() for _ in range(count)] == numbers(count)
        assert sock.read(1) == (None, errno.TIMEDOUT)
        peer.put(FIN | BINARY, "more")
        assert sock.read(WITHIN) == (b"more", "binary")


def test_empty_messages(any_side: Side) -> None:
    with any_side() as (sock, peer):
        peer.send((peer.frame(FIN | TEXT) + peer.frame(FIN | BINARY)) * 40)
        assert [sock.read(WITHIN) for _ in range(80)] == [("", "text"), (b"", "binary")] * 40


def schedule(rng: random.Random, peer: Any) -> tuple[list[bytes], list[Shown]]:
    """Frames, and what they are for a reader."""
    frames: list[bytes] = []
    shown: list[Shown] = []
    for i in range(rng.randrange(50, 250)):
        kind = rng.choice(["text"] * 4 + ["binary"] * 4 + ["ping", "pong", "empty", "fragments", "long"])
        data = b"%d " % i * rng.choice([1, 1, 30, 300])
        if kind in ("ping", "pong"):
            data = data[:125]
            frames.append(peer.frame(FIN | (PING if kind == "ping" else PONG), data))
            shown.append((data, kind))
        elif kind == "fragments":
            inner = b"inner %d" % i
            frames += [peer.frame(TEXT, data), peer.frame(FIN | PING, inner), peer.frame(FIN | CONTINUATION, b"end")]
            shown += [(inner, "ping"), (data.decode() + "end", "text")]
        elif kind == "text":
            frames.append(peer.frame(FIN | TEXT, data))
            shown.append((data.decode(), "text"))
        else:
            data = {"empty": b"", "long": data * 30}.get(kind, data)
            frames.append(peer.frame(FIN | BINARY, data))
            shown.append((data, "binary"))
    frames.append(peer.frame(FIN | CLOSE, b"\x0b\xb9bye"))
    shown.append((b"\x0b\xb9bye", "close"))
    return frames, shown


def send_in_cuts(rng: random.Random, peer: Any, data: bytes) -> Any:
    """A task that sends ``data`` in pieces of any size; sometimes the reader is faster, sometimes it is."""

    def send() -> None:
        at = 0
        while at < len(data):
            size = rng.choice([1, 5, 100, 1000, 5000, 20_000])
            peer.send(data[at : at + size])
            at += size
            if rng.random() < 0.4:
                turn(rng.randrange(1, 4))

    return spawn(send)


def read_piecewise(sock: Any) -> Shown:
    """The next message, by ``pieces``; the close frame in its place."""
    pieces = sock.pieces(WITHIN)
    got = list(pieces)
    if pieces.typ == "close":
        return b"", "close"
    assert pieces.err is None
    return ("" if pieces.typ == "text" else b"").join(got), pieces.typ


@pytest.mark.parametrize("seed", range(10))
def test_every_way_of_reading_by_turns(any_side: Side, seed: int) -> None:
    """Against a model: what is read is what was sent, in its order; by ``pieces`` without the control frames between."""
    rng = random.Random(seed)
    with any_side() as (sock, peer):
        frames, shown = schedule(rng, peer)
        sending = send_in_cuts(random.Random(rng.random()), peer, b"".join(frames))
        shown.reverse()
        while shown:
            how = rng.choice(["read"] * 6 + ["within", "short", "task", "pieces"])
            if how == "pieces":
                while shown[-1][1] in ("ping", "pong"):
                    shown.pop()
                data, typ = read_piecewise(sock)
                assert (data, typ) == ((b"", "close") if shown[-1][1] == "close" else shown[-1])
                shown.pop()
                continue
            if how == "short":
                got = sock.read(rng.choice([0, 1]))
                if got[0] is None:
                    assert got[1] == errno.TIMEDOUT
                    continue
            elif how == "task":
                got = joined(spawn(lambda: sock.read(WITHIN)))
            else:
                got = sock.read(WITHIN if how == "within" else None)
            assert got == shown.pop()
        joined(sending)
        assert sock.read() == (None, CLOSED)


# ---- several tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, BATCH])
@pytest.mark.parametrize("timeout", [None, WITHIN], ids=["", "timeout"])
def test_another_task_reads_before_the_one_that_was_woken(side: Side, count: int, timeout: float | None) -> None:
    """Each message goes to one of them; who waited gets the next."""
    with side() as (sock, peer):
        reading = Job(lambda: [sock.read(timeout), sock.read(timeout)]).blocked()
        peer.send(texts(peer, count + 2))
        got = joined(ahead_of_reader(sock.conn, lambda: [sock.read(timeout) for _ in range(count)]))
        assert got == numbers(count)
        assert reading.result() == numbers(2, count)


def test_another_task_takes_all_that_came(side: Side) -> None:
    with side() as (sock, peer):
        reading = Job(lambda: sock.read(WITHIN)).blocked()
        peer.send(texts(peer, 3))
        assert joined(ahead_of_reader(sock.conn, lambda: [sock.read() for _ in range(3)])) == numbers(3)
        reading.blocked()
        peer.send(texts(peer, 2, 3))
        assert reading.result() == ("3", "text")
        assert sock.read() == ("4", "text")


def test_another_task_reads_before_the_one_that_timed_out(side: Side) -> None:
    """A message that was taken and left is there: no time-out then."""
    with side() as (sock, peer):
        frame = peer.frame(FIN | TEXT, b"x" * 50)
        peer.send(frame[:20])
        reading = Job(lambda: sock.read(WITHIN)).blocked()
        until(lambda: sock._session.messages._left > 0)
        other = spawn(lambda: [sock.read(), sock.read()])
        sock._session.stream.buf += frame[20:] + texts(peer, 3)
        sock._session.stream._wake_reader(errno.TIMEDOUT)
        assert joined(other) == [("x" * 50, "text"), ("0", "text")]
        assert [reading.result(), sock.read(WITHIN)] == numbers(2, 1)


def test_another_task_closes_before_the_one_that_was_woken(side: Side) -> None:
    with side({"close_timeout": 50, "linger": 50}) as (sock, peer):
        reading = Job(sock.read).blocked()
        peer.send(texts(peer, 5))
        closing = ahead_of_reader(sock.conn, lambda: (sock.read(), sock.close()))
        assert reading.result() == (None, CLOSED)
        assert joined(closing) == (("0", "text"), (True, None))
        assert sock._session.taken == []


def test_close_drops_what_was_taken(side: Side) -> None:
    with side() as (sock, peer):
        take_first(sock, peer, 5)
        closing = Job(sock.close).blocked()
        assert sock.read() == (None, CLOSED)
        assert sock.read(WITHIN) == (None, CLOSED)
        assert list(sock.pieces()) == []
        assert peer.get_close() == (1000, "")
        peer.put_close()
        peer.close()
        assert closing.result() == (True, None)
        assert sock.read() == (None, CLOSED)


def test_a_second_reader_is_refused_though_messages_are_left(side: Side) -> None:
    """The task that waits is the reader; no other task gets what it left."""
    with side() as (sock, peer):
        take_first(sock, peer, 3)
        assert [sock.read(), sock.read()] == numbers(2, 1)
        reading = Job(sock.read).blocked()
        for call in (sock.read, lambda: sock.read(1), lambda: list(sock.pieces())):
            with pytest.raises(RuntimeError, match="another task is already reading"):
                call()
        peer.send(texts(peer, 1, 3))
        assert reading.result() == ("3", "text")


# ---- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5, BATCH, 2 * BATCH])
def test_pieces_of_messages_that_were_taken(any_side: Side, count: int) -> None:
    with any_side() as (sock, peer):
        peer.send(texts(peer, count) + peer.frame(FIN | BINARY, b"\xff" * 200) + peer.frame(FIN | TEXT, "é😀".encode()))
        assert sock.read(WITHIN) == ("0", "text")
        assert [read_piecewise(sock) for _ in range(count - 1)] == numbers(count - 1, 1)
        assert read_piecewise(sock) == (b"\xff" * 200, "binary")
        assert sock.read(WITHIN) == ("é😀", "text")


def test_pieces_with_a_limit_of_a_message_that_was_taken(side: Side, logs: Logs) -> None:
    logs.expect("INFO websocket: .*: message longer than the limit 'limit' of 3 bytes: close 1009$")
    with side() as (sock, peer):
        peer.send(b"".join(peer.frame(FIN | TEXT, data) for data in (b"1", b"123", b"1234")))
        assert sock.read(WITHIN) == ("1", "text")
        assert list(sock.pieces(WITHIN, limit=3)) == ["123"]
        pieces = sock.pieces(WITHIN, limit=3)
        assert list(pieces) == []
        assert "limit of 3 bytes" in str(pieces.err).replace("'limit'", "limit")
        assert peer.get_close()[0] == 1009


def test_pieces_that_are_left_in_the_middle_of_what_was_taken(side: Side) -> None:
    with side() as (sock, peer):
        take_first(sock, peer, 4)
        assert next(sock.pieces()) == "1"
        assert sock.read() == ("2", "text")
        assert next(sock.pieces()) == "3"
        peer.send(texts(peer, 2, 4))
        assert [sock.read(), sock.read()] == numbers(2, 4)


def test_messages_of_a_compressed_connection(side: Side) -> None:
    """Messages may go uncompressed there; they may be taken, and those around them not."""
    deflate = zlib.compressobj(9, wbits=-12)
    with side(compression=True) as (sock, peer):
        frames, shown = [], []
        for i in range(60):
            data = b"%d " % i * 20
            if i % 5:
                frames.append(peer.frame(FIN | TEXT, data))
            else:
                packed = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
                frames.append(peer.frame(FIN | RSV1 | TEXT, packed[:-4]))
            shown.append((data.decode(), "text"))
        peer.send(b"".join(frames))
        assert [sock.read(WITHIN) for _ in range(60)] == shown


# ---- what ends the connection behind them ------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[Any], bytes], int]] = {
    "opcode": (lambda peer: peer.frame(FIN | 0x03), 1002),
    "reserved bit": (lambda peer: peer.frame(FIN | RSV1 | TEXT, b"x"), 1002),
    "utf-8": (lambda peer: peer.frame(FIN | TEXT, b"abc\xff"), 1007),
    "cut utf-8": (lambda peer: peer.frame(FIN | TEXT, b"abc\xe2\x82"), 1007),
    "too large": (lambda peer: peer.frame(FIN | BINARY, length=(2**20 + 1).to_bytes(8, "big")), 1009),
    "long form": (lambda peer: peer.frame(FIN | BINARY, b"x", (1).to_bytes(2, "big")), 1002),
    "longer form": (lambda peer: peer.frame(FIN | BINARY, b"x" * 300, (300).to_bytes(8, "big")), 1002),
    "mask": (lambda peer: bytes((FIN | TEXT, 0x01 if peer.masks else 0x81)) + b"\0" * 4 + b"x", 1002),
    "continuation": (lambda peer: peer.frame(FIN | CONTINUATION, b"x"), 1002),
    "close code": (lambda peer: peer.frame(FIN | CLOSE, b"\x03\xed"), 1002),
}


@pytest.mark.parametrize("count", [1, 7, BATCH, BATCH + 1])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_behind_good_messages(side: Side, fault: str, count: int, logs: Logs) -> None:
    make, code = FAULTS[fault]
    logs.expect(f"INFO websocket: .*: close {code}$")
    with side({"linger": 100}) as (sock, peer):
        peer.send(texts(peer, count) + make(peer) + texts(peer, 3, 1000))
        assert [sock.read(WITHIN) for _ in range(count)] == numbers(count)
        data, err = sock.read(WITHIN)
        assert (data, "broke the protocol" in err) == (None, True)
        assert sock.read() == (None, err)
        assert peer.get_close()[0] == code
        assert sock.closecode == code


@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("count", [2, BATCH, BATCH + 1])
@pytest.mark.parametrize("partial", [b"", b"cut off"], ids=["whole", "cut"])
def test_the_end_behind_good_messages(side: Side, count: int, end: str, partial: bytes) -> None:
    with side() as (sock, peer):
        behind = peer.frame(FIN | BINARY, partial + b"rest")[:-4] if partial else b""
        arrived(sock, peer, texts(peer, count) + behind)
        peer.reset() if end == "reset" else peer.half_close()
        until(lambda: sock._session.stream.err is not None)
        assert [sock.read() for _ in range(count)] == numbers(count)
        data, err = sock.read()
        assert (data, "ended without a closing handshake" in err) == (None, True)
        assert sock.partial == partial
        assert sock.closecode == 1006
        assert sock.read() == (None, err)


def test_partial_is_of_the_message_that_is_unfinished(side: Side) -> None:
    """Not of one that was cut before, and has been taken since; a control frame is no message."""
    with side() as (sock, peer):
        frame = peer.frame(FIN | BINARY, b"x" * 100)
        peer.send(frame[:50])
        assert sock.read(5) == (None, errno.TIMEDOUT)
        assert sock.partial == b"x" * (50 - len(frame) + 100)
        arrived(sock, peer, frame[50:] + texts(peer, 2) + peer.frame(FIN | PING, b"y" * 100)[:60])
        assert [sock.read(), *(sock.read(5) for _ in range(3))] == [(b"x" * 100, "binary"), *numbers(2), (None, errno.TIMEDOUT)]
        assert sock.partial == b""


def test_the_end_comes_while_some_are_taken(side: Side) -> None:
    for end in ("eof", "reset"):
        with side() as (sock, peer):
            take_first(sock, peer, 5)
            peer.reset() if end == "reset" else peer.half_close()
            until(lambda sock=sock: sock._session.stream.err is not None)
            assert [sock.read() for _ in range(4)] == numbers(4, 1)
            assert sock.read()[0] is None
            assert sock._session.taken == []


def test_a_close_behind_good_messages(any_side: Side) -> None:
    with any_side() as (sock, peer):
        peer.send(texts(peer, 10) + peer.frame(FIN | PING, b"p") + peer.frame(FIN | CLOSE, b"\x03\xe8") + texts(peer, 3, 100))
        assert [sock.read(WITHIN) for _ in range(10)] == numbers(10)
        assert sock.read(WITHIN) == (b"p", "ping")
        assert sock.read(WITHIN) == (b"\x03\xe8", "close")
        assert sock.read(WITHIN) == (None, CLOSED)
        assert peer.get() == (FIN | PONG, b"p")
        assert peer.get_close() == (1000, "")


def test_a_close_that_nobody_reads_for_long(side: Side) -> None:
    """TCP ends within the limit; the messages that were taken, and the close frame, can still be read."""
    with side({"close_timeout": 50}) as (sock, peer):
        take_first(sock, peer, 4, peer.frame(FIN | CLOSE, b"\x03\xe8"))
        assert peer.get_close() == (1000, "")
        peer.eof()
        assert [sock.read() for _ in range(3)] == numbers(3, 1)
        assert sock.read(WITHIN) == (b"\x03\xe8", "close")
        assert sock.read() == (None, CLOSED)


def test_our_close_frame_and_messages_that_were_taken(side: Side) -> None:
    with side({"close_timeout": 50}) as (sock, peer):
        take_first(sock, peer, 4)
        assert sock.write(b"\x03\xe8", "close") == (True, None)
        assert peer.get_close() == (1000, "")
        peer.eof()
        assert [sock.read() for _ in range(3)] == numbers(3, 1)
        assert sock.read() == (None, sock.cause)


def test_keepalive_gives_up(side: Side, logs: Logs) -> None:
    logs.expect(r"INFO websocket: .*: no pong for 0.03 s \(the limit 'pong_timeout'\): close 1011$")
    with side({"ping_interval": 10, "pong_timeout": 30}) as (sock, peer):
        take_first(sock, peer, 5)
        until(lambda: sock.closecode is not None)
        assert sock.closecode == 1011
        assert [sock.read(), sock.read(WITHIN), sock.read()] == numbers(3, 1)
        assert read_piecewise(sock) == ("4", "text")
        data, err = sock.read()
        assert (data, "no pong for 0.03 s" in err) == (None, True)
        assert sock.write("late") == (False, err)


def test_keepalive_meets_the_end_while_some_are_taken(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the buffer empty the socket is not given up: a reader has something to read yet."""
    ticks = 0
    tick = Keepalive.tick

    def counted(self: Keepalive, sock: Any) -> None:
        nonlocal ticks
        ticks += 1
        tick(self, sock)

    monkeypatch.setattr(Keepalive, "tick", counted)
    with side({"ping_interval": 5, "pong_timeout": 60_000}) as (sock, peer):
        take_first(sock, peer, 4)
        peer.half_close()
        until(lambda: sock._session.stream.err is not None)
        before = ticks
        until(lambda: ticks > before + 3)
        assert sock.closecode is None
        assert [sock.read() for _ in range(3)] == numbers(3, 1)
        until(lambda: sock.closecode is not None)
        assert "ended without a closing handshake" in sock.read()[1]


def test_a_flood_of_pings_while_output_is_refused(side: Side, logs: Logs) -> None:
    """The connection is given up with 1008; nobody hangs."""
    logs.expect("INFO websocket: .*: more control frames than the limit 'control_frames' of 10 from a peer that doesn't read")
    with side({"control_frames": 10, "linger": 50}) as (sock, peer):
        take_first(sock, peer, 4)
        writing = spawn(lambda: sock.write(b"x" * 2**25))
        until(lambda: sock._session.stream.blocked)
        peer.send(b"".join(peer.frame(FIN | PING, b"%d" % i) for i in range(20)))
        until(lambda: sock.closecode == 1008)
        assert sock.read()[0] is None
        assert sock._session.taken == []
        assert joined(writing)[0] is False


# ---- deadlines, exits ----------------------------------------------------------------------------------------------


def test_a_deadline_that_is_over_loses_no_message(side: Side) -> None:
    with side() as (sock, peer):
        take_first(sock, peer, 4)
        with time.deadline(0) as deadline:
            until(lambda: deadline.expired)
            time.sleep(0)
            assert sock.read() == ("1", "text")
            assert sock.read(WITHIN) == ("2", "text")
            assert read_piecewise(sock) == ("3", "text")
            data, err = sock.read()
            assert (data, "deadline of 0 ms" in err) == (None, True)
        peer.send(texts(peer, 1, 4))
        assert sock.read(WITHIN) == ("4", "text")


@pytest.mark.parametrize("ending", ["killed", "deadline", "timeout"])
def test_a_reader_that_ends_loses_nothing(side: Side, ending: str) -> None:
    with side() as (sock, peer):
        take_first(sock, peer, 2)
        assert sock.read() == ("1", "text")
        if ending == "killed":
            Job(sock.read).blocked().kill()
        elif ending == "deadline":
            with time.deadline(5):
                assert sock.read()[0] is None
        else:
            assert sock.read(5) == (None, errno.TIMEDOUT)
        peer.send(texts(peer, 70, 2))
        assert [sock.read(WITHIN) for _ in range(70)] == numbers(70, 2)


EXIT = """
import silly
from silly import task, time
from silly.net import http, websocket

def handler(stream):
    sock, err = websocket.upgrade(stream)
    try:
        print("first", sock.read(), flush=True)
        print("taken", len(sock._session.taken), flush=True)
        task.wait()
    finally:
        got = []
        while True:
            data, typ = sock.read()
            if data is None:
                break
            got.append(data)
        print("rest", got, typ, flush=True)

server = silly.check(http.listen("127.0.0.1:0", handler))

def client():
    sock = silly.check(websocket.connect(f"ws://127.0.0.1:{server.port}"))
    frames = b"".join(bytes((0x81, 0x81, 0, 0, 0, 0)) + b"%d" % i for i in range(5))
    sock.conn.write(frames)
    task.wait()

task.fork(client)
time.after(100, lambda: silly.exit(7))
silly.run()
"""


def test_a_graceful_exit_with_messages_taken() -> None:
    with Child("-c", EXIT) as child:
        lines = [child.line() for _ in range(3)]
        assert child.wait() == 7, child.errors()
        assert child.errors() == ""
    rest = ["1", "2", "3", "4", b"\x03\xe9"]  # the last is the peer's answer to our close 1001
    assert lines == ["first ('0', 'text')", "taken 4", f"rest {rest} closed"]


GOODBYE = """
import silly
from silly import task, time
from silly.net import http, websocket

def handler(stream):
    sock, err = websocket.upgrade(stream)
    try:
        task.wait()
    finally:
        print(sock.write("late", "text"), sock.write("", "ping"), flush=True)

server = silly.check(http.listen("127.0.0.1:0", handler))
task.fork(lambda: websocket.connect(f"ws://127.0.0.1:{server.port}"))
time.after(100, lambda: silly.exit(7))
silly.run()
"""


def test_nothing_follows_the_goodbye_of_an_ending_process() -> None:
    with Child("-c", GOODBYE) as child:
        assert child.line() == "Result(False, 'closed') Result(False, 'closed')"
        assert child.wait() == 7, child.errors()


# ---- fairness, memory, what nobody reads -----------------------------------------------------------------------------


@pytest.mark.parametrize("pings", [0, 3, 62], ids=["", "3-pings", "62-pings"])
@pytest.mark.parametrize("looked", [False, True], ids=["", "looked-through"])
def test_a_reader_with_a_full_buffer_lets_others_run(side: Side, pings: int, looked: bool) -> None:
    """After 64 reads; a batch that begins just before that is read to its end."""
    with side() as (sock, peer):
        block = b"".join(peer.frame(FIN | PONG, b"x") for _ in range(pings)) + texts(peer, 2 * BATCH)
        count = (pings + 2 * BATCH) * 20
        arrived(sock, peer, block * 20)
        if looked:
            looked_through(sock)
        in_a_row = longest = 0
        stop = False

        def others() -> None:
            nonlocal in_a_row
            while not stop:
                in_a_row = 0
                time.sleep(0)

        running = spawn(others)
        turn()
        for _ in range(count):
            assert sock.read()[0] is not None
            in_a_row += 1
            longest = max(longest, in_a_row)
        stop = True
        joined(running)
        assert BATCH <= longest < 2 * BURST


def test_what_a_peer_can_make_us_hold(side: Side) -> None:
    """One message was read; then nobody reads. Beside the buffer there is what was once in it, and no more."""
    mark = 16 * 1024
    with side({"receive_mark": mark}) as (sock, peer):
        frame = peer.frame(FIN | BINARY, b"x" * 1000)
        peer.send(frame * 200)
        assert sock.read(WITHIN) == (b"x" * 1000, "binary")
        until(lambda: sock._session.stream.paused)
        turn(5)
        held = sum(len(data) for data, _ in sock._session.taken)
        assert len(sock._session.taken) < BATCH
        assert held <= mark + _stream.RECV
        assert sock.conn.unreadbytes() <= mark + _stream.RECV
        for _ in range(199):
            assert sock.read(WITHIN) == (b"x" * 1000, "binary")


def test_pings_behind_messages_that_were_taken(side: Side) -> None:
    """They are answered while nobody reads, and shown once, in their place."""
    with side() as (sock, peer):
        take_first(sock, peer, 5, peer.frame(FIN | PING, b"a") + texts(peer, 1, 5) + peer.frame(FIN | PING, b"b"))
        assert peer.get() == (FIN | PONG, b"a")
        assert peer.get() == (FIN | PONG, b"b")
        assert [sock.read(), sock.read()] == numbers(2, 1)
        peer.put(FIN | PING, "c")
        assert peer.get() == (FIN | PONG, b"c")
        assert read_piecewise(sock) == ("3", "text")
        assert sock.read() == ("4", "text")
        assert [sock.read() for _ in range(4)] == [(b"a", "ping"), ("5", "text"), (b"b", "ping"), (b"c", "ping")]
        peer.silent()


def test_a_fault_behind_messages_that_were_taken_waits_for_the_reader(side: Side, logs: Logs) -> None:
    logs.expect("INFO websocket: .*: unknown opcode 3: close 1002$")
    with side({"linger": 100}) as (sock, peer):
        take_first(sock, peer, 3, peer.frame(FIN | PING, b"p") + peer.frame(FIN | 0x03))
        assert peer.get() == (FIN | PONG, b"p")
        peer.silent()
        assert sock.closecode is None
        assert [sock.read(), sock.read(), sock.read()] == [*numbers(2, 1), (b"p", "ping")]
        assert "unknown opcode 3" in sock.read()[1]


def test_control_frames_are_cut_out_behind_messages_that_were_taken(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unread, "UNREAD", 0.0)
    with side({"receive_mark": 2048}) as (sock, peer):
        take_first(sock, peer, 5)
        for i in range(200):
            peer.put(FIN | PING, b"%d" % i)
            assert peer.get() == (FIN | PONG, b"%d" % i)
        peer.send(texts(peer, 1, 5))
        seen = []
        while not seen or seen[-1] != ("5", "text"):
            seen.append(sock.read(WITHIN))
        assert seen[:4] == numbers(4, 1)
        pings = [int(data) for data, typ in seen[4:-1]]
        assert pings == list(range(pings[0], 200))


@pytest.mark.parametrize("seed", range(6))
def test_a_slow_reader_whose_data_is_taken(side: Side, seed: int) -> None:
    """Against a model, with time for taking between reads: all is shown once, and each ping is answered once."""
    rng = random.Random(seed)
    with side() as (sock, peer):
        frames, shown = schedule(rng, peer)
        pongs = [(FIN | PONG, data) for data, typ in shown if typ == "ping"]
        sending = send_in_cuts(random.Random(rng.random()), peer, b"".join(frames))
        seen = []
        while len(seen) < len(shown):
            if rng.random() < 0.05:
                looked_through(sock)
            seen.append(sock.read(WITHIN))
        joined(sending)
        assert seen == shown
        assert [peer.get() for _ in pongs] == pongs
        assert peer.get_close() == (3001, "")


def test_an_interrupt_hands_nothing_to_another_connection(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is raised in the main program at any bytecode, so also right after messages were taken off the buffer."""
    take = _socket.take_messages

    def interrupted(*args: Any) -> Any:
        take(*args)
        raise KeyboardInterrupt

    with side() as (sock, peer), side() as (other, other_peer):
        arrived(sock, peer, texts(peer, 5))
        with monkeypatch.context() as patch:
            patch.setattr(_socket, "take_messages", interrupted)
            with pytest.raises(KeyboardInterrupt):
                sock.read()
        other_peer.send(texts(other_peer, 3, 100))
        assert [other.read(WITHIN) for _ in range(3)] == numbers(3, 100)
        assert other.read(5) == (None, errno.TIMEDOUT)


# ---- closed below, or given up -----------------------------------------------------------------------------------------


def test_conn_close_drops_what_was_taken(any_side: Side) -> None:
    """As it drops what is in the buffer: each call after it returns an error."""
    with any_side() as (sock, peer):
        take_first(sock, peer, 5)
        sock.conn.close()
        assert sock.read() == (None, "closed")
        assert sock.read(1000) == (None, "closed")


def test_conn_close_drops_what_was_taken_for_pieces_too(any_side: Side) -> None:
    with any_side() as (sock, peer):
        take_first(sock, peer, 5)
        sock.conn.close()
        pieces = sock.pieces()
        assert list(pieces) == []
        assert pieces.err == "closed"


def test_the_end_of_a_peer_that_does_not_answer_our_close_leaves_what_had_come(side: Side) -> None:
    with side({"close_timeout": 50}) as (sock, peer):
        arrived(sock, peer, texts(peer, 5))
        sock.write(b"\x03\xe8", "close")
        peer.half_close()
        until(lambda: sock.closecode is not None)
        for i in range(5):
            assert sock.read() == (str(i), "text")
        assert sock.read()[0] is None
