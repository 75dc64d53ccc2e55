"""The sending half of a WebSocket: messages, each whole and in order, whatever their size.

A message of less than 64 KiB is one frame, and needs none of this. A larger one goes out in
several steps, between which control frames pass. Meanwhile other tasks' messages wait: one
task has the turn to send, and hands it on to the task that has waited longest.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ... import errno
from ..._core import scheduler
from ..._core.waiting import Leaving, Waiters
from ..._wire.deflate import Deflater
from ..._wire.limits import Limits
from ..._wire.mask import MaskKeys
from ..._wire.messages import FRAGMENT
from ..._wire.ws import CONTINUATION, FIN, RSV1, frame, frame_head, masked_frame
from .._stream import Stream

TOGETHER = 4
"""Frames of a large message that are sent by one call: control frames wait for no more."""

OPEN, CLOSING, CLOSED = "open", "closing", "closed"
"""The states of a WebSocket. OPEN: frames may be sent. CLOSING: our close frame was sent, and
no other frame is after it. CLOSED: ``close`` was called, or the connection has ended; nothing
can be read any more either. ``close`` may still wait for the rest of the handshake."""

CLOSED_HERE = "closed"
"""The error of a socket that was closed in good order, by us or by the peer."""

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
        """Whether we are the server: then our frames are not masked, and the peer's are."""
        self.limits = limits
        self.state = OPEN
        self.cause: str | None = None
        """Why the connection ended, in words."""
        self.err: str | None = None
        """What a reader gets once it has read what was taken."""
        self.given_up: str | None = None
        """What everybody gets once the connection was given up, a reader after what had
        arrived."""
        self.deflater: Deflater | None = None
        self.threshold = 0
        """Bytes of a message from which on it is compressed."""
        self.writing: scheduler.Task | None = None
        """The task that has the turn: it sends a message in several steps, or was woken to
        do so. The turn is handed over, so one busy writer can't keep it."""
        self.turns: Waiters[bool] | None = None
        """Those who wait for it: woken with True they have it, with False the connection
        has failed. None until there was one."""

    # ---- what everybody is told ---------------------------------------------------------

    def told(self) -> str:
        """The error once the socket is closed, or was given up."""
        return self.err or self.given_up or CLOSED_HERE

    def lost(self, err: str) -> str:
        """The stream below has failed with ``err``: the error for every task that was
        blocked on it."""
        if self.err is not None or self.given_up is not None:
            return self.told()
        if err == errno.CLOSED:
            self.cause = self.cause or "the connection below was closed here"
            return CLOSED_HERE
        if self.cause is None:
            self.cause = self.stream.why or err
        return f"the connection with {self.stream.remoteaddr} ended without a closing handshake: {self.cause}"

    def write_failed(self, err: str, what: str) -> str:
        """The stream refused a write by ``what`` with ``err``: the error for the writer."""
        if err == errno.TIMEDOUT and self.stream.werr is None:
            return scheduler.ran_out(what)
        return self.lost(err)

    # ---- frames -------------------------------------------------------------------------

    def frame(self, first: int, payload: bytes) -> bytes:
        """A frame; ``first`` is its first byte."""
        return frame(first, payload) if self.server else masked_frame(first, payload, keys.next())

    def _parts(self, first: int, payload: bytes | memoryview) -> list[bytes | memoryview]:
        """A frame, in parts to send: a server's payload is not copied."""
        if self.server:
            return [frame_head(first, len(payload)), payload]
        return [masked_frame(first, payload, keys.next())]

    def _frames(self, first: int, payload: bytes) -> Iterator[list[bytes | memoryview]]:
        """A message in frames of at most 64 KiB, ``TOGETHER`` of them at a time."""
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

    def _send_frames(self, frames: Iterator[list[bytes | memoryview]], what: str, begun: bool = False) -> str | None:
        """Sends the frames of a message; ``begun``: some were sent before. The error, or
        None. When this is broken off in the middle the rest still goes out: half a message
        would end the connection for all who use it."""
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

    # ---- messages -----------------------------------------------------------------------

    def send_message(self, opcode: int, payload: bytes, compress: bool | None) -> str | None:
        """Sends a message that is large or compressed, or that must wait for one that is
        being sent; the error, or None. ``compress`` as in ``Socket.write``."""
        err = self.begin_message("sock.write")
        if err is not None:
            return err
        try:
            deflater = self.deflater
            first = opcode
            if deflater is not None and (len(payload) >= self.threshold if compress is None else compress):
                payload = deflater.compress(payload)
                first |= RSV1
            return self._send_frames(self._frames(first, payload), "sock.write")
        except BaseException:
            if self.deflater is not None:
                self.deflater.forget()
            raise
        finally:
            self.end_turn()

    def send_fragment(self, opcode: int, payload: bytes, begin: bool, final: bool, compress: bool) -> str | None:
        """Sends a fragment of the message that this task has begun; the error, or None."""
        if self.state is not OPEN:
            return self.told()
        if compress:
            assert self.deflater is not None
            payload = self.deflater.piece(payload, final)
        first = (opcode | (RSV1 if compress else 0)) if begin else CONTINUATION
        frames = iter([self._parts(first | (FIN if final else 0), payload)])
        return self._send_frames(frames, "message.write", True)  # what was taken goes out, whatever a deadline says

    def refused(self, what: str) -> str | None:
        """The error when a deadline is over and output would have to wait. It is asked
        before a compressor sees what is not sent."""
        if self.stream.unsent > self.limits.unsent and scheduler.expired():
            return scheduler.ran_out(what)
        return None

    @property
    def writable(self) -> bool:
        """Whether messages can still be sent."""
        return self.state is OPEN and self.stream.werr is None

    # ---- turns --------------------------------------------------------------------------

    def begin_message(self, what: str) -> str | None:
        """Waits until no other task is in the middle of a message; then this one has the
        turn. The error, or None."""
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
            raise RuntimeError(f"BUG: {self}: this task is in the middle of a message to it")
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
        """The task that was woken is interrupted before it runs."""
        if turn:
            self.end_turn()

    def end_turn(self) -> None:
        """This task's message has ended: the next one's turn."""
        self.writing = None
        self.next_turn()

    def next_turn(self) -> None:
        """Hands the turn to the task that has waited longest, if nobody has it."""
        if self.writing is None and self.turns is not None:
            task = self.turns.first
            if self.turns.wake_one(True):
                self.writing = task

    def end_turns(self) -> None:
        """The connection has failed. Every task that waits for the turn wakes: the one whose
        turn it is may be idle."""
        if self.turns is not None:
            self.turns.wake_all(False)
