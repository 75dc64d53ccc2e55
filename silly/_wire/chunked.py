"""The chunked transfer coding (RFC 9112, section 7.1), in both directions: bodies in
chunks, and the trailer fields behind them. Pure: bytes in, values out.

As strict as the heads in ``http1.py``: a size is hexadecimal digits, CRLF alone ends a
line, and a chunk ends where its size says. A client also takes blanks after a chunk's
size and folded trailers, since servers send them.
"""

from __future__ import annotations

import re

from .._shown import shown
from .accelerated_http import take_chunks
from .chunk_data import AT_SIZE, OVERHEAD, added_overhead
from .error import ProtocolError
from .header import Header, Outgoing, compose
from .http1 import bad, check_begun, parse_trailer
from .limits import Limits
from .numbers import MOST

_FORBIDDEN_TRAILERS = frozenset(
    ("authorization", "cache-control", "connection", "content-encoding", "content-length", "content-range", "content-type")
    + ("cookie", "expect", "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since")
    + ("keep-alive", "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "proxy-connection", "range")
    + ("set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "www-authenticate")
)
"""Fields that frame, route, modify or authorise a message: RFC 9110, section 6.5.1,
keeps them out of trailers."""

_SIZE_LINE = 256
"""The longest chunk-size line, extensions included."""
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_PADDED_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
"""A size that blanks may follow; also the beginning of any size line."""


class ChunkedReader:
    """Decodes the chunked transfer coding (RFC 9112, section 7.1) in a growing buffer.

    ``response``: whether it is the body of a response. Then blanks may follow a chunk's
    size, and trailers may be folded: servers do both, and other clients take both.

    ``read`` takes what is there. ``done``: the end was taken, trailers included.
    ``more``: the last ``read`` stopped since it had begun as many chunks as it was
    allowed to.
    """

    __slots__ = ("_ended", "_left", "_limits", "_overhead", "_response", "_searched", "_size_form", "done", "more", "trailer")

    def __init__(self, limits: Limits, response: bool = False) -> None:
        self._limits = limits
        self._response = response
        self._size_form = _PADDED_SIZE if response else _SIZE
        self._left = AT_SIZE
        """As ``take_chunks`` has it, and so is ``_overhead``."""
        self._overhead = 0
        self._ended = False
        """Whether the last chunk's size was read: the trailers come next."""
        self._searched = 0
        self.done = False
        self.more = False
        self.trailer = Header()

    def read(self, buf: bytearray, most: int, chunks: int = MOST) -> bytes:
        """Takes up to ``most`` bytes of the body off the front of ``buf``, and begins
        at most ``chunks`` new chunks; empty while nothing is complete."""
        parts: list[bytes] = []
        self.more = False
        while most > 0 and not self.done:
            if not self._ended:
                data, self._left, self._overhead, chunks = take_chunks(buf, self._left, self._overhead, most, chunks)
                parts.append(data)
                most -= len(data)
                if not most:
                    break
                if self._left != AT_SIZE:
                    if not self._left and not b"\r\n".startswith(buf[:2]):
                        raise ProtocolError("a chunk doesn't end where its size says", 400)
                    break
            if chunks <= 0:
                self.more = True
                break
            chunks -= 1
            size = self._trailer(buf) if self._ended else self._size_line(buf)
            if not size:
                break
            del buf[:size]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _size_line(self, buf: bytearray) -> int:
        """Reads a chunk's size. Returns its line's length, or 0 for half a line."""
        end = buf.find(b"\r\n", 0, _SIZE_LINE)
        line = bytes(buf[: end if end >= 0 else _SIZE_LINE])
        if end < 0:
            if len(line) >= _SIZE_LINE:
                raise ProtocolError(f"chunk-size line longer than {_SIZE_LINE} bytes", 400)
            # Fail at the first byte that proves the fault: a CR may be the first half
            # of the line's end.
            good = self._size_form.fullmatch(line[:-1]) if line.endswith(b"\r") else not line or _PADDED_SIZE.fullmatch(line)
            if not good:
                raise bad("chunk size", line)
            return 0
        match = self._size_form.fullmatch(line)
        if match is None:
            raise bad("chunk size", line)
        size = int(match.group(1), 16)
        if size > MOST:
            raise bad("chunk size", line)
        self._overhead = added_overhead(self._overhead, len(line), size)
        if self._overhead > OVERHEAD:
            raise ProtocolError(f"chunk extensions longer than {OVERHEAD} bytes", 400)
        if size:
            self._left = size
        else:
            self._ended = True
        return end + 2

    def _trailer(self, buf: bytearray) -> int:
        """Reads the trailers. Returns their length, or 0 while they are incomplete."""
        if buf.startswith(b"\r\n"):
            self.done = True
            return 2
        end = buf.find(b"\r\n\r\n", self._searched)
        limit = self._limits.head
        if (end if end >= 0 else len(buf) - 3) > limit:
            check_begun(buf, self._searched, limit + 4)
            raise ProtocolError(f"trailers longer than the limit 'head' of {limit} bytes", 431)
        if end < 0:
            check_begun(buf, self._searched, len(buf))
            self._searched = max(0, len(buf) - 3)
            return 0
        trailer = parse_trailer(bytes(buf[:end]), self._limits, self._response)
        for name in trailer:
            if name in _FORBIDDEN_TRAILERS:
                raise ProtocolError(f"the field {shown(name)} may not be a trailer", 400, "a field that may not be a trailer")
        self.trailer = trailer
        self.done = True
        return end + 4


def chunk(data: bytes) -> bytes:
    """``data``, which isn't empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
"""The end of a chunked body without trailers."""


def last_chunk(trailer: Outgoing) -> bytes:
    """The end of a chunked body, with its trailer fields. Raises ValueError for a field
    that may not be a trailer."""
    lines = []
    for name, value in compose(trailer):
        if name in _FORBIDDEN_TRAILERS:
            raise ValueError(f"the field {shown(name)} may not be a trailer")
        lines.append(f"{name}: {value}\r\n")
    return f"0\r\n{''.join(lines)}\r\n".encode("latin-1")
