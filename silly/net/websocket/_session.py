"""One WebSocket, once the handshake is done: its state, its control frames, its end.

A ``Session`` is the inner half, which the stream holds as its owner and the HTTP server as
what took the connection over. The public ``Socket`` holds the session, and its finalizer
closes it; the session holds no ``Socket``, so a forgotten one is closed.

``state`` is OPEN, CLOSING or CLOSED. It becomes CLOSING with our close frame, whether we
begin or answer the peer's; that one is ``messages.close``. It becomes CLOSED with ``close``,
or with the end of the connection. ``err`` is apart from it: with the close frame, or a fault,
a reader is told only after what came before.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

from ... import errno, logger
from ..._core import scheduler
from ..._core.result import OK, Result, failure
from ..._core.waiting import Leaving, Waiters
from ..._wire.deflate import Deflate, Deflater, Inflater, Parameters
from ..._wire.error import ProtocolError
from ..._wire.limits import Limits
from ..._wire.messages import FrameType, Taken
from ..._wire.ws import (
    ABNORMAL,
    BINARY_END,
    CLOSE,
    CONTINUATION,
    FIN,
    GOING_AWAY,
    INTERNAL,
    NORMAL,
    POLICY,
    PONG,
    TEXT_END,
    MessageReader,
    close_payload,
    frame,
)
from .._stream import Stream
from ..tcp import BURST, forgotten
from ._closing import finish_handshake
from ._keepalive import Keepalive
from ._sending import CLOSED, CLOSED_HERE, CLOSING, OPEN, Sending
from ._unread import Unread

SHOWN_PINGS = 16
"""Pings shown to the application whose pong by hand is taken as done."""

_GOODBYE = close_payload(GOING_AWAY)
_SERVER_GOODBYE = frame(FIN | CLOSE, _GOODBYE)
_NONE_TAKEN: list[Taken] = []
"""While nothing has been taken; one for all. Never changed."""
_loop = scheduler.loop


class Session(Sending):
    """See the module's header. ``Sending`` has what concerns messages that go out."""

    __slots__ = (
        "burst",
        "close_due",
        "closecode",
        "closereason",
        "closers",
        "controls",
        "fault",
        "held_pong",
        "keepalive",
        "messages",
        "partial",
        "pieces",
        "pings",
        "queued",
        "taken",
        "unread",
    )

    def __init__(
        self, stream: Stream, server: bool, limits: Limits, compression: Parameters | None, options: Deflate | None
    ) -> None:
        super().__init__(stream, server, limits)
        inflater: Inflater | None = None
        if compression is not None and options is not None:
            ours = compression.server_no_context_takeover, compression.server_max_window_bits
            theirs = compression.client_no_context_takeover, compression.client_max_window_bits
            if not server:
                ours, theirs = theirs, ours
            self.deflater = Deflater(*ours, options)
            self.threshold = options.threshold
            inflater = Inflater(*theirs)
        self.messages = MessageReader(server, limits, inflater)
        self.closecode: int | None = None
        self.closereason = ""
        self.partial: str | bytes = b""
        self.taken = _NONE_TAKEN
        """What was taken off the buffer and is still to be read, the next one last: together
        with a message that was read, or while nobody read."""
        self.queued = False
        """Whether that may be more than a batch, so that reading it must let others run."""
        self.fault: ProtocolError | None = None
        """What the peer did wrong behind messages that are still to be read: it is told
        when they have been."""
        self.burst = 0
        """Reads in a row that didn't wait."""
        self.pieces: object | None = None
        """The token of the ``Pieces`` that reads the open message. Not that itself: it holds
        the socket."""
        self.close_due: float | None = None
        """When the peer's answer to our close frame is due."""
        self.closers: Waiters[None] | None = None
        """Tasks in ``close`` behind another one that closes; None until there was one."""
        self.pings: deque[bytes] | None = None
        """Pings whose pong by hand is taken as done."""
        self.held_pong: bytes | None = None
        """The newest pong that waits, since the kernel refuses output."""
        self.controls = 0
        """Control frames since somebody read a message, or the peer took output."""
        self.unread: Unread | None = None
        """Takes what nobody reads; None until there was something."""
        stream.goodbye = _SERVER_GOODBYE if server else self.frame(FIN | CLOSE, _GOODBYE)
        stream.owner = self
        self.keepalive = Keepalive(stream, limits)
        self.keepalive.start(self)

    def __repr__(self) -> str:
        return f"<websocket with {self.stream.remoteaddr}, {self.err or 'open'}>"

    # ---- what a reader is told ----------------------------------------------------------

    def over(self) -> str:
        """Everything has been read, and ``err`` is set: what the reader is told."""
        if self.fault is not None:
            return self.broke(self.fault)
        return self.told()

    def has_more(self) -> bool:
        """Whether a reader has something to read before it is told of the end."""
        if self.taken or self.fault is not None:
            return True
        return self.err is None and bool(self.stream.buf or self.messages.held)

    def sooner(self, deadline: float | None) -> float | None:
        """The deadline of a read once a close frame was sent: the peer's answer is due."""
        due = self.close_due
        return deadline if due is None else due if deadline is None else min(due, deadline)

    def read_failed(self, err: str, what: str) -> str:
        """The stream has nothing more to read by ``what``: what the reader is told."""
        if self.err is not None:
            return self.err  # another task closed the socket meanwhile
        if err == errno.TIMEDOUT and self.close_due is not None and monotonic() >= self.close_due:
            self.closing_over()
            return self.told()
        self.partial = self.messages.partial(self.stream.buf)
        if err == errno.TIMEDOUT and self.stream.err is None:
            return scheduler.ran_out(what) if scheduler.expired() else err
        return self.gone(err)

    def gone(self, err: str) -> str:
        """The stream below has failed with ``err``, and all that came before is read: what
        the reader is told."""
        self.err = self.lost(err)
        self.end(ABNORMAL, "")
        return self.err

    def broke(self, exc: ProtocolError) -> str:
        """The peer broke the protocol: tells it why, and ends the connection (section
        7.1.7). What the reader is told."""
        self.partial = self.messages.partial(self.stream.buf)
        self.cause = exc.text
        self.fault = None
        self.err = self.blame(exc)
        logger.info(f"websocket: {self.stream.remoteaddr}: {exc.text}: close {exc.code}")
        self.send_close(close_payload(exc.code, exc.text))
        self.end(exc.code, exc.text, await_end=True)
        return self.err

    def blame(self, exc: ProtocolError) -> str:
        """What a reader is told of that fault."""
        return f"the peer {self.stream.remoteaddr} broke the protocol: {exc.text}"

    def leave(self) -> None:
        """The rest of the message that is being read in pieces, if there is one, is dropped."""
        if self.pieces is not None:
            self.pieces = None
            self.messages.read_whole()

    # ---- control frames -----------------------------------------------------------------

    def control(self, opcode: int, data: bytes, queued: int = 0) -> tuple[Any, FrameType] | tuple[None, Any] | None:
        """Anything but a message was taken off the buffer: what ``read`` returns for it, or
        None when it isn't shown. ``queued``: so many others are to be read before."""
        if opcode in (CONTINUATION, TEXT_END, BINARY_END):
            self.leave()  # a message that was read in pieces, and is no more
            return None
        if opcode == CLOSE:
            self._peer_closes(data)
            return data, "close"
        fault = self._count_control()
        if fault is not None:
            return None, self.broke(fault)
        if opcode == PONG:
            if not self.keepalive.is_ours(data):
                return data, "pong"
            self.keepalive.answered(data)
            return None
        self._answer(data)
        if self.pings is None:
            self.pings = deque()
        while len(self.pings) >= SHOWN_PINGS + queued:
            self.pings.popleft()
        self.pings.append(data)
        return data, "ping"

    def _peer_closes(self, data: bytes) -> None:
        """The peer's close frame: answers it. A reader has had, or still gets, everything
        before it."""
        assert self.messages.close is not None
        self.closecode, self.closereason = self.messages.close
        reason = f" {self.closereason!r}" if self.closereason else ""
        self.cause = self.cause or f"closed by the peer: {self.closecode}{reason}"
        self.err = CLOSED_HERE
        # The answer echoes the code (section 5.5.1).
        self.send_close(data[:2])

    def _count_control(self) -> ProtocolError | None:
        """Counts a ping or pong. An error when there are too many for a peer that takes
        nothing: each may need an answer."""
        self.controls += 1
        if not self.stream.blocked:
            self.controls = 0
        else:
            self.stream.wants_drained = True
        limit = self.limits.control_frames
        if self.controls <= limit:
            return None
        text = f"more control frames than the limit 'control_frames' of {limit} by a peer that doesn't read"
        return ProtocolError(text, POLICY)

    def _answer(self, ping: bytes) -> None:
        """Sends the pong. While the kernel refuses output only the newest is kept (section
        5.5.3)."""
        if self.state is not OPEN:
            return
        if self.stream.blocked:
            self.held_pong = ping
        else:
            self.stream.write_nowait(self.frame(FIN | PONG, ping))

    def send_control(self, opcode: int, payload: bytes) -> str | None:
        """Sends a ping or pong of the application's; the error, or None."""
        if opcode == PONG and self.pings is not None and payload in self.pings:
            # The library has answered that ping.
            self.pings.remove(payload)
            return None
        err = self.stream.write(self.frame(FIN | opcode, payload))
        return None if err is None else self.write_failed(err, "sock.write")

    def send_close(self, payload: bytes) -> str | None:
        """Sends our close frame, once; no other frame goes out after it. The error, or None."""
        if self.state is not OPEN:
            return None
        self.state = CLOSING
        self.stream.goodbye = None
        self.close_due = monotonic() + self.limits.close_timeout / 1000
        self.keepalive.closing(self, self.close_due)
        return self.stream.write_nowait(self.frame(FIN | CLOSE, payload))

    # ---- for the stream (Owner) ---------------------------------------------------------

    def data_unread(self) -> None:
        """There may be data that nobody waits for."""
        unread = self.unread
        if unread is None:
            if not self.stream.buf:
                return
            unread = self.unread = Unread()
        if unread.timer is None and self.err is None and self.stream.buf:
            unread.wait(self)

    def drained(self) -> None:
        """The peer has taken most of what was unsent."""
        self.controls = 0
        held, self.held_pong = self.held_pong, None
        if held is not None and self.state is OPEN:
            self.stream.write_nowait(self.frame(FIN | PONG, held))

    def broken(self) -> None:
        """The stream has failed, or is closed."""
        self.end_turns()
        if self.stream.closed:
            # By ``sock.conn`` maybe: what was taken is dropped as what is in the buffer.
            self.stream.owner = None
            self.taken = _NONE_TAKEN
            if self.fault is not None:
                self.fault = self.err = None
            self.keepalive.stop()
            if self.unread is not None:
                self.unread.stop()

    def said_goodbye(self) -> None:
        """The process is ending, and our close frame was sent."""
        if self.state is OPEN:
            self.state = CLOSING

    def take_unread(self) -> None:
        """Takes what still nobody reads off the buffer, and acts upon its control frames."""
        stream = self.stream
        if stream._reader is not None or stream.closed or self.err is not None:
            return
        if self.unread is None:
            self.unread = Unread()
        self.unread.stop()
        self.unread.take(self)
        self.queued = len(self.taken) > BURST

    # ---- giving up ----------------------------------------------------------------------

    def no_pong(self) -> None:
        """The peer doesn't answer our pings."""
        limit = self.limits.pong_timeout
        text = f"no pong for {limit / 1000:g} s (the limit 'pong_timeout')"
        logger.info(f"websocket: {self.stream.remoteaddr}: {text}: close {INTERNAL}")
        self.send_close(close_payload(INTERNAL, text))
        self.closecode, self.closereason = INTERNAL, text
        self._give_up(text, f"the connection with {self.stream.remoteaddr} was given up: {text}")

    def closing_over(self) -> None:
        """The time is over for the peer's part of the closing handshake, or for ours to end
        the connection after it."""
        self.take_unread()
        if self.state is CLOSED:
            return  # ``close`` waits itself
        limit = self.limits.close_timeout
        if self.stream.err is not None and self.messages.close is None:
            if self.has_more():
                err = self.lost(self.stream.err)
                self._give_up(self.cause, err)
            else:
                self.gone(self.stream.err)
        elif self.err is not None and not self.has_more():
            self.end(ABNORMAL, "")  # a reader has had everything
        elif self.messages.close is not None:
            self._give_up(self.cause, CLOSED_HERE)
        else:
            text = f"the peer did not answer the close frame within the limit 'close_timeout' of {limit} ms"
            self._give_up(text, text)

    def _give_up(self, cause: str | None, err: str) -> None:
        """Ends the connection below. A reader still gets what had arrived, then ``err``, as
        everybody else does at once."""
        if self.closecode is None:
            self.closecode = ABNORMAL
        self.cause = cause
        self.given_up = err
        self.keepalive.stop()
        self.stream.flush()
        self.stream.fail(errno.TIMEDOUT)

    # ---- closing ------------------------------------------------------------------------

    def close(self, code: int = NORMAL, payload: bytes | None = None) -> Result:
        """Does the closing handshake with a close frame of that ``payload``, by default of
        ``code`` alone, and ends the connection. See ``Socket.close``."""
        if self.state is CLOSED:
            self._wait_closed()
            return failure(CLOSED_HERE)
        fault, self.fault = self.fault, None
        if self.err is None or fault is not None:
            self.err = CLOSED_HERE
        self.taken = _NONE_TAKEN
        if self.cause is None:
            self.cause = f"closed here: {code}"
        self.stream.interrupt()
        self.next_turn()
        self.send_close(close_payload(code) if payload is None else payload)
        self.state = CLOSED
        try:
            finish_handshake(self, fault)
        finally:
            self.end(ABNORMAL, "")
        return OK

    def _wait_closed(self) -> None:
        """Waits for the end of the closing handshake that another task has under way."""
        while not self.stream.closed:
            if self.closers is None:
                self.closers = Waiters()
            try:
                self.closers.wait(self)
            except (Leaving, scheduler.DeadlineOver):
                return

    def end(self, code: int, reason: str, await_end: bool = False) -> None:
        """Ends the connection below, and says with what if the peer did not. ``await_end``
        as in ``Stream.close``."""
        self.state = CLOSED
        if self.closecode is None:
            self.closecode, self.closereason = code, reason
        self.keepalive.stop()
        self.stream.close(await_end)
        if self.closers is not None:
            self.closers.wake_all()

    def end_message(self, whole: bool) -> None:
        """The message that this task has begun piece by piece has ended, or never will."""
        self.writing = None
        if not whole:
            self.cause = self.cause or "a message was left incomplete by an exception"
            self.close(INTERNAL)
        self.next_turn()

    def forget(self) -> None:
        """Nobody holds the socket any more: says goodbye, and ends the connection."""
        if self.state is not CLOSED:
            forgotten(self.stream)

    # ---- for the HTTP server (Hijacker) -------------------------------------------------

    def handler_ended(self, failed: bool) -> None:
        """The handler that upgraded has returned or raised: closes what it left open."""
        self.close(INTERNAL if failed else NORMAL)

    def server_drains(self) -> None:
        """Tells the peer, in a task of its own, since closing blocks."""
        scheduler.fork(self._go_away, None, Session._go_away.__code__, 0)

    def _go_away(self) -> None:
        self.close(GOING_AWAY)
