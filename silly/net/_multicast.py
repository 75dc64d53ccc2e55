"""The settings of a socket for multicast. IPv4 has its own calls for all of them; an
IPv6 socket that takes IPv4 too has both."""

from __future__ import annotations

import socket
import struct

from .._shown import shown
from .._wire.numbers import check_int
from . import addr as address
from ._udp_address import link_number

_MOST_LINK = 2**31 - 1


def link_of(what: str, interface: str | int | None) -> int:
    """Returns the number of a network interface; 0 for None, which leaves the choice to
    the system. Raises TypeError or ValueError, and OSError if there is none."""
    if interface is None:
        return 0
    if isinstance(interface, str):
        if not interface or "\0" in interface or address.iptype(interface):
            raise ValueError(f"{what}: the interface is a name such as 'eth0', or its number, not {shown(interface)}")
        return link_number(interface)
    if isinstance(interface, bool) or not isinstance(interface, int):
        raise TypeError(f"{what}: the interface is a name such as 'eth0', or its number, not {type(interface).__name__}")
    check_int(f"{what}: the number of the interface", interface, 1, _MOST_LINK)
    return interface


def member(sock: socket.socket, what: str, group: str, interface: str | int | None, joins: bool) -> None:
    """Joins or leaves a group. Raises TypeError or ValueError for an invalid group or
    interface, and OSError."""
    if not isinstance(group, str):
        raise TypeError(f"{what}: the group is an address such as '239.1.2.3', not {type(group).__name__}")
    kind = 0 if "%" in group else address.iptype(group)
    first = socket.inet_pton(socket.AF_INET6 if kind == 6 else socket.AF_INET, group)[0] if kind else 0
    if not kind or (first != 0xFF if kind == 6 else first >> 4 != 14):
        text = "is an IP address from 224.0.0.0 to 239.255.255.255, or one that begins with ff, without a port"
        raise ValueError(f"{what}: the group {text}, not {shown(group)}")
    link = link_of(what, interface)
    if kind == 4:
        option = socket.IP_ADD_MEMBERSHIP if joins else socket.IP_DROP_MEMBERSHIP
        sock.setsockopt(socket.IPPROTO_IP, option, _ipv4(group, link))
    else:
        option = socket.IPV6_JOIN_GROUP if joins else socket.IPV6_LEAVE_GROUP
        sock.setsockopt(socket.IPPROTO_IPV6, option, socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", link))


def _ipv4(group: str, link: int) -> bytes:
    """The system's ``struct ip_mreqn``."""
    return struct.pack("@4s4si", socket.inet_aton(group), b"", link)


def send_settings(sock: socket.socket, mapped: bool, link: int | None, ttl: int | None, loop: bool | None) -> None:
    """Sets how datagrams to groups are sent; None leaves a setting as it is. Raises
    OSError."""
    if sock.family == socket.AF_INET6:
        if link is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link)
        if ttl is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        if loop is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, loop)
    if sock.family == socket.AF_INET or mapped:
        if link is not None:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _ipv4("0.0.0.0", link))
        if ttl is not None:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        if loop is not None:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, loop)
