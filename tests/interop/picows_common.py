"""What the scripts for ``picows`` share. Its core knows frames only: messages are gathered and closes answered here."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from child import Mismatch, equal
from picows import WSFrame, WSListener, WSMsgType, WSTransport

CONTINUATION, TEXT, BINARY = WSMsgType.CONTINUATION, WSMsgType.TEXT, WSMsgType.BINARY
PING, PONG, CLOSE = WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE


class Event(NamedTuple):
    """A message, a pong, a close frame, or the connection's end (None)."""

    type: WSMsgType | None
    data: Any


class Endpoint(WSListener):
    """One end of a connection. Pings are answered by the library."""

    def __init__(self) -> None:
        self.transport: WSTransport
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._type = TEXT
        self._pieces: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if frame.msg_type == CLOSE:
            if not transport.is_close_frame_sent:
                self.close(frame.get_close_code() if payload else None, payload[2:])
            self._events.put_nowait(Event(CLOSE, close_of(payload)))
            if not transport.is_client_side:
                transport.disconnect()
        elif frame.msg_type == PONG:
            self._events.put_nowait(Event(PONG, payload))
        else:
            if frame.msg_type != CONTINUATION:
                self._type = frame.msg_type
            self._pieces.append(payload)
            if frame.fin:
                whole = b"".join(self._pieces)
                self._pieces.clear()
                self._events.put_nowait(Event(self._type, whole.decode() if self._type == TEXT else whole))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._events.put_nowait(Event(None, None))

    def send(self, data: str | bytes) -> None:
        """A message in one frame."""
        if isinstance(data, str):
            self.transport.send(TEXT, data.encode())
        else:
            self.transport.send(BINARY, data)

    def send_pieces(self, typ: WSMsgType, pieces: list[bytes], pings: bool) -> None:
        """A fragmented message, with a ping behind each of its first two fragments if ``pings``."""
        for number, piece in enumerate(pieces):
            self.transport.send(CONTINUATION if number else typ, piece, fin=number == len(pieces) - 1)
            if pings and number < 2:
                self.transport.send_ping(b"%d" % number)

    def close(self, code: int | None, reason: bytes = b"") -> None:
        """A close frame; what the peer answers is an event."""
        if code is None:
            self.transport.send(CLOSE, b"")
        else:
            self.transport.send_close(code, reason)  # type: ignore[arg-type]

    async def event(self) -> Event:
        """What comes next."""
        return await self._events.get()

    async def expect(self, typ: WSMsgType, data: Any, what: str) -> None:
        """The next event must be this."""
        event = await self.event()
        if event.type != typ:
            raise Mismatch(f"{what}: {event.type} came")
        equal(event.data, data, what)

    async def data(self, data: str | bytes, what: str) -> None:
        """The next event must be this message."""
        await self.expect(TEXT if isinstance(data, str) else BINARY, data, what)

    async def end(self) -> list[Any]:
        """Waits for the close frame; its code and reason. Then the connection must end."""
        while (event := await self.event()).type != CLOSE:
            if event.type is None:
                raise Mismatch("no close frame")
        if (await self.event()).type is not None:
            raise Mismatch("a frame behind the close frame")
        return list(event.data)

    async def closed(self, code: int, reason: str | None = None) -> None:
        """The peer must send a close frame with this code."""
        got = await self.end()
        equal(got[0], code, "close code")
        if reason is not None:
            equal(got[1], reason, "close reason")


def close_of(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; 1005 when it has none."""
    return (int.from_bytes(payload[:2], "big") if payload else 1005), payload[2:].decode()
