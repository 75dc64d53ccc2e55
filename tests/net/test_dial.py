"""Connecting by name: look-ups in worker threads, and the race of the addresses (RFC 8305)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import errno, task, time
from silly._core import scheduler, worker
from silly.net import _dial, http, tcp
from silly.net._dial import interleave
from silly.sync import channel

from ..helpers import asking
from .support import Job, has_ipv6, never_answers, until

V4, V6 = socket.AF_INET, socket.AF_INET6
needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="THIS MACHINE HAS NO IPv6 LOOPBACK: races of families are not tested")


@pytest.fixture
def server() -> Iterator[Any]:
    listener, _ = tcp.listen("127.0.0.1:0", lambda conn: conn.write(conn.read("\n")[0]))
    yield V4, ("127.0.0.1", listener.port)
    listener.close()


@pytest.fixture
def dead() -> Iterator[Any]:
    """Makes addresses that refuse a connection."""
    bound = []

    def make(family: int = V4) -> Any:
        sock = socket.socket(family)
        bound.append(sock)
        sock.bind(("127.0.0.1" if family == V4 else "::1", 0))  # taken, and not listening
        return family, sock.getsockname()

    yield make
    for sock in bound:
        sock.close()


@pytest.fixture
def hanging() -> Iterator[Any]:
    """Makes addresses that never answer."""
    with ExitStack() as stack:
        yield lambda family=V4: (family, stack.enter_context(never_answers(family)))


@pytest.fixture
def no_stagger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt starts beside the first only when that has failed, or never."""
    monkeypatch.setattr(_dial, "STAGGER", 3600.0)


def echo(conn: Any) -> bool:
    with conn:
        conn.write("hello\n")
        return conn.read("\n") == (b"hello\n", None)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- the order of the addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ("", ""),
        ("a", "a"),
        ("ab", "ab"),
        ("aA", "aA"),
        ("abAB", "aAbB"),
        ("ABab", "AaBb"),
        ("abcA", "aAbc"),
        ("aABC", "aABC"),
        ("AaBbC", "AaBbC"),
        ("abcABCDE", "aAbBcCDE"),
    ],
)
def test_interleave(found: str, order: str) -> None:
    """The families take turns, the first one's first; within a family the order stays (RFC 8305, section 4)."""

    def addresses(names: str) -> list[Any]:
        return [(V4 if name.islower() else V6, name) for name in names]

    assert interleave(addresses(found)) == addresses(order)


# ---- races ------------------------------------------------------------------------------------------------------------


def test_one_address(names: dict[str, Any], server: Any) -> None:
    names["one.test"] = [server]
    conn, err = tcp.connect("one.test:80", timeout=10_000)
    assert err is None
    assert conn.remoteaddr == "one.test:80"
    assert echo(conn)


@needs_ipv6
@pytest.mark.usefixtures("no_stagger")
def test_a_refused_address_makes_way_at_once(names: dict[str, Any], server: Any, dead: Any) -> None:
    names["race.test"] = [dead(V6), dead(V6), server]
    conn, err = tcp.connect("race.test:80", timeout=10_000)
    assert err is None
    assert echo(conn)


@needs_ipv6
def test_a_hanging_address_makes_way_after_the_stagger(
    names: dict[str, Any], server: Any, hanging: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dial, "STAGGER", 0.02)
    names["race.test"] = [hanging(V6), hanging(V6), server]
    before = descriptors()
    conn, err = tcp.connect("race.test:80", timeout=10_000)
    assert err is None
    assert descriptors() <= before + 2  # the winner, maybe the server's end of it, and no loser
    assert echo(conn)


@pytest.mark.usefixtures("no_stagger")
def test_an_attempt_has_the_stagger_for_itself(names: dict[str, Any], server: Any, hanging: Any) -> None:
    names["race.test"] = [hanging(), server]
    assert tcp.connect("race.test:80", timeout=50) == (None, errno.TIMEDOUT)


def test_the_first_may_still_win(
    names: dict[str, Any], server: Any, hanging: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts go on side by side: a later one doesn't end an earlier one."""
    monkeypatch.setattr(_dial, "STAGGER", 0.0)
    accepted = channel.new()
    listener, _ = tcp.listen("127.0.0.1:0", accepted.push)
    names["race.test"] = [(V4, ("127.0.0.1", listener.port)), hanging(), hanging()]
    with listener:
        conn, err = tcp.connect("race.test:80", timeout=10_000)
        assert err is None
        peer, _ = accepted.pop()
        conn.write("x")
        assert peer.read(1) == (b"x", None)
        conn.close()
        peer.close()


def test_two_that_connect_before_the_task_runs() -> None:
    """One wins; the other is closed."""
    race = _dial._Race([], None, None)
    first, second = socket.socketpair()

    def finish() -> None:
        race._finish(first)
        race._finish(second)

    scheduler.loop.post(finish)
    with first:
        assert race._waiting.wait("the race") is first
        assert second.fileno() == -1
        assert first.fileno() != -1


def test_one_that_is_ended_once_it_is_connected(hanging: Any) -> None:
    """A connection that no task takes is closed."""
    _, (host, port) = hanging()
    connecting = Job(lambda: tcp.connect(f"{host}:{port}")).blocked()
    race = next(each for each in scheduler.loop.handlers if isinstance(each, _dial._Race))
    connected, other = socket.socketpair()
    race._finish(connected)
    scheduler._ready.remove(connecting.task)
    connecting.kill()
    assert connected.fileno() == -1
    other.close()


@needs_ipv6
def test_all_fail(names: dict[str, Any], dead: Any) -> None:
    """The error is that of the first address."""
    names["dead.test"] = [dead(V6), dead(), dead(V6)]
    assert tcp.connect("dead.test:80", timeout=10_000) == (None, errno.CONNREFUSED)
    names["mixed.test"] = [(V4, ("255.255.255.255", 9)), dead(V6)]
    ok, err = tcp.connect("mixed.test:80", timeout=10_000)
    assert ok is None
    assert err in (errno.NETUNREACH, errno.ACCES, errno.ADDRNOTAVAIL, errno.INVAL)


def test_a_family_that_the_machine_lacks(names: dict[str, Any], server: Any) -> None:
    names["odd.test"] = [(12345, ("x", 1)), server]
    conn, err = tcp.connect("odd.test:80", timeout=10_000)
    assert err is None
    assert echo(conn)


def test_no_descriptors_for_attempts(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    assert tcp.connect(f"127.0.0.1:{server[1][1]}") == (None, errno.MFILE)


def test_timeout_closes_every_attempt(names: dict[str, Any], hanging: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "STAGGER", 0.0)
    names["slow.test"] = [hanging(), hanging(), hanging()]
    before, registered = descriptors(), scheduler.loop.registered()
    connecting = Job(lambda: tcp.connect("slow.test:80", timeout=500))
    until(lambda: scheduler.loop.registered() == registered + 3)
    assert connecting.result() == (None, errno.TIMEDOUT)
    assert descriptors() == before
    assert scheduler.loop.registered() == registered


def test_greenletexit_closes_every_attempt(names: dict[str, Any], hanging: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "STAGGER", 0.0)
    names["slow.test"] = [hanging(), hanging()]
    before, registered = descriptors(), scheduler.loop.registered()
    for timeout in (None, 60_000):
        connecting = Job(lambda timeout=timeout: tcp.connect("slow.test:80", timeout=timeout))
        until(lambda: scheduler.loop.registered() == registered + 2)
        connecting.kill()
        assert descriptors() == before
        assert scheduler.loop.registered() == registered


# ---- looking up -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exc", [socket.gaierror(socket.EAI_NONAME, "no name"), socket.gaierror(socket.EAI_AGAIN, "later"), OSError(24, "files")]
)
def test_lookup_error(names: dict[str, Any], exc: Exception) -> None:
    names["none.test"] = exc
    assert tcp.connect("none.test:80") == (None, errno.RESOLVE)


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "x." * 200])
def test_lookup_of_an_invalid_name(name: str) -> None:
    assert tcp.connect(f"{name}:80", timeout=10_000) == (None, errno.RESOLVE)


def test_lookup_bug_is_not_hidden(names: dict[str, Any]) -> None:
    names["bug.test"] = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        tcp.connect("bug.test:80")


@pytest.fixture
def slow(names: dict[str, Any], server: Any) -> Iterator[Callable[[], None]]:
    """A name server that answers when told to."""
    answer = threading.Event()

    def lookup() -> Any:
        answer.wait(30)
        return [server]

    names["slow.test"] = lookup
    yield answer.set
    answer.set()


def test_lookup_timeout(slow: Any) -> None:
    assert tcp.connect("slow.test:80", timeout=20) == (None, errno.TIMEDOUT)
    assert tcp.connect("slow.test:80", timeout=0) == (None, errno.TIMEDOUT)
    slow()
    until(lambda: scheduler.loop.work == 0)  # the late answers change nothing


def test_a_look_up_that_was_given_up_delays_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def never(*args: Any) -> Any:
        release.wait(30)
        return []

    monkeypatch.setattr(_dial.socket, "getaddrinfo", never)
    try:
        assert tcp.connect("name.test:80", timeout=20) == (None, errno.TIMEDOUT)
        assert scheduler.loop.work == 0
        silly.run(lambda: None)
    finally:
        release.set()


def test_lookup_lets_others_run(slow: Any) -> None:
    connecting = Job(lambda: tcp.connect("slow.test:80", timeout=10_000)).blocked()
    assert "slow.test" in connecting.task.waiting()
    slow()
    conn, err = connecting.result()
    assert err is None
    assert echo(conn)


def test_lookup_cancelled(slow: Any) -> None:
    Job(lambda: tcp.connect("slow.test:80", timeout=10_000)).blocked().kill()
    slow()
    until(lambda: scheduler.loop.work == 0)
    assert not scheduler.tasks


def test_lookups_that_hang_hold_up_neither_others_nor_the_access_log(
    slow: Any, names: dict[str, Any], server: Any, tmp_path: Path
) -> None:
    names["good.test"] = lambda: [server]
    hanging = [Job(lambda: tcp.connect("slow.test:80", timeout=600_000)) for _ in range(worker.lookups.most - 1)]
    until(lambda: not worker.lookups.waiting())
    with time.deadline(20_000):
        conn, err = tcp.connect("good.test:80")
        assert err is None
        assert echo(conn)
        conn.close()
        path = tmp_path / "access.log"
        with http.AccessLog("json", path) as log:
            with asking(lambda stream: stream.respond(200), accesslog=log) as client:
                client.request("/logged")
                assert client.response().status == 200
            until(lambda: "/logged" in path.read_text(), 20_000)
    for job in hanging:
        job.kill()
    slow()


def test_a_queued_lookup_whose_caller_gave_up_is_dropped(slow: Any, names: dict[str, Any]) -> None:
    """By its time-out, by a deadline, or because its task ended."""
    asked: list[int] = []
    names["queued.test"] = lambda: asked.append(1) or OSError()
    hanging = [Job(lambda: tcp.connect("slow.test:80")) for _ in range(worker.lookups.most)]
    until(lambda: scheduler.loop.work == len(hanging) and not worker.lookups.waiting())
    assert tcp.connect("queued.test:80", timeout=20) == (None, errno.TIMEDOUT)
    with time.deadline(20):
        assert tcp.connect("queued.test:80") == (None, errno.TIMEDOUT)
    ended = Job(lambda: tcp.connect("queued.test:80")).blocked()
    assert worker.lookups.waiting() == 1
    ended.kill()
    assert worker.lookups.waiting() == 0
    for job in hanging:
        job.kill()
    slow()
    until(lambda: not worker.lookups._running)
    assert asked == []


def test_an_ipv6_address_asks_no_name_server(slow: Any) -> None:
    hanging = [Job(lambda: tcp.connect("slow.test:80")) for _ in range(worker.lookups.most)]
    until(lambda: scheduler.loop.work == len(hanging))
    assert tcp.connect("[fe80::1%nowhere]:80", timeout=20_000)[1] in (errno.RESOLVE, errno.INVAL)
    assert tcp.connect("[::1]:1", timeout=20_000)[1] not in (None, errno.TIMEDOUT)
    for job in hanging:
        job.kill()
    slow()


def test_many_lookups_at_once(names: dict[str, Any], server: Any) -> None:
    names["many.test"] = lambda: [server]
    done = channel.new()

    def one() -> None:
        conn, err = tcp.connect("many.test:80", timeout=10_000)
        done.push(err is None and echo(conn))

    for _ in range(50):
        task.fork(one)
    assert [done.pop()[0] for _ in range(50)] == [True] * 50
