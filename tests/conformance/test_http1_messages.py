"""RFC 9112 and RFC 9110: HTTP/1.1 messages, and where each of them ends.

Requests go over a socket to a server that tells what it was given: whole, in two parts split at every byte, byte by byte, and
with another request behind. Responses are read from bytes, in the same ways.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from silly._wire.limits import DEFAULT

from ..fuzz.messages import ENDED, INCOMPLETE, drive
from ..fuzz.responses import reading
from ..helpers import Raw, serving, turn
from ..wire.support import TRAILING, bytewise, segmentations

NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
"""A request behind: taken for itself where the connection goes on, and never seen where it doesn't."""

Due = dict[str, Any]
"""What a handler is to be given, as far as a vector cares."""


class Taken(NamedTuple):
    data: bytes
    due: list[Due]
    close: bool = False
    """Whether the connection ends behind it."""


def head(*fields: str, line: str = "GET / HTTP/1.1", host: str | None = "x") -> bytes:
    rows = [line, *([f"Host: {host}"] if host is not None else []), *fields]
    return "\r\n".join([*rows, "", ""]).encode("latin-1")


def post(*fields: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    return head(*fields, line=f"POST / {version}") + body


def chunked(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body=body)


def taken(data: bytes, *, close: bool = False, **due: Any) -> Taken:
    return Taken(data, [due], close)


ACCEPTED: dict[str, Taken] = {
    # the message
    "9112-2.1-start-line-fields-body": taken(post("A: b", "Content-Length: 3", body=b"abc"), method="POST", a="b", body=b"abc"),
    "9112-2.2-an-empty-line-first": taken(b"\r\n" + head(), path="/"),
    "9112-2.3-http-1.0": taken(head(line="GET / HTTP/1.0"), version="HTTP/1.0", close=True),
    # the request line
    "9112-3.1-method-is-case-sensitive": taken(head(line="get / HTTP/1.1"), method="get"),
    "9110-9.1-any-token-is-a-method": taken(head(line="M-SEARCH / HTTP/1.1"), method="M-SEARCH"),
    "9110-9.1-every-token-character": taken(head(line="!#$%&'*+-.^_`|~09azAZ / HTTP/1.1"), method="!#$%&'*+-.^_`|~09azAZ"),
    "9110-9.3.2-head": taken(head(line="HEAD / HTTP/1.1"), method="HEAD"),
    "9110-9.3.1-get-with-content": taken(head("Content-Length: 2") + b"ab", method="GET", body=b"ab"),
    "9110-9.3.5-delete-with-content": taken(head("Content-Length: 2", line="DELETE /x HTTP/1.1") + b"ab", body=b"ab"),
    "9112-3.2.1-origin-form": taken(head(line="GET /where?q=now HTTP/1.1"), path="/where", query={"q": "now"}),
    "9112-3.2.1-empty-query": taken(head(line="GET /a? HTTP/1.1"), path="/a", query={}),
    "9112-3.2.1-question-marks-in-the-query": taken(
        head(line="GET /a?b=?&c=/ HTTP/1.1"), path="/a", query={"b": "?", "c": "/"}
    ),
    "9112-3.2.1-two-slashes": taken(head(line="GET //a//b HTTP/1.1"), path="//a//b"),
    "9112-3.2.1-dot-segments-as-sent": taken(head(line="GET /a/../b/./c HTTP/1.1"), path="/a/../b/./c"),
    "9112-3.2.1-escapes-as-sent": taken(head(line="GET /%41%2f%00 HTTP/1.1"), path="/%41%2f%00"),
    "9112-3.2.2-absolute-form": taken(
        head(line="GET http://y:8080/p?a=b HTTP/1.1"), path="/p", query={"a": "b"}, host="y:8080"
    ),
    "9112-3.2.2-the-target-overrides-host": taken(head(line="GET http://y/ HTTP/1.1", host="z:1"), host="y"),
    "9112-3.2.2-absolute-form-without-path": taken(head(line="GET http://y HTTP/1.1"), path="/", host="y"),
    "9112-3.2.2-absolute-form-without-path-but-query": taken(
        head(line="GET http://y?a=b HTTP/1.1"), path="/", query={"a": "b"}
    ),
    "9110-4.2.3-scheme-in-any-case": taken(head(line="GET HTTP://y/p HTTP/1.1"), path="/p", host="y"),
    "9112-3.2.2-absolute-form-in-1.0": taken(head(line="GET http://y/ HTTP/1.0", host=None), host="y", close=True),
    "9112-3.2.4-asterisk-form": taken(head(line="OPTIONS * HTTP/1.1"), method="OPTIONS", path="*"),
    "9110-9.3.7-options-of-a-path": taken(head(line="OPTIONS /a HTTP/1.1"), path="/a"),
    # fields
    "9110-5.1-names-in-any-case": taken(head("x-A: 1"), **{"x-a": "1"}),
    "9110-5.6.2-every-token-character-in-a-name": taken(head("!#$%&'*+-.^_`|~09azAZ: 1"), **{"!#$%&'*+-.^_`|~09azaz": "1"}),
    "9110-5.2-repeated-fields-are-one-list": taken(head("A: 1", "B: x", "a: 2", "A: "), a="1, 2, ", b="x"),
    "9110-5.3-set-cookie-is-not-joined": taken(head("Set-Cookie: a=1", "Set-Cookie: b=2"), **{"set-cookie": "a=1"}),
    "9112-5-no-space-behind-the-colon": taken(head("A:b"), a="b"),
    "9112-5-spaces-and-tabs-around-a-value": taken(head("A: \t b c \t "), a="b c"),
    "9110-5.5-an-empty-value": taken(head("A:", "B:  \t"), a="", b=""),
    "9110-5.5-obs-text": taken(head("A: \xe9\xff"), a="\xe9\xff"),
    "9110-5.5-a-tab-within": taken(head("A: b\tc"), a="b\tc"),
    "9110-5.5-colons-quotes-commas": taken(head('A: "b:c", ;='), a='"b:c", ;='),
    "9110-5.6.1-empty-list-elements": taken(head("Connection: ,, close ,"), close=True),
    # Host
    "9110-7.2-a-name": taken(head(host="a.example"), host="a.example"),
    "9110-7.2-a-name-and-a-port": taken(head(host="a.example:8080"), host="a.example:8080"),
    "3986-3.2.3-a-name-and-an-empty-port": taken(head(host="a.example:"), host="a.example:"),
    "9110-7.2-an-ipv4-address": taken(head(host="127.0.0.1:80"), host="127.0.0.1:80"),
    "9110-7.2-an-ipv6-address": taken(head(host="[2001:db8::1]:80"), host="[2001:db8::1]:80"),
    "9110-7.2-an-ipv6-address-with-an-ipv4-tail": taken(head(host="[::ffff:127.0.0.1]"), host="[::ffff:127.0.0.1]"),
    "3986-3.2.2-a-name-with-an-escape": taken(head(host="a%20b"), host="a%20b"),
    "9112-3.2-1.0-needs-no-host": taken(head(line="GET / HTTP/1.0", host=None), host=None, close=True),
    # 6.3: the framing of requests
    "9112-6.3-7-no-length-no-body": taken(post(), body=b""),
    "9112-6.3-6-content-length": taken(post("Content-Length: 5", body=b"hello"), body=b"hello"),
    "9112-6.3-6-a-body-that-looks-like-a-request": taken(post(f"Content-Length: {len(NEXT)}", body=NEXT), body=NEXT),
    "9110-8.6-zero": taken(post("Content-Length: 0"), body=b""),
    "9110-8.6-leading-zeros": taken(post("Content-Length: 0005", body=b"hello"), body=b"hello"),
    "9110-8.6-in-1.0": taken(post("Content-Length: 5", body=b"hello", version="HTTP/1.0"), body=b"hello", close=True),
    "9112-6.3-4-chunked": taken(chunked(b"5\r\nhello\r\n0\r\n\r\n"), body=b"hello"),
    "9110-7-coding-names-in-any-case": taken(post("Transfer-Encoding: cHuNkEd", body=b"1\r\nx\r\n0\r\n\r\n"), body=b"x"),
    "9112-6.1-chunked-get": taken(head("Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n", method="GET", body=b"x"),
    # 7.1: the chunked coding
    "9112-7.1-no-chunk": taken(chunked(b"0\r\n\r\n"), body=b""),
    "9112-7.1-several-chunks": taken(chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), body=b"hello"),
    "9112-7.1-hex-in-both-cases": taken(chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), body=b"0123456789" * 2),
    "9112-7.1-leading-zeros": taken(chunked(b"000000001\r\nx\r\n00\r\n\r\n"), body=b"x"),
    "9112-7.1-data-of-line-ends": taken(chunked(b"6\r\n\r\n0\r\n\r\r\n0\r\n\r\n"), body=b"\r\n0\r\n\r"),
    "9112-7.1.1-extensions": taken(chunked(b'1;a\r\nx\r\n1;b=c;d="e;f"\r\ny\r\n0;g\r\n\r\n'), body=b"xy"),
    "9112-7.1.1-bad-whitespace": taken(chunked(b"1 ; a = b\r\nx\r\n0\t;c\r\n\r\n"), body=b"x"),
    "9112-7.1.2-trailers": taken(chunked(b"1\r\nx\r\n0\r\nA: 1\r\nb:2 \r\n\r\n"), body=b"x", trailer={"a": "1", "b": "2"}),
    "9110-6.5.2-trailers-stay-out-of-the-header": taken(chunked(b"0\r\nA: 1\r\n\r\n"), a=None, trailer={"a": "1"}),
    "9110-5.2-repeated-trailers": taken(chunked(b"0\r\nA: 1\r\nA: 2\r\n\r\n"), trailer={"a": "1, 2"}),
    # 9: connections
    "9112-9.3-1.1-persists": taken(head()),
    "9112-9.3-1.1-close": taken(head("Connection: close"), close=True),
    "9110-7.6.1-close-in-any-case": taken(head("Connection: CLOSE"), close=True),
    "9110-7.6.1-close-among-others": taken(head("Connection: te, close"), close=True),
    "9110-7.6.1-close-in-a-second-field": taken(head("Connection: te", "Connection: close"), close=True),
    "9110-7.6.1-not-close": taken(head("Connection: closed, not-close")),
    "9112-9.3-1.0-closes": taken(head("Connection: te", line="GET / HTTP/1.0"), close=True),
    "9112-9.3-1.0-keep-alive": taken(head("Connection: Keep-Alive", line="GET / HTTP/1.0"), version="HTTP/1.0"),
    "9112-9.3-close-is-more-than-keep-alive": taken(head("Connection: keep-alive, close"), close=True),
    "9110-7.8-another-protocol-is-not-taken-up": taken(head("Connection: Upgrade", "Upgrade: h2c"), upgrade="h2c"),
    "9110-7.8-upgrade-in-1.0-is-ignored": taken(
        head("Connection: Upgrade", "Upgrade: websocket", line="GET / HTTP/1.0"), close=True
    ),
    "9112-9.3.2-pipelined": Taken(
        head(line="GET /1 HTTP/1.1")
        + chunked(b"1\r\nx\r\n0\r\n\r\n")
        + b"\r\n"
        + post("Content-Length: 1", body=b"y")
        + head(),
        [{"path": "/1", "body": b""}, {"body": b"x"}, {"body": b"y"}, {"method": "GET"}],
    ),
    "9112-9.6-nothing-behind-close-is-a-request": Taken(
        head(line="GET /1 HTTP/1.1") + head("Connection: close", line="GET /2 HTTP/1.1"),
        [{"path": "/1"}, {"path": "/2"}],
        close=True,
    ),
}


class Recorder:
    """A handler that keeps what it is given, once it has all of it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, stream: Any) -> None:
        body, err = stream.readall()
        if err is None:
            self.seen.append((stream, body))
        stream.respond(200, {})
        stream.close(b"ok")

    def check(self, due: list[Due]) -> None:
        assert len(self.seen) == len(due)
        for (stream, body), values in zip(self.seen, due, strict=True):
            for name, value in values.items():
                if name == "body":
                    assert body == value
                elif name in ("method", "path", "query", "version", "trailer"):
                    assert getattr(stream, name) == value
                else:
                    assert stream.header[name] == value
        self.seen.clear()


def send(client: Any, pieces: list[bytes]) -> None:
    """Each piece on its own, as far as the server takes them."""
    for piece in pieces:
        client.conn.write(piece)
        client.conn._stream.flush()
        if len(pieces) > 1:
            turn()


@pytest.mark.parametrize("name", ACCEPTED)
def test_requests_that_are_accepted(name: str) -> None:
    vector = ACCEPTED[name]
    handler = Recorder()
    method = "HEAD" if vector.data.startswith(b"HEAD") else "GET"
    with serving(handler) as server:
        for pieces in segmentations(vector.data):
            with Raw.connect(server) as client:
                send(client, pieces)
                for _ in vector.due:
                    response = client.response(method)
                    assert response.status == 200
                assert (response.header.get("connection") == "close") is vector.close
                if vector.close:
                    client.eof()
                else:
                    client.silent()
            handler.check(vector.due)
        behind = vector.data + NEXT
        # A peer that sends on after the end gets a reset.
        for pieces in ([behind],) if vector.close else ([behind], bytewise(behind)):
            with Raw.connect(server) as client:
                send(client, pieces)
                assert [client.response(method).status for _ in vector.due] == [200] * len(vector.due)
                if vector.close:
                    client.eof()
                else:
                    assert client.response().status == 200
            handler.check(vector.due if vector.close else [*vector.due, {"path": "/next"}])


REFUSED: dict[str, tuple[bytes, int]] = {
    # lines
    "9112-2.2-lf-alone-behind-the-request-line": (b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
    "9112-2.2-lf-alone-behind-a-field": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
    "9112-2.2-cr-alone": (head("A: b\rc"), 400),
    "9112-2.2-two-empty-lines-first": (b"\r\n\r\n" + head(), 400),
    "9112-2.2-space-before-the-first-field": (head(" A: b", host=None), 400),
    "9112-2.2-a-folded-host": (b"GET / HTTP/1.1\r\nHost:\r\n x\r\n\r\n", 400),
    # the request line
    "9112-3-two-spaces": (head(line="GET  / HTTP/1.1"), 400),
    "9112-3-a-tab": (head(line="GET\t/ HTTP/1.1"), 400),
    "9112-3-a-space-behind": (head(line="GET / HTTP/1.1 "), 400),
    "9112-3-no-version": (head(line="GET /"), 400),
    "9112-3-a-space-in-the-target": (head(line="GET /a b HTTP/1.1"), 400),
    "9110-5.6.2-a-method-that-is-no-token": (head(line="GE(T / HTTP/1.1"), 400),
    "9112-2.3-http-2.0": (head(line="GET / HTTP/2.0"), 505),
    "9112-2.3-http-1.2": (head(line="GET / HTTP/1.2"), 505),
    "9112-2.3-lower-case": (head(line="GET / http/1.1"), 400),
    "9112-2.3-two-digits": (head(line="GET / HTTP/1.11"), 400),
    "9112-3.2-a-fragment": (head(line="GET /a#b HTTP/1.1"), 400),
    "9112-3.2-not-ascii": (head(line="GET /\xe9 HTTP/1.1"), 400),
    "9112-3.2.1-no-slash": (head(line="GET a HTTP/1.1"), 400),
    "9112-3.2.2-another-scheme": (head(line="GET file:///etc HTTP/1.1"), 400),
    "9110-4.2.1-no-authority": (head(line="GET http:///a HTTP/1.1"), 400),
    "9110-4.2.4-userinfo": (head(line="GET http://u:p@x/ HTTP/1.1"), 400),
    "9112-3.2.3-authority-form-of-get": (head(line="GET x:80 HTTP/1.1"), 400),
    "9112-3.2.3-connect-of-a-path": (head(line="CONNECT /a HTTP/1.1"), 400),
    "9112-3.2.3-connect-without-a-port": (head(line="CONNECT x HTTP/1.1"), 400),
    "9110-9.3.6-connect-with-an-empty-port": (head(line="CONNECT x: HTTP/1.1"), 400),
    "9110-9.3.6-connect-with-a-length": (head("Content-Length: 5", line="CONNECT x:80 HTTP/1.1") + b"hello", 400),
    "9110-9.3.6-connect-with-chunks": (head("Transfer-Encoding: chunked", line="CONNECT x:80 HTTP/1.1") + b"0\r\n\r\n", 400),
    "9112-3.2.4-asterisk-form-of-get": (head(line="GET * HTTP/1.1"), 400),
    # fields
    "9112-5-no-colon": (head("A"), 400),
    "9112-5-no-name": (head(": b"), 400),
    "9112-5.1-a-space-before-the-colon": (head("A : b"), 400),
    "9112-5.1-a-tab-before-the-colon": (head("Content-Length\t: 5"), 400),
    "9112-5.2-a-folded-line": (head("A: b", " c"), 400),
    "9112-5.2-a-folded-coding": (head("Transfer-Encoding: x", "\tchunked"), 400),
    "9110-5.5-nul": (head("A: b\0c"), 400),
    "9110-5.5-another-control": (head("A: \x1b[2J"), 400),
    "9110-5.5-del": (head("A: \x7f"), 400),
    "9110-5.6.2-a-name-that-is-no-token": (head("A@: b"), 400),
    # Host
    "9112-3.2-no-host": (head(host=None), 400),
    "9112-3.2-two-hosts": (head("Host: x"), 400),
    "9112-3.2-two-hosts-in-1.0": (head("Host: y", line="GET / HTTP/1.0"), 400),
    "9112-3.2-no-host-beside-an-absolute-target": (head(line="GET http://x/ HTTP/1.1", host=None), 400),
    "9110-7.2-an-empty-host": (head(host=""), 400),
    "9110-7.2-userinfo": (head(host="u@x"), 400),
    "9110-7.2-a-path": (head(host="x/y"), 400),
    "9110-7.2-a-list": (head(host="x, y"), 400),
    "9110-7.2-a-port-out-of-range": (head(host="x:65536"), 400),
    "9110-7.2-a-port-alone": (head(host=":80"), 400),
    "3986-3.2.2-no-ipv6-address": (head(host="[1::2::3]"), 400),
    "3986-3.2.2-ipv4-in-brackets": (head(host="[127.0.0.1]"), 400),
    "3986-3.2.2-nine-groups": (head(host="[1:2:3:4:5:6:7:8:9]"), 400),
    "3986-3.2.2-ipv6-without-brackets": (head(host="::1"), 400),
    "3986-2.1-half-an-escape": (head(host="a%2"), 400),
    "3986-2.1-no-escape": (head(host="a%zz"), 400),
    "3986-2.1-no-escape-in-the-target": (head(line="GET http://a%zz/ HTTP/1.1"), 400),
    # 6: framing
    "9112-6.1-length-and-coding": (post("Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "9112-6.1-coding-in-1.0": (post("Transfer-Encoding: chunked", body=b"0\r\n\r\n", version="HTTP/1.0"), 400),
    "9112-6.1-an-unknown-coding": (post("Transfer-Encoding: x, chunked", body=b"0\r\n\r\n"), 501),
    "9112-6.3-4-chunked-is-not-last": (post("Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), 400),
    "9112-6.3-4-chunked-is-not-there": (post("Transfer-Encoding: gzip", body=b"0\r\n\r\n"), 400),
    "9112-6.1-chunked-twice": (post("Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400),
    "9112-6.3-5-two-lengths": (post("Content-Length: 5", "Content-Length: 6", body=b"hello"), 400),
    "9110-8.6-one-length-twice": (post("Content-Length: 5, 5", body=b"hello"), 400),
    "9110-8.6-a-sign": (post("Content-Length: +5", body=b"hello"), 400),
    "9110-8.6-hex": (post("Content-Length: 0x5", body=b"hello"), 400),
    "9110-8.6-a-fraction": (post("Content-Length: 5.0", body=b"hello"), 400),
    "9110-8.6-empty": (post("Content-Length: ", body=b"hello"), 400),
    "9110-8.6-too-large": (post("Content-Length: 99999999999999999999", body=b"hello"), 400),
    # 7.1: the chunked coding
    "9112-7.1-no-size": (chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    "9112-7.1-a-size-that-is-none": (chunked(b"5h\r\nhello\r\n0\r\n\r\n"), 400),
    "9112-7.1-a-space-behind-the-size": (chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400),
    "9112-7.1-too-large": (chunked(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), 400),
    "9112-7.1-lf-behind-the-size": (chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    "9112-7.1-too-short-for-its-data": (chunked(b"4\r\nhello\r\n0\r\n\r\n"), 400),
    "9112-7.1-too-long-for-its-data": (chunked(b"6\r\nhello\r\n0\r\n\r\n"), 400),
    "9112-7.1-no-line-end-behind-the-data": (chunked(b"5\r\nhello0\r\n\r\n"), 400),
    "9112-7.1.1-lf-in-an-extension": (chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    "9112-7.1.2-a-trailer-without-a-colon": (chunked(b"0\r\nGET / HTTP/1.1\r\n\r\n"), 400),
    "9112-7.1.2-a-folded-trailer": (chunked(b"0\r\nA: b\r\n c\r\n\r\n"), 400),
    "9110-6.5.1-a-trailer-that-frames": (chunked(b"0\r\nContent-Length: 5\r\n\r\n"), 400),
    "9110-6.5.1-a-trailer-that-routes": (chunked(b"0\r\nHost: y\r\n\r\n"), 400),
    "9110-6.5.1-a-trailer-that-authorises": (chunked(b"0\r\nAuthorization: x\r\n\r\n"), 400),
    "9110-6.5.1-a-trailer-that-is-a-condition": (chunked(b"0\r\nIf-Match: x\r\n\r\n"), 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_requests_that_are_refused(name: str, logs: Any) -> None:
    """The status, then the end: what is behind a request whose end is in doubt is never one."""
    logs.expect("INFO http: 127.0.0.1:")
    data, status = REFUSED[name]
    handler = Recorder()
    with serving(handler) as server:
        for pieces in (*segmentations(data), [data + NEXT], bytewise(data + NEXT), [data + TRAILING]):
            with Raw.connect(server) as client:
                send(client, pieces)
                response = client.response()
                assert (response.status, response.header["connection"]) == (status, "close")
                client.eof()
    handler.check([])


# ---- responses ------------------------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b"\r\nhello"
CHUNKS = b"\r\n5\r\nhello\r\n0\r\n\r\n"

GIVEN: dict[str, tuple[str, bytes, list[tuple[int, bytes]], str]] = {
    # the status line
    "9112-4-a-reason": ("GET", b"HTTP/1.1 404 Not Found\r\n" + LENGTH + BODY, [(404, b"hello")], INCOMPLETE),
    "9112-4-an-empty-reason": ("GET", b"HTTP/1.1 200 \r\n" + LENGTH + BODY, [(200, b"hello")], INCOMPLETE),
    "9112-4-no-reason": ("GET", b"HTTP/1.1 200\r\n" + LENGTH + BODY, [(200, b"hello")], INCOMPLETE),
    "9112-4-a-reason-in-latin-1": ("GET", b"HTTP/1.1 200 \xe9\r\n" + LENGTH + BODY, [(200, b"hello")], INCOMPLETE),
    "9110-15-an-unknown-status": ("GET", b"HTTP/1.1 299 x\r\n" + LENGTH + BODY, [(299, b"hello")], INCOMPLETE),
    "9112-5.2-folded-fields": ("GET", OK + b"A: b\r\n c\r\n" + LENGTH + b"D:\r\n\te\r\n" + BODY, [(200, b"hello")], INCOMPLETE),
    "9112-7.1-spaces-behind-the-size": (
        "GET",
        OK + CHUNKED + b"\r\n5  \r\nhello\r\n0\t\r\n\r\n",
        [(200, b"hello")],
        INCOMPLETE,
    ),
    # 6.3, rule 1: no body, whatever is said
    "9112-6.3-1-head-with-a-length": ("HEAD", OK + LENGTH + b"\r\n", [(200, b"")], INCOMPLETE),
    "9112-6.3-1-head-with-chunks": ("HEAD", OK + CHUNKED + b"\r\n", [(200, b"")], INCOMPLETE),
    "9112-6.3-1-head-of-an-error": ("HEAD", b"HTTP/1.1 404 x\r\n" + LENGTH + b"\r\n", [(404, b"")], INCOMPLETE),
    "9112-6.3-1-204": ("GET", b"HTTP/1.1 204 x\r\n\r\n", [(204, b"")], INCOMPLETE),
    "9112-6.3-1-204-with-a-length": ("GET", b"HTTP/1.1 204 x\r\n" + LENGTH + b"\r\n", [(204, b"")], INCOMPLETE),
    "9112-6.3-1-304-with-a-length": ("GET", b"HTTP/1.1 304 x\r\n" + LENGTH + b"\r\n", [(304, b"")], INCOMPLETE),
    "9112-6.3-1-304-with-chunks": ("GET", b"HTTP/1.1 304 x\r\n" + CHUNKED + b"\r\n", [(304, b"")], INCOMPLETE),
    "9112-6.3-1-100-then-200": (
        "GET",
        b"HTTP/1.1 100 x\r\n\r\n" + OK + LENGTH + BODY,
        [(100, b""), (200, b"hello")],
        INCOMPLETE,
    ),
    "9110-15.2-an-unknown-1xx": (
        "GET",
        b"HTTP/1.1 199 x\r\nA: b\r\n\r\n" + OK + LENGTH + BODY,
        [(199, b""), (200, b"hello")],
        INCOMPLETE,
    ),
    "9110-15.2-several-1xx": (
        "GET",
        b"HTTP/1.1 103 x\r\n\r\n" * 3 + OK + LENGTH + BODY,
        [(103, b"")] * 3 + [(200, b"hello")],
        INCOMPLETE,
    ),
    "9110-15.2.2-101": ("GET", b"HTTP/1.1 101 null\r\n\r\n", [(101, b"")], ENDED),
    "9110-15.2.2-101-with-a-length": ("GET", b"HTTP/1.1 101 x\r\n" + LENGTH + b"\r\n", [(101, b"")], ENDED),
    # rule 2: tunnels
    "9112-6.3-2-connect": ("CONNECT", OK + b"\r\n", [(200, b"")], ENDED),
    "9112-6.3-2-connect-with-a-length": ("CONNECT", OK + LENGTH + b"\r\n", [(200, b"")], ENDED),
    "9112-6.3-2-connect-with-chunks": ("CONNECT", b"HTTP/1.1 299 x\r\n" + CHUNKED + b"\r\n", [(299, b"")], ENDED),
    "9112-6.3-2-connect-refused": ("CONNECT", b"HTTP/1.1 407 x\r\n" + LENGTH + BODY, [(407, b"hello")], INCOMPLETE),
    # rules 4, 6 and 8
    "9112-6.3-4-chunked": ("GET", OK + CHUNKED + CHUNKS, [(200, b"hello")], INCOMPLETE),
    "9112-6.3-4-chunked-and-close": ("GET", OK + CHUNKED + b"Connection: close\r\n" + CHUNKS, [(200, b"hello")], INCOMPLETE),
    "9112-6.3-6-length": ("GET", OK + LENGTH + BODY, [(200, b"hello")], INCOMPLETE),
    "9112-6.3-6-length-0": ("GET", OK + b"Content-Length: 0\r\n\r\n", [(200, b"")], INCOMPLETE),
    "9112-6.3-6-length-in-1.0": ("GET", b"HTTP/1.0 200 OK\r\n" + LENGTH + BODY, [(200, b"hello")], INCOMPLETE),
    "9110-15.3.6-205-is-framed-as-any": ("GET", b"HTTP/1.1 205 x\r\nContent-Length: 0\r\n\r\n", [(205, b"")], INCOMPLETE),
    "9112-9.3.2-in-a-row": (
        "GET",
        OK + LENGTH + BODY + OK + CHUNKED + CHUNKS + OK + LENGTH + BODY,
        [(200, b"hello")] * 3,
        INCOMPLETE,
    ),
}


def given(method: str, pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], str | int]:
    got = drive(pieces, reading(DEFAULT, [2**20], method))
    return [(message.head.status, bytes(message.body)) for message in got.whole], got.verdict


@pytest.mark.parametrize("name", GIVEN)
def test_responses(name: str) -> None:
    method, data, due, verdict = GIVEN[name]
    for pieces in segmentations(data):
        assert given(method, pieces) == (due, verdict)
    for pieces in ([data + TRAILING], bytewise(data + TRAILING)):
        # Behind the last a tunnel begins, or something that is not a response.
        assert given(method, pieces) == (due, ENDED if verdict == ENDED else 400)
    # No prefix makes more than its responses.
    for size in range(len(data)):
        got, verdict = given(method, [data[:size]])
        assert verdict == INCOMPLETE
        assert got == due[: len(got)]
        assert len(got) < len(due)


UNTIL_CLOSE: dict[str, tuple[bytes, bytes]] = {
    "9112-6.3-8-no-length": (OK + b"\r\n", b"hello"),
    "9112-6.3-8-in-1.0": (b"HTTP/1.0 200 OK\r\n\r\n", b"hello"),
    "9112-6.3-8-what-looks-like-a-response": (OK + b"\r\n", OK + LENGTH + BODY),
    "9112-6.3-8-any-bytes": (b"HTTP/1.1 500 x\r\nConnection: close\r\n\r\n", TRAILING),
}


@pytest.mark.parametrize("name", UNTIL_CLOSE)
def test_responses_that_end_with_the_connection(name: str) -> None:
    start, body = UNTIL_CLOSE[name]
    for pieces in segmentations(start + body):
        got = drive(pieces, reading(DEFAULT, [2**20], "GET"))
        assert [bytes(message.body) for message in got.messages] == [body]
        assert (got.verdict, got.whole, got.rest) == (INCOMPLETE, [], b"")


BAD: dict[str, bytes] = {
    "9112-4-http-2": b"HTTP/2 200\r\n\r\n",
    "9112-4-http-1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "9112-4-another-protocol": b"ICY 200 OK\r\n\r\n",
    "9112-4-two-digits": b"HTTP/1.1 99 OK\r\n\r\n",
    "9112-4-four-digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "9110-15-below-100": b"HTTP/1.1 099 OK\r\n\r\n",
    "9112-4-two-spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "9112-4-a-control-in-the-reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "9112-4-a-request": head(),
    "9112-2.2-lf-alone": b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
    "9112-2.2-cr-alone": OK + b"A: b\rc\r\n\r\n",
    "9112-5.1-a-space-before-the-colon": OK + b"Content-Length : 5\r\n" + BODY,
    "9112-5.2-a-fold-first": OK + b" A: b\r\n" + LENGTH + BODY,
    "9112-5.2-a-folded-length": OK + b"Content-Length:\r\n 5\r\n" + BODY,
    "9112-5.2-a-folded-coding": OK + b"Transfer-Encoding: chunked\r\n \r\n" + CHUNKS,
    "9112-7.1-a-space-before-the-size": OK + CHUNKED + b"\r\n 5\r\nhello\r\n0\r\n\r\n",
    "9112-6.3-3-length-and-coding": OK + LENGTH + CHUNKED + CHUNKS,
    "9112-6.3-4-coding-in-1.0": b"HTTP/1.0 200 OK\r\n" + CHUNKED + CHUNKS,
    "9112-6.3-4-chunked-is-not-last": OK + b"Transfer-Encoding: chunked, gzip\r\n" + CHUNKS,
    "9112-6.1-an-unknown-coding": OK + b"Transfer-Encoding: gzip, chunked\r\n" + CHUNKS,
    "9112-6.3-5-two-lengths": OK + LENGTH + b"Content-Length: 6\r\n" + BODY,
    "9112-6.3-5-no-length": OK + b"Content-Length: five\r\n" + BODY,
    "9112-6.3-5-a-negative-length": OK + b"Content-Length: -5\r\n" + BODY,
    "9112-7.1-cve-2026-69244-no-size": OK + CHUNKED + b"\r\n\r\nhello\r\n0\r\n\r\n",
    "9112-7.1-cve-2026-69244-a-size-that-is-none": OK + CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "9112-7.1-cve-2026-69244-too-short": OK + CHUNKED + b"\r\n4\r\nhello\r\n0\r\n\r\n",
    "9112-7.1-cve-2026-69244-bytes-that-are-no-text": OK + CHUNKED + b"\r\n\xff\xfe\r\n\r\n",
    "9112-7.1.1-lf-in-an-extension": OK + CHUNKED + b"\r\n5;\nhello\r\n0\r\n\r\n",
    "9112-7.1.2-a-trailer-without-a-colon": OK + CHUNKED + b"\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n",
    "9110-6.5.1-a-trailer-that-frames": OK + CHUNKED + b"\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "9110-6.5.1-a-trailer-that-challenges": OK + CHUNKED + b"\r\n0\r\nWWW-Authenticate: Basic\r\n\r\n",
    "9110-6.5.1-a-trailer-that-sets-a-cookie": OK + CHUNKED + b"\r\n0\r\nSet-Cookie: a=b\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
def test_responses_that_are_refused(name: str) -> None:
    data = BAD[name]
    verdicts = {given("GET", pieces)[1] for pieces in (*segmentations(data), [data + OK], bytewise(data + TRAILING))}
    assert len(verdicts) == 1
    assert verdicts <= {400, 501, 502}
