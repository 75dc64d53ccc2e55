"""Sees every byte that a TLS stream sends, in all tests of the network. Each must lie in a record; behind the handshake, in
one of protected data. The failure to fear is plain text that leaves a descriptor."""

from __future__ import annotations

import os
import socket
import weakref
from typing import Any

import pytest

from silly.net import _output, tls
from silly.net._tls_stream import TlsStream

HEADER = 5
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23


class Records:
    """The records that one stream sends."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes seen so far."""
        self.protected_from: int | None = None
        """Where the handshake ends; None until it does."""
        self.protected = (DATA,)
        """The types of the records behind it."""
        self._at = 0
        self._rest = b""

    def see(self, data: bytes) -> str | None:
        """Returns what is wrong with ``data``, the next that was sent."""
        self.size += len(data)
        self._rest += data
        while self._rest:
            head = self._rest[:HEADER]
            behind = self.protected_from is not None and self._at >= self.protected_from
            kinds = self.protected if behind else (CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA)
            length = int.from_bytes(head[3:5], "big")
            versions = (b"\3\3",) if behind else (b"\3\1", b"\3\2", b"\3\3")
            if head[0] not in kinds or (len(head) > 2 and head[1:3] not in versions):
                return f"no record{' of protected data' if behind else ''}: {self._rest[:50]!r}"
            if len(head) == HEADER and not (16 if behind else 0) < length <= 16_384 + 256:
                return f"a record of {length} bytes: {self._rest[:50]!r}"
            size = HEADER + length
            if self.protected_from is not None and self._at < self.protected_from < self._at + size:
                return f"the handshake ends within a record: {self._rest[:50]!r}"
            if len(head) < HEADER or len(self._rest) < size:
                return None
            self._rest = self._rest[size:]
            self._at += size
        return None


class RecordedSocket(socket.socket):
    __slots__ = ()

    def send(self, data: Any, *args: Any) -> int:
        return _saw(self.fileno(), data, super().send(data, *args))

    def sendmsg(self, parts: Any, *args: Any) -> int:
        return _saw(self.fileno(), b"".join(parts), super().sendmsg(parts, *args))


class RecordedStream(TlsStream):
    """What it gives to ``send`` is looked at, byte for byte, and not what it says that it gives. ``flush`` sends by itself, in
    C: that is given another descriptor, and what comes there goes on to the connection's."""

    __slots__ = ("__weakref__", "_real_fd", "records")

    seen = 0
    """Bytes that were sent behind handshakes, and looked at."""
    wrong: list[str] = []
    """What was wrong with others."""

    def __init__(self, sock: socket.socket, *args: Any) -> None:
        self.records: Records | None = Records()
        self._real_fd: int | None = None
        """The connection's descriptor, while ``flush`` is given another."""
        if type(sock) is socket.socket:
            sock.__class__ = RecordedSocket
        _streams[sock.fileno()] = self
        super().__init__(sock, *args)

    def handshake(self, deadline: float) -> str | None:
        err = super().handshake(deadline)
        if self.records is not None and err is None:
            self.records.protected_from = self.records.size + self.unsent
            if self.ssl.get_protocol_version_name() == "TLSv1.2":
                self.records.protected = (DATA, ALERT)
        return err

    def refuse_http(self) -> None:
        self.records = None  # this answer is no TLS
        super().refuse_http()

    def flush(self) -> None:
        if self.fd < 0:
            super().flush()
            return
        self._real_fd, self.fd = self.fd, _near.fileno()
        try:
            super().flush()
        finally:
            if self._real_fd is not None:
                data = self._came_out()
                sent = self._send(data)
                if sent != len(data):  # as if ``flush`` had been told that
                    self._out.insert(0, data)
                    self.unsent += len(data)
                    self.flushed -= len(data)
                    super()._flush(*((max(sent, 0), None) if isinstance(sent, int) else (0, sent)))

    def _flush(self, sent: int, failure: BaseException | None) -> None:
        if self._real_fd is not None:
            data = self._came_out()
            assert sent == len(data)
            if data:
                really = self._send(data)
                sent, failure = (max(really, 0), None) if isinstance(really, int) else (0, really)
        super()._flush(sent, failure)

    def _came_out(self) -> bytes:
        """What ``flush`` has sent. It gets the right descriptor back."""
        assert self._real_fd is not None
        self.fd, self._real_fd = self._real_fd, None
        data = b""
        while True:
            try:
                data += _far.recv(1 << 20)
            except BlockingIOError:
                return data

    def _send(self, data: bytes) -> int | OSError:
        try:
            return _output.send(self.fd, data) if data else 0
        except OSError as exc:
            return exc

    def see(self, data: bytes) -> None:
        """Looks at what has left the descriptor."""
        if self.records is None:
            return
        if self.records.protected_from is not None:
            RecordedStream.seen += len(data)
        wrong = self.records.see(data)
        if wrong is not None:
            RecordedStream.wrong.append(wrong)
            self.records = None


_streams: weakref.WeakValueDictionary[int, RecordedStream] = weakref.WeakValueDictionary()
"""Those whose output is looked at, by their descriptors."""
_near, _far = socket.socketpair()
for _end in (_near, _far):
    _end.setblocking(False)
    _end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)


def _stream(fd: int) -> RecordedStream | None:
    found = _streams.get(fd)
    return None if found is None or found.sock is None else found  # the number may be another's now


def _saw(fd: int, data: Any, sent: int) -> int:
    stream = _stream(fd)
    if stream is not None and sent > 0:
        stream.see(bytes(memoryview(data)[:sent]))
    return sent


def record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at every TLS stream that is made from now on."""
    send, sendfile = _output.send, os.sendfile

    def file_sent(out: int, *args: Any) -> int:
        if _stream(out) is not None:
            RecordedStream.wrong.append("a file, as it is")
        return sendfile(out, *args)

    monkeypatch.setattr(tls, "TlsStream", RecordedStream)
    monkeypatch.setattr(_output, "send", lambda fd, data: _saw(fd, data, send(fd, data)))
    monkeypatch.setattr(os, "sendfile", file_sent)
