"""TLS connections and listeners (upstream: ``silly.net.tls``), on the byte stream that tcp uses.

    listener, err = tls.listen(addr=":8443", certs=[{"cert": PEM, "key": PEM}], accept=handler)
    conn, err = tls.connect("example.com:443")

Certificates and host names are verified by default. TLS 1.2 and 1.3 only. An ordered end of the peer (close_notify) is
``errno.EOF``; TCP ending without one is a truncation, ``errno.TLS``. Reading and writing are those of ``silly.net.tcp``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from .. import errno, logger
from .._core import scheduler
from .._wire.limits import DEFAULT, Limits
from . import addr as address
from . import tcp
from ._dial import dial
from ._listener import Listener
from ._listener import listen as _listen
from ._stream import Stream

__all__ = ["Conn", "Listener", "connect", "listen"]

_RECORD = 16384
"""What OpenSSL takes at a time: the longest TLS record (RFC 8446, section 5.1)."""
_READ = 65536
_ANSWERS = 64 * 1024
"""Bytes that OpenSSL may answer by itself (key updates) to a peer that takes no output."""

_VERIFY_ERRORS = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the chain ends in a self-signed certificate that is not trusted",
    20: "the certificate's issuer is not trusted",
    21: "the certificate's issuer is not trusted",
}


class TlsStream(Stream):
    """A stream whose bytes go through an OpenSSL connection with memory buffers on its network side."""

    plain = False

    __slots__ = ("_answers", "_handshaking", "_peer_closed", "ssl")

    def __init__(self, sock: socket.socket, remoteaddr: str, limits: Limits, ssl: SSL.Connection) -> None:
        self.ssl = ssl
        self._handshaking = True
        self._peer_closed = False
        self._answers = 0
        super().__init__(sock, remoteaddr, limits)

    def handshake(self, deadline: float) -> str | None:
        """Shakes hands; None, or why that failed, in words."""
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
                return _reason(exc)
            else:
                break
        self._send_pending()
        self._handshaking = False
        self._feed(b"")  # what came right behind the handshake
        if self._peer_closed and self.err == errno.TLS and self._eof:
            self.err = errno.EOF  # TCP had ended before this could see that the peer had closed in good order
        return None

    def _feed(self, data: bytes) -> None:
        if self.closed:
            self._discard(data)
            return
        if data:
            self.ssl.bio_write(data)
        if self._handshaking:
            self._wake_reader(None)
            return
        plain = bytearray()
        try:
            # pending() is 0 between two records, so only WantRead tells that everything was read.
            while True:
                plain += self.ssl.recv(_READ)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._peer_closed = True
        except SSL.Error as exc:
            logger.info(f"tls: {self.remoteaddr}: {_reason(exc)}")
            self.buf += plain  # what came before the bad record is good
            self._send_pending()
            self.flush()  # the alert
            self.fail(errno.TLS)
            return
        self._send_pending()
        if self._answers > _ANSWERS:
            logger.info(f"tls: {self.remoteaddr}: a flood of key updates by a peer that doesn't read")
            self.fail(errno.TLS)
            return
        if self.sock is None:
            self.buf += plain  # it broke before the task that shook hands ran
            return
        if plain:
            super()._feed(bytes(plain))
        if self._peer_closed:
            super()._ended()

    def _ended(self) -> None:
        if self.err is None and not self._peer_closed:
            self.err = self.werr or errno.TLS  # a write that failed has met the reset
        super()._ended()

    def _cipher(self) -> bytes:
        """What OpenSSL has to send."""
        out = bytearray()
        try:
            while True:
                out += self.ssl.bio_read(_READ)
        except SSL.WantReadError:
            return bytes(out)

    def _send_pending(self) -> None:
        data = self._cipher()
        if data and self.werr is None:
            self._answers = self._answers + len(data) if self._blocked else 0
            self._queue(data)
            if scheduler._current is scheduler.main:
                self.flush()

    def _encrypt(self, data: bytes) -> bytes:
        scheduler.check_thread("write")  # a record made and not sent breaks the connection
        view = memoryview(data)
        while len(view):
            view = view[self.ssl.send(view[:_RECORD]) :]
        return self._cipher()

    def write(self, data: bytes) -> str | None:
        if self.werr is not None:
            return self.werr
        if self._blocked and self._refuses():
            return errno.TIMEDOUT  # before there is a record, which could not be left out any more
        try:
            return super().write(self._encrypt(data))
        except SSL.Error as exc:
            return self._broken(exc)

    def writev(self, parts: list[bytes | memoryview]) -> str | None:
        return self.write(b"".join(parts))

    def write_nowait(self, data: bytes) -> str | None:
        if self.werr is not None or not data:
            return self.werr
        try:
            return super().write_nowait(self._encrypt(data))
        except SSL.Error as exc:
            return self._broken(exc)

    def _broken(self, exc: SSL.Error) -> str | None:
        logger.info(f"tls: {self.remoteaddr}: {_reason(exc)}")
        self.fail(errno.TLS)
        return self.werr

    def close(self, await_end: bool = False) -> str | None:
        if not self.closed and self.werr is None and not self._handshaking:
            try:
                self.ssl.shutdown()
            except SSL.Error as exc:
                logger.debug(f"tls: {self.remoteaddr}: close_notify: {_reason(exc)}")
            self._send_pending()
        return super().close(await_end)


class Conn(tcp.Conn):
    """A TLS connection: ``silly.net.tcp.Conn`` and what TLS adds."""

    __slots__ = ()

    _stream: TlsStream

    def alpnproto(self) -> str | None:
        """The protocol that ALPN chose, such as ``"http/1.1"``, or None."""
        return self._stream.ssl.get_alpn_proto_negotiated().decode("ascii") or None


def _reason(exc: SSL.Error) -> str:
    """What OpenSSL says, in words."""
    if isinstance(exc, SSL.SysCallError):
        return "TLS: the connection ended unexpectedly"
    first = exc.args[0] if exc.args else []
    if isinstance(first, list) and first:
        return "TLS: " + "; ".join(str(entry[-1]) for entry in first)
    return "TLS error"


def _pem(value: object, what: str) -> bytes:
    """PEM text, or the contents of the file that it names."""
    if isinstance(value, bytes):
        value = value.decode("ascii")
    if not isinstance(value, str):
        raise TypeError(f"{what} is PEM text or a path, not {type(value).__name__}")
    if "-----BEGIN" in value:
        return value.encode("ascii")
    try:
        with open(value, "rb") as file:
            return file.read()
    except OSError as exc:
        raise ValueError(f"{what}: can't read {value!r}: {exc.strerror}") from None


def _private_key(pem: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, None)
    except TypeError:
        raise ValueError("key: it is encrypted, which is not supported") from None


def _new_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    return context


def server_context(certs: Sequence[Mapping[str, Any]], alpnprotos: Sequence[str] | None = None) -> SSL.Context:
    """The context of a listener. Raises ValueError for certificates that can't be used."""
    if not certs:
        raise ValueError("certs needs at least one {'cert': PEM, 'key': PEM}")
    by_name: dict[str, SSL.Context] = {}
    first: SSL.Context | None = None
    for entry in certs:
        context, names = _certified(entry, alpnprotos)
        first = first or context
        for name in names:
            by_name.setdefault(name, context)
    assert first is not None

    def choose(conn: SSL.Connection) -> None:
        name = (conn.get_servername() or b"").decode("ascii", "replace").lower()
        chosen = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if chosen is not None:
            conn.set_context(chosen)

    if len(certs) > 1:
        first.set_tlsext_servername_callback(choose)
    return first


def _certified(entry: Mapping[str, Any], alpnprotos: Sequence[str] | None) -> tuple[SSL.Context, list[str]]:
    """A context with one certificate, and the names that this has."""
    context = _new_context()
    try:
        chain = x509.load_pem_x509_certificates(_pem(entry["cert"], "cert"))
        context.use_certificate(chain[0])
        for extra in chain[1:]:
            context.add_extra_chain_cert(extra)
        context.use_privatekey(_private_key(_pem(entry["key"], "key")))  # type: ignore[arg-type]
        context.check_privatekey()
    except KeyError as exc:
        raise ValueError(f"an entry of certs has no {exc}") from None
    except SSL.Error as exc:
        raise ValueError(f"certificate and key: {_reason(exc)}") from None
    except UnsupportedAlgorithm as exc:
        raise ValueError(f"certificate and key: {exc}") from None
    if alpnprotos is not None:
        ours = [proto.encode("ascii") for proto in alpnprotos]

        def select(conn: SSL.Connection, theirs: list[bytes]) -> Any:
            return next((proto for proto in ours if proto in theirs), SSL.NO_OVERLAPPING_PROTOCOLS)

        context.set_alpn_select_callback(select)
    try:
        san = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return context, []
    return context, [name.lower() for name in san.get_values_for_type(x509.DNSName)]


def accepting(
    context: SSL.Context, accept: Callable[[Conn], object], limits: Limits
) -> Callable[[socket.socket, str], object]:
    """What a listener does with a new socket: shakes hands in a task of its own, then calls ``accept(conn)`` in it."""

    def serve(stream: TlsStream) -> None:
        conn = Conn(stream)
        err = stream.handshake(monotonic() + limits.handshake_timeout / 1000)
        if err is not None:
            logger.info(f"tls: {stream.remoteaddr}: handshake failed: {err}")
            conn.close()
            return
        accept(conn)

    def accepted(sock: socket.socket, remoteaddr: str) -> None:
        ssl = SSL.Connection(context, None)
        ssl.set_accept_state()
        scheduler.fork(serve, TlsStream(sock, remoteaddr, limits, ssl), getattr(accept, "__code__", None), 0)

    return accepted


def listen(
    addr: str | Mapping[str, Any],
    certs: Sequence[Mapping[str, Any]] = (),
    accept: Callable[[Conn], object] | None = None,
    backlog: int | None = None,
    alpnprotos: Sequence[str] | None = None,
    *,
    limits: Limits = DEFAULT,
) -> tuple[Listener, None] | tuple[None, str]:
    """``tcp.listen`` with TLS: ``accept(conn)`` runs once the handshake is done.

    ``certs``: dicts with ``cert`` and ``key``, each PEM text or a path; with several, the client's server name chooses.
    Raises ValueError for certificates that can't be used. Of ``limits`` it heeds ``handshake_timeout``
    and those of ``tcp.listen``.
    """
    if isinstance(addr, Mapping):
        tcp.config_alone("tls.listen", certs or None, accept, backlog, alpnprotos, limits if limits is not DEFAULT else None)
        return listen(**addr)
    if not callable(accept):
        raise TypeError("tls.listen needs accept, a function that gets the connection")
    context = server_context(certs, alpnprotos)
    return _listen("tls.listen", addr, accepting(context, accept, limits), backlog)


def connect(
    addr: str,
    hostname: str | Mapping[str, Any] | None = None,
    alpnprotos: Sequence[str] | None = None,
    ca: str | bytes | None = None,
    verify: bool = True,
    timeout: float | None = None,
    bind: str | None = None,
    *,
    limits: Limits = DEFAULT,
) -> tuple[Conn, None] | tuple[None, str]:
    """Connects and shakes hands; ``timeout`` ms bounds both (else 10 s for the handshake).

    ``hostname``: the name to ask for and to verify (the host of ``addr`` if None). ``ca``: PEM text or a path of the
    authorities to trust instead of the system's. ``verify=False`` takes any certificate, and is logged once. A failed
    handshake is ``errno.TLS``, with the reason in the log. The options may be given as a dict in place of ``hostname``.
    """
    if isinstance(hostname, Mapping):
        others = alpnprotos, ca, None if verify else verify, timeout, bind, limits if limits is not DEFAULT else None
        tcp.config_alone("tls.connect", *others)
        return connect(addr, **hostname)
    conn, err = connect_explained(addr, hostname, alpnprotos, ca, verify, timeout, bind, limits)
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
) -> tuple[Conn, None] | tuple[None, str]:
    """``connect`` whose error tells why the handshake failed, for the protocols above."""
    hostname = hostname or address.parse(addr)[0] or "localhost"
    ssl = SSL.Connection(_client_context(ca, verify, alpnprotos), None)
    is_ip = address.iptype(hostname) != 0
    if not is_ip:
        try:
            ssl.set_tlsext_host_name(hostname.encode("idna"))
        except UnicodeError:
            return None, errno.RESOLVE  # no name can be spelled so
    why: list[str] = []
    if verify:
        ssl.set_verify(SSL.VERIFY_PEER, lambda _c, _x, number, _d, ok: _verified(why, number, ok))
    ssl.set_connect_state()
    begin = monotonic()
    sock, err = dial(addr, bind, timeout, "tls.connect")
    if sock is None:
        assert err is not None
        return None, err
    deadline = monotonic() + limits.handshake_timeout / 1000 if timeout is None else begin + timeout / 1000
    stream = TlsStream(sock, addr, limits, ssl)
    conn = Conn(stream)
    try:
        err = stream.handshake(deadline)
        if err is None and verify:
            err = _wrong_name(ssl, hostname, is_ip)
    except BaseException:
        conn.close()
        raise
    if err is not None:
        conn.close()
        return None, "; ".join(why) or err
    return conn, None


def _verified(why: list[str], number: int, ok: int) -> bool:
    if not ok:
        why.append("TLS: " + _VERIFY_ERRORS.get(number, f"the certificate can't be verified (X509 error {number})"))
    return bool(ok)


def _wrong_name(ssl: SSL.Connection, hostname: str, is_ip: bool) -> str | None:
    try:
        (verify_ip_address if is_ip else verify_hostname)(ssl, hostname if is_ip else hostname.encode("idna").decode("ascii"))
    except (VerificationError, CertificateError, ValueError):  # ValueError: no certificate can have that name
        return f"TLS: the certificate is not for {hostname}"
    return None


_warned = False


def _client_context(ca: str | bytes | None, verify: bool, alpnprotos: Sequence[str] | None) -> SSL.Context:
    global _warned
    context = _new_context()
    if alpnprotos is not None:
        context.set_alpn_protos([proto.encode("ascii") for proto in alpnprotos])
    if not verify:
        if not _warned:
            _warned = True
            logger.warn("tls.connect with verify=False: whoever answers is believed")
        return context
    if ca is None:
        context.set_default_verify_paths()
        return context
    store = context.get_cert_store()
    assert store is not None
    try:
        for cert in x509.load_pem_x509_certificates(_pem(ca, "ca")):
            store.add_cert(crypto.X509.from_cryptography(cert))
    except ValueError as exc:
        raise ValueError(f"ca: {exc}") from None
    return context
