"""What a review of the HTTP server found: responses that only look complete, slow clients, bounds, and accounting."""

from __future__ import annotations

import socket
import subprocess
import sys
from enum import Enum, StrEnum
from io import StringIO
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import check, errno, time
from silly._core import scheduler
from silly._wire import http1
from silly._wire.http1 import ChunkedReader
from silly.net import http, tcp, tls, websocket
from silly.net._stream import Stream
from silly.net._tls_server import Configuration
from silly.net.http import accesslog
from silly.sync import channel

from ..helpers import WITHIN, Peer, Raw, asking, serving
from .http_support import Held, certs, connected, hello
from .support import turns, until

MIB = 2**20


def small(server: Any) -> Raw:
    """A client whose system takes little before the client itself reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.connect(("127.0.0.1", server.port))
    sock.setblocking(False)
    client = Raw(tcp.Conn(Stream(sock, f"127.0.0.1:{server.port}")))
    client.conn.limit(1)  # nothing is read ahead
    return client


def all_of(client: Raw) -> tuple[bytes, str | None]:
    """What comes until the end, and how that came."""
    stream = client.conn._stream
    got = bytearray()
    while True:
        data, err = client.conn.read(1, WITHIN)
        if data is None:
            return bytes(got), err
        got += data + stream.take(len(stream.buf))


# ---- responses that only look complete ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["returns", "closes", "writes on"])
def test_after_a_write_that_failed_the_response_is_not_completed(ending: str) -> None:
    """Chunks would be missing in the middle of a body, or at its end, that is ended in good order all the same."""
    done = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        with time.deadline(20):
            while stream.write(b"x" * 100_000):
                pass
            assert not stream.write(b"left out")
        if ending == "writes on":
            assert not stream.write(b"more")
        if ending == "closes":
            assert not stream.closewrite(b"the end")
        done.push(True)

    with serving(handler, limits={"unsent": 100_000}) as server, small(server) as client:
        client.request()
        done.pop()
        got, err = all_of(client)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert err == errno.EOF
    assert b"left out" not in got
    assert b"the end" not in got
    assert b"more" not in got
    assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("error", [ValueError, GreenletExit])
def test_a_body_that_ends_with_the_connection_is_cut_by_a_reset(error: type[BaseException], logs: Any) -> None:
    """To HTTP/1.0 the end of the connection is the end of the body: one that is incomplete must not look like it."""
    go = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("the first half")
        stream.flush()
        go.pop()
        raise error

    if error is ValueError:
        logs.expect(r"exception in the handler")
    with serving(handler) as server, Raw.connect(server) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        client.read("the first half")
        go.push(True)
        assert client.conn.read(1, WITHIN) == (None, errno.CONNRESET)


def test_a_response_is_over_when_its_handler_has_raised(logs: Any) -> None:
    """A task that the handler left behind can't go on with it, which would look complete."""
    logs.expect(r"exception in the handler")
    left: list[Any] = []

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("the first half")
        left.append(stream)
        raise ValueError

    with asking(handler) as client:
        client.request()
        assert client.read("the first half").endswith(b"e\r\nthe first half")
        client.read(2)
        assert left[0].write("the rest") == (False, "the handler raised")
        assert left[0].closewrite() == (False, "the handler raised")
        client.eof()


def test_a_response_without_a_body_is_not_cut_by_a_reset(logs: Any) -> None:
    """Its head says all that there is, and a reset might destroy it."""
    logs.expect(r"exception in the handler")

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.flush()
        raise ValueError

    with asking(handler) as client:
        client.send("HEAD / HTTP/1.0\r\n\r\n")
        assert client.read("\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        client.eof()


def test_a_websocket_is_closed_though_its_task_is_ended() -> None:
    def handler(stream: Any) -> None:
        check(websocket.upgrade(stream))
        raise GreenletExit

    with serving(handler) as server, Peer.connect(server) as peer:
        peer.send(peer.upgrade_request())
        assert peer.response().status == 101
        assert peer.get_close() == (1000, "")
        peer.put_close()
        peer.eof()


def test_drain_cuts_a_body_that_ends_with_the_connection_by_a_reset() -> None:
    held = Held()
    with serving(held.handler) as server, Raw.connect(server) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        stream = held.pop()
        stream.respond(200)
        stream.write("the first half")
        stream.flush()
        client.read("the first half")
        assert not server.drain(20)
        assert client.conn.read(1, WITHIN) == (None, errno.CONNRESET)
        held.release()


@pytest.mark.parametrize("ending", ["the handler returns", "its task is ended", "the server drains"])
def test_a_body_that_was_cut_ends_by_a_reset(ending: str) -> None:
    """A write that failed has left a piece out. The peer has taken all the others, so nothing
    but a reset tells it that the body is incomplete."""
    held: list[Any] = []
    go = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200)
        with time.deadline(20):
            while stream.write(b"x" * 100_000):
                pass
        held.append(stream)
        go.pop()
        if ending == "its task is ended":
            raise GreenletExit

    with serving(handler, limits={"unsent": 100_000}) as server, small(server) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        until(lambda: held)
        client.conn.limit(2**30)
        until(lambda: held[0].conn.unsentbytes() == 0)
        if ending == "the server drains":
            assert not server.drain(20)
        go.push(True)
        got, err = all_of(client)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert err == errno.CONNRESET


def test_a_client_that_reads_only_after_its_upload_gets_a_long_answer() -> None:
    """What it sends is taken before the answer is delivered, and not the other way round: it
    reads nothing of the answer before all of the upload has gone."""
    size = 4 * MIB

    def handler(stream: Any) -> None:
        stream.respond(413)
        stream.closewrite(bytes(size))

    with serving(handler, limits={"unsent": 2 * size}) as server, small(server) as client:
        client.request("/", "POST", "Content-Length: 40000000")
        with time.deadline(WITHIN):
            for _ in range(40):
                assert client.conn.write(bytes(1_000_000)) == (True, None)
        client.conn.limit(2**30)
        response = client.response()
        assert (response.status, len(response.body)) == (413, size)


def test_what_is_dropped_unsent_ends_in_a_reset() -> None:
    """The limit ``linger`` cuts off a body that ends with the connection: a FIN would say that it is complete."""

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.closewrite(bytes(12 * MIB))

    def accept(conn: Any) -> None:
        conn.write(bytes(12 * MIB))
        conn.close()

    limits = silly.Limits(linger=50, unsent=16 * MIB)
    listener, _ = tcp.listen("127.0.0.1:0", accept, limits=limits)
    assert listener is not None
    with listener, small(listener) as client:
        client.read(1)
        until(lambda: scheduler.loop.work == 0)
        got, err = all_of(client)
    assert len(got) < 12 * MIB
    assert err == errno.CONNRESET


class Text(StrEnum):
    """Has a value that is text, and other text for people."""

    HTML = "text/html"

    def __str__(self) -> str:
        return "a\r\nset-cookie: b=c"


class Number(int, Enum):
    """Has a value that is a number, and text for people."""

    FOUR = 4

    def __str__(self) -> str:
        return "a\r\nset-cookie: b=c"


def test_a_value_goes_out_as_it_was_checked() -> None:
    """What an enumeration is for people is not its value, and may hold line ends."""

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-type": Text.HTML, "x-number": Number.FOUR, "content-length": Number.FOUR})
        stream.closewrite("four", {"x-trailer": Text.HTML})

    with asking(handler) as client:
        client.request()
        response = client.response()
    assert (response.header["content-type"], response.header["x-number"]) == ("text/html", "4")
    assert response.body == b"four"
    assert "set-cookie" not in response.header


# ---- slow clients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["client closes", "handler closes", "idle", "server closes", "bad request"])
def test_a_slow_client_gets_all_of_its_response(how: str, logs: Any) -> None:
    """The limits ``linger`` and ``idle_timeout`` are no bounds for the delivery of a response; ``write_timeout`` is."""
    size = 12 * MIB
    done = channel.new()

    def handler(stream: Any) -> None:
        stream.respond(200, {"connection": "close"} if how == "handler closes" else None)
        assert stream.closewrite(bytes(size))
        done.push(True)

    limits = {"linger": 50, "idle_timeout": 50, "unsent": 16 * MIB}
    if how == "bad request":
        logs.expect("bad request line")
    with serving(handler, limits=limits) as server, small(server) as client:
        client.request("/", "GET", *(["Connection: close"] if how == "client closes" else []))
        if how == "bad request":
            client.send("nonsense\r\n\r\n")
        done.pop()
        if how == "server closes":
            server.close()
        client.read(1)
        time.sleep(150)
        got, err = all_of(client)
    assert len(got) > size
    assert err == errno.EOF


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_method_is_never_taken_for_a_websocket_route() -> None:
    """``websocket`` is a token, so a request may have it for its method."""
    router = http.router()
    called = []

    @router.websocket("/chat")
    def chat(stream: Any) -> None:
        called.append(stream.method)

    with asking(router) as client:
        client.request("/chat", "websocket")
        response = client.response()
    assert response.status == 405
    assert not called


def test_an_empty_line_between_requests_is_no_request() -> None:
    """Some clients send one behind a body (RFC 9112, section 2.2); a 408 would answer their next request."""

    def handler(stream: Any) -> None:
        stream.readall()
        stream.respond(200)

    with asking(handler, limits={"head_timeout": 30}) as client:
        client.request("/", "POST", "Content-Length: 2", body=b"ab\r\n")
        assert client.response().status == 200
        client.eof()


def test_a_bad_body_of_head_is_answered_without_one(logs: Any) -> None:
    def handler(stream: Any) -> None:
        assert not stream.readall()[0]

    logs.expect("bad chunk size")
    with asking(handler) as client:
        client.request("/", "HEAD", "Transfer-Encoding: chunked", body=b"nonsense\r\n")
        head = client.read("\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        client.half_close()
        client.eof()


# ---- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["readall", "read", "pieces"])
def test_others_run_between_chunks_of_one_byte(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tens of thousands of them arrive at once: to decode all in one go would hold the loop."""
    size = 10_000
    most = []
    read = ChunkedReader.read

    def counted(self: ChunkedReader, *args: Any) -> bytes:
        piece = read(self, *args)
        most.append((scheduler.loop.turns, len(piece)))
        return piece

    monkeypatch.setattr(ChunkedReader, "read", counted)
    held = Held()
    with serving(held.handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * size + b"0\r\n\r\n")
        stream = held.pop()
        until(lambda: len(stream.conn._stream.buf) > 5 * size)
        if way == "readall":
            body = stream.readall()[0]
        elif way == "read":
            body = stream.read(size)[0]
        else:
            body = b"".join(stream.pieces())
        assert body == b"x" * size
        held.release()
        assert client.response().status == 200
    by_turn: dict[int, int] = {}
    for turned, count in most:
        by_turn[turned] = by_turn.get(turned, 0) + count
    assert max(by_turn.values()) <= 2000


def test_others_run_between_small_reads() -> None:
    held = Held()
    with serving(held.handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 50000", body=b"x" * 50_000)
        stream = held.pop()
        until(lambda: len(stream.conn._stream.buf) == 50_000)
        before = scheduler.loop.turns
        assert all(stream.read(1) == (b"x", None) for _ in range(50_000))
        assert scheduler.loop.turns - before > 40
        held.release()
        assert client.response().status == 200


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


def test_a_connection_that_could_not_be_taken_is_not_counted(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    """Else a few failures of the system would use up the limit for ever."""

    def refuse(self: Configuration) -> Any:
        raise MemoryError

    with serving(hello, certs=certs(), limits={"connections": 1}) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Configuration, "connection", refuse)
            logs.expect("MemoryError")
            with Raw.connect(server) as client:
                assert client.conn.read(1, WITHIN)[0] is None
        assert server._places.taken == 0
        with connected(server) as client:
            client.request("/a")
            assert client.response().body == b"hello /a"


@pytest.mark.parametrize("options", [{}, {"certs": True}], ids=["tcp", "tls"])
def test_a_connection_counts_until_its_descriptor_is_free(options: Any, logs: Any) -> None:
    """Peers that get an error and stay would else hold any number of descriptors, for the time of ``linger`` each."""
    logs.expect("bad request line")
    if options:
        logs.expect("too many connections")
        options = {"certs": certs()}
    with serving(hello, limits={"connections": 2}, **options) as server:
        clients = [connected(server) for _ in range(2)]
        for client in clients:
            client.send("nonsense\r\n\r\n")
            assert client.response().status == 400
        until(lambda: not server._connections)
        with Raw.connect(server) as other:
            if options:
                assert other.conn.read(1, WITHIN)[0] is None
            else:
                assert other.response().status == 503
        for client in clients:
            client.close()
        until(lambda: server._places.taken == 0)
        with connected(server) as client:
            client.request("/a")
            assert client.response().body == b"hello /a"


def test_refused_connections_are_few_lines_of_the_log(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    monkeypatch.setattr(tls, "SILENCE", 3600.0)
    logs.expect("too many connections: closed before the handshake$")
    with serving(hello, limits={"connections": 1}, certs=certs()) as server, connected(server) as first:
        first.request("/a")
        assert first.response().status == 200
        for _ in range(5):
            with Raw.connect(server) as client:
                client.eof()
        server._listener._accepted._silent_until = 0.0
        logs.expect("too many connections: closed before the handshake; 4 others since the last such line")
        with Raw.connect(server) as client:
            client.eof()


def test_refused_connections_linger_in_small_numbers() -> None:
    sockets = []
    with serving(hello, limits={"connections": 1}) as server, Raw.connect(server) as first:
        first.request("/a")
        assert first.response().status == 200
        before = scheduler.loop.registered()
        try:
            for _ in range(150):
                sockets.append(sock := socket.create_connection(("127.0.0.1", server.port), WITHIN / 1000))
                sock.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")  # it comes before the server looks
            until(lambda: server._refused == 100)
            turns()
            assert scheduler.loop.registered() == before + 100
        finally:
            for sock in sockets:
                sock.close()
        until(lambda: not server._refused)
        assert scheduler.loop.registered() == before


def test_a_peer_cannot_use_up_the_names_of_fields_that_are_kept() -> None:
    """Each name of every later request would have to be checked anew."""
    for number in range(600):
        http1.parse_request(f"GET / HTTP/1.1\r\nHost: a\r\nX-Junk-{number}: 1".encode(), silly.Limits())
        assert len(http1._names) <= 512
    http1.parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nX-Good-Name: 1", silly.Limits())
    assert "X-Good-Name" in http1._names


# ---- the end of the process ------------------------------------------------------------------------------------------


SCRIPT = """
import os, sys
import silly
from silly._core import scheduler, worker
scheduler.GRACE = 0.2

def main():
    worker.submit(scheduler.loop, __import__("time").sleep, (60,), lambda *_: None)
    silly.exit()

ends = []
turn = type(scheduler.loop).turn
def deliver():
    ends.append(scheduler.loop.turns)
    before(); print(scheduler.loop.turns - ends[0], flush=True)
before, scheduler._deliver = scheduler._deliver, deliver
silly.run(main)
"""


def test_what_has_used_up_its_grace_gets_no_second_one() -> None:
    """A worker thread that is stuck, on a disk for one, delays the end of the process once."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "0\n"
