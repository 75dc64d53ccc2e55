"""What the rows of bad inputs share: both roles, plain and TLS, the bytes whole and one at a time."""

from __future__ import annotations

import re
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, NamedTuple

import pytest

import silly
from silly import errno
from silly.net import http, tcp, tls, websocket
from silly.sync import channel

from ..helpers import KEY, WITHIN, Peer, ServerPeer, accept_key, turn
from ..net import authorities

KIB = 1024
MIB = 1024 * 1024
SHORT = {"close_timeout": 20}
"""For peers that don't answer a close."""
SMALL = {**SHORT, "message": 1000, "fragments": 10}
LOG = r"INFO (websocket|http): 127\.0\.0\.1:\d+: "
"""The log line for a fault of a peer."""


@cache
def certificates() -> tuple[str, dict[str, str]]:
    """An authority, and a certificate of it for the loopback."""
    return authorities.root().pem, authorities.server("127.0.0.1").entry


class Way(NamedTuple):
    """How the bytes of a row travel: on ``tls`` or plain TCP, whole or ``dribbled`` (on TLS each byte is a record)."""

    tls: bool
    dribbled: bool

    def deliver(self, peer: Any, data: str | bytes) -> None:
        """Sends ``data``; when dribbled, until the other side answers."""
        if self.dribbled:
            peer.dribble(data)
        else:
            peer.send(data)

    def deliver_all(self, peer: Any, data: str | bytes) -> None:
        """Sends ``data`` to its end, whatever is answered meanwhile."""
        if self.dribbled:
            drip(peer, data)
        else:
            peer.send(data)

    # ---- our server ---------------------------------------------------------------------------------------------

    @contextmanager
    def serving(self, handler: Callable[[Any], object], limits: dict[str, int] | None = None) -> Iterator[Any]:
        """An HTTP server on a free port of the loopback."""
        options: dict[str, Any] = {"limits": silly.Limits(**limits)} if limits else {}
        if self.tls:
            options["certs"] = [certificates()[1]]
        server, err = http.listen("127.0.0.1:0", handler, **options)
        assert err is None
        try:
            yield server
        finally:
            server.close()
            turn(3)

    def dial(self, server: Any) -> Peer:
        """A raw client of ``server``."""
        addr = f"127.0.0.1:{server.port}"
        conn, err = tls.connect(addr, ca=certificates()[0]) if self.tls else tcp.connect(addr)
        assert err is None
        turn(3)  # the server's session tickets
        return Peer(conn)

    # ---- our client ---------------------------------------------------------------------------------------------

    @contextmanager
    def raw_server(self, script: Callable[[Any], object]) -> Iterator[Any]:
        """A listener that runs ``script(conn)`` for each connection."""
        if self.tls:
            listener, err = tls.listen("127.0.0.1:0", [certificates()[1]], script)
        else:
            listener, err = tcp.listen("127.0.0.1:0", script)
        assert err is None
        try:
            yield listener
        finally:
            listener.close()
            turn(3)

    def url(self, listener: Any, target: str = "/chat?x=1", user: str = "") -> str:
        return f"{'wss' if self.tls else 'ws'}://{user}127.0.0.1:{listener.port}{target}"

    def web(self, listener: Any, target: str = "/first", user: str = "", host: str = "127.0.0.1") -> str:
        """The URL of ``target`` at an HTTP server."""
        return f"{'https' if self.tls else 'http'}://{user}{host}:{listener.port}{target}"

    @contextmanager
    def client(self, limits: dict[str, int] | None = None, **options: Any) -> Iterator[Any]:
        """An HTTP client of its own, which trusts our servers."""
        if limits:
            options["limits"] = silly.Limits(**limits)
        client = http.newclient(ca=certificates()[0], **options)
        try:
            yield client
        finally:
            client.close()
            turn(3)

    def connect(self, listener: Any, *args: Any, target: str = "/chat?x=1", user: str = "", **options: Any) -> Any:
        """``websocket.connect`` to ``listener``."""
        if self.tls:
            options["ca"] = certificates()[0]
        if isinstance(options.get("limits"), dict):
            options["limits"] = silly.Limits(**options["limits"])
        return websocket.connect(self.url(listener, target, user), *args, **options)


TCP, TLS = Way(False, False), Way(True, False)
TCP_DRIBBLED, TLS_DRIBBLED = Way(False, True), Way(True, True)
_NAMES = {TCP: "whole-tcp", TCP_DRIBBLED: "dribbled-tcp", TLS: "whole-tls", TLS_DRIBBLED: "dribbled-tls"}

every_way = pytest.mark.parametrize("way", list(_NAMES), ids=list(_NAMES.values()))
both_transports = pytest.mark.parametrize("way", [TCP, TLS], ids=["tcp", "tls"])


def drip(peer: Any, data: str | bytes) -> None:
    """Sends byte by byte to the end, or until the connection is gone."""
    for byte in data.encode("latin-1") if isinstance(data, str) else data:
        if not peer.conn.write(bytes((byte,))):
            return
        peer.conn._stream.flush()
        turn()


def proven_at(peer: Any, data: bytes) -> int:
    """Sends byte by byte, and waits after each for what that leads to: how many were sent when the answer came."""
    for count, byte in enumerate(data, 1):
        peer.send(bytes((byte,)))
        turn(4)
        if peer.conn.unreadbytes():
            return count
    return len(data) + 1


class Held:
    """A handler that upgrades every request with ``options``, hands over what ``upgrade`` returned (``pop``, ``result``),
    and returns when the test ends."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.paths: list[str] = []
        self._results = channel.new()
        self._held: list[Any] = []

    def __call__(self, stream: Any) -> None:
        self.paths.append(stream.path)
        try:
            sock, err = websocket.upgrade(stream, **self.options)
        except Exception as exc:
            self._results.push((None, exc))
            raise
        self._results.push((sock, err))
        if sock is not None:
            hold = channel.new()
            self._held.append(hold)
            hold.pop()

    def result(self) -> Any:
        item, err = self._results.pop()
        assert err is None
        return item

    def pop(self) -> Any:
        sock, err = self.result()
        assert err is None
        return sock

    def release(self) -> None:
        held, self._held = self._held, []
        for hold in held:
            hold.close()


def request(*fields: str, first: str = "GET /chat?x=1 HTTP/1.1", without: tuple[str, ...] = ()) -> bytes:
    """An upgrade request. ``fields`` take the place of the good ones of the same name; ``without`` are left out."""
    good = [
        "Host: test",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    gone = {name_of(line) for line in fields} | {name.lower() for name in without}
    lines = [line for line in good if name_of(line) not in gone]
    return "\r\n".join([first, *lines, *fields, "", ""]).encode("latin-1")


def name_of(line: str) -> str:
    return line.split(":")[0].strip().lower()


def answer(head: str, *fields: str, without: tuple[str, ...] = (), first: str = "HTTP/1.1 101 Switching Protocols") -> bytes:
    """The right answer to the upgrade request ``head``; ``fields`` and ``without`` as for ``request``."""
    key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key: "))
    good = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept_key(key)}"]
    gone = {name_of(line) for line in fields} | {name.lower() for name in without}
    lines = [line for line in good if name_of(line) not in gone]
    return "\r\n".join([first, *lines, *fields, "", ""]).encode("latin-1")


DEFLATE = "permessage-deflate"


def taken(head: str) -> str:
    """The answer that takes the offer of permessage-deflate in ``head``: a window that it asks for is granted."""
    asked = re.search(r"server_max_window_bits=\d+", head)
    return f"{DEFLATE}; {asked[0]}" if asked else DEFLATE


@contextmanager
def server_role(
    way: Way, limits: dict[str, int] | None = None, extension: str = "", **options: Any
) -> Iterator[tuple[Any, Peer]]:
    """A WebSocket of ``upgrade`` and its raw client, which offers ``extension``."""
    held = Held(**options)
    with way.serving(held, limits) as server:
        peer = way.dial(server)
        peer.send(request(*([f"Sec-WebSocket-Extensions: {extension}"] if extension else [])))
        response = peer.response()
        assert response.status == 101
        assert ("sec-websocket-extensions" in response.header) is bool(extension)
        try:
            yield held.pop(), peer
        finally:
            peer.close()
            held.release()


@contextmanager
def client_role(
    way: Way, limits: dict[str, int] | None = None, extension: str = "", **options: Any
) -> Iterator[tuple[Any, Peer]]:
    """A WebSocket of ``connect`` and its raw server, which answers with ``extension``."""
    peers = channel.new()

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        head = peer.read("\r\n\r\n").decode("latin-1")
        assert (DEFLATE in head) is bool(extension)
        line = f"Sec-WebSocket-Extensions: {extension.replace(DEFLATE, taken(head))}"
        peer.send(answer(head, *([line] if extension else [])))
        peers.push(peer)

    if limits:
        options["limits"] = silly.Limits(**limits)
    with way.raw_server(script) as listener:
        sock, err = way.connect(listener, **options)
        assert err is None, err
        (peer, _) = peers.pop()
        try:
            yield sock, peer
        finally:
            peer.close()
            sock.close()


Role = Callable[..., AbstractContextManager[tuple[Any, Any]]]
both_roles = pytest.mark.parametrize("role", [server_role, client_role], ids=["server", "client"])


def read(sock: Any) -> Any:
    """A read that is bounded."""
    return sock.read(WITHIN)


class Memory:
    """How much more memory was in use than before, in bytes: at the highest (``peak``), and at the end (``held``)."""

    peak = held = 0

    def __enter__(self) -> Memory:
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        return self

    def __exit__(self, *exc: object) -> None:
        now, highest = tracemalloc.get_traced_memory()
        self.held, self.peak = now - self._before, highest - self._before
        tracemalloc.stop()


def fin_without_close_notify(peer: Any) -> None:
    """Ends TCP alone, in silence for TLS."""
    peer.conn._stream.sock.shutdown(socket.SHUT_WR)


def refused(way: Way, data: bytes, *, behind: bytes = b"", limits: dict[str, int] | None = None, **options: Any) -> Any:
    """Sends ``data`` to a server that upgrades what reaches its handler with ``options``.

    The response, which must be final, and the last thing on the connection; no request but the first may have reached the
    handler, and that must have been refused.
    """
    held = Held(**options)
    with way.serving(held, limits) as server, way.dial(server) as peer:
        way.deliver(peer, data + behind)
        response = peer.response()
        assert response.status >= 400
        assert "close" in response.header["connection"]
        assert "sec-websocket-accept" not in response.header
        peer.eof()
        if held.paths:
            sock, err = held.result()
            assert sock is None
            assert isinstance(err, str)
    assert len(held.paths) <= 1
    return response


@contextmanager
def accepted(way: Way, data: bytes, limits: dict[str, int] | None = None, **options: Any) -> Iterator[tuple[Any, Peer, Any]]:
    """Sends ``data``, which must be upgraded: the socket, the raw client and the response."""
    held = Held(**options)
    with way.serving(held, limits) as server:
        peer = way.dial(server)
        way.deliver_all(peer, data)
        response = peer.response()
        try:
            assert response.status == 101, response
            yield held.pop(), peer, response
        finally:
            peer.close()
            held.release()


def connecting(
    way: Way, reply: Callable[[str], bytes], *args: Any, stays: bool = False, limit: int | None = None, **options: Any
) -> Any:
    """Connects to a raw server that answers the request's head with ``reply(head)``, and then ends TCP or ``stays``.

    ``(sock, err, heads)``, the heads of all the connections that were made.
    """
    heads: list[str] = []
    peers: list[Any] = []

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        heads.append(peer.read("\r\n\r\n").decode("latin-1"))
        data = reply(heads[-1])
        if way.dribbled:
            peer.dribble(data[:limit])
        else:
            conn.write(data)
            conn._stream.flush()
        if stays:
            peers.append(peer)
        else:
            conn.close()

    with way.raw_server(script) as listener:
        sock, err = way.connect(listener, *args, **options)
        turn(3)
        for peer in peers:
            peer.close()
    return sock, err, heads


def ended(peer: Any) -> None:
    """The connection must end within the bound: in order, by an alert or by a reset; what comes before that is dropped."""
    while True:
        data, err = peer.conn.read(1, WITHIN)
        if data is None:
            assert err != errno.TIMEDOUT
            return


# ---- HTTP requests --------------------------------------------------------------------------------------------------

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
HTTP_LOG = r"INFO http: 127\.0\.0\.1:\d+: "


def _by_reads(stream: Any) -> tuple[bytes, str | None]:
    got = b""
    while True:
        data, err = stream.read(1)
        if data is None:
            return got, None if err == errno.EOF else err
        got += data


def _by_pieces(stream: Any) -> tuple[bytes, str | None]:
    pieces = stream.pieces()
    got = b"".join(pieces)
    return got, pieces.err


BODY_READERS: dict[str, Callable[[Any], tuple[bytes | None, str | None]]] = {
    "readall": lambda stream: stream.readall(),
    "read": _by_reads,
    "pieces": _by_pieces,
    "unread": lambda stream: (b"", None),
}
"""The ways in which a handler may take a request's body: what came, and why it ended early. ``body_timeout`` bounds them."""


class Seen:
    """A handler that takes the body (``how``) and answers with it; it keeps the ``requests`` it saw and their ``bodies``."""

    def __init__(self, how: str = "readall") -> None:
        self._read = BODY_READERS[how]
        self.requests: list[str] = []
        self.bodies: list[tuple[bytes | None, str | None]] = []
        self.trailers: list[Any] = []

    def __call__(self, stream: Any) -> None:
        self.requests.append(f"{stream.method} {stream.path}")
        body, err = self._read(stream)
        self.bodies.append((body, err))
        self.trailers.append(stream.trailer)
        if err is None:
            stream.respond(200)
            stream.close(body)


def get(*fields: str, first: str = "GET /first HTTP/1.1", host: str | None = "Host: x", body: str | bytes = b"") -> bytes:
    """An HTTP request, byte for byte as given: ``first``, ``host``, ``fields``, an empty line and ``body``."""
    lines = [first, *([] if host is None else [host]), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body.encode("latin-1") if isinstance(body, str) else body)


def post(*fields: str, body: str | bytes = b"") -> bytes:
    return get(*fields, first="POST /first HTTP/1.1", body=body)


def chunked(body: str | bytes) -> bytes:
    """A POST whose chunked body is ``body``, as it goes on the wire."""
    return post("Transfer-Encoding: chunked", body=body)


def http_refused(
    way: Way, data: bytes, *, handled: int = 0, seen: Seen | None = None, limits: dict[str, int] | None = None
) -> Any:
    """Sends ``data`` to a server, and a request behind it: the final answer, the last thing on the connection.

    The handler has been called for the first ``handled`` requests; never for what came behind.
    """
    seen = seen or Seen()
    with way.serving(seen, limits) as server, way.dial(server) as peer:
        way.deliver(peer, data + SMUGGLED)
        response = peer.response()
        assert response.header["connection"] == "close"
        peer.eof()
        peer.conn.write(SMUGGLED)  # dribbled, the answer came before it
        turn(3)
    turn(2)
    assert seen.requests == ["POST /first"] * handled
    return response


def http_answered(way: Way, data: bytes, *, seen: Seen | None = None, limits: dict[str, int] | None = None) -> Any:
    """Sends ``data``, one good request, and another behind it: the answer to the first. Both are served, and no more."""
    seen = seen or Seen()
    with way.serving(seen, limits) as server, way.dial(server) as peer:
        way.deliver_all(peer, data)
        response = peer.response(data.split(b" ")[0].decode())
        peer.send(b"GET /behind HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.response().status == 200
        peer.silent()
    assert len(seen.requests) == 2
    assert seen.requests[1] == "GET /behind"
    return response


# ---- HTTP responses -------------------------------------------------------------------------------------------------

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
"""What must never be taken for an answer."""
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"


class Told(NamedTuple):
    """A request that a raw server got: its head as text, its body, and the number of its connection, from 0."""

    head: str
    body: bytes
    connection: int

    def all(self, name: str) -> list[str]:
        """The values of a field."""
        return [line.partition(": ")[2] for line in self.head.split("\r\n")[1:] if name_of(line) == name]


class Origin:
    """A raw HTTP server: the requests it was told (``told``), its ``connections``, and its listener's ``port``."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.connections: list[Peer] = []
        self.port = 0

    def ended(self, number: int) -> None:
        """Our client must have ended connection ``number``."""
        ended(self.connections[number])


@contextmanager
def origin(way: Way, answer: Callable[[Told, Peer], object], bodies: bool = True) -> Iterator[Origin]:
    """A raw server that calls ``answer(told, peer)`` for each request, until that returns True or the client has gone.

    ``bodies``: it reads those of requests first.
    """
    server = Origin()

    def script(conn: Any) -> None:
        number = len(server.connections)
        peer = Peer(conn)
        server.connections.append(peer)
        while True:
            head, _ = conn.read("\r\n\r\n", WITHIN)
            if head is None:
                conn.close()
                return
            told = Told(head[:-4].decode("latin-1"), b"", number)
            length = told.all("content-length")
            body = b""
            if bodies:
                body = peer.read(int(length[0])) if length else peer.chunked() if told.all("transfer-encoding") else b""
            server.told.append(told._replace(body=body))
            if answer(server.told[-1], peer):
                return

    with way.raw_server(script) as listener:
        server.port = listener.port
        try:
            yield server
        finally:
            for peer in server.connections:
                peer.close()
            turn(3)


def first_then_good(way: Way, data: bytes) -> Callable[[Told, Peer], object]:
    """Answers on the first connection with ``data``, on each later one with GOOD."""

    def answer(told: Told, peer: Peer) -> bool:
        if told.connection:
            peer.send(GOOD)
            return False
        if way.dribbled:
            drip(peer, data)
        else:
            peer.conn.write(data)
            peer.conn._stream.flush()
        return True

    return answer


def response_refused(
    way: Way, data: bytes, *, method: str = "GET", limits: dict[str, int] | None = None, **options: Any
) -> str:
    """Answers a request with ``data``, and a response behind it: the error that ``fetch`` gives.

    The connection ends, and the next request has its answer from another.
    """
    with origin(way, first_then_good(way, data + POISON)) as server, way.client(limits, **options) as client:
        url = way.web(server)
        response, err = client.fetch(method, url)
        assert response is None, (response, response.body[:100])
        assert isinstance(err, str)
        assert err.startswith(f"http {method} {url}: ")
        assert err.isprintable()
        assert len(err) < 500
        server.ended(0)
        good, failed = client.get(way.web(server, "/second"))
        assert failed is None
        assert good.body == b"good"
        assert [told.connection for told in server.told] == [0, 1]
    return err
