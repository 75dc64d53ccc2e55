"""What a server may answer to our client's upgrade request: all but the right answer fails the handshake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import silly
from silly.net import websocket

from ..helpers import BINARY, CLOSE, FIN, PONG, ServerPeer, turn
from ..net import authorities
from .support import (
    KIB,
    MIB,
    SHORT,
    TCP,
    TLS,
    Memory,
    Way,
    answer,
    both_transports,
    connecting,
    every_way,
    read,
)

Reply = Callable[[str], bytes]
FRAME = b"\x81\x05hello"


def plain(status: str, body: bytes = b"", *fields: str) -> Reply:
    """An answer of ``status``, with ``body`` framed by a length unless ``fields`` frame it."""
    framed = any(field.lower().startswith(("content-length", "transfer-encoding")) for field in fields)
    lines = [f"HTTP/1.1 {status}", *fields, *([] if framed or not body else [f"Content-Length: {len(body)}"])]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return lambda _: head + body


def changed(
    *fields: str, without: tuple[str, ...] = (), first: str = "HTTP/1.1 101 Switching Protocols", body: bytes = b""
) -> Reply:
    return lambda head: answer(head, *fields, without=without, first=first) + body


# ---- a 101 that is none ---------------------------------------------------------------------------------------------

REFUSED: dict[str, Reply] = {
    "lua-accept-missing": changed(without=("Sec-WebSocket-Accept",)),
    "lua-accept-wrong": changed("Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    "accept-empty": changed("Sec-WebSocket-Accept: "),
    "accept-of-the-rfc": changed("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    "accept-in-lower-case": lambda head: lowered(answer(head)),
    "accept-cut": lambda head: answer(head)[:-7] + b"\r\n\r\n",
    "accept-twice": lambda head: doubled(answer(head)),
    "accept-quoted": lambda head: answer(head).replace(b"Accept: ", b'Accept: "').replace(b"\r\n\r\n", b'"\r\n\r\n'),
    "upgrade-missing": changed(without=("Upgrade",)),
    "upgrade-h2c": changed("Upgrade: h2c"),
    "upgrade-websockets": changed("Upgrade: websockets"),
    "connection-missing": changed(without=("Connection",)),
    "connection-keep-alive": changed("Connection: keep-alive"),
    "connection-notupgrade": changed("Connection: notupgrade"),
    "lua-unsolicited-protocol": changed("Sec-WebSocket-Protocol: chat"),
    "unsolicited-protocol-empty-token": changed('Sec-WebSocket-Protocol: ""'),
    "lua-unsolicited-extension": changed("Sec-WebSocket-Extensions: permessage-deflate"),
    "unsolicited-extension-other": changed("Sec-WebSocket-Extensions: x-webkit-deflate-frame"),
    "101-with-a-body": changed("Content-Length: 5", body=b"hello"),
    "101-with-a-chunked-body": changed("Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    "101-with-cl-and-te": changed("Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "101-in-http-1.0": changed(first="HTTP/1.0 101 Switching Protocols"),
    "101-in-http-1.2": changed(first="HTTP/1.2 101 Switching Protocols"),
    "101-in-http-2": changed(first="HTTP/2 101 Switching Protocols"),
    "status-1O1": changed(first="HTTP/1.1 1O1 Switching Protocols"),
    "status-0101": changed(first="HTTP/1.1 0101 Switching Protocols"),
    "status-101.0": changed(first="HTTP/1.1 101.0 Switching Protocols"),
    "status-+101": changed(first="HTTP/1.1 +101 Switching Protocols"),
    "status-unicode-digits": lambda head: answer(head).replace(b" 101 ", "\u0661\u0660\u0661".encode().join([b" ", b" "])),
    "status-99": changed(first="HTTP/1.1 99 X"),
    "status-1000": changed(first="HTTP/1.1 1000 X"),
    "no-status": changed(first="HTTP/1.1"),
    "lower-case-http": changed(first="http/1.1 101 Switching Protocols"),
    "bare-lf": lambda head: answer(head).replace(b"\r\n", b"\n") + b"\r\n\r\n",
    "bare-cr": changed("X: a\rb"),
    "nul": changed("X: a\0b"),
    **{
        f"obs-fold-{name}": lambda head, name=name: answer(head).replace(f"{name}: ".encode(), f"{name}:\r\n ".encode())
        for name in ("Upgrade", "Connection", "Sec-WebSocket-Accept")
    },
    "obs-fold-behind-the-upgrade": lambda head: answer(head).replace(b"websocket\r\n", b"websocket\r\n \r\n"),
    "obs-fold-of-a-websocket-field": changed("Sec-WebSocket-Foo: x\r\n y"),
    "obs-fold-hides-the-accept": lambda head: answer(head).replace(b"Sec-WebSocket-Accept", b"X: y\r\n Sec-WebSocket-Accept"),
    "obs-fold-first": lambda head: answer(head).replace(b"\r\n", b"\r\n ", 1),
    "space-before-colon": lambda head: answer(head).replace(b"Upgrade:", b"Upgrade :"),
    "no-colon": changed("Nonsense"),
    "reason-with-control": changed(first="HTTP/1.1 101 Switch\x1bing"),
    "CVE-2024-37890-129-lines": changed(*[f"X-{i}: y" for i in range(126)]),
    "line-past-the-limit": changed("X: " + "y" * 8192),
    "http2-settings": lambda _: b"\0\0\x12\x04\0\0\0\0\0" + b"\0" * 18,
    "tls-hello": lambda _: bytes.fromhex("160301007a010000760303") + b"\x11" * 120,
    "tls-alert": lambda _: bytes.fromhex("15030300020228"),
    "proxy-v2": lambda head: b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\x01" * 12 + answer(head),
    "socks": lambda head: b"\x05\0" + answer(head),
    "frame": lambda _: FRAME,
    "ssh": lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "empty-lines": lambda _: b"\r\n" * 40_000,
    "nothing": lambda _: b"",
    "half-a-head": lambda head: answer(head)[:60],
    "all-but-the-last-byte": lambda head: answer(head)[:-1],
    "100-then-the-end": lambda _: b"HTTP/1.1 100 Continue\r\n\r\n",
    "100-for-ever": lambda _: b"HTTP/1.1 100 Continue\r\n\r\n" * 200,
    "103-for-ever": lambda _: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 200,
}


def lowered(data: bytes) -> bytes:
    """The answer with its Accept in lower case; never the right one, which has an upper-case letter but for 1 in 10^11."""
    head, _, rest = data.partition(b"Sec-WebSocket-Accept: ")
    return head + b"Sec-WebSocket-Accept: " + rest.lower()


def doubled(data: bytes) -> bytes:
    at = data.index(b"Sec-WebSocket-Accept")
    return data[:-2] + data[at:]


@every_way
@pytest.mark.parametrize("row", REFUSED)
def test_refused(row: str, way: Way) -> None:
    """An error that names the operation and the server, and no frame behind it is looked at."""
    reply = REFUSED[row]
    if row == "empty-lines" and way.dribbled:
        reply = lambda _: b"\r\n" * 20  # noqa: E731
    sock, err, _ = connecting(way, lambda head: reply(head) + (FRAME if b"\r\n\r\n" in reply(head)[-4:] else b""))
    assert sock is None
    assert isinstance(err, str)
    assert err.startswith("websocket.connect ws")
    assert "127.0.0.1" in err


@every_way
@pytest.mark.parametrize("row", ["all", "last-line", "interim", "by-cr"])
def test_an_answer_by_bare_lf_is_refused_at_once(row: str, way: Way) -> None:
    """At the byte that proves it: the server keeps TCP open, and no time-out is near."""
    replies: dict[str, Reply] = {
        "all": lambda head: answer(head).replace(b"\r\n", b"\n"),
        "last-line": lambda head: answer(head)[:-2] + b"\n",
        "interim": lambda _: b"HTTP/1.1 100 Continue\n\n",
        "by-cr": lambda head: answer(head).replace(b"\r\n", b"\r"),
    }
    sock, err, _ = connecting(way, replies[row], stays=True, limits=silly.Limits(handshake_timeout=10**6))
    assert sock is None
    assert "bare LF" in err


ACCEPTED: dict[str, Reply] = {
    "picows-64-reason-null": changed(first="HTTP/1.1 101 null"),
    "reason-empty": changed(first="HTTP/1.1 101 "),
    "reason-missing": changed(first="HTTP/1.1 101"),
    "reason-latin-1": changed(first="HTTP/1.1 101 Gut gemacht \xfc"),
    "upgrade-WebSocket": changed("Upgrade: WebSocket"),
    "connection-with-others": changed("Connection: keep-alive, UPGRADE"),
    "connection-over-lines": changed("Connection: keep-alive", "Connection: upgrade"),
    "content-length-0": changed("Content-Length: 0"),
    "fields-in-lower-case": lambda head: answer(head)
    .replace(b"Sec-WebSocket-Accept", b"sec-websocket-accept")
    .replace(b"Upgrade: ", b"upgrade:"),
    "100-before": lambda head: b"HTTP/1.1 100 Continue\r\n\r\n" + answer(head),
    "103-before": lambda head: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(head),
    "128-lines": changed(*[f"X-{i}: y" for i in range(125)]),
}


@every_way
@pytest.mark.parametrize("row", ACCEPTED)
def test_accepted(row: str, way: Way) -> None:
    """With frames glued to the 101: the server speaks first."""
    glued = FRAME + b"\x89\x01p"
    done = []

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        way.deliver_all(peer, ACCEPTED[row](peer.read("\r\n\r\n").decode()) + glued)
        assert peer.get() == (FIN | PONG, b"p")
        assert peer.get_close() == (1000, "")
        peer.put_close()
        peer.close()
        done.append(True)

    with way.raw_server(script) as listener:
        sock, err = way.connect(listener)
        assert err is None
        assert [read(sock), read(sock)] == [("hello", "text"), (b"p", "ping")]
        sock.close()
        assert sock.closecode == 1000
        turn(3)
    assert done


# ---- another status -------------------------------------------------------------------------------------------------

STATUSES = {
    "200": "200 OK",
    "204": "204 No Content",
    "302": "302 Found",
    "401": "401 Unauthorized",
    "403": "403 Forbidden",
    "426": "426 Upgrade Required",
    "503": "503 Service Unavailable",
}
BODIES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "no-body": (b"", ("Content-Length: 0",)),
    "no-framing": (b"", ()),
    "body": (b"go away", ("Content-Length: 7",)),
    "chunked": (b"7\r\ngo away\r\n0\r\n\r\n", ("Transfer-Encoding: chunked",)),
    "body-until-the-end": (b"go away", ("Connection: close", "X-Framing: Content-Length")),
}


@every_way
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", STATUSES)
def test_handshake_error(status: str, body: str, way: Way) -> None:
    """The error tells the status, the header and the start of the body; it is a str."""
    content, fields = BODIES[body]
    if status == "204" and content:
        content = b""
    head = "\r\n".join([f"HTTP/1.1 {STATUSES[status]}", "Retry-After: 7", *fields, "", ""]).encode()
    sock, err, heads = connecting(way, lambda _: head + content)
    assert sock is None
    assert isinstance(err, websocket.HandshakeError)
    assert isinstance(err, str)
    assert STATUSES[status] in err
    assert err.status == int(status)
    assert err.header["retry-after"] == "7"
    assert err.header["Retry-After"] == "7"
    assert err.body == (b"go away" if content else b"")
    assert len(heads) == 1


BROKEN_BODIES = {
    "CVE-2026-69244-chunk-size": (b"zz\r\nabc\r\n", ("Transfer-Encoding: chunked",)),
    "CVE-2026-69244-chunk-negative": (b"-1\r\nabc\r\n", ("Transfer-Encoding: chunked",)),
    "CVE-2026-69244-chunk-huge": (b"ffffffffffffffffff\r\nabc\r\n", ("Transfer-Encoding: chunked",)),
    "CVE-2026-69244-chunk-end": (b"3\r\nabcdef", ("Transfer-Encoding: chunked",)),
    "CVE-2026-69244-chunk-cut": (b"ff\r\nabc", ("Transfer-Encoding: chunked",)),
    "CVE-2026-69244-trailers": (b"0\r\nbad\r\n\r\n", ("Transfer-Encoding: chunked",)),
    "CVE-2026-69244-te-unknown": (b"abc", ("Transfer-Encoding: xchunked",)),
    "length-cut": (b"abc", ("Content-Length: 1000",)),
    "length-2^63": (b"abc", ("Content-Length: 9223372036854775808",)),
    "length-negative": (b"abc", ("Content-Length: -3",)),
    "length-twice": (b"abc", ("Content-Length: 3", "Content-Length: 4")),
    "length-and-te": (b"3\r\nabc\r\n0\r\n\r\n", ("Content-Length: 3", "Transfer-Encoding: chunked")),
    "gzip": (b"\x1f\x8b\x08abc", ("Content-Encoding: gzip", "Content-Length: 6")),
}


@every_way
@pytest.mark.parametrize("row", BROKEN_BODIES)
def test_body_that_breaks_its_framing(row: str, way: Way) -> None:
    """Still an error, which may include the part of the body that could be read."""
    content, fields = BROKEN_BODIES[row]
    head = "\r\n".join(["HTTP/1.1 503 Service Unavailable", *fields, "", ""]).encode()
    sock, err, _ = connecting(way, lambda _: head + content)
    assert sock is None
    assert isinstance(err, str)
    assert "503" in err or "ength" in err or "ransfer" in err or "coding" in err


@both_transports
@pytest.mark.parametrize("fields", [("Content-Length: 8388608",), ("Connection: close",), ("Transfer-Encoding: chunked",)])
def test_body_without_end(fields: tuple[str, ...], way: Way) -> None:
    """``body`` is the start alone: 8 MiB are not gathered."""
    body = (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 128 if "chunked" in fields[0] else b"x" * 8 * MIB
    head = "\r\n".join(["HTTP/1.1 401 Unauthorized", *fields, "", ""]).encode()
    found = []

    def script(conn: Any) -> None:
        ServerPeer(conn).read("\r\n\r\n")
        conn.write(head)
        for at in range(0, len(body), 64 * KIB):
            if not conn.write(body[at : at + 64 * KIB]):
                break
        conn.close()

    with way.raw_server(script) as listener, Memory() as memory:
        sock, err = way.connect(listener)
        found.append((sock, err.status, len(err.body), set(err.body)))
    assert found[0][:2] == (None, 401)
    assert 0 < found[0][2] <= MIB
    assert found[0][3] == {ord("x")}
    assert memory.peak < 4 * MIB  # the writer's unsent MiB is in it


@both_transports
def test_body_that_never_comes(way: Way) -> None:
    """The time-out is for the whole handshake; the status is known by then."""
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\nabc"
    sock, err, _ = connecting(way, lambda _: head, stays=True, timeout=300)
    assert sock is None
    assert isinstance(err, websocket.HandshakeError)
    assert err.status == 503
    assert b"abc".startswith(err.body)


@every_way
@pytest.mark.parametrize("status", ["301", "302", "307", "308"])
def test_cve_2026_49853_redirect_is_not_followed(status: str, way: Way) -> None:
    """No second connection is made, so no Authorization or Cookie goes anywhere; wss to ws neither."""
    header = [("Authorization", "Bearer a"), ("authorization", "Bearer b"), ("Cookie", "a=1"), ("Cookie", "b=2")]
    others: list[Any] = []
    with TCP.raw_server(others.append) as other:
        target = f"ws://127.0.0.1:{other.port}/elsewhere"
        sock, err, heads = connecting(way, plain(f"{status} Moved", b"", f"Location: {target}", "Content-Length: 0"), header)
        turn(3)
    assert sock is None
    assert err.status == int(status)
    assert err.header["location"] == target
    assert others == []
    assert len(heads) == 1
    assert heads[0].lower().count("authorization: ") == 2


# ---- subprotocols ---------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize(
    "fields",
    [
        ["Sec-WebSocket-Protocol: superchat"],
        ["Sec-WebSocket-Protocol: cha"],
        ["Sec-WebSocket-Protocol: Chat"],
        ["Sec-WebSocket-Protocol: chat, v2"],
        ["Sec-WebSocket-Protocol: chat,"],
        ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"],
        ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: v2"],
        ["Sec-WebSocket-Protocol: "],
        ['Sec-WebSocket-Protocol: "chat"'],
        ["Sec-WebSocket-Protocol: chat;v=1"],
    ],
    ids=lambda fields: "+".join(field.split(": ")[1] for field in fields).replace(" ", "") or "empty",
)
def test_subprotocol_that_was_not_offered(fields: list[str], way: Way) -> None:
    """One token of those offered, or the handshake fails (section 4.1)."""
    sock, err, heads = connecting(way, changed(*fields), subprotocols=["chat", "v2"], stays=True)
    assert "sec-websocket-protocol: chat, v2" in heads[0].lower()
    assert sock is None
    assert isinstance(err, str)


@every_way
@pytest.mark.parametrize("chosen", [None, "chat", "v2"])
def test_subprotocol(chosen: str | None, way: Way) -> None:
    fields = [f"Sec-WebSocket-Protocol: {chosen}"] if chosen else []
    sock, err, _ = connecting(way, changed(*fields), subprotocols=["chat", "v2"], stays=True)
    assert err is None
    assert sock.subprotocol == chosen
    sock.close()


# ---- what comes glued to the 101 ------------------------------------------------------------------------------------

GLUED = {
    "masked": (b"\x81\x81abcd\x19", 1002),
    "rsv1": (b"\xc1\x01x", 1002),
    "2^63-1": (b"\x82\x7f\x7f" + b"\xff" * 7, 1009),
    "2^64-1": (b"\x82\x7f" + b"\xff" * 8, 1002),
    "http": (b"HTTP/1.1 200 OK\r\n\r\n", 1002),
    "utf8": (b"\x81\x01\xff", 1007),
    "close-1005": (b"\x88\x02\x03\xed", 1002),
}


@every_way
@pytest.mark.parametrize("row", GLUED)
def test_fault_glued_to_the_101(row: str, way: Way, logs: Any) -> None:
    """The handshake is done: a close code tells the fault."""
    logs.expect("INFO websocket: 127.0.0.1:")
    data, code = GLUED[row]
    closes = []

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        way.deliver(peer, answer(peer.read("\r\n\r\n").decode()) + data)
        closes.append(peer.get_close()[0])
        peer.close()

    with way.raw_server(script) as listener:
        sock, err = way.connect(listener, limits=SHORT)
        assert err is None
        assert read(sock)[0] is None
        assert sock.closecode == code
        turn(5)
    assert closes == [code]


@every_way
def test_close_glued_to_the_101(way: Way) -> None:
    closes = []

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        data = peer.frame(FIN | BINARY, b"x") + peer.frame(FIN | CLOSE, b"\x03\xf5later")
        way.deliver_all(peer, answer(peer.read("\r\n\r\n").decode()) + data)
        closes.append(peer.get_close()[0])
        peer.close()

    with way.raw_server(script) as listener:
        sock, err = way.connect(listener)
        assert err is None
        assert read(sock) == (b"x", "binary")
        assert read(sock) == (b"\x03\xf5later", "close")
        assert (sock.closecode, sock.closereason) == (1013, "later")
        sock.close()
        turn(3)
    assert closes == [1013]


# ---- connects that fail ---------------------------------------------------------------------------------------------


def test_lua_failed_connects_leak_no_descriptor() -> None:
    """Refused, unreachable, not TLS; the fixture counts descriptors."""
    with TCP.raw_server(lambda conn: None) as listener:
        port = listener.port
    for _ in range(5):
        for url in (f"ws://127.0.0.1:{port}/", f"wss://127.0.0.1:{port}/", "ws://255.255.255.255:1/", "ws://[100::1]:1/"):
            sock, err = websocket.connect(url, timeout=300)
            assert sock is None
            assert isinstance(err, str)


@pytest.mark.parametrize("options", [{}, {"ca": "other"}], ids=["system", "other"])
def test_lua_certificates_are_verified(options: dict[str, Any], logs: Any) -> None:
    """Nothing of the handshake reaches a server with a certificate that isn't trusted."""
    logs.allow("INFO tls: ")
    heads: list[Any] = []
    if options:
        options = {"ca": authorities.stranger().pem}
    with TLS.raw_server(heads.append) as listener:
        sock, err = websocket.connect(TLS.url(listener), **options)
        turn(5)
    assert sock is None
    assert "trusted" in err
    assert heads == []
