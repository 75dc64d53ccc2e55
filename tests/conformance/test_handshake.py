"""RFC 6455, sections 4.1 and 4.2 and their errata: the opening handshake, as the server and as the client."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from silly.net import websocket
from silly.sync import channel

from ..helpers import ACCEPT, FIN, KEY, TEXT, Raw, accept_key, joined, raw_server, serving, spawn, switching
from .support import RawEnd

# ---- the server's side ----------------------------------------------------------------------------------------------

GOOD = [
    "Host: test",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
]


def asked(*changed: str, first: str = "GET /chat HTTP/1.1", without: str = "") -> bytes:
    """A good request, but for the lines that ``changed`` names, and ``without`` one."""
    names = {line.split(":")[0].strip().lower() for line in changed} | {without.lower()}
    lines = [line for line in GOOD if line.split(":")[0].lower() not in names]
    return "\r\n".join([first, *lines, *changed, "", ""]).encode("latin-1")


class Upgrades:
    """A handler that upgrades and echoes; what ``upgrade`` returned is kept."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.results: list[tuple[Any, Any]] = []

    def __call__(self, stream: Any) -> None:
        sock, err = websocket.upgrade(stream, **self.options)
        self.results.append((sock, err))
        while sock is not None:
            data, typ = sock.read()
            if data is None or typ == "close":
                break
            if typ == "text":
                sock.write(data, typ)


@contextmanager
def upgrading(request: bytes, mode: str = "whole", **options: Any) -> Iterator[tuple[Any, Any, Upgrades]]:
    """Sends ``request``: the peer, the response and the handler."""
    handler = Upgrades(**options)
    with serving(handler) as server:
        peer = RawEnd(Raw.connect(server).conn, masks=True)
        try:
            if mode == "whole":
                peer.send(request)
            else:
                Raw.dribble(peer, request)
            yield peer, peer.response(), handler
        finally:
            peer.close()


def is_open(peer: Any) -> None:
    """The connection is a WebSocket: an echo and a closing handshake."""
    peer.put(FIN | TEXT, "échø")
    assert peer.event() == ("text", "échø".encode())
    peer.put_close(1000)
    assert peer.event() == ("close", b"\x03\xe8")
    peer.eof()


MODES = pytest.mark.parametrize("mode", ["whole", "dribbled"])

ACCEPTED = {
    "4.2.1-plain": asked(),
    "4.2.1-absolute-target": asked(first="GET http://test/chat?x=1 HTTP/1.1"),
    "4.2.1-target-with-query": asked(first="GET /chat?x=%20&y HTTP/1.1"),
    "4.2.1-upgrade-mixed-case": asked("Upgrade: WebSocket"),
    "4.2.1-upgrade-upper-case": asked("Upgrade: WEBSOCKET"),
    "4.2.1-connection-lower-case": asked("Connection: upgrade"),
    "4.2.1-connection-upper-case": asked("Connection: UPGRADE"),
    "4.2.1-connection-mixed-case": asked("Connection: uPgRaDe"),
    "4.2.1-connection-keep-alive-first": asked("Connection: keep-alive, Upgrade"),
    "4.2.1-connection-keep-alive-last": asked("Connection: Upgrade, keep-alive"),
    "4.2.1-connection-without-spaces": asked("Connection: keep-alive,Upgrade,X"),
    "4.2.1-connection-tabs": asked("Connection: keep-alive\t,\tUpgrade\t"),
    "4.2.1-connection-empty-elements": asked("Connection: , ,Upgrade,"),
    "4.2.1-connection-two-lines": asked("Connection: keep-alive", "Connection: Upgrade"),
    "4.2.1-connection-two-lines-swapped": asked("Connection: Upgrade", "Connection: keep-alive"),
    "4.2.1-names-lower-case": "\r\n".join(["GET / HTTP/1.1", *[line.lower() for line in GOOD[:3]], *GOOD[3:], "", ""]).encode(),
    "4.2.1-names-upper-case": asked(
        "UPGRADE: websocket", "CONNECTION: Upgrade", f"SEC-WEBSOCKET-KEY: {KEY}", "SEC-WEBSOCKET-VERSION: 13", "HOST: test"
    ),
    "4.2.1-no-space": asked("Upgrade:websocket", "Connection:Upgrade", f"Sec-WebSocket-Key:{KEY}", "Sec-WebSocket-Version:13"),
    "4.2.1-much-space": asked(
        "Upgrade: \t websocket \t ",
        "Connection:   Upgrade   ",
        f"Sec-WebSocket-Key:  \t{KEY}\t ",
        "Sec-WebSocket-Version:  13  ",
    ),
    "4.2.1-unknown-fields": asked("X-Unknown: 1", "Cookie: a=b; c=d", "User-Agent: x", "Sec-WebSocket-Future: y"),
    "9.1-unknown-extension": asked("Sec-WebSocket-Extensions: x-unknown; a=1; b"),
    "9.1-unknown-extensions": asked("Sec-WebSocket-Extensions: a, b; c=2", "Sec-WebSocket-Extensions: x-webkit-deflate-frame"),
    "9.1-extension-not-enabled": asked("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
    "4.2.2-protocol-without-any": asked("Sec-WebSocket-Protocol: chat, superchat"),
    "10.2-origin-of-the-host": asked("Origin: http://test"),
    "4.1-key-of-zeros": asked("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    "4.1-key-of-ones": asked("Sec-WebSocket-Key: /////////////////////w=="),
    "4.1-key-of-section-1.3": asked("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "4.1-key-of-1-to-16": asked("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA=="),
    "4.1-key-with-plus": asked("Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhX+w=="),
}


@MODES
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str, mode: str) -> None:
    request = ACCEPTED[name]
    with upgrading(request, mode) as (peer, response, handler):
        key = re.search(rb"(?i)sec-websocket-key:[ \t]*(\S+)", request)
        assert key is not None
        assert response.status == 101
        assert response.header["upgrade"].lower() == "websocket"
        assert "upgrade" in [part.strip().lower() for part in response.header["connection"].split(",")]
        assert response.header["sec-websocket-accept"] == accept_key(key[1].decode())
        assert "sec-websocket-protocol" not in response.header
        assert "sec-websocket-extensions" not in response.header
        assert "content-length" not in response.header
        assert "transfer-encoding" not in response.header
        is_open(peer)
        assert handler.results[0][1] is None


def test_the_answer_of_section_1_3() -> None:
    """1.3-accept: the value that the RFC prints."""
    with upgrading(asked("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")) as (_, response, _):
        assert response.header["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" == ACCEPT


VERSION = {426}
REFUSED: dict[str, tuple[bytes, set[int]]] = {
    **{
        f"4.1-method-{name}": (asked(first=f"{name} / HTTP/1.1"), {400, 405})
        for name in ("POST", "PUT", "DELETE", "OPTIONS", "get")
    },
    "4.1-http-1.0": (asked(first="GET / HTTP/1.0"), {400, 426, 505}),
    "4.2.1-no-upgrade": (asked(without="Upgrade"), {400, 426}),
    "4.2.1-empty-upgrade": (asked("Upgrade: "), {400, 426}),
    "4.2.1-upgrade-h2c": (asked("Upgrade: h2c"), {400, 426}),
    "4.2.1-upgrade-websockets": (asked("Upgrade: websockets"), {400, 426}),
    "4.2.1-upgrade-part-of-a-word": (asked("Upgrade: notwebsocket"), {400, 426}),
    "4.2.1-upgrade-quoted": (asked('Upgrade: "websocket"'), {400, 426}),
    "4.2.1-no-connection": (asked(without="Connection"), {400, 426}),
    "4.2.1-empty-connection": (asked("Connection: "), {400, 426}),
    "4.2.1-connection-keep-alive": (asked("Connection: keep-alive"), {400, 426}),
    "4.2.1-connection-close": (asked("Connection: close"), {400, 426}),
    "4.2.1-connection-part-of-a-word": (asked("Connection: notupgrade, upgraded"), {400, 426}),
    "4.2.1-connection-two-words": (asked("Connection: keep-alive Upgrade"), {400, 426}),
    "4.2.1-connection-quoted": (asked('Connection: "Upgrade"'), {400, 426}),
    "4.2.1-no-key": (asked(without="Sec-WebSocket-Key"), {400}),
    "4.2.1-empty-key": (asked("Sec-WebSocket-Key: "), {400}),
    **{
        f"4.2.1-key-of-{size}": (asked(f"Sec-WebSocket-Key: {base64.b64encode(bytes(size)).decode()}"), {400})
        for size in (1, 8, 14, 15, 17, 18, 20, 32)
    },
    "4.2.1-key-unpadded": (asked("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"), {400}),
    "4.2.1-key-half-padded": (asked("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ="), {400}),
    "4.2.1-key-padded-more": (asked("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==="), {400}),
    "4.2.1-key-not-base64": (asked("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), {400}),
    "4.2.1-key-url-safe": (asked("Sec-WebSocket-Key: _____________________w=="), {400}),
    "4.2.1-key-with-a-space": (asked("Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ=="), {400}),
    "4.2.1-key-of-24-letters": (asked("Sec-WebSocket-Key: " + "A" * 24), {400}),
    "4.2.1-key-in-plain": (asked("Sec-WebSocket-Key: the sample nonce"), {400}),
    "11.3.1-two-keys": (asked(f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA=="), {400}),
    "11.3.1-one-key-twice": (asked(f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"), {400}),
    "4.2.1-no-host": (asked(without="Host"), {400}),
    "4.2.1-two-hosts": (asked("Host: test", "Host: test"), {400}),
    "4.2.1-no-version": (asked(without="Sec-WebSocket-Version"), {400, 426}),
    **{
        f"4.4-version-{value}": (asked(f"Sec-WebSocket-Version: {value}"), VERSION)
        for value in ("0", "4", "7", "8", "12", "14", "255", "13, 8", "8, 13")
    },
    **{
        f"4.4-version-odd-{value}": (asked(f"Sec-WebSocket-Version: {value}"), {400, 426})
        for value in ("", "013", "+13", "13.0", "0x0d", "1 3", "256", "-1", "x", "\xb9\xb3", "13;", '"13"')
    },
    "11.3.5-two-versions": (asked("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), {400, 426}),
    "10.2-origin-of-another-host": (asked("Origin: http://evil"), {403}),
    "10.2-origin-null": (asked("Origin: null"), {403}),
    "10.2-origin-of-another-port": (asked("Origin: http://test:8000"), {403}),
}


@MODES
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, mode: str, logs: Any) -> None:
    """A status of HTTP and no frame; behind it the connection never turns into a WebSocket."""
    logs.allow(r"^INFO (http|websocket)")
    request, statuses = REFUSED[name]
    behind = RawEnd(None, masks=True).frame(FIN | TEXT, b"frame")
    with upgrading(request + behind, mode) as (peer, response, handler):
        assert response.status in statuses
        assert "sec-websocket-accept" not in response.header
        if response.status == 426:
            assert response.header["sec-websocket-version"] == "13"
            assert response.header["upgrade"].lower() == "websocket"
        if response.status == 405:
            assert response.header["allow"]
        if statuses == VERSION:
            assert "13" in response.header["sec-websocket-version"]
        peer.eof()
        assert all(sock is None and err for sock, err in handler.results)


def test_a_key_with_spare_bits(logs: Any) -> None:
    """Errata 4.1: the key that the RFC itself prints is no canonical base64 (RFC 4648, 3.5, lets a reader refuse it)."""
    logs.allow(r"^INFO (http|websocket)")
    key = "AQIDBAUGBwgJCgsMDQ4PEC=="
    with upgrading(asked(f"Sec-WebSocket-Key: {key}")) as (_, response, _):
        assert response.status in (101, 400)
        if response.status == 101:
            assert response.header["sec-websocket-accept"] == accept_key(key)


def test_frames_glued_to_the_request() -> None:
    """4.1-early: frames behind the request in one segment are frames."""
    end = RawEnd(None, masks=True)
    with upgrading(asked() + end.frame(FIN | TEXT, b"early")) as (peer, response, _):
        assert response.status == 101
        assert peer.event() == ("text", b"early")
        is_open(peer)


SUBPROTOCOLS: dict[str, tuple[Any, list[str], str | None]] = {
    "11.3.4-one": (["chat"], ["chat"], "chat"),
    "11.3.4-the-servers-order": (["b", "a"], ["a, b"], "b"),
    "11.3.4-second-offered": (["chat.v2", "chat"], ["superchat, chat"], "chat"),
    "11.3.4-two-lines": (["b"], ["a", "b"], "b"),
    "11.3.4-two-lines-of-lists": (["d", "a"], ["a,b", "c , d"], "d"),
    "11.3.4-without-spaces": (["c"], ["a,b,c"], "c"),
    "11.3.4-case-counts": (["Chat"], ["chat"], None),
    "11.3.4-part-of-a-word": (["chat"], ["superchat, chat.v2"], None),
    "11.3.4-no-overlap": (["x", "y"], ["a, b"], None),
    "11.3.4-not-offered": (["x"], [], None),
    "11.3.4-odd-token": (["v10.stomp!#$%&'*+-.^_`|~"], ["v10.stomp!#$%&'*+-.^_`|~"], "v10.stomp!#$%&'*+-.^_`|~"),
    "11.3.4-function": (lambda offered: offered[-1], ["a, b", "c"], "c"),
    "11.3.4-function-says-none": (lambda offered: None, ["a, b"], None),
}


@pytest.mark.parametrize("name", SUBPROTOCOLS)
def test_subprotocols(name: str) -> None:
    ours, offered, chosen = SUBPROTOCOLS[name]
    lines = [f"Sec-WebSocket-Protocol: {value}" for value in offered]
    with upgrading(asked(*lines), subprotocols=ours) as (peer, response, handler):
        assert response.status == 101
        assert [line for line in response.lines if line.lower().startswith("sec-websocket-protocol:")] == (
            [f"sec-websocket-protocol: {chosen}"] if chosen else []
        )
        assert handler.results[0][0].subprotocol == chosen
        is_open(peer)


ORIGINS: dict[str, tuple[Any, list[str], bool]] = {
    "10.2-list": (["https://example.com"], ["Origin: https://example.com"], True),
    "10.2-list-port": (["https://example.com:8443"], ["Origin: https://example.com:8443"], True),
    "10.2-list-default-port": (["https://example.com"], ["Origin: https://example.com:443"], True),
    "10.2-list-upper-case": (["https://example.com"], ["Origin: HTTPS://EXAMPLE.COM"], True),
    "10.2-list-other": (["https://example.com"], ["Origin: https://example.org"], False),
    "10.2-list-other-scheme": (["https://example.com"], ["Origin: http://example.com"], False),
    "10.2-list-other-port": (["https://example.com"], ["Origin: https://example.com:444"], False),
    "10.2-list-longer-name": (["https://example.com"], ["Origin: https://example.com.evil"], False),
    "10.2-list-same-host": (["https://example.com"], ["Origin: http://test"], False),
    "10.2-list-null": (["https://example.com"], ["Origin: null"], False),
    "10.2-list-absent": (["https://example.com"], [], True),
    "10.2-pattern": (re.compile(r"https://[a-z]+\.example\.com"), ["Origin: https://www.example.com"], True),
    "10.2-pattern-whole": (re.compile(r"https://[a-z]+\.example\.com"), ["Origin: https://www.example.com.evil"], False),
    "10.2-any": (False, ["Origin: http://evil"], True),
    "10.2-any-null": (False, ["Origin: null"], True),
}


@pytest.mark.parametrize("name", ORIGINS)
def test_origins(name: str, logs: Any) -> None:
    origins, lines, good = ORIGINS[name]
    logs.allow(r"^INFO websocket")
    with upgrading(asked(*lines), origins=origins) as (peer, response, _):
        assert response.status == (101 if good else 403)
        if good:
            is_open(peer)
        else:
            peer.eof()


def test_more_fields_in_the_answer() -> None:
    """4.2.2-fields: cookies and the like go with the 101."""
    with upgrading(asked(), header={"x-name": "value", "set-cookie": ["a=1", "b=2"]}) as (peer, response, _):
        assert response.status == 101
        assert response.header["x-name"] == "value"
        assert [line.split(": ")[1] for line in response.lines if line.startswith("set-cookie:")] == ["a=1", "b=2"]
        is_open(peer)


# ---- the client's side ----------------------------------------------------------------------------------------------

Answer = Callable[[str], bytes]


def with_lines(*lines: str) -> Answer:
    return lambda head: switching(head)[:-2] + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def swapped(old: str, new: str) -> Answer:
    def answer(head: str) -> bytes:
        whole = switching(head)
        assert old.encode() in whole
        return whole.replace(old.encode(), new.encode("latin-1"), 1)

    return answer


def accepting(change: Callable[[str], str]) -> Answer:
    """With the Accept field's value changed."""

    def answer(head: str) -> bytes:
        value = accept_key(re.findall(r"(?im)^sec-websocket-key: (\S+)", head)[0])
        return switching(head).replace(value.encode(), change(value).encode("latin-1"))

    return answer


@contextmanager
def connecting(answer: Answer, mode: str = "whole", **options: Any) -> Iterator[tuple[Any, Any, str, Any]]:
    """Connects to a raw server that gives ``answer(head)``: the socket, the error, the head of the request, the peer."""
    heads = channel.new()

    def script(conn: Any) -> None:
        peer = RawEnd(conn, masks=False)
        head = peer.read("\r\n\r\n").decode("latin-1")
        heads.push((head, peer))
        data = answer(head)
        if mode == "whole":
            peer.conn.write(data)
        else:
            peer.dribble(data)

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}/chat?x=1", timeout=5000, **options)
        (head, peer), _ = heads.pop()
        try:
            yield sock, err, head, peer
        finally:
            peer.close()
            if sock is not None:
                sock.close()


ANSWERED_WELL: dict[str, Answer] = {
    "4.1-plain": switching,
    "4.1-upgrade-mixed-case": swapped("Upgrade: websocket", "Upgrade: WebSocket"),
    "4.1-connection-lower-case": swapped("Connection: Upgrade", "connection: upgrade"),
    "4.1-connection-list": swapped("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
    "4.1-connection-two-lines": swapped("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
    "4.1-names-upper-case": swapped("Sec-WebSocket-Accept", "SEC-WEBSOCKET-ACCEPT"),
    "4.1-accept-with-space": accepting(lambda value: f" \t{value} \t"),
    "4.1-reason": swapped("101 Switching Protocols", "101 Web Socket Protocol Handshake"),
    "4.1-no-reason": swapped("101 Switching Protocols", "101 "),
    "4.1-fields": with_lines("Server: x", "Set-Cookie: a=b", "Set-Cookie: c=d", "Date: today"),
    "9112-5.2-folded-fields": with_lines("Server: x\r\n y", "X:\r\n\tUpgrade: h2c\r\n ", "Date: today"),
    "4.1-continue-first": lambda head: b"HTTP/1.1 100 Continue\r\n\r\n" + switching(head),
    "4.1-early-hints-first": lambda head: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + switching(head),
}


@MODES
@pytest.mark.parametrize("name", ANSWERED_WELL)
def test_answered_well(name: str, mode: str) -> None:
    with connecting(ANSWERED_WELL[name], mode) as (sock, err, _, peer):
        assert err is None
        assert sock.write("échø", "text") == (True, None)
        assert peer.event() == ("text", "échø".encode())
        peer.put(FIN | TEXT, "back")
        assert sock.read(5000) == ("back", "text")


def test_frames_glued_to_the_answer() -> None:
    """4.1-server-first: frames behind the answer in one segment are frames."""
    end = RawEnd(None, masks=False)
    with connecting(lambda head: switching(head) + end.frame(FIN | TEXT, b"first") * 3) as (sock, err, _, _):
        assert err is None
        assert [sock.read(5000) for _ in range(3)] == [("first", "text")] * 3


def test_the_request() -> None:
    """4.1-request: its lines, and a new nonce of 16 bytes each time."""
    keys = set()
    for _ in range(5):
        with connecting(switching) as (_, err, head, _):
            assert err is None
            first, *lines = head[:-4].split("\r\n")
            fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines}
            assert len(fields) == len(lines)
            assert first == "GET /chat?x=1 HTTP/1.1"
            assert fields["host"].startswith("127.0.0.1:")
            assert fields["upgrade"].lower() == "websocket"
            assert "upgrade" in [part.strip().lower() for part in fields["connection"].split(",")]
            assert fields["sec-websocket-version"] == "13"
            assert len(base64.b64decode(fields["sec-websocket-key"], validate=True)) == 16
            assert "sec-websocket-protocol" not in fields
            assert "sec-websocket-extensions" not in fields
            keys.add(fields["sec-websocket-key"])
    assert len(keys) == 5


BAD_ANSWERS: dict[str, Answer] = {
    "4.1-no-accept": swapped("Sec-WebSocket-Accept", "X"),
    "4.1-empty-accept": accepting(lambda value: ""),
    "4.1-accept-of-another-key": accepting(lambda value: accept_key("AAAAAAAAAAAAAAAAAAAAAA==")),
    "4.1-accept-is-the-key": lambda head: (
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + re.findall(r"(?im)^sec-websocket-key: (\S+)", head)[0].encode()
        + b"\r\n\r\n"
    ),
    "4.1-accept-in-another-case": accepting(lambda value: value.swapcase()),
    "4.1-accept-cut": accepting(lambda value: value[:-1]),
    "4.1-accept-longer": accepting(lambda value: value + "="),
    "4.1-accept-with-a-space-inside": accepting(lambda value: value[:10] + " " + value[10:]),
    "4.1-accept-twice-different": accepting(lambda value: f"{value}\r\nSec-WebSocket-Accept: x"),
    "4.1-no-upgrade": swapped("Upgrade: websocket", "X: y"),
    "4.1-empty-upgrade": swapped("Upgrade: websocket", "Upgrade: "),
    "4.1-upgrade-h2c": swapped("Upgrade: websocket", "Upgrade: h2c"),
    "4.1-upgrade-websockets": swapped("Upgrade: websocket", "Upgrade: websockets"),
    "4.1-no-connection": swapped("Connection: Upgrade", "X: y"),
    "4.1-empty-connection": swapped("Connection: Upgrade", "Connection: "),
    "4.1-connection-close": swapped("Connection: Upgrade", "Connection: close"),
    "4.1-connection-part-of-a-word": swapped("Connection: Upgrade", "Connection: notupgrade"),
    "4.1-protocol-not-offered": with_lines("Sec-WebSocket-Protocol: chat"),
    "4.1-extension-not-offered": with_lines("Sec-WebSocket-Extensions: permessage-deflate"),
    "4.1-extension-unknown": with_lines("Sec-WebSocket-Extensions: x-unknown"),
    "4.1-http-1.0": swapped("HTTP/1.1", "HTTP/1.0"),
}


@MODES
@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_answered_badly(name: str, mode: str) -> None:
    """The client fails the connection: an error, TCP ended, and no frame sent."""
    with connecting(BAD_ANSWERS[name], mode) as (sock, err, _, peer):
        assert sock is None
        assert isinstance(err, str)
        assert err
        peer.eof()


@pytest.mark.parametrize(
    ("offered", "answer", "chosen"),
    [
        pytest.param(("chat",), "chat", "chat", id="4.1-protocol-the-one"),
        pytest.param(("chat", "superchat"), "superchat", "superchat", id="4.1-protocol-the-second"),
        pytest.param(("chat", "superchat"), None, None, id="4.1-protocol-none-chosen"),
        pytest.param(("chat",), "superchat", False, id="4.1-protocol-another"),
        pytest.param(("chat",), "Chat", False, id="4.1-protocol-another-case"),
        pytest.param(("chat", "superchat"), "chat, superchat", False, id="4.1-protocol-two"),
        pytest.param(("chat", "superchat"), "chat\r\nSec-WebSocket-Protocol: superchat", False, id="4.1-protocol-two-lines"),
        pytest.param(("chat",), "", False, id="4.1-protocol-empty"),
        pytest.param((), "chat", False, id="4.1-protocol-unasked"),
    ],
)
def test_client_subprotocols(offered: Sequence[str], answer: str | None, chosen: Any) -> None:
    lines = [] if answer is None else [f"Sec-WebSocket-Protocol: {answer}"]
    with connecting(with_lines(*lines), subprotocols=offered) as (sock, err, head, peer):
        values = re.findall(r"(?im)^sec-websocket-protocol: (.*?)\r$", head)
        sent = [part.strip() for value in values for part in value.split(",")]
        assert sent == list(offered)
        if chosen is False:
            assert sock is None
            assert isinstance(err, str)
            peer.eof()
        else:
            assert err is None
            assert sock.subprotocol == chosen


@pytest.mark.parametrize(
    "bad", [["a b"], [""], ["a,b"], ["ü"], ["a", "a"], ["a\r\nX: y"]], ids=lambda bad: f"4.1-bad-token-{bad!r}"
)
def test_bad_subprotocols_are_never_offered(bad: list[str]) -> None:
    """Programmer errors raise, before anything is sent."""
    with pytest.raises(ValueError):
        websocket.connect("ws://127.0.0.1:1/", subprotocols=bad)


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307, 400, 401, 403, 404, 426, 429, 500, 503])
def test_other_statuses(status: int) -> None:
    """4.1-status: the error tells the status, the fields and the body's start."""
    body = b"" if status == 204 else b"because"
    more = f"Content-Length: {len(body)}\r\nX-Why: reason\r\nLocation: ws://127.0.0.1:1/\r\n\r\n".encode()
    if status == 204:
        more = more.replace(b"Content-Length: 0\r\n", b"")
    with connecting(lambda head: b"HTTP/1.1 %d Reason\r\n" % status + more + body) as (sock, err, _, _):
        assert sock is None
        assert isinstance(err, str)
        assert str(status) in err
        assert isinstance(err, websocket.HandshakeError)
        assert err.status == status
        assert err.header["x-why"] == "reason"
        assert err.body == body


def test_credentials_of_the_url() -> None:
    """3-userinfo: they become basic authentication and are not in the target."""
    heads = channel.new()

    def script(conn: Any) -> None:
        peer = RawEnd(conn, masks=False)
        head = peer.read("\r\n\r\n").decode()
        heads.push(head)
        peer.send(switching(head))
        peer.event()
        peer.close()

    with raw_server(script) as listener:
        sock, err = websocket.connect(f"ws://us%65r:p%3Aw@127.0.0.1:{listener.port}/x")
        assert err is None
        head, _ = heads.pop()
        assert head.startswith("GET /x HTTP/1.1\r\n")
        value = re.findall(r"(?im)^authorization: (.*?)\r$", head)
        assert value == ["Basic " + base64.b64encode(b"user:p:w").decode()]
        assert "@" not in head
        joined(spawn(sock.close))
