"""``bridge.asyncio`` and the end of the process: coroutines are cancelled, their ``finally`` blocks run, and Python says
nothing of what was left. With child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from ..children import Child

PATIENCE = 50
"""Seconds after which a child is taken to hang."""

PRELUDE = """
import asyncio, os, signal, sys, threading
import time as clock
import silly
from silly import bridge, errno, task, time
from silly.sync import channel, event
from silly.bridge.asyncio import run

def say(*words):
    print(*words, flush=True)

begun = event.new()

async def stay(name="it", last=0):
    begun.set()
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(last)
        say(name, "ends")

async def background(*coroutines):
    "Starts coroutines, and keeps them alive."
    global kept
    kept = [asyncio.create_task(each) for each in coroutines]
    await asyncio.sleep(0)

def waits(*args):
    "A task that waits for such a coroutine."
    t = task.fork(lambda: say(run(stay(*args))))
    begun.wait()
    begun.clear()
    return t
"""


def output(script: str, *, status: int = 0, errors: str = "", never: str = "never") -> list[str]:
    """What a script prints, line by line. ``errors``: a part of what it writes to stderr, which is empty else, and has
    nothing of ``never``."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PRELUDE + script],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert errors in done.stderr
    assert never not in done.stderr
    if not errors:
        assert done.stderr == ""
    return done.stdout.splitlines()


ENDS: dict[str, tuple[str, int]] = {
    "silly.exit": ("silly.exit(3)", 3),
    "silly.exit in a task": ("task.fork(silly.exit, 3); silly.run()", 3),
    "sys.exit in a task": ("task.fork(sys.exit, 3); silly.run()", 3),
    "sys.exit in a coroutine": (
        "async def leave(): sys.exit(3)\nrun(background(leave()))\nsilly.run()",
        3,
    ),
    "a coroutine whose task waits exits": (
        "async def leave(): sys.exit(3)\ntask.fork(lambda: run(leave()))\nsilly.run()",
        3,
    ),
    "what was cancelled exits": (
        """
async def leave():
    try:
        await asyncio.sleep(3600)
    finally:
        sys.exit(3)
run(leave(), 1); silly.run()""",
        3,
    ),
    "SIGTERM": ("task.fork(os.kill, os.getpid(), signal.SIGTERM); silly.run()", 0),
    "the end of the script": ("", 0),
    "the script raises SystemExit": ("sys.exit(3)", 3),
}


@pytest.mark.parametrize("how", ENDS)
def test_coroutines_end_with_the_process(how: str) -> None:
    """One for which a task waits, and one in the background."""
    script, status = ENDS[how]
    got = output("run(background(stay('the background')))\nbegun.clear()\nwaits('the call')\n" + script, status=status)
    assert sorted(got) == ["the background ends", "the call ends"]


def test_the_main_program_waits() -> None:
    """A signal ends the script where it waits, as Python has it; the finally block runs."""
    script = "try: run(stay())\nfinally: say('the script')"
    with Child("-X", "dev", "-W", "error", "-c", PRELUDE + "task.fork(lambda: (begun.wait(), say('go')))\n" + script) as child:
        assert child.line() == "go"
        child.process.send_signal(signal.SIGINT)
        assert child.line() == "the script"
        assert child.line() == "it ends"
        child.wait()
        assert "KeyboardInterrupt" in child.errors()


def test_run_in_a_finally_block_of_the_end() -> None:
    got = output(
        """
async def bye():
    await asyncio.sleep(0.01)
    return "bye"

def work():
    try:
        time.sleep(3600_000)
    finally:
        say(run(bye()))

task.fork(work)
time.sleep(1)
silly.exit()
"""
    )
    assert got == ["('bye', None)"]


def test_nothing_waits_any_more() -> None:
    """In the phase leaving ``run`` returns the error at once, and the coroutine never begins."""
    got = output(
        """
from silly._core import ending
ending.plan, ending.FINALLY = ending.Plan(drain=100), 0.2

def work():
    try:
        time.sleep(3600_000)
    finally:
        say(run(stay()) == (None, errno.CLOSED))
        say(run(stay()) == (None, errno.CLOSED))

task.fork(work)
time.sleep(1)
silly.exit()
"""
    )
    assert sorted(got) == ["True", "True", "it ends"]


@pytest.mark.parametrize(
    "how",
    [
        'waits("it", 3600); silly.exit(3)',
        'task.fork(lambda: (begun.wait(), silly.exit(3))); run(stay("it", 3600))',
    ],
    ids=["a task waits for it", "the main program does"],
)
def test_a_coroutine_that_does_not_end_in_time(how: str) -> None:
    got = output(
        f"""
from silly._core import ending
ending.plan, ending.FINALLY = ending.Plan(drain=100), 0.2
{how}
""",
        status=3,
        errors="WARNING the coroutine stay did not end before silly did",
    )
    assert got == []


def test_an_exception_at_the_end_is_logged() -> None:
    output(
        """
async def fail():
    begun.set()
    try:
        await asyncio.sleep(3600)
    finally:
        raise KeyError("at the end")

run(background(fail()))
silly.exit()
""",
        errors="KeyError: 'at the end'",
    )


def test_sys_exit_in_a_finally_block_after_the_script() -> None:
    """It begins no end of the process: tasks that the script has left don't go on."""
    output(
        """
async def leave():
    try:
        await asyncio.sleep(3600)
    finally:
        sys.exit(3)

task.fork(time.sleep, 3600_000)
run(background(leave()))
""",
        errors="ERROR exception in a coroutine that the end of silly has cancelled:",
        never="Exception ignored",
    )


def test_the_background_does_not_hold_up_silly_run() -> None:
    assert output("run(background(stay()))\nsilly.run()\nsay('over')") == ["over", "it ends"]


def test_what_was_cancelled_is_awaited_by_silly_run() -> None:
    assert output("task.fork(lambda: run(stay('it', 0.1), 1))\nsilly.run()\nsay('over')") == ["it ends", "over"]


def test_a_deadlock_beside_an_idle_loop() -> None:
    got = output(
        """
run(background(stay()))
kept[0].cancel()
time.sleep(20)
try:
    channel.new().pop()
except silly.Error as exc:
    say(str(exc).partition(" (")[0])
"""
    )
    assert got == ["it ends", "nothing can ever wake the tasks that are left"]


def test_no_deadlock_while_the_background_may_wake_a_task() -> None:
    got = output(
        """
chan = channel.new()
async def beat():
    await asyncio.sleep(0.05)
    chan.push("beat")
run(background(beat()))
say(chan.pop())
"""
    )
    assert got == ["('beat', None)"]


def test_after_an_end_there_is_another_loop() -> None:
    got = output(
        """
async def me():
    return asyncio.get_running_loop()

first, err = run(me())
run(background(stay()))
try:
    silly.exit(3)
finally:
    second, err = run(me())
    say(first is second, first.is_closed(), second.is_closed())
""",
        status=3,
    )
    assert got == ["it ends", "False True False"]


def test_a_loop_that_nobody_used() -> None:
    assert output("import silly.bridge.asyncio") == []


def test_asynchronous_generators_are_closed() -> None:
    got = output(
        """
async def numbers():
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        say("closed")

generator = numbers()
say(next(bridge.asyncio.iterate(generator)))
"""
    )
    assert got == ["1", "closed"]


# ---- children of os.fork -------------------------------------------------------------

FORKED = """
def child(where):
    say(where, asyncio.run(asyncio.sleep(0, "asyncio.run works")))
    try:
        coroutine = stay()
        run(coroutine)
    except RuntimeError as exc:
        say(str(exc).partition(";")[0])

def fork(where):
    pid = os.fork()
    if not pid:
        child(where)
        return True
    say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return False
"""
REFUSED = "bridge.asyncio.run: in a child of os.fork(), where silly does not work"


def test_a_child_of_the_main_program() -> None:
    got = output(
        FORKED
        + """
t = waits()
if not fork("main"):
    t.cancel()
    t.join()
    time.sleep(10)
    say(run(asyncio.sleep(0, "the parent goes on")))
"""
    )
    assert got == ["main asyncio.run works", REFUSED, "0", "it ends", "('the parent goes on', None)"]


def test_a_child_of_a_task() -> None:
    got = output(
        FORKED
        + """
waits()
task.fork(fork, "task").join()
say(run(asyncio.sleep(0.001, "the parent goes on")))
silly.exit()
"""
    )
    assert got == ["task asyncio.run works", REFUSED, "0", "('the parent goes on', None)", "it ends"]


def test_a_child_of_a_coroutine() -> None:
    """It ends where the coroutine waits next."""
    got = output(
        """
async def fork():
    pid = os.fork()
    if not pid:
        say("the child")
        await asyncio.sleep(0)
        say("never")
    say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

run(fork())
say(run(asyncio.sleep(0.001, "the parent goes on")))
"""
    )
    assert got == ["the child", "0", "('the parent goes on', None)"]


def test_other_coroutines_do_not_run_in_a_child_of_a_coroutine() -> None:
    """Though they were to run in the same round of asyncio."""
    got = output(
        """
async def fork():
    await asyncio.sleep(0)
    pid = os.fork()
    if pid:
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

async def other():
    await asyncio.sleep(0)
    say("another coroutine")

async def both():
    await asyncio.gather(fork(), other())

run(both())
"""
    )
    assert got == ["0", "another coroutine"]


# ---- Ctrl-C --------------------------------------------------------------------------


def test_a_second_ctrl_c_strikes_in_a_coroutine() -> None:
    """One that holds the loop, so that the first can't reach the main program."""
    script = """
async def spin():
    say("it spins")
    while True:
        pass

try:
    run(spin())
except KeyboardInterrupt:
    say("interrupted")
try:
    time.sleep(10_000)
except KeyboardInterrupt:
    pass  # the first one
say(run(asyncio.sleep(0, "goes on")))
"""
    with Child("-c", PRELUDE + script) as child:
        assert child.line() == "it spins"
        child.process.send_signal(signal.SIGINT)
        _wait_for_pending(child)
        child.process.send_signal(signal.SIGINT)
        assert child.line() == "interrupted"
        assert child.line() == "('goes on', None)"
        assert child.wait() == 0


def _wait_for_pending(child: Any) -> None:
    """Until the first signal was taken: two at once are one."""
    path = f"/proc/{child.process.pid}/status"
    if not os.path.exists(path):
        pytest.skip("needs /proc")

    def pending() -> bool:
        with open(path) as file:
            fields = dict(line.split(":", 1) for line in file)
        return any(int(fields[name], 16) & 1 << signal.SIGINT - 1 for name in ("SigPnd", "ShdPnd"))

    while pending():
        pass


def test_the_watchdog_names_the_line_of_a_coroutine() -> None:
    output(
        """
async def hold():
    clock.sleep(1.5)  # it holds the loop

task.fork(time.sleep, 5)
run(hold())
""",
        errors="a callback held the loop for",
    )
