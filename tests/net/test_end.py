"""The order in which a process with connections ends; docs/ending.md has it for users.

Every test ends a child, in each of the ways there are. The limits of time are an hour
there unless a test is about them: a child that waits for one hangs, and fails the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from silly import check, errno, task
from silly.net import tcp, tls, websocket
from silly.sync import channel

from ..children import Child
from ..helpers import FIN, TEXT, WITHIN, Peer, Raw, raw_server, serving, turn
from . import authorities

HOUR = 3600.0

PRELUDE = """\
import silly, sys
from silly import errno, task, time
from silly._core import ending, scheduler
from silly.net import _stream, http, tcp, tls, websocket
from silly.sync import channel
ending.strict = True
ending.plan, ending.FINALLY = ending.Plan(drain=1000 * {drain}), {grace} - {drain}
test = "127.0.0.1:{port}"
certs = [{entry}]
hour = 3_600_000
_stream.NEWCOMER = 0.1
limits = silly.Limits(linger=hour, head_timeout=hour, idle_timeout=hour, handshake_timeout=hour, close_timeout=hour)

def say(*words):
    print(*words, flush=True)

def tell(text):
    "Sends the test a line, on a connection of its own, and returns the answer."
    conn, err = tcp.connect(test)
    if conn is None:
        return err
    with conn:
        conn.write(text + "\\n")
        answer, err = conn.read("\\n")
        return answer.decode().strip() if err is None else err

def ends():
    "The end has begun, and the peers are told: after a signal that is at the end of the turn."
    while not ending._state.told:
        time.sleep(1)

def end():
    tcp.listen("127.0.0.1:0", say)  # keeps it alive until then
    tell("ready")
    {how}

task.fork(end)
"""

WAYS = {
    "launcher-signal": (True, "task.wait()", ""),
    "run-exit": (False, "silly.exit(3)", "silly.run()"),
    "plain-exit": (False, "silly.exit(3)", "time.sleep(10 ** 8)"),
}
"""Whether the launcher starts it; how its task ends it; the last line of the script.
The first is ended by a signal."""

every_way = pytest.mark.parametrize("way", WAYS)
one_way = pytest.mark.parametrize("way", ["run-exit"])


class Process:
    """A child, and what it has told."""

    def __init__(self, child: Child, way: str) -> None:
        self.child = child
        self._signal = way.endswith("signal")
        self._told: Any = channel.new()
        self._ready: Any = channel.new()

    def hear(self, conn: tcp.Conn) -> None:
        """Serves a connection of the child."""
        line, _ = conn.read("\n")
        if line is not None:
            (self._ready if line == b"ready\n" else self._told).push((line.decode().strip(), conn))
        conn.read(1)

    def told(self) -> str:
        """The next line that the child tells; it gets its answer."""
        (line, conn), _ = self._told.pop()
        conn.write("ok\n")
        return str(line)

    def end(self) -> None:
        """Begins its end: when this returns, it is about to."""
        (_, conn), _ = self._ready.pop()
        conn.write("ok\n")
        if self._signal:
            self.child.process.terminate()

    def ended(self, log: str = "") -> None:
        """It must end, with its status, having logged just that."""
        status = self.child.wait()
        assert re.fullmatch(log, self.child.errors()), self.child.errors()
        assert status == (0 if self._signal else 3)

    def lines(self) -> list[str]:
        """What it prints until its end."""
        assert self.child.process.stdout is not None
        return str(self.child._bounded(self.child.process.stdout.read)).splitlines()


@contextmanager
def process(tmp_path: Path, way: str, script: str, grace: float = HOUR, drain: float = HOUR) -> Iterator[Process]:
    launched, how, last = WAYS[way]
    running: Process
    with raw_server(lambda conn: running.hear(conn)) as listener:
        entry = authorities.server().entry
        prelude = PRELUDE.format(grace=grace, drain=drain, port=listener.port, entry=entry, how=how)
        path = tmp_path / "app.py"
        path.write_text(f"{prelude}\n{script}\n{last}\n")
        with Child(*(["-m", "silly"] if launched else []), str(path)) as child:
            running = Process(child, way)
            yield running


SERVERS = {
    "tcp": "server = silly.check(tcp.listen('127.0.0.1:0', lambda conn: serve(lambda: conn.read(1)), limits=limits))",
    "tls": "server = silly.check(tls.listen('127.0.0.1:0', certs, lambda conn: serve(lambda: conn.read(1)), limits=limits))",
    "http": "server = silly.check(http.listen('127.0.0.1:0', lambda stream: serve(stream.readall), limits=limits))",
    "https": """
handler = lambda stream: serve(stream.readall)
server = silly.check(http.listen('127.0.0.1:0', handler, certs=certs, limits=limits))
""",
    "websocket": """
def upgraded(stream):
    sock = silly.check(websocket.upgrade(stream))
    serve(lambda: sock.read())
server = silly.check(http.listen('127.0.0.1:0', upgraded, limits=limits))
""",
}
"""Each calls ``serve(read)``; ``read`` waits for the peer."""


def dial(kind: str, port: int) -> Any:
    if kind in ("tls", "https"):
        return check(tls.connect(f"127.0.0.1:{port}", ca=authorities.root().pem))
    return check(tcp.connect(f"127.0.0.1:{port}"))


def connect(kind: str, port: int) -> Any:
    """A raw client of such a server, whose handler then runs; on its end what comes is
    not read, so the handler is not helped to its end."""
    client = Peer(dial(kind, port))
    if kind in ("http", "https"):
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    elif kind == "websocket":
        client.send(client.upgrade_request())
        assert client.response().status == 101
    return client


def ended_while_it_serves(child: Process) -> Raw:
    """A client whose request is being handled when the child's end begins."""
    client = Raw(check(tcp.connect(f"127.0.0.1:{child.child.line()}")))
    client.request()
    assert child.child.line() == "serves"
    child.end()
    return client


# ---- (1) nothing starts any more -------------------------------------------------------------------------------------

NOT_STARTED = """
def body():
    task.fork(say, "a task")
    time.after(0, say, "a timer")
    {how}
    task.fork(say, "another task")
    time.after(0, say, "another timer")
def raises(func):
    try:
        func()
    except BaseException as exc:
        # Others had their turn by now, if they get one at all.
        while time.monotonic() < begin + 5:
            pass
begin = time.monotonic()
{caller}
"""

BEGIN = {
    "silly.exit": "silly.exit(3)",
    "sys.exit": "sys.exit(3)",
    "signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM); return",
}


@pytest.mark.parametrize(
    ("how", "where"),
    # In the main program the others are Python's own end of a script.
    [(how, where) for how in BEGIN for where in ("a task", "a timer", "a handler")] + [("silly.exit", "the main program")],
)
@pytest.mark.parametrize("launched", [False, True], ids=["plain", "launcher"])
def test_after_exit_no_ready_task_starts_and_no_due_timer_fires(
    tmp_path: Path, launched: bool, how: str, where: str
) -> None:
    callers = {
        "a task": "task.fork(body)\nsilly.run()",
        "the main program": "body()",
        "a timer": "time.after(1, body)\nsilly.run()",
        "a handler": """
def handler(stream):
    stream.answer(200)
    body()
server = silly.check(http.listen("127.0.0.1:0", handler, limits=limits))
task.fork(lambda: http.get(f"http://{server.addr}"))
silly.run()
""",
    }
    script = NOT_STARTED.format(how=BEGIN[how], caller=callers[where])
    path = tmp_path / "app.py"
    path.write_text(PRELUDE.split("def end():")[0].format(grace=HOUR, drain=HOUR, port=0, entry={}) + script)
    with Child(*(["-m", "silly"] if launched else []), str(path)) as child:
        assert child.process.stdout is not None
        assert child._bounded(child.process.stdout.read) == ""
        assert child.wait() == (0 if how == "signal" else 3), child.errors()
        assert child.errors() == ""


@every_way
def test_a_program_without_open_handlers_waits_for_nothing(tmp_path: Path, way: str) -> None:
    """No handler is open, so neither sleeping tasks nor timers nor idle peers keep it."""
    script = """
server = silly.check(http.listen("127.0.0.1:0", lambda stream: stream.answer(200, "served"), limits=limits))
say(server.port)
time.after(10 ** 8, say, "not reached")
def sleeper():
    try:
        time.sleep(10 ** 8)
    finally:
        say("sleeper")
def reader():
    conn = silly.check(tcp.connect(test))
    try:
        conn.read(1)
    finally:
        say("reader")
task.fork(sleeper)
task.fork(reader)
"""
    with process(tmp_path, way, script) as child:
        port = int(child.child.line())
        idle = Raw(check(tcp.connect(f"127.0.0.1:{port}")))
        idle.request()
        assert idle.response().body == b"served\n"
        child.end()
        assert sorted(child.lines()) == ["reader", "sleeper"]
        idle.eof()
        idle.close()
        child.ended()


# ---- (1) what was not promised anything ends at once -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "dribbled", "first"),  # each two of these in each combination
    [
        pytest.param("http", False, False, id="http-whole-fresh"),
        pytest.param("http", True, True, id="http-dribbled-after a response"),
        pytest.param("https", False, True, id="https-whole-after a response"),
        pytest.param("https", True, False, id="https-dribbled-fresh"),
    ],
)
@every_way
def test_half_a_request_does_not_delay_the_end(
    tmp_path: Path, way: str, scheme: str, dribbled: bool, first: bool
) -> None:
    script = f"""
tls = certs if {scheme == "https"} else None
server = silly.check(http.listen("127.0.0.1:0", lambda stream: stream.answer(200, "served"), certs=tls, limits=limits))
say(server.port)
"""
    with process(tmp_path, way, script) as child:
        port = int(child.child.line())
        client = Raw(dial(scheme, port))
        if first:
            client.request()
            assert client.response().status == 200
        half = "GET / HTTP/1.1\r\nHost: x\r\nX-Half: ye"
        ongoing = True

        def dribble() -> None:
            while ongoing and client.conn.write("y"):
                client.conn._stream.flush()
                turn()

        client.send(half)
        if dribbled:
            task.fork(dribble)
        child.end()
        child.ended()
        ongoing = False
        client.close()
        turn(3)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [pytest.param("tls", b"\x16\x03\x01\x02\x00\x01\x00", id="tls-a part"), pytest.param("https", b"", id="https-nothing")],
)
@every_way
def test_half_a_handshake_does_not_delay_the_end(tmp_path: Path, way: str, sent: bytes, kind: str) -> None:
    script = f"def serve(read):\n    say('not reached')\n{SERVERS[kind]}\nsay(server.port)"
    with process(tmp_path, way, script) as child:
        client = Raw(check(tcp.connect(f"127.0.0.1:{child.child.line()}")))
        client.send(sent)
        with client:
            child.end()
            assert child.lines() == []
            child.ended()


# ---- (2) draining ----------------------------------------------------------------------------------------------------


@every_way
def test_handlers_finish_with_the_network_and_tell_their_peers(tmp_path: Path, way: str) -> None:
    script = """
def handler(stream):
    say("serves")
    ends()
    say(tell(stream.path))
    stream.answer(200, "finished")
server = silly.check(http.listen("127.0.0.1:0", handler, limits=limits))
say(server.port)
"""
    with process(tmp_path, way, script) as child:
        port = int(child.child.line())
        clients = [Raw(check(tcp.connect(f"127.0.0.1:{port}"))) for _ in range(3)]
        for client in clients:
            client.send("GET /one HTTP/1.1\r\nHost: x\r\n\r\nGET /two HTTP/1.1\r\nHost: x\r\n\r\n")
            assert child.child.line() == "serves"
        child.end()
        assert [child.told() for _ in clients] == ["/one"] * 3
        assert tcp.connect(f"127.0.0.1:{port}") == (None, errno.CONNREFUSED)
        for client in clients:
            response = client.response()
            assert (response.body, response.header["connection"]) == (b"finished\n", "close")
            client.eof()  # the second request was not promised anything
            client.close()
        assert child.lines() == ["ok"] * 3
        child.ended()


@pytest.mark.parametrize("kind", SERVERS)
@every_way
def test_presence_is_told_by_the_finally_block_of_a_handler(tmp_path: Path, way: str, kind: str) -> None:
    """The peer is idle, so the handler is ended by force."""
    script = f"""
def serve(read):
    try:
        say(tell("here"))
        while read()[0] is not None:
            pass
    finally:
        say(tell("gone"))
{SERVERS[kind]}
say(server.port)
"""
    with process(tmp_path, way, script, drain=0.05) as child:
        client = connect(kind, int(child.child.line()))
        assert child.told() == "here"
        assert child.child.line() == "ok"
        child.end()
        assert child.told() == "gone"
        assert child.lines() == ["ok"]
        child.ended(log="(.*INFO http: .*the request's body is incomplete.*\n)?")
        client.close()


@every_way
def test_handlers_may_fork(tmp_path: Path, way: str) -> None:
    """Also as the last that they do: what they fork starts, and is then ended."""
    script = """
def forked(name):
    say(name)
    try:
        task.wait()
    finally:
        say(name, tell("finally"))
def handler(stream):
    say("serves")
    ends()
    task.fork(forked, "early")
    time.sleep(1)
    stream.answer(200)
    task.fork(forked, "late")
server = silly.check(http.listen("127.0.0.1:0", handler, limits=limits))
say(server.port)
"""
    with process(tmp_path, way, script) as child:
        client = ended_while_it_serves(child)
        assert [child.told(), child.told()] == ["finally"] * 2
        assert sorted(child.lines()) == ["early", "early ok", "late", "late ok"]
        client.close()
        child.ended()


@every_way
def test_background_tasks_run_meanwhile_and_are_not_waited_for(tmp_path: Path, way: str) -> None:
    script = """
chan = channel.new()
def background():
    try:
        while True:
            done, _ = chan.pop()
            done.push("worked")
    finally:
        say("background ends")
def sleeps():
    time.sleep(10 ** 8)
def handler(stream):
    say("serves")
    ends()
    done = channel.new()
    chan.push(done)
    say(done.pop()[0])
task.fork(background)
task.fork(sleeps)
server = silly.check(http.listen("127.0.0.1:0", handler, limits=limits))
say(server.port)
"""
    with process(tmp_path, way, script) as child:
        client = ended_while_it_serves(child)
        assert child.lines() == ["worked", "background ends"]
        client.close()
        child.ended(log=".*INFO .*the handler did not respond\n")


@pytest.mark.parametrize("kind", SERVERS)
@every_way
def test_a_handler_that_nothing_can_wake_is_not_waited_for(tmp_path: Path, way: str, kind: str) -> None:
    script = f"""
def serve(read):
    try:
        say("serves")
        channel.new().pop()
    finally:
        say("finally")
{SERVERS[kind]}
say(server.port)
"""
    with process(tmp_path, way, script) as child:
        client = connect(kind, int(child.child.line()))
        assert child.child.line() == "serves"
        child.end()
        assert child.lines() == ["finally"]
        child.ended()
        client.close()


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("how", ["silly.exit(3)", "sys.exit(3)"])
def test_a_handler_that_calls_exit_counts_as_ended(tmp_path: Path, kind: str, how: str) -> None:
    script = f"""
def serve(read):
    try:
        say("serves")
        {how}
    finally:
        say(tell("finally"))
{SERVERS[kind]}
say(server.port)
"""
    with process(tmp_path, "run-exit", script) as child:
        client = connect(kind, int(child.child.line()))
        assert child.child.line() == "serves"
        assert child.told() == "finally"
        assert child.lines() == ["ok"]
        client.close()
        child.ended()


@every_way
def test_websocket_peers_are_told_and_handlers_go_on(tmp_path: Path, way: str) -> None:
    """After our close frame nothing follows on that connection (RFC 6455, section
    5.5.1); all other connections still work, those to servers among them."""
    script = """
def handler(stream):
    sock = silly.check(websocket.upgrade(stream))
    upstream = silly.check(websocket.connect(url))
    with upstream:
        sock.write("hello", "text")
        while True:
            data, typ = sock.read()
            if data is None or typ == "close":
                break
            say(data)
        say(sock.closecode, *sock.write("late", "text"))
        upstream.write("left", "text")
        say(upstream.read()[0])
server = silly.check(http.listen("127.0.0.1:0", handler, limits=limits))
say(server.port)
"""
    seen: Any = channel.new()

    def upstream(stream: Any) -> None:
        sock = check(websocket.upgrade(stream))
        while (got := sock.read(WITHIN))[0] is not None:
            seen.push((got, sock.closecode))
            if got[1] == "text":
                sock.write("seen", "text")

    with serving(upstream) as server:
        script = f"url = 'ws://127.0.0.1:{server.port}'\n{script}"
        with process(tmp_path, way, script) as child:
            client = connect("websocket", int(child.child.line()))
            assert client.get() == (FIN | TEXT, b"hello")
            child.end()
            assert client.get_close() == (1001, "")
            client.put(FIN | TEXT, "on its way")  # sent before the peer saw our close
            client.put_close(1001)
            assert child.lines() == ["on its way", "1001 False closed", "seen"]
            client.eof()
            client.close()
            child.ended()
        assert [seen.pop()[0] for _ in range(2)] == [(("left", "text"), None), ((b"\x03\xe8", "close"), 1000)]


@every_way
def test_a_websocket_that_is_asked_for_while_handlers_finish(tmp_path: Path, way: str) -> None:
    """Its client is told to come back, to another process."""
    script = """
def handler(stream):
    say("serves")
    ends()
    say(*websocket.upgrade(stream))
server = silly.check(http.listen("127.0.0.1:0", handler, limits=limits))
say(server.port)
"""
    with process(tmp_path, way, script) as child:
        client = Peer(check(tcp.connect(f"127.0.0.1:{child.child.line()}")))
        client.send(client.upgrade_request())
        assert child.child.line() == "serves"
        child.end()
        response = client.response()
        assert (response.status, response.header["retry-after"]) == (503, "1")
        client.eof()
        assert child.lines() == ["None the server is going away"]
        client.close()
        child.ended()


@one_way
def test_a_websocket_of_a_client_says_goodbye_when_no_task_is_left(tmp_path: Path, way: str) -> None:
    got: Any = channel.new()

    def handler(stream: Any) -> None:
        sock = check(websocket.upgrade(stream))
        while (data := sock.read(WITHIN)[0]) is not None:
            got.push((data, sock.closecode))

    with serving(handler) as server:
        script = f"""
sock = silly.check(websocket.connect("ws://127.0.0.1:{server.port}"))
def background():
    try:
        task.wait()
    finally:
        say(*sock.write("gone", "text"))
task.fork(background)
say("up")
"""
        with process(tmp_path, way, script) as child:
            assert child.child.line() == "up"
            child.end()
            assert child.lines() == ["True None"]
            child.ended()
        assert [got.pop()[0] for _ in range(2)] == [("gone", None), (b"\x03\xe9", 1001)]


# ---- (3) GreenletExit, and finally blocks with the network -----------------------------------------------------------


@every_way
def test_a_handler_that_never_ends_gets_greenletexit_after_its_time(tmp_path: Path, way: str) -> None:
    script = """
def handler(stream):
    try:
        say("serves")
        while True:
            time.sleep(1)
    except BaseException as exc:
        say(type(exc).__name__, ending.phase().value)
        raise
server = silly.check(http.listen("127.0.0.1:0", handler, limits=limits))
say(server.port)
"""
    with process(tmp_path, way, script, drain=0.1) as child:
        client = ended_while_it_serves(child)
        assert child.lines() == ["GreenletExit ending"]
        client.eof()
        client.close()
        child.ended()


@every_way
def test_a_chain_of_finally_blocks(tmp_path: Path, way: str) -> None:
    script = """
class Room:
    def __init__(self, name):
        self.name = name
    def __enter__(self):
        pass
    def __exit__(self, *exc):
        say(self.name, tell(self.name))
def body():
    with Room("outer"):
        try:
            with Room("inner"):
                task.wait()
        finally:
            time.sleep(1)
            response, err = http.get(url)
            say("http", response.text)
task.fork(body)
"""
    with serving(lambda stream: stream.answer(200, "of the test")) as server:
        script = f"url = 'http://127.0.0.1:{server.port}'\n{script}"
        with process(tmp_path, way, script) as child:
            child.end()
            assert child.told() == "inner"
            assert child.told() == "outer"
            assert child.lines() == ["inner ok", "http of the test", "", "outer ok"]
            child.ended()


WAITS = {
    "conn.read": "silent.read(1)[1]",
    "conn.write": "silent.write(bytes(64 * 1024 * 1024))[1]",
    "tls.connect": "tls.connect(silent_addr)[1]",
    "http.get": "http.get(f'http://{silent_addr}')[1]",
    "websocket.connect": "websocket.connect(f'ws://{silent_addr}')[1]",
    "channel.pop": "channel.new().pop()[1]",
    "time.sleep": "time.sleep(10 ** 8)",
    "server.drain": "server.drain()[1]",
}
"""What waits for ever, in a finally block, and what it returns when the time is over."""


@pytest.mark.parametrize("what", WAITS)
@pytest.mark.parametrize("again", [False, True], ids=["waiting", "later"])
@one_way
def test_what_still_waits_when_the_time_is_over_is_told_closed(
    tmp_path: Path, way: str, again: bool, what: str
) -> None:
    """And the task goes on, to its own end."""
    script = f"""
def body():
    silent = silly.check(tcp.connect(silent_addr))
    try:
        task.wait()
    finally:
        {"time.sleep(10 ** 8)" if again else "pass"}
        say({WAITS[what]})
        say(ending.phase().value)
def other():
    "What nothing can wake would end the time early."
    try:
        task.wait()
    finally:
        time.sleep(10 ** 8)
def keeps(conn):
    held.append(conn)
    try:
        task.wait()
    finally:
        time.sleep(10 ** 8)
held = []
server = silly.check(http.listen("127.0.0.1:0", keeps))
def client():
    conn = silly.check(tcp.connect(server.addr))
    conn.write("GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    task.wait()
task.fork(client)
task.fork(body)
task.fork(other)
"""
    held: list[Any] = []
    with raw_server(held.append) as silent:
        script = f"silent_addr = '127.0.0.1:{silent.port}'\n{script}"
        with process(tmp_path, way, script, grace=0.5, drain=0.1) as child:
            child.end()
            lines = child.lines()
            child.ended(log="(.*INFO tls.connect .*\n)?")
        for conn in held:
            conn.close()
    assert lines[-1] == "leaving"
    expected = "None" if what == "time.sleep" else "TLS error" if what == "tls.connect" else errno.CLOSED
    assert expected in lines[0] or (what != "time.sleep" and "losed" in lines[0]), lines


@every_way
def test_a_task_that_swallows_greenletexit(tmp_path: Path, way: str) -> None:
    """It goes on as long as the others' finally blocks may, and is told by CLOSED."""
    script = """
def body():
    while True:
        try:
            time.sleep(10 ** 8)
        except BaseException as exc:
            say(type(exc).__name__)
            break
    say(tell("goes on"))
    conn = silly.check(tcp.connect(test))
    say(*conn.read(1))
    say(conn.read(1)[1] == errno.CLOSED, tcp.connect(test)[1] == errno.CLOSED, time.sleep(10 ** 8))
task.fork(body)
"""
    with process(tmp_path, way, script, grace=0.3) as child:
        child.end()
        assert child.told() == "goes on"
        assert child.lines() == ["GreenletExit", "ok", f"None {errno.CLOSED}", "True True None"]
        child.ended()


@every_way
def test_what_a_finally_block_forks_is_not_started(tmp_path: Path, way: str) -> None:
    script = """
def body():
    try:
        task.wait()
    finally:
        task.fork(say, "not reached")
        time.after(0, say, "not reached")
        say(tell("still"), tcp.listen("127.0.0.1:0", say)[1])
task.fork(body)
"""
    with process(tmp_path, way, script) as child:
        child.end()
        assert child.told() == "still"
        assert child.lines() == [f"ok {errno.CLOSED}"]
        child.ended(log="(.*WARNING <task .*say.*> was not started: the process is ending\n){1,2}")


@one_way
def test_a_background_tasks_deadline_and_time_outs_still_work(tmp_path: Path, way: str) -> None:
    script = """
def body():
    conn = silly.check(tcp.connect(test))
    try:
        task.wait()
    finally:
        say(conn.read(1, 20)[1] == errno.TIMEDOUT)
        with time.deadline(20):
            say(channel.new().pop()[1])
        say(time.sleep(20))
task.fork(body)
"""
    with process(tmp_path, way, script) as child:
        child.end()
        assert child.lines() == ["True", "channel.pop: the deadline of 20 ms ran out", "None"]
        child.ended()
