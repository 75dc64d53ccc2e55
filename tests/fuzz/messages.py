"""What the HTTP targets share: messages read from pieces of a stream, and what h11 and httptools make of the same bytes.

A message framed differently by two parsers is how requests are smuggled, so one thing is held: whatever message is taken here
in full, the other parsers frame alike, or refuse. They may take more; the differences there are listed in tests/wire.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, NamedTuple

import h11
import httptools

from silly._wire.chunked import ChunkedReader
from silly._wire.error import ProtocolError
from silly._wire.header import TOKEN, Header, compose
from silly._wire.http1 import CHUNKED, UNTIL_CLOSE
from silly._wire.limits import Limits

from .source import allowed

LIMITS = [Limits(), Limits(head=200, line=60, header_lines=4)]
WIDE = Limits(head=2**30, line=2**30, header_lines=2**20)
CODES = frozenset((400, 414, 431, 501, 502, 505))
INCOMPLETE, ENDED = "incomplete", "ended"
REFUSED = "refused"


def flat(header: Header) -> list[tuple[str, str, list[str]]]:
    """Everything in it, in order."""
    return [(name, value, header.getall(name)) for name, value in header.items()]


def check_fields(header: Header) -> None:
    """Names are tokens in lower case; values have no control characters, and nothing to strip."""
    for name, joined, values in flat(header):
        assert TOKEN.fullmatch(name)
        assert name == name.lower()
        comma = "; " if name == "cookie" else ", "
        assert joined == (values[0] if name == "set-cookie" else comma.join(values)) or name in ("host", "upgrade")
        for value in values:
            assert value == value.strip(" \t")
        # Whatever was received can be sent.
        assert compose([(name, value) for value in values]) == [(name, value) for value in values]


def pairs(header: Header) -> list[tuple[str, str]]:
    """The fields line by line, as they are to be written."""
    return [(name, value) for name, joined, values in flat(header) for value in (values if values[1:] else [joined])]


class Message:
    """One that is being read, or has been."""

    def __init__(self, head: Any) -> None:
        self.head = head
        self.body = bytearray()
        self.trailer = Header()
        self.complete = False

    def seen(self) -> tuple[Any, ...]:
        return (*self.head[:-1], flat(self.head.header), bytes(self.body), flat(self.trailer), self.complete)


class Read(NamedTuple):
    messages: list[Message]
    verdict: int | str
    """The status of the error, or INCOMPLETE, or ENDED."""
    rest: bytes

    def like(self, other: Read) -> bool:
        """The same messages and end. Of a body that is refused, more or less may have been given before."""
        ours, theirs = ([message.seen() for message in read.messages] for read in (self, other))
        if isinstance(self.verdict, int) and ours and theirs and not ours[-1][-1]:
            given, too = bytes(self.messages[-1].body), bytes(other.messages[-1].body)
            assert given.startswith(too) or too.startswith(given)
            ours[-1], theirs[-1] = ((*seen[:-3], *seen[-2:]) for seen in (ours[-1], theirs[-1]))
        return ours == theirs and self.verdict == other.verdict and (self.verdict != ENDED or self.rest == other.rest)

    @property
    def whole(self) -> list[Message]:
        return [message for message in self.messages if message.complete]


Steps = Callable[[bytearray, list[Message]], Iterator[None]]
"""Reads messages from a buffer; stops where it needs more."""


def drive(pieces: list[bytes], steps: Steps) -> Read:
    buf = bytearray()
    messages: list[Message] = []
    reading = steps(buf, messages)
    verdict: int | str = INCOMPLETE
    for piece in pieces or [b""]:
        buf += piece
        if verdict == INCOMPLETE:
            try:
                next(reading)
            except StopIteration:
                verdict = ENDED
            except ProtocolError as exc:
                verdict = allowed(exc, CODES)
    return Read(messages, verdict, bytes(buf))


def read_body(
    buf: bytearray, message: Message, length: int, limits: Limits, most: list[int], response: bool = False
) -> Iterator[None]:
    """``most``: the sizes to ask for, in turn. ``response``: whether it is a response's body."""
    if length == UNTIL_CLOSE:
        while True:
            message.body += buf
            buf.clear()
            yield
    elif length != CHUNKED:
        assert length >= 0
        while len(buf) < length:
            yield
        message.body += buf[:length]
        del buf[:length]
    else:
        reader = ChunkedReader(limits, response)
        sizes = cycle(most if any(most) else [2**20])
        while not reader.done:
            size = next(sizes)
            before = len(buf)
            piece = reader.read(buf, size)
            assert len(piece) <= min(size, before - len(buf)), "no more than asked for, and all of it from the buffer"
            assert reader.done or not reader.trailer
            message.body += piece
            if size and not piece and not reader.done:
                yield
        check_fields(reader.trailer)
        message.trailer = reader.trailer
    message.complete = True


# ---- other parsers ----------------------------------------------------------------------------------------------------


class Other(NamedTuple):
    """What another parser makes of a message: its method or status, body and trailers."""

    start: str
    body: bytes
    trailer: list[tuple[str, str]] | None


def agree(ours: Read, theirs: list[Other], verdict: str) -> None:
    """Each message that is taken in full, the other frames so too; or it refused before, or gave the connection up."""
    for index, message in enumerate(ours.whole):
        if index >= len(theirs):
            assert verdict in (REFUSED, ENDED), f"message {index} is framed differently: the other waits for more"
            return
        other = theirs[index]
        assert str(message.head[1 if isinstance(message.head[1], int) else 0]) == other.start
        assert message.body == other.body, f"message {index} is framed differently"
        if other.trailer is not None:
            assert blanks_as_one(message.trailer) == blanks_as_one(Header(other.trailer))


def blanks_as_one(header: Header) -> list[tuple[str, str]]:
    """``pairs``; of the blanks around a fold the other leaves those before it."""
    return [(name, re.sub("[ \t]+", " ", value)) for name, value in pairs(header)]


def from_h11(connection: h11.Connection, stream: bytes, again: Callable[[h11.Connection], None]) -> tuple[list[Other], str]:
    """``again``: does what has to be done before the next message."""
    messages: list[Other] = []
    start, body = "", bytearray()
    connection.receive_data(stream)
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return messages, REFUSED
        if event is h11.NEED_DATA:
            return messages, INCOMPLETE
        if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return messages, ENDED
        if isinstance(event, h11.Request):
            start, body = event.method.decode(), bytearray()
        elif isinstance(event, h11.InformationalResponse):
            messages.append(Other(str(event.status_code), b"", []))
        elif isinstance(event, h11.Response):
            start, body = str(event.status_code), bytearray()
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            assert isinstance(event, h11.EndOfMessage)
            trailer = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            messages.append(Other(start, bytes(body), trailer))
            again(connection)
            if connection.their_state is not h11.IDLE and connection.their_state is not h11.SEND_RESPONSE:
                return messages, ENDED


class _Events:
    """The callbacks of httptools."""

    def __init__(self) -> None:
        self.parser: Any = None
        self.messages: list[Other] = []
        self.body = bytearray()

    def on_message_begin(self) -> None:
        self.body = bytearray()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        parser = self.parser
        start = parser.get_method().decode() if hasattr(parser, "get_method") else str(parser.get_status_code())
        self.messages.append(Other(start, bytes(self.body), None))


def from_httptools(make: Callable[[Any], Any], stream: bytes) -> tuple[list[Other], str]:
    events = _Events()
    events.parser = make(events)
    try:
        events.parser.feed_data(stream)
    except httptools.HttpParserUpgrade:
        return events.messages, ENDED
    except httptools.HttpParserError:
        return events.messages, REFUSED
    return events.messages, INCOMPLETE
