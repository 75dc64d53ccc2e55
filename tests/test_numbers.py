"""Numbers out of range: ValueError in words, where they are given, and nothing has happened."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import silly
from silly import time
from silly._core import scheduler
from silly._wire.limits import Limits
from silly._wire.numbers import MOST, MOST_MS, check_int, check_ms, shown
from silly.net import http, tcp, tls, websocket

from .helpers import Raw, raw_server, server_side, serving

NAN, INF = float("nan"), float("inf")
HUGE = 10**400
MORE = 10**5000  # Python doesn't write it
BAD_MS = [-1, -HUGE, HUGE, MORE, NAN, INF, -INF, 1e300, -1e-9, MOST_MS + 1]
BAD_INTS = [-1, -HUGE, HUGE, MORE, MOST + 1]
NO_INTS = [NAN, INF, 1.5]
ADDR = "127.0.0.1:0"


def ids(value: object) -> str | None:
    return shown(value) if isinstance(value, (int, float)) else None


def nothing(*args: Any) -> None: ...


@pytest.fixture
def conn() -> Iterator[Any]:
    """A connection whose peer has sent ``hello``."""
    with raw_server(lambda conn: conn.write("hello") and conn.read(1)) as listener:
        conn = silly.check(tcp.connect(listener.addr))
        with conn:
            silly.check(conn.read(1))
            yield conn


CONN_MS: dict[str, Callable[[Any, Any], Any]] = {
    "read, without a wait": lambda conn, ms: conn.read(1, ms),
    "read, with a wait": lambda conn, ms: conn.read(100, ms),
    "read up to a delimiter": lambda conn, ms: conn.read("\n", ms),
    "tls.upgrade": lambda conn, ms: tls.upgrade(conn, "localhost", timeout=ms),
}


@pytest.mark.parametrize("ms", BAD_MS, ids=ids)
@pytest.mark.parametrize("call", CONN_MS.values(), ids=CONN_MS)
def test_time_outs_of_a_connection(conn: Any, call: Callable[[Any, Any], Any], ms: Any) -> None:
    with pytest.raises(ValueError, match="in milliseconds, from 0 to 3155760000000"):
        call(conn, ms)
    assert conn.read(4) == (b"ello", None)


FREE_MS: dict[str, Callable[[Any], Any]] = {
    "sleep": time.sleep,
    "after": lambda ms: time.after(ms, nothing),
    "deadline": time.deadline,
    "tcp.connect": lambda ms: tcp.connect("127.0.0.1:1", timeout=ms),
    "tls.connect": lambda ms: tls.connect("127.0.0.1:1", timeout=ms),
    "websocket.connect": lambda ms: websocket.connect("ws://127.0.0.1:1/", timeout=ms),
    "websocket.connect with TLS": lambda ms: websocket.connect("wss://127.0.0.1:1/", timeout=ms),
    "http.get": lambda ms: http.get("http://127.0.0.1:1/", timeout=ms),
    "http.post": lambda ms: http.post("http://127.0.0.1:1/", body=b"", timeout=ms),
    "http.fetch": lambda ms: http.fetch("GET", "http://127.0.0.1:1/", timeout=ms),
    "http.request": lambda ms: http.request("GET", "http://127.0.0.1:1/", timeout=ms),
    **{
        f"http.newclient, {name}": lambda ms, name=name: http.newclient(**{name: ms})  # type: ignore[misc]
        for name in ("connect_timeout", "head_timeout", "read_timeout", "timeout", "idle_timeout")
    },
}


@pytest.mark.parametrize("ms", BAD_MS, ids=ids)
@pytest.mark.parametrize("call", FREE_MS.values(), ids=FREE_MS)
def test_times(call: Callable[[Any], Any], ms: Any) -> None:
    """The row's example: ``time.after(10**400, f)``."""
    timers = len(scheduler.loop.timers)
    with pytest.raises(ValueError, match=r"in milliseconds, from (more than )?0 to 3155760000000"):
        call(ms)
    assert len(scheduler.loop.timers) == timers


@pytest.mark.parametrize("ms", BAD_MS, ids=ids)
def test_times_of_a_websocket_and_a_server(ms: Any) -> None:
    with server_side() as (sock, _):
        for call in (sock.read, lambda ms: sock.pieces(ms)):
            with pytest.raises(ValueError, match="in milliseconds"):
                call(ms)
    with serving(lambda stream: stream.respond(200)) as server:
        with pytest.raises(ValueError, match="in milliseconds"):
            server.drain(ms)
        with Raw.connect(server) as client:
            client.request()
            assert client.response().status == 200, "it serves on"


BODY: dict[str, Callable[[Any, Any], Any]] = {
    "read": lambda stream, ms: stream.read(1, ms),
    "readall": lambda stream, ms: stream.readall(timeout=ms),
    "pieces": lambda stream, ms: stream.pieces(ms),
}


@pytest.mark.parametrize("ms", BAD_MS, ids=ids)
def test_time_outs_of_a_body(ms: Any) -> None:
    """Also when the body is there already."""
    raised: list[object] = []

    def handler(stream: Any) -> None:
        for call in BODY.values():
            try:
                call(stream, ms)
            except ValueError as exc:
                raised.append("in milliseconds" in str(exc))
        for call in (lambda: stream.read(HUGE), lambda: stream.read(-HUGE), lambda: stream.readall(HUGE)):
            try:
                call()
            except ValueError:
                raised.append(True)
        stream.respond(200)
        stream.close(stream.readall()[0])

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/", "POST", "Content-Length: 2", body="hi")
        assert client.response().body == b"hi"
        answer, err = http.request("GET", f"http://127.0.0.1:{server.port}/")
        assert err is None
        with answer:
            answer.closewrite()
            for call in (answer.waitresponse, answer.readheader, *[functools.partial(each, answer) for each in BODY.values()]):
                with pytest.raises(ValueError, match="in milliseconds"):
                    call(ms)
    assert raised[:6] == [True] * 6
    assert all(raised)


@pytest.mark.parametrize("n", BAD_INTS, ids=ids)
def test_lengths_of_a_read(conn: Any, n: Any) -> None:
    with pytest.raises(ValueError, match=r"conn\.read needs a length"):
        conn.read(n)
    assert conn.read(4) == (b"ello", None)


@pytest.mark.parametrize("size", [*BAD_INTS, *NO_INTS, 0, True], ids=ids)
def test_the_limit_of_a_connection(conn: Any, size: Any) -> None:
    with pytest.raises(ValueError, match=r"conn\.limit: the size in bytes is an int from 1 to 9223372036854775807"):
        conn.limit(size)
    conn.limit(1)
    conn.limit(MOST)


@pytest.mark.parametrize("limit", [*BAD_INTS, *NO_INTS, True], ids=ids)
def test_the_limit_of_pieces(limit: Any) -> None:
    with server_side() as (sock, _), pytest.raises(ValueError, match=r"sock\.pieces: the limit"):
        sock.pieces(limit=limit)


@pytest.mark.parametrize("backlog", [-1, 2**31, HUGE, NAN, INF, True], ids=ids)
@pytest.mark.parametrize("way", ["argument", "dict"])
def test_a_backlog(backlog: Any, way: str) -> None:
    for module in (tcp, http):
        given: dict[str, Any] = {"addr": ADDR, "accept" if module is tcp else "handler": nothing, "backlog": backlog}
        with pytest.raises(ValueError, match="the backlog is an int from 0 to 2147483647"):
            module.listen(given) if way == "dict" else module.listen(**given)


def test_the_largest_backlog() -> None:
    listener, err = tcp.listen(ADDR, nothing, 2**31 - 1)
    assert err is None
    listener.close()


@pytest.mark.parametrize("port", ["65536", "9" * 400, "9" * 5000, "-1", "1e3", "nan"])
def test_a_port(port: str) -> None:
    for call in (lambda: tcp.connect(f"127.0.0.1:{port}"), lambda: tcp.listen(f"127.0.0.1:{port}", nothing)):
        with pytest.raises(ValueError, match="is not an address with a port from 0 to 65535"):
            call()
    for connect in (http.get, websocket.connect):
        got, err = connect(f"{'http' if connect is http.get else 'ws'}://127.0.0.1:{port}/")
        assert got is None
        assert re.search("bad host or port|Port out of range 0-65535", err), err


@pytest.mark.parametrize("number", [*BAD_INTS, NAN, True], ids=ids)
def test_sending_a_file(number: Any) -> None:
    raised: list[str] = []

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": 2})
        for offset, size in ((number, 2), (0, number)):
            try:
                stream.sendfile(0, offset, size)
            except ValueError as exc:
                raised.append(str(exc))
        stream.close("hi")

    with serving(handler) as server, Raw.connect(server) as client:
        client.request()
        assert client.response().body == b"hi", "nothing was sent before"
    assert [text.partition(" is an int from 0 to")[0] for text in raised] == [
        "stream.sendfile: the offset", "stream.sendfile: the size",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [*BAD_INTS, *NO_INTS, True], ids=ids)
def test_counts_of_a_client(count: Any) -> None:
    for name in ("redirects", "max_idle_per_host", "max_per_host"):
        with pytest.raises(ValueError, match=rf"http\.newclient: {name} is an int from 0 to"):
            http.newclient(**{name: count})
    with pytest.raises(ValueError, match=r"http\.fetch: redirects is an int"):
        http.get("http://127.0.0.1:1/", redirects=count)


@pytest.mark.parametrize("name", Limits.__slots__)
def test_limits(name: str) -> None:
    is_time = name.endswith(("_timeout", "_interval")) or name == "linger"
    most = MOST_MS if is_time else MOST
    assert getattr(Limits(**{name: most}), name) == most
    for bad in (most + 1, HUGE, MORE, -HUGE, NAN, INF, -INF, 1e300, True):
        with pytest.raises(ValueError, match=f"the limit '{name}' is an int from [01] to {most}, not "):
            Limits(**{name: bad})


def test_the_largest_limits_work() -> None:
    """Nothing overflows where they are used."""
    times = {"linger", "ping_interval"} | {name for name in Limits.__slots__ if name.endswith("_timeout")}
    largest = Limits(**{name: MOST_MS if name in times else MOST for name in Limits.__slots__})
    client_times = dict.fromkeys(("timeout", "connect_timeout", "head_timeout", "read_timeout", "idle_timeout"), MOST_MS)

    def handler(stream: Any) -> None:
        if stream.path == "/ws":
            sock = silly.check(websocket.upgrade(stream, compression=True))
            silly.check(sock.write(sock.read(MOST_MS)[0], "text"))
            b"".join(sock.pieces(MOST_MS, MOST))
            sock.close()
            return
        stream.respond(200)
        body, _ = stream.readall(MOST, MOST_MS)
        stream.close(body)

    with serving(handler, limits=largest, backlog=2**31 - 1) as server:
        with http.newclient(limits=Limits(body=MOST), **client_times) as client:
            answer = silly.check(client.post(f"http://127.0.0.1:{server.port}/", body=b"x" * 70_000))
            assert answer.body == b"x" * 70_000
        url = f"ws://127.0.0.1:{server.port}/ws"
        sock = silly.check(websocket.connect(url, limits=largest, compression=True, timeout=MOST_MS))
        with sock:
            silly.check(sock.write("x" * 1000, "text"))
            assert sock.read(MOST_MS) == ("x" * 1000, "text")
            silly.check(sock.write(b"y" * 1000, "binary"))
            assert sock.read()[1] == "close"


@pytest.mark.parametrize("good", [0, 0.0, 1e-300, 1, 1.5, MOST_MS, float(MOST_MS)])
def test_times_in_range(good: float) -> None:
    check_ms("a time", good)
    if good:
        check_ms("a time", good, positive=True)
    else:
        with pytest.raises(ValueError, match="from more than 0 to"):
            check_ms("a time", good, positive=True)


@pytest.mark.parametrize("bad", [True, None, "1", 1j, []])
def test_what_is_no_number_is_no_time(bad: Any) -> None:
    with pytest.raises(TypeError, match="a time is a number of milliseconds, not"):
        check_ms("a time", bad)


def test_a_range_of_ints() -> None:
    for good in (3, 5):
        check_int("a number", good, 3, 5)
    for bad in (2, 6, 4.0, True, "4", None):
        with pytest.raises(ValueError, match=r"^a number is an int from 3 to 5, not"):
            check_int("a number", bad, 3, 5)


def test_how_a_number_is_shown() -> None:
    assert [shown(each) for each in (-1, 10**40, 1.5, "x", HUGE, -MORE)] == [
        "-1", "1" + "0" * 40, "1.5", "'x'", "an int of 1329 bits", "an int of 16610 bits",
    ]  # fmt: skip
