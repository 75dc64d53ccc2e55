"""``silly.process``: how a child ends, who waits for it, and that nothing of it is left. Also without pidfds."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly import _process_child, check, errno, process, task, testing, time
from silly._core import scheduler
from silly.process import PIPE

from .children import Child
from .conftest import Logs
from .net.support import Job, until

WITHIN = 10_000
waitid = os.waitid


def sleeper() -> process.Process:
    return check(process.start(["sleep", "100"]))


def runs(pid: int) -> bool:
    """Whether there is such a process; a zombie counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def refused(pid: int) -> int:
    raise OSError(38, "Function not implemented")


@pytest.fixture(params=["pidfd", "thread", "polls"], autouse=True)
def reaping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With a pidfd, with a thread that waits, and with one that looks now and then."""
    if request.param != "pidfd":
        monkeypatch.setattr(os, "pidfd_open", refused, raising=False)
    if request.param == "polls":
        monkeypatch.delattr(os, "waitid")
        monkeypatch.setattr(_process_child, "POLL", 0.005)
    yield request.param
    until(lambda: not any(thread.name.startswith("silly-process") for thread in threading.enumerate()))


def test_the_status(reaping: str) -> None:
    child = check(process.start(["sh", "-c", "exit 3"]))
    assert child.wait(WITHIN) == child.wait() == (3, None)
    assert child.status == 3
    assert repr(child) == f"<process sh ({child.pid}), ended: 3>"
    child = sleeper()
    assert child.status is None
    assert repr(child) == f"<process sleep ({child.pid}), running>"
    assert any(t.name == f"silly-process-{child.pid}" for t in threading.enumerate()) is (reaping != "pidfd")
    assert child.kill("SIGTERM") == (True, None)
    assert child.wait(WITHIN) == (-signal.SIGTERM, None)
    child = sleeper()
    assert child.kill(signal.SIGUSR1) == (True, None)
    assert child.wait(WITHIN) == (-signal.SIGUSR1, None)
    if hasattr(signal, "SIGRTMIN"):
        child = sleeper()
        assert child.kill(signal.SIGRTMIN + 1) == (True, None)  # it has no name
        assert child.wait(WITHIN) == (-signal.SIGRTMIN - 1, None)
    assert not runs(child.pid)


def test_several_wait_and_giving_up_changes_nothing() -> None:
    with sleeper() as child:
        waiting = [Job(child.wait).blocked() for _ in range(3)]
        waiting[0].task.cancel()
        with pytest.raises(scheduler.Cancelled):
            waiting[0].result()
        assert child.wait(5) == (None, "child.wait: the time-out of 5 ms ran out")
        with time.deadline(5):
            assert child.wait() == (None, "child.wait: the deadline of 5 ms ran out")
            assert child.wait(1000) == (None, "child.wait: the deadline of 5 ms ran out")
        assert child.wait(0)[0] is None
        assert runs(child.pid)
        assert child.status is None
        child.kill()
        assert [job.result() for job in waiting[1:]] == [(-9, None)] * 2


def test_a_wait_keeps_the_others_running() -> None:
    with check(process.start(["sh", "-c", "read x"], stdin=PIPE)) as child:
        ran: list[int] = []

        def other() -> None:
            for number in range(5):
                time.sleep(1)
                ran.append(number)
            child.stdin.close()

        task.fork(other)
        assert child.wait(WITHIN)[0] is not None
        assert ran == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("wrong", [-1, "x", float("nan")])
def test_wrong_time_outs(wrong: Any) -> None:
    with sleeper() as child, pytest.raises((TypeError, ValueError), match=r"child\.wait: the time-out"):
        child.wait(wrong)


def test_wrong_signals() -> None:
    with sleeper() as child:
        for wrong in ("SIGNONE", 0, 987):
            with pytest.raises(ValueError, match="there is no signal"):
                child.kill(wrong)
        for other in (9.0, True):
            with pytest.raises(TypeError, match=r"a signal's name or number, not (float|bool)"):
                child.kill(other)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="the child has no terminal; start it with pty=True"):
            child.resize(1, 1)


def test_no_signal_goes_to_a_process_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be another's. If it has ended, and nobody knows yet, ``kill`` finds that out."""
    child = check(process.start(["true"], stdout=PIPE))
    waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.status is None
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
    assert child.kill() == (True, None)
    assert child.status == 0
    assert child.kill("SIGTERM") == (True, None)
    assert child.wait() == (0, None)
    with child:
        pass
    assert sent == []


def test_a_signal_handler_that_reaps_it_when_a_task_is_about_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    child = check(process.start(["true"]))
    waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    watch = _process_child.ChildProcess._watch

    def interrupted(inner: _process_child.ChildProcess) -> None:
        watch(inner)
        child.kill()

    monkeypatch.setattr(_process_child.ChildProcess, "_watch", interrupted)
    assert child.wait(WITHIN) == (0, None)


def test_a_signal_that_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    with sleeper() as child, monkeypatch.context() as patch:
        patch.setattr(os, "kill", refuse)
        assert child.kill() == (False, "child.kill: Operation not permitted (1)")


# ---- with ----------------------------------------------------------------------------


def leave(child: process.Process) -> None:
    pass


def fail(child: process.Process) -> None:
    raise ZeroDivisionError


def run_out(child: process.Process) -> None:
    with time.deadline(1):
        assert child.wait()[0] is None
        with child:  # leaving it is not cut short by a deadline that is over
            pass
        assert not runs(child.pid)


def end(child: process.Process) -> None:
    child.kill()


@pytest.mark.parametrize("how", [leave, fail, run_out, end])
def test_leaving_kills_and_reaps(how: Callable[[Any], None]) -> None:
    child = check(process.start(["cat"], stdin=PIPE, stdout=PIPE))
    try:
        with child:
            child.stdin.write(b"x" * 1_000_000)  # more than it takes
            how(child)
    except ZeroDivisionError:
        assert how is fail
    assert child.status == -9
    assert not runs(child.pid)
    assert child.stdin.write("x") == (False, errno.CLOSED)
    assert child.stdout.read(1) == (None, errno.CLOSED)
    with child:
        pass


def test_a_child_holds_the_virtual_clock(reaping: str) -> None:
    """It may end at any time, in real time: no time-out of an hour strikes before."""
    with testing.clock() as clock, check(process.start(["sh", "-c", "read x"], stdin=PIPE)) as child:
        assert clock.held is not None
        assert str(child.pid) in clock.held
        child.stdin.close()
        assert child.wait(3_600_000)[0] is not None
        assert clock.elapsed < 60_000
        if reaping == "pidfd":  # else its thread may be at its end still
            assert clock.held is None


def test_a_cancel_ends_the_block_and_the_child() -> None:
    child = sleeper()

    def hold() -> None:
        with child:
            child.wait(WITHIN)

    holding = Job(hold).blocked()
    holding.task.cancel()
    with pytest.raises(scheduler.Cancelled):
        holding.result()
    assert child.status == -9


def test_a_deadline_still_strikes_after_the_block() -> None:
    with pytest.raises(TimeoutError), time.deadline(5):
        with sleeper() as child:
            child.wait()
        assert child.status == -9
        time.sleep(1)


def test_a_child_that_does_not_end(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """As one that hangs in the kernel: the block is left all the same, and the loop goes on looking."""
    logs.expect(r"process: sleep \(\d+\) has not ended 20 ms after SIGKILL")
    monkeypatch.setattr(_process_child, "KILLED", 20)
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda pid, number: None)
        with time.deadline(5), sleeper() as child:  # which strikes while it waits
            pass
    assert runs(child.pid)
    child.kill()
    assert child.wait(WITHIN) == (-9, None)


def test_the_block_may_end_in_a_finalizer() -> None:
    """Where nothing can wait: it kills, and the loop reaps."""

    def hold() -> Iterator[int]:
        with sleeper() as child:
            yield child.pid

    held = hold()
    pid = next(held)
    scheduler.loop.post(held.close)
    until(lambda: not runs(pid))


def test_within_no_switch() -> None:
    with task.no_switch():
        child = sleeper()
        child.kill()
        with pytest.raises(RuntimeError, match=r"^child\.wait: .*no_switch"):
            child.wait()
        with pytest.raises(RuntimeError, match=r"^process\.run: .*no_switch"):
            process.run(["true"])
        with pytest.raises(RuntimeError, match=r"^with child: .*no_switch"), child:
            pass
    with child:
        pass


# ---- nobody waits --------------------------------------------------------------------


def test_a_forgotten_child_goes_on_and_is_reaped() -> None:
    child = check(process.start(["sh", "-c", "read x"], stdin=PIPE))
    pid = child.pid
    stdin = child.stdin
    del child
    gc.collect()
    time.sleep(5)
    assert runs(pid)
    del stdin  # its finalizer closes it
    gc.collect()
    until(lambda: not runs(pid))


def test_other_people_s_children_are_theirs() -> None:
    other = subprocess.Popen(["true"])
    assert process.run(["true"]) == ((0, b"", b""), None)
    assert other.wait() == 0


def test_a_status_that_is_lost_is_no_success(logs: Logs) -> None:
    """Other code has reaped the child, or the system has, since SIGCHLD is ignored."""
    logs.expect(r"process: (sh|true) \(\d+\): its exit status is lost")
    child = check(process.start(["sh", "-c", "exit 3"]))
    os.waitpid(child.pid, 0)
    assert child.wait(WITHIN) == (255, None)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        done, _ = process.run(["true"])
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert done == (255, b"", b"")


def test_no_thread(monkeypatch: pytest.MonkeyPatch, reaping: str) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    child, err = process.start(["sleep", "100"], stdin=PIPE)
    if reaping == "pidfd":
        assert child is not None
        with child:
            return
    assert err == "process.start: sleep: the system refuses what waits for its end: can't start new thread"


def test_another_thread_is_refused() -> None:
    met: list[str] = []

    def body() -> None:
        for call in (lambda: process.start(["true"]), child.wait, child.kill, lambda: child.__exit__()):
            try:
                call()
            except RuntimeError as exc:
                met.append(str(exc))

    with sleeper() as child:
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    assert ["another thread" in text for text in met] == [True] * 4


# ---- the end of silly ----------------------------------------------------------------

ENDS = """
import os
import sys
import silly
from silly import process, task, time
if "thread" in sys.argv:
    del os.pidfd_open

def hold():
    with silly.check(process.start(["sleep", "100"])) as child:
        print(child.pid, flush=True)
        time.sleep(100_000)

def main():
    task.fork(hold)
    time.sleep(1)
    none = process.DEVNULL  # else it would keep the pipes of the test open
    print(silly.check(process.start(["sleep", "100"], none, none, none)).pid, flush=True)
    silly.exit(3)

with silly.check(process.start(["sleep", "100"])) as child:
    print(child.pid, flush=True)
    silly.run(main)
"""


def test_silly_exit_with_children(reaping: str) -> None:
    """Each block ends its child, also the main program's. The one without a block goes on, and the log says so."""
    with Child("-c", ENDS, reaping) as script:
        pids = [int(script.line()) for _ in range(3)]
        assert script.wait() == 3
        assert f"process: sleep ({pids[2]}) is left running; a with block would end it" in script.said()
        assert script.said().count("\n") == 1
    until(lambda: not runs(pids[0]) and not runs(pids[1]))
    assert runs(pids[2])
    os.kill(pids[2], signal.SIGKILL)


OPEN = """
import atexit
import os
import sys
from silly import check, process
if "thread" in sys.argv:
    del os.pidfd_open
none = process.DEVNULL

def start():
    child = check(process.start(["sleep", "100"], none, none, none))
    print(child.pid, flush=True)
    return child

def hold():
    with start():
        yield

def late():
    with other:
        pass
    print(other.status, flush=True)

other = start()
held = hold()
next(held)
atexit.register(late)
"""


def test_blocks_that_are_open_when_the_interpreter_ends(reaping: str) -> None:
    """In a generator that was not closed, and in a handler of ``atexit``."""
    with Child("-X", "dev", "-W", "error", "-c", OPEN, reaping) as script:
        pids = [int(script.line()) for _ in range(2)]
        assert script.line() == "-9"
        assert script.wait() == 0
        assert script.said() == ""
    until(lambda: not runs(pids[0]) and not runs(pids[1]))


FORKS = """
import os
from silly import check, process

with check(process.start(["cat"], stdin=process.PIPE, stdout=process.PIPE)) as child:
    pid = os.fork()
    if not pid:
        print(child.stdin.write("x"), child.stdout.read(1), flush=True)
        try:
            child.kill()
        except RuntimeError as exc:
            print(str(exc)[:35], flush=True)
    else:
        os.waitpid(pid, 0)
        child.stdin.write("still here\\n")
        print(child.stdout.read("\\n"), flush=True)
        child.kill()
        print(child.wait())  # nothing but the child's end can wake the program now
"""


def test_a_child_of_os_fork_leaves_it_alone() -> None:
    with Child("-X", "dev", "-W", "error", "-c", FORKS) as script:
        assert script.line() == f"Result(False, {errno.CLOSED!r}) (None, {errno.CLOSED!r})"
        assert script.line() == "child.kill: in a child of os.fork()"
        assert script.line() == "(b'still here\\n', None)"
        assert script.line() == "(-9, None)"
        assert script.wait() == 0
        assert script.said() == ""
