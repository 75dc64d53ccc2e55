"""Clients of a handler that listens nowhere: see ``testing.http``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._core import scheduler
from .._core.loop import monotonic
from .._core.result import returns_pair
from .._wire import deflate, handshake
from .._wire.deflate import Deflate
from .._wire.header import Outgoing
from .._wire.limits import DEFAULT, Limits, check_limits
from .._wire.url import WEBSOCKET, Url, parse_url
from ..net._handler import check_handler
from ..net.http import Client, newclient
from ..net.http._error import RequestError
from ..net.http.h1 import RequestHandler
from ..net.http.server import Server
from ..net.tcp import Conn
from ..net.websocket import Socket
from ..net.websocket._connect import make_offer, shake_hands
from ._pairs import pair

HOST = "test"
"""The host of a URL that is only a path."""


class HandlerClient(Client):
    """What ``testing.http`` returns: an ``http.Client`` whose connections all lead to
    one handler. A URL may be only a path."""

    def __init__(self, handler: RequestHandler, limits: Limits, options: dict[str, Any]) -> None:
        # The defaults are those of ``newclient``.
        vars(self).update(vars(newclient(limits=limits, **options)))
        self._pool._dial = self._dial
        self._code = getattr(handler, "__code__", None)
        routed = getattr(handler, "methods", None)
        methods = routed if isinstance(routed, frozenset) else frozenset()
        self._server = Server(handler, "http", limits, methods, None)

    def connect(self) -> Conn:
        """Returns a new connection that the handler serves, for what a client would not
        send. Never waits.

            with testing.http(handler) as client:
                conn = client.connect()
                conn.write("GET / HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n")
                conn.read("\\r\\n")           # -> (b"HTTP/1.1 200 OK\\r\\n", None)
                conn.close()
        """
        client, server = pair(limits=self._limits)
        # As for a listener: with no context variables, in a task that serves.
        scheduler.fork(self._server._serve, (server,), None, self._code, 0, serves=True)
        return client

    def _dial(self, url: Url) -> tuple[Conn, None] | tuple[None, RequestError]:
        if url.scheme != "http":
            return None, RequestError("testing.http serves without TLS", "connect", None)
        return self.connect(), None

    def _parsed(self, what: str, method: str, url: str) -> Url | RequestError:
        if isinstance(url, str) and url.startswith("/"):
            url = f"http://{HOST}{url}"
        return super()._parsed(what, method, url)

    @returns_pair("client.websocket", "sock")
    def websocket(
        self,
        path: str = "/",
        header: Outgoing | None = None,
        *,
        subprotocols: Sequence[str] = (),
        compression: bool | dict[str, Any] | Deflate = False,
    ) -> tuple[Socket, None] | tuple[None, str]:
        """Opens a WebSocket with the handler, as ``websocket.connect`` would. Returns
        ``(sock, None)``, or ``(None, err)`` if the handler refuses it.

            with testing.http(handler) as client:
                sock, err = client.websocket("/chat")

        The options are those of ``websocket.connect``, and it raises the same.
        """
        if scheduler.loop.no_switch:
            scheduler.refuse("client.websocket")
        url = path if "://" in path else f"ws://{HOST}{path}"
        parsed = parse_url(url, WEBSOCKET)
        if isinstance(parsed, str):
            return None, f"client.websocket {url}: {parsed}"
        offer = make_offer(parsed, header, handshake.check_subprotocols(subprotocols), deflate.deflate_options(compression))
        limits = self._limits
        bound = f"(the limit 'handshake_timeout' is {limits.handshake_timeout} ms)"
        due = monotonic() + limits.handshake_timeout / 1000
        return shake_hands(self.connect(), url, offer, parsed, due, bound, limits)

    def close(self) -> None:
        """Closes the client, and the server's side of idle connections. WebSockets
        stay. The end of a ``with`` block does the same.

            client = testing.http(handler)
            client.get("/")
            client.close()
        """
        super().close()
        self._server._closing = True
        for connection in list(self._server._connections):
            connection.end()

    def __enter__(self) -> HandlerClient:
        return self


def http(handler: RequestHandler, *, limits: Limits = DEFAULT, **options: Any) -> HandlerClient:
    """Returns an HTTP client whose requests ``handler`` answers, without a port: each
    connection is a ``pair``. ``handler`` is what ``http.listen`` gets, a function of
    the stream or a router.

        def handler(stream):
            stream.respond(200)
            stream.closewrite("Hello from " + stream.path)

        with testing.http(handler) as client:
            response, err = client.get("/greeting")
            response.text                   # -> "Hello from /greeting"

    It is an ``http.Client``, with one call more: ``client.websocket(path)``. A URL may
    be only a path; any host leads to the handler. ``options`` are those of
    ``http.newclient``, and ``limits`` are those of both sides. Raises TypeError or
    ValueError for bad arguments.
    """
    if not callable(handler):
        raise TypeError(f"testing.http needs a handler: a function that gets the stream, not {type(handler).__name__}")
    check_handler("testing.http", handler, "stream")
    check_limits(limits)
    return HandlerClient(handler, limits, options)


@returns_pair("testing.websocket", "sock")
def websocket(
    handler: RequestHandler,
    path: str = "/",
    header: Outgoing | None = None,
    *,
    subprotocols: Sequence[str] = (),
    compression: bool | dict[str, Any] | Deflate = False,
    limits: Limits = DEFAULT,
) -> tuple[Socket, None] | tuple[None, str]:
    """Opens a WebSocket with ``handler``, which ``http.listen`` would get, without a
    port. Returns ``(sock, None)``, or ``(None, err)`` if the handler refuses it.

        def echo(stream):
            sock, err = websocket.upgrade(stream)
            if sock is not None:
                data, typ = sock.read()
                sock.write(data, typ)

        sock, err = testing.websocket(echo)
        sock.write("hello", "text")
        sock.read()                         # -> ("hello", "text")
        sock.close()

    The other arguments are those of ``websocket.connect``, and it raises the same.
    """
    return http(handler, limits=limits).websocket(path, header, subprotocols=subprotocols, compression=compression)
