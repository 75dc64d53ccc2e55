"""What fails, and how the HTTP client says so: each phase, each time-out, deadlines, killed tasks, tasks that close."""

from __future__ import annotations

import gc
import re
from typing import Any

import pytest

import silly
from silly import errno, time
from silly.net import _dial, tcp
from silly.sync import channel

from ..helpers import Raw, raw_server, turn
from .http_client_support import error, ok, origin, taken, using
from .support import Job, never_answers, until

pytestmark = pytest.mark.usefixtures("nothing_lingers")


def silent(peer: Raw) -> None:
    """Reads on, and answers nothing."""
    while peer.conn.read(1, 10_000)[0] is not None:
        pass


def beginning(data: str | bytes) -> Any:
    def answer(peer: Raw) -> None:
        peer.send(data)
        silent(peer)

    return lambda asked: answer


def url_of(address: Any) -> str:
    return f"http://u:SECRET@{address[0]}:{address[1]}/path"


# ---- the phase, the URL and the cause -------------------------------------------------------------------------------


def test_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "_lookup", lambda *args: errno.RESOLVE)
    with using() as client:
        text = error(client.get("http://u:SECRET@nowhere.example/path?q"))
    assert text == f"http GET http://nowhere.example/path?q: connect: {errno.RESOLVE}"


def test_refused() -> None:
    listener = taken(tcp.listen("127.0.0.1:0", lambda conn: None))
    listener.close()
    with using() as client:
        text = error(client.post(f"http://127.0.0.1:{listener.port}/x", None, "y"))
    assert text == f"http POST http://127.0.0.1:{listener.port}/x: connect: {errno.CONNREFUSED}"


def test_connect_timeout() -> None:
    with never_answers() as address, using(connect_timeout=50) as client:
        text = error(client.get(url_of(address)))
        assert text == f"http GET http://127.0.0.1:{address[1]}/path: connect: {errno.TIMEDOUT} (after 50 ms)"
        assert client._pool._origins == {}


def test_connect_total_timeout() -> None:
    with never_answers() as address, using(timeout=50) as client:
        text = error(client.get(url_of(address)))
        assert text.endswith(f"/path: connect: {errno.TIMEDOUT} (after 50 ms in total)")
        assert "after 30 ms in total" in error(client.get(url_of(address), timeout=30))


def test_head_timeout() -> None:
    for begin in ("", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n"):
        with origin(beginning(begin)) as server, using(head_timeout=50) as client:
            text = error(client.get(server.url + "/path"))
            assert text == f"http GET {server.url}/path: waiting for the response: {errno.TIMEDOUT} (after 50 ms)"


def test_interim_responses_do_not_put_off_the_head_timeout() -> None:
    def answer(peer: Raw) -> None:
        while peer.conn.write("HTTP/1.1 102 Processing\r\n\r\n"):
            peer.conn._stream.flush()
            time.sleep(20)

    with origin(lambda asked: answer) as server, using(head_timeout=60) as client:
        assert "(after 60 ms)" in error(client.get(server.url))


@pytest.mark.parametrize(
    "begin",
    ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"]
    + ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na", "HTTP/1.1 200 OK\r\n\r\nabc"],
)
def test_read_timeout(begin: str) -> None:
    with origin(beginning(begin)) as server, using(read_timeout=50) as client:
        text = error(client.get(server.url + "/path"))
        assert text.startswith(f"http GET {server.url}/path: reading the response: ")
        assert "stalled" in text
        assert "50 ms" in text


def test_slow_bodies_are_no_stall() -> None:
    """The read time-out is for each byte."""

    def answer(peer: Raw) -> None:
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n")
        for _ in range(25):
            time.sleep(20)
            peer.send("x")

    with origin(lambda asked: answer) as server, using(read_timeout=400) as client:
        assert taken(client.get(server.url)).body == b"x" * 25


@pytest.mark.parametrize(
    ("begin", "phase"),
    [
        ("", "waiting for the response"),
        ("HTTP/1.1 200 OK\r\nX: ", "waiting for the response"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "reading the response"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\nabc", "reading the response"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na", "reading the response"),
        ("HTTP/1.1 200 OK\r\n\r\nabc", "reading the response"),
    ],
)
def test_total_timeout(begin: str, phase: str) -> None:
    with origin(beginning(begin)) as server, using(timeout=50) as client:
        text = error(client.get(server.url))
        assert f": {phase}: " in text
        assert "total" in text
        assert client._pool._origins == {}
        with taken(client.request("GET", server.url, timeout=40)) as stream:
            stream.closewrite()
            assert "total" in error(stream.readall())
            assert "total" in error(stream.read(1))


def test_total_timeout_of_a_dribbling_server() -> None:
    def answer(peer: Raw) -> None:
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while peer.conn.write("x"):
            peer.conn._stream.flush()
            time.sleep(5)

    with origin(lambda asked: answer) as server, using(timeout=100) as client:
        assert "total" in error(client.get(server.url))


def unread(conn: Any) -> None:
    """Takes the head, and nothing of what follows."""
    conn.limit(1)
    conn.read("\r\n\r\n", 10_000)
    hold = channel.new()
    unread.holds.append(hold)  # type: ignore[attr-defined]
    hold.pop()


unread.holds = []  # type: ignore[attr-defined]


@pytest.fixture
def holds() -> Any:
    yield
    for hold in unread.holds:  # type: ignore[attr-defined]
        hold.close()
    unread.holds.clear()  # type: ignore[attr-defined]


def test_total_timeout_while_sending(holds: Any) -> None:
    with raw_server(unread) as listener, using(timeout=100) as client:
        url = f"http://127.0.0.1:{listener.port}/"
        for method in ("POST", "PUT"):
            text = error(client.fetch(method, url, None, b"x" * 20_000_000))
            assert text == f"http {method} {url}: sending the request: {errno.TIMEDOUT} (after 100 ms in total)"
        with taken(client.request("POST", url)) as stream:
            while stream.write(b"x" * 1_000_000):
                pass
            assert "sending the request" in error(stream.write("x"))
            assert "sending the request" in error(stream.closewrite())
            assert "sending the request" in error(stream.readall())
        assert client._pool._origins == {}


def test_server_that_takes_nothing(holds: Any) -> None:
    with raw_server(unread) as listener, using(limits=silly.Limits(write_timeout=100)) as client:
        text = error(client.post(f"http://127.0.0.1:{listener.port}/", None, b"x" * 20_000_000))
        assert "no progress in sending" in text
        assert "'write_timeout' of 100 ms" in text


def test_reset_says_how() -> None:
    def answer(peer: Raw) -> None:
        peer.reset()

    with origin(lambda asked: answer) as server, using() as client:
        assert error(client.get(server.url)) == f"http GET {server.url}/: waiting for the response: {errno.CONNRESET}"


def test_reset_within_the_body() -> None:
    def answer(peer: Raw) -> None:
        peer.send("HTTP/1.1 200 OK\r\n\r\nabc")
        time.sleep(10)
        peer.reset()

    with origin(lambda asked: answer) as server, using() as client:
        assert "incomplete: Connection reset" in error(client.get(server.url))


def test_errors_of_pieces() -> None:
    with origin(beginning("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")) as server, using(read_timeout=50) as client:
        stream = taken(client.request("GET", server.url))
        stream.closewrite()
        pieces = stream.pieces()
        assert b"".join(pieces) == b"abc"
        assert "stalled" in str(pieces.err)


# ---- time-outs of one call: nothing is lost -------------------------------------------------------------------------


def test_waiting_again_for_the_head() -> None:
    def answer(peer: Raw) -> None:
        for piece in ("HTTP/1.1 200 OK\r\nX: a", "b\r\nContent-Le", "ngth: 3\r\n\r\n", "abc"):
            go.pop()
            peer.send(piece)
        silent(peer)

    go = channel.new()
    with origin(lambda asked: answer) as server, using() as client, taken(client.request("GET", server.url)) as stream:
        stream.closewrite()
        assert stream.waitresponse(0) == (False, errno.TIMEDOUT)
        for _ in range(2):
            go.push(1)
            assert stream.waitresponse(20) == (False, errno.TIMEDOUT)
            assert stream.readheader(5) == (None, errno.TIMEDOUT)
            with time.deadline(20):
                assert "the deadline of 20 ms ran out" in error(stream.waitresponse())
                assert "the deadline of 20 ms ran out" in error(stream.readheader())
                assert "the deadline of 20 ms ran out" in error(stream.readall())
        go.push(1)
        assert stream.readheader() == (200, {"x": "ab", "content-length": "3"})
        assert stream.read(3, 20) == (None, errno.TIMEDOUT)
        with time.deadline(20):
            assert "stream.read: the deadline of 20 ms ran out" in error(stream.read(3))
        go.push(1)
        assert stream.read(3) == (b"abc", None)


@pytest.mark.parametrize("coding", ["Content-Length: 10", "Transfer-Encoding: chunked", "X: y"])
def test_reading_again(coding: str) -> None:
    chunked = "chunked" in coding
    first, second = ("5\r\nabcde\r\n5\r\nf", "ghij\r\n0\r\n\r\n") if chunked else ("abcdef", "ghij")

    def answer(peer: Raw) -> None:
        peer.send(f"HTTP/1.1 200 OK\r\n{coding}\r\n\r\n{first}")
        go.pop()
        peer.send(second)

    go = channel.new()
    with origin(lambda asked: answer) as server, using() as client, taken(client.request("GET", server.url)) as stream:
        stream.closewrite()
        assert stream.read(2) == (b"ab", None)
        assert stream.read(8, 20) == (None, errno.TIMEDOUT)
        assert stream.readall(None, 20) == (None, errno.TIMEDOUT)
        with time.deadline(20):
            assert "deadline" in error(stream.read(8))
            assert "deadline" in error(stream.readall())
            assert stream.read(2) == (b"cd", None), "what is there can be read"
            pieces = stream.pieces()
            assert b"".join(pieces) == b"ef"
            assert "deadline" in str(pieces.err)
        pieces = stream.pieces(20)
        assert (list(pieces), pieces.err) == ([], errno.TIMEDOUT)
        go.push(1)
        assert stream.readall() == (b"ghij", None)


def test_deadline_around_get() -> None:
    with origin(beginning("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")) as server, using() as client:
        with time.deadline(30) as limit:
            text = error(client.get(server.url))
        assert limit.expired
        assert text == f"http GET {server.url}/: stream.read: the deadline of 30 ms ran out"
        assert client._pool._origins == {}
    with origin(beginning("")) as server, using() as client, time.deadline(30):
        text = error(client.get(server.url))
        assert text == f"http GET {server.url}/: stream.waitresponse: the deadline of 30 ms ran out"
    with never_answers() as address, using() as client, time.deadline(30):
        assert "connect: http.request: the deadline of 30 ms ran out" in error(client.get(url_of(address)))


def test_deadline_while_sending(holds: Any) -> None:
    """A part may be missing: no other may follow it."""
    with raw_server(unread) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        with time.deadline(50):
            text = error(client.post(url, None, b"x" * 20_000_000))
        assert text.startswith(f"http POST {url}: ")
        assert "the deadline of 50 ms ran out" in text
        with taken(client.request("POST", url)) as stream:
            with time.deadline(50):
                while stream.write(b"x" * 1_000_000):
                    pass
            text = error(stream.write("x"))
            assert "deadline of 50 ms" in text
            assert stream.closewrite("x") == (False, text)
            assert stream.waitresponse(1) == (False, errno.TIMEDOUT)
        taken(client.request("PUT", url)).close()


def test_deadline_while_sending_what_may_be_repeated() -> None:
    """It is no reason to say that all has gone out."""

    def script(conn: Any) -> None:
        conn.read("\r\n\r\n", 5000)
        conn.write(ok())
        conn._stream.flush()
        conn.limit(1)
        hold.pop()

    hold = channel.new()
    with raw_server(script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        with taken(client.request("PUT", url)) as stream, time.deadline(50):
            assert "deadline of 50 ms" in error(stream.closewrite(b"x" * 20_000_000))
        hold.close()


# ---- other tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "HTTP/1.1 200 OK\r\n\r\nabc"])
def test_killed_while_waiting(begin: str) -> None:
    with origin(beginning(begin)) as server, using(max_per_host=1) as client:
        job = Job(lambda: client.get(server.url))
        until(lambda: server.asked)
        turn(5)
        job.blocked().kill()
        assert client._pool._origins == {}
        until(lambda: not server.open)


def test_killed_while_connecting() -> None:
    with never_answers() as address, using(max_per_host=1) as client:
        Job(lambda: client.get(url_of(address))).blocked().kill()
        assert client._pool._origins == {}


def test_killed_while_sending(holds: Any) -> None:
    with raw_server(unread) as listener, using(max_per_host=1) as client:
        job = Job(lambda: client.post(f"http://127.0.0.1:{listener.port}/", None, b"x" * 20_000_000))
        turn(50)  # until the kernel takes no more
        job.blocked().kill()
        assert client._pool._origins == {}


def test_killed_with_a_stream_that_nobody_closes() -> None:
    def job() -> None:
        stream = taken(client.request("GET", server.url))
        stream.closewrite()
        stream.readall()

    with origin(beginning("")) as server, using(max_per_host=1) as client:
        killed = Job(job)
        until(lambda: server.asked)
        killed.blocked().kill()
        del killed
        until(lambda: (gc.collect(), not client._pool._origins)[1])


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize(
    ("begin", "call"),
    [
        ("", lambda stream: stream.waitresponse()),
        ("", lambda stream: stream.readheader()),
        ("", lambda stream: stream.readall()),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", lambda stream: stream.readall()),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", lambda stream: stream.read(5)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", lambda stream: stream.read(5)),
    ],
)
def test_closed_by_another_task(begin: str, call: Any, used: bool) -> None:
    with origin(lambda asked: beginning(begin)(asked) if asked.target == "/" else ok()) as server, using() as client:
        if used:
            taken(client.get(server.url + "/first"))
        stream = taken(client.request("GET", server.url))
        stream.closewrite()
        job = Job(lambda: call(stream))
        until(lambda: any(asked.target == "/" for asked in server.asked))
        turn(5)
        job.blocked()
        assert stream.close() == (True, None)
        assert errno.CLOSED in error(job.result())
        assert errno.CLOSED in error(call(stream))
        turn(3)
        assert server.connections == 1, "there is nothing to try again"
        assert client._pool._origins == {}


@pytest.mark.parametrize("how", ["write", "closewrite", "PUT"])
def test_closed_by_another_task_while_sending(holds: Any, how: str) -> None:
    def send(stream: Any) -> Any:
        if how != "write":
            return stream.closewrite(b"x" * 20_000_000)
        while (result := stream.write(b"x" * 1_000_000)):
            pass
        return result

    with raw_server(unread) as listener, using() as client:
        stream = taken(client.request("PUT" if how == "PUT" else "POST", f"http://127.0.0.1:{listener.port}/"))
        job = Job(lambda: send(stream))
        turn(50)
        job.blocked()
        assert stream.close() == (True, None)
        assert errno.CLOSED in error(job.result())
        assert client._pool._origins == {}


def test_closed_by_another_task_while_it_connects_anew() -> None:
    """A stale connection is replaced: who closes meanwhile must not leave the new one behind."""
    conns: list[Any] = []

    def script(conn: Any) -> None:
        conns.append(conn)
        conn.read("\r\n\r\n", 5000)
        conn.write(ok())
        conn.read("\r\n\r\n", 5000)
        conn.close()

    with raw_server(script) as listener, using() as client:
        taken(client.get(f"http://127.0.0.1:{listener.port}/"))
        stream = taken(client.request("GET", f"http://127.0.0.1:{listener.port}/"))
        take = client._pool.checkout
        client._pool.checkout = lambda url, fresh: (stream.close(), take(url, fresh))[1]
        stream.closewrite()
        assert error(stream.waitresponse()) == errno.CLOSED
        client._pool.checkout = take
        assert client._pool._origins == {}


def test_two_readers_are_a_mistake() -> None:
    with origin(beginning("")) as server, using() as client, taken(client.request("GET", server.url)) as stream:
        stream.closewrite()
        job = Job(stream.waitresponse).blocked()
        with pytest.raises(RuntimeError, match="another task"):
            stream.readall()
        stream.close()
        job.result()


def test_errors_are_short_and_plain() -> None:
    line = b"x\x1b[31m" + b"\xff" * 70_000 + b"\r\n\r\n"
    with origin(lambda asked: lambda peer: peer.send(line)) as server, using() as client:
        text = error(client.get(server.url))
        assert len(text) < 500
        assert text.isprintable()
        assert re.match(r"http GET http://127\.0\.0\.1:\d+/: reading the response: ", text)
