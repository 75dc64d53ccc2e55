"""A large payload while it arrives, as ``payload.py`` promises it, in C and in Python: whatever way it comes, it is unmasked,
no byte is lost or taken twice, and what a peer only announces gets no memory."""

from __future__ import annotations

import random
from typing import Any

import pytest

from silly._wire import accelerated
from silly._wire.error import ProtocolError
from silly._wire.limits import DEFAULT, Limits
from silly._wire.payload import LEAST, RESERVE
from silly._wire.ws import BINARY_END, LARGE, MessageReader

from .support import BINARY, CONT, FIN, KEY, PING, TEXT, encode, head, naive_mask

OCTETS = random.Random(6455).randbytes(200_000)
MASKED = pytest.mark.parametrize("key", [KEY, None, bytes(4), b"\xff\0\0\1"], ids=["masked", "unmasked", "key-0", "key-ff"])


def masked(data: bytes, key: bytes | None) -> bytes:
    """What arrives of ``data``."""
    return data if key is None else bytes(accelerated.apply_mask(data, key))


def received(payload: Any, data: bytes) -> bytes:
    """Receives into the room what fits of ``data``, and returns the rest."""
    with payload.room() as room:
        size = min(len(data), len(room))
        room[:size] = data[:size]
    payload.received(size)
    return data[size:]


@MASKED
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 1000, 8191, 8192, 8193, 65536, 65539, 200_000])
def test_a_payload_at_once(size: int, key: bytes | None) -> None:
    for way in ("add", "room"):
        payload = accelerated.Payload(size, key)
        assert payload.left == size
        data = masked(OCTETS[:size], key)
        if way == "add":
            buf = bytearray(data)
            payload.add(buf)
            assert buf == b""
        else:
            while data:
                data = received(payload, data)
        assert payload.left == 0
        assert payload.so_far() == OCTETS[:size]
        got = payload.take()
        assert type(got) is bytes
        assert got == OCTETS[:size]


def test_the_reference() -> None:
    payload = accelerated.Payload(300, KEY)
    payload.add(bytearray(naive_mask(OCTETS[:300], KEY)))
    assert payload.take() == OCTETS[:300]


@MASKED
@pytest.mark.parametrize("seed", range(12))
def test_a_payload_in_pieces_either_way(seed: int, key: bytes | None) -> None:
    """Of 0 bytes and more; a byte count that isn't a multiple of the key's turns the key."""
    numbers = random.Random(seed)
    size = numbers.choice([5, 100, 9000, 70_000, 200_000])
    payload = accelerated.Payload(size, key)
    data = masked(OCTETS[:size], key)
    at = 0
    while at < size:
        step = min(numbers.choice([0, 1, 2, 3, 5, 64, 1000, 4099, 30_000]), size - at)
        if numbers.random() < 0.5:
            buf = bytearray(data[at : at + step])
            payload.add(buf)
            assert buf == b""
            at += step
        else:
            at += step - len(received(payload, data[at : at + step]))
        assert payload.left == size - at
        if numbers.random() < 0.1:
            assert payload.so_far() == OCTETS[:at]
    assert payload.take() == OCTETS[:size]


@MASKED
def test_data_behind_it_stays_in_the_buffer(key: bytes | None) -> None:
    payload = accelerated.Payload(10_000, key)
    buf = bytearray(masked(OCTETS[:10_000], key) + b"behind")
    payload.add(buf)
    assert buf == b"behind"
    assert payload.left == 0
    payload.add(buf)
    assert buf == b"behind"
    assert payload.take() == OCTETS[:10_000]


def test_the_taken_payload_has_no_other_references() -> None:
    payload = accelerated.Payload(5, None)
    payload.add(bytearray(b"so far"))
    copy = payload.so_far()
    got = payload.take()
    other = accelerated.Payload(5, None)
    other.add(bytearray(b"other"))
    assert (got, copy, other.take()) == (b"so fa", b"so fa", b"other")


def test_an_announced_length_allocates_nothing() -> None:
    for size in (2**20, 2**40, 2**62):
        payload = accelerated.Payload(size, None)
        assert payload.left == size
        come = 0
        for step in (0, 1, 8000, 190, 1, 60_000, 100_000):
            data = bytearray(step)
            while data:
                payload.add(data)
            come += step
            with payload.room() as room:
                assert 0 < len(room) <= RESERVE * max(come, LEAST) - come + LEAST
        assert payload.left == size - come


def test_the_room_is_never_larger_than_the_rest() -> None:
    for size in (1, 100, 70_000):
        payload = accelerated.Payload(size, None)
        while payload.left:
            with payload.room() as room:
                assert 0 < len(room) <= payload.left
                assert not room.readonly
                assert room.contiguous
                assert (room.format, room.ndim) == ("B", 1)
            received(payload, bytes(min(1000, payload.left)))
        with payload.room() as room:
            assert len(room) == 0


def test_the_largest_announced() -> None:
    payload = accelerated.Payload(2**63 - 1, KEY)
    payload.add(bytearray(masked(OCTETS[:100], KEY)))
    assert payload.left == 2**63 - 101
    assert payload.so_far() == OCTETS[:100]


# ---- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [-1, -(2**62)])
def test_no_payload_has_less_than_no_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"no payload has {size} bytes"):
        accelerated.Payload(size, None)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 8])
def test_a_key_has_four_bytes(length: int) -> None:
    with pytest.raises(ValueError, match=f"a masking key has 4 bytes, not {length}"):
        accelerated.Payload(10, bytes(length))


def test_more_than_there_is_room_for() -> None:
    payload = accelerated.Payload(100, KEY)
    with payload.room() as room:
        room[:] = masked(OCTETS[:100], KEY)
    for size in (101, -1, 2**40, -(2**40)):
        with pytest.raises(ValueError, match=f"there is no room for {size} bytes"):
            payload.received(size)
    payload.received(60)
    with pytest.raises(ValueError, match="there is no room for 41 bytes"):
        payload.received(41)
    payload.received(40)
    assert payload.take() == OCTETS[:100]


def test_taken_too_early() -> None:
    payload = accelerated.Payload(3, None)
    with pytest.raises(ValueError, match="3 bytes of the payload are still to come"):
        payload.take()
    payload.add(bytearray(b"ab"))
    with pytest.raises(ValueError, match="1 bytes of the payload are still to come"):
        payload.take()
    payload.add(bytearray(b"c"))
    assert payload.take() == b"abc"


@pytest.mark.parametrize("size", [0, 3])
def test_once_it_was_taken(size: int) -> None:
    payload = accelerated.Payload(size, None)
    payload.add(bytearray(size))
    payload.take()
    calls: list[Any] = [payload.take, payload.so_far, payload.room, lambda: payload.received(0)]
    for call in calls:
        with pytest.raises(ValueError, match="the payload was taken"):
            call()
    assert payload.left == 0


@pytest.mark.parametrize("come", [0, 5, 20, LEAST * RESERVE])
@pytest.mark.parametrize("what", ["received", "add", "take", "room"])
def test_while_the_room_is_in_use(what: str, come: int, implementation: str, request: pytest.FixtureRequest) -> None:
    """BufferError, and nothing is lost; the room of a payload that came whole is in use too."""
    size = come if what == "take" else 100_000
    payload = accelerated.Payload(size, KEY)
    data = masked(OCTETS[:size], KEY)
    payload.add(bytearray(data[:come]))
    buf = bytearray(data[come : come + 10])
    before = bytes(buf)
    calls: dict[str, Any] = {"received": lambda: payload.received(1), "add": lambda: payload.add(buf)}
    calls |= {"take": payload.take, "room": payload.room}
    with payload.room() as room:
        with room[:0], pytest.raises(BufferError):
            calls[what]()
        with pytest.raises(BufferError):
            calls[what]()
        assert (payload.left, buf) == (size - come, before)
    payload.add(bytearray(data[come:]))
    assert payload.take() == OCTETS[:size]


@MASKED
def test_a_buffer_that_is_looked_at_meanwhile_loses_nothing(key: bytes | None) -> None:
    """It can't be changed then, which BufferError says."""
    for first in (0, 7):
        payload = accelerated.Payload(100, key)
        data = masked(OCTETS[:100], key)
        payload.add(bytearray(data[:first]))
        for size in (5, 100 - first):
            buf = bytearray(data[first : first + size])
            with memoryview(buf), pytest.raises(BufferError):
                payload.add(buf)
            assert buf == data[first : first + size]
            assert payload.left == 100 - first
            assert payload.so_far() == OCTETS[:first]
        payload.add(buf)
        assert payload.take() == OCTETS[:100]


# ---- with the reader -----------------------------------------------------------------------------------------------------

SERVER = pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
SIZE = 150_000


def frame(server: bool, size: int = SIZE) -> bytes:
    """A large message, as a reader in this role receives it."""
    return head(FIN | BINARY, size, server) + (KEY if server else b"") + masked(OCTETS[:size], KEY if server else None)


def begun(server: bool, come: int, limits: Limits = DEFAULT) -> tuple[MessageReader, bytearray, bytes]:
    """A reader that has read some bytes of a large message's payload; its buffer; and what is still to come."""
    reader = MessageReader(server, limits)
    whole = frame(server)
    at = len(whole) - SIZE + come
    buf = bytearray(whole[:at])
    assert isinstance(reader.next(buf), int)
    assert buf == b""
    assert reader.payload is not None
    assert reader.payload.left == SIZE - come
    return reader, buf, whole[at:]


@SERVER
@pytest.mark.parametrize("how", ["buffer", "payload", "both"])
@pytest.mark.parametrize("piece", [999, 4096, 65_536, SIZE])
def test_a_large_message_either_way(piece: int, how: str, server: bool) -> None:
    """Received into the buffer, where it stays, or now so and now so; behind it is another message."""
    reader, buf, rest = begun(server, 8192)
    small = encode(FIN | TEXT, b"small", server)
    turn = 0
    while rest:
        turn += 1
        if how == "payload" or (how == "both" and turn % 2):
            rest = received(reader.payload, rest[:piece]) + rest[piece:]
        else:
            buf += rest[:piece]
            rest = rest[piece:]
        assert reader.partial(buf[:0]) == OCTETS[: SIZE - reader.payload.left]
        if rest:
            assert isinstance(reader.next(buf), int)
            assert buf == b""
    buf += small
    assert reader.fast_limit < 0
    assert reader.next(buf) == (BINARY, OCTETS[:SIZE])
    assert (buf, reader.payload) == (small, None)
    assert reader.fast_limit == DEFAULT.message
    assert reader.next(buf) == (TEXT, "small")


@SERVER
@pytest.mark.parametrize("size", [LARGE - 1, LARGE])
def test_from_which_size_on(size: int, server: bool) -> None:
    """One that is smaller, or of which little has come, stays in the buffer."""
    for come, opened in ((8191, False), (8192, size == LARGE), (LARGE - 2, size == LARGE)):
        whole = frame(server, size)
        at = len(whole) - size + come
        reader, buf = MessageReader(server, DEFAULT), bytearray(whole[:at])
        assert isinstance(reader.next(buf), int)
        assert (reader.payload is not None) is opened
        assert len(buf) == (0 if opened else at)
        buf += whole[at:]
        assert reader.next(buf) == (BINARY, OCTETS[:size])


@SERVER
@pytest.mark.parametrize("come", [8192, 8193, 8194, 8195, SIZE - 1])
def test_a_large_message_in_pieces_from_its_middle(come: int, server: bool) -> None:
    reader, buf, rest = begun(server, come)
    reader.read_pieces(SIZE)
    parts = []
    for piece in (rest[:1], rest[1:5], rest[5:]):
        buf += piece
        while True:
            got = reader.next(buf)
            if isinstance(got, int):
                break
            assert got[0] in (CONT, BINARY_END)
            parts.append(got[1] if got[0] != CONT else reader.take_piece())
    assert b"".join(parts) == OCTETS[:SIZE]
    assert not reader.opcode
    buf += encode(FIN | TEXT, b"small", server)
    assert reader.next(buf) == (TEXT, "small")


@SERVER
def test_a_large_message_that_is_dropped_from_its_middle(server: bool) -> None:
    reader, buf, rest = begun(server, 10_000)
    reader.read_pieces(SIZE)
    assert reader.next(buf) == (CONT, b"")
    reader.read_whole()
    buf += rest + encode(FIN | TEXT, b"small", server)
    messages = []
    while not isinstance(got := reader.next(buf), int):
        messages.append(got)
    assert [message for message in messages if message[0] != CONT] == [(TEXT, "small")]


@SERVER
def test_nothing_is_taken_out_of_a_large_message_that_was_to_come_in_pieces(server: bool) -> None:
    """The caller asked for pieces, and then for all of it."""
    reader, buf, rest = begun(server, 10_000)
    reader.read_pieces(SIZE)
    reader.read_whole()
    assert reader.fast_limit < 0
    buf += rest
    assert reader.next(buf) == (BINARY, OCTETS[:SIZE])
    assert reader.fast_limit == DEFAULT.message


@SERVER
def test_a_large_message_that_is_longer_than_its_pieces_may_be(server: bool) -> None:
    reader, buf, rest = begun(server, 10_000)
    reader.read_pieces(SIZE - 1)
    buf += rest
    with pytest.raises(ProtocolError) as caught:
        while not isinstance(reader.next(buf), int):
            pass
    assert caught.value.code == 1009


@SERVER
def test_a_large_message_of_which_the_rest_is_there(server: bool) -> None:
    """It and what comes after it may be taken while no task reads."""
    reader, buf, rest = begun(server, 10_000)
    ping = encode(FIN | PING, b"ping", server)
    buf += rest[:100]
    assert reader.complete(buf) == -1
    buf += rest[100:] + ping
    assert reader.complete(buf, False) == -1
    assert reader.complete(buf) == len(rest)
    assert reader.next(buf) == (BINARY, OCTETS[:SIZE])
    assert reader.complete(buf) == len(ping)
    assert reader.next(buf) == (PING, b"ping")
