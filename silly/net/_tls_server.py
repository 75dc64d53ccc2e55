"""The server's side of TLS handshakes: the choice of a certificate by name and key
type, client certificates, ALPN."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from cryptography import x509
from OpenSSL import SSL

from .._log import tls as logger
from .._shown import shown
from ._certificates import KeyPair, dns_names, in_force, load_certificates, load_pair, names_in_words, read_pair
from ._pem import Pem, read_pem
from ._tls_context import new_context, protocols, trust, use_pairs
from ._tls_direct import connection
from ._tls_words import NoProtocol, Verification

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption for TLS 1.2 (RFC 9325, section 4.2);
every cipher of TLS 1.3 has both."""
_CONFIGURATIONS = 16
"""The most configurations that are kept for ``tls.upgrade``."""


class Settings(NamedTuple):
    """The settings of a listener. Paths stay paths, so that a reload reads the files
    again."""

    certs: Sequence[Mapping[str, Any]]
    alpnprotos: Sequence[str] | None
    ca: object
    verify: str | None
    ciphers: str | None

    def read(self) -> Files:
        """Reads the files. Raises as ``ServerConfiguration`` does."""
        if self.verify not in (None, "request", "require"):
            raise ValueError(f"verify is None, 'request' or 'require', not {shown(self.verify)}")
        if self.verify is not None and self.ca is None:
            raise ValueError("verify needs ca, the authorities of client certificates")
        if self.verify is None and self.ca is not None:
            raise ValueError("ca is for verify='request' or verify='require': without that no client would be verified")
        if isinstance(self.certs, Mapping) or not isinstance(self.certs, Iterable):
            raise TypeError(f"certs is a list of dicts, not {type(self.certs).__name__}")
        if not self.certs:
            raise ValueError("certs needs at least one {'cert': PEM, 'key': PEM}")
        return Files([read_pair(entry) for entry in self.certs], None if self.ca is None else read_pem(self.ca, "ca"))


class Files(NamedTuple):
    """What the files of ``Settings`` hold."""

    pairs: list[tuple[Pem, Pem]]
    ca: Pem | None

    def digest(self) -> bytes:
        """Returns a hash of all contents."""
        pems = [pem for pair in self.pairs for pem in pair]
        if self.ca is not None:
            pems.append(self.ca)
        return sha256(b"".join(sha256(pem.data).digest() for pem in pems)).digest()


class ServerConfiguration:
    """The contexts of a listener, made from its settings. Raises TypeError or
    ValueError for invalid settings, and OSError if the system is out of descriptors or
    memory.

    A handshake begins in ``context``. When the client names a host, the context for
    that name takes over. For every name the tickets are those of ``context``, and all
    contexts verify clients in the same way, so a session can't evade verification under
    another name. A new configuration has new ticket keys, so it resumes no session of
    an old one.
    """

    def __init__(self, settings: Settings, files: Files | None = None) -> None:
        files = files or settings.read()
        self._settings = settings
        self._ca = [] if files.ca is None else load_certificates(files.ca)
        self._protocols = protocols(settings.alpnprotos)
        self._mode = SSL.VERIFY_NONE
        if settings.verify is not None:
            self._mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if settings.verify == "require" else 0)
        self._session_id = os.urandom(16)
        self._contexts: dict[tuple[int, ...], SSL.Context] = {}
        pairs = [load_pair(*pair) for pair in files.pairs]
        self._names = [frozenset(dns_names(pair.chain[0])) for pair in pairs]
        for number in range(len(pairs)):
            self._context_of(pairs, (number,))  # checks each, even one that is never chosen
        first = _one_of_each_type(pairs, [0, *(n for n in range(1, len(pairs)) if self._names[n] >= self._names[0])])
        chosen = {name: _one_of_each_type(pairs, self._holders(name)) for name in frozenset().union(*self._names)}
        self.context = self._context_of(pairs, first)
        self._by_name = {name: self._context_of(pairs, numbers) for name, numbers in chosen.items()}
        for number in sorted(set(range(len(pairs))).difference(first, *chosen.values())):
            logger.warn(
                f"certs[{number}] is never used: {names_in_words(pairs[number].chain[0])}; "
                "for each name and type of key the first certificate is used"
            )
        self.context.set_tlsext_servername_callback(self._choose)

    def connection(self) -> tuple[SSL.Connection, Verification]:
        """Makes the server's end of a new connection, and the ``Verification`` of the
        client's certificate."""
        ssl = connection(self.context)
        ssl.set_accept_state()
        verification = Verification()
        if self._mode != SSL.VERIFY_NONE:
            ssl.set_verify(self._mode, verification)
        return ssl, verification

    def client_refused(self, ssl: SSL.Connection) -> str | None:
        """After a handshake: returns why the client is refused, or None. A resumed
        session has the certificate of an earlier handshake, which may have expired
        since."""
        if self._mode == SSL.VERIFY_NONE:
            return None
        cert = peer_certificate(ssl)
        if cert is None:
            return "TLS: the peer sent no client certificate" if self._settings.verify == "require" else None
        return None if in_force(cert) else "TLS: the certificate of the resumed session has expired"

    def _holders(self, name: str) -> list[int]:
        """Returns the numbers of the certificates for ``name``: first those with the
        name itself, then those with a wildcard for it."""
        ways = name, _wildcard(name)
        return [number for way in ways for number, names in enumerate(self._names) if way in names]

    def _context_of(self, pairs: Sequence[KeyPair], numbers: tuple[int, ...]) -> SSL.Context:
        """Returns the context with these certificates, which have keys of different
        types."""
        context = self._contexts.get(numbers)
        if context is None:
            context = self._contexts[numbers] = self._new_context([pairs[number] for number in numbers])
        return context

    def _new_context(self, pairs: Sequence[KeyPair]) -> SSL.Context:
        context = new_context(_CIPHERS if self._settings.ciphers is None else self._settings.ciphers)
        use_pairs(context, pairs)
        if self._protocols:
            context.set_alpn_select_callback(self._select)
        context.set_session_id(self._session_id)  # OpenSSL demands one if clients are verified
        trust(context, self._ca)
        for cert in self._ca:
            context.add_client_ca(cert)
        return context

    def _choose(self, ssl: SSL.Connection) -> None:
        name = (ssl.get_servername() or b"").decode("ascii", "replace").lower().removesuffix(".")
        chosen = self._by_name.get(name) or self._by_name.get(_wildcard(name))
        if chosen is not None and chosen is not self.context:
            ssl.set_context(chosen)

    def _select(self, _: SSL.Connection, theirs: list[bytes]) -> bytes:
        for proto in self._protocols:
            if proto in theirs:
                return proto
        raise NoProtocol


_configurations: OrderedDict[tuple[object, ...], ServerConfiguration] = OrderedDict()


def configuration(settings: Settings) -> ServerConfiguration:
    """Returns the configuration for one connection with these settings. Files are read
    at each call. While settings and contents are the same, so is the configuration: it
    takes milliseconds to make, and its tickets are for later connections. Raises as
    ``ServerConfiguration`` does."""
    files = settings.read()
    key = files.digest(), settings.verify, repr(settings.ciphers), *protocols(settings.alpnprotos)
    found = _configurations.pop(key, None) or ServerConfiguration(settings, files)
    _configurations[key] = found
    if len(_configurations) > _CONFIGURATIONS:
        _configurations.popitem(last=False)
    return found


def _one_of_each_type(pairs: Sequence[KeyPair], numbers: Sequence[int]) -> tuple[int, ...]:
    """Returns the first of each key type, since OpenSSL holds only one of each."""
    by_type: dict[type, int] = {}
    for number in numbers:
        by_type.setdefault(type(pairs[number].key), number)
    return tuple(by_type.values())


def _wildcard(name: str) -> str:
    """Returns the wildcard that covers ``name``; it replaces only the left-most label
    (RFC 9525, section 6.3)."""
    return "*." + name.partition(".")[2]


def peer_certificate(ssl: SSL.Connection) -> x509.Certificate | None:
    """Returns the peer's certificate, or None if it sent none that can be read."""
    try:
        return ssl.get_peer_certificate(as_cryptography=True)
    except ValueError:  # OpenSSL reads some that cryptography can't; verified ones pass both
        return None
