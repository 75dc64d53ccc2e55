"""What our client puts on the wire, and to whom: no string can break out of its place, no credential leaves its origin.

And what a connection that comes to nothing leaves behind.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silly import errno

from ..helpers import Peer, turn
from ..net.support import never_answers, reset_on_close, until
from .support import GOOD, KIB, TCP, TLS, Memory, Origin, Told, Way, both_transports, every_way, origin
from .test_http_client import chunked, head
from .test_http_responses import EVIL, GOOD_VALUES, NOT_BYTES, TYPES, every_evil, every_non_name

MISTAKES = (TypeError, ValueError)


def good(told: Told, peer: Peer) -> None:
    peer.send(GOOD)


def refused(way: Way, *calls: Callable[[Any, str], object], errors: tuple[type[Exception], ...] = (ValueError,)) -> None:
    """Each of ``call(client, url)`` raises, before a connection is made; and the client goes on."""
    with origin(way, good) as server, way.client() as client:
        url = way.web(server)
        for call in calls:
            with pytest.raises(errors):
                call(client, url)
        turn(3)
        assert server.connections == []
        assert client.get(url)[0].body == b"good"
        assert len(server.told) == 1


# ---- injection ------------------------------------------------------------------------------------------------------


@both_transports
@every_non_name
def test_cve_2023_49082_method(evil: str, way: Way) -> None:
    """aiohttp CVE-2023-49082, undici CVE-2026-1527: a method that is more than one word."""
    refused(way, lambda client, url: client.request(evil, url), lambda client, url: client.fetch(evil, url, None, b"x"))


@both_transports
@pytest.mark.parametrize(
    "method", ["GET / HTTP/1.1\r\nX:", "GET /smuggled", "GET\t", "GET ", " GET", "CONNECT", None, 5, b"GET"], ids=repr
)
def test_cve_2023_49082_more_methods(method: Any, way: Way) -> None:
    refused(
        way,
        lambda client, url: client.request(method, url),
        lambda client, url: client.fetch(method, url),
        errors=MISTAKES,
    )


SHAPES: dict[str, Callable[[str, str], Any]] = {
    "dict": lambda name, value: {name: value},
    "pairs": lambda name, value: [(name, value)],
    "list": lambda name, value: {name: ["good", value]},
    "second": lambda name, value: [("good", "x"), (name, value)],
}


def sent_with(header: Any) -> list[Callable[[Any, str], object]]:
    """The calls that take a header."""
    return [
        lambda client, url: client.get(url, header),
        lambda client, url: client.post(url, header, b"x"),
        lambda client, url: client.request("PUT", url, header),
    ]


@both_transports
@every_evil
@pytest.mark.parametrize("shape", SHAPES)
def test_cve_2023_37276_cve_2023_49081_header_value(shape: str, evil: str, way: Way) -> None:
    refused(way, *sent_with(SHAPES[shape]("X-Evil", evil)))


@both_transports
@every_non_name
def test_cve_2023_37276_cve_2026_50269_header_name(evil: str, way: Way) -> None:
    refused(way, *[call for shape in ("dict", "pairs") for call in sent_with(SHAPES[shape](evil, "x"))])


KNOWN = ["host", "content-length", "transfer-encoding", "connection", "expect", "user-agent", "accept-encoding", "cookie"]
KNOWN += ["authorization", "content-type", "upgrade", "te", "trailer"]


@both_transports
@every_evil
def test_gevent_775_aiohttp_12689_fields_that_the_client_knows(evil: str, way: Way) -> None:
    refused(way, *[call for name in KNOWN for call in sent_with({name: evil})])


@both_transports
@pytest.mark.parametrize("bad", TYPES, ids=lambda value: type(value).__name__)
def test_header_values_of_other_types(bad: Any, way: Way) -> None:
    refused(way, *sent_with({"x": bad}), *sent_with({"x": ["good", bad]}), errors=MISTAKES)


@both_transports
@pytest.mark.parametrize(
    "header",
    [
        {"content-length": "+5"},
        {"content-length": "-0"},
        {"content-length": "5_0"},
        {"content-length": "0x5"},
        {"content-length": "\u0665"},
        {"content-length": "\xb2"},
        {"content-length": " 5"},
        {"content-length": ""},
        {"content-length": -1},
        {"content-length": "1, 2"},
        {"content-length": ["1", "2"]},
        {"transfer-encoding": "xchunked"},
        {"transfer-encoding": "gzip, chunked"},
        {"transfer-encoding": "chunked, chunked"},
        {"transfer-encoding": ["chunked", "chunked"]},
        {"transfer-encoding": ""},
        {"content-length": "1", "transfer-encoding": "chunked"},
        {"transfer-encoding": "chunked", "Content-Length": "1"},
        [("Host", "a"), ("host", "b")],
        {"host": ["a", "b"]},
    ],
    ids=repr,
)
def test_framing_fields_from_the_caller(header: Any, way: Way) -> None:
    """What two parsers could read differently is not sent."""
    refused(way, *sent_with(header))


@both_transports
def test_good_header_values(way: Way) -> None:
    with origin(way, good) as server, way.client() as client:
        for value in GOOD_VALUES:
            assert client.get(way.web(server), {"X-Good": value})[1] is None
            values = value if isinstance(value, list) else [value]
            assert server.told[-1].all("x-good") == [str(each) for each in values]
        assert len(server.connections) == 1


EVIL_TRAILERS: dict[str, Any] = {
    **{f"value-{name}": {"x": evil} for name, evil in EVIL.items()},
    **{f"name-{name}": {evil: "x"} for name, evil in EVIL.items()},
    "content-length": {"content-length": "3"},
    "transfer-encoding": [("Transfer-Encoding", "chunked")],
    "host": {"host": "evil"},
    "authorization": {"Authorization": "x"},
}


@both_transports
@pytest.mark.parametrize("row", EVIL_TRAILERS)
def test_cve_2026_50269_trailer(row: str, way: Way) -> None:
    """Before a byte of the request's end; which may then be sent in order."""
    with origin(way, good) as server, way.client() as client:
        stream, _ = client.request("POST", way.web(server))
        with stream:
            for last in (None, b"more"):
                with pytest.raises(ValueError):
                    stream.closewrite(last, EVIL_TRAILERS[row])
            turn(3)
            assert server.told == []
            assert stream.closewrite(b"x")
            assert stream.readall() == (b"good", None)
        assert server.told[0].body == b"x"


@both_transports
@pytest.mark.parametrize("bad", NOT_BYTES, ids=lambda value: type(value).__name__)
def test_cve_2026_45736_bodies_of_other_types(bad: Any, way: Way) -> None:
    """TypeError, and nothing of it is sent."""
    refused(way, lambda client, url: client.post(url, None, bad), errors=(TypeError,))
    with origin(way, good) as server, way.client() as client:
        stream, _ = client.request("POST", way.web(server))
        with stream:
            for call in (stream.write, stream.closewrite):
                with pytest.raises(TypeError):
                    call(bad)
            assert stream.closewrite("fine")
            assert stream.readall() == (b"good", None)
        assert server.told[0].body == b"fine"


PLACES = {
    "path": "/{}",
    "path-behind": "/a/{}/b",
    "query": "/?{}",
    "query-value": "/?a={}&b=c",
}


@both_transports
@every_evil
@pytest.mark.parametrize("place", PLACES)
def test_cve_2023_49081_gevent_775_url(place: str, evil: str, way: Way) -> None:
    """Refused, or sent with a percent sign for each byte that a request line can't have."""
    with origin(way, good) as server, way.client() as client:
        for call in sent_with(None):
            result, err = call(client, way.web(server, PLACES[place].format(evil)))  # type: ignore[misc]
            if result is None:
                assert isinstance(err, str)
                assert err.isprintable()
            elif hasattr(result, "closewrite"):
                with result:
                    result.closewrite()
                    assert result.waitresponse()
        for told in server.told:
            method, target, version = told.head.split("\r\n")[0].split(" ")
            assert (method, version) in {("GET", "HTTP/1.1"), ("POST", "HTTP/1.1"), ("PUT", "HTTP/1.1")}
            assert target.isascii()
            assert target.isprintable()
            assert told.all("evil") == []
            assert "%" in target
        if not set(evil).isdisjoint("\r\n\0\x7f\x1b\x1f"):
            assert server.connections == []


@both_transports
@every_evil
def test_cve_2023_49081_fragment(evil: str, way: Way) -> None:
    """It is never sent."""
    with origin(way, good) as server, way.client() as client:
        client.get(way.web(server, f"/a#{evil}"))
        assert all(told.head.startswith("GET /a HTTP/1.1\r\n") for told in server.told)


@both_transports
@every_evil
@pytest.mark.parametrize("place", ["host", "host-behind", "port", "port-behind", "scheme"])
def test_cve_2023_49081_host(place: str, evil: str, way: Way) -> None:
    """No field Host is made of it, and no name that isn't one is looked up."""
    with origin(way, good) as server, way.client() as client:
        good_url = way.web(server)
        url = {
            "host": good_url.replace("127.0.0.1", evil),
            "host-behind": good_url.replace("127.0.0.1", f"127.0.0.1{evil}"),
            "port": good_url.replace(f":{server.port}", f":{evil}"),
            "port-behind": good_url.replace(f":{server.port}", f":{server.port}{evil}"),
            "scheme": evil + good_url,
        }[place]
        if place.startswith("host") and evil.encode("ascii", "replace").isalnum():
            return  # a name
        result, err = client.get(url)
        if result is None:
            assert isinstance(err, str)
            assert err.isprintable()
            assert server.connections == []
        else:
            assert [told.all("host") for told in server.told] == [[f"127.0.0.1:{server.port}"]]


HOSTS = ["a/b?c", "a b", "a,b", "a@b", "[::1", "::1", "[x]", "a\\b", "*", "%0d%0ahost", "a%00b", "a%20b", "a%2fb", "[::1%25lo]"]
HOSTS += ["", ":", "@"]


@pytest.mark.parametrize("host", HOSTS)
def test_cve_2023_49081_odd_hosts(host: str) -> None:
    """An error, no exception; and nothing is looked up or sent."""
    with TCP.client() as client:
        for url in (f"http://{host}:1/", f"http://{host}:99999/", f"http://{host}:x/", f"http://{host}:-1/"):
            result, err = client.get(url, timeout=5000)
            assert result is None
            assert isinstance(err, str)
            assert err.isprintable()


@both_transports
@pytest.mark.parametrize("place", ["user", "password"])
@every_evil
def test_user_and_password(evil: str, place: str, way: Way) -> None:
    """Refused, or within the base64 of one field; in an error they are never seen."""
    user = f"{evil}:secret@" if place == "user" else f"user:secret{evil}@"
    with origin(way, good) as server, way.client() as client:
        result, err = client.get(way.web(server, "/", user))
        if result is None:
            assert "secret" not in err
            assert err.isprintable()
            assert server.connections == []
        else:
            (field,) = server.told[0].all("authorization")
            assert b"secret" in base64.b64decode(field.removeprefix("Basic "), validate=True)
            assert result.url == way.web(server, "/")


@both_transports
@pytest.mark.parametrize("evil", ["%0d%0aEvil:%201", "%00", "%0a", "%7f", "%e2%82%ac", "%ff", "%3a", "%40", "%2f"])
def test_user_and_password_that_are_encoded(evil: str, way: Way) -> None:
    with origin(way, good) as server, way.client() as client:
        result, err = client.get(way.web(server, "/", f"user:secret{evil}@"))
        if result is None:
            assert "secret" not in err
            assert server.connections == []
            return
        (field,) = server.told[0].all("authorization")
        assert base64.b64decode(field.removeprefix("Basic "), validate=True).startswith(b"user:secret")
        assert server.told[0].all("evil") == []


# ---- redirects ------------------------------------------------------------------------------------------------------

CREDENTIALS = [
    ("Authorization", "Bearer first"),
    ("Cookie", "a=secret"),
    ("X-Other", "stays"),
    ("authorization", "Bearer second"),
    ("cookie", "b=secret"),
    ("Proxy-Authorization", "Basic secret"),
    ("Cookie2", "$Version=1"),
]
SENT = ["authorization", "cookie", "proxy-authorization", "cookie2"]
HEADERS: dict[str, Any] = {
    "pairs": CREDENTIALS,
    "dict": {
        "AUTHORIZATION": ["Bearer first", "Bearer second"],
        "cookie": ["a=secret", "b=secret"],
        "Proxy-Authorization": "Basic secret",
        "Cookie2": "$Version=1",
        "x-other": "stays",
    },
}


def redirect(location: str, status: int = 302) -> bytes:
    return head(f"Location: {location}", "Content-Length: 0", first=f"HTTP/1.1 {status} Redirect")


def redirecting(way: Way, location: Callable[[], str], status: int = 302) -> Any:
    """A server whose ``/first`` redirects to ``location()``; everything else is good."""

    def answer(told: Told, peer: Peer) -> None:
        way.deliver_all(peer, redirect(location(), status) if " /first " in told.head else GOOD)

    return origin(way, answer)


def credentials(told: Told) -> list[str]:
    return [name for name in SENT if told.all(name)]


OTHERS: dict[str, Callable[[Way, Origin, Origin], str]] = {
    "port": lambda way, one, other: way.web(other, "/second"),
    "port-without-scheme": lambda way, one, other: way.web(other, "/second").partition(":")[2],
    "userinfo": lambda way, one, other: way.web(other, "/second", "user:secret@"),
    "host-of-the-first-as-user": lambda way, one, other: way.web(other, "/second", "127.0.0.1@"),
    "upper-case": lambda way, one, other: way.web(other, "/second").replace("http", "HTTP"),
    "fragment": lambda way, one, other: way.web(other, "/second#x@127.0.0.1/"),
}


@every_way
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("shape", HEADERS)
@pytest.mark.parametrize("other", OTHERS)
def test_cve_2026_49853_redirect_to_another_port(other: str, shape: str, status: int, way: Way) -> None:
    """tornado CVE-2026-49853, websockets 16.1, aiohttp 3.14.3: none of several credentials goes to another origin."""
    with origin(way, good) as second, way.client(redirects=5) as client:
        with redirecting(way, lambda: OTHERS[other](way, first, second), status) as first:
            response, err = client.post(way.web(first, user="user:secret@"), HEADERS[shape], b"x")
            assert err is None
            assert response.body == b"good"
            assert response.url.endswith("/second")
            assert credentials(first.told[0]) == SENT
            assert first.told[0].all("authorization") == ["Bearer first", "Bearer second"]
        (told,) = second.told
    assert credentials(told) == []
    assert "secret" not in told.head
    assert told.all("host") == [f"127.0.0.1:{second.port}"]
    assert told.all("x-other") == ["stays"]


def test_cve_2026_49853_redirect_to_another_host() -> None:
    """Of the same port, on the same machine: another name is another origin."""
    with TCP.client(redirects=5) as client:
        with redirecting(TCP, lambda: TCP.web(first, "/second", host="localhost")) as first:
            response, err = client.get(TCP.web(first, user="user:secret@"), CREDENTIALS)
            assert err is None
            assert response.body == b"good"
        assert [credentials(told) for told in first.told] == [SENT, []]
        assert "secret" not in first.told[1].head
        assert first.told[1].all("host") == [f"localhost:{first.port}"]


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1:1"])
def test_cve_2026_49853_host_from_the_caller(host: str) -> None:
    """A Host that the caller gave is for the origin that it was given for."""
    with origin(TCP, good) as second, TCP.client(redirects=5) as client:
        with redirecting(TCP, lambda: TCP.web(second)) as first:
            assert client.get(TCP.web(first), {"host": host})[1] is None
        assert first.told[0].all("host") == [host]
        assert second.told[0].all("host") == [f"127.0.0.1:{second.port}"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_cve_2026_49853_redirect_to_another_scheme(status: int) -> None:
    """From http to https, which is followed, the credentials stay behind too."""
    with origin(TLS, good) as second, TCP.client(redirects=5) as client:
        with redirecting(TCP, lambda: TLS.web(second), status) as first:
            assert client.get(TCP.web(first, user="user:secret@"), CREDENTIALS)[1] is None
        assert [credentials(told) for told in second.told] == [[]]
        assert "secret" not in second.told[0].head


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:{}/second", "HTTP://127.0.0.1:{}/second", "http://u:secret@127.0.0.1:{}/"]
)
def test_cve_2026_49853_redirect_from_https_to_http(location: str, status: int) -> None:
    """Refused; nothing is sent there, not even a connection made."""
    with origin(TCP, good) as second, TLS.client(redirects=5) as client:
        with redirecting(TLS, lambda: location.format(second.port), status) as first:
            response, err = client.get(TLS.web(first, user="user:secret@"), CREDENTIALS)
            assert response is None
            assert "https to http" in err
            assert "secret" not in err
        assert second.connections == []


@both_transports
def test_cve_2026_49853_there_and_back(way: Way) -> None:
    """An origin that is redirected back to gets no credentials that another has had a say in."""

    def back(told: Told, peer: Peer) -> None:
        peer.send(redirect(way.web(first, "/back")))

    with origin(way, back) as second, way.client(redirects=5) as client:
        with redirecting(way, lambda: way.web(second)) as first:
            assert client.get(way.web(first, user="user:secret@"), CREDENTIALS)[1] is None
        assert [told.head.split(" ")[1] for told in first.told] == ["/first", "/back"]
        assert [credentials(told) for told in (*first.told, *second.told)] == [SENT, [], []]


@both_transports
@pytest.mark.parametrize(
    "location", ["/second", "second", "?x", "//127.0.0.1:{}/second", "{}://127.0.0.1:{}/second", "./second#x"]
)
def test_redirect_within_the_origin(location: str, way: Way) -> None:
    """All credentials stay, each as often as it was given."""
    scheme = "https" if way.tls else "http"

    def where() -> str:
        return location.format(*([scheme] if location.count("{}") == 2 else []), first.port)

    def answer(told: Told, peer: Peer) -> None:
        peer.send(redirect(where()) if len(first.told) == 1 else GOOD)

    with origin(way, answer) as first, way.client(redirects=5) as client:
        assert client.get(way.web(first, user="user:secret@"), CREDENTIALS)[1] is None
        assert [credentials(told) for told in first.told] == [SENT, SENT]
        assert first.told[1].all("authorization") == ["Bearer first", "Bearer second"]
        assert len(first.connections) == 1


@both_transports
def test_redirects_are_not_followed_by_default(way: Way) -> None:
    with redirecting(way, lambda: "/second") as first, way.client() as client:
        response, err = client.get(way.web(first))
        assert err is None
        assert (response.status, response.header["location"]) == (302, "/second")
        assert len(first.told) == 1


@both_transports
def test_endless_redirects(way: Way) -> None:
    with redirecting(way, lambda: "/first") as first, way.client(redirects=3) as client:
        response, err = client.get(way.web(first))
        assert response is None
        assert "more than 3" in err
        assert len(first.told) == 4


LOCATIONS = [
    "javascript:alert(1)",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "data:,x",
    "ws://127.0.0.1/",
    "mailto:x",
    "unix:/x",
]
LOCATIONS += ["http://", "http:///x", "//", "http://[::1", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http:second"]
LOCATIONS += [
    "http:\\\\evil.test\\",
    "/\\evil.test:1/",
    "\\\\evil.test/",
    "///evil.test/",
    "http:/evil.test/",
    "\xa0//evil.test",
]
LOCATIONS += ["", "#", "/caf\xe9", "/?\xff", "/a b", "/%0d%0aEvil: 1", "/%00", "/%zz", "/a/../../../b", "x" * 6000]
LOCATIONS += ["http://a b/", "http://%0d%0a/"]


@both_transports
@pytest.mark.parametrize("location", LOCATIONS, ids=lambda text: ascii(text[:40]))
def test_odd_locations(location: str, way: Way) -> None:
    """An error, or a request to the same server that is a good one: nothing raises, and no other server is asked."""
    answers = [redirect(location), GOOD]

    def answer(told: Told, peer: Peer) -> None:
        peer.send(answers.pop(0))

    with origin(way, answer) as first, way.client(redirects=1) as client:
        response, err = client.get(way.web(first, user="user:secret@"), CREDENTIALS, timeout=5000)
        if response is None:
            assert err.isprintable()
            assert len(err) < 600
            assert "secret" not in err
            assert "redirect: " in err
        for told in first.told:
            method, target, version = told.head.split("\r\n")[0].split(" ")
            assert (method, version, target[0]) == ("GET", "HTTP/1.1", "/")
            assert target.isascii()
            assert told.all("evil") == []


@every_way
@pytest.mark.parametrize("lines", [("Location: /second", "Location: /third"), ("Location: /second", "location: /second")])
def test_two_locations(lines: tuple[str, ...], way: Way) -> None:
    """Which of them counts is what clients differ in."""
    data = head(*lines, "Content-Length: 0", first="HTTP/1.1 302 Found")
    with origin(way, lambda told, peer: way.deliver_all(peer, data)) as first, way.client(redirects=5) as client:
        response, err = client.get(way.web(first))
        assert response is None
        assert "2 Location fields" in err
        assert len(first.told) == 1


# ---- connections that come to nothing -------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def failing(call: Callable[[], tuple[Any, Any]], times: int = 30) -> list[str]:
    """``call`` fails each time, and leaves no descriptor, nor memory that grows with the times."""
    errors = [str(call()[1]) for _ in range(3)]
    turn(5)
    before = descriptors()
    with Memory() as memory:
        for _ in range(times):
            result, err = call()
            assert result is None
            assert isinstance(err, str)
            errors.append(err)
        turn(5)
    until(lambda: descriptors() <= before)
    assert memory.held < times * 8 * KIB
    return errors


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port without a listener, which stays reserved."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the descriptors of the process")
class TestFailedConnects:
    """Upstream leaked one descriptor each."""

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_lua_refused(self, scheme: str, closed_port: int) -> None:
        with TCP.client() as client:
            errors = failing(lambda: client.get(f"{scheme}://127.0.0.1:{closed_port}/"))
            assert all(errno.CONNREFUSED in err for err in errors)
            assert client._pool._origins == {}

    def test_lua_unreachable(self) -> None:
        """The kernel says so at once: a broadcast address takes no connection."""
        with TCP.client() as client:
            failing(lambda: client.get("http://255.255.255.255:80/"))
            assert client._pool._origins == {}

    def test_lua_each_of_another_origin(self) -> None:
        """A pool keeps nothing of servers that it never reached."""
        numbers = iter(range(2, 200))
        with TCP.client() as client:
            failing(lambda: client.get(f"http://127.0.0.{next(numbers)}:1/"))
            assert client._pool._origins == {}

    def test_lua_no_name(self) -> None:
        with TCP.client() as client:
            failing(lambda: client.get(f"http://{'a' * 64}.test/"))
            assert client._pool._origins == {}

    def test_lua_time_out(self) -> None:
        with never_answers() as (host, port), TCP.client(connect_timeout=5) as client:
            errors = failing(lambda: client.get(f"http://{host}:{port}/"), 10)
            assert all(errno.TIMEDOUT in err for err in errors)

    def test_lua_untrusted_certificate(self, logs: Any) -> None:
        logs.allow("INFO tls: ")
        with origin(TLS, good) as server, TLS.client() as client:
            failing(lambda: client.get(f"https://localhost:{server.port}/"))
            assert server.told == []
            assert client._pool._origins == {}

    def test_lua_plain_server_asked_for_tls(self) -> None:
        def script(conn: Any) -> None:
            conn.read(1, 5000)
            conn.write(GOOD)
            conn.close()

        with TCP.raw_server(script) as listener, TLS.client() as client:
            failing(lambda: client.get(TLS.web(listener)))

    @pytest.mark.parametrize("how", ["close", "reset"])
    @pytest.mark.parametrize("way", [TCP, TLS], ids=["tcp", "tls"])
    def test_lua_ended_at_once(self, way: Way, how: str, logs: Any) -> None:
        logs.allow("INFO tls: ")

        def script(conn: Any) -> None:
            if how == "reset":
                reset_on_close(conn._stream.sock)
                conn._stream.abort()
            conn.close()

        with TCP.raw_server(script) as listener, way.client() as client:
            failing(lambda: client.get(way.web(listener)))
            assert client._pool._origins == {}

    @both_transports
    def test_lua_request_that_is_never_sent(self, way: Way) -> None:
        """A stream that nobody uses or closes leaves nothing behind."""
        with origin(way, good) as server, way.client() as client:
            client.get(way.web(server))
            before = descriptors()
            for _ in range(10):
                stream, err = client.request("GET", way.web(server))
                assert err is None
                del stream
            until(lambda: not client._pool._origins)
            turn(5)
            until(lambda: descriptors() <= before)

    @both_transports
    def test_bad_responses(self, way: Way) -> None:
        def answer(told: Told, peer: Peer) -> bool:
            peer.conn.write(chunked("5\r\nabcdeXX"))
            return True

        with origin(way, answer) as server, way.client() as client:

            def call() -> tuple[Any, Any]:
                result = client.get(way.web(server))
                server.ended(len(server.connections) - 1)
                server.connections[-1].close()
                return result

            failing(call)
            assert client._pool._origins == {}
