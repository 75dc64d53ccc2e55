"""URLs of the schemes http, https, ws and wss (RFC 9110, section 4.2; RFC 6455, section
3), as clients need them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from .error import ProtocolError
from .http1 import check_host

HTTP = {"http": 80, "https": 443}
WEBSOCKET = {"ws": 80, "wss": 443}
"""Schemes and their default ports."""

_HOST_PORT = re.compile(r"(?:\[[^\[\]]*:[^\[\]]*\]|[^:\[\]]*)(?::[0-9]{0,9})?")
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\.?")
"""What systems accept as an IPv4 address (RFC 3986, section 7.4): 0x7f.1 is 127.0.0.1,
and slips past a filter that looks for that."""


class Url(NamedTuple):
    """The parts of a URL.

    ``host`` is in ASCII and lower case, an IPv6 address without brackets. ``path``
    includes the query, as it is sent. ``authorization`` is the user and password as a
    field value (RFC 7617).
    """

    scheme: str
    host: str
    port: int
    path: str
    authorization: str | None
    default_port: int

    @property
    def authority(self) -> str:
        """The host as it stands in a URL, without the port."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def host_field(self) -> str:
        """The value of the field Host, without a port that is the scheme's own."""
        return self.authority if self.port == self.default_port else f"{self.authority}:{self.port}"

    @property
    def target(self) -> str:
        """The address to connect to. ``unix:80`` alone is a Unix domain socket."""
        return f"[{self.host}]:{self.port}" if self.host == "unix" else f"{self.authority}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What two URLs of one origin share (RFC 6454)."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_field}{self.path}"


def parse_url(url: str, schemes: Mapping[str, int], fragment: bool = False) -> Url | str:
    """The parts of ``url``, or what is wrong with it. ``fragment``: whether it may have
    one, which is dropped.

    ``schemes``: those that are allowed, with their default ports.
    """
    if not url.isprintable() or " " in url:
        return "a URL has no spaces or control characters"
    try:
        parts = urlsplit(url)
    except ValueError:
        return "bad host: Invalid IPv6 address or characters"  # Python's own message may contain the password
    default = schemes.get(parts.scheme)
    if default is None:
        return "the scheme is neither " + " nor ".join(f"{scheme}://" for scheme in schemes)
    if not fragment and (parts.fragment or url.endswith("#")):
        return "a WebSocket URL has no fragment"
    host = parts.hostname
    if not host:
        return "no host"
    if "\\" in parts.netloc:
        return "bad host: browsers take a backslash for a slash"
    if not _HOST_PORT.fullmatch(parts.netloc.rpartition("@")[2]):
        return "bad host or port"
    authorization = None
    try:
        port = parts.port
        if parts.username or parts.password:
            authorization = _basic_credentials(unquote(parts.username or ""), unquote(parts.password or ""))
        if "ß" in host or "ς" in host:
            return "bad host: with ß or ς it is another name for browsers (IDNA 2008): write it as xn--…"
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path = path if path.isascii() else "".join(c if c.isascii() else _quoted(c) for c in path)
        check_host(f"[{host}]" if ":" in host else host)
        if "*" in host:
            return "bad host: a wildcard"
        if "%" in host:
            return "bad host: an encoded character"  # no name of the DNS has one
        if _NUMBERS.fullmatch(host):
            IPv4Address(host)
    except (UnicodeError, ProtocolError) as exc:
        return f"bad host: {exc}"
    except AddressValueError:
        return "bad host: an IPv4 address is four decimal numbers"
    except ValueError as exc:
        return str(exc)
    return Url(parts.scheme, host, default if port is None else port, path, authorization, default)


def _basic_credentials(user: str, password: str) -> str:
    """An Authorization of the Basic scheme (RFC 7617). Raises ValueError for a user
    name with a colon."""
    if ":" in user:
        raise ValueError("a user name for basic authentication has no colon")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def resolve(base: Url, reference: str) -> str:
    """The URL that ``reference``, a Location field, means in a response of ``base``.

    See RFC 3986, section 5. A bad one is returned as it is, for ``parse_url`` to
    refuse.
    """
    try:
        return urljoin(str(base), reference)
    except ValueError:
        return reference


def hidden(url: str) -> str:
    """``url`` without its user and password, for texts that are logged.

    If it isn't a valid URL, everything that may be one of these is left out.
    """
    scheme, slashes, rest = url.partition("://")
    end = len(rest)
    if isinstance(parse_url(url, {**HTTP, **WEBSOCKET}, fragment=True), Url):
        end = min((at for at in (rest.find(c) for c in "/?#") if at >= 0), default=end)
    return scheme.rpartition("@")[2] + slashes + rest[:end].rpartition("@")[2] + rest[end:]


def _quoted(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))
