"""Our WebSocket client against third parties' servers."""

from __future__ import annotations

import contextlib
import json

import pytest

from silly import Limits
from silly.net import websocket
from tests.conftest import Logs

from .connecting import READ, Connection, connected
from .peers import Peer
from .samples import BAD_UTF8, CODES, MESSAGES, MIB, SIZES, binary, text

fragmenting = pytest.mark.parametrize("server", ["websockets", "picows", "ws"], indirect=True)
"""Servers that can send fragments: those of aiohttp can't."""


def echoes(conn: Connection) -> None:
    """Every size, each type, there and back."""
    for size in SIZES:
        for data, typ in ((text(size), "text"), (binary(size), "binary")):
            assert conn.sock.write(data, typ)
            got, got_typ = conn.read()
            assert (len(got), got_typ) == (len(data), typ)
            assert got == data
    assert conn.sock.close()
    assert conn.sock.closecode == 1000
    assert conn.outcome() == [1000, ""]


def test_sizes(server: Peer) -> None:
    with connected(server, "echo") as conn:
        assert conn.sock.stream.header["sec-websocket-extensions"] is None  # they do deflate, but we did not ask
        assert conn.sock.stream.header["sec-websocket-protocol"] is None
        echoes(conn)


def test_tls(server: Peer, tls_files: dict[str, str]) -> None:
    with connected(server, "echo", ca=tls_files["ca"]) as conn:
        echoes(conn)
    url = f"wss://127.0.0.1:{server.ports()[1]}/echo"
    sock, err = websocket.connect(url, timeout=READ)
    assert sock is None
    assert "issuer is not trusted" in err or "self-signed" in err


@pytest.mark.parametrize("server", ["websockets"], indirect=True)
def test_our_fragments(server: Peer) -> None:
    with connected(server, "frames", count=6) as conn:
        for size in (65535, 65536, 65537, MIB):
            assert conn.sock.write(text(size), "text")
            pieces = [65536] * (size // 65536) + ([size % 65536] if size % 65536 else [])
            assert conn.read() == (json.dumps(pieces), "text")
        for size in (131_072, 200_000):
            assert conn.sock.write(memoryview(binary(size)))
            assert json.loads(conn.read()[0]) == [65536] * (size // 65536) + ([size % 65536] if size % 65536 else [])
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


@fragmenting
def test_their_fragments(server: Peer) -> None:
    with connected(server, "fragments") as conn:
        for typ, pieces in MESSAGES:
            assert conn.read() == (b"0", "ping")
            assert conn.read() == (b"1", "ping")
            whole = b"".join(pieces)
            data, got_typ = conn.read()
            assert got_typ == typ
            assert data == (whole.decode() if typ == "text" else whole)
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


def test_pings(server: Peer) -> None:
    payloads = [b"", b"p", binary(125), "ä€😀".encode()]
    with connected(server, "pings") as conn:
        for payload in payloads:
            assert conn.read() == (payload, "ping")
            assert conn.sock.write(payload, "pong")  # by hand, as the seed's examples do: not sent twice
        assert conn.read() == ("pinged", "text")
        assert conn.sock.write(b"nobody asked", "pong")
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]
    with connected(server, "echo") as conn:
        for payload in payloads:
            assert conn.sock.write(payload, "ping")
        for payload in payloads:
            assert conn.read() == (payload, "pong")
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


def test_pings_while_large_messages_come(server: Peer) -> None:
    count = 12
    with connected(server, "flood", count=count) as conn:
        got = []
        for number in range(count):
            assert conn.sock.write(f"{number}", "ping")
        pongs = []
        while len(got) < count or len(pongs) < count:
            data, typ = conn.read()
            (pongs if typ == "pong" else got).append(data)
            if server.name != "websockets_server" and pongs and len(got) == count:
                break  # who answers several pings with one pong is right too
        assert got == [text(MIB) if number % 2 else binary(MIB) for number in range(count)]
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


def test_we_close_first(server: Peer) -> None:
    for code, reason in CODES:
        with connected(server, "echo") as conn:
            assert conn.sock.close(code, reason)
            # aiohttp always answers 1000
            assert conn.sock.closecode == (1000 if server.name == "aiohttp_server" else code)
            assert conn.outcome() == [code, reason]


@pytest.mark.parametrize("server", ["ws", "picows", "websockets"], indirect=True)
def test_we_close_without_a_code(server: Peer) -> None:
    with connected(server, "echo") as conn:
        assert conn.sock.write(b"", "close")
        assert conn.read() == (b"", "close")
        assert conn.sock.closecode == 1005
        assert conn.sock.close()
        assert conn.outcome() == [1005, ""]


@pytest.mark.parametrize("before", ["", "last ä€😀"], ids=["alone", "behind data"])
def test_they_close_first(server: Peer, before: str) -> None:
    for code, reason in CODES:
        with connected(server, "close", code=code, reason=reason, before=before) as conn:
            if before:
                assert conn.read() == (before, "text")
            assert conn.read() == (code.to_bytes(2, "big") + reason.encode(), "close")
            assert (conn.sock.closecode, conn.sock.closereason) == (code, reason)
            assert conn.sock.read(READ) == (None, "closed")
            assert conn.sock.close()
            assert conn.outcome()[0] == code


def test_too_big_for_us(server: Peer, logs: Logs) -> None:
    logs.expect("message longer than the limit 'message' of 1048576 bytes: close 1009")
    for size in (MIB + 1, 8 * MIB):
        with connected(server, "big", size=size) as conn:
            data, err = conn.sock.read(READ)
            assert data is None
            assert "message longer than the limit" in err
            assert conn.sock.closecode == 1009
            assert conn.outcome()[0] == 1009


@pytest.mark.parametrize("server", ["websockets", "aiohttp", "ws"], indirect=True)
def test_too_big_for_them(server: Peer) -> None:
    # After its close ws reads nothing, and waits for us to end the connection; we wait for it, as a client does.
    limits = Limits(close_timeout=10_000 if server.name == "websockets_server" else 300)
    with connected(server, "small", limits=limits) as conn:
        written, err = conn.sock.write(binary(2 * MIB + 1))
        if server.name == "aiohttp_server" and not written:
            # It ends the connection at once, with our data unread, so by a reset: that may come before all is written.
            assert "Connection reset by peer" in err
            assert conn.outcome() in ([1009], [1006])
            return
        assert written
        assert conn.read()[1] == "close"
        assert conn.sock.closecode == 1009
        assert conn.sock.close()
        # aiohttp and ws do not see our answer, having given up reading
        assert conn.outcome() in ([1009], [1006])


def test_bad_utf8(server: Peer, logs: Logs) -> None:
    logs.expect("text that isn't UTF-8: .*: close 1007")
    for number in range(len(BAD_UTF8)):
        with connected(server, "bad_utf8", number=number) as conn:
            data, err = conn.sock.read(READ)
            assert data is None
            assert "text that isn't UTF-8" in err
            assert conn.outcome()[0] == 1007


def test_headers(server: Peer) -> None:
    header = {"X-Extra": "one; two", "Authorization": "Bearer abc==", "x-list": ["a", "b"]}
    with connected(server, "headers", header, other="ä b&c") as conn:
        data, typ = conn.read()
        assert typ == "text"
        got = json.loads(data)
        assert got["target"].endswith("&other=%C3%A4+b%26c")
        fields = [tuple(pair) for pair in got["header"]]
        assert [pair for pair in fields if pair[0] in ("x-extra", "authorization")] == [
            ("x-extra", "one; two"),
            ("authorization", "Bearer abc=="),
        ]
        assert ", ".join(value for name, value in fields if name == "x-list") == "a, b"
        assert ("host", f"127.0.0.1:{server.ports()[0]}") in fields
        assert not {"sec-websocket-extensions", "sec-websocket-protocol"} & {name for name, _ in fields}
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


def test_many_connections(server: Peer) -> None:
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(connected(server, "echo")) for _ in range(30)]
        for number, conn in enumerate(conns):
            for turn in range(10):
                assert conn.sock.write(f"{number} {turn}", "text")
        for number, conn in enumerate(conns):
            for turn in range(10):
                assert conn.read() == (f"{number} {turn}", "text")
        for conn in conns:
            assert conn.sock.close()
            assert conn.outcome() == [1000, ""]
