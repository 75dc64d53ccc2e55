"""URLs of clients: what is taken apart how, what is refused, and that no password shows."""

from __future__ import annotations

import base64
import re

import pytest

from silly._wire.url import HTTP, WEBSOCKET, Url, hidden, parse_url, resolve


def parsed(url: str) -> Url:
    got = parse_url(url, HTTP, fragment=True)
    assert isinstance(got, Url), got
    return got


@pytest.mark.parametrize(
    ("url", "target", "host_field", "path"),
    [
        ("http://h", "h:80", "h", "/"),
        ("http://h/", "h:80", "h", "/"),
        ("HTTP://EXAMPLE.org/Path", "example.org:80", "example.org", "/Path"),
        ("https://h", "h:443", "h", "/"),
        ("https://h:80/", "h:80", "h:80", "/"),
        ("https://h:443/", "h:443", "h", "/"),
        ("http://h:8080/a?b=c", "h:8080", "h:8080", "/a?b=c"),
        ("http://h:/a", "h:80", "h", "/a"),
        ("http://h?b=c", "h:80", "h", "/?b=c"),
        ("http://h/a?b?c", "h:80", "h", "/a?b?c"),
        ("http://h/a#b", "h:80", "h", "/a"),
        ("http://h#b", "h:80", "h", "/"),
        ("http://h/#", "h:80", "h", "/"),
        ("http://[::1]/", "[::1]:80", "[::1]", "/"),
        ("http://[::1]:/", "[::1]:80", "[::1]", "/"),
        ("https://h:?b", "h:443", "h", "/?b"),
        ("http://[::1]:8080/", "[::1]:8080", "[::1]:8080", "/"),
        ("http://[::FFFF:1.2.3.4]/", "[::ffff:1.2.3.4]:80", "[::ffff:1.2.3.4]", "/"),
        ("http://1.2.3.4:5/", "1.2.3.4:5", "1.2.3.4:5", "/"),
        ("http://bücher.example/é?ü=€", "xn--bcher-kva.example:80", "xn--bcher-kva.example", "/%C3%A9?%C3%BC=%E2%82%AC"),
        ("http://h/a%20b%zz", "h:80", "h", "/a%20b%zz"),
        ("http://h//a/../b;c", "h:80", "h", "//a/../b;c"),
        ("http://h/a@b:c", "h:80", "h", "/a@b:c"),
        # Not the address of a Unix domain socket.
        ("http://unix/a", "[unix]:80", "unix", "/a"),
    ],
)
def test_parts(url: str, target: str, host_field: str, path: str) -> None:
    got = parsed(url)
    assert (got.target, got.host_field, got.path, got.authorization) == (target, host_field, path, None)
    assert parse_url(str(got), HTTP) == got


@pytest.mark.parametrize("url", ["ws://h:/", "WS://h:", "ws://[::1]:/", "wss://h:/"])
def test_an_empty_port_of_a_websocket_is_the_default_one(url: str) -> None:
    """RFC 3986, section 3.2.3."""
    got = parse_url(url, WEBSOCKET)
    assert isinstance(got, Url)
    assert got.port == WEBSOCKET[got.scheme]
    assert got.host_field == got.authority


def test_origin() -> None:
    same = ["http://h/a", "http://H:80/b?c", "http://h:/", "http://u:p@h:/"]
    assert {parsed(url).origin for url in same} == {("http", "h", 80)}
    other = ["https://h/", "http://h:81/", "http://i/", "https://h:80/"]
    assert len({parsed(url).origin for url in other}) == 4


@pytest.mark.parametrize(
    ("userinfo", "plain"),
    [("u:p", "u:p"), ("u", "u:"), ("u:", "u:"), (":p", ":p"), ("u%40x:p%3A%2F", "u@x:p:/"), ("ü:é", "ü:é"), ("a@b:p", "a@b:p")],
)
def test_user_and_password(userinfo: str, plain: str) -> None:
    got = parsed(f"http://{userinfo}@h/x")
    assert got.authorization == "Basic " + base64.b64encode(plain.encode()).decode()
    assert str(got) == "http://h/x"
    assert hidden(f"http://{userinfo}@h/x") == "http://h/x"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "scheme"),
        ("h", "scheme"),
        ("h:80", "scheme"),
        ("//h/", "scheme"),
        ("ftp://h/", "neither http:// nor https://"),
        ("ws://h/", "scheme"),
        ("http:h", "no host"),
        ("http:/h", "no host"),
        ("http://", "no host"),
        ("http:///a", "no host"),
        ("http://:80/", "no host"),
        ("http://u:p@/", "no host"),
        ("http://h h/", "spaces"),
        ("http://h/a b", "spaces"),
        ("http://h/\r\nx: y", "control"),
        ("http://h/\0", "control"),
        ("http://h/\x7f", "control"),
        ("http://h/\ud800", "control"),
        ("http://h/\u00ad", "control"),
        ("\thttp://h/", "control"),
        ("http://h:99999/", "[Pp]ort"),
        ("http://h:" + "9" * 5000, "limit|[Pp]ort"),
        ("http://h:-1/", "port"),
        ("http://h:+80/", "port"),
        ("http://h:８０/", "port"),
        ("http://h:8 0/", "spaces"),
        ("http://h:80:80/", "port"),
        ("http://h:x/", "port"),
        ("http://::1/", "no host"),
        ("http://[::1/", "host"),
        ("http://[::1]x/", "host"),
        ("http://[::1]]/", "host"),
        ("http://x[::1]/", "host"),
        ("http://[]/", "host"),
        ("http://[h]/", "host"),
        ("http://[v1.x]/", "host"),
        ("http://[1.2.3.4]/", "host"),
        ("http://[::1%25lo]/", "host"),
        ("http://[::g]/", "host"),
        ("http://h|h/", "host"),
        ("http://h\\a/", "host"),
        ("http://a\\@h/", "host"),
        ('http://h"/', "host"),
        ("http://*/", "wildcard"),
        ("http://*.h/", "wildcard"),
        ("http://%41/", "encoded"),
        ("http://a%0d%0ab/", "encoded"),
        ("http://h\u2100/", "host"),
        ("http://\u3002/", "host"),
        ("http://é" + "a" * 70 + "/", "host"),
        ("http://a%3Ab:p@h/", "colon"),
    ],
)
def test_refused(url: str, why: str) -> None:
    got = parse_url(url, HTTP, fragment=True)
    assert isinstance(got, str), got
    assert re.search(why, got), got


def test_websocket() -> None:
    got = parse_url("wss://h/chat?x", WEBSOCKET)
    assert isinstance(got, Url)
    assert (got.target, got.path) == ("h:443", "/chat?x")
    for url in ("ws://h/#a", "ws://h/#"):
        assert parse_url(url, WEBSOCKET) == "a WebSocket URL has no fragment"
    assert parse_url("http://h/", WEBSOCKET) == "the scheme is neither ws:// nor wss://"


@pytest.mark.parametrize(
    "url",
    [
        "http://u:SECRET@h/",
        "http://u:SECRET@h:99999/",
        "http://u:SECRET@h:x/",
        "http://u:SE/CRET@h/",
        "http://u:SE#CRET@h/",
        "http://u:SE?CRET@h/",
        "http://u:SE\\CRET@h/",
        "http://u:[SECRET]@h/",
        "http://u:SECRET[@h/",
        "http://u:SECRET@[::1/",
        "http://u:SECRET@h\u2100/",
        "http://u:SECRET@*/",
        "http://u:SECRET@/",
        "http://a%3Ab:SECRET@h/",
        "http://u:SECRET @h/",
        "http://u\r\n/x:SECRET@h/",
        "ftp://u/x:SECRET@h/",
        "u:SECRET@h/",
        "//u:SECRET@h/",
        "http:u:SECRET@h/",
        "http:/u:SECRET@h/",
        "u:SECRET@h://x/",
        "http://u:a@b:SECRET@h/",
    ],
)
def test_no_password_shows(url: str) -> None:
    got = parse_url(url, HTTP, fragment=True)
    for text in (str(got), hidden(url)):
        assert "SE" not in text
        assert "CRET" not in text


@pytest.mark.parametrize(
    "url", ["http://h/a@b", "http://h:80?a@b:c", "http://[::1]:80/x@y", "http://h#@", "http://h:99999/x", "h/x", "http://h:x/"]
)
def test_urls_without_a_password_are_shown(url: str) -> None:
    assert hidden(url) == url


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("", "https://h:8443/a/b/c?d"),
        ("x", "https://h:8443/a/b/x"),
        ("./x", "https://h:8443/a/b/x"),
        ("../x", "https://h:8443/a/x"),
        ("../../../x", "https://h:8443/x"),
        ("/x?y", "https://h:8443/x?y"),
        ("//o/x", "https://o/x"),
        ("//o:/x", "https://o:/x"),
        ("http://h:/x", "http://h:/x"),
        ("?q", "https://h:8443/a/b/c?q"),
        ("http://o:1/", "http://o:1/"),
        ("javascript:x", "javascript:x"),
        ("//[", "//["),
        ("http://[x]y/", "http://[x]y/"),
    ],
)
def test_resolve(reference: str, url: str) -> None:
    assert resolve(parsed("https://u:p@h:8443/a/b/c?d"), reference) == url


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "1.2.3.4.5", "1.2.3.a", "0x7f.example", "1e3", "[::ffff:1.2.3.4]"])
def test_hosts_with_ordinary_spellings(host: str) -> None:
    parsed = parse_url(f"http://{host}/", HTTP)
    assert isinstance(parsed, Url)
    assert parsed.authority == host


@pytest.mark.parametrize("host", ["faß.example", "FAẞ.example", "κόσμος.example"])
def test_names_that_idna_2003_and_2008_tell_apart(host: str) -> None:
    assert "write it as xn--" in str(parse_url(f"http://{host}/", HTTP))


@pytest.mark.parametrize("userinfo", ["@", ":@"])
def test_empty_credentials(userinfo: str) -> None:
    parsed = parse_url(f"http://{userinfo}h/", HTTP)
    assert isinstance(parsed, Url)
    assert parsed.authorization is None
