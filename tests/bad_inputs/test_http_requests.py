"""Requests in their order: expectations, pipelining, methods, HTTP/1.0, heads that don't end, TLS, and ``python -O``."""

from __future__ import annotations

import socket
import ssl
from itertools import pairwise
from typing import Any

import pytest

from silly.net import http, tcp, tls, websocket

from ..children import Child
from ..helpers import Raw, joined, spawn, turn
from ..net.support import until
from .support import (
    HTTP_LOG,
    SMUGGLED,
    TCP,
    TLS,
    Seen,
    Way,
    both_transports,
    certificates,
    chunked,
    ended,
    every_way,
    fin_without_close_notify,
    get,
    http_refused,
    post,
)

# ---- Expect ---------------------------------------------------------------------------------------------------------

EXPECT = "Expect: 100-continue"


@every_way
@pytest.mark.parametrize("framing", ["Content-Length: 35", "Transfer-Encoding: chunked"])
def test_gevent_93_expect_gets_one_100(framing: str, way: Way) -> None:
    """One 100 for each request that asks, before its body; the body is the body, and what follows the next request."""
    seen = Seen()
    body = SMUGGLED if "Length" in framing else b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"
    with way.serving(seen) as server, way.dial(server) as peer:
        for _ in range(3):
            way.deliver_all(peer, post(framing, EXPECT))
            assert peer.response() == (100, {}, [], b"")
            peer.silent()
            way.deliver_all(peer, body)
            response = peer.response()
            assert (response.status, response.body) == (200, SMUGGLED)
        peer.silent()
    assert seen.requests == ["POST /first"] * 3


@every_way
@pytest.mark.parametrize("how", ["read", "pieces"])
def test_gevent_93_expect_read_in_parts(how: str, way: Way) -> None:
    """Many reads, one 100."""
    seen = Seen(how)
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, post("Transfer-Encoding: chunked", EXPECT))
        assert peer.response().status == 100
        way.deliver_all(peer, b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
        assert peer.response().body == b"abc"
        peer.silent()


@every_way
def test_gevent_2075_expect_and_the_body_at_once(way: Way) -> None:
    """A client that doesn't wait: its body is never read as a request, with a 100 or without."""
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, post("Content-Length: 35", EXPECT, body=SMUGGLED) * 3)
        for _ in range(3):
            response = peer.response()
            if response.status == 100:
                response = peer.response()
            assert (response.status, response.body) == (200, SMUGGLED)
        peer.silent()
    assert seen.requests == ["POST /first"] * 3


@every_way
@pytest.mark.parametrize("sent", ["", "half", "whole"])
@pytest.mark.parametrize("framing", ["Content-Length: 35", "Transfer-Encoding: chunked"])
def test_gevent_2075_expect_unread(framing: str, sent: str, way: Way, logs: Any) -> None:
    """It is not known whether a body follows a final answer: the bytes are skipped, or the connection ends."""
    logs.allow(HTTP_LOG)
    seen = Seen("unread")
    body = SMUGGLED if "Length" in framing else b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"
    with way.serving(seen, {"body_timeout": 100}) as server, way.dial(server) as peer:
        count = {"": 0, "half": 20, "whole": len(body)}[sent]
        way.deliver_all(peer, post(framing, EXPECT) + body[:count])
        assert peer.response().status == 200
        peer.conn.write(body[count:])
        turn(5)
    assert seen.requests == ["POST /first"]


@every_way
@pytest.mark.parametrize("fields", [[], ["Content-Length: 0"]])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_gevent_2075_expect_without_a_body(method: str, fields: list[str], way: Way) -> None:
    """RFC 9110, section 10.1.1: no 100 where no body is due; the connection goes on."""
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        for _ in range(2):
            way.deliver_all(peer, get(*fields, EXPECT, first=f"{method} /first HTTP/1.1"))
            assert peer.response(method).status == 200
            peer.silent()
    assert len(seen.requests) == 2


EXPECTATIONS = {
    "twice": [EXPECT, EXPECT],
    "twice-in-a-line": ["Expect: 100-continue, 100-continue"],
    "unknown": ["Expect: 200-ok"],
    "unknown-behind": ["Expect: 100-continue, other"],
    "unknown-line-behind": [EXPECT, "Expect: other"],
    "parameter": ["Expect: 100-continue;x=y"],
    "prefix": ["Expect: 100-continues"],
    "part": ["Expect: 100"],
    "quoted": ['Expect: "100-continue"'],
    "empty": ["Expect:"],
}


@every_way
@pytest.mark.parametrize("framing", [["Content-Length: 35"], ["Transfer-Encoding: chunked"], []], ids=["cl", "te", "none"])
@pytest.mark.parametrize("row", EXPECTATIONS)
def test_gevent_2075_other_expectations(row: str, framing: list[str], way: Way, logs: Any) -> None:
    """417, once, and the end."""
    logs.expect(HTTP_LOG)
    assert http_refused(way, post(*framing, *EXPECTATIONS[row])).status == 417


@every_way
def test_gevent_2075_expect_with_another_upgrade(way: Way) -> None:
    """An upgrade that the handler knows nothing of: answered as any request."""
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, post("Content-Length: 35", EXPECT, "Upgrade: h2c", "Connection: Upgrade"))
        first = peer.response().status
        if first == 100:
            way.deliver_all(peer, SMUGGLED)
            assert peer.response().body == SMUGGLED
        else:
            assert first >= 400
    assert "GET /smuggled" not in seen.requests


@every_way
def test_gevent_93_expect_in_http_1_0(way: Way) -> None:
    """Ignored (RFC 9110, section 10.1.1): such a client doesn't know a 100."""
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, get("Content-Length: 35", EXPECT, first="POST /first HTTP/1.0"))
        peer.silent()
        way.deliver_all(peer, SMUGGLED)
        assert peer.response().body == SMUGGLED
        peer.eof()
    assert seen.requests == ["POST /first"]


@both_transports
def test_gevent_93_no_100_behind_an_answer(way: Way) -> None:
    """A handler that answers first, and then reads, gets the body without a 100 in the middle of its answer."""

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("begun")
        stream.flush()
        stream.close(stream.readall()[0])

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(post("Content-Length: 3", EXPECT))
        head = peer.read("\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert peer.read(10) == b"5\r\nbegun\r\n"
        peer.send(b"abc")
        assert peer.rest() == b"3\r\nabc\r\n0\r\n\r\n"


# ---- pipelining -----------------------------------------------------------------------------------------------------


@both_transports
def test_cve_2026_54273_10000_pipelined_requests(way: Way) -> None:
    """In order, with bounded memory, and others are served meanwhile."""
    count = 10_000
    served = 0
    unread = []
    steps = [0]

    def handler(stream: Any) -> None:
        nonlocal served
        if stream.path == "/other":
            steps.append(served)
        else:
            served += 1
            unread.append(stream.conn.unreadbytes())
        stream.respond(200)
        stream.close(stream.path)

    with way.serving(handler) as server, way.dial(server) as peer, way.dial(server) as other:
        data = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(count))
        flooding = spawn(lambda: peer.conn.write(data))

        def ask() -> None:
            while served < count:
                other.request("/other")
                assert other.response().body == b"/other"

        asking = spawn(ask)
        for i in range(count):
            peer.read("\r\n\r\n")
            assert peer.read(len(str(i)) + 1) == b"/%d" % i
        assert joined(flooding) == (True, None)
        joined(asking)
        peer.silent()
    assert served == count
    assert max(unread) <= 4 * 65536
    assert max(b - a for a, b in pairwise([*steps, served])) < 500


@both_transports
def test_cve_2026_54273_flood_behind_a_slow_request(way: Way) -> None:
    """Held by TCP, and cut when its client goes; the requests behind are never run."""
    seen = []
    sizes = []
    gone: list[bool] = []

    def handler(stream: Any) -> None:
        seen.append(stream.path)
        until(lambda: gone)
        sizes.append(stream.conn.unreadbytes())
        stream.respond(200)
        stream.close("late")

    with way.serving(handler) as server:
        peer = way.dial(server)
        flooding = spawn(lambda: peer.conn.write(get() * 200_000))
        until(lambda: seen)
        turn(30)
        peer.reset()
        joined(flooding)
        turn(5)
        gone.append(True)
        until(lambda: not server._connections)
    assert sizes[0] <= 4 * 65536
    assert len(seen) < 4000  # what its buffer held


@both_transports
def test_cve_2026_54273_client_that_never_reads(way: Way) -> None:
    """Its answers fill its window, then nothing more of it is served; it ends with the write time-out."""
    served = 0

    def handler(stream: Any) -> None:
        nonlocal served
        served += 1
        stream.respond(200)
        stream.close(b"x" * 100_000)

    with way.serving(handler, {"write_timeout": 300}) as server:
        peer = way.dial(server)
        sending = spawn(lambda: peer.conn.write(get() * 2000))
        until(lambda: served > 5)
        until(lambda: not server._connections)
        assert served < 500
        peer.close()
        joined(sending)


@every_way
def test_cve_2026_54273_bad_request_behind_good_ones(way: Way, logs: Any) -> None:
    """Those before are answered in full, then the refusal, then the end."""
    logs.expect(HTTP_LOG)
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, get() + post("Content-Length: 3", body="abc") + chunked("0\r\n\r\n") + get("X : y") + SMUGGLED)
        assert [peer.response().body for _ in range(3)] == [b"", b"abc", b""]
        response = peer.response()
        assert response.status == 400
        assert response.header["connection"] == "close"
        peer.eof()
    assert seen.requests == ["GET /first", "POST /first", "POST /first"]


@every_way
@pytest.mark.parametrize("fields", [["Connection: close"], ["Connection: keep-alive, close"], ["Connection: CLOSE"]])
def test_nothing_is_parsed_behind_close(fields: list[str], way: Way) -> None:
    """RFC 9112, section 9.6: the request with ``close`` is the last."""
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver(peer, get(*fields) + SMUGGLED)
        response = peer.response()
        assert response.status == 200
        assert response.header["connection"] == "close"
        peer.eof()
    assert seen.requests == ["GET /first"]


# ---- methods --------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "get", "X!#$%&'*+-.^_`|~"])
def test_lua_methods_reach_the_handler(method: str, way: Way) -> None:
    """Upstream answered 405 to PATCH. Methods are tokens, told apart by case (RFC 9110, section 9.1)."""
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, get("Content-Length: 3", first=f"{method} /first HTTP/1.1", body="abc"))
        assert peer.response().body == b"abc"
        peer.silent()
    assert seen.requests == [f"{method} /first"]


@every_way
@pytest.mark.parametrize("first", ["TRACE /first HTTP/1.1", "CONNECT x:80 HTTP/1.1", "CONNECT [::1]:80 HTTP/1.1"])
def test_lua_trace_and_connect_are_not_implemented(first: str, way: Way, logs: Any) -> None:
    """501. The answer doesn't show the request (cross-site tracing), and what follows CONNECT is not a request."""
    logs.allow(HTTP_LOG)
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver(peer, get("Cookie: secret", "Authorization: Basic secret", first=first) + SMUGGLED)
        response = peer.response()
        assert response.status == 501
        assert b"secret" not in response.body
        assert not any("secret" in line for line in response.lines)
        if first.startswith("CONNECT"):
            peer.eof()
    assert seen.requests in ([], ["GET /smuggled"] if first.startswith("TRACE") else [])
    assert not any("secret" in line for line in logs.lines)


@every_way
@pytest.mark.parametrize("target", ["/", "*", "x", "x:", "x:0", "x:99999", "http://x/", "user@x:80", "x:80/", ":80", "x:+80"])
def test_connect_with_a_bad_target(target: str, way: Way, logs: Any) -> None:
    """An authority alone is its target (RFC 9112, section 3.2.3)."""
    logs.allow(HTTP_LOG)
    assert http_refused(way, get(first=f"CONNECT {target} HTTP/1.1")).status in (400, 501)


@every_way
def test_options_star(way: Way) -> None:
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, get(first="OPTIONS * HTTP/1.1"))
        assert peer.response().status == 200
    assert seen.requests == ["OPTIONS *"]


# ---- HTTP/1.0 -------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("fields", [[], ["Connection: close"], ["Connection: keep-alive, close"], ["Connection: upgrade"]])
def test_http_1_0_is_the_last_request(fields: list[str], way: Way) -> None:
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver(peer, get(*fields, first="GET /first HTTP/1.0") + SMUGGLED)
        response = peer.response()
        assert response.status == 200
        assert response.header["connection"] == "close"
        peer.eof()
    assert seen.requests == ["GET /first"]


@every_way
def test_http_1_0_keep_alive(way: Way) -> None:
    """By length it may go on; the answer says so."""
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        for _ in range(2):
            way.deliver_all(peer, get("Connection: Keep-Alive", "Content-Length: 3", first="POST /first HTTP/1.0", body="abc"))
            response = peer.response()
            assert response.body == b"abc"
            assert response.header["connection"] == "keep-alive"
        peer.silent()
    assert len(seen.requests) == 2


@every_way
def test_http_1_0_post_without_a_length_has_no_body(way: Way, logs: Any) -> None:
    """Bytes until the end are no body of a request (RFC 9112, section 6.3)."""
    logs.allow(HTTP_LOG)
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver(peer, get(first="POST /first HTTP/1.0") + SMUGGLED)
        response = peer.response()
        assert response.status in (200, 411)
        assert response.body in (b"", b"Length Required\n")
        peer.eof()
    assert seen.requests in ([], ["POST /first"])


@every_way
@pytest.mark.parametrize("keep", [False, True])
def test_http_1_0_is_never_answered_in_chunks(keep: bool, way: Way) -> None:
    """A response without a length ends with the connection, whatever was asked for."""

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("ab")
        stream.flush()
        stream.close("cd")

    with way.serving(handler) as server, way.dial(server) as peer:
        way.deliver(peer, get(*(["Connection: keep-alive"] if keep else []), first="GET /first HTTP/1.0") + SMUGGLED)
        head, _, body = peer.rest().partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"abcd"


# ---- heads that don't end -------------------------------------------------------------------------------------------

PARTS = ["G", "GET /first HT", "GET /first HTTP/1.1\r", "GET /first HTTP/1.1\r\n", "GET /first HTTP/1.1\r\nHost: x\r\n", "\r\n"]


@both_transports
@pytest.mark.parametrize("end", ["fin", "close", "reset"])
@pytest.mark.parametrize("part", PARTS)
def test_head_cut_short(part: str, end: str, way: Way, logs: Any) -> None:
    """Half a request is none."""
    logs.allow("INFO (http|tls): ")
    seen = Seen()
    with way.serving(seen) as server:
        peer = way.dial(server)
        peer.send(part)
        turn(2)
        {"fin": lambda: fin_without_close_notify(peer), "close": peer.conn.close, "reset": peer.reset}[end]()
        until(lambda: not server._connections)
        peer.close()
    assert seen.requests == []


@both_transports
@pytest.mark.parametrize("part", PARTS)
def test_head_that_stalls(part: str, way: Way, logs: Any) -> None:
    """408, or an end without a word where not a byte of it has come but an empty line."""
    logs.allow(HTTP_LOG)
    seen = Seen()
    with way.serving(seen, {"head_timeout": 20, "idle_timeout": 20}) as server, way.dial(server) as peer:
        peer.send(part)
        got = peer.rest()
        assert got.startswith(b"HTTP/1.1 408 ") or (part == "\r\n" and not got)
    assert seen.requests == []


@both_transports
def test_head_byte_by_byte_is_bounded_in_time(way: Way, logs: Any) -> None:
    """Slowloris: each byte buys no time."""
    logs.expect(HTTP_LOG)
    with way.serving(Seen(), {"head_timeout": 30}) as server, way.dial(server) as peer:
        peer.send("GET /first HTTP/1.1\r\nX: ")
        while not peer.conn.unreadbytes() and peer.conn.write("y"):
            peer.conn._stream.flush()
            turn()
        assert peer.response().status in (408, 431)


# ---- TLS ------------------------------------------------------------------------------------------------------------

ON_TLS: dict[str, bytes] = {
    "get": get(),
    "post": post("Content-Length: 35", body=SMUGGLED),
    "http-1.0": get(first="GET /first HTTP/1.0"),
    "options": get(first="OPTIONS * HTTP/1.1"),
    "http2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "proxy-v1": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
    "proxy-v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x1f\x90\x01\xbb",
    "alert": bytes.fromhex("15030100020228"),
    "record-too-long": b"\x16\x03\x01\xff\xff" + b"x" * 100,
    "hello-too-long": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"x" * 16380,
    "hello-of-ssl-3": bytes.fromhex("160300002d010000290300") + b"\x11" * 39,
    "hello-of-ssl-2": bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0"),
    "nul": b"\0" * 100,
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
}
HTTP_ON_TLS = ("get", "post", "http-1.0", "options")


@pytest.mark.parametrize("dribbled", [False, True], ids=["whole", "dribbled"])
@pytest.mark.parametrize("row", ON_TLS)
def test_other_bytes_on_a_tls_port(row: str, dribbled: bool, logs: Any) -> None:
    """No handler runs, the connection ends, and others are served. Plain HTTP gets a 400 that it can read."""
    logs.expect("INFO tls: 127.0.0.1:")
    seen = Seen()
    with TLS.serving(seen) as server:
        with TCP.dial(server) as peer:
            (peer.dribble if dribbled else peer.send)(ON_TLS[row])
            if row in HTTP_ON_TLS:
                response = peer.response()
                assert response.status == 400
                assert response.header["connection"] == "close"
                assert b"TLS" in response.body or b"HTTPS" in response.body
                peer.eof()
            else:
                ended(peer)
        with TLS.dial(server) as peer:
            peer.send(get())
            assert peer.response().status == 200
    assert seen.requests == ["GET /first"]
    assert len(logs.lines) == 1
    assert logs.lines[0].isprintable()


def client_hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("dribbled", [False, True], ids=["whole", "dribbled"])
def test_tls_on_a_plain_port(dribbled: bool, logs: Any) -> None:
    logs.expect(HTTP_LOG)
    assert http_refused(Way(False, dribbled), client_hello()).status == 400


def test_https_client_of_a_plain_port(logs: Any) -> None:
    logs.expect(HTTP_LOG)
    logs.allow("INFO tls.connect ")
    seen = Seen()
    with TCP.serving(seen) as server:
        conn, err = tls.connect(server.addr, ca=certificates()[0], timeout=5000)
        assert conn is None
        assert isinstance(err, str)
    assert seen.requests == []


@pytest.mark.parametrize("size", [0, 1, 5, 100, 200])
def test_tls_hello_cut_short(size: int, logs: Any) -> None:
    """A handshake that ends or stalls: nothing of it is left."""
    logs.allow("INFO tls: ")
    hello = client_hello()[:size]
    seen = Seen()
    with TLS.serving(seen, {"handshake_timeout": 30}) as server:
        for end in ("close", "reset", "stall"):
            with TCP.dial(server) as peer:
                if hello:
                    peer.send(hello)
                turn(2)
                if end == "stall":
                    ended(peer)
                else:
                    getattr(peer, end)()
        with TLS.dial(server) as peer:
            peer.send(get())
            assert peer.response().status == 200
    assert seen.requests == ["GET /first"]


@pytest.mark.parametrize("protocols", [["h2"], ["h2", "http/1.1"], ["spdy/1"], []])
def test_alpn_never_chooses_an_unknown_protocol(protocols: list[str], logs: Any) -> None:
    """HTTP/2 isn't agreed upon, so that no HTTP/2 comes."""
    logs.allow("INFO tls")
    with TLS.serving(Seen()) as server:
        options = {"alpnprotos": protocols} if protocols else {}
        conn, err = tls.connect(f"127.0.0.1:{server.port}", ca=certificates()[0], **options)
        if conn is None:
            assert isinstance(err, str)  # refused, as RFC 7301 wants where nothing is in common
            return
        with Raw(conn) as peer:
            assert conn.alpnproto() in (None, "http/1.1")
            peer.send(get())
            assert peer.response().status == 200


@pytest.mark.parametrize("at", ["between", "head", "body"])
def test_close_notify_missing(at: str, logs: Any) -> None:
    """A FIN without it, told from an ordered end where something is cut; what was asked before is answered."""
    logs.allow("INFO (http|tls): ")
    seen = Seen()
    with TLS.serving(seen) as server:
        peer = TLS.dial(server)
        peer.send(get() + {"between": b"", "head": b"GET /se", "body": post("Content-Length: 10", body="abc")}[at])
        assert peer.response().status == 200
        fin_without_close_notify(peer)
        until(lambda: not server._connections)
        peer.close()
    assert seen.requests == ["GET /first", *(["POST /first"] if at == "body" else [])]
    assert all(body is None for body, _ in seen.bodies[1:])


def test_garbage_within_a_tls_connection(logs: Any) -> None:
    """Plain bytes behind the handshake break the connection, not the server."""
    logs.allow("INFO (http|tls): ")
    seen = Seen()
    with TLS.serving(seen) as server:
        peer = TLS.dial(server)
        peer.send(get())
        assert peer.response().status == 200
        raw: socket.socket = peer.conn._stream.sock
        raw.send(SMUGGLED * 1000)
        until(lambda: not server._connections)
        peer.close()
    assert seen.requests == ["GET /first"]


# ---- connects that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("addr", ["255.255.255.255:1", "127.0.0.1:1", "[::1]:1"])
def test_lua_failed_connects_leave_nothing(addr: str, logs: Any) -> None:
    """Unreachable or refused: upstream leaked a descriptor each. The fixture counts."""
    logs.allow("INFO ")
    for _ in range(10):
        for connect in (tcp.connect, tls.connect, lambda addr: websocket.connect(f"ws://{addr}/", timeout=2000)):
            conn, err = connect(addr)
            assert conn is None
            assert isinstance(err, str)


def test_lua_failed_listens_leave_nothing(logs: Any) -> None:
    logs.expect("http.listen|tcp.listen|listen")
    with TCP.serving(Seen()) as server:
        for _ in range(10):
            assert http.listen(server.addr, Seen())[0] is None


# ---- python -O ------------------------------------------------------------------------------------------------------

PROGRAM = """
import silly
from silly.net import http

assert False, "asserts are on"

def handler(stream):
    body, err = stream.readall()
    if err is None:
        stream.respond(200)
        stream.close(body)

server, err = http.listen("127.0.0.1:0", handler, limits=silly.Limits(body_timeout=200))
print(server.port, flush=True)
silly.run()
"""
MALFORMED = {
    "multipart-without-end": post("Content-Type: multipart/form-data; boundary=x", "Content-Length: 5", body="--x\r\n"),
    "bad-size": chunked("zz\r\nabc\r\n0\r\n\r\n"),
    "bad-end": chunked("5\r\nabcdeXX0\r\n\r\n"),
    "bad-trailer": chunked("5\r\nabcde\r\n0\r\nGET / HTTP/1.1\r\n\r\n"),
    "cl-and-te": post("Content-Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
    "bad-length": post("Content-Length: +5", body="abcde"),
    "bad-line": b"POST\r\n\r\n",
    "nul": b"\0\r\n\r\n",
    "short": post("Content-Length: 50", body="abc"),
}


def test_cve_2025_69227_malformed_posts_without_asserts() -> None:
    """An assert that did control flow made ``python -O`` loop for ever. A process has one loop: it answers the next client."""
    with Child("-O", "-c", PROGRAM) as child:
        port = int(child.line())

        def dial() -> Raw:
            conn, err = tcp.connect(f"127.0.0.1:{port}")
            assert err is None
            return Raw(conn)

        for data in MALFORMED.values():
            with dial() as peer:
                peer.send(data)
                assert peer.response().status in (400, 408, 200)
            with dial() as peer:
                peer.send(post("Content-Length: 2", body="ok"))
                assert peer.response().body == b"ok"
        assert child.stop() == 0
        assert "Traceback" not in child.errors()
