"""Tests of a program: the clock, the pairs, a client of a handler."""

from typing import assert_type

from silly import check, testing, time
from silly.net import http, tcp, websocket


def app(stream: http.ServerStream) -> None:
    stream.respond(204)


def test_time() -> None:
    with testing.clock(jumps=1000) as clock, testing.shuffled(7) as order:
        time.sleep(1000)
        clock.advance(1000)
        assert_type(clock.elapsed, int)
        assert_type(clock.held, str | None)
        assert_type(order.seed, int)


def test_connections() -> None:
    client, server = testing.pair()
    assert_type(client, tcp.Conn)
    server.close()
    with testing.http(app, timeout=1000) as caller:
        assert_type(check(caller.get("/")), http.Response)
        assert_type(check(caller.websocket("/chat")), websocket.Socket)
    sock, err = testing.websocket(app, "/chat")
    if sock is None:
        print(err)
        return
    assert_type(sock, websocket.Socket)
