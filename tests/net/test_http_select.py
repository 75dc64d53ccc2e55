"""``task.select`` over the bodies of requests and responses: when one is ready, the limits that hold meanwhile, and what
becomes of the connection."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from silly import errno, task, time
from silly._core import scheduler
from silly._wire.limits import Limits
from silly.net import http
from silly.net._stream import Stream
from silly.sync import channel

from ..conftest import Logs
from ..helpers import WITHIN, Raw, chunks, raw_server, serving, turn
from .http_client_support import ok, origin, taken, using
from .http_support import Held, certs, connected
from .support import Job, interrupted, until

loop = scheduler.loop


def selecting(*things: Any, **options: Any) -> Job:
    """A task that waits in a select."""
    return Job(lambda: task.select(*things, **options)).blocked()


def at_once(call: Callable[[], Any]) -> Any:
    """What ``call()`` returns, without waiting."""
    turns = loop.turns
    got = call()
    assert loop.turns == turns, "it waited"
    return got


def ready(stream: Any) -> bool:
    which, err = task.select(stream, timeout=0)
    assert (which is stream) is (err is None)
    return which is stream


# ---- a request's body ---------------------------------------------------------------------------------------------------


@contextmanager
def request(*fields: str, tls: bool = False, limits: dict[str, int] | None = None) -> Iterator[tuple[Any, Raw]]:
    """A server's stream whose request has come without its body, and the raw client."""
    held = Held()
    options: dict[str, Any] = {"tls": True, "certs": certs()} if tls else {}
    with serving(held.handler, limits=limits, **options) as server, connected(server) as client:
        client.request("/", "POST", *fields)
        try:
            yield held.pop(), client
        finally:
            held.release()


secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@secure
def test_a_length_byte_by_byte(tls: bool) -> None:
    body = b"a body of some bytes"
    with request(f"Content-Length: {len(body)}", tls=tls) as (stream, client):
        for at in range(len(body)):
            assert not ready(stream)
            client.send(body[at : at + 1])
            assert task.select(stream, timeout=WITHIN) == (stream, None)
            assert task.select(stream) == (stream, None)
            assert at_once(lambda: stream.read(1)) == (body[at : at + 1], None)
        assert ready(stream)
        assert at_once(lambda: stream.read(1)) == (None, errno.EOF)
        assert at_once(stream.readall) == (b"", None)


CHUNKED = b"5\r\nhello\r\n1;ext=1\r\n \r\n00b\r\nchunked wor\r\n2\r\nld\r\n0\r\nX-Trailer: 1\r\n\r\n"


@secure
def test_chunks_byte_by_byte(tls: bool) -> None:
    """Ready with each byte of the body, and at the end; not for the framing, nor for half a trailer."""
    with request("Transfer-Encoding: chunked", tls=tls) as (stream, client):
        got = b""
        framing = 0
        for at in range(len(CHUNKED)):
            assert not ready(stream), CHUNKED[:at]
            client.send(CHUNKED[at : at + 1])
            turn(2)
            if ready(stream):
                if at < len(CHUNKED) - 1:
                    got += at_once(lambda: stream.read(1))[0]
            else:
                framing += 1
        assert got == b"hello chunked world"
        assert framing == len(CHUNKED) - len(got) - 1
        assert at_once(lambda: stream.read(1)) == (None, errno.EOF)
        assert stream.trailer["x-trailer"] == "1"


@pytest.mark.parametrize("chunked", [False, True])
def test_split_at_every_byte(chunked: bool) -> None:
    body = bytes(range(40))
    data = chunks(body, 7) if chunked else body
    for at in range(len(data) + 1):
        with request("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}") as (stream, client):
            client.send(data[:at])
            turn(2)
            got = b""
            while not (at_end := len(got) == len(body) and ready(stream)) and ready(stream):
                got += at_once(lambda: stream.read(1))[0]
            assert body.startswith(got)
            if not at_end:
                job = selecting(stream)
                client.send(data[at:])
                assert job.result() == (stream, None)
            assert got + stream.readall()[0] == body


def test_a_request_without_a_body_is_ready() -> None:
    held = Held()
    with serving(held.handler) as server, Raw.connect(server) as client:
        client.request()
        stream = held.pop()
        assert ready(stream)
        assert at_once(stream.readall) == (b"", None)
        held.release()
        assert client.response().status == 200


def test_an_answer_while_the_body_comes() -> None:
    """One task reads the body, and sends what others push."""
    outbox: Any = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        while True:
            which, _ = task.select(stream, outbox)
            if which is outbox:
                stream.write(outbox.pop()[0])
                stream.flush()
                continue
            piece, _ = stream.read(1)
            if piece is None:
                break
            stream.write(piece.upper())
        stream.closewrite("!")

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 3")
        outbox.push("1")
        until(lambda: client.conn.unreadbytes())
        client.send("a")
        turn(3)
        outbox.push("2")
        turn(3)
        client.send("bc")
        assert client.response().body == b"1A2BC!"


def test_100_continue() -> None:
    with request("Content-Length: 2", "Expect: 100-continue") as (stream, client):
        job = selecting(stream)
        assert client.read("\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send("ok")
        assert job.result() == (stream, None)
        assert at_once(lambda: stream.read(2)) == (b"ok", None)


def test_the_connection_serves_the_next_request() -> None:
    held = Held()
    with serving(held.handler) as server, Raw.connect(server) as client:
        for _ in range(3):
            client.request("/", "POST", "Transfer-Encoding: chunked", body=chunks(b"body", 2))
            stream = held.pop()
            assert task.select(stream, timeout=WITHIN) == (stream, None)
            assert stream.read(1) == (b"b", None)
            assert task.select(stream, timeout=WITHIN) == (stream, None)
            held.go()
            assert client.response().status == 200
        held.release()


@pytest.mark.parametrize("end", ["reset", "half_close"])
def test_a_client_that_goes(end: str, logs: Logs) -> None:
    logs.expect("INFO http: .*body is incomplete")
    with request("Content-Length: 5") as (stream, client):
        job = selecting(stream)
        client.send("12")
        assert job.result() == (stream, None)
        assert stream.read(2) == (b"12", None)
        job = selecting(stream)
        getattr(client, end)()
        assert job.result() == (stream, None)
        data, err = at_once(lambda: stream.read(1))
        assert data is None
        assert "body is incomplete" in err


def test_bad_chunks(logs: Logs) -> None:
    logs.expect("INFO http: .*a chunk doesn't end where its size says")
    with request("Transfer-Encoding: chunked") as (stream, client):
        job = selecting(stream)
        client.send("2\r\nokXX")
        assert job.result() == (stream, None)
        assert stream.read(2) == (b"ok", None)
        assert task.select(stream) == (stream, None)
        data, err = at_once(lambda: stream.read(1))
        assert data is None
        assert "chunk" in err
        assert client.response().status == 400


def test_silence(logs: Logs) -> None:
    """The limit ``body_timeout`` holds while a select waits; each byte begins it anew."""
    logs.expect("INFO http: .*nothing within the limit 'body_timeout' of 50 ms")
    with request("Transfer-Encoding: chunked", limits={"body_timeout": 50, "body_rate": 0}) as (stream, client):
        job = selecting(stream)
        for byte in b"00000000000":
            client.send(bytes((byte,)))
            time.sleep(10)
        assert task.status(job.task) == "WAIT"
        assert job.result() == (stream, None)
        data, err = at_once(lambda: stream.read(1))
        assert data is None
        assert "body_timeout" in err
        assert client.response().status == 408


def test_time_outs_of_select_are_not_the_peers() -> None:
    with request("Content-Length: 1", limits={"body_timeout": 40, "body_rate": 0}) as (stream, client):
        for _ in range(20):
            assert task.select(stream, timeout=4)[0] is None
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass  # the handler is busy: nobody waits for the peer
        client.send("x")
        assert task.select(stream, timeout=WITHIN) == (stream, None)
        assert stream.read(1) == (b"x", None)


def test_too_slow(logs: Logs) -> None:
    """The limit ``body_rate`` holds too, across several selects."""
    logs.expect("INFO http: .*slower than the limit 'body_rate'")
    with request("Content-Length: 1000", limits={"body_rate": 1000, "body_timeout": 50}) as (stream, client):
        over = []

        def dribble() -> None:
            while not over and client.conn.write("x"):
                time.sleep(5)

        dribbling = task.fork(dribble)
        while not over:
            which, _ = task.select(stream, timeout=8)
            if which is not None:
                data, err = stream.read(1)
                if data is None:
                    over.append(err)
        dribbling.join()
        assert "body_rate" in over[0]


def test_one_reader() -> None:
    with request("Content-Length: 2") as (stream, client):
        job = Job(lambda: stream.read(1)).blocked()
        with pytest.raises(RuntimeError, match="another task is already reading from it"):
            task.select(stream)
        client.send("a")
        assert job.result() == (b"a", None)
        job = selecting(stream)
        for call in (lambda: task.select(stream), lambda: stream.read(1)):
            with pytest.raises(RuntimeError, match="another task is already reading from it"):
                call()
        client.send("b")
        assert job.result() == (stream, None)
        assert stream.read(1) == (b"b", None)


def test_a_connection_that_another_protocol_took_over() -> None:
    held = Held()
    with serving(held.handler, methods=["CONNECT"]) as server, Raw.connect(server) as client:
        client.request("test:1", "CONNECT")
        stream = held.pop()
        taken(stream.detach())
        assert task.select(stream) == (stream, None)
        assert at_once(lambda: stream.read(1)) == (None, errno.CLOSED)
        held.release()


def test_ends_of_a_wait_leave_nothing() -> None:
    with request("Content-Length: 1") as (stream, client):
        assert task.select(stream, timeout=1)[0] is None
        with time.deadline(1):
            assert task.select(stream)[0] is None
        selecting(stream).kill()
        waits = task.fork(task.select, stream)
        time.sleep(0)
        waits.cancel()
        waits.join()
        assert stream._source._reader is None
        assert stream._watched is None
        assert not stream._meter.running
        client.send("x")
        assert stream.read(1) == (b"x", None)


# ---- a response ---------------------------------------------------------------------------------------------------------


def begun(client: Any, url: str) -> Any:
    stream = taken(client.request("GET", url))
    stream.closewrite()
    return stream


def test_a_response_byte_by_byte() -> None:
    """Not ready before its head and the first byte of its body."""
    go: Any = channel.new()
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    def answer(asked: Any) -> Any:
        def send(raw: Raw) -> bool:
            while (data := go.pop()[0]) is not None:
                raw.send(data)
            return True

        return send

    with origin(answer) as server, using() as client, begun(client, server.url) as stream:
        got = b""
        for byte in head + CHUNKED:
            assert not ready(stream)
            go.push(bytes((byte,)))
            turn(3)
            while ready(stream):
                data, err = at_once(lambda: stream.read(1))
                if data is None:
                    assert err == errno.EOF
                    break
                got += data
        assert got == b"hello chunked world"
        assert stream.status == 200
        assert stream.trailer["x-trailer"] == "1"
        go.close()


@pytest.mark.parametrize("coding", [None, "gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_split_responses(coding: str | None, framing: str) -> None:
    body = random.Random(1).randbytes(60)
    sent = gzip.compress(body) if coding else body
    fields = f"Content-Encoding: {coding}\r\n" if coding else ""
    if framing == "length":
        data = f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {len(sent)}\r\n\r\n".encode() + sent
    elif framing == "chunked":
        data = f"HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks(sent, 9)
    else:
        data = f"HTTP/1.1 200 OK\r\n{fields}Connection: close\r\n\r\n".encode() + sent
    with using() as client:
        for at in range(0, len(data) + 1, 4):
            go: Any = channel.new()

            def answer(asked: Any, at: int = at, go: Any = go) -> Any:
                def send(raw: Raw) -> bool:
                    raw.send(data[:at])
                    go.pop()
                    raw.send(data[at:])
                    return framing != "close"

                return send

            with origin(answer) as server, begun(client, server.url) as stream:
                got = b""
                turn(4)
                while ready(stream):
                    piece, _ = at_once(lambda: stream.read(1))
                    if piece is None:
                        break
                    got += piece
                go.push(1)
                assert task.select(stream, timeout=WITHIN) == (stream, None)
                assert got + stream.readall()[0] == body


@pytest.mark.parametrize("size", [1, 20_000])
def test_a_body_that_decodes_to_much_lets_others_go_first(size: int) -> None:
    """``size``: that of its chunks. Nothing is ready sooner than decoded, and nothing is lost."""
    body = bytes(3_000_000)
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += chunks(gzip.compress(body), size)
    with origin(data) as server, using(limits=Limits(body=len(body))) as client, begun(client, server.url) as stream:
        turns = loop.turns
        got = 0
        while True:
            assert task.select(stream, timeout=WITHIN) == (stream, None)
            piece, _ = stream.read(min(50_000, len(body) - got) or 1)
            if piece is None:
                break
            got += len(piece)
        assert got == len(body)
        assert loop.turns - turns >= 5


def test_a_request_that_is_sent_again() -> None:
    """The server closes the idle connection just as it is used again: ready, and the read does the rest."""
    with origin([ok(b"one"), None, ok(b"two")]) as server, using() as client:
        with begun(client, server.url) as stream:
            assert stream.readall() == (b"one", None)
        with begun(client, server.url) as stream:
            assert task.select(stream, timeout=WITHIN) == (stream, None)
            assert stream.readall() == (b"two", None)
        assert server.connections == 2


def test_the_connection_goes_back_to_the_pool() -> None:
    with origin([ok(b"one"), ok(b""), ok(b"three")]) as server, using() as client:
        for body in (b"one", b"", b"three"):
            with begun(client, server.url) as stream:
                assert task.select(stream, timeout=WITHIN) == (stream, None)
                assert at_once(stream.readall) == (body, None)
        assert server.connections == 1


def test_the_first_of_several_responses() -> None:
    gates = [channel.new() for _ in range(3)]

    def answer(asked: Any) -> Any:
        def send(raw: Raw) -> bool:
            gates[int(asked.target[1:])].pop()
            raw.send(ok(asked.target))
            return True

        return send

    with origin(answer) as server, using() as client:
        streams = [begun(client, f"{server.url}/{number}") for number in range(3)]
        job = selecting(*streams)
        gates[1].push(1)
        assert job.result() == (streams[1], None)
        assert streams[1].readall() == (b"/1", None)
        for gate in gates:
            gate.close()
        for stream in streams:
            stream.close()


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nbad\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b""])
def test_bad_responses(data: bytes) -> None:
    with origin(lambda asked: lambda raw: raw.send(data)) as server, using() as client, begun(client, server.url) as stream:
        while True:
            assert task.select(stream, timeout=WITHIN) == (stream, None)
            got, err = at_once(lambda: stream.read(1))
            if got is None:
                break
        assert isinstance(err, http.RequestError)


@contextmanager
def silent(**options: Any) -> Iterator[Any]:
    """A request that the server never answers."""
    hold: Any = channel.new()
    with (
        origin(lambda asked: lambda raw: hold.pop()) as server,
        using(**options) as client,
        begun(client, server.url) as stream,
    ):
        try:
            yield stream
        finally:
            hold.close()


def test_no_answer() -> None:
    with silent(head_timeout=30) as stream:
        assert task.select(stream, timeout=2)[0] is None
        assert task.select(stream, timeout=WITHIN) == (stream, None)
        data, err = at_once(lambda: stream.read(1))
        assert data is None
        assert err.phase == "head"
        assert "(after 30 ms)" in err


def test_a_server_that_still_takes_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a read, ``head_timeout`` begins anew as long as it does."""
    asked: list[Any] = []

    def held_back(self: Any, pace: Any) -> Any:
        asked.append(pace)
        return "a pace" if len(asked) < 3 else None

    monkeypatch.setattr(Stream, "held_back", held_back)
    with silent(head_timeout=10) as stream:
        assert task.select(stream, timeout=WITHIN) == (stream, None)
        assert asked == [None, "a pace", "a pace"]
        assert at_once(lambda: stream.read(1))[1].phase == "head"


def test_the_total_time_out() -> None:
    with silent(timeout=30) as stream:
        assert task.select(stream, timeout=WITHIN) == (stream, None)
        data, err = at_once(lambda: stream.read(1))
        assert data is None
        assert "30 ms in total" in err


def test_a_request_that_is_closed_meanwhile() -> None:
    with silent() as stream:
        job = selecting(stream)
        stream.close()
        assert job.result() == (stream, None)
        assert at_once(lambda: stream.read(1))[1].errno == errno.CLOSED


def test_a_request_that_was_not_sent() -> None:
    with origin(ok()) as server, using() as client:
        stream = taken(client.request("GET", server.url))
        assert task.select(stream) == (stream, None)
        assert "closewrite() comes before" in at_once(lambda: stream.read(1))[1]
        stream.close()


def test_a_response_while_the_request_is_written() -> None:
    """One task still writes, another selects: the answer ends the upload."""
    go: Any = channel.new()

    def script(conn: Any) -> None:
        conn.read("\r\n\r\n")
        conn.write("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        conn._stream.flush()
        go.pop()
        conn.close()

    with raw_server(script) as listener, using() as client:
        stream = taken(client.request("POST", f"http://127.0.0.1:{listener.port}"))
        stream.write("x")
        uploading = Job(lambda: stream.write(b"y" * 50_000_000))
        assert task.select(stream, timeout=WITHIN) == (stream, None)
        assert stream.read(3) == (b"big", None)
        uploading.result()
        stream.close()
        go.close()


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_doubled(seed: int) -> None:
    """Bodies come in pieces of any size; selects end by time-outs, deadlines and cancels."""
    rng = random.Random(seed)
    framings = ["Transfer-Encoding: chunked", "Content-Length: 20000", "Transfer-Encoding: chunked"]
    with request(framings[0]) as first, request(framings[1]) as second, request(framings[2], tls=True) as third:
        pairs = [first, second, third]
        streams = [stream for stream, _ in pairs]
        bodies = [rng.randbytes(20_000) for _ in pairs]
        got = [b""] * 3
        over = [False] * 3

        def send(number: int) -> None:
            data = bodies[number] if number == 1 else chunks(bodies[number], rng.choice([1, 7, 3000]))
            while data:
                size = rng.choice([1, 10, 500, 9000])
                pairs[number][1].send(data[:size])
                data = data[size:]
                if rng.random() < 0.3:
                    time.sleep(0)

        def reads() -> None:
            while not all(over):
                left = [streams[number] for number in range(3) if not over[number]]
                rng.shuffle(left)
                with time.deadline(rng.choice([0, 1, 1000])):
                    which, _ = task.select(*left, timeout=rng.choice([None, 0, 1]))
                if which is None:
                    continue
                number = streams.index(which)
                piece, err = at_once(partial(which.read, 1))
                if piece is None:
                    assert err == errno.EOF
                    over[number] = True
                    continue
                got[number] += piece
                if rng.random() < 0.2:
                    piece, err = which.read(min(300, len(bodies[number]) - len(got[number])), 0)
                    assert err in (None, errno.TIMEDOUT)
                    got[number] += piece or b""

        sending = [task.fork(send, number) for number in range(3)]
        interrupted(reads, rng)
        for each in sending:
            each.join()
        assert got == bodies


def test_memory_stays_flat() -> None:
    with request("Transfer-Encoding: chunked") as (stream, client):
        chan: Any = channel.new()

        def rounds(count: int) -> None:
            for _ in range(count):
                client.send("1\r\nx\r\n")
                assert task.select(chan, stream) == (stream, None)
                assert stream.read(1) == (b"x", None)
                assert task.select(chan, stream, timeout=0)[0] is None

        rounds(200)
        tracemalloc.start()
        try:
            rounds(100)
            before = tracemalloc.get_traced_memory()[0]
            rounds(3_000)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 20_000
        client.send("0\r\n\r\n")
        assert stream.readall() == (b"", None)
