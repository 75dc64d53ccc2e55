"""Requests with a body: answers that come before it has been sent, ``expect: 100-continue``, servers that stop reading."""

from __future__ import annotations

from typing import Any

import pytest

import silly
from silly.net import http
from silly.net.http import _clientstream
from silly.sync import channel

from ..helpers import Raw, raw_server, serving, turn
from .http_client_support import error, ok, origin, read_request, taken, using
from .support import Job, until

BIG = b"x" * 30_000_000
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"


pytestmark = pytest.mark.usefixtures("nothing_lingers")


@pytest.fixture
def hold() -> Any:
    """What a script of a server waits on until the test ends."""
    held = channel.new()
    yield held
    held.close()
    turn(3)


def head_of(conn: Any) -> bytes:
    conn.limit(1)  # what follows stays with the kernel
    return bytes(taken(conn.read("\r\n\r\n", 10_000)))


def url_of(listener: Any) -> str:
    return f"http://127.0.0.1:{listener.port}/"


# ---- early answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    "answer", [TOO_LARGE, TOO_LARGE.replace(b"Connection: close\r\n", b""), b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n"]
)
def test_answer_of_a_server_that_stops_reading(answer: bytes, method: str, hold: Any) -> None:
    """It holds the connection open, and takes nothing any more: that must not keep the client for the limit 'write_timeout'."""

    def script(conn: Any) -> None:
        head_of(conn)
        conn.write(answer)
        conn._stream.flush()
        hold.pop()

    with raw_server(script) as listener, using() as client:
        response = taken(client.fetch(method, url_of(listener), None, BIG))
        assert response.status in (413, 401)
        assert response.body in (b"big", b"")
        assert client._pool._origins == {}


def test_answer_of_a_server_that_reads_on() -> None:
    def script(conn: Any) -> None:
        conn.read("\r\n\r\n", 10_000)
        conn.write(TOO_LARGE)
        while conn.read(100_000, 10_000)[0] is not None:
            pass

    with raw_server(script) as listener, using() as client:
        assert taken(client.post(url_of(listener), None, BIG)).status == 413


def test_answer_of_a_server_that_closes() -> None:
    """It closes after a lingering end, as RFC 9112, section 9.6, has it."""

    def script(conn: Any) -> None:
        conn.read("\r\n\r\n", 10_000)
        conn.write(TOO_LARGE)
        conn._stream.close(await_end=True)

    with raw_server(script) as listener, using() as client:
        for _ in range(3):
            assert taken(client.post(url_of(listener), None, BIG)).status == 413


def test_our_own_server_refuses_a_big_body(logs: Any) -> None:
    logs.allow("body")

    def handler(stream: Any) -> None:
        if stream.path == "/early":
            stream.respond(403, {})
            stream.closewrite("no")
            return
        stream.readall()

    with serving(handler, limits=silly.Limits(body=1000)) as server, using() as client:
        assert taken(client.post(f"http://127.0.0.1:{server.port}/", None, BIG)).status == 413
        response = taken(client.post(f"http://127.0.0.1:{server.port}/early", None, BIG))
        assert (response.status, response.body) == (403, b"no")


def test_early_answer_to_what_is_written(hold: Any) -> None:
    def script(conn: Any) -> None:
        head_of(conn)
        conn.write(TOO_LARGE)
        conn._stream.flush()
        hold.pop()

    with raw_server(script) as listener, using() as client, taken(client.request("POST", url_of(listener))) as stream:
        written = 0
        while stream.write(b"x" * 500_000):
            written += 1
        assert written < 60
        assert stream.write("x") == (False, "the server has answered before the request was sent")
        assert stream.closewrite() == (False, "the server has answered before the request was sent")
        assert stream.readheader()[0] == 413
        assert stream.readall() == (b"big", None)


@pytest.mark.parametrize("pieces", [[TOO_LARGE], [TOO_LARGE[i : i + 1] for i in range(len(TOO_LARGE))]])
def test_early_answer_wakes_a_blocked_write(pieces: list[bytes], hold: Any) -> None:
    def script(conn: Any) -> None:
        head_of(conn)
        go.pop()
        for piece in pieces:
            conn.write(piece)
            conn._stream.flush()
            turn()
        hold.pop()

    go = channel.new()
    with raw_server(script) as listener, using() as client:
        job = Job(lambda: client.post(url_of(listener), None, BIG))
        turn(50)
        job.blocked()
        go.push(1)
        assert taken(job.result()).body == b"big"


def test_a_reader_wakes_the_writer() -> None:
    """The server has answered without taking the rest: not only its own reading tells that to a blocked write."""

    def script(conn: Any) -> None:
        conn.limit(1)
        conn.read("\r\n\r\n", 5000)
        go.pop()
        conn.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\n")
        conn._stream.flush()
        hold.pop()

    go, hold = channel.new(), channel.new()
    with raw_server(script) as listener, using() as client:
        with taken(client.request("POST", f"http://127.0.0.1:{listener.port}/")) as stream:
            writer = Job(lambda: stream.write(b"x" * 20_000_000))
            turn(50)
            reader = Job(stream.readheader)
            turn(5)
            writer.blocked()
            go.push(1)
            status, _ = reader.result()
            assert status == 413
            until(lambda: not stream._sending, within=2000)
            writer.result()
            assert not stream.write("more")
        hold.close()


def test_garbage_while_a_write_is_blocked(hold: Any) -> None:
    def script(conn: Any) -> None:
        head_of(conn)
        go.pop()
        conn.write("nonsense\r\n\r\n")
        conn._stream.flush()
        hold.pop()

    go = channel.new()
    with raw_server(script) as listener, using() as client:
        for method in ("POST", "PUT"):
            job = Job(lambda method=method: client.fetch(method, url_of(listener), None, BIG))
            turn(50)
            job.blocked()
            go.push(1)
            assert "reading the response: bad status line" in error(job.result())
        assert client._pool._origins == {}


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


@pytest.mark.parametrize("pieces", [[INTERIM], [INTERIM[i : i + 1] for i in range(len(INTERIM))]])
def test_interim_responses_do_not_end_an_upload(pieces: list[bytes]) -> None:
    """Some servers say 100 unasked, and as late as they like."""

    def script(conn: Any) -> None:
        for _ in range(2):
            conn.read("\r\n\r\n", 10_000)
            for piece in pieces:
                conn.write(piece)
                conn._stream.flush()
                turn()
            got.append(taken(conn.read(3_000_000, 10_000)))
            conn.write(ok())
        conn.read(1, 10_000)

    got: list[bytes] = []
    with raw_server(script) as listener, using() as client:
        assert taken(client.post(url_of(listener), None, BIG[:3_000_000])).body == b"ok"
        with taken(client.request("POST", url_of(listener), {"content-length": 3_000_000})) as stream:
            for _ in range(30):
                assert stream.write(b"x" * 100_000)
                turn()
            assert stream.closewrite()
            assert stream.readall() == (b"ok", None)
        assert got == [BIG[:3_000_000]] * 2


def test_too_many_interim_responses_while_sending(hold: Any) -> None:
    def script(conn: Any) -> None:
        head_of(conn)
        conn.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 17)
        conn._stream.flush()
        hold.pop()

    with raw_server(script) as listener, using() as client:
        assert "more than 16 interim" in error(client.post(url_of(listener), None, BIG))


def test_an_upload_that_the_server_has_begun_to_serve_is_not_repeated() -> None:
    """The connection was idle before, and the method is idempotent; but an interim response has come."""
    connections: list[Any] = []

    def script(conn: Any) -> None:
        connections.append(conn)
        if len(connections) == 1:
            conn.read("\r\n\r\n", 10_000)
            conn.write(ok())
        conn.read("\r\n\r\n", 10_000)
        conn.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        conn._stream.flush()
        conn.read(20_000_000, 10_000)
        conn.close()

    with raw_server(script) as listener, using() as client:
        taken(client.get(url_of(listener)))
        error(client.fetch("PUT", url_of(listener), None, BIG))
        assert len(connections) == 1


def test_server_that_ends_without_an_answer() -> None:
    def script(conn: Any) -> None:
        conn.read("\r\n\r\n", 10_000)

    with raw_server(script) as listener, using() as client:
        text = error(client.post(url_of(listener), None, BIG))
        assert ": waiting for the response: " in text
        with taken(client.request("POST", url_of(listener))) as stream:
            while stream.write(b"x" * 100_000):
                turn()
            assert not stream.closewrite()
            assert ": waiting for the response: " in error(stream.waitresponse())


def test_answer_at_once_on_a_new_connection() -> None:
    """As a server says that has too many of them."""

    def script(conn: Any) -> None:
        conn.write("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
        conn._stream.close(await_end=True)

    with raw_server(script) as listener, using() as client:
        for method in ("GET", "POST"):
            assert taken(client.fetch(method, url_of(listener), None, "x")).body == b"busy"
        with taken(client.request("POST", url_of(listener))) as stream:
            until(lambda: stream._source.buf)
            assert not stream.write("x")
            assert stream.readheader()[0] == 503
            assert stream.readall() == (b"busy", None)


# ---- expect: 100-continue -------------------------------------------------------------------------------------------

EXPECT = {"Expect": "100-continue"}


def expecting(say: bytes | None, rest: bytes = b"") -> Any:
    """A script that answers the head with ``say``, and then the body with ``rest``."""

    def script(conn: Any) -> None:
        while True:
            head, _ = conn.read("\r\n\r\n", 10_000)
            if head is None:
                return
            script.heads.append(head)  # type: ignore[attr-defined]
            turn(3)
            script.early.append(conn.unreadbytes())  # type: ignore[attr-defined]
            if say is not None:
                conn.write(say)
                conn._stream.flush()
            if rest:
                body, _ = conn.read(3, 10_000)
                script.bodies.append(body)  # type: ignore[attr-defined]
                conn.write(rest)

    script.heads = []  # type: ignore[attr-defined]
    script.early = []  # type: ignore[attr-defined]
    script.bodies = []  # type: ignore[attr-defined]
    return script


def test_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clientstream, "EXPECT", 60.0)
    script = expecting(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", ok())
    with raw_server(script) as listener, using() as client:
        for _ in range(2):
            assert taken(client.post(url_of(listener), EXPECT, "abc")).body == b"ok"
        assert taken(client.post(url_of(listener), {**EXPECT, "content-length": 3}, "abc")).body == b"ok"
        with taken(client.request("POST", url_of(listener), {**EXPECT, "content-length": 3})) as stream:
            stream.write("ab")
            stream.closewrite("c")
            assert stream.readall() == (b"ok", None)
    assert script.early == [0] * 4
    assert script.bodies == [b"abc"] * 4
    assert all(b"\r\nexpect: 100-continue\r\n" in head and b"content-length: 3" in head for head in script.heads)


@pytest.mark.parametrize("status", [b"417 Expectation Failed", b"413 Content Too Large", b"200 OK"])
@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
def test_refused_before_the_body(status: bytes, fields: bytes) -> None:
    script = expecting(b"HTTP/1.1 " + status + b"\r\n" + fields + b"Content-Length: 2\r\n\r\nno")
    with raw_server(script) as listener, using() as client:
        response = taken(client.post(url_of(listener), EXPECT, "abc"))
        assert (response.status, response.body) == (int(status[:3]), b"no")
        assert client._pool._origins == {}, "the server may wait for the body still"
        with taken(client.request("POST", url_of(listener), EXPECT)) as stream:
            ok_, err = stream.write("abc")
            assert not ok_
            assert "the server has answered" in err
            assert not stream.closewrite()
            assert stream.readall() == (b"no", None)
    assert script.early == [0, 0]


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may know nothing of it (RFC 9110, section 10.1.1)."""
    monkeypatch.setattr(_clientstream, "EXPECT", 0.03)
    script = expecting(None, ok())
    with raw_server(script) as listener, using() as client:
        assert taken(client.post(url_of(listener), EXPECT, "abc")).body == b"ok"
    assert script.bodies == [b"abc"]


def test_late_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the body is being sent already."""
    monkeypatch.setattr(_clientstream, "EXPECT", 0.02)

    def script(conn: Any) -> None:
        conn.read("\r\n\r\n", 10_000)
        taken(conn.read(1_000_000, 10_000))
        conn.write("HTTP/1.1 100 Continue\r\n\r\n")
        conn._stream.flush()
        taken(conn.read(4_000_000, 10_000))
        conn.write(ok())
        conn.read(1, 10_000)

    with raw_server(script) as listener, using() as client:
        assert taken(client.post(url_of(listener), EXPECT, BIG[:5_000_000])).body == b"ok"


def test_garbage_and_ends_instead_of_continue() -> None:
    for say, cause in ((b"nonsense\r\n\r\n", "bad status line"), (b"HTTP/1.1 101 x\r\n\r\n", "switched")):
        with raw_server(expecting(say)) as listener, using() as client:
            assert cause in error(client.post(url_of(listener), EXPECT, "abc"))
            with taken(client.request("POST", url_of(listener), EXPECT)) as stream:
                assert cause in error(stream.write("a"))
                assert cause in error(stream.closewrite())
                assert cause in error(stream.readall())
    with origin(lambda asked: None) as server, using() as client:
        assert error(client.get(server.url))

    def end(conn: Any) -> None:
        conn.read("\r\n\r\n", 10_000)

    with raw_server(end) as listener, using() as client:
        assert "waiting for the response: End of file" in error(client.post(url_of(listener), EXPECT, "abc"))


def test_closed_while_it_waits_for_the_word() -> None:
    with raw_server(expecting(None, ok())) as listener, using() as client:
        stream = taken(client.request("POST", url_of(listener), EXPECT))
        job = Job(lambda: stream.write("abc"))
        turn(10)
        job.blocked()
        stream.close()
        assert "closed" in error(job.result())


def test_expectation_without_a_body() -> None:
    with origin(ok()) as server, using() as client:
        assert taken(client.get(server.url, EXPECT)).body == b"ok"


def test_our_own_server_says_continue() -> None:
    def handler(stream: Any) -> None:
        body = taken(stream.readall())
        stream.respond(200, {})
        stream.closewrite(body)

    with serving(handler) as server, http.newclient() as client:
        for _ in range(2):
            assert taken(client.post(f"http://127.0.0.1:{server.port}/", EXPECT, "abc")).body == b"abc"


def test_trailer_with_an_expectation() -> None:
    def script(conn: Any) -> None:
        head, _ = conn.read("\r\n\r\n", 5000)
        conn.write("HTTP/1.1 100 Continue\r\n\r\n")
        body, _ = conn.read("\r\nx-sum: 1\r\n\r\n", 5000)
        heard.push((head, body))
        conn.write(ok())

    heard = channel.new()
    with raw_server(script) as listener, using() as client:
        with taken(client.request("PUT", f"http://127.0.0.1:{listener.port}/", EXPECT)) as stream:
            assert stream.closewrite("abc", {"x-sum": "1"})
            assert taken(stream.readall()) == b"ok"
        (head, body), _ = heard.pop()
        assert b"\r\ntransfer-encoding: chunked\r\n" in head
        assert body == b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"


class Stale:
    """A server that serves one request of its first connection, takes the next one's head, and closes."""

    def __init__(self, word: str | None) -> None:
        self.word = word
        self.bodies: list[bytes] = []
        self.connections = 0

    def script(self, conn: Any) -> None:
        self.connections += 1
        first = self.connections == 1
        if first:
            read_request(conn)
            conn.write(ok())
        head, _ = conn.read("\r\n\r\n", 5000)
        if head is None or first:
            return
        if self.word is not None:
            conn.write(self.word)
            if not self.word.startswith("HTTP/1.1 100"):
                return
        body, _ = conn.read(5, 5000)
        self.bodies.append(body)
        conn.write(ok(b"done"))
        conn.read(1, 5000)


@pytest.mark.parametrize("pieces", [[], [b"he"]])
def test_expectation_on_a_stale_connection(pieces: list[bytes]) -> None:
    """Nothing but the head was sent: it may go out once more, whatever becomes of the body."""
    server = Stale("HTTP/1.1 100 Continue\r\n\r\n")
    with raw_server(server.script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        with taken(client.request("PUT", url, {**EXPECT, "content-length": 5})) as stream:
            for piece in pieces:
                assert stream.write(piece)
            assert stream.closewrite(b"hello"[sum(map(len, pieces)) :])
            assert taken(stream.readall()) == b"done"
        assert (server.bodies, server.connections) == ([b"hello"], 2)
        [entry] = client._pool._origins.values()
        assert (entry.using, len(entry.idle)) == (0, 1)


def test_expectation_refused_after_a_stale_connection() -> None:
    """The second connection has not got the body, and serves no other request."""
    server = Stale("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
    with raw_server(server.script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        assert taken(client.fetch("PUT", url, EXPECT, "hello")).status == 417
        assert server.bodies == []
        assert client._pool._origins == {}


def test_expectation_of_a_post_on_a_stale_connection() -> None:
    server = Stale("HTTP/1.1 100 Continue\r\n\r\n")
    with raw_server(server.script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        assert "may not be repeated" in error(client.post(url, EXPECT, "hello"))
        assert server.connections == 1
        assert client._pool._origins == {}


def test_pieces_in_both_directions() -> None:
    """The answer begins after the request has ended, and is read as it comes."""

    def script(conn: Any) -> None:
        asked = read_request(conn)
        assert asked is not None
        peer = Raw(conn)
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            peer.send(f"1\r\n{number}\r\n")
            go.pop()
        peer.send("0\r\n\r\n")

    go = channel.new()
    with raw_server(script) as listener, using() as client, taken(client.request("POST", url_of(listener))) as stream:
        stream.write("x")
        stream.closewrite()
        got = []
        pieces = stream.pieces()
        for piece in pieces:
            got.append(piece)
            go.push(1)
        assert got == [b"0", b"1", b"2"]
        assert pieces.err is None
