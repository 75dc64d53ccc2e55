"""Redirects: followed only when asked for, by the rules of RFC 9110, section 15.4, and without leaking anything."""

from __future__ import annotations

from typing import Any

import pytest

from silly import time
from silly.net import http

from .http_client_support import Asked, error, ok, origin, taken, using


def redirect(location: str | bytes, status: int = 302, *fields: str) -> bytes:
    data = location.encode() if isinstance(location, str) else location
    lines = [f"HTTP/1.1 {status} Moved", "Content-Length: 4", *fields, "Location: "]
    return "\r\n".join(lines).encode() + data + b"\r\n\r\ngone"


def test_not_followed_unless_asked_for() -> None:
    with origin(redirect("/x")) as server, using() as client:
        response = taken(client.get(server.url))
        assert (response.status, response.header["location"], response.body) == (302, "/x", b"gone")
    with origin(redirect("/x")) as server, using(redirects=3) as client:
        assert taken(client.get(server.url, redirects=0)).status == 302
        with taken(client.request("GET", server.url)) as stream:
            stream.closewrite()
            assert stream.readheader()[0] == 302
        assert len(server.asked) == 2


def test_followed() -> None:
    for options, call in (({"redirects": 2}, {}), ({}, {"redirects": 2})):
        with origin([redirect("/a?b#c"), redirect("d"), ok()]) as server, using(**options) as client:
            response = taken(client.get(server.url + "/start", **call))
            assert (response.status, response.url) == (200, server.url + "/d")
            assert [asked.target for asked in server.asked] == ["/start", "/a?b", "/d"]
            assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "method", "then", "kept"),
    [
        *[(status, method, method, True) for status in (301, 302) for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")],
        *[(status, "HEAD", "HEAD", False) for status in (301, 302, 303, 307, 308)],
        (301, "POST", "GET", False),
        (302, "POST", "GET", False),
        *[(303, method, "GET", False) for method in ("GET", "POST", "PUT", "DELETE", "PATCH")],
        *[(status, method, method, True) for status in (307, 308) for method in ("GET", "POST", "PUT", "DELETE")],
    ],
)
def test_methods_and_bodies(status: int, method: str, then: str, kept: bool) -> None:
    header = {
        "Content-Type": "text/x",
        "Content-Language": "xx",
        "Content-Encoding": "x",
        "Content-Location": "/x",
        "Content-Length": "4",
        "X-Y": "z",
        "Cookie": ["a", "b"],
    }
    moved = redirect("/x", status).replace(b"Length: 4", b"Length: 0").removesuffix(b"gone")
    with origin([moved, ok(b"")]) as server, using(redirects=1) as client:
        response = taken(client.fetch(method, server.url, header, "body"))
    first, second = server.asked
    assert response.status == 200
    assert (first.method, first.body, second.method) == (method, b"body", then)
    assert second.one("x-y") == "z"
    assert second.all("cookie") == ["a; b"]
    names = [name for name in header if second.all(name.lower())]
    if kept or method == "HEAD":
        assert second.body == b"body"
        assert names == list(header)
    else:
        assert second.body == b""
        assert names == ["X-Y", "Cookie"]
        assert second.one("content-length") is None


def test_a_chunked_body_is_dropped_too() -> None:
    header = {"Transfer-Encoding": "chunked", "Expect": "x", "Digest": "x", "Last-Modified": "x"}
    with origin([redirect("/x", 303), ok()]) as server, using(redirects=1) as client:
        assert taken(client.post(server.url, header, "body")).status == 200
    assert [line.partition(":")[0] for line in server.asked[1].lines] == ["host", "user-agent", "accept-encoding"]


def test_a_body_is_sent_again() -> None:
    with origin([redirect("/x", 308), redirect("/y", 307), ok()]) as server, using(redirects=2) as client:
        assert taken(client.post(server.url, None, bytearray(b"body"))).status == 200
    assert [(asked.method, asked.body) for asked in server.asked] == [("POST", b"body")] * 3


@pytest.mark.parametrize("status", [300, 304, 305, 306, 309, 200, 404, 201])
def test_what_is_no_redirect(status: int) -> None:
    answer = redirect("/x", status) if status != 304 else redirect("/x", status)[:-4]
    with origin(answer) as server, using(redirects=3) as client:
        assert taken(client.get(server.url)).status == status
        assert len(server.asked) == 1


def test_without_a_location() -> None:
    with origin(ok(status="302 Found")) as server, using(redirects=3) as client:
        assert taken(client.get(server.url)).status == 302


@pytest.mark.parametrize("most", [1, 2, 5])
def test_how_many(most: int) -> None:
    with origin(redirect("/again")) as server, using(redirects=most) as client:
        text = error(client.get(server.url))
        assert text == f"http GET {server.url}/again: redirect: more than {most} redirects"
        assert len(server.asked) == most + 1
        assert server.connections == 1
    with origin([redirect("/x")] * most + [ok()]) as server, using(redirects=most) as client:
        assert taken(client.get(server.url)).status == 200


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/x", "/x"),
        ("x", "/a/x"),
        ("../x", "/x"),
        ("?x", "/a/b?x"),
        ("#x", "/a/b?c"),
        ("", "/a/b?c"),
        ("/x y", "/x%20y"),
        ("/é?ü", "/%C3%A9?%C3%BC"),
        (b"/\xe9", "/%E9"),
        ("/a%20b%2Fc", "/a%20b%2Fc"),
        ("/x;y=z&a=[1]", "/x;y=z&a=[1]"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("http://HOST/x", "/x"),
        ("//HOST/x", "/x"),
        ("http://u:p@HOST/x", "/x"),
        ("http://HOST", "/"),
        ("http://HOST#x", "/"),
        ("HTTP://HOST/x", "/x"),
    ],
)
def test_locations(location: Any, target: str) -> None:
    def answer(asked: Asked) -> bytes:
        if len(server.asked) > 1:
            return ok()
        return redirect(location.replace("HOST", f"127.0.0.1:{server.port}") if isinstance(location, str) else location)

    with origin(answer) as server, using(redirects=1) as client:
        assert taken(client.get(server.url + "/a/b?c")).status == 200
        assert server.asked[1].target == target
        assert server.asked[1].one("authorization") is None


@pytest.mark.parametrize(
    "location",
    ["ftp://h/", "javascript:alert(1)", "data:,x", "file:///etc/passwd", "ws://h/", "mailto:x", "//[", "http://[::1"]
    + ["http://h:99999/", "http://h:x/", "http://*/", "//[v1.x]/", "unix:/run/x", "http://u:SECRET@h:x/"],
)
def test_locations_that_lead_nowhere(location: str) -> None:
    """Whatever a server says, nothing raises."""
    with origin(redirect(location)) as server, using(redirects=3) as client:
        text = error(client.get(f"http://u:SECRET@127.0.0.1:{server.port}/a"))
        assert text.startswith(f"http GET {server.url}/a: redirect: to ")
        assert "SECRET" not in text
        assert len(server.asked) == 1


def test_several_locations() -> None:
    """Clients differ in which of them counts."""
    with origin(redirect("/a", 302, "Location: /b")) as server, using(redirects=3) as client:
        assert "2 Location fields" in error(client.get(server.url))
        assert taken(client.get(server.url, redirects=0)).status == 302


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}\\@localhost:{port}/x", "//good.example\\@localhost:{port}/x"])
def test_location_with_a_backslash_in_the_authority(form: str) -> None:
    """Browsers go to the host before it, others to the one behind."""

    def answer(asked: Asked) -> bytes:
        return ok(b"", f"Location: {form.format(port=server.port)}", status="302 Found")

    with origin(answer) as server, using(redirects=2) as client:
        assert "backslash" in error(client.get(server.url))
        assert len(server.asked) == 1


def test_a_location_of_any_length() -> None:
    with origin(redirect("x:" + "y" * 8000)) as server, using(redirects=3) as client:
        assert len(error(client.get(server.url))) < 600
    with origin([redirect("/" + "é" * 3000), ok()]) as server, using(redirects=3) as client:
        assert taken(client.get(server.url)).status == 200


SECRETS: list[tuple[str, Any]] = [
    ("Authorization", "one"),
    ("authorization", "two"),
    ("Cookie", ["a", "b"]),
    ("COOKIE", "c"),
    ("Cookie2", "d"),
    ("Proxy-Authorization", "e"),
    ("Host", "mine.example"),
    ("X-Other", "kept"),
]
NAMES = ("authorization", "cookie", "cookie2", "proxy-authorization")


def secrets(asked: Asked) -> list[str]:
    return [value for name in NAMES for value in asked.all(name)]


def test_the_same_origin_keeps_what_is_for_it() -> None:
    with origin([redirect("/x"), ok()]) as server, using(redirects=1) as client:
        taken(client.get(server.url, SECRETS))
    for asked in server.asked:
        assert secrets(asked) == ["one", "two", "a; b; c", "d", "e"]
        assert asked.all("host") == ["mine.example"]


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}/x", "//127.0.0.1:{port}/x", "http://u:p@127.0.0.1:{port}/x"])
def test_another_port_gets_no_credentials(form: str) -> None:
    with origin(ok()) as other, origin(redirect(form.format(port=other.port))) as server, using(redirects=1) as client:
        response = taken(client.get(f"http://us:er@127.0.0.1:{server.port}/", SECRETS))
        assert response.url == f"{other.url}/x"
    assert secrets(server.asked[0]) == ["one", "two", "a; b; c", "d", "e"]
    assert secrets(other.asked[0]) == []
    assert other.asked[0].all("host") == [f"127.0.0.1:{other.port}"]
    assert other.asked[0].one("x-other") == "kept"


def test_another_host_gets_no_credentials() -> None:
    def answer(asked: Asked) -> bytes:
        return ok() if asked.target == "/x" else redirect(f"http://localhost:{server.port}/x")

    with origin(answer) as server, using(redirects=1) as client:
        taken(client.get(server.url, SECRETS))
    assert secrets(server.asked[1]) == []
    assert server.asked[1].all("host") == [f"localhost:{server.port}"]


def test_credentials_of_the_url() -> None:
    """The same origin gets them again, another does not, nor the first one after that."""
    with origin(ok()) as other:

        def answer(asked: Asked) -> bytes:
            return {
                "/": redirect("/same"),
                "/same": redirect(f"http://x:y@127.0.0.1:{server.port}/also"),
                "/also": redirect(other.url + "/other"),
                "/back": ok(),
            }[asked.target]

        with origin(answer) as server, using(redirects=5) as client:
            other._answer = lambda asked: redirect(server.url + "/back")
            taken(client.get(f"http://us:er@127.0.0.1:{server.port}/", {"cookie": "a"}))
    first = server.asked[0].one("authorization")
    assert first is not None
    assert [asked.one("authorization") for asked in server.asked] == [first, first, first, None]
    assert [asked.one("cookie") for asked in server.asked] == ["a", "a", "a", None]
    assert other.asked[0].one("authorization") is None


def test_total_timeout_covers_all_of_them() -> None:
    def answer(asked: Asked) -> bytes:
        time.sleep(30)
        return redirect("/x")

    with origin(answer) as server, using(redirects=100, timeout=300) as client:
        assert "total" in error(client.get(server.url))
        assert 1 < len(server.asked) < 20


def test_a_redirect_with_a_bad_body() -> None:
    with origin(lambda asked: lambda peer: peer.send(redirect("/x")[:-2])) as server, using(redirects=3) as client:
        assert "incomplete" in error(client.get(server.url))


def test_one_connection_is_enough() -> None:
    with origin([redirect("/x"), redirect("/y"), ok()]) as server, using(redirects=3, max_per_host=1) as client:
        assert taken(client.get(server.url)).status == 200
        assert server.connections == 1


def test_the_module_follows_when_asked() -> None:
    with origin([redirect("/x"), ok()]) as server:
        try:
            assert taken(http.get(server.url, redirects=1)).status == 200
        finally:
            http.closeidle()
