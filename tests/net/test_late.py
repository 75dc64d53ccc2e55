"""What came in time is in time, although a task held the loop, or the process was stopped, until the time was over.

The clock jumps, so no test waits, and none depends on how fast the machine is.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time as os_time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import silly
from silly import time
from silly._core import loop as _loop
from silly.net import http, tcp, websocket

from ..children import Child
from ..conftest import Logs
from ..helpers import BINARY, CLOSE, FIN, PING, PONG, Peer, Raw, Upgraded, asking, raw_server, server_side, serving, turn
from . import authorities, tls_support
from .support import Job, until

LATE = 3_600_000
"""Milliseconds of a jump: an hour."""
MS = 600_000
"""Milliseconds of every time-out here: it never strikes by itself, and a jump passes it."""
LIMITS = {"idle_timeout": MS, "head_timeout": MS, "body_timeout": MS, "handshake_timeout": MS}
COUNTS = [64, 65, 300, pytest.param(2000, marks=pytest.mark.large)]
"""Connections: a batch of events, one more, a few batches, many."""


class Clock:
    def __init__(self) -> None:
        self._ahead = 0.0
        self._real = _loop.monotonic

    def __call__(self) -> float:
        return self._real() + self._ahead

    def jump(self, ms: int = LATE) -> None:
        """What follows happens ``ms`` later: the loop was held so long."""
        self._ahead += ms / 1000


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Every monotonic clock of the library."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            for key in ("monotonic", "_monotonic"):
                if name.startswith("silly.") and getattr(module, key, None) is clock._real:
                    patch.setattr(module, key, clock)
        yield clock
    turn(2)  # the clock has gone back: no turn may have begun before that


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Enough of them for 2,000 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 6000
    if hard < need:
        pytest.skip("too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Ends:
    """The two ends of connections."""

    def __init__(self, secure: bool, count: int) -> None:
        self.accepted: list[Any] = []
        self.connected: list[Any] = []
        if secure:
            with tls_support.listening(self.accepted.append) as listener:
                self._connect(lambda: tls_support.connect(listener, hostname="localhost"), count)
        else:
            with raw_server(self.accepted.append) as listener:
                self._connect(lambda: silly.check(tcp.connect(listener.addr)), count)

    def _connect(self, connect: Callable[[], Any], count: int) -> None:
        for _ in range(count):
            self.connected.append(connect())
        until(lambda: len(self.accepted) == count)

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *exc: object) -> None:
        for conn in self.accepted + self.connected:
            conn._stream.abort()


def by_timeout(conn: Any) -> Any:
    return conn.read(1, MS) if isinstance(conn, tcp.Conn) else conn.read(MS)


def by_deadline(conn: Any) -> Any:
    with time.deadline(MS):
        return conn.read(1) if isinstance(conn, tcp.Conn) else conn.read()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("read", [by_timeout, by_deadline])
@pytest.mark.parametrize("side", ["server", "client"])
def test_a_byte(clock: Clock, count: int, secure: bool, read: Callable[[Any], Any], side: str) -> None:
    """The row's example: 300 tasks in ``conn.read(1, 500)``, the loop held for 700 ms, all bytes in time."""
    with Ends(secure, count) as ends:
        readers, writers = (ends.accepted, ends.connected) if side == "server" else (ends.connected, ends.accepted)
        jobs = [Job(lambda conn=conn: read(conn)) for conn in readers]
        jobs[-1].blocked()
        for conn in writers:
            silly.check(conn.write("x"))  # the main program writes to the kernel at once
        clock.jump()
        assert [job.result() for job in jobs] == [(b"x", None)] * count


@pytest.mark.parametrize("read", [by_timeout, by_deadline])
def test_a_message_that_takes_more_than_one_event(clock: Clock, read: Callable[[Any], Any]) -> None:
    """The first event brings 16 KiB, since only then the reader knows how much it needs."""
    payload = b"x" * 60 * 1024
    with server_side({"ping_interval": 0}) as (sock, peer):
        job = Job(lambda: read(sock)).blocked()
        peer.put(FIN | BINARY, payload)
        assert peer.conn.unsentbytes() == 0, "the kernel has all of it"
        clock.jump()
        assert job.result() == (payload, "binary")


def test_a_head_that_takes_more_than_one_event(clock: Clock) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"a%d: %b\r\n" % (i, b"x" * 6000) for i in range(10)) + b"\r\n"
    with asking(lambda stream: stream.respond(200), limits=LIMITS) as client:
        client.send(head[:10])
        turn(5)
        client.send(head[10:])
        assert client.conn.unsentbytes() == 0, "the kernel has all of it"
        clock.jump()
        assert client.response().status == 200


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("side", ["server", "client"])
def test_a_websocket_message(clock: Clock, count: int, secure: bool, side: str) -> None:
    upgraded = Upgraded()
    options: dict[str, Any] = {"tls": True, "certs": [authorities.server().entry]} if secure else {}
    with serving(upgraded.handler, limits={"ping_interval": 0}, **options) as server:
        url = f"{'wss' if secure else 'ws'}://localhost:{server.port}/"
        given = {"ca": authorities.root().pem} if secure else {}
        limits = silly.Limits(ping_interval=0)
        clients = [silly.check(websocket.connect(url, limits=limits, **given)) for _ in range(count)]
        accepted = [upgraded.pop() for _ in range(count)]
        readers, writers = (accepted, clients) if side == "server" else (clients, accepted)
        jobs = [Job(lambda sock=sock: sock.read(MS)) for sock in readers]
        jobs[-1].blocked()
        for sock in writers:
            silly.check(sock.write("hello", "text"))
        clock.jump()
        assert [job.result() for job in jobs] == [("hello", "text")] * count
        for sock in accepted + clients:
            sock.conn._stream.abort()
        upgraded.release()




@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("begun", ["", "GET / HTTP/1.1\r\nHo", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx"])
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_request(clock: Clock, count: int, begun: str, secure: bool) -> None:
    """The time-outs between requests, of a head and of a body."""
    whole = begun + "x" if "Content" in begun else "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    waits: list[object] = []

    def handler(stream: Any) -> None:
        waits.append(stream)
        stream.respond(200)
        stream.close(stream.readall()[0])

    options: dict[str, Any] = {"tls": True, "certs": [authorities.server().entry]} if secure else {}
    with serving(handler, limits=LIMITS, **options) as server:
        if secure:
            clients = [Raw(tls_support.connect(server, hostname="localhost")) for _ in range(count)]
        else:
            clients = [Raw.connect(server) for _ in range(count)]
        for client in clients:
            client.send(begun)
        until(lambda: len(server._connections) == count)
        turn(5 + count // 16)
        if "Content" in begun:
            until(lambda: len(waits) == count)
        for client in clients:
            client.send(whole[len(begun) :])
        clock.jump()
        assert [client.response().status for client in clients] == [200] * count
        for client in clients:
            client.close()


@pytest.mark.parametrize("count", [64, 65, 300])  # a listener's queue has 1,024
def test_a_response(clock: Clock, count: int) -> None:
    accepted: list[Any] = []
    with raw_server(accepted.append) as listener, http.newclient(timeout=MS) as client:
        jobs = [Job(lambda: client.get(f"http://{listener.addr}/")) for _ in range(count)]
        until(lambda: len(accepted) == count)
        for conn in accepted:
            assert conn.read("\r\n\r\n", MS)[1] is None
            silly.check(conn.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"))
        clock.jump()
        assert [silly.check(job.result()).body for job in jobs] == [b"hi"] * count
        for conn in accepted:
            conn.close()


@pytest.mark.parametrize("count", [64, 65, 300])
def test_a_connection(clock: Clock, count: int) -> None:
    """Nothing answers before the jump: the kernel connects by itself."""
    accepted: list[Any] = []
    with raw_server(accepted.append) as listener:
        jobs = [Job(lambda: tcp.connect(listener.addr, timeout=MS)) for _ in range(count)]
        turn()
        clock.jump()
        connected = [silly.check(job.result()) for job in jobs]
        until(lambda: len(accepted) == count)
        for conn in accepted + connected:
            conn._stream.abort()


def test_the_bytes_of_a_tls_handshake(clock: Clock, logs: Logs) -> None:
    logs.expect("INFO .*TLS")
    count = 65
    with tls_support.listening(limits=silly.Limits(**LIMITS)) as listener:
        clients = [Raw.connect(listener) for _ in range(count)]
        turn(5)
        for client in clients:
            client.send("GET / HTTP/1.1\r\n\r\n")  # it gets an answer, so it was looked at
        clock.jump()
        assert [client.read(12) for client in clients] == [b"HTTP/1.1 400"] * count
        for client in clients:
            client.close()


@pytest.mark.parametrize("count", COUNTS)
def test_a_pong(clock: Clock, count: int) -> None:
    upgraded = Upgraded()
    with serving(upgraded.handler, limits={"ping_interval": MS, "pong_timeout": MS}) as server:
        peers = [Peer.connect(server) for _ in range(count)]
        for peer in peers:
            peer.send(peer.upgrade_request())
        assert [peer.response().status for peer in peers] == [101] * count
        socks = [upgraded.pop() for _ in range(count)]
        clock.jump(MS + 1)
        for peer in peers:
            first, payload = peer.get()
            assert first == FIN | PING
            peer.put(FIN | PONG, payload)
        clock.jump(2 * MS)
        turn(5)
        assert [sock.cause for sock in socks] == [None] * count
        assert all(sock._session.keepalive._count == 2 for sock in socks), "the next ping is out"
        for peer in peers:
            peer.close()
        upgraded.release()


def test_a_close_frame(clock: Clock) -> None:
    count = 65
    upgraded = Upgraded()
    with serving(upgraded.handler, limits={"close_timeout": MS, "ping_interval": 0}) as server:
        peers = [Peer.connect(server) for _ in range(count)]
        for peer in peers:
            peer.send(peer.upgrade_request())
        assert [peer.response().status for peer in peers] == [101] * count
        socks = [upgraded.pop() for _ in range(count)]
        jobs = [Job(sock.close) for sock in socks]
        for peer in peers:
            assert peer.get()[0] == FIN | CLOSE
            peer.put(FIN | BINARY, b"behind it comes the close frame")
            peer.put_close(1001)
        clock.jump()
        assert [job.result() for job in jobs] == [(True, None)] * count
        assert [sock.closecode for sock in socks] == [1001] * count
        for peer in peers:
            peer.close()
        upgraded.release()


def test_room_for_output(clock: Clock) -> None:
    """The peer has read, so the kernel takes output again: the connection has not stalled."""
    count = 65
    accepted: list[Any] = []
    with raw_server(accepted.append) as listener:
        peers = []
        for _ in range(count):
            peers.append(socket.socket())
            peers[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            peers[-1].connect(("127.0.0.1", listener.port))
        until(lambda: len(accepted) == count)
        for conn in accepted:
            conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        jobs = [Job(lambda conn=conn: conn.write(b"x" * 2 * 1024 * 1024)) for conn in accepted]
        for job in jobs:
            job.blocked()
        for peer in peers:
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                while peer.recv(1024 * 1024):
                    pass
        clock.jump()
        turn(5)
        assert [conn.isalive() for conn in accepted] == [True] * count
        for conn in accepted:
            conn._stream.abort()
        for job in jobs:
            job.result()
        for peer in peers:
            peer.close()


def test_a_lazy_timer_waits_for_a_look_too(clock: Clock) -> None:
    """A read's timer may be older than the read. If a task holds the loop in the same turn until the read's own time is
    over, nobody has looked at its bytes yet."""
    with Ends(False, 1) as ends:
        (conn,), (peer,) = ends.accepted, ends.connected
        held = Job(lambda: conn.read(1, 1000)).blocked()
        peer.write("x")
        assert held.result() == (b"x", None)  # its timer goes on
        reading = Job(lambda: conn.read(1, MS)).blocked()

        def holds() -> None:
            peer.write("y")
            peer._stream.flush()
            clock.jump()

        time.after(1, holds)
        clock.jump(2000)
        assert reading.result() == (b"y", None)


STOPPED = """
import sys
from silly.net import http, tcp
import silly

def read(conn):
    print("reads", flush=True)
    print(conn.read(1, 2000), flush=True)

def handler(stream):
    stream.respond(200)

listener = silly.check(tcp.listen("127.0.0.1:0", read))
server = silly.check(http.listen("127.0.0.1:0", handler, limits=silly.Limits(head_timeout=2000)))
print(listener.port, server.port, flush=True)
silly.run()
"""


def test_a_process_that_was_stopped_for_longer_than_the_time_out() -> None:
    """SIGSTOP, then SIGCONT: the kernel interrupts epoll, which returns no event, though the data is there."""
    with Child("-c", STOPPED) as child:
        line, request = (
            socket.create_connection(("127.0.0.1", int(port)), 20) for port in child.line().split()
        )
        with line, request:
            request.sendall(b"GET / HTTP/1.1\r\n")
            assert child.line() == "reads"
            os.kill(child.process.pid, signal.SIGSTOP)
            os.waitpid(child.process.pid, os.WUNTRACED)
            line.sendall(b"x")
            request.sendall(b"Host: x\r\n\r\n")
            os_time.sleep(2.2)  # the time that must pass is the child's
            os.kill(child.process.pid, signal.SIGCONT)
            assert child.line() == "(b'x', None)"
            assert request.recv(12) == b"HTTP/1.1 200"
