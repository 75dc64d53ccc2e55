"""What the tests of WebSockets over tcp and TLS share: a raw peer of either role, on either transport."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

import silly
from silly.net import tls, websocket
from silly.sync import channel

from ..helpers import WITHIN, Peer, ServerPeer, Upgraded, client_side, server_side, serving, switching
from . import authorities, tls_support
from .support import until

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


def one(sock: Any) -> Any:
    """The next message or control frame, and its type; it must come."""
    got = sock.read(WITHIN)
    silly.check((got[0] is not None, got[1]))
    return got


def narrow(sock: Any, peer: Any) -> None:
    """Gives the output of ``sock`` little room in the kernel: about 100 KiB."""
    sock.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    peer.conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)


def refused(sock: Any, least: int) -> None:
    """Waits until at least ``least`` bytes of output are unsent, since the kernel refuses them."""
    until(lambda: sock.conn.unsentbytes() >= least and sock.conn._stream.blocked)


def nobody_reads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that was looked through counts as read by nobody at once, not after the 10 s of ``UNREAD``."""
    modules = [module for name, module in sys.modules.items() if name.startswith("silly.net.websocket")]
    having = [module for module in modules if hasattr(module, "UNREAD")]
    if not having:  # no assert: python -O drops those of a module that pytest doesn't rewrite
        raise AssertionError("no module of websocket has UNREAD")
    for module in having:
        monkeypatch.setattr(module, "UNREAD", 0.0)
