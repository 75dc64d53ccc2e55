"""A socket of datagrams on the loop: the queue of what has come, and its end.

The loop receives what comes, and hands it to the task that waits longest, or queues it.
When the queue is full, receiving pauses. The kernel then keeps what its own buffer
holds, drops the rest, and counts what it drops. So a flood that nobody reads costs this
process nothing, and what is kept is the oldest.

An error of the network, such as a port at which nobody listens, is queued as what came
is: ``(None, err)``. The socket goes on.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from collections import deque

from .. import errno
from .._core import scheduler
from .._core.loop import READ, QuietHandler, monotonic
from .._core.waiting import Waiters
from ._udp_address import Family, place_of, text_of, texts

EVENT = 64
"""The most datagrams received in one event, so that a flood can't starve others."""
LARGEST = 65535
"""No datagram is longer."""
AGAIN = 1.0
"""Seconds until receiving is tried again, if the system refuses to resume it."""
COST = 256
"""What a queued datagram takes beside its bytes, roughly: empty ones are bounded
too."""

_MEMINFO = 55 if sys.platform == "linux" else None
"""Linux's ``SO_MEMINFO``. The last of its nine numbers counts what was dropped."""
_loop = scheduler.loop

Came = tuple[bytes, str] | tuple[None, str]
"""A datagram and its address, or None and an error."""


class Datagrams(QuietHandler):
    """See the module's header."""

    def __init__(self, sock: socket.socket, family: Family, mark: int) -> None:
        self.sock: socket.socket | None = sock
        self.fd: int | None = sock.fileno()
        self.addr = text_of(family, sock.getsockname())
        """The local address."""
        self.mark = mark
        self.unread = 0
        self.waiters: Waiters[Came] = Waiters()
        self.watchers: Waiters[None] = Waiters()
        """Those that wait in ``task.select``."""
        self.queue: deque[Came] = deque()
        """What has come. While a task waits it is empty."""
        self.watched: int | None = None
        """For the loop: see ``Watched`` there."""
        self._family = family
        self._dropped = 0
        """What the kernel had dropped when the socket was closed."""
        self._paused = False
        self._turn = 0
        """The loop's turn in which something came last."""
        sock.setblocking(False)
        _loop.register(sock.fileno(), READ, self._on_event)
        _loop.handlers.add(self)

    # ---- receiving -------------------------------------------------------------------

    def _on_event(self, mask: int) -> None:
        # One datagram and its answer are most frequent, so the second receive would be
        # in vain. If more are there, the loop says so in its next turn.
        turns, self._turn = _loop.turns - self._turn, _loop.turns
        for _ in range(EVENT if turns < 2 else 1):
            if self.sock is None:
                return
            try:
                data, sockaddr = self.sock.recvfrom(LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._put((None, errno.from_oserror(exc)))
                return
            addr = texts.get(sockaddr) or text_of(self._family, sockaddr)
            if self.waiters.first is not None:
                self.waiters.wake_one((data, addr))
                continue
            self._put((data, addr))
            if self._full():
                self._pause()
                return

    def _put(self, came: Came) -> None:
        """Hands out or queues what has come."""
        if self.waiters.first is not None:
            self.waiters.wake_one(came)
            return
        if came[0] is None and self.queue and self.queue[-1] == came:
            return  # once is enough: nobody may ever receive here
        self.queue.append(came)
        self.unread += len(came[0] or b"")
        if self.watchers.first is not None:
            self.watchers.wake_all()

    def give_back(self, came: Came) -> None:
        """Takes back what a task was woken with, and did not get: it comes first."""
        if self.sock is None or self.waiters.wake_one(came):
            return
        self.queue.appendleft(came)
        self.unread += len(came[0] or b"")
        if self.watchers.first is not None:
            self.watchers.wake_all()

    def take(self) -> Came:
        """Takes the first of the queue, which isn't empty."""
        came = self.queue.popleft()
        self.unread -= len(came[0] or b"")
        if self._paused and self._size() <= self.mark // 2:
            self._resume()
        return came

    def wait(self, timeout: float | None) -> Came:
        """Waits for what comes next. Raises what ``Waiters.wait`` does."""
        if self.watched is None:
            _loop.watch(self)
        return self.waiters.wait(self, self.give_back, self._missed, timeout)

    def watch(self, watch: scheduler.Task) -> None:
        """Wakes ``watch`` when something comes, for ``task.select``."""
        if self.watched is None:
            _loop.watch(self)
        self.watchers.add(watch)

    def _missed(self) -> None:
        """Wakes the task that begins to wait if a signal handler has received, or
        closed, since it looked."""
        if self.sock is None:
            self.waiters.wake_all((None, errno.CLOSED))
        while self.queue and self.waiters.first is not None:
            self.waiters.wake_one(self.take())

    # ---- the limit -------------------------------------------------------------------

    def _size(self) -> int:
        return self.unread + COST * len(self.queue)

    def _full(self) -> bool:
        return self._size() >= self.mark

    def _pause(self) -> None:
        assert self.fd is not None
        self._paused = True
        _loop.unregister(self.fd)

    def _resume(self, _: None = None) -> None:
        if self.fd is None or not self._paused:
            return  # the timer was late
        try:
            _loop.register(self.fd, READ, self._on_event)
        except OSError:  # the system has not even the memory to watch a descriptor
            _loop.timers.add(monotonic() + AGAIN, self._resume, internal=True)
        else:
            self._paused = False

    def set_mark(self, mark: int) -> None:
        """Sets the size of the queue at which receiving pauses."""
        self.mark = mark
        if self.sock is not None and self._full() != self._paused:
            if self._paused:
                self._resume()
            else:
                self._pause()

    @property
    def dropped(self) -> int | None:
        """How many datagrams the kernel has dropped because there was no room; None if
        it doesn't tell."""
        if self.sock is None:
            return self._dropped
        if _MEMINFO is None:
            return None
        try:
            return int(struct.unpack("=9I", self.sock.getsockopt(socket.SOL_SOCKET, _MEMINFO, 36))[8])
        except (OSError, struct.error):  # before Linux 4.12
            return None

    # ---- sending ---------------------------------------------------------------------

    def send(self, data: bytes, addr: str | None) -> str | None:
        """Sends a datagram, without waiting. Returns None or the error. Raises
        TypeError or ValueError for an address that is none."""
        sock = self.sock
        if sock is None:
            return errno.CLOSED
        try:
            if addr is None:
                try:
                    sock.send(data)
                except ConnectionRefusedError as exc:
                    # That was an earlier datagram, and this one was not sent.
                    self._put((None, errno.from_oserror(exc)))
                    sock.send(data)
                return None
            place = self._family.places.get(addr) or place_of(self._family, addr)
            if place is None:
                return errno.AFNOSUPPORT
            try:
                sock.sendto(data, place)
            except ConnectionRefusedError as exc:
                self._put((None, errno.from_oserror(exc)))
                sock.sendto(data, place)
        except OSError as exc:
            return errno.from_oserror(exc)
        except TypeError:  # a list, for example, which no dict can look up
            place_of(self._family, addr)  # type: ignore[arg-type]  # says what is wrong
            raise
        return None

    def unsent(self) -> int:
        """How many bytes the kernel has not sent yet."""
        if self.sock is None:
            return 0
        try:
            return int(struct.unpack("=i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
        except OSError:
            return 0

    # ---- what the loop calls ---------------------------------------------------------

    def wakes(self) -> bool:
        """For the loop: whether a datagram can wake a task."""
        return self.waiters.first is not None or self.watchers.first is not None

    def close(self) -> bool:
        """Closes the socket, drops what is queued, and wakes all tasks that wait.
        Returns False if it was closed before."""
        sock = self.sock
        if sock is None:
            return False
        self._dropped = self.dropped  # type: ignore[assignment]
        if not self._paused:
            _loop.unregister(sock.fileno())
        _loop.forget(self)
        self._forget(sock)
        self.waiters.wake_all((None, errno.CLOSED))
        self.watchers.wake_all()
        return True

    def abort(self) -> None:
        """For the loop: see ``close``."""
        self.close()

    def disown(self) -> None:
        """For the loop, in a child of ``os.fork``: the socket is the parent's."""
        if self.sock is not None:
            self.watched = None
            self._forget(self.sock)

    def _forget(self, sock: socket.socket) -> None:
        self.sock = self.fd = None
        self.queue.clear()
        self.unread = 0
        sock.close()

    def __repr__(self) -> str:
        return f"the udp socket {self.addr}"
