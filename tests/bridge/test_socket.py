"""``bridge.socket``: sockets without TLS."""

from __future__ import annotations

import array
import asyncio
import gc
import os
import socket as std
import threading
from collections.abc import Callable, Iterator
from errno import EAGAIN, EBADF, ECONNREFUSED
from pathlib import Path
from typing import Any

import pytest

from silly import bridge, task, time
from silly._core import scheduler
from silly._core.loop import WRITE
from silly.bridge import socket
from silly.bridge._sockets import BURST
from silly.bridge.socket import Socket
from silly.testing import _left

from ..children import Child, in_thread
from ..leaks import leaks_nothing
from ..net.support import has_ipv6, never_answers, turns, until
from ..test_task import settle
from .support import WITHIN, loop, mode, outcome, tell, threaded, waiting

pytestmark = pytest.mark.usefixtures("mode")
assert mode


@pytest.fixture
def pair() -> Iterator[tuple[Socket, Socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield one, two


@pytest.fixture
def listener() -> Iterator[Socket]:
    with Socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


def fill(sock: std.socket) -> int:
    """Sends until the kernel takes no more. Returns how much that was."""
    size = 0
    try:
        while True:
            size += std.socket.send(sock, bytes(65536))
    except BlockingIOError:
        return size


# ---- it is a socket ------------------------------------------------------------------


def test_it_is_a_real_socket(pair: Any) -> None:
    one, two = pair
    assert isinstance(one, std.socket)
    assert (one.family, one.type, one.proto) == (std.AF_UNIX, std.SOCK_STREAM, 0)
    assert one.getsockopt(std.SOL_SOCKET, std.SO_TYPE) == std.SOCK_STREAM
    assert os.get_blocking(one.fileno()) is False
    assert os.get_inheritable(one.fileno()) is False
    two.sendall(b"hello")
    assert one.recv(3, std.MSG_PEEK) == b"hel"
    assert one.recv(100) == b"hello"
    assert repr(one).startswith(f"<silly.bridge.socket.Socket fd={one.fileno()}, family=")


def test_every_way_to_send_and_to_receive(pair: Any) -> None:
    """Each first waits, and is given the data then."""
    one, two = pair
    buffer = bytearray(5)
    ways: list[tuple[Callable[[], Any], Any]] = [
        (lambda: one.recv(5), b"hello"),
        (lambda: (one.recv_into(buffer), bytes(buffer)), (5, b"hello")),
        (lambda: (one.recv_into(buffer, 2), one.recv_into(buffer, nbytes=0)), (2, 3)),
        (lambda: one.recvfrom(5), (b"hello", None)),
        (lambda: one.recvfrom_into(buffer), (5, None)),
        (lambda: one.recvmsg(5), (b"hello", [], 0, None)),
        (lambda: one.recvmsg_into([memoryview(buffer)[:2], memoryview(buffer)[2:]]), (5, [], 0, None)),
    ]
    gives: list[Callable[[], Any]] = [
        lambda: two.send(b"hello"),
        lambda: two.sendall(bytearray(b"hello")),
        lambda: two.sendall(memoryview(b"h.e.l.l.o.")[::2].tobytes()),
        lambda: two.sendmsg([b"he", b"llo"]),
        lambda: two.send(array.array("b", b"hello")),
        lambda: two.send(b"hello", std.MSG_DONTWAIT),
        lambda: two.sendall(b"hello", std.MSG_DONTWAIT),
    ]
    for (take, expected), give in zip(ways, gives, strict=True):
        t = waiting(take)
        assert give() in (None, 5)
        assert outcome(t) == expected
    assert two.sendall(b"") is None
    assert two.send(b"") == 0


def test_writing_waits_for_room(pair: Any) -> None:
    one, two = pair
    filled = fill(one)
    for call in (one.send, one.sendall, lambda data: one.sendmsg([data])):
        t = waiting(call, b"more")
        got = 0
        while got < filled:
            got += len(two.recv(1 << 20))
        assert outcome(t) in (None, 4)
        assert two.recv(100) == b"more"
        filled = fill(one)


@pytest.mark.skipif(not hasattr(std, "MSG_DONTWAIT"), reason="this system has no such flag")
def test_flags_of_calls_that_do_not_wait(pair: Any) -> None:
    """As in the standard library, which waits before such a call if there is a time-out."""
    one, _ = pair
    fill(one)
    with time.deadline(WITHIN):
        calls: list[Callable[[], Any]] = [
            lambda: one.recv(1, std.MSG_DONTWAIT),
            lambda: one.recv_into(bytearray(1), 1, std.MSG_DONTWAIT | std.MSG_PEEK),
            lambda: one.recvfrom(1, std.MSG_DONTWAIT),
            lambda: one.recvfrom_into(bytearray(1), 1, std.MSG_DONTWAIT),
            lambda: one.recvmsg(1, 0, std.MSG_DONTWAIT),
            lambda: one.recvmsg_into([bytearray(1)], 0, std.MSG_DONTWAIT),
            lambda: one.send(b"x", std.MSG_DONTWAIT),
            lambda: one.sendall(b"x", std.MSG_DONTWAIT),
            lambda: one.sendmsg([b"x"], [], std.MSG_DONTWAIT),
        ]
        assert [tell(call) for call in calls] == [("BlockingIOError", EAGAIN)] * 9
        one.settimeout(0.01)
        assert tell(calls[0]) == tell(calls[-3]) == ("TimeoutError", None)


@pytest.mark.skipif(not hasattr(std, "send_fds"), reason="this system passes no descriptors")
def test_descriptors_go_along(pair: Any) -> None:
    one, two = pair
    t = waiting(std.recv_fds, one, 10, 2)
    std.send_fds(two, [b"x"], [two.fileno()])
    data, fds, _, _ = outcome(t)
    assert (data, len(fds)) == (b"x", 1)
    os.close(fds[0])


def test_datagrams() -> None:
    with Socket(std.AF_INET, std.SOCK_DGRAM) as one, Socket(std.AF_INET, std.SOCK_DGRAM) as two:
        one.bind(("localhost", 0))
        two.bind(("127.0.0.1", 0))
        t = waiting(one.recvfrom, 100)
        assert two.sendto(b"hello", one.getsockname()) == 5
        assert outcome(t) == (b"hello", two.getsockname())
        assert two.sendto(b"again", 0, ("localhost", one.getsockname()[1])) == 5
        assert one.recvfrom_into(bytearray(100)) == (5, two.getsockname())
        two.connect(one.getsockname())
        assert two.sendmsg([b"h", b"i"], [], 0, ("127.0.0.1", one.getsockname()[1])) == 2
        assert one.recv(100) == b"hi"
        with pytest.raises(TypeError):
            two.sendto(b"x")


def test_files(pair: Any, tmp_path: Path) -> None:
    """``makefile`` and ``sendfile``."""
    one, two = pair
    lines = one.makefile("r", encoding="utf-8")
    t = waiting(lines.readline)
    with two.makefile("wb") as out:
        out.write("grüße\nrest".encode())
    assert outcome(t) == "grüße\n"
    data = os.urandom(300_000)
    (tmp_path / "file").write_bytes(data)
    two.shutdown(std.SHUT_RD)
    with (tmp_path / "file").open("rb") as file:
        t = waiting(two.sendfile, file, 100)
        got = one.makefile("rb")
        assert lines.read(4) == "rest"
        assert got.read(len(data) - 100) == data[100:]
        assert outcome(t) == len(data) - 100 == file.tell() - 100
        assert two.sendfile(file, 10, 5) == 5
        with pytest.raises(ValueError, match="count must be a positive integer"):
            two.sendfile(file, 0, 0)
        two.settimeout(0)
        with pytest.raises(ValueError, match="non-blocking sockets"):
            two.sendfile(file)
    one.close()
    assert got.read(5) == data[10:15]  # the file keeps the descriptor
    got.close()
    assert one.fileno() >= 0
    lines.close()
    assert one.fileno() == -1
    until(lambda: tell(lambda: two.send(b"x"))[0] == "BrokenPipeError")


def test_a_file_that_was_not_closed(pair: Any) -> None:
    """Its finalizer closes the descriptor in the loop's next turn."""
    one, two = pair
    waiting(one.recv, 10).cancel()
    settle()
    file = one.makefile("rb")
    one.close()
    del file
    assert one.fileno() == -1
    t = task.fork(two.recv, 10)
    assert outcome(t) == b""


def test_a_file_that_a_task_reads(pair: Any) -> None:
    """``close`` leaves it open, as in the standard library, and ``shutdown`` ends the wait."""
    one, two = pair
    with one.makefile("rb") as file:
        t = waiting(file.readline)
        with pytest.raises(RuntimeError, match="reentrant call"):
            file.read(1)
        one.close()
        two.sendall(b"hel")
        settle()
        assert not t.done
        one.shutdown(std.SHUT_RDWR)
        assert outcome(t) == b"hel"
    assert one.fileno() == -1


def test_dup_and_detach(pair: Any) -> None:
    one, two = pair
    one.settimeout(7)
    other = one.dup()
    assert type(other) is Socket
    assert other.gettimeout() == 7
    t = waiting(other.recv, 10)
    two.send(b"x")
    assert outcome(t) == b"x"
    one.close()
    t = waiting(other.recv, 10)
    again = Socket(fileno=other.detach())
    with pytest.raises(OSError, match="Bad file descriptor"):
        outcome(t)
    with again:
        t = waiting(again.recv, 10)
        two.send(b"y")
        assert outcome(t) == b"y"


def test_what_comes_with_the_end(pair: Any) -> None:
    """Data and FIN in one event."""
    one, two = pair
    t = waiting(one.recv, 1)
    two.sendall(b"hello")
    two.close()
    settle()
    assert outcome(t) == b"h"
    assert one.recv(100) == b"ello"
    assert one.recv(100) == one.recv(100) == b""


def test_shutdown_wakes(pair: Any) -> None:
    one, two = pair
    t = waiting(one.recv, 10)
    two.shutdown(std.SHUT_WR)
    assert outcome(t) == b""
    t = waiting(two.recv, 10)
    two.shutdown(std.SHUT_RD)
    assert outcome(t) == b""


def test_much_data_for_a_slow_reader() -> None:
    """It begins to read when the sender waits, and reads in small pieces."""
    data = os.urandom(5_000_000)
    begin = threading.Event()

    def read(sock: std.socket) -> None:
        begin.wait(WITHIN / 1000)
        got = bytearray()
        while piece := sock.recv(50_000):
            got += piece
        assert got == data

    with threaded(read) as address, Socket() as sock:
        sock.setsockopt(std.SOL_SOCKET, std.SO_SNDBUF, 64 * 1024)
        sock.connect(address)
        t = waiting(sock.sendall, data)
        begin.set()
        outcome(t)
        sock.shutdown(std.SHUT_WR)
        assert sock.recv(1) == b""


# ---- connecting ----------------------------------------------------------------------


def test_accept_and_connect(listener: Socket) -> None:
    t = waiting(listener.accept)
    with Socket() as sock:
        sock.connect(("localhost", listener.getsockname()[1]))
        peer, address = outcome(t)
        with peer:
            assert type(peer) is Socket
            assert (address, peer.gettimeout()) == (sock.getsockname(), None)
            t = waiting(peer.recv, 10)
            sock.sendall(b"hello")
            assert outcome(t) == b"hello"


def test_connect_waits() -> None:
    """A connect that is struck goes on when it is called again."""
    with never_answers() as address, Socket() as sock:
        t = waiting(sock.connect, address)
        t.cancel()
        assert t.join(WITHIN) == (None, "cancelled")
        sock.settimeout(0.01)
        assert tell(lambda: sock.connect(address)) == ("TimeoutError", None)
        assert sock.connect_ex(address) == EAGAIN
        sock.settimeout(None)
        with time.deadline(10), pytest.raises(TimeoutError, match="the deadline of 10 ms ran out"):
            sock.connect_ex(address)
        t = waiting(sock.connect, address)
        assert sock._record is not None
        sock._record._on_event(WRITE)  # an old one
        settle()
        assert not t.done
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor") as info:
            outcome(t)
        assert info.value.errno == EBADF


def test_a_connect_that_has_happened_meanwhile(listener: Socket) -> None:
    with Socket() as sock:
        sock.settimeout(0)
        assert tell(lambda: sock.connect(listener.getsockname()))[0] == "BlockingIOError"
        sock.settimeout(5)
        turns()
        sock.connect(listener.getsockname())
        listener.accept()[0].close()
        assert sock.recv(1) == b""


def nobody() -> tuple[str, int]:
    """An address where nobody listens."""
    with std.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()  # type: ignore[no-any-return]


def test_refused() -> None:
    address = nobody()
    with Socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(address)
    with Socket() as sock:
        assert sock.connect_ex(address) == ECONNREFUSED
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    with pytest.raises(ExceptionGroup, match="create_connection failed") as info:
        socket.create_connection(address, all_errors=True)
    assert [type(each) for each in info.value.exceptions] == [ConnectionRefusedError]


def test_a_port_that_does_not_exist() -> None:
    """It is refused, as in the standard library, also with a name."""
    with Socket() as sock, Socket(std.AF_INET, std.SOCK_DGRAM) as other:
        for call in (sock.connect, sock.bind, lambda address: other.sendto(b"x", address)):
            with pytest.raises(OverflowError, match="port must be 0-65535"):
                call(("localhost", 65536 + 80))
        with pytest.raises(TypeError):
            sock.connect(("localhost", "80"))


def test_an_error_holds_no_socket() -> None:
    def sockets() -> list[Socket]:
        return [each for each in gc.get_objects() if isinstance(each, Socket)]

    address = nobody()
    gc.collect()
    gc.disable()
    try:
        before = sockets()
        assert tell(lambda: socket.create_connection(address)) == ("ConnectionRefusedError", ECONNREFUSED)
        turns()
        assert [each for each in sockets() if each not in before] == []
    finally:
        gc.enable()


def test_create_connection(listener: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """From address to address; the names are looked up in a thread."""
    address = listener.getsockname()
    gate = threading.Event()

    def look_up(host: str, port: int, *args: Any) -> Any:
        assert threading.get_ident() != loop.thread
        assert gate.wait(WITHIN / 1000)
        assert host == "two.test"
        return [(std.AF_INET, std.SOCK_STREAM, 0, "", each) for each in (nobody(), address)]

    monkeypatch.setattr(std, "getaddrinfo", look_up)
    t = waiting(lambda: socket.create_connection(("two.test", 1), 5, ("127.0.0.1", 0)))
    before = loop.turns
    turns()
    assert loop.turns > before
    gate.set()
    with outcome(t) as sock:
        assert (type(sock), sock.gettimeout(), sock.getpeername()) == (Socket, 5, address)
    gate.clear()
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        socket.create_connection(("two.test", 1), 0.01)
    with time.deadline(10), pytest.raises(TimeoutError, match=r"the look-up of 'two\.test': the deadline of 10 ms ran out"):
        socket.create_connection(("two.test", 1))
    with Socket() as sock:
        t = waiting(sock.connect, ("two.test", 1))
        t.cancel()
        assert t.join(WITHIN) == (None, "cancelled")
        t = waiting(sock.connect, (b"two.test", 1))
        gate.set()
        with pytest.raises(ConnectionRefusedError):
            outcome(t)
    monkeypatch.setattr(std, "getaddrinfo", lambda *args: [])
    with pytest.raises(OSError, match="empty list"):
        socket.create_connection(("two.test", 1))


def test_looking_up() -> None:
    assert socket.getaddrinfo("127.0.0.1", 80, type=std.SOCK_STREAM) == std.getaddrinfo("127.0.0.1", 80, type=std.SOCK_STREAM)
    assert socket.getaddrinfo(None, 80) == std.getaddrinfo(None, 80)
    assert socket.getaddrinfo("localhost", "80") == std.getaddrinfo("localhost", "80")
    with pytest.raises(std.gaierror):
        socket.getaddrinfo("127.0.0.1", 80, std.AF_INET6)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6() -> None:
    with Socket(std.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        with socket.create_connection(("::1", listener.getsockname()[1])) as sock, listener.accept()[0] as peer:
            peer.sendall(b"hello")
            assert sock.recv(10) == b"hello"


# ---- time-outs -----------------------------------------------------------------------


def test_time_outs_mean_what_they_do_in_the_standard_library(pair: Any) -> None:
    """Each step is done to both kinds."""

    def do(one: std.socket) -> list[Any]:
        said: list[Any] = [one.gettimeout(), one.timeout, one.getblocking()]
        for value in (0.01, 0, False, None, 3):
            one.settimeout(value)
            said += [one.gettimeout(), one.timeout, one.getblocking()]
            if value is not None and value < 1:
                said += [tell(lambda: one.recv(1)), tell(lambda: one.recv_into(bytearray(1)))]
                with one.makefile("rb", 0) as file:
                    said += [tell(lambda file=file: file.read(1)), tell(lambda file=file: file.read(1))]  # type: ignore[misc]
        one.setblocking(False)
        fill(one)
        said += [one.gettimeout(), tell(lambda: one.send(b"x")), tell(lambda: one.sendall(b"x"))]
        one.settimeout(0.01)
        said += [tell(lambda: one.send(b"x")), tell(lambda: one.sendall(b"x")), tell(lambda: one.sendmsg([b"x"]))]
        one.setblocking(True)
        said += [one.gettimeout()]
        wrong: tuple[Any, ...] = (-1, -0.5, float("nan"), float("inf"), 1e12, "1", 1j)
        for value in wrong:
            with pytest.raises((ValueError, TypeError, OverflowError)) as info:
                one.settimeout(value)
            said.append(type(info.value))
        return said

    one, other = std.socketpair()
    with one, other:
        assert do(pair[0]) == do(one)


def test_the_time_out_of_the_whole_program(pair: Any, listener: Socket) -> None:
    std.setdefaulttimeout(3)
    try:
        with Socket() as sock, socket.create_connection(listener.getsockname()) as other:
            assert sock.gettimeout() == other.gettimeout() == 3
            peer, _ = listener.accept()
            with peer:
                assert peer.gettimeout() == 3
        with socket.create_connection(listener.getsockname(), None) as sock:
            assert sock.gettimeout() is None
    finally:
        std.setdefaulttimeout(None)


def test_a_time_out_bounds_sendall_as_a_whole(pair: Any) -> None:
    """The peer takes a little, again and again, sooner than the time-out."""
    one, two = pair
    one.settimeout(0.1)

    def take() -> None:
        while True:
            time.sleep(10)
            two.recv(100_000)

    taking = task.fork(take)
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        one.sendall(bytes(500_000_000))
    assert time.monotonic() - before >= 99
    taking.cancel()
    taking.join()


def test_a_deadline(pair: Any) -> None:
    """It raises TimeoutError at each wait, and nothing is lost."""
    one, two = pair
    fill(one)
    for call in (lambda: one.recv(1), lambda: one.send(b"x"), lambda: one.sendall(b"x")):
        with time.deadline(1), pytest.raises(TimeoutError, match=r"sock\.\w+: the deadline of 1 ms ran out"):
            call()
    two.send(b"x")
    assert one.recv(1) == b"x"


# ---- cancelled, closed, forgotten ----------------------------------------------------


def test_a_cancel_loses_nothing(pair: Any, listener: Socket) -> None:
    one, two = pair
    for call in (lambda: one.recv(1), lambda: one.recvfrom(1), listener.accept):
        t = waiting(call)
        t.cancel()
        assert t.join(WITHIN) == (None, "cancelled")
    t = waiting(one.recv, 10)
    two.send(b"hello")
    t.cancel()
    assert (t.join(WITHIN)[0] or one.recv(10)) == b"hello"


def test_a_cancel_in_sendall(pair: Any) -> None:
    """A part is sent, and the socket goes on."""
    one, two = pair
    t = waiting(one.sendall, b"a" * 5_000_000)
    t.cancel()
    t.join(WITHIN)
    t = waiting(one.sendall, b"end")
    got = bytearray()
    while not got.endswith(b"end"):
        got += two.recv(1 << 20)
    assert outcome(t) is None
    assert got == b"a" * (len(got) - 3) + b"end"
    assert len(got) < 5_000_000


@pytest.mark.parametrize("name", ["recv", "accept", "sendall"])
def test_close_while_another_task_waits(name: str, listener: Socket) -> None:
    one, two = socket.socketpair()
    with one, two:
        fill(one)
        sock, args = (listener, ()) if name == "accept" else (one, (b"x",)) if name == "sendall" else (one, (1,))
        t = waiting(getattr(sock, name), *args)
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor") as info:
            outcome(t)
        assert info.value.errno == EBADF
        with pytest.raises(OSError, match="Bad file descriptor"):
            getattr(sock, name)(*args)


def test_numbers_that_are_used_again() -> None:
    """A new socket gets the number of a closed one, and its events."""
    seen = set()
    for number in range(100):
        one, two = socket.socketpair()
        t = waiting(one.recv, 10)
        two.send(b"%d" % number)
        assert outcome(t) == b"%d" % number
        seen.add(one.fileno())
        if number % 3 == 0:
            Socket(fileno=one.detach()).close()
        one.close()
        two.close()
    assert len(seen) < 10


def test_closed_by_another_thread(pair: Any) -> None:
    one, two = pair
    t = waiting(tell, lambda: one.recv(10))
    record = one._record
    thread = threading.Thread(target=one.close)
    thread.start()
    thread.join(WITHIN / 1000)
    assert (one.fileno(), record.registered) == (-1, True), "the loop does the rest"
    assert outcome(t) == ("OSError", EBADF)
    assert two.recv(10) == b""


@pytest.mark.parametrize("waited", [False, True])
def test_a_socket_that_was_not_closed(waited: bool) -> None:
    """It leaves nothing behind, and warns as the standard library does."""

    def use(sock: Socket) -> None:
        try:
            with time.deadline(1):
                sock.recv(1)
        except TimeoutError:
            pass

    one, two = socket.socketpair()
    with two:
        if waited:
            use(one)
            turns()  # the loop holds the exception, and so the frames, until it goes on
        with pytest.warns(ResourceWarning, match=r"^unclosed <silly\.bridge\.socket\.Socket fd="):
            del one
        assert two.recv(1) == b""


def test_a_socket_that_could_not_be_made() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        Socket(fileno=1 << 20)
    gc.collect()


# ---- who may call it -----------------------------------------------------------------


def test_two_tasks_that_do_the_same(pair: Any) -> None:
    """One may read and one may write."""
    one, two = pair
    fill(one)
    reader, writer = waiting(one.recv, 5), waiting(one.sendall, b"x")
    with pytest.raises(RuntimeError, match=r"^sock\.recv_into: another task reads from this socket, and waits; only one may"):
        one.recv_into(bytearray(10))
    with pytest.raises(RuntimeError, match=r"^sock\.send: another task writes to this socket, and waits; only one may"):
        one.send(b"y")
    two.send(b"hello")
    assert outcome(reader) == b"hello"
    writer.cancel()
    writer.join()


def test_elsewhere(pair: Any) -> None:
    """In another thread, and in a callback of the loop, though it need not wait."""
    one, two = pair
    two.send(b"hello")
    said: list[str] = []

    def call(func: Callable[[], object]) -> None:
        with pytest.raises(RuntimeError) as info:
            func()
        said.append(str(info.value))

    calls: list[Callable[[], object]] = [
        lambda: one.recv(1),
        lambda: one.sendall(b"x"),
        lambda: socket.getaddrinfo("127.0.0.1", 80),
        lambda: socket.create_connection(("127.0.0.1", 80)),
    ]
    for func in calls:
        in_thread(call, func)
        loop.post(call, func)
    until(lambda: len(said) == 8)
    assert sorted(text.partition(":")[0] for text in said) == sorted(
        ["sock.recv", "sock.sendall", "bridge.socket.getaddrinfo", "bridge.socket.create_connection"] * 2
    )
    assert sum("called from another thread" in text for text in said) == 4
    assert sum("in a callback of the loop" in text for text in said) == 4
    assert one.recv(10) == b"hello"


def test_in_a_coroutine(pair: Any) -> None:
    one, two = pair
    two.send(b"hello")

    async def read() -> Any:
        with pytest.raises(RuntimeError, match=r"^sock\.recv: cannot block in a coroutine of asyncio; await"):
            one.recv(10)
        return await asyncio.sleep(0, "done")

    assert bridge.asyncio.run(read()) == ("done", None)
    assert one.recv(10) == b"hello"


def test_other_tasks_run_though_there_is_always_data(pair: Any) -> None:
    one, two = pair
    two.sendall(b"x" * 1000)
    for sock, call in ((one, lambda: one.recv(1)), (two, lambda: two.send(b"x"))):
        ran: list[int] = []
        other = task.fork(ran.append, 1)
        for _ in range(BURST + 1):
            call()
        assert ran == [1], sock
        other.join()


def test_calls_that_wait_do_not_count(pair: Any) -> None:
    one, two = pair
    for _ in range(BURST):
        t = waiting(one.recv, 1)
        two.send(b"x")
        assert outcome(t) == b"x"
        one.send(b"y")
    assert one._burst <= 2


def test_the_end_of_the_process(mode: str) -> None:
    """A task that waits keeps the process, the end strikes it where it waits, and then nothing waits."""
    code = f"""
import silly
from silly import bridge, task, time
from silly._core import descriptor
descriptor.EDGE *= {int(mode == "edge")}
one, two = bridge.socket.socketpair()

def waits():
    try:
        print(one.recv(10), flush=True)
        one.recv(10)
    except BaseException as exc:
        print(type(exc).__name__, flush=True)
        raise
    finally:
        two.sendall(b"last")
        print(one.recv(10), flush=True)

def main():
    time.sleep(1)
    two.send(b"x")
    time.sleep(1)
    silly.exit(3)

task.fork(waits)
task.fork(main)
silly.run()
"""
    with Child("-c", code) as child:
        assert (child.line(), child.line(), child.line()) == ("b'x'", "GreenletExit", "b'last'")
        assert child.wait() == 3


def test_leaving(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the process's time no call waits; it is an end, which no ``except OSError`` catches."""
    monkeypatch.setattr(scheduler, "exiting", True)
    with pytest.raises(scheduler.Leaving):
        pair[0].recv(1)
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"


def test_in_a_child_of_fork() -> None:
    code = """
import os, silly, warnings
from silly import bridge
warnings.simplefilter("error")
one, two = bridge.socket.socketpair()
two.send(b"x")
silly.task.fork(one.recv, 5).join()
try:
    with silly.time.deadline(1):
        one.recv(1)
except TimeoutError:
    pass
if os.fork() == 0:
    try:
        one.recv(1)
    except RuntimeError as exc:
        one.close()
        os._exit("in a child of os.fork" not in str(exc))
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
two.send(b"hello")
print(one.recv(5))
one.close()
two.close()
"""
    with Child("-c", code) as child:
        assert (child.line(), child.line(), child.wait()) == ("0", "b'hello'", 0)


# ---- in the long run -----------------------------------------------------------------


def test_many_waits_leave_nothing_behind(pair: Any, mode: str) -> None:
    one, two = pair
    one.settimeout(60)

    def echo() -> None:
        while data := two.recv(10):
            two.sendall(data)

    t = task.fork(echo)

    def once() -> None:
        one.sendall(b"x")
        assert one.recv(10) == b"x"

    once()
    before = _left.found()
    if mode == "edge":
        leaks_nothing(once)
        assert _left.left(before) is None
    else:
        for _ in range(5_000):
            once()
    assert len(loop.timers.heap) < 100
    one.shutdown(std.SHUT_WR)
    outcome(t)


def test_the_module_loads_when_it_is_used() -> None:
    with Child("-c", "import silly.bridge, sys; print('silly.bridge.socket' in sys.modules)") as child:
        assert (child.line(), child.wait()) == ("False", 0)
    assert bridge.socket is socket
