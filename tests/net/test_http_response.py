"""``http.Response``: text and JSON of bodies that a stranger sends, in charsets that a stranger names."""

from __future__ import annotations

import encodings
import warnings
from typing import Any

import pytest

from silly._wire.header import Header
from silly.net.http import Response


def response(body: bytes, content_type: str | None = None) -> Response:
    header = Header() if content_type is None else Header([("content-type", content_type)])
    return Response(200, "OK", "HTTP/1.1", header, Header(), body, "http://h/x")


def text(body: bytes, content_type: str | None = None) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return response(body, content_type).text


def test_what_it_shows() -> None:
    got = response(b"abc")
    assert repr(got) == "<http response 200 of http://h/x, 3 bytes>"
    assert (got.status, got.reason, got.version, got.url, got.body) == (200, "OK", "HTTP/1.1", "http://h/x", b"abc")


@pytest.mark.parametrize(
    ("content_type", "body", "due"),
    [
        (None, "é€".encode(), "é€"),
        ("text/plain", "é€".encode(), "é€"),
        ("text/plain; charset=utf-8", "é€".encode(), "é€"),
        ("text/plain; charset=UTF8", "é€".encode(), "é€"),
        ("text/plain;charset=iso-8859-1", b"\xe9", "é"),
        ("text/plain; Charset=LATIN1", b"\xe9", "é"),
        ('text/plain; charset="iso-8859-1"', b"\xe9", "é"),
        ("text/plain; charset='iso-8859-1'", b"\xe9", "é"),
        ('text/plain; x="; charset=utf-8"; charset=latin-1', b"\xe9", "é"),
        ('text/plain; x="\\"; charset=utf-8"; charset=latin-1', b"\xe9", "é"),
        ("text/plain; charset=latin-1; charset=utf-8", b"\xe9", "é"),
        ("text/plain;; ;\tcharset=latin-1;", b"\xe9", "é"),
        ("text/plain; format=flowed; charset=windows-1252", b"\x80", "€"),
        ("text/plain; charset=koi8-u", b"\xa4", "є"),
        ("text/plain; charset=shift_jis", "日本".encode("shift_jis"), "日本"),
        ("text/plain; charset=gb18030", "日本".encode("gb18030"), "日本"),
        ("text/plain; charset=utf-16", "é".encode("utf-16"), "é"),
        ("text/plain; charset=us-ascii", b"a\xe9", "a\ufffd"),
        ("text/plain", b"a\xe9", "a\ufffd"),
        ("text/plain; charset=utf-8", b"\xf0\x9f\x98", "\ufffd"),
        ("text/plain; charset=utf-8-sig", b"\xef\xbb\xbfx", "x"),
    ],
)
def test_text(content_type: str | None, body: bytes, due: str) -> None:
    assert text(body, content_type) == due


@pytest.mark.parametrize(
    "charset",
    # Python's own codecs, not of text, of other systems, modules that are none, paths, and names that can't be one.
    ["idna", "punycode", "unicode_escape", "raw-unicode-escape", "undefined", "charmap", "hex", "zlib", "bz2", "base64"]
    + ["rot13", "uu", "quopri", "mbcs", "oem", "__init__", "aliases", "..os", "os", "", '""', "utf-9", "é", "x" * 8000]
    + ["\x7f", "=", "a=b"],
)
def test_charset_that_is_none(charset: str) -> None:
    assert text(b"a\\q\xc3\xa9-", f"text/plain; charset={charset}") == "a\\qé-"


@pytest.mark.parametrize(
    "parameters",
    ["charset*=a; charset*0=b", f"charset*{'9' * 5000}=x", "charset*=utf-8''%ff", "charset*0*=x; charset*1=y", "charset", 'x="']
    + [";" * 8000, '"' * 8000, 'x="\\' * 2000, ";x=" * 2000, 'x="' + '\\";' * 2600],
)
def test_parameters_that_are_none(parameters: str) -> None:
    """What ``email.message`` raises TypeError or ValueError for, or takes long for."""
    assert text("é".encode(), f"text/plain; {parameters}") == "é"


def test_unknown_charsets_leave_nothing() -> None:
    known: Any = encodings
    text(b"", "text/plain; charset=utf-8")
    before = len(known._cache)
    for number in range(50):
        text(b"", f"text/plain; charset=x{number}")
    assert len(known._cache) == before


@pytest.mark.parametrize(
    ("body", "due"),
    [
        (b'{"a": [1, 2.5, null, true, "\\u00e9"]}', {"a": [1, 2.5, None, True, "é"]}),
        (b" 1 ", 1),
        ('"é"'.encode(), "é"),
        (b"\xef\xbb\xbf[]", []),
        ("[1]".encode("utf-16"), [1]),
        ("[1]".encode("utf-32-be"), [1]),
    ],
)
def test_json(body: bytes, due: object) -> None:
    assert response(body, "text/plain; charset=latin-1").json() == due


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1,]", b"1 2", b"<html>", b"\xff\xfe", b'"\xe9"', b"NaN", b"[-Infinity]", b"Infinity", b"\0", b"'a'"]
    + [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000],
)
def test_no_json(body: bytes) -> None:
    with pytest.raises(ValueError):
        response(body).json()
