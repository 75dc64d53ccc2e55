"""``SSLSocket``: the sockets of ``bridge.socket`` that have TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._core.descriptor import READ, WRITE
from ._sockets import Socket

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ._sockets import Address

RECORD = 16 * 1024
"""The most bytes of one TLS record (RFC 8446, section 5.1)."""

_T = TypeVar("_T")


class SSLSocket(ssl.SSLSocket, Socket):  # type: ignore[misc]  # three methods that TLS refuses
    """An ``ssl.SSLSocket`` whose calls block the task. ``wrap_socket`` of a context
    from ``create_default_context`` returns it, for a ``Socket`` that is connected, also
    in the middle of a conversation (STARTTLS), or that listens.

    One task may read while another writes. A record (16 KiB) on which a cancel or a
    time-out has struck ``sendall`` goes out whole, before what is sent next.
    """

    __module__ = "silly.bridge.socket"
    _unsent = b""
    """What OpenSSL had begun to send when the call was struck. OpenSSL must be given
    the same again: it would take other data for that, and lose it."""
    _connected: bool
    _check_connected: Callable[[], None]
    do_handshake_on_connect: bool
    suppress_ragged_eofs: bool
    _sslobj: Any

    @classmethod
    def _create(cls, sock: Any, *args: Any, do_handshake_on_connect: bool = True, **options: Any) -> SSLSocket:
        """For ``ssl.SSLContext.wrap_socket``."""
        if not isinstance(sock, Socket):
            raise TypeError(
                "context.wrap_socket: this context is for a bridge.socket.Socket, "
                f"not for {type(sock).__name__}; Socket(fileno=sock.detach()) makes one of it"
            )
        sock._begin(READ, "context.wrap_socket")
        self: SSLSocket = super()._create(sock, *args, do_handshake_on_connect=False, **options)  # type: ignore[misc]
        self.do_handshake_on_connect = do_handshake_on_connect
        if do_handshake_on_connect and self._connected:
            try:
                if self._timeout == 0.0:
                    raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
                self.do_handshake()
            except BaseException:
                self.close()
                raise
        return self

    def do_handshake(self, block: bool = False) -> None:
        """Does the handshake. ``block``: it may wait though the time-out is 0."""
        self._begin(READ, "sock.do_handshake")
        if block and self._timeout == 0.0:
            self._timeout = None
            try:
                self._handshake()
            finally:
                self._timeout = 0.0
        else:
            self._handshake()

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """Reads at most ``len`` bytes, or into ``buffer``."""
        self._begin(READ, "sock.read")
        sslobj = self._sslobj
        if sslobj is None:
            raise ValueError("Read on closed or unwrapped SSL socket.")
        try:
            if buffer is None:
                return self._secured("sock.read", sslobj.read, len)
            return self._secured("sock.read", sslobj.read, len, buffer)
        except ssl.SSLEOFError:
            if not self.suppress_ragged_eofs:
                raise
            return b"" if buffer is None else 0

    def write(self, data: ReadableBuffer) -> int:
        """Sends ``data``, and returns how many bytes that was: all, or with the
        time-out 0 a record."""
        self._begin(WRITE, "sock.write")
        until = self._until()
        self._send_unsent(until)
        at = 0
        with memoryview(data) as view, view.cast("B") as left:
            while True:
                with left[at : at + RECORD] as piece:
                    at += self._send_record(piece, until)
                if at >= left.nbytes or self._timeout == 0.0:
                    return at
                self._begin(WRITE, "sock.write")

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """As ``write``, or without TLS, after ``unwrap``, as ``Socket.send``."""
        self._begin(WRITE, "sock.send")
        if self._sslobj is None or flags:
            return super().send(data, flags)
        return self.write(data)

    def unwrap(self) -> socket.socket:
        """Ends TLS in both directions, and returns a socket to go on with in plain
        text."""
        self._begin(READ, "sock.unwrap")
        self._send_unsent(None)
        return self._secured("sock.unwrap", super().unwrap)

    def _real_connect(self, addr: Address, connect_ex: bool) -> int | None:
        """For the standard library."""
        self._begin(WRITE, "sock.connect")
        try:
            code: int | None = super()._real_connect(addr, connect_ex)  # type: ignore[misc]
            return code
        except BaseException:
            if not self._connected:
                self._sslobj = None  # so that it can be tried again
            raise

    def _handshake(self) -> None:
        self._check_connected()
        self._secured("sock.do_handshake", self._sslobj.do_handshake)

    def _secured(self, what: str, call: Callable[..., _T], *args: Any, until: float | None = None) -> _T:
        """Returns ``call(*args)``, tried again whenever TLS has to read or write.
        ``call`` is a method of the SSL object, which stays that of the call though
        another task may call ``shutdown`` meanwhile. ``until`` is as for ``_wait``."""
        while True:
            try:
                return call(*args)
            except ssl.SSLWantReadError:
                events = READ
                if self._timeout == 0.0:
                    raise
            except ssl.SSLWantWriteError:
                events = WRITE
                if self._timeout == 0.0:
                    raise
            until = self._wait(events, what, until)

    def _send_record(self, piece: memoryview | bytes, until: float | None) -> int:
        """Sends ``piece``, at most a record. Returns how many bytes that was."""
        sslobj = self._sslobj
        if sslobj is None:
            raise ValueError("Write on closed or unwrapped SSL socket.")
        try:
            sent: int = self._secured("sock.write", sslobj.write, piece, until=until)
            return sent
        except ssl.SSLError:
            raise  # TLS has failed, or the time-out is 0, and the caller tries again
        except BaseException:
            self._unsent = bytes(piece)
            raise

    def _send_unsent(self, until: float | None) -> None:
        """Sends what an earlier call has begun to send."""
        if self._unsent:
            self._send_record(self._unsent, until)
            self._unsent = b""

    def _let_go(self) -> None:
        self._sslobj = None
        super()._let_go()
