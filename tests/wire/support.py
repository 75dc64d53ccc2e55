"""What the wire tests share: ways to cut input into pieces, and drivers that run one parser over the pieces.

The reference encoder here is written from RFC 6455 alone and uses nothing of the code under test.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from silly._wire import accelerated_http
from silly._wire.chunked import ChunkedReader
from silly._wire.error import ProtocolError
from silly._wire.http1 import HeadReader, Request, parse_request
from silly._wire.limits import DEFAULT, Limits
from silly._wire.ws import MessageReader

KEY = b"\x37\xfa\x21\x3d"
"""The masking key of the examples in RFC 6455, section 5.7."""
TRAILING = b"\xff\x00 trailing \r\n\r\n \x81\x85"
"""Not a frame, head or chunk: a parser that looks at it fails or changes it."""

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80


# ---- pieces -----------------------------------------------------------------------------------------------------------


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def halves(data: bytes) -> Iterator[list[bytes]]:
    """Every split in two parts."""
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]


def segmentations(data: bytes, short: int = 300) -> Iterator[list[bytes]]:
    """Whole, byte by byte and, for short data, each split in two."""
    yield [data]
    yield bytewise(data)
    if len(data) <= short:
        yield from halves(data)


def attempt(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """What ``call`` gives, or None and the code of the ProtocolError it raises; any other exception passes."""
    try:
        return call(), None
    except ProtocolError as exc:
        return None, exc.code


# ---- WebSocket --------------------------------------------------------------------------------------------------------


def naive_mask(data: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def head(first: int, length: int, masked: bool, form: int | None = None) -> bytes:
    """A frame's header without the key. ``form``: 0, 2 or 8 octets of extended length; None for the shortest."""
    if form is None:
        form = 0 if length < 126 else 2 if length < 65536 else 8
    bit = 0x80 if masked else 0
    if form == 0:
        return bytes((first, bit | length))
    return bytes((first, bit | (126 if form == 2 else 127))) + length.to_bytes(form, "big")


def encode(first: int, payload: bytes, masked: bool, form: int | None = None, key: bytes = KEY) -> bytes:
    start = head(first, len(payload), masked, form)
    return start + key + naive_mask(payload, key) if masked else start + payload


def encode_fast(first: int, payload: bytes, masked: bool) -> bytes:
    """``encode`` for big payloads: a key of zeros leaves them as they are."""
    return head(first, len(payload), masked) + (bytes(4) if masked else b"") + payload


class Read(NamedTuple):
    """What a reader made of its input."""

    messages: list[tuple[int, Any]]
    code: int | None
    """The code of the ProtocolError, or None."""
    fed: int
    """Bytes fed when it stopped."""
    rest: bytes
    """What it left in the buffer."""
    calls: int


def read_frames(
    pieces: Iterable[bytes],
    server: bool,
    limits: Limits = DEFAULT,
    *,
    most: int | None = None,
    patient: bool = False,
) -> Read:
    """Runs a MessageReader over the pieces until it fails or ``most`` messages are out.

    ``patient``: asks again only when the buffer holds as much as the reader asked for, as the socket does.
    """
    reader = MessageReader(server, limits)
    buf = bytearray()
    messages: list[tuple[int, Any]] = []
    fed = calls = 0
    need = 1
    done = False
    for piece in pieces:
        buf += piece
        fed += len(piece)
        if done or (patient and len(buf) < need):
            continue
        while not done:
            calls += 1
            try:
                got = reader.next(buf)
            except ProtocolError as exc:
                assert isinstance(reader.partial(buf), (str, bytes))
                return Read(messages, exc.code, fed, bytes(buf), calls)
            if isinstance(got, int):
                assert got > len(buf), "it asks for no more than it has"
                need = got
                break
            messages.append(got)
            done = len(messages) == most
    return Read(messages, None, fed, bytes(buf), calls)


# ---- options --------------------------------------------------------------------------------------------------------------


def described(options: type) -> dict[str, tuple[object, str]]:
    """What ``help`` says of the fields of a dataclass: the default and the text by the name."""
    found = re.findall(r"^``(\w+) = (.+)``\n((?:    .+\n?)+)", inspect.getdoc(options) or "", re.MULTILINE)
    return {name: (eval(default), " ".join(text.split())) for name, default, text in found}


# ---- HTTP -------------------------------------------------------------------------------------------------------------


class HeadRead(NamedTuple):
    head: bytes | None
    code: int | None
    fed: int
    rest: bytes


def read_head(pieces: Iterable[bytes], limits: Limits = DEFAULT) -> HeadRead:
    """Runs a HeadReader over the pieces until it fails or a head is out; the pieces after that only fill the buffer."""
    reader = HeadReader(limits)
    buf = bytearray()
    fed = 0
    got: bytes | None = None
    for piece in pieces:
        buf += piece
        fed += len(piece)
        if got is None:
            try:
                got = reader.next(buf)
            except ProtocolError as exc:
                return HeadRead(None, exc.code, fed, bytes(buf))
    return HeadRead(got, None, fed, bytes(buf))


def read_request(pieces: Iterable[bytes], limits: Limits = DEFAULT) -> tuple[Request | None, int | None, bytes]:
    """The request, or None while it is incomplete; the status it is refused with, or None; what is left in the buffer.

    ``take_request`` looks first, as in the server, but at every piece.
    """
    heads = HeadReader(limits)
    buf = bytearray()
    request = None
    for piece in pieces:
        buf += piece
        if request is None:
            try:
                request = accelerated_http.take_request(buf, limits)
                if request is None and (head := heads.next(buf)) is not None:
                    request = parse_request(head, limits)
            except ProtocolError as exc:
                return None, exc.code, bytes(buf)
    return request, None, bytes(buf)


class BodyRead(NamedTuple):
    body: bytes
    done: bool
    code: int | None
    fed: int
    rest: bytes
    trailer: list[tuple[str, list[str]]]
    calls: int


def read_chunked(
    pieces: Iterable[bytes], limits: Limits = DEFAULT, most: int = 2**20, response: bool = False
) -> BodyRead:
    """Runs a ChunkedReader over the pieces; asks again as long as it gives something."""
    reader = ChunkedReader(limits, response)
    buf = bytearray()
    body = bytearray()
    fed = calls = 0

    def result(code: int | None) -> BodyRead:
        trailer = [(name, reader.trailer.getall(name)) for name in reader.trailer]
        return BodyRead(bytes(body), reader.done, code, fed, bytes(buf), trailer, calls)

    for piece in pieces:
        buf += piece
        fed += len(piece)
        while not reader.done:
            calls += 1
            try:
                got = reader.read(buf, most)
            except ProtocolError as exc:
                return result(exc.code)
            assert len(got) <= most
            body += got
            if not got:
                break
    return result(None)


class CountingBuffer(bytearray):
    """A buffer that counts the bytes its searches may have looked at, and those that are taken out of it."""

    looked = 0

    def __getitem__(self, key: Any) -> Any:
        got = super().__getitem__(key)
        if isinstance(key, slice):
            self.looked += len(got)
        return got

    def find(self, sub: Any, start: Any = 0, end: Any = None, /) -> int:  # type: ignore[override]
        stop = len(self) if end is None else min(end, len(self))
        found = super().find(sub, start, stop)
        self.looked += max(0, (found if found >= 0 else stop) - start)
        return found
