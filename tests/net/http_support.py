"""What the tests of the HTTP server share: handlers that the test steers, and TLS in front of them."""

from __future__ import annotations

from collections import deque
from typing import Any

from silly import check
from silly.net import tls
from silly.sync import channel

from ..helpers import Raw
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
