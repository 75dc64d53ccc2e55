"""Sessions that are resumed, on either side, and those that must not be."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from OpenSSL import SSL

from silly import errno
from silly.net import _tls_client, _tls_server, tls

from ..children import in_thread
from ..helpers import WITHIN
from .authorities import CLIENT, NOW, Identity, client, issue, root, server, stranger
from .support import until
from .tls_support import connect, echo, listening, python_client, python_context, reused

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
other_name = issue("other", root(), names=["other.example"])


@pytest.fixture(autouse=True)
def no_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other tests."""
    monkeypatch.setattr(_tls_client, "_configurations", type(_tls_client._configurations)())


def who(conn: Any) -> None:
    """An echo that says whose connection it is."""
    line, _ = conn.read("\n")
    if line is not None:
        cert = conn.peercert()
        conn.write(f"{cert.subject if cert else None}\n".encode().rjust(len(line)))
    conn.read(1)


# ---- our server -----------------------------------------------------------------------------------------------------


def python_context_as(version: ssl.TLSVersion, identity: Identity | None, tmp_path: Any) -> ssl.SSLContext:
    context = python_context(version)
    if identity is not None:
        for name, text in identity.entry.items():
            (tmp_path / name).write_text(text)
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    return context


def twice(listener: Any, context: ssl.SSLContext, between: Any = None, **options: Any) -> tuple[Any, Any]:
    """What a client sees that comes, and comes again with the session."""
    data = b"CN=alice\n"
    first = in_thread(lambda: python_client(listener.port, context, data))
    assert not first["reused"]
    if between is not None:
        between()
    return first, in_thread(lambda: python_client(listener.port, context, data, session=first["session"], **options))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("verify", [None, "request", "require"])
def test_a_session_is_resumed(verify: str | None, version: ssl.TLSVersion, tmp_path: Any) -> None:
    """With client certificates too: the second connection has that of the first."""
    options = {} if verify is None else {"verify": verify, "ca": root().pem}
    context = python_context_as(version, client() if verify else None, tmp_path)
    with listening(who, **options) as listener:
        _, again = twice(listener, context)
    assert again["reused"]
    assert again["answer"].strip() == (b"CN=alice" if verify else b"None")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_without_a_certificate_does_not_become_one_with(version: ssl.TLSVersion, tmp_path: Any) -> None:
    context = python_context(version)
    with listening(who, verify="request", ca=root().pem) as listener:
        _, again = twice(listener, context)
        assert again["answer"].strip() == b"None"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("before", [{}, {"verify": "request", "ca": root().pem}])
def test_no_session_gets_past_a_new_requirement(before: Any, version: ssl.TLSVersion, logs: Any) -> None:
    """A session of before the reload, made without a certificate."""
    logs.expect("INFO tls: .*: handshake failed: TLS: the peer sent no client certificate, but one is required")
    context = python_context(version)
    with listening(who, **before) as listener:
        try:
            _, again = twice(listener, context, lambda: listener.reload(ca=root().pem, verify="require"))
        except (ssl.SSLError, ConnectionError):
            return
        assert again["answer"] == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_no_session_gets_past_another_authority(version: ssl.TLSVersion, logs: Any, tmp_path: Any) -> None:
    """The client's certificate is good for the old authority alone."""
    logs.expect("INFO tls: .*: handshake failed: TLS: the (certificate's issuer is|chain ends in .* that is) not trusted")
    context = python_context_as(version, client(), tmp_path)
    with listening(who, verify="require", ca=root().pem) as listener:
        try:
            _, again = twice(listener, context, lambda: listener.reload(ca=stranger().pem))
        except (ssl.SSLError, ConnectionError):
            return
        assert again["answer"] == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_from_before_a_reload(version: ssl.TLSVersion) -> None:
    """The handshake is a whole one."""
    with listening(who) as listener:
        _, again = twice(listener, python_context(version), lambda: listener.reload([other_name.entry, server().entry]))
    assert not again["reused"]
    assert again["answer"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_under_another_name(version: ssl.TLSVersion, tmp_path: Any) -> None:
    """All names of a listener ask the same of a client, so a session may not do harm there: its certificate comes along."""
    context = python_context_as(version, client(), tmp_path)
    with listening(who, certs=[server().entry, other_name.entry], verify="require", ca=root().pem) as listener:
        _, again = twice(listener, context, server_hostname="other.example")
    assert again["answer"] == b"CN=alice\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_another_listener(version: ssl.TLSVersion) -> None:
    context = python_context(version)
    with listening(who) as one, listening(who) as other:
        first = in_thread(lambda: python_client(one.port, context))
        again = in_thread(lambda: python_client(other.port, context, session=first["session"]))
    assert not again["reused"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_has_expired_since(
    version: ssl.TLSVersion, logs: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session is not verified again, so its dates are looked at."""
    logs.expect("INFO tls: .*: handshake failed: TLS: the certificate of the resumed session has expired")
    context = python_context_as(version, client(), tmp_path)
    with listening(who, verify="require", ca=root().pem) as listener:
        first, again = None, None
        try:
            first, again = twice(listener, context, lambda: monkeypatch.setattr(_tls_server, "in_force", lambda cert: False))
        except OSError:
            return
        assert first
        assert again["answer"] == b""


def test_no_early_data() -> None:
    """0-RTT data can be replayed (RFC 8446, section 8): no ticket allows any."""
    with listening() as listener, connect(listener) as conn:
        conn.write("x\n")
        assert conn.read("\n", WITHIN) == (b"x\n", None)
        session = conn._stream.ssl.get_session()
        assert SSL._lib.SSL_SESSION_get_max_early_data(session._session) == 0


# ---- our client -----------------------------------------------------------------------------------------------------


def used(listener: Any, **options: Any) -> bool:
    """Whether a connection resumes a session; then it talks, and ends."""
    with connect(listener, **options) as conn:
        conn.write("x\n")
        assert conn.read("\n", WITHIN) == (b"x\n", None)
        return reused(conn)


@pytest.fixture(params=[SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["TLS 1.2", "TLS 1.3"])
def listener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A listener of ours that speaks one version."""
    make = _tls_server.new_context

    def limited(ciphers: str | None) -> SSL.Context:
        context = make(ciphers)
        context.set_max_proto_version(request.param)
        return context

    monkeypatch.setattr(_tls_server, "new_context", limited)
    with listening(echo, [server().entry, other_name.entry], verify="request", ca=root().pem) as found:
        yield found


def test_the_second_connection_resumes(listener: Any) -> None:
    assert [used(listener) for _ in range(5)] == [False, True, True, True, True]


def test_a_resumed_connection_knows_the_peer(listener: Any) -> None:
    used(listener)
    with connect(listener) as conn:
        assert reused(conn)
        assert conn.peercert().der == tls.Certificate(server().cert).der


def test_a_session_is_used_once(listener: Any) -> None:
    used(listener)
    one, other = connect(listener), connect(listener)
    assert (reused(one), reused(other)) == (True, False)
    one.close()
    other.close()


def test_a_session_of_a_connection_that_read_nothing(listener: Any) -> None:
    """It is kept when the connection closes, if it has come by then."""
    for _ in range(2):
        with connect(listener) as conn:
            if conn._stream.ssl.get_protocol_version_name() == "TLSv1.3":
                conn._stream.peer_alive = False
                until(lambda conn=conn: conn._stream.peer_alive)  # the tickets
    assert used(listener)


@pytest.mark.parametrize(
    "other",
    [
        {"hostname": "localhost"},
        {"ca": root().pem + stranger().pem},
        {"verify": False},
        {"cert": client().entry},
        {"alpnprotos": ["a"]},
    ],
    ids=["hostname", "ca", "verify", "cert", "alpnprotos"],
)
def test_sessions_are_apart(listener: Any, other: Any, logs: Any) -> None:
    """A connection with other settings gets no session of these."""
    logs.allow("verify=False")
    assert [used(listener), used(listener, **other), used(listener), used(listener, **other)] == [False, False, True, True]


def test_an_unverified_session_is_not_used_with_verification(listener: Any, logs: Any) -> None:
    logs.allow("verify=False")
    logs.expect("INFO tls.connect .*: TLS: the certificate's issuer is not trusted")
    logs.expect("INFO tls: .*handshake failed")
    for verify in (False, False):
        used(listener, ca=None, verify=verify)
    assert tls.connect(f"127.0.0.1:{listener.port}") == (None, errno.TLS)


def test_a_name_that_fails_leaves_no_session(listener: Any, logs: Any) -> None:
    logs.expect("INFO tls.connect .*: TLS: the certificate is not for wrong.example: it is for localhost, 127.0.0.1")
    for _ in range(2):
        assert tls.connect(listener.addr, "wrong.example", ca=root().pem) == (None, errno.TLS)
    assert len(logs.lines) == 2
    assert all(not each._sessions for each in _tls_client._configurations.values())


def test_another_server_at_the_same_address(listener: Any, logs: Any) -> None:
    """It doesn't know the session, so it is verified."""
    logs.expect("INFO tls.connect .*: TLS: the certificate's issuer is not trusted")
    logs.expect("INFO tls: .*handshake failed")
    used(listener)
    assert listener.reload([issue("impostor", stranger(), names=["127.0.0.1"]).entry]) == (True, None)
    assert tls.connect(listener.addr, ca=root().pem) == (None, errno.TLS)


def test_a_session_ends_with_its_certificates(listener: Any) -> None:
    """The one that expires first counts."""
    used(listener)
    (config,) = _tls_client._configurations.values()
    ((session, until),) = config._sessions.values()
    assert until == NOW + datetime.timedelta(days=30)
    config.keep(listener.addr, "127.0.0.1", session, NOW - datetime.timedelta(seconds=1))
    assert not used(listener)
    assert used(listener)
    ((_, until),) = config._sessions.values()
    assert until == NOW + datetime.timedelta(days=30), "a resumed session has the end of the one before"


def test_sessions_are_bounded(listener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tls_client, "_SESSIONS", 1)
    assert not used(listener)
    assert not used(listener, hostname="localhost")
    assert not used(listener)
    assert used(listener)


def test_configurations_are_bounded(listener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tls_client, "_CONFIGURATIONS", 2)
    for number in range(3):
        used(listener, alpnprotos=[str(number)])
    assert len(_tls_client._configurations) == 2
    assert not used(listener, alpnprotos=["0"])
    assert used(listener, alpnprotos=["2"])


def test_a_configuration_is_renewed_in_time(listener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's authorities may have changed."""
    monkeypatch.setattr(_tls_client, "_FRESH", 0)
    assert not used(listener)
    assert not used(listener)


def test_a_changed_file_is_another_configuration(listener: Any, tmp_path: Any, logs: Any) -> None:
    logs.expect("INFO tls.connect .*not trusted")
    logs.expect("INFO tls: .*handshake failed")
    path = tmp_path / "ca.pem"
    path.write_text(root().pem)
    assert [used(listener, ca=path), used(listener, ca=path)] == [False, True]
    path.write_text(stranger().pem)
    assert tls.connect(listener.addr, ca=path) == (None, errno.TLS)


def test_the_client_certificate_of_a_resumed_connection(listener: Any) -> None:
    identity = issue("bob", root(), usage=[CLIENT])
    with listening(who, verify="require", ca=root().pem) as asking:
        for _ in range(3):
            with connect(asking, cert=identity.entry) as conn:
                conn.write("\n")
                assert conn.read("\n", WITHIN) == (b"CN=bob\n", None)
