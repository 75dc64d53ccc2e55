"""What the opening handshake can be asked for: subprotocols, Origin, fields of the 101, credentials, compression, refusals."""

from __future__ import annotations

import base64
import copy
import pickle
import pydoc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import silly
from silly import time
from silly._wire.header import Header
from silly.net import websocket
from silly.net.websocket import Deflate, HandshakeError
from silly.sync import channel
from tests.helpers import FIN, TEXT, WITHIN, Peer, ServerPeer, joined, raw_server, serving, spawn, switching, turn


@contextmanager
def upgrading(**options: Any) -> Iterator[tuple[Any, Any]]:
    """A server that upgrades with ``options`` and echoes; and a channel of what ``upgrade`` returned."""
    results = channel.new()

    def handler(stream: Any) -> None:
        sock, err = websocket.upgrade(stream, **options)
        results.push((sock, err))
        while sock is not None:
            data, typ = sock.read(WITHIN)
            if data is None or typ == "close":
                break
            sock.write(data, typ)

    with serving(handler) as server:
        yield server, results


def asked(server: Any, *fields: str) -> Any:
    """The response to an upgrade request with these fields."""
    with Peer.connect(server) as peer:
        peer.send(peer.upgrade_request(*fields))
        response = peer.response()
        if response.status == 101:
            peer.put_close()
            peer.get_close()
            peer.eof()
        return response


# ---- subprotocols --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "subprotocols", "chosen"),
    [
        (["a, b"], ["b", "a"], "b"),
        (["a", "b"], ["b", "a"], "b"),
        (["a, b"], ["c", "a"], "a"),
        (["a, b"], ["c"], None),
        (["a, b"], [], None),
        (["a, b"], None, None),
        ([], ["a"], None),
        (["chat2, superchat, Chat"], ["chat"], None),
        ([", a,, "], ["a"], "a"),
        (["a, b"], lambda offered: offered[-1], "b"),
        (["a, b"], lambda offered: None, None),
        ([], lambda offered: offered[0] if offered else None, None),
    ],
)
def test_subprotocol_of_a_server(offered: list[str], subprotocols: Any, chosen: str | None) -> None:
    with upgrading(subprotocols=subprotocols) as (server, results):
        response = asked(server, *[f"Sec-WebSocket-Protocol: {line}" for line in offered])
        assert response.status == 101
        assert response.header.get("sec-websocket-protocol") == chosen
        (sock, err), _ = results.pop()
        assert (sock.subprotocol, err) == (chosen, None)


@pytest.mark.parametrize("bad", ["a b", "a/b", 'chat"', "a;b", "(x)", "é"])
def test_a_subprotocol_that_is_not_a_token(bad: str, logs: Any) -> None:
    logs.expect("upgrade refused: bad Sec-WebSocket-Protocol")
    with upgrading(subprotocols=["a"]) as (server, results):
        assert asked(server, f"Sec-WebSocket-Protocol: a, hidden{bad}").status == 400
        assert results.pop()[0][0] is None
    assert "hidden" not in "".join(logs.lines)  # pages put the tokens of their users there


@pytest.mark.parametrize(
    ("subprotocols", "error"),
    [
        ("chat", TypeError),
        ([1], TypeError),
        (["a b"], ValueError),
        ([""], ValueError),
        (["a", "a"], ValueError),
        (7, TypeError),
    ],
)
def test_bad_subprotocols(subprotocols: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        websocket.connect("ws://127.0.0.1:1", subprotocols=subprotocols)
    raised = channel.new()

    def handler(stream: Any) -> None:
        with pytest.raises(error):
            websocket.upgrade(stream, subprotocols=subprotocols)
        stream.respond(204)
        stream.close()
        raised.push(True)

    with serving(handler) as server:
        assert asked(server).status == 204
        assert raised.pop() == (True, None)


def test_a_function_that_chooses_what_was_not_offered(logs: Any) -> None:
    logs.expect("ValueError: subprotocols.. chose 'c'")
    with upgrading(subprotocols=lambda offered: "c") as (server, _):
        assert asked(server, "Sec-WebSocket-Protocol: a").status == 500


@pytest.mark.parametrize(("subprotocols", "chosen"), [(["x", "b"], "b"), (["a", "b"], "a"), (["x"], None), ((), None)])
def test_subprotocol_of_a_client(subprotocols: Any, chosen: str | None) -> None:
    with upgrading(subprotocols=["a", "b"]) as (server, results):
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}", subprotocols=subprotocols)
        assert err is None
        assert sock.subprotocol == chosen
        assert results.pop()[0][0].subprotocol == chosen
        sock.close()


def test_subprotocols_in_the_header_and_as_an_argument() -> None:
    with upgrading(subprotocols=["b"]) as (server, _):
        url = f"ws://127.0.0.1:{server.port}"
        sock, err = websocket.connect(url, {"sec-websocket-protocol": "a, b"})
        assert err is None
        assert sock.subprotocol == "b"
        sock.close()
        with pytest.raises(ValueError, match="given twice"):
            websocket.connect(url, {"sec-websocket-protocol": "a"}, subprotocols=["b"])


# ---- Origin --------------------------------------------------------------------------

PAGES = ["https://example.com", "http://localhost:3000"]
ORIGINS = [
    # origins, the request's Origin, accepted
    (None, None, True),
    (None, "http://test", True),
    (None, "http://other", False),
    (PAGES, None, True),
    (PAGES, "https://example.com", True),
    (PAGES, "HTTPS://EXAMPLE.com:443", True),
    (PAGES, "http://localhost:3000", True),
    (PAGES, "http://example.com", False),
    (PAGES, "https://example.com.evil", False),
    (PAGES, "https://sub.example.com", False),
    (PAGES, "http://localhost", False),
    (PAGES, "http://test", False),
    (PAGES, "null", False),
    (["null"], "null", True),
    ([], "http://test", False),
    (re.compile(r"https://([a-z]+\.)?example\.com"), "https://a.example.com", True),
    (re.compile(r"https://([a-z]+\.)?example\.com"), "https://a.example.com.evil", False),
    (re.compile(r"https://([a-z]+\.)?example\.com"), "https://a.b.example.com", False),
    (False, "http://evil", True),
    (False, "null", True),
]


@pytest.mark.parametrize(("origins", "origin", "accepted"), ORIGINS)
def test_origins(origins: Any, origin: str | None, accepted: bool, logs: Any) -> None:
    if not accepted:
        logs.expect("upgrade refused: Origin")
    with upgrading(origins=origins) as (server, results):
        fields = [f"Origin: {origin}"] if origin else []
        assert asked(server, *fields).status == (101 if accepted else 403)
        assert (results.pop()[0][0] is not None) is accepted


@pytest.mark.parametrize(
    ("origins", "error"),
    [
        ("https://a", TypeError),
        (True, TypeError),
        ([1], TypeError),
        (["example.com"], ValueError),
        (["https://a/"], ValueError),
    ],
)
def test_bad_origins(origins: Any, error: type[Exception], logs: Any) -> None:
    logs.expect(error.__name__)
    with upgrading(origins=origins) as (server, _):
        assert asked(server).status == 500


# ---- the answer ----------------------------------------------------------------------


def test_fields_of_the_101() -> None:
    with upgrading(header={"Set-Cookie": ["a=1", "b=2; HttpOnly"], "X-Served-By": "silly", "x-n": 7}) as (server, _):
        response = asked(server)
        assert response.status == 101
        assert [line for line in response.lines if line.startswith("set-cookie")] == [
            "set-cookie: a=1",
            "set-cookie: b=2; HttpOnly",
        ]
        assert response.header["x-served-by"] == "silly"
        assert response.header["x-n"] == "7"
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}")
        assert err is None
        assert sock.stream.header.getall("set-cookie") == ["a=1", "b=2; HttpOnly"]
        sock.close()


def test_the_cookies_of_a_handshake() -> None:
    """RFC 9113, section 8.2.3: a proxy may pass each on in a line of its own."""
    seen = []

    def handler(stream: Any) -> None:
        seen.append(stream.header["cookie"])
        websocket.upgrade(stream)

    with serving(handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request("Cookie: a=1", "Cookie: b=2"))
        assert peer.response().status == 101
    assert seen == ["a=1; b=2"]


OWN = ["upgrade", "Connection", "sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions", "content-length"]


@pytest.mark.parametrize("name", [*OWN, "transfer-encoding", "Sec-WebSocket-Key", "sec-websocket-version"])
def test_fields_that_only_the_handshake_sets(name: str, logs: Any) -> None:
    logs.expect(f"ValueError: the answer to a WebSocket handshake can't have the header '{name.lower()}'")
    with upgrading(header={name: "1"}) as (server, _):
        assert asked(server).status == 500


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Sec-WebSocket-Extensions"])
def test_fields_that_a_client_may_not_send(name: str) -> None:
    """The error comes before anything is sent; there is no server here."""
    with pytest.raises(ValueError, match=f"a WebSocket handshake can't have the header '{name.lower()}'"):
        websocket.connect("ws://127.0.0.1:1/", {name: "1"})


def test_the_request_is_seen_on_the_socket() -> None:
    with upgrading() as (server, results):
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}/chat/1?room=a%20b", {"cookie": "id=7"})
        assert err is None
        (other, _), _ = results.pop()
        assert (other.stream.method, other.stream.path, other.stream.query["room"]) == ("GET", "/chat/1", "a b")
        assert other.stream.header["cookie"] == "id=7"
        assert (sock.stream.query["room"], sock.stream.query["other"]) == ("a b", None)
        sock.close()


@pytest.mark.parametrize("dribbled", [False, True])
def test_a_handler_refuses_with_any_answer(dribbled: bool) -> None:
    """Any status, header and body; our client's error has all of them."""

    def handler(stream: Any) -> None:
        stream.respond(401, {"www-authenticate": 'Basic realm="x"', "x-why": ["a", "b"]})
        if dribbled:
            for char in "who are you?":
                stream.write(char)
                stream.flush()
                time.sleep(0)
        stream.close("" if dribbled else "who are you?")

    with serving(handler) as server:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}/x")
        assert sock is None
        assert isinstance(err, HandshakeError)
        assert err == f"websocket.connect ws://127.0.0.1:{server.port}/x: the server answered 401 Unauthorized"
        assert (err.status, err.body) == (401, b"who are you?")
        assert err.header["www-authenticate"] == 'Basic realm="x"'
        assert err.header.getall("x-why") == ["a", "b"]
        with pytest.raises(silly.Error) as raised:
            silly.check((sock, err))
        assert raised.value.args[0].status == 401


def test_help_of_a_handshake_error_shows_its_own_members() -> None:
    text = pydoc.render_doc(HandshakeError, renderer=pydoc.plaintext)
    assert len(text.splitlines()) < 40
    for name in ("status", "header", "body"):
        assert f" |  {name}\n" in text
    assert "casefold" not in text
    assert "casefold" in dir(HandshakeError("refused", 401, Header(), b""))


def test_a_handshake_error_can_be_copied_and_pickled() -> None:
    err = HandshakeError("refused", 401, Header([("X-Why", "a"), ("x-why", "b")]), b"who?")
    for other in (copy.copy(err), copy.deepcopy(err), *[pickle.loads(pickle.dumps(err, each)) for each in (2, 5)]):
        assert (type(other), other, other.status, other.body) == (HandshakeError, "refused", 401, b"who?")
        assert other.header.getall("X-Why") == ["a", "b"]


REFUSALS = {
    # name: the answer after the status line, the body that the error has
    "none": ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", b""),
    "length": ("HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nhello and more", b"hello"),
    "chunked": ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
    "loosely chunked": ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", b"abc"),
    "until the end": ("HTTP/1.1 200 OK\r\n\r\nall of it", b"all of it"),
    "too long": ("HTTP/1.1 404 No\r\nContent-Length: 100000\r\n\r\n" + "x" * 100_000, b"x" * 4096),
    "too long, chunked": ("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n186A0\r\n" + "x" * 100_000, b"x" * 4096),
    "cut": ("HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nabc", b"abc"),
    "bad chunks": ("HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", b"abc"),
    "bad length": ("HTTP/1.1 500 No\r\nContent-Length: x\r\n\r\nabc", b""),
    "no body by its status": ("HTTP/1.1 204 No\r\n\r\nabc", b""),
}


@pytest.mark.parametrize(
    ("row", "dribbled"), [(row, dribbled) for row in REFUSALS for dribbled in (False, True) if not (dribbled and "long" in row)]
)
def test_refusals(row: str, dribbled: bool) -> None:
    answer, body = REFUSALS[row]

    def script(conn: Any) -> None:
        with ServerPeer(conn) as peer:
            peer.read("\r\n\r\n")
            if dribbled:
                peer.dribble(answer)
            else:
                peer.send(answer)
            if peer.conn.isalive():  # our client may know enough
                peer.half_close()
                peer.conn.read(1, WITHIN)

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}")
        assert sock is None
        assert isinstance(err, HandshakeError)
        assert err.status == int(answer[9:12])
        assert err.body == body or ("bad" in row and body.startswith(err.body))


@pytest.mark.parametrize("interim", [16, 17])
def test_interim_responses(interim: int) -> None:
    """16 may precede the answer, as for every request."""

    def script(conn: Any) -> None:
        with ServerPeer(conn) as peer:
            peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * interim + switching(peer.read("\r\n\r\n").decode()))
            peer.conn.read(1, WITHIN)

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}/")
        if interim > 16:
            assert err == f"websocket.connect ws://127.0.0.1:{listener.port}/: more than 16 interim responses"
        else:
            assert sock is not None
            sock.conn.close()


def test_a_refusal_whose_body_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has what came, and comes soon."""
    monkeypatch.setattr(websocket._connect, "BODY_WAIT", 0.02)
    peers = channel.new()
    with raw_server(peers.push) as listener:
        limits = silly.Limits(handshake_timeout=60_000, body_timeout=60_000)
        asking = spawn(lambda: websocket.connect(f"ws://127.0.0.1:{listener.port}", limits=limits))
        with ServerPeer(peers.pop()[0]) as peer:
            peer.read("\r\n\r\n")
            peer.send("HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nwait")
            with time.deadline(WITHIN):
                sock, err = joined(asking)
            assert (sock, err.status, err.body) == (None, 403, b"wait")


def test_a_101_that_is_wrong_is_a_handshake_error() -> None:
    def script(conn: Any) -> None:
        with ServerPeer(conn) as peer:
            peer.read("\r\n\r\n")
            peer.send(switching("sec-websocket-key: wrong\r\n"))
            peer.conn.read(1, WITHIN)

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}")
        assert sock is None
        assert isinstance(err, HandshakeError)
        assert (err.status, err.header["upgrade"], err.body) == (101, "websocket", b"")
        assert "Sec-WebSocket-Accept" in err


# ---- credentials ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("userinfo", "user", "password"),
    [
        ("me:secret", "me", "secret"),
        ("me", "me", ""),
        ("a%40b:p%3A%2F%C3%A9", "a@b", "p:/é"),
        (":x", "", "x"),
        ("me:a:b", "me", "a:b"),
    ],
)
def test_user_and_password_of_the_url(userinfo: str, user: str, password: str) -> None:
    with upgrading() as (server, results):
        sock, err = websocket.connect(f"ws://{userinfo}@127.0.0.1:{server.port}/")
        assert err is None
        scheme, _, coded = results.pop()[0][0].stream.header["authorization"].partition(" ")
        assert scheme == "Basic"
        assert base64.b64decode(coded).decode() == f"{user}:{password}"
        sock.close()


def test_an_authorization_in_the_header_wins() -> None:
    with upgrading() as (server, results):
        sock, err = websocket.connect(f"ws://me:secret@127.0.0.1:{server.port}/", {"Authorization": "Bearer x"})
        assert err is None
        assert results.pop()[0][0].stream.header["authorization"] == "Bearer x"
        sock.close()


@pytest.mark.parametrize("url", ["ws://me:secret@127.0.0.1:1/a@b", "ws://me:secret@127.0.0.1:1?q=a@b", "http://me:secret@x"])
def test_errors_hide_the_password(url: str) -> None:
    sock, err = websocket.connect(url)
    assert sock is None
    assert "secret" not in err
    assert "a@b" in err or "http" in err


# ---- compression ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server_side", "client_side", "agreed"),
    [
        (True, True, (False, False, 12, 12)),
        (False, True, None),
        (True, False, None),
        (
            Deflate(server_max_window_bits=15, client_max_window_bits=15),
            Deflate(server_max_window_bits=15),
            (False, False, 15, 12),
        ),
        ({"server_no_context_takeover": True}, True, (True, False, 12, 12)),
        ({"client_max_window_bits": 9}, {"server_max_window_bits": 10}, (False, False, 10, 9)),
        (True, {"server_no_context_takeover": True, "client_no_context_takeover": True}, (True, True, 12, 12)),
        ({"server_max_window_bits": 8}, {"client_max_window_bits": 8}, (False, False, 8, 8)),
    ],
)
def test_compression_between_us(server_side: Any, client_side: Any, agreed: tuple[bool, bool, int, int] | None) -> None:
    with upgrading(compression=server_side) as (server, results):
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}", compression=client_side)
        assert err is None
        (other, _), _ = results.pop()
        for end in (sock, other):
            got = end.compression
            flags = None if got is None else (got.server_no_context_takeover, got.client_no_context_takeover)
            bits = None if got is None else (got.server_max_window_bits, got.client_max_window_bits)
            if agreed is None or flags is None or bits is None:
                assert flags is agreed is None
            else:
                # A client that uses less than it may need not say so.
                assert flags + bits == agreed or (end is other and flags + bits[:1] == agreed[:3] and bits[1] > agreed[3])
        for compress in (None, True, False):
            for message in ("", "x", "hello " * 100, "hello " * 50_000, b"\0\1\2\3" * 70):
                typ = "text" if isinstance(message, str) else "binary"
                assert sock.write(message, typ, compress=compress) == (True, None)
                assert sock.read(WITHIN) == (message, typ)
        sock.close()


@pytest.mark.parametrize(
    ("compression", "error"),
    [
        ("yes", TypeError),
        (1, TypeError),
        ({"window": 9}, TypeError),
        ({"level": 10}, ValueError),
        ({"threshold": -1}, ValueError),
    ],
)
def test_bad_compression(compression: Any, error: type[Exception], logs: Any) -> None:
    with pytest.raises(error):
        websocket.connect("ws://127.0.0.1:1", compression=compression)
    logs.expect(error.__name__)
    with upgrading(compression=compression) as (server, _):
        assert asked(server).status == 500


def test_threshold_or_argument_decides_whether_to_compress() -> None:
    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream, compression={"threshold": 100})
        for size, compress in ((99, None), (100, None), (1, True), (1000, False)):
            sock.write("x" * size, "text", compress=compress)
        sock.close()

    with serving(handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
        response = peer.response()
        assert response.header["sec-websocket-extensions"].startswith("permessage-deflate")
        firsts = [peer.get() for _ in range(4)]
        assert [first for first, _ in firsts] == [FIN | TEXT, FIN | 0x40 | TEXT, FIN | 0x40 | TEXT, FIN | TEXT]
        assert [len(payload) < 50 for _, payload in firsts] == [False, True, True, False]
        assert peer.get_close() == (1000, "")
        peer.put_close()
        peer.eof()


# ---- arguments -----------------------------------------------------------------------


def test_limits_of_another_type(logs: Any) -> None:
    options: Any = {"limits": {"message": 1}}
    with pytest.raises(TypeError, match=r"silly\.Limits"):
        websocket.connect("ws://127.0.0.1:1", **options)
    logs.expect("TypeError: limits is a silly.Limits")
    with upgrading(**options) as (server, _):
        assert asked(server).status == 500


def test_limits_of_an_upgrade_hold_for_its_stream() -> None:
    limits = silly.Limits(receive_mark=1000, unsent=5000, message=10)
    with upgrading(limits=limits) as (server, results), Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        (sock, _), _ = results.pop()
        assert (sock.conn._stream.limits, sock.conn._stream.mark) == (limits, 1000)
        peer.put_close()
        peer.get_close()
        peer.eof()
    turn()
