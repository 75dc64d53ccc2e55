"""What two adversarial reviews found, across the drivers: each test fails without its fix."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import check, errno, task, time
from silly._core import scheduler
from silly.net import _dial, _output, tcp, websocket
from silly.sync import channel

from ..children import Child, in_thread
from ..conftest import Logs
from ..helpers import Raw, ahead_of_reader, client_side, joined, raw_server, serving, spawn, turn
from .support import reset_on_close, until


def hello(stream: Any) -> None:
    stream.respond(200)
    stream.close("hello")


# ---- http ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["handler", "server"])
def test_a_response_survives_requests_that_come_after_the_last(who: str) -> None:
    """RFC 9112, section 9.6: to close at once would answer them with a reset, which destroys the response on its way."""
    size = 4_000_000

    def handler(stream: Any) -> None:
        if who == "server":
            server.close()
        stream.respond(200, {"connection": "close"} if who == "handler" else {})
        stream.close(b"x" * size)

    def slow_reader() -> tuple[int, str]:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
            got = len(client.recv(100))
            for _ in range(20):
                client.sendall(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
                got += len(client.recv(100_000))
            while data := client.recv(65536):
                got += len(data)
            return got, "end"

    with serving(handler) as server:
        got, end = in_thread(slow_reader)
    assert got > size
    assert end == "end"


def test_an_unread_body_that_trickles_holds_its_connection_for_a_bounded_time(logs: Logs) -> None:
    logs.expect("the request's body")
    with serving(hello, limits=silly.Limits(body_timeout=200)) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 60000")
        assert client.response().body == b"hello"
        begin = time.monotonic()
        while client.conn.isalive():
            client.conn.write("x")
            time.sleep(20)
        assert time.monotonic() - begin < 10_000
    until(lambda: not server._connections)


def test_server_close_ends_a_connection_that_drops_a_body(logs: Logs) -> None:
    logs.allow("the request's body")
    with serving(hello) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 60000")
        assert client.response().body == b"hello"
        (connection,) = server._connections
        until(lambda: connection.skipping)
        server.close()
        until(lambda: not server._connections)


def test_a_task_left_behind_that_reads_the_body(logs: Logs) -> None:
    logs.allow("the request's body")
    results = channel.new()

    def handler(stream: Any) -> None:
        task.fork(lambda: results.push(stream.read(5)))
        time.sleep(0)
        hello(stream)

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 5")
        assert client.response().body == b"hello"
        client.eof()
        data, err = results.pop()[0]
    assert data is None
    assert err


def test_connect_is_refused(logs: Logs) -> None:
    logs.expect("INFO http: 127.0.0.1:\\d+: CONNECT is not supported")
    with serving(hello) as server, Raw.connect(server) as client:
        client.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().status == 501
        client.eof()


def test_respond_with_no_header() -> None:
    def handler(stream: Any) -> None:
        assert stream.respond(204, None)

    with serving(handler) as server, Raw.connect(server) as client:
        client.request()
        assert client.response().status == 204


# ---- websocket ----------------------------------------------------------------------------------------------------


def test_a_host_named_unix_is_no_socket_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = channel.new()
    with check(tcp.listen("unix:8080", asked.push)):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: (_ for _ in ()).throw(socket.gaierror(1, "no")))
        sock, err = websocket.connect("ws://unix:8080/admin")
        assert sock is None
        assert errno.RESOLVE in err
        assert len(asked) == 0


def test_a_wildcard_is_no_host() -> None:
    assert websocket.connect("ws://*:80/")[1] == "websocket.connect 'ws://*:80/': bad host: a wildcard"


def test_close_written_by_hand_is_answered_in_time_or_not_at_all() -> None:
    with client_side({"close_timeout": 50}) as (sock, _):
        assert sock.write(b"\x03\xe8", "close")
        data, err = sock.read()
        assert data is None
        assert "close_timeout" in err
        assert sock.read() == (None, err)
        assert sock.closecode == 1006


def test_interim_responses_before_the_101() -> None:
    from ..helpers import switching

    def script(conn: Any) -> None:
        head, _ = conn.read("\r\n\r\n")
        conn.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + switching(head.decode()))
        conn.read(8)
        conn.close()

    with raw_server(script) as listener:
        sock = check(websocket.connect(f"ws://127.0.0.1:{listener.port}/", limits=silly.Limits(close_timeout=500)))
        assert sock.stream.status == 101
        sock.close()


@pytest.mark.parametrize("reason", ["bye", b"bye", bytearray(b"bye"), None])
def test_reasons_of_every_kind(reason: Any) -> None:
    codes = channel.new()

    def handler(stream: Any) -> None:
        sock, _ = websocket.upgrade(stream)
        assert sock.read()[1] == "close"
        codes.push((sock.closecode, sock.closereason))

    with serving(handler) as server:
        sock = check(websocket.connect(f"ws://{server.addr}/"))
        assert sock.close(None if reason is None else 4000, reason)
        assert codes.pop()[0] == ((1000, "") if reason is None else (4000, "bye"))
        with pytest.raises(ValueError, match="UTF-8"):
            sock.close(1000, b"\xff")
        with pytest.raises(TypeError):
            sock.close(1000, 5)  # type: ignore[arg-type]


# ---- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_an_early_answer_outlives_a_failed_write(kind: str, tmp_path: Path) -> None:
    """A server that answers an upload and closes: the write fails, the answer can be read."""
    addr = "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"
    closed = channel.new()

    def accept(conn: tcp.Conn) -> None:
        conn.limit(1)
        conn.write("ERR busy\n")
        conn.read(1)
        conn._stream.flush()
        conn._stream.abort()
        closed.push(1)

    with check(tcp.listen(addr, accept)) as listener:
        conn = check(tcp.connect(listener.addr))
        # Not read by the loop, so that the kernel holds it when the write fails.
        conn._stream._paused = True
        conn._stream._interest()
        conn.write("x")
        closed.pop()
        errors = []
        while not errors:
            ok, err = conn.write("more")
            if not ok:
                errors.append(err)
        assert conn.read("\n") == (b"ERR busy\n", None)
        assert conn.read(1)[0] is None
        assert not conn.isalive()
        conn.close()


def test_a_reset_that_gathered_output_meets_is_told_as_one() -> None:
    peers = channel.new()
    with check(tcp.listen("127.0.0.1:0", peers.push)) as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as client:
            conn, _ = peers.pop()
            conn._stream._paused = True
            conn._stream._interest()
            reset_on_close(client)

        def write() -> object:
            conn.write("x")
            until(lambda: not conn._stream._dirty)
            return conn.write("y")

        assert joined(spawn(write)) == (False, errno.CONNRESET)
        conn.close()


def test_a_writer_whose_peer_keeps_up_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = 0

    def count() -> None:
        nonlocal ticks
        while writing:
            ticks += 1
            time.sleep(0)

    def sink(conn: tcp.Conn) -> None:
        while conn.read(65536)[0] is not None:
            pass

    writing = True
    with check(tcp.listen("127.0.0.1:0", sink)) as listener:
        conn = check(tcp.connect(listener.addr))
        # A kernel that takes everything at once.
        monkeypatch.setattr(_output, "send", lambda fd, data: len(data))
        task.fork(count)

        def write() -> None:
            for _ in range(20_000):
                conn.write(b"x" * 1000)

        joined(spawn(write))
        writing = False
        assert ticks >= 15
        monkeypatch.undo()
        conn.close()
        turn()


def test_a_look_up_that_was_given_up_delays_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def never(*args: Any) -> Any:
        release.wait(30)
        return []

    monkeypatch.setattr(_dial.socket, "getaddrinfo", never)
    try:
        assert tcp.connect("name.test:80", timeout=20) == (None, errno.TIMEDOUT)
        assert scheduler.loop.work == 0
        silly.run(lambda: None)
    finally:
        release.set()


def test_bytes_that_another_task_took_are_no_short_read() -> None:
    """The reader is woken, and before its turn another task takes the bytes: a program error, told as one."""
    sent = channel.new()
    with check(tcp.listen("127.0.0.1:0", sent.push)) as listener:
        conn = check(tcp.connect(listener.addr))
        peer, _ = sent.pop()
        outcome: list[object] = []

        def first() -> None:
            try:
                outcome.append(conn.read(4))
            except RuntimeError as exc:
                outcome.append(str(exc))

        task.fork(first)
        until(lambda: conn._stream._reader is not None)
        peer.write("abcd")
        stolen = ahead_of_reader(conn, lambda: conn.read(4))
        assert joined(stolen) == (b"abcd", None)
        until(lambda: outcome)
        assert "another task has read" in str(outcome[0])
        peer.close()
        conn.close()


# ---- the process --------------------------------------------------------------------------------------------------


def test_the_finally_blocks_of_who_exits_may_block(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import silly\nfrom silly import time, task\n"
        "def main():\n    try:\n        silly.exit(4)\n"
        "    finally:\n        time.sleep(0)\n        print('cleaned up', flush=True)\n"
        "task.fork(main)\n"
    )
    with Child("-m", "silly", str(script)) as child:
        assert child.line() == "cleaned up"
        assert child.wait() == 4


def test_a_plain_script_delivers_what_it_closed(tmp_path: Path) -> None:
    """8 MB to a peer that reads slowly; the script ends at once after close()."""
    script = tmp_path / "app.py"
    script.write_text(
        "import sys\nimport silly\nfrom silly.net import tcp\n"
        "conn = silly.check(tcp.connect(sys.argv[1]))\n"
        "for _ in range(8):\n    conn.write(b'x' * 1_000_000)\n"
        "print(conn.unsentbytes() > 0, conn.close(), flush=True)\n"
    )
    got = channel.new()

    def slow(conn: tcp.Conn) -> None:
        size = 0
        while True:
            data, err = conn.read(100_000)
            if data is None:
                break
            size += len(data)
            time.sleep(1)
        got.push((size + conn.unreadbytes(), err))

    with check(tcp.listen("127.0.0.1:0", slow)) as listener, Child(str(script), listener.addr) as child:
        assert child.line().endswith("Result(True, None)")
        assert got.pop()[0] == (8_000_000, errno.EOF)
        assert child.wait() == 0


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_sockets_alone(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import os, sys\nimport silly\nfrom silly.net import tcp\n"
        "def serve(conn):\n    conn.write('served')\n    conn.close()\n"
        "listener = silly.check(tcp.listen(sys.argv[1], serve))\n"
        "def main():\n"
        "    if os.fork() == 0:\n"
        "        try:\n            tcp.connect(sys.argv[1])\n"
        "        except RuntimeError as exc:\n            print(exc, flush=True)\n"
        "        sys.exit(0)\n"
        "    os.wait()\n    print('ready', flush=True)\n"
        "main()\nsilly.run()\n"
    )
    addr = f"unix:{tmp_path}/socket"
    with Child(str(script), addr, env={"PYTHONWARNINGS": "ignore"}) as child:
        assert "in a child of os.fork()" in child.line()
        assert child.line() == "ready"
        conn = check(tcp.connect(addr))
        assert conn.read(6) == (b"served", None)
        conn.close()
        assert child.stop() == 0


def test_a_forked_child_can_be_terminated(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import os, time\nimport silly\nfrom silly import task\n"
        "def main():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n        print(os.getpid(), flush=True)\n        time.sleep(60)\n        os._exit(0)\n"
        "    _, status = os.waitpid(pid, 0)\n"
        "    print('child:', os.waitstatus_to_exitcode(status), flush=True)\n"
        "silly.run(main)\n"
    )
    with Child(str(script), env={"PYTHONWARNINGS": "ignore"}) as child:
        os.kill(int(child.line()), signal.SIGTERM)
        assert child.line() == f"child: {-signal.SIGTERM}"
        assert child.wait() == 0

