"""Hostile and odd requests, as bytes, for the differential test of framing.

``CASES`` is all of them. Each names what our server does with it, so that the table of differences tells the rest. What
follows a case on its connection is a sentinel request: who takes the case's end to be elsewhere does not see the sentinel,
or sees more than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

GOES_ON = 0
"""The connection serves the sentinel."""
CLOSED = 1
"""The connection ends in order, so that the sentinel is not served."""

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
"""A request inside another's body, trailers or fields: nobody may serve it."""
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"

Text = str | bytes


class Case(NamedTuple):
    name: str
    """``subject/detail``."""
    data: bytes
    end: int
    """GOES_ON, CLOSED, or the status with which our server refuses the request that comes next."""
    requests: int
    """How many requests our server takes before that, bodies included."""


def raw(text: Text) -> bytes:
    """``text`` as bytes; str is Latin-1."""
    return text.encode("latin-1") if isinstance(text, str) else text


def request(*fields: Text, line: Text = "POST /a HTTP/1.1", host: Text = "Host: a\r\n", body: Text = b"") -> bytes:
    """A request with the lines ``fields`` after Host."""
    return raw(line) + b"\r\n" + raw(host) + b"".join(raw(field) + b"\r\n" for field in fields) + b"\r\n" + raw(body)


CASES: list[Case] = []
_names: set[str] = set()


def add(subject: str, end: int, cases: Mapping[str, bytes], requests: int | None = None) -> None:
    """Adds ``cases``. ``requests``: by default one is taken, or none when it is refused."""
    count = requests if requests is not None else int(end < 100)
    for detail, data in cases.items():
        name = f"{subject}/{detail}"
        if name in _names:
            raise ValueError(f"two cases are called {name}")
        _names.add(name)
        CASES.append(Case(name, data, end, count))


def codes(characters: Iterable[int]) -> dict[str, bytes]:
    """Characters by a name for each: ``0x0b``."""
    return {f"0x{code:02x}": bytes((code,)) for code in characters}


CONTROLS = codes([*range(9), 11, 12, *range(14, 32), 127])
"""Every control character but TAB, LF and CR."""
SPACES = {"vt": b"\x0b", "ff": b"\x0c", "nul": b"\x00", "nbsp": b"\xa0", "nel": b"\x85", "quote": b'"', "us": b"\x1f"}
"""What some parser somewhere strips."""


# ---- a length and a coding (RFC 9112, section 6.3) --------------------------------------------------------------------

LENGTH_5 = "Content-Length: 5"
add(
    "cl-te",
    400,
    {
        "length-first": request(LENGTH_5, CHUNKED, body=b"0\r\n\r\n"),
        "coding-first": request(CHUNKED, LENGTH_5, body=b"0\r\n\r\n"),
        "length-0": request("Content-Length: 0", CHUNKED, body=CHUNKS),
        "length-fits": request("Content-Length: 15", CHUNKED, body=CHUNKS),
        "length-hides-a-request": request(f"Content-Length: {5 + len(HIDDEN)}", CHUNKED, body=b"0\r\n\r\n" + HIDDEN),
        "chunk-hides-a-request": request(
            "Content-Length: 4", CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
        ),
        "identity": request(LENGTH_5, "Transfer-Encoding: identity", body=b"hello"),
        "empty-coding": request(LENGTH_5, "Transfer-Encoding:", body=b"hello"),
        "xchunked": request(LENGTH_5, "Transfer-Encoding: xchunked", body=b"hello"),
        "chunked-identity": request(LENGTH_5, "Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
        "identity-chunked": request(LENGTH_5, "Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"),
        "two-lengths": request(LENGTH_5, LENGTH_5, CHUNKED, body=b"0\r\n\r\n"),
        "two-codings": request(CHUNKED, LENGTH_5, CHUNKED, body=b"0\r\n\r\n"),
        "case": request("content-length: 5", "TRANSFER-ENCODING: Chunked", body=b"0\r\n\r\n"),
        "bad-length": request("Content-Length: x", CHUNKED, body=b"0\r\n\r\n"),
        "in-1.0": request(LENGTH_5, CHUNKED, line="POST /a HTTP/1.0", body=b"0\r\n\r\n"),
        "space-before-colon": request(LENGTH_5, "Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
        "tab-before-colon": request(LENGTH_5, "Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"),
        "length-space-before-colon": request("Content-Length : 5", CHUNKED, body=b"0\r\n\r\n"),
        "coding-folded": request(LENGTH_5, "Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
        "coding-in-a-folded-line": request(LENGTH_5, "X: y\r\n Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        "coding-after-bare-cr": request(LENGTH_5, "X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
        "coding-after-bare-lf": request(LENGTH_5, "X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
        "coding-after-nul": request(LENGTH_5, "X: y\0Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        "coding-name-nul": request(LENGTH_5, "Transfer-Encoding\0: chunked", body=b"0\r\n\r\n"),
        "coding-name-leading-space": request(" Transfer-Encoding: chunked", LENGTH_5, body=b"0\r\n\r\n"),
        "coding-name-0xff": request(LENGTH_5, "\xffTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
        "coding-no-colon": request(LENGTH_5, "Transfer-Encoding chunked", body=b"hello"),
    },
)
add(
    "cl-te",
    GOES_ON,
    {
        "coding-with-underscore": request(LENGTH_5, "Transfer_Encoding: chunked", body=b"hello"),
        "length-with-underscore": request("Content_Length: 5", CHUNKED, body=CHUNKS),
        "coding-with-prefix": request(LENGTH_5, "X-Transfer-Encoding: chunked", body=b"hello"),
        "coding-in-a-value": request(LENGTH_5, "X: Transfer-Encoding: chunked", body=b"hello"),
        "coding-in-connection": request(LENGTH_5, "Connection: transfer-encoding", body=b"hello"),
        "length-in-connection": request(LENGTH_5, "Connection: content-length", body=b"hello"),
        "te-field": request(LENGTH_5, "TE: chunked", body=b"hello"),
        "content-encoding": request(LENGTH_5, "Content-Encoding: chunked", body=b"hello"),
    },
)

# ---- transfer codings (RFC 9112, section 6.1) -------------------------------------------------------------------------


def coded(value: Text) -> bytes:
    return request(b"Transfer-Encoding:" + raw(value), body=CHUNKS)


def named(name: bytes) -> bytes:
    return request(name + b": chunked", body=CHUNKS)


add(
    "te",
    GOES_ON,
    {
        "chunked": coded(" chunked"),
        "capital": coded(" Chunked"),
        "upper": coded(" CHUNKED"),
        "mixed": coded(" cHuNkEd"),
        "no-space": coded("chunked"),
        "tab": coded("\tchunked"),
        "spaces-after": coded(" chunked  "),
        "tab-after": coded(" chunked\t"),
        "lower-name": request("transfer-encoding: chunked", body=CHUNKS),
        "get": request(CHUNKED, line="GET /a HTTP/1.1", body=CHUNKS),
        "delete": request(CHUNKED, line="DELETE /a HTTP/1.1", body=CHUNKS),
        "options": request(CHUNKED, line="OPTIONS /a HTTP/1.1", body=CHUNKS),
    },
)
add(
    "te",
    400,
    {
        "xchunked": coded(" xchunked"),
        "chunkedx": coded(" chunkedx"),
        "chunked123": coded(" chunked123"),
        "chunke": coded(" chunke"),
        "chunked-chunked": coded(" chunked, chunked"),
        "chunked-chunked-no-space": coded(" chunked,chunked"),
        "two-lines": request(CHUNKED, CHUNKED, body=CHUNKS),
        "two-lines-identity": request(CHUNKED, "Transfer-Encoding: identity", body=CHUNKS),
        "two-lines-empty": request("Transfer-Encoding:", "Transfer-Encoding:", body=CHUNKS),
        "chunked-gzip": coded(" chunked, gzip"),
        "chunked-identity": coded(" chunked, identity"),
        "gzip": coded(" gzip"),
        "identity": coded(" identity"),
        "empty": coded(""),
        "comma": coded(" ,"),
        "quoted": coded(' "chunked"'),
        "single-quoted": coded(" 'chunked'"),
        "parameter": coded(" chunked;a=b"),
        "semicolon": coded(" chunked;"),
        "dot": coded(" chunked."),
        "space-within": coded(" chun ked"),
        "two-words": coded(" chunked foo"),
        "folded": coded("\r\n chunked"),
        "folded-after": coded(" chunked\r\n "),
        "folded-comma": coded(" gzip,\r\n chunked"),
        "bare-cr": coded(" chunked\rX: y"),
        "cr-before": coded(" \rchunked"),
        "look-alike": coded(" \u0441hunked".encode()),
        "high": coded(" chunked\xff"),
        "in-1.0": request(CHUNKED, line="POST /a HTTP/1.0", body=CHUNKS),
        "in-1.0-keep-alive": request(CHUNKED, "Connection: keep-alive", line="POST /a HTTP/1.0", body=CHUNKS),
        "space-before-colon": request("Transfer-Encoding : chunked", body=CHUNKS),
        **{f"before-{name}": coded(b" " + code + b"chunked") for name, code in SPACES.items()},
        **{f"after-{name}": coded(b" chunked" + code) for name, code in SPACES.items()},
        **{f"name-before-{name}": named(code + b"Transfer-Encoding") for name, code in SPACES.items()},
        **{f"name-after-{name}": named(b"Transfer-Encoding" + code) for name, code in SPACES.items()},
    },
)
add(
    "te",
    501,
    {
        "gzip-chunked": coded(" gzip, chunked"),
        "identity-chunked": coded(" identity, chunked"),
        "two-lines-gzip": request("Transfer-Encoding: gzip", CHUNKED, body=CHUNKS),
        "comma-before": coded(" ,chunked"),
        "comma-after": coded(" chunked,"),
        "comma-space-after": coded(" chunked, "),
        "commas": coded(" ,, chunked ,,"),
        "empty-line-first": request("Transfer-Encoding:", CHUNKED, body=CHUNKS),
        "empty-line-last": request(CHUNKED, "Transfer-Encoding:", body=CHUNKS),
    },
)

# ---- lengths (RFC 9110, section 8.6) ----------------------------------------------------------------------------------


def long(value: Text) -> bytes:
    return request(b"Content-Length:" + raw(value), body=b"hello")


add(
    "cl",
    GOES_ON,
    {
        "5": long(" 5"),
        "no-space": long("5"),
        "tab": long("\t5"),
        "spaces": long("   5   "),
        "tab-after": long(" 5\t"),
        "leading-zeros": long(" 0005"),
        "19-digits": long(" 0000000000000000005"),
        "lower-name": request("content-length: 5", body=b"hello"),
        "0": request("Content-Length: 0"),
        "000": request("Content-Length: 000"),
        "none": request(),
        "body-like-a-request": request(f"Content-Length: {len(HIDDEN)}", body=HIDDEN),
        "body-like-chunks": request("Content-Length: 15", body=CHUNKS),
        "put": request(LENGTH_5, line="PUT /a HTTP/1.1", body=b"hello"),
        "delete": request(LENGTH_5, line="DELETE /a HTTP/1.1", body=b"hello"),
        "options": request(LENGTH_5, line="OPTIONS /a HTTP/1.1", body=b"hello"),
        "patch": request(LENGTH_5, line="PATCH /a HTTP/1.1", body=b"hello"),
        "nuls": request(LENGTH_5, body=b"\0\0\r\n\0"),
    },
)
add(
    "cl",
    400,
    {
        "plus": long(" +5"),
        "minus-0": long(" -0"),
        "minus": long(" -5"),
        "underscore": long(" 5_0"),
        "hex": long(" 0x5"),
        "hex-letter": long(" a"),
        "octal": long(" 0o5"),
        "binary": long(" 0b1"),
        "float": long(" 5.0"),
        "exponent": long(" 5e0"),
        "suffix": long(" 5h"),
        "word": long(" five"),
        "empty": long(""),
        "spaces-only": long("   "),
        "comma-equal": long(" 5, 5"),
        "comma-equal-no-space": long(" 5,5"),
        "comma-different": long(" 5, 6"),
        "comma-after": long(" 5,"),
        "comma-before": long(" ,5"),
        "space-within": long(" 5 0"),
        "semicolon": long(" 5;"),
        "quoted": long(' "5"'),
        "arabic": long(" \u0665".encode()),
        "superscript": long(" \xb2"),
        "fullwidth": long(" \uff15".encode()),
        "thai": long(" \u0e55".encode()),
        "two-equal": request(LENGTH_5, LENGTH_5, body=b"hello"),
        "two-different": request(LENGTH_5, "Content-Length: 6", body=b"hello!"),
        "two-first-0": request("Content-Length: 0", LENGTH_5, body=b"hello"),
        "two-last-0": request(LENGTH_5, "Content-Length: 0", body=b"hello"),
        "two-case": request(LENGTH_5, "content-length: 5", body=b"hello"),
        "two-one-empty": request(LENGTH_5, "Content-Length:", body=b"hello"),
        "two-leading-zero": request(LENGTH_5, "Content-Length: 05", body=b"hello"),
        "2^31-in-1-byte": long(" 2147483653x"),
        "2^63": long(" 9223372036854775808"),
        "2^64": long(" 18446744073709551616"),
        "2^64+5": long(" 18446744073709551621"),
        "20-digits": long(" 00000000000000000005"),
        "5000-digits": long(" " + "9" * 5000),
        "5000-zeros": long(" " + "0" * 5000 + "5"),
        "folded": long("\r\n 5"),
        "folded-after": long(" 5\r\n 6"),
        "bare-cr": long(" 5\rX: y"),
        "cr-before": long(" \r5"),
        "bare-lf": long(" 5\nX: y\r"),
        "space-before-colon": request("Content-Length : 5", body=b"hello"),
        "tab-before-colon": request("Content-Length\t: 5", body=b"hello"),
        "leading-space": request(" Content-Length: 5", body=b"hello"),
        "leading-space-later": request("X: y", " Content-Length: 5", body=b"hello"),
        "name-high": request("Content-Length\xe9: 5", body=b"hello"),
        "colons": request("Content-Length:: 5", body=b"hello"),
        **{f"before-{name}": long(b" " + code + b"5") for name, code in SPACES.items()},
        **{f"after-{name}": long(b" 5" + code) for name, code in SPACES.items()},
    },
)
# The sentinel, or its first byte, is a part of the body; and the other way round.
add("cl-wrong", GOES_ON, {"4": request("Content-Length: 4", body=b"hello"), "6": request("Content-Length: 6", body=b"hello")})
add(
    "cl-wrong",
    413,
    {
        "2^31": request("Content-Length: 2147483648", body=b"hello"),
        "2^32": request("Content-Length: 4294967296", body=b"hello"),
        "2^32+5": request("Content-Length: 4294967301", body=b"hello"),
        "2^63-1": request("Content-Length: 9223372036854775807", body=b"hello"),
    },
)
add("cl-wrong", 400, {"1000": request("Content-Length: 1000", body=b"hello")})

# ---- chunks (RFC 9112, section 7.1) -----------------------------------------------------------------------------------


def chunked(body: Text, *fields: Text) -> bytes:
    return request(CHUNKED, *fields, body=body)


def sized(line: Text, data: Text = b"hello") -> bytes:
    """A body of one chunk, whose size line is ``line``."""
    return chunked(raw(line) + b"\r\n" + raw(data) + b"\r\n0\r\n\r\n")


add(
    "chunk",
    GOES_ON,
    {
        "one": sized("5"),
        "none": chunked("0\r\n\r\n"),
        "three": chunked("1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n"),
        "lower-hex": sized("a", "0123456789"),
        "upper-hex": sized("A", "0123456789"),
        "mixed-hex": sized("1a", "abcdefghijklmnopqrstuvwxyz"),
        "leading-zero": sized("05"),
        "16-digits": sized("0000000000000005"),
        "many-zeros-end": chunked("5\r\nhello\r\n0000\r\n\r\n"),
        "extension": sized("5;a"),
        "extension-value": sized("5;a=b"),
        "extension-empty": sized("5;"),
        "extension-space": sized("5; a=b"),
        "extension-space-before": sized("5 ;a=b"),
        "extension-tab-before": sized("5\t;a=b"),
        "extension-quoted": sized('5;a="b;c"'),
        "extension-quoted-escape": sized('5;a="b\\"c"'),
        "extension-open-quote": sized('5;a="b'),
        "extension-end-quote": chunked('5\r\nhello\r\n0;a="\r\n\r\n'),
        "extension-two": sized("5;a=b;c=d"),
        "extension-high": sized("5;a=\xe9"),
        "extension-like-a-size": sized("5;6"),
        "extension-of-the-end": chunked("5\r\nhello\r\n0;a=b\r\n\r\n"),
        "data-like-an-end": sized("7", "\r\n0\r\n\r\n"),
        "data-like-a-request": sized(f"{len(HIDDEN):x}", HIDDEN),
        "data-nul": sized("5", "\0\0\0\0\0"),
    },
)
add(
    "chunk",
    400,
    {
        "0x": sized("0x5"),
        "h": sized("5h"),
        "g": sized("g"),
        "plus": sized("+5"),
        "minus": sized("-5"),
        "minus-0": chunked("5\r\nhello\r\n-0\r\n\r\n"),
        "underscore": sized("0_5"),
        "comma": sized("5,5"),
        "empty": sized(""),
        "empty-end": chunked("5\r\nhello\r\n\r\n"),
        "space-before": sized(" 5"),
        "tab-before": sized("\t5"),
        "space-after": sized("5 "),
        "tab-after": sized("5\t"),
        "spaces-after": sized("5   "),
        "space-within": sized("0 5"),
        "space-then-text": sized("5 a"),
        "arabic": sized("\u0665".encode()),
        "fullwidth": sized("\uff15".encode()),
        "2^63": sized("8000000000000000"),
        "2^64-1": sized("ffffffffffffffff"),
        "2^64": sized("10000000000000000"),
        "2^64+5": sized("10000000000000005"),
        "2^32+5": sized("100000005"),
        "2^63-1": sized("7fffffffffffffff"),
        "17-digits": sized("00000000000000005"),
        "300-digits": sized("0" * 299 + "5"),
        "too-big-by-1": sized("6"),
        "too-big-by-2": sized("7"),
        "too-big-by-7": sized("c"),
        "too-small-by-1": sized("4"),
        "no-crlf-after-data": chunked("5\r\nhello0\r\n\r\n"),
        "no-crlf-after-data-2": chunked("5\r\nhello5\r\nhello\r\n0\r\n\r\n"),
        "lf-after-data": chunked("5\r\nhello\n0\r\n\r\n"),
        "cr-after-data": chunked("5\r\nhello\r0\r\n\r\n"),
        "two-bytes-after-data": chunked("5\r\nhelloXX0\r\n\r\n"),
        "crx-after-data": chunked("5\r\nhello\rX0\r\n\r\n"),
        "xlf-after-data": chunked("5\r\nhelloX\n0\r\n\r\n"),
        "crcrlf-after-data": chunked("5\r\nhello\r\r\n0\r\n\r\n"),
        "lf-after-size": chunked("5\nhello\r\n0\r\n\r\n"),
        "cr-after-size": chunked("5\rhello\r\n0\r\n\r\n"),
        "crcrlf-after-size": chunked("5\r\r\nhello\r\n0\r\n\r\n"),
        "cr-x-after-size": chunked("5\rX\nhello\r\n0\r\n\r\n"),
        "lf-everywhere": chunked("5\nhello\n0\n\n"),
        "lf-after-end": chunked("5\r\nhello\r\n0\n\r\n"),
        "lf-at-end": chunked("5\r\nhello\r\n0\r\n\n"),
        "lf-lf-at-end": chunked("5\r\nhello\r\n0\n\n"),
        "cr-at-end": chunked("5\r\nhello\r\n0\r\n\r"),
        "crcrlf-at-end": chunked("5\r\nhello\r\n0\r\n\r\r\n"),
        "end-without-crlf": chunked("5\r\nhello\r\n0\r\n"),
        "end-without-0": chunked("5\r\nhello\r\n"),
        "not-chunked-at-all": chunked("hello"),
        "extension-lf": sized("5;a\nb"),
        "extension-lf-size": chunked("5;a\n0\r\n\r\n" + HIDDEN.decode() + "\r\n0\r\n\r\n"),
        "extension-lf-quoted": sized('5;a="\n"'),
        "extension-crlf-quoted": sized('5;a="\r\n"'),
        "extension-cr": sized("5;a\rb"),
        "extension-cr-quoted": sized('5;a="\rb"'),
        "extension-nul": sized("5;a\0b"),
        "extension-of-the-end-lf": chunked("5\r\nhello\r\n0;a\nb\r\n\r\n"),
        "extension-300": sized("5;" + "a" * 300),
        "extension-20000": sized("5;" + "a" * 20000),
        **{f"before-{name}": sized(code + b"5") for name, code in SPACES.items()},
        **{f"after-{name}": sized(b"5" + code) for name, code in SPACES.items()},
    },
)

# ---- trailers (RFC 9112, section 7.1.2; RFC 9110, section 6.5.1) ------------------------------------------------------


def trailed(*lines: Text) -> bytes:
    return chunked(b"5\r\nhello\r\n0\r\n" + b"".join(raw(line) + b"\r\n" for line in lines) + b"\r\n")


FORBIDDEN = ["Authorization: x", "Cache-Control: no-store", "Connection: close", "Content-Encoding: gzip", LENGTH_5]
FORBIDDEN += ["Content-Range: bytes 0-1/2", "Content-Type: a/b", "Cookie: a=b", "Expect: 100-continue", "Host: b"]
FORBIDDEN += ["Keep-Alive: 1", "Max-Forwards: 1", "Proxy-Authorization: x", "Proxy-Connection: close", "Range: bytes=0-1"]
FORBIDDEN += ["Set-Cookie: a=b", "TE: trailers", "Trailer: x", CHUNKED, "Upgrade: websocket"]
add(
    "trailer",
    GOES_ON,
    {
        "one": trailed("X: y"),
        "three": trailed("X: y", "Z: ", "ETag: 1"),
        "twice": trailed("X: y", "X: z"),
        "announced": chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n", "Trailer: X"),
        "of-nothing": chunked("0\r\nX: y\r\n\r\n"),
        "like-a-size": trailed("5: hello"),
        "value-like-a-request": trailed("X: GET /hidden HTTP/1.1"),
    },
)
add(
    "trailer",
    400,
    {
        **{f"forbidden-{line.partition(':')[0].lower()}": trailed(line) for line in FORBIDDEN},
        "forbidden-lower": trailed("content-length: 5"),
        "hidden-request": trailed("GET /hidden HTTP/1.1", "Host: a"),
        "hidden-request-with-colon": trailed("GET /hidden:1 HTTP/1.1", "Host: a"),
        "no-colon": trailed("X"),
        "no-name": trailed(": y"),
        "space-before-colon": trailed("X : y"),
        "folded": trailed("X: y", " z"),
        "leading-space": trailed(" X: y"),
        "nul": trailed("X: \0"),
        "bare-lf": trailed("X: y\nZ: z"),
        "bare-cr": trailed("X: y\rZ: z"),
        "lf-lf": chunked("5\r\nhello\r\n0\r\nX: y\n\n"),
        "lf-then-request": chunked(b"5\r\nhello\r\n0\r\nX: y\n\n" + HIDDEN + b"\r\n"),
        "crlf-lf": chunked("5\r\nhello\r\n0\r\nX: y\r\n\n"),
        "cr-first": chunked("5\r\nhello\r\n0\r\n\rX: y\r\n\r\n"),
        "bad-name": trailed("X@: y"),
        "not-ended": chunked("5\r\nhello\r\n0\r\nX: y\r\n"),
    },
)
add(
    "trailer",
    431,
    {
        "too-long": trailed(*[f"X{i}: {'y' * 8000}" for i in range(9)]),
        "line-too-long": trailed("X: " + "y" * 9000),
        "too-many": trailed(*[f"X{i}: y" for i in range(200)]),
    },
)

# ---- ends of lines (RFC 9112, section 2.2) ----------------------------------------------------------------------------

PLAIN = request(LENGTH_5, body=b"hello")
HEAD = PLAIN[: -len(b"\r\nhello")]
"""Without the empty line."""
add(
    "line-end",
    400,
    {
        "lf": PLAIN.replace(b"\r\n", b"\n"),
        "lf-request-line": PLAIN.replace(b"1.1\r\n", b"1.1\n"),
        "lf-field": PLAIN.replace(b"Host: a\r\n", b"Host: a\n"),
        "lf-last-field": HEAD[:-2] + b"\n\r\nhello",
        "lf-empty-line": HEAD + b"\nhello",
        "lf-lf": HEAD[:-2] + b"\n\nhello",
        "cr": PLAIN.replace(b"\r\n", b"\r"),
        "cr-request-line": PLAIN.replace(b"1.1\r\n", b"1.1\r"),
        "cr-field": PLAIN.replace(b"Host: a\r\n", b"Host: a\r"),
        "cr-empty-line": HEAD + b"\rhello",
        "crcrlf": PLAIN.replace(b"\r\n", b"\r\r\n"),
        "crcrlf-request-line": PLAIN.replace(b"1.1\r\n", b"1.1\r\r\n"),
        "crcrlf-field": PLAIN.replace(b"Host: a\r\n", b"Host: a\r\r\n"),
        "crcrlf-empty-line": HEAD + b"\r\r\nhello",
        "lfcr": PLAIN.replace(b"\r\n", b"\n\r"),
        "nel": PLAIN.replace(b"\r\n", b"\x85"),
        "vt-empty-line": HEAD + b"\x0b\r\nhello",
        "space-empty-line": HEAD + b" \r\nhello",
        "cr-then-request": HEAD[:-2] + b"\r\r" + HIDDEN,
        "lf-then-request": HEAD[:-2] + b"\n\n" + HIDDEN,
        "field-hides-lf-lf": request(b"X: \n\n" + HIDDEN[:-4]),
        "field-hides-cr-cr": request(b"X: \r\r" + HIDDEN[:-4]),
        "nothing": b"POST /a HTTP/1.1",
    },
)
add("leading", GOES_ON, {"none": PLAIN, "crlf": b"\r\n" + PLAIN})
add(
    "leading",
    400,
    {
        "crlf-2": b"\r\n\r\n" + PLAIN,
        "crlf-20": b"\r\n" * 20 + PLAIN,
        "lf": b"\n" + PLAIN,
        "cr": b"\r" + PLAIN,
        "crcrlf": b"\r\r\n" + PLAIN,
        "crlf-lf": b"\r\n\n" + PLAIN,
        "crlf-cr": b"\r\n\r" + PLAIN,
        "space": b" " + PLAIN,
        "tab": b"\t" + PLAIN,
        "space-crlf": b" \r\n" + PLAIN,
        "crlf-space": b"\r\n " + PLAIN,
        "nul": b"\0" + PLAIN,
        "bom": b"\xef\xbb\xbf" + PLAIN,
        "chunk-end": b"0\r\n\r\n" + PLAIN,
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + PLAIN,
        "proxy-v1": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + PLAIN,
        "proxy-v2": b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" + PLAIN,
    },
)

# ---- the request line (RFC 9112, section 3) ---------------------------------------------------------------------------


def lined(line: Text, *fields: Text) -> bytes:
    return request(*fields, line=line)


add(
    "line",
    GOES_ON,
    {
        "get": lined("GET / HTTP/1.1"),
        "query": lined("GET /a?b=c HTTP/1.1"),
        "query-empty": lined("GET /a? HTTP/1.1"),
        "two-question-marks": lined("GET /a?b?c HTTP/1.1"),
        "slashes": lined("GET //a//b HTTP/1.1"),
        "slashes-host": lined("GET //b/c HTTP/1.1"),
        "dots": lined("GET /a/../b HTTP/1.1"),
        "dot": lined("GET /./a HTTP/1.1"),
        "encoded": lined("GET /%61%2fb HTTP/1.1"),
        "encoded-nul": lined("GET /a%00b HTTP/1.1"),
        "encoded-crlf": lined("GET /a%0d%0ab HTTP/1.1"),
        "percent-alone": lined("GET /a%zz HTTP/1.1"),
        "backslash": lined("GET /a\\b HTTP/1.1"),
        "quotes": lined("GET /a\"<>'`{}|^b HTTP/1.1"),
        "colon-in-path": lined("GET /a:80/b HTTP/1.1"),
        "url-in-path": lined("GET /http://b/c HTTP/1.1"),
        "absolute": lined("GET http://a/b HTTP/1.1"),
        "absolute-no-path": lined("GET http://a HTTP/1.1"),
        "absolute-query-alone": lined("GET http://a?b=c HTTP/1.1"),
        "absolute-other-host": lined("GET http://b/c HTTP/1.1"),
        "absolute-port": lined("GET http://a:80/b HTTP/1.1"),
        "absolute-port-empty": lined("GET http://a:/b HTTP/1.1"),
        "absolute-upper": lined("GET HTTP://A/b HTTP/1.1"),
        "absolute-https": lined("GET https://a/b HTTP/1.1"),
        "absolute-slashes": lined("GET http://a//b HTTP/1.1"),
        "absolute-v6": lined("GET http://[::1]/b HTTP/1.1"),
        "method-other": lined("PROPFIND /a HTTP/1.1"),
        "method-lower": lined("get /a HTTP/1.1"),
        "method-unknown": lined("FOO /a HTTP/1.1"),
        "method-m-search": lined("M-SEARCH /a HTTP/1.1"),
        "method-odd-token": lined("G!#$%&'*+-.^_`|~ET /a HTTP/1.1"),
        "method-long": lined("A" * 100 + " /a HTTP/1.1"),
        "get-hidden-in-query": lined("GET /a?HTTP/1.1 HTTP/1.1"),
        "options-path": lined("OPTIONS /a HTTP/1.1"),
        "options-asterisk": lined("OPTIONS * HTTP/1.1"),
        "long": lined("GET /" + "a" * 8000 + " HTTP/1.1"),
    },
)
add(
    "line",
    400,
    {
        "two-spaces": lined("GET  /a HTTP/1.1"),
        "two-spaces-version": lined("GET /a  HTTP/1.1"),
        "tab": lined("GET\t/a HTTP/1.1"),
        "tab-version": lined("GET /a\tHTTP/1.1"),
        "tab-extra": lined("GET /a \tHTTP/1.1"),
        "vt": lined("GET /a\x0bHTTP/1.1"),
        "ff": lined("GET\x0c/a HTTP/1.1"),
        "cr-space": lined("GET /a\rHTTP/1.1"),
        "nbsp": lined("GET\xa0/a HTTP/1.1"),
        "trailing-space": lined("GET /a HTTP/1.1 "),
        "trailing-tab": lined("GET /a HTTP/1.1\t"),
        "trailing-word": lined("GET /a HTTP/1.1 b"),
        "no-version": lined("GET /a"),
        "no-version-space": lined("GET /a "),
        "no-target": lined("GET HTTP/1.1"),
        "empty-target": lined("GET  HTTP/1.1"),
        "method-alone": lined("GET"),
        "empty": lined("", "X: y"),
        "field-first": lined("Host: a"),
        "response": lined("HTTP/1.1 200 OK"),
        "lower-version": lined("GET /a http/1.1"),
        "mixed-version": lined("GET /a HtTP/1.1"),
        "version-cut": lined("GET /a HTTP/1"),
        "version-cut-dot": lined("GET /a HTTP/1."),
        "version-digits": lined("GET /a HTTP/1.10"),
        "version-zeros": lined("GET /a HTTP/01.1"),
        "version-word": lined("GET /a HTTP/x.y"),
        "version-space": lined("GET /a HTTP/ 1.1"),
        "version-space-dot": lined("GET /a HTTP/1 .1"),
        "version-other": lined("GET /a RTSP/1.0"),
        "version-ice": lined("SOURCE /a ICE/1.0"),
        "version-arabic": lined("GET /a HTTP/1.\u0661".encode()),
        "version-comma": lined("GET /a HTTP/1,1"),
        "version-plus": lined("GET /a HTTP/+1.1"),
        "version-twice": lined("GET /a HTTP/1.1HTTP/1.1"),
        "fragment": lined("GET /a#b HTTP/1.1"),
        "fragment-query": lined("GET /a?b#c HTTP/1.1"),
        "fragment-absolute": lined("GET http://a/b#c HTTP/1.1"),
        "space-in-target": lined("GET /a b HTTP/1.1"),
        "space-in-query": lined("GET /a?b c HTTP/1.1"),
        "request-in-target": lined("GET /a HTTP/1.1 /b HTTP/1.1"),
        "high": lined("GET /\xe9 HTTP/1.1"),
        "utf-8": lined("GET /\u00e9 HTTP/1.1".encode()),
        "high-query": lined("GET /a?\xff HTTP/1.1"),
        "nul": lined("GET /a\0b HTTP/1.1"),
        "del": lined("GET /a\x7fb HTTP/1.1"),
        "esc": lined("GET /a\x1bb HTTP/1.1"),
        "no-slash": lined("GET a HTTP/1.1"),
        "query-alone": lined("GET ?a HTTP/1.1"),
        "asterisk": lined("GET * HTTP/1.1"),
        "options-asterisk-query": lined("OPTIONS *?a HTTP/1.1"),
        "options-asterisk-path": lined("OPTIONS */a HTTP/1.1"),
        "authority": lined("GET a:80 HTTP/1.1"),
        "authority-options": lined("OPTIONS a:80 HTTP/1.1"),
        "scheme-other": lined("GET ftp://a/b HTTP/1.1"),
        "scheme-alone": lined("GET http: HTTP/1.1"),
        "scheme-one-slash": lined("GET http:/a HTTP/1.1"),
        "absolute-empty-host": lined("GET http:///a HTTP/1.1"),
        "absolute-userinfo": lined("GET http://u:p@a/b HTTP/1.1"),
        "absolute-bad-port": lined("GET http://a:99999/b HTTP/1.1"),
        "absolute-backslash": lined("GET http://a\\b/c HTTP/1.1"),
        "absolute-no-host-field": request(line="GET http://a/b HTTP/1.1", host=""),
        "path-no-slash-dots": lined("GET ../a HTTP/1.1"),
        "connect-path": lined("CONNECT /a HTTP/1.1"),
        "connect-no-port": lined("CONNECT a HTTP/1.1"),
        "connect-url": lined("CONNECT http://a:80/ HTTP/1.1"),
        **{
            f"method-0x{code:02x}": lined(b"G%cT /a HTTP/1.1" % code)
            for code in [*b'"(),/:;<=>?@[\\]{}', 0x00, 0x0B, 0x7F, 0x80, 0xE9]
        },
    },
)
add(
    "line",
    501,
    {
        "connect": lined("CONNECT a:80 HTTP/1.1"),
        "connect-v6": lined("CONNECT [::1]:80 HTTP/1.1"),
        "trace": lined("TRACE /a HTTP/1.1"),
    },
)
add(
    "line",
    505,
    {
        "version-0.9": lined("GET /a HTTP/0.9"),
        "version-1.2": lined("GET /a HTTP/1.2"),
        "version-1.9": lined("GET /a HTTP/1.9"),
        "version-2.0": lined("GET /a HTTP/2.0"),
        "version-3.0": lined("GET /a HTTP/3.0"),
        "http2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    },
)
add("line", 414, {"too-long": lined("GET /" + "a" * 9000 + " HTTP/1.1")})

# ---- Host (RFC 9112, section 3.2) -------------------------------------------------------------------------------------


def hosted(value: Text) -> bytes:
    return request(host=b"Host:" + raw(value) + b"\r\n")


add(
    "host",
    GOES_ON,
    {
        "plain": hosted(" a"),
        "upper": hosted(" A.B"),
        "port": hosted(" a:80"),
        "port-65535": hosted(" a:65535"),
        "port-0": hosted(" a:0"),
        "port-zeros": hosted(" a:00080"),
        "port-empty": hosted(" a:"),
        "no-space": hosted("a"),
        "spaces": hosted("  a  "),
        "tab": hosted("\ta\t"),
        "v4": hosted(" 127.0.0.1"),
        "v6": hosted(" [::1]"),
        "v6-port": hosted(" [::1]:80"),
        "trailing-dot": hosted(" a.b."),
        "hyphen": hosted(" -a-"),
        "underscore": hosted(" a_b"),
        "percent": hosted(" a%41"),
        "sub-delimiters": hosted(" a!$&'()*+,;=b"),
        "comma": hosted(" a,b"),
        "last": request(host="X: y\r\nHost: a\r\n"),
        "lower-name": request(host="host: a\r\n"),
    },
)
add(
    "host",
    400,
    {
        "none": request(host=""),
        "empty": hosted(""),
        "spaces-only": hosted("   "),
        "two-equal": request(host="Host: a\r\nHost: a\r\n"),
        "two-different": request(host="Host: a\r\nHost: b\r\n"),
        "two-case": request(host="Host: a\r\nhost: b\r\n"),
        "two-one-empty": request(host="Host: a\r\nHost:\r\n"),
        "two-first-empty": request(host="Host:\r\nHost: a\r\n"),
        "two-words": hosted(" a b"),
        "comma-space": hosted(" a, b"),
        "path": hosted(" a/b"),
        "query": hosted(" a?b"),
        "fragment": hosted(" a#b"),
        "path-query": hosted(" a/b?c"),
        "userinfo": hosted(" u@a"),
        "url": hosted(" http://a"),
        "backslash": hosted(" a\\b"),
        "port-99999": hosted(" a:99999"),
        "port-65536": hosted(" a:65536"),
        "port-word": hosted(" a:b"),
        "port-minus": hosted(" a:-80"),
        "port-plus": hosted(" a:+80"),
        "port-space": hosted(" a: 80"),
        "port-two": hosted(" a:80:80"),
        "port-alone": hosted(" :80"),
        "port-arabic": hosted(" a:\u0668\u0660".encode()),
        "v6-bare": hosted(" ::1"),
        "v6-open": hosted(" [::1"),
        "v6-closed": hosted(" ::1]"),
        "v6-empty": hosted(" []"),
        "v6-zone": hosted(" [fe80::1%eth0]"),
        "v6-text": hosted(" [::1]a"),
        "percent-bad": hosted(" a%zz"),
        "v6-colons": hosted(" [:::]"),
        "quotes": hosted(' "a"'),
        "angles": hosted(" <a>"),
        "high": hosted(" \xe9"),
        "utf-8": hosted(" \u00e9".encode()),
        "tab-within": hosted(" a\tb"),
        "nul": hosted(" a\0b"),
        "del": hosted(" a\x7f"),
        "folded": hosted("\r\n a"),
        "folded-after": hosted(" a\r\n b"),
        "bare-cr": hosted(" a\rb"),
        "space-before-colon": request(host="Host : a\r\n"),
        "leading-space": request(host=" Host: a\r\n"),
        "name-nul": request(host="Host\0: a\r\n"),
    },
)

# ---- fields (RFC 9112, section 5) -------------------------------------------------------------------------------------

add(
    "field",
    GOES_ON,
    {
        "every-token-character": request("!#$%&'*+-.^_`|~0aA: b"),
        "digit": request("1: b"),
        "empty-value": request("X:"),
        "spaces-value": request("X:    "),
        "tab-value": request("X:\ty\tz\t"),
        "colons": request("X::::"),
        "high": request("X: \x80\xff\xa0\x85"),
        "utf-8": request("X: \u65e5\u672c".encode()),
        "repeated": request("X: a", "x: b", "X: c"),
        "cookies": request("Cookie: a=b", "Cookie: c=d"),
        "quotes": request('X: "a'),
        "like-a-request": request("X: y GET /hidden HTTP/1.1"),
        "like-encoded-crlf": request("X: a%0d%0aContent-Length: 5"),
        "long": request("X: " + "y" * 8000),
        "127": request(*[f"X{i}: y" for i in range(127)]),
        "dot-names": request("X.Y: z", "Content.Length: 5"),
        "forwarded": request("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: b", "X-Original-URL: /hidden"),
        "method-override": request("X-HTTP-Method-Override: DELETE"),
    },
)
add(
    "field",
    400,
    {
        "space-before-colon": request("X : y"),
        "tab-before-colon": request("X\t: y"),
        "no-name": request(": y"),
        "no-colon": request("X"),
        "no-colon-words": request("X y"),
        "empty-name-space": request(" : y"),
        "folded": request("X: y", " z"),
        "folded-tab": request("X: y", "\tz"),
        "folded-empty": request("X: y", " "),
        "folded-first": request(host=" X: y\r\nHost: a\r\n"),
        "folded-first-tab": request(host="\tX: y\r\nHost: a\r\n"),
        "folded-length": request("X: y", " Content-Length: 5", body=b"hello"),
        "space-in-name": request("X Y: z"),
        "request-line": request("GET /hidden HTTP/1.1"),
        "request-line-colon": request("GET http://a/ HTTP/1.1"),
        **{f"name-{name}": request(b"X" + code + b"Y: z") for name, code in codes(b'"(),/;<=>?@[\\]{}').items()},
        **{f"name-{name}": request(b"X" + code + b"Y: z") for name, code in codes([0x80, 0xA0, 0xE9, 0xFF]).items()},
        **{f"name-{name}": request(b"X" + code + b"Y: z") for name, code in CONTROLS.items()},
        **{f"value-{name}": request(b"X: y" + code + b"z") for name, code in CONTROLS.items()},
        "value-lf": request("X: y\nz"),
        "value-cr": request("X: y\rz"),
        "value-cr-at-end": request("X: y\r"),
        "name-lf": request("X\nY: z"),
        "name-cr": request("X\rY: z"),
    },
)
add(
    "field",
    431,
    {
        "too-many": request(*[f"X{i}: y" for i in range(129)]),
        "line-too-long": request("X: " + "y" * 9000),
        "name-too-long": request("X" * 9000 + ": y"),
        "too-long": request(*[f"X{i}: {'y' * 8000}" for i in range(9)]),
    },
)

# ---- many requests, and what ends a connection ------------------------------------------------------------------------

GET = request(line="GET /a HTTP/1.1")
add(
    "pipeline",
    GOES_ON,
    {
        "two": GET + GET,
        "length-get": PLAIN + GET,
        "chunked-get": chunked(CHUNKS) + GET,
        "chunked-length": chunked(CHUNKS) + PLAIN,
    },
    2,
)
add(
    "pipeline",
    GOES_ON,
    {
        "three": GET + GET + GET,
        "three-bodies": PLAIN + chunked(CHUNKS) + PLAIN,
        "get-body-get": GET + PLAIN + GET,
        "crlf-between": GET + b"\r\n" + PLAIN + b"\r\n" + GET,
        "methods": request(line="HEAD /a HTTP/1.1") + request(line="OPTIONS * HTTP/1.1") + request(line="DELETE /a HTTP/1.1"),
        "trailers": trailed("X: y") * 3,
    },
    3,
)
add("pipeline", GOES_ON, {"20": GET * 20}, 20)
add(
    "pipeline",
    400,
    {
        "then-bad-line": GET + b"GET /a\r\n\r\n",
        "then-bad-length": GET + request("Content-Length: +5", body=b"hello"),
        "then-cl-te": PLAIN + request(LENGTH_5, CHUNKED, body=b"0\r\n\r\n"),
        "body-longer-than-length": request("Content-Length: 3", body=b"hel\r\n\r\nlo"),
        "binary-after-body": PLAIN + b"\0\0\0\0",
        "crlf-2-between": GET + b"\r\n\r\n" + GET,
        "chunk-after-end": chunked(CHUNKS) + b"0\r\n\r\n",
        "then-no-host": GET + request(line="GET /hidden HTTP/1.1", host=""),
    },
    1,
)
add(
    "body",
    GOES_ON,
    {
        "get-length": request(LENGTH_5, line="GET /a HTTP/1.1", body=b"hello"),
        "get-length-0": request("Content-Length: 0", line="GET /a HTTP/1.1"),
        "get-hides-a-request": request(f"Content-Length: {len(HIDDEN)}", line="GET /a HTTP/1.1", body=HIDDEN),
        "head-length": request(LENGTH_5, line="HEAD /a HTTP/1.1", body=b"hello"),
        "head-chunked": request(CHUNKED, line="HEAD /a HTTP/1.1", body=CHUNKS),
        "head-hides-a-request": request(f"Content-Length: {len(HIDDEN)}", line="HEAD /a HTTP/1.1", body=HIDDEN),
        "options-asterisk-length": request(LENGTH_5, line="OPTIONS * HTTP/1.1", body=b"hello"),
        "unknown-method": request(LENGTH_5, line="FOO /a HTTP/1.1", body=b"hello"),
        "unknown-method-chunked": request(CHUNKED, line="FOO /a HTTP/1.1", body=CHUNKS),
        "100-kb": request("Content-Length: 100000", body=b"x" * 100000),
        "100-kb-chunked": chunked(b"186a0\r\n" + b"x" * 100000 + b"\r\n0\r\n\r\n"),
        "1000-chunks": chunked(b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"),
    },
)
add(
    "body",
    400,
    {
        "connect-length": request(LENGTH_5, line="CONNECT a:80 HTTP/1.1", body=b"hello"),
        "connect-chunked": request(CHUNKED, line="CONNECT a:80 HTTP/1.1", body=CHUNKS),
    },
)
EXPECT = "Expect: 100-continue"
add(
    "expect",
    GOES_ON,
    {
        "length": request(EXPECT, LENGTH_5, body=b"hello"),
        "chunked": request(EXPECT, CHUNKED, body=CHUNKS),
        "no-body": request(EXPECT),
        "get": request(EXPECT, line="GET /a HTTP/1.1"),
        "get-length": request(EXPECT, LENGTH_5, line="GET /a HTTP/1.1", body=b"hello"),
        "upper": request("Expect: 100-CONTINUE", LENGTH_5, body=b"hello"),
        "length-0": request(EXPECT, "Content-Length: 0"),
    },
)
add(
    "expect",
    417,
    {
        "unknown": request("Expect: 200-ok", LENGTH_5, body=b"hello"),
        "empty": request("Expect:", LENGTH_5, body=b"hello"),
        "twice": request(EXPECT, EXPECT, LENGTH_5, body=b"hello"),
        "list": request("Expect: 100-continue, x", LENGTH_5, body=b"hello"),
        "prefix": request("Expect: y 100-continue", LENGTH_5, body=b"hello"),
    },
)
add("expect", CLOSED, {"in-1.0": request(EXPECT, LENGTH_5, line="POST /a HTTP/1.0", body=b"hello")})
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
add(
    "websocket",
    CLOSED,
    {
        "none-taken": request(*UPGRADE, line="GET /a HTTP/1.1"),
        "length": request(*UPGRADE, LENGTH_5, line="GET /a HTTP/1.1", body=b"hello"),
        "chunked": request(*UPGRADE, CHUNKED, line="GET /a HTTP/1.1", body=CHUNKS),
        "hides-a-request": request(*UPGRADE, f"Content-Length: {len(HIDDEN)}", line="GET /a HTTP/1.1", body=HIDDEN),
        "chunked-hides-a-request": request(
            *UPGRADE, CHUNKED, line="GET /a HTTP/1.1", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
        ),
        "post": request(*UPGRADE, LENGTH_5, body=b"hello"),
        "without-connection": request("Upgrade: websocket", LENGTH_5, body=b"hello"),
        "expect": request(*UPGRADE, EXPECT, LENGTH_5, body=b"hello"),
    },
)
add(
    "upgrade",
    GOES_ON,
    {
        "h2c": request(*H2C, line="GET /a HTTP/1.1"),
        "h2c-length": request(*H2C, LENGTH_5, body=b"hello"),
        "unknown": request("Connection: Upgrade", "Upgrade: foo/2", LENGTH_5, body=b"hello"),
        "without-upgrade": request("Connection: Upgrade", LENGTH_5, body=b"hello"),
    },
)
add(
    "connection",
    GOES_ON,
    {
        "keep-alive": GET[:-2] + b"Connection: keep-alive\r\n\r\n",
        "unknown": GET[:-2] + b"Connection: foo\r\n\r\n",
        "not-close": GET[:-2] + b"Connection: notclose\r\n\r\n",
        "empty": GET[:-2] + b"Connection:\r\n\r\n",
        "keep-alive-in-1.0": request("Connection: keep-alive", line="GET /a HTTP/1.0"),
        "keep-alive-in-1.0-length": request("Connection: Keep-Alive", LENGTH_5, line="POST /a HTTP/1.0", body=b"hello"),
        "keep-alive-in-1.0-no-host": request("Connection: keep-alive", line="GET /a HTTP/1.0", host=""),
        "proxy-connection": request("Proxy-Connection: close"),
    },
)
add(
    "connection",
    CLOSED,
    {
        "close": request("Connection: close"),
        "close-upper": request("Connection: CLOSE"),
        "close-then-requests": request("Connection: close") + GET + GET,
        "close-length": request("Connection: close", LENGTH_5, body=b"hello"),
        "close-chunked": chunked(CHUNKS, "Connection: close"),
        "close-chunked-then-requests": chunked(CHUNKS, "Connection: close") + GET,
        "close-then-garbage": request("Connection: close") + b"\0\xff\r\n\r\n",
        "1.0": request(line="GET /a HTTP/1.0"),
        "1.0-no-host": request(line="GET /a HTTP/1.0", host=""),
        "1.0-length": request(LENGTH_5, line="POST /a HTTP/1.0", body=b"hello"),
        "1.0-then-requests": request(line="GET /a HTTP/1.0") + GET + GET,
        "1.0-close": request("Connection: close", line="GET /a HTTP/1.0"),
        "close-in-a-list": request("Connection: foo, close"),
        "close-and-keep-alive": request("Connection: close, keep-alive"),
        "close-in-two-lines": request("Connection: keep-alive", "Connection: close"),
    },
)
add("connection", CLOSED, {"then-close": GET + request("Connection: close") + GET}, 2)
