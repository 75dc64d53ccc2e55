"""``silly.net.addr``: addresses as text."""

from __future__ import annotations

import socket

import pytest

from silly.net import addr


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", "8080"),
        ("10.20.30.40", "10.20.30.40", None),
        ("[::1]:8080", "::1", "8080"),
        ("[::1]", "::1", None),
        ("[2001:db8::7]:25", "2001:db8::7", "25"),
        ("[fe80::7%wlan0]:53", "fe80::7%wlan0", "53"),
        (":8080", None, "8080"),
        ("[]:80", None, "80"),
        ("[]", None, None),
        ("", None, None),
        ("example.com:80", "example.com", "80"),
        ("example.com", "example.com", None),
        ("example.com:", "example.com", None),
        ("mail.example:smtp_s", "mail.example", "smtp_s"),
        ("x:9", "x", "9"),
        # The first colon separates: an IPv6 address needs its brackets.
        ("::1:8080", None, ":1:8080"),
        ("2001:db8::1", "2001", "db8::1"),
        ("[no end", None, None),
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


@pytest.mark.parametrize("text", ["10.0.0.1:25", "db.example:9000", "[2001:db8::7]:53", ":9"])
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
        ("4-5", 0),
        ("987", 0),
        ("1", 0),
        ("999.999.999.999", 0),
        ("10.0.0.7x", 0),
        ("127.1", 0),
        ("beef:bee", 0),
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
    index, name = socket.if_nameindex()[0]
    assert addr.sockaddr_text(socket.AF_INET6, ("fe80::1", 80, 0, index)) == f"[fe80::1%{name}]:80"
    assert addr.sockaddr_text(socket.AF_INET6, ("fe80::1", 80, 0, 2**31 - 1)) == "[fe80::1%2147483647]:80"
    assert addr.sockaddr_text(socket.AF_UNIX, "/tmp/s") == "unix:/tmp/s"
    assert addr.sockaddr_text(socket.AF_UNIX, b"\xff") == "unix:�"
