"""``silly.net.addr``: upstream's page and upstream's cases (docs/reference/net/addr.md, test/testaddr.lua)."""

from __future__ import annotations

import socket

import pytest

from silly.net import addr


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", "8080"),
        ("192.168.1.1", "192.168.1.1", None),
        ("[::1]:8080", "::1", "8080"),
        ("[::1]", "::1", None),
        ("[2001:db8::1]:80", "2001:db8::1", "80"),
        ("[fe80::1%25eth0]:443", "fe80::1%25eth0", "443"),
        (":8080", None, "8080"),
        ("[]:80", None, "80"),
        ("[]", None, None),
        ("", None, None),
        ("example.com:80", "example.com", "80"),
        ("example.com", "example.com", None),
        ("example.com:", "example.com", None),
        ("localhost:http_s", "localhost", "http_s"),
        ("a:80", "a", "80"),
        # The first colon separates: an IPv6 address needs its brackets.
        ("::1:8080", None, ":1:8080"),
        ("2001:db8::1", "2001", "db8::1"),
        ("[broken", None, None),
        ("[::1:80", None, None),
        ("[::1]80", None, None),
    ],
)
def test_parse(text: str, host: str | None, port: str | None) -> None:
    assert addr.parse(text) == (host, port)


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("127.0.0.1", "8080", "127.0.0.1:8080"),
        ("example.com", "443", "example.com:443"),
        ("example.com", 443, "example.com:443"),
        ("::1", "443", "[::1]:443"),
        ("2001:db8::1", 80, "[2001:db8::1]:80"),
        ("[::1]", "8080", "[::1]:8080"),
        ("", "8080", ":8080"),
        (None, "8080", ":8080"),
    ],
)
def test_join(host: str | None, port: str | int, text: str) -> None:
    assert addr.join(host, port) == text


@pytest.mark.parametrize("text", ["10.0.0.1:3306", "redis.local:6379", "[::1]:5432", ":80"])
def test_round_trip(text: str) -> None:
    host, port = addr.parse(text)
    assert port is not None
    assert addr.join(host, port) == text


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", 4),
        ("0.0.0.0", 4),
        ("255.255.255.255", 4),
        ("::1", 6),
        ("::", 6),
        ("2001:db8::1", 6),
        ("fe80::1", 6),
        ("fe80::1%eth0", 6),
        ("::ffff:10.0.0.1", 6),
        ("example.com", 0),
        ("localhost", 0),
        ("1-2-3", 0),
        ("12345", 0),
        ("1", 0),
        ("999.999.999.999", 0),
        ("192.168.1.1a", 0),
        ("127.1", 0),
        ("cafe:babe", 0),
        ("[::1]", 0),
        ("a\0b", 0),
        ("ünï", 0),
        ("", 0),
    ],
)
def test_kinds(host: str, kind: int) -> None:
    assert addr.iptype(host) == kind
    assert addr.isv4(host) is (kind == 4)
    assert addr.isv6(host) is (kind == 6)
    assert addr.ishost(host) is (kind == 0 and host != "")


def test_unixpath() -> None:
    assert addr.unixpath("unix:/tmp/s") == "/tmp/s"
    assert addr.unixpath("unix:s") == "s"
    assert addr.unixpath("127.0.0.1:80") is None


def test_sockaddr_text() -> None:
    assert addr.sockaddr_text(socket.AF_INET, ("10.0.0.1", 80)) == "10.0.0.1:80"
    assert addr.sockaddr_text(socket.AF_INET6, ("::1", 80, 0, 0)) == "[::1]:80"
    assert addr.sockaddr_text(socket.AF_INET6, ("::ffff:10.0.0.1", 80, 0, 0)) == "10.0.0.1:80"
    assert addr.sockaddr_text(socket.AF_INET6, ("fe80::1%eth0.7", 80, 0, 2)) == "[fe80::1%eth0.7]:80"
    assert addr.sockaddr_text(socket.AF_UNIX, "/tmp/s") == "unix:/tmp/s"
    assert addr.sockaddr_text(socket.AF_UNIX, b"\xff") == "unix:�"
