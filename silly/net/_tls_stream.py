"""The byte stream of a TLS connection: a ``Stream`` whose bytes go through OpenSSL."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from OpenSSL import SSL

from .. import errno
from .._core import scheduler
from .._core.loop import READ
from .._core.scheduler import wake
from .._log import tls as logger
from .._wire.error import ProtocolError
from .._wire.http1 import error_response
from .._wire.limits import Limits
from ._descriptor import NOTHING
from ._stream import Stream
from ._tls_pipe import ATTEND, CLOSED, PIECE, RECORD_TYPES, REFUSED, Pipe, new_pipe
from ._tls_words import reason

_OVERHEAD = 1024
"""Added to the most bytes of one receive: a full record (RFC 8446, section 5.2) then
comes by one call."""
_ANSWERS = 64 * 1024
"""The most bytes of OpenSSL's own answers (key updates) to a peer that takes no
output."""
_BEGINNING = 32
"""How many of a connection's first bytes are kept, to tell whether the peer speaks
TLS."""

_QUIET = 256
"""A connection that has carried no more bytes than this between two looks is idle: a
ping and a pong."""

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+( )?")


class TlsStream(Stream):
    """A stream through an OpenSSL connection, which has memory buffers instead of a
    socket."""

    plain = False
    word = "tls"

    __slots__ = (
        "_answers",
        "_beginning",
        "_fresh",
        "_grown",
        "_handshaking",
        "_looked",
        "_open",
        "_peer_closed",
        "_tickets_due",
        "hurry_on",
        "keep_session",
        "ssl",
    )

    pipe: Pipe
    """The way of all bytes through ``ssl``."""

    def __init__(self, sock: socket.socket, remoteaddr: str, limits: Limits, ssl: SSL.Connection) -> None:
        self.ssl = ssl
        self.hurry_on: Callable[[], object] | None = None
        """Called when the process begins to end within the handshake. It is set if a
        listener has accepted the connection."""
        self.keep_session: Callable[[SSL.Session], None] | None = None
        """Called once with the session, for a later connection. In TLS 1.3 the session
        comes some time after the handshake."""
        self._handshaking = True
        self._open = False
        """Whether data passes: the handshake is done, and ``close`` was not called."""
        self._fresh = True
        """Whether no data has come since the handshake."""
        self._peer_closed = False
        self._tickets_due = False
        """Whether the peer's tickets (TLS 1.3) may still come: nothing has arrived
        since the handshake."""
        self._answers = 0
        self._beginning = b""
        self._looked = 0
        """How many bytes it had carried when ``rest`` last looked."""
        self._grown = False
        """Whether OpenSSL's buffers may have grown since they were new."""
        super().__init__(sock, remoteaddr, limits, new_pipe(ssl))

    @classmethod
    def over(cls, plain: Stream, ssl: SSL.Connection) -> TlsStream:
        """Takes the socket of ``plain``, which is closed from then on, and what waits
        for its release. Nothing may be unsent there, and no task may read.

        What is unread there becomes the first bytes for ``ssl``. So plaintext that came
        before the handshake can only make it fail, however early it came: it is never
        taken for data that came through TLS.
        """
        early, leave = bytes(plain.buf), plain.released_later()
        sock = plain.give_up()
        try:
            stream = cls(sock, plain.remoteaddr, plain.limits, ssl)
        except BaseException:
            sock.close()
            if leave is not None:
                leave()
            raise
        if leave is not None:
            stream.when_released(leave)
        stream.mark = plain.mark
        stream._beginning = early[:_BEGINNING]
        for at in range(0, len(early), PIECE):
            stream.pipe.put(early[at : at + PIECE])
        return stream

    def shutdown(self) -> None:
        if self._handshaking and self.hurry_on is not None:
            self.hurry_on()
        else:
            super().shutdown()

    # ---- the handshake ---------------------------------------------------------------

    def handshake(self, deadline: float) -> str | None:
        """Does the handshake, until ``deadline`` (a time of ``time.monotonic()``).
        Returns None, or in words why it failed."""
        while True:
            try:
                self.ssl.do_handshake()
            except SSL.WantReadError:
                self._send_pending()
                err = self.fill(len(self.buf) + 1, deadline)
                if err is not None:
                    return "the peer ended the TLS handshake" if err in (errno.EOF, errno.TLS) else err
            except SSL.Error as exc:
                self._send_pending()
                return self._no_tls() or reason(exc)
            else:
                break
        self._send_pending()
        self._handshaking = False
        self._open = not self.closed
        self._tickets_due = self.ssl.get_protocol_version_name() == "TLSv1.3"
        self.pipe.read(self.buf)  # data that came right after the handshake
        self._attend()
        if self._peer_closed and self.err == errno.TLS and self._eof:
            self.err = errno.EOF  # TCP's end was seen before the peer's close_notify
        self._beginning = b""
        self.pipe.renew()
        return None

    def rest(self) -> None:
        total = self.received + self.flushed + self._accepted
        quiet = total - self._looked <= _QUIET
        self._looked = total
        if not quiet:
            self._grown = True
        elif self._grown and self._open:
            self._grown = not self.pipe.renew()

    def speaks_http(self, deadline: float) -> bool:
        """Before a server's handshake: waits for the client's first bytes, and returns
        whether they are an HTTP request without TLS. ``handshake`` reports a client
        that ends or sends nothing."""
        while True:
            begun = self._beginning
            found = _METHOD.match(begun)
            if found is not None and found[1]:
                return True
            if begun and (found is None or found.end() < len(begun) or len(begun) == _BEGINNING):
                return False
            if self.fill(len(self.buf) + 1, deadline) is not None:
                return False

    @property
    def probed(self) -> bool:
        """Whether the peer has gone, in order or by a reset, without having sent a
        byte, as health probes and port scans do."""
        return self._handshaking and not self._beginning and self.err not in (None, errno.TIMEDOUT)

    def refuse_http(self) -> None:
        """Answers an HTTP request without TLS with a 400, and closes."""
        error = ProtocolError("This port speaks TLS: use https://", 400)
        self._send_as_it_is(error_response(error, head_only=self._beginning.startswith(b"HEAD ")))
        self.close(await_end=True)

    def _no_tls(self) -> str | None:
        """Returns the error for a peer whose first bytes are not a TLS record, or
        None."""
        begun = self._beginning
        if not begun or (begun[0] in RECORD_TYPES and begun[1:2] in (b"", b"\x03")):
            return None
        return f"TLS: the peer does not speak TLS: it began with {begun!r:.100}"

    # ---- what arrives ----------------------------------------------------------------

    @property
    def partial(self) -> int:  # type: ignore[override]
        return self.pipe.partial

    def on_event(self, mask: int) -> None:
        sock = self.sock
        if mask != READ or sock is None:
            self._other_event(mask)
            return
        if not self._open:
            if self._events & READ:
                self._receive_without_data(sock)
            return
        # Nearly every message takes this path, as in ``Gathered``.
        buf, pipe = self.buf, self.pipe
        try:
            got = pipe.receive(self.fd, buf, self._recv_size + _OVERHEAD)
        except OSError as exc:
            self.fail(errno.from_oserror(exc))
            return
        except (MemoryError, BufferError):
            self._lost()
            raise
        reader = self._reader
        if got > 0 and reader is not None and len(buf) >= self.need and not self._fresh:
            self.peer_alive = True
            self.received = pipe.received
            self._reader = None
            wake(reader)
        elif got != NOTHING:
            self._received(got)

    def _receive_without_data(self, sock: socket.socket) -> None:
        """Receives what belongs to the handshake, or what comes after ``close``."""
        try:
            data = sock.recv(self._recv_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self.fail(errno.from_oserror(exc))
            return
        self.peer_alive = True
        self.received += len(data)
        if not data:
            self._ended()
        elif self.closed:
            self._discard(len(data))
        else:
            self.pipe.put(data)
            if len(self._beginning) < _BEGINNING:
                self._beginning += data[: _BEGINNING - len(self._beginning)]
            self._wake_reader(None)

    def _received(self, got: int) -> None:
        """Goes on after ``Pipe.receive``, which has returned ``got``."""
        self.peer_alive = True
        self.received = self.pipe.received
        if not got:
            self._ended()
            return
        self._tickets_due = False
        if got == ATTEND:
            self._attend()
        elif got > 0:
            self._fresh = False
            self._decrypted(got)

    def _decrypted(self, got: int) -> None:
        """``buf`` has grown by ``got`` bytes."""
        if self.keep_session is not None:
            self._pass_session()
        self._arrived(got)

    def _attend(self) -> None:
        """Goes on after a call of the ``Pipe`` that brought something else than data,
        or nothing."""
        pipe = self.pipe
        got, status = pipe.got, pipe.status
        if status == REFUSED:
            assert pipe.error is not None
            self._refused(pipe.error)
            return
        if status == CLOSED:
            self._peer_closed = True
        self._send_pending()
        if self._answers > _ANSWERS:
            text = f"tls: {self.remoteaddr}: a flood of key updates from a peer that doesn't read"
            logger.limited("tls key updates", text)
            self.fail(errno.TLS)
            return
        if self.sock is None:
            return  # it broke before the handshake's task ran
        if got:
            self._decrypted(got)
        if self._peer_closed:
            if self.err is None:
                self.err = errno.EOF  # a proper end, even if a write met a reset
            super()._ended()

    def _lost(self) -> None:
        """Fails the connection: there was no memory for what has come. Nobody may take
        what is there of it for all."""
        self.buf = bytearray()
        self.fail(errno.NOMEM)

    def _refused(self, exc: SSL.Error) -> None:
        """Fails the connection: the peer sent invalid TLS, or an alert. Data before
        that is good."""
        why = reason(exc)
        logger.limited("tls broken", f"tls: {self.remoteaddr}: {why}")
        self.why = self.why or why
        self.keep_session = None
        self._send_pending()
        self.flush()  # the alert
        self.fail(errno.TLS)

    def _ended(self) -> None:
        if self.err is None and not self._peer_closed:
            self.err = self.broke or errno.TLS  # after a failed write this is its reset
        super()._ended()

    def _pass_session(self) -> None:
        keep, self.keep_session = self.keep_session, None
        session = self.ssl.get_session()
        if keep is not None and session is not None:
            keep(session)

    # ---- what is sent ----------------------------------------------------------------

    def _send_as_it_is(self, data: bytes) -> None:
        """Queues what is not to be sealed: what OpenSSL itself has to send, and an
        answer to a peer that does not speak TLS."""
        self._out.append(data)
        self.unsent += len(data)
        self._mark_dirty()

    def _send_pending(self) -> None:
        """Queues what OpenSSL has to send by itself. It may overtake what is gathered,
        whose records are made later. After a file that failed, what was written before
        is still sent, and would not be understood without it."""
        data = self.pipe.pending()
        if data and (self.werr is None or self.unsent):
            self._answers = self._answers + len(data) if self._blocked else 0
            self._send_as_it_is(data)
            if scheduler.loop.current is scheduler.main:
                self.flush()

    def _seal(self) -> bool:
        pipe = self.pipe
        before = pipe.sealed
        try:
            records = pipe.seal(self._gathered)
            if records:
                self._out.append(records)
            self.unsent += len(records) - (pipe.sealed - before)
        except BaseException as exc:
            self._not_sealed(exc)
            return False
        return bool(records)

    def _seal_all(self) -> None:
        while self._gathered and self._seal():
            pass

    def _not_sealed(self, exc: BaseException) -> None:
        """Fails the connection: records, or data for them, may be missing now. The next
        read or write says so. Raises all but errors of OpenSSL."""
        if not isinstance(exc, SSL.Error):
            self.fail(errno.NOMEM if isinstance(exc, MemoryError) else errno.TLS)
            raise exc
        logger.limited("tls write", f"tls: {self.remoteaddr}: {reason(exc)}")
        self.fail(errno.TLS)

    def _flush(self, sent: int, failure: BaseException | None) -> None:
        if failure is None or isinstance(failure, OSError):
            super()._flush(sent, failure)
        else:
            self._not_sealed(failure)

    def written(self) -> int:
        self._seal_all()  # only then it is known
        return super().written()

    def _written(self) -> bool:
        """Whether the application wrote anything. The handshake and the close_notify,
        which are all that a reset could destroy then, mean nothing to a peer that gets
        no data; a caller that sent an alert asks to ``await_end``."""
        return self.pipe.sealed > 0

    def _last_words(self) -> str | None:
        self._seal_all()  # nothing may follow the close_notify
        if self.werr is not None:
            return self.werr
        try:
            self.ssl.shutdown()
        except SSL.Error as exc:
            logger.limited("tls closewrite", f"tls: {self.remoteaddr}: close_notify: {reason(exc)}")
            self.fail(errno.TLS)
            return errno.TLS
        self._send_pending()
        return None

    def close(self, await_end: bool = False) -> str | None:
        if self._open:
            self._seal_all()  # nothing may follow the close_notify
        if self._open and self.broke is None:
            if self.keep_session is not None:
                # This is a client. Tickets that arrive at a closed socket are answered
                # with a reset, which may destroy what was written.
                await_end = await_end or (self._written() and self._tickets_due)
                self._pass_session()
            if not self.half_closed:
                try:
                    self.ssl.shutdown()
                except SSL.Error as exc:
                    logger.limited("tls close", f"tls: {self.remoteaddr}: close_notify: {reason(exc)}", logger.DEBUG)
                self._send_pending()
        self._open = False
        return super().close(await_end)
