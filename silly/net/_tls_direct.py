"""pyOpenSSL's connection, with the four calls of every message made directly.

Of the time that a small message takes in TLS, pyOpenSSL's methods take more than
OpenSSL: each checks its arguments, makes a buffer, and asks for errors where there are
none. ``connection`` returns a ``Direct``, whose methods call the functions of the
package cryptography that pyOpenSSL's call, on pyOpenSSL's own objects, and leave every
error to pyOpenSSL. All else is pyOpenSSL's.

These objects and functions are not public. So ``connection`` first looks whether they
are what it expects; if not, it returns pyOpenSSL's own ``Connection``. ``_tls_pipe``
looks in the same way before it gives their addresses to code in C.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from OpenSSL import SSL

_SCRATCH = 64 * 1024
"""The size of the buffer of ``recv`` and ``bio_read``: the most bytes of one call."""

SIGNATURES = {
    "SSL_read": "int(*)(SSL *, void *, int)",
    "SSL_write": "int(*)(SSL *, void *, int)",
    "BIO_read": "int(*)(BIO *, void *, int)",
    "BIO_write": "int(*)(BIO *, void *, int)",
    "ERR_peek_error": "unsigned long(*)()",
    "ERR_clear_error": "void(*)()",
}
"""What a ``Direct`` calls."""

GARBAGE = b"\x16\x03\x01\x00\x04nope"
"""A handshake record without a ClientHello."""


def connection(context: SSL.Context) -> SSL.Connection:
    """Makes a connection with memory buffers instead of a socket."""
    kind = _direct() or SSL.Connection
    return kind(context, None)


def is_direct() -> bool:
    """Whether ``connection`` makes a ``Direct``."""
    return _direct() is not None


@cache
def _direct() -> type[SSL.Connection] | None:
    try:
        kind = _make()
        return kind if _works(kind) else None
    except Exception:  # whatever another version may raise where its names differ
        return None


def checked(signatures: dict[str, str]) -> tuple[Any, Any]:
    """Returns cryptography's ``ffi`` and ``lib``. Raises some exception if a function
    is missing there, or has another signature."""
    from cryptography.hazmat.bindings._rust import _openssl

    ffi, lib = _openssl.ffi, _openssl.lib
    for name, kind in signatures.items():
        found = ffi.typeof(ffi.addressof(lib, name)).cname.replace("const ", "")
        if found != kind:
            raise TypeError(f"{name} is {found}")
    return ffi, lib


def objects(ssl: SSL.Connection, ffi: Any) -> tuple[Any, Any, Any]:
    """Returns pyOpenSSL's own objects of a connection: the ``SSL *``, and the ``BIO *``
    of what comes in and of what goes out. Raises some exception if they are others."""
    found: tuple[Any, Any, Any] = ssl._ssl, ssl._into_ssl, ssl._from_ssl
    if tuple(map(ffi.typeof, found)) != tuple(map(ffi.typeof, ("SSL *", "BIO *", "BIO *"))):
        raise TypeError("pyOpenSSL's objects are others")
    return found


def failure(ssl: SSL.Connection, result: int) -> SSL.Error:
    """Returns pyOpenSSL's exception for a call that returned ``result``, which is no
    success."""
    try:
        ssl._raise_ssl_error(ssl._ssl, result)
    except SSL.Error as exc:
        return exc.with_traceback(None)
    return SSL.Error([])


def _make() -> type[SSL.Connection]:
    """Makes the class ``Direct``. Raises some exception if the names that it needs are
    missing or are others."""
    ffi, lib = checked(SIGNATURES)
    ssl_read, ssl_write, bio_read, bio_write, peek_error, clear_error = (getattr(lib, name) for name in SIGNATURES)

    def make() -> tuple[Any, Any]:
        memory = ffi.new("char[]", _SCRATCH)
        return memory, ffi.buffer(memory)

    free: list[tuple[Any, Any]] = []
    """The buffer, unless it is in use: a signal handler may call in the middle of a
    call."""
    pop, append, from_buffer = free.pop, free.append, ffi.from_buffer

    class Direct(SSL.Connection):
        """See the module's header."""

        def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
            if peek_error():  # another's, which would be taken for ours
                clear_error()
            scratch = pop() if free else make()
            try:
                got = ssl_read(self._ssl, scratch[0], bufsiz if bufsiz < _SCRATCH else _SCRATCH)
                if got > 0:
                    return scratch[1][:got]  # type: ignore[no-any-return]
            finally:
                append(scratch)
            raise failure(self, got)

        def send(self, buf: Any, flags: int = 0) -> int:
            if peek_error():
                clear_error()
            sent: int = ssl_write(self._ssl, buf if type(buf) is bytes else from_buffer(buf), len(buf))
            if sent <= 0:
                raise failure(self, sent)
            return sent

        def bio_read(self, bufsiz: int) -> bytes:
            scratch = pop() if free else make()
            try:
                got = bio_read(self._from_ssl, scratch[0], bufsiz if bufsiz < _SCRATCH else _SCRATCH)
                if got > 0:
                    return scratch[1][:got]  # type: ignore[no-any-return]
            finally:
                append(scratch)
            self._handle_bio_errors(self._from_ssl, got)
            raise SSL.Error([])

        def bio_write(self, buf: Any) -> int:
            put: int = bio_write(self._into_ssl, buf if type(buf) is bytes else from_buffer(buf), len(buf))
            if put <= 0:
                self._handle_bio_errors(self._into_ssl, put)
            return put

    objects(Direct(SSL.Context(SSL.TLS_METHOD), None), ffi)
    return Direct


def _works(kind: type[SSL.Connection]) -> bool:
    """Whether bytes pass the buffers of a connection both ways."""
    trial = kind(SSL.Context(SSL.TLS_METHOD), None)
    trial.set_connect_state()
    try:
        trial.do_handshake()
    except SSL.WantReadError:
        pass
    if trial.bio_read(65536)[:2] != b"\x16\x03":  # a ClientHello
        return False
    trial.bio_write(GARBAGE)
    try:
        trial.do_handshake()
    except SSL.WantReadError:
        return False
    except SSL.Error:
        return True
    return False
