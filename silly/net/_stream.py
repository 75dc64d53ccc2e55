"""The byte stream that tcp and tls share: one receive buffer, gathered writes, back-pressure both ways.

A ``Stream`` is the inner half of a connection, which the loop holds; the public connection object holds the stream, and
its finalizer closes it. There is one ``bytearray``, ``buf``: the loop's callback appends what arrives, drivers parse in
place and delete what they consumed. Data is pulled: with ``mark`` bytes unread and nobody waiting, reading pauses, and
TCP's own flow control holds the peer. An ``owner`` is told of what arrives while nobody waits.

Reading: ``fill(need, deadline)`` waits until ``buf`` holds ``need`` bytes. Writing: ``write(data)`` queues, the loop sends
what each stream gathered in one call at the end of a drain; past the limit ``unsent`` it waits until a quarter of that is left.

Errors: ``err`` is what a read gives once the buffer can't satisfy it, ``werr`` what a write gives. An end of the peer's
data (EOF) sets only ``err``. A local ``close`` sets both, wakes whoever waits, and still delivers what was written: bytes
unsent linger within the limit ``linger``, and where the peer's data is unread, its end is awaited too, since to close with
unread data would send a reset that can destroy what was written.

``sendfile`` sends a part of a file, from the kernel's cache where it can. What is being sent from a file is not in the output's
queue: until it is done nobody else may write, and if it breaks off nobody can any more.

The read and write timers are lazy: one timer for each stream that looks at the deadline when it fires, so a read with a
time-out costs no heap entry.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import EINVAL, ENOSYS, EOPNOTSUPP
from threading import get_ident
from time import monotonic
from typing import Protocol

from .. import errno
from .._core import scheduler
from .._core.loop import READ, WRITE
from .._core.scheduler import READY
from .._core.timers import Timer
from .._wire.limits import DEFAULT, Limits

RECV = 16 * 1024
RECV_LARGE = 1024 * 1024
"""Bytes asked of the kernel at once; the larger while a reader needs more than the smaller."""
GATHER = 64 * 1024
"""Unsent bytes that are sent without waiting for the end of the drain."""
RUN = 1024 * 1024
"""Bytes that a task may send to a peer that keeps up before it lets others run."""
DISCARD = 16 * 1024 * 1024
"""Bytes of a peer that goes on sending after a close before it is cut off."""
IOV = 1024
"""Pieces for one sendmsg: what Linux takes."""
_NO_SENDFILE = frozenset((EINVAL, ENOSYS, EOPNOTSUPP))
"""What ``os.sendfile`` fails with for a file that it can't send from, as on some file systems."""

_loop = scheduler.loop
_ready = _loop.ready


class Owner(Protocol):
    """The protocol above a stream."""

    def unattended(self) -> None:
        """Data has arrived, and nobody waits for it."""

    def room(self) -> None:
        """``wants_room`` was set, and little output is left: what is written now goes out before what writers add."""

    def broken(self) -> None:
        """Nothing can be sent any more. Who was blocked in the stream has been woken."""


def _nobody() -> None:
    return None


def _shortened(missing: int) -> str:
    return f"the file ended {amount(missing)} too early"


def amount(size: int) -> str:
    """A number of bytes for people: ``"1.2 MB"``."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


class Stream:
    """See the module's header. This class does plain sockets; ``tls`` overrides how bytes get in and out."""

    plain = True
    """Whether what arrives is the data itself, as it is not for TLS."""

    __slots__ = (
        "_blocked",
        "_deadline",
        "_dirty",
        "_discarded",
        "_eof",
        "_events",
        "_filing",
        "_out",
        "_paused",
        "_progress",
        "_reader",
        "_recv_size",
        "_run",
        "_shut",
        "_timer",
        "_writers",
        "_wtimer",
        "buf",
        "closed",
        "err",
        "goodbye",
        "heard",
        "limits",
        "mark",
        "need",
        "owner",
        "remoteaddr",
        "sock",
        "unsent",
        "wants_room",
        "werr",
        "why",
    )

    def __init__(self, sock: socket.socket, remoteaddr: str, limits: Limits = DEFAULT) -> None:
        self.sock: socket.socket | None = sock
        self.limits = limits
        self.remoteaddr = remoteaddr
        self.buf = bytearray()
        self.need = 0
        self.mark = limits.receive_mark
        self.err: str | None = None
        self.werr: str | None = None
        self.why = ""
        """Of a connection that broke: how, in words."""
        self.heard = True
        """Whether anything has come from the peer since somebody cleared this."""
        self.owner: Callable[[], Owner | None] = _nobody
        """Gives whom to tell of data that arrives while nobody waits for it. A weak reference, else a forgotten connection
        would live for ever."""
        self.unsent = 0
        self.closed = False
        self.goodbye: bytes | None = None
        """What the peer is told when the process ends; the protocol above sets it. None once it was said."""
        self.wants_room = False
        """Whether to tell the owner once when the kernel has taken most of the output that it refused."""
        self._reader: scheduler.Task | None = None
        self._recv_size = RECV
        self._paused = False
        self._out: list[bytes | memoryview] = []
        self._dirty = False
        self._blocked = False
        self._writers: list[scheduler.Task] | None = None
        self._filing: scheduler.Task | None = None
        """The task that sends a file."""
        self._deadline: float | None = None
        self._timer: Timer | None = None
        self._progress = 0.0
        self._run = 0
        """Bytes sent at once since this last let others run."""
        self._wtimer: Timer | None = None
        self._eof = False
        self._shut = False
        self._discarded = 0
        self._events = READ
        _loop.register(sock.fileno(), READ, self.on_event)
        _loop.handlers.add(self)

    # ---- what the loop calls ------------------------------------------------------------------------------------

    def on_event(self, mask: int) -> None:
        """The descriptor is ready."""
        sock = self.sock
        if sock is None:
            return  # closed earlier in this turn
        if mask & READ and self._events & READ:
            try:
                data = sock.recv(self._recv_size)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                self.fail(errno.from_oserror(exc))
                return
            else:
                self.heard = True
                reader = self._reader
                if reader is not None and data and self.plain and len(self.buf) + len(data) >= self.need:
                    # What happens for nearly every message, without a call: ``_feed`` and ``scheduler.wake``.
                    self.buf += data
                    self._reader = None
                    reader._value = None
                    reader._status = READY
                    _ready.append(reader)
                elif data:
                    self._feed(data)
                else:
                    self._ended()
        if mask & WRITE and self._events & WRITE:
            self._transmit()

    def _feed(self, data: bytes) -> None:
        """``data`` has arrived: wakes the reader if that is enough, or pauses reading."""
        if self.closed:
            self._discard(data)
            return
        buf = self.buf
        buf += data
        size = len(buf)
        reader = self._reader
        if reader is not None:
            if size >= self.need:
                self._reader = None
                scheduler.wake(reader, None)
            return
        if size >= self.mark:
            self._paused = True
            self._interest()
        owner = self.owner()
        if owner is not None:
            owner.unattended()

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

    def _tell_owner(self) -> None:
        owner = self.owner()
        if owner is not None:
            owner.broken()

    def _explain(self, err: str) -> None:
        if not self.why:
            self.why = f"{err}, with {amount(self.unsent)} unsent" if self.unsent else err

    def wakes(self) -> bool:
        """For the loop: whether an event here can set a task going, or output is still to be sent."""
        return self._reader is not None or self.unsent > 0 or self._filing is not None

    def shutdown(self) -> None:
        """For the loop: the process is ending."""
        goodbye, self.goodbye = self.goodbye, None
        if goodbye is not None and self.werr is None:
            self.write_nowait(goodbye)

    def _interest(self) -> None:
        """Makes the registration match the state; without interest there is none."""
        assert self.sock is not None
        events = 0
        if not self._paused and not self._eof:
            events = READ
        if self._blocked:
            events |= WRITE
        before = self._events
        if events == before:
            return
        self._events = events
        fd = self.sock.fileno()
        if not events:
            _loop.unregister(fd)
        elif not before:
            _loop.register(fd, events, self.on_event)
        else:
            _loop.modify(fd, events, self.on_event)

    # ---- reading ------------------------------------------------------------------------------------------------

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
        if deadline is not None:
            self._arm(deadline)
        task = self._reader = scheduler._current  # park raises where there is none
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
        timer = self._timer
        if timer is not None:
            if timer.when <= deadline:
                return
            _loop.timers.cancel(timer)
        self._timer = _loop.timers.add(deadline, self._on_deadline, internal=True)

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
            scheduler.wake(reader, value)

    # ---- writing ------------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether reading pauses, since nobody took what had arrived."""
        return self._paused

    @property
    def blocked(self) -> bool:
        """Whether the kernel refused output and has not taken it since."""
        return self._blocked

    def write(self, data: bytes) -> str | None:
        """Queues ``data``, which must never change; the error, or None. Waits past the limit ``unsent``."""
        if self.werr is not None:
            return self.werr
        if get_ident() != _loop.thread:
            scheduler.check_thread("write")
        if self._filing is not None:
            self._check_turn()
        if self._blocked and self.plain and self._refuses():
            return errno.TIMEDOUT
        self._out.append(data)
        self.unsent = unsent = self.unsent + len(data)
        if not self._dirty:
            self._dirty = True
            _loop.dirty.append(self)
        # The main program may be a REPL: nothing would send what it wrote until it blocks.
        if unsent >= GATHER or scheduler._current is scheduler.main:
            return self._write_more()
        return None

    def _refuses(self) -> bool:
        """Whether a write would have to wait, under a ``time.deadline`` that is over. Then nothing is queued any more: else who
        goes on writing all the same fills the memory."""
        return self.unsent > self.limits.unsent and scheduler.expired()

    def _write_more(self) -> str | None:
        if not self._blocked:
            self._run += self.unsent
            self._transmit()
        if self.unsent > self.limits.unsent:
            return self._wait_sent()
        if self._run > RUN and scheduler._current is not None:
            # The peer keeps up with us, so nothing else makes this task wait: others, timers and signals want to run.
            self._run = 0
            scheduler.pause()
        return self.werr

    def writev(self, parts: list[bytes | memoryview]) -> str | None:
        """``write`` for several pieces that stay together."""
        if self.werr is not None:
            return self.werr
        if get_ident() != _loop.thread:
            scheduler.check_thread("write")  # before anything is queued
        if self._filing is not None:
            self._check_turn()
        if self._blocked and scheduler.expired():
            return self.write(b"".join(parts))  # refused, or queued, as a whole
        last = parts[-1]
        for part in parts[:-1]:
            self._out.append(part)
            self.unsent += len(part)
        return self.write(last)  # type: ignore[arg-type]

    def _queue(self, data: bytes) -> None:
        """Appends output and sees that it is sent, without ever waiting."""
        self._out.append(data)
        self.unsent += len(data)
        if not self._dirty:
            self._dirty = True
            _loop.dirty.append(self)

    def write_nowait(self, data: bytes) -> str | None:
        """``write`` that never waits: for control frames, which are few and small."""
        if self.werr is None:
            if self._filing is not None:
                self._check_turn()
            self._queue(data)
            if scheduler._current is scheduler.main:
                self.flush()
        return self.werr

    def sendfile(self, fd: int, offset: int, size: int) -> str | None:
        """Sends ``size`` bytes of the open file ``fd`` from ``offset``, behind what was written before; the error, or None.

        A large part goes out by ``sendfile(2)``, and the call blocks until the kernel has all of it; a small one, and any over
        TLS, is read and written, with the waiting that ``write`` does. ``time.deadline`` and ``write_timeout`` bound both. The
        disk is read in place: a file that isn't in the kernel's cache holds the loop for as long as the disk takes.

        After an error (a file that has become shorter is one) the peer has a part, or nothing. What is queued still goes out,
        nothing more can be written, and the caller closes. Raises RuntimeError when another task sends a file, and for whoever
        else writes meanwhile: what he wrote would be in the middle of the file.
        """
        if offset < 0 or size < 0:
            raise ValueError(f"sendfile needs an offset and a size that aren't negative, not {offset} and {size}")
        if self.werr is not None:
            return self.werr
        if self._filing is not None:
            raise RuntimeError(f"BUG: {self}: another task is sending a file on it")
        self._filing = scheduler.current()
        err: str | None = errno.CLOSED  # for the others, if this task is ended meanwhile
        try:
            # What fits one write shares a packet with the head before it, and needn't wait for what was written before.
            by_kernel = self.plain and size > GATHER
            err = self._send_file(fd, offset, offset + size) if by_kernel else self._write_file(fd, offset, offset + size)
        finally:
            self._filing = None
            if err is not None and self.werr is None:
                self.werr = err
                if not self._out:
                    self._unblock()
        return err

    def _check_turn(self) -> None:
        """Raises RuntimeError for a task that writes while another one sends a file."""
        if self._filing is scheduler._current:
            return
        if not self.plain:
            self.fail(errno.TLS)  # the record is made: without it the peer can't read those that follow
        raise RuntimeError(f"BUG: {self}: another task is sending a file on it")

    def _send_file(self, fd: int, offset: int, end: int) -> str | None:
        """``sendfile`` by the system call of that name."""
        while True:
            err = self._emptied()
            if err is not None:
                return err
            sock = self.sock
            assert sock is not None
            try:
                sent = os.sendfile(sock.fileno(), fd, offset, min(end - offset, RUN))
            except BlockingIOError:
                self._block()
                continue
            except OSError as exc:
                if exc.errno in _NO_SENDFILE:
                    return self._write_file(fd, offset, end)
                self._write_failed(errno.from_oserror(exc))
                return self.werr
            if not sent:
                return _shortened(end - offset)
            offset += sent
            self._run += sent
            if self._run >= RUN:
                # The peer keeps up with us, as in ``_write_more``.
                self._run = 0
                scheduler.pause()
            if offset == end:
                return None
            if scheduler.expired():
                return errno.TIMEDOUT

    def _emptied(self) -> str | None:
        """Waits until the kernel has taken all output, and takes more; None, or the error."""
        while self.werr is None:
            if not self._blocked:
                self._transmit()
            if not self._blocked:
                break
            err = self._wait_sent()
            if err is not None:
                return err
        return self.werr

    def _write_file(self, fd: int, offset: int, end: int) -> str | None:
        """``sendfile`` by reading and writing."""
        while offset < end:
            try:
                piece = os.pread(fd, min(end - offset, GATHER), offset)
            except OSError as exc:
                return errno.from_oserror(exc)
            if not piece:
                return _shortened(end - offset)
            err = self.write(piece)
            if err is not None:
                return err
            offset += len(piece)
            if offset < end and scheduler.expired():
                return errno.TIMEDOUT
        return None

    def flush(self) -> None:
        """Sends what was gathered. The loop calls it for dirty streams."""
        self._dirty = False
        out = self._out
        if not out or self._blocked or self.sock is None:
            return
        if len(out) == 1 and not self.closed and self._writers is None:
            # What happens for nearly every message, without a call.
            try:
                sent = self.sock.send(out[0])
            except (BlockingIOError, InterruptedError):
                self._block()
                return
            except OSError as exc:
                # Not left to ``_transmit``: the system tells a reset once, after that only a broken pipe.
                self._write_failed(errno.from_oserror(exc))
                return
            if sent == self.unsent:
                out.clear()
                self.unsent = 0
                return
            self._sent(sent)
        self._transmit()

    def _wait_sent(self) -> str | None:
        """Waits until the unsent bytes are below the low mark."""
        if scheduler.leaving():
            return errno.CLOSED
        task = scheduler.current()
        if self._writers is None:
            self._writers = []
        self._writers.append(task)
        try:
            err: str | None = scheduler.park(self)
        except BaseException as exc:
            if self._writers is not None and task in self._writers:
                self._writers.remove(task)
            if isinstance(exc, scheduler.DeadlineOver):
                return errno.TIMEDOUT
            raise
        return err

    def _transmit(self) -> None:
        """Sends until everything is sent or the kernel refuses."""
        sock = self.sock
        assert sock is not None
        out = self._out
        while out:
            try:
                if len(out) == 1:
                    sent = sock.send(out[0])
                elif self.unsent <= GATHER:
                    sent = sock.send(b"".join(out))
                else:
                    sent = sock.sendmsg(out[:IOV])
            except (BlockingIOError, InterruptedError):
                self._block()
                return
            except OSError as exc:
                self._write_failed(errno.from_oserror(exc))
                return
            if sent == self.unsent:
                out.clear()
                self.unsent = 0
            else:
                self._progress = monotonic()
                self._sent(sent)
        if self._blocked or self.closed or self._writers is not None:
            self._all_sent()

    def _write_failed(self, err: str) -> None:
        """The peer takes no more. What it had sent before may still be read: an early answer to an upload, for one."""
        if self.closed or self._eof:
            self.fail(err)
            return
        self._explain(err)
        self.werr = err
        self._out.clear()
        self.unsent = 0
        self._unblock()
        self._wake_writers(err)
        self._tell_owner()

    def _sent(self, size: int) -> None:
        """Drops the first ``size`` bytes of the output, and wakes writers once little is left."""
        self.unsent -= size
        out = self._out
        done = 0
        for part in out:
            if len(part) > size:
                break
            size -= len(part)
            done += 1
        del out[:done]
        if size:
            out[0] = memoryview(out[0])[size:]
        if self.unsent <= self.limits.unsent >> 2:
            if self.wants_room:
                self._tell_room()
            if self._writers is not None:
                self._wake_writers(None)

    def _tell_room(self) -> None:
        self.wants_room = False
        owner = self.owner()
        if owner is not None:
            owner.room()

    def _block(self) -> None:
        """The kernel refuses output: waits for it, within the limit ``write_timeout`` without progress."""
        if not self._blocked:
            self._blocked = True
            self._progress = monotonic()
            if self._wtimer is None:
                self._wtimer = _loop.timers.add(self._progress + self._stall(), self._on_stall, internal=True)
            self._interest()

    def _unblock(self) -> None:
        """No output waits for the kernel any more."""
        self._blocked = False
        self._interest()
        if self._wtimer is not None:
            _loop.timers.cancel(self._wtimer)
            self._wtimer = None

    def _all_sent(self) -> None:
        """Everything is sent: whoever waited for that goes on."""
        if self._blocked:
            self._unblock()
            if self.wants_room:
                self._tell_room()
        if self._writers is not None:
            self._wake_writers(None)
        if self.closed and self.sock is not None:
            self._delivered()

    def _stall(self) -> float:
        return self.limits.write_timeout / 1000

    def _on_stall(self, _: None) -> None:
        self._wtimer = None
        if monotonic() < self._progress + self._stall():
            self._wtimer = _loop.timers.add(self._progress + self._stall(), self._on_stall, internal=True)
        else:
            limit = self.limits.write_timeout
            self.why = f"no progress in sending {amount(self.unsent)} within the limit 'write_timeout' of {limit} ms"
            self.fail(errno.TIMEDOUT)

    def _wake_writers(self, value: str | None) -> None:
        writers, self._writers = self._writers, None
        for task in writers or ():
            scheduler.wake(task, value)

    def _wake_all(self) -> None:
        self._wake_reader(self.err)
        self._wake_writers(self.werr)

    # ---- closing ------------------------------------------------------------------------------------------------

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
        self._wake_all()
        if self.sock is None:
            return None  # broken before: the descriptor is gone already
        _loop.work += 1
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        self._timer = _loop.timers.add(monotonic() + self.limits.linger / 1000, self._linger_over, internal=True)
        if self.buf or self._paused or await_end:
            self._discarded = 1
        self._paused = False
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
                    self._discard(data)
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

    def _discard(self, data: bytes) -> None:
        """Data that arrives after ``close``."""
        self._discarded += len(data)
        if self._discarded > DISCARD:
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

    def _release(self) -> None:
        """Frees the descriptor and the timers."""
        sock = self.sock
        if sock is None:
            return
        self.sock = None
        if self._events:
            self._events = 0
            _loop.unregister(sock.fileno())
        _loop.handlers.discard(self)
        if self.closed:
            _loop.work -= 1
        for timer in (self._timer, self._wtimer):
            if timer is not None:
                _loop.timers.cancel(timer)
        self._timer = self._wtimer = None
        self._out.clear()
        self.unsent = 0
        self._blocked = False
        sock.close()

    def __repr__(self) -> str:
        return f"the connection with {self.remoteaddr}"
