"""Binding: the sockets of a listener, and the file of a Unix domain socket.

A name may have several addresses, and each gets a socket of its own. What this machine
lacks, such as IPv6, is left out if something remains. With port 0 the first socket gets
a port from the system, and the others take that one. If it is in use at one of them,
all are bound again to another port; there are ``TRIES`` tries. Nothing listens before
everything is bound.

A Unix domain socket listens only when its file has its owner and its mode. Before that
nobody can connect, whatever the file allows. On Linux the file allows nothing until
then: the system makes it with the mode that the socket has, less the umask.
"""

from __future__ import annotations

import errno as os_errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from .. import errno
from .._log import tcp as logger
from .._shown import shown
from . import _passed
from . import addr as address
from ._inherited import Unusable, make_ours, take_over
from ._names import Address, lookup, owner_ids

TRIES = 3
"""How often binding several addresses to a free port is tried."""
MOST_ID = 2**32 - 2
"""The largest number of a user or group; the next one means "none"."""

_INHERITED = ("fd:", "systemd:")
_WITHOUT_PORT = ("unix:", *_INHERITED)
"""How the addresses begin whose port we don't bind."""
LACKING = (os_errno.EAFNOSUPPORT, os_errno.EADDRNOTAVAIL, os_errno.ENOPROTOOPT)
"""The errors of a family, or of an address, that this machine does not have."""


class Rights(NamedTuple):
    """Who may connect to a Unix domain socket, and whether others may listen at the
    same port: see ``tcp.listen``."""

    mode: int | None
    owner: str | tuple[int, int] | None
    reuseport: bool = False


ANYBODY = Rights(None, None)
"""The umask decides."""


def check_rights(what: str, addr: str, rights: Rights, backlog: int | None) -> None:
    """Raises TypeError or ValueError for an invalid mode or owner, and for either at an
    address without a file, for these and a backlog of an inherited socket, and for
    ``reuseport`` at an address without a port. ``what`` names the caller."""
    mode, owner, reuseport = rights
    if not isinstance(reuseport, bool):
        raise TypeError(f"{what}: reuseport is True or False, not {type(reuseport).__name__}")
    if reuseport and isinstance(addr, str) and addr.startswith(_WITHOUT_PORT):
        raise ValueError(f"{what}: reuseport is for an address with a port of our own, not for {shown(addr)}")
    if is_inherited(addr) and (rights != ANYBODY or backlog is not None):
        raise ValueError(f"{what}: who made {addr} has set its backlog, mode and owner, and they can't be given here")
    if mode is None and owner is None:
        return
    if address.socketpath(addr, what) is None:
        raise ValueError(f"{what}: mode and owner are for Unix sockets ('unix:/path'), not for {shown(addr)}")
    if mode is not None:
        if type(mode) is not int:
            raise TypeError(f"{what}: mode is a number of permission bits such as 0o660, not {type(mode).__name__}")
        if not 0 <= mode <= 0o777:
            raise ValueError(f"{what}: mode is from 0 to 0o777, not {shown(mode)}: permission bits are octal, such as 0o660")
    if isinstance(owner, str):
        user, colon, group = owner.partition(":")
        if not owner.isprintable() or bool(colon) is not bool(group) or not (user or group) or ":" in group:
            raise ValueError(f"{what}: owner is 'user', 'user:group' or ':group', not {shown(owner)}")
    elif isinstance(owner, tuple):
        if len(owner) != 2 or any(type(each) is not int or not -1 <= each <= MOST_ID for each in owner):
            raise ValueError(f"{what}: owner has two numbers, of a user and a group (-1: as it is), not {shown(owner)}")
    elif owner is not None:
        raise TypeError(f"{what}: owner is 'user:group' or a pair of numbers, not {type(owner).__name__}")


class Place(NamedTuple):
    """Where to listen: an inherited descriptor; or a name of sockets that systemd has
    passed, maybe to another process, which binds; or the path of a Unix domain socket,
    and the numbers of its owner; or the addresses of a host; or, with none of these,
    every address at ``port``, which others may have too with ``reuseport``."""

    port: int
    path: str | None = None
    ids: tuple[int, int] | None = None
    found: list[Address] | None = None
    fd: int | None = None
    passed: str | None = None
    reuseport: bool = False


def is_inherited(addr: str) -> bool:
    """Whether ``addr`` means sockets that the process was started with."""
    return isinstance(addr, str) and addr.startswith(_INHERITED)


def find_place(what: str, addr: str, rights: Rights) -> Place:
    """Looks up the names in ``addr`` and ``rights``. Blocks the current task if there
    are any.

    Raises ValueError or TypeError for an invalid address; OSError, UnicodeError or
    NoSuchOwner for an unknown name; and what ``_names.ask`` raises.
    """
    fd = address.inherited(addr, what)
    if lender is not None and is_inherited(addr):
        return Place(0)  # a worker has got none: they are its master's
    if fd is not None:
        return Place(0, fd=fd)
    name = address.passed(addr)
    if name is not None:
        return Place(0, passed=name)
    path = address.socketpath(addr, what)
    if path is not None:
        owner = rights.owner
        return Place(0, path, owner_ids(owner) if isinstance(owner, str) else owner)
    host, port = address.endpoint(addr, what)
    if host is None:
        return Place(port, reuseport=rights.reuseport)
    found = lookup(host, port, socket.AI_PASSIVE, f"the look-up of {addr}")
    return Place(port, found=found, reuseport=rights.reuseport)


class Bound:
    """Listening sockets, and the file of a Unix domain socket. ``addrs`` are their
    addresses as text, ``port`` is the port of the first that has one, or 0. ``path`` is
    None without a file of our own, as of an ``inherited`` socket. Another process has
    such a socket too, so what waits in its queue is not lost when this one closes."""

    __slots__ = ("_file", "_path", "addrs", "inherited", "path", "port", "socks")

    def __init__(self, socks: list[socket.socket], path: str | None = None, *, inherited: bool = False) -> None:
        self.socks = socks
        self.path = path
        self.inherited = inherited
        names = [sock.getsockname() for sock in socks]
        self.addrs = tuple(address.sockaddr_text(sock.family, name) for sock, name in zip(socks, names, strict=True))
        self.port: int = next((name[1] for name in names if isinstance(name, tuple)), 0)
        if path is not None:
            self._path = os.path.abspath(path)  # the program may change its directory
            self._file = _identity(path)

    def opened(self, take: Callable[[socket.socket], object], let_go: Callable[[socket.socket], object]) -> None:
        """A listener accepts from these sockets. ``take(sock)`` makes it accept from
        another one too, and ``let_go(sock)`` no more. It closes what it has taken."""

    def in_place(self) -> bool:
        """Whether the file of a Unix domain socket is still its own. Raises OSError if
        there is none."""
        return _identity(self._path) == self._file

    def close(self) -> None:
        """Removes the file, and closes the sockets. The file goes first: while they
        listen no other process can take its place, so no other's file is removed."""
        self._remove()
        self.disown()

    def empty(self, take: Callable[[socket.socket], object]) -> None:
        """As ``close``, but calls ``take(sock)`` for each socket just before it closes,
        to accept what waits there."""
        self._remove()
        for sock in self.socks:
            take(sock)
            sock.close()

    def _remove(self) -> None:
        if self.path is not None:
            with suppress(OSError):  # it is gone already
                if self.in_place():
                    os.unlink(self._path)

    def give_up(self) -> None:
        """Nothing will listen: as ``close``, but an inherited socket stays open, and
        the caller's."""
        if self.inherited:
            for sock in self.socks:
                sock.detach()
        else:
            self.close()

    def disown(self) -> None:
        """Closes the sockets and leaves the file, in a child of ``os.fork``."""
        for sock in self.socks:
            sock.close()


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


class Lender(Protocol):
    """What a worker calls in place of ``bind``."""

    def __call__(self, what: str, addr: str, place: Place, mode: int | None, backlog: int) -> Bound:
        """Raises what ``bind`` does. Blocks the current task."""


lender: Lender | None = None
"""Set in a worker, whose master binds; see ``ops/worker.py``."""


def bind(what: str, addr: str, place: Place, mode: int | None, backlog: int) -> Bound:
    """Binds and listens, at every address of a place or at none. ``what`` and ``addr``
    are for the log. Raises OSError, whose notes name the address or owner, and
    ``Unusable`` for inherited sockets, and for a port that this system can't share.
    Blocks the current task in a worker."""
    if lender is not None:
        return lender(what, addr, place, mode, backlog)
    if place.fd is not None:
        return _bind_inherited((place.fd,))
    if place.passed is not None:
        return _bind_inherited(_passed.find(place.passed, socket.SOCK_STREAM))
    if place.path is not None:
        return _bind_unix(place.path, mode, place.ids, backlog)
    if place.found is None:
        sock = _bind_any(place.port, place.reuseport)
        try:
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return Bound([sock])
    tries = 1 if place.port else TRIES
    while True:
        try:
            socks, without = _bind_found(place.found, backlog, place.reuseport)
            break
        except OSError as exc:
            tries -= 1
            if not tries or exc.errno != os_errno.EADDRINUSE:
                raise
    for text in without:
        logger.debug(f"{what} {addr}: without {text}")
    return Bound(socks)


def _bind_inherited(fds: tuple[int, ...]) -> Bound:
    socks: list[socket.socket] = []
    try:
        for fd in fds:
            socks.append(take_over(fd, listens=True))
        bound = Bound(socks, inherited=True)
        for sock in socks:
            make_ours(sock)
    except BaseException:
        for sock in socks:
            sock.detach()
        raise
    return bound


def _bind_found(found: list[Address], backlog: int, reuseport: bool) -> tuple[list[socket.socket], list[str]]:
    """Returns the sockets, which listen, and what was left out."""
    socks: list[socket.socket] = []
    without: list[str] = []
    lacking: OSError | None = None
    port = 0
    try:
        for family, (host, given, *rest) in found:
            try:
                sock = bind_inet(family, (host, given or port, *rest), reuseport)
            except OSError as exc:
                text = address.join(host, given or port)
                if exc.errno not in LACKING:
                    if len(found) > 1:
                        exc.add_note(text)
                    raise
                lacking = lacking or exc
                without.append(f"{text}: {errno.from_oserror(exc)}")
                continue
            socks.append(sock)
            port = sock.getsockname()[1]
        if not socks:
            assert lacking is not None
            raise lacking
        for sock in socks:
            try:
                sock.listen(backlog)
            except OSError as exc:
                if len(found) > 1:
                    exc.add_note(address.sockaddr_text(sock.family, sock.getsockname()))
                raise
    except BaseException:
        for sock in socks:
            sock.close()
        raise
    return socks, without


def bind_inet(family: int, sockaddr: tuple[Any, ...], reuseport: bool = False, both: bool = False) -> socket.socket:
    """Returns a socket that is bound to an address of IPv4 or IPv6, and doesn't listen
    yet. ``both``: one of IPv6 that takes IPv4 too."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            if not hasattr(socket, "SO_REUSEPORT"):
                raise Unusable("reuseport: this system has no SO_REUSEPORT")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        sock.bind(sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_any(port: int, reuseport: bool) -> socket.socket:
    """Binds every address: an IPv6 socket that takes IPv4 too, or an IPv4 socket on a
    machine without IPv6."""
    try:
        return bind_inet(socket.AF_INET6, ("::", port), reuseport, both=True)
    except OSError as exc:
        if exc.errno not in LACKING:
            raise
    return bind_inet(socket.AF_INET, ("0.0.0.0", port), reuseport)


def _bind_unix(path: str, mode: int | None, ids: tuple[int, int] | None, backlog: int) -> Bound:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if mode is not None:
            with suppress(OSError):  # not every system can; see the module's header
                os.fchmod(sock.fileno(), 0)
        try:
            sock.bind(path)
        except OSError as exc:
            if exc.errno != os_errno.EADDRINUSE or not _stale(path):
                raise
            os.unlink(path)
            sock.bind(path)
        bound = Bound([sock], path)
    except BaseException:
        sock.close()
        raise
    try:
        # The mode first, which follows a link: once the file is another's, that one may
        # put a link in its place.
        if mode is not None:
            os.chmod(path, mode)
        if ids is not None:
            _set_owner(path, ids)
        sock.listen(backlog)
        # Until then another process may have taken the socket for a dead one.
        if not bound.in_place():
            raise OSError(os_errno.EADDRINUSE, os.strerror(os_errno.EADDRINUSE))
    except BaseException:
        bound.close()
        raise
    return bound


def _set_owner(path: str, ids: tuple[int, int]) -> None:
    try:
        os.chown(path, *ids, follow_symlinks=False)
    except OSError as exc:
        exc.add_note(f"the owner {ids[0]}:{ids[1]}")
        raise


def _stale(path: str) -> bool:
    """Whether ``path`` is a socket that an ended process left behind."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == os_errno.ECONNREFUSED
