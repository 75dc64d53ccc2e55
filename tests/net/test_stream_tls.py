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
from silly.net import _output, _tls_direct, _tls_pipe, tls
from silly.net._tls_pipe import Pipe
from silly.net._tls_stream import TlsStream

from ..helpers import turn
from . import authorities, check_stream
from .http_support import certs
from .support import Job, until
from .tls_recorder import RecordedSocket, RecordedStream


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


class TestTls(check_stream.Suite):
    transport = TlsTransport("127.0.0.1:0")


class TestTlsAccepted(check_stream.Suite):
    transport = TlsTransport("127.0.0.1:0", swapped=True)


class TestTlsByPyOpenSSL(check_stream.Suite):
    """By pyOpenSSL's own methods, as where ``_tls_direct`` finds another pyOpenSSL than it knows."""

    transport = TlsTransport("127.0.0.1:0")

    @pytest.fixture(autouse=True)
    def by_pyopenssl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_tls_pipe, "_in_c", lambda: None)
        monkeypatch.setattr(_tls_direct, "_direct", lambda: None)


# ---- records in pieces ----------------------------------------------------------------------------------------------


class ChoppedSocket:
    """A socket that takes and gives as few or as many bytes at a time as chance has it: records are split and joined."""

    def __init__(self, sock: socket.socket, size: Callable[[], int]) -> None:
        self._sock = sock
        self._size = size

    def recv(self, size: int) -> bytes:
        return self._sock.recv(min(size, self._size()))

    def sendmsg(self, parts: list[Any]) -> int:
        return self._sock.send(memoryview(b"".join(parts[:4]))[: self._size()])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class ChoppedPipe:
    """The same for what a ``Pipe``, in C or in Python, receives by itself."""

    def __init__(self, pipe: Pipe, size: Callable[[], int]) -> None:
        self._pipe = pipe
        self._size = size

    def receive(self, fd: int, buf: bytearray, size: int) -> int:
        return self._pipe.receive(fd, buf, min(size, self._size()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


class ChoppedTransport(TlsTransport):
    def connect(self, addr: str) -> Any:
        conn = super().connect(addr)
        streams = [each for each in scheduler.loop.handlers if isinstance(each, TlsStream)]
        until(lambda: not any(each.unsent for each in streams))
        until(lambda: not conn._stream._tickets_due)
        until(lambda: not select.select([conn._stream.sock], [], [], 0)[0])
        return conn


class ChoppedSuite(check_stream.Suite):
    # These count what goes to the kernel, which chance does here.
    test_writes_of_a_task_are_gathered = None  # type: ignore[assignment]
    test_the_main_program_sends_at_once = None  # type: ignore[assignment]

    @pytest.mark.parametrize("at_once", [False])  # the kernel never gets all at once
    def test_the_owner_is_called_when_the_kernel_takes_output_again(self, pair: check_stream.Pair, at_once: bool) -> None:
        super().test_the_owner_is_called_when_the_kernel_takes_output_again(pair, at_once)

    @pytest.fixture(autouse=True, params=range(2))
    def chopped(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
        chance = random.Random(request.param)
        sizes = []

        def size() -> int:
            """Headers are split often, and most bytes still go in large pieces."""
            sizes.append(chance.randint(1, chance.choice((5, 100, 20_000, 200_000))))
            return sizes[-1]

        class ChoppedStream(RecordedStream):
            __slots__ = ()

            def __init__(self, sock: socket.socket, *args: Any) -> None:
                sock.__class__ = RecordedSocket
                super().__init__(ChoppedSocket(sock, size), *args)  # type: ignore[arg-type]
                self.pipe = ChoppedPipe(self.pipe, size)  # type: ignore[assignment]

            def flush(self) -> None:
                """By ``_output.send``."""
                self._dirty = False
                if self.unsent and not self._blocked:
                    self._transmit()

        send = _output.send
        monkeypatch.setattr(tls, "TlsStream", ChoppedStream)
        monkeypatch.setattr(_output, "send", lambda fd, data: send(fd, memoryview(data)[: size()]))
        yield
        assert sizes, "nothing was chopped"


class TestTlsChopped(ChoppedSuite):
    transport = ChoppedTransport("127.0.0.1:0")


class TestTlsAcceptedChopped(ChoppedSuite):
    transport = ChoppedTransport("127.0.0.1:0", swapped=True)


def test_bytes_in_and_out_are_counted_alike() -> None:
    """As they are on the connection, encrypted, those of the handshake and behind ``close`` too."""
    transport = TlsTransport("127.0.0.1:0")
    accepted: list[Any] = []
    with transport.listen(accepted.append) as listener, transport.connect(listener.addr) as conn:
        until(lambda: accepted)
        one, other = conn._stream, accepted[0]._stream
        until(lambda: one.received == other.written())
        assert other.received == one.written() > 300
        for size in (1, 100, 20_000, 300_000):
            for here, there in ((conn, accepted[0]), (accepted[0], conn)):
                writing = Job(lambda here=here, size=size: here.write(b"x" * size))
                assert there.read(size)[0] == b"x" * size
                assert writing.result() == (True, None)
                assert there._stream.received == here._stream.written()
        other.close(await_end=True)
        conn.write("dropped")
        one.flush()
        until(lambda: other.received == one.written())
        one.abort()


# ---- what leaves the descriptor ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"hello", b"h", b"GET / HTTP/1.1\r\n\r\n" * 100, b"\x16\x03\x03\0\x40hello", b"\x17\x03\x03\0\5hello"]
)
def test_plain_bytes_would_be_seen(data: bytes) -> None:
    """``tls_recorder`` looks at what the tests of the network send."""
    transport = TlsTransport("127.0.0.1:0")
    accepted: list[Any] = []
    with transport.listen(accepted.append) as listener, transport.connect(listener.addr) as conn:
        until(lambda: accepted)
        seen = RecordedStream.seen
        conn.write("protected")
        conn._stream.flush()
        assert RecordedStream.seen == seen + 31
        assert RecordedStream.wrong == []
        conn._stream._send_as_it_is(data)
        conn._stream.flush()
        (wrong,) = RecordedStream.wrong
        assert repr(data[:5])[2:-1] in wrong
        RecordedStream.wrong.clear()
        conn._stream.abort()
        accepted[0]._stream.abort()
