"""Ends of connections: closing handshakes that peers get wrong, resets in every state, TLS cut short, floods."""

from __future__ import annotations

from typing import Any

import pytest

from silly import errno
from silly._core import scheduler

from ..helpers import BINARY, CLOSE, FIN, PING, PONG, TEXT, ServerPeer, joined, spawn, turn
from ..net.support import until
from .support import (
    LOG,
    MIB,
    SHORT,
    TCP,
    TLS,
    Held,
    Role,
    Way,
    answer,
    both_roles,
    both_transports,
    every_way,
    fin_without_close_notify,
    read,
    request,
)


@both_transports
@both_roles
def test_peer_never_answers_close(role: Role, way: Way) -> None:
    """TCP is dropped once ``close_timeout`` is over."""
    with role(way, SHORT) as (sock, peer):
        assert sock.close(1001, "bye") == (True, None)
        assert sock.closecode == 1006
        assert peer.get_close() == (1001, "bye")
        peer.eof()


@both_transports
@both_roles
def test_peer_sends_on_and_never_answers_close(role: Role, way: Way) -> None:
    """What it sends is dropped, and buys it no time."""
    with role(way, SHORT) as (sock, peer):
        closed: list[Any] = []
        closing = spawn(lambda: closed.append(sock.close()))
        assert peer.get_close() == (1000, "")
        while not closed:
            peer.conn.write(peer.frame(FIN | TEXT, b"more") * 10)
            turn()
        joined(closing)
        assert closed == [(True, None)]
        assert sock.closecode == 1006


@every_way
@both_roles
def test_peer_answers_close_but_keeps_tcp_open(role: Role, way: Way) -> None:
    """Section 7.1.1: the server ends TCP at once, the client when the server hasn't within ``close_timeout``."""
    with role(way, SHORT) as (sock, peer):
        closing = spawn(sock.close)
        assert peer.get_close() == (1000, "")
        way.deliver(peer, peer.frame(FIN | CLOSE, b"\x03\xe8"))
        assert joined(closing) == (True, None)
        assert sock.closecode == 1000
        peer.eof()


@every_way
@both_roles
def test_simultaneous_close(role: Role, way: Way) -> None:
    """Both closes cross: each is the other's answer, and none is echoed."""
    with role(way, SHORT) as (sock, peer):
        closing = spawn(lambda: sock.close(3000, "ours"))
        turn()
        way.deliver_all(peer, peer.frame(FIN | CLOSE, b"\x0b\xb9theirs"))
        assert joined(closing) == (True, None)
        assert (sock.closecode, sock.closereason) == (3001, "theirs")
        assert peer.get_close() == (3000, "ours")
        peer.eof()


@both_transports
def test_simultaneous_close_of_both_ends(way: Way) -> None:
    held = Held()
    with way.serving(held) as server:
        sock, err = way.connect(server)
        assert err is None
        other = held.pop()
        closing = [spawn(lambda: sock.close(3001, "one")), spawn(lambda: other.close(3002, "two"))]
        assert [joined(each) for each in closing] == [(True, None)] * 2
        assert (sock.closecode, other.closecode) == (3002, 3001)
        held.release()


@every_way
@both_roles
@pytest.mark.parametrize("first", [FIN | 3, 0xC1, CLOSE, FIN], ids=["opcode", "rsv1", "fragmented-close", "orphan"])
def test_fault_while_we_close(first: int, role: Role, way: Way, logs: Any) -> None:
    """A second close frame may not be sent; what comes is looked at no more."""
    logs.expect(LOG)
    with role(way, {"close_timeout": 300}) as (sock, peer):  # the fault has to come in time
        closing = spawn(sock.close)
        assert peer.get_close() == (1000, "")
        way.deliver(peer, peer.frame(first, b"\x03\xe8"))
        assert joined(closing) == (True, None)
        peer.eof()


@both_transports
@both_roles
@pytest.mark.parametrize("how", ["reset", "fin", "close"])
@pytest.mark.parametrize("state", ["open", "header", "length", "payload", "message", "closing", "closed-by-peer", "writing"])
def test_lost(state: str, how: str, role: Role, way: Way, logs: Any) -> None:
    """Reset, a FIN (on TLS one without close_notify) or an ordered end, in each state. Waiting tasks wake with an error."""
    logs.allow("INFO tls: ")
    with role(way, SHORT) as (sock, peer):
        tasks = []
        if state == "closed-by-peer":
            peer.put_close(1001)
            assert read(sock) == (b"\x03\xe9", "close")
        elif state == "closing":
            tasks = [spawn(sock.close)]
            peer.get_close()
        elif state == "writing":
            tasks = [spawn(lambda: sock.write(b"x" * 16 * MIB)) for _ in range(2)]
            until(lambda: sock.conn.unsentbytes() > MIB)
        else:
            data = peer.frame(FIN | BINARY, b"x" * 200) if state != "message" else peer.frame(BINARY, b"x") + b"\0"
            peer.send(data[: {"open": 0, "header": 1, "length": 3, "payload": 100, "message": 100}[state]] or b"")
        reading = None if state in ("closing", "closed-by-peer") else spawn(lambda: read(sock))
        turn(2)
        {"reset": peer.reset, "fin": lambda: fin_without_close_notify(peer), "close": peer.close}[how]()
        if reading is not None and not (state == "writing" and how == "fin"):
            data, err = joined(reading)
            assert data is None
            assert isinstance(err, str)
            assert sock.closecode == 1006
            assert sock.read() == (None, err)
        if state == "writing" and how == "fin":
            # The peer may still read: after its end nothing will tell us, so the writers go on until it is gone.
            peer.close()
            assert joined(reading)[0] is None
        results = [joined(each) for each in tasks]
        if state == "writing":
            assert not any(results)
        if state == "closing":
            assert results == [(True, None)]
        sock.close()
        assert not sock.write("x")
        assert sock.closecode == (1001 if state == "closed-by-peer" else 1006)


@both_transports
@pytest.mark.parametrize("how", ["reset", "fin", "close"])
@pytest.mark.parametrize("size", [0, 1, 40, -2])
def test_server_loses_its_client_in_the_handshake(size: int, how: str, way: Way, logs: Any) -> None:
    """Nothing of a half request reaches the handler."""
    logs.allow(r"INFO (http|tls): ")
    held = Held()
    with way.serving(held) as server:
        peer = way.dial(server)
        peer.send(request()[:size])
        turn(2)
        {"reset": peer.reset, "fin": lambda: fin_without_close_notify(peer), "close": peer.close}[how]()
        until(lambda: not server._connections)
        peer.close()
    assert held.paths == []


@both_transports
@pytest.mark.parametrize("how", ["reset", "fin", "close"])
@pytest.mark.parametrize("size", [0, 1, 40, -2])
def test_client_loses_its_server_in_the_handshake(size: int, how: str, way: Way, logs: Any) -> None:
    logs.allow("INFO tls: ")
    peers = []

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        peers.append(peer)
        peer.send(answer(peer.read("\r\n\r\n").decode())[:size])
        turn(2)
        {"reset": peer.reset, "fin": lambda: fin_without_close_notify(peer), "close": peer.close}[how]()

    with way.raw_server(script) as listener:
        sock, err = way.connect(listener)
        assert sock is None
        assert err.startswith("websocket.connect ws")
        for peer in peers:
            peer.close()


@both_roles
def test_close_notify_missing_is_not_a_close(role: Role) -> None:
    """TLS cut short by a FIN: an error that tells it from an ordered end, and 1006."""
    with role(TLS, SHORT) as (sock, peer):
        peer.put(FIN | TEXT, "last")
        fin_without_close_notify(peer)
        assert read(sock) == ("last", "text")
        data, err = read(sock)
        assert data is None
        assert errno.TLS in err
        assert sock.closecode == 1006


@both_roles
def test_lua_no_close_notify(role: Role) -> None:
    """After the closing handshake our TLS ends with close_notify: else ``eof`` would get ``errno.TLS``."""
    with role(TLS, SHORT) as (sock, peer):
        peer.put_close(1000)
        assert read(sock) == (b"\x03\xe8", "close")
        assert peer.get_close() == (1000, "")
        sock.close()
        peer.eof()


@both_roles
def test_lua_close_has_code_and_echo(role: Role) -> None:
    with role(TCP, SHORT) as (sock, peer):
        peer.put_close(4321, "why")
        assert read(sock)[1] == "close"
        assert peer.get() == (FIN | CLOSE, b"\x10\xe1")
        sock.close()


@both_transports
@both_roles
def test_flood_of_messages_starts_no_tasks(role: Role, way: Way) -> None:
    """Mesop's thread per message: the number of tasks stays, and unread data stays in TCP."""
    with role(way, SHORT) as (sock, peer):
        tasks = len(scheduler.tasks)
        flooding = spawn(lambda: peer.conn.write(peer.frame(FIN | TEXT, b"x" * 100) * 40_000))
        turn(30)
        assert len(scheduler.tasks) <= tasks + 1
        assert sock.conn.unreadbytes() <= 3 * 65536
        for _ in range(100):
            assert read(sock) == ("x" * 100, "text")
        assert len(scheduler.tasks) <= tasks + 1
        sock.close()
        peer.close()
        joined(flooding)


@both_transports
@both_roles
def test_ping_flood(role: Role, way: Way, logs: Any) -> None:
    """While the kernel takes no output the newest pong alone is kept, and past 100 control frames in a row: 1008."""
    logs.expect(LOG + ".*control_frames")
    with role(way, SHORT) as (sock, peer):
        writing = spawn(lambda: sock.write(b"x" * 16 * MIB))
        until(lambda: sock.conn.unsentbytes() > MIB and sock._session.stream.blocked)
        unsent = sock.conn.unsentbytes()
        peer.send(peer.frame(FIN | PING, b"p" * 125) * 300)
        count = 0
        while (found := read(sock))[0] is not None:
            assert found == (b"p" * 125, "ping")
            count += 1
        assert count == 100
        assert "control_frames" in found[1]
        assert sock.closecode == 1008
        # Over TLS the end seals all that waits: 22 bytes more for each 16 KiB.
        assert sock.conn.unsentbytes() < unsent + unsent // 500 + 1000
        peer.close()
        assert not joined(writing)


@both_transports
@both_roles
def test_ping_flood_of_a_peer_that_reads(role: Role, way: Way) -> None:
    """Each ping gets its own pong, in order."""
    count = 2000
    with role(way, SHORT) as (sock, peer):
        flooding = spawn(lambda: peer.conn.write(b"".join(peer.frame(FIN | PING, b"%d" % i) for i in range(count))))
        reading = spawn(lambda: [read(sock)[0] for _ in range(count)])
        for i in range(count):
            assert peer.get() == (FIN | PONG, b"%d" % i)
        assert joined(reading) == [b"%d" % i for i in range(count)]
        assert joined(flooding)


@both_transports
def test_lua_rejected_connects_and_closes_leave_nothing(way: Way) -> None:
    """Twenty; the fixture counts what is left."""
    held = Held()
    with way.serving(held, SHORT) as server:
        for i in range(20):
            peer = way.dial(server)
            peer.send(request())
            assert peer.response().status == 101
            held.pop()
            (peer.reset if i % 2 else peer.close)()
        held.release()
        until(lambda: not server._connections)
