"""Threads and the end of the process: nothing hangs, and no thread holds it up. With child processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from silly import errno

from .children import Child

PATIENCE = 50
"""Seconds after which a child is taken to hang."""
LONG = 3.0
"""Seconds: the grace of the process's end, which none of these takes. (A bound for a test that fails.)"""

PRELUDE = """
import os, signal, sys, threading
import time as clock
import silly
from silly import errno, hive, task, time

def say(*words):
    print(" ".join(map(str, words)) + "\\n", end="", flush=True)  # whole lines, from every thread

def attempt(func, *args):
    try:
        say(func(*args))
    except BaseException as exc:
        say(type(exc).__name__ + ":", exc)

stays = threading.Semaphore(0)

def stay():
    say("it stays")
    stays.release()
    clock.sleep(3600)

def staying(count=1):
    "Waits until so many stay. It holds the loop."
    for _ in range(count):
        stays.acquire()

def thread(func, *args, daemon=False):
    it = threading.Thread(target=func, args=args, daemon=daemon)
    it.start()
    return it
"""


def output(script: str, *options: str, status: int = 0) -> tuple[list[str], str]:
    """What a script prints, line by line, and its errors."""
    done = subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + script],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore:This process:DeprecationWarning"},
    )  # fmt: skip
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout.splitlines(), done.stderr


SCRIPTS: dict[str, tuple[str, list[str]]] = {
    "a task waits when the script ends": (
        "task.fork(task.thread, stay); time.sleep(0); staying(); say('the end')",
        ["it stays", "the end"],
    ),
    "a task waits when the process exits": (
        "task.fork(task.thread, stay); time.sleep(0); staying(); time.after(1, silly.exit); silly.run()",
        ["it stays"],
    ),
    "a dropped function runs": (
        "task.fork(staying)\nwith time.deadline(100): say(task.thread(stay))\nsilly.run()",
        ["it stays", "(None, 'task.thread: the deadline of 100 ms ran out')"],
    ),
    "a worker of hive runs": (
        "w = hive.spawn(lambda: stay)\ntask.fork(staying)\nwith time.deadline(100): attempt(hive.invoke, w)\nsilly.run()",
        ["it stays", "DeadlineOver: hive.invoke: the deadline of 100 ms ran out"],
    ),
    "a worker of hive is left": ("w = hive.spawn(lambda: int)\nsay(hive.invoke(w, '7'))", ["7"]),
    "a task waits for a worker of hive": (
        "w = hive.spawn(lambda: stay)\ntask.fork(hive.invoke, w); time.sleep(0); staying()",
        ["it stays"],
    ),
    "silly.run waits for a function that a task awaits": (
        "silly.run(lambda: say(task.thread(lambda: (clock.sleep(0.1), 7)[1])))",
        ["(7, None)"],
    ),
    "a daemon calls a task that never ends": (
        "thread(silly.pcall, task.call, task.wait, daemon=True); time.sleep(100); silly.exit()",
        [],  # it may not come as far as the error
    ),
    "a thread calls a task that never ends": (
        "thread(attempt, task.call, task.wait); time.sleep(100); silly.exit()",
        ["Error: task.call: wait has no result: the process is ending"],
    ),
    "a thread calls a task that exits": (
        "thread(attempt, task.call, silly.exit); silly.run(task.wait)",
        ["Error: task.call: exit has no result: the process is ending"],
    ),
    "a thread calls a task that ends by sys.exit": (
        "thread(attempt, task.call, sys.exit); silly.run(task.wait)",
        ["Error: task.call: exit has no result: the process is ending"],
    ),
    "the main program never blocks, and ends": (
        "thread(attempt, task.call, int); clock.sleep(0.1)",
        ["Error: task.call: int has no result: silly has ended"],
    ),
    "a thread comes after the main program": (
        "home = threading.current_thread()\n"
        "def late():\n    home.join(); attempt(task.post, int); attempt(task.call, int)\n"
        "thread(late); say('the end')",
        ["the end", "False", "Error: task.call: int has no result: the process is ending"],
    ),
    "a thread comes after silly.exit": (
        "home = threading.current_thread()\n"
        "def late():\n    home.join(); attempt(task.post, int); attempt(task.call, int)\n"
        "thread(late); silly.run(silly.exit)",
        ["False", "Error: task.call: int has no result: the process is ending"],
    ),
    "silly's thread has ended": (
        "import importlib\n"
        "for name in [name for name in sys.modules if name.partition('.')[0] == 'silly']: del sys.modules[name]\n"
        "def home():\n"
        "    global silly, task\n"
        "    import silly\n    from silly import task\n    silly.run(lambda: say('run'))\n"
        "it = thread(home); it.join(); attempt(task.post, int); attempt(task.call, int)",
        ["run", "False", "Error: task.call: int has no result: the process is ending"],
    ),
    "a task in a finally block uses a thread": (
        "def main():\n    try: task.wait()\n    finally: say(task.thread(int, '7'))\n"
        "task.fork(main); time.after(1, silly.exit); silly.run()",
        ["(7, None)"],
    ),
    "a finally block that would wait for too long": (
        "def main():\n    try: task.wait()\n    finally: say(task.thread(clock.sleep, 3600))\n"
        "task.fork(main); time.after(1, silly.exit); silly.run()",
        [f"(None, {errno.CLOSED!r})"],
    ),
}


@pytest.mark.parametrize("options", [(), ("-X", "dev", "-W", "error"), ("-O",)], ids=["plain", "dev", "O"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_end(name: str, options: tuple[str, ...]) -> None:
    script, lines = SCRIPTS[name]
    said, errors = output(script, *options)
    assert (said, errors) == (lines, ""), errors


def test_a_task_that_was_posted_too_late() -> None:
    said, errors = output("silly.run(lambda: (say(task.post(say, 'it runs')), silly.exit()))")
    assert said == ["True"]
    assert re.fullmatch(r".* WARNING <task say READY, forked at <string>:\d+> was not started: the process is ending\n", errors)


def test_sigterm_while_functions_run() -> None:
    """Tasks end where they wait, with their finally blocks; the threads hold up nothing."""
    script = """
def main():
    try:
        task.thread(stay)
    finally:
        say("finally")
silly.run(main)
"""
    with Child("-c", PRELUDE + script) as child:
        assert child.line() == "it stays"
        child.process.send_signal(signal.SIGTERM)
        assert child.line() == "finally"
        assert child.wait() == 0
        assert child.errors() == ""


def test_nothing_can_wake_a_task_though_threads_of_the_library_are_idle() -> None:
    said, errors = output("task.thread(int); w = hive.spawn(lambda: int); silly.run(task.wait)", status=1)
    assert said == []
    assert "nothing can ever wake the tasks that are left" in errors


def test_silly_in_a_thread_and_the_main_program_calls_it() -> None:
    script = """
import threading
ready = threading.Event()
def home():
    global task, time
    import silly
    from silly import task, time
    def main():
        ready.set()
        time.sleep(60_000)
    silly.run(main)
threading.Thread(target=home, daemon=True).start()
ready.wait(30)
print(task.call(lambda: (time.sleep(1), 7)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_the_loop_turns_in_a_thread_when_the_program_ends() -> None:
    script = """
import atexit, threading
begun, turned = threading.Event(), threading.Event()
atexit.register(turned.wait, 30)  # runs last: the thread goes on meanwhile
def home():
    import silly
    from silly import time
    def main():
        begun.set()
        for _ in range(1000):
            time.sleep(0)
        while True:
            turned.set()
            time.sleep(1)
    silly.run(main)
threading.Thread(target=home, daemon=True).start()
begun.wait(30)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert (done.stdout, done.stderr) == ("", "")


# ---- os.fork -----------------------------------------------------------------------------------------------------------


def test_a_child_of_the_main_program() -> None:
    script = """
w = hive.spawn(lambda: int)
task.thread(int)
if not os.fork():
    say(task.post(int))
    attempt(task.call, int)
    attempt(task.thread, int)
    attempt(hive.invoke, w)
    attempt(hive.spawn, lambda: int)
    del w
    it = thread(lambda: (say(task.post(int)), attempt(task.call, int)))
    it.join()
    sys.exit(5)
say(os.waitstatus_to_exitcode(os.wait()[1]), task.thread(int), hive.invoke(w))
"""
    lines, errors = output(script)
    assert errors == ""
    refused = r"RuntimeError: {}: in a child of os\.fork\(\), where silly does not work; .*"
    wanted = ["False", *map(refused.format, ("task.call", "task.thread", "hive.invoke", "hive.spawn")), "False"]
    wanted += [refused.format("task.call"), r"5 \(0, None\) 0"]
    assert len(lines) == len(wanted)
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.fullmatch(pattern, line)


ENDS = {"None": 0, "sys.exit(7)": 7, "1 // 0": 1, "os._exit(4)": 4}


@pytest.mark.parametrize("how", ["task.thread(func)", "hive.invoke(hive.spawn(lambda: func))"])
@pytest.mark.parametrize(("ends", "status"), ENDS.items())
def test_a_child_of_a_function_in_a_thread_ends_where_that_returns(how: str, ends: str, status: int) -> None:
    script = f"""
import atexit
atexit.register(say, "the parent's")
others = [task.fork(task.thread, stay) for _ in range(3)]
time.sleep(0)
staying(3)
def func():
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    say("the child's", task.post(int))
    atexit.register(say, "at the child's exit")
    {ends}
say({how})
"""
    lines, errors = output(script)
    result: Any = (status, None) if "thread" in how else status
    wanted = ["it stays"] * 3 + ["the child's False", "at the child's exit", str(result), "the parent's"]
    if ends.startswith("os"):
        wanted.remove("at the child's exit")
    assert lines == wanted
    assert ("ZeroDivisionError" in errors) is (status == 1)
