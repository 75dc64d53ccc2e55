"""Certificates for tests: good ones, and bad ones of every kind. Keys are made once."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
LONG_AGO = NOW - 30 * DAY
YESTERDAY = NOW - DAY
TOMORROW = NOW + DAY
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@cache
def elliptic(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """An EC key; another for another number."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key(size: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, size)


def pem_key(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    return x509.RFC822Name(name) if "@" in name else x509.DNSName(name)


@dataclass
class Identity:
    """A certificate with its key, and who issued it."""

    cert: x509.Certificate
    key: Any
    issuer: Identity | None = field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate alone."""
        return self.cert.public_bytes(Encoding.PEM).decode()

    @property
    def chain(self) -> list[Identity]:
        """It and its issuers, without the self-signed one at the end."""
        return [self] if self.issuer is None or self.issuer.issuer is None else [self, *self.issuer.chain]

    @property
    def entry(self) -> dict[str, str]:
        """For ``certs`` and ``cert``: the whole chain."""
        return {"cert": "".join(each.pem for each in self.chain), "key": pem_key(self.key)}

    @property
    def alone(self) -> dict[str, str]:
        """``entry`` without the issuers."""
        return {"cert": self.pem, "key": pem_key(self.key)}


def issue(
    common_name: str,
    issuer: Identity | None = None,
    *,
    names: Sequence[str] = (),
    authority: bool = False,
    path_length: int | None = None,
    begin: datetime.datetime = LONG_AGO,
    end: datetime.datetime = NOW + 30 * DAY,
    usage: Sequence[Any] = (),
    key: Any = None,
    extensions: Sequence[x509.ExtensionType] = (),
    digest: Any = None,
) -> Identity:
    """A certificate by ``issuer``, or self-signed."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    signer = issuer.key if issuer is not None else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if authority:
        sign_certificates = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(sign_certificates, critical=True)
    if names:
        listed = x509.SubjectAlternativeName([general_name(name) for name in names])
        builder = builder.add_extension(listed, critical=not common_name)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return Identity(builder.sign(signer, digest or hashes.SHA256()), key, issuer)


@cache
def root() -> Identity:
    """The authority that the tests trust."""
    return issue("Test Root", authority=True, key=elliptic())


@cache
def stranger() -> Identity:
    """An authority that is not trusted."""
    return issue("Somebody Else", authority=True, key=elliptic(1))


@cache
def intermediate() -> Identity:
    return issue("Test Intermediate", root(), authority=True, path_length=0)


@cache
def server(*names: str) -> Identity:
    """A good server's certificate, by the root."""
    return issue("server", root(), names=names or ("localhost", "127.0.0.1"), usage=[SERVER])


@cache
def client(name: str = "alice") -> Identity:
    """A good client's certificate, by the root."""
    return issue(name, root(), names=[f"{name}@example.org"], usage=[CLIENT])
