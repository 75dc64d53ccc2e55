"""Connections within the process: see ``testing.pair``, ``testing.http``."""

from __future__ import annotations

import itertools
import socket

from .._wire.limits import DEFAULT, Limits, check_limits
from ..net._stream import Stream
from ..net.tcp import Conn

_numbers = itertools.count(1)


class PairStream(Stream):
    """One end of a pair. Nothing outside the program can make it ready, and what it has
    sent is at the other end at once. So the virtual clock may jump while a task reads
    from it."""

    __slots__ = ()


def pair(*, limits: Limits = DEFAULT) -> tuple[Conn, Conn]:
    """Returns two connections that are connected with each other, as ``tcp.connect``
    and ``tcp.listen`` would give them, without a port. Never waits.

        client, server = testing.pair()
        client.write("hello\\n")
        server.read("\\n")                   # -> (b"hello\\n", None)

    ``limits`` are those of both ends. Raises OSError if the process has no descriptor
    left.
    """
    check_limits(limits)
    number = next(_numbers)
    socks = socket.socketpair()
    for sock in socks:
        sock.setblocking(False)
    # With a port, as peers have one: limits by address count the rest.
    first, second = (
        Conn(PairStream(sock, f"{side}:{number}", limits)) for sock, side in zip(socks, ("server", "client"), strict=True)
    )
    return first, second
