"""Listening for tcp and tls: accepting and closing. ``_binding.py`` binds."""

from __future__ import annotations

import errno as os_errno
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .. import errno
from .._core import scheduler
from .._core.loop import READ, QuietHandler, monotonic
from .._core.result import OK, Result, failure
from .._core.waiting import Leaving
from .._log import tcp as logger
from .._shown import cut
from .._wire.numbers import check_int
from . import addr as address
from ._binding import Bound, Rights, bind, check_rights, find_place
from ._inherited import Unusable
from ._names import NoSuchOwner

if TYPE_CHECKING:
    from ._newcomers import Newcomers

BACKLOG = 1024
MOST_BACKLOG = 2**31 - 1
"""The system takes an int of C, and lowers it to what it allows."""
ACCEPTS = 64
"""The most connections accepted in one event, so that a flood of them can't starve
others."""
LAST_ACCEPTS = 4096
"""The most connections that a listener accepts when it closes, so that a flood can't
keep it open. No queue is longer, unless the system was told so (``somaxconn``)."""
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


def _remote(sock: socket.socket, name: Any) -> str:
    """Returns the address of an accepted connection's peer ``name`` as text; of a Unix
    socket that of the listener, since its peers have none."""
    if type(name) is tuple:
        return address.sockaddr_text(sock.family, name)
    return address.sockaddr_text(socket.AF_UNIX, sock.getsockname())


class _Ending(QuietHandler):
    """The loop's ``Handler`` of a listener, which closes when the process ends."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    @property
    def fds(self) -> list[int]:
        """Its descriptors."""
        bound = self._listener._bound
        return [] if bound is None else [sock.fileno() for sock in bound.socks]

    def wakes(self) -> bool:
        """A listener can always wake a task."""
        return True

    def close(self) -> None:
        """Closes the listener. Handlers of its connections go on."""
        self._listener.close()

    abort = close

    def shutdown(self) -> None:
        """The process drains: what waits in the kernel is accepted first."""
        self._listener._empty()

    def disown(self) -> None:
        """In a child of ``os.fork`` the parent goes on listening."""
        bound, self._listener._bound = self._listener._bound, None
        assert bound is not None
        bound.disown()

    def __repr__(self) -> str:
        return repr(self._listener)


class Listener:
    """What listens at an address, and a context manager that closes it.

    ``addrs`` is a tuple of all addresses at which it listens, with the actual port: a
    name may have several. ``addr`` is the first of them, and ``port`` is the number, 0
    for a Unix domain socket.
    """

    def __init__(
        self, bound: Bound, accepted: Callable[[socket.socket, str], object], newcomers: Newcomers | None = None
    ) -> None:
        self._bound: Bound | None = bound
        self._accepted = accepted
        self.newcomers = newcomers
        """The connections whose handler doesn't run yet, if it doesn't at once."""
        self._exhausted = False
        self._paused = False
        self.addrs = bound.addrs
        self.addr = bound.addrs[0]
        self.port = bound.port
        self.on_close: Callable[[], object] | None = None
        self._register(bound)
        bound.opened(self._take, self._let_go)
        self._handler = _Ending(self)
        _loop.handlers.add(self._handler)
        _loop.listeners += 1

    def _register(self, bound: Bound) -> None:
        registered = []
        try:
            for sock in bound.socks:
                sock.setblocking(False)
                _loop.register(sock.fileno(), READ, partial(self._on_event, sock))
                registered.append(sock)
        except BaseException:
            for sock in registered:
                _loop.unregister(sock.fileno())
            raise

    def _unregister(self, bound: Bound) -> None:
        for sock in bound.socks:
            _loop.unregister(sock.fileno())

    def _take(self, sock: socket.socket) -> None:
        """Accepts from another socket too, which is the same for the peers."""
        assert self._bound is not None
        sock.setblocking(False)
        if not self._paused:
            _loop.register(sock.fileno(), READ, partial(self._on_event, sock))
        self._bound.socks.append(sock)

    def _let_go(self, sock: socket.socket) -> None:
        """Ends ``_take``."""
        assert self._bound is not None
        self._bound.socks.remove(sock)
        if not self._paused:
            _loop.unregister(sock.fileno())

    def _on_event(self, listening: socket.socket, mask: int) -> None:
        if not scheduler.begins and self._bound is not None and self._bound.inherited:
            return  # the process has begun to end in this turn: who waits is for another one
        for _ in range(ACCEPTS):
            if self._bound is None:
                return
            try:
                sock, name = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno in _EXHAUSTED:
                    self._pause(exc)
                else:
                    # accept(2) reports network errors of the new connection here; the
                    # listener is fine.
                    text = f"listener {self.addr}: a connection broke before it was accepted: {exc.strerror}"
                    logger.limited("listener broken", text)
                return
            self._exhausted = False
            self._welcome(sock, name)

    def _welcome(self, sock: socket.socket, name: Any) -> None:
        """Hands an accepted connection, whose peer is ``name``, on to its handler."""
        try:
            sock.setblocking(False)
            if type(name) is tuple:  # none of a Unix socket
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()  # the peer has reset it already
            return
        self._accepted(sock, _remote(sock, name))

    def _pause(self, exc: OSError) -> None:
        """Stops accepting for ``PAUSE`` seconds. Without free descriptors the same
        waiting connection would be reported again and again."""
        assert self._bound is not None
        if not self._exhausted:
            self._exhausted = True
            text = f"listener {self.addr}: {exc.strerror}: accepting pauses until descriptors are free"
            logger.limited("listener full", text, logger.ERROR)
        self._paused = True
        self._unregister(self._bound)
        self._resume_later()

    def _resume_later(self) -> None:
        _loop.timers.add(monotonic() + PAUSE, self._resume, internal=True)

    def _resume(self, _: None) -> None:
        if self._bound is not None and self._paused:
            try:
                self._register(self._bound)
            except OSError:  # the system has not even the memory to watch a descriptor
                self._resume_later()
            else:
                self._paused = False

    def close(self) -> Result:
        """Stops listening; connections stay open. Returns ``(False, errno.CLOSED)`` if
        the listener was closed before.

            listener.close()                    # -> (True, None)

        Connections that wait in the kernel's queue, and were not accepted yet, are
        reset.
        """
        scheduler.check_thread(closes=True)
        bound = self._release()
        if bound is None:
            return failure(errno.CLOSED)
        bound.close()
        if self.on_close is not None:
            self.on_close()
        return OK

    def _release(self) -> Bound | None:
        """Forgets the sockets, and returns them; None if the listener is closed."""
        bound, self._bound = self._bound, None
        if bound is not None:
            if not self._paused:
                self._unregister(bound)
            _loop.handlers.discard(self._handler)
            del self._handler  # it refers to this listener
            _loop.listeners -= 1
        return bound

    def _empty(self) -> Result:
        """As ``close``, but first accepts what waits in the kernel's queue, at most
        ``LAST_ACCEPTS`` connections: their peers get an answer instead of a reset. The
        queue of a socket that another process has too is left to that. Headers of the
        PROXY protocol and handshakes get the time of a newcomer."""
        scheduler.check_thread(closes=True)
        bound = self._release()
        if bound is None:
            return failure(errno.CLOSED)
        waiting: list[tuple[socket.socket, Any]] = []
        if bound.inherited:
            bound.close()
        else:
            # Only accepted before the socket closes, and welcomed afterwards: what
            # comes in between is reset.
            bound.empty(lambda sock: self._accept_last(sock, waiting))
        if self.on_close is not None:
            self.on_close()
        for sock, name in waiting:
            self._welcome(sock, name)
        if self.newcomers is not None:
            self.newcomers.hurry()
        return OK

    def _accept_last(self, listening: socket.socket, waiting: list[tuple[socket.socket, Any]]) -> None:
        try:
            while len(waiting) < LAST_ACCEPTS:
                with suppress(ConnectionAbortedError, InterruptedError):
                    waiting.append(listening.accept())
            text = f"closes with more than {LAST_ACCEPTS} connections in its queue: the rest is reset"
            logger.warn(f"listener {self.addr}: {text}")
        except BlockingIOError:
            pass  # the queue is empty
        except OSError as exc:
            logger.warn(f"listener {self.addr}: {exc.strerror}: connections that wait in its queue are reset")

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<listener {', '.join(self.addrs)}{'' if self._bound else ' closed'}>"


L = TypeVar("L", bound=Listener)


def _ending() -> bool:
    """Whether the process is ending, so that nothing may listen any more."""
    return not scheduler.begins


def listen_as(
    kind: type[L],
    what: str,
    scheme: str,
    addr: str,
    accepted: Callable[[socket.socket, str], object],
    backlog: int | None,
    rights: Rights,
    newcomers: Newcomers | None = None,
) -> tuple[L, None] | tuple[None, str]:
    """Binds and listens, with a listener of class ``kind``. Blocks the current task
    while a name in ``addr`` or ``rights`` is looked up. Logs where it listens, with
    ``scheme``. A failure is logged as well as returned, since most programs ignore the
    result. ``what`` names the caller in errors."""
    scheduler.check_thread()
    check_rights(what, addr, rights, backlog)
    if backlog is not None:
        check_int(f"{what}: the backlog", backlog, 0, MOST_BACKLOG)
    if _ending():
        return None, errno.CLOSED
    try:
        place = find_place(what, addr, rights)
        if _ending():  # by now
            return None, errno.CLOSED
        bound = bind(what, addr, place, rights.mode, BACKLOG if backlog is None else backlog)
        try:
            listener = kind(bound, accepted, newcomers)
        except BaseException:
            bound.give_up()
            raise
        where = [f"{each} ({scheme})" if each.startswith("unix:") else f"{scheme}://{each}" for each in bound.addrs]
        try:
            logger.info(f"listening on {', '.join(where)}")
        except BaseException:  # a handler of the application has raised an end
            listener.close()
            raise
    except Leaving:
        return None, errno.CLOSED
    except (socket.gaierror, UnicodeError) as exc:  # UnicodeError: not a valid name
        err, why = errno.RESOLVE, f"{errno.RESOLVE}: {getattr(exc, 'strerror', exc)}"
    except (NoSuchOwner, Unusable) as exc:
        err = why = str(exc)
    except OSError as exc:
        err = errno.from_oserror(exc)
        why = ": ".join([*getattr(exc, "__notes__", ()), err])
    else:
        if scheduler.listens is not None:
            scheduler.listens()
        return listener, None
    logger.error(f"{what} {cut(addr)}: {why}")
    return None, err
