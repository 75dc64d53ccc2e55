"""The networks that a program trusts."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from silly._wire.networks import Networks, joined, parse_address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
        ("1111:2222:3333:4444:5555:6666:255.255.255.255", "1111:2222:3333:4444:5555:6666:ffff:ffff"),
        *((bad, None) for bad in ("", "1", "1.2.3", "01.2.3.4", "1.2.3.4 ", "\u0661.2.3.4")),
        *((bad, None) for bad in ("fe80::1%eth0", "[::1]", "a.b", "::1/128")),
        ("0" * 100_000, None),
    ],
)
def test_addresses(text: str, found: str | None) -> None:
    address = parse_address(text)
    assert (None if address is None else str(address)) == found


def test_text_with_a_port() -> None:
    assert joined(ip_address("192.0.2.1"), 80) == "192.0.2.1:80"
    assert joined(ip_address("::1"), 0) == "[::1]:0"


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["11.0.0.0", "[::10.0.0.1]", "unix"]),
        ("192.0.2.7", ["192.0.2.7"], ["192.0.2.8"]),
        ("10.0.0.0/255.0.0.0", ["10.1.2.3"], ["9.255.255.255"]),
        ("0.0.0.0/0", ["1.2.3.4"], ["[::1]", "unix"]),
        ("::/0", ["[::1]"], ["1.2.3.4"]),
        ("fe80::/10", ["[fe80::1%eth0]", "[fe80::1]"], ["[fec0::1]"]),
        ("::ffff:10.0.0.0/104", ["10.1.2.3"], ["11.0.0.1", "[::1]"]),
        ("unix", ["unix", "unix:/a:b"], ["127.0.0.1", "[::1]", "", "nonsense"]),
    ],
)
def test_what_is_trusted(network: str, inside: list[str], outside: list[str]) -> None:
    networks = Networks("listen", [network])
    assert [host for host in inside if not networks.trusts(host)] == []
    assert [host for host in outside if networks.trusts(host)] == []


def test_several_networks() -> None:
    networks = Networks("listen", ("10.0.0.0/8", "::1", "10.0.0.0/8", "unix"))
    assert all(networks.trusts(host) for host in ("10.0.0.1", "[::1]", "unix"))
    assert not networks.trusts("192.0.2.1")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (["10.0.0.1/8"], ValueError, r"^listen: '10\.0\.0\.1/8' is no network: .*host bits"),
        (["proxy.example"], ValueError, r"^listen: 'proxy\.example' is no network: trusted has networks such as"),
        (["fe80::1%eth0"], ValueError, "'fe80::1%eth0' is no network: a network has no zone"),
        (["10.0.0.0/33"], ValueError, "'10.0.0.0/33' is no network"),
        ([""], ValueError, "'' is no network"),
        ([], ValueError, "^listen: trusted names no network"),
        ("10.0.0.0/8", TypeError, "^listen: trusted is a list .*, not str"),
        ({"10.0.0.0/8": 1}, TypeError, "not dict"),
        (7, TypeError, "not int"),
        ([7], TypeError, "is text, such as '10.0.0.0/8', not int"),
    ],
)
def test_what_is_no_list_of_networks(given: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Networks("listen", given)
