"""The client's side of the opening handshake (RFC 6455, section 4.1)."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from ... import errno
from ..._core import scheduler
from ..._core.loop import monotonic
from ..._core.result import OwnMembers, returns_pair
from ..._shown import cut, shown
from ..._wire import deflate, handshake
from ..._wire.deflate import Deflate
from ..._wire.error import ProtocolError
from ..._wire.header import Header, Outgoing, compose, one_cookie, split_list
from ..._wire.http1 import (
    ResponseHead,
    ResponseReader,
    request_head,
    response_body_length,
)
from ..._wire.limits import DEFAULT, Limits, check_limits
from ..._wire.url import WEBSOCKET, Url, hidden, parse_url
from .._stream import Stream
from ..http._body import Incoming
from ..http.h1 import Query, parse_query
from ..tcp import Conn
from ..tcp import connect as tcp_connect
from ._session import Session
from ._socket import Socket

_loop = scheduler.loop

BODY = 4096
"""The most bytes of a refusal's body that ``HandshakeError`` carries."""
BODY_WAIT = 1.0
"""Seconds to wait for a refusal's body, since the refusal itself is known already."""


class HandshakeError(str, metaclass=OwnMembers):
    """The error of ``connect`` if the server's answer was not a valid 101.

    A ``str``, with the ``status`` (int), the ``header`` and the first 4 KiB of the
    ``body`` (bytes) of that answer.
    """

    __slots__ = ("body", "header", "status")

    status: int
    header: Header
    body: bytes

    def __new__(cls, text: str, status: int, header: Header, body: bytes) -> HandshakeError:
        error = super().__new__(cls, text)
        error.status, error.header, error.body = status, header, body
        return error

    def __reduce__(self) -> tuple[type[HandshakeError], tuple[object, ...]]:
        return HandshakeError, (str(self), self.status, self.header, self.body)  # for ``copy`` and ``pickle``


class Handshake:
    """The HTTP side of a client's WebSocket, ``sock.stream``.

    ``method``, ``path``, ``query``, ``scheme`` and ``version`` are those of the request
    that was sent; ``status`` and ``header`` are those of the answer. ``conn`` is the
    connection, ``remoteaddr`` the server's address as text.
    """

    __slots__ = ("conn", "header", "method", "path", "remoteaddr", "scheme", "status", "version")

    def __init__(self, conn: Conn, scheme: str, path: str, status: int, header: Header) -> None:
        self.conn = conn
        self.remoteaddr = conn.remoteaddr
        self.scheme = scheme
        self.method = "GET"
        self.path = path
        self.version = "HTTP/1.1"
        self.status = status
        self.header = header

    @property
    def query(self) -> Query:
        """The query parameters of the URL, decoded; None for one that is missing."""
        return parse_query(self.path.partition("?")[2])


class HandshakeOffer(NamedTuple):
    """What was asked for, to check the answer."""

    request: bytes
    key: str
    subprotocols: list[str]
    deflate: Deflate | None


@returns_pair("websocket.connect", "sock")
def connect(
    url: str,
    header: Outgoing | None = None,
    *,
    subprotocols: Sequence[str] = (),
    compression: bool | dict[str, Any] | Deflate = False,
    ca: str | bytes | None = None,
    verify: bool = True,
    timeout: float | None = None,
    limits: Limits = DEFAULT,
) -> tuple[Socket, None] | tuple[None, str]:
    """Connects to ``ws://`` or ``wss://[user:password@]host[:port]/path`` and does the
    opening handshake (RFC 6455, section 4.1). ``timeout`` ms bounds both together;
    without one the handshake alone is bounded, by 10 s (limit ``handshake_timeout``).

        sock, err = websocket.connect("ws://127.0.0.1:8080/chat", timeout=5000)
        if sock is not None:
            sock.write("hello", "text")

    * ``header``: more header fields, or another ``host``. Fields of the handshake
      itself are left out. User and password of the URL go out as basic authentication.
    * ``subprotocols``: names to offer, best first; ``sock.subprotocol`` is the choice.
    * ``compression``: True, or options of ``Deflate``, to offer it (RFC 7692).
    * ``ca`` and ``verify``: as for ``silly.net.tls.connect``.

    Returns ``(sock, None)``, or ``(None, err)``, also for an invalid URL. If the server
    answered something else than a valid 101, ``err`` is a ``HandshakeError``. Raises
    TypeError or ValueError for invalid arguments, such as header fields that may not be
    sent.
    """
    if _loop.no_switch:
        scheduler.refuse("websocket.connect")
    options = deflate.deflate_options(compression)
    offered = handshake.check_subprotocols(subprotocols)
    check_limits(limits)
    if not isinstance(url, str):
        raise TypeError(f"websocket.connect needs a URL, not {type(url).__name__}")
    parsed = parse_url(url, WEBSOCKET)
    if isinstance(parsed, str):
        return None, f"websocket.connect {shown(hidden(url))}: {parsed}"
    offer = make_offer(parsed, header, offered, options)
    begin = monotonic()
    target = parsed.target
    conn: Conn | None
    if parsed.scheme == "wss":
        # Imported here, because OpenSSL's modules take longer to import than all of
        # ours.
        from ..tls import connect_explained

        conn, err = connect_explained(
            target, parsed.host, ["http/1.1"], ca=ca, verify=verify, timeout=timeout, limits=limits
        )
    else:
        conn, err = tcp_connect(target, None, timeout, limits=limits)
    if conn is None:
        return None, f"websocket.connect {cut(hidden(url))}: {err}"
    if timeout is None:
        deadline = monotonic() + limits.handshake_timeout / 1000
        bound = f"(the limit 'handshake_timeout' is {limits.handshake_timeout} ms)"
    else:
        deadline, bound = begin + timeout / 1000, f"(the time-out was {timeout:g} ms)"
    return shake_hands(conn, url, offer, parsed, deadline, bound, limits)


def shake_hands(
    conn: Conn, url: str, offer: HandshakeOffer, parsed: Url, deadline: float, bound: str, limits: Limits
) -> tuple[Socket, None] | tuple[None, str]:
    """``connect`` from where ``conn`` is connected. ``bound`` says in words what set
    the deadline, which is in seconds of ``monotonic()``."""
    try:
        sock = _handshake(conn, offer, parsed, deadline, bound, limits)
    except BaseException:
        conn.close()
        raise
    if isinstance(sock, Socket):
        return sock, None
    conn._stream.abort()  # what we wrote need not arrive any more
    text = f"websocket.connect {cut(hidden(url))}: {sock}"
    if isinstance(sock, HandshakeError):
        return None, HandshakeError(text, sock.status, sock.header, sock.body)
    return None, text


def make_offer(url: Url, header: Outgoing | None, subprotocols: list[str], options: Deflate | None) -> HandshakeOffer:
    key = base64.b64encode(os.urandom(16)).decode("ascii")
    own = handshake.request_fields(key)
    names = {name for name, _ in own}
    extra = [(name, value) for name, value in one_cookie(compose(header or ())) if name not in names]
    given = {name for name, _ in extra}
    for name in ("content-length", "transfer-encoding", "sec-websocket-extensions"):
        if name in given:
            raise ValueError(f"a WebSocket handshake can't have the header {shown(name)}")
    if "host" not in given:
        own.insert(0, ("host", url.host_field))
    if url.authorization is not None and "authorization" not in given:
        own.append(("authorization", url.authorization))
    if options is not None:
        own.append(("sec-websocket-extensions", deflate.offer(options)))
    named = [token for name, value in extra if name == "sec-websocket-protocol" for token in split_list(value)]
    if named and subprotocols:
        raise ValueError("subprotocols are given twice: as an argument and in the header")
    if subprotocols:
        own.append(("sec-websocket-protocol", ", ".join(subprotocols)))
    return HandshakeOffer(request_head("GET", url.path, own + extra), key, named or subprotocols, options)


def _handshake(conn: Conn, offer: HandshakeOffer, url: Url, deadline: float, bound: str, limits: Limits) -> Socket | str:
    """Returns the socket or the error. ``deadline`` and ``bound`` as in
    ``shake_hands``."""
    stream = conn._stream
    stream.write(offer.request)
    responses = ResponseReader(limits, upgrade=True)
    response: ResponseHead | None = None
    try:
        while (response := responses.next(stream.buf)) is None:
            err = stream.fill(len(stream.buf) + 1, deadline)
            if err is not None:
                if err is errno.TIMEDOUT and scheduler.expired():
                    return scheduler.ran_out("the handshake")
                return f"no answer to the handshake: {f'{err} {bound}' if err is errno.TIMEDOUT else err}"
        agreed = handshake.check_response(response, offer.key, offer.subprotocols, offer.deflate)
    except ProtocolError as exc:
        if response is None:
            return exc.text
        return HandshakeError(exc.text, response.status, response.header, _body(stream, response, deadline, limits))
    http = Handshake(conn, url.scheme, url.path, response.status, response.header)
    subprotocol = response.header["sec-websocket-protocol"]
    session = Session(conn._stream, False, limits, agreed, offer.deflate)
    return Socket(session, conn, http, subprotocol, agreed)


class _Refusal(Incoming[str]):
    """Reads the body of an answer that refused the handshake."""

    _whose = "refusal"
    _of_response = True

    def __init__(self, source: Stream, length: int, limits: Limits, last: float) -> None:
        self.limits = limits
        self._source = source
        self._last = last
        self._expect_body(length)

    def _broken(self, error: ProtocolError, err: str | None = None) -> str:
        return error.text

    def _told(self, err: str, code: str | None = None) -> str:
        return err


def _body(stream: Stream, response: ResponseHead, deadline: float, limits: Limits) -> bytes:
    """Returns the first ``BODY`` bytes of a refusal's body, or what of them arrives
    within ``BODY_WAIT``.
    """
    try:
        length = response_body_length(response, "GET")
    except ProtocolError:
        return b""
    body = b""
    for piece in _Refusal(stream, length, limits, min(deadline, monotonic() + BODY_WAIT)).pieces():
        body += piece[: BODY - len(body)]
        if len(body) == BODY:
            break
    return body
