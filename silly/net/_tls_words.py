"""TLS errors in words: what OpenSSL reports, and what is wrong with a certificate."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from OpenSSL import SSL, crypto

from ._certificates import printable, when

_REASONS = {
    # A part of OpenSSL's text, and its meaning. The peer sent an "alert" (RFC 8446,
    # section 6.2).
    "alert protocol version": "the peer supports neither TLS 1.2 nor TLS 1.3",
    "unsupported protocol": "the peer supports neither TLS 1.2 nor TLS 1.3",
    "version too low": "the peer supports neither TLS 1.2 nor TLS 1.3",
    "alert handshake failure": "the peer found no cipher or other parameter in common, or wants a client certificate",
    "alert insufficient security": "the peer considers our ciphers too weak",
    "no shared cipher": "no cipher in common with the peer",
    "no suitable signature algorithm": "no signature algorithm in common with the peer",
    "alert certificate required": "the peer requires a client certificate",
    "peer did not return a certificate": "the peer sent no client certificate, but one is required",
    "alert bad certificate": "the peer rejects our certificate",
    "alert unsupported certificate": "the peer rejects our certificate",
    "alert certificate unknown": "the peer rejects our certificate",
    "alert certificate revoked": "the peer says that our certificate is revoked",
    "alert certificate expired": "the peer says that our certificate has expired",
    "alert unknown ca": "the peer doesn't trust the issuer of our certificate",
    "alert no application protocol": "the peer speaks none of our application protocols (ALPN)",
    "unrecognized name": "the peer doesn't know that host name",
    "ee key too small": "OpenSSL considers the key too short",
    "alert access denied": "the peer denies access",
    "alert inappropriate fallback": "the peer considers our TLS version a downgrade",
}

_UNNAMED = "OpenSSL gives no reason; before 3.3 it gives none if the peer speaks none of our application protocols"
"""For an alert without a name."""

_FAULTS = {
    # X509_V_ERR_*: what is wrong. {it} is the certificate, {subject} its subject.
    7: "the signature of {it} is wrong",
    18: "{it} is self-signed",
    19: "the chain ends in a self-signed certificate that is not trusted: {subject}",
    22: "the chain of certificates is too long",
    23: "{it} is revoked",
    25: "the chain is longer than the path length of {it} allows",
    26: "{it} is not for this purpose (key usage)",
    32: "{it} may not sign certificates, but has (key usage)",
    34: "{it} has an unknown critical extension",
    37: "{it} may not sign certificates, but has",
    47: "{it} has a name that its issuer may not certify (name constraints)",
    48: "{it} has a name that its issuer may not certify (name constraints)",
    66: "the key of {it} is too weak",
    67: "the key of {it} is too weak",
    68: "the signature of {it} is made with a weak digest",
    79: "{it} is not an authority's, but has signed a certificate",
}
_NOT_YET, _EXPIRED = 9, 10
_NO_ISSUER = (2, 20, 21)


class NoProtocol(SSL.Error):
    """The client offers none of our application protocols, which is fatal (RFC 7301,
    section 3.2)."""


def reason(exc: SSL.Error) -> str:
    """Describes an error of OpenSSL in words."""
    if isinstance(exc, NoProtocol):
        return "TLS: the peer offers none of our application protocols (ALPN)"
    if isinstance(exc, SSL.SysCallError):
        return "TLS: the connection ended unexpectedly"
    first = exc.args[0] if exc.args else []
    if not isinstance(first, list) or not first:
        return "TLS error"
    said = "; ".join(str(entry[-1]) for entry in first if entry[-1])
    if not said:
        return f"TLS: {_UNNAMED}"
    for part, words in _REASONS.items():
        if part in said:
            return f"TLS: {words} ({said})"
    return f"TLS: {said}"


class Verification:
    """OpenSSL's callback for the certificates of one handshake. It notes what is wrong
    with them."""

    __slots__ = ("until", "why")

    def __init__(self) -> None:
        self.why: str | None = None
        """What is wrong, in words."""
        self.until: datetime | None = None
        """The earliest end of validity in the chain. None if nothing was verified,
        because the session was resumed."""

    def __call__(self, _: SSL.Connection, certificate: crypto.X509, number: int, depth: int, ok: int) -> bool:
        try:
            cert = certificate.to_cryptography()
            if not ok:
                self.why = self.why or f"TLS: {_fault(cert, number, depth)}"
            elif self.until is None or cert.not_valid_after_utc < self.until:
                self.until = cert.not_valid_after_utc
        except ValueError as exc:  # OpenSSL reads some that cryptography can't
            self.why = self.why or f"TLS: a certificate can't be read: {printable(str(exc))}"
            return False
        return bool(ok)


def _fault(cert: x509.Certificate, number: int, depth: int) -> str:
    subject = printable(cert.subject.rfc4514_string())
    it = f"the issuer's certificate {subject}" if depth else "the certificate"
    if number == _EXPIRED:
        return f"{it} expired on {when(cert.not_valid_after_utc)}"
    if number == _NOT_YET:
        return f"{it} is not valid before {when(cert.not_valid_before_utc)} (the time here is {when(datetime.now(UTC))})"
    if number in _NO_ISSUER:
        issuer = printable(cert.issuer.rfc4514_string())
        return f"{it}'s issuer is not trusted, or an intermediate certificate was not sent: {issuer}"
    words = _FAULTS.get(number)
    return words.format(it=it, subject=subject) if words else f"{it} can't be verified (X509 error {number})"
