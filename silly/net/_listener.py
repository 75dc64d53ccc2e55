"""Listening sockets for tcp and tls: binding, accepting, closing."""

from __future__ import annotations

import errno as os_errno
import os
import socket
import stat
from collections.abc import Callable
from time import monotonic
from typing import Protocol, TypeVar

from .. import errno
from .._core import scheduler
from .._core.loop import READ
from .._core.result import OK, Result, failure
from .._log import tcp as logger
from .._shown import cut
from .._wire.numbers import check_int
from . import addr as address

BACKLOG = 1024
MOST_BACKLOG = 2**31 - 1
"""The system takes an int of C, and lowers it to what it allows."""
ACCEPTS = 64
"""The most connections accepted in one event, so that a flood of them can't starve
others."""
PAUSE = 1.0
"""Seconds without accepting after the process has run out of descriptors."""

_EXHAUSTED = (os_errno.EMFILE, os_errno.ENFILE, os_errno.ENOBUFS, os_errno.ENOMEM)
_loop = scheduler.loop


class Admission(Protocol):
    """Counts a listener's connections, and limits them. ``host`` is a peer's address
    without the port."""

    def enter(self, host: str) -> bool:
        """Counts an accepted connection. Returns False if it is one too many; then
        ``leave`` is not called for it."""

    def leave(self, host: str) -> None:
        """Uncounts a connection that was let in: its handler has ended, and its
        descriptor is free."""


def host_of(remoteaddr: str) -> str:
    """Returns a peer's address without the port, as an ``Admission`` counts it."""
    return remoteaddr.rpartition(":")[0]


def bind(addr: str, what: str) -> socket.socket:
    """Returns a socket bound to ``addr``. Raises OSError, and ValueError if ``addr`` is
    not an address."""
    path = address.socketpath(addr, what)
    if path is not None:
        return _bind_unix(path)
    host, port = address.endpoint(addr, what)
    if host is None:
        return _bind_any(port)
    family, _, _, _, sockaddr = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return _bind_inet(socket.AddressFamily(family), sockaddr)


def _bind_inet(family: socket.AddressFamily, sockaddr: object, both: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        sock.bind(sockaddr)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_any(port: int) -> socket.socket:
    """Binds every address: an IPv6 socket that takes IPv4 too, or an IPv4 socket on a
    machine without IPv6."""
    try:
        return _bind_inet(socket.AF_INET6, ("::", port), both=True)
    except OSError as exc:
        if exc.errno not in (os_errno.EAFNOSUPPORT, os_errno.EADDRNOTAVAIL, os_errno.ENOPROTOOPT):
            raise
    return _bind_inet(socket.AF_INET, ("0.0.0.0", port))


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as exc:
            if exc.errno != os_errno.EADDRINUSE or not _stale(path):
                raise
            os.unlink(path)
            sock.bind(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _stale(path: str) -> bool:
    """Whether ``path`` is a socket that an ended process left behind."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == os_errno.ECONNREFUSED


class _Ending:
    """The loop's ``Handler`` of a listener, which closes when the process ends."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def wakes(self) -> bool:
        """A listener can always wake a task."""
        return True

    def close(self) -> None:
        """Closes the listener. Handlers of its connections go on."""
        self._listener.close()

    shutdown = abort = close

    def disown(self) -> None:
        """In a child of ``os.fork`` the parent goes on listening."""
        sock, self._listener._sock = self._listener._sock, None
        assert sock is not None
        sock.close()

    def hurry(self, last: bool) -> None:
        """Does nothing: it is closed."""

    def __repr__(self) -> str:
        return repr(self._listener)


class Listener:
    """A listening socket, and a context manager that closes it. ``addr`` is where it
    listens, with the actual port; ``port`` is that number, 0 for a Unix domain
    socket."""

    def __init__(self, sock: socket.socket, accepted: Callable[[socket.socket, str], object], backlog: int | None) -> None:
        sock.listen(BACKLOG if backlog is None else backlog)
        sock.setblocking(False)
        self._sock: socket.socket | None = sock
        self._accepted = accepted
        self._exhausted = False
        self._paused = False
        name = sock.getsockname()
        self._unix: tuple[str, int] | None = None
        if sock.family == socket.AF_UNIX:
            self._unix = name, os.stat(name).st_ino
        self.addr = address.sockaddr_text(sock.family, name)
        self.port: int = 0 if self._unix else name[1]
        self.on_close: Callable[[], object] | None = None
        _loop.register(sock.fileno(), READ, self._on_event)
        self._handler = _Ending(self)
        _loop.handlers.add(self._handler)
        _loop.listeners += 1

    def _on_event(self, mask: int) -> None:
        if not scheduler.begins:
            return  # the process has begun to end in this turn, and closes the listener at the end of it
        for _ in range(ACCEPTS):
            if self._sock is None:
                return
            try:
                sock, name = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno in _EXHAUSTED:
                    self._pause(exc)
                else:
                    # accept(2) reports network errors of the new connection here; the
                    # listener is fine.
                    text = f"listener {self.addr}: a connection broke before it was accepted: {exc.strerror}"
                    logger._limited("listener broken", text)
                return
            self._exhausted = False
            try:
                sock.setblocking(False)
                if self._unix is None:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                sock.close()  # the peer has reset it already
                continue
            self._accepted(sock, address.sockaddr_text(sock.family, name) if self._unix is None else self.addr)

    def _pause(self, exc: OSError) -> None:
        """Stops accepting for ``PAUSE`` seconds. Without free descriptors the same
        waiting connection would be reported again and again."""
        assert self._sock is not None
        if not self._exhausted:
            self._exhausted = True
            text = f"listener {self.addr}: {exc.strerror}: accepting pauses until descriptors are free"
            logger._limited("listener full", text, logger.ERROR)
        self._paused = True
        _loop.unregister(self._sock.fileno())
        _loop.timers.add(monotonic() + PAUSE, self._resume, internal=True)

    def _resume(self, _: None) -> None:
        if self._sock is not None and self._paused:
            self._paused = False
            _loop.register(self._sock.fileno(), READ, self._on_event)

    def close(self) -> Result:
        """Stops listening; connections stay open. Returns ``(False, errno.CLOSED)`` if
        the listener was closed before.

            listener.close()                    # -> (True, None)
        """
        scheduler.check_thread(closes=True)
        sock = self._sock
        if sock is None:
            return failure(errno.CLOSED)
        self._sock = None
        if not self._paused:
            _loop.unregister(sock.fileno())
        _loop.handlers.discard(self._handler)
        del self._handler  # it refers to this listener
        _loop.listeners -= 1
        sock.close()
        if self._unix is not None:
            path, inode = self._unix
            try:
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
            except OSError:
                pass  # it is gone, or now another's
        if self.on_close is not None:
            self.on_close()
        return OK

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<listener {self.addr}{'' if self._sock else ' closed'}>"


L = TypeVar("L", bound=Listener)


def listen(
    what: str, addr: str, accepted: Callable[[socket.socket, str], object], backlog: int | None
) -> tuple[Listener, None] | tuple[None, str]:
    """Binds and listens. A failure is logged as well as returned, since most programs
    ignore the result."""
    return listen_as(Listener, what, addr, accepted, backlog)


def listen_as(
    kind: type[L], what: str, addr: str, accepted: Callable[[socket.socket, str], object], backlog: int | None
) -> tuple[L, None] | tuple[None, str]:
    """As ``listen``, but makes a listener of class ``kind``."""
    scheduler.check_thread()
    if backlog is not None:
        check_int(f"{what}: the backlog", backlog, 0, MOST_BACKLOG)
    if not scheduler.begins:
        return None, errno.CLOSED  # the process is ending
    try:
        sock = bind(addr, what)
        try:
            return kind(sock, accepted, backlog), None
        except BaseException:
            sock.close()
            raise
    except (socket.gaierror, UnicodeError) as exc:  # UnicodeError: not a valid name
        err, why = errno.RESOLVE, f"{errno.RESOLVE}: {getattr(exc, 'strerror', exc)}"
    except OSError as exc:
        err = why = errno.from_oserror(exc)
    logger.error(f"{what} {cut(addr)}: {why}")
    return None, err
