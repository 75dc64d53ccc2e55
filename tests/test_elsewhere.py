"""Calls from where silly does not run: another thread, a callback of the loop, a greenlet of another library, a child of
``os.fork``, and after the end. Each says which call it is, where it was made, and what to do instead.
"""

from __future__ import annotations

import os
import py_compile
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import greenlet
import pytest

import silly
from silly import hive, task, time
from silly._core import scheduler
from silly._core.callers import called
from silly.net import http, tcp, tls, websocket
from silly.sync import channel, event, pool, semaphore

from .children import LISTENING
from .conftest import Logs
from .net import authorities
from .net.http_support import certs

HINT = "task.call or task.post runs a function there (docs/threads.md); or use the standard library here"
IN_THE_LOOP = "in a callback of the loop (a signal handler, a finalizer or a hook); fork a task instead"
PATIENCE = 50
"""Seconds after which a child is taken to hang."""


@pytest.fixture
def open_() -> Iterator[Any]:
    """One of everything that is open."""

    def request(stream: Any) -> None:
        if stream.header["upgrade"] == "websocket":
            sock = silly.check(websocket.upgrade(stream))
            while sock.read()[0] is not None:
                pass
        else:
            streams.push(stream)
            answer.pop()
            stream.close()

    streams, answer = channel.new(), channel.new()
    with ExitStack() as stack:
        keep = stack.enter_context
        server = keep(silly.check(http.listen("127.0.0.1:0", request)))
        listener = keep(silly.check(tcp.listen("127.0.0.1:0", lambda conn: conn.read(1))))
        secure = keep(silly.check(tls.listen("127.0.0.1:0", certs(), lambda conn: conn.read(1))))
        client = keep(http.newclient())
        asked = keep(silly.check(client.request("POST", f"http://{server.addr}/")))
        asked.write("x")
        answered = streams.pop()[0]
        answered.respond(200)
        timer = time.after(60_000, task.wait)
        yield SimpleNamespace(
            server=server, listener=listener, secure=secure, client=client, asked=asked, answered=answered,
            conn=keep(silly.check(tcp.connect(listener.addr))),
            private=keep(silly.check(tls.connect(secure.addr, ca=authorities.root().pem))),
            sock=keep(silly.check(websocket.connect(f"ws://{server.addr}/"))),
            chan=channel.new(), timer=timer, me=task.running(), worker=hive.spawn(lambda: int),
        )  # fmt: skip
        time.cancel(timer)
        answer.push(True)


class Own(tcp.Conn):
    """A program's own class."""


def leave(thing: Any) -> None:
    with thing:
        pass


def get_two(items: pool.Pool[Any]) -> None:
    items.get()
    items.get()


def timed(one: Any) -> None:
    with time.deadline(1):
        pass


BLOCK: dict[str, Callable[[Any], object]] = {
    "task.wait": lambda one: task.wait(),
    "time.sleep": lambda one: time.sleep(1),
    "time.sleep of 0": lambda one: time.sleep(0),
    "time.deadline": timed,
    "channel.pop": lambda one: one.chan.pop(),
    "channel.pop of a bounded one": lambda one: channel.new(1).pop(),
    "event.wait": lambda one: event.new().wait(),
    "semaphore.acquire": lambda one: semaphore.Semaphore(0).acquire(),
    "pool.get": lambda one: get_two(pool.new(lambda: ([], None), max_open=1)),
    "tcp.connect": lambda one: tcp.connect(one.listener.addr),
    "tcp.connect to a name": lambda one: tcp.connect(f"localhost:{one.listener.port}"),
    "websocket.connect": lambda one: websocket.connect(f"ws://{one.server.addr}/"),
    "http.get": lambda one: http.get(f"http://{one.server.addr}/"),
    "client.request": lambda one: one.client.request("GET", f"http://{one.server.addr}/"),
    "conn.read": lambda one: one.conn.read(1),
    "conn.read of a line": lambda one: one.conn.read("\n"),
    "conn.read of TLS": lambda one: one.private.read(1),
    "server.drain": lambda one: one.server.drain(1),
    "sock.read": lambda one: one.sock.read(),
    "sock.write of a large message": lambda one: one.sock.write(bytes(200_000)),
    "next(pieces)": lambda one: list(one.sock.pieces()),
    "stream.read": lambda one: one.answered.read(5),
    "stream.readall": lambda one: one.answered.readall(),
    "task.running": lambda one: task.running(),
    "task.thread": lambda one: task.thread(int),
    "hive.spawn": lambda one: hive.spawn(lambda: int),
    "hive.invoke": lambda one: hive.invoke(one.worker),
}
"""What blocks, or asks which task runs, by its public name; " of …" and " to …" are not part of it."""

CALLS: dict[str, Callable[[Any], object]] = {
    **BLOCK,
    "tls.connect": lambda one: tls.connect(one.secure.addr),
    "tls.upgrade": lambda one: tls.upgrade(one.conn, "localhost"),
    "task.fork": lambda one: task.fork(task.wait),
    "task.wakeup": lambda one: task.wakeup(one.me),
    "time.after": lambda one: time.after(1, task.wait),
    "time.cancel": lambda one: time.cancel(one.timer),
    "channel.clear": lambda one: channel.new(1).clear(),
    "event.clear": lambda one: event.new().clear(),
    "semaphore.release": lambda one: semaphore.Semaphore(0).release(),
    "semaphore.acquire of a with block": lambda one: leave(semaphore.new(1)),
    "pool.put": lambda one: pool.new(lambda: ([], None)).put([]),
    "pool.drop": lambda one: pool.new(lambda: ([], None)).drop([]),
    "pool.close": lambda one: pool.new(lambda: ([], None)).close(),
    "silly.run": lambda one: silly.run(),
    "silly.exit": lambda one: silly.exit(),
    "tcp.listen": lambda one: tcp.listen("127.0.0.1:0", print),
    "tcp.listen of a dict": lambda one: tcp.listen({"addr": "127.0.0.1:0", "accept": print}),
    "tls.listen": lambda one: tls.listen("127.0.0.1:0", certs(), print),
    "http.listen": lambda one: http.listen("127.0.0.1:0", print),
    "listener.close": lambda one: one.listener.close(),
    "listener.close of a with block": lambda one: leave(one.listener),
    "listener.reload": lambda one: one.secure.reload(certs()),
    "server.close": lambda one: one.server.close(),
    "client.close": lambda one: one.client.close(),
    "client.closeidle": lambda one: one.client.closeidle(),
    "http.closeidle": lambda one: http.closeidle(),
    "conn.write": lambda one: one.conn.write("x"),
    "conn.write of a list": lambda one: one.conn.write(["x"]),
    "conn.write of TLS": lambda one: one.private.write("x"),
    "conn.write of a subclass's own": lambda one: Own.write(one.conn, "x"),
    "conn.limit": lambda one: one.conn.limit(100),
    "conn.close": lambda one: one.conn.close(),
    "conn.close of a with block": lambda one: leave(one.private),
    "sock.write": lambda one: one.sock.write("x", "text"),
    "sock.write of a ping": lambda one: one.sock.write("x", "ping"),
    "sock.write of a close": lambda one: one.sock.write(None, "close"),
    "sock.close": lambda one: one.sock.close(),
    "stream.write": lambda one: one.answered.write("x"),
    "stream.write of a client": lambda one: one.asked.write("x"),
    "stream.closewrite": lambda one: one.answered.closewrite("x"),
    "stream.closewrite of a client": lambda one: one.asked.closewrite("x"),
    "stream.close of a client": lambda one: one.asked.close(),
}


def raised(call: Callable[[Any], object], one: Any) -> str:
    """The text of the RuntimeError that ``call(one)`` raises."""
    with pytest.raises(RuntimeError) as caught:
        call(one)
    return str(caught.value)


def in_thread(func: Callable[..., Any], *args: Any, name: str = "my worker") -> Any:
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(func(*args)), name=name)
    thread.start()
    thread.join(PATIENCE)
    assert outcome, "it raised, or hangs"
    return outcome[0]


def in_the_loop(func: Callable[..., Any], *args: Any) -> Any:
    outcome = channel.new()
    scheduler.loop.post(lambda: outcome.push(silly.pcall(func, *args)))
    ok, result = outcome.pop()[0]
    assert ok, result
    return result


def public(name: str) -> str:
    return name.partition(" ")[0]


def test_a_call_from_another_thread_says_which_from_where_and_what_to_do(open_: Any) -> None:
    home = threading.current_thread().name
    where = f"called from another thread, 'my worker'; silly runs only in the thread that imported it, {home!r}. {HINT}"
    texts = in_thread(lambda: {name: raised(call, open_) for name, call in CALLS.items()})
    assert texts == {name: f"{public(name)}: {where}" for name in CALLS}


@pytest.mark.parametrize("name", ["sock.write of a close", "stream.close of a client", "conn.limit"])
def test_a_call_from_another_thread_changes_nothing(name: str, open_: Any) -> None:
    in_thread(raised, CALLS[name], open_)
    assert open_.sock.write("still open", "text") == (True, None)
    assert open_.asked.write("still open") == (True, None)
    assert open_.conn._stream.mark == open_.conn._stream.limits.receive_mark


def without_verb(text: str) -> str:
    """The text of an error without what can't be done, which depends on how the call begins."""
    return text.replace(": cannot block in", ": in").replace(": no task runs in", ": in")


def test_blocking_in_a_callback_of_the_loop_says_which_call_and_what_to_do(open_: Any) -> None:
    texts = in_the_loop(lambda: {name: without_verb(raised(call, open_)) for name, call in BLOCK.items()})
    assert texts == {name: f"{public(name)}: {IN_THE_LOOP}" for name in BLOCK}


def test_blocking_in_another_library_s_greenlet_says_which_call_and_what_to_do(open_: Any) -> None:
    where = "in a greenlet that silly did not start (another library's, or your own); fork a task instead"
    texts = greenlet.greenlet(lambda: {name: without_verb(raised(call, open_)) for name, call in BLOCK.items()}).switch()
    assert texts == {name: f"{public(name)}: {where}" for name in BLOCK}


def test_a_signal_handler_that_blocks_while_the_loop_waits_is_told_what_to_do() -> None:
    caught, arrived = [], channel.new()

    def handler(*_: object) -> None:
        caught.append(raised(lambda _: time.sleep(1), None))
        arrived.push(True)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        scheduler.loop.post(signal.raise_signal, signal.SIGUSR1)
        arrived.pop()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught == [f"time.sleep: no task runs {IN_THE_LOOP}"]


def test_a_finalizer_that_blocks_in_the_loop_is_told_what_to_do() -> None:
    caught, arrived = [], channel.new()

    class Thing:
        def __del__(self) -> None:
            caught.append(raised(lambda _: time.sleep(1), None))

    things = [Thing()]
    scheduler.loop.post(lambda: (things.clear(), arrived.push(True)))
    arrived.pop()
    assert caught == [f"time.sleep: no task runs {IN_THE_LOOP}"]


def test_a_hook_that_blocks_in_the_loop_is_told_what_to_do(logs: Logs) -> None:
    """The function of a timer is forked by the loop."""
    logs.expect(r"ERROR exception in the create hook of [\s\S]*: time\.sleep: no task runs in a callback of the loop")
    ran = channel.new()
    task.hook(lambda _: time.sleep(1))
    try:
        time.after(1, ran.push, True)
        assert ran.pop() == (True, None)
    finally:
        task.hook(None)


def test_what_a_program_hands_to_the_library_is_named() -> None:
    """No wrapper of the library's stands for the call: ``pcall``, a task, a thread's target."""
    ok, text = in_thread(silly.pcall, task.wait)
    assert not ok
    assert "RuntimeError: task.wait: called from another thread, 'my worker'" in text


def test_a_call_within_the_library_has_no_public_name() -> None:
    assert called(sys._getframe()) is None
    text = greenlet.greenlet(lambda: scheduler.not_here("no task runs", "a test")).switch()
    assert text.startswith("a test: no task runs in a greenlet")


# ---- in processes of their own ----------------------------------------------------------------------------------


def output(tmp_path: Path, script: str) -> list[str]:
    """The lines of a script of plain Python, which must end well."""
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, LISTENING.sub("", done.stderr)) == (0, "")
    return done.stdout.splitlines()


def test_the_library_in_a_zip_file_of_compiled_modules_knows_its_own_frames(tmp_path: Path) -> None:
    """Code has the file names there that it had where it was compiled."""
    package = Path(silly.__file__).parent
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        for path in package.rglob("*.py"):
            name = path.relative_to(package.parent)
            compiled = py_compile.compile(str(path), str(tmp_path / "one.pyc"), f"/build/{name}", doraise=True)
            assert compiled is not None
            archive.write(compiled, name.with_suffix(".pyc"))
    script = f"""
import sys
sys.path.insert(0, "app.zip")
import logging, threading
from silly import task, time
{TELL}
logging.basicConfig(stream=sys.stdout, format="%(message)s")
print("app.zip" in time.__file__)
time.sleep(0.5)
thread = threading.Thread(target=tell, args=[lambda: time.sleep(1)], name="mine")
thread.start()
thread.join()
"""
    apart, told, error = output(tmp_path, script)
    assert apart == "True"
    assert re.match(r"time\.sleep: 0\.5 at \S*script\.py:\d+ is 0\.5 ms", told)
    assert error.startswith("time.sleep: called from another thread, 'mine'")


TELL = """
def tell(call):
    try:
        print(call())
    except RuntimeError as exc:
        print(exc)
"""


def test_silly_that_was_imported_in_a_thread_that_has_ended(tmp_path: Path) -> None:
    script = f"""
import threading
{TELL}
def importer():
    global time
    from silly import time
thread = threading.Thread(target=importer)
thread.start()
thread.join()
tell(lambda: time.sleep(1))
"""
    assert output(tmp_path, script) == [
        "time.sleep: called from another thread, 'MainThread'; silly runs only in the thread that imported it, "
        "which has ended: import silly in the main thread first"
    ]


def test_after_the_end_a_call_says_so_and_closing_is_quiet(tmp_path: Path) -> None:
    """``atexit`` runs what was registered last first, so this runs after silly's own end."""
    script = f"""
import atexit
{TELL}
def late():
    for call in (
        lambda: time.sleep(1), lambda: task.fork(print), lambda: time.after(1, print), silly.run, task.running,
        lambda: tcp.connect(listener.addr), channel.new().pop, lambda: tcp.listen("127.0.0.1:0", print),
        lambda: conn.write("x"), lambda: conn.read(1), conn.close, listener.close, silly.exit,
    ):
        tell(call)
atexit.register(late)
import silly
from silly import task, time
from silly.net import tcp
from silly.sync import channel
listener = silly.check(tcp.listen("127.0.0.1:0", lambda conn: task.wait()))
conn = silly.check(tcp.connect(listener.addr))
"""
    ended = "silly has ended, because the interpreter is ending; call atexit.register after importing silly"
    names = ("time.sleep", "task.fork", "time.after", "silly.run", "task.running", "tcp.connect", "channel.pop", "tcp.listen")
    closed = silly.errno.CLOSED
    assert output(tmp_path, script) == [
        *(f"{name}: {ended}" for name in names),
        f"Result(False, {closed!r})", f"(None, {closed!r})", *[f"Result(False, {closed!r})"] * 2, "None",
    ]  # fmt: skip


def test_a_finalizer_that_the_interpreter_runs_last_is_told_that_silly_has_ended(tmp_path: Path) -> None:
    """When no module is in ``sys.modules`` any more."""
    script = """
import builtins
from silly import time
class Last:
    def __del__(self):
        try:
            time.sleep(1)
        except RuntimeError as exc:
            print(exc)
builtins.last = last = Last()
last.cycle = last
"""
    ended = "silly has ended, because the interpreter is ending; call atexit.register after importing silly"
    assert output(tmp_path, script) == [f"time.sleep: {ended}"]


def test_what_atexit_runs_before_the_end_may_block(tmp_path: Path) -> None:
    script = """
import silly, atexit
from silly import time
from silly.net import tcp
listener = silly.check(tcp.listen("127.0.0.1:0", lambda conn: conn.write("hello\\n")))
def last():
    time.sleep(1)
    print(silly.check(tcp.connect(listener.addr)).read("\\n"))
atexit.register(last)
"""
    assert output(tmp_path, script) == ["(b'hello\\n', None)"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")
def test_a_child_of_fork_is_told_what_to_do(tmp_path: Path) -> None:
    script = f"""
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import silly
from silly import task, time
from silly.net import http
{TELL}
if not os.fork():
    for call in (lambda: time.sleep(1), lambda: http.get("http://127.0.0.1:1/"), lambda: task.fork(print)):
        tell(call)
    sys.exit()
print(os.wait()[1])
"""
    where = "in a child of os.fork(), where silly does not work"
    do = "start a process that imports it itself (subprocess, or multiprocessing with 'spawn')"
    names = ("time.sleep", "http.get", "task.fork")
    assert output(tmp_path, script) == [*(f"{name}: {where}; {do}" for name in names), "0"]
