"""Conditional and range requests: the vectors of RFC 9110, sections 13 and 14, and what isn't in its grammar."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire.conditional import UNSATISFIABLE, Range, parse_date, parse_range, precondition, requested_range
from silly._wire.date import http_date
from silly._wire.header import Header

from .strategies import STEADY

EPOCH = 784111777
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of section 5.6.7."""
SAME = http_date(EPOCH)
EARLIER = http_date(EPOCH - 1)
LATER = http_date(EPOCH + 1)
NOW = EPOCH + 86400


# ---- dates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", EPOCH),
        ("Sunday, 06-Nov-94 08:49:37 GMT", EPOCH),
        ("Sun Nov  6 08:49:37 1994", EPOCH),
        ("Sun Nov 06 08:49:37 1994", EPOCH),
        ("Sun Nov 16 08:49:37 1994", EPOCH + 10 * 86400),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
        ("Tue, 29 Feb 2000 00:00:00 GMT", 951782400),
        # A leap second counts as the last second before it.
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799),
        # A wrong day of the week changes nothing.
        ("Mon, 06 Nov 1994 08:49:37 GMT", EPOCH),
        ("", None),
        ("0", None),
        (str(EPOCH), None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT ", None),
        (" Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 94 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 8:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:60:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:61 GMT", None),
        ("Sun, 00 Nov 1994 08:49:37 GMT", None),
        ("Sun, 31 Nov 1994 08:49:37 GMT", None),
        ("Thu, 29 Feb 1900 00:00:00 GMT", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sunday, 06-Nov-1994 08:49:37 GMT", None),
        ("Sun, 06-Nov-94 08:49:37 GMT", None),
        ("Sun Nov 6 08:49:37 1994", None),
        ("Sun Nov  6 08:49:37 1994 GMT", None),
        (f"{SAME}, {SAME}", None),
        ("Sun, 06 Nov 1994 08:49:3\u0667 GMT", None),
    ],
)
def test_parse_date(text: str, expected: int | None) -> None:
    assert parse_date(text, NOW) == expected


@pytest.mark.parametrize(
    ("year", "digits", "expected"),
    [(2026, "26", 2026), (2026, "76", 2076), (2026, "77", 1977), (2026, "99", 1999), (2026, "00", 2000), (1994, "44", 1944)],
)
def test_years_of_two_digits(year: int, digits: str, expected: int) -> None:
    """Section 5.6.7: what seems to be more than 50 years ahead is past."""
    now = int(datetime(year, 6, 1, tzinfo=UTC).timestamp())
    assert parse_date(f"Monday, 01-Mar-{digits} 00:00:00 GMT", now) == datetime(expected, 3, 1, tzinfo=UTC).timestamp()


@STEADY
@given(st.integers(0, 253402300799))
def test_dates_come_back(seconds: int) -> None:
    assert parse_date(http_date(seconds), NOW) == seconds


@STEADY
@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT", fullmatch=True))
def test_no_date_raises(text: str) -> None:
    parse_date(text, NOW)


# ---- preconditions --------------------------------------------------------------------------------------------------

CONDITIONS: list[tuple[str, dict[str, str], str, int]] = [
    # method, fields, entity tag, outcome
    ("GET", {}, '"a"', 200),
    # 13.1.1 If-Match: strong comparison
    ("PUT", {"If-Match": '"a"'}, '"a"', 200),
    ("PUT", {"If-Match": '"b"'}, '"a"', 412),
    ("GET", {"If-Match": '"b"'}, '"a"', 412),
    ("PUT", {"If-Match": '"xyzzy", "r2d2xxxx", "a"'}, '"a"', 200),
    ("PUT", {"If-Match": "*"}, '"a"', 200),
    ("PUT", {"If-Match": " * "}, 'W/"a"', 200),
    ("PUT", {"If-Match": 'W/"a"'}, '"a"', 412),
    ("PUT", {"If-Match": 'W/"a"'}, 'W/"a"', 412),
    ("PUT", {"If-Match": '"a"'}, 'W/"a"', 412),
    ("PUT", {"If-Match": '"a", *'}, '"a"', 412),
    ("PUT", {"If-Match": "a"}, '"a"', 412),
    ("PUT", {"If-Match": ""}, '"a"', 412),
    ("PUT", {"If-Match": '"a'}, '"a"', 412),
    ("PUT", {"If-Match": '"a" "b"'}, '"a"', 412),
    ("PUT", {"If-Match": ', ,"b" ,\t"a",,'}, '"a"', 200),
    ("PUT", {"If-Match": '"A"'}, '"a"', 412),
    ("PUT", {"If-Match": '"a,b"'}, '"a,b"', 200),
    ("PUT", {"If-Match": '"a,b"'}, '"a"', 412),
    # 13.1.2 If-None-Match: weak comparison
    ("GET", {"If-None-Match": '"a"'}, '"a"', 304),
    ("HEAD", {"If-None-Match": '"a"'}, '"a"', 304),
    ("PUT", {"If-None-Match": '"a"'}, '"a"', 412),
    ("GET", {"If-None-Match": '"b"'}, '"a"', 200),
    ("GET", {"If-None-Match": 'W/"a"'}, '"a"', 304),
    ("GET", {"If-None-Match": '"a"'}, 'W/"a"', 304),
    ("GET", {"If-None-Match": 'W/"a"'}, 'W/"a"', 304),
    ("GET", {"If-None-Match": 'W/"xyzzy", W/"a", "c3piozzzz"'}, '"a"', 304),
    ("GET", {"If-None-Match": 'w/"a"'}, '"a"', 200),
    ("GET", {"If-None-Match": "*"}, '"a"', 304),
    ("PUT", {"If-None-Match": "*"}, '"a"', 412),
    ("GET", {"If-None-Match": "a"}, '"a"', 200),
    ("GET", {"If-None-Match": ""}, '"a"', 200),
    ("GET", {"If-None-Match": '""'}, '""', 304),
    ("GET", {"If-None-Match": '"\xe9"'}, '"\xe9"', 304),
    ("GET", {"If-None-Match": '"a b"'}, '"a b"', 200),
    # 13.1.3 If-Modified-Since: GET and HEAD only
    ("GET", {"If-Modified-Since": SAME}, '"a"', 304),
    ("HEAD", {"If-Modified-Since": SAME}, '"a"', 304),
    ("GET", {"If-Modified-Since": LATER}, '"a"', 304),
    ("GET", {"If-Modified-Since": EARLIER}, '"a"', 200),
    ("POST", {"If-Modified-Since": SAME}, '"a"', 200),
    ("GET", {"If-Modified-Since": "yesterday"}, '"a"', 200),
    ("GET", {"If-Modified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, '"a"', 304),
    # 13.1.4 If-Unmodified-Since: any method
    ("GET", {"If-Unmodified-Since": SAME}, '"a"', 200),
    ("PUT", {"If-Unmodified-Since": LATER}, '"a"', 200),
    ("PUT", {"If-Unmodified-Since": EARLIER}, '"a"', 412),
    ("GET", {"If-Unmodified-Since": EARLIER}, '"a"', 412),
    ("GET", {"If-Unmodified-Since": "yesterday"}, '"a"', 200),
    # 13.2.2, the order: an entity tag before a date, If-Match before If-None-Match
    ("GET", {"If-Match": '"a"', "If-Unmodified-Since": EARLIER}, '"a"', 200),
    ("GET", {"If-Match": '"b"', "If-Unmodified-Since": SAME}, '"a"', 412),
    ("GET", {"If-None-Match": '"b"', "If-Modified-Since": SAME}, '"a"', 200),
    ("GET", {"If-None-Match": '"a"', "If-Modified-Since": EARLIER}, '"a"', 304),
    ("GET", {"If-Match": '"a"', "If-None-Match": '"a"'}, '"a"', 304),
    ("GET", {"If-Match": '"b"', "If-None-Match": '"a"'}, '"a"', 412),
    ("GET", {"If-Unmodified-Since": EARLIER, "If-None-Match": '"a"'}, '"a"', 412),
    ("GET", {"If-Unmodified-Since": SAME, "If-Modified-Since": SAME}, '"a"', 304),
]


@pytest.mark.parametrize(("method", "fields", "etag", "outcome"), CONDITIONS)
def test_precondition(method: str, fields: dict[str, str], etag: str, outcome: int) -> None:
    assert precondition(method, Header(fields.items()), etag, EPOCH, NOW) == outcome


def test_repeated_fields_are_one_list() -> None:
    fields = Header([("If-None-Match", '"a"'), ("If-None-Match", '"b"')])
    assert [precondition("GET", fields, tag, EPOCH, NOW) for tag in ('"a"', '"b"', '"c"')] == [304, 304, 200]
    dates = Header([("If-Modified-Since", SAME), ("If-Modified-Since", SAME)])
    assert precondition("GET", dates, '"a"', EPOCH, NOW) == 200


@pytest.mark.parametrize(
    "value",
    ['"a",' * 16_000, "," * 64_000, '"a" ' * 16_000, " ," * 32_000 + "x", '"' * 64_000, 'W/"a",' * 9_000 + "!"],
    ids=["tags", "commas", "no commas", "spaces", "quotes", "bad end"],
)
def test_long_lists_of_tags_take_linear_time(value: str) -> None:
    assert precondition("GET", Header([("if-none-match", value)]), '"z"', EPOCH, NOW) == 200


# ---- ranges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        # 14.1.2, the examples, of 10000 bytes
        ("bytes=0-499", 10000, Range(0, 500)),
        ("bytes=500-999", 10000, Range(500, 1000)),
        ("bytes=-500", 10000, Range(9500, 10000)),
        ("bytes=9500-", 10000, Range(9500, 10000)),
        ("bytes=0-0,-1", 10000, None),
        ("bytes= 0-999, 4500-5499, -1000", 10000, None),
        ("bytes=500-600,601-999", 10000, None),
        # the ends
        ("bytes=0-", 10, Range(0, 10)),
        ("bytes=0-0", 10, Range(0, 1)),
        ("bytes=9-9", 10, Range(9, 10)),
        ("bytes=9-10", 10, Range(9, 10)),
        ("bytes=0-9", 10, Range(0, 10)),
        ("bytes=0-99", 10, Range(0, 10)),
        ("bytes=10-", 10, UNSATISFIABLE),
        ("bytes=10-20", 10, UNSATISFIABLE),
        ("bytes=-1", 10, Range(9, 10)),
        ("bytes=-10", 10, Range(0, 10)),
        ("bytes=-11", 10, Range(0, 10)),
        ("bytes=-0", 10, UNSATISFIABLE),
        # nothing
        ("bytes=0-", 0, UNSATISFIABLE),
        ("bytes=0-0", 0, UNSATISFIABLE),
        ("bytes=-1", 0, None),
        ("bytes=-0", 0, UNSATISFIABLE),
        # the grammar
        ("BYTES=0-1", 10, Range(0, 2)),
        ("bytes=,0-1, ,", 10, Range(0, 2)),
        ("bytes=\t0-1 ", 10, Range(0, 2)),
        ("bytes=00-01", 10, Range(0, 2)),
        ("bytes=2-1", 10, None),
        ("bytes=-", 10, None),
        ("bytes=", 10, None),
        ("bytes=,", 10, None),
        ("bytes", 10, None),
        ("", 10, None),
        ("bytes=1", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=1-2-3", 10, None),
        ("bytes=--1", 10, None),
        ("bytes=+1-2", 10, None),
        ("bytes=0x1-2", 10, None),
        ("bytes=1 -2", 10, None),
        ("bytes=1_0-20", 100, None),
        ("bytes=\u0661-\u0662", 10, None),
        ("bytes =0-1", 10, None),
        ("bytes: 0-1", 10, None),
        ("lines=0-1", 10, None),
        ("none", 10, None),
        ("seconds=0-1", 10, None),
        ("bytes=0-1\n", 10, None),
        # numbers of any length
        (f"bytes=0-{'9' * 5000}", 10, Range(0, 10)),
        (f"bytes={'9' * 5000}-", 10, UNSATISFIABLE),
        (f"bytes=-{'9' * 5000}", 10, Range(0, 10)),
        (f"bytes={'0' * 5000}1-2", 10, Range(1, 3)),
        (f"bytes=0-{2**63 - 1}", 10, Range(0, 10)),
        (f"bytes={2**63}-{2**64}", 2**40, UNSATISFIABLE),
        (f"bytes={2**40 - 1}-", 2**40, Range(2**40 - 1, 2**40)),
    ],
)
def test_parse_range(value: str, size: int, expected: Range | None) -> None:
    assert parse_range(value, size) == expected


@STEADY
@given(st.from_regex(r"bytes=[0-9]{0,20}-[0-9]{0,20}", fullmatch=True) | st.text(max_size=30), st.integers(0, 10**6))
def test_a_range_lies_within(value: str, size: int) -> None:
    found = parse_range(value, size)
    if found is not None and found != UNSATISFIABLE:
        assert 0 <= found.first < found.end <= size


@pytest.mark.parametrize(
    ("method", "fields", "etag", "expected"),
    [
        ("GET", {}, '"a"', None),
        ("GET", {"Range": "bytes=0-1"}, '"a"', Range(0, 2)),
        ("GET", {"Range": "bytes=20-"}, '"a"', UNSATISFIABLE),
        ("HEAD", {"Range": "bytes=0-1"}, '"a"', None),
        ("POST", {"Range": "bytes=0-1"}, '"a"', None),
        # 13.1.5 If-Range: strong comparison; the same date, no other
        ("GET", {"If-Range": '"a"'}, '"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": '"a"'}, '"a"', Range(0, 2)),
        ("GET", {"Range": "bytes=0-1", "If-Range": '"b"'}, '"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": 'W/"a"'}, '"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": 'W/"a"'}, 'W/"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": '"a", "b"'}, '"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": "*"}, '"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": "a"}, '"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": ""}, '"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": SAME}, '"a"', Range(0, 2)),
        ("GET", {"Range": "bytes=0-1", "If-Range": EARLIER}, '"a"', None),
        ("GET", {"Range": "bytes=0-1", "If-Range": LATER}, '"a"', None),
        # A false If-Range makes even an unsatisfiable Range void.
        ("GET", {"Range": "bytes=20-", "If-Range": '"b"'}, '"a"', None),
    ],
)
def test_requested_range(method: str, fields: dict[str, str], etag: str, expected: Range | None) -> None:
    assert requested_range(method, Header(fields.items()), etag, EPOCH, 10, NOW) == expected


def test_a_date_does_not_validate_within_its_own_second() -> None:
    """Section 8.8.2.2: the file may change again in it, and keep its date."""
    fields = Header({"Range": "bytes=0-1", "If-Range": SAME}.items())
    assert requested_range("GET", fields, '"a"', EPOCH, 10, EPOCH) is None
    assert requested_range("GET", fields, '"a"', EPOCH, 10, EPOCH + 1) == Range(0, 2)
