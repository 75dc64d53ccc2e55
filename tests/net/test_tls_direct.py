"""The four calls that go past pyOpenSSL's methods: the same as pyOpenSSL's own, also in the middle of each other, and not
used where pyOpenSSL or cryptography are not as expected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

from silly.net import _tls_direct, tls

from ..core.test_reentry import Tracer
from . import authorities
from .http_support import certs
from .support import Job

DIRECT: Any = _tls_direct._direct()
KINDS = [SSL.Connection, DIRECT]
PLAIN = [b"x", b"hello" * 20, bytes(range(256)) * 64, b"y" * 16_384]


@pytest.fixture
def fresh() -> Iterator[None]:
    """The choice is made anew, and again after the test."""
    _tls_direct._direct.cache_clear()
    yield
    _tls_direct._direct.cache_clear()


def carry(one: Any, other: Any) -> None:
    """Gives ``other`` what ``one`` has to send."""
    try:
        while True:
            other.bio_write(one.bio_read(1000))
    except SSL.WantReadError:
        pass


def ends(server: Any, client: Any) -> tuple[Any, Any]:
    """Both ends of a connection of these classes, after the handshake."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(authorities.server().cert)
    context.use_privatekey(authorities.server().key)
    ours, theirs = server(context, None), client(SSL.Context(SSL.TLS_METHOD), None)
    ours.set_accept_state()
    theirs.set_connect_state()
    for _ in range(4):
        for end, other in ((theirs, ours), (ours, theirs)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            carry(end, other)
    with pytest.raises(SSL.WantReadError):
        theirs.recv(1)  # the session tickets
    return ours, theirs


@pytest.mark.parametrize("server", KINDS)
@pytest.mark.parametrize("client", KINDS)
def test_what_is_sent_arrives(server: Any, client: Any) -> None:
    ours, theirs = ends(server, client)
    for one, other in ((ours, theirs), (theirs, ours)):
        for data in PLAIN:
            assert one.send(data) == len(data)
            carry(one, other)
            assert other.recv(1 << 20) == data
        for data in (bytearray(b"a bytearray"), memoryview(b"a view of bytes")[2:9]):
            assert one.send(data) == len(data)
            carry(one, other)
            assert other.recv(100) == data
        with pytest.raises(SSL.WantReadError):
            other.recv(100)


def test_at_most_as_much_as_is_asked_for() -> None:
    ours, theirs = ends(DIRECT, DIRECT)
    ours.send(b"0123456789")
    record = ours.bio_read(1 << 30)
    assert 25 < len(record) < 100
    with pytest.raises(SSL.WantReadError):
        ours.bio_read(1)
    assert theirs.bio_write(record) == len(record)
    assert [theirs.recv(4), theirs.recv(4), theirs.recv(4)] == [b"0123", b"4567", b"89"]
    for _ in range(100):
        ours.send(b"x" * 16_384)
    assert len(ours.bio_read(1 << 30)) == _tls_direct._SCRATCH


def closed(ours: Any, theirs: Any) -> None:
    theirs.shutdown()
    carry(theirs, ours)
    ours.recv(1)


def closed_before_a_write(ours: Any, theirs: Any) -> None:
    ours.shutdown()
    ours.send(b"after the close_notify")


def bad_record(ours: Any, theirs: Any) -> None:
    theirs.send(b"before")
    carry(theirs, ours)
    ours.bio_write(bytearray(b"\x17\x03\x03\x00\x20" + bytes(32)))
    assert ours.recv(100) == b"before"
    ours.recv(1)


def no_record(ours: Any, theirs: Any) -> None:
    ours.bio_write(b"GET / HTTP/1.1\r\n")
    ours.recv(1)


@pytest.mark.parametrize("scene", [closed, closed_before_a_write, bad_record, no_record])
def test_errors(scene: Any) -> None:
    """Those of pyOpenSSL."""
    errors = []
    for kind in KINDS:
        with pytest.raises(SSL.Error) as raised:
            scene(*ends(kind, kind))
        assert not isinstance(raised.value, SSL.WantReadError)
        errors.append((type(raised.value), str(raised.value)))
    assert errors[0] == errors[1]


def test_calls_in_the_middle_of_each_call() -> None:
    """A signal handler may use another connection at any bytecode; neither gets the other's data."""
    pairs = ends(DIRECT, DIRECT), ends(DIRECT, DIRECT)

    def exchange(number: int, data: bytes) -> bytes:
        ours, theirs = pairs[number]
        ours.send(data)
        theirs.bio_write(ours.bio_read(1000))
        got: bytes = theirs.recv(1000)
        return got

    inner: list[bytes] = []
    for at in range(10_000):
        with Tracer(at, lambda: inner.append(exchange(1, b"inner data")), (_tls_direct,)) as tracer:
            assert exchange(0, b"the outer data") == b"the outer data"
        if not tracer.ran:
            break
    assert at > 50
    assert inner == [b"inner data"] * at


# ---- what the choice looks at --------------------------------------------------------------------------------------------


class Renamed(SSL.Connection):
    """A pyOpenSSL whose buffer has another name."""

    def __init__(self, context: SSL.Context, sock: None) -> None:
        super().__init__(context, sock)
        self._into = self.__dict__.pop("_into_ssl")


class Exchanged(SSL.Connection):
    """A pyOpenSSL whose names mean something else."""

    def __init__(self, context: SSL.Context, sock: None) -> None:
        super().__init__(context, sock)
        self._into_ssl, self._from_ssl = self._from_ssl, self._into_ssl


class Another(SSL.Connection):
    """A pyOpenSSL with an object of another type."""

    def __init__(self, context: SSL.Context, sock: None) -> None:
        super().__init__(context, sock)
        self._ssl = self._into_ssl


def test_it_is_used(fresh: None) -> None:
    assert _tls_direct.is_direct()
    assert isinstance(_tls_direct.connection(SSL.Context(SSL.TLS_METHOD)), SSL.Connection)


@pytest.mark.parametrize("kind", [Renamed, Exchanged, Another])
def test_another_pyopenssl(kind: Any, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSL, "Connection", kind)
    assert not _tls_direct.is_direct()
    assert type(_tls_direct.connection(SSL.Context(SSL.TLS_METHOD))) is kind


@pytest.mark.parametrize("name", ["SSL_read", "SSL_write", "BIO_read", "BIO_write"])
def test_another_cryptography(name: str, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ffi:
        def addressof(self, lib: Any, asked: str) -> Any:
            return _openssl.ffi.addressof(_openssl.lib, "SSL_get_error" if asked == name else asked)

        def __getattr__(self, name: str) -> Any:
            return getattr(_openssl.ffi, name)

    monkeypatch.setattr("cryptography.hazmat.bindings._rust._openssl.ffi", Ffi())
    assert not _tls_direct.is_direct()


def test_a_cryptography_without_these_names(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("cryptography.hazmat.bindings._rust._openssl.lib")
    assert not _tls_direct.is_direct()


def test_tls_without_it(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSL, "Connection", type("Connection", (SSL.Connection,), {}))
    monkeypatch.setattr(_tls_direct, "SIGNATURES", {"SSL_read": "something else"})

    def echo(conn: tls.Conn) -> None:
        data, _ = conn.read("\n")
        conn.write(data or b"")

    listener, err = tls.listen("127.0.0.1:0", certs(), echo)
    assert listener is not None, err
    with listener:
        conn, err = tls.connect(listener.addr, ca=authorities.root().pem)
        assert conn is not None, err
        with conn:
            assert type(conn._stream.ssl) is SSL.Connection
            conn.write("hello\n")
            assert Job(lambda: conn.read("\n", 5000)).result() == (b"hello\n", None)
