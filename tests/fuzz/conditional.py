"""What decides about a file: its path, the request's conditions and range, and the codings that the client accepts.

What must hold: nothing but a bad path raises; no path leads out of its root, and each is the same when it is encoded anew; a
range lies within the file; a date that is written is read back; a condition that names the file's own validators holds.
"""

from __future__ import annotations

import os.path
import re
from urllib.parse import quote, unquote_to_bytes

from silly._wire.conditional import (
    UNSATISFIABLE,
    parse_date,
    parse_range,
    precondition,
    requested_range,
)
from silly._wire.date import http_date
from silly._wire.error import ProtocolError
from silly._wire.header import Header
from silly._wire.negotiate import content_coding
from silly._wire.path import file_segments, segments

from .source import Source, allowed

NOW = 784_111_777
"""Sun, 06 Nov 1994 08:49:37 GMT: the example of RFC 9110, section 5.6.7."""
SIZES = [0, 1, 10, 2**31, 10**17]
ETAGS = ['"a"', 'W/"a"', '""', '"\xe9!"']
MODIFIED = [NOW, NOW - 1, NOW - 10**8, 0, NOW + 5]
METHODS = ["GET", "HEAD", "PUT"]
NAMES = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "range", "if-range"]
CODINGS = ["br", "gzip", "identity", "x"]


def paths(text: str) -> None:
    try:
        found = segments(text)
    except ProtocolError as exc:
        allowed(exc, frozenset((400,)))
        return
    if not text.startswith("/"):
        return
    assert b"/".join(unquote_to_bytes(part) for part in text.split("/")) == "/".join(["", *found]).encode()
    assert segments("/" + "/".join(quote(each, safe="") for each in found)) == found
    try:
        names = file_segments(text)
    except ProtocolError as exc:
        allowed(exc, frozenset((400, 404)))
        return
    assert names == found
    path = os.path.join("/root", *names)
    assert os.path.normpath(path) == path.rstrip("/"), "each segment is one name below the last"
    assert path.startswith("/root/")
    assert path.isprintable() or not re.search(r"[\0-\x1f\x7f]", path)


def ranges(value: str, size: int) -> None:
    got = parse_range(value, size)
    if got is None or got == UNSATISFIABLE:
        return
    assert 0 <= got.first < got.end <= size
    match = re.fullmatch(r"(?i)bytes=[ \t,]*([0-9]*)-([0-9]*)[ \t,]*", value)
    assert match is not None
    if match[1]:
        assert got.first == int(match[1])
        assert got.end == size or got.end == int(match[2]) + 1
    else:
        assert got == (max(0, size - int(match[2])), size)
    assert parse_range(f"bytes={got.first}-{got.end - 1}", size) == got


def dates(text: str) -> None:
    got = parse_date(text, NOW)
    if got is not None:
        assert len(text) in range(24, 34)
        assert parse_date(http_date(got), NOW) == got
        assert http_date(got)[5:] == text[5:] or not text.endswith("GMT") or "-" in text or ":60 " in text


def conditions(source: Source) -> None:
    method, etag, modified, size = source.choose(METHODS), source.choose(ETAGS), source.choose(MODIFIED), source.choose(SIZES)
    lines = source.rest().decode("latin-1").split("\n")
    header = Header([(NAMES[ord(line[0]) % len(NAMES)], line[1:]) for line in lines if line])
    status = precondition(method, header, etag, modified, NOW)
    assert status in ((200, 304, 412) if method in ("GET", "HEAD") else (200, 412))
    assert status == 200 or any(name.startswith("if-") for name in header)
    got = requested_range(method, header, etag, modified, size, NOW)
    if got is not None:
        assert method == "GET"
        assert got == parse_range(header["range"] or "", size)
    # What the response itself named, among whatever else.
    tags = header["if-none-match"]
    if tags is not None and precondition("GET", Header([("if-none-match", tags)]), '"unlike any"', 0, NOW) != 304:
        known = precondition("GET", Header([("if-none-match", f"{tags}, {etag}")]), etag, modified, NOW)
        alone = precondition("GET", Header([("if-none-match", f"{tags}, {ETAGS[0]}")]), ETAGS[0], modified, NOW)
        assert known == alone, "a list is one, or none, whatever the tag"
    assert precondition(method, Header([("if-match", etag)]), etag, modified, NOW) == (412 if etag.startswith("W/") else 200)
    assert precondition("GET", Header([("if-modified-since", http_date(modified))]), etag, modified, NOW) == 304
    assert precondition("PUT", Header([("if-unmodified-since", http_date(modified))]), etag, modified, NOW) == 200


def codings(text: str) -> None:
    for available in (CODINGS[:2], CODINGS[1::-1], CODINGS[3:], []):
        got = content_coding(text, available)
        assert got is None or got in available
        assert got is None or got in text.lower() or "*" in text
        assert content_coding(f"{text},{text}", available) == got


def run(data: bytes) -> None:
    source = Source(data)
    what = source.byte() % 5
    if what == 0:
        return paths(source.rest().decode("latin-1"))
    if what == 1:
        size = source.choose(SIZES)
        return ranges(source.rest().decode("latin-1"), size)
    if what == 2:
        return dates(source.rest().decode("latin-1"))
    if what == 3:
        return conditions(source)
    return codings(source.rest().decode("latin-1"))


PATHS = [
    "/",
    "/a/b%20c/",
    "/%e2%82%ac",
    "/../a",
    "/%2e%2E/a",
    "/a%2fb",
    "/a%5cb",
    "/.hidden",
    "//a",
    "/%00",
    "/%ff",
    "/%4",
    "/a/./b",
]
RANGES = [
    "bytes=0-",
    "bytes=0-0",
    "BYTES=-5",
    "bytes=5-9",
    "bytes=9-5",
    "bytes=0-1,2-3",
    "bytes= 1-2 ,",
    "bytes=99999999999999999999-",
]
RANGES += ["bytes=-0", "bytes=-99999999999999999999", "items=0-1", "bytes=", "bytes=-"]
DATES = [
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
    "Sat, 31 Feb 2020 00:00:00 GMT",
]
DATES += [
    "Fri, 31 Dec 1999 23:59:60 GMT",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "Mon, 01 Jan 9999 00:00:00 GMT",
    "Sunday, 06-Nov-99 24:00:00 GMT",
]
TAGS = ['"a"', 'W/"a"', '"b", "a"', "*", ', ,W/"c" ,', '"', "a", '"a" "b"']
WEIGHTS = [
    "gzip, br",
    "gzip;q=0.5, br;q=0.9",
    "*",
    "*;q=0, gzip",
    "identity;q=0",
    "x-gzip;q=1.000",
    "br;q=2",
    "gzip ; q=0.001",
    "",
]
SEEDS = [b"\0" + path.encode("latin-1") for path in PATHS]
SEEDS += [bytes((1, size)) + value.encode() for value in RANGES for size in (0, 2)]
SEEDS += [b"\2" + date.encode() for date in DATES]
SEEDS += [
    bytes((3, a, b, 1, 2)) + f"{name}{tag}".encode("latin-1") for a in (0, 2) for b in (0, 1) for name in "fg" for tag in TAGS
]
SEEDS += [
    bytes((3, 0, 0, a, 2)) + f"{name}{date}\njbytes=0-4\nk{date}".encode()
    for a in range(5)
    for name in "hi"
    for date in DATES[:3]
]
SEEDS += [b"\4" + weight.encode() for weight in WEIGHTS]
TOKENS = [text.encode() for text in PATHS + RANGES + DATES + TAGS + WEIGHTS]
TOKENS += [
    b"\n",
    b"/",
    b"..",
    b"%",
    b"%2e",
    b"%2f",
    b"%c0%ae",
    b"\\",
    b"\0",
    b"-",
    b",",
    b" ",
    b";q=",
    b"0.",
    b"\xe9",
    b"GMT",
    b":60 ",
]
