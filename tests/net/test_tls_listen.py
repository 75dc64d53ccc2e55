"""TLS listeners: which certificate a client gets, protocols, ciphers, reloading, admission."""

from __future__ import annotations

import os
import ssl
import stat
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from OpenSSL import SSL

import silly
from silly import check, errno, time
from silly._core import scheduler
from silly._wire.lines import take
from silly.net import _tls_context, http, tls
from silly.net._binding import ANYBODY
from silly.net._tls_context import new_context
from silly.net._tls_server import Settings
from silly.sync import channel

from ..children import in_thread
from ..helpers import WITHIN, Raw, joined, serving, spawn
from .authorities import Identity, intermediate, issue, root, rsa_key, server
from .support import until
from .tls_support import NO_PROTOCOL, connect, echo, explained, listening, python_client, python_context


def certificate(*names: str, issuer: Identity | None = None, **options: Any) -> Identity:
    return issue("server", issuer or root(), names=names, **options)


def shown(listener: Any, hostname: str | None, *, chain: bool = False, **options: Any) -> Any:
    """The fingerprint of the certificate that a client gets for ``hostname``, without verification."""
    conn = connect(listener, hostname=hostname, verify=False, **options)
    with conn:
        if chain:
            return [cert.serial_number for cert in conn._stream.ssl.get_peer_cert_chain(as_cryptography=True)]
        return conn.peercert().fingerprint


def fingerprint(identity: Identity) -> str:
    return tls.Certificate(identity.cert).fingerprint


@pytest.fixture(autouse=True)
def warned(logs: Any) -> None:
    logs.allow("verify=False")


# ---- which certificate ----------------------------------------------------------------------------------------------


def test_the_name_chooses() -> None:
    """Without a match, and without a name, it is the first. A wildcard stands for the left-most label alone."""
    first, second = certificate("first.example", "127.0.0.1"), certificate("second.example", "www.first.example")
    third, exact = certificate("*.third.example", "*.b.third.example"), certificate("exact.third.example")
    with listening(certs=[each.entry for each in (first, second, third, exact)]) as listener:
        for hostname, expected in (
            (None, first),
            ("127.0.0.1", first),
            ("first.example", first),
            ("other.example", first),
            ("second.example", second),
            ("SECOND.example", second),
            ("second.example.", second),
            ("www.first.example", second),
            ("a.third.example", third),
            ("a.b.third.example", third),
            ("third.example", first),
            ("a.c.third.example", first),
            ("b.third.example", third),
            ("exact.third.example", exact),
            ("*.third.example", third),
        ):
            assert shown(listener, hostname) == fingerprint(expected), hostname


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("hostname", ["localhost", None, "other.example", "www.example.org"])
def test_rsa_and_ecdsa_side_by_side(order: tuple[int, int], hostname: str | None) -> None:
    """The client's abilities choose between two certificates for the same names; each brings its own chain."""
    names = "localhost", "127.0.0.1", "*.example.org"
    other = issue("Another Intermediate", root(), authority=True)
    both = certificate(*names, issuer=intermediate(), key=rsa_key()), certificate(*names, issuer=other)
    with listening(certs=[both[n].entry for n in order]) as listener:
        for identity, ciphers in ((both[0], "ECDHE+aRSA"), (both[1], "ECDHE+ECDSA")):
            context = python_context(ssl.TLSVersion.TLSv1_2)
            context.check_hostname = False
            context.set_ciphers(ciphers)
            seen = in_thread(lambda c=context: python_client(listener.port, c, server_hostname=hostname))
            assert seen["answer"] == b"hello\n"
            assert tls.Certificate(identity.cert).der == seen["cert"]
        chain = shown(listener, hostname, chain=True)  # a client that can use both, and TLS 1.3
        chosen = next(each for each in both if each.cert.serial_number == chain[0])
        assert chain == [each.cert.serial_number for each in chosen.chain]
        assert explained(listener, hostname="a.example.org") is None


def both_types() -> list[dict[str, str]]:
    """Certificates for the same names, with an RSA and an ECDSA key, each with an issuer of its own."""
    other = issue("Another Intermediate", root(), authority=True)
    names = "localhost", "127.0.0.1"
    return [certificate(*names, issuer=intermediate(), key=rsa_key()).entry, certificate(*names, issuer=other).entry]


@pytest.fixture
def chain_files(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bytes]]:
    """Path, mode and contents of each file that OpenSSL is given. A child that executes a program gets none."""
    files: list[tuple[str, int, bytes]] = []
    use = SSL.Context.use_certificate_chain_file

    def noting(context: SSL.Context, path: str) -> None:
        with open(path, "rb") as file:
            files.append((path, os.fstat(file.fileno()).st_mode, file.read()))
        if path.startswith("/proc/self/fd/"):
            assert not os.get_inheritable(int(os.path.basename(path)))
        use(context, path)

    monkeypatch.setattr(SSL.Context, "use_certificate_chain_file", noting)
    return files


NO_MEMORY_FILES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no memfd": lambda patch: patch.delattr(os, "memfd_create"),
    "memfd is refused": lambda patch: patch.setattr(os, "memfd_create", refused),
    "no /proc": lambda patch: patch.setattr(_tls_context, "_DESCRIPTORS", "/no/such/directory"),
}
"""Systems where a file in memory can't be used."""


def refused(*_: object) -> int:
    """As in a container that forbids the system call."""
    raise PermissionError(1, "Operation not permitted")


def unlucky(_: SSL.Context, path: str) -> None:
    assert os.path.exists(path)
    raise SSL.Error([("", "", "out of luck")])


def test_rsa_and_ecdsa_need_no_temporary_directory(
    chain_files: list[tuple[str, int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose root is read-only. The keys are in no file at all."""
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/directory")
    certs = both_types()
    with listening(certs=certs) as listener, serving(lambda stream: stream.respond(204), certs=certs) as server:
        assert listener.reload() == (True, None)
        assert server.reload() == (True, None)
        assert explained(listener) is None
        assert explained(server) is None
    assert chain_files
    for path, _, contents in chain_files:
        assert path.startswith("/proc/self/fd/")
        assert contents.count(b"-----BEGIN ") == contents.count(b"-----BEGIN CERTIFICATE-----") == 2


@pytest.mark.parametrize("system", NO_MEMORY_FILES)
def test_rsa_and_ecdsa_with_a_temporary_file(
    system: str, chain_files: list[tuple[str, int, bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Any, logs: Any
) -> None:
    """It is for us alone, has no key, and is gone at once, also when OpenSSL refuses what is in it."""
    logs.expect("ERROR listener .*: reload: certificate and key: TLS: out of luck; what was loaded before stays in use")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    NO_MEMORY_FILES[system](monkeypatch)
    certs = both_types()
    with listening(certs=certs) as listener:
        assert explained(listener) is None
        assert len(shown(listener, "localhost", chain=True)) == 2
        assert os.listdir(tmp_path) == []
        with monkeypatch.context() as patch:
            patch.setattr(SSL.Context, "use_certificate_chain_file", unlucky)
            assert listener.reload() == (False, "listener.reload: certificate and key: TLS: out of luck")
        assert os.listdir(tmp_path) == []
    for path, mode, contents in chain_files:
        assert path.startswith(f"{tmp_path}/")
        assert stat.S_IMODE(mode) == 0o600
        assert b"PRIVATE KEY" not in contents


@pytest.mark.parametrize("system", NO_MEMORY_FILES)
def test_rsa_and_ecdsa_where_no_file_can_be_made(system: str, monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    why = "certificates of several key types need /proc, or a temporary directory that can be written to: No such file"
    logs.expect(f"ERROR listener .*: reload: {why}.*; what was loaded before stays in use")
    logs.expect(f"ERROR tls.listen 127.0.0.1:0: {why}")
    logs.expect(f"ERROR http.listen 127.0.0.1:0: {why}")
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/directory")
    certs = both_types()
    with listening(certs=certs[:1]) as listener:
        NO_MEMORY_FILES[system](monkeypatch)
        ok, err = listener.reload(certs)
        assert ok is False
        assert err.startswith(f"listener.reload: {why}")
        assert explained(listener) is None
        assert tls.listen("127.0.0.1:0", certs, echo) == (None, "No such file or directory (2)")
        assert http.listen("127.0.0.1:0", print, certs=certs) == (None, "No such file or directory (2)")
        for each in certs:  # one alone needs no file
            with listening(certs=[each]) as other:
                assert explained(other) is None


def test_key_types_of_different_entries() -> None:
    """A name's certificates of other key types may cover it by a wildcard; Ed25519 is one more type."""
    exact, wild = certificate("www.example.org", key=rsa_key()), certificate("*.example.org")
    modern = certificate("www.example.org", key=ed25519.Ed25519PrivateKey.generate())
    with listening(certs=[exact.entry, wild.entry, modern.entry]) as listener:
        for identity, ciphers in ((exact, "ECDHE+aRSA"), (wild, "ECDHE+ECDSA")):
            context = python_context(ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(ciphers)
            if identity is wild:
                with listening(certs=[exact.entry, wild.entry]) as two:
                    seen = in_thread(lambda c=context: python_client(two.port, c, server_hostname="www.example.org"))
            else:
                seen = in_thread(lambda c=context: python_client(listener.port, c, server_hostname="www.example.org"))
            assert tls.Certificate(identity.cert).der == seen["cert"]
        assert shown(listener, "www.example.org") in {fingerprint(each) for each in (exact, wild, modern)}
        assert shown(listener, "other.example.org") == fingerprint(wild)


def test_two_certificates_alike() -> None:
    """Of two with the same name and type of key the first is used."""
    one, other = certificate("same.example", "one.example"), certificate("same.example", "other.example")
    with listening(certs=[one.entry, other.entry]) as listener:
        assert shown(listener, "same.example") == shown(listener, "one.example") == fingerprint(one)
        assert shown(listener, "other.example") == fingerprint(other)


def test_a_certificate_that_another_hides_is_still_checked() -> None:
    with pytest.raises(ValueError, match="certificate and key"):
        tls.listen("127.0.0.1:0", [server().entry, {**server().entry, "key": issue("x").entry["key"]}], echo)


def test_paths(tmp_path: Any) -> None:
    entry = certificate("localhost", issuer=intermediate()).entry
    for name, text in entry.items():
        (tmp_path / name).write_text(text)
    for paths in ({name: str(tmp_path / name) for name in entry}, {name: tmp_path / name for name in entry}):
        with listening(certs=[paths]) as listener:
            assert explained(listener, hostname="localhost") is None


# ---- versions, ciphers, protocols -----------------------------------------------------------------------------------


def test_only_ciphers_with_forward_secrecy(logs: Any) -> None:
    """RFC 9325, section 4.2: neither RSA key exchange nor CBC."""
    logs.expect("INFO tls: .*: handshake failed: TLS: no cipher in common with the peer")
    with listening(certs=[certificate("localhost", key=rsa_key()).entry]) as listener:
        for ciphers in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"):
            context = python_context(ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(ciphers)
            with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
                in_thread(lambda c=context: python_client(listener.port, c))


def test_ciphers() -> None:
    with listening(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384") as listener:
        seen = in_thread(lambda: python_client(listener.port, python_context(ssl.TLSVersion.TLSv1_2)))
        assert seen["cipher"][0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        seen = in_thread(lambda: python_client(listener.port, python_context()))
        assert seen["version"] == "TLSv1.3"


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"ciphers": "NO-SUCH-CIPHER"}, ValueError, "knows no TLS 1.2 cipher"),
        ({"ciphers": "é"}, ValueError, "knows no TLS 1.2 cipher"),
        ({"ciphers": ""}, ValueError, "knows no TLS 1.2 cipher"),
        ({"ciphers": ["a"]}, TypeError, "ciphers is text"),
        ({"alpnprotos": "http/1.1"}, TypeError, "alpnprotos is a list"),
        ({"alpnprotos": [""]}, ValueError, "from 1 to 255"),
        ({"alpnprotos": ["x" * 256]}, ValueError, "from 1 to 255"),
        ({"alpnprotos": ["é"]}, ValueError, "ascii"),
        ({"verify": "require"}, ValueError, "needs ca"),
        ({"verify": "request"}, ValueError, "needs ca"),
        ({"verify": "maybe", "ca": "x"}, ValueError, "'request' or 'require'"),
        ({"verify": True, "ca": "x"}, ValueError, "'request' or 'require'"),
        ({"ca": "x"}, ValueError, "no client would be verified"),
        ({"verify": "require", "ca": "/no/such/file"}, ValueError, "ca: can't read"),
        ({"verify": "require", "ca": "-----BEGIN CERTIFICATE-----\n"}, ValueError, "ca: no readable certificate"),
        ({"verify": "require", "ca": 5}, TypeError, "ca is PEM text or a path"),
        ({"certs": {"cert": "x", "key": "y"}}, TypeError, "a list of dicts"),
        ({"certs": ["x"]}, TypeError, "a certificate is a dict"),
        ({"certs": [{"cert": "a\0b", "key": "y"}]}, ValueError, "neither PEM text nor a path"),
        ({"certs": [{"cert": "", "key": "y"}]}, ValueError, "cert: it is empty"),
    ],
)
def test_mistakes(options: Any, kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        tls.listen("127.0.0.1:0", **{"certs": [server().entry], "accept": echo, **options})


def test_a_key_never_shows_in_an_error() -> None:
    """Its text without the first line is no PEM, and looks like a path."""
    body = server().entry["key"].split("\n", 1)[1]
    with pytest.raises(ValueError, match="neither PEM text nor a path") as raised:
        tls.listen("127.0.0.1:0", [{**server().entry, "key": body}], echo)
    assert body[:20] not in str(raised.value)


def test_options_that_a_context_turns_off() -> None:
    context = new_context(None)
    options = context.set_options(0)
    assert options & SSL.OP_NO_COMPRESSION
    assert options & SSL.OP_NO_RENEGOTIATION
    assert context.set_mode(0) & SSL.MODE_RELEASE_BUFFERS
    assert context.get_session_cache_mode() == SSL.SESS_CACHE_OFF


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"),
    [
        (["h2", "http/1.1"], ["http/1.1", "h2"], "h2"),
        (["http/1.1", "a"], ["a", "http/1.1"], "http/1.1"),
        (["a"], ["x" * 255, "a"], "a"),
        (["a"], None, None),
        (None, ["a"], None),
        ([], ["a"], None),
    ],
)
def test_alpn_by_the_servers_preference(ours: Any, theirs: Any, chosen: str | None) -> None:
    protocols = channel.new()
    with listening(lambda conn: protocols.push((conn.alpnproto(),)), alpnprotos=ours) as listener:
        with connect(listener, alpnprotos=theirs) as conn:
            assert conn.alpnproto() == chosen
        assert protocols.pop() == ((chosen,), None)


def test_alpn_without_overlap(logs: Any) -> None:
    """RFC 7301, section 3.2: the alert is fatal. Also where a name has a context of its own."""
    logs.expect(r"INFO tls: .*: handshake failed: TLS: the peer offers none of our application protocols \(ALPN\)")
    certs = [server().entry, certificate("other.example").entry]
    with listening(certs=certs, alpnprotos=["http/1.1"]) as listener:
        for hostname in ("localhost", "other.example"):
            err = explained(listener, hostname=hostname, alpnprotos=["h2", "http/1.0"])
            assert err.startswith(NO_PROTOCOL)
            assert explained(listener, hostname=hostname, alpnprotos=["http/1.1"]) is None
    assert len(logs.lines) == 2


# ---- reload ---------------------------------------------------------------------------------------------------------


def test_reload() -> None:
    """New handshakes get the new certificate; connections of before go on, and one that has begun ends as it began."""
    old, new = certificate("localhost", "127.0.0.1"), certificate("localhost", "127.0.0.1")
    with listening(certs=[old.entry], alpnprotos=["a"]) as listener, connect(listener) as before:
        with Raw.connect(listener) as begun:
            until(lambda: len(scheduler.tasks) >= 2)
            assert listener.reload([new.entry], alpnprotos=["b"]) == (True, None)
            assert shown(listener, None) == fingerprint(new)
            with connect(listener, alpnprotos=["b"]) as conn:
                assert conn.alpnproto() == "b"
            before.write("still here\n")
            assert before.read("\n", WITHIN) == (b"still here\n", None)
            assert finish(begun) == fingerprint(old)
        assert listener.reload() == (True, None)
        assert shown(listener, None) == fingerprint(new)
    assert listener.reload() == (False, errno.CLOSED)


def test_reload_with_a_dict() -> None:
    """As upstream's examples have it."""
    new = certificate("localhost", "127.0.0.1")
    with listening() as listener:
        assert listener.reload({"certs": [new.entry], "alpnprotos": ["b"]}) == (True, None)
        assert shown(listener, None) == fingerprint(new)
        with pytest.raises(TypeError, match="use only one of the two"):
            listener.reload({"certs": [new.entry]}, alpnprotos=["b"])


def test_reload_of_an_http_server() -> None:
    old, new = certificate("localhost", "127.0.0.1"), certificate("localhost", "127.0.0.1")
    with serving(lambda stream: stream.respond(204), certs=[old.entry]) as server:
        assert shown(server, None) == fingerprint(old)
        assert server.reload([new.entry]) == (True, None)
        assert shown(server, None) == fingerprint(new)
        assert server.reload({"certs": [old.entry]}) == (True, None)
        assert shown(server, None) == fingerprint(old)
    with serving(lambda stream: stream.respond(204)) as server, pytest.raises(ValueError, match="a server with TLS"):
        server.reload()


def finish(raw: Raw) -> str:
    """Shakes hands on a connection that is accepted already; the fingerprint of the server's certificate."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    connection.set_connect_state()
    while True:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            try:
                raw.send(connection.bio_read(65536))
            except SSL.WantReadError:
                pass
            connection.bio_write(raw.read(1) + take(raw.conn._stream.buf, raw.conn.unreadbytes()))
        else:
            raw.send(connection.bio_read(65536))
            cert = connection.get_peer_certificate(as_cryptography=True)
            assert cert is not None
            return tls.Certificate(cert).fingerprint


def test_reload_reads_the_files_again(tmp_path: Any) -> None:
    paths = {name: str(tmp_path / name) for name in ("cert", "key")}
    made = [certificate("localhost", "127.0.0.1") for _ in range(2)]

    def write(identity: Identity) -> None:
        for name, text in identity.entry.items():
            (tmp_path / name).write_text(text)

    write(made[0])
    with listening(certs=[paths]) as listener:
        write(made[1])
        assert shown(listener, None) == fingerprint(made[0])
        assert listener.reload() == (True, None)
        assert shown(listener, None) == fingerprint(made[1])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"certs": [{"cert": "/no/such/file", "key": "/no/such/file"}]}, "cert: can't read '/no/such/file'"),
        ({"certs": []}, "certs needs at least one"),
        ({"certs": [{**server().entry, "key": issue("x").entry["key"]}]}, "certificate and key: "),
        ({"ciphers": "none"}, "knows no TLS 1.2 cipher"),
        ({"verify": "require"}, "verify needs ca"),
        ({"ca": "x"}, "no client would be verified"),
        ({"alpnprotos": [""]}, "from 1 to 255"),
    ],
)
def test_a_bad_reload_changes_nothing(options: Any, why: str, logs: Any) -> None:
    logs.expect(rf"ERROR listener 127\.0\.0\.1:\d+: reload: .*{why}.*; what was loaded before stays in use")
    with listening(alpnprotos=["a"]) as listener:
        before = listener._accepted._configuration
        ok, err = listener.reload(**options)
        assert ok is False
        assert err.startswith("listener.reload: ")
        assert why in err
        assert listener._accepted._configuration is before
        with connect(listener, alpnprotos=["a"]) as conn:
            assert conn.alpnproto() == "a"
            assert conn.peercert().fingerprint == fingerprint(server())
        assert listener.reload() == (True, None)


def test_reload_with_an_unknown_setting() -> None:
    with listening() as listener:
        with pytest.raises(TypeError):
            listener.reload({"cert": "x", "key": "y"})
        assert explained(listener) is None


def test_reload_under_load() -> None:
    """Clients come and go all the while; none notices."""
    certs = [certificate("localhost", "127.0.0.1") for _ in range(2)]
    with listening(certs=[certs[0].entry]) as listener:
        going = True

        def client() -> int:
            count = 0
            while going or not count:
                with connect(listener) as conn:
                    conn.write("x\n")
                    assert conn.read("\n", WITHIN) == (b"x\n", None)
                    count += 1
            return count

        clients = [spawn(client) for _ in range(4)]
        for number in range(20):
            assert listener.reload([certs[number % 2].entry])
            time.sleep(1)
        going = False
        assert all(joined(each) for each in clients)


# ---- admission ------------------------------------------------------------------------------------------------------


class Counting:
    """Lets ``most`` in."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.inside: list[str] = []

    def enter(self, host: str) -> bool:
        if len(self.inside) >= self.most:
            return False
        self.inside.append(host)
        return True

    def leave(self, host: str) -> None:
        self.inside.remove(host)


def admitted(accept: Callable[[Any], object], admission: Counting, addr: str = "127.0.0.1:0", **limits: int) -> Any:
    settings = Settings([server().entry], None, None, None, None)
    most = silly.Limits(**limits)
    return check(tls.listen_admitted("test.listen", "test", addr, settings, accept, None, most, ANYBODY, admission))


def test_a_handshake_counts(logs: Any) -> None:
    """From the moment it is accepted; one too many is closed before a byte is read."""
    logs.expect(r"INFO tls: 127\.0\.0\.1:\d+: too many connections: closed before the handshake")
    logs.allow("handshake failed: the peer ended")
    admission = Counting(2)
    with admitted(echo, admission) as listener:
        with Raw.connect(listener), connect(listener) as conn:
            assert admission.inside == ["127.0.0.1"] * 2
            with Raw.connect(listener) as third:
                third.eof()
            conn.write("x\n")
            assert conn.read("\n", WITHIN) == (b"x\n", None)
        until(lambda: not admission.inside)
        assert explained(listener) is None
    until(lambda: not admission.inside)


@pytest.mark.parametrize("how", ["timeout", "garbage", "http", "accept raises", "accept returns", "reset"])
def test_leaving(how: str, logs: Any) -> None:
    """However the task ends."""
    if how not in ("accept returns", "reset"):
        logs.expect("(?s)ERROR .*oops" if how == "accept raises" else "INFO tls: ")

    def accept(conn: Any) -> None:
        if how == "accept raises":
            raise RuntimeError("oops")

    admission = Counting(1)
    with admitted(accept, admission, handshake_timeout=50 if how == "timeout" else 10_000) as listener:
        if how.startswith("accept"):
            connect(listener).close()
        else:
            with Raw.connect(listener) as raw:
                assert admission.inside == ["127.0.0.1"]
                if how == "reset":
                    raw.reset()
                elif how != "timeout":
                    raw.send("GET / HTTP/1.1\r\n\r\n" if how == "http" else b"\0" * 20)
                    raw.rest()
                    assert admission.inside  # a descriptor is in use until the peer, which was sending, has ended
                if how in ("timeout", "reset"):
                    until(lambda: not admission.inside)
        until(lambda: not admission.inside)


def test_the_host_of_a_unix_socket(tmp_path: Any) -> None:
    hosts = []

    class Noting(Counting):
        def enter(self, host: str) -> bool:
            hosts.append(host)
            return super().enter(host)

    path = os.path.join(tmp_path, "socket")
    admission = Noting(1)
    with admitted(echo, admission, f"unix:{path}") as listener:
        conn, err = tls.connect(listener.addr, "localhost", ca=root().pem)
        assert err is None
        conn.close()
        until(lambda: not admission.inside)
    assert len(hosts) == 1


def test_listen_admitted_names_the_function(logs: Any) -> None:
    logs.expect("ERROR test.listen 127.0.0.1:.*Address already in use")
    with listening() as listener:
        settings = Settings([server().entry], None, None, None, None)
        limits = silly.Limits()
        assert tls.listen_admitted("test.listen", "test", listener.addr, settings, echo, None, limits, ANYBODY, None) == (
            None,
            errno.ADDRINUSE,
        )
