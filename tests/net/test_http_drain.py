"""The end of an HTTP server: ``server.close`` stops listening, ``server.drain`` also waits for what runs."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from silly import errno, task, time
from silly._core import scheduler
from silly.net import _stream, tcp, websocket
from silly.sync import channel

from ..children import Child
from ..helpers import BINARY, FIN, KEY, TEXT, WITHIN, Peer, Raw, Upgraded, asking, joined, serving, spawn, turn
from .http_support import Held, certs, connected, hello
from .support import Job, turns, until

MIB = 2**20
OK = (True, None)
SCHEMES = pytest.mark.parametrize("scheme", ["http", "https"])


@contextmanager
def held(scheme: str = "http", **options: Any) -> Iterator[tuple[Any, Held]]:
    """A server, and its handler."""
    hold = Held()
    if scheme == "https":
        options["certs"] = certs()
    with serving(hold.handler, **options) as server:
        try:
            yield server, hold
        finally:
            hold.release()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has sent nothing yet is not waited for long."""
    monkeypatch.setattr(_stream, "NEWCOMER", 0.05)


def idle(server: Any, count: int = 1) -> None:
    """Waits until ``count`` connections wait for a request."""
    until(lambda: sum(connection.idle for connection in server._connections) == count)


def draining(server: Any, ms: float | None = None) -> Job:
    """``server.drain`` in a task, which waits."""
    return Job(lambda: server.drain(ms)).blocked()


# ---- what runs, what is idle, what is new ---------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [None, 0, 1, 10_000])
def test_nothing_to_drain(ms: float | None) -> None:
    with serving(hello) as server:
        assert server.drain(ms) == OK
        assert server.close() == (False, errno.CLOSED)
        assert tcp.connect(f"127.0.0.1:{server.port}") == (None, errno.CONNREFUSED)


@SCHEMES
def test_idle_connections_close_at_once(scheme: str) -> None:
    with held(scheme) as (server, hold), connected(server) as used, connected(server) as new:
        used.request()
        hello(hold.pop())
        hold.go()
        assert used.response().status == 200
        idle(server, 2)
        assert server.drain() == OK
        used.eof()
        new.eof()


@SCHEMES
def test_what_runs_is_finished(scheme: str) -> None:
    with held(scheme) as (server, hold), connected(server) as client:
        client.request("/slow", "POST", "Content-Length: 6", body="abc")
        stream = hold.pop()
        drain = draining(server, 10_000)
        assert tcp.connect(f"127.0.0.1:{server.port}") == (None, errno.CONNREFUSED)
        client.send("def")
        assert stream.readall() == (b"abcdef", None)
        hello(stream)
        response = client.response()
        assert (response.body, response.header["connection"]) == (b"hello /slow", "close")
        assert task.status(drain.task) == "WAIT"
        hold.release()
        assert drain.result() == OK
        client.eof()
        assert not server._connections


def test_what_has_begun_to_answer_is_finished() -> None:
    """Its head is out, and doesn't say that the connection ends; it does."""
    with held() as (server, hold), connected(server) as client:
        client.request()
        client.request("/never")
        stream = hold.pop()
        stream.respond(200)
        stream.write("one")
        stream.flush()
        client.read("3\r\none\r\n")
        drain = draining(server)
        stream.close("two")
        client.read("3\r\ntwo\r\n0\r\n\r\n")
        hold.release()
        client.eof()
        assert drain.result() == OK
        assert hold.count() == 0


def test_pipelined_requests_after_it_are_refused() -> None:
    with held() as (server, hold), connected(server) as client:
        for path in ("/one", "/two", "/three"):
            client.request(path)
        stream = hold.pop()
        drain = draining(server)
        hello(stream)
        hold.release()
        response = client.response()
        assert (response.body, response.header["connection"]) == (b"hello /one", "close")
        client.eof()
        assert drain.result() == OK
        assert hold.count() == 0


def test_a_request_that_has_begun_is_served() -> None:
    """A head that is under way when the server drains belongs to what runs."""
    with serving(hello) as server, connected(server) as client:
        client.send("GET /x HTTP/1.1\r\nHo")
        until(lambda: [c for c in server._connections if not c.idle and c._conn.unreadbytes()])
        drain = draining(server)
        client.send("st: x\r\n\r\n")
        response = client.response()
        assert (response.body, response.header["connection"]) == (b"hello /x", "close")
        client.eof()
        assert drain.result() == OK


@pytest.mark.parametrize(("field", "body"), [("Content-Length: 1000", ""), ("Transfer-Encoding: chunked", "1\r\nx\r\n")])
def test_a_body_that_is_dropped_after_the_answer_is_not_waited_for(field: str, body: str) -> None:
    """The client gets the whole answer all the same, and no reset, though it goes on sending."""
    with serving(hello) as server, connected(server) as client:
        client.request("/", "POST", field, body=body)
        until(lambda: [c for c in server._connections if c.skipping and not c._conn.unreadbytes()])
        assert server.drain(10_000) == OK
        for _ in range(3):
            turn(3)
            client.send(b"1\r\nx\r\n")
        assert client.rest().endswith(b"hello /")


@pytest.mark.parametrize("spoke", [False, True])
def test_a_connection_just_accepted(spoke: bool, soon: None) -> None:
    """Its task has not run yet. It is served, and the drain waits for it."""
    with serving(hello) as server:
        queued = []
        server._listener._accepted, accepted = lambda *args: queued.append(args), server._listener._accepted
        with Raw.connect(server) as client:
            if spoke:
                client.request()
            until(lambda: queued)
            accepted(*queued[0])
            assert server.drain() == OK
            if spoke:
                assert client.response().header["connection"] == "close"
            client.eof()


@pytest.mark.parametrize("spoke", [False, True])
def test_a_task_that_comes_after_the_drain(spoke: bool, soon: None) -> None:
    """As after a handshake that something held up: the connection is served, to its first request."""
    with serving(hello, certs=certs()) as server:
        held_back = []
        serve = server._listener._accepted._accept
        server._listener._accepted._accept = lambda conn: held_back.append((conn, task.running())) or task.wait()
        with connected(server) as client:
            if spoke:
                client.request()
            until(lambda: held_back)
            conn, waiting = held_back[0]
            if spoke:
                until(conn.unreadbytes)
            assert server.drain() == OK
            task.wakeup(waiting)
            del held_back[0]
            serve(conn)
            del conn
            if spoke:
                assert client.response().header["connection"] == "close"
            client.eof()


# ---- its end --------------------------------------------------------------------------------------------------------


@SCHEMES
def test_what_is_left_is_cut_off(scheme: str) -> None:
    with held(scheme) as (server, hold), connected(server) as one, connected(server) as two, connected(server) as three:
        for client in (one, two):
            client.request()
        streams = [hold.pop(), hold.pop()]
        three.request("/", "POST", "Content-Length: 5")
        reading = spawn(hold.pop().readall)
        until(lambda: len(server._connections) == 3)
        assert server.drain(20) == (False, "server.drain: 3 connections were cut off after 20 ms")
        assert joined(reading)[0] is None
        for client in (one, two, three):
            assert client.conn.read(1, 5000) in ((None, errno.EOF), (None, errno.TLS), (None, errno.CONNRESET))
        for stream in streams:
            stream.respond(200)
            assert not stream.write("x" * 100)
        hold.release()
        until(lambda: not server._connections)


def test_one_is_cut_off(logs: Any) -> None:
    with held() as (server, hold), connected(server) as client:
        client.request()
        hold.pop()
        assert server.drain(1.5) == (False, "server.drain: 1 connection was cut off after 1.5 ms")


def test_drain_cuts_a_body_that_ends_with_the_connection_by_a_reset() -> None:
    held = Held()
    with serving(held.handler) as server, Raw.connect(server) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        stream = held.pop()
        stream.respond(200)
        stream.write("the first half")
        stream.flush()
        client.read("the first half")
        assert not server.drain(20)
        assert client.conn.read(1, WITHIN) == (None, errno.CONNRESET)
        held.release()


def test_no_time_at_all() -> None:
    with held() as (server, hold), connected(server) as client, connected(server) as waits:
        client.request()
        hold.pop()
        idle(server)
        assert server.drain(0) == (False, "server.drain: 1 connection was cut off after 0 ms")
        waits.eof()


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "1", [1]])
def test_mistakes(bad: Any) -> None:
    """They raise before anything is done."""
    with serving(hello) as server, connected(server) as client:
        with pytest.raises((TypeError, ValueError)):
            server.drain(bad)
        client.request()
        assert client.response().status == 200
        assert server.close() == OK


def test_an_answer_on_its_way_is_delivered() -> None:
    """The handler has returned; its client takes the answer slowly. What waits here would be lost if the process ended now."""
    size = 16 * MIB
    with held(limits={"unsent": size}) as (server, hold), connected(server) as client:
        client.conn.limit(1)
        client.request()
        stream = hold.pop()
        stream.respond(200)
        stream.close(bytes(size))
        hold.release()
        until(lambda: not any(connection.idle for connection in server._connections))
        drain = draining(server, 10_000)
        assert stream.conn.unsentbytes() > 0
        turn(5)
        assert task.status(drain.task) == "WAIT"
        assert client.response().body == bytes(size)
        assert drain.result() == OK
        assert stream.conn.unsentbytes() == 0


def test_an_answer_that_nobody_takes_is_cut_off() -> None:
    size = 16 * MIB
    with held(limits={"unsent": size}) as (server, hold), connected(server) as client:
        client.conn.limit(1)
        client.request()
        stream = hold.pop()
        drain = draining(server, 30)
        stream.respond(200)
        stream.close(bytes(size))
        hold.release()
        assert drain.result() == (False, "server.drain: 1 connection was cut off after 30 ms")
        assert stream.conn.unsentbytes() == 0


# ---- again, at once, and from where ---------------------------------------------------------------------------------


def test_drain_twice() -> None:
    with held() as (server, hold), connected(server) as client:
        client.request()
        stream = hold.pop()
        with time.deadline(5):
            assert server.drain() == (False, "server.drain: the deadline of 5 ms ran out")
        drain = draining(server)
        hello(stream)
        hold.release()
        assert drain.result() == OK
        assert server.drain() == server.drain(0) == OK
        assert client.response().header["connection"] == "close"


def test_drain_after_close() -> None:
    with held() as (server, hold), connected(server) as client:
        client.request()
        stream = hold.pop()
        assert server.close() == OK
        drain = draining(server)
        hello(stream)
        hold.release()
        assert drain.result() == OK
        assert client.response().header["connection"] == "close"


def test_several_wait() -> None:
    with held() as (server, hold), connected(server) as client:
        client.request()
        hold.pop()
        patient = [draining(server), draining(server, 10_000)]
        assert server.drain(10) == (False, "server.drain: 1 connection was cut off after 10 ms")
        assert [task.status(drain.task) for drain in patient] == ["WAIT", "WAIT"]
        hold.release()
        assert [drain.result() for drain in patient] == [OK, OK]


def test_not_in_a_handler_of_its_own() -> None:
    raised = []

    def handler(stream: Any) -> None:
        with pytest.raises(RuntimeError, match=r"server\.drain waits for all handlers, and this task is one") as info:
            server.drain(10)
        raised.append(info.value)
        hello(stream)

    with asking(handler) as client:
        pass
    with serving(handler) as server, connected(server) as client:
        for _ in range(2):  # nothing was closed by that
            client.request()
            assert client.response().status == 200
    assert len(raised) == 2


def test_in_a_task_of_a_handler() -> None:
    drains = []

    def handler(stream: Any) -> None:
        drains.append(Job(server.drain).blocked())
        hello(stream)

    with serving(handler) as server, connected(server) as client:
        client.request()
        assert client.response().header["connection"] == "close"
        assert drains[0].result() == OK


def test_in_a_handler_of_another_server() -> None:
    with serving(hello) as other, connected(other) as waits:
        idle(other)
        with asking(lambda stream: (stream.respond(200), stream.close(repr(other.drain()[0])))) as client:
            client.request()
            assert client.response().body == b"True"
            waits.eof()


def test_a_deadline_around_it_cuts_nothing_off() -> None:
    with held() as (server, hold), connected(server) as client:
        client.request()
        stream = hold.pop()
        with time.deadline(5):
            assert server.drain(60_000) == (False, "server.drain: the deadline of 5 ms ran out")
            assert server.drain(60_000) == (False, "server.drain: the deadline of 5 ms ran out")
        hello(stream)
        assert client.response().status == 200


def test_whoever_waits_may_be_ended() -> None:
    with held() as (server, hold), connected(server) as client:
        client.request()
        hold.pop()
        draining(server).kill()
        draining(server, 1000).kill()
        hold.release()
        assert server.drain() == OK


# ---- WebSockets and tunnels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [False, True])
def test_websockets_are_told(reads: bool) -> None:
    """Close 1001; the handler's read ends, and the drain waits for the peer's answer."""
    ends = []

    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        if reads:
            while True:
                data, kind = sock.read()
                if data is None or kind == "close":
                    ends.append((data, kind))
                    return
        else:
            gone.pop()

    gone = channel.new()
    with serving(handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        peer.put(FIN | TEXT, "hello")
        drain = draining(server, 10_000)
        assert peer.get_close() == (1001, "")
        assert task.status(drain.task) == "WAIT"
        peer.put_close(1001)
        gone.close()
        assert drain.result() == OK
        peer.eof()
    assert len(ends) == reads


def test_a_websocket_that_never_answers_is_cut_off() -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        sock = upgraded.pop()
        assert server.drain(20) == (False, "server.drain: 1 connection was cut off after 20 ms")
        assert peer.get_close() == (1001, "")
        assert not sock.write("x")
        upgraded.release()
        until(lambda: not server._connections)


@pytest.mark.parametrize("begun", [False, True])
def test_a_websocket_that_is_asked_for_while_the_server_drains(begun: bool) -> None:
    """The request came before, in part or in whole; it is told to come back."""
    upgraded = Upgraded()
    go = channel.new()

    def late(stream: Any) -> None:
        go.pop()
        upgraded.handler(stream)

    with serving(late) as server, Peer.connect(server) as peer:
        request = peer.upgrade_request()
        peer.send(request[:-2] if begun else request)
        until(lambda: [c for c in server._connections if not c.idle and (c._serving is not None) is not begun])
        drain = draining(server, 10_000)
        peer.send(b"\r\n" if begun else b"")
        go.close()
        response = peer.response()
        assert (response.status, response.header["retry-after"], response.header["connection"]) == (503, "1", "close")
        peer.eof()
        assert drain.result() == OK


def test_close_leaves_websockets_alone() -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        sock = upgraded.pop()
        assert server.close() == OK
        sock.write("still here")
        assert peer.get() == (FIN | BINARY, b"still here")
        peer.silent()
        upgraded.release()


def test_a_tunnel_is_waited_for() -> None:
    with held(methods=["CONNECT"]) as (server, hold), connected(server) as client:
        client.request("a:80", "CONNECT")
        conn, _ = hold.pop().detach()
        client.read("\r\n\r\n")
        drain = draining(server)
        conn.write("still here")
        assert client.read(10) == b"still here"
        hold.release()
        assert drain.result() == OK
        client.eof()


# ---- the end of the process -----------------------------------------------------------------------------------------

SCRIPT = """
import silly, sys
from silly import task, time
from silly.net import http, websocket
from silly._core import ending
from silly.sync import channel

ending.plan = ending.Plan(drain=1000 * {drain})
started = channel.new()

def handler(stream):
    if stream.path == "/ws":
        sock, err = websocket.upgrade(stream)
        started.push(True)
        while sock.read()[0] is not None:
            pass
        return
    started.push(True)
    if stream.path == "/slow":
        time.sleep(300)
    elif stream.path == "/forever":
        time.sleep(10 ** 8)
    stream.respond(200)
    stream.close("x" * 3_000_000)

server, err = http.listen("127.0.0.1:0", handler)
print(server.port, flush=True)

def end():
{body}

task.fork(end)
silly.run()
"""


@contextmanager
def child(body: str, path: str, head: str = "", drain: float = 0.1) -> Iterator[tuple[Child, socket.socket]]:
    """A server in a process of its own that serves ``path``; ``body`` runs in a task of it.
    ``drain``: how many seconds its end lets handlers go on."""
    lines = "".join([f"    {line}\n" for line in body.splitlines()])
    with Child("-c", SCRIPT.format(body=lines, drain=drain)) as process:
        port = int(process.line())
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
            yield process, sock


def all_of(sock: socket.socket) -> bytes:
    got = b""
    while data := sock.recv(2**20):
        got += data
    return got


WHEN_ASKED = "started.pop()\n"


def test_exit_after_a_drain() -> None:
    body = WHEN_ASKED + "print(tuple(server.drain(20_000)), flush=True)\nsilly.exit(7)"
    with child(body, "/slow") as (process, sock):
        got = all_of(sock)
        assert b"\r\nconnection: close\r\n" in got
        assert got.endswith(b"x" * 3_000_000)
        sock.close()
        assert process.line() == "(True, None)"
        assert process.wait() == 7
        assert process.errors() == ""


def test_exit_after_a_drain_that_cut_off() -> None:
    body = WHEN_ASKED + "print(tuple(server.drain(20)), flush=True)\nsilly.exit()"
    with child(body, "/forever") as (process, sock):
        assert all_of(sock) == b""
        assert process.line() == "(False, 'server.drain: 1 connection was cut off after 20 ms')"
        assert process.wait() == 0
        assert process.errors() == ""


def test_a_signal_during_a_drain() -> None:
    """The end of the process doesn't wait for the drain; nothing is said."""
    body = WHEN_ASKED + "print('draining', flush=True)\nprint(server.drain(), flush=True)"
    with child(body, "/forever") as (process, sock):
        assert process.line() == "draining"
        assert process.stop() == 0
        assert all_of(sock) == b""
        assert process.errors() == ""


@pytest.mark.parametrize("path", ["/forever", "/ws"])
def test_a_drain_while_the_process_ends(path: str) -> None:
    """As in a finally block: it waits for the handlers, which are ended too."""
    body = WHEN_ASKED + "print('running', flush=True)\ntry:\n    time.sleep(10 ** 8)\n"
    body += "finally:\n    print(tuple(server.drain(10_000)), flush=True)"
    fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    fields += f"Sec-WebSocket-Key: {KEY}\r\n"
    with child(body, path, fields if path == "/ws" else "") as (process, sock):
        assert process.line() == "running"
        assert path == "/forever" or sock.recv(1000).startswith(b"HTTP/1.1 101 ")
        process.process.send_signal(signal.SIGTERM)
        assert process.line() == "(True, None)"
        assert process.wait() == 0
        assert process.errors() == ""


def test_from_another_thread() -> None:
    from ..children import in_thread

    with serving(hello) as server:
        call: Callable[[], Any] = lambda: server.drain(5)  # noqa: E731
        with pytest.raises(RuntimeError, match="thread"):
            in_thread(call)
        assert server.close() == OK


def test_nothing_is_left_of_many() -> None:
    with serving(hello) as server:
        clients = [connected(server) for _ in range(100)]
        for client in clients[::2]:
            client.request()
        for client in clients[::2]:
            assert client.response().status == 200
        turns()
        assert server.drain(10_000) == OK
        assert not server._connections
        assert server._places.taken == 0
        for client in clients:
            client.eof()
            client.close()
    assert scheduler.loop.listeners == 0
