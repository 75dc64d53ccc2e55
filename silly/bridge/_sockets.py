"""``Socket``: the sockets of ``bridge.socket`` that have no TLS.

The descriptor is always non-blocking. A call tries first, and waits only when the
kernel says EAGAIN. So the descriptor is registered once, edge-triggered, and a wait
costs no system call (``_core/descriptor.py``).
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Iterable
from errno import EAGAIN, EALREADY, EBADF, EINPROGRESS, EISCONN
from operator import index
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from greenlet import getcurrent

from .._core import scheduler
from .._core.descriptor import READ, TIMED_OUT, WRITE, Descriptor
from .._core.loop import monotonic
from .._core.tasks import DeadlineOver
from .._shown import shown
from ..net._names import ask
from ..net.addr import iptype

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    Address = tuple[Any, ...] | str | ReadableBuffer

BURST = 64
"""After this many calls in a row that didn't wait, the task lets others run."""
UNWAITED: int = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_ERRQUEUE", 0)
"""Flags of calls that do not wait, as in the standard library, which waits before such
a call only if there is a time-out."""
LONGEST = 2**63 / 1e9
"""The standard library refuses longer time-outs, in seconds."""

_T = TypeVar("_T")
_loop = scheduler.loop
_plain = socket.socket


class Socket(socket.socket):
    """A ``socket.socket`` whose calls block the task.

        sock = bridge.socket.Socket()
        sock.settimeout(5)
        sock.connect(("127.0.0.1", 8080))
        sock.sendall(b"hello")
        sock.recv(100)                      # -> b"hello"
        sock.close()

    ``Socket(fileno=sock.detach())`` makes one of a socket of the standard library. Its
    descriptor is non-blocking, and stays so after ``detach``.

    * A time-out (``settimeout``, in seconds) raises TimeoutError, and so does a
      ``time.deadline``. With the time-out 0 a call that would wait raises
      BlockingIOError.
    * ``close`` ends the waits of other tasks with OSError (EBADF).
    * One task may read while another writes. A second task that reads, or writes, gets
      RuntimeError while the first one waits.
    * When a cancel or a time-out strikes, the socket can be used on. What ``recv`` and
      ``accept`` did not take stays. Of what ``sendall`` was given a part may be sent,
      and nobody can tell how much; so close the socket, as after a time-out in threads.
    * In another thread, and in a callback of the loop, each call that may wait raises
      RuntimeError. ``close`` may be called anywhere.
    """

    __module__ = "silly.bridge.socket"
    __slots__ = ("_burst", "_record", "_timeout")

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)
        self._burst = 0
        """How many calls in a row did not wait."""
        self._record: Descriptor | None = None
        """Made when a call first waits."""
        self._timeout = super().gettimeout()
        super().settimeout(0.0)

    # ---- time-outs -------------------------------------------------------------------

    def settimeout(self, value: float | None, /) -> None:
        """Sets how many seconds a call may wait: None for ever, 0 not at all. Raises
        ValueError if ``value`` is negative."""
        if value is not None:
            value = value if isinstance(value, float) else float(index(value))
            if not value >= 0:
                raise ValueError("Timeout value out of range")
            if value > LONGEST:
                raise OverflowError("the time-out is too large")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """Returns the time-out in seconds, or None."""
        return self._timeout

    @property
    def timeout(self) -> float | None:
        """The time-out in seconds, or None."""
        return self._timeout

    def setblocking(self, flag: bool, /) -> None:
        """Sets the time-out to None, or to 0 if ``flag`` is False."""
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Returns False if the time-out is 0."""
        return self._timeout != 0.0

    # ---- what each call does ---------------------------------------------------------

    def _begin(self, events: int, what: str) -> None:
        """Begins the call ``what``, which may wait for ``events``. Raises RuntimeError
        where it can't be made, and if another task waits for the same."""
        _check(what)
        record = self._record
        if record is not None and (record._reader if events & READ else record._writer) is not None:
            _refuse_second(events, what)
        if self._burst >= BURST:
            self._burst = 0
            scheduler.pause()
        self._burst += 1

    def _until(self) -> float | None:
        """Returns the end of the time of a call that begins now, if that is limited."""
        return monotonic() + self._timeout if self._timeout else None

    def _wait(self, events: int, what: str, until: float | None) -> float | None:
        """Waits for ``events``, after EAGAIN. Returns the end of the call's time, for
        its next wait; ``until`` is None for its first one."""
        if until is None and self._timeout is not None:
            until = monotonic() + self._timeout
        record = self._record
        if record is None:
            record = self._record = Descriptor(self.fileno(), edge=True)
        self._burst = 0
        got = record.wait(events, what, until)
        if got > 0:
            return until
        if got == TIMED_OUT:
            raise TimeoutError("timed out")
        raise OSError(EBADF, os.strerror(EBADF))

    def _retry(self, events: int, what: str, flags: int, call: Callable[..., _T], *args: Any, until: float | None = None) -> _T:
        """Returns ``call(self, *args)``, tried again whenever it would block. ``flags``
        are among the arguments too; ``until`` is as for ``_wait``."""
        while True:
            try:
                return call(self, *args)
            except BlockingIOError:
                if self._timeout == 0.0 or (flags & UNWAITED and self._timeout is None):
                    raise
            until = self._wait(events, what, until)

    # ---- receiving -------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receives at most ``bufsize`` bytes; none at the peer's end."""
        self._begin(READ, "sock.recv")
        return self._retry(READ, "sock.recv", flags, _plain.recv, bufsize, flags)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """As ``recv``, into ``buffer``. Returns how many bytes came."""
        self._begin(READ, "sock.recv_into")
        return self._retry(READ, "sock.recv_into", flags, _plain.recv_into, buffer, nbytes, flags)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """As ``recv``. Returns the bytes and the sender's address."""
        self._begin(READ, "sock.recvfrom")
        return self._retry(READ, "sock.recvfrom", flags, _plain.recvfrom, bufsize, flags)

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As ``recvfrom``, into ``buffer``."""
        self._begin(READ, "sock.recvfrom_into")
        return self._retry(READ, "sock.recvfrom_into", flags, _plain.recvfrom_into, buffer, nbytes, flags)

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        """As ``recv``, with ancillary data. Returns a tuple of four, as ``socket``
        does."""
        self._begin(READ, "sock.recvmsg")
        return self._retry(READ, "sock.recvmsg", flags, _plain.recvmsg, bufsize, ancbufsize, flags)

    def recvmsg_into(self, buffers: Iterable[WriteableBuffer], ancbufsize: int = 0, flags: int = 0, /) -> Any:
        """As ``recvmsg``, into buffers."""
        self._begin(READ, "sock.recvmsg_into")
        return self._retry(READ, "sock.recvmsg_into", flags, _plain.recvmsg_into, buffers, ancbufsize, flags)

    # ---- sending ---------------------------------------------------------------------

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Sends what the kernel takes, and returns how many bytes that was."""
        self._begin(WRITE, "sock.send")
        return self._retry(WRITE, "sock.send", flags, _plain.send, data, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """Sends all of ``data``. When a cancel or a time-out strikes, a part of it may
        be sent already."""
        self._begin(WRITE, "sock.sendall")
        try:
            at = _plain.send(self, data, flags)
        except BlockingIOError:
            at = 0
        if type(data) is bytes and at == len(data):
            return
        until = self._until()
        with memoryview(data) as view, view.cast("B") as left:
            while at < len(left):
                self._begin(WRITE, "sock.sendall")
                at += self._retry(WRITE, "sock.sendall", flags, _plain.send, left[at:], flags, until=until)

    def sendto(self, data: ReadableBuffer, *args: Any) -> int:
        """``sendto(data, address)`` or ``sendto(data, flags, address)``: sends a
        datagram, and returns its length. A name in the address is looked up first,
        while the task waits."""
        self._begin(WRITE, "sock.sendto")
        if args:
            args = (*args[:-1], self._found(args[-1]))
        flags = args[0] if len(args) > 1 else 0
        return self._retry(WRITE, "sock.sendto", flags, _plain.sendto, data, *args)

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (),
        flags: int = 0,
        address: Address | None = None,
        /,
    ) -> int:
        """Sends the buffers together, with ancillary data, and returns how many bytes
        the kernel took."""
        self._begin(WRITE, "sock.sendmsg")
        return self._retry(WRITE, "sock.sendmsg", flags, _plain.sendmsg, buffers, ancdata, flags, self._found(address))

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Sends a binary file from ``offset`` on, at most ``count`` bytes, and returns
        how many were sent. Reading the file holds up all tasks, as it always does."""
        self._begin(WRITE, "sock.sendfile")
        # With ``os.sendfile`` the standard library would wait in a selector of its own.
        sent: int = self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined]
        return sent

    # ---- connecting ------------------------------------------------------------------

    def accept(self) -> tuple[socket.socket, Any]:
        """Waits for a connection. Returns its Socket and the peer's address."""
        self._begin(READ, "sock.accept")
        sock, address = self._retry(READ, "sock.accept", 0, _plain.accept)
        return _adopt(sock), address

    def bind(self, address: Address, /) -> None:
        """Binds the socket to an address of this machine. A name is looked up first,
        while the task waits."""
        _check("sock.bind")
        super().bind(self._found(address))

    def connect(self, address: Address, /) -> None:
        """Connects. A name is looked up first, while the task waits; the time-out
        counts for both. Raises OSError if it fails.

        After a cancel the same call may be made again, and goes on.
        """
        code = self._connect(address, "sock.connect")
        if code:
            raise OSError(code, os.strerror(code))

    def connect_ex(self, address: Address, /) -> int:
        """As ``connect``, but returns the number of the error, or 0. What a look-up
        raises is raised, and the error of a ``time.deadline``."""
        try:
            return self._connect(address, "sock.connect_ex")
        except DeadlineOver:
            raise
        except TimeoutError:
            return EAGAIN

    def _connect(self, address: Address, what: str) -> int:
        """Connects, and returns the number of an error, or 0."""
        self._begin(WRITE, what)
        until = self._until()
        address = self._found(address, until)
        code = super().connect_ex(address)
        if self._timeout == 0.0:
            return code
        while code in (EINPROGRESS, EALREADY):
            until = self._wait(WRITE, what, until)
            # An old event may have woken it. Asked again, the kernel tells.
            code = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or super().connect_ex(address)
            if code == EISCONN:
                return 0
        return code

    def _found(self, address: Any, until: float | None = None) -> Any:
        """Returns ``address`` with an IP address in place of a name: the plain calls
        look a name up in a blocking way."""
        if not isinstance(address, tuple) or len(address) < 2:
            return address
        host = address[0].decode() if isinstance(address[0], (bytes, bytearray)) else address[0]
        if not isinstance(host, str) or host in ("", "<broadcast>") or iptype(host):
            return address
        if self.family not in (socket.AF_INET, socket.AF_INET6):
            return address
        # Without the port: the call itself refuses a wrong one, and the look-up would
        # take it modulo 65536.
        found = _look_up((host, None, self.family, self.type, self.proto), until)[0][4]
        return (found[0], address[1], *(address[2:] or found[2:]))

    # ---- closing ---------------------------------------------------------------------

    def detach(self) -> int:
        """Closes this object, and returns the descriptor, which is open and
        non-blocking. Waits of other tasks end with OSError (EBADF)."""
        if self._record is not None:
            scheduler.check_thread(closes=True)
            self._record.forget()
        return super().detach()

    def _real_close(self, *_: Any) -> None:
        """The end of ``close``, for the standard library."""
        record = self._record
        if record is not None and record.registered:
            if get_ident() != _loop.thread:
                self._let_go()
                return
            record.forget()
        super()._real_close()  # type: ignore[misc]

    def _decref_socketios(self) -> None:
        """For the standard library: a file of ``makefile`` was closed. Its finalizer
        does that too, which may run anywhere."""
        self._io_refs: int
        if self._io_refs > 0:
            self._io_refs -= 1
        if self._closed and self._io_refs <= 0:  # type: ignore[attr-defined]
            self._let_go()

    def _let_go(self) -> None:
        """Closes the socket, in the loop's next turn if it is registered. May be called
        anywhere."""
        record, self._record = self._record, None
        if record is None or not record.registered or scheduler.over():
            super()._real_close()  # type: ignore[misc]
        else:
            _loop.post(_drop, record, super().detach())

    def __del__(self) -> None:
        record = getattr(self, "_record", None)  # there is none if ``__init__`` has raised
        if record is None or not record.registered:
            super().__del__()  # type: ignore[misc]
            return
        try:
            warnings.warn(f"unclosed {self}", ResourceWarning, stacklevel=2, source=self)
        finally:
            self._let_go()


def _refuse_second(events: int, what: str) -> NoReturn:
    verb = "reads from" if events & READ else "writes to"
    raise RuntimeError(f"{what}: another task {verb} this socket, and waits; only one may at a time")


def _drop(record: Descriptor, fd: int) -> None:
    """Closes the descriptor of a socket that nobody has any more."""
    record.forget()
    os.close(fd)


def _adopt(sock: socket.socket) -> Socket:
    """Makes a Socket of a socket of the standard library."""
    return Socket(sock.family, sock.type, sock.proto, sock.detach())


def _check(what: str) -> None:
    """Raises RuntimeError where the call ``what`` can't block."""
    if _loop.no_switch:
        scheduler.refuse(what)
    task = _loop.current
    if task is None or task._greenlet is not getcurrent():
        raise RuntimeError(scheduler.not_here("cannot block", what))


def _look_up(query: tuple[Any, ...], until: float | None = None) -> list[Any]:
    """Returns ``socket.getaddrinfo(*query)``. An IP address does not wait, nor does a
    host that is None."""
    host, port, *_ = query
    if (host is None or (isinstance(host, str) and iptype(host))) and isinstance(port, int | None):
        return socket.getaddrinfo(*query)
    try:
        return ask(socket.getaddrinfo, query, f"the look-up of {shown(host)}", until)
    except DeadlineOver:
        raise
    except TimeoutError:
        raise TimeoutError("timed out") from None
