"""Children of ``os.fork``: nothing of the parent's is theirs, and their status is their own."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from silly import check, errno
from silly.net import http, tcp, tls, websocket

from ..children import Child
from . import authorities
from .http_support import certs
from .support import until

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no os.fork here")

QUIET = {"PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}
"""Python 3.12 warns of a fork beside threads."""

SERVER = """
import atexit, json, os, signal, sys, threading
import silly
from silly import task, time
from silly.net import http, tcp, tls, websocket
from silly.sync import channel

kind, how, addr, certs, log = sys.argv[1:]
certs = json.loads(certs)
me = os.getpid()
answered = channel.new()

def say(*words):
    print(*words, flush=True)

atexit.register(lambda: say("atexit of the parent" + (" in the child" if os.getpid() != me else "")))

def child():
    atexit.register(say, "atexit of the child")
    if how == "raise":
        raise ValueError("from the child")
    if how == "sys.exit":
        sys.exit(7)
    if how == "silly.exit":
        silly.exit(7)
    if how == "os._exit":
        os._exit(9)

def forked():
    pid = os.fork()
    if pid:
        say("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return not pid

def serve(conn):
    with conn:
        conn.read("\\n")
        if kind == "timer":
            time.after(1, timer)
            answered.pop()
        elif kind == "thread":
            thread = threading.Thread(target=lambda: forked() and child())
            thread.start()
            thread.join()
        elif kind != "task" and forked():
            return child()
        conn.write("one\\n")
        conn.read("\\n")
        conn.write("two\\n")

def timer():
    if forked():
        return child()
    answered.push(1)

def request(stream):
    if stream.path == "/1" and forked():
        return child()
    if stream.path == "/ws":
        return talk(stream)
    stream.respond(200)
    stream.closewrite("one\\n" if stream.path == "/1" else "two\\n")

def talk(stream):
    sock, err = websocket.upgrade(stream)
    with sock:
        sock.read()
        if forked():
            return child()
        sock.write("one\\n")
        sock.read()
        sock.write("two\\n")

if kind == "tls":
    listener = silly.check(tls.listen(addr, certs, serve))
elif kind in ("http", "websocket"):
    listener = silly.check(http.listen(addr=addr, handler=request, accesslog=http.AccessLog("json", log)))
else:
    listener = silly.check(tcp.listen(addr, serve))

def main():
    say(listener.addr)
    if kind == "task" and forked():
        return child()

silly.run(main)
"""


def lines(conn: Any) -> Callable[[], Any]:
    def ask() -> Any:
        conn.write("\n")
        return conn.read("\n", 20_000)[0]

    return ask


def asking(kind: str, addr: str) -> tuple[Callable[[], Any], Callable[[], object]]:
    """Returns a function that asks the server, and gets an answer; and what ends the connection."""
    if kind == "http":
        client = http.newclient()
        paths = iter(("1", "2"))
        return lambda: check(client.get(f"http://{addr}/{next(paths)}")).body, client.close
    if kind == "websocket":
        sock = check(websocket.connect(f"ws://{addr}/ws"))

        def ask() -> Any:
            sock.write("")
            return sock.read(20_000)[0]

        return ask, sock.close
    conn = check(tls.connect(addr, ca=authorities.root().pem)) if kind == "tls" else check(tcp.connect(addr))
    return lines(conn), conn.close


@pytest.mark.parametrize("how", ["return", "raise", "sys.exit", "silly.exit", "os._exit"])
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls", "http", "websocket", "timer", "task", "thread"])
@pytest.mark.parametrize("launcher", [False, True], ids=["python", "launcher"])
def test_the_child_that_leaves_a_handler(kind: str, how: str, launcher: bool, tmp_path: Path) -> None:
    """The parent's connection goes on, the answer comes once, and the status is the child's own."""
    status = {"return": 0, "raise": 1, "os._exit": 9}.get(how, 7)
    own = ["atexit of the child"] if how != "os._exit" else []
    if kind == "thread":  # as Python has it: nothing of such a child's end is shown but what it raises
        status, own = (9 if how == "os._exit" else 0), []
    (tmp_path / "app.py").write_text(SERVER)
    addr = f"unix:{tmp_path}/socket" if kind == "unix" else "127.0.0.1:0"
    if kind == "tls":
        addr = "localhost:0"
    log = tmp_path / "access.log"
    args = [*(["-m", "silly"] if launcher else []), str(tmp_path / "app.py"), kind, how, addr, json.dumps(certs()), str(log)]
    with Child(*args, env=QUIET) as server:
        addr = server.line()
        if kind == "tls":
            addr = f"localhost:{addr.rpartition(':')[2]}"
        if kind == "task":
            assert [server.line() for _ in own] == own
            assert server.line() == f"status {status}"
        ask, close = asking(kind, addr)
        assert ask() == b"one\n"
        if kind != "task":
            assert [server.line() for _ in own] == own
            assert server.line() == f"status {status}"
        assert ask() == b"two\n"
        close()
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "atexit of the parent"
        assert server.wait() == 0
        errors = server.errors()
        assert errors.count("Traceback") == errors.count("ValueError: from the child\n") == int(how == "raise")
        assert bool(errors) == (how == "raise")
    if kind == "http":
        assert len(log.read_text().splitlines()) == 2


def run(tmp_path: Path, script: str, *args: str) -> Child:
    (tmp_path / "app.py").write_text(script)
    return Child(str(tmp_path / "app.py"), *args, env=QUIET)


MAIN = """
import os, sys
import silly
from silly import task, time
from silly.net import http, tcp

def waiting():
    try:
        task.wait()
    finally:
        print("finally of a task of the parent's", os.getpid() == me, flush=True)

me = os.getpid()
task.fork(waiting)
with silly.check(tcp.listen(sys.argv[1], lambda conn: conn.read(1))) as listener:
    with silly.check(tcp.connect(listener.addr)) as conn, http.newclient() as client:
        conn.write("x")
        time.sleep(0)
        timer = time.after(3_600_000, print)
        pid = os.fork()
        if not pid:
            try:
                print(conn.isalive(), conn.read(1), conn.write("no"), flush=True)
                sys.exit(7)
            finally:
                time.cancel(timer)
        print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        time.cancel(timer)
        print(os.path.exists(sys.argv[1][5:]), conn.isalive(), silly.check(tcp.connect(listener.addr)).isalive(), flush=True)
        silly.exit(3)
"""


def test_the_child_of_the_main_program(tmp_path: Path) -> None:
    """It leaves ``with`` blocks of the parent's connections, and its status is kept."""
    with run(tmp_path, MAIN, f"unix:{tmp_path}/socket") as child:
        assert child.line() == f"False {(None, errno.CLOSED)} Result(False, {errno.CLOSED!r})"
        assert child.line() == "status 7"
        assert child.line() == "True True True"
        assert child.line() == "finally of a task of the parent's True"
        assert child.wait() == 3
        assert child.errors() == ""


SIGNALLED = """
import os, signal, sys
import silly
from silly import task, time

def handler(*_):
    pid = os.fork()
    if pid:
        print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    elif sys.argv[1] == "exit":
        sys.exit(7)
    elif sys.argv[1] == "raise":
        raise ValueError("from the child")

signal.signal(signal.SIGUSR1, handler)
time.after(3_600_000, print)
task.fork(lambda: print("ready", flush=True))
task.wait()
"""


@pytest.mark.parametrize(("how", "status"), [("return", 0), ("exit", 7), ("raise", 1)])
def test_the_child_of_a_signal_handler(how: str, status: int, tmp_path: Path) -> None:
    """It comes back to the loop, which it does not have."""
    with run(tmp_path, SIGNALLED, how) as child:
        assert child.line() == "ready"
        child.process.send_signal(signal.SIGUSR1)
        assert child.line() == f"status {status}"
        child.process.send_signal(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM


HELD = """
import json, multiprocessing, os, sys
import silly
from silly import time
from silly.net import http, tcp, tls

by, how, certs = sys.argv[1:]
ours, theirs = os.pipe()

def wait():
    os.close(theirs)
    os.read(ours, 1)  # as long as the parent lives

def hold():
    if by == "multiprocessing":
        # Not as a child to wait for at the end.
        multiprocessing.get_context("fork").Process(target=wait, daemon=True).start()
    elif os.fork() == 0:
        wait()
        os._exit(0)

def serve(conn):
    conn.read("\\n")
    hold()
    if how == "listener":
        listener.close()
    elif how == "reset":
        conn._stream.reset()
    else:
        conn.write("bye\\n")
        conn.close()

if how == "tls":
    listener = silly.check(tls.listen("localhost:0", json.loads(certs), serve))
else:
    listener = silly.check(tcp.listen("localhost:0", serve))
print(listener.addr, flush=True)
time.after(3_600_000, print)  # it lives on without the listener
silly.run()
"""


@pytest.mark.parametrize("by", ["os.fork", "multiprocessing"])
@pytest.mark.parametrize("how", ["tcp", "tls", "reset", "listener"])
def test_a_child_that_lives_on_delays_no_end(by: str, how: str, tmp_path: Path) -> None:
    """The peer sees the end, and the port is free, while the child is still there."""
    with run(tmp_path, HELD, by, how, json.dumps(certs())) as server:
        addr = f"localhost:{server.line().rpartition(':')[2]}"
        conn = check(tls.connect(addr, ca=authorities.root().pem)) if how == "tls" else check(tcp.connect(addr))
        with conn:
            conn.write("\n")
            if how == "listener":
                until(lambda: tcp.connect(addr) == (None, errno.CONNREFUSED))
            elif how == "reset":
                assert conn.read(1, 5_000) == (None, errno.CONNRESET)
            else:
                assert conn.read("\n", 5_000) == (b"bye\n", None)
                assert conn.read(1, 5_000) == (None, errno.EOF)
