"""Messages larger than memory: they are read and written piece by piece, and no more
than a piece is held.
"""

from __future__ import annotations

import codecs
import math
from typing import TYPE_CHECKING, Any, Literal

from ... import errno
from ..._core import scheduler
from ..._core.result import OK, Result, failure
from ..._wire.error import ProtocolError
from ..._wire.messages import FRAGMENT
from ..._wire.ws import BINARY_END, DROP, GOING_AWAY, INTERNAL, PIECES, TEXT, TEXT_END, too_big
from ..tcp import BURST, Data, deadline_after, to_bytes
from ._sending import CLOSED, OPEN

if TYPE_CHECKING:
    from ._session import Session
    from ._socket import Socket

_loop = scheduler.loop
_DROPPED = "the rest of the message was dropped, because another was asked for"


class Pieces:
    """An iterator over the pieces of one message, from ``sock.pieces()``: ``str`` for
    text, ``bytes`` for binary.

    It ends with the message, or early after an error. ``err`` is then the error, else
    None. After ``errno.TIMEDOUT`` the same iterator can go on. ``typ`` is ``"text"`` or
    ``"binary"`` from the first piece on, and None before; it is ``"close"`` if a close
    frame came in place of the message.
    """

    __slots__ = ("_done", "_limit", "_session", "_sock", "_timeout", "_token", "err", "typ")

    def __init__(self, sock: Socket, session: Session, timeout: float | None, limit: float) -> None:
        self._sock = sock
        """Held, because a socket that nothing holds is closed."""
        self._session = session
        self._timeout = timeout
        self._limit = limit
        self._done = False
        self._token: object | None = None
        """It is ``session.pieces`` while this reads a message."""
        self.typ: Literal["text", "binary", "close"] | None = None
        """The message's type from its first piece on; ``"close"`` for a close frame."""
        self.err: str | None = None
        """Why the iteration ended before the message did; None if it did not."""

    def __iter__(self) -> Pieces:
        return self

    def __next__(self) -> Any:
        if _loop.no_switch:
            scheduler.refuse("next(pieces)")
        if self._done:
            raise StopIteration
        self.err = None
        piece = self._next()
        if not piece:
            raise StopIteration
        return piece

    def _fail(self, err: str, done: bool = True) -> None:
        self.err = err
        self._done = done

    def _next(self) -> Any:
        """Returns the next piece, an empty one at the message's end, or None after an
        error.
        """
        session = self._session
        if self._token is not None and session.pieces is not self._token:
            return self._fail(_DROPPED)
        if session.state is CLOSED and session.err is not None:
            return self._fail(session.err)
        if session.stream._reader is not None:
            raise RuntimeError(f"{session}: another task is already reading from it")
        if self._token is None:
            session.leave()
        try:
            return self._wait(None if self._timeout is None else deadline_after(self._timeout))
        finally:
            messages = session.messages
            reading = self._token is not None and session.pieces is self._token
            if reading and (messages.mode == DROP or not messages.opcode):
                # The message has ended, or has not begun.
                messages.read_whole()
                session.pieces = self._token = None

    def _wait(self, deadline: float | None) -> Any:
        """Waits for the next piece, and returns what ``_next`` returns."""
        session = self._session
        stream = session.stream
        while True:
            if session.taken or stream.buf or session.messages.payload is not None:
                session.burst += 1
                if session.burst >= BURST:
                    session.burst = 0
                    scheduler.pause()
            try:
                piece = self._arrived(deadline)
            except ProtocolError as exc:
                return self._fail(session.broke(exc))
            if not isinstance(piece, int):
                return piece
            if not piece:
                continue
            if piece > 1 or session.messages.opcode:
                session.unfinished()
            err = stream.fill(piece, deadline if session.state is OPEN else session.sooner(deadline))
            if err is not None and not session.taken:
                return self._fail(session.read_failed(err, "sock.pieces"), session.err is not None)

    def _arrived(self, deadline: float | None) -> Any:
        """Returns what ``_next`` returns, if it has arrived; else the number of bytes
        that the buffer must hold before the next try.
        """
        session = self._session
        messages = session.messages
        if self._token is not None and session.pieces is not self._token:
            return self._fail(_DROPPED)  # by another task, while this one let others run
        whole = self._whole()
        if whole is not None:
            return whole
        if self._token is None and session.state is not CLOSED and not session.stream.closed:
            self._token = session.pieces = object()
            messages.read_pieces(self._limit)
            if messages.held and messages.mode == PIECES and (begun := messages.take_piece()):
                self.typ = "text" if messages.opcode == TEXT else "binary"
                return begun  # was taken while nobody read
        if session.err is not None:
            if session.taken:
                session.taken.pop()
                self.typ = "close"
            return self._fail(session.over())
        if not session.stream.buf and messages.payload is None and not messages.waiting:
            return 1
        # Each time, because a message that is dropped may come before ours.
        messages.read_pieces(self._limit)
        got = messages.next(session.stream.buf)
        if not isinstance(got, int):
            return self._piece_of(*got)
        if not got:
            scheduler.pause()  # much was inflated
            if session.too_late(deadline):
                return self._fail(session.read_failed(errno.TIMEDOUT, "sock.pieces"), session.err is not None)
        return got

    def _piece_of(self, opcode: int, data: Any) -> Any:
        """Handles what was taken off the buffer. Returns like ``_arrived``."""
        session = self._session
        messages = session.messages
        if opcode in (TEXT_END, BINARY_END):
            session.arrived += 1
            self.typ = "text" if opcode == TEXT_END else "binary"
            self._done = True
            return data
        if opcode:
            shown = session.control(opcode, data)
            if session.err is None:
                return 0
            if shown is not None and shown[1] == "close":
                self.typ = "close"
            return self._fail(session.err)
        session.controls = 0
        if messages.mode == DROP or not messages.opcode:
            return 0  # part of a message that is dropped
        self.typ = "text" if messages.opcode == TEXT else "binary"
        piece = messages.take_piece()
        if not piece:
            return 0
        session.data_unread()
        return piece

    def _whole(self) -> str | bytes | None:
        """Returns the next message if it was taken already, and drops the pings and
        pongs before it. Returns None if no message was taken, or a close frame is next.
        """
        taken = self._session.taken
        while taken and taken[-1][1] != "close":
            data, typ = taken.pop()
            if typ in ("text", "binary"):
                if self._limit != math.inf and len(to_bytes(data)) > self._limit:
                    raise too_big("limit", self._limit)
                self.typ = typ
                self._done = True
                return data
        return None


class MessageWriter:
    """From ``sock.message()``: a context manager that writes one message in pieces.

    Pieces are collected into fragments of 64 KiB. Messages of other tasks wait until
    this one ends. The end of the block ends the message; ``err`` is then the error if
    it could not be sent, else None. If the block raises, the message stays incomplete,
    so the connection is closed: with 1011, or with 1001 if the task was cancelled.
    """

    __slots__ = ("_begun", "_compress", "_decoder", "_gathered", "_opcode", "_session", "_sock", "_state", "err")

    def __init__(self, sock: Socket, session: Session, opcode: int, compress: bool) -> None:
        self._sock = sock
        """Held, because a socket that nothing holds is closed."""
        self._session = session
        self._opcode = opcode
        self._compress = compress
        self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        self._gathered = bytearray()
        self._begun = False
        """Whether the first fragment has been sent."""
        self._state = "not entered"
        """``"not entered"``, ``"open"`` in the ``with`` block, then ``"over"``."""
        self.err: str | None = None
        """Why the message could not be sent; None if there was no error."""

    def __enter__(self) -> MessageWriter:
        if _loop.no_switch:
            scheduler.refuse("sock.message")
        if self._state != "not entered":
            raise RuntimeError("a message can be written only once")
        self.err = self._session.begin_message("message.write")
        self._state = "open" if self.err is None else "over"
        return self

    def write(self, piece: Data) -> Result:
        """Adds a piece. Blocks like ``sock.write``. Returns ``(True, None)``, or
        ``(False, err)`` if the connection is closed or broken.

            with sock.message("text") as message:
                message.write("hello, ")
                message.write("world")
            sock.read()                          # -> ("hello, world", "text")

        If a ``time.deadline`` runs out, the call returns an error, but the piece is
        still sent, and the message may go on. Within that deadline a further piece is
        refused while more than the limit ``unsent`` is unsent. Where a cancel
        (``Task.cancel``) strikes, the piece counts as written, and the message may go
        on.

        Raises ValueError for text that isn't UTF-8 (two pieces may share a character),
        and TypeError for data of any other type.
        """
        if _loop.no_switch:
            scheduler.refuse("message.write")
        data = to_bytes(piece)
        if self._state == "not entered":
            raise RuntimeError("a message is written within its 'with' block")
        refused = self.err or (self._session.refused("message.write") if self._state == "open" else "the message has ended")
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
        """Sends the pieces written so far at once, as a fragment. Returns like
        ``write``.

            with sock.message("text") as message:
                message.write("hello, ")
                message.flush()
                message.write("world")
        """
        if _loop.no_switch:
            scheduler.refuse("message.flush")
        if self._state == "not entered":
            raise RuntimeError("a message is written within its 'with' block")
        if self.err is not None or self._state != "open":
            return failure(self.err or "the message has ended")
        result = OK
        if self._gathered:
            fragment = bytes(self._gathered)
            self._gathered.clear()
            result = self._send(fragment, False)
            self._session.stream.flush()
        return result

    def _send(self, fragment: bytes, final: bool) -> Result:
        begin = not self._begun
        self._begun = True  # now: the fragment goes out even if the call is interrupted
        err = self._session.send_fragment(self._opcode, fragment, begin, final, self._compress)
        if err is None:
            return OK
        if not self._session.writable:
            self.err = err
        return failure(err)

    def _check(self, data: bytes, final: bool) -> None:
        assert self._decoder is not None
        try:
            self._decoder.decode(data, final)
        except UnicodeDecodeError as exc:
            raise ValueError(f"text must be UTF-8: {exc.reason}") from None

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if _loop.no_switch:
            scheduler.refuse("sock.message")
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
        except scheduler.Cancelled:
            whole = True  # see ``send_fragment``
            raise
        finally:
            self._gathered.clear()
            cancelled = kind is not None and issubclass(kind, scheduler.Cancelled)
            self._session.end_message(whole, GOING_AWAY if cancelled else INTERNAL)
