"""``silly.net.tcp``: listening, accepting and connecting. What connections do is in ``test_stream``."""

from __future__ import annotations

import gc
import os
import resource
import select
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import check, errno, task, time
from silly._core import scheduler
from silly.net import _binding, _listener, _output, tcp, tls
from silly.sync import channel

from ..helpers import ahead_of_reader, joined, spawn, turn
from . import authorities
from .http_support import certs
from .support import Job, has_ipv6, never_answers, reset_on_close, turns, until

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="THIS MACHINE HAS NO IPv6 LOOPBACK: listening on IPv6 is not tested")


def echo(conn: Any) -> None:
    while True:
        line, _ = conn.read("\n")
        if line is None:
            break
        conn.write(line)
    conn.close()


def check_echo(addr: str, **options: Any) -> None:
    """Connects, and has a line echoed."""
    conn = silly.check(tcp.connect(addr, **options))
    with conn:
        assert conn.write("hello\n")
        assert conn.read("\n", 10_000) == (b"hello\n", None)


def listen(addr: str = "127.0.0.1:0", accept: Callable[[Any], object] = echo, **options: Any) -> Any:
    return silly.check(tcp.listen(addr, accept, **options))


# ---- addresses --------------------------------------------------------------------------------------------------------


def test_listen_ipv4() -> None:
    with listen("127.0.0.1:0") as listener:
        assert listener.port > 0
        assert listener.addr == f"127.0.0.1:{listener.port}"
        check_echo(listener.addr)
        assert listener.addr in repr(listener)


@needs_ipv6
def test_listen_ipv6() -> None:
    with listen("[::1]:0") as listener:
        assert listener.addr == f"[::1]:{listener.port}"
        check_echo(listener.addr)
        assert tcp.connect(f"127.0.0.1:{listener.port}") == (None, errno.CONNREFUSED)


@needs_ipv6
def test_listen_everywhere() -> None:
    """Both families reach it, and an IPv4 peer is shown as one."""
    accepted = channel.new()
    with listen(":0", lambda conn: accepted.push(conn.remoteaddr)) as listener:
        assert listener.addr == f"[::]:{listener.port}"
        for addr, host in (("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]")):
            conn = silly.check(tcp.connect(f"{addr}:{listener.port}"))
            local = conn._stream.sock.getsockname()
            assert accepted.pop() == (f"{host}:{local[1]}", None)
            conn.close()


def test_listen_everywhere_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = _binding.bind_inet

    def no_ipv6(family: Any, *args: Any, **kwargs: Any) -> Any:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return bind(family, *args, **kwargs)

    monkeypatch.setattr(_binding, "bind_inet", no_ipv6)
    with listen(":0") as listener:
        assert listener.addr == f"0.0.0.0:{listener.port}"
        check_echo(f"127.0.0.1:{listener.port}")


def test_listen_by_name_and_connect_without_host() -> None:
    with listen("localhost:0") as listener:
        check_echo(f"localhost:{listener.port}")
        check_echo(f":{listener.port}")


def test_forms() -> None:
    """A configuration may be a dict, in place of the keywords."""
    listener, err = tcp.listen({"addr": "127.0.0.1:0", "accept": echo, "backlog": 5})
    assert err is None
    with listener:
        conn, err = tcp.connect(listener.addr, {"timeout": 10_000, "bind": "127.0.0.1"})
        assert err is None
        conn.write("hello\n")
        assert conn.read("\n") == (b"hello\n", None)
        conn.close()
        check_echo(listener.addr, timeout=10_000)
    with pytest.raises(TypeError):
        tcp.listen({"addr": "127.0.0.1:0", "accept": echo, "backlock": 5})
    with pytest.raises(TypeError):
        tcp.connect("127.0.0.1:1", {"time": 1})


@pytest.mark.parametrize(
    "addr", ["", "127.0.0.1", "localhost", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:", "::1:80", "[::1]",
             "[::1:80", "127.0.0.1:8٠", "http://127.0.0.1:80", "/run/web.sock", " 127.0.0.1:80", "a\0b:80", "[a:b]:80", "unix:",
             "unix:/tmp/a\0b"]
)  # fmt: skip
def test_bad_addresses(addr: str) -> None:
    """The error shows the forms of an address, since ``http://127.0.0.1:80`` does have a port."""
    with pytest.raises(ValueError, match=r"tcp\.listen: .*('unix:/path'|bad host)"):
        tcp.listen(addr, echo)
    with pytest.raises(ValueError, match=r"tcp\.connect: .*('unix:/path'|bad host)"):
        tcp.connect(addr)


@pytest.mark.parametrize("addr", [None, 80, b"127.0.0.1:80", ("127.0.0.1", 80)])
def test_addresses_of_another_type(addr: Any) -> None:
    with pytest.raises(TypeError, match=r"tcp\.listen needs an address such as"):
        tcp.listen(addr, echo)
    with pytest.raises(TypeError, match=r"tcp\.connect needs an address such as"):
        tcp.connect(addr)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"tcp\.listen needs accept"):
        tcp.listen("127.0.0.1:0")
    for timeout in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"tcp\.connect: a time-out"):
            tcp.connect("127.0.0.1:1", timeout=timeout)
    for bind in ("localhost", "", ":80", "127.0.0.1:x", "127.0.0.1:65536", "a b"):
        with pytest.raises(ValueError, match=r"tcp\.connect: "):
            tcp.connect("127.0.0.1:1", bind=bind)
    with pytest.raises(TypeError, match=r"tcp\.connect: bind"):
        tcp.connect("127.0.0.1:1", bind=80)  # type: ignore[arg-type]


# ---- failures of listen -----------------------------------------------------------------------------------------------


def test_address_in_use(logs: Any) -> None:
    with listen() as listener:
        logs.expect(r"ERROR tcp\.listen 127\.0\.0\.1:\d+: Address already in use")
        assert tcp.listen(listener.addr, echo) == (None, errno.ADDRINUSE)
        assert len(logs.lines) == 1
        check_echo(listener.addr)
    # Closed: at once free again, though a connection was made.
    with listen(listener.addr) as again:
        assert again.addr == listener.addr


def test_listen_on_an_address_of_another_machine(logs: Any) -> None:
    logs.expect(r"ERROR tcp\.listen 192\.0\.2\.77:0: Cannot assign requested address")
    assert tcp.listen("192.0.2.77:0", echo) == (None, errno.ADDRNOTAVAIL)


@pytest.mark.parametrize("name", ["nowhere.invalid", "a..b", "x" * 64])
def test_listen_on_a_name_that_has_no_address(logs: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "nowhere.invalid":  # no test asks a name server
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    logs.expect(rf"ERROR tcp\.listen {name}:80: Address resolution failed")
    assert tcp.listen(f"{name}:80", echo) == (None, errno.RESOLVE)
    assert len(logs.lines) == 1


# ---- Unix domain sockets ----------------------------------------------------------------------------------------------


def test_unix(tmp_path: Path) -> None:
    path = tmp_path / "s"
    accepted = channel.new()

    def accept(conn: Any) -> None:
        accepted.push(conn.remoteaddr)
        echo(conn)

    with listen(f"unix:{path}", accept) as listener:
        assert listener.addr == f"unix:{path}"
        assert listener.port == 0
        check_echo(listener.addr)
        assert accepted.pop() == (listener.addr, None)
        assert path.is_socket()
    assert not path.exists()
    assert tcp.connect(f"unix:{path}") == (None, silly.errno.from_oserror(FileNotFoundError(2, "")))


def test_unix_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    assert tcp.connect(f"unix:{path}") == (None, errno.CONNREFUSED)
    with listen(f"unix:{path}") as listener:
        check_echo(listener.addr)


def test_unix_live_file_is_kept(tmp_path: Path, logs: Any) -> None:
    logs.expect(r"ERROR tcp\.listen unix:.*: Address already in use")
    with listen(f"unix:{tmp_path}/s") as listener:
        assert tcp.listen(listener.addr, echo) == (None, errno.ADDRINUSE)
        check_echo(listener.addr)


def test_unix_file_that_is_not_a_socket_is_kept(tmp_path: Path, logs: Any) -> None:
    logs.expect(r"ERROR tcp\.listen unix:.*: Address already in use")
    path = tmp_path / "precious"
    path.write_text("data")
    assert tcp.listen(f"unix:{path}", echo) == (None, errno.ADDRINUSE)
    assert path.read_text() == "data"


def test_unix_file_of_another_is_not_unlinked(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = listen(f"unix:{path}")
    path.unlink()
    with listen(f"unix:{path}") as second:
        first.close()
        assert path.is_socket()
        check_echo(second.addr)
    gone = listen(f"unix:{path}")
    path.unlink()
    assert gone.close() == (True, None)


def test_unix_failures(tmp_path: Path, logs: Any) -> None:
    logs.expect(r"ERROR tcp\.listen unix:.*/none/s: No such file or directory")
    logs.expect(r"ERROR tcp\.listen unix:.*x…?: AF_UNIX path too long")
    assert not tcp.listen(f"unix:{tmp_path}/none/s", echo)[0]
    assert not tcp.listen(f"unix:{tmp_path}/{'x' * 200}", echo)[0]
    assert not tcp.connect(f"unix:{tmp_path}/{'x' * 200}")[0]


# ---- accepting --------------------------------------------------------------------------------------------------------


def test_exception_in_accept(logs: Any) -> None:
    """It is logged, and ends that connection alone."""
    logs.expect(r"(?s)ERROR exception in <task .*accept.*ZeroDivisionError")

    def accept(conn: Any) -> None:
        if conn.read("\n") != (b"fine\n", None):
            1 / 0
        conn.write("fine")

    with listen("127.0.0.1:0", accept) as listener:
        good, bad = (silly.check(tcp.connect(listener.addr)) for _ in range(2))
        bad.write("bad\n")
        assert bad.read(1) == (None, errno.EOF)
        good.write("fine\n")
        assert good.read(4) == (b"fine", None)
        assert good.read(1) == (None, errno.EOF)  # forgotten when accept returned
        good.close()
        bad.close()
    assert len(logs.lines) == 1


def test_accept_that_hands_the_connection_on() -> None:
    """A connection stays open after ``accept`` returns if something refers to it."""
    accepted = channel.new()
    with listen("127.0.0.1:0", accepted.push) as listener:
        conn = silly.check(tcp.connect(listener.addr))
        held, _ = accepted.pop()
        until(lambda: not scheduler.tasks)  # accept has returned
        gc.collect()
        serving = Job(lambda: echo(held))
        conn.write("hello\n")
        assert conn.read("\n") == (b"hello\n", None)
        conn.close()
        serving.result()


def test_connections_outlive_the_listener() -> None:
    accepted = channel.new()
    listener = listen("127.0.0.1:0", accepted.push)
    conn = silly.check(tcp.connect(listener.addr))
    peer, _ = accepted.pop()
    assert listener.close() == (True, None)
    assert listener.close() == (False, errno.CLOSED)
    assert "closed" in repr(listener)
    assert tcp.connect(listener.addr) == (None, errno.CONNREFUSED)
    conn.write("x")
    assert peer.read(1) == (b"x", None)
    conn.close()
    peer.close()


def test_listener_closed_by_its_accept() -> None:
    """In the middle of a burst of connections: the rest of it is not accepted."""
    count = 0

    def accept(conn: Any) -> None:
        nonlocal count
        count += 1
        listener.close()

    listener = listen("127.0.0.1:0", accept)
    with ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
        until(lambda: count)
        turns()
        assert listener.close() == (False, errno.CLOSED)
        assert 1 <= count <= 5


def test_backlog() -> None:
    """``backlog`` reaches the kernel: with one of 0, one connection waits and no more get in."""
    with listen(backlog=0) as listener, socket.socket() as first, socket.socket() as second:
        first.connect(("127.0.0.1", listener.port))
        select.select(listener._bound.socks, [], [])  # the first is in the queue
        second.setblocking(False)
        second.connect_ex(("127.0.0.1", listener.port))  # the loop has not turned since: nothing was accepted
        state = second.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        assert state == 2  # SYN_SENT


def test_accepts_more_than_one_event_takes() -> None:
    count = 3 * _listener.ACCEPTS + 1
    read: list[Any] = []
    with listen("127.0.0.1:0", lambda conn: read.append(conn.read(1))) as listener, ExitStack() as clients:
        for _ in range(count):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
            client.sendall(b"x")
        until(lambda: len(read) == count)
    assert read == [(b"x", None)] * count


def test_no_descriptors_left(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepting pauses, says so once, and goes on when there are descriptors again."""
    monkeypatch.setattr(_listener, "PAUSE", 0.02)
    logs.expect(r"ERROR listener 127\.0\.0\.1:\d+: Too many open files: accepting pauses")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listen() as listener, socket.create_connection(("127.0.0.1", listener.port)) as client:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        taken = [os.dup(0) for _ in range(highest)]  # no gap below the limit is left
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
            turns()
            before = scheduler.loop.turns
            time.sleep(100)
            assert scheduler.loop.turns - before < 30  # a few pauses; a spinning loop takes thousands
            assert len(logs.lines) == 1
            assert not scheduler.tasks
            assert tcp.connect(listener.addr) == (None, errno.MFILE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
        client.setblocking(False)
        until(lambda: scheduler.tasks)
        check_echo(listener.addr)
    until(lambda: not scheduler.tasks)
    assert len(logs.lines) == 1


def test_closed_while_it_pauses(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_listener, "PAUSE", 0.02)
    logs.expect("accepting pauses")
    listener = listen()
    listener._pause(OSError(24, "Too many open files"))
    assert listener.close() == (True, None)
    until(lambda: len(scheduler.loop.timers) == 0)
    assert tcp.connect(listener.addr) == (None, errno.CONNREFUSED)


# ---- connecting -------------------------------------------------------------------------------------------------------


def free_port() -> Any:
    """A socket whose port is taken, and refuses connections."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def test_connection_refused() -> None:
    with free_port() as sock:
        for timeout in (None, 10_000):
            assert tcp.connect(f"127.0.0.1:{sock.getsockname()[1]}", timeout=timeout) == (None, errno.CONNREFUSED)


def test_connect_timeout_and_cancel() -> None:
    with never_answers() as (host, port):
        addr = f"{host}:{port}"
        before = scheduler.loop.registered()
        assert tcp.connect(addr, timeout=20) == (None, errno.TIMEDOUT)
        assert tcp.connect(addr, timeout=0) == (None, errno.TIMEDOUT)
        assert scheduler.loop.registered() == before
        connecting = Job(lambda: tcp.connect(addr)).blocked()
        assert addr in connecting.task.waiting()
        assert scheduler.loop.registered() == before + 1
        connecting.kill()
        assert scheduler.loop.registered() == before


def test_connect_bind() -> None:
    accepted = channel.new()

    def accept(conn: Any) -> None:
        accepted.push(conn.remoteaddr)

    with listen("127.0.0.1:0", accept) as listener, free_port() as sock:
        conn = silly.check(tcp.connect(listener.addr, bind="127.0.0.2"))
        assert accepted.pop()[0].startswith("127.0.0.2:")
        conn.close()
        port = sock.getsockname()[1]
        assert tcp.connect(listener.addr, bind=f"127.0.0.1:{port}") == (None, errno.ADDRINUSE)
        sock.close()
        conn = silly.check(tcp.connect(listener.addr, bind=f"127.0.0.1:{port}"))
        assert accepted.pop() == (f"127.0.0.1:{port}", None)
        conn.close()
        assert tcp.connect(listener.addr, bind="192.0.2.77") == (None, errno.ADDRNOTAVAIL)


@needs_ipv6
def test_connect_bind_to_another_family() -> None:
    with listen("[::1]:0") as listener:
        for bind in ("::1", "[::1]", "[::1]:0"):
            check_echo(listener.addr, bind=bind)
        assert tcp.connect(listener.addr, bind="127.0.0.1") == (None, errno.AFNOSUPPORT)
        assert tcp.connect(f"127.0.0.1:{listener.port}", bind="::1") == (None, errno.AFNOSUPPORT)
    with listen("127.0.0.1:0") as listener:
        check_echo(f"localhost:{listener.port}", bind="127.0.0.1")


def test_another_thread() -> None:
    raised = []

    def call() -> None:
        for func in (lambda: tcp.listen("127.0.0.1:0", echo), lambda: tcp.connect("127.0.0.1:1"), listener.close):
            try:
                func()
            except RuntimeError as exc:
                raised.append(str(exc))

    with listen() as listener:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        assert len(raised) == 3
        check_echo(listener.addr)


# ---- many -------------------------------------------------------------------------------------------------------------


def test_ten_thousand_connections_leave_nothing() -> None:
    """The fixture compares tasks, timers, descriptors and files with what there was."""
    done = channel.new()

    def client() -> None:
        for _ in range(1000):
            check_echo(listener.addr, timeout=20_000)
        done.push(True)

    with listen() as listener:
        before = scheduler.loop.registered(), len(scheduler.loop.handlers)
        for _ in range(10):
            task.fork(client)
        assert [done.pop()[0] for _ in range(10)] == [True] * 10
        until(lambda: not scheduler.tasks)
        until(lambda: (scheduler.loop.registered(), len(scheduler.loop.handlers)) == before)
        assert len(scheduler.loop.timers) == 0


def test_a_thousand_aborted_connections_leave_nothing() -> None:
    """Reset before they are accepted, while they are served, and in the middle of an answer."""

    def accept(conn: Any) -> None:
        conn.read(1)
        conn.write(b"x" * 500_000)
        conn.close()

    with listen("127.0.0.1:0", accept) as listener:
        before = scheduler.loop.registered(), len(scheduler.loop.handlers)
        for i in range(1000):
            with socket.create_connection(("127.0.0.1", listener.port)) as client:
                reset_on_close(client)
                if i % 4:
                    turns(i % 4)
                if i % 3:
                    client.sendall(b"x" * (i % 3))
                    turns(i % 5)
        until(lambda: not scheduler.tasks)
        until(lambda: (scheduler.loop.registered(), len(scheduler.loop.handlers)) == before)
        assert scheduler.loop.work == 0
        check_one = silly.check(tcp.connect(listener.addr))
        check_one.write("x")
        assert len(check_one.read(500_000)[0]) == 500_000
        check_one.close()


# ---- what ``test_stream`` doesn't look at ---------------------------------------------------------------------------


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


def test_a_reset_met_by_gathered_output_is_reported_as_a_reset() -> None:
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


def test_bytes_taken_by_another_task_do_not_shorten_a_read() -> None:
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


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_the_limit_of_a_delimited_read(transport: str, logs: Any) -> None:
    """For the connections of a listener, and for one that we make; each has its own."""
    logs.expect(f"INFO {transport}: .*: no delimiter within the limit 'delimited' of 10 bytes")
    logs.expect(f"INFO {transport}: .*: no delimiter within the limit 'delimited' of {2**21} bytes")
    listening: dict[str, Any] = {} if transport == "tcp" else {"certs": certs()}
    connecting: dict[str, Any] = {} if transport == "tcp" else {"ca": authorities.root().pem}
    module = tcp if transport == "tcp" else tls
    accepted = channel.new()
    with check(
        module.listen(addr="127.0.0.1:0", accept=accepted.push, limits=silly.Limits(delimited=10), **listening)
    ) as listener:
        ours = check(module.connect(listener.addr, limits=silly.Limits(delimited=2**21), **connecting))
        theirs, _ = accepted.pop()
        for conn, peer, most in ((theirs, ours, 10), (ours, theirs, 2**21)):
            line = b"x" * (most - 1) + b"\n"
            sending = spawn(lambda peer=peer, line=line: peer.write(line + b"x" + line))
            assert conn.read("\n", 10_000) == (line, None)
            assert conn.read("\n", 10_000) == (None, errno.MSGSIZE)
            assert conn.read(most + 1, 10_000) == (b"x" + line, None)
            assert joined(sending)
        ours.close()
        theirs.close()
