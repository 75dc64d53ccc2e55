"""The byte stream that tcp and tls share: one receive buffer, gathered writes,
back-pressure in both directions.

A ``Stream`` is the inner half of a connection, and the loop refers to it. The public
connection object refers to the stream, and its finalizer closes it. There is one
``bytearray``, ``buf``: the loop's callback appends received data; drivers parse it in
place and delete what they consumed. When ``mark`` bytes are unread and no task waits,
reading pauses, and TCP's flow control stops the peer. The ``owner`` is called when data
arrives while no task waits.

Reading: ``fill(need, deadline)`` waits until ``buf`` holds ``need`` bytes. Writing is
in ``_output``.

Errors: ``err`` is the error of a read that the buffer can't satisfy, ``werr`` that of a
write. The end of the peer's data (EOF) sets only ``err``, and ``closewrite`` only
``werr``, with ``half_closed``. A local ``close`` sets both,
wakes all waiting tasks, and still delivers what was written, within the limit
``linger``. If the peer's data is unread, ``close`` awaits its end too: closing a socket
with unread data sends a reset, which can destroy what was written. If nothing was
written, the connection is gone at once.

The read timer is lazy. Each stream has one, which checks the deadline when it fires, so
a read with a time-out adds no entry to the heap.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from .. import errno
from .._core import scheduler
from .._core.loop import READ, WRITE, monotonic
from .._core.scheduler import park
from .._core.timers import Timer
from .._wire.accelerated import Payload
from .._wire.limits import DEFAULT, Limits
from ._gathered import Sealer
from ._output import Output, end_by_reset

RECV = 16 * 1024
RECV_LARGE = 1024 * 1024
"""The most bytes of one receive: ``RECV_LARGE`` while a reader needs more than
``RECV``."""
RECV_BODY = 64 * 1024
"""The same while a reader takes what comes of a body: each receive costs a turn of the
loop and a switch to the reader's task. Twice as much costs more again: the allocator
maps such pieces of memory anew each time."""
RECV_DROPPED = 128 * 1024
"""The most bytes of one receive when they are dropped."""
DISCARD_AFTER_CLOSE = 1024 * 1024 * 1024
"""After ``close``, reset a peer that sends more bytes than this. It is more than most
send within the limit ``linger``: a client reads the answer only after its upload, and a
reset would destroy the answer."""

NEWCOMER = 1.0
"""Seconds that a peer gets for its TLS handshake and its first request when the process
begins to end, or the server closes."""

_loop = scheduler.loop


def newcomers_until() -> float:
    """Returns the end of the time of ``NEWCOMER`` that begins now."""
    return monotonic() + NEWCOMER


class Stream(Output):
    """See the module's header. This class is for plain sockets; ``TlsStream`` overrides
    receiving and sending."""

    word = "tcp"
    """What log lines about it begin with."""
    partial = 0
    """Bytes that have come of a TLS record that is not whole yet, and so not in
    ``buf``."""

    __slots__ = (
        "_deadline",
        "_discarded",
        "_events",
        "_fragile",
        "_paused",
        "_released",
        "_shut",
        "_timer",
        "err",
        "goodbye",
        "mark",
        "remoteaddr",
        "watched",
    )

    def __init__(
        self, sock: socket.socket, remoteaddr: str, limits: Limits = DEFAULT, pipe: Sealer | None = None
    ) -> None:
        super().__init__(sock, limits, pipe)
        self.remoteaddr = remoteaddr
        self.mark = limits.receive_mark
        self.err: str | None = None
        self.goodbye: bytes | None = None
        """Sent to the peer by ``say_goodbye``, then None. The protocol above sets
        it."""
        self._payload: Payload | None = None
        self._recv_size = RECV
        self._paused = False
        self._deadline: float | None = None
        self._timer: Timer | None = None
        self._shut = False
        self._fragile = False
        """Whether a reset after ``close`` could destroy what was written."""
        self._discarded = 0
        self._released: Callable[[], object] | None = None
        self._events = READ
        self.watched: int | None = None
        """For the loop: see ``Watched`` there."""
        _loop.register(self.fd, READ, self.on_event)
        _loop.handlers.add(self)

    # ---- what the loop calls ---------------------------------------------------------

    def _other_event(self, mask: int) -> None:
        if self.sock is None:
            return  # closed earlier in this turn
        if mask & READ and self._events & READ:
            if self._payload is not None:
                self._receive_into(self._payload)
            else:
                self.on_event(READ)
        if mask & WRITE and self._events & WRITE:
            self._transmit()

    def _receive_failed(self, exc: OSError) -> None:
        self.fail(errno.from_oserror(exc))

    def _came(self, got: int) -> None:
        if got:
            self._arrived(got)
        else:
            self._ended()

    def _receive_into(self, payload: Payload) -> None:
        """Receives data for the large payload that a reader waits for."""
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
        self.received += got
        if not got:
            self._ended()
            return
        payload.received(got)
        if not payload.left:
            self._payload = None
            self._wake_reader(None)

    def _arrived(self, got: int) -> None:
        """``buf`` has grown by ``got`` bytes: wakes the reader if it has enough, or
        pauses reading."""
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
            if not self.unsent:
                self._release()
                return
        elif self.err is None:
            self.err = self.broke or errno.EOF  # after a failed write this is its reset
        self._interest()
        self._wake_reader(self.err)

    def fail(self, err: str) -> None:
        """The connection is broken: frees the descriptor, and wakes all waiting tasks
        with ``err``."""
        self._explain(err)
        if self.half_closed:
            self.half_closed = False
            self.werr = None
        if self.err is None or self.err == errno.EOF:
            self.err = self.werr or err
        if self.werr is None:
            self.werr = err
        self._release()
        self._wake_all()
        self._tell_owner()

    def wakes(self) -> bool:
        """For the loop: whether an event here can wake a task, or output is unsent."""
        return self._reader is not None or self.unsent > 0 or self.file_sender is not None

    def shutdown(self) -> None:
        """For the loop: the process is ending, see ``Handler``."""
        if self.owner is not None:
            self.owner.process_ends()

    def say_goodbye(self) -> None:
        """Sends the peer ``goodbye``, if there is one. Nothing may follow it."""
        goodbye, self.goodbye = self.goodbye, None
        if goodbye is not None and self.werr is None:
            self.write_nowait(goodbye)
            if self.owner is not None:
                self.owner.said_goodbye()

    def _interest(self) -> None:
        """Updates the registration to the state: without interest in any event it is
        removed."""
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

    def fill(self, need: int, deadline: float | None = None, recv: int = RECV) -> str | None:
        """Waits until ``buf`` holds ``need`` bytes; returns None or the error. After an
        error the data that has arrived stays in ``buf``.

        ``deadline`` is a time of ``time.monotonic()``. ``recv``: the most bytes of one
        receive, unless more are needed. Raises RuntimeError if another task already
        reads.
        """
        if self._reader is not None:
            raise RuntimeError(f"{self}: another task is already reading from it")
        missing = need - len(self.buf)
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
        self._recv_size = RECV_LARGE if missing > recv else recv
        self.need = need
        self._deadline = deadline
        if deadline is not None and (self._timer is None or self._timer.when > deadline):
            self._arm(deadline)
        task = self._reader = _loop.current  # park raises where no task runs
        if self.watched is None:
            _loop.watch(self)
        try:
            err: str | None = park(self)
        except BaseException as exc:
            # If the task was woken, another may be the reader by now.
            if self._reader is task:
                self._reader = None
            if isinstance(exc, scheduler.DeadlineOver):
                return errno.TIMEDOUT
            if isinstance(exc, scheduler.Leaving):
                return errno.CLOSED
            raise
        if self.closed:
            return errno.CLOSED  # ``close`` may have dropped data that woke this task
        return err

    def fill_into(self, payload: Payload, deadline: float | None = None) -> str | None:
        """Waits until more of ``payload`` has come; otherwise like ``fill``. ``buf``
        must be empty: most of the data is received into the payload directly."""
        need = min(payload.left, self.mark)
        if self.plain:
            self._payload = payload
            need = 1
        try:
            return self.fill(need, deadline)
        finally:
            self._payload = None

    # ---- for ``task.select`` ---------------------------------------------------------

    def readable(self) -> bool:
        """Whether a reader needn't wait for a byte: it gets that, or an error. Raises
        RuntimeError if another task reads."""
        self.check_no_reader()
        return bool(self.buf) or self.err is not None

    def check_no_reader(self) -> None:
        """Raises RuntimeError if a task reads, or waits in ``task.select``."""
        if self._reader is not None:
            raise RuntimeError(f"{self}: another task is already reading from it")

    def watch_data(
        self, watch: scheduler.Task, need: int = 1, payload: Payload | None = None, deadline: float | None = None
    ) -> None:
        """Makes ``watch`` the reader, for ``task.select``: what wakes a task in
        ``fill`` or ``fill_into`` wakes it, so also the ``deadline``."""
        self.check_no_reader()
        if self.err is not None or len(self.buf) >= need:
            scheduler.wake(watch)
            return
        if self._paused:
            self._paused = False
            self._interest()
        if payload is not None:
            need = 1 if self.plain else min(payload.left, self.mark)
            self._payload = payload if self.plain else None
        missing = need - len(self.buf)
        self._recv_size = RECV_LARGE if missing > RECV else RECV
        self.need = need
        self._deadline = deadline
        if deadline is not None and (self._timer is None or self._timer.when > deadline):
            self._arm(deadline)
        self._reader = watch
        if self.watched is None:
            _loop.watch(self)

    def unwatch_data(self, watch: scheduler.Task) -> None:
        """Forgets ``watch``. Does nothing if it was woken."""
        if self._reader is watch:
            self._reader = self._payload = None

    # ---- the limit, and the timer ----------------------------------------------------

    def set_mark(self, size: int) -> None:
        """Sets the number of unread bytes at which reading pauses."""
        self.mark = size
        paused = len(self.buf) >= size and self._reader is None
        if paused != self._paused and not self.closed and self.sock is not None:
            self._paused = paused
            self._interest()

    def look(self) -> bool:
        """Receives what the kernel has, though the loop has not seen it yet. Returns
        whether the task that reads, if there is one, has to wait on."""
        if self.sock is not None and self._events & READ:
            self.on_event(READ)
        return self._reader is not None

    def hasten(self, deadline: float) -> None:
        """Makes the task that reads give up at ``deadline``, if not sooner."""
        if self._reader is not None and (self._deadline is None or self._deadline > deadline):
            self._deadline = deadline
            if self._timer is None or self._timer.when > deadline:
                self._arm(deadline)

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        self._timer = _loop.timers.add(deadline, self._on_deadline, internal=True)

    def disarm(self) -> None:
        """Cancels the read timer: no read with a deadline will come for long."""
        self._deadline = None
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None

    def _on_deadline(self, _: None) -> None:
        self._timer = None
        if self._reader is None or self._deadline is None:
            return
        if _loop.busy_since < self._deadline:  # what has come since was not looked at yet
            self._arm(self._deadline)
        else:
            self._wake_reader(errno.TIMEDOUT)

    def rest(self) -> None:
        """Called now and then for a connection that may be idle for long: lets go of
        memory that an idle one doesn't need."""

    def interrupt(self) -> None:
        """Wakes the reader, if any, with ``errno.CLOSED``. The stream is not
        changed."""
        self._wake_reader(errno.CLOSED)

    def _wake_reader(self, value: str | None) -> None:
        reader = self._reader
        if reader is not None:
            self._reader = None
            self._payload = None  # data that comes before it runs may be another reader's
            scheduler.wake(reader, value)

    @property
    def paused(self) -> bool:
        """Whether reading pauses, because the data that had arrived was not taken."""
        return self._paused

    def _wake_all(self) -> None:
        self._wake_reader(self.err)
        self._wake_writers(self.werr)

    # ---- closing ---------------------------------------------------------------------

    def closewrite(self) -> str | None:
        """Ends our direction, once what was written is delivered. Returns None or the
        error. Reading goes on. Raises as ``_admit`` does."""
        err = self._admit(waits=False) or self._last_words()
        if err is not None:
            return err
        self.half_closed = True
        self.werr = errno.CLOSED
        if not self._blocked:
            self._transmit()
            if self.half_closed and not self._blocked:
                self._last_sent()
        return self.broke

    def _last_words(self) -> str | None:
        """Over TLS: queues what ends our data. Returns None or the error."""
        return None

    def _last_sent(self) -> None:
        if self.plain:
            sock = self.sock
            assert sock is not None
            if not self._shut_down(sock):
                self._write_failed(errno.CONNRESET)

    def close(self, await_end: bool = False) -> str | None:
        """Closes in the background, once what was written is delivered. Returns
        ``errno.CLOSED`` if it was closed before.

        ``await_end`` says that the peer is still sending. Then only our direction ends
        at first, and received data is dropped until the peer ends too. Data that
        arrives at a closed socket is answered with a reset, which may destroy what was
        written before the peer has read it (RFC 9112, section 9.6). The same is done if
        data is unread, unless nothing was written: then the connection is gone at once,
        and the peer's next write fails.
        """
        if self.closed:
            return errno.CLOSED
        self.closed = True
        self.half_closed = False
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
        self._fragile = await_end or self._written()
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

    def _written(self) -> bool:
        """Whether anything was written."""
        return self.written() > 0

    def hang_up(self) -> None:
        """Closes, once what was written is delivered, without waiting for the end of
        the peer's data: at the end of the process nothing that is incomplete is
        answered."""
        self.buf.clear()
        self.close()
        if not self.unsent:
            self.abort()

    def _delivered(self) -> None:
        """The stream is closed and the kernel has taken all output: releases it, or
        waits for the end of the peer's data."""
        sock = self.sock
        assert sock is not None
        if self._fragile and not self._eof:
            try:
                data = sock.recv(RECV)
            except (BlockingIOError, InterruptedError):
                if self._discarded and self._shut_down(sock):
                    return
            except OSError:
                pass  # reset: there is nothing left to wait for
            else:
                if data:
                    self._discard(len(data))
                    if self.sock is None or self._shut_down(sock):
                        return
        self._release()

    def _shut_down(self, sock: socket.socket) -> bool:
        """Ends our data, once. Returns False if the connection was reset, which
        ``recv`` can't see while the kernel holds data."""
        if not self._shut:
            self._shut = True
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                return False
        return True

    def _discard(self, size: int) -> None:
        """Counts ``size`` bytes that arrived after ``close``."""
        self._discarded += size
        if self._discarded > DISCARD_AFTER_CLOSE:
            self.abort()

    def _linger_over(self, _: None) -> None:
        self._timer = None
        self.abort()

    def abort(self) -> None:
        """Closes at once; unsent data is dropped, and unread data, as by ``close``: of
        messages some may have been taken, and the rest would have a gap before it."""
        if not self.closed:
            self.closed = True
            self.buf = bytearray()
            if self.sock is not None:
                _loop.work += 1
        self.fail(errno.CLOSED)

    def hurry(self, last: bool) -> None:
        """For the loop: see ``Handler``."""
        if not self.unsent:
            if last or not self.peer_alive:
                self.abort()
            self.peer_alive = False

    def reset(self) -> None:
        """As ``abort``, but the peer sees an error: it could take the end of the
        connection for the end of the data."""
        if self.sock is not None:
            end_by_reset(self.sock)
        self.abort()

    def give_up(self) -> socket.socket:
        """Closes, but returns the socket, still open: for a stream of another kind.
        Nothing may be unsent, and no task may read."""
        sock = self.sock
        assert sock is not None
        moved = socket.socket(sock.family, sock.type, sock.proto, sock.fileno())
        sock.detach()  # its close does nothing any more
        moved.setblocking(False)
        self._release()
        self.closed = True
        self.err = self.werr = errno.CLOSED
        self.buf = bytearray()
        return moved

    def disown(self) -> None:
        """For the loop, in a child of ``os.fork``: the connection is the parent's."""
        sock, self.sock = self.sock, None
        assert sock is not None
        self.fd = -1
        self.closed = True
        self.err = self.werr = errno.CLOSED
        self.buf = bytearray()
        self._drop_output()
        self._reader = self._payload = self._timer = self._wtimer = self.goodbye = None
        sock.close()

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
        _loop.forget(self)
        if self.closed:
            _loop.work -= 1
        for timer in (self._timer, self._wtimer):
            if timer is not None:
                _loop.timers.cancel(timer)
        self._timer = self._wtimer = None
        if self.unsent and self.plain:
            end_by_reset(sock)  # the peer must not take the part for the whole; over TLS it sees that
        self._drop_output()
        self._blocked = False
        sock.close()
        released, self._released = self._released, None
        if released is not None:
            released()

    def when_released(self, call: Callable[[], object]) -> None:
        """Calls ``call()`` when the descriptor is free: now if it is, else some time
        after ``close``."""
        if self.sock is None:
            call()
        else:
            self._released = call

    def released_later(self) -> Callable[[], object] | None:
        """Returns what ``when_released`` was given, which is not called any more; None
        if it was called already, or nothing was given."""
        call, self._released = self._released, None
        return call

    def __repr__(self) -> str:
        return f"the connection with {self.remoteaddr}"
