"""The WebSocket opening handshake (RFC 6455, section 4), both sides. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Literal

from .._shown import shown
from .deflate import Deflate, Parameters, check_answer
from .error import ProtocolError
from .header import TOKEN, Header, Outgoing, compose, split_list, tokens
from .http1 import ResponseHead

VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/:\[\]@?#,\s]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_OWN = frozenset(
    ("upgrade", "connection", "content-length", "transfer-encoding", "sec-websocket-accept", "sec-websocket-extensions")
    + ("sec-websocket-key", "sec-websocket-protocol", "sec-websocket-version")
)
"""Fields of the 101 that only the handshake itself sets."""

Origins = Sequence[str] | re.Pattern[str] | Literal[False] | None
"""Which pages may connect: those with an origin in the list, those whose whole origin
matches the pattern, all (False), or those of the same host (None)."""
Subprotocols = Sequence[str] | Callable[[list[str]], str | None] | None
"""A server's subprotocols in the order of its preference, or a function that chooses
one of those offered, or None."""


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID).digest()).decode("ascii")


def check_request(method: str, version: str, header: Header, body: int) -> str:
    """Checks an upgrade request; returns the Sec-WebSocket-Accept of the answer.

    Raises ProtocolError; its code is the HTTP status of the refusal.
    """
    if method != "GET":
        raise ProtocolError(f"a WebSocket upgrade is a GET, not a {method[:20]}", 405)
    if version != "HTTP/1.1":
        raise ProtocolError(f"a WebSocket upgrade needs HTTP/1.1, not {version}", 400)
    if body:
        # A proxy and we might disagree about where it ends.
        raise ProtocolError("a WebSocket upgrade with a body", 400)
    if "websocket" not in tokens(header["upgrade"]):
        raise ProtocolError("no 'Upgrade: websocket'", 426)
    if "upgrade" not in tokens(header["connection"]):
        raise ProtocolError("no 'upgrade' among the options of Connection", 426)
    wanted = header["sec-websocket-version"]
    if wanted != VERSION:
        raise ProtocolError(f"Sec-WebSocket-Version is not {VERSION}", 426 if wanted else 400)
    key = header["sec-websocket-key"]
    if key is None:
        raise ProtocolError("no Sec-WebSocket-Key", 400)
    try:
        nonce = base64.b64decode(key.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        nonce = b""
    if len(nonce) != 16:
        raise ProtocolError("Sec-WebSocket-Key is not 16 bytes in base64", 400)
    return accept_key(key)


def check_origins(origins: object) -> None:
    """Raises TypeError or ValueError if ``origins`` isn't an ``Origins``."""
    if origins is None or origins is False or isinstance(origins, re.Pattern):
        return
    if isinstance(origins, str) or not isinstance(origins, Sequence):
        raise TypeError(f"origins is a list, a compiled pattern, False or None, not {type(origins).__name__}")
    for origin in origins:
        if not isinstance(origin, str):
            raise TypeError(f"an origin is str, not {type(origin).__name__}")
        if not _ORIGIN.fullmatch(origin) and origin != "null":
            raise ValueError(f"an origin is 'scheme://host' or 'scheme://host:port', not {shown(origin)}")


def check_origin(header: Header, origins: Origins = None) -> None:
    """Raises ProtocolError 403 unless the page that a request comes from may connect.

    By default the page must be of the same host and port: a browser sends the user's
    cookies, so a foreign page could act in the user's name. The scheme may differ,
    since a proxy may have ended TLS. An empty port of Host is the default one.
    ``origins`` (checked by ``check_origins``) allows others instead. A request without
    Origin isn't a browser's, and passes.
    """
    origin = header["origin"]
    if origin is None or origins is False:
        return
    if origins is not None:
        if len(header.getall("origin")) > 1:
            allowed = False  # joined, they might match the pattern
        elif isinstance(origins, re.Pattern):
            allowed = origins.fullmatch(origin) is not None
        else:
            allowed = _normal(origin) in map(_normal, origins)
        if not allowed:
            raise ProtocolError(f"Origin {origin[:80]!r} is not allowed", 403)
        return
    match = _ORIGIN.fullmatch(origin)
    host = (header["host"] or "").lower().removesuffix(":")
    if match is not None:
        scheme, name, port = (part.lower() if part else None for part in match.groups())
        default = _DEFAULT_PORTS.get(scheme or "")
        port = port or default
        bare = host.endswith("]") or ":" not in host
        if port and (f"{name}:{port}" == host or (bare and port == default and name == host)):
            return
    raise ProtocolError(f"Origin {origin[:80]!r} is not this host, {host[:80]!r}", 403)


def _normal(origin: str) -> str:
    """An origin in lower case, without its scheme's default port."""
    scheme, _, rest = origin.lower().partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{rest.removesuffix(f':{default}') if default else rest}"


def check_subprotocols(subprotocols: object) -> list[str]:
    """The names as a list.

    Raises TypeError or ValueError unless they are tokens that differ.
    """
    if isinstance(subprotocols, str) or not isinstance(subprotocols, Sequence):
        raise TypeError(f"subprotocols is a list of names, not {type(subprotocols).__name__}")
    for name in subprotocols:
        if not isinstance(name, str):
            raise TypeError(f"a subprotocol is str, not {type(name).__name__}")
        if not TOKEN.fullmatch(name):
            raise ValueError(f"bad subprotocol {shown(name)}: it is no token of RFC 9110")
    if len(set(subprotocols)) < len(subprotocols):
        raise ValueError(f"subprotocols must all be different: {shown(list(subprotocols))}")
    return list(subprotocols)


def offered_subprotocols(header: Header) -> list[str]:
    """The subprotocols that a request offers, in its order.

    Raises ProtocolError 400 for one that isn't a token.
    """
    offered = split_list(header["sec-websocket-protocol"] or "")
    for name in offered:
        if not TOKEN.fullmatch(name):
            # Not quoted: pages put tokens there, as browsers offer them no other field.
            raise ProtocolError(f"bad Sec-WebSocket-Protocol: one of {len(name)} characters is no token of RFC 9110", 400)
    return offered


def choose_subprotocol(offered: list[str], subprotocols: Subprotocols) -> str | None:
    """The server's choice among those offered; None for no subprotocol.

    Raises ValueError if a function chose one that wasn't offered.
    """
    if subprotocols is None:
        return None
    if callable(subprotocols):
        chosen = subprotocols(list(offered))
        if chosen is not None and chosen not in offered:
            raise ValueError(f"subprotocols() chose {shown(chosen)}, which is not one of those offered: {shown(offered)}")
        return chosen
    return next((name for name in subprotocols if name in offered), None)


def extra_fields(header: Outgoing) -> list[tuple[str, str]]:
    """The application's header fields for the 101, checked.

    Raises ValueError for a field that only the handshake sets.
    """
    fields = compose(header)
    for name, _ in fields:
        if name in _OWN:
            raise ValueError(f"the answer to a WebSocket handshake can't have the header {shown(name)}")
    return fields


def request_fields(key: str) -> list[tuple[str, str]]:
    """The header fields that make a request a WebSocket upgrade."""
    return [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", key),
        ("sec-websocket-version", VERSION),
    ]


def check_response(
    response: ResponseHead, key: str, subprotocols: list[str], deflate: Deflate | None = None
) -> Parameters | None:
    """Checks the answer to a request that offered these (section 4.1, at its end).

    Returns the parameters of compression, or None if it wasn't agreed on. Raises
    ProtocolError.
    """
    header = response.header
    if response.status != 101:
        # Only as much of the reason as fits a log line, without control characters,
        # which a terminal would obey.
        reason = ascii(response.reason[:80])[1:-1]
        raise ProtocolError(f"the server answered {response.status} {reason}".rstrip(), response.status)
    if response.version != "HTTP/1.1":
        raise ProtocolError(f"101 in {response.version}", 101)
    if tokens(header["upgrade"]) != ["websocket"]:
        raise ProtocolError("101 without 'Upgrade: websocket'", 101)
    if "upgrade" not in tokens(header["connection"]):
        raise ProtocolError("101 without 'Connection: Upgrade'", 101)
    if header["sec-websocket-accept"] != accept_key(key):
        raise ProtocolError("101 with a wrong Sec-WebSocket-Accept", 101)
    chosen = header["sec-websocket-protocol"]
    if chosen not in (None, *subprotocols):
        raise ProtocolError(f"101 with the sec-websocket-protocol {str(chosen)[:80]!r}, which was not asked for", 101)
    if header["transfer-encoding"] is not None or header["content-length"] not in (None, "0"):
        raise ProtocolError("101 with a body", 101)
    return check_answer(header["sec-websocket-extensions"], deflate)
