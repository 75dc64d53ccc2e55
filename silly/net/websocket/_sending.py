"""The sending half of a WebSocket: messages of any size go out whole and in order.

An uncompressed message of less than 64 KiB is one frame, which ``Socket.write`` sends
itself. A larger one goes out in several steps, with control frames between them.
Meanwhile the messages of other tasks wait: one task has the turn to send, and hands it
on to the task that has waited longest.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ... import errno
from ..._core import scheduler
from ..._core.waiting import Leaving, Waiters
from ..._wire.deflate import SHARE, Deflater
from ..._wire.limits import Limits
from ..._wire.mask import MaskKeys
from ..._wire.messages import FRAGMENT
from ..._wire.ws import CONTINUATION, FIN, RSV1, frame, frame_head, masked_frame
from .._stream import Stream

TOGETHER = 4
"""Frames of a large message that are sent by one call. A control frame waits for at
most so many."""

OPEN, CLOSING, CLOSED = "open", "closing", "closed"
"""The states of a WebSocket. OPEN: frames may be sent. CLOSING: our close frame was
sent, and no frame may follow it. CLOSED: ``close`` was called, or the connection has
ended; nothing can be read any more either. ``close`` may still wait for the rest of the
handshake."""

CLOSED_HERE = "closed"
"""The error of a socket that we or the peer closed by a closing handshake."""

_loop = scheduler.loop
keys = MaskKeys()


class Sending:
    """See the module's header. ``Session`` adds the rest."""

    __slots__ = (
        "cause",
        "deflater",
        "err",
        "given_up",
        "limits",
        "sent",
        "server",
        "state",
        "stream",
        "threshold",
        "turns",
        "writing",
    )

    def __init__(self, stream: Stream, server: bool, limits: Limits) -> None:
        self.stream = stream
        self.server = server
        """Whether we are the server: then the peer masks its frames, else we do."""
        self.limits = limits
        self.sent = -stream.queued
        """How many messages were sent, without those that ``Socket.write`` gave to
        ``try_queue``: ``stream.queued`` counts them, and nothing else."""
        self.state = OPEN
        self.cause: str | None = None
        """Why the connection ended, in words."""
        self.err: str | None = None
        """The error that a reader gets after what was taken."""
        self.given_up: str | None = None
        """The error that every task gets after the connection was given up; a reader
        first gets what had arrived."""
        self.deflater: Deflater | None = None
        self.threshold = 0
        """A message of at least so many bytes is compressed."""
        self.writing: scheduler.Task | None = None
        """The task that has the turn: it sends a message in several steps, or was woken
        to do so. The turn is handed over, so one busy writer can't keep it."""
        self.turns: Waiters[bool] | None = None
        """The tasks that wait for the turn. Woken with True a task has it; with False
        the connection has failed. None until a task waits."""

    # ---- errors ----------------------------------------------------------------------

    def told(self) -> str:
        """Returns the error of a socket that is closed or was given up."""
        return self.err or self.given_up or CLOSED_HERE

    def lost(self, err: str) -> str:
        """Returns the error for every task that is blocked on the socket, after the
        stream below has failed with ``err``.
        """
        if self.err is not None or self.given_up is not None:
            return self.told()
        if err == errno.CLOSED:
            self.cause = self.cause or "the underlying connection was closed here"
            return CLOSED_HERE
        if self.cause is None:
            self.cause = self.stream.why or err
        return f"the connection with {self.stream.remoteaddr} ended without a closing handshake: {self.cause}"

    def write_failed(self, err: str, what: str) -> str:
        """Returns the error for the writer, after the stream refused a write with
        ``err``. ``what`` names the call.
        """
        if err == errno.TIMEDOUT and self.stream.werr is None:
            return scheduler.ran_out(what)
        return self.lost(err)

    # ---- frames ----------------------------------------------------------------------

    def frame(self, first: int, payload: bytes) -> bytes:
        """Returns a frame. ``first`` is its first byte."""
        return frame(first, payload) if self.server else masked_frame(first, payload, keys.next())

    def _parts(self, first: int, payload: bytes | memoryview) -> list[bytes | memoryview]:
        """Returns a frame in parts. A server's payload is not copied."""
        if self.server:
            return [frame_head(first, len(payload)), payload]
        return [masked_frame(first, payload, keys.next())]

    def _frames(self, first: int, payload: bytes) -> Iterator[list[bytes | memoryview]]:
        """Yields a message in frames of at most 64 KiB, ``TOGETHER`` at a time."""
        view = memoryview(payload)
        size = len(payload)
        at = 0
        while at < size or at == 0:
            parts: list[bytes | memoryview] = []
            for _ in range(TOGETHER):
                piece = view[at : at + FRAGMENT]
                at += FRAGMENT
                parts += self._parts(first | FIN if at >= size else first, piece)
                first = CONTINUATION
                if at >= size:
                    break
            yield parts

    def _send_frames(self, frames: Iterator[list[bytes | memoryview]], what: str, begun: bool) -> str | None:
        """Sends the frames of a message, and returns None or the error. ``begun``:
        the rest must go out too, whatever the deadline, since earlier frames of it were
        sent, or it was compressed.

        If a deadline or an exception ends the call in the middle, the rest is queued:
        after half a message nothing else could be sent.
        """
        stream = self.stream
        try:
            for parts in frames:
                if self.state is not OPEN:
                    return self.told()  # another task has closed
                if begun and (err := self.refused(what)) is not None:
                    self._queue(chain((parts,), frames))
                    return err
                begun = True
                err = stream.writev(parts)
                if err is not None:
                    if stream.werr is None:
                        self._queue(frames)
                    return self.write_failed(err, what)
        except BaseException:
            self._queue(frames)
            raise
        return None

    def _queue(self, frames: Iterator[list[bytes | memoryview]]) -> None:
        for parts in frames:
            if self.state is OPEN:
                self.stream.write_nowait(b"".join(parts))

    # ---- messages --------------------------------------------------------------------

    def send_frame(self, message: bytes) -> str | None:
        """Sends a message that is one frame. Returns None or the error."""
        err = self.stream.writev([message])
        if err is not None:
            return self.write_failed(err, "sock.write")
        self.sent += 1
        return None

    def send_message(self, opcode: int, payload: bytes, compress: bool | None) -> str | None:
        """Sends a message that is large or compressed, or that must wait for another
        one. Returns None or the error. ``compress`` as in ``Socket.write``.
        """
        err = self.begin_message("sock.write")
        if err is not None:
            return err
        try:
            deflater = self.deflater
            first = opcode
            if deflater is not None and (len(payload) >= self.threshold if compress is None else compress):
                payload = _squeezed(deflater, payload)
                first |= RSV1
            # ``begun`` when compressed: later messages refer to it, and meanwhile a
            # deadline may have ended.
            err = self._send_frames(self._frames(first, payload), "sock.write", bool(first & RSV1))
            if err is None:
                self.sent += 1
            return err
        except BaseException:
            if self.deflater is not None:
                self.deflater.forget()
            raise
        finally:
            self.end_turn()

    def send_fragment(self, opcode: int, payload: bytes, begin: bool, final: bool, compress: bool) -> str | None:
        """Sends a fragment of the message that this task has begun. Returns None or the
        error. A fragment goes out even if an exception interrupts the call.
        """
        if self.state is not OPEN:
            return self.told()
        if compress:
            assert self.deflater is not None
            if self.deflater.rest_due():
                try:
                    scheduler.pause()
                except BaseException:
                    self._queue(self._fragment(opcode, payload, begin, final, compress))
                    raise
                if self.state is not OPEN:
                    return self.told()
        # ``begun`` True: a fragment that was accepted goes out, even after a deadline.
        err = self._send_frames(self._fragment(opcode, payload, begin, final, compress), "message.write", True)
        if final and err is None:
            self.sent += 1
        return err

    def _fragment(
        self, opcode: int, payload: bytes, begin: bool, final: bool, compress: bool
    ) -> Iterator[list[bytes | memoryview]]:
        """Yields the frame of a fragment."""
        if compress:
            assert self.deflater is not None
            payload = self.deflater.piece(payload, final)
        first = (opcode | (RSV1 if compress else 0)) if begin else CONTINUATION
        yield self._parts(first | (FIN if final else 0), payload)

    def refused(self, what: str) -> str | None:
        """Returns the error if a deadline is over and output would have to wait, or
        None. Callers ask before they compress, because a compressor must not see data
        that isn't sent.
        """
        if self.stream.unsent > self.limits.unsent and scheduler.expired():
            return scheduler.ran_out(what)
        return None

    @property
    def writable(self) -> bool:
        """Whether messages can still be sent."""
        return self.state is OPEN and self.stream.werr is None

    # ---- turns -----------------------------------------------------------------------

    def begin_message(self, what: str) -> str | None:
        """Waits until no other task is in the middle of a message, and takes the turn.
        Returns None or the error. ``what`` names the call.
        """
        if self.writing is not None and self.stream.werr is None:
            err = self._wait_turn(what)
            if err is not None:
                return err
        err = self.refused(what)
        if not self.writable:
            err = self.told() if self.stream.werr is None else self.lost(self.stream.werr)
        if err is not None:
            if self.writing is _loop.current:
                self.end_turn()
            return err
        self.writing = scheduler.current()
        return None

    def _wait_turn(self, what: str) -> str | None:
        if self.writing is _loop.current:
            raise RuntimeError(f"{self}: this task is in the middle of a message to it")
        if self.turns is None:
            self.turns = Waiters()
        try:
            self.turns.wait(self, self._give_back)
        except Leaving:
            return errno.CLOSED
        except scheduler.DeadlineOver:
            return scheduler.ran_out(what)
        return None

    def _give_back(self, turn: bool) -> None:
        """Hands the turn on, because the task that was woken with it is interrupted
        before it runs.
        """
        if turn:
            self.end_turn()

    def end_turn(self) -> None:
        """Ends this task's turn, and wakes the next task."""
        self.writing = None
        self.next_turn()

    def next_turn(self) -> None:
        """Hands the turn to the task that has waited longest, if no task has it."""
        if self.writing is None and self.turns is not None:
            self.writing = self.turns.first
            self.turns.wake_one(True)

    def end_turns(self) -> None:
        """Wakes every task that waits for the turn, because the connection has failed:
        the task whose turn it is may be idle.
        """
        if self.turns is not None:
            self.turns.wake_all(False)


def _squeezed(deflater: Deflater, payload: bytes) -> bytes:
    """Compresses a message, and lets other tasks run now and then."""
    pieces = []
    for at in range(0, len(payload) or 1, SHARE):
        if deflater.rest_due():
            scheduler.pause()
        pieces.append(deflater.piece(payload[at : at + SHARE], at + SHARE >= len(payload)))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
