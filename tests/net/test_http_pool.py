"""Connections of the HTTP client that are kept alive: when they serve again, when they must not, and how many there may be."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import task, time
from silly._core import scheduler
from silly._wire.url import Url
from silly.net import http, tcp
from silly.net.http._pool import ConnPool, _Origin
from silly.sync import channel

from ..helpers import Raw, raw_server, turn
from .http_client_support import Asked, error, ok, origin, read_request, taken, using
from .support import Job, monotonic, until

pytestmark = pytest.mark.usefixtures("nothing_lingers")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


def fetched(client: Any, server: Any, method: str = "GET", *args: Any) -> Any:
    return taken(client.fetch(method, server.url, *args))


# ---- what serves again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", ok()),
        ("GET", ok(b"")),
        ("GET", CHUNKED),
        ("POST", ok()),
        ("HEAD", ok(b"")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 30\r\n\r\n"),
        ("GET", b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\n" + ok()),
        ("GET", ok(b"x" * 200_000)),
        ("GET", ok(status="500 Internal Server Error")),
    ],
)
def test_reused(method: str, answer: bytes) -> None:
    with origin(answer) as server, using() as client:
        for _ in range(3):
            fetched(client, server, method)
        assert (server.connections, len(server.asked)) == (1, 3)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", ok(b"ok", "Connection: close")),
        ("GET", ok(b"ok", "Connection: x, Close")),
        ("GET", ok(b"ok", "Connection: x", "connection: close")),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        # More than was asked for.
        ("GET", ok() + b"x"),
        ("GET", ok() + ok(b"poison")),
        ("GET", ok() + b"\r\n"),
        ("GET", CHUNKED + b"\r\n"),
        ("GET", CHUNKED + ok(b"poison")),
        ("HEAD", ok(b"poison")),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nno"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n" + ok(b"poison")),
    ],
)
def test_not_reused(method: str, answer: bytes) -> None:
    with origin(answer) as server, using() as client:
        for _ in range(3):
            assert b"poison" not in fetched(client, server, method).body
        assert (server.connections, len(server.asked)) == (3, 3)
        assert client._pool._origins == {}


def test_not_reused_when_we_say_close() -> None:
    with origin(ok()) as server, using() as client:
        for _ in range(2):
            fetched(client, server, "GET", {"Connection": "close"})
        assert server.connections == 2
        assert server.asked[0].one("connection") == "close"


def test_until_the_end_is_not_reused() -> None:
    with origin(lambda asked: lambda peer: peer.send("HTTP/1.1 200 OK\r\n\r\nall")) as server, using() as client:
        for _ in range(2):
            assert fetched(client, server).body == b"all"
        assert server.connections == 2


@pytest.mark.parametrize("late", [b"x", b"\r\n", ok(b"poison"), ok(b"poison", status="408 Request Timeout")])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unsolicited_bytes_never_answer_the_next_request(method: str, late: bytes) -> None:
    """Response splitting: what nobody asked for would be taken for the answer to the next request."""
    with origin(ok()) as server, using() as client:
        fetched(client, server)
        server.open[0].send(late)
        # Not a turn of the loop in between: the bytes are with the kernel.
        response = fetched(client, server, method)
        assert response.body == b"ok"
        assert server.connections == 2
        server.open[0].send(late)
        turn(3)
        assert fetched(client, server, method).body == b"ok"
        assert server.connections == 3


def test_unsolicited_bytes_before_the_request_is_written() -> None:
    with origin(ok()) as server, using() as client:
        fetched(client, server)
        with taken(client.request("POST", server.url)) as stream:
            server.open[0].send(ok(b"poison"))
            turn(3)
            assert stream.closewrite("x")
            assert stream.readall() == (b"ok", None)
        assert server.connections == 2


def test_only_after_the_whole_response() -> None:
    with origin(ok(b"0123456789")) as server, using() as client:
        for how in ("nothing", "head", "a part", "all"):
            with taken(client.request("GET", server.url)) as stream:
                stream.closewrite()
                if how != "nothing":
                    assert stream.waitresponse()
                if how == "a part":
                    assert stream.read(9) == (b"012345678", None)
                if how == "all":
                    assert stream.read(10) == (b"0123456789", None)
                    assert stream.close() == (False, "Socket is closed (10003)")
            connections = server.connections
            fetched(client, server)
            assert server.connections == connections + (how != "all")
            client.closeidle()


def test_a_request_that_was_never_sent() -> None:
    """Its connection could serve, but what became of it is not known as well as that of a new one."""
    with origin(ok()) as server, using() as client:
        with taken(client.request("GET", server.url)):
            pass
        fetched(client, server)
        assert len(server.asked) == 1
        assert len(client._pool._origins) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_server_closes_an_idle_connection(method: str) -> None:
    with origin(ok()) as server, using() as client:
        for number in range(3):
            fetched(client, server, method)
            assert server.connections == number + 1
            server.open[0].close()
            if number:
                turn(3)


def test_server_closes_before_the_request_is_written() -> None:
    with origin(ok()) as server, using() as client:
        fetched(client, server)
        with taken(client.request("POST", server.url)) as stream:
            server.open[0].close()
            turn(3)
            assert stream.closewrite("x")
            assert stream.readall() == (b"ok", None)
        assert [len(asked.body) for asked in server.asked] == [0, 1]


def paused(client: Any, server: Any) -> None:
    """Makes a request whose body comes while nobody waits for it, so that reading pauses with the last byte."""
    with taken(client.request("GET", f"{server.url}/big")) as stream:
        stream.closewrite()
        stream.readheader()
        until(lambda: stream._source.paused)
        assert len(taken(stream.readall())) == 70_000


def big_or_small(asked: Asked) -> bytes:
    return ok(b"x" * 70_000) if asked.target == "/big" else ok()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unsolicited_bytes_after_a_pause(method: str) -> None:
    """They stayed with the kernel, unseen, and were the answer to the next request."""
    with origin(big_or_small) as server, using() as client:
        paused(client, server)
        server.open[0].send(ok(b"poison"))
        turn(5)
        assert taken(client.fetch(method, server.url)).body == b"ok"
        assert server.connections == 2


def test_the_end_after_a_pause() -> None:
    """It wasn't seen either: the next POST failed."""
    with origin(big_or_small) as server, using() as client:
        paused(client, server)
        server.open[0].close()
        turn(5)
        assert taken(client.post(server.url, None, "x")).body == b"ok"


@pytest.mark.parametrize("late", [ok(b"poison"), None])
def test_what_comes_between_taking_and_writing(late: bytes | None) -> None:
    """A task that computes meanwhile lets no event through: it is with the kernel."""
    with origin(ok()) as server, using() as client:
        taken(client.get(server.url))
        with taken(client.request("POST", server.url)) as stream:
            if late is None:
                server.open[0].conn._stream.abort()
            else:
                server.open[0].send(late)
            assert stream.closewrite("x")
            assert taken(stream.readall()) == b"ok"
        assert server.connections == 2


# ---- one more try ---------------------------------------------------------------------------------------------------


def stale(first: Any, second: Any = None) -> Any:
    """A script whose connections answer once, and then do ``first``, or ``second`` on the second connection."""
    seen: list[tuple[int, Asked]] = []

    def script(conn: Any) -> None:
        number = script.connections  # type: ignore[attr-defined]
        script.connections += 1  # type: ignore[attr-defined]
        served = 0
        while True:
            asked = read_request(conn, number)
            if asked is None:
                return
            seen.append((number, asked))
            how = {0: first, 1: second}.get(number)
            served += 1
            if how is None or (number == 0 and served == 1):
                conn.write(ok(b"" if asked.method == "HEAD" else b"ok"))
            else:
                how(Raw(conn))
                return

    script.connections = 0  # type: ignore[attr-defined]
    script.seen = seen  # type: ignore[attr-defined]
    return script


def end(peer: Raw) -> None:
    peer.conn.close()


def reset(peer: Raw) -> None:
    peer.reset()


@pytest.mark.parametrize("how", [end, reset])
@pytest.mark.parametrize(
    ("method", "body"), [*[(name, None) for name in ("GET", "HEAD", "OPTIONS", "DELETE", "TRACE")], ("PUT", "x" * 600_000)]
)
def test_idempotent_request_on_a_stale_connection(method: str, body: Any, how: Any) -> None:
    """The server ends it just as it is used again."""
    script = stale(how)
    with raw_server(script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        assert taken(client.fetch(method, url, None, body)).status == 200
        assert [(number, asked.method, len(asked.body)) for number, asked in script.seen] == [
            (0, "GET", 0),
            (0, method, len(body or "")),
            (1, method, len(body or "")),
        ]
        taken(client.get(url))
        assert script.connections == 2


def in_turn(*scripts: Any) -> Any:
    """A script that does with each connection what is next."""
    rest = list(scripts)
    return lambda conn: rest.pop(0)(conn)


def once_and(then: Any) -> Any:
    """Answers one request, and takes the head of another."""

    def script(conn: Any) -> None:
        read_request(conn)
        conn.write(ok())
        conn._stream.flush()
        conn.limit(1)
        conn.read("\r\n\r\n", 10_000)
        then(Raw(conn))

    return script


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_connection_that_breaks_while_it_is_sent(method: str) -> None:
    """All of it may go out again, not what is left of it."""
    bodies = []

    def second(conn: Any) -> None:
        asked = read_request(conn)
        bodies.append(len(asked.body) if asked is not None else -1)
        conn.write(ok())

    with raw_server(in_turn(once_and(reset), second)) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        pair = client.fetch(method, url, None, b"x" * 20_000_000)
        if method == "PUT":
            assert taken(pair).body == b"ok"
            assert bodies == [20_000_000]
        else:
            assert "may not be repeated" in error(pair)
            assert bodies == []


def test_the_second_connection_takes_nothing() -> None:
    hold = channel.new()

    def second(conn: Any) -> None:
        conn.limit(1)
        conn.read("\r\n\r\n", 10_000)
        hold.pop()

    with raw_server(in_turn(once_and(reset), second)) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        text = error(client.fetch("PUT", url, None, b"x" * 20_000_000, timeout=300))
        assert ": sending the request: Operation timed out (110) (after 300 ms in total)" in text
        hold.close()


def test_no_further_try_for_a_server_that_takes_nothing() -> None:
    hold = channel.new()
    limits = silly.Limits(write_timeout=100)
    with raw_server(in_turn(once_and(lambda peer: hold.pop()))) as listener, using(limits=limits) as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        assert "no progress in sending" in error(client.fetch("PUT", url, None, b"x" * 20_000_000))
        hold.close()


def test_one_more_try_after_a_timeout_of_the_callers_own() -> None:
    """Nothing is lost by it."""
    go = channel.new()

    def ends(peer: Raw) -> None:
        go.pop()
        peer.conn.close()

    with raw_server(in_turn(once_and(ends), once_and(end))) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        with taken(client.request("GET", url)) as stream:
            stream.closewrite()
            assert stream.waitresponse(10) == (False, "Operation timed out (110)")
            go.push(1)
            assert stream.readall() == (b"ok", None)


@pytest.mark.parametrize("method", ["POST", "PATCH", "FOO", "get"])
@pytest.mark.parametrize("how", [end, reset])
def test_other_requests_go_out_once(method: str, how: Any) -> None:
    script = stale(how)
    with raw_server(script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        assert "may not be repeated" in error(client.fetch(method, url))
        assert len(script.seen) == 2
        assert client._pool._origins == {}


def test_a_streamed_body_goes_out_once() -> None:
    script = stale(end)
    with raw_server(script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        with taken(client.request("PUT", url)) as stream:
            stream.write("a")
            stream.closewrite("b")
            assert "waiting for the response" in error(stream.waitresponse())
        assert len(script.seen) == 2


def test_only_one_more_try() -> None:
    script = stale(end, end)
    with raw_server(script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        text = error(client.get(url))
        assert ": waiting for the response: End of file" in text
        assert "repeated" not in text
        assert (len(script.seen), script.connections) == (3, 2)


@pytest.mark.parametrize("begin", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n"])
def test_no_further_try_after_a_byte(begin: bytes) -> None:
    def answer(peer: Raw) -> None:
        peer.send(begin)
        turn(3)
        peer.conn.close()

    script = stale(answer)
    with raw_server(script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        assert "waiting for the response: End of file" in error(client.get(url))
        assert len(script.seen) == 2


def test_no_further_try_after_a_timeout() -> None:
    script = stale(lambda peer: peer.conn.read(1, 5000))
    with raw_server(script) as listener, using(head_timeout=100) as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        assert "waiting for the response: Operation timed out (110) (after 100 ms)" in error(client.get(url))
        assert len(script.seen) == 2


def test_no_further_try_on_a_new_connection() -> None:
    with origin(lambda asked: None) as server, using() as client:
        text = error(client.get(server.url))
        assert "waiting for the response: End of file" in text
        assert "repeated" not in text
        assert len(server.asked) == 1


def test_the_second_connection_may_fail_too() -> None:
    def script(conn: Any) -> None:
        read_request(conn)
        conn.write(ok())
        read_request(conn)
        listener.close()
        conn.close()

    with raw_server(script) as listener, using() as client:
        url = f"http://127.0.0.1:{listener.port}/"
        taken(client.get(url))
        assert ": connect: Connection refused" in error(client.get(url))
        assert client._pool._origins == {}


def test_two_writers_of_a_stream_that_connects_anew() -> None:
    with origin(ok()) as server, using() as client:
        taken(client.get(server.url))
        with taken(client.request("PUT", server.url)) as stream:
            server.open[0].close()
            until(lambda: stream._source.err is not None)
            go = channel.new()
            dial, client._pool._dial = client._pool._dial, lambda url: (go.pop(), dial(url))[1]
            first = Job(lambda: stream.write("first")).blocked()
            with pytest.raises(RuntimeError, match="another task is writing"):
                stream.write("second")
            go.push(1)
            assert first.result()
            assert stream.closewrite()
            assert taken(stream.readall()) == b"ok"
        assert server.asked[-1].body == b"first"


def test_killed_while_it_connects_anew() -> None:
    with origin(ok()) as server, using() as client:
        never = channel.new()
        taken(client.get(server.url))
        stream = taken(client.request("PUT", server.url))
        server.open[0].close()
        until(lambda: stream._source.err is not None)
        client._pool._dial = lambda url: never.pop()
        Job(lambda: stream.write("x")).blocked().kill()
        assert not stream.write("y")
        assert not stream.waitresponse()
        assert client._pool._origins == {}


# ---- how many, and how long -----------------------------------------------------------------------------------------


def test_idle_timeout() -> None:
    with origin(ok()) as server, using(idle_timeout=30) as client:
        fetched(client, server)
        assert len(client._pool._origins) == 1
        until(lambda: not server.open)
        assert client._pool._origins == {}
        fetched(client, server)
        assert server.connections == 2


def test_idle_connections_that_the_server_has_ended_are_let_go() -> None:
    with origin(ok()) as server, using(idle_timeout=30) as client:
        fetched(client, server)
        server.open[0].close()
        until(lambda: not client._pool._origins)


def test_idle_timers_of_several_origins() -> None:
    with origin(ok()) as one, origin(ok()) as other, using(idle_timeout=300) as client:
        fetched(client, one)
        time.sleep(20)
        fetched(client, other)
        assert len(client._pool._origins) == 2
        until(lambda: not client._pool._origins)
        fetched(client, one)
        client.closeidle()
        assert client._pool._origins == {}


def test_many_origins_cost_few_looks() -> None:
    class Idle:
        closed = False

        def isalive(self) -> bool:
            return True

        def unreadbytes(self) -> int:
            return 0

        def close(self) -> None:
            self.closed = True

    looks = 0

    class Counted(ConnPool):
        def _expire(self, _: None) -> None:
            nonlocal looks
            looks += 1
            super()._expire(None)

    def never(url: Url) -> tuple[None, str]:
        return None, url.host

    pool = Counted(never, 10, 0, 160)
    conns = [Idle() for _ in range(200)]
    for number, conn in enumerate(conns):
        entry = pool._origins["http", f"h{number}", 80] = _Origin()
        entry.idle.append((conn, monotonic() + number / 1000))  # type: ignore[arg-type]
    pool._expire(None)
    until(lambda: not pool._origins)
    assert all(conn.closed for conn in conns)
    assert looks < 50
    gc.collect()


def at_once(client: Any, server: Any, count: int) -> list[Any]:
    return [job.result() for job in [Job(lambda: client.get(server.url)) for _ in range(count)]]


def test_max_idle_per_host() -> None:
    for most, due in ((0, 0), (2, 2), (10, 5)):
        with origin(lambda asked: time.sleep(1) or ok()) as server, using(max_idle_per_host=most) as client:
            assert all(taken(pair).status == 200 for pair in at_once(client, server, 5))
            assert server.connections == 5
            assert sum(len(each.idle) for each in client._pool._origins.values()) == due
            until(lambda: len(server.open) == due)  # noqa: B023


def test_max_per_host() -> None:
    most = [0]

    def answer(asked: Asked) -> bytes:
        most[0] = max(most[0], busy[0] + 1)
        busy[0] += 1
        turn(2)
        busy[0] -= 1
        return ok()

    busy = [0]
    with origin(answer) as server, using(max_per_host=3) as client:
        assert all(taken(pair).status == 200 for pair in at_once(client, server, 20))
        assert most[0] == 3
        assert server.connections == 3
        assert client._pool._origins[("http", "127.0.0.1", server.port)].using == 0


def test_origins_do_not_wait_for_each_other() -> None:
    with origin(ok()) as one, origin(ok()) as other, using(max_per_host=1) as client, taken(client.request("GET", one.url)):
        fetched(client, other)


def test_who_waits_first_is_served_first() -> None:
    served: list[int] = []
    with origin(ok()) as server, using(max_per_host=1) as client:
        held = taken(client.request("GET", server.url))

        def ask(number: int) -> None:
            fetched(client, server)
            served.append(number)

        jobs = [Job(lambda number=number: ask(number)).blocked() for number in range(5)]
        held.close()
        for job in jobs:
            job.result()
        assert served == [0, 1, 2, 3, 4]


def test_waiting_for_a_place_is_bounded() -> None:
    with origin(ok()) as server, using(max_per_host=1, connect_timeout=50) as client:
        with taken(client.request("GET", server.url)) as held:
            assert ": connect: Operation timed out (110) (after 50 ms)" in error(client.get(server.url))
            assert "after 20 ms in total" in error(client.get(server.url, timeout=20))
            with time.deadline(20):
                assert "http.request: the deadline of 20 ms ran out" in error(client.get(server.url))
            held.closewrite()
            assert held.readall() == (b"ok", None)
        fetched(client, server)
        assert client._pool._origins[("http", "127.0.0.1", server.port)].using == 0


def test_a_place_that_never_comes_free_says_so() -> None:
    """As when a task that holds a stream asks the same origin for something else."""
    with origin(ok()) as server, using(max_per_host=1, connect_timeout=50) as client:
        with taken(client.request("GET", server.url)):
            text = error(client.get(server.url))
            assert text.endswith("(after 50 ms); all connections that 'max_per_host' allows are in use")
        taken(client.get(server.url))


def test_killed_while_waiting_for_a_place() -> None:
    with origin(ok()) as server, using(max_per_host=1) as client:
        with taken(client.request("GET", server.url)):
            first = Job(lambda: client.get(server.url)).blocked()
            second = Job(lambda: client.get(server.url)).blocked()
            assert "a free connection to 127.0.0.1" in first.task.waiting()
            first.kill()
        assert taken(second.result()).status == 200
        assert client._pool._origins[("http", "127.0.0.1", server.port)].using == 0


def test_killed_after_a_place_was_handed_over() -> None:
    with origin(ok()) as server, using(max_per_host=1) as client:
        held = taken(client.request("GET", server.url))
        first = Job(lambda: client.get(server.url)).blocked()
        second = Job(lambda: client.get(server.url)).blocked()
        held.close()  # the first has it now, and has not run
        assert task.status(first.task) == "READY"
        scheduler._ready.remove(first.task)
        scheduler.loop.post(scheduler.throw, first.task, GreenletExit())
        with pytest.raises(GreenletExit):
            first.result()
        assert taken(second.result()).status == 200
        assert client._pool._origins[("http", "127.0.0.1", server.port)].using == 0


@pytest.mark.parametrize(
    "answer",
    [b"nonsense\r\n\r\n", None, ok(b"abc")[:-1], ok(b"x" * 100), ok(b"ok", "Connection: close")],
)
def test_every_end_frees_the_place(answer: Any) -> None:
    def reply(asked: Asked) -> Any:
        return None if answer is None else lambda peer: peer.send(answer)

    with origin(reply) as server, using(max_per_host=1, limits=silly.Limits(body=50)) as client:
        for _ in range(3):
            client.get(server.url)
        assert client._pool._origins == {}
    assert ": connect: " in error(client.get(server.url)) or "closed" in error(client.get(server.url))


def test_refused_connections_free_the_place() -> None:
    listener = taken(tcp.listen("127.0.0.1:0", lambda conn: None))
    listener.close()
    with using(max_per_host=1) as client:
        for _ in range(3):
            assert "Connection refused" in error(client.get(f"http://127.0.0.1:{listener.port}/"))
        assert client._pool._origins == {}


def test_settings_that_raise_free_the_place() -> None:
    with using(max_per_host=1, ca="no such file") as client:
        for _ in range(2):
            with pytest.raises((ValueError, OSError)):
                client.get("https://127.0.0.1:1/")
        assert client._pool._origins == {}


def test_forgotten_streams() -> None:
    """Nobody holds them: their places and descriptors come back."""
    with origin(ok(b"x" * 100_000)) as server, using(max_per_host=2, connect_timeout=5000) as client:
        for sent in (False, True, True):
            for _ in range(2):
                stream = taken(client.request("GET", server.url))
                if sent:
                    stream.closewrite()
                    stream.readheader()
                del stream
            gc.collect()
        fetched(client, server)
        until(lambda: len(server.open) == 1)
        assert client._pool._origins[("http", "127.0.0.1", server.port)].using == 0


def test_forgotten_clients() -> None:
    with origin(ok()) as server:
        client = http.newclient(idle_timeout=50)
        fetched(client, server)
        del client
        until(lambda: not server.open)


def test_close_ends_what_is_idle() -> None:
    with origin(ok()) as server:
        client = http.newclient()
        fetched(client, server)
        client.closeidle()
        until(lambda: not server.open)
        fetched(client, server)
        client.close()
        until(lambda: not server.open)
        assert server.connections == 2


def test_origins_are_forgotten() -> None:
    with using() as client:
        for port in range(1, 40):
            client.get(f"http://127.0.0.1:{port}/", timeout=1000)
        assert client._pool._origins == {}


def test_many_at_once() -> None:
    with origin(ok()) as server, using(max_per_host=8) as client:
        pairs = at_once(client, server, 500)
        assert all(taken(pair).body == b"ok" for pair in pairs)
        assert len(server.asked) == 500
        assert server.connections == 8


def test_two_tasks_use_one_client() -> None:
    release = channel.new()
    with origin(lambda asked: (release.pop(), ok(asked.target))[1]) as server, using() as client:
        jobs = [Job(lambda path=path: client.get(server.url + path)).blocked() for path in ("/a", "/b")]
        until(lambda: len(server.asked) == 2)
        release.push(1)
        release.push(1)
        assert [taken(job.result()).body for job in jobs] == [b"/a", b"/b"]
        assert server.connections == 2


@pytest.mark.parametrize("unsent", [2**20, 2**30])
def test_a_body_that_nobody_takes_is_not_left_behind_an_answer(unsent: int) -> None:
    """The server has answered without reading: what is still to be sent would come before the next request."""

    def script(conn: Any) -> None:
        conn.limit(1)
        conn.read("\r\n\r\n", 5000)
        go.pop()
        conn.write(ok())
        conn._stream.flush()
        hold.pop()

    go, hold = channel.new(), channel.new()
    with raw_server(script) as listener, using(limits=silly.Limits(unsent=unsent)) as client:
        for _ in range(2):
            with taken(client.request("POST", f"http://127.0.0.1:{listener.port}/")) as stream:
                job = Job(lambda: stream.closewrite(b"x" * 20_000_000))
                turn(50)
                go.push(1)
                job.result()
                assert stream.readall() == (b"ok", None)
                assert client._pool._origins == {}
        hold.close()
