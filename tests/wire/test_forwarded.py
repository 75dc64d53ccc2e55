"""Whom a request comes from: X-Forwarded-For, and Forwarded by RFC 7239."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire.forwarded import FIELDS, HOPS, Sender, by_forwarded, by_x_forwarded_for
from silly._wire.header import Header
from silly._wire.networks import Networks

from .strategies import STEADY

TRUSTED = Networks("test", ["10.0.0.0/8", "2001:db8:ffff::/48"])
FAULT = "a fault"


def x_forwarded(*lines: str, proto: str | None = None) -> Sender:
    fields = [("x-forwarded-for", line) for line in lines]
    return by_x_forwarded_for(Header(fields if proto is None else [*fields, ("x-forwarded-proto", proto)]), TRUSTED)


def forwarded(*lines: str) -> Sender:
    return by_forwarded(Header([("forwarded", line) for line in lines]), TRUSTED)


def brief(client: Sender) -> tuple[str | None, str | None]:
    """The address, and FAULT or None."""
    return client.remoteaddr, client.fault and FAULT


# ---- X-Forwarded-For --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1:0", None)),
        ("192.0.2.1:4711", ("192.0.2.1:4711", None)),
        ("2001:DB8::1", ("[2001:db8::1]:0", None)),
        ("[2001:db8::1]", ("[2001:db8::1]:0", None)),
        ("[2001:db8::1]:4711", ("[2001:db8::1]:4711", None)),
        ("::ffff:192.0.2.1", ("192.0.2.1:0", None)),
        ("[::ffff:10.0.0.1]:1", ("10.0.0.1:1", None)),
        # The rightmost that isn't trusted; what the client wrote left of it is nothing.
        ("203.0.113.9, 192.0.2.1", ("192.0.2.1:0", None)),
        ("203.0.113.9, 192.0.2.1, 10.0.0.1", ("192.0.2.1:0", None)),
        ("10.9.9.9, 192.0.2.1, 10.0.0.2 ,\t10.0.0.1", ("192.0.2.1:0", None)),
        ("unknown, , \", nonsense, 192.0.2.1, 2001:db8:ffff::1", ("192.0.2.1:0", None)),
        # All are trusted: the leftmost.
        ("10.0.0.3, 10.0.0.2,10.0.0.1", ("10.0.0.3:0", None)),
        # Empty elements are none (RFC 9110, section 5.6.1).
        (", 192.0.2.1,, ,10.0.0.1, ", ("192.0.2.1:0", None)),
        ("", (None, None)),
        (" , ", (None, None)),
        # What is no address ends the search.
        ("192.0.2.1, unknown", (None, FAULT)),
        ("192.0.2.1, unknown, 10.0.0.1", ("10.0.0.1:0", FAULT)),
        ("192.0.2.1, _hidden, 10.0.0.2, 10.0.0.1", ("10.0.0.2:0", FAULT)),
        *((f"192.0.2.1, {bad}, 10.0.0.1", ("10.0.0.1:0", FAULT)) for bad in (
            "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:65536", "192.0.2.1:123456", "192.0.2.1:\xb2", "192.0.2.1:_x", "192.0.2",
            "192.0.2.01", "192.0.2.1 192.0.2.2", '"192.0.2.1"', '"[2001:db8::1]:4711"', "[192.0.2.1]", "[2001:db8::1",
            "[2001:db8::1]4711", "[2001:db8::1]:", "2001:db8::1%eth0", "[fe80::1%25eth0]:80", "for=192.0.2.1", "a:b:c", "[]",
            ":", "x" * 8000,
        )),
    ],
)  # fmt: skip
def test_x_forwarded_for(value: str, expected: tuple[str | None, str | None]) -> None:
    assert brief(x_forwarded(value)) == expected


def test_without_the_field() -> None:
    assert x_forwarded() == (None, None, None)
    assert forwarded() == (None, None, None)


def test_lines_are_joined_in_their_order() -> None:
    assert brief(x_forwarded("203.0.113.9", "192.0.2.1", "10.0.0.1")) == ("192.0.2.1:0", None)
    assert brief(x_forwarded("192.0.2.1", "")) == ("192.0.2.1:0", None)


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        ("https", "https"),
        ("HTTP", "http"),
        # The last is the nearest proxy's own.
        ("http, https", "https"),
        ("https,http\t", "http"),
        ("https,", None),
        ("wss", None),
        ("javascript", None),
        ("", None),
    ],
)
def test_x_forwarded_proto(proto: str, scheme: str | None) -> None:
    assert x_forwarded("192.0.2.1", proto=proto) == ("192.0.2.1:0", scheme, None)
    assert x_forwarded(proto=proto) == (None, scheme, None)


# ---- Forwarded --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected", "scheme"),
    [
        # The examples of RFC 7239, sections 4, 6.3 and 7.1.
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ("192.0.2.60:0", None), "http"),
        ('for="_gazonk"', (None, FAULT), None),
        ('For="[2001:db8:cafe::17]:4711"', ("[2001:db8:cafe::17]:4711", None), None),
        ("for=192.0.2.43, for=198.51.100.17", ("198.51.100.17:0", None), None),
        ('for="192.0.2.43:47011"', ("192.0.2.43:47011", None), None),
        ("for=_hidden, for=_SEVKISEK", (None, FAULT), None),
        ('for=192.0.2.43, for="[2001:db8:cafe::17]"', ("[2001:db8:cafe::17]:0", None), None),
        ("for=192.0.2.43,for=10.0.0.1", ("192.0.2.43:0", None), None),
        # Obfuscated ports, and unknown.
        ('for="192.0.2.1:_q.-9"', ("192.0.2.1:0", None), None),
        ("for=unknown;proto=https", (None, FAULT), "https"),
        ("for=192.0.2.1;proto=https, for=unknown;proto=http, for=10.0.0.1;proto=https", ("10.0.0.1:0", FAULT), "http"),
        # The scheme is that of the element where the search ends.
        ("for=192.0.2.1;proto=https, for=10.0.0.1;proto=http", ("192.0.2.1:0", None), "https"),
        ("for=192.0.2.1, for=10.0.0.1;proto=https", ("192.0.2.1:0", None), None),
        ('for=192.0.2.1;proto="HTTPS"', ("192.0.2.1:0", None), "https"),
        ("for=192.0.2.1;proto=wss", ("192.0.2.1:0", None), None),
        # Pairs: in any order, some empty; commas and semicolons in quotes; names in any case.
        ('Proto=https;;FOR=192.0.2.1;host="a,b;c";x=y;', ("192.0.2.1:0", None), "https"),
        ('for=203.0.113.9, for=192.0.2.1;by="_a,_b"', ("192.0.2.1:0", None), None),
        ('for=192.0.2.1;host=""', ("192.0.2.1:0", None), None),
        # A client's open quote, or anything else, ends at what a proxy has added.
        ('for="203.0.113.9, for=192.0.2.1;proto=https', ("192.0.2.1:0", None), "https"),
        ('for="203.0.113.9\\, for=192.0.2.1, for="10.0.0.1"', ("192.0.2.1:0", None), None),
        ('"""";,=, for=192.0.2.1, , for=10.0.0.1', ("192.0.2.1:0", None), None),
        (",,", (None, None), None),
        # All are trusted.
        ("for=10.0.0.3;proto=https, for=10.0.0.1", ("10.0.0.3:0", None), "https"),
        *((f"for=192.0.2.1, {bad}, for=10.0.0.1;proto=https", ("10.0.0.1:0", FAULT), None) for bad in (
            "192.0.2.1", "for", "for=", "=192.0.2.1", "for =192.0.2.1", "for= 192.0.2.1", "for=192.0.2.1;for=192.0.2.1",
            "for=192.0.2.1; proto=https", "for=192.0.2.1 proto=https", "for=192.0.2.1:80", "for=[2001:db8::1]", 'for="a"b',
            'for="192\\.0.2.1"', "f\xf6r=192.0.2.1", '"192.0.2.1"',
        )),
        *((f'for="{bad}", for=10.0.0.1;proto=https', ("10.0.0.1:0", FAULT), None) for bad in (
            "2001:db8::1", "[2001:db8::1]:99999", "192.0.2.1:_", "192.0.2.1:_\xe9", "[192.0.2.1]", "[fe80::1%eth0]",
            " 192.0.2.1", "", "unknown:80",
        )),
        ("proto=https, for=10.0.0.1", ("10.0.0.1:0", FAULT), "https"),
        ('a", for=10.0.0.1, for=10.0.0.2', ("10.0.0.1:0", FAULT), None),
    ],
)  # fmt: skip
def test_forwarded(value: str, expected: tuple[str | None, str | None], scheme: str | None) -> None:
    client = forwarded(value)
    assert brief(client) == expected
    assert client.scheme == scheme


def test_lines_of_forwarded_are_joined() -> None:
    assert brief(forwarded('for="203.0.113.9', "for=192.0.2.1", "for=10.0.0.1")) == ("192.0.2.1:0", None)


# ---- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "element"), [("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")])
def test_the_number_of_elements_is_bounded(field: str, element: str) -> None:
    find = FIELDS[field]
    for many, fault in ((HOPS, None), (HOPS + 1, FAULT), (6000, FAULT)):
        assert brief(find(Header([(field, ", ".join([element] * many))]), TRUSTED)) == ("10.0.0.1:0", fault)
    assert brief(find(Header([(field, "," * 60_000)]), TRUSTED)) == (None, FAULT)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("piece", [",", '"', "a", ";", "for=", 'for="', '",', "\\", "10.0.0.1,", "for=10.0.0.1,", "=;"])
def test_work_is_linear(field: str, piece: str) -> None:
    def took(size: int) -> float:
        header = Header([(field, (piece * size)[:size])])
        begin = time.process_time()
        FIELDS[field](header, TRUSTED)
        return time.process_time() - begin

    assert min(took(300_000) for _ in range(3)) < 1.0, "quadratic would be minutes"


@given(st.text(st.sampled_from('for=byproto;,"\\ \t[]:._%0123af10.0.0.1'), max_size=80), st.sampled_from(sorted(FIELDS)))
@STEADY
def test_what_a_client_writes_never_beats_what_a_proxy_adds(text: str, field: str) -> None:
    mark = "for=" if field == "forwarded" else ""
    for chain in ("192.0.2.1", f"192.0.2.1, {mark}10.0.0.1"):
        for lines in ([f"{text}, {mark}{chain}"], [text, f"{mark}{chain}"]):
            client = FIELDS[field](Header([(field, line) for line in lines]), TRUSTED)
            assert client == ("192.0.2.1:0", None, None)
