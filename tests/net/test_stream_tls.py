"""The conformance suite of byte streams, for TLS; and for TLS whose records come and go in pieces of any size."""

from __future__ import annotations

import random
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from silly import errno
from silly._core import scheduler
from silly.net import _tls_direct, tls
from silly.net._tls_stream import TlsStream

from ..helpers import turn
from . import authorities, check_stream
from .http_support import certs
from .support import Job, until


class TlsTransport(check_stream.Transport):
    reset_while_writing = (errno.CONNRESET, errno.PIPE)

    def listen(self, accept: Callable[[Any], object]) -> Any:
        listener, err = tls.listen(self.addr, certs(), accept)
        assert err is None
        return listener

    def connect(self, addr: str) -> Any:
        conn, err = tls.connect(addr, ca=authorities.root().pem)
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


class TestTlsByPyOpenSSL(TlsSuite):
    """By pyOpenSSL's own methods, as where ``_tls_direct`` finds another pyOpenSSL than it knows."""

    transport = TlsTransport("127.0.0.1:0")

    @pytest.fixture(autouse=True)
    def by_pyopenssl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_tls_direct, "_direct", lambda: None)


class Chopped:
    """A socket that takes and gives as few or as many bytes at a time as chance has it: records are split and joined."""

    def __init__(self, sock: socket.socket, chance: random.Random) -> None:
        self._sock = sock
        self._chance = chance

    def _size(self) -> int:
        """Headers are split often, and most bytes still go in large pieces."""
        return self._chance.randint(1, self._chance.choice((5, 100, 20_000, 200_000)))

    def recv(self, size: int) -> bytes:
        return self._sock.recv(min(size, self._size()))

    def send(self, data: Any) -> int:
        return self._sock.send(memoryview(data)[: self._size()])

    def sendmsg(self, parts: list[Any]) -> int:
        return self.send(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class ChoppedTransport(TlsTransport):
    def connect(self, addr: str) -> Any:
        conn = super().connect(addr)
        streams = [each for each in scheduler.loop.handlers if isinstance(each, TlsStream)]
        until(lambda: not any(each.unsent for each in streams))
        until(lambda: not conn._stream._tickets_due)
        until(lambda: not select.select([conn._stream.sock], [], [], 0)[0])
        return conn


class ChoppedSuite(TlsSuite):
    # These count what goes to the kernel, which chance does here.
    test_writes_of_a_task_are_gathered = None  # type: ignore[assignment]
    test_the_main_program_sends_at_once = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True, params=range(2))
    def chopped(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        chance = random.Random(request.param)

        class ChoppedStream(TlsStream):
            __slots__ = ()

            def __init__(self, sock: socket.socket, *args: Any) -> None:
                super().__init__(Chopped(sock, chance), *args)  # type: ignore[arg-type]

        monkeypatch.setattr(tls, "TlsStream", ChoppedStream)


class TestTlsChopped(ChoppedSuite):
    transport = ChoppedTransport("127.0.0.1:0")


class TestTlsAcceptedChopped(ChoppedSuite):
    transport = ChoppedTransport("127.0.0.1:0", swapped=True)
