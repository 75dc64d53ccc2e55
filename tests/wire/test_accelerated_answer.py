"""``answer_lines``: in C and in Python the same, and what ``response_lines`` makes of any header, or None.

And what only C can do wrong: wrong arguments, a dict that changes meanwhile, no memory, references that leak.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import sys
from collections import OrderedDict
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire import answer
from silly._wire.header import Header
from silly._wire.http1 import FINAL_LINES, response_lines

from ..implementations import ACCELERATED, PURE, needs_c
from ..leaks import leaks_nothing
from .strategies import STEADY
from .test_accelerated import LASTING, failures

LONGEST = 2048
"""Bytes of the lines that C makes; it leaves longer ones."""
DATE = len(b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")


def undated(lines: bytes) -> bytes:
    """``lines`` without the Date at their end: the second may be another one by now."""
    assert lines[-DATE:].startswith(b"date: ")
    assert abs(parsedate_to_datetime(lines[6 - DATE : -2].decode()).timestamp() - time()) < 60
    return lines[:-DATE]


def made(lines: Any) -> Any:
    return lines and (undated(lines[0]), lines[1])


def check(status: Any, fields: Any) -> Any:
    """What ``answer_lines`` makes of these, in both implementations."""
    pure = PURE["answer_lines"](status, fields, FINAL_LINES)
    if pure is not None:
        lines, length, ends = response_lines(status, fields or ())
        assert made(pure) == (undated(lines), length)
        assert (type(pure[1]), ends) == (type(length), False)
    if ACCELERATED:
        ours = ACCELERATED["answer_lines"](status, fields, FINAL_LINES)
        if pure is not None and len(pure[0]) > LONGEST:
            assert ours is None
        else:
            assert made(ours) == made(pure)
            assert ours is None or [type(part) for part in ours] == [type(part) for part in pure]
    return made(pure)


# ---- the same as ``response_lines`` --------------------------------------------------------------------------------------


class Name(str):
    """A str that isn't just one."""


class Number(int):
    """An int that isn't just one."""


def test_an_ordinary_header() -> None:
    assert check(200, None) == check(200, {}) == (b"HTTP/1.1 200 OK\r\n", None)
    fields = {"Content-Type": "text/plain", "X-A": "", "x-b": " b\ta "[:2], "!#$%&'*+-.^_`|~09azAZ": "~ !", "n": -(2**63)}
    lines = b"content-type: text/plain\r\nx-a: \r\nx-b:  b\r\n!#$%&'*+-.^_`|~09azaz: ~ !\r\nn: -9223372036854775808\r\n"
    assert check(404, fields) == (b"HTTP/1.1 404 Not Found\r\n" + lines, None)
    assert check(204, {"a": 2**63 - 1, "A": "b"}) == (b"HTTP/1.1 204 No Content\r\na: 9223372036854775807\r\na: b\r\n", None)
    for length in (0, 5, 2**63 - 1):
        assert check(200, {"a": "b", "Content-LENGTH": length, "c": "d"}) == (b"HTTP/1.1 200 OK\r\na: b\r\nc: d\r\n", length)


@pytest.mark.parametrize("status", sorted(FINAL_LINES))
def test_every_final_status(status: int) -> None:
    assert check(status, {"a": "b"}) == (FINAL_LINES[status] + b"a: b\r\n", None)


OTHER_STATUSES = [100, 101, 199, 299, 999, 1000, 0, -1, 2**70, True, None, 200.0, "200", HTTPStatus.OK, Number(200)]


@pytest.mark.parametrize("status", OTHER_STATUSES)
def test_other_statuses(status: object) -> None:
    assert check(status, {"a": "b"}) is None


@pytest.mark.parametrize("fields", [(), [], "ab", 5, [("a", "b")], Header([("a", "b")]), OrderedDict(a="b"), object()])
def test_fields_that_are_no_dict(fields: object) -> None:
    assert check(200, fields) is None


UNUSUAL: list[tuple[object, object]] = [
    *[(name, "x") for name in ("date", "Date", "connection", "CONNECTION", "Transfer-Encoding")],
    *[(name, "x") for name in ("", " ", "a b", "a:", "a\r\n", "\n", "é", "日", "\ud800", "a\0", "\x7f")],
    *[(name, "x") for name in ("(", "/", "@", "[", "{", "a,b")],
    *[(name, "x") for name in (b"a", None, 5, ("a", "b"), Name("a"))],
    *[("a", value) for value in ("a\r\nb", "\n", "\t", "\0", "\x7f", "\x1f", "é", "\xff", "日", "😀", "\ud800")],
    *[("a", value) for value in (None, True, 1.5, b"a", ["a"], ("a", "b"), [], Name("a"), Number(5))],
    *[("a", value) for value in (2**63, -(2**63) - 1, 10**5000)],
    *[("Content-Length", value) for value in ("5", "", -1, True, 5.0, None, [5], 2**63, Number(5))],
]


@pytest.mark.parametrize(("name", "value"), UNUSUAL, ids=range(len(UNUSUAL)))
def test_what_is_left_to_response_lines(name: object, value: object) -> None:
    assert check(200, {name: value}) is None
    assert check(200, {"y": "b", name: value, "z": "d"}) is None


def test_a_second_content_length_is_left() -> None:
    for second in (5, 6, "5"):
        assert check(200, {"content-length": 5, "Content-Length": second}) is None


def test_every_character() -> None:
    for char in map(chr, [*range(0x180), 0x2028, 0x212A, 0xFF21, 0x10FFFF]):
        check(200, {char: "x", "b": "c"})
        check(200, {f"a{char}b": "x"})
        check(200, {"a": char})
        check(200, {"a": f"b{char}c"})


def test_names_that_are_nearly_those_left() -> None:
    for name in ("date", "connection", "content-length", "transfer-encoding"):
        for other in (f"{name}s", f"x{name}", name[:-1], name[1:], name.replace("e", "f")):
            assert check(200, {other: "x"}) == (b"HTTP/1.1 200 OK\r\n%b: x\r\n" % other.encode(), None)


def test_lines_of_every_length() -> None:
    """Up to ``LONGEST``, C makes them; of names, values and numbers."""
    rest = DATE + len(FINAL_LINES[200]) + 4
    for room in (*range(1980, 2060), 4096, 70_000):
        size = room - rest
        assert check(200, {"a": "x" * (size - 1)}) is not None
        assert check(200, {"a" * size: ""}) is not None
        assert check(200, {"a": "x" * (size - 6), "b": 7}) is not None
        if ACCELERATED:
            made_here = ACCELERATED["answer_lines"](200, {"a": "x" * (size - 1)}, FINAL_LINES)
            assert (made_here is not None) == (room <= LONGEST)


NAMES = st.sampled_from(["content-type", "X-A", "date", "Content-Length", "content-length", "Connection", "a b", "", "é"])
VALUES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    st.text(st.characters(codec=None), max_size=5),
    st.integers(),
    st.sampled_from([None, True, b"x", ["a"], 0, 5, "5", "close"]),
)
FIELDS = st.one_of(st.none(), st.dictionaries(st.one_of(NAMES, st.text(max_size=4)), VALUES, max_size=5))


@STEADY
@given(st.one_of(st.integers(190, 520), st.sampled_from([True, None, "200", 2**80])), FIELDS)
def test_any_header(status: object, fields: object) -> None:
    check(status, fields)


ORDINARY = st.one_of(st.text("ab c,;=", max_size=9), st.integers(0, 99))


@STEADY
@given(st.dictionaries(st.text("aB-_1", min_size=1, max_size=6), ORDINARY, max_size=6))
def test_ordinary_headers(fields: dict[str, object]) -> None:
    assert check(200, fields) is not None


# ---- what only C can do wrong --------------------------------------------------------------------------------------------


@needs_c
def test_the_date_is_that_of_now() -> None:
    for _ in range(3):
        before = int(time())
        lines, _ = ACCELERATED["answer_lines"](200, None, FINAL_LINES)
        assert before <= parsedate_to_datetime(lines[6 - DATE : -2].decode()).timestamp() <= time()


def copy() -> ModuleType:
    """Another copy of the module in C, which takes ``date_line`` from ``answer.py`` now."""
    origin = sys.modules["silly._wire._answer_speedups"].__file__
    assert origin is not None
    loader = importlib.machinery.ExtensionFileLoader("silly._wire._answer_speedups", origin)
    spec = importlib.util.spec_from_file_location("silly._wire._answer_speedups", origin, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@needs_c
def test_a_second_copy_of_the_module() -> None:
    """Its Date is its own, and goes with it."""
    for _ in range(5):
        module = copy()
        assert made(module.answer_lines(200, {"a": "b"}, FINAL_LINES)) == (b"HTTP/1.1 200 OK\r\na: b\r\n", None)
        del module
        gc.collect()
    assert made(ACCELERATED["answer_lines"](200, None, FINAL_LINES)) == (b"HTTP/1.1 200 OK\r\n", None)


@needs_c
def test_the_header_changes_while_the_date_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a signal's handler, a finalizer or another thread."""
    fields: dict[str, object] = {"content-length": int("1" * 18), "a": "".join(["b", "c"])}

    def changes() -> bytes:
        fields.clear()
        return b"date: now\r\n"

    monkeypatch.setattr(answer, "date_line", changes)
    lines = copy().answer_lines(200, fields, FINAL_LINES)
    assert lines == (b"HTTP/1.1 200 OK\r\na: bc\r\ndate: now\r\n", int("1" * 18))


@needs_c
def test_a_date_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> bytes:
        raise LookupError("no date")

    monkeypatch.setattr(answer, "date_line", fails)
    with pytest.raises(LookupError, match="no date"):
        copy().answer_lines(200, {"content-length": 5}, FINAL_LINES)
    monkeypatch.setattr(answer, "date_line", lambda: "date: now\r\n")
    with pytest.raises(TypeError, match="the line of Date is no bytes"):
        copy().answer_lines(200, {"content-length": 5}, FINAL_LINES)
    monkeypatch.setattr(answer, "date_line", lambda: b"x" * 2040)
    module = copy()
    assert module.answer_lines(200, {"content-length": 5}, FINAL_LINES) is None
    assert module.answer_lines(200, None, {200: b""}) == (b"x" * 2040, None)
    monkeypatch.delattr(answer, "date_line")
    with pytest.raises(AttributeError):
        copy()


@needs_c
def test_wrong_arguments() -> None:
    call = ACCELERATED["answer_lines"]
    for args in ((), (200,), (200, None), (200, None, FINAL_LINES, 5)):
        with pytest.raises(TypeError, match=f"^answer_lines takes 3 arguments, not {len(args)}$"):
            call(*args)
    with pytest.raises(TypeError, match="keyword"):
        call(200, None, first_lines=FINAL_LINES)
    for first_lines in (None, [], "x", OrderedDict(FINAL_LINES)):
        with pytest.raises(TypeError, match="needs a dict"):
            call(200, None, first_lines)
    for first in ("HTTP/1.1 200 OK\r\n", None, b"x" * 3000):
        assert call(200, None, {200: first}) is None


@needs_c
def test_a_long_value_does_not_keep_its_utf8() -> None:
    """CPython stores the UTF-8 that was asked for with the text."""
    text = "é" * 100_000
    before = sys.getsizeof(text)
    assert ACCELERATED["answer_lines"](200, {"a": text}, FINAL_LINES) is None
    assert ACCELERATED["answer_lines"](200, {text: "a"}, FINAL_LINES) is None
    assert sys.getsizeof(text) == before


@needs_c
@LASTING
def test_without_memory(lasting: bool) -> None:
    prepare: Callable[[], tuple[Any, ...]] = lambda: (200, {"a": "b", "content-length": 5}, {200: b"x\r\n"})  # noqa: E731
    assert failures("answer_lines", prepare, lambda args: None, lasting, compare=False) >= 1


def attempt(*args: Any) -> Callable[[], object]:
    def run() -> None:
        try:
            ACCELERATED["answer_lines"](*args)
        except TypeError:
            pass

    return run


LENGTH = int("7" * 15)
VALUE = "".join(["te", "xt"])
CALLS: dict[str, tuple[Any, ...]] = {
    "a header": (200, {"a": VALUE, "content-length": LENGTH}, FINAL_LINES),
    "none": (200, None, FINAL_LINES),
    "another status": (299, None, FINAL_LINES),
    "no number": ("200", None, FINAL_LINES),
    "no dict": (200, [("a", VALUE)], FINAL_LINES),
    "a bad name": (200, {"a": VALUE, "\ud800": VALUE}, FINAL_LINES),
    "a bad value": (200, {"content-length": LENGTH, "a": "\ud800"}, FINAL_LINES),
    "no value": (200, {"content-length": LENGTH, "a": None}, FINAL_LINES),
    "a long header": (200, {"content-length": LENGTH, "a": "x" * 2000}, FINAL_LINES),
    "a length that is none": (200, {"a": VALUE, "content-length": -LENGTH}, FINAL_LINES),
    "a wrong table": (200, None, None),
    "a wrong line": (200, None, {200: VALUE}),
    "a wrong count": (200,),
}


@needs_c
@pytest.mark.parametrize("name", CALLS)
def test_no_reference_leaks(name: str) -> None:
    held = [LENGTH, VALUE, FINAL_LINES[200]] + ([None, ()] if sys.version_info < (3, 12) else [])
    leaks_nothing(attempt(*CALLS[name]), held)
