"""Upgrade requests that broke servers: the status on the wire, and nothing behind them is taken for a request or a frame."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from silly.net import http, websocket
from silly.sync import channel

from ..helpers import BINARY, CLOSE, FIN, KEY, PING, PONG, TEXT, joined, spawn, turn
from .support import (
    LOG,
    SHORT,
    TCP,
    TLS,
    Held,
    Way,
    accepted,
    both_transports,
    every_way,
    read,
    refused,
    request,
)

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLED_LAST = b"GET /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""A server that runs it ends the connection, so that a test needs no time-out to see it."""
FRAME = b"\x81\x82abcdxy"

# ---- a body behind the upgrade request ------------------------------------------------------------------------------

BODIES = {
    "length-request": ("Content-Length: 35", SMUGGLED),
    "length-frame": ("Content-Length: 8", FRAME),
    "length-unsent": ("Content-Length: 1000000", b""),
    "chunked-request": ("Transfer-Encoding: chunked", b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    "chunked-frame": ("Transfer-Encoding: chunked", b"8\r\n" + FRAME + b"\r\n0\r\n\r\n"),
    "chunked-empty": ("Transfer-Encoding: chunked", b"0\r\n\r\n"),
}


@every_way
@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]], ids=["", "expect"])
@pytest.mark.parametrize("row", BODIES)
def test_cve_2026_69243_cve_2026_58055_upgrade_with_body(row: str, expect: list[str], way: Way, logs: Any) -> None:
    """A good upgrade request but for its body: 400, and the connection ends."""
    logs.expect(LOG)
    field, body = BODIES[row]
    response = refused(way, request(field, *expect), behind=body + SMUGGLED)
    assert response.status == 400


@every_way
@pytest.mark.parametrize("bad", ["Sec-WebSocket-Version: 12", "Origin: http://evil.example", "Connection: close"])
@pytest.mark.parametrize("row", ["length-request", "chunked-request"])
def test_cve_2026_69243_refused_for_another_reason(row: str, bad: str, way: Way, logs: Any) -> None:
    """Refused for the body or for the rest; either way the connection ends."""
    logs.expect(LOG)
    field, body = BODIES[row]
    assert refused(way, request(field, bad), behind=body + SMUGGLED).status in (400, 403, 426)


@every_way
@pytest.mark.parametrize("row", BODIES)
def test_cve_2026_69243_refused_by_the_handler(row: str, way: Way, logs: Any) -> None:
    """A handler that never upgrades answers as for any request: the body is read or the connection ends."""
    logs.allow(LOG)
    field, body = BODIES[row]
    paths = []

    def handler(stream: Any) -> None:
        paths.append(stream.path)
        stream.respond(403)
        stream.close("no")

    with way.serving(handler, {"body_timeout": 50}) as server, way.dial(server) as peer:
        way.deliver_all(peer, request(field) + body)
        assert peer.response().status == 403
        peer.conn.write(b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        turn(3)
    turn(5)
    assert "/smuggled" not in paths
    assert paths[0] == "/chat"
    assert set(paths) <= {"/chat", "/next"}


# ---- a handler that answers without upgrading -----------------------------------------------------------------------


def answers_in_pieces(stream: Any) -> None:
    stream.respond(401)
    for piece in ("a", "b"):
        stream.write(piece)
        stream.flush()
    stream.closewrite("c")


def answers_from_a_file(stream: Any) -> None:
    http.sendfile(stream, f"/{Path(__file__).name}", Path(__file__).parent)


def raises(stream: Any) -> None:
    raise KeyError("secret")


def raises_late(stream: Any) -> None:
    stream.respond(200)
    raise KeyError("secret")


def another_route(method: str, pattern: str) -> Any:
    router = http.router()
    router.route(method, pattern, lambda stream: stream.answer(401, "no"))
    return router


def a_websocket_route_that_refuses() -> Any:
    router = http.router()
    router.websocket("/chat", lambda stream: stream.answer(401, "no"))
    return router


OWN: dict[str, tuple[Any, int]] = {
    "respond": (lambda stream: stream.respond(401), 401),
    "respond-and-close": (lambda stream: stream.respond(401, close=True), 401),
    "respond-and-closewrite": (lambda stream: (stream.respond(401, {"content-length": 2}), stream.closewrite("no")), 401),
    "keep-alive": (lambda stream: stream.respond(401, {"connection": "keep-alive"}), 401),
    "answer": (lambda stream: stream.answer(401, "no", {"www-authenticate": "Bearer"}), 401),
    "pieces": (answers_in_pieces, 401),
    "no-body": (lambda stream: stream.respond(204), 204),
    "not-modified": (lambda stream: stream.respond(304), 304),
    "file": (answers_from_a_file, 200),
    "nothing": (lambda stream: None, 500),
    "raises": (raises, 500),
    "raises-late": (raises_late, 500),
    "no-route": (another_route("GET", "/other"), 404),
    "no-route-for-the-method": (another_route("PUT", "/chat"), 405),
    "route": (another_route("GET", "/chat"), 401),
    "websocket-route": (a_websocket_route_that_refuses(), 401),
}


def only_answer(way: Way, handler: Any, data: bytes, behind: bytes, logs: Any) -> tuple[bytes, list[str]]:
    """What a server with ``handler`` sends until its end, and the paths that its handler got."""
    logs.allow(f"{LOG}|ERROR exception in the handler")
    paths = []

    def watched(stream: Any) -> None:
        paths.append(stream.path)
        handler(stream)

    with way.serving(watched) as server, way.dial(server) as peer:
        way.deliver_all(peer, data + behind)
        got = peer.rest()
    turn(5)
    return got, paths


@every_way
@pytest.mark.parametrize("row", OWN)
def test_after_a_handlers_own_answer_to_an_upgrade_nothing_is_run(row: str, way: Way, logs: Any) -> None:
    """What follows may be frames. A proxy that thinks so too (as one that pipes every upgrade) has not looked at it."""
    handler, status = OWN[row]
    got, paths = only_answer(way, handler, request(), SMUGGLED + SMUGGLED_LAST, logs)
    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert got.count(b"HTTP/1.1 ") == 1 + (row == "file") * Path(__file__).read_bytes().count(b"HTTP/1.1 ")
    assert b"\r\nconnection: close\r\n" in got.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert b"keep-alive" not in got.partition(b"\r\n\r\n")[0]
    assert paths == ["/chat"]


UPGRADES = {
    "frame-behind": (request(), FRAME),
    "head": (request(first="HEAD /chat HTTP/1.1"), b""),
    "options": (request(first="OPTIONS /chat HTTP/1.1"), b""),
    "options-of-the-server": (request(first="OPTIONS * HTTP/1.1"), b""),
    "post": (request(first="POST /chat HTTP/1.1"), b""),
    "http-1.0": (request("Connection: Upgrade, keep-alive", first="GET /chat HTTP/1.0"), b""),
    "upgrade-of-two": (request("Upgrade: h2c, WebSocket/13"), b""),
    "upgrade-of-two-lines": (request("Upgrade: h2c", "Upgrade: websocket"), b""),
    "no-connection": (request(without=("Connection",)), b""),
    "another-version": (request("Sec-WebSocket-Version: 99"), b""),
    "no-key": (request(without=("Sec-WebSocket-Key",)), b""),
    "body": (request("Content-Length: 8"), FRAME),
    "body-of-a-request": (request(f"Content-Length: {len(SMUGGLED)}"), SMUGGLED),
    "chunked-body": (request("Transfer-Encoding: chunked"), b"8\r\n" + FRAME + b"\r\n0\r\n\r\n"),
    "body-and-expect": (request("Content-Length: 8", "Expect: 100-continue"), FRAME),
}


@every_way
@pytest.mark.parametrize("how", ["unread", "read", "nothing", "routes"])
@pytest.mark.parametrize("row", UPGRADES)
def test_any_request_for_a_websocket_is_the_last_unless_it_becomes_one(row: str, how: str, way: Way, logs: Any) -> None:
    def handler(stream: Any) -> None:
        if how == "read":
            stream.readall()
        if how in ("read", "unread"):
            stream.answer(401, "no")

    data, behind = UPGRADES[row]
    got, paths = only_answer(way, http.router() if how == "routes" else handler, data, behind + SMUGGLED + SMUGGLED_LAST, logs)
    got = got.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert got.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in got.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert paths == ["*" if row == "options-of-the-server" else "/chat"]


@every_way
@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.3", "foo/2, bar", ""])
def test_any_other_protocol_is_ignored(upgrade: str, way: Way) -> None:
    """RFC 9110, section 7.8. `curl --http2` asks for h2c, and goes on with HTTP/1.1 on the same connection."""
    paths = []

    def handler(stream: Any) -> None:
        paths.append(stream.path)
        stream.answer(200, "fine")

    with way.serving(handler) as server, way.dial(server) as peer:
        way.deliver_all(peer, request(f"Upgrade: {upgrade}", "Connection: Upgrade") + SMUGGLED)
        for _ in range(2):
            response = peer.response()
            assert (response.status, "connection" in response.header) == (200, False)
        peer.silent()
    assert paths == ["/chat", "/smuggled"]


@every_way
@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
def test_gevent_2075_expect_with_upgrade(expect: str, way: Way) -> None:
    """No body is due: no 100, one 101."""
    with accepted(way, request(f"Expect: {expect}")) as (sock, peer, _):
        peer.put(FIN | TEXT, "x")
        assert read(sock) == ("x", "text")
        peer.silent()


@every_way
@pytest.mark.parametrize("expect", [["100-continue"] * 2, ["100-continue, 100-continue"], ["other"], ["100-continue; x"]])
def test_gevent_2075_other_expectations_with_upgrade(expect: list[str], way: Way, logs: Any) -> None:
    """Refused as unknown, once."""
    logs.expect(LOG)
    assert refused(way, request(*[f"Expect: {value}" for value in expect]), behind=FRAME + SMUGGLED).status == 417


# ---- the fields of the handshake ------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "aiohttp-3.14.0-connection-notupgrade": (request("Connection: notupgrade"), (426,)),
    "aiohttp-3.14.0-connection-upgraded": (request("Connection: upgraded"), (426,)),
    "aiohttp-3.14.0-connection-upgrade-x": (request("Connection: keep-alive, Upgrade-Insecure"), (426,)),
    "aiohttp-3.14.0-connection-quoted": (request('Connection: "Upgrade"'), (400, 426)),
    "aiohttp-3.14.0-connection-two-words": (request("Connection: keep-alive Upgrade"), (400, 426)),
    "aiohttp-3.14.0-upgrade-websockets": (request("Upgrade: websockets"), (426,)),
    "aiohttp-3.14.0-upgrade-notwebsocket": (request("Upgrade: notwebsocket"), (426,)),
    "lua-no-upgrade": (request(without=("Upgrade",)), (426,)),
    "lua-no-connection": (request(without=("Connection",)), (426,)),
    "lua-no-version": (request(without=("Sec-WebSocket-Version",)), (400, 426)),
    "lua-no-host": (request(without=("Host",)), (400,)),
    "lua-http-1.0": (request(first="GET / HTTP/1.0"), (400, 426)),
    "http-0.9": (b"GET /chat\r\n\r\n", (400,)),
    "http-1.2": (request(first="GET / HTTP/1.2"), (400, 505)),
    "http-2.0": (request(first="GET / HTTP/2.0"), (400, 505)),
    "method-post": (request(first="POST / HTTP/1.1"), (405,)),
    "method-lower-case": (request(first="get / HTTP/1.1"), (400, 405)),
    "method-head": (request(first="OPTIONS / HTTP/1.1"), (405,)),
    "key-missing": (request(without=("Sec-WebSocket-Key",)), (400,)),
    "lua-key-short": (request("Sec-WebSocket-Key: short"), (400,)),
    "key-empty": (request("Sec-WebSocket-Key: "), (400,)),
    "key-of-15-bytes": (request("Sec-WebSocket-Key: YWJjZGVmZ2hpamtsbW5v"), (400,)),
    "key-of-17-bytes": (request("Sec-WebSocket-Key: YWJjZGVmZ2hpamtsbW5vcHE="), (400,)),
    "key-of-18-bytes": (request("Sec-WebSocket-Key: YWJjZGVmZ2hpamtsbW5vcHFy"), (400,)),
    "key-without-padding": (request(f"Sec-WebSocket-Key: {KEY[:-2]}"), (400,)),
    "key-not-base64": (request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), (400,)),
    "key-urlsafe": (request("Sec-WebSocket-Key: -_hlIHNhbXBsZSBub25jZQ=="), (400,)),
    "key-inner-space": (request("Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ=="), (400,)),
    "key-beyond-ascii": (request("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ\xfc=="), (400,)),
    "key-quoted": (request(f'Sec-WebSocket-Key: "{KEY}"'), (400,)),
    "lua-two-keys": (request(f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"), (400,)),
    "two-different-keys": (request(f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA=="), (400,)),
    "two-keys-in-a-line": (request(f"Sec-WebSocket-Key: {KEY}, {KEY}"), (400,)),
    **{
        f"version-{version}": (request(f"Sec-WebSocket-Version: {version}"), (426,))
        for version in ("12", "8", "14", "0", "13, 8", "8, 13", "130", "013", "+13", "13.0", "x", "\xb9\xb3")
    },
    "version-empty": (request("Sec-WebSocket-Version: "), (400, 426)),
    "two-versions": (request("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), (400, 426)),
    "two-versions-8": (request("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), (400, 426)),
    # ---- heads that are parsed before the handshake is looked at
    "CVE-2023-47627-cl-and-te": (request("Content-Length: 0", "Transfer-Encoding: chunked"), (400,)),
    "CVE-2023-47627-cl-twice": (request("Content-Length: 0", "Content-Length: 1"), (400,)),
    **{
        f"CVE-2023-47627-cl-{value.strip() or 'space'}": (request(f"Content-Length: {value}"), (400,))
        for value in ("+5", "-0", "5_0", "0x3", "3.0", "5 5", "0, 1", "\xb2")
    },
    **{
        f"CVE-2023-47641-te-{value}": (request(f"Transfer-Encoding: {value}"), (400, 501))
        for value in ("xchunked", "chunked, chunked", "gzip, chunked", "chunked123", "chunked, gzip", "identity")
    },
    "CVE-2023-47627-te-upper-case": (request("Transfer-Encoding: Chunked"), (400,)),
    "CVE-2024-52304-bare-lf": (request().replace(b"\r\nUpgrade", b"\nUpgrade"), (400,)),
    "bare-cr": (request("X: a\rb"), (400,)),
    "obs-fold": (request().replace(b"Upgrade: websocket", b"Upgrade:\r\n websocket"), (400,)),
    "nul": (request("X: a\0b"), (400,)),
    "nul-in-the-upgrade": (request("Upgrade: websocket\0"), (400,)),
    "space-before-colon": (request().replace(b"Upgrade:", b"Upgrade :"), (400,)),
    "no-colon": (request("Nonsense"), (400,)),
    "empty-name": (request(": x"), (400,)),
    "CVE-2026-34525-two-hosts": (request("Host: test", "Host: test"), (400,)),
    "CVE-2026-34525-two-different-hosts": (request("Host: test", "Host: evil"), (400,)),
    **{
        f"CVE-2026-48710-host-{value.replace('/', '|')}": (request(f"Host: {value}"), (400,))
        for value in ("a/b?c", "user@test", "user:pw@test", "test:99999", "test:x", "a b", "test#f", "[::1", "te\\st")
    },
    # ---- other protocols
    "http2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", (400, 505)),
    "tls-hello": (bytes.fromhex("160301007a010000760303") + b"\x11" * 120, (400,)),
    "tls-alert": (bytes.fromhex("15030100020228"), (400,)),
    "sslv2-hello": (bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0"), (400,)),
    "proxy-v2": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x1f\x90\x01\xbb" + request(), (400,)),
    "proxy-v1": (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + request(), (400,)),
    "websocket-frame": (b"\x81\x85abcdhello", (400,)),
    "empty-lines-and-nul": (b"\r\n\0\r\n\r\n", (400,)),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", (400,)),
}


@every_way
@pytest.mark.parametrize("row", REFUSED)
def test_refused(row: str, way: Way, logs: Any, debugged: list[str]) -> None:
    """The status, the end of the connection; what comes behind is neither a request nor a frame. One line: that of a request
    which asks for no WebSocket, as health probes do, is DEBUG."""
    logs.allow(LOG)
    data, statuses = REFUSED[row]
    response = refused(way, data, behind=FRAME + SMUGGLED)
    assert response.status in statuses
    if response.status == 426:
        assert response.header["upgrade"] == "websocket"
        assert response.header["sec-websocket-version"] == "13"  # ws#2291
        assert "upgrade" in response.header["connection"]
    if response.status == 405:
        assert response.header["allow"] == "GET"
    refusals = [line for line in debugged if "upgrade refused" in line]
    assert (len(logs.lines), len(refusals)) == ((0, 1) if row == "lua-no-upgrade" else (1, 0))


ACCEPTED = {
    "firefox": ["Connection: keep-alive, Upgrade"],
    "lua-connection-lower-case": ["Connection: upgrade"],
    "connection-upper-case": ["Connection: UPGRADE"],
    "connection-over-lines": ["Connection: keep-alive", "Connection: Upgrade"],
    "connection-with-empty-items": ["Connection: ,, keep-alive ,\tUpgrade,"],
    "connection-without-spaces": ["Connection: a,upgrade,b"],
    "lua-upgrade-WebSocket": ["Upgrade: WebSocket"],
    "upgrade-upper-case": ["Upgrade: WEBSOCKET"],
    "upgrade-of-two": ["Upgrade: h2c, websocket"],
    "content-length-0": ["Content-Length: 0"],
    "field-names-in-any-case": [f"sEC-wEBSOCKET-kEY: {KEY}", "UPGRADE: websocket", "hOST: test"],
    "no-space-behind-the-colon": [f"Sec-WebSocket-Key:{KEY}", "Upgrade:websocket", "Sec-WebSocket-Version:13"],
    "spaces-around-values": [f"Sec-WebSocket-Key: \t {KEY}  \t", "Upgrade: websocket "],
    "host-with-an-empty-port": ["Host: example.com:", "Origin: https://example.com"],
    "websocket-fields-of-others": ["Sec-WebSocket-Accept: x", "Sec-WebSocket-Foo: y"],
}


@every_way
@pytest.mark.parametrize("row", ACCEPTED)
def test_accepted(row: str, way: Way) -> None:
    with accepted(way, request(*ACCEPTED[row])) as (sock, peer, response):
        assert response.header["upgrade"].lower() == "websocket"
        assert response.header["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        peer.put(FIN | TEXT, "x")
        assert read(sock) == ("x", "text")


def test_tls_hello_and_others_on_a_plain_port_leave_it_usable(logs: Any) -> None:
    logs.expect(LOG)
    held = Held()
    with TCP.serving(held) as server:
        for row in ("tls-hello", "http2-preface", "proxy-v2"):
            with TCP.dial(server) as peer:
                peer.send(REFUSED[row][0])
                peer.response()
                peer.eof()
        with TCP.dial(server) as peer:
            peer.send(request())
            assert peer.response().status == 101
            peer.close()
            held.release()
    assert held.paths == ["/chat"]


@pytest.mark.parametrize("dribbled", [False, True], ids=["whole", "dribbled"])
@pytest.mark.parametrize("row", ["plain", "http2-preface", "proxy-v2", "proxy-v1"])
def test_plain_bytes_on_a_tls_port(row: str, dribbled: bool, logs: Any) -> None:
    """No handler runs, the connection ends, and the port stays usable."""
    logs.allow("INFO tls: ")
    held = Held()
    data = request() if row == "plain" else REFUSED[row][0]
    with TLS.serving(held) as server:
        with TCP.dial(server) as peer:
            Way(False, dribbled).deliver(peer, data)
            while peer.conn.read(1, 5000)[0] is not None:  # an alert, or a reset
                pass
        with TLS.dial(server) as peer:
            peer.send(request())
            assert peer.response().status == 101
            held.release()
    assert held.paths == ["/chat"]


# ---- counts of header lines -----------------------------------------------------------------------------------------

FIVE = 5
"""Lines of the good request."""


@every_way
@pytest.mark.parametrize("count", [0, 1, 127 - FIVE, 128 - FIVE, 129 - FIVE, 2000])
@pytest.mark.parametrize("place", ["before", "behind"])
def test_cve_2024_37890_header_count(place: str, count: int, way: Way, logs: Any) -> None:
    """Up to 128 lines pass wherever the handshake's are; more is 431, never a handshake with lines dropped."""
    # Dribbled, 2000 lines say no more than 300 do.
    lines = [f"X-{i}: y" for i in range(min(count, 300) if way.dribbled else count)]
    good = ["Host: test", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
    both = lines + good if place == "before" else good + lines
    data = "\r\n".join(["GET /chat HTTP/1.1", *both, "", ""]).encode()
    if len(both) <= 128:
        with accepted(way, data):
            pass
    else:
        logs.expect(LOG)
        assert refused(way, data, behind=FRAME).status == 431


@every_way
@pytest.mark.parametrize("name", ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
def test_cve_2024_37890_header_count_with_a_line_missing(name: str, way: Way, logs: Any) -> None:
    """A line missing, or pushed past the 128th: refused, no crash."""
    if name != "Upgrade":
        logs.expect(LOG)  # without it, it is a plain request: not one for the log
    filler = [f"X-{i}: y" for i in range(100)]
    response = refused(way, request(*filler, without=(name,)))
    assert response.status in (400, 426)


@both_transports
@pytest.mark.parametrize("name", ["Upgrade", "Sec-WebSocket-Key"])
@pytest.mark.parametrize("position", [0, 1, 64, 127])
def test_cve_2024_37890_field_at_position(position: int, name: str, way: Way) -> None:
    """The 128th line counts as the first does."""
    good = {
        "Host": "test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    last = f"{name}: {good.pop(name)}"
    lines = [f"{key}: {value}" for key, value in good.items()] + [f"X-{i}: y" for i in range(123)]
    lines.insert(position, last)
    with accepted(way, "\r\n".join(["GET /chat HTTP/1.1", *lines, "", ""]).encode()):
        pass


@every_way
def test_cve_2024_37890_upgrade_past_the_limit(way: Way, logs: Any) -> None:
    """The handshake's lines come as numbers 129 and on."""
    logs.expect(LOG)
    held = Held()
    data = b"GET /chat HTTP/1.1\r\n" + b"X: y\r\n" * 128 + request().partition(b"\r\n")[2]
    with way.serving(held) as server, way.dial(server) as peer:
        way.deliver(peer, data)
        assert peer.response().status == 431
        peer.eof()
    assert held.paths == []


# ---- repeated, long and strange values ------------------------------------------------------------------------------

STRANGE = {
    "spaces": "x" + " " * 8000 + "x",
    "commas": "," * 8000,
    "semicolons": ";" * 8000,
    "quotes": '"' * 8000,
    "quoted-pairs": '"' + "\\" * 7999,
    "open-quotes": 'a="' * 2600,
    "commas-and-spaces": ", " * 4000,
    "prototype": "__proto__, constructor, toString, hasOwnProperty",
    "prototype-parameters": "__proto__; constructor=x; __proto__=y",
    "equals": "=" * 8000,
    "tabs": "x\t" * 4000,
}


@both_transports
@pytest.mark.parametrize("field", ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Cookie", "Connection", "Origin"])
@pytest.mark.parametrize("row", STRANGE)
def test_cve_2021_32640_strange_values(row: str, field: str, way: Way, logs: Any) -> None:
    """8 KiB of one separator: upgraded without what they name, or refused as bad. The task count and log tell of no crash."""
    logs.allow(LOG)
    held = Held(subprotocols=["chat"], compression=True)
    value = f"{STRANGE[row]}, Upgrade"[-8000:] if field == "Connection" else STRANGE[row]
    with way.serving(held) as server, way.dial(server) as peer:
        peer.send(request(f"{field}: {value}"))
        response = peer.response()
        assert response.status in {"Origin": (403, 400), "Cookie": (101,)}.get(field, (101, 400, 426))
        assert "sec-websocket-protocol" not in response.header
        assert "sec-websocket-extensions" not in response.header
        peer.close()
        held.release()


@every_way
@pytest.mark.parametrize("line", ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Extensions: x; y=z", "Cookie: a=b", "X: y"])
def test_cve_2025_67725_equal_header_lines(line: str, way: Way) -> None:
    with accepted(way, request(*[line] * 120), subprotocols=["a"], compression=True) as (sock, _, response):
        assert sock.subprotocol == ("a" if "Protocol" in line else None)
        assert "sec-websocket-extensions" not in response.header


# ---- subprotocols ---------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize(
    ("offered", "ours", "chosen"),
    [
        (["superchat"], ["chat"], None),
        (["chatter, superchat"], ["chat"], None),
        (["ch"], ["chat"], None),
        (["a", "chat"], ["chat"], "chat"),
        (["a, chat"], ["chat"], "chat"),
        (["a,chat,b"], ["chat"], "chat"),
        (["Chat"], ["chat"], None),  # compared as they are (section 11.5)
        (["b, a"], ["a", "b"], "a"),
        ([""], ["chat"], None),
        ([", ,"], ["chat"], None),
        (["__proto__"], ["chat"], None),
        (["chat, chat"], ["chat"], "chat"),
        (["chat"], [], None),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_gevent_websocket_subprotocol_substring(offered: list[str], ours: list[str], chosen: str | None, way: Way) -> None:
    """Whole tokens are compared; none in common goes on without."""
    lines = [f"Sec-WebSocket-Protocol: {value}" for value in offered]
    with accepted(way, request(*lines), subprotocols=ours) as (sock, _, response):
        assert response.header.get("sec-websocket-protocol") == chosen
        assert sock.subprotocol == chosen


@every_way
@pytest.mark.parametrize("value", ["chat;x=1", '"chat"', "chat superchat", "chat/1", "(chat)", "chat=1"])
def test_subprotocols_that_are_not_tokens(value: str, way: Way, logs: Any) -> None:
    logs.expect(LOG)
    assert refused(way, request(f"Sec-WebSocket-Protocol: {value}"), subprotocols=["chat"]).status == 400


@both_transports
@pytest.mark.parametrize("choice", ["superchat", "a b", "a\r\nevil: 1", "", "\xe9"])
def test_subprotocol_function_chooses_what_was_not_offered(choice: str, way: Way, logs: Any) -> None:
    """A bug of the program, loud; nothing of it is on the wire."""
    logs.allow("ERROR exception in the handler")
    logs.allow(LOG)
    raised = []

    def handler(stream: Any) -> None:
        with pytest.raises(ValueError):
            websocket.upgrade(stream, subprotocols=lambda offered: choice)
        raised.append(True)

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(request("Sec-WebSocket-Protocol: chat"))
        head = peer.read("\r\n\r\n")
        assert b"evil" not in head
        assert head.startswith(b"HTTP/1.1 500 ")
    assert raised


# ---- Origin (CSWSH) -------------------------------------------------------------------------------------------------

ORIGINS: list[tuple[str, str, list[str], bool]] = [
    # name, Host, Origins, whether it is this host (docs/design.md, "Limits")
    ("absent", "test", [], True),
    ("null", "test", ["null"], False),
    ("empty", "test", [""], False),
    ("same", "test", ["http://test"], True),
    ("same-with-port", "test:8080", ["http://test:8080"], True),
    ("same-with-default-port", "test:80", ["http://test"], True),
    ("same-with-default-port-in-origin", "test", ["http://test:80"], True),
    ("https-default-port", "test:443", ["https://test"], True),
    ("other-scheme", "test", ["https://test"], True),  # ignored, for proxies
    ("other-host", "test", ["http://evil.example"], False),
    ("other-port", "test", ["http://test:81"], False),
    ("other-port-of-host", "test:8080", ["http://test"], False),
    ("upper-case", "test", ["HTTP://TEST"], True),
    ("upper-case-host", "TEST", ["http://test"], True),
    ("two", "test", ["http://test", "http://test"], False),
    ("two-different", "test", ["http://test", "http://evil.example"], False),
    ("two-in-a-line", "test", ["http://test, http://evil.example"], False),
    ("two-with-space", "test", ["http://test http://evil.example"], False),
    ("trailing-dot", "test", ["http://test."], False),
    ("prefix", "test", ["http://test.evil.example"], False),
    ("suffix", "test", ["http://eviltest"], False),
    ("subdomain", "test", ["http://sub.test"], False),
    ("userinfo", "test", ["http://test@evil.example"], False),
    ("userinfo-of-evil", "test", ["http://evil.example@test"], False),
    ("path", "test", ["http://test/"], False),
    ("query", "test", ["http://evil.example?http://test"], False),
    ("fragment", "test", ["http://evil.example#test"], False),
    ("no-scheme", "test", ["test"], False),
    ("file", "test", ["file://"], False),
    ("backslash", "test", ["http://evil.example\\@test"], False),
    ("port-beyond", "test", ["http://test:99999"], False),
    ("port-letters", "test", ["http://test:80a"], False),
    ("port-sign", "test", ["http://test:+80"], False),
    ("idn-punycode-same", "xn--bcher-kva.example", ["http://xn--bcher-kva.example"], True),
    ("idn-punycode-other", "xn--bcher-kva.example", ["http://bucher.example"], False),
    ("idn-raw", "xn--bcher-kva.example", ["http://b\xfccher.example"], False),
    ("ipv4", "127.0.0.1", ["http://127.0.0.1"], True),
    ("ipv4-number", "127.0.0.1", ["http://2130706433"], False),
    ("ipv6", "[::1]:8080", ["http://[::1]:8080"], True),
    ("ipv6-port", "[::1]:8080", ["http://[::1]"], False),
    ("localhost-for-address", "127.0.0.1", ["http://localhost"], False),
]


def origin_answer(way: Way, host: str, sent: list[str], passes: bool, logs: Any, **options: Any) -> None:
    lines = [f"Host: {host}", *[f"Origin: {origin}" for origin in sent]]
    if passes:
        with accepted(way, request(*lines), **options):
            return
    logs.expect(LOG)
    assert refused(way, request(*lines), behind=FRAME, **options).status == 403


@every_way
@pytest.mark.parametrize(("host", "origins", "passes"), [row[1:] for row in ORIGINS], ids=[row[0] for row in ORIGINS])
def test_cswsh_same_host(host: str, origins: list[str], passes: bool, way: Way, logs: Any) -> None:
    """Without ``origins=``: an Origin, where there is one, names this host and port."""
    origin_answer(way, host, origins, passes, logs)


LISTED = ["https://app.example", "https://other.example:8443"]
LIST: list[tuple[str, list[str], bool]] = [
    ("absent", [], True),
    ("listed", ["https://app.example"], True),
    ("listed-default-port", ["https://app.example:443"], True),
    ("listed-upper-case", ["HTTPS://APP.example"], True),
    ("listed-port", ["https://other.example:8443"], True),
    ("listed-other-port", ["https://other.example"], False),
    ("other-scheme", ["http://app.example"], False),
    ("same-host", ["https://test"], False),
    ("null", ["null"], False),
    ("empty", [""], False),
    ("prefix", ["https://app.example.evil.example"], False),
    ("subdomain", ["https://sub.app.example"], False),
    ("trailing-dot", ["https://app.example."], False),
    ("two", ["https://app.example", "https://app.example"], False),
    ("two-in-a-line", ["https://app.example, https://evil.example"], False),
    ("path", ["https://app.example/"], False),
]


@both_transports
@pytest.mark.parametrize(("origins", "passes"), [row[1:] for row in LIST], ids=[row[0] for row in LIST])
def test_cswsh_list(origins: list[str], passes: bool, way: Way, logs: Any) -> None:
    """With a list the scheme counts; the same host counts no longer."""
    origin_answer(way, "test", origins, passes, logs, origins=LISTED)


@both_transports
@pytest.mark.parametrize(
    ("origins", "passes"),
    [
        ([], True),
        (["https://a.example"], True),
        (["https://a.example.evil"], False),
        (["xhttps://a.example"], False),
        (["https://a.example", "https://a.example"], False),
        (["null"], False),
    ],
    ids=["absent", "match", "suffix", "prefix", "two", "null"],
)
def test_cswsh_pattern(origins: list[str], passes: bool, way: Way, logs: Any) -> None:
    """A pattern matches the whole of one Origin."""
    origin_answer(way, "test", origins, passes, logs, origins=re.compile(r"https://[a-z]+\.example"))


@both_transports
@pytest.mark.parametrize("origins", [[], ["null"], ["http://evil.example"]], ids=["absent", "null", "other"])
def test_cswsh_off(origins: list[str], way: Way, logs: Any) -> None:
    origin_answer(way, "test", origins, True, logs, origins=False)


def test_cswsh_greedy_pattern(logs: Any) -> None:
    """It doesn't make two Origins one."""
    origin_answer(TCP, "test", ["https://a.example", "https://evil.example"], False, logs, origins=re.compile(".*"))


# ---- pipelined ------------------------------------------------------------------------------------------------------


@every_way
def test_cve_2026_54273_frames_before_the_101(way: Way) -> None:
    """A client that speaks early: its frames wait, and are frames."""
    held = Held()
    with way.serving(held) as server:
        peer = way.dial(server)
        way.deliver_all(peer, request() + peer.frame(FIN | TEXT, b"early") + peer.frame(FIN | PING, b"p"))
        sock = held.pop()
        assert [read(sock), read(sock)] == [("early", "text"), (b"p", "ping")]
        assert peer.response().status == 101
        assert peer.get() == (FIN | PONG, b"p")
        peer.close()
        held.release()


@every_way
def test_cve_2026_54273_requests_before_the_101(way: Way, logs: Any) -> None:
    """A request behind an upgrade is a broken frame (it is unmasked), never a request."""
    logs.expect(LOG)
    held = Held()
    with way.serving(held, SHORT) as server, way.dial(server) as peer:
        way.deliver_all(peer, request() + SMUGGLED * 3)
        assert peer.response().status == 101
        sock = held.pop()
        reading = spawn(lambda: read(sock))
        assert peer.get_close()[0] == 1002
        peer.eof()
        assert joined(reading)[0] is None
        held.release()
    assert held.paths == ["/chat"]


@both_transports
def test_cve_2026_54273_10000_pipelined_requests(way: Way) -> None:
    """A flood behind one request that takes long: held by TCP, not in memory; then the upgrade behind some is done."""
    go = channel.new()
    served = []
    held = Held()

    def handler(stream: Any) -> None:
        if stream.path == "/chat":
            held(stream)
            return
        if not served:
            go.pop()
        served.append(stream.path)
        stream.respond(200)
        stream.close("")

    one = b"GET /x HTTP/1.1\r\nHost: test\r\n\r\n"
    with way.serving(handler) as server, way.dial(server) as peer:
        flooding = spawn(lambda: peer.conn.write(one * 10_000 + request()))
        turn(30)
        (connection,) = server._connections
        assert len(connection._conn._stream.buf) <= 3 * 65536
        go.push(True)
        for _ in range(10_000):
            peer.read("\r\n\r\n")
        assert peer.response().status == 101
        assert joined(flooding) == (True, None)
        peer.close()
        held.release()
    assert len(served) == 10_000


@every_way
def test_requests_then_an_upgrade(way: Way) -> None:
    held = Held()

    def handler(stream: Any) -> None:
        if stream.path == "/chat":
            return held(stream)
        stream.respond(200)
        stream.close("ok")
        return None

    with way.serving(handler) as server:
        peer = way.dial(server)
        way.deliver_all(peer, b"GET /x HTTP/1.1\r\nHost: test\r\n\r\n" * 3 + request())
        for _ in range(3):
            assert peer.response().body == b"ok"
        assert peer.response().status == 101
        peer.put(FIN | BINARY, b"x")
        assert read(held.pop()) == (b"x", "binary")
        peer.close()
        held.release()


@every_way
def test_lua_handler_returns_without_close(way: Way) -> None:
    """The socket is closed for it, and never goes back to HTTP."""
    paths = []

    def handler(stream: Any) -> None:
        paths.append(stream.path)
        websocket.upgrade(stream)

    with way.serving(handler, SHORT) as server, way.dial(server) as peer:
        way.deliver_all(peer, request())
        assert peer.response().status == 101
        assert peer.get_close() == (1000, "")
        peer.send(peer.frame(FIN | CLOSE, b"\x03\xe8") + SMUGGLED)
        peer.eof()
    assert paths == ["/chat"]
