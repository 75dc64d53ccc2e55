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


class ChoppedSuite(TlsSuite):
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

        class ChoppedStream(TlsStream):
            __slots__ = ()

            def __init__(self, sock: socket.socket, *args: Any) -> None:
                super().__init__(ChoppedSocket(sock, size), *args)  # type: ignore[arg-type]
                self.pipe = ChoppedPipe(self.pipe, size)  # type: ignore[assignment]

            def flush(self) -> None:
                """By ``_output.send``."""
                self._dirty = False
                if self._out and not self._blocked:
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


# ---- what leaves the descriptor ---------------------------------------------------------------------------------------


class Records:
    """Sees every byte that a stream sends. Each must lie in a record; after the handshake, in one of protected data."""

    def __init__(self) -> None:
        self.size = 0
        self._rest = b""
        self._handshake = True

    def see(self, data: bytes, handshake: bool) -> None:
        if not handshake and self._handshake:
            self._handshake = False
            assert not self._rest, "the handshake ends with a whole record"
        self.size += len(data)
        data = self._rest + data
        while len(data) >= 5:
            kind, version, length = data[0], data[1:3], int.from_bytes(data[3:5], "big")
            assert version == b"\x03\x03" or (handshake and version == b"\x03\x01"), data[:20]
            if handshake:
                assert kind in (20, 21, 22, 23), data[:20]
                assert 0 < length <= 16_384 + 256
            else:
                assert kind == 23, data[:20]
                assert 16 < length <= 16_384 + 256
            if len(data) < 5 + length:
                break
            data = data[5 + length :]
        self._rest = data


class RecordedStream(TlsStream):
    __slots__ = ("_seeing", "records")

    all: list[RecordedStream] = []

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.records = Records()
        self._seeing = False
        self.all.append(self)

    def flush(self) -> None:
        self._see(super().flush)

    def _transmit(self) -> None:
        self._see(super()._transmit)

    def _see(self, send: Callable[[], None]) -> None:
        """What of the output is gone after ``send`` has left the descriptor."""
        if self._seeing:
            send()
            return
        self._seeing = True
        before = b"".join(self._out)
        failed, handshake = self.werr not in (None, errno.CLOSED), self._handshaking
        try:
            send()
        finally:
            self._seeing = False
        if failed or (self.sock is None and not self.closed) or self.werr not in (None, errno.CLOSED):
            return  # it was dropped
        left = b"".join(self._out)
        assert before.endswith(left)
        self.records.see(before[: len(before) - len(left)], handshake)


class RecordedSuite(TlsSuite):
    @pytest.fixture(autouse=True)
    def recorded(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(tls, "TlsStream", RecordedStream)
        RecordedStream.all.clear()
        yield
        assert sum(stream.records.size for stream in RecordedStream.all) > 1000
        RecordedStream.all.clear()


class TestTlsRecorded(RecordedSuite):
    transport = TlsTransport("127.0.0.1:0")


class TestTlsAcceptedRecorded(RecordedSuite):
    transport = TlsTransport("127.0.0.1:0", swapped=True)


class TestTlsByPyOpenSSL(RecordedSuite):
    """By pyOpenSSL's own methods, as where ``_tls_direct`` finds another pyOpenSSL than it knows."""

    transport = TlsTransport("127.0.0.1:0")

    @pytest.fixture(autouse=True)
    def by_pyopenssl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_tls_pipe, "_in_c", lambda: None)
        monkeypatch.setattr(_tls_direct, "_direct", lambda: None)


@pytest.mark.parametrize("data", [b"hello", b"GET / HTTP/1.1\r\n\r\n" * 100, b"\x16\x03\x03\0\5hello"])
def test_plain_bytes_would_be_seen(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "TlsStream", RecordedStream)
    transport = TlsTransport("127.0.0.1:0")
    accepted: list[Any] = []
    with transport.listen(accepted.append) as listener, transport.connect(listener.addr) as conn:
        until(lambda: accepted)
        conn.write("protected")
        conn._stream.flush()
        conn._stream._out.append(data)
        conn._stream.unsent += len(data)
        with pytest.raises(AssertionError):
            conn._stream.flush()
            conn.write("behind")
        conn._stream.abort()
        accepted[0]._stream.abort()
