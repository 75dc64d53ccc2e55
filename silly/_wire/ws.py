"""WebSocket frames and messages (RFC 6455, section 5), in both roles. Pure: bytes in,
values out.

``MessageReader.next(buf)`` is a pull parser over the connection's own buffer. It takes
the next message or control frame off the front, or returns how many bytes the buffer
must hold before the next call. Every error is reported at the first byte that proves
it: a bad opcode at its byte, an oversized length at the header, bad UTF-8 while the
frame still arrives, a bad close code at its second byte. With an ``Inflater`` (RFC
7692) this also holds inside compressed messages.

A message is returned whole. After ``read_pieces`` it is read in pieces: ``take_piece``
returns its payload as it arrives. ``complete`` returns how much may be taken off a
buffer that no task reads.
"""

from __future__ import annotations

import codecs
import math
import sys
from typing import Any

from .._shown import shown
from .accelerated import Payload, apply_mask, unmask
from .deflate import SHARE, Inflater
from .error import ProtocolError
from .limits import Limits

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80
RSV1 = 0x40
"""On the first frame of a message: it is compressed (RFC 7692, section 6)."""
MASKED = 0x80

# Close codes (section 7.4.1 and the IANA registry).
NORMAL, GOING_AWAY, PROTOCOL, NO_STATUS, ABNORMAL = 1000, 1001, 1002, 1005, 1006
BAD_DATA, POLICY, TOO_BIG, INTERNAL = 1007, 1008, 1009, 1011

_CONTROLS = (FIN | CLOSE, FIN | PING, FIN | PONG)
_BETWEEN_MESSAGES = frozenset((TEXT, BINARY, FIN | TEXT, FIN | BINARY, *_CONTROLS))
_WITHIN_MESSAGE = frozenset((CONTINUATION, FIN | CONTINUATION, *_CONTROLS))
"""The valid first bytes of a frame: without extensions the reserved bits are zero, and
control frames are not fragmented."""
_BETWEEN_COMPRESSED = _BETWEEN_MESSAGES | {first | RSV1 for first in (TEXT, BINARY, FIN | TEXT, FIN | BINARY)}
LARGE = 64 * 1024
"""A binary frame of at least this many bytes is received directly into its
``Payload``."""
_BEGUN = 8 * 1024
"""At least this many of its bytes must have come before that: an announced length alone
allocates nothing."""
_SHORT = 512
"""A compressed message of at most this many bytes, in one frame, is inflated at once.
They make half a megabyte at most."""
_SLICE = 4 * 1024
"""The most compressed bytes taken at once of a message that is not read whole."""
AHEAD = 16 * 1024
RATIO = 32
"""``AHEAD`` bytes of a compressed message that is not complete are inflated, and
``RATIO`` for each byte that has come. Few messages shrink to less. The rest stays
compressed until the message is complete: a thousand bytes can make a million."""

_NO_DATA = bytearray()
"""The data while no message is open. Shared; never mutated."""

_utf8_decoder = codecs.getincrementaldecoder("utf-8")

WHOLE, PIECES, DROP = range(3)
"""The modes of a ``MessageReader``: it returns messages whole, returns this message in
pieces, or drops the rest of this message."""

TEXT_END, BINARY_END = 0x11, 0x12
"""Not on the wire. In place of an opcode: the end of a message that was read in pieces,
with the data that ``take_piece`` has not returned yet."""
_ENDS = {TEXT: TEXT_END, BINARY: BINARY_END}

Message = tuple[int, Any]
"""Opcode and data: ``str`` for TEXT, ``bytes`` for the others. CONTINUATION means that
more has come of a message that is read in pieces or dropped."""
_MORE: Message = (CONTINUATION, b"")


class MessageReader:
    """Reads one direction of a connection. With ``server`` this end is the server, so
    the frames must be masked."""

    __slots__ = (
        "_between",
        "_came",
        "_compressed",
        "_data",
        "_decoder",
        "_fast",
        "_final",
        "_first",
        "_fragments",
        "_in_frame",
        "_inflater",
        "_key",
        "_left",
        "_limits",
        "_masked",
        "_most",
        "_size",
        "close",
        "ended",
        "fast_limit",
        "mode",
        "opcode",
        "payload",
    )

    def __init__(self, server: bool, limits: Limits, inflater: Inflater | None = None) -> None:
        self._masked = MASKED if server else 0
        self._limits = limits
        self._inflater = inflater
        self._between = _BETWEEN_MESSAGES if inflater is None else _BETWEEN_COMPRESSED
        self._first = self._between
        """The valid first bytes of the next frame."""
        self.close: tuple[int, str] | None = None
        """Code and reason of the close frame that ``next`` has returned, or None; the
        code is 1005 if the frame had none. What comes after it is ignored."""
        self.mode = WHOLE
        self._most: float = limits.message
        """The longest message, in bytes."""
        self._fast = self.fast_limit = min(limits.message, sys.maxsize)
        """The longest frame, in bytes, that ``next`` and ``take_messages`` may take as
        a whole message without more checks; -1 (not even an empty one) while a message
        is open or is to be read in pieces, and after ``watch``."""
        self.ended = 0
        """How many messages have ended, without those of ``take_messages``."""
        # The open message: some of it was taken, but not all.
        self.opcode = 0
        """TEXT or BINARY; 0 if no message is open. A message in ``payload`` is not
        open."""
        self._compressed = False
        self._fragments = 0
        self._came = 0
        """How many bytes of its payload were taken, as sent."""
        self._size = 0
        self._data = _NO_DATA
        """Its payload. Text is kept as bytes too: one character can make every
        character of a ``str`` take four bytes."""
        self._decoder: codecs.IncrementalDecoder | None = None
        """Checks text while it arrives."""
        # A frame whose payload is taken as it arrives, because it is text, compressed,
        # read in pieces, or dropped.
        self._in_frame = False
        """Whether the reader is inside such a frame."""
        self._left = 0
        """Bytes of its payload still to come."""
        self._key = b""
        self._final = False
        self.payload: Payload | None = None
        """The payload of a large message, which the driver may receive into directly,
        or None."""

    def next(self, buf: bytearray) -> Message | int:
        """Takes the next message or control frame off the front of ``buf`` and returns
        it, or returns the size (bytes) that ``buf`` must reach first. The size is 0
        when much was inflated: then other tasks go first. Raises ProtocolError."""
        if self.payload is not None:
            return self._take_payload(buf, self.payload) if self.mode == WHOLE else self._split_payload(self.payload)
        if self._in_frame or (self.mode != WHOLE and self.waiting):
            got = self._take_more(buf)
            if got is not None:
                return got
        while True:
            have = len(buf)
            if have < 2:
                if have and buf[0] not in self._first:
                    self._refuse(buf[0])
                return have + 1
            first = buf[0]
            if first not in self._first:
                self._refuse(first)
            second = buf[1]
            if second & MASKED != self._masked:
                raise ProtocolError("a client's frame isn't masked" if self._masked else "a server's frame is masked", PROTOCOL)
            length = second & 0x7F
            at = 2
            if length > 125:
                if first & 0x08:
                    raise ProtocolError("control frame of more than 125 bytes", PROTOCOL)
                at = 4 if length == 126 else 10
                if have < at:
                    if at == 10:
                        if have == 2:
                            return 3
                        if buf[2] & 0x80:
                            raise ProtocolError("payload length with the most significant bit set", PROTOCOL)
                    return at
                length = self._long_length(buf, at)
            if length > self.fast_limit and not first & 0x08:
                self._check_size(length, first)
                if self.mode != WHOLE:
                    got = self._take_frame(buf, first, at, length)
                    assert got is not None  # which asks a reader of whole messages to go on
                    return got
            if (first & RSV1 or self._compressed) and not first & 0x08:
                assert self._inflater is not None
                if self._compressed or not first & FIN or length > _SHORT:
                    got = self._take_frame(buf, first, at, length)
                    if got is not None:
                        return got
                    continue
                if self._inflater.rest_due():
                    return 0
            if self._masked:
                at += 4
            end = at + length
            if have < end:
                if first & 0x08:
                    return end if first != FIN | CLOSE else self._close_arrives(buf, at, end)
                if have < at:
                    return at
                if first & (RSV1 | TEXT) or self._decoder is not None:
                    got = self._take_frame(buf, first, at - 4 if self._masked else at, length)
                    assert got is not None  # since some of the frame is missing
                    return got
                if first != FIN | BINARY or length < LARGE:
                    return end
                if have < at + _BEGUN:
                    return at + _BEGUN
                return self._open_payload(buf, at, length)
            if self._masked:
                payload = unmask(buf, at, end)
            elif length < 4096:
                payload = bytes(buf[at:end])
            else:
                with memoryview(buf) as view:
                    payload = bytes(view[at:end])
            if have == end:
                buf.clear()
            else:
                del buf[:end]
            if first == FIN | TEXT:
                self._end()
                try:
                    return TEXT, payload.decode()
                except UnicodeDecodeError as exc:
                    raise _bad_utf8(exc) from None
            if first == FIN | BINARY:
                self._end()
                return BINARY, payload
            if first & 0x08:
                if self.mode == WHOLE and not self.opcode:
                    self._end()
                if first == FIN | CLOSE:
                    self.close = parse_close(payload)
                return first & 0x0F, payload
            message = self._fragment(first, payload)
            if message is not None:
                return message

    def _refuse(self, first: int) -> None:
        """Raises ProtocolError for an invalid first byte of a frame."""
        opcode = first & 0x0F
        if first & 0x70:
            what = "reserved bit set, where no negotiated extension allows it"
        elif opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            what = f"unknown opcode {opcode}"
        elif opcode & 0x08:
            what = "fragmented control frame"
        elif opcode:
            what = "new message inside a fragmented one"
        else:
            what = "continuation without a message to continue"
        raise ProtocolError(what, PROTOCOL)

    def _long_length(self, buf: bytearray, at: int) -> int:
        length = int.from_bytes(buf[2:at], "big")
        if at == 4:
            if length < 126:
                raise ProtocolError("payload length not in its shortest form", PROTOCOL)
        elif length < 65536:
            raise ProtocolError("payload length not in its shortest form", PROTOCOL)
        elif length >= 2**63:
            raise ProtocolError("payload length with the most significant bit set", PROTOCOL)
        return length

    def _check_size(self, length: int, first: int) -> None:
        """Checks a data frame's header against the limits, before any of its payload is
        kept."""
        whole = self.mode == WHOLE
        fragments = 1
        if self.opcode:
            fragments += self._fragments
            if whole and self._fragments >= self._limits.most_fragments:
                raise ProtocolError(f"more fragments than the limit 'fragments' of {self._limits.most_fragments}", POLICY)
            length += max(self._size, self._came)
        if self._compressed or first & RSV1:
            # The limit is on the inflated size. But deflate adds less than a seventh to
            # data that it can't compress, and some bytes to each fragment.
            length = length - length // 7 - 64 * fragments if whole else 0
        if length > self._most:
            raise self._too_big()

    def _too_big(self) -> ProtocolError:
        return too_big("message" if self.mode == WHOLE else "limit", self._most)

    def _close_arrives(self, buf: bytearray, at: int, end: int) -> int:
        """Checks the part of a close frame that has come. Returns the size that ``buf``
        must reach before there is more to check."""
        have = len(buf)
        if end - at == 1:
            raise ProtocolError("close frame with half a code", PROTOCOL)
        if have < at + 2:
            return min(at + 2, end)
        payload = bytes(buf[at:])
        payload = apply_mask(payload, buf[at - 4 : at]) if self._masked else payload
        parse_close(payload[:2])
        decoder = _utf8_decoder("strict")
        _check_text(decoder, payload[2:])
        return have + 1

    def _open(self, first: int) -> None:
        """Counts a frame of the open message, or opens one."""
        opcode = first & 0x0F
        if not opcode:
            self._fragments += 1
            return
        self._first = _WITHIN_MESSAGE
        self.fast_limit = -1
        self.opcode = opcode
        self._data = bytearray()
        self._compressed = bool(first & RSV1)
        self._fragments = 1
        self._came = 0
        self._size = 0
        if opcode == TEXT:
            self._decoder = _utf8_decoder("strict")

    def _take_frame(self, buf: bytearray, first: int, at: int, length: int) -> Message | int | None:
        """Begins to take a data frame's payload as it arrives. The masking key, or the
        payload if there is no key, starts at ``at``. Returns as ``_take_more`` does."""
        if self._masked:
            at += 4
            if len(buf) < at:
                return at
            self._key = bytes(buf[at - 4 : at])
        if not length and first & FIN and self._compressed and self.mode == WHOLE and not self._inflate_rest():
            return 0
        self._open(first)
        self._final = bool(first & FIN)
        self._in_frame = True
        self._left = length
        del buf[:at]
        return self._take_more(buf)

    def _open_payload(self, buf: bytearray, at: int, length: int) -> Message | int:
        """Begins to take the payload of a large message as it arrives."""
        self._key = bytes(buf[at - 4 : at]) if self._masked else b""
        self.payload = Payload(length, self._key or None)
        self._left = length
        self.fast_limit = -1
        del buf[:at]
        return self._take_payload(buf, self.payload)

    def _take_payload(self, buf: bytearray, payload: Payload) -> Message | int:
        payload.add(buf)
        if payload.left:
            return 1
        self.payload = None
        self._end()
        return BINARY, payload.take()

    def _split_payload(self, payload: Payload) -> Message:
        """Makes a large message, to be read in pieces, an open message like others."""
        data = payload.so_far()
        self._check_size(len(data) + payload.left, FIN | BINARY)
        self.payload = None
        self._open(FIN | BINARY)
        self._final = True
        self._in_frame = True
        self._came = len(data)
        self._left = payload.left
        turn = len(data) & 3
        self._key = self._key[turn:] + self._key[:turn]
        self._keep(data)
        return _MORE

    def _fragment(self, first: int, payload: bytes) -> Message | None:
        """Adds a whole frame to a fragmented message. Returns the message if that was
        its last frame."""
        self._open(first)
        self._came += len(payload)
        self._add(payload)
        return self._finish() if first & FIN else None

    def _add(self, payload: bytes) -> None:
        """Adds a part of the payload to the open message."""
        if not self._compressed:
            self._keep(payload)
            return
        inflater = self._inflater
        assert inflater is not None
        self._inflate(payload)
        while inflater.more:
            self._inflate(b"")

    def _allowance(self) -> int:
        """How many bytes longer the message may get."""
        return int(min(self._most - self._size, sys.maxsize - 1))

    def _keep(self, data: bytes) -> None:
        """Checks data of the open message, and stores it."""
        # The text first: an error before the limit is reported first, as if the bytes
        # had come one by one.
        if self._decoder is not None:
            _check_text(self._decoder, data)
        self._size += len(data)
        if self._size > self._most:
            raise self._too_big()
        self._data += data
        if self.mode == DROP:
            self.take_piece()

    def _end(self) -> None:
        """A message has ended, or a control frame between messages."""
        self.ended += 1
        self.fast_limit = self._fast

    def _finish(self) -> Message:
        """Ends the open message, and returns it or its last piece."""
        message: Message
        if self._compressed:
            assert self._inflater is not None
            self._inflater.finish()
        if self.opcode == TEXT:
            try:
                message = TEXT, self._data.decode()
            except UnicodeDecodeError as exc:
                # The text was checked as it arrived, so it can only be incomplete.
                raise _bad_utf8(exc) from None
        else:
            message = BINARY, bytes(self._data)
        if self.mode != WHOLE:
            message = _MORE if self.mode == DROP else (_ENDS[message[0]], message[1])
            self.mode = WHOLE
            self._most = self._limits.message
        self._end()
        self.opcode = 0
        self._compressed = False
        self._first = self._between
        self._data = _NO_DATA
        self._decoder = None
        return message

    def _take_more(self, buf: bytearray) -> Message | int | None:
        """Takes the part of a frame's payload that has come. Returns a message, the
        size that ``buf`` must reach, or None to continue with the next frame."""
        if self._compressed:
            return self._take_compressed(buf)
        whole = self.mode == WHOLE
        size = min(len(buf), self._left)
        if size:
            self._keep(self._payload(buf, size))
        if self._left:
            return 1 if whole or not size else _MORE
        self._in_frame = False
        if self._final:
            return self._finish()
        return None if whole else _MORE

    def _payload(self, buf: bytearray, size: int) -> bytes:
        """Takes ``size`` bytes of a frame's payload off ``buf``."""
        if not size:
            return b""
        piece = bytes(buf[:size])
        del buf[:size]
        self._left -= size
        self._came += size
        if self._masked:
            piece = apply_mask(piece, self._key)
            turn = size & 3
            self._key = self._key[turn:] + self._key[:turn]
        return piece

    def _take_compressed(self, buf: bytearray) -> Message | int | None:
        """``_take_more`` for a compressed message."""
        inflater = self._inflater
        assert inflater is not None
        size = min(len(buf), self._left)
        if (size or inflater.more) and inflater.rest_due():
            return 0
        if self.mode != WHOLE:
            had_more = inflater.more
            self._inflate(b"" if had_more else self._payload(buf, min(size, _SLICE)))
            if inflater.more or self._left:
                return _MORE if had_more or size else 1
        elif not self._final or size < self._left:
            room = AHEAD + RATIO * (self._came + size) - self._size
            payload = self._payload(buf, size)
            if room > 0:
                self._inflate(payload, room)
            else:
                inflater.hold(payload)
            if self._left:
                return 1
        elif size:
            # The last byte stays until all before it was inflated. So the buffer isn't
            # empty as long as there is something to do.
            if size > 1:
                inflater.hold(self._payload(buf, size - 1))
            if not self._inflate_rest():
                return 0
            self._add(self._payload(buf, 1))
        self._in_frame = False
        if self._final:
            return self._finish()
        return None if self.mode == WHOLE else _MORE

    def _inflate(self, payload: bytes, room: int = sys.maxsize) -> None:
        """Inflates some more of the open message: at most about ``room`` bytes, and no
        more than ``SHARE`` of work."""
        assert self._inflater is not None
        self._keep(self._inflater.inflate(payload, min(room, self._allowance(), SHARE)))

    def _inflate_rest(self) -> bool:
        """Inflates all that has come of the open message. Returns False if others must
        go first."""
        inflater = self._inflater
        assert inflater is not None
        while inflater.more:
            if inflater.rest_due():
                return False
            self._inflate(b"")
        return True

    @property
    def waiting(self) -> bool:
        """Whether some of a message was taken off the buffer and is not inflated yet:
        ``next`` may return more, even if the buffer is empty."""
        return self._inflater is not None and self._inflater.more

    def read_pieces(self, most: float) -> None:
        """Reads the open message, or else the next one, in pieces; it may have at most
        ``most`` bytes. ``next`` returns ``(CONTINUATION, b"")`` when some of it has
        come, which ``take_piece`` returns then, and TEXT_END or BINARY_END with the
        rest at its end. Does nothing while a message is dropped. Raises ProtocolError
        if more than ``most`` bytes were taken already."""
        if self.mode != DROP:
            self.mode = PIECES
            self._most = most
            self.fast_limit = -1
            if self.opcode and self._size > most:
                raise self._too_big()

    def read_whole(self) -> None:
        """Reads the next message whole. The rest of an open message is dropped as it
        arrives, without a limit: ``next`` returns ``(CONTINUATION, b"")`` for it."""
        if self.opcode:
            self.mode = DROP
            self._most = math.inf
            self.take_piece()
        else:
            self.mode = WHOLE
            self._most = self._limits.message
            if self.payload is None:
                self.fast_limit = self._fast

    def take_piece(self) -> Any:
        """Removes and returns the part of the open message that has arrived; text up to
        the last whole character."""
        data = self._data
        if self._decoder is None:
            self._data = bytearray()
            return bytes(data)
        rest = len(self._decoder.getstate()[0])
        self._data = data[len(data) - rest :]
        return data[: len(data) - rest].decode()

    def complete(self, buf: bytearray, data: bool = True) -> int:
        """Returns how many bytes at the front of ``buf`` may be taken by ``next`` while
        no task reads: one whole frame, or the rest of one; -1 if there is none.

        A reader must take what ``read_pieces`` may still accept or return in pieces: a
        message longer than the limits, a compressed one (it may be a bomb), one that is
        read in pieces, an incomplete frame. Control frames between the fragments of
        such a message may be taken; with ``data`` False only those. A frame that breaks
        the protocol may be taken too: ``next`` raises its error.
        """
        have = len(buf)
        for_reader = not data or self.mode == PIECES or self._compressed
        if self.payload is not None or self._in_frame:
            left = self._left if self.payload is None else self.payload.left
            return -1 if for_reader or have < left else left
        if have < 2 or (self.mode != WHOLE and self.waiting):
            return -1  # ``next`` goes on with what waits, and would not take the frame
        first, second = buf[0], buf[1]
        length = second & 0x7F
        control = first & 0x08
        if first not in self._first or second & MASKED != self._masked or (control and length > 125):
            return 2
        at = 2
        if not control:
            if for_reader or first & RSV1:
                return -1
            if length > 125:
                at = 4 if length == 126 else 10
                if have < at:
                    return -1
                length = int.from_bytes(buf[2:at], "big")
            if self.mode == WHOLE:
                if self.opcode and self._fragments >= self._limits.most_fragments:
                    return -1
                if length + self.held > self._limits.message:
                    return -1
        end = at + length + (4 if self._masked else 0)
        return end if have >= end else -1

    def watch(self) -> None:
        """Makes the end of the message that is unfinished now count in ``ended``, which
        ``take_messages`` would not."""
        self.fast_limit = -1

    def unfinished(self, buf: bytearray) -> int | None:
        """Returns how many bytes, as sent, have come of the payload of a message that
        the peer has to go on with. Returns None if it hasn't begun one, or if there is
        something to take first. A control frame that is not complete counts as a
        message of no bytes."""
        have = len(buf)
        payload = self.payload
        if payload is not None:
            return None if have >= payload.left else self._left - payload.left + have
        came = self._came if self.opcode else 0
        if self._in_frame:
            return None if have >= self._left else came + have
        if have < 2:
            return came if have or self.opcode else None
        length = buf[1] & 0x7F
        at = 2 if length < 126 else 4 if length == 126 else 10
        if have < at:
            return came
        if at > 2:
            length = int.from_bytes(buf[2:at], "big")
        if self._masked:
            at += 4
        if have >= at + length:
            return None
        return came if buf[0] & 0x08 else came + max(0, have - at)

    @property
    def held(self) -> int:
        """How many bytes of the open message are held; 0 if none is open."""
        return len(self._data)

    def partial(self, buf: bytearray) -> str | bytes:
        """Returns the part of an incomplete message that has arrived; empty if there is
        none."""
        if self.opcode == TEXT:
            return self._data.decode("utf-8", "ignore")
        if self.payload is not None:
            self.payload.add(buf)  # TLS collects some there before it wakes the reader
            return self.payload.so_far()
        if self._compressed or self.mode != WHOLE:
            return bytes(self._data)
        return bytes(self._data) + self._waited_for(buf)

    def _waited_for(self, buf: bytearray) -> bytes:
        """Returns the part that has arrived of a payload that ``next`` leaves in
        ``buf`` until it is complete: that of an uncompressed binary frame, in a message
        that is read whole."""
        have = len(buf)
        if have < 2 or buf[0] not in self._first or buf[0] & (0x08 | RSV1 | TEXT) or buf[1] & MASKED != self._masked:
            return b""
        length = buf[1] & 0x7F
        at = 2 if length < 126 else 4 if length == 126 else 10
        try:
            if length > 125:
                length = self._long_length(buf, at)
            self._check_size(length, buf[0])
        except ProtocolError:
            return b""
        if self._masked:
            at += 4
        if not at < have < at + length:
            return b""
        payload = bytes(buf[at:])
        return apply_mask(payload, buf[at - 4 : at]) if self._masked else payload


def too_big(name: str, most: float) -> ProtocolError:
    """Returns the error for a message of more than ``most`` bytes, the limit
    ``name``."""
    return ProtocolError(f"message longer than the limit '{name}' of {most} bytes", TOO_BIG)


def _check_text(decoder: codecs.IncrementalDecoder, data: bytes) -> None:
    """Raises ProtocolError if ``data`` can't follow the UTF-8 that ``decoder`` has
    seen."""
    try:
        decoder.decode(data)
    except UnicodeDecodeError as exc:
        raise _bad_utf8(exc) from None
    if data[-1:] >= b"\xa0":
        # CPython's decoder waits for the third byte of a surrogate, but the second is
        # proof enough.
        pending = decoder.getstate()[0]
        if pending[:1] == b"\xed" and pending[1:] >= b"\xa0":
            raise _bad_utf8(UnicodeDecodeError("utf-8", pending, 0, 2, "surrogate"))


def _bad_utf8(exc: UnicodeDecodeError) -> ProtocolError:
    bad = exc.object[exc.start : exc.start + 4].hex(" ")
    return ProtocolError(f"text that isn't UTF-8: {exc.reason} at bytes {bad}", BAD_DATA)


def parse_close(payload: bytes) -> tuple[int, str]:
    """Returns the code and reason of a close frame; 1005 for an empty one (sections
    5.5.1 and 7.4). Raises ProtocolError."""
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise ProtocolError("close frame with half a code", PROTOCOL)
    code = int.from_bytes(payload[:2], "big")
    if not valid_close_code(code):
        raise ProtocolError(f"close code {code} may not be sent", PROTOCOL)
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError as exc:
        raise _bad_utf8(exc) from None


def valid_close_code(code: int) -> bool:
    """Whether a close frame may carry ``code``."""
    return 3000 <= code <= 4999 or 1000 <= code <= 1003 or 1007 <= code <= 1014


def close_payload(code: int, reason: str = "") -> bytes:
    """Returns a close frame's payload. A reason of more than 123 bytes is cut between
    two characters. Raises ValueError for a bad code."""
    if isinstance(code, bool) or not isinstance(code, int) or not valid_close_code(code):
        raise ValueError(f"a close code is 1000-1003, 1007-1014 or 3000-4999, not {shown(code)}")
    return code.to_bytes(2, "big") + reason.encode()[:123].decode("utf-8", "ignore").encode()


def _head(first: int, length: int, masked: int) -> bytes:
    """Returns a frame's header, with the length in its shortest form."""
    if length < 126:
        return bytes((first, masked | length))
    if length < 65536:
        return bytes((first, masked | 126)) + length.to_bytes(2, "big")
    return bytes((first, masked | 127)) + length.to_bytes(8, "big")


def frame(first: int, payload: bytes) -> bytes:
    """Returns a server's frame. ``first`` is the first byte: FIN and opcode."""
    return _head(first, len(payload), 0) + payload


def masked_frame(first: int, payload: bytes | memoryview, key: bytes) -> bytes:
    """Returns a client's frame, with the payload masked with ``key``."""
    return _head(first, len(payload), MASKED) + key + apply_mask(payload, key)


def frame_head(first: int, length: int) -> bytes:
    """Returns the header of a server's frame whose payload is sent separately."""
    return _head(first, length, 0)
