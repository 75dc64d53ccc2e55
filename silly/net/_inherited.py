"""Sockets that somebody else has made: a connection for ``tcp.adopt``, a listening
socket for ``listen("fd:3")``.

A number says little. Descriptor 3 of a process that inherits nothing may be the loop's
own epoll, or a file that the program has open. So the system is asked what a descriptor
is, and whether a part of this process uses it, before anything is changed. Until it is
taken over it stays the caller's.
"""

from __future__ import annotations

import os
import socket
import stat
import sys

from .._core import scheduler
from .._core.descriptor import Descriptor
from .._wire.numbers import check_int
from . import addr as address

MOST = 2**31 - 1
"""The system takes an int of C."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a terminal or another device",
    stat.S_IFBLK: "a device",
}
_TYPES = {socket.SOCK_DGRAM: "a datagram socket", socket.SOCK_SEQPACKET: "a socket for packets"}

_loop = scheduler.loop


class Unusable(Exception):
    """Says in words why a descriptor can't be taken over."""


def number_of(what: str, sock: object) -> int:
    """Returns the descriptor of ``sock``, a ``socket.socket`` or a number. ``what``
    names the caller in errors: TypeError, ValueError; Unusable if it is closed."""
    if isinstance(sock, socket.socket):
        ssl = sys.modules.get("ssl")
        if ssl is not None and isinstance(sock, ssl.SSLSocket):
            raise TypeError(f"{what}: the TLS state of an ssl.SSLSocket would be lost: adopt its socket before the handshake")
        fd = sock.fileno()
        if fd < 0:
            raise Unusable("the socket is closed")
        return fd
    if isinstance(sock, bool) or not isinstance(sock, int):
        raise TypeError(f"{what} takes a socket.socket or the number of a descriptor, not {type(sock).__name__}")
    check_int(f"{what}: the number of a descriptor", sock, 0, MOST)
    return sock


def take_over(fd: int, *, listens: bool) -> socket.socket:
    """Returns the stream socket that ``fd`` is, which ``listens``, or else is
    connected. Nothing is changed yet: see ``make_ours``.

    Raises Unusable, or OSError. Then, or if the caller calls ``detach``, it is still
    the caller's.
    """
    sock = _socket(fd)
    try:
        _check(fd, sock, listens)
    except BaseException:
        sock.detach()
        raise
    return sock


def take_over_datagrams(fd: int) -> socket.socket:
    """``take_over`` for a socket of datagrams, IPv4 or IPv6."""
    sock = _socket(fd)
    try:
        if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
            kind = _TYPES.get(sock.type, "a stream socket")
            raise Unusable(f"descriptor {fd} is {kind} of family {socket.AddressFamily(sock.family).name}, not one for UDP")
        _check_free(fd)
    except BaseException:
        sock.detach()
        raise
    return sock


def _socket(fd: int) -> socket.socket:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        raise Unusable(f"descriptor {fd} is not open") from None
    if not stat.S_ISSOCK(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "an epoll, or another object of the kernel's")
        raise Unusable(f"descriptor {fd} is {kind}, not a socket")
    return socket.socket(fileno=fd)


def make_ours(sock: socket.socket) -> None:
    """Child processes don't inherit it any more, and it doesn't block; so it doesn't
    block where other processes share it."""
    sock.set_inheritable(False)
    sock.setblocking(False)


def _check(fd: int, sock: socket.socket, listens: bool) -> None:
    if sock.type != socket.SOCK_STREAM:
        raise Unusable(f"descriptor {fd} is {_TYPES.get(sock.type, 'a socket of another kind')}, not a stream socket")
    if sock.family not in _FAMILIES:
        raise Unusable(f"descriptor {fd} is a socket of another family than IPv4, IPv6 and Unix")
    _check_free(fd)
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        if listens:
            raise Unusable(f"descriptor {fd} is a socket that does not listen{_hint(fd, sock)}")
        sock.getpeername()  # raises OSError if it isn't connected
    elif not listens:
        raise Unusable(f"descriptor {fd} listens, and is no connection: tcp.listen takes it, as 'fd:{fd}'")


def _check_free(fd: int) -> None:
    """Raises Unusable if this process uses the descriptor. A stream whose peer has
    ended, and a listener that pauses, are not registered with the loop."""
    for handler in list(_loop.handlers):
        if getattr(handler, "fd", None) == fd and isinstance(handler, Descriptor) and not handler.wakes():
            handler.forget()  # a bridge's, for which no task waits
        elif getattr(handler, "fd", None) == fd or fd in getattr(handler, "fds", ()):
            raise Unusable(f"descriptor {fd} is in use in this process: {handler}")
    if _loop.watches(fd):
        raise Unusable(f"descriptor {fd} is in use in this process by silly itself")


def in_use(fd: int) -> bool:
    """Whether this process's loop uses the descriptor."""
    try:
        _check_free(fd)
    except Unusable:
        return True
    return False


def _hint(fd: int, sock: socket.socket) -> str:
    try:
        sock.getpeername()
    except OSError:
        return ""
    return f": it is a connection, which tcp.adopt({fd}) takes"


def peer_of(sock: socket.socket) -> str:
    """Returns the address of a connection's peer as text. A Unix socket that was
    accepted has the listener's. Raises OSError if it isn't connected."""
    name = sock.getpeername()
    if sock.family == socket.AF_UNIX and not name:
        name = sock.getsockname()
    return address.sockaddr_text(sock.family, name)
