"""Upstream's pages of HTTP and TLS, line for line: each example of docs/porting/http.md and tls.md runs, and does what it says.

The code runs as it stands. Around it, what listens gets a free port of the loopback, and a server there stands for the hosts
outside; a key or certificate that the page shortens is a real one.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

import silly
from silly.net import http, tls

from .helpers import serving, turn
from .net.support import until
from .test_porting import lua_statements, python_statements

PAGES = Path(__file__).resolve().parent.parent / "docs/porting"
SECTION = re.compile(r"^## (.+?)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def sections(page: str) -> dict[str, tuple[str, str]]:
    """The examples of a page by their headings: Lua and Python."""
    found = {}
    for title, text in SECTION.findall((PAGES / page).read_text()):
        (lua,) = re.findall(r"```lua\n(.*?)```", text, re.DOTALL)
        (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        found[title] = lua, python
    return found


HTTP, TLS = sections("http.md"), sections("tls.md")
EVERY = [*HTTP.items(), *TLS.items()]
OTHERWISE = {"Concurrent requests", "Example 1: HTTPS server", "Example 2: HTTPS client", "Example 3: certificate hot reload"}
"""Examples with a module that isn't there yet."""


@pytest.mark.parametrize("example", EVERY, ids=lambda example: example[0])
def test_line_for_line(example: tuple[str, tuple[str, str]]) -> None:
    title, (lua, python) = example
    ours, theirs = python_statements(python) + 1, lua_statements(lua)
    # Python adds `def main`; Lua has `local silly` where nothing needs it, and declares what Python doesn't.
    assert abs(ours - theirs) <= (8 if title in OTHERWISE else 4), (ours, theirs)


def test_every_example_is_run() -> None:
    """Each heading of the pages has a test here that names it."""
    source = Path(__file__).read_text()
    for page, found in (("HTTP", HTTP), ("TLS", TLS)):
        for title in found:
            assert f'{page}["{title}"]' in source, title


class Stage:
    """Where the examples run: ``run`` executes one, ``listeners`` are those that it made."""

    def __init__(self) -> None:
        self.listeners: list[Any] = []
        self.outside = ""
        """The address that stands for every host outside."""
        authority = trustme.CA()
        self.ca = authority.cert_pem.bytes().decode()
        names = ("www.example.com", "example.com"), ("localhost2",)
        self._certs = [authority.issue_cert("127.0.0.1", *each) for each in names]
        self._client = http.newclient()
        self._http = SimpleNamespace(
            listen=self._listening(http.listen),
            get=lambda url, *args: self._client.get(self._here(url), *args),
            post=lambda url, *args: self._client.post(self._here(url), *args),
            request=lambda method, url, *args: self._client.request(method, self._here(url), *args),
        )
        self._tls = SimpleNamespace(listen=self._listening(tls.listen), connect=self._connect)

    def _listening(self, listen: Callable[..., Any]) -> Callable[..., Any]:
        def listening(**conf: Any) -> Any:
            assert re.fullmatch(r"(127\.0\.0\.1)?:\d+", conf["addr"])
            listener, err = listen(**{**conf, "addr": "127.0.0.1:0"})
            assert err is None
            self.listeners.append(listener)
            return listener, err

        return listening

    def _here(self, url: str) -> str:
        here, found = re.subn(r"^http://[a-z0-9.]*example\.com", f"http://{self.outside}", url)
        assert found
        return here

    def _connect(self, addr: str, opts: dict[str, Any] | None = None) -> Any:
        return tls.connect(self.outside, {"hostname": addr.rpartition(":")[0], **(opts or {}), "ca": self.ca})

    def connect(self, **opts: Any) -> Any:
        """A connection to the TLS server of an example."""
        return silly.check(tls.connect(self.listeners[0].addr, {**opts, "ca": self.ca}))

    def pem(self, number: int = 0) -> tuple[str, str]:
        """A certificate and its key."""
        cert = self._certs[number]
        return "".join(blob.bytes().decode() for blob in cert.cert_chain_pems), cert.private_key_pem.bytes().decode()

    def host_outside(self, **options: Any) -> Any:
        """A TLS listener that stands for the hosts outside."""
        cert, key = self.pem()
        listener = silly.check(tls.listen(addr="127.0.0.1:0", certs=[{"cert": cert, "key": key}], accept=answer, **options))
        self.listeners.append(listener)
        self.outside = listener.addr
        return listener

    def run(self, example: tuple[str, str]) -> dict[str, Any]:
        """Runs the Python of an example until its tasks wait; its names."""
        source = example[1]
        numbers = {"CERTIFICATE": iter((0, 1)), "PRIVATE KEY": iter((0, 1))}

        def real(match: re.Match[str]) -> str:
            number = next(numbers[match[1]])
            return repr(self.pem(number)[match[1] != "CERTIFICATE"])

        source = re.sub(r'"""-----BEGIN ([A-Z ]+)-----\n\.\.\.\n-----END \1-----\n"""', real, source)
        source = re.sub(r'"-----BEGIN ([A-Z ]+)-----\\n\.\.\.(?: new \.\.\.)?"', real, source)
        source, found = re.subn(r"(?m)^from silly\.net import (http|tls)$", "", source)
        assert found == 1
        namespace: dict[str, Any] = {"http": self._http, "tls": self._tls}
        exec(source, namespace)
        turn(3)
        return namespace

    def url(self, target: str = "/") -> str:
        return f"http://{self.listeners[-1].addr}{target}"

    def close(self) -> None:
        for each in (*self.listeners, self._client):
            each.close()
        turn(3)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def client() -> Iterator[Any]:
    """A client that is none of the example's."""
    with http.newclient() as client:
        yield client
    turn(3)


Output = pytest.CaptureFixture[str]


def got(pair: Any) -> tuple[int, str]:
    response = silly.check(pair)
    return response.status, response.text


def printed(capsys: Output, *lines: str) -> None:
    """Waits for the last of ``lines``; they must be all of the output."""
    text = ""

    def done() -> bool:
        nonlocal text
        text += capsys.readouterr().out
        return text.count("\n") >= len(lines)

    until(done)
    assert text.splitlines() == list(lines)


# ---- HTTP: servers --------------------------------------------------------------------------------------------------


def test_imports() -> None:
    namespace: dict[str, Any] = {}
    exec(HTTP["Module import"][1] + TLS["Module import"][1], namespace)
    assert (namespace["http"], namespace["tls"]) == (http, tls)


def test_listen(stage: Stage, client: Any, capsys: Output) -> None:
    stage.run(HTTP["http.listen"])
    printed(capsys, "HTTP server listening on 127.0.0.1:8080")
    assert got(client.get(stage.url())) == (200, "Hello, World!")


def test_server_close(stage: Stage, client: Any, capsys: Output) -> None:
    stage.run(HTTP["server.close"])
    printed(capsys, "Server closed")
    assert client.get(stage.url())[0] is None


@pytest.mark.parametrize(
    ("example", "body"),
    [
        (HTTP["stream.respond"], '{"status":"ok"}'),
        (HTTP["stream.closewrite"], "<h1>Hello</h1>"),
        (HTTP["Note 2: content-length"], "Response body"),
        (HTTP["Note 3: HTTP/2 and HTTP/1.1"], "Hello, HTTP/1.1!"),
    ],
)
def test_handlers(stage: Stage, client: Any, example: tuple[str, str], body: str) -> None:
    with serving(stage.run(example)["handler"]) as server:
        assert got(client.get(f"http://{server.addr}/")) == (200, body)
        client.closeidle()


@pytest.mark.parametrize(
    "example", [HTTP["Note 4: header names"], HTTP["Note 5: query parameters are strings"]], ids=["header", "query"]
)
def test_handlers_that_only_look(stage: Stage, client: Any, example: tuple[str, str]) -> None:
    handler = stage.run(example)["handler"]

    def answering(stream: Any) -> None:
        handler(stream)
        stream.respond(200, {})

    with serving(answering) as server:
        for query in ("", "?page=5&debug=true"):
            assert got(client.get(f"http://{server.addr}/{query}")) == (200, "")
        client.closeidle()


def test_readall(stage: Stage, client: Any, capsys: Output) -> None:
    stage.run(HTTP["stream.readall"])
    assert got(client.post(stage.url(), None, "data")) == (200, "Received")
    assert got(client.post(stage.url(), None, "")) == (200, "Received")
    assert got(client.get(stage.url())) == (200, "OK")
    printed(capsys, "Received POST data: b'data'", "Received POST data: b''")


def test_write(stage: Stage, client: Any) -> None:
    stage.run(HTTP["stream.write"])
    assert got(client.get(stage.url())) == (200, "Chunk 1\nChunk 2\n")


def test_basic_server(stage: Stage, client: Any, capsys: Output) -> None:
    stage.run(HTTP["Example 1: basic HTTP server"])
    printed(capsys, "Server listening on 127.0.0.1:8080")
    assert got(client.get(stage.url())) == (200, "Welcome to the home page!")
    assert got(client.get(stage.url("/about"))) == (200, "This is the about page.")
    assert got(client.get(stage.url("/x"))) == (404, "Not Found")


def test_json_api(stage: Stage, client: Any, capsys: Output) -> None:
    stage.run(HTTP["Example 2: JSON API server"])
    printed(capsys, "JSON API server running on port 8080")
    url = stage.url("/api/users")
    new = {"name": "J\xf6rg", "age": 40}
    assert silly.check(client.post(url, None, json.dumps(new))).json() == {**new, "id": 3}
    assert [user["name"] for user in silly.check(client.get(url)).json()] == ["Alice", "Bob", "J\xf6rg"]
    assert got(client.post(url, None, "{")) == (400, "Invalid user data")
    assert got(client.post(url, None, "{}")) == (400, "Invalid user data")
    assert got(client.get(stage.url("/x"))) == (404, "Not Found")


def test_query(stage: Stage, client: Any, capsys: Output, logs: Any) -> None:
    stage.run(HTTP["Example 3: query parameters"])
    printed(capsys, "Server listening on port 8080", "Try: http://localhost:8080?name=Alice&count=5")
    assert got(client.get(stage.url("?name=Alice&count=5"))) == (200, "Hello, Alice! Count: 5")
    assert got(client.get(stage.url("?name=J%C3%B6rg"))) == (200, "Hello, J\xf6rg! Count: 1")
    assert got(client.get(stage.url())) == (200, "Hello, Guest! Count: 1")
    logs.expect("ValueError")
    assert got(client.get(stage.url("?count=five")))[0] == 500


def test_https_server(stage: Stage, capsys: Output) -> None:
    stage.run(HTTP["Example 4: HTTPS server"])
    printed(capsys, "HTTPS server listening on 127.0.0.1:8443")
    with http.newclient(ca=stage.ca) as client:
        assert got(client.get(f"https://{stage.listeners[0].addr}/")) == (200, "Hello, HTTPS!")


def test_upload_server(stage: Stage, client: Any, capsys: Output) -> None:
    stage.run(HTTP["Example 6: file upload server"])
    url = stage.url("/upload")
    assert got(client.post(url, {"content-type": "multipart/form-data; boundary=x"}, "--x--")) == (200, "Upload successful")
    assert got(client.post(url, None, "x")) == (400, "Invalid content type")
    assert got(client.get(url)) == (404, "Not Found")
    printed(capsys, "File upload server running on port 8080", "Received upload, size: 5")


def test_streaming(stage: Stage, client: Any) -> None:
    stage.run(HTTP["Streaming"])
    assert got(client.post(stage.url(), None, b"x" * 100_000)) == (200, "OK")


# ---- HTTP: clients --------------------------------------------------------------------------------------------------


class World:
    """The hosts outside: requests as ``"METHOD target content-type body"``, and each answered with ``body``."""

    def __init__(self, status: int = 200, body: str = '{"message": "fine"}') -> None:
        self.asked: list[str] = []
        self.connections: set[str] = set()
        self._status, self._body = status, body

    def __call__(self, stream: Any) -> None:
        body = silly.check(stream.readall()).decode()
        self.asked.append(f"{stream.method} {stream.path} {stream.header['content-type']} {body}")
        self.connections.add(stream.remoteaddr)
        stream.respond(self._status, {"content-type": "text/html"})
        stream.closewrite(self._body)


@pytest.mark.parametrize(
    ("example", "asked", "lines"),
    [
        (HTTP["http.get"], ["GET / None "], ["Status: 200", "Body length: 19", "Content-Type: text/html"]),
        (
            HTTP["http.post"],
            ['POST /users application/json {"name": "Alice", "age": 30}'],
            ["Status: 200", """Response: b'{"message": "fine"}'"""],
        ),
        (HTTP["http.request"], ["PUT /data text/plain Updated data"], ["Status: 200"]),
        (
            HTTP["Example 5: client requests"],
            ["GET / None ", "GET /data None ", 'POST /action application/json {"action": "create", "value": 42}'],
            ["GET Status: 200", "Body length: 19", "POST Status: 200", "Result: fine"],
        ),
        (HTTP["Note 1: coroutines"], ["GET / None "], []),
        (HTTP["Note 6: errors"], ["GET / None "], ["""Body: b'{"message": "fine"}'"""]),
        (HTTP["Connection reuse"], ["GET /api/data None "] * 10, [f"Request {i} status: 200" for i in range(1, 11)]),
    ],
    ids=["get", "post", "request", "requests", "coroutines", "errors", "reuse"],
)
def test_clients(stage: Stage, capsys: Output, example: tuple[str, str], asked: list[str], lines: list[str]) -> None:
    world = World()
    with serving(world) as server:
        stage.outside = server.addr
        stage.run(example)
        until(lambda: len(world.asked) == len(asked))
        if lines:
            printed(capsys, *lines)
        turn(3)
        stage.close()
    assert world.asked == asked


def test_connections_are_reused(stage: Stage, capsys: Output) -> None:
    world = World()
    with serving(world) as server:
        stage.outside = server.addr
        stage.run(HTTP["Connection reuse"])
        printed(capsys, *[f"Request {i} status: 200" for i in range(1, 11)])
        stage.close()
    assert len(world.connections) == 1


def test_concurrent_requests(stage: Stage, capsys: Output) -> None:
    with serving(World()) as server:
        stage.outside = server.addr
        stage.run(HTTP["Concurrent requests"])
        text = ""

        def done() -> bool:
            nonlocal text
            text += capsys.readouterr().out
            return "completed" in text

        until(done)
        stage.close()
    assert sorted(text.splitlines()) == ["All requests completed", *[f"URL {i} status: 200" for i in (1, 2, 3)]]


@pytest.mark.parametrize(
    ("example", "line"),
    [
        (HTTP["http.get"], "GET failed: http GET http://"),
        (HTTP["http.post"], "POST failed: http POST http://"),
        (HTTP["http.request"], "Request failed: http PUT http://"),
        (HTTP["Note 6: errors"], "Request failed: http GET http://"),
    ],
    ids=["get", "post", "request", "errors"],
)
def test_clients_without_a_server(stage: Stage, capsys: Output, example: tuple[str, str], line: str) -> None:
    with serving(World()) as server:
        stage.outside = server.addr
    stage.run(example)
    until(lambda: line in capsys.readouterr().out)


def test_errors_of_the_server(stage: Stage, capsys: Output) -> None:
    with serving(World(404)) as server:
        stage.outside = server.addr
        stage.run(HTTP["Note 6: errors"])
        printed(capsys, "HTTP error: 404")
        stage.close()


# ---- TLS ------------------------------------------------------------------------------------------------------------


def test_tls_server(stage: Stage, capsys: Output) -> None:
    stage.run(TLS["Example 1: HTTPS server"])
    printed(capsys, "HTTPS server listening on 127.0.0.1:8443")
    with stage.connect() as conn:
        conn.write("GET / HTTP/1.1\r\n")
        assert conn.read("server!")[0].endswith(b"Content-Length: 24\r\n\r\nHello from HTTPS server!")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Client connected: 127.0.0.1:")
    assert lines[1:] == ["Received request: b'GET / HTTP/1.1\\r\\n'", "Connection closed"]


def answer(conn: Any) -> None:
    conn.read("\r\n\r\n")
    conn.write("HTTP/1.1 200 OK\r\n\r\n")
    conn.close()


def test_tls_client(stage: Stage, capsys: Output) -> None:
    listener = stage.host_outside(alpnprotos=["http/1.1"])
    stage.run(TLS["Example 2: HTTPS client"])
    lines = ["Connected to server", "ALPN protocol: http/1.1", "Response: b'HTTP/1.1 200 OK\\r\\n'", "Connection closed"]
    printed(capsys, *lines)
    listener.close()
    stage.run(TLS["Example 2: HTTPS client"])
    printed(capsys, "Connection failed: Connection refused (111)")


def test_tls_reload_by_signal(stage: Stage, capsys: Output) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        stage.run(TLS["Example 3: certificate hot reload"])
        lines = ["Server started with certificate v1 (CN=localhost)", "Send SIGUSR1 signal to trigger certificate reload"]
        printed(capsys, *lines, f"Run: kill -USR1 {os.getpid()}")
        with stage.connect(hostname="www.example.com") as conn:
            assert conn.read("Hello!\n")[0] == b"HTTP/1.1 200 OK\r\n\r\nHello!\n"
        os.kill(os.getpid(), signal.SIGUSR1)
        printed(capsys, "Certificate reload successful (CN=localhost2)")
        with stage.connect(hostname="localhost2") as conn:
            assert conn.read("Hello!\n")[1] is None
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_tls_listen(stage: Stage, capsys: Output) -> None:
    stage.run(TLS["tls.listen"])
    with stage.connect() as conn:
        assert conn.read("\n") == (b"Goodbye!\n", None)
    assert capsys.readouterr().out == ""


def test_tls_listener_reload(stage: Stage, capsys: Output) -> None:
    stage.run(TLS["listener.reload"])
    printed(capsys, "Certificate reload successful")
    stage.connect(hostname="localhost2").close()


def test_tls_isalive(stage: Stage, capsys: Output) -> None:
    stage.run(TLS["conn.isalive"])
    with stage.connect() as conn:
        assert conn.read("\n") == (b"Status: OK\n", None)
    printed(capsys, "Connection active")


@pytest.mark.parametrize(
    ("offered", "line"),
    [(["h2"], "Using HTTP/2"), (["h2", "http/1.1"], "Using HTTP/1.1"), (None, "No ALPN negotiation")],
)
def test_tls_alpnproto(stage: Stage, capsys: Output, offered: list[str] | None, line: str) -> None:
    stage.run(TLS["conn.alpnproto"])
    with stage.connect(alpnprotos=offered) as conn:
        assert conn.read(1)[0] is None
    printed(capsys, line)


def test_tls_connect(stage: Stage, capsys: Output) -> None:
    listener = stage.host_outside()
    stage.run(TLS["tls.connect"])
    turn(3)
    assert capsys.readouterr().out == ""
    listener.close()
    stage.run(TLS["tls.connect"])
    printed(capsys, "Connect failed: Connection refused (111)")


def test_tls_remoteaddr(stage: Stage, capsys: Output) -> None:
    listener = stage.host_outside()
    stage.run(TLS["conn.remoteaddr"])
    printed(capsys, f"Remote address: {listener.addr}")
