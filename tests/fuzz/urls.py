"""URLs that an application, or a server by its redirects, gives a client.

What must hold: a URL is taken apart or told to be bad, and nothing raises; what is taken goes on the wire, and is read there as
the same host and path; written anew it is the same; its host is the one that RFC 3986 has there.
"""

from __future__ import annotations

import re

from silly._wire.http1 import parse_request, request_head
from silly._wire.limits import Limits
from silly._wire.url import HTTP, WEBSOCKET, Url, hidden, parse_url, resolve

from .source import Source

WIDE = Limits(head=2**30, line=2**30)
PARTS = re.compile(r"(?s)([^:/?#]+)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?")
"""RFC 3986, appendix B."""
BASE = Url("https", "example.com", 443, "/a/b?c", None, 443)


def check(text: str, url: Url, schemes: dict[str, int]) -> None:
    assert url.scheme in schemes
    assert url.default_port == schemes[url.scheme]
    assert 0 <= url.port <= 65535
    # Behind an escape urlsplit leaves the case as it is. No name has one: it resolves to nothing.
    assert url.host == url.host.lower() or "%" in url.host
    assert url.host.isascii()
    head = request_head("GET", url.path, [("host", url.host_field)])
    request = parse_request(head[:-4], WIDE)
    assert (request.target, request.header["host"]) == (url.path, url.host_field)
    assert url.authorization is None or request_head("GET", "/", [("authorization", url.authorization)])
    assert parse_url(str(url), schemes) == url._replace(authorization=None), "written anew it is the same"
    parts = PARTS.fullmatch(text)
    assert parts is not None
    authority = parts[2].rpartition("@")[2]
    if authority.isascii():
        named = authority.lower() if re.fullmatch(r".*\]|[^:]*", authority) else authority.lower().rpartition(":")[0]
        assert named == url.authority.lower(), "the host is what stands there"
        assert "\\" not in parts[2], "browsers take it for a slash, and another host for this one"


def run(data: bytes) -> None:
    source = Source(data)
    flags = source.byte()
    schemes = WEBSOCKET if flags & 1 else HTTP
    text = source.rest().decode("utf-8" if flags & 2 else "latin-1", "replace")
    if flags & 4:
        text = resolve(BASE, text)
    got = parse_url(text, schemes, bool(flags & 8))
    assert len(hidden(text)) <= len(text)
    if isinstance(got, str):
        assert got
        assert len(got) < 500 + len(text)
        return
    check(text, got, schemes)
    assert "@" not in re.split("[/?#]", hidden(text).partition("://")[2])[0]


URLS = [
    "http://x",
    "https://x.example:8443/a?b=c",
    "http://u:p@x/",
    "HTTP://X:80?q",
    "http://[::1]:80/",
    "http://b\u00fccher.example/\u00e9",
]
URLS += [
    "ws://x/chat",
    "wss://x:443/#f",
    "//y/z",
    "/z",
    "?q",
    "../c",
    "http://x:99999/",
    "http://x:/",
    "http://[v1.x]/",
    "http://a\\@b/",
    "",
]
URLS += [
    "http://unix/",
    "http://%41/",
    "http://*/",
    "ftp://x/",
    "http://u%40:%3a@x",
    "http://1.2.3.4",
    "http://[::ffff:1.2.3.4]",
    "http://[",
]
SEEDS = [bytes((flags,)) + url.encode("utf-8") for url in URLS for flags in (2, 3, 6, 10, 14)]
TOKENS = [url.encode("utf-8") for url in URLS]
TOKENS += [
    b"/",
    b"?",
    b"#",
    b"@",
    b":",
    b"[",
    b"]",
    b"%",
    b"%2f",
    b"\\",
    b" ",
    b"\t",
    b"\0",
    b"\xc2\xad",
    b"\xe3\x80\x82",
    b"\xef\xbc\x8f",
]
TOKENS += [b"//", b"..", b"xn--", b"x" * 64, b"\xd9\xa5", b":0", b":65536", b"*", b"\xe2\x84\x80", b"\xc4\xb0", b"\xc3\x9f"]
