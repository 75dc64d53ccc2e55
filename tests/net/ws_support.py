"""What the tests of WebSockets over tcp and TLS share: a raw peer of either role, on either transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import silly
from silly.net import tls, websocket
from silly.sync import channel

from ..helpers import Peer, ServerPeer, Upgraded, client_side, server_side, serving, switching
from . import authorities, tls_support

Side = Callable[..., AbstractContextManager[tuple[Any, Any]]]
"""Called with limits as a dict; gives a WebSocket and the raw peer that it talks to."""


@contextmanager
def secure_server_side(limits: dict[str, int] | None = None) -> Iterator[tuple[Any, Peer]]:
    """``server_side`` over TLS."""
    upgraded = Upgraded()
    with serving(upgraded.handler, limits=limits, tls=True, certs=[authorities.server().entry]) as server:
        peer = Peer(tls_support.connect(server, hostname="localhost"))
        peer.send(peer.upgrade_request())
        silly.check((peer.response().status == 101, "no upgrade"))
        try:
            yield upgraded.pop(), peer
        finally:
            peer.close()
            upgraded.release()


@contextmanager
def secure_client_side(limits: dict[str, int] | None = None) -> Iterator[tuple[Any, Peer]]:
    """``client_side`` over TLS."""
    peers = channel.new()

    def script(conn: Any) -> None:
        peer = ServerPeer(conn)
        peer.send(switching(peer.read("\r\n\r\n").decode()))
        peers.push(peer)

    listener = silly.check(tls.listen("127.0.0.1:0", [authorities.server().entry], script))
    try:
        options = {"limits": silly.Limits(**limits)} if limits else {}
        url = f"wss://localhost:{listener.port}/chat?x=1"
        sock = silly.check(websocket.connect(url, ca=authorities.root().pem, **options))
        peer, _ = peers.pop()
        try:
            yield sock, peer
        finally:
            peer.close()
            sock.close()
    finally:
        listener.close()


PLAIN: dict[str, Side] = {"server": server_side, "client": client_side}
SIDES: dict[str, Side] = {**PLAIN, "server-tls": secure_server_side, "client-tls": secure_client_side}
"""By what the subject is."""
