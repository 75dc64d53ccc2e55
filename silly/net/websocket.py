"""WebSocket, RFC 6455, server and client (upstream: ``silly.net.websocket``).

    def handler(stream):                                # of http.listen
        if stream.header["upgrade"] == "websocket":
            sock, err = websocket.upgrade(stream)
            if sock is None:
                return
            while True:
                data, typ = sock.read()
                if data is None or typ == "close":
                    break
                if typ == "text":
                    sock.write("Echo: " + data, "text")
            sock.close()

    sock, err = websocket.connect("ws://127.0.0.1:8080")

**Control frames** are answered by the library as it parses them, and still shown to the reader. A ping has its pong sent
before ``read`` returns it; a pong that the application then writes by hand with that payload is taken as done (one for
each of the 16 pings last shown), so no ping is answered twice. A close frame is answered at once; then ``read`` returns
``"close"``, and ``close()`` ends the connection.

**A socket that nobody reads** sees nothing: its buffer fills to 64 KiB, then TCP holds the peer back. Its peer's pings go
unanswered and its peer's close unseen until somebody reads, writes fail only once TCP breaks, and memory stays bounded.
So each socket needs a task that reads it; an application that only writes forks one that reads and drops. (Keepalive run
by the library is to come, and will change this.)

**Writers**: any number of tasks; each message goes out whole and in order. Messages of 64 KiB and more go in fragments,
between which control frames pass. One task reads. ``close`` may come from any task.

Not here yet: compression, subprotocols, keepalive, broadcast.
"""

from __future__ import annotations

import base64
import os
from collections import deque
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from .. import errno, logger
from .._core import scheduler
from .._core.result import OK, Result, failure
from .._wire import handshake
from .._wire.error import ProtocolError
from .._wire.header import Header, Outgoing, compose, split_list
from .._wire.http1 import HeadReader, check_host, parse_response, request_head
from .._wire.limits import DEFAULT, Limits
from .._wire.mask import MaskKeys
from .._wire.ws import (
    ABNORMAL,
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    FRAGMENT,
    GOING_AWAY,
    INTERNAL,
    NORMAL,
    PING,
    POLICY,
    PONG,
    SHORT_HEADS,
    TEXT,
    MessageReader,
    close_payload,
    frame,
    frame_head,
    masked_frame,
    parse_close,
)
from ._stream import Stream
from .http.h1 import ServerStream
from .tcp import BURST, Conn, Data, deadline_after, to_bytes
from .tcp import connect as tcp_connect

__all__ = ["ClientStream", "Socket", "connect", "upgrade"]

INTERIM = 16
"""Responses that a client reads in a handshake: interim ones (1xx) may precede the final one (RFC 9110, section 15.2)."""
SHOWN_PINGS = 16
"""Pings shown to the application whose pong by hand is taken as done."""

_OPCODES = {"text": TEXT, "binary": BINARY, "ping": PING, "pong": PONG, "close": CLOSE}
_TYPES = {opcode: name for name, opcode in _OPCODES.items()}
_NORMAL_CLOSE = close_payload(NORMAL)
_GOODBYE = close_payload(GOING_AWAY)
_SERVER_GOODBYE = frame(FIN | CLOSE, _GOODBYE)
_CLOSED = "closed"
_keys = MaskKeys()


class ClientStream:
    """The HTTP side of a client's WebSocket: the request that was sent and the ``status`` and ``header`` that came."""

    __slots__ = ("conn", "header", "method", "path", "remoteaddr", "scheme", "status", "version")

    def __init__(self, conn: Conn, scheme: str, path: str, status: int, header: Header) -> None:
        self.conn = conn
        self.remoteaddr = conn.remoteaddr
        self.scheme = scheme
        self.method = "GET"
        self.path = path
        self.version = "HTTP/1.1"
        self.status = status
        self.header = header


class Socket:
    """A WebSocket connection. ``conn`` is the connection below, ``stream`` the HTTP stream it came from.

    ``closecode`` and ``closereason`` are those of the peer's close frame (1005 when it had no code), of the one we sent for
    a fault of the peer, or 1006 when the connection ended without; None while it is open. A context manager that closes.
    """

    __slots__ = (
        "__weakref__",
        "_burst",
        "_close_due",
        "_closed",
        "_closers",
        "_controls",
        "_err",
        "_held_pong",
        "_limits",
        "_messages",
        "_peer_closed",
        "_pings",
        "_server",
        "_shown",
        "_stream",
        "_turns",
        "_writing",
        "closecode",
        "closereason",
        "conn",
        "partial",
        "stream",
    )

    def __init__(self, conn: Conn, stream: ServerStream | ClientStream, server: bool, limits: Limits) -> None:
        self.conn = conn
        self.stream = stream
        self.closecode: int | None = None
        self.closereason = ""
        self.partial: str | bytes = b""
        """After a read that failed: what had arrived of an unfinished message."""
        self._stream: Stream = conn._stream
        self._server = server
        self._limits = limits
        self._messages = MessageReader(server, limits)
        self._err: str | None = None
        self._burst = 0
        self._peer_closed = False
        self._closed = False
        self._close_due: float | None = None
        """When the peer's answer to our close frame is due."""
        self._closers: list[scheduler.Task] | None = None
        self._pings: deque[bytes] | None = None
        self._held_pong: bytes | None = None
        self._controls = 0
        self._writing = False
        self._turns: deque[scheduler.Task] | None = None
        # The stream sends it when the process ends. It is also the flag: None once a close frame has been sent.
        self._stream.goodbye = _SERVER_GOODBYE if server else self._frame(FIN | CLOSE, _GOODBYE)

    # ---- reading ------------------------------------------------------------------------------------------------

    def read(self, timeout: float | None = None) -> tuple[Any, str]:
        """The next message or control frame: ``(data, typ)``.

        ``typ`` is ``"text"`` (data ``str``), ``"binary"``, ``"ping"``, ``"pong"`` or ``"close"`` (data ``bytes``). On failure
        ``(None, err)``: the peer broke the protocol, the connection ended, or ``timeout`` ms passed (then nothing is lost,
        and the next read goes on). After ``"close"`` it is ``(None, "closed")``. A second task that reads at the same time
        gets RuntimeError.
        """
        err = self._err
        if err is not None:
            return None, err
        stream = self._stream
        buf = stream.buf
        deadline = None if timeout is None else deadline_after(timeout)
        if stream._reader is not None:
            raise RuntimeError(f"BUG: {self}: another task is already reading from it")
        if buf:
            self._burst += 1
            if self._burst >= BURST:
                self._burst = 0
                scheduler.pause()
                if self._err is not None:
                    return None, self._err
                buf = stream.buf
        while True:
            need = 1
            if buf:
                try:
                    got = self._messages.next(buf)
                except ProtocolError as exc:
                    return None, self._broken(exc)
                if not isinstance(got, int):
                    opcode, data = got
                    if opcode <= BINARY:
                        self._controls = 0
                        return data, "text" if opcode == TEXT else "binary"
                    return self._control(opcode, data)
                need = got
            self._burst = 0
            err = stream.fill(need, deadline if stream.goodbye is not None else self._sooner(deadline))
            if err is not None:
                return None, self._read_failed(err)
            if self._err is not None:
                return None, self._err  # another task closed the socket after the data had come, and reads now itself

    def _sooner(self, deadline: float | None) -> float | None:
        """The deadline of a read once a close frame was sent: the peer's answer is due."""
        due = self._close_due
        return deadline if due is None else due if deadline is None else min(due, deadline)

    def _read_failed(self, err: str) -> str:
        """``fill`` gave up: what the reader is told."""
        if self._err is not None:
            return self._err  # another task closed the socket meanwhile
        if err is errno.TIMEDOUT and self._close_due is not None and monotonic() >= self._close_due:
            limit = self._limits.close_timeout
            self._err = f"the peer did not answer the close frame within the limit 'close_timeout' of {limit} ms"
            self._end(ABNORMAL, "")
            return self._err
        self.partial = self._messages.partial(self._stream.buf)
        if err is errno.TIMEDOUT and self._stream.err is None:
            return err
        self._err = f"the connection with {self.conn.remoteaddr} ended without a closing handshake: {err}"
        if err is errno.CLOSED:
            self._err = _CLOSED
        self._end(ABNORMAL, "")
        return self._err

    def _control(self, opcode: int, data: bytes) -> tuple[Any, str]:
        if opcode == CLOSE:
            self.closecode, self.closereason = parse_close(data)
            self._peer_closed = True
            self._err = _CLOSED
            # The answer echoes the code (section 5.5.1).
            self._send_close(data[:2])
            return data, "close"
        self._controls += 1
        if self._stream.blocked:
            if self._controls > self._limits.control_frames:
                limit = self._limits.control_frames
                text = f"more control frames than the limit 'control_frames' of {limit} by a peer that doesn't read"
                return None, self._broken(ProtocolError(text, POLICY))
        else:
            self._controls = 0
        if opcode == PING:
            self._answer(data)
            return data, "ping"
        return data, "pong"

    def _answer(self, data: bytes) -> None:
        """Sends the pong of a ping. While the kernel refuses output only the newest is kept (section 5.5.3)."""
        if self._pings is None:
            self._pings = deque(maxlen=SHOWN_PINGS)
        self._pings.append(data)
        if self._stream.goodbye is None:
            return
        if self._stream.blocked:
            self._held_pong = data
            self._stream.on_unblocked = self._send_held
        else:
            self._stream.write_nowait(self._frame(FIN | PONG, data))

    def _send_held(self) -> None:
        self._stream.on_unblocked = None
        held, self._held_pong = self._held_pong, None
        if held is not None and self._stream.goodbye is not None:
            self._stream.write_nowait(self._frame(FIN | PONG, held))

    def _broken(self, exc: ProtocolError) -> str:
        """The peer broke the protocol: tells it why, and ends the connection (section 7.1.7)."""
        self.partial = self._messages.partial(self._stream.buf)
        self._err = f"the peer {self.conn.remoteaddr} broke the protocol: {exc.text}"
        logger.info(f"websocket: {self.conn.remoteaddr}: {exc.text}: close {exc.code}")
        self._send_close(close_payload(exc.code, exc.text))
        self._end(exc.code, exc.text, await_end=True)
        return self._err

    # ---- writing ------------------------------------------------------------------------------------------------

    def write(self, data: Data | None, typ: str | None = "binary") -> Result:
        """Sends a message, or a control frame: ``typ`` is ``"text"``, ``"binary"``, ``"ping"``, ``"pong"`` or ``"close"``.

        ``None`` is an empty message. Blocks while the peer takes nothing and 1 MiB waits. ``(False, err)`` when the socket is
        closed or broken, or for a control frame of more than 125 bytes. Writing ``"close"`` starts the closing handshake.
        Raises ValueError for an unknown type and for text that isn't UTF-8, TypeError for what can't be sent.
        """
        opcode = _OPCODES.get(typ or "binary")
        if opcode is None:
            raise ValueError(f"unknown frame type {typ!r}: it is one of {', '.join(map(repr, _OPCODES))}")
        payload = data.encode() if type(data) is str else b"" if data is None else to_bytes(data)
        if opcode == TEXT and type(data) is not str and payload:
            _check_utf8(payload)
        if opcode > BINARY:
            return self._write_control(opcode, payload)
        if self._stream.goodbye is None:
            return failure(self._err or _CLOSED)
        if self._writing:
            err = self._wait_turn(len(payload) >= FRAGMENT)
            if err is not None:
                return failure(err)
        if len(payload) >= FRAGMENT:
            return self._write_fragments(opcode, payload)
        if not self._server:
            err = self._stream.write(masked_frame(FIN | opcode, payload, _keys.next()))
        elif len(payload) < 126:
            err = self._stream.write(SHORT_HEADS[FIN | opcode][len(payload)] + payload)
        else:
            err = self._stream.write(frame(FIN | opcode, payload))
        return OK if err is None else failure(err)

    def _write_fragments(self, opcode: int, payload: bytes) -> Result:
        """Sends a large message; whoever writes another meanwhile waits for its end."""
        self._writing = True
        try:
            view = memoryview(payload)
            first = opcode
            for at in range(0, len(payload), FRAGMENT):
                if self._stream.goodbye is None:
                    return failure(self._err or _CLOSED)
                piece = view[at : at + FRAGMENT]
                if at + FRAGMENT >= len(payload):
                    first |= FIN
                if self._server:
                    err = self._stream.writev([frame_head(first, len(piece)), piece])
                else:
                    err = self._stream.write(masked_frame(first, piece, _keys.next()))
                if err is not None:
                    return failure(err)
                first = CONTINUATION
            return OK
        finally:
            self._writing = False
            self._next_turn()

    def _wait_turn(self, large: bool) -> str | None:
        """Waits until the large message that another task is sending has gone out; ``large``: to send another."""
        if self._turns is None:
            self._turns = deque()
        while self._writing:
            if scheduler.leaving():
                return errno.CLOSED
            task = scheduler.current()
            self._turns.append(task)
            try:
                scheduler.park(self)
            except BaseException:
                if task in self._turns:
                    self._turns.remove(task)
                else:
                    self._next_turn()  # it had been woken: the turn is somebody else's
                raise
        if self._stream.goodbye is None:
            self._next_turn()
            return self._err or _CLOSED
        if not large:
            self._next_turn()  # who is next runs once this task has queued its message
        return None

    def _next_turn(self) -> None:
        if self._turns and not self._writing:
            scheduler.wake(self._turns.popleft())

    def _write_control(self, opcode: int, payload: bytes) -> Result:
        if len(payload) > 125:
            return failure(f"a control frame takes at most 125 bytes, not {len(payload)}")
        if self._stream.goodbye is None:
            return failure(self._err or _CLOSED)
        if opcode == CLOSE:
            try:
                parse_close(payload)
            except ProtocolError as exc:
                raise ValueError(exc.text) from None
            err = self._send_close(payload)
            return OK if err is None else failure(err)
        if opcode == PONG and self._pings is not None and payload in self._pings:
            # The library has answered that ping.
            self._pings.remove(payload)
            return OK
        err = self._stream.write(self._frame(FIN | opcode, payload))
        return OK if err is None else failure(err)

    def _frame(self, first: int, payload: bytes) -> bytes:
        return frame(first, payload) if self._server else masked_frame(first, payload, _keys.next())

    def _send_close(self, payload: bytes) -> str | None:
        """Sends a close frame, once; no other frame goes out after it."""
        if self._stream.goodbye is None:
            return None
        self._stream.goodbye = None
        self._close_due = monotonic() + self._limits.close_timeout / 1000
        return self._stream.write_nowait(self._frame(FIN | CLOSE, payload))

    # ---- closing ------------------------------------------------------------------------------------------------

    def close(self, code: int | None = NORMAL, reason: Data | None = "") -> Result:
        """Does the closing handshake, and ends the connection. ``(False, "closed")`` when it was closed before.

        When another task is closing it already, that one's handshake is waited for.
        Blocks until the peer has answered, for the limit ``close_timeout`` at most; what the peer sends meanwhile is dropped.
        A task that is blocked in ``read`` gets ``(None, "closed")``. Raises ValueError for a code that may not be sent.
        """
        payload = _NORMAL_CLOSE
        if code not in (None, NORMAL) or reason:
            text = to_bytes(reason or b"")
            _check_utf8(text)
            payload = close_payload(NORMAL if code is None else code, text.decode())
        scheduler.check_thread("sock.close")
        if self._closed:
            self._wait_closed()
            return failure(_CLOSED)
        self._closed = True
        if self._err is None:
            self._err = _CLOSED
        stream = self._stream
        stream.interrupt()
        if self._turns:
            self._next_turn()
        self._send_close(payload)
        try:
            deadline = monotonic() + self._limits.close_timeout / 1000
            if not self._peer_closed:
                self._await_close(deadline)
            if not self._server:
                # Section 7.1.1: the server closes TCP first, so that it keeps TIME_WAIT.
                self._await_end(deadline)
        finally:
            self._end(ABNORMAL, "")
        return OK

    def _wait_closed(self) -> None:
        """Waits for the end of the closing handshake that another task has under way."""
        while not self._stream.closed and not scheduler.leaving():
            if self._closers is None:
                self._closers = []
            task = scheduler.current()
            self._closers.append(task)
            try:
                scheduler.park(self)
            finally:
                if self._closers is not None and task in self._closers:
                    self._closers.remove(task)

    def _await_close(self, deadline: float) -> None:
        """Reads until the peer's close frame, its end, or the deadline. What it breaks now matters to nobody."""
        stream = self._stream
        while True:
            try:
                got = self._messages.next(stream.buf)
            except ProtocolError as exc:
                logger.info(f"websocket: {self.conn.remoteaddr}: {exc.text} (while closing)")
                return
            if isinstance(got, tuple):
                if got[0] == CLOSE:
                    self._peer_closed = True
                    self.closecode, self.closereason = parse_close(got[1])
                    return
                self._burst += 1
                if self._burst >= BURST:
                    self._burst = 0
                    scheduler.pause()
                if monotonic() > deadline:
                    return
            elif stream.fill(got, deadline) is not None:
                return

    def _await_end(self, deadline: float) -> None:
        """Reads until the peer ends the connection, or the deadline."""
        stream = self._stream
        while stream.fill(1, deadline) is None:
            stream.buf.clear()

    def _end(self, code: int, reason: str, await_end: bool = False) -> None:
        """Ends the connection below, and says with what if the peer did not."""
        self._closed = True
        if self.closecode is None:
            self.closecode, self.closereason = code, reason
        self._next_turn()
        self._stream.close(await_end)
        closers, self._closers = self._closers, None
        for task in closers or ():
            scheduler.wake(task)

    def _handler_ended(self, failed: bool) -> None:
        """The HTTP handler that upgraded has returned or raised: closes what it left open."""
        self.close(INTERNAL if failed else NORMAL)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close(INTERNAL if kind is not None and issubclass(kind, Exception) else NORMAL)

    def __repr__(self) -> str:
        return f"<websocket with {self.conn.remoteaddr}, {self._err or 'open'}>"


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as exc:
        raise ValueError(f"text must be UTF-8: {exc.reason} at byte {exc.start}") from None


def upgrade(stream: ServerStream, *, limits: Limits | None = None) -> tuple[Socket, None] | tuple[None, str]:
    """Makes a WebSocket of an HTTP request that asks for one; leave ``stream`` alone after that.

    ``(None, err)`` when the request is no valid upgrade, or comes from a page of another host (Origin): then it has been
    answered with the right status. The socket is closed when the handler returns: 1000, or 1011 if it raised.
    """
    if not isinstance(stream, ServerStream):
        raise TypeError(f"websocket.upgrade needs the stream of an HTTP handler, not {type(stream).__name__}")
    if stream._status:
        return None, "the request has been answered already"
    try:
        accept = handshake.check_request(stream.method, stream.version, stream.header, stream._body)
        handshake.check_origin(stream.header)
    except ProtocolError as exc:
        logger.info(f"websocket: {stream.remoteaddr}: upgrade refused: {exc.text}")
        header = {"content-type": "text/plain"}
        if exc.code == 426:
            header |= {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": handshake.VERSION}
        elif exc.code == 405:
            header |= {"allow": "GET"}
        header["connection"] = f"{header.get('connection', '')}, close"
        stream.respond(exc.code, header)
        stream.closewrite(exc.text.encode("ascii", "backslashreplace") + b"\n")
        return None, exc.text
    fields = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": accept}
    conn = stream.hijack(101, fields)
    sock = Socket(conn, stream, True, limits or stream.limits)
    stream.on_finish = sock._handler_ended
    return sock, None


def connect(
    url: str,
    header: Outgoing | None = None,
    *,
    ca: str | bytes | None = None,
    verify: bool = True,
    timeout: float | None = None,
    limits: Limits = DEFAULT,
) -> tuple[Socket, None] | tuple[None, str]:
    """Connects to ``ws://`` or ``wss://host[:port]/path``, and blocks until the handshake is done.

    ``header``: more header fields, or another ``host``; those of the handshake itself are left out. It is not changed.
    ``timeout`` ms bounds connecting and handshake together (else the limit ``handshake_timeout`` bounds the handshake). ``ca``
    and ``verify`` as in ``silly.net.tls.connect``. ``(None, err)`` with the cause, or for a URL
    that is none; ValueError for header fields that may not be sent.
    """
    parsed = _parse_url(url)
    if isinstance(parsed, str):
        return None, f"websocket.connect {url!r}: {parsed}"
    scheme, host, port, path = parsed
    authority = f"[{host}]" if ":" in host else host
    default = port == (443 if scheme == "wss" else 80)
    key = base64.b64encode(os.urandom(16)).decode("ascii")
    own = handshake.request_fields(key)
    names = {name for name, _ in own}
    extra = [(name, value) for name, value in compose(header or ()) if name not in names]
    if "host" not in dict(extra):
        own.insert(0, ("host", authority if default else f"{authority}:{port}"))
    for name, _ in extra:
        if name in ("content-length", "transfer-encoding", "sec-websocket-extensions"):
            raise ValueError(f"a WebSocket handshake can't have the header {name!r}")
    protocols = [token for name, value in extra if name == "sec-websocket-protocol" for token in split_list(value)]
    request = request_head("GET", path, own + extra)
    begin = monotonic()
    # "unix:" would be read as the scheme of a Unix domain socket's address.
    target = f"[{host}]:{port}" if host == "unix" else f"{authority}:{port}"
    conn: Conn | None
    if scheme == "wss":
        # Loaded when used: OpenSSL's modules take longer to import than all of ours.
        from .tls import connect_explained

        conn, err = connect_explained(target, host, ["http/1.1"], ca, verify, timeout, None, limits)
    else:
        conn, err = tcp_connect(target, None, timeout)
    if conn is None:
        return None, f"websocket.connect {url}: {err}"
    deadline = monotonic() + limits.handshake_timeout / 1000 if timeout is None else begin + timeout / 1000
    try:
        http = ClientStream(conn, scheme, path, 0, Header())
        sock, err = _handshake(conn, request, key, protocols, deadline, http, limits)
    except BaseException:
        conn.close()
        raise
    if sock is None:
        conn._stream.abort()  # nothing that we wrote matters any more
        return None, f"websocket.connect {url}: {err}"
    return sock, None


def _handshake(
    conn: Conn, request: bytes, key: str, protocols: list[str], deadline: float, http: ClientStream, limits: Limits
) -> tuple[Socket | None, str | None]:
    stream = conn._stream
    stream.write(request)
    heads = HeadReader(limits)
    try:
        for _ in range(INTERIM):
            while (head := heads.next(stream.buf)) is None:
                err = stream.fill(len(stream.buf) + 1, deadline)
                if err is not None:
                    return None, f"no answer to the handshake: {err}"
            response = parse_response(head, limits)
            if response.status >= 200 or response.status == 101:
                break
        handshake.check_response(response, key, protocols)
    except ProtocolError as exc:
        return None, exc.text
    http.status, http.header = response.status, response.header
    return Socket(conn, http, False, limits), None


def _parse_url(url: str) -> tuple[str, str, int, str] | str:
    """Scheme, host, port and path with query; or what is wrong with the URL (RFC 6455, section 3)."""
    if not isinstance(url, str):
        raise TypeError(f"websocket.connect needs a URL, not {type(url).__name__}")
    if not url.isprintable() or " " in url:
        return "a URL has no spaces or control characters"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        return str(exc)
    if parts.scheme not in ("ws", "wss"):
        return "the scheme is neither ws:// nor wss://"
    if parts.fragment or url.endswith("#"):
        return "a WebSocket URL has no fragment"
    if not host:
        return "no host"
    if parts.username is not None:
        return "user and password in the URL are not supported"
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path = path if path.isascii() else "".join(c if c.isascii() else _quoted(c) for c in path)
        check_host(f"[{host}]" if ":" in host else host)
        if "*" in host:
            return "bad host: a wildcard"
    except (UnicodeError, ProtocolError) as exc:
        return f"bad host: {exc}"
    return parts.scheme, host, port if port is not None else (443 if parts.scheme == "wss" else 80), path


def _quoted(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))


