"""Subprotocols with third parties, ours as server and as client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from silly.net import websocket

from .conftest import Serve
from .connecting import READ, connected, scenario
from .peers import Peer


def by_version(offered: list[str]) -> str | None:
    """A function that chooses: the highest version."""
    return max((name for name in offered if name.startswith("chat.v")), default=None)


CHOICES = [
    (["chat.v2", "chat"], ["chat", "chat.v2"], "chat.v2"),  # our preference
    (["chat"], ["mqtt", "chat", "stomp"], "chat"),
    (by_version, ["chat.v1", "chat.v3", "chat.v2"], "chat.v3"),
    (by_version, ["mqtt"], None),
    (["chat"], ["mqtt", "CHAT"], None),  # no overlap: names are case-sensitive
    ([], ["chat"], None),
    (None, ["chat"], None),
]


def test_their_client(client: Peer, serve_ws: Serve) -> None:
    def handler(sock: websocket.Socket) -> Any:
        seen = sock.subprotocol
        while True:
            data, typ = sock.read(READ)
            if data is None or typ == "close":
                break
            assert sock.write(data, typ)
        sock.close()
        return seen

    for ours, offered, chosen in CHOICES:
        served = serve_ws(handler, subprotocols=ours)
        assert client.run("subprotocol", url=f"ws://{served.address}", offered=offered) == chosen
        assert served.result() == chosen


def test_their_server(server: Peer) -> None:
    # aiohttp takes the client's order of preference, the others that of the server.
    first = "chat" if server.name == "aiohttp_server" else "chat.v2"
    for known, offered, chosen in [
        (["chat.v2", "chat"], ["chat", "chat.v2"], first),
        (["chat"], ["mqtt", "chat"], "chat"),
        (["chat"], ["mqtt"], None),
        ([], ["chat"], None),
        (["chat"], [], None),
    ]:
        with connected(server, "agreed", subprotocols=offered, known=json.dumps(known)) as conn:
            assert conn.sock.subprotocol == chosen
            assert conn.sock.stream.header["sec-websocket-protocol"] == chosen
            data, _ = conn.read()
            assert json.loads(data)[1] == chosen
            assert conn.sock.close()
            assert conn.outcome() == [1000, ""]


def test_with_compression(server: Peer) -> None:
    with connected(server, "agreed", compression=True, subprotocols=["chat"], known=json.dumps(["chat"])) as conn:
        assert conn.sock.subprotocol == "chat"
        assert (conn.sock.compression is not None) == (server.name != "picows_server")
        deflate, subprotocol = json.loads(conn.read()[0])
        assert (deflate is not None) == (server.name != "picows_server")
        assert subprotocol == "chat"
        assert conn.sock.close()
        assert conn.outcome() == [1000, ""]


@pytest.mark.parametrize("offered", [["chat"], []], ids=["others offered", "none offered"])
def test_their_server_answers_what_we_did_not_offer(server: Peer, offered: list[str]) -> None:
    url, tag = scenario(server, "gone", server.ports()[0], forced="mqtt")
    sock, err = websocket.connect(url, subprotocols=offered, timeout=READ)
    assert sock is None
    assert isinstance(err, websocket.HandshakeError)
    assert err.status == 101
    assert err.header["sec-websocket-protocol"] == "mqtt"
    assert "101 with the sec-websocket-protocol 'mqtt', which was not asked for" in err
    server.expect(tag)
