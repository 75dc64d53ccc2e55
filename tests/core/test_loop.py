"""The event loop on its own: a private Loop, socket pairs, and no tasks."""

from __future__ import annotations

import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly._core.loop import EVENTS, LOOKS, READ, WRITE, Loop
from silly._core.poller import Poller, SelectorPoller, new_poller

from ..conftest import Logs
from ..net.support import monotonic


class Rig:
    """A loop whose ready queue holds plain functions, and a record of what happened in which order."""

    def __init__(self, poller: Poller) -> None:
        self.loop = Loop(poller)
        self.loop.run_ready = self.drain
        self.log: list[Any] = []
        self.sockets: list[socket.socket] = []

    def drain(self) -> None:
        ready = self.loop.ready
        for _ in range(min(len(ready), 8)):
            ready.popleft()()
        if self.loop.dirty:
            self.loop.flush()

    def says(self, what: Any) -> Callable[..., None]:
        return lambda *args: self.log.append(what)

    def readies(self, what: Any) -> Callable[..., None]:
        """A callback that says ``what`` and makes a task ready, which writes something."""

        def callback(*args: Any) -> None:
            self.log.append(what)
            self.loop.ready.append(task)

        def task() -> None:
            self.log.append(f"task of {what}")
            self.loop.dirty.append(Output(self.log, f"output of {what}"))

        return callback

    def pair(self) -> tuple[socket.socket, socket.socket]:
        a, b = socket.socketpair()
        a.setblocking(False)
        self.sockets += a, b
        return a, b

    def readable(self) -> socket.socket:
        a, b = self.pair()
        b.send(b"x")
        return a

    def arrives(self, callback: Callable[[int], object]) -> None:
        """A byte arrives at a socket, whose callback takes it and calls ``callback``."""
        sock = self.readable()

        def event(mask: int) -> None:
            sock.recv(1)
            callback(mask)

        self.loop.register(sock.fileno(), READ, event)

    def due(self, callback: Callable[..., None], arg: Any = None) -> None:
        self.loop.timers.add(monotonic() - 1, callback, arg)


class Output:
    """What a task wrote."""

    def __init__(self, log: list[Any], what: str) -> None:
        self.log, self.what = log, what

    def flush(self) -> None:
        self.log.append(self.what)


@pytest.fixture(params=[new_poller, SelectorPoller], ids=["system", "selector"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(request.param())
    yield rig
    rig.loop.close()
    for sock in rig.sockets:
        sock.close()


def test_the_order_of_one_turn(rig: Rig) -> None:
    loop = rig.loop
    a, b = rig.pair()
    loop.register(a.fileno(), READ, lambda mask: (a.recv(1), later_event(mask)))
    later_event = rig.readies("later event")
    rig.arrives(lambda mask: (event(mask), b.send(b"x")))
    event = rig.readies("event")
    rig.due(rig.readies("timer 1"))
    rig.due(rig.readies("timer 2"))
    loop.post(rig.readies("post 1"))
    loop.post(rig.readies("post 2"))
    rig.readies("ready")()
    loop.turn()
    assert rig.log == [
        "ready", "task of ready", "output of ready",
        "event", "task of event", "output of event",
        "later event", "task of later event", "output of later event",
        "post 1", "task of post 1", "output of post 1",
        "post 2", "task of post 2", "output of post 2",
        "timer 1", "task of timer 1", "output of timer 1",
        "timer 2", "task of timer 2", "output of timer 2",
    ]  # fmt: skip


def test_all_events_come_before_the_tasks_that_they_make_ready(rig: Rig) -> None:
    for i in range(3):
        rig.loop.register(rig.readable().fileno(), READ, rig.readies(i))
    rig.loop.turn()
    events = rig.log[:3]
    assert sorted(events) == [0, 1, 2]
    assert rig.log[3:] == [f"task of {i}" for i in events] + [f"output of {i}" for i in events]


def test_a_turn_takes_a_limited_number_of_events(rig: Rig) -> None:
    for i in range(EVENTS + 10):
        rig.loop.register(rig.readable().fileno(), READ, rig.says(i))
    rig.loop.turn()
    assert len(rig.log) == (EVENTS + 10 if isinstance(rig.loop._poller, SelectorPoller) else EVENTS)
    rig.loop.turn()
    assert len(set(rig.log)) == EVENTS + 10, "those that had to wait come first"


def test_output_written_outside_of_tasks_is_sent_before_the_loop_waits(rig: Rig) -> None:
    rig.loop.dirty.append(Output(rig.log, "output"))
    rig.due(rig.says("timer"))
    rig.loop.turn()
    assert rig.log == ["output", "timer"]


def test_before_a_timer_fires_every_descriptor_that_is_ready_is_looked_at_once(rig: Rig) -> None:
    """300 have data and a time-out that is over: each gets its data, none times out."""
    loop = rig.loop
    count = 300
    for i in range(count):
        rig.arrives(lambda mask, i=i: loop.timers.cancel(timers[i]) and rig.log.append(i))
    timers = [loop.timers.add(monotonic() - 1, rig.says("timed out")) for i in range(count)]
    loop.turn()
    assert sorted(rig.log) == list(range(count))


def test_a_wait_that_was_interrupted_is_followed_by_a_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """epoll returns no event if a signal interrupts it, such as SIGSTOP and SIGCONT, and the time is over."""
    loop = rig.loop
    poller = loop._poller

    class Interrupted:
        def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
            loop._poller = poller
            return []

    rig.arrives(lambda mask: rig.log.append(loop.timers.cancel(timer)))
    timer = loop.timers.add(monotonic() - 1, rig.says("timed out"))
    monkeypatch.setattr(loop, "_poller", Interrupted())
    loop.turn()
    assert rig.log == [True]


def test_what_arrives_in_several_events_is_in_time_too(rig: Rig) -> None:
    loop = rig.loop
    a, b = rig.pair()
    b.send(b"x" * (1 + LOOKS))
    got = bytearray()
    loop.register(a.fileno(), READ, lambda mask: got.extend(a.recv(1)))
    rig.due(lambda _: rig.log.append(len(got)))
    loop.turn()
    assert rig.log == [1 + LOOKS]


@pytest.mark.parametrize("count", [1, 200, 300])
def test_load_does_not_starve_timers(rig: Rig, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Sockets that always have data hold up a due timer for one look at each, and no longer."""
    loop = rig.loop
    polls: list[int] = []
    poll = loop._poller.poll

    class Counting:
        def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
            events = poll(timeout, maxevents)
            polls.append(len(events))
            return events

        def __getattr__(self, name: str) -> Any:
            return getattr(poller, name)

    poller = loop._poller
    for _ in range(count):
        loop.register(rig.readable().fileno(), READ, lambda mask: loop.ready.append(lambda: None))
    monkeypatch.setattr(loop, "_poller", Counting())
    rig.due(lambda _: rig.log.append(len(polls)))
    loop.turn()
    looks = {1: LOOKS, 200: 4, 300: 5}[count]
    assert rig.log == [1 + looks]
    if isinstance(poller, SelectorPoller):
        assert polls == [count] * (1 + looks)
    else:
        assert polls == [min(count, EVENTS)] * (1 + looks)


def test_a_turn_without_a_due_timer_asks_the_selector_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = rig.loop
    loop.register(rig.readable().fileno(), READ, rig.says("event"))
    loop.timers.add(monotonic() + 100, rig.says("timer"))
    loop.turn()
    loop.timers.cancel(loop.timers.add(monotonic() - 1, rig.says("cancelled")))
    loop.post(rig.says("post"))
    loop.turn()
    assert rig.log == ["event", "event", "post"]


def test_a_thread_s_result_that_came_in_time_comes_before_the_time_out(rig: Rig) -> None:
    loop = rig.loop
    loop.post(lambda: rig.log.append(loop.timers.cancel(timer)))
    timer = loop.timers.add(monotonic() - 1, rig.says("timed out"))
    loop.turn()
    assert rig.log == [True]


def test_a_look_sends_what_the_tasks_before_it_wrote(rig: Rig) -> None:
    a, b = rig.pair()

    class Writes:
        def flush(self) -> None:
            rig.log.append("output")
            b.send(b"x")

    rig.loop.run_ready = lambda: [call() for call in (rig.loop.ready.popleft() for _ in range(len(rig.loop.ready)))]
    rig.loop.register(a.fileno(), READ, lambda mask: rig.log.append(a.recv(1)))
    rig.arrives(lambda mask: rig.loop.ready.append(lambda: rig.loop.dirty.append(Writes())))
    rig.due(rig.says("timer"))
    rig.loop.turn()
    assert rig.log == ["output", b"x", "timer"]


def test_a_timer_cancelled_by_a_task_of_the_same_turn_does_not_fire(rig: Rig) -> None:
    loop = rig.loop
    rig.due(lambda _: loop.ready.append(lambda: rig.log.append(loop.timers.cancel(second))))
    second = loop.timers.add(monotonic() - 1, rig.says("fired"))
    loop.turn()
    assert rig.log == [True]


def test_timers_fire_in_the_order_of_their_times(rig: Rig) -> None:
    now = monotonic()
    for ms in (-5, -9, -7, -7):
        rig.loop.timers.add(now + ms / 1000, rig.log.append, (ms, len(rig.loop.timers)))
    rig.loop.turn()
    assert rig.log == [(-9, 1), (-7, 2), (-7, 3), (-5, 0)]


def test_the_loop_waits_for_the_first_timer(rig: Rig) -> None:
    rig.loop.timers.add(monotonic() + 0.02, rig.says("later"))
    rig.loop.timers.add(monotonic() + 0.01, rig.says("sooner"))
    while len(rig.log) < 2:
        rig.loop.turn()
    assert rig.log == ["sooner", "later"]
    assert rig.loop.turns < 10


@pytest.mark.parametrize("seconds", [30 * 86400.0, 1e12, 1e300])
def test_a_timer_may_be_further_off_than_the_selector_can_wait(rig: Rig, seconds: float) -> None:
    # epoll takes milliseconds in 31 bits: less than 25 days.
    rig.loop.timers.add(monotonic() + seconds, rig.says("timer"))
    rig.loop.register(rig.readable().fileno(), READ, rig.says("event"))
    rig.loop.turn()
    assert rig.log == ["event"]


def test_a_timer_that_is_set_again_and_again_does_not_starve_io(rig: Rig) -> None:
    def again(_: Any) -> None:
        rig.loop.timers.add(monotonic(), again)

    again(None)
    rig.loop.register(rig.readable().fileno(), READ, rig.says("event"))
    rig.loop.turn()
    rig.loop.turn()
    assert rig.log == ["event"] * 2 * (1 + LOOKS)


def test_a_drain_that_never_empties_does_not_starve_io_timers_and_posts(rig: Rig) -> None:
    loop = rig.loop

    def again() -> None:
        loop.ready.append(again)

    again()
    rig.arrives(rig.says("event"))
    rig.due(rig.says("timer"))
    loop.post(rig.says("post"))
    loop.turn()
    assert rig.log == ["event", "post", "timer"]


def test_a_descriptor_reports_what_it_was_registered_for(rig: Rig) -> None:
    a, b = rig.pair()
    loop = rig.loop
    before = loop.registered()
    loop.register(a.fileno(), READ | WRITE, rig.log.append)
    assert loop.registered() == before + 1
    loop.turn()
    b.send(b"x")
    loop.turn()
    loop.modify(a.fileno(), READ, lambda mask: rig.log.append(("modified", mask)))
    loop.turn()
    assert rig.log == [WRITE, READ | WRITE, ("modified", READ)]
    loop.unregister(a.fileno())
    assert loop.registered() == before
    rig.due(rig.says("timer"))
    loop.turn()
    assert rig.log[3:] == ["timer"]


def test_an_event_of_a_descriptor_that_was_unregistered_in_the_same_turn(rig: Rig) -> None:
    """It may reach its callback, once; the loop itself takes no harm."""
    loop = rig.loop
    pairs = [rig.readable() for _ in range(2)]

    def callback(mine: int) -> Callable[[int], None]:
        def event(mask: int) -> None:
            rig.log.append(mine)
            other = pairs[1 - mine]
            if len(rig.log) == 1:
                loop.unregister(other.fileno())
                other.close()

        return event

    for i, sock in enumerate(pairs):
        loop.register(sock.fileno(), READ, callback(i))
    loop.turn()
    first = rig.log[0]
    assert rig.log in ([first], [first, 1 - first])
    del rig.log[1:]
    loop.turn()
    assert rig.log == [first, first]
    assert loop.registered() == 1


def test_post_from_a_thread_wakes_the_loop(rig: Rig) -> None:
    thread = threading.Thread(target=rig.loop.post, args=(rig.log.append, "posted"))
    thread.start()
    while not rig.log:
        rig.loop.turn()
    thread.join()
    assert rig.log == ["posted"]


def test_many_posts_from_many_threads_all_run_in_each_thread_s_order(rig: Rig) -> None:
    def posts(number: int) -> None:
        for i in range(2000):
            rig.loop.post(rig.log.append, (number, i))

    threads = [threading.Thread(target=posts, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while len(rig.log) < 8000:
        rig.loop.turn()
    for thread in threads:
        thread.join()
    for n in range(4):
        assert [i for number, i in rig.log if number == n] == list(range(2000))


def test_a_post_while_the_loop_takes_the_one_before_is_not_lost(rig: Rig) -> None:
    """The posting thread may be stopped between queueing the call and sending the wake-up."""
    loop = rig.loop
    turned = []

    class Queue(deque[Any]):
        def append(self, item: Any) -> None:
            super().append(item)
            if not turned:
                turned.append(True)
                loop.turn()  # the loop's thread runs here

    loop._posted = Queue()
    loop.post(rig.says("first"))
    assert rig.log == ["first"]
    rig.due(rig.says("late"))
    loop.turn()  # takes the wake-up of a call that is gone
    loop.post(rig.says("second"))
    loop.timers.add(monotonic() + 20, rig.says("timer"))
    assert _readable(loop), "the loop would sleep on with a call posted"
    loop.turn()
    assert rig.log == ["first", "late", "second"]


def _readable(loop: Loop) -> bool:
    try:
        return bool(loop._waker.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_a_call_posted_by_a_posted_call_runs_in_the_next_turn(rig: Rig) -> None:
    loop = rig.loop
    loop.post(lambda: loop.post(rig.says("inner")))
    loop.post(rig.says("outer"))
    loop.turn()
    assert rig.log == ["outer"]
    loop.turn()
    assert rig.log == ["outer", "inner"]


def test_more_posts_than_the_wake_up_pipe_holds(rig: Rig) -> None:
    loop = rig.loop
    loop.wakeup_fd.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    try:
        while True:
            loop.wakeup_fd.send(b"\0" * 512)  # as a storm of signals does
    except BlockingIOError:
        pass
    loop.post(rig.says("posted"))
    loop.turn()
    assert rig.log == ["posted"]


def boom(*args: Any) -> None:
    raise ValueError("boom")


def test_an_exception_in_a_callback_is_logged_and_the_loop_goes_on(rig: Rig, logs: Logs) -> None:
    logs.expect(r"ERROR exception in \S*(boom|event):[\s\S]*test_loop.py[\s\S]*ValueError: boom")
    loop = rig.loop
    rig.arrives(boom)
    rig.arrives(rig.says("event"))
    rig.due(boom)
    rig.due(rig.says("timer"))
    loop.post(boom)
    loop.post(rig.says("post"))
    loop.turn()
    assert rig.log == ["event", "post", "timer"]
    assert len(logs.lines) == 3


def test_an_exception_while_output_is_sent_is_logged_and_the_rest_is_sent(rig: Rig, logs: Logs) -> None:
    logs.expect("ERROR exception in .*flush:")

    class Bad:
        def flush(self) -> None:
            raise ValueError("boom")

    rig.loop.dirty += [Bad(), Output(rig.log, "output")]
    rig.loop.post(rig.says("post"))
    rig.loop.turn()
    assert rig.log == ["output", "post"]


class Odd(BaseException):
    """No Exception, and no end: as ``asyncio.CancelledError``."""


def odd(*args: Any) -> None:
    raise Odd


def test_what_is_no_end_is_logged_whatever_it_derives_from(rig: Rig, logs: Logs) -> None:
    logs.expect("ERROR exception in .*odd:[\\s\\S]*Odd")
    logs.expect("ERROR exception in .*flush:[\\s\\S]*Odd")

    class Bad:
        def flush(self) -> None:
            raise Odd

    loop = rig.loop
    a, b = rig.readable(), rig.readable()

    def event_odd(mask: int) -> None:
        loop.unregister(a.fileno())
        odd()

    def event(mask: int) -> None:
        loop.unregister(b.fileno())
        rig.log.append("event")

    loop.register(a.fileno(), READ, event_odd)
    loop.register(b.fileno(), READ, event)
    rig.due(odd)
    rig.due(rig.says("timer"))
    loop.post(odd)
    loop.post(rig.says("post"))
    loop.dirty += [Bad(), Output(rig.log, "output")]
    loop.turn()
    assert rig.log == ["output", "event", "post", "timer"]
    assert len(logs.lines) == 4


class Stop(SystemExit):
    pass


def stop(*args: Any) -> None:
    raise Stop


@pytest.mark.parametrize("where", ["event", "timer", "post"])
def test_an_end_goes_to_interrupted_and_the_loop_goes_on(rig: Rig, where: str) -> None:
    loop = rig.loop

    def interrupted(exc: BaseException) -> None:
        rig.log.append(type(exc))
        if rig.log.count(Stop) == 2:
            raise exc

    loop.interrupted = interrupted
    if where == "event":
        a = rig.readable()

        def once(mask: int) -> None:
            loop.unregister(a.fileno())
            stop()

        loop.register(a.fileno(), READ, once)
    elif where == "timer":
        rig.due(stop)
    else:
        loop.post(stop)
    rig.due(rig.says("timer"))
    loop.post(rig.says("post"))
    rig.due(lambda _: loop.post(stop))
    with pytest.raises(Stop):
        loop.run()
    assert rig.log == (["post", Stop, "timer", Stop] if where == "timer" else [Stop, "post", "timer", Stop])


def test_interrupted_reraises_by_default(rig: Rig) -> None:
    rig.loop.post(stop)
    with pytest.raises(Stop):
        rig.loop.run()


def test_starved_is_asked_only_when_nothing_of_the_application_s_is_left(rig: Rig) -> None:
    loop = rig.loop
    loop.starved = lambda: rig.log.append("starved") or True
    timer = loop.timers.add(monotonic() + 100, rig.says("timer"))
    loop.post(rig.says("post"))
    loop.turn()
    loop.timers.cancel(timer)
    loop.listeners = 1
    loop.post(rig.says("post"))
    loop.turn()
    assert rig.log == ["post", "post"]
    loop.listeners = 0
    internal = loop.timers.add(monotonic() + 100, rig.says("timer"), internal=True)
    loop.turn()
    assert rig.log == ["post", "post", "starved"]
    loop.timers.cancel(internal)


class Watched:
    """What may set a task going."""

    def __init__(self) -> None:
        self.watched: int | None = None
        self.can = True
        self.asked = 0

    def wakes(self) -> bool:
        self.asked += 1
        return self.can


@pytest.mark.parametrize("seed", range(10))
def test_handlers_that_can_wake_a_task(rig: Rig, seed: int) -> None:
    """As a look at all of them tells; and it asks no more of them than were watched since."""
    rng = random.Random(seed)
    loop = rig.loop
    alive = [Watched() for _ in range(20)]
    watches = 0
    for step in range(500):
        each = rng.choice(alive)
        match rng.randrange(4):
            case 0:
                each.can = True
                if each.watched is None:
                    loop.watch(each)
                    watches += 1
            case 1:
                each.can = False
            case 2:
                if each.watched is not None:
                    loop.forget(each)
                each.can = False
            case _:
                assert loop.can_wake() is any(one.can for one in alive if one.watched is not None), step
        for at, one in enumerate(loop.waking):
            assert one.watched == at
    assert sum(one.asked for one in alive) <= watches + 500


class Interrupted(list[Any]):
    """Ctrl-C comes in its ``pop``, and raises when that has returned, as CPython does it."""

    def pop(self, *at: Any) -> Any:
        super().pop(*at)
        raise KeyboardInterrupt


@pytest.mark.parametrize("which", [0, 1, 2])
def test_ctrl_c_where_a_connection_is_closed_leaves_the_others_watched(rig: Rig, which: int) -> None:
    loop = rig.loop
    watched = [Watched() for _ in range(3)]
    for each in watched:
        loop.watch(each)
    loop.waking = Interrupted(loop.waking)
    with pytest.raises(KeyboardInterrupt):
        loop.forget(watched.pop(which))
    loop.waking = list(loop.waking)
    assert sorted(loop.waking, key=id) == sorted(watched, key=id)
    assert loop.can_wake()
    for each in watched:
        loop.forget(each)
    assert loop.waking == []


def test_a_loop_without_a_scheduler_says_so() -> None:
    loop = Loop()
    try:
        loop.ready.append(None)
        with pytest.raises(RuntimeError, match="no scheduler"):
            loop.turn()
    finally:
        loop.close()


def test_close_releases_the_loop_s_descriptors_and_a_late_post_does_no_harm() -> None:
    loop = Loop()
    fds = [loop.wakeup_fd, loop._waker]
    assert all(sock.fileno() >= 0 for sock in fds)
    loop.close()
    assert all(sock.fileno() == -1 for sock in fds)
    ran: list[str] = []
    loop.post(ran.append, "never")
    assert ran == []


# ---- how long a turn takes ----------------------------------------------------------------------------------------------


class Clock:
    """A monotonic clock that only callbacks, and waiting in the selector, move on."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.waits = 0.0
        """Seconds that each wait takes."""
        self.busy: list[float] = []
        """``busy_since`` during each wait."""
        self._loop = rig.loop
        self._poller = rig.loop._poller
        rig.loop._poller = self
        monkeypatch.setattr("silly._core.loop.monotonic", lambda: self.now)

    def takes(self, seconds: float) -> Callable[..., None]:
        def callback(*args: Any) -> None:
            self.now += seconds

        return callback

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        self.busy.append(self._loop.busy_since)
        self.now += self.waits
        return self._poller.poll(0, maxevents)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)


@pytest.fixture
def clock(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(rig, monkeypatch)


def test_busy_since_is_when_the_selector_returned(rig: Rig, clock: Clock) -> None:
    loop = rig.loop
    assert loop.busy_since == 0.0
    clock.waits = 7.0
    seen: list[float] = []
    for _ in range(2):
        clock.now = 1000.0
        loop.post(clock.takes(3.0))
        loop.post(lambda: seen.append(loop.busy_since))
        loop.turn()
    assert seen == [1007.0, 1007.0]
    assert clock.busy == [0.0, 0.0]
    assert loop.busy_since == 1007.0, "until the selector is asked again"


@pytest.mark.parametrize("kind", ["event", "timer", "post", "task"])
@pytest.mark.parametrize("then", ["ready", "waits", "due"])
def test_a_turn_that_held_the_loop_counts(rig: Rig, clock: Clock, kind: str, then: str) -> None:
    loop = rig.loop
    clock.waits = 60.0
    loop.timers.add(1e9, rig.says("never"))
    loop.turn()
    clock.waits = 0.0
    held = clock.takes(5.0)
    if kind == "event":
        sock = rig.readable()
        loop.register(sock.fileno(), READ, lambda mask: (held(), loop.unregister(sock.fileno())))
    elif kind == "timer":
        loop.timers.add(clock.now, held)
    elif kind == "post":
        loop.post(held)
    else:
        loop.post(loop.ready.append, held)
    loop.turn()
    assert loop.lagged == 0.0, "it is counted when the turn has ended"
    if then == "ready":
        loop.ready.append(clock.takes(0.0))
    elif then == "due":
        loop.timers.add(clock.now - 1, rig.says("due"))
    else:
        clock.waits = 60.0
    loop.turn()
    assert loop.lagged == 5.0
    loop.turn()
    assert loop.lagged == 5.0, "waiting is no hold"


def test_short_turns_don_t_count_however_many(rig: Rig, clock: Clock) -> None:
    rig.loop.timers.add(1e9, rig.says("never"))
    for _ in range(100):
        rig.loop.post(clock.takes(0.09))
        rig.loop.turn()
    rig.loop.turn()
    assert rig.loop.lagged == 0.0


def test_the_sum_is_up_to_date_before_timers_that_became_due_in_the_hold(rig: Rig, clock: Clock) -> None:
    """So a task that waits for an answer can tell a late peer from a late read."""
    loop = rig.loop
    lagged: list[float] = []
    a, b = rig.pair()

    def event(mask: int) -> None:
        a.recv(1)
        rig.log.append("event")
        clock.takes(20.0)()

    loop.register(a.fileno(), READ, event)
    b.send(b"x")
    loop.timers.add(clock.now + 10, lambda _: lagged.append(loop.lagged))
    loop.turn()
    assert (rig.log, lagged) == (["event"], [])
    b.send(b"x")
    loop.turn()
    assert (rig.log, lagged) == (["event"] * 2, [40.0]), "and events came first, each counted"
    b.send(b"x")
    loop.timers.add(clock.now + 10, lambda _: lagged.append(loop.lagged))
    loop.turn()
    loop.turn()
    assert (rig.log, lagged) == (["event"] * 3, [40.0, 60.0]), "no time is counted twice"


def test_a_closed_loop_is_not_busy() -> None:
    loop = Loop()
    loop.run_ready = lambda: None
    loop.post(lambda: None)
    loop.turn()
    assert loop.busy_since > 0.0
    loop.close()
    assert loop.busy_since == 0.0
