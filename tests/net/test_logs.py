"""Log lines of servers: a stderr that nobody reads, and handlers of log lines that raise, end nothing and hold nothing up."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from silly.net import tls, websocket

from ..children import Child, Pipe, in_thread
from ..conftest import Logs
from ..helpers import Peer, Raw, serving
from .http_support import certs, connected, hello
from .support import until

SERVER = """
import sys, silly
from silly.net import http, websocket

def handler(stream):
    if stream.header["upgrade"]:
        websocket.upgrade(stream)
    else:
        stream.respond(200)
        stream.closewrite("fine")

options = {"certs": [CERTS]} if "tls" in sys.argv else {}
if "json" in sys.argv:
    options["accesslog"] = "json"
if "stdout" in sys.argv:
    options["accesslog"] = http.AccessLog("json", sys.stdout)
server, err = http.listen("127.0.0.1:0", handler, **options)
print(server.port, flush=True)
"""

BAD = {
    "http": b"nonsense\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "tls": b"\x16\x03\x01\x00\x05nonse",
}


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Child]:
    def start(plain: bool, *args: str, **options: Any) -> Child:
        path = tmp_path / "app.py"
        path.write_text(SERVER.replace("[CERTS]", repr(certs())) + ("silly.run()\n" if plain else ""))
        buffered = {"PYTHONUNBUFFERED": ""}  # as by default: a text file with a lock
        return Child(*([] if plain else ["-m", "silly"]), str(path), *args, env=buffered, **options)

    return start


def exchange(port: int, data: bytes) -> bytes:
    """The answer to ``data``, up to its end. Blocks the thread."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(data)
        got = b""
        while piece := sock.recv(65536):
            got += piece
        return got


GOOD = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("plain", [False, True], ids=["launcher", "plain"])
@pytest.mark.parametrize("bad", BAD)
def test_a_stderr_that_nobody_reads_freezes_nothing(script: Callable[..., Child], plain: bool, bad: str) -> None:
    """Malformed requests, one line each: all are answered, and so is SIGTERM."""
    pipe = Pipe()
    with script(plain, *(["tls"] if bad == "tls" else []), stderr=pipe.writes) as child:
        port = int(child.line())
        for _ in range(120):
            in_thread(exchange, port, BAD[bad])
        if bad != "tls":
            assert in_thread(exchange, port, GOOD).endswith(b"\r\n\r\nfine")
        assert child.stop() == 0
    pipe.close()


@pytest.mark.parametrize("plain", [False, True], ids=["launcher", "plain"])
def test_the_lines_come_when_stderr_is_read_again(script: Callable[..., Child], plain: bool) -> None:
    """In order, and what was held back is counted."""
    pipe = Pipe()
    with script(plain, stderr=pipe.writes) as child:
        port = int(child.line())
        for _ in range(150):
            in_thread(exchange, port, BAD["http"])
        got = ""
        while counted(got) < 151:
            got += in_thread(pipe.until, b"\n")
        assert child.stop() == 0
    first, *lines = got.splitlines()
    assert "INFO listening on http://127.0.0.1:" in first
    assert all("INFO http: 127.0.0.1:" in line for line in lines)
    assert [line[:23] for line in lines] == sorted(line[:23] for line in lines)
    assert counted(got) == 151
    pipe.close()


def counted(text: str) -> int:
    """How many lines these are, or tell of."""
    more = [int(line.rpartition("(… ")[2].split()[0]) for line in text.splitlines() if "more lines like it" in line]
    return text.count("\n") + sum(more)


# ---- access logs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["json", "stdout"])
def test_an_access_log_that_nobody_reads_ends_in_good_order(script: Callable[..., Child], where: str) -> None:
    """After the grace. A thread that waits within ``sys.stdout`` or ``sys.stderr`` would keep the interpreter from ending."""
    pipe = Pipe()
    with script(True, where, stderr=pipe.writes) as child:
        port = int(child.line())
        request = b"GET /" + b"x" * 4000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        got = in_thread(exchange, port, request * 40 + GOOD)
        assert got.count(b"HTTP/1.1 200") == 41
        child.process.send_signal(signal.SIGTERM)
        assert in_thread(child.process.wait, 30) == 0
    pipe.close()


@pytest.mark.parametrize("where", ["json", "stdout"])
def test_an_access_log_to_standard_output_or_error(script: Callable[..., Child], where: str, tmp_path: Path) -> None:
    with script(True, where) as child:
        port = int(child.line())
        for path in (b"/a", b"/b"):
            in_thread(exchange, port, GOOD.replace(b"/", path, 1))
        if where == "stdout":
            found = [json.loads(child.line())["target"] for _ in range(2)]
        assert child.stop() == 0
        if where == "json":
            found = [json.loads(line)["target"] for line in child.errors().splitlines()]
    assert found == ["/a", "/b"]


# ---- handlers of log lines that raise -------------------------------------------------------------------------------


class Broken(BaseException):
    """Neither an Exception nor an end, as ``asyncio.CancelledError``."""


class Raising(logging.Handler):
    """Raises at each line that isn't that of a listener about itself."""

    calls = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("listening on "):
            return
        self.calls += 1
        raise Broken


@pytest.fixture
def raising(logs: Logs) -> Iterator[Raising]:
    logs.allow("")
    handler = Raising()
    logging.getLogger("silly").addHandler(handler)
    yield handler
    logging.getLogger("silly").removeHandler(handler)


def malformed(client: Raw) -> None:
    client.send("nonsense\r\n\r\n")
    assert client.response().status == 400
    client.eof()


def half_a_head(client: Raw) -> None:
    client.send("GET / HT")
    client.half_close()
    client.eof()


def bad_body(client: Raw) -> None:
    client.request("/body", "POST", "Transfer-Encoding: chunked")
    client.send("nonsense\r\n")
    assert client.response().status == 400


def no_answer(client: Raw) -> None:
    client.request("/silent")
    assert client.response().status == 500


def exception(client: Raw) -> None:
    client.request("/raises")
    assert client.response().status == 500


def no_upgrade(client: Raw) -> None:
    client.send(BAD["upgrade"])
    assert client.response().status == 400


def bad_frame(client: Raw) -> None:
    peer = Peer(client.conn)
    peer.send(peer.upgrade_request())
    assert peer.response().status == 101
    peer.send(b"\xff\xff")
    peer.get_close()


def handler(stream: Any) -> None:
    if stream.header["upgrade"]:
        sock, _ = websocket.upgrade(stream)
        if sock:
            assert sock.read()[0] is None
    elif stream.path == "/body":
        stream.readall()
    elif stream.path == "/raises":
        raise ZeroDivisionError
    elif stream.path != "/silent":
        hello(stream)


CAUSES = [malformed, bad_body, no_answer, exception, no_upgrade, bad_frame]


@pytest.mark.parametrize(
    ("scheme", "cause"),
    # TLS ends by a record of its own, not by a FIN.
    [("http", half_a_head), *[(scheme, cause) for scheme in ("http", "https") for cause in CAUSES]],
)
def test_a_line_about_a_peer_whose_handler_raises(
    cause: Callable[[Raw], None], scheme: str, raising: Raising, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer gets its answer, and the server goes on."""
    if cause is half_a_head:
        monkeypatch.setattr(logging.getLogger("silly"), "level", logging.DEBUG)
    with serving(handler, **({"certs": certs()} if scheme == "https" else {})) as server:
        with connected(server) as client:
            cause(client)
        assert raising.calls == 1
        with connected(server) as client:
            client.request("/next")
            assert client.response().status == 200


def test_a_failed_handshake_whose_line_raises(raising: Raising) -> None:
    with serving(handler, certs=certs()) as server:
        with Raw.connect(server) as client:
            client.send(b"\x16\x03\x01\x00\x05nonse")
            client.rest()
        assert tls.connect(f"127.0.0.1:{server.port}", "localhost")[1] is not None
        until(lambda: raising.calls >= 3)  # the client's line too
        with connected(server) as client:
            client.request("/next")
            assert client.response().status == 200


@pytest.mark.parametrize("error", [OSError(71, "Protocol error"), OSError(24, "Too many open files")])
def test_an_accept_that_fails_whose_line_raises(error: OSError, raising: Raising, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("silly.net._listener.PAUSE", 0.01)

    class Sock:
        """Fails once."""

        def __init__(self, sock: Any) -> None:
            self.sock = sock
            self.accept = self.fail

        def fail(self) -> Any:
            self.accept = self.sock.accept
            raise error

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    with serving(handler) as server:
        listener = server._listener
        listener._unregister(listener._bound)
        listener._bound.socks[0] = Sock(listener._bound.socks[0])
        listener._register(listener._bound)
        with connected(server) as client:
            client.request("/next")
            assert client.response().status == 200
        assert raising.calls == 1


def test_what_a_raising_handler_lost_is_on_stderr(raising: Raising, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with serving(handler) as server, connected(server) as client:
        malformed(client)
    assert "ERROR a handler of log lines failed at: http: 127.0.0.1:" in stderr.getvalue()
    assert stderr.getvalue().count("failed at") == 1
