"""permessage-deflate (RFC 7692) with third parties, ours as server and as client."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly import Limits
from silly.net import websocket
from tests.conftest import Logs

from .conftest import Serve
from .connecting import READ, Connection, connected
from .peers import Peer
from .relay import Relay, relaying
from .samples import BAD_UTF8, BETWEEN, CODES, MESSAGES, MIB, NEXT, binary, noise, phases, text

Options = dict[str, Any]
Agreed = tuple[bool, bool, int, int]
"""As ``sock.compression``: who forgets the context, server and client, and their window bits."""

SERVER_FORGETS = {"server_no_context_takeover": True}
CLIENT_FORGETS = {"client_no_context_takeover": True}
WIDE = {"server_max_window_bits": 15, "client_max_window_bits": 15, "threshold": 0, "level": 9, "memory_level": 9}
NINE = {"server_max_window_bits": 9, "client_max_window_bits": 9}
EIGHT = {"server_max_window_bits": 8, "client_max_window_bits": 8}

PHASES = phases()
PAYLOADS = [sum(len(each.encode() if isinstance(each, str) else each) for each in messages) for messages in PHASES.values()]
"""Bytes of each phase."""


def matrix(*rows: tuple[str, str, Options | None, Options | None, Agreed]) -> list[Any]:
    """Parameters of a test: for each of the third parties of a row its id, our options, theirs, and what must come of them."""
    return [
        pytest.param(peer, ours, theirs, agreed, id=f"{peer}-{name}")
        for peers, name, ours, theirs, agreed in rows
        for peer in peers.split()
    ]


def agreed_on(sock: websocket.Socket) -> Agreed:
    """What was negotiated, as we see it."""
    got = sock.compression
    assert got is not None
    return (
        got.server_no_context_takeover,
        got.client_no_context_takeover,
        got.server_max_window_bits,
        got.client_max_window_bits,
    )


def fits(ours: Agreed, theirs: list[Any], we_serve: bool) -> None:
    """Both ends must be able to work with what the other thinks was agreed on; theirs is None where they don't tell."""
    for number in (0, 1):
        we_send = we_serve == (number == 0)
        for at, more in ((number, lambda a, b: a >= b), (number + 2, lambda a, b: a <= b)):
            if theirs[at] is not None:
                sender, receiver = (ours[at], theirs[at]) if we_send else (theirs[at], ours[at])
                assert more(sender, receiver), (ours, theirs)


def looks_compressed(wire: list[tuple[int, int]], agreed: Agreed) -> None:
    """``wire``: for each phase the bytes that went up and down."""
    assert len(wire) == len(PHASES)
    for direction, forgets, bits in (("up", agreed[1], agreed[3]), ("down", agreed[0], agreed[2])):
        sizes, alike, random = (counts[direction == "down"] for counts in wire)
        # The samples repeat themselves after 251 bytes; a window of 512 can't look that far back.
        assert sizes < PAYLOADS[0] * (0.05 if bits > 9 else 0.95), (direction, sizes, agreed)
        if forgets or bits < 11:
            assert PAYLOADS[1] * 0.5 < alike < PAYLOADS[1] * 1.05, (direction, alike, agreed)
        else:
            assert alike < PAYLOADS[1] * 0.2, (direction, alike, agreed)
        assert PAYLOADS[2] < random < PAYLOADS[2] * 1.03, (direction, random, agreed)


def differences(marks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What went up and down between the marks."""
    return [(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(marks)]


def echo(sock: websocket.Socket, marks: list[tuple[int, int]], counts: Callable[[], tuple[int, int]]) -> tuple[int | None, str]:
    """Echoes until the close, and notes the counts at the end of each phase; the peer's code and reason."""
    marks.append(counts())
    while True:
        data, typ = sock.read(READ)
        if data is None or typ == "close":
            break
        if data == NEXT:
            marks.append(counts())
        if typ in ("text", "binary"):
            assert sock.write(data, typ)
    sock.close()
    return sock.closecode, sock.closereason


ALL = "websockets aiohttp ws"
their_clients = pytest.mark.parametrize("client", ALL.split(), indirect=True)
their_servers = pytest.mark.parametrize("server", ALL.split(), indirect=True)


# ---- ours as server -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "ours", "theirs", "agreed"),
    matrix(
        (f"{ALL} picows", "defaults", {}, None, (False, False, 12, 12)),
        (f"{ALL} picows", "wide", WIDE, None, (False, False, 15, 15)),
        (f"{ALL} picows", "the server forgets", SERVER_FORGETS, None, (True, False, 12, 12)),
        (f"{ALL} picows", "the client forgets", CLIENT_FORGETS, None, (False, True, 12, 12)),
        ("websockets ws", "they ask for both to forget", {}, SERVER_FORGETS | CLIENT_FORGETS, (True, True, 12, 12)),
        ("websockets ws", "they ask for 9 bits", {}, NINE, (False, False, 9, 9)),
        ("aiohttp", "they ask for 9 bits", {}, {"server_max_window_bits": 9}, (False, False, 9, 12)),
        ("websockets aiohttp", "8 and 9 bits", {**EIGHT, "client_max_window_bits": 9}, None, (False, False, 8, 9)),
        ("ws", "8 bits", EIGHT, None, (False, False, 8, 8)),
        ("websockets", "their window is fixed", {}, {"client_max_window_bits": None}, (False, False, 12, 15)),
        ("ws", "their window is fixed", {}, {"client_max_window_bits": False}, (False, False, 12, 15)),
    ),
    indirect=["client"],
)
def test_their_client(client: Peer, serve_ws: Serve, ours: Options, theirs: Options | None, agreed: Agreed) -> None:
    marks: list[tuple[int, int]] = []
    relays: list[Relay] = []
    seen: list[Agreed] = []

    def handler(sock: websocket.Socket) -> Any:
        seen.append(agreed_on(sock))
        return echo(sock, marks, relays[0].counts)

    served = serve_ws(handler, compression=ours or True)
    with relaying(served.http.port) as relay:
        relays.append(relay)
        got = client.run("compressed", url=f"ws://127.0.0.1:{relay.port}", deflate=theirs)
        assert served.result() == (1000, "bye")
    assert seen == [agreed]
    fits(agreed, got, True)
    looks_compressed(differences(marks), agreed)


@their_clients
def test_sizes(client: Peer, serve_ws: Serve) -> None:
    def handler(sock: websocket.Socket) -> Any:
        assert sock.compression is not None
        return echo(sock, [], lambda: (0, 0))

    served = serve_ws(handler, compression={"threshold": 0})
    client.run("sizes", url=f"ws://{served.address}")
    assert served.result() == (1000, "")


@their_clients
def test_tls(client: Peer, serve_ws: Serve, tls_files: dict[str, str]) -> None:
    def handler(sock: websocket.Socket) -> Any:
        assert sock.compression is not None
        return echo(sock, [], lambda: (0, 0))

    certs = [{"cert": tls_files["cert"], "key": tls_files["key"]}]
    served = serve_ws(handler, compression=True, certs=certs)
    client.run("sizes", url=f"wss://{served.address}", ca=tls_files["ca"])
    assert served.result() == (1000, "")


@their_clients
def test_they_ask_and_we_decline(client: Peer, serve_ws: Serve) -> None:
    def handler(sock: websocket.Socket) -> Any:
        assert sock.compression is None
        return echo(sock, [], lambda: (0, 0))

    served = serve_ws(handler)
    assert client.run("compressed", url=f"ws://{served.address}", deflate=None) is None
    assert served.result() == (1000, "bye")


@their_clients
def test_their_messages_in_pieces(client: Peer, serve_ws: Serve) -> None:
    def handler(sock: websocket.Socket) -> Any:
        assert sock.compression is not None
        while True:
            pieces = sock.pieces(READ)
            gathered = list(pieces)
            assert pieces.err is None or pieces.typ == "close", pieces.err
            if pieces.typ == "close":
                break
            with sock.message(pieces.typ) as message:
                for piece in gathered:
                    assert message.write(piece)
                    if len(gathered) < 5:
                        assert message.flush()
        sock.close()
        return sock.closecode, sock.closereason

    served = serve_ws(handler, compression=True)
    client.run("compressed", url=f"ws://{served.address}", deflate=None)
    assert served.result() == (1000, "bye")


@their_clients
def test_pings_while_large_messages_go_out(client: Peer, serve_ws: Serve) -> None:
    count = 6

    def handler(sock: websocket.Socket) -> Any:
        assert sock.read(READ) == ("go", "text")
        for number in range(count):
            assert sock.write(*((text(MIB), "text") if number % 2 else (binary(MIB), "binary")))
        return echo(sock, [], lambda: (0, 0))

    served = serve_ws(handler, compression=True)
    client.run("flood", url=f"ws://{served.address}", count=count)
    assert served.result() == (1000, "")


@their_clients
def test_they_close_first(client: Peer, serve_ws: Serve) -> None:
    def handler(sock: websocket.Socket) -> Any:
        assert sock.compression is not None
        return echo(sock, [], lambda: (0, 0))

    served = serve_ws(handler, compression=True)
    for code, reason in CODES:
        client.run("close_first", url=f"ws://{served.address}", code=code, reason=reason)
        assert served.result() == (code, reason)


@their_clients
def test_we_close_first(client: Peer, serve_ws: Serve) -> None:
    before = ["last", text(70_000)]
    codes: Iterator[tuple[int, str]] = iter(CODES)

    def handler(sock: websocket.Socket) -> Any:
        assert sock.compression is not None
        for data in before:
            assert sock.write(data, "text", compress=True)
        assert sock.close(*next(codes))
        return sock.closecode

    served = serve_ws(handler, compression=True)
    for code, reason in CODES:
        client.run("be_closed", url=f"ws://{served.address}", code=code, reason=reason, before=before)
        # aiohttp always answers 1000
        assert served.result() == (1000 if client.name == "aiohttp_client" else code)


def refusing(sock: websocket.Socket) -> str:
    """Reads until the peer breaks the protocol; the error."""
    assert sock.compression is not None
    while True:
        data, typ = sock.read(READ)
        if data is None:
            return typ


@their_clients
def test_too_big(client: Peer, serve_ws: Serve, logs: Logs) -> None:
    served = serve_ws(refusing, compression=True)
    logs.expect("message longer than the limit 'message' of 1048576 bytes: close 1009")
    client.run("too_big", url=f"ws://{served.address}", in_flight=False)
    for _ in range(2):
        assert "message longer than the limit 'message'" in served.result()


@their_clients
def test_bad_utf8(client: Peer, serve_ws: Serve, logs: Logs) -> None:
    served = serve_ws(refusing, compression=True)
    logs.expect("text that isn't UTF-8: .*: close 1007")
    for number in range(len(BAD_UTF8)):
        client.run("bad_utf8", url=f"ws://{served.address}", number=number, in_flight=False)
        for _ in range(1 if client.name == "aiohttp_client" else 2):
            assert "text that isn't UTF-8" in served.result()


@their_clients
def test_many_connections(client: Peer, serve_ws: Serve) -> None:
    def handler(sock: websocket.Socket) -> Any:
        assert sock.compression is not None
        return echo(sock, [], lambda: (0, 0))

    served = serve_ws(handler, compression={"threshold": 0})
    client.run("many", url=f"ws://{served.address}", count=30)
    for _ in range(30):
        assert served.result() == (1000, "")


# ---- ours as client -------------------------------------------------------------------------------------------------


def run_phases(conn: Connection, counts: Callable[[], tuple[int, int]]) -> list[tuple[int, int]]:
    """Sends the phases, pings between; what went up and down in each."""
    marks = [counts()]
    for messages in PHASES.values():
        for data in messages:
            typ = "text" if isinstance(data, str) else "binary"
            assert conn.sock.write(BETWEEN, "ping")
            assert conn.sock.write(data, typ)
            assert conn.read() == (BETWEEN, "pong")
            got, got_typ = conn.read()
            assert (len(got), got_typ) == (len(data), typ)
            assert got == data
        marks.append(counts())
    return differences(marks)


@pytest.mark.parametrize(
    ("server", "ours", "theirs", "agreed"),
    matrix(
        (ALL, "defaults", {}, None, (False, False, 12, 12)),
        ("aiohttp ws", "wide", WIDE, None, (False, False, 15, 15)),
        ("websockets", "wide", WIDE, {}, (False, False, 15, 15)),
        (ALL, "we want the server to forget", SERVER_FORGETS, None, (True, False, 12, 12)),
        (ALL, "we forget", CLIENT_FORGETS, None, (False, True, 12, 12)),
        ("websockets ws", "they want both to forget", {}, SERVER_FORGETS | CLIENT_FORGETS, (True, True, 12, 12)),
        ("websockets ws", "they want 9 bits", {}, NINE, (False, False, 9, 9)),
        (ALL, "we want 9 bits", NINE, None, (False, False, 9, 9)),
        # Of 8 bits for the server they are not capable.
        (ALL, "our 8 bits", {"client_max_window_bits": 8}, None, (False, False, 12, 8)),
        ("websockets", "they want our 8 bits", {}, {"client_max_window_bits": 8}, (False, False, 12, 8)),
        ("ws", "they want 8 bits", {}, EIGHT, (False, False, 8, 8)),
    ),
    indirect=["server"],
)
def test_their_server(server: Peer, ours: Options, theirs: Options | None, agreed: Agreed) -> None:
    query = {} if theirs is None else {"deflate": json.dumps(theirs)}
    with (
        relaying(server.ports()[0]) as relay,
        connected(server, "agreed", port=relay.port, compression=ours or True, **query) as conn,
    ):
        assert agreed_on(conn.sock) == agreed
        told, typ = conn.read()
        assert typ == "text"
        fits(agreed, json.loads(told)[0], False)
        looks_compressed(run_phases(conn, relay.counts), agreed)
        assert conn.sock.close(1000, "bye")
        assert conn.outcome() == [1000, "bye"]


@pytest.mark.parametrize("server", ["picows"], indirect=True)
def test_a_server_without_parameters(server: Peer) -> None:
    """``picows.websockets`` answers every offer with the bare extension: all windows are of 15 bits then."""
    with (
        relaying(server.ports()[2]) as relay,
        connected(server, "echo", port=relay.port, compression=True) as conn,
    ):
        assert conn.sock.stream.header["sec-websocket-extensions"] == "permessage-deflate"
        assert agreed_on(conn.sock) == (False, False, 15, 12)
        looks_compressed(run_phases(conn, relay.counts), agreed_on(conn.sock))
        assert conn.sock.close(1000, "bye")
        assert conn.outcome() == [1000, "bye"]


@their_servers
def test_their_server_with_tls(server: Peer, tls_files: dict[str, str]) -> None:
    with connected(server, "echo", ca=tls_files["ca"], compression=True) as conn:
        assert conn.sock.compression is not None
        run_phases(conn, lambda: (0, 0))
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


@pytest.mark.parametrize("server", ["aiohttp"], indirect=True)
def test_they_take_our_second_offer(server: Peer) -> None:
    """aiohttp can't limit its window to 8 bits: it declines the first offer, which asks for that."""
    with connected(server, "agreed", compression={"server_max_window_bits": 8}) as conn:
        assert agreed_on(conn.sock) == (False, False, 15, 12)
        assert conn.read()[1] == "text"
        run_phases(conn, lambda: (0, 0))
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


@pytest.mark.parametrize("server", ["websockets", "ws"], indirect=True)
def test_their_fragments(server: Peer) -> None:
    with connected(server, "fragments", compression=True) as conn:
        assert conn.sock.compression is not None
        for typ, pieces in MESSAGES:
            assert conn.read() == (b"0", "ping")
            assert conn.read() == (b"1", "ping")
            whole = b"".join(pieces)
            data, got_typ = conn.read()
            assert got_typ == typ
            assert data == (whole.decode() if typ == "text" else whole)
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]
    with connected(server, "fragments", compression=True) as conn:
        for typ, pieces in MESSAGES:
            got = conn.sock.pieces(READ)
            data = ("" if typ == "text" else b"").join(got)
            assert got.err is None
            assert got.typ == typ
            assert data == (b"".join(pieces).decode() if typ == "text" else b"".join(pieces))
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


@their_servers
def test_our_messages_in_pieces(server: Peer) -> None:
    with connected(server, "echo", compression=True) as conn:
        for typ, data in (("text", text(MIB).encode()), ("binary", noise(MIB)), ("binary", b""), ("text", "ä".encode() * 1000)):
            with conn.sock.message(typ) as message:
                for at in range(0, len(data), 50_001):
                    assert message.write(data[at : at + 50_001])
                    if at % 2:
                        assert message.flush()
            assert message.err is None
            assert conn.read() == (data.decode() if typ == "text" else data, typ)
        # By the message: some compressed, some not.
        for number in range(10):
            assert conn.sock.write(f"{number} " * 200, "text", compress=number % 3 == 0)
            assert conn.read() == (f"{number} " * 200, "text")
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


@their_servers
def test_large_messages_come(server: Peer) -> None:
    with connected(server, "flood", compression=True, count=6) as conn:
        for number in range(6):
            assert conn.sock.write(f"{number}", "ping")
        got: list[Any] = []
        while len(got) < 6:
            data, typ = conn.read()
            if typ != "pong":
                got.append(data)
        assert got == [text(MIB) if number % 2 else binary(MIB) for number in range(6)]
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


@their_servers
def test_we_close_their_server(server: Peer) -> None:
    for code, reason in CODES:
        with connected(server, "echo", compression=True) as conn:
            assert conn.sock.compression is not None
            assert conn.sock.write("x" * 1000, "text")
            assert conn.read() == ("x" * 1000, "text")
            assert conn.sock.close(code, reason)
            # aiohttp always answers 1000
            assert conn.sock.closecode == (1000 if server.name == "aiohttp_server" else code)
            assert conn.outcome() == [code, reason]


@their_servers
def test_their_server_closes(server: Peer) -> None:
    before = "last ä€😀" * 30
    for code, reason in CODES:
        with connected(server, "close", compression=True, code=code, reason=reason, before=before) as conn:
            assert conn.sock.compression is not None
            assert conn.read() == (before, "text")
            assert conn.read() == (code.to_bytes(2, "big") + reason.encode(), "close")
            assert (conn.sock.closecode, conn.sock.closereason) == (code, reason)
            assert conn.sock.close()
            assert conn.outcome()[0] == code


@their_servers
def test_too_big_for_us(server: Peer, logs: Logs) -> None:
    logs.expect("message longer than the limit 'message' of 1048576 bytes: close 1009")
    for size in (MIB + 1, 8 * MIB):
        with connected(server, "big", compression=True, size=size) as conn:
            data, err = conn.sock.read(READ)
            assert data is None
            assert "message longer than the limit 'message'" in err
            assert conn.sock.closecode == 1009
            assert conn.outcome()[0] == 1009


@their_servers
def test_too_big_for_them(server: Peer) -> None:
    # After its close ws reads nothing, and waits for us to end the connection; we wait for it, as a client does.
    limits = Limits(close_timeout=10_000 if server.name == "websockets_server" else 300)
    with connected(server, "small", compression=True, limits=limits) as conn:
        assert conn.sock.write(binary(2 * MIB + 1))
        assert conn.read()[1] == "close"
        assert conn.sock.closecode == 1009
        assert conn.sock.close()
        # aiohttp and ws do not see our answer, having given up reading
        assert conn.outcome() in ([1009], [1006])


@their_servers
def test_bad_utf8_from_their_server(server: Peer, logs: Logs) -> None:
    logs.expect("text that isn't UTF-8: .*: close 1007")
    for number in range(len(BAD_UTF8)):
        with connected(server, "bad_utf8", compression=True, number=number) as conn:
            data, err = conn.sock.read(READ)
            assert data is None
            assert "text that isn't UTF-8" in err
            assert conn.outcome()[0] == 1007
