"""Connections that end early on either side: what is answered, what the access log says, and what is no error."""

from __future__ import annotations

import socket
import tempfile
from io import StringIO
from typing import Any

import pytest

import silly
from silly.net import http, tcp, tls, websocket

from ..children import in_thread
from ..helpers import Raw, serving, turn
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
