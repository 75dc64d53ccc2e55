"""Heads of requests and responses (RFC 9112), header fields (RFC 9110, section 5), and what we send.

What must hold: CRLF alone ends a line (9112-2.2), no folding (5.2), no space before the colon (5.1), one Host that is a host
and a port (3.2), a length or a transfer coding but never both (6.3), lengths of digits only (9110-8.6). Each vector is run
whole, byte by byte, in two parts and with trailing bytes: the verdict is one.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

import pytest

import silly
from silly._wire import answer, http1
from silly._wire.answer import date_line
from silly._wire.error import ProtocolError
from silly._wire.header import Header, check_value, compose, one_cookie, tokens
from silly._wire.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    HeadReader,
    ResponseHead,
    ResponseReader,
    error_response,
    parse_request,
    parse_response,
    request_head,
    response_body_length,
    status_line,
)
from silly._wire.limits import DEFAULT, Limits

from .support import TRAILING, CountingBuffer, bytewise, read_head, read_request, segmentations


def head(*fields: str | bytes, line: str = "GET / HTTP/1.1", host: str | None = "x") -> bytes:
    rows = [line.encode("latin-1"), *([b"Host: " + host.encode("latin-1")] if host is not None else [])]
    rows += [field.encode("latin-1") if isinstance(field, str) else field for field in fields]
    return b"\r\n".join(rows) + b"\r\n\r\n"


def refused(data: bytes, code: int, limits: Limits = DEFAULT) -> None:
    for pieces in segmentations(data):
        request, got, _ = read_request(pieces, limits)
        assert (request, got) == (None, code)
    for pieces in ([data + TRAILING], bytewise(data + TRAILING)):
        assert read_request(pieces, limits)[:2] == (None, code)


# ---- what is refused --------------------------------------------------------------------------------------------------

LENGTHS = [b"+5", b"-0", b"-1", b"5_0"]
LENGTHS += [b"0x5", b"5 0", b"5.0", b"5e0", b"", b"5,5", b"5, 5", b"five", b"5\xa0", b"0b1", b"\xb2"]
LENGTHS.append("\u0665".encode())

HOSTILE: list[tuple[str, bytes, int]] = [
    # RFC 9112, section 6: where a body ends
    ("9112-6.3-cl-and-te", head("Content-Length: 4", "Transfer-Encoding: chunked"), 400),
    ("9112-6.3-te-and-cl", head("Transfer-Encoding: chunked", "Content-Length: 4"), 400),
    ("9112-6.3-cl-0-and-te", head("Content-Length: 0", "Transfer-Encoding: chunked"), 400),
    ("9112-6.3-cl-and-te-identity", head("Content-Length: 4", "Transfer-Encoding: identity"), 400),
    ("9112-6.3-cl-and-empty-te", head("Content-Length: 4", "Transfer-Encoding:"), 400),
    ("9112-6.3-cl-twice-different", head("Content-Length: 4", "Content-Length: 5"), 400),
    ("9112-6.3-cl-twice-equal", head("Content-Length: 4", "content-length: 4"), 400),
    ("9112-6.3-cl-three", head("Content-Length: 4", "Content-Length:", "Content-Length: 4"), 400),
    *[
        (f"9110-8.6-cl-{value!r}", head(b"Content-Length: " + value), 400) for value in LENGTHS
    ],
    ("9110-8.6-cl-2^63", head("Content-Length: 9223372036854775808"), 400),
    ("9110-8.6-cl-2^64", head("Content-Length: 18446744073709551616"), 400),
    ("9110-8.6-cl-5000-digits", head("Content-Length: " + "9" * 5000), 400),
    ("9112-6.1-te-xchunked", head("Transfer-Encoding: xchunked"), 400),
    ("9112-6.1-te-chunked123", head("Transfer-Encoding: chunked123"), 400),
    ("9112-6.1-te-chunked-chunked", head("Transfer-Encoding: chunked, chunked"), 400),
    ("9112-6.1-te-chunked-twice", head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
    ("9112-6.1-te-chunked-gzip", head("Transfer-Encoding: chunked, gzip"), 400),
    ("9112-6.1-te-gzip-chunked", head("Transfer-Encoding: gzip, chunked"), 501),
    ("9112-6.1-te-gzip", head("Transfer-Encoding: gzip"), 400),
    ("9112-6.1-te-identity", head("Transfer-Encoding: identity"), 400),
    ("9112-6.1-te-empty", head("Transfer-Encoding:"), 400),
    ("9112-6.1-te-commas", head("Transfer-Encoding: , ,"), 400),
    ("9112-6.1-te-trailing-comma", head("Transfer-Encoding: chunked,"), 501),
    ("9112-6.1-te-parameter", head("Transfer-Encoding: chunked;q=1"), 400),
    ("9112-6.1-te-quoted", head('Transfer-Encoding: "chunked"'), 400),
    ("9112-6.1-te-vertical-tab", head("Transfer-Encoding: \x0bchunked"), 400),
    ("9112-6.1-te-nbsp", head("Transfer-Encoding: \xa0chunked"), 400),
    ("9112-6.1-te-in-1.0", head("Transfer-Encoding: chunked", line="POST / HTTP/1.0"), 400),
    # RFC 9112, section 2.2: the ends of lines
    ("9112-2.2-bare-lf", b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
    ("9112-2.2-bare-lf-in-a-field", head("A: b\nContent-Length: 4"), 400),
    ("9112-2.2-bare-lf-at-the-end", b"GET / HTTP/1.1\r\nHost: x\n\r\n\r\n", 400),
    ("9112-2.2-bare-cr", head("A: b\rc"), 400),
    ("9112-2.2-bare-cr-before-the-colon", head("A\r: b"), 400),
    ("9112-2.2-bare-cr-in-the-request-line", head(line="GET /\r HTTP/1.1"), 400),
    ("9112-2.2-cr-cr-lf", b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", 400),
    ("9112-2.2-lf-cr", b"GET / HTTP/1.1\n\rHost: x\r\n\r\n", 400),
    ("9112-2.2-space-before-the-first-field", head(" A: b", host=None), 400),
    ("9112-2.2-two-empty-lines-first", b"\r\n\r\n" + head(), 400),
    ("9112-2.2-cr-first", b"\rGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("9112-2.2-empty-line-and-cr-first", b"\r\n\r" + head(), 400),
    ("9112-2.2-lf-first", b"\n" + head(), 400),
    ("9112-2.2-space-first", b" " + head(), 400),
    # RFC 9112, section 5: fields
    ("9112-5.2-obs-fold", head("A: b", " c"), 400),
    ("9112-5.2-obs-fold-tab", head("A: b", "\tc: d"), 400),
    ("9112-5.2-obs-fold-of-te", head("Transfer-Encoding:", " chunked"), 400),
    ("9112-5.1-space-before-colon", head("A : b"), 400),
    ("9112-5.1-space-before-colon-of-a-known-name", head("Content-Length : 4"), 400),
    ("9112-5.1-tab-before-colon", head("A\t: b"), 400),
    ("9112-5.1-empty-name", head(": b"), 400),
    ("9112-5.1-no-colon", head("novalue"), 400),
    ("9112-5.1-no-colon-known-name", head("host"), 400),
    ("9112-5.1-no-colon-name-seen", head("Host", host=None), 400),
    ("9110-5.6.2-name-with-a-space", head("A B: c"), 400),
    ("9110-5.6.2-name-latin-1", head("\xe9: c"), 400),
    ("9110-5.6.2-name-brackets", head("A[b]: c"), 400),
    ("9110-5.6.2-name-quote", head('"A": c'), 400),
    ("9110-5.5-nul", head("A: b\0c"), 400),
    ("9110-5.5-nul-in-a-name", head("A\0: c"), 400),
    ("9110-5.5-del", head("A: b\x7fc"), 400),
    ("9110-5.5-escape", head("A: \x1b[0m"), 400),
    # RFC 9112, section 3.2: Host
    ("9112-3.2-no-host", head(host=None), 400),
    ("9112-3.2-two-hosts", head("Host: y"), 400),
    ("9112-3.2-two-equal-hosts", head("host: x"), 400),
    ("9112-3.2-two-hosts-in-1.0", head("Host: y", line="GET / HTTP/1.0"), 400),
    *[
        (f"9112-3.2-host-{host!r}", head(host=host), 400)
        for host in (
            *("", " ", "a/b?c", "user@x", "user:pw@x", "x:99999", "x:65536", "x:-1", "x:+80", "x:8_0", ":80", "x:80:80"),
            *(":", "x::", "[::1]::"),
            *("x y", "x, y", "http://x", "x#f", "x\\y", "[::1", "::1", "[::1]x", "[g::1]", "[]", "\xe9.example", "<x>"),
        )
    ],
    ("9112-3.2-host-userinfo-in-the-target", head(line="GET http://u@x/ HTTP/1.1"), 400),
    # RFC 9112, section 3: the request line
    ("9112-3-two-spaces", head(line="GET  / HTTP/1.1"), 400),
    ("9112-3-two-spaces-before-the-version", head(line="GET /  HTTP/1.1"), 400),
    ("9112-3-space-in-the-target", head(line="GET /a b HTTP/1.1"), 400),
    ("9112-3-space-at-the-end", head(line="GET / HTTP/1.1 "), 400),
    ("9112-3-tab", head(line="GET\t/ HTTP/1.1"), 400),
    ("9112-3-form-feed", head(line="GET /\x0c HTTP/1.1"), 400),
    ("9112-3-no-target", head(line="GET HTTP/1.1"), 400),
    ("9112-3-method-alone", head(line="GET"), 400),
    ("9112-3-method-is-no-token", head(line="GE(T / HTTP/1.1"), 400),
    ("9112-3-target-latin-1", head(line="GET /\xe9 HTTP/1.1"), 400),
    ("9112-3.2-target-fragment", head(line="GET /a#b HTTP/1.1"), 400),
    ("9112-3.2-target-relative", head(line="GET a HTTP/1.1"), 400),
    ("9112-3.2-target-query-alone", head(line="GET ?a HTTP/1.1"), 400),
    ("9112-3.2.4-asterisk-get", head(line="GET * HTTP/1.1"), 400),
    ("9112-3.2.3-connect-path", head(line="CONNECT / HTTP/1.1"), 400),
    ("9112-3.2.3-connect-without-port", head(line="CONNECT x HTTP/1.1"), 400),
    ("9110-9.3.6-connect-empty-port", head(line="CONNECT x: HTTP/1.1"), 400),
    ("9112-3.2.3-connect-ipv6-without-port", head(line="CONNECT [::1] HTTP/1.1"), 400),
    ("9112-3.2.3-connect-uri", head(line="CONNECT http://x:80/ HTTP/1.1"), 400),
    ("9112-3.2.3-connect-port-99999", head(line="CONNECT x:99999 HTTP/1.1"), 400),
    ("9112-3.2.3-authority-get", head(line="GET x:80 HTTP/1.1"), 400),
    ("9112-3.2.2-absolute-other-scheme", head(line="GET ftp://x/ HTTP/1.1"), 400),
    ("9112-3.2.2-absolute-no-host", head(line="GET http:///a HTTP/1.1"), 400),
    ("9112-3.2.2-absolute-bad-port", head(line="GET http://x:99999/ HTTP/1.1"), 400),
    ("9112-3.2.2-absolute-fragment", head(line="GET http://x/#f HTTP/1.1"), 400),
    ("9112-3.2.2-absolute-without-host-field", head(line="GET http://x/ HTTP/1.1", host=None), 400),
    # RFC 9112, section 2.3: versions, and what is not HTTP
    ("9112-2.3-http-1.2", head(line="GET / HTTP/1.2"), 505),
    ("9112-2.3-http-2.0", head(line="GET / HTTP/2.0"), 505),
    ("9112-2.3-http-0.9", b"GET /\r\n\r\n", 400),
    ("9112-2.3-lower-case", head(line="GET / http/1.1"), 400),
    ("9112-2.3-http-1", head(line="GET / HTTP/1"), 400),
    ("9112-2.3-http-1.10", head(line="GET / HTTP/1.10"), 400),
    ("9112-2.3-http-01.1", head(line="GET / HTTP/01.1"), 400),
    ("9112-2.3-other-protocol", head(line="GET / RTSP/1.0"), 400),
    ("9113-3.4-http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("tls-hello", bytes.fromhex("16 03 01 02 00 01 00 01 fc 03 03") + bytes(40), 400),
    ("proxy-v1", b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" + head(), 400),
    ("proxy-v2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + head(), 400),
    ("a-response", b"HTTP/1.1 200 OK\r\nHost: x\r\n\r\n", 400),
    ("utf-8-mark", b"\xef\xbb\xbf" + head(), 400),
    ("nul", bytes(20) + head(), 400),
]


@pytest.mark.parametrize(("data", "code"), [pytest.param(data, code, id=f"rfc{name}") for name, data, code in HOSTILE])
def test_hostile_heads(data: bytes, code: int) -> None:
    refused(data, code)


def test_http_0_9_waits_for_a_head_that_never_comes() -> None:
    """A simple request of HTTP/0.9 ends with its line; the head's limit of time deals with it."""
    for pieces in segmentations(b"GET /\r\n"):
        assert read_request(pieces) == (None, None, b"GET /\r\n")


@pytest.mark.parametrize(
    "start", [b"\x16", b"\x00", b"\n", b" ", b"\t", b"\x7f", b"\x80", b"\xff", b"\r\r", b"\rG", b"\r\n\n", b"\r\n\r"]
)
def test_bytes_that_cannot_be_http_are_refused_at_once(start: bytes) -> None:
    got = read_head(bytewise(start + TRAILING))
    assert (got.code, got.fed) == (400, len(start))


# ---- what is taken ----------------------------------------------------------------------------------------------------

GOOD: list[tuple[str, bytes, dict[str, Any]]] = [
    ("plain", head(), {"method": "GET", "target": "/", "path": "/", "query": "", "version": "HTTP/1.1", "body": 0}),
    ("keepalive", head(), {"keepalive": True}),
    ("query", head(line="GET /a/b?c=d?e&f HTTP/1.1"), {"path": "/a/b", "query": "c=d?e&f", "target": "/a/b?c=d?e&f"}),
    ("empty-query", head(line="GET /? HTTP/1.1"), {"path": "/", "query": ""}),
    ("double-slash", head(line="GET //x/y HTTP/1.1"), {"path": "//x/y"}),
    ("browser-query", head(line='GET /?a|b^c{d}`"\\ HTTP/1.1'), {"query": 'a|b^c{d}`"\\'}),
    ("any-method", head(line="M-SEARCH /x HTTP/1.1"), {"method": "M-SEARCH"}),
    ("method-case", head(line="get / HTTP/1.1"), {"method": "get"}),
    ("1.0-without-host", head(line="GET / HTTP/1.0", host=None), {"version": "HTTP/1.0", "keepalive": False}),
    ("1.0-keep-alive", head("Connection: Keep-Alive", line="GET / HTTP/1.0"), {"keepalive": True}),
    ("1.0-keep-alive-close", head("Connection: keep-alive, close", line="GET / HTTP/1.0"), {"keepalive": False}),
    ("1.0-other-connection", head("Connection: te", line="GET / HTTP/1.0"), {"keepalive": False}),
    ("close", head("Connection: TE, Close"), {"keepalive": False}),
    ("close-in-two-lines", head("Connection: te", "connection: close"), {"keepalive": False}),
    ("not-close", head("Connection: closed"), {"keepalive": True, "last": False}),
    ("close-is-the-last", head("Connection: close"), {"keepalive": False, "last": True}),
    ("1.0-is-the-last", head(line="GET / HTTP/1.0"), {"keepalive": False, "last": True}),
    ("connect-is-the-last", head(line="CONNECT y:443 HTTP/1.1"), {"keepalive": True, "last": True}),
    ("upgrade", head("Upgrade: websocket", "Connection: Upgrade"), {"keepalive": True, "last": True}),
    ("upgrade-other-case", head("Upgrade: WebSocket", "Connection: Upgrade"), {"keepalive": True, "last": True}),
    ("upgrade-among-others", head("Upgrade: h2c, WebSocket/13", "Connection: Upgrade"), {"keepalive": True, "last": True}),
    ("upgrade-in-two-lines", head("Upgrade: h2c", "Upgrade: websocket"), {"keepalive": True, "last": True}),
    ("upgrade-without-connection", head("Upgrade: websocket"), {"keepalive": True, "last": True}),
    ("upgrade-by-post", head("Upgrade: websocket", line="POST / HTTP/1.1"), {"keepalive": True, "last": True}),
    ("upgrade-like", head("Upgrade: websockets"), {"keepalive": True, "last": True}),
    ("upgrade-close", head("Upgrade: websocket", "Connection: Upgrade, close"), {"keepalive": False, "last": True}),
    (
        "upgrade-1.0",
        head("Upgrade: websocket", "Connection: Upgrade, keep-alive", line="GET / HTTP/1.0"),
        {"keepalive": True, "last": True},
    ),
    ("upgrade-h2c", head("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"), {"keepalive": True, "last": False}),
    ("upgrade-tls", head("Upgrade: TLS/1.3", "Connection: Upgrade"), {"keepalive": True, "last": False}),
    ("upgrade-empty", head("Upgrade:", "Connection: Upgrade"), {"keepalive": True, "last": False}),
    ("cl", head("Content-Length: 5", line="POST / HTTP/1.1"), {"body": 5}),
    ("cl-0", head("Content-Length: 0"), {"body": 0}),
    ("cl-zeros", head("Content-Length: 0005"), {"body": 5}),
    ("cl-spaces", head("Content-Length:  5 \t"), {"body": 5}),
    ("cl-max", head("Content-Length: 9223372036854775807"), {"body": 2**63 - 1}),
    ("cl-1.0", head("Content-Length: 5", line="POST / HTTP/1.0"), {"body": 5}),
    ("te", head("Transfer-Encoding: chunked"), {"body": CHUNKED}),
    ("te-Chunked", head("Transfer-Encoding: Chunked"), {"body": CHUNKED}),
    ("te-CHUNKED-no-space", head("TRANSFER-ENCODING:CHUNKED"), {"body": CHUNKED}),
    ("absolute", head(line="GET http://y:8080/a?b HTTP/1.1"), {"target": "/a?b", "path": "/a", "query": "b"}),
    ("absolute-https", head(line="GET HTTPS://y HTTP/1.1"), {"target": "/", "path": "/", "query": ""}),
    ("absolute-query", head(line="GET http://y?b HTTP/1.1"), {"target": "/?b", "path": "/", "query": "b"}),
    ("absolute-1.0", head(line="GET http://y/ HTTP/1.0", host=None), {"target": "/"}),
    ("absolute-empty-port", head(line="GET http://y:/a HTTP/1.1"), {"target": "/a"}),
    ("absolute-empty-port-no-path", head(line="GET http://[::1]:?b HTTP/1.1"), {"target": "/?b"}),
    ("asterisk", head(line="OPTIONS * HTTP/1.1"), {"method": "OPTIONS", "target": "*", "path": "*"}),
    ("connect", head(line="CONNECT y:443 HTTP/1.1"), {"method": "CONNECT", "target": "y:443"}),
    ("connect-ipv6", head(line="CONNECT [::1]:443 HTTP/1.1"), {"target": "[::1]:443"}),
    ("leading-crlf", b"\r\n" + head(), {"target": "/"}),
]


@pytest.mark.parametrize(("data", "values"), [pytest.param(data, values, id=f"rfc9112-{name}") for name, data, values in GOOD])
def test_good_heads(data: bytes, values: dict[str, Any]) -> None:
    for pieces in segmentations(data):
        request, code, rest = read_request(pieces)
        assert request is not None
        assert (code, rest) == (None, b"")
        assert {name: getattr(request, name) for name in values} == values
    for pieces in ([data + TRAILING], bytewise(data + TRAILING)):
        request, code, rest = read_request(pieces)
        assert request is not None
        assert (code, rest) == (None, TRAILING)
        assert {name: getattr(request, name) for name in values} == values


@pytest.mark.parametrize(
    "host",
    ["x", "X.Example.", "x:0", "x:80", "x:65535", "127.0.0.1:8080", "[::1]", "[::1]:80", "a_b", "a%20b", "xn--bcher-kva.org"]
    + ["x:", "[::1]:"],
)
def test_good_hosts(host: str) -> None:
    request, _, _ = read_request([head(host=host)])
    assert request is not None
    assert request.header["host"] == host


def test_the_authority_of_the_target_counts() -> None:
    """RFC 9112, section 3.2.2."""
    request, _, _ = read_request([head(line="GET http://y:81/ HTTP/1.1", host="x")])
    assert request is not None
    assert request.header["host"] == "y:81"
    request, _, _ = read_request([head(line="GET http://y:/ HTTP/1.1", host="x:")])
    assert request is not None
    assert request.header["host"] == "y:"


def test_upgrade_is_given_in_lower_case() -> None:
    request, _, _ = read_request([head("Upgrade: WebSocket", "Connection: Upgrade")])
    assert request is not None
    assert (request.header["upgrade"], request.header["connection"]) == ("websocket", "Upgrade")


def test_values() -> None:
    fields = ["A:  b c\t", "B:", "C: \t ", "D: \xe9", "E: a:b", "F:x", "a: second", "Set-Cookie: 1", "Set-Cookie: 2"]
    request, _, _ = read_request([head(*fields)])
    assert request is not None
    due = {"host": "x", "a": "b c, second", "b": "", "c": "", "d": "\xe9", "e": "a:b", "f": "x", "set-cookie": "1"}
    assert dict(request.header) == due
    assert request.header.getall("Set-Cookie") == ["1", "2"]


def test_requests_in_one_buffer() -> None:
    """Pipelining: each call takes one head; between them the one empty line is ignored anew."""
    one, two, three = (head(line=f"GET /{i} HTTP/1.1") for i in (1, 2, 3))
    data = b"\r\n" + one + b"\r\n" + two + three
    for pieces in ([data], bytewise(data)):
        reader = HeadReader(DEFAULT)
        buf = bytearray()
        paths = []
        for piece in pieces:
            buf += piece
            while (got := reader.next(buf)) is not None:
                paths.append(parse_request(got, DEFAULT).path)
        assert paths == ["/1", "/2", "/3"]
        assert not buf


def test_empty_lines_cannot_be_repeated_for_ever() -> None:
    """Whole or dribbled: one is ignored, the second is refused."""
    for data in (b"\r\n" * 2, b"\r\n" * 1000):
        for pieces in segmentations(data, short=10):
            assert read_head(pieces).code == 400
    assert read_head([b"\r\n"]) == (None, None, 2, b"")
    assert read_head([]) == (None, None, 0, b"")


def test_names_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers choose the names: what is remembered of them is bounded in number and length."""
    monkeypatch.setattr(http1, "_names", {})
    for i in range(http1._NAMES_KEPT + 10):
        request, _, _ = read_request([head(f"X-{i}: 1", "Y" * 41 + ": 2")])
        assert request is not None
        assert request.header[f"x-{i}"] == "1"
        assert request.header["y" * 41] == "2"
        assert len(http1._names) <= http1._NAMES_KEPT
    assert max(map(len, http1._names)) <= 40


def test_a_peer_cannot_use_up_the_names_of_fields_that_are_kept() -> None:
    """Each name of every later request would have to be checked anew."""
    for number in range(600):
        http1.parse_request(f"GET / HTTP/1.1\r\nHost: a\r\nX-Junk-{number}: 1".encode(), silly.Limits())
        assert len(http1._names) <= 512
    http1.parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nX-Good-Name: 1", silly.Limits())
    assert "X-Good-Name" in http1._names


# ---- limits -----------------------------------------------------------------------------------------------------------

TIGHT = Limits(head=200, header_lines=4, line=60)


def long_line(size: int) -> str:
    return "GET /" + "a" * (size - 14) + " HTTP/1.1"


def long_field(size: int) -> str:
    return "A: " + "b" * (size - 3)


def sized(size: int) -> bytes:
    """A head that takes ``size`` bytes without the empty line at its end."""
    base = head("A: " + "b" * 55, "B: " + "b" * 55)[:-4]
    data = base + b"\r\nC: " + b"c" * (size - len(base) - 5)
    assert len(data) == size
    return data + b"\r\n\r\n"


LIMITS: list[tuple[str, bytes, int | None]] = [
    ("first-line-at", head(line=long_line(60)), None),
    ("first-line-over", head(line=long_line(61)), 414),
    ("first-line-far-over", head(line=long_line(150)), 414),
    ("first-line-beyond-the-head", head(line=long_line(500)), 414),
    ("first-line-over-in-a-long-head", head(*[long_field(50)] * 4, line=long_line(61)), 414),
    ("first-line-over-and-many-lines", head(*["A: b"] * 10, line=long_line(61)), 414),
    ("first-line-over-with-control", head("A: \0", line=long_line(61)), 414),
    ("first-line-without-end", b"GET /" + b"a" * 300, 414),
    ("field-at", head(long_field(60)), None),
    ("field-over", head(long_field(61)), 431),
    ("field-far-over", head(long_field(150)), 431),
    ("last-field-over", head("A: b", long_field(61)), 431),
    ("host-over", head(host="h" * 60), 431),
    ("lines-at", head("A: b", "C: d", "E: f"), None),
    ("lines-over", head("A: b", "C: d", "E: f", "G: h"), 431),
    ("lines-over-empty-values", head(*["A:"] * 20), 431),
    ("head-at", sized(200), None),
    ("head-over", sized(201), 431),
    ("head-over-by-2", sized(202), 431),
    ("head-over-by-4", sized(204), 431),
    ("head-without-end", sized(199)[:-4] + b"x" * 200, 431),
]


@pytest.mark.parametrize(("data", "code"), [pytest.param(data, code, id=f"limit-{name}") for name, data, code in LIMITS])
def test_limits_are_the_same_whole_and_dribbled(data: bytes, code: int | None) -> None:
    """CVE-2026-54277: a limit that holds only within one segment is none."""
    if code is not None:
        refused(data, code, TIGHT)
        return
    for pieces in segmentations(data):
        request, got, rest = read_request(pieces, TIGHT)
        assert request is not None
        assert (got, rest) == (None, b"")
    for pieces in ([data + TRAILING], bytewise(data + TRAILING)):
        assert read_request(pieces, TIGHT)[1:] == (None, TRAILING)


@pytest.mark.parametrize("size", range(56, 66))
def test_first_line_around_the_limit(size: int) -> None:
    data = head(line=long_line(size))
    for pieces in segmentations(data):
        assert read_request(pieces, TIGHT)[1] == (414 if size > 60 else None)
    # Parsed without the reader it is the same: the limit is the parser's own too.
    if size > 60:
        with pytest.raises(ProtocolError) as info:
            parse_request(data[:-4], TIGHT)
        assert info.value.code == 414


@pytest.mark.parametrize("size", range(194, 206))
def test_head_around_the_limit(size: int) -> None:
    for pieces in segmentations(sized(size)):
        assert read_request(pieces, TIGHT)[1] == (431 if size > 200 else None)


@pytest.mark.parametrize("lines", [0, 127, 128, 129, 2000])
def test_default_header_lines(lines: int) -> None:
    """ws CVE-2024-37890: no field is dropped silently."""
    data = head(*[f"A{i}: b" for i in range(lines)], host=None, line="GET / HTTP/1.0")
    for pieces in ([data], bytewise(data)):
        request, code, _ = read_request(pieces)
        assert code == (431 if lines > 128 else None)
        assert request is None if lines > 128 else request is not None and len(request.header) == lines


def test_a_body_behind_a_short_head_does_not_count_as_head() -> None:
    data = head("Content-Length: 100000") + b"x" * 100_000
    request, code, rest = read_request([data])
    assert request is not None
    assert (request.body, code, len(rest)) == (100_000, None, 100_000)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head(long_field(8000), long_field(8000)), id="fields"),
        pytest.param(head(line=long_line(8192)), id="first-line"),
        pytest.param(head(long_field(5000), long_field(4000), line=long_line(8000)), id="both"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a: \r\n" * 10_000, id="short-lines"),
        pytest.param(b"GET /" + b"a" * 70_000, id="endless-line"),
    ],
)
def test_work_is_linear_under_dribbling(data: bytes) -> None:
    """tungstenite CVE-2023-43669: what was searched is not searched again."""
    buf = CountingBuffer()
    reader = HeadReader(DEFAULT)
    fed = 0
    try:
        for byte in bytewise(data):
            buf += byte
            fed += 1
            if reader.next(buf) is not None:
                break
    except ProtocolError:
        pass
    # Each byte is looked at when it comes, with the four before it, by the search for the end and by that for a control
    # character, and the first line a few times more.
    assert fed > 8000
    assert buf.looked < 9 * fed + 10 * DEFAULT.line


# Each ends with the byte that proves it: nothing that follows could mend it.
PROVEN = [
    pytest.param(b"GET / HTTP/1.1\n", id="first-line"),
    pytest.param(b"GET / HTTP/1.1\r\n\n", id="empty-line"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\n", id="field"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\n", id="last-line"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 8000 + b"\n", id="long-field"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\n", id="many-fields"),
    pytest.param(b"GET / HTTP/1.1\rH", id="cr-in-the-first-line"),
    pytest.param(b"GET / HTTP/1.1\r\r", id="two-crs"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\rA", id="cr-in-a-field"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\rA", id="cr-in-the-last-line"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: \0", id="nul"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: \x7f", id="del"),
    pytest.param(b"G\n", id="second-byte"),
    pytest.param(b"GET\n", id="fourth-byte"),
    pytest.param(b"GET /\n", id="0.9"),
    pytest.param(b"\n", id="leading-lf"),
    pytest.param(b"\rG", id="leading-cr"),
    pytest.param(b"\r\n\n", id="lf-behind-the-empty-line"),
    pytest.param(b"\r\nGET / HTTP/1.1\n", id="first-line-behind-the-empty-line"),
]


@pytest.mark.parametrize("data", PROVEN)
def test_a_bare_line_end_is_refused_at_the_byte_that_proves_it(data: bytes) -> None:
    """RFC 9112, section 2.2, lets a recipient take it; proxies disagree. The head has no other end, so it would hang."""
    for more in (b"", b"\n\n", b"A: b\r\n\r\n", b"x" * 70_000 + b"\r\n\r\n"):
        for pieces in segmentations(data + more, short=40):
            assert read_request(pieces)[1] == 400
    assert read_head(bytewise(data + b"\r\n\r\n"))[:3] == (None, 400, len(data))
    assert read_head(bytewise(data[:-1]))[:2] == (None, None)


@pytest.mark.parametrize("bad", [b"\n", b"\0", b"\rx"])
@pytest.mark.parametrize("at", [*range(36, 46), *range(96, 108)])
def test_a_control_character_where_a_limit_is_exceeded(at: int, bad: bytes) -> None:
    """What comes first decides, whole or in pieces."""
    limits = Limits(line=40, head=100)
    for line in (b"GET /" + b"a" * 200, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 40):
        data = line[:at] + bad + line[at:]
        codes = set()
        for pieces in segmentations(data):
            codes.add(read_head(pieces, limits).code)
        assert len(codes) == 1
        assert codes <= {400, 414, 431}


# ---- Header -----------------------------------------------------------------------------------------------------------


def test_header_lookup() -> None:
    header = Header([("Content-Type", "text/plain"), ("X-Empty", "")])
    for name in ("content-type", "Content-Type", "CONTENT-TYPE"):
        assert header[name] == "text/plain"
        assert header.get(name) == "text/plain"
        assert header.get(name, "other") == "text/plain"
        assert header.getall(name) == ["text/plain"]
        assert name in header
    assert header["x-empty"] == ""
    assert header.get("x-empty", "other") == ""
    assert "x-empty" in header
    assert dict(header) == {"content-type": "text/plain", "x-empty": ""}


def test_a_missing_field_is_none() -> None:
    header = Header()
    for name in ("upgrade", "Upgrade", ""):
        assert header[name] is None
        assert header.get(name) is None
        assert header.get(name, "x") == "x"
        assert header.getall(name) == []
        assert name not in header
    assert 5 not in header
    assert None not in header
    assert len(header) == 0


def test_repeated_fields_are_joined() -> None:
    """RFC 9110, section 5.2."""
    header = Header([("Accept", "a"), ("X", "1"), ("accept", "b"), ("ACCEPT", ""), ("accept", "c")])
    assert header["Accept"] == "a, b, , c"
    assert header.getall("accept") == ["a", "b", "", "c"]
    assert header.getall("x") == ["1"]
    header.getall("accept").append("z")
    assert header.getall("accept") == ["a", "b", "", "c"]


def test_set_cookie_is_never_joined() -> None:
    """RFC 9110, section 5.3: a comma may be part of it."""
    header = Header([("Set-Cookie", "a=1; Expires=Wed, 09 Jun 2021 10:18:14 GMT"), ("set-cookie", "b=2"), ("SET-COOKIE", "c")])
    assert header["set-cookie"] == "a=1; Expires=Wed, 09 Jun 2021 10:18:14 GMT"
    assert header.getall("Set-Cookie") == ["a=1; Expires=Wed, 09 Jun 2021 10:18:14 GMT", "b=2", "c"]


def test_cookies_are_joined_by_semicolons() -> None:
    """RFC 9113, section 8.2.3: a proxy that speaks HTTP/2 to the browser passes on one line for each."""
    header = Header([("Cookie", "a=1; b=2"), ("cookie", "c=3"), ("COOKIE", "d=4")])
    assert header["cookie"] == "a=1; b=2; c=3; d=4"
    assert header.getall("Cookie") == ["a=1; b=2", "c=3", "d=4"]
    for pieces in segmentations(head("Cookie: a=1", "X: y", "cookie: b=2", "x: z")):
        request, _, _ = read_request(pieces)
        assert request is not None
        assert (request.header["Cookie"], request.header["x"]) == ("a=1; b=2", "y, z")
    response = parse_response(b"HTTP/1.1 200 OK\r\nCookie: a=1\r\nCookie: b=2", DEFAULT)
    assert response.header["cookie"] == "a=1; b=2"


def test_a_header_is_sent_on_with_all_its_cookies() -> None:
    """Its items have the first Set-Cookie alone."""
    header = Header([("Set-Cookie", "a=1"), ("X", "y"), ("set-cookie", "b=2"), ("x", "z"), ("Cookie", "c"), ("cookie", "d")])
    assert compose(header) == [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x", "y, z"), ("cookie", "c; d")]
    assert compose(Header([("Set-Cookie", "a=1"), ("X", "y")])) == [("set-cookie", "a=1"), ("x", "y")]
    assert compose(MappingProxyType({"X": "y"})) == compose(iter([("X", "y")])) == [("x", "y")]


def test_a_request_has_one_cookie() -> None:
    """RFC 6265, section 5.4."""
    fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("set-cookie", "c")]
    assert one_cookie(fields) == [("x", "y"), ("set-cookie", "c"), ("cookie", "a=1; b=2")]
    assert one_cookie(fields[1:]) == fields[1:]
    assert one_cookie([]) == []


@pytest.mark.parametrize(
    ("value", "due"),
    [
        (None, []),
        ("", []),
        (" , ,", []),
        ("keep-alive, Upgrade", ["keep-alive", "upgrade"]),
        ("a,b ,\tC\t,", ["a", "b", "c"]),
        ("notupgrade", ["notupgrade"]),
        ("," * 8000, []),
    ],
)
def test_tokens(value: str | None, due: list[str]) -> None:
    assert tokens(value) == due


# ---- what we send -----------------------------------------------------------------------------------------------------

BAD_CHARS = [chr(c) for c in (*range(9), *range(10, 32), 127)] + ["\u0100", "\u2028", "😀", "\ud800"]


def test_compose() -> None:
    fields = {"Content-Type": "text/plain", "X-Int": 5, "X-List": ["a", 1], "X-Tuple": ("b",), "X-None": None, "X-Empty": []}
    due = [("content-type", "text/plain"), ("x-int", "5"), ("x-list", "a"), ("x-list", "1"), ("x-tuple", "b")]
    assert compose(fields) == due
    assert compose(list(fields.items())) == due
    assert compose(pair for pair in fields.items()) == due
    assert compose(()) == compose({}) == []
    assert compose([("a", "1"), ("A", "2")]) == [("a", "1"), ("a", "2")]
    assert compose({"a": "", "b": "\t~ \xe9\xff", "c": -1}) == [("a", ""), ("b", "\t~ \xe9\xff"), ("c", "-1")]


def test_what_is_no_header_says_so() -> None:
    for fields in ("a: b", b"a: b", bytearray(b"a"), 5, None):
        with pytest.raises(TypeError, match=f"or pairs, not {type(fields).__name__}"):
            compose(fields)  # type: ignore[arg-type]
    for pair in ("ab", "abc", ("a",), ("a", "b", "c"), 5):
        with pytest.raises(TypeError, match="a header field is a pair of a name and a value, not"):
            compose([pair])  # type: ignore[list-item]
    for name in ([], b"a", None):
        with pytest.raises(TypeError, match=f"a header name is str, not {type(name).__name__}"):
            compose([(name, "b")])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a header name is str, not bytes"):
        compose({b"a": "b"})  # type: ignore[dict-item]
    assert compose([["a", "b"]]) == compose(Header([("a", "b")])) == [("a", "b")]  # type: ignore[list-item]


@pytest.mark.parametrize("char", BAD_CHARS, ids=ascii)
def test_nothing_can_be_injected_into_a_value(char: str) -> None:
    """aiohttp CVE-2023-37276 and its kin: ValueError before a byte is written."""
    for value in (char, f"a{char}", f"{char}a", f"a{char}b", f"a\r\nX: y{char}"):
        for fields in ({"a": value}, {"a": ["good", value]}, [("a", value)]):
            with pytest.raises(ValueError, match="bad value for the header 'a'"):
                compose(fields)
        with pytest.raises(ValueError, match="'a'"):
            check_value("a", value)
        with pytest.raises(ValueError, match="header"):
            request_head("GET", "/", {"a": value})


@pytest.mark.parametrize("char", [*BAD_CHARS, "\t", " ", ":", "(", '"', "/", "[", "\xe9", "{", "@", ",", ";"], ids=ascii)
def test_nothing_can_be_injected_into_a_name_method_or_target(char: str) -> None:
    for name in (char, f"a{char}", f"{char}a", f"a{char}b"):
        with pytest.raises(ValueError, match="bad header name"):
            compose({name: "x"})
        with pytest.raises(ValueError, match="bad method"):
            request_head(name, "/", ())
    if char not in ':("/[{@,;':
        with pytest.raises(ValueError, match="bad request target"):
            request_head("GET", f"/{char}", ())


@pytest.mark.parametrize("bad", ["", "#", "/#a", " /", "/ ", "/\n"])
def test_bad_targets(bad: str) -> None:
    with pytest.raises(ValueError, match="bad request target"):
        request_head("GET", bad, ())
    with pytest.raises(ValueError, match="bad method"):
        request_head("", "/", ())


@pytest.mark.parametrize("name", [b"a", 5, None, ("a",)], ids=repr)
def test_names_are_text(name: Any) -> None:
    with pytest.raises(TypeError, match="header name"):
        compose([(name, "x")])


@pytest.mark.parametrize("value", [b"a", 1.5, True, False, {"a": 1}, {"a"}, object, [["a"]], [None], [True]], ids=repr)
def test_values_are_text_or_numbers(value: Any) -> None:
    with pytest.raises(TypeError, match="header 'a'"):
        compose({"a": value})


def test_an_empty_name() -> None:
    with pytest.raises(ValueError, match="bad header name"):
        compose({"": "x"})


def test_request_head() -> None:
    got = request_head("POST", "/a?b=c", {"Host": "x:80", "A": ["1", 2], "L": "\xe9"})
    assert got == b"POST /a?b=c HTTP/1.1\r\nhost: x:80\r\na: 1\r\na: 2\r\nl: \xe9\r\n\r\n"
    request, code, rest = read_request([got])
    assert request is not None
    assert (request.method, request.query, code, rest) == ("POST", "b=c", None, b"")
    assert request.header.getall("a") == ["1", "2"]
    assert request_head("GET", "*", ()) == b"GET * HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "line"),
    [(200, "200 OK"), (100, "100 Continue"), (404, "404 Not Found"), (426, "426 Upgrade Required"), (299, "299 ")]
    + [(999, "999 ")],
)
def test_status_line(status: int, line: str) -> None:
    """RFC 9112, section 4: the space before an empty reason stays."""
    assert status_line(status) == f"HTTP/1.1 {line}\r\n"


@pytest.mark.parametrize("bad", [99, 1000, 0, -200, True, False, None, "200", 299.5, "200 OK\r\nX: y"], ids=repr)
def test_invalid_statuses(bad: Any) -> None:
    with pytest.raises(ValueError, match="HTTP status"):
        status_line(bad)


@pytest.mark.parametrize("text", ["bad Host 'x'", "línea", "😀", "a\r\nX: y", "\ud800", ""], ids=ascii)
@pytest.mark.parametrize("code", [400, 408, 414, 431, 501, 505])
def test_error_response(code: int, text: str) -> None:
    """A whole response: its own length, no more; the connection closes. The text stays in the body."""
    data = error_response(ProtocolError(text, code))
    got = read_head([data])
    assert got.head is not None
    response = parse_response(got.head, DEFAULT)
    assert (response.version, response.status) == ("HTTP/1.1", code)
    assert response.header["connection"] == "close"
    assert response.header["content-type"] == "text/plain"
    assert response.header["date"]
    assert len(response.header) == 4
    assert response_body_length(response, "GET") == len(got.rest)
    assert got.rest == text.encode("ascii", "backslashreplace") + b"\n"
    head_only = error_response(ProtocolError(text, code), head_only=True)
    assert head_only == data[: len(data) - len(got.rest)]


def test_date_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110, section 5.6.7: the example there; worked out anew with each second, and only then."""
    now = 784111777.25
    made = 0
    real = answer.http_date

    def http_date(seconds: int) -> str:
        nonlocal made
        made += 1
        return real(seconds)

    monkeypatch.setattr(answer, "time", lambda: now)
    monkeypatch.setattr(answer, "http_date", http_date)
    monkeypatch.setattr(answer, "_date", (0, b""))
    assert date_line() == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    now += 0.5
    assert date_line() == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert made == 1
    now += 0.5
    assert date_line() == b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
    assert made == 2
    now -= 60  # the clock was set back
    assert parsedate_to_datetime(date_line()[6:-2].decode()).timestamp() == int(now)


# ---- responses --------------------------------------------------------------------------------------------------------

RESPONSES: list[tuple[str, bytes, tuple[str, int, str]]] = [
    ("plain", b"HTTP/1.1 200 OK", ("HTTP/1.1", 200, "OK")),
    ("1.0", b"HTTP/1.0 404 Not Found", ("HTTP/1.0", 404, "Not Found")),
    ("no-reason", b"HTTP/1.1 200 ", ("HTTP/1.1", 200, "")),
    ("no-reason-no-space", b"HTTP/1.1 200", ("HTTP/1.1", 200, "")),
    ("reason-null", b"HTTP/1.1 101 null", ("HTTP/1.1", 101, "null")),
    ("reason-latin-1", b"HTTP/1.1 200 \xe9\t!", ("HTTP/1.1", 200, "\xe9\t!")),
    ("any-status", b"HTTP/1.1 999 x", ("HTTP/1.1", 999, "x")),
]


@pytest.mark.parametrize(("line", "due"), [pytest.param(line, due, id=f"rfc9112-4-{name}") for name, line, due in RESPONSES])
def test_good_responses(line: bytes, due: tuple[str, int, str]) -> None:
    data = line + b"\r\nServer: x\r\n\r\n"
    for pieces in segmentations(data + TRAILING):
        got = read_head(pieces)
        assert got.head is not None
        assert got.rest == TRAILING
        response = parse_response(got.head, DEFAULT)
        assert response[:3] == due
        assert response.header == {"server": "x"}


BAD_RESPONSES = [
    ("4-version", b"HTTP/1.2 200 OK\r\n\r\n"),
    ("4-http-2", b"HTTP/2 200\r\n\r\n"),
    ("4-icy", b"ICY 200 OK\r\n\r\n"),
    ("4-lower-case", b"http/1.1 200 OK\r\n\r\n"),
    ("4-status-099", b"HTTP/1.1 099 OK\r\n\r\n"),
    ("4-status-20", b"HTTP/1.1 20 OK\r\n\r\n"),
    ("4-status-2000", b"HTTP/1.1 2000 OK\r\n\r\n"),
    ("4-status-+20", b"HTTP/1.1 +20 OK\r\n\r\n"),
    ("4-status-letters", b"HTTP/1.1 2xx OK\r\n\r\n"),
    ("4-two-spaces", b"HTTP/1.1  200 OK\r\n\r\n"),
    ("4-no-status", b"HTTP/1.1\r\n\r\n"),
    ("4-a-request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("4-html", b"<html><body>It works!</body></html>\r\n\r\n"),
    ("2.2-bare-lf", b"HTTP/1.1 200 OK\nA: b\r\n\r\n"),
    ("2.2-bare-cr-in-the-reason", b"HTTP/1.1 200 O\rK\r\n\r\n"),
    ("5.2-fold-of-the-status-line", b"HTTP/1.1 200 OK\r\n there\r\nA: b\r\n\r\n"),
    ("5.2-fold-first", b"HTTP/1.1 200 OK\r\n A: b\r\nC: d\r\n\r\n"),
    ("5.2-fold-first-and-folded", b"HTTP/1.1 200 OK\r\n A: b\r\n c\r\n\r\n"),
    ("5.2-fold-first-by-a-tab", b"HTTP/1.1 200 OK\r\n\tA: b\r\n\r\n"),
    ("5.2-fold-first-empty", b"HTTP/1.1 200 OK\r\n \r\n\r\n"),
    ("5.2-fold-of-the-status", b"HTTP/1.1\r\n 200 OK\r\nA: b\r\n\r\n"),
    ("5.2-fold-of-a-name", b"HTTP/1.1 200 OK\r\nA\r\n : b\r\n\r\n"),
    ("5.2-fold-of-no-field", b"HTTP/1.1 200 OK\r\nA\r\n b\r\n\r\n"),
    ("5.2-fold-with-a-space-before-the-colon", b"HTTP/1.1 200 OK\r\nA : b\r\n c\r\n\r\n"),
    ("5.2-fold-of-an-empty-name", b"HTTP/1.1 200 OK\r\n: b\r\n c\r\n\r\n"),
    ("5.2-fold-with-a-bare-lf", b"HTTP/1.1 200 OK\r\nA: b\n c\r\n\r\n"),
    ("5.2-fold-with-a-bare-cr", b"HTTP/1.1 200 OK\r\nA: b\r c\r\n\r\n"),
    ("5.2-fold-with-nul", b"HTTP/1.1 200 OK\r\nA: b\r\n \0c\r\n\r\n"),
    ("5.1-space-before-colon", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
    ("5.5-nul", b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n"),
    ("lines-over", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 129 + b"\r\n"),
]


@pytest.mark.parametrize("data", [pytest.param(data, id=f"rfc9112-{name}") for name, data in BAD_RESPONSES])
def test_bad_responses(data: bytes) -> None:
    for pieces in segmentations(data):
        got = read_head(pieces)
        if got.head is None:
            assert got.code == 400
            continue
        with pytest.raises(ProtocolError):
            parse_response(got.head, DEFAULT)


# (name, field lines, the name in lower case, its value)
FOLDED = [
    ("space", b"A: b\r\n c", "a", "b c"),
    ("tab", b"A: b\r\n\tc", "a", "b c"),
    ("blanks-on-both-sides", b"A: b \t\r\n \t c \t", "a", "b c"),
    ("value-begins-there", b"A:\r\n b", "a", "b"),
    ("nothing-there", b"A: b\r\n ", "a", "b"),
    ("nothing-at-all", b"A:\r\n\t", "a", ""),
    ("several", b"A: b\r\n c\r\n\td\r\n   e", "a", "b c d e"),
    ("an-empty-one-within", b"A: b\r\n \r\n c", "a", "b  c"),
    ("what-looks-like-a-field", b"A: b\r\n Content-Length: 5", "a", "b Content-Length: 5"),
    ("what-looks-like-the-end-of-a-name", b"A: b\r\n : c", "a", "b : c"),
    ("latin-1", b"A: \xe9\r\n \xff", "a", "\xe9 \xff"),
    ("repeated", b"A: b\r\n c\r\na: d\r\n e", "a", "b c, d e"),
    ("other-connection", b"Proxy-Connection: a\r\n b", "proxy-connection", "a b"),
    ("other-websocket", b"X-Sec-WebSocket-Accept: a\r\n b", "x-sec-websocket-accept", "a b"),
]


@pytest.mark.parametrize(
    ("lines", "name", "value"), [pytest.param(*row, id=f"rfc9112-5.2-{name}") for name, *row in FOLDED]
)
def test_a_client_takes_folded_lines(lines: bytes, name: str, value: str) -> None:
    """As curl, aiohttp, http.client and the browsers do; a server still refuses them."""
    for before, behind in ((b"", b"X: y\r\n"), (b"X: y\r\n", b""), (b"X: y\r\n", b"Z: z\r\n")):
        data = b"HTTP/1.1 200 OK\r\n" + before + lines + b"\r\n" + behind + b"\r\n"
        for begin in (b"", CONTINUE, data.replace(b" 200 OK", b" 103 Early", 1)):
            for pieces in segmentations(begin + data + TRAILING):
                response, rest = read_responses(pieces, ResponseReader(DEFAULT))
                assert response is not None
                assert (response.status, rest) == (200, TRAILING)
                assert response.header == {name: value, **({"x": "y", "z": "z"} if b"Z" in behind else {"x": "y"})}
        refused(data.replace(b"HTTP/1.1 200 OK", b"GET / HTTP/1.1\r\nHost: x"), 400)


@pytest.mark.parametrize("fold", [b"%b:\r\n x", b"%b: x\r\n\ty", b"%b: x\r\n ", b"%b: x, \r\n y\r\n z", b"%b\r\n : x"])
@pytest.mark.parametrize(
    "name",
    [b"Upgrade", b"CONNECTION", b"content-length", b"Transfer-Encoding"]
    + [b"Sec-WebSocket-Accept", b"sec-websocket-protocol", b"SEC-WEBSOCKET-EXTENSIONS", b"Sec-WebSocket-New"],
)
def test_a_client_refuses_a_fold_in_what_frames_a_message(name: bytes, fold: bytes) -> None:
    """http.client and Node's fetch see no coding where aiohttp and curl see a folded "chunked"."""
    for before in (b"", b"A: b\r\n c\r\n"):
        data = b"HTTP/1.1 200 OK\r\n" + before + fold % name + b"\r\nX: y\r\n\r\n"
        for pieces in segmentations(data + TRAILING):
            with pytest.raises(ProtocolError, match="is folded"):
                read_responses(pieces, ResponseReader(DEFAULT))


@pytest.mark.parametrize("size", range(56, 66))
def test_folds_count_as_a_part_of_their_line(size: int) -> None:
    """The blanks and line ends that become one space too: a value may be no longer in pieces than at once."""
    limits = Limits(head=200, header_lines=20, line=60)
    for folds in (b"\r\n b", b"\r\n b\r\n\tc", b"\r\n" + b" " * 40 + b"b", b"\r\n \r\n " * 4 + b"c", b"\r\n "):
        line = b"A: " + b"x" * (size - 3 - len(folds)) + folds
        assert len(line) == size
        for pieces in segmentations(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nB: c\r\n\r\n"):
            if size <= 60:
                assert read_responses(pieces, ResponseReader(limits))[0] is not None
            else:
                with pytest.raises(ProtocolError, match="limit 'line' of 60 bytes"):
                    read_responses(pieces, ResponseReader(limits))


def test_each_fold_is_a_line() -> None:
    for folds in (3, 4, 1000):
        data = b"HTTP/1.1 200 OK\r\nA: b\r\n" + b" \r\n" * folds + b"\r\n"
        for pieces in ([data], bytewise(data)):
            if folds == 3:
                assert read_responses(pieces, ResponseReader(TIGHT))[0] is not None
            else:
                with pytest.raises(ProtocolError, match=r"limit '(header_lines|head)'"):
                    read_responses(pieces, ResponseReader(TIGHT))


def test_bare_line_ends_of_a_response() -> None:
    """For a client too, at the byte that proves it; behind an interim response as well."""
    for begin in (b"", CONTINUE):
        for data in (b"HTTP/1.1 200 OK\n", b"HTTP/1.1 200 OK\r\nA: b\n", b"HTTP/1.1 200 OK\rA", b"HTTP/1.1 200 OK\r\n\n"):
            buf = bytearray()
            reader = ResponseReader(DEFAULT)
            for byte in bytewise(begin + data[:-1]):
                buf += byte
                assert reader.next(buf) is None
            buf += data[-1:]
            with pytest.raises(ProtocolError, match="bare LF"):
                reader.next(buf)
            with pytest.raises(ProtocolError, match="bare LF"):
                ResponseReader(DEFAULT).next(bytearray(begin + data))


FINAL = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def read_responses(pieces: list[bytes], reader: ResponseReader, proceed: bool = False) -> tuple[ResponseHead | None, bytes]:
    """The first response that the reader returns, and what it leaves of the bytes."""
    buf = bytearray()
    response = None
    for piece in pieces:
        buf += piece
        if response is None:
            response = reader.next(buf, proceed)
    return response, bytes(buf)


@pytest.mark.parametrize("interim", [0, 1, 16])
@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_responses_are_skipped_and_counted(status: int, interim: int) -> None:
    """RFC 9110, section 15.2: any number may precede the final one; we take 16."""
    early = b"HTTP/1.1 %d Early\r\nLink: </x>\r\n\r\n" % status
    for pieces in segmentations(early * interim + FINAL + TRAILING):
        reader = ResponseReader(DEFAULT)
        response, rest = read_responses(pieces, reader)
        assert response is not None
        assert (response.status, response.header, rest) == (200, {"server": "x"}, TRAILING)
        assert reader.interim == interim
    for upgrade in (False, True):
        reader = ResponseReader(DEFAULT, upgrade)
        assert reader.next(bytearray(early * 16)) is None
        with pytest.raises(ProtocolError, match="more than 16 interim responses"):
            reader.next(bytearray(early + FINAL))


def test_a_switch_of_protocols_is_final_only_where_it_was_asked_for() -> None:
    for pieces in segmentations(CONTINUE + SWITCHING + TRAILING):
        response, rest = read_responses(pieces, ResponseReader(DEFAULT, upgrade=True))
        assert response is not None
        assert (response.status, rest) == (101, TRAILING)
        with pytest.raises(ProtocolError, match="which nobody asked for"):
            read_responses(pieces, ResponseReader(DEFAULT))


def test_a_100_is_returned_to_a_client_that_waits_for_it() -> None:
    """RFC 9110, section 10.1.1. Other interim responses are skipped; and it counts as one."""
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    for pieces in segmentations(early + CONTINUE + FINAL):
        reader = ResponseReader(DEFAULT)
        response, rest = read_responses(pieces, reader, proceed=True)
        assert response is not None
        assert (response.status, reader.interim, rest) == (100, 2, FINAL)
        response = reader.next(bytearray(rest))
        assert response is not None
        assert response.status == 200


def test_a_bad_head_behind_an_interim_response() -> None:
    with pytest.raises(ProtocolError, match="bad status line"):
        ResponseReader(DEFAULT).next(bytearray(CONTINUE + b"HTTP/1.1 2xx\r\n\r\n"))


BODIES: list[tuple[str, str, str, list[str], int | type[ProtocolError]]] = [
    ("1-head", "HEAD", "HTTP/1.1 200", ["Content-Length: 5"], 0),
    ("1-head-te", "HEAD", "HTTP/1.1 200", ["Transfer-Encoding: chunked"], 0),
    ("1-100", "GET", "HTTP/1.1 100", [], 0),
    ("1-101", "GET", "HTTP/1.1 101", ["Content-Length: 5"], 0),
    ("1-204", "GET", "HTTP/1.1 204", ["Content-Length: 5"], 0),
    ("1-304", "GET", "HTTP/1.1 304", ["Content-Length: 5"], 0),
    ("2-connect", "CONNECT", "HTTP/1.1 200", ["Content-Length: 5"], 0),
    ("2-connect-refused", "CONNECT", "HTTP/1.1 407", ["Content-Length: 5"], 5),
    ("4-cl", "GET", "HTTP/1.1 200", ["Content-Length: 5"], 5),
    ("4-te", "GET", "HTTP/1.1 200", ["Transfer-Encoding: chunked"], CHUNKED),
    ("4-both", "GET", "HTTP/1.1 200", ["Transfer-Encoding: chunked", "Content-Length: 5"], ProtocolError),
    ("4-te-gzip", "GET", "HTTP/1.1 200", ["Transfer-Encoding: gzip"], ProtocolError),
    ("4-te-in-1.0", "GET", "HTTP/1.0 200", ["Transfer-Encoding: chunked"], ProtocolError),
    ("5-cl-bad", "GET", "HTTP/1.1 200", ["Content-Length: x"], ProtocolError),
    ("5-cl-twice", "GET", "HTTP/1.1 200", ["Content-Length: 5", "Content-Length: 6"], ProtocolError),
    ("6-cl-1.0", "GET", "HTTP/1.0 200", ["Content-Length: 5"], 5),
    ("8-until-close", "GET", "HTTP/1.1 200", [], UNTIL_CLOSE),
    ("8-until-close-1.0", "GET", "HTTP/1.0 200", [], UNTIL_CLOSE),
]


@pytest.mark.parametrize(
    ("method", "line", "fields", "due"), [pytest.param(*row, id=f"rfc9112-6.3-{name}") for name, *row in BODIES]
)
def test_response_body_length(method: str, line: str, fields: list[str], due: Any) -> None:
    response = parse_response("\r\n".join([line, *fields]).encode(), DEFAULT)
    measure: Callable[[], int] = lambda: response_body_length(response, method)  # noqa: E731
    if due is ProtocolError:
        with pytest.raises(ProtocolError):
            measure()
    else:
        assert measure() == due
