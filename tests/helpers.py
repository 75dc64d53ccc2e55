"""What the tests of the protocols share: raw clients and servers that speak bytes, and checks on what they read.

Nothing here uses the code under test but ``silly.net.tcp``: heads, chunks and frames are made and read by hand.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import silly
from silly import errno, task
from silly._core import scheduler
from silly._core.loop import READ
from silly._wire.lines import take
from silly.net import http, tcp, websocket
from silly.sync import channel

from .net.support import reset_on_close

WITHIN = 10_000
"""Milliseconds that bound what a test waits for; only a test that fails waits so long."""

FIN = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The key of RFC 6455, section 1.3, and its answer."""


def turn(count: int = 1) -> None:
    """Lets the loop turn ``count`` times, the selector asked each time."""
    for _ in range(count):
        done = channel.new()
        scheduler.loop.post(done.push, True)
        done.pop()


class Response(NamedTuple):
    """An HTTP response, parsed by hand. ``header`` has the lower-case names, ``lines`` every header line."""

    status: int
    header: dict[str, str]
    lines: list[str]
    body: bytes


class Raw:
    """A connection on which a test sends and reads bytes; everything it waits for is bounded."""

    def __init__(self, conn: Any) -> None:
        self.conn = conn

    @classmethod
    def connect(cls, server: Any) -> Any:
        conn, err = tcp.connect(f"127.0.0.1:{server.port}")
        assert err is None
        return cls(conn)

    def send(self, data: str | bytes) -> None:
        assert self.conn.write(data) == (True, None)
        self.conn._stream.flush()

    def dribble(self, data: str | bytes) -> None:
        """Sends byte by byte; the other side sees each on its own. Stops when that answers, or the connection is gone."""
        for byte in data.encode("latin-1") if isinstance(data, str) else data:
            if not self.conn.write(bytes((byte,))):
                return
            self.conn._stream.flush()
            turn()
            if self.conn.unreadbytes():
                return

    def read(self, n: int | str | bytes) -> bytes:
        data, err = self.conn.read(n, WITHIN)
        assert err is None, (err, bytes(self.conn._stream.buf[:500]))
        return bytes(data)

    def rest(self) -> bytes:
        """Everything up to the peer's end, which must come."""
        stream = self.conn._stream
        got = b""
        while True:
            data, err = self.conn.read(1, WITHIN)
            if data is None:
                assert err == errno.EOF, (err, got[:500])
                return got
            got += data + take(stream.buf, len(stream.buf))

    def eof(self) -> None:
        """The peer must have ended the connection, with nothing more before that."""
        assert self.conn.read(1, WITHIN) == (None, errno.EOF)

    def silent(self) -> None:
        """Nothing has come."""
        turn(5)
        assert self.conn.unreadbytes() == 0
        assert self.conn.isalive()

    def request(self, path: str = "/", method: str = "GET", *fields: str, body: str | bytes = b"") -> None:
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *fields])
        self.send(head.encode("latin-1") + b"\r\n\r\n" + (body.encode() if isinstance(body, str) else body))

    def response(self, method: str = "GET") -> Response:
        """Reads one response, with its body as its framing says."""
        head = self.read("\r\n\r\n").decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        header = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon
            assert name == name.lower()
            header[name] = f"{header[name]}, {value}" if name in header else value
        return Response(int(status), header, lines, self.body(int(status), header, method))

    def body(self, status: int, header: dict[str, str], method: str) -> bytes:
        """Reads a response's body, as its framing says."""
        if method == "HEAD" or status < 200 or status in (204, 304):
            return b""
        if header.get("transfer-encoding") == "chunked":
            assert "content-length" not in header
            return self.chunked()
        if "content-length" in header:
            return self.read(int(header["content-length"]))
        assert header.get("connection") == "close"
        return self.rest()

    def chunked(self) -> bytes:
        body = b""
        while True:
            size = int(self.read("\r\n"), 16)
            body += self.read(size)
            assert self.read(2) == b"\r\n"
            if not size:
                return body

    def reset(self) -> None:
        """Breaks the connection (RST)."""
        reset_on_close(self.conn._stream.sock)
        self.conn._stream.abort()

    def half_close(self) -> None:
        """Ends what this side sends (FIN), and still reads."""
        self.conn._stream.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.conn._stream.abort()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def chunks(data: bytes, size: int) -> bytes:
    """``data`` in chunks of ``size`` bytes, and the last chunk."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n"


@contextmanager
def serving(handler: Callable[[Any], object], **options: Any) -> Iterator[Any]:
    """An HTTP server on a free port of the loopback."""
    limits = options.pop("limits", None)
    if isinstance(limits, dict):
        limits = silly.Limits(**limits)
    if limits is not None:
        options["limits"] = limits
    server, err = http.listen("127.0.0.1:0", handler, **options)
    assert err is None
    try:
        yield server
    finally:
        server.close()
        turn(3)


@contextmanager
def asking(handler: Callable[[Any], object], **options: Any) -> Iterator[Raw]:
    """A connection to a server of its own."""
    with serving(handler, **options) as server, Raw.connect(server) as client:
        yield client


def xor(data: bytes, key: bytes) -> bytes:
    """Masks by hand."""
    size = len(data)
    whole = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


class Peer(Raw):
    """A raw WebSocket peer. ``masks``: it is a client, so what it sends is masked."""

    masks = True

    @staticmethod
    def upgrade_request(*fields: str, key: str = KEY) -> bytes:
        lines = ["GET /chat?x=1 HTTP/1.1", "Host: test", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *fields]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def frame(self, first: int, payload: bytes = b"", length: bytes | None = None) -> bytes:
        """A frame; ``length``: the extended length field as given, right or wrong."""
        size = len(payload)
        bit = 0x80 if self.masks else 0
        if length is not None:
            head = bytes((first, bit | (126 if len(length) == 2 else 127))) + length
        elif size < 126:
            head = bytes((first, bit | size))
        elif size < 65536:
            head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
        if not self.masks:
            return head + payload
        key = os.urandom(4)
        return head + key + xor(payload, key)

    def put(self, first: int, payload: str | bytes = b"") -> None:
        self.send(self.frame(first, payload.encode() if isinstance(payload, str) else payload))

    def put_close(self, code: int = 1000, reason: str = "") -> None:
        self.put(FIN | CLOSE, code.to_bytes(2, "big") + reason.encode())

    def get(self) -> tuple[int, bytes]:
        """The next frame: its first byte and its payload. Its length must be in the shortest form, its mask as it must."""
        first, second = self.read(2)
        assert bool(second & 0x80) is not self.masks
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(self.read(2), "big")
            assert size > 125
        elif size == 127:
            size = int.from_bytes(self.read(8), "big")
            assert size > 65535
        if first & 8:
            assert size <= 125
        if self.masks:
            return first, self.read(size)
        key = self.read(4)
        return first, xor(self.read(size), key)

    def get_close(self) -> tuple[int, str]:
        """The close frame that must come next: code (1005 for none) and reason."""
        first, payload = self.get()
        assert first == FIN | CLOSE, (hex(first), payload[:100])
        return (int.from_bytes(payload[:2], "big") if payload else 1005), payload[2:].decode()


class ServerPeer(Peer):
    """A raw peer that is the server."""

    masks = False


class Upgraded:
    """Upgrades every request, hands the sockets to the test (``pop``), and keeps the handlers until the test ends."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._socks = channel.new()
        self._held: list[Any] = []

    def handler(self, stream: Any) -> None:
        sock, err = websocket.upgrade(stream, **self._options)
        self._socks.push((sock, err))
        if sock is not None:
            hold = channel.new()
            self._held.append(hold)
            hold.pop()

    def pop(self) -> Any:
        (sock, err), _ = self._socks.pop()
        assert err is None
        return sock

    def release(self) -> None:
        """Lets the handlers return."""
        held, self._held = self._held, []
        for hold in held:
            hold.close()


@contextmanager
def server_side(limits: dict[str, int] | None = None, compression: bool = False) -> Iterator[tuple[Any, Peer]]:
    """A WebSocket of ``upgrade``, and the raw client that it talks to."""
    upgraded = Upgraded(compression=compression)
    with serving(upgraded.handler, limits=limits) as server:
        peer = Peer.connect(server)
        peer.send(peer.upgrade_request(*(["Sec-WebSocket-Extensions: permessage-deflate"] if compression else [])))
        assert peer.response().status == 101
        try:
            yield upgraded.pop(), peer
        finally:
            peer.close()
            upgraded.release()


def accept_key(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


@contextmanager
def raw_server(script: Callable[[Any], object]) -> Iterator[Any]:
    """A tcp listener that runs ``script(conn)`` for each connection."""
    listener, err = tcp.listen("127.0.0.1:0", script)
    assert err is None
    try:
        yield listener
    finally:
        listener.close()
        turn(3)


def switching(head: str, extra: bytes = b"", fields: str = "") -> bytes:
    """The right answer to the upgrade request ``head``; ``fields``: more lines of its header."""
    key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("sec-websocket-key: "))
    answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{answer}Sec-WebSocket-Accept: {accept_key(key)}\r\n{fields}\r\n".encode() + extra


@contextmanager
def client_side(limits: dict[str, int] | None = None, compression: bool = False) -> Iterator[tuple[Any, Peer]]:
    """A WebSocket of ``connect``, and the raw server that it talks to."""
    peers = channel.new()
    fields = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n" if compression else ""

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        peer.send(switching(peer.read("\r\n\r\n").decode(), fields=fields))
        peers.push(peer)

    with raw_server(script) as listener:
        options: dict[str, Any] = {"limits": silly.Limits(**limits)} if limits else {}
        options["compression"] = compression
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}/chat?x=1", **options)
        assert err is None
        peer, _ = peers.pop()
        try:
            yield sock, peer
        finally:
            peer.close()
            sock.close()


@contextmanager
def both_sides(limits: dict[str, int] | None = None, compression: bool = False) -> Iterator[tuple[Any, Any]]:
    """A WebSocket of ``upgrade`` and the one of ``connect`` that it talks to."""
    upgraded = Upgraded(compression=compression)
    with serving(upgraded.handler, limits=limits) as server:
        client, err = websocket.connect(
            f"ws://127.0.0.1:{server.port}", compression=compression, limits=silly.Limits(**limits or {})
        )
        assert err is None
        try:
            yield upgraded.pop(), client
        finally:
            closing = spawn(client.close)
            upgraded.release()
            joined(closing)


def spawn(func: Callable[[], object]) -> Any:
    """``func`` in a task; its result comes by ``pop()``."""
    done = channel.new()
    task.fork(lambda: done.push((func(),)))
    return done


def ahead_of_reader(conn: Any, func: Callable[[], object]) -> Any:
    """``spawn`` for a task that runs just before the reader of ``conn``, which data wakes that its peer has sent already."""
    assert conn._stream._reader is not None
    done = spawn(func)
    conn._stream.on_event(READ)
    assert conn.unreadbytes()
    assert conn._stream._reader is None
    return done


def joined(done: Any) -> Any:
    (item, err) = done.pop()
    assert err is None
    return item[0]
