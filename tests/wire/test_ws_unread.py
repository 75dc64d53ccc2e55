"""What may be taken off a buffer that no task reads: ``MessageReader.complete``."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from silly._wire.deflate import Inflater
from silly._wire.error import ProtocolError
from silly._wire.limits import Limits
from silly._wire.ws import RSV1, MessageReader

from .support import BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, encode, head

ROLES = [pytest.param(True, id="server"), pytest.param(False, id="client")]
LIMITS = Limits(message=1000, fragments=3)


def reader_of(server: bool, limits: Limits = LIMITS) -> MessageReader:
    return MessageReader(server, limits, Inflater(False, 15))


def taken(reader: MessageReader, buf: bytearray) -> list[tuple[int, Any]]:
    """All that may be taken, frame by frame."""
    messages = []
    while (size := reader.complete(buf)) >= 0:
        frame = buf[:size]
        del buf[:size]
        got = reader.next(frame)
        assert not frame
        if not isinstance(got, int):
            messages.append(got)
    return messages


def deflated(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-15)
    return squeezer.compress(data) + squeezer.flush(zlib.Z_SYNC_FLUSH)[:-4]


@pytest.mark.parametrize("server", ROLES)
def test_whole_frames(server: bool) -> None:
    frames = [
        (FIN | TEXT, b"text"),
        (FIN | PING, b"ping"),
        (FIN | BINARY, b"x" * 126),
        (FIN | PONG, b""),
        (TEXT, b"one "),
        (FIN | PING, b"between"),
        (CONT, b"two "),
        (FIN | CONT, b"three"),
        (FIN | CLOSE, b"\x03\xe8"),
    ]
    stream = b"".join(encode(first, payload, server) for first, payload in frames)
    expected = [
        (TEXT, "text"),
        (PING, b"ping"),
        (BINARY, b"x" * 126),
        (PONG, b""),
        (PING, b"between"),
        (TEXT, "one two three"),
        (CLOSE, b"\x03\xe8"),
    ]
    buf = bytearray(stream)
    assert taken(reader_of(server), buf) == expected
    assert buf == b""
    reader = reader_of(server)
    got = []
    for octet in stream:
        buf.append(octet)
        got += taken(reader, buf)
    assert got == expected


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(
    ("first", "payload"), [(FIN | TEXT, b"x"), (FIN | BINARY, b"x" * 200), (FIN | PING, b"x"), (FIN | CLOSE, b"\x03\xe8x")]
)
def test_a_frame_of_which_some_is_missing_is_left(first: int, payload: bytes, server: bool) -> None:
    frame = encode(first, payload, server)
    for size in range(len(frame)):
        assert reader_of(server).complete(bytearray(frame[:size])) == -1


@pytest.mark.parametrize("server", ROLES)
def test_a_message_longer_than_the_limit_is_left(server: bool) -> None:
    """Such a one may still be read in pieces."""
    ping = encode(FIN | PING, b"", server)
    for frames, count in (
        ([(FIN | BINARY, 1001)], 0),
        ([(FIN | BINARY, 1000), (FIN | BINARY, 1001)], 1),
        ([(BINARY, 600), (FIN | CONT, 401)], 0),
        ([(BINARY, 600), (FIN | CONT, 400)], 1),
        ([(FIN | BINARY, 600), (FIN | BINARY, 600)], 2),
        ([(BINARY, 0), (CONT, 0), (CONT, 0), (FIN | CONT, 0)], 0),  # the limit 'fragments'
        ([(BINARY, 0), (CONT, 0), (FIN | CONT, 0)], 1),
    ):
        reader = reader_of(server)
        buf = bytearray(b"".join(encode(first, bytes(size), server) for first, size in frames))
        assert len(taken(reader, buf)) == count
        left = bytes(buf)
        assert bool(left) == (count < sum(bool(first & FIN) for first, _ in frames))
        buf += ping
        assert taken(reader, buf) == ([] if left else [(PING, b"")])
    buf = bytearray(encode(BINARY, bytes(600), server) + encode(FIN | CONT, bytes(600), server))
    reader = reader_of(server)
    assert taken(reader, buf) == []
    reader.read_pieces(1200)
    assert reader.take_piece() == bytes(600)
    while isinstance(got := reader.next(buf), tuple) and got[0] == CONT:
        assert len(reader.take_piece()) == 600
    assert buf == b""


@pytest.mark.parametrize("server", ROLES)
def test_more_was_taken_than_a_piecewise_reader_wants(server: bool) -> None:
    reader = reader_of(server)
    assert taken(reader, bytearray(encode(BINARY, bytes(6), server))) == []
    assert reader.held == 6
    reader.read_pieces(6)
    with pytest.raises(ProtocolError, match="the limit 'limit' of 5 bytes") as caught:
        reader.read_pieces(5)
    assert caught.value.code == 1009


@pytest.mark.parametrize("server", ROLES)
def test_nothing_is_inflated(server: bool) -> None:
    """Nor the plain messages behind it; but control frames between its fragments are seen."""
    packed = deflated(b"x" * 500)
    buf = bytearray(encode(FIN | RSV1 | TEXT, packed, server) + encode(FIN | PING, b"", server))
    assert reader_of(server).complete(buf) == -1
    reader = reader_of(server)
    buf = bytearray(encode(RSV1 | TEXT, packed[:3], server))
    assert isinstance(reader.next(buf), int)  # somebody has begun to read it
    buf += encode(FIN | PING, b"between", server) + encode(FIN | CONT, packed[3:], server)
    assert taken(reader, buf) == [(PING, b"between")]
    assert reader.next(buf) == (TEXT, "x" * 500)


@pytest.mark.parametrize("server", ROLES)
def test_within_a_frame_that_a_reader_has_begun(server: bool) -> None:
    frame = encode(FIN | TEXT, b"x" * 100, server)
    reader = reader_of(server)
    buf = bytearray(frame[:50])
    assert isinstance(reader.next(buf), int)
    assert buf == b""
    buf += frame[50:99]
    assert reader.complete(buf) == -1
    buf += frame[99:] + encode(FIN | PING, b"p", server)
    assert reader.complete(buf, False) == -1
    assert taken(reader, buf) == [(TEXT, "x" * 100), (PING, b"p")]


@pytest.mark.parametrize("server", ROLES)
def test_of_a_message_in_pieces_only_control_frames(server: bool) -> None:
    reader = reader_of(server)
    reader.read_pieces(10_000)
    buf = bytearray(encode(BINARY, b"one", server))
    assert reader.next(buf) == (CONT, b"")
    buf += encode(FIN | PING, b"p", server) + encode(CONT, b"two", server) + encode(FIN | PING, b"q", server)
    assert taken(reader, buf) == [(PING, b"p")]
    assert reader.take_piece() == b"one"


@pytest.mark.parametrize("server", ROLES)
def test_a_message_that_is_dropped(server: bool) -> None:
    """It is dropped, whatever its length."""
    reader = reader_of(server)
    reader.read_pieces(10_000)
    buf = bytearray(encode(BINARY, b"one", server))
    assert reader.next(buf) == (CONT, b"")
    reader.read_whole()
    for _ in range(4):
        buf += encode(CONT, bytes(2000), server)
    buf += encode(FIN | CONT, b"end", server) + encode(FIN | TEXT, b"next", server)
    assert [message for message in taken(reader, buf) if message[0]] == [(TEXT, "next")]


@pytest.mark.parametrize("server", ROLES)
def test_only_control_frames(server: bool) -> None:
    reader = reader_of(server)
    buf = bytearray(encode(FIN | PING, b"p", server) + encode(FIN | TEXT, b"x", server))
    assert reader.complete(buf, False) == len(encode(FIN | PING, b"p", server))
    reader.next(buf)
    assert reader.complete(buf, False) == -1
    assert reader.complete(buf) == len(buf)


@pytest.mark.parametrize("server", ROLES)
@pytest.mark.parametrize(
    ("first", "payload"),
    [(FIN | 0x03, b""), (FIN | 0x0B, b""), (PING, b""), (FIN | CONT, b""), (FIN | PING, b"x" * 126)],
    ids=["opcode", "control opcode", "fragmented", "continuation", "long ping"],
)
def test_an_error_is_reported(first: int, payload: bytes, server: bool) -> None:
    with pytest.raises(ProtocolError):
        taken(reader_of(server), bytearray(encode(first, payload, server)))
    with pytest.raises(ProtocolError):
        taken(reader_of(server), bytearray(head(FIN | PING, 0, not server)))


@pytest.mark.parametrize("server", ROLES)
def test_a_length_is_waited_for(server: bool) -> None:
    data = head(FIN | BINARY, 70_000, server)
    for size in range(2, len(data) + 1):
        assert reader_of(server).complete(bytearray(data[:size])) == -1


# ---- what the peer has to go on with ------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ROLES)
def test_unfinished(server: bool) -> None:
    """How many bytes of its payload have come; None as long as nothing is begun, or there is something to take."""
    for first, payload in ((FIN | BINARY, b"x" * 200), (FIN | TEXT, b"y" * 70_000), (FIN | BINARY, b"z" * 5)):
        whole = encode(first, payload, server)
        head = len(whole) - len(payload)
        reader = reader_of(server, Limits())
        assert reader.unfinished(bytearray()) is None
        for size in (1, 2, 3, head, head + 1, len(whole) - 1):
            assert reader.unfinished(bytearray(whole[:size])) == max(0, size - head)
        assert reader.unfinished(bytearray(whole)) is None


@pytest.mark.parametrize("server", ROLES)
def test_unfinished_fragments(server: bool) -> None:
    reader = reader_of(server, Limits())
    buf = bytearray(encode(BINARY, b"x" * 300, server))
    assert reader.next(buf) == 1
    assert reader.unfinished(buf) == 300
    ping = encode(FIN | PING, b"ping", server)
    assert reader.unfinished(bytearray(ping[:-1])) == 300
    assert reader.unfinished(bytearray(ping)) is None
    buf += ping
    assert reader.next(buf) == (PING, b"ping")
    assert reader.ended == 0
    more = encode(FIN | CONT, b"y" * 200, server)
    assert reader.unfinished(bytearray(more[:-50])) == 450
    buf += more
    assert reader.next(buf) == (BINARY, b"x" * 300 + b"y" * 200)
    assert reader.ended == 1
    assert reader.unfinished(buf) is None


@pytest.mark.parametrize("server", ROLES)
def test_unfinished_frames_that_are_taken_as_they_come(server: bool) -> None:
    reader = reader_of(server, Limits())
    whole = encode(FIN | TEXT, b"x" * 300, server)
    buf = bytearray(whole[:-100])
    assert reader.next(buf) == 1
    assert reader.unfinished(buf) == 200
    buf += whole[-100:-50]
    assert reader.unfinished(buf) == 250
    buf += whole[-50:]
    assert reader.unfinished(buf) is None
    assert reader.next(buf) == (TEXT, "x" * 300)
    whole = encode(FIN | BINARY, b"x" * 100_000, server)
    buf = bytearray(whole[:-50_000])
    assert reader.next(buf) == 1
    buf += b"x" * 10_000
    assert reader.unfinished(buf) == 60_000
    assert reader.unfinished(bytearray(50_000)) is None
    reader.read_pieces(200_000)
    assert reader.next(buf) == (CONT, b"")
    assert reader.unfinished(bytearray()) in (50_000, 60_000)


@pytest.mark.parametrize("server", ROLES)
def test_the_end_of_a_watched_message_counts(server: bool) -> None:
    """Else another that is unfinished at the next look would be taken for the same."""
    reader = reader_of(server, Limits())
    fast = reader.fast_limit
    for count, (first, payload) in enumerate(
        [(FIN | TEXT, b"a"), (FIN | BINARY, b"b"), (FIN | PING, b"c"), (FIN | BINARY, b"")], 1
    ):
        reader.watch()
        assert reader.fast_limit == -1
        reader.next(bytearray(encode(first, payload, server)))
        assert (reader.ended, reader.fast_limit) == (count, fast)


@pytest.mark.parametrize("server", ROLES)
def test_a_control_frame_behind_what_is_not_inflated_yet(server: bool) -> None:
    """Whole messages: it may be taken. In pieces ``next`` would go on with what waits, and lose the frame."""
    reader = reader_of(server, Limits())
    buf = bytearray(encode(RSV1 | BINARY, deflated(bytes(2**19)) + b"\0\0\xff\xff", server) + encode(FIN | PING, b"p", server))
    assert reader.next(buf) == (PING, b"p")
    assert reader.waiting
    buf += encode(FIN | PING, b"q", server)
    size = len(buf)
    assert reader.complete(buf) == size
    reader.read_pieces(2**20)
    assert reader.complete(buf) == -1
    pieces = b""
    while (got := reader.next(buf)) != (PING, b"q"):
        if got:
            pieces += reader.take_piece()
    assert pieces == bytes(2**19)


@pytest.mark.parametrize("server", ROLES)
def test_a_large_message_that_is_arriving_is_read_whole(server: bool) -> None:
    """Its payload is not taken for a frame, though no message is open."""
    data = bytes(100_000)
    reader = reader_of(server, Limits())
    frame = encode(FIN | BINARY, data, server)
    buf = bytearray(frame[:20_000])
    assert reader.next(buf) == 1
    assert reader.payload is not None
    reader.read_whole()
    assert reader.fast_limit == -1
    buf += frame[20_000:]
    assert reader.next(buf) == (BINARY, data)
