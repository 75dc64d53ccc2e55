"""``testing.pair``, ``testing.http`` and ``testing.websocket``: connections without a port."""

from __future__ import annotations

from typing import Any

import pytest

import silly
from silly import errno, task, testing, time
from silly.net import http, websocket

from ..conftest import Logs
from ..net.support import Job


def test_what_one_end_writes_the_other_reads() -> None:
    client, server = testing.pair()
    with client, server:
        client.write(["one ", "two\n"])
        assert server.read("\n") == (b"one two\n", None)
        server.write(b"\0" * 10)
        assert client.read(10) == (b"\0" * 10, None)
        assert (client.remoteaddr.partition(":")[0], server.remoteaddr.partition(":")[0]) == ("server", "client")


def test_the_end_of_one_is_seen_by_the_other() -> None:
    client, server = testing.pair()
    client.write("bye")
    client.close()
    assert server.read(3) == (b"bye", None)
    assert server.read(1) == (None, errno.EOF)
    assert not server.isalive()
    server.close()


def test_much_data_waits_for_its_reader() -> None:
    client, server = testing.pair(limits=silly.Limits(unsent=100_000))
    data = bytes(range(256)) * 20_000
    writer = Job(lambda: [client.write(data), client.write(b"more"), client.close()])
    assert server.read(len(data)) == (data, None)
    assert server.read(4) == (b"more", None)
    assert writer.result() == [(True, None)] * 3
    server.close()


def test_a_forgotten_end_closes_by_its_finalizer() -> None:
    client, server = testing.pair()
    del client
    assert server.read(1) == (None, errno.EOF)
    server.close()


def test_limits_are_checked() -> None:
    with pytest.raises(TypeError, match="limits"):
        testing.pair(limits={"unsent": 1})  # type: ignore[arg-type]


# ---- HTTP ----------------------------------------------------------------------------


def site(stream: http.ServerStream) -> None:
    if stream.path.startswith("/chat"):
        sock, _ = websocket.upgrade(stream, subprotocols=["echo"])
        if sock is None:
            return
        while True:
            data, typ = sock.read()
            if data is None or typ == "close":
                return
            sock.write(data, typ)
    elif stream.path == "/moved":
        stream.respond(302, {"location": "/there"})
    else:
        body, _ = stream.readall()
        stream.respond(200, {"content-type": "text/plain", "x-host": stream.header["host"]})
        stream.closewrite(f"{stream.method} {stream.path} ".encode() + (body or b""))


def test_requests_reach_the_handler() -> None:
    with testing.http(site) as client:
        response = silly.check(client.get("/hello?x=1"))
        assert (response.status, response.text, response.header["x-host"]) == (200, "GET /hello ", "test")
        response = silly.check(client.post("/form", {"content-type": "text/plain"}, "data"))
        assert response.text == "POST /form data"
        response = silly.check(client.fetch("PUT", "http://example.com:81/a", body=b"b"))
        assert (response.text, response.header["x-host"]) == ("PUT /a b", "example.com:81")
        assert silly.check(client.get("/moved", redirects=1)).text == "GET /there "
        with silly.check(client.request("POST", "/piece")) as stream:
            stream.write("by ")
            stream.closewrite("piece")
            assert stream.readall() == (b"POST /piece by piece", None)


def test_a_connection_is_kept() -> None:
    """And the requests on it are from the same peer."""
    peers: list[str] = []

    def handler(stream: http.ServerStream) -> None:
        peers.append(stream.remoteaddr)
        stream.respond(204)

    with testing.http(handler) as client:
        for _ in range(3):
            silly.check(client.get("/"))
    assert len(peers) == 3
    assert len({*peers}) == 1
    assert peers[0].startswith("client:")


def test_a_router_is_a_handler() -> None:
    router = http.router()

    @router.get("/users/{name}")
    def user(stream: http.ServerStream, name: str) -> None:
        stream.respond(200)
        stream.closewrite(name)

    with testing.http(router) as client:
        assert silly.check(client.get("/users/ada")).text == "ada"
        assert silly.check(client.get("/nobody")).status == 404


def test_a_handler_that_fails(logs: Logs) -> None:
    logs.expect("ZeroDivisionError")
    with testing.http(lambda stream: 1 // 0) as client:  # type: ignore[misc]
        assert silly.check(client.get("/")).status == 500


def test_settings_of_the_client_and_limits_of_both() -> None:
    with testing.http(site, limits=silly.Limits(body=12), redirects=3) as client:
        assert silly.check(client.get("/moved", timeout=5000)).text == "GET /there "
        assert "the limit 'body'" in str(client.get("/longer-than-the-limit")[1])
    with pytest.raises(TypeError):
        testing.http(site, no_such_setting=1)


def test_there_is_no_tls() -> None:
    with testing.http(site) as client:
        _, err = client.get("https://test/")
        assert "testing.http serves without TLS" in str(err)


def test_a_closed_client() -> None:
    client = testing.http(site)
    silly.check(client.get("/"))
    client.close()
    assert client.get("/")[1].errno == errno.CLOSED  # type: ignore[union-attr]


def test_raw_bytes_to_a_handler() -> None:
    with testing.http(site) as client, client.connect() as conn:
        conn.write("GET /raw HTTP/1.1\r\nHost: a\r\n\r\n")
        assert conn.read("\r\n") == (b"HTTP/1.1 200 OK\r\n", None)


@pytest.mark.parametrize("handler", [None, 7, "handler"])
def test_what_is_no_handler(handler: Any) -> None:
    with pytest.raises(TypeError, match=r"testing\.http needs a handler"):
        testing.http(handler)


# ---- WebSocket -----------------------------------------------------------------------


def test_a_websocket_with_the_handler() -> None:
    sock, err = testing.websocket(site, "/chat?room=1", subprotocols=["other", "echo"], compression=True)
    assert err is None
    assert sock is not None
    assert (sock.subprotocol, sock.stream.path, sock.stream.query["room"]) == ("echo", "/chat?room=1", "1")
    for data, typ in (("hello", "text"), (b"\0\1", "binary"), ("x" * 200_000, "text")):
        sock.write(data, typ)
        assert sock.read() == (data, typ)
    sock.close()


def test_several_websockets_and_requests_with_one_client() -> None:
    with testing.http(site) as client:
        socks = [silly.check(client.websocket("/chat")) for _ in range(10)]
        for number, sock in enumerate(socks):
            sock.write(str(number), "text")
        assert silly.check(client.get("/hello")).status == 200
        assert [sock.read() for sock in socks] == [(str(number), "text") for number in range(10)]
        for sock in socks:
            sock.close()


def test_a_handler_that_refuses() -> None:
    sock, err = testing.websocket(site, "/hello")
    assert sock is None
    assert isinstance(err, websocket.HandshakeError)
    assert err.status == 200
    assert str(err).startswith("websocket.connect ws://test/hello: ")


def test_a_handler_that_answers_nothing_in_time(logs: Logs) -> None:
    logs.expect("the handler did not respond")
    with testing.clock() as clock:
        sock, err = testing.websocket(lambda stream: time.sleep(60_000), "/")
        assert sock is None
        assert "the limit 'handshake_timeout' is 10000 ms" in str(err)
        assert clock.elapsed == 10_000
        time.sleep(60_000)


def test_a_url_that_is_none() -> None:
    assert testing.websocket(site, "http://test/chat")[0] is None
    with pytest.raises(AttributeError, match=r"testing\.websocket returns a pair"):
        testing.websocket(site, "http://test/chat").read()  # type: ignore[attr-defined]


def test_what_may_wait_is_refused_where_nothing_may_switch() -> None:
    with testing.clock() as clock, testing.http(site) as client, task.no_switch():
        for call, name in (
            (lambda: client.websocket("/chat"), "client.websocket"),
            (lambda: clock.advance(1), "clock.advance"),
            (testing.shuffled(1).__enter__, "testing.shuffled"),
        ):
            with pytest.raises(RuntimeError, match=rf"{name}\S*: may wait"):
                call()
        ends = testing.pair()
    for end in ends:
        end.close()
    with testing.shuffled(1):
        pass
