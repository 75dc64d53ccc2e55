"""What becomes of a connection whose task is cancelled (``Task.cancel``), and of one that goes on after a blow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import silly
from silly import errno, task, time
from silly._core.scheduler import Cancelled
from silly.net import _output, _stream, http, tcp, websocket
from silly.sync import channel

from ..blows import again, at_function
from ..conftest import Logs
from ..helpers import (
    WITHIN,
    Raw,
    asking,
    both_sides,
    raw_server,
    serving,
    turn,
)
from . import authorities
from .http_support import small
from .support import Job, until

CANCELLED = r"INFO http: 127.0.0.1:\d+: GET '/': the handler was cancelled: "


class Victim:
    """An HTTP handler whose task the test cancels: it does ``first(stream)``, and then waits."""

    def __init__(
        self, first: Callable[[Any], object] = lambda stream: None, wait: Callable[[Any], object] | None = None
    ) -> None:
        self._first = first
        self._wait = wait or (lambda stream: time.sleep(WITHIN))
        self.task: Any = None
        self.stream: Any = None
        self.ended = False

    def __call__(self, stream: Any) -> None:
        self.task = task.running()
        try:
            self._first(stream)
            self._wait(stream)
        finally:
            self.ended = True

    def cancel(self) -> None:
        until(lambda: self.task is not None and task.status(self.task) in ("WAIT", "SLEEP"))
        assert self.task.cancel()


# ---- HTTP handlers -------------------------------------------------------------------


@pytest.mark.parametrize(
    "first", [lambda stream: None, lambda stream: stream.respond(200, {"x-mine": "1"})], ids=["", "responded"]
)
def test_a_cancelled_handler_answers_503(first: Callable[[Any], object], logs: Logs) -> None:
    logs.expect(CANCELLED + "answered 503$")
    victim = Victim(first)
    with asking(victim) as client:
        client.request()
        victim.cancel()
        answer = client.response()
        assert (answer.status, answer.body) == (503, b"Service Unavailable\n")
        assert answer.header["connection"] == "close"
        assert "x-mine" not in answer.header
        client.eof()
    assert victim.ended
    assert victim.task.join() == (None, "cancelled")
    assert len(logs.lines) == 1


def test_503_arrives_while_the_body_still_comes(logs: Logs) -> None:
    logs.expect("the handler was cancelled: answered 503$")
    victim = Victim()
    with asking(victim) as client:
        client.request("/", "POST", "Content-Length: 3000000", body=b"x" * 1000)
        victim.cancel()
        assert client.response().status == 503
        for _ in range(20):
            client.send(b"x" * 100_000)
            turn()
        client.half_close()
        client.eof()


def begin(stream: Any) -> None:
    stream.respond(200)
    stream.write("begun")
    stream.flush()


def test_a_response_that_has_begun_is_cut(logs: Logs) -> None:
    logs.expect(CANCELLED + "the response was cut$")

    victim = Victim(begin)
    with asking(victim) as client:
        client.request()
        assert client.read("begun").endswith(b"5\r\nbegun")
        victim.cancel()
        assert client.rest() == b"\r\n"


def test_a_body_up_to_the_end_is_reset(logs: Logs) -> None:
    """Without a reset the part would look like the whole."""
    logs.expect(CANCELLED + "the response was cut$")

    victim = Victim(begin)
    with asking(victim) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        client.read("begun")
        victim.cancel()
        assert client.conn.read(1, WITHIN) == (None, errno.CONNRESET)


def test_an_answer_that_was_given_arrives() -> None:
    victim = Victim(lambda stream: stream.answer(200, "all of it"))
    with asking(victim) as client:
        client.request()
        victim.cancel()
        assert client.response().body == b"all of it\n"
        client.eof()


def test_a_handler_that_goes_on_keeps_the_connection() -> None:
    def wait(stream: Any) -> None:
        try:
            time.sleep(WITHIN)
        except Cancelled:
            stream.answer(200, "went on")

    victim = Victim(wait=wait)
    with asking(victim) as client:
        for _ in range(2):
            victim.task = None
            client.request()
            victim.cancel()
            assert client.response().body == b"went on\n"


def test_the_access_log_has_503(logs: Logs) -> None:
    logs.expect("the handler was cancelled")
    with tempfile.NamedTemporaryFile() as file:
        victim = Victim()
        with http.AccessLog("common", file.name) as log, asking(victim, accesslog=log) as client:
            client.request()
            victim.cancel()
            assert client.response().status == 503
            client.eof()
            until(lambda: b'" 503 ' in file.read())


def test_a_second_blow_ends_a_delivery_that_waits(logs: Logs) -> None:
    """The first one has cut the answer, of which the peer takes nothing."""
    logs.expect("the handler was cancelled: the response was cut$")

    def begin(stream: Any) -> None:
        stream.respond(200)
        while not stream.conn._stream.blocked:
            stream.write(b"x" * 100_000)

    victim = Victim(begin)
    with serving(victim) as server, small(server) as client:
        client.request()
        victim.cancel()
        until(lambda: victim.ended and task.status(victim.task) == "WAIT")
        victim.task.cancel()
        until(lambda: victim.task.done)


def answered(victim: Victim, size: int) -> Any:
    """A handler that answers with ``size`` bytes at once, more than a small client's system takes."""

    def handler(stream: Any) -> None:
        victim.task = task.running()
        victim.stream = stream.conn._stream
        victim.stream.limits = silly.Limits(unsent=10_000_000)
        stream.respond(200, {"content-length": size})
        stream.closewrite(b"y" * size)
        if "x-last" in stream.header:
            stream._close = True

    return handler


def no_reset(client: Raw, victim: Victim, more: bytes, size: int) -> None:
    """The server's system has got the whole answer, and not delivered it. If the socket is closed now, it answers what the peer
    sends with a reset, and drops the rest of the answer."""
    until(lambda: victim.task.done)
    turn(3)
    client.send(more)
    turn(3)
    client.half_close()
    client.conn.limit(None)
    assert client.response().body == b"y" * size
    client.eof()


def test_a_blow_while_the_rest_of_a_body_is_dropped() -> None:
    victim = Victim()
    with serving(answered(victim, 150_000)) as server, small(server) as client:
        client.request("/", "POST", "Content-Length: 60000")
        until(lambda: victim.stream is not None and not victim.stream.unsent)
        victim.cancel()
        no_reset(client, victim, b"x" * 60_000, 150_000)


def test_a_blow_while_the_last_answer_is_delivered() -> None:
    size = 8_000_000
    victim = Victim()
    with serving(answered(victim, size)) as server, small(server) as client:
        client.request("/", "GET", "x-last: 1")
        victim.cancel()
        until(lambda: victim.task.done)
        first = client.read("\r\n\r\n")
        got = 0
        while victim.stream.unsent:
            client.read(8000)
            got += 8000
        assert got < size - 50_000
        client.send(b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
        turn(3)
        client.half_close()
        client.conn.limit(None)
        client.read(size - got)
        client.eof()
        assert first.startswith(b"HTTP/1.1 200")


def test_a_blow_between_two_requests_ends_the_connection() -> None:
    tasks: list[Any] = []

    def handler(stream: Any) -> None:
        tasks.append(task.running())
        stream.answer(200, "ok")

    with asking(handler) as client:
        client.request()
        assert client.response().status == 200
        until(lambda: task.status(tasks[0]) == "WAIT")
        tasks[0].cancel()
        client.eof()


def test_a_file_that_a_blow_interrupts_ends_the_connection() -> None:
    """Also where the handler goes on: a part of the body is missing."""
    size = 5_000_000

    def handler(stream: Any) -> None:
        victim.task = task.running()
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            stream.respond(200, {"content-length": size})
            try:
                stream.sendfile(file.fileno(), 0, size)
            except Cancelled:
                pass

    victim = Victim()
    with serving(handler) as server, small(server) as client:
        client.request()
        victim.cancel()
        until(lambda: victim.task.done)
        client.conn.limit(None)
        assert len(client.rest()) < size


def test_an_upgrade_that_a_blow_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 101 went out, so no other answer may follow it."""
    real = _stream.Stream.write

    def write(self: Any, data: bytes) -> str | None:
        err = real(self, data)
        if data.startswith(b"HTTP/1.1 101"):
            raise Cancelled
        return err

    monkeypatch.setattr(_stream.Stream, "write", write)
    with asking(lambda stream: websocket.upgrade(stream)) as client:
        fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        client.request("/", "GET", *fields, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        assert client.response().status == 101
        client.eof()


# ---- WebSockets ----------------------------------------------------------------------


@contextmanager
def upgrading(block: Callable[[Any], object]) -> Iterator[tuple[Victim, Any]]:
    """A handler that runs ``block(sock)`` and then waits, and a client of it."""
    victim = Victim(wait=lambda stream: block(silly.check(websocket.upgrade(stream))))
    with serving(victim) as server:
        sock = silly.check(websocket.connect(f"ws://127.0.0.1:{server.port}"))
        yield victim, sock
        sock.close()


def _in_with(sock: Any) -> None:
    with sock:
        sock.read()


def _in_message(sock: Any) -> None:
    with sock, sock.message("text") as message:
        message.write("a part")
        time.sleep(WITHIN)


@pytest.mark.parametrize("block", [lambda sock: sock.read(), _in_with, _in_message], ids=["left open", "with", "message"])
def test_a_cancelled_websocket_is_closed_with_1001(block: Callable[[Any], object], logs: Logs) -> None:
    with upgrading(block) as (victim, sock):
        victim.cancel()
        while (got := sock.read(WITHIN))[1] not in ("close", None, "closed"):
            pass
        assert got[0] is not None
        assert sock.closecode == 1001
        until(lambda: victim.task.done)
    assert logs.lines == []


def test_a_cancelled_client_closes_with_1001() -> None:
    upgraded: Any = channel.new()
    begun = []

    def work() -> None:
        sock = silly.check(websocket.connect(f"ws://127.0.0.1:{server.port}"))
        begun.append(True)
        _in_with(sock)

    def handler(stream: Any) -> None:
        sock = silly.check(websocket.upgrade(stream))
        sock.read()
        upgraded.push(sock.closecode)

    with serving(handler) as server:
        job = Job(work)
        until(
            lambda: (
                (task.status(job.task) == "WAIT" and "websocket" in str(job.task._what)) or "connection" in str(job.task._what)
            )
        )
        turn(5)
        job.task.cancel()
        assert upgraded.pop() == (1001, None)
        with pytest.raises(Cancelled):
            job.result()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("final", [False, True])
def test_a_fragment_that_a_blow_interrupts_goes_out(compress: bool, final: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message goes on after it, with the right kind of frame, and the connection with other messages."""
    monkeypatch.setattr(_output, "FAIR_SHARE", 0)
    monkeypatch.setattr("silly._wire.deflate.SHARE", 1)
    parts = ["a" * 70_000, "b" * 70_000, "end"]
    blows = at_function("Sending.send_fragment" if compress else "Output._write_more")

    def write() -> list[str]:
        struck = []
        message = client.message("text")
        message.__enter__()
        for part in parts[: 1 if final else 3]:
            try:
                message.write(part)
            except Cancelled:
                struck.append("write")
        try:
            message.__exit__(None, None, None)
        except Cancelled:
            struck.append("end")
        client.write("after", "text")
        return struck

    with both_sides(compression=compress) as (server, client):
        reader = Job(lambda: [server.read(WITHIN)[0] for _ in range(2)])
        with blows.armed():
            assert len(Job(write).result()) == 1
        assert reader.result() == ["".join(parts[: 1 if final else 3]), "after"]


# ---- streams, handshakes, clients ----------------------------------------------------


def test_a_cancelled_tcp_handler_closes_by_reference_count() -> None:
    """No collector is needed: the traceback is nobody's."""
    import gc

    tasks: list[Any] = []

    def handler(conn: Any) -> None:
        tasks.append(task.running())
        conn.read(1)

    listener = silly.check(tcp.listen("127.0.0.1:0", handler))
    gc.disable()
    try:
        with listener, Raw.connect(listener) as client:
            until(lambda: tasks and task.status(tasks[0]) == "WAIT")
            tasks[0].cancel()
            client.eof()
    finally:
        gc.enable()


def test_a_cancelled_handshake_gives_its_place_back(logs: Logs) -> None:
    """Whether its task has begun or not; the next one is let in."""
    forked: list[Any] = []
    limits = silly.Limits(connections=1)
    entry, root = authorities.server().entry, authorities.root().pem

    def created(new: Any) -> None:
        forked.append(new)
        if early:
            new.cancel()

    for early in (True, False):
        forked.clear()
        with serving(lambda stream: stream.answer(200, "in"), certs=[entry], limits=limits) as server:
            task.hook(create=created)
            try:
                with Raw.connect(server) as client:
                    until(lambda: forked)
                    if not early:
                        until(lambda: task.status(forked[0]) == "WAIT")
                        forked[0].cancel()
                    client.eof()
            finally:
                task.hook()
            turn(3)
            with http.newclient(ca=root) as asker:
                assert silly.check(asker.get(f"https://localhost:{server.port}/")).status == 200


@pytest.mark.parametrize("scheme", ["wss", "ws"])
def test_a_cancelled_connect_leaves_no_connection(scheme: str) -> None:
    """The server sees its end, in a TLS handshake and in that of a WebSocket."""
    ends: Any = channel.new()

    def silent(conn: Any) -> None:
        conn.read("never there", WITHIN)
        ends.push(conn._stream.err)

    with silly.check(tcp.listen("127.0.0.1:0", silent)) as listener:
        job = Job(lambda: websocket.connect(f"{scheme}://localhost:{listener.port}/"))
        until(lambda: "the connection with" in str(job.task._what))
        turn(3)
        job.task.cancel()
        with pytest.raises(Cancelled):
            job.result()
        assert ends.pop() == (errno.EOF, None)


def test_a_blow_while_a_request_waits_for_the_100() -> None:
    """Its body goes out, and so the request is not repeated when the connection breaks: only its head was kept for that."""
    seen: list[bytes] = []

    def script(conn: Any) -> None:
        blows.spared.add(task.running())
        peer = Raw(conn)
        with peer:
            seen.append(peer.read("\r\n\r\n"))
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            seen.append(peer.read("\r\n\r\n"))
            seen.append(peer.read("piece"))

    def ask() -> Any:
        with http.newclient() as client:
            url = f"http://127.0.0.1:{listener.port}/"
            silly.check(client.get(url))
            with silly.check(client.request("PUT", url, {"expect": "100-continue"})) as stream:
                again(stream.write, "piece")
                again(stream.closewrite)
                return again(stream.waitresponse)

    blows = at_function("Stream.fill", 1)
    with raw_server(script) as listener:
        with blows.armed():
            ok, err = Job(ask).result()
        assert (ok, err.phase) == (False, "head")
        assert blows.count == 1
    assert [line.split(b" ")[0] for line in seen[:2]] == [b"GET", b"PUT"]
    assert seen[2] == b"5\r\npiece"
