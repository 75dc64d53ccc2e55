"""What the tests of TLS share: a listener with certificates of ``authorities``, Python's ``ssl`` as the peer."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from OpenSSL import SSL

from silly import check
from silly.net import tls

from ..helpers import turn
from . import authorities

NO_PROTOCOL = "TLS: the peer speaks none of our application protocols (ALPN)"
"""What a client is told by the alert no_application_protocol."""
if SSL.OPENSSL_VERSION_NUMBER < 0x30300000:
    NO_PROTOCOL = "TLS: OpenSSL gives no reason; before 3.3 it gives none if the peer speaks none"


def echo(conn: Any) -> None:
    while True:
        line, _ = conn.read("\n")
        if line is None:
            break
        conn.write(line)


@contextmanager
def listening(accept: Callable[[Any], object] = echo, certs: Any = None, **options: Any) -> Iterator[Any]:
    """A TLS listener on a free port of the loopback."""
    listener = check(tls.listen("127.0.0.1:0", certs or [authorities.server().entry], accept, **options))
    try:
        yield listener
    finally:
        listener.close()
        turn(3)


def connect(listener: Any, **options: Any) -> Any:
    """A connection to ``listener`` that trusts the tests' root."""
    return check(tls.connect(f"127.0.0.1:{listener.port}", **{"ca": authorities.root().pem, **options}))


def explained(listener: Any, **options: Any) -> Any:
    """Why a connection to ``listener`` can't be made; None when it can."""
    given = {"hostname": None, "alpnprotos": None, "ca": authorities.root().pem, "verify": True, "timeout": None, **options}
    conn, err = tls.connect_explained(f"127.0.0.1:{listener.port}", **given)
    if conn is not None:
        conn.close()
    return err


def reused(conn: Any) -> bool:
    """Whether a connection has resumed a session."""
    return bool(SSL._lib.SSL_session_reused(conn._stream.ssl._ssl))


def python_client(port: int, context: ssl.SSLContext, data: bytes = b"hello\n", **options: Any) -> dict[str, Any]:
    """What Python's ``ssl`` sees of a server that echoes. For ``in_thread``."""
    options.setdefault("server_hostname", "localhost")
    with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(raw, **options) as sock:
        sock.sendall(data)
        answer = b""
        while len(answer) < len(data):
            piece = sock.recv(len(data) - len(answer))
            if not piece:
                break
            answer += piece
        seen = {
            "answer": answer,
            "version": sock.version(),
            "cipher": sock.cipher(),
            "protocol": sock.selected_alpn_protocol(),
            "reused": sock.session_reused,
            "session": sock.session,
            "cert": sock.getpeercert(True),
        }
        sock.unwrap()
        return seen


def python_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A context of Python's ``ssl`` that trusts the tests' root."""
    context = ssl.create_default_context(cadata=authorities.root().pem)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context
