"""Messages larger than memory: read and written piece by piece. Of neither more than a piece is held."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

from ..._core.result import OK, Result, failure
from ..._wire.messages import FRAGMENT
from ..._wire.ws import TEXT
from ..tcp import Data, to_bytes

if TYPE_CHECKING:
    from ._socket import Socket


class Pieces:
    """What ``sock.pieces()`` returns: an iterator over the pieces of one message, ``str`` for text and ``bytes`` for binary.

    ``typ`` is the message's type, ``"text"`` or ``"binary"``, from the first piece on (``"close"`` when a close frame came in
    its place). The iteration ends with the message, or early: then ``err`` says why. After a time-out it may go on.
    """

    __slots__ = ("_done", "_limit", "_sock", "_timeout", "err", "typ")

    def __init__(self, sock: Socket, timeout: float | None, limit: float) -> None:
        self._sock = sock
        self._timeout = timeout
        self._limit = limit
        self._done = False
        self.typ: str | None = None
        self.err: str | None = None

    def __iter__(self) -> Pieces:
        return self

    def __next__(self) -> Any:
        if self._done:
            raise StopIteration
        self.err = None
        piece = self._sock._next_piece(self, self._timeout, self._limit)
        if not piece:
            raise StopIteration
        return piece

    def end(self, err: str | None = None) -> None:
        """For the socket: there is no more."""
        self._done = True
        self.err = err


class MessageWriter:
    """What ``sock.message()`` returns: a context manager that writes one message piece by piece.

    Pieces are gathered to fragments of 64 KiB. Other tasks' messages wait meanwhile. The end of the block ends the message,
    and ``err`` says whether that failed. A message that will never be whole, since its block raised, can't be told to
    the peer but by closing: with 1011.
    """

    __slots__ = ("_begun", "_compress", "_decoder", "_gathered", "_opcode", "_sock", "_state", "err")

    def __init__(self, sock: Socket, opcode: int, compress: bool) -> None:
        self._sock = sock
        self._opcode = opcode
        self._compress = compress
        self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        self._gathered = bytearray()
        self._begun = False
        """Whether the first fragment has been sent."""
        self._state = "not entered"
        self.err: str | None = None

    def __enter__(self) -> MessageWriter:
        if self._state != "not entered":
            raise RuntimeError("BUG: a message can be written once")
        self.err = self._sock._begin_message("message.write")
        self._state = "open" if self.err is None else "over"
        return self

    def write(self, piece: Data) -> Result:
        """Adds a piece. Blocks like ``sock.write``; ``(False, err)`` when the connection is closed or broken.

        A ``time.deadline`` that runs out in it does no harm: the piece still goes out, and the message may go on; a further
        piece is refused while too much is unsent. Raises ValueError for text that isn't UTF-8 (a character may be cut between
        two pieces), TypeError for what can't be sent.
        """
        data = to_bytes(piece)
        if self._state == "not entered":
            raise RuntimeError("BUG: a message is written within its 'with' block")
        refused = self.err or (self._sock._refused("message.write") if self._state == "open" else "the message has ended")
        if refused is not None:
            return failure(refused)
        if self._decoder is not None:
            self._check(data, False)
        gathered = self._gathered
        gathered += data
        result = OK
        while len(gathered) >= FRAGMENT and self.err is None:
            fragment = bytes(gathered[:FRAGMENT])
            del gathered[:FRAGMENT]
            result = self._send(fragment, False)
        return result

    def flush(self) -> Result:
        """Sends what was gathered, now, as a fragment."""
        if self._state == "not entered":
            raise RuntimeError("BUG: a message is written within its 'with' block")
        if self.err is not None or self._state != "open":
            return failure(self.err or "the message has ended")
        result = OK
        if self._gathered:
            fragment = bytes(self._gathered)
            self._gathered.clear()
            result = self._send(fragment, False)
            self._sock._stream.flush()
        return result

    def _send(self, fragment: bytes, final: bool) -> Result:
        err = self._sock._send_fragment(self._opcode, fragment, not self._begun, final, self._compress)
        self._begun = True
        if err is None:
            return OK
        if not self._sock._writable():
            self.err = err
        return failure(err)

    def _check(self, data: bytes, final: bool) -> None:
        assert self._decoder is not None
        try:
            self._decoder.decode(data, final)
        except UnicodeDecodeError as exc:
            raise ValueError(f"text must be UTF-8: {exc.reason}") from None

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if self._state != "open":
            return
        self._state = "over"
        whole = False
        try:
            if kind is None:
                if self._decoder is not None:
                    self._check(b"", True)
                if self.err is None:
                    self._send(bytes(self._gathered), True)
                whole = True
        finally:
            self._gathered.clear()
            self._sock._end_message(whole)
