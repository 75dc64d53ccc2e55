"""The fast path for nearly every WebSocket message, in pure Python: for one that is
whole, short, unfragmented and uncompressed. ``_speedups.c`` has the same in C, and
``ws.py`` has everything else."""

from __future__ import annotations

from typing import Literal

from .mask import apply_mask, unmask

FRAGMENT = 64 * 1024
"""Messages of at least this many bytes are sent in fragments of this size, so that
control frames can go between them."""
BATCH = 64
"""The most messages that one ``take_messages`` returns."""

FIN_TEXT, FIN_BINARY, MASKED = 0x81, 0x82, 0x80

FrameType = Literal["text", "binary", "ping", "pong", "close"]
"""The type of a WebSocket message or control frame, as users see it."""
Taken = tuple[str | bytes, FrameType]
"""Data and type, as ``sock.read`` returns them."""


def take_messages(buf: bytearray, rest: list[Taken], masked: bool, most: int) -> Taken | None:
    """Takes whole, valid, unfragmented data frames off the front of ``buf``.

    Each has at most ``most`` bytes; at most ``BATCH`` are taken, and none that begins
    behind the first ``FRAGMENT`` bytes of ``buf``. Returns the first message, and
    appends the others to ``rest``, in reverse order: ``rest.pop()`` is the next one.
    Returns None if there is no such frame at the front: then nothing has changed, and
    ``MessageReader.next`` has to read what is there.
    """
    taken: list[Taken] = []
    have = len(buf)
    at = 0
    flag = MASKED if masked else 0
    while len(taken) < BATCH and at < FRAGMENT and have - at >= 2:
        first, second = buf[at], buf[at + 1]
        if (first not in (FIN_TEXT, FIN_BINARY)) or second & MASKED != flag:
            break
        size = second & 0x7F
        start = at + 2
        if size > 125:
            start += 2 if size == 126 else 8
            if have < start:
                break
            least = 126 if size == 126 else 65536
            size = int.from_bytes(buf[at + 2 : start], "big")
            if size < least:
                break
        if masked:
            start += 4
        end = start + size
        if size > most or end > have:
            break
        payload = unmask(buf, start, end) if masked else bytes(buf[start:end])
        if first == FIN_BINARY:
            taken.append((payload, "binary"))
        else:
            try:
                taken.append((payload.decode(), "text"))
            except UnicodeDecodeError:
                break
        at = end
    if not taken:
        return None
    if at == have:
        buf.clear()
    else:
        del buf[:at]
    rest.extend(taken[:0:-1])
    return taken[0]


def message_frame(data: object, typ: str | None, key: bytes | None) -> bytes | None:
    """The frame of a message of less than ``FRAGMENT`` bytes, masked with a ``key``.

    Returns None for a message that needs more checks: one of another type, bytes sent
    as text, or text with a lone surrogate.
    """
    if type(data) is str and (typ is _TEXT or typ is _BINARY):
        try:
            payload = data.encode()
        except UnicodeEncodeError:
            return None
    elif type(data) is bytes and typ is _BINARY:
        payload = data
    else:
        return None
    size = len(payload)
    if size >= FRAGMENT:
        return None
    heads = _HEADS[typ is _TEXT]
    if key is None:
        head = heads[size] if size < 126 else heads[126] + size.to_bytes(2, "big")
        return head + payload
    first = FIN_TEXT if typ is _TEXT else FIN_BINARY
    head = bytes((first, MASKED | size)) if size < 126 else bytes((first, MASKED | 126)) + size.to_bytes(2, "big")
    return head + key + apply_mask(payload, key)


_TEXT, _BINARY = "text", "binary"
_HEADS = [[bytes((first, size)) for size in range(127)] for first in (FIN_BINARY, FIN_TEXT)]
