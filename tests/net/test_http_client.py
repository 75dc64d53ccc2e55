"""The HTTP client: what it sends, and what it makes of answers."""

from __future__ import annotations

import base64
from threading import Thread
from typing import Any

import pytest

import silly
from silly import errno
from silly._version import version
from silly._wire.url import HTTP, parse_url
from silly.net import http, tcp

from ..helpers import Raw, raw_server, serving, turn
from .http_client_support import Asked, error, ok, origin, taken, using

# ---- requests -------------------------------------------------------------------------------------------------------


def ask(method: str, path: str = "/", *args: Any, **options: Any) -> Asked:
    """What the server sees of ``client.fetch``."""
    with origin(ok()) as server, using() as client:
        response = taken(client.fetch(method, server.url + path, *args, **options))
        assert (response.status, response.body) == (200, b"" if method == "HEAD" else b"ok")
        (asked,) = server.asked
        return asked


def test_get() -> None:
    with origin(ok("héllo", "Content-Type: text/plain", "X-Y: a", "x-y: b")) as server, using() as client:
        response = taken(client.get(server.url + "/a?b=c#d"))
        (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("GET", "/a?b=c", b"")
    assert sorted(asked.lines) == [
        "accept-encoding: gzip, deflate",
        f"host: 127.0.0.1:{server.port}",
        f"user-agent: silly/{version}",
    ]
    assert (response.status, response.reason, response.version) == (200, "OK", "HTTP/1.1")
    assert (response.header["content-TYPE"], response.header["x-y"]) == ("text/plain", "a, b")
    assert (response.text, response.body, response.trailer) == ("héllo", "héllo".encode(), {})
    assert response.url == server.url + "/a?b=c"


@pytest.mark.parametrize(
    "header", [{"Cookie": ["a=1", "b=2"]}, [("cookie", "a=1"), ("X", "y"), ("Cookie", "b=2")], {"cookie": "a=1; b=2"}]
)
def test_cookies_go_out_in_one_field(header: Any) -> None:
    """RFC 6265, section 5.4."""
    assert ask("GET", "/", header).all("cookie") == ["a=1; b=2"]
    with origin(ok()) as server, using() as client:
        with taken(client.request("GET", server.url, header)) as stream:
            assert stream.closewrite()
            assert stream.readall() == (b"ok", None)
        assert server.asked[0].all("cookie") == ["a=1; b=2"]


def test_the_module_has_a_client_of_its_own() -> None:
    with origin(ok()) as server:
        try:
            assert taken(http.get(server.url)).status == 200
            assert taken(http.post(server.url, None, "x")).status == 200
            assert taken(http.fetch("PUT", server.url)).status == 200
            with taken(http.request("DELETE", server.url)) as stream:
                assert stream.closewrite()
                assert stream.readheader() == (200, {"content-length": "2"})
                assert stream.readall() == (b"ok", None)
        finally:
            http.closeidle()
        assert [asked.method for asked in server.asked] == ["GET", "POST", "PUT", "DELETE"]
        assert server.connections == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "FOO"])
def test_without_body(method: str) -> None:
    asked = ask(method)
    assert asked.method == method
    assert asked.one("content-length") is None
    assert asked.one("transfer-encoding") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("body", [None, b"", ""])
def test_a_body_that_is_due_and_empty(method: str, body: Any) -> None:
    asked = ask(method, "/", None, body)
    assert asked.one("content-length") == "0"
    assert asked.one("transfer-encoding") is None


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "FOO"])
@pytest.mark.parametrize("body", [b"h\xc3\xa9", "hé", bytearray("hé".encode()), memoryview("hé".encode())])
def test_bodies(method: str, body: Any) -> None:
    asked = ask(method, "/", None, body)
    assert (asked.body, asked.one("content-length")) == ("hé".encode(), "3")


def test_memoryview_of_wide_items() -> None:
    assert ask("POST", "/", None, memoryview(b"abcdefgh").cast("I")).body == b"abcdefgh"
    with using() as client:
        for body in (5, ["a"], memoryview(b"abcd")[::2], object()):
            with pytest.raises(TypeError):
                client.post("http://127.0.0.1:1/", None, body)


def test_big_body() -> None:
    data = bytes(range(256)) * 12_000
    assert ask("POST", "/", None, data).body == data
    asked = ask("POST", "/", {"transfer-encoding": "chunked"}, data)
    assert (asked.body, asked.one("content-length")) == (data, None)


@pytest.mark.parametrize(
    "header",
    [
        {"X-A": "1", "x-b": 2, "X-C": ["3", 4], "User-Agent": None},
        [("X-A", "1"), ("x-b", 2), ("X-C", ["3", 4]), ("user-agent", None)],
        (pair for pair in [("X-A", "1"), ("x-b", 2), ("X-C", "3"), ("X-C", 4), ("user-agent", None)]),
    ],
)
def test_header_forms(header: Any) -> None:
    asked = ask("GET", "/", header)
    assert [asked.all(name) for name in ("x-a", "x-b", "x-c", "user-agent")] == [["1"], ["2"], ["3", "4"], []]


def test_arguments_are_never_changed() -> None:
    header = {"Authorization": "x", "Cookie": ["a", "b"], "Content-Type": "text/plain", "Accept-Encoding": None}
    kept = {name: list(value) if isinstance(value, list) else value for name, value in header.items()}
    pairs = list(header.items())
    body = bytearray(b"body")
    moved = ok("", "Location: /x", status="303 See Other")
    for given in (header, pairs):
        with origin([moved, moved, ok()]) as server, using(redirects=5) as client:
            assert taken(client.post(server.url, given, body)).status == 200
    assert header == kept
    assert pairs == list(kept.items())
    assert body == b"body"


def test_a_body_that_changes_later() -> None:
    body = bytearray(b"before")
    with origin(ok()) as server, using() as client, taken(client.request("POST", server.url)) as stream:
        stream.write(body)
        body[:] = b"later!"
        stream.closewrite()
        assert stream.readall() == (b"ok", None)
        assert server.asked[0].body == b"before"


def test_defaults_may_be_left_out_or_changed() -> None:
    asked = ask("GET", "/", {"User-Agent": None, "Accept-Encoding": None})
    assert [line.partition(":")[0] for line in asked.lines] == ["host"]
    asked = ask("GET", "/", {"User-Agent": "mine", "Accept-Encoding": "br", "Host": "other.example:1"})
    assert sorted(asked.lines) == ["accept-encoding: br", "host: other.example:1", "user-agent: mine"]


def test_a_range_is_not_asked_for_encoded() -> None:
    assert ask("GET", "/", {"Range": "bytes=0-1"}).one("accept-encoding") is None


def test_user_and_password() -> None:
    def credentials(asked: Asked) -> str | None:
        return asked.one("authorization")

    with origin(ok()) as server, using() as client:
        url = f"http://us%40er:pa%3Ass@127.0.0.1:{server.port}/x"
        response = taken(client.get(url))
        assert response.url == f"{server.url}/x"
        taken(client.get(url, {"Authorization": "Bearer mine"}))
        taken(client.get(url, {"Authorization": None}))
        with taken(client.request("GET", url)) as stream:
            assert stream.url == f"{server.url}/x"
            assert "pa" not in repr(stream)
    basic = "Basic " + base64.b64encode(b"us@er:pa:ss").decode()
    assert [credentials(asked) for asked in server.asked] == [basic, "Bearer mine", None]


def test_two_hosts_are_refused() -> None:
    with origin(ok()) as server, using() as client:
        for header in ({"host": ["a", "b"]}, [("Host", "a"), ("host", "b")]):
            with pytest.raises(ValueError, match="only one Host"):
                client.get(server.url, header)
    assert server.connections == 0


def test_a_host_is_always_sent() -> None:
    with origin(ok()) as server, using() as client:
        assert taken(client.get(server.url, {"host": None})).status == 200
    assert server.asked[0].one("host") == f"127.0.0.1:{server.port}"


def test_what_upstream_has() -> None:
    """``close`` and ``alpnprotos``, and a version before the response."""
    with origin(ok()) as server, http.newclient({"alpnprotos": ["http/1.1", "h2"], "read_timeout": 5000}) as client:
        for _ in range(2):
            stream = taken(client.request("GET", server.url, None, True, ["http/1.1", "h2"]))
            assert stream.version == "HTTP/1.1"
            assert stream.closewrite() == (True, None)
            assert stream.readall() == (b"ok", None)
        with pytest.raises(ValueError, match=r"needs 'http/1\.1'"):
            client.request("GET", server.url, None, False, ["h2"])
        with pytest.raises(TypeError, match="list of names"):
            http.newclient(alpnprotos="http/1.1")
    assert [asked.one("connection") for asked in server.asked] == ["close", "close"]
    assert server.connections == 2


BAD = ["a\rb", "a\nb", "a\r\nb: c", "a\0b", "a\x7fb", "€"]


@pytest.mark.parametrize("bad", BAD)
def test_injection(bad: str) -> None:
    """CR and LF would smuggle a field or a request in. Nothing may be sent, and no connection made."""
    with origin(ok()) as server, using() as client:
        for method in (bad, "", "G ET", "GET:"):
            with pytest.raises(ValueError):
                client.fetch(method, server.url)
            with pytest.raises(ValueError):
                client.request(method, server.url)
        headers: list[Any] = [{"x": bad}, {bad: "x"}, {"x": ["a", bad]}, [("x", bad)], {"": "x"}, {"a b": "x"}, {"a:": "x"}]
        headers += [{"host": bad}, {"content-length": bad}, {"transfer-encoding": bad}, {"connection": bad}, {"expect": bad}]
        for header in headers:
            for call in (client.get, client.post, lambda *args: client.request("PUT", *args)):
                with pytest.raises(ValueError):
                    call(server.url, header)
        for url in (server.url + "/" + bad, server.url + "/?" + bad):
            if bad != "€":
                assert "http GET" in error(client.get(url))
        assert server.connections == 0


def test_trailer_injection() -> None:
    with origin(ok()) as server, using() as client:
        for trailer in ({"x": "a\r\nb"}, {"x\n": "a"}, {"x": "€"}, {"content-length": "3"}, {"Transfer-Encoding": "x"}):
            with taken(client.request("POST", server.url)) as stream, pytest.raises(ValueError):
                stream.closewrite("x", trailer)
        turn(3)
        assert server.asked == []


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        ((None, "http://127.0.0.1:1/"), TypeError),
        ((b"GET", "http://127.0.0.1:1/"), TypeError),
        (("GET", None), TypeError),
        (("GET", b"http://127.0.0.1:1/"), TypeError),
        (("GET", "http://127.0.0.1:1/", 5), TypeError),
        (("GET", "http://127.0.0.1:1/", {"x": 1.5}), TypeError),
        (("GET", "http://127.0.0.1:1/", {"x": True}), TypeError),
        (("GET", "http://127.0.0.1:1/", {5: "x"}), TypeError),
        (("GET", "http://127.0.0.1:1/", {b"x": "x"}), TypeError),
        (("GET", "http://127.0.0.1:1/", {"x": b"y"}), TypeError),
        (("GET", "http://127.0.0.1:1/", {"content-length": "-1"}), ValueError),
        (("GET", "http://127.0.0.1:1/", {"content-length": "\u0665"}), ValueError),
        (("GET", "http://127.0.0.1:1/", {"content-length": ["1", "2"]}), ValueError),
        (("GET", "http://127.0.0.1:1/", {"transfer-encoding": "gzip, chunked"}), ValueError),
        (("GET", "http://127.0.0.1:1/", [("content-length", 1), ("transfer-encoding", "chunked")]), ValueError),
        (("CONNECT", "http://127.0.0.1:1/"), ValueError),
    ],
)
def test_mistakes(args: Any, kind: type[Exception]) -> None:
    with using() as client:
        with pytest.raises(kind):
            client.fetch(*args)
        with pytest.raises(kind):
            client.request(*args)


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan")])
def test_timeouts_that_are_none(timeout: float) -> None:
    with using() as client:
        for call in (client.get, client.post, lambda *args, **options: client.request("GET", *args, **options)):
            with pytest.raises(ValueError):
                call("http://127.0.0.1:1/", timeout=timeout)


@pytest.mark.parametrize("redirects", [-1, True, 1.5, "1"])
def test_numbers_of_redirects_that_are_none(redirects: Any) -> None:
    with using() as client, pytest.raises((TypeError, ValueError), match="redirects"):
        client.get("http://127.0.0.1:1/", redirects=redirects)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        *[({name: ms}, ValueError) for name in ("connect_timeout", "timeout") for ms in (0, -1, float("nan"), float("inf"))],
        *[({name: ms}, TypeError) for name in ("head_timeout", "read_timeout", "idle_timeout") for ms in ("1", None, True)],
        *[({name: n}, ValueError) for name in ("max_idle_per_host", "max_per_host", "redirects") for n in (-1, True, 1.5)],
        ({"limits": 5}, TypeError),
        ({"verify": "require"}, TypeError),
        ({"verify": None}, TypeError),
        ({"nonsense": 5}, TypeError),
    ],
)
def test_settings_that_are_none(options: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        http.newclient(**options)
    with pytest.raises(kind):
        http.newclient(options)


def test_settings_in_a_dict() -> None:
    with http.newclient({"redirects": 1, "timeout": 5000}) as client, origin(ok()) as server:
        assert taken(client.get(server.url)).status == 200
    for config in ([], "x", 5):
        with pytest.raises(TypeError):
            http.newclient(config)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        http.newclient({"redirects": 1}, limits=silly.Limits(body=5))


@pytest.mark.parametrize(
    "url",
    ["", "h", "ftp://h/", "http://", "http://h h/", "http://h:99999/", "http://[::1", "http://u:SECRET@h:x/", "u:SECRET@h/x"]
    + ["http://u:SE/CRET@h/", "ws://h/", "http://h/\n", "http://\0/", "http://*/", "//h/", "http://%41/"],
)
def test_bad_urls(url: str) -> None:
    with using() as client:
        for pair in (client.get(url), client.request("POST", url)):
            text = error(pair)
            assert text.startswith("http ")
            assert "CRET" not in text
            assert "\n" not in text
            assert "\0" not in text


def test_odd_hosts_come_back_as_errors() -> None:
    """What a URL names is not always a programmer's: nothing raises."""
    with using() as client:
        hosts = ["127.0.0.1:0", "a!b", "a;b", "unix", "unix:1", "[::1]:0", "~", ".", "..", "-", "a_b", "1.2.3.4.5"]
        for host in (*hosts, "x" * 300):
            text = error(client.get(f"http://{host}/", timeout=2000))
            assert text.startswith("http GET http://")
            assert ": connect: " in text


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


def test_idn_host_and_ipv6_host() -> None:
    seen: list[str] = []

    def script(conn: Any) -> None:
        head, _ = conn.read("\r\n\r\n", 5000)
        seen.extend(line for line in head.decode().split("\r\n") if line.startswith("host: "))
        conn.write(ok())
        conn.read(1, 5000)

    listener, err = tcp.listen("[::1]:0", script)
    if listener is None:
        pytest.skip(str(err))
    with listener, using() as client:
        assert taken(client.get(f"http://[::1]:{listener.port}/")).status == 200
        assert seen == [f"host: [::1]:{listener.port}"]


# ---- bodies that are streamed ---------------------------------------------------------------------------------------


def test_chunked_upload() -> None:
    with origin(ok()) as server, using() as client:
        with taken(client.request("POST", server.url, {"X-Y": "z"})) as stream:
            for piece in ("é", b"bytes", bytearray(b"array"), memoryview(b"view"), ""):
                assert stream.write(piece) == (True, None)
            assert stream.flush() == (True, None)
            assert stream.closewrite("end", {"X-Sum": 5}) == (True, None)
            assert stream.closewrite() == (False, "the request has ended")
            assert stream.write("x") == (False, "the request has ended")
            assert stream.flush() == (False, "the request has ended")
            status, header = stream.readheader()
            assert (status, header["content-length"]) == (200, "2")
            assert stream.readall() == (b"ok", None)
        (asked,) = server.asked
        assert (asked.body, asked.trailer) == ("ébytesarrayviewend".encode(), b"x-sum: 5\r\n\r\n")
        assert asked.one("transfer-encoding") == "chunked"
        taken(client.get(server.url))
        assert server.connections == 1


def test_trailer_alone() -> None:
    with origin(ok()) as server, using() as client, taken(client.request("POST", server.url)) as stream:
        assert stream.closewrite(trailer=[("X-A", "1"), ("x-a", "2")])
        assert stream.readall() == (b"ok", None)
        assert (server.asked[0].body, server.asked[0].trailer) == (b"", b"x-a: 1\r\nx-a: 2\r\n\r\n")


def test_whole_body_by_closewrite_has_a_length() -> None:
    with origin(ok()) as server, using() as client, taken(client.request("PUT", server.url)) as stream:
        assert stream.closewrite("whole", {})
        assert stream.readall() == (b"ok", None)
        assert (server.asked[0].body, server.asked[0].one("content-length")) == (b"whole", "5")


def test_upload_of_a_given_length() -> None:
    with origin(ok()) as server, using() as client:
        with taken(client.request("POST", server.url, {"Content-Length": 5})) as stream:
            assert stream.write("ab")
            ok_, err = stream.write("cdef")
            assert not ok_
            assert "content-length of 5" in err
            assert stream.closewrite("cde", {"x-t": "left out"})
            assert stream.readall() == (b"ok", None)
        assert (server.asked[0].body, server.asked[0].lines.count("content-length: 5")) == (b"abcde", 1)
        taken(client.get(server.url))
        assert server.connections == 1


@pytest.mark.parametrize(("written", "last"), [("", ""), ("ab", ""), ("ab", "c"), ("", "abcdef"), ("abc", "def")])
def test_upload_of_another_length(written: str, last: str) -> None:
    """What came next would be taken for the rest of the body."""
    with origin(ok()) as server, using() as client, taken(client.request("POST", server.url, {"Content-Length": 5})) as stream:
        if written:
            assert stream.write(written)
        ok_, err = stream.closewrite(last)
        assert not ok_
        assert "content-length of 5" in err
        assert "sending the request" in err
        assert stream.readall() == (None, err)
        assert stream.waitresponse() == (False, err)
        turn(3)
        assert server.asked == []
        assert client._pool._origins == {}


def test_fetch_with_a_length_that_is_wrong() -> None:
    with origin(ok()) as server, using() as client:
        for length in (0, 4, 6):
            assert f"content-length of {length}" in error(client.post(server.url, {"content-length": length}, "12345"))
        assert taken(client.post(server.url, {"content-length": "5"}, "12345")).status == 200
        assert [asked.body for asked in server.asked] == [b"12345"]


def test_what_must_come_before() -> None:
    with origin(ok()) as server, using() as client, taken(client.request("GET", server.url)) as stream:
        assert stream.status == 0
        for pair in (stream.waitresponse(), stream.readheader(), stream.read(1), stream.readall()):
            assert "closewrite()" in error(pair)
        pieces = stream.pieces()
        assert list(pieces) == []
        assert "closewrite()" in str(pieces.err)
        with pytest.raises(TypeError):
            stream.write(5)
        with pytest.raises(TypeError):
            stream.closewrite(5)
        assert stream.closewrite()
        assert stream.readall() == (b"ok", None)


def test_flush_sends_the_head() -> None:
    def script(conn: Any) -> None:
        _head, _ = conn.read("\r\n\r\n", 5000)
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        conn.read(1, 5000)

    with raw_server(script) as listener, using() as client:
        stream = taken(client.request("POST", f"http://127.0.0.1:{listener.port}/"))
        assert stream.flush()
        assert stream.waitresponse()
        assert stream.status == 200


def test_reading_piece_by_piece() -> None:
    with origin(ok(b"0123456789" * 20_000)) as server, using() as client:
        with taken(client.request("GET", server.url)) as stream:
            stream.closewrite()
            assert stream.read(3) == (b"012", None)
            assert stream.status == 200
            pieces = stream.pieces()
            body = b"".join(pieces)
            assert pieces.err is None
            assert len(body) == 199_997
            assert stream.read(0) == (b"", None)
            assert stream.read(1) == (None, errno.EOF)
            assert stream.readall() == (b"", None)
            assert stream.close() == (False, errno.CLOSED)
        taken(client.get(server.url))
        assert server.connections == 1


def test_after_close() -> None:
    with origin(ok()) as server, using() as client:
        stream = taken(client.request("GET", server.url))
        assert "under way" in repr(stream)
        assert stream.remoteaddr == f"127.0.0.1:{server.port}"
        assert stream.close() == (True, None)
        assert stream.close() == (False, errno.CLOSED)
        assert stream.write("x") == stream.closewrite() == stream.flush() == (False, errno.CLOSED)
        assert stream.waitresponse() == (False, errno.CLOSED)
        assert stream.readheader() == stream.read(1) == stream.readall() == (None, errno.CLOSED)
        with stream:
            pass
        turn(3)
        assert server.asked == []


def test_client_that_is_closed() -> None:
    with origin(ok()) as server:
        client = http.newclient()
        with client, taken(client.request("GET", server.url)) as stream:
            client.close()
            assert stream.closewrite()
            assert stream.readall() == (b"ok", None), "what is under way ends as it would"
        assert "the client is closed" in error(client.get(server.url))
        assert "the client is closed" in error(client.request("GET", f"http://u:SECRET@127.0.0.1:{server.port}"))
        assert "SECRET" not in error(client.request("GET", f"http://u:SECRET@127.0.0.1:{server.port}"))
        client.close()
        client.closeidle()


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


# ---- responses: RFC 9112, section 6.3 -------------------------------------------------------------------------------

OK = "HTTP/1.1 200 OK\r\n"
CHUNKED = OK + "Transfer-Encoding: chunked\r\n\r\n"
CLOSING = OK + "Connection: close\r\n\r\n"
HINTS = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 9\r\n\r\n"


def dribbled(data: bytes) -> Any:
    def send(peer: Raw) -> None:
        for byte in data:
            if not peer.conn.write(bytes((byte,))):
                return
            peer.conn._stream.flush()
            turn()

    return send


def whole(data: bytes) -> Any:
    def send(peer: Raw) -> None:
        peer.conn.write(data)
        peer.conn._stream.flush()

    return send


def both_ways(method: str, data: bytes, **options: Any) -> Any:
    """What the client makes of ``data``, which is followed by the end: whole and byte by byte the same."""
    got = []
    for send in (whole, dribbled):
        with origin(lambda asked, send=send: send(data)) as server, using(**options) as client:
            got.append(client.fetch(method, server.url + "/path"))
            err = got[-1][1]
            if err is not None:
                got[-1] = None, http.RequestError(err.replace(str(server.port), "PORT"), err.phase, err.errno)
    one, two = got
    if one[0] is None or two[0] is None:
        # What is quoted of a bad line may be its first bytes.
        assert one[1].partition("b'")[0] == two[1].partition("b'")[0]
        assert (one[1].phase, one[1].errno) == (two[1].phase, two[1].errno)
    else:
        for name in ("status", "reason", "version", "header", "trailer", "body"):
            assert getattr(one[0], name) == getattr(two[0], name)
    return one


@pytest.mark.parametrize(
    ("method", "answer", "status", "body"),
    [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length:3\r\n\r\nabc", 200, b"abc"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
        ("GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc", 404, b"abc"),
        ("GET", "HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", 999, b""),
        ("GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b""),
        ("GET", CHUNKED + "3\r\nabc\r\n0\r\n\r\n", 200, b"abc"),
        ("GET", CHUNKED.replace("c", "C") + "003;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", 200, b"abc0123456789"),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nup to the end", 200, b"up to the end"),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nup to the end", 200, b"up to the end"),
        ("GET", CLOSING, 200, b""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 200, b""),
        ("HEAD", CHUNKED, 200, b""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 30\r\n\r\n", 200, b""),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, b""),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", 204, b""),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", 304, b""),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, b""),
        ("GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
        ("GET", HINTS + "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
        ("POST", "HTTP/1.1 102 Processing\r\n\r\n" * 5 + "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ],
)  # fmt: skip
def test_framing(method: str, answer: str, status: int, body: bytes) -> None:
    response = taken(both_ways(method, answer.encode()))
    assert (response.status, response.body) == (status, body)


def test_what_a_head_gives() -> None:
    fields = b"Set-Cookie: a=1\r\nset-cookie: b=2\r\nX:\t y \r\nEmpty:\r\nContent-Length: 0\r\n\r\n"
    answer = b"HTTP/1.0 299 Fine \xe9\tthing\r\n" + fields
    response = taken(both_ways("GET", answer))
    assert (response.status, response.reason, response.version) == (299, "Fine \xe9\tthing", "HTTP/1.0")
    assert response.header.getall("set-cookie") == ["a=1", "b=2"]
    assert (response.header["x"], response.header["empty"], response.header["nothing"]) == ("y", "", None)


def test_trailer_of_a_response() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n"
    response = taken(both_ways("GET", answer))
    assert (response.body, response.trailer["X-Sum"], response.header["x-sum"]) == (b"x", "1, 2", None)


@pytest.mark.parametrize(
    ("answer", "phase", "cause"),
    [
        # The end comes before the head, within it, and within the body.
        ("", "waiting for the response", errno.EOF),
        ("HTTP/1.1 200 OK\r\nContent-Le", "waiting for the response", errno.EOF),
        ("HTTP/1.1 100 Continue\r\n\r\n", "waiting for the response", errno.EOF),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "reading the response", "incomplete: " + errno.EOF),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "reading the response", "incomplete: " + errno.EOF),
        (CHUNKED, "reading the response", "incomplete: " + errno.EOF),
        (CHUNKED + "3\r\nab", "reading the response", "incomplete: " + errno.EOF),
        (CHUNKED + "3\r\nabc\r\n", "reading the response", "incomplete: " + errno.EOF),
        (CHUNKED + "0\r\n", "reading the response", "incomplete: " + errno.EOF),
        (CHUNKED + "0\r\nX: y\r\n", "reading the response", "incomplete: " + errno.EOF),
        # Two framings, or none that can be relied on.
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "reading the response", "both"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3_0\r\n\r\nabc", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nabc", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc", "reading the response", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "reading the response", "transfer coding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "reading the response", "transfer coding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "reading the response", "transfer coding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "reading the response", "transfer coding"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "reading the response", "HTTP/1.0"),
        (CHUNKED + "xyz\r\n", "reading the response", "chunk"),
        (CHUNKED + "3\r\nabcd\r\n", "reading the response", "chunk"),
        (CHUNKED + "-3\r\nabc\r\n", "reading the response", "chunk"),
        (CHUNKED + "ffffffffffffffff\r\nabc\r\n", "reading the response", "chunk"),
        (CHUNKED + "0\r\nContent-Length: 3\r\n\r\n", "reading the response", "trailer"),
        # No HTTP, or not this one.
        ("nonsense\r\n\r\n", "reading the response", "status line"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "reading the response", "status line"),
        ("\x16\x03\x01\x02", "reading the response", "0x16"),
        ("\r\n\r\n", "reading the response", "0x0d"),
        (" HTTP/1.1 200 OK\r\n\r\n", "reading the response", "0x20"),
        ("HTTP/2.0 200 OK\r\n\r\n", "reading the response", "status line"),
        ("HTTP/1.2 200 OK\r\n\r\n", "reading the response", "status line"),
        ("http/1.1 200 OK\r\n\r\n", "reading the response", "status line"),
        ("HTTP/1.1  200 OK\r\n\r\n", "reading the response", "status line"),
        ("HTTP/1.1 20 OK\r\n\r\n", "reading the response", "status line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "reading the response", "status line"),
        ("HTTP/1.1 099 OK\r\n\r\n", "reading the response", "status line"),
        ("HTTP/1.1 -20 OK\r\n\r\n", "reading the response", "status line"),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "reading the response", "status line"),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "reading the response", "header line"),
        ("HTTP/1.1 200 OK\r\nX\r\n\r\n", "reading the response", "header line"),
        ("HTTP/1.1 200 OK\r\nUpgrade: y\r\n z\r\n\r\n", "reading the response", "'upgrade' is folded"),
        ("HTTP/1.1 200 OK\r\nX: y\nZ: a\r\n\r\n", "reading the response", "LF"),
        ("HTTP/1.1 200 OK\r\nX: y\rz\r\n\r\n", "reading the response", "CR"),
        ("HTTP/1.1 200 OK\r\nX: y\0z\r\n\r\n", "reading the response", "control"),
        # Interim answers.
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "reading the response", "switched"),
        ("HTTP/1.1 100 Continue\r\n\r\n" * 17 + OK + "Content-Length: 0\r\n\r\n", "reading the response", "interim"),
    ],
)  # fmt: skip
def test_no_response(answer: str, phase: str, cause: str) -> None:
    pair = both_ways("GET", answer.encode("latin-1"))
    assert pair[1] is not None, pair[0].body
    text = error(pair)
    assert text.startswith(f"http GET http://127.0.0.1:PORT/path: {phase}: ")
    assert cause in text
    assert len(text) < 400


def test_interim_responses_up_to_the_limit() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" * 16 + ok()
    assert taken(both_ways("GET", answer)).body == b"ok"


@pytest.mark.parametrize(
    ("limits", "answer", "word"),
    [
        ({"head": 500}, ok(b"", *[f"x: {'y' * 80}"] * 6), "'head'"),
        ({"header_lines": 5}, ok(b"", *["x: y"] * 5), "'header_lines'"),
        ({"line": 100}, ok(b"", "x: " + "y" * 98), "'line'"),
        ({"line": 100}, ok(b"", status="200 " + "y" * 98), "'line'"),
        ({"head": 500}, b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1000, "'head'"),
        ({"body": 4}, ok(b"12345"), "'body'"),
        ({"body": 4}, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "'body'"),
        ({"body": 4}, CLOSING.encode() + b"12345", "'body'"),
        ({"head": 500}, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 100, "'head'"),
        ({"header_lines": 5}, CHUNKED.encode() + b"0\r\n" + b"x: y\r\n" * 6 + b"\r\n", "'header_lines'"),
    ],
)  # fmt: skip
def test_limits(limits: dict[str, int], answer: bytes, word: str) -> None:
    text = error(both_ways("GET", answer, limits=silly.Limits(**limits)))
    assert word in text
    assert ": reading the response: " in text


@pytest.mark.parametrize(
    "answer",
    [ok(b"1234"), CLOSING.encode() + b"1234", CHUNKED.encode() + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"],
)
def test_a_body_of_the_limit(answer: bytes) -> None:
    assert len(taken(both_ways("GET", answer, limits=silly.Limits(body=4))).body) == 4


def test_a_body_too_long_is_told_by_its_head() -> None:
    def answer(peer: Raw) -> None:
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        peer.conn.read(1, 5000)

    with origin(lambda asked: answer) as server, using() as client:
        assert "'body'" in error(client.get(server.url))


def test_readall_with_a_limit() -> None:
    with origin(ok(b"12345")) as server, using() as client:
        for limit, good in ((5, True), (4, False), (0, False)):
            with taken(client.request("GET", server.url)) as stream:
                stream.closewrite()
                body, err = stream.readall(limit)
                assert (body == b"12345") is good, err
                if not good:
                    assert f"longer than {limit} bytes" in err
                    assert stream.readall() == (None, err)
        with taken(client.request("GET", server.url)) as stream:
            stream.closewrite()
            for limit in (-1, 1.5, "5", True):
                with pytest.raises((TypeError, ValueError)):
                    stream.readall(limit)
            for n in (-1, 1.5, "5", None):
                with pytest.raises((TypeError, ValueError)):
                    stream.read(n)
            assert stream.readall() == (b"12345", None)


def test_our_own_server() -> None:
    def handler(stream: Any) -> None:
        body = taken(stream.readall())
        stream.respond(200, {"x-method": stream.method, "x-path": stream.path})
        stream.closewrite(body[::-1])

    with serving(handler) as server, using() as client:
        for method, body in (("GET", b""), ("POST", b"abc"), ("HEAD", b""), ("PUT", b"x" * 300_000)):
            response = taken(client.fetch(method, f"http://127.0.0.1:{server.port}/p", None, body))
            assert (response.status, response.header["x-method"], response.body) == (200, method, body[::-1])
