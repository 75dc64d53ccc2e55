"""Connections that end early on either side: what is answered, what the access log says, and what is no error."""

from __future__ import annotations

import socket
import tempfile
from io import StringIO
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import check, errno, time
from silly._core import scheduler
from silly.net import http, tcp, tls, websocket
from silly.sync import channel

from ..children import in_thread
from ..helpers import WITHIN, Peer, Raw, asking, serving, turn
from .http_support import all_of, small
from .support import until

MIB = 2**20


def test_an_early_answer_to_a_long_upload_arrives() -> None:
    """The rest is taken for as long as ``linger`` lasts: a reset would destroy the answer before the client has read it."""

    def handler(stream: Any) -> None:
        stream.respond(413)
        stream.closewrite("too long")

    with serving(handler) as server, Raw.connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n")
        for _ in range(60):
            assert client.conn.write(bytes(1_000_000)) == (True, None)
        response = client.response()
        assert (response.status, response.body) == (413, b"too long")
        client.half_close()


@pytest.mark.parametrize("fields", [[], ["Connection: close"]], ids=["keep-alive", "close"])
def test_an_early_answer_before_the_upload_has_begun(fields: list[str]) -> None:
    """Nothing of the body is there when the server answers and closes; what comes then is taken all the same."""

    def handler(stream: Any) -> None:
        stream.respond(413)
        stream.closewrite("too long")

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 10000000", *fields)
        response = client.response()
        assert (response.status, response.body) == (413, b"too long")
        assert response.header["connection"] == "close"
        client.eof()
        for _ in range(100):
            client.send(bytes(100_000))
        until(lambda: not client.conn.unsentbytes())
        assert client.conn._stream.werr is None
        client.half_close()


@pytest.mark.parametrize("upgrade", [False, True], ids=["http", "websocket"])
def test_a_handler_that_closes_before_it_answers(upgrade: bool, logs: Any) -> None:
    """With the body unread. Nothing was written, so the connection is gone at once, and the client's writes fail."""
    logs.expect("the handler did not respond")
    fields = ["Upgrade: websocket", "Connection: Upgrade"] if upgrade else []

    def handler(stream: Any) -> None:
        until(stream.conn.unreadbytes)
        stream.conn.close()

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 10000000", *fields)
        client.send(bytes(1000))
        until(lambda: not client.conn.write("more"))


@pytest.mark.parametrize("asked", [False, True], ids=["keep-alive", "close"])
def test_how_long_a_connection_outlives_its_last_response(asked: bool) -> None:
    """A client that did not ask for the end may be sending its next request, which must not
    be answered by a reset; one that did sends nothing more, and is not waited for."""

    def handler(stream: Any) -> None:
        stream.respond(200, {"connection": "close"})
        stream.closewrite("bye")

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/", "GET", *(["Connection: close"] if asked else []))
        assert client.response().body == b"bye"
        client.eof()
        if not asked:
            for _ in range(3):
                client.request("/next")
                turn()
            assert client.conn._stream.werr is None
            assert server._places.taken == 1
            client.half_close()
        until(lambda: server._places.taken == 0)


def logged(handler: Any, size: int, logs: Any) -> str:
    """The access log's line where a client takes ``size`` bytes of a response of 40 MiB, and goes."""
    lines = StringIO()
    ended = []

    def counting(stream: Any) -> None:
        handler(stream)
        ended.append(True)

    log = http.AccessLog("json", lines)
    with serving(counting, accesslog=log, limits=silly.Limits(unsent=MIB)) as server:
        with Raw.connect(server) as client:
            client.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.request()
            client.conn.limit(size)
            client.read(size)
            client.reset()
        until(lambda: ended and lines.getvalue())
    return lines.getvalue()


def test_the_size_of_a_file_that_was_cut_off(logs: Any) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(40 * MIB)

        def handler(stream: Any) -> None:
            stream.respond(200, {"content-length": 40 * MIB})
            assert not stream.sendfile(file.fileno(), 0, 40 * MIB)

        line = logged(handler, MIB, logs)
    size = int(line.split('"size": ')[1].split(",")[0])
    assert MIB // 2 < size < 40 * MIB


def test_a_file_is_the_whole_body() -> None:
    """Behind a head that has gone out it would be preceded by a second one."""
    refused = []

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": 3})
        stream.flush()
        refused.append(stream.sendfile(file.fileno(), 0, 3))
        stream.closewrite("abc")

    with tempfile.TemporaryFile() as file, asking(handler) as client:
        file.write(b"xyz")
        file.flush()
        client.request()
        assert client.response().body == b"abc"
        client.silent()
    why = "sendfile of 3 bytes needs a content-length of 3, and nothing written before"
    assert refused == [(False, why)]


def test_a_handler_that_stops_writing_is_no_error(logs: Any) -> None:
    """The client has left: that the body is shorter than announced is nobody's mistake."""

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": 40 * MIB})
        while stream.write(bytes(MIB)):
            pass

    line = logged(handler, MIB, logs)
    assert '"status": 200' in line


def test_a_connection_too_many_is_in_the_access_log() -> None:
    lines = StringIO()

    def handler(stream: Any) -> None:
        stream.respond(204)

    log = http.AccessLog("common", lines)
    with (
        serving(handler, accesslog=log, limits=silly.Limits(connections=1)) as server,
        Raw.connect(server) as first,
        Raw.connect(server) as second,
    ):
        first.request()
        assert first.response().status == 204
        assert second.response().status == 503
        until(lambda: lines.getvalue().count("\n") == 2)
    assert ' "-" 503 21\n' in lines.getvalue()


def test_limits_are_checked_everywhere() -> None:
    def nothing(conn: Any) -> None:
        pass

    for call in (
        lambda: tcp.listen("127.0.0.1:0", nothing, limits=5),
        lambda: tcp.connect("127.0.0.1:1", limits=5),
        lambda: tls.listen("127.0.0.1:0", [{}], nothing, limits=5),
        lambda: tls.connect("127.0.0.1:1", limits=5),
        lambda: http.listen("127.0.0.1:0", nothing, limits=5),
        lambda: http.newclient(limits=5),
        lambda: websocket.connect("ws://127.0.0.1:1", limits=5),
    ):
        with pytest.raises(TypeError, match=r"limits is a silly\.Limits, not int"):
            call()


@pytest.mark.parametrize("who", ["handler", "server"])
def test_a_response_survives_requests_that_come_after_the_last(who: str) -> None:
    """RFC 9112, section 9.6: to close at once would answer them with a reset, which destroys the response on its way."""
    size = 4_000_000

    def handler(stream: Any) -> None:
        if who == "server":
            server.close()
        stream.respond(200, {"connection": "close"} if who == "handler" else {})
        stream.close(b"x" * size)

    def slow_reader() -> tuple[int, str]:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
            got = len(client.recv(100))
            for _ in range(20):
                client.sendall(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
                got += len(client.recv(100_000))
            while data := client.recv(65536):
                got += len(data)
            return got, "end"

    with serving(handler) as server:
        got, end = in_thread(slow_reader)
    assert got > size
    assert end == "end"


@pytest.mark.parametrize("ending", ["returns", "closes", "writes on"])
def test_after_a_write_that_failed_the_response_is_not_completed(ending: str) -> None:
    """Chunks would be missing in the middle of a body, or at its end, that is ended in good order all the same."""
    done = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        with time.deadline(20):
            while stream.write(b"x" * 100_000):
                pass
            assert not stream.write(b"left out")
        if ending == "writes on":
            assert not stream.write(b"more")
        if ending == "closes":
            assert not stream.closewrite(b"the end")
        done.push(True)

    with serving(handler, limits={"unsent": 100_000}) as server, small(server) as client:
        client.request()
        done.pop()
        got, err = all_of(client)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert err == errno.EOF
    assert b"left out" not in got
    assert b"the end" not in got
    assert b"more" not in got
    assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("error", [ValueError, GreenletExit])
def test_a_body_that_ends_with_the_connection_is_cut_by_a_reset(error: type[BaseException], logs: Any) -> None:
    """To HTTP/1.0 the end of the connection is the end of the body: one that is incomplete must not look like it."""
    go = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("the first half")
        stream.flush()
        go.pop()
        raise error

    if error is ValueError:
        logs.expect(r"exception in the handler")
    with serving(handler) as server, Raw.connect(server) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        client.read("the first half")
        go.push(True)
        assert client.conn.read(1, WITHIN) == (None, errno.CONNRESET)


@pytest.mark.parametrize("ending", ["the handler returns", "its task is ended", "the server drains"])
def test_a_body_that_was_cut_ends_by_a_reset(ending: str) -> None:
    """A write that failed has left a piece out. The peer has taken all the others, so nothing
    but a reset tells it that the body is incomplete."""
    held: list[Any] = []
    go = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        with time.deadline(20):
            while stream.write(b"x" * 100_000):
                pass
        held.append(stream)
        go.pop()
        if ending == "its task is ended":
            raise GreenletExit

    with serving(handler, limits={"unsent": 100_000}) as server, small(server) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        until(lambda: held)
        client.conn.limit(2**30)
        until(lambda: held[0].conn.unsentbytes() == 0)
        if ending == "the server drains":
            assert not server.drain(20)
        go.push(True)
        got, err = all_of(client)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert err == errno.CONNRESET


def test_a_client_that_reads_only_after_its_upload_gets_a_long_answer() -> None:
    """What it sends is taken before the answer is delivered, and not the other way round: it
    reads nothing of the answer before all of the upload has gone."""
    size = 4 * MIB

    def handler(stream: Any) -> None:
        stream.respond(413)
        stream.closewrite(bytes(size))

    with serving(handler, limits={"unsent": 2 * size}) as server, small(server) as client:
        client.request("/", "POST", "Content-Length: 40000000")
        with time.deadline(WITHIN):
            for _ in range(40):
                assert client.conn.write(bytes(1_000_000)) == (True, None)
        client.conn.limit(2**30)
        response = client.response()
        assert (response.status, len(response.body)) == (413, size)


def test_what_is_dropped_unsent_ends_in_a_reset() -> None:
    """The limit ``linger`` cuts off a body that ends with the connection: a FIN would say that it is complete."""

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.closewrite(bytes(12 * MIB))

    def accept(conn: Any) -> None:
        conn.write(bytes(12 * MIB))
        conn.close()

    limits = silly.Limits(linger=50, unsent=16 * MIB)
    listener, _ = tcp.listen("127.0.0.1:0", accept, limits=limits)
    assert listener is not None
    with listener, small(listener) as client:
        client.read(1)
        until(lambda: scheduler.loop.work == 0)
        got, err = all_of(client)
    assert len(got) < 12 * MIB
    assert err == errno.CONNRESET


def test_a_response_is_over_when_its_handler_has_raised(logs: Any) -> None:
    """A task that the handler left behind can't go on with it, which would look complete."""
    logs.expect(r"exception in the handler")
    left: list[Any] = []

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("the first half")
        left.append(stream)
        raise ValueError

    with asking(handler) as client:
        client.request()
        assert client.read("the first half").endswith(b"e\r\nthe first half")
        client.read(2)
        assert left[0].write("the rest") == (False, "the handler raised")
        assert left[0].closewrite() == (False, "the handler raised")
        client.eof()


def test_a_response_without_a_body_is_not_cut_by_a_reset(logs: Any) -> None:
    """Its head says all that there is, and a reset might destroy it."""
    logs.expect(r"exception in the handler")

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.flush()
        raise ValueError

    with asking(handler) as client:
        client.send("HEAD / HTTP/1.0\r\n\r\n")
        assert client.read("\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        client.eof()


def test_a_websocket_is_closed_though_its_task_is_ended() -> None:
    def handler(stream: Any) -> None:
        check(websocket.upgrade(stream))
        raise GreenletExit

    with serving(handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        assert peer.get_close() == (1000, "")
        peer.put_close()
        peer.eof()
