"""The writing half of a byte stream: gathered writes, back-pressure, files.

``write(data)`` queues. At the end of a slice the loop sends each stream's output in one
call. With more than the limit ``unsent`` unsent, ``write`` waits until a quarter of
that is left. ``werr`` is the error of every write once nothing can be sent any more.

``sendfile`` sends a part of a file, from the kernel's cache if possible. The file's
data is not in the queue, so no other task may write during the transfer. If the
transfer fails, the connection is closed for writing.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from errno import EINVAL, ENOSYS, EOPNOTSUPP
from threading import get_ident
from typing import Protocol

from .. import errno
from .._core import scheduler
from .._core.loop import monotonic
from .._core.timers import Timer
from .._core.waiting import Leaving, Waiters
from .._wire.limits import Limits
from ._accelerated import Gathered, send
from ._gathered import GATHER, Sealer
from ._pace import LOOKS, Pace, taken

FAIR_SHARE = 1024 * 1024
"""A task that has sent this many bytes without waiting lets others run."""
IOV = 1024
"""The most pieces for one sendmsg: Linux's limit."""
_NO_SENDFILE = frozenset((EINVAL, ENOSYS, EOPNOTSUPP))
"""The errors of ``os.sendfile`` for a file that it can't send, as on some file
systems."""

_RESET = struct.pack("ii", 1, 0)
"""A ``struct linger`` that makes ``close`` drop unsent data and send a reset."""

_loop = scheduler.loop


class Owner(Protocol):
    """The protocol above a stream. The stream calls these methods."""

    def data_unread(self) -> None:
        """Data has arrived, and no task waits for it."""

    def drained(self) -> None:
        """``wants_drained`` was set, and little output is left. What is written now is
        sent before the output of waiting writers."""

    def broken(self) -> None:
        """The stream has failed, or was closed: nothing can be sent any more. Every
        task that was blocked in the stream has been woken."""

    def process_ends(self) -> None:
        """The end of the process begins, or (``scheduler.exiting``) all tasks have
        ended and the connection will be closed."""

    def said_goodbye(self) -> None:
        """``goodbye`` was sent to the peer."""


def _shortened(missing: int) -> str:
    return f"the file ended {amount(missing)} too early"


def end_by_reset(sock: socket.socket) -> None:
    """Makes the ``close`` of ``sock`` send a reset instead of a normal end."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # some systems refuse it after a reset by the peer


def amount(size: int) -> str:
    """Formats a number of bytes for a text: ``"1.2 MB"``."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


class Output(Gathered):
    """See the module's header. ``Stream`` adds reading and closing."""

    plain = True
    """Whether the socket carries the data itself; False for TLS."""

    __slots__ = (
        "_accepted",
        "_eof",
        "_pace",
        "_since_pause",
        "_writers",
        "_wtimer",
        "closed",
        "filed",
        "half_closed",
        "limits",
        "owner",
        "sock",
        "wants_drained",
        "why",
    )

    def __init__(self, sock: socket.socket, limits: Limits, pipe: Sealer | None) -> None:
        super().__init__(pipe)
        self.sock: socket.socket | None = sock
        """None once it is closed; then ``fd`` is not used any more."""
        self.fd = sock.fileno()
        self.limits = limits
        self.closed = False
        self.half_closed = False
        """Whether ``closewrite`` was called, and the connection is neither closed nor
        broken since. ``werr`` is then ``errno.CLOSED``."""
        self.why = ""
        """Why the connection broke, in words; empty if it did not."""
        self.owner: Owner | None = None
        """The loop refers to the stream, and the stream to its owner. So an owner must
        not refer to a public object whose finalizer closes the connection."""
        self.wants_drained = False
        """Whether to call ``owner.drained()`` once, when the kernel has taken most of
        the output that it had refused."""
        self._all_dirty = _loop.dirty
        self._writers: Waiters[str | None] | None = None
        """The tasks that wait for the kernel to take output, or None."""
        self.filed = 0
        """How many bytes of the last file were sent."""
        self._accepted = 0
        """How many bytes the kernel has accepted, without those that ``flushed``
        counts: only the difference between two values matters."""
        self._pace: Pace | None = None
        """How fast the peer takes output; None until it was first looked at."""
        self._since_pause = 0
        """Bytes sent without waiting since the writer last let others run."""
        self._wtimer: Timer | None = None
        self._eof = False
        """Whether the peer's data has ended."""

    def _interest(self) -> None:
        """Updates the registration with the loop to the state."""
        raise NotImplementedError

    def fail(self, err: str) -> None:
        """Ends the connection, which is broken, with the error ``err``."""
        raise NotImplementedError

    def _delivered(self) -> None:
        """Called when the stream is closed and the kernel has taken all output."""
        raise NotImplementedError

    def _seal(self) -> bool:
        """Over TLS: seals some of ``_gathered`` into ``_out``. Returns whether there is
        something to send now."""
        raise NotImplementedError

    def _last_sent(self) -> None:
        """Called when the stream is half-closed and the kernel has taken all output:
        ends our direction."""
        raise NotImplementedError

    @property
    def broke(self) -> str | None:
        """The error that ended our direction; None while it goes on, and after
        ``closewrite``."""
        return None if self.half_closed else self.werr

    def written(self) -> int:
        """Returns how many bytes were written, as they are on the connection. After its
        end: how many of them the kernel has taken."""
        return self.flushed + self._accepted + self.unsent

    @property
    def blocked(self) -> bool:
        """Whether the kernel refused output and has not taken any since."""
        return self._blocked

    def write(self, data: bytes) -> str | None:
        """Queues ``data``, which must never change; returns None or the error.

        Waits while more than ``limits.unsent`` bytes are unsent. Raises RuntimeError in
        another thread, and while another task sends a file.
        """
        if _loop.may_queue and self.try_queue(data):
            return None  # nearly always
        return self.writev([data])

    def writev(self, parts: list[bytes | memoryview]) -> str | None:
        """As ``write``, for several pieces that stay together."""
        err = self._admit()
        if err is not None:
            return err
        self._enqueue(parts)
        # The main program may be a REPL: its output would not be sent until it blocks.
        if self.unsent >= GATHER or _loop.current is scheduler.main:
            return self._write_more()
        return None

    def write_nowait(self, data: bytes) -> str | None:
        """As ``write``, but never waits: for control frames, which are few and
        small."""
        err = self._admit(waits=False)
        if err is not None:
            return err
        self._enqueue([data])
        if _loop.current is scheduler.main:
            self.flush()
        return self.werr

    def _admit(self, waits: bool = True) -> str | None:
        """Checks whether the current task may add output; returns None or the error.

        All refusals are here. ``waits`` says that the caller may wait for the kernel.
        If the task's ``time.deadline`` is over it can't wait, so nothing is queued past
        ``limits.unsent``: else a task that keeps writing would fill the memory.

        Raises RuntimeError in another thread, and while another task sends a file: the
        output would land in the middle of the file.
        """
        if self.werr is not None:
            return self.werr
        if get_ident() != _loop.thread:
            scheduler.check_thread()
        if self.file_sender is not None and self.file_sender is not _loop.current:
            raise RuntimeError(f"{self}: another task is sending a file on it")
        if waits and self._blocked and self.unsent > self.limits.unsent and scheduler.expired():
            return errno.TIMEDOUT
        return None

    def _enqueue(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Appends output, and marks the stream dirty so that it is sent. Never
        waits."""
        self._gathered.extend(pieces)
        self.unsent += sum(map(len, pieces))
        self._mark_dirty()

    def _mark_dirty(self) -> None:
        """The loop is to flush this stream."""
        if not self._dirty:
            self._dirty = True
            _loop.dirty.append(self)

    def _drop_output(self) -> None:
        """Nothing of what was written can be sent any more."""
        self._gathered.clear()
        self._out.clear()
        self.unsent = 0

    def _write_more(self) -> str | None:
        """Sends the output now, and waits if too much stays unsent."""
        if not self._blocked:
            self._since_pause += self.unsent
            self._transmit()
        if self.unsent > self.limits.unsent:
            return self.wait_sent()
        err = self.werr  # now: another task may end our direction meanwhile
        if self._since_pause > FAIR_SHARE and _loop.current is not None:
            # The peer keeps up, so this task never waits: let others, timers and
            # signals run.
            self._since_pause = 0
            scheduler.pause()
        return err

    def sendfile(self, fd: int, offset: int, size: int) -> str | None:
        """Sends ``size`` bytes of the open file ``fd`` from ``offset``, after what was
        written before; returns None or the error.

        A large part is sent by ``sendfile(2)``; the call blocks until the kernel has
        all of it. A small part, and any part over TLS, is read and written, and the
        call waits as ``write`` does. ``time.deadline`` and ``write_timeout`` bound
        both. If the file isn't in the kernel's cache, reading it holds the loop for as
        long as the disk takes.

        After an error (the file has become shorter, for example) the peer has a part of
        the file, or nothing. Queued output is still sent, nothing more can be written,
        and the caller closes. Raises RuntimeError if another task is sending a file;
        another task's write during the transfer raises it too, since its data would
        land in the middle of the file.
        """
        if offset < 0 or size < 0:
            raise ValueError(f"sendfile needs an offset and a size that aren't negative, not {offset} and {size}")
        err = self._admit(waits=False)
        if err is not None:
            return err
        self.file_sender = scheduler.current()
        self.filed = 0
        err = errno.CLOSED  # for later writers, if this task is ended meanwhile
        try:
            # A part that fits one write shares a packet with the head before it, and
            # needn't wait for earlier output.
            by_kernel = self.plain and size > GATHER
            err = self._send_file(fd, offset, offset + size) if by_kernel else self._write_file(fd, offset, offset + size)
        finally:
            self.file_sender = None
            if err is not None and self.werr is None:
                self.werr = err
                if not self.unsent:
                    self._unblock()
        return err

    def _send_file(self, fd: int, offset: int, end: int) -> str | None:
        """``sendfile`` by the system call."""
        while True:
            err = self.emptied()
            if err is not None:
                return err
            try:
                sent = os.sendfile(self.fd, fd, offset, min(end - offset, FAIR_SHARE))
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
            self.filed += sent
            self._accepted += sent
            self._since_pause += sent
            if self._since_pause >= FAIR_SHARE:
                # The peer keeps up, as in ``_write_more``.
                self._since_pause = 0
                scheduler.pause()
            if offset == end:
                return None
            if scheduler.expired():
                return errno.TIMEDOUT

    def emptied(self) -> str | None:
        """Waits until the kernel has taken all output and takes more; returns None or
        the error."""
        while self.werr is None:
            if not self._blocked:
                self._transmit()
            if not self._blocked:
                break
            err = self.wait_sent()
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
            self.filed += len(piece)
            if offset < end and scheduler.expired():
                return errno.TIMEDOUT
        return None

    def _flush(self, sent: int, failure: BaseException | None) -> None:
        """Continues where ``flush`` can't."""
        if failure is not None:
            assert isinstance(failure, OSError)
            self._write_failed(errno.from_oserror(failure))
            return
        if sent:
            self._accepted += sent
            self._sent(sent)
        self._transmit()

    def wait_sent(self) -> str | None:
        """Waits until at most a quarter of ``limits.unsent`` is unsent; returns None or
        the error. Raises RuntimeError where no task runs."""
        if self._writers is None:
            self._writers = Waiters()
        try:
            return self._writers.wait(self)
        except Leaving:
            return errno.CLOSED
        except scheduler.DeadlineOver:
            return errno.TIMEDOUT

    def _transmit(self) -> None:
        """Sends until everything is sent or the kernel refuses."""
        sock = self.sock
        assert sock is not None
        out = self._out
        while out or (self._gathered and self._seal()):
            try:
                if len(out) == 1:
                    sent = send(self.fd, out[0])
                elif self.unsent <= GATHER:
                    sent = send(self.fd, b"".join(out))
                else:
                    sent = sock.sendmsg(out[:IOV])
            except (BlockingIOError, InterruptedError):
                self._block()
                return
            except OSError as exc:
                self._write_failed(errno.from_oserror(exc))
                return
            if sent < 0:
                self._block()
                return
            self._accepted += sent
            if sent == self.unsent:
                out.clear()
                self.unsent = 0
            else:
                self._sent(sent)
        if self._blocked or self.closed or self._writers is not None:
            self._all_sent()

    def _write_failed(self, err: str) -> None:
        """Nothing can be sent any more. What the peer has sent may still be read, such
        as an early answer to an upload."""
        if self.closed or self._eof:
            self.fail(err)
            return
        self._explain(err)
        self.half_closed = False
        self.werr = err
        self._drop_output()
        self._unblock()
        self._wake_writers(err)
        self._tell_owner()

    def _sent(self, size: int) -> None:
        """Drops the first ``size`` bytes of the output, and wakes writers if little is
        left."""
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
            if self.wants_drained:
                self._tell_drained()
            self._wake_writers(None)

    def _tell_drained(self) -> None:
        self.wants_drained = False
        if self.owner is not None:
            self.owner.drained()

    def _block(self) -> None:
        """The kernel refuses output: watches for it to accept more, and looks now and
        then whether the peer takes what was accepted."""
        if not self._blocked:
            self._blocked = True
            if self._wtimer is None:
                self._look_later()
            self._interest()

    def _unblock(self) -> None:
        """Output no longer waits for the kernel."""
        self._blocked = False
        self._interest()
        if self._pace is not None:
            self._pace.resume()
        if self._wtimer is not None:
            _loop.timers.cancel(self._wtimer)
            self._wtimer = None

    def _all_sent(self) -> None:
        """Everything is sent: wakes the tasks that wait for that."""
        if self._blocked:
            self._unblock()
            if self.wants_drained:
                self._tell_drained()
        self._wake_writers(None)
        if self.half_closed:
            self._last_sent()
        elif self.closed and self.sock is not None:
            self._delivered()

    def _look_later(self) -> None:
        when = monotonic() + self.limits.write_timeout / (1000 * LOOKS)
        self._wtimer = _loop.timers.add(when, self._look, internal=True)

    def _look(self, _: None) -> None:
        """Gives the connection up if the peer takes too little."""
        self._wtimer = None
        sock = self.sock
        assert sock is not None
        if self._pace is None:
            self._pace = Pace()
        why = self._pace.look(monotonic(), taken(sock, self._accepted), self.limits)
        if why is None:
            self._look_later()
        else:
            self.why = why.format(amount(self.unsent))
            end_by_reset(sock)  # else the kernel goes on holding megabytes for the peer
            self.fail(errno.TIMEDOUT)

    def held_back(self, pace: Pace | None) -> Pace | None:
        """Returns how fast the peer takes output, if it can't have read all that the
        kernel accepted, though it takes enough: its window is closed, or was a moment
        ago. Else returns None. ``pace`` is None in the first of several calls, then
        what the last one returned."""
        sock = self.sock
        assert sock is not None
        now = taken(sock, self._accepted)
        if pace is None:
            if not (now.closed or now.lately) or not now.waiting:
                return None
            pace = Pace()
        slow = pace.look(monotonic(), now, self.limits) is not None
        # Its kernel may hold as much unread data as it has just taken.
        arrived = now.closed and not now.waiting and not pace.credit
        return None if slow or arrived else pace

    def _wake_writers(self, value: str | None) -> None:
        writers, self._writers = self._writers, None
        if writers is not None:
            writers.wake_all(value)

    def _tell_owner(self) -> None:
        if self.owner is not None:
            self.owner.broken()

    def _explain(self, err: str) -> None:
        if not self.why:
            self.why = f"{err}, with {amount(self.unsent)} unsent" if self.unsent else err
