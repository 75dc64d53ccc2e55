"""A request and its response, as a client's program sees them."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple
from weakref import ref

from ... import errno
from ..._core import scheduler
from ..._core.deadline import Deadline
from ..._core.loop import monotonic
from ..._core.result import OK, Result, failure
from ..._wire import content
from ..._wire.chunked import LAST_CHUNK, chunk, last_chunk
from ..._wire.error import ProtocolError
from ..._wire.header import Header, Outgoing, tokens
from ..._wire.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    ResponseHead,
    ResponseReader,
    field_lines,
    request_line,
    response_body_length,
)
from ..._wire.limits import Limits
from ..._wire.url import Url
from .._pace import Pace
from ..tcp import Conn, Data, deadline_after, to_bytes
from ._body import Incoming
from ._error import Phase, RequestError
from ._pool import BUSY, ConnPool, receive_idle

EXPECT = 1.0
"""Seconds that a request with ``expect: 100-continue`` waits for the 100 before it
sends its body (RFC 9110, section 10.1.1)."""
PIECE = 256 * 1024
"""After each so many bytes of a body, check whether the server has answered already."""

_loop = scheduler.loop
_ANSWERED = "the server has answered before the request was sent"
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))
_WITH_CONTENT = frozenset(("POST", "PUT", "PATCH"))
"""Methods whose requests have ``content-length: 0`` if there is no content (RFC 9110,
section 8.6)."""


_CODES = {408: errno.TIMEDOUT, 413: errno.MSGSIZE, 414: errno.MSGSIZE, 431: errno.MSGSIZE}
"""The constant of ``silly.errno`` for a bad response, by the status with which a server
would answer such a request."""


def _closed() -> RequestError:
    return RequestError(errno.CLOSED, "closed", errno.CLOSED)


def _error(err: str, phase: Phase, code: str | None = None) -> RequestError:
    """Makes a RequestError of ``err``, unless it is one. Without ``code``, ``err`` is a
    constant of ``silly.errno``."""
    return err if isinstance(err, RequestError) else RequestError(err, phase, code or err)


class _Watch:
    """The ``Owner`` of the connection's stream, which calls it in a callback of the
    loop. It refers to the request weakly: a request that is forgotten closes its
    connection."""

    __slots__ = ("_request",)

    def __init__(self, request: ClientStream) -> None:
        self._request = ref(request)

    def data_unread(self) -> None:
        """Data has arrived unread. While a task writes, it may be the response."""
        request = self._request()
        if request is not None and request._sending:
            request._answer()

    def drained(self) -> None:
        """Does nothing: ``wants_drained`` is never set."""

    def broken(self) -> None:
        """Does nothing: the stream has woken the tasks that wait."""

    def process_ends(self) -> None:
        """Does nothing: the task that made the request may still read the answer."""

    def said_goodbye(self) -> None:
        """Does nothing: HTTP has no goodbye."""


class Bounds(NamedTuple):
    """The time-outs of a request, in ms: to connect, to wait for the response's head,
    and in ``total`` (None: no limit). ``last`` is when the total ends, a time of
    ``time.monotonic()``."""

    connect: float
    head: float
    total: float | None = None
    last: float = inf

    def starting(self, total: float | None) -> Bounds:
        """Returns the bounds of a request that begins now. ``total`` (ms) replaces the
        total, unless it is None."""
        total = self.total if total is None else total
        return self if total is None else self._replace(total=total, last=deadline_after(total))


class ClientStream(Incoming[RequestError]):
    """A request and its response, piece by piece; ``http.request`` makes it. It closes
    at the end of a ``with`` block.

        stream, err = http.request("PUT", "http://127.0.0.1:8080/file")
        if stream is not None:
            with stream:
                stream.write("piece by ")
                stream.closewrite("piece")
                body, err = stream.readall()

    ``write`` and ``closewrite`` send the request's head and body. Then ``waitresponse``
    or ``readheader`` waits for the response's head, and ``read``, ``readall`` or
    ``pieces`` reads its body; these wait for the head too. After the end of the body,
    the connection serves other requests; ``close`` before that closes it.

    * ``method``, ``url`` (without user and password), ``remoteaddr``
    * ``status``, ``reason``, ``version``, ``header``: the response's; ``status`` is 0
      before
    * ``trailer``: the trailer fields, after a chunked body was read to its end
    """

    _whose = "response"
    _of_response = True
    status = 0
    """The response's status; 0 before the response has arrived."""
    reason = ""
    version = "HTTP/1.1"
    """The request's version; the response's after that has arrived."""
    _response: ResponseHead | None = None
    _head_sent = False
    _ended = False
    _sent = False
    """Whether all of the request has been written; ``_ended`` is set before."""
    _written = 0
    _sending = False
    """Whether a task is in a write."""
    _unsent: RequestError | None = None
    """Why a write failed. A part of the request may be missing, so none may follow."""
    _cut = False
    """Whether the connection cannot serve another request."""
    _replay: bytes | None = None
    """The whole request, as long as it may have to be sent again."""

    def __init__(
        self, pool: ConnPool, url: Url, method: str, header: Outgoing, limits: Limits, bounds: Bounds, decode: bool
    ) -> None:
        lines, self._expected, self._options = field_lines(header)
        self._lines = request_line(method, url.path) + lines
        self._expect = "\r\nexpect: 100-continue\r\n" in self._lines.lower()
        self._pool = pool
        self._url = url
        self._conn: Conn | None = None
        self._source = None
        self._reused = False
        self._responses = ResponseReader(limits)
        self.method = method
        self.url = str(url)
        self.header = Header()
        self.limits = limits
        self._bounds = bounds
        self._last = bounds.last
        self._decode = decode
        self.remoteaddr = ""

    # ---- the connection --------------------------------------------------------------

    def _connect(self, fresh: bool = False) -> RequestError | None:
        """Takes a connection from the pool. Returns the error, or None."""
        try:
            with Deadline(max(0.0, min(self._bounds.connect, self._remaining()))) as own:
                got = self._pool.checkout(self._url, fresh)
        except BaseException:
            self._err = self._err or _closed()  # for another task that uses this stream
            raise
        if isinstance(got, RequestError):
            why = str(got)
            if got in (errno.TIMEDOUT, BUSY) and scheduler.expired():
                why = scheduler.ran_out("http.request")
            elif got in (errno.TIMEDOUT, BUSY) and own.expired:
                why = self._bound(errno.TIMEDOUT, self._bounds.connect) + got.removeprefix(errno.TIMEDOUT)
            return self._failed(got.phase, "connect", why, got.errno)
        self._conn, self._reused = got
        if self._err is not None:
            self._drop()  # another task has closed it
            return self._err
        self._source = self._conn._stream
        self._source.owner = _Watch(self)
        self.remoteaddr = self._conn.remoteaddr
        return None

    def _remaining(self) -> float:
        """Milliseconds until the total time-out ends."""
        return (self._last - monotonic()) * 1000

    def _failed(self, phase: Phase, doing: str, why: str, code: str | None) -> RequestError:
        """Ends the request. Returns an error whose text has the URL, what was being
        done, and the cause; ``code`` is that of ``silly.errno``."""
        if self._err is not None:
            phase, code = self._err.phase, self._err.errno  # another task has ended it, which is the cause
        self._err = RequestError(f"http {self.method} {self.url}: {doing}: {why}", phase, code)
        self._drop()
        return self._err

    def _drop(self) -> None:
        conn, self._conn, self._source = self._conn, None, None
        if conn is not None:
            conn._stream.owner = None
            conn._stream.abort()  # unsent output does not matter any more
            self._pool.leave(self._url)

    def _settle(self) -> None:
        """Gives the connection back if the whole response has been received."""
        conn = self._conn
        if conn is None or self._response is None or not self._raw_ended():
            return
        if not self._sent or conn.unsentbytes():
            self._drop()
            return
        self._conn = self._source = None
        conn._stream.owner = None
        if self._cut:
            conn.close()
            self._pool.leave(self._url)
        else:
            self._pool.checkin(self._url, conn)

    def close(self) -> Result[RequestError]:
        """Ends the request. If its response was not read to the end, the connection
        closes; else it has been given back, and the result is
        ``(False, errno.CLOSED)``.

            stream.close()
        """
        scheduler.check_thread(closes=True)
        if self._err is None:
            self._err = _closed()
        if self._conn is None:
            return failure(_closed())
        self._drop()
        return OK

    def __enter__(self) -> ClientStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self, post: Callable[..., object] = scheduler.loop.post) -> None:  # as in ``tcp.Conn``
        # A finalizer may run anywhere, so it only schedules a call. The connection's
        # own finalizer closes the connection.
        if getattr(self, "_conn", None) is not None:
            post(self._pool.leave, self._url)

    # ---- the request -----------------------------------------------------------------

    def _head(self, whole: int | None) -> bytes:
        """Returns the request's head. ``whole``: the body's length, if it is known."""
        if self._expected is None and whole is None:
            self._expected = CHUNKED
        elif self._expected is None and (whole or self.method in _WITH_CONTENT):
            self._expected = whole
        framing = f"connection: {', '.join(self._options)}\r\n" if self._options else ""
        if self._expected == CHUNKED:
            framing += "transfer-encoding: chunked\r\n"
        elif self._expected is not None:
            framing += f"content-length: {self._expected}\r\n"
        self._cut = "close" in self._options
        self._head_sent = True
        return f"{self._lines}{framing}\r\n".encode("latin-1")

    def _refusal(self) -> RequestError | None:
        """Returns why nothing can be written, or None."""
        scheduler.check_thread()  # before anything counts as sent
        if self._err is not None:
            return self._err
        if self._ended:
            return RequestError("the request has ended", "send", None)
        if self._unsent is not None:
            return self._unsent
        source = self._source
        if source is None and self._response is None:
            raise RuntimeError(f"{self}: another task is writing to it")  # and connects again
        if self._reused and not self._head_sent and self._conn is not None:
            receive_idle(self._conn)  # again, since time may have passed
        if not self._head_sent and source is not None and (source.err is not None or (self._reused and source.buf)):
            # While it was idle, the server ended it, or sent something that would be
            # taken for our response.
            self._drop()
            return self._connect(fresh=True)
        return self._answer()

    def _answer(self) -> RequestError | None:
        """Takes the responses that have arrived. Returns why no more of the request is
        sent, or None: the server has answered before it got the rest (RFC 9112, section
        9.3), or broken the protocol."""
        try:
            if self._response is None and (self._source is None or not self._next_head(False)):
                return None
        except ProtocolError as exc:
            return self._bad_head(exc)
        self._cut = True
        return RequestError(_ANSWERED, "send", None)

    def _bad_head(self, error: ProtocolError) -> RequestError:
        return self._failed("head", "reading the response", error.text, _CODES.get(error.code))

    def _send(self, data: bytes) -> RequestError | None:
        """Sends a part of the request; after an error no other may follow. Returns the
        error, or None."""
        source = self._source
        assert source is not None
        self._sending = True
        try:
            if self._last == inf:
                err = source.write(data)
            else:
                with Deadline(max(0.0, self._remaining())):
                    err = source.write(data)
        finally:
            self._sending = False
        if self._err is not None:
            return self._err  # another task closed it, or the server has broken the protocol
        if err is None or self._response is not None:
            return None
        self._cut = True
        why = err
        if err is errno.TIMEDOUT and source.werr is None:
            if not scheduler.expired():
                return self._failed("send", "sending the request", self._bound(err, self._bounds.head), err)
            why = scheduler.ran_out("stream.write")
        self._unsent = RequestError(why, "send", err)
        return self._unsent

    def write(self, data: Data) -> Result[RequestError]:
        """Sends a piece of the request's body.

            for piece in ("one ", "two"):
                stream.write(piece)
            stream.closewrite()

        ``data``: bytes-like, or a str, which goes out as UTF-8. Blocks while the server
        takes nothing and the limit ``unsent`` (1 MiB) is reached. If the header has no
        Content-Length, the body is chunked (RFC 9112, section 7.1). Returns
        ``(False, err)`` if the connection is broken, or the server has answered
        already: then ``waitresponse`` may still succeed. Where a cancel
        (``Task.cancel``) strikes, ``data`` is still sent, and the request may go on.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.write")
        piece = to_bytes(data)
        why = self._refusal()
        if why is not None:
            return failure(why)
        err = self._start_body() if not self._head_sent else None
        if err is not None:
            return failure(err)
        if self._expected != CHUNKED and self._expected is not None and self._written + len(piece) > self._expected:
            return failure(RequestError(f"more than the content-length of {self._expected} bytes", "send", None))
        if not piece:
            return OK
        self._written += len(piece)
        err = self._send(chunk(piece) if self._expected == CHUNKED else piece)
        return OK if err is None else failure(err)

    def _start_body(self) -> RequestError | None:
        """Sends the head of a request whose body follows. With ``expect: 100-continue``
        it waits for the 100. Returns the error, or None."""
        head = self._head(None)
        err = self._send(head)
        if err is None and self._expect:
            self._expect = False
            if self._reused and self.method in _IDEMPOTENT:
                self._replay = head
            try:
                waited = self._read_head(min(monotonic() + EXPECT, self._last), True)
            except scheduler.Cancelled:
                # What the call was given goes out, as after the time-out, or it would
                # be lost. The blow strikes where the task waits next.
                scheduler.current().cancel()
                return self._err
            finally:
                self._replay = None
            if waited is errno.TIMEDOUT:
                return None  # RFC 9110, section 10.1.1: a server may not know ``expect``
            if waited is not None:
                return _error(waited, "head")
            if self._response is not None:
                self._cut = True
                return RequestError(f"the server has answered {self.status} before it got the body", "send", None)
        return err

    def flush(self) -> Result[RequestError]:
        """Sends everything written so far now, the head included, instead of at the end
        of the loop's turn. Returns ``(False, err)`` as ``write`` does."""
        if _loop.no_switch:
            scheduler.refuse("stream.flush")
        why = self._refusal()
        if why is None and not self._head_sent:
            why = self._start_body()
        if why is not None:
            return failure(why)
        assert self._source is not None
        self._source.flush()
        return OK

    def closewrite(self, body: Data | None = None, trailer: Outgoing | None = None) -> Result[RequestError]:
        """Ends the request, with ``body`` as its last piece.

            stream.closewrite("Hello")
            status, header = stream.readheader()

        ``trailer``: fields that follow the body (RFC 9110, section 6.5), which is
        chunked then; they are left out if the header has a Content-Length. Returns
        ``(False, err)`` as ``write`` does, and if the request has ended before, or the
        body is not as long as the Content-Length. Raises ValueError for fields that may
        not be trailers.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.closewrite")
        piece = b"" if body is None else to_bytes(body)
        last = LAST_CHUNK if trailer is None else last_chunk(trailer)
        why = self._refusal()
        if why is not None:
            return failure(why)
        total = self._written + len(piece)
        if self._expected not in (None, CHUNKED, total):
            wrong = f"a body of {total} bytes, but a content-length of {self._expected}"
            return failure(self._failed("send", "sending the request", wrong, None))
        if self._expect and piece:
            err = self._start_whole(None if trailer else len(piece))
            if err is not None:
                return failure(err)
        head = b"" if self._head_sent else self._head(None if trailer else len(piece))
        self._written = total
        if self._expected == CHUNKED:
            piece = (chunk(piece) if piece else b"") + last
        data = head + piece if head else piece
        self._ended = True
        if head and self._reused and self.method in _IDEMPOTENT:
            self._replay = data
        return self._send_whole(data)

    def _start_whole(self, size: int | None) -> RequestError | None:
        """Sends the head of a request whose whole body is known, and waits for the 100.
        ``size``: the body's length; None if it is chunked. Returns the error, or
        None."""
        if self._expected is None:
            self._expected = size
        return self._start_body() if not self._head_sent else None

    def _send_whole(self, data: bytes) -> Result[RequestError]:
        self._sent = False
        for at in range(0, len(data), PIECE):
            err = self._answer() if at else None
            if err is None:
                try:
                    err = self._send(data if len(data) <= PIECE else data[at : at + PIECE])
                except BaseException:
                    self._send_rest(data, at + PIECE)
                    raise
            if err is None:
                continue
            if self._replay is not None and self._source is not None and self._source.werr is not None:
                return OK  # it may be sent again: the wait for the response does that
            return failure(err)
        self._sent = True
        return OK

    def _send_rest(self, data: bytes, at: int) -> None:
        """Queues what ``_send_whole`` had still to send when it was interrupted, so
        that the request is whole. Waits for nothing."""
        if self._err is None and self._response is None and self._source is not None:
            self._sent = at >= len(data) or self._source.write_nowait(data[at:]) is None

    # ---- the response ----------------------------------------------------------------

    def waitresponse(self, timeout: float | None = None) -> Result[RequestError]:
        """Waits for the response's head, which sets ``status``, ``reason``, ``version``
        and ``header``.

            stream.closewrite()
            if stream.waitresponse():
                print(stream.status, stream.header["content-type"])

        ``timeout``: in ms (default: the client's ``head_timeout``). Returns
        ``(False, err)`` if the response does not come. If only the caller's ``timeout``
        has passed, nothing is lost, and another call may wait on.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.waitresponse")
        if self._response is not None:
            return OK
        if self._err is not None:
            return failure(self._err)
        if not self._head_sent:
            return failure(RequestError("closewrite() comes before waitresponse()", "head", None))
        err = self._await_head(self._bounds.head if timeout is None else timeout, timeout is None)
        if err is None:
            return OK
        if isinstance(err, RequestError):
            return failure(err)
        # A time-out or deadline ran out. After one of the caller's the request may go
        # on; after one of the client's it has failed.
        if scheduler.expired():
            return failure(RequestError(scheduler.ran_out("stream.waitresponse"), "head", err))
        if timeout is not None and self._last > monotonic():
            return failure(RequestError(err, "head", err))
        return failure(self._failed("head", "waiting for the response", self._bound(err, self._bounds.head), err))

    def _await_head(self, ms: float, extends: bool) -> str | None:
        """Waits ``ms`` for the response's head; with ``extends`` longer, if the server
        has not got the end of the request, and still takes it. Returns None or the
        error."""
        pace: Pace | None = None
        while True:
            err = self._read_head(min(deadline_after(ms), self._last), False)
            source = self._source
            if err is not errno.TIMEDOUT or not extends or source is None or source.err is not None:
                return err
            if scheduler.expired() or self._last <= monotonic():
                return err
            pace = source.held_back(pace)
            if pace is None:
                return err

    def _bound(self, err: str, ms: float) -> str:
        """``err`` with the time-out that has passed: ``ms``, or the total."""
        total = self._bounds.total
        if total is not None and self._last <= monotonic():
            return f"{err} (after {total:.15g} ms in total)"
        return f"{err} (after {ms:.15g} ms)"

    def readheader(self, timeout: float | None = None) -> tuple[int, Header] | tuple[None, RequestError]:
        """Waits for the response's head, as ``waitresponse`` does, and returns its
        status and header.

            stream.closewrite()
            status, header = stream.readheader()
            if status is None:
                print("no response:", header)

        Returns ``(status, header)``, or ``(None, err)``.
        """
        _, err = self.waitresponse(timeout)
        return (self.status, self.header) if err is None else (None, err)

    def _next_head(self, proceed: bool) -> bool:
        """Takes the heads that have arrived. Returns whether the final response's was
        among them, or, with ``proceed``, a 100."""
        assert self._source is not None
        response = self._responses.next(self._source.buf, proceed)
        if self._responses.interim:
            self._replay = None
        if response is None:
            return False
        if response.status != 100:
            self._answered(response)
        return True

    def _read_head(self, deadline: float, proceed: bool) -> str | None:
        """Waits for the response's head; with ``proceed``, also for a 100. Returns None
        or the error. Only ``errno.TIMEDOUT`` leaves everything as it was.
        """
        try:
            while (source := self._source) is not None and not self._next_head(proceed):
                err = source.fill(len(source.buf) + 1, deadline)
                if self._source is not source:
                    break
                if source.buf:
                    self._replay = None
                if err is errno.TIMEDOUT:
                    if source.err is None:
                        return err
                    self._replay = None  # the server took nothing for so long that another try is pointless
                if err is not None:
                    failed = self._again(source.why if err is not errno.EOF and source.why else err, err)
                    if failed is not None:
                        return failed
        except ProtocolError as exc:
            return self._bad_head(exc)
        # If there is no response, another task has closed the stream.
        return None if self._response is not None or self._source is not None else self._err or errno.CLOSED

    def _again(self, why: str, err: str) -> RequestError | None:
        """Sends the request once more on a new connection, if it may be repeated (RFC
        9110, section 9.2.2). The old one broke: a server may close an idle connection
        just as it is used again. ``why``: the cause in words; ``err``: as a constant of
        ``silly.errno``. Returns the error, or None."""
        replay, self._replay = self._replay, None
        if replay is None:
            hint = "; the connection had been idle, and the request may not be repeated" if self._reused else ""
            return self._failed("head", "waiting for the response", f"{why}{hint}", err)
        self._drop()
        self._unsent = None
        self._responses = ResponseReader(self.limits)
        failed = self._connect(fresh=True)
        if failed is None and not self._ended:
            failed = self._send(replay)  # the head; its body waits for the 100
        elif failed is None:
            _, wrong = self._send_whole(replay)
            if wrong is not None and self._response is None:
                failed = self._err or self._failed("send", "sending the request", wrong, wrong.errno)
        return failed

    def _answered(self, response: ResponseHead) -> None:
        """Takes the final response's head. Raises ProtocolError for bad framing."""
        length = response_body_length(response, self.method)
        self._response = response
        if self._sending and self._source is not None:
            self._source._wake_writers(None)  # the server may not take the rest
        self.version, self.status, self.reason, self.header = response
        options = tokens(response.header["connection"])
        if length == UNTIL_CLOSE or "close" in options or (response.version == "HTTP/1.0" and "keep-alive" not in options):
            self._cut = True
        coding = response.header["content-encoding"] if self._decode and length else None
        self._expect_body(length, coding if content.known(coding) else None)
        self._settle()

    def _wait_for(self, size: int, timeout: float | None = None, ahead: int = 0, until: float | None = None) -> str | None:
        if self._response is None:
            _, failed = self.waitresponse(timeout)
            if failed is not None:
                return failed
        err = super()._wait_for(size, timeout, ahead, until)
        self._settle()
        return err

    def _ready(self) -> bool:
        from ._select import head_ready

        if self._response is None and self._err is None and not head_ready(self):
            return False
        ready = self._response is None or super()._ready()
        self._settle()
        return ready

    def _watch(self, watch: scheduler.Task) -> None:
        from ._select import watch_head

        if self._response is None and self._err is None:
            watch_head(self, watch)
        else:
            super()._watch(watch)

    def readall(
        self, limit: int | None = None, timeout: float | None = None
    ) -> tuple[bytes, None] | tuple[None, RequestError]:
        """Waits for the response and reads the rest of its body, with gzip and deflate
        decoded if the client asked for them.

            body, err = stream.readall()
            if body is None:
                print("no response:", err)

        ``limit``: how many bytes it may have, decoded (default: the limit ``body``).
        ``timeout``: how many ms the server may send nothing. The limit ``body_rate``
        holds too, over twice that time. Returns ``(body, None)``; ``(None, err)`` if
        the body is longer or slower, or as ``read`` does.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.readall")
        if self._response is None:
            _, err = self.waitresponse(timeout)
            if err is not None:
                return None, err
        # ``read`` and ``pieces`` have no rate: a response may be a stream of events,
        # which has little to say for hours.
        self._rated = True
        try:
            return super().readall(limit, timeout)
        finally:
            self._rated = False
            self._meter = None

    def _window(self, timeout: float | None) -> float:
        # A time-out that the caller allows for silence is silence, not slowness.
        return max(super()._window(timeout), (timeout or 0) / 500)

    def _take(self, size: int) -> bytes:
        data = super()._take(size)
        self._settle()
        return data

    def _broken(self, error: ProtocolError, err: str | None = None) -> RequestError:
        return self._failed("body", "reading the response", error.text, err or _CODES.get(error.code))

    def _told(self, err: str, code: str | None = None) -> RequestError:
        return _error(err, "body", code)

    def __repr__(self) -> str:
        return f"<http request {self.method} {self.url}, {self._err or self.status or 'under way'}>"
