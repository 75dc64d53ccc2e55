"""The way of a TLS connection's bytes through OpenSSL.

A ``Pipe`` is the one way in and out of an OpenSSL connection, from the first byte of
its handshake to the last one. It counts the records as they come, so that OpenSSL is
asked only when it has something.

``new_pipe`` makes the one in C (``_tls_speedups.c``), which needs one call for an event
and one for all that a turn has written, if it was built and everything is as it
expects. Else it makes the one here, by the methods of ``_tls_direct.connection``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

from OpenSSL import SSL

from . import _tls_direct
from ._descriptor import NOTHING

PARTIAL = -2
"""Returned if bytes have come, but no record is whole."""
ATTEND = -3
"""Returned if ``got`` and ``status`` say what has come."""

FLOWING, DRAINED, CLOSED, REFUSED = range(4)
"""What ``status`` may be. FLOWING: each record gave data. DRAINED: OpenSSL wants more;
it may have something to send by itself. CLOSED: the peer's close_notify came. REFUSED:
``error`` says why OpenSSL goes no further."""

PIECE = 64 * 1024
"""The most bytes that OpenSSL is given at once. Its buffers grow to what it is given,
and never shrink."""
MOST = 256 * 1024
"""The most bytes of one ``receive``, which holds the loop: decrypting them takes about
0.2 ms, and 6 ms if each record has one byte of data (30 ms in Python)."""

_RECORD = 16384
"""The most data in a record (RFC 8446, section 5.1), and in one call of OpenSSL."""
_CIPHERTEXT = _RECORD + 2048
"""The greatest length in a record's header (RFC 5246, section 6.2.3)."""
_HEADER = 5
"""Bytes of a record's header: type, version, length."""
RECORD_TYPES = range(20, 24)
"""The record types (RFC 8446, section 5.1)."""

_FUNCTIONS = _tls_direct.SIGNATURES | {
    "SSL_get_error": "int(*)(SSL *, int)",
    "BIO_get_mem_data": "long(*)(BIO *, char * *)",
    "BIO_new": "BIO *(*)(BIO_METHOD *)",
    "BIO_s_mem": "BIO_METHOD *(*)()",
    "BIO_free": "int(*)(BIO *)",
    "SSL_set_bio": "void(*)(SSL *, BIO *, BIO *)",
}
"""What the code in C calls, in its order."""


class Pipe:
    """The way through an OpenSSL connection with memory buffers, in Python."""

    __slots__ = (
        "_connection",
        "_failure",
        "_header",
        "_missing",
        "_plain",
        "_ready",
        "_record",
        "error",
        "got",
        "received",
        "sealed",
        "status",
    )

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection
        self._header = b""
        """The first bytes of a record whose header is not complete yet."""
        self._missing = 0
        """Bytes still to come of a record whose header is complete."""
        self._record = 0
        """The length of that record, its header included."""
        self._ready = 0
        """Records that OpenSSL has whole, and that were not read yet."""
        self._plain: list[bytes] = []
        """What they held, until it is appended."""
        self._failure: OSError | None = None
        """The error of receiving that came behind data: the next call raises it."""
        self.got = 0
        """How many bytes the last call has appended."""
        self.received = 0
        """How many bytes have come, of all records and the handshake."""
        self.sealed = 0
        """How many bytes of data records were made of."""
        self.status = FLOWING
        """How the last call ended."""
        self.error: SSL.Error | None = None
        """Why OpenSSL goes no further; None while it goes on."""

    @property
    def partial(self) -> int:
        """Bytes that have come of a record that is not whole yet."""
        return self._record - self._missing if self._missing else len(self._header)

    def put(self, data: bytes) -> None:
        """Gives OpenSSL at most ``PIECE`` bytes that have come. What it makes of them
        is left to ``do_handshake``, ``read`` or the next ``receive``."""
        if not 0 < len(data) <= PIECE:
            raise ValueError("too many bytes at once, or none")
        self._connection.bio_write(data)
        self.received += len(data)
        self._ready += self._records(data)

    def receive(self, fd: int, buf: bytearray, size: int) -> int:
        """Receives at most ``size`` bytes, and ``MOST``, from a descriptor that doesn't
        block, and appends to ``buf`` what they decrypt to.

        Returns how many bytes it appended, if it was nothing but data. Else it returns
        0 at the end of TCP's data, ``NOTHING`` if nothing has come, ``PARTIAL`` or
        ``ATTEND``. Raises OSError. If it raises anything else (MemoryError;
        BufferError, if ``buf`` can't grow) what it has appended may be incomplete.
        """
        if size < 1:
            raise ValueError("no size to receive")
        self.got = 0
        self.status = FLOWING
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        size = min(size, MOST)
        total = 0
        if self._ready or self._plain:
            self._take(buf)  # what it could not take before
        while self.status == FLOWING:
            asked = min(size - total, PIECE)
            try:
                data = os.read(fd, asked)
            except BlockingIOError:
                if not total and not self.got:
                    return NOTHING
                break
            except OSError as exc:
                if not total and not self.got:
                    raise
                self._failure = exc.with_traceback(None)
                break
            if not data:
                if not total and not self.got:
                    return 0
                break  # the next call comes to the end again
            total += len(data)
            self.put(data)
            if self._ready:
                self._take(buf)
            if len(data) < asked or total == size:
                break
        if self.status != FLOWING:
            return ATTEND
        return self.got or PARTIAL

    def read(self, buf: bytearray) -> None:
        """Appends to ``buf`` all that OpenSSL has, up to where it says that there is no
        more: for what came right after the handshake. ``got`` and ``status`` say what
        that was."""
        self.got = 0
        self.status = FLOWING
        self._ready = 1 << 62
        self._take(buf)

    def seal(self, pieces: list[bytes | memoryview]) -> bytes:
        """Takes the front of ``pieces``, about ``PIECE`` bytes of data, and returns
        their records, after all else that OpenSSL has to send; nothing if there is no
        data. Raises SSL.Error: then a record may be missing, and the connection is
        broken. So it is after any other exception."""
        send = self._connection.send
        taken = _front(pieces, PIECE, _RECORD)
        records = []
        while taken:
            parts = _front(taken, _RECORD)
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            at, size = 0, len(data)
            while at < size:  # once; but the peer may ask for short records (RFC 6066, section 4)
                sent = send(memoryview(data)[at:] if at else data)
                at += sent
                self.sealed += sent
                records.append(self.pending())
        return records[0] if len(records) == 1 else b"".join(records)

    def pending(self) -> bytes:
        """Returns all that OpenSSL has to send."""
        pieces = []
        try:
            while True:
                piece = self._connection.bio_read(PIECE)
                pieces.append(piece)
                if len(piece) < PIECE:
                    break
        except SSL.WantReadError:
            pass
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def renew(self) -> bool:
        """Gives OpenSSL new buffers, if the present ones are empty: they have grown to
        the most that they held. Returns whether it did. The one here never does, since
        it can't do that in one step."""
        return False

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
                good = length <= _CIPHERTEXT and data[at] in RECORD_TYPES and data[at + 1] == 3
                return count if good else count + 1
            count += 1
            at = end
        self._header = data[at:]
        return count

    def _take(self, buf: bytearray) -> None:
        """Appends what OpenSSL has decrypted, up to ``_ready`` records.

        If each record gave data, nothing is left to read, and OpenSSL has nothing to
        answer by itself. Then there is no call just to be told so, which would cost
        more than reading a small record.
        """
        connection, plain = self._connection, self._plain
        try:
            while self._ready:
                plain.append(connection.recv(_RECORD))
                self._ready -= 1
        except SSL.Error as exc:
            self._ready = 0
            if isinstance(exc, SSL.WantReadError):
                self.status = DRAINED
            elif isinstance(exc, SSL.ZeroReturnError):
                self.status = CLOSED
            else:
                self.status = REFUSED
                self.error = exc.with_traceback(None)
        data = plain[0] if len(plain) == 1 else b"".join(plain)
        buf += data
        plain.clear()
        self.got += len(data)


def _front(pieces: list[bytes | memoryview], most: int, more: int = 0) -> list[bytes | memoryview]:
    """Takes at most ``most`` bytes off the front of ``pieces``; up to ``more`` on top
    of that, if then no piece is cut in two."""
    count = size = 0
    for piece in pieces:
        if size + len(piece) > most + more:
            if size < most:
                view = memoryview(piece)
                pieces[count : count + 1] = view[: most - size], view[most - size :]
                count += 1
            break
        size += len(piece)
        count += 1
    front = pieces[:count]
    del pieces[:count]
    return front


def new_pipe(connection: SSL.Connection) -> Pipe:
    """Makes the way through ``connection``, which is one of
    ``_tls_direct.connection``."""
    return (_in_c() or Pipe)(connection)


def in_words() -> str:
    """Says which way the bytes go, for ``python -m silly -v``."""
    if _in_c() is not None:
        return "in C"
    return "by cryptography's functions" if _tls_direct.is_direct() else "by pyOpenSSL's methods"


@cache
def _in_c() -> Callable[[SSL.Connection], Pipe] | None:
    """Returns what makes a ``Pipe`` in C; None if it was not built or not wanted, or if
    pyOpenSSL or cryptography are not as it expects."""
    if os.environ.get("SILLY_PURE") == "1":
        return None
    try:
        make = _make()
        return make if _works(make) else None
    except Exception:  # whatever another version may raise where its names differ
        return None


def _make() -> Callable[[SSL.Connection], Pipe]:
    from . import _tls_speedups

    ffi, lib = _tls_direct.checked(_FUNCTIONS)
    if (lib.SSL_ERROR_WANT_READ, lib.SSL_ERROR_ZERO_RETURN) != (2, 6):
        raise ValueError("OpenSSL's numbers are others")
    cast, address = ffi.cast, ffi.typeof("uintptr_t")
    functions = tuple(int(cast(address, ffi.addressof(lib, name))) for name in _FUNCTIONS)
    _tls_speedups.use_openssl(functions, _tls_direct.failure, PIECE, MOST)

    def make(connection: SSL.Connection) -> Pipe:
        ssl, into, out = _tls_direct.objects(connection, ffi)
        return _tls_speedups.Pipe(  # type: ignore[return-value]
            connection, ssl, int(cast(address, ssl)), int(cast(address, into)), int(cast(address, out))
        )

    return make


def _works(make: Callable[[SSL.Connection], Pipe]) -> bool:
    """Whether bytes pass both ways: what is put in must be what the connection reads,
    and what it writes must come out."""
    trial = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    trial.set_connect_state()
    pipe = make(trial)
    buf = bytearray()
    pipe.read(buf)
    if pipe.status != DRAINED or pipe.pending()[:2] != b"\x16\x03":  # a ClientHello
        return False
    pipe.put(_tls_direct.GARBAGE)
    pipe.read(buf)
    return pipe.status == REFUSED and isinstance(pipe.error, SSL.Error) and not buf
