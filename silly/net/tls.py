"""TLS connections and listeners (upstream: ``silly.net.tls``), on the byte stream that tcp uses.

    listener, err = tls.listen(addr=":8443", certs=[{"cert": PEM, "key": PEM}], accept=handler)
    conn, err = tls.connect("example.com:443")

Certificates and host names are verified by default. TLS 1.2 and 1.3 only. An ordered end of the peer (close_notify) is
``errno.EOF``; TCP ending without one is a truncation, ``errno.TLS``. Reading and writing are those of ``silly.net.tcp``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

from .. import errno, logger
from .._core import scheduler
from .._core.result import OK, Result, failure, returns_pair
from .._wire.limits import DEFAULT, Limits, check_limits
from . import _listener, _tls_client, tcp
from . import addr as address
from ._certificates import Certificate
from ._dial import dial
from ._listener import Admission, host_of
from ._settings import settings
from ._tls_server import Configuration, Settings, peer_certificate
from ._tls_stream import TlsStream
from ._tls_words import Verification

__all__ = ["Certificate", "Conn", "Listener", "connect", "listen"]

SILENCE = 1.0
"""Seconds between two lines about refused connections."""


class Conn(tcp.Conn):
    """A TLS connection: ``silly.net.tcp.Conn`` and what TLS adds."""

    __slots__ = ()

    _stream: TlsStream

    def alpnproto(self) -> str | None:
        """The protocol that ALPN chose, such as ``"http/1.1"``, or None."""
        return self._stream.ssl.get_alpn_proto_negotiated().decode("ascii") or None

    def peercert(self) -> Certificate | None:
        """The peer's certificate: ``subject``, ``issuer``, ``names``, ``notbefore``, ``notafter``, ``serial``,
        ``fingerprint``, ``der``. None when it gave none, as a client does that isn't asked. It was verified, unless with
        ``verify=False``."""
        cert = peer_certificate(self._stream.ssl)
        return None if cert is None else Certificate(cert)


class Listener(_listener.Listener):
    """A listening socket: ``silly.net.tcp``'s, and ``reload``."""

    _accepted: Acceptor

    @settings("listener.reload", "certs")
    def reload(
        self,
        certs: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        *,
        alpnprotos: Sequence[str] | None = None,
        ca: str | bytes | None = None,
        verify: str | None = None,
        ciphers: str | None = None,
    ) -> Result:
        """Uses other certificates and settings for the handshakes that begin from now on; no connection is dropped.

        None keeps what was given before, and files are read again: ``listener.reload()`` after a renewal. ``(False, err)``
        when something can't be used: that is logged too, and all stays as it was. Sessions of before are not resumed.
        A dict with these keys may be given instead.
        """
        scheduler.check_thread("listener.reload")
        if self._sock is None:
            return failure(errno.CLOSED)
        given = {"certs": certs, "alpnprotos": alpnprotos, "ca": ca, "verify": verify, "ciphers": ciphers}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        try:
            self._accepted.configure(self._accepted.settings._replace(**changed))
        except ValueError as exc:
            logger.error(f"listener {self.addr}: reload: {exc}; what was loaded before stays in use")
            return failure(f"listener.reload: {exc}")
        return OK


class Acceptor:
    """What a listener does with a new socket: shakes hands in a task of its own, then calls ``accept(conn)`` in it."""

    def __init__(
        self, settings: Settings, accept: Callable[[Conn], object], limits: Limits, admission: Admission | None
    ) -> None:
        self.configure(settings)
        self._accept = accept
        self._code = getattr(accept, "__code__", None)
        self._limits = limits
        self._admission = admission
        self._silent_until = 0.0
        self._untold = 0

    def configure(self, settings: Settings) -> None:
        """Uses ``settings`` for new connections. Raises TypeError or ValueError, and then nothing changes."""
        self._configuration = Configuration(settings)
        self.settings = settings

    def __call__(self, sock: socket.socket, remoteaddr: str) -> None:
        if self._admission is not None and not self._admission.enter(host_of(remoteaddr)):
            sock.close()
            self._tell_refused(remoteaddr)
            return
        configuration = self._configuration
        try:
            ssl, verification = configuration.connection()
            stream = TlsStream(sock, remoteaddr, self._limits, ssl)
        except BaseException:
            sock.close()
            if self._admission is not None:
                self._admission.leave(host_of(remoteaddr))
            raise
        scheduler.fork(self._serve, (stream, configuration, verification), self._code, 0)

    def _tell_refused(self, remoteaddr: str) -> None:
        """In a flood of them a line for each would be one more burden."""
        now = monotonic()
        if now < self._silent_until:
            self._untold += 1
            return
        others = f"; {self._untold} others since the last such line" if self._untold else ""
        logger.info(f"tls: {remoteaddr}: too many connections: closed before the handshake{others}")
        self._silent_until = now + SILENCE
        self._untold = 0

    def _serve(self, new: tuple[TlsStream, Configuration, Verification]) -> None:
        stream = new[0]
        try:
            conn = Conn(stream)  # before the handshake: its finalizer closes what an exception leaves
            if self._shake_hands(*new):
                self._accept(conn)
        finally:
            if self._admission is not None:
                stream.when_released(partial(self._admission.leave, host_of(stream.remoteaddr)))

    def _shake_hands(self, stream: TlsStream, configuration: Configuration, verification: Verification) -> bool:
        deadline = monotonic() + self._limits.handshake_timeout / 1000
        if stream.speaks_http(deadline):
            logger.info(f"tls: {stream.remoteaddr}: plain HTTP on a port that speaks TLS: answered 400")
            stream.refuse_http()
            return False
        err = stream.handshake(deadline)
        err = verification.why or err if err is not None else configuration.client_refused(stream.ssl)
        if err is not None:
            logger.info(f"tls: {stream.remoteaddr}: handshake failed: {err}")
            # The client may be sending still, behind what was refused: it shall read the alert, and no reset.
            stream.close(await_end=err.startswith("TLS: "))
        return err is None


@returns_pair("tls.listen", "listener")
@settings("tls.listen")
def listen(
    addr: str | Mapping[str, Any],
    certs: Sequence[Mapping[str, Any]] = (),
    accept: Callable[[Conn], object] | None = None,
    backlog: int | None = None,
    alpnprotos: Sequence[str] | None = None,
    *,
    ca: str | bytes | None = None,
    verify: str | None = None,
    ciphers: str | None = None,
    limits: Limits = DEFAULT,
) -> tuple[Listener, None] | tuple[None, str]:
    """``tcp.listen`` with TLS: ``accept(conn)`` runs once the handshake is done.

    ``certs``: dicts with ``cert`` (the chain too) and ``key``, each PEM text or a path. The name that the client asks for
    chooses among several, the type of key that it can use among those for the same name; without a match it is the first.
    ``alpnprotos``: application protocols, best first; a client that offers others only is refused, one that offers nothing
    is not. ``verify="require"`` refuses a client without a certificate of an authority of ``ca`` (PEM text or a path),
    ``"request"`` only one with a bad certificate. ``ciphers``: those of TLS 1.2, in OpenSSL's words.

    Raises TypeError or ValueError for what can't be used. Of ``limits`` it heeds ``handshake_timeout`` and those of
    ``tcp.listen``.
    """
    assert not isinstance(addr, Mapping)  # ``settings`` has taken it apart
    if not callable(accept):
        raise TypeError("tls.listen needs accept, a function that gets the connection")
    check_limits(limits)
    return listen_admitted("tls.listen", addr, Settings(certs, alpnprotos, ca, verify, ciphers), accept, backlog, limits, None)


def listen_admitted(
    what: str,
    addr: str,
    settings: Settings,
    accept: Callable[[Conn], object],
    backlog: int | None,
    limits: Limits,
    admission: Admission | None,
) -> tuple[Listener, None] | tuple[None, str]:
    """``listen`` for the protocols above, named ``what`` in errors. ``admission`` is asked for each connection before its
    handshake, and told when the task that serves it has ended and its descriptor is free."""
    acceptor = Acceptor(settings, accept, limits, admission)
    return _listener.listen_as(Listener, what, addr, acceptor, backlog)


@returns_pair("tls.connect", "conn")
@settings("tls.connect", "hostname")
def connect(
    addr: str,
    hostname: str | Mapping[str, Any] | None = None,
    alpnprotos: Sequence[str] | None = None,
    ca: str | bytes | None = None,
    cert: Mapping[str, Any] | None = None,
    verify: bool = True,
    timeout: float | None = None,
    bind: str | None = None,
    *,
    limits: Limits = DEFAULT,
) -> tuple[Conn, None] | tuple[None, str]:
    """Connects and shakes hands; ``timeout`` ms bounds both (else 10 s for the handshake).

    ``hostname``: the name to ask for and to verify (the host of ``addr`` if None). ``ca``: PEM text or a path of the
    authorities to trust instead of the system's. ``cert``: a dict with ``cert`` and ``key``, to show to a server that asks.
    ``verify=False`` takes any certificate, and is logged once. A failed handshake is ``errno.TLS``, with the reason in the
    log. The options may be given as a dict in place of ``hostname``.
    """
    assert not isinstance(hostname, Mapping)
    conn, err = connect_explained(addr, hostname, alpnprotos, ca, verify, timeout, bind, limits, cert)
    if conn is not None:
        return conn, None
    assert err is not None
    if err in _ERRNOS:
        return None, err
    logger.info(f"tls.connect {addr}: {err}")
    return None, errno.TLS


_ERRNOS = frozenset(value for name, value in vars(errno).items() if name.isupper())


def connect_explained(
    addr: str,
    hostname: str | None,
    alpnprotos: Sequence[str] | None,
    ca: str | bytes | None,
    verify: bool,
    timeout: float | None,
    bind: str | None = None,
    limits: Limits = DEFAULT,
    cert: Mapping[str, Any] | None = None,
) -> tuple[Conn, None] | tuple[None, str]:
    """``connect`` whose error tells why the handshake failed, for the protocols above."""
    check_limits(limits)
    configuration = _tls_client.configuration(ca, cert, verify, alpnprotos)
    try:
        attempt = _tls_client.Attempt(configuration, addr, hostname or address.parse(addr)[0] or "localhost", verify)
    except UnicodeError:
        return None, errno.RESOLVE  # no name can be spelled so
    begin = monotonic()
    sock, err = dial(addr, bind, timeout, "tls.connect")
    if sock is None:
        assert err is not None
        return None, err
    deadline = monotonic() + limits.handshake_timeout / 1000 if timeout is None else begin + timeout / 1000
    stream = TlsStream(sock, addr, limits, attempt.ssl)
    conn = Conn(stream)
    try:
        err = stream.handshake(deadline)
        err = attempt.wrong_name() if err is None else attempt.why(err)
    except BaseException:
        conn.close()
        raise
    if err is not None:
        conn.close()
        return None, err
    stream.keep_session = attempt.keep
    return conn, None
