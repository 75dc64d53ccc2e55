"""HTTP (upstream: ``silly.net.http``): the server for HTTP/1.0 and 1.1.

    def handler(stream):
        stream.respond(200, {"content-type": "text/plain"})
        stream.close("Hello, " + (stream.query["name"] or "World"))

    server, err = http.listen(addr=":8080", handler=handler)

Each connection is served by a task of its own, which runs the handler request after request. Requests are parsed strictly
(RFC 9112), and bounded by ``silly.Limits``. Returning from the handler ends the response. ``stream.closewrite(body)`` is
today's name of ``stream.close(body)``: both work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..._core.result import Result
from ..._wire.header import Header
from ..._wire.limits import DEFAULT, Limits
from .. import tcp
from .._listener import Listener
from .h1 import Connection, Handler, ServerStream, refuse_busy

__all__ = ["Header", "Server", "ServerStream", "listen"]


class Server:
    """A listening server. ``addr`` and ``port`` tell where, with the real port. A context manager that closes it."""

    def __init__(self, handler: Handler, scheme: str, limits: Limits) -> None:
        self._handler = handler
        self._scheme = scheme
        self._limits = limits
        self._listener: Listener | None = None
        self._connections: set[Connection] = set()
        self._by_address: dict[str, int] = {}
        self._closing = False

    @property
    def addr(self) -> str:
        """Where it listens, with the real port."""
        assert self._listener is not None
        return self._listener.addr

    @property
    def port(self) -> int:
        """The real port; 0 for a Unix domain socket."""
        assert self._listener is not None
        return self._listener.port

    def close(self) -> Result:
        """Stops listening. Idle connections close now, others after the request that they serve; WebSockets stay."""
        assert self._listener is not None
        return self._listener.close()

    def _closed(self) -> None:
        self._closing = True
        for connection in list(self._connections):
            connection.close_idle()

    def _accept(self, conn: tcp.Conn) -> None:
        limits = self._limits
        host = conn.remoteaddr.rpartition(":")[0]
        count = self._by_address.get(host, 0)
        if (limits.connections and len(self._connections) >= limits.connections) or (
            limits.address_connections and count >= limits.address_connections
        ):
            refuse_busy(conn)
            return
        connection = Connection(conn, self._handler, self._scheme, limits)
        connection.closing = self._closing  # when it was accepted, or shook hands, while the server closed
        self._connections.add(connection)
        if limits.address_connections:
            self._by_address[host] = count + 1
        try:
            connection.serve()
        finally:
            self._connections.discard(connection)
            if limits.address_connections:
                self._by_address[host] -= 1
                if not self._by_address[host]:
                    del self._by_address[host]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<http server {self._listener!r}>"


def listen(
    addr: str | Mapping[str, Any],
    handler: Handler | None = None,
    tls: bool = False,
    certs: Sequence[Mapping[str, Any]] | None = None,
    alpnprotos: Sequence[str] | None = None,
    backlog: int | None = None,
    *,
    limits: Limits = DEFAULT,
) -> tuple[Server, None] | tuple[None, str]:
    """Serves HTTP on ``addr``; ``handler(stream)`` runs for each request.

    ``(server, None)`` or ``(None, err)``, which is logged too. ``certs`` (see ``silly.net.tls.listen``) means HTTPS and WSS,
    with ``tls=True`` or without. A dict with these keys may be given instead.
    """
    if isinstance(addr, Mapping):
        others = handler, tls or None, certs, alpnprotos, backlog, limits if limits is not DEFAULT else None
        tcp.config_alone("http.listen", *others)
        return listen(**addr)
    if not callable(handler):
        raise TypeError("http.listen needs handler, a function that gets the stream")
    if not isinstance(limits, Limits):
        raise TypeError(f"limits is a silly.Limits, not {type(limits).__name__}")
    if not certs and (tls or certs is not None):
        raise ValueError("http.listen with TLS needs certs")  # an empty list too: it must not mean plain HTTP
    server = Server(handler, "https" if certs else "http", limits)
    if certs:
        # Loaded when used: OpenSSL's modules take longer to import than all of ours.
        from ..tls import listen as tls_listen

        listener, err = tls_listen(addr, certs, server._accept, backlog, alpnprotos, limits=limits)
    else:
        listener, err = tcp.listen(addr, server._accept, backlog, limits=limits)
    if listener is None:
        assert err is not None
        return None, err
    server._listener = listener
    listener.on_close = server._closed
    return server, None
