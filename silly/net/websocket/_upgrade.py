"""The server's side of the opening handshake (RFC 6455, section 4.2)."""

from __future__ import annotations

from typing import Any

from ... import logger
from ..._core.result import returns_pair
from ..._wire import deflate, handshake
from ..._wire.deflate import Deflate
from ..._wire.error import ProtocolError
from ..._wire.handshake import Origins, Subprotocols
from ..._wire.header import Outgoing
from ..._wire.limits import Limits, check_limits
from ..http.h1 import ServerStream
from ._session import Session
from ._socket import Socket


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
    """Makes a WebSocket of an HTTP request that asks for one; leave ``stream`` alone after that, but for reading its fields.

    ``(None, err)`` when the request is no valid upgrade, or comes from a page that isn't allowed: then it has been answered
    with the right status. To refuse one yourself, answer it instead: ``stream.respond(401, {...})``. The socket is closed
    when the handler returns: 1000, or 1011 if it raised.

    ``header``: more fields for the 101, cookies for one. ``subprotocols``: names in the order of preference, or a function of
    the list that the client offers, which returns one of them or None; ``sock.subprotocol`` is the choice. ``origins``: which
    pages may connect when the request comes from one (it has an Origin): by default those of the same host; a list such as
    ``["https://example.com"]``; a compiled pattern; False for any. ``compression``: True, or options of ``Deflate`` (RFC
    7692). ``limits``: others than those of ``http.listen``. Raises TypeError or ValueError for what these can't be.

        sock, err = websocket.upgrade(stream, subprotocols=["chat.v2", "chat"], header={"set-cookie": "seen=1"})
    """
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
    except ProtocolError as exc:
        return None, _refuse(stream, exc)
    subprotocol = handshake.choose_subprotocol(offered, subprotocols)
    answer = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)]
    if subprotocol is not None:
        answer.append(("sec-websocket-protocol", subprotocol))
    if agreed is not None:
        answer.append(("sec-websocket-extensions", agreed[1]))
    conn = stream._hijack(101, answer + fields)
    if limits is not None:
        conn._stream.limits = limits
        conn._stream.set_mark(limits.receive_mark)
    parameters = agreed[0] if agreed else None
    session = Session(conn._stream, True, limits or stream.limits, parameters, options)
    stream._hand_over(session)
    return Socket(session, conn, stream, subprotocol, parameters), None


def _refuse(stream: ServerStream, exc: ProtocolError) -> str:
    """Answers a request that is no valid upgrade, and ends the connection: what follows may be frames."""
    logger.info(f"websocket: {stream.remoteaddr}: upgrade refused: {exc.text}")
    header = {"content-type": "text/plain"}
    if exc.code == 426:
        header |= {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": handshake.VERSION}
    elif exc.code == 405:
        header |= {"allow": "GET"}
    header["connection"] = f"{header.get('connection', '')}, close"
    stream.respond(exc.code, header)
    stream.closewrite(exc.text.encode("ascii", "backslashreplace") + b"\n")
    return exc.text
