"""The WebSocket that an application holds: it reads, writes and closes. Its state is in
``Session``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ... import errno
from ..._core import scheduler
from ..._core.result import OK, Result, failure
from ..._ends import ENDS
from ..._shown import shown
from ..._wire.accelerated import message_frame, take_messages
from ..._wire.deflate import Parameters
from ..._wire.error import ProtocolError
from ..._wire.messages import FRAGMENT, FrameType, Taken
from ..._wire.numbers import check_int
from ..._wire.ws import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    GOING_AWAY,
    INTERNAL,
    NORMAL,
    PING,
    PONG,
    TEXT,
    close_payload,
    parse_close,
)
from ..http.h1 import ServerStream
from ..tcp import BURST, STEP, Conn, Data, deadline_after, to_bytes
from ._pieces import MessageWriter, Pieces
from ._sending import CLOSED, OPEN, keys
from ._session import Session

if TYPE_CHECKING:
    from ._connect import Handshake

_OPCODES = {"text": TEXT, "binary": BINARY, "ping": PING, "pong": PONG, "close": CLOSE}
_NORMAL_CLOSE = close_payload(NORMAL)
_loop = scheduler.loop


class Socket:
    """A WebSocket connection, from ``websocket.upgrade`` or ``websocket.connect``.

    A ``with`` block closes it: with 1011 if the block raises, with 1001 if its task was
    cancelled, else with 1000. The garbage collector closes it when nothing holds it any
    more.
    """

    __slots__ = ("__weakref__", "_compression", "_conn", "_session", "_stream", "_subprotocol")

    def __init__(
        self,
        session: Session,
        conn: Conn,
        stream: ServerStream | Handshake,
        subprotocol: str | None,
        compression: Parameters | None,
    ) -> None:
        self._session = session
        self._conn = conn
        self._stream = stream
        self._subprotocol = subprotocol
        self._compression = compression

    @property
    def conn(self) -> Conn:
        """The connection below, of ``silly.net.tcp`` or ``silly.net.tls``."""
        return self._conn

    @property
    def stream(self) -> ServerStream | Handshake:
        """The HTTP side of the handshake: ``path``, ``query``, ``header`` and so on.
        The request of a server, a ``Handshake`` of a client.
        """
        return self._stream

    @property
    def subprotocol(self) -> str | None:
        """The name of the subprotocol that was agreed on, or None."""
        return self._subprotocol

    @property
    def compression(self) -> Parameters | None:
        """The parameters of compression that were agreed on (RFC 7692, section 7.1), or
        None without compression.
        """
        return self._compression

    @property
    def closecode(self) -> int | None:
        """The code of the peer's close frame, 1005 if that has no code. If the peer
        broke the protocol or sent no pong, the code that we sent. 1006 if the
        connection ended without either. None while the connection is open.
        """
        return self._session.closecode

    @property
    def closereason(self) -> str:
        """The reason in the close frame that ``closecode`` comes from; often empty."""
        return self._session.closereason

    @property
    def cause(self) -> str | None:
        """Why the connection ended, in words, such as ``"closed by the peer: 1000"`` or
        ``"no pong for 20 s …"``. None while it is open.
        """
        return self._session.cause

    @property
    def partial(self) -> str | bytes:
        """What had arrived of an unfinished message, after a read that failed."""
        return self._session.partial

    @property
    def latency(self) -> float | None:
        """The round-trip time of the last keepalive ping in ms. None before the first
        pong.
        """
        return self._session.keepalive.latency

    # ---- reading ---------------------------------------------------------------------

    def read(self, timeout: float | None = None) -> tuple[Any, FrameType] | tuple[None, Any]:
        """Reads the next message or control frame. Waits at most ``timeout`` ms,
        without one as long as it takes.

            sock.write("hello", "text")
            data, typ = sock.read()              # -> ("hello", "text")
            data, err = sock.read(50)
            err == errno.TIMEDOUT                # -> True

        Returns ``(data, typ)``: ``typ`` is ``"text"`` with ``str``, or ``"binary"``,
        ``"ping"``, ``"pong"`` or ``"close"`` with ``bytes``. A ping has been answered;
        the pongs of the keepalive are not shown. On failure returns
        ``(None, err)``: ``errno.TIMEDOUT`` when ``timeout`` is over, ``"closed"`` after
        a close frame or ``close``, or in words why the connection broke or which
        ``time.deadline`` ran out. After a time-out nothing is lost, and the next read
        goes on.

        Raises ValueError for a negative time-out, and RuntimeError if another task is
        reading.
        """
        if _loop.no_switch:
            scheduler.refuse("sock.read")
        session = self._session
        taken = session.taken
        if taken:
            if timeout is None and not session.queued:
                return taken.pop()
            return self._read_queued(timeout)
        err = session.err
        if err is not None:
            return None, session.over()
        stream = session.stream
        deadline = None if timeout is None else deadline_after(timeout)
        if stream._reader is not None:
            raise RuntimeError(f"{self}: another task is already reading from it")
        if stream.buf:
            session.burst += 1
            if session.burst >= BURST:
                session.burst = 0
                scheduler.pause()
                taken = session.taken
                if taken:
                    return taken.pop()  # was taken while this task waited
                if session.err is not None:
                    return None, session.over()
        messages = session.messages
        payload = messages.payload
        while True:
            need = 1
            buf = stream.buf
            if buf or payload is not None:
                # Not one list for all: an interrupt right after the call would leave
                # messages in it.
                rest: list[Taken] = []
                message = take_messages(buf, rest, session.server, messages.fast_limit)
                if message is not None:
                    if rest:
                        session.taken = rest
                        session.arrived += len(rest)
                    session.arrived += 1
                    if buf:
                        # The last one taken is the only one that may be large.
                        large = len((rest[0] if rest else message)[0]) // STEP
                        session.burst = min(session.burst + len(rest) + large, BURST - 1)
                        session.data_unread()
                    return message
                try:
                    got = messages.next(buf)
                except ProtocolError as exc:
                    return None, session.broke(exc)
                if not isinstance(got, int):
                    opcode, data = got
                    if CONTINUATION < opcode <= BINARY:
                        session.arrived += 1
                        if buf:
                            session.data_unread()
                        return data, "text" if opcode == TEXT else "binary"
                    shown = session.control(opcode, data)
                    if shown is not None:
                        session.data_unread()
                        return shown
                    payload = None
                    continue
                need = got
                payload = messages.payload
                if not need:
                    scheduler.pause()  # much was inflated
                    taken = session.taken
                    if taken:
                        return taken.pop()  # was taken while this task waited
                    if session.err is not None:
                        return None, session.over()
                    if session.too_late(deadline):
                        return None, session.read_failed(errno.TIMEDOUT, "sock.read")
                    continue
                if need > 1 or messages.opcode or payload is not None:
                    session.unfinished()
            session.burst = 0
            if session.state is not OPEN:
                deadline = session.sooner(deadline)
            err = stream.fill(need, deadline) if payload is None else stream.fill_into(payload, deadline)
            taken = session.taken
            if taken:
                return taken.pop()  # was taken while this task waited
            if err is not None:
                return None, session.read_failed(err, "sock.read")
            if session.err is not None:
                # Another task closed the socket after the data came, and now reads.
                return None, session.over()

    def _read_queued(self, timeout: float | None) -> tuple[Any, FrameType] | tuple[None, Any]:
        """``read`` when something was taken: it need not wait, but lets others run."""
        session = self._session
        if timeout is not None:
            deadline_after(timeout)  # raises if it is invalid
        if session.queued:
            session.burst += 1
            if session.burst >= BURST:
                session.burst = 0
                scheduler.pause()
        taken = session.taken
        if not taken:
            return self.read(timeout)  # another task has read meanwhile
        shown = taken.pop()
        if not taken:
            session.queued = False
        return shown

    def pieces(self, timeout: float | None = None, limit: int | None = None) -> Pieces:
        """Returns an iterator over the next message, which may be larger than memory.
        It yields pieces as they arrive, ``str`` or ``bytes``.

            sock.write(b"much data")
            pieces = sock.pieces(timeout=1000, limit=2**40)
            for piece in pieces:
                file.write(piece)
            if pieces.err is not None:
                print("the message is incomplete:", pieces.err)

        ``timeout`` ms bounds the wait for each piece. ``limit`` is the most bytes that
        the message may have, decompressed; None for any number. (The limits ``message``
        and ``fragments`` don't apply.) Pings and pongs are answered, but not shown. The
        next ``read`` or ``pieces`` drops what was not read of the message.

        Raises ValueError for a ``timeout`` or ``limit`` out of range. The iterator
        raises RuntimeError if another task is reading.
        """
        if limit is not None:
            check_int("sock.pieces: the limit in bytes", limit)
        if timeout is not None:
            deadline_after(timeout)
        return Pieces(self, self._session, timeout, math.inf if limit is None else limit)

    # ---- writing ---------------------------------------------------------------------

    def write(self, data: Data | None, typ: FrameType | None = "binary", *, compress: bool | None = None) -> Result:
        """Sends a message or a control frame. ``typ`` is ``"text"``, ``"binary"``,
        ``"ping"``, ``"pong"`` or ``"close"``; ``data`` is text or bytes, or None for an
        empty one.

            ok, err = sock.write("hello", "text")    # -> (True, None)
            sock.read()                              # -> ("hello", "text")

        Returns ``(True, None)``, or ``(False, err)`` if the connection is closed or
        broken, or for a control frame of more than 125 bytes. With more than 1 MiB
        unsent (limit ``unsent``) the call blocks until the peer has taken most of it.
        If a ``time.deadline`` runs out, it returns an error, but the message is still
        sent. Where a cancel (``Task.cancel``) strikes, the message is sent whole, or
        not at all if it waited behind another task's message or was being compressed.

        ``compress`` says whether to compress the message, if compression was agreed on;
        None means from ``Deflate.threshold`` bytes on. Writing ``"close"`` starts the
        closing handshake; ``close`` finishes it.

        Raises ValueError for an unknown type, for text that isn't UTF-8 and for an
        invalid close frame, TypeError for data of any other type.
        """
        session = self._session
        if _loop.may_queue and session.deflater is None and session.writing is None and session.state is OPEN:
            # Nearly every message takes this path.
            piece = message_frame(data, typ, None if session.server else keys.next())
            if piece is not None:
                if session.stream.try_queue(piece):
                    return OK
                err = session.send_frame(piece)
                return OK if err is None else failure(err)
        if _loop.no_switch:
            scheduler.refuse("sock.write")
        opcode = _OPCODES.get(typ or "binary")
        if opcode is None:
            raise ValueError(f"unknown frame type {shown(typ)}: it must be one of {', '.join(map(repr, _OPCODES))}")
        payload = data.encode() if type(data) is str else b"" if data is None else to_bytes(data)
        if opcode == TEXT and type(data) is not str and payload:
            _check_utf8(payload)
        if opcode > BINARY and len(payload) > 125:
            return failure(f"a control frame takes at most 125 bytes, not {len(payload)}")
        if session.state is not OPEN:
            return failure(session.told())
        if opcode == CLOSE:
            scheduler.check_thread()  # before the state changes
            try:
                parse_close(payload)
            except ProtocolError as exc:
                raise ValueError(exc.text) from None
            err = session.send_close(payload)
            err = None if err is None else session.write_failed(err, "sock.write")
        elif opcode > BINARY:
            err = session.send_control(opcode, payload)
        elif len(payload) >= FRAGMENT or session.writing is not None or session.deflater is not None:
            err = session.send_message(opcode, payload, compress)
        else:
            err = session.send_frame(session.frame(FIN | opcode, payload))
        return OK if err is None else failure(err)

    def message(self, typ: Literal["text", "binary"] = "binary", *, compress: bool | None = None) -> MessageWriter:
        """Returns a context manager that writes a message piece by piece, so that it
        may be larger than memory. ``typ`` is ``"text"`` or ``"binary"``.

            with sock.message("binary") as message:
                while chunk := file.read(65536):
                    message.write(chunk)
            sock.read()                          # -> (b"some text", "binary")

        The message is compressed if compression was agreed on, unless ``compress`` is
        False. Raises ValueError for another ``typ``.
        """
        opcode = _OPCODES.get(typ)
        if opcode not in (TEXT, BINARY):
            raise ValueError(f"a message is 'text' or 'binary', not {shown(typ)}")
        session = self._session
        return MessageWriter(self, session, opcode, session.deflater is not None and compress is not False)

    # ---- closing ---------------------------------------------------------------------

    def close(self, code: int | None = NORMAL, reason: Data | None = "") -> Result:
        """Does the closing handshake, and ends the connection. ``code`` and ``reason``
        go into the close frame; a ``code`` of None means 1000.

            sock.close(1001, "going down")       # -> (True, None)
            sock.close()                         # -> (False, "closed")

        Returns ``(False, "closed")`` if it was closed before; if another task is still
        in ``close``, first waits for that. Blocks until the peer has answered, at most
        10 s (limit ``close_timeout``), and drops what the peer sends meanwhile. A task
        that is blocked in ``read`` gets ``(None, "closed")``. A ``reason`` is cut to
        123 bytes. Raises ValueError for a code that may not be sent, and for a reason
        that isn't UTF-8.
        """
        if _loop.no_switch:
            scheduler.refuse("sock.close")
        payload = _NORMAL_CLOSE
        if code not in (None, NORMAL) or reason:
            text = to_bytes(reason or b"")
            _check_utf8(text)
            payload = close_payload(NORMAL if code is None else code, text.decode())
        scheduler.check_thread(closes=True)
        return self._session.close(code or NORMAL, payload)

    # ---- for ``task.select``, see ``_core/select.py`` --------------------------------

    def _ready(self) -> bool:
        from ._select import ready

        return ready(self._session)

    def _watch(self, watch: scheduler.Task) -> None:
        from ._select import watch_session

        watch_session(self._session, watch)

    def _unwatch(self, watch: scheduler.Task) -> None:
        from ._select import unwatch_session

        unwatch_session(self._session, watch)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        code = NORMAL if kind is None or issubclass(kind, ENDS) else INTERNAL
        self.close(GOING_AWAY if kind is not None and issubclass(kind, scheduler.Cancelled) else code)

    def __del__(self, post: Callable[..., object] = _loop.post, closed: object = CLOSED) -> None:  # as in ``tcp.Conn``
        # A finalizer may run anywhere, in another thread or within the loop's own code,
        # so it only leaves a note.
        session: Session | None = getattr(self, "_session", None)
        if session is not None and session.state is not closed:
            post(session.forget)

    def __repr__(self) -> str:
        return repr(self._session)


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as exc:
        raise ValueError(f"text must be UTF-8: {exc.reason} at byte {exc.start}") from None
