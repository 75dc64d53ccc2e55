"""Certificates of servers that ``tls.connect`` must refuse, each with its reason, and the good twins of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from silly import errno
from silly.net import tls

from .authorities import (
    CLIENT,
    DAY,
    NOW,
    SERVER,
    TOMORROW,
    YESTERDAY,
    Identity,
    intermediate,
    issue,
    root,
    rsa_key,
    server,
    stranger,
)
from .tls_support import explained, listening


def leaf(issuer: Identity | None = None, *names: str, **options: Any) -> Identity:
    return issue("server", issuer or root(), names=names or ("127.0.0.1",), **options)


def below(*issuers: dict[str, Any], **options: Any) -> Identity:
    """A certificate below issuers that are made in turn, from the root down."""
    above = root()
    for number, each in enumerate(issuers):
        above = issue(f"Issuer {number}", above, **{"authority": True, **each})
    return leaf(above, **options)


def constrained(*names: str) -> Identity:
    """By an issuer who may certify host names below example.org alone."""
    only = x509.NameConstraints([x509.DNSName("example.org")], None)
    return leaf(issue("Constrained", root(), authority=True, extensions=[only]), *names)


class Bad(NamedTuple):
    """A certificate that is refused, its good twin, and why."""

    bad: Callable[[], Identity]
    good: Callable[[], Identity]
    why: str
    hostname: str | None = None
    alone: bool = False
    """Whether the server leaves the issuers out."""


ROWS = {
    "expired": Bad(
        lambda: leaf(end=YESTERDAY),
        lambda: leaf(end=TOMORROW),
        rf"the certificate expired on {YESTERDAY:%Y-%m-%d %H:%M:%S} UTC",
    ),
    "not valid yet": Bad(
        lambda: leaf(begin=TOMORROW),
        lambda: leaf(begin=YESTERDAY),
        rf"the certificate is not valid before {TOMORROW:%Y-%m-%d %H:%M:%S} UTC \(the time here is 20.* UTC\)",
    ),
    "issuer expired": Bad(
        lambda: below({"end": YESTERDAY}),
        lambda: below({"end": TOMORROW}),
        r"the issuer's certificate CN=Issuer 0 expired on ",
    ),
    "other address": Bad(
        lambda: leaf(None, "127.0.0.2", "::1", "example.org"),
        lambda: leaf(None, "127.0.0.2", "127.0.0.1"),
        r"the certificate is not for 127\.0\.0\.1: it is for example\.org, 127\.0\.0\.2, ::1$",
    ),
    "other name": Bad(
        lambda: leaf(None, "example.org", "www.example.org"),
        lambda: leaf(None, "example.net"),
        r"the certificate is not for example\.net: it is for example\.org, www\.example\.org$",
        "example.net",
    ),
    "other name beside a wildcard": Bad(
        lambda: leaf(None, "*.example.org"),
        lambda: leaf(None, "*.example.org", "example.org"),
        r"the certificate is not for example\.org: it is for \*\.example\.org$",
        "example.org",
    ),
    "wildcard too deep": Bad(
        lambda: leaf(None, "*.example.org"),
        lambda: leaf(None, "*.b.example.org"),
        r"the certificate is not for a\.b\.example\.org: it is for \*\.example\.org$",
        "a.b.example.org",
    ),
    "wildcard in the middle": Bad(
        lambda: leaf(None, "a.*.example.org"),
        lambda: leaf(None, "*.b.example.org"),
        r"the certificate is not for a\.b\.example\.org: it is for a\.\*\.example\.org$",
        "a.b.example.org",
    ),
    "wildcard within a label": Bad(
        lambda: leaf(None, "w*.example.org"),
        lambda: leaf(None, "*.example.org"),
        r"the certificate is not for www\.example\.org: it is for w\*\.example\.org$",
        "www.example.org",
    ),
    "wildcard for everything": Bad(
        lambda: leaf(None, "*"), lambda: leaf(None, "localhost"), r"not for localhost: it is for \*$", "localhost"
    ),
    "address as a host name": Bad(
        lambda: issue("server", root(), extensions=[x509.SubjectAlternativeName([x509.DNSName("127.0.0.1")])]),
        lambda: leaf(None, "127.0.0.1"),
        r"the certificate is not for 127\.0\.0\.1: it is for 127\.0\.0\.1$",
    ),
    "address in the common name": Bad(
        lambda: issue("127.0.0.1", root()),
        lambda: issue("127.0.0.1", root(), names=["127.0.0.1"]),
        r"the certificate is not for 127\.0\.0\.1: it names no host; its common name 127\.0\.0\.1 doesn't count$",
    ),
    "host in the common name": Bad(
        lambda: issue("example.org", root()),
        lambda: issue("example.org", root(), names=["example.org"]),
        r"it names no host; its common name example\.org doesn't count$",
        "example.org",
    ),
    "no name at all": Bad(lambda: issue("", root()), lambda: leaf(), r"not for 127\.0\.0\.1: it names no host$"),
    "names to fake a log line": Bad(
        lambda: issue("x\nINFO forged \x1b[31m", root()),
        lambda: leaf(),
        r"^TLS: [^\n\x1b]*its common name x\\nINFO forged \\x1b\[31m doesn't count$",
    ),
    "many long names": Bad(
        lambda: leaf(None, *(f"{'x' * 60}.{'y' * 60}.{n}.example.org" for n in range(300))),
        lambda: leaf(),
        r"^TLS: [^\n]{900,1300} and 290 more$",
    ),
    "self-signed": Bad(
        lambda: issue("127.0.0.1", names=["127.0.0.1"]), lambda: leaf(), r"^TLS: the certificate is self-signed$"
    ),
    "unknown authority": Bad(
        lambda: leaf(stranger()),
        lambda: leaf(),
        r"^TLS: the certificate's issuer is not trusted, or an intermediate certificate was not sent: CN=Somebody Else$",
    ),
    "intermediate missing": Bad(
        lambda: leaf(intermediate()),
        lambda: leaf(intermediate()),
        r"issuer is not trusted, or an intermediate certificate was not sent: CN=Test Intermediate$",
        alone=True,
    ),
    "authority of the same name": Bad(
        lambda: leaf(issue("Test Root", authority=True)), lambda: leaf(), r"issuer is not trusted|signature"
    ),
    "issuer is no authority": Bad(
        lambda: below({"authority": False}), lambda: below({}), r"CN=Issuer 0 is not an authority's, but has signed"
    ),
    "path too long": Bad(
        lambda: below({"path_length": 0}, {}),
        lambda: below({"path_length": 1}, {}),
        r"the chain is longer than the path length of .* allows",
    ),
    "for clients": Bad(
        lambda: leaf(usage=[CLIENT]), lambda: leaf(usage=[CLIENT, SERVER]), r"the certificate is not for this purpose"
    ),
    "issuer for clients": Bad(
        lambda: below({"extensions": [x509.ExtendedKeyUsage([CLIENT])]}),
        lambda: below({"extensions": [x509.ExtendedKeyUsage([SERVER])]}),
        r"CN=Issuer 0 is not for this purpose",
    ),
    "weak key": Bad(
        lambda: leaf(key=rsa_key(1024)), lambda: leaf(key=rsa_key(2048)), r"the key of the certificate is too weak"
    ),
    "weak issuer": Bad(
        lambda: below({"key": rsa_key(1024)}), lambda: below({"key": rsa_key(2048)}), r"the key of .*CN=Issuer 0 is too weak"
    ),
    "name constraint": Bad(
        lambda: constrained("www.example.net"),
        lambda: constrained("www.example.org"),
        r"the certificate has a name that its issuer may not certify",
        "www.example.net",
    ),
    "unknown critical extension": Bad(
        lambda: leaf(extensions=[x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")]),
        lambda: leaf(),
        r"the certificate has an unknown critical extension",
    ),
}


def serve(identity: Identity, alone: bool = False) -> Any:
    """A listener with the certificate. OpenSSL's security level would keep our own from a weak key."""
    entry = identity.alone if alone else identity.entry
    return listening(lambda conn: conn.read(1), [entry], ciphers="DEFAULT:@SECLEVEL=0")


@pytest.mark.parametrize("name", ROWS)
def test_refused(name: str, logs: Any) -> None:
    row = ROWS[name]
    logs.allow(r"INFO tls: 127.0.0.1:\d+: (TLS: |handshake failed: TLS: )")  # what the server was told
    with serve(row.bad(), row.alone) as listener:
        err = explained(listener, hostname=row.hostname)
    assert err is not None
    assert re.search(row.why, err), err
    assert err.isprintable()
    assert len(err) < 1500


@pytest.mark.parametrize("name", ROWS)
def test_the_good_twin_passes(name: str) -> None:
    row = ROWS[name]
    with serve(row.good()) as listener:
        assert explained(listener, hostname="www.example.org" if name == "name constraint" else row.hostname) is None


def test_every_refusal_is_one_line_of_the_log(logs: Any) -> None:
    logs.expect(r"INFO tls\.connect 127\.0\.0\.1:\d+: TLS: the certificate expired on 20")
    logs.expect(r"INFO tls: .* handshake failed: TLS: the peer says that our certificate has expired \(.*alert")
    with serve(leaf(end=YESTERDAY)) as listener:
        assert tls.connect(listener.addr, ca=root().pem) == (None, errno.TLS)
    assert len(logs.lines) == 2


def test_revocation_is_not_checked() -> None:
    """Neither lists nor OCSP. Here a list that stands beside the authority names the certificate."""
    revoked = server()
    entry = x509.RevokedCertificateBuilder().serial_number(revoked.cert.serial_number).revocation_date(YESTERDAY).build()
    lists = x509.CertificateRevocationListBuilder().issuer_name(root().cert.subject).last_update(YESTERDAY)
    crl = lists.next_update(NOW + DAY).add_revoked_certificate(entry).sign(root().key, hashes.SHA256())
    pem = root().pem + crl.public_bytes(Encoding.PEM).decode()
    with serve(revoked) as listener:
        assert explained(listener, ca=pem) is None


@pytest.mark.parametrize(
    ("hostname", "names"),
    [
        ("EXAMPLE.org", ["example.org"]),
        ("example.org", ["EXAMPLE.ORG"]),
        ("example.org.", ["example.org"]),
        ("b\u00fccher.example", ["xn--bcher-kva.example"]),
        ("www.b\u00fccher.example", ["*.xn--bcher-kva.example"]),
        ("xn--bcher-kva.example", ["xn--bcher-kva.example"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("0:0:0:0:0:0:0:1", ["::1"]),
        ("fe80::1%lo", ["fe80::1"]),
    ],
)
def test_names_that_match(hostname: str, names: list[str]) -> None:
    with serve(leaf(None, *names)) as listener:
        assert explained(listener, hostname=hostname) is None


@pytest.mark.parametrize("hostname", [".", "a..b", "x" * 64, "\ud800.example"])
def test_invalid_names(hostname: str) -> None:
    with serve(server()) as listener:
        assert explained(listener, hostname=hostname) == errno.RESOLVE


def test_an_authority_that_is_not_a_root(logs: Any) -> None:
    """Trust in an issuer below a root needs the root: as OpenSSL has it by default."""
    logs.allow("INFO tls: .*handshake failed")
    with serve(leaf(intermediate()), alone=True) as listener:
        assert "issuer is not trusted" in explained(listener, ca=intermediate().pem)
        assert explained(listener, ca=root().pem + intermediate().pem) is None


def test_a_self_signed_certificate_that_is_trusted() -> None:
    lone = issue("lone", names=["127.0.0.1"])
    with serve(lone) as listener:
        assert explained(listener, ca=lone.pem) is None


def test_the_systems_authorities(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """Without ``ca`` they are those of the system, or where the environment says."""
    logs.allow("INFO tls: .*handshake failed")
    (tmp_path / "roots.pem").write_text(root().pem)
    with serve(server()) as listener:
        assert "issuer is not trusted" in explained(listener, ca=None)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
        assert explained(listener, ca=None) is None
        monkeypatch.delenv("SSL_CERT_FILE")
        assert "issuer is not trusted" in explained(listener, ca=None)


@pytest.mark.parametrize("verify", [None, "require", 0, 1])
def test_verify_is_a_bool(verify: Any) -> None:
    """None or 0 from somewhere must not turn verification off."""
    with pytest.raises(TypeError):
        tls.connect("127.0.0.1:1", verify=verify)
