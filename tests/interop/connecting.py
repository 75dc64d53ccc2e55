"""Our client, connected to a scenario of a third party's server."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from silly import Limits, check
from silly.net import websocket

from .peers import Peer

READ = 15_000
DEFAULT = Limits()
_ids = itertools.count(1)


class Connection:
    """Our socket, and ``outcome()``: what the server's handler tells at its end."""

    def __init__(self, server: Peer, sock: websocket.Socket, tag: str) -> None:
        self._server = server
        self.sock = sock
        self._tag = tag

    def read(self) -> tuple[Any, str]:
        """The next message or control frame; a failure is one of the test."""
        data, typ = self.sock.read(READ)
        assert data is not None, typ
        return data, typ

    def outcome(self) -> Any:
        """Waits for the end of the server's handler."""
        return self._server.expect(self._tag)


def scenario(server: Peer, path: str, port: int, scheme: str = "ws", **query: Any) -> tuple[str, str]:
    """The URL of a scenario, and the tag of its outcome."""
    tag = f"{path}-{next(_ids)}"
    return f"{scheme}://127.0.0.1:{port}/{path}?{urlencode({'id': tag, **query})}", tag


@contextlib.contextmanager
def connected(
    server: Peer,
    path: str,
    header: Any = None,
    ca: str | None = None,
    limits: Limits = DEFAULT,
    port: int | None = None,
    compression: Any = False,
    subprotocols: Any = (),
    **query: Any,
) -> Iterator[Connection]:
    """A connection with a scenario of the server; ``port`` is that of a relay to it."""
    plain, secure, *_ = server.ports()
    url, tag = scenario(server, path, port or (secure if ca else plain), "wss" if ca else "ws", **query)
    options: Any = {"compression": compression, "subprotocols": subprotocols, "limits": limits}
    sock = check(websocket.connect(url, header, ca=ca, timeout=READ, **options))
    with sock:
        yield Connection(server, sock, tag)
