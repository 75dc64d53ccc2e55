"""Request paths (RFC 3986, section 3.3): from what was sent to decoded segments. Pure.

A path is first split and then decoded, once: an encoded "/" stays inside its segment,
and the result is never decoded again.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from .error import ProtocolError

_SENT = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")
"""Visible ASCII, each "%" with its two digits."""
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")
"""Control characters and separators, which no segment of a file's path may contain."""


def segments(path: str) -> list[str]:
    """The decoded segments of ``path``, which starts with "/": ``"/a/b%20c/"`` gives
    ``["a", "b c", ""]``.

    Raises ``ProtocolError`` (400) for a bad percent-escape, and for a path that isn't
    UTF-8.
    """
    if not _SENT.fullmatch(path):
        raise ProtocolError("a bad character or percent-escape in the path", 400)
    found = path.split("/")[1:]
    if "%" in path:
        try:
            return [unquote_to_bytes(each).decode() for each in found]
        except UnicodeDecodeError:
            raise ProtocolError("the path is not UTF-8", 400) from None
    return found


def file_segments(path: str) -> list[str]:
    """``segments`` for the path of a file: none of them can lead out of a directory, or
    mean more than one name.

    Raises ``ProtocolError``: 400 for control characters, encoded separators,
    backslashes, "." and ".."; 404 for an empty segment other than the last, and for a
    hidden name (which starts with a dot).
    """
    found = segments(path)
    if any(each in (".", "..") or _UNFIT.search(each) for each in found):
        raise ProtocolError("the path is not that of a file", 400)
    if "" in found[:-1] or any(each.startswith(".") for each in found):
        raise ProtocolError("Not Found", 404)
    return found
