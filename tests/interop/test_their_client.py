"""Third parties' WebSocket clients against our server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from silly import task
from silly.net import http, websocket
from silly.sync import channel
from tests.conftest import Logs

from .conftest import Serve
from .peers import HERE, Peer, pop, python
from .samples import BAD_UTF8, CODES, MIB, binary, text

fragmenting = pytest.mark.parametrize("client", ["websockets", "picows", "ws"], indirect=True)
"""Clients that can send fragments: those of aiohttp can't."""
READ = 15_000


def echo(sock: websocket.Socket) -> tuple[int | None, str]:
    """Echoes until the close; the peer's code and reason."""
    while True:
        data, typ = sock.read(READ)
        if data is None or typ == "close":
            break
        if typ in ("text", "binary"):
            sock.write(data, typ)
    sock.close()
    return sock.closecode, sock.closereason


def refusing(sock: websocket.Socket) -> str:
    """Reads until the peer breaks the protocol; the error."""
    while True:
        data, typ = sock.read(READ)
        if data is None:
            return typ


def test_sizes(client: Peer, serve_ws: Serve) -> None:
    served = serve_ws(echo)
    client.run("sizes", url=f"ws://{served.address}")
    assert served.result() == (1000, "")


def test_tls(client: Peer, serve_ws: Serve, tls_files: dict[str, str], logs: Logs) -> None:
    served = serve_ws(echo, certs=[{"cert": tls_files["cert"], "key": tls_files["key"]}])
    client.run("sizes", url=f"wss://{served.address}", ca=tls_files["ca"])
    assert served.result() == (1000, "")
    logs.expect("^INFO tls: .* handshake failed: ")
    client.run("distrust", url=f"wss://{served.address}")


@fragmenting
def test_fragments(client: Peer, serve_ws: Serve) -> None:
    served = serve_ws(echo)
    client.run("fragments", url=f"ws://{served.address}")
    assert served.result() == (1000, "")


def test_pings(client: Peer, serve_ws: Serve) -> None:
    payloads = [b"", b"p", binary(125), "ä€😀".encode()]

    def handler(sock: websocket.Socket) -> Any:
        for payload in payloads:
            assert sock.read(READ) == (payload, "ping")
            assert sock.write(payload, "pong")  # by hand, as the seed's examples do: not sent twice
        assert sock.read(READ) == ("ping me", "text")
        for payload in payloads:
            assert sock.write(payload, "ping")
        for payload in payloads:
            assert sock.read(READ) == (payload, "pong")
        assert sock.write("pinged", "text")
        assert sock.read(READ) == (b"nobody asked", "pong")
        return echo(sock)

    served = serve_ws(handler)
    client.run("pings", url=f"ws://{served.address}")
    assert served.result() == (1000, "")


def test_pings_while_large_messages_go_out(client: Peer, serve_ws: Serve) -> None:
    count = 12

    def handler(sock: websocket.Socket) -> Any:
        sent = channel.new()

        def send() -> None:
            for number in range(count):
                ok, err = sock.write(*((text(MIB), "text") if number % 2 else (binary(MIB), "binary")))
                assert ok, err
            sent.push(True)

        pings = []
        assert sock.read(READ) == ("go", "text")
        task.fork(send)
        while len(pings) < count:
            data, typ = sock.read(READ)
            assert typ == "ping"
            pings.append(data)
        assert pings == [b"%d" % number for number in range(count)]
        result = echo(sock)
        pop(sent, "the end of the sender")
        return result

    served = serve_ws(handler)
    client.run("flood", url=f"ws://{served.address}", count=count)
    assert served.result() == (1000, "")


def test_they_close_first(client: Peer, serve_ws: Serve) -> None:
    served = serve_ws(echo)
    for code, reason in CODES:
        client.run("close_first", url=f"ws://{served.address}", code=code, reason=reason)
        assert served.result() == (code, reason)


@pytest.mark.parametrize("client", ["picows", "ws"], indirect=True)
def test_they_close_without_a_code(client: Peer, serve_ws: Serve) -> None:
    served = serve_ws(echo)
    client.run("close_first", url=f"ws://{served.address}", code=None, reason="")
    assert served.result() == (1005, "")


@pytest.mark.parametrize("before", [[], ["last", text(70_000)]], ids=["alone", "behind data"])
def test_we_close_first(client: Peer, serve_ws: Serve, before: list[str]) -> None:
    codes: Iterator[tuple[int, str]] = iter(CODES)

    def handler(sock: websocket.Socket) -> Any:
        for data in before:
            assert sock.write(data, "text")
        assert sock.close(*next(codes))
        return sock.closecode

    served = serve_ws(handler)
    for code, reason in CODES:
        client.run("be_closed", url=f"ws://{served.address}", code=code, reason=reason, before=before)
        # aiohttp always answers 1000
        assert served.result() == (1000 if client.name == "aiohttp_client" else code)


def test_handler_returns_or_raises(client: Peer, serve_ws: Serve, logs: Logs) -> None:
    outcomes: Iterator[Exception | None] = iter([None, ValueError("on purpose")])

    def handler(sock: websocket.Socket) -> None:
        exc = next(outcomes)
        if exc is not None:
            raise exc

    served = serve_ws(handler)
    client.run("be_closed", url=f"ws://{served.address}", code=1000, reason="", before=[])
    assert served.result() is None
    logs.expect("ValueError: on purpose")
    client.run("be_closed", url=f"ws://{served.address}", code=1011, reason="", before=[])
    with pytest.raises(ValueError, match="on purpose"):
        served.result()


def too_big(client: Peer, serve_ws: Serve, logs: Logs, in_flight: bool) -> None:
    served = serve_ws(refusing)
    logs.expect("message longer than the limit 'message' of 1048576 bytes: close 1009")
    client.run("too_big", url=f"ws://{served.address}", in_flight=in_flight)
    for _ in range(2):
        assert "message longer than the limit" in served.result()


def test_too_big(client: Peer, serve_ws: Serve, logs: Logs) -> None:
    too_big(client, serve_ws, logs, False)


@fragmenting
def test_too_big_with_frames_behind(client: Peer, serve_ws: Serve, logs: Logs) -> None:
    too_big(client, serve_ws, logs, True)


def bad_utf8(client: Peer, serve_ws: Serve, logs: Logs, in_flight: bool) -> None:
    served = serve_ws(refusing)
    logs.expect("text that isn't UTF-8: .*: close 1007")
    for number in range(len(BAD_UTF8)):
        client.run("bad_utf8", url=f"ws://{served.address}", number=number, in_flight=in_flight)
        for _ in range(1 if client.name == "aiohttp_client" else 2):
            assert "text that isn't UTF-8" in served.result()


def test_bad_utf8(client: Peer, serve_ws: Serve, logs: Logs) -> None:
    bad_utf8(client, serve_ws, logs, False)


@fragmenting
def test_bad_utf8_with_frames_behind(client: Peer, serve_ws: Serve, logs: Logs) -> None:
    bad_utf8(client, serve_ws, logs, True)


def test_offers_are_declined(client: Peer, serve: Serve) -> None:
    def handler(stream: http.ServerStream) -> Any:
        sock, err = websocket.upgrade(stream)
        assert sock is not None, err
        echo(sock)
        return stream.header

    served = serve(handler)
    extra = [["X-Extra", "one; two"], ["Authorization", "Bearer abc=="], ["Cookie", "a=b; c=d"]]
    for subprotocols in ([], ["chat", "superchat"]):
        for compression in (True, False):
            url = f"ws://{served.address}/offers?a=b&c=%20"
            got = client.run("offers", url=url, compression=compression, subprotocols=subprotocols, header=extra)
            assert ("permessage-deflate" in (got["extensions"] or "")) == compression
            assert "sec-websocket-extensions" not in {name.lower() for name in got["header"]}
            assert "sec-websocket-protocol" not in {name.lower() for name in got["header"]}
            header = served.result()
            assert header["sec-websocket-extensions"] == got["extensions"]
            offered = header["sec-websocket-protocol"]
            assert (offered.replace(" ", "").split(",") if offered else []) == subprotocols
            for name, value in extra:
                assert header[name.lower()] == value


def test_origin(client: Peer, serve_ws: Serve, logs: Logs) -> None:
    served = serve_ws(echo)
    url = f"ws://{served.address}"
    client.run("offers", url=url, compression=True, subprotocols=[], header=[["Origin", f"http://{served.address}"]])
    assert served.result()[0] == 1000
    logs.expect("upgrade refused: Origin 'http://evil.example' is not this host")
    client.run("refused", url=url, status=403, header=[["Origin", "http://evil.example"]])
    assert "Origin" in served.result()


def test_no_websocket_here(client: Peer, serve: Serve) -> None:
    def handler(stream: http.ServerStream) -> None:
        stream.respond(404, {"content-type": "text/plain"})
        stream.closewrite("nothing here")

    served = serve(handler)
    client.run("refused", url=f"ws://{served.address}/x", status=404, header=[])
    served.result()


def test_many_connections(client: Peer, serve_ws: Serve) -> None:
    served = serve_ws(echo)
    client.run("many", url=f"ws://{served.address}", count=50)
    for _ in range(50):
        assert served.result() == (1000, "")


def test_our_process_ends(client: Peer) -> None:
    """Our server in a process of its own, by the launcher: SIGTERM closes connections with 1001, and the status is 0."""
    script = str(HERE / "silly_server.py")
    with Peer([*python("silly_server.py")[:-1], "-m", "silly", "-l", "warn", script]) as ours:
        (port,) = ours.ports()
        url = f"ws://127.0.0.1:{port}"
        client.run("sizes", url=url)
        ours.expect("closed")
        tag = client.send("be_closed", url=f"{url}/greet", code=1001, reason="", before=["welcome"])
        ours.expect("opened")
        ours.signal(signal.SIGTERM)
        client.expect(tag)
        assert ours.wait() == 0
