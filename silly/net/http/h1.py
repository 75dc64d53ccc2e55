"""The HTTP/1.1 server side of a connection (upstream: ``silly.net.http.h1``): reads requests, runs the handler, frames
what it answers.

One task serves a connection, request after request; pipelined requests wait in the buffer. A handler gets a
``ServerStream``. Returning finishes the response: a handler that raised is answered 500, one that did not respond too; one
that left the response open is completed. A request body that the handler did not read is discarded when it is short, else
the connection closes.

Another protocol takes a connection over by ``ServerStream.hijack``: then HTTP never touches it again.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from time import monotonic
from urllib.parse import parse_qsl

from ... import errno, logger
from ..._core import scheduler
from ..._core.result import OK, Result, failure
from ..._wire.error import ProtocolError
from ..._wire.header import Header, Outgoing, compose, tokens
from ..._wire.http1 import (
    CHUNKED,
    ChunkedReader,
    HeadReader,
    Request,
    date_line,
    error_response,
    parse_request,
    status_line,
)
from ..._wire.limits import Limits
from .._stream import Stream
from ..tcp import BURST, Conn, Data, deadline_after, to_bytes

DISCARD = 64 * 1024
"""A body that the handler left unread is read and dropped up to this length, to keep the connection."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_BODY = frozenset((204, 304))

Handler = Callable[["ServerStream"], object]


class Query(dict[str, str]):
    """Query parameters, decoded; one that isn't there is None, the last of several counts."""

    def __missing__(self, name: str) -> None:
        return None


class ServerStream:
    """A request and its response.

    ``method``, ``path`` (as sent, not decoded), ``query``, ``header``, ``version`` (``"HTTP/1.1"``), ``remoteaddr``,
    ``scheme``; ``trailer`` once a chunked body was read to its end. ``conn`` is the connection below.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_close",
        "_continue",
        "_decoded",
        "_ended",
        "_err",
        "_expected",
        "_head_sent",
        "_hijacked",
        "_keepalive",
        "_left",
        "_lines",
        "_query",
        "_status",
        "_target_query",
        "_written",
        "conn",
        "header",
        "limits",
        "method",
        "on_finish",
        "path",
        "remoteaddr",
        "scheme",
        "version",
    )

    def __init__(self, conn: Conn, request: Request, scheme: str, limits: Limits) -> None:
        self.conn = conn
        self.method = request.method
        self.path = request.path
        self.header = request.header
        self.version = request.version
        self.remoteaddr = conn.remoteaddr
        self.scheme = scheme
        self.limits = limits
        self._target_query = request.query
        self._query: Query | None = None
        # the request's body
        self._body = request.body
        self._left = request.body
        self._chunked: ChunkedReader | None = ChunkedReader(limits) if request.body == CHUNKED else None
        self._decoded: bytearray | None = None
        self._continue = request.body != 0 and request.version == "HTTP/1.1" and "expect" in request.header
        # the response
        self._status = 0
        self._lines = ""
        """The head, as far as it is known before the body: status line and fields."""
        self._head_sent = False
        self._expected: int | None = None
        """Bytes of the body that the head announces; CHUNKED; None while unknown or ended by the connection's end."""
        self._written = 0
        self._ended = False
        self._keepalive = request.keepalive
        self._close = not request.keepalive
        self._err: str | None = None
        self._hijacked = False
        self.on_finish: Callable[[bool], object] | None = None
        """Called when the handler of a hijacked stream has ended, with whether it failed; then the connection is closed."""

    # ---- the request --------------------------------------------------------------------------------------------

    @property
    def query(self) -> Query:
        """The query parameters, decoded as forms encode them."""
        if self._query is None:
            pairs = parse_qsl(self._target_query, keep_blank_values=True) if self._target_query else ()
            self._query = Query(pairs)
        return self._query

    @property
    def trailer(self) -> Header:
        """The trailer fields; empty before a chunked body has been read to its end."""
        return self._chunked.trailer if self._chunked is not None else Header()

    def read(self, n: int, timeout: float | None = None) -> tuple[bytes, None] | tuple[None, str]:
        """Reads exactly ``n`` bytes of the request's body, waiting for them.

        ``(None, err)`` when it ends before (what is left stays for ``readall``), or when the peer stalls for ``timeout`` ms
        (default: the limit ``body_timeout``), breaks the framing, or is gone.
        """
        if not isinstance(n, int):
            raise TypeError(f"stream.read needs a length, not {type(n).__name__}")
        if n < 0:
            raise ValueError(f"stream.read needs a length that isn't negative, not {n}")
        err = self._gather(n, timeout)
        if err is not None:
            return None, err
        return self._take(n), None

    def readall(self, timeout: float | None = None) -> tuple[bytes, None] | tuple[None, str]:
        """Reads what is left of the request's body: at most the limit ``body``, past which the request is answered 413."""
        limit = self.limits.body
        if self._left > limit:
            return None, self._refuse(f"body longer than the limit 'body' of {limit} bytes", 413)
        err = self._gather(limit + 1, timeout)
        if err is None:
            return None, self._refuse(f"body longer than the limit 'body' of {limit} bytes", 413)
        if err is not errno.EOF or not self._at_end():
            return None, err
        return self._take(self._available()), None

    def _at_end(self) -> bool:
        """Whether the body has been received in full."""
        if self._chunked is not None:
            return self._chunked.done
        return self._left <= len(self.conn._stream.buf)

    def _available(self) -> int:
        """Bytes of the body that can be taken now."""
        if self._chunked is not None:
            return len(self._decoded or b"")
        return min(self._left, len(self.conn._stream.buf))

    def _take(self, size: int) -> bytes:
        if self._chunked is None:
            self._left -= size
            return self.conn._stream.take(size) if size else b""
        decoded = self._decoded
        if not size or decoded is None:
            return b""
        data = bytes(decoded[:size])
        del decoded[:size]
        return data

    def _gather(self, size: int, timeout: float | None, until: float | None = None) -> str | None:
        """Waits until ``size`` bytes of the body can be taken; None then, EOF when it ends before.

        ``timeout`` ms bounds the wait for each arrival, ``until`` (a time of ``time.monotonic()``) the whole instead.
        """
        if self._err is not None:
            return self._err
        if self._hijacked:
            return errno.CLOSED
        stream = self.conn._stream
        stall = self.limits.body_timeout if timeout is None else timeout
        while True:
            if self._chunked is not None and not self._chunked.done:
                try:
                    piece = self._chunked.read(stream.buf, max(1, size - self._available()))
                except ProtocolError as exc:
                    return self._refuse(exc.text, exc.code)
                if piece:
                    if self._decoded is None:
                        self._decoded = bytearray()
                    self._decoded += piece
            if self._available() >= size:
                return None
            if self._at_end():
                return errno.EOF
            if self._continue and not self._head_sent:
                self._continue = False
                stream.write(_CONTINUE)
            err = stream.fill(len(stream.buf) + 1, deadline_after(stall) if until is None else until)
            if err is not None:
                if err is not errno.TIMEDOUT or stream.err is not None:
                    return self._refuse(f"the request's body is incomplete: {err}", 400)
                if timeout is None:
                    return self._refuse(f"the request's body stalled: {err}", 408)
                return err  # the handler's own time-out: nothing is lost

    def _refuse(self, text: str, code: int) -> str:
        """The request is bad: answers that if nothing was answered yet. The connection ends with it."""
        self._err = text
        self._close = True
        logger.info(f"http: {self.remoteaddr}: {self.method} {self.path[:200]!r}: {text}")
        if not self._status:
            self._status = code
            self._head_sent = self._ended = True
            self.conn._stream.write(error_response(ProtocolError(text, code)))
        return text

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
        text = ""
        expected: int | None = None
        ends = dated = False
        for name, value in compose(header):
            if name == "content-length":
                if not value.isascii() or not value.isdigit() or (expected is not None and expected != int(value)):
                    raise ValueError(f"bad or ambiguous content-length {value!r}")
                expected = int(value)
            elif name == "transfer-encoding":
                if value.lower() != "chunked" or expected is not None:
                    raise ValueError("transfer-encoding must be 'chunked', and goes without content-length")
                expected = CHUNKED
            elif name == "connection":
                options = tokens(value)
                ends = ends or "close" in options
                others = ", ".join(option for option in options if option not in ("close", "keep-alive"))
                text += f"connection: {others}\r\n" if others else ""
            else:
                dated = dated or name == "date"
                text += f"{name}: {value}\r\n"
        return text if dated else text + date_line(), expected, ends

    def _head(self, whole: int | None) -> bytes:
        """The response's head; ``whole`` is the length of the body when all of it is known."""
        status, expected = self._status, self._expected
        framing = ""
        if status == 204:
            expected = 0
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
        """Sends a piece of the body. Blocks while the peer takes nothing and 1 MiB waits."""
        piece = to_bytes(data)
        if not self._status:
            return failure("respond() comes before write()")
        if self._ended:
            return failure("the response has ended")
        head = b"" if self._head_sent else self._head(None)
        expected = self._expected
        if expected is not None and expected >= 0 and not self._bodyless() and self._written + len(piece) > expected:
            if head:
                self.conn._stream.write(head)
            return failure(f"more than the content-length of {expected} bytes")
        self._written += len(piece)
        return self._send(head + self._framed(piece))

    def _framed(self, piece: bytes) -> bytes:
        if self._bodyless() or not piece:
            return b""
        if self._expected == CHUNKED:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        return piece

    def _send(self, data: bytes) -> Result:
        err = self.conn._stream.write(data) if data else None
        if err is None:
            return OK
        self._close = True
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

    def closewrite(self, body: Data | None = None) -> Result:
        """Ends the response, with ``body`` as its last piece. ``(False, err)`` when it had ended before."""
        piece = b"" if body is None else to_bytes(body)
        if not self._status:
            return failure("respond() comes before closewrite()")
        if self._ended:
            return failure("the response has ended")
        self._ended = True
        head = b"" if self._head_sent else self._head(len(piece))
        expected = self._expected
        if self._bodyless():
            return self._send(head)
        total = self._written + len(piece)
        if expected is not None and expected >= 0 and total != expected:
            # The peer would take what comes next for the rest of this body.
            self._close = True
            self._send(head + piece[: max(0, expected - self._written)])
            logger.error(f"http: {self.method} {self.path[:200]!r}: body of {total} bytes, content-length {expected}")
            return failure(f"a body of {total} bytes, but a content-length of {expected}")
        self._written = total
        if expected == CHUNKED:
            return self._send(head + self._framed(piece) + b"0\r\n\r\n")
        return self._send(head + piece)

    close = closewrite

    # ---- ends ---------------------------------------------------------------------------------------------------

    def hijack(self, status: int, header: Outgoing) -> Conn:
        """Answers with ``status`` (1xx) and ``header``, and hands the connection over to another protocol, which sets
        ``on_finish``."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in compose(header)])
        self.conn._stream.write(f"{status_line(status)}{lines}\r\n".encode("latin-1"))
        self._status = status
        self._head_sent = self._ended = True
        self._hijacked = True
        return self.conn

    def _complete(self) -> bool:
        """After the handler: ends the response, and the request's body. Whether the connection can serve on."""
        if not self._status:
            logger.info(f"http: {self.remoteaddr}: {self.method} {self.path[:200]!r}: the handler did not respond")
            self.respond(500, {"content-type": "text/plain"})
            self.closewrite("Internal Server Error\n")
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
            if self._gather(DISCARD + 1, None, until) is not errno.EOF:
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
            self.respond(500, {"content-type": "text/plain"})
            self.closewrite("Internal Server Error\n")
        elif not self._ended:
            # Without its end the peer sees that the body is incomplete.
            self._ended = True

    def __repr__(self) -> str:
        return f"<http request {self.method} {self.path} from {self.remoteaddr}>"


class Connection:
    """Serves one connection. ``idle``: it waits for a request, so it may be closed at any time; ``skipping``: it drops the
    rest of an answered request, so it may be too."""

    __slots__ = ("_conn", "_handler", "_limits", "_scheme", "_serving", "closing", "idle", "skipping")

    def __init__(self, conn: Conn, handler: Handler, scheme: str, limits: Limits) -> None:
        self._conn = conn
        self._handler = handler
        self._scheme = scheme
        self._limits = limits
        self._serving: ServerStream | None = None
        self.idle = False
        self.closing = False
        self.skipping = False

    def close_idle(self) -> None:
        """The server closes: ends the connection now if it is idle, else after the running request."""
        self.closing = True
        # With bytes in the buffer its task has been woken, and is about to take the request up.
        if self.skipping or (self.idle and not self._conn._stream.buf):
            self._conn.close()
        if self._serving is not None:
            self._serving._close = True

    def serve(self) -> None:
        """Request after request until the connection ends."""
        try:
            heads = HeadReader(self._limits)
            burst = 0
            while True:
                stream = self._conn._stream
                if stream.buf:
                    burst += 1
                    if burst >= BURST:
                        burst = 0
                        scheduler.pause()
                else:
                    burst = 0
                if not self._serve_one(stream, heads) or self.closing:
                    return
        finally:
            self._conn.close()

    def _serve_one(self, stream: Stream, heads: HeadReader) -> bool:
        try:
            head = self._read_head(stream, heads)
            if head is None:
                return False
            request = parse_request(head, self._limits)
            if request.method == "CONNECT":
                # What follows a 2xx would be a tunnel to the peer, and requests to us.
                raise ProtocolError("CONNECT is not supported", 501)
            expect = request.header["expect"]
            if expect is not None and request.version == "HTTP/1.1" and expect.lower() != "100-continue":
                raise ProtocolError("unknown expectation", 417)
        except ProtocolError as exc:
            logger.info(f"http: {stream.remoteaddr}: {exc.text}")
            stream.write(error_response(exc))
            stream.close(await_end=True)
            return False
        return self._handle(ServerStream(self._conn, request, self._scheme, self._limits))

    def _read_head(self, stream: Stream, heads: HeadReader) -> bytes | None:
        buf = stream.buf
        limits = self._limits
        if not buf:
            if self.closing:
                return None
            self.idle = True
            err = stream.fill(1, monotonic() + limits.idle_timeout / 1000)
            self.idle = False
            if err is not None:
                return None
        head = heads.next(buf)
        if head is not None:
            return head
        deadline = monotonic() + limits.head_timeout / 1000
        while True:
            err = stream.fill(len(buf) + 1, deadline)
            if err == errno.TIMEDOUT:
                raise ProtocolError(f"head not complete within the limit 'head_timeout' of {limits.head_timeout} ms", 408)
            if err is not None:
                if buf:
                    logger.info(f"http: {stream.remoteaddr}: the connection ended within a request's head: {err}")
                return None
            head = heads.next(buf)
            if head is not None:
                return head

    def _handle(self, stream: ServerStream) -> bool:
        failed = False
        self._serving = stream
        if self.closing:
            stream._close = True
        try:
            self._handler(stream)
        except Exception:
            failed = True
            logger.error(f"exception in the handler of {stream.method} {stream.path}:\n{traceback.format_exc().rstrip()}")
        finally:
            self._serving = None
            # Taken out, since what it belongs to holds the stream.
            finish, stream.on_finish = stream.on_finish, None
            if finish is not None:
                finish(failed)
        if stream._hijacked:
            return False
        if failed:
            stream._failed()
        elif stream._complete() and not self.closing:
            self.skipping = True
            skipped = stream._skip_body()
            self.skipping = False
            if skipped:
                return True
        if stream._ends_against_peer():
            self._conn._stream.close(await_end=True)
        return False


def refuse_busy(conn: Conn) -> None:
    """Answers 503 to a connection past the limits, without reading from it."""
    conn._stream.write(error_response(ProtocolError("too many connections", 503)))
    conn.close()
