"""The conformance suite of byte streams, for TLS."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cache
from typing import Any

import trustme

from silly import errno
from silly.net import tls

from ..helpers import turn
from . import check_stream
from .support import Job, until


@cache
def certificates() -> tuple[str, dict[str, str]]:
    """An authority, and a certificate of it."""
    ca = trustme.CA()
    cert = ca.issue_cert("127.0.0.1")
    chain = "".join(blob.bytes().decode() for blob in cert.cert_chain_pems)
    return ca.cert_pem.bytes().decode(), {"cert": chain, "key": cert.private_key_pem.bytes().decode()}


class TlsTransport(check_stream.Transport):
    reset_while_writing = (errno.CONNRESET, errno.PIPE)

    def listen(self, accept: Callable[[Any], object]) -> Any:
        listener, err = tls.listen(self.addr, [certificates()[1]], accept)
        assert err is None
        return listener

    def connect(self, addr: str) -> Any:
        conn, err = tls.connect(addr, ca=certificates()[0])
        assert err is None
        turn(3)  # the server's session tickets
        return conn

    def half_close(self, conn: Any) -> None:
        stream = conn._stream
        stream.ssl.shutdown()
        stream._send_pending()
        stream.flush()
        stream.sock.shutdown(socket.SHUT_WR)


class TlsSuite(check_stream.Suite):
    def test_state(self, pair: check_stream.Pair) -> None:
        """``unsentbytes`` counts what goes to the kernel: records, not what is in them."""
        conn, peer = pair()
        assert conn.isalive() is True
        assert (conn.unreadbytes(), conn.unsentbytes()) == (0, 0)
        peer.write("abc")
        until(lambda: conn.unreadbytes() == 3)
        unsent = Job(lambda: (conn.write("12345"), conn.unsentbytes())[1]).result()
        assert 5 < unsent < 50
        assert peer.read(5) == (b"12345", None)
        assert conn.unsentbytes() == 0
        peer.close()
        until(lambda: not conn.isalive())
        assert conn.read(3) == (b"abc", None)
        assert conn.read(1) == (None, errno.EOF)


class TestTls(TlsSuite):
    transport = TlsTransport("127.0.0.1:0")


class TestTlsAccepted(TlsSuite):
    transport = TlsTransport("127.0.0.1:0", swapped=True)
