"""Conditional and range requests (RFC 9110, sections 13 and 14), for a representation
that exists. Pure.

Times are whole seconds since the epoch, like HTTP's dates. A date or a range that can't
be understood is ignored, as the RFC asks; an entity tag that can't be understood
matches nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from .date import MONTHS
from .header import Header, split_list

_TAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')
_TAGS = re.compile(rf"[ \t,]*{_TAG.pattern}(?:[ \t]*,[ \t,]*{_TAG.pattern})*[ \t,]*")
_MONTH = f"(?P<month>{'|'.join(MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    # The three forms of section 5.6.7; the day of the week says nothing that the date
    # does not.
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"
    ),
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
_RANGES = re.compile(r"bytes=(.*)", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_MOST_DIGITS = 18
"""The most digits of a position that are converted: a longer number is past the end of
every file."""
_FAR = 10**_MOST_DIGITS


class Range(NamedTuple):
    """The bytes from ``first`` up to, but not including, ``end``. A range without a
    byte is ``UNSATISFIABLE``."""

    first: int
    end: int


UNSATISFIABLE = Range(0, 0)


def parse_date(text: str, now: int) -> int | None:
    """The time that an HTTP-date names; None if ``text`` isn't one.

    ``now`` decides the century of a year of two digits (section 5.6.7).
    """
    match = next((found for form in _DATES if (found := form.fullmatch(text))), None)
    if match is None:
        return None
    year, day, hour, minute, second = (int(match[name]) for name in ("year", "day", "hour", "minute", "second"))
    if len(match["year"]) == 2:
        this = datetime.fromtimestamp(now, UTC).year
        year += this // 100 * 100
        if year > this + 50:
            year -= 100
    try:
        # Second 60 is a leap second, which ``datetime`` doesn't have.
        time = datetime(year, MONTHS.index(match["month"]) + 1, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return int(time.timestamp()) if second <= 60 else None


def _tags(value: str) -> list[str]:
    """The entity tags of a list; none if ``value`` isn't such a list."""
    return _TAG.findall(value) if _TAGS.fullmatch(value) else []


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")


def precondition(method: str, header: Header, etag: str, modified: int, now: int) -> int:
    """Checks the conditions of a request (section 13.2.2): 200 to go on, 304 or 412.

    ``etag`` and ``modified`` are those of the selected representation, as the response
    would name them.
    """
    safe = method in ("GET", "HEAD")
    match = header["if-match"]
    if match is not None:
        # Strong comparison: a weak tag on either side never matches.
        if match.strip(" \t") != "*" and (etag.startswith("W/") or etag not in _tags(match)):
            return 412
    elif (text := header["if-unmodified-since"]) is not None:
        date = parse_date(text, now)
        if date is not None and modified > date:
            return 412
    none_match = header["if-none-match"]
    if none_match is not None:
        if none_match.strip(" \t") == "*" or _opaque(etag) in map(_opaque, _tags(none_match)):
            return 304 if safe else 412
    elif safe and (text := header["if-modified-since"]) is not None:
        date = parse_date(text, now)
        if date is not None and modified <= date:
            return 304
    return 200


def requested_range(method: str, header: Header, etag: str, modified: int, size: int, now: int) -> Range | None:
    """The part of a representation of ``size`` bytes that a request asks for.

    Its preconditions hold. None means all of it: without Range; for a method other than
    GET; if If-Range says that the part doesn't fit what the client has; for several
    ranges (section 14.2 allows that); and for a field that can't be understood.
    """
    value = header["range"]
    if value is None or method != "GET":
        return None
    validator = header["if-range"]
    if validator is not None and not _still(validator, etag, modified, now):
        return None
    return parse_range(value, size)


def _still(validator: str, etag: str, modified: int, now: int) -> bool:
    """Whether the validator of an If-Range is that of the representation (section
    13.1.5)."""
    if validator.endswith('"'):
        return validator == etag and not etag.startswith("W/")
    # A date is strong only when its second is over: the file could change again within
    # it (section 8.8.2.2).
    return parse_date(validator, now) == modified < now


def parse_range(value: str, size: int) -> Range | None:
    """The single range that a Range field asks for, of ``size`` bytes; None for all of
    them (section 14.1.2)."""
    ranges = _RANGES.fullmatch(value)
    elements = split_list(ranges.group(1)) if ranges is not None else []
    match = _RANGE.fullmatch(elements[0]) if len(elements) == 1 else None
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start = _number(first)
        end = _number(last) + 1 if last else size
        if last and end <= start:
            return None  # no range at all
        return Range(start, min(end, size)) if start < size else UNSATISFIABLE
    if not last:
        return None
    length = _number(last)
    if not length:
        return UNSATISFIABLE
    # The last bytes of an empty file are the whole file, which Content-Range can't
    # name.
    return Range(max(0, size - length), size) if size else None


def _number(digits: str) -> int:
    """The position that ``digits`` name, or one that is past the end of every file.

    Converting any number of digits would take more than linear time.
    """
    digits = digits.lstrip("0")
    return int(digits or 0) if len(digits) <= _MOST_DIGITS else _FAR
