"""A request and its response, as a server's handlers see them (HTTP/1.0 and 1.1).

``_connection`` reads the requests and runs the handlers. ``_serverresponse`` has the
response half: its state, and its bytes. This module has the request, and what the end
of a response means for the connection. Another protocol takes a connection over by
``ServerStream._hijack``: after that HTTP never touches it again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from ... import errno
from ..._core import scheduler
from ..._core.result import mistake, returns_pair
from ..._log import http as logger
from ..._shown import cut, name_of
from ..._wire.error import ProtocolError
from ..._wire.header import Outgoing, compose
from ..._wire.http1 import Request, error_response, status_line
from ..._wire.limits import Limits
from ..tcp import Conn, deadline_after
from ._drain import Drain
from ._serverresponse import (
    ANSWERED,
    CANCELLED,
    ENDED,
    HIJACKED,
    RAISED,
    RETURNED,
    SKIPPED_BODY,
    STREAMING,
    UNANSWERED,
    ServerResponse,
)
from .accesslog import Account

_loop = scheduler.loop
_ANSWER = "call stream.answer, or stream.respond and stream.closewrite"
_JSON = 'call stream.answer(200, json.dumps(value), {"content-type": "application/json"})'
_INSTEAD: dict[type, str] = {
    dict: _JSON,
    list: _JSON,
    str: "call stream.answer(200, text)",
    bytes: "call stream.respond(200) and stream.closewrite(data)",
}
"""What a handler must call to send a value."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
RequestHandler = Callable[["ServerStream"], object]


class Outcome(Enum):
    """What becomes of a connection after a response; ``ServerStream`` decides it."""

    KEEP = "it serves the next request"
    SKIP_BODY = "it serves the next request behind what is left of this one's body"
    CLOSE = "it ends, and the peer sends nothing more"
    AWAIT_PEER = "it ends, and the peer may be sending another request"
    AWAIT_BODY = "it ends, and the peer is sending the rest of its body"
    RESET = "it ends by a reset, which tells the peer that the response is incomplete"


KEEP = Outcome.KEEP
"""The outcome of nearly every request. Python 3.11 makes a call for
``Outcome.KEEP``."""


class Query(dict[str, str]):
    """Decoded query parameters. A missing one is None; the last of one name counts."""

    if TYPE_CHECKING:

        def __getitem__(self, name: str) -> str | None:  # type: ignore[override]
            """The parameter's value, or None."""

    def __missing__(self, name: str) -> None:
        return None


def parse_query(text: str) -> Query:
    """The parameters in the query of a URL, decoded as HTML forms encode them."""
    return Query(parse_qsl(text, keep_blank_values=True))


class Hijacker(Protocol):
    """A protocol that took a connection over."""

    def handler_ended(self, ended: str) -> None:
        """The request's handler has ended: it has RETURNED, RAISED or was CANCELLED.
        After this call the connection is closed."""

    def go_away(self, code: int) -> None:
        """The server drains: closes with ``code``, unless it has ended. Never waits."""

    def account(self) -> Account:
        """What the access log says about it, once it has ended."""


class ServerStream(ServerResponse):
    """A request and its response: what a server's handler gets.

        def handler(stream):
            body, err = stream.readall()
            if body is not None:
                stream.respond(200, {"content-type": "text/plain"})
                stream.closewrite(f"{stream.method} {stream.path}: {len(body)} bytes")

    * ``method``; ``path`` (as sent, percent-encoded), ``target`` (path and query),
      ``query``
    * ``header``: the fields, names in any case; a missing one is None
    * ``version``: ``"HTTP/1.1"`` or ``"HTTP/1.0"``
    * ``scheme``: ``"http"`` or ``"https"``; ``remoteaddr``: the peer's ``"host:port"``;
      behind proxies the client's (``trusted`` of ``http.listen``)
    * ``trailer``: the trailer fields, after a chunked body was read to its end
    * ``conn``: the ``tcp.Conn`` or ``tls.Conn`` that carries it; ``limits``: the
      server's

    If the body cannot be read, the request is answered 400, 408 or 413, unless it was
    answered before. When the handler returns, the response ends.
    """

    # Class attributes: an instance sets them only if its request needs them.
    _whose = "request"
    _rated = True
    _query: Query | None = None
    _hijacker: Hijacker | None = None
    _account: Account | None = None
    """The account of the protocol that took the connection over, once it has ended."""
    _going: Drain | None = None
    """The drain of the server, once that has begun."""
    _mistaken = False
    """Whether the log says already why there is no response."""

    def __init__(self, conn: Conn, request: Request, scheme: str, limits: Limits) -> None:
        self.conn = conn
        self._source = conn._stream
        self.method, self.target, self.path, self._target_query, self.version, self.header, body, keepalive, last = request
        self._keepalive = keepalive
        self._close = last
        self.remoteaddr = conn.remoteaddr
        self.scheme = scheme
        self.limits = limits
        self._body = body
        if body:
            self._expect_body(body)
            self._continue = self.version == "HTTP/1.1" and "expect" in self.header

    # ---- the request -----------------------------------------------------------------

    @property
    def query(self) -> Query:
        """The query parameters, decoded as HTML forms encode them. A missing one is
        None; of several with one name, the last counts."""
        if self._query is None:
            self._query = parse_query(self._target_query)
        return self._query

    def _wait_for(self, size: int, timeout: float | None = None, ahead: int = 0, until: float | None = None) -> str | None:
        if self._state is HIJACKED:
            return errno.CLOSED
        return super()._wait_for(size, timeout, ahead, until)

    def _ready(self) -> bool:
        return self._state is HIJACKED or super()._ready()

    def _before_wait(self) -> None:
        if self._continue and self._state in (UNANSWERED, ANSWERED):
            self._continue = False
            self.conn._stream.write_nowait(_CONTINUE)

    def _broken(self, error: ProtocolError, err: str | None = None) -> str:
        """Answers that the request is bad, unless it was answered before. The
        connection ends after that. Returns the error's text."""
        self._err = error.text
        self._close = True
        if not self.conn._stream.closed:  # else we have ended it ourselves
            logger.limited("http body", f"{self._named()}: {error.text}")
        if self._state is UNANSWERED:
            self._state, self._status = ENDED, error.code
            answer = error_response(error, head_only=self.method == "HEAD")
            self._written = body_size(answer)
            self.conn._stream.write(answer)
        return error.text

    @returns_pair("stream.detach", "conn")
    def detach(self) -> tuple[Conn, None] | tuple[None, str]:
        """Accepts a CONNECT (RFC 9110, section 9.3.6): answers 200, and returns the
        connection, which is a tunnel from then on.

            @router.route("CONNECT", "/{target}")
            def tunnel(stream, target):
                conn, err = stream.detach()
                if conn is not None:
                    conn.write("Hello")

        Returns ``(conn, None)``, or ``(None, err)`` if the request was answered before.
        The connection is closed when the handler returns. Raises ValueError for another
        method.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.detach")
        if self.method != "CONNECT":
            raise ValueError(f"stream.detach is for CONNECT, not {cut(self.method, 40)}")
        if self._state is not UNANSWERED:
            return None, "the request has been answered already"
        return self._hijack(200, ()), None

    # ---- for the package: another protocol, and the connection -----------------------

    def _hijack(self, status: int, header: Outgoing) -> Conn:
        """Answers with ``status`` and ``header``, and gives the connection to another
        protocol, which then calls ``_hand_over``."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in compose(header)])
        # The state first: if the write is interrupted, the answer goes out all the
        # same.
        self._state, self._status = HIJACKED, status
        self.conn._stream.write(f"{status_line(status)}{lines}\r\n".encode("latin-1"))
        self.conn._stream.disarm()
        return self.conn

    def _hand_over(self, hijacker: Hijacker) -> None:
        """Registers the protocol that took the connection over."""
        self._hijacker = hijacker
        if self._going is not None:
            self._going.part(hijacker)

    def _drain(self, drain: Drain) -> None:
        """Notes that the server drains, and tells the protocol that took the connection
        over, once."""
        if self._going is None:
            self._going = drain
            if self._hijacker is not None:
                drain.part(self._hijacker)

    def _end_connection(self) -> None:
        """Ends the connection after this response; a head not sent yet says so."""
        self._close = True

    def _returned(self, handler: object, value: object) -> None:
        """Logs that ``handler`` returned ``value``, which is dropped, unless it has
        sent a response."""
        if (self._state is not UNANSWERED and self._state is not ANSWERED) or scheduler.in_child:
            return
        why = mistake(value, _INSTEAD.get(type(value), _ANSWER), self._state is UNANSWERED)
        if why is not None:
            self._mistaken = True
            text = f"{self._named()}: the handler {name_of(handler)} {why}"
            logger.limited("http returned", text, logger.ERROR)

    def _finish(self, failed: bool) -> Outcome:
        """Ends the response, since the handler has returned, or raised (``failed``).

        The order of the tests is the rule that decides what becomes of the connection.
        """
        # This is the case of nearly every request.
        if self._state is ENDED and not (failed or self._close or self._body):
            return KEEP
        if self._state is HIJACKED:
            self._tell_hijacker(RAISED if failed else RETURNED)
            return Outcome.CLOSE
        if failed:
            self._fail()
        elif self._state is UNANSWERED:
            if not self._mistaken and not scheduler.in_child:
                logger.limited("http unanswered", f"{self._named()}: the handler did not respond")
            self.answer(500, "Internal Server Error")
        elif self._state in (ANSWERED, STREAMING):
            self.closewrite()
        if self._must_reset():
            return Outcome.RESET
        return self._end() if self._close else Outcome.SKIP_BODY

    def _stop(self) -> Outcome:
        """Ends the response, since the handler's task was cancelled: with 503, if
        nothing was sent."""
        if self._state is HIJACKED:
            self._tell_hijacker(CANCELLED)
            return Outcome.CLOSE
        if self._state is not ENDED:
            what = "the response was cut" if self._state is STREAMING else "answered 503"
            logger.limited("http cancelled", f"{self._named()}: the handler was cancelled: {what}")
        self._fail(CANCELLED)
        return Outcome.RESET if self._must_reset() else self._end()

    def _abandon(self) -> None:
        """Leaves the response as it is, since the handler's task is being ended."""
        if self._must_reset():
            self.conn._stream.reset()
        self._tell_hijacker(RETURNED)

    def _tell_hijacker(self, ended: str) -> None:
        # Not kept: it refers to this stream.
        hijacker, self._hijacker = self._hijacker, None
        if hijacker is not None:
            try:
                hijacker.handler_ended(ended)
            finally:
                self._account = hijacker.account()

    def _skip_body(self) -> Outcome:
        """Reads and drops the rest of the request's body, if it is short. Returns KEEP,
        or how the connection ends."""
        if self.conn._stream._reader is not None:
            return self._end()  # a task that the handler left behind is still reading it
        if self._body and not self._at_end():
            if not self._body_can_be_skipped():
                return self._end()
            until = deadline_after(self.limits.body_timeout)
            if self._wait_for(SKIPPED_BODY + 1, until=until) is not errno.EOF:
                return self._end()
        if self._chunked is None and self._left > 0:
            self._take(self._left)
        return KEEP

    def _end(self) -> Outcome:
        """How the connection ends, depending on what the peer may still send."""
        if not self._at_end():
            return Outcome.AWAIT_BODY
        return Outcome.AWAIT_PEER if self._keepalive else Outcome.CLOSE

    def __repr__(self) -> str:
        return f"<http request {self.method} {self.path} from {self.remoteaddr}>"


def body_size(answer: bytes) -> int:
    """The length of the body, in bytes, of a whole response."""
    return len(answer.partition(b"\r\n\r\n")[2])
