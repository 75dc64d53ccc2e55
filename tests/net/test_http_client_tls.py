"""The HTTP client over TLS: who is believed, what is said of who is not, truncation, and connections that are kept."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest

import silly
from silly import errno, time
from silly._wire.lines import take
from silly.net import _dial, _tls_client, tcp, tls
from silly.sync import channel

from ..helpers import Raw, serving, turn
from . import authorities
from .http_client_support import error, ok, read_request, taken, using
from .support import has_ipv6, never_answers
from .tls_support import listening

pytestmark = pytest.mark.usefixtures("nothing_lingers")


@pytest.fixture(autouse=True)
def warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """``verify=False`` has been warned of."""
    monkeypatch.setattr(_tls_client, "_warned", True)


def handler(stream: Any) -> None:
    stream.respond(200, {"x-scheme": stream.scheme})
    stream.closewrite("hello")


def https(certs: Any = None, **options: Any) -> Any:
    return serving(handler, certs=certs or [authorities.server().entry], **options)


def trusting(**options: Any) -> Any:
    return using(ca=authorities.root().pem, **options)


def url_of(server: Any, host: str = "127.0.0.1") -> str:
    return f"https://{host}:{server.port}/"


def test_get() -> None:
    with https() as server, trusting() as client:
        for host in ("127.0.0.1", "localhost"):
            response = taken(client.get(url_of(server, host)))
            assert (response.status, response.body, response.header["x-scheme"]) == (200, b"hello", "https")


def test_connections_are_kept() -> None:
    conns = []

    def accept(conn: Any) -> None:
        conns.append(conn.alpnproto())
        while read_request(conn) is not None:
            conn.write(ok())

    with listening(accept, alpnprotos=["http/1.1"]) as server, trusting() as client:
        for _ in range(3):
            assert taken(client.post(url_of(server), None, "x" * 100_000)).body == b"ok"
        assert conns == ["http/1.1"]


@pytest.mark.parametrize(
    ("entry", "options", "cause"),
    [
        (lambda: authorities.server().entry, {"ca": None}, "not trusted|unknown|unable"),
        (lambda: authorities.server().entry, {"ca": authorities.stranger().pem}, "not trusted|unknown|unable"),
        (lambda: authorities.server("example.org").entry, {}, "the certificate is not for 127.0.0.1.*example.org"),
        (lambda: authorities.issue("x", names=["127.0.0.1"]).entry, {}, "self-signed"),
        (
            lambda: authorities.issue("x", authorities.root(), names=["127.0.0.1"], end=authorities.YESTERDAY).entry,
            {},
            "expired",
        ),
    ],
)
def test_verification(entry: Any, options: Any, cause: str, logs: Any) -> None:
    logs.allow("tls: ")
    with https([entry()]) as server, using(**{"ca": authorities.root().pem, **options}) as client:
        text = error(client.get(f"https://u:SECRET@127.0.0.1:{server.port}/path"))
        assert text.startswith(f"http GET https://127.0.0.1:{server.port}/path: connect: TLS: ")
        assert re.search(cause, text), text
        assert client._pool._origins == {}
    with https([entry()]) as server, using(verify=False) as client:
        assert taken(client.get(url_of(server))).body == b"hello"


def test_client_certificate(logs: Any) -> None:
    logs.allow("tls: ")
    options = {"ca": authorities.root().pem, "verify": "require"}
    with https(**options) as server:
        with trusting(cert=authorities.client().entry) as client:
            assert taken(client.get(url_of(server))).body == b"hello"
        with trusting() as client:
            assert "TLS" in error(client.get(url_of(server)))


def test_strangers_get_no_connection_of_a_client_that_trusts(logs: Any) -> None:
    logs.allow("tls: ")
    with https() as server, trusting() as one, using(ca=authorities.stranger().pem) as other:
        for _ in range(2):
            assert taken(one.get(url_of(server))).status == 200
            assert "connect: TLS" in error(other.get(url_of(server)))


def test_plain_server(logs: Any) -> None:
    logs.allow("start with byte 0x16")
    with serving(handler) as server, trusting() as client:
        text = error(client.get(url_of(server)))
        assert ": connect: TLS" in text


def test_https_server_asked_in_plain(logs: Any) -> None:
    logs.allow("tls: ")
    with https() as server, using() as client:
        response = taken(client.get(f"http://127.0.0.1:{server.port}/"))
        assert response.status == 400
        assert "https" in response.text


def test_handshake_timeout() -> None:
    def silent(conn: Any) -> None:
        conn.read(100_000, 10_000)

    listener = taken(tcp.listen("127.0.0.1:0", silent))
    with listener, trusting(connect_timeout=60) as client:
        assert error(client.get(url_of(listener))).endswith(f"connect: {errno.TIMEDOUT} (after 60 ms)")
        assert "after 30 ms in total" in error(client.get(url_of(listener), timeout=30))
        with time.deadline(30):
            assert "the deadline of 30 ms ran out" in error(client.get(url_of(listener)))
        assert client._pool._origins == {}
    turn(3)


def test_handshake_within_the_connect_timeout_alone() -> None:
    """The limit 'handshake_timeout' is for servers, and for connections of ``tls.connect`` without a time-out."""

    def slow(sock: Any) -> None:
        time.sleep(80)
        plain, err = tcp.connect(server.addr)
        assert err is None
        other = Raw(sock)
        there, back = (other.conn, plain), (plain, other.conn)
        silly.task.fork(lambda: pump(*back))
        pump(*there)

    def pump(source: Any, target: Any) -> None:
        while True:
            data, _err = source.read(1, 5000)
            if data is None:
                target.close()
                return
            target.write(data + take(source._stream.buf, len(source._stream.buf)))

    with https() as server:
        listener = taken(tcp.listen("127.0.0.1:0", slow))
        with listener, trusting(limits=silly.Limits(handshake_timeout=30)) as client:
            assert taken(client.get(url_of(listener))).body == b"hello"
        turn(5)


@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (b"", "waiting for the response"),
        (b"HTTP/1.1 200 OK\r\nConte", "waiting for the response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "reading the response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "reading the response"),
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end, or not", "reading the response"),
    ],
)
def test_truncation(sent: bytes, phase: str) -> None:
    """Whoever cuts TCP must not cut a body short that goes up to the end (RFC 9112, section 9.8)."""

    def accept(conn: Any) -> None:
        read_request(conn)
        conn.write(sent)
        conn._stream.flush()
        time.sleep(5)
        conn._stream.sock.shutdown(socket.SHUT_WR)
        conn.read(1, 5000)
        conn._stream.abort()

    with listening(accept) as server, trusting() as client:
        text = error(client.get(url_of(server)))
        assert f": {phase}: " in text
        assert errno.TLS in text


def test_body_up_to_the_end_in_good_order() -> None:
    def accept(conn: Any) -> None:
        read_request(conn)
        conn.write("HTTP/1.1 200 OK\r\n\r\nup to the end")
        conn.close()

    with listening(accept) as server, trusting() as client:
        assert taken(client.get(url_of(server))).body == b"up to the end"


def test_server_closes_an_idle_connection() -> None:
    conns: list[Any] = []

    def accept(conn: Any) -> None:
        conns.append(conn)
        while read_request(conn) is not None:
            conn.write(ok())

    with listening(accept) as server, trusting() as client:
        for count in (1, 2, 3):
            assert taken(client.post(url_of(server))).body == b"ok"
            assert len(conns) == count
            conns[-1].close()
            turn(3)


def test_unsolicited_bytes() -> None:
    conns: list[Any] = []

    def accept(conn: Any) -> None:
        conns.append(conn)
        while read_request(conn) is not None:
            conn.write(ok())

    with listening(accept) as server, trusting() as client:
        for count in (1, 2, 3):
            assert taken(client.post(url_of(server))).body == b"ok"
            assert len(conns) == count
            conns[-1].write(ok(b"poison"))
            conns[-1]._stream.flush()


def test_early_answer_to_a_big_upload() -> None:
    hold = channel.new()

    def accept(conn: Any) -> None:
        conn.limit(1)
        conn.read("\r\n\r\n", 10_000)
        conn.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        conn._stream.flush()
        hold.pop()

    with listening(accept) as server, trusting() as client:
        assert taken(client.post(url_of(server), None, b"x" * 20_000_000)).body == b"big"
        hold.close()


# ---- redirects between http and https -------------------------------------------------------------------------------


def moved(location: str) -> Any:
    def answer(stream: Any) -> None:
        stream.respond(302, {"location": location})
        stream.closewrite()

    return answer


def test_from_http_to_https() -> None:
    with https() as secure, serving(moved(url_of(secure))) as server, trusting(redirects=1) as client:
        assert taken(client.get(f"http://127.0.0.1:{server.port}/")).header["x-scheme"] == "https"


def test_never_from_https_to_http() -> None:
    with serving(handler) as plain:
        location = f"http://u:SECRET@127.0.0.1:{plain.port}/"
        with serving(moved(location), certs=[authorities.server().entry]) as server, trusting(redirects=5) as client:
            text = error(client.get(url_of(server)))
            assert "redirect: from https to http, which is refused" in text
            assert "SECRET" not in text
            assert taken(client.get(url_of(server), redirects=0)).status == 302


# ---- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_addresses_of_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that answers serves, whichever comes first."""
    with serving(handler) as server, using() as client:
        dead = [(socket.AF_INET6, ("::1", server.port)), (socket.AF_INET, ("127.0.0.1", server.port))]
        monkeypatch.setattr(_dial, "_lookup", lambda *args: list(dead))
        assert taken(client.get(f"http://both.example:{server.port}/")).body == b"hello"
        client.closeidle()
        with never_answers(socket.AF_INET6) as address:
            slow = [(socket.AF_INET6, address), (socket.AF_INET, ("127.0.0.1", server.port))]
            monkeypatch.setattr(_dial, "_lookup", lambda *args: list(slow))
            assert taken(client.get(f"http://both.example:{server.port}/")).body == b"hello"


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6() -> None:
    def answer(conn: Any) -> None:
        read_request(conn)
        conn.write(ok())

    listener, err = tls.listen("[::1]:0", [authorities.server("::1").entry], answer)
    assert err is None
    with listener, trusting() as client:
        assert taken(client.get(f"https://[::1]:{listener.port}/")).body == b"ok"
    turn(3)
