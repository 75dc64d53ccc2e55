"""Certificates for TLS: loading them with their keys, and reading their contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from .._log import tls as logger
from .._shown import cut
from ._pem import Pem, read_pem, why_no_certificate, why_no_key

_NAMES = 10
"""The most names of a certificate in an error text."""
_LONGEST = 100
"""The most characters of a name in an error text."""


class KeyPair(NamedTuple):
    """A certificate with the issuers' certificates that go with it, and its private
    key."""

    chain: list[x509.Certificate]
    key: PrivateKeyTypes


class Certificate:
    """The contents of a peer's certificate. Don't trust its texts: the issuer wrote
    them, and names may hold any character."""

    __slots__ = ("_cert",)

    def __init__(self, cert: x509.Certificate) -> None:
        self._cert = cert

    @property
    def subject(self) -> str:
        """The holder, such as ``"CN=alice,O=Example"`` (RFC 4514)."""
        return _distinguished(lambda: self._cert.subject)

    @property
    def issuer(self) -> str:
        """The signer, in the form of ``subject``."""
        return _distinguished(lambda: self._cert.issuer)

    @property
    def names(self) -> tuple[str, ...]:
        """The subject alternative names that are host names, IP addresses, mail
        addresses or URIs (RFC 5280, 4.2.1.6)."""
        return tuple(host_names(self._cert) + _alternative(self._cert, x509.RFC822Name, x509.UniformResourceIdentifier))

    @property
    def notbefore(self) -> datetime:
        """The start of its validity, in UTC."""
        return self._cert.not_valid_before_utc

    @property
    def notafter(self) -> datetime:
        """The end of its validity, in UTC."""
        return self._cert.not_valid_after_utc

    @property
    def serial(self) -> int:
        """The serial number, which its issuer chose."""
        return self._cert.serial_number

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of ``der``, in hexadecimal."""
        return self._cert.fingerprint(SHA256()).hex()

    @property
    def der(self) -> bytes:
        """The certificate itself, in DER."""
        return self._cert.public_bytes(Encoding.DER)

    def __repr__(self) -> str:
        return f"<certificate {printable(self.subject)}, serial {self.serial:x}>"


def _distinguished(name: Callable[[], x509.Name]) -> str:
    try:
        return name().rfc4514_string()
    except ValueError as exc:  # OpenSSL is more tolerant than cryptography's parser
        return f"({exc})"


def _alternative(cert: x509.Certificate, *kinds: Any) -> list[str]:
    """The subject alternative names of these kinds; empty if they can't be read."""
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name) for kind in kinds for name in names.get_values_for_type(kind)]
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []


def dns_names(cert: x509.Certificate) -> list[str]:
    """Returns the host names of a certificate, in lower case; wildcards are kept."""
    return [name.lower() for name in _alternative(cert, x509.DNSName)]


def host_names(cert: x509.Certificate) -> list[str]:
    """Returns the host names and IP addresses of a certificate."""
    return _alternative(cert, x509.DNSName, x509.IPAddress)


def names_in_words(cert: x509.Certificate) -> str:
    """Describes the names of a certificate for an error text: few, short and
    printable."""
    names = host_names(cert)
    if not names:
        common = cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        has = f"; its common name {printable(str(common[0].value))} doesn't count" if common else ""
        return f"it names no host{has}"
    listed = ", ".join(printable(name) for name in names[:_NAMES])
    return f"it is for {listed}" + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")


def printable(text: str) -> str:
    """Makes ``text`` from outside safe for a log line: cut to a limit, with unprintable
    characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut(text, _LONGEST))


def when(moment: datetime) -> str:
    """Formats a time for a log line."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def in_force(cert: x509.Certificate) -> bool:
    """Whether the certificate is valid now, by its dates."""
    return cert.not_valid_before_utc <= datetime.now(UTC) <= cert.not_valid_after_utc


def read_pair(entry: Mapping[str, Any]) -> tuple[Pem, Pem]:
    """Returns ``cert`` and ``key`` of an entry. Raises as ``read_pem`` does."""
    if not isinstance(entry, Mapping):
        raise TypeError(f"a certificate is a dict {{'cert': PEM or path, 'key': PEM or path}}, not {type(entry).__name__}")
    try:
        return read_pem(entry["cert"], "cert"), read_pem(entry["key"], "key")
    except KeyError as exc:
        raise ValueError(f"a certificate's dict has no {exc}: it is {{'cert': PEM or path, 'key': PEM or path}}") from None


def load_pair(cert: Pem, key: Pem) -> KeyPair:
    """Loads a certificate with its chain, and its key. Raises ValueError if they can't
    be used."""
    pair = KeyPair(load_certificates(cert), _private_key(key))
    _check_match(pair, cert, key)
    _warn_of_order(pair.chain, cert)
    return pair


def load_certificates(pem: Pem) -> list[x509.Certificate]:
    """Loads the certificates in PEM text, at least one. Raises ValueError."""
    try:
        return x509.load_pem_x509_certificates(pem.data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError(f"{pem.name}: no readable certificate: {why_no_certificate(pem.data, exc)}") from None


def _private_key(pem: Pem) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem.data, None)
    except TypeError:
        text = "it is encrypted, which is not supported: 'openssl pkey' makes a copy without a password"
        raise ValueError(f"{pem.name}: {text}") from None
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError(f"{pem.name}: it can't be read: {why_no_key(pem.data, exc)}") from None


def _check_match(pair: KeyPair, cert: Pem, key: Pem) -> None:
    """Raises ValueError if the key is not that of the first certificate."""
    theirs = pair.key.public_key()
    place = next((number for number, each in enumerate(pair.chain, 1) if _public_key(each) == theirs), 0)
    if place == 1:
        return
    if place:
        raise ValueError(
            f"certificate and key: {cert.name}: the chain is in the wrong order: the key's own certificate, which is "
            f"number {place}, comes first, then its issuer's, and so on"
        )
    raise ValueError(
        f"certificate and key: they don't match: {key.name} is not the key of {_holder(pair.chain[0])}, "
        f"the first certificate in {cert.name}"
    )


def _public_key(cert: x509.Certificate) -> object:
    try:
        return cert.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None  # of a type that no key of ours has


def _warn_of_order(chain: Sequence[x509.Certificate], pem: Pem) -> None:
    """Warns of the first certificate that did not issue the one before it. Clients with
    TLS 1.3 may take such a chain (RFC 8446, section 4.4.2), those with TLS 1.2 need not
    (RFC 5246, section 7.4.2)."""
    for number, (issued, issuer) in enumerate(pairwise(chain), 2):
        if Certificate(issued).issuer != Certificate(issuer).subject:
            logger.warn(
                f"{pem.name}: certificate number {number}, {_holder(issuer)}, is not the issuer of the one before it: "
                "some clients will refuse the chain. The order is: the key's own certificate, its issuer's, and so on"
            )
            return


def _holder(cert: x509.Certificate) -> str:
    return printable(Certificate(cert).subject) or "one without a subject"


def pem_of(chain: Sequence[x509.Certificate]) -> bytes:
    """Returns the certificates as PEM text."""
    return b"".join(cert.public_bytes(Encoding.PEM) for cert in chain)
