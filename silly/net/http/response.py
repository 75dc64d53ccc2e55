"""``Response``: what ``http.get``, ``post`` and ``fetch`` return."""

from __future__ import annotations

import json
import re
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Any, NoReturn

from ..._wire.header import Header

_PARAMETER = re.compile(r';[ \t]*(?:([^\s;="]+)=("(?:[^"\\]|\\.)*"|[^\s;"]*))?')
_CHARSETS = frozenset((*aliases, *aliases.values(), "cp874", "koi8_u", "utf_8_sig"))
"""Charsets that a server may choose. Codecs without an alias are for Python's own uses:
punycode takes minutes for a megabyte, and unicode_escape warns about its input. Python
caches each look-up of an unknown name, so unknown names are not looked up."""


class Response:
    """A response with its whole body: what ``http.get``, ``post`` and ``fetch`` return.

        response, err = http.get("http://127.0.0.1:8080/")
        if response is not None:
            print(response.status, response.header["content-type"], response.text)

    * ``status`` (int), ``reason`` (str), ``version`` (``"HTTP/1.1"`` or ``"HTTP/1.0"``)
    * ``header``, ``trailer``: the fields; a missing one is None
    * ``body``: bytes; gzip and deflate are decoded, unless the caller asked for the
      coding
    * ``url``: the URL of the last request, after redirects, without user and password
    """

    __slots__ = ("body", "header", "reason", "status", "trailer", "url", "version")

    def __init__(self, status: int, reason: str, version: str, header: Header, trailer: Header, body: bytes, url: str) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self.header = header
        self.trailer = trailer
        self.body = body
        self.url = url

    @property
    def text(self) -> str:
        """The body as text, in the charset that Content-Type names. It is UTF-8 if that
        names none, or an unknown one. Bytes that are not text become U+FFFD.
        """
        try:
            return self.body.decode(_charset(self.header["content-type"] or ""), "replace")
        except LookupError:  # an alias of a codec that doesn't make text, or of another system's
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Returns the body parsed as JSON (RFC 8259).

            response, err = http.post("http://127.0.0.1:8080/", None, '{"name": "Ada"}')
            if response is not None:
                print(response.json()["name"])  # -> Ada

        Raises ValueError if it is not JSON.
        """
        try:
            return json.loads(self.body, parse_constant=_no_json)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None

    def __repr__(self) -> str:
        return f"<http response {self.status} of {self.url}, {len(self.body)} bytes>"


def _charset(content_type: str) -> str:
    """The charset that a Content-Type names (RFC 9110, section 8.3.2), or UTF-8."""
    for name, value in _PARAMETER.findall(content_type):
        if name.lower() == "charset":
            charset = normalize_encoding(value.strip("\"'")).lower()
            return charset if charset in _CHARSETS else "utf-8"
    return "utf-8"


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
