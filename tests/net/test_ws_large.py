"""Large messages: received straight into what ``read`` returns, whatever the segments and whatever ends them in the middle, and
sent four fragments at a time."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest

from silly import errno, time
from silly._core import scheduler
from silly._core.loop import READ, WRITE
from silly._wire.messages import FRAGMENT
from silly._wire.ws import _BEGUN, LARGE

from ..children import Child
from ..conftest import Logs
from ..helpers import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, WITHIN, joined, spawn, turn
from .support import Job, until
from .ws_support import PLAIN, SIDES, Side

KIB = 1024
MIB = 1024 * 1024
CLOSED = "closed"
OCTETS = random.Random(64).randbytes(3 * MIB)


@pytest.fixture(params=PLAIN.values(), ids=PLAIN)
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param


@pytest.fixture(params=SIDES.values(), ids=SIDES)
def any_side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject, and the transport."""
    return request.param


def head_size(peer: Any) -> int:
    """Of the frame of a large message, its key included."""
    return 14 if peer.masks else 10


def begun(sock: Any, peer: Any, size: int, come: int) -> tuple[bytes, bytes, Any]:
    """A message of ``size`` bytes, of whose payload ``come`` bytes have arrived at a task that reads: the message, the rest of
    its frame, and the task."""
    data = OCTETS[:size]
    frame = peer.frame(FIN | BINARY, data)
    cut = head_size(peer) + come
    reading = Job(lambda: sock.read(WITHIN)).blocked()
    peer.send(frame[:cut])
    until(lambda: received(sock) == come)
    return data, frame[cut:], reading.blocked()


def received(sock: Any) -> int:
    """How many bytes of the large message that arrives are there."""
    payload = sock._session.messages.payload
    return 0 if payload is None else len(payload.so_far()) + len(sock._session.stream.buf)


def time_out(sock: Any, reading: Job) -> None:
    """The time of the reader is over."""
    sock._session.stream._wake_reader(errno.TIMEDOUT)
    assert reading.result() == (None, errno.TIMEDOUT)


# ---- as it arrives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, LARGE + 3, 2 * LARGE, 300_001, MIB - 1, MIB])
@pytest.mark.parametrize("come", ["nothing", "just too little", "just enough", "a lot", "all but a byte"])
def test_sizes(any_side: Side, size: int, come: str) -> None:
    """However much has come before it is asked for; with what follows in the same segment."""
    with any_side() as (sock, peer):
        data = OCTETS[:size]
        behind = [(FIN | PING, b"p"), (FIN | TEXT, b"small"), (FIN | BINARY, b""), (TEXT, b"a")]
        frame = peer.frame(FIN | BINARY, data)
        least = head_size(peer) + _BEGUN
        most = len(frame) - 1
        cut = {"nothing": 0, "just too little": least - 1, "just enough": least, "a lot": 50_000, "all but a byte": most}[come]
        peer.send(frame[:cut])
        turn(2)
        reading = Job(lambda: sock.read(WITHIN)).blocked()
        sending = spawn(lambda: peer.send(frame[cut:] + b"".join([peer.frame(*each) for each in behind])))
        assert reading.result() == (data, "binary")
        assert [sock.read(WITHIN) for _ in range(3)] == [(b"p", "ping"), ("small", "text"), (b"", "binary")]
        joined(sending)
        peer.put(FIN | CONTINUATION, "b")
        assert sock.read(WITHIN) == ("ab", "text")


@pytest.mark.parametrize("seed", range(8))
def test_any_cuts(any_side: Side, seed: int) -> None:
    """Large and small messages, cut anywhere; the reader's time runs out now and then, and some are read in pieces."""
    rng = random.Random(seed)
    with any_side() as (sock, peer):
        shown: list[tuple[Any, str]] = []
        frames = []
        for i in range(12):
            size = rng.choice([LARGE, LARGE + 1, 100_003, 200_000, 5, 0, 70_000])
            at = rng.randrange(MIB)
            frames.append(peer.frame(FIN | BINARY, OCTETS[at : at + size]))
            shown.append((OCTETS[at : at + size], "binary"))
            if rng.random() < 0.5:
                frames.append(peer.frame(FIN | PING, b"%d" % i))
                shown.append((b"%d" % i, "ping"))
        stream = b"".join(frames)
        numbers = random.Random(rng.random())

        def send() -> None:
            at = 0
            while at < len(stream):
                size = numbers.choice([1, 3, 14, 1000, 8192, 16384, 30_000, 100_000])
                peer.send(stream[at : at + size])
                at += size
                if numbers.random() < 0.5:
                    turn(numbers.randrange(1, 3))

        sending = spawn(send)
        for data, typ in shown:
            if typ == "binary" and rng.random() < 0.3:
                if rng.random() < 0.5:
                    got = sock.read(rng.choice([0, 1]))
                    if got[0] is not None:
                        assert got == (data, typ)
                        continue
                pieces = sock.pieces(WITHIN)
                assert (b"".join(pieces), pieces.typ, pieces.err) == (data, typ, None)
                continue
            while True:
                got = sock.read(rng.choice([0, 1, 5, WITHIN]))
                if got[0] is not None:
                    break
                assert got[1] == errno.TIMEDOUT
                assert data.startswith(sock.partial)
            assert got == (data, typ)
        joined(sending)


def test_it_is_received_in_place(side: Side) -> None:
    """Once begun, none of it passes the buffer."""
    with side() as (sock, peer):
        data, rest, reading = begun(sock, peer, MIB, 100_000)
        assert sock._session.stream._payload is sock._session.messages.payload
        sending = spawn(lambda: peer.send(rest))
        while sock._session.messages.payload is not None and sock._session.messages.payload.left:
            assert sock.conn.unreadbytes() == 0
            turn()
        assert reading.result() == (data, "binary")
        joined(sending)


def test_an_announced_length_allocates_nothing(any_side: Side) -> None:
    """A peer that announces the largest message there is, and sends little, makes us hold little more than that."""
    with any_side({"message": 2**63 - 1}) as (sock, peer):
        peer.send(peer.frame(FIN | BINARY, length=(2**63 - 1).to_bytes(8, "big")) + b"x" * 20_000)
        reading = Job(lambda: sock.read(WITHIN)).blocked()
        until(lambda: received(sock) == 20_000)
        payload = sock._session.messages.payload
        with payload.room() as room:
            assert len(room) <= 8 * 20_000
        assert payload.left == 2**63 - 1 - len(payload.so_far())
        time_out(sock, reading)
        assert len(sock.partial) == 20_000


@pytest.mark.parametrize("most", [2**63 - 2, 2**63 - 1])
def test_a_limit_beyond_any_size(side: Side, most: int) -> None:
    with side({"message": most}) as (sock, peer):
        for size in (5, LARGE, 3 * LARGE):
            peer.send(peer.frame(FIN | BINARY, OCTETS[:size]))
            assert sock.read(WITHIN) == (OCTETS[:size], "binary")
        pieces = sock.pieces(WITHIN, limit=most)
        sending = spawn(lambda: peer.send(peer.frame(FIN | BINARY, OCTETS[:200_000])))
        assert b"".join(pieces) == OCTETS[:200_000]
        joined(sending)


@pytest.mark.parametrize("most", [LARGE - 1, LARGE, LARGE + 1, 200_000])
def test_the_limit(any_side: Side, most: int, logs: Logs) -> None:
    logs.expect(f"INFO websocket: .*: message longer than the limit 'message' of {most} bytes: close 1009$")
    with any_side({"message": most, "linger": 100}) as (sock, peer):
        peer.send(peer.frame(FIN | BINARY, OCTETS[:most]))
        assert sock.read(WITHIN) == (OCTETS[:most], "binary")
        peer.send(peer.frame(FIN | BINARY, OCTETS[: most + 1])[:14])  # the header proves it
        assert "broke the protocol" in sock.read(WITHIN)[1]
        assert peer.get_close()[0] == 1009


# ---- broken off -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("come", [_BEGUN, 40_000, 70_001, 250_000])
def test_a_time_out_in_the_middle(any_side: Side, come: int) -> None:
    """Nothing is lost: ``partial`` has what came, and the next read goes on."""
    with any_side() as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, come)
        time_out(sock, reading)
        assert sock.partial == data[:come]
        peer.send(rest[:1000])
        turn(2)
        assert sock.read(1) == (None, errno.TIMEDOUT)
        assert sock.partial == data[: come + 1000]
        sending = spawn(lambda: peer.send(rest[1000:] + peer.frame(FIN | TEXT, b"next")))
        assert sock.read(WITHIN) == (data, "binary")
        assert sock.read(WITHIN) == ("next", "text")
        joined(sending)


def test_over_tls_some_waits_in_the_buffer(logs: Logs) -> None:
    """Less than a reader is woken for has come since: ``partial`` has it, when the time runs out and when the peer ends."""
    for end in ("timeout", "eof"):
        for name in ("server-tls", "client-tls"):
            with SIDES[name]() as (sock, peer):
                data, rest, reading = begun(sock, peer, 500_000, 100_000)
                peer.send(rest[:5000])
                until(lambda sock=sock: sock.conn.unreadbytes() == 5000)
                if end == "timeout":
                    time_out(sock, reading)
                else:
                    peer.close()
                    assert "ended without a closing handshake" in reading.result()[1]
                assert sock.partial == data[:105_000]


@pytest.mark.parametrize("come", [_BEGUN, 70_001])
def test_pieces_after_a_time_out(any_side: Side, come: int) -> None:
    """What has come is the first piece, though nothing more comes for a while."""
    with any_side() as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, come)
        time_out(sock, reading)
        pieces = sock.pieces(5)
        assert next(pieces) == data[:come]
        assert list(pieces) == []
        assert (pieces.typ, pieces.err) == ("binary", errno.TIMEDOUT)
        peer.send(rest[:10])
        assert next(pieces) == data[come : come + 10]
        sending = spawn(lambda: peer.send(rest[10:] + peer.frame(FIN | TEXT, b"next")))
        more = [*sock.pieces(WITHIN)] if come == _BEGUN else None
        if more is not None:
            # Another iteration drops what is left of it.
            assert more == ["next"]
        else:
            got = data[: come + 10]
            while len(got) < len(data):
                got += next(pieces, b"")
            assert got == data
            assert list(pieces) == []
            assert pieces.err is None
            assert sock.read(WITHIN) == ("next", "text")
        joined(sending)


@pytest.mark.parametrize("limit", [299_999, 1000, 300_000])
def test_pieces_with_a_limit_after_a_time_out(any_side: Side, limit: int, logs: Logs) -> None:
    with any_side({"linger": 100}) as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        time_out(sock, reading)
        pieces = sock.pieces(WITHIN, limit=limit)
        if limit < 300_000:
            logs.expect(f"INFO websocket: .*: message longer than the limit 'limit' of {limit} bytes: close 1009$")
            assert list(pieces) == []
            assert f"of {limit} bytes" in str(pieces.err)
            assert peer.get_close()[0] == 1009
        else:
            sending = spawn(lambda: peer.send(rest))
            assert b"".join(pieces) == data
            joined(sending)


def test_read_after_pieces_after_a_time_out(side: Side) -> None:
    """What is left of the message that was begun in pieces is dropped."""
    with side() as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        time_out(sock, reading)
        assert next(sock.pieces(WITHIN)) == data[:70_001]
        sending = spawn(lambda: peer.send(rest + peer.frame(FIN | BINARY, OCTETS[:200_000])))
        assert sock.read(WITHIN) == (OCTETS[:200_000], "binary")
        joined(sending)


def test_pieces_that_were_only_asked_for_after_a_time_out(side: Side) -> None:
    """Without a piece taken it is still there to be read whole."""
    with side() as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        time_out(sock, reading)
        sock.pieces(WITHIN)
        sending = spawn(lambda: peer.send(rest))
        assert sock.read(WITHIN) == (data, "binary")
        joined(sending)


def test_the_end_after_a_time_out_and_pieces(side: Side) -> None:
    with side() as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        time_out(sock, reading)
        peer.send(rest[:99])
        peer.half_close()
        until(lambda: sock._session.stream.err is not None)
        pieces = sock.pieces(WITHIN)
        assert b"".join(pieces) == data[:70_100]
        assert "ended without a closing handshake" in str(pieces.err)


@pytest.mark.parametrize("end", ["eof", "reset"])
def test_the_peer_ends_in_the_middle(side: Side, end: str) -> None:
    with side() as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        peer.send(rest[:50_000])
        until(lambda: received(sock) == 120_001)
        peer.half_close() if end == "eof" else peer.reset()
        data_read, err = reading.result()
        assert data_read is None
        assert "ended without a closing handshake" in err
        assert sock.partial == data[:120_001]
        assert sock.closecode == 1006
        assert sock.read() == (None, err)


@pytest.mark.parametrize("how", ["close", "conn.close", "abort", "killed", "deadline"])
def test_we_end_in_the_middle(any_side: Side, how: str) -> None:
    with any_side({"close_timeout": 50, "linger": 50}) as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        if how == "killed":
            reading.kill()
        elif how == "deadline":
            time_out(sock, reading)
            with time.deadline(1):
                assert "deadline of 1 ms" in sock.read()[1]
            assert sock.partial == data[:70_001]
        if how in ("killed", "deadline"):
            assert sock._session.stream._payload is None
            sending = spawn(lambda: peer.send(rest))
            assert sock.read(WITHIN) == (data, "binary")
            joined(sending)
            return
        ending = spawn({"close": sock.close, "conn.close": sock.conn.close, "abort": sock._session.stream.abort}[how])
        assert reading.result() == (None, CLOSED)
        if how == "close":
            assert peer.get_close() == (1000, "")
            assert peer.conn.write(rest)
            peer.put_close()
        joined(ending)
        assert sock.read() == (None, CLOSED)
        if how == "close":
            assert sock.closecode == 1000


@pytest.mark.parametrize("peer_goes_on", [False, True])
def test_close_awaits_the_close_frame_behind_it(side: Side, peer_goes_on: bool) -> None:
    with side({"close_timeout": 50}) as (sock, peer):
        _, rest, reading = begun(sock, peer, 300_000, 70_001)
        closing = spawn(sock.close)
        assert reading.result() == (None, CLOSED)
        assert peer.get_close() == (1000, "")
        if peer_goes_on:
            peer.send(rest[:100_000])
            turn(2)
            peer.send(rest[100_000:] + peer.frame(FIN | TEXT, b"late") + peer.frame(FIN | CLOSE, b"\x0b\xb8"))
            if not peer.masks:
                peer.close()
        assert joined(closing) == (True, None)
        assert sock.closecode == (3000 if peer_goes_on else 1006)


def test_data_that_comes_before_a_timed_out_reader_runs(side: Side) -> None:
    """Another task reads in pieces meanwhile: it gets the rest of the message, and the first task gets none of it."""
    with side() as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        got = []

        def go_on() -> str | None:
            pieces = sock.pieces(WITHIN)
            for piece in pieces:
                got.append(piece)
            return pieces.err

        going = spawn(go_on)
        sock._session.stream._wake_reader(errno.TIMEDOUT)
        # The first has not run, and will not before what the second waits for has come.
        waiting = scheduler.loop.ready.pop()
        assert waiting is reading.task
        until(lambda: sock._session.stream._reader is not None)
        sending = spawn(lambda: peer.send(rest))
        until(lambda: sum(map(len, got)) > 100_000)
        scheduler.loop.ready.append(waiting)
        assert reading.result() == (None, errno.TIMEDOUT)
        joined(sending)
        assert joined(going) is None
        assert b"".join(got) == data


def test_another_task_reads_on_before_a_timed_out_reader_runs(any_side: Side) -> None:
    with any_side() as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        going = spawn(lambda: sock.read(WITHIN))
        sock._session.stream._wake_reader(errno.TIMEDOUT)
        assert reading.result() == (None, errno.TIMEDOUT)
        sending = spawn(lambda: peer.send(rest))
        assert joined(going) == (data, "binary")
        joined(sending)


# ---- while nobody reads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("come", [70_001, 299_000])
def test_control_frames_behind_it_while_nobody_reads(any_side: Side, come: int) -> None:
    """A read that timed out has taken some; the rest, and pings, come while nobody reads."""
    with any_side({"receive_mark": MIB}) as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, come)
        time_out(sock, reading)
        sending = spawn(lambda: peer.send(rest + peer.frame(FIN | PING, b"behind") + peer.frame(FIN | CLOSE, b"\x03\xe8")))
        assert peer.get() == (FIN | PONG, b"behind")
        assert peer.get_close() == (1000, "")
        joined(sending)
        assert sock.read(WITHIN) == (data, "binary")
        assert sock.read(WITHIN) == (b"behind", "ping")
        assert sock.read(WITHIN) == (b"\x03\xe8", "close")


def test_a_fault_behind_a_whole_message_waits_for_the_reader(side: Side, logs: Logs) -> None:
    """It came whole, but the reader was ended before it ran."""
    logs.expect("INFO websocket: .*: unknown opcode 3: close 1002$")
    with side({"linger": 100}) as (sock, peer):
        data, rest, reading = begun(sock, peer, 300_000, 70_001)
        peer.send(rest)
        ready = scheduler.loop.ready
        # The loop's part: nobody else runs meanwhile.
        while sock._session.stream._reader is not None:
            sock._session.stream.on_event(READ)
            peer.conn._stream.flush() if not peer.conn._stream.blocked else peer.conn._stream.on_event(WRITE)
        assert ready.pop() is reading.task
        assert sock._session.messages.payload.left == 0
        peer.send(peer.frame(FIN | 0x03))
        until(lambda: sock._session.taken)  # more than the mark: nothing behind it is taken
        turn(3)
        assert sock.closecode is None
        ready.append(reading.task)
        assert reading.result() == (data, "binary")
        assert "unknown opcode 3" in sock.read(WITHIN)[1]


def test_keepalive_gives_up_in_the_middle(side: Side, logs: Logs) -> None:
    logs.expect(r"INFO websocket: .*: no pong for 0.02 s \(the limit 'pong_timeout'\): close 1011$")
    with side({"ping_interval": 20, "pong_timeout": 20}) as (sock, peer):
        data, _, reading = begun(sock, peer, 300_000, 70_001)
        data_read, err = reading.result()
        assert data_read is None
        assert "no pong for 0.02 s" in err
        assert sock.partial == data[:70_001]


EXIT = """
import silly
from silly import task, time
from silly.net import http, websocket

def handler(stream):
    sock, err = websocket.upgrade(stream)
    try:
        print("read", sock.read(), flush=True)
    finally:
        print("ended", sock.read(), sock.write("x"), flush=True)

server = silly.check(http.listen("127.0.0.1:0", handler))

def client():
    sock = silly.check(websocket.connect(f"ws://127.0.0.1:{server.port}"))
    sock.conn.write(bytes((0x82, 0xff)) + (300_000).to_bytes(8, "big") + b"abcd" + b"x" * 100_000)
    print("written", flush=True)
    task.wait()

task.fork(client)
time.after(100, lambda: silly.exit(7))
silly.run()
"""


def test_the_process_ends_in_the_middle() -> None:
    with Child("-c", EXIT) as child:
        lines = [child.line(), child.line()]
        assert child.wait() == 7, child.errors()
        assert child.errors() == ""
    assert lines[0] == "written"
    assert lines[1].startswith("ended (None, "), lines


# ---- what is sent ----------------------------------------------------------------------------------------------------


SENT = [FRAGMENT - 1, FRAGMENT, FRAGMENT + 1]
SENT += [count * FRAGMENT + more for count in (3, 4, 5, 8) for more in (-1, 0, 1)]


@pytest.mark.parametrize("typ", ["binary", "text"])
@pytest.mark.parametrize("size", SENT)
def test_the_fragments_of_a_large_message(any_side: Side, size: int, typ: str) -> None:
    with any_side() as (sock, peer):
        data = OCTETS[:size] if typ == "binary" else OCTETS[: (size + 1) // 2].hex().encode()[:size]
        writing = spawn(lambda: (sock.write(data, typ), sock.write("next", "text")))
        got = b""
        first, payload = peer.get()
        assert first & 0x7F == (BINARY if typ == "binary" else TEXT)
        while not first & FIN:
            assert len(payload) == FRAGMENT
            got += payload
            first, payload = peer.get()
            assert first & 0x7F == CONTINUATION
        assert 0 < len(payload) <= FRAGMENT
        assert got + payload == data
        assert peer.get() == (FIN | TEXT, b"next")
        assert joined(writing) == ((True, None), (True, None))


def test_control_frames_pass_between_fragments_of_a_message_that_is_sent(any_side: Side) -> None:
    """While the peer reads slowly: no more than what is sent together lies before a pong, beside what is unsent."""
    with any_side({"unsent": FRAGMENT}) as (sock, peer):
        sock._session.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * KIB)
        peer.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KIB)
        peer.conn._stream.set_mark(KIB)
        data = OCTETS
        writing = Job(lambda: sock.write(data)).blocked()
        assert sock._session.stream.unsent <= 4 * (FRAGMENT + KIB) + 2 * FRAGMENT
        pinging = spawn(lambda: sock.write("ping", "ping"))
        got, pings = b"", []
        while len(got) < len(data):
            first, payload = peer.get()
            if first == FIN | PING:
                pings.append(len(got))
            else:
                got += payload
        assert got == data
        assert len(pings) == 1
        assert pings[0] < len(data)
        assert joined(pinging) == (True, None)
        assert writing.result() == (True, None)


@pytest.mark.parametrize("ending", ["deadline", "killed"])
def test_a_writer_that_ends_in_the_middle_has_sent_it_all(any_side: Side, ending: str) -> None:
    """After half a message nothing else could be sent."""
    with any_side({"unsent": FRAGMENT}) as (sock, peer):
        data = OCTETS[: 3 * MIB] * 4

        def write() -> Any:
            if ending == "deadline":
                with time.deadline(10):
                    return sock.write(data)
            return sock.write(data)

        writing = Job(write)
        if ending == "killed":
            writing.blocked().kill()
        else:
            assert "deadline of 10 ms" in writing.result()[1]
        later = spawn(lambda: sock.write("next", "text"))
        got = bytearray()
        first = 0
        while not first & FIN:
            first, payload = peer.get()
            got += payload
        assert got == data
        assert peer.get() == (FIN | TEXT, b"next")
        assert joined(later) == (True, None)


def test_large_messages_of_two_tasks_do_not_mix(any_side: Side) -> None:
    with any_side() as (sock, peer):
        blocks = [bytes((i,)) * (5 * FRAGMENT + i) for i in range(4)]
        writing = [spawn(lambda block=block: sock.write(block)) for block in blocks]
        got = []
        for _ in blocks:
            first, message = peer.get()
            while not first & FIN:
                first, payload = peer.get()
                message += payload
            got.append(message)
        assert got == blocks
        assert [joined(each) for each in writing] == [(True, None)] * 4


@pytest.mark.parametrize("lent", [False, True], ids=["bytearray", "memoryview"])
def test_what_was_written_may_be_changed_after(side: Side, lent: bool) -> None:
    with side() as (sock, peer):
        data = bytearray(OCTETS[:900_000])
        expected = bytes(data)
        assert sock.write(memoryview(data) if lent else data) == (True, None)
        data[:] = bytes(len(data))
        data.clear()
        message = b""
        first = 0
        while not first & FIN:
            first, payload = peer.get()
            message += payload
        assert message == expected
