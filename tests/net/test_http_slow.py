"""Slow and many clients: each is cut off by its limit, honest ones are served meanwhile, and nothing is left of any.

``benchmarks/slow_attacks.py`` measures the same at size.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from silly import errno, time
from silly._core import scheduler
from silly.sync import channel

from ..helpers import Raw, serving, spawn, turn
from .http_support import all_of, small
from .support import until

MANY = 200
MIB = 2**20
DUE = {"head_timeout": 400, "body_timeout": 200, "idle_timeout": 400, "write_timeout": 400, "linger": 400}
"""Limits that attackers run into. An honest client answers within a few milliseconds, and waits as long at most."""


def handler(stream: Any) -> None:
    if stream.path == "/upload":
        pieces = stream.pieces()
        size = sum(map(len, pieces))
        if pieces.err is None:
            stream.respond(200)
            stream.close(str(size))
        return
    stream.respond(200)
    if stream.path == "/large":
        while stream.write(b"x" * 65536):
            pass
    stream.close("hello")


class Attackers:
    """Connections that a test attacks with, on plain sockets: none of it runs in our tasks."""

    def __init__(self, server: Any, count: int, first: bytes) -> None:
        self.socks: list[socket.socket] = []
        for _ in range(count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", server.port))
            self.socks.append(sock)
            if len(self.socks) % 50 == 0:
                turn()
        turn(3)
        self.send(first)

    def send(self, data: bytes) -> None:
        """Sends on each connection that still takes something."""
        for sock in self.socks:
            try:
                if data:
                    sock.send(data)
            except OSError:
                pass  # it was cut off

    def endings(self) -> set[bytes]:
        """What each got before the end, which must come: the statuses."""
        found = set()
        for sock in self.socks:
            got = b""
            end = time.monotonic() + 5000
            while True:
                try:
                    data = sock.recv(65536)
                except BlockingIOError:
                    assert time.monotonic() < end, "it was not cut off"
                    time.sleep(1)
                    continue
                except ConnectionResetError:
                    data = b""
                if not data:
                    break
                got = (got + data)[:12]
            found.add(got[9:])
        return found

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


class Left:
    """The connections of the attackers that ``server`` has not ended."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self._all = server._connections.copy()

    def now(self) -> set[Any]:
        return self._all & self.server._connections


@contextmanager
def attacked(count: int, first: bytes, **limits: int) -> Iterator[tuple[Left, Attackers, Callable[[], None]]]:
    """What a server holds of its attackers, these, and a function that asks it honestly."""
    with serving(handler, limits={**DUE, **limits}) as server:
        attackers = Attackers(server, count, first)
        until(lambda: len(server._connections) == count)
        left = Left(server)

        def ask() -> None:
            with Raw.connect(server) as client:
                client.request("/")
                assert client.response().body == b"hello"

        try:
            yield left, attackers, ask
            until(lambda: not server._connections)
        finally:
            attackers.close()
        until(lambda: not server._places.taken)


def keep_on(left: Left, attackers: Attackers, ask: Callable[[], None], drip: bytes) -> None:
    """The attackers drip, and the honest client asks, until the last attacker is cut off."""
    asked = 0
    while left.now():
        attackers.send(drip)
        ask()
        asked += 1
        turn()
        assert asked < 100_000
    assert asked > 3


def test_slow_heads(logs: Any) -> None:
    logs.expect("INFO http: .*: head not complete within the limit 'head_timeout' of 400 ms")
    with attacked(MANY, b"GET / HTTP/1.1\r\nHost: x\r\nX: ", line=10**9, head=10**9) as (left, attackers, ask):
        keep_on(left, attackers, ask, b"x")
        assert attackers.endings() == {b"408"}
    until(lambda: logs.count() == MANY)


@pytest.mark.parametrize(
    ("field", "drip"), [(b"Content-Length: 1000000000", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n")]
)
def test_slow_bodies(field: bytes, drip: bytes, logs: Any) -> None:
    """A byte now and then doesn't prolong it."""
    logs.expect("INFO http: .*: POST '/upload': the request's body is slower than the limit 'body_rate' of 1000000")
    logs.allow("stalled: nothing within the limit 'body_timeout'")  # where this machine stalls
    first = b"POST /upload HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n\r\n"
    with attacked(MANY, first, body_rate=10**6) as (left, attackers, ask):
        keep_on(left, attackers, ask, drip)
        assert attackers.endings() == {b"408"}
    until(lambda: logs.count() == MANY)


def test_bodies_that_never_come(logs: Any) -> None:
    logs.expect("INFO http: .*: POST '/upload': the request's body stalled: nothing within the limit 'body_timeout' of 200 ms")
    with attacked(MANY, b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n") as (left, attackers, ask):
        keep_on(left, attackers, ask, b"")
        assert attackers.endings() == {b"408"}


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_idle_connections(first: bytes) -> None:
    with attacked(MANY, first) as (left, attackers, ask):
        keep_on(left, attackers, ask, b"")
        assert attackers.endings() == ({b"200"} if first else {b""})


def test_slow_readers() -> None:
    """What waits for each is bounded, and so is how long it waits."""
    count = 50
    with attacked(count, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n") as (left, _, ask):
        most = 0
        asked = 0
        while left.now():
            most = max([most, *[connection._conn.unsentbytes() for connection in left.now()]])
            ask()
            asked += 1
        assert most <= MIB + 65536 + 100
        assert asked > 3


def test_answers_that_nobody_takes() -> None:
    """Thousands of pipelined requests for large answers: one is answered at a time."""
    request = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
    with attacked(20, request * 2000) as (left, attackers, ask):
        keep_on(left, attackers, ask, b"")


def test_one_byte_chunks() -> None:
    """Several uploads at once: the honest client gets its turns, and no more is held of each than of others."""
    size = 40_000
    body = b"1\r\nx\r\n" * size + b"0\r\n\r\n"
    with serving(handler) as server:
        clients = [Raw.connect(server) for _ in range(4)]
        for client in clients:
            client.request("/upload", "POST", "Transfer-Encoding: chunked")
        sending = [spawn(lambda client=client: client.send(body)) for client in clients]
        asked = most = 0
        while not all(client.conn.unreadbytes() for client in clients):
            with Raw.connect(server) as honest:
                honest.request("/")
                assert honest.response().body == b"hello"
            asked += 1
            most = max([most, *[connection._conn.unreadbytes() for connection in server._connections]])
        for client, done in zip(clients, sending, strict=True):
            assert client.response().body == str(size).encode()
            done.pop()
            client.close()
    assert asked > 3
    assert most <= 128 * 1024


def test_a_limit_on_connections_holds_under_attack() -> None:
    """Those past it are answered at once, and when the attackers are cut off there is room again."""
    with attacked(20, b"", connections=20, idle_timeout=100) as (left, _, ask):
        with Raw.connect(left.server) as client:
            assert client.response().status == 503
            client.eof()
        until(lambda: not left.now())
        ask()


def test_one_address_takes_no_more_than_its_share() -> None:
    with attacked(10, b"", address_connections=10, idle_timeout=100) as (left, _, ask):
        with Raw.connect(left.server) as client:
            assert client.response().status == 503
        until(lambda: not left.now())
        ask()


def test_what_lingers_counts_as_a_connection() -> None:
    """Its handler has returned, its answer is still on its way: memory and a descriptor are in use."""
    body = b"x" * (16 * MIB)
    served = []

    def large(stream: Any) -> None:
        stream.respond(200)
        stream.close(body)
        served.append(stream)

    with serving(large, limits={"connections": 1, "unsent": 2**30}) as server:
        with Raw.connect(server) as client:
            client.conn.limit(1)
            client.request("/", "GET", "Connection: close")
            until(lambda: served)
            turn(5)
            assert served[0].conn.unsentbytes()
            with Raw.connect(server) as other:
                assert other.response().status == 503
            assert client.response().body == body
        until(lambda: not server._connections)
        assert server._places.taken == 0


def test_nothing_is_left_of_an_attack_that_goes_away(logs: Any) -> None:
    """The attackers vanish in every state."""
    logs.expect("INFO http: .*: the request's body is incomplete")
    firsts = [
        b"",
        b"GET / HT",
        b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
        b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    with serving(handler) as server:
        handlers = len(scheduler.loop.handlers)
        for first in firsts:
            attackers = Attackers(server, 40, first)
            until(lambda: len(server._connections) == 40)
            attackers.close()
            until(lambda: not server._connections)
        assert len(scheduler.loop.handlers) == handlers


@pytest.mark.parametrize("how", ["client closes", "handler closes", "idle", "server closes", "bad request"])
def test_a_slow_client_gets_all_of_its_response(how: str, logs: Any) -> None:
    """The limits ``linger`` and ``idle_timeout`` are no bounds for the delivery of a response; ``write_timeout`` is."""
    size = 12 * MIB
    done = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200, {"connection": "close"} if how == "handler closes" else None)
        assert stream.closewrite(bytes(size))
        done.push(True)

    limits = {"linger": 50, "idle_timeout": 50, "unsent": 16 * MIB}
    if how == "bad request":
        logs.expect("bad request line")
    with serving(handler, limits=limits) as server, small(server) as client:
        client.request("/", "GET", *(["Connection: close"] if how == "client closes" else []))
        if how == "bad request":
            client.send("nonsense\r\n\r\n")
        done.pop()
        if how == "server closes":
            server.close()
        client.read(1)
        time.sleep(150)
        got, err = all_of(client)
    assert len(got) > size
    assert err == errno.EOF
