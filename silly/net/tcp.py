"""TCP connections and listeners (upstream: ``silly.net.tcp``), and Unix domain sockets.

    def echo(conn):
        while True:
            line, err = conn.read("\\n")
            if line is None:
                break
            conn.write(line)

    listener, err = tcp.listen(addr="127.0.0.1:8080", accept=echo)
    conn, err = tcp.connect("127.0.0.1:8080", timeout=1000)

Addresses: ``127.0.0.1:80``, ``[::1]:80``, ``name:80``, ``:80`` (listening: every address, IPv4 and IPv6), ``unix:/path``.
Errors are the constants of ``silly.errno``; nothing that the network or the peer does raises.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from math import inf
from time import monotonic
from typing import Any

from .. import errno
from .._core import scheduler
from .._core.result import OK, Result, failure, returns_pair
from .._wire.limits import DEFAULT, Limits, check_limits
from ._dial import dial
from ._listener import Listener
from ._listener import listen as _listen
from ._settings import settings
from ._stream import Stream

__all__ = ["Conn", "Listener", "connect", "listen"]

DELIMITED = 1024 * 1024
"""The most that a read by delimiter looks through: a peer that never sends one can't fill the memory."""
BURST = 64
"""Reads in a row that didn't wait after which the task lets others run."""

Data = str | bytes | bytearray | memoryview
"""What every call that sends accepts; ``str`` goes out as UTF-8."""

_loop = scheduler.loop


def to_bytes(data: object) -> bytes:
    """``data`` as bytes that nobody can change. Raises TypeError for what can't be sent."""
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
    raise TypeError(f"data to send is str, bytes, bytearray or memoryview, not {type(data).__name__}")


class Conn:
    """A connection. ``remoteaddr`` is the peer's address as text. A context manager that closes it; one that nobody holds
    any more is closed too."""

    __slots__ = ("__weakref__", "_burst", "_stream", "remoteaddr")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._burst = 0
        self.remoteaddr = stream.remoteaddr

    def read(self, n: int | str | bytes, timeout: float | None = None) -> tuple[bytes, None] | tuple[None, str]:
        """Reads exactly ``n`` bytes, or up to and including a delimiter; waits at most ``timeout`` ms.

        ``(None, err)`` otherwise: ``errno.EOF`` when the peer sent less and ended, ``errno.TIMEDOUT``, ``errno.MSGSIZE`` when
        1 MiB held no delimiter, ``errno.CLOSED`` after ``close``. What had arrived stays for the next read. A second task
        that reads at the same time gets RuntimeError.
        """
        stream = self._stream
        if stream.closed:
            return None, errno.CLOSED
        deadline = None if timeout is None else deadline_after(timeout)
        if not isinstance(n, int):
            return self._read_delimited(n, timeout, deadline)
        if n < 0:
            raise ValueError(f"conn.read needs a length that isn't negative, not {n}")
        if len(stream.buf) < n:
            self._burst = 0
            err = stream.fill(n, deadline)
            if err is not None:
                return None, err
            if len(stream.buf) < n:
                raise RuntimeError(f"BUG: {self}: another task has read what this one waited for")
        elif stream._reader is not None:
            stream.fill(n)  # raises: another task reads
        elif self._breathe():
            return self.read(n, timeout)
        return stream.take(n), None

    def _read_delimited(
        self, delimiter: Any, timeout: float | None, deadline: float | None
    ) -> tuple[bytes, None] | tuple[None, str]:
        if isinstance(delimiter, str):
            delimiter = delimiter.encode()
        if not isinstance(delimiter, bytes):
            raise TypeError(f"conn.read needs a length or a delimiter, not {type(delimiter).__name__}")
        if not delimiter:
            raise ValueError("conn.read needs a delimiter that isn't empty")
        stream = self._stream
        searched = 0
        while True:
            buf = stream.buf
            at = buf.find(delimiter, searched)
            if at >= 0:
                break
            if len(buf) >= DELIMITED:
                return None, errno.MSGSIZE
            searched = max(0, len(buf) - len(delimiter) + 1)
            self._burst = 0
            err = stream.fill(len(buf) + 1, deadline)
            if err is not None:
                return None, err
        if stream._reader is not None:
            stream.fill(len(buf) + 1)  # raises: another task reads
        if searched == 0 and self._breathe():
            return self.read(delimiter, timeout)
        return stream.take(at + len(delimiter)), None

    def _breathe(self) -> bool:
        """A reader whose buffer holds thousands of small pieces lets others run now and then. True when it did: then
        another task may have read or closed, and the read starts again."""
        self._burst += 1
        if self._burst < BURST:
            return False
        self._burst = 0
        scheduler.pause()
        return True

    def write(self, data: Data | Iterable[Data]) -> Result:
        """Sends ``data``, or each piece of a list of them. ``(False, err)`` when the connection is broken or closed.

        What a task writes is gathered and sent when it blocks. With more than 1 MiB unsent (limit ``unsent``) the call blocks
        until the peer has taken most of it; no progress for 30 s (``write_timeout``) closes the connection with
        ``errno.TIMEDOUT``.

        A ``time.deadline`` that runs out ends the blocking with ``errno.TIMEDOUT``, and the connection stays open: ``data`` is
        queued and still goes out. A further write under it, past the same limit, is refused and queues nothing.
        """
        stream = self._stream
        if isinstance(data, (str, bytes, bytearray, memoryview)):
            err = stream.write(to_bytes(data))
        else:
            err = stream.write(b"".join([to_bytes(piece) for piece in data]))
        return OK if err is None else failure(err)

    def close(self) -> Result:
        """Closes the connection. What was written is still delivered, for 10 s at most (limit ``linger``), and else the peer
        gets a reset; a blocked reader gets ``errno.CLOSED``. ``(False, errno.CLOSED)`` when it was closed before."""
        scheduler.check_thread("conn.close")
        err = self._stream.close()
        return OK if err is None else failure(err)

    def limit(self, size: int | None) -> None:
        """Sets how many unread bytes may gather before reading pauses; None for the limit ``receive_mark``."""
        if size is not None and size < 1:
            raise ValueError(f"conn.limit needs a positive size in bytes, not {size}")
        self._stream.set_mark(self._stream.limits.receive_mark if size is None else size)

    def unreadbytes(self) -> int:
        """Bytes that arrived and were not read."""
        return len(self._stream.buf)

    def unsentbytes(self) -> int:
        """Bytes written that the kernel has not taken."""
        return self._stream.unsent

    def isalive(self) -> bool:
        """Whether it is neither closed nor broken nor ended by the peer."""
        return self._stream.err is None and self._stream.werr is None

    def __enter__(self) -> Conn:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Finalizers run anywhere, in another thread or within the loop's own code: so only a note is left.
        stream: Stream | None = getattr(self, "_stream", None)
        if stream is not None and not stream.closed:
            _loop.post(forgotten, stream)

    def __repr__(self) -> str:
        state = "closed" if self._stream.closed else self._stream.err or "open"
        return f"<{type(self).__module__.rpartition('.')[2]} connection with {self.remoteaddr}, {state}>"


def forgotten(stream: Stream) -> None:
    """Nobody holds the connection any more. A protocol above it, which may have been forgotten with it, says goodbye."""
    stream.shutdown()
    stream.close()


def deadline_after(timeout: float) -> float:
    """The time of ``time.monotonic()`` in ``timeout`` ms. Raises ValueError for what is no time-out."""
    if not 0 <= timeout < inf:
        raise ValueError(f"a time-out is in ms, finite and not negative, not {timeout!r}")
    return monotonic() + timeout / 1000


@returns_pair("tcp.listen", "listener")
@settings("tcp.listen")
def listen(
    addr: str | Mapping[str, Any],
    accept: Callable[[Conn], object] | None = None,
    backlog: int | None = None,
    *,
    limits: Limits = DEFAULT,
) -> tuple[Listener, None] | tuple[None, str]:
    """Listens on ``addr``; ``accept(conn)`` runs in a task of its own for each connection.

    ``(listener, None)`` or ``(None, err)``, which is logged too. ``listener.addr`` and ``.port`` tell the real port after
    ``:0``. A connection that ``accept`` leaves open belongs to whoever holds it. ``backlog``: connections that the kernel
    queues. A dict with these keys may be given instead. Of ``limits`` it heeds ``receive_mark``, ``unsent``,
    ``write_timeout`` and ``linger``.
    """
    assert not isinstance(addr, Mapping)  # ``settings`` has taken it apart
    if not callable(accept):
        raise TypeError("tcp.listen needs accept, a function that gets the connection")
    check_limits(limits)

    def accepted(sock: socket.socket, remoteaddr: str) -> None:
        scheduler.fork(accept, Conn(Stream(sock, remoteaddr, limits)), accept_code, 0)

    accept_code = getattr(accept, "__code__", None)
    return _listen("tcp.listen", addr, accepted, backlog)


@returns_pair("tcp.connect", "conn")
@settings("tcp.connect", "bind")
def connect(
    addr: str, bind: str | Mapping[str, Any] | None = None, timeout: float | None = None, *, limits: Limits = DEFAULT
) -> tuple[Conn, None] | tuple[None, str]:
    """Connects; blocks until it is done, for ``timeout`` ms at most (else as long as the system tries).

    A name's IPv6 and IPv4 addresses are raced. ``bind`` is a local IP address, with or without a port. The options may be
    given as a dict in its place: ``tcp.connect(addr, {"timeout": 1000})``. ``limits`` as for ``listen``.
    """
    assert not isinstance(bind, Mapping)
    check_limits(limits)
    sock, err = dial(addr, bind, timeout, "tcp.connect")
    if sock is None:
        assert err is not None
        return None, err
    return Conn(Stream(sock, addr, limits)), None
