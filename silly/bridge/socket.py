"""Sockets for other people's libraries: real ``socket.socket`` objects whose calls
block the task, and let the other tasks go on.

    sock = bridge.socket.create_connection(("127.0.0.1", 8080), timeout=5)
    lines = sock.makefile("rw")
    lines.write("hello\\n")
    lines.flush()
    lines.readline()                        # -> "hello\\n"
    lines.close()
    sock.close()

All is as in ``socket`` and ``ssl``: names, arguments, results, exceptions, and seconds
for time-outs. docs/bridges.md has recipes for the standard library's clients.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

from .._core.loop import monotonic
from .._core.tasks import DeadlineOver
from ._secure_sockets import SSLSocket
from ._sockets import Socket, _adopt, _check, _look_up

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["SSLSocket", "Socket", "create_connection", "create_default_context", "getaddrinfo", "socketpair"]

_DEFAULT: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]
"""What the standard library's clients pass as the time-out if they were given none."""


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: str | os.PathLike[str] | None = None,
    capath: str | os.PathLike[str] | None = None,
    cadata: str | ReadableBuffer | None = None,
) -> ssl.SSLContext:
    """Returns an ``ssl.create_default_context``, whose ``wrap_socket`` takes a
    ``Socket`` and returns an ``SSLSocket``.

        context = bridge.socket.create_default_context(cafile="ca.pem")
        sock = bridge.socket.create_connection(("localhost", 8443))
        sock = context.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(b"hello")
        sock.recv(100)                      # -> b"hello"
        sock.close()

    Any context does that whose ``sslsocket_class`` is ``SSLSocket``.
    """
    context = ssl.create_default_context(purpose, cafile=cafile, capath=capath, cadata=cadata)
    context.sslsocket_class = SSLSocket
    return context


def socketpair(family: int | None = None, type: int = socket.SOCK_STREAM, proto: int = 0) -> tuple[Socket, Socket]:
    """Returns two sockets that are connected with each other.

        one, other = bridge.socket.socketpair()
        one.sendall(b"hello")
        other.recv(100)                     # -> b"hello"
        one.close()
        other.close()

    The arguments are those of ``socket.socketpair``.
    """
    one, other = socket.socketpair(family, type, proto)
    return _adopt(one), _adopt(other)


def create_connection(
    address: tuple[str | None, int | str],
    timeout: float | None = _DEFAULT,
    source_address: tuple[str, int] | None = None,
    *,
    all_errors: bool = False,
) -> Socket:
    """Connects to ``(host, port)`` by TCP, and returns the socket: to each address of
    the host until one answers.

        sock = bridge.socket.create_connection(("127.0.0.1", 8080), timeout=5)
        sock.sendall(b"hello")
        sock.recv(100)                      # -> b"hello"
        sock.close()

    ``timeout``, in seconds, is that of the socket. It bounds the look-up of the name,
    and each attempt. Without it ``socket.setdefaulttimeout`` counts. ``source_address``
    is the own ``(host, port)``.

    Raises the OSError of the last attempt, with ``all_errors`` an ExceptionGroup of
    all; ``socket.gaierror`` if there is no such name.
    """
    _check("bridge.socket.create_connection")
    limit = socket.getdefaulttimeout() if timeout is _DEFAULT else timeout
    host, port = address
    found = _look_up((host, port, 0, socket.SOCK_STREAM), monotonic() + limit if limit else None)
    failures: list[OSError] = []
    try:
        for family, kind, proto, _, sockaddr in found:
            sock = Socket(family, kind, proto)
            try:
                if timeout is not _DEFAULT:
                    sock.settimeout(timeout)
                if source_address:
                    sock.bind(source_address)
                sock.connect(sockaddr)
            except BaseException as exc:
                sock.close()
                if not isinstance(exc, OSError) or isinstance(exc, DeadlineOver):
                    raise
                failures.append(exc)
            else:
                return sock
        if not failures:
            raise OSError("getaddrinfo returns an empty list")
        if all_errors:
            raise ExceptionGroup("create_connection failed", failures)
        raise failures[-1]
    finally:
        failures.clear()  # their tracebacks refer to this frame


def getaddrinfo(
    host: str | bytes | None, port: int | str | bytes | None, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Any]:
    """``socket.getaddrinfo``. A thread looks the name up, and the task waits.

    found = bridge.socket.getaddrinfo("127.0.0.1", 80, type=1)
    found[0][4]                         # -> ("127.0.0.1", 80)
    """
    _check("bridge.socket.getaddrinfo")
    return _look_up((host, port, family, type, proto, flags))
