"""What an idle WebSocket of a server holds, counted in objects: a figure in KiB would depend on the system.

``benchmarks/README.md`` says what they come to in bytes.
"""

from __future__ import annotations

import contextvars
import gc
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from silly._core import scheduler
from silly.net import websocket
from silly.net.websocket import _upgrade

from ..helpers import Peer, server_side, serving
from .support import until

COUNT = 40
PING = b"\x89\x81\1\2\3\4\1"
"""A masked ping with the payload 0."""
PONG = b"\x8a\x01\0"
BROWSER = (
    "Origin: http://test",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept-Language: en-US,en;q=0.5",
    "Cookie: session=0123456789abcdef",
)


def name_of(each: object) -> str:
    # ``str``, since that of a type made in C may be anything.
    return f"{str(type(each).__module__).rpartition('.')[2]}.{type(each).__qualname__}"


HELD = dict.fromkeys(
    (
        # The connection, and the HTTP server's part.
        *("tcp.Conn", "_stream.Stream", "socket.socket", "_connection.Connection", "h1.ServerStream", "header.Header"),
        # The WebSocket.
        *("_session.Session", "_socket.Socket", "ws.MessageReader", "_keepalive.Keepalive"),
        # Its task; the timer of the next ping.
        *("tasks.Task", "timers.Timer"),
    ),
    1,
)
"""The objects of one that the garbage collector knows, but for Python's own kinds."""


def quiet(stream: Any) -> None:
    """A handler that reads until the end."""
    sock, err = websocket.upgrade(stream)
    assert err is None
    while sock.read()[0] is not None:
        pass


@contextmanager
def idle(server: Any, count: int, *fields: str) -> Iterator[None]:
    """``count`` WebSockets that have exchanged a ping and a pong, and are silent. Their clients are descriptors alone."""
    clients = []
    try:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", server.port))
            clients.append(client.detach())
            with socket.socket(fileno=clients[-1]) as sock:
                try:
                    sock.settimeout(0)
                    sock.sendall(Peer.upgrade_request(*fields) + PING)
                    got = bytearray()
                    until(lambda got=got, sock=sock: _receive(sock, got).endswith(PONG))
                finally:
                    sock.detach()
        yield
    finally:
        for fd in clients:
            socket.close(fd)


def _receive(sock: socket.socket, got: bytearray) -> bytearray:
    try:
        got += sock.recv(4096)
    except BlockingIOError:
        pass
    return got


def counted() -> Counter[str]:
    gc.collect()
    return Counter(map(name_of, gc.get_objects()))


def test_the_objects_that_an_idle_socket_holds() -> None:
    """No timer of HTTP's, no reader of heads, no deque, no context."""
    with serving(quiet) as server, idle(server, 3):
        with idle(server, COUNT):
            pass  # what is made once is made now, and the tasks' greenlets stay
        until(lambda: len(server._connections) == 3)
        scheduler.loop.timers._rebuild()
        heap = scheduler.loop.timers.heap
        before, entries = counted(), len(heap)
        with idle(server, COUNT):
            grown = counted()
            grown.subtract(before)
            # What Python makes beside them depends on earlier tests, which watch streams and give classes attributes.
            each = {kind: round(count / COUNT) for kind, count in grown.items()}
            ours = {kind: count for kind, count in each.items() if not kind.startswith(("builtins.", "weakref."))}
            assert {kind: count for kind, count in ours.items() if count > 0} == HELD
            assert len(heap) - entries == COUNT, "a timer of HTTP's is still there"


def test_none_of_these_objects_has_a_dictionary() -> None:
    """But for the request, of which nearly every attribute has a default in its class."""
    with serving(quiet) as server, idle(server, 1):
        kinds = set(HELD)
        found = {name_of(each): each for each in gc.get_objects() if name_of(each) in kinds}
        assert found.keys() == kinds
        assert {kind for kind, each in found.items() if hasattr(each, "__dict__")} == {"h1.ServerStream", "header.Header"}


def test_equal_values_of_requests_are_one_object() -> None:
    upgraded: list[Any] = []

    def handler(stream: Any) -> None:
        upgraded.append(stream)
        quiet(stream)

    with serving(handler) as server, idle(server, 2, *BROWSER):
        first, second = upgraded
        for name in ("host", "connection", "origin", "user-agent", "accept-language", "sec-websocket-version"):
            assert first.header[name] is second.header[name], name
        assert first.header == second.header
        assert first.method is second.method
        # These are secrets of one connection, so nothing else holds them.
        assert first.header["cookie"] is not second.header["cookie"]
        assert first.header["sec-websocket-key"] is not second.header["sec-websocket-key"]
        assert not {first.header["cookie"], first.header["sec-websocket-key"]} & _upgrade._shared.keys()


def test_what_is_kept_of_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_upgrade, "_SHARED", 20)
    monkeypatch.setattr(_upgrade, "_shared", {})
    largest = 0
    with serving(quiet) as server:
        for number in range(25):
            with idle(server, 1, f"User-Agent: {number}", "Origin: http://test", "Accept-Language: " + 21 * "x"):
                largest = max(largest, len(_upgrade._shared))
                assert 21 * "x" not in _upgrade._shared
    assert 15 < largest <= 20


def test_the_tasks_of_connections_start_without_a_context_of_their_own() -> None:
    """And what one sets in its context is not seen by another, not even one that runs in the same greenlet later."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen = []
    contexts: list[object] = []

    def handler(stream: Any) -> None:
        seen.append(variable.get())
        if stream.path == "/set":
            variable.set("set")
            seen.append(variable.get())
        else:
            contexts.append(scheduler.current()._greenlet.gr_context)
        stream.answer(200)

    variable.set("of the main program")
    with serving(handler) as server:
        for path in ("/set", "/see", "/set", "/see"):
            with Peer.connect(server) as client:
                client.request(path)
                client.response()
    assert seen == ["unset", "set", "unset"] * 2
    assert contexts == [None, None]


def test_the_deadline_of_the_request_is_dropped() -> None:
    with server_side() as (sock, _):
        assert sock.conn._stream._deadline is None
        assert sock.conn._stream._timer is None
