"""The HTTP client where its parts meet: connections that had paused, expectations, several tasks, and odd URLs."""

from __future__ import annotations

import gc
from threading import Thread
from time import monotonic
from typing import Any

import pytest

from silly._wire.url import HTTP, Url, parse_url
from silly.net import http
from silly.net.http._pool import Pool, _Origin
from silly.sync import channel

from ..helpers import raw_server, turn
from .http_client_support import Asked, error, ok, origin, read_request, taken, using
from .support import Job, until

pytestmark = pytest.mark.usefixtures("nothing_lingers")


# ---- a connection that paused ---------------------------------------------------------------------------------------


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


# ---- expectations ---------------------------------------------------------------------------------------------------

EXPECT = {"expect": "100-continue"}


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


# ---- several tasks, and threads -------------------------------------------------------------------------------------


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


def test_another_thread_changes_nothing() -> None:
    """What it tried to write counted as sent: the body followed without the head."""
    caught: list[BaseException] = []

    def elsewhere() -> None:
        for call in (lambda: stream.write("x"), stream.flush, lambda: stream.closewrite("x")):
            try:
                call()
            except RuntimeError as exc:
                caught.append(exc)

    with origin(ok()) as server, using() as client, taken(client.request("PUT", server.url)) as stream:
        thread = Thread(target=elsewhere)
        thread.start()
        thread.join(5)
        assert len(caught) == 3
        assert stream.closewrite("body")
        assert taken(stream.readall()) == b"ok"
        assert [asked.body for asked in server.asked] == [b"body"]


def test_a_place_that_never_comes_free_says_so() -> None:
    """As when a task that holds a stream asks the same origin for something else."""
    with origin(ok()) as server, using(max_per_host=1, connect_timeout=50) as client:
        with taken(client.request("GET", server.url)):
            assert error(client.get(server.url)).endswith("(after 50 ms); as many as 'max_per_host' allows are in use")
        taken(client.get(server.url))


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [{"ca": "x.pem"}, {"verify": False}, {"timeout": 5}, {"redirects": 1}, {"connect_timeout": 7}, {"max_per_host": 3}],
)
def test_settings_both_ways(option: dict[str, Any]) -> None:
    """Those beside the dict got lost."""
    with pytest.raises(TypeError):
        http.newclient({"decode": False}, **option)


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

    class Counted(Pool):
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


# ---- URLs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["0x7f.1", "0X7F000001", "127.1", "2130706433", "0177.0.0.1", "127.0.0.01", "127.0.0.1.", "127.0.0.256"]
    + ["0", "0x", "１２７．１"],
)
def test_odd_spellings_of_ipv4_addresses(host: str) -> None:
    """The system takes most of them for an address, browsers rewrite them, and filters overlook them."""
    assert parse_url(f"http://{host}/", HTTP) == "bad host: an IPv4 address is four decimal numbers"
    with using() as client:
        assert "four decimal numbers" in error(client.get(f"http://u:SECRET@{host}:80/"))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "1.2.3.4.5", "1.2.3.a", "0x7f.example", "1e3", "[::ffff:1.2.3.4]"])
def test_hosts_that_are_no_odd_spellings(host: str) -> None:
    parsed = parse_url(f"http://{host}/", HTTP)
    assert isinstance(parsed, Url)
    assert parsed.authority == host


@pytest.mark.parametrize("host", ["faß.example", "FAẞ.example", "κόσμος.example"])
def test_names_that_idna_2003_and_2008_tell_apart(host: str) -> None:
    assert "write it as xn--" in str(parse_url(f"http://{host}/", HTTP))


@pytest.mark.parametrize("userinfo", ["@", ":@"])
def test_empty_credentials_are_none(userinfo: str) -> None:
    parsed = parse_url(f"http://{userinfo}h/", HTTP)
    assert isinstance(parsed, Url)
    assert parsed.authorization is None


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}\\@localhost:{port}/x", "//good.example\\@localhost:{port}/x"])
def test_location_with_a_backslash_in_the_authority(form: str) -> None:
    """Browsers go to the host before it, others to the one behind."""

    def answer(asked: Asked) -> bytes:
        return ok(b"", f"Location: {form.format(port=server.port)}", status="302 Found")

    with origin(answer) as server, using(redirects=2) as client:
        assert "backslash" in error(client.get(server.url))
        assert len(server.asked) == 1
