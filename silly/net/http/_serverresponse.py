"""The response half of ``ServerStream``: its state, its head, and the framing of its
body (RFC 9112, section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

from ..._core import scheduler
from ..._core.result import OK, Result, failure
from ..._log import http as logger
from ..._shown import cut, shown
from ..._wire.accelerated_http import answer_lines
from ..._wire.chunked import LAST_CHUNK, last_chunk
from ..._wire.header import Outgoing
from ..._wire.http1 import CHUNKED, FINAL_LINES, response_lines
from ..._wire.numbers import check_int
from ..tcp import Conn, Data, to_bytes
from ._body import Incoming

SKIPPED_BODY = 64 * 1024
"""If the handler left at most this many bytes of a request's body unread, they are read
and dropped, to keep the connection."""
COPIED = 64 * 1024
"""A piece of the body of at most this many bytes is copied, to follow the head."""
_NO_BODY = frozenset((204, 205, 304))

_loop = scheduler.loop

# How a handler has ended.
RETURNED = "returned"
RAISED = "raised"
CANCELLED = "was cancelled"

# The state of a response.
UNANSWERED = "unanswered"
ANSWERED = "answered"
"""``respond`` was called; nothing has been sent."""
STREAMING = "streaming"
"""The head has been sent; more of the body may follow."""
ENDED = "ended"
"""The whole response has been written."""
CUT = "cut"
"""It ended too early: the peer must not believe that it is complete."""
HIJACKED = "hijacked"
"""Another protocol has answered, and owns the connection."""


def _unanswerable(text: object, header: object) -> TypeError:
    """The error for arguments of ``answer`` of the wrong type."""
    if not isinstance(text, str):
        kind = type(text).__name__
        if isinstance(text, (dict, list, tuple)):
            return TypeError(
                f"stream.answer takes text, not {kind}: give it json.dumps(…), and the header"
                " {'content-type': 'application/json'}"
            )
        hint = ": stream.respond and stream.closewrite send bytes" if isinstance(text, (bytes, bytearray, memoryview)) else ""
        return TypeError(f"stream.answer takes text, not {kind}{hint}")
    return TypeError(f"stream.answer: the header is a mapping of names to values, not {type(header).__name__}")


class ServerResponse(Incoming[str]):
    """The response of a handler. ``ServerStream`` adds the request, and decides what
    becomes of the connection."""

    conn: Conn
    method: str
    path: str
    version: str
    remoteaddr: str

    _body: int
    """The length of the request's body, in bytes or CHUNKED."""
    _continue = False
    """Whether the peer waits for a 100 before it sends the request's body."""
    _close: bool
    """Whether the connection ends with the response."""
    _state = UNANSWERED
    _status = 0
    _lines = b""
    """The status line and the fields that do not depend on the body."""
    _expected: int | None = None
    """Bytes of the body that the head announces; CHUNKED; None while that is unknown,
    or if the body ends with the connection."""
    _written = 0
    """Bytes of the body that have been written."""
    _bodyless = False
    """Whether there is no body, because of the status or the request's method."""
    _cut: str | None = None
    """Why the response was cut."""

    def _told(self, err: str, code: str | None = None) -> str:
        return err

    def respond(self, status: int, header: Outgoing | None = None, close: bool = False) -> Result:
        """Starts the response. The head goes out with the first ``write``, ``flush`` or
        ``closewrite``.

            stream.respond(200, {"content-type": "text/plain"})
            stream.closewrite("Hello")

        * ``status``: an int from 200 to 999
        * ``header``: a mapping or pairs; a value is str, int, or a list of them for
          several fields of one name; None leaves the field out
        * ``close``: ends the response without a body, and then the connection

        If the header has no Content-Length, the first ``closewrite`` adds one if it
        gets the whole body; else the body is chunked (RFC 9112, section 7.1). Returns
        ``(False, err)`` if the request was answered before, or the peer is gone. Raises
        ValueError or TypeError for a bad status or header.
        """
        if close and _loop.no_switch:
            scheduler.refuse("stream.respond")
        ends = False
        ordinary = answer_lines(status, header, FINAL_LINES)
        if ordinary is not None:
            lines, expected = ordinary
        else:
            lines, expected, ends = response_lines(status, header or ())
        if self._state is not UNANSWERED:
            return failure("the request has been answered already")
        self._state = ANSWERED
        self._status, self._lines, self._expected = status, lines, expected
        self._bodyless = status in _NO_BODY or self.method == "HEAD"
        if ends or close:
            self._close = True
        return self.closewrite() if close else OK

    def _head(self, whole: int | None) -> bytes:
        """Returns the response's head. ``whole``: the body's length, if it is known."""
        status, expected = self._status, self._expected
        framing = b""
        if status == 204:
            expected = 0
        elif status == 205:
            expected, framing = 0, b"content-length: 0\r\n"  # RFC 9110, section 15.3.6
        else:
            if expected is None and status != 304:
                expected = CHUNKED if whole is None else whole
            if expected == CHUNKED:
                if self.version == "HTTP/1.1":
                    framing = b"transfer-encoding: chunked\r\n"
                else:
                    expected, self._close = None, True  # the body ends with the connection
            elif expected is not None:
                framing = b"content-length: %d\r\n" % expected
        self._expected = expected
        if self._body and not self._body_can_be_skipped():
            self._close = True
        if self._close:
            framing += b"connection: close\r\n"
        elif self.version != "HTTP/1.1":
            framing += b"connection: keep-alive\r\n"
        return b"%b%b\r\n" % (self._lines, framing)

    def _body_can_be_skipped(self) -> bool:
        """Whether the connection can go on after the unread body of the request."""
        if self._body == 0 or self._at_end():
            return True
        if self._continue:
            return False  # it is unknown whether the peer will send it
        return self._chunked is not None or self._left <= SKIPPED_BODY

    def _named(self) -> str:
        """Returns what begins the log's lines about the request."""
        return f"http: {self.remoteaddr}: {cut(self.method, 40)} {shown(self.path)}"

    def _refused(self, call: str) -> Result:
        """The error of ``call`` when there is no response that it could continue."""
        if self._state is UNANSWERED:
            return failure(f"respond() comes before {call}()")
        return failure(self._cut or "the response has ended")

    def write(self, data: Data) -> Result:
        """Sends a piece of the body.

            stream.respond(200, {"content-type": "text/plain"})
            for piece in ("one ", "two"):
                stream.write(piece)
            stream.closewrite()

        ``data``: bytes-like, or a str, which goes out as UTF-8. Blocks while the peer
        takes nothing and the limit ``unsent`` (1 MiB) is reached. Returns
        ``(False, err)`` if it cannot be sent, even because a ``time.deadline`` ran out.
        Then the response is over, and so is the connection: the peer sees that it is
        incomplete. Where a cancel (``Task.cancel``) strikes, ``data`` is still sent,
        and the response may go on.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.write")
        piece = to_bytes(data)
        if self._state is STREAMING:
            head = b""
        elif self._state is ANSWERED:
            head = self._head(None)
            self._state = STREAMING
        else:
            return self._refused("write")
        expected = self._expected
        if expected is not None and expected >= 0 and not self._bodyless and self._written + len(piece) > expected:
            if head:
                self.conn._stream.write(head)
            return failure(f"more than the content-length of {expected} bytes")
        if not self._bodyless:
            self._written += len(piece)
        return self._send(head, piece)

    def _send(self, head: bytes, piece: bytes = b"", last: bytes = b"") -> Result:
        """Sends ``head`` and a framed piece of the body; ``last`` ends a chunked
        one."""
        if self._bodyless:
            piece = last = b""
        elif self._expected != CHUNKED:
            last = b""
        elif piece:
            head += b"%x\r\n" % len(piece)
            last = b"\r\n" + last
        if len(piece) > COPIED:
            err = self.conn._stream.writev([part for part in (head, piece, last) if part])
        else:
            data = head + piece + last
            err = self.conn._stream.write(data) if data else None
        return OK if err is None else self._sending_failed(err)

    def _sending_failed(self, err: str) -> Result:
        # A piece may be missing now. No other may follow it, and no end that would make
        # the body look complete.
        self._state, self._cut, self._close = CUT, err, True
        return failure(err)

    def flush(self) -> Result:
        """Sends everything written so far now, the head included, instead of at the end
        of the loop's turn. Returns ``(False, err)`` as ``write`` does."""
        if _loop.no_switch:
            scheduler.refuse("stream.flush")
        if self._state is UNANSWERED:
            return self._refused("flush")
        result = OK
        if self._state is ANSWERED:
            self._state = STREAMING
            result = self._send(self._head(None))
        self.conn._stream.flush()
        return result

    def closewrite(self, body: Data | None = None, trailer: Outgoing | None = None) -> Result:
        """Ends the response, with ``body`` as its last piece.

            stream.respond(200, {"content-type": "text/plain"})
            stream.closewrite("Hello")

        ``trailer``: fields that follow the body (RFC 9110, section 6.5), which is
        chunked then. They are left out for a peer that speaks HTTP/1.0, and if the
        header has a Content-Length. Returns ``(False, err)`` if the response has ended
        before, if the body is not as long as the Content-Length, or as ``write`` does.
        Raises ValueError for fields that may not be trailers. ``close`` is its older
        name.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.closewrite")
        piece = b"" if body is None else body.encode() if type(body) is str else to_bytes(body)
        size = len(piece)
        if (
            self._state is ANSWERED
            and (self._expected is None or self._expected == size)
            and trailer is None
            and not (self._bodyless or self._close or self._body)
            and self.version == "HTTP/1.1"
            and size <= COPIED
        ):
            # Nearly every response. It is what the code below would do, in a third of
            # the time.
            self._state = ENDED
            self._expected = self._written = size
            data = b"%bcontent-length: %d\r\n\r\n%b" % (self._lines, size, piece)
            stream = self.conn._stream
            if _loop.may_queue and stream.try_queue(data):
                return OK
            err = stream.write(data)
            return OK if err is None else self._sending_failed(err)
        last = LAST_CHUNK if trailer is None else last_chunk(trailer)
        if self._state is ANSWERED:
            head = self._head(None if trailer else size)
        elif self._state is STREAMING:
            head = b""
        else:
            return self._refused("closewrite")
        self._state = ENDED
        expected = self._expected
        if self._bodyless:
            return self._send(head)
        total = self._written + size
        if expected is not None and expected >= 0 and total != expected:
            err = self.conn._stream.werr
            if err is not None:
                return failure(err)  # the handler was right to stop writing: nothing to log
            # Else the peer would take the next response for the rest of this body.
            self._close = True
            self._send(head, piece[: max(0, expected - self._written)])
            self._written = min(total, expected)
            text = f"{self._named()}: body of {total} bytes, content-length {expected}"
            logger.limited("http length", text, logger.ERROR)
            return failure(f"a body of {total} bytes, but a content-length of {expected}")
        self._written = total
        return self._send(head, piece, last)

    close = closewrite

    def answer(self, status: int, text: str = "", header: Mapping[str, Any] | None = None) -> Result:
        """Answers with a line of text: ``respond`` and ``closewrite`` in one.

            stream.answer(404, "Not Found")

        ``text`` gets a newline, and the Content-Type ``text/plain`` unless ``header``
        has another; without ``text`` there is no body. Returns ``(False, err)`` and
        raises as those two do.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.answer")
        if text:
            try:
                header = {"content-type": "text/plain", **(header or {})}
                text = text + "\n"  # a list would take it by +=
            except TypeError:
                raise _unanswerable(text, header) from None
        elif not isinstance(text, (str, NoneType)):
            raise _unanswerable(text, header)
        result = self.respond(status, header)
        return self.closewrite(text) if result else result

    def sendfile(self, fd: int, offset: int, size: int) -> Result:
        """Ends the response with ``size`` bytes of the open file ``fd``, from
        ``offset`` on. ``http.sendfile`` does the rest of what serving files needs.

            stream.respond(200, {"content-length": 4})
            stream.sendfile(file.fileno(), 5, 4)

        ``respond`` must have announced a Content-Length of ``size``. Blocks until the
        file is sent. Returns ``(False, err)`` as ``write`` does, and if the file is
        shorter; then the connection ends, since the body is incomplete. Raises
        ValueError for an ``offset`` or ``size`` that is no int of 0 or more.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.sendfile")
        if isinstance(fd, bool) or not isinstance(fd, int):
            raise TypeError(f"stream.sendfile needs a file descriptor, such as file.fileno(), not {type(fd).__name__}")
        check_int("stream.sendfile: the offset", offset)
        check_int("stream.sendfile: the size", size)
        if self._state not in (ANSWERED, STREAMING):
            return self._refused("sendfile")
        if self._state is STREAMING or self._expected != size:
            return failure(f"sendfile of {size} bytes needs a content-length of {size}, and nothing written before")
        self._state = ENDED
        stream = self.conn._stream
        try:
            result = self._send(self._head(None))
            if not result or self._bodyless:
                return result
            try:
                err = stream.sendfile(fd, offset, size)
            finally:
                self._written = stream.filed
        except BaseException:
            self._close = True  # the body may be incomplete, and no other answer may follow it
            raise
        if err is None:
            return OK
        self._close = True  # the peer sees that the body is incomplete
        return failure(err)

    def _fail(self, ended: str = RAISED) -> None:
        """Answers 500, since the handler raised, or 503, since it was cancelled; cuts a
        response that had begun. ``ended`` says which."""
        self._close = True
        if self._state in (UNANSWERED, ANSWERED):
            self._state = UNANSWERED
            if ended is CANCELLED:
                self.answer(503, "Service Unavailable")
            else:
                self.answer(500, "Internal Server Error")
        elif self._state is STREAMING:
            # The end is missing, so the peer sees that the body is incomplete.
            self._state, self._cut = CUT, f"the handler {ended}"

    def _must_reset(self) -> bool:
        """Whether the body is incomplete and ends with the connection: without a reset
        it would look complete."""
        return self._expected is None and self._state in (STREAMING, CUT) and not self._bodyless

    def _answered(self) -> tuple[int, int]:
        """The status of the response, 0 before there is one, and the bytes of its body
        that were written."""
        return self._status, self._written
