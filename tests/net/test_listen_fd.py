"""``listen("fd:3")``: a listening socket that the process has inherited."""

from __future__ import annotations

import gc
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from silly import check, errno
from silly._core import scheduler
from silly.net import _listener, http, tcp, tls, websocket
from silly.sync import channel

from ..children import Child, in_thread
from . import authorities
from .support import has_ipv6
from .tls_support import python_client, python_context

WITHIN = 10_000


def greet(conn: Any) -> None:
    with conn:
        conn.write(f"hello {conn.remoteaddr}\n")


def check_greeted(addr: str) -> None:
    with check(tcp.connect(addr)) as conn:
        line, err = conn.read("\n", WITHIN)
        assert line is not None, err
        assert line.startswith(b"hello ")


def open_still(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# ---- what it takes over ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "unix"])
def test_tcp(family: str, tmp_path: Path) -> None:
    if family == "ipv6" and not has_ipv6():
        pytest.skip("THIS MACHINE HAS NO IPv6 LOOPBACK")
    path = tmp_path / "s"
    if family == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen()
        addr, port = f"unix:{path}", 0
    else:
        kind = socket.AF_INET6 if family == "ipv6" else socket.AF_INET
        sock = socket.create_server(("::1" if family == "ipv6" else "127.0.0.1", 0), family=kind)
        port = sock.getsockname()[1]
        addr = f"[::1]:{port}" if family == "ipv6" else f"127.0.0.1:{port}"
    fd = sock.detach()
    os.set_inheritable(fd, True)
    listener = check(tcp.listen(f"fd:{fd}", greet))
    with listener:
        assert (listener.addr, listener.addrs, listener.port) == (addr, (addr,), port)
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        check_greeted(addr)
        if family == "unix":
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(str(path))
                assert in_thread(raw.recv, 100) == f"hello {addr}\n".encode()
    assert not open_still(fd)
    assert family != "unix" or path.exists(), "the file is not ours"
    assert listener.close() == (False, errno.CLOSED)


def test_connections_that_wait_already() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    addr = f"127.0.0.1:{sock.getsockname()[1]}"
    early = check(tcp.connect(addr))
    with early, check(tcp.listen(f"fd:{sock.detach()}", greet)):
        assert (early.read("\n", WITHIN)[0] or b"").startswith(b"hello ")


def test_a_unix_socket_without_a_file(logs: Any) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(b"\0silly-%d" % os.getpid())
        sock.listen()
        name = sock.getsockname()
        with check(tcp.listen(f"fd:{sock.detach()}", greet)) as listener:
            assert listener.addr == f"unix:@silly-{os.getpid()}"
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(name)
                assert in_thread(raw.recv, 100).startswith(b"hello unix:@")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(version: ssl.TLSVersion) -> None:
    def echo(conn: Any) -> None:
        with conn:
            conn.write(conn.read("\n", WITHIN)[0] or b"")

    sock = socket.create_server(("127.0.0.1", 0))
    with check(tls.listen(f"fd:{sock.detach()}", [authorities.server().entry], echo)) as listener:
        assert in_thread(python_client, listener.port, python_context(version))["answer"] == b"hello\n"
        assert listener.reload()


@pytest.mark.parametrize("certs", [False, True])
def test_http_and_websocket(certs: bool) -> None:
    def handler(stream: Any) -> None:
        if "upgrade" in stream.header:
            with check(websocket.upgrade(stream)) as ws:
                ws.write("hello", "text")
        else:
            stream.answer(200, "hello")

    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    entries = [authorities.server().entry] if certs else None
    web = http.newclient(ca=authorities.root().pem)
    with check(http.listen(f"fd:{sock.detach()}", handler, certs=entries)) as server, web:
        assert (server.addr, server.port) == (f"127.0.0.1:{port}", port)
        scheme = "s" if certs else ""
        assert check(web.get(f"http{scheme}://localhost:{port}/")).text == "hello\n"
        with check(websocket.connect(f"ws{scheme}://localhost:{port}/", ca=authorities.root().pem)) as ws:
            assert ws.read(WITHIN) == ("hello", "text")


# ---- what it refuses -------------------------------------------------------------------------------------------------


def refused(addr: str, why: str, logs: Any) -> None:
    """Says why, in the log too, and takes nothing."""
    logs.expect(f"ERROR tcp.listen {addr}: .*")
    handlers = set(scheduler.loop.handlers)
    assert tcp.listen(addr, greet) == (None, why)
    gc.collect()
    assert scheduler.loop.handlers == handlers


def test_the_loops_own_descriptors(logs: Any) -> None:
    fd = scheduler.loop._poller.fileno()  # type: ignore[attr-defined]
    refused(f"fd:{fd}", f"descriptor {fd} is an epoll, or another object of the kernel's, not a socket", logs)
    fd = scheduler.loop._waker.fileno()
    refused(f"fd:{fd}", f"descriptor {fd} is in use in this process by silly itself", logs)


def test_what_does_not_listen(logs: Any) -> None:
    with socket.socket() as sock:
        fd = sock.fileno()
        refused(f"fd:{fd}", f"descriptor {fd} is a socket that does not listen", logs)
        assert os.get_blocking(fd)
    refused(f"fd:{fd}", f"descriptor {fd} is not open", logs)
    one, other = socket.socketpair()
    with one, other:
        fd = one.fileno()
        text = f"descriptor {fd} is a socket that does not listen: it is a connection, which tcp.adopt({fd}) takes"
        refused(f"fd:{fd}", text, logs)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fd = sock.fileno()
        refused(f"fd:{fd}", f"descriptor {fd} is a datagram socket, not a stream socket", logs)


def test_a_descriptor_has_one_listener(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """Also while it accepts nothing, because the process has no descriptors left."""
    monkeypatch.setattr(_listener, "PAUSE", 0.02)
    sock = socket.create_server(("127.0.0.1", 0))
    fd = sock.detach()
    with check(tcp.listen(f"fd:{fd}", greet)) as listener:
        why = f"descriptor {fd} is in use in this process: <listener {listener.addr}>"
        refused(f"fd:{fd}", why, logs)
        logs.expect("ERROR listener .*: accepting pauses")
        listener._pause(OSError(24, "Too many open files"))
        refused(f"fd:{fd}", why, logs)
        assert tcp.adopt(fd)[1] == why
    with check(tcp.listen("127.0.0.1:0", greet)) as listener:
        fd = listener._bound.socks[0].fileno()  # type: ignore[union-attr]
        refused(f"fd:{fd}", f"descriptor {fd} is in use in this process: <listener {listener.addr}>", logs)
        check_greeted(listener.addr)


def test_a_failure_of_the_system(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """The socket is still the caller's, and listens."""

    def register(*args: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    with socket.create_server(("127.0.0.1", 0)) as sock:
        with monkeypatch.context() as patch:
            patch.setattr(type(scheduler.loop), "register", register)
            refused(f"fd:{sock.fileno()}", errno.NOMEM, logs)
        assert open_still(sock.fileno())
        with check(tcp.listen(f"fd:{sock.fileno()}", greet)) as listener:
            check_greeted(listener.addr)
            sock.detach()


@pytest.mark.parametrize("addr", ["fd:", "fd:x", "fd:-1", "fd: 3", "fd:3:4", "fd:\u0663", "fd:9999999999"])
@pytest.mark.parametrize("listen", [tcp.listen, http.listen])
def test_bad_numbers(addr: str, listen: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"listen: .* has no descriptor's number \(an address is 'fd:3'\)"):
        listen(addr, greet)


@pytest.mark.parametrize("setting", [{"backlog": 5}, {"mode": 0o600}, {"owner": "root"}, {"owner": (-1, -1)}])
def test_settings_that_are_made_already(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="who made fd:3 has set its backlog, mode and owner"):
        tcp.listen("fd:3", greet, **setting)
    with pytest.raises(ValueError, match=r"http\.listen: who made fd:3 has set"):
        http.listen("fd:3", greet, **setting)


def test_connect_takes_it_for_a_host(names: dict[str, Any]) -> None:
    """As it always was: a host's name may be anything, and comes from a URL too."""
    accepted = channel.new()
    with check(tcp.listen("127.0.0.1:0", accepted.push)) as listener:
        names["fd"] = [(socket.AF_INET, ("127.0.0.1", listener.port))]
        with check(tcp.connect("fd:3")), accepted.pop()[0]:
            pass


# ---- a process of its own --------------------------------------------------------------------------------------------

APP = """\
import json, os, sys
import silly
from silly.net import http, tcp
counts = int(os.environ["LISTEN_FDS"]) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
def handler(stream):
    stream.answer(200, f"hello from {stream.path}")
servers = [silly.check(http.listen(f"fd:{3 + number}", handler)) for number in range(counts)]
print(json.dumps([server.addr for server in servers]), flush=True)
"""


def activate(script: Path, socks: list[socket.socket]) -> subprocess.Popen[str]:
    """Starts a script as systemd does: the sockets are descriptors 3 and up, and only its own environment names them."""
    start = (
        "import os, sys\n"
        "for at, fd in enumerate(map(int, sys.argv[2:])):\n    os.dup2(fd, 3 + at)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sys.argv) - 2))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'silly', sys.argv[1]])\n"
    )
    high = [os.dup2(sock.fileno(), 100 + at) for at, sock in enumerate(socks)]
    try:
        return subprocess.Popen(
            [sys.executable, "-c", start, str(script), *map(str, high)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=high,
        )
    finally:
        for fd in high:
            os.close(fd)


def test_socket_activation(tmp_path: Path) -> None:
    """The process restarts, and no connection is refused: their maker keeps the sockets, and connections queue."""
    script = tmp_path / "app.py"
    script.write_text(APP)
    path = tmp_path / "s"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    unix.listen()
    with socket.create_server(("127.0.0.1", 0)) as inet, unix:
        addr = f"127.0.0.1:{inet.getsockname()[1]}"
        for _ in range(2):
            early = check(tcp.connect(addr))  # before it is there
            early.write("GET /early HTTP/1.1\r\nhost: x\r\n\r\n")
            with activate(script, [inet, unix]) as child:
                assert child.stdout is not None
                try:
                    assert json.loads(in_thread(child.stdout.readline)) == [addr, f"unix:{path}"]
                    with early:
                        assert early.read("hello from /early\n", WITHIN)[1] is None
                    with check(tcp.connect(f"unix:{path}")) as conn:
                        conn.write("GET /unix HTTP/1.1\r\nhost: x\r\n\r\n")
                        assert conn.read("hello from /unix\n", WITHIN)[1] is None
                    child.terminate()
                    errors = in_thread(child.communicate)[1]
                    assert child.returncode == 0, errors
                finally:
                    child.kill()
        assert path.exists()


def test_a_process_that_inherited_nothing(tmp_path: Path) -> None:
    """Descriptor 3 is the loop's epoll then, or something else that it has opened itself."""
    script = tmp_path / "app.py"
    script.write_text("from silly.net import tcp\nprint(tcp.listen('fd:3', print)[1])\n")
    with Child(str(script)) as child:
        assert child.line().startswith("descriptor 3 is ")
        assert child.wait() == 0
        assert "ERROR tcp.listen fd:3: descriptor 3 is " in child.said()
