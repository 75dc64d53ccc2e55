"""Which readers are slow, and which take nothing: by the figures alone, and as this system's kernel tells them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly._wire.limits import DEFAULT, Limits
from silly.net import _pace
from silly.net._pace import LOOKS, MOST, Pace, Taken, taken

from .support import until

TIMEOUT = DEFAULT.write_timeout / 1000
EVERY = TIMEOUT / LOOKS
HOUR = 3600.0


def looks(until: float = HOUR, begin: float = 1000.0) -> Iterator[float]:
    """The seconds of a stall at which the connection is looked at."""
    at = EVERY
    while at < until:
        yield at
        at += EVERY


def given_up(size: Callable[[float], float], closed: Callable[[float], bool] = lambda at: True, **limits: int) -> Any:
    """When a peer that has taken ``size(seconds)`` is given up, and why; None if it isn't within an hour."""
    pace = Pace()
    for at in looks():
        why = pace.look(1000.0 + at, Taken(int(size(at)), closed(at), True), Limits(**limits))
        if why is not None:
            return at, why.format("all")
    return None


def steps(rate: float, step: int, first: int = 0) -> Callable[[float], float]:
    """What a reader of ``rate`` bytes a second acknowledges, whose kernel has taken ``first`` bytes and then tells of
    ``step`` bytes at a time."""
    return lambda at: first + rate * at // step * step


KIB, MIB = 1024, 2**20
STALLED = f"no progress in sending all within the limit 'write_timeout' of {DEFAULT.write_timeout} ms"
SLOW = f"sending all was slower than the limit 'write_rate' of {DEFAULT.write_rate} bytes a second"


@pytest.mark.parametrize("rate", [5_000, 10_000, 30_000, 60_000, 10_000_000])
@pytest.mark.parametrize("step", [1, 2 * KIB, 64 * KIB, 512 * KIB, MIB])
def test_a_reader_of_5_kb_a_second_goes_through(rate: int, step: int) -> None:
    """In whatever steps its kernel tells of it: they are large after a fast beginning."""
    assert given_up(steps(rate, step, step)) is None


def test_curl_over_loopback() -> None:
    """As measured with `curl --limit-rate 30k`: 3 MB every 100 s, after a fast beginning."""
    assert given_up(lambda at: 3_600_000 + at // 100 * 3_000_000) is None


@pytest.mark.parametrize("rate", [260, 1000, 3000])
def test_a_reader_of_more_than_the_least_rate_goes_through(rate: int) -> None:
    assert given_up(steps(rate, KIB)) is None


@pytest.mark.parametrize("rate", [1, 100, 200, 220])
@pytest.mark.parametrize("step", [1, 256])
def test_the_slow_read_attack(rate: int, step: int) -> None:
    at, why = given_up(steps(rate, step))
    assert at <= 3 * TIMEOUT
    assert why == (STALLED if rate == 1 and step == 256 else SLOW)


def test_the_slow_read_attack_with_a_large_buffer() -> None:
    """128 KiB are what a kernel takes before anybody reads: the attack gains what they last at 5 KB/s."""
    at, why = given_up(steps(200, 64 * KIB, 128 * KIB))
    assert TIMEOUT < at <= 2 * TIMEOUT + EVERY
    assert why == STALLED


@pytest.mark.parametrize("size", [0, 1, 4096])
@pytest.mark.parametrize("closed", [True, False])
def test_a_peer_that_takes_nothing(size: int, closed: bool) -> None:
    at, why = given_up(lambda at: size, lambda at: closed)
    assert TIMEOUT <= at <= TIMEOUT + 3 * EVERY
    assert why == STALLED


def test_what_was_taken_buys_little_time() -> None:
    """However much that was."""
    at, why = given_up(lambda at: 10**12)
    assert (MOST + 1) * TIMEOUT <= at <= (MOST + 1) * TIMEOUT + 3 * EVERY
    assert why == STALLED


def test_a_peer_that_vanished_has_no_credit() -> None:
    """What is on the way to it is not acknowledged."""
    at, why = given_up(lambda at: 10**12, lambda at: False)
    assert TIMEOUT <= at <= TIMEOUT + 3 * EVERY
    assert why == STALLED


def test_data_on_the_way_at_a_look() -> None:
    """The window has just been opened, after a long time: that look is like any other."""
    assert given_up(lambda at: 3_600_000 + at // 100 * 3_000_000, lambda at: at % 100 > EVERY) is None


def test_a_rate_is_not_paid_in_advance() -> None:
    """A peer that took much, and now takes a little each second."""
    at, why = given_up(lambda at: 50 * MIB + 100 * at)
    assert at <= (MOST + 3) * TIMEOUT
    assert why == SLOW


def test_any_pace() -> None:
    assert given_up(steps(1, 10), write_rate=0) is None
    at, why = given_up(lambda at: 0, write_rate=0)
    assert at <= TIMEOUT + 3 * EVERY
    assert why == STALLED


def test_a_large_rate_gives_little_credit() -> None:
    at, why = given_up(steps(20_000, KIB), write_rate=100_000)
    assert at <= 3 * TIMEOUT
    assert "'write_rate' of 100000" in why


def test_a_stall_begins_anew() -> None:
    """Between two stalls the peer took what there was: nothing is known of that time."""
    pace = Pace()
    for round in range(5):
        for at in looks(0.9 * TIMEOUT):
            assert pace.look(round * HOUR + at, Taken(0, True, True), DEFAULT) is None
        pace.resume()


def test_less_than_before() -> None:
    """Where the kernel can't count what is acknowledged, short writes between two stalls are missing in the figures."""
    pace = Pace()
    assert pace.look(1.0, Taken(1000, True, True), DEFAULT) is None
    pace.resume()
    assert pace.look(100.0, Taken(-1000, True, True), DEFAULT) is None
    assert pace.look(100.0 + TIMEOUT, Taken(-1000, True, True), DEFAULT) == STALLED.replace("all", "{}")


# ---- what the kernel tells --------------------------------------------------------------------------------------------


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends, of which the second takes little."""
    with socket.socket() as listener, socket.socket() as reader:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(listener.getsockname())
        writer, _ = listener.accept()
        with writer:
            writer.setblocking(False)
            yield writer, reader


@pytest.fixture
def unix_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    writer, reader = socket.socketpair()
    with writer, reader:
        writer.setblocking(False)
        yield writer, reader


def filled(sock: socket.socket) -> int:
    """Writes until the kernel refuses: how much it accepted."""
    size = 0
    try:
        while True:
            size += sock.send(b"x" * 65536)
    except BlockingIOError:
        return size


def settled(sock: socket.socket, accepted: int, expected: Callable[[Taken], bool]) -> Taken:
    """What was taken, once it is as expected: a connection over loopback takes a moment."""
    until(lambda: expected(taken(sock, accepted)))
    return taken(sock, accepted)


linux = pytest.mark.skipif("sys.platform != 'linux'", reason="what other systems tell is not asked for")


@linux
@pytest.mark.parametrize("which", ["tcp_pair", "unix_pair"])
def test_what_is_acknowledged(which: str, request: pytest.FixtureRequest) -> None:
    """It grows as the peer reads."""
    writer, reader = request.getfixturevalue(which)
    accepted = filled(writer)
    before = settled(writer, accepted, lambda got: got.closed)
    assert before.size < accepted
    assert before.waiting
    got = 0
    while got < 70_000:  # more than the largest step of a Unix socket
        got += len(reader.recv(1000))
    after = settled(writer, accepted, lambda now: now.size > before.size)
    assert after.size - before.size < 3 * got + 200_000


@linux
def test_what_is_on_the_way(tcp_pair: Any) -> None:
    """Told by the figure of Linux: a peer whose kernel answers nothing can't be had on one machine."""
    writer, _ = tcp_pair
    accepted = filled(writer)
    settled(writer, accepted, lambda got: got.closed)

    class Odd:
        def getsockopt(self, *args: int) -> bytes:
            return struct.pack("24xI28xI60xQ16xI80xI", 3, since, 1234, 0, window)

    since = 0
    window = 1
    assert taken(Odd(), accepted) == (1234, False, False, True)  # type: ignore[arg-type]
    since = _pace.DELAY + 1
    assert taken(Odd(), accepted) == (1234, False, False, False)  # type: ignore[arg-type]
    window = 0
    assert taken(Odd(), accepted) == (1234, True, False, False)  # type: ignore[arg-type]


@linux
def test_when_something_was_acknowledged(tcp_pair: Any) -> None:
    writer, reader = tcp_pair
    writer.send(b"x")
    reader.recv(1)
    assert settled(writer, 1, lambda got: got.size > 0 and got.lately)


@linux
def test_a_kernel_that_tells_nothing(tcp_pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what it accepts counts."""
    writer, _ = tcp_pair

    class Old:
        fileno = writer.fileno

        def getsockopt(self, *args: int) -> bytes:
            return bytes(104)

    assert taken(Old(), 5000) == (5000, True, False, False)  # type: ignore[arg-type]

    def refuse(*args: object) -> bytes:
        raise OSError

    filled(writer)
    assert taken(Old(), 5000).size < 5000  # type: ignore[arg-type]
    monkeypatch.setattr(_pace, "ioctl", refuse)
    assert taken(Old(), 5000) == (5000, True, False, False)  # type: ignore[arg-type]
