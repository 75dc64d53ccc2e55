"""The byte stream of a TLS connection: a ``Stream`` whose bytes go through OpenSSL."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

from OpenSSL import SSL

from .. import errno
from .._core import scheduler
from .._core.loop import READ, WRITE
from .._log import tls as logger
from .._wire.error import ProtocolError
from .._wire.http1 import error_response
from .._wire.limits import Limits
from ._stream import Stream
from ._tls_words import reason

_RECORD = 16384
"""The most data in a record (RFC 8446, section 5.1), and in one call of OpenSSL."""
_CIPHERTEXT = _RECORD + 2048
"""The greatest length in a record's header (RFC 5246, section 6.2.3)."""
_HEADER = 5
"""Bytes of a record's header: type, version, length."""
_OPENSSL_PIECE = 64 * 1024
"""The most bytes that OpenSSL is given, or asked for, at once. Its buffers grow to that
size, and never shrink."""
_ANSWERS = 64 * 1024
"""The most bytes of OpenSSL's own answers (key updates) to a peer that takes no
output."""
_BEGINNING = 32
"""How many of a connection's first bytes are kept, to tell whether the peer speaks
TLS."""
_RECORD_TYPES = range(20, 24)
"""The record types (RFC 8446, section 5.1)."""

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+( )?")


class TlsStream(Stream):
    """A stream through an OpenSSL connection, which has memory buffers instead of a
    socket."""

    plain = False

    __slots__ = (
        "_answers",
        "_beginning",
        "_encoded",
        "_handshaking",
        "_header",
        "_missing",
        "_peer_closed",
        "_record",
        "_tickets_due",
        "accepted",
        "keep_session",
        "ssl",
    )

    def __init__(self, sock: socket.socket, remoteaddr: str, limits: Limits, ssl: SSL.Connection) -> None:
        self.ssl = ssl
        self.accepted = False
        """Whether a listener has accepted it: the end of the process cuts its handshake
        short."""
        self.keep_session: Callable[[SSL.Session], None] | None = None
        """Called once with the session, for a later connection. In TLS 1.3 the session
        comes some time after the handshake."""
        self._handshaking = True
        self._peer_closed = False
        self._tickets_due = False
        """Whether the peer's tickets (TLS 1.3) may still come: nothing has arrived
        since the handshake."""
        self._encoded = False
        """Whether the application wrote anything. (More was sent in the
        handshake.)"""
        self._answers = 0
        self._beginning = b""
        self._header = b""
        """The first bytes of a record whose header is not complete yet."""
        self._missing = 0
        """Bytes still to come of a record whose header is complete."""
        self._record = 0
        """The length of that record, its header included."""
        super().__init__(sock, remoteaddr, limits)
        self._thread = 0  # ``try_queue`` takes nothing: data must be encoded first

    def shutdown(self) -> None:
        if self._handshaking and self.accepted:
            self.hang_up()
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
        self._tickets_due = self.ssl.get_protocol_version_name() == "TLSv1.3"
        self._decrypt(_OPENSSL_PIECE)  # data that came right after the handshake
        if self._peer_closed and self.err == errno.TLS and self._eof:
            self.err = errno.EOF  # TCP's end was seen before the peer's close_notify
        return None

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
        return not self._beginning and self.err not in (None, errno.TIMEDOUT)

    def refuse_http(self) -> None:
        """Answers an HTTP request without TLS with a 400, and closes."""
        error = ProtocolError("This port speaks TLS: use https://", 400)
        self._enqueue([error_response(error, head_only=self._beginning.startswith(b"HEAD "))])
        self.close(await_end=True)

    def _no_tls(self) -> str | None:
        """Returns the error for a peer whose first bytes are not a TLS record, or
        None."""
        begun = self._beginning
        if not begun or (begun[0] in _RECORD_TYPES and begun[1:2] in (b"", b"\x03")):
            return None
        return f"TLS: the peer does not speak TLS: it began with {begun!r:.100}"

    # ---- what arrives ----------------------------------------------------------------

    def on_event(self, mask: int) -> None:
        sock = self.sock
        if sock is None:
            return  # closed earlier in this turn
        if mask & READ and self._events & READ:
            try:
                data = sock.recv(self._recv_size)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                self.fail(errno.from_oserror(exc))
                return
            else:
                self.peer_alive = True
                self.received += len(data)
                if data:
                    self._feed(data)
                else:
                    self._ended()
        if mask & WRITE and self._events & WRITE:
            self._transmit()

    def _feed(self, data: bytes) -> None:
        """``data`` has arrived."""
        if self.closed:
            self._discard(len(data))
            return
        if len(data) <= _OPENSSL_PIECE:
            self._take_in(data)
            return
        for at in range(0, len(data), _OPENSSL_PIECE):
            if self.closed or self.sock is None:
                return
            self._take_in(data[at : at + _OPENSSL_PIECE])

    def _take_in(self, data: bytes) -> None:
        self.ssl.bio_write(data)
        records = self._records(data)
        if self._handshaking:
            if len(self._beginning) < _BEGINNING:
                self._beginning += data[: _BEGINNING - len(self._beginning)]
            self._wake_reader(None)
            return
        self._tickets_due = False
        if records:
            self._decrypt(records)

    def _records(self, data: bytes) -> int:
        """Returns how many records ``data`` completes. One with an invalid header
        counts at once, so that OpenSSL rejects it."""
        size = len(data)
        at = self._missing
        if not at and not self._header and size >= _HEADER and size == _HEADER + (data[3] << 8 | data[4]):
            return 1  # nearly every message
        count = 0
        if at:
            if size < at:
                self._missing = at - size
                return 0
            self._missing = 0
            count = 1
        elif self._header:
            data = self._header + data
            self._header = b""
            size = len(data)
        while size - at >= _HEADER:
            length = (data[at + 3] << 8) | data[at + 4]
            end = at + _HEADER + length
            if end > size:
                self._missing = end - size
                self._record = _HEADER + length
                good = length <= _CIPHERTEXT and data[at] in _RECORD_TYPES and data[at + 1] == 3
                return count if good else count + 1
            count += 1
            at = end
        self._header = data[at:]
        return count

    @property
    def partial(self) -> int:  # type: ignore[override]
        return self._record - self._missing if self._missing else len(self._header)

    def _decrypt(self, records: int) -> None:
        """Reads what OpenSSL has decrypted: at most ``records`` whole records.

        If each record gave data, nothing is left to read, and OpenSSL has nothing to
        answer by itself. Then no call asks for more: it would cost more than reading a
        small record.
        """
        ssl = self.ssl
        pieces = []
        silent = True
        try:
            while records:
                pieces.append(ssl.recv(_RECORD))
                records -= 1
            silent = False
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._peer_closed = True
        except SSL.Error as exc:
            self._refused(exc, pieces)
            return
        if silent:
            self._send_pending()
            if self._answers > _ANSWERS:
                text = f"tls: {self.remoteaddr}: a flood of key updates from a peer that doesn't read"
                logger.limited("tls key updates", text)
                self.fail(errno.TLS)
                return
        plain = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.sock is None:
            self.buf += plain  # it broke before the handshake's task ran
            return
        if plain:
            if self.keep_session is not None:
                self._pass_session()
            self.buf += plain
            self._arrived(len(plain))
        if self._peer_closed:
            if self.err is None:
                self.err = errno.EOF  # a proper end, even if a write met a reset
            super()._ended()

    def _refused(self, exc: SSL.Error, pieces: list[bytes]) -> None:
        """Fails the connection: the peer sent invalid TLS, or an alert."""
        why = reason(exc)
        logger.limited("tls broken", f"tls: {self.remoteaddr}: {why}")
        self.why = self.why or why
        self.buf += b"".join(pieces)  # data before the bad record is good
        self.keep_session = None
        self._send_pending()
        self.flush()  # the alert
        self.fail(errno.TLS)

    def _ended(self) -> None:
        if self.err is None and not self._peer_closed:
            self.err = self.werr or errno.TLS  # after a failed write this is its reset
        super()._ended()

    def _pass_session(self) -> None:
        keep, self.keep_session = self.keep_session, None
        session = self.ssl.get_session()
        if keep is not None and session is not None:
            keep(session)

    # ---- what is sent ----------------------------------------------------------------

    def _cipher(self, size: int = _OPENSSL_PIECE) -> bytes:
        """Returns all that OpenSSL has to send, fetched ``size`` bytes at a time."""
        pieces = []
        try:
            while True:
                piece = self.ssl.bio_read(size)
                pieces.append(piece)
                if len(piece) < size:
                    break
        except SSL.WantReadError:
            pass
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _send_pending(self) -> None:
        data = self._cipher()
        if data and self.werr is None:
            self._answers = self._answers + len(data) if self._blocked else 0
            self._enqueue([data])
            if scheduler.loop.current is scheduler.main:
                self.flush()

    def _encode(self, parts: list[bytes | memoryview]) -> list[bytes | memoryview] | None:
        """Returns the records of ``parts``."""
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        if not size:
            return []
        self._encoded = True
        try:
            if size > _OPENSSL_PIECE:
                # Not joined: that would copy much data once more.
                return [record for part in parts for record in self._records_of(part)]
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            if size > _RECORD:
                return [b"".join(self._records_of(data))]
            sent = self.ssl.send(data)
            room = size + 1024
            record = self.ssl.bio_read(room)
            if len(record) == room:
                record += self._cipher()
            if sent == size:
                return [record]
            with memoryview(data) as view:  # the peer asked for short records (RFC 6066, section 4)
                return [record, *self._records_of(view[sent:])]
        except SSL.Error as exc:
            logger.limited("tls write", f"tls: {self.remoteaddr}: {reason(exc)}")
            self.fail(errno.TLS)
            return None

    def _records_of(self, data: bytes | memoryview) -> Iterator[bytes]:
        with memoryview(data) as view:
            at, size = 0, len(view)
            while at < size:
                at += self.ssl.send(view[at : at + _RECORD])
                yield self._cipher(_RECORD + 1024)

    def _written(self) -> bool:
        """Whether the application wrote anything. The handshake and the close_notify,
        which are all that a reset could destroy then, mean nothing to a peer that gets
        no data; a caller that sent an alert asks to ``await_end``."""
        return self._encoded

    def close(self, await_end: bool = False) -> str | None:
        if not self.closed and self.werr is None and not self._handshaking:
            if self.keep_session is not None:
                # This is a client. Tickets that arrive at a closed socket are answered
                # with a reset, which may destroy what was written.
                await_end = await_end or (self._encoded and self._tickets_due)
                self._pass_session()
            try:
                self.ssl.shutdown()
            except SSL.Error as exc:
                logger.limited("tls close", f"tls: {self.remoteaddr}: close_notify: {reason(exc)}", logger.DEBUG)
            self._send_pending()
        return super().close(await_end)
