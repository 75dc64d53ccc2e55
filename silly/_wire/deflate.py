"""permessage-deflate (RFC 7692): what is offered and accepted, and the compression of
messages, in both roles. Pure.

The zlib objects are made when the first message needs them; without context takeover
they go when the message ends, so an idle connection keeps none then. Whatever the peer
sends, nothing but ProtocolError is raised.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from .._shown import shown
from .error import ProtocolError
from .header import TOKEN
from .limits import changed_fields

if TYPE_CHECKING:
    from zlib import _Compress, _Decompress

NAME = "permessage-deflate"
BAD_DATA = 1007

_FLUSHED = b"\x00\x00\xff\xff"
"""The end of a sync flush: the sender removes it from a message's end, the receiver
adds it again (section 7.2)."""
_FINAL = b"\x03\x00"
"""An empty block with BFINAL=1."""
_INPUT_STEP = 4 * 1024
"""Where zlib may return some of its input, it is fed slices of this size, since it
copies what it returns."""
SHARE = 256 * 1024
"""After so many bytes that were inflated or compressed, which take some milliseconds,
other tasks and I/O go first."""
START = 1024
"""The bytes that a new zlib stream counts as work: a message may have one for each two
of its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Deflate:
    """The compression that we offer or accept (RFC 7692).

    With the defaults each connection that has used it takes 32 KiB to send and 11 KiB
    to receive. A ``Deflate`` is immutable. Raises TypeError or ValueError for bad
    values.

    ``server_no_context_takeover = False``
        Whether the server forgets a message before the next one: it compresses less,
        and keeps no memory between messages.
    ``client_no_context_takeover = False``
        The same for the client.
    ``server_max_window_bits = 12``
        8 to 15: the server's window has at most two to this power bytes. 12 takes an
        eighth of the memory of 15.
    ``client_max_window_bits = 12``
        The same for the client. A client that can't limit its window uses 15, whatever
        this says.
    ``level = 6``
        zlib's level, 0 to 9: a higher one takes longer and compresses better.
    ``memory_level = 5``
        zlib's memLevel, 1 to 9: compressing takes 512 bytes times two to this power,
        beside the window.
    ``threshold = 256``
        Messages with fewer bytes are not compressed, unless ``write`` asks for it.
        Measured with JSON: compression saves 190 of 256 bytes, or 110 without context
        takeover, in about 8 microseconds; of 64 bytes it saves 45 or 6.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 12
    client_max_window_bits: int = 12
    level: int = 6
    memory_level: int = 5
    threshold: int = 256

    def __post_init__(self) -> None:
        for name in ("server_no_context_takeover", "client_no_context_takeover"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is a bool, not {shown(getattr(self, name))}")
        self._check("server_max_window_bits", 8, 15)
        self._check("client_max_window_bits", 8, 15)
        self._check("level", 0, 9)
        self._check("memory_level", 1, 9)
        self._check("threshold", 0, sys.maxsize)

    def _check(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} is an int, not {shown(value)}")
        if not least <= value <= most:
            raise ValueError(f"{name} is {least} to {most}, not {shown(value)}")

    def __repr__(self) -> str:
        return changed_fields(self)


def deflate_options(value: object) -> Deflate | None:
    """What the argument ``compression`` means; None for no compression.

    It is False or None, True, a mapping of Deflate's fields, or a Deflate.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Deflate()
    if isinstance(value, Deflate):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"compression is a bool, a dict or a Deflate, not {type(value).__name__}")
    names = [field.name for field in fields(Deflate)]
    for key in value:
        if key not in names:
            raise TypeError(f"compression has no option {shown(key)}; it has {', '.join(names)}")
    return Deflate(**value)


# ---- negotiation ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameters:
    """What was negotiated (section 7.1)."""

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int


# RFC 6455, section 9.1: 1#extension with RFC 2616's list rule, so elements may be empty
# and space may surround separators. A quoted value must be a token once it is unquoted.
# No part can match what its successor can, and none gives anything back (the "+" after
# a "*" or "?"), so that the time is linear.
_SPACE = r"[ \t]*+"
_WORD = rf"{TOKEN.pattern}+"
_QUOTED = rf'"(?:\\?{TOKEN.pattern[:-1]})++"'
_PAIR = rf";{_SPACE}({_WORD}){_SPACE}(?:={_SPACE}({_WORD}|{_QUOTED}){_SPACE})?+"
_PARAMETER = re.compile(_PAIR)
_EXTENSION = re.compile(rf"[ \t,]*+({_WORD}){_SPACE}((?:{_PAIR})*+)(?:,[ \t,]*+|\Z)")
_WINDOW_BITS = re.compile(r"[89]|1[0-5]")

_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_WINDOWS = ("server_max_window_bits", "client_max_window_bits")

_Extension = tuple[str, list[tuple[str, str]]]
"""An extension's name and its parameters; the value of one that has none is ""."""


def _parse(field: str, code: int) -> list[_Extension]:
    found: list[_Extension] = []
    at = 0
    while at < len(field) or not found:
        match = _EXTENSION.match(field, at)
        if match is None:
            raise ProtocolError(f"bad Sec-WebSocket-Extensions at {field[at : at + 80]!r}", code)
        pairs: list[tuple[str, str]] = _PARAMETER.findall(match[2])
        found.append((match[1], [(name, value.strip('"').replace("\\", "")) for name, value in pairs]))
        at = match.end()
    return found


def _understand(pairs: list[tuple[str, str]], bare: int) -> dict[str, int]:
    """The parameters of permessage-deflate: 1 for a flag, the bits for a window.

    ``bare``: what client_max_window_bits without a value means, or 0 when it needs one.
    Raises ValueError.
    """
    got: dict[str, int] = {}
    for name, value in pairs:
        if name in got:
            raise ValueError(f"{name} twice")
        if name in _FLAGS:
            if value:
                raise ValueError(f"{name} has no value, but here {value[:80]!r}")
            got[name] = 1
        elif name in _WINDOWS:
            if bare and not value and name == "client_max_window_bits":
                got[name] = bare
            elif _WINDOW_BITS.fullmatch(value):
                got[name] = int(value)
            else:
                raise ValueError(f"{name} is 8 to 15, not {value[:80]!r}")
        else:
            raise ValueError(f"unknown parameter {name[:80]!r}")
    return got


def negotiate(field: str | None, options: Deflate | None) -> tuple[Parameters, str] | None:
    """The server's choice: what was negotiated, and the field that says so.

    None if it accepts nothing of what was offered. ``field`` is the request's
    Sec-WebSocket-Extensions, several joined by commas. The first offer of
    permessage-deflate that follows section 7.1 wins. Raises ProtocolError, with the
    status 400, for a field that breaks the grammar.
    """
    if field is None:
        return None
    extensions = _parse(field, 400)
    if options is None:
        return None
    for name, pairs in extensions:
        if name != NAME:
            continue
        try:
            offered = _understand(pairs, 15)
        except ValueError:
            # Section 5.1: this offer is declined, and the next one may be good.
            continue
        server = min(offered.get("server_max_window_bits", 15), options.server_max_window_bits)
        # A client that doesn't name this parameter must not be answered with it, and
        # may use any window.
        client = min(offered["client_max_window_bits"], options.client_max_window_bits) if _WINDOWS[1] in offered else 15
        agreed = Parameters(
            options.server_no_context_takeover or "server_no_context_takeover" in offered,
            options.client_no_context_takeover or "client_no_context_takeover" in offered,
            server,
            client,
        )
        answer = _compose(agreed.server_no_context_takeover, agreed.client_no_context_takeover)
        if server < 15 or "server_max_window_bits" in offered:
            answer += f"; server_max_window_bits={server}"
        if "client_max_window_bits" in offered:
            answer += f"; client_max_window_bits={client}"
        return agreed, answer
    return None


def _compose(server_no_context_takeover: bool, client_no_context_takeover: bool) -> str:
    text = NAME
    if server_no_context_takeover:
        text += "; server_no_context_takeover"
    if client_no_context_takeover:
        text += "; client_no_context_takeover"
    return text


def offer(options: Deflate) -> str:
    """The client's Sec-WebSocket-Extensions."""
    text = _compose(options.server_no_context_takeover, options.client_no_context_takeover)
    # Without a value: that would only be a hint, which some servers answer with a
    # larger one. We keep to our bits anyway.
    plain = text + "; client_max_window_bits"
    if options.server_max_window_bits == 15:
        return plain
    # A server that can't limit its window must decline the first offer, and may take
    # the second.
    return f"{text}; server_max_window_bits={options.server_max_window_bits}; client_max_window_bits, {plain}"


def check_answer(field: str | None, options: Deflate | None) -> Parameters | None:
    """What the server's Sec-WebSocket-Extensions agreed to, or None if it declined.

    ``options``: those that were offered, if any. Raises ProtocolError for anything but
    an answer to the offer (RFC 6455, section 4.1; RFC 7692, section 7.1).
    """
    if field is None:
        return None
    if options is None:
        raise ProtocolError("101 with a sec-websocket-extensions that was not asked for", 101)
    extensions = _parse(field, 101)
    for name, _ in extensions:
        if name != NAME:
            raise ProtocolError(f"101 with the extension {name[:80]!r}, which was not offered", 101)
    if len(extensions) > 1:
        raise ProtocolError(f"101 with {NAME} twice", 101)
    try:
        answer = _understand(extensions[0][1], 0)
    except ValueError as exc:
        raise ProtocolError(f"101 with a bad {NAME}: {exc}", 101) from None
    if options.server_no_context_takeover and "server_no_context_takeover" not in answer:
        raise ProtocolError(f"101 with {NAME}, but without the server_no_context_takeover that was demanded", 101)
    return Parameters(
        "server_no_context_takeover" in answer,
        options.client_no_context_takeover or "client_no_context_takeover" in answer,
        answer.get("server_max_window_bits", 15),  # a larger one than asked for answers the second offer
        min(answer.get("client_max_window_bits", 15), options.client_max_window_bits),
    )


# ---- messages ------------------------------------------------------------------------


class Work:
    """Counts what a coder does: a few bytes on the wire can be much work."""

    __slots__ = ("work",)

    def __init__(self) -> None:
        self.work = 0
        """The work done since ``rest_due`` was True, in bytes."""

    def rest_due(self) -> bool:
        """Returns whether ``SHARE`` bytes of work were done, and begins to count anew:
        others go first now."""
        if self.work < SHARE:
            return False
        self.work = 0
        return True


class Deflater(Work):
    """Compresses the messages of one direction."""

    __slots__ = ("_forgets", "_options", "_stream", "_window_bits")

    def __init__(self, no_context_takeover: bool, window_bits: int, options: Deflate) -> None:
        super().__init__()
        self._forgets = no_context_takeover
        self._window_bits = window_bits
        self._options = options
        self._stream: _Compress | None = None

    def forget(self) -> None:
        """Drops the context, since what was compressed last may not have been sent.

        The next message refers to nothing before it.
        """
        self._stream = None

    def piece(self, payload: bytes, final: bool) -> bytes:
        """The next piece of a message, flushed. ``final``: it is the last one."""
        out = b""
        if payload:
            stream = self._stream
            if stream is None:
                stream = self._stream = self._start()
            out = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
            self.work += len(payload)
        if not final:
            return out
        if self._forgets:
            self._stream = None
        # Nothing new: an empty block, less its last four bytes (section 7.2.3.6).
        return out[:-4] or b"\x00"

    def _start(self) -> _Compress:
        options = self._options
        # zlib silently turns 8 into 9, or refuses it. Z_RLE only repeats the last byte,
        # so it keeps within any window; that zlib at 9 happens to look back no more
        # than 250 bytes is nowhere promised.
        strategy = zlib.Z_RLE if self._window_bits == 8 else zlib.Z_DEFAULT_STRATEGY
        bits = -max(9, self._window_bits)
        return zlib.compressobj(options.level, zlib.DEFLATED, bits, options.memory_level, strategy)


def _one_more(most: int) -> int:
    """One byte more than ``most``, for zlib: never 0, which would mean no limit."""
    return max(0, min(most, sys.maxsize - 1)) + 1


class Inflater(Work):
    """Inflates the messages of one direction. It can't be used after an error."""

    __slots__ = ("_behind", "_bits", "_forgets", "_stream", "_tail", "more")

    def __init__(self, no_context_takeover: bool, window_bits: int) -> None:
        super().__init__()
        self._forgets = no_context_takeover
        # A peer whose zlib turns 8 into 9 doesn't know that.
        self._bits = -max(9, window_bits)
        self._stream: _Decompress | None = None
        self.more = False
        """Whether something is left: a further call of ``inflate`` may return more."""
        self._tail = b""
        """What zlib gets next; then comes ``_behind``."""
        self._behind = bytearray()

    def inflate(self, data: bytes, most: int) -> bytes:
        """Inflates what earlier calls have left, and ``data``, a part of a message.

        If the result is longer than ``most`` bytes, returns the first ``most + 1`` of
        them. Returns less if it has done ``SHARE`` bytes of work. ``more`` says whether
        something is left then.
        """
        bound = _one_more(most)
        end = self.work + SHARE
        behind = self._behind
        if self.more or len(data) > _INPUT_STEP:
            behind += data
            data, self._tail = self._tail, b""
        out, rest = self._step(data, bound)
        if not rest and not behind and len(out) < bound:
            self.more = False
            return out  # nearly always
        gathered = bytearray(out)
        while len(gathered) < bound and self.work < end:
            if not rest:
                if not behind:
                    break
                rest = bytes(behind[:_INPUT_STEP])
                del behind[:_INPUT_STEP]
            out, rest = self._step(rest, bound - len(gathered))
            gathered += out
        self._tail = rest
        # After as much as it was allowed zlib may still hold some of a match, though it
        # has taken all of the input.
        self.more = bool(rest or behind) or len(gathered) == bound
        return bytes(gathered)

    def hold(self, data: bytes) -> None:
        """Keeps ``data``, a part of a message, for a later ``inflate``."""
        self._behind += data
        self.more = True

    def finish(self) -> None:
        """Ends the message, after ``inflate`` has returned all of it.

        Raises ProtocolError if the message ends within a block.
        """
        # All that was fed has been inflated, and the four bytes that are added again
        # finish an empty block. If they yield anything, or leave the stream where no
        # block may begin, then the message ended within another block.
        out, rest = self._step(_FLUSHED, 1)
        stream = self._stream
        # A stream that ends with them exactly had BFINAL=1 in its empty block: section
        # 7.2.1 allows that.
        if out or rest or not (stream is None or self._at_boundary(stream)):
            raise ProtocolError("compressed message that ends within a block", BAD_DATA)
        if self._forgets:
            self._stream = None

    def _at_boundary(self, stream: _Decompress) -> bool:
        """Whether a block may begin here: a final block of two bytes ends the stream.

        The test takes half a microsecond.
        """
        probe = stream if self._forgets else stream.copy()
        try:
            probe.decompress(_FINAL, 1)
        except zlib.error:
            return False
        return probe.eof

    def _step(self, data: bytes, most: int) -> tuple[bytes, bytes]:
        """Feeds ``data``; returns up to ``most`` bytes, and what is to be fed again."""
        stream = self._stream
        if stream is None:
            if not data:
                return b"", b""
            self.work += START
            stream = self._stream = zlib.decompressobj(self._bits)
        try:
            out = stream.decompress(data, most)
        except zlib.error as exc:
            raise ProtocolError(f"bad compressed data: {str(exc).rpartition(': ')[2][:80]}", BAD_DATA) from None
        self.work += len(out)
        if stream.eof:
            # A block with BFINAL=1 ends a stream, not the message (section 7.2.3.4).
            self._stream = None
            return out, stream.unused_data
        return out, stream.unconsumed_tail
