"""``silly.signal``: handlers that are tasks, in the three ways to start a program. Nearly every test runs a script in a
process of its own."""

from __future__ import annotations

import contextvars
import re
import signal as std
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import silly
from silly import signal, task, time
from silly._core import signals
from silly.sync import channel

from . import test_signals
from .children import Child
from .conftest import Logs
from .test_signals import Start, rest, runs, ways
from .test_task import in_loop, in_thread, settle

start = test_signals.start

SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGWINCH"]

HANDLES = """
def handler(sig):
    time.sleep(1)
    say("got", sig)
    chan.push(True)
chan = channel.new()
silly.signal(NAME, handler)
def main():
    task.fork(say, "ready")
    chan.pop()
    chan.pop()
    say("enough")
"""


def handling(start: Start, way: str, script: str, name: str) -> Child:
    """A child whose ``main`` runs until its handler has pushed twice."""
    script = script.replace("NAME", name)
    if way == "launcher":
        return start(script + "main()\n", "launcher")
    if way == "run":
        return start(script, "silly.run(main)")
    return start(script, "main()")


# ---- a handler is a task ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNALS)
@ways
def test_a_handler_runs_as_a_task_and_may_wait(start: Start, way: str, name: str) -> None:
    """Nothing else could wake the program, and that is no error: also not for SIGWINCH."""
    child = handling(start, way, HANDLES, repr(name))
    assert child.line() == "ready"
    for _ in range(2):
        child.process.send_signal(std.Signals[name])
        assert child.line() == f"got {name}"
    assert rest(child) == (0, ["enough"], "")


@pytest.mark.parametrize("sig", ["'SIGUSR1'", "signal.SIGUSR1", str(int(std.SIGUSR1))])
def test_a_signal_by_its_name_or_number(start: Start, sig: str) -> None:
    child = handling(start, "run", HANDLES, sig)
    assert child.line() == "ready"
    for _ in range(2):
        child.process.send_signal(std.SIGUSR1)
        assert child.line() == "got SIGUSR1"
    assert rest(child) == (0, ["enough"], "")


@ways
def test_handlers_of_two_signals_run_side_by_side(start: Start, way: str) -> None:
    script = """
def first(sig):
    say("first waits")
    chan.pop()
    say("first ends")
    task.wakeup(me[0])
def second(sig):
    chan.push(sig)
chan, me = channel.new(), []
silly.signal("SIGUSR1", first)
silly.signal("SIGUSR2", second)
def main():
    task.fork(say, "ready")
    me.append(task.running())
    task.wait()
"""
    child = handling(start, way, script, "")
    assert child.line() == "ready"
    child.process.send_signal(std.SIGUSR1)
    assert child.line() == "first waits"
    child.process.send_signal(std.SIGUSR2)
    assert rest(child) == (0, ["first ends"], "")


@ways
def test_a_handler_starts_while_a_task_computes_and_runs_when_that_waits(start: Start, way: str) -> None:
    script = """
def handler(sig):
    say("handler")
silly.signal("SIGUSR1", handler)
def main():
    time.sleep(1)
    signal.raise_signal(signal.SIGUSR1)
    say("goes on")
    time.sleep(0)
    time.sleep(0)
    say("ends")
"""
    assert rest(handling(start, way, script, "")) == (0, ["goes on", "handler", "ends"], "")


@runs
def test_what_a_handler_raises_is_logged_and_goes_to_the_hook(start: Start, way: str) -> None:
    script = """
def bad(sig):
    raise KeyError(sig)
task.onerror(lambda failed, exc: (say(failed.name(), exc), chan.push(True), chan.push(True)))
chan = channel.new()
silly.signal("SIGUSR1", bad)
def main():
    task.fork(say, "ready")
    chan.pop()
"""
    child = handling(start, way, script, "")
    assert child.line() == "ready"
    child.process.send_signal(std.SIGUSR1)
    status, lines, errors = rest(child)
    assert (status, lines) == (0, ["bad 'SIGUSR1'"])
    begin = r"\S+ \S+ ERROR exception in <task bad RUN, forked at \S+app\.py:\d+>:\n"
    assert re.match(rf"{begin}[\s\S]*KeyError: 'SIGUSR1'\n$", errors)


def test_context_variables_are_those_of_the_call() -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")
    chan = channel.new()

    def handler(sig: str) -> None:
        before = var.get()
        var.set("changed by a handler")
        time.sleep(1)
        chan.push(before)

    def registers() -> None:
        var.set("the caller's")
        signal("SIGUSR1", handler)

    try:
        task.fork(registers).join()
        for _ in range(2):  # the second begins while the first still runs
            std.raise_signal(std.SIGUSR1)
            time.sleep(0)
        assert [chan.pop(), chan.pop()] == [("the caller's", None)] * 2
    finally:
        signal("SIGUSR1", None)


# ---- the handler before, and the default --------------------------------------------------------------------------------


def one(sig: str) -> None:
    """A handler."""


def two(sig: str) -> None:
    """Another."""


@pytest.fixture
def untouched() -> Iterator[None]:
    """The handlers of Python's are as before, afterwards."""
    numbers = [std.SIGINT, std.SIGTERM, std.SIGHUP, std.SIGUSR1]
    before = {number: std.getsignal(number) for number in numbers}
    yield
    after = {number: std.getsignal(number) for number in numbers}
    for number in numbers:
        std.signal(number, before[number])
    assert after == before
    assert signals._taken == {}


@pytest.mark.parametrize("sig", ["SIGINT", "SIGTERM", "SIGHUP", std.SIGUSR1])
@pytest.mark.parametrize("default", [None, std.SIG_DFL])
def test_it_returns_the_handler_before(untouched: None, sig: Any, default: Any) -> None:
    assert signal(sig, default) is None
    assert signal(sig, one) is None
    assert signal(sig, two) is one
    assert signal(sig, two) is two
    assert signal(sig, default) is two
    assert signal(sig, default) is None


def test_a_handler_of_signal_signal_comes_back(untouched: None) -> None:
    raw: list[int] = []

    def handler(number: int, frame: object) -> None:
        raw.append(number)

    before = std.signal(std.SIGUSR1, handler)
    try:
        assert signal("SIGUSR1", one) is None
        std.raise_signal(std.SIGUSR1)
        settle()
        assert signal("SIGUSR1", None) is one
        std.raise_signal(std.SIGUSR1)
        assert raw == [std.SIGUSR1]
        # One that replaces ours is the application's own business.
        signal("SIGUSR1", one)
        std.signal(std.SIGUSR1, handler)
        assert signal("SIGUSR1", None) is None
        assert std.getsignal(std.SIGUSR1) is handler
        assert signal("SIGUSR1", two) is None
        assert signal("SIGUSR1", None) is two
        assert std.getsignal(std.SIGUSR1) is handler
    finally:
        std.signal(std.SIGUSR1, before)


@pytest.mark.parametrize("when", ["before", "within"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@runs
def test_without_its_handler_a_signal_ends_the_process_gracefully_again(start: Start, way: str, name: str, when: str) -> None:
    script = f"""
def handler(sig):
    say("handler", sig)
    say(silly.signal(sig, None) is handler)
before = {when == "before"}
if before:
    silly.signal("{name}", handler)
def body():
    if not before:
        silly.signal("{name}", handler)
    task.fork(say, "ready")
    waiter()
task.fork(body)
time.after(600_000, print)
"""
    child = start(script, way)
    assert child.line() == "ready"
    child.process.send_signal(std.Signals[name])
    assert [child.line(), child.line()] == [f"handler {name}", "True"]
    child.process.send_signal(std.Signals[name])
    assert rest(child) == (0, ["finally"], "")


def test_a_handler_that_was_set_within_run_stays_after_it(start: Start) -> None:
    script = """
def handler(sig):
    say("handler", sig)
silly.run(lambda: silly.signal("SIGTERM", handler))
signal.raise_signal(signal.SIGTERM)
time.sleep(1)
say(silly.signal("SIGTERM", None) is handler, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    assert rest(start(script, "")) == (0, ["handler SIGTERM", "True True"], "")


@runs
def test_a_handler_stays_when_another_signal_ends_the_process(start: Start, way: str) -> None:
    """The second SIGINT would end it at once; SIGTERM has a handler."""
    script = """
def handler(sig):
    say("handler", sig)
    chan.push(True)
chan = channel.new()
def cleans():
    try:
        say("ready")
        task.wait()
    finally:
        say("cleans")
silly.signal("SIGTERM", handler)
from silly.net import tcp
from silly._core import ending
def serves(conn):
    say("serves")
    while ending.phase() is ending.Phase.RUNNING:
        time.sleep(1)
    say("draining")
    with time.deadline(60_000):  # while it can strike, the end waits for this handler
        chan.pop()
listener = silly.check(tcp.listen("127.0.0.1:0", serves))
def main():
    silly.check(tcp.connect(listener.addr))
    cleans()
task.fork(main)
"""
    child = start(script, way)
    assert sorted([child.line(), child.line()]) == ["ready", "serves"]
    child.process.send_signal(std.SIGINT)
    assert child.line() == "draining"
    child.process.send_signal(std.SIGTERM)
    status, lines, errors = rest(child)
    assert (status, sorted(lines), errors) == (0, ["cleans", "handler SIGTERM"], "")


def test_ctrl_c_in_a_plain_script_whose_handler_was_removed(start: Start) -> None:
    """It raises KeyboardInterrupt in the main program, where it waits, and never in the loop."""
    script = """
silly.signal("SIGINT", print)
time.sleep(1)
silly.signal("SIGINT", None)
when_idle("SIGINT")
try:
    time.sleep(600_000)
except KeyboardInterrupt:
    say("interrupted")
say(signal.getsignal(signal.SIGINT) in silly._core.signals._own)
"""
    assert rest(start(script, "")) == (0, ["interrupted", "True"], "")


# ---- ends ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@ways
def test_a_handler_that_ends_the_process(start: Start, way: str, name: str) -> None:
    script = f"""
def handler(sig):
    time.sleep(1)
    silly.exit(3)
silly.signal("{name}", handler)
task.fork(waiter)
time.after(600_000, print)
when_idle("{name}")
"""
    assert rest(start(script, way)) == (3, ["finally"], "")


def test_a_handler_is_no_work_that_is_left(start: Start) -> None:
    assert rest(start("silly.signal('SIGTERM', print)", "silly.run(lambda: say('ran'))")) == (0, ["ran"], "")


def test_a_removed_handler_could_wake_nothing(start: Start) -> None:
    script = "silly.signal('SIGWINCH', print)\nsilly.signal('SIGWINCH', None)"
    status, _, errors = rest(start(script, "channel.new().pop()"))
    assert status == 1
    assert "nothing can ever wake the tasks that are left" in errors


@runs
def test_a_signal_while_the_process_is_ending_starts_nothing(start: Start, way: str) -> None:
    script = """
silly.signal("SIGUSR1", lambda sig: say("never"))
def cleans():
    try:
        task.wait()
    finally:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(1)
        say("cleaned")
task.fork(cleans)
time.after(1, lambda: silly.exit(3))
"""
    status, lines, errors = rest(start(script, way))
    assert (status, lines) == (3, ["cleaned"])
    assert "was not started: the process is ending" in errors


def test_a_child_of_fork_has_the_handlers_of_before(start: Start) -> None:
    """Else SIGTERM, by which ``multiprocessing`` ends its processes, would do nothing there."""
    script = """
silly.signal("SIGTERM", print)
silly.signal("SIGINT", print)
def main():
    pid = os.fork()
    if not pid:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.raise_signal(signal.SIGTERM)
        os._exit(1)
    say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(1)
main()
"""
    assert rest(start(script, "run")) == (0, ["True", "SIGTERM"], "")


# ---- mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sig", ["SIGNONE", "TERM", "sigterm", "", "SIG_DFL", 0, -1, 9999])
def test_a_signal_that_does_not_exist(untouched: None, sig: Any) -> None:
    with pytest.raises(ValueError, match=rf"signal: there is no signal {re.escape(repr(sig))} here"):
        signal(sig, one)


@pytest.mark.parametrize("sig", ["SIGKILL", std.SIGSTOP])
def test_a_signal_that_cannot_be_handled(untouched: None, sig: Any) -> None:
    with pytest.raises(ValueError, match=r"signal: SIG(KILL|STOP) can't be handled: Invalid argument"):
        signal(sig, one)


@pytest.mark.parametrize("sig", [None, 1.0, b"SIGTERM"])
def test_what_is_no_signal(untouched: None, sig: Any) -> None:
    with pytest.raises(TypeError, match="signal needs a signal's name or number"):
        signal(sig, one)


@pytest.mark.parametrize("handler", ["print", std.SIG_IGN, 5])
def test_what_is_no_handler(untouched: None, handler: Any) -> None:
    with pytest.raises(TypeError, match="signal needs a function or None as the handler"):
        signal("SIGTERM", handler)


def test_a_handler_that_cannot_take_the_name(untouched: None) -> None:
    with pytest.raises(TypeError, match=r"called with the signal's name, as settle\('SIGTERM'\): too many"):
        signal("SIGTERM", settle)  # type: ignore[arg-type]
    takes_it: list[Any] = [print, one, channel.new().push, lambda *names: None, lambda sig, more=None: None]
    for handler in takes_it:
        signal("SIGTERM", handler)
    signal("SIGTERM", None)


def test_where_silly_does_not_run(untouched: None) -> None:
    outcome = in_thread(lambda: signal("SIGTERM", one))
    assert outcome[0] == "raised"
    assert isinstance(outcome[1], RuntimeError)
    assert in_loop(lambda: signal("SIGTERM", one)) == ("returned", None)
    assert signal("SIGTERM", None) is one


def test_silly_in_another_thread() -> None:
    script = """
import threading
def body():
    import silly
    try:
        silly.signal("SIGTERM", print)
    except RuntimeError as exc:
        print(exc)
thread = threading.Thread(target=body)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "signal: Python handles signals only in its main thread, and silly was imported in another one\n"


# ---- the module ---------------------------------------------------------------------------------------------------------


def test_the_module_is_the_function() -> None:
    import silly.signal as module

    assert module is sys.modules["silly.signal"] is signal is silly.signal
    assert module.__all__ == ["signal"]
    assert module.__name__ == "silly.signal"
    assert (module.signal.__doc__ or "").startswith("Calls ``handler(name)``")


@pytest.mark.parametrize("form", ["signal('SIGUSR1', print)", "silly.signal.signal('SIGUSR1', print)"])
def test_the_task_says_where_signal_was_called(form: str, logs: Logs) -> None:
    seen: list[str] = []
    task.hook(lambda created: seen.append(created.origin()))
    try:
        exec(compile(f"\n\n{form}", "a file", "exec"), {"signal": signal, "silly": silly})
        std.raise_signal(std.SIGUSR1)
        settle()
    finally:
        task.hook()
        signal("SIGUSR1", None)
    assert seen == ["a file:3"]


def test_import_silly_does_not_load_it() -> None:
    code = "import sys, silly; print('silly.signal' in sys.modules); silly.signal; print('silly.signal' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
