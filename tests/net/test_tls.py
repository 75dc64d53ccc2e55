"""TLS: handshakes, certificates, ends; and HTTP and WebSocket on it. What tcp and tls share is in ``test_stream_tls``."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import SubjectAlternativeName
from greenlet import GreenletExit

import silly
from silly import errno, task, time
from silly._core import scheduler, worker
from silly.net import _tls_client, http, tcp, tls, websocket
from silly.net._tls_stream import TlsStream
from silly.sync import channel

from ..helpers import BINARY, FIN, WITHIN, Peer, Raw, Upgraded, joined, raw_server, serving, spawn, turn
from . import authorities
from .support import has_ipv6, until
from .tls_support import connect, echo, listening

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """``verify=False`` has been warned of, but where a test says otherwise."""
    monkeypatch.setattr(_tls_client, "_warned", True)


def certs_for(*names: str) -> dict[str, str]:
    return authorities.server(*names).entry


def ca() -> str:
    return authorities.root().pem


@cache
def expired() -> dict[str, str]:
    return authorities.issue("expired", authorities.root(), names=["127.0.0.1"], end=authorities.YESTERDAY).entry


def self_signed() -> dict[str, str]:
    return authorities.stranger().entry


# ---- connecting and verifying ---------------------------------------------------------------------------------------


def test_echo() -> None:
    with listening() as listener, connect(listener) as conn:
        for text in ("hello\n", "é\n"):
            assert conn.write(text) == (True, None)
            assert conn.read("\n", WITHIN) == (text.encode(), None)
        assert conn.isalive()
        assert conn.alpnproto() is None
        assert "tls connection with 127.0.0.1:" in repr(conn)
        assert conn.close() == (True, None)
        assert conn.close() == (False, errno.CLOSED)
        assert conn.read(1) == (None, errno.CLOSED)
        assert conn.write("x") == (False, errno.CLOSED)


def test_options_as_a_dict() -> None:
    listener, err = tls.listen({"addr": "127.0.0.1:0", "certs": [certs_for("127.0.0.1")], "accept": echo})
    assert err is None
    with listener:
        conn, err = tls.connect(listener.addr, {"ca": ca().encode(), "hostname": "127.0.0.1", "timeout": WITHIN})
        assert err is None
        with conn:
            conn.write("x\n")
            assert conn.read("\n", WITHIN) == (b"x\n", None)


def test_certificates_from_files(tmp_path: Any) -> None:
    for name, text in (*certs_for("127.0.0.1").items(), ("ca", ca())):
        (tmp_path / name).write_text(text)
    with listening(certs=[{"cert": f"{tmp_path}/cert", "key": f"{tmp_path}/key"}]) as listener:
        connect(listener, ca=f"{tmp_path}/ca").close()


def test_hostname() -> None:
    with listening(certs=[certs_for("example.org", "*.wild.example", "xn--bcher-kva.example")]) as listener:
        for name in ("example.org", "EXAMPLE.org", "a.wild.example", "bücher.example"):
            connect(listener, hostname=name).close()


@pytest.mark.parametrize(
    ("certs", "options", "reason"),
    [
        (lambda: certs_for("127.0.0.1"), {"ca": None}, "not trusted"),
        (lambda: certs_for("127.0.0.1"), {"ca": self_signed()["cert"]}, "not trusted"),
        (lambda: certs_for("example.org"), {}, "the certificate is not for 127.0.0.1"),
        (lambda: certs_for("localhost"), {}, "the certificate is not for 127.0.0.1"),
        (lambda: certs_for("127.0.0.2"), {}, "the certificate is not for 127.0.0.1"),
        (lambda: certs_for("127.0.0.1"), {"hostname": "localhost"}, "the certificate is not for localhost"),
        (lambda: certs_for("*.wild.example"), {"hostname": "a.b.wild.example"}, "the certificate is not for a.b.wild.example"),
        (lambda: certs_for("*.wild.example"), {"hostname": "wild.example"}, "the certificate is not for wild.example"),
        (expired, {}, "expired on"),
        (self_signed, {}, "self-signed"),
    ],
    ids=["no CA", "other CA", "name", "localhost", "address", "address for name", "deep", "bare", "expired", "self-signed"],
)
def test_verification(certs: Any, options: Any, reason: str, logs: Any) -> None:
    """On by default; the reason is in the log, and the connection is closed."""
    logs.expect(rf"INFO tls.connect 127.0.0.1:\d+: TLS: .*{reason}")
    logs.allow(r"INFO tls: 127.0.0.1:\d+: ")  # the server's view of it
    accepted = []

    def accept(conn: Any) -> None:
        accepted.append(conn.read(1, WITHIN))

    with listening(accept, [certs()]) as listener:
        assert tls.connect(listener.addr, **{"ca": ca(), **options}) == (None, errno.TLS)
        # For TLS 1.3 the server's handshake is over before the client has looked at the certificate.
        assert all(data is None for data, _ in accepted)
    assert len([line for line in logs.lines if "tls.connect" in line]) == 1


def test_no_verification(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logged once."""
    monkeypatch.setattr(_tls_client, "_warned", False)
    logs.expect("WARN.*verify=False")
    with listening(certs=[self_signed()]) as listener:
        for _ in range(3):
            with connect(listener, verify=False, ca=None, hostname="anything") as conn:
                conn.write("x\n")
                assert conn.read("\n", WITHIN) == (b"x\n", None)
    assert len(logs.lines) == 1


def test_no_listener() -> None:
    with raw_server(lambda conn: None) as listener:
        pass
    assert tls.connect(listener.addr) == (None, errno.CONNREFUSED)


@pytest.mark.parametrize("options", [{"hostname": "a..b"}, {"hostname": "x" * 64}])
def test_invalid_hostname(options: Any) -> None:
    with listening() as listener:
        assert tls.connect(listener.addr, **options) == (None, errno.RESOLVE)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"ca": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"}, ValueError),
        ({"ca": "/no/such/file"}, ValueError),
        ({"ca": 5}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"bind": "no-address"}, ValueError),
    ],
)
def test_connect_mistakes(options: Any, kind: type[Exception]) -> None:
    with listening() as listener, pytest.raises(kind):
        tls.connect(listener.addr, **options)


def test_sni() -> None:
    """The client's name chooses the certificate; without a match it is the first."""
    certs = [certs_for("first.example"), certs_for("second.example"), certs_for("*.third.example")]
    with listening(certs=certs) as listener:
        for name in ("first.example", "second.example", "Second.Example", "a.third.example"):
            connect(listener, hostname=name).close()
        for name, subject in (("other.example", "first.example"), ("a.b.third.example", "first.example")):
            conn = connect(listener, hostname=name, verify=False)
            cert = conn._stream.ssl.get_peer_certificate().to_cryptography()
            assert [each.value for each in cert.extensions.get_extension_for_class(SubjectAlternativeName).value] == [subject]
            conn.close()


@pytest.mark.parametrize(
    ("theirs", "chosen"),
    [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (None, None), ([], None), (["b", "a"], "a")],
)
def test_alpn(theirs: Any, chosen: Any) -> None:
    seen = channel.new()
    with listening(lambda conn: seen.push((conn.alpnproto(),)), alpnprotos=["http/1.1", "a", "b"]) as listener:
        conn = connect(listener, alpnprotos=theirs)
        assert conn.alpnproto() == chosen
        assert seen.pop() == ((chosen,), None)
        conn.close()


@pytest.mark.parametrize(
    "certs",
    [
        list,
        lambda: [{"cert": certs_for("127.0.0.1")["cert"]}],
        lambda: [{"key": certs_for("127.0.0.1")["key"]}],
        lambda: [{"cert": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----", "key": certs_for("127.0.0.1")["key"]}],
        lambda: [{"cert": certs_for("127.0.0.1")["cert"], "key": "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"}],
        lambda: [{"cert": certs_for("127.0.0.1")["cert"], "key": self_signed()["key"]}],
        lambda: [{"cert": certs_for("127.0.0.1")["cert"], "key": encrypted()}],
        lambda: [{"cert": "/no/such/file", "key": certs_for("127.0.0.1")["key"]}],
        lambda: [{"cert": "", "key": ""}],
        lambda: [certs_for("127.0.0.1"), {"cert": "x"}],
        lambda: [{"cert": certs_for("127.0.0.1")["cert"].encode()[:99] + b"\xff", "key": certs_for("127.0.0.1")["key"]}],
    ],
)
@pytest.mark.parametrize("listen", [tls.listen, http.listen])
def test_bad_certs(certs: Any, listen: Any) -> None:
    with pytest.raises(ValueError):
        listen("127.0.0.1:0", **{"certs": certs(), "accept" if listen is tls.listen else "handler": echo})


@cache
def encrypted() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")).decode()


def test_rsa_key_that_does_not_match() -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ValueError, match="certificate and key"):
        tls.listen("127.0.0.1:0", [{"cert": certs_for("127.0.0.1")["cert"], "key": key}], echo)


def test_listen_mistakes(logs: Any) -> None:
    with pytest.raises(TypeError):
        tls.listen("127.0.0.1:0", [certs_for("127.0.0.1")])
    logs.expect("ERROR tls.listen .*Address already in use")
    with listening() as listener:
        assert tls.listen(listener.addr, [certs_for("127.0.0.1")], echo) == (None, errno.ADDRINUSE)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_with_another_implementation(version: ssl.TLSVersion) -> None:
    """Python's own ssl, in a thread of its own."""

    def client(port: int) -> Any:
        context = ssl.create_default_context(cadata=ca())
        context.minimum_version = context.maximum_version = version
        raw = socket.create_connection(("127.0.0.1", port), 10)
        with raw, context.wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(b"hello\n")
            return sock.recv(100), sock.version(), sock.unwrap() is not None

    done = channel.new()
    with listening() as listener:
        worker.files.submit(scheduler.loop, client, (listener.port,), lambda result, exc: done.push((result, exc)))
        (result, exc), _ = done.pop()
        assert exc is None
        assert result == (b"hello\n", version.name.replace("_", "."), True)


def test_old_versions_are_refused(logs: Any) -> None:
    logs.expect("INFO tls: .*: handshake failed: TLS: .*(protocol|version)")
    hello = bytes.fromhex("160301002f0100002b0302" + "00" * 32 + "000004002f000a0100")  # a ClientHello of TLS 1.1
    with listening() as listener, Raw.connect(listener) as client:
        client.send(hello)
        assert client.rest()[:1] == b"\x15"
    assert len(logs.lines) == 1


# ---- the end of a connection ----------------------------------------------------------------------------------------


def test_close_notify_is_eof() -> None:
    """Whatever was written before the close arrives first."""

    def accept(conn: Any) -> None:
        conn.write(b"x" * 3 * MIB)
        conn.close()

    with listening(accept) as listener, connect(listener) as conn:
        assert conn.read(3 * MIB, WITHIN) == (b"x" * 3 * MIB, None)
        assert conn.read(1, WITHIN) == (None, errno.EOF)


def test_truncation_is_an_error() -> None:
    """TCP that ends without close_notify: somebody may have cut it."""

    def accept(conn: Any) -> None:
        conn.write("partial")
        conn._stream.flush()
        conn._stream.abort()  # a bare FIN

    with listening(accept) as listener, connect(listener) as conn:
        assert conn.read(7, WITHIN) == (b"partial", None)
        assert conn.read(1, WITHIN) == (None, errno.TLS)


def test_truncation_leaves_the_rest_readable() -> None:
    def accept(conn: Any) -> None:
        conn.write("partial")
        conn._stream.flush()
        conn._stream.abort()

    with listening(accept) as listener, connect(listener) as conn:
        assert conn.read(8, WITHIN) == (None, errno.TLS)
        assert conn.read(7, WITHIN) == (b"partial", None)


def test_reader_killed_by_garbage(logs: Any) -> None:
    logs.expect("INFO tls: .*: TLS: ")
    results = channel.new()
    with listening(lambda conn: results.push((conn.read(1), conn.write("x"), conn.read(1)))) as listener:
        conn = connect(listener)
        conn._stream._send_as_it_is(b"\x17\x03\x03\x00\x20" + b"garbage." * 4)
        conn._stream.flush()
        (read, write, again), _ = results.pop()
        assert read == again == (None, errno.TLS)
        assert write == (False, errno.TLS)
        assert conn.read(1, WITHIN)[0] is None
        conn.close()
    assert len(logs.lines) <= 2


def test_forgotten_connection_is_closed_in_order() -> None:
    ends = channel.new()
    with listening(lambda conn: ends.push((conn.read(1, WITHIN),))) as listener:
        conn = connect(listener)
        conn.write("")
        del conn
        assert ends.pop() == (((None, errno.EOF),), None)


# ---- handshakes that fail -------------------------------------------------------------------------------------------


def test_client_handshake_timeout() -> None:
    conns: list[Any] = []
    with raw_server(conns.append) as listener:
        begin = time.monotonic()
        assert tls.connect(listener.addr, timeout=50) == (None, errno.TIMEDOUT)
        assert 40 <= time.monotonic() - begin < 3000
        conns.clear()


def test_server_handshake_timeout(logs: Any) -> None:
    logs.expect(r"INFO tls: 127.0.0.1:\d+: handshake failed: Operation timed out")
    with listening(limits=silly.Limits(handshake_timeout=50)) as listener, Raw.connect(listener) as client:
        client.send(b"\x16\x03\x01")
        client.eof()
    assert len(logs.lines) == 1


def test_https_handshake_timeout(logs: Any) -> None:
    logs.expect("handshake failed: Operation timed out")
    with https(lambda stream: None, limits=silly.Limits(handshake_timeout=50)) as server, Raw.connect(server) as client:
        client.eof()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_probe_of_a_tls_port_is_no_line_of_info(how: str, logs: Any, debugged: list[str]) -> None:
    """It connects, and goes without a byte."""
    accepted: list[Any] = []
    with listening(accepted.append) as listener, Raw.connect(listener) as client:
        turn(2)
        getattr(client, how)()
        until(lambda: debugged)
    assert accepted == logs.lines == []
    assert re.search("handshake failed: (the peer ended the TLS handshake|Connection reset by peer)", debugged[0])


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00"])
def test_client_gone_within_the_handshake(how: str, sent: bytes, logs: Any) -> None:
    logs.expect("INFO tls: .*: handshake failed: (the peer ended the TLS handshake|Connection reset by peer)")
    accepted: list[Any] = []
    with listening(accepted.append) as listener, Raw.connect(listener) as client:
        if sent:
            client.send(sent)
        turn(2)
        getattr(client, how)()
        until(lambda: logs.lines)
    assert accepted == []
    assert len(logs.lines) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_server_gone_within_the_handshake(how: str, logs: Any) -> None:
    if how == "close":
        logs.expect("INFO tls.connect .*: the peer ended the TLS handshake")
    with raw_server(lambda conn: getattr(Raw(conn), how)() if Raw(conn).read(5) else None) as listener:
        conn, err = tls.connect(listener.addr)
        assert conn is None
        assert err in (errno.TLS, errno.CONNRESET)


def test_plain_http_to_a_tls_port(logs: Any) -> None:
    logs.expect("INFO tls: .*: plain HTTP on a port that speaks TLS")
    with https(lambda stream: None) as server, Raw.connect(server) as client:
        client.request()
        client.rest()
    assert len(logs.lines) == 1


def test_garbage_to_a_tls_port(logs: Any) -> None:
    logs.expect("INFO tls: .*: handshake failed: TLS: ")
    with listening() as listener, Raw.connect(listener) as client:
        client.send(b"SSH-2.0-OpenSSH\r\n" * 10)
        client.rest()
    assert len(logs.lines) == 1


def test_tls_to_a_plain_port(logs: Any) -> None:
    logs.expect("INFO http: .*can't start with byte 0x16")
    logs.expect("INFO tls.connect .*: TLS: ")
    with serving(lambda stream: None) as server:
        assert tls.connect(server.addr) == (None, errno.TLS)
    assert len(logs.lines) == 2


def test_many_handshakes_at_once() -> None:
    with listening() as listener:

        def client(number: int) -> Any:
            with connect(listener) as conn:
                conn.write(f"{number}\n")
                return conn.read("\n", WITHIN)

        running = [spawn(lambda number=number: client(number)) for number in range(30)]
        assert [joined(each) for each in running] == [(b"%d\n" % n, None) for n in range(30)]


# ---- HTTP and WebSocket ---------------------------------------------------------------------------------------------


@contextmanager
def https(handler: Any, **options: Any) -> Iterator[Any]:
    options.setdefault("certs", [certs_for("localhost", "127.0.0.1")])
    with serving(handler, **options) as server:
        yield server


class TlsPeer(Peer):
    @classmethod
    def connect(cls, server: Any) -> Any:
        return cls(connect(server))


@pytest.mark.parametrize("options", [{}, {"tls": True}])
def test_https(options: Any) -> None:
    def handler(stream: Any) -> None:
        body, _ = stream.readall()
        stream.respond(200)
        stream.close(f"{stream.scheme} {len(body)}")

    with https(handler, **options) as server, TlsPeer.connect(server) as client:
        for size in (0, 10, 100_000):
            client.request("/", "POST", f"Content-Length: {size}", body="x" * size)
            assert client.response().body == b"https %d" % size
        client.request("/", "GET", "Connection: close")
        assert client.response().body == b"https 0"
        client.eof()


def test_https_with_curl(tmp_path: Any) -> None:
    (tmp_path / "ca").write_text(ca())

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("hello ")
        stream.close(stream.readall()[0])

    with https(handler) as server:
        command = ["curl", "-sS", "--cacert", f"{tmp_path}/ca", "--data-binary", "world", f"https://localhost:{server.port}/"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: process.poll() is not None, 20_000)
        out, errors = process.communicate()
    assert (out, errors) == (b"hello world", b"")


def test_https_bad_request(logs: Any) -> None:
    logs.expect("INFO http: ")
    with https(lambda stream: None) as server, TlsPeer.connect(server) as client:
        client.dribble("GET / HTTP/1.1\nHost: x\r\n\r\n")
        assert client.response().status == 400
        client.eof()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_wss(host: str) -> None:
    upgraded = Upgraded()
    with https(upgraded.handler) as server:
        sock, err = websocket.connect(f"wss://{host}:{server.port}/x", ca=ca())
        assert err is None
        other = upgraded.pop()
        assert (sock.stream.scheme, other.stream.scheme) == ("wss", "https")
        assert sock.conn.alpnproto() == "http/1.1"
        for a, b in ((sock, other), (other, sock)):
            for data, typ in (("", "text"), (None, "binary"), ("é", "text"), (b"\0", "binary"), (b"x" * 65536, "binary")):
                assert a.write(data, typ) == (True, None)
                assert b.read(WITHIN) == (data if data is not None else b"", typ)
            assert a.write("p", "ping") == (True, None)
            assert b.read(WITHIN) == (b"p", "ping")
            assert a.read(WITHIN) == (b"p", "pong")
        big = bytes(range(256)) * 4096
        sending = spawn(lambda: sock.write(big))
        assert other.read(WITHIN) == (big, "binary")
        assert joined(sending) == (True, None)
        closing = spawn(lambda: sock.close(4000, "done"))
        assert other.read(WITHIN) == (b"\x0f\xa0done", "close")
        upgraded.release()
        assert joined(closing) == (True, None)
        assert (sock.closecode, other.closecode) == (4000, 4000)


def test_wss_verifies() -> None:
    with https(lambda stream: None, certs=[certs_for("example.org")]) as server:
        url = f"wss://127.0.0.1:{server.port}/"
        sock, err = websocket.connect(url, ca=ca())
        why = "TLS: the certificate is not for 127.0.0.1: it is for example.org"
        assert (sock, err) == (None, f"websocket.connect {url}: {why}")


def test_wss_to_a_plain_port(logs: Any) -> None:
    logs.expect("INFO http: ")
    with serving(lambda stream: None) as server:
        sock, err = websocket.connect(f"wss://127.0.0.1:{server.port}/", ca=ca())
        assert sock is None
        assert ": TLS: " in err


def test_ws_to_a_tls_port(logs: Any) -> None:
    logs.expect("INFO tls: .*plain HTTP on a port")
    with https(lambda stream: None) as server:
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}/")
        assert sock is None
        assert "websocket.connect ws://" in err


def test_wss_frames_glued_to_the_request() -> None:
    upgraded = Upgraded()
    with https(upgraded.handler) as server, TlsPeer.connect(server) as peer:
        peer.send(peer.upgrade_request() + peer.frame(FIN | BINARY, b"early"))
        assert upgraded.pop().read(WITHIN) == (b"early", "binary")
        assert peer.response().status == 101
        peer.close()
        upgraded.release()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_wss_connection_lost(how: str) -> None:
    upgraded = Upgraded()
    with https(upgraded.handler) as server, TlsPeer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        sock = upgraded.pop()
        getattr(peer, how)()
        data, err = sock.read(WITHIN)
        assert data is None
        assert (errno.TLS if how == "close" else errno.CONNRESET) in err
        assert sock.closecode == 1006
        upgraded.release()


def test_server_close_while_shaking_hands() -> None:
    """A connection that is accepted after the server closed is not kept for ever."""
    with https(lambda stream: (stream.respond(200), stream.close("hi"))) as server:
        raw, err = tcp.connect(f"127.0.0.1:{server.port}")
        assert err is None
        turn(2)
        server.close()
        connection = _tls_client.Attempt(_tls_client.configuration(ca(), None, True, None), "", "localhost", True).ssl
        sock = raw._stream.sock.dup()
        raw._stream.abort()
        stream = TlsStream(sock, raw.remoteaddr, silly.Limits(), connection)
        client = Raw(tls.Conn(stream))
        assert stream.handshake(time.monotonic() / 1000 + 10) is None
        client.eof()
        client.close()


@pytest.mark.skipif(not has_ipv6(), reason="THIS MACHINE HAS NO IPv6 LOOPBACK: TLS over IPv6 is not tested")
def test_ipv6_address() -> None:
    listener, err = tls.listen("[::1]:0", [certs_for("::1")], echo)
    assert err is None
    with listener:
        conn, err = tls.connect(listener.addr, ca=ca())
        assert err is None
        conn.close()


def test_killed_handshake() -> None:
    """GreenletExit in the handshake leaves no connection on either side."""
    conns: list[Any] = []
    tasks: list[Any] = []
    with raw_server(conns.append) as listener:

        def shake() -> Any:
            tasks.append(task.running())
            try:
                return tls.connect(listener.addr)
            except GreenletExit:
                return "killed"

        done = spawn(shake)
        until(lambda: conns)
        turn(2)
        scheduler.loop.post(scheduler.throw, tasks[0], GreenletExit())
        assert joined(done) == "killed"
        conns.clear()
