"""How far compressed messages are inflated, and where others go first."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from silly._wire.deflate import SHARE, Inflater
from silly._wire.error import ProtocolError
from silly._wire.limits import Limits
from silly._wire.ws import AHEAD, RATIO, RSV1, MessageReader

from .support import BINARY, CONT, FIN, PING, TEXT, encode

BOTH = pytest.mark.parametrize("server", [pytest.param(True, id="server"), pytest.param(False, id="client")])


def reader_of(server: bool, message: int = 2**20) -> MessageReader:
    return MessageReader(server, Limits(message=message), Inflater(True, 15))


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(size)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]


def messages(reader: MessageReader, buf: bytearray) -> tuple[list[Any], int]:
    """All that can be taken, and how often others went first; the buffer isn't empty then."""
    got, rests = [], 0
    while True:
        message = reader.next(buf)
        if isinstance(message, int):
            if message:
                return got, rests
            rests += 1
            assert buf
        else:
            got.append(message)


@BOTH
@pytest.mark.parametrize("size", [1000, 100_000, 400_000, 1_000_000])
def test_others_go_first_after_a_share(size: int, server: bool) -> None:
    """Short messages are inflated at once, long ones in steps."""
    wire = bomb(size)
    assert (len(wire) <= 512) is (size <= 400_000)
    count = 4 * SHARE // size + 8
    got, rests = messages(reader_of(server), bytearray(encode(FIN | RSV1 | BINARY, wire, server) * count))
    assert got == [(BINARY, bytes(size))] * count
    assert count * size // (SHARE + 400_000) <= rests <= count * (size + 1024) // SHARE


@BOTH
@pytest.mark.parametrize("end", [1, 0])
@pytest.mark.parametrize("bytewise", [True, False])
def test_an_unfinished_message(bytewise: bool, end: int, server: bool) -> None:
    """16 KiB and 32 bytes for each that has come are inflated; the rest when it is complete, also by a frame that is empty."""
    reader = reader_of(server)
    wire = bomb(1_000_000)
    last = len(wire) - end
    came = 0
    buf = bytearray()
    for first, payload in [(RSV1 | TEXT, wire[:100]), (CONT, wire[100:101]), (CONT, b""), (CONT, wire[101:last])]:
        data = encode(first, payload, server)
        for part in [data[at : at + 1] for at in range(len(data))] if bytewise else [data]:
            buf += part
            assert isinstance(reader.next(buf), int)
            assert reader.held <= AHEAD + RATIO * (came + len(payload)) + 1
        came += len(payload)
        assert reader.unfinished(buf) == came
        buf += encode(FIN | PING, b"p", server)
        assert reader.next(buf) == (PING, b"p")
    assert reader.waiting
    assert reader.held < 60_000
    buf += encode(FIN | CONT, wire[last:], server)
    got, rests = messages(reader, buf)
    assert got == [(TEXT, "\0" * 1_000_000)]
    assert rests >= 2
    assert not reader.waiting


@BOTH
def test_the_limit_of_an_unfinished_message(server: bool) -> None:
    """It is told when 32 bytes for each that has come are past it, and by the headers' lengths."""
    reader = reader_of(server, 100_000)
    wire = bomb(10_000_000)
    buf = bytearray(encode(RSV1 | BINARY, wire[:2000], server))
    assert reader.next(buf) == 1
    buf += encode(CONT, wire[2000:4000], server)
    with pytest.raises(ProtocolError, match="limit 'message' of 100000"):
        reader.next(buf)
    reader = reader_of(server, 10_000)
    empty = b"\0\0\0\xff\xff" * 500
    buf = bytearray(encode(RSV1 | BINARY, empty, server) + encode(CONT, empty, server) * 10)
    with pytest.raises(ProtocolError, match="limit 'message' of 10000"):
        reader.next(buf)
    assert len(buf) > 5000


@BOTH
def test_what_waits_in_pieces(server: bool) -> None:
    """What was not inflated for a reader of whole messages comes in pieces, though the buffer is empty."""
    reader = reader_of(server)
    wire = bomb(1_000_000)
    buf = bytearray(encode(RSV1 | BINARY, wire[:-1], server))
    assert reader.next(buf) == 1
    assert not buf
    size = reader.held
    assert size < 60_000
    reader.read_pieces(2_000_000)
    size = len(reader.take_piece())
    while reader.waiting:
        got = reader.next(buf)
        assert got in (0, (CONT, b""))
        size += len(reader.take_piece())
    assert 990_000 < size <= 1_000_000
    assert reader.next(buf) == 1
    buf += encode(FIN | CONT, wire[-1:], server)
    while isinstance(got := reader.next(buf), int) or got[0] == CONT:
        size += len(reader.take_piece())
    assert size + len(got[1]) == 1_000_000
