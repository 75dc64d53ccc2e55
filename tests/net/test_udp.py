"""``silly.net.udp``: sending, receiving, the queue and its limit, several tasks, errors, closing."""

from __future__ import annotations

import errno as os_errno
import gc
import socket
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

import silly
from silly import check, errno, task, time
from silly._core import scheduler
from silly.net import _datagrams, _udp_address, udp

from ..helpers import WITHIN, turn
from .support import Job, has_ipv6, until

IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
LO = "127.0.0.1:0"


@pytest.fixture
def server() -> Iterator[udp.Conn]:
    with check(udp.bind(LO)) as conn:
        yield conn


@pytest.fixture
def client(server: udp.Conn) -> Iterator[udp.Conn]:
    with check(udp.connect(server.addr)) as conn:
        yield conn


def refused_port() -> str:
    """An address at which nobody listens."""
    with check(udp.bind(LO)) as conn:
        return conn.addr


# ---- there and back ------------------------------------------------------------------


def test_an_echo(server: udp.Conn, client: udp.Conn) -> None:
    assert client.sendto("héllo") == (True, None)
    assert server.recvfrom(WITHIN) == ("héllo".encode(), client.addr)
    assert server.sendto(b"back", client.addr) == (True, None)
    assert client.recvfrom(WITHIN) == (b"back", server.addr)
    assert (client.remoteaddr, server.remoteaddr) == (server.addr, None)
    assert server.addr == f"127.0.0.1:{server.port}"
    assert server.port > 0
    assert repr(server) == f"<udp socket {server.addr}, open>"
    client.close()
    assert repr(client) == f"<udp socket {client.addr} with {server.addr}, closed>"


@pytest.mark.parametrize(
    ("data", "arrives"),
    [
        (b"", b""),
        ("", b""),
        ([], b""),
        (bytearray(b"bytes"), b"bytes"),
        (memoryview(b"a view"), b"a view"),
        (iter(["a", b"b"]), b"ab"),
        (["Header: ", b"value\n", bytearray(b"body")], b"Header: value\nbody"),
        ((b"one", "two"), b"onetwo"),
        (b"x" * 65_507, b"x" * 65_507),
    ],
    ids=["empty", "empty-text", "no-pieces", "bytearray", "memoryview", "pieces", "list", "tuple", "longest"],
)
def test_what_is_sent_arrives_as_one(server: udp.Conn, client: udp.Conn, data: Any, arrives: bytes) -> None:
    assert client.sendto(data) == (True, None)
    client.sendto("the next")
    assert server.recvfrom(WITHIN) == (arrives, client.addr)
    assert server.recvfrom(WITHIN) == (b"the next", client.addr)


@pytest.mark.parametrize("data", [None, 1, {"a": 1}, [1], "text".split, memoryview(b"abcd")[::2]])
def test_what_cannot_be_sent(client: udp.Conn, data: Any) -> None:
    with pytest.raises(TypeError, match="to send"):
        client.sendto(data)


def test_too_long(server: udp.Conn, client: udp.Conn) -> None:
    assert client.sendto(b"x" * 65_508) == (False, errno.MSGSIZE)
    assert server.sendto(b"x" * 65_508, client.addr) == (False, errno.MSGSIZE)
    assert client.sendto("and on") == (True, None)
    assert server.recvfrom(WITHIN)[0] == b"and on"


def test_a_bound_socket_needs_an_address(server: udp.Conn) -> None:
    assert server.sendto("x") == (False, errno.DESTADDRREQ)


def test_a_connected_socket_may_send_elsewhere(server: udp.Conn, client: udp.Conn) -> None:
    with check(udp.bind(LO)) as other:
        assert client.sendto("hey", other.addr) == (True, None)
        assert other.recvfrom(WITHIN) == (b"hey", client.addr)
        other.sendto("not from whom it is connected to", client.addr)
        server.sendto("but this", client.addr)
        assert client.recvfrom(WITHIN) == (b"but this", server.addr)


@pytest.mark.parametrize(
    ("addr", "words"),
    [
        ("localhost:80", "conn.sendto needs an IP address .* not 'localhost:80': it never waits"),
        (":80", "needs an IP address"),
        ("127.0.0.1", "port from 0 to 65535"),
        ("127.0.0.1:99999", "port from 0 to 65535"),
        ("[::1", "port from 0 to 65535"),
        ("unix:/tmp/x", "udp has no Unix sockets"),
    ],
)
def test_bad_addresses_to_send_to(server: udp.Conn, addr: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        server.sendto("x", addr)
    for wrong in (("127.0.0.1", 80), ["127.0.0.1", 80]):
        with pytest.raises(TypeError, match="needs an address"):
            server.sendto("x", wrong)  # type: ignore[arg-type]


def test_what_is_refused_at_once() -> None:
    for wrong, kind in ((None, TypeError), ("8080", ValueError), ("unix:/x", ValueError)):
        with pytest.raises(kind):
            udp.bind(wrong)  # type: ignore[arg-type]
        with pytest.raises(kind):
            udp.connect(wrong)  # type: ignore[arg-type]
    for bindaddr in ("localhost", "localhost:80", ":80", "1.2.3.4:x", ""):
        with pytest.raises(ValueError, match=r"udp\.connect"):
            udp.connect("127.0.0.1:9", bindaddr=bindaddr)
    with pytest.raises(TypeError, match="bindaddr is an IP address"):
        udp.connect("127.0.0.1:9", bindaddr=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"limits is a silly\.Limits"):
        udp.bind(LO, limits={})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="use only one of the two"):
        udp.connect("127.0.0.1:9", {"bindaddr": "127.0.0.1"}, broadcast=True)


def test_options_in_a_dict_and_a_local_address(server: udp.Conn) -> None:
    for client in (
        check(udp.connect(server.addr, {"bindaddr": "127.0.0.2"})),
        check(udp.connect(server.addr, "127.0.0.2:0")),
        check(udp.connect(server.addr, bindaddr="127.0.0.2")),
    ):
        with client:
            assert client.addr.startswith("127.0.0.2:")
            client.sendto("x")
            assert server.recvfrom(WITHIN) == (b"x", client.addr)
    assert udp.connect(server.addr, "::1") == (None, errno.AFNOSUPPORT)
    assert udp.connect("[::1]:9", "fe80::1%nonet") == (None, errno.ADDRNOTAVAIL)


# ---- families ------------------------------------------------------------------------


@IPV6
def test_ipv6() -> None:
    with check(udp.bind("[::1]:0")) as server, check(udp.connect(server.addr)) as client:
        assert server.addr == f"[::1]:{server.port}"
        client.sendto("x" * 65_000)
        data, addr = server.recvfrom(WITHIN)
        assert (len(data or ""), addr) == (65_000, client.addr)
        server.sendto("back", addr)
        assert client.recvfrom(WITHIN) == (b"back", server.addr)
        assert server.sendto("x", "127.0.0.1:9") == (False, errno.AFNOSUPPORT)
        assert client.sendto(b"x" * 65_528) == (False, errno.MSGSIZE)


def test_an_ipv4_socket_sends_to_no_ipv6_address(server: udp.Conn) -> None:
    assert server.sendto("x", "[::1]:9") == (False, errno.AFNOSUPPORT)


@IPV6
def test_every_address_of_both_families() -> None:
    with check(udp.bind(":0")) as server:
        assert server.addr == f"[::]:{server.port}"
        for host in ("127.0.0.1", "[::1]"):
            with check(udp.connect(f"{host}:{server.port}")) as client:
                client.sendto("hello")
                assert server.recvfrom(WITHIN) == (b"hello", client.addr), "an IPv4 address is shown as one"
                assert server.sendto("back", client.addr) == (True, None)
                assert client.recvfrom(WITHIN) == (b"back", f"{host}:{server.port}")
    with check(udp.bind(f"[::]:{server.port}")) as six, check(udp.bind(f"0.0.0.0:{server.port}")) as four:
        assert six.sendto("x", four.addr) == (False, errno.AFNOSUPPORT), "each is for its own family"


def test_every_address_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    made = socket.socket

    def without(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(os_errno.EAFNOSUPPORT, "none here")
        return made(family, kind)

    monkeypatch.setattr(socket, "socket", without)
    with check(udp.bind(":0")) as server:
        assert server.addr == f"0.0.0.0:{server.port}"


def test_a_connected_socket_takes_nothing_from_before_it_was_connected(
    server: udp.Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.socket.connect
    with check(udp.bind(LO)) as stranger:

        def late(sock: socket.socket, addr: Any) -> None:
            assert stranger.sendto("forged", "{}:{}".format(*sock.getsockname())) == (True, None)
            connect(sock, addr)

        monkeypatch.setattr(socket.socket, "connect", late)
        with check(udp.connect(server.addr, "127.0.0.1")) as client:
            server.sendto("hello", client.addr)
            assert client.recvfrom(WITHIN) == (b"hello", server.addr)


@IPV6
def test_every_address_means_both_families_or_none() -> None:
    with check(udp.bind("[::]:0")) as six:
        assert udp.bind(f":{six.port}") == (None, errno.ADDRINUSE), "it is free for IPv4 alone"


@IPV6
def test_a_zone() -> None:
    with check(udp.bind("[::1]:0")) as server:
        for zone in ("lo", str(socket.if_nametoindex("lo"))):
            assert server.sendto("x", f"[::1%{zone}]:{server.port}") == (True, None)
            assert server.recvfrom(WITHIN) == (b"x", server.addr)
        ok, err = server.sendto("x", "[fe80::1%nonet]:80")
        assert not ok
        assert "No such device" in (err or "")
        assert not any("%" in each for each in _udp_address.V6.places), "its number may change"


def test_names_are_looked_up_while_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, port: int, *rest: Any) -> Any:
        if host != "slow.test":
            return real(host, port, *rest)
        assert looked_up.wait(30)
        return real("127.0.0.1", port, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    binding = Job(lambda: check(udp.bind("slow.test:0"))).blocked()
    looked_up.set()
    with binding.result() as server, check(udp.connect(f"slow.test:{server.port}")) as client:
        assert server.addr == f"127.0.0.1:{server.port}"
        assert client.remoteaddr == server.addr
        client.sendto("x")
        assert server.recvfrom(WITHIN) == (b"x", client.addr)
    looked_up.clear()
    try:
        with time.deadline(1):
            assert udp.connect("slow.test:80") == (None, errno.TIMEDOUT)
    finally:
        looked_up.set()
    assert udp.connect("no name.invalid:80") == (None, errno.RESOLVE)
    assert udp.bind(f"{'x' * 70}.test:80") == (None, errno.RESOLVE)


def test_no_host_means_this_machine_to_connect(server: udp.Conn) -> None:
    with check(udp.bind(":0")) as everywhere, check(udp.connect(f":{everywhere.port}")) as client:
        client.sendto("x")
        assert everywhere.recvfrom(WITHIN) == (b"x", client.addr)


def test_addresses_are_remembered_within_bounds(server: udp.Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_udp_address, "KEPT", 50)
    _udp_address.texts.clear()
    _udp_address.V4.places.clear()
    for number in range(1, 201):
        with check(udp.connect(server.addr, f"127.0.1.{number}")) as client:
            client.sendto("x")
            _, addr = server.recvfrom(WITHIN)
            assert addr == client.addr
            server.sendto("y", addr)
            assert client.recvfrom(WITHIN)[0] == b"y"
    assert 0 < len(_udp_address.texts) <= 50
    assert 0 < len(_udp_address.V4.places) <= 50


# ---- ports ---------------------------------------------------------------------------


def test_a_port_is_taken_by_one_and_free_after_close(server: udp.Conn) -> None:
    assert udp.bind(server.addr) == (None, errno.ADDRINUSE)
    assert udp.bind(server.addr, share=True) == (None, errno.ADDRINUSE), "the first doesn't share"
    assert udp.connect("127.0.0.1:9", server.addr) == (None, errno.ADDRINUSE)
    assert udp.bind("203.0.113.1:0") == (None, errno.ADDRNOTAVAIL)
    server.close()
    for _ in range(3):
        with check(udp.bind(server.addr)) as again:
            assert again.addr == server.addr


def test_a_shared_port() -> None:
    with check(udp.bind(LO, share=True)) as one, check(udp.bind(one.addr, share=True)) as other:
        assert udp.bind(one.addr) == (None, errno.ADDRINUSE)
        for _ in range(20):
            with check(udp.connect(one.addr)) as client:
                client.sendto("x")
                which, err = task.select(one, other, timeout=WITHIN)
                assert err is None
                assert which is not None
                assert which.recvfrom(WITHIN) == (b"x", client.addr)
        assert (one.unreadbytes(), other.unreadbytes()) == (0, 0), "each went to one of them"


# ---- errors of the network -----------------------------------------------------------


def test_nobody_listens_there() -> None:
    """Sending succeeds; a wait to receive is told, once for all that was sent; the socket goes on."""
    addr = refused_port()
    with check(udp.connect(addr)) as client:
        for _ in range(2):
            assert client.sendto("anybody?") == (True, None)
            assert client.recvfrom(WITHIN) == (None, errno.CONNREFUSED)
        assert client.isalive()
        waiting = Job(lambda: client.recvfrom(WITHIN)).blocked()
        client.sendto("anybody?")
        assert waiting.result() == (None, errno.CONNREFUSED)
        with check(udp.bind(addr)) as server:
            client.sendto("now?")
            assert server.recvfrom(WITHIN) == (b"now?", client.addr)
            server.sendto("yes", client.addr)
            assert client.recvfrom(WITHIN) == (b"yes", addr)


def test_an_error_of_an_earlier_datagram_costs_no_later_one() -> None:
    addr = refused_port()
    with check(udp.connect(addr)) as client:
        client.sendto("lost")
        with check(udp.bind(addr)) as server:
            assert client.sendto("arrives") == (True, None), "though the kernel first reports the one before"
            assert server.recvfrom(WITHIN) == (b"arrives", client.addr)
            assert client.recvfrom(WITHIN) == (None, errno.CONNREFUSED)
        for _ in range(100):
            assert client.sendto("lost") == (True, None)
            assert client.sendto("lost", addr) == (True, None)
        turn(2)
        assert len(client._socket.queue) == 1, "one error is kept, however many there were"
        assert client.unreadbytes() == 0


def test_a_full_kernel_buffer(client: udp.Conn) -> None:
    """The loopback is never full: it delivers while it sends."""

    class Full:
        def send(self, data: bytes) -> int:
            raise BlockingIOError(os_errno.EAGAIN, "full")

    inner: Any = client._socket
    sock, inner.sock = inner.sock, Full()
    try:
        assert client.sendto("x") == (False, errno.AGAIN)
    finally:
        inner.sock = sock
    assert client.unsentbytes() == 0
    assert client.sendto("x") == (True, None)


# ---- waiting -------------------------------------------------------------------------


def test_times(server: udp.Conn, client: udp.Conn) -> None:
    """A time-out, a deadline and a poll; nothing is lost by them."""
    assert server.recvfrom(1) == (None, errno.TIMEDOUT)
    assert server.recvfrom(0) == (None, errno.TIMEDOUT)
    with time.deadline(1) as limit:
        assert server.recvfrom() == (None, errno.TIMEDOUT)
    assert limit.expired
    client.sendto("x")
    assert server.recvfrom(0) == (b"x", client.addr), "it came in time"
    for wrong, kind in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(kind, match=r"conn\.recvfrom: the time-out"):
            server.recvfrom(wrong)  # type: ignore[arg-type]


def test_several_tasks_are_served_in_their_order(server: udp.Conn, client: udp.Conn) -> None:
    jobs = [Job(server.recvfrom).blocked() for _ in range(4)]
    jobs[1].task.cancel()
    with pytest.raises(scheduler.Cancelled):
        jobs[1].result()
    for number in range(3):
        client.sendto(str(number))
    got = [jobs[at].result()[0] for at in (0, 2, 3)]
    assert got == [b"0", b"1", b"2"]


@pytest.mark.parametrize("others", [False, True], ids=["alone", "another-waits"])
def test_an_interrupted_task_gives_back_what_it_was_woken_with(server: udp.Conn, client: udp.Conn, others: bool) -> None:
    first = Job(server.recvfrom).blocked()
    second = Job(server.recvfrom).blocked() if others else None
    server._socket._put((b"one", "127.0.0.1:1"))  # as the loop does: it wakes the first
    scheduler._ready.remove(first.task)
    first.kill()
    if second is not None:
        assert second.result() == (b"one", "127.0.0.1:1")
    else:
        assert server.unreadbytes() == 3
        assert server.recvfrom(WITHIN) == (b"one", "127.0.0.1:1")
    assert server.unreadbytes() == 0


def test_what_an_interrupted_task_gives_back_to_a_closed_socket(server: udp.Conn) -> None:
    first = Job(server.recvfrom).blocked()
    server._socket._put((b"one", "127.0.0.1:1"))
    scheduler._ready.remove(first.task)
    server.close()
    first.kill()
    assert server.recvfrom(0) == (None, errno.CLOSED)
    assert server.unreadbytes() == 0


def test_what_an_interrupted_task_gives_back_wakes_select(server: udp.Conn) -> None:
    reading = Job(server.recvfrom).blocked()
    selecting = Job(lambda: task.select(server)).blocked()
    server._socket._put((b"one", "127.0.0.1:1"))
    scheduler._ready.remove(reading.task)
    reading.kill()
    assert selecting.result() == (server, None)
    assert server.recvfrom(0) == (b"one", "127.0.0.1:1")


@pytest.mark.parametrize("closes", [False, True], ids=["comes", "closes"])
def test_a_signal_handler_as_a_task_begins_to_wait(
    server: udp.Conn, monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    """What it does is not missed."""
    watch = type(scheduler.loop).watch

    def handler(loop: Any, handler: Any) -> None:
        watch(loop, handler)
        if closes:
            server.close()
        else:
            server._socket._put((b"one", "127.0.0.1:1"))

    monkeypatch.setattr(type(scheduler.loop), "watch", handler)
    assert server.recvfrom(WITHIN) == ((None, errno.CLOSED) if closes else (b"one", "127.0.0.1:1"))


@pytest.mark.parametrize("how", ["close", "with"])
def test_closing_wakes_all(how: str) -> None:
    server = check(udp.bind(LO))
    jobs = [Job(server.recvfrom).blocked() for _ in range(3)]
    selecting = Job(lambda: task.select(server)).blocked()
    if how == "close":
        assert server.close() == (True, None)
    else:
        with server:
            pass
    assert [job.result() for job in jobs] == [(None, errno.CLOSED)] * 3
    assert selecting.result() == (server, None)


def test_after_close(server: udp.Conn, client: udp.Conn) -> None:
    client.sendto("never taken")
    until(lambda: server.unreadbytes() == 11)
    assert server.fd == server._socket.sock.fileno()  # type: ignore[union-attr]
    assert server.isalive()
    assert server.close() == (True, None)
    assert server.close() == (False, errno.CLOSED)
    assert server.recvfrom(100) == (None, errno.CLOSED)
    assert server.sendto("x", client.addr) == (False, errno.CLOSED)
    assert (server.join("239.1.2.3"), server.leave("239.1.2.3"), server.multicast(ttl=1)) == ((False, errno.CLOSED),) * 3
    assert (server.isalive(), server.fd, server.unreadbytes(), server.unsentbytes()) == (False, None, 0, 0)
    server.limit(5)
    assert task.select(server, timeout=0) == (server, None)


def test_a_forgotten_socket_is_closed(server: udp.Conn) -> None:
    before = set(scheduler.loop.handlers)
    client = check(udp.connect(server.addr))
    client.sendto("x")
    (inner,) = scheduler.loop.handlers - before
    del client
    gc.collect()
    until(lambda: inner not in scheduler.loop.handlers)
    assert server.recvfrom(WITHIN)[0] == b"x", "what was sent goes out"


def test_a_reader_that_never_waits_lets_others_run(server: udp.Conn, client: udp.Conn) -> None:
    for _ in range(200):
        client.sendto("x")
    until(lambda: server.unreadbytes() == 200)
    ran: list[int] = []
    other = task.fork(lambda: [ran.append(task.readycount()) or time.sleep(0) for _ in range(3)])
    for _ in range(200):
        server.recvfrom()
    assert len(ran) == 3
    other.join()


def test_select(server: udp.Conn, client: udp.Conn) -> None:
    with check(udp.bind(LO)) as other:
        assert task.select(server, other, timeout=0)[0] is None
        selecting = Job(lambda: task.select(other, server)).blocked()
        client.sendto("")
        assert selecting.result() == (server, None)
        assert task.select(other, server) == (server, None), "it has taken nothing"
        assert server.recvfrom(0) == (b"", client.addr)
        selecting = Job(lambda: task.select(other, server)).blocked()
        reading = Job(server.recvfrom).blocked()
        client.sendto("for who reads")
        assert reading.result() == (b"for who reads", client.addr)
        client.sendto("the next")
        assert selecting.result() == (server, None)
        assert server.recvfrom(0) == (b"the next", client.addr)


def test_another_thread_is_refused(server: udp.Conn, client: udp.Conn) -> None:
    met: list[str] = []

    def body() -> None:
        for call in (server.recvfrom, server.close, lambda: client.sendto("x"), lambda: udp.bind(LO), lambda: server.limit(1)):
            with pytest.raises(RuntimeError) as info:
                call()
            met.append(str(info.value))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    assert len(met) == 5
    assert all("another thread" in text for text in met)
    assert server.recvfrom(0) == (None, errno.TIMEDOUT)


# ---- the queue and its limit ---------------------------------------------------------


def test_what_is_queued(server: udp.Conn, client: udp.Conn) -> None:
    for text in ("msg1", "", "msg333"):
        client.sendto(text)
    until(lambda: server.unreadbytes() == 10)
    assert [server.recvfrom()[0] for _ in range(3)] == [b"msg1", b"", b"msg333"]
    assert server.unreadbytes() == 0
    assert server.recvfrom(0) == (None, errno.TIMEDOUT)


def drain(conn: udp.Conn) -> list[bytes]:
    """All that is there."""
    got = []
    while (data := conn.recvfrom(50)[0]) is not None:
        got.append(data)
    return got


@pytest.mark.skipif(not hasattr(socket, "SO_DOMAIN"), reason="Linux alone counts what it drops")
@pytest.mark.parametrize("size", [0, 10, 1400, 60_000])
def test_a_flood_is_bounded_and_what_is_dropped_is_counted(size: int) -> None:
    with check(udp.bind(LO, limits=silly.Limits(receive_mark=20_000))) as server, check(udp.connect(server.addr)) as client:
        sent = 3000
        for number in range(sent):
            assert client.sendto(number.to_bytes(4, "big") + bytes(size)) == (True, None)
            if number % 50 == 0:
                turn()
                assert server._socket._size() < 20_000 + size + 260
        turns, dropped = scheduler.loop.turns, server.dropped
        time.sleep(20)
        assert scheduler.loop.turns - turns < 10, "the loop is at rest, though the kernel's buffer is full"
        assert dropped is not None
        assert dropped > 0
        got = drain(server)
        assert len(got) + dropped == sent
        numbers = [int.from_bytes(data[:4], "big") for data in got]
        assert numbers == sorted(set(numbers)), "in their order"
        assert numbers[0] == 0
        assert server.dropped == dropped
        client.sendto("it goes on")
        assert server.recvfrom(WITHIN)[0] == b"it goes on"
        server.close()
        assert server.dropped == dropped, "the number stays"


def test_a_system_that_tells_less(server: udp.Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as an old Linux, and other systems."""
    for number in (None, 250):  # no option of a socket has that number
        monkeypatch.setattr(_datagrams, "_MEMINFO", number)
        assert server.dropped is None

    def refuses(*args: Any) -> bytes:
        raise OSError(os_errno.ENOTTY, "not here")

    monkeypatch.setattr(_datagrams.fcntl, "ioctl", refuses)
    assert server.unsentbytes() == 0


def test_limit(server: udp.Conn, client: udp.Conn) -> None:
    """Receiving pauses when so much is queued, and goes on when half of it was taken."""
    server.limit(1)
    for number in range(5):
        client.sendto(bytes([number]) * 100)
    turn(3)
    assert server.unreadbytes() == 100
    server.limit(1000)
    until(lambda: server.unreadbytes() == 300)
    assert server.recvfrom()[0] == bytes(100)
    turn(3)
    assert server.unreadbytes() == 200, "that is more than half"
    assert [server.recvfrom()[0] for _ in range(4)] == [bytes([number]) * 100 for number in (1, 2, 3, 4)]
    for _ in range(5):
        client.sendto(bytes(100))
    turn(3)
    assert server.unreadbytes() == 300
    server.limit(None)
    until(lambda: server.unreadbytes() == 500)
    server.limit(1)
    client.sendto("x")
    turn(3)
    assert server.unreadbytes() == 500
    assert len(drain(server)) == 6
    for wrong in (0, -1, 2**63, True, "5"):
        with pytest.raises(ValueError, match=r"conn\.limit"):
            server.limit(wrong)  # type: ignore[arg-type]


def test_a_paused_socket_closes(client: udp.Conn, server: udp.Conn) -> None:
    server.limit(1)
    client.sendto("x")
    until(server.unreadbytes)
    assert server._socket._paused
    assert server.close() == (True, None)


def test_the_system_refuses_to_resume(server: udp.Conn, client: udp.Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    server.limit(1)
    for text in ("one", "two"):
        client.sendto(text)
    until(server.unreadbytes)
    monkeypatch.setattr(_datagrams, "AGAIN", 0.0)

    def refuses(*_: object) -> None:
        raise OSError(os_errno.ENOSPC, "too many watches")

    with monkeypatch.context() as full:
        full.setattr(type(scheduler.loop), "register", refuses)
        assert server.recvfrom(0) == (b"one", client.addr)
    assert server.recvfrom(WITHIN) == (b"two", client.addr)


def test_a_flood_starves_nobody(server: udp.Conn, client: udp.Conn) -> None:
    server.limit(10**6)
    for _ in range(150):
        client.sendto("x")
    seen = []
    while server.unreadbytes() < 150:
        turn()
        seen.append(server.unreadbytes())
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= 128, seen


def test_very_many_datagrams_take_no_memory(server: udp.Conn, client: udp.Conn) -> None:
    def exchange(count: int) -> None:
        for _ in range(count):
            for _ in range(50):
                client.sendto(b"x" * 100)
            for _ in range(50):
                assert server.recvfrom(WITHIN) == (b"x" * 100, client.addr)

    exchange(20)
    grown = []
    tracemalloc.start()
    try:
        for _ in range(3):
            before = tracemalloc.get_traced_memory()[0]
            exchange(20)
            grown.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    assert min(grown) < 2000, grown
    allocated = sys.getallocatedblocks()
    exchange(1900)
    assert sys.getallocatedblocks() - allocated < 1000
    assert server.dropped in (0, None)
