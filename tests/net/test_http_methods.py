"""Methods of HTTP requests (RFC 9110, section 9), and the framing of the answers that have no body."""

from __future__ import annotations

from typing import Any

import pytest

from silly import check, errno
from silly.net import http, tls

from ..conftest import Logs
from ..helpers import Raw, asking, serving, spawn, turn
from . import authorities
from .http_support import Held, certs, hello
from .support import until

ORDINARY = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "M-SEARCH", "get", "!#$%&'*+-.^_`|~9z"]


@pytest.mark.parametrize("method", ORDINARY)
def test_every_method_reaches_the_handler(method: str) -> None:
    """Names are case-sensitive (section 9.1), and what a method means is the handler's."""

    def handler(stream: Any) -> None:
        body, err = stream.readall()
        assert err is None
        stream.respond(200, {"x-method": stream.method})
        stream.close(body)

    with asking(handler) as client:
        for _ in range(2):
            client.request("/", method, "Content-Length: 3", body="abc")
            response = client.response(method)
            assert response.header["x-method"] == method
            assert response.body == (b"" if method == "HEAD" else b"abc")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_not_unless_asked_for(method: str, logs: Any) -> None:
    logs.expect(f"INFO http: .*: {method} is not supported")
    handled = []
    with asking(handled.append) as client:
        client.request("/" if method == "TRACE" else "host:80", method)
        client.request("/smuggled")
        response = client.response()
        assert (response.status, response.header["connection"]) == (501, "close")
        client.eof()
    assert handled == []


def test_connect_is_refused(logs: Logs) -> None:
    logs.expect("INFO http: 127.0.0.1:\\d+: CONNECT is not supported")
    with serving(hello) as server, Raw.connect(server) as client:
        client.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().status == 501
        client.eof()


@pytest.mark.parametrize("method", ["trace", "Trace", "connect"])
def test_other_spellings_are_other_methods(method: str) -> None:
    with asking(hello) as client:
        client.request("/x", method)
        assert client.response().body == b"hello /x"


def test_trace_that_is_asked_for() -> None:
    with asking(hello, methods=["TRACE"]) as client:
        for _ in range(2):
            client.request("/x", "TRACE")
            assert client.response().body == b"hello /x"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
@pytest.mark.parametrize("field", ["Content-Length: 3", "Transfer-Encoding: chunked"])
def test_no_body_with_these(method: str, field: str, logs: Any) -> None:
    """Other parsers take what follows for the tunnel's, or for the next request."""
    logs.expect(f"INFO http: .*: {method} with a body")
    handled = []
    with asking(handled.append, methods=["TRACE", "CONNECT"]) as client:
        client.request("/" if method == "TRACE" else "host:80", method, field, body="3\r\nabc\r\n0\r\n\r\n")
        response = client.response()
        assert (response.status, response.header["connection"]) == (400, "close")
        client.eof()
    assert handled == []


def test_connect_with_a_length_of_zero() -> None:
    with asking(lambda stream: stream.detach(), methods=["CONNECT"]) as client:
        client.request("host:80", "CONNECT", "Content-Length: 0")
        assert client.read("\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_the_methods_of_a_handler() -> None:
    """A router says by an attribute which it has routes for."""

    class Routes:
        methods = frozenset(("TRACE",))

        def __call__(self, stream: Any) -> None:
            hello(stream)

    with asking(Routes()) as client:
        client.request("/", "TRACE")
        assert client.response().status == 200


@pytest.mark.parametrize("bad", ["CONNECT", 5, None])
def test_methods_is_a_list(bad: Any) -> None:
    with pytest.raises(TypeError):
        http.listen("127.0.0.1:0", hello, methods=bad)


# ---- CONNECT (section 9.3.6) ----------------------------------------------------------------------------------------


def echo(stream: Any) -> None:
    """A tunnel to a far end that echoes."""
    conn, err = stream.detach()
    assert err is None
    while True:
        data, err = conn.read(1)
        if data is None:
            break
        conn.write(data)


@pytest.mark.parametrize("target", ["example.org:443", "127.0.0.1:1", "[::1]:65535"])
def test_a_tunnel(target: str) -> None:
    seen = []

    def handler(stream: Any) -> None:
        seen.append((stream.method, stream.path, stream.target, dict(stream.query), stream.header["host"]))
        echo(stream)

    with asking(handler, methods=["CONNECT"]) as client:
        client.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
        head = client.read("\r\n\r\n")
        # Section 9.3.6: a 2xx has neither of them.
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-length" not in head.lower()
        assert b"transfer-encoding" not in head.lower()
        for data in (b"one", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256))):
            client.send(data)
            assert client.read(len(data)) == data
        client.half_close()
        client.eof()
    assert seen == [("CONNECT", target, target, {}, target)]


@pytest.mark.parametrize("dribbled", [False, True])
def test_bytes_glued_to_the_head(dribbled: bool) -> None:
    """They are the tunnel's, whatever they look like."""
    with asking(echo, methods=["CONNECT"]) as client:
        glued = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
        head = b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"
        if dribbled:
            client.dribble(head)
            client.send(glued)
        else:
            client.send(head + glued)
        client.read("\r\n\r\n")
        assert client.read(len(glued)) == glued


def test_a_tunnel_over_tls() -> None:
    with serving(echo, methods=["CONNECT"], certs=certs()) as server:
        conn = check(tls.connect(f"127.0.0.1:{server.port}", "localhost", ca=authorities.root().pem))
        with Raw(conn) as client:
            client.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nglued")
            client.read("\r\n\r\n")
            assert client.read(5) == b"glued"


def test_the_tunnel_ends_with_its_handler() -> None:
    hold = Held()
    with asking(hold.handler, methods=["CONNECT"]) as client:
        client.request("a:80", "CONNECT")
        conn, err = hold.pop().detach()
        assert err is None
        conn.write("last words")
        client.read("\r\n\r\n")
        hold.release()
        assert client.rest() == b"last words"
        assert conn.write("x") == (False, errno.CLOSED)


def test_a_tunnel_after_other_requests() -> None:
    def handler(stream: Any) -> None:
        (echo if stream.method == "CONNECT" else hello)(stream)

    with asking(handler, methods=["CONNECT"]) as client:
        client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nCONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\ntunnel")
        assert client.response().body == b"hello /a"
        client.read("\r\n\r\n")
        assert client.read(6) == b"tunnel"


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_refused_connect_closes(status: int) -> None:
    """What follows may have been meant for the tunnel: it is no request."""
    handled = []

    def handler(stream: Any) -> None:
        handled.append(stream.path)
        stream.respond(status)
        stream.close("no")

    with asking(handler, methods=["CONNECT"]) as client:
        client.request("a:80", "CONNECT")
        client.request("/smuggled")
        response = client.response()
        assert (response.status, response.body, response.header["connection"]) == (status, b"no", "close")
        client.eof()
    assert handled == ["a:80"]


def test_a_connect_that_nobody_answers(logs: Any) -> None:
    logs.expect("INFO http: .*: CONNECT 'a:80': the handler did not respond")
    with asking(lambda stream: None, methods=["CONNECT"]) as client:
        client.request("a:80", "CONNECT")
        response = client.response()
        assert (response.status, response.header["connection"]) == (500, "close")
        client.eof()


def test_a_tunnel_whose_handler_raises(logs: Any) -> None:
    logs.expect("ERROR exception in the handler of CONNECT a:80")

    def handler(stream: Any) -> None:
        stream.detach()
        raise ZeroDivisionError

    with asking(handler, methods=["CONNECT"]) as client:
        client.request("a:80", "CONNECT")
        assert client.read("\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        client.eof()


def test_detach_once_and_of_connect_alone() -> None:
    hold = Held()
    with asking(hold.handler, methods=["CONNECT"]) as client:
        client.request()
        stream = hold.pop()
        with pytest.raises(ValueError, match="CONNECT, not GET"):
            stream.detach()
        hold.go()
        assert client.response().status == 200
        client.request("a:80", "CONNECT")
        stream = hold.pop()
        stream.respond(407)
        assert stream.detach() == (None, "the request has been answered already")
        hold.go()
        assert client.response().status == 407
        client.eof()


def test_detach_twice() -> None:
    hold = Held()
    with asking(hold.handler, methods=["CONNECT"]) as client:
        client.request("a:80", "CONNECT")
        stream = hold.pop()
        assert stream.detach()[1] is None
        assert stream.detach() == (None, "the request has been answered already")
        client.read("\r\n\r\n")
        client.silent()
        hold.release()
        client.eof()


@pytest.mark.parametrize("target", ["a", "a:", "a:b", "a:99999", "/", "*", "http://a:80/", "a:80/", "u@a:80", ":80"])
def test_a_bad_connect_target(target: str, logs: Any) -> None:
    logs.expect("INFO http: ")
    with asking(hello, methods=["CONNECT"]) as client:
        client.request(target, "CONNECT")
        assert client.response().status == 400
        client.eof()


# ---- OPTIONS * (section 9.3.7) --------------------------------------------------------------------------------------


def test_options_of_the_server() -> None:
    seen = []

    def handler(stream: Any) -> None:
        seen.append((stream.path, stream.target, dict(stream.query)))
        stream.respond(204, {"allow": "GET, HEAD"})

    with asking(handler) as client:
        client.request("*", "OPTIONS")
        response = client.response()
        assert (response.status, response.header["allow"]) == (204, "GET, HEAD")
        client.silent()
    assert seen == [("*", "*", {})]


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "*"), ("HEAD", "*"), ("OPTIONS", "**"), ("OPTIONS", "*?x"), ("options", "*")]
)
def test_no_other_star(method: str, target: str, logs: Any) -> None:
    logs.expect("INFO http: .*: bad request target")
    with asking(hello) as client:
        client.request(target, method)
        assert client.response().status == 400
        client.eof()


# ---- answers without a body (RFC 9110, section 6.4.1; RFC 9112, section 6.3) ----------------------------------------


@pytest.mark.parametrize("way", ["close", "write", "flush", "nothing", "length", "chunked"])
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 205), ("GET", 304), ("HEAD", 304)]
)
def test_no_body_goes_out(method: str, status: int, way: str) -> None:
    """Whatever the handler does; and the next answer starts right behind the head."""

    def handler(stream: Any) -> None:
        given = {"length": {"content-length": 4}, "chunked": {"transfer-encoding": "chunked"}}.get(way, {})
        assert stream.respond(status, given)
        if way == "flush":
            assert stream.flush()
        if way in ("write", "chunked"):
            assert stream.write("bo")
            assert stream.write("dy")
        if way != "nothing":
            assert stream.close("body" if way in ("close", "length") else None)

    with asking(handler) as client:
        for _ in range(3):
            client.request("/", method)
        for _ in range(3):
            head = client.read("\r\n\r\n").lower()
            assert head.startswith(b"http/1.1 %d " % status)
            length, chunked = b"\r\ncontent-length: " in head, b"\r\ntransfer-encoding: chunked\r\n" in head
            assert not (length and chunked)
            if status == 204:
                assert not length
                assert not chunked
            elif status == 205:
                assert b"\r\ncontent-length: 0\r\n" in head
                assert not chunked
            elif way == "length":
                assert b"\r\ncontent-length: 4\r\n" in head
        client.silent()


@pytest.mark.parametrize("status", [204, 205, 304])
def test_no_body_goes_out_in_http10(status: int) -> None:
    with asking(lambda stream: (stream.respond(status), stream.close("body"))) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        head, _, body = client.rest().partition(b"\r\n\r\n")
        assert body == b""
        assert b"chunked" not in head


def test_head_is_framed_as_get_would_be() -> None:
    with asking(lambda stream: (stream.respond(200, {"etag": '"1"'}), stream.close("body"))) as client:
        client.request("/", "GET")
        get = client.response()
        client.request("/", "HEAD")
        head = client.response("HEAD")
        assert {**get.header, "date": ""} == {**head.header, "date": ""}


def test_an_error_to_head_has_no_body(logs: Any) -> None:
    logs.expect("ERROR exception in the handler of HEAD /")

    def handler(stream: Any) -> None:
        raise ZeroDivisionError

    with asking(handler) as client:
        client.request("/", "HEAD")
        assert client.read("\r\n\r\n").startswith(b"HTTP/1.1 500 ")
        client.eof()


def test_a_bad_body_of_head_is_answered_without_one(logs: Any) -> None:
    def handler(stream: Any) -> None:
        assert not stream.readall()[0]

    logs.expect("bad chunk size")
    with asking(handler) as client:
        client.request("/", "HEAD", "Transfer-Encoding: chunked", body=b"nonsense\r\n")
        head = client.read("\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        client.half_close()
        client.eof()


def test_a_slow_tunnel_is_held_back() -> None:
    """What a tunnel's handler writes waits for the client, as all output does."""
    hold = Held()
    with asking(hold.handler, methods=["CONNECT"]) as client:
        client.request("a:80", "CONNECT")
        conn, _ = hold.pop().detach()
        client.read("\r\n\r\n")
        client.conn.limit(1)
        size = 16 * 2**20

        def fill() -> None:
            for _ in range(size // 65536):
                conn.write(bytes(65536))

        filling = spawn(fill)
        until(lambda: conn.unsentbytes() > 2**20)
        turn(20)
        assert conn.unsentbytes() <= 2**20 + 65536
        assert not len(filling)
        client.close()
        hold.release()
        assert filling.pop()[1] is None
