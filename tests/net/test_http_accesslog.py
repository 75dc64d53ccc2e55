"""Access logs of the HTTP server: what each form writes, where to, and that nothing is lost or held up by it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from greenlet import GreenletExit

from silly import check, time
from silly._core import scheduler
from silly._wire.ws import BINARY, CLOSE, FIN, PING, TEXT
from silly.net import http, tcp, websocket
from silly.net.http import accesslog
from silly.sync import channel

from ..children import Child
from ..helpers import Peer, Raw, asking, serving, turn
from .http_support import certs, connected, hello
from .support import has_ipv6, until

WHEN = r"\[\d\d/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/\d{4}:\d\d:\d\d:\d\d \+0000\]"


@pytest.fixture(autouse=True)
def written_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesslog, "FLUSH", 0.001)


class Lines(io.StringIO):
    """A text file in memory; ``wait(count)`` gives its lines, once there are so many."""

    def wait(self, count: int) -> list[str]:
        until(lambda: self.getvalue().count("\n") >= count)
        lines = self.getvalue().split("\n")
        assert lines.pop() == ""
        assert len(lines) == count
        return lines


@contextmanager
def logged(form: str, handler: Callable[[Any], object] = hello, **options: Any) -> Iterator[tuple[Any, Lines]]:
    """A server, and the lines of its log."""
    lines = Lines()
    with serving(handler, accesslog=http.AccessLog(form, lines), **options) as server:
        yield server, lines
    settled()


def settled() -> None:
    """Waits until nothing is left to write."""
    until(lambda: not scheduler.loop.work)


# ---- the forms ------------------------------------------------------------------------------------------------------


def test_common() -> None:
    with logged("common") as (server, lines), connected(server) as client:
        client.request("/a%20b?c=d&e", "GET", "User-Agent: x", "Referer: y")
        client.response()
        (line,) = lines.wait(1)
        assert re.fullmatch(rf'127\.0\.0\.1 - - {WHEN} "GET /a%20b\?c=d&e HTTP/1\.1" 200 12', line)


def test_combined() -> None:
    with logged("combined") as (server, lines), connected(server) as client:
        client.request("/", "GET", "User-Agent: Mozilla/5.0 (X11; Linux)", "Referer: http://a/b?c")
        client.request("/x", "PUT")
        client.send("DELETE /old HTTP/1.0\r\n\r\n")
        for _ in range(3):
            client.response()
        one, two, three = lines.wait(3)
        start = rf"127\.0\.0\.1 - - {WHEN} "
        assert re.fullmatch(start + r'"GET / HTTP/1\.1" 200 7 "http://a/b\?c" "Mozilla/5\.0 \(X11; Linux\)"', one)
        assert re.fullmatch(start + r'"PUT /x HTTP/1\.1" 200 8 "-" "-"', two)
        assert re.fullmatch(start + r'"DELETE /old HTTP/1\.0" 200 10 "-" "-"', three)


def test_json() -> None:
    before = time.now()
    with logged("json") as (server, lines), connected(server) as client:
        client.request("/a?b", "POST", "User-Agent: x", "Referer: y", "Content-Length: 3", body="abc")
        client.response()
        (line,) = lines.wait(1)
        address = client.conn._stream.sock.getsockname()
    entry = json.loads(line)
    assert " ".join(entry) == "time remote host method target version status size ms referer agent"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert 0 <= entry.pop("ms") <= time.now() - before + 1
    assert entry == {
        "remote": f"127.0.0.1:{address[1]}",
        "host": "test",
        "method": "POST",
        "target": "/a?b",
        "version": "HTTP/1.1",
        "status": 200,
        "size": 8,
        "referer": "y",
        "agent": "x",
    }


def test_json_without_the_optional_ones() -> None:
    with logged("json", lambda stream: (stream.respond(204), stream.close())) as (server, lines), connected(server) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        client.response()
        entry = json.loads(lines.wait(1)[0])
        assert [entry[name] for name in ("host", "referer", "agent", "size", "status")] == [None, None, None, 0, 204]


def test_the_time_is_that_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesslog, "time", lambda: 951_782_400.0999)  # a leap day
    for form, due in (("common", "[29/Feb/2000:00:00:00 +0000]"), ("json", "2000-02-29T00:00:00.099Z")):
        with logged(form) as (server, lines), connected(server) as client:
            client.request()
            client.response()
            assert due in lines.wait(1)[0]


@pytest.mark.parametrize("bad", ["", "Common", "apache", None, 5, ["json"]])
def test_no_such_form(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        http.AccessLog(bad)


def test_mistakes_of_listen() -> None:
    for bad, kind in (("apache", ValueError), (5, TypeError), (io.StringIO(), TypeError), (True, TypeError)):
        given: Any = bad
        with pytest.raises(kind):
            http.listen("127.0.0.1:0", hello, accesslog=given)


# ---- what a peer chooses --------------------------------------------------------------------------------------------

HOSTILE = bytes(c for c in range(256) if c == 9 or (c >= 32 and c != 127))


@pytest.mark.parametrize("form", ["combined", "json"])
def test_hostile_header_values(form: str) -> None:
    """Every byte that a field may have: no line and no quotation ends by it, and no terminal is controlled."""
    value = b"x" + HOSTILE + b"x"
    with logged(form) as (server, lines), connected(server) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nReferer: " + value + b"\r\nUser-Agent: " + value + b"\r\n\r\n")
        client.response()
        (line,) = lines.wait(1)
    assert line.isascii()
    assert line.isprintable()
    if form == "json":
        entry = json.loads(line)
        assert entry["referer"] == entry["agent"] == value.decode("latin-1")
        return
    quoted = re.findall(r'"([^"]*)"', line)
    assert len(quoted) == 3
    for text in quoted[1:]:
        plain = re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text)
        assert plain == value.decode("latin-1")
        assert "\\" not in re.sub(r"\\x[0-9a-f]{2}", "", text)


@pytest.mark.parametrize("form", ["common", "combined", "json"])
def test_a_quote_in_the_target(form: str) -> None:
    target = '/"\\x22%0d%0a"'
    with logged(form) as (server, lines), connected(server) as client:
        client.request(target)
        client.response()
        (line,) = lines.wait(1)
    if form == "json":
        assert json.loads(line)["target"] == target
    else:
        assert '"GET /\\x22\\x5cx22%0d%0a\\x22 HTTP/1.1"' in line


@pytest.mark.parametrize("form", ["combined", "json"])
def test_a_line_is_as_long_as_the_limits_allow(form: str) -> None:
    with logged(form) as (server, lines), connected(server) as client:
        target = "/" + "x" * 8000
        client.request(target, "GET", "User-Agent: " + "\xff" * 8000)
        client.response()
        (line,) = lines.wait(1)
        assert target in line


# ---- who asks -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6() -> None:
    for form, due in (("common", "::1 - - ["), ("json", '"remote": "[::1]:')):
        lines = Lines()
        server = check(http.listen("[::1]:0", hello, accesslog=http.AccessLog(form, lines)))
        with server, Raw(check(tcp.connect(server.addr))) as client:
            client.request()
            client.response()
            (line,) = lines.wait(1)
            assert due in line
        settled()


def test_a_unix_domain_socket(tmp_path: Path) -> None:
    for form in ("common", "json"):
        lines = Lines()
        path = f'unix:{tmp_path}/s p"é'
        server = check(http.listen(path, hello, accesslog=http.AccessLog(form, lines)))
        with server, Raw(check(tcp.connect(path))) as client:
            client.request()
            client.response()
            (line,) = lines.wait(1)
            assert line.isascii()
            if form == "common":
                assert line.startswith("- - - [")
            else:
                assert json.loads(line)["remote"] == path
        settled()


def test_over_tls() -> None:
    with logged("common", certs=certs()) as (server, lines), connected(server) as client:
        client.request("/secret")
        client.response()
        assert '"GET /secret HTTP/1.1" 200' in lines.wait(1)[0]


# ---- what is logged, with which status and size ---------------------------------------------------------------------


def entry_of(handler: Callable[[Any], object], request: str, rest: bool = False, **options: Any) -> tuple[int, int]:
    """Status and size of the one entry that ``request`` leaves, which must be the size of the body that went out."""
    with logged("json", handler, **options) as (server, lines), connected(server) as client:
        client.send(request)
        body = client.rest().partition(b"\r\n\r\n")[2] if rest else client.response(request.partition(" ")[0]).body
        client.close()
        (line,) = lines.wait(1)
        entry = json.loads(line)
        assert entry["size"] == len(body)
        return entry["status"], entry["size"]


GET = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


def test_sizes_are_those_of_bodies(tmp_path: Path) -> None:
    def written(stream: Any) -> None:
        stream.respond(200)
        stream.write("abc")
        stream.write("de")
        stream.closewrite("f")

    def file(stream: Any) -> None:
        stream.respond(200, {"content-length": 7})
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        stream.sendfile(fd, 0, 7)
        os.close(fd)

    (tmp_path / "file").write_text("1234567")
    assert entry_of(hello, GET) == (200, 7)
    assert entry_of(written, GET) == (200, 6)
    assert entry_of(file, GET) == (200, 7)
    assert entry_of(lambda stream: stream.respond(404), GET) == (404, 0)
    for handler in (hello, written, file):
        assert entry_of(handler, HEAD) == (200, 0)
    assert entry_of(lambda stream: (stream.respond(304), stream.close("dropped")), GET) == (304, 0)
    assert entry_of(lambda stream: (stream.respond(304), stream.write("dropped")), GET) == (304, 0)


def test_errors_of_handlers(logs: Any) -> None:
    logs.expect("ERROR exception in the handler")
    logs.expect("the handler did not respond")

    def fails(stream: Any) -> None:
        raise ZeroDivisionError

    def breaks_off(stream: Any) -> None:
        stream.respond(200, {"content-length": 10})
        stream.write("half")
        raise ZeroDivisionError

    assert entry_of(fails, GET)[0] == 500
    assert entry_of(lambda stream: None, GET)[0] == 500
    assert entry_of(breaks_off, GET, rest=True) == (200, 4)


@pytest.mark.parametrize(("body", "status"), [("Content-Length: 50\r\n\r\n", 413), (CHUNKED + "\r\n\r\nx\r\n", 400)])
def test_bad_bodies(body: str, status: int, logs: Any) -> None:
    logs.expect("INFO http: ")
    assert entry_of(lambda stream: stream.readall(10), "POST / HTTP/1.1\r\nHost: x\r\n" + body)[0] == status


@pytest.mark.parametrize(
    ("request_", "status"), [("nonsense\r\n\r\n", 400), ("GET / HTTP/9.9\r\n\r\n", 505), ("GET / HT", 408)]
)
def test_what_is_no_request(request_: str, status: int, logs: Any) -> None:
    logs.expect("INFO http: ")
    limits = {"head_timeout": 20}
    for form in ("common", "combined", "json"):
        with logged(form, limits=limits) as (server, lines), connected(server) as client:
            client.send(request_)
            response = client.response()
            assert response.status == status
            client.eof()
            (line,) = lines.wait(1)
            if form == "json":
                entry = json.loads(line)
                names = ("host", "method", "target", "version", "referer", "agent")
                assert [entry[name] for name in names] == [None] * 6
                assert (entry["status"], entry["size"]) == (status, len(response.body))
            else:
                due = rf'127\.0\.0\.1 - - {WHEN} "-" {status} {len(response.body)}'
                assert re.fullmatch(due + (' "-" "-"' if form == "combined" else ""), line)


def test_what_is_not_supported(logs: Any) -> None:
    logs.expect("TRACE is not supported")
    with logged("common") as (server, lines), connected(server) as client:
        client.request("/", "TRACE")
        assert client.response().status == 501
        assert ' "-" 501 ' in lines.wait(1)[0]


def test_websockets_and_tunnels() -> None:
    """They are logged as they end."""

    def handler(stream: Any) -> None:
        if stream.method == "CONNECT":
            stream.detach()
            return
        sock, _ = websocket.upgrade(stream)
        sock.read()
        sock.close()

    with logged("common", handler, methods=["CONNECT"]) as (server, lines):
        with Peer.connect(server) as peer:
            peer.send(peer.upgrade_request())
            assert peer.response().status == 101
            turn(20)
            assert lines.getvalue() == ""
            peer.put_close()
            peer.get_close()
            peer.eof()
        assert '"GET /chat?x=1 HTTP/1.1" 101 4 close=1000 messages=0/0 bytes=8/4 ms=' in lines.wait(1)[0]
        with connected(server) as client:
            client.request("a:80", "CONNECT")
            client.read("\r\n\r\n")
            client.eof()
        assert '"CONNECT a:80 HTTP/1.1" 200 -' in lines.wait(2)[1]


@contextmanager
def websocket_logged(
    form: str, handler: Callable[[Any], object], *, tls: bool = False, log: dict[str, Any] | None = None, **limits: int
) -> Iterator[tuple[Peer, Lines]]:
    """A raw WebSocket peer of ``handler(sock)``, and the lines of the log."""

    def upgraded(stream: Any) -> None:
        sock = check(websocket.upgrade(stream))
        handler(sock)

    lines = Lines()
    access = http.AccessLog(form, lines, **(log or {}))
    with serving(upgraded, accesslog=access, limits=limits, **({"certs": certs()} if tls else {})) as server:
        raw = connected(server)
        with Peer(raw.conn) as peer:
            peer.send(peer.upgrade_request("Referer: https://a.example/page?token=2", "User-Agent: x"))
            assert peer.response().status == 101
            yield peer, lines
    settled()


def test_a_websocket_s_messages_and_bytes_are_counted_however_they_come_and_go() -> None:
    """Whole, in batches, in fragments, in pieces, while nobody reads; written by each of the ways there are."""
    said = channel.new()

    def handler(sock: Any) -> None:
        for _ in range(4):
            assert sock.read()[0] is not None  # one alone, and a batch of three
        assert sock.read() == ("ab", "text")  # two fragments
        assert b"".join(sock.pieces()) == b"piece by piece"
        said.push("looks away")
        time.sleep(1)
        until(lambda: sock._session.set_aside == 1)
        assert sock.read() == ("later", "text")
        assert sock.read() == (b"", "ping")
        assert sock.write("text", "text")[0]
        assert sock.write(bytearray(b"not bytes"))[0]
        assert sock.write(b"x" * 100_000)[0]
        assert sock.write(b"", "ping")[0]
        with sock.message() as message:
            message.write(b"in ")
            message.flush()
            message.write(b"pieces")
        assert sock.read() == (b"\x0f\xa1", "close")

    sent = received = 0
    with websocket_logged("json", handler) as (peer, lines):

        def put(*frames: tuple[int, bytes]) -> None:
            nonlocal sent
            data = b"".join(peer.frame(*frame) for frame in frames)
            sent += len(data)
            peer.send(data)

        put((FIN | TEXT, b"alone"))
        put(*[(FIN | BINARY, b"batch")] * 3)
        put((TEXT, b"a"), (FIN, b"b"))
        put((BINARY, b"piece "), (FIN, b"by piece"))
        said.pop()
        put((FIN | TEXT, b"later"))
        put((FIN | PING, b""))
        payload = b""
        while payload != b"pieces":
            _, payload = peer.get()
            received += len(payload) + (2 if len(payload) < 126 else 4 if len(payload) < 65536 else 10)
        put((FIN | CLOSE, b"\x0f\xa1"))
        received += len(peer.rest())
        (line,) = lines.wait(1)
    entry = json.loads(line)
    assert {name: entry[name] for name in accesslog.Account._fields} == {
        "close": 4001,
        "cause": "closed by the peer: 4001",
        "messages_in": 7,
        "messages_out": 4,
        "bytes_in": sent,
        "bytes_out": received,
    }
    assert (entry["status"], entry["size"]) == (101, received)


def test_a_websocket_s_bytes_over_tls_are_those_of_the_connection() -> None:
    """In both directions: the records, not only the frames in them."""

    def handler(sock: Any) -> None:
        assert sock.read() == ("x" * 100, "text")
        sock.write("y" * 100, "text")
        sock.read()

    with websocket_logged("json", handler, tls=True) as (peer, lines):
        stream = peer.conn._stream
        received, written = stream.received, stream.written()
        peer.put(FIN | TEXT, b"x" * 100)
        assert peer.get() == (FIN | TEXT, b"y" * 100)
        received = stream.received - received
        peer.put_close(1000)
        written = stream.written() - written
        assert peer.get_close()[0] == 1000
        entry = json.loads(lines.wait(1)[0])
    assert written > 100 + 6 + 8 + 2 * 20
    assert entry["bytes_in"] == written
    assert entry["bytes_out"] >= received + 4 + 20


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("end", "code", "cause"),
    [
        ("ours", 4002, "closed here: 4002"),
        ("theirs", 1001, "closed by the peer: 1001 'bye'"),
        ("no code", 1005, "closed by the peer: 1005"),
        ("cut", 1006, "ended without|EOF|end of file|TLS|Connection reset"),
        ("broken", 1002, "reserved bit set"),
        ("raises", 1011, "closed here: 1011"),
    ],
)
def test_a_websocket_s_close_code(end: str, code: int, cause: str, tls: bool, logs: Any) -> None:
    logs.allow("reserved bit set|exception in the handler")

    def handler(sock: Any) -> None:
        sock.write("hello", "text")
        if end == "ours":
            sock.close(4002)
        elif end == "raises":
            raise ZeroDivisionError
        else:
            sock.read()

    with websocket_logged("json", handler, tls=tls) as (peer, lines):
        assert peer.get() == (FIN | TEXT, b"hello")
        if end == "theirs":
            peer.put_close(1001, "bye")
        elif end == "no code":
            peer.put(FIN | CLOSE)
        elif end == "cut":
            peer.reset() if not tls else peer.conn._stream.abort()
        elif end == "broken":
            peer.put(0xC1)
        else:
            peer.put_close(peer.get_close()[0])
        (line,) = lines.wait(1)
        entry = json.loads(line)
        assert entry["close"] == code
        assert re.search(cause, entry["cause"] or "")
        assert entry["messages_out"] == 1
        assert entry["bytes_out"] >= 7


def test_a_websocket_that_its_task_s_end_cuts_is_logged_with_its_account() -> None:
    def handler(sock: Any) -> None:
        sock.write("hello", "text")
        raise GreenletExit

    with websocket_logged("json", handler) as (peer, lines):
        assert peer.get() == (FIN | TEXT, b"hello")
        peer.put_close(peer.get_close()[0])
        entry = json.loads(lines.wait(1)[0])
        assert (entry["close"], entry["messages_out"]) == (1000, 1)


@pytest.mark.parametrize("form", ["common", "combined"])
def test_a_websocket_s_line_is_parsed_as_every_other(form: str) -> None:
    """What is more stands behind the fields that analysers know."""
    with websocket_logged(form, lambda sock: sock.read()) as (peer, lines):
        peer.put_close(1000)
        (line,) = lines.wait(1)
    fields = r'(\S+) (\S+) (\S+) \[([^]]+)\] "([^"]*)" (\d{3}) (\d+|-)'
    if form == "combined":
        fields += r' "([^"]*)" "([^"]*)"'
    known = re.match(fields, line)
    assert known is not None
    assert known[5] == "GET /chat?x=1 HTTP/1.1"
    assert re.fullmatch(r" close=1000 messages=0/0 bytes=8/4 ms=\d+", line[known.end() :])


# ---- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["common", "combined", "json"])
def test_queries_are_not_logged_if_the_log_says_so(form: str) -> None:
    lines = Lines()
    with serving(hello, accesslog=http.AccessLog(form, lines, query=False)) as server, connected(server) as client:
        for target in ("/a?token=1", "/a?token=1?x", "http://test/a?token=1", "/a", "*"):
            client.request(target, "OPTIONS" if target == "*" else "GET", "Referer: https://b.example/c?token=2#token=3")
            client.response()
        found = lines.wait(5)
    assert "token" not in lines.getvalue()
    if form == "json":
        assert [json.loads(line)["target"] for line in found] == ["/a", "/a", "/a", "/a", "*"]
        assert {json.loads(line)["referer"] for line in found} == {"https://b.example/c"}
    elif form == "combined":
        assert all('"https://b.example/c" ' in line for line in found)


def test_the_query_of_a_websocket_is_not_logged_if_the_log_says_so() -> None:
    with websocket_logged("json", lambda sock: sock.read(), log={"query": False}) as (peer, lines):
        peer.put_close()
        entry = json.loads(lines.wait(1)[0])
    assert (entry["target"], entry["referer"]) == ("/chat", "https://a.example/page")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@b.example/c@d?e@f", "https://b.example/c@d?e@f"),
        ("https://b.example/c@d", "https://b.example/c@d"),
        ("https://a@b:secret@b.example", "https://b.example"),
        ("/c@d?to=https://u@b.example", "/c@d?to=https://u@b.example"),
        ("//u:secret@b.example/c", "//b.example/c"),
    ],
)
def test_the_password_of_a_url_is_never_logged(url: str, shown: str) -> None:
    with logged("json") as (server, lines), connected(server) as client:
        client.request("/", "GET", f"Referer: {url}")
        client.response()
        assert json.loads(lines.wait(1)[0])["referer"] == shown


@pytest.mark.parametrize("bad", [None, 1, "no", ["token"]])
def test_no_such_query(bad: Any) -> None:
    with pytest.raises(TypeError, match="query is True or False"):
        http.AccessLog(query=bad)


# ---- and more of what is logged -------------------------------------------------------------------------------------


def test_a_request_is_logged_when_its_handler_ends() -> None:
    """Not when its client has sent the rest of a body that nobody reads; and that isn't in its time."""
    with logged("json") as (server, lines), connected(server) as client:
        client.request("/", "POST", "Content-Length: 10")
        assert client.response().status == 200
        assert json.loads(lines.wait(1)[0])["ms"] < 5000
        client.send("0123456789")
        client.request("/next")
        assert client.response().status == 200
        assert json.loads(lines.wait(2)[1])["target"] == "/next"


def test_what_was_answered_is_logged_though_its_task_is_ended() -> None:
    lines = StringIO()

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.closewrite("bye")
        raise GreenletExit

    with asking(handler, accesslog=http.AccessLog("common", lines)) as client:
        client.request("/last")
        assert client.response().body == b"bye"
        until(lines.getvalue)
    assert '"GET /last HTTP/1.1" 200 3\n' in lines.getvalue()


def test_what_was_not_answered_is_not_logged() -> None:
    lines = StringIO()

    def handler(stream: Any) -> None:
        if stream.path == "/ends":
            raise GreenletExit
        hello(stream)

    with serving(handler, accesslog=http.AccessLog("common", lines)) as server:
        for path in ("/ends", "/next"):
            with Raw.connect(server) as client:
                client.request(path)
                if path == "/ends":
                    client.eof()
                else:
                    assert client.response().status == 200
        until(lines.getvalue)
    assert lines.getvalue().count("\n") == 1
    assert '"GET /next HTTP/1.1" 200 ' in lines.getvalue()


def test_no_log_of_a_connection_without_a_request() -> None:
    with logged("common") as (server, lines):
        for _ in range(3):
            with connected(server) as client:
                client.half_close()
                client.eof()
        turn(20)
        assert lines.getvalue() == ""


def test_order() -> None:
    with logged("common") as (server, lines), connected(server) as client:
        for i in range(500):
            client.request(f"/{i}")
        for _ in range(500):
            client.response()
        targets = [re.search(r'"GET /(\d+) ', line)[1] for line in lines.wait(500)]  # type: ignore[index]
        assert targets == [str(i) for i in range(500)]


def test_one_log_of_two_servers() -> None:
    lines = Lines()
    log = http.AccessLog("common", lines)
    with serving(hello, accesslog=log) as one, serving(hello, accesslog=log) as two:
        for server in (one, two):
            with connected(server) as client:
                client.request()
                client.response()
        lines.wait(2)
    settled()


# ---- where to -------------------------------------------------------------------------------------------------------


def ask(server: Any, *paths: str) -> None:
    with connected(server) as client:
        for path in paths:
            client.request(path)
            assert client.response().status == 200


def paths_in(file: Path) -> list[str]:
    return re.findall(r'"GET (\S+) ', file.read_text())


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path(kind: Any, tmp_path: Path) -> None:
    """Lines are appended."""
    file = tmp_path / "access.log"
    file.write_text("what was there\n")
    with http.AccessLog("common", kind(file)) as log, serving(hello, accesslog=log) as server:
        ask(server, "/a", "/b")
        until(lambda: paths_in(file) == ["/a", "/b"])
        settled()
    assert file.read_text().startswith("what was there\n127")


def test_reopen(tmp_path: Path) -> None:
    file, old = tmp_path / "access.log", tmp_path / "access.log.1"
    with http.AccessLog("common", str(file)) as log, serving(hello, accesslog=log) as server:
        ask(server, "/a")
        until(lambda: paths_in(file) == ["/a"])
        file.rename(old)
        ask(server, "/b")
        until(lambda: paths_in(old) == ["/a", "/b"])
        log.reopen()
        ask(server, "/c")
        until(lambda: paths_in(file) == ["/c"])
        assert paths_in(old) == ["/a", "/b"]
        settled()


def test_reopen_where_it_fails(tmp_path: Path) -> None:
    """The old file stays in use."""
    file = tmp_path / "logs" / "access.log"
    file.parent.mkdir()
    with http.AccessLog("common", file) as log, serving(hello, accesslog=log) as server:
        file.rename(tmp_path / "old")
        file.parent.rmdir()
        with pytest.raises(OSError):
            log.reopen()
        ask(server, "/a")
        until(lambda: paths_in(tmp_path / "old") == ["/a"])
        settled()


class Gate:
    """Stands for a disk: lets the log write while it is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        write = http.AccessLog._write

        def gated(log: Any, file: Any, entries: Any) -> None:
            self.reached.set()
            if not self._open.wait(30):
                raise OSError("the test has forgotten to open the gate")
            write(log, file, entries)

        monkeypatch.setattr(http.AccessLog, "_write", gated)

    def open(self) -> None:
        self._open.set()


def test_reopen_and_close_while_lines_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write that is under way goes where it was to go."""
    gate = Gate(monkeypatch)
    file, old = tmp_path / "access.log", tmp_path / "access.log.1"
    log = http.AccessLog("common", str(file))
    with serving(hello, accesslog=log) as server:
        ask(server, "/a")
        until(gate.reached.is_set)
        file.rename(old)
        log.reopen()
        log.reopen()
        ask(server, "/b")
        log.close()
        log.close()
        ask(server, "/never")
        gate.open()
        until(lambda: paths_in(file) == ["/b"])
        assert paths_in(old) == ["/a"]
        settled()
    log.reopen()  # of no use any more
    assert paths_in(file) == ["/b"]


def test_a_closed_log(tmp_path: Path) -> None:
    lines = Lines()
    for to in (tmp_path / "log", lines, None):
        log = http.AccessLog("common", to)
        log.close()
        with serving(hello, accesslog=log) as server:
            ask(server, "/a")
    assert paths_in(tmp_path / "log") == []
    assert lines.getvalue() == ""
    assert not lines.closed


def test_an_open_file(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as file:
        log = http.AccessLog("common", file)
        with serving(hello, accesslog=log) as server:
            ask(server, "/a")
            until(lambda: paths_in(tmp_path / "log") == ["/a"])
            log.reopen()  # of no effect: it was not opened here
            log.close()
            settled()
        assert not file.closed


def test_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the form alone; it is the one of the time of the writing."""
    lines = Lines()
    with serving(hello, accesslog="common") as server:
        monkeypatch.setattr("sys.stderr", lines)
        ask(server, "/a")
        assert '"GET /a HTTP/1.1"' in lines.wait(1)[0]
        settled()


def test_a_path_that_cant_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        http.AccessLog("common", str(tmp_path / "no" / "such"))
    with pytest.raises(OSError):
        http.AccessLog("common", tmp_path)


@pytest.mark.parametrize("bad", [5, b"path", ["x"], True])
def test_no_file(bad: Any) -> None:
    with pytest.raises(TypeError):
        http.AccessLog("common", bad)


# ---- off the hot path -----------------------------------------------------------------------------------------------


def test_another_thread_writes() -> None:
    threads = []

    class Noting(Lines):
        def write(self, text: str) -> int:
            threads.append(threading.get_ident())
            return super().write(text)

    lines = Noting()
    with serving(hello, accesslog=http.AccessLog("common", lines)) as server:
        ask(server, "/a", "/b")
        lines.wait(2)
        settled()
    assert threading.get_ident() not in threads


def test_a_blocked_disk_delays_no_request(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """And what waits for it is bounded: of the rest the number is told."""
    logs.expect("ERROR access log: 70 lines were dropped, since they could not be written fast enough")
    monkeypatch.setattr(accesslog, "MOST", 50)
    gate = Gate(monkeypatch)
    with logged("common") as (server, lines), connected(server) as client:
        client.request("/first")
        client.response()
        until(gate.reached.is_set)
        for i in range(120):
            client.request(f"/{i}")
            assert client.response().status == 200
        assert lines.getvalue() == ""
        gate.open()
        found = lines.wait(51)
        assert '"GET /first ' in found[0]
        assert '"GET /49 ' in found[50]
        client.request("/last")
        client.response()
        assert '"GET /last ' in lines.wait(52)[51]


def test_a_fifo_that_nobody_reads(tmp_path: Path) -> None:
    """A real one: it takes 64 KiB, then the thread that writes to it stands."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with http.AccessLog("json", tmp_path / "fifo") as log, serving(hello, accesslog=log) as server:
            with connected(server) as client:
                for i in range(300):
                    client.request(f"/{i:04}{'x' * 1000}")
                    assert client.response().status == 200
            got = b""
            while got.count(b"\n") < 300:
                try:
                    got += os.read(reader, 65536)
                except BlockingIOError:
                    time.sleep(1)
            targets = [json.loads(line)["target"][:5] for line in got.splitlines()]
            assert targets == [f"/{i:04}" for i in range(300)]
            settled()
    finally:
        os.close(reader)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk(logs: Any, tmp_path: Path) -> None:
    """It is told, costs only those lines, and the log goes on when there is room again."""
    logs.expect(r"ERROR access log: lines were lost: \[Errno 28\] No space left on device")
    file = tmp_path / "log"
    file.symlink_to("/dev/full")
    with http.AccessLog("common", file) as log, serving(hello, accesslog=log) as server:
        ask(server, "/lost")
        until(lambda: logs.lines)
        ask(server, "/lost-too")
        until(lambda: len(logs.lines) == 2)
        file.unlink()
        log.reopen()
        ask(server, "/kept")
        until(lambda: file.exists() and paths_in(file) == ["/kept"])
        settled()
    assert len(logs.lines) == 2


def test_a_file_object_that_raises(logs: Any) -> None:
    logs.expect("ERROR access log: lines were lost: I/O operation on closed file[.]?\n  Traceback")
    lines = Lines()
    with serving(hello, accesslog=http.AccessLog("common", lines)) as server:
        lines.close()
        ask(server, "/a")
        until(lambda: logs.lines)
        settled()


def test_no_thread_to_write(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """The log goes on when there is one again, and the process can end."""
    logs.expect("ERROR access log: lines were lost: can't start new thread")
    submit = accesslog.worker.files.submit

    def refused(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    with logged("common") as (server, lines):
        monkeypatch.setattr(accesslog.worker.files, "submit", refused)
        ask(server, "/lost")
        until(lambda: logs.lines)
        settled()
        monkeypatch.setattr(accesslog.worker.files, "submit", submit)
        ask(server, "/kept")
        assert '"GET /kept ' in lines.wait(1)[0]


def write_now(log: http.AccessLog) -> None:
    """Writes what waits, before it is due."""
    for _, _, timer in scheduler.loop.timers.heap:
        if timer.callback == log._flush:
            scheduler.loop.timers.cancel(timer)
    log._flush(None)
    until(lambda: not log._due)


def test_what_waits_for_a_disk_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """Targets and header fields are long if a peer wants: the number of lines alone would let them fill the memory."""
    monkeypatch.setattr(accesslog, "FLUSH", 3600.0)
    monkeypatch.setattr(accesslog, "MOST_TEXT", 100_000)
    lines = StringIO()
    log = http.AccessLog("combined", lines)
    with asking(lambda stream: stream.respond(204), accesslog=log) as client:
        for _ in range(50):
            client.request("/" + "t" * 3000, "GET", "User-Agent: " + "u" * 3000, "Referer: " + "r" * 3000)
            assert client.response().status == 204
        assert len(log._entries) == 12
        logs.expect("38 lines were dropped")
        write_now(log)
        client.request("/again")
        assert client.response().status == 204
        write_now(log)
    assert len(lines.getvalue().splitlines()) == 13


# ---- the end of the process -----------------------------------------------------------------------------------------

SCRIPT = """
import sys
import silly
from silly import task
from silly.net import http

def handler(stream):
    stream.respond(200)
    stream.close("x")
    if stream.path == "/exit":
        task.fork(silly.exit)

server, err = http.listen("127.0.0.1:0", handler, accesslog=http.AccessLog("common", sys.argv[1]))
print(server.port, flush=True)
silly.run()
"""


def exchange(port: int, count: int, last: str) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        paths = [f"/{i}" for i in range(count)] + [last]
        sock.sendall("".join([f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths]).encode())
        got = b""
        while got.count(b"\r\n\r\nx") < len(paths):
            data = sock.recv(65536)
            assert data, got[-200:]
            got += data


@pytest.mark.parametrize("how", ["exit", "SIGTERM", "SIGINT"])
def test_nothing_is_lost_at_the_end(how: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    with Child("-c", SCRIPT, str(file)) as child:
        exchange(int(child.line()), 200, "/exit" if how == "exit" else "/last")
        if how != "exit":
            child.process.send_signal(getattr(signal, how))
        assert child.wait() == 0
        assert child.errors() == ""
    assert paths_in(file) == [f"/{i}" for i in range(200)] + ["/exit" if how == "exit" else "/last"]


def test_a_blocked_disk_at_the_end(tmp_path: Path) -> None:
    """The process ends all the same, after its grace, and in good order."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        short = "ending.plan, ending.FINALLY = ending.Plan(drain=0), 0.3"
        script = SCRIPT.replace("import silly\n", f"import silly\nfrom silly._core import ending\n{short}\n", 1)
        with Child("-c", script, str(tmp_path / "fifo")) as child:
            exchange(int(child.line()), 2000, "/exit")
            assert child.wait() == 0, child.errors()
            assert child.errors() == ""
    finally:
        os.close(reader)
