"""TLS handshakes as ``tls.connect``, a listener and ``tls.upgrade`` do them: what is
checked beside what OpenSSL checks, and what is logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import errno
from .._log import tls as logger
from . import _tls_client
from ._tls_client import Attempt
from ._tls_server import ServerConfiguration
from ._tls_stream import TlsStream
from ._tls_words import Verification

_ERRNOS = frozenset(value for name, value in vars(errno).items() if name.isupper())


def code(err: str) -> str:
    """Returns what the error of a handshake is in ``silly.errno``."""
    return err if err in _ERRNOS else errno.TLS


def new_attempt(
    addr: str,
    name: str,
    alpnprotos: Sequence[str] | None,
    ca: str | bytes | None,
    cert: Mapping[str, Any] | None,
    verify: bool,
) -> Attempt | str:
    """Makes the client's end of a connection, or returns the error. Raises TypeError or
    ValueError for invalid arguments."""
    try:
        configuration = _tls_client.configuration(ca, cert, verify, alpnprotos)
    except OSError as exc:  # nothing is wrong with the arguments
        return errno.from_oserror(exc)
    try:
        return Attempt(configuration, addr, name, verify)
    except UnicodeError:
        return errno.RESOLVE  # no host can have such a name


def greet_server(stream: TlsStream, attempt: Attempt, deadline: float) -> str | None:
    """Does a client's handshake. Returns None, or in words why it failed; then, and
    after an exception, the connection is closed."""
    try:
        err = stream.handshake(deadline)
        err = attempt.wrong_name() if err is None else attempt.why(err)
    except BaseException:
        stream.close()
        raise
    if err is not None:
        stream.close()
        return err
    stream.keep_session = attempt.keep
    return None


def greet_client(
    stream: TlsStream, configuration: ServerConfiguration, verification: Verification, deadline: float
) -> str | None:
    """Does a server's handshake. Returns None, or in words why it failed, which is
    logged; then the connection is closed."""
    err = stream.handshake(deadline)
    if stream.closed or err == errno.CLOSED:  # the process is ending
        stream.close()
        return errno.CLOSED
    err = verification.why or err if err is not None else configuration.client_refused(stream.ssl)
    if err is not None:
        text = f"tls: {stream.remoteaddr}: handshake failed: {err}"
        if stream.probed:
            logger.limited("tls probe", text, logger.DEBUG)
        else:
            logger.limited("tls handshake", text)
        # The client may still be sending. It must get the alert, not a reset.
        stream.close(await_end=err.startswith("TLS: "))
    return err
