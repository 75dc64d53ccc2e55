"""What the conformance vectors share: an echo application in either role, its raw peer, and the player of vectors.

The peer makes and reads frames by hand; it knows nothing of the code under test but ``silly.net.tcp`` below it. It holds
what it reads to the RFC: lengths in the shortest form, the mask of the role, no reserved bit that was not negotiated,
control frames whole and short, fragments in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

import silly
from silly import errno
from silly.net import websocket
from silly.sync import channel

from ..helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    Peer,
    Raw,
    joined,
    raw_server,
    serving,
    spawn,
    switching,
    turn,
    xor,
)

SERVER, CLIENT = "server", "client"
ROLES = (SERVER, CLIENT)
RSV1 = 0x40
WITHIN = 5_000
"""Milliseconds that bound what a peer waits for; only a test that fails waits so long."""

KINDS = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}

Frame = tuple[int, bytes]
Event = tuple[str, bytes]


# ---- frames to send, and what is to come back -----------------------------------------------------------------------


def text(payload: str | bytes = b"", final: bool = True) -> Frame:
    return (FIN if final else 0) | TEXT, payload.encode() if isinstance(payload, str) else payload


def binary(payload: bytes = b"", final: bool = True) -> Frame:
    return (FIN if final else 0) | BINARY, payload


def more(payload: str | bytes = b"", final: bool = False) -> Frame:
    """A continuation."""
    return (FIN if final else 0) | CONTINUATION, payload.encode() if isinstance(payload, str) else payload


def last(payload: str | bytes = b"") -> Frame:
    """The continuation that ends the message."""
    return more(payload, final=True)


def ping(payload: bytes = b"") -> Frame:
    return FIN | PING, payload


def pong(payload: bytes = b"") -> Frame:
    return FIN | PONG, payload


def close(code: int | None = 1000, reason: str | bytes = b"") -> Frame:
    raw = reason.encode() if isinstance(reason, str) else reason
    return FIN | CLOSE, b"" if code is None else code.to_bytes(2, "big") + raw


class Vector(NamedTuple):
    """What the peer sends, the echoes and pongs that are due, and the code of the close that we start, None for none.

    Pongs are due in their order and echoes in theirs; RFC 6455 says nothing about which of the two comes first.
    """

    name: str
    frames: Sequence[Frame]
    due: Sequence[Event] = ()
    code: int | None = None


# ---- the raw peer ---------------------------------------------------------------------------------------------------


class RawEnd(Peer):
    """A raw peer that keeps what it reads as whole frames. ``masks``: it is the client."""

    def __init__(self, conn: Any, masks: bool) -> None:
        super().__init__(conn)
        self.masks = masks
        self.inbox = bytearray()
        self.frames: deque[tuple[int, bytes]] = deque()
        self.gaps: deque[Event] = deque()
        self.closed = False
        self.inflate: Callable[[bytes], bytes] | None = None
        self.compressed = 0

    def _arrived(self) -> None:
        """Takes whole frames from what has come."""
        inbox = self.inbox
        while len(inbox) >= 2:
            first, second = inbox[0], inbox[1]
            assert bool(second & 0x80) is not self.masks, "5.1: the mask of the wrong role"
            size, at = second & 0x7F, 2
            if size > 125:
                at = 4 if size == 126 else 10
                if len(inbox) < at:
                    return
                low = 126 if size == 126 else 65536
                size = int.from_bytes(inbox[2:at], "big")
                assert low <= size < 2**63, "5.2: a length that is not in its shortest form"
            at += 0 if self.masks else 4
            if len(inbox) < at + size:
                return
            payload = bytes(inbox[at : at + size])
            if not self.masks:
                payload = xor(payload, bytes(inbox[at - 4 : at]))
            del inbox[: at + size]
            assert not self.closed, ("5.5.1: a frame behind the close frame", hex(first), payload[:50])
            assert first & 15 in (CONTINUATION, *KINDS), ("5.2: an unknown opcode", hex(first))
            if first & 8:
                assert first & FIN, "5.5: a fragmented control frame"
                assert size <= 125, "5.5: a long control frame"
                self.closed = first & 15 == CLOSE
            self.frames.append((first, payload))

    def poll(self) -> None:
        """Takes what has come, without waiting."""
        if count := self.conn.unreadbytes():
            data, err = self.conn.read(count, WITHIN)
            assert err is None
            self.inbox += data
            self._arrived()

    def _next(self) -> tuple[int, bytes] | None:
        """The next frame; None at the peer's end."""
        while not self.frames:
            data, err = self.conn.read(1, WITHIN)
            if data is None:
                assert err == errno.EOF, (err, bytes(self.inbox[:100]))
                assert not self.inbox, "the connection ended inside a frame"
                return None
            self.inbox += data
            self._arrived()
            self.poll()
        return self.frames.popleft()

    def get(self) -> tuple[int, bytes]:
        frame = self._next()
        assert frame is not None, "the connection ended"
        return frame

    def event(self) -> Event | None:
        """The next message or control frame, None at the end. Pings and pongs from between fragments come behind it."""
        if self.gaps:
            return self.gaps.popleft()
        parts: list[bytes] = []
        kind = ""
        squeezed = False
        while True:
            frame = self._next()
            if frame is None:
                assert not kind, "the connection ended inside a message"
                return None
            first, payload = frame
            opcode = first & 15
            assert not first & 0x30, ("5.2: a reserved bit", hex(first))
            if opcode & 8:
                assert not first & RSV1, "RFC 7692, 6.1: RSV1 on a control frame"
                if not kind or opcode == CLOSE:
                    return KINDS[opcode], payload
                self.gaps.append((KINDS[opcode], payload))
                continue
            if opcode == CONTINUATION:
                assert kind, "5.4: nothing to continue"
                assert not first & RSV1, "RFC 7692, 6.1: RSV1 on a continuation"
            else:
                assert not kind, "5.4: a message inside a message"
                kind = KINDS[opcode]
                squeezed = bool(first & RSV1)
                assert not squeezed or self.inflate is not None, "5.2: RSV1 without an extension"
            parts.append(payload)
            if first & FIN:
                data = b"".join(parts)
                if squeezed:
                    assert self.inflate is not None
                    self.compressed += 1
                    data = self.inflate(data)
                return kind, data

    def eof(self) -> None:
        frame = self._next()
        assert frame is None, ("something behind the end", frame)

    def quiet(self) -> None:
        """Nothing has come, and the connection is there."""
        turn(5)
        self.poll()
        assert not self.frames, self.frames
        assert not self.inbox
        assert self.conn.isalive()

    def cut(self, data: bytes, size: int) -> None:
        """Sends ``data`` in segments of ``size`` bytes, until a close frame comes or the connection is gone."""
        for at in range(0, len(data), size):
            if self.closed or not self.conn.write(data[at : at + size]):
                return
            self.conn._stream.flush()
            turn()
            self.poll()

    def dribble(self, data: str | bytes) -> None:
        """Byte by byte; unlike the shared one it goes on behind an echo."""
        self.cut(data.encode("latin-1") if isinstance(data, str) else data, 1)

    def begin(self, first: int, size: int, payload: bytes = b"") -> bytes:
        """The start of a frame of ``size`` bytes: its header, and only ``payload`` of it."""
        whole = self.frame(first, payload + b"\0" * (size - len(payload)))
        return whole[: len(whole) - (size - len(payload))]

    def play(self, frames: Iterable[Frame], mode: str) -> None:
        """Sends frames: ``whole`` in one segment, each in a segment (``frames``), or each octet in one (``octets``)."""
        wires = [self.frame(first, payload) for first, payload in frames]
        if mode == "whole":
            self.send(b"".join(wires))
        elif mode == "octets":
            self.dribble(b"".join(wires))
        else:
            for wire in wires:
                self.cut(wire, len(wire))


# ---- the application and its peer -----------------------------------------------------------------------------------


class Link:
    """An echo application and its raw ``peer``. ``heard``: what its reads gave; ``writing``: options of its writes."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.sock: Any = None
        self.peer: Any = None
        self.response: Any = None
        self.writing: dict[str, Any] = {}
        self.heard: list[tuple[Any, str]] = []
        self.ended = channel.new()

    def echo(self, sock: Any) -> None:
        self.sock = sock
        while True:
            data, typ = sock.read()
            self.heard.append((data, typ))
            if data is None or typ == "close":
                break
            if typ in ("text", "binary"):
                sock.write(data, typ, **self.writing)
        sock.close()
        self.ended.close()

    def gather(self, sock: Any) -> None:
        """The same echo by ``sock.pieces()``, each message put together from its pieces."""
        self.sock = sock
        while True:
            pieces = sock.pieces()
            parts = list(pieces)
            if pieces.err is not None or pieces.typ == "close":
                self.heard.append((None, pieces.err) if pieces.err is not None else (b"", "close"))
                break
            data = ("" if pieces.typ == "text" else b"").join(parts)
            self.heard.append((data, pieces.typ))
            sock.write(data, pieces.typ, **self.writing)
        sock.close()
        self.ended.close()

    def relay(self, sock: Any) -> None:
        """An echo that sends each piece on as it comes, so that the message is never held whole."""
        self.sock = sock
        while True:
            pieces = sock.pieces()
            first = next(iter(pieces), None)
            if pieces.err is not None or pieces.typ == "close":
                self.heard.append((None, pieces.err) if pieces.err is not None else (b"", "close"))
                break
            with sock.message(pieces.typ, **self.writing) as message:
                if first is not None:
                    message.write(first)
                for piece in pieces:
                    message.write(piece)
            if pieces.err is not None:
                self.heard.append((None, pieces.err))
                break
        sock.close()
        self.ended.close()

    @property
    def messages(self) -> list[Event]:
        """The messages that the application read."""
        return [
            (typ, data.encode() if isinstance(data, str) else data)
            for data, typ in self.heard
            if typ in ("text", "binary") and data is not None
        ]

    def until_ended(self) -> None:
        """Until the application is done."""
        self.ended.pop()

    def tcp_ends(self, failed: bool = False) -> None:
        """RFC 6455, 7.1.1: a server ends TCP first; a client leaves that to the server, unless it fails the connection."""
        peer = self.peer
        if self.role == CLIENT:
            if not failed:
                peer.quiet()
            peer.half_close()
        peer.eof()

    def closes_well(self) -> None:
        """The connection is still good: the peer closes it, and is answered."""
        peer = self.peer
        peer.put_close(1000)
        assert peer.event() == ("close", b"\x03\xe8")
        self.tcp_ends()
        self.until_ended()
        assert self.sock.closecode == 1000

    def fails(self, code: int) -> None:
        """The close that we start for a fault of the peer, and the end of TCP behind it."""
        event = self.peer.event()
        assert event is not None, f"no close frame, {code} was due"
        kind, payload = event
        assert kind == "close", event
        assert int.from_bytes(payload[:2], "big") == code, payload
        payload[2:].decode()
        self.tcp_ends(failed=True)
        self.until_ended()
        assert self.sock.closecode == code
        assert self.heard[-1][0] is None


Application = Callable[[Link, Any], None]


@contextmanager
def server_link(
    limits: dict[str, int] | None = None, fields: Sequence[str] = (), *, app: Application = Link.echo, **options: Any
) -> Iterator[Link]:
    link = Link(SERVER)

    def handler(stream: Any) -> None:
        sock, err = websocket.upgrade(stream, **options)
        assert err is None
        app(link, sock)

    with serving(handler, limits=limits) as server:
        link.peer = peer = RawEnd(Raw.connect(server).conn, masks=True)
        peer.send(peer.upgrade_request(*fields))
        link.response = peer.response()
        assert link.response.status == 101, link.response
        try:
            yield link
        finally:
            peer.close()


@contextmanager
def client_link(
    limits: dict[str, int] | None = None,
    fields: Callable[[str], Sequence[str]] | None = None,
    *,
    app: Application = Link.echo,
    **options: Any,
) -> Iterator[Link]:
    """``fields``: from the head of the request, more lines of the answer."""
    link = Link(CLIENT)
    peers = channel.new()

    def script(conn: Any) -> None:
        peer = RawEnd(conn, masks=False)
        head = peer.read("\r\n\r\n").decode()
        lines = fields(head) if fields else ()
        answer = switching(head)
        peer.send(answer[:-2] + b"".join(line.encode() + b"\r\n" for line in lines) + b"\r\n")
        peers.push(peer)

    with raw_server(script) as listener:
        if limits:
            options["limits"] = silly.Limits(**limits)
        sock, err = websocket.connect(f"ws://127.0.0.1:{listener.port}/", **options)
        link.peer, _ = peers.pop()
        try:
            assert err is None, err
            running = spawn(lambda: app(link, sock))
            yield link
            link.peer.close()
            joined(running)
        finally:
            link.peer.close()
            if sock is not None:
                sock.close()


def linked(role: str, limits: dict[str, int] | None = None, **options: Any) -> Any:
    """An echo application in ``role``, and its raw peer."""
    return (server_link if role == SERVER else client_link)(limits, **options)


# ---- vectors as tests -----------------------------------------------------------------------------------------------


def cases(vectors: Iterable[Vector], modes: Sequence[str] = ("whole", "octets"), roles: Sequence[str] = ROLES) -> Any:
    """Each vector in each role, and in each way of cutting what is sent. Not each way in each role: with more than one way the
    roles take turns, and begin with the next for the next vector. So each role has each way, with every other vector."""
    params = [
        pytest.param(vector, role, mode, id=f"{vector.name}-{role}-{mode}")
        for number, vector in enumerate(vectors)
        for at, mode in enumerate(modes)
        for role in (roles if len(modes) == 1 else [roles[(number + at) % len(roles)]])
    ]
    return pytest.mark.parametrize(("vector", "role", "mode"), params)


def check(vector: Vector, role: str, mode: str, logs: Any, **options: Any) -> None:
    """Plays a vector, and compares everything that comes back."""
    if vector.code is not None:
        logs.allow(r"^INFO websocket: ")
    with linked(role, **options) as link:
        link.peer.play(vector.frames, mode)
        answered(link, vector.due, vector.code)


def answered(link: Link, due: Sequence[Event], code: int | None) -> None:
    """What is due comes, and nothing else; then the connection is closed well, or failed with ``code``."""
    got = []
    for _ in due:
        event = link.peer.event()
        assert event is not None, (got, "the connection ended")
        got.append(event)
    assert [event for event in got if event[0] == "pong"] == [event for event in due if event[0] == "pong"]
    messages = [event for event in due if event[0] != "pong"]
    assert [event for event in got if event[0] != "pong"] == messages
    if code is None:
        link.closes_well()
    else:
        link.fails(code)
    assert link.messages == messages
