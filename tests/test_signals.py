"""Signals: the application's own handlers, what they wake, and ends that are forced. Every test runs a script in a
process of its own: by the launcher, with ``silly.run``, and in plain python, whose main program blocks by itself."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from silly._core import guard, signals
from silly._core.loop import Loop

from .children import Child

PRELUDE = """\
import os, signal, socket, sys, threading
import time as os_time
import silly
from silly import task, time
from silly.sync import channel

def say(*words):
    print(*words, flush=True)
def on(name, handler):
    signal.signal(getattr(signal, name), handler)
def when_idle(name):
    # From a thread, once the loop waits.
    def send():
        while silly._core.scheduler.loop.busy_since or not silly._core.scheduler.loop.turns:
            os_time.sleep(0.001)
        os.kill(os.getpid(), getattr(signal, name))
    threading.Thread(target=send, daemon=True).start()
def waiter():
    try:
        task.wait()
    finally:
        say("finally")
"""

WAYS = {"launcher": "", "run": "silly.run()", "plain": "time.sleep(600_000)"}
"""How the main program waits, by the last line of the script."""

Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    children: list[Child] = []

    def start(script: str, way: str = "run") -> Child:
        path = tmp_path / "app.py"
        path.write_text(f"{PRELUDE}{script}\n{WAYS.get(way, way)}\n")
        child = Child(*(["-m", "silly"] if way == "launcher" else []), str(path))
        children.append(child)
        return child

    yield start
    for child in children:
        child.__exit__(None, None, None)


ways = pytest.mark.parametrize("way", WAYS)
runs = pytest.mark.parametrize("way", ["launcher", "run"])
calls = pytest.mark.parametrize("call", ["silly.exit(3)", "sys.exit(3)"])


def rest(child: Child) -> tuple[int, list[str], str]:
    """Its status, the lines that it still writes, and what it wrote to stderr."""
    assert child.process.stdout is not None
    lines = child._bounded(child.process.stdout.read).splitlines()
    return child.wait(), lines, child.errors()


# ---- exit in a handler -------------------------------------------------------------------------------------------


@calls
@ways
def test_exit_in_a_handler_of_an_idle_process_is_a_graceful_end(start: Start, way: str, call: str) -> None:
    script = f"""
on("SIGTERM", lambda *_: {call})
task.fork(waiter)
time.after(600_000, print)
when_idle("SIGTERM")
"""
    assert rest(start(script, way)) == (3, ["finally"], "")


@calls
@ways
def test_exit_in_a_handler_that_interrupts_a_task(start: Start, way: str, call: str) -> None:
    """``silly.exit`` lets it go on: it may be in the middle of an answer. ``sys.exit`` raises there."""
    script = f"""
on("SIGTERM", lambda *_: {call})
task.fork(waiter)
def interrupted():
    try:
        signal.raise_signal(signal.SIGTERM)
        say("goes on")
    finally:
        say("ends")
time.after(1, interrupted)
"""
    status, lines, errors = rest(start(script, way))
    assert (status, errors) == (3, "")
    assert sorted(lines) == ["ends", "finally", *(["goes on"] if call == "silly.exit(3)" else [])]


@calls
def test_exit_in_a_handler_that_interrupts_the_main_program(start: Start, call: str) -> None:
    script = f"""
on("SIGTERM", lambda *_: {call})
task.fork(waiter)
time.sleep(1)
try:
    signal.raise_signal(signal.SIGTERM)
    say("not reached")
finally:
    say("main")
"""
    status, lines, _ = rest(start(script, "plain"))
    assert (status, sorted(lines)) == (3, ["finally", "main"] if call == "silly.exit(3)" else ["main"])


@ways
def test_exit_in_a_handler_that_has_dropped_its_arguments(start: Start, way: str) -> None:
    """Nothing tells such a handler from any other code, but in the loop there is no other."""
    script = """
def handler(number, frame):
    del number, frame
    silly.exit(3)
on("SIGTERM", handler)
task.fork(waiter)
when_idle("SIGTERM")
"""
    assert rest(start(script, way)) == (3, ["finally"], "")


def test_exit_in_a_handler_at_the_interpreters_exit_changes_nothing(start: Start) -> None:
    """What the script wrote is delivered all the same."""
    script = """
from silly._core import ending
from silly.net import tcp
deliver = ending._deliver
def delivers():
    silly._core.scheduler.loop.post(os.kill, os.getpid(), signal.SIGTERM)
    deliver()
ending._deliver, ending.FINALLY = delivers, 600
on("SIGTERM", lambda *_: (silly.exit(3), say("returned")))
conn, size = silly.check(tcp.connect("127.0.0.1:PORT")), 0
while not conn._stream.unsent:
    conn.write(b"x" * 100_000)
    conn._stream.flush()
    size += 100_000
say(size)
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = start(script.replace("PORT", str(server.getsockname()[1])), "")
        size = int(child.line())
        assert child.line() == "returned"
        with server.accept()[0] as peer:
            peer.settimeout(30)
            while data := peer.recv(1 << 20):
                size -= len(data)
    assert size == 0
    assert rest(child) == (0, [], "")


@ways
def test_exit_in_a_handler_while_the_process_is_ending_changes_nothing(start: Start, way: str) -> None:
    script = """
on("SIGTERM", lambda *_: silly.exit(4))
def cleaning():
    try:
        task.wait()
    finally:
        signal.raise_signal(signal.SIGTERM)
        say("cleaned")
task.fork(cleaning)
time.after(1, lambda: silly.exit(3))
"""
    assert rest(start(script, way)) == (3, ["cleaned"], "")


def test_the_frame_that_tells_a_handler() -> None:
    seen: list[int] = []

    class Handler:
        def __call__(self, number: int, frame: object) -> None:
            self.deeper()

        def deeper(self) -> None:
            seen.append(here())

        def method(self, number: int, frame: object, more: int = 0) -> None:
            seen.append(here())

    def here() -> int:
        import sys

        return signals.handled(sys._getframe(1))

    before = signal.getsignal(signal.SIGUSR1)
    try:
        anonymous = lambda *_: seen.append(here()), lambda n, f: [seen.append(here()) for _ in "x"]
        for handler in (Handler(), Handler().method, *anonymous):
            signal.signal(signal.SIGUSR1, handler)
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1] * 4
    assert here() == 0
    assert (lambda number, frame: here())(signal.SIGUSR1, None) == 0


# ---- what a handler raises ---------------------------------------------------------------------------------------


@runs
def test_what_a_handler_raises_in_an_idle_process_is_logged(start: Start, way: str) -> None:
    script = """
def handler(*_):
    raise KeyError("mine")
on("SIGUSR1", handler)
on("SIGTERM", lambda *_: silly.exit(3))
time.after(600_000, print)
when_idle("SIGUSR1")
"""
    child = start(script, way)
    child._bounded(lambda: wait_for(child, "mine"))
    child.process.send_signal(signal.SIGTERM)
    status, _, errors = rest(child)
    assert status == 3
    assert re.match(r"\S+ \S+ ERROR exception in a signal handler:\n[\s\S]*app\.py[\s\S]*KeyError: 'mine'\n$", errors)


def wait_for(child: Child, text: str) -> None:
    import time

    while text not in child.errors():
        time.sleep(0.01)


def test_what_a_handler_raises_reaches_the_main_program_that_blocks_by_itself(start: Start) -> None:
    script = """
def handler(*_):
    raise TimeoutError("mine")
on("SIGALRM", handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    channel.new().pop()
except TimeoutError as exc:
    say("caught", exc)
"""
    assert rest(start(script, "")) == (0, ["caught mine"], "")


# ---- a handler is something that is left -------------------------------------------------------------------------

POPS = """
chan = channel.new()
on(NAME, lambda number, frame: chan.push(number))
def main():
    task.fork(say, "ready")
    say(chan.pop())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"])
@ways
def test_a_task_may_wait_for_a_signal_handler(start: Start, way: str, name: str) -> None:
    child = start(POPS.replace("NAME", repr(name)), "main()" if way == "plain" else f"task.fork(main)\n{WAYS[way]}")
    if way == "launcher":
        child.__exit__(None, None, None)
        child = start(POPS.replace("NAME", repr(name)) + "main()", "launcher")
    assert child.line() == "ready"
    child.process.send_signal(getattr(signal, name))
    assert rest(child) == (0, [f"({int(getattr(signal, name))}, None)"], "")


@pytest.mark.parametrize("handler", ["'SIGCHLD', print", "'SIGHUP', signal.SIG_IGN", "'SIGUSR1', signal.SIG_DFL"])
@pytest.mark.parametrize("way", ["run", "plain"])
def test_what_is_no_handler_that_could_wake_a_task(start: Start, way: str, handler: str) -> None:
    last = "channel.new().pop()" if way == "plain" else "silly.run(lambda: channel.new().pop())"
    status, _, errors = rest(start(f"on({handler})", last))
    assert status == 1
    assert "nothing can ever wake the tasks that are left" in errors


def test_run_ends_without_tasks_though_there_is_a_handler(start: Start) -> None:
    assert rest(start("on('SIGTERM', print)", "silly.run(lambda: say('ran'))")) == (0, ["ran"], "")


# ---- at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("does", ["task.fork(say, 'done')", "time.after(1, lambda: say('done'))", "task.wakeup(me[0])"])
@ways
def test_what_a_handler_does_needs_no_other_event(start: Start, way: str, does: str) -> None:
    script = f"""
me = [None]
def sleeper():
    me[0] = task.running()
    task.fork(say, "ready")
    task.wait()
    say("done")
on("SIGUSR1", lambda *_: {does})
task.fork(sleeper)
time.after(600_000, print)
when_idle("SIGUSR1")
"""
    child = start(script, way)
    assert [child.line(), child.line()] == ["ready", "done"]


def test_no_timer_of_a_handler_is_lost(start: Start) -> None:
    """A handler sets timers while the main program sets and cancels its own."""
    script = """
fired = []
due = 0
def handler(*_):
    global due
    for _ in range(4):
        time.after(1, lambda: fired.append(1))
        due += 1
on("SIGALRM", handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while due < 4000:
    timers = [time.after(50_000, print) for _ in range(200)]
    for timer in timers:
        assert time.cancel(timer)
    time.sleep(1)
signal.setitimer(signal.ITIMER_REAL, 0)
time.sleep(50)
while len(fired) < due and len(silly._core.scheduler.loop.timers):
    time.sleep(1)
say(len(fired) == due)
"""
    assert rest(start(script, "")) == (0, ["True"], "")


def test_a_wait_within_a_wait_of_the_main_program_hands_no_signal_back_to_the_loop() -> None:
    """A handler calls silly.exit where the main program is about to wait. The loop would never rest again."""
    loop = Loop()
    wakeup = signals.Wakeup(loop)
    reads, writes = socket.socketpair()
    with reads, writes:
        writes.setblocking(False)
        before = signal.set_wakeup_fd(writes.fileno())
        try:
            with wakeup, wakeup:
                assert loop.signals_to == writes.fileno()
            assert signal.set_wakeup_fd(writes.fileno()) == writes.fileno()
        finally:
            signal.set_wakeup_fd(before)
            loop.close()


def test_the_application_s_own_descriptor_for_signals(start: Start) -> None:
    """It gets the numbers also while the main program is blocked, and is set again afterwards."""
    script = """
ours, theirs = socket.socketpair()
ours.setblocking(False)
theirs.setblocking(False)
other, _ = socket.socketpair()
other.setblocking(False)
on("SIGUSR1", lambda *_: None)
on("SIGUSR2", lambda *_: task.wakeup(me))
me = task.running()
time.sleep(1)
say(signal.set_wakeup_fd(ours.fileno()))
time.after(1, lambda: os.kill(os.getpid(), signal.SIGUSR1))
time.after(2, lambda: os.kill(os.getpid(), signal.SIGUSR2))
task.wait()
say(sorted(theirs.recv(10)) == [signal.SIGUSR1, signal.SIGUSR2])
say(signal.set_wakeup_fd(-1) == ours.fileno())
task.fork(lambda: signal.set_wakeup_fd(other.fileno()))
time.sleep(1)
say(signal.set_wakeup_fd(-1) == other.fileno())
"""
    assert rest(start(script, "")) == (0, ["-1", "True", "True", "True"], "")


# ---- an end that is forced ---------------------------------------------------------------------------------------

SHORT = "silly._core.ending.plan, silly._core.ending.FINALLY = silly._core.ending.Plan(drain=0), 0.4\n"

HOLDS = {
    "sleep": "os_time.sleep(600)",
    "socket": "ends[1][0].recv(1)",
    "lock": "threading.Semaphore(0).acquire()",
    "file": "os.read(ends[0][0], 1)",
    "computing": "while True: pass",
}

HOLDER = """
ends = os.pipe(), socket.socketpair()
def holder():
    say("holds")
    HOLD
time.after(1, holder)
"""


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@runs
def test_a_task_that_holds_the_loop_does_not_keep_the_end_off(
    start: Start, way: str, number: signal.Signals, hold: str
) -> None:
    script = SHORT + HOLDER.replace("HOLD", HOLDS[hold])
    line = (PRELUDE + script).splitlines().index("    " + HOLDS[hold]) + 1
    child = start(script, way)
    assert child.line() == "holds"
    child.process.send_signal(number)
    status, lines, errors = rest(child)
    assert (status, lines) == (128 + number, [])
    first, last = errors.splitlines()[0], errors.splitlines()[-1]
    where = rf"holder, which holds the loop at \S+:{line}( \(in \S+, \S+:[0-9]+\))?"
    assert re.search(rf"WARNING {number.name}: the end waits for task {where}$", first)
    forced = rf"the end took more than 0\.4 s, and is forced with status {status}"
    assert re.search(rf"ERROR {number.name}: {forced}; task {where}$", last)


@runs
def test_a_handler_of_the_application_that_calls_exit_is_guarded_too(start: Start, way: str) -> None:
    script = SHORT + "on('SIGTERM', lambda *_: silly.exit(3))\n" + HOLDER.replace("HOLD", HOLDS["sleep"])
    child = start(script, way)
    assert child.line() == "holds"
    child.process.send_signal(signal.SIGTERM)
    assert rest(child)[0] == 128 + signal.SIGTERM


@runs
def test_a_finally_block_that_holds_the_loop_is_cut_off(start: Start, way: str) -> None:
    script = f"""{SHORT}
def holder():
    try:
        say("waits")
        task.wait()
    finally:
        say("holds")
        os_time.sleep(600)
task.fork(holder)
time.after(600_000, print)
"""
    child = start(script, way)
    assert child.line() == "waits"
    child.process.send_signal(signal.SIGTERM)
    status, lines, errors = rest(child)
    assert (status, lines) == (128 + signal.SIGTERM, ["holds"])
    assert re.search(r"is forced with status 143; task holder, which holds the loop at \S+app\.py:\d+$", errors.rstrip())


@runs
def test_a_task_that_refuses_a_signal_s_end_is_cut_off_with_its_status(start: Start, way: str) -> None:
    script = f"""{SHORT}
def stubborn():
    say("waits")
    while True:
        try:
            time.sleep(600_000)
        except BaseException:
            pass
task.fork(stubborn)
"""
    child = start(script, way)
    assert child.line() == "waits"
    child.process.send_signal(signal.SIGTERM)
    status, _, errors = rest(child)
    assert status == 128 + signal.SIGTERM
    assert "stubborn" in errors


@runs
def test_a_peer_that_takes_nothing_changes_no_status(start: Start, way: str) -> None:
    script = f"""{SHORT}
from silly.net import tcp
def accept(conn):
    conn._stream.write_nowait(bytes(64 * 1024 * 1024))
    say("written")
    task.wait()
listener = silly.check(tcp.listen("127.0.0.1:0", accept))
say(listener.port)
"""
    child = start(script, way)
    with socket.create_connection(("127.0.0.1", int(child.line()))):
        assert child.line() == "written"
        child.process.send_signal(signal.SIGTERM)
        assert rest(child)[:2] == (0, [])


@pytest.mark.parametrize("held", [0.15, 0.0])
@runs
def test_a_task_that_lets_go_in_time_costs_no_status(start: Start, way: str, held: float) -> None:
    script = f"""
task.fork(waiter)
def holder():
    say("holds")
    begin = os_time.monotonic()
    while os_time.monotonic() < begin + 0.5:
        os_time.sleep({held})
time.after(1, holder)
time.after(600_000, print)
"""
    child = start(script, way)
    assert child.line() == "holds"
    child.process.send_signal(signal.SIGTERM)
    status, lines, errors = rest(child)
    assert (status, lines) == (0, ["finally"])
    assert re.fullmatch(r"\S+ \S+ WARNING SIGTERM: the end waits for task holder, which holds the loop at \S+\n", errors)


def test_code_in_c_that_keeps_the_lock_is_cut_off_by_faulthandler(start: Start) -> None:
    """``re`` looks for signals, and never lets go of the interpreter's lock."""
    script = f"""{SHORT}
silly._core.guard.LAST = 0.2
import re
def holder():
    say("holds")
    re.match("(a+)+$", "a" * 60 + "b")
time.after(1, holder)
"""
    child = start(script)
    assert child.line() == "holds"
    child.process.send_signal(signal.SIGTERM)
    status, _, errors = rest(child)
    assert status in (1, 128 + signal.SIGTERM)  # the other one where ``re`` lets go now and then
    assert "holder" in errors


def test_nothing_is_armed_once_the_end_is_over(start: Start) -> None:
    script = """
silly._core.ending.plan, silly._core.ending.FINALLY = silly._core.ending.Plan(drain=0), 0.1
silly._core.guard.LAST = 0.1
time.after(600_000, print)
task.fork(say, "ready")
"""
    last = "try:\n    silly.run()\nfinally:\n    os_time.sleep(1)\n    say('alive')"
    child = start(script, last)
    assert child.line() == "ready"
    child.process.send_signal(signal.SIGTERM)
    assert rest(child) == (0, ["alive"], "")


def test_a_child_forked_in_a_guarded_end_ends_by_itself(start: Start) -> None:
    script = """
def forks():
    try:
        say("ready")
        task.wait()
    finally:
        if os.fork() == 0:
            sys.exit(0)  # at its exit Python would wait for the thread of faulthandler
        os.wait()
        say("waited")
task.fork(forks)
time.after(600_000, print)
"""
    child = start(script)
    assert child.line() == "ready"
    child.process.send_signal(signal.SIGTERM)
    status, lines, _ = rest(child)
    assert (status, lines[-1]) == (0, "waited")


def test_ctrl_c_for_the_main_program_reaches_a_task_that_holds_the_loop(start: Start) -> None:
    script = SHORT + HOLDER.replace("HOLD", "try: os_time.sleep(600)\n    finally: say('interrupted')")
    child = start(script, "plain")
    assert child.line() == "holds"
    child.process.send_signal(signal.SIGINT)
    status, lines, errors = rest(child)
    assert (status, lines) == (-signal.SIGINT, ["interrupted"])
    where = r"task holder, which holds the loop at \S+app\.py:\d+"
    assert re.search(rf"WARNING SIGINT: the main program waits for {where}; a second one interrupts that\n", errors)


def test_what_the_main_program_does_with_ctrl_c_is_not_interrupted(start: Start) -> None:
    """Its finally block holds the loop for longer than the guard waits; only one Ctrl-C was sent."""
    script = """
silly._core.ending.plan, silly._core.ending.FINALLY = silly._core.ending.Plan(drain=0), 0.2
silly._core.guard.SOON = 0.05
when_idle("SIGINT")
try:
    time.sleep(600_000)
finally:
    os_time.sleep(1)
    say("cleaned up")
"""
    status, lines, errors = rest(start(script, ""))
    assert (status, lines) == (-signal.SIGINT, ["cleaned up"])
    assert "WARNING" not in errors


def test_tasks_are_not_ended_once_ctrl_c_has_ended_the_main_program(start: Start) -> None:
    """A task ends the process in the turn in which Ctrl-C reaches the main program: at the interpreter's exit no task runs."""
    script = """
from silly.net import tcp
silly._core.ending.plan, silly._core.ending.FINALLY = silly._core.ending.Plan(drain=0), 0.2
server = socket.create_server(("127.0.0.1", 0))
conn = silly.check(tcp.connect(f"127.0.0.1:{server.getsockname()[1]}"))
while not conn._stream.unsent:  # so that the loop turns at the interpreter's exit
    conn.write(b"x" * 100_000)
    conn._stream.flush()
task.fork(waiter)
def ends():
    os.kill(os.getpid(), signal.SIGINT)
    silly.exit(3)
time.after(1, ends)
try:
    time.sleep(600_000)
except KeyboardInterrupt:
    say("interrupted")
"""
    assert rest(start(script, "")) == (0, ["interrupted"], "")


def test_the_times_of_the_guard() -> None:
    assert (guard.SOON, guard.MARGIN, guard.LAST) == (0.1, 0.25, 1.0)


def test_the_page_s_code_and_its_times(start: Start) -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "signals.md").read_text()
    assert f"After {guard.SOON} s a warning" in text
    assert f"{guard.MARGIN} s after the 3 s the process ends by force" in text
    assert f"is ended {guard.LAST:g} s later by `faulthandler`" in text
    ours, raw = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    child = start(f"sys.stderr = sys.stdout\nimport silly\n{ours}{raw}task.fork(waiter)\ntask.fork(lambda: say('ready'))")
    assert child.line() == "ready"
    child.process.send_signal(signal.SIGHUP)
    assert child.line().endswith("INFO SIGHUP came")
    assert child.line().endswith("INFO reloaded")
    child.process.send_signal(signal.SIGUSR1)
    assert child.line().endswith("INFO still here")
    child.process.send_signal(signal.SIGTERM)
    status, lines, errors = rest(child)
    assert (status, lines, errors) == (3, ["finally"], "")
