"""Bounded memory and linear work, whatever is sent and in whatever pieces."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

from silly import Limits
from silly._wire.http1 import HeadReader
from silly.sync import channel

from ..helpers import BINARY, CONTINUATION, FIN, PING, TEXT, Peer, ServerPeer, joined, spawn, turn
from .support import (
    DEFLATE,
    KIB,
    LOG,
    MIB,
    SHORT,
    TCP,
    TLS,
    Held,
    Memory,
    Role,
    Way,
    accepted,
    answer,
    both_roles,
    both_transports,
    every_way,
    read,
    refused,
    request,
    server_role,
)

# ---- memory ---------------------------------------------------------------------------------------------------------


@both_transports
@both_roles
@pytest.mark.parametrize("announced", [2**20, 2**31, 2**40, 2**63 - 1], ids=["1-MiB", "2^31", "2^40", "2^63-1"])
def test_cve_2026_54274_nothing_is_allocated_for_a_length(announced: int, role: Role, way: Way, logs: Any) -> None:
    """Under a limit that lets it pass, a length is a promise: what is held follows what arrives, whatever was announced.

    The kernel may be asked for a bounded lot at a time, which is given back at once.
    """
    logs.allow("INFO tls: ")
    with role(way, {**SHORT, "message": 2**63 - 1}) as (sock, peer):
        reading = spawn(lambda: read(sock))
        turn(2)
        with Memory() as memory:
            peer.send(peer.frame(FIN | BINARY, b"", announced.to_bytes(8, "big")))
            for _ in range(20):
                peer.send(b"x")
                turn()
        assert memory.held < 64 * KIB
        assert memory.peak < 2 * MIB
        peer.close()
        assert joined(reading)[0] is None
        assert sock.closecode == 1006


@both_roles
@pytest.mark.parametrize("sent", [4 * KIB, 20 * KIB, 200 * KIB])
def test_cve_2026_54274_memory_follows_what_arrives(sent: int, role: Role) -> None:
    with role(TCP, {**SHORT, "message": 2**63 - 1}) as (sock, peer):
        reading = spawn(lambda: read(sock))
        turn(2)
        with Memory() as memory:
            data = peer.frame(FIN | BINARY, b"x" * sent, (2**40).to_bytes(8, "big"))
            for at in range(0, len(data), 8 * KIB):
                peer.send(data[at : at + 8 * KIB])
                turn()
            turn(5)
            arrived = len(sock._session.messages.partial(sock.conn._stream.buf))
        assert arrived == sent
        assert memory.held < 9 * sent + 128 * KIB
        peer.close()
        assert joined(reading)[0] is None
        assert len(sock.partial) == sent


@both_transports
@both_roles
def test_cve_2026_54274_refused_at_the_header(role: Role, way: Way, logs: Any) -> None:
    """Past the limit not even the payload that came along is kept."""
    logs.expect(LOG)
    with role(way, SHORT) as (sock, peer):
        reading = spawn(lambda: read(sock))
        turn(2)
        data = peer.frame(FIN | BINARY, b"x" * 60_000, (2**40).to_bytes(8, "big"))
        with Memory() as memory:
            peer.send(data)
            assert joined(reading)[0] is None
        assert peer.get_close()[0] == 1009
        assert memory.peak < 512 * KIB


@both_transports
@both_roles
@pytest.mark.parametrize("size", [0, 1, 7])
def test_cve_2026_48779_tiny_fragments(size: int, role: Role, way: Way, logs: Any) -> None:
    """Up to the limit of fragments memory stays by their bytes, not by their number; past it 1008, empty ones counted."""
    logs.expect(LOG + ".*1008")
    count = 4096
    with role(way, SHORT) as (sock, peer):
        reading = spawn(lambda: read(sock))
        frames = [peer.frame(TEXT, b"x" * size)] + [peer.frame(CONTINUATION, b"x" * size)] * (count - 1)
        data = b"".join(frames)
        turn()
        gc.collect()
        with Memory() as memory:
            peer.send(data)
            turn(10)
        peer.silent()
        assert memory.held < 64 * KIB + 2 * size * count
        assert memory.peak < 512 * KIB
        peer.put(CONTINUATION)
        assert joined(reading)[0] is None
        assert peer.get_close()[0] == 1008


@both_roles
def test_cve_2026_48779_tiny_tcp_pieces(role: Role) -> None:
    """A message in 1-byte TCP pieces: a byte costs a byte, not an object."""
    size = 6000
    with role(TCP, SHORT) as (sock, peer):
        data = peer.frame(FIN | BINARY, b"x" * size)
        reading = spawn(lambda: read(sock))
        turn()
        peer.send(data[:100])
        gc.collect()
        with Memory() as memory:
            for byte in data[100:-1]:
                peer.send(bytes((byte,)))
                turn()
        assert memory.peak < 64 * KIB
        peer.send(data[-1:])
        assert joined(reading) == (b"x" * size, "binary")


@both_roles
def test_cve_2026_48779_fragments_over_and_over(role: Role) -> None:
    """Message after message at the limit of fragments: nothing adds up."""
    with role(TCP, {**SHORT, "fragments": 50}) as (sock, peer):
        message = peer.frame(BINARY, b"x") + peer.frame(CONTINUATION) * 48 + peer.frame(FIN | CONTINUATION, b"y")
        for _ in range(5):
            peer.send(message)
            assert read(sock) == (b"xy", "binary")
        gc.collect()
        with Memory() as memory:
            for _ in range(200):
                peer.send(message)
                assert read(sock) == (b"xy", "binary")
        assert memory.peak < 64 * KIB


@both_transports
def test_cve_2026_54273_frames_before_the_101_stay_in_tcp(way: Way) -> None:
    """A flood before the handler upgrades is held by TCP at the receive mark."""
    go = channel.new()
    held = Held()

    def handler(stream: Any) -> None:
        go.pop()
        held(stream)

    with way.serving(handler) as server:
        peer = way.dial(server)
        flood = peer.frame(FIN | BINARY, b"x" * 1000) * 8000
        flooding = spawn(lambda: peer.conn.write(request() + flood))
        turn(30)
        (connection,) = server._connections
        assert connection._conn.unreadbytes() <= 3 * 65536
        go.push(True)
        sock = held.pop()
        for _ in range(8000):
            assert len(read(sock)[0]) == 1000
        assert joined(flooding) == (True, None)
        peer.close()
        held.release()


@both_transports
@both_roles
def test_lua_1_gib_is_not_buffered(role: Role, way: Way) -> None:
    """TCP holds back a peer that keeps sending while no task reads."""
    with role(way, {**SHORT, "message": 2**30}) as (sock, peer):
        flooding = spawn(lambda: peer.conn.write(peer.frame(FIN | BINARY, b"x" * 8 * MIB, (8 * MIB).to_bytes(8, "big"))))
        turn(50)
        assert sock.conn.unreadbytes() <= 4 * 65536
        peer.close()
        joined(flooding)


# ---- limits of heads, whole and dribbled ----------------------------------------------------------------------------

HEAD = {"head": 2000, "line": 400, "header_lines": 20}
HEADS: dict[str, tuple[bytes, int]] = {
    "target": (b"GET /" + b"a" * 600 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "target-without-end": (b"GET /" + b"a" * 3000, 414),
    "value": (request("X: " + "y" * 500), 431),
    "value-without-end": (request()[:-2] + b"X: " + b"y" * 5000, 431),
    "name-without-end": (request()[:-2] + b"x" * 5000, 431),
    "lines": (request(*[f"X-{i}: y" for i in range(16)]), 431),
    "lines-without-end": (request()[:-2] + b"X: y\r\n" * 1000, 431),
    "head": (request(*[f"X-{i}: " + "y" * 300 for i in range(7)]), 431),
    "head-without-end": (request()[:-2] + b"".join(b"X: " + b"y" * 300 + b"\r\n" for _ in range(15)), 431),
}


@every_way
@pytest.mark.parametrize("row", HEADS)
def test_cve_2026_54277_cve_2023_43669_limits_of_the_request(row: str, way: Way, logs: Any) -> None:
    """The same answer whole and byte by byte, and without an end at the limit, not at the time-out."""
    logs.expect(LOG)
    data, status = HEADS[row]
    response = refused(way, data, limits=HEAD)
    assert response.status == status


@every_way
@pytest.mark.parametrize("row", ["line", "lines", "head"])
def test_a_request_at_its_limits_passes(row: str, way: Way) -> None:
    fields = {
        "line": ["X: " + "y" * (HEAD["line"] - 3)],
        "lines": [f"X-{i}: y" for i in range(HEAD["header_lines"] - 5)],
        "head": [f"X-{i}: " + "y" * 300 for i in range(5)],
    }[row]
    if row == "head":
        fields.append("X: " + "y" * (HEAD["head"] - len(request(*fields, "X: "))))
        assert len(request(*fields)) == HEAD["head"]
    with accepted(way, request(*fields), limits=HEAD):
        pass


@every_way
@pytest.mark.parametrize("row", ["value-without-end", "lines-without-end", "head-without-end", "status-without-end"])
def test_cve_2026_54277_limits_of_the_answer(row: str, way: Way) -> None:
    """An answer without an end: an error that names the limit, while the server would go on for ever."""
    start = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    data = {
        "value-without-end": start + b"X: " + b"y" * 5000,
        "lines-without-end": start + b"X: y\r\n" * 1000,
        "head-without-end": start + b"".join(b"X: " + b"y" * 300 + b"\r\n" for _ in range(15)),
        "status-without-end": b"HTTP/1.1 101 " + b"y" * 5000,
    }[row]
    conns = []

    def script(conn: Any) -> None:
        peer = Peer(conn)
        peer.read("\r\n\r\n")
        conns.append(conn)
        way.deliver_all(peer, data)

    with way.raw_server(script) as listener:
        sock, err = way.connect(listener, limits=HEAD)
        assert sock is None
        assert "limit" in err
        conns.clear()
        turn(3)


# ---- linear work ----------------------------------------------------------------------------------------------------


def cpu(func: Callable[[], object]) -> float:
    """Seconds of CPU time of this process in the better of two runs."""
    best = float("inf")
    gc.disable()  # a collection would cost by what the whole run holds
    try:
        for _ in range(2):
            begin = process_time()
            func()
            best = min(best, process_time() - begin)
    finally:
        gc.enable()
    return best


def is_linear(work: Callable[[int], object], size: int) -> None:
    """Four times as much costs less than ten times as much; quadratic work would cost sixteen times as much.

    CPU time is all there is to tell this: the work is in C (searches, joins, slices), where no call can be counted.
    """
    small = cpu(lambda: work(size))
    large = cpu(lambda: work(4 * size))
    assert large < 10 * max(small, 0.002)


def arrive(stream: Any, data: bytes) -> None:
    """Lets ``data`` arrive, as the loop would."""
    payload = stream._payload
    if payload is None:
        stream.buf += data
        stream._arrived(len(data))
        return
    buf = bytearray(data)
    payload.add(buf)
    if not payload.left:
        stream._payload = None
        stream._wake_reader(None)
    assert not buf


def feed(stream: Any, data: bytes, piece: int) -> None:
    """Lets ``data`` arrive piece by piece, as the selector would, without a socket's costs in between."""
    for at in range(0, len(data), piece):
        arrive(stream, data[at : at + piece])
        if stream._reader is None:
            turn()


def test_cve_2023_43669_head_in_bytes_is_linear() -> None:
    """A head dribbled up to the cap: what has been searched isn't searched again."""

    def work(size: int) -> None:
        reader = HeadReader(Limits(head=10**7, line=10**7))
        buf = bytearray()
        for byte in b"GET /" + b"a" * size:
            buf.append(byte)
            assert reader.next(buf) is None

    is_linear(work, 20_000)


@pytest.mark.parametrize("size", [100])
def test_cve_2023_43669_head_in_bytes_on_a_socket(size: int) -> None:
    """CPU of the whole path, for heads of n and 4 n lines of one byte each."""

    def work(count: int) -> None:
        with accepted(Way(False, True), request(*[f"X{i}: y" for i in range(count // 10)])):
            pass

    is_linear(work, size * 3)


VALUES = {
    "spaces": lambda size: "x" + " " * size + "x",
    "tabs": lambda size: "\t" * size + "x",
    "commas": lambda size: "," * size,
    "semicolons": lambda size: "a" + ";" * size,
    "quotes": lambda size: '"' * size,
    "open-quote": lambda size: 'a; b="' + "x" * size,
    "backslashes": lambda size: 'a; b="' + "\\" * size,
    "tokens": lambda size: "a," * (size // 2),
    "parameters": lambda size: "permessage-deflate" + ";a" * (size // 2),
    "equals": lambda size: "a; " + "=" * size,
    "offers": lambda size: ",".join([DEFLATE + "; unknown"] * (size // 28)),
}


@pytest.mark.parametrize("field", ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Cookie", "Connection", "Upgrade"])
@pytest.mark.parametrize("row", VALUES)
def test_cve_2021_32640_values_are_parsed_in_linear_time(row: str, field: str, logs: Any) -> None:
    """ws CVE-2021-32640, tornado CVE-2025-67725 and CVE-2025-67726: to eight times the default limit of a line."""
    logs.allow(LOG)
    limits = {"head": 2**20, "line": 2**20, "header_lines": 10_000}

    def work(size: int) -> None:
        held = Held(compression=True, subprotocols=["chat"])
        with TCP.serving(held, limits) as server, TCP.dial(server) as peer:
            peer.send(request(f"{field}: {VALUES[row](size)}"))
            assert peer.response().status in (101, 400, 426)
            peer.close()
            held.release()

    is_linear(work, 16 * KIB)


@pytest.mark.parametrize("line", ["X: y", "Cookie: a=b", "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Extensions: a; b=c"])
def test_cve_2025_67725_equal_lines_are_joined_in_linear_time(line: str, logs: Any) -> None:
    logs.allow(LOG)
    limits = {"head": 2**22, "line": 2**20, "header_lines": 100_000}

    def work(count: int) -> None:
        held = Held(compression=True, subprotocols=["chat"])
        with TCP.serving(held, limits) as server, TCP.dial(server) as peer:
            peer.send(request(*[line] * count))
            assert peer.response().status in (101, 400)
            peer.close()
            held.release()

    is_linear(work, 1000)


@both_roles
@pytest.mark.parametrize("first", [FIN | BINARY, FIN | TEXT], ids=["binary", "text"])
def test_message_in_small_pieces_is_linear(first: int, role: Role) -> None:
    """A long frame that arrives in small pieces is unmasked, checked and moved once."""

    def work(size: int) -> None:
        with role(TCP, SHORT) as (sock, peer):
            reading = spawn(lambda: read(sock))
            turn()
            feed(sock.conn._stream, peer.frame(first, b"x" * size), 256)
            assert len(joined(reading)[0]) == size

    is_linear(work, 250_000)


@both_roles
@pytest.mark.parametrize("first", [BINARY, TEXT], ids=["binary", "text"])
def test_fragments_are_joined_in_linear_time(first: int, role: Role) -> None:
    def work(count: int) -> None:
        with role(TCP, {**SHORT, "message": 16 * MIB, "fragments": 10**6}) as (sock, peer):
            frames = [peer.frame(first, b"x" * 200)] + [peer.frame(CONTINUATION, b"y" * 200)] * count
            flooding = spawn(lambda: peer.send(b"".join([*frames, peer.frame(FIN | CONTINUATION)])))
            assert len(read(sock)[0]) == 200 * (count + 1)
            joined(flooding)

    is_linear(work, 2000)


def test_small_frames_in_one_buffer_are_linear() -> None:
    """Taking frames from the front of a full buffer doesn't move the rest each time."""

    def work(count: int) -> None:
        with server_role(TCP, {**SHORT, "receive_mark": 2**22}) as (sock, peer):
            data = peer.frame(FIN | TEXT, b"x") * count
            reading = spawn(lambda: [read(sock) for _ in range(count)])
            arrive(sock.conn._stream, data)
            assert len(joined(reading)) == count

    is_linear(work, 5000)


def test_pings_between_fragments_are_linear() -> None:
    """A control frame in a long message doesn't copy the message."""

    def work(count: int) -> None:
        with server_role(TCP, {**SHORT, "message": 16 * MIB}) as (sock, peer):
            peer.put(BINARY, b"x" * MIB)
            reading = spawn(lambda: [read(sock) for _ in range(count + 1)])
            flooding = spawn(lambda: peer.send(peer.frame(FIN | PING) * count + peer.frame(FIN | CONTINUATION)))
            for _ in range(count):
                peer.get()
            assert len(joined(reading)) == count + 1
            joined(flooding)

    is_linear(work, 500)


@pytest.mark.parametrize("way", [TCP, TLS], ids=["tcp", "tls"])
def test_answer_in_bytes_is_linear(way: Way) -> None:
    """The client's side of the dribbled head."""

    def work(count: int) -> None:
        def script(conn: Any) -> None:
            peer = ServerPeer(conn)
            data = answer(peer.read("\r\n\r\n").decode(), "X: " + "y" * count)
            Way(way.tls, True).deliver_all(peer, data)
            peer.get_close()
            peer.close()

        with way.raw_server(script) as listener:
            sock, err = way.connect(listener, limits=SHORT)
            assert err is None
            sock.close()

    is_linear(work, 400)
