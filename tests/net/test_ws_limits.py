"""Each limit of a WebSocket: what passes, what doesn't, and that its name is in the error, the cause and the close reason."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

import silly
from silly.net import websocket

from ..helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    WITHIN,
    both_sides,
    client_side,
    joined,
    raw_server,
    server_side,
    spawn,
    turn,
)
from .support import until
from .ws_support import narrow, refused

KIB = 1024
MIB = 1024 * 1024
RSV1 = 0x40
Side = Callable[..., AbstractContextManager[tuple[Any, Any]]]


@pytest.fixture(params=[server_side, client_side], ids=["server", "client"])
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def struck(sock: Any, peer: Any, code: int, text: str, logs: Any) -> None:
    """The limit was exceeded: every error has its name."""
    logs.expect(f"INFO websocket: .*{text}.*: close {code}$")
    data, err = sock.read(WITHIN)
    assert data is None
    assert text in err
    assert text in sock.cause
    assert sock.closecode == code
    assert text in sock.closereason
    got, reason = peer.get_close()
    assert got == code
    assert text in reason
    assert sock.write("x") == (False, err)
    assert sock.read() == (None, err)


MESSAGES: dict[str, Callable[[Any, int], bytes]] = {
    "one frame": lambda peer, size: peer.frame(FIN | BINARY, b"x" * size),
    "text": lambda peer, size: peer.frame(FIN | TEXT, b"x" * size),
    "two frames": lambda peer, size: peer.frame(TEXT, b"x" * 600) + peer.frame(FIN | CONTINUATION, b"x" * (size - 600)),
    "empty end": lambda peer, size: peer.frame(BINARY, b"x" * size) + peer.frame(FIN | CONTINUATION),
    "compressed": lambda peer, size: peer.frame(FIN | RSV1 | BINARY, deflated(b"x" * size)),
    "compressed fragments": lambda peer, size: peer.frame(RSV1 | TEXT, deflated(b"x" * size)[:3])
    + peer.frame(FIN | CONTINUATION, deflated(b"x" * size)[3:]),
}


@pytest.mark.parametrize("form", MESSAGES)
def test_message(side: Side, form: str, logs: Any) -> None:
    with side({"message": 1000}, compression=form.startswith("compressed")) as (sock, peer):
        peer.send(MESSAGES[form](peer, 1000))
        data, typ = sock.read(WITHIN)
        assert (len(data), typ in ("text", "binary")) == (1000, True)
        peer.send(MESSAGES[form](peer, 1001))
        struck(sock, peer, 1009, "the limit 'message' of 1000 bytes", logs)


def test_a_long_message_is_refused_at_its_header(side: Side, logs: Any) -> None:
    with side({"message": 1000}) as (sock, peer):
        peer.send(peer.frame(FIN | BINARY, b"x" * 1001)[:8])
        struck(sock, peer, 1009, "the limit 'message' of 1000 bytes", logs)


@pytest.mark.parametrize("empty", [False, True])
def test_fragments(side: Side, empty: bool, logs: Any) -> None:
    with side({"fragments": 3}) as (sock, peer):
        part = b"" if empty else b"x"
        peer.send(peer.frame(BINARY, part) + peer.frame(CONTINUATION, part) + peer.frame(FIN | CONTINUATION, part))
        assert sock.read(WITHIN) == (part * 3, "binary")
        peer.send(peer.frame(BINARY, part) + peer.frame(CONTINUATION, part) * 3)
        struck(sock, peer, 1008, "the limit 'fragments' of 3", logs)


@pytest.mark.parametrize("reads", [False, True])
def test_control_frames(side: Side, reads: bool, logs: Any) -> None:
    text = "the limit 'control_frames' of 5"
    logs.expect(f"{text} from a peer that doesn't read: close 1008$")
    with side({"control_frames": 5, "linger": 200}) as (sock, peer):
        writing = spawn(lambda: sock.write(bytes(32 * MIB)))
        until(lambda: sock._session.stream.blocked)

        def read_all() -> Any:
            while (got := sock.read())[0] is not None:
                pass
            return got

        reading = spawn(read_all if reads else lambda: None)
        peer.send(peer.frame(FIN | PING, b"p") * 5)
        turn(5)
        assert sock.closecode is None
        peer.send(peer.frame(FIN | PING, b"p"))
        until(lambda: sock.closecode is not None)
        err = sock.read()[1]
        assert (sock.closecode, text in sock.closereason, text in sock.cause, text in err) == (1008, True, True, True)
        assert joined(writing) == (False, err)
        if reads:
            assert joined(reading) == (None, err)
        peer.close()


def test_control_frames_of_a_peer_that_reads_do_not_count(side: Side) -> None:
    with side({"control_frames": 1}) as (sock, peer):
        peer.send(peer.frame(FIN | PING, b"p") * 50)
        for _ in range(50):
            assert sock.read(WITHIN) == (b"p", "ping")
            peer.get()


def test_control_frames_of_a_peer_that_reads_slowly_do_not_add_up(side: Side) -> None:
    """The kernel refuses output all the time; the count begins anew whenever the peer has taken most of what was unsent."""
    with side({"control_frames": 2, "unsent": 512 * KIB}) as (sock, peer):
        narrow(sock, peer)
        stop = False
        seen: list[bytes] = []

        def write() -> None:
            while not stop and sock.write(bytes(64 * KIB - 1)):
                pass

        def read() -> Any:
            while (got := sock.read())[1] == "ping":
                seen.append(got[0])
            return got

        writing, reading = spawn(write), spawn(read)
        for i in range(6):
            refused(sock, 1)
            peer.put(FIN | PING, f"{i} first")
            peer.put(FIN | PING, f"{i} second")
            until(lambda i=i: len(seen) == 2 * i + 2)
            while (frame := peer.get())[0] == FIN | BINARY:
                pass
            assert frame == (FIN | PONG, b"%d second" % i)
        assert sock.cause is None
        stop = True
        peer.put(FIN | TEXT, "end")
        assert joined(reading) == ("end", "text")
        while not len(writing):
            assert peer.get()[0] == FIN | BINARY
        joined(writing)


def test_pong_timeout(side: Side, logs: Any) -> None:
    with side({"ping_interval": 20, "pong_timeout": 40}) as (sock, peer):
        assert peer.get()[0] == FIN | PING
        struck(sock, peer, 1011, "the limit 'pong_timeout'", logs)


@pytest.mark.parametrize("how", ["write", "message", "ping"])
def test_write_timeout(side: Side, how: str) -> None:
    with side({"write_timeout": 100}) as (sock, _peer):

        def write() -> Any:
            if how == "write":
                return sock.write(bytes(64 * MIB))
            if how == "ping":
                while (result := sock.write(b"x" * 125, "ping")):
                    pass
                return result
            with sock.message() as message:
                while (result := message.write(bytes(65536))):
                    pass
            return result

        ok, err = joined(spawn(write))
        assert not ok
        assert "the limit 'write_timeout' of 100 ms" in err
        assert "the limit 'write_timeout' of 100 ms" in sock.cause
        assert sock.read() == (None, err)
        assert (sock.closecode, sock.closereason) == (1006, "")


def test_close_timeout(side: Side) -> None:
    text = "within the limit 'close_timeout' of 30 ms"
    with side({"close_timeout": 30}) as (sock, peer):
        assert sock.write(b"\x03\xe8", "close") == (True, None)
        data, err = sock.read()
        assert data is None
        assert text in err
        assert text in sock.cause
        assert sock.closecode == 1006
        assert peer.get() == (FIN | CLOSE, b"\x03\xe8")
        peer.eof()


def test_handshake_timeout() -> None:
    with raw_server(lambda conn: conn.read("never", WITHIN)) as listener:
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}", limits=silly.Limits(handshake_timeout=30))
        assert sock is None
        assert "the limit 'handshake_timeout' is 30 ms" in err


def test_unsent(side: Side) -> None:
    """A writer waits past it, and goes on once a quarter is left; so the unsent bytes stay below it and one fragment."""
    with side({"unsent": 256 * KIB}) as (sock, peer):
        highest = 0
        done = []

        def write() -> None:
            for _ in range(200):
                assert sock.write(bytes(65000)) == (True, None)
            done.append(1)

        writing = spawn(write)
        until(lambda: sock._session.stream.blocked and sock.conn.unsentbytes() > 256 * KIB)
        turn(5)
        assert not done
        for _ in range(200):
            highest = max(highest, sock.conn.unsentbytes())
            assert len(peer.get()[1]) == 65000
        joined(writing)
        assert highest <= 256 * KIB + 65000 + 14


@pytest.mark.parametrize("mark", [1, 1000, 100_000])
def test_receive_mark(side: Side, mark: int) -> None:
    """Past it TCP holds the peer back, and nothing is lost."""
    with side({"receive_mark": mark}) as (sock, peer):
        count = 4 * MIB // 1004
        sending = spawn(lambda: peer.send(peer.frame(FIN | BINARY, b"x" * 1000) * count))
        until(lambda: sock._session.stream.paused)
        turn(10)
        assert mark <= sock.conn.unreadbytes() < mark + 16 * KIB
        for _ in range(count):
            assert sock.read(WITHIN) == (b"x" * 1000, "binary")
        joined(sending)


def test_the_limits_hold_in_both_ends() -> None:
    with both_sides({"message": 100}) as (server, client):
        assert client.write("x" * 100, "text") == (True, None)
        assert server.read(WITHIN) == ("x" * 100, "text")
        pieces = client.pieces(WITHIN)
        with server.message("text") as message:
            message.write("y" * 100_000)
        assert "".join(pieces) == "y" * 100_000
