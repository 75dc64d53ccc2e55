"""The WebSocket opening handshake (RFC 6455, section 4), both sides. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from .error import ProtocolError
from .header import Header, tokens
from .http1 import Response

VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/:\[\]@?#,\s]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID).digest()).decode("ascii")


def check_request(method: str, version: str, header: Header, body: int) -> str:
    """Checks an upgrade request; the Sec-WebSocket-Accept to answer it with.

    Raises ``ProtocolError`` whose code is the HTTP status to refuse it with.
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


def check_origin(header: Header) -> None:
    """A browser's request must come from a page of the same host and port: cookies would make any other a forgery.

    No Origin: no browser, so nothing to protect. The scheme is ignored, since a proxy may have ended TLS.
    """
    origin = header["origin"]
    if origin is None:
        return
    match = _ORIGIN.fullmatch(origin)
    host = (header["host"] or "").lower()
    if match is not None:
        scheme, name, port = (part.lower() if part else None for part in match.groups())
        default = _DEFAULT_PORTS.get(scheme or "")
        port = port or default
        bare = host.endswith("]") or ":" not in host
        if port and (f"{name}:{port}" == host or (bare and port == default and name == host)):
            return
    raise ProtocolError(f"Origin {origin[:80]!r} is not this host, {host[:80]!r}", 403)


def request_fields(key: str) -> list[tuple[str, str]]:
    """The fields of an upgrade request that are WebSocket's."""
    return [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", key),
        ("sec-websocket-version", VERSION),
    ]


def check_response(response: Response, key: str, protocols: list[str]) -> None:
    """Checks the server's answer (section 4.1, the list at its end) to a request that offered ``protocols``.

    Raises ``ProtocolError``.
    """
    header = response.header
    if response.status != 101:
        raise ProtocolError(f"the server answered {response.status} {response.reason}".rstrip(), response.status)
    if response.version != "HTTP/1.1":
        raise ProtocolError(f"101 in {response.version}", 101)
    if tokens(header["upgrade"]) != ["websocket"]:
        raise ProtocolError("101 without 'Upgrade: websocket'", 101)
    if "upgrade" not in tokens(header["connection"]):
        raise ProtocolError("101 without 'Connection: Upgrade'", 101)
    if header["sec-websocket-accept"] != accept_key(key):
        raise ProtocolError("101 with a wrong Sec-WebSocket-Accept", 101)
    if header["sec-websocket-extensions"] is not None:
        raise ProtocolError("101 with a sec-websocket-extensions that was not asked for", 101)
    if header["sec-websocket-protocol"] not in (None, *protocols):
        raise ProtocolError("101 with a sec-websocket-protocol that was not asked for", 101)
    if header["transfer-encoding"] is not None or header["content-length"] not in (None, "0"):
        raise ProtocolError("101 with a body", 101)
