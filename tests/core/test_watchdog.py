"""The watchdog: the task that holds the loop is reported once with the line, and once with the total time."""

from __future__ import annotations

import re
import sys
import threading
import time as os_time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly import task, time
from silly._core import scheduler, watchdog

from ..children import Child
from ..conftest import Logs

PATIENCE = 20.0
"""Seconds after which something that should have happened has failed."""

WARNED = r"held the loop for [\d.]+ s( at .+:\d+)?$"
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


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "silly-watchdog"]


def assert_no_thread() -> None:
    assert watchdog._users == 0
    turn_until(lambda: not threads())


@pytest.fixture(autouse=True)
def keep_its_lines(logs: Logs) -> None:
    logs.watchdog = True
    logs.allow("held the loop for")


class Looks:
    """Counts the looks of the thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._look = watchdog._look
        monkeypatch.setattr(watchdog, "_look", self)

    def __call__(self, *args: Any) -> Any:
        told = self._look(*args)
        self.count += 1
        return told

    def more(self, count: int) -> Callable[[], bool]:
        """Whether ``count`` looks have begun and ended since this was called."""
        last = self.count + 1 + count
        return lambda: self.count >= last


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> Iterator[None]:
    """A hold is reported after 20 ms. No thread of other tests runs before, and none of ours after."""
    monkeypatch.setattr(watchdog, "IDLE", 0.02)
    monkeypatch.setattr(watchdog, "INTERVAL", 0.005)
    monkeypatch.setattr(watchdog, "FOLLOW", 0.005)
    monkeypatch.setattr(watchdog, "HELD", 0.02)
    assert_no_thread()
    time.sleep(0)  # the main program may have held the loop for long
    logs.lines.clear()
    yield
    assert_no_thread()


@pytest.fixture
def watched(quick: None) -> Iterator[None]:
    watchdog.watch()
    yield
    watchdog.unwatch()


@pytest.mark.usefixtures("watched")
def test_a_hold_is_reported_while_it_lasts_and_at_its_end(logs: Logs) -> None:
    def handle() -> None:
        hold(lambda: found(logs, rf"WARNING task .*handle {WARNED}"))

    logs.expect(rf"WARNING task .*<locals>\.handle {WARNED}")
    task.fork(handle)
    turn_until(lambda: found(logs, rf"handle {IN_ALL}"))
    (line,) = found(logs, rf"handle {WARNED}")
    # Whatever ran: ``hold``, the condition, or what that calls, maybe in the standard library.
    assert re.search(r" at /.+\.py:\d+$", line)
    warned = float(line.split(" held the loop for ")[1].split()[0])
    total = float(found(logs, rf"handle {IN_ALL}")[0].split(" held the loop for ")[1].split()[0])
    assert total >= warned


@pytest.mark.usefixtures("watched")
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


@pytest.mark.usefixtures("watched")
def test_the_library_s_own_frames_are_skipped(logs: Logs) -> None:
    source = "def inside(lines):\n    while not any('handle held the loop' in line for line in lines): pass\n"
    space: dict[str, Any] = {}
    exec(compile(source, f"{scheduler._PACKAGE}inside.py", "exec"), space)

    def handle() -> None:
        space["inside"](logs.lines)

    logs.expect(rf"handle {WARNED}")
    task.fork(handle)
    turn_until(lambda: found(logs, rf"handle {IN_ALL}"))
    (line,) = found(logs, rf"handle {WARNED}")
    assert line.endswith(f"{__file__}:{handle.__code__.co_firstlineno + 1}")


@pytest.mark.usefixtures("watched")
def test_a_callback_of_the_loop(logs: Logs) -> None:
    scheduler.loop.post(lambda: hold(lambda: found(logs, rf"WARNING a callback {WARNED}")))
    turn_until(lambda: found(logs, rf"WARNING a callback {IN_ALL}"))
    assert found(logs, rf"a callback {WARNED}")


@pytest.mark.usefixtures("watched")
def test_the_main_program_that_was_woken(logs: Logs) -> None:
    time.sleep(0)
    hold(lambda: found(logs, rf"WARNING the main program {WARNED}"))
    turn_until(lambda: found(logs, rf"WARNING the main program {IN_ALL}"))


def test_a_prompt_holds_nothing_but_a_task_under_it_does(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    watchdog.watch()
    begin = os_time.monotonic()
    hold(lambda: os_time.monotonic() > begin + 2 * watchdog.HELD)
    hold(looks.more(3))
    assert found(logs, "the main program held the loop") == []
    task.fork(lambda: hold(lambda: found(logs, rf"task .* {WARNED}")))
    turn_until(lambda: found(logs, rf"task .* {IN_ALL}"))
    watchdog.unwatch()


def test_a_loop_that_waits_is_not_held(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    monkeypatch.setattr(watchdog, "HELD", 10.0)
    watchdog.watch()
    turn_until(looks.more(5))
    watchdog.unwatch()
    assert found(logs, "held the loop") == []
    assert scheduler.loop.busy_since > 0.0, "the main program was woken"


def test_the_thread_serves_all_watchers_and_ends_after_the_last() -> None:
    assert threads() == []
    for _ in range(3):
        watchdog.watch()
        assert len(threads()) == 1
    watchdog.unwatch()
    watchdog.unwatch()
    (thread,) = threads()
    thread.join(5 * watchdog.IDLE)
    assert thread.is_alive()
    watchdog.unwatch()
    assert_no_thread()


def test_a_watcher_added_while_the_thread_ends_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "IDLE", 0.0)
    monkeypatch.setattr(watchdog, "INTERVAL", 0.0)
    looks = Looks(monkeypatch)
    for _ in range(200):
        watchdog.watch()
        hold(looks.more(1))
        watchdog.unwatch()


def test_start_without_a_watcher_ends() -> None:
    watchdog.start()
    watchdog.start()
    assert len(threads()) == 1
    assert_no_thread()


def test_a_thread_that_can_t_start(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.expect("WARNING nothing watches the loop: can't start new thread")

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        watchdog.watch()
    assert threads() == []
    watchdog.watch()
    assert len(threads()) == 1
    watchdog.unwatch()
    watchdog.unwatch()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_handler_that_raises_does_not_end_it_for_good(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*args: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(watchdog, "_look", raises)
        watchdog.watch()
        turn_until(lambda: not threads())
    watchdog.watch()
    assert len(threads()) == 1
    watchdog.unwatch()
    watchdog.unwatch()


def test_a_forked_child_is_not_watched_and_ends_as_usual() -> None:
    script = """
import os, sys, threading
from silly import time
from silly._core import watchdog
watchdog.INTERVAL = watchdog.FOLLOW = 0.0001
watchdog.watch()
time.sleep(1)
for _ in range(20):
    pid = os.fork()
    if not pid:
        watchdog.unwatch()
        watchdog.watch()
        watchdog.unwatch()
        assert [each for each in threading.enumerate() if each.name == "silly-watchdog"] == []
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
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
watchdog.watch()
time.sleep(1)
os_time.sleep(0.05)
print("done", flush=True)
"""
    with Child("-c", script) as child:
        assert child.line() == "done"
        assert child.wait() == 0
