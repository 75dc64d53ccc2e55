"""Content codings (RFC 9110, section 8.4): ``gzip`` and ``deflate``, decoded as they
arrive. Pure: bytes in, bytes out.

A few bytes can decode to a thousand times as many, so the caller says how many it
takes. Decoding is strict: data that ends early, or goes on after the end, is a
``ProtocolError``. Several gzip members in a row are one content (RFC 1952, section
2.2). ``deflate`` means the zlib format; the bare deflate data that some servers send is
understood too.
"""

from __future__ import annotations

import zlib

from .deflate import SHARE, START, Work
from .error import ProtocolError

CODINGS = "gzip, deflate"
"""The codings that a client can name as accepted."""

_OVERHEAD = 64 * 1024
_RATIO = 64
"""Coded data may have ``_OVERHEAD`` bytes more than ``_RATIO`` times what it decodes
to. Empty members and blocks decode to nothing, so a limit on the content alone would
never end a body of them."""

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS
_NAMES = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


def known(coding: str | None) -> bool:
    """Whether ``ContentDecoder`` decodes ``coding``, a Content-Encoding field's value.

    Several codings at once are refused: they only help to hide a bomb.
    """
    return coding is not None and coding.strip(" \t").lower() in _NAMES


class ContentDecoder(Work):
    """Decodes one message's content."""

    __slots__ = ("_allowed", "_bits", "_full", "_inflate", "_rest", "_started")

    def __init__(self, coding: str) -> None:
        super().__init__()
        self._bits = _NAMES[coding.strip(" \t").lower()]
        self._rest = b""
        self._inflate = zlib.decompressobj(self._bits)
        self._started = False
        self._allowed = _OVERHEAD
        """Bytes that may still be fed."""
        self._full = False
        """Whether zlib returned as many bytes as it was allowed to. Then it may have
        more, even if it has taken all of the input."""

    @property
    def waiting(self) -> bool:
        """Whether ``decode(b"", …)`` may return more of what was fed before."""
        return self._full or (self._started and bool(self._rest))

    def decode(self, data: bytes, most: int) -> bytes:
        """Feeds ``data``, and returns the next bytes of the content: at most ``most``,
        and fewer after ``SHARE`` bytes of work.

        ``most`` is at least 1. Raises ProtocolError if the data isn't in this coding.
        """
        self._allowed -= len(data)
        rest = self._rest + data if self._rest else data
        out = b""
        if rest and not self._started and not self._start(rest):
            self._rest = rest
            return out
        most = min(most, SHARE)
        end = self.work + SHARE
        while (rest or self._full) and len(out) < most and self.work < end:
            if self._inflate.eof:
                # Only another gzip member may follow.
                if self._bits != _GZIP:
                    raise ProtocolError("data behind the end of the content's coding", 502)
                self._inflate = zlib.decompressobj(_GZIP)
                self.work += START
            room = most - len(out)
            try:
                piece = self._inflate.decompress(rest, room)
            except zlib.error as exc:
                raise ProtocolError(f"bad content coding: {str(exc).rpartition(': ')[2][:80]}", 502) from None
            out += piece
            self.work += len(piece)
            self._full = len(piece) == room and not self._inflate.eof
            rest = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        self._rest = rest
        self._allowed += _RATIO * len(out)
        if self._allowed + len(rest) < 0:
            raise ProtocolError("a content coding that is far longer than what it makes", 502)
        return out

    def _start(self, rest: bytes) -> bool:
        """Tells bare deflate data from the zlib format, which takes two bytes; False
        while they aren't there."""
        if self._bits == _ZLIB:
            if len(rest) < 2:
                return False
            # RFC 1950, section 2.2: the method is 8, and the two bytes are a multiple
            # of 31.
            if rest[0] & 0x0F != 8 or (rest[0] << 8 | rest[1]) % 31:
                self._bits = _BARE
                self._inflate = zlib.decompressobj(_BARE)
        self._started = True
        return True

    def finish(self) -> None:
        """The content has ended. Raises ProtocolError when its coding has not."""
        if self._rest or (self._started and not self._inflate.eof):
            raise ProtocolError("the content ends before its coding does", 502)
