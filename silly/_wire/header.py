"""Header fields (RFC 9110, section 5): the mapping that handlers see, and the checks
for what goes out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .._shown import shown

Outgoing = Mapping[str, Any] | Iterable[tuple[str, Any]]
"""Header fields to send: a mapping or pairs; a value is ``str``, ``int``, or a list of
them for repeated fields."""

T = TypeVar("T")

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Header(dict[str, str]):
    """Fields by lower-case name, found in any case. A field that isn't there is
    ``None``, never KeyError.

    Repeated fields are joined by ``", "`` (RFC 9110, section 5.2), and those of Cookie
    by ``"; "`` (RFC 9113, section 8.2.3). Set-Cookie is never joined: its value is the
    first one. ``getall(name)`` gives all values of a field. A ``Header`` that is sent
    on is sent with all of them.
    """

    _repeated: dict[str, list[str]] | None = None

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        for name, value in fields:
            self.add(name.lower(), value)

    def add(self, name: str, value: str) -> None:
        """Adds a field; ``name`` is in lower case."""
        if not dict.__contains__(self, name):
            dict.__setitem__(self, name, value)
            return
        if self._repeated is None:
            self._repeated = {}
        first: str = dict.__getitem__(self, name)
        values = self._repeated.setdefault(name, [first])
        values.append(value)
        if name != "set-cookie":
            dict.__setitem__(self, name, f"{first}; {value}" if name == "cookie" else f"{first}, {value}")

    def getall(self, name: str) -> list[str]:
        """Every value of a field, in order; an empty list when it isn't there."""
        name = name.lower()
        if self._repeated is not None and name in self._repeated:
            return list(self._repeated[name])
        value = dict.get(self, name)
        return [] if value is None else [value]

    if TYPE_CHECKING:

        def __getitem__(self, name: str) -> str | None:  # type: ignore[override]
            """The field's value, or None."""

    def __missing__(self, name: str) -> str | None:
        return dict.get(self, name.lower())

    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: T) -> str | T: ...
    def get(self, name: str, default: object = None) -> object:
        """The field's value, or ``default``."""
        return dict.get(self, name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and dict.__contains__(self, name.lower())


def compose(fields: Outgoing) -> list[tuple[str, str]]:
    """Checked pairs of name and value to send, the names in lower case.

    A value of None leaves the field out. Raises TypeError or ValueError for a field
    that may not be sent: its name isn't a token, or its value has control characters
    (CR and LF would smuggle in another field) or characters beyond Latin-1.
    """
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items() if type(fields) is dict else as_pairs(fields):
        name = check_name(name)
        if value is None:
            continue
        if isinstance(value, str):
            pairs.append((name, check_value(name, value)))
        elif isinstance(value, (list, tuple)):
            pairs.extend((name, check_value(name, each)) for each in value)
        else:
            pairs.append((name, check_value(name, value)))
    return pairs


def as_pairs(fields: Any) -> list[tuple[str, Any]]:
    """Returns the names and values of ``fields``, not checked. Raises TypeError if they
    are neither a mapping nor pairs."""
    if isinstance(fields, Header):
        # Its own items have only the first Set-Cookie.
        return [(name, fields.getall(name) if name == "set-cookie" else value) for name, value in fields.items()]
    if isinstance(fields, Mapping):
        return list(fields.items())
    if isinstance(fields, (str, bytes, bytearray)) or not isinstance(fields, Iterable):
        kind = type(fields).__name__
        raise TypeError(f"header fields are a mapping such as {{'content-type': 'text/plain'}}, or pairs, not {kind}")
    pairs = list(fields)
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"a header field is a pair of a name and a value, not {shown(pair, 80)}")
        if not isinstance(pair[0], str):
            raise TypeError(f"a header name is str, not {type(pair[0]).__name__}")
    return pairs


def one_cookie(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns the fields of a client's request with at most one Cookie: RFC 6265,
    section 5.4, forbids a second, and servers join two in different ways."""
    cookies = [value for name, value in fields if name == "cookie"]
    if len(cookies) < 2:
        return fields
    return [*((name, value) for name, value in fields if name != "cookie"), ("cookie", "; ".join(cookies))]


@lru_cache(512)
def check_name(name: str) -> str:
    """A field name in lower case."""
    if not isinstance(name, str):
        raise TypeError(f"a header name is str, not {type(name).__name__}")
    if not TOKEN.fullmatch(name):
        raise ValueError(f"bad header name {shown(name)}")
    return name.lower()


def check_value(name: str, value: object) -> str:
    """A field value as it goes on the wire."""
    if isinstance(value, str):
        # Nearly every value passes the first two tests, which cost a tenth of the
        # pattern.
        if not (value.isascii() and value.isprintable()) and not _VALUE.fullmatch(value):
            # Not shown: it may be a password.
            at, char = next((at, char) for at, char in enumerate(value) if not _VALUE.fullmatch(char))
            raise ValueError(f"bad value for the header {shown(name)}: {char!r} at {at} can't be sent")
        # A subclass, such as an enumeration, may be formatted as another text than was
        # checked.
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value)
    raise TypeError(f"the value of the header {shown(name)} is str, int or a list of them, not {type(value).__name__}")


def split_list(value: str) -> list[str]:
    """The elements of a comma-separated list, empty ones left out (RFC 9110, section
    5.6.1)."""
    return [part for element in value.split(",") if (part := element.strip(" \t"))]


def tokens(value: str | None) -> list[str]:
    """The elements of a comma-separated list of options, in lower case."""
    return split_list(value.lower()) if value else []
