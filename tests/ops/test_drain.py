"""The end of a server's process under the launcher: nothing that has come is lost, and the times are those of the options."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from silly import check
from silly._core import ending
from silly.net import tcp, tls

from ..children import Child
from ..helpers import Peer, Raw
from ..net import authorities

PRELUDE = """
import os, signal, sys
import silly
from silly import task, time
from silly._core import ending
from silly.net import _stream, http, websocket
_stream.NEWCOMER = 0.2
certs = [{entry}]
fifo = {fifo!r}

def say(*words):
    print(*words, flush=True)

def hold():
    "Holds the loop until the test writes."
    say("holds")
    with open(fifo, "rb") as file:
        file.read()

router = http.router()
router.health()
router.get("/", lambda stream: stream.answer(200, "hello"))
router.get("/hold", lambda stream: (hold(), stream.answer(200, "held")))
def wait(stream):
    say("waits")
    task.wait()
router.get("/wait", wait)
def push(stream):
    sock = silly.check(websocket.upgrade(stream))
    task.wait()
router.websocket("/chat", push)
server = silly.check(http.listen("127.0.0.1:0", router, certs=certs if {tls} else None))
"""
LAST = "say(server.port)\n"


class App(Child):
    port = 0

    def connect(self, secure: bool = False) -> Raw:
        addr = f"127.0.0.1:{self.port}"
        return Raw(check(tls.connect(addr, ca=authorities.root().pem) if secure else tcp.connect(addr)))

    def in_kernel(self, data: bytes) -> Raw:
        """A connection that nobody has accepted."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.sendall(data)
        return Raw(check(tcp.adopt(sock)))

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)


@contextmanager
def app(tmp_path: Path, *options: str, more: str = "", secure: bool = False) -> Iterator[App]:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = tmp_path / "app.py"
    path.write_text(PRELUDE.format(entry=authorities.server().entry, fifo=str(fifo), tls=secure) + more + LAST)
    with App("-m", "silly", *options, str(path)) as child:
        child.port = int(child.line())
        yield child


def let_go(tmp_path: Path) -> None:
    """Ends ``hold``."""
    (tmp_path / "fifo").write_bytes(b"x")


def asked(client: Raw, path: str = "/") -> tuple[int, str | None]:
    client.request(path)
    response = client.response()
    return response.status, response.header.get("connection")


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


# ---- what has come is answered --------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_what_came_while_the_loop_was_held_is_answered(tmp_path: Path, secure: bool) -> None:
    """More connections wait in the kernel than are accepted in a turn, and as many requests on connections that were idle."""
    with app(tmp_path, secure=secure) as child, ExitStack() as stack:
        kept = [stack.enter_context(child.connect(secure)) for _ in range(20 if secure else 100)]
        for client in kept:
            assert asked(client) == (200, None)
        holder = stack.enter_context(child.connect(secure))
        holder.request("/hold")
        assert child.line() == "holds"
        new = [stack.enter_context(child.in_kernel(b"" if secure else REQUEST)) for _ in range(10 if secure else 150)]
        for client in kept:
            client.request()
        child.signal()
        let_go(tmp_path)
        if secure:
            new = [Raw(check(tls.upgrade(client.conn, "localhost", ca=authorities.root().pem))) for client in new]
            for client in new:
                stack.enter_context(client)
                client.request()
        for client in [holder, *kept, *new]:
            assert client.response().status == 200
            client.eof()
        assert child.wait() == 0, child.errors()
        assert re.fullmatch(r"(\S+ \S+ WARNING SIGTERM: the end waits for task .*\n)?", child.errors())


PROXIED = """
_stream.NEWCOMER = 1.0
server.close()
server = silly.check(http.listen("127.0.0.1:0", router, proxy=True, trusted=["127.0.0.1"]))
"""


def test_behind_a_proxy_nothing_is_lost(tmp_path: Path) -> None:
    """Connections that the proxy has just made, with their headers and before them. One that stays silent costs a moment."""
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"
    with app(tmp_path, "--drain", "1h", more=PROXIED) as child, ExitStack() as stack:
        holder, silent = stack.enter_context(child.connect()), stack.enter_context(child.connect())
        holder.send(header)
        holder.request("/hold")
        assert child.line() == "holds"
        new = [stack.enter_context(child.in_kernel(header + REQUEST)) for _ in range(100)]
        late = [stack.enter_context(child.in_kernel(header[:at])) for at in (0, 20)]
        child.signal()
        let_go(tmp_path)
        assert holder.response().status == 200
        for client, at in zip(late, (0, 20), strict=True):
            client.send(header[at:] + REQUEST)
        for client in [*new, *late]:
            assert client.response().status == 200
            client.eof()
        silent.eof()
        assert child.wait() == 0, child.errors()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo"])
def test_who_sends_no_request_is_not_waited_for(tmp_path: Path, sent: bytes) -> None:
    with app(tmp_path, "--drain", "1h") as child, child.in_kernel(sent) as client:
        child.signal()
        client.eof()
        assert child.wait() == 0


# ---- the plan -------------------------------------------------------------------------------------------------------


def test_the_options_are_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("from silly._core import ending\nprint(*ending.plan, ending._grace())")
    for options, said in [
        ([], "0 2000 0 1001 3.0"),
        (["--drain", "30s", "--notice=5s", "--spread", "10000"], "5000 30000 10000 1001 31.0"),
    ]:
        with Child("-m", "silly", *options, str(path)) as child:
            assert child.line() == said


NOTICE = """
ending.at_begin(lambda: say("begins", ending.phase().value))
"""


def test_notice(tmp_path: Path) -> None:
    with app(tmp_path, "--notice", "500ms", more=NOTICE) as child, child.connect() as client:
        assert asked(client, "/readyz") == (200, None)
        child.signal()
        assert child.line() == "begins notice"
        assert asked(client, "/readyz") == (503, None)
        assert asked(client, "/healthz") == (200, None)
        with child.connect() as new:
            assert asked(new) == (200, None)
        with Peer(check(tcp.connect(f"127.0.0.1:{child.port}"))) as peer:
            peer.send(peer.upgrade_request())
            assert peer.response().status == 101
            assert peer.get_close() == (1001, ""), "when the notice is over"
        client.eof()
        assert child.wait() == 0
        assert "the process goes on for 0.5 s of notice, then it drains and ends" in child.said()


def test_a_second_signal_within_the_notice_ends_at_once(tmp_path: Path) -> None:
    with app(tmp_path, "--notice", "1h", more=NOTICE) as child:
        child.signal()
        assert child.line() == "begins notice"
        child.signal()
        assert child.wait() == -signal.SIGTERM


@pytest.mark.parametrize("how", ["silly.exit(7)", "sys.exit(7)"])
def test_exit_within_the_notice_begins_to_drain(tmp_path: Path, how: str) -> None:
    more = f"{NOTICE}router.get('/exit', lambda stream: (stream.answer(200), {how}))\n"
    with app(tmp_path, "--notice", "1h", more=more) as child, child.connect() as client:
        child.signal()
        assert child.line() == "begins notice"
        client.request("/exit")
        assert client.response().status == 200
        assert child.wait() == 7


def test_without_a_listener_there_is_no_notice(tmp_path: Path) -> None:
    with app(tmp_path, "--notice", "1h", more=f"{NOTICE}server.close()\ntask.fork(time.sleep, 10 ** 8)\n") as child:
        child.signal()
        assert child.line() != "begins notice"
        assert child.wait() == 0


def test_a_notice_ends_when_nothing_is_left_to_wait_for(tmp_path: Path) -> None:
    """The program has closed its server meanwhile, and has a task that waits for ever. The end was asked for."""
    more = "task.fork(task.wait)\nending.at_begin(server.close)\n"
    with app(tmp_path, "--notice", "1h", more=more) as child:
        child.signal()
        assert child.wait() == 0, child.errors()
        assert "ERROR" not in child.errors()


def test_at_begin(tmp_path: Path) -> None:
    """Each is called once, whatever the others do; what comes late is called soon."""
    more = """
def begins():
    say("begins")
    ending.at_begin(lambda: say("late"))
def raises():
    raise ValueError("first")
ending.at_begin(raises)
ending.at_begin(begins)
task.fork(lambda: (time.sleep(1), silly.exit(3)))
"""
    with app(tmp_path, more=more) as child:
        assert [child.line(), child.line()] == ["begins", "late"]
        assert child.wait() == 3
        assert child.errors().count("ValueError: first") == 1


def test_spread(tmp_path: Path) -> None:
    """Handlers that nothing can wake are ended when all WebSockets are closed, not before."""
    with app(tmp_path, "--drain", "1h", "--spread", "300ms") as child, ExitStack() as stack:
        peers = [Peer(check(tcp.connect(f"127.0.0.1:{child.port}"))) for _ in range(20)]
        for peer in peers:
            stack.enter_context(peer)
            peer.send(peer.upgrade_request())
            assert peer.response().status == 101
        begin = monotonic()
        child.signal()
        for peer in peers:
            assert peer.get_close() == (1001, "")
            peer.close()  # nobody reads, so nothing else can happen
        assert monotonic() - begin > 0.1, "all 20 within a third of the time: that does not happen by chance"
        assert child.wait() == 0
        assert re.search(r"INFO http: \S+ drains: 20 WebSockets left", child.said())


# ---- by force -------------------------------------------------------------------------------------------------------

SHORT = "ending.FINALLY = 0.2\n"


@pytest.mark.parametrize("when", ["before the signal", "in the notice"])
def test_a_held_loop_is_ended_by_force_after_all_of_the_time(tmp_path: Path, when: str) -> None:
    with app(tmp_path, "--notice", "200", "--drain", "100", more=SHORT + NOTICE) as child, child.connect() as client:
        begin = monotonic()
        if when == "in the notice":
            child.signal()
            assert child.line() == "begins notice"
        client.request("/hold")
        assert child.line() == "holds"
        if when == "before the signal":
            begin = monotonic()
            child.signal()
        assert child.wait() == 128 + signal.SIGTERM
        assert monotonic() - begin >= 0.5
        assert "SIGTERM: the end took more than 0.5 s, and is forced with status 143" in child.errors()


def test_a_held_loop_after_a_notice_that_was_cut_short(tmp_path: Path) -> None:
    """The guard knows that less time is left."""
    more = f"{SHORT}{NOTICE}router.get('/exit', lambda stream: (task.fork(later), task.pause()))\n"
    more += "def later():\n    time.sleep(1)\n    ending.begin_exit(3)\n    hold()\n"
    with app(tmp_path, "--notice", "1h", "--drain", "100", more=more) as child, child.connect() as client:
        child.signal()
        assert child.line() == "begins notice"
        client.request("/exit")
        assert child.line() == "holds"
        assert child.wait() == 128 + signal.SIGTERM
        assert "SIGTERM: the end took more than 0.3 s, and is forced with status 143" in child.errors()


STUCK = """
def stuck(stream):
    say("stuck")
    while True:
        try:
            task.wait()
        except BaseException:
            pass
router.get("/stuck", stuck)
conn = silly.check(silly.net.tcp.connect(server.addr))  # its handler can be woken
task.fork(lambda: conn.read(1))
"""


def test_a_stuck_handler_has_its_time_and_is_cut_off(tmp_path: Path) -> None:
    with app(tmp_path, "--drain", "100", more=SHORT + STUCK) as child, child.connect() as client:
        client.request("/stuck")
        assert child.line() == "stuck"
        child.signal()
        assert child.wait() == 128 + signal.SIGTERM
        assert "did not end within 0.3 s of the process's end" in child.errors()


def test_many_stuck_handlers_do_not_flood_the_log(tmp_path: Path) -> None:
    with app(tmp_path, "--drain", "100", more=SHORT + STUCK) as child, ExitStack() as stack:
        for client in [stack.enter_context(child.connect()) for _ in range(30)]:
            client.request("/stuck")
            assert child.line() == "stuck"
        child.signal()
        assert child.wait() == 128 + signal.SIGTERM
        lines = child.said()
        assert lines.count("WARNING <task") == ending.SHOWN
        assert "more tasks did not end within 0.3 s" in lines
        assert re.search(r"http: \S+ drained for \d\.\d s: 3[01] connections cut off", lines), lines


def test_a_handler_that_goes_on_is_ended_after_the_time_with_status_0(tmp_path: Path) -> None:
    with app(tmp_path, "--drain", "100ms", more="task.fork(lambda: time.sleep(10**8))\n") as child, child.connect() as client:
        client.request("/wait")
        assert child.line() == "waits"
        child.signal()
        with pytest.raises(AssertionError):
            client.response()
        assert child.wait() == 0
        assert re.search(r"INFO http: \S+ drained for \d\.\d s: 1 connection cut off", child.said())


def test_the_work_of_cutting_off_grows_with_the_connections(tmp_path: Path) -> None:
    """And not with their square: with 8000 of them the end was forced."""
    more = """
from silly.net.http._connection import Connection
looks = 0
busy = Connection.busy.fget
def look(connection):
    global looks
    looks += 1
    return busy(connection)
Connection.busy = property(look)
import atexit
atexit.register(lambda: say(looks))
"""
    with app(tmp_path, more=more) as child, ExitStack() as stack:
        for client in [stack.enter_context(child.connect()) for _ in range(50)]:
            client.request("/wait")
            assert child.line() == "waits"
        child.signal()
        assert int(child.line()) < 5 * 50
        assert child.wait() == 0
        assert "50 connections cut off" in child.said()
