"""The load's WebSockets: each sends a text now and then and checks its echo; when it is closed, it comes back soon.

RFC 6455 as far as a client of short texts needs it; no extensions.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import struct
import time

from .requests import connect, unconnected
from .tally import Tally

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
BACK = 0.1
"""A socket that was closed comes back within this time, at random, in s."""
PAUSE = 4.0
"""The greatest time between two texts, in s; 2 on average."""


def frame(opcode: int, payload: bytes) -> bytes:
    mask = os.urandom(4)
    masked = bytes([byte ^ mask[at % 4] for at, byte in enumerate(payload)])
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked


class Socket(asyncio.Protocol):
    """One connection: the handshake, texts, the closing handshake."""

    def __init__(self, sockets: Sockets, left: float | None) -> None:
        """``left``: when its predecessor was closed."""
        self._all = sockets
        self._left = left
        self._began = time.monotonic()
        self._key = base64.b64encode(os.urandom(16))
        self._got = bytearray()
        self._sent: tuple[bytes, float] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ours = False
        self.open = False
        self.ended = False

    def head(self) -> bytes:
        head = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        return head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + self._key + b"\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._all.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self.open and not self._shake_hands():
            return
        while not self.ended and len(self._got) >= 2:
            first, size = self._got[0], self._got[1]
            if size > 125 or not first & 0x80:
                self._all.lose("a frame that nobody asked for", bytes(self._got[:50]))
                self._end(0)
                return
            if len(self._got) < 2 + size:
                return
            payload = bytes(self._got[2 : 2 + size])
            del self._got[: 2 + size]
            self._take(first & 15, payload)

    def _shake_hands(self) -> bool:
        if self.ended:
            return False
        head, end, rest = self._got.partition(b"\r\n\r\n")
        if not end:
            return False
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        fields = head.lower()
        accept = base64.b64encode(hashlib.sha1(self._key + GUID).digest())
        if status.startswith("HTTP/1.1 101") and accept in head:
            self.open = True
            self._got = rest
            self._all.opened(self._left)
            self._timer = asyncio.get_running_loop().call_later(random.uniform(0, PAUSE), self._say)
            return True
        after = fields.partition(b"\r\nretry-after:")[2].split(b"\r\n")[0].strip()
        if status.startswith("HTTP/1.1 503") and after.isdigit():
            self._all.tally.now.ws_busy += 1
            self._end(float(after))
        else:
            self._all.lose(f"status {status}", bytes(head))
            self._end(0)
        return False

    def _say(self) -> None:
        text = os.urandom(8).hex().encode()
        self._sent = text, time.monotonic()
        self.transport.write(frame(TEXT, text))

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
            if not self._ours:
                self.transport.write(frame(CLOSE, payload[:2]))
                self._all.tally.now.closed[str(code)] += 1
            self._end(0)
        elif opcode == TEXT and self._sent is not None and payload == self._sent[0]:
            self._sent = None
            self._all.tally.now.echoes += 1
            self._timer = asyncio.get_running_loop().call_later(random.uniform(0, PAUSE), self._say)
        else:
            self._all.lose("a wrong frame", bytes([opcode]) + payload)
            self._end(0)

    def waits_since(self) -> float | None:
        """When it began to wait for what it waits for."""
        if self.ended:
            return None
        if not self.open:
            return self._began
        return self._sent[1] if self._sent is not None else None

    def give_up(self) -> None:
        self._all.lose("timed out: the " + ("echo" if self.open else "handshake"), bytes(self._got[:100]))
        self._end(0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.connections.discard(self)
        if self.ended:
            return
        if self.open:
            if not self._ours:
                self._all.tally.now.closed["1006"] += 1
        else:
            how = "cut" if self._got else "reset" if isinstance(exc, OSError) else "closed"
            self._all.lose(f"{how} in the handshake", bytes(self._got[:100]))
        self._end(0)

    def leave(self) -> None:
        """Closes it from here."""
        self._ours = True
        if self.open and not self.ended:
            self.transport.write(frame(CLOSE, struct.pack("!H", 1000)))
        else:
            self.transport.abort()

    def _end(self, wait: float) -> None:
        """It is over; the next one comes ``wait`` s later, and a little."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sent is not None and not self._ours:
            self._all.tally.now.unanswered += 1
        self.transport.close()  # what was written is sent before
        if not self._ours:
            self._all.back(wait, time.monotonic() if self.open or self._left is None else self._left)


class Sockets:
    """``count`` of them."""

    def __init__(self, tally: Tally, port: int, count: int, timeout: float) -> None:
        self.tally = tally
        self.connections: set[Socket] = set()
        self._port = port
        self._count = count
        self._timeout = timeout
        self._stopped = False
        self._all_open = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Opens all, a few at a time, and returns when they are open."""
        for _ in range(self._count):
            self._connect(None)
            await asyncio.sleep(0.002)
        if self._count:
            await self._all_open.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Watches them until ``stop``, then closes them."""
        while not stop.is_set():
            self._expire()
            await asyncio.sleep(0.5)
        self._stopped = True
        for socket in list(self.connections):
            socket.leave()
        end = time.monotonic() + self._timeout
        while self.connections and time.monotonic() < end:
            await asyncio.sleep(0.02)
        for socket in list(self.connections):
            if not socket.ended:
                self.lose("timed out: our close", b"")
            socket.transport.abort()

    def _expire(self) -> None:
        now = time.monotonic()
        for socket in list(self.connections):
            since = socket.waits_since()
            if since is not None and now - since > self._timeout:
                socket.give_up()

    def opened(self, left: float | None) -> None:
        if left is not None:
            self.tally.now.reconnected.append(time.monotonic() - left)
        if not self._all_open.is_set() and sum(socket.open and not socket.ended for socket in self.connections) >= self._count:
            self._all_open.set()

    def back(self, wait: float, left: float) -> None:
        if not self._stopped:
            asyncio.get_running_loop().call_later(wait + random.uniform(0, BACK), self._connect, left)

    def _connect(self, left: float | None) -> None:
        if self._stopped:
            return
        if left is not None:
            self.tally.now.attempts.append(time.monotonic())
        task = asyncio.get_running_loop().create_task(self._open_one(left))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _open_one(self, left: float | None) -> None:
        socket = Socket(self, left)
        try:
            await connect(self._port, socket.head(), socket)
        except OSError as exc:
            self.lose(unconnected(exc), b"")
            self.back(0, time.monotonic() if left is None else left)

    def lose(self, reason: str, got: bytes) -> None:
        self.tally.now.lose_ws(reason, f"WebSocket, {got!r}")
