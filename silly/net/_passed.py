"""Sockets that systemd has passed: ``listen("systemd:web")``. See sd_listen_fds(3).

systemd starts a service with its sockets as descriptors 3 and up. ``LISTEN_FDS`` says
how many there are, ``LISTEN_FDNAMES`` their names, and ``LISTEN_PID`` for which process
they are: a child has inherited the variables, but not the sockets.

The first look takes the variables out of the environment, and keeps the descriptors
from children. A program that never looks finds all as systemd has left it.

A descriptor is known again by the number of its inode: once it was closed here, another
socket may have the same number.
"""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from .._shown import shown
from ._inherited import Unusable, in_use, take_over_datagrams

FIRST = 3
"""The first descriptor that is passed."""
MOST = 4096
"""More are taken for a mistake."""
UNKNOWN = "unknown"
"""The name of a socket that has none, as in sd_listen_fds_with_names(3)."""

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
"""What systemd says to this process alone, and no child may take for its own."""


class Passed(NamedTuple):
    """A descriptor that systemd has passed. ``inode`` is -1 if it wasn't open."""

    name: str
    fd: int
    inode: int


_looked: list[Passed] | str | None = None
"""What the first look has found: the descriptors, or why there are none."""


def find(name: str, kind: socket.SocketKind) -> tuple[int, ...]:
    """Returns the descriptors with that name that are sockets of ``kind``; with none of
    these all that have the name, so that who takes them over says what they are.

    Raises Unusable, which lists the names that there are.
    """
    passed = _look()
    if isinstance(passed, str):
        raise Unusable(passed)
    named = [each for each in passed if each.name == name]
    if not named:
        names = ", ".join(shown(each) for each in dict.fromkeys(each.name for each in passed))
        missing = f"no socket {shown(name)}" if name else "sockets, and this names none"
        raise Unusable(f"systemd has passed {missing}; its names are {names} (FileDescriptorName= of the socket unit)")
    here = [each for each in named if _is_still(each)]
    if not here:
        raise Unusable(f"the sockets {shown(name)} of systemd were closed in this process, and come with its next start")
    return tuple(each.fd for each in here if _kind(each.fd) == kind) or tuple(each.fd for each in here)


def datagrams(name: str) -> socket.socket:
    """Returns the socket of datagrams with that name, which children don't inherit.
    Raises Unusable."""
    fd, *more = find(name, socket.SOCK_DGRAM)
    if more and _kind(fd) == socket.SOCK_DGRAM:
        text = "one is needed: give each unit a FileDescriptorName="
        raise Unusable(f"systemd has passed {1 + len(more)} sockets {shown(name)}, and {text}")
    return take_over_datagrams(fd)


def left_over() -> list[Passed]:
    """Returns the listening sockets that systemd has passed, and that nothing in this
    process watches. Changes nothing."""
    passed = _read() if _looked is None else _looked
    if isinstance(passed, str):
        return []
    return [each for each in passed if _is_still(each) and _listens(each.fd) and not in_use(each.fd)]


def _look() -> list[Passed] | str:
    global _looked
    if _looked is None:
        _looked = _read()
        for name in VARIABLES:
            os.environ.pop(name, None)
        if not isinstance(_looked, str):
            for each in _looked:
                if each.inode >= 0:
                    os.set_inheritable(each.fd, False)
    return _looked


def _read() -> list[Passed] | str:
    """Returns what the environment says: the descriptors, or why there are none."""
    pid, count, names = (os.environ.get(name) for name in VARIABLES[:3])
    if pid is None or count is None:
        return "systemd has passed no sockets to this process: LISTEN_FDS is not set. Is it started by a socket unit?"
    if pid != str(os.getpid()):
        text = "Start Python without a shell or other program around it, or with 'exec' there"
        return f"systemd has passed its sockets to process {shown(pid)}, and this one is {os.getpid()} (LISTEN_PID). {text}"
    if not count.isascii() or not count.isdigit() or len(count) > 9 or not 1 <= int(count) <= MOST:
        return f"systemd has passed no sockets to this process: LISTEN_FDS is {shown(count)}"
    named = [UNKNOWN] * int(count) if names is None else names.split(":")
    if len(named) != int(count):
        return f"LISTEN_FDS is {count}, but LISTEN_FDNAMES has {len(named)} names: {shown(names)}"
    return [Passed(name, FIRST + at, _inode(FIRST + at)) for at, name in enumerate(named)]


def _inode(fd: int) -> int:
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return -1


def _is_still(passed: Passed) -> bool:
    return passed.inode == -1 or _inode(passed.fd) == passed.inode


def _kind(fd: int) -> int | None:
    """Returns the type of the socket ``fd``; None if it is no socket."""
    return _option(fd, socket.SO_TYPE)


def _listens(fd: int) -> bool:
    return _kind(fd) == socket.SOCK_STREAM and bool(_option(fd, socket.SO_ACCEPTCONN))


def _option(fd: int, option: int) -> int | None:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        return sock.getsockopt(socket.SOL_SOCKET, option)
    finally:
        sock.detach()
