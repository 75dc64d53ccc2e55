"""Addresses of datagrams: between text and what a socket takes.

Each datagram brings an address, and most come from few peers. So both directions are
remembered, for at most ``KEPT`` addresses: forged ones can't fill the memory.
"""

from __future__ import annotations

import socket
from errno import ENODEV
from typing import Any, NamedTuple

from .._shown import shown
from . import addr as address

KEPT = 4096
"""How many addresses are remembered before all are forgotten."""

texts: dict[tuple[Any, ...], str] = {}
"""What ``text_of`` remembers."""


class Family(NamedTuple):
    """The addresses that a socket can send to. ``places``: those that were used, by
    their text."""

    number: int
    mapped: bool
    """Whether it is an IPv6 socket that sends to IPv4 addresses too."""
    places: dict[str, tuple[Any, ...]]


V4 = Family(socket.AF_INET, False, {})
V6 = Family(socket.AF_INET6, False, {})
BOTH = Family(socket.AF_INET6, True, {})


def text_of(family: Family, sockaddr: tuple[Any, ...]) -> str:
    """Returns the address of a datagram as text. Remembers it."""
    text = texts.get(sockaddr)
    if text is None:
        text = address.sockaddr_text(family.number, sockaddr)
        if len(sockaddr) == 2 or not sockaddr[3]:  # the name of a link may come to mean another
            if len(texts) >= KEPT:
                texts.clear()
            texts[sockaddr] = text
    return text


def place_of(family: Family, addr: str) -> tuple[Any, ...] | None:
    """Returns the address to send to, in the form that sockets take, or None if it is
    of the other family. Remembers it.

    Raises TypeError or ValueError if it is no IP address with a port, and OSError if
    its link is unknown.
    """
    refuse_path("conn.sendto", addr)
    host, port = address.endpoint(addr, "conn.sendto")
    kind = 0 if host is None else address.iptype(host)
    place: tuple[Any, ...]
    if host is None or not kind:
        text = "needs an IP address such as '127.0.0.1:8080'"
        raise ValueError(f"conn.sendto {text}, not {shown(addr)}: it never waits, so it looks no name up (udp.connect does)")
    if kind == 4:
        if family.number == socket.AF_INET:
            place = host, port
        elif family.mapped:
            place = f"::ffff:{host}", port, 0, 0
        else:
            return None
    elif family.number == socket.AF_INET:
        return None
    else:
        host, _, zone = host.partition("%")
        if zone:
            number = zone.isascii() and zone.isdigit() and len(zone) < 10
            return host, port, 0, int(zone) if number else link_number(zone)
        place = host, port, 0, 0
    if len(family.places) >= KEPT:
        family.places.clear()
    family.places[addr] = place
    return place


def link_number(name: str) -> int:
    """Returns the number of the network interface with that name. Raises OSError."""
    try:
        return socket.if_nametoindex(name)
    except OSError:  # which has no number
        raise OSError(ENODEV, "") from None


def refuse_path(what: str, addr: object) -> None:
    """Raises ValueError for the path of a Unix domain socket."""
    if isinstance(addr, str) and address.unixpath(addr) is not None:
        raise ValueError(f"{what} needs an IP address and a port, not {shown(addr)}: udp has no Unix sockets")
