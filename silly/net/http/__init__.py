"""HTTP/1.0 and 1.1: server and client.

    def handler(stream):
        stream.respond(200, {"content-type": "text/plain"})
        stream.closewrite("Hello, " + (stream.query["name"] or "World"))

    server, err = http.listen(addr=":8080", handler=handler)

    response, err = http.get("http://127.0.0.1:8080/?name=you")
    if response is not None:
        print(response.status, response.text)

Each connection has a task, which runs the handler request after request. Requests are
parsed strictly (RFC 9112), and ``silly.Limits`` bounds them. When the handler returns,
the response ends. ``stream.close`` is the older name of ``stream.closewrite``. The
guide is ``docs/http.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..._core import scheduler
from ..._core.result import returns_pair
from ..._shown import shown
from ..._wire.header import TOKEN, Header
from ..._wire.limits import DEFAULT, Limits, check_limits
from .._binding import Rights
from .._handler import check_handler
from .._settings import settings
from ._clientstream import ClientStream
from ._error import Phase, RequestError
from .accesslog import AccessLog
from .client import Client, newclient
from .files import sendfile
from .h1 import RequestHandler, ServerStream
from .response import Response
from .routes import Router, router
from .server import Server

__all__ = [
    "AccessLog", "Client", "ClientStream", "Header", "Phase", "RequestError", "Response", "Router", "Server",
    "ServerStream", "closeidle", "fetch", "get", "listen", "newclient", "post", "request", "router", "sendfile",
]  # fmt: skip

_loop = scheduler.loop
_client = newclient()
fetch = _client.fetch
get = _client.get
post = _client.post
request = _client.request
closeidle = _client.closeidle
"""The calls of a client with the default settings."""


@returns_pair("http.listen", "server")
@settings("http.listen")
def listen(
    addr: str | Mapping[str, Any],
    handler: RequestHandler | None = None,
    tls: bool = False,
    certs: Sequence[Mapping[str, Any]] | None = None,
    alpnprotos: Sequence[str] | None = None,
    backlog: int | None = None,
    *,
    ca: str | bytes | None = None,
    verify: str | None = None,
    methods: Sequence[str] = (),
    accesslog: str | AccessLog | None = None,
    mode: int | None = None,
    owner: str | tuple[int, int] | None = None,
    reuseport: bool = False,
    trusted: Iterable[str] | None = None,
    forwarded: str | None = None,
    proxy: bool = False,
    limits: Limits = DEFAULT,
) -> tuple[Server, None] | tuple[None, str]:
    """Serves HTTP on ``addr``: each connection has a task, which runs
    ``handler(stream)`` for each request.

        def handler(stream):
            stream.respond(200, {"content-type": "text/plain"})
            stream.closewrite("Hello")

        server, err = http.listen(addr="127.0.0.1:8080", handler=handler)

    Returns ``(server, None)``, and logs where it listens; or ``(None, err)`` if it
    cannot listen, and logs that.

    * ``addr``, ``mode``, ``owner``, ``reuseport``: as for ``silly.net.tcp.listen``:
      ``"127.0.0.1:80"``, ``":80"``, ``"localhost:80"``, or ``"unix:/path"``, with who
      may connect
    * ``handler``: a function that gets a ``ServerStream``, or a ``Router``
    * ``certs``: serves HTTPS and WSS instead, with ``tls=True`` or without. ``certs``,
      ``ca`` and ``verify`` (client certificates) are those of ``silly.net.tls.listen``
    * ``alpnprotos``: the protocols to offer, without ``"h2"``, which is not supported
    * ``backlog``: connections that the kernel queues
    * ``methods``: TRACE and CONNECT, if the handler serves them. Else they are answered
      501, unless the handler is a router with a route for them
    * ``accesslog``: ``"common"``, ``"combined"`` or ``"json"`` logs each request to
      standard error; or an ``AccessLog``
    * ``limits``: what peers may send, and how long they may take
    * ``trusted``: the networks of the proxies in front, such as ``["10.0.0.0/8",
      "::1"]``, and ``"unix"`` for the peers of a Unix domain socket. It needs one of
      the next two
    * ``forwarded``: ``"x-forwarded-for"`` or ``"forwarded"`` (RFC 7239), the field in
      which these proxies say whom a request comes from. ``stream.remoteaddr`` is then
      the rightmost address there that isn't trusted, and ``stream.scheme`` what
      X-Forwarded-Proto or ``proto=`` says. The fields of other peers mean nothing
    * ``proxy``: True if these proxies speak the PROXY protocol: see
      ``silly.net.tcp.listen``

    With ``trusted``, the limit ``address_connections`` doesn't count the addresses of
    the proxies. It counts each request that came through them while it is served, under
    its client's address, and answers 503 past it. ``docs/deploying.md`` says more.

    A dict with these keys may be given instead. Raises TypeError or ValueError for bad
    arguments.
    """
    if _loop.no_switch:
        scheduler.refuse("http.listen")
    assert not isinstance(addr, Mapping)  # ``settings`` has replaced a dict by its items
    if not callable(handler):
        raise TypeError("http.listen needs a handler: a function that gets the stream")
    check_handler("http.listen", handler, "stream")
    check_limits(limits)
    if not certs and (tls or certs is not None):
        raise ValueError("http.listen with TLS needs certs")  # an empty list too: it must not mean plain HTTP
    if not certs and (ca is not None or verify is not None):
        raise ValueError("http.listen: ca and verify are for TLS, which needs certs")
    if isinstance(methods, str):
        raise TypeError("http.listen: methods is a list of names, not a str")
    for method in methods:
        if not isinstance(method, str) or not TOKEN.fullmatch(method) or method != method.upper():
            raise ValueError(f"http.listen: bad method {shown(method)}: methods are tokens in upper case")
    if isinstance(accesslog, str):
        accesslog = AccessLog(accesslog)
    elif accesslog is not None and not isinstance(accesslog, AccessLog):
        raise TypeError(f"accesslog is a form or an AccessLog, not {type(accesslog).__name__}")
    protos = ["http/1.1", "http/1.0"] if alpnprotos is None else [proto for proto in alpnprotos if proto != "h2"]
    if not protos:
        raise ValueError("http.listen: alpnprotos names no protocol that is supported; HTTP/2 is not")
    routed = getattr(handler, "methods", None)  # a router's; another handler may mean something else by it
    asked = frozenset(methods) | (routed if isinstance(routed, frozenset) else frozenset())
    networks = proxies = None
    if trusted is not None or forwarded is not None or proxy is not False:
        from ._forwarded import check_proxies

        networks = check_proxies(trusted, forwarded, proxy)
        proxies = networks if proxy else None
    server = Server(handler, "https" if certs else "http", limits, asked, accesslog, networks, forwarded)
    err = server._start(addr, certs, protos, backlog, ca, verify, Rights(mode, owner, reuseport), proxies)
    return (server, None) if err is None else (None, err)
