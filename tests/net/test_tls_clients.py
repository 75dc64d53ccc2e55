"""Client certificates: asked for, required, shown, refused; and what ``peercert`` tells of them."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from silly import errno
from silly.net import http, tls, websocket
from silly.sync import channel

from ..children import in_thread
from ..helpers import WITHIN
from .authorities import (
    CLIENT,
    LONG_AGO,
    NOW,
    SERVER,
    TOMORROW,
    YESTERDAY,
    Identity,
    client,
    intermediate,
    issue,
    root,
    rsa_key,
    server,
    stranger,
)
from .tls_support import connect, listening, python_client, python_context


def who(conn: Any) -> None:
    """Answers with the client's subject."""
    cert = conn.peercert()
    conn.write(f"{cert.subject if cert else None}\n")
    conn.read(1)


def answer(listener: Any, **options: Any) -> Any:
    """What a client reads."""
    with connect(listener, **options) as conn:
        return conn.read("\n", WITHIN)


def asking(verify: str | None, **options: Any) -> Any:
    return listening(who, verify=verify, ca=None if verify is None else root().pem, **options)


@pytest.mark.parametrize("key", ["EC", "RSA"])
@pytest.mark.parametrize("verify", ["request", "require"])
def test_a_good_certificate(verify: str, key: str) -> None:
    identity = client() if key == "EC" else issue("bob", root(), usage=[CLIENT], key=rsa_key())
    name = b"CN=alice\n" if key == "EC" else b"CN=bob\n"
    with asking(verify) as listener:
        assert answer(listener, cert=identity.entry) == (name, None)


def test_with_an_issuer_between() -> None:
    with asking("require") as listener:
        assert answer(listener, cert=issue("carol", intermediate(), usage=[CLIENT]).entry) == (b"CN=carol\n", None)


def test_from_files(tmp_path: Any) -> None:
    for name, text in (*client().entry.items(), ("ca", root().pem)):
        (tmp_path / name).write_text(text)
    with listening(who, verify="require", ca=tmp_path / "ca") as listener:
        assert answer(listener, cert={name: tmp_path / name for name in ("cert", "key")}) == (b"CN=alice\n", None)


def test_authorities_of_clients_are_not_sent_along() -> None:
    """OpenSSL would complete the server's chain from them."""
    with asking("request") as listener, connect(listener) as conn:
        assert len(conn._stream.ssl.get_peer_cert_chain(as_cryptography=True)) == 1


def test_no_certificate_is_requested() -> None:
    with asking(None) as listener:
        assert answer(listener, cert=client().entry) == (b"None\n", None)


def test_a_requested_certificate_may_be_missing() -> None:
    with asking("request") as listener:
        assert answer(listener) == (b"None\n", None)


BAD = {
    "none": (None, "the peer sent no client certificate, but one is required", "the peer requires a client certificate"),
    "expired": (
        lambda: issue("alice", root(), usage=[CLIENT], end=YESTERDAY),
        rf"the certificate expired on {YESTERDAY:%Y-%m-%d}",
        "the peer says that our certificate has expired",
    ),
    "not valid yet": (
        lambda: issue("alice", root(), usage=[CLIENT], begin=TOMORROW),
        "the certificate is not valid before ",
        "the peer rejects our certificate",
    ),
    "unknown authority": (
        lambda: issue("alice", stranger(), usage=[CLIENT]),
        "the certificate's issuer is not trusted, .*: CN=Somebody Else",
        "the peer doesn't trust the issuer of our certificate",
    ),
    "self-signed": (
        lambda: issue("alice", usage=[CLIENT]),
        "the certificate is self-signed",
        "the peer doesn't (take our certificate|trust the issuer of our certificate)",
    ),
    "for servers": (
        lambda: issue("alice", root(), usage=[SERVER]),
        "the certificate is not for this purpose",
        "the peer rejects our certificate",
    ),
}


@pytest.mark.parametrize("hostname", ["localhost", "other.example"])
@pytest.mark.parametrize("verify", ["request", "require"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate(name: str, verify: str, hostname: str, logs: Any) -> None:
    """For TLS 1.3 the client's handshake is over before the server has looked: it learns from its first read. A name with a
    certificate of its own asks the same."""
    make, why, told = BAD[name]
    options = {"cert": make().entry} if make else {}
    certs = [server().entry, issue("other", root(), names=["other.example"]).entry]
    with asking(verify, certs=certs) as listener:
        if name == "none" and verify == "request":
            assert answer(listener, hostname=hostname, **options) == (b"None\n", None)
            return
        logs.expect(rf"INFO tls: 127\.0\.0\.1:\d+: handshake failed: TLS: {why}")
        logs.expect(rf"INFO tls: 127\.0\.0\.1:{listener.port}: TLS: {told} \(.*alert")
        conn = connect(listener, hostname=hostname, **options)
        assert conn.read(1, WITHIN) == (None, errno.TLS)
        assert not conn.isalive()
        assert conn._stream.why.startswith("TLS: the peer ")
        conn.close()
    assert len(logs.lines) == 2


def test_a_required_certificate_and_tls12(logs: Any) -> None:
    """Here the handshake itself fails."""
    logs.expect("INFO tls: .*: handshake failed: TLS: the peer sent no client certificate, but one is required")
    with asking("require") as listener, pytest.raises(ssl.SSLError):
        in_thread(lambda: python_client(listener.port, python_context(ssl.TLSVersion.TLSv1_2)))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pythons_ssl(version: ssl.TLSVersion, tmp_path: Any) -> None:
    for name, text in client().entry.items():
        (tmp_path / name).write_text(text)
    context = python_context(version)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with asking("require") as listener:
        seen = in_thread(lambda: python_client(listener.port, context, b"CN=alice\n"))
        assert seen["answer"] == b"CN=alice\n"


def test_the_authorities_are_named() -> None:
    """So that a client with several certificates can choose."""
    with asking("request") as listener, connect(listener) as conn:
        names = conn._stream.ssl.get_client_ca_list()
        assert [name.get_components() for name in names] == [[(b"CN", b"Test Root")]]


@pytest.mark.parametrize(
    ("cert", "kind"),
    [
        ("x", TypeError),
        ([], TypeError),
        ({"cert": "x"}, ValueError),
        ({"cert": client().pem, "key": server().entry["key"]}, ValueError),
        (False, TypeError),
    ],
)
def test_mistakes_in_cert(cert: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        tls.connect("127.0.0.1:1", cert=cert)


# ---- what peercert tells --------------------------------------------------------------------------------------------


def test_peercert_of_both_sides() -> None:
    certs = channel.new()

    def accept(conn: Any) -> None:
        certs.push((conn.peercert(),))
        conn.read(1)

    with listening(accept, verify="require", ca=root().pem) as listener:
        with connect(listener, cert=client().entry) as conn:
            theirs = conn.peercert()
            (ours,), _ = certs.pop()
        assert conn.peercert() is not None, "after the close too"
    der = client().cert.public_bytes(Encoding.DER)
    assert ours.der == der
    assert ours.fingerprint == hashlib.sha256(der).hexdigest()
    assert (ours.subject, ours.issuer) == ("CN=alice", "CN=Test Root")
    assert ours.names == ("alice@example.org",)
    assert (ours.notbefore, ours.notafter) == (LONG_AGO, NOW + datetime.timedelta(days=30))
    assert ours.notbefore.tzinfo is not None
    assert ours.serial == client().cert.serial_number
    assert repr(ours) == f"<certificate CN=alice, serial {ours.serial:x}>"
    assert theirs.names == ("localhost", "127.0.0.1")


def test_peercert_shows_odd_names_as_they_are() -> None:
    """They are data; only its repr, for logs, is printable."""
    odd = tls.Certificate(issue("a\nb", root(), names=["https://example.org/\x7f", "*.Example.org"]).cert)
    assert odd.names == ("*.Example.org", "https://example.org/\x7f")
    assert "\n" in odd.subject
    assert repr(odd).startswith("<certificate CN=a\\nb, serial ")


def test_peercert_without_names() -> None:
    assert tls.Certificate(issue("x").cert).names == ()


def test_https_and_wss_with_client_certificates() -> None:
    """The handler sees the connection's certificate."""
    seen = channel.new()

    def handler(stream: Any) -> None:
        sock, err = websocket.upgrade(stream)
        assert err is None
        seen.push((sock.conn.peercert().subject,))
        sock.read()

    server_, err = http.listen("127.0.0.1:0", handler, certs=[server().entry], ca=root().pem, verify="require")
    assert err is None
    try:
        identity: Identity = client()
        conn = connect(server_, cert=identity.entry)
        conn.write(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert seen.pop() == (("CN=alice",), None)
        conn.close()
    finally:
        server_.close()
