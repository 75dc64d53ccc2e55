"""``bridge.descriptor``, and the records of ``_core/descriptor.py`` on which it stands."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import bridge, errno, task, time
from silly._core import descriptor as core
from silly._core import scheduler
from silly._core.descriptor import Descriptor
from silly.bridge.descriptor import READ, WRITE, forget, wait
from silly.net import tcp
from silly.testing import _left

from ..children import Child, in_thread
from ..net.support import until
from ..test_task import settle

loop = scheduler.loop


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    for each in (one, two):
        each.setblocking(False)
    with one, two:
        yield one, two
        assert core._records == {}


def fill(sock: socket.socket) -> None:
    """Sends until the kernel takes no more."""
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


def empty(sock: socket.socket) -> None:
    try:
        while sock.recv(1 << 20):
            pass
    except BlockingIOError:
        pass


def waiting(fd: Any, events: int, timeout: float | None = None) -> task.Task[Any]:
    """A task that waits."""
    t = task.fork(wait, fd, events, timeout)
    settle()
    assert not t.done
    return t


def outcome(t: task.Task[Any]) -> Any:
    return t.join(5000)[0]


# ---- what it returns -----------------------------------------------------------------


def test_what_is_ready_at_once(pair: Any) -> None:
    one, two = pair
    assert wait(one, WRITE) == (WRITE, None)
    assert wait(one.fileno(), READ | WRITE) == (WRITE, None)
    two.send(b"x")
    assert wait(one, READ) == (READ, None)
    assert wait(one, READ | WRITE) == (READ | WRITE, None)


def test_what_comes(pair: Any) -> None:
    one, two = pair
    fill(one)
    reader, writer = waiting(one, READ), waiting(one, WRITE)
    two.send(b"x")
    assert outcome(reader) == (READ, None)
    assert not writer.done
    empty(two)
    assert outcome(writer) == (WRITE, None)


def test_either_of_two(pair: Any) -> None:
    one, two = pair
    fill(one)
    t = waiting(one, READ | WRITE)
    two.send(b"x")
    assert outcome(t) == (READ, None)
    empty(one)
    t = waiting(one, READ | WRITE)
    empty(two)
    assert outcome(t) == (WRITE, None)


def test_the_end_of_the_peer_is_something_to_read(pair: Any) -> None:
    one, two = pair
    t = waiting(one, READ)
    two.close()
    assert outcome(t) == (READ, None)
    assert wait(one, READ | WRITE) == (READ | WRITE, None)


def test_a_file_is_always_ready(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as file:
        assert wait(file, READ | WRITE) == (READ | WRITE, None)


# ---- time ----------------------------------------------------------------------------


@pytest.mark.parametrize("events", [READ, READ | WRITE])
def test_time_runs_out(pair: Any, events: int) -> None:
    fill(pair[0])
    assert wait(pair[0], events, 5) == (None, errno.TIMEDOUT)
    assert wait(pair[0], events, 0) == (None, errno.TIMEDOUT)
    with time.deadline(5) as limit:
        assert wait(pair[0], events) == (None, errno.TIMEDOUT)
        assert wait(pair[0], events, 5000) == (None, errno.TIMEDOUT)
    assert limit.expired


def test_what_is_there_is_in_time(pair: Any) -> None:
    one, two = pair
    two.send(b"x")
    assert wait(one, READ, 0) == (READ, None)


def test_each_waits_for_its_own_time(pair: Any) -> None:
    """With one timer for both."""
    one, _ = pair
    fill(one)
    with silly.testing.clock() as clock:
        ended: list[str] = []

        def waits(name: str, events: int, timeout: float | None) -> None:
            assert wait(one, events, timeout) == (None, errno.TIMEDOUT)
            ended.append(name)

        for first, second in ((100, 50), (50, 100)):
            ended.clear()
            task.fork(waits, "reader", READ, first)
            task.fork(waits, "writer", WRITE, second)
            clock.advance(49)
            assert ended == []
            clock.advance(2)
            assert ended == ["reader" if first < second else "writer"]
            clock.advance(50)
            assert len(ended) == 2


# ---- who waits -----------------------------------------------------------------------


def test_one_task_for_each_event(pair: Any) -> None:
    one, two = pair
    t = waiting(one, READ)
    for events in (READ, READ | WRITE):
        with pytest.raises(RuntimeError, match=rf"descriptor {one.fileno()}: another task already waits"):
            wait(one, events)
    assert wait(one, WRITE) == (WRITE, None)
    two.send(b"x")
    assert outcome(t) == (READ, None)


def test_where_no_task_runs(pair: Any) -> None:
    with pytest.raises(RuntimeError, match=r"bridge\.descriptor\.wait: called from another thread"):
        in_thread(wait, pair[0], READ)
    with pytest.raises(RuntimeError, match=r"bridge\.descriptor\.forget: called from another thread"):
        in_thread(forget, pair[0])
    with pytest.raises(RuntimeError, match=r"bridge\.descriptor\.wait: may wait"), task.no_switch():
        wait(pair[0], WRITE)
    said: list[str] = []

    def callback() -> None:
        try:
            wait(pair[0], READ)
        except RuntimeError as exc:
            said.append(str(exc))

    loop.post(callback)
    until(lambda: said)
    assert "bridge.descriptor.wait: no task runs in a callback of the loop" in said[0]


def test_a_thread_while_a_task_runs(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes nothing of the loop's, not even for a moment."""
    monkeypatch.setattr(type(loop), "register", lambda *args: pytest.fail("registered in a thread"))
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="called from another thread"):
        pool.submit(wait, pair[0], READ, 1000).result()


def test_a_cancel_leaves_nothing_behind(pair: Any) -> None:
    one, two = pair
    fill(one)
    before = loop.registered()
    reader, writer = waiting(one, READ, 60_000), waiting(one, WRITE)
    reader.cancel()
    assert reader.join(5000) == (None, "cancelled")
    assert not writer.done
    reader = waiting(one, READ)
    writer.cancel()
    writer.join()
    two.send(b"x")
    assert outcome(reader) == (READ, None)
    assert loop.registered() == before


def test_a_cancel_before_it_waits(pair: Any) -> None:
    t = task.fork(lambda: (task.running().cancel(), wait(pair[0], READ)))
    assert t.join(5000) == (None, "cancelled")
    assert core._records == {}


def test_the_end_of_the_process() -> None:
    """A task that waits keeps the process, and its end ends the wait."""
    code = """
import os, silly
from silly import bridge, task, time

reader, writer = os.pipe()

def waits():
    try:
        print(bridge.descriptor.wait(reader, bridge.descriptor.READ), flush=True)
        bridge.descriptor.wait(reader, bridge.descriptor.WRITE)
    finally:
        print(bridge.descriptor.wait(reader, bridge.descriptor.WRITE, 1), flush=True)

def main():
    time.sleep(1)
    os.write(writer, b"x")
    time.sleep(1)
    silly.exit(3)

task.fork(waits)
task.fork(main)
silly.run()
"""
    with Child("-c", code) as child:
        assert (child.line(), child.line()) == ("(1, None)", "(None, 'Operation timed out (110)')")
        assert child.wait() == 3


# ---- closing -------------------------------------------------------------------------


def test_forget_ends_every_wait(pair: Any) -> None:
    fill(pair[0])
    reader, writer = waiting(pair[0], READ), waiting(pair[0], WRITE)
    forget(pair[0])
    assert outcome(reader) == outcome(writer) == (None, errno.CLOSED)
    both = waiting(pair[0], READ | WRITE)
    forget(pair[0].fileno())
    assert outcome(both) == (None, errno.CLOSED)
    forget(pair[0])  # nobody waits
    pair[0].close()
    forget(pair[0])  # nor can anybody


@pytest.mark.parametrize("events", [READ, WRITE])
def test_a_number_that_is_another_descriptor_by_now(pair: Any, events: int) -> None:
    """The program closed the descriptor and has not called ``forget``."""
    one, _ = pair
    t = waiting(one, READ)
    number = one.fileno()
    one.close()
    other, peer = socket.socketpair()
    with other, peer:
        assert other.fileno() == number
        peer.send(b"x")
        assert wait(other, events, 5000) == (events, None)
        assert outcome(t) == (None, errno.CLOSED)


def test_closed_while_a_task_waits_and_then_cancelled(pair: Any) -> None:
    one, _ = pair
    reader, writer = waiting(one, READ), None
    fill(one)
    writer = waiting(one, WRITE)
    one.close()
    reader.cancel()
    assert reader.join(5000) == (None, "cancelled")
    assert outcome(writer) == (None, errno.CLOSED)


# ---- wrong arguments -----------------------------------------------------------------


def test_wrong_arguments(pair: Any) -> None:
    one, _ = pair
    for fd, kind, words in (
        ("7", TypeError, r"takes a descriptor, or an object with fileno\(\), not str"),
        (True, TypeError, "takes a descriptor, not bool"),
        (-1, ValueError, "-1 is not an open descriptor"),
        (2**40, ValueError, "1099511627776 is not an open descriptor"),
        (1 << 20, ValueError, "1048576 is not an open descriptor"),
    ):
        with pytest.raises(kind, match=rf"bridge\.descriptor\.wait:? {words}"):
            wait(fd, READ)  # type: ignore[arg-type]
    for events in (0, 2, 8, READ | 2, "r"):
        with pytest.raises(ValueError, match=r"the events are READ, WRITE or READ \| WRITE"):
            wait(one, events)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the time-out"):
        wait(one, READ, -1)
    one.close()
    with pytest.raises(ValueError, match="-1 is not an open descriptor"):
        wait(one, READ)


def test_a_descriptor_of_our_own() -> None:
    with silly.check(tcp.listen(addr="127.0.0.1:0", accept=lambda conn: None)) as listener:
        fd = listener._bound.socks[0].fileno()  # type: ignore[union-attr]
        with pytest.raises(ValueError, match=rf"silly itself waits for descriptor {fd}: use its connection"):
            wait(fd, READ)


# ---- registered for good -------------------------------------------------------------


@pytest.fixture(params=["edge", "level"])
def record(request: pytest.FixtureRequest, pair: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Descriptor]:
    """What the socket bridge uses; without edge-triggering the same calls do the same."""
    if request.param == "level":
        monkeypatch.setattr(core, "EDGE", 0)
    elif not core.EDGE:
        pytest.skip("this system has no edge-triggering")
    record = Descriptor(pair[0].fileno(), edge=True)
    assert record._edge is (request.param == "edge")
    yield record
    record.forget()


def test_it_is_registered_once(record: Descriptor, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("register", "modify", "unregister"):
        plain = getattr(type(loop), name)
        monkeypatch.setattr(type(loop), name, lambda *args, plain=plain, name=name: calls.append(name) or plain(*args))
    for number in range(5):
        pair[1].send(b"%d" % number)
        assert record.wait(READ, "a test") == READ
        assert pair[0].recv(10) == b"%d" % number
    assert calls == (["register"] if record._edge else ["register", "unregister"] * 5)


def test_who_has_not_tried_before_says_so(record: Descriptor, pair: Any) -> None:
    """An edge that has passed is seen again."""
    one, two = pair
    two.send(b"x")
    assert record.wait(READ, "a test") == READ
    assert wait(one, READ, 5000) == (READ, None)
    assert wait(one, READ, 5000) == (READ, None)
    assert wait(one, WRITE, 5000) == (WRITE, None)


def test_a_second_record_ends_no_wait_of_the_first(record: Descriptor, pair: Any) -> None:
    fill(pair[0])
    t = waiting(pair[0], WRITE)
    with pytest.raises(RuntimeError, match="a test: another task waits for the same descriptor, by its number"):
        record.wait(READ, "a test")
    empty(pair[1])
    assert outcome(t) == (WRITE, None)


def test_it_counts_as_left_until_it_is_forgotten(record: Descriptor, pair: Any) -> None:
    before = _left.found()
    assert record.wait(WRITE, "a test") == WRITE
    left = _left.left(before)
    assert (left is not None) is record._edge
    if left is not None:
        assert f"the wait for descriptor {record.fd}" in left
    record.forget()
    assert _left.left(before) is None


def test_a_deadline_that_comes_later_sets_no_timer(record: Descriptor, pair: Any) -> None:
    now = core._loop.busy_since or time.monotonic() / 1000
    for number in range(3):
        pair[1].send(b"x")
        assert record.wait(READ, "a test", now + 60 + number) == READ
    assert len([timer for timer in loop.timers._internal if timer.callback == record._on_timer]) == int(record._edge)


def test_in_a_child_of_fork(record: Descriptor, pair: Any) -> None:
    code = f"""
import os, socket, silly
from silly._core import descriptor
if {record._edge!r} is False:
    descriptor.EDGE = 0
one, two = socket.socketpair()
record = descriptor.Descriptor(one.fileno(), edge=True)
record.wait(descriptor.WRITE, "a test")
if os.fork() == 0:
    record.forget()
    one.close()
    os._exit(len(descriptor._records))
print(os.waitstatus_to_exitcode(os.wait()[1]))
two.send(b"x")
print(record.wait(descriptor.READ, "a test"))
"""
    with Child("-c", code) as child:
        assert (child.line(), child.line(), child.wait()) == ("0", "1", 0)


# ---- in the long run -----------------------------------------------------------------


def test_many_waits_leave_nothing_behind(pair: Any) -> None:
    one, _ = pair
    before = _left.found()
    for number in range(10_000):
        assert wait(one, WRITE, 1000 if number % 2 else None) == (WRITE, None)
    assert _left.left(before) is None
    assert len(loop.timers.heap) < 100


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")
def test_a_poller_of_another_library() -> None:
    """An epoll descriptor, which is ready when one of its own is: this is how other event loops run here."""
    with select.epoll() as epoll:
        reader, writer = os.pipe()
        epoll.register(reader, select.EPOLLIN)
        t = waiting(epoll, READ)
        os.write(writer, b"x")
        assert outcome(t) == (READ, None)
        assert epoll.poll(0) == [(reader, select.EPOLLIN)]
        os.close(reader)
        os.close(writer)


def test_the_modules_load_when_they_are_used() -> None:
    with Child("-c", "import silly.bridge, sys; print('silly.bridge.descriptor' in sys.modules)") as child:
        assert (child.line(), child.wait()) == ("False", 0)
    with pytest.raises(AttributeError, match="no attribute 'gevent'"):
        bridge.gevent
