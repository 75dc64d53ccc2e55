"""TLS on a connection that was made without it: what ``tls.upgrade`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from OpenSSL import SSL

from .. import errno
from .._core.deadline import Timeout
from .._core.loop import monotonic
from .._log import tls as logger
from .._shown import cut
from . import _tls_server
from ._stream import Stream
from ._tls_handshake import code, greet_client, greet_server, new_attempt
from ._tls_server import Settings
from ._tls_stream import TlsStream


class End(NamedTuple):
    """Our end of the handshake: OpenSSL's connection, and what does the handshake until
    a deadline and returns None or the error in words. It closes the stream unless it
    succeeds."""

    ssl: SSL.Connection
    greet: Callable[[TlsStream, float], str | None]


def check_roles(hostname: object, cert: object, certs: object, ciphers: object) -> None:
    """Raises TypeError unless the arguments are those of one role."""
    if certs is None:
        if hostname is None:
            raise TypeError("tls.upgrade needs hostname to be the client, or certs to be the server")
        if not isinstance(hostname, str):
            raise TypeError(f"tls.upgrade: hostname is the server's name, not {type(hostname).__name__}")
        if ciphers is not None:
            raise TypeError("tls.upgrade: ciphers is a setting of the server, which gives certs")
    elif hostname is not None or cert is not None:
        raise TypeError("tls.upgrade: hostname and cert are for the client, certs is for the server: use only one of the two")


def client_end(
    addr: str,
    hostname: str,
    alpnprotos: Sequence[str] | None,
    ca: str | bytes | None,
    cert: Mapping[str, Any] | None,
    verify: bool,
) -> End | str:
    """Makes the client's end of a handshake, or returns the error."""
    attempt = new_attempt(addr, hostname, alpnprotos, ca, cert, verify)
    if isinstance(attempt, str):
        return attempt

    def greet(stream: TlsStream, deadline: float) -> str | None:
        err = greet_server(stream, attempt, deadline)
        if err is not None and code(err) is not err:
            logger.limited("tls.upgrade", f"tls.upgrade {cut(addr)}: {err}")
        return err

    return End(attempt.ssl, greet)


def server_end(settings: Settings) -> End | str:
    """Makes the server's end of a handshake, or returns the error."""
    try:
        configuration = _tls_server.configuration(settings)
    except OSError as exc:  # nothing is wrong with the settings
        return errno.from_oserror(exc)
    ssl, verification = configuration.connection()

    def greet(stream: TlsStream, deadline: float) -> str | None:
        try:
            return greet_client(stream, configuration, verification, deadline)
        except BaseException:
            stream.close()
            raise

    return End(ssl, greet)


def upgraded(plain: Stream, end: End, timeout: float | None) -> TlsStream | str:
    """Sends what was written to ``plain``, takes its socket, and does the handshake,
    within ``timeout`` ms. Returns the new stream, or the error in words. Unless it
    succeeds, the connection is closed."""
    begin = monotonic()
    try:
        with nullcontext() if timeout is None else Timeout(timeout):
            err = plain.emptied() or plain.err  # the end of the peer's data, for example
        plain.check_no_reader()  # by now another task may read
    except BaseException:
        plain.close()
        raise
    if err is not None:
        plain.close()
        return err
    stream = TlsStream.over(plain, end.ssl)
    deadline = monotonic() + plain.limits.handshake_timeout / 1000 if timeout is None else begin + timeout / 1000
    return end.greet(stream, deadline) or stream
