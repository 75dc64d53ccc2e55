"""``take_request`` in C, held against ``HeadReader`` and ``parse_request``: what it takes means what they say, and what they
refuse it leaves.

And what only C can do wrong: wrong arguments, a buffer that somebody holds, no memory, a finalizer that strikes in the middle,
references that leak. What a head may look like, ``test_http_head.py`` tests on both.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire.error import ProtocolError
from silly._wire.header import Header
from silly._wire.http1 import HeadReader, Request, parse_request
from silly._wire.limits import DEFAULT, Limits

from ..implementations import ACCELERATED, PURE, needs_c
from ..leaks import leaks_nothing
from .strategies import STEADY, damaged, request_heads
from .support import TRAILING
from .test_accelerated import LASTING, failures
from .test_http_head import GOOD, HOSTILE, LIMITS, TIGHT, head

pytestmark = needs_c


def take(buf: Any, limits: Any = DEFAULT) -> Any:
    return ACCELERATED["take_request"](buf, limits)


def reference(buf: bytearray, limits: Limits) -> Request | None:
    found = HeadReader(limits).next(buf)
    return None if found is None else parse_request(found, limits)


def seen(request: Request) -> Any:
    """All that can be seen of it: types, values, and the order of the fields."""
    assert type(request) is Request
    header = request.header
    assert type(header) is Header
    assert vars(header) == {}, "no field is repeated"
    fields = [(type(name), name, type(value), value) for name, value in header.items()]
    return [(type(value), value) for value in request if value is not header], fields


def check(data: bytes, limits: Limits = DEFAULT) -> bool:
    """Whether C takes this head. Then it is the reference's; else nothing was touched."""
    buf, same = bytearray(data), bytearray(data)
    request = take(buf, limits)
    if request is None:
        assert buf == data
        return False
    due = reference(same, limits)
    assert due is not None
    assert (seen(request), buf) == (seen(due), same)
    return True


# ---- the same as Python --------------------------------------------------------------------------------------------------

BROWSER = head(
    "Connection: keep-alive",
    "Cache-Control: max-age=0",
    'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cookie: session=0123456789abcdef; theme=dark",
    line="GET /a/b?c=d&e HTTP/1.1",
    host="www.example.org:8080",
)
WEBSOCKET = head("Upgrade: WebSocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x")

TAKEN = {
    "plain": head(),
    "browser": BROWSER,
    "websocket": WEBSOCKET,
    "query": head(line="GET /? HTTP/1.1"),
    "1.0": head(line="GET / HTTP/1.0"),
    "1.0-without-host": head(line="GET / HTTP/1.0", host=None),
    "1.0-without-fields": b"GET / HTTP/1.0\r\n\r\n",
    "1.0-keep-alive": head("Connection: Keep-Alive", line="GET / HTTP/1.0"),
    "1.0-upgrade": head("Upgrade: websocket", "Connection: upgrade", line="GET / HTTP/1.0"),
    "close": head("connection: CLOSE"),
    "length": head("Content-Length: 0005", line="POST / HTTP/1.1"),
    "longest-length": head("Content-Length: " + "9" * 18, line="PUT / HTTP/1.1"),
    "coding": head("Transfer-Encoding: Chunked", line="POST / HTTP/1.1"),
    "blanks": head("A:b", "B: \t b c\t ", "C:", "D: \t", "E: :", "F: \xe9\xff", "G:\tx"),
    "every-token": head("!#$%&'*+-.^_`|~09azAZ: x"),
    "longest-name": head("N" * 40 + ": x"),
    "last-port": head(host="a-B_c.0:65535"),
    "port-0": head(host="x:00000"),
    **{method: head(line=f"{method} /x HTTP/1.1") for method in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")},
}
LEFT = {
    "nothing": b"",
    "a-blank": b" ",
    "empty-line-first": b"\r\n" + head(),
    "other-method": head(line="M-SEARCH /x HTTP/1.1"),
    "beginning-of-a-method": head(line="GE / HTTP/1.1"),
    "more-than-a-method": head(line="GETS / HTTP/1.1"),
    "other-version": head(line="GET / HTTP/1.2"),
    "absolute": head(line="GET http://y/a HTTP/1.1"),
    "asterisk": head(line="OPTIONS * HTTP/1.1"),
    "connect": head(line="CONNECT y:443 HTTP/1.1"),
    "ipv6": head(host="[::1]"),
    "odd-host": head(host="a%20b"),
    "empty-port": head(host="x:"),
    "port-65536": head(host="x:65536"),
    "port-of-6-digits": head(host="x:000080"),
    "no-host": head(host=None),
    "repeated": head("A: b", "a: c"),
    "repeated-cookie": head("Cookie: a", "Cookie: b"),
    "two-options": head("Connection: keep-alive, Upgrade"),
    "other-option": head("Connection: te"),
    "no-option": head("Connection:"),
    "other-upgrade": head("Upgrade: h2c"),
    "length-of-19-digits": head("Content-Length: 9223372036854775807"),
    "no-length": head("Content-Length:"),
    "length-and-coding": head("Content-Length: 5", "Transfer-Encoding: chunked"),
    "coding-and-length": head("Transfer-Encoding: chunked", "Content-Length: 5"),
    "other-coding": head("Transfer-Encoding: gzip, chunked"),
    "coding-in-1.0": head("Transfer-Encoding: chunked", line="POST / HTTP/1.0"),
    "long-name": head("N" * 41 + ": x"),
    "folded": head("A: b", " c"),
}


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in TAKEN.items()])
def test_what_it_takes(data: bytes) -> None:
    """Once it is there as a whole, whatever comes behind it."""
    for size in range(len(data)):
        assert take(bytearray(data[:size])) is None
    for behind in (b"", b"\r", b"\r\n", TRAILING, data):
        assert check(data + behind)


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in LEFT.items()])
def test_what_it_leaves(data: bytes) -> None:
    for behind in (b"", TRAILING):
        assert not check(data + behind)


VECTORS = [
    *((data, DEFAULT) for _, data, *_ in GOOD + HOSTILE),
    *((data, TIGHT) for _, data, *_ in LIMITS),
]


def test_the_vectors_of_the_reference() -> None:
    """Also cut off at every byte, and without the limits that they are about."""
    taken = [data for data, limits in VECTORS if check(data, limits)]
    assert 20 < len(taken) < len(VECTORS) / 2
    for data, limits in VECTORS:
        check(data, Limits(head=2**20, line=2**20, header_lines=1000))
        for size in range(min(len(data), 400)):
            check(data[:size], limits)


@pytest.mark.parametrize("data", [TAKEN["plain"], TAKEN["blanks"], WEBSOCKET, TAKEN["length"]])
def test_every_byte_changed_to_every_other(data: bytes) -> None:
    taken = 0
    for at in range(len(data)):
        for byte in range(256):
            taken += check(data[:at] + bytes((byte,)) + data[at + 1 :])
    assert len(data) < taken < 200 * len(data)


def test_every_byte_left_out_or_doubled() -> None:
    for data in TAKEN.values():
        for at in range(len(data)):
            check(data[:at] + data[at + 1 :])
            check(data[: at + 1] + data[at:])


LINES = st.one_of(
    st.sampled_from([line for data in (BROWSER, WEBSOCKET, *TAKEN.values()) for line in data.split(b"\r\n")[1:-2]]),
    st.builds(
        lambda name, blank, value: name + b":" + blank + value,
        st.text("abcXYZ0-_!", min_size=1, max_size=45).map(str.encode),
        st.sampled_from([b"", b" ", b" \t"]),
        st.one_of(st.text("aZ09 \t\"%;=,\xe9", max_size=70).map(lambda text: text.encode("latin-1")), st.binary(max_size=20)),
    ),
)
STARTS = st.sampled_from([data.split(b"\r\n")[0] for data in TAKEN.values()])
SMALL = [Limits(line=line, head=head, header_lines=lines) for line, head, lines in ((40, 100, 3), (90, 60, 10), (200, 200, 1))]


@st.composite
def plain_heads(draw: Any) -> bytes:
    """Good as a rule, so that C takes many of them."""
    fields = draw(st.lists(LINES, max_size=6))
    fields.insert(draw(st.integers(0, len(fields))), b"Host: x")
    data = b"\r\n".join([draw(STARTS), *fields, b"", b""])
    return bytes(draw(damaged(data))) + draw(st.sampled_from([b"", TRAILING]))


def test_generated_heads() -> None:
    taken = set()

    @STEADY
    @given(st.one_of(plain_heads(), request_heads()), st.sampled_from([DEFAULT, *SMALL]))
    def run(data: bytes, limits: Limits) -> None:
        taken.add((limits, check(data, limits)))

    run()
    assert {limits for limits, was in taken if was} == {limits for limits, was in taken if not was} == {DEFAULT, *SMALL}


def test_sizes_at_the_limits() -> None:
    """Each limit by itself, in a call of its own: it takes what is as long, and leaves what is longer."""
    line, field, lines = head(line="GET /" + "a" * 40 + " HTTP/1.1"), head("A: " + "b" * 60 + "\t"), head("A:", "B:", "C:")
    wide = {"line": 1000, "head": 1000, "header_lines": 100}
    for data, name, most in (
        (line, "line", len(line.split(b"\r\n")[0])),
        (field, "line", len(field.split(b"\r\n")[2])),
        (line, "head", len(line) - 4),
        (field, "head", len(field) - 4),
        (lines, "header_lines", 4),
    ):
        for limit in range(1, most + 5):
            assert check(data, Limits(**{**wide, name: limit})) == (limit >= most)
    for _ in range(3):
        assert check(line, DEFAULT)
        assert not check(line, TIGHT if len(line) > 200 else Limits(head=20))


def test_many_names() -> None:
    """More than there is room for, again and again: the names seen last replace others."""
    numbers = random.Random(4)
    names = [f"X-{number:03x}" for number in range(2000)] + ["Content-Length", "Connection", "Accept", "Cookie"]
    values = {"Content-Length": "5", "Connection": "close"}
    for _ in range(1500):
        assert check(head(*[f"{name}: {values.get(name, 'x')}" for name in numbers.sample(names, 10)]))
    assert check(BROWSER)


def test_the_version_is_one_object() -> None:
    """A WebSocket keeps its request for hours."""
    first, second = take(bytearray(head())), take(bytearray(BROWSER))
    assert first.version is second.version
    assert first.method is second.method
    assert first.target is first.path


# ---- wrong arguments -----------------------------------------------------------------------------------------------------


def test_wrong_counts_of_arguments() -> None:
    function = ACCELERATED["take_request"]
    for args in ((), (bytearray(),), (bytearray(), DEFAULT, 1), (bytearray(),) * 50):
        with pytest.raises(TypeError, match=f"^take_request takes 2 arguments, not {len(args)}$"):
            function(*args)
    with pytest.raises(TypeError, match="keyword"):
        function(bytearray(), limits=DEFAULT)


class Odd:
    """Limits that aren't."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (None, AttributeError),
        (Odd(), AttributeError),
        (Odd(line=1, header_lines=1), AttributeError),
        (Odd(line=None, header_lines=1, head=1), TypeError),
        (Odd(line=1, header_lines="1", head=1), TypeError),
        (Odd(line=1, header_lines=1, head=2**63), OverflowError),
    ],
)
def test_wrong_limits(limits: object, error: type[Exception]) -> None:
    """And the next call has its own."""
    for _ in range(3):
        buf = bytearray(head())
        with pytest.raises(error):
            take(buf, limits)
        assert buf == head()
        assert check(head())
    assert take(bytearray(head()), Odd(line=-1, header_lines=-1, head=-1)) is None
    assert check(head())


@pytest.mark.parametrize("buf", [b"GET / HTTP/1.0\r\n\r\n", memoryview(bytearray(9)), "GET", None, []], ids=repr)
def test_what_is_no_buffer(buf: Any) -> None:
    with pytest.raises(TypeError, match="take_request needs a bytearray"):
        take(buf)


def test_a_subclass_of_a_buffer() -> None:
    class Buffer(bytearray):
        pass

    buf = Buffer(head() + b"x")
    assert take(buf).path == "/"
    assert (type(buf), buf) == (Buffer, b"x")


# ---- a buffer that changes or is held ------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [b"", TRAILING])
def test_a_buffer_that_is_held(behind: bytes) -> None:
    buf = bytearray(BROWSER + behind)
    with memoryview(buf):
        with pytest.raises(BufferError):
            take(buf)
        assert buf == BROWSER + behind
        assert take(bytearray(LEFT["ipv6"])) is None
    assert take(buf).path == "/a/b"
    assert buf == behind


def test_a_finalizer_that_strikes_within() -> None:
    """The collector may run whatever in the middle of a call: it can't take the buffer away from under it."""
    buf = bytearray()
    kept: list[Any] = []
    struck = refused = 0

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal struck, refused
            struck += 1
            try:
                buf.extend(b"\xff" * 10_000)
                del buf[-10_000:]
            except BufferError:
                refused += 1

    before = gc.get_threshold()
    try:
        gc.set_threshold(0)
        for threshold in range(1, 8):
            for _ in range(20):
                buf[:] = BROWSER + b"x"
                gc.collect(0)  # it counts allocations from here on
                Cycle()
                gc.set_threshold(threshold)
                request = take(buf)
                gc.set_threshold(0)
                kept.append(request)
                assert (request.path, buf) == ("/a/b", b"x")
    finally:
        gc.set_threshold(*before)
        gc.collect()
    assert struck
    if sys.version_info < (3, 12):
        assert refused, "from 3.12 on the collector waits until the call is over"


# ---- memory --------------------------------------------------------------------------------------------------------------


@LASTING
@pytest.mark.parametrize("behind", [b"", TRAILING], ids=["alone", "and more"])
def test_heads_without_memory(lasting: bool, behind: bytes) -> None:
    """Each with a name that was never seen: its text has to be made too."""
    given = [b""]

    def prepare() -> tuple[Any, ...]:
        given.append(head(f"X-New-{len(given)}: x", "A: bcd", "Content-Length: 500", line="POST /a?b HTTP/1.1") + behind)
        return bytearray(given[-1]), DEFAULT

    def check_kept(args: tuple[Any, ...]) -> None:
        assert args[0] == given[-1], "nothing is lost"

    assert failures("take_request", prepare, check_kept, lasting, compare=False) >= 8
    assert check(BROWSER)


def attempt(data: bytes, limits: object = DEFAULT) -> object:
    """The result of a call, or the error that it raises."""
    try:
        return take(bytearray(data), limits)
    except Exception as exc:
        return type(exc)


def take_held() -> None:
    buf = bytearray(BROWSER)
    with memoryview(buf):
        try:
            take(buf)
        except BufferError:
            pass


def take_new_names() -> None:
    attempt(head(f"X-{random.getrandbits(40)}: x"))


def take_with_changing_limits() -> None:
    for limits in (DEFAULT, TIGHT, None, Odd(line=1)):
        attempt(BROWSER, limits)


CALLS: dict[str, Callable[[], object]] = {
    "a plain head": lambda: attempt(head()),
    "a browser's head": lambda: attempt(BROWSER),
    "a WebSocket's head": lambda: attempt(WEBSOCKET),
    "more behind it": lambda: attempt(BROWSER + TRAILING),
    "new names": take_new_names,
    "half a head": lambda: attempt(BROWSER[:-3]),
    "a repeated field": lambda: attempt(LEFT["repeated"]),
    "a bad last field": lambda: attempt(head("A: b", "B: \0")),
    "an odd host": lambda: attempt(LEFT["odd-host"]),
    "no request": lambda: attempt(b"\x16\x03\x01"),
    "a buffer that is held": take_held,
    "other limits": take_with_changing_limits,
    "wrong arguments": lambda: attempt(b"", None),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_reference_leaks(name: str) -> None:
    """Nor of these objects. (From 3.12 on the constants are held for ever anyway, and their references are not counted.)"""
    held = [DEFAULT, TIGHT, Request, Header] + ([None, True, ()] if sys.version_info < (3, 12) else [])
    leaks_nothing(CALLS[name], held, 3000 if name == "new names" else 100)


def test_a_request_has_no_other_references() -> None:
    request = take(bytearray(head("A: bcd", line="GET /a?bc HTTP/1.1")))
    assert sys.getrefcount(request) == 2, "this name's, and the call's"
    _, *texts, _, header, _, _, _ = map(sys.getrefcount, request)
    assert [*texts, header] == [2, 2, 2, 2], "the request's, and the call's"
    _, value = map(sys.getrefcount, request.header.values())
    assert value == 2


def test_a_second_copy_of_the_module() -> None:
    """Its names are its own, and go with it."""
    origin = sys.modules["silly._wire._head_speedups"].__file__
    assert origin is not None
    for _ in range(5):
        loader = importlib.machinery.ExtensionFileLoader("silly._wire._head_speedups", origin)
        spec = importlib.util.spec_from_file_location("silly._wire._head_speedups", origin, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        request = module.take_request(bytearray(BROWSER), DEFAULT)  # type: ignore[attr-defined]
        del module, spec, loader
        gc.collect()
        assert seen(request) == seen(take(bytearray(BROWSER)))


# ---- the twin ------------------------------------------------------------------------------------------------------------


def outcome(read: Callable[[bytearray, Limits], Request | None], buf: bytearray, limits: Limits) -> object:
    try:
        return read(buf, limits)
    except ProtocolError as exc:
        return exc.code, exc.text, exc.answer


def test_the_twin_raises_what_the_reference_does() -> None:
    """It may leave a head too; what it takes, and how it refuses, is the reference's."""
    refused = 0
    for data, limits in VECTORS:
        buf, same = bytearray(data), bytearray(data)
        ours, theirs = outcome(PURE["take_request"], buf, limits), outcome(reference, same, limits)
        if ours is None:
            assert buf == data
        else:
            assert (ours, buf) == (theirs, same)
        refused += isinstance(ours, tuple) and not isinstance(ours, Request)
    assert refused > 100
