"""How many connections a server has, in total and by address."""

from __future__ import annotations

from ..._wire.limits import Limits


class Places:
    """Counts the connections that were admitted, in total and by address: the
    ``Admission`` of a server."""

    __slots__ = ("_limits", "by_address", "taken")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.taken = 0
        self.by_address: dict[str, int] = {}

    def enter(self, host: str) -> bool:
        """Admits a connection from ``host`` if the limits allow it; returns whether
        they do. ``leave`` undoes it."""
        limits = self._limits
        count = self.by_address.get(host, 0)
        if (limits.connections and self.taken >= limits.connections) or (
            limits.address_connections and count >= limits.address_connections
        ):
            return False
        self.taken += 1
        if limits.address_connections:
            self.by_address[host] = count + 1
        return True

    def leave(self, host: str) -> None:
        """Gives back the place of a connection that ``enter`` admitted: its task has
        ended and its descriptor is free."""
        self.taken -= 1
        if self._limits.address_connections:
            self.by_address[host] -= 1
            if not self.by_address[host]:
                del self.by_address[host]
