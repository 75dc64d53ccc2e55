"""The short ways of a response: ``respond`` with an ordinary header, and ``closewrite`` with the whole body.

Whatever the arguments, they do what the long ways do: the same bytes, results, errors and state. The long way of ``closewrite``
is that of an empty trailer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silly._wire import accelerated_http, answer
from silly._wire.http1 import parse_request
from silly._wire.limits import DEFAULT
from silly.net._gathered import GATHER
from silly.net.http import _serverresponse
from silly.net.http._serverresponse import COPIED, CUT, ENDED
from silly.net.http.h1 import ServerStream

STEADY = settings(max_examples=600, derandomize=True, database=None, deadline=None)
DATE = re.compile(rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n")


class Logger:
    """Keeps the lines of the log: that of a body that is not as long as announced."""

    ERROR = "error"

    def __init__(self) -> None:
        self.lines: list[object] = []

    def limited(self, *line: object) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Logger:
    logger = Logger()
    monkeypatch.setattr("silly.net.http._serverresponse.logger", logger)
    monkeypatch.setattr(_serverresponse._loop, "may_queue", True)  # as in a task
    return logger


class Output:
    """What a response needs of its connection's stream."""

    def __init__(self, werr: str | None, unsent: int) -> None:
        self.buf = bytearray()
        self.werr = werr
        self.unsent = unsent
        self.sent = b""
        self.calls: list[str] = []

    def try_queue(self, data: bytes) -> bool:
        if self.werr is not None or type(data) is not bytes or self.unsent + len(data) >= GATHER:
            return False
        self.sent += data
        self.calls.append("try_queue")
        return True

    def write(self, data: bytes) -> str | None:
        return self.writev([data])

    def writev(self, parts: list[bytes]) -> str | None:
        if self.werr is None:
            self.sent += b"".join(parts)
            self.calls.append("write")
        return self.werr


class Case(NamedTuple):
    request: bytes
    status: Any
    header: Any
    close: bool
    drains: bool
    body: Any
    werr: str | None = None
    unsent: int = 0


def served(case: Case) -> tuple[ServerStream, Output]:
    output = Output(case.werr, case.unsent)
    conn: Any = SimpleNamespace(_stream=output, remoteaddr="192.0.2.1:5")
    return ServerStream(conn, parse_request(case.request, DEFAULT), "http", DEFAULT), output


def answered(case: Case, *trailer: Any) -> Any:
    """All that can be seen of an answer."""
    stream, output = served(case)
    logger: Any = vars(_serverresponse)["logger"]
    before = len(logger.lines)
    results: list[Any] = []
    try:
        results.append(stream.respond(case.status, case.header, case.close))
        if case.drains:
            stream._drain()
        results.append(stream.closewrite(case.body, *trailer))
        results.append(stream.closewrite(b"more"))
    except (TypeError, ValueError) as exc:
        results.append((type(exc), str(exc)))
    hidden = ("conn", "_source", "_chunked", "_lines", "header")
    left = {name: value for name, value in vars(stream).items() if name not in hidden}
    return results, DATE.sub(b"\r\ndate: now\r\n", output.sent), left, logger.lines[before:]


def nothing(*args: object) -> None:
    """Makes no lines, so that ``response_lines`` does."""


def check(case: Case) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_serverresponse, "answer_lines", nothing)
        due = answered(case, ())
        assert answered(case) == due, "the short way of closewrite alone"
    for function in {accelerated_http.answer_lines, answer.answer_lines}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_serverresponse, "answer_lines", function)
            assert answered(case) == due
            assert answered(case, ()) == due, "the short way of respond alone"
    return due


GET = b"GET / HTTP/1.1\r\nHost: x"
REQUESTS = [GET, b"HEAD / HTTP/1.1\r\nHost: x", b"GET / HTTP/1.0", b"GET / HTTP/1.0\r\nConnection: keep-alive"]
REQUESTS += [GET + fields for fields in (b"\r\nConnection: close", b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked")]
REQUESTS += [GET + b"\r\nContent-Length: 100000", GET + b"\r\nContent-Length: 5\r\nExpect: 100-continue"]
BODIES: list[Any] = [None, b"", "", b"hello", "hello", "hé日", bytearray(b"hello"), memoryview(b"hello"), 5, ["x"], {}]
STATUSES: list[Any] = [200, 404, 204, 205, 304, 299, 999, 500, 100, 199, 1000, True, None, "200"]
FIELDS: list[Any] = [None, {}, (), {"content-type": "text/plain"}, {"A": 5, "b": ["c", "d"], "e": None}]
FIELDS += [[("a", "b"), ["c", "d"]], [("a", "b"), "c"], {"date": None}]
FIELDS += [{"content-length": length} for length in (0, 5, "5", 6, -1, "x", [5, 5], [5, 6], True, 2**64)]
FIELDS += [{"Content-Length": 5, "content-length": 5}, {"transfer-encoding": "chunked"}, {"content-length": 5, "a": "b\n"}]
FIELDS += [{"connection": options} for options in ("close", "keep-alive", "Close, x", "upgrade", ["a", "b"], "")]
FIELDS += [{"date": "today"}, {"Date": "today", "x-date": "y"}, {"x": "\r\ndate: y"}, {"x-date": "now"}]
FIELDS += [{"a": "é"}, {"é": "a"}, {"a" * 1500: "b" * 1500}, {5: "a"}, {"a": b"b"}, "a: b", 5, 0, {"x": "y" * 100_000}]


def every() -> Iterator[Case]:
    for request in REQUESTS:
        for body in BODIES:
            yield Case(request, 200, {"content-type": "text/plain"}, False, False, body)
        for status in STATUSES:
            yield Case(request, status, {"content-type": "text/plain"}, False, False, b"hello")
            yield Case(request, status, {"content-length": 5}, False, False, b"hello")
        for fields in FIELDS:
            yield Case(request, 200, fields, False, False, b"hello")
            yield Case(request, 204, fields, False, False, b"")
    for size in (COPIED - 1, COPIED, COPIED + 1, GATHER + 5):
        yield Case(GET, 200, None, False, False, b"x" * size)
        yield Case(GET, 200, {"content-length": size}, False, False, "x" * size)


def test_the_short_ways_do_what_the_long_ones_do(log: Logger) -> None:
    sent = [check(case) for case in every()]
    assert len({tuple(map(str, seen[0])) for seen in sent}) > 20
    assert len({seen[1] for seen in sent}) > 80
    assert log.lines


@pytest.mark.parametrize(("close", "drains"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("fields", [None, {"content-length": 0}, {"content-length": 5}])
def test_a_connection_that_ends(close: bool, drains: bool, fields: Any) -> None:
    for request in REQUESTS:
        for body in (None, b"hello"):
            check(Case(request, 200, fields, close, drains, body))


@pytest.mark.parametrize("fields", [None, {"content-length": 5}, {"content-length": 6}])
def test_a_connection_that_is_broken_or_blocked(fields: Any) -> None:
    for request in (GET, REQUESTS[1]):
        for werr, unsent in (("broken pipe", 0), (None, GATHER - 5), (None, 2**20)):
            _, sent, left, _ = check(Case(request, 200, fields, False, False, b"hello", werr, unsent))
            assert (sent == b"") == (werr is not None)
            tried = request is not GET or fields != {"content-length": 6}  # the body is too short to be sent
            assert left["_state"] == (CUT if werr is not None and tried else ENDED)


@STEADY
@given(
    st.sampled_from(REQUESTS),
    st.one_of(st.integers(195, 310), st.sampled_from(STATUSES)),
    st.one_of(
        st.sampled_from(FIELDS),
        st.dictionaries(
            st.sampled_from(["content-type", "Content-Length", "content-length", "Date", "connection", "X-A", "b c"]),
            st.one_of(st.integers(0, 9), st.text(max_size=5), st.lists(st.text(max_size=3), max_size=2), st.none()),
            max_size=4,
        ),
    ),
    st.booleans(),
    st.booleans(),
    st.one_of(st.sampled_from(BODIES), st.binary(max_size=9), st.text(max_size=9)),
)
def test_any_answer(request: bytes, status: Any, fields: Any, close: bool, drains: bool, body: Any) -> None:
    check(Case(request, status, fields, close, drains, body))


def test_a_hello_takes_the_short_ways() -> None:
    """A string in one piece, and handed to the stream at once."""
    stream, output = served(Case(GET, 200, None, False, False, None))
    assert stream.respond(200, {"content-type": "text/plain"})
    assert stream.closewrite("hello")
    assert output.calls == ["try_queue"]
    lines = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ndate: now\r\ncontent-length: 5\r\n\r\nhello"
    assert DATE.sub(b"\r\ndate: now\r\n", output.sent) == lines


def test_the_main_program_sends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """``write`` does, as nobody flushes behind it; ``try_queue`` wouldn't."""
    monkeypatch.setattr(_serverresponse._loop, "may_queue", False)
    stream, output = served(Case(GET, 200, None, False, False, None))
    assert stream.answer(200, "hello")
    assert output.calls == ["write"]
