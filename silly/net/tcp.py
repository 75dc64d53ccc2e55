"""TCP connections and listeners, and Unix domain sockets.

    def echo(conn):
        while True:
            line, err = conn.read("\\n")
            if line is None:
                break
            conn.write(line)

    listener, err = tcp.listen(addr="127.0.0.1:8080", accept=echo)
    conn, err = tcp.connect("127.0.0.1:8080", timeout=1000)

Addresses are ``127.0.0.1:80``, ``[::1]:80``, ``name:80``, ``unix:/path``, and for
listening ``:80``: every address of this machine, IPv4 and IPv6, ``systemd:web``: the
sockets that systemd has passed with that name, and ``fd:3``: a socket that the process
has inherited. A name means all of its addresses. Errors are the
constants of ``silly.errno``. Nothing that the network or the peer does raises an
exception.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .. import errno
from .._core import scheduler
from .._core.callers import seconds_meant
from .._core.loop import monotonic
from .._core.result import OK, Result, failure, returns_pair
from .._log import tcp as logger
from .._shown import shown
from .._wire.accelerated import take_until
from .._wire.limits import DEFAULT, Limits, check_limits
from .._wire.lines import take
from .._wire.numbers import MOST, MOST_MS, bad_ms, check_int
from ._binding import Rights
from ._dial import dial
from ._handler import check_handler
from ._inherited import Unusable, make_ours, number_of, peer_of, take_over
from ._listener import Listener, listen_as
from ._settings import settings
from ._stream import RECV, RECV_BODY, Stream

if TYPE_CHECKING:
    from .._wire.networks import Networks

__all__ = ["Conn", "Listener", "adopt", "connect", "listen"]

BURST = 64
"""After this many reads in a row that didn't wait, the task lets others run."""
STEP = 16 * 1024
"""Each so many bytes of a read count as one more read."""
NEWLINE = b"\n"

Data = str | bytes | bytearray | memoryview
"""What every call that sends accepts; ``str`` goes out as UTF-8."""

_loop = scheduler.loop


def to_bytes(data: object) -> bytes:
    """Returns ``data`` as bytes, which nobody can change. Raises TypeError for any
    other type than those of ``Data``.
    """
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    if isinstance(data, memoryview):
        if not data.contiguous:
            raise TypeError("a memoryview to send must be contiguous")
        return data.tobytes()
    raise _unsendable(data)


def _unsendable(data: object) -> TypeError:
    """The error for data to send of a wrong type, with what the program may have meant.
    """
    hint = ""
    if isinstance(data, (dict, list, tuple)):
        hint = "; json.dumps makes text of it"
    elif isinstance(data, (int, float)):
        hint = "; str makes text of it"
    elif hasattr(data, "read"):
        hint = "; send what its read returns"
    elif isinstance(data, Iterator):
        hint = "; send its pieces one by one"
    return TypeError(f"data to send is str, bytes, bytearray or memoryview, not {type(data).__name__}{hint}")


def _delimiter(given: object) -> bytes:
    """Returns the delimiter that ``Conn.read`` was given, as bytes. Raises TypeError,
    and ValueError if it is empty."""
    delimiter = given.encode() if isinstance(given, str) else given
    if not isinstance(delimiter, bytes):
        raise TypeError(f"conn.read needs a length or a delimiter, not {type(given).__name__}")
    if not delimiter:
        raise ValueError("conn.read needs a delimiter that isn't empty")
    return delimiter


def forgotten(stream: Stream) -> None:
    """Closes a connection that nothing holds any more. A protocol above it, which may
    be forgotten too, first sends its goodbye.
    """
    stream.say_goodbye()
    stream.close()


class Conn:
    """A connection. ``remoteaddr`` is the peer's address as text.

    A ``with`` block closes it, and so does the garbage collector when nothing holds it
    any more.
    """

    __slots__ = ("__weakref__", "_burst", "_stream", "remoteaddr")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._burst = 0
        self.remoteaddr = stream.remoteaddr

    def read(self, n: int | str | bytes, timeout: float | None = None) -> tuple[bytes, None] | tuple[None, str]:
        """Reads exactly ``n`` bytes, or up to and including a delimiter. Waits at most
        ``timeout`` ms, without one as long as it takes.

            conn.write("hello\\n")
            line, err = conn.read("\\n", 1000)   # -> (b"hello\\n", None)

        Returns ``(bytes, None)``, or ``(None, err)``: ``errno.EOF`` if the peer has
        ended and sent less, ``errno.TIMEDOUT``, ``errno.MSGSIZE`` if 1 MiB (limit
        ``delimited``) has come without the delimiter, which is logged too,
        ``errno.CLOSED`` after ``close``, or why the connection broke. After an error
        what has arrived stays, for the next read. A length may be any: it is the
        program's own.

        Raises ValueError for a length or time-out that is negative or too large (more
        than 2**63 - 1 bytes, more than 100 years) and for an empty delimiter, TypeError
        for an ``n`` of any other type, and RuntimeError if another task is reading.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.read")
        if self._burst >= BURST:
            # The buffer holds thousands of small pieces, or much data.
            self._burst = 0
            scheduler.pause()
        stream = self._stream
        if stream.closed:
            return None, errno.CLOSED
        deadline = None if timeout is None else deadline_after(timeout)
        if stream._reader is not None:
            stream.fill(len(stream.buf) + 1)  # raises: another task reads
        if not isinstance(n, int):
            delimiter = NEWLINE if n == "\n" else _delimiter(n)
            if stream.buf:
                line = take_until(stream.buf, delimiter, 0, stream.limits.delimited)
                if line is not None:
                    self._burst += 1 if len(line) < STEP else 1 + len(line) // STEP
                    return line, None
            return self._await_delimiter(delimiter, deadline)
        if n < 0:
            raise ValueError(f"conn.read needs a length that isn't negative, not {shown(n)}")
        if len(stream.buf) < n:
            self._burst = 0
            if n > MOST:
                raise ValueError(f"conn.read needs a length of at most {MOST}, not {shown(n)}")
            err = stream.fill(n, deadline)
            if err is not None:
                return None, err
            if len(stream.buf) < n:
                raise RuntimeError(f"{self}: another task has read what this one waited for")
        else:
            self._burst += 1 if n < STEP else 1 + n // STEP
        return take(stream.buf, n), None

    def _await_delimiter(self, delimiter: bytes, deadline: float | None) -> tuple[bytes, None] | tuple[None, str]:
        """``read`` of a delimiter that has not come yet."""
        stream = self._stream
        most = stream.limits.delimited
        start = 0
        self._burst = 0
        while True:
            have = len(stream.buf)
            if have >= most:
                return _too_long(stream)
            if have:
                start = max(0, have - len(delimiter) + 1)
            err = stream.fill(have + 1, deadline)
            if err is not None:
                return None, err
            line = take_until(stream.buf, delimiter, start, most)
            if line is not None:
                return line, None

    def readsome(self, max: int | None = None, timeout: float | None = None) -> tuple[bytes, None] | tuple[None, str]:
        """Reads what is there: at least one byte, and at most ``max``, without it all.
        Waits only if nothing is there, at most ``timeout`` ms, without one as long as
        it takes.

            conn.write("hello\\n")
            data, err = conn.readsome()         # -> (b"hello\\n", None)

        For data whose length nobody knows before: to relay it, or to parse it. Without
        ``max`` one call returns about 64 KiB at most (see ``limit``), and more only if
        a read has failed that waited for more.

        Returns ``(bytes, None)``, or ``(None, err)`` if nothing is there, as ``read``:
        ``errno.EOF``, ``errno.TIMEDOUT``, ``errno.CLOSED``, or why the connection
        broke.

        Raises ValueError for a ``max`` below 1 or above 2**63 - 1 and for an invalid
        time-out, TypeError for any other type, and RuntimeError if another task is
        reading.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.readsome")
        if self._burst >= BURST:
            self._burst = 0
            scheduler.pause()
        stream = self._stream
        if stream.closed:
            return None, errno.CLOSED
        deadline = None if timeout is None else deadline_after(timeout)
        if max is not None:
            check_int("conn.readsome: max, in bytes,", max, 1)
        have = len(stream.buf)
        if stream._reader is not None:
            stream.fill(have + 1)  # raises: another task reads
        if not have:
            self._burst = 0
            err = stream.fill(1, deadline, RECV_BODY if max is None or max > RECV else RECV)
            if err is not None:
                return None, err
            have = len(stream.buf)
            if not have:
                raise RuntimeError(f"{self}: another task has read what this one waited for")
            n = have if max is None or max > have else max
        else:
            n = have if max is None or max > have else max
            self._burst += 1 if n < STEP else 1 + n // STEP
        return take(stream.buf, n), None

    def write(self, data: Data | Iterable[Data]) -> Result:
        """Sends ``data``, or every piece of a list; ``str`` is sent as UTF-8. Returns
        ``(True, None)``, or ``(False, err)`` if the connection is broken or closed.

            ok, err = conn.write("hello\\n")     # -> (True, None)
            conn.write([b"one ", b"two\\n"])

        What a task writes is collected, and sent when the task blocks. With more than 1
        MiB unsent (limit ``unsent``) the call blocks until the peer has taken most of
        it. A peer that takes nothing for 30 s (limit ``write_timeout``), or less than
        240 bytes a second (limit ``write_rate``), is cut off: ``errno.TIMEDOUT``.

        If a ``time.deadline`` runs out, the call stops blocking and returns
        ``errno.TIMEDOUT``. The connection stays open, and ``data`` is still sent. A
        further write within that deadline is refused while more than the limit is
        unsent, and queues nothing. Where a cancel (``Task.cancel``) strikes, ``data``
        is still sent too.

        Raises TypeError for data of any other type.
        """
        stream = self._stream
        if type(data) is bytes and _loop.may_queue and stream.try_queue(data):
            return OK  # nearly always
        if _loop.no_switch:
            scheduler.refuse("conn.write")
        if isinstance(data, (str, bytes, bytearray, memoryview)):
            err = stream.write(to_bytes(data))
        elif isinstance(data, Iterable) and not isinstance(data, Mapping):
            err = stream.write(b"".join([to_bytes(piece) for piece in data]))
        else:
            raise _unsendable(data)
        return OK if err is None else failure(err)

    def closewrite(self) -> Result:
        """Ends what this side sends, once all that was written is sent. Never waits.
        The peer reads ``errno.EOF`` after it, and may go on sending.

            conn.write("the question\\n")
            conn.closewrite()                   # -> (True, None)
            answer, err = conn.read("\\n")

        A write after it gets ``errno.CLOSED``, and so does a second ``closewrite``;
        ``isalive`` stays True until the peer ends too. ``close`` is still needed, in
        the end. Returns ``(False, err)`` if the connection is broken or closed. Raises
        RuntimeError while another task sends a file.

        Over TLS it sends the close_notify and leaves TCP open. In TLS 1.3 the peer may
        go on sending (RFC 8446, section 6.1). In TLS 1.2 it should end at once, and
        drop what it has not sent (RFC 5246, section 7.2.1); OpenSSL doesn't, some do.
        """
        err = self._stream.closewrite()
        return OK if err is None else failure(err)

    def close(self) -> Result:
        """Closes the connection. Returns ``(False, errno.CLOSED)`` if it was closed
        before.

            conn.write("bye\\n")
            conn.close()                        # -> (True, None)

        What was written is still delivered, within 10 s (limit ``linger``); after that
        the connection is reset. Without anything written it is gone at once, even if
        data of the peer is unread; then the peer's next write fails. A task that is
        blocked in ``read`` gets ``errno.CLOSED``.
        """
        scheduler.check_thread(closes=True)
        err = self._stream.close()
        return OK if err is None else failure(err)

    def limit(self, size: int | None) -> None:
        """Sets how many unread bytes may arrive before reading pauses and TCP holds the
        peer back. None means the limit ``receive_mark`` (64 KiB).

            conn.limit(32 * 1024)

        A read that waits for more goes past it: for a length up to that, for a
        delimiter up to the limit ``delimited``, which this call doesn't change.

        Raises ValueError for anything but an int from 1 to 2**63 - 1.
        """
        if size is not None:
            check_int("conn.limit: the size in bytes", size, 1)
        scheduler.check_thread()
        self._stream.set_mark(self._stream.limits.receive_mark if size is None else size)

    def unreadbytes(self) -> int:
        """Returns how many bytes have arrived and were not read.

            conn.write("hello\\n")
            first, err = conn.read(1)
            conn.unreadbytes()                  # -> 5

        Reading pauses when they are too many; see ``limit``.
        """
        return len(self._stream.buf)

    def unsentbytes(self) -> int:
        """Returns how many bytes were written and the kernel has not taken yet.

            conn.write("hello\\n")
            conn.unsentbytes()                  # -> 6

        They are sent when the task blocks. Over TLS data counts as it is until it is
        encrypted, which happens then; after that its records count.
        """
        return self._stream.unsent

    def isalive(self) -> bool:
        """Returns False if the connection is closed or broken, or if the peer has ended
        it.

            conn.isalive()                      # -> True
            conn.close()
            conn.isalive()                      # -> False
        """
        return self._stream.err is None and self._stream.broke is None

    # For ``task.select``: see ``_core/select.py``.

    def _ready(self) -> bool:
        return self._stream.readable()

    def _watch(self, watch: scheduler.Task) -> None:
        self._stream.watch_data(watch)

    def _unwatch(self, watch: scheduler.Task) -> None:
        self._stream.unwatch_data(watch)

    def __enter__(self) -> Conn:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # What a finalizer needs is in its defaults: at the interpreter's exit the module's
    # names may be gone before the connection.
    def __del__(self, post: Callable[..., object] = _loop.post, call: Callable[[Stream], object] = forgotten) -> None:
        # A finalizer may run anywhere, in another thread or within the loop's own code,
        # so it only leaves a note.
        stream: Stream | None = getattr(self, "_stream", None)
        if stream is not None and not stream.closed:
            post(call, stream)

    def __repr__(self) -> str:
        state = "closed" if self._stream.closed else self._stream.err or "open"
        return f"<{type(self).__module__.rpartition('.')[2]} connection with {self.remoteaddr}, {state}>"


def _too_long(stream: Stream) -> tuple[None, str]:
    """The answer of a read whose delimiter does not come in time."""
    most = stream.limits.delimited
    text = f"{stream.word}: {stream.remoteaddr}: no delimiter within the limit 'delimited' of {most} bytes"
    logger.limited("delimited", text)
    return None, errno.MSGSIZE


def deadline_after(timeout: float) -> float:
    """Returns the time of ``time.monotonic()``, in seconds, that is ``timeout`` ms
    ahead. Raises ValueError for a time-out that is negative or longer than 100 years.
    """
    try:
        if not 1 <= timeout <= MOST_MS:
            if not 0 <= timeout <= MOST_MS:
                raise bad_ms("a time-out", timeout)
            if timeout:
                seconds_meant(timeout)
    except TypeError:
        raise TypeError(f"a time-out is a number of milliseconds, not {type(timeout).__name__}") from None
    return monotonic() + timeout / 1000


@returns_pair("tcp.listen", "listener")
@settings("tcp.listen")
def listen(
    addr: str | Mapping[str, Any],
    accept: Callable[[Conn], object] | None = None,
    backlog: int | None = None,
    *,
    mode: int | None = None,
    owner: str | tuple[int, int] | None = None,
    reuseport: bool = False,
    trusted: Iterable[str] | None = None,
    proxy: bool = False,
    limits: Limits = DEFAULT,
) -> tuple[Listener, None] | tuple[None, str]:
    """Listens on ``addr``. ``accept(conn)`` runs in a task of its own for each
    connection.

        def greet(conn):
            conn.write("hello\\n")
            conn.close()

        listener, err = tcp.listen(addr="127.0.0.1:8080", accept=greet)

    Returns ``(listener, None)``, and logs where it listens; or ``(None, err)``, which
    is logged too.

    ``addr`` may be a name: the task waits while it is looked up, and the listener gets
    all its addresses, such as ``127.0.0.1`` and ``::1`` of ``localhost``. One that this
    machine lacks is left out if another remains. ``listener.addrs`` is the tuple of
    these addresses, ``listener.addr`` is the first, and ``listener.port`` is the port:
    the real ones, also after port 0. If ``accept`` returns and leaves the
    connection open, it stays open as long as something holds it. ``backlog`` is how
    many connections the kernel queues for each address. A dict with these keys may be
    given in place of ``addr``.

    ``mode`` and ``owner`` say who may connect to a Unix domain socket:

        local, err = tcp.listen(addr="unix:web.sock", accept=greet, mode=0o660)

    * ``mode``: permission bits, from 0 to 0o777. Who connects needs to write, so 0o660
      lets in the owner and the group. None leaves it to the umask.
    * ``owner``: ``"user"``, ``"user:group"`` or ``":group"``, as names or numbers, or a
      pair of numbers, in which -1 means "as it is".

    Nobody can connect before the file has both. If the system refuses to set them,
    ``err`` says so, and no file is left.

    ``systemd:web`` means the listening sockets that systemd has passed with the name
    ``web``, and ``fd:3`` one that the process has inherited as descriptor 3:
    docs/tcp.md. The listener's ``close`` closes them in this process. ``backlog``,
    ``mode`` and ``owner`` can't be given then. If a descriptor is anything else,
    ``err`` says what it is, and it stays as it was.

    * ``reuseport``: other sockets of the same user that say so too, also of other
      processes, may listen at the same address and port (SO_REUSEPORT). The system
      shares the connections out among them. When one closes, the connections that wait
      in its queue are reset: ``python -m silly --workers`` does better. Where the
      system can't do it, ``err`` says so.
    * ``proxy``: connections come through proxies that speak the PROXY protocol, version
      1 or 2. Each must begin with its header within 10 s (limit ``head_timeout``).
      ``conn.remoteaddr`` is then the client's address; the proxy's own is not kept. A
      connection that a proxy makes for itself, such as a health check, has the
      proxy's.
    * ``trusted``: with ``proxy``, the networks of these proxies, such as
      ``["10.0.0.0/8", "::1"]``, and ``"unix"`` for the peers of a Unix domain socket.
      Connections from elsewhere are closed, which is logged.

    Uses the limits ``receive_mark``, ``delimited``, ``unsent``, ``write_timeout``,
    ``write_rate`` and ``linger``.
    Raises TypeError or ValueError for invalid arguments, so also for ``mode`` and
    ``owner`` at another address, ``reuseport`` at an address without a port of its own,
    ``proxy`` without ``trusted`` and ``trusted`` without ``proxy``; RuntimeError for a
    name where no task runs.
    """
    if _loop.no_switch:
        scheduler.refuse("tcp.listen")
    assert not isinstance(addr, Mapping)  # ``settings`` has taken it apart
    if not callable(accept):
        raise TypeError("tcp.listen needs accept, a function that gets the connection")
    check_handler("tcp.listen", accept, "conn")
    check_limits(limits)
    proxies = networks_of("tcp.listen", proxy, trusted)
    return listen_plain("tcp.listen", "tcp", addr, accept, backlog, limits, Rights(mode, owner, reuseport), proxies)


def networks_of(what: str, proxy: bool, trusted: Iterable[str] | None) -> Networks | None:
    """Returns the networks of the proxies that speak the PROXY protocol; None without
    them. Raises TypeError or ValueError; ``what`` names the caller."""
    if proxy is False and trusted is None:
        return None
    from ._proxied import check_proxy

    return check_proxy(what, proxy, trusted)


def listen_plain(
    what: str,
    scheme: str,
    addr: str,
    accept: Callable[[Conn], object],
    backlog: int | None,
    limits: Limits,
    rights: Rights,
    proxies: Networks | None = None,
) -> tuple[Listener, None] | tuple[None, str]:
    """``listen`` for the protocols above, which errors call ``what``, and whose scheme
    the log names. ``proxies``: with these networks, which speak the PROXY protocol."""

    def accepted(sock: socket.socket, remoteaddr: str) -> None:
        scheduler.fork(accept, (Conn(Stream(sock, remoteaddr, limits)),), None, accept_code, 0, serves=True)

    accept_code = getattr(accept, "__code__", None)
    if proxies is None:
        return listen_as(Listener, what, scheme, addr, accepted, backlog, rights)
    from ._newcomers import Newcomers
    from ._proxied import Greeting

    newcomers = Newcomers()
    greeting = Greeting(scheme, proxies, limits, Conn, accept, newcomers)
    return listen_as(Listener, what, scheme, addr, greeting, backlog, rights, newcomers)


@returns_pair("tcp.connect", "conn")
@settings("tcp.connect", "bind")
def connect(
    addr: str, bind: str | Mapping[str, Any] | None = None, timeout: float | None = None, *, limits: Limits = DEFAULT
) -> tuple[Conn, None] | tuple[None, str]:
    """Connects to ``addr``. Blocks until that is done, at most ``timeout`` ms; without
    one as long as the system tries.

        conn, err = tcp.connect("127.0.0.1:8080", timeout=1000)
        if conn is not None:
            conn.write("hello\\n")

    Returns ``(conn, None)`` or ``(None, err)``. If a name has several addresses, IPv6
    and IPv4, they are raced (RFC 8305). ``bind`` is the local IP address to use, with
    or without a port. A dict of the options may be given in its place:
    ``tcp.connect(addr, {"timeout": 1000})``. The limits are those of ``listen``. Raises
    TypeError or ValueError for invalid arguments.
    """
    if _loop.no_switch:
        scheduler.refuse("tcp.connect")
    assert not isinstance(bind, Mapping)
    check_limits(limits)
    sock, err = dial(addr, bind, timeout, "tcp.connect")
    if sock is None:
        assert err is not None
        return None, err
    return Conn(Stream(sock, addr, limits)), None


@returns_pair("tcp.adopt", "conn")
def adopt(
    sock: socket.socket | int, remoteaddr: str | None = None, *, limits: Limits = DEFAULT
) -> tuple[Conn, None] | tuple[None, str]:
    """Makes a connection of a stream socket that is connected already. Never waits.

        import socket

        ours, theirs = socket.socketpair()
        conn, err = tcp.adopt(ours)
        if conn is not None:
            theirs.sendall(b"hello\\n")
            conn.read("\\n")                 # -> (b"hello\\n", None)
        theirs.close()

    ``sock`` is a ``socket.socket`` or the number of a descriptor, IPv4, IPv6 or Unix.
    The connection owns it from now on: a socket object is detached, and can't be used
    any more. ``remoteaddr`` is what ``conn.remoteaddr`` says; None asks the system.
    The limits are those of ``listen``.

    Returns ``(conn, None)`` or ``(None, err)``: ``errno.NOTCONN``, ``errno.CLOSED`` at
    the end of the process, or in words what the descriptor is: a datagram socket, a
    pipe, one that this process uses already. Then it is still the caller's. What was
    read into a buffer, such as that of ``sock.makefile``, is not taken over.

    Raises TypeError and ValueError for invalid arguments, so also for an
    ``ssl.SSLSocket``, whose TLS state would be lost.
    """
    scheduler.check_thread()
    check_limits(limits)
    if remoteaddr is not None and not isinstance(remoteaddr, str):
        raise TypeError(f"tcp.adopt: remoteaddr is text, such as '127.0.0.1:8080', not {type(remoteaddr).__name__}")
    try:
        fd = number_of("tcp.adopt", sock)
        if scheduler.exiting:
            return None, errno.CLOSED
        ours = take_over(fd, listens=False)
    except Unusable as exc:
        return None, str(exc)
    except OSError as exc:
        return None, errno.from_oserror(exc)
    try:
        stream = Stream(ours, peer_of(ours) if remoteaddr is None else remoteaddr, limits)
    except BaseException as exc:
        ours.detach()
        if isinstance(exc, OSError):
            return None, errno.from_oserror(exc)
        raise
    if not isinstance(sock, int):
        sock.detach()
    make_ours(ours)
    if ours.family != socket.AF_UNIX:
        with suppress(OSError):  # some systems refuse it after a reset by the peer
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Conn(stream), None
