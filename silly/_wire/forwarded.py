"""Whom a request comes from, as the proxies before us say: the fields X-Forwarded-For
and Forwarded (RFC 7239). Pure.

Each proxy adds whom it got the request from, on the right. What stands left of that may
be the client's own invention. So the list is read from the right: as long as an address
is that of a trusted proxy, what this one has added is looked at next, and the first
other address is the client's. Nothing left of it is looked at. If every address is
trusted, the leftmost counts. The first element that is no address ends the search: then
the client's is the address found last, that of a trusted proxy.

Forwarded is read from the right too, though it has quotes. So an open quote of the
client's can't swallow what a proxy has added behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .._shown import shown
from .header import Header
from .networks import Address, Networks, joined, parse_address

HOPS = 32
"""The most elements that are looked at, empty ones included."""
_SCHEMES = frozenset(("http", "https"))
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_PAIR = re.compile(rf'({_TOKEN})=(?:({_TOKEN})|"([^"\\]*+)")')
"""A pair of Forwarded. A value with a backslash would be another one if read from the
left; no address or scheme needs any."""
_OBFUSCATED_PORT = re.compile(r"_[0-9A-Za-z._-]++")


class Sender(NamedTuple):
    """Where a request comes from."""

    remoteaddr: str | None
    """``host:port``, with port 0 if that is unknown; None for the peer itself."""
    scheme: str | None
    """``"http"`` or ``"https"``, or None: nothing is said about it."""
    fault: str | None = None
    """What ended the search, if it was an element that is no address."""


class _Bad(Exception):
    """Says what is wrong with an element."""


def by_x_forwarded_for(header: Header, trusted: Networks) -> Sender:
    """Reads X-Forwarded-For, and the scheme from X-Forwarded-Proto: the last value
    there, which the nearest proxy has set."""
    found: Address | None = None
    port = 0
    fault = None
    try:
        for element in _bounded(_elements(header["x-forwarded-for"] or "")):
            found, port = _node(element)
            if found not in trusted:
                break
    except _Bad as exc:
        fault = f"X-Forwarded-For: {exc}"
    proto = header["x-forwarded-proto"]
    scheme = _scheme(proto.rpartition(",")[2].strip(" \t")) if proto else None
    return Sender(_text(found, port), scheme, fault)


def by_forwarded(header: Header, trusted: Networks) -> Sender:
    """Reads Forwarded. The scheme is that of the element where the search ends."""
    found: Address | None = None
    port = 0
    scheme = fault = None
    try:
        for element in _bounded(_quoted_elements(header["forwarded"] or "")):
            scheme = None
            pairs = _pairs(element)
            scheme = _scheme(pairs.get("proto", ""))
            if "for" not in pairs:
                raise _Bad(f"no 'for' in {shown(element, 80)}")
            found, port = _node(pairs["for"], strict=True)
            if found not in trusted:
                break
    except _Bad as exc:
        fault = f"Forwarded: {exc}"
    return Sender(_text(found, port), scheme, fault)


FIELDS: dict[str, Callable[[Header, Networks], Sender]] = {
    "x-forwarded-for": by_x_forwarded_for,
    "forwarded": by_forwarded,
}
"""What reads each field."""


def _text(found: Address | None, port: int) -> str | None:
    return None if found is None else joined(found, port)


def _scheme(text: str) -> str | None:
    scheme = text.lower()
    return scheme if scheme in _SCHEMES else None


# ---- elements ------------------------------------------------------------------------


def _bounded(elements: Iterator[str]) -> Iterator[str]:
    """Leaves out what is empty. Raises _Bad past ``HOPS`` elements."""
    for count, element in enumerate(elements):
        if count == HOPS:
            raise _Bad(f"more than {HOPS} elements, and none of a client's")
        if element:
            yield element


def _elements(value: str) -> Iterator[str]:
    """The elements of a list, from the right."""
    end = len(value)
    while end >= 0:
        begin = value.rfind(",", 0, end)
        yield value[begin + 1 : end].strip(" \t")
        end = begin


def _quoted_elements(value: str) -> Iterator[str]:
    """The elements of a list that may have quoted strings, from the right. Raises _Bad
    for a string without a beginning."""
    quoted = False
    end = len(value)
    for at in range(end - 1, -1, -1):
        char = value[at]
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            yield value[at + 1 : end].strip(" \t")
            end = at
    if quoted:
        raise _Bad(f"an open quote in {shown(value[:end], 80)}")
    yield value[:end].strip(" \t")


def _pairs(element: str) -> dict[str, str]:
    """The pairs of an element of Forwarded (RFC 7239, section 4), names in lower case.
    Raises _Bad for what isn't in its grammar, and for a name that comes twice."""
    pairs: dict[str, str] = {}
    at = 0
    while True:
        match = _PAIR.match(element, at)
        if match is not None:
            name = match[1].lower()
            if name in pairs:
                raise _Bad(f"{shown(name, 40)} twice in {shown(element, 80)}")
            pairs[name] = match[3] if match[2] is None else match[2]
            at = match.end()
        if at == len(element):
            return pairs
        if element[at] != ";":
            raise _Bad(f"bad element {shown(element, 80)}")
        at += 1


# ---- addresses -----------------------------------------------------------------------


def _node(text: str, strict: bool = False) -> tuple[Address, int]:
    """The address of ``192.0.2.1``, ``192.0.2.1:80``, ``[2001:db8::1]`` or
    ``[2001:db8::1]:80``, and its port or 0. ``strict``: as in RFC 7239, section 6. Else
    ``2001:db8::1`` is one too. Raises _Bad."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        good, address = bool(bracket) and ":" in host, parse_address(host)
        colon, port = rest[:1], rest[1:]
    elif text.count(":") > 1:
        good, address = not strict, parse_address(text)
        colon = port = ""
    else:
        host, colon, port = text.partition(":")
        good, address = True, parse_address(host)
    if not good or address is None or colon not in ("", ":"):
        raise _Bad(f"no address: {shown(text, 80)}")
    if not colon:
        return address, 0
    if port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535:
        return address, int(port)
    if strict and _OBFUSCATED_PORT.fullmatch(port):
        return address, 0
    raise _Bad(f"bad port: {shown(text, 80)}")
