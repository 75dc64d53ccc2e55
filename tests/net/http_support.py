"""What the tests of the HTTP server share: handlers that the test steers, TLS in front of them, clients that take little."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from silly import check
from silly._wire.lines import take
from silly.net import tcp, tls
from silly.net._stream import Stream
from silly.sync import channel

from ..helpers import WITHIN, Raw
from . import authorities


class Held:
    """A handler that hands each stream to the test (``pop``), which does with it what it likes; at ``release`` the handler
    returns, and answers what has no answer."""

    def __init__(self) -> None:
        self._streams = channel.new()
        self._waiting: deque[Any] = deque()
        self._released = False

    def handler(self, stream: Any) -> None:
        go = channel.new()
        self._waiting.append(go)
        self._streams.push(stream)
        if not self._released:
            go.pop()
        stream.respond(200)

    def pop(self) -> Any:
        """The stream of the next request, once that has come."""
        stream, _ = self._streams.pop()
        return stream

    def count(self) -> int:
        """How many requests came and were not taken by ``pop``."""
        return len(self._streams)

    def go(self) -> None:
        """Lets the handler that waits longest return."""
        self._waiting.popleft().close()

    def release(self) -> None:
        """Lets the handlers return, those that are still to come too."""
        self._released = True
        while self._waiting:
            self.go()


def hello(stream: Any) -> None:
    stream.respond(200, {"content-type": "text/plain"})
    stream.close(f"hello {stream.path}")


def certs() -> list[Any]:
    """For ``serving(handler, certs=certs())``."""
    return [authorities.server().entry]


def connected(server: Any) -> Raw:
    """A client of ``server``, over TLS if that speaks it."""
    if server.scheme == "http":
        client: Raw = Raw.connect(server)
        return client
    return Raw(check(tls.connect(f"127.0.0.1:{server.port}", "localhost", ca=authorities.root().pem)))


def small(server: Any) -> Raw:
    """A client whose system takes little before the client itself reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.connect(("127.0.0.1", server.port))
    sock.setblocking(False)
    client = Raw(tcp.Conn(Stream(sock, f"127.0.0.1:{server.port}")))
    client.conn.limit(1)  # nothing is read ahead
    return client


def all_of(client: Raw) -> tuple[bytes, str | None]:
    """What comes until the end, and how that came."""
    stream = client.conn._stream
    got = bytearray()
    while True:
        data, err = client.conn.read(1, WITHIN)
        if data is None:
            return bytes(got), err
        got += data + take(stream.buf, len(stream.buf))
