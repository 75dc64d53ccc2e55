"""Datagrams: UDP over IPv4 and IPv6, broadcast and multicast.

    server, err = udp.bind("127.0.0.1:8080")
    client, err = udp.connect("127.0.0.1:8080")
    client.sendto("hello")
    data, addr = server.recvfrom()      # addr is who has sent it
    server.sendto(data, addr)
    data, addr = client.recvfrom(1000)
    print(data)                         # -> b'hello'

Addresses are ``127.0.0.1:80`` and ``[::1]:80``, for binding also ``:80``: every address
of this machine, IPv4 and IPv6, and ``systemd:dns``: a socket that systemd has passed.
``bind`` and ``connect`` also take names. Errors are the constants of ``silly.errno``.
Nothing that the network or a peer does raises an exception.

A datagram arrives whole or not at all. It may get lost, come twice, or overtake
another, and nobody is told. An empty one is a datagram too, so a loop ends with ``if
data is None``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from threading import get_ident
from typing import Any

from .. import errno
from .._core import scheduler
from .._core.callers import check_timeout
from .._core.result import OK, Result, failure, returns_pair
from .._core.tasks import DeadlineOver, Leaving
from .._shown import cut, shown
from .._wire.limits import DEFAULT, Limits, check_limits
from .._wire.numbers import check_int
from . import _passed
from . import addr as address
from ._binding import LACKING
from ._datagrams import Datagrams
from ._inherited import Unusable
from ._multicast import link_of, member, send_settings
from ._names import Address, lookup
from ._settings import settings
from ._udp_address import BOTH, V4, V6, Family, refuse_path
from .tcp import Data, to_bytes

__all__ = ["Conn", "bind", "connect"]

BURST = 64
"""After this many calls in a row that didn't wait, the task lets others run."""

_loop = scheduler.loop


class Conn:
    """A socket of datagrams. ``addr`` is its own address as text, with the actual port,
    and ``port`` is that number. ``remoteaddr`` is the peer's address, None unless
    ``connect`` has made it.

    A ``with`` block closes it, and so does the garbage collector when nothing holds it
    any more.
    """

    __slots__ = ("__weakref__", "_burst", "_family", "_limits", "_socket", "addr", "port", "remoteaddr")

    def __init__(self, sock: socket.socket, family: Family, limits: Limits, remoteaddr: str | None) -> None:
        self._socket = Datagrams(sock, family, limits.receive_mark)
        self._family = family
        self._limits = limits
        self._burst = 0
        self.addr = self._socket.addr
        self.port: int = sock.getsockname()[1]
        self.remoteaddr = remoteaddr

    def recvfrom(self, timeout: float | None = None) -> tuple[bytes, str] | tuple[None, str]:
        """Receives one datagram. Waits at most ``timeout`` ms, without one as long as
        it takes.

            conn.sendto("hello")
            data, addr = conn.recvfrom(1000)
            if data is None:
                print("no answer:", addr)   # here addr is the error

        Returns ``(data, addr)``, with the address of who has sent it, or ``(None,
        err)``: ``errno.TIMEDOUT``, also at a ``time.deadline``; ``errno.CLOSED`` after
        ``close``; or what the network says. After ``connect`` that is
        ``errno.CONNREFUSED`` if nobody listened where an earlier datagram went; the
        socket goes on.

        Several tasks may wait; each datagram goes to the one that has waited longest.
        What comes while none waits is queued, see ``limit``. A datagram that came
        before a cancel or a deadline is not lost: it stays for the next call.

        Raises ValueError or TypeError for an invalid time-out.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.recvfrom")
        if get_ident() != _loop.thread:
            scheduler.check_thread()
        if timeout is not None:
            check_timeout("conn.recvfrom", timeout)
        if self._burst >= BURST:
            self._burst = 0
            scheduler.pause()
        inner = self._socket
        if inner.queue:
            self._burst += 1
            return inner.take()
        if inner.sock is None:
            return None, errno.CLOSED
        self._burst = 0
        try:
            return inner.wait(timeout)
        except DeadlineOver:
            return None, errno.TIMEDOUT
        except Leaving:
            return None, errno.CLOSED

    def sendto(self, data: Data | Iterable[Data], addr: str | None = None) -> Result:
        """Sends one datagram; ``str`` is sent as UTF-8, and the pieces of a list as
        one.

            ok, err = conn.sendto(["hello ", "there"])  # -> (True, None)

        ``addr`` is an IP address with a port, as ``recvfrom`` gives it. After
        ``connect`` it may be left out.

        Never waits, and queues nothing: the datagram is with the kernel when the call
        returns. ``(True, None)`` says no more than that. Returns ``(False, err)`` if it
        was not sent: ``errno.AGAIN`` if the kernel's buffer is full (wait a little, or
        let it be lost), ``errno.MSGSIZE`` if it is too long (65,507 bytes over IPv4,
        65,527 over IPv6), ``errno.ACCES`` for a broadcast without ``broadcast=True``,
        ``errno.AFNOSUPPORT`` for an address of the other family,
        ``errno.DESTADDRREQ`` without an address, ``errno.CLOSED``, or another error of
        the system.

        Raises ValueError if ``addr`` is no IP address with a port, and TypeError for
        data of any other type.
        """
        if get_ident() != _loop.thread:
            scheduler.check_thread()
        if type(data) is not bytes:
            whole = isinstance(data, (str, bytes, bytearray, memoryview, Mapping)) or not isinstance(data, Iterable)
            data = to_bytes(data) if whole else b"".join([to_bytes(piece) for piece in data])
        err = self._socket.send(data, addr)
        return OK if err is None else failure(err)

    def close(self) -> Result:
        """Closes the socket. Returns ``(False, errno.CLOSED)`` if it was closed before.

            conn.close()                        # -> (True, None)

        What was sent goes out. What was queued is dropped, and every task that waits in
        ``recvfrom`` gets ``errno.CLOSED``.
        """
        scheduler.check_thread(closes=True)
        return OK if self._socket.close() else failure(errno.CLOSED)

    def isalive(self) -> bool:
        """Returns False after ``close``.

            conn.isalive()                      # -> True

        No error of the network ends a socket.
        """
        return self._socket.sock is not None

    def unreadbytes(self) -> int:
        """Returns how many bytes of datagrams have come and were not taken by
        ``recvfrom``. What the kernel holds beside them does not count.

            conn.unreadbytes()                  # -> 0
        """
        return self._socket.unread

    def unsentbytes(self) -> int:
        """Returns how many bytes the kernel holds that are not on their way yet, with
        what it needs for them; 0 where the system doesn't tell.

            conn.unsentbytes()                  # -> 0
        """
        return self._socket.unsent()

    def limit(self, size: int | None) -> None:
        """Sets how much may be queued: bytes, and 256 more for each datagram. None
        means the limit ``receive_mark`` (64 KiB).

            conn.limit(16 * 2**20)

        When it is full, receiving pauses until it is half empty. Meanwhile the kernel
        keeps what fits in its own buffer, drops the rest, and counts that: see
        ``dropped``. The last datagram may go past the limit.

        Raises ValueError for anything but an int from 1 to 2**63 - 1.
        """
        if size is not None:
            check_int("conn.limit: the size in bytes", size, 1)
        scheduler.check_thread()
        self._socket.set_mark(self._limits.receive_mark if size is None else size)

    @property
    def dropped(self) -> int | None:
        """How many datagrams the kernel has dropped at this socket, because nobody took
        those that had come before, or because they were damaged. After ``close`` the
        number stays. None on systems other than Linux, which don't tell.

            conn.dropped                        # -> 0
        """
        return self._socket.dropped

    @property
    def fd(self) -> int | None:
        """The number of the descriptor, None after ``close``."""
        return self._socket.fd

    def join(self, group: str, interface: str | int | None = None) -> Result:
        """Joins a multicast group: from now on datagrams to the group and to the
        socket's port come here.

            here, err = udp.bind("0.0.0.0:8080")
            here.join("239.1.2.3", "lo")        # -> (True, None)

        ``group`` is an IPv4 or IPv6 address. ``interface`` is the network to join it
        in, by its name or number; without it the system chooses. The socket must be
        bound to every address, such as ``":5353"``, or to the group. Returns ``(True,
        None)`` or ``(False, err)``. Never waits.

        Raises ValueError or TypeError for an address that is no group.
        """
        return self._member("conn.join", group, interface, True)

    def leave(self, group: str, interface: str | int | None = None) -> Result:
        """Leaves a group that ``join`` has joined with the same arguments.

            here, err = udp.bind("0.0.0.0:8080")
            here.join("239.1.2.3", "lo")
            here.leave("239.1.2.3", "lo")       # -> (True, None)

        Returns ``(False, errno.ADDRNOTAVAIL)`` if it wasn't joined.
        """
        return self._member("conn.leave", group, interface, False)

    def _member(self, what: str, group: str, interface: str | int | None, joins: bool) -> Result:
        scheduler.check_thread()
        sock = self._socket.sock
        if sock is None:
            return failure(errno.CLOSED)
        try:
            member(sock, what, group, interface, joins)
        except OSError as exc:
            return failure(errno.from_oserror(exc))
        return OK

    def multicast(
        self, *, interface: str | int | None = None, ttl: int | None = None, loop: bool | None = None
    ) -> Result:
        """Sets how this socket sends to multicast groups. None leaves a setting as it
        is.

            conn.multicast(interface="lo", ttl=4)# -> (True, None)

        * ``interface``: the network, by its name or number. At first the system
          chooses.
        * ``ttl``: how many networks a datagram may cross, from 0 to 255. At first 1:
          this network alone.
        * ``loop``: whether sockets of this machine get it too. At first True.

        Returns ``(True, None)`` or ``(False, err)``. Never waits. Raises ValueError or
        TypeError for other values.
        """
        scheduler.check_thread()
        if ttl is not None:
            check_int("conn.multicast: ttl", ttl, 0, 255)
        if not isinstance(loop, (bool, type(None))):
            raise TypeError(f"conn.multicast: loop is True or False, not {type(loop).__name__}")
        sock = self._socket.sock
        if sock is None:
            return failure(errno.CLOSED)
        try:
            link = None if interface is None else link_of("conn.multicast", interface)
            send_settings(sock, self._family.mapped, link, ttl, loop)
        except OSError as exc:
            return failure(errno.from_oserror(exc))
        return OK

    # For ``task.select``: see ``_core/select.py``.

    def _ready(self) -> bool:
        return bool(self._socket.queue) or self._socket.sock is None

    def _watch(self, watch: scheduler.Task) -> None:
        if self._ready():
            scheduler.wake(watch)
        else:
            self._socket.watch(watch)

    def _unwatch(self, watch: scheduler.Task) -> None:
        self._socket.watchers.remove(watch)

    def __enter__(self) -> Conn:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # What a finalizer needs is in its defaults: at the interpreter's exit the module's
    # names may be gone before the socket.
    def __del__(self, post: Callable[..., object] = _loop.post, close: Callable[..., object] = Datagrams.close) -> None:
        # A finalizer may run anywhere, in another thread or within the loop's own code,
        # so it only leaves a note.
        inner: Datagrams | None = getattr(self, "_socket", None)
        if inner is not None and inner.sock is not None:
            post(close, inner)

    def __repr__(self) -> str:
        peer = "" if self.remoteaddr is None else f" with {self.remoteaddr}"
        return f"<udp socket {self.addr}{peer}, {'open' if self.isalive() else 'closed'}>"


@returns_pair("udp.bind", "conn")
def bind(
    addr: str, *, broadcast: bool = False, share: bool = False, limits: Limits = DEFAULT
) -> tuple[Conn, None] | tuple[None, str]:
    """Makes a socket that receives what anybody sends to ``addr``.

        server, err = udp.bind("127.0.0.1:8080")
        if server is None:
            print("not bound:", err)

    Returns ``(conn, None)`` or ``(None, err)``. ``":8080"`` means every address of this
    machine, IPv4 and IPv6; port 0 a free port, which ``conn.port`` names. A name is
    looked up: the task waits, and the socket gets the first of its addresses that this
    machine has.

    * ``broadcast``: whether it may send to broadcast addresses. It receives what is
      sent to them in any case, if it is bound to every address.
    * ``share``: whether other sockets that say so too may be bound to the same address.
      Each of them gets what is sent to a group or to everybody; anything else goes to
      one of them. Without it the address is this socket's alone.
    * ``limits``: ``receive_mark`` is used, see ``conn.limit``.

    With several addresses of this machine, an answer goes out from the one that the
    system prefers, and not always from the one that was asked: bind to one address
    where clients look at that (those of ``connect`` do).

    ``systemd:dns`` is the socket that systemd has passed with this name: docs/tcp.md.
    ``share`` and ``broadcast`` can't be given then, since the unit has set them.

    A socket that nobody waits for doesn't keep the process running, unlike a listener
    of tcp; a task in ``recvfrom`` does.

    Raises TypeError or ValueError for invalid arguments, and RuntimeError for a name
    where no task runs.
    """
    if _loop.no_switch:
        scheduler.refuse("udp.bind")
    check_limits(limits)
    name = address.passed(addr)
    if name is not None:
        scheduler.check_thread()
        if broadcast or share:
            raise ValueError(f"udp.bind: the unit of {shown(addr)} sets broadcast and share (Broadcast=, ReusePort=)")
        return (None, errno.CLOSED) if scheduler.leaving() else _receiving(_take(name, limits))
    place = _endpoint("udp.bind", addr)
    if scheduler.leaving():
        return None, errno.CLOSED
    host, port = place
    if host is None:
        found: list[Address] | str = [(socket.AF_INET6, ("::", port)), (socket.AF_INET, ("0.0.0.0", port))]
    else:
        found = _lookup(host, port, socket.AI_PASSIVE, addr)

    def prepare(sock: socket.socket, family: int, sockaddr: Any) -> tuple[Family, None]:
        kind = V4 if family == socket.AF_INET else BOTH if host is None else V6
        _options(sock, kind, broadcast)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(sockaddr)
        return kind, None

    return _receiving(_open(found, prepare, limits, LACKING))


@returns_pair("udp.connect", "conn")
@settings("udp.connect", "bindaddr")
def connect(
    addr: str, bindaddr: str | Mapping[str, Any] | None = None, *, broadcast: bool = False, limits: Limits = DEFAULT
) -> tuple[Conn, None] | tuple[None, str]:
    """Makes a socket that sends to ``addr``, and receives only what comes from there.

        client, err = udp.connect("127.0.0.1:8080")
        if client is not None:
            client.sendto("hello")

    Returns ``(conn, None)`` or ``(None, err)``. It sends nothing, so it succeeds also
    if nobody listens there: ``recvfrom`` says so later. A name is looked up: the task
    waits, and the first address that can be reached from this machine is taken.

    * ``bindaddr``: the local IP address to use, with or without a port.
    * ``broadcast``: whether it may send to a broadcast address.
    * ``limits``: as for ``bind``.

    A dict of the options may be given in place of ``bindaddr``: ``udp.connect(addr,
    {"bindaddr": "127.0.0.1"})``. Raises what ``bind`` raises.
    """
    if _loop.no_switch:
        scheduler.refuse("udp.connect")
    assert not isinstance(bindaddr, Mapping)  # ``settings`` has taken it apart
    check_limits(limits)
    host, port = _endpoint("udp.connect", addr)
    try:
        local = None if bindaddr is None else _local(bindaddr)
    except OSError:  # it names an interface that isn't there
        return None, errno.ADDRNOTAVAIL
    if scheduler.leaving():
        return None, errno.CLOSED
    found = _lookup(host or "localhost", port, socket.AI_ADDRCONFIG, addr)
    if local is not None and not isinstance(found, str):
        found = [each for each in found if each[0] == local[0]] or errno.AFNOSUPPORT

    def prepare(sock: socket.socket, family: int, sockaddr: Any) -> tuple[Family, str]:
        kind = V4 if family == socket.AF_INET else V6
        _options(sock, kind, broadcast)
        if local is not None:
            sock.bind(local[1])
        sock.connect(sockaddr)
        with suppress(BlockingIOError):
            while True:  # until now it took what anybody sent
                sock.recv(1, socket.MSG_DONTWAIT)
        return kind, address.sockaddr_text(family, sock.getpeername())

    return _open(found, prepare, limits)


def _receiving(result: tuple[Conn, None] | tuple[None, str]) -> tuple[Conn, None] | tuple[None, str]:
    """Notes that the program receives datagrams: it may be ready."""
    if scheduler.listens is not None and result[0] is not None:
        scheduler.listens()
    return result


def _take(name: str, limits: Limits) -> tuple[Conn, None] | tuple[None, str]:
    """``bind`` for what systemd has passed."""
    try:
        sock = _passed.datagrams(name)
        try:
            both = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            kind = V4 if sock.family == socket.AF_INET else BOTH if both else V6
            return Conn(sock, kind, limits, None), None
        except BaseException:
            sock.detach()
            raise
    except Unusable as exc:
        return None, str(exc)
    except OSError as exc:
        return None, errno.from_oserror(exc)


def _endpoint(what: str, addr: str) -> tuple[str | None, int]:
    scheduler.check_thread()
    refuse_path(what, addr)
    return address.endpoint(addr, what)


def _local(bindaddr: str) -> Address:
    """Returns the local address that ``connect`` was given."""
    if not isinstance(bindaddr, str):
        raise TypeError(f"udp.connect: bindaddr is an IP address such as '127.0.0.1', not {type(bindaddr).__name__}")
    host, port = (bindaddr, "0") if address.iptype(bindaddr) else address.parse(bindaddr)
    if host is None or not address.iptype(host):
        raise ValueError(f"udp.connect: bindaddr needs an IP address, with or without a port, not {shown(bindaddr)}")
    found = lookup(*address.endpoint(address.join(host, port or 0), "udp.connect"), 0, "")  # type: ignore[arg-type]
    return found[0]


def _lookup(host: str, port: int, flags: int, addr: str) -> list[Address] | str:
    """Returns the addresses of a host, or an error."""
    try:
        return lookup(host, port, flags, f"the look-up of {cut(addr)}")
    except Leaving:
        return errno.CLOSED
    except DeadlineOver:
        return errno.TIMEDOUT
    except (OSError, UnicodeError):
        return errno.RESOLVE


def _options(sock: socket.socket, kind: Family, broadcast: bool) -> None:
    if kind.number == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if kind.mapped else 1)
    if broadcast:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)


def _open(
    found: list[Address] | str,
    prepare: Callable[[socket.socket, int, Any], tuple[Family, str | None]],
    limits: Limits,
    skipped: Container[int] | None = None,
) -> tuple[Conn, None] | tuple[None, str]:
    """Makes the socket, at the first address for which ``prepare`` succeeds. Returns
    the error of the first one otherwise: it says most. ``skipped``: after any other
    error no further address is tried."""
    if isinstance(found, str):
        return None, found
    first: str | None = None
    for family, sockaddr in found:
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                kind, remoteaddr = prepare(sock, family, sockaddr)
                return Conn(sock, kind, limits, remoteaddr), None
            except BaseException:
                sock.close()
                raise
        except OSError as exc:
            if skipped is not None and exc.errno not in skipped:
                return None, errno.from_oserror(exc)
            first = first or errno.from_oserror(exc)
    assert first is not None
    return None, first
