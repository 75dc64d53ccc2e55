"""A server's connection: reads requests, runs the handler for each, and decides whether
the connection goes on.

One task serves a connection, request after request; pipelined requests wait in the
buffer. When the handler returns, its response is finished: if it did not respond, or
raised, the answer is 500; if it left the response open, it is completed. If it was
cancelled, the answer is 503 and the connection ends. A request body that the handler
did not read is discarded if it is short; else the connection closes.
"""

from __future__ import annotations

import re
from math import inf
from typing import Protocol

from ... import errno
from ..._core import scheduler
from ..._core.loop import monotonic
from ..._core.result import OK
from ..._ends import ENDS
from ..._log import http as logger
from ..._shown import cut
from ..._wire.accelerated_http import take_request
from ..._wire.error import ProtocolError
from ..._wire.http1 import HeadReader, Request, error_response, parse_request
from ..._wire.limits import Limits
from .._stream import Stream, newcomers_until
from ..tcp import BURST, Conn
from ._drain import Drain
from .accesslog import AccessLog
from .h1 import KEEP, Outcome, RequestHandler, ServerStream, body_size

_ASKED_FOR = frozenset(("CONNECT", "TRACE"))
"""Methods that a server accepts only if its program asks for them: CONNECT makes a
proxy of it, and TRACE shows scripts fields that they must not see."""
_SECRETS = re.compile(r"(?<=\?).+(?= HTTP/)|(?<=\?).+?(?=['\"]?$)|(?<=[/'\"])[^/?]+(?=@)")
"""The query, and the user and password, in what an error quotes of a request, at its
end. They may hold blanks and quotes: often these are what is wrong."""
_HIDDEN = "\u2026"


class Service(Protocol):
    """What a connection needs of its server."""

    handler: RequestHandler
    scheme: str
    limits: Limits
    methods: frozenset[str]
    log: AccessLog | None


class Connection:
    """Serves one connection, in ``task``. It may be closed at any time while it is
    ``idle`` (waits for a request) or ``skipping`` (drops the rest of an answered
    request)."""

    __slots__ = ("_conn", "_drain", "_service", "_serving", "_until", "closing", "idle", "skipping", "task")

    def __init__(self, conn: Conn, service: Service) -> None:
        self._conn = conn
        self._service = service
        self._serving: ServerStream | None = None
        self._drain: Drain | None = None
        """The server's, once that drains."""
        self._until = inf
        """When it is over for a peer from which no whole request has come."""
        self.idle = False
        self.closing = False
        self.skipping = False
        self.task: scheduler.Task | None = None

    @property
    def busy(self) -> bool:
        """Whether something is unfinished: a request has begun, or its answer is on its
        way."""
        return not self.idle

    @property
    def upgraded(self) -> bool:
        """Whether another protocol has taken the connection over."""
        return self._serving is not None and self._serving._hijacker is not None

    def end(self, drain: Drain | None = None) -> None:
        """Ends the connection, since the server closes, or drains: after the request
        that it serves, and now if it is idle.

        A request that the kernel holds already is served. A peer that has had no answer
        yet gets ``NEWCOMER`` seconds for its first request: to end the connection now
        could be to reset it just when that comes. A head that has begun gets them too.
        """
        if not self.closing:
            self.closing = True
            self._until = newcomers_until()
        self._drain = drain
        stream = self._conn._stream
        if self._serving is not None:
            self._serving._end_connection()
            if drain is not None:
                self._serving._drain(drain)
        elif self.skipping:
            stream.close(await_end=True)
        elif stream._reader is not None:
            if not stream.look():
                return  # its task goes on, perhaps with a request
            if not self.idle or stream.partial or not (stream._written() or stream._gathered):
                stream.hasten(self._until)
            elif stream.unsent:
                stream.interrupt()  # its task delivers the answer, then closes
            else:
                stream.close()

    def abort(self) -> None:
        """Cuts the connection off."""
        if self._serving is not None and self._serving._must_reset():
            self._conn._stream.reset()
        else:
            self._conn._stream.abort()

    def deliver(self) -> None:
        """Waits until the kernel has everything that was written: as long as the peer
        goes on taking it, but after a close at most for the limit ``linger``."""
        stream = self._conn._stream
        stream.flush()
        while stream.unsent and stream.wait_sent() is None:
            pass

    def serve(self) -> None:
        """Serves request after request until the connection ends."""
        self.task = scheduler.current()
        try:
            stream = self._conn._stream
            burst = 0
            while True:
                if stream.buf:
                    burst += 1
                    if burst >= BURST:
                        burst = 0
                        scheduler.pause()
                else:
                    burst = 0
                if not self._serve_one(stream) or self.closing:
                    break
            # ``close`` would deliver too, but within a limit that a long answer to a
            # slow peer exceeds.
            self.deliver()
        finally:
            self._conn.close()

    def _serve_one(self, stream: Stream) -> bool:
        service = self._service
        try:
            request = self._read_head(stream)
            if request is None:
                return False
            begin = 0.0 if service.log is None else monotonic()
            if request.method in _ASKED_FOR:
                self._check_asked_for(request)
            expect = dict.get(request.header, "expect")  # spares Header.get, which lowers the name
            if expect is not None and request.version == "HTTP/1.1" and expect.lower() != "100-continue":
                raise ProtocolError("unknown expectation", 417)
        except ProtocolError as exc:
            logger.limited("http refused", f"http: {stream.remoteaddr}: {_SECRETS.sub(_HIDDEN, exc.text)}")
            answer = error_response(exc)
            stream.write(answer)
            if service.log is not None:
                service.log._add_refused(stream.remoteaddr, exc.code, body_size(answer))
            self._deliver_and_close(stream)  # this answer and those to earlier requests
            return False
        served = ServerStream(self._conn, request, service.scheme, service.limits)
        del request  # free the memory: the handler may run for hours
        return self._handle(served, begin)

    def _check_asked_for(self, request: Request) -> None:
        method = request.method
        if method not in self._service.methods:
            raise ProtocolError(f"{method} is not supported", 501)
        if request.body:
            # RFC 9110, sections 9.3.6 and 9.3.8: for CONNECT a body has no meaning, and
            # TRACE must not have one.
            raise ProtocolError(f"{method} with a body", 400)

    def _read_head(self, stream: Stream) -> Request | None:
        buf = stream.buf
        limits = self._service.limits
        if not buf:
            self.idle = True
            err = stream.fill(1, self._until if self.closing else monotonic() + limits.idle_timeout / 1000)
            self.idle = False
            if err is not None:
                return None
        request = take_request(buf, limits)
        if request is not None:
            return request
        heads = HeadReader(limits)
        head = heads.next(buf)
        if head is not None:
            return parse_request(head, limits)
        deadline = monotonic() + limits.head_timeout / 1000
        while True:
            err = stream.fill(len(buf) + 1, min(deadline, self._until))
            if err == errno.TIMEDOUT:
                if monotonic() >= self._until:
                    break  # the server closes, and nothing was promised to the peer
                if not buf:
                    return None  # it was the empty line that may precede a request, so no answer is due
                raise ProtocolError(f"head not complete within the limit 'head_timeout' of {limits.head_timeout} ms", 408)
            if err is not None:
                if buf and not self.closing:
                    text = f"http: {stream.remoteaddr}: the connection ended within a request's head: {err}"
                    logger.limited("http broken", text, logger.DEBUG)
                return None
            head = heads.next(buf)
            if head is not None:
                return parse_request(head, limits)
        stream.hang_up()
        return None

    def _handle(self, served: ServerStream, begin: float) -> bool:
        """Runs the handler and ends its response. Whether the connection goes on."""
        service = self._service
        log = service.log
        failed = False
        self._serving = served
        if self.closing:
            served._end_connection()
            if self._drain is not None:
                served._drain(self._drain)
        try:
            try:
                value = service.handler(served)
                if value is not None and value is not OK:
                    served._returned(service.handler, value)
            except ENDS:
                raise
            except BaseException as exc:
                if scheduler.in_child:
                    raise
                failed = True
                text = f"exception in the handler of {cut(served.method, 40)} {cut(served.path)}:"
                scheduler.uncaught(logger, text, exc)
            took = 0.0 if log is None else monotonic() - begin
            outcome = served._finish(failed)
        except scheduler.Cancelled:
            took = 0.0 if log is None else monotonic() - begin
            try:
                self._cancelled(served)
            finally:
                if log is not None:
                    log._add(served, took * 1000)
            raise
        except BaseException as exc:
            # The task is being ended.
            if isinstance(exc, SystemExit) and not scheduler.in_child:
                scheduler.system_exit(exc)  # now: the end of a WebSocket may wait for its peer
            took = 0.0 if log is None else monotonic() - begin
            try:
                served._abandon()
            finally:
                if log is not None:
                    log._add(served, took * 1000)
            raise
        finally:
            self._serving = None
        if log is not None:
            log._add(served, took * 1000)
        return outcome is KEEP or self._goes_on(served, outcome)

    def _cancelled(self, served: ServerStream) -> None:
        """Ends the response and the connection, since the task was cancelled."""
        self._goes_on(served, served._stop())
        self.deliver()

    def _goes_on(self, served: ServerStream, outcome: Outcome) -> bool:
        """Acts on the outcome of a response; returns whether the connection goes on."""
        if outcome is Outcome.SKIP_BODY:
            self.skipping = True
            try:
                outcome = served._skip_body()
            except scheduler.Cancelled:
                self._conn._stream.close(await_end=True)  # a reset could destroy the answer
                raise
            self.skipping = False
        stream = self._conn._stream
        match outcome:
            case Outcome.KEEP:
                return True
            case Outcome.RESET:
                stream.reset()
            case Outcome.AWAIT_PEER:
                self._deliver_and_close(stream)
            case Outcome.AWAIT_BODY:
                # Without ``deliver``: the peer may read nothing before it has sent all
                # of its body.
                stream.close(await_end=True)
            case Outcome.CLOSE:
                pass  # ``serve`` delivers and closes
        return False

    def _deliver_and_close(self, stream: Stream) -> None:
        """Delivers what was written, and closes: the peer may still be sending."""
        try:
            self.deliver()
        finally:
            stream.close(await_end=True)


def refuse_busy(conn: Conn, log: AccessLog | None) -> None:
    """Answers 503 to a connection past the limits, without reading from it."""
    answer = error_response(ProtocolError("too many connections", 503))
    conn._stream.write(answer)
    conn.close()
    if log is not None:
        log._add_refused(conn.remoteaddr, 503, body_size(answer))
