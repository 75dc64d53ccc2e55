"""IP addresses that peers write, and the networks that a program trusts. Pure.

An IPv4 address that is written as an IPv6 one (``::ffff:192.0.2.1``) is the IPv4
address, as it is for listeners, so one network covers both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from .._shown import shown

UNIX = "unix"
"""In a list of networks: the peers of Unix domain sockets."""
_LONGEST = 45
"""Characters of the longest address: six groups of IPv6, and one of IPv4."""
_MAPPED = IPv6Network("::ffff:0:0/96")

Address = IPv4Address | IPv6Address


@lru_cache(512)
def parse_address(text: str) -> Address | None:
    """Returns the address that ``text`` is, or None. One with a zone (``%eth0``) is
    none: a zone means something on its own machine alone."""
    if len(text) > _LONGEST or "%" in text:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def joined(address: Address, port: int) -> str:
    """Returns ``host:port``, with brackets around an IPv6 address."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


class Networks:
    """The networks of a list such as ``["10.0.0.0/8", "::1", "unix"]``.

    Raises TypeError or ValueError, which begin with ``what`` and name the bad one.
    """

    __slots__ = ("_all", "_unix")

    def __init__(self, what: str, given: object) -> None:
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
            kind = type(given).__name__
            raise TypeError(f'{what}: trusted is a list of networks such as ["10.0.0.0/8", "::1", "unix"], not {kind}')
        found: set[tuple[int, int, int]] = set()
        self._unix = False
        for each in given:
            if not isinstance(each, str):
                raise TypeError(f"{what}: a network in trusted is text, such as '10.0.0.0/8', not {type(each).__name__}")
            if each == UNIX:
                self._unix = True
            else:
                found.add(_network(what, each))
        if not found and not self._unix:
            raise ValueError(f"{what}: trusted names no network: give those of your proxies, such as '10.0.0.0/8'")
        self._all = tuple(found)

    def trusts(self, host: str) -> bool:
        """Whether a peer is within them. ``host`` is its address without the port, as
        transports write it: ``"192.0.2.1"``, ``"[fe80::1%eth0]"``, ``"unix"``."""
        if host.startswith(UNIX):
            return self._unix
        address = parse_address(host.strip("[]").partition("%")[0])
        return address is not None and address in self

    def __contains__(self, address: Address) -> bool:
        version, number = address.version, int(address)
        return any(its_version == version and number & mask == network for its_version, mask, network in self._all)


def _network(what: str, text: str) -> tuple[int, int, int]:
    """Returns version, mask and number of a network."""
    try:
        if "%" in text:
            raise ValueError("a network has no zone")
        network: IPv4Network | IPv6Network = ip_network(text)
    except ValueError as exc:
        # ``ipaddress`` says for a name only that it is no network.
        why = f": {exc}" if "host bits" in str(exc) or "zone" in str(exc) else ""
        hint = "trusted has networks such as '10.0.0.0/8', addresses, and 'unix'"
        raise ValueError(f"{what}: {shown(text)} is no network{why}: {hint}") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        first = network.network_address.ipv4_mapped
        network = ip_network(f"{first}/{network.prefixlen - 96}")
    return network.version, int(network.netmask), int(network.network_address)
