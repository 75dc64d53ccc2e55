"""WebSocket in both roles, against raw peers: what is on the wire, and what the application sees."""

from __future__ import annotations

import array
import gc
import os
import signal
import socket
import subprocess
import sys
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import CellType, FrameType
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import check, errno, task, time
from silly._core import scheduler
from silly.net import http, tcp, websocket
from silly.sync import channel

from ..children import LISTENING
from ..helpers import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    KEY,
    PING,
    PONG,
    TEXT,
    WITHIN,
    Peer,
    Raw,
    ServerPeer,
    Upgraded,
    ahead_of_reader,
    client_side,
    joined,
    raw_server,
    server_side,
    serving,
    spawn,
    switching,
    turn,
)
from .support import until
from .ws_support import one

KIB = 1024
MIB = 1024 * 1024
CLOSED = "closed"
SHORT = {"close_timeout": 50}
Side = Callable[..., AbstractContextManager[tuple[Any, Any]]]


@pytest.fixture(params=[server_side, client_side], ids=["server", "client"])
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def pair(side: Side) -> Iterator[tuple[Any, Any]]:
    """A WebSocket and its raw peer."""
    with side({"close_timeout": 2000}) as both:
        yield both


@pytest.fixture
def server() -> Iterator[tuple[Any, Any]]:
    with server_side(SHORT) as both:
        yield both


def read(sock: Any) -> Any:
    """A read that is bounded."""
    return sock.read(WITHIN)


# ---- both ends ------------------------------------------------------------------------------------------------------


def test_echo() -> None:
    """The seed's server and client, translated line for line."""

    def handler(stream: Any) -> None:
        if stream.header["upgrade"] == "websocket":
            sock, err = websocket.upgrade(stream)
            if not sock:
                raise AssertionError(err)
            while True:
                data, typ = sock.read()
                if data is None:
                    break
                if typ == "text":
                    sock.write("Echo: " + data, "text")
                elif typ == "close":
                    break
            sock.close()
        else:
            stream.respond(200, {"content-type": "text/plain"})
            stream.close("Not a WebSocket request")

    with serving(handler) as server:
        for url in (f"ws://127.0.0.1:{server.port}", f"ws://localhost:{server.port}/path?query", f"WS://127.0.0.1:{server.port}?q"):
            sock, err = websocket.connect(url)
            assert err is None
            assert sock.write("Hello", "text") == (True, None)
            assert sock.read() == ("Echo: Hello", "text")
            assert sock.close() == (True, None)
        with Raw.connect(server) as client:
            client.request()
            assert client.response().body == b"Not a WebSocket request"


def test_attributes_of_a_client() -> None:
    with client_side() as (sock, _):
        assert sock.conn.isalive()
        assert sock.stream.conn is sock.conn
        assert (sock.stream.method, sock.stream.path, sock.stream.scheme) == ("GET", "/chat?x=1", "ws")
        assert (sock.stream.status, sock.stream.version) == (101, "HTTP/1.1")
        assert sock.stream.header["Upgrade"] == "websocket"
        assert sock.stream.remoteaddr == sock.conn.remoteaddr
        assert (sock.closecode, sock.closereason, sock.partial) == (None, "", b"")
        assert "open" in repr(sock)


def test_attributes_of_a_server() -> None:
    with server_side() as (sock, _):
        assert sock.conn.isalive()
        assert (sock.stream.path, sock.stream.query["x"], sock.stream.header["sec-websocket-key"]) == ("/chat", "1", KEY)
        assert sock.stream.respond(200) == (False, "the request has been answered already")
        assert sock.stream.read(1) == (None, errno.CLOSED)
        assert websocket.upgrade(sock.stream) == (None, "the request has been answered already")


# ---- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "first", "payload"),
    [
        (("text é €", "text"), TEXT, "text é €".encode()),
        (("", "text"), TEXT, b""),
        ((None, "text"), TEXT, b""),
        ((b"caf\xc3\xa9", "text"), TEXT, "café".encode()),
        ((bytearray(b"abc"), "text"), TEXT, b"abc"),
        ((memoryview(b"abc")[1:], "text"), TEXT, b"bc"),
        (("str",), BINARY, b"str"),
        ((b"\xff\0",), BINARY, b"\xff\0"),
        ((None,), BINARY, b""),
        ((b"",), BINARY, b""),
        ((bytearray(b"\xff"), "binary"), BINARY, b"\xff"),
        ((memoryview(b"\xff"), "binary"), BINARY, b"\xff"),
        ((memoryview(array.array("d", [1.5, 2.5])),), BINARY, array.array("d", [1.5, 2.5]).tobytes()),
        ((memoryview(bytes(range(12))).cast("B", (3, 4)),), BINARY, bytes(range(12))),
        (("p", "ping"), PING, b"p"),
        ((None, "ping"), PING, b""),
        ((b"p" * 125, "ping"), PING, b"p" * 125),
        (("p", "pong"), PONG, b"p"),
        ((None, "pong"), PONG, b""),
        ((b"\x03\xe8bye", "close"), CLOSE, b"\x03\xe8bye"),
        ((None, "close"), CLOSE, b""),
    ],
)
def test_write(pair: Any, args: tuple[Any, ...], first: int, payload: bytes) -> None:
    sock, peer = pair
    assert sock.write(*args) == (True, None)
    assert peer.get() == (FIN | first, payload)


@pytest.mark.parametrize(
    ("data", "typ", "kind"),
    [
        (b"\xff", "text", ValueError),
        (bytearray(b"\xc3"), "text", ValueError),
        (memoryview(b"\xed\xa0\x80"), "text", ValueError),
        ("\ud800", "text", ValueError),
        ("x", "continuation", ValueError),
        ("x", "TEXT", ValueError),
        ("x", 1, ValueError),
        (1, "binary", TypeError),
        ([b"x"], "binary", TypeError),
        (True, "text", TypeError),
        (memoryview(b"abcdef")[::2], "binary", TypeError),
        (b"\x00\x00", "close", ValueError),
        (b"\x03", "close", ValueError),
        (b"\x03\xed", "close", ValueError),
        (b"\x03\xe8\xff", "close", ValueError),
    ],
)
def test_write_what_cannot_be_sent(pair: Any, data: Any, typ: Any, kind: type[Exception]) -> None:
    sock, peer = pair
    with pytest.raises(kind):
        sock.write(data, typ)
    sock.write("fine")
    assert peer.get() == (FIN | BINARY, b"fine")


@pytest.mark.parametrize("typ", ["ping", "pong", "close"])
def test_control_frame_too_long(pair: Any, typ: str) -> None:
    sock, peer = pair
    assert sock.write(b"\x03\xe8" + b"x" * 124, typ) == (False, "a control frame takes at most 125 bytes, not 126")
    sock.write("fine")
    assert peer.get() == (FIN | BINARY, b"fine")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537, MIB])
@pytest.mark.parametrize("typ", ["text", "binary"])
def test_sizes(pair: Any, size: int, typ: str) -> None:
    """The lengths on the wire are in their shortest form: ``get`` checks that."""
    sock, peer = pair
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    opcode = TEXT if typ == "text" else BINARY
    sending = spawn(lambda: sock.write(payload, typ))
    first, got = peer.get()
    fragments = 1
    assert first & 0x7F == opcode
    while not first & FIN:
        assert len(got) % 65536 == 0
        first, more = peer.get()
        assert first & 0x7F == CONTINUATION
        got += more
        fragments += 1
    assert got == payload
    assert fragments == max(1, -(-size // 65536))
    assert joined(sending) == (True, None)
    peer.put(FIN | opcode, payload)
    assert read(sock) == (payload.decode() if typ == "text" else payload, typ)


def test_control_frame_between_fragments(pair: Any) -> None:
    """A ping passes a large message that the peer takes slowly, and the message stays whole."""
    sock, peer = pair
    payload = os.urandom(8 * MIB)
    sending = spawn(lambda: sock.write(payload))
    until(lambda: sock.conn.unsentbytes() > MIB)
    ping = spawn(lambda: sock.write("now", "ping"))
    other = spawn(lambda: sock.write("after", "text"))
    got = b""
    pinged = 0
    while True:
        first, piece = peer.get()
        if first == FIN | PING:
            assert piece == b"now"
            pinged = len(got)
            continue
        got += piece
        if first & FIN:
            break
    assert got == payload
    assert 0 < pinged < len(payload)
    assert peer.get() == (FIN | TEXT, b"after")
    assert joined(sending) == joined(ping) == joined(other) == (True, None)


def test_many_writers(pair: Any) -> None:
    """Each message whole, each writer's in order; writers that waited for a large message all get their turn."""
    sock, peer = pair
    writers, rounds = 10, 6
    sizes = [10, 300 * KIB, 70 * KIB, 0, 2 * MIB, 1000]

    def writer(number: int) -> Any:
        results = [sock.write(bytes((number, i)) + bytes((number,)) * sizes[(number + i) % 6]) for i in range(rounds)]
        return set(results) == {(True, None)}

    running = [spawn(lambda number=number: writer(number)) for number in range(writers)]
    seen: dict[int, list[int]] = {n: [] for n in range(writers)}
    for _ in range(writers * rounds):
        first, message = peer.get()
        assert first & 0x7F == BINARY
        while not first & FIN:
            first, piece = peer.get()
            assert first & 0x7F == CONTINUATION
            message += piece
        number, i = message[0], message[1]
        assert message[2:] == bytes((number,)) * sizes[(number + i) % 6]
        seen[number].append(i)
    assert all(order == list(range(rounds)) for order in seen.values())
    assert all(joined(each) for each in running)


def test_small_writers_behind_a_large_message(pair: Any) -> None:
    sock, peer = pair
    large = spawn(lambda: sock.write(b"x" * 8 * MIB))
    until(lambda: sock.conn.unsentbytes() > MIB)
    waiting = [spawn(lambda i=i: sock.write(f"small {i}", "text")) for i in range(5)]
    turn(2)
    got = []
    while len(got) < 5:
        first, payload = peer.get()
        if first & 0x7F == TEXT:
            got.append(payload)
    assert got == [f"small {i}".encode() for i in range(5)]
    assert [joined(each) for each in [large, *waiting]] == [(True, None)] * 6


def test_killed_writer_passes_its_turn_on(pair: Any) -> None:
    sock, peer = pair
    tasks = []
    large = spawn(lambda: sock.write(b"x" * 8 * MIB))
    until(lambda: sock.conn.unsentbytes() > MIB)

    def small() -> Any:
        tasks.append(task.running())
        try:
            return sock.write("small", "text")
        except GreenletExit:
            return "killed"

    waiting = [spawn(small) for _ in range(3)]
    until(lambda: len(tasks) == 3 and all(task.status(each) == "WAIT" for each in tasks))
    scheduler.loop.post(scheduler.throw, tasks[1], GreenletExit())
    got = 0
    while got < 2:
        first, _ = peer.get()
        got += first & 0x7F == TEXT
    assert [joined(each) for each in [large, *waiting]] == [(True, None), (True, None), "killed", (True, None)]


@pytest.mark.parametrize("where", ["compress", "frames"])
def test_an_interrupt_within_a_compressed_write(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compressor saw and the peer did not must not be referred to."""
    upgraded = Upgraded(compression=True)
    with serving(upgraded.handler) as server:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}", compression=True)
        assert err is None
        other = upgraded.pop()
        assert sock.write("first " * 100, "text")
        assert one(other) == ("first " * 100, "text")
        session = sock._session
        owner, name = (type(session.deflater), "piece") if where == "compress" else (type(session), "_send_frames")
        real = getattr(owner, name)

        def interrupted(*args: Any) -> Any:
            if where == "compress":
                real(*args)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                sock.write("lost and noisy 0123456789 " * 50, "text")
        for _ in range(3):
            assert sock.write("lost and noisy 0123456789 " * 50, "text")
            assert one(other) == ("lost and noisy 0123456789 " * 50, "text")
        upgraded.release()
        sock.close()


def test_writes_of_a_peer_that_never_reads_wait(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        done = []

        def writer() -> None:
            while sock.write(b"x" * 10_000):
                done.append(1)

        writing = [spawn(writer) for _ in range(3)]
        last = -1
        while last != len(done):
            last = len(done)
            turn(20)
        assert sock.conn.unsentbytes() < 2 * MIB
        sock.close()
        assert [joined(each) for each in writing] == [None] * 3
        assert peer.conn.isalive()


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dribbled", [False, True])
def test_read_all_types(pair: Any, dribbled: bool) -> None:
    sock, peer = pair
    send = peer.dribble if dribbled else peer.send
    frames = [
        (FIN | TEXT, "é€".encode(), ("é€", "text")),
        (FIN | TEXT, b"", ("", "text")),
        (FIN | BINARY, b"\xff\0", (b"\xff\0", "binary")),
        (FIN | BINARY, b"", (b"", "binary")),
        (FIN | PONG, b"unsolicited", (b"unsolicited", "pong")),
        (FIN | PONG, b"", (b"", "pong")),
        (FIN | BINARY, b"x" * 300, (b"x" * 300, "binary")),
    ]
    for first, payload, expected in frames:
        sending = spawn(lambda first=first, payload=payload: send(peer.frame(first, payload)))
        assert read(sock) == expected
        joined(sending)
    send(peer.frame(FIN | CLOSE, b"\x03\xe9going"))
    assert read(sock) == (b"\x03\xe9going", "close")
    assert (sock.closecode, sock.closereason) == (1001, "going")


@pytest.mark.parametrize("dribbled", [False, True])
def test_fragments_with_controls_between(side: Side, dribbled: bool) -> None:
    with side(SHORT) as (sock, peer):
        data = b"".join(
            [
                peer.frame(TEXT, b"\xc3"),
                peer.frame(FIN | PING, b"1"),
                peer.frame(CONTINUATION, b""),
                peer.frame(FIN | PONG, b"2"),
                peer.frame(CONTINUATION, b"\xa9"),
                peer.frame(FIN | PING, b""),
                peer.frame(FIN | CONTINUATION, b"!"),
                peer.frame(BINARY, b""),
                peer.frame(FIN | CONTINUATION, b""),
            ]
        )
        sending = spawn(lambda: [peer.send(bytes((b,))) or turn() for b in data] if dribbled else peer.send(data))
        shown = [(b"1", "ping"), (b"2", "pong"), (b"", "ping"), ("é!", "text"), (b"", "binary")]
        assert [read(sock) for _ in range(5)] == shown
        joined(sending)
        assert peer.get() == (FIN | PONG, b"1")
        assert peer.get() == (FIN | PONG, b"")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_read_timeout_loses_nothing(pair: Any, opcode: int) -> None:
    """Mid-header, mid-payload, between fragments; ``partial`` holds what had arrived."""
    sock, peer = pair
    wrap = (lambda data: data.decode()) if opcode == TEXT else bytes
    timed_out = (None, errno.TIMEDOUT)
    assert sock.read(0) == timed_out
    assert sock.read(1) == timed_out
    assert not sock.partial
    frame = peer.frame(opcode, b"x" * 200)
    for part in (frame[:1], frame[1:3], frame[3:-100]):
        peer.send(part)
        turn()
        assert sock.read(1) == timed_out
    assert sock.partial == wrap(b"x" * 100)
    peer.send(frame[-100:])
    assert sock.read(1) == timed_out
    assert sock.partial == wrap(b"x" * 200)
    peer.put(CONTINUATION, b"y")
    assert sock.read(1) == timed_out
    frame = peer.frame(FIN | CONTINUATION, b"zz")
    peer.send(frame[:-1])
    assert sock.read(1) == timed_out
    assert sock.partial == wrap(b"x" * 200 + b"yz")
    peer.send(frame[-1:])
    assert read(sock) == (wrap(b"x" * 200 + b"yzz"), "text" if opcode == TEXT else "binary")


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf")])
def test_read_bad_timeout(pair: Any, bad: float) -> None:
    sock, peer = pair
    with pytest.raises(ValueError, match="time-out"):
        sock.read(bad)
    peer.put(FIN | TEXT, "x")
    assert read(sock) == ("x", "text")


def test_second_reader(pair: Any) -> None:
    sock, peer = pair
    reading = spawn(lambda: read(sock))
    turn()
    with pytest.raises(RuntimeError, match="another task is already reading"):
        sock.read()
    peer.put(FIN | TEXT, "x")
    assert joined(reading) == ("x", "text")


def test_killed_reader_loses_nothing(pair: Any) -> None:
    sock, peer = pair
    tasks = []

    def reader() -> Any:
        tasks.append(task.running())
        try:
            return sock.read()
        except GreenletExit:
            return "killed"

    reading = spawn(reader)
    peer.put(TEXT, "a")
    turn(2)
    scheduler.loop.post(scheduler.throw, tasks[0], GreenletExit())
    assert joined(reading) == "killed"
    peer.put(FIN | CONTINUATION, "b")
    assert read(sock) == ("ab", "text")


def test_many_small_messages_let_others_run(pair: Any) -> None:
    sock, peer = pair
    steps = []
    count = 0

    def watch() -> None:
        while count < 5000:
            steps.append(count)
            time.sleep(0)

    sending = spawn(lambda: peer.send(b"".join(peer.frame(FIN | TEXT, b"%d" % i) for i in range(5000))))
    watching = spawn(watch)
    while count < 5000:
        assert read(sock) == (str(count), "text")
        count += 1
    joined(watching)
    joined(sending)
    assert len(steps) > 5000 // 64


# ---- pings ----------------------------------------------------------------------------------------------------------


def test_ping_is_answered_once_and_shown(pair: Any) -> None:
    """A pong by hand with the payload is taken as done; any other goes out."""
    sock, peer = pair
    peer.put(FIN | PING, "one")
    assert read(sock) == (b"one", "ping")
    assert sock.write(b"one", "pong") == (True, None)
    assert sock.write("other", "pong") == (True, None)
    assert sock.write("one", "pong") == (True, None)
    assert sock.write("end") == (True, None)
    assert [peer.get() for _ in range(4)] == [
        (FIN | PONG, b"one"),
        (FIN | PONG, b"other"),
        (FIN | PONG, b"one"),
        (FIN | BINARY, b"end"),
    ]


def test_only_the_last_16_pings_count(pair: Any) -> None:
    sock, peer = pair
    for i in range(20):
        peer.put(FIN | PING, b"%d" % i)
    for i in range(20):
        assert read(sock) == (b"%d" % i, "ping")
    for i in range(20):
        assert sock.write(b"%d" % i, "pong") == (True, None)
    sock.write("end")
    pongs = [(FIN | PONG, b"%d" % i) for i in [*range(20), *range(4)]]
    assert [peer.get() for _ in range(25)] == [*pongs, (FIN | BINARY, b"end")]


def test_equal_pings_each_take_one_pong(pair: Any) -> None:
    sock, peer = pair
    for _ in range(2):
        peer.put(FIN | PING, "same")
    for _ in range(2):
        assert read(sock) == (b"same", "ping")
    for _ in range(3):
        sock.write("same", "pong")
    sock.write("end")
    assert [peer.get()[1] for _ in range(4)] == [b"same", b"same", b"same", b"end"]


def test_ping_flood_of_a_peer_that_reads(pair: Any) -> None:
    """100,000 pings: 100,000 pongs in order, in bounded memory."""
    sock, peer = pair
    count = 100_000
    highest = 0

    def send() -> None:
        for at in range(0, count, 1000):
            peer.send(b"".join(peer.frame(FIN | PING, b"%d" % i) for i in range(at, at + 1000)))

    def answer() -> None:
        nonlocal highest
        for i in range(count):
            assert read(sock) == (b"%d" % i, "ping")
            highest = max(highest, sock.conn.unsentbytes())

    sending, answering = spawn(send), spawn(answer)
    for i in range(count):
        assert peer.get() == (FIN | PONG, b"%d" % i)
    joined(sending)
    joined(answering)
    assert highest < 256 * KIB


def test_ping_flood_of_a_peer_that_never_reads(side: Side, logs: Any) -> None:
    logs.expect(r"INFO websocket: 127.0.0.1:\d+: more control frames than the limit 'control_frames' of 100")
    with side(SHORT) as (sock, peer):
        frames = b"".join(peer.frame(FIN | PING, b"x" * 125) for _ in range(1000))
        highest = read_count = 0
        tasks = len(scheduler.tasks)

        def flood() -> None:
            for _ in range(100):
                if not peer.conn.write(frames):
                    return

        flooding = spawn(flood)
        while True:
            data, typ = read(sock)
            if data is None:
                break
            read_count += 1
            highest = max(highest, sock.conn.unsentbytes())
        assert "control_frames" in typ
        assert sock.closecode == 1008
        assert highest < 256 * KIB
        assert read_count < 100_000
        assert len(scheduler.tasks) <= tasks + 1
        peer.close()
        joined(flooding)
    assert len(logs.lines) == 1


def test_held_back_pong_is_the_newest(side: Side) -> None:
    """While the kernel refuses output only the newest pong is kept, and goes out then."""
    with side(SHORT) as (sock, peer):
        writing = spawn(lambda: sock.write(b"x" * 16 * MIB))
        until(lambda: sock._session.stream.blocked and sock.conn.unsentbytes() > MIB)
        for i in range(50):
            peer.put(FIN | PING, b"%d" % i)
        for i in range(50):
            assert read(sock) == (b"%d" % i, "ping")
        pongs = []
        reading = spawn(lambda: sock.read())
        size = 0
        while size < 16 * MIB or not pongs:
            first, payload = peer.get()
            if first == FIN | PONG:
                pongs.append(payload)
            else:
                size += len(payload)
        assert pongs[-1] == b"49"
        assert len(pongs) < 50
        assert joined(writing) == (True, None)
        sock.close()
        joined(reading)


# ---- the closing handshake ------------------------------------------------------------------------------------------


def test_we_close_first(pair: Any) -> None:
    sock, peer = pair
    closing = spawn(lambda: sock.close(3000, "bye ü"))
    assert peer.get_close() == (3000, "bye ü")
    turn(2)
    peer.put_close(3000, "answer")
    if peer.masks:
        peer.eof()
    else:
        peer.silent()  # the server ends TCP (section 7.1.1)
        peer.close()
    assert joined(closing) == (True, None)
    assert (sock.closecode, sock.closereason) == (3000, "answer")
    assert sock.close() == (False, CLOSED)
    assert sock.read() == (None, CLOSED)
    assert sock.write("x") == (False, CLOSED)
    assert sock.write("x", "ping") == (False, CLOSED)
    assert sock.write("", "close") == (False, CLOSED)


@pytest.mark.parametrize(
    ("payload", "code", "reason", "echo"),
    [
        (b"", 1005, "", b""),
        (b"\x03\xe8", 1000, "", b"\x03\xe8"),
        (b"\x03\xe9" + "ü€".encode(), 1001, "ü€", b"\x03\xe9"),
        (b"\x0f\xa0" + b"x" * 123, 4000, "x" * 123, b"\x0f\xa0"),
        (b"\x13\x87", 4999, "", b"\x13\x87"),
    ],
)
def test_they_close_first(pair: Any, payload: bytes, code: int, reason: str, echo: bytes) -> None:
    sock, peer = pair
    peer.put(FIN | CLOSE, payload)
    assert read(sock) == (payload, "close")
    assert (sock.closecode, sock.closereason) == (code, reason)
    assert peer.get() == (FIN | CLOSE, echo)
    assert sock.read() == (None, CLOSED)
    assert sock.write("late") == (False, CLOSED)
    peer.silent()
    closing = spawn(sock.close)
    if not peer.masks:
        peer.close()
    else:
        peer.eof()
    assert joined(closing) == (True, None)
    assert (sock.closecode, sock.closereason) == (code, reason)


def test_close_written_by_hand(pair: Any) -> None:
    sock, peer = pair
    assert sock.write(b"\x03\xe8done", "close") == (True, None)
    assert sock.write("late", "text") == (False, CLOSED)
    assert sock.write("", "close") == (False, CLOSED)
    assert peer.get_close() == (1000, "done")
    peer.put(FIN | TEXT, "still here")
    assert read(sock) == ("still here", "text")
    peer.put_close(1000)
    assert read(sock) == (b"\x03\xe8", "close")
    peer.silent()
    if not peer.masks:
        peer.close()
    assert sock.close() == (True, None)
    if peer.masks:
        peer.eof()


def test_both_close_at_once() -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server:
        sock, _ = websocket.connect(f"ws://127.0.0.1:{server.port}")
        other = upgraded.pop()
        closing = spawn(lambda: sock.close(3001, "one"))
        assert other.close(3002, "two") == (True, None)
        assert joined(closing) == (True, None)
        assert (sock.closecode, sock.closereason) == (3002, "two")
        assert (other.closecode, other.closereason) == (3001, "one")
        upgraded.release()


@pytest.mark.parametrize("sends", [False, True])
def test_close_that_is_never_answered(side: Side, sends: bool) -> None:
    with side(SHORT) as (sock, peer):
        sending = spawn(lambda: [peer.put(FIN | TEXT, "more") or turn() for _ in range(20)]) if sends else None
        begin = time.monotonic()
        assert sock.close() == (True, None)
        assert 40 <= time.monotonic() - begin < 2000
        assert (sock.closecode, sock.closereason) == (1006, "")
        if sending:
            joined(sending)
        assert peer.get_close() == (1000, "")
        peer.eof()


@pytest.mark.parametrize("size", [0, 1000])
def test_peer_that_keeps_sending_while_we_close(side: Side, size: int) -> None:
    """What it sends is dropped, and it can't keep us for longer than the limit."""
    with side(SHORT) as (sock, peer):
        frames = b"".join(peer.frame(FIN | BINARY, b"x" * size) for _ in range(100_000 // (size + 10)))
        stop = []

        def flood() -> None:
            while not stop and time.monotonic() < begin + 5000 and peer.conn.write(frames):
                turn()

        begin = time.monotonic()
        flooding = spawn(flood)
        turn(5)
        assert sock.close() == (True, None)
        assert time.monotonic() - begin < 2000
        stop.append(1)
        joined(flooding)
        peer.close()


def test_close_answered_with_tcp_left_open(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        closing = spawn(sock.close)
        peer.get_close()
        peer.put_close()
        assert joined(closing) == (True, None)
        assert sock.closecode == 1000
        peer.eof()


@pytest.mark.parametrize("state", ["open", "frame", "message", "text", "closing", "closed by the peer"])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_connection_lost(side: Side, state: str, how: str) -> None:
    with side(SHORT) as (sock, peer):
        if state == "frame":
            peer.send(peer.frame(FIN | BINARY, b"abc")[:-1])
        elif state == "message":
            peer.put(BINARY, b"ab")
        elif state == "text":
            peer.send(peer.frame(FIN | TEXT, b"abc")[:-1])
        elif state == "closing":
            closing = spawn(sock.close)
            peer.get_close()
        elif state == "closed by the peer":
            peer.put_close(1001)
            assert read(sock) == (b"\x03\xe9", "close")
        turn(2)
        getattr(peer, how)()
        if state == "closing":
            assert joined(closing) == (True, None)
        else:
            data, err = read(sock)
            assert data is None
            if state == "closed by the peer":
                assert err == CLOSED
                assert sock.closecode == 1001
                sock.close()
            else:
                assert "ended without a closing handshake: " in err
                assert sock.partial == {"open": b"", "text": "ab"}.get(state, b"ab")
                assert sock.closecode == 1006
                assert sock.read() == (None, err)
                assert sock.close() == (False, CLOSED)
        assert not sock.write("x")
        assert not sock.write("x", "ping")
        assert sock.closecode == (1001 if state == "closed by the peer" else 1006)


def test_close_inside_a_fragmented_message(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        peer.put(TEXT, "begun")
        peer.put_close(1000, "enough")
        assert read(sock) == (b"\x03\xe8enough", "close")
        assert sock.read() == (None, CLOSED)
        assert peer.get_close() == (1000, "")


def test_data_after_close(side: Side) -> None:
    """It is never shown."""
    with side(SHORT) as (sock, peer):
        peer.send(peer.frame(FIN | CLOSE, b"\x03\xe8") + peer.frame(FIN | TEXT, b"late") + peer.frame(FIN | PING, b"late"))
        assert read(sock) == (b"\x03\xe8", "close")
        assert sock.read() == (None, CLOSED)
        assert peer.get_close() == (1000, "")
        sock.close()
        peer.eof()


def test_close_while_a_message_is_arriving(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        peer.put(TEXT, "begun")
        closing = spawn(sock.close)
        assert peer.get_close() == (1000, "")
        peer.put(FIN | CONTINUATION, "rest")
        peer.put_close(1000)
        assert joined(closing) == (True, None)
        assert sock.closecode == 1000


def test_broken_peer_while_we_close(side: Side, logs: Any) -> None:
    logs.expect(r"INFO websocket: .*: unknown opcode 3 \(while closing\)")
    with side(SHORT) as (sock, peer):
        closing = spawn(sock.close)
        assert peer.get_close() == (1000, "")
        peer.put(FIN | 3, "?")
        assert joined(closing) == (True, None)
        peer.eof()
    assert len(logs.lines) == 1


def test_close_from_another_task_wakes_the_reader(pair: Any) -> None:
    sock, peer = pair
    reading = spawn(lambda: sock.read())
    turn()
    closing = spawn(sock.close)
    assert joined(reading) == (None, CLOSED)
    assert peer.get_close() == (1000, "")
    peer.put_close()
    if not peer.masks:
        peer.close()
    assert joined(closing) == (True, None)


@pytest.mark.parametrize("sent", ["message", "close"])
def test_close_when_the_reader_has_just_been_woken(pair: Any, sent: str) -> None:
    """The reader leaves what is in the buffer to the closing task, which waits for the close frame."""
    sock, peer = pair
    reading = spawn(lambda: sock.read())
    turn()
    if sent == "message":
        peer.put(FIN | TEXT, "x")
    else:
        peer.put_close(1001)

    closing = ahead_of_reader(sock.conn, sock.close)
    until(lambda: sock._session.state == "closed")
    if sent == "message":
        assert peer.get_close() == (1000, "")
        peer.put_close(1001)
    if not peer.masks:
        peer.half_close()
    assert joined(closing) == (True, None)
    assert joined(reading) == (None, CLOSED)
    assert sock.closecode == 1001


def test_close_from_two_tasks(pair: Any) -> None:
    sock, peer = pair
    first = spawn(sock.close)
    turn()
    second = spawn(sock.close)
    assert peer.get_close() == (1000, "")
    peer.put_close()
    if not peer.masks:
        peer.close()
    assert joined(first) == (True, None)
    assert joined(second) == (False, CLOSED)
    assert sock.close() == (False, CLOSED)


def test_a_second_close_waits_for_the_first(pair: Any) -> None:
    """So a handler that returns when its read says "closed" doesn't cut short the handshake of who closed."""
    sock, peer = pair
    first = spawn(lambda: sock.close(1013, "later"))
    turn()
    order: list[str] = []
    second = spawn(lambda: order.append(f"second: {sock.closecode}") if not sock.close() else None)
    turn()
    assert peer.get_close() == (1013, "later")
    assert order == []
    peer.put_close(1013)
    if not peer.masks:
        peer.close()
    assert joined(first) == (True, None)
    joined(second)
    assert order == ["second: 1013"]


def test_close_of_the_connection_below(pair: Any) -> None:
    sock, _ = pair
    peer_sent = spawn(lambda: read(sock))
    turn()
    sock.conn.close()
    assert joined(peer_sent) == (None, CLOSED)
    assert sock.read() == (None, CLOSED)
    assert not sock.write("x")
    assert not sock.close()
    assert sock.closecode == 1006


@pytest.mark.parametrize("bad", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, -1, "1000", True])
def test_close_with_a_bad_code(side: Side, bad: Any) -> None:
    with side(SHORT) as (sock, peer):
        with pytest.raises(ValueError, match="close code"):
            sock.close(bad)
        assert sock.write("still open")
        assert peer.get() == (FIN | BINARY, b"still open")


def test_close_reason_is_cut(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        sock.close(1000, "é" * 100)
        assert peer.get_close() == (1000, "é" * 61)


def test_with_statement(side: Side) -> None:
    for exc, code in ((None, 1000), (KeyError, 1011), (CancelledError, 1011), (GreenletExit, 1000), (KeyboardInterrupt, 1000)):
        with side(SHORT) as (sock, peer):
            with pytest.raises(exc) if exc else nullcontext(), sock as inner:
                assert inner is sock
                if exc:
                    raise exc
            assert peer.get_close() == (code, "")


def test_close_behind_unsent_output(side: Side) -> None:
    """What was written before is delivered first, to a peer that reads."""
    with side({"close_timeout": 5000}) as (sock, peer):
        payload = b"x" * 3 * MIB
        done = spawn(lambda: [sock.write(payload), sock.close()])
        got = 0
        while got < len(payload):
            got += len(peer.get()[1])
        assert peer.get_close() == (1000, "")
        peer.put_close()
        peer.close()
        assert joined(done) == [(True, None), (True, None)]


def test_close_while_others_write(side: Side) -> None:
    with side(SHORT) as (sock, peer):
        large = [spawn(lambda: sock.write(b"x" * 8 * MIB)) for _ in range(2)]
        small = [spawn(lambda: sock.write("x")) for _ in range(3)]
        until(lambda: sock.conn.unsentbytes() > MIB)
        sock.close()
        assert not any(joined(each) for each in [*large, *small])
        peer.close()


# ---- the end of the handler -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raises", [None, KeyError, CancelledError])
@pytest.mark.parametrize("kept", [False, True])
def test_handler_ends(raises: type[BaseException] | None, kept: bool, logs: Any) -> None:
    socks = []

    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        if kept:
            socks.append(sock)
        sock.write("hi", "text")
        if raises is not None:
            raise raises("secret")

    if raises is not None:
        logs.expect(r"ERROR exception in the handler of GET /chat:\n(.*\n)*.*secret")
    with serving(handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        assert peer.get() == (FIN | TEXT, b"hi")
        assert peer.get_close() == (1011 if raises else 1000, "")
        peer.put_close()
        peer.eof()
    assert len(logs.lines) == (raises is not None)


def test_handler_that_closed_then_raises(logs: Any) -> None:
    logs.expect("ERROR exception in the handler")

    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        sock.close(4000, "mine")
        raise KeyError

    with serving(handler, limits=SHORT) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        assert peer.get_close() == (4000, "mine")
        peer.eof()


def test_frames_after_the_handler_are_not_requests() -> None:
    handled = []

    def handler(stream: Any) -> None:
        handled.append(stream.path)
        websocket.upgrade(stream)

    with serving(handler) as server, Peer.connect(server) as peer:
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        peer.send(peer.upgrade_request() + peer.frame(FIN | CLOSE, b"\x03\xe8") + smuggled)
        assert peer.response().status == 101
        assert peer.get_close() == (1000, "")
        peer.eof()
    assert handled == ["/chat"]


def test_server_close_leaves_websockets() -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        sock = upgraded.pop()
        server.close()
        peer.put(FIN | TEXT, "still")
        assert read(sock) == ("still", "text")
        peer.close()
        upgraded.release()


@pytest.mark.parametrize("typed", [False, True])
def test_forgotten_client_is_closed(typed: bool) -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server:
        sock, _ = websocket.connect(f"ws://127.0.0.1:{server.port}")
        other = upgraded.pop()
        if typed:
            assert other.write("x", "ping")
            assert read(sock) == (b"x", "ping")
            assert read(other) == (b"x", "pong")
        del sock
        gc.collect()
        assert read(other) == (b"\x03\xe9", "close")
        upgraded.release()


@pytest.mark.parametrize("how", ["idle", "in pieces", "in a message", "unread"])
def test_a_forgotten_socket_is_closed_by_its_count_of_references(how: str) -> None:
    """Nothing that the loop holds, holds it: neither what reads in pieces nor timers. And then nothing is left of it."""
    upgraded = Upgraded()
    with serving(upgraded.handler) as server:
        other = check(websocket.connect(f"ws://127.0.0.1:{server.port}"))
        far = upgraded.pop()
        session = other._session
        gc.collect()
        gc.disable()
        try:
            if how == "in pieces":
                with far.message() as message:
                    message.write("begun")
                    message.flush()
                    pieces = other.pieces(WITHIN)
                    assert next(pieces) == b"begun"
                    assert session.pieces is not None
                    del pieces
            elif how == "in a message":
                message = other.message()
                del message
            elif how == "unread":
                far.write("unread", "text")
                until(lambda: session.unread is not None)
            del other
            while (got := far.read(WITHIN)) != (b"\x03\xe9", "close"):
                assert got[0] is not None
            far.close()
            until(lambda: session.stream.sock is None)
            assert [each for each in gc.get_referrers(session) if not isinstance(each, FrameType | CellType)] == []
        finally:
            gc.enable()
        upgraded.release()


def test_what_a_user_sees_of_a_socket() -> None:
    """No method that only the library may call."""
    names = {name for name in dir(websocket.Socket) if not name.startswith("_")}
    assert names == {
        *("read", "write", "pieces", "message", "close"),
        *("conn", "stream", "subprotocol", "compression", "latency"),
        *("closecode", "closereason", "cause", "partial"),
    }
    for name in names:
        assert getattr(websocket.Socket, name).__doc__
    assert {name for name in dir(websocket.Pieces) if not name.startswith("_")} == {"err", "typ"}
    assert {name for name in dir(websocket.MessageWriter) if not name.startswith("_")} == {"err", "write", "flush"}


@pytest.mark.parametrize("cycle", [False, True])
def test_a_forgotten_socket_says_goodbye_even_from_a_cycle(cycle: bool) -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}")
        assert err is None
        other = upgraded.pop()
        if cycle:
            holder: list[Any] = [sock]
            holder.append(holder)
            del holder
        del sock
        gc.collect()
        assert one(other) == (b"\x03\xe9", "close")
        upgraded.release()


def test_200_cycles() -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server:
        counts = set()
        for i in range(200):
            sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}")
            assert err is None
            other = upgraded.pop()
            sock.write(str(i), "text")
            assert read(other) == (str(i), "text")
            closing = spawn((sock if i % 2 else other).close)
            assert read(other if i % 2 else sock) == (b"\x03\xe8", "close")
            (other if i % 2 else sock).close()
            assert joined(closing) == (True, None)
            upgraded.release()
            del sock, other
            until(lambda: not server._connections)
            turn(3)
            counts.add((len(scheduler.tasks), scheduler.loop.registered(), len(os.listdir("/proc/self/fd"))))
    assert len(counts) <= 2, counts


SCRIPT = """
import silly
from silly import task, time
from silly.net import http, websocket

def handler(stream):
    sock, err = websocket.upgrade(stream)
    print("opened", flush=True)
    with sock:
        while True:
            data, typ = sock.read()
            if data is None or typ == "close":
                break

server, err = http.listen(addr="127.0.0.1:0", handler=handler)
print(server.port, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_exit_tells_1001(tmp_path: Any, number: int) -> None:
    script = tmp_path / "app.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "-m", "silly", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        port = int(process.stdout.readline())
        socks = []
        for _ in range(3):
            sock, err = websocket.connect(f"ws://127.0.0.1:{port}")
            assert err is None
            socks.append(sock)
            assert process.stdout.readline() == "opened\n"
        process.send_signal(number)
        for sock in socks:
            assert read(sock) == (b"\x03\xe9", "close")
            assert sock.closecode == 1001
            sock.close()
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, LISTENING.sub("", errors)) == (0, "")
    finally:
        process.kill()
        process.communicate()


# ---- peers that break the protocol ----------------------------------------------------------------------------------

BAD = {
    "RSV1": ([0xC1], b"x", 1002, "reserved bit"),
    "RSV2": ([0xA1], b"x", 1002, "reserved bit"),
    "RSV3": ([0x91], b"x", 1002, "reserved bit"),
    "RSV1 on a ping": ([0xC9], b"x", 1002, "reserved bit"),
    "RSV1 on a continuation": ([TEXT, 0xC0], b"x", 1002, "reserved bit"),
    "opcode 3": ([0x83], b"", 1002, "unknown opcode 3"),
    "opcode 7": ([0x87], b"", 1002, "unknown opcode 7"),
    "opcode 11": ([0x8B], b"", 1002, "unknown opcode 11"),
    "opcode 15": ([0x8F], b"", 1002, "unknown opcode 15"),
    "fragmented ping": ([PING], b"", 1002, "fragmented control frame"),
    "fragmented close": ([CLOSE], b"", 1002, "fragmented control frame"),
    "ping of 126 bytes": ([FIN | PING], b"x" * 126, 1002, "more than 125 bytes"),
    "close of 126 bytes": ([FIN | CLOSE], b"\x03\xe8" + b"x" * 124, 1002, "more than 125 bytes"),
    "orphan continuation": ([FIN | CONTINUATION], b"x", 1002, "continuation"),
    "orphan continuation without FIN": ([CONTINUATION], b"x", 1002, "continuation"),
    "text inside a message": ([TEXT, FIN | TEXT], b"x", 1002, "new message inside"),
    "binary inside an empty message": ([BINARY, FIN | BINARY], b"", 1002, "new message inside"),
    "bad UTF-8": ([FIN | TEXT], b"\xff", 1007, "UTF-8"),
    "cut UTF-8": ([FIN | TEXT], b"\xc3", 1007, "UTF-8"),
    "overlong UTF-8": ([FIN | TEXT], b"\xc0\xaf", 1007, "UTF-8"),
    "surrogate": ([FIN | TEXT], b"\xed\xa0\x80", 1007, "UTF-8"),
    "beyond Unicode": ([FIN | TEXT], b"\xf4\x90\x80\x80", 1007, "UTF-8"),
    "bad UTF-8 in a fragment": ([TEXT], b"ok\xff", 1007, "UTF-8"),
    "cut UTF-8 at the end": ([TEXT, FIN | CONTINUATION], b"\xe2\x82", 1007, "UTF-8"),
    "close with 1 byte": ([FIN | CLOSE], b"\x03", 1002, "half a code"),
    **{
        f"close code {code}": ([FIN | CLOSE], code.to_bytes(2, "big"), 1002, f"close code {code}")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "close reason that isn't UTF-8": ([FIN | CLOSE], b"\x03\xe8\xff", 1007, "UTF-8"),
    "message over the limit": ([FIN | BINARY], b"x" * 1001, 1009, "limit 'message' of 1000"),
    "text over the limit": ([FIN | TEXT], b"x" * 1001, 1009, "limit 'message' of 1000"),
    "fragments over the limit": ([TEXT, FIN | CONTINUATION], b"x" * 501, 1009, "limit 'message' of 1000"),
    "too many fragments": ([BINARY] + [CONTINUATION] * 10, b"x", 1008, "limit 'fragments' of 10"),
    "too many empty fragments": ([TEXT] + [CONTINUATION] * 10, b"", 1008, "limit 'fragments' of 10"),
}


@pytest.mark.parametrize("dribbled", [False, True], ids=["whole", "dribbled"])
@pytest.mark.parametrize("row", BAD)
def test_protocol_violation(side: Side, row: str, dribbled: bool, logs: Any) -> None:
    """The close code on the wire, one log line, TCP ended by us, and what comes behind is never shown."""
    firsts, payload, code, text = BAD[row]
    logs.expect(rf"INFO websocket: 127.0.0.1:\d+: .*{text}.*: close {code}$")
    with side({"message": 1000, "fragments": 10, "close_timeout": 50}) as (sock, peer):
        data = b"".join(peer.frame(first, payload) for first in firsts) + peer.frame(FIN | TEXT, b"behind")
        sending = spawn(lambda: (peer.dribble if dribbled else peer.send)(data))
        got, err = read(sock)
        assert got is None
        assert text in err
        assert "127.0.0.1" in err
        assert sock.read() == (None, err)
        assert sock.closecode == code
        assert text in sock.closereason
        assert sock.write("x") == (False, err)
        assert sock.close() == (False, CLOSED)
        assert joined(sending) is None
        assert peer.get_close() == (code, sock.closereason)
        peer.eof()
    assert len(logs.lines) == 1


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (b"\x00\x7d", 1002),
        (b"\x00\x00", 1002),
        (b"\x00\x00\x00\x00\x00\x00\xff\xff", 1002),
        (b"\x80\x00\x00\x00\x00\x00\x00\x00", 1002),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", 1002),
        (b"\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),
        (b"\x00\x20\x00\x00\x00\x00\x00\x01", 1009),
        (b"\x00\x00\x00\x01\x00\x00\x00\x03", 1009),
        (b"\x00\x00\x00\x00\x80\x00\x00\x00", 1009),
        (b"\x00\x00\x00\x00\x00\x10\x00\x01", 1009),
    ],
)
@pytest.mark.parametrize("first", [FIN | TEXT, BINARY])
def test_bad_lengths(side: Side, length: bytes, code: int, first: int, logs: Any) -> None:
    """Told from the header: nothing of the payload is waited for or kept."""
    logs.expect(f": close {code}$")
    with side(SHORT) as (sock, peer):
        peer.send(peer.frame(first, b"", length))
        assert read(sock)[0] is None
        assert peer.get_close()[0] == code
        peer.eof()
    assert len(logs.lines) == 1


def test_message_exactly_at_the_limit(side: Side) -> None:
    with side({"message": 1000, "fragments": 4, "close_timeout": 50}) as (sock, peer):
        peer.put(FIN | TEXT, "x" * 1000)
        assert read(sock) == ("x" * 1000, "text")
        for first in (BINARY, CONTINUATION, CONTINUATION, FIN | CONTINUATION):
            peer.put(first, b"x" * 250)
        assert read(sock) == (b"x" * 1000, "binary")


@pytest.mark.parametrize("first", [FIN | TEXT, FIN | PING, FIN | CLOSE, BINARY])
def test_wrong_masking(side: Side, first: int, logs: Any) -> None:
    logs.expect("INFO websocket: .*mask.*: close 1002$")
    with side(SHORT) as (sock, peer):
        peer.masks = not peer.masks
        frame = peer.frame(first, b"\x03\xe8")
        peer.masks = not peer.masks
        peer.send(frame)
        assert read(sock)[0] is None
        assert peer.get_close()[0] == 1002
        peer.eof()
    assert len(logs.lines) == 1


def test_garbage(side: Side, logs: Any) -> None:
    logs.expect(": close 1002$")
    with side(SHORT) as (sock, peer):
        peer.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read(sock)[0] is None
        assert peer.get_close()[0] == 1002
        peer.eof()


def test_tiny_fragments_stay_small(side: Side) -> None:
    """CVE-2026-48779: a megabyte in 1-byte TCP pieces of small fragments costs about a megabyte."""
    import tracemalloc

    with side({"close_timeout": 50, "message": 2 * MIB}) as (sock, peer):
        frames = peer.frame(BINARY, b"x" * 200) + peer.frame(CONTINUATION, b"y" * 200) * 2000
        reading = spawn(lambda: sock.read())
        turn()
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for at in range(0, len(frames), 1000):
                peer.send(frames[at : at + 1000])
                turn()
            used = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert used < 4 * 200 * 2000
        peer.put(FIN | CONTINUATION, b"")
        data, typ = joined(reading)
        assert (len(data), typ) == (2001 * 200, "binary")


# ---- the server's handshake -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_health_probe_of_a_websocket_s_port_is_no_line_of_info(method: str, logs: Any, debugged: list[str]) -> None:
    with serving(websocket.upgrade) as server, Raw.connect(server) as client:
        client.request("/", method)
        assert client.response(method).status == (426 if method == "GET" else 405)
        client.eof()
    assert logs.lines == []
    assert "upgrade refused" in debugged[0]


def refuse(request: bytes, status: int, logs: Any, rest: bytes = b"", **options: Any) -> Any:
    """Sends ``request``, which must be refused: the status, one log line, the connection's end, no frame and no request."""
    seen = []

    def handler(stream: Any) -> None:
        seen.append(stream.path)
        sock, err = websocket.upgrade(stream, **options)
        assert sock is None
        seen.append(err)
        assert stream.respond(200) == (False, "the request has been answered already")

    probe = b"\r\nupgrade:" not in request.lower()
    if not probe:
        logs.expect(r"INFO websocket: 127.0.0.1:\d+: upgrade refused: ")
    with serving(handler) as server, Peer.connect(server) as peer:
        peer.send(request + rest)
        response = peer.response()
        assert response.status == status
        # RFC 9110, section 7.8: Upgrade goes with the option of that name.
        assert response.header["connection"] == ("upgrade, close" if status == 426 else "close")
        assert "sec-websocket-accept" not in response.header
        assert seen[1].encode("ascii", "backslashreplace") + b"\n" == response.body
        peer.eof()
    assert len(seen) == 2
    assert len(logs.lines) == (0 if probe else 1)
    return response


GOOD_LINES = [
    "Host: test",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
]


def upgrade_with(*changed: str, first: str = "GET / HTTP/1.1", without: str = "") -> bytes:
    names = {line.split(":")[0].lower() for line in changed} | {without.lower()}
    lines = [line for line in GOOD_LINES if line.split(":")[0].lower() not in names]
    return "\r\n".join([first, *lines, *changed, "", ""]).encode("latin-1")


REFUSED = {
    "POST": (upgrade_with(first="POST / HTTP/1.1"), 405),
    "HTTP/1.0": (upgrade_with(first="GET / HTTP/1.0"), 400),
    "no Upgrade": (upgrade_with(without="Upgrade"), 426),
    "Upgrade: h2c": (upgrade_with("Upgrade: h2c"), 426),
    "Upgrade: websockets": (upgrade_with("Upgrade: websockets"), 426),
    "no Connection": (upgrade_with(without="Connection"), 426),
    "Connection: keep-alive": (upgrade_with("Connection: keep-alive"), 426),
    "Connection: notupgrade": (upgrade_with("Connection: notupgrade"), 426),
    "no version": (upgrade_with(without="Sec-WebSocket-Version"), 400),
    "version 12": (upgrade_with("Sec-WebSocket-Version: 12"), 426),
    "version 8": (upgrade_with("Sec-WebSocket-Version: 8"), 426),
    "version 13, 8": (upgrade_with("Sec-WebSocket-Version: 13, 8"), 426),
    "two versions": (upgrade_with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), 426),
    "no key": (upgrade_with(without="Sec-WebSocket-Key"), 400),
    "short key": (upgrade_with("Sec-WebSocket-Key: short"), 400),
    "key of 15 bytes": (upgrade_with("Sec-WebSocket-Key: YWJjZGVmZ2hpamtsbW5v"), 400),
    "key not base64": (upgrade_with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), 400),
    "key with a letter beyond ASCII": (upgrade_with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ\xfc=="), 400),
    "two keys": (upgrade_with(f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"), 400),
    "Origin of another host": (upgrade_with("Origin: http://evil"), 403),
    "Origin of another port": (upgrade_with("Origin: http://test:81"), 403),
    "Origin null": (upgrade_with("Origin: null"), 403),
    "two Origins": (upgrade_with("Origin: http://test", "Origin: http://test"), 403),
    "empty Origin": (upgrade_with("Origin: "), 403),
    "Origin with a path": (upgrade_with("Origin: http://test/"), 403),
    "Origin with a user": (upgrade_with("Origin: http://test@evil"), 403),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_upgrade(row: str, logs: Any) -> None:
    request, status = REFUSED[row]
    response = refuse(request, status, logs, b"\x81\x80abcd")
    assert response.header.get("sec-websocket-version") == ("13" if status == 426 else None)
    assert response.header.get("upgrade") == ("websocket" if status == 426 else None)
    assert response.header.get("allow") == ("GET" if status == 405 else None)


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("Content-Length: 34", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("Content-Length: 8", b"\x81\x82abcdxy"),
        ("Transfer-Encoding: chunked", b"22\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n"),
        ("Content-Length: 1000000", b""),
    ],
)
@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]])
def test_upgrade_with_a_body(field: str, body: bytes, expect: list[str], logs: Any) -> None:
    """CVE-2026-69243, CVE-2026-58055: the body is neither a request nor frames."""
    refuse(upgrade_with(field, *expect), 400, logs, body + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize(
    "lines",
    [
        ["Connection: keep-alive, Upgrade"],
        ["Connection: keep-alive", "Connection: upgrade"],
        ["Connection: , UPGRADE,"],
        ["Upgrade: WebSocket"],
        ["Content-Length: 0"],
        ["Expect: 100-continue"],
        ["Cookie: " + "a=b; " * 1600],
        ["Origin: http://test"],
        ["Origin: HTTP://TEST:80"],
        ["Origin: https://test:443", "Host: test:443"],
        ["Origin: https://test", "Host: test:443"],
        [f"X-{i}: y" for i in range(120)],
    ],
)
def test_accepted_upgrade(lines: list[str]) -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server, Peer.connect(server) as peer:
        peer.send(upgrade_with(*lines))
        response = peer.response()
        assert response.status == 101
        assert response.header["sec-websocket-accept"] == ACCEPT
        assert response.header["upgrade"] == "websocket"
        assert response.header["connection"] == "Upgrade"
        assert set(response.header) == {"sec-websocket-accept", "upgrade", "connection"}
        assert upgraded.pop() is not None
        peer.close()
        upgraded.release()


@pytest.mark.parametrize("dribbled", [False, True])
def test_client_that_speaks_early(dribbled: bool) -> None:
    """Frames glued to the request are frames."""
    upgraded = Upgraded()
    with serving(upgraded.handler) as server, Peer.connect(server) as peer:
        data = peer.upgrade_request() + peer.frame(FIN | TEXT, b"early") + peer.frame(FIN | PING, b"p")
        if dribbled:
            for byte in data:
                peer.send(bytes((byte,)))
                turn()
        else:
            peer.send(data)
        sock = upgraded.pop()
        assert read(sock) == ("early", "text")
        assert read(sock) == (b"p", "ping")
        assert peer.response().status == 101
        assert peer.get() == (FIN | PONG, b"p")
        peer.close()
        upgraded.release()


def test_upgrade_that_comes_late() -> None:
    """Frames that arrive before the handler has upgraded, and a request before it on the same connection."""
    go = channel.new()
    upgraded = Upgraded()

    def handler(stream: Any) -> None:
        if stream.path == "/first":
            stream.respond(200)
            stream.close("ok")
        else:
            go.pop()
            upgraded.handler(stream)

    with serving(handler) as server, Peer.connect(server) as peer:
        peer.request("/first")
        assert peer.response().body == b"ok"
        peer.send(peer.upgrade_request())
        peer.put(FIN | TEXT, "early")
        peer.silent()
        go.push(1)
        assert peer.response().status == 101
        assert read(upgraded.pop()) == ("early", "text")
        peer.close()
        upgraded.release()


def test_upgrade_after_the_peer_is_gone() -> None:
    go, done = channel.new(), channel.new()

    def handler(stream: Any) -> None:
        go.pop()
        sock, err = websocket.upgrade(stream)
        done.push((sock.read()[0] if sock else None, err))

    with serving(handler) as server:
        peer = Peer.connect(server)
        peer.send(peer.upgrade_request())
        turn(2)
        peer.reset()
        turn(2)
        go.push(1)
        assert done.pop()[0][0] is None


def test_upgrade_needs_a_stream() -> None:
    for bad in (None, "x", object()):
        with pytest.raises(TypeError):
            websocket.upgrade(bad)


def test_upgrade_with_limits(logs: Any) -> None:
    logs.expect("close 1009")

    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream, limits=silly.Limits(message=10, close_timeout=50))
        sock.read()

    with serving(handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        peer.put(FIN | TEXT, "x" * 11)
        assert peer.get_close()[0] == 1009


# ---- the client's handshake -----------------------------------------------------------------------------------------


def connecting(answer: Callable[[str], bytes], after: str = "close", **options: Any) -> tuple[Any, Any, str]:
    """Connects to a raw server that answers the request head with ``answer(head)``: sock, err and the head."""
    heads = []
    peers = []

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        heads.append(peer.read("\r\n\r\n").decode("latin-1"))
        data = answer(heads[0])
        if data:
            peer.send(data)
        if after == "close":
            conn.close()
        else:
            peers.append(peer)

    with raw_server(script) as listener:
        url = options.pop("url", "ws://127.0.0.1:{port}/chat?x=1").format(port=listener.port)
        sock, err = websocket.connect(url, **options)
        for peer in peers:
            peer.close()
    return sock, err, heads[0] if heads else ""


def test_the_request() -> None:
    header = {"X-One": "1", "Cookie": ["a=b", "c=d"], "Host": "virtual.example", "Upgrade": "h2c", "X-None": None}
    before = {key: value[:] if isinstance(value, list) else value for key, value in header.items()}
    sock, err, head = connecting(switching, "keep", header=header)
    assert err is None
    sock.close()
    assert header == before
    first, *lines = head[:-4].split("\r\n")
    assert first == "GET /chat?x=1 HTTP/1.1"
    names = [line.split(": ")[0] for line in lines]
    assert sorted(names) == sorted(
        ["host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "x-one", "cookie"]
    )
    fields = dict(line.split(": ") for line in lines)
    assert fields["cookie"] == "a=b; c=d"
    assert fields["host"] == "virtual.example"
    assert fields["upgrade"] == "websocket"
    assert fields["connection"] == "Upgrade"
    assert fields["sec-websocket-version"] == "13"
    assert len(fields["sec-websocket-key"]) == 24


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("ws://127.0.0.1:{port}", "/"),
        ("ws://127.0.0.1:{port}?q=1", "/?q=1"),
        ("ws://127.0.0.1:{port}/a%20b/%C3%A9?x=%20", "/a%20b/%C3%A9?x=%20"),
        ("ws://127.0.0.1:{port}/é?ü", "/%C3%A9?%C3%BC"),
        ("ws://127.0.0.1:{port}//double", "//double"),
    ],
)
def test_targets(url: str, target: str) -> None:
    sock, err, head = connecting(switching, "keep", url=url)
    assert err is None
    sock.close()
    assert head.startswith(f"GET {target} HTTP/1.1\r\n")


def test_keys_and_masks_differ() -> None:
    keys, masks = set(), set()
    for _ in range(5):
        with client_side(SHORT) as (sock, peer):
            keys.add(sock.stream.header["sec-websocket-accept"])
            for _ in range(20):
                sock.write(b"\0\0\0\0")
                data = peer.read(10)
                masks.add(data[2:6])
                assert data[6:] == data[2:6]
    assert len(keys) == 5
    assert len(masks) == 100


ANSWERS = {
    "wrong accept": (lambda head: switching(head).replace(b"Accept: ", b"Accept: x"), "wrong Sec-WebSocket-Accept"),
    "no accept": (lambda head: switching(head).replace(b"Sec-WebSocket-Accept", b"X"), "wrong Sec-WebSocket-Accept"),
    "no upgrade": (lambda head: switching(head).replace(b"Upgrade: ", b"X: ", 1), "without 'Upgrade"),
    "upgrade to h2c": (lambda head: switching(head).replace(b"websocket", b"h2c"), "without 'Upgrade"),
    "no connection": (lambda head: switching(head).replace(b"Connection: ", b"X: "), "without 'Connection"),
    "unsolicited protocol": (
        lambda head: switching(head).replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
        "which was not asked for",
    ),
    "unsolicited extension": (
        lambda head: switching(head).replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        "sec-websocket-extensions that was not asked for",
    ),
    "101 with a body": (
        lambda head: switching(head).replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"),
        "101 with a body",
    ),
    "101 with a chunked body": (
        lambda head: switching(head).replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "101 with a body",
    ),
    "HTTP/1.0": (lambda head: switching(head).replace(b"HTTP/1.1", b"HTTP/1.0"), "101 in HTTP/1.0"),
    "100": (lambda head: b"HTTP/1.1 100 Continue\r\n\r\n", "no answer to the handshake: End of file"),
    "100 for ever": (lambda head: b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "more than 16 interim responses"),
    **{
        f"{status} {'with' if body else 'without'} a body": (
            lambda head, status=status, body=body: b"HTTP/1.1 %d Reason\r\nX: y\r\n\r\n" % status + body,
            f"the server answered {status} Reason",
        )
        for status in (200, 204, 301, 302, 401, 403, 404, 426, 500, 503)
        for body in (b"", b"b" * 10_000)
    },
    "garbage": (lambda head: b"SSH-2.0-OpenSSH\r\n\r\n", "bad status line"),
    "binary garbage": (lambda head: b"\x15\x03\x01\x00\x02\x02\x46", "can't start with byte 0x15"),
    "bad status line": (lambda head: b"HTTP/1.1 1O1 X\r\n\r\n", "bad status line"),
    "bare LF": (lambda head: switching(head).replace(b"\r\n", b"\n") + b"\r\n\r\n", "bare LF"),
    "folded line": (lambda head: switching(head).replace(b"Connection: ", b"Connection:\r\n "), "'connection' is folded"),
    "long head": (lambda head: b"HTTP/1.1 101 X\r\n" + b"X: " + b"y" * 70_000, "longer than the limit"),
    "many lines": (lambda head: b"HTTP/1.1 101 X\r\n" + b"X: y\r\n" * 200 + b"\r\n", "limit 'header_lines'"),
    "nothing": (lambda head: b"", "no answer to the handshake: End of file"),
    "half a head": (lambda head: switching(head)[:50], "no answer to the handshake: End of file"),
}


@pytest.mark.parametrize("after", ["close", "keep"])
@pytest.mark.parametrize("row", ANSWERS)
def test_answers_that_are_not_an_upgrade(row: str, after: str) -> None:
    answer, text = ANSWERS[row]
    if "no answer" in text and after == "keep":
        text = "no answer to the handshake: Operation timed out"
        sock, err, _ = connecting(answer, after, timeout=100)
    else:
        sock, err, _ = connecting(answer, after)
    assert sock is None
    assert text in err
    assert err.startswith("websocket.connect ws://127.0.0.1:")


@pytest.mark.parametrize("reason", [b" null", b" ", b"", b" Web Socket Protocol Handshake", b" \xfc"])
def test_reasons(reason: bytes) -> None:
    sock, err, _ = connecting(lambda head: switching(head).replace(b" Switching Protocols", reason), "keep")
    assert err is None
    sock.close()


@pytest.mark.parametrize("dribbled", [False, True])
def test_frames_glued_to_the_answer(dribbled: bool) -> None:
    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        data = switching(peer.read("\r\n\r\n").decode())
        data += peer.frame(FIN | TEXT, b"first") + peer.frame(FIN | CLOSE, b"\x03\xe8")
        if dribbled:
            for byte in data:
                peer.send(bytes((byte,)))
                turn()
        else:
            peer.send(data)
        assert peer.get_close() == (1000, "")
        peer.close()

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}")
        assert err is None
        assert read(sock) == ("first", "text")
        assert read(sock) == (b"\x03\xe8", "close")
        sock.close()


def test_interim_responses_before_the_101() -> None:
    def script(conn: Any) -> None:
        head, _ = conn.read("\r\n\r\n")
        conn.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + switching(head.decode()))
        conn.read(8)
        conn.close()

    with raw_server(script) as listener:
        sock = check(websocket.connect(f"ws://127.0.0.1:{listener.port}/", limits=silly.Limits(close_timeout=500)))
        assert sock.stream.status == 101
        sock.close()


@pytest.mark.parametrize("options", [{"timeout": 50}, {"limits": silly.Limits(handshake_timeout=50)}])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_server_that_never_answers(options: dict[str, Any], scheme: str) -> None:
    conns = []
    with raw_server(conns.append) as listener:
        begin = time.monotonic()
        sock, err = websocket.connect(f"{scheme}://127.0.0.1:{listener.port}", **options)
        assert sock is None
        assert "Operation timed out" in err
        assert 40 <= time.monotonic() - begin < 3000
        conns.clear()


def test_server_that_trickles_its_answer() -> None:
    """The time-out is for the whole handshake."""
    stop = []

    def script(conn: Any) -> None:
        conn.write("HTTP/1.1 101 X\r\nX: ")
        while not stop and conn.write("y"):
            time.sleep(5)
        conn.close()

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}", timeout=50)
        stop.append(True)
        assert sock is None
        assert "Operation timed out" in err


def test_nobody_listens() -> None:
    with raw_server(lambda conn: None) as listener:
        port = listener.port
    sock, err = websocket.connect(f"ws://127.0.0.1:{port}/")
    assert sock is None
    assert err == f"websocket.connect ws://127.0.0.1:{port}/: Connection refused (111)"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "the scheme is neither"),
        ("127.0.0.1:80", "the scheme is neither"),
        ("http://127.0.0.1", "the scheme is neither"),
        ("https://127.0.0.1", "the scheme is neither"),
        ("ws:127.0.0.1", "no host"),
        ("ws://", "no host"),
        ("ws:///path", "no host"),
        ("ws://:80", "no host"),
        ("ws://127.0.0.1#f", "no fragment"),
        ("ws://127.0.0.1/#", "no fragment"),
        ("ws://127.0.0.1:99999", "ort"),
        ("ws://127.0.0.1:x", "ort"),
        ("ws://127.0.0.1:-1", "ort"),
        ("ws://us%3Aer:secret@127.0.0.1", "a user name for basic authentication has no colon"),
        ("ws://127.0.0.1/a b", "spaces or control"),
        ("ws://127.0.0.1/\r\nX: y", "spaces or control"),
        ("ws://127.0.0.1/\0", "spaces or control"),
        ("ws://127.0.0.1/\x7f", "spaces or control"),
        ("ws://[::1", "Invalid IPv6"),
        ("ws://a\\b", "bad host"),
        ("ws://a b", "spaces or control"),
        ("ws://" + "ü" * 70, "bad host"),
        ("ws://a<b>", "bad host"),
    ],
)
def test_bad_urls(url: str, text: str) -> None:
    sock, err = websocket.connect(url)
    assert sock is None
    assert text in err
    assert err.startswith("websocket.connect '")


@pytest.mark.parametrize("bad", [None, b"ws://127.0.0.1", 5])
def test_url_of_another_type(bad: Any) -> None:
    with pytest.raises(TypeError):
        websocket.connect(bad)


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "no-such-host.invalid"])
def test_hosts_that_do_not_resolve(host: str) -> None:
    for scheme in ("ws", "wss"):
        sock, err = websocket.connect(f"{scheme}://{host}:1/", timeout=5000)
        assert sock is None
        assert err == f"websocket.connect {scheme}://{host}:1/: {errno.RESOLVE}"


def test_a_host_named_unix_is_not_a_socket_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = channel.new()
    with check(tcp.listen("unix:8080", asked.push)):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: (_ for _ in ()).throw(socket.gaierror(1, "no")))
        sock, err = websocket.connect("ws://unix:8080/admin")
        assert sock is None
        assert errno.RESOLVE in err
        assert len(asked) == 0


def test_a_wildcard_is_not_a_host() -> None:
    assert websocket.connect("ws://*:80/")[1] == "websocket.connect 'ws://*:80/': bad host: a wildcard"


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ({"x": "a\r\nevil: 1"}, ValueError),
        ({"x": "a\n"}, ValueError),
        ({"x": "\0"}, ValueError),
        ({"x": "€"}, ValueError),
        ({"x\r\n": "a"}, ValueError),
        ({"": "a"}, ValueError),
        ({"x": 1.5}, TypeError),
        ([("x", "a\rb")], ValueError),
    ],
)
def test_header_injection(header: Any, kind: type[Exception]) -> None:
    """Nothing is connected, let alone sent."""
    accepted = []
    with raw_server(accepted.append) as listener:
        with pytest.raises(kind):
            websocket.connect(f"ws://127.0.0.1:{listener.port}", header)
        turn(3)
    assert accepted == []


def test_connect_killed() -> None:
    """GreenletExit in the handshake leaves no connection."""
    tasks = []
    ends = channel.new()

    def script(conn: Any) -> None:
        Raw(conn).read("\r\n\r\n")
        ends.push(conn.read(1, WITHIN))

    with raw_server(script) as listener:

        def connect() -> Any:
            tasks.append(task.running())
            try:
                return websocket.connect(f"ws://127.0.0.1:{listener.port}")
            except GreenletExit:
                return "killed"

        done = spawn(connect)
        turn(5)
        scheduler.loop.post(scheduler.throw, tasks[0], GreenletExit())
        assert joined(done) == "killed"
        assert ends.pop() == ((None, errno.EOF), None)


def test_listen_takes_a_dict_and_connect_a_header_table() -> None:
    heads = []

    def handler(stream: Any) -> None:
        heads.append(stream.header["x-token"])
        sock, _ = websocket.upgrade(stream)
        sock.read()

    server, err = http.listen({"addr": "127.0.0.1:0", "handler": handler})
    assert err is None
    with server:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}/", {"X-Token": "t"})
        assert err is None
        sock.close()
    assert heads == ["t"]
