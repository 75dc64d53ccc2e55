"""The phases of the process's end: what can happen in each, and what may follow it."""

from __future__ import annotations

import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import silly
from silly import errno, task, time
from silly._core import ending, scheduler
from silly._core.ending import TABLE, Phase
from silly.net import _stream, tcp
from silly.sync import channel

from ..children import Child
from ..conftest import Logs
from ..net.support import Job, until

# ---- from phase to phase ------------------------------------------------------------------------------------------------

STEPS = """
running notice, running draining, running over,
notice draining, notice over,
draining ending, draining over,
ending leaving, ending closing, ending over,
leaving closing, leaving over,
closing over,
over notice, over draining
"""
"""As the picture in the module's header has them."""


@pytest.fixture
def phase() -> Iterator[None]:
    """Puts the phase back after a test that goes through some of them, in a process
    that goes on running."""
    yield
    ending._state.phase = Phase.RUNNING
    scheduler.exiting, scheduler.starts, scheduler.begins, scheduler.serving_ended = False, True, True, None


@pytest.mark.parametrize("then", Phase)
@pytest.mark.parametrize("now", Phase)
def test_each_step(now: Phase, then: Phase, phase: None, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = f"{now.value} {then.value}" in [step.strip() for step in STEPS.split(",")]
    assert (then in TABLE[now].then) is allowed
    ending._state.phase = now
    if not allowed:
        with pytest.raises(RuntimeError, match=f"BUG: the process can't go from {now.value} to {then.value}"):
            ending.enter(then)
        assert ending.phase() is now
        monkeypatch.setattr(ending, "strict", False)
        logs.expect(f"ERROR BUG: the process can't go from {now.value} to {then.value}")
    ending.enter(then)
    assert ending.phase() is then, "in production it is taken all the same"
    rules = TABLE[then]
    assert (not scheduler.exiting, scheduler.starts, scheduler.begins) == (rules.blocks, rules.starts, rules.begins)


def test_the_process_runs() -> None:
    assert ending.phase() is Phase.RUNNING
    assert ending.strict, "a wrong step fails a test"
    assert set(TABLE) == set(Phase)


# ---- what can happen in each --------------------------------------------------------------------------------------------

PRELUDE = """
import os, signal, threading
import time as os_time
import silly
from silly import errno, task, time
from silly._core import ending, scheduler, worker
from silly._core.ending import Phase
from silly.net import tcp
from silly.sync import channel
ending.strict = True
loop = scheduler.loop

def say(*words):
    print(" ".join(map(str, words)) + "\\n", end="", flush=True)  # whole lines, from every thread

def attempt(func):
    try:
        say(func())
    except BaseException as exc:
        say("raised", type(exc).__name__, *([exc.code] if isinstance(exc, SystemExit) else []))

def wait():
    attempt(task.wait)

others = []
"""

REACH = {
    Phase.RUNNING: """
def body():
    assert ending.phase() is Phase.RUNNING
    act()
task.fork(body)
silly.run()
""",
    # After a signal. Something must listen for there to be a notice.
    Phase.NOTICE: """
ending.plan = ending.Plan(notice=3_600_000)
def body():
    listener = silly.check(tcp.listen("127.0.0.1:0", print))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0)
    assert ending.phase() is Phase.NOTICE
    listener.close()
    act()
task.fork(body)
silly.run()
""",
    # In a task that serves.
    Phase.DRAINING: """
def body():
    while ending.phase() is not Phase.DRAINING:
        time.sleep(1)
    act()
scheduler.fork(body, (), None, None, 0, serves=True)
time.after(1, silly.exit, 3)
silly.run()
""",
    # In the finally block of a task; another has not got its GreenletExit yet.
    Phase.ENDING: """
def body():
    try:
        task.wait()
    finally:
        assert ending.phase() is Phase.ENDING
        act()
task.fork(body)
others.append(task.fork(wait))
time.after(1, silly.exit, 3)
silly.run()
""",
    # In the finally block of a task that nothing can wake; another has not been told yet.
    Phase.LEAVING: """
def body():
    try:
        stay()
    finally:
        assert ending.phase() is Phase.LEAVING
        act()
def stay(last=task.wait):
    try:
        task.wait()
    finally:
        last()
task.fork(body)
others.append(task.fork(stay, wait))
time.after(1, silly.exit, 3)
silly.run()
""",
    # In a callback of the loop, while a job is waited for; no task is left, and the
    # main program is held.
    Phase.CLOSING: """
def poll(_):
    if ending.phase() is Phase.CLOSING:
        act()
        job.give_up()
    else:
        loop.timers.add(os_time.monotonic() + 0.001, poll, internal=True)
job = worker.Job(worker.files, loop, print, (), print)
others.append(scheduler.main)
poll(None)
time.after(1, silly.exit, 3)
silly.run()
""",
    # In the main program, which goes on after its SystemExit.
    Phase.OVER: """
time.after(1, silly.exit, 3)
try:
    silly.run()
except SystemExit as exc:
    assert exc.code == 3
assert ending.phase() is Phase.OVER
act()
silly.run()
""",
}

HELPERS = """
chan = channel.new()
def wake():
    if not others:
        others.append(task.fork(wait))
        while task.status(others[0]) != "WAIT":
            time.sleep(0)
    scheduler.wake(others[0], "woken")
def fork():
    child = os.fork()
    if not child:
        attempt(lambda: time.sleep(1))
        attempt(lambda: task.fork(print))
        os._exit(9)
    say("its status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
def in_thread(func):
    thread = threading.Thread(target=attempt, args=(func,))
    thread.start()
    while thread.is_alive() and not loop._posted:
        os_time.sleep(0.001)
"""

ACTS = {
    "fork": "task.fork(lambda: say('it runs'))",
    "wake": "wake()",
    "block": "loop.timers.add(os_time.monotonic() + 0.001, chan.push, 'item'); attempt(lambda: chan.pop()[0])",
    "listen": "attempt(lambda: (lambda it: it[0].close()[1] if it[0] else it[1])(tcp.listen('127.0.0.1:0', print)))",
    "timer": "time.after(1 if scheduler.begins else 3_600_000, lambda: say('it fires'))",
    "timer, waited for": "time.after(1, chan.push, 'item'); attempt(lambda: chan.pop()[0])",
    "signal": "attempt(lambda: (os.kill(os.getpid(), signal.SIGINT), task.wait()))",
    "silly.exit": "attempt(lambda: silly.exit(7))",
    "sys.exit": "loop.post(ending.begin_exit, 7)",
    "os.fork": "fork()",
    "task.thread": "attempt(lambda: task.thread(int, '7'))",
    "task.post": "in_thread(lambda: task.post(say, 'it runs'))",
    "task.call": "in_thread(lambda: task.call(int, '7'))",
}

REFUSED = "WARNING <task .*> was not started: the process is ending"
ELSEWHERE = ["raised RuntimeError", "raised RuntimeError", "its status 9"]
"""In a child of ``os.fork`` nothing works, in whatever phase the parent was."""

RUNNING, NOTICE, DRAINING, ENDING, LEAVING, CLOSING, OVER = Phase
OUTCOMES: dict[str, dict[tuple[Phase, ...], tuple[list[str], int, str]]] = {
    # What the process says, its status, and what it logs.
    "fork": {
        (RUNNING, NOTICE, OVER): (["it runs"], 0, ""),
        (DRAINING,): (["it runs"], 3, ""),
        (ENDING, LEAVING, CLOSING): ([], 3, REFUSED),
    },
    "wake": {
        (RUNNING, NOTICE, OVER): (["woken"], 0, ""),
        (DRAINING, LEAVING): (["woken"], 3, ""),
        (ENDING,): (["raised GreenletExit"], 3, ""),  # it gets its end all the same
        (CLOSING,): ([], 3, ""),  # the main program is held
    },
    "block": {
        (RUNNING, NOTICE, OVER): (["item"], 0, ""),
        (DRAINING, ENDING): (["item"], 3, ""),
        (LEAVING,): (["None"], 3, ""),
        (CLOSING,): (["raised RuntimeError"], 3, ""),  # nothing but callbacks runs
    },
    "listen": {
        (RUNNING, NOTICE, OVER): (["None"], 0, ""),
        (DRAINING, ENDING, LEAVING, CLOSING): ([errno.CLOSED], 3, ""),
    },
    "timer": {(RUNNING, NOTICE, OVER): (["it fires"], 0, ""), (DRAINING, ENDING, LEAVING, CLOSING): ([], 3, "")},
    "timer, waited for": {
        (RUNNING, NOTICE, OVER): (["item"], 0, ""),
        (DRAINING,): (["item"], 3, ""),
        (ENDING, LEAVING): (["None"], 3, ""),  # nothing can wake it
        (CLOSING,): (["raised RuntimeError"], 3, ""),
    },
    "signal": {
        (RUNNING,): (["raised GreenletExit"], 0, ""),
        (NOTICE,): ([], -signal.SIGINT, ""),  # it is the second one
        (DRAINING,): (["raised GreenletExit"], 3, ""),
        (ENDING,): (["raised Leaving"], 3, ""),
        (LEAVING,): (["raised GreenletExit"], 3, ""),
        (CLOSING,): (["raised RuntimeError"], 3, ""),
        (OVER,): (["raised KeyboardInterrupt"], 0, ""),  # outside of silly.run
    },
    "silly.exit": {
        (RUNNING, NOTICE): (["raised GreenletExit"], 7, ""),
        (DRAINING, ENDING, LEAVING): (["raised GreenletExit"], 3, ""),  # the first status counts
        (CLOSING,): (["None"], 3, ""),  # as in a signal handler that interrupts the loop
        (OVER,): (["raised SystemExit 7"], 0, ""),
    },
    "sys.exit": {(RUNNING, NOTICE, OVER): ([], 7, ""), (DRAINING, ENDING, LEAVING, CLOSING): ([], 3, "")},
    "task.thread": {
        (RUNNING, NOTICE, OVER): (["(7, None)"], 0, ""),
        (DRAINING, ENDING): (["(7, None)"], 3, ""),
        (LEAVING,): ([f"(None, '{errno.CLOSED}')"], 3, ""),
        (CLOSING,): (["raised RuntimeError"], 3, ""),
    },
    "task.post": {
        (RUNNING, NOTICE, OVER): (["True", "it runs"], 0, ""),
        (DRAINING,): (["True", "it runs"], 3, ""),
        (ENDING, LEAVING, CLOSING): (["False"], 3, ""),
    },
    "task.call": {
        (RUNNING, NOTICE, OVER): (["7"], 0, ""),
        (DRAINING,): (["7"], 3, ""),
        (ENDING, LEAVING, CLOSING): (["raised Error"], 3, ""),
    },
    "os.fork": {(RUNNING, NOTICE, OVER): (ELSEWHERE, 0, ""), (DRAINING, ENDING, LEAVING, CLOSING): (ELSEWHERE, 3, "")},
}

OTHERS = {ENDING: ["raised GreenletExit"], LEAVING: ["raised Leaving"]}
"""What the task that waits beside says, unless it is woken."""


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("phase", Phase)
def test_what_can_happen(phase: Phase, act: str) -> None:
    lines, status, log = next(outcome for phases, outcome in OUTCOMES[act].items() if phase in phases)
    if act != "wake":
        lines = lines + OTHERS.get(phase, [])
    with Child("-c", f"{PRELUDE}{HELPERS}def act():\n    {ACTS[act]}\n{REACH[phase]}") as child:
        assert child.process.stdout is not None
        said = child._bounded(child.process.stdout.read).splitlines()
        assert (sorted(said), child.wait()) == (sorted(lines), status), child.errors()
        assert re.fullmatch(f"(.* {log}\n)" if log else "", child.errors())


def test_every_case_is_there() -> None:
    assert set(OUTCOMES) == set(ACTS)
    assert set(REACH) == set(Phase)
    for outcomes in OUTCOMES.values():
        assert sorted(phase.name for phases in outcomes for phase in phases) == sorted(phase.name for phase in Phase)


# ---- what it costs to ask whether anything can happen -------------------------------------------------------------------


def calls_to_ask() -> int:
    """How many functions are entered to find out that something can still happen, those
    in C and steps of generators too."""
    entered = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal entered
        entered += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        starved = ending._starved()
    finally:
        sys.setprofile(None)
    assert starved is False
    return entered


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    """A stream, and the socket of its peer. Nothing listens."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    stream = _stream.Stream(ours, "peer")
    with peer:
        yield stream, peer
        stream.abort()


def test_a_reader_can_be_woken(pair: tuple[Any, Any]) -> None:
    stream, peer = pair
    assert not scheduler.loop.can_wake()
    for _ in range(2):
        reading = Job(lambda: stream.fill(len(stream.buf) + 1)).blocked()
        assert scheduler.loop.can_wake()
        peer.send(b"x")
        assert reading.result() is None
        assert not scheduler.loop.can_wake()


def test_output_that_the_kernel_refused_is_still_to_be_sent(pair: tuple[Any, Any]) -> None:
    stream, peer = pair
    for _ in range(2):
        stream.write(bytes(900_000))
        stream.flush()
        assert stream.blocked
        assert scheduler.loop.can_wake()
        while stream.unsent:
            peer.recv(65536)
            time.sleep(0)
        assert not scheduler.loop.can_wake()


def test_it_costs_the_same_beside_idle_connections() -> None:
    accepted: channel.Channel[Any] = channel.new()
    with ExitStack() as stack:
        listener = stack.enter_context(silly.check(tcp.listen("127.0.0.1:0", accepted.push)))

        def connect() -> Any:
            client = stack.enter_context(silly.check(tcp.connect(listener.addr)))
            stack.enter_context(accepted.pop()[0])
            return client

        busy = connect()
        reading = Job(lambda: busy.read(1)).blocked()
        alone = calls_to_ask()
        conns = [connect() for _ in range(50)]
        assert calls_to_ask() == alone
        reading.kill()
        # And, on the average, for a program that goes from one to the next.
        costs = []
        for conn in conns * 4:
            reading = Job(lambda conn=conn: conn.read(1)).blocked()
            costs.append(calls_to_ask())
            reading.kill()
        assert sum(costs) / len(costs) <= alone + 2


def test_it_costs_the_same_beside_tasks_within_deadlines() -> None:
    def bounded() -> None:
        with time.deadline(600_000):
            task.wait()

    tasks = [Job(bounded).blocked()]
    alone = calls_to_ask()
    tasks += [Job(bounded) for _ in range(50)]
    until(lambda: all(task.status(each.task) == "WAIT" for each in tasks))
    assert calls_to_ask() == alone
    for each in tasks:
        each.kill()


def test_without_stdout_a_script_whose_tasks_never_ran_has_its_status() -> None:
    """A daemon, or pythonw, has no ``sys.stdout``."""
    with Child("-c", "import sys\nfrom silly import task\ntask.fork(print)\nsys.stdout = None") as child:
        assert (child.wait(), child.errors().count("never ran"), "Traceback" in child.errors()) == (1, 1, False)
