"""A program that uses ``bridge.socket``."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Any, assert_type

from silly import bridge

context = bridge.socket.create_default_context(cafile="ca.pem")


class Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = bridge.socket.create_connection((self.host, self.port), self.timeout)


def main() -> None:
    assert_type(context, ssl.SSLContext)
    sock = bridge.socket.create_connection(("example.org", 443), timeout=5, source_address=("127.0.0.1", 0))
    assert_type(sock, bridge.socket.Socket)
    plain: socket.socket = sock
    assert_type(sock.recv(100), bytes)
    assert_type(sock.recv_into(bytearray(100)), int)
    assert_type(sock.recvfrom(100), tuple[bytes, Any])
    assert_type(sock.gettimeout(), float | None)
    sock.sendall(memoryview(b"hello"))
    sock.settimeout(None)
    with context.wrap_socket(plain, server_hostname="example.org") as secure:
        secure.sendall(b"hello")
    one, other = bridge.socket.socketpair()
    with one, other.makefile("rb") as lines:
        lines.readline()


def wrong(sock: bridge.socket.Socket) -> None:
    sock.sendall("hello")  # wrong: arg-type, reportArgumentType
    sock.settimeout("5")  # wrong: arg-type, reportArgumentType
    bridge.socket.create_connection("example.org:443")  # wrong: arg-type, reportArgumentType
