"""``time.deadline``: it bounds whatever blocks, in its task only, and nothing is lost."""

from __future__ import annotations

import gc
import socket
import threading
import time as os_time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_type_hints

import pytest
from greenlet import GreenletExit

import silly
from silly import errno, task, time
from silly._core import deadline, scheduler
from silly._core.deadline import Deadline
from silly._core.waiting import Waiters
from silly._wire.lines import take
from silly.net import tcp, tls
from silly.net._stream import Stream
from silly.sync import channel

from .children import Child
from .conftest import Logs
from .net import authorities
from .net.support import Job, never_answers, until

SOON = 5
"""Milliseconds: a deadline that runs out."""
LONG = 600_000
"""Milliseconds: a deadline that doesn't."""


@contextmanager
def over() -> Iterator[Deadline]:
    """A block whose deadline has run out already."""
    with time.deadline(0) as limit:
        spin(scheduler.expired)
        yield limit


def spin(condition: Callable[[], object]) -> None:
    """Yields until the condition is true: what a deadline does not end."""
    end = os_time.monotonic() + 20
    while not condition():
        time.sleep(0)
        if os_time.monotonic() > end:
            raise AssertionError("the condition never came true")


@pytest.fixture
def pair() -> Iterator[tuple[tcp.Conn, tcp.Conn]]:
    conns = []
    for sock in socket.socketpair():
        sock.setblocking(False)
        conns.append(tcp.Conn(Stream(sock, "the peer")))
    a, b = conns
    yield a, b
    for conn in conns:
        conn._stream.abort()


def ran_out(what: str, ms: float = SOON) -> str:
    return f"{what}: the deadline of {ms} ms ran out"


# ---- what it bounds ---------------------------------------------------------------------------------------------------


def test_calls_without_an_error_in_their_result_raise() -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: time.sleep(LONG), "time.sleep"),
        (task.wait, "task.wait"),
    ]
    for call, what in calls:
        with time.deadline(SOON) as limit, pytest.raises(TimeoutError) as caught:
            call()
        assert str(caught.value) == ran_out(what)
        assert limit.expired


def test_in_a_task_as_in_the_main_program() -> None:
    def body() -> str:
        with time.deadline(SOON), pytest.raises(TimeoutError) as caught:
            time.sleep(LONG)
        time.sleep(1)
        return str(caught.value)

    assert Job(body).result() == ran_out("time.sleep")


def test_a_task_that_lets_it_out_ends_with_it(logs: Logs) -> None:
    logs.expect(r"(?s)exception in <task .*deadline of 5 ms ran out")

    def body() -> None:
        with time.deadline(SOON):
            time.sleep(LONG)

    me = task.fork(body)
    until(lambda: task.status(me) is None)


def test_pop() -> None:
    chan = channel.new()
    with time.deadline(SOON) as limit:
        assert chan.pop() == (None, ran_out("channel.pop"))
        assert limit.expired
        assert chan.pop() == (None, ran_out("channel.pop"))
        chan.push("x")
        assert chan.pop() == ("x", None), "what need not wait goes on"
    task.fork(lambda: chan.push("y"))
    assert chan.pop() == ("y", None)


def test_the_text_has_the_time_as_given() -> None:
    chan = channel.new()
    for ms, text in ((0, "0"), (2.5, "2.5"), (1, "1")):
        with time.deadline(ms):
            assert chan.pop() == (None, f"channel.pop: the deadline of {text} ms ran out")
    assert Deadline(86_400_000).text("x") == "x: the deadline of 86400000 ms ran out"


def test_a_read_keeps_what_arrived(pair: tuple[tcp.Conn, tcp.Conn]) -> None:
    a, b = pair
    b.write("hel")
    with time.deadline(SOON):
        assert a.read(5) == (None, errno.TIMEDOUT)
        assert a.read("\n") == (None, errno.TIMEDOUT)
        assert a.read(1) == (b"h", None)
    b.write("lo\n")
    assert a.read("\n") == (b"ello\n", None)
    assert a.isalive()


def test_the_sooner_of_a_deadline_and_a_read_s_timeout(pair: tuple[tcp.Conn, tcp.Conn]) -> None:
    a, b = pair
    with time.deadline(LONG) as limit:
        assert a.read(1, timeout=SOON) == (None, errno.TIMEDOUT)
        assert not limit.expired
        assert not scheduler.expired()
        b.write("x")
        assert a.read(1, timeout=LONG) == (b"x", None)
    with time.deadline(SOON) as limit:
        assert a.read(1, timeout=LONG) == (None, errno.TIMEDOUT)
        assert limit.expired
        assert scheduler.expired()
    assert a.read(1, timeout=SOON) == (None, errno.TIMEDOUT)
    a._stream._on_deadline(None)  # the timer of the long one, while no task reads
    b.write("y")
    assert a.read(1) == (b"y", None)


def test_a_write_past_the_mark(pair: tuple[tcp.Conn, tcp.Conn]) -> None:
    a, b = pair
    chunk = b"x" * 300_000
    most = a._stream.limits.unsent
    total = 0
    with time.deadline(SOON):
        while True:
            total += len(chunk)  # the one that met the deadline was queued as well
            ok, err = a.write(chunk)
            if not ok:
                break
        assert err == errno.TIMEDOUT
        unsent = a.unsentbytes()
        assert most < unsent <= most + len(chunk)
        for _ in range(5):
            assert a.write(chunk) == (False, errno.TIMEDOUT)
            assert a.write([chunk, chunk]) == (False, errno.TIMEDOUT)
            assert a._stream.writev([b"head", memoryview(chunk)]) == errno.TIMEDOUT
        assert a.unsentbytes() == unsent, "a refused write queues nothing"
        assert a.isalive()
    got = 0
    while got < total:
        data, err = b.read(min(total - got, 65536))
        assert err is None
        got += len(data)
    assert a.write("end") == (True, None)
    assert b.read(3) == (b"end", None)


def test_pieces_are_queued_as_a_whole_or_not_at_all(pair: tuple[tcp.Conn, tcp.Conn]) -> None:
    """The first piece may be what reaches the mark."""
    a, b = pair
    stream = a._stream
    sent = 0
    with over():
        while not stream.blocked:
            sent += 60_000
            assert stream.write(b"x" * 60_000) is None
        room = stream.limits.unsent - stream.unsent
        assert room > 0
        assert stream.writev([b"y" * (room + 1), b"z" * 10]) == errno.TIMEDOUT
        assert stream.unsent == stream.limits.unsent + 11, "queued, and told that it did not go out in time"
    data, err = b.read(sent + room + 11)
    assert err is None
    assert data == b"x" * sent + b"y" * (room + 1) + b"z" * 10


def test_an_address_that_never_answers() -> None:
    with never_answers() as address:
        registered = scheduler.loop.registered()
        with time.deadline(SOON):
            for _ in range(2):
                assert tcp.connect(f"127.0.0.1:{address[1]}") == (None, errno.TIMEDOUT)
                assert tcp.connect(f"127.0.0.1:{address[1]}", timeout=LONG) == (None, errno.TIMEDOUT)
        assert scheduler.loop.registered() == registered


def test_tls_handshake_with_a_silent_peer(logs: Logs) -> None:
    logs.allow("verify=False")
    peers = channel.new()
    listener, _ = tcp.listen("127.0.0.1:0", peers.push)
    with listener:
        with time.deadline(50):
            assert tls.connect(f"127.0.0.1:{listener.port}", verify=False) == (None, errno.TIMEDOUT)
        peers.pop()[0].close()


def test_a_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def slow(*args: Any) -> Any:
        answer.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        with time.deadline(SOON):
            assert tcp.connect("slow.test:80") == (None, errno.TIMEDOUT)
        assert scheduler.loop.work == 0, "the job is given up"
    finally:
        answer.set()


def test_run_in_the_main_program() -> None:
    script = """
import silly
from silly import task, time
task.fork(lambda: time.sleep(60_000))
try:
    with time.deadline(5):
        silly.run()
except TimeoutError as exc:
    print(exc, flush=True)
    silly.exit()
"""
    with Child("-c", script) as child:
        assert child.line() == "silly.run: the deadline of 5 ms ran out"
        assert child.wait() == 0


def test_a_deadline_around_run_does_not_keep_it() -> None:
    with Child("-c", "import silly\nfrom silly import time\nwith time.deadline(3600_000): silly.run()\nprint('end')") as child:
        assert child.line() == "end"
        assert child.wait() == 0


def test_a_deadline_that_can_wake_a_task_prevents_deadlock() -> None:
    script = """
import silly
from silly import task, time
from silly.sync import channel
def main():
    with time.deadline(5):
        print(channel.new().pop()[1], flush=True)
if __import__("sys").argv[1] == "run":
    silly.run(main)
else:
    main()
"""
    for how in ("run", "plain"):
        with Child("-c", script, how) as child:
            assert child.line() == "channel.pop: the deadline of 5 ms ran out"
            assert child.wait() == 0


# ---- which tasks are bounded ----------------------------------------------------------------------------------------------


def test_a_forked_task_is_not() -> None:
    chan = channel.new()
    with over():
        job = Job(lambda: (scheduler.expired(), chan.pop()))
        spin(lambda: task.status(job.task) == "WAIT")
        chan.push("x")
        spin(lambda: task.status(job.task) is None)
    assert job.result() == (False, ("x", None))


def test_pause_is_not(pair: tuple[tcp.Conn, tcp.Conn]) -> None:
    with over():
        order: list[str] = []
        task.fork(lambda: order.append("task"))
        time.sleep(0)
        assert order == ["task"]


def test_the_next_task_of_the_pooled_greenlet_is_not(logs: Logs) -> None:
    logs.expect("ZeroDivisionError")

    def fails() -> None:
        with over():
            raise ZeroDivisionError

    def exits() -> None:
        with over():
            raise GreenletExit

    def parked() -> None:
        with time.deadline(0):
            task.wait()

    def killed() -> None:
        with time.deadline(LONG):
            task.wait()

    logs.expect("task.wait: the deadline of 0 ms ran out")
    chan = channel.new()
    timers = len(scheduler.loop.timers)
    for body in (fails, exits, parked, killed):
        me = task.fork(body)
        green = scheduler._pool[-1] if scheduler._pool else None
        while task.status(me) is not None:
            time.sleep(0)
            if body is killed and task.status(me) == "WAIT":
                scheduler.loop.post(scheduler.throw, me, GreenletExit())
        assert not me._deadlines
        assert me._over is None
        job = Job(lambda: (scheduler.expired(), chan.pop()))
        job.blocked()
        if green is not None:
            assert job.task._greenlet is green, "the same greenlet"
        chan.push("x")
        assert job.result() == (False, ("x", None))
    assert len(scheduler.loop.timers) == timers


def test_a_block_left_open_in_a_generator_ends_with_its_task() -> None:
    timers = len(scheduler.loop.timers)

    def steps() -> Iterator[int]:
        with time.deadline(LONG):
            yield 1

    kept: list[Iterator[int]] = []

    def body() -> None:
        kept.append(steps())
        next(kept[0])
        assert len(scheduler.loop.timers) == timers + 1

    me = task.fork(body)
    until(lambda: task.status(me) is None)
    assert len(scheduler.loop.timers) == timers
    assert list(kept[0]) == []


def test_blocks_that_end_in_any_order() -> None:
    def bounded(ms: float) -> Iterator[None]:
        with time.deadline(ms):
            yield

    timers = len(scheduler.loop.timers)
    first, second = bounded(0), bounded(LONG)
    next(first)
    next(second)
    spin(scheduler.expired)
    assert list(first) == []
    assert not scheduler.expired()
    time.sleep(1)
    assert list(second) == []
    assert len(scheduler.loop.timers) == timers


def test_not_in_a_callback_of_the_loop_nor_another_thread() -> None:
    caught: list[str] = []

    def enter() -> None:
        try:
            with time.deadline(1):
                pass
        except RuntimeError as exc:
            caught.append(str(exc))

    scheduler.loop.post(enter)
    until(lambda: caught)
    thread = threading.Thread(target=enter, name="another")
    thread.start()
    thread.join()
    assert caught == [
        "time.deadline: no task runs in a callback of the loop (a signal handler, a finalizer or a hook); fork a task instead",
        "time.deadline: called from another thread, 'another'; silly runs only in the thread that imported it, 'MainThread'. "
        "task.call or task.post runs a function there (docs/threads.md); or use the standard library here",
    ]


@pytest.mark.parametrize(
    ("ms", "kind"), [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError)]
)
def test_an_invalid_time(ms: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        time.deadline(ms)


@pytest.mark.parametrize("what", ["a text", 5, ("a", "pair")])
def test_what_a_task_waits_on_may_be_any_object(what: object) -> None:
    """Its ``str`` is in the error, whether the deadline ends the wait or was over before; a stream gives itself."""
    text = f"{what}: the deadline of {SOON} ms ran out"
    with time.deadline(SOON):
        for _ in range(2):
            with pytest.raises(TimeoutError) as caught:
                Waiters[None]().wait(what)
            assert str(caught.value) == text == scheduler.ran_out(what)
    for function in (scheduler.plain_park, scheduler.ran_out, scheduler.not_here, Deadline.text, Waiters.wait):
        assert get_type_hints(function)["what"] is object, function


def test_an_object_is_for_one_block() -> None:
    with time.deadline(LONG) as limit:
        with pytest.raises(RuntimeError, match=r"^time\.deadline: each with block needs"), limit:
            pass
        assert not limit.expired
    with pytest.raises(RuntimeError, match=r"^time\.deadline: each with block needs"), limit:
        pass


# ---- nesting ----------------------------------------------------------------------------------------------------------


def test_an_inner_shorter_one() -> None:
    chan = channel.new()
    with time.deadline(LONG) as outer:
        with time.deadline(SOON) as inner:
            assert chan.pop() == (None, ran_out("channel.pop"))
        assert inner.expired
        assert not outer.expired
        time.sleep(1)
        assert not scheduler.expired()


def test_an_inner_longer_one_does_not_extend() -> None:
    chan = channel.new()
    with time.deadline(SOON) as outer:
        with time.deadline(LONG) as inner:
            assert chan.pop() == (None, ran_out("channel.pop"))
        assert not inner.expired
        assert outer.expired
        with time.deadline(LONG):
            assert chan.pop() == (None, ran_out("channel.pop")), "entered when the outer one was over"
        assert chan.pop() == (None, ran_out("channel.pop"))
    time.sleep(1)


def test_both_run_out() -> None:
    chan = channel.new()
    with time.deadline(SOON) as outer:
        with time.deadline(1) as inner:
            assert chan.pop() == (None, ran_out("channel.pop", 1))
            spin(lambda: outer._over)
            assert chan.pop() == (None, ran_out("channel.pop", 1)), "the one that struck"
        assert inner.expired
        assert chan.pop() == (None, ran_out("channel.pop", SOON))
    assert not scheduler.expired()


# ---- nothing is lost --------------------------------------------------------------------------------------------------


def strike(me: task.Task) -> None:
    """The deadline of ``me`` runs out now."""
    assert me._deadlines
    limit = me._deadlines[-1]
    scheduler.loop.timers.cancel(limit._timer)
    deadline._strike(limit)


def test_an_item_handed_over_before_it_strikes_is_popped() -> None:
    chan = channel.new()

    def body() -> list[Any]:
        with time.deadline(LONG):
            return [chan.pop(), scheduler.expired(), chan.pop()]

    job = Job(body).blocked()
    chan.push("x")
    assert task.status(job.task) == "READY"
    strike(job.task)
    assert job.result() == [("x", None), True, (None, ran_out("channel.pop", LONG))]


def test_an_item_pushed_after_it_struck_stays_queued() -> None:
    chan = channel.new()

    def body() -> Any:
        with time.deadline(LONG):
            return chan.pop()

    job = Job(body).blocked()
    scheduler.loop.post(lambda: (strike(job.task), chan.push("x")))
    assert job.result() == (None, ran_out("channel.pop", LONG))
    assert chan.pop() == ("x", None)


def test_data_that_came_before_it_strikes_is_read(pair: tuple[tcp.Conn, tcp.Conn]) -> None:
    a, b = pair

    def body() -> Any:
        with time.deadline(LONG):
            return a.read(1), a.read(1)

    job = Job(body).blocked()
    a._stream.buf += b"x"
    a._stream._arrived(1)
    assert task.status(job.task) == "READY"
    strike(job.task)
    assert job.result() == ((b"x", None), (None, errno.TIMEDOUT))
    b.write("y")
    assert a.read(1) == (b"y", None)


def test_a_task_that_yields_or_computes_is_met_when_it_blocks() -> None:
    def body(wait: Callable[[], object]) -> Any:
        with time.deadline(1):
            wait()
            return channel.new().pop()

    expected = (None, ran_out("channel.pop", 1))
    assert Job(lambda: body(lambda: spin(scheduler.expired))).result() == expected
    assert Job(lambda: body(lambda: os_time.sleep(0.005))).result() == expected


def test_expired_follows_the_clock_in_the_block_and_stays_after_it() -> None:
    with time.deadline(1) as limit:
        while not limit.expired:  # which never blocks
            os_time.sleep(0.001)
    assert limit.expired
    with time.deadline(LONG) as limit:
        assert not limit.expired
    assert not limit.expired


def test_a_finally_block_that_blocks_meets_it_again_at_once() -> None:
    met: list[str] = []

    def body() -> None:
        with time.deadline(SOON):
            try:
                time.sleep(LONG)
            finally:
                try:
                    task.wait()
                except TimeoutError as exc:
                    met.append(str(exc))

    with pytest.raises(TimeoutError, match=r"time\.sleep"):
        Job(body).result()
    assert met == [ran_out("task.wait")]


def test_greenletexit_and_keyboardinterrupt_win() -> None:
    def body(kind: type[BaseException]) -> str:
        with time.deadline(LONG):
            try:
                task.wait()
            except kind:
                return "ended"
        return "not reached"

    for kind in (GreenletExit, KeyboardInterrupt):
        job = Job(lambda kind=kind: body(kind)).blocked()
        scheduler.loop.post(scheduler.throw, job.task, kind())
        assert job.result() == "ended"


def test_ran_out_is_for_a_deadline_that_struck() -> None:
    assert not scheduler.expired()
    with pytest.raises(RuntimeError, match="no deadline has run out"):
        scheduler.ran_out("sock.read")
    with over():
        assert scheduler.expired()
        assert scheduler.ran_out("sock.read") == ran_out("sock.read", 0)
    seen: list[bool] = []
    scheduler.loop.post(lambda: seen.append(scheduler.expired()))
    until(lambda: seen)
    assert seen == [False]


# ---- what it leaves -----------------------------------------------------------------------------------------------------


def test_timers_are_as_before() -> None:
    before = len(scheduler.loop.timers)
    with time.deadline(LONG), time.deadline(SOON):
        assert len(scheduler.loop.timers) == before + 2
        channel.new().pop()
        assert len(scheduler.loop.timers) == before + 1
    assert len(scheduler.loop.timers) == before
    with pytest.raises(ZeroDivisionError), time.deadline(LONG):
        raise ZeroDivisionError
    assert len(scheduler.loop.timers) == before


def test_cancelled_ones_don_t_stay_in_memory() -> None:
    for _ in range(10_000):
        with time.deadline(LONG):
            pass
    assert len(scheduler.loop.timers.heap) < 1000
    gc.collect()
    assert sum(isinstance(each, Deadline) for each in gc.get_objects()) < 100


def test_inspect_shows_the_deadline() -> None:
    def body() -> None:
        with time.deadline(LONG), time.deadline(LONG + 1):
            channel.new().pop()

    job = Job(body).blocked()
    assert task.inspect()[job.task]["waits"] == "channel.pop, within a deadline of 600000 ms"
    assert task.inspect()[job.task]["status"] == "WAIT"
    scheduler.loop.post(scheduler.throw, job.task, GreenletExit())
    with pytest.raises(GreenletExit):
        job.result()
    with over():
        assert task.inspect()[task.running()]["waits"] == "nothing: it runs"


# ---- the end of the process -----------------------------------------------------------------------------------------------


EXIT = """
import silly, sys
from silly import errno, task, time
from silly.sync import channel

def bounded():
    with time.deadline(1) as limit:
        try:
            channel.new().pop()
            while not limit.expired: pass
            {before}
            silly.exit(3)
        finally:
            try:
                print("finally", flush=True)
                print(channel.new().pop()[0], flush=True)
            finally:
                print("end", flush=True)

def waiting():
    with time.deadline(60_000):
        try:
            task.wait()
        except BaseException as exc:
            print(type(exc).__name__, flush=True)
            raise

task.fork(waiting)
time.sleep(0)
{how}
"""


@pytest.mark.parametrize("before", ["pass", "time.sleep(0)"])
@pytest.mark.parametrize("how", ["silly.run(bounded)", "bounded()"])
def test_exit_in_an_expired_block(how: str, before: str) -> None:
    """The end of the process comes first, and its order is the usual one."""
    with Child("-c", EXIT.format(how=how, before=before)) as child:
        lines = [child.line() for _ in range(4)]
        assert child.wait() == 3, child.errors()
        assert sorted(lines) == sorted(["GreenletExit", "finally", "None", "end"]), child.errors()
        assert "Traceback" not in child.errors()


def test_the_main_program_s_runs_out_while_the_process_ends() -> None:
    script = """
import silly, time as os_time
from silly import task, time
def slow():
    try:
        task.wait()
    finally:
        os_time.sleep(0.05)
        time.sleep(0)
        time.sleep(0)
task.fork(slow)
task.fork(lambda: silly.exit(5))
with time.deadline(20):
    silly.run()
"""
    with Child("-c", script) as child:
        assert child.wait() == 5, child.errors()
        assert child.errors() == ""


def test_one_of_a_task_that_a_script_leaves_waiting() -> None:
    """What is written is delivered at exit, with a turning loop that runs no task."""
    script = """
import socket
from silly import task, time
from silly.net import tcp
from silly.sync import channel
def bounded():
    with time.deadline(20):
        channel.new().pop()
        print("never", flush=True)
listener, err = tcp.listen("127.0.0.1:0", lambda conn: task.wait())
peer = socket.socket()
peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
peer.bind(("127.0.0.1", 0)); peer.listen()
task.fork(bounded)
conn, err = tcp.connect("127.0.0.1:%d" % peer.getsockname()[1])
conn._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
conn.write(b"x" * 900_000)
print("unsent", conn._stream.unsent > 500_000, flush=True)
import threading
def read():
    import time
    time.sleep(0.2)
    got, _ = peer.accept()
    total = 0
    while data := got.recv(65536): total += len(data)
    print(total, flush=True)
thread = threading.Thread(target=read); thread.daemon = True; thread.start()
listener.close()
import atexit
atexit._run_exitfuncs()
thread.join()
"""
    with Child("-c", script) as child:
        assert child.line() == "unsent True"
        assert child.line() == "900000", child.errors()


def test_silly_pcall_returns_the_error() -> None:
    def body() -> None:
        with time.deadline(SOON):
            time.sleep(LONG)

    ok, text = silly.pcall(body)
    assert not ok
    assert ran_out("time.sleep") in text


def test_a_tls_writer_past_the_mark_is_refused_before_there_is_a_record() -> None:
    """Else who ignores the error would fill the memory: a record can't be left out any more."""
    pem, cert = authorities.root().pem, authorities.server().entry
    peers = channel.new()
    listener, err = tls.listen("127.0.0.1:0", [cert], peers.push)
    assert err is None
    conn, err = tls.connect(f"127.0.0.1:{listener.port}", ca=pem)
    assert err is None
    peer, _ = peers.pop()
    chunk = b"x" * 300_000
    with time.deadline(50):
        while result := conn.write(chunk):
            pass
        assert result == (False, errno.TIMEDOUT)
        unsent = conn.unsentbytes()
        for _ in range(5):
            assert conn.write(chunk) == (False, errno.TIMEDOUT)
        assert conn.unsentbytes() == unsent
    ended = Job(lambda: conn.write("end"))
    got = b""
    while not got.endswith(b"end"):
        data, err = peer.read(1, 10_000)
        assert err is None
        got += data + take(peer._stream.buf, peer.unreadbytes())
    assert ended.result() == (True, None)
    assert (len(got) - 3) % len(chunk) == 0
    for each in (conn, peer, listener):
        each.close()
