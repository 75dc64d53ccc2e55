"""``testing.clock``: the virtual clock, with programs such as people write."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time as os_time
from typing import Any

import pytest

import silly
from silly import errno, task, testing, time
from silly._core import loop, scheduler, worker
from silly.net import http, tcp, websocket
from silly.sync import channel

from ..conftest import Logs
from ..net.support import Job

HOUR = 3_600_000


def test_a_retry_with_exponential_back_off_sleeps_for_hours_in_no_time() -> None:
    attempts: list[int] = []

    def fetch() -> tuple[str | None, str | None]:
        attempts.append(clock.elapsed)
        return ("ok", None) if len(attempts) == 12 else (None, errno.CONNREFUSED)

    def retry() -> str:
        pause = 10_000
        while True:
            value, _ = fetch()
            if value is not None:
                return value
            time.sleep(pause)
            pause = min(2 * pause, HOUR)

    with testing.clock() as clock:
        assert retry() == "ok"
        assert clock.elapsed == sum(min(10_000 * 2**i, HOUR) for i in range(11)) > 2 * HOUR
    assert attempts[:4] == [0, 10_000, 30_000, 70_000]


def test_the_clocks_of_the_library_agree() -> None:
    before = time.monotonic()
    with testing.clock() as clock:
        begin, date = time.monotonic(), time.now()
        assert 0 <= begin - before < 60_000
        assert abs(date - os_time.time() * 1000) < 60_000
        for ms in (1, 7, 333, 86_400_000 * 366, 12):
            time.sleep(ms)
        passed = 1 + 7 + 333 + 86_400_000 * 366 + 12
        assert (clock.elapsed, time.monotonic() - begin, time.now() - date) == (passed, passed, passed)


def test_every_whole_millisecond_is_exact() -> None:
    with testing.clock() as clock:
        begin = time.monotonic()
        for count in range(1, 2001):
            time.sleep(1)
            assert (clock.elapsed, time.monotonic() - begin) == (count, count)


def test_the_clock_stands_still_while_a_task_computes() -> None:
    with testing.clock() as clock:
        end = os_time.monotonic() + 0.02
        while os_time.monotonic() < end:
            pass
        time.sleep(0)
        assert clock.elapsed == 0


def test_a_loop_that_polls_until_a_time_is_over_comes_to_its_end() -> None:
    with testing.clock() as clock:
        end = time.monotonic() + 500
        while time.monotonic() < end:
            time.sleep(0)
        assert 500 <= clock.elapsed <= 501


def test_ten_thousand_timers_fire_in_order() -> None:
    order: list[tuple[int, int]] = []
    done = channel.new()

    def fired(due: int) -> None:
        order.append((due, clock.elapsed))
        if len(order) == 10_000:
            done.push(True)

    with testing.clock() as clock:
        for i in range(10_000):
            due = (i * 7919) % 10_007
            time.after(due, fired, due)
        done.pop()
    assert all(due == elapsed for due, elapsed in order)
    assert order == sorted(order)


def test_a_deadline_inside_a_deadline() -> None:
    never = channel.new()
    with testing.clock() as clock:
        with time.deadline(60_000) as outer:
            with time.deadline(HOUR) as inner:
                assert never.pop() == (None, "channel.pop: the deadline of 60000 ms ran out")
            assert clock.elapsed == 60_000
            assert (outer.expired, inner.expired) == (True, False)
        with time.deadline(HOUR) as outer:
            with time.deadline(100) as inner:
                assert never.pop()[0] is None
            assert (outer.expired, inner.expired) == (False, True)
            time.sleep(HOUR - 101)
            assert not outer.expired
            with pytest.raises(TimeoutError):
                time.sleep(2)
        assert clock.elapsed == 60_000 + HOUR


def test_a_time_out_of_a_read_a_join_and_a_timer_together() -> None:
    with testing.clock() as clock:
        client, server = testing.pair()
        sleeper = task.fork(time.sleep, HOUR)
        assert client.read(1, 5000) == (None, errno.TIMEDOUT)
        assert clock.elapsed == 5000
        assert sleeper.join(5000) == (None, "task.join: the time-out of 5000 ms ran out")
        time.after(1000, lambda: server.write("x"))
        assert client.read(1, 5000) == (b"x", None)
        assert clock.elapsed == 11_000
        assert sleeper.join() == (None, None)
        assert clock.elapsed == HOUR
        client.close()
        server.close()


def upgraded(closed: channel.Channel) -> Any:
    """A handler that reads a WebSocket to its end, and then pushes when that was and why."""

    def handler(stream: http.ServerStream) -> None:
        sock = silly.check(websocket.upgrade(stream))
        while True:
            data, typ = sock.read()
            if data is None or typ == "close":
                closed.push((time.monotonic(), sock.cause))
                return

    return handler


def test_keepalive_closes_a_silent_websocket_20_s_after_its_ping(logs: Logs) -> None:
    logs.expect("no pong for 20 s")
    closed = channel.new()
    with testing.clock(), testing.http(upgraded(closed)) as client:
        begin = time.monotonic()
        conn = client.connect()
        conn.write(
            "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert conn.read("\r\n") == (b"HTTP/1.1 101 Switching Protocols\r\n", None)
        (when, cause), _ = closed.pop()
        assert when - begin == 40_000  # the ping is sent after 20 s
        assert "pong" in cause
        conn.close()


def test_keepalive_leaves_a_websocket_that_answers() -> None:
    closed = channel.new()
    with testing.clock() as clock:
        sock = silly.check(testing.websocket(upgraded(closed)))
        time.sleep(24 * HOUR)
        assert sock.write("still there", "text") == (True, None)
        assert sock.latency is not None
        sock.close()
        assert 24 * HOUR <= clock.elapsed < 25 * HOUR


def test_a_client_that_sends_half_a_head_is_given_up(logs: Logs) -> None:
    logs.expect("head not complete within the limit 'head_timeout'")
    limits = silly.Limits()
    with testing.clock() as clock, testing.http(lambda stream: None) as client:
        conn = client.connect()
        conn.write("GET / HTTP/1.1\r\nHo")
        answer, err = conn.read("\r\n", HOUR)
        assert clock.elapsed == limits.head_timeout
        assert answer is None or b" 408 " in answer, (answer, err)
        conn.close()


def trickle(conn: tcp.Conn) -> None:
    while conn.write(b"x"):
        time.sleep(1000)


def test_a_rate_limit_follows(logs: Logs) -> None:
    """A peer that sends its message too slowly; and lines of the log that are held back for minutes."""
    logs.allow(".")
    closed = channel.new()
    with testing.clock() as clock, testing.http(upgraded(closed)) as client:
        conn = client.connect()
        conn.write(
            "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        while conn.read("\r\n") != (b"\r\n", None):
            pass
        conn.write(b"\x82\xfe\xff\xff\0\0\0\0")  # a frame of 65,535 bytes, masked with zeros
        task.fork(trickle, conn)
        closed.pop()
        assert clock.elapsed < HOUR
        conn.close()


# ---- what holds it -------------------------------------------------------------------


def passing(clock: testing.Clock, happens: Any) -> bool:
    """Whether ``happens``, which something outside does in real time, comes before a timer of an hour."""
    timer = time.after(HOUR, lambda: None)
    happens()
    assert clock.elapsed < HOUR
    return time.cancel(timer)


def test_it_does_not_jump_while_a_descriptor_outside_could_wake_a_task() -> None:
    ours, theirs = socket.socketpair()
    with testing.clock() as clock, ours, theirs:
        got: list[bytes] = []
        me = task.running()
        scheduler.loop.register(ours.fileno(), loop.READ, lambda mask: (got.append(ours.recv(9)), task.wakeup(me)))
        assert clock.held is not None
        thread = threading.Timer(0.1, theirs.send, [b"outside"])
        thread.start()
        assert passing(clock, task.wait)
        thread.join()
        scheduler.loop.unregister(ours.fileno())
        assert got == [b"outside"]
        assert clock.held is None


def test_it_does_not_jump_while_a_listener_could_wake_a_task(logs: Logs) -> None:
    accepted = channel.new()
    listener = silly.check(tcp.listen("127.0.0.1:0", accepted.push))
    with testing.clock() as clock, listener:
        assert clock.held == f"<listener {listener.addr}>"

        def connects() -> None:
            with socket.create_connection(("127.0.0.1", listener.port)):
                silly.check(accepted.pop()).close()

        assert passing(clock, connects)
        begin = os_time.monotonic()
        time.sleep(30)
        assert os_time.monotonic() - begin >= 0.029
        assert clock.elapsed < HOUR
    with testing.clock() as clock:
        time.sleep(HOUR)
        assert clock.elapsed == HOUR


def test_it_does_not_jump_while_a_thread_works_for_a_task() -> None:
    me = task.running()
    with testing.clock() as clock:
        gate = threading.Event()
        threading.Timer(0.1, gate.set).start()
        worker.files.submit(scheduler.loop, gate.wait, (30,), lambda result, exc: task.wakeup(me, result))
        assert clock.held == "a job of a thread"
        assert passing(clock, lambda: task.wait() is True)


def test_it_does_not_jump_while_a_thread_could_post_a_call() -> None:
    done = channel.new()
    with testing.clock() as clock:
        gate = threading.Event()
        thread = threading.Thread(target=lambda: (gate.wait(30), scheduler.loop.post(done.push, 1)), name="poster")
        thread.start()
        assert clock.held == "the thread 'poster', which was started since the clock"
        threading.Timer(0.05, gate.set).start()
        assert passing(clock, done.pop)
        thread.join()


def test_a_thread_that_ends_and_posts_nothing_holds_it_no_longer() -> None:
    with testing.clock() as clock:
        threading.Timer(0.05, lambda: None).start()
        time.sleep(HOUR)
        assert clock.elapsed >= HOUR


def test_threads_from_before_do_not_hold_it() -> None:
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, args=(30,))
    thread.start()
    with testing.clock() as clock:
        assert clock.held is None
        time.sleep(HOUR)
    gate.set()
    thread.join()


def test_a_pair_that_is_closed_with_unsent_data_does_not_hold_it() -> None:
    with testing.clock() as clock:
        client, server = testing.pair()
        client.write(bytes(10_000_000 // 16))
        client.close()
        assert scheduler.loop.work == 1
        assert clock.held is None
        time.sleep(HOUR)  # the limit linger ends it
        assert scheduler.loop.work == 0
        server.close()


def test_a_log_line_says_why_it_does_not_jump(logs: Logs) -> None:
    logs.expect(r"INFO testing\.clock goes in real time, and does not jump: <listener 127\.0\.0\.1:\d+> could wake a task$")
    with testing.clock(), silly.check(tcp.listen("127.0.0.1:0", lambda conn: None)):
        for _ in range(2):
            time.sleep(1050)
    assert len(logs.lines) == 1


# ---- advance -------------------------------------------------------------------------


def test_advance_waits_until_all_that_is_due_has_happened() -> None:
    seen: list[int] = []
    with testing.clock() as clock:
        for ms in (100, 300, 200, 301):
            time.after(ms, seen.append, ms)
        clock.advance(300)
        assert (clock.elapsed, seen) == (300, [100, 200, 300])
        clock.advance(0)
        assert seen == [100, 200, 300]
        clock.advance(HOUR)
        assert (clock.elapsed, seen) == (HOUR + 300, [100, 200, 300, 301])


def test_advance_moves_a_clock_that_is_held() -> None:
    """With real connections: keepalive closes the peer that doesn't answer, and leaves the other."""
    closed = channel.new()
    with testing.clock() as clock:
        server = silly.check(http.listen("127.0.0.1:0", upgraded(closed)))
        sock = silly.check(websocket.connect(f"ws://{server.addr}"))
        assert clock.held is not None
        clock.advance(HOUR)
        assert HOUR <= clock.elapsed < HOUR + 60_000
        assert sock.write("still there", "text") == (True, None)
        assert sock.latency is not None
        sock.close()
        server.close()
        assert "pong" not in closed.pop()[0][1]


def test_advance_outside_its_block() -> None:
    clock = testing.clock()
    with pytest.raises(RuntimeError, match=r"the block of this clock has ended, or has not begun"):
        clock.advance(1)
    with clock, pytest.raises(ValueError, match=r"clock\.advance: the time is in milliseconds, from 0 to"):
        clock.advance(-1)
    with pytest.raises(RuntimeError):
        clock.advance(1)


# ---- what would wait for ever --------------------------------------------------------


def test_a_program_that_waits_for_ever_gets_the_report() -> None:
    """Also where both wait for a connection: nothing outside can send on it."""
    with testing.clock():
        client, server = testing.pair()
        reader = Job(lambda: server.read(1))
        with pytest.raises(silly.Error) as caught:
            client.read(1)
        assert str(caught.value).startswith("nothing can ever wake the tasks that are left")
        assert "waits on the connection with client:" in str(caught.value)
        assert "the main program: waits on the connection with server:" in str(caught.value)
        client.close()
        assert reader.result()[0] is None
        server.close()


def test_a_program_that_waits_for_ever_while_a_keepalive_goes_on() -> None:
    closed = channel.new()
    with testing.clock(jumps=500) as clock:
        sock = silly.check(testing.websocket(upgraded(closed)))
        with pytest.raises(silly.Error) as caught:
            channel.new().pop()
        assert str(caught.value).startswith("the clock has jumped 500 times, and what the test waits for has not come")
        assert "the main program: waits on channel.pop" in str(caught.value)
        assert clock.elapsed > HOUR
        sock.close()


@pytest.mark.parametrize("jumps", [0, -1, 1.5, True, None, "7"])
def test_jumps_is_a_count(jumps: Any) -> None:
    with pytest.raises(ValueError, match=r"testing\.clock: jumps is an int from 1"):
        testing.clock(jumps=jumps)


# ---- the block -----------------------------------------------------------------------


def test_the_monotonic_clock_never_goes_back() -> None:
    before = time.monotonic()
    with testing.clock():
        time.sleep(HOUR)
        inside = time.monotonic()
        timer = time.after(50, lambda: None)
        long = time.after(HOUR, lambda: None)
    after = time.monotonic()
    assert before + HOUR <= inside <= after < inside + 60_000
    assert abs(time.now() - os_time.time() * 1000) < 60_000
    begin = os_time.monotonic()
    time.sleep(60)
    assert os_time.monotonic() - begin >= 0.059
    assert not time.cancel(timer)
    assert time.cancel(long)


def test_a_timer_that_was_set_before_fires_in_its_time() -> None:
    fired: list[int] = []
    time.after(HOUR, lambda: fired.append(clock.elapsed))
    with testing.clock() as clock:
        time.sleep(HOUR - 60_000)
        assert fired == []
        time.sleep(60_000)
    assert 0 < fired[0] <= HOUR


def test_after_the_block_nothing_of_it_is_left() -> None:
    poller = scheduler.loop._poller
    with testing.clock() as clock, pytest.raises(ZeroDivisionError):
        1 // 0
    with pytest.raises(ZeroDivisionError), testing.clock():
        time.sleep(HOUR)
        1 // 0
    assert scheduler.loop._poller is poller
    now = loop.monotonic
    homes = [module for name, module in sys.modules.items() if name.startswith("silly.") and hasattr(module, "monotonic")]
    assert len(homes) > 10
    for module in homes:
        if module.__name__ not in ("silly.time", "silly._stderr"):
            assert module.monotonic is now, module
    assert time._monotonic is now
    ours = [module for name, module in sys.modules.items() if name.startswith("silly.")]
    assert not [module for module in ours if clock._read in vars(module).values()]


def test_one_clock_at_a_time_and_one_block_for_each() -> None:
    with testing.clock() as clock:
        with pytest.raises(RuntimeError, match="the clock is virtual already"), testing.clock():
            pass
        time.sleep(HOUR)
        assert clock.elapsed == HOUR
    with pytest.raises(RuntimeError, match="each with block needs a clock of its own"), clock:
        pass


def test_in_another_thread() -> None:
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            with testing.clock():
                pass
        except RuntimeError as exc:
            failed.append(exc)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert "another thread" in str(failed[0])


def test_the_block_of_a_task() -> None:
    def run() -> int:
        with testing.clock() as clock:
            time.sleep(HOUR)
            return clock.elapsed

    assert task.fork(run).join() == (HOUR, None)


def child(code: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_modules_that_are_loaded_within_the_block_have_the_same_clock() -> None:
    code = """
from silly import testing, time
from silly._core import loop
assert "silly.net.tls" not in __import__("sys").modules
with testing.clock():
    time.sleep(1e9)
    from silly.net import tls
    assert tls.monotonic is loop.monotonic
    assert tls.monotonic() == loop.monotonic()
assert tls.monotonic is loop.monotonic
assert loop.monotonic() - __import__("time").monotonic() > 1e5
print("same")
"""
    assert child(code) == "same\n"


def test_the_end_of_the_process_within_the_block() -> None:
    """The phases take their time on the clock: 3 s of ``finally``."""
    code = """
import silly
from silly import task, testing, time
with testing.clock() as clock:
    def hold():
        try:
            time.sleep(1e9)
        finally:
            time.sleep(2000)
            print(clock.elapsed)
    task.fork(hold)
    time.sleep(500)
    silly.exit(7)
"""
    assert child(code, 7) == "2500\n"


def test_a_deadlock_in_silly_run_ends_the_process() -> None:
    code = """
import silly
from silly import testing
def main():
    client, server = testing.pair()
    client.read(1)
with testing.clock():
    silly.run(main)
"""
    said = child(code, 1)
    assert "nothing can ever wake the tasks that are left" in said
    assert "main: waits on the connection with server:1" in said
