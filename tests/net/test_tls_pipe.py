"""The way of a TLS connection's bytes through OpenSSL, in C and in Python: the same, however the records are cut, and
nothing is lost or wrong behind an error."""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import random
import socket
import sys
import termios
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

from silly.net import _descriptor, _tls_direct, _tls_pipe
from silly.net._tls_pipe import ATTEND, CLOSED, DRAINED, FLOWING, NOTHING, PARTIAL, REFUSED

from ..implementations import NEEDED
from . import authorities
from .support import reset_on_close
from .test_tls_direct import Another, Exchanged, Renamed, carry, ends
from .tls_records import ALERT, CLOSE_NOTIFY, HANDSHAKE, KEY_UPDATE_REQUESTED, Forger

FFI, LIB = _openssl.ffi, _openssl.lib
SIZE = 17 * 1024


def _in_c() -> Any:
    try:
        return _tls_pipe._make()
    except ImportError as exc:
        (pytest.fail if NEEDED else pytest.skip)(f"silly.net._tls_speedups isn't there: {exc}")


def _in_python() -> Any:
    return _tls_pipe.Pipe


KINDS = {
    "pure by pyOpenSSL": (SSL.Connection, _in_python),
    "pure": (_tls_direct._direct(), _in_python),
    "accelerated": (SSL.Connection, _in_c),
}


class Setup:
    """Makes both ends of connections: ours is a ``Pipe``, and its bytes come from ``sock``."""

    def __init__(self, kind: str) -> None:
        self.connection, make = KINDS[kind]
        self.make = make()
        self.in_c = kind == "accelerated"
        self.closing: list[socket.socket] = []

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for each in pair:
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            self.closing.append(each)
        return pair

    def pair(self) -> Pair:
        """Behind the handshake, by TLS 1.3."""
        ours, theirs = ends(self.connection, SSL.Connection)
        return Pair(self, ours, theirs)

    def forged(self) -> tuple[Pair, Forger]:
        """The peer is a ``Forger``; our end has seen the whole handshake through the pipe."""
        forger = Forger(None)  # type: ignore[arg-type]
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(authorities.server().cert)
        context.use_privatekey(authorities.server().key)
        ours = self.connection(context, None)
        ours.set_accept_state()
        pair = Pair(self, ours, forger.ssl)
        for _ in range(4):
            for end in (forger.ssl, ours):
                try:
                    end.do_handshake()
                except SSL.WantReadError:
                    pass
                if end is ours:
                    if back := pair.pipe.pending():
                        forger.ssl.bio_write(back)
                elif out := forger.output():
                    pair.pipe.put(out)
        pair.read()
        assert (pair.pipe.got, pair.pipe.status) == (0, DRAINED)
        with pytest.raises(SSL.WantReadError):
            forger.ssl.recv(1)  # the tickets
        return pair, forger


class Pair:
    def __init__(self, setup: Setup, ours: Any, theirs: Any) -> None:
        self.ours, self.theirs = ours, theirs
        self.pipe = setup.make(ours)
        self.sock, self.peer = setup.sockets()
        self.buf = bytearray()

    def record(self, data: bytes) -> bytes:
        """What the peer sends for ``data``."""
        self.theirs.send(data)
        out: bytes = self.theirs.bio_read(1 << 20)
        return out

    def receive(self, size: int = SIZE) -> int:
        got: int = self.pipe.receive(self.sock.fileno(), self.buf, size)
        return got

    def come(self, data: bytes, size: int = SIZE) -> int:
        self.peer.sendall(data)
        return self.receive(size)

    def at_peer(self, records: bytes) -> bytes:
        """What the peer gets by ``records``."""
        if records:
            self.theirs.bio_write(records)
        data = []
        with pytest.raises(SSL.WantReadError):
            while True:
                data.append(self.theirs.recv(1 << 20))
        return b"".join(data)

    def waiting(self) -> int:
        """Bytes in the kernel."""
        return int.from_bytes(fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4)), sys.byteorder)

    def read(self) -> None:
        self.pipe.read(self.buf)

    def taken(self) -> bytes:
        data = bytes(self.buf)
        self.buf.clear()
        return data


@pytest.fixture(params=KINDS)
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    made = Setup(request.param)
    yield made
    for sock in made.closing:
        sock.close()


@pytest.fixture(params=["accelerated"])
def c_setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    made = Setup(request.param)
    yield made
    for sock in made.closing:
        sock.close()


def lengths(records: bytes) -> list[int]:
    """What the headers of ``records`` say."""
    found = []
    while records:
        found.append(int.from_bytes(records[3:5], "big"))
        records = records[5 + found[-1] :]
    return found


@contextmanager
def functions(**replaced: Callable[..., Any]) -> Iterator[None]:
    """The code in C calls these in place of OpenSSL's functions."""
    speedups = importlib.import_module("silly.net._tls_speedups")
    addresses, kept = [], []
    for name in _tls_pipe._FUNCTIONS:
        function = FFI.addressof(LIB, name)
        if name in replaced:
            function = FFI.callback(FFI.typeof(function), replaced[name])
            kept.append(function)
        addresses.append(int(FFI.cast("uintptr_t", function)))
    speedups.use_openssl(tuple(addresses), _tls_direct.failure, _tls_pipe.PIECE, _tls_pipe.MOST)
    try:
        yield
    finally:
        _tls_pipe._make()


# ---- what comes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"x", b"hello" * 100, b"y" * 16_384])
def test_a_record(setup: Setup, data: bytes) -> None:
    pair = setup.pair()
    pair.buf += b"before"
    assert pair.receive() == NOTHING
    assert pair.come(pair.record(data)) == len(data)
    assert (pair.pipe.got, pair.pipe.status, pair.pipe.partial) == (len(data), FLOWING, 0)
    assert pair.buf == b"before" + data
    assert pair.receive() == NOTHING
    assert (pair.pipe.got, pair.buf) == (0, b"before" + data)


def test_cut_at_every_byte(setup: Setup) -> None:
    pair = setup.pair()
    parts = [b"a", b"b" * 90, b"c"]
    length = sum(len(part) + 22 for part in parts)
    for at in range(length + 1):
        stream = b"".join(map(pair.record, parts))
        assert len(stream) == length
        before = after = 0
        if at:
            before = pair.come(stream[:at])
            whole = b"".join(part for part, end in zip(parts, (23, 135, 158), strict=True) if end <= at)
            assert before == (len(whole) or PARTIAL)
            assert pair.buf == whole
            assert pair.pipe.partial == at - sum(
                size for size in (23, 112, 23)[: len(whole) and (1 if len(whole) == 1 else 2 + (at == length))]
            )
        if at < length:
            after = pair.come(stream[at:])
        assert max(before, 0) + after == 92
        assert pair.taken() == b"".join(parts)
        assert (pair.pipe.status, pair.pipe.partial) == (FLOWING, 0)


def test_byte_by_byte(setup: Setup) -> None:
    pair = setup.pair()
    stream = pair.record(b"one") + pair.record(b"two")
    results = [pair.come(bytes((byte,))) for byte in stream]
    assert results == ([PARTIAL] * 24 + [3]) * 2
    assert pair.buf == b"onetwo"


def test_many_records_at_once(setup: Setup) -> None:
    pair = setup.pair()
    data = [b"%d" % n for n in range(500)]
    assert pair.come(b"".join(map(pair.record, data))) == len(b"".join(data))
    assert pair.buf == b"".join(data)


def test_openssl_is_asked_once_for_each_record(c_setup: Setup) -> None:
    """Not a time more, just to be told that there is nothing; and not for a part of one."""
    pair = c_setup.pair()
    calls = []

    def read(*args: Any) -> int:
        calls.append(args)
        return int(LIB.SSL_read(*args))

    with functions(SSL_read=read):
        assert pair.come(b"".join(pair.record(b"x") for _ in range(100))) == 100
        assert len(calls) == 100
        record = pair.record(b"y" * 100)
        assert pair.come(record[:-1]) == PARTIAL
        assert len(calls) == 100
        assert pair.come(record[-1:]) == 100
        assert len(calls) == 101


def test_openssl_is_asked_once_for_each_record_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup("pure")
    pair = setup.pair()
    calls = []
    recv = pair.ours.recv
    monkeypatch.setattr(pair.ours, "recv", lambda size: (calls.append(size), recv(size))[1])
    assert pair.come(b"".join(pair.record(b"x") for _ in range(100))) == 100
    assert len(calls) == 100
    record = pair.record(b"y" * 100)
    assert [pair.come(record[:-1]), pair.come(record[-1:])] == [PARTIAL, 100]
    assert len(calls) == 101
    for sock in setup.closing:
        sock.close()


@pytest.mark.parametrize("size", [1, 5, 100, SIZE, 18 * 1024, 18 * 1024 + 1, 100_000, 1 << 30])
def test_no_more_than_the_size(setup: Setup, size: int) -> None:
    """``MOST`` at most; the rest stays in the kernel, and is there the next time."""
    pair = setup.pair()
    data = random.Random(size).randbytes(1000 if size <= 100 else 700_000)
    ciphertext = b"".join([pair.record(data[at : at + 16_384]) for at in range(0, len(data), 16_384)])
    sent = 0
    while len(pair.buf) < len(data):
        if sent < len(ciphertext):
            try:
                sent += pair.peer.send(ciphertext[sent:])
            except BlockingIOError:
                pass
        before, waiting = len(pair.buf), pair.waiting()
        got = pair.receive(size)
        assert waiting - pair.waiting() == min(size, waiting, _tls_pipe.MOST)
        assert len(pair.buf) == before + (0 if got == PARTIAL else got)
    assert pair.buf == data
    assert (pair.waiting(), pair.pipe.partial) == (0, 0)


def test_the_limits_are_those_of_the_module(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tls_pipe, "PIECE", 50)
    monkeypatch.setattr(_tls_pipe, "MOST", 20_000)
    try:
        if setup.in_c:
            _tls_pipe._make()
        pair = setup.pair()
        pair.pipe.put(pair.record(b"x" * 28))
        pair.read()
        assert pair.taken() == b"x" * 28
        for wrong in (bytes(51), b""):
            with pytest.raises(ValueError):
                pair.pipe.put(wrong)
        pieces: list[Any] = [bytes(16_384 + 51)]
        assert len(pair.pipe.seal(pieces)) == 72
        assert [len(piece) for piece in pieces] == [16_385]
        stream = b"".join(pair.record(b"%03d" % n) for n in range(1000))
        pair.peer.sendall(stream)
        assert pair.receive(1 << 20) == 20_000 // 25 * 3
        assert pair.receive(1 << 20) == 200 * 3
        assert pair.buf == b"".join(b"%03d" % n for n in range(1000))
    finally:
        monkeypatch.undo()
        if setup.in_c:
            _tls_pipe._make()


def test_the_end_of_tcp(setup: Setup) -> None:
    """Also in the middle of a record, which can't be read then."""
    pair = setup.pair()
    assert pair.come(pair.record(b"whole") + pair.record(b"cut off")[:20]) == 5
    pair.peer.close()
    assert [pair.receive(), pair.receive(1 << 20)] == [0, 0]
    assert pair.pipe.partial == 20
    assert pair.buf == b"whole"


def test_the_end_of_tcp_behind_data(setup: Setup) -> None:
    """It is told at the next call, however much more was asked for."""
    pair = setup.pair()
    for size in (SIZE, 1 << 20):
        pair = setup.pair()
        pair.peer.sendall(pair.record(b"data"))
        pair.peer.close()
        assert [pair.receive(size), pair.receive(size)] == [4, 0]


def test_an_error_behind_data(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data is delivered first; and the error isn't lost, though the system tells it only once."""
    monkeypatch.setattr(_tls_pipe, "PIECE", 100)
    if setup.in_c:
        setup.make = _tls_pipe._make()
    try:
        pair = setup.pair()
        record = pair.record(b"x" * 78)
        assert len(record) == 100
        with socket.create_server(("127.0.0.1", 0)) as listener:
            pair.peer = socket.create_connection(listener.getsockname())
            pair.sock, _ = listener.accept()
        pair.sock.setblocking(False)
        pair.peer.sendall(record)
        reset_on_close(pair.peer)
        pair.peer.close()
        got = pair.receive(1000)
        assert got == 78
        with pytest.raises(ConnectionResetError):
            pair.receive(1000)
        assert pair.receive(1000) == 0
        pair.sock.close()
    finally:
        monkeypatch.undo()
        if setup.in_c:
            _tls_pipe._make()


def test_a_descriptor_that_is_closed(setup: Setup) -> None:
    pair = setup.pair()
    fd = pair.sock.fileno()
    pair.sock.close()
    for size in (SIZE, 1 << 20):
        with pytest.raises(OSError, match="Bad file descriptor"):
            pair.pipe.receive(fd, pair.buf, size)


# ---- records without data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", [0, 1, 3])
@pytest.mark.parametrize("size", [SIZE, 1 << 20])
def test_an_error_behind_good_records(setup: Setup, good: int, size: int) -> None:
    pair, reference = setup.pair(), ends(SSL.Connection, SSL.Connection)
    bad = b"\x17\x03\x03\x00\x20" + bytes(32)
    assert pair.come(b"".join(pair.record(b"good") for _ in range(good)) + bad, size) == ATTEND
    assert (pair.pipe.got, pair.pipe.status, pair.buf) == (4 * good, REFUSED, b"good" * good)
    reference[0].bio_write(bad)
    with pytest.raises(SSL.Error) as raised:
        reference[0].recv(1)
    assert isinstance(pair.pipe.error, SSL.Error)
    assert (type(pair.pipe.error), str(pair.pipe.error)) == (type(raised.value), str(raised.value))
    assert pair.pipe.pending()[:3] == b"\x17\x03\x03", "the alert"


@pytest.mark.parametrize("head", [b"\x17\x03\x03\xff\xff", b"\x17\x02\x03\x00\x40", b"\x80\x03\x03\x00\x40", b"GET /"])
def test_an_invalid_header(setup: Setup, head: bytes) -> None:
    """It is refused when it is there, before anything that it announces; not before."""
    pair = setup.pair()
    assert [pair.come(bytes((byte,))) for byte in head] == [PARTIAL] * 4 + [ATTEND]
    assert pair.pipe.status == REFUSED


def test_an_invalid_record_before_much_data(setup: Setup) -> None:
    """OpenSSL gets no more of it once it has refused a record."""
    pair = setup.pair()
    behind = random.Random(0).randbytes(150_000)
    assert pair.come(pair.record(b"good") + b"\x17\x03\x03\x00\x40" + behind, 1 << 20) == ATTEND
    assert (pair.pipe.status, pair.buf) == (REFUSED, b"good")
    rest = pair.sock.recv(1 << 20)
    assert len(rest) == 26 + 5 + len(behind) - _tls_pipe.PIECE
    assert behind.endswith(rest)


def test_close_notify_behind_data(setup: Setup) -> None:
    pair = setup.pair()
    stream = pair.record(b"last") + pair.record(b" words")
    pair.theirs.shutdown()
    assert pair.come(stream + pair.theirs.bio_read(1000)) == ATTEND
    assert (pair.pipe.got, pair.pipe.status, pair.buf, pair.pipe.error) == (10, CLOSED, b"last words", None)


def test_key_updates(setup: Setup) -> None:
    """OpenSSL has something to send then; data behind one in the same piece is not left there."""
    pair, forger = setup.forged()
    for number in range(20):
        update = forger.record(KEY_UPDATE_REQUESTED, HANDSHAKE)
        forger.next_key()
        if number % 2:
            assert pair.come(update + forger.record(b"%02d" % number)) == ATTEND
        else:
            assert pair.come(update) == ATTEND
            assert (pair.pipe.got, pair.pipe.status) == (0, DRAINED)
            assert pair.come(forger.record(b"%02d" % number)) == 2
        assert pair.taken() == b"%02d" % number
        forger.ssl.bio_write(pair.pipe.pending() + pair.pipe.seal([b"answer %02d" % number]))
        assert forger.ssl.recv(100) == b"answer %02d" % number
        assert pair.pipe.pending() == b""


def test_empty_records(setup: Setup) -> None:
    """They bring nothing, whatever their padding; and a record is not read twice, nor left, for their sake."""
    pair, forger = setup.forged()
    assert pair.come(forger.record(b"") + forger.record(b"", padding=16_000)) == ATTEND
    assert (pair.pipe.got, pair.pipe.status) == (0, DRAINED)
    assert pair.come(forger.record(b"a") + forger.record(b"") + forger.record(b"b") + forger.record(b"c")) == ATTEND
    assert (pair.pipe.got, pair.pipe.status) == (3, DRAINED)
    assert pair.come(forger.record(b"d", padding=300)) == 1
    assert pair.buf == b"abcd"


def test_close_notify_of_a_forger(setup: Setup) -> None:
    pair, forger = setup.forged()
    assert pair.come(forger.record(CLOSE_NOTIFY, ALERT) + forger.record(b"behind")) == ATTEND
    assert (pair.pipe.got, pair.pipe.status) == (0, CLOSED)


def test_data_right_behind_the_handshake(setup: Setup) -> None:
    """It comes with the handshake's last bytes, and a part of a record too: all of it is counted once."""
    forger = Forger(None)  # type: ignore[arg-type]
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(authorities.server().cert)
    context.use_privatekey(authorities.server().key)
    ours = setup.connection(context, None)
    ours.set_accept_state()
    pair = Pair(setup, ours, forger.ssl)
    with pytest.raises(SSL.WantReadError):
        forger.ssl.do_handshake()
    pair.pipe.put(forger.output())
    with pytest.raises(SSL.WantReadError):
        ours.do_handshake()
    forger.ssl.bio_write(pair.pipe.pending())
    forger.ssl.do_handshake()
    last = forger.output()
    records = [forger.record(b"early"), forger.record(b"x" * 16_000), forger.record(b"cut")]
    for at in range(0, len(last + records[0]), 40):
        pair.pipe.put((last + records[0])[at : at + 40])
    pair.pipe.put(records[1] + records[2][:10])
    ours.do_handshake()
    pair.read()
    assert (pair.pipe.got, pair.pipe.status, pair.pipe.partial) == (16_005, DRAINED, 10)
    assert pair.taken() == b"early" + b"x" * 16_000
    assert pair.come(records[2][10:]) == 3
    pair.read()
    assert (pair.pipe.got, pair.pipe.status, pair.buf) == (0, DRAINED, b"cut")


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_accelerated(seed: int) -> None:
    """Whatever comes, however it is cut, C and Python count and tell the same."""
    rng = random.Random(seed)
    stream = b""
    while len(stream) < 5000:
        kind, major = rng.choice((22, 22, 23, 21, rng.randrange(256))), rng.choice((3, 3, 3, 3, rng.randrange(256)))
        length = rng.choice((0, 1, 4, 300, rng.randrange(20_000)))
        stream += bytes((kind, major, 3)) + length.to_bytes(2, "big") + rng.randbytes(min(length, rng.choice((length, 100))))
    cuts = sorted(rng.randrange(len(stream)) for _ in range(rng.choice((1, 10, 300))))
    seen = []
    for kind in KINDS:
        setup = Setup(kind)
        context = SSL.Context(SSL.TLS_METHOD)
        ours = setup.connection(context, None)
        ours.set_connect_state()
        pair = Pair(setup, ours, None)
        told: list[Any] = []
        for at, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            if at < end:
                result = pair.come(stream[at:end], 1 << 20)
                told.append(
                    (result, pair.pipe.got, pair.pipe.status, pair.pipe.partial, str(pair.pipe.error), pair.pipe.pending()[:3])
                )
        seen.append(told)
        for sock in setup.closing:
            sock.close()
    assert seen[0] == seen[1] == seen[2]


def script(rng: random.Random) -> list[tuple[str, Any]]:
    """What a peer does: records of all kinds, and at last perhaps something that is none."""
    steps: list[tuple[str, Any]] = []
    for _ in range(rng.randrange(1, 30)):
        kind = rng.choice(("data", "data", "data", "large", "many", "empty", "padded", "update"))
        steps.append((kind, rng.randrange(1, 16_384 if kind == "large" else 40)))
    last = rng.choice(("nothing", "nothing", "close", "garbage", "alert", "flipped", "header"))
    return [*steps, (last, rng.randrange(1, 1000)), ("data", 5)]


def made(forger: Forger, steps: list[tuple[str, Any]]) -> bytes:
    out = b""
    for kind, number in steps:
        if kind in ("data", "large"):
            out += forger.record(b"d" * number)
        elif kind == "many":
            out += b"".join([forger.record(b"m") for _ in range(number)])
        elif kind == "empty":
            out += forger.record(b"")
        elif kind == "padded":
            out += forger.record(b"p", padding=number * 20)
        elif kind == "update":
            out += forger.record(KEY_UPDATE_REQUESTED, HANDSHAKE)
            forger.next_key()
        elif kind == "close":
            out += forger.record(CLOSE_NOTIFY, ALERT)
        elif kind == "alert":
            out += forger.record(b"\x02\x28", ALERT)
        elif kind == "garbage":
            out += b"\x17\x03\x03" + number.to_bytes(2, "big") + bytes(number)
        elif kind == "flipped":
            record = bytearray(forger.record(b"f" * number))
            record[number % len(record)] ^= 0x40
            out += record
        elif kind == "header":
            out += b"\x17\x03\x04\xff" * number
    return out


@pytest.mark.parametrize("seed", range(30))
def test_any_records_accelerated(seed: int) -> None:
    """The same with a session's own records."""
    rng = random.Random(seed)
    steps, most = script(rng), rng.choice((1, 30, 1000, 100_000))
    seen = []
    for kind in KINDS:
        setup = Setup(kind)
        pair, forger = setup.forged()
        pieces = random.Random(seed)
        told: list[Any] = []
        rest = made(forger, steps)
        while rest or pair.waiting():
            size = pieces.randint(1, most)
            pair.peer.sendall(rest[:size])
            rest = rest[size:]
            result = pair.receive(pieces.randint(1, most))
            answers = len(pair.pipe.pending()) if result == ATTEND else 0
            told.append((result, pair.pipe.got, pair.pipe.status, pair.pipe.partial, pair.pipe.received))
            told.append((str(pair.pipe.error), answers, pair.taken()))
            if pair.pipe.status in (CLOSED, REFUSED):
                break
        seen.append(told)
        for sock in setup.closing:
            sock.close()
    assert seen[0] == seen[1] == seen[2]


# ---- what goes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, memoryview, lambda data: memoryview(b"ab" + data)[2:]])
@pytest.mark.parametrize("size", [1, 1000, 16_383, 16_384, 16_385, 50_000, 65_536, 81_920])
def test_seal(setup: Setup, size: int, kind: Callable[[bytes], Any]) -> None:
    """One record for each 16 KiB, and nothing stays behind."""
    pair = setup.pair()
    data = random.Random(size).randbytes(size)
    pieces = [kind(data)]
    records = pair.pipe.seal(pieces)
    assert type(records) is bytes
    assert len(records) == size + 22 * -(-size // 16_384)
    assert pair.at_peer(records) == data
    assert pair.pipe.pending() == b""
    assert (pieces, pair.pipe.sealed) == ([], size)


@pytest.mark.parametrize("pieces", [[], [b""], [b"", memoryview(b""), b""]])
def test_nothing_to_seal(setup: Setup, pieces: list[Any]) -> None:
    """Then there is no record, which OpenSSL could not make either."""
    pair = setup.pair()
    assert pair.pipe.seal(pieces) == b""
    assert (pieces, pair.pipe.sealed, pair.pipe.pending()) == ([], 0, b"")


LISTS: dict[str, tuple[list[int], list[int], list[int]]] = {
    # sizes of the pieces; of the data in records; of what is left
    "many small": ([5] * 100, [500], []),
    "with empty ones": ([0, 5, 0, 0, 6, 0], [11], []),
    "just a record": ([16_000, 384], [16_384], []),
    "a little more": ([16_000, 385], [16_384, 1], []),
    "a head and much": ([10, 65_536], [16_384] * 4 + [10], []),
    "cut": ([10, 200_000], [16_384] * 4, [134_474]),
    "one more piece is not cut": ([65_000, 16_920], [16_384] * 5, []),
    "and one that is": ([65_000, 16_921], [16_384] * 4, [16_385]),
    "behind much": ([65_536, 20_000], [16_384] * 4, [20_000]),
    "an empty one in between": ([65_536, 0, 20_000], [16_384] * 4, [20_000]),
    "several of all sizes": ([10, 30_000, 10, 30_000, 10, 30_000], [16_384] * 4, [24_494]),
}


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", LISTS)
def test_seal_takes_the_front(setup: Setup, name: str, mixed: bool) -> None:
    """About 64 KiB: a piece that is not much more is not cut. Records are full but for the last."""
    sizes, made, left = LISTS[name]
    pair = setup.pair()
    data = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    pieces: list[Any] = [memoryview(each) if mixed and number % 2 else each for number, each in enumerate(data)]
    records = pair.pipe.seal(pieces)
    assert [length - 17 for length in lengths(records)] == made
    assert [len(piece) for piece in pieces] == left
    assert pair.at_peer(records) + b"".join(pieces) == b"".join(data)
    assert pair.pipe.sealed == sum(made)


@pytest.mark.parametrize("seed", range(30))
def test_the_twins_seal_alike(seed: int) -> None:
    told = []
    for kind in KINDS:
        setup = Setup(kind)
        pair = setup.pair()
        chance = random.Random(seed)
        pieces: list[Any] = []
        seen: list[Any] = []
        whole = got = b""
        for _ in range(8):
            for _ in range(chance.randrange(6)):
                data = chance.randbytes(chance.randrange(chance.choice([2, 100, 20_000, 100_000])))
                whole += data
                pieces.append(memoryview(data) if chance.random() < 0.3 else data)
            records = pair.pipe.seal(pieces)
            seen.append((lengths(records), [len(piece) for piece in pieces], pair.pipe.sealed))
            got += pair.at_peer(records)
        assert got + b"".join(pieces) == whole
        told.append(seen)
        for sock in setup.closing:
            sock.close()
    assert told[0] == told[1] == told[2]


def test_many_pieces_take_linear_time(c_setup: Setup) -> None:
    """A list is not moved for each of its pieces: 2 * 10**10 bytes would be."""
    pair = c_setup.pair()
    pieces: list[Any] = [b"x"] * 65_536
    records = pair.pipe.seal(pieces)
    assert pair.at_peer(records) == b"x" * 65_536


def test_large_pieces_are_not_copied(c_setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are made of them where they are."""
    pair = c_setup.pair()
    data = random.Random(1).randbytes(65_536)
    begin = int(FFI.cast("uintptr_t", FFI.from_buffer(data)))
    seen: list[int] = []

    def write(ssl: Any, at: Any, size: int) -> int:
        seen.append(int(FFI.cast("uintptr_t", at)) - begin)
        return int(LIB.SSL_write(ssl, at, size))

    with functions(SSL_write=write):
        records = pair.pipe.seal([data])
        records += pair.pipe.seal([data[:100]])
        small = b"y" * 16_384
        begin = int(FFI.cast("uintptr_t", FFI.from_buffer(small)))
        records += pair.pipe.seal([small])
    assert seen[:4] == [0, 16_384, 32_768, 49_152]
    assert seen[5:] == [0]
    assert pair.at_peer(records) == data + data[:100] + small


@pytest.mark.parametrize("before", [1, 100, 40_000])
@pytest.mark.parametrize("size", [1, 16_384, 40_000, 65_536])
def test_what_openssl_has_to_send_goes_first(setup: Setup, size: int, before: int) -> None:
    pair = setup.pair()
    for at in range(0, before, 16_384):
        pair.ours.send(b"a" * min(16_384, before - at))
    assert pair.at_peer(pair.pipe.seal([b"b" * size])) == b"a" * before + b"b" * size


@pytest.mark.parametrize("size", [511, 512, 513, 16_384, 16_385, 65_536])
def test_a_peer_that_wants_short_records(setup: Setup, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As clients with little memory do (RFC 6066, section 4: ``openssl s_client -maxfraglen 512``). OpenSSL then writes 512
    bytes at a call."""
    pair = setup.pair()
    send = pair.ours.send
    monkeypatch.setattr(pair.ours, "send", lambda data: send(data[:512]))
    data = random.Random(size).randbytes(size)
    pair.ours.send(b"before")
    with functions(SSL_write=lambda ssl, data, size: LIB.SSL_write(ssl, data, min(size, 512))):
        records = pair.pipe.seal([data])
    assert len(records) == 6 + 22 + size + 22 * -(-size // 512)
    assert pair.at_peer(records) == b"before" + data


def test_pending(setup: Setup) -> None:
    pair = setup.pair()
    assert pair.pipe.pending() == b""
    for size in (1, 16_384 * 4, 16_384 * 9):
        for at in range(0, size, 16_384):
            pair.ours.send(bytes(min(16_384, size - at)))
        assert len(pair.pipe.pending()) == size + 22 * -(-size // 16_384)
        assert pair.pipe.pending() == b""


@pytest.mark.parametrize("size", [1, 16_385])
def test_openssl_refuses_to_send(setup: Setup, size: int) -> None:
    pair, reference = setup.pair(), ends(SSL.Connection, SSL.Connection)[0]
    pair.ours.shutdown()
    reference.shutdown()
    with pytest.raises(SSL.Error) as expected:
        reference.send(b"x")
    with pytest.raises(SSL.Error) as raised:
        pair.pipe.seal([bytes(size)])
    assert (type(raised.value), str(raised.value)) == (type(expected.value), str(expected.value))


def test_openssl_refuses_the_second_record(c_setup: Setup) -> None:
    pair = c_setup.pair()
    calls = []

    def write(ssl: Any, data: Any, size: int) -> int:
        calls.append(size)
        return int(LIB.SSL_write(ssl, data, size)) if len(calls) == 1 else -1

    with functions(SSL_write=write), pytest.raises(SSL.Error):
        pair.pipe.seal([bytes(40_000)])
    assert calls == [16_384, 16_384]


def test_a_cipher_whose_records_differ(c_setup: Setup) -> None:
    """More to send than the first record lets expect, and less."""
    pair = c_setup.pair()
    for extra in ([0, 50, 0], [5000, 0, 20_000], [100, 0, 0]):
        sizes = iter(extra)

        def write(ssl: Any, data: Any, size: int, sizes: Iterator[int] = sizes) -> int:
            if more := next(sizes, 0):
                LIB.SSL_write(ssl, FFI.new("char[]", b"+" * 16_384), min(more, 16_384))
            return int(LIB.SSL_write(ssl, data, size))

        with functions(SSL_write=write):
            got = pair.at_peer(pair.pipe.seal([b"x" * 40_000]))
        assert got.replace(b"+", b"") == b"x" * 40_000
        assert got.count(b"+") == sum(min(more, 16_384) for more in extra)


# ---- errors of others, callbacks, lifetimes -------------------------------------------------------------------------


def leave_an_error() -> None:
    """In OpenSSL's queue of this thread, as code may that doesn't take its own away."""
    context = SSL.Context(SSL.TLS_METHOD)
    assert LIB.SSL_CTX_load_verify_locations(context._context, b"/nonexistent", FFI.NULL) == 0
    assert LIB.ERR_peek_error()


@pytest.mark.parametrize("kind", ["pure", "accelerated"])
def test_the_errors_of_others(kind: str) -> None:
    """pyOpenSSL's own methods would take them for ours."""
    setup = Setup(kind)
    pair, forger = setup.forged()
    leave_an_error()
    assert pair.come(forger.record(b"")) == ATTEND
    assert pair.pipe.status == DRAINED
    leave_an_error()
    pair.read()
    assert pair.pipe.status == DRAINED
    leave_an_error()
    assert pair.pipe.seal([b"data"])
    pair.ours.shutdown()
    leave_an_error()
    with pytest.raises(SSL.Error, match="shutdown"):
        pair.pipe.seal([b"data"])
    assert not LIB.ERR_peek_error()
    for sock in setup.closing:
        sock.close()


def test_the_connection_may_go(setup: Setup) -> None:
    """The ``Pipe`` holds what it needs."""
    pair = setup.pair()
    record = pair.record(b"after")
    del pair.ours
    gc.collect()
    assert pair.come(record) == 5
    pair.theirs.bio_write(pair.pipe.seal([b"too"]))
    assert pair.theirs.recv(10) == b"too"
    assert pair.come(b"\x17\x03\x03\x00\x20" + bytes(32)) == ATTEND
    assert pair.pipe.status == REFUSED


def test_openssl_s_objects_are_held_though_pyopenssl_drops_them(c_setup: Setup) -> None:
    pair = c_setup.pair()
    record = pair.record(b"after")
    pair.ours._ssl = pair.ours._into_ssl = pair.ours._from_ssl = None
    gc.collect()
    assert pair.come(record) == 5
    assert pair.pipe.seal([b"too"])


def test_a_pipe_in_a_cycle_goes(setup: Setup) -> None:
    class Noted:
        """Goes with the connection."""

    gone = []
    noted = Noted()
    weakref.finalize(noted, gone.append, True)
    pair = setup.pair()
    pair.ours.set_app_data([noted, pair.pipe])
    pair.ours = pair.pipe = None
    del noted
    gc.collect()
    assert gone


def test_a_callback_in_the_middle(c_setup: Setup) -> None:
    """OpenSSL may call Python while it reads. That may use another connection; and can't move our buffer."""
    other = c_setup.pair()
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(authorities.server().cert)
    context.use_privatekey(authorities.server().key)
    seen: list[Any] = []
    pair: Any = None

    def info(connection: SSL.Connection, where: int, result: int) -> None:
        if pair is None:
            return
        gc.collect()
        with pytest.raises(BufferError):
            pair.buf.append(0)
        seen.append((other.come(other.record(b"x" * 1000)), len(other.pipe.seal([bytes(20_000)])), other.taken()))

    context.set_info_callback(info)
    ours = SSL.Connection(context, None)
    theirs = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    ours.set_accept_state()
    theirs.set_connect_state()
    for _ in range(4):
        for end, peer in ((theirs, ours), (ours, theirs)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            carry(end, peer)
    pair = Pair(c_setup, ours, theirs)
    assert pair.come(pair.record(b"good") + b"\x17\x03\x03\x00\x20" + bytes(32)) == ATTEND
    assert (pair.buf, pair.pipe.status) == (b"good", REFUSED)
    assert seen
    assert set(seen) == {(1000, 20_044, b"x" * 1000)}


@pytest.mark.parametrize("sizes", [[5], [5, 6], [20_000, 6]])
@pytest.mark.parametrize("change", [lambda pieces: pieces.clear(), lambda pieces: pieces.insert(0, b"new"), None])
def test_a_list_that_changes_in_the_middle(c_setup: Setup, sizes: list[int], change: Any) -> None:
    """What is sealed was taken off before OpenSSL may call Python: it stays there, and is not sealed twice."""
    pair = c_setup.pair()
    pieces: list[Any] = [bytes([number]) * size for number, size in enumerate(sizes)]
    data = b"".join(pieces)
    made = []

    def write(ssl: Any, at: Any, size: int) -> int:
        if change is not None:
            change(pieces)
        elif not made:
            made.append(b"")  # once
            made[0] = pair.pipe.seal([b"within"])
        gc.collect()
        return int(LIB.SSL_write(ssl, at, size))

    with functions(SSL_write=write):
        records = pair.pipe.seal(pieces)
    assert pair.at_peer(b"".join(made) + records) == b"within" * len(made) + data
    assert set(pieces) <= {b"new"}


# ---- no room --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SIZE, 1 << 20])
def test_a_buffer_that_is_held(setup: Setup, size: int) -> None:
    """Nothing is lost: the next call brings it."""
    pair = setup.pair()
    pair.buf += b"before"
    with memoryview(pair.buf), pytest.raises(BufferError):
        pair.come(pair.record(b"first") + pair.record(b"second"), size)
    assert pair.buf == b"before"
    assert pair.receive(size) == 11
    assert pair.come(pair.record(b"third")) == 5
    assert pair.buf == b"beforefirstsecondthird"
    with memoryview(pair.buf):
        pair.peer.sendall(pair.record(b"fourth"))
        with pytest.raises(BufferError):
            pair.receive(size)
    assert pair.come(pair.record(b"fifth")) == 11
    assert pair.buf == b"beforefirstsecondthirdfourthfifth"
    with memoryview(pair.buf), pytest.raises(BufferError):
        pair.come(pair.record(b"last"))
    pair.peer.close()
    assert [pair.receive(), pair.receive()] == [4, 0]


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("size", [SIZE, 1 << 20])
def test_receive_without_memory(c_setup: Setup, lasting: bool, size: int) -> None:
    """What can't be appended comes the next time; or else zeros behind it can't be cut off, and it is not sure any more what
    is data. (A stream drops all of it, and fails: ``test_no_memory_for_what_comes``.)"""
    testcapi = pytest.importorskip("_testcapi")
    failed = 0
    for data in (b"x" * 20, b"x" * 9000, b""):
        for number in range(8):
            pair, forger = c_setup.forged()
            records = forger.record(data)
            pair.peer.sendall(records)
            again = False
            testcapi.set_nomemory(number, 0 if lasting else number + 1)
            try:
                pair.receive(size)
            except MemoryError:
                again = True
            finally:
                testcapi.remove_mem_hooks()
            failed += again
            if again and not pair.buf:
                pair.receive(size)
            assert pair.buf.rstrip(b"\0") == data
            assert again or pair.buf == data
    assert failed >= 3


@pytest.mark.parametrize("lasting", [False, True])
def test_seal_without_memory(c_setup: Setup, lasting: bool) -> None:
    """Nothing was taken then; or the records that were made are there for the next call; or were lost with an error."""
    testcapi = pytest.importorskip("_testcapi")
    for size in (1, 1000, 40_000):
        failed = 0
        for number in range(8):
            pair = c_setup.pair()
            pieces: list[Any] = [b"x" * size]
            testcapi.set_nomemory(number, 0 if lasting else number + 1)
            try:
                records = pair.pipe.seal(pieces)
            except MemoryError:
                records = None
            finally:
                testcapi.remove_mem_hooks()
            if records is None:
                failed += 1
                records = pair.pipe.pending() or pair.pipe.seal(pieces)
            if size <= 1000:
                assert len(records) == size + 22
        assert failed >= 1


# ---- wrong use ------------------------------------------------------------------------------------------------------

WRONG: list[tuple[Callable[[Any, int], Any], type[Exception]]] = [
    (lambda pipe, fd: pipe.receive(), TypeError),
    (lambda pipe, fd: pipe.receive(fd, bytearray()), TypeError),
    (lambda pipe, fd: pipe.receive(fd, bytearray(), 1, 1), TypeError),
    (lambda pipe, fd: pipe.receive(fd, bytearray(), size=1), TypeError),
    (lambda pipe, fd: pipe.receive(fd, b"", 1), TypeError),
    (lambda pipe, fd: pipe.receive(fd, type("Sub", (bytearray,), {})(), 1), TypeError),
    (lambda pipe, fd: pipe.receive(fd, bytearray(), 1.0), TypeError),
    (lambda pipe, fd: pipe.receive(fd, bytearray(), 0), ValueError),
    (lambda pipe, fd: pipe.receive(fd, bytearray(), -1), ValueError),
    (lambda pipe, fd: pipe.receive(fd, bytearray(), 2**63), OverflowError),
    (lambda pipe, fd: pipe.receive("1", bytearray(), 1), TypeError),
    (lambda pipe, fd: pipe.receive(-1, bytearray(), 1), ValueError),
    (lambda pipe, fd: pipe.receive(2**31, bytearray(), 1), ValueError),
    (lambda pipe, fd: pipe.receive(2**64, bytearray(), 1), OverflowError),
    (lambda pipe, fd: pipe.read(), TypeError),
    (lambda pipe, fd: pipe.read(b""), TypeError),
    (lambda pipe, fd: pipe.put("x"), TypeError),
    (lambda pipe, fd: pipe.put(b""), ValueError),
    (lambda pipe, fd: pipe.put(bytes(_tls_pipe.PIECE + 1)), ValueError),
    (lambda pipe, fd: pipe.put(memoryview(b"abcd")[::2]), BufferError),
    (lambda pipe, fd: pipe.seal(), TypeError),
    (lambda pipe, fd: pipe.seal(b"x"), TypeError),
    (lambda pipe, fd: pipe.seal((b"x",)), TypeError),
    (lambda pipe, fd: pipe.seal(type("Sub", (list,), {})([b"x"])), TypeError),
    (lambda pipe, fd: pipe.seal([b"x", "y"]), TypeError),
    (lambda pipe, fd: pipe.seal([bytearray(b"x")]), TypeError),
    (lambda pipe, fd: pipe.seal([bytes(20_000), None]), TypeError),
    (lambda pipe, fd: pipe.seal([memoryview(b"abcd")[::2]]), BufferError),
    (lambda pipe, fd: pipe.pending(1), TypeError),
    (lambda pipe, fd: setattr(pipe, "got", 1), AttributeError),
    (lambda pipe, fd: setattr(pipe, "partial", 1), AttributeError),
    (lambda pipe, fd: type(pipe)(), TypeError),
    (lambda pipe, fd: type(pipe)(1, 2, 3, 4), TypeError),
    (lambda pipe, fd: type(pipe)(1, 2, 0, 4, 5), ValueError),
    (lambda pipe, fd: type(pipe)(1, 2, 3, None, 5), TypeError),
    (lambda pipe, fd: type(pipe)(1, 2, 3, 4, 2**64), OverflowError),
    (lambda pipe, fd: type(pipe)(1, 2, 3, 4, 5, connection=6), TypeError),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(c_setup: Setup, number: int) -> None:
    pair = c_setup.pair()
    pair.peer.sendall(pair.record(b"still there"))
    call, error = WRONG[number]
    with pytest.raises(error):
        call(pair.pipe, pair.sock.fileno())
    assert pair.receive() == 11
    assert pair.pipe.seal([b"x"])


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), TypeError),
        (((1,) * 11, _tls_direct.failure, 1, 1), TypeError),
        (([1] * 12, _tls_direct.failure, 1, 1), TypeError),
        (((1,) * 12, None, 1, 1), TypeError),
        (((1,) * 11 + (0,), _tls_direct.failure, 1, 1), ValueError),
        (((1,) * 11 + (None,), _tls_direct.failure, 1, 1), TypeError),
        (((1,) * 12, _tls_direct.failure, 0, 1), ValueError),
        (((1,) * 12, _tls_direct.failure, 1, 0), ValueError),
        (((1,) * 12, _tls_direct.failure, 2**31, 1), ValueError),
        (((1,) * 12, _tls_direct.failure, "1", 1), TypeError),
    ],
)
def test_wrong_functions(c_setup: Setup, args: Any, error: type[Exception]) -> None:
    """Nothing is changed then."""
    with pytest.raises(error):
        importlib.import_module("silly.net._tls_speedups").use_openssl(*args)
    pair = c_setup.pair()
    assert pair.come(pair.record(b"x")) == 1


def test_what_explains_a_failure_fails(c_setup: Setup) -> None:
    """That comes out, and the data before is there."""
    speedups = importlib.import_module("silly.net._tls_speedups")
    addresses = tuple(int(FFI.cast("uintptr_t", FFI.addressof(LIB, name))) for name in _tls_pipe._FUNCTIONS)

    def fails(connection: Any, result: int) -> Any:
        raise ZeroDivisionError

    try:
        for failure, error in ((fails, ZeroDivisionError), (lambda connection, result: 5, TypeError)):
            speedups.use_openssl(addresses, failure, _tls_pipe.PIECE, _tls_pipe.MOST)
            pair = c_setup.pair()
            with pytest.raises(error):
                pair.come(pair.record(b"good") + b"\x17\x03\x03\x00\x20" + bytes(32))
            assert pair.buf == b"good"
            with pytest.raises(error):
                pair.pipe.seal([b"x"])
    finally:
        _tls_pipe._make()


def test_openssl_without_memory(c_setup: Setup) -> None:
    """Its buffer takes nothing, or gives less than it says."""
    pair = c_setup.pair()
    with functions(BIO_write=lambda bio, data, size: -1):
        with pytest.raises(MemoryError):
            pair.come(pair.record(b"x"))
        with pytest.raises(MemoryError):
            pair.pipe.put(b"x")
    with functions(BIO_read=lambda bio, data, size: -1):
        for size in (1, 40_000):
            with pytest.raises(RuntimeError):
                pair.pipe.seal([bytes(size)])
        with pytest.raises(RuntimeError):
            pair.pipe.pending()
    with functions(BIO_get_mem_data=lambda bio, data: -1):
        assert pair.pipe.pending() == b""


def test_no_reference_leaks(c_setup: Setup) -> None:
    pair, forger = c_setup.forged()
    fd, buf, data, long = pair.sock.fileno(), pair.buf, b"data" * 10, b"long" * 10_000
    bad = c_setup.pair()
    assert bad.come(b"\x17\x03\x03\x00\x20" + bytes(32)) == ATTEND
    failed = bad.ours

    def all_outcomes() -> None:
        assert pair.come(forger.record(data)) == 40
        assert pair.come(forger.record(data), 1 << 20) == 40
        assert pair.come(forger.record(b"")) == ATTEND
        assert pair.receive() == NOTHING
        pair.pipe.read(buf)
        with memoryview(buf), pytest.raises(BufferError):
            pair.come(forger.record(data))
        assert pair.receive() == 40
        buf.clear()
        for out in (pair.pipe.seal([data]), pair.pipe.seal([long]), pair.pipe.pending()):
            forger.ssl.bio_write(out or b"x") if out else None
        while True:
            try:
                forger.ssl.recv(1 << 20)
            except SSL.WantReadError:
                break
        for call in (lambda: pair.pipe.receive(None, buf, 5), lambda: pair.pipe.seal([None]), lambda: pair.pipe.put(b"")):
            with pytest.raises((TypeError, ValueError)):
                call()
        with pytest.raises(OSError):
            pair.pipe.receive(fd + 1000, buf, 5)
        bad.pipe.read(bad.buf)  # the error again
        assert bad.pipe.status == REFUSED
        with pytest.raises(SSL.Error):
            bad.pipe.seal([data])
        c_setup.make(failed)

    for _ in range(50):
        all_outcomes()
    gc.collect()
    held = (pair.ours, pair.ours._ssl, failed, failed._ssl, buf, data, long)
    counts = [sys.getrefcount(each) for each in held]
    tracemalloc.start()
    try:
        all_outcomes()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            all_outcomes()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert [sys.getrefcount(each) for each in held] == counts
    assert after - before < 5_000


# ---- the choice -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh() -> Iterator[None]:
    """The choice is made anew, and again after the test."""
    for choice in (_tls_pipe._in_c, _tls_direct._direct):
        choice.cache_clear()
    yield
    for choice in (_tls_pipe._in_c, _tls_direct._direct):
        choice.cache_clear()


def ways() -> tuple[str, str]:
    """What is chosen: in words, and the module of what is made."""
    made = _tls_pipe.new_pipe(_tls_direct.connection(SSL.Context(SSL.TLS_METHOD)))
    return _tls_pipe.in_words(), type(made).__module__


DIRECT = "by cryptography's functions", "silly.net._tls_pipe"
PUBLIC = "by pyOpenSSL's methods", "silly.net._tls_pipe"


def test_the_choice_of_this_process() -> None:
    if os.environ.get("SILLY_PURE") == "1":
        assert ways() == DIRECT
    elif NEEDED or ways() != DIRECT:
        assert ways() == ("in C", "silly.net._tls_speedups")


def test_c_is_chosen_where_it_was_built(c_setup: Setup, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SILLY_PURE", raising=False)
    assert ways() == ("in C", "silly.net._tls_speedups")


def test_python_is_chosen_when_the_environment_says_so(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILLY_PURE", "1")
    assert ways() == DIRECT


def test_python_is_chosen_where_c_is_missing(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SILLY_PURE", raising=False)
    monkeypatch.setitem(sys.modules, "silly.net._tls_speedups", None)
    monkeypatch.delattr("silly.net._tls_speedups", raising=False)
    assert ways() == DIRECT


@pytest.mark.parametrize("kind", [Renamed, Exchanged, Another])
def test_another_pyopenssl(kind: Any, c_setup: Setup, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SILLY_PURE", raising=False)
    monkeypatch.setattr(SSL, "Connection", kind)
    assert ways() == PUBLIC


def test_a_pyopenssl_that_explains_nothing(c_setup: Setup, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SILLY_PURE", raising=False)
    monkeypatch.delattr(SSL.Connection, "_raise_ssl_error")
    assert _tls_pipe._in_c() is None


@pytest.mark.parametrize("name", _tls_pipe._FUNCTIONS)
def test_another_cryptography(name: str, c_setup: Setup, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ffi:
        def addressof(self, lib: Any, asked: str) -> Any:
            return FFI.addressof(LIB, "SSL_pending" if asked == name else asked)

        def __getattr__(self, name: str) -> Any:
            return getattr(FFI, name)

    monkeypatch.delenv("SILLY_PURE", raising=False)
    monkeypatch.setattr("cryptography.hazmat.bindings._rust._openssl.ffi", Ffi())
    assert ways() == (PUBLIC if name in _tls_direct.SIGNATURES else DIRECT)


@pytest.mark.parametrize("name", ["SSL_ERROR_WANT_READ", "SSL_ERROR_ZERO_RETURN"])
def test_other_numbers(name: str, c_setup: Setup, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lib:
        def __getattr__(self, asked: str) -> Any:
            return getattr(LIB, asked) + 1 if asked == name else getattr(LIB, asked)

    class Ffi:
        def addressof(self, lib: Any, asked: str) -> Any:
            return FFI.addressof(LIB, asked)

        def __getattr__(self, name: str) -> Any:
            return getattr(FFI, name)

    monkeypatch.delenv("SILLY_PURE", raising=False)
    monkeypatch.setattr("cryptography.hazmat.bindings._rust._openssl.ffi", Ffi())
    monkeypatch.setattr("cryptography.hazmat.bindings._rust._openssl.lib", Lib())
    assert _tls_pipe._in_c() is None


def test_the_numbers_are_the_same_in_c(c_setup: Setup) -> None:
    assert _descriptor.NOTHING == _tls_pipe.NOTHING == -1
    assert (PARTIAL, ATTEND) == (-2, -3)
    assert (FLOWING, DRAINED, CLOSED, REFUSED) == (0, 1, 2, 3)
