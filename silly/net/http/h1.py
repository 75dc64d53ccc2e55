"""A request and its response, as the handlers of a server see them (upstream: ``silly.net.http.h1``). HTTP/1.0 and 1.1 on the
wire; ``_connection`` reads the requests and runs the handlers.

Another protocol takes a connection over by ``ServerStream.hijack``: then HTTP never touches it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl

from ... import errno, logger
from ..._core.result import OK, Result, failure
from ..._wire.error import ProtocolError
from ..._wire.header import Outgoing, compose
from ..._wire.http1 import (
    CHUNKED,
    LAST_CHUNK,
    Request,
    date_line,
    error_response,
    field_lines,
    last_chunk,
    status_line,
)
from ..._wire.limits import Limits
from ..tcp import Conn, Data, deadline_after, to_bytes
from ._body import Incoming

DISCARD = 64 * 1024
"""A body that the handler left unread is read and dropped up to this length, to keep the connection."""
LARGE = 64 * 1024
"""A piece of the body that is longer is not copied to stand behind the head."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_BODY = frozenset((204, 205, 304))
Handler = Callable[["ServerStream"], object]


class Query(dict[str, str]):
    """Query parameters, decoded; one that isn't there is None, the last of several counts."""

    def __missing__(self, name: str) -> None:
        return None


class Hijacker(Protocol):
    """What took a connection over."""

    def handler_ended(self, failed: bool) -> None:
        """The handler that hijacked has returned, or raised; then the connection is closed."""

    def server_drains(self) -> None:
        """The server drains."""


class ServerStream(Incoming):
    """A request and its response.

    ``method``, ``path`` (as sent, not decoded), ``target`` (with the query), ``query``, ``header``, ``version``
    (``"HTTP/1.1"``), ``remoteaddr``, ``scheme``; ``trailer`` once a chunked body was read to its end. ``conn`` is the
    connection below. A body that can't be read is answered 400, 408 or 413, unless the request was answered before.
    """

    # What most requests never look at is not set for each.
    _whose = "request"
    _query: Query | None = None
    _continue = False
    _hijacker: Hijacker | None = None
    _drains = False
    _cut: str | None = None
    """Why the response's body, which had begun, has ended too early."""

    def __init__(self, conn: Conn, request: Request, scheme: str, limits: Limits) -> None:
        self.conn = conn
        self._source = conn._stream
        self.method, self.target, self.path, self._target_query, self.version, self.header, body, keepalive = request
        self.remoteaddr = conn.remoteaddr
        self.scheme = scheme
        self.limits = limits
        self._body = body
        if body:
            self._expect_body(body)
            self._continue = self.version == "HTTP/1.1" and "expect" in self.header
        self._keepalive = keepalive
        self._close = not keepalive
        self._err = None
        self._hijacked = False
        self._status = 0
        self._lines = ""
        """The response's head, as far as it is known before the body: status line and fields."""
        self._head_sent = False
        self._expected: int | None = None
        """Bytes of the body that the head announces; CHUNKED; None while unknown or ended by the connection's end."""
        self._written = 0
        self._ended = False

    # ---- the request --------------------------------------------------------------------------------------------

    @property
    def query(self) -> Query:
        """The query parameters, decoded as forms encode them."""
        if self._query is None:
            pairs = parse_qsl(self._target_query, keep_blank_values=True) if self._target_query else ()
            self._query = Query(pairs)
        return self._query

    def _gather(self, size: int, timeout: float | None = None, ahead: int = 0, until: float | None = None) -> str | None:
        if self._hijacked:
            return errno.CLOSED
        return super()._gather(size, timeout, ahead, until)

    def _before_wait(self) -> None:
        if self._continue and not self._head_sent:
            self._continue = False
            self.conn._stream.write(_CONTINUE)

    def _rate(self) -> int:
        return self.limits.body_rate

    def _broken(self, error: ProtocolError) -> str:
        """The request is bad: answers that if nothing was answered yet. The connection ends with it."""
        self._err = error.text
        self._close = True
        if not self.conn._stream.closed:  # else it is we who have ended it
            logger.info(f"http: {self.remoteaddr}: {self.method} {self.path[:200]!r}: {error.text}")
        if not self._status:
            self._status = error.code
            self._head_sent = self._ended = True
            answer = error_response(error)
            self._written = body_size(answer)
            if self._written and self.method == "HEAD":
                answer, self._written = answer[: -self._written], 0
            self.conn._stream.write(answer)
        return error.text

    # ---- the response -------------------------------------------------------------------------------------------

    def respond(self, status: int, header: Outgoing | None = None, close: bool = False) -> Result:
        """Starts the response. It goes out with the first ``write``, ``flush`` or ``closewrite``.

        Without a Content-Length one is added when the body is given whole to ``closewrite``; else the body is chunked.
        ``close=True`` ends the response here, without a body, and the connection with it. Raises ValueError or TypeError for
        a bad status or header; ``(False, err)`` when the request was answered already or the peer is gone.
        """
        line = status_line(status)
        if status < 200:
            raise ValueError(f"{status} is no final status")
        text, expected, ends = self._fields(header or ())
        if self._status:
            return failure("the request has been answered already")
        self._status, self._lines, self._expected = status, line + text, expected
        if ends or close:
            self._close = True
        return self.closewrite() if close else OK

    def _fields(self, header: Outgoing) -> tuple[str, int | None, bool]:
        """The handler's fields as text, the body's length by them, and whether they end the connection.

        Framing and the end of the connection are written by ``_head``, so those fields are left out.
        """
        text, expected, options = field_lines(header)
        ends = False
        if options:
            ends = "close" in options
            others = ", ".join([option for option in options if option not in ("close", "keep-alive")])
            text += f"connection: {others}\r\n" if others else ""
        if "date: " not in text or not ("\r\ndate: " in text or text.startswith("date: ")):
            text += date_line()
        return text, expected, ends

    def _head(self, whole: int | None) -> bytes:
        """The response's head; ``whole`` is the length of the body when all of it is known."""
        status, expected = self._status, self._expected
        framing = ""
        if status == 204:
            expected = 0
        elif status == 205:
            expected, framing = 0, "content-length: 0\r\n"  # RFC 9110, section 15.3.6
        else:
            if expected is None and status != 304:
                expected = CHUNKED if whole is None else whole
            if expected == CHUNKED:
                if self.version == "HTTP/1.1":
                    framing = "transfer-encoding: chunked\r\n"
                else:
                    expected, self._close = None, True  # the connection's end is the body's
            elif expected is not None:
                framing = f"content-length: {expected}\r\n"
        self._expected = expected
        if self._body and not self._body_can_be_skipped():
            self._close = True
        if self._close:
            framing += "connection: close\r\n"
        elif self.version != "HTTP/1.1":
            framing += "connection: keep-alive\r\n"
        self._head_sent = True
        return f"{self._lines}{framing}\r\n".encode("latin-1")

    def _body_can_be_skipped(self) -> bool:
        """Whether the request's body, as far as it is unread, leaves the connection usable."""
        if self._body == 0 or self._at_end():
            return True
        if self._continue:
            return False  # the peer may or may not send it now
        return self._chunked is not None or self._left <= DISCARD

    def _bodyless(self) -> bool:
        return self.method == "HEAD" or self._status in _NO_BODY

    def write(self, data: Data) -> Result:
        """Sends a piece of the body. Blocks while the peer takes nothing and 1 MiB waits. After ``(False, err)``, also when a
        ``time.deadline`` ran out, the response is over, and so is the connection: the peer sees that it is incomplete."""
        piece = to_bytes(data)
        if not self._status:
            return failure("respond() comes before write()")
        if self._ended:
            return failure(self._cut or "the response has ended")
        head = b"" if self._head_sent else self._head(None)
        expected = self._expected
        if expected is not None and expected >= 0 and not self._bodyless() and self._written + len(piece) > expected:
            if head:
                self.conn._stream.write(head)
            return failure(f"more than the content-length of {expected} bytes")
        if not self._bodyless():
            self._written += len(piece)
        return self._send(head, piece)

    def _send(self, head: bytes, piece: bytes = b"", last: bytes = b"") -> Result:
        """Sends ``head`` and a piece of the body as its framing says; ``last`` is what ends a chunked one."""
        if self._bodyless():
            piece = last = b""
        elif self._expected != CHUNKED:
            last = b""
        elif piece:
            head += b"%x\r\n" % len(piece)
            last = b"\r\n" + last
        if len(piece) > LARGE:
            err = self.conn._stream.writev([part for part in (head, piece, last) if part])
        else:
            data = head + piece + last
            err = self.conn._stream.write(data) if data else None
        if err is None:
            return OK
        # A piece may be missing now: what follows must not stand in its place, nor an end make the body look complete.
        self._close = self._ended = True
        self._cut = err
        return failure(err)

    def flush(self) -> Result:
        """Sends what was written so far, the head included, now."""
        if not self._status:
            return failure("respond() comes before flush()")
        result = OK
        if not self._head_sent:
            result = self._send(self._head(None))
        self.conn._stream.flush()
        return result

    def closewrite(self, body: Data | None = None, trailer: Outgoing | None = None) -> Result:
        """Ends the response, with ``body`` as its last piece. ``(False, err)`` when it had ended before.

        ``trailer``: fields that follow the body; a response that has them is chunked, and they are left out for a peer of
        HTTP/1.0 and where a length was given. Raises ValueError for fields that may not be trailers.
        """
        piece = b"" if body is None else body if type(body) is bytes else to_bytes(body)
        last = LAST_CHUNK if trailer is None else last_chunk(trailer)
        if not self._status:
            return failure("respond() comes before closewrite()")
        if self._ended:
            return failure(self._cut or "the response has ended")
        self._ended = True
        head = b"" if self._head_sent else self._head(None if trailer else len(piece))
        expected = self._expected
        if self._bodyless():
            return self._send(head)
        total = self._written + len(piece)
        if expected is not None and expected >= 0 and total != expected:
            err = self.conn._stream.werr
            if err is not None:
                return failure(err)  # a handler that stops writing then does right
            # The peer would take what comes next for the rest of this body.
            self._close = True
            self._send(head, piece[: max(0, expected - self._written)])
            self._written = min(total, expected)
            logger.error(f"http: {self.method} {self.path[:200]!r}: body of {total} bytes, content-length {expected}")
            return failure(f"a body of {total} bytes, but a content-length of {expected}")
        self._written = total
        return self._send(head, piece, last)

    close = closewrite

    def answer(self, status: int, text: str = "", header: Mapping[str, Any] | None = None) -> Result:
        """Answers the request with a line of text: ``respond`` and ``closewrite`` in one. Without ``text`` there is no body."""
        if text:
            header = {"content-type": "text/plain", **(header or {})}
            text += "\n"
        result = self.respond(status, header)
        return self.closewrite(text) if result else result

    def sendfile(self, fd: int, offset: int, size: int) -> Result:
        """Ends the response with ``size`` bytes of the file ``fd``, from ``offset``; ``respond`` has said so in a
        Content-Length.

        ``(False, err)`` also when the file is shorter: the connection ends then, since the body is incomplete.
        """
        if not self._status:
            return failure("respond() comes before sendfile()")
        if self._ended:
            return failure(self._cut or "the response has ended")
        if self._head_sent or self._expected != size:
            return failure(f"sendfile of {size} bytes needs a content-length of as many, and nothing before it")
        self._ended = True
        result = self._send(self._head(None))
        if not result or self._bodyless():
            return result
        err = self.conn._stream.sendfile(fd, offset, size)
        self._written = self.conn._stream.filed
        if err is None:
            return OK
        self._close = True  # the peer sees that the body is incomplete
        return failure(err)

    # ---- ends ---------------------------------------------------------------------------------------------------

    def detach(self) -> tuple[Conn, None] | tuple[None, str]:
        """Accepts a CONNECT (RFC 9110, section 9.3.6): answers 200, and gives the connection, which is a tunnel from then on.

        It is closed when the handler returns. ``(None, err)`` when the request was answered already.
        """
        if self.method != "CONNECT":
            raise ValueError(f"stream.detach is for CONNECT, not {self.method}")
        if self._status:
            return None, "the request has been answered already"
        return self.hijack(200, ()), None

    def hijack(self, status: int, header: Outgoing) -> Conn:
        """Answers with ``status`` and ``header``, and hands the connection over to another protocol, which calls
        ``hand_over``."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in compose(header)])
        self.conn._stream.write(f"{status_line(status)}{lines}\r\n".encode("latin-1"))
        self._status = status
        self._head_sent = self._ended = True
        self._hijacked = True
        self.conn._stream.disarm()
        return self.conn

    def hand_over(self, hijacker: Hijacker) -> None:
        """Tells who is to be told of what concerns the connection that was taken by ``hijack``."""
        self._hijacker = hijacker
        if self._drains:
            hijacker.server_drains()

    def _drain(self) -> None:
        self._drains = True
        if self._hijacker is not None:
            self._hijacker.server_drains()

    def _complete(self) -> bool:
        """After the handler: ends the response, and the request's body. Whether the connection can serve on."""
        if not self._status:
            logger.info(f"http: {self.remoteaddr}: {self.method} {self.path[:200]!r}: the handler did not respond")
            self.answer(500, "Internal Server Error")
        elif not self._ended:
            self.closewrite()
        return not self._close and self._err is None

    def _skip_body(self) -> bool:
        """Reads and drops what the handler left of the request's body; False when the connection must end instead."""
        if self.conn._stream._reader is not None:
            return False  # a task that the handler left behind is still reading it
        if self._body and not self._at_end():
            if not self._body_can_be_skipped():
                return False
            until = deadline_after(self.limits.body_timeout)
            if self._gather(DISCARD + 1, until=until) is not errno.EOF:
                return False
        if self._chunked is None and self._left > 0:
            self._take(self._left)
        return True

    def _ends_against_peer(self) -> bool:
        """Whether the peer may send more: it has not asked for the connection's end, or its body is not all here."""
        return self._keepalive or not self._at_end()

    def _failed(self) -> None:
        """The handler raised: answers 500, or cuts a response that had begun."""
        self._close = True
        if not self._status or not self._head_sent:
            self._status = 0
            self.answer(500, "Internal Server Error")
        elif not self._ended:
            # Without its end the peer sees that the body is incomplete.
            self._ended = True
            self._cut = "the handler raised"

    def _ends_with_connection(self) -> bool:
        """Whether the end of the connection is that of the response's body: one that was cut off would look complete."""
        return self._head_sent and self._expected is None and not self._bodyless()

    def __repr__(self) -> str:
        return f"<http request {self.method} {self.path} from {self.remoteaddr}>"


def body_size(answer: bytes) -> int:
    """Bytes of the body of a whole response."""
    return len(answer.partition(b"\r\n\r\n")[2])
