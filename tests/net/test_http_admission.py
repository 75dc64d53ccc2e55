"""How many connections an HTTP server takes: what counts as one, until when, and what becomes of those that are too many."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from silly import _log
from silly._core import scheduler
from silly.net._tls_server import ServerConfiguration

from ..helpers import WITHIN, Raw, serving
from .http_support import certs, connected, hello
from .support import turns, until


def test_a_connection_that_could_not_be_taken_is_not_counted(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """Else a few failures of the system would use up the limit for ever."""

    def refuse(self: ServerConfiguration) -> Any:
        raise MemoryError

    with serving(hello, certs=certs(), limits={"connections": 1}) as server:
        with monkeypatch.context() as patch:
            patch.setattr(ServerConfiguration, "connection", refuse)
            logs.expect("MemoryError")
            with Raw.connect(server) as client:
                assert client.conn.read(1, WITHIN)[0] is None
        assert server._places.taken == 0
        with connected(server) as client:
            client.request("/a")
            assert client.response().body == b"hello /a"


@pytest.mark.parametrize("options", [{}, {"certs": True}], ids=["tcp", "tls"])
def test_a_connection_counts_until_its_descriptor_is_free(options: Any, logs: Any) -> None:
    """Peers that get an error and stay would else hold any number of descriptors, for the time of ``linger`` each."""
    logs.expect("bad request line")
    if options:
        logs.expect("too many connections")
        options = {"certs": certs()}
    with serving(hello, limits={"connections": 2}, **options) as server:
        clients = [connected(server) for _ in range(2)]
        for client in clients:
            client.send("nonsense\r\n\r\n")
            assert client.response().status == 400
        until(lambda: not server._connections)
        with Raw.connect(server) as other:
            if options:
                assert other.conn.read(1, WITHIN)[0] is None
            else:
                assert other.response().status == 503
        for client in clients:
            client.close()
        until(lambda: server._places.taken == 0)
        with connected(server) as client:
            client.request("/a")
            assert client.response().body == b"hello /a"


def test_refused_connections_are_few_lines_of_the_log(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    logs.expect("too many connections: closed before the handshake$")
    logs.expect(r"too many connections: closed before the handshake \(… 3 more lines like it\)")
    monkeypatch.setattr(_log, "_REST", 0.05)
    monkeypatch.setattr(_log, "monotonic", lambda: 1.0)  # no second passes
    with serving(hello, limits={"connections": 1}, certs=certs()) as server, connected(server) as first:
        first.request("/a")
        assert first.response().status == 200
        for _ in range(5):
            with Raw.connect(server) as client:
                client.eof()
        until(lambda: len(logs.lines) == 2)


def test_refused_connections_linger_in_small_numbers() -> None:
    sockets = []
    with serving(hello, limits={"connections": 1}) as server, Raw.connect(server) as first:
        first.request("/a")
        assert first.response().status == 200
        before = scheduler.loop.registered()
        try:
            for _ in range(150):
                sockets.append(sock := socket.create_connection(("127.0.0.1", server.port), WITHIN / 1000))
                sock.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")  # it comes before the server looks
            until(lambda: server._refused == 100)
            turns()
            assert scheduler.loop.registered() == before + 100
        finally:
            for sock in sockets:
                sock.close()
        until(lambda: not server._refused)
        assert scheduler.loop.registered() == before
