"""Addresses as text: ``host:port``.

    addr.parse("127.0.0.1:80")          # -> ("127.0.0.1", "80")
    addr.parse("[::1]:80")              # -> ("::1", "80")
    addr.parse(":80")                   # -> (None, "80")
    addr.join("::1", 80)                # -> "[::1]:80"

An address without a host, such as ``:80``, means every address of the machine, IPv4 and
IPv6. The transports also accept ``unix:/path`` for a Unix domain socket, and those that
listen ``fd:3`` for a listening socket that the process has inherited, and
``systemd:web`` for those that systemd has passed with that name.
"""

from __future__ import annotations

import os
import socket

from .._shown import shown

__all__ = ["ishost", "isv4", "isv6", "iptype", "join", "parse", "unixpath"]


def parse(addr: str) -> tuple[str | None, str | None]:
    """Splits an address into host and port; a part that is missing is None. An IPv6
    address with a port stands in brackets. Returns ``(None, None)`` if a bracket is not
    closed.

        addr.parse("[::1]:80")              # -> ("::1", "80")
    """
    if addr.startswith("["):
        host, bracket, rest = addr[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None, None
        return host or None, rest[1:] or None
    host, _, port = addr.partition(":")
    return host or None, port or None


def join(host: str | None, port: int | str) -> str:
    """Returns ``host:port``, with brackets around an IPv6 address that has none yet."""
    host = host or ""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def iptype(host: str) -> int:
    """Returns 4 or 6 if ``host`` is an IP address, else 0."""
    for family, kind in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
        try:
            socket.inet_pton(family, host.partition("%")[0] if kind == 6 else host)
        except (OSError, ValueError):
            continue
        return kind
    return 0


def isv4(host: str) -> bool:
    """Whether ``host`` is an IPv4 address."""
    return iptype(host) == 4


def isv6(host: str) -> bool:
    """Whether ``host`` is an IPv6 address."""
    return iptype(host) == 6


def ishost(host: str) -> bool:
    """Whether ``host`` is a name, which must be looked up."""
    return host != "" and iptype(host) == 0


def unixpath(addr: str) -> str | None:
    """Returns the path of ``unix:/path``, or None for any other address."""
    return addr[5:] if addr.startswith("unix:") else None


def socketpath(addr: str, what: str) -> str | None:
    """``unixpath`` for a transport. Raises ValueError for an empty path or one with a
    zero byte, which the system would understand as something else, and for one that no
    file can have.
    """
    path = unixpath(addr) if isinstance(addr, str) else None
    if path is not None:
        if not path or "\0" in path:
            raise ValueError(f"{what}: {shown(addr)} has no path (an address is 'unix:/path')")
        try:
            os.fsencode(path)
        except UnicodeError:
            raise ValueError(f"{what}: {shown(addr)} has characters that no file's name can have") from None
    return path


def inherited(addr: str, what: str) -> int | None:
    """Returns the number of ``fd:3`` for a transport that listens, or None for any
    other address. Raises ValueError if it isn't a number."""
    if not isinstance(addr, str) or not addr.startswith("fd:"):
        return None
    number = addr[3:]
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise ValueError(f"{what}: {shown(addr)} has no descriptor's number (an address is 'fd:3')")
    return int(number)


def passed(addr: str) -> str | None:
    """Returns the name in ``systemd:web``, which may be empty, for a transport that
    listens, or None for any other address."""
    return addr[8:] if isinstance(addr, str) and addr.startswith("systemd:") else None


def endpoint(addr: str, what: str) -> tuple[str | None, int]:
    """Returns host and port number for a transport. Raises TypeError or ValueError,
    naming ``what``, if ``addr`` is not an address.
    """
    if not isinstance(addr, str):
        raise TypeError(f"{what} needs an address such as '127.0.0.1:8080', not {type(addr).__name__}")
    host, port = parse(addr)
    if port is None or not port.isascii() or not port.isdigit() or len(port) > 9 or int(port) > 65535:
        text = "is not an address with a port from 0 to 65535: 'host:port', '[::1]:port', ':port' or 'unix:/path'"
        raise ValueError(f"{what}: {shown(addr)} {text}")
    if host is not None and ("\0" in host or host.strip() != host or (":" in host and iptype(host) == 0)):
        raise ValueError(f"{what}: bad host in {shown(addr)}")
    return host, int(port)


def sockaddr_text(family: int, sockaddr: object) -> str:
    """Returns a socket's address as text. An IPv4 address that came in through an IPv6
    socket is shown as IPv4; one that is only valid on one link has its zone, such as
    ``[fe80::1%eth0]:80`` (RFC 4007, section 11).
    """
    if family == socket.AF_UNIX:
        path = sockaddr.decode("utf-8", "replace") if isinstance(sockaddr, bytes) else str(sockaddr)
        return f"unix:@{path[1:]}" if path.startswith("\0") else f"unix:{path}"  # without a file: unix(7), "abstract"
    assert isinstance(sockaddr, tuple)
    host = str(sockaddr[0]).removeprefix("::ffff:") if "." in str(sockaddr[0]) else str(sockaddr[0])
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
        host = f"{host}%{_zone(sockaddr[3])}"
    return join(host, sockaddr[1])


def _zone(index: int) -> str:
    """Returns the name of a network interface, or its number if it has gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)
