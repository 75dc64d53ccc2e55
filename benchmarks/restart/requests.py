"""The load's HTTP requests: at set times, some on new connections, some on kept ones; each answer is checked byte for byte."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import time
from dataclasses import dataclass

from .tally import Tally, Window

PARTS, SIZE = 5, 4096
"""How many parts the answer of ``/parts`` has, and how many bytes each."""
PATHS = ("/fast",) * 6 + ("/slow",) * 3 + ("/parts",)
"""Six of ten requests are answered at once, three after 50 ms, one in parts."""
WAITS = {"/fast": 0.0, "/slow": 0.05, "/parts": 0.08}
"""How long the handlers themselves wait, in s."""
POOL = 50
"""How many kept connections may be idle. Any of them may be next, so that none is idle for long."""


@dataclass(eq=False, slots=True)
class Request:
    """``due``: when it should be sent. A request that is sent again has a new ``number``, and keeps the rest."""

    number: int
    path: str
    due: float
    window: Window

    def body(self) -> bytes:
        if self.path == "/parts":
            return "".join([f"{self.number} {part} ".ljust(SIZE, ".") for part in range(PARTS)]).encode()
        return f"{self.number}\n".encode()


class Connection(asyncio.Protocol):
    """One connection. ``kept``: it stays for the next request."""

    def __init__(self, requests: Requests, kept: bool) -> None:
        self._all = requests
        self._kept = kept
        self._first = True
        self._got = bytearray()
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, request: Request) -> None:
        assert self.transport is not None
        self.request = request
        self._got.clear()
        self.transport.write(head_of(request, self._kept))

    def data_received(self, data: bytes) -> None:
        if self.request is None:
            self._all.tally.now.lose("unasked", f"{data[:100]!r} on an idle connection")
            self.drop()
            return
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if not fields.get("content-length", "").isdigit():
            self._wrong("no length")
        elif len(body) >= int(fields["content-length"]):
            self._answered(status, fields, bytes(body))

    def _answered(self, status: str, fields: dict[str, str], body: bytes) -> None:
        request = self.request
        assert request is not None
        code = status.split(" ")[1:2]
        if code == ["503"] and "retry-after" in fields:
            request.window.busy += 1
        elif code != ["200"]:
            self._wrong(f"status {status}")
            return
        elif body != request.body():
            self._wrong("another body")
            return
        else:
            request.window.whole += 1
            request.window.took.append(time.monotonic() - request.due - WAITS[request.path])
        self._all.done(request)
        self.request, self._first = None, False
        if self._kept and "close" not in fields.get("connection", "").lower() and len(self._all.pool) < POOL:
            self._all.pool.append(self)
        else:
            self.drop()

    def _wrong(self, reason: str) -> None:
        assert self.request is not None
        self._all.lose(self.request, reason, bytes(self._got[:200]))
        self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._all.pool:
            self._all.pool.remove(self)
        request, self.request = self.request, None
        if request is None:
            return
        if not self._first and not self._got:
            # What a client sees: an idle connection was closed, and it sends the request again (RFC 9112, section 9.3.1).
            # It can't see whether the server had read the request: the servers write down what they begin.
            request.window.retried.append(request.number)
            self._all.retry(request)
            return
        how = "cut" if self._got else "reset" if isinstance(exc, OSError) else "closed"
        self._all.lose(request, f"{how} on a {'new' if self._first else 'kept'} connection", bytes(self._got[:200]))

    def drop(self) -> None:
        """Ends it. What it was asked counts no more."""
        self.request = None
        if self.transport is not None:
            self.transport.abort()


def head_of(request: Request, kept: bool) -> bytes:
    close = "" if kept else "Connection: close\r\n"
    return f"GET {request.path}?id={request.number} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n".encode()


async def connect(port: int, head: bytes, protocol: asyncio.Protocol) -> None:
    """Connects and sends ``head`` in one go, so that no pause of ours is between the two: while the server ends, it would close
    a connection on which nothing has come. Raises OSError."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    try:
        sock.setblocking(False)
        error = sock.connect_ex(("127.0.0.1", port))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
        await loop.sock_sendall(sock, head)  # sends now, if it is connected now, as on loopback; else when it is
        await loop.create_connection(lambda: protocol, sock=sock)
    except BaseException:
        sock.close()
        raise


def unconnected(exc: OSError) -> str:
    """Why there is no connection: refused, or reset because the listener was closed before it was accepted."""
    if isinstance(exc, ConnectionRefusedError):
        return "refused"
    return f"not connected: {errno.errorcode.get(exc.errno or 0, exc)}"


class Requests:
    """All of them: ``rate`` a second, whatever happens to those before; ``new``: the share on new connections."""

    def __init__(self, tally: Tally, port: int, rate: float, new: float, timeout: float) -> None:
        self.tally = tally
        self.pool: list[Connection] = []
        self._port = port
        self._rate = rate
        self._new = new
        self._timeout = timeout
        self._number = 0
        self._open: dict[Request, Connection | None] = {}
        self._connecting: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until ``stop``, then waits for the answers that are still due."""
        begin, count = time.monotonic(), 0
        while not stop.is_set():
            now = time.monotonic()
            due = begin + count / self._rate
            if due > now:
                await asyncio.sleep(due - now)
                continue
            self.tally.now.late = max(self.tally.now.late, now - due)
            count += 1
            self._send_due(due)
            if count % max(1, int(self._rate)) == 0:
                self._expire()
        while self._open:
            self._expire()
            await asyncio.sleep(0.02)
        for connection in list(self.pool):
            connection.drop()

    def _send_due(self, due: float) -> None:
        window = self.tally.now
        window.requests += 1
        request = Request(self._next(), random.choice(PATHS), due, window)
        kept = random.random() >= self._new
        if kept and self.pool:
            connection = self.pool.pop(random.randrange(len(self.pool)))
            self._open[request] = connection
            connection.send(request)
        else:
            self._connect(request, kept)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def retry(self, request: Request) -> None:
        del self._open[request]
        self._connect(Request(self._next(), request.path, request.due, request.window), True)

    def _connect(self, request: Request, kept: bool) -> None:
        request.window.on_new += 1
        self._open[request] = None
        task = asyncio.get_running_loop().create_task(self._on_new(request, kept))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _on_new(self, request: Request, kept: bool) -> None:
        connection = Connection(self, kept)
        connection.request = request
        try:
            await connect(self._port, head_of(request, kept), connection)
        except OSError as exc:
            connection.request = None
            if request in self._open:
                self.lose(request, unconnected(exc), b"")
            return
        if request not in self._open:
            connection.drop()  # its time is over, or the connection is
        elif connection.request is request:
            self._open[request] = connection

    def _expire(self) -> None:
        """Gives up those that have waited too long for the whole answer."""
        now = time.monotonic()
        for request, connection in list(self._open.items()):
            if now - request.due > self._timeout:
                if connection is not None:
                    connection.drop()
                self.lose(request, "timed out", b"")

    def done(self, request: Request) -> None:
        del self._open[request]

    def lose(self, request: Request, reason: str, got: bytes) -> None:
        del self._open[request]
        since = time.monotonic() - request.due
        request.window.lose(reason, f"request {request.number} {request.path}, due {since:.3f} s before, {got!r}")
