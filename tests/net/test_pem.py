"""Certificates, keys and authorities that can't be used: each gets words that say what is wrong and what to do, wherever it is
given. And forms that look odd but can be used."""

from __future__ import annotations

import base64
import os
import re
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from silly import errno
from silly.net import http, tls, websocket

from .authorities import Identity, client, elliptic, intermediate, issue, root, rsa_key, server
from .test_tls_listen import both_types
from .tls_support import echo, explained, listening


def cert() -> str:
    return server().entry["cert"]


def key() -> str:
    return server().entry["key"]


def request() -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(elliptic(), SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def encrypted(form: PrivateFormat) -> str:
    return elliptic().private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")).decode()


class Bad(NamedTuple):
    """Something that can't be used, and what is said of it after its name."""

    made: Callable[[], str | bytes]
    why: str


CERTIFICATES = {
    "empty": Bad(lambda: b" \n", "it is empty"),
    "DER": Bad(lambda: server().cert.public_bytes(Encoding.DER), "it is DER or PKCS #12, not PEM: 'openssl x509 -inform der'"),
    "PKCS 12": Bad(
        lambda: pkcs12.serialize_key_and_certificates(b"x", server().key, server().cert, None, NoEncryption()),
        "it is DER or PKCS #12, not PEM: .*, 'openssl pkcs12' of PKCS #12",
    ),
    "PKCS 7": Bad(lambda: cert().replace("CERTIFICATE", "PKCS7"), "it holds PKCS #7: 'openssl pkcs7 -print_certs'"),
    "UTF-16": Bad(lambda: cert().encode("utf-16"), "it is UTF-16: save it as ASCII or UTF-8"),
    "no PEM": Bad(lambda: b"server.pem", "it is no PEM text: there is no line '-----BEGIN CERTIFICATE-----'"),
    "line ends as two characters": Bad(lambda: cert().replace("\n", "\\n"), r"its line ends are the two characters \\n"),
    "cut": Bad(lambda: cert()[:300], "it is damaged, cut, or of a kind that is not supported: it needs whole blocks from"),
    "damaged": Bad(lambda: cert()[:100] + "é" + cert()[100:], "it is damaged, cut, or"),
    "no certificate within": Bad(
        lambda: "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        r"it is damaged, cut, or of a kind that is not supported: .* \(error parsing asn1 value: ParseError",
    ),
    "a key": Bad(key, "it holds a private key and no certificate: are 'cert' and 'key' swapped?"),
    "a request": Bad(request, "it holds a request for a certificate"),
    "something else": Bad(lambda: cert().replace("CERTIFICATE", "X509 CRL"), "it holds no certificate, only X509 CRL"),
}
KEYS = {
    "empty": Bad(lambda: b"", "it is empty"),
    "DER": Bad(
        lambda: elliptic().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "it is DER or PKCS #12, not PEM: 'openssl pkey -inform der'",
    ),
    "line ends as two characters": Bad(lambda: key().replace("\n", "\\n"), r"its line ends are the two characters \\n"),
    "cut": Bad(lambda: key()[:100], "it is damaged, cut, or"),
    "encrypted": Bad(lambda: encrypted(PrivateFormat.PKCS8), "it is encrypted, which is not supported: 'openssl pkey'"),
    "encrypted, traditional": Bad(lambda: encrypted(PrivateFormat.TraditionalOpenSSL), "it is encrypted"),
    "OpenSSH": Bad(
        lambda: elliptic().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        "it is a key in OpenSSH's form: 'ssh-keygen",
    ),
    "a public key": Bad(
        lambda: elliptic().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "it holds the public key: the private one is needed",
    ),
    "a certificate": Bad(cert, "it holds a certificate and no private key: are 'cert' and 'key' swapped?"),
    "something else": Bad(request, "it holds no private key, only CERTIFICATE REQUEST"),
}


def in_file(folder: Path, content: str | bytes) -> str:
    path = folder / "given.pem"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def raised(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """What the ValueError says that ``call`` raises."""
    with pytest.raises(ValueError) as caught:
        call(*args, **options)
    return str(caught.value)


def said(what: str, value: Any) -> list[str]:
    """What is said of ``value`` wherever it can be given as ``what``, which is ``cert``, ``key`` or ``ca``."""
    ours: dict[str, Any] = {"certs": [server().entry], "ca": value, "verify": "require"}
    theirs: dict[str, Any] = {"ca": value}
    if what != "ca":
        ours = {"certs": [server().entry | {what: value}]}
        theirs = {"cert": client().entry | {what: value}}
    with listening() as listener:
        ok, err = listener.reload(**ours)
        assert ok is False
        assert err.startswith("listener.reload: ")
        assert explained(listener) is None, "what was loaded before is in use"
    dialler = http.newclient(max_per_host=1, **theirs)
    texts = [
        err,
        raised(tls.listen, "127.0.0.1:0", accept=echo, **ours),
        raised(http.listen, "127.0.0.1:0", print, **ours),
        raised(tls.connect, "127.0.0.1:1", **theirs),
        *[raised(dialler.get, "https://127.0.0.1:1/") for _ in range(2)],  # the second is no later than the first
    ]
    return [*texts, raised(websocket.connect, "wss://127.0.0.1:1/", ca=value)] if what == "ca" else texts


ROWS = [
    *[("cert", name, bad) for name, bad in CERTIFICATES.items()],
    *[("ca", name, bad) for name, bad in CERTIFICATES.items()],
    *[("key", name, bad) for name, bad in KEYS.items()],
]


@pytest.mark.parametrize(("what", "bad"), [row[::2] for row in ROWS], ids=[f"{what}: {name}" for what, name, _ in ROWS])
def test_what_cannot_be_used(what: str, bad: Bad, tmp_path: Path, logs: Any) -> None:
    """In a file, and as PEM text if it is any: each place that takes it names it, and says the same."""
    logs.allow("ERROR listener .*: reload: ")
    content = bad.made()
    path = in_file(tmp_path, content)
    for text in said(what, path):
        assert re.search(f"{what}: {path!r}: .*{bad.why}", text), text
    if isinstance(content, str):
        for text in said(what, content):
            assert re.search(f"{what}: (?!').*{bad.why}", text), text
            assert content[40:60] not in text


@pytest.mark.parametrize("what", ["cert", "key", "ca"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "it is empty: give PEM text or the path of a PEM file"),
        (b"", "it is empty"),
        ("/no/such/file.pem", "can't read '/no/such/file.pem': No such file or directory"),
        ("/dev", "can't read '/dev': Is a directory"),
        (Path("/dev"), "can't read '/dev': Is a directory"),
        (b"/no/such/\xff.pem", r"can't read '/no/such/\\udcff.pem': No such file or directory"),
        ("x" * 300 + ".pem", "can't read .*: File name too long"),
        (b"0\x82\x01\x00\0\xff", "neither PEM text nor a path.*DER, or base64 of PEM text, must be converted first"),
        ("\ud800.pem", "neither PEM text nor a path"),
        ("MIGH\n" * 3, "neither PEM text nor a path"),
    ],
    ids=["empty", "empty bytes", "missing", "directory", "Path", "no UTF-8", "long", "DER", "no Unicode", "no lines around it"],
)
def test_what_is_no_file(what: str, value: Any, why: str, logs: Any) -> None:
    logs.allow("ERROR listener .*: reload: ")
    for text in said(what, value):
        assert re.search(f"{what}: {why}", text), text


@pytest.mark.parametrize("value", [5, None, ["cert.pem"]])
@pytest.mark.parametrize("what", ["cert", "key"])
def test_what_is_no_text(what: str, value: Any) -> None:
    for call in (
        lambda entry: tls.listen("127.0.0.1:0", [entry], echo),
        lambda entry: tls.connect("127.0.0.1:1", cert=entry),
    ):
        with pytest.raises(TypeError, match=f"{what} is PEM text or a path, not {type(value).__name__}"):
            call(server().entry | {what: value})


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc/self/mem"), reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path, logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read every file but some of ``/proc``."""
    logs.allow("ERROR listener .*: reload: ")
    path = tmp_path / "key.pem"
    path.write_text(key())
    path.chmod(0)
    given = "/proc/self/mem" if os.geteuid() == 0 else str(path)
    for text in said("key", given):
        assert re.search(f"key: can't read '{given}': (Permission denied|Input/output error)", text), text


def bare_keys() -> Iterator[str]:
    """A key without the lines around it, in one line: as a setting in the environment may have it."""
    for made in (elliptic(), ed25519.Ed25519PrivateKey.generate(), rsa_key()):
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        yield base64.b64encode(pem).decode()
        yield base64.urlsafe_b64encode(pem).decode()
        yield "".join(pem.decode().splitlines()[1:-1])
        yield made.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).hex()


def test_a_key_in_one_line_never_shows(logs: Any) -> None:
    """It looks like a path, but the error must not show it."""
    logs.allow("ERROR listener .*: reload: ")
    for bare in bare_keys():
        for text in said("key", bare):
            assert "key: neither PEM text nor a path" in text
            assert bare[:20] not in text


@pytest.mark.parametrize("name", ["missing.pem", ""])
def test_authorities_of_the_environment_that_cannot_be_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: Any
) -> None:
    """OpenSSL ignores that, and no server is trusted: the log says why, once for all connections of ten minutes."""
    path = name and str(tmp_path / name)
    logs.expect(f"WARNING SSL_CERT_FILE: can't read {path!r}: No such file or directory: no authority in it is trusted")
    logs.allow("INFO tls: .*handshake failed")
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with listening() as listener:
        for _ in range(2):
            assert "issuer is not trusted" in explained(listener, ca=None)
    assert len([line for line in logs.lines if "SSL_CERT_FILE" in line]) == 1


# ---- certificate and key, chains ------------------------------------------------------------------------------------


def chained() -> Identity:
    return issue("server", intermediate(), names=["localhost", "127.0.0.1"])


def test_a_key_of_another_certificate(logs: Any) -> None:
    logs.allow("ERROR listener .*: reload: ")
    for text in said("key", issue("x").entry["key"]):
        assert "certificate and key: they don't match: key is not the key of CN=" in text
        assert re.search("CN=(server|alice), the first certificate in cert$", text), text


def test_a_chain_that_does_not_begin_with_the_keys_certificate(logs: Any) -> None:
    logs.allow("ERROR listener .*: reload: ")
    for text in said("cert", root().pem + intermediate().pem + server().pem):
        if "CN=alice" not in text:
            assert re.search("cert: the chain is in the wrong order: .* which is number 3, comes first", text) or (
                "they don't match" in text
            ), text
    mine = chained()
    entry = {**mine.entry, "cert": intermediate().pem + mine.pem}
    why = "cert: the chain is in the wrong order: the key's own certificate, which is number 2, comes first"
    assert why in raised(tls.listen, "127.0.0.1:0", [entry], echo)
    assert why in raised(tls.connect, "127.0.0.1:1", cert=entry)


@pytest.mark.parametrize("order", ["an issuer is missing", "the wrong way round", "twice"])
def test_a_chain_that_is_not_in_order_is_warned_of(order: str, logs: Any) -> None:
    """It is used all the same: RFC 8446, section 4.4.2, lets clients sort it."""
    low = issue("Low", intermediate(), authority=True)
    mine = issue("server", low, names=["127.0.0.1"])
    chain, number, name = {
        "an issuer is missing": ((mine, intermediate()), 2, "Test Intermediate"),
        "the wrong way round": ((mine, intermediate(), low), 2, "Test Intermediate"),
        "twice": ((mine, mine, low), 2, "server"),
    }[order]
    logs.expect(f"WARNING cert: certificate number {number}, CN={name}, is not the issuer of the one before it")
    with listening(certs=[{**mine.entry, "cert": "".join(each.pem for each in chain)}]):
        pass


def test_a_chain_in_order_is_not_warned_of(logs: Any) -> None:
    """With the root at its end or not."""
    mine = chained()
    for end in ("", root().pem):
        with listening(certs=[{**mine.entry, "cert": mine.pem + intermediate().pem + end}]) as listener:
            assert explained(listener) is None
    assert not logs.lines


@pytest.mark.parametrize("second", ["the same names", "one of the names", "no name"])
def test_a_certificate_that_is_never_used_is_warned_of(second: str, logs: Any) -> None:
    """A renewed certificate behind the one that it replaces is no renewal."""
    names = {"the same names": ("a.example", "b.example"), "one of the names": ("b.example",), "no name": ()}[second]
    names_of_it = r"it (is for .*b\.example|names no host; its common name x doesn't count)"
    logs.expect(rf"WARNING certs\[1\] is never used: {names_of_it}; for each name and type of key the first")
    with listening(certs=[issue("x", root(), names=each).entry for each in (("a.example", "b.example"), names)]):
        pass
    assert len(logs.lines) == 1


def test_a_short_key(logs: Any) -> None:
    logs.allow("ERROR listener .*: reload: ")
    short = issue("server", root(), names=["127.0.0.1"], key=rsa_key(1024))
    with listening() as listener:
        _, err = listener.reload([short.entry])
    listened = raised(tls.listen, "127.0.0.1:0", [short.entry], echo)
    for text in (err, listened, raised(tls.connect, "127.0.0.1:1", cert=short.entry)):
        assert "certificate and key: TLS: OpenSSL considers the key too short (ee key too small)" in text


# ---- what can be used -----------------------------------------------------------------------------------------------


def parameters() -> str:
    """What ``openssl ecparam -genkey`` writes: the curve stands before the key."""
    curve = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    return curve + server().key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


FORMS: dict[str, Callable[[], tuple[str | bytes, str | bytes]]] = {
    "both in both": lambda: (key() + cert(), cert() + key()),
    "bytes": lambda: (cert().encode(), key().encode()),
    "CRLF": lambda: (cert().replace("\n", "\r\n"), key().replace("\n", "\r\n")),
    "a byte order mark": lambda: ("\ufeff" + cert(), "\ufeff" + key()),
    "bytes and words that are no UTF-8": lambda: (b"CN=\xfc\n" + cert().encode(), b"CN=\xfc\n" + key().encode()),
    "words before": lambda: ("subject=CN = B\u00fccher\n" + cert(), "Bag Attributes: \u00fc\n" + key()),
    "EC parameters before the key": lambda: (cert(), parameters()),
    "without the last line end": lambda: (cert().strip(), key().strip()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_can_be_used(form: str, tmp_path: Path) -> None:
    entry = dict(zip(("cert", "key"), FORMS[form](), strict=True))
    for name, content in entry.items():
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    for given in (entry, {name: str(tmp_path / name) for name in entry}):
        with listening(certs=[given]) as listener:
            assert explained(listener) is None


def test_paths_that_are_no_utf8(tmp_path: Path) -> None:
    """As bytes, and as ``os.listdir`` has them."""
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)
    paths: dict[str, bytes] = {}
    for name, text in {**server().entry, "ca": root().pem}.items():
        paths[name] = folder + b"/" + name.encode()
        with open(paths[name], "w") as file:
            file.write(text)
    ca = paths.pop("ca")
    for form in (bytes, os.fsdecode):
        with listening(certs=[{name: form(path) for name, path in paths.items()}]) as listener:
            assert explained(listener, ca=form(ca)) is None


def test_a_path_that_looks_like_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("certificates/production/of_the_server_of_example_org")
    folder.mkdir(parents=True)
    paths = {}
    for name, text in server().entry.items():
        (folder / name).write_text(text)
        paths[name] = str(folder / name)
    with listening(certs=[paths]) as listener:
        assert explained(listener) is None


# ---- no file can be had ---------------------------------------------------------------------------------------------


@contextmanager
def out_of_files(left: int = 0) -> Iterator[None]:
    """The process may open no file more, or only so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open("/dev/null", os.O_RDONLY) for _ in range(left + 1)]
    for each in free:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files(tmp_path: Path, logs: Any) -> None:
    """That is no fault of the settings, so nothing raises."""
    logs.expect(r"ERROR listener .*: reload: Too many open files; what was loaded before stays in use")
    logs.expect(r"ERROR tls\.listen 127\.0\.0\.1:0: Too many open files")
    path = in_file(tmp_path, cert())
    certs = [{"cert": path, "key": key()}]
    with listening(certs=certs) as listener, http.newclient(ca=path) as dialler:
        with out_of_files():
            reloaded = listener.reload()
            listened = tls.listen("127.0.0.1:0", certs, echo)
            connected = tls.connect(listener.addr, ca=path)
            _, got = dialler.get(f"https://{listener.addr}/")
            _, upgraded = websocket.connect(f"wss://{listener.addr}/", ca=path)
        assert reloaded == (False, "listener.reload: Too many open files")
        assert listened == (None, errno.MFILE)
        assert connected == (None, errno.MFILE)
        assert errno.MFILE in got
        assert errno.MFILE in upgraded
        assert explained(listener) is None
    assert len(logs.lines) == 2


@pytest.mark.parametrize("memfd", [True, False])
@pytest.mark.parametrize("left", [0, 1])
def test_too_many_open_files_for_certificates_of_several_key_types(
    left: int, memfd: bool, tmp_path: Path, logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chain needs two: the file is open while OpenSSL opens it."""
    logs.expect(r"ERROR listener .*: reload: Too many open files; what was loaded before stays in use")
    logs.expect(r"ERROR tls\.listen 127\.0\.0\.1:0: Too many open files")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    certs = both_types()
    with listening(certs=certs) as listener:
        before = len(os.listdir("/dev/fd"))
        with out_of_files(left):
            reloaded = listener.reload()
            listened = tls.listen("127.0.0.1:0", certs, echo)
        assert reloaded == (False, "listener.reload: Too many open files")
        assert listened == (None, errno.MFILE)
        assert len(os.listdir("/dev/fd")) == before
        assert explained(listener) is None
    assert list(tmp_path.iterdir()) == []
