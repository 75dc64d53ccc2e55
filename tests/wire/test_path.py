"""Request paths: what is refused, and that no segment of a file's path can lead anywhere else."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire.error import ProtocolError
from silly._wire.path import file_segments, segments

from .strategies import STEADY


def verdict(path: str) -> list[str] | int:
    """The segments of a file's path, or the status that refuses it."""
    try:
        return file_segments(path)
    except ProtocolError as exc:
        return exc.code


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", [""]),
        ("/a", ["a"]),
        ("/a/", ["a", ""]),
        ("/a/b.txt", ["a", "b.txt"]),
        ("//", ["", ""]),
        ("//a", ["", "a"]),
        ("/a%2Fb/c", ["a/b", "c"]),
        ("/a%2fb", ["a/b"]),
        ("/%61%20b", ["a b"]),
        ("/100%25", ["100%"]),
        ("/%252e%252e", ["%2e%2e"]),
        ("/caf%C3%A9", ["café"]),
        ("/%E2%82%AC", ["€"]),
        ("/%00", ["\0"]),
        ("/..", [".."]),
        ("/a+b", ["a+b"]),
        ("/!\"$&'()*,;=:@[]\\^`{|}~?", ["!\"$&'()*,;=:@[]\\^`{|}~?"]),
    ],
)
def test_segments(path: str, expected: list[str]) -> None:
    assert segments(path) == expected


@pytest.mark.parametrize(
    "path",
    ["/%", "/%4", "/a%", "/%zz", "/%4g", "/%%41", "/% 41", "/%+1", "/%-1", "/%u0041", "/ a", "/a\tb", "/a\0", "/a\r\n", "/é"]
    + ["/%ff", "/%C3", "/%C3/%A9", "/%C0%AF", "/%C0%AE", "/%ED%A0%80", "/%F4%90%80%80", "/%80", "/a%E2%82"],
)
def test_bad_paths(path: str) -> None:
    """Bad percent-escapes, and what isn't UTF-8: truncated, overlong, surrogates, beyond Unicode; split over two segments."""
    for read in (segments, file_segments):
        with pytest.raises(ProtocolError) as caught:
            read(path)
        assert caught.value.code == 400


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", [""]),
        ("/a/", ["a", ""]),
        ("/a%20b/c.txt", ["a b", "c.txt"]),
        ("/a..b/c.", ["a..b", "c."]),
        ("/%252e%252e/x", ["%2e%2e", "x"]),  # decoded once
        ("/%25", ["%"]),
        ("/C:", ["C:"]),
        ("/-rf", ["-rf"]),
        ("/~root", ["~root"]),
        ("/..", 400),
        ("/.", 400),
        ("/a/..", 400),
        ("/a/../b", 400),
        ("/a/./b", 400),
        ("/../../etc/passwd", 400),
        ("/%2e%2e/x", 400),
        ("/.%2e/x", 400),
        ("/%2E./x", 400),
        ("/%2e", 400),
        ("/..%2fx", 400),
        ("/..%5cx", 400),
        ("/..\\x", 400),
        ("/a\\b", 400),
        ("/a%5Cb", 400),
        ("/a%2Fb", 400),
        ("/%2Fetc/passwd", 400),
        ("/%2F", 400),
        ("/a%00.txt", 400),
        ("/%00", 400),
        ("/a%0a", 400),
        ("/a%0d%0ab", 400),
        ("/a%1f", 400),
        ("/a%7f", 400),
        ("/a%C2%85", 400),
        ("//", 404),
        ("//a", 404),
        ("//evil.example/", 404),
        ("/a//b", 404),
        ("/a//", 404),
        ("/.git/config", 404),
        ("/.env", 404),
        ("/a/.b", 404),
        ("/...", 404),
        ("/%2ehtaccess", 404),
        ("/.well-known/acme-challenge/x", 404),
    ],
)
def test_file_segments(path: str, expected: list[str] | int) -> None:
    assert verdict(path) == expected


ODD = st.sampled_from(
    ["..", ".", "", "/", "//", "\\", "%", "%2e", "%2E", "%2f", "%5c", "%00", "%0a", "%25", "%252e", "%c0%ae", "%c0%af", "a"]
    + ["%e2%80%ae", "%uff0e", "é", ";", "?", "*"]
)
PATHS = st.one_of(
    st.lists(ODD, max_size=12).map(lambda parts: "/" + "".join(parts)),
    st.text(max_size=30).map(lambda text: "/" + text),
    st.text(max_size=30).map(lambda text: "/" + quote(text, safe="", errors="surrogatepass")),
    st.binary(max_size=30).map(lambda data: "/" + quote(data, safe="/")),
)


@STEADY
@given(PATHS)
def test_no_segment_of_a_file_leads_elsewhere(path: str) -> None:
    found = verdict(path)
    if isinstance(found, int):
        assert found in (400, 404)
        return
    assert len(found) == path.count("/")
    for number, segment in enumerate(found):
        assert not {"/", "\\", "\0", "\r", "\n"} & set(segment)
        assert not segment.startswith(".")
        assert segment or number == len(found) - 1
        segment.encode()  # no surrogates: it is a name on the disk


@STEADY
@given(PATHS)
def test_segments_are_decoded_once(path: str) -> None:
    try:
        found = segments(path)
    except ProtocolError:
        return
    assert segments("/" + "/".join(quote(each, safe="") for each in found)) == found
