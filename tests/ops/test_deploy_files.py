"""The files of ``examples/deploy/`` do what they say, with other ports and paths."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from silly import Limits, check
from silly.net import http, tcp, websocket
from silly.ops.options import Options, take
from silly.ops.options import check as check_options
from silly.ops.systemd import MARGIN
from tests.children import Child, in_thread
from tests.conftest import Logs
from tests.helpers import turn
from tests.net.support import Job, until
from tests.proxies.support import Client, Proxy, haproxy_with, missing, nginx

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "examples" / "deploy"
WITHIN = 30_000


def text_of(name: str, *changes: tuple[str, str]) -> str:
    """The text of a file, with ports and paths of the test. Each must be there."""
    text = (FILES / name).read_text()
    for old, new in changes:
        if old not in text:  # no assert: it must be said under python -O too
            raise AssertionError(f"{name} has no {old!r}")
        text = text.replace(old, new)
    return text


def setting(name: str, key: str) -> str:
    """The value of ``key = value``, ``key: value`` or ``key value`` in a file."""
    (value,) = re.findall(rf"^\s*{re.escape(key)}(?:=|: | )(.*)$", text_of(name), re.MULTILINE)
    return str(value)


def ran(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """A program that has ended, and what it said. Blocks the thread."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, **options)


# ---- units -----------------------------------------------------------------------------------------------------------


def test_the_units_are_valid(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("NO SYSTEMD: systemd-analyze is not installed (Debian: apt install systemd)")
    python = sys.executable
    (tmp_path / "silly-app.service").write_text(text_of("silly-app.service", ("/srv/silly-app/.venv/bin/python", python)))
    (tmp_path / "silly-app.socket").write_text(text_of("silly-app.socket"))
    for name in ("silly-app.service", "silly-app.socket"):
        found = ran([analyze, "verify", "--man=no", name], cwd=tmp_path)
        ours = [line for line in (found.stdout + found.stderr).splitlines() if "silly-app" in line]
        assert (found.returncode, ours) == (0, [])


def launched(argv: list[str]) -> tuple[Options, list[str]]:
    """What the launcher makes of a command line, and what the script gets."""
    assert argv[1:3] == ["-m", "silly"]
    args, options = argv[3:], Options()
    while args[0].startswith("-"):
        take(args.pop(0), args, options)
    check_options(options)
    return options, args


def test_the_times_of_the_unit_go_together() -> None:
    options, script = launched(shlex.split(setting("silly-app.service", "ExecStart")))
    assert script == ["app.py", f"--listen=systemd:{setting('silly-app.socket', 'FileDescriptorName')}"]
    assert options.workers
    assert int(setting("silly-app.service", "TimeoutStopSec")) * 1000 >= options.notice + options.drain + MARGIN
    assert setting("silly-app.service", "ExecReload") == "/bin/kill -HUP $MAINPID", "which asks a master for new workers"


# ---- containers ------------------------------------------------------------------------------------------------------


def test_the_commands_of_the_containers() -> None:
    """The lists are lists, their options are known, and the grace period is long enough."""
    docker = launched(json.loads(setting("Dockerfile", "CMD")))
    kubernetes = launched(json.loads(setting("kubernetes.yaml", "args")))
    assert docker == kubernetes
    options, script = docker
    assert script == ["app.py", "--listen=:8080"]
    grace = int(setting("kubernetes.yaml", "terminationGracePeriodSeconds")) * 1000
    assert grace >= options.notice + options.drain + MARGIN
    period = int(re.findall(r"path: /readyz.*\n\s*periodSeconds: (\d+)", text_of("kubernetes.yaml"))[0])
    assert options.notice > period * 1000, "the notice is seen before connections are refused"


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_of_the_container(status: int) -> None:
    (command,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*)$", text_of("Dockerfile"), re.MULTILINE)

    def handler(stream: Any) -> None:
        stream.answer(status if stream.path == "/healthz" else 404)

    with check(http.listen("127.0.0.1:0", handler)) as server:
        python, *args = json.loads(command.replace("8080", str(server.port)))
        assert python == "python"
        done = in_thread(lambda: ran([sys.executable, *args]))
        assert (done.returncode != 0) is (status != 200)


# ---- proxies ---------------------------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """A proxy before two servers, of which either may be there or not."""

    name: str
    addr: str
    proxy: Proxy

    def client(self, source: str | None = None) -> Client:
        return Client(check(tcp.connect(self.addr, bind=source)))


class App:
    """A server that says who it is, and what the proxy has sent it."""

    def __init__(self, edge: Edge, number: int) -> None:
        self.name = f"app{number}"
        self.ready = True
        self.upgrades = True
        self.conns: set[Any] = set()
        router = http.router()
        if number == 1:
            router.health(check=lambda: self.ready)
        else:  # a notice counts for all servers of a process, and both are in this one
            router.get("/readyz", lambda stream: stream.answer(200 if self.ready else 503))
        router.route(["GET", "POST"], "/", self.handle)
        router.get("/busy", lambda stream: stream.answer(503, "past a limit"))
        router.websocket("/", self.chat)
        self.server = check(http.listen(f"unix:{edge.proxy.at(self.name)}", router))

    def handle(self, stream: Any) -> None:
        self.conns.add(stream.conn)
        body, _ = stream.readall()
        stream.answer(200, json.dumps({"name": self.name, "fields": list(stream.header.items()), "body": body.decode()}))

    def chat(self, stream: Any) -> None:
        if not self.upgrades:
            stream.answer(503, "ends", {"retry-after": "1"})
            return
        with check(websocket.upgrade(stream)) as ws:
            while (message := ws.read())[1] in ("text", "binary"):
                ws.write(f"{self.name} {message[0]}", "text")

    def close(self) -> None:
        self.server.close()
        turn(3)


def _address() -> str:
    """Where nothing else listens: a loopback address of its own."""
    while True:
        host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(1, 254)}"
        with socket.socket() as sock:
            try:
                sock.bind((host, 0))
            except OSError:
                continue
            return f"{host}:{sock.getsockname()[1]}"


def _edge(name: str, addr: str, proxy: Proxy) -> Edge:
    host, _, port = addr.partition(":")

    def listens() -> bool:
        proxy.check()
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    until(listens, WITHIN)
    return Edge(name, addr, proxy)


BACKENDS = (("127.0.0.1:8080", "unix:FOLDER/app1"), ("127.0.0.1:8081", "unix:FOLDER/app2"))
LESS = (("maxconn 20000", "maxconn 500"), ("inter 1s", "inter 50ms"))
"""For HAProxy: what needs no rights, and no second."""


@pytest.fixture(scope="module")
def nginx_edge() -> Iterator[Edge]:
    if why := missing("nginx"):
        pytest.skip(why)
    addr = _address()
    text = text_of("nginx.conf", ("listen 80;", f"listen {addr};"), *BACKENDS)
    with nginx(text, []) as proxy:
        yield _edge("nginx", addr, proxy)


def _haproxy(addr: str) -> str:
    backends = [(old, new.replace("unix:", "unix@")) for old, new in BACKENDS]
    return text_of("haproxy.cfg", ("bind :80", f"bind {addr}"), *LESS, *backends)


@pytest.fixture(scope="module")
def haproxy_edge() -> Iterator[Edge]:
    if why := missing("haproxy"):
        pytest.skip(why)
    addr = _address()
    with haproxy_with(_haproxy(addr), []) as proxy:
        yield _edge("haproxy", addr, proxy)


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def edge(request: pytest.FixtureRequest) -> Edge:
    return request.getfixturevalue(f"{request.param}_edge")  # type: ignore[no-any-return]


@pytest.fixture
def apps(edge: Edge) -> Iterator[tuple[App, App]]:
    """Both servers, when the proxy knows that they are there."""
    with ExitStack() as stack:
        both = App(edge, 1), App(edge, 2)
        for app in both:
            stack.callback(app.close)
        until(lambda: {asked(edge)["name"] for _ in range(4)} == {"app1", "app2"}, WITHIN)
        yield both


def asked(edge: Edge, method: str = "GET", *fields: str, body: str = "", source: str | None = None) -> Any:
    """What the server has got of one request."""
    with edge.client(source) as client:
        reply = client.ask("/", method, *fields, body=body)
        return json.loads(reply.body) if reply.status == 200 else {"name": reply.status}


def test_what_the_proxy_tells_of_the_client(edge: Edge, apps: tuple[App, App]) -> None:
    """It is what the proxy knows: nothing of what the client claims gets through."""
    lies = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2", "Forwarded: for=192.0.2.3", "X-Forwarded-Proto: https"]
    got = asked(edge, "POST", *lies, "Content-Length: 5", body="hello", source="127.9.8.7")
    assert got["body"] == "hello"
    fields = dict(got["fields"])
    assert len(got["fields"]) == len(fields)
    assert fields["x-forwarded-for"] == "127.9.8.7"
    assert fields["x-forwarded-proto"] == "http"
    assert "forwarded" not in fields


def test_connections_are_kept(edge: Edge, apps: tuple[App, App]) -> None:
    """Those between the proxy and the servers."""
    for app in apps:
        app.conns.clear()
    with edge.client() as client:
        for _ in range(10):
            assert client.ask().status == 200
    assert 1 <= sum(len(app.conns) for app in apps) <= 4


def test_websockets(edge: Edge, apps: tuple[App, App]) -> None:
    """A page from the proxy's own port may open them."""
    names = set()
    for _ in range(4):
        with check(websocket.connect(f"ws://{edge.addr}/", {"origin": f"http://{edge.addr}"})) as ws:
            ws.write("hello", "text")
            data, _ = ws.read(WITHIN)
            names.add(str(data))
    assert names == {"app1 hello", "app2 hello"}


def test_an_upgrade_that_a_server_refuses_goes_to_the_other(edge: Edge, apps: tuple[App, App]) -> None:
    """With 503, as while it drains."""
    apps[0].upgrades = False
    for _ in range(6):
        with check(websocket.connect(f"ws://{edge.addr}/")) as ws:
            ws.write("hello", "text")
            assert ws.read(WITHIN) == ("app2 hello", "text")


def test_who_is_answered_503_takes_no_server_away_from_others(edge: Edge, apps: tuple[App, App]) -> None:
    """Such as a client past its limit."""
    for _ in range(3):
        with edge.client() as client:
            assert client.ask("/busy").status == 503
        assert {asked(edge)["name"] for _ in range(4)} == {"app1", "app2"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_drains_loses_nothing(edge: Edge, apps: tuple[App, App], method: str, logs: Logs) -> None:
    """Requests go on meanwhile, at both servers, and after it at one."""
    logs.allow("^INFO http: .*drain")
    fields, body = (["Content-Length: 5"], "hello") if method == "POST" else ([], "")
    names = [asked(edge, method, *fields, body=body)["name"] for _ in range(4)]
    drained = Job(lambda: apps[0].server.drain(10_000))
    names += [asked(edge, method, *fields, body=body)["name"] for _ in range(20)]
    assert drained.result() == (True, None)
    assert set(names) == {"app1", "app2"}
    assert {asked(edge, method, *fields, body=body)["name"] for _ in range(6)} == {"app2"}


def test_haproxy_looks_away_from_who_is_not_ready(haproxy_edge: Edge, logs: Logs) -> None:
    """What it has, such as a WebSocket, goes on."""
    logs.allow("^INFO http: .*(notice|drain)")
    with ExitStack() as stack:
        both = App(haproxy_edge, 1), App(haproxy_edge, 2)
        for app in both:
            stack.callback(app.close)
        until(lambda: {asked(haproxy_edge)["name"] for _ in range(4)} == {"app1", "app2"}, WITHIN)
        both[1].ready = False
        until(lambda: {asked(haproxy_edge)["name"] for _ in range(4)} == {"app1"}, WITHIN)
        with check(websocket.connect(f"ws://{haproxy_edge.addr}/")) as ws:
            both[0].ready, both[1].ready = False, True
            until(lambda: {asked(haproxy_edge)["name"] for _ in range(4)} == {"app2"}, WITHIN)
            ws.write("hello", "text")
            assert ws.read(WITHIN) == ("app1 hello", "text")
            both[0].ready = True
            until(lambda: {asked(haproxy_edge)["name"] for _ in range(4)} == {"app1", "app2"}, WITHIN)
            # And so during a notice, in which the server would still answer.
            drained = Job(lambda: both[0].server.drain(10_000, notice=60_000))
            until(lambda: {asked(haproxy_edge)["name"] for _ in range(4)} == {"app2"}, WITHIN)
            ws.write("hello", "text")
            assert ws.read(WITHIN) == ("app1 hello", "text")
            both[0].server.close()
            drained.result()


def test_the_proxy_protocol_of_haproxy() -> None:
    """The line that is commented out: each connection begins with the client's address, those of health checks with none."""
    if why := missing("haproxy"):
        pytest.skip(why)
    heads: list[tuple[int, bytes]] = []

    def serve(conn: Any) -> None:
        with conn:
            fixed, _ = conn.read(16, WITHIN)
            if fixed is None:
                return
            assert fixed[:12] == b"\r\n\r\n\0\r\nQUIT\n"
            addresses, _ = conn.read(int.from_bytes(fixed[14:]), WITHIN)
            line, _ = conn.read("\r\n", WITHIN)
            if b"/readyz" not in line:
                heads.append((fixed[12], addresses))
            conn.read("\r\n\r\n", WITHIN)
            conn.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    servers = "    server app1 127.0.0.1:8080\n    server app2 127.0.0.1:8081\n"
    text = text_of(
        "haproxy.cfg",
        (servers, ""),
        ("    # server app1 127.0.0.1:8080 send-proxy-v2", "    server app1 unix@FOLDER/raw send-proxy-v2"),
        ("bind :80", f"bind {(addr := _address())}"),
        *LESS,
    )
    with haproxy_with(text, []) as proxy, check(tcp.listen(f"unix:{proxy.at('raw')}", serve)):
        edge = _edge("haproxy", addr, proxy)
        with edge.client("127.9.8.7") as client:
            until(lambda: client.ask().status == 200, WITHIN)
    version_and_command, addresses = heads[0]
    assert (version_and_command, addresses[:4]) == (0x21, bytes([127, 9, 8, 7]))


# ---- logs ------------------------------------------------------------------------------------------------------------

ROTATED = """\
import os, silly
from silly import signal, task
me = task.running()
signal("SIGUSR1", lambda name: task.wakeup(me, name))
print(os.getpid(), flush=True)
print(task.wait(), flush=True)
"""


def test_what_runs_after_a_rotation(tmp_path: Path) -> None:
    """The unit's first process gets SIGUSR1. (systemctl is one of the test's own: no systemd runs here.)"""
    (commands,) = re.findall(r"postrotate\n(.*?)endscript", text_of("logrotate.conf"), re.DOTALL)
    script = tmp_path / "app.py"
    script.write_text(ROTATED)
    with Child("-m", "silly", str(script)) as child:
        systemctl = tmp_path / "systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@"\nkill -USR1 {child.line()}\n')
        systemctl.chmod(0o755)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = in_thread(lambda: ran(["sh", "-ec", commands], env={"PATH": path}))
        assert done.stdout == "kill --kill-who=main --signal=SIGUSR1 silly-app.service\n"
        assert child.line() == "SIGUSR1"
        assert child.wait() == 0
    assert (FILES / "silly-app.service").exists()


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_files() -> None:
    """Each snippet is a part of one, and each file is named."""
    text = (ROOT / "docs" / "deploying.md").read_text()
    snippets = re.findall(r"^```(?:ini|nginx|haproxy|dockerfile|yaml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 4
    files = {path.name: path.read_text() for path in FILES.iterdir()}
    assert not [snippet for snippet in snippets if not any(snippet in whole for whole in files.values())]
    assert not [name for name in files if f"](../examples/deploy/{name})" not in text]


def test_the_times_between_the_proxies_and_the_server() -> None:
    limits = Limits()
    for name, key in (("nginx.conf", "keepalive_timeout"), ("haproxy.cfg", "timeout http-keep-alive")):
        assert seconds(name, key) * 1000 < limits.idle_timeout, "who ends an idle connection is the proxy"
    for name, key in (("nginx.conf", "proxy_read_timeout"), ("haproxy.cfg", "timeout tunnel")):
        assert seconds(name, key) * 1000 > limits.ping_interval + limits.pong_timeout
    assert setting("nginx.conf", "client_max_body_size").split(";")[0] == f"{limits.body // 2**20}m"


def seconds(name: str, key: str) -> int:
    return int(re.match(r"(\d+)s\b", setting(name, key))[1])  # type: ignore[index]
