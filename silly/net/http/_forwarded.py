"""A server behind proxies: the clients' addresses in requests, and in its limits.

It is the handler of such a server that looks for the client, before the program's own
runs. So a server without proxies doesn't know of it, and pays nothing.
``stream.header`` stays as it came.
"""

from __future__ import annotations

from dataclasses import replace

from ..._log import http as logger
from ..._shown import name_of, shown
from ..._wire.forwarded import FIELDS
from ..._wire.limits import Limits
from ..._wire.networks import Networks
from .._listener import host_of
from .._proxied import check_proxy
from ._places import Places
from .h1 import RequestHandler, ServerStream

_BUSY = "too many connections"


def check_proxies(trusted: object, forwarded: object, proxy: object) -> Networks:
    """Returns the networks of ``trusted``. Raises TypeError or ValueError for arguments
    of ``http.listen`` that are wrong, or that don't go together."""
    what = "http.listen"
    if forwarded is not None:
        if not isinstance(forwarded, str):
            raise TypeError(f"{what}: forwarded is the name of a field, not {type(forwarded).__name__}")
        if forwarded not in FIELDS:
            raise ValueError(f"{what}: forwarded is 'x-forwarded-for' or 'forwarded', not {shown(forwarded)}")
        if proxy is not False:
            # A connection of unknown origin has the proxy's address, and its fields
            # would be believed.
            raise ValueError(f"{what}: forwarded and proxy: use only one of the two, that by which your proxy names clients")
        if trusted is None:
            raise ValueError(f"{what}: forwarded needs trusted, your proxies' networks: anybody else could claim any address")
        return Networks(what, trusted)
    if proxy is False:
        raise ValueError(f"{what}: trusted needs forwarded or proxy=True: how these proxies say whom a request comes from")
    return check_proxy(what, proxy, trusted)


class PlacesBehind:
    """The ``Admission`` of a server behind proxies. The addresses of these count in the
    total only."""

    __slots__ = ("_all", "_each", "_trusted")

    def __init__(self, limits: Limits, trusted: Networks) -> None:
        self._all = Places(replace(limits, address_connections=0))
        self._each = Places(replace(limits, connections=0))
        self._trusted = trusted

    def enter(self, host: str) -> bool:
        """See ``Admission``: for a connection."""
        if not self._all.enter(host):
            return False
        if self.enter_client(host):
            return True
        self._all.leave(host)
        return False

    def leave(self, host: str) -> None:
        """See ``Admission``."""
        self._all.leave(host)
        self.leave_client(host)

    def enter_client(self, host: str) -> bool:
        """Counts a request that came through a proxy under its client's address, as
        ``enter`` does a connection."""
        return self._trusted.trusts(host) or self._each.enter(host)

    def leave_client(self, host: str) -> None:
        """Uncounts a request that ``enter_client`` has let in."""
        if not self._trusted.trusts(host):
            self._each.leave(host)


def forwarding(handler: RequestHandler, field: str, trusted: Networks, places: PlacesBehind) -> RequestHandler:
    """Returns a handler that gives each request from a trusted peer the address and
    scheme that its ``field`` says, counts it among ``places``, and runs ``handler``."""
    find = FIELDS[field]

    def serve(stream: ServerStream) -> object:
        if not trusted.trusts(host_of(stream.remoteaddr)):
            return handler(stream)
        client = find(stream.header, trusted)
        if client.fault is not None:
            logger.limited("http forwarded", f"http: {stream.remoteaddr}: {client.fault}")
        if client.scheme is not None:
            stream.scheme = client.scheme
        if client.remoteaddr is None:
            return handler(stream)
        stream.remoteaddr = client.remoteaddr
        host = host_of(client.remoteaddr)
        if not places.enter_client(host):
            return stream.answer(503, _BUSY)
        try:
            return handler(stream)
        finally:
            places.leave_client(host)

    serve.__qualname__ = name_of(handler)  # what log lines call it
    return serve
