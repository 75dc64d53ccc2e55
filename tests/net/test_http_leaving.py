"""What ``server.drain`` does beside waiting: notice, spread, what the kernel holds, the log; and ``router.health``."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from silly import check, errno, task, testing, time
from silly.net import _listener, _stream, http, tcp, tls, websocket
from silly.net.http import _drain, _health
from silly.sync import channel

from ..conftest import Logs
from ..helpers import CLOSE, FIN, TEXT, Peer, Raw, Upgraded, serving, turn
from . import authorities
from .http_support import Held, certs, connected, hello
from .support import Job, turns, until

OK = (True, None)
SCHEMES = pytest.mark.parametrize("scheme", ["http", "https"])
QUIET = {"ping_interval": 0, "idle_timeout": 10**9}
"""Limits under which the clock may be set ahead."""


def healthy() -> http.Router:
    router = http.router()
    router.health()
    router.get("/", hello)
    router.websocket("/chat", reads)
    return router


def asked(client: Raw, path: str = "/") -> tuple[int, str | None]:
    """The answer to a request: its status, and its field Connection."""
    client.request(path)
    response = client.response()
    return response.status, response.header.get("connection")


def idle(server: Any, count: int = 1) -> None:
    until(lambda: sum(connection.idle for connection in server._connections) == count)


def draining(server: Any, ms: float | None = None, **options: Any) -> Job:
    return Job(lambda: server.drain(ms, **options)).blocked()


def in_kernel(server: Any, data: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> socket.socket:
    """A connection that the server has not accepted, with what its client has sent."""
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.sendall(data)
    return sock


def adopted(sock: socket.socket) -> Raw:
    return Raw(check(tcp.adopt(sock)))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has sent nothing yet is not waited for long."""
    monkeypatch.setattr(_stream, "NEWCOMER", 0.1)


# ---- notice ---------------------------------------------------------------------------------------------------------


def test_during_the_notice_everything_goes_on() -> None:
    with testing.clock() as clock, serving(healthy(), limits=QUIET) as server, connected(server) as client:
        assert asked(client, "/readyz") == (200, None)
        drain = draining(server, 10_000, notice=30_000)
        clock.advance(29_000)
        assert asked(client, "/readyz") == (503, None)
        assert asked(client, "/healthz") == (200, None)
        with connected(server) as new, Peer.connect(server) as peer:
            assert asked(new) == (200, None)
            peer.send(peer.upgrade_request())
            assert peer.response().status == 101
        assert task.status(drain.task) == "WAIT"
        clock.advance(2_000)
        client.eof()
        assert drain.result() == OK
        assert tcp.connect(f"127.0.0.1:{server.port}") == (None, errno.CONNREFUSED)


def test_the_notice_is_not_part_of_the_time() -> None:
    held = Held()
    with testing.clock() as clock, serving(held.handler, limits=QUIET) as server, connected(server) as client:
        client.request()
        held.pop()
        drain = draining(server, 1_000, notice=30_000)
        clock.advance(30_500)
        assert task.status(drain.task) == "WAIT"
        clock.advance(1_000)
        assert drain.result() == (False, "server.drain: 1 connection was cut off after 1000 ms")
        held.release()


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_who_gives_up_in_the_notice_has_closed_nothing(how: str) -> None:
    with serving(healthy()) as server, connected(server) as client:
        if how == "cancel":
            drain = draining(server, notice=10**6)
            assert asked(client, "/readyz") == (503, None)
            drain.kill()
        else:
            with time.deadline(20):
                assert server.drain(notice=10**6) == (False, "server.drain: the deadline of 20 ms ran out")
        assert asked(client, "/readyz") == (200, None)
        with connected(server) as new:
            assert asked(new) == (200, None)
        assert server.drain() == OK


@pytest.mark.parametrize("how", ["drain", "close"])
def test_whoever_closes_ends_the_notice(how: str) -> None:
    with serving(hello) as server, connected(server) as client:
        assert asked(client) == (200, None)
        noticing = draining(server, notice=10**6)
        assert getattr(server, how)() == OK
        assert noticing.result() == OK
        client.eof()
        assert server.drain(notice=10**6) == OK, "a closed server gives no notice"


def test_two_notices() -> None:
    with testing.clock() as clock, serving(healthy(), limits=QUIET) as server, connected(server) as client:
        long, short = draining(server, notice=50_000), draining(server, notice=20_000)
        short.kill()
        clock.advance(30_000)
        assert asked(client, "/readyz") == (503, None), "the other one goes on"
        clock.advance(30_000)
        assert long.result() == OK


# ---- what the kernel holds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["drain", "close"])
def test_connections_in_the_queue_are_served(call: str) -> None:
    served = []
    with serving(lambda stream: served.append(hello(stream))) as server, ExitStack() as stack:
        waiting = [stack.enter_context(adopted(in_kernel(server))) for _ in range(100)]
        assert not server._connections
        assert getattr(server, call)() == OK
        assert len(served) == (100 if call == "drain" else 0), "a drain waits for them"
        for client in waiting:
            response = client.response()
            assert (response.status, response.header["connection"]) == (200, "close")
            client.eof()
        until(lambda: not server._connections)


def test_connections_in_the_queue_are_served_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stream, "NEWCOMER", 10.0)
    with serving(hello, certs=certs()) as server, ExitStack() as stack:
        conns = [adopted(in_kernel(server, b"")).conn for _ in range(5)]
        drain = draining(server)
        for conn in conns:
            secure = check(tls.upgrade(conn, "localhost", ca=authorities.root().pem))
            client = stack.enter_context(Raw(secure))
            assert asked(client) == (200, "close")
            client.eof()
        assert drain.result() == OK


def test_a_flood_does_not_keep_a_listener_open(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    monkeypatch.setattr(_listener, "LAST_ACCEPTS", 3)
    logs.expect(r"WARNING listener \S+: closes with more than 3 connections in its queue: the rest is reset")
    with serving(hello) as server, ExitStack() as stack:
        clients = [stack.enter_context(adopted(in_kernel(server))) for _ in range(5)]
        assert server.drain() == OK
        for client in clients[:3]:
            assert client.response().status == 200
        for client in clients[3:]:
            assert client.conn.read(1, 5000) == (None, errno.CONNRESET)


def test_the_queue_of_a_socket_that_others_have_is_theirs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        server = check(http.listen(f"fd:{ours.dup().detach()}", hello))
        with in_kernel(server) as client:
            assert server.drain() == OK
            conn, _ = ours.accept()
            with conn:
                assert conn.recv(3) == b"GET"
            client.close()


def test_unix_sockets_too(tmp_path: Any) -> None:
    path = str(tmp_path / "s")
    server = check(http.listen(f"unix:{path}", hello))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with adopted(sock) as client:
            assert server.drain() == OK
            assert client.response().header["connection"] == "close"


@SCHEMES
@pytest.mark.parametrize("call", ["drain", "close"])
def test_a_request_that_the_kernel_has_is_served(scheme: str, call: str) -> None:
    """On a connection that was idle when the server looked last."""
    options = {"certs": certs()} if scheme == "https" else {}
    with serving(hello, **options) as server, connected(server) as client, connected(server) as silent:
        for each in (client, silent):
            assert asked(each) == (200, None)
        idle(server, 2)
        client.request("/again")
        assert getattr(server, call)() == OK
        response = client.response()
        assert (response.body, response.header["connection"]) == (b"hello /again", "close")
        client.eof()
        silent.eof()


@SCHEMES
def test_a_newcomer_has_a_moment_for_its_first_request(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stream, "NEWCOMER", 10.0)
    options = {"certs": certs()} if scheme == "https" else {}
    with serving(hello, **options) as server, connected(server) as client:
        idle(server)
        drain = draining(server)
        assert asked(client) == (200, "close")
        assert drain.result() == OK


@pytest.mark.parametrize("sent", ["", "GET / HTTP/1.1\r\nHo"])
@SCHEMES
def test_a_newcomer_that_sends_no_request_is_not_waited_for(sent: str, scheme: str) -> None:
    options = {"certs": certs()} if scheme == "https" else {}
    with serving(hello, **options) as server, connected(server) as client:
        client.send(sent)
        until(lambda: [each for each in server._connections if each.idle is not bool(sent)])
        assert server.drain() == OK
        client.eof()


def test_a_newcomer_that_does_not_shake_hands_is_not_waited_for() -> None:
    with serving(hello, certs=certs()) as server, Raw.connect(server) as client:
        until(server._newcomers)
        assert server.drain() == OK
        client.eof()


def test_a_newcomer_is_not_counted_as_cut_off() -> None:
    with serving(hello) as server, connected(server) as client:
        idle(server)
        assert server.drain(1) == OK
        client.eof()


# ---- WebSockets -----------------------------------------------------------------------------------------------------


@contextmanager
def websockets(count: int, handler: Any) -> Iterator[tuple[Any, list[Peer]]]:
    with serving(handler, limits=QUIET) as server, ExitStack() as stack:
        peers = []
        for _ in range(count):
            peer = stack.enter_context(Peer.connect(server))
            peer.send(peer.upgrade_request())
            assert peer.response().status == 101
            peers.append(peer)
        yield server, peers


def reads(stream: Any) -> None:
    sock = check(websocket.upgrade(stream))
    while sock.read()[1] not in ("close", None) and sock.closecode is None:
        pass


def closes(peers: list[Peer]) -> int:
    """How many of them have got a close frame."""
    turns()
    return sum(bytes(peer.conn._stream.buf[:1]) == bytes((FIN | CLOSE,)) for peer in peers)


@pytest.fixture
def tenths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance is even: 0.05, 0.15, 0.25 and so on."""
    drawn = iter([n / 10 + 0.05 for n in range(10)] * 10)
    monkeypatch.setattr(_drain.random, "random", lambda: next(drawn))


def test_spread(tenths: None) -> None:
    """One each second; a WebSocket that ends before is simply done."""
    with testing.clock() as clock, websockets(10, reads) as (server, peers):
        drain = draining(server, 20_000, spread=10_000, code=1012)
        assert closes(peers) == 0
        for second in range(1, 6):
            clock.advance(1_000)
            assert closes(peers) == second
        waiting = [peer for peer in peers if not closes([peer])]
        waiting[0].put_close(1000)
        waiting[1].close()
        clock.advance(5_000)
        for peer in set(peers) - set(waiting[:2]):
            assert peer.get_close() == (1012, "")
            peer.put_close(1012)
        assert drain.result() == OK


def test_what_the_peer_sends_before_its_close_is_still_read() -> None:
    got: Any = channel.new()

    def handler(stream: Any) -> None:
        sock = check(websocket.upgrade(stream))
        while (pair := sock.read())[0] is not None:
            got.push(pair)
            if pair[1] == "close":
                break

    with websockets(1, handler) as (server, (peer,)):
        drain = draining(server, code=4000)
        assert peer.get_close() == (4000, "")
        peer.put(FIN | TEXT, "on its way")
        peer.put_close(4000)
        assert drain.result() == OK
        assert [got.pop()[0] for _ in range(2)] == [("on its way", "text"), (b"\x0f\xa0", "close")]


def test_a_second_drain_closes_sooner(tenths: None) -> None:
    with testing.clock() as clock, websockets(4, reads) as (server, peers):
        patient = draining(server, spread=1_000_000, code=1012)
        clock.advance(60_000)
        assert closes(peers) == 1
        hurried = draining(server, 10_000, code=1001)
        assert closes(peers) == 4
        for peer in peers:
            assert peer.get_close() == (1012, ""), "the first decides on the code"
            peer.put_close(1012)
        assert patient.result() == hurried.result() == OK


def test_a_cancelled_drain_goes_on_without_its_task(tenths: None) -> None:
    with testing.clock() as clock, websockets(2, reads) as (server, peers):
        drain = draining(server, 5_000, spread=4_000)
        drain.kill()
        clock.advance(10_000)
        for peer in peers:
            assert peer.get_close() == (1001, ""), "closed in their turn, and not cut off"
            peer.put_close(1001)
        assert server.drain() == OK


def test_a_drain_that_is_cut_off_closes_nothing_later(tenths: None) -> None:
    upgraded = Upgraded()
    with testing.clock() as clock, websockets(3, upgraded.handler) as (server, peers):
        drain = draining(server, 20_000, spread=20_000)
        clock.advance(10_000)
        assert closes(peers) == 3
        clock.advance(15_000)
        assert drain.result() == (False, "server.drain: 3 connections were cut off after 20000 ms")
        upgraded.release()


@pytest.mark.parametrize(
    ("options", "least", "most"), [({"retry_after": 7}, 7, 7), ({"retry_after": 0}, 0, 0), ({}, 1, 1), ({"spread": 2500}, 1, 3)]
)
def test_new_websockets_are_told_to_come_back(options: Any, least: int, most: int) -> None:
    held = Held()
    go: Any = channel.new()

    def handler(stream: Any) -> None:
        held.handler(stream) if stream.path == "/held" else (go.pop(), websocket.upgrade(stream))

    with serving(handler) as server, connected(server) as other, Peer.connect(server) as peer:
        other.request("/held")
        held.pop()
        peer.send(peer.upgrade_request())
        until(lambda: sum(not each.idle for each in server._connections) == 2)
        drain = draining(server, **options)
        go.close()
        response = peer.response()
        assert (response.status, response.header["connection"]) == (503, "close")
        assert least <= int(response.header["retry-after"]) <= most
        peer.eof()
        held.release()
        assert drain.result() == OK


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ms": 10, "spread": 11}, "a spread of 11 ms is longer than the 10 ms after which everything is cut off"),
        ({"spread": -1}, "server.drain: spread: a time-out is in milliseconds, from 0"),
        ({"notice": float("nan")}, "server.drain: notice: a time-out is in milliseconds, from 0"),
        ({"notice": "1"}, "server.drain: notice: a time-out is a number of milliseconds, not str"),
        ({"spread": None}, "server.drain: spread: a time-out is a number of milliseconds, not NoneType"),
        ({"code": 1005}, "a close code is 1000-1003"),
        ({"code": 999}, "a close code is 1000-1003"),
        ({"code": "1001"}, "a close code is 1000-1003"),
        ({"retry_after": -1}, "server.drain: retry_after, in seconds, is an int from 0"),
        ({"retry_after": 1.5}, "server.drain: retry_after, in seconds, is an int from 0"),
    ],
)
def test_wrong_arguments_close_nothing(options: Any, text: str) -> None:
    with serving(healthy()) as server, connected(server) as client:
        with pytest.raises((TypeError, ValueError), match=re.escape(text)):
            server.drain(**options)
        assert asked(client, "/readyz") == (200, None)


# ---- the log --------------------------------------------------------------------------------------------------------


def test_the_log_says_how_far_it_is(logs: Logs) -> None:
    logs.draining = True
    name = r"INFO http: 127\.0\.0\.1:\d+"
    lines = [
        " goes on for 1 s of notice, then it drains",
        " drains: 1 request and 1 WebSocket left",
        " drains for 5 s: 1 request and 1 WebSocket left",
        " drains for 15 s: 1 request left",
        r" drains for 35 s: 1 request left",
        r" has drained in 4\d\.\d s",
    ]
    for line in lines:
        logs.expect(f"{name}{line}$")
    held = Held()
    router = http.router()
    router.get("/", held.handler)
    router.websocket("/chat", reads)
    with testing.clock() as clock, serving(router, limits=QUIET) as server, connected(server) as client:
        client.request()
        held.pop()
        with Peer.connect(server) as peer:
            peer.send(peer.upgrade_request())
            assert peer.response().status == 101
            drain = draining(server, notice=1000)
            clock.advance(7_000)
            peer.get_close()
        clock.advance(34_000)
        held.release()
        assert drain.result() == OK
    assert logs.count() == len(lines)


def test_the_log_says_what_was_cut_off(logs: Logs) -> None:
    logs.draining = True
    logs.expect(r"INFO http: \S+ drains: 2 requests left$")
    logs.expect(r"INFO http: \S+ drained for \d\.\d s: 2 connections cut off$")
    held = Held()
    with serving(held.handler) as server, connected(server) as one, connected(server) as two:
        for client in (one, two):
            client.request()
            held.pop()
        assert not server.drain(20)
        held.release()
        until(lambda: not server._connections)
    assert logs.count() == 2


def test_without_anything_left_it_says_nothing(logs: Logs) -> None:
    logs.draining = True
    with serving(hello) as server, connected(server) as client:
        assert asked(client) == (200, None)
        assert server.drain(1000) == OK
    assert logs.count() == 0


# ---- health ---------------------------------------------------------------------------------------------------------

FOUND: list[tuple[Any, str | None]] = [
    (None, None),
    (True, None),
    (1, None),
    ("", "the check failed"),
    (False, "the check failed"),
    ("no database", "no database"),
    ((True, None), None),
    ((None, None), None),
    ((None, errno.TIMEDOUT), errno.TIMEDOUT),
    ((False, "full"), "full"),
    ((1, 2, 3), None),
]


@pytest.mark.parametrize(("found", "why"), FOUND, ids=repr)
def test_what_a_check_finds(found: Any, why: str | None) -> None:
    router = http.router()
    router.health(check=lambda: (time.sleep(1), found)[1])
    with testing.http(router) as client:
        response = check(client.get("/readyz"))
        assert (response.status, response.text) == (503 if why else 200, f"{why or 'ok'}\n")
        assert check(client.get("/healthz")).status == 200


def test_a_check_that_raises_is_logged_and_not_shown(logs: Logs) -> None:
    def broken() -> None:
        raise KeyError("secret")

    logs.expect(r"ERROR http: the check \S+broken has raised KeyError: 'secret'")
    router = http.router()
    router.health(check=broken)
    with testing.http(router) as client:
        response = check(client.get("/readyz"))
        assert (response.status, response.text) == (503, "the check failed\n")


def test_a_check_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_health, "CHECK", 20)
    empty: Any = channel.new()
    router = http.router()
    router.health(check=empty.pop)
    with testing.http(router) as client:
        response = check(client.get("/readyz"))
        assert response.status == 503
        assert "deadline of 20 ms ran out" in response.text


def test_head_and_other_methods() -> None:
    with serving(healthy()) as server, connected(server) as client:
        for path in ("/healthz", "/readyz"):
            client.request(path, "HEAD")
            response = client.response("HEAD")
            assert (response.status, response.header["cache-control"]) == (200, "no-store")
            client.request(path, "POST")
            assert client.response().status == 405
            client.request(path)
            response = client.response()
            assert (response.body, response.header["cache-control"]) == (b"ok\n", "no-store")


def test_other_paths_or_none() -> None:
    router = http.router()
    router.health(None, "/up")
    with testing.http(router) as client:
        assert [check(client.get(path)).status for path in ("/up", "/healthz", "/readyz")] == [200, 404, 404]


async def asynchronous() -> None:
    """Never runs."""


@pytest.mark.parametrize(("bad", "text"), [(1, "is a function, not int"), (asynchronous, "is an async function")])
def test_a_check_that_can_not_be_called(bad: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        http.router().health(check=bad)


def test_another_server_that_drains() -> None:
    held = Held()
    with serving(held.handler) as busy, serving(healthy()) as admin, connected(busy) as one, connected(admin) as client:
        one.request()
        held.pop()
        drain = draining(busy)
        assert asked(client, "/readyz") == (503, None)
        held.release()
        assert drain.result() == OK
        turn(2)
        assert asked(client, "/readyz") == (200, None), "what is left can take requests"
