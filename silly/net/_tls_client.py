"""The client's side of TLS handshakes: authorities, host names, and sessions to
resume."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from .._core.loop import monotonic
from .._log import tls as logger
from .._shown import shown
from . import addr as address
from ._certificates import load_certificates, load_pair, names_in_words, printable, read_pair
from ._pem import Pem, read_pem
from ._tls_context import new_context, protocols, trust, use_pairs
from ._tls_direct import connection
from ._tls_words import Verification

_CONFIGURATIONS = 16
"""The most contexts that are kept. The authorities of each take milliseconds to
load."""
_SESSIONS = 256
"""The most sessions that are kept for each context."""
_FRESH = 600
"""Seconds that a context is kept: the system's authorities may change."""


class ClientConfiguration:
    """A context for connections with the same authorities, client certificate and
    protocols, and their sessions."""

    def __init__(self, ca: Pem | None, own: tuple[Pem, Pem] | None, verify: bool, protos: list[bytes]) -> None:
        self.context = new_context(None)
        self.until = monotonic() + _FRESH
        self._sessions: OrderedDict[tuple[str, str], tuple[SSL.Session, datetime | None]] = OrderedDict()
        if protos:
            self.context.set_alpn_protos(protos)
        if own is not None:
            use_pairs(self.context, [load_pair(*own)])
        if not verify:
            return
        if ca is None:
            self.context.set_default_verify_paths()
            _warn_of_missing_file()
        else:
            trust(self.context, load_certificates(ca))

    def keep(self, addr: str, name: str, session: SSL.Session, until: datetime | None) -> None:
        """Keeps a session for the next connection to ``addr`` as ``name``. ``until`` is
        when its certificates expire."""
        self._sessions[addr, name] = session, until
        self._sessions.move_to_end((addr, name))
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)

    def take(self, addr: str, name: str) -> tuple[SSL.Session, datetime | None] | None:
        """Removes and returns the session for a connection to ``addr`` as ``name``, or
        None. A ticket is used only once: an observer could link two connections with
        the same ticket (RFC 8446, appendix C.4)."""
        found = self._sessions.pop((addr, name), None)
        if found is None or (found[1] is not None and found[1] <= datetime.now(UTC)):
            return None
        return found


_configurations: OrderedDict[tuple[object, ...], ClientConfiguration] = OrderedDict()
_warned = False


def configuration(
    ca: object, cert: Mapping[str, Any] | None, verify: bool, alpnprotos: Sequence[str] | None
) -> ClientConfiguration:
    """Returns the configuration for these settings. Files are read at each call. Raises
    as ``read_pem`` does."""
    if not isinstance(verify, bool):
        raise TypeError(f"verify is True or False, not {shown(verify)}")
    _warn_unverified(verify)
    protos = protocols(alpnprotos)
    trusted = None if ca is None or not verify else read_pem(ca, "ca")
    if trusted is None:
        source: object = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    else:
        source = sha256(trusted.data).digest()
    own = None if cert is None else read_pair(cert)
    key = verify, source, own and sha256(b"\0".join(each.data for each in own)).digest(), *protos
    found = _configurations.pop(key, None)
    if found is None or found.until <= monotonic():
        found = ClientConfiguration(trusted, own, verify, protos)
    _configurations[key] = found
    if len(_configurations) > _CONFIGURATIONS:
        _configurations.popitem(last=False)
    return found


def _warn_of_missing_file() -> None:
    """Warns if the file of SSL_CERT_FILE can't be read: OpenSSL ignores that, and then
    trusts no server."""
    path = os.environ.get("SSL_CERT_FILE")
    if path is None:
        return
    try:
        with open(path, "rb"):
            pass
    except OSError as exc:
        logger.warn(f"SSL_CERT_FILE: can't read {shown(path)}: {exc.strerror}: no authority in it is trusted")


def _warn_unverified(verify: bool) -> None:
    global _warned
    if not verify and not _warned:
        _warned = True
        logger.warn("tls.connect with verify=False: the server's certificate is not verified")


def _ascii(name: str) -> str:
    """Returns a host name in the form of TLS: in ASCII, without a final dot (RFC 6066,
    section 3). Raises UnicodeError."""
    ascii_name = name.removesuffix(".").encode("idna").decode("ascii")
    if not ascii_name:
        raise UnicodeError("an empty host name")
    return ascii_name


class Attempt:
    """The client's end of one new connection to ``addr``, which must prove to be
    ``name``.

    ``ssl`` is its OpenSSL connection. Raises UnicodeError if ``name`` is not a valid
    host name.
    """

    def __init__(self, config: ClientConfiguration, addr: str, name: str, verify: bool) -> None:
        self._config = config
        self._addr = addr
        self._verify = verify
        self._verification = Verification()
        self._until: datetime | None = None
        self._is_ip = address.iptype(name) != 0
        self.name = name.partition("%")[0] if self._is_ip else _ascii(name)
        self.ssl = connection(config.context)
        if not self._is_ip:
            self.ssl.set_tlsext_host_name(self.name.encode("ascii"))
        if verify:
            self.ssl.set_verify(SSL.VERIFY_PEER, self._verification)
        self.ssl.set_connect_state()
        kept = config.take(addr, self.name)
        if kept is not None:
            session, self._until = kept
            self.ssl.set_session(session)

    def why(self, err: str) -> str:
        """Returns why the handshake failed; ``err`` is the stream's error."""
        return self._verification.why or err

    def wrong_name(self) -> str | None:
        """After the handshake: returns what is wrong with the names of the peer's
        certificate, or None."""
        if not self._verify:
            return None
        try:
            (verify_ip_address if self._is_ip else verify_hostname)(self.ssl, self.name)
        except (VerificationError, CertificateError, ValueError, x509.DuplicateExtension):
            # ValueError: the name can't be in a certificate, or the peer's is
            # malformed.
            return f"TLS: the certificate is not for {printable(self.name)}: {self._names()}"
        return None

    def _names(self) -> str:
        try:
            cert = self.ssl.get_peer_certificate(as_cryptography=True)
            return "it can't be read" if cert is None else names_in_words(cert)
        except ValueError as exc:
            return printable(str(exc))

    def keep(self, session: SSL.Session) -> None:
        """Keeps the session of this verified connection for the next one."""
        self._config.keep(self._addr, self.name, session, self._verification.until or self._until)
