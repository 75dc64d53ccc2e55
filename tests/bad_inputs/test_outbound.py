"""Every string and every buffer that our API puts on the wire: what may not be sent is refused before a byte is written.

The injection row: aiohttp CVE-2023-37276, CVE-2023-49081, CVE-2023-49082, CVE-2026-34519, CVE-2026-50269, gevent#775,
tornado CVE-2025-67724, undici CVE-2026-1527. The row of views: ws CVE-2026-45736.
"""

from __future__ import annotations

import array
import ctypes
from collections.abc import Callable
from typing import Any

import pytest

import silly
from silly.net import websocket

from ..helpers import BINARY, CLOSE, FIN, KEY, PING, PONG, TEXT, ServerPeer, joined, spawn, turn
from .support import (
    KIB,
    LOG,
    SHORT,
    TCP,
    Held,
    Role,
    Way,
    accepted,
    answer,
    both_roles,
    both_transports,
    connecting,
    request,
)

EVIL = {
    "cr": "a\rb",
    "lf": "a\nb",
    "crlf": "a\r\nEvil: 1",
    "nul": "a\0b",
    "del": "a\x7fb",
    "esc": "a\x1bb",
    "euro": "a€b",
    "surrogate": "a\udcffb",
}
NOT_TOKENS = {
    **EVIL,
    "empty": "",
    "space": "a b",
    "colon": "a:b",
    "comma": "a,b",
    "latin-1": "a\xe9b",
    "quote": '"a"',
    "slash": "a/b",
}
IN_URLS = ["a\rb", "a\nb", "a\r\nEvil: 1", "a\0b", "a\x7fb", "a\tb", "a b", "a\udcffb"]
ESCAPED = ["us%0d%0aer:pw", "user:p%0D%0AEvil:%201", "%00:%7f", "user:p%C3%A9", "b\xfccher:\xfc", "user:", ":pw"]
OBJECTS = [array.array("d", [1.0]), [b"x"], 5, 1.5, object(), {"a": 1}]
every_evil = pytest.mark.parametrize("evil", EVIL.values(), ids=list(EVIL))
every_non_token = pytest.mark.parametrize("evil", NOT_TOKENS.values(), ids=list(NOT_TOKENS))


def never_sent(way: Way, connect: Callable[[Any], Any]) -> None:
    """``connect(listener)`` raises ValueError or gives ``(None, err)``, and the server has seen no byte of a request."""
    seen: list[bytes] = []
    conns: list[Any] = []

    def script(conn: Any) -> None:
        conns.append(conn)
        data, _ = conn.read(1, 2000)
        seen.append(data or b"")

    with way.raw_server(script) as listener:
        try:
            found = connect(listener)
        except ValueError:
            pass
        else:
            assert found[0] is None
            assert isinstance(found[1], str)
        turn(5)
        assert not any(seen)
        assert not any(conn.unreadbytes() for conn in conns)


# ---- the client's request -------------------------------------------------------------------------------------------


@both_transports
@every_evil
@pytest.mark.parametrize("shape", ["dict", "pairs", "list"])
def test_injection_header_value(shape: str, evil: str, way: Way) -> None:
    header: Any = {"dict": {"X": evil}, "pairs": [("X", evil)], "list": {"X": ["good", evil]}}[shape]
    never_sent(way, lambda listener: way.connect(listener, header))


@both_transports
@every_non_token
def test_injection_header_name(evil: str, way: Way) -> None:
    never_sent(way, lambda listener: way.connect(listener, {evil: "x"}))


@both_transports
@every_evil
def test_injection_host(evil: str, way: Way) -> None:
    never_sent(way, lambda listener: way.connect(listener, {"Host": evil}))


@both_transports
@every_non_token
def test_injection_subprotocol(evil: str, way: Way) -> None:
    """Tokens alone (section 4.1), each once."""
    never_sent(way, lambda listener: way.connect(listener, subprotocols=[evil]))
    never_sent(way, lambda listener: way.connect(listener, subprotocols=["good", evil]))


@both_transports
@pytest.mark.parametrize("place", ["path", "query"])
@pytest.mark.parametrize("evil", [*IN_URLS, " HTTP/1.1\r\n\r\nGET /x"])
def test_injection_target(evil: str, place: str, way: Way) -> None:
    never_sent(way, lambda listener: way.connect(listener, target=f"/{'?' if place == 'query' else ''}{evil}"))


@both_transports
@pytest.mark.parametrize("evil", IN_URLS)
@pytest.mark.parametrize("place", ["user", "password"])
def test_injection_userinfo(place: str, evil: str, way: Way) -> None:
    user = f"{evil}:pw@" if place == "user" else f"user:{evil}@"
    never_sent(way, lambda listener: way.connect(listener, user=user))


@pytest.mark.parametrize("user", ESCAPED)
def test_injection_userinfo_escaped(user: str) -> None:
    """Base64 holds any byte: sent as one field, or refused. No line of its own comes of it."""
    try:
        sock, err, heads = connecting(TCP, lambda head: answer(head), user=f"{user}@", stays=True)
    except ValueError:
        return
    if sock is None:
        assert isinstance(err, str)
        return
    (head,) = heads
    lines = [line for line in head.split("\r\n") if line.lower().startswith("authorization: ")]
    assert len(lines) == 1
    assert lines[0][15:].startswith("Basic ")
    assert lines[0][21:].isascii()
    assert "evil" not in head.lower()
    sock.close()


@pytest.mark.parametrize("host", ["a\r\nb", "a\nb", "a\0b", "a\x7fb", "a b", "a\tb", "a%0d%0ab", "127.0.0.1\r\nEvil: 1"])
def test_injection_url_host(host: str) -> None:
    sock, err = websocket.connect(f"ws://{host}:1/", timeout=2000)
    assert sock is None
    assert isinstance(err, str)


def test_token_subprotocols_are_sent_as_they_are() -> None:
    names = ["chat", "v2.chat!#$%&'*+-.^_`|~", "A" * 200]
    sock, err, heads = connecting(TCP, answer, subprotocols=names, stays=True)
    assert err is None
    assert f"sec-websocket-protocol: {', '.join(names)}".lower() in heads[0].lower()
    sock.close()


@pytest.mark.parametrize("names", [["chat", "chat"], "chat", [1], [b"chat"], [None]])
def test_subprotocols_that_are_not_a_list_of_different_tokens(names: Any) -> None:
    """Section 4.1: all must be unique. A str is not a list: its letters would be offered."""
    accepted_conns: list[Any] = []
    with TCP.raw_server(accepted_conns.append) as listener:
        with pytest.raises((ValueError, TypeError)):
            TCP.connect(listener, subprotocols=names)
        turn(3)
    assert accepted_conns == []


# ---- the server's answer --------------------------------------------------------------------------------------------


def raises_in_upgrade(way: Way, **options: Any) -> bytes:
    """``upgrade`` with ``options`` raises ValueError, and has written nothing: the handler answers as it likes."""
    raised = []

    def handler(stream: Any) -> None:
        try:
            websocket.upgrade(stream, **options)
        except ValueError as exc:
            raised.append(exc)
        stream.respond(200)
        stream.close("still a request")

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(request("Sec-WebSocket-Protocol: chat", "Connection: Upgrade, close"))
        got: bytes = peer.rest()
    assert raised
    assert got.startswith(b"HTTP/1.1 200 ")
    assert got.endswith(b"still a request")
    assert got.count(b"HTTP/1.1") == 1
    return got


@both_transports
@every_evil
@pytest.mark.parametrize("shape", ["dict", "pairs", "list"])
def test_injection_upgrade_header_value(shape: str, evil: str, way: Way) -> None:
    header: Any = {"dict": {"X": evil}, "pairs": [("X", evil)], "list": {"X": ["good", evil]}}[shape]
    assert b"Evil" not in raises_in_upgrade(way, header=header)


@both_transports
@every_non_token
def test_injection_upgrade_header_name(evil: str, way: Way) -> None:
    raises_in_upgrade(way, header={evil: "x"})


@both_transports
@every_non_token
def test_injection_upgrade_subprotocols(evil: str, way: Way) -> None:
    assert b"Evil" not in raises_in_upgrade(way, subprotocols=["chat", evil])


@pytest.mark.parametrize(
    "name",
    [
        "Upgrade",
        "connection",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Protocol",
        "sec-websocket-extensions",
        "SEC-WEBSOCKET-VERSION",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
def test_upgrade_header_of_the_handshake(name: str) -> None:
    """The handshake's own fields, and framing (a 101 has none)."""
    raises_in_upgrade(TCP, header={name: "x"})
    raises_in_upgrade(TCP, header=[("X", "y"), (name, "0")])


def test_upgrade_header_is_sent() -> None:
    held = Held(header={"X-One": "1", "Set-Cookie": ["a=b", "c=d"], "X-Latin": "\xfc"})
    with TCP.serving(held) as server:
        peer = TCP.dial(server)
        peer.send(request())
        response = peer.response()
        assert response.status == 101
        assert response.header["x-one"] == "1"
        assert response.header["x-latin"] == "\xfc"
        assert [line for line in response.lines if line.startswith("set-cookie")] == ["set-cookie: a=b", "set-cookie: c=d"]
        assert held.pop()
        peer.close()
        held.release()


@pytest.mark.parametrize("evil", ["https://a\r\nEvil: 1", "*", "a.example", "https://", "https://a/path", "null", ""])
def test_origins_that_are_invalid(evil: str, logs: Any) -> None:
    """A list that could never match is a bug of the program: told, or matching nothing. It is never open."""
    logs.allow(LOG)
    logs.allow("ERROR exception in the handler")
    held = Held(origins=[evil])
    with TCP.serving(held) as server, TCP.dial(server) as peer:
        peer.send(request("Origin: https://evil.example"))
        assert peer.response().status in (403, 500)


# ---- close ----------------------------------------------------------------------------------------------------------


@both_transports
@both_roles
@pytest.mark.parametrize("reason", ["a\r\nb", "a\0b", "\x7f", "é€😀", "€" * 41, "x" * 123])
def test_injection_close_reason(reason: str, role: Role, way: Way) -> None:
    """A reason is UTF-8 in a frame: any text is safe there, and comes over as it is."""
    with role(way, SHORT) as (sock, peer):
        assert sock.close(3000, reason) == (True, None)
        assert peer.get_close() == (3000, reason)


@both_transports
@both_roles
@pytest.mark.parametrize("reason", ["\udcff", "ok\ud800"])
def test_close_reason_that_is_not_utf8(reason: str, role: Role, way: Way) -> None:
    with role(way, SHORT) as (sock, peer):
        with pytest.raises(ValueError):
            sock.close(3000, reason)
        assert sock.write("open")
        assert peer.get() == (FIN | BINARY, b"open")


@both_roles
@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535, 65536, -1])
def test_close_codes_that_may_not_be_sent(code: int, role: Role) -> None:
    with role(TCP, SHORT) as (sock, peer):
        with pytest.raises(ValueError):
            sock.close(code)
        with pytest.raises(ValueError):
            sock.write((code & 0xFFFF).to_bytes(2, "big") if code != 65536 and code >= 0 else b"\0\0", "close")
        assert sock.write("open")
        assert peer.get() == (FIN | BINARY, b"open")


# ---- views of memory ------------------------------------------------------------------------------------------------

GRID = memoryview(bytes(range(12))).cast("B", (3, 4))
VIEWS: dict[str, tuple[Any, bytes]] = {
    "array-d": (memoryview(array.array("d", [1.5, -2.5])), array.array("d", [1.5, -2.5]).tobytes()),
    "array-H": (memoryview(array.array("H", [1, 2, 65535])), array.array("H", [1, 2, 65535]).tobytes()),
    "array-q": (memoryview(array.array("q", [-1])), b"\xff" * 8),
    "array-u-slice": (memoryview(array.array("I", [1, 2, 3]))[1:], array.array("I", [2, 3]).tobytes()),
    "grid": (GRID, bytes(range(12))),
    "grid-of-doubles": (memoryview(bytes(64)).cast("d", (2, 4)), bytes(64)),
    "ctypes": (memoryview((ctypes.c_uint16 * 2)(258, 772)), b"\x02\x01\x04\x03"),
    "cast-c": (memoryview(b"abc").cast("c"), b"abc"),
    "slice": (memoryview(b"abcdef")[2:5], b"cde"),
    "empty": (memoryview(b""), b""),
    "empty-of-doubles": (memoryview(array.array("d")), b""),
    "read-only": (memoryview(bytearray(b"xyz")).toreadonly(), b"xyz"),
    "bool": (memoryview(b"\1\0").cast("?"), b"\1\0"),
    "bytearray": (bytearray(b"xyz"), b"xyz"),
}
SCATTERED = {
    "step-2": memoryview(b"abcdefgh")[::2],
    "backwards": memoryview(b"abcdefgh")[::-1],
    "step-of-doubles": memoryview(array.array("d", [1.0, 2.0, 3.0]))[::2],
}


@both_roles
@pytest.mark.parametrize("typ", ["binary", "ping", "pong"])
@pytest.mark.parametrize("row", VIEWS)
def test_cve_2026_45736_views(row: str, typ: str, role: Role) -> None:
    """Exactly the view's bytes: the length is in bytes, not in items."""
    data, expected = VIEWS[row]
    with role(TCP, SHORT) as (sock, peer):
        assert sock.write(data, typ) == (True, None)
        assert peer.get() == (FIN | {"binary": BINARY, "ping": PING, "pong": PONG}[typ], expected)


@both_roles
@pytest.mark.parametrize("typ", ["binary", "text", "ping", "pong", "close"])
@pytest.mark.parametrize("row", SCATTERED)
def test_cve_2026_45736_scattered_views(row: str, typ: str, role: Role) -> None:
    with role(TCP, SHORT) as (sock, peer):
        with pytest.raises(TypeError):
            sock.write(SCATTERED[row], typ)
        assert sock.write("open")
        assert peer.get() == (FIN | BINARY, b"open")


@both_roles
@pytest.mark.parametrize("data", OBJECTS, ids=lambda data: type(data).__name__)
def test_cve_2026_45736_other_objects(data: Any, role: Role) -> None:
    """Other types than text, bytes, bytearray and memoryview are refused (an array may be sent, but whole)."""
    with role(TCP, SHORT) as (sock, peer):
        try:
            sent = sock.write(data)
        except TypeError:
            sent = False
        if sent:
            assert isinstance(data, array.array)
            assert peer.get() == (FIN | BINARY, data.tobytes())
        assert sock.write("open")
        assert peer.get() == (FIN | BINARY, b"open")


@both_roles
def test_cve_2026_45736_close_payload(role: Role) -> None:
    """A close by hand takes a view of any item size, by its bytes."""
    payload = b"\x03\xe8" + b"bye now!" + b"!" * 6
    with role(TCP, SHORT) as (sock, peer):
        assert sock.write(memoryview(payload).cast("H"), "close") == (True, None)
        assert peer.get() == (FIN | CLOSE, payload)


@both_roles
@pytest.mark.parametrize(
    "reason",
    [memoryview(b"reason"), memoryview(array.array("H", [0x6261])), memoryview(b"abcdef")[::2], array.array("d", [1.0])],
    ids=["bytes", "array-H", "step-2", "array-d"],
)
def test_cve_2026_45736_close_reason(reason: Any, role: Role) -> None:
    """Its bytes, or a TypeError and nothing sent."""
    with role(TCP, SHORT) as (sock, peer):
        try:
            sock.close(1000, reason)
        except TypeError:
            assert sock.write("open")
            assert peer.get() == (FIN | BINARY, b"open")
        else:
            assert peer.get() == (FIN | CLOSE, b"\x03\xe8" + reason.tobytes())


@both_roles
def test_cve_2026_45736_view_changed_after_write(role: Role) -> None:
    """What a write returned for is sent as it was then, large or small."""
    with role(TCP, {"close_timeout": 1000}) as (sock, peer):
        for size in (10, 1000, 60 * KIB):
            data = bytearray(b"a" * size)
            assert sock.write(memoryview(data))
            data[:] = b"b" * size
            assert peer.get() == (FIN | BINARY, b"a" * size)
            data.clear()  # no view of it is held


@both_roles
@pytest.mark.parametrize("data", [b"\xff", b"ok\xed\xa0\x80", "\ud800", memoryview(b"\xc3")], ids=repr)
def test_text_that_is_not_utf8(data: Any, role: Role) -> None:
    with role(TCP, SHORT) as (sock, peer):
        with pytest.raises(ValueError):
            sock.write(data, "text")
        assert sock.write("open", "text")
        assert peer.get() == (FIN | TEXT, b"open")


# ---- after the end --------------------------------------------------------------------------------------------------


@both_transports
@both_roles
def test_lua_calls_after_close(role: Role, way: Way) -> None:
    """None raises."""
    with role(way, SHORT) as (sock, peer):
        closing = spawn(sock.close)
        assert peer.get_close() == (1000, "")
        peer.put_close()
        if not peer.masks:
            peer.close()
        assert joined(closing) == (True, None)
        for typ in ("text", "binary", "ping", "pong", "close"):
            assert sock.write("", typ) == (False, "closed")
        assert sock.read() == (None, "closed")
        assert sock.close() == (False, "closed")
        assert sock.close(3000, "again") == (False, "closed")
        assert (sock.closecode, sock.closereason) == (1000, "")
        assert "closed" in repr(sock)


def test_lua_upgrade_twice(logs: Any) -> None:
    logs.allow(LOG)
    with accepted(TCP, request()) as (sock, _, _):
        assert websocket.upgrade(sock.stream)[0] is None
        assert sock.stream.header["sec-websocket-key"] == KEY


@pytest.mark.parametrize("bad", [-1, 0, 1.5, "1", True, None])
def test_invalid_limits(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        silly.Limits(message=bad)


def test_answer_without_request_head(logs: Any) -> None:
    """A server that speaks before it is asked: the bytes are its answer all the same."""

    def script(conn: Any) -> None:
        ServerPeer(conn).send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        conn.read("\r\n\r\n", 2000)

    with TCP.raw_server(script) as listener:
        sock, err = TCP.connect(listener)
        assert sock is None
        assert "Accept" in err
