"""Sees every byte that a TLS stream sends, in all tests of the network. Each must lie in a record; behind the handshake, in
one of protected data. The failure to fear is plain text that leaves a descriptor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from silly import errno
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


class RecordedStream(TlsStream):
    __slots__ = ("_seeing", "records")

    seen = 0
    """Bytes that were sent behind handshakes, and looked at."""
    wrong: list[str] = []
    """What was wrong with others."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.records: Records | None = Records()
        self._seeing = False

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
        self._see(super().flush)

    def _transmit(self) -> None:
        self._see(super()._transmit)

    def _see(self, send: Callable[[], None]) -> None:
        """What of the output is gone after ``send`` has left the descriptor."""
        if self._seeing or self.records is None:
            send()
            return
        self._seeing = True
        before = b"".join(self._out)
        try:
            send()
        finally:
            self._seeing = False
        if self.werr not in (None, errno.CLOSED) or self.sock is None:
            self.records = None  # it was dropped, or a part of it
            return
        left = b"".join(self._out)
        sent = before[: len(before) - len(left)]
        if self.records.protected_from is not None:
            RecordedStream.seen += len(sent)
        wrong = self.records.see(sent) if sent + left == before else f"output was exchanged: {left[:50]!r}"
        if wrong is not None:
            RecordedStream.wrong.append(wrong)
            self.records = None
