"""Content codings (RFC 9110, section 8.4): ``gzip`` and ``deflate``, decoded as they arrive. Pure: bytes in, bytes out.

What a few bytes make can be a thousand times as long, so a caller says how much it takes. Decoding is strict: data that ends
early, or goes on behind the end, is a ``ProtocolError``. Several gzip members in a row are one content (RFC 1952, section
2.2). ``deflate`` means the zlib format; the bare deflate data that some servers send is understood too.
"""

from __future__ import annotations

import zlib

from .error import ProtocolError

CODINGS = "gzip, deflate"
"""What a client can say that it accepts."""

_OVERHEAD = 64 * 1024
_RATIO = 64
"""A coding may be longer than ``_RATIO`` times what it makes by ``_OVERHEAD`` bytes. Empty members and blocks make nothing: a
limit of the content would never end a body of them."""

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS
_NAMES = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


def known(coding: str | None) -> bool:
    """Whether ``coding``, the value of a Content-Encoding field, is one that ``ContentDecoder`` decodes. Several at once are
    not: nobody needs them but to hide a bomb."""
    return coding is not None and coding.strip(" \t").lower() in _NAMES


class ContentDecoder:
    """Decodes one message's content."""

    __slots__ = ("_allowed", "_bits", "_full", "_inflate", "_rest", "_started")

    def __init__(self, coding: str) -> None:
        self._bits = _NAMES[coding.strip(" \t").lower()]
        self._rest = b""
        self._inflate = zlib.decompressobj(self._bits)
        self._started = False
        self._allowed = _OVERHEAD
        """Bytes that may still be fed."""
        self._full = False
        """Whether zlib gave as much as it was allowed to: it may have more, though it has taken all of the input."""

    @property
    def waiting(self) -> bool:
        """Whether ``decode(b"", …)`` may give more of what was fed before."""
        return self._full or (self._started and bool(self._rest))

    def decode(self, data: bytes, most: int) -> bytes:
        """Feeds ``data``; up to ``most`` (at least 1) bytes that come of it and of what was fed before.

        Raises ProtocolError for what is no such coding.
        """
        self._allowed -= len(data)
        rest = self._rest + data if self._rest else data
        out = b""
        if rest and not self._started and not self._start(rest):
            self._rest = rest
            return out
        while (rest or self._full) and len(out) < most:
            if self._inflate.eof:
                # Another member: nothing else may follow.
                if self._bits != _GZIP:
                    raise ProtocolError("data behind the end of the content's coding", 502)
                self._inflate = zlib.decompressobj(_GZIP)
            room = most - len(out)
            try:
                piece = self._inflate.decompress(rest, room)
            except zlib.error as exc:
                raise ProtocolError(f"bad content coding: {str(exc).rpartition(': ')[2][:80]}", 502) from None
            out += piece
            self._full = len(piece) == room and not self._inflate.eof
            rest = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        self._rest = rest
        self._allowed += _RATIO * len(out)
        if self._allowed + len(rest) < 0:
            raise ProtocolError("a content coding that is far longer than what it makes", 502)
        return out

    def _start(self, rest: bytes) -> bool:
        """Tells bare deflate data from the zlib format, which takes two bytes; False while they aren't there."""
        if self._bits == _ZLIB:
            if len(rest) < 2:
                return False
            # RFC 1950, section 2.2: the method is 8, and the two bytes are a multiple of 31.
            if rest[0] & 0x0F != 8 or (rest[0] << 8 | rest[1]) % 31:
                self._bits = _BARE
                self._inflate = zlib.decompressobj(_BARE)
        self._started = True
        return True

    def finish(self) -> None:
        """The content has ended. Raises ProtocolError when its coding has not."""
        if self._rest or (self._started and not self._inflate.eof):
            raise ProtocolError("the content ends before its coding does", 502)
