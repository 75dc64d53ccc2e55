"""The byte stream that tcp and tls share: one receive buffer, gathered writes, back-pressure both ways.

A ``Stream`` is the inner half of a connection, which the loop holds; the public connection object holds the stream, and
its finalizer closes it. There is one ``bytearray``, ``buf``: the loop's callback appends what arrives, drivers parse in
place and delete what they consumed. Data is pulled: with ``mark`` bytes unread and nobody waiting, reading pauses, and
TCP's own flow control holds the peer. An ``owner`` is told of what arrives while nobody waits.

Reading: ``fill(need, deadline)`` waits until ``buf`` holds ``need`` bytes. Writing is in ``_output``.

Errors: ``err`` is what a read gives once the buffer can't satisfy it, ``werr`` what a write gives. An end of the peer's
data (EOF) sets only ``err``. A local ``close`` sets both, wakes whoever waits, and still delivers what was written: bytes
unsent linger within the limit ``linger``, and where the peer's data is unread, its end is awaited too, since to close with
unread data would send a reset that can destroy what was written.

The read and write timers are lazy: one timer for each stream that looks at the deadline when it fires, so a read with a
time-out costs no heap entry.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from time import monotonic

from .. import errno
from .._core import scheduler
from .._core.loop import READ, WRITE
from .._core.scheduler import READY
from .._core.timers import Timer
from .._wire.accelerated import Payload
from .._wire.limits import DEFAULT, Limits
from ._accelerated import receive
from ._output import Output

RECV = 16 * 1024
RECV_LARGE = 1024 * 1024
"""Bytes asked of the kernel at once; the larger while a reader needs more than the smaller."""
RECV_DROPPED = 128 * 1024
"""Bytes asked of the kernel at once where they are dropped."""
DISCARD_AFTER_CLOSE = 1024 * 1024 * 1024
"""Bytes of a peer that goes on sending after a close before it is cut off: more than most send within the limit ``linger``.
Whoever uploads reads the answer only after that, and a reset would destroy it."""

_RESET = struct.pack("ii", 1, 0)
"""A ``struct linger`` that makes the system drop what it has, and say so."""

_loop = scheduler.loop
_ready = _loop.ready


class Stream(Output):
    """See the module's header. This class does plain sockets; ``tls`` overrides how bytes get in and out."""

    __slots__ = (
        "_deadline",
        "_discarded",
        "_events",
        "_paused",
        "_payload",
        "_reader",
        "_recv_size",
        "_released",
        "_shut",
        "_timer",
        "buf",
        "err",
        "goodbye",
        "mark",
        "need",
        "peer_alive",
        "remoteaddr",
        "watched",
    )

    def __init__(self, sock: socket.socket, remoteaddr: str, limits: Limits = DEFAULT) -> None:
        super().__init__(sock, limits)
        self.remoteaddr = remoteaddr
        self.buf = bytearray()
        self.need = 0
        self.mark = limits.receive_mark
        self.err: str | None = None
        self.peer_alive = True
        """Whether anything has come from the peer since somebody cleared this."""
        self.goodbye: bytes | None = None
        """What the peer is told when the process ends; the protocol above sets it. None once it was said."""
        self._reader: scheduler.Task | None = None
        self._payload: Payload | None = None
        """What the reader wants the data put into, in place of ``buf``."""
        self._recv_size = RECV
        self._paused = False
        self._deadline: float | None = None
        self._timer: Timer | None = None
        self._shut = False
        self._discarded = 0
        self._released: Callable[[], object] | None = None
        self._events = READ
        self.watched: int | None = None
        """For the loop: see ``Watched`` there."""
        _loop.register(self.fd, READ, self.on_event)
        _loop.handlers.add(self)

    # ---- what the loop calls ---------------------------------------------------------

    def on_event(self, mask: int) -> None:
        """The descriptor is ready."""
        if mask == READ and self._payload is None and self.sock is not None:
            # What happens for nearly every message, without a call.
            buf = self.buf
            try:
                got = receive(self.fd, buf, self._recv_size)
            except OSError as exc:
                self.fail(errno.from_oserror(exc))
                return
            if got < 0:
                return
            self.peer_alive = True
            reader = self._reader
            if reader is not None and got and len(buf) >= self.need:
                self._reader = None
                reader._value = None
                reader._status = READY
                _ready.append(reader)
            elif got:
                self._arrived(got)
            else:
                self._ended()
        elif self.sock is not None:
            if mask & READ and self._events & READ:
                if self._payload is not None:
                    self._receive_into(self._payload)
                else:
                    self.on_event(READ)
            if mask & WRITE and self._events & WRITE:
                self._transmit()

    def _receive_into(self, payload: Payload) -> None:
        """Data has arrived while a reader waits for a large payload."""
        assert self.sock is not None
        with payload.room() as room:
            try:
                got = self.sock.recv_into(room)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self.fail(errno.from_oserror(exc))
                return
        self.peer_alive = True
        if not got:
            self._ended()
            return
        payload.received(got)
        if not payload.left:
            self._payload = None
            self._wake_reader(None)

    def _arrived(self, got: int) -> None:
        """``buf`` has grown by ``got`` bytes: wakes the reader if that is enough, or pauses reading."""
        if self.closed:
            self.buf.clear()
            self._discard(got)
            return
        size = len(self.buf)
        reader = self._reader
        if reader is not None:
            if size >= self.need:
                self._reader = None
                scheduler.wake(reader, None)
            return
        if size >= self.mark:
            self._paused = True
            self._interest()
        if self.owner is not None:
            self.owner.data_unread()

    def _ended(self) -> None:
        """The peer's data has ended."""
        self._eof = True
        if self.closed:
            if not self._out:
                self._release()
                return
        elif self.err is None:
            self.err = self.werr or errno.EOF  # a write that failed has met the reset
        self._interest()
        self._wake_reader(self.err)

    def fail(self, err: str) -> None:
        """The connection is broken: frees the descriptor, and everybody who waits gets ``err``."""
        self._explain(err)
        if self.err is None or self.err == errno.EOF:
            self.err = self.werr or err
        if self.werr is None:
            self.werr = err
        self._release()
        self._wake_all()
        self._tell_owner()

    def wakes(self) -> bool:
        """For the loop: whether an event here can set a task going, or output is still to be sent."""
        return self._reader is not None or self.unsent > 0 or self.file_sender is not None

    def shutdown(self) -> None:
        """For the loop: the process is ending."""
        goodbye, self.goodbye = self.goodbye, None
        if goodbye is not None and self.werr is None:
            self.write_nowait(goodbye)
            if self.owner is not None:
                self.owner.said_goodbye()

    def _interest(self) -> None:
        """Makes the registration match the state; without interest there is none."""
        events = 0
        if not self._paused and not self._eof:
            events = READ
        if self._blocked:
            events |= WRITE
            if self.watched is None:
                _loop.watch(self)
        before = self._events
        if events == before:
            return
        self._events = events
        fd = self.fd
        if not events:
            _loop.unregister(fd)
        elif not before:
            _loop.register(fd, events, self.on_event)
        else:
            _loop.modify(fd, events, self.on_event)

    # ---- reading ---------------------------------------------------------------------

    def fill(self, need: int, deadline: float | None = None) -> str | None:
        """Waits until ``buf`` holds ``need`` bytes; then None, else the error, with whatever had arrived left in ``buf``.

        ``deadline`` is a time of ``time.monotonic()``. Raises RuntimeError when another task already reads.
        """
        if self._reader is not None:
            raise RuntimeError(f"BUG: {self}: another task is already reading from it")
        buf = self.buf
        missing = need - len(buf)
        if missing <= 0:
            return None
        if self.err is not None:
            return self.err
        if scheduler.exiting:
            scheduler.pause()
            return errno.CLOSED
        if self._paused:
            self._paused = False
            self._interest()
        self._recv_size = RECV_LARGE if missing > RECV else RECV
        self.need = need
        self._deadline = deadline
        if deadline is not None and (self._timer is None or self._timer.when > deadline):
            self._arm(deadline)
        task = self._reader = _loop.current  # park raises where there is none
        if self.watched is None:
            _loop.watch(self)
        try:
            err: str | None = scheduler.park(self)
        except BaseException as exc:
            # Woken and not run yet it is no longer the reader; another may be.
            if self._reader is task:
                self._reader = None
            if isinstance(exc, scheduler.DeadlineOver):
                return errno.TIMEDOUT
            raise
        if self.closed:
            return errno.CLOSED  # maybe after the data had come: ``close`` dropped it
        return err

    def fill_into(self, payload: Payload, deadline: float | None = None) -> str | None:
        """Waits until more of ``payload`` has come, most of which needn't pass ``buf``, which must be empty; else like
        ``fill``."""
        need = min(payload.left, self.mark)
        if self.plain:
            self._payload = payload
            need = 1
        try:
            return self.fill(need, deadline)
        finally:
            self._payload = None

    def take(self, size: int) -> bytes:
        """Removes and returns the first ``size`` bytes, which must be there."""
        buf = self.buf
        if size == len(buf):
            data = bytes(buf)
            buf.clear()
        else:
            with memoryview(buf) as view:
                data = bytes(view[:size])
            del buf[:size]
        return data

    def set_mark(self, size: int) -> None:
        """Sets the number of unread bytes at which reading pauses."""
        self.mark = size
        paused = len(self.buf) >= size and self._reader is None
        if paused != self._paused and not self.closed and self.sock is not None:
            self._paused = paused
            self._interest()

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        self._timer = _loop.timers.add(deadline, self._on_deadline, internal=True)

    def disarm(self) -> None:
        """Nobody will read with a deadline for long: its timer isn't left to run out."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None

    def _on_deadline(self, _: None) -> None:
        self._timer = None
        if self._reader is None or self._deadline is None:
            return
        if monotonic() < self._deadline:
            self._arm(self._deadline)
        else:
            self._wake_reader(errno.TIMEDOUT)

    def interrupt(self) -> None:
        """Ends the wait of the reader, if there is one, with ``errno.CLOSED``; the stream stays as it is."""
        self._wake_reader(errno.CLOSED)

    def _wake_reader(self, value: str | None) -> None:
        reader = self._reader
        if reader is not None:
            self._reader = None
            self._payload = None  # what comes before it runs may be for another reader
            scheduler.wake(reader, value)

    @property
    def paused(self) -> bool:
        """Whether reading pauses, since nobody took what had arrived."""
        return self._paused

    def _wake_all(self) -> None:
        self._wake_reader(self.err)
        self._wake_writers(self.werr)

    # ---- closing ---------------------------------------------------------------------

    def close(self, await_end: bool = False) -> str | None:
        """Closes, in the background, once what was written is delivered; ``errno.CLOSED`` when it was closed before.

        ``await_end``: the peer is known to be sending still. Then only our direction ends at first, and what comes is dropped
        until the peer has ended too: to what arrives at a closed socket the system answers with a reset, and that may
        destroy what was written before the peer has read it (RFC 9112, section 9.6).
        """
        if self.closed:
            return errno.CLOSED
        self.closed = True
        self.err = self.werr = errno.CLOSED
        self._payload = None
        self._wake_all()
        self._tell_owner()
        if self.sock is None:
            return None  # broken before: the descriptor is gone already
        _loop.work += 1
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        self._timer = _loop.timers.add(monotonic() + self.limits.linger / 1000, self._linger_over, internal=True)
        if self.buf or self._paused or await_end:
            self._discarded = 1
        self._paused = False
        self._recv_size = RECV_DROPPED
        self.buf = bytearray()
        if not self._blocked:
            self._transmit()
        if self.sock is not None:
            self._interest()
        return None

    def _delivered(self) -> None:
        """Closed, and everything written is in the kernel's hands: ends, or waits for the end of the peer's data."""
        sock = self.sock
        assert sock is not None
        if not self._eof:
            try:
                data = sock.recv(RECV)
            except (BlockingIOError, InterruptedError):
                if self._discarded and self._shut_down(sock):
                    return
            except OSError:
                pass  # reset: nothing is left to wait for
            else:
                if data:
                    self._discard(len(data))
                    if self.sock is None or self._shut_down(sock):
                        return
        self._release()

    def _shut_down(self, sock: socket.socket) -> bool:
        """Ends our data, once; False when the connection is reset, which data still in the kernel can hide from ``recv``."""
        if not self._shut:
            self._shut = True
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                return False
        return True

    def _discard(self, size: int) -> None:
        """So much data has arrived after ``close``."""
        self._discarded += size
        if self._discarded > DISCARD_AFTER_CLOSE:
            self.abort()

    def _linger_over(self, _: None) -> None:
        self._timer = None
        self.abort()

    def abort(self) -> None:
        """Closes at once; unsent data is dropped."""
        if not self.closed:
            self.closed = True
            if self.sock is not None:
                _loop.work += 1
        self.fail(errno.CLOSED)

    def reset(self) -> None:
        """``abort`` that the peer sees as an error: the end of the connection could be taken for that of the data."""
        if self.sock is not None:
            _end_by_reset(self.sock)
        self.abort()

    def _release(self) -> None:
        """Frees the descriptor and the timers."""
        sock = self.sock
        if sock is None:
            return
        self.sock = None
        if self._events:
            self._events = 0
            _loop.unregister(self.fd)
        self.fd = -1  # its number may soon be another's
        _loop.handlers.discard(self)
        if self.watched is not None:
            _loop.unwatch(self)
        if self.closed:
            _loop.work -= 1
        for timer in (self._timer, self._wtimer):
            if timer is not None:
                _loop.timers.cancel(timer)
        self._timer = self._wtimer = None
        if self.unsent and self.plain:
            _end_by_reset(sock)  # what was written is not all there, and must not look so; of TLS the peer sees that anyway
        self._out.clear()
        self.unsent = 0
        self._blocked = False
        sock.close()
        released, self._released = self._released, None
        if released is not None:
            released()

    def when_released(self, call: Callable[[], object]) -> None:
        """Calls ``call()`` once the descriptor is free, which may be some time after ``close``; at once if it is."""
        if self.sock is None:
            call()
        else:
            self._released = call

    def __repr__(self) -> str:
        return f"the connection with {self.remoteaddr}"


def _end_by_reset(sock: socket.socket) -> None:
    """Makes the ``close`` of ``sock`` send a reset in place of an ordered end."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # some systems refuse it for a connection that the peer has reset
