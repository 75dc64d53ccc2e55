"""Our keepalive pings, answered by third parties; compression is on where they have it."""

from __future__ import annotations

from typing import Any

from silly import Limits
from silly.net import websocket

from .conftest import Serve
from .connecting import READ, connected
from .peers import Peer

OFTEN = Limits(ping_interval=10)


def until_answered(sock: websocket.Socket, times: int = 3) -> None:
    """Reads until a few pings were answered: those pongs are not shown, so the read is asked again and again."""
    latencies = []
    for _ in range(READ // 5):
        if sock.latency is not None and sock.latency not in latencies:
            latencies.append(sock.latency)
            if len(latencies) == times:
                assert all(latency > 0 for latency in latencies)
                return
        data, err = sock.read(5)
        assert data is None, (data, err)
        assert sock.cause is None
    raise AssertionError("no pongs")


def test_their_client_answers(client: Peer, serve_ws: Serve) -> None:
    def handler(sock: websocket.Socket) -> Any:
        assert sock.latency is None
        until_answered(sock)
        sock.close()
        return sock.cause

    served = serve_ws(handler, compression=True, limits=OFTEN)
    client.run("be_closed", url=f"ws://{served.address}", code=1000, reason="", before=[])
    assert served.result() == "closed here: 1000"


def test_their_server_answers(server: Peer) -> None:
    with connected(server, "echo", compression=True, limits=OFTEN) as conn:
        assert conn.sock.latency is None
        until_answered(conn.sock)
        assert conn.sock.write("x" * 1000, "text")
        assert conn.read() == ("x" * 1000, "text")
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]
