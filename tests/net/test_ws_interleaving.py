"""Seeded random schedules of writers, a reader and a peer that cuts, stalls, closes and resets.

The raw peer decodes the frames itself: frames never mix, each message is whole, each writer's messages are in order, and at the
end everybody wakes with the same words.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from silly import errno, time

from ..helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    WITHIN,
    both_sides,
    client_side,
    joined,
    server_side,
    spawn,
    turn,
)
from .support import until

RSV1 = 0x40
CLOSED = "closed"
LIMITS = {"close_timeout": 300, "unsent": 128 * 1024, "linger": 300, "ping_interval": 5, "pong_timeout": 30_000}
ENDS = ["whole", "ours", "theirs", "reset", "eof"]
Side = Callable[..., AbstractContextManager[tuple[Any, Any]]]


@pytest.fixture(params=[server_side, client_side], ids=["server", "client"])
def side(request: pytest.FixtureRequest) -> Side:
    """The role of the subject; the peer is raw bytes."""
    return request.param


def idle(rng: random.Random) -> None:
    """Sometimes lets others run, for a turn or a moment."""
    kind = rng.random()
    if kind < 0.3:
        time.sleep(0)
    elif kind < 0.4:
        time.sleep(rng.choice([1, 2, 5]))


def generators(rng: random.Random, count: int) -> list[random.Random]:
    """One for each task, so that its choices don't depend on the others'."""
    return [random.Random(rng.random()) for _ in range(count)]


def message(rng: random.Random, writer: int, number: int) -> bytes:
    """It names its writer and its place, and checks itself."""
    size = rng.choice([0, 1, 20, 200, 1000, 5000, 65_000, 70_000, 150_000, 300_000])
    body = b"%d %d %d " % (writer, number, size) + b"%x" % rng.getrandbits(64) * (size // 16)
    return b"%d " % zlib.crc32(body) + body


class Received:
    """The messages that arrived, by writer."""

    def __init__(self) -> None:
        self.numbers: dict[int, list[int]] = defaultdict(list)

    def add(self, data: str | bytes) -> None:
        payload = data.encode() if isinstance(data, str) else data
        check, body = payload.split(b" ", 1)
        assert int(check) == zlib.crc32(body), payload[:100]
        writer, number, _ = body.split(b" ", 2)
        self.numbers[int(writer)].append(int(number))

    def check(self, sent: dict[int, int], complete: bool) -> None:
        for writer, numbers in self.numbers.items():
            assert numbers == list(range(len(numbers))), writer
        if complete:
            assert {writer: len(self.numbers[writer]) for writer in sent} == sent


def write_all(sock: Any, rng: random.Random, writer: int, sent: dict[int, int], compressed: bool) -> str | None:
    """A writer: messages in every way there is. What it was told when it failed."""
    for _ in range(rng.randrange(4, 10)):
        data = message(rng, writer, sent[writer])
        typ = rng.choice(["text", "binary"])
        err: str | None
        if rng.random() < 0.4:
            with sock.message(typ, compress=rng.choice([None, False])) as out:
                at = 0
                while at < len(data):
                    size = rng.choice([1, 100, 10_000, 100_000])
                    out.write(data[at : at + size])
                    at += size
                    if rng.random() < 0.2:
                        out.flush()
                    idle(rng)
            err = out.err
        else:
            err = sock.write(data, typ, compress=rng.choice([None, True, False]) if compressed else None)[1]
        if err is not None:
            return err
        sent[writer] += 1
        if rng.random() < 0.3:
            err = sock.write(b"ping of %d" % writer, "ping")[1]
            if err is not None:
                return err
        idle(rng)
    return None


def read_all(sock: Any, rng: random.Random, received: Received) -> str:
    """A reader: by ``read`` and by pieces, with time-outs. The error that ended it."""
    while True:
        if rng.random() < 0.3:
            pieces = sock.pieces(rng.choice([None, 0, 1]))
            got: list[Any] = []
            while True:
                got += pieces
                if pieces.err != errno.TIMEDOUT:
                    break
                idle(rng)
            if pieces.err is not None:
                return str(pieces.err)
            received.add(("" if pieces.typ == "text" else b"").join(got))
        else:
            data, typ = sock.read(rng.choice([None, 0, 1]))
            if data is None:
                if typ != errno.TIMEDOUT:
                    return str(typ)
            elif typ in ("text", "binary"):
                received.add(data)
        idle(rng)


class RawEnd:
    """The peer: decodes what comes, sends messages and pings cut anywhere."""

    def __init__(self, peer: Any, rng: random.Random, compressed: bool) -> None:
        self.peer = peer
        self.rng = rng
        self.received = Received()
        self.inflate = zlib.decompressobj(-15) if compressed else None
        self.sent = 0
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.stop = False

    def take(self) -> int | None:
        """Reads one frame, in two reads; None at the end of the connection, else its first byte."""
        conn = self.peer.conn
        head, _ = conn.read(2, WITHIN)
        if head is None:
            return None
        first, size = head[0], head[1] & 0x7F
        assert bool(head[1] & 0x80) is not self.peer.masks
        if size > 125:
            more, _ = conn.read(2 if size == 126 else 8, WITHIN)
            if more is None:
                return None
            size = int.from_bytes(more, "big")
        key, _ = (b"\0\0\0\0", None) if self.peer.masks else conn.read(4, WITHIN)
        payload, _ = (b"", None) if not size else conn.read(size, WITHIN)
        if key is None or payload is None:
            return None
        if not self.peer.masks and size:
            repeated = int.from_bytes((key * (size // 4 + 1))[:size], "big")
            payload = (int.from_bytes(payload, "big") ^ repeated).to_bytes(size, "big")
        self.frame(first, payload)
        return int(first)

    kind = 0
    data = b""

    def frame(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode & 8:
            assert first & 0xF0 == FIN
            assert len(payload) <= 125
            if opcode == PONG:
                self.pongs.append(payload)
            return
        if self.kind:
            assert first & 0x7F == CONTINUATION, hex(first)
        else:
            assert opcode in (TEXT, BINARY), hex(first)
            assert not first & RSV1 or self.inflate is not None
            self.kind = first
            self.data = b""
        self.data += payload
        if first & FIN:
            data = self.data
            if self.kind & RSV1:
                assert self.inflate is not None
                data = self.inflate.decompress(data + b"\0\0\xff\xff")
            if self.kind & 0x0F == TEXT:
                data.decode()
            self.received.add(data)
            self.kind = 0

    def read(self) -> None:
        while (first := self.take()) is not None and first != FIN | CLOSE:
            if self.rng.random() < 0.1:
                idle(self.rng)

    def write(self) -> None:
        rng, peer = self.rng, self.peer
        for _ in range(rng.randrange(5, 30)):
            if self.stop:
                return
            if rng.random() < 0.4:
                payload = b"ping %d" % len(self.pings)
                self.pings.append(payload)
                wire = peer.frame(FIN | PING, payload)
            else:
                data = self.small()
                cut = rng.randrange(len(data))
                wire = rng.choice(
                    [
                        peer.frame(FIN | BINARY, data),
                        peer.frame(TEXT, data[:cut]) + peer.frame(FIN | CONTINUATION, data[cut:]),
                    ]
                )
                self.sent += 1
            at = 0
            while at < len(wire):
                size = rng.choice([1, 5, 100, 10_000])
                if not peer.conn.write(wire[at : at + size]):
                    return
                peer.conn._stream.flush()
                at += size
                idle(rng)

    def small(self) -> bytes:
        body = b"99 %d 0 " % self.sent + b"x" * self.rng.choice([0, 10, 1000, 20_000])
        return b"%d " % zlib.crc32(body) + body


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("seed", range(6))
def test_against_a_raw_peer(side: Side, seed: int, end: str, compressed: bool) -> None:
    rng = random.Random(f"{seed} {end} {compressed}")
    with side(LIMITS, compression=compressed) as (sock, peer):
        raw = RawEnd(peer, random.Random(rng.random()), compressed)
        sent: dict[int, int] = defaultdict(int)
        received = Received()
        writers = [
            spawn(lambda i=i, own=own: write_all(sock, own, i, sent, compressed))
            for i, own in enumerate(generators(rng, rng.randrange(2, 5)))
        ]
        own_of_reader = random.Random(rng.random())
        reading = spawn(lambda: read_all(sock, own_of_reader, received))
        peer_reads, peer_writes = spawn(raw.read), spawn(raw.write)
        if end == "whole":
            errors = {joined(each) for each in writers}
            joined(peer_writes)
            assert errors == {None}
            closing = spawn(sock.close)
            joined(peer_reads)
            peer.put_close()
            peer.half_close()
            assert joined(reading) == CLOSED
            joined(closing)
            raw.received.check(sent, True)
            assert raw.pongs == raw.pings[: len(raw.pongs)]
            received.check({99: len(received.numbers[99])}, True)
            return
        for _ in range(rng.randrange(60)):
            idle(rng)
            turn()
        raw.stop = True
        if end == "ours":
            closing = spawn(lambda: sock.close(3000, "enough"))
            joined(peer_reads)
            if peer.conn.isalive():
                peer.half_close()
            joined(closing)
        elif end == "theirs":
            joined(peer_writes)
            peer.put_close(3001)
            joined(peer_reads)
        elif end == "eof":
            joined(peer_writes)
            peer.half_close()
            joined(peer_reads)
        else:
            peer.reset()
            joined(peer_reads)
        told = joined(reading)
        errors = {joined(each) for each in writers} - {None}
        sock.close()
        assert errors <= {told}, (errors, told)
        assert sock.cause is not None
        until(lambda: sock._session.stream.sock is None)
        raw.received.check(sent, False)
        received.check({}, False)
        if end in ("ours", "reset"):
            joined(peer_writes)


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("end", ["whole", "client", "server", "both", "reset"])
@pytest.mark.parametrize("seed", range(4))
def test_against_ourselves(seed: int, end: str, compression: bool) -> None:
    rng = random.Random(f"{seed} {end} {compression}")
    with both_sides(LIMITS, compression=compression) as (server, client):
        ends = [server, client]
        sent: list[dict[int, int]] = [defaultdict(int), defaultdict(int)]
        received = [Received(), Received()]
        writers = [
            [
                spawn(lambda i=i, k=k, own=own: write_all(ends[k], own, i, sent[k], compression))
                for i, own in enumerate(generators(rng, rng.randrange(1, 4)))
            ]
            for k in range(2)
        ]
        readers = [
            spawn(lambda k=k, own=own: read_all(ends[k], own, received[k])) for k, own in enumerate(generators(rng, 2))
        ]
        if end == "whole":
            assert {joined(each) for group in writers for each in group} == {None}
            writers = [[], []]
            for k in range(2):
                until(lambda k=k: {w: len(received[1 - k].numbers[w]) for w in sent[k]} == sent[k])
        else:
            for _ in range(rng.randrange(60)):
                idle(rng)
                turn()
        if end == "reset":
            ends[rng.randrange(2)].conn._stream.abort()
        closing = [
            spawn(ends[k].close)
            for k in range(2)
            if end in ("whole", "both") or end == ("server", "client")[k]
        ]
        told = [joined(each) for each in readers]
        for sock in ends:
            sock.close()
        for each in closing:
            joined(each)
        for k in range(2):
            errors = {joined(each) for each in writers[k]} - {None}
            assert errors <= {told[k]}
            assert ends[k].cause
            received[k].check(sent[1 - k], end == "whole")
