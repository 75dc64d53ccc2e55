"""Connecting. A worker thread looks up a name, and its addresses race (RFC 8305, "Happy
Eyeballs").

The addresses of both families alternate. An attempt runs alone for ``STAGGER`` seconds,
or until it fails; then the next one starts. The first to connect wins, and the others
are closed. So a dead address family costs a quarter of a second at most.
"""

from __future__ import annotations

import errno as os_errno
import socket
from typing import Literal

from .. import errno
from .._core import scheduler
from .._core.callers import seconds_meant
from .._core.loop import WRITE, QuietHandler, monotonic
from .._core.timers import Timer
from .._core.waiting import Leaving, Waiters
from .._shown import cut, shown
from .._wire.numbers import check_ms
from . import addr as address
from ._names import Address, lookup

STAGGER = 0.25
"""Seconds before the next attempt starts beside the last (RFC 8305, section 5)."""

_loop = scheduler.loop


class Progress:
    """How far a connect has got."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase: Literal["resolve", "connect", "tls"] = "resolve"


def dial(
    addr: str, bind: str | None, timeout: float | None, what: str, progress: Progress | None = None
) -> tuple[socket.socket, None] | tuple[None, str]:
    """Returns a connected, non-blocking socket, or an error of ``silly.errno``.
    ``progress`` is kept up to date.

    ``timeout`` (ms) bounds look-up and connecting together, as does a ``time.deadline``
    around the call. ``bind`` is the local address, and ``what`` names the caller in
    errors. Raises TypeError, ValueError, and RuntimeError in another thread.
    """
    scheduler.check_thread()
    path = address.socketpath(addr, what)
    host, port = (path, 0) if path is not None else address.endpoint(addr, what)
    local = None if bind is None else _local(bind, what)
    if timeout is not None:
        check_ms(f"{what}: a time-out", timeout)
        if 0 < timeout < 1:
            seconds_meant(timeout)
    if scheduler.leaving():
        return None, errno.CLOSED
    deadline = None if timeout is None else monotonic() + timeout / 1000
    if path is not None:
        return _Race([(socket.AF_UNIX, path)], local, deadline).run(addr)
    found = _lookup(host or "localhost", port, deadline, addr)
    if isinstance(found, str):
        return None, found
    if local is not None:
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        found = [each for each in found if each[0] == family]
        if not found:
            return None, errno.AFNOSUPPORT
    if progress is not None:
        progress.phase = "connect"
    return _Race(found, local, deadline).run(addr)


def _local(bind: str, what: str) -> tuple[str, int]:
    if not isinstance(bind, str):
        raise TypeError(f"{what}: bind is an IP address such as '127.0.0.1', not {type(bind).__name__}")
    if address.isv6(bind):
        return bind, 0
    host, port = address.parse(bind)
    if host is None or address.ishost(host):
        raise ValueError(f"{what}: bind needs an IP address of this machine, with or without a port, not {shown(bind)}")
    return address.endpoint(address.join(host, port or 0), what)  # type: ignore[return-value]


def _lookup(host: str, port: int, deadline: float | None, addr: str) -> list[Address] | str:
    """Returns the addresses of a host in the order to try them, or an error."""
    try:
        return interleave(lookup(host, port, socket.AI_ADDRCONFIG, f"the look-up of {cut(addr)}", deadline))
    except Leaving:
        return errno.CLOSED
    except TimeoutError:  # also that of a ``time.deadline``
        return errno.TIMEDOUT
    except (OSError, UnicodeError):
        return errno.RESOLVE


def interleave(found: list[Address]) -> list[Address]:
    """Reorders addresses so that the two families alternate, beginning with the first
    one's (RFC 8305, section 4)."""
    first = [each for each in found if each[0] == found[0][0]]
    other = [each for each in found if each[0] != found[0][0]]
    mixed: list[Address] = []
    for i in range(max(len(first), len(other))):
        mixed += first[i : i + 1] + other[i : i + 1]
    return mixed


def _forget(result: socket.socket | str) -> None:
    """Closes a connection that is no longer wanted."""
    if isinstance(result, socket.socket):
        result.close()


class _Race(QuietHandler):
    """Attempts to connect, side by side, for one waiting task."""

    watched: int | None = None

    def __init__(self, addresses: list[Address], local: tuple[str, int] | None, deadline: float | None) -> None:
        self._addresses = addresses
        self._local = local
        self._deadline = deadline
        self._attempts: set[socket.socket] = set()
        self._timer: Timer | None = None
        self._error: str | None = None
        self._waiting: Waiters[socket.socket | str] = Waiters()

    def run(self, addr: str) -> tuple[socket.socket, None] | tuple[None, str]:
        """Blocks until one attempt connects, all have failed, or time is up."""
        sock = self._next()
        if sock is not None:
            return sock, None
        if not self._attempts:
            return None, self._error or errno.ADDRNOTAVAIL
        timer = None
        if self._deadline is not None:
            timer = _loop.timers.add(self._deadline, lambda _: self._finish(errno.TIMEDOUT), internal=True)
        _loop.handlers.add(self)
        _loop.watch(self)
        try:
            result = self._waiting.wait(f"the connection to {cut(addr)}", _forget)
        except Leaving:
            return None, errno.CLOSED
        except scheduler.DeadlineOver:
            return None, errno.TIMEDOUT
        finally:
            self._end()
            if timer is not None:
                _loop.timers.cancel(timer)
        return (None, result) if isinstance(result, str) else (result, None)

    def _stagger_over(self, _: None) -> None:
        self._timer = None
        sock = self._next()
        if sock is not None:
            self._finish(sock)

    def _next(self) -> socket.socket | None:
        """Starts attempts until one is under way, or connects at once; that one is
        returned, and the caller owns it."""
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None
        while self._addresses:
            family, sockaddr = self._addresses.pop(0)
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as exc:
                self._failed(errno.from_oserror(exc))
                continue
            try:
                sock.setblocking(False)
                if family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if self._local is not None:
                        sock.bind(self._local)
                code = sock.connect_ex(sockaddr)
            except OSError as exc:
                sock.close()
                self._failed(errno.from_oserror(exc))
                continue
            if code == 0:
                return sock
            if code == os_errno.EINPROGRESS:
                self._attempts.add(sock)
                _loop.register(sock.fileno(), WRITE, lambda mask, sock=sock: self._on_event(sock))  # type: ignore[misc]
                if self._addresses:
                    self._timer = _loop.timers.add(monotonic() + STAGGER, self._stagger_over, internal=True)
                return None
            sock.close()
            self._failed(errno.from_oserror(OSError(code, "")))
        return None

    def _failed(self, err: str) -> None:
        # Keep the error of the first address, which the host prefers: it says most.
        self._error = self._error or err

    def _on_event(self, sock: socket.socket) -> None:
        if sock not in self._attempts:
            return  # closed earlier in this turn
        self._attempts.discard(sock)
        _loop.unregister(sock.fileno())
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            self._finish(sock)
            return
        sock.close()
        self._failed(errno.from_oserror(OSError(code, "")))
        after = self._next()
        if after is not None:
            self._finish(after)
        elif not self._attempts:
            self._finish(self._error or errno.CONNREFUSED)

    def _finish(self, result: socket.socket | str) -> None:
        if not self._waiting.wake_one(result):
            _forget(result)  # another attempt has won, and the task has not run yet

    def _end(self) -> None:
        """Closes the attempts that are still under way."""
        _loop.forget(self)
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None
        self._addresses.clear()
        for sock in self._attempts:
            _loop.unregister(sock.fileno())
            sock.close()
        self._attempts.clear()

    def wakes(self) -> bool:
        """For the loop: an attempt can always wake its task."""
        return True

    def close(self) -> None:
        """For the loop: the waiting task's own end closes the attempts."""

    def abort(self) -> None:
        """For the loop: close at once."""
        self._end()

    def disown(self) -> None:
        """For the loop, in a child of ``os.fork``: the attempts are the parent's."""
        for sock in self._attempts:
            sock.close()
        self._attempts.clear()
        self.watched = None
