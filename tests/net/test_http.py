"""The HTTP/1.1 server, on real sockets."""

from __future__ import annotations

import asyncio
import re
import select
import socket
import tracemalloc
import weakref
from email.utils import parsedate_to_datetime
from enum import Enum, StrEnum
from itertools import pairwise
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import check, errno, task, time
from silly._core import scheduler
from silly.net import http, tcp
from silly.sync import channel

from ..conftest import Logs
from ..helpers import Raw, ahead_of_reader, asking, joined, serving, spawn, turn
from .http_support import certs, connected, hello
from .support import until

LONG = 100 * 1024
"""A body too long to be dropped for the sake of the connection."""


def readall(stream: Any) -> None:
    """Answers with the body, or with why it can't be read."""
    body, _ = stream.readall()
    if body is None:
        assert stream.respond(200) == (False, "the request has been answered already")
        return
    stream.respond(200)
    stream.close(body)


# ---- the request ----------------------------------------------------------------------------------------------------


def test_attributes() -> None:
    seen = {}

    def handler(stream: Any) -> None:
        for name in ("method", "path", "version", "remoteaddr", "scheme"):
            seen[name] = getattr(stream, name)
        seen["query"] = dict(stream.query)
        seen["missing"] = stream.query["nope"], stream.header["nope"], stream.header["Nope"]
        seen["header"] = stream.header["X-One"], stream.header["x-one"], stream.header.getall("X-ONE")
        seen["trailer"] = dict(stream.trailer)
        seen["upgrade"] = stream.header["upgrade"]
        seen["conn"] = stream.conn.isalive()
        seen["repr"] = repr(stream)
        stream.respond(200)
        stream.close()

    with asking(handler) as client:
        client.request("/a%20b?q=1&name=J%C3%BCrgen+X&q=2&empty=&bare", "PUT", "X-One: 1", "x-one: 2", "Upgrade: WebSocket")
        assert client.response().status == 200
        local = client.conn._stream.sock.getsockname()
    address = f"127.0.0.1:{local[1]}"
    assert seen == {
        "method": "PUT",
        "path": "/a%20b",
        "version": "HTTP/1.1",
        "remoteaddr": address,
        "scheme": "http",
        "query": {"q": "2", "name": "Jürgen X", "empty": "", "bare": ""},
        "missing": (None, None, None),
        "header": ("1, 2", "1, 2", ["1", "2"]),
        "trailer": {},
        "upgrade": "websocket",
        "conn": True,
        "repr": f"<http request PUT /a%20b from {address}>",
    }


@pytest.mark.parametrize("options", [{}, {"certs": certs()}], ids=["plain", "tls"])
def test_two_cookie_lines_are_joined_by_a_semicolon(options: dict[str, Any]) -> None:
    """RFC 9113, section 8.2.3: joined by a comma, the second cookie would be a part of the first."""

    def handler(stream: Any) -> None:
        stream.answer(200, f"{stream.header['cookie']} | {stream.header.getall('Cookie')}")

    with serving(handler, **options) as server, connected(server) as client:
        for _ in range(2):
            client.request("/", "GET", "Cookie: a=1", "X: y", "cookie: b=2")
            assert client.response().body == b"a=1; b=2 | ['a=1', 'b=2']\n"


def test_the_header_of_an_answer_is_passed_on_with_all_its_cookies() -> None:
    """What a proxy does."""
    fields = [("set-cookie", ["a=1; Expires=Wed, 09 Jun 2021 10:18:14 GMT", "b=2"]), ("x", ["1", "2"])]

    def back(stream: Any) -> None:
        stream.respond(200, fields)

    with serving(back) as behind:

        def front(stream: Any) -> None:
            response = check(http.get(f"http://127.0.0.1:{behind.port}/"))
            stream.respond(200, response.header)

        with asking(front) as client:
            client.request("/")
            lines = client.response().lines
        http.closeidle()
    assert [line for line in lines if line.startswith("set-cookie: ")] == [f"set-cookie: {each}" for each in fields[0][1]]
    assert "x: 1, 2" in lines


def test_absolute_target() -> None:
    """The target's authority counts, not Host (RFC 9112, section 3.2.2)."""
    with asking(lambda stream: (stream.respond(200), stream.close(f"{stream.header['host']} {stream.path}"))) as client:
        client.request("http://other:81/x?y")
        assert client.response().body == b"other:81 /x"


def test_options_star() -> None:
    with asking(hello) as client:
        client.request("*", "OPTIONS")
        assert client.response().body == b"hello *"


# ---- the response ---------------------------------------------------------------------------------------------------


def test_close_with_body_adds_the_length() -> None:
    with asking(hello) as client:
        client.request("/x")
        response = client.response()
        assert response.body == b"hello /x"
        assert response.header["content-length"] == "8"
        assert "transfer-encoding" not in response.header
        assert "connection" not in response.header
        assert len(response.header) == 3  # with content-type and date
        assert abs(parsedate_to_datetime(response.header["date"]).timestamp() * 1000 - time.now()) < 60_000


def test_own_date_is_kept() -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    with asking(lambda stream: (stream.respond(200, {"Date": date}), stream.close())) as client:
        client.request()
        assert client.response().header["date"] == date


@pytest.mark.parametrize("name", ["close", "closewrite"])
@pytest.mark.parametrize(
    ("body", "sent"),
    [(None, b""), ("", b""), ("é", "é".encode()), (b"b", b"b"), (bytearray(b"c"), b"c"), (memoryview(b"d"), b"d")],
)
def test_close_kinds(name: str, body: Any, sent: bytes) -> None:
    def handler(stream: Any) -> None:
        assert stream.respond(200) == (True, None)
        assert (getattr(stream, name)(body) if body is not None else getattr(stream, name)()) == (True, None)

    with asking(handler) as client:
        for _ in range(2):
            client.request()
            response = client.response()
            assert response.body == sent
            assert response.header["content-length"] == str(len(sent))


def test_write_is_chunked() -> None:
    def handler(stream: Any) -> None:
        stream.respond(200)
        for piece in ("é", b"", bytearray(b"b"), memoryview(b"c" * 5000), ""):
            assert stream.write(piece) == (True, None)
        assert stream.close("end") == (True, None)

    with asking(handler) as client:
        for _ in range(2):
            client.request()
            response = client.response()
            assert response.header["transfer-encoding"] == "chunked"
            assert response.body == "éb".encode() + b"c" * 5000 + b"end"


@pytest.mark.parametrize("status", [200, 404])
def test_write_with_length(status: int) -> None:
    def handler(stream: Any) -> None:
        stream.respond(status, {"Content-Length": 6})
        stream.write("abc")
        stream.close("def")

    with asking(handler) as client:
        for _ in range(2):
            client.request()
            response = client.response()
            assert response.body == b"abcdef"
            assert response.header["content-length"] == "6"


def test_flush_sends_at_once() -> None:
    go = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        assert stream.flush() == (True, None)
        go.pop()
        stream.write("one")
        assert stream.flush() == (True, None)
        go.pop()

    with asking(handler) as client:
        client.request()
        assert b"transfer-encoding: chunked\r\n" in client.read("\r\n\r\n")
        client.silent()
        go.push(1)
        assert client.read(8) == b"3\r\none\r\n"
        go.push(1)
        assert client.read(5) == b"0\r\n\r\n"


def test_flush_sends_before_other_tasks_run() -> None:
    """The handler looks at the client's socket itself: if it waited, the loop would send what is queued anyway."""
    arrived: list[bytes] = []

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.flush()
        select.select([sock], [], [], 5)
        arrived.append(sock.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT))

    with asking(handler) as client:
        sock = client.conn._stream.sock
        client.request()
        assert client.response().status == 200
    assert arrived[0].startswith(b"HTTP/1.1 200 ")


def test_http10() -> None:
    def handler(stream: Any) -> None:
        stream.respond(200)
        if stream.path == "/write":
            stream.write("no ")
        stream.close("length")

    with serving(handler) as server:
        keep_alive = "Connection: Keep-Alive\r\n"
        for path, fields, keep in (("/", "", False), ("/", keep_alive, True), ("/write", keep_alive, False)):
            with Raw.connect(server) as client:
                client.send(f"GET {path} HTTP/1.0\r\n{fields}\r\n")
                response = client.response()
                assert response.header["connection"] == ("keep-alive" if keep else "close")
                assert response.body == (b"no length" if path == "/write" else b"length")
                assert "transfer-encoding" not in response.header
                if keep:
                    client.send("GET / HTTP/1.0\r\n\r\n")
                    assert client.response().header["connection"] == "close"
                client.eof()


def test_http10_with_chunked_of_the_handler() -> None:
    with asking(lambda stream: (stream.respond(200, {"transfer-encoding": "chunked"}), stream.close("body"))) as client:
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, _, body = client.rest().partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert b"connection: close" in head
        assert body == b"body"


@pytest.mark.parametrize("chunked", [False, True])
def test_head(chunked: bool) -> None:
    def handler(stream: Any) -> None:
        stream.respond(200, {"x": "y"})
        if chunked:
            assert stream.write("body")
        assert stream.close("more")

    with asking(handler) as client:
        for method in ("HEAD", "GET", "HEAD"):
            client.request("/", method)
            response = client.response(method)
            assert response.header["x"] == "y"
            assert response.header.get("content-length") == (None if chunked else "4")
            assert response.header.get("transfer-encoding") == ("chunked" if chunked else None)


def test_head_with_length_and_no_body() -> None:
    with asking(lambda stream: (stream.respond(200, {"content-length": 1000}), stream.close())) as client:
        for _ in range(2):
            client.request("/", "HEAD")
            assert client.response("HEAD").header["content-length"] == "1000"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("body", [None, "dropped"])
@pytest.mark.parametrize("header", [{}, {"content-length": 7}, {"transfer-encoding": "chunked"}])
def test_status_without_body(status: int, body: Any, header: Any) -> None:
    def handler(stream: Any) -> None:
        stream.respond(status, header)
        if body:
            assert stream.write(body) == (True, None)
        assert stream.close(body) == (True, None)

    with asking(handler) as client:
        for _ in range(2):
            client.request()
            response = client.response()
            assert response.status == status
            if status == 204:
                assert "content-length" not in response.header
                assert "transfer-encoding" not in response.header
        client.silent()


@pytest.mark.parametrize("how", ["request", "header", "argument"])
def test_connection_close(how: str) -> None:
    def handler(stream: Any) -> None:
        if how == "argument":
            assert stream.respond(200, {"content-length": 0}, True) == (True, None)
            assert stream.close() == (False, "the response has ended")
        else:
            stream.respond(200, {"Connection": "x, Close"} if how == "header" else {})
            stream.close("bye")

    with asking(handler) as client:
        client.request("/", "GET", *(["Connection: foo, CLOSE"] if how == "request" else []))
        client.send("GET / HTTP/1.1\r\nHost: never\r\n\r\n")
        response = client.response()
        assert response.header["connection"] == ("x, close" if how == "header" else "close")
        assert response.body == (b"" if how == "argument" else b"bye")
        client.eof()


def test_header_values() -> None:
    header = {"X-Int": 5, "X-List": ["a", 1], "X-None": None, "X-Latin": "ü", "Set-Cookie": ["a=1", "b=2"]}
    with asking(lambda stream: (stream.respond(200, header), stream.close())) as client:
        client.request()
        lines = client.response().lines
    assert lines[:6] == ["x-int: 5", "x-list: a", "x-list: 1", "x-latin: ü", "set-cookie: a=1", "set-cookie: b=2"]
    assert not [line for line in lines if "none" in line]
    assert header == {"X-Int": 5, "X-List": ["a", 1], "X-None": None, "X-Latin": "ü", "Set-Cookie": ["a=1", "b=2"]}


def test_header_pairs() -> None:
    with asking(lambda stream: (stream.respond(200, [("a", "1"), ("A", "2")]), stream.close())) as client:
        client.request()
        assert client.response().header["a"] == "1, 2"


class Text(StrEnum):
    """Has a value that is text, and other text for people."""

    HTML = "text/html"

    def __str__(self) -> str:
        return "a\r\nset-cookie: b=c"


class Number(int, Enum):
    """Has a value that is a number, and text for people."""

    FOUR = 4

    def __str__(self) -> str:
        return "a\r\nset-cookie: b=c"


def test_a_value_goes_out_as_it_was_checked() -> None:
    """What an enumeration is for people is not its value, and may hold line ends."""

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-type": Text.HTML, "x-number": Number.FOUR, "content-length": Number.FOUR})
        stream.closewrite("four", {"x-trailer": Text.HTML})

    with asking(handler) as client:
        client.request()
        response = client.response()
    assert (response.header["content-type"], response.header["x-number"]) == ("text/html", "4")
    assert response.body == b"four"
    assert "set-cookie" not in response.header


def test_respond_with_no_header() -> None:
    def handler(stream: Any) -> None:
        assert stream.respond(204, None)

    with serving(handler) as server, Raw.connect(server) as client:
        client.request()
        assert client.response().status == 204


@pytest.mark.parametrize(
    ("status", "header", "kind"),
    [
        (200, {"x": "a\rb"}, ValueError),
        (200, {"x": "a\nb"}, ValueError),
        (200, {"x": "a\r\nevil: 1"}, ValueError),
        (200, {"x": ["ok", "a\r\nb"]}, ValueError),
        (200, {"x": "a\0b"}, ValueError),
        (200, {"x": "a\x7fb"}, ValueError),
        (200, {"x": "€"}, ValueError),
        (200, {"x\r\ny": "a"}, ValueError),
        (200, {"x y": "a"}, ValueError),
        (200, {"x:": "a"}, ValueError),
        (200, {"": "a"}, ValueError),
        (200, {"ü": "a"}, ValueError),
        (200, {"x": b"bytes"}, TypeError),
        (200, {"x": 1.5}, TypeError),
        (200, {"x": True}, TypeError),
        (200, {5: "x"}, TypeError),
        (200, {"content-length": "x"}, ValueError),
        (200, {"content-length": "-1"}, ValueError),
        (200, {"content-length": "٥"}, ValueError),
        (200, {"content-length": ["1", "2"]}, ValueError),
        (200, {"content-length": 1, "transfer-encoding": "chunked"}, ValueError),
        (200, {"transfer-encoding": "gzip"}, ValueError),
        (99, {}, ValueError),
        (100, {}, ValueError),
        (101, {}, ValueError),
        (199, {}, ValueError),
        (1000, {}, ValueError),
        ("200", {}, ValueError),
        (True, {}, ValueError),
    ],
)
def test_bad_status_or_header_raises_before_a_byte_is_sent(status: Any, header: Any, kind: type[Exception]) -> None:
    def handler(stream: Any) -> None:
        with pytest.raises(kind):
            stream.respond(status, header)
        for method in (stream.write, stream.close):
            assert method("x") == (False, f"respond() comes before {'write' if method == stream.write else 'closewrite'}()")
        assert stream.flush() == (False, "respond() comes before flush()")
        stream.respond(201)
        stream.close("fine")

    with asking(handler) as client:
        client.request()
        response = client.response()
        assert (response.status, response.body) == (201, b"fine")
        client.silent()


@pytest.mark.parametrize("bad", [1, 1.5, ["list"], object(), memoryview(b"abcdef")[::2]])
def test_bad_body_raises_before_a_byte_is_sent(bad: Any) -> None:
    def handler(stream: Any) -> None:
        stream.respond(200)
        with pytest.raises(TypeError):
            stream.write(bad)
        with pytest.raises(TypeError):
            stream.close(bad)
        stream.close("fine")

    with asking(handler) as client:
        client.request()
        assert client.response().body == b"fine"


def test_respond_twice_and_write_after_the_end() -> None:
    def handler(stream: Any) -> None:
        assert stream.respond(200) == (True, None)
        assert stream.respond(404) == (False, "the request has been answered already")
        assert stream.close("one") == (True, None)
        assert not stream.respond(404)
        for result in (stream.write("two"), stream.close("two"), stream.closewrite()):
            assert result == (False, "the response has ended")
        assert stream.flush() == (True, None)

    with asking(handler) as client:
        for _ in range(2):
            client.request()
            response = client.response()
            assert (response.status, response.body) == (200, b"one")
        client.silent()


def test_more_than_the_content_length(logs: Any) -> None:
    logs.expect(r"ERROR http: \S+ GET '/': body of 6 bytes, content-length 4")

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": 4})
        assert stream.write("abc") == (True, None)
        assert stream.write("de") == (False, "more than the content-length of 4 bytes")
        assert stream.close("def") == (False, "a body of 6 bytes, but a content-length of 4")

    with asking(handler) as client:
        client.request()
        client.request()
        assert client.response().body == b"abcd"
        client.eof()


def test_first_write_over_the_content_length(logs: Any) -> None:
    logs.expect(r"ERROR http: \S+ GET '/': body of 0 bytes, content-length 1")

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": 1})
        assert stream.write("de") == (False, "more than the content-length of 1 bytes")

    with asking(handler) as client:
        client.request()
        assert client.rest().endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/write", "/close", "/nothing"])
def test_less_than_the_content_length(logs: Any, path: str) -> None:
    """The peer must not take what comes next for the rest of this body."""
    logs.expect(r"ERROR http: \S+ GET '/\w+': body of \d bytes, content-length 5")

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": 5})
        if path == "/write":
            stream.write("abc")
        elif path == "/close":
            assert stream.close("abc") == (False, "a body of 3 bytes, but a content-length of 5")

    with asking(handler) as client:
        client.request(path)
        client.request(path)
        head, _, body = client.rest().partition(b"\r\n\r\n")
        assert b"content-length: 5" in head
        assert body == (b"" if path == "/nothing" else b"abc")


def test_handler_that_does_not_respond(logs: Any) -> None:
    logs.expect(r"INFO http: 127.0.0.1:\d+: GET '/': the handler did not respond")
    with asking(lambda stream: None) as client:
        for _ in range(2):
            client.request()
            assert client.response().status == 500


@pytest.mark.parametrize("written", [False, True])
def test_handler_that_does_not_close(written: bool) -> None:
    def handler(stream: Any) -> None:
        stream.respond(200)
        if written:
            stream.write("abc")

    with asking(handler) as client:
        for _ in range(2):
            client.request()
            assert client.response().body == (b"abc" if written else b"")


class Odd(BaseException):
    """No Exception, as the panic of a module in Rust is none."""


@pytest.mark.parametrize("kind", [KeyError, asyncio.CancelledError, Odd])
def test_handler_raises(kind: type[BaseException], logs: Any) -> None:
    logs.expect(r"ERROR exception in the handler of GET /\w+:\n(.*\n)+.*secret")

    def handler(stream: Any) -> None:
        if stream.path in ("/respond", "/write", "/flush", "/close"):
            stream.respond(200, {"x": "y"})
        if stream.path == "/write":
            stream.write("begun")
        if stream.path == "/flush":
            stream.flush()
        if stream.path == "/close":
            stream.close("whole")
        raise kind("secret")

    with serving(handler) as server:
        for path in ("/first", "/respond", "/write", "/flush", "/close"):
            with Raw.connect(server) as client:
                client.request(path)
                client.request(path)
                got = client.rest()
            assert b"secret" not in got
            head, _, body = got.partition(b"\r\n\r\n")
            if path in ("/first", "/respond"):
                assert head.startswith(b"HTTP/1.1 500 ")
                assert b"connection: close" in head
                assert b"x: y" not in head
                assert body == b"Internal Server Error\n"
            else:
                assert head.startswith(b"HTTP/1.1 200 ")
                # Without the last chunk the peer sees that the body is incomplete.
                assert body == {"/write": b"5\r\nbegun\r\n", "/flush": b"", "/close": b"whole"}[path]
    assert len(logs.lines) == 5


def test_handler_that_raises_leaves_no_cycle(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exception and its traceback hold must go without the garbage collector."""
    import gc
    import logging
    import weakref

    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own keeps the records

    class Thing:
        pass

    things = []
    logs.expect("exception in the handler")

    def handler(stream: Any) -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        raise ValueError(thing)

    gc.collect()
    gc.disable()
    try:
        with asking(handler) as client:
            client.request()
            client.rest()
        until(lambda: not [t for t in things if t() is not None], 2000)
    finally:
        gc.enable()
    assert len(things) == 1


# ---- keep-alive and pipelining --------------------------------------------------------------------------------------


def test_keep_alive() -> None:
    seen = set()

    def handler(stream: Any) -> None:
        seen.add(id(stream.conn))
        hello(stream)

    with asking(handler) as client:
        for i in range(100):
            client.request(f"/{i}")
            assert client.response().body == b"hello /%d" % i
    assert len(seen) == 1


def test_pipelined_requests_with_bodies() -> None:
    with asking(readall) as client:
        client.send(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
            "\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert [client.response().body for _ in range(4)] == [b"abc", b"de", b"", b""]


def test_10000_pipelined_requests() -> None:
    """CVE-2026-54273: in order, with bounded memory, while other clients are served."""
    served = 0
    steps = []

    def handler(stream: Any) -> None:
        nonlocal served
        if stream.path == "/other":
            steps.append(served)
        else:
            served += 1
        stream.respond(200)
        stream.close(stream.path)

    count = 10_000
    with serving(handler) as server, Raw.connect(server) as client, Raw.connect(server) as other:
        requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(count))
        sending = spawn(lambda: client.send(requests))

        def ask() -> int:
            asked = 0
            while served < count:
                other.request("/other")
                assert other.response().body == b"/other"
                asked += 1
            return asked

        asking_too = spawn(ask)
        for i in range(count):
            assert client.read("\r\n\r\n").endswith(b"\r\n\r\n")
            assert client.read(len(str(i)) + 1) == b"/%d" % i
        assert joined(asking_too) > 2
        joined(sending)
    assert max(b - a for a, b in pairwise(steps)) < 300  # a few bursts of 64


def test_an_empty_line_between_requests_is_no_request() -> None:
    """Some clients send one behind a body (RFC 9112, section 2.2); a 408 would answer their next request."""

    def handler(stream: Any) -> None:
        stream.readall()
        stream.respond(200)

    with asking(handler, limits={"head_timeout": 30}) as client:
        client.request("/", "POST", "Content-Length: 2", body=b"ab\r\n")
        assert client.response().status == 200
        client.eof()


def test_pipelining_client_that_never_reads_is_held_back() -> None:
    served = 0

    def handler(stream: Any) -> None:
        nonlocal served
        served += 1
        stream.respond(200)
        stream.close(b"x" * 100_000)

    with serving(handler) as server, Raw.connect(server) as client:
        client.conn.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
        connection = next(iter(until_one(server)))
        last = -1
        while last != served:
            last = served
            turn(50)
        assert 5 < served < 200
        assert connection._conn.unsentbytes() < 2 * 2**20
        assert connection._conn.unreadbytes() <= 128 * 1024


def until_one(server: Any) -> Any:
    until(lambda: server._connections)
    return server._connections


# ---- the request's body ---------------------------------------------------------------------------------------------


BODIES = [
    ("Content-Length: 10", b"0123456789"),
    ("Transfer-Encoding: chunked", b"3\r\n012\r\n1;a=b\r\n3\r\n6 ; x\r\n456789\r\n0\r\n\r\n"),
]


@pytest.mark.parametrize(("field", "body"), BODIES)
@pytest.mark.parametrize("dribbled", [False, True])
def test_read(field: str, body: bytes, dribbled: bool) -> None:
    results = []

    def handler(stream: Any) -> None:
        got = [stream.read(n) for n in (0, 4, 20, 7, 3)]
        results.append([*got, stream.readall(), stream.readall(), stream.read(1)])
        stream.respond(200)
        stream.close("ok")

    with asking(handler) as client:
        for _ in range(2):
            data = f"POST / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n".encode() + body
            (client.dribble if dribbled else client.send)(data)
            assert client.response().body == b"ok"
    eof = (None, errno.EOF)
    assert results == [[(b"", None), (b"0123", None), eof, eof, (b"456", None), (b"789", None), (b"", None), eof]] * 2


@pytest.mark.parametrize("bad", ["5", None, 1.5, b"\n"])
def test_read_needs_a_length(bad: Any) -> None:
    def handler(stream: Any) -> None:
        with pytest.raises(TypeError):
            stream.read(bad)
        with pytest.raises(ValueError, match="a length of 0 or more, not -1"):
            stream.read(-1)
        with pytest.raises(ValueError, match="time-out"):
            stream.read(4, -1)
        with pytest.raises(ValueError, match="time-out"):
            stream.readall(timeout=float("nan"))
        stream.respond(200)
        stream.close("ok")

    with asking(handler) as client:
        client.request("/", "POST", "Content-Length: 4", body="abc")
        assert client.response().body == b"ok"
        client.send("d")
        client.silent()


def test_read_without_a_body() -> None:
    def handler(stream: Any) -> None:
        assert stream.read(1) == (None, errno.EOF)
        assert stream.readall() == (b"", None)
        hello(stream)

    with asking(handler) as client:
        client.request()
        client.request()
        assert client.response().status == client.response().status == 200


@pytest.mark.parametrize(("field", "body"), BODIES)
def test_read_with_a_timeout_loses_nothing(field: str, body: bytes) -> None:
    timed_out = channel.new()

    def handler(stream: Any) -> None:
        assert stream.read(10, 1) == (None, errno.TIMEDOUT)
        assert stream.readall(timeout=1) == (None, errno.TIMEDOUT)
        timed_out.push(1)
        assert stream.readall() == (b"0123456789", None)
        hello(stream)

    with asking(handler) as client:
        client.request("/", "POST", field, body=body[:7])
        timed_out.pop()
        client.send(body[7:])
        assert client.response().status == 200


@pytest.mark.parametrize("size", [1000, 1001])
@pytest.mark.parametrize("chunked", [False, True])
def test_readall_limit(size: int, chunked: bool, logs: Any) -> None:
    if size > 1000:
        logs.expect(r"INFO http: 127.0.0.1:\d+: POST '/': body longer than the limit 'body' of 1000 bytes")
    with asking(readall, limits={"body": 1000}) as client:
        body = b"x" * size
        if chunked:
            client.request("/", "POST", "Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (size, body))
        else:
            client.request("/", "POST", f"Content-Length: {size}", body=body)
        response = client.response()
        assert response.status == (200 if size == 1000 else 413)
        if size > 1000:
            assert response.header["connection"] == "close"
            client.eof()
    assert len(logs.lines) == (size > 1000)


def test_readall_limit_is_told_before_the_body_comes(logs: Any) -> None:
    logs.expect("413|limit 'body'")
    with asking(readall) as client:
        client.request("/", "POST", f"Content-Length: {2**62}", "Expect: 100-continue")
        assert client.response().status == 413
        client.eof()


def test_large_body() -> None:
    body = bytes(range(256)) * 4096 * 8
    got = []

    def handler(stream: Any) -> None:
        got.append(stream.readall())
        hello(stream)

    with asking(handler) as client:
        for _ in range(2):
            client.request("/", "POST", f"Content-Length: {len(body)}", body=body)
            assert client.response().status == 200
    assert got == [(body, None)] * 2


def test_large_body_in_tiny_chunks() -> None:
    """CVE-2025-69229: work is linear in the bytes."""
    with asking(lambda stream: (stream.respond(200), stream.close(str(len(stream.readall()[0]))))) as client:
        size = 2**18
        client.request("/", "POST", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * size + b"0\r\n\r\n")
        assert client.response().body == str(size).encode()


def test_trailer() -> None:
    trailers = []

    def handler(stream: Any) -> None:
        trailers.append(dict(stream.trailer))
        assert stream.readall() == (b"abc", None)
        trailers.append((stream.trailer["x-sum"], stream.trailer["nope"], stream.header["x-sum"]))
        hello(stream)

    with asking(handler) as client:
        client.request("/", "POST", "Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n")
        assert client.response().status == 200
    assert trailers == [{}, ("6", None, None)]


def test_head_timeout(logs: Any) -> None:
    logs.expect("INFO http: .*: head not complete within the limit 'head_timeout' of 30 ms")
    with asking(hello, limits={"head_timeout": 30}) as client:
        client.send("GET / HT")
        response = client.response()
        assert response.status == 408
        assert response.header["connection"] == "close"
        client.eof()
    assert len(logs.lines) == 1


def test_head_timeout_is_for_the_whole_head(logs: Any) -> None:
    """A byte now and then doesn't prolong it (slowloris)."""
    logs.expect("head_timeout")
    with asking(hello, limits={"head_timeout": 50}) as client:
        client.send("GET / HTTP/1.1\r\nX: ")
        while not client.conn.unreadbytes() and client.conn.write("x"):
            time.sleep(5)
        assert client.response().status == 408


def test_idle_timeout() -> None:
    with asking(hello, limits={"idle_timeout": 30}) as client:
        client.request()
        assert client.response().status == 200
        client.eof()


def test_idle_timeout_of_a_client_that_never_speaks() -> None:
    with asking(hello, limits={"idle_timeout": 30}) as client:
        client.eof()


@pytest.mark.parametrize(("field", "body"), BODIES)
def test_body_timeout(field: str, body: bytes, logs: Any) -> None:
    logs.expect(r"INFO http: .*: POST '/': the request's body stalled: nothing within the limit 'body_timeout' of")
    with asking(readall, limits={"body_timeout": 30}) as client:
        client.request("/", "POST", field, body=body[:8])
        response = client.response()
        assert response.status == 408
        assert response.header["connection"] == "close"
        client.eof()
    assert len(logs.lines) == 1


@pytest.mark.parametrize(("field", "body"), BODIES)
def test_unread_body_that_stalls(field: str, body: bytes, logs: Any) -> None:
    logs.expect(r"INFO http: .*: POST '/': the request's body stalled: nothing within the limit 'body_timeout' of")
    with asking(hello, limits={"body_timeout": 30}) as client:
        client.request("/", "POST", field, body=body[:8])
        assert client.response().status == 200
        client.eof()
    assert len(logs.lines) == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("read", [0, 5])
def test_unread_short_body(chunked: bool, read: int) -> None:
    """The connection is kept, and the body is never parsed as a request."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n" * 100

    def handler(stream: Any) -> None:
        if stream.method == "POST":
            assert stream.read(read) == (body[:read], None)
        hello(stream)

    with asking(handler) as client:
        if chunked:
            client.request("/post", "POST", "Transfer-Encoding: chunked")
            client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        else:
            client.request("/post", "POST", f"Content-Length: {len(body)}")
            client.send(body)
        client.request("/next")
        assert client.response().body == b"hello /post"
        assert client.response().body == b"hello /next"
        client.silent()


@pytest.mark.parametrize("chunked", [False, True])
def test_unread_long_body(chunked: bool) -> None:
    with asking(hello) as client:
        if chunked:
            client.request("/post", "POST", "Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (LONG, b"x" * LONG))
        else:
            client.request("/post", "POST", f"Content-Length: {LONG}", body=b"x" * LONG)
        client.request("/never")
        response = client.response()
        assert response.body == b"hello /post"
        assert chunked or response.header["connection"] == "close"
        client.eof()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "kept"), [(65536, True), (65537, False)])
def test_how_long_an_unread_body_may_be(size: int, kept: bool, chunked: bool) -> None:
    """64 KiB are dropped to keep the connection. The body follows the answer: one that is there already costs nothing."""
    with asking(hello) as client:
        client.request("/post", "POST", "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}")
        response = client.response()
        assert response.body == b"hello /post"
        assert ("connection" in response.header) is not (kept or chunked)
        client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size)) if chunked else bytes(size))
        client.request("/next")
        if kept:
            assert client.response().body == b"hello /next"
        else:
            client.eof()


def test_an_unread_body_that_trickles_holds_its_connection_for_a_bounded_time(logs: Logs) -> None:
    logs.expect("the request's body")
    with serving(hello, limits=silly.Limits(body_timeout=200)) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 60000")
        assert client.response().body == b"hello /"
        begin = time.monotonic()
        while client.conn.isalive():
            client.conn.write("x")
            time.sleep(20)
        assert time.monotonic() - begin < 10_000
    until(lambda: not server._connections)


# ---- Expect ---------------------------------------------------------------------------------------------------------


def test_expect_continue() -> None:
    with asking(readall) as client:
        for _ in range(2):
            client.request("/", "POST", "Content-Length: 3", "Expect: 100-Continue")
            assert client.response() == (100, {}, [], b"")
            client.silent()
            client.send("abc")
            response = client.response()
            assert (response.status, response.body) == (200, b"abc")
            assert "connection" not in response.header


def test_expect_continue_is_sent_once() -> None:
    def handler(stream: Any) -> None:
        got = [stream.read(1) for _ in range(3)]
        assert stream.readall() == (b"", None)
        stream.respond(200)
        stream.close(repr(got == [(b"a", None), (b"b", None), (b"c", None)]))

    with asking(handler) as client:
        client.request("/", "POST", "Transfer-Encoding: chunked", "Expect: 100-continue")
        assert client.response().status == 100
        client.dribble("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
        assert client.response().body == b"True"


def test_expect_continue_with_the_body_there_already() -> None:
    with asking(readall) as client:
        for _ in range(2):
            client.request("/", "POST", "Content-Length: 3", "Expect: 100-continue", body="abc")
            response = client.response()
            assert (response.status, response.body) == (200, b"abc")
            assert "connection" not in response.header


def test_expect_continue_without_a_body() -> None:
    with asking(readall) as client:
        for _ in range(2):
            client.request("/", "GET", "Expect: 100-continue")
            assert client.response().status == 200


def test_expect_continue_unread() -> None:
    """The client may send the body or not: nobody can tell what comes next."""
    with asking(hello) as client:
        client.request("/", "POST", "Content-Length: 3", "Expect: 100-continue")
        response = client.response()
        assert response.status == 200
        assert response.header["connection"] == "close"
        client.eof()


def test_expect_continue_after_the_response_began() -> None:
    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.flush()
        stream.close(repr(stream.readall()))

    with asking(handler) as client:
        client.request("/", "POST", "Content-Length: 3", "Expect: 100-continue")
        assert client.read("\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        client.send("abc")
        assert client.chunked() == b"(b'abc', None)"
        client.eof()


def test_expect_in_http10_is_ignored() -> None:
    with asking(readall) as client:
        client.send("POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        client.silent()
        client.send("abc")
        assert client.response().body == b"abc"


@pytest.mark.parametrize("fields", [["Expect: 100-continue"] * 2, ["Expect: 200-ok"], ["Expect: "], ["Expect: 100-continue2"]])
def test_unknown_expectation(fields: list[str], logs: Any) -> None:
    logs.expect("INFO http: .*: unknown expectation")
    with asking(readall) as client:
        client.request("/", "POST", "Content-Length: 3", *fields)
        response = client.response()
        assert response.status == 417
        assert response.header["connection"] == "close"
        client.eof()


# ---- malformed requests -------------------------------------------------------------------------------------------------

HOST = "Host: x\r\n"
POST = f"POST / HTTP/1.1\r\n{HOST}"
BAD_HEADS = {
    "empty request line": (f" \r\n{HOST}\r\n", 400),
    "two spaces": (f"GET  / HTTP/1.1\r\n{HOST}\r\n", 400),
    "no version": (f"GET /\r\n{HOST}\r\n", 400),
    "tab": (f"GET\t/\tHTTP/1.1\r\n{HOST}\r\n", 400),
    "lower case version": (f"GET / http/1.1\r\n{HOST}\r\n", 400),
    "version 1.10": (f"GET / HTTP/1.10\r\n{HOST}\r\n", 400),
    "version 2.0": (f"GET / HTTP/2.0\r\n{HOST}\r\n", 505),
    "version 1.2": (f"GET / HTTP/1.2\r\n{HOST}\r\n", 505),
    "version 0.9": (f"GET / HTTP/0.9\r\n{HOST}\r\n", 505),
    "HTTP/2 preface": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "TLS hello": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "PROXY v2": ("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", 400),
    "bad target": (f"GET x HTTP/1.1\r\n{HOST}\r\n", 400),
    "target with a control": (f"GET /\x01 HTTP/1.1\r\n{HOST}\r\n", 400),
    "target in Latin-1": (f"GET /\xfc HTTP/1.1\r\n{HOST}\r\n", 400),
    "star": (f"GET * HTTP/1.1\r\n{HOST}\r\n", 400),
    "bad method": (f"GE(T / HTTP/1.1\r\n{HOST}\r\n", 400),
    "bare LF": ("GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
    "bare LF in the fields": ("GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 400),
    "bare CR": ("GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400),
    "NUL": (f"GET / HTTP/1.1\r\n{HOST}X: a\0b\r\n\r\n", 400),
    "DEL": (f"GET / HTTP/1.1\r\n{HOST}X: a\x7fb\r\n\r\n", 400),
    "folded line": (f"GET / HTTP/1.1\r\n{HOST}X: a\r\n b\r\n\r\n", 400),
    "space before the colon": (f"GET / HTTP/1.1\r\n{HOST}X : a\r\n\r\n", 400),
    "no colon": (f"GET / HTTP/1.1\r\n{HOST}X\r\n\r\n", 400),
    "known name without a colon": (f"GET / HTTP/1.1\r\n{HOST}Host\r\n\r\n", 400),
    "no name": (f"GET / HTTP/1.1\r\n{HOST}: a\r\n\r\n", 400),
    "bad name": (f"GET / HTTP/1.1\r\n{HOST}X\xfc: a\r\n\r\n", 400),
    "no Host": ("GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n", 400),
    "empty Host": ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "Host with a path": ("GET / HTTP/1.1\r\nHost: a/b?c\r\n\r\n", 400),
    "Host with a user": ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "Host with a bad port": ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
    "Host with a word for a port": ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    "length and coding": (f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding and length": (f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "two equal lengths": (f"{POST}Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "two lengths": (f"{POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", 400),
    "two lengths in one": (f"{POST}Content-Length: 5, 5\r\n\r\nabcde", 400),
    "length +5": (f"{POST}Content-Length: +5\r\n\r\nabcde", 400),
    "length -0": (f"{POST}Content-Length: -0\r\n\r\n", 400),
    "length 5_0": (f"{POST}Content-Length: 5_0\r\n\r\nabcde", 400),
    "length 0x5": (f"{POST}Content-Length: 0x5\r\n\r\nabcde", 400),
    "length 3.0": (f"{POST}Content-Length: 3.0\r\n\r\nabc", 400),
    "length in other digits": (f"{POST}Content-Length: \xb2\r\n\r\nab", 400),
    "length in Arabic digits": (f"{POST}Content-Length: \xd9\xa5\r\n\r\nabcde", 400),
    "empty length": (f"{POST}Content-Length:\r\n\r\n", 400),
    "length 2^63": (f"{POST}Content-Length: 9223372036854775808\r\n\r\n", 400),
    "length of 40 digits": (f"{POST}Content-Length: {'9' * 40}\r\n\r\n", 400),
    "coding xchunked": (f"{POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "coding chunked123": (f"{POST}Transfer-Encoding: chunked123\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in two lines": (f"{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked, identity": (f"{POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "coding with a vertical tab": (f"{POST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "empty coding": (f"{POST}Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    "gzip, chunked": (f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked in HTTP/1.0": (f"POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "129 header lines": (f"GET / HTTP/1.1\r\n{HOST}" + "X: y\r\n" * 128 + "\r\n", 431),
    "2000 header lines": (f"GET / HTTP/1.1\r\n{HOST}" + "X: y\r\n" * 2000 + "\r\n", 431),
    "long field": (f"GET / HTTP/1.1\r\n{HOST}X: {'y' * 8192}\r\n\r\n", 431),
    "long target": (f"GET /{'y' * 8192} HTTP/1.1\r\n{HOST}\r\n", 414),
    "long first line without an end": ("GET /" + "y" * 9000, 414),
    "long head": (f"GET / HTTP/1.1\r\n{HOST}" + f"X: {'y' * 1000}\r\n" * 66 + "\r\n", 431),
    "long head without an end": (f"GET / HTTP/1.1\r\n{HOST}" + f"X: {'y' * 1000}\r\n" * 66, 431),
}
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("dribbled", [False, True], ids=["whole", "dribbled"])
@pytest.mark.parametrize("row", BAD_HEADS)
def test_bad_head(row: str, dribbled: bool, logs: Any) -> None:
    """The right status, close, one log line, and nothing behind it is ever taken for a request."""
    logs.expect(r"INFO http: 127.0.0.1:\d+: ")
    data, status = BAD_HEADS[row]
    if dribbled and len(data) > 2000:
        data = data.replace("y" * 8192, "y" * 1000).replace("y" * 9000, "y" * 1200)
        limits = {"line": 999, "head": 4000, "header_lines": 128}
        if "head" in row and "lines" not in row:
            limits["line"] = 1100
    else:
        limits = {}
    handled = []

    with asking(handled.append, limits=limits) as client:
        (client.dribble if dribbled else client.send)(data + SMUGGLED)
        response = client.response()
        assert response.status == status
        assert response.header["connection"] == "close"
        assert response.header["content-type"] == "text/plain"
        client.eof()
    assert handled == []
    assert len(logs.lines) == 1


BAD_BODIES = {
    "no size": ("\r\nabc\r\n0\r\n\r\n", 400),
    "size +5": ("+5\r\nabcde\r\n0\r\n\r\n", 400),
    "size -1": ("-1\r\nabcde\r\n0\r\n\r\n", 400),
    "size 0x5": ("0x5\r\nabcde\r\n0\r\n\r\n", 400),
    "size 5_0": ("1_0\r\nabcde\r\n0\r\n\r\n", 400),
    "space before the size": (" 5\r\nabcde\r\n0\r\n\r\n", 400),
    "size in other digits": ("\xb2\r\nab\r\n0\r\n\r\n", 400),
    "size of 17 digits": ("00000000000000005\r\nabcde\r\n0\r\n\r\n", 400),
    "size 2^63": ("8000000000000000\r\nabcde\r\n0\r\n\r\n", 400),
    "bare LF after the size": ("5\nabcde\r\n0\r\n\r\n", 400),
    "LF in an extension": ("5;a\nb\r\nabcde\r\n0\r\n\r\n", 400),
    "CR in an extension": ("5;a\rb\r\nabcde\r\n0\r\n\r\n", 400),
    "long extension": ("5;" + "a" * 300 + "\r\nabcde\r\n0\r\n\r\n", 400),
    "bad end of a chunk": ("5\r\nabcdeXX0\r\n\r\n", 400),
    "longer than its size": ("2\r\nabcde\r\n0\r\n\r\n", 400),
    "LF at the end of a chunk": ("5\r\nabcde\n0\r\n\r\n", 400),
    "request in the trailers": ("5\r\nabcde\r\n0\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "forbidden trailer": ("5\r\nabcde\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
    "bare LF in the trailers": ("5\r\nabcde\r\n0\r\nX: a\nY: b\r\n\r\n", 400),
    "folded trailer": ("5\r\nabcde\r\n0\r\nX: a\r\n b\r\n\r\n", 400),
    "too many trailers": ("5\r\nabcde\r\n0\r\n" + "X: y\r\n" * 129 + "\r\n", 431),
    "long trailers": ("5\r\nabcde\r\n0\r\n" + "X: yyyyyy\r\n" * 120, 431),
}


@pytest.mark.parametrize("dribbled", [False, True], ids=["whole", "dribbled"])
@pytest.mark.parametrize("row", BAD_BODIES)
def test_bad_body(row: str, dribbled: bool, logs: Any) -> None:
    logs.expect(r"INFO http: 127.0.0.1:\d+: POST '/': ")
    data, status = BAD_BODIES[row]
    handled = []

    def handler(stream: Any) -> None:
        handled.append(stream.path)
        readall(stream)

    with asking(handler, limits={"head": 1000} if row == "long trailers" else {}) as client:
        client.send(f"{POST}Transfer-Encoding: chunked\r\n\r\n")
        (client.dribble if dribbled else client.send)(data + SMUGGLED)
        response = client.response()
        assert response.status == status
        assert response.header["connection"] == "close"
        client.eof()
    assert handled == ["/"]
    assert len(logs.lines) == 1


@pytest.mark.parametrize("row", BAD_BODIES)
def test_bad_body_unread(row: str, logs: Any) -> None:
    """The answer is out already: what can't be skipped ends the connection."""
    logs.expect(r"INFO http: 127.0.0.1:\d+: POST '/': ")
    handled = []

    def handler(stream: Any) -> None:
        handled.append(stream.path)
        hello(stream)

    with asking(handler, limits={"head": 1000} if row == "long trailers" else {}) as client:
        client.send(f"{POST}Transfer-Encoding: chunked\r\n\r\n{BAD_BODIES[row][0]}{SMUGGLED}")
        assert client.response().body == b"hello /"
        client.eof()
    assert handled == ["/"]
    assert len(logs.lines) == 1


GOOD_HEADS = {
    "128 header lines": f"GET / HTTP/1.1\r\n{HOST}" + "X: y\r\n" * 127 + "\r\n",
    "longest line": f"GET / HTTP/1.1\r\n{HOST}X: {'y' * 8189}\r\n\r\n",
    "line end first": f"\r\nGET / HTTP/1.1\r\n{HOST}\r\n",
    "Host in brackets": "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "spaces around a value": f"GET / HTTP/1.1\r\n{HOST}X: \t y \t \r\n\r\n",
    "empty value": f"GET / HTTP/1.1\r\n{HOST}X:\r\n\r\n",
    "8 KiB of commas": f"GET / HTTP/1.1\r\n{HOST}Connection: {',' * 8000}\r\n\r\n",
    "tab in a value": f"GET / HTTP/1.1\r\n{HOST}X: a\tb\r\n\r\n",
}


@pytest.mark.parametrize("dribbled", [False, True], ids=["whole", "dribbled"])
@pytest.mark.parametrize("row", GOOD_HEADS)
def test_good_head(row: str, dribbled: bool) -> None:
    with asking(hello) as client:
        data = GOOD_HEADS[row]
        if dribbled:
            client.dribble(data[:500])
            client.send(data[500:-3])
            client.dribble(data[-3:] if len(data) > 503 else data[500:])
        else:
            client.send(data)
        assert client.response().status == 200


# ---- connections ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["connections", "address_connections"])
def test_connection_limits(limit: str) -> None:
    with serving(hello, limits={limit: 2}) as server:
        with Raw.connect(server) as one, Raw.connect(server) as two:
            for client in (one, two):
                client.request()
                assert client.response().status == 200
            with Raw.connect(server) as three:
                three.request()
                response = three.response()
                assert response.status == 503
                assert response.header["connection"] == "close"
                three.eof()
            for client in (one, two):
                client.request()
                assert client.response().status == 200
        until(lambda: not server._connections)
        assert server._places.by_address == {}
        with Raw.connect(server) as four:
            four.request()
            assert four.response().status == 200


def test_server_attributes() -> None:
    with serving(hello) as server:
        assert server.addr == f"127.0.0.1:{server.port}"
        assert server.port > 0
        assert str(server.port) in repr(server)
        with server:
            pass
        assert server.close() == (False, errno.CLOSED)
    assert tcp.connect(f"127.0.0.1:{server.port}") == (None, errno.CONNREFUSED)


def test_server_close_idle_and_running() -> None:
    """Idle connections close now, others after the request that they serve."""
    started = channel.new()
    go = channel.new()

    def handler(stream: Any) -> None:
        if stream.path == "/slow":
            started.push(1)
            go.pop()
        hello(stream)

    with serving(handler) as server, Raw.connect(server) as idle, Raw.connect(server) as new, Raw.connect(server) as running:
        idle.request()
        assert idle.response().status == 200
        running.request("/slow")
        running.request("/never")
        started.pop()
        assert server.close() == (True, None)
        idle.eof()
        new.eof()
        go.push(1)
        response = running.response()
        assert response.body == b"hello /slow"
        assert response.header["connection"] == "close"
        running.eof()


def test_server_close_with_a_head_under_way() -> None:
    with serving(hello) as server, Raw.connect(server) as client:
        client.send("GET / HTTP/1.1\r\nHo")
        until(lambda: server._connections and not next(iter(server._connections)).idle)
        server.close()
        client.send("st: x\r\n\r\n" + SMUGGLED)
        response = client.response()
        assert response.body == b"hello /"
        assert response.header["connection"] == "close"
        client.eof()


def test_server_close_when_a_request_has_just_arrived() -> None:
    """A request that arrived while its connection was idle is answered."""
    handled = []

    def handler(stream: Any) -> None:
        handled.append(stream.path)
        hello(stream)

    with serving(handler) as server, Raw.connect(server) as client:
        client.request()
        assert client.response().status == 200
        (connection,) = server._connections
        client.request("/second")
        # Its task is on the queue, woken by the data, when the server closes.
        joined(ahead_of_reader(connection._conn, server.close))
        got = client.rest()
    assert handled == ["/", "/second"]
    assert b"hello /second" in got


@pytest.mark.parametrize("spoke", [False, True])
def test_server_close_with_a_connection_just_accepted(spoke: bool) -> None:
    """Its task has not run yet: it is served, and must not be kept for ever after."""
    with serving(hello) as server:
        accept = server._accept
        queued = []
        server._listener._accepted, accepted = lambda *args: queued.append(args), server._listener._accepted
        with Raw.connect(server) as client:
            if spoke:
                client.request()
            until(lambda: queued)
            accepted(*queued[0])
            server.close()
            assert accept == server._accept
            if spoke:
                assert client.response().header["connection"] == "close"
            client.eof()


def test_server_close_ends_a_connection_that_drops_a_body(logs: Logs) -> None:
    logs.allow("the request's body")
    with serving(hello) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 60000")
        assert client.response().body == b"hello /"
        (connection,) = server._connections
        until(lambda: connection.skipping)
        server.close()
        until(lambda: not server._connections)


def test_dict_config() -> None:
    server, err = http.listen({"addr": "127.0.0.1:0", "handler": hello, "backlog": 5})
    assert err is None
    with server, Raw.connect(server) as client:
        client.request()
        assert client.response().status == 200


def test_listen_error_is_logged(logs: Any) -> None:
    logs.expect(r"ERROR .*Address already in use")
    with serving(hello) as server:
        assert http.listen(server.addr, hello) == (None, errno.ADDRINUSE)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (TypeError, {"handler": None}),
        (TypeError, {"handler": "x"}),
        (TypeError, {"handler": hello, "limits": {}}),
        (ValueError, {"handler": hello, "tls": True}),
        (ValueError, {"handler": hello, "certs": []}),
        (ValueError, {"handler": hello, "tls": True, "certs": []}),
        (ValueError, {"handler": hello, "addr": "127.0.0.1"}),
        (TypeError, {"handler": hello, "addr": 80}),
    ],
)
def test_listen_mistakes(kind: type[Exception], options: dict[str, Any]) -> None:
    with pytest.raises(kind):
        http.listen(**{"addr": "127.0.0.1:0", **options})


def test_unix_socket(tmp_path: Any) -> None:
    with http.listen(f"unix:{tmp_path}/s", hello)[0] as server:
        assert server.port == 0
        conn, _ = tcp.connect(server.addr)
        with Raw(conn) as client:
            client.request("/unix")
            assert client.response().body == b"hello /unix"


def test_an_idle_connection_keeps_nothing_of_its_last_request() -> None:
    streams: list[weakref.ref[Any]] = []

    def handler(stream: Any) -> None:
        streams.append(weakref.ref(stream))
        hello(stream)

    with asking(handler) as client:
        for path in ("/a", "/b"):
            client.request(path)
            assert client.response().body == f"hello {path}".encode()
        until(lambda: [stream() for stream in streams] == [None, None])


def test_forgotten_stream_and_server() -> None:
    """A handler may keep its stream: nothing can be done with it, and nothing leaks."""
    kept = []

    def handler(stream: Any) -> None:
        kept.append(stream)
        stream.respond(200)

    with asking(handler) as client:
        client.request("/", "POST", "Content-Length: 3", body="abc")
        assert client.response().status == 200
        (stream,) = kept
        client.request("/", "POST", "Content-Length: 3", body="def")
        assert stream.read(1) == (None, errno.EOF)
        assert stream.readall() == (b"", None)
        assert stream.write("x") == (False, "the response has ended")
        assert client.response().status == 200
        client.silent()


BAD_REQUESTS = {
    "GET /a b?token=hidden HTTP/1.1": "bad request line 'GET /a b?… HTTP/1.1'",
    "GET /a?name=ann smith&token=hidden HTTP/1.1": "bad request line 'GET /a?… HTTP/1.1'",
    "GET /a?name='ann'&token=hidden HTTP/x": "bad request line \"GET /a?… HTTP/x\"",
    "GET /a?name= HTTP/ token=hidden HTTP/1.1": "bad request line 'GET /a?… HTTP/1.1'",
    "GET /a?token=hidden": "bad request line 'GET /a?…'",
    f"GET /a?token=hidden {'x' * 80} HTTP/1.1": "bad request line 'GET /a?…'",
    "GET http://me:hidden@/b?token=hidden HTTP/1.1": "bad Host '…@'",
    "GET http://me:very hidden@b/c HTTP/1.1": "bad request line 'GET http://…@b/c HTTP/1.1'",
    "GET / HTTP/1.1\r\nAuthorization : Bearer hidden": "bad header line that begins 'Authorization '",
    "GET / HTTP/1.1\r\nCookie token=hidden": "bad header line that begins 'Cookie '",
    "GET / HTTP/1.1\r\nCookie\thidden: x": "bad header line that begins 'Cookie\\t'",
    "GET / HTTP/1.1\r\nA: b\r\n hidden": "bad header line that begins ' '",
    "GET / HTTP/1.1\r\nA: b\r\n: hidden": "bad header line that begins ':'",
    "GET / HTTP/1.1\r\nhost": "bad header line that begins 'host'",
}


@pytest.mark.parametrize("head", BAD_REQUESTS)
def test_a_line_about_a_bad_request_shows_no_secret(head: str, logs: Any) -> None:
    """Neither the query, the user and password, nor the value of a field."""
    logs.allow("")
    with serving(hello) as server, Raw.connect(server) as client:
        client.send(f"{head}\r\nHost: x\r\n\r\n")
        assert client.response().status == 400
    (line,) = logs.lines
    assert re.sub(r"^INFO http: [^ ]+: ", "", line) == BAD_REQUESTS[head]


# ---- clients that go away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("at", ["GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n"])
def test_client_gone_within_a_head(how: str, at: str, logs: Any, debugged: list[str]) -> None:
    with serving(hello) as server, Raw.connect(server) as client:
        client.send(at)
        until(lambda: server._connections and not next(iter(server._connections)).idle)
        getattr(client, how)()
        until(lambda: not server._connections)
    assert logs.lines == []
    assert re.search("http: .*: the connection ended within a request's head: ", debugged[0])


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_gone_between_requests(how: str, logs: Any) -> None:
    with serving(hello) as server, Raw.connect(server) as client:
        client.request()
        assert client.response().status == 200
        getattr(client, how)()
        until(lambda: not server._connections)
    assert logs.lines == []


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
@pytest.mark.parametrize(("field", "body"), BODIES)
def test_client_gone_within_a_body(how: str, field: str, body: bytes, logs: Any) -> None:
    logs.expect("INFO http: .*: POST '/': the request's body is incomplete: ")
    results = []

    def handler(stream: Any) -> None:
        results.append(stream.readall())
        readall(stream)

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", field, body=body[:5])
        until(lambda: server._connections)
        getattr(client, how)()
        if how == "half_close":
            assert client.response().status == 400
            client.eof()
        until(lambda: not server._connections)
    ((data, err),) = results
    assert data is None
    assert err
    assert len(logs.lines) == 1


def test_half_closed_client_is_answered() -> None:
    with asking(hello) as client:
        client.request("/a")
        client.request("/b")
        client.half_close()
        assert client.response().body == b"hello /a"
        assert client.response().body == b"hello /b"
        client.eof()


def test_client_gone_within_a_response() -> None:
    results = []
    gone = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("begun")
        stream.flush()
        gone.pop()
        while True:
            result = stream.write(b"x" * 100_000)
            if not result:
                break
        results.append(result)
        results.append(stream.close())

    with serving(handler) as server, Raw.connect(server) as client:
        client.request()
        client.read("begun")
        client.reset()
        gone.push(1)
        until(lambda: not server._connections)
    assert [ok for ok, _ in results] == [False, False]
    assert all(err in (errno.CONNRESET, errno.PIPE) for _, err in results)


def test_slow_reader_of_a_large_response() -> None:
    """The handler waits, memory stays bounded, and every byte arrives."""
    size = 16 * 2**20
    highest = 0

    def handler(stream: Any) -> None:
        nonlocal highest
        stream.respond(200, {"content-length": size})
        for i in range(size // 65536):
            assert stream.write(bytes((i % 256,)) * 65536)
            highest = max(highest, stream.conn.unsentbytes())

    with asking(handler) as client:
        client.request()
        client.read("\r\n\r\n")
        turn(50)
        assert highest <= 2**20 + 65536 + 100
        for i in range(size // 65536):
            assert client.read(65536) == bytes((i % 256,)) * 65536
    assert highest > 2**19


def test_large_response_at_once() -> None:
    body = bytes(range(256)) * 4096 * 8
    with asking(lambda stream: (stream.respond(200), stream.close(body))) as client:
        client.request()
        client.request()
        assert client.response().body == body
        assert client.response().body == body


def test_head_dribbled_up_to_the_cap_is_cheap(logs: Any) -> None:
    """CVE-2023-43669: the growing head is not parsed again and again."""
    logs.expect("limit 'head'")
    with asking(hello, limits={"header_lines": 100_000}) as client:
        tracemalloc.start()
        try:
            client.dribble("GET / HTTP/1.1\r\nHost: x\r\n")
            for _ in range(1000):
                if not client.conn.write(b"X: " + b"y" * 62 + b"\r\n"):
                    break
                turn()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert client.response().status == 431
        client.eof()
    assert peak < 2 * 2**20


def test_many_connections_one_after_another() -> None:
    with serving(hello) as server:
        for _ in range(200):
            with Raw.connect(server) as client:
                client.request()
                assert client.response().status == 200


def test_killed_handler(logs: Any) -> None:
    """The end of the process throws GreenletExit: the connection ends, nothing is logged."""
    tasks = []

    def handler(stream: Any) -> None:
        tasks.append(task.running())
        stream.readall()

    with asking(handler) as client:
        client.request("/", "POST", "Content-Length: 3")
        until(lambda: tasks)
        scheduler.loop.post(scheduler.throw, tasks[0], GreenletExit())
        client.eof()
    assert logs.lines == []


def test_response_framing_is_one_of_three() -> None:
    """Never two framings in a response, whatever the handler does."""
    for version in ("1.0", "1.1"):
        for header in ({}, {"content-length": 2}, {"transfer-encoding": "Chunked"}):
            for writes in ([], ["a"], ["a", "b"]):
                body = "ab"[len(writes) :]

                def handler(stream: Any, header: Any = header, writes: Any = writes, body: str = body) -> None:
                    stream.respond(200, header)
                    for each in writes:
                        stream.write(each)
                    stream.close(body)

                with asking(handler) as client:
                    client.send(f"GET / HTTP/{version}\r\nHost: x\r\n\r\n")
                    response = client.response()
                    assert response.body == b"ab"
                    assert not re.search("content-length.*transfer-encoding", " ".join(response.header))
