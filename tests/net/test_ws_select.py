"""``task.select`` over WebSockets: when one is ready, what is answered meanwhile, and that the next read gets what a reader
gets."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from silly import errno, task, time
from silly._core import scheduler
from silly.net.websocket import _unread
from silly.sync import channel

from ..conftest import Logs
from ..helpers import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, WITHIN, both_sides, client_side, server_side, turn
from .support import Job, interrupted, until
from .ws_support import PLAIN, SIDES, one

loop = scheduler.loop
sides = pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
plain = pytest.mark.parametrize("side", PLAIN.values(), ids=PLAIN)


def selecting(*things: Any, **options: Any) -> Job:
    """A task that waits in a select."""
    return Job(lambda: task.select(*things, **options)).blocked()


def at_once(sock: Any) -> Any:
    """What ``read`` returns, without waiting. (After many messages that were taken while nobody read, it lets others run.)"""
    turns = loop.turns
    many = sock._session.queued
    got = sock.read()
    assert many or loop.turns == turns, "the read waited"
    return got


def polled(sock: Any) -> Any:
    """What the next read returns if the socket is ready, else None."""
    which, err = task.select(sock, timeout=0)
    if which is None:
        assert err == "task.select: the time-out of 0 ms ran out"
        assert sock._session.stream._reader is None
        return None
    return at_once(sock)


# ---- when it is ready ---------------------------------------------------------------------------------------------------


def frames(peer: Any, ours: bytes) -> list[tuple[bytes, Any]]:
    """Frames, and what ``read`` shows at the end of each. ``ours``: the payload of a pong to our own ping."""
    text = "text \u20ac \U0001f600"
    return [
        (peer.frame(FIN | TEXT, text.encode()), (text, "text")),
        (peer.frame(FIN | BINARY), (b"", "binary")),
        (peer.frame(FIN | PONG, ours), None),
        (peer.frame(TEXT, b"first \xe2\x82"), None),
        (peer.frame(FIN | PING, b"within"), (b"within", "ping")),
        (peer.frame(FIN | PONG, ours), None),
        (peer.frame(CONTINUATION), None),
        (peer.frame(FIN | CONTINUATION, b"\xac last"), ("first \u20ac last", "text")),
        (peer.frame(FIN | PONG, b"theirs"), (b"theirs", "pong")),
        (peer.frame(FIN | BINARY, b"x" * 130), (b"x" * 130, "binary")),
        (peer.frame(BINARY, b"1"), None),
        (peer.frame(FIN | CONTINUATION, b"2"), (b"12", "binary")),
        (peer.frame(FIN | CLOSE, b"\x03\xe8bye"), (b"\x03\xe8bye", "close")),
    ]


def our_pong(sock: Any) -> bytes:
    """The payload of the pong to a ping that our keepalive has sent."""
    sock._session.keepalive._ping(sock._session, 0.0)
    return bytes(sock._session.keepalive._token + (1).to_bytes(4, "big"))


@sides
def test_byte_by_byte(side: Any) -> None:
    """It is ready at the last byte of each frame that ``read`` shows, and never before."""
    with side() as (sock, peer):
        for data, shown in frames(peer, our_pong(sock)):
            for at in range(len(data)):
                assert polled(sock) is None
                peer.send(data[at : at + 1])
                if at < len(data) - 1:
                    assert polled(sock) is None, (data[: at + 1], shown)
            assert polled(sock) == shown
        assert sock.latency is not None
        assert polled(sock) == (None, "closed")


@plain
def test_split_at_every_byte(side: Any) -> None:
    """What has come up to there is read, as far as it is shown; then the rest comes at once."""
    with side() as (_, peer):
        whole = frames(peer, b"8 bytes.")[:-1]
    size = sum(len(data) for data, _ in whole)
    with side() as (sock, peer):
        ours = our_pong(sock)
        for at in range(0, size + 1, 3):
            given = frames(peer, ours)[:-1]
            data = b"".join(data for data, _ in given)
            ends = [sum(len(data) for data, _ in given[: number + 1]) for number in range(len(given))]
            peer.send(data[:at])
            expected = [shown for (_, shown), end in zip(given, ends, strict=True) if shown and end <= at]
            got = []
            while (item := polled(sock)) is not None:
                got.append(item)
            assert got == expected, at
            peer.send(data[at:])
            while (item := polled(sock)) is not None:
                got.append(item)
            assert got == [shown for _, shown in given if shown], at


@sides
def test_what_is_not_whole_wakes_nobody(side: Any) -> None:
    with side() as (sock, peer):
        job = selecting(sock)
        data = peer.frame(FIN | TEXT, b"hello")
        peer.send(data[:-1])
        turn(3)
        assert task.status(job.task) == "WAIT"
        peer.send(data[-1:])
        assert job.result() == (sock, None)
        assert at_once(sock) == ("hello", "text")


@sides
def test_a_batch(side: Any) -> None:
    with side() as (sock, peer):
        peer.send(b"".join(peer.frame(FIN | TEXT, b"%d" % number) for number in range(200)))
        for number in range(200):
            assert task.select(sock, timeout=WITHIN) == (sock, None)
            assert task.select(sock) == (sock, None), "nothing is taken"
            assert at_once(sock) == (f"{number}", "text")
        assert polled(sock) is None
        assert sock._session.arrived + sock._session.set_aside == 200


@sides
@pytest.mark.parametrize("size", [70_000, 3_000_000])
def test_large_messages(side: Any, size: int) -> None:
    with side(limits={"message": 4_000_000}) as (sock, peer):
        for first, payload in ((FIN | BINARY, b"\xff" * size), (FIN | TEXT, b"x" * size)):
            data = peer.frame(first, payload)
            job = selecting(sock)
            sending = task.fork(peer.conn.write, data[:-1])
            sending.join()
            turn(10)
            assert task.status(job.task) == "WAIT"
            peer.send(data[-1:])
            assert job.result() == (sock, None)
            got, typ = at_once(sock)
            assert (len(got), typ) == (size, "binary" if first == FIN | BINARY else "text")


@sides
def test_a_large_message_across_selects(side: Any) -> None:
    """Each of them ends in the middle; the next one goes on with what has come."""
    with side() as (sock, peer):
        payload = random.Random(1).randbytes(300_000)
        data = peer.frame(FIN | BINARY, payload)
        for at in range(0, len(data), 10_000):
            assert polled(sock) is None
            peer.send(data[at : at + 10_000])
        assert task.select(sock, timeout=WITHIN) == (sock, None)
        assert at_once(sock) == (payload, "binary")
        peer.send(data[:100_000])
        assert polled(sock) is None
        assert sock.read(1) == (None, errno.TIMEDOUT), "a read goes on where a select was"
        peer.send(data[100_000:])
        assert one(sock) == (payload, "binary")


@pytest.mark.parametrize("side", [server_side, client_side])
def test_compressed(side: Any) -> None:
    """A message that inflates to much lets others run meanwhile."""
    with side(compression=True, limits={"message": 50_000_000}) as (sock, peer):
        text = "much " * 4_000_000
        deflater = zlib.compressobj(wbits=-12)
        data = deflater.compress(text.encode()) + deflater.flush(zlib.Z_SYNC_FLUSH)
        frame = peer.frame(FIN | 0x40 | TEXT, data[:-4])
        peer.send(frame[:1000])
        assert polled(sock) is None
        peer.send(frame[1000:])
        turns = loop.turns
        assert task.select(sock, timeout=WITHIN) == (sock, None)
        assert loop.turns - turns > 10
        assert at_once(sock) == (text, "text")
        peer.send(frame)
        job = Job(lambda: task.select(sock))
        time.sleep(0)
        job.kill()
        assert task.select(sock, timeout=WITHIN) == (sock, None)
        assert len(at_once(sock)[0]) == len(text)


def test_what_was_taken_while_nobody_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unread, "LOOK", 0.0)
    with server_side() as (sock, peer):
        peer.put(FIN | TEXT, "one")
        until(lambda: sock._session.taken)
        assert task.select(sock) == (sock, None)
        peer.put(FIN | TEXT, "two")
        until(lambda: len(sock._session.taken) == 2)
        assert [polled(sock), polled(sock), polled(sock)] == [("one", "text"), ("two", "text"), None]


# ---- what is answered ---------------------------------------------------------------------------------------------------


@sides
def test_control_frames_are_answered_before_it_returns(side: Any) -> None:
    with side() as (sock, peer):
        job = selecting(sock)
        peer.put(FIN | PING, "one")
        assert job.result() == (sock, None)
        assert peer.get() == (FIN | PONG, b"one"), "nobody has read yet"
        assert at_once(sock) == (b"one", "ping")
        assert sock.write(b"one", "pong") == (True, None)  # it was answered: this one isn't sent
        job = selecting(sock)
        peer.put_close(4000, "bye")
        assert job.result() == (sock, None)
        assert peer.get_close() == (4000, "")
        assert at_once(sock) == (b"\x0f\xa0bye", "close")
        assert (sock.closecode, sock.closereason) == (4000, "bye")
        assert at_once(sock) == (None, "closed")


@sides
def test_the_pong_of_our_ping_is_taken(side: Any) -> None:
    with side() as (sock, peer):
        job = selecting(sock)
        pong = our_pong(sock)
        assert peer.get()[1] == pong
        peer.put(FIN | PONG, pong)
        until(lambda: sock.latency is not None)
        assert task.status(job.task) == "WAIT"
        peer.put(FIN | TEXT, "")
        assert job.result() == (sock, None)


@plain
def test_what_came_while_another_thing_was_ready_is_answered(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ping comes with an item, which wins; then nobody reads the socket."""
    monkeypatch.setattr(_unread, "LOOK", 0.0)
    with side() as (sock, peer):
        chan = channel.new()
        job = selecting(chan, sock)
        peer.put(FIN | PING, "p")
        sock._session.stream.on_event(1)
        chan.push(1)
        assert job.result() == (chan, None)
        assert peer.get() == (FIN | PONG, b"p")
        assert polled(sock) == (b"p", "ping")


@plain
def test_what_is_behind_a_message_is_answered_though_nobody_reads(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unread, "LOOK", 0.0)
    with side() as (sock, peer):
        peer.send(peer.frame(FIN | TEXT, b"m") + peer.frame(FIN | PING, b"p") + peer.frame(FIN | TEXT, b"n"))
        assert task.select(sock, timeout=WITHIN) == (sock, None)
        assert peer.get() == (FIN | PONG, b"p")
        assert [one(sock), one(sock), one(sock)] == [("m", "text"), (b"p", "ping"), ("n", "text")]


# ---- ends ---------------------------------------------------------------------------------------------------------------


def _bad_frame(sock: Any, peer: Any) -> None:
    peer.put(0x83, "x")


def _bad_text(sock: Any, peer: Any) -> None:
    peer.put(FIN | TEXT, b"a\xff")


def _too_big(sock: Any, peer: Any) -> None:
    peer.put(FIN | BINARY, bytes(2000))


def _fault_behind_a_message(sock: Any, peer: Any) -> None:
    peer.send(peer.frame(FIN | TEXT, b"good") + peer.frame(0x83, b"x"))


def _ends(sock: Any, peer: Any) -> None:
    peer.half_close()


def _ends_in_a_message(sock: Any, peer: Any) -> None:
    peer.send(peer.frame(FIN | BINARY, b"12345")[:-2])
    peer.half_close()


def _resets(sock: Any, peer: Any) -> None:
    peer.reset()


def _closes(sock: Any, peer: Any) -> None:
    peer.put_close(1001, "gone")


def _closed_here(sock: Any, peer: Any) -> None:
    task.fork(sock.close)


def _closed_below(sock: Any, peer: Any) -> None:
    sock.conn.close()


def _no_answer_to_our_close(sock: Any, peer: Any) -> None:
    sock.write(b"", "close")


def _no_pong(sock: Any, peer: Any) -> None:
    sock._session.no_pong()


ENDS = [_bad_frame, _bad_text, _too_big, _fault_behind_a_message, _ends, _ends_in_a_message, _resets, _closes]
ENDS += [_closed_here, _closed_below, _no_answer_to_our_close, _no_pong]


def _told(side: Any, end: Callable[[Any, Any], None], select: bool, early: bool) -> Any:
    """What reads return until the error, and what the socket then says, without the port."""
    got = []
    with side(limits={"close_timeout": 20, "message": 1000}) as (sock, peer):
        if early:
            end(sock, peer)
            turn(3)
        else:
            task.fork(end, sock, peer)
        while not got or got[-1][0] is not None:
            if select:
                assert task.select(sock, timeout=WITHIN) == (sock, None)
                got.append(at_once(sock))
            else:
                got.append(sock.read(WITHIN))
        if select:
            assert task.select(sock) == (sock, None)
            assert at_once(sock) == got[-1]
        remote = sock._session.stream.remoteaddr
        said = repr((got, sock.closecode, sock.closereason, sock.cause, sock.partial))
        return said.replace(remote, "PEER")


@pytest.mark.parametrize("early", [False, True])
@plain
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.strip("_"))
def test_an_end_is_told_as_to_a_reader(side: Any, end: Any, early: bool, logs: Logs) -> None:
    logs.allow(r"INFO websocket: .*: close 10\d\d$")
    assert _told(side, end, select=True, early=early) == _told(side, end, select=False, early=early)


@sides
def test_a_peer_that_ends_is_ready(side: Any) -> None:
    with side() as (sock, peer):
        job = selecting(sock)
        peer.close()
        assert job.result() == (sock, None)
        assert at_once(sock)[0] is None


def test_a_message_that_is_too_slow(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    """The limit ``message_rate`` holds while a select waits."""
    logs.expect("message_rate.*: close 1008")
    monkeypatch.setattr("silly.net.websocket._message_pace.WINDOW", 0.06)
    with server_side(limits={"message_rate": 1000}) as (sock, peer):
        job = selecting(sock)
        peer.send(peer.frame(FIN | TEXT, b"slow")[:-1])
        assert job.result() == (sock, None)
        got, err = at_once(sock)
        assert got is None
        assert "message_rate" in err


@sides
def test_ends_of_a_wait_leave_no_reader(side: Any) -> None:
    with side() as (sock, peer):
        stream = sock._session.stream
        data = peer.frame(FIN | BINARY, bytes(100_000))
        peer.send(data[:50_000])
        assert task.select(sock, timeout=5)[0] is None
        with time.deadline(5):
            assert task.select(sock) == (None, "task.select: the deadline of 5 ms ran out")
        selecting(sock).kill()
        waits = task.fork(task.select, sock)
        time.sleep(0)
        waits.cancel()
        assert waits.join()[0] is None
        assert stream._reader is None
        assert stream._payload is None
        peer.send(data[50_000:])
        assert one(sock) == (bytes(100_000), "binary")


# ---- beside other calls -------------------------------------------------------------------------------------------------


@sides
def test_one_reader(side: Any) -> None:
    with side() as (sock, peer):
        job = Job(sock.read).blocked()
        with pytest.raises(RuntimeError, match="another task is already reading from it"):
            task.select(channel.new(), sock)
        peer.put(FIN | TEXT, "one")
        assert job.result() == ("one", "text")
        job = selecting(sock)
        for call in (sock.read, lambda: task.select(sock), lambda: next(sock.pieces()), lambda: sock.conn.read(1)):
            with pytest.raises(RuntimeError, match="another task is already reading from it"):
                call()
        peer.put(FIN | TEXT, "two")
        assert job.result() == (sock, None)
        assert at_once(sock) == ("two", "text")


@plain
def test_the_rest_of_a_message_in_pieces_is_dropped(side: Any) -> None:
    with side() as (sock, peer):
        peer.put(TEXT, "begun")
        assert next(sock.pieces()) == "begun"
        job = selecting(sock)
        peer.put(CONTINUATION, "more")
        turn(3)
        assert task.status(job.task) == "WAIT"
        peer.put(FIN | CONTINUATION, "the end")
        turn(3)
        assert task.status(job.task) == "WAIT"
        peer.put(FIN | TEXT, "next")
        assert job.result() == (sock, None)
        assert at_once(sock) == ("next", "text")


@plain
def test_pieces_after_a_select(side: Any) -> None:
    with side() as (sock, peer):
        peer.put(FIN | TEXT, "whole")
        assert task.select(sock, timeout=WITHIN) == (sock, None)
        assert list(sock.pieces()) == ["whole"]


def test_a_socket_that_nothing_else_holds_stays_open_while_it_is_selected() -> None:
    with client_side() as (sock, peer):
        job = selecting(sock)
        peer.put(FIN | TEXT, "x")
        which, _ = job.result()
        assert which is sock


# ---- both ways ----------------------------------------------------------------------------------------------------------


def test_one_task_serves_both_directions() -> None:
    """The outbox pattern: what others push goes out between what is echoed, and the end of either ends it."""
    with both_sides() as (server, client):
        outbox: Any = channel.new()

        def serve() -> str:
            while True:
                which, _ = task.select(server, outbox)
                if which is server:
                    data, typ = server.read()
                    if data is None or typ == "close":
                        return "closed"
                    server.write(f"echo {data}", "text")
                else:
                    item, _ = outbox.pop()
                    server.write(item, "text")

        serving = task.fork(serve)
        for number in range(100):
            outbox.push(f"push {number}")
            client.write(f"{number}", "text")
        got = [client.read(WITHIN)[0] for _ in range(200)]
        assert [each for each in got if each.startswith("push")] == [f"push {number}" for number in range(100)]
        assert [each for each in got if each.startswith("echo")] == [f"echo {number}" for number in range(100)]
        client.close()
        assert serving.join() == ("closed", None)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_doubled(seed: int) -> None:
    """Messages of all sizes, in fragments, with pings between; selects end by time-outs, deadlines and cancels."""
    rng = random.Random(seed)
    with server_side() as (first, peer), client_side() as (second, other), server_side() as (third, last):
        socks = [first, second, third]
        peers = [peer, other, last]
        got: list[list[Any]] = [[] for _ in socks]
        expected: list[list[Any]] = [[] for _ in socks]

        def messages(number: int) -> bytes:
            data = b""
            for _ in range(60):
                kind = rng.choice(["text", "binary", "ping", "fragments", "large"])
                payload = rng.randbytes(rng.choice([0, 1, 5, 125, 126, 2000])).hex().encode()
                if kind == "ping":
                    data += peers[number].frame(FIN | PING, payload[:125])
                    expected[number].append((payload[:125], "ping"))
                    continue
                if kind == "large":
                    payload = bytes(70_000)
                if kind == "fragments":
                    cut = rng.randrange(len(payload) + 1)
                    data += peers[number].frame(TEXT, payload[:cut]) + peers[number].frame(FIN | CONTINUATION, payload[cut:])
                else:
                    data += peers[number].frame(FIN | (BINARY if kind in ("binary", "large") else TEXT), payload)
                text = kind in ("text", "fragments")
                expected[number].append((payload.decode(), "text") if text else (payload, "binary"))
            return data

        def send(number: int, data: bytes) -> None:
            while data:
                size = rng.choice([1, 3, 50, 1000, 20_000])
                peers[number].send(data[:size])
                data = data[size:]
                if rng.random() < 0.3:
                    time.sleep(0)

        def reads() -> bool:
            left = [number for number in range(3) if len(got[number]) < len(expected[number])]
            while left:
                rng.shuffle(left)
                with time.deadline(rng.choice([0, 1, 1000])):
                    which, _ = task.select(*[socks[number] for number in left], timeout=rng.choice([None, 0, 1]))
                if which is None:
                    continue
                number = socks.index(which)
                got[number].append(at_once(which))
                if len(got[number]) == len(expected[number]):
                    left.remove(number)
            return True

        streams = [messages(number) for number in range(3)]
        sending = [task.fork(send, number, data) for number, data in enumerate(streams)]
        interrupted(reads, rng)
        for each in sending:
            each.join()
        assert got == expected


def test_memory_stays_flat() -> None:
    """10,000 selects, with and without a wait."""
    with both_sides() as (server, client):
        chan: Any = channel.new()

        def rounds(count: int) -> None:
            for _ in range(count):
                client.write("x", "text")
                assert task.select(chan, server) == (server, None)
                server.read()
                assert task.select(chan, server, timeout=0)[0] is None

        rounds(200)
        tracemalloc.start()
        try:
            rounds(100)
            before = tracemalloc.get_traced_memory()[0]
            rounds(5_000)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 20_000
