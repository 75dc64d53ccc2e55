"""A reader that is slow, but steady, gets everything, though the kernel makes us wait for longer than ``write_timeout``; one
that is slower than ``write_rate`` is cut off. Whatever is written, and however.

The kernel is given much room, so it accepts nothing for several times ``write_timeout``. The readers are paced by a bucket of
tokens. `make soak` shows the same at the real pace.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import check, errno, time
from silly.net import http, tcp, tls
from silly.sync import channel

from ..helpers import FIN, PING, PONG, WITHIN, joined, raw_server, serving, spawn
from . import authorities, tls_support
from .http_support import certs, connected
from .support import Job, until
from .ws_support import SIDES, Side

SIZE = 2 * 2**20
ROOM = 512 * 1024
"""What the kernel holds for the reader; it doubles that."""
PACE = 200_000
"""Bytes a second: a third of the room takes seconds."""
PIECE = 4096
PIECES = 40
"""The reader is slow for so many pieces, about 0.8 s, then it hurries."""
LIMITS = {"write_timeout": 400, "unsent": 128 * 1024}
DEMANDING = {"write_timeout": 200, "write_rate": 10**7, "unsent": 128 * 1024}
"""With these the reader is the slow-read attack."""
GIVEN_UP = r"slower than the limit 'write_rate' of 10000000 bytes a second|no progress in sending"
"""The second where the machine stalls."""
DATA = os.urandom(SIZE)


class Bucket:
    """Tokens that come at PACE; ``take`` waits for some."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._taken = 0

    def take(self, count: int) -> None:
        self._taken += count
        due = self._begin + self._taken * 1000 / PACE
        while (left := due - time.monotonic()) > 0:
            time.sleep(max(left, 1))


def roomy(stream: Any) -> None:
    """The kernel accepts much of this stream's output, and then little by little."""
    stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)


def slowly(conn: Any, size: int, pieces: int = PIECES) -> bytes:
    """Reads ``size`` bytes, slowly at first."""
    bucket = Bucket()
    got = bytearray()
    for _ in range(pieces):
        bucket.take(PIECE)
        got += check(conn.read(PIECE, WITHIN))
    return bytes(got + check(conn.read(size - len(got), WITHIN)))


# ---- streams ---------------------------------------------------------------------------------------------------------


@contextmanager
def pair_of(way: str, limits: dict[str, int]) -> Iterator[tuple[Any, Any]]:
    """A client with ``limits``, which writes, and the small connection of a server, which reads."""
    conns = channel.new()
    done = channel.new()

    def accept(conn: Any) -> None:
        conns.push(conn)
        done.pop()

    with ExitStack() as stack:
        options = {"limits": silly.Limits(**limits)}
        folder = stack.enter_context(short_folder())
        if way == "tls":
            listener = stack.enter_context(tls_support.listening(accept))
        else:
            listener = check(tcp.listen("127.0.0.1:0" if way == "tcp" else f"unix:{folder}/s", accept))
            stack.callback(listener.close)
        if way != "unix":
            # What it accepts inherits this. Made smaller later, it would drop what is on the way.
            listener._bound.socks[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        if way == "tls":
            conn = tls_support.connect(listener, **options)
        else:
            conn = check(tcp.connect(f"unix:{folder}/s" if way == "unix" else f"127.0.0.1:{listener.port}", **options))
        stack.callback(conn._stream.abort)
        stack.callback(done.close)
        peer, _ = conns.pop()
        stack.callback(peer._stream.abort)
        roomy(conn._stream)
        peer.limit(1)
        yield conn, peer


@contextmanager
def short_folder() -> Iterator[str]:
    """The path of a socket has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="silly-") as name:
        yield name


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def sender(conn: Any, how: str, file: int) -> Callable[[], str | None]:
    if how == "sendfile":
        return lambda: conn._stream.sendfile(file, 0, SIZE)  # type: ignore[no-any-return]

    def pieces() -> str | None:
        for at in range(0, SIZE, 64 * 1024):
            _, err = conn.write(DATA[at : at + 64 * 1024])
            if err is not None:
                return str(err)
        return None

    return pieces if how == "pieces" else lambda: conn.write(DATA)[1]  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["write", "pieces", "sendfile"])
@pytest.mark.parametrize("way", ["tcp", "unix", "tls"])
def test_a_steady_slow_reader_gets_everything(way: str, how: str, file: int) -> None:
    with pair_of(way, LIMITS) as (conn, peer):
        sending = Job(sender(conn, how, file))
        assert slowly(peer, SIZE) == DATA
        assert sending.result() is None
        assert conn.isalive()


@pytest.mark.parametrize("how", ["write", "pieces", "sendfile"])
@pytest.mark.parametrize("way", ["tcp", "unix", "tls"])
def test_the_slow_read_attack_is_cut(way: str, how: str, file: int) -> None:
    """It takes a little all the time, and less than ``write_rate``. The kernel drops what it held for it."""
    with pair_of(way, DEMANDING) as (conn, peer):
        sending = Job(sender(conn, how, file))
        bucket = Bucket()
        while conn.isalive():
            bucket.take(PIECE)
            check(peer.read(PIECE, WITHIN))
        assert sending.result() == errno.TIMEDOUT
        assert re.search(GIVEN_UP, conn._stream.why)
        assert conn._stream.sock is None
        while (err := peer.read(PIECE, WITHIN)[1]) is None:
            pass
        assert err == (errno.EOF if way == "unix" else errno.CONNRESET)


# ---- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["at once", "pieces", "file"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_slow_client_gets_its_response(how: str, scheme: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)

    def handler(stream: Any) -> None:
        roomy(stream.conn._stream)
        if how == "file":
            http.sendfile(stream, "/file", tmp_path)
            return
        stream.respond(200, {"content-length": SIZE})
        if how == "pieces":
            for at in range(0, SIZE, 64 * 1024):
                stream.write(DATA[at : at + 64 * 1024])
        stream.closewrite(*([DATA] if how == "at once" else []))

    secure = {"tls": True, "certs": certs()} if scheme == "https" else {}
    with serving(handler, limits=LIMITS, **secure) as server, connected(server) as client:
        client.conn.limit(1)
        client.request("/", "GET", "Connection: close")
        client.read("\r\n\r\n")
        assert slowly(client.conn, SIZE) == DATA
        client.eof()


@contextmanager
def uploading(scheme: str, script: Callable[[Any], object], **options: Any) -> Iterator[tuple[Any, str]]:
    """A client, and the URL of a server that runs ``script(conn)``."""
    with ExitStack() as stack:
        if scheme == "http":
            listener = stack.enter_context(raw_server(script))
        else:
            listener = check(tls.listen("127.0.0.1:0", [authorities.server().entry], script))
            stack.callback(listener.close)
        client = http.newclient(ca=authorities.root().pem, **options)
        stack.callback(client.close)
        yield client, f"{scheme}://localhost:{listener.port}/"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_upload_to_a_slow_server(scheme: str) -> None:
    upload = DATA * 5  # more than the kernel holds for a client
    got = []

    def script(conn: Any) -> None:
        conn.limit(1)
        conn.read("\r\n\r\n", WITHIN)
        got.append(slowly(conn, len(upload)))
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with uploading(scheme, script, limits=silly.Limits(**LIMITS)) as (client, url):
        response, err = client.post(url, None, upload)
        assert err is None
        assert response.body == b"ok"
        assert got == [upload]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_answer_to_an_upload_that_the_kernel_holds(scheme: str) -> None:
    """The time for the answer begins when the server can have the end of the request. It is longer here than a server takes
    to tell that it drops what it can't hold."""

    def script(conn: Any) -> None:
        conn.limit(1)
        conn.read("\r\n\r\n", WITHIN)
        if slowly(conn, SIZE, 2 * PIECES) == DATA:
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with uploading(scheme, script, head_timeout=1000) as (client, url):
        response, err = client.post(url, None, DATA)
        assert err is None
        assert response.body == b"ok"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_takes_no_more_of_an_upload(scheme: str) -> None:
    """It has as long as any reader, not more."""
    hold = channel.new()

    def script(conn: Any) -> None:
        conn.limit(1)
        hold.pop()

    with uploading(scheme, script, head_timeout=50, limits=silly.Limits(write_timeout=50)) as (client, url):
        response, err = client.post(url, None, DATA)
        hold.close()
        assert response is None
        assert errno.TIMEDOUT in err or "'write_timeout'" in err


# ---- WebSocket -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> Side:
    return SIDES[request.param]


def paced(peer: Any, pieces: int = PIECES) -> None:
    """Makes a peer of a WebSocket read ``pieces`` slowly, and then hurry."""
    bucket = Bucket()
    fast = peer.read
    left = pieces
    peer.conn.limit(1)

    def read(size: int) -> bytes:
        nonlocal left
        got = bytearray()
        while left > 0 and len(got) < size:
            piece = min(PIECE, size - len(got))
            bucket.take(piece)
            left -= piece == PIECE
            got += fast(piece)
        return bytes(got + (fast(size - len(got)) if len(got) < size else b""))

    peer.read = read


@pytest.mark.parametrize("how", ["message", "fragments"])
def test_a_slow_peer_gets_its_messages(side: Side, how: str) -> None:
    with side({**LIMITS, "ping_interval": 0}) as (sock, peer):
        roomy(sock.conn._stream)
        paced(peer)

        def send() -> Any:
            if how == "message":
                return sock.write(DATA)
            with sock.message() as message:
                for at in range(0, SIZE, 64 * 1024):
                    message.write(DATA[at : at + 64 * 1024])
            return True, None

        sending = spawn(send)
        got = bytearray()
        while len(got) < SIZE:
            got += peer.get()[1]
        assert bytes(got) == DATA
        assert joined(sending) == (True, None)
        assert sock.cause is None


PARKED = 1024 * 1024
PINGS = {"ping_interval": 30, "pong_timeout": 60, "close_timeout": 50}


def park(sock: Any) -> None:
    """Writes what the kernel accepts at once, for a peer that reads little."""
    sock.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PARKED)
    for at in range(0, PARKED, 64 * 1024):
        assert sock.write(DATA[at : at + 64 * 1024]) == (True, None)
    sock.conn._stream.flush()
    until(lambda: not sock.conn._stream.unsent)


def test_a_ping_behind_output_that_the_kernel_holds(side: Side) -> None:
    """A peer that reads slowly has not come to it, so no pong is due."""
    with side({**PINGS, "write_timeout": 400}) as (sock, peer):
        peer.conn.limit(1)
        park(sock)
        paced(peer)
        for _ in range(3):
            while (frame := peer.get())[0] != FIN | PING:
                pass
            peer.put(FIN | PONG, frame[1])
        assert sock.cause is None


def test_a_peer_that_reads_nothing_is_given_up_all_the_same(side: Side, logs: Any) -> None:
    logs.expect("no pong for 0.06 s")
    with side({**PINGS, "write_timeout": 100}) as (sock, peer):
        peer.conn.limit(1)
        park(sock)
        until(lambda: sock.cause is not None)
        assert "'pong_timeout'" in sock.cause
