"""Request heads that broke servers: the status on the wire, and nothing behind them is taken for a request."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest

from ..helpers import turn
from .support import (
    HTTP_LOG,
    KIB,
    SMUGGLED,
    TCP,
    Memory,
    Seen,
    Way,
    both_transports,
    chunked,
    every_way,
    get,
    http_answered,
    http_refused,
    post,
)

CHUNKED = "Transfer-Encoding: chunked"
LAST = "0\r\n\r\n"

# ---- framing --------------------------------------------------------------------------------------------------------

LENGTHS = {
    "plus": "+5",
    "minus": "-5",
    "minus-zero": "-0",
    "underscore": "5_0",
    "lua-hex": "0x5",
    "lua-float": "3.0",
    "octal": "0o5",
    "exponent": "1e1",
    "superscript": "\xb2",
    "arabic-digit": "\xd9\xa5",  # U+0665 in UTF-8
    "fullwidth-digit": "\xef\xbc\x95",
    "list-equal": "5, 5",
    "list-different": "5, 6",
    "list-empty-element": "5,",
    "list-empty-first": ",5",
    "inner-space": "5 5",
    "quoted": '"5"',
    "semicolon": "5;",
    "vertical-tab": "\x0b5",
    "form-feed": "5\x0c",
    "next-line": "5\x85",  # what str.strip takes off beyond spaces and tabs
    "no-break-space": "\xa05",
    "nul": "5\0",
    "empty": "",
    "word": "five",
    "2^63": "9223372036854775808",
    "2^64-1": "18446744073709551615",
    "2^64+5": "18446744073709551621",
    "40-digits": "9" * 40,
}
CODINGS = {
    "xchunked": "xchunked",
    "chunked123": "chunked123",
    "twice": "chunked, chunked",
    "gzip-chunked": "gzip, chunked",
    "chunked-gzip": "chunked, gzip",
    "gzip": "gzip",
    "identity": "identity",
    "chunked-identity": "chunked, identity",
    "identity-chunked": "identity, chunked",
    "parameter": "chunked;q=1",
    "quoted": '"chunked"',
    "space": "chun ked",
    "vertical-tab": "\x0bchunked",
    "form-feed": "chunked\x0c",
    "nul": "chunked\0",
    "no-break-space": "chunked\xa0",
    "kelvin-sign": "chun\xe2\x84\xaaed",  # lower() of U+212A is "k"
    "semicolon-list": "chunked; chunked",
    "empty": "",
    "comma": ",",
}
OTHER_LINES = {
    "space-before-colon": "Transfer-Encoding : chunked",
    "tab-before-colon": "Content-Length\t: 5",
    "no-break-space-before-colon": "Content-Length\xa0: 5",
    "space-first": " Transfer-Encoding: chunked",
    "nul-in-the-name": "Transfer-Encoding\0: chunked",
    "vertical-tab-first": "\x0bTransfer-Encoding: chunked",
    "folded-value": "Transfer-Encoding:\r\n chunked",
    "folded-tab": "X: y\r\n\tTransfer-Encoding: chunked",
    "bare-lf": "X: y\nTransfer-Encoding: chunked",
    "bare-lf-before-crlf": "X: y\n\r\nTransfer-Encoding: chunked",
    "bare-cr": "X: y\rTransfer-Encoding: chunked",
    "cr-cr-lf": "X: y\r\r\nTransfer-Encoding: chunked",
    "lf-cr": "X: y\n\rTransfer-Encoding: chunked",
    "no-colon": "Transfer-Encoding chunked",
    "colon-first": ":Transfer-Encoding: chunked",
    "quote-in-the-name": '"Content-Length": 5',
    "brace-in-the-name": "Content-Length{: 5",
    "latin-1-in-the-name": "Content-L\xe4nge: 5",
    "nul-in-a-value": "X: a\0b",
    "del-in-a-value": "X: a\x7fb",
    "esc-in-a-value": "X: a\x1bb",
    "bell-in-a-value": "X: \x07",
}
FRAMINGS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "cl-and-te": (post("Content-Length: 5", CHUNKED, body=LAST), (400,)),
    "te-and-cl": (post(CHUNKED, "Content-Length: 5", body=LAST), (400,)),
    "cl-0-and-te": (post("Content-Length: 0", CHUNKED, body=LAST), (400,)),
    "cl-and-te-of-a-get": (get("Content-Length: 5", CHUNKED, body=LAST), (400,)),
    "cl-and-te-identity": (post("Content-Length: 5", "Transfer-Encoding: identity", body="abcde"), (400, 501)),
    "cl-and-bad-te": (post("Content-Length: 5", "Transfer-Encoding: xchunked", body="abcde"), (400, 501)),
    "bad-cl-and-te": (post("Content-Length: 0x5", CHUNKED, body=LAST), (400,)),
    "cl-twice-equal": (post("Content-Length: 5", "Content-Length: 5", body="abcde"), (400,)),
    "cl-twice-different": (post("Content-Length: 0", "Content-Length: 35", body=SMUGGLED), (400,)),
    "cl-twice-in-other-cases": (post("Content-Length: 0", "cOnTeNt-lEnGtH: 35", body=SMUGGLED), (400,)),
    "cl-thrice-apart": (post("Content-Length: 0", *["X: y"] * 20, "Content-Length: 5", body="abcde"), (400,)),
    "te-twice": (post(CHUNKED, CHUNKED, body=LAST), (400, 501)),
    "te-identity-and-te": (post("Transfer-Encoding: identity", CHUNKED, body=LAST), (400, 501)),
    "te-and-te-identity": (post(CHUNKED, "Transfer-Encoding: identity", body=LAST), (400, 501)),
    "te-in-http-1.0": (get(CHUNKED, first="POST /first HTTP/1.0", body=LAST), (400,)),
    "te-and-cl-in-http-1.0": (get(CHUNKED, "Content-Length: 5", first="POST /first HTTP/1.0", body=LAST), (400,)),
    "cl-twice-in-http-1.0": (
        get("Content-Length: 0", "Content-Length: 5", first="POST /first HTTP/1.0", body="abcde"),
        (400,),
    ),
    **{f"cl-{row}": (post(f"Content-Length: {value}", body="abcde"), (400,)) for row, value in LENGTHS.items()},
    **{f"te-{row}": (post(f"Transfer-Encoding: {value}", body=LAST), (400, 501)) for row, value in CODINGS.items()},
    **{f"line-{row}": (post(line, body=LAST), (400,)) for row, line in OTHER_LINES.items()},
}


@every_way
@pytest.mark.parametrize("row", FRAMINGS)
def test_cve_2023_47627_cve_2023_47641_framing(row: str, way: Way, logs: Any) -> None:
    """How long the body is can be read in two ways, or in none: refused, and the connection ends.

    aiohttp CVE-2023-47627, CVE-2023-47641, CVE-2024-23829, CVE-2025-69224 (digits and letters of Unicode).
    """
    logs.expect(HTTP_LOG)
    data, statuses = FRAMINGS[row]
    assert http_refused(way, data).status in statuses
    assert len(logs.lines) == 1


@every_way
@pytest.mark.parametrize(
    "field", ["Transfer-Encoding: Chunked", "TRANSFER-ENCODING: CHUNKED", "transfer-encoding:chunked", f"{CHUNKED} \t "]
)
def test_lua_te_in_other_cases_is_chunked(field: str, way: Way) -> None:
    """Upstream read ``TE: Chunked`` as no body, so the body became the next request."""
    seen = Seen()
    body = b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"
    assert http_answered(way, post(field, body=body), seen=seen).body == SMUGGLED
    assert seen.requests[0] == "POST /first"


@every_way
@pytest.mark.parametrize("field", ["Content-Length: 35", "CONTENT-LENGTH:35", "content-length: \t 35 \t"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PROPFIND"])
def test_body_of_any_method_is_a_body(method: str, field: str, way: Way) -> None:
    """Also where none means anything (RFC 9110, section 9.3.1): the framing says so."""
    seen = Seen()
    response = http_answered(way, get(field, first=f"{method} /first HTTP/1.1", body=SMUGGLED), seen=seen)
    assert seen.bodies[0] == (SMUGGLED, None)
    assert response.header["content-length"] == "35"


# ---- the request line -----------------------------------------------------------------------------------------------

LINES: dict[str, tuple[str, tuple[int, ...]]] = {
    "two-spaces": ("GET  /first HTTP/1.1", (400,)),
    "tab": ("GET\t/first HTTP/1.1", (400,)),
    "vertical-tab": ("GET /first\x0bHTTP/1.1", (400,)),
    "space-at-the-end": ("GET /first HTTP/1.1 ", (400,)),
    "space-first": (" GET /first HTTP/1.1", (400,)),
    "space-in-the-target": ("GET /first /x HTTP/1.1", (400,)),
    "no-version": ("GET /first", (400,)),
    "http-0.9": ("GET /first HTTP/0.9", (400, 505)),
    "http-1.2": ("GET /first HTTP/1.2", (400, 505)),
    "http-2.0": ("GET /first HTTP/2.0", (400, 505)),
    "http-1.10": ("GET /first HTTP/1.10", (400, 505)),
    "http-01.1": ("GET /first HTTP/01.1", (400, 505)),
    "http-1": ("GET /first HTTP/1", (400, 505)),
    "http-1.superscript": ("GET /first HTTP/1.\xb9", (400, 505)),
    "http-arabic-digit": ("GET /first HTTP/\xd9\xa1.1", (400, 505)),
    "http-plus": ("GET /first HTTP/+1.1", (400, 505)),
    "lower-case": ("GET /first http/1.1", (400, 505)),
    "other-protocol": ("GET /first ICY/1.1", (400, 505)),
    "method-parenthesis": ("GE(T /first HTTP/1.1", (400,)),
    "method-colon": ("GET: /first HTTP/1.1", (400,)),
    "method-latin-1": ("G\xcbT /first HTTP/1.1", (400,)),
    "method-nul": ("GET\0 /first HTTP/1.1", (400,)),
    "no-method": (" /first HTTP/1.1", (400,)),
    "target-nul": ("GET /first\0 HTTP/1.1", (400,)),
    "target-del": ("GET /first\x7f HTTP/1.1", (400,)),
    "target-esc": ("GET /first\x1b[31m HTTP/1.1", (400,)),
    "target-latin-1": ("GET /f\xefrst HTTP/1.1", (400,)),
    "target-bare-lf": ("GET /first\nX: y HTTP/1.1", (400,)),
    "target-bare-cr": ("GET /first\rX: y HTTP/1.1", (400,)),
    "target-fragment": ("GET /first#x HTTP/1.1", (400,)),
    "target-no-slash": ("GET first HTTP/1.1", (400,)),
    "target-star": ("GET * HTTP/1.1", (400,)),
    "target-other-scheme": ("GET ftp://x/first HTTP/1.1", (400,)),
    "target-userinfo": ("GET http://user@x/first HTTP/1.1", (400,)),
    "target-bad-port": ("GET http://x:99999/first HTTP/1.1", (400,)),
    "target-empty-authority": ("GET http:///first HTTP/1.1", (400,)),
    "target-authority": ("GET x:80 HTTP/1.1", (400,)),
    "lf-alone": ("GET /first HTTP/1.1\nX: y", (400,)),
    "cr-alone": ("GET /first HTTP/1.1\rX: y", (400,)),
}


@every_way
@pytest.mark.parametrize("row", LINES)
def test_cve_2024_23829_request_line(row: str, way: Way, logs: Any) -> None:
    """Lenient separators and versions: refused. What is logged of it can't forge a line or move a terminal's cursor."""
    logs.expect(HTTP_LOG)
    line, statuses = LINES[row]
    response = http_refused(way, get(first=line))
    assert response.status in statuses
    assert len(logs.lines) == 1
    assert logs.lines[0].isprintable()
    assert b"\x1b" not in response.body


@every_way
@pytest.mark.parametrize("lines", [2, 3, 100])
def test_empty_lines_first(lines: int, way: Way, logs: Any) -> None:
    """One may come before a request (RFC 9112, section 2.2). More are refused or skipped; they are no request of their own."""
    logs.allow(HTTP_LOG)
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver(peer, b"\r\n" * lines + get("Connection: close"))
        assert peer.response().status in (200, 400)
        peer.eof()
    assert seen.requests in ([], ["GET /first"])


# ---- Host -----------------------------------------------------------------------------------------------------------

HOSTS = {
    "path-and-query": "a/b?c",
    "path": "a/",
    "query": "a?b",
    "fragment": "a#b",
    "userinfo": "user@a",
    "user-and-password": "user:pw@a",
    "port-99999": "a:99999",
    "port-65536": "a:65536",
    "port-word": "a:b",
    "port-plus": "a:+80",
    "port-minus": "a:-80",
    "port-superscript": "a:8\xb2",
    "port-arabic-digit": "a:\xd9\xa5",
    "two-ports": "a:80:80",
    "space": "a b",
    "tab": "a\tb",
    "list": "a, b",
    "backslash": "a\\b",
    "quote": '"a"',
    "angle": "<a>",
    "caret": "a^b",
    "open-bracket": "[::1",
    "close-bracket": "::1]",
    "no-brackets": "::1",
    "empty-brackets": "[]",
    "behind-brackets": "[::1]x",
    "word-in-brackets": "[nope]",
    "brackets-inside": "a[::1]",
    "bad-escape": "a%zz",
    "half-escape": "a%4",
    "nul": "a\0",
    "latin-1": "\xe4",
    "scheme": "http://a",
    "port-alone": ":80",
}


@every_way
@pytest.mark.parametrize("row", HOSTS)
def test_cve_2026_48710_malformed_host(row: str, way: Way, logs: Any) -> None:
    """Starlette CVE-2026-48710, websockets#1246: a Host that isn't host and port would change a rebuilt URL."""
    logs.expect(HTTP_LOG)
    assert http_refused(way, get(host=f"Host: {HOSTS[row]}")).status == 400


COUNTS = {
    "none": ([], (400,)),
    "two-equal": (["Host: a", "Host: a"], (400,)),
    "two-different": (["Host: a", "Host: b"], (400,)),
    "two-in-other-cases": (["Host: a", "hOST: b"], (400,)),
    "two-apart": (["Host: a", *["X: y"] * 50, "Host: b"], (400,)),
    "one-and-an-empty-one": (["Host: a", "Host:"], (400,)),
    "empty": (["Host:"], (400,)),
    "spaces": (["Host: \t "], (400,)),
}


@every_way
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("row", COUNTS)
def test_cve_2026_34525_hosts(row: str, version: str, way: Way, logs: Any) -> None:
    """Exactly one Host (RFC 9112, section 3.2); HTTP/1.0 may come without."""
    fields, statuses = COUNTS[row]
    data = get(*fields, host=None, first=f"GET /first HTTP/{version}")
    if version == "1.0" and row == "none":
        seen = Seen()
        with way.serving(seen) as server, way.dial(server) as peer:
            way.deliver_all(peer, data)
            assert peer.response().status == 200
            peer.eof()
        assert seen.requests == ["GET /first"]
        return
    logs.expect(HTTP_LOG)
    assert http_refused(way, data).status in statuses


@every_way
@pytest.mark.parametrize(
    "host", ["a", "A.example", "a:80", "a:0", "a:65535", "127.0.0.1:80", "[::1]", "[::1]:80", "a_b", "a.", "a,b"]
)
def test_cve_2026_34525_good_host(host: str, way: Way) -> None:
    http_answered(way, get(host=f"Host: {host}"))


@every_way
def test_cve_2026_34525_absolute_target_and_host(way: Way) -> None:
    """The target's authority goes before Host (RFC 9112, section 3.2.2), so that there are never two hosts."""
    hosts = []
    seen = Seen()

    def handler(stream: Any) -> None:
        hosts.append(stream.header["host"])
        seen(stream)

    with way.serving(handler) as server, way.dial(server) as peer:
        way.deliver_all(peer, get(first="GET http://target.example/first?x=1 HTTP/1.1"))
        assert peer.response().status == 200
    assert hosts == ["target.example"]
    assert seen.requests == ["GET /first"]


# ---- other protocols ------------------------------------------------------------------------------------------------

HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(193))
PROTOCOLS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "http2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", (400, 505)),
    "tls-hello": (HELLO, (400,)),
    "tls-alert": (bytes.fromhex("15030100020228"), (400,)),
    "proxy-v2": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x1f\x90\x01\xbb" + get(), (400,)),
    "proxy-v1": (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + get(), (400,)),
    "http-0.9": (b"GET /first\r\n", (400,)),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", (400,)),
    "smtp": (b"EHLO x\r\n", (400,)),
    "icap": (b"OPTIONS icap://x/ ICAP/1.0\r\nHost: x\r\n\r\n", (400, 505)),
    "rtsp": (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n", (400, 505)),
    "redis": (b"*1\r\n$4\r\nPING\r\n", (400,)),
    "nul": (b"\0" * 10, (400,)),
    "websocket-frame": (b"\x81\x85abcdhello", (400,)),
    "response": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (400,)),
    "utf-8-mark": (b"\xef\xbb\xbf" + get(), (400,)),
    "utf-16": (get().decode().encode("utf-16-le"), (400,)),
}


@every_way
@pytest.mark.parametrize("row", PROTOCOLS)
def test_other_protocols(row: str, way: Way, logs: Any) -> None:
    """HTTP/2 preface, TLS hello, PROXY header and others on an HTTP port: an answer, an end, and no request in them."""
    logs.expect(HTTP_LOG)
    data, statuses = PROTOCOLS[row]
    assert http_refused(way, data).status in statuses


# ---- Upgrade with a body --------------------------------------------------------------------------------------------

UPGRADES = [
    ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"],
    ["Upgrade: foo", "Connection: Upgrade"],
    ["Upgrade: TLS/1.0", "Connection: keep-alive, Upgrade"],
    ["Upgrade: websocket", "Connection: Upgrade"],
]


@every_way
@pytest.mark.parametrize("fields", UPGRADES, ids=["h2c", "foo", "tls", "websocket"])
@pytest.mark.parametrize("how", ["readall", "unread"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_cve_2026_69243_cve_2026_58055_upgrade_with_body(
    framing: str, how: str, fields: list[str], way: Way, logs: Any
) -> None:
    """A handler that doesn't upgrade: the body is a body, never the next request."""
    logs.allow(HTTP_LOG)
    seen = Seen(how)
    if framing == "length":
        data = post(*fields, "Content-Length: 35", body=SMUGGLED)
    else:
        data = post(*fields, CHUNKED, body=b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n")
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, data)
        response = peer.response()
        assert response.status in (200, 400)
        if response.status == 200 and how == "readall":
            assert response.body == SMUGGLED
        peer.conn.write(b"GET /behind HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        turn(5)
    assert "GET /smuggled" not in seen.requests


# ---- limits ---------------------------------------------------------------------------------------------------------

HEAD = {"head": 2000, "line": 400, "header_lines": 20}
LIMITS: dict[str, tuple[bytes, int]] = {
    "target": (get(first="GET /" + "a" * 600 + " HTTP/1.1"), 414),
    "target-without-end": (b"GET /" + b"a" * 3000, 414),
    "method-without-end": (b"G" * 3000, 414),
    "value": (get("X: " + "y" * 500), 431),
    "value-without-end": (get()[:-2] + b"X: " + b"y" * 5000, 431),
    "name": (get("x" * 500 + ": y"), 431),
    "name-without-end": (get()[:-2] + b"x" * 5000, 431),
    "lines": (get(*["X: y"] * 20), 431),
    "lines-without-end": (get()[:-2] + b"X: y\r\n" * 1000, 431),
    "head": (get(*["X: " + "y" * 300] * 7), 431),
    "head-without-end": (get()[:-2] + (b"X: " + b"y" * 300 + b"\r\n") * 15, 431),
    "host": (get(host="Host: " + "a" * 500), 431),
    "cookie": (get("Cookie: " + "a=b; " * 100), 431),
}


@every_way
@pytest.mark.parametrize("row", LIMITS)
def test_cve_2026_54277_limits(row: str, way: Way, logs: Any) -> None:
    """The same answer whole and byte by byte; without an end at the limit, not at the time-out."""
    logs.expect(HTTP_LOG)
    data, status = LIMITS[row]
    assert http_refused(way, data, limits=HEAD).status == status


@every_way
@pytest.mark.parametrize("row", ["target", "line", "lines", "head"])
@pytest.mark.parametrize("over", [0, 1])
def test_cve_2026_54277_at_the_limit_and_one_past_it(over: int, row: str, way: Way, logs: Any) -> None:
    first, fields = "GET /first HTTP/1.1", []
    if row == "target":
        first = "GET /".ljust(HEAD["line"] - 9 + over, "a") + " HTTP/1.1"
    elif row == "line":
        fields = ["X: ".ljust(HEAD["line"] + over, "y")]
    elif row == "lines":
        fields = ["X: y"] * (HEAD["header_lines"] - 1 + over)
    else:
        fields = ["X: " + "y" * 300] * 6
        fields.append("X: ".ljust(HEAD["head"] + over - len(get(*fields)) + 2, "y"))
        assert len(get(*fields)) == HEAD["head"] + over + 4  # the line ends behind the last field aren't counted
    if over:
        logs.expect(HTTP_LOG)
        assert http_refused(way, get(*fields, first=first), limits=HEAD).status == (414 if row == "target" else 431)
    else:
        http_answered(way, get(*fields, first=first), limits=HEAD)


@both_transports
def test_lua_1_mib_header_is_refused(way: Way, logs: Any) -> None:
    """Told at the limit; the rest isn't kept while it comes."""
    logs.expect(HTTP_LOG)
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer, Memory() as memory:
        peer.send(get()[:-2] + b"X: ")
        for _ in range(32):
            peer.conn.write(b"y" * 32 * KIB)
            peer.conn._stream.flush()
            turn(2)
        assert peer.response().status == 431
    assert memory.peak < 512 * KIB
    assert seen.requests == []


def test_refusals_leave_no_memory(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One refusal of each kind over and over: nothing adds up."""
    logs.expect(HTTP_LOG)
    rows = [data for data, _ in [*FRAMINGS.values(), *PROTOCOLS.values()]] + [chunked("zz\r\n"), chunked("1\r\nabc")]
    rows += [get(first=line) for line, _ in LINES.values()] + [get(host=f"Host: {host}") for host in HOSTS.values()]

    def ask(server: Any) -> None:
        for data in rows:
            with TCP.dial(server) as peer:
                peer.send(data + SMUGGLED)
                peer.response()
                peer.eof()
        turn(3)

    with TCP.serving(Seen("unread")) as server:
        ask(server)
        monkeypatch.setattr(logging.getLogger("silly"), "disabled", True)  # the tests keep what is logged
        ask(server)
        gc.collect()
        with Memory() as memory:
            for _ in range(2):
                ask(server)
            gc.collect()
    assert memory.held < 64 * KIB


# ---- line ends that are none ------------------------------------------------------------------------------------------

NEVER_ENDING = {
    "get": "GET /first HTTP/1.1\nHost: x\n\n",
    "0.9": "GET /first\n",
    "post": "POST /first HTTP/1.1\nHost: x\nContent-Length: 5\n\nabcde",
    "last-line": "GET /first HTTP/1.1\r\nHost: x\r\n\n",
    "by-cr": "GET /first HTTP/1.1\rHost: x\r\r",
    "leading": "\nGET /first HTTP/1.1\r\n",
    "upgrade": get("Upgrade: websocket", "Connection: Upgrade").decode().replace("\r\n", "\n"),
}


@every_way
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("row", NEVER_ENDING)
def test_a_head_by_bare_lf_is_refused_at_once(row: str, behind: bool, way: Way, logs: Any) -> None:
    """400 at the byte that proves it: such a head has no end, and waited 10 s for ``head_timeout``."""
    logs.expect(HTTP_LOG)
    seen = Seen("unread")
    with way.serving(seen, {"head_timeout": 10**6, "idle_timeout": 10**6}) as server, way.dial(server) as peer:
        if behind:
            peer.send(get())
            assert peer.response().status == 200
        way.deliver(peer, NEVER_ENDING[row])
        assert peer.response().status == 400
        peer.eof()
    assert len(seen.requests) == behind
    assert len(logs.lines) == 1
