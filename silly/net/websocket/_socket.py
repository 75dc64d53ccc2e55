"""The WebSocket itself, once the handshake is done: messages and control frames both ways, and the closing handshake."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any

from ... import errno, logger
from ..._core import scheduler
from ..._core.result import OK, Result, failure
from ..._wire.accelerated import message_frame, take_messages
from ..._wire.deflate import Deflate, Deflater, Inflater, Parameters
from ..._wire.error import ProtocolError
from ..._wire.limits import Limits
from ..._wire.mask import MaskKeys
from ..._wire.messages import FRAGMENT, Taken
from ..._wire.ws import (
    ABNORMAL,
    BINARY,
    BINARY_END,
    CLOSE,
    CONTINUATION,
    DROP,
    FIN,
    GOING_AWAY,
    INTERNAL,
    NORMAL,
    PIECES,
    PING,
    POLICY,
    PONG,
    RSV1,
    TEXT,
    TEXT_END,
    MessageReader,
    close_payload,
    frame,
    frame_head,
    masked_frame,
    parse_close,
    too_big,
)
from .._stream import Stream
from ..http.h1 import ServerStream
from ..tcp import BURST, Conn, Data, deadline_after, forgotten, to_bytes
from ._keepalive import Keepalive
from ._pieces import MessageWriter, Pieces
from ._unread import Unread

if TYPE_CHECKING:
    from ._connect import ClientStream

SHOWN_PINGS = 16
"""Pings shown to the application whose pong by hand is taken as done."""
TOGETHER = 4
"""Frames of a large message that are sent by one call: control frames wait for no more than that."""

_OPCODES = {"text": TEXT, "binary": BINARY, "ping": PING, "pong": PONG, "close": CLOSE}
_TYPES = {opcode: name for name, opcode in _OPCODES.items()}
_NORMAL_CLOSE = close_payload(NORMAL)
_GOODBYE = close_payload(GOING_AWAY)
_SERVER_GOODBYE = frame(FIN | CLOSE, _GOODBYE)
_CLOSED = "closed"
_NONE_TAKEN: list[Taken] = []
"""For all that have taken no more than was read; never changed."""
_keys = MaskKeys()
_loop = scheduler.loop
_main = scheduler.main


class Socket:
    """A WebSocket connection. ``conn`` is the connection below, ``stream`` the HTTP request and response it came from.

    ``subprotocol`` is the one agreed on, ``compression`` the parameters of compression, or None. ``closecode`` and
    ``closereason`` are those of the peer's close frame (1005 when it had no code), of the one we sent for a fault of the peer,
    or 1006 when the connection ended without; None while it is open. ``cause`` says in words why it ended, as seen here:
    ``"no pong for 20 s"``. A context manager that closes.
    """

    __slots__ = (
        "__weakref__",
        "_burst",
        "_close_due",
        "_closed",
        "_closers",
        "_controls",
        "_deflater",
        "_err",
        "_fault",
        "_final",
        "_held_pong",
        "_keepalive",
        "_limits",
        "_messages",
        "_peer_closed",
        "_pieces",
        "_pings",
        "_queued",
        "_server",
        "_stream",
        "_taken",
        "_threshold",
        "_turns",
        "_unread",
        "_writing",
        "cause",
        "closecode",
        "closereason",
        "compression",
        "conn",
        "partial",
        "stream",
        "subprotocol",
    )

    def __init__(
        self,
        conn: Conn,
        stream: ServerStream | ClientStream,
        server: bool,
        limits: Limits,
        subprotocol: str | None = None,
        compression: Parameters | None = None,
        options: Deflate | None = None,
    ) -> None:
        self.conn = conn
        self.stream = stream
        self.subprotocol = subprotocol
        self.compression = compression
        self.closecode: int | None = None
        self.closereason = ""
        self.cause: str | None = None
        self.partial: str | bytes = b""
        """After a read that failed: what had arrived of an unfinished message."""
        self._stream: Stream = conn._stream
        self._server = server
        self._limits = limits
        self._deflater: Deflater | None = None
        self._threshold = 0
        inflater: Inflater | None = None
        if compression is not None and options is not None:
            ours = compression.server_no_context_takeover, compression.server_max_window_bits
            theirs = compression.client_no_context_takeover, compression.client_max_window_bits
            if not server:
                ours, theirs = theirs, ours
            self._deflater = Deflater(*ours, options)
            self._threshold = options.threshold
            inflater = Inflater(*theirs)
        self._messages = MessageReader(server, limits, inflater)
        self._taken = _NONE_TAKEN
        """What was taken off the buffer and is still to be read, the next one last: together
        with a message that was read, or while nobody read."""
        self._queued = False
        """Whether that may be more than a batch, so that reading it must let others run."""
        self._err: str | None = None
        """What a reader gets once it has read what was taken."""
        self._fault: ProtocolError | None = None
        """What the peer did wrong behind messages that are still to be read: it is told
        when they have been."""
        self._final: str | None = None
        """What everybody gets once the connection was given up, a reader after what had arrived."""
        self._burst = 0
        self._pieces: Pieces | None = None
        self._peer_closed = False
        self._closed = False
        self._close_due: float | None = None
        """When the peer's answer to our close frame is due."""
        self._closers: list[scheduler.Task] | None = None
        self._pings: deque[bytes] | None = None
        self._held_pong: bytes | None = None
        self._controls = 0
        self._unread: Unread | None = None
        """Takes what nobody reads; None until there was something."""
        self._writing: scheduler.Task | None = None
        """The task that is sending a message in several steps, or was woken to do so: the turn is handed over, else who writes
        one message after the other would keep it."""
        self._turns: deque[scheduler.Task] | None = None
        # The stream sends it when the process ends. It is also the flag: None once a close frame has been sent.
        self._stream.goodbye = _SERVER_GOODBYE if server else self._frame(FIN | CLOSE, _GOODBYE)
        me = weakref.ref(self)
        self._stream.owner = me
        self._keepalive = Keepalive(me, self._stream, limits)

    @property
    def latency(self) -> float | None:
        """The round-trip time of the last keepalive ping in ms; None before the first pong."""
        return self._keepalive.latency

    # ---- reading ------------------------------------------------------------------------------------------------

    def read(self, timeout: float | None = None) -> tuple[Any, str]:
        """The next message or control frame: ``(data, typ)``.

        ``typ`` is ``"text"`` (data ``str``), ``"binary"``, ``"ping"``, ``"pong"`` or ``"close"`` (data ``bytes``). On failure
        ``(None, err)``: the peer broke the protocol, the connection ended, or ``timeout`` ms passed (then nothing is lost,
        and the next read goes on). After ``"close"`` it is ``(None, "closed")``. A second task that reads at the same time
        gets RuntimeError.
        """
        taken = self._taken
        if taken:
            if timeout is None and not self._queued:
                return taken.pop()
            return self._read_queued(timeout)
        err = self._err
        if err is not None:
            return None, self._over()
        stream = self._stream
        deadline = None if timeout is None else deadline_after(timeout)
        if stream._reader is not None:
            raise RuntimeError(f"BUG: {self}: another task is already reading from it")
        if stream.buf:
            self._burst += 1
            if self._burst >= BURST:
                self._burst = 0
                scheduler.pause()
                if self._err is not None and not self._taken:
                    return None, self._over()
        messages = self._messages
        payload = messages.payload
        while True:
            taken = self._taken
            if taken:
                return taken.pop()  # it was taken while this task waited
            need = 1
            buf = stream.buf
            if buf or payload is not None:
                rest: list[Taken] = []  # not one for all: an interrupt right after the call would leave others' messages there
                message = take_messages(buf, rest, self._server, messages.fast_limit)
                if message is not None:
                    if rest:
                        taken = self._taken = rest
                    self._controls = 0
                    if buf:
                        self._burst = min(self._burst + len(taken), BURST - 1)
                        self.unattended()
                    return message
                try:
                    got = messages.next(buf)
                except ProtocolError as exc:
                    return None, self._broken(exc)
                if not isinstance(got, int):
                    opcode, data = got
                    if CONTINUATION < opcode <= BINARY:
                        self._controls = 0
                        if buf:
                            self.unattended()
                        return data, "text" if opcode == TEXT else "binary"
                    shown = self._control(opcode, data)
                    if shown is not None:
                        self.unattended()
                        return shown
                    payload = None
                    continue
                need = got
                payload = messages.payload
            self._burst = 0
            if stream.goodbye is None:
                deadline = self._sooner(deadline)
            err = stream.fill(need, deadline) if payload is None else stream.fill_into(payload, deadline)
            if err is not None and not self._taken:
                return None, self._read_failed(err, "sock.read")
            if self._err is not None and not self._taken:
                return None, self._over()  # another task closed the socket after the data had come, and reads now itself

    def _read_queued(self, timeout: float | None) -> tuple[Any, str]:
        """``read`` when something has been taken: no waiting, but pauses."""
        if timeout is not None:
            deadline_after(timeout)  # raises for a bad one
        if self._queued:
            self._burst += 1
            if self._burst >= BURST:
                self._burst = 0
                scheduler.pause()
        taken = self._taken
        if not taken:
            return self.read(timeout)  # another task has read meanwhile
        shown = taken.pop()
        if not taken:
            self._queued = False
        return shown

    def _over(self) -> str:
        """Everything has been read: what the reader is told."""
        if self._fault is not None:
            return self._broken(self._fault)
        return self._told()

    def pieces(self, timeout: float | None = None, limit: int | None = None) -> Pieces:
        """Reads the next message piece by piece, as it arrives, so that it may be larger than memory.

        ``timeout`` ms bounds the wait for each piece; ``limit`` is the most bytes that the message may have, decompressed
        (the limits ``message`` and ``fragments`` don't count here). Pings and pongs on the way are not shown. What is left of
        a message is dropped by the next ``read`` or ``pieces``.

            pieces = sock.pieces()
            for piece in pieces:
                file.write(piece)
            if pieces.err is not None:
                print("the message is incomplete:", pieces.err)
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ValueError(f"limit is a number of bytes, not {limit!r}")
        if timeout is not None:
            deadline_after(timeout)
        return Pieces(self, timeout, math.inf if limit is None else limit)

    def _leave(self) -> None:
        """Whatever message is being read in pieces, its rest is dropped."""
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            pieces.end("the rest of the message was dropped, since another was asked for")
            self._messages.read_whole()

    def _next_piece(self, pieces: Pieces, timeout: float | None, limit: float) -> Any:
        """For ``Pieces``: the next one; empty at the message's end, and on failure."""
        if self._closed and self._err is not None:
            pieces.end(self._err)
            return None
        if self._stream._reader is not None:
            raise RuntimeError(f"BUG: {self}: another task is already reading from it")
        if self._pieces is not pieces:
            self._leave()
        try:
            piece, final = self._wait_piece(pieces, limit, None if timeout is None else deadline_after(timeout))
        finally:
            if self._pieces is pieces and (self._messages.mode == DROP or not self._messages.opcode):
                self._messages.read_whole()
                self._pieces = None
        if final:
            pieces.end(pieces.err)
        return piece

    def _wait_piece(self, pieces: Pieces, limit: float, deadline: float | None) -> tuple[Any, bool]:
        """A piece, and whether it is the last; None on failure, with ``pieces.err`` set."""
        stream, messages = self._stream, self._messages
        while True:
            if self._taken or stream.buf or messages.payload is not None:
                self._burst += 1
                if self._burst >= BURST:
                    self._burst = 0
                    scheduler.pause()
            if self._taken and (whole := self._whole_piece(pieces, limit)) is not None:
                return whole
            try:
                if self._pieces is not pieces and not stream.closed and not self._closed:
                    self._pieces = pieces
                    messages.read_pieces(limit)
                    if messages.held and messages.mode == PIECES and (begun := messages.take_piece()):
                        pieces.typ = _TYPES[messages.opcode]
                        return begun, False  # it was gathered while nobody read
                err = self._err
                if err is not None:
                    pieces.typ = self._taken.pop()[1] if self._taken else pieces.typ
                    pieces.err = self._over()
                    return None, True
                need = 1
                if stream.buf or messages.payload is not None:
                    messages.read_pieces(limit)  # each time: a message that is dropped may come before
                    got = messages.next(stream.buf)
                    if not isinstance(got, int):
                        opcode, data = got
                        if opcode in (TEXT_END, BINARY_END):
                            self._controls = 0
                            pieces.typ = "text" if opcode == TEXT_END else "binary"
                            return data, True
                        if opcode:
                            shown = self._control(opcode, data)
                            if self._err is not None:
                                pieces.typ = "close" if shown is not None and shown[1] == "close" else pieces.typ
                                pieces.err = self._err
                                return None, True
                            continue
                        self._controls = 0
                        if messages.mode == DROP or not messages.opcode:
                            continue  # some of a message that is dropped
                        pieces.typ = _TYPES[messages.opcode]
                        data = messages.take_piece()
                        if data:
                            self.unattended()
                            return data, False
                        continue
                    need = got
            except ProtocolError as exc:
                pieces.err = self._broken(exc)
                return None, True
            err = stream.fill(need, deadline if stream.goodbye is not None else self._sooner(deadline))
            if err is not None and not self._taken:
                pieces.err = self._read_failed(err, "sock.pieces")
                return None, self._err is not None

    def _whole_piece(self, pieces: Pieces, limit: float) -> tuple[Any, bool] | None:
        """The next message, as one piece, if it was taken already; control frames before it
        are not shown. None when there is none, or a close frame is next."""
        taken = self._taken
        while taken and taken[-1][1] != "close":
            data, typ = taken.pop()
            if typ in ("text", "binary"):
                if limit != math.inf and len(to_bytes(data)) > limit:
                    pieces.err = self._broken(too_big("limit", limit))
                    return None, True
                pieces.typ = typ
                return data, True
        return None

    def _sooner(self, deadline: float | None) -> float | None:
        """The deadline of a read once a close frame was sent: the peer's answer is due."""
        due = self._close_due
        return deadline if due is None else due if deadline is None else min(due, deadline)

    def _read_failed(self, err: str, what: str) -> str:
        """``fill`` gave up: what the reader is told."""
        if self._err is not None:
            return self._err  # another task closed the socket meanwhile
        if err is errno.TIMEDOUT and self._close_due is not None and monotonic() >= self._close_due:
            self._closing_over()
            return self._told()
        self.partial = self._messages.partial(self._stream.buf)
        if err is errno.TIMEDOUT and self._stream.err is None:
            return scheduler.ran_out(what) if scheduler.expired() else err
        return self._gone(err)

    def _gone(self, err: str) -> str:
        """The stream below has failed with ``err``, and all that came before is read: what the reader is told."""
        self._err = self._lost(err)
        self._end(ABNORMAL, "")
        return self._err

    def _told(self) -> str:
        """What everybody is told once the socket is closed, or was given up."""
        return self._err or self._final or _CLOSED

    def _lost(self, err: str) -> str:
        """The stream below has failed with ``err``: what every task that was blocked on it is told."""
        if self._err is not None or self._final is not None:
            return self._told()
        if err is errno.CLOSED:
            self.cause = self.cause or "the connection below was closed here"
            return _CLOSED
        if self.cause is None:
            self.cause = self._stream.why or err
        return f"the connection with {self.conn.remoteaddr} ended without a closing handshake: {self.cause}"

    # ---- control frames -----------------------------------------------------------------------------------------

    def _control(self, opcode: int, data: bytes, queued: int = 0) -> tuple[Any, str] | None:
        """A control frame is taken off the buffer: what ``read`` returns, or None for what isn't shown. ``queued``: of so many
        others that was not returned yet."""
        if opcode in (CONTINUATION, TEXT_END, BINARY_END):
            self._leave()  # a message that was read in pieces, and is no more
            return None
        fault = self._act(opcode, data)
        if fault is not None:
            return None, self._broken(fault)
        if opcode == CLOSE:
            self._err = _CLOSED
            return data, "close"
        if opcode == PING:
            if self._pings is None:
                self._pings = deque()
            while len(self._pings) >= SHOWN_PINGS + queued:
                self._pings.popleft()
            self._pings.append(data)
            return data, "ping"
        return None if self._keepalive.is_ours(data) else (data, "pong")

    def _act(self, opcode: int, data: bytes) -> ProtocolError | None:
        """Does what a control frame asks for. A fault of the peer, or None."""
        if opcode == CLOSE:
            self.closecode, self.closereason = parse_close(data)
            self._peer_closed = True
            reason = f" {self.closereason!r}" if self.closereason else ""
            self.cause = self.cause or f"closed by the peer: {self.closecode}{reason}"
            # The answer echoes the code (section 5.5.1).
            self._send_close(data[:2])
            return None
        self._controls += 1
        if not self._stream.blocked:
            self._controls = 0
        else:
            self._stream.wants_room = True
        if self._controls > self._limits.control_frames:
            limit = self._limits.control_frames
            text = f"more control frames than the limit 'control_frames' of {limit} by a peer that doesn't read"
            return ProtocolError(text, POLICY)
        if opcode == PING:
            self._answer(data)
        elif self._keepalive.is_ours(data):
            self._keepalive.answered(data)
        return None

    def _answer(self, data: bytes) -> None:
        """Sends the pong of a ping. While the kernel refuses output only the newest is kept (section 5.5.3)."""
        if self._stream.goodbye is None:
            return
        if self._stream.blocked:
            self._held_pong = data
        else:
            self._stream.write_nowait(self._frame(FIN | PONG, data))

    def room(self) -> None:
        """For the stream: the peer has taken most of what was unsent."""
        self._controls = 0
        held, self._held_pong = self._held_pong, None
        if held is not None and self._stream.goodbye is not None:
            self._stream.write_nowait(self._frame(FIN | PONG, held))

    def _broken(self, exc: ProtocolError) -> str:
        """The peer broke the protocol: tells it why, and ends the connection (section 7.1.7)."""
        self.partial = self._messages.partial(self._stream.buf)
        self.cause = exc.text
        self._fault = None
        self._err = self._blamed(exc)
        logger.info(f"websocket: {self.conn.remoteaddr}: {exc.text}: close {exc.code}")
        self._send_close(close_payload(exc.code, exc.text))
        self._end(exc.code, exc.text, await_end=True)
        return self._err

    def _blamed(self, exc: ProtocolError) -> str:
        return f"the peer {self.conn.remoteaddr} broke the protocol: {exc.text}"

    # ---- while nobody reads -------------------------------------------------------------------------------------

    def unattended(self) -> None:
        """For the stream too: there may be data that nobody waits for."""
        unread = self._unread
        if unread is None:
            if not self._stream.buf:
                return
            unread = self._unread = Unread()
        if unread.timer is None and self._err is None and self._stream.buf:
            unread.wait(weakref.ref(self))

    def broken(self) -> None:
        """For the stream: it has failed, or is closed. Who waits for a turn to write wakes: another may be idle in its turn."""
        turns, self._turns = self._turns, None
        for task in turns or ():
            scheduler.wake(task)
        if self._stream.closed:
            # By ``sock.conn`` maybe: what was taken is dropped as what is in the buffer.
            self._taken = _NONE_TAKEN
            if self._fault is not None:
                self._fault = self._err = None
            if self._unread is not None:
                self._unread.stop()

    def _take_unread(self) -> None:
        """Takes what still nobody reads off the buffer, and acts upon the control frames in it."""
        stream = self._stream
        if stream._reader is not None or stream.closed or self._err is not None:
            return
        if self._unread is None:
            self._unread = Unread()
        self._unread.stop()
        self._unread.take(self)
        self._queued = len(self._taken) > BURST

    def _shown(self, opcode: int, data: Any, queued: int) -> Taken | None:
        """What a reader will see of what was taken while nobody reads, after ``queued`` others; None for nothing."""
        if CONTINUATION < opcode <= BINARY:
            return data, "text" if opcode == TEXT else "binary"
        shown = self._control(opcode, data, queued)
        return None if shown is None or shown[0] is None else shown

    def _fault_unread(self, exc: ProtocolError, taken: list[Taken]) -> None:
        """The peer broke the protocol behind what was ``taken`` while nobody reads. It is told now, unless there is data
        before that: a reader gets that first."""
        if self._messages.held or any(typ in ("text", "binary") for _, typ in chain(taken, self._taken)):
            self._fault = exc
            self._err = self._blamed(exc)
        else:
            self._broken(exc)

    def _to_read(self) -> bool:
        """Whether a reader has something to read before the end."""
        if self._taken or self._fault is not None:
            return True
        return self._err is None and bool(self._stream.buf or self._messages.held)

    def _send_ping(self, payload: bytes) -> None:
        """For ``Keepalive``."""
        self._stream.write_nowait(self._frame(FIN | PING, payload))

    def _no_pong(self) -> None:
        """For ``Keepalive``: the peer is gone."""
        limit = self._limits.pong_timeout
        text = f"no pong for {limit / 1000:g} s (the limit 'pong_timeout')"
        logger.info(f"websocket: {self.conn.remoteaddr}: {text}: close {INTERNAL}")
        self._send_close(close_payload(INTERNAL, text))
        self.closecode, self.closereason = INTERNAL, text
        self._give_up(text, f"the connection with {self.conn.remoteaddr} was given up: {text}")

    def _closing_over(self) -> None:
        """The time for the peer's part of the closing handshake is over, or for ours to end the connection after it."""
        self._take_unread()
        if self._closed:
            return  # ``close`` waits itself
        limit = self._limits.close_timeout
        if self._stream.err is not None and not self._peer_closed:
            if self._to_read():
                err = self._lost(self._stream.err)
                self._give_up(self.cause, err)
            else:
                self._gone(self._stream.err)
        elif self._err is not None and not self._to_read():
            self._end(ABNORMAL, "")  # a reader has had everything
        elif self._peer_closed:
            self._give_up(self.cause, _CLOSED)
        else:
            text = f"the peer did not answer the close frame within the limit 'close_timeout' of {limit} ms"
            self._give_up(text, text)

    def _give_up(self, cause: str | None, err: str) -> None:
        """Ends the connection below. A reader still gets what had arrived, then ``err``, as everybody else does at once."""
        if self.closecode is None:
            self.closecode = ABNORMAL
        self.cause = cause
        self._final = err
        self._keepalive.stop()
        self._stream.flush()
        self._stream.fail(errno.TIMEDOUT)

    # ---- writing ------------------------------------------------------------------------------------------------

    def write(self, data: Data | None, typ: str | None = "binary", *, compress: bool | None = None) -> Result:
        """Sends a message, or a control frame: ``typ`` is ``"text"``, ``"binary"``, ``"ping"``, ``"pong"`` or ``"close"``.

        ``None`` is an empty message. Blocks while the peer takes nothing and 1 MiB waits (limit ``unsent``). ``compress``:
        whether to compress it, if compression was agreed on; by default messages from the threshold of its options on are.
        ``(False, err)`` when the socket is closed or broken, or for a control frame of more than 125 bytes. Writing ``"close"``
        starts the closing handshake. Raises ValueError for an unknown type and for text that isn't UTF-8, TypeError for what
        can't be sent.
        """
        stream = self._stream
        if self._deflater is None and self._writing is None and stream.goodbye is not None:
            # What happens for nearly every message.
            piece = message_frame(data, typ, None if self._server else _keys.next())
            if piece is not None:
                if _loop.current is not _main and stream.gather(piece):
                    return OK
                err = stream.write(piece)
                return OK if err is None else failure(self._write_failed(err, "sock.write"))
        opcode = _OPCODES.get(typ or "binary")
        if opcode is None:
            raise ValueError(f"unknown frame type {typ!r}: it is one of {', '.join(map(repr, _OPCODES))}")
        payload = data.encode() if type(data) is str else b"" if data is None else to_bytes(data)
        if opcode == TEXT and type(data) is not str and payload:
            _check_utf8(payload)
        if opcode > BINARY:
            return self._write_control(opcode, payload)
        if stream.goodbye is None:
            return failure(self._told())
        if len(payload) >= FRAGMENT or self._writing is not None or self._deflater is not None:
            return self._write_steps(opcode, payload, compress)
        first = FIN | opcode
        err = stream.write(frame(first, payload) if self._server else masked_frame(first, payload, _keys.next()))
        return OK if err is None else failure(self._write_failed(err, "sock.write"))

    def _write_failed(self, err: str, what: str) -> str:
        if err is errno.TIMEDOUT and self._stream.werr is None:
            return scheduler.ran_out(what)
        return self._lost(err)

    def _write_steps(self, opcode: int, payload: bytes, compress: bool | None) -> Result:
        """Sends a message that is large or compressed, or that must wait for one that is being sent."""
        err = self._begin_message("sock.write")
        if err is not None:
            return failure(err)
        try:
            deflater = self._deflater
            first = opcode
            if deflater is not None and (len(payload) >= self._threshold if compress is None else compress):
                payload = deflater.compress(payload)
                first |= RSV1
            err = self._send_frames(self._frames(first, payload), "sock.write")
        except BaseException:
            if self._deflater is not None:
                self._deflater.forget()
            raise
        finally:
            self._end_turn()
        return OK if err is None else failure(err)

    def _frames(self, first: int, payload: bytes) -> Iterator[list[bytes | memoryview]]:
        """A message in frames of at most 64 KiB, ``TOGETHER`` of them at a time, in pieces to send."""
        view = memoryview(payload)
        size = len(payload)
        at = 0
        while at < size or at == 0:
            pieces: list[bytes | memoryview] = []
            for _ in range(TOGETHER):
                piece = view[at : at + FRAGMENT]
                at += FRAGMENT
                pieces += self._pieces_of(first | FIN if at >= size else first, piece)
                first = CONTINUATION
                if at >= size:
                    break
            yield pieces

    def _pieces_of(self, first: int, payload: bytes | memoryview) -> list[bytes | memoryview]:
        if self._server:
            return [frame_head(first, len(payload)), payload]
        return [masked_frame(first, payload, _keys.next())]

    def _send_frames(self, frames: Iterator[list[bytes | memoryview]], what: str, begun: bool = False) -> str | None:
        """Sends the frames of a message; ``begun``: some were sent before. When this is broken off in the middle they still go
        out: half a message would end the connection for all who use it."""
        stream = self._stream
        try:
            for parts in frames:
                if stream.goodbye is None:
                    return self._told()  # another task has closed
                if begun and (err := self._refused(what)) is not None:
                    self._queue(chain((parts,), frames))
                    return err
                begun = True
                err = stream.writev(parts)
                if err is not None:
                    if stream.werr is None:
                        self._queue(frames)
                    return self._write_failed(err, what)
        except BaseException:
            self._queue(frames)
            raise
        return None

    def _queue(self, frames: Iterator[list[bytes | memoryview]]) -> None:
        for parts in frames:
            if self._stream.goodbye is not None:
                self._stream.write_nowait(b"".join(parts))

    def message(self, typ: str = "binary", *, compress: bool | None = None) -> MessageWriter:
        """Writes a message piece by piece, so that it may be larger than memory; ``typ`` is ``"text"`` or ``"binary"``.

        It is compressed when compression was agreed on, unless ``compress`` is False.

            with sock.message("binary") as message:
                while chunk := file.read(65536):
                    message.write(chunk)
        """
        opcode = _OPCODES.get(typ)
        if opcode not in (TEXT, BINARY):
            raise ValueError(f"a message is 'text' or 'binary', not {typ!r}")
        return MessageWriter(self, opcode, self._deflater is not None and compress is not False)

    def _begin_message(self, what: str) -> str | None:
        """Waits until no other task is in the middle of a message; then this one is."""
        stream = self._stream
        if self._writing is not None and stream.werr is None:
            if self._turns is None:
                self._turns = deque()
            if scheduler.leaving():
                return errno.CLOSED
            task = scheduler.current()
            if self._writing is task:
                raise RuntimeError(f"BUG: {self}: this task is in the middle of a message to it")
            self._turns.append(task)
            try:
                scheduler.park(self)
            except BaseException as exc:
                if self._turns is not None and task in self._turns:
                    self._turns.remove(task)
                elif self._writing is task:
                    self._end_turn()  # it had been woken: the turn is somebody else's
                if isinstance(exc, scheduler.DeadlineOver):
                    return scheduler.ran_out(what)
                raise
        if stream.goodbye is None or stream.werr is not None:
            if self._writing is _loop.current:
                self._end_turn()
            return self._told() if stream.werr is None else self._lost(stream.werr)
        err = self._refused(what)
        if err is not None:
            self._end_turn()
            return err
        self._writing = scheduler.current()
        return None

    def _refused(self, what: str) -> str | None:
        """The error when a deadline is over and output would have to wait; before a compressor sees what is not sent."""
        if self._stream.unsent > self._limits.unsent and scheduler.expired():
            return scheduler.ran_out(what)
        return None

    def _send_fragment(self, opcode: int, payload: bytes, begin: bool, final: bool, compress: bool) -> str | None:
        """For ``MessageWriter``: sends a fragment of the message that this task has begun."""
        if self._stream.goodbye is None:
            return self._told()
        if compress:
            assert self._deflater is not None
            payload = self._deflater.piece(payload, final)
        first = (opcode | (RSV1 if compress else 0)) if begin else CONTINUATION
        frames = iter([self._pieces_of(first | (FIN if final else 0), payload)])
        return self._send_frames(frames, "message.write", True)  # what was taken goes out, whatever a deadline says

    def _end_message(self, whole: bool) -> None:
        """For ``MessageWriter``: the message has ended, or will never."""
        self._writing = None
        if not whole:
            self.cause = self.cause or "a message was left incomplete by an exception"
            self.close(INTERNAL)
        self._next_turn()

    def _writable(self) -> bool:
        """Whether messages can still be sent."""
        return self._stream.goodbye is not None and self._stream.werr is None

    def _end_turn(self) -> None:
        self._writing = None
        self._next_turn()

    def _next_turn(self) -> None:
        if self._turns and self._writing is None:
            self._writing = self._turns.popleft()
            scheduler.wake(self._writing)

    def _write_control(self, opcode: int, payload: bytes) -> Result:
        if len(payload) > 125:
            return failure(f"a control frame takes at most 125 bytes, not {len(payload)}")
        if self._stream.goodbye is None:
            return failure(self._told())
        if opcode == CLOSE:
            try:
                parse_close(payload)
            except ProtocolError as exc:
                raise ValueError(exc.text) from None
            err = self._send_close(payload)
        elif opcode == PONG and self._pings is not None and payload in self._pings:
            # The library has answered that ping.
            self._pings.remove(payload)
            return OK
        else:
            err = self._stream.write(self._frame(FIN | opcode, payload))
        return OK if err is None else failure(self._write_failed(err, "sock.write"))

    def _frame(self, first: int, payload: bytes) -> bytes:
        return frame(first, payload) if self._server else masked_frame(first, payload, _keys.next())

    def _send_close(self, payload: bytes) -> str | None:
        """Sends a close frame, once; no other frame goes out after it."""
        if self._stream.goodbye is None:
            return None
        self._stream.goodbye = None
        self._close_due = monotonic() + self._limits.close_timeout / 1000
        self._keepalive.closing(self._close_due)
        return self._stream.write_nowait(self._frame(FIN | CLOSE, payload))

    # ---- closing ------------------------------------------------------------------------------------------------

    def close(self, code: int | None = NORMAL, reason: Data | None = "") -> Result:
        """Does the closing handshake, and ends the connection. ``(False, "closed")`` when it was closed before.

        When another task is closing it already, that one's handshake is waited for.
        Blocks until the peer has answered, for the limit ``close_timeout`` at most; what the peer sends meanwhile is dropped.
        A task that is blocked in ``read`` gets ``(None, "closed")``. Raises ValueError for a code that may not be sent.
        """
        payload = _NORMAL_CLOSE
        if code not in (None, NORMAL) or reason:
            text = to_bytes(reason or b"")
            _check_utf8(text)
            payload = close_payload(NORMAL if code is None else code, text.decode())
        scheduler.check_thread("sock.close")
        if self._closed:
            self._wait_closed()
            return failure(_CLOSED)
        self._closed = True
        fault, self._fault = self._fault, None
        if self._err is None or fault is not None:
            self._err = _CLOSED
        self._taken = _NONE_TAKEN
        if self.cause is None:
            self.cause = f"closed here: {code or NORMAL}"
        stream = self._stream
        stream.interrupt()
        self._next_turn()
        self._send_close(payload)
        try:
            deadline = monotonic() + self._limits.close_timeout / 1000
            if fault is not None:
                self._log_fault(fault)
            elif not self._peer_closed:
                self._await_close(deadline)
            if not self._server:
                # Section 7.1.1: the server closes TCP first, so that it keeps TIME_WAIT.
                self._await_end(deadline)
        finally:
            self._end(ABNORMAL, "")
        return OK

    def _wait_closed(self) -> None:
        """Waits for the end of the closing handshake that another task has under way."""
        while not self._stream.closed and not scheduler.leaving():
            if self._closers is None:
                self._closers = []
            task = scheduler.current()
            self._closers.append(task)
            try:
                scheduler.park(self)
            except scheduler.DeadlineOver:
                return
            finally:
                if self._closers is not None and task in self._closers:
                    self._closers.remove(task)

    def _await_close(self, deadline: float) -> None:
        """Reads until the peer's close frame, its end, or the deadline. What it breaks now matters to nobody."""
        stream = self._stream
        while True:
            try:
                got = self._messages.next(stream.buf)
            except ProtocolError as exc:
                self._log_fault(exc)
                return
            if isinstance(got, tuple):
                if got[0] == CLOSE:
                    self._peer_closed = True
                    self.closecode, self.closereason = parse_close(got[1])
                    return
                if got[0] == CONTINUATION:
                    self._messages.take_piece()
                self._burst += 1
                if self._burst >= BURST:
                    self._burst = 0
                    scheduler.pause()
                if monotonic() > deadline:
                    return
            elif stream.fill(got, deadline) is not None:
                return

    def _log_fault(self, exc: ProtocolError) -> None:
        logger.info(f"websocket: {self.conn.remoteaddr}: {exc.text} (while closing)")

    def _await_end(self, deadline: float) -> None:
        """Reads until the peer ends the connection, or the deadline."""
        stream = self._stream
        while stream.fill(1, deadline) is None:
            stream.buf.clear()

    def _end(self, code: int, reason: str, await_end: bool = False) -> None:
        """Ends the connection below, and says with what if the peer did not."""
        self._closed = True
        if self.closecode is None:
            self.closecode, self.closereason = code, reason
        self._keepalive.stop()
        if self._unread is not None:
            self._unread.stop()
        self._stream.close(await_end)
        closers, self._closers = self._closers, None
        for task in closers or ():
            scheduler.wake(task)

    def handler_ended(self, failed: bool) -> None:
        """For the HTTP server: the handler that upgraded has returned or raised: closes what it left open."""
        self.close(INTERNAL if failed else NORMAL)

    def server_drains(self) -> None:
        """For the HTTP server, which drains: tells the peer, in a task of its own, since closing blocks."""
        scheduler.fork(self._go_away, None, Socket._go_away.__code__, 0)

    def _go_away(self) -> None:
        self.close(GOING_AWAY)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close(INTERNAL if kind is not None and issubclass(kind, Exception) else NORMAL)

    def __del__(self) -> None:
        # Finalizers run anywhere, in another thread or within the loop's own code: so only a note is left.
        keepalive: Keepalive | None = getattr(self, "_keepalive", None)
        if keepalive is not None and not self._closed:
            _loop.post(_forgotten, self._stream, keepalive, self._unread)

    def __repr__(self) -> str:
        return f"<websocket with {self.conn.remoteaddr}, {self._err or 'open'}>"


def _forgotten(stream: Stream, keepalive: Keepalive, unread: Unread | None) -> None:
    """Nobody holds the socket any more: says goodbye, and ends what would have ended with it."""
    keepalive.stop()
    if unread is not None:
        unread.stop()
    forgotten(stream)


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as exc:
        raise ValueError(f"text must be UTF-8: {exc.reason} at byte {exc.start}") from None
