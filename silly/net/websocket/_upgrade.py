"""The server's side of the opening handshake (RFC 6455, section 4.2)."""

from __future__ import annotations

from typing import Any

from ..._core import scheduler
from ..._core.result import returns_pair
from ..._log import websocket as logger
from ..._wire import deflate, handshake
from ..._wire.deflate import Deflate
from ..._wire.error import ProtocolError
from ..._wire.handshake import Origins, Subprotocols
from ..._wire.header import Header, Outgoing
from ..._wire.limits import Limits, check_limits
from ..http.h1 import ServerStream
from ._session import Session
from ._socket import Socket

_ALIKE = frozenset(
    (
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "host",
        "origin",
        "pragma",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-websocket-extensions",
        "sec-websocket-version",
        "user-agent",
    )
)
"""Fields whose values many requests have in common. None of them is a secret."""
_SHARED = 256
"""The most values that are kept for them, and the longest one, in characters."""

_shared: dict[str, str] = {}
_loop = scheduler.loop


@returns_pair("websocket.upgrade", "sock")
def upgrade(
    stream: ServerStream,
    *,
    header: Outgoing | None = None,
    subprotocols: Subprotocols = None,
    origins: Origins = None,
    compression: bool | dict[str, Any] | Deflate = False,
    limits: Limits | None = None,
) -> tuple[Socket, None] | tuple[None, str]:
    """Makes a WebSocket of an HTTP request that asks for one (RFC 6455, section 4.2).
    From then on only the fields of ``stream`` may be used.

        sock, err = websocket.upgrade(stream, subprotocols=["chat.v2", "chat"])
        if sock is not None:
            sock.write("hello", "text")

    * ``header``: more fields of the 101, such as cookies.
    * ``subprotocols``: names, best first, or a function that gets the list of those
      offered and returns one of them or None. ``sock.subprotocol`` is the choice.
    * ``origins``: the pages that may connect, by their Origin: a list such as
      ``["https://example.com"]``, a compiled pattern, or False for all. By default
      those of the same host. A request without Origin passes.
    * ``compression``: True, or options of ``Deflate``, to accept it (RFC 7692).
    * ``limits``: in place of those of ``http.listen``.

    Returns ``(sock, None)``, or ``(None, err)`` if the request isn't a valid upgrade or
    its page isn't allowed; then it was answered with the right status: 503 with
    Retry-After when the server drains or the process ends. To refuse a
    request yourself, answer it: ``stream.respond(401, {...})``. After any answer but
    the 101 the connection ends, since frames may follow. When the handler returns, the
    socket is closed with 1000, or with 1011 if the handler raised. Raises TypeError or
    ValueError for invalid arguments.
    """
    if _loop.no_switch:
        scheduler.refuse("websocket.upgrade")
    if not isinstance(stream, ServerStream):
        raise TypeError(f"websocket.upgrade needs the stream of an HTTP handler, not {type(stream).__name__}")
    fields = handshake.extra_fields(header or ())
    if subprotocols is not None and not callable(subprotocols):
        subprotocols = handshake.check_subprotocols(subprotocols)
    handshake.check_origins(origins)
    options = deflate.deflate_options(compression)
    if limits is not None:
        check_limits(limits)
    if stream._status:
        return None, "the request has been answered already"
    try:
        accept = handshake.check_request(stream.method, stream.version, stream.header, stream._body)
        handshake.check_origin(stream.header, origins)
        offered = handshake.offered_subprotocols(stream.header)
        agreed = deflate.negotiate(stream.header["sec-websocket-extensions"], options)
        if stream._going is not None:
            raise ProtocolError("the server is going away", 503)
    except ProtocolError as exc:
        return None, _refuse(stream, exc)
    subprotocol = handshake.choose_subprotocol(offered, subprotocols)
    answer = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)]
    if subprotocol is not None:
        answer.append(("sec-websocket-protocol", subprotocol))
    if agreed is not None:
        answer.append(("sec-websocket-extensions", agreed[1]))
    conn = stream._hijack(101, answer + fields)
    stream.method = "GET"  # one object for all sockets
    conn._stream.remoteaddr = stream.remoteaddr  # log lines name the client, not a proxy before it
    _share(stream.header)
    if limits is not None:
        conn._stream.limits = limits
        conn._stream.set_mark(limits.receive_mark)
    parameters = agreed[0] if agreed else None
    session = Session(conn._stream, True, limits or stream.limits, parameters, options)
    stream._hand_over(session)
    return Socket(session, conn, stream, subprotocol, parameters), None


def _share(header: Header) -> None:
    """Replaces values of a request by equal ones that other sockets hold already: a
    socket keeps its request for hours, and browsers of one kind send the same ones.
    """
    for name in _ALIKE.intersection(header):
        value = dict.__getitem__(header, name)
        if len(value) <= _SHARED:
            if len(_shared) >= _SHARED:
                _shared.clear()  # otherwise one peer could fill it for good
            dict.__setitem__(header, name, _shared.setdefault(value, value))


def _refuse(stream: ServerStream, exc: ProtocolError) -> str:
    """Answers a request that isn't a valid upgrade, and ends the connection, since
    frames may follow. Returns the error.
    """
    text = f"websocket: {stream.remoteaddr}: upgrade refused: {exc.text}"
    if stream._going is not None:
        logger.limited("websocket late", text, logger.DEBUG)
    elif "upgrade" in stream.header:
        logger.limited("websocket refused", text)
    else:
        logger.limited("websocket probe", text, logger.DEBUG)  # such as a health check, which asks for a page
    header = {"content-type": "text/plain"}
    if exc.code == 426:
        header |= {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": handshake.VERSION}
    elif exc.code == 405:
        header |= {"allow": "GET"}
    elif exc.code == 503 and stream._going is not None:
        header |= {"retry-after": str(stream._going.retry_after())}
    header["connection"] = f"{header.get('connection', '')}, close"
    stream.respond(exc.code, header)
    stream.closewrite(exc.text.encode("ascii", "backslashreplace") + b"\n")
    return exc.text
