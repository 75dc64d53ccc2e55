"""One WebSocket after the handshake: its state, its control frames, its end.

A ``Session`` is the inner half. The stream holds it as its owner, and the HTTP server
as what took the connection over. The public ``Socket`` holds the session, and its
finalizer closes it; the session holds no ``Socket``, so a socket that nothing else
holds is closed.

``state`` is OPEN, CLOSING or CLOSED. It becomes CLOSING when we send a close frame,
which either begins the handshake or answers the peer's close frame
(``messages.close``). It becomes CLOSED with ``close``, or with the end of the
connection. ``err`` is separate: a reader gets the error of a close frame or of a fault
only after what came before it.
"""

from __future__ import annotations

from typing import Any

from ... import errno
from ..._core import scheduler
from ..._core.loop import monotonic
from ..._core.result import OK, Result, failure
from ..._core.waiting import Leaving, Waiters
from ..._log import websocket as logger
from ..._wire.deflate import Deflate, Deflater, Inflater, Parameters
from ..._wire.error import ProtocolError
from ..._wire.limits import Limits
from ..._wire.messages import FrameType, Taken
from ..._wire.ws import (
    ABNORMAL,
    BINARY_END,
    CLOSE,
    CONTINUATION,
    DROP,
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
from ..http._serverresponse import CANCELLED, RAISED, RETURNED
from ..http.accesslog import Account
from ..tcp import BURST, forgotten
from ._closing import finish_handshake
from ._keepalive import Keepalive
from ._message_pace import MessagePace
from ._sending import CLOSED, CLOSED_HERE, CLOSING, OPEN, Sending
from ._unread import Unread, end_by_fault

SHOWN_PINGS = 16
"""A pong that the application writes is not sent, if it answers one of so many pings
that were shown last: the library has answered them."""

_CODES = {RETURNED: NORMAL, RAISED: INTERNAL, CANCELLED: GOING_AWAY}
"""The code that a socket is closed with that its handler left open."""
_GOODBYE = close_payload(GOING_AWAY)
_SERVER_GOODBYE = frame(FIN | CLOSE, _GOODBYE)
_NONE_TAKEN: list[Taken] = []
"""The empty ``taken`` of every session; never mutated."""
_loop = scheduler.loop


class Session(Sending):
    """See the module's header. The base class sends messages."""

    __slots__ = (
        "_bytes_in",
        "_bytes_out",
        "_controls_at",
        "arrived",
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
        "pace",
        "partial",
        "pieces",
        "pings",
        "queued",
        "set_aside",
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
        """What was taken off the buffer and is still to be read, the next one last. It
        was taken together with a message that was read, or while nobody read."""
        self.queued = False
        """Whether ``taken`` may hold more than a batch: then reads of it let other
        tasks run."""
        self.fault: ProtocolError | None = None
        """A fault of the peer behind messages that are still to be read; it is reported
        after them."""
        self.burst = 0
        """The number of reads in a row that didn't wait."""
        self.pieces: object | None = None
        """The token of the ``Pieces`` that reads the open message. Not the ``Pieces``,
        because that holds the socket."""
        self.close_due: float | None = None
        """When the peer's answer to our close frame is due; None before that frame."""
        self.closers: Waiters[None] | None = None
        """The tasks whose ``close`` waits for the end of another task's ``close``; None
        until there is one."""
        self.pings: list[bytes] | None = None
        """The pings shown last, at most ``SHOWN_PINGS``; None before the first."""
        self.held_pong: bytes | None = None
        """The payload of a pong that waits because the kernel refuses output."""
        self.controls = 0
        """The number of control frames since a message was read or output drained."""
        self.arrived = 0
        """How many whole messages were read, or taken off the buffer with one that was
        read."""
        self._controls_at = 0
        """``arrived`` at the last control frame."""
        self.set_aside = 0
        """How many whole messages were taken while nobody read."""
        self._bytes_in = stream.received - len(stream.buf)
        """``stream.received`` at the beginning."""
        self._bytes_out = stream.written()
        """``stream.written()`` at the beginning."""
        self.unread: Unread | None = None
        """Takes what nobody reads; None until there is something."""
        self.pace: MessagePace | None = None
        """Watches the unfinished message; None if there is none, or no rate."""
        stream.goodbye = _SERVER_GOODBYE if server else self.frame(FIN | CLOSE, _GOODBYE)
        stream.owner = self
        self.keepalive = Keepalive()
        self.keepalive.start(self)

    def __repr__(self) -> str:
        return f"<websocket with {self.stream.remoteaddr}, {self.err or 'open'}>"

    # ---- errors of a reader ----------------------------------------------------------

    def over(self) -> str:
        """Returns the reader's error, after everything was read and ``err`` is set."""
        if self.fault is not None:
            return self.broke(self.fault)
        return self.told()

    def has_more(self) -> bool:
        """Returns whether a reader gets anything before the error of the end."""
        if self.taken or self.fault is not None:
            return True
        return self.err is None and bool(self.stream.buf or self.messages.held)

    def sooner(self, deadline: float | None) -> float | None:
        """Returns the deadline of a read after our close frame: ``deadline``, or the
        time when the peer's answer is due.
        """
        due = self.close_due
        return deadline if due is None else due if deadline is None else min(due, deadline)

    def too_late(self, deadline: float | None) -> bool:
        """Returns whether a reader whose turn it is again stops at its ``deadline``: it
        only drops the rest of a message, which may have no end."""
        if self.messages.mode != DROP or self.stream.err is not None:
            return False
        return scheduler.expired() or (deadline is not None and monotonic() >= deadline)

    def read_failed(self, err: str, what: str) -> str:
        """Returns the reader's error, after the stream failed with ``err``. ``what``
        names the call.
        """
        if self.err is not None:
            return self.err  # another task closed the socket meanwhile
        self.partial = self.messages.partial(self.stream.buf)
        if err == errno.TIMEDOUT and self.stream.err is None:
            if self.close_due is not None and monotonic() >= self.close_due:
                self.closing_over()
                return self.told()
            return scheduler.ran_out(what) if scheduler.expired() else err
        return self.gone(err)

    def gone(self, err: str) -> str:
        """Ends the connection, because the stream has failed with ``err`` and
        everything before was read. Returns the reader's error.
        """
        self.err = self.lost(err)
        self.end(ABNORMAL, "")
        return self.err

    def broke(self, exc: ProtocolError) -> str:
        """Sends the peer its fault in a close frame, and ends the connection (section
        7.1.7). Returns the reader's error.
        """
        self.partial = self.messages.partial(self.stream.buf)
        self.cause = exc.text
        self.fault = None
        self.err = self.blame(exc)
        logger.limited("websocket broken", f"websocket: {self.stream.remoteaddr}: {exc.text}: close {exc.code}")
        self.send_close(close_payload(exc.code, exc.text))
        self.end(exc.code, exc.text, await_end=True)
        return self.err

    def blame(self, exc: ProtocolError) -> str:
        """Returns the reader's error for a fault of the peer."""
        return f"the peer {self.stream.remoteaddr} broke the protocol: {exc.text}"

    def leave(self) -> None:
        """Drops the rest of the message that is read in pieces, if there is one."""
        if self.pieces is not None:
            self.pieces = None
            self.messages.read_whole()

    # ---- control frames --------------------------------------------------------------

    def control(self, opcode: int, data: bytes, queued: int = 0) -> tuple[Any, FrameType] | tuple[None, Any] | None:
        """Handles what was taken off the buffer and is no whole message. Returns what
        ``read`` returns for it, or None if it isn't shown. ``queued`` items are to be
        read before it.
        """
        if opcode in (CONTINUATION, TEXT_END, BINARY_END):
            self.leave()  # of a message that was read in pieces, until ``read`` was called
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
            self.pings = []  # a deque would take ten times the memory
        while len(self.pings) >= SHOWN_PINGS + queued:
            del self.pings[0]
        self.pings.append(data)
        return data, "ping"

    def _peer_closes(self, data: bytes) -> None:
        """Answers the peer's close frame. A reader still gets everything before it."""
        assert self.messages.close is not None
        self.closecode, self.closereason = self.messages.close
        reason = f" {self.closereason!r}" if self.closereason else ""
        self.cause = self.cause or f"closed by the peer: {self.closecode}{reason}"
        self.err = CLOSED_HERE
        # The answer echoes the code (section 5.5.1).
        self.send_close(data[:2])

    def _count_control(self) -> ProtocolError | None:
        """Counts a ping or pong. Returns an error if a peer that takes no output sends
        too many, since each may need an answer.
        """
        self.controls = self.controls + 1 if self.arrived == self._controls_at else 1
        self._controls_at = self.arrived
        if not self.stream.blocked:
            self.controls = 0
        else:
            self.stream.wants_drained = True
        limit = self.limits.control_frames
        if self.controls <= limit:
            return None
        text = f"more control frames than the limit 'control_frames' of {limit} from a peer that doesn't read"
        return ProtocolError(text, POLICY)

    def _answer(self, ping: bytes) -> None:
        """Sends the pong. While the kernel refuses output, only the newest one is kept
        (section 5.5.3).
        """
        if self.state is not OPEN:
            return
        if self.stream.blocked:
            self.held_pong = ping
        else:
            self.stream.write_nowait(self.frame(FIN | PONG, ping))

    def send_control(self, opcode: int, payload: bytes) -> str | None:
        """Sends a ping or pong of the application. Returns None or the error."""
        if opcode == PONG and self.pings is not None and payload in self.pings:
            # The library has answered this ping.
            self.pings.remove(payload)
            return None
        err = self.stream.writev([self.frame(FIN | opcode, payload)])
        return None if err is None else self.write_failed(err, "sock.write")

    def send_close(self, payload: bytes) -> str | None:
        """Sends our close frame, if it was not sent before. No frame follows it.
        Returns None or the error.
        """
        if self.state is not OPEN:
            return None
        self.state = CLOSING
        self.stream.goodbye = None
        self.close_due = monotonic() + self.limits.close_timeout / 1000
        self.keepalive.closing(self, self.close_due)
        return self.stream.write_nowait(self.frame(FIN | CLOSE, payload))

    # ---- for the stream (Owner) ------------------------------------------------------

    def data_unread(self) -> None:
        """Sets the timer that takes data, if there is any that no task waits for."""
        unread = self.unread
        if unread is None:
            if not self.stream.buf:
                return
            unread = self.unread = Unread()
        if unread.timer is None and self.err is None and self.stream.buf:
            unread.wait(self)

    def drained(self) -> None:
        """Sends the pong that waited: the peer has taken most of the output."""
        self.controls = 0
        held, self.held_pong = self.held_pong, None
        if held is not None and self.state is OPEN:
            self.stream.write_nowait(self.frame(FIN | PONG, held))

    def broken(self) -> None:
        """Wakes the writers of a stream that has failed; cleans up if it is closed."""
        self.end_turns()
        if self.stream.closed:
            # Maybe by ``sock.conn.close``. What was taken is dropped, like the buffer.
            self.stream.owner = None
            self.taken = _NONE_TAKEN
            if self.fault is not None:
                self.fault = self.err = None
            self._stop_timers()

    def process_ends(self) -> None:
        """Sends close 1001 when no task is left: until then a handler or a ``finally``
        block may use it. The HTTP server closes those of its own before.
        """
        if scheduler.exiting:
            self.stream.say_goodbye()

    def said_goodbye(self) -> None:
        """Notes that ``Stream.say_goodbye`` has sent our close frame."""
        if self.state is OPEN:
            self.state = CLOSING

    def take_unread(self) -> None:
        """Takes what no task reads off the buffer, and handles its control frames."""
        stream = self.stream
        if stream._reader is not None or stream.closed or self.err is not None:
            return
        if self.unread is None:
            self.unread = Unread()
        self.unread.stop()
        self.unread.take(self)
        self.queued = len(self.taken) > BURST
        if self.messages.unfinished(stream.buf) is not None:
            self.unfinished()

    # ---- giving up -------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether the peer's messages are still wanted."""
        return self.state is OPEN and self.err is None

    def unfinished(self) -> None:
        """Begins to watch the message that has begun and is not complete."""
        if self.limits.message_rate and self.open:
            self.messages.watch()
            if self.pace is None:
                self.pace = MessagePace(self)

    def too_slow(self) -> None:
        """The peer doesn't go on with its message: ends the connection."""
        text = f"message slower than the limit 'message_rate' of {self.limits.message_rate} bytes a second"
        end_by_fault(self, ProtocolError(text, POLICY), [], held=False)

    def no_pong(self) -> None:
        """Gives the connection up, because the peer doesn't answer our pings."""
        limit = self.limits.pong_timeout
        text = f"no pong for {limit / 1000:g} s (the limit 'pong_timeout')"
        logger.limited("websocket silent", f"websocket: {self.stream.remoteaddr}: {text}: close {INTERNAL}")
        self.send_close(close_payload(INTERNAL, text))
        self.closecode, self.closereason = INTERNAL, text
        self._give_up(text, f"the connection with {self.stream.remoteaddr} was given up: {text}")

    def _stop_timers(self) -> None:
        self.keepalive.stop()
        if self.unread is not None:
            self.unread.stop()
        if self.pace is not None:
            self.pace.stop()
            self.pace = None

    def closing_over(self) -> None:
        """Ends the connection ``close_timeout`` after our close frame, if no ``close``
        waits for the rest of the handshake.
        """
        self.take_unread()
        if self.state is CLOSED:
            return  # ``close`` has a deadline of its own
        limit = self.limits.close_timeout
        if self.stream.err is not None and self.messages.close is None:
            if self.has_more():
                err = self.lost(self.stream.err)
                self._give_up(self.cause, err)
            else:
                self.gone(self.stream.err)
        elif self.err is not None and not self.has_more():
            self.end(ABNORMAL, "")  # a reader has got everything
        elif self.messages.close is not None:
            self._give_up(self.cause, CLOSED_HERE)
        else:
            text = f"the peer did not answer the close frame within the limit 'close_timeout' of {limit} ms"
            self._give_up(text, text)

    def _give_up(self, cause: str | None, err: str) -> None:
        """Ends the connection below. A reader first gets what had arrived; then it gets
        ``err``, as all other tasks do at once.
        """
        if self.closecode is None:
            self.closecode = ABNORMAL
        self.cause = cause
        self.given_up = err
        self._stop_timers()
        self.stream.flush()
        self.stream.fail(errno.TIMEDOUT)

    # ---- closing ---------------------------------------------------------------------

    def close(self, code: int = NORMAL, payload: bytes | None = None) -> Result:
        """Does the closing handshake, and ends the connection. The close frame has
        ``payload``, by default only ``code``. See ``Socket.close``.
        """
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
        """Waits for the end of another task's closing handshake."""
        while not self.stream.closed:
            if self.closers is None:
                self.closers = Waiters()
            try:
                self.closers.wait(self)
            except (Leaving, scheduler.DeadlineOver):
                return

    def end(self, code: int, reason: str, await_end: bool = False) -> None:
        """Ends the connection below. ``code`` and ``reason`` become ``closecode`` and
        ``closereason`` if the peer gave none. ``await_end`` as in ``Stream.close``.
        """
        self.state = CLOSED
        if self.closecode is None:
            self.closecode, self.closereason = code, reason
        self._stop_timers()
        self.stream.close(await_end)
        if self.closers is not None:
            self.closers.wake_all()

    def end_message(self, whole: bool, code: int = INTERNAL) -> None:
        """Ends this task's turn after a message piece by piece; closes with ``code`` if
        the message isn't ``whole``.
        """
        self.writing = None
        if not whole:
            self.cause = self.cause or "a message was left incomplete by an exception"
            self.close(code)
        self.next_turn()

    def forget(self) -> None:
        """Sends goodbye and ends the connection: nothing holds the socket any more."""
        if self.state is not CLOSED:
            forgotten(self.stream)

    # ---- for the HTTP server (Hijacker) ----------------------------------------------

    def handler_ended(self, ended: str) -> None:
        """Closes what the handler left open when it returned, raised or was cancelled.
        """
        if scheduler.starts:
            self.close(_CODES[ended])
        else:
            # The handler's task was ended with the process. Our close frame was sent
            # before, unless the handlers have ended sooner than it was due. The peer
            # has had its time to answer.
            self.stream.say_goodbye()
            self.end(ABNORMAL, "")

    def account(self) -> Account:
        """What the access log says about it, once it has ended."""
        return Account(
            ABNORMAL if self.closecode is None else self.closecode,
            self.cause,
            self.arrived + self.set_aside,
            self.sent + self.stream.queued,
            self.stream.received - self._bytes_in,
            self.stream.written() - self._bytes_out,
        )

    def go_away(self, code: int) -> None:
        """Sends our close frame, since the server drains. What the peer sends before
        its own can still be read."""
        if self.state is OPEN:
            self.cause = self.cause or f"closed here: {code}"
            self.send_close(close_payload(code))
