"""Receiving and sending on a descriptor, in C and in Python: the same, but for wrong use, and nothing is lost in either."""

from __future__ import annotations

import gc
import importlib
import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from errno import ECONNRESET
from types import SimpleNamespace
from typing import Any

import pytest

from silly._core import scheduler
from silly._core.loop import READ, WRITE
from silly.net import _accelerated as chosen
from silly.net import _descriptor, _gathered

from .support import reset_on_close

SMALL = 16 * 1024
"""Up to this many bytes the C code receives on the stack."""
SIZES = [1, 2, 100, SMALL - 1, SMALL, SMALL + 1, 100_000, 2**20]


def _with_receive(send: Any, gathered: Any) -> Any:
    class Receiver(gathered):  # type: ignore[misc]
        got = _descriptor.NOTHING

        def _came(self, got: int) -> None:
            self.got = got

        def _receive_failed(self, exc: OSError) -> None:
            raise exc

    def receive(fd: Any, buf: Any, size: Any) -> int:
        """What an event appends to ``buf`` from the descriptor ``fd``."""
        stream = Receiver(None)
        stream.fd, stream.buf, stream._recv_size = fd, buf, size
        stream.on_event(READ)
        assert stream.received == max(0, stream.got)
        return stream.got

    return SimpleNamespace(receive=receive, send=send, Gathered=gathered)


def _pure() -> Any:
    return _with_receive(_descriptor.send, _gathered.Gathered)


def _accelerated() -> Any:
    speedups = importlib.import_module("silly.net._speedups")
    return _with_receive(speedups.send, speedups.Gathered)


@pytest.fixture(params=[_pure, _accelerated], ids=["pure", "accelerated"])
def code(request: pytest.FixtureRequest) -> Any:
    try:
        return request.param()
    except ImportError as exc:
        pytest.skip(f"silly.net._speedups isn't there: {exc}")


@pytest.fixture
def accelerated() -> Any:
    try:
        return _accelerated()
    except ImportError as exc:
        pytest.skip(f"silly.net._speedups isn't there: {exc}")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection that don't block."""
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    a.setblocking(False)
    b.setblocking(False)
    yield a, b
    a.close()
    b.close()


def test_the_implementation_that_was_chosen() -> None:
    pure = os.environ.get("SILLY_PURE") == "1"
    assert not (pure and chosen.in_c)
    name = "silly.net._speedups" if chosen.in_c else "silly.net._descriptor"
    assert chosen.send.__module__ == name


# ---- receive --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"x", b"y" * 70_000])
@pytest.mark.parametrize("size", SIZES)
def test_receive_appends(code: Any, pair: Any, size: int, before: bytes) -> None:
    a, b = pair
    buf = bytearray(before)
    for data in (b"1", b"23" * 5000, b"end"):
        b.send(data)
        got = code.receive(a.fileno(), buf, size)
        assert got == min(size, len(data))
        before += data[:got]
        assert buf == before
        while got < len(data):  # the rest
            more = code.receive(a.fileno(), buf, size)
            before += data[got : got + more]
            got += more
        assert buf == before
    assert code.receive(a.fileno(), buf, size) == _descriptor.NOTHING
    assert buf == before
    b.close()
    assert code.receive(a.fileno(), buf, size) == 0
    assert code.receive(a.fileno(), buf, size) == 0
    assert buf == before


def test_a_buffer_whose_front_was_deleted(code: Any, pair: Any) -> None:
    """Then its bytes don't start where its memory does."""
    rng = random.Random(3)
    a, b = pair
    buf = bytearray()
    sent = taken = b""
    for _ in range(300):
        data = rng.randbytes(rng.choice([1, 10, 5000, 40_000]))
        b.send(data)
        sent += data
        assert code.receive(a.fileno(), buf, rng.choice([SMALL, 2**20, 50_000])) > 0
        cut = rng.randrange(len(buf) + 1)
        taken += buf[:cut]
        del buf[:cut]
    while code.receive(a.fileno(), buf, SMALL) > 0:
        pass
    assert taken + buf == sent


def test_a_reset_is_an_error(code: Any, tcp_pair: Any) -> None:
    for size in (SMALL, 2**20):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            a = socket.create_connection(listener.getsockname())
            b, _ = listener.accept()
        a.setblocking(False)
        reset_on_close(b)
        b.close()
        buf = bytearray(b"kept")
        with pytest.raises(ConnectionResetError):
            code.receive(a.fileno(), buf, size)
        assert buf == b"kept"
        a.close()


def test_a_descriptor_that_is_closed(code: Any) -> None:
    a, b = socket.socketpair()
    fd = a.fileno()
    a.close()
    for size in (5, 2**20):
        buf = bytearray(b"kept")
        with pytest.raises(OSError, match="Bad file descriptor"):
            code.receive(fd, buf, size)
        assert buf == b"kept"
    with pytest.raises(OSError, match="Bad file descriptor"):
        code.send(fd, b"x")
    b.close()


def test_a_descriptor_that_is_not_a_socket(accelerated: Any) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x")
    with pytest.raises(OSError, match="Socket operation on non-socket"):
        accelerated.receive(reader, bytearray(), 5)
    with pytest.raises(OSError, match="Socket operation on non-socket"):
        accelerated.send(writer, b"x")
    os.close(reader)
    os.close(writer)


def test_a_large_size_asks_for_its_memory_before_it_receives(accelerated: Any, pair: Any) -> None:
    """So nothing is lost for want of memory, or since somebody looks at the buffer."""
    a, b = pair
    b.send(b"data")
    buf = bytearray(b"kept")
    with pytest.raises(MemoryError):
        accelerated.receive(a.fileno(), buf, sys.maxsize - len(buf))
    with memoryview(buf), pytest.raises(BufferError):
        accelerated.receive(a.fileno(), buf, 2**20)
    assert buf == b"kept"
    assert accelerated.receive(a.fileno(), buf, 2**20) == 4
    assert buf == b"keptdata"


class Sub(bytearray):
    """A bytearray may be subclassed."""


def test_a_subclass_of_bytearray(code: Any, pair: Any) -> None:
    a, b = pair
    for size in (SMALL, 2**20):
        buf = Sub(b"a")
        b.send(b"bc")
        assert code.receive(a.fileno(), buf, size) == 2
        assert buf == b"abc"


WRONG: list[tuple[Callable[[Any, int], Any], type[Exception]]] = [
    (lambda code, fd: code.receive(fd, b"", 1), TypeError),
    (lambda code, fd: code.receive(fd, None, 1), TypeError),
    (lambda code, fd: code.receive(fd, memoryview(bytearray()), 1), TypeError),
    (lambda code, fd: code.receive(fd, bytearray(), 1.0), TypeError),
    (lambda code, fd: code.receive(fd, bytearray(), "1"), TypeError),
    (lambda code, fd: code.receive(fd, bytearray(), 0), ValueError),
    (lambda code, fd: code.receive(fd, bytearray(), -1), ValueError),
    (lambda code, fd: code.receive(fd, bytearray(b"x"), sys.maxsize), ValueError),
    (lambda code, fd: code.receive(fd, bytearray(), 2**63), OverflowError),
    (lambda code, fd: code.receive("1", bytearray(), 1), TypeError),
    (lambda code, fd: code.receive(2**31, bytearray(), 1), ValueError),
    (lambda code, fd: code.receive(2**64, bytearray(), 1), OverflowError),
    (lambda code, fd: code.send(), TypeError),
    (lambda code, fd: code.send(fd), TypeError),
    (lambda code, fd: code.send(fd, b"x", 0), TypeError),
    (lambda code, fd: code.send(fd, "x"), TypeError),
    (lambda code, fd: code.send(fd, None), TypeError),
    (lambda code, fd: code.send(None, b"x"), TypeError),
    (lambda code, fd: code.send(-1, b"x"), ValueError),
    (lambda code, fd: code.send(fd, memoryview(b"abcd")[::2]), BufferError),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(accelerated: Any, pair: Any, number: int) -> None:
    a, b = pair
    b.send(b"still there")
    call, error = WRONG[number]
    with pytest.raises(error):
        call(accelerated, a.fileno())
    assert a.recv(100) == b"still there"
    with pytest.raises(BlockingIOError):
        b.recv(1)


# ---- send -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(b"ab" + data)[2:]])
@pytest.mark.parametrize("size", [0, 1, 1000, 30_000])
def test_send_returns_the_size(code: Any, pair: Any, size: int, kind: Callable[[bytes], Any]) -> None:
    a, b = pair
    data = os.urandom(size)
    assert code.send(a.fileno(), kind(data)) == size
    if size:
        assert b.recv(100_000) == data


def test_the_system_takes_a_part_and_then_nothing(code: Any, pair: Any) -> None:
    a, b = pair
    data = os.urandom(2**20)
    first = code.send(a.fileno(), data)
    assert 0 < first < len(data)
    sent = data[:first]
    while (more := code.send(a.fileno(), b"more")) > 0:
        sent += b"more"[:more]
    assert more == _descriptor.NOTHING
    got = b""
    while len(got) < len(sent):
        got += b.recv(2**20)
    assert got == sent


def test_send_to_a_closed_peer(code: Any, pair: Any) -> None:
    """An error, and no signal that ends the process."""
    a, b = pair
    b.close()
    with pytest.raises(BrokenPipeError):
        code.send(a.fileno(), b"x")


def test_nothing_leaks(code: Any, pair: Any) -> None:
    """No reference to what is given or returned, and no lock on a buffer, whatever the outcome."""
    a, b = pair
    fd, data, buf = a.fileno(), bytes(1000), bytearray(500)

    def all_outcomes() -> None:
        assert code.receive(fd, buf, 100) == _descriptor.NOTHING
        assert code.receive(fd, buf, 2**20) == _descriptor.NOTHING
        assert code.send(fd, data) == 1000
        assert code.send(b.fileno(), data) == 1000
        assert b.recv(2000) == data
        assert code.receive(fd, buf, 2000) == 1000
        for bad in (fd + 1000, None):
            with pytest.raises((OSError, TypeError)):
                code.receive(bad, buf, 5)
            with pytest.raises((OSError, TypeError)):
                code.send(bad, data)
        buf.clear()

    all_outcomes()
    gc.collect()  # else what earlier tests left may go meanwhile, and its references with it
    counts = [sys.getrefcount(each) for each in (data, buf, None, code)]
    for _ in range(20):
        all_outcomes()
    gc.collect()  # an error and the frame that raised it hold each other
    after = [sys.getrefcount(each) for each in (data, buf, None, code)]
    assert [after[0], after[1], after[3]] == [counts[0], counts[1], counts[3]]
    assert abs(after[2] - counts[2]) < 20
    buf += b"may be resized"


# ---- gather ---------------------------------------------------------------------------------------------------------

OBSTACLES: dict[str, Callable[[Any], object]] = {
    "an error": lambda output: setattr(output, "werr", "an error"),
    "the kernel": lambda output: setattr(output, "_blocked", True),
    "a file": lambda output: setattr(output, "file_sender", object()),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_try_queue_takes_nothing_while_output_is_refused(code: Any, obstacle: str) -> None:
    output = code.Gathered(None)
    assert output.try_queue(b"taken")
    OBSTACLES[obstacle](output)
    assert not output.try_queue(b"refused")
    assert output._out == [b"taken"]
    assert output.unsent == 5
    assert output._all_dirty == [output]


def test_try_queue_takes_nothing_in_another_thread(code: Any) -> None:
    output = code.Gathered(None)
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(output.try_queue(b"refused")))
    thread.start()
    thread.join()
    assert taken == [False]
    assert (output._out, output.unsent, output._dirty) == ([], 0, False)
    assert output.try_queue(b"taken")


def test_try_queue_takes_only_bytes(code: Any) -> None:
    """What could change before it is sent is left to who copies it."""
    output = code.Gathered(None)
    for data in (bytearray(b"x"), memoryview(b"x"), "x", type("Bytes", (bytes,), {})(b"x")):
        assert not output.try_queue(data)
    assert (output._out, output.unsent, output._dirty) == ([], 0, False)


# ---- events ---------------------------------------------------------------------------------------------------------


def a_reader(code: Any, sock: socket.socket) -> Any:
    """A stream that reads from ``sock``, and notes in ``calls`` what it leaves to ``Stream``."""

    class Reader(code.Gathered):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(None)
            self.calls: list[Any] = []

        def _other_event(self, mask: int) -> None:
            self.calls.append(mask)

        def _came(self, got: int) -> None:
            self.calls.append(("came", got))

        def _receive_failed(self, exc: OSError) -> None:
            self.calls.append((type(exc), exc.errno))

    reader = Reader()
    reader.fd = sock.fileno()
    reader._recv_size = SMALL
    return reader


@pytest.fixture
def waiting() -> Iterator[Any]:
    """A task that some stream may make ready, and which must not run."""
    each = scheduler.Task(print, (), None, None, 0)
    each._status, each._value = scheduler.WAIT, "stale"
    before = len(scheduler.loop.ready)
    yield each
    while len(scheduler.loop.ready) > before:
        scheduler.loop.ready.pop()


@pytest.mark.parametrize("size", [100, SMALL, SMALL + 1, 2**20])
def test_an_event_makes_the_reader_ready(code: Any, pair: Any, waiting: Any, size: int) -> None:
    reader = a_reader(code, pair[0])
    reader._recv_size, reader.need, reader._reader, reader.peer_alive = size, 7, waiting, False
    pair[1].send(b"before")
    reader.on_event(READ)
    assert (reader.calls, reader._reader, reader.peer_alive) == ([("came", 6)], waiting, True)
    assert (waiting._status, waiting._value, list(scheduler.loop.ready)) == (scheduler.WAIT, "stale", [])
    pair[1].send(b"!")
    reader.on_event(READ)
    assert (reader.calls, reader._reader, reader.buf, reader.received) == ([("came", 6)], None, b"before!", 7)
    assert (waiting._status, waiting._value) == (scheduler.READY, None)
    assert list(scheduler.loop.ready) == [waiting]


def test_an_event_without_a_reader(code: Any, pair: Any) -> None:
    reader = a_reader(code, pair[0])
    reader.peer_alive = False
    reader.on_event(READ)
    assert (reader.calls, reader.peer_alive) == ([], False), "there was nothing"
    pair[1].send(b"data")
    reader.on_event(READ)
    assert (reader.calls, reader.buf, reader.peer_alive) == ([("came", 4)], b"data", True)


@pytest.mark.parametrize("need", [0, 1])
def test_the_end_wakes_no_reader_by_itself(code: Any, pair: Any, waiting: Any, need: int) -> None:
    reader = a_reader(code, pair[0])
    reader.need, reader._reader = need, waiting
    pair[1].shutdown(socket.SHUT_WR)
    reader.on_event(READ)
    assert (reader.calls, reader._reader, waiting._status) == ([("came", 0)], waiting, scheduler.WAIT)


def test_a_reset_is_handed_on_with_its_error(code: Any, tcp_pair: Any, waiting: Any) -> None:
    """The system reports it only once."""
    reader = a_reader(code, tcp_pair[0])
    reader.need, reader._reader = 1, waiting
    reset_on_close(tcp_pair[1])
    tcp_pair[1].close()
    reader.on_event(READ)
    assert (reader.calls, reader._reader) == ([(ConnectionResetError, ECONNRESET)], waiting)


@pytest.mark.parametrize("mask", [0, WRITE, READ | WRITE, 2**40])
def test_other_events_are_left_to_python(code: Any, pair: Any, mask: int) -> None:
    reader = a_reader(code, pair[0])
    pair[1].send(b"data")
    reader.on_event(mask)
    assert (reader.calls, reader.buf) == ([mask], b"")


def test_an_event_of_a_large_payload_or_a_closed_stream_is_left_to_python(code: Any, pair: Any) -> None:
    reader = a_reader(code, pair[0])
    pair[1].send(b"data")
    reader._payload = object()
    reader.on_event(READ)
    reader._payload = None
    reader.fd = -1
    reader.on_event(READ)
    assert (reader.calls, reader.buf) == ([READ, READ], b"")


def test_what_fails_within_an_event_is_raised(code: Any, pair: Any, waiting: Any) -> None:
    for name in ("_other_event", "_came", "_receive_failed"):
        reader = a_reader(code, pair[0])
        setattr(type(reader), name, lambda self, what: 1 / 0)
        if name == "_receive_failed":
            reader.fd = os.open(os.devnull, os.O_WRONLY)
        pair[1].send(b"data")
        with pytest.raises(ZeroDivisionError):
            reader.on_event(WRITE if name == "_other_event" else READ)
        if name == "_receive_failed":
            os.close(reader.fd)


@pytest.mark.parametrize("name", ["buf", "need", "_reader", "_recv_size", "fd"])
def test_an_event_in_c_survives_a_missing_field(accelerated: Any, pair: Any, name: str) -> None:
    reader = a_reader(accelerated, pair[0])
    pair[1].send(b"data")
    delattr(reader, name)
    with pytest.raises(TypeError, match="lacks"):
        reader.on_event(READ)


@pytest.mark.parametrize(
    ("name", "value"), [("buf", b""), ("need", "1"), ("_recv_size", 0), ("_recv_size", 2**63), ("fd", 2**31)]
)
def test_an_event_in_c_refuses_a_field_of_another_kind(accelerated: Any, pair: Any, name: str, value: Any) -> None:
    reader = a_reader(accelerated, pair[0])
    pair[1].send(b"data")
    setattr(reader, name, value)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        reader.on_event(READ)
    assert reader.calls == []


def test_events_leak_nothing(code: Any, pair: Any, waiting: Any) -> None:
    reader = a_reader(code, pair[0])

    def events() -> None:
        for reads in (True, False):
            reader.need, reader._reader = 1, waiting if reads else None
            pair[1].send(b"data")
            reader.on_event(READ)
            reader.on_event(READ)
            reader.buf.clear()
        scheduler.loop.ready.pop()
        reader.calls.clear()

    events()
    before = [sys.getrefcount(each) for each in (reader, waiting, reader.buf)]
    for _ in range(50):
        events()
    assert [sys.getrefcount(each) for each in (reader, waiting, reader.buf)] == before
# ---- seal -----------------------------------------------------------------------------------------------------------


class Sealer:
    """Makes "records" of all that it gets, or fails."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.sealed: list[bytes] = []

    def seal(self, pieces: list[Any]) -> bytes:
        self.sealed.append(b"".join(pieces))
        pieces.clear()
        if self.failure is not None:
            raise self.failure
        return b"<" + self.sealed[-1] + b">"


def sealing(code: Any, sealer: Any) -> Any:
    class Output(code.Gathered):  # type: ignore[misc]
        def __init__(self, pipe: Any) -> None:
            super().__init__(pipe)
            self.told: list[Any] = []

        def _flush(self, sent: int, failure: BaseException | None) -> None:
            self.told.append((sent, failure))

    return Output(sealer)


def test_what_is_gathered_is_sealed_once_a_flush(code: Any, pair: Any) -> None:
    a, b = pair
    sealer = Sealer()
    output = sealing(code, sealer)
    output.fd = a.fileno()
    assert output.pipe is sealer
    for _ in range(2):
        for data in (b"one ", b"", b"two"):
            assert output.try_queue(data)
        assert (output._gathered, output._out, output.unsent) == ([b"one ", b"", b"two"], [], 7)
        output.flush()
        assert b.recv(100) == b"<one two>"
        assert (output._gathered, output._out, output.unsent) == ([], [], 0)
    assert sealer.sealed == [b"one two"] * 2
    assert (output.flushed, output.queued, output.told) == (18, 6, [])
    output.flush()
    assert len(sealer.sealed) == 2
    with pytest.raises(BlockingIOError):
        b.recv(1)


def test_without_a_pipe_there_is_one_list(code: Any) -> None:
    output = code.Gathered(None)
    assert output._gathered is output._out
    assert output.pipe is None


def test_what_was_not_sealed_never_leaves(code: Any, pair: Any) -> None:
    """Not when it is more than a record, when something is to be sent before it, when the kernel refuses output, or when
    sealing fails: that is left to ``_flush``."""
    a, b = pair
    for before, data, told in (
        ([], b"x" * 16_385, [(0, None)]),
        ([b"sealed before"], b"x", [(0, None)]),
        ([b"sealed before"], b"x" * 20_000, [(0, None)]),
    ):
        output = sealing(code, Sealer())
        output.fd = a.fileno()
        output._out.extend(before)
        output.unsent = sum(map(len, before))
        assert output.try_queue(data)
        output.flush()
        assert (output.told, output._out, output._gathered) == (told, before, [data])
    output = sealing(code, Sealer())
    output.fd = a.fileno()
    assert output.try_queue(b"x")
    output._blocked = True
    output.flush()
    assert (output.told, output._out, output._gathered) == ([], [], [b"x"])
    for failure in (MemoryError(), ZeroDivisionError("why"), KeyboardInterrupt()):
        output = sealing(code, Sealer(failure))
        output.fd = a.fileno()
        assert output.try_queue(b"x")
        output.flush()
        assert output.told == [(0, failure)]
        assert output._out == []
    with pytest.raises(BlockingIOError):
        b.recv(1)


def test_the_kernel_refuses_what_was_sealed(code: Any, pair: Any) -> None:
    """It is sealed only once."""
    a, b = pair
    sealer = Sealer()
    output = sealing(code, sealer)
    output.fd = a.fileno()
    assert output.try_queue(b"x")
    while code.send(output.fd, bytes(10_000)) > 0:
        pass
    output.flush()
    assert (output.told, output._out, output._gathered, output.unsent) == ([(0, None)], [b"<x>"], [], 3)
    b.close()
    output.told.clear()
    output.flush()
    ((sent, failure),) = output.told
    assert (sent, type(failure)) == (0, BrokenPipeError)
    assert (output._out, output.unsent, sealer.sealed) == ([b"<x>"], 3, [b"x"])


def test_what_is_written_while_others_are_sealed(code: Any, pair: Any) -> None:
    """By a callback of OpenSSL, say: it stays for the next flush."""
    a, b = pair

    class Writing(Sealer):
        def seal(self, pieces: list[Any]) -> bytes:
            records = super().seal(pieces)
            if len(self.sealed) == 1:
                assert output.try_queue(b"later")
            return records

    output = sealing(code, Writing())
    output.fd = a.fileno()
    assert output.try_queue(b"now")
    output.flush()
    assert b.recv(100) == b"<now>"
    assert (output._gathered, output._out, output.unsent, output._dirty) == ([b"later"], [], 5, True)
    output.flush()
    assert b.recv(100) == b"<later>"
    assert output.unsent == 0


def test_the_lists_can_not_be_exchanged(accelerated: Any, pair: Any) -> None:
    output = sealing(accelerated, Sealer())
    for name in ("_out", "_gathered"):
        with pytest.raises(AttributeError):
            setattr(output, name, [b"plain"])
    for pipe in (None, Sealer()):
        with pytest.raises(RuntimeError):
            accelerated.Gathered.__init__(output, pipe)
    plain = accelerated.Gathered(None)
    with pytest.raises(RuntimeError):
        accelerated.Gathered.__init__(plain, Sealer())
    for args in ((), (None, None)):
        with pytest.raises(TypeError):
            accelerated.Gathered(*args)
    # Made, but not initialised: nothing of it leaves.
    a, b = pair
    unborn = accelerated.Gathered.__new__(accelerated.Gathered)
    unborn.fd = a.fileno()
    assert unborn.try_queue(b"plain")
    unborn.flush()
    with pytest.raises(BlockingIOError):
        b.recv(1)


def test_what_seals_returns_no_bytes(accelerated: Any, pair: Any) -> None:
    a, b = pair

    class Wrong:
        def seal(self, pieces: list[Any]) -> Any:
            return memoryview(b"plain")

    for sealer in (Wrong(), object()):
        output = sealing(accelerated, sealer)
        output.fd = a.fileno()
        assert output.try_queue(b"plain")
        output.flush()
        ((sent, failure),) = output.told
        assert (sent, type(failure)) == (0, TypeError if isinstance(sealer, Wrong) else AttributeError)
    with pytest.raises(BlockingIOError):
        b.recv(1)
