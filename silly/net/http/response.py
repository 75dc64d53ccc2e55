"""What ``http.get`` and its like return."""

from __future__ import annotations

import json
import re
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Any, NoReturn

from ..._wire.header import Header

_PARAMETER = re.compile(r';[ \t]*(?:([^\s;="]+)=("(?:[^"\\]|\\.)*"|[^\s;"]*))?')
_CHARSETS = frozenset((*aliases, *aliases.values(), "cp874", "koi8_u", "utf_8_sig"))
"""Python's names of charsets. Codecs that have no other name are for Python's own uses: punycode takes minutes for a megabyte,
unicode_escape warns of what it meets. And a look-up of any other name would stay in memory."""


class Response:
    """A response with its whole body.

    ``status`` (int), ``reason``, ``version`` (``"HTTP/1.1"``), ``header``, ``trailer``, ``body`` (bytes, the content coding
    taken off), ``url`` (of the last request, when redirects were followed; without user and password).
    """

    __slots__ = ("body", "header", "reason", "status", "trailer", "url", "version")

    def __init__(
        self, status: int, reason: str, version: str, header: Header, trailer: Header, body: bytes, url: str
    ) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self.header = header
        self.trailer = trailer
        self.body = body
        self.url = url

    @property
    def text(self) -> str:
        """The body as text, by the charset of Content-Type (UTF-8 if that names none, or one that isn't known).

        What isn't text in it becomes U+FFFD.
        """
        try:
            return self.body.decode(_charset(self.header["content-type"] or ""), "replace")
        except LookupError:  # some aliases are for codecs that don't make text, or for another system's
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON (RFC 8259). Raises ValueError when it is none."""
        try:
            return json.loads(self.body, parse_constant=_no_json)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None

    def __repr__(self) -> str:
        return f"<http response {self.status} of {self.url}, {len(self.body)} bytes>"


def _charset(content_type: str) -> str:
    """The charset that a Content-Type names (RFC 9110, section 8.3.2)."""
    for name, value in _PARAMETER.findall(content_type):
        if name.lower() == "charset":
            charset = normalize_encoding(value.strip("\"'")).lower()
            return charset if charset in _CHARSETS else "utf-8"
    return "utf-8"


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
