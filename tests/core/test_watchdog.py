"""The watchdog: the task that holds the loop is reported once with the line, and once with the total time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time as os_time
from collections.abc import Callable, Iterator
from logging import Handler, getLogger
from pathlib import Path
from typing import Any

import pytest

from silly import task, time
from silly._core import callers, scheduler, watchdog

from ..children import Child
from ..conftest import Logs

PATIENCE = 20.0
"""Seconds after which something that should have happened has failed."""

WARNED = r"held the loop for [\d.]+ s( at .+:\d+( \(in .+\))?)?: nothing else runs meanwhile; .+$"
IN_ALL = r"held the loop for [\d.]+ s in all$"


def hold(until: Callable[[], object]) -> None:
    """Holds the loop until the condition is true."""
    end = os_time.monotonic() + PATIENCE
    while not until():
        os_time.sleep(0.001)
        if os_time.monotonic() > end:
            raise AssertionError("the condition never came true")


def found(logs: Logs, pattern: str) -> list[str]:
    return [line for line in logs.lines if re.search(pattern, line)]


def turn_until(condition: Callable[[], object]) -> None:
    end = os_time.monotonic() + PATIENCE
    while not condition():
        time.sleep(1)
        if os_time.monotonic() > end:
            raise AssertionError("the condition never came true")


def forget(logs: Logs) -> None:
    """Ends what the main program has held until now, and drops the lines about it. (A ``sleep(0)`` may end no turn.)"""
    time.sleep(1)
    logs.lines.clear()


@pytest.fixture(autouse=True)
def keep_its_lines(logs: Logs) -> None:
    logs.watchdog = True
    logs.allow("held the loop for")


class Looks:
    """Counts the looks of the thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        look = watchdog._Rounds.look

        def counted(*args: Any) -> None:
            look(*args)
            self.count += 1

        monkeypatch.setattr(watchdog._Rounds, "look", counted)

    def more(self, count: int) -> Callable[[], bool]:
        """Whether ``count`` looks have begun and ended since this was called."""
        last = self.count + 1 + count
        return lambda: self.count >= last


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> Iterator[Any]:
    """A hold is reported after 20 ms, and there is a timer that it holds up."""
    monkeypatch.setattr(watchdog, "INTERVAL", 0.005)
    monkeypatch.setattr(watchdog, "FOLLOW", 0.005)
    monkeypatch.setattr(watchdog, "HELD", 3600.0)
    timer = time.after(3_600_000, lambda: None)
    forget(logs)
    monkeypatch.setattr(watchdog, "HELD", 0.02)
    yield timer
    time.cancel(timer)


def test_a_hold_is_reported_while_it_lasts_and_at_its_end(logs: Logs) -> None:
    def handle() -> None:
        hold(lambda: found(logs, rf"WARNING task .*handle {WARNED}"))

    logs.expect(rf"WARNING task .*<locals>\.handle {WARNED}")
    task.fork(handle)
    turn_until(lambda: found(logs, rf"handle {IN_ALL}"))
    (line,) = found(logs, rf"handle {WARNED}")
    # Whatever ran: ``hold``, the condition, or what that calls in the standard library.
    assert f" at {__file__}:" in line
    warned = float(line.split(" held the loop for ")[1].split()[0])
    total = float(found(logs, rf"handle {IN_ALL}")[0].split(" held the loop for ")[1].split()[0])
    assert total >= warned


def test_a_call_that_blocks_in_the_standard_library_is_named_with_the_line_that_calls_it(logs: Logs) -> None:
    reported = threading.Event()

    class Tell(Handler):
        def emit(self, record: Any) -> None:
            if "handle held the loop" in record.getMessage():  # not what is said of the main program
                reported.set()

    def handle() -> None:
        reported.wait(PATIENCE)

    getLogger("silly").addHandler(tell := Tell())
    try:
        task.fork(handle)
        turn_until(lambda: found(logs, rf"handle {IN_ALL}"))
    finally:
        getLogger("silly").removeHandler(tell)
    (line,) = found(logs, rf"handle {WARNED}")
    place = f"{__file__}:{handle.__code__.co_firstlineno + 1}"
    assert re.search(rf" at {re.escape(place)} \(in Condition\.wait, {re.escape(threading.__file__)}:\d+\): ", line)


def test_a_hold_is_reported_once(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)

    def handle() -> None:
        hold(lambda: found(logs, rf"handle {WARNED}"))
        hold(looks.more(10))

    for holds in (1, 2):
        task.fork(handle)
        logs.lines.clear()
        turn_until(lambda: found(logs, rf"handle {IN_ALL}"))
        assert len(found(logs, rf"handle {WARNED}")) == 1, holds
        assert len(found(logs, rf"handle {IN_ALL}")) == 1, holds


def test_two_holds_in_one_turn_are_each_reported(logs: Logs) -> None:
    """That of the main program, which then lets a task run that holds the loop too."""

    def handle() -> None:
        hold(lambda: found(logs, rf"task .* {WARNED}"))

    task.fork(handle)
    hold(lambda: found(logs, rf"the main program {WARNED}"))
    turn_until(lambda: found(logs, rf"task .* {IN_ALL}"))
    ends = [each for each in logs.lines if re.search(IN_ALL, each)]
    assert any("the main program" in each for each in ends), "its hold is over where the task begins"
    assert len(found(logs, rf"handle {WARNED}")) == len(found(logs, rf"handle {IN_ALL}")) == 1


def test_the_library_s_own_frames_are_skipped(logs: Logs) -> None:
    source = "def inside(lines):\n    while not any('handle held the loop' in line for line in lines): pass\n"
    space: dict[str, Any] = {}
    exec(compile(source, f"{callers.PACKAGE}inside.py", "exec"), space)

    def handle() -> None:
        space["inside"](logs.lines)

    logs.expect(rf"handle {WARNED}")
    task.fork(handle)
    turn_until(lambda: found(logs, rf"handle {IN_ALL}"))
    (line,) = found(logs, rf"handle {WARNED}")
    assert f" at {__file__}:{handle.__code__.co_firstlineno + 1}: " in line


def test_a_callback_of_the_loop(logs: Logs) -> None:
    scheduler.loop.post(lambda: hold(lambda: found(logs, rf"WARNING a callback {WARNED}")))
    turn_until(lambda: found(logs, rf"WARNING a callback {IN_ALL}"))
    assert found(logs, rf"a callback {WARNED}")


def test_the_main_program_that_was_woken(logs: Logs) -> None:
    time.sleep(0)
    hold(lambda: found(logs, rf"WARNING the main program {WARNED}"))
    turn_until(lambda: found(logs, rf"WARNING the main program {IN_ALL}"))


def test_a_prompt_holds_nothing_but_a_task_under_it_does(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the task holds does not count from the prompt on."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    forget(logs)
    begin = os_time.monotonic()
    hold(lambda: os_time.monotonic() > begin + 0.5)
    assert found(logs, WARNED) == []
    task.fork(lambda: hold(lambda: found(logs, rf"task .* {WARNED}")))
    turn_until(lambda: found(logs, rf"task .* {IN_ALL}"))
    (line,) = found(logs, rf"task .* {WARNED}")
    assert float(line.split(" held the loop for ")[1].split()[0]) < os_time.monotonic() - begin - 0.1


def test_what_keeps_nobody_waiting_is_not_reported(logs: Logs, quick: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could run beside the main program. Once something could, its time counts."""
    looks = Looks(monkeypatch)
    time.cancel(quick)
    forget(logs)
    begin = os_time.monotonic()
    hold(looks.more(3))
    hold(lambda: os_time.monotonic() > begin + 5 * watchdog.HELD)
    hold(looks.more(3))
    assert found(logs, WARNED) == []
    task.fork(lambda: None)
    hold(lambda: found(logs, rf"the main program {WARNED}"))
    turn_until(lambda: found(logs, rf"the main program {IN_ALL}"))


def test_a_loop_that_waits_is_not_held(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    monkeypatch.setattr(watchdog, "HELD", 10.0)
    forget(logs)
    turn_until(looks.more(5))
    assert found(logs, WARNED) == []
    assert scheduler.loop.busy_since > 0.0, "the main program was woken"


# ---- the thread sleeps while the loop does ------------------------------------------------------------------------------


def test_while_the_loop_waits_the_thread_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    before = looks.count
    time.sleep(500)  # 100 times INTERVAL
    assert looks.count - before <= 10


@pytest.mark.parametrize("who", ["a callback", "task"])
def test_a_hold_in_the_first_turn_after_a_sleep(who: str, logs: Logs) -> None:
    def handle() -> None:
        hold(lambda: found(logs, rf"WARNING {who}.* {WARNED}"))

    def once_it_sleeps() -> None:
        while scheduler.loop.on_busy is None:
            os_time.sleep(0.001)
        scheduler.loop.post(handle if who == "a callback" else lambda: task.fork(handle))

    thread = threading.Thread(target=once_it_sleeps)
    thread.start()
    end = os_time.monotonic() + PATIENCE
    while not found(logs, rf"WARNING {who}.* {IN_ALL}"):
        assert os_time.monotonic() < end
        time.sleep(200)  # or the thread never sleeps
    thread.join()


def test_it_sleeps_and_wakes_however_short_its_interval_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that it is asleep the next turn wakes it: no wake-up is lost between the two threads."""
    looks = Looks(monkeypatch)
    monkeypatch.setattr(watchdog, "INTERVAL", 0.0)
    monkeypatch.setattr(watchdog, "HELD", 10.0)
    for _ in range(300):
        time.sleep(0 if scheduler.loop.turns % 2 else 1)
        hold(looks.more(1))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="it counts what Linux tells")
@pytest.mark.parametrize("kind", ["tcp", "http", "prompt"])
def test_an_idle_process_has_no_wake_ups(kind: str) -> None:
    """By the kernel's count of each thread's switches."""
    script = {
        "tcp": "from silly.net import tcp; kept = tcp.listen('127.0.0.1:0', print)",
        "http": "from silly.net import http; kept = http.listen('127.0.0.1:0', print)",
        "prompt": "sys.ps1 = '>>> '; kept = time.after(3_600_000, print)",
    }[kind]
    wait = "os_time.sleep(3600)" if kind == "prompt" else "silly.run()"
    # Without the line of a listener no thread writes to stderr.
    start = "import sys, time as os_time, silly\nfrom silly import logger, time\nlogger.setlevel(logger.WARN)\n"
    script = f"{start}{script}\ntime.sleep(1)\nprint('ready', flush=True)\n{wait}\n"
    with Child("-c", script) as child:
        assert child.line() == "ready"
        end = os_time.monotonic() + PATIENCE
        before = -1
        while before != (now := switches(child.process.pid)):
            before = now
            assert os_time.monotonic() < end
            os_time.sleep(1.0)  # four times INTERVAL
        assert len(os.listdir(f"/proc/{child.process.pid}/task")) == 2, "the main thread and the watchdog's"
        child.process.kill()


def switches(pid: int) -> int:
    total = 0
    for each in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{each}/status") as status:
            total += sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)
    return total


# ---- whole programs -----------------------------------------------------------------------------------------------------

QUICK = """
import signal, sys, threading, time as os_time
import silly
from silly import logger, task, time
from silly._core import watchdog
from silly.net import http, tcp
watchdog.INTERVAL, watchdog.FOLLOW = 0.001, 0.001
logs = []
def block():
    watchdog.HELD = 0.01
    end = os_time.monotonic() + 20
    while not any("held the loop" in line for line in logs) and os_time.monotonic() < end:
        os_time.sleep(0.001)
logger.logging.getLogger("silly").addHandler(handler := logger.logging.Handler())
def emit(record):
    logs.append(record.getMessage())
    print(logs[-1], flush=True)
handler.emit = emit
"""


@pytest.mark.parametrize(
    ("who", "script"),
    [
        pytest.param("task block", "task.fork(time.sleep, 60_000); task.fork(block); silly.run()", id="the first slice"),
        pytest.param(
            "task accept",
            "def accept(conn): block()\nlistener, _ = tcp.listen('127.0.0.1:0', accept)\n"
            "conn, _ = tcp.connect(listener.addr)\nconn.read(1)",
            id="tcp",
        ),
        pytest.param(
            "task handle",
            "def handle(stream):\n    block()\n    stream.answer(200, 'x')\n"
            "server, _ = http.listen('127.0.0.1:0', handle)\nhttp.get(f'http://{server.addr}/')",
            id="http",
        ),
        pytest.param("task block", "time.after(5, block); time.sleep(100)", id="timer"),
        pytest.param(
            "the main program",
            "listener, _ = tcp.listen('127.0.0.1:0', print)\nblock()",
            id="the main program, which has not blocked yet",
        ),
        pytest.param(
            "the main program",
            "def late(number, frame): raise ZeroDivisionError\n"
            "signal.signal(signal.SIGALRM, late)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
            "time.after(60_000, print)\n"
            "try: time.sleep(60_000)\nexcept ZeroDivisionError: block()",
            id="a signal handler that raises where the loop waits",
        ),
    ],
)
def test_a_program_that_blocks(who: str, script: str) -> None:
    """The row: a blocking driver hung everything in silence, as long as no WebSocket was open."""
    with Child("-c", QUICK + script + "\nsilly.exit()") as child:
        line = child.line()
        while "held the loop" not in line:
            line = child.line()
        assert re.match(rf"{who} {WARNED}", line)
        assert " at <string>:" in line
        child.process.kill()


def test_the_launcher_s_task_is_named_by_the_script(tmp_path: Path) -> None:
    """And what it imports before it opens anything is not reported."""
    path = tmp_path / "app.py"
    path.write_text(QUICK + "os_time.sleep(0.3)\nprint('nothing yet', flush=True)\ntask.fork(print)\nblock()\n")
    with Child("-m", "silly", path) as child:
        assert child.line() == "nothing yet"
        line = child.line()
        assert re.match(rf"task {re.escape(str(path))} {WARNED}", line)
        assert f" at {path}:" in line
        child.process.kill()


def test_what_atexit_calls_is_not_watched_if_no_thread_starts_there() -> None:
    """As in Python 3.12. That is no fault, so there is no line."""
    script = "import atexit, silly\nfrom silly import time\natexit.register(lambda: print('slept', time.sleep(1)))\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == ("slept None\n", "")


def test_a_thread_that_can_t_start_is_tried_again() -> None:
    script = """
start = threading.Thread.start
def refuse(self):
    if not any("the watchdog doesn't run" in line for line in logs):
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = refuse
watchdog.RETRY = 0.01
time.after(60_000, print)
time.sleep(1)
while scheduler.loop.on_busy is not None or watchdog._thread.ident is None:
    time.sleep(5)
block()
""".replace("scheduler", "watchdog.scheduler")
    with Child("-c", QUICK + script) as child:
        assert child.line() == "the watchdog doesn't run: can't start new thread"
        assert re.match(rf"the main program {WARNED}", child.line())
        child.process.kill()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_handler_that_raises_does_not_end_it_for_good(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*args: Any) -> None:
        raise ZeroDivisionError

    before = watchdog._thread
    with monkeypatch.context() as patch:
        patch.setattr(watchdog._Rounds, "look", raises)
        turn_until(lambda: watchdog._thread is not before)
    task.fork(lambda: hold(lambda: found(logs, rf"task .* {WARNED}")))
    turn_until(lambda: found(logs, rf"task .* {IN_ALL}"))


def test_a_forked_child_is_not_watched_and_ends_as_usual() -> None:
    script = """
import os, sys, threading
from silly import time
from silly._core import watchdog
watchdog.INTERVAL = watchdog.FOLLOW = 0.0001
time.sleep(1)
for _ in range(20):
    pid = os.fork()
    if not pid:
        assert watchdog.scheduler.loop.on_busy is None
        assert [each for each in threading.enumerate() if each.name == "silly-watchdog"] == []
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    time.sleep(1)
print("the parent", flush=True)
"""
    with Child("-W", "ignore", "-c", script) as child:
        for _ in range(20):
            assert child.line() == "7"
        assert child.line() == "the parent"
        assert child.wait() == 0


def test_the_end_of_the_process_ends_the_thread() -> None:
    script = """
import time as os_time
from silly import time
from silly._core import watchdog
watchdog.INTERVAL, watchdog.FOLLOW, watchdog.HELD = 0.001, 0.001, 0.005
time.after(60_000, print)
time.sleep(1)
os_time.sleep(0.05)
print("done", flush=True)
"""
    with Child("-c", script) as child:
        assert child.line() == "done"
        assert child.wait() == 0


def test_the_end_of_the_process_ends_a_thread_that_sleeps_at_once() -> None:
    """As at the prompt of a REPL."""
    script = """
import sys, time as os_time
from silly import time
from silly._core import watchdog
sys.ps1 = ">>> "
watchdog.INTERVAL = 0.001
time.sleep(1)
while watchdog._loop.on_busy is None:
    os_time.sleep(0.001)
os_time.sleep(0.05)  # from there it goes to sleep
watchdog.INTERVAL = 1e6
watchdog._stop()
print("alive" if watchdog._thread.is_alive() else "ended", flush=True)
"""
    with Child("-c", script) as child:
        assert child.line() == "ended"
        assert child.wait() == 0
