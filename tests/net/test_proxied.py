"""Listeners behind proxies that speak the PROXY protocol."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from silly import Limits, check, time
from silly._core import scheduler
from silly._wire.proxy_protocol import SIGNATURE
from silly.net import _stream, http, tcp, tls

from ..helpers import WITHIN, Raw, turn
from . import authorities
from .http_support import certs
from .support import Job, until

KINDS = ["tcp", "tls", "http", "https"]
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n"
V1_6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n"
V2 = SIGNATURE + struct.pack(">BBH", 0x21, 0x11, 12) + bytes((192, 0, 2, 1, 198, 51, 100, 1)) + struct.pack(">HH", 4711, 443)
LOCAL = SIGNATURE + struct.pack(">BBH", 0x20, 0, 0)
CLIENT = "192.0.2.1:4711"


@contextmanager
def listening(kind: str, addr: str = "127.0.0.1:0", trusted: Any = ("127.0.0.1", "unix"), **options: Any) -> Iterator[Any]:
    """A listener that tells each connection, by a line or in a response, what it takes its address for. Its ``accepted``
    gathers these."""
    accepted: list[str] = []

    def tell(conn: Any) -> None:
        accepted.append(conn.remoteaddr)
        while conn.read("\n")[0] is not None:
            conn.write(f"{conn.remoteaddr} {conn._stream.remoteaddr}\n")

    def answer(stream: Any) -> None:
        accepted.append(stream.remoteaddr)
        stream.respond(200)
        stream.closewrite(f"{stream.remoteaddr} {stream.conn.remoteaddr}")

    options |= {"trusted": trusted, "proxy": True}
    if kind == "tcp":
        listener = check(tcp.listen(addr, tell, **options))
    elif kind == "tls":
        listener = check(tls.listen(addr, certs(), tell, **options))
    else:
        listener = check(http.listen(addr, answer, certs=certs() if kind == "https" else None, **options))
    listener.accepted = accepted
    try:
        yield listener
    finally:
        listener.close()
        turn(3)


def secured(conn: Any, kind: str) -> Any:
    """The connection, with TLS if the kind has it."""
    if kind not in ("tls", "https"):
        return conn
    return check(tls.upgrade(conn, "localhost", ca=authorities.root().pem))


def told(conn: Any, kind: str) -> list[str]:
    """What the listener takes the address of a connection for: that of the request or the connection, and that of the layer
    below."""
    client = Raw(conn)
    if kind in ("tcp", "tls"):
        client.send("?\n")
        return client.read("\n").decode().split()
    client.request()
    return client.response().body.decode().split()


def ask(listener: Any, kind: str, header: bytes) -> list[str]:
    """The same for a new connection that begins with ``header``."""
    with check(tcp.connect(listener.addr)) as plain:
        plain.write(header)
        with secured(plain, kind) as conn:
            return told(conn, kind)


def refused(listener: Any, data: bytes) -> None:
    """Has the listener close a connection that begins with ``data``, without an answer."""
    with check(tcp.connect(listener.addr)) as conn:
        conn.write(data)
        assert conn.read(1, WITHIN)[0] is None
    assert listener.accepted == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_client_s_address(kind: str) -> None:
    with listening(kind) as listener:
        for header, addr in ((V1, CLIENT), (V2, CLIENT), (V1_6, "[2001:db8::1]:4711")):
            assert ask(listener, kind, header) == [addr, addr]
        for header in (LOCAL, b"PROXY UNKNOWN\r\n"):
            (first, second) = ask(listener, kind, header)
            assert first == second
            assert first.startswith("127.0.0.1:"), "the peer's own"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("header", [V1, V2], ids=["1", "2"])
def test_a_header_that_comes_byte_by_byte(kind: str, header: bytes) -> None:
    with listening(kind) as listener:
        conn = check(tcp.connect(listener.addr))
        Raw(conn).dribble(header[:-1])
        turn(3)
        assert listener.accepted == []
        conn.write(header[-1:])
        with secured(conn, kind) as secure:
            assert told(secure, kind) == [CLIENT, CLIENT]


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_what_comes_with_the_header_is_kept(kind: str) -> None:
    """However it is cut. (With TLS, ``test_the_client_s_address`` has both in one segment.)"""
    data = b"?\n?\n" if kind == "tcp" else b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 2
    with listening(kind) as listener:
        for at in (len(V2) - 1, len(V2), len(V2) + 1, len(V2) + len(data)):
            with Raw.connect(listener) as client:
                client.send((V2 + data)[:at])
                turn(2)
                client.send((V2 + data)[at:])
                for _ in range(2):
                    answer = client.read("\n") if kind == "tcp" else client.response().body
                    assert answer.split()[0] == CLIENT.encode()


def test_a_client_hello_may_come_in_pieces_behind_the_header() -> None:
    """Some of it with the header, some later: nothing is lost on the way to TLS."""

    def carry(source: Any, sink: Any) -> None:
        while (piece := source.readsome(100)[0]) is not None:
            sink.write(piece)
            sink._stream.flush()
            turn(2)

    def relay(conn: Any) -> None:
        with check(tcp.connect(listener.addr)) as front:
            front.write(V1 + check(conn.read(50)))
            front._stream.flush()
            back = Job(lambda: carry(front, conn))
            carry(conn, front)
            front.close()
            back.result()

    with listening("tls") as listener, check(tcp.listen("127.0.0.1:0", relay)) as front:
        with secured(check(tcp.connect(front.addr)), "tls") as conn:
            assert told(conn, "tls") == [CLIENT, CLIENT]
        turn(5)


BAD = {
    "none": (b"GET / HTTP/1.1\r\n\r\n", "no PROXY header, but b'GET / HTTP"),
    "TLS": (bytes.fromhex("1603010200010001fc0303"), "no PROXY header"),
    "a port with a zero before": (V1.replace(b" 443", b" 0443"), "bad port in the PROXY header"),
    "a bare LF": (V1.replace(b"\r", b""), "a bare LF"),
    "without an end": (b"PROXY UNKNOWN ".ljust(120, b"x"), "no end within 107 bytes"),
    "a wrong length": (V2[:15] + b"\x0b" + V2[16:], "with 11 bytes of addresses"),
    "a length too large": (V2[:14] + b"\xff\xff" + V2[16:], "a PROXY header of 65551 bytes"),
}


@pytest.mark.parametrize("kind", ["tcp", "https"])
@pytest.mark.parametrize("bad", BAD)
def test_bad_headers(kind: str, bad: str, logs: Any) -> None:
    data, words = BAD[bad]
    logs.expect(rf"^INFO {'tcp' if kind == 'tcp' else 'tls'}: 127\.0\.0\.1:\d+: .*{words}")
    with listening(kind) as listener:
        refused(listener, data)


@pytest.mark.parametrize("header", [V1, V2], ids=["1", "2"])
def test_headers_that_are_cut_off(header: bytes, logs: Any, debugged: list[str]) -> None:
    logs.expect("the connection ended within the PROXY header: End of file")
    with listening("tcp") as listener:
        for size in range(len(header)):
            with Raw.connect(listener) as client:
                client.send(header[:size])
                client.half_close()
                client.eof()
        assert listener.accepted == []
        assert logs.count() == len(header) - 1
    (probe,) = [line for line in debugged if "without a PROXY header" in line]
    assert probe.startswith("tcp: 127.0.0.1:"), "a check that only connects is no fault"


def test_a_peer_that_is_not_trusted(logs: Any) -> None:
    logs.expect(r"^INFO (tcp|tls|http): 127\.0\.0\.1:\d+: closed: only the proxies in trusted may connect here")
    for kind in KINDS:
        with listening(kind, trusted=["127.0.0.2", "::1", "unix"]) as listener:
            refused(listener, V1)
    assert len(logs.lines) == len(KINDS)


def test_unix_sockets(tmp_path: Path, logs: Any) -> None:
    logs.expect("closed: only the proxies in trusted")
    addr = f"unix:{tmp_path}/s"
    with listening("http", addr) as listener:
        assert ask(listener, "http", V2) == [CLIENT, CLIENT]
        assert ask(listener, "http", LOCAL) == [addr, addr]
    with listening("http", addr, trusted=["0.0.0.0/0", "::/0"]) as listener:
        refused(listener, V2)


def test_a_second_header(logs: Any) -> None:
    """It is data like any other."""
    logs.expect("INFO http: 192.0.2.1:4711: bad request line 'PROXY TCP4")
    logs.expect("INFO tls: 192.0.2.1:4711: plain HTTP on a port that speaks TLS: answered 400")
    with listening("http") as listener, Raw.connect(listener) as client:
        client.send(V1 + V1 + b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.response().status == 400
    with listening("tls") as listener, Raw.connect(listener) as client:
        client.send(V1 + V1)
        assert client.response().status == 400
        assert listener.accepted == []


def test_a_header_within_tls(logs: Any) -> None:
    logs.expect("bad request line 'PROXY TCP4")
    with listening("https") as listener, check(tcp.connect(listener.addr)) as plain:
        plain.write(V1)
        client = Raw(secured(plain, "https"))
        client.send(V1 + b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.response().status == 400
        client.close()


@pytest.mark.parametrize("kind", ["tcp", "https"])
def test_a_silent_peer(kind: str, virtual: None, logs: Any) -> None:
    """It holds up nobody, and is closed in time, whatever it has sent by then."""
    logs.expect("no PROXY header within the limit 'head_timeout' of 300 ms")
    with listening(kind, limits=Limits(head_timeout=300, address_connections=1, connections=1)) as listener:
        silent = [Raw.connect(listener) for _ in range(3)]
        silent[1].send(V1[:10])
        silent[2].send(V2[:17])
        assert ask(listener, kind, V1)[0] == CLIENT
        begin = time.monotonic()
        for client in silent:
            client.eof()
            client.close()
        assert time.monotonic() - begin < 1000
    assert len(logs.lines) == 3


def newcomers(listener: Any) -> Any:
    return (listener._listener if isinstance(listener, http.Server) else listener).newcomers.streams


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_waits_for_a_header_for_the_time_of_a_newcomer(
    kind: str, monkeypatch: pytest.MonkeyPatch, virtual: None, logs: Any
) -> None:
    """What has come, or comes now, is served. Nobody is waited for longer, and the log says nothing of that."""
    monkeypatch.setattr(_stream, "NEWCOMER", 0.5)
    with listening(kind) as listener:
        coming = check(tcp.connect(listener.addr))
        silent = [Raw.connect(listener) for _ in range(2)]
        silent[1].send(V1[:20])
        until(lambda: len(newcomers(listener)) == 3 and all(stream.wakes() for stream in newcomers(listener)))
        queued = check(tcp.connect(listener.addr))  # the kernel has it, with its header
        queued.write(V1)
        queued._stream.flush()
        begin = time.monotonic()
        if isinstance(listener, http.Server):
            drain = Job(listener.drain).blocked()
        else:
            for stream in list(newcomers(listener)):  # as the end of the process does
                stream.shutdown()
            listener._empty()
        coming.write(V1)
        for plain in coming, queued:
            with secured(plain, kind) as conn:
                assert told(conn, kind)[0] == CLIENT
        for client in silent:
            assert client.conn.read(1, WITHIN)[0] is None
            client.close()
        assert 450 < time.monotonic() - begin < 900
        if isinstance(listener, http.Server):
            assert drain.result() == (True, None)
        assert listener.accepted == [CLIENT, CLIENT]
    assert logs.lines == []


def test_a_drain_cuts_off_who_has_sent_no_header() -> None:
    with listening("http") as server, Raw.connect(server) as client:
        until(lambda: newcomers(server))
        assert server.drain(0) == (True, None)
        client.eof()


@pytest.mark.parametrize("kind", KINDS)
def test_the_task_is_called_after_the_handler(kind: str) -> None:
    """From the header on, in what the log says of it."""
    with listening(kind) as listener, check(tcp.connect(listener.addr)) as conn:
        until(lambda: newcomers(listener))
        assert [each.name() for each, serves in scheduler.tasks.items() if serves] == ["Greeting._greet"]
        conn.write(V1)
        until(lambda: [task.name() for task, serves in scheduler.tasks.items() if serves] != ["Greeting._greet"])
        name = {"tcp": "listening.<locals>.tell", "http": "Server._accept"}.get(kind, "Acceptor._announced")
        assert [each.name() for each, serves in scheduler.tasks.items() if serves] == [name]


@pytest.mark.parametrize("kind", ["http", "https"])
def test_limits_count_the_clients(kind: str, logs: Any) -> None:
    if kind == "https":
        logs.expect("tls: 192.0.2.1:4711: too many connections: closed before the handshake")
    other = V1.replace(b"192.0.2.1", b"192.0.2.2")
    with listening(kind, limits=Limits(address_connections=1)) as listener, check(tcp.connect(listener.addr)) as first:
        first.write(V1)
        with secured(first, kind) as conn:
            assert told(conn, kind)[0] == CLIENT
            assert ask(listener, kind, other)[0] == "192.0.2.2:4711"
            for _ in range(3):  # the proxy's own, such as health checks
                assert ask(listener, kind, LOCAL)[0].startswith("127.0.0.1:")
            with Raw.connect(listener) as second:
                second.send(V1)
                if kind == "http":
                    assert second.response().status == 503
                else:
                    assert second.conn.read(1, WITHIN)[0] is None
        until(lambda: not listener._places._each.by_address)
        assert ask(listener, kind, V1)[0] == CLIENT
    with listening(kind, limits=Limits(connections=1)) as listener, check(tcp.connect(listener.addr)) as first:
        logs.allow("too many connections")
        first.write(V1)
        with secured(first, kind) as conn:
            assert told(conn, kind)[0] == CLIENT
            with Raw.connect(listener) as second:
                second.send(other)
                if kind == "http":
                    assert second.response().status == 503
                else:
                    assert second.conn.read(1, WITHIN)[0] is None
        until(lambda: not listener._places._all.taken)


def test_the_access_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with http.AccessLog("common", path) as log, listening("http", accesslog=log) as listener:
        ask(listener, "http", V1)
        until(lambda: path.read_text())
    assert path.read_text().startswith("192.0.2.1 - - [")


def test_reload() -> None:
    with listening("https") as server, listening("tls") as listener:
        assert server.reload() == (True, None)
        assert listener.reload() == (True, None)
        assert ask(server, "https", V1)[0] == CLIENT
        assert ask(listener, "tls", V1)[0] == CLIENT


def test_a_connection_that_breaks_behind_its_header() -> None:
    """TLS doesn't begin on what is gone."""
    with listening("tls", limits=Limits(head_timeout=1000)) as listener:
        client = Raw.connect(listener)
        client.send(V1)
        client.reset()
        turn(5)
        assert ask(listener, "tls", V1)[0] == CLIENT


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"proxy": True}, ValueError, "proxy=True needs trusted"),
        ({"trusted": ["::1"]}, ValueError, "needs (forwarded or )?proxy=True"),
        ({"proxy": "v2", "trusted": ["::1"]}, TypeError, "proxy is True or False, not str"),
        ({"proxy": 1, "trusted": ["::1"]}, TypeError, "proxy is True or False, not int"),
        ({"proxy": True, "trusted": []}, ValueError, "trusted names no network"),
        ({"proxy": True, "trusted": ["10.0.0.0/8", "nowhere"]}, ValueError, "'nowhere' is no network"),
        ({"proxy": True, "trusted": "10.0.0.0/8"}, TypeError, "trusted is a list of networks"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_arguments(kind: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    listen: Any = {"tcp": tcp, "tls": tls, "http": http, "https": http}[kind].listen
    given = {"addr": "127.0.0.1:0", "handler" if "http" in kind else "accept": print}
    if kind in ("tls", "https"):
        given["certs"] = certs()
    with pytest.raises(error, match=rf"^{kind.removesuffix('s') if 'http' in kind else kind}\.listen: .*{words}"):
        listen({**given, **options})
