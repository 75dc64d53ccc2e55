"""Bodies of the HTTP server, in and out: RFC 9110, sections 6.4, 6.5 and 10.1.1; RFC 9112, sections 6 and 7."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from silly import Limits, errno, task, time
from silly._core import scheduler
from silly._wire.chunked import ChunkedReader
from silly.net import http
from silly.net.http import _body
from silly.sync import channel

from ..conftest import Logs
from ..helpers import Raw, chunks, joined, serving, spawn, turn
from .http_support import Held, certs, connected, hello
from .support import until

MIB = 2**20
LENGTH = "Content-Length: {}"
CHUNKED = "Transfer-Encoding: chunked"
BODY = b"0123456789"
CHUNKS = b"3\r\n012\r\n1;a=b\r\n3\r\n6 ; x\r\n456789\r\n0\r\n\r\n"
FRAMINGS = pytest.mark.parametrize(("field", "sent"), [(LENGTH.format(10), BODY), (CHUNKED, CHUNKS)], ids=["length", "chunked"])
READS: dict[str, Callable[[Any], Any]] = {
    "read": lambda stream: stream.read(10),
    "readall": lambda stream: stream.readall(),
    "pieces": lambda stream: gathered(stream),
}
WAYS = pytest.mark.parametrize("way", READS)


def gathered(stream: Any, timeout: float | None = None) -> tuple[bytes | None, str | None]:
    """The body by ``pieces``, in the form of ``readall``."""
    pieces = stream.pieces(timeout)
    data = b"".join(pieces)
    return (data, None) if pieces.err is None else (None, pieces.err)


@contextmanager
def held(limits: dict[str, int] | None = None, **options: Any) -> Iterator[tuple[Raw, Held]]:
    """A client, and the handler of its server."""
    hold = Held()
    with serving(hold.handler, limits=limits, **options) as server, connected(server) as client:
        try:
            yield client, hold
        finally:
            hold.release()


# ---- piece by piece -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_pieces_come_as_they_arrive(chunked: bool) -> None:
    with held() as (client, hold):
        client.request("/", "POST", CHUNKED if chunked else LENGTH.format(9))
        stream = hold.pop()
        pieces = stream.pieces()
        for part in (b"abc", b"de", b"fghi"):
            client.send(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            assert next(pieces) == part
        client.send("0\r\n\r\n" if chunked else "")
        assert list(pieces) == []
        assert pieces.err is None
        assert next(pieces, None) is None
        stream.respond(200)
        stream.close("done")
        response = client.response()
        assert response.body == b"done"
        assert "connection" not in response.header


@FRAMINGS
def test_pieces_of_a_body_that_dribbles(field: str, sent: bytes) -> None:
    with held() as (client, hold):
        for _ in range(2):
            client.request("/", "POST", field)
            stream = hold.pop()
            reading = spawn(partial(gathered, stream))
            client.dribble(sent)
            assert joined(reading) == (BODY, None)
            hello(stream)
            hold.go()
            assert client.response().status == 200


def test_pieces_of_no_body() -> None:
    with held() as (client, hold):
        for field in ("X: y", "Content-Length: 0"):
            client.request("/", "POST", field)
            stream = hold.pop()
            pieces = stream.pieces()
            assert (list(pieces), pieces.err) == ([], None)
            hello(stream)
            hold.go()
            assert client.response().status == 200


@FRAMINGS
def test_ways_to_read_may_change(field: str, sent: bytes) -> None:
    """What one leaves is the next one's."""
    with held() as (client, hold):
        client.request("/", "POST", field, body=sent[: sent.index(b"89")])
        stream = hold.pop()
        assert stream.read(2) == (b"01", None)
        first = next(stream.pieces())
        assert first
        assert BODY[2:].startswith(first)
        client.send(sent[sent.index(b"89") :])
        assert stream.read(1)[0] == BODY[2 + len(first) :][:1]
        assert stream.read(20) == (None, errno.EOF)
        assert stream.readall() == (BODY[3 + len(first) :], None)
        assert gathered(stream) == (b"", None)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_piece_is_bounded(chunked: bool) -> None:
    size = MIB
    with held() as (client, hold):
        body = bytes(range(256)) * (size // 256)
        sending = spawn(
            lambda: client.request(
                "/", "POST", CHUNKED if chunked else LENGTH.format(size), body=chunks(body, 1000) if chunked else body
            )
        )
        stream = hold.pop()
        pieces = list(stream.pieces())
        assert b"".join(pieces) == body
        assert max(map(len, pieces)) <= 256 * 1024
        joined(sending)


# ---- time-outs and deadlines ----------------------------------------------------------------------------------------


@WAYS
@FRAMINGS
def test_a_time_out_loses_nothing(field: str, sent: bytes, way: str) -> None:
    timed: dict[str, Callable[[Any], Any]] = {
        "read": lambda stream: stream.read(10, 5),
        "readall": lambda stream: stream.readall(timeout=5),
        "pieces": lambda stream: stream.read(10, timeout=5),
    }
    with held() as (client, hold):
        client.request("/", "POST", field, body=sent[:7])
        stream = hold.pop()
        for _ in range(2):
            assert timed[way](stream) == (None, errno.TIMEDOUT)
        client.send(sent[7:])
        assert READS[way](stream) == (BODY, None)


def test_pieces_with_a_time_out() -> None:
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(10), body="01234")
        stream = hold.pop()
        pieces = stream.pieces(5)
        assert list(pieces) == [b"01234"]
        assert pieces.err == errno.TIMEDOUT
        client.send("56789")
        assert list(pieces) == []  # it has ended
        assert gathered(stream) == (b"56789", None)


@WAYS
@FRAMINGS
def test_a_deadline_loses_nothing(field: str, sent: bytes, way: str) -> None:
    with held() as (client, hold):
        client.request("/", "POST", field, body=sent[:7] if way != "pieces" else "")
        stream = hold.pop()
        with time.deadline(5) as deadline:
            assert READS[way](stream) == (None, "stream.read: the deadline of 5 ms ran out")
            assert READS[way](stream) == (None, "stream.read: the deadline of 5 ms ran out")
        assert deadline.expired
        client.send(sent[7:] if way != "pieces" else sent)
        assert READS[way](stream) == (BODY, None)
        hello(stream)
        assert client.response().status == 200


def test_a_deadline_over_what_is_there() -> None:
    """What needs no waiting is given even after the deadline."""
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(10), body=BODY)
        stream = hold.pop()
        until(lambda: stream.conn.unreadbytes() == 10)
        with time.deadline(1):
            time.sleep(0)
            while not task.running()._over:
                turn()
            assert stream.read(4) == (b"0123", None)
            assert stream.readall() == (b"456789", None)


@WAYS
@FRAMINGS
def test_a_stalled_body(field: str, sent: bytes, way: str, logs: Any) -> None:
    text = "the request's body stalled: nothing within the limit 'body_timeout' of 30 ms"
    logs.expect(f"INFO http: .*: POST '/': {text}")
    with held({"body_timeout": 30}) as (client, hold):
        client.request("/", "POST", field, body=sent[:7])
        stream = hold.pop()
        for _ in range(2):
            assert READS[way](stream) == (None, text)
        assert stream.respond(200) == (False, "the request has been answered already")
        response = client.response()
        assert (response.status, response.header["connection"]) == (408, "close")
        hold.release()
        client.eof()
    assert len(logs.lines) == 1


def test_a_long_body_that_keeps_coming_never_stalls() -> None:
    """More is asked for at a time than comes within the limit."""
    size = 2 * MIB
    with held({"body_timeout": 60, "body": size}) as (client, hold):
        client.request("/", "POST", LENGTH.format(size))
        stream = hold.pop()
        reading = spawn(stream.readall)
        for _ in range(12):
            client.send(b"x" * 1000)
            time.sleep(10)
        assert len(reading) == 0
        client.send(b"x" * (size - 12_000))
        assert len(joined(reading)[0]) == size


@FRAMINGS
def test_a_stall_after_the_response_began(field: str, sent: bytes, logs: Any) -> None:
    """There is one answer: the one that has begun. The connection ends after it."""
    logs.expect("stalled")
    with held({"body_timeout": 20}) as (client, hold):
        client.request("/", "POST", field, body=sent[:7])
        stream = hold.pop()
        stream.respond(201)
        assert stream.readall()[0] is None
        stream.close("anyway")
        hold.release()
        response = client.response()
        assert (response.status, response.body, response.header["connection"]) == (201, b"anyway", "close")
        client.eof()


# ---- how fast a body must come --------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the peer's time, which the test moves on."""
    now = [1000.0]
    monkeypatch.setattr(_body, "peers_clock", lambda: now[0])
    return now


def paced(clock: list[float], client: Raw, stream: Any, seconds: int, part: bytes) -> int:
    """Sends ``part`` once a second; after how many seconds the reader is refused, or 0."""
    pieces = stream.pieces()
    for second in range(seconds):
        reading = spawn(lambda: next(pieces, None))
        turn()  # it waits now, or is refused
        if not len(reading):
            clock[0] += 1
            client.send(part)
        if joined(reading) is None:
            return second
    return 0


SLOW = "the request's body is slower than the limit 'body_rate' of 240 bytes a second"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_byte_now_and_then_is_too_slow(chunked: bool, clock: list[float], logs: Any) -> None:
    logs.expect(re.escape(SLOW))
    with held() as (client, hold):
        client.request("/", "POST", CHUNKED if chunked else LENGTH.format(10_000))
        stream = hold.pop()
        assert paced(clock, client, stream, 100, b"1\r\nx\r\n" if chunked else b"x") == 60
        assert stream.read(1) == (None, SLOW)
        assert client.response().status == 408
        hold.release()
        client.eof()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("chunked", [False, True])
def test_what_comes_at_first_pays_for_a_minute_and_no_more(chunked: bool, scheme: str, clock: list[float], logs: Any) -> None:
    """4 MiB at once, then a byte now and then: that was held for five hours."""
    logs.expect(re.escape(SLOW))
    first = b"x" * (4 * MIB)
    with held(**({"certs": certs()} if scheme == "https" else {})) as (client, hold):
        client.request("/", "POST", CHUNKED if chunked else LENGTH.format(10**9))
        stream = hold.pop()
        sending = spawn(lambda: client.send(b"%x\r\n%b\r\n" % (len(first), first) if chunked else first))
        assert stream.read(len(first)) == (first, None)
        joined(sending)
        assert 60 <= paced(clock, client, stream, 100, b"1\r\nx\r\n" if chunked else b"x") <= 70
        assert client.response().status == 408
        hold.release()
        client.eof()


@pytest.mark.parametrize(("part", "cut"), [(b"1\r\nx\r\n" * 39, 60), (b"1\r\nx\r\n" * 40, 0)])
def test_the_framing_of_chunks_counts(part: bytes, cut: int, clock: list[float], logs: Any) -> None:
    """The rate is that of the wire: six bytes for each of these chunks."""
    logs.allow(re.escape(SLOW))
    with held() as (client, hold):
        client.request("/", "POST", CHUNKED)
        assert paced(clock, client, hold.pop(), 200, part) == cut
        client.close()
        hold.release()


@pytest.mark.parametrize("rate", [240, 100, 5000])
def test_a_body_at_the_rate_is_never_too_slow(rate: int, clock: list[float]) -> None:
    with held({"body_rate": rate}) as (client, hold):
        client.request("/", "POST", LENGTH.format(10**7))
        assert paced(clock, client, hold.pop(), 200, b"x" * rate) == 0
        client.close()
        hold.release()


def test_any_rate_if_so_set(clock: list[float]) -> None:
    with held({"body_rate": 0}) as (client, hold):
        client.request("/", "POST", LENGTH.format(10**7))
        assert paced(clock, client, hold.pop(), 200, b"x") == 0
        client.close()
        hold.release()


@pytest.mark.parametrize("chunked", [False, True])
def test_what_comes_while_the_handler_is_busy_counts_too(chunked: bool, clock: list[float]) -> None:
    """Each second 1,000 bytes, of which the reader meets only the first: the peer is four times as fast as it must be."""
    with held() as (client, hold):
        client.request("/", "POST", CHUNKED if chunked else LENGTH.format(10**7))
        stream = hold.pop()
        first, rest = b"x", b"y" * 999
        for _ in range(200):
            reading = spawn(lambda: stream.read(1))
            until(lambda: stream.conn._stream._reader is not None)
            clock[0] += 1
            client.send(chunks(first, 1)[:-5] if chunked else first)
            assert joined(reading) == (first, None)
            client.send(chunks(rest, 999)[:-5] if chunked else rest)
            until(lambda: stream.conn.unreadbytes() >= 999)
            assert stream.read(999) == (rest, None)
        client.close()
        hold.release()


def test_a_handler_that_does_not_read_blames_nobody(clock: list[float]) -> None:
    """An hour passes between two reads, and nothing comes meanwhile."""
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(10**7))
        stream = hold.pop()
        for _ in range(100):
            clock[0] += 3600
            reading = spawn(lambda: stream.read(1))
            until(lambda: stream.conn._stream._reader is not None)
            client.send("x")
            assert joined(reading) == (b"x", None)
        client.close()
        hold.release()


@pytest.mark.parametrize("way", READS)
def test_a_slow_body_is_found_out_while_a_read_waits_for_much(way: str, logs: Any) -> None:
    """The reader of a long body isn't woken by each segment; the rate is looked at all the same."""
    logs.expect("slower than the limit 'body_rate' of 100000 bytes a second")
    reads = {**READS, "read": lambda stream: stream.read(10**6)}
    with held({"body_timeout": 100, "body_rate": 100_000}) as (client, hold):
        client.request("/", "POST", LENGTH.format(10**6))
        stream = hold.pop()
        reading = spawn(lambda: reads[way](stream))
        while not len(reading):
            client.send("x")
            time.sleep(5)
        assert "body_rate" in joined(reading)[1]
        assert client.response().status == 408
        hold.release()


def test_a_body_with_a_long_time_out_of_its_own(logs: Any) -> None:
    """The rate is looked at before the time-out; what has come by then counts."""
    with held({"body_timeout": 20, "body_rate": 1000}) as (client, hold):
        client.request("/", "POST", LENGTH.format(10**6))
        stream = hold.pop()
        reading = spawn(lambda: stream.read(10**6, 60_000))
        for _ in range(20):
            client.send("x" * 1000)
            time.sleep(5)
        assert not len(reading)
        client.send("x" * (10**6 - 20_000))
        assert len(joined(reading)[0]) == 10**6


def test_a_record_that_is_not_whole_is_something(logs: Any) -> None:
    """A long TLS record that comes slowly: OpenSSL gives nothing of it before its end, but it is no silence."""
    body = b"x" * 16_000
    with held({"body_timeout": 100, "body_rate": 1000}, certs=certs()) as (client, hold):
        client.request("/", "POST", LENGTH.format(len(body)))
        stream = hold.pop()
        client.conn._stream.flush()
        reading = spawn(stream.readall)
        record = client.conn._stream.pipe.seal([body])
        sock = client.conn._stream.sock
        for at in range(0, len(record), 400):
            sock.send(record[at : at + 400])
            time.sleep(10)
        assert joined(reading) == (body, None)
        hello(stream)
        hold.go()
        assert client.response().status == 200


# ---- limits of what is gathered -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("size", "limit", "passes"), [(9, 9, True), (10, 9, False), (10, 0, False), (0, 0, True), (3000, 5000, True)]
)
def test_readall_with_a_limit(size: int, limit: int, passes: bool, chunked: bool, logs: Any) -> None:
    """The limit given counts, be it below or above the limit 'body'."""
    if not passes:
        logs.expect(f"INFO http: .*: POST '/': body longer than {limit} bytes")
    with held({"body": 1000}) as (client, hold):
        body = b"x" * size
        client.request("/", "POST", CHUNKED if chunked else LENGTH.format(size), body=chunks(body, 7) if chunked else body)
        stream = hold.pop()
        if passes:
            assert stream.readall(limit) == (body, None)
            hello(stream)
            assert client.response().status == 200
            return
        for _ in range(2):
            assert stream.readall(limit) == (None, f"body longer than {limit} bytes")
        hold.release()
        response = client.response()
        assert (response.status, response.header["connection"]) == (413, "close")
        client.eof()


@FRAMINGS
def test_readall_bounds_what_is_left(field: str, sent: bytes) -> None:
    with held() as (client, hold):
        client.request("/", "POST", field, body=sent)
        stream = hold.pop()
        assert stream.read(8) == (b"01234567", None)
        assert stream.readall(2) == (b"89", None)
        assert stream.readall(0) == (b"", None)


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (TypeError, lambda stream: stream.readall("5")),
        (TypeError, lambda stream: stream.readall(True)),
        (TypeError, lambda stream: stream.readall(5.0)),
        (ValueError, lambda stream: stream.readall(-1)),
        (ValueError, lambda stream: stream.readall(5, -1)),
        (ValueError, lambda stream: next(stream.pieces(-1))),
        (ValueError, lambda stream: next(stream.pieces(float("inf")))),
    ],
)
def test_mistakes(kind: type[Exception], call: Callable[[Any], Any]) -> None:
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(3))
        stream = hold.pop()
        with pytest.raises(kind):
            call(stream)
        client.send("abc")
        assert stream.readall() == (b"abc", None)


def test_pieces_have_no_limit() -> None:
    with held({"body": 10}) as (client, hold):
        client.request("/", "POST", LENGTH.format(5000), body=b"x" * 5000)
        assert gathered(hold.pop()) == (b"x" * 5000, None)


# ---- back-pressure --------------------------------------------------------------------------------------------------


def upload(client: Raw, size: int, sent: list[int], chunked: bool) -> None:
    """Sends a body of ``size`` bytes, as far as it is taken; ``sent`` tells how far."""
    piece = b"%x\r\n%b\r\n" % (65536, bytes(65536)) if chunked else bytes(65536)
    for _ in range(size // 65536):
        if not client.conn.write(piece):
            return
        client.conn._stream.flush()
        sent[0] += 65536
    client.conn.write(b"0\r\n\r\n" if chunked else b"")


@pytest.mark.parametrize(("scheme", "chunked"), [("http", False), ("http", True), ("https", False)])
def test_an_upload_waits_for_its_reader(scheme: str, chunked: bool) -> None:
    """Nobody reads 50 MB: what the kernel doesn't hold stays with the sender."""
    size = 48 * MIB
    sent = [0]
    with held(**({"certs": certs()} if scheme == "https" else {})) as (client, hold):
        client.request("/", "POST", CHUNKED if chunked else LENGTH.format(size))
        stream = hold.pop()
        uploading = spawn(lambda: upload(client, size, sent, chunked))
        before = -1
        while before != sent[0]:
            before = sent[0]
            turn(50)
        assert 64 * 1024 <= sent[0] < size // 2
        most = Limits().receive_mark + 64 * 1024
        assert Limits().receive_mark <= stream.conn.unreadbytes() <= most
        got = 0
        pieces = stream.pieces()
        for piece in pieces:
            got += len(piece)
            assert stream.conn.unreadbytes() <= most
            if scheme == "https" and got > 8 * MIB:
                break  # the rest would show nothing more
        if scheme == "http":
            assert (got, pieces.err) == (size, None)
        else:
            client.close()
        joined(uploading)
        hold.release()


def test_a_read_may_be_longer_than_the_mark() -> None:
    with held() as (client, hold):
        size = 3 * MIB
        client.request("/", "POST", LENGTH.format(size))
        stream = hold.pop()
        uploading = spawn(lambda: upload(client, size, [0], False))
        assert len(stream.read(2 * MIB)[0]) == 2 * MIB
        assert len(stream.read(MIB)[0]) == MIB
        joined(uploading)


@pytest.mark.parametrize("way", ["readall", "read", "pieces"])
def test_others_run_between_chunks_of_one_byte(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tens of thousands of them arrive at once: to decode all in one go would hold the loop."""
    size = 10_000
    most = []
    read = ChunkedReader.read

    def counted(self: ChunkedReader, *args: Any) -> bytes:
        piece = read(self, *args)
        most.append((scheduler.loop.turns, len(piece)))
        return piece

    monkeypatch.setattr(ChunkedReader, "read", counted)
    held = Held()
    with serving(held.handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * size + b"0\r\n\r\n")
        stream = held.pop()
        until(lambda: len(stream.conn._stream.buf) > 5 * size)
        if way == "readall":
            body = stream.readall()[0]
        elif way == "read":
            body = stream.read(size)[0]
        else:
            body = b"".join(stream.pieces())
        assert body == b"x" * size
        held.release()
        assert client.response().status == 200
    by_turn: dict[int, int] = {}
    for turned, count in most:
        by_turn[turned] = by_turn.get(turned, 0) + count
    assert max(by_turn.values()) <= 2000


def test_others_run_between_small_reads() -> None:
    held = Held()
    with serving(held.handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 50000", body=b"x" * 50_000)
        stream = held.pop()
        until(lambda: len(stream.conn._stream.buf) == 50_000)
        before = scheduler.loop.turns
        assert all(stream.read(1) == (b"x", None) for _ in range(50_000))
        assert scheduler.loop.turns - before > 40
        held.release()
        assert client.response().status == 200


# ---- 100-continue ---------------------------------------------------------------------------------------------------


@WAYS
@FRAMINGS
def test_continue_comes_as_one_asks_for_the_body(field: str, sent: bytes, way: str) -> None:
    with held() as (client, hold):
        client.request("/", "POST", field, "Expect: 100-continue")
        stream = hold.pop()
        assert stream.read(0) == (b"", None)
        client.silent()
        reading = spawn(lambda: READS[way](stream))
        assert client.response().status == 100
        client.dribble(sent)
        assert joined(reading) == (BODY, None)
        client.silent()
        hello(stream)
        response = client.response()
        assert response.status == 200
        assert "connection" not in response.header


def test_continue_after_respond() -> None:
    """The final answer has been chosen, but not a byte of it sent: the two don't mix."""
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(3), "Expect: 100-continue")
        stream = hold.pop()
        stream.respond(200)
        reading = spawn(stream.readall)
        assert client.response().status == 100
        client.send("abc")
        assert joined(reading) == (b"abc", None)
        stream.close("ok")
        assert client.response().body == b"ok"


@WAYS
def test_continue_never_follows_the_answer(way: str) -> None:
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(10), "Expect: 100-continue")
        stream = hold.pop()
        hello(stream)
        reading = spawn(lambda: READS[way](stream))
        response = client.response()
        assert (response.status, response.header["connection"]) == (200, "close")
        client.silent()
        client.send(BODY)
        assert joined(reading) == (BODY, None)
        hold.release()
        client.eof()


@pytest.mark.parametrize("limit", [None, 5])
def test_no_continue_for_what_is_too_long(limit: int | None, logs: Any) -> None:
    logs.expect("body longer than")
    with held({"body": 9}) as (client, hold):
        client.request("/", "POST", LENGTH.format(10), "Expect: 100-continue")
        assert hold.pop().readall(limit)[0] is None
        hold.release()
        assert client.response().status == 413
        client.eof()


# ---- an early answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_early_answer_to_a_big_upload(scheme: str, chunked: bool) -> None:
    """The client, which goes on sending, gets the whole answer and an end in good order: no reset destroys it."""

    def handler(stream: Any) -> None:
        assert stream.read(10) == (bytes(10), None)
        stream.respond(403)
        stream.close("no" * 1000)

    size = 8 * MIB
    with serving(handler, **({"certs": certs()} if scheme == "https" else {})) as server, connected(server) as client:
        client.request("/", "POST", CHUNKED if chunked else LENGTH.format(size))
        uploading = spawn(lambda: upload(client, size, [0], chunked))
        response = client.response()
        assert (response.status, response.body) == (403, b"no" * 1000)
        assert chunked or response.header["connection"] == "close"
        joined(uploading)
        client.eof()


def test_an_early_answer_to_an_endless_upload() -> None:
    """It is cut off in the end."""
    with serving(hello) as server, connected(server) as client:
        client.request("/", "POST", LENGTH.format(2**40))
        uploading = spawn(lambda: upload(client, 2**40, [0], False))
        assert client.response().status == 200
        joined(uploading)


# ---- what is wrong with a body --------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("bad", [b"3\r\n012x\r\n", b"x\r\n", b"3\r\n012\r\n0\r\nContent-Length: 5\r\n\r\n"])
def test_a_bad_body(way: str, bad: bytes, logs: Any) -> None:
    logs.expect("INFO http: .*: POST '/': ")
    with held() as (client, hold):
        client.request("/", "POST", CHUNKED, body=bad)
        stream = hold.pop()
        data, err = READS[way](stream)
        assert data is None
        assert READS[way](stream) == (None, err)
        hold.release()
        response = client.response()
        assert (response.status, response.header["connection"]) == (400, "close")
        client.eof()
    assert len(logs.lines) == 1


@WAYS
@FRAMINGS
def test_a_body_that_ends_early(field: str, sent: bytes, way: str, logs: Any) -> None:
    logs.expect("INFO http: .*: POST '/': the request's body is incomplete: End of file")
    with held() as (client, hold):
        client.request("/", "POST", field, body=sent[:7])
        stream = hold.pop()
        client.half_close()
        data, err = READS[way](stream)
        assert (data, err) == (None, f"the request's body is incomplete: {errno.EOF}")
        hold.release()
        assert client.response().status == 400
        client.eof()


@WAYS
def test_a_second_reader(way: str, logs: Any) -> None:
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(10))
        stream = hold.pop()
        reading = spawn(stream.readall)
        until(lambda: stream.conn._stream._reader is not None)
        with pytest.raises(RuntimeError, match="another task is already reading"):
            READS[way](stream)
        client.send(BODY)
        assert joined(reading) == (BODY, None)


# ---- trailers -------------------------------------------------------------------------------------------------------


@WAYS
def test_trailers_in(way: str) -> None:
    with held() as (client, hold):
        client.request("/", "POST", CHUNKED, body=CHUNKS[:-2] + b"X-Sum: 1\r\nX-SUM: 2\r\n\r\n")
        stream = hold.pop()
        assert dict(stream.trailer) == {}
        assert READS[way](stream) == (BODY, None)
        if way == "read":
            assert stream.read(1) == (None, errno.EOF)  # ten bytes alone don't reach the end
        assert stream.trailer["x-sum"] == "1, 2"
        assert stream.trailer.getall("X-Sum") == ["1", "2"]
        assert stream.header["x-sum"] is None


def test_trailers_of_a_body_by_length() -> None:
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(10), body=BODY)
        stream = hold.pop()
        assert stream.readall() == (BODY, None)
        assert dict(stream.trailer) == {}


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Host", "Authorization", "Trailer", "Cookie"])
def test_forbidden_trailers_in(name: str, logs: Any) -> None:
    logs.expect("may not be a trailer")
    with held() as (client, hold):
        client.request("/", "POST", CHUNKED, body=f"0\r\n{name}: 1\r\n\r\n")
        assert hold.pop().readall()[0] is None
        hold.release()
        assert client.response().status == 400
        client.eof()


def test_trailers_longer_than_a_head(logs: Any) -> None:
    logs.expect("trailers longer than the limit 'head' of 1000 bytes")
    with held({"head": 1000}) as (client, hold):
        client.request("/", "POST", CHUNKED, body="0\r\n" + "X: y\r\n" * 200 + "\r\n")
        assert hold.pop().readall()[0] is None
        hold.release()
        assert client.response().status == 431
        client.eof()


@pytest.mark.parametrize("writes", [[], [b"ab"], [b"ab", b"cd"]])
@pytest.mark.parametrize("body", [None, b"end"])
def test_trailers_out(writes: list[bytes], body: bytes | None) -> None:
    with held() as (client, hold):
        for _ in range(2):
            client.request()
            stream = hold.pop()
            stream.respond(200, {"trailer": "x-sum, x-list"})
            for each in writes:
                stream.write(each)
            assert stream.closewrite(body, {"X-Sum": 5, "X-List": ["a", "b"], "X-None": None}) == (True, None)
            hold.go()
            head = client.read("\r\n\r\n")
            assert b"\r\ntransfer-encoding: chunked\r\n" in head
            assert b"content-length" not in head
            pieces = [*writes, *([body] if body else [])]
            due = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces])
            due += b"0\r\nx-sum: 5\r\nx-list: a\r\nx-list: b\r\n\r\n"
            assert client.read(len(due)) == due
        client.silent()


def test_trailers_out_by_close() -> None:
    with held() as (client, hold):
        client.request()
        stream = hold.pop()
        stream.respond(200)
        assert stream.close("x", trailer=[("a", "1"), ("a", "2")])
        client.read("\r\n\r\n")
        assert client.read("\r\n\r\n") == b"1\r\nx\r\n0\r\na: 1\r\na: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("trailer", "kind"),
    [
        ({"Content-Length": 5}, ValueError),
        ({"Transfer-Encoding": "chunked"}, ValueError),
        ({"Set-Cookie": "a=b"}, ValueError),
        ({"host": "x"}, ValueError),
        ({"x": "a\r\nb: c"}, ValueError),
        ({"x": "a\nb"}, ValueError),
        ({"x\r\n": "a"}, ValueError),
        ({"x": "€"}, ValueError),
        ({"x": 1.5}, TypeError),
        ({5: "x"}, TypeError),
    ],
)
def test_bad_trailers_out(trailer: Any, kind: type[Exception]) -> None:
    """Nothing is sent, and the response can still be ended."""
    with held() as (client, hold):
        client.request()
        stream = hold.pop()
        stream.respond(200)
        with pytest.raises(kind):
            stream.closewrite("x", trailer)
        client.silent()
        assert stream.closewrite("fine") == (True, None)
        response = client.response()
        assert (response.body, response.header["content-length"]) == (b"fine", "4")


def test_trailers_where_there_can_be_none() -> None:
    """With a length, in HTTP/1.0, and where there is no body, they are left out."""
    with held() as (client, hold):
        requests = [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200, {"content-length": 3}),
            ("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 200, {}),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 204, {}),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 304, {}),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, {}),
        ]
        for request, status, header in requests:
            client.send(request)
            stream = hold.pop()
            stream.respond(status, header)
            assert stream.closewrite("abc", {"x-sum": 1}) == (True, None)
            hold.go()
            if "1.0" not in request:
                response = client.response(request.partition(" ")[0])
                assert response.status == status
                assert response.body == (b"abc" if header else b"")
            else:
                head, _, body = client.rest().partition(b"\r\n\r\n")
                assert b"\r\nconnection: close" in head
                assert b"chunked" not in head
                assert body == b"abc"


# ---- reading after the end ------------------------------------------------------------------------------------------


@WAYS
@FRAMINGS
def test_a_body_read_after_the_response(field: str, sent: bytes, way: str) -> None:
    """The handler answers first and reads then; the connection stays, and the next request is the next one."""
    with held() as (client, hold):
        for _ in range(2):
            client.request("/x", "POST", field)
            stream = hold.pop()
            hello(stream)
            assert client.response().body == b"hello /x"
            reading = spawn(partial(READS[way], stream))
            client.send(sent)
            assert joined(reading) == (BODY, None)
            hold.go()


def test_a_bad_body_read_after_the_response(logs: Any) -> None:
    """There is no second answer."""
    logs.expect("bad chunk size")
    with held() as (client, hold):
        client.request("/x", "POST", CHUNKED)
        stream = hold.pop()
        hello(stream)
        assert client.response().body == b"hello /x"
        client.send("nonsense\r\n")
        assert stream.readall()[0] is None
        hold.release()
        client.eof()


@WAYS
def test_nothing_is_read_after_a_hijack(way: str) -> None:
    with held(methods=["CONNECT"]) as (client, hold):
        client.send("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\nglued")
        stream = hold.pop()
        conn, err = stream.detach()
        assert err is None
        assert READS[way](stream) == (None, errno.CLOSED)
        assert conn.read(5) == (b"glued", None)
        assert stream.write("x") == (False, "the response has ended")
        assert stream.close() == (False, "the response has ended")
        assert stream.respond(200) == (False, "the request has been answered already")


def test_a_task_left_behind_can_read_nothing_of_the_next_request() -> None:
    kept = []

    def handler(stream: Any) -> None:
        kept.append(stream)
        hello(stream)

    with serving(handler) as server, connected(server) as client:
        for field, sent in ((LENGTH.format(10), BODY), (CHUNKED, CHUNKS)):
            client.request("/", "POST", field, body=sent)
            assert client.response().status == 200
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        assert client.response().status == 200
        client.send("ab")
        for stream in kept[:2]:
            assert stream.read(11) == (None, errno.EOF)
        assert b"ab" not in kept[1].readall()[0]
        client.send("c")
        client.request("/next")
        assert client.response().body == b"hello /next"


def test_a_task_left_behind_that_reads_the_body(logs: Logs) -> None:
    logs.allow("the request's body")
    results = channel.new()

    def handler(stream: Any) -> None:
        task.fork(lambda: results.push(stream.read(5)))
        time.sleep(0)
        hello(stream)

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 5")
        assert client.response().body == b"hello /"
        client.eof()
        data, err = results.pop()[0]
    assert data is None
    assert err


def test_a_body_of_a_connection_that_is_gone(logs: Any) -> None:
    logs.expect("incomplete")
    with held() as (client, hold):
        client.request("/", "POST", LENGTH.format(10), body="abc")
        stream = hold.pop()
        client.reset()
        data, err = stream.readall()
        assert data is None
        assert err
        assert not stream.respond(200)
        hold.release()


def test_server_stream_has_the_names_of_the_guide() -> None:
    for name in ("read", "readall", "pieces", "trailer", "closewrite", "close", "detach"):
        assert hasattr(http.ServerStream, name)
