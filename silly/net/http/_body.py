"""The body of a message as it arrives, for servers and clients: with a length, chunked,
or up to the end of the connection (RFC 9112, section 6).

It is read only when a task asks for it, so TCP slows down a peer that sends faster.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

from ... import errno
from ..._core import scheduler
from ..._core.loop import monotonic
from ..._shown import shown
from ..._wire.chunked import ChunkedReader
from ..._wire.content import ContentDecoder
from ..._wire.error import ProtocolError
from ..._wire.header import Header
from ..._wire.http1 import CHUNKED, UNTIL_CLOSE
from ..._wire.limits import Limits
from ..._wire.lines import take
from ..._wire.numbers import MOST, check_int
from .._rate import RateMeter, peers_clock
from .._stream import RECV_BODY, Stream
from ..tcp import deadline_after

if TYPE_CHECKING:
    from ._select import WatchedBody

DECODE_AHEAD = 64 * 1024
"""Bytes of a compressed body that are decoded ahead of the reader."""
DECODED = 16 * 1024
"""Bytes of a compressed body, as sent, that are decoded at a time."""
AT_ONCE = 256 * 1024
"""Bytes that the reader of a long body waits for: with less each segment would wake
it."""
CHUNKS = 1024
"""Chunks that are decoded before other tasks run: each takes some microseconds, and may
have only one byte."""
READS = 1024
"""Other tasks run after this many calls of ``read``, even if none had to wait."""


_loop = scheduler.loop
E = TypeVar("E", bound=str)
"""The type of errors that the reader of a body gets: ``str`` in a server,
``RequestError`` in a client."""


class BodyPieces(Generic[E]):
    """Iterates over a body as it arrives, in pieces of bytes. Afterwards ``err`` says
    why it ended early; it is None if the body is complete."""

    __slots__ = ("_body", "_timeout", "err")

    def __init__(self, body: Incoming[E], timeout: float | None) -> None:
        self._body = body
        self._timeout = timeout
        self.err: E | None = None

    def __iter__(self) -> BodyPieces[E]:
        return self

    def __next__(self) -> bytes:
        if _loop.no_switch:
            scheduler.refuse("next(pieces)")
        body = self._body
        if self.err is None:
            err = body._wait_for(1, self._timeout, DECODE_AHEAD)
            if err is None:
                return body._take(body._available())
            if err is not errno.EOF or not body._at_end():
                self.err = body._told(err)
        raise StopIteration


class Incoming(Generic[E]):
    """The reading half of ``ServerStream`` and ``ClientStream``, which override what
    happens if the body is bad."""

    # Class attributes: most requests have no body, and an instance sets only what
    # differs.
    limits: Limits
    _whose = ""
    """The message that has the body: ``request`` or ``response``."""
    _of_response = False
    """Whether the message is a response, whose framing is checked less strictly, as
    other clients do."""
    _source: Stream | None
    _left = 0
    """Bytes of the body that are still in the stream; or CHUNKED or UNTIL_CLOSE."""
    _chunked: ChunkedReader | None = None
    _decoder: ContentDecoder | None = None
    _decoded: bytes | bytearray | None = None
    """If the body is chunked or compressed: decoded bytes that were not read yet. What
    was decoded by one call stays the bytes that it gave, so ``pieces`` yields them
    without another copy."""
    _finished = False
    """Whether the compressed data has ended."""
    _err: E | None = None
    _last = inf
    """When everything must be done, as a time of ``time.monotonic()``."""
    _taken = 0
    """Bytes of the body, as sent, that were taken from the stream."""
    _rated = False
    """Whether the peer must keep up the limit ``body_rate``."""
    _meter: RateMeter | None = None
    """Set when a task first waits for a body that has a rate."""
    _reads = 0
    _watched: WatchedBody | None = None
    """What ``task.select`` waits for, while it watches the body."""
    _others_first = False
    """Whether more can be decoded when others have run; for ``task.select``."""

    def _expect_body(self, length: int, coding: str | None = None) -> None:
        """Prepares for a body of ``length`` (bytes, CHUNKED or UNTIL_CLOSE).
        ``coding``: the content coding to decode."""
        self._left = length
        if length == CHUNKED:
            self._chunked = ChunkedReader(self.limits, self._of_response)
        if coding is not None:
            self._decoder = ContentDecoder(coding)
        if length == CHUNKED or coding is not None:
            self._decoded = b""

    def _before_wait(self) -> None:
        """Called before a task waits for more of the body."""

    def _broken(self, error: ProtocolError, err: str | None = None) -> E:
        """Called if the body cannot be read to its end; ``error`` has the status that a
        server answers, and ``err`` is that of the connection if it has ended. Returns
        the error for the reader."""
        raise NotImplementedError

    def _told(self, err: str, code: str | None = None) -> E:
        """Returns ``err`` as the reader gets it. ``code``: what it is in
        ``silly.errno``, if that is not its text."""
        raise NotImplementedError

    def _window(self, timeout: float | None) -> float:
        """The seconds over which the limit ``body_rate`` is measured. ``timeout``: that
        of the call, in ms."""
        return self.limits.body_timeout / 500

    @property
    def trailer(self) -> Header:
        """The trailer fields (RFC 9110, section 6.5); empty until a chunked body has
        been read to its end."""
        return self._chunked.trailer if self._chunked is not None else Header()

    def read(self, n: int, timeout: float | None = None) -> tuple[bytes, None] | tuple[None, E]:
        """Waits for exactly ``n`` bytes of the peer's body and returns them.

            data, err = stream.read(4)
            if data is None:
                print("the body has fewer than 4 bytes, or:", err)

        Returns ``(None, err)`` if the body ends before that (``errno.EOF``; ``readall``
        still returns the rest), or if the peer sends nothing for ``timeout`` ms
        (default: the limit ``body_timeout``), breaks the framing, or is gone. Raises
        TypeError or ValueError for a bad ``n`` or ``timeout``.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.read")
        if not isinstance(n, int):
            raise TypeError(f"stream.read needs a length, not {type(n).__name__}")
        if not 0 <= n <= MOST:
            raise ValueError(f"stream.read needs a length of 0 or more, not {shown(n)}")
        if timeout is not None:
            deadline_after(timeout)  # raises if it is invalid, also when nothing has to be waited for
        self._reads += 1
        if self._reads > READS:
            self._reads = 0
            scheduler.pause()
        err = self._wait_for(n, timeout)
        if err is not None:
            return None, self._told(err)
        return self._take(n), None

    def readall(self, limit: int | None = None, timeout: float | None = None) -> tuple[bytes, None] | tuple[None, E]:
        """Reads the rest of the peer's body.

            body, err = stream.readall()
            if body is not None:
                print(len(body), "bytes")

        ``limit``: how many bytes it may have (default: the limit ``body``).
        ``timeout``: how many ms the peer may send nothing (default: the limit
        ``body_timeout``). Returns ``(body, None)``; ``(None, err)`` if it is longer,
        which a server answers 413, or as ``read`` does. Raises TypeError or ValueError
        for a bad ``limit`` or ``timeout``.
        """
        if _loop.no_switch:
            scheduler.refuse("stream.readall")
        name = "the limit 'body' of " if limit is None else ""
        if limit is None:
            limit = self.limits.body
        elif not isinstance(limit, int) or isinstance(limit, bool):
            raise TypeError(f"stream.readall: the limit is an int, not {type(limit).__name__}")
        else:
            check_int("stream.readall: the limit", limit)
        if timeout is not None:
            deadline_after(timeout)
        if self._left > limit and self._decoder is None and self._err is None:
            return None, self._broken(ProtocolError(f"body longer than {name}{limit} bytes", 413))
        err = self._wait_for(limit + 1, timeout)
        if err is None:
            return None, self._broken(ProtocolError(f"body longer than {name}{limit} bytes", 413))
        if err is not errno.EOF or not self._at_end():
            return None, self._told(err)
        return self._take(self._available()), None

    def pieces(self, timeout: float | None = None) -> BodyPieces[E]:
        """Returns an iterator over the peer's body as it arrives, in pieces of bytes.

            pieces = stream.pieces()
            for piece in pieces:
                print(len(piece), "bytes")
            if pieces.err is not None:
                print("the body ended early:", pieces.err)

        Only one piece at a time is in memory; if the reader is slow, the peer has to
        wait. ``timeout``: how many ms the peer may send nothing (default: the limit
        ``body_timeout``). An error ends the loop; ``err`` has it afterwards. Raises
        ValueError for a bad ``timeout``.
        """
        if timeout is not None:
            deadline_after(timeout)
        return BodyPieces(self, timeout)

    # For ``task.select``: see ``_core/select.py``.

    def _ready(self) -> bool:
        from ._select import body_ready

        return body_ready(self)

    def _watch(self, watch: scheduler.Task) -> None:
        from ._select import watch_body

        watch_body(self, watch)

    def _unwatch(self, watch: scheduler.Task) -> None:
        from ._select import unwatch_body

        unwatch_body(self, watch)

    def _at_end(self) -> bool:
        """Whether the body has been received in full."""
        if self._decoder is not None:
            return self._finished
        if self._chunked is not None:
            return self._chunked.done
        if not self._left:
            return True
        return self._source is not None and 0 <= self._left <= len(self._source.buf)

    def _available(self) -> int:
        """The number of bytes of the body that can be taken now."""
        if self._decoded is not None:
            return len(self._decoded)
        if not self._left or self._source is None:
            return 0
        size = len(self._source.buf)
        return size if self._left == UNTIL_CLOSE else min(self._left, size)

    def _take(self, size: int) -> bytes:
        """Removes and returns ``size`` bytes, which must be available."""
        if not size:
            return b""
        decoded = self._decoded
        if decoded is not None:
            if size == len(decoded):
                self._decoded = b""
                return bytes(decoded)  # of bytes this is no copy
            if isinstance(decoded, bytes):
                self._decoded = decoded = bytearray(decoded)
            return take(decoded, size)
        assert self._source is not None
        return self._consume(self._source, size)

    def _add(self, data: bytes) -> None:
        """Adds ``data`` to what is decoded."""
        decoded = self._decoded
        if not decoded:
            self._decoded = data
        elif isinstance(decoded, bytearray):
            decoded += data
        else:
            self._decoded = bytearray(decoded)
            self._decoded += data

    def _advance(self, size: int) -> bool:
        """Decodes what has arrived until ``size`` bytes are decoded or nothing is left.
        Returns True if it stopped since other tasks go first, after ``CHUNKS`` chunks
        or much decoding. Raises ProtocolError."""
        chunked, decoder = self._chunked, self._decoder
        if decoder is None:
            assert chunked is not None
            # One call takes all that has come.
            room = size - self._available()
            if room > 0 and (raw := self._raw(room)):
                self._add(raw)
                return chunked.more
            return False
        while (room := size - self._available()) > 0:
            if decoder.rest_due():
                return True
            if decoder.waiting:
                self._add(decoder.decode(b"", room))
                continue
            raw = self._raw(DECODED)
            if not raw:
                if not self._finished and self._raw_ended():
                    decoder.finish()
                    self._finished = True
                return False
            self._add(decoder.decode(raw, room))
            if chunked is not None and chunked.more:
                return True
        return False

    def _raw(self, most: int) -> bytes:
        """Takes at most ``most`` bytes that have arrived, not decompressed."""
        source = self._source
        if source is None:
            return b""
        if self._chunked is not None:
            if self._chunked.done or not source.buf:
                return b""
            before = len(source.buf)
            data = self._chunked.read(source.buf, most, CHUNKS)
            self._taken += before - len(source.buf)
            return data
        size = min(most, len(source.buf)) if self._left == UNTIL_CLOSE else min(most, len(source.buf), self._left)
        if not size:
            return b""
        return self._consume(source, size)

    def _consume(self, source: Stream, size: int) -> bytes:
        """Takes ``size`` bytes of a body that is not chunked from the stream."""
        if self._left > 0:
            self._left -= size
        self._taken += size
        return take(source.buf, size)

    def _raw_ended(self) -> bool:
        return self._chunked.done if self._chunked is not None else not self._left

    def _wait_for(self, size: int, timeout: float | None = None, ahead: int = 0, until: float | None = None) -> str | None:
        """Waits until ``size`` bytes of the body can be taken. Returns None then, EOF
        if the body ends before, or another error.

        ``timeout``: how many ms the peer may send nothing. ``until``, a time of
        ``time.monotonic()``, bounds the whole wait instead. ``ahead``: how many bytes
        to decode if they have arrived.
        """
        while True:
            if self._err is not None:
                return self._err
            more = False
            if self._decoded is not None:
                try:
                    more = self._advance(max(size, ahead))
                except ProtocolError as exc:
                    return self._broken(exc)
                if more:
                    scheduler.pause()
            available = self._available()
            if available >= size:
                return None
            if more:
                continue
            if self._at_end():
                return errno.EOF
            if self._source is None:
                return errno.CLOSED
            self._before_wait()
            err = self._wait(self._source, size - available, timeout, until)
            if err is not None:
                return err

    def _wait(self, source: Stream, missing: int, timeout: float | None, until: float | None) -> str | None:
        """Waits for more of the body; returns the error that ends the reading, or
        None."""
        limits = self.limits
        have = len(source.buf)
        more = min(missing, self._left - have, AT_ONCE) if self._decoded is None and self._left > 0 else 1
        if until is None:
            until = deadline_after(limits.body_timeout if timeout is None else timeout)
        partial = source.partial
        meter = self._rate_meter(timeout)
        while True:
            bound = min(until, self._last)
            if meter is None:
                err = source.fill(have + more, bound, RECV_BODY)
            else:
                # Else a peer that sends a byte now and then could hold the connection
                # forever. All bytes count, the framing's too, but only the time in
                # which a task waited: a handler may be busy.
                if meter.too_slow:
                    return self._too_slow()
                meter.start(peers_clock())
                try:
                    err = source.fill(have + more, min(bound, monotonic() + meter.left), RECV_BODY)
                finally:
                    meter.stop(peers_clock(), self._taken + len(source.buf) + source.partial)
            if err is None:
                return None
            if err is not errno.TIMEDOUT or source.err is not None:
                break
            now = monotonic()
            if scheduler.expired():
                return self._told(scheduler.ran_out("stream.read"), errno.TIMEDOUT)
            if self._last <= now:
                return self._too_late()
            if now < until or (meter is not None and meter.too_slow):
                continue  # it was time to look at the rate
            if len(source.buf) > have or source.partial != partial:
                return None  # the peer has sent something, only less than the wait was for
            if timeout is not None:
                return err
            return self._stalled()
        if self._left == UNTIL_CLOSE and err is errno.EOF:
            self._left = len(source.buf)
            return None
        return self._broken(ProtocolError(f"the {self._whose}'s body is incomplete: {err}", 400), err)

    def _rate_meter(self, timeout: float | None) -> RateMeter | None:
        """Returns what measures the peer's rate, if that has a limit."""
        if self._meter is None and self._rated and self.limits.body_rate:
            self._meter = RateMeter(self.limits.body_rate, self._window(timeout))
        return self._meter

    def _too_slow(self) -> E:
        slow = f"slower than the limit 'body_rate' of {self.limits.body_rate} bytes a second"
        return self._broken(ProtocolError(f"the {self._whose}'s body is {slow}", 408))

    def _too_late(self) -> E:
        return self._broken(ProtocolError("the total time-out has passed", 408))

    def _stalled(self) -> E:
        stalled = f"nothing within the limit 'body_timeout' of {self.limits.body_timeout} ms"
        return self._broken(ProtocolError(f"the {self._whose}'s body stalled: {stalled}", 408))
