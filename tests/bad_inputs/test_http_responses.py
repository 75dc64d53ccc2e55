"""What our server puts on the wire: no string of a handler's can break out of its place, and each response has one framing.

The injection row: aiohttp CVE-2023-37276, CVE-2026-34519, gevent#775, tornado CVE-2025-67724. Then what upstream got wrong.
"""

from __future__ import annotations

import array
import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import silly
from silly.net import http

from ..helpers import turn
from .support import (
    HTTP_LOG,
    SMUGGLED,
    TCP,
    Seen,
    Way,
    both_transports,
    chunked,
    every_way,
    get,
    post,
)

EVIL = {
    "cr": "a\rb",
    "lf": "a\nb",
    "crlf": "a\r\nEvil: 1",
    "response": "a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "nul": "a\0b",
    "del": "a\x7fb",
    "esc": "a\x1bb",
    "unit-separator": "\x1f",
    "lf-at-the-end": "a\n",
    "cr-first": "\ra",
    "lf-alone": "\n",
    "euro": "a€b",
    "line-separator": "a\u2028b",
    "latin-1-of-crlf": "a\u010d\u010ab",  # the low bytes are CR and LF: an encoder that cuts them would send those
    "surrogate": "a\udcffb",
    "surrogate-of-lf": "a\udc0ab",
}
NOT_NAMES = {
    **EVIL,
    "empty": "",
    "space": "a b",
    "space-first": " a",
    "colon": "a:b",
    "colon-at-the-end": "a:",
    "colon-first": ":a",
    "latin-1": "a\xe9b",
    "quote": '"a"',
    "slash": "a/b",
    "parenthesis": "a(b",
    "next-line": "a\x85",
}
TYPES = [b"x", 1.5, True, object(), {"a": 1}, ("a", b"b"), array.array("b", [1])]
NOT_BYTES = [5, 1.5, ["x"], {"a": 1}, object(), memoryview(b"abcd")[::2]]
GOOD_VALUES: list[Any] = ["", "x", "a\tb", "caf\xe9", "\xff", "a, b", '"a\\"b"', "x" * 8000, 5, -1, 2**70, ["a", "b"], []]
every_evil = pytest.mark.parametrize("evil", EVIL.values(), ids=list(EVIL))
every_non_name = pytest.mark.parametrize("evil", NOT_NAMES.values(), ids=list(NOT_NAMES))


MISTAKES = (ValueError, TypeError)


def raises_before_a_byte(way: Way, call: Callable[[Any], object], errors: tuple[type[Exception], ...] = (ValueError,)) -> None:
    """``call(stream)`` raises one of ``errors``, and has written nothing: the handler answers as it likes."""
    raised = []

    def handler(stream: Any) -> None:
        try:
            call(stream)
        except errors as exc:
            raised.append(exc)
        turn(2)
        assert stream.respond(200, {"x": "y"}) == (True, None)
        stream.close("still a request")

    with way.serving(handler) as server, way.dial(server) as peer:
        for _ in range(2):
            peer.send(get())
            response = peer.response()
            assert (response.status, response.body) == (200, b"still a request")
            assert response.header["x"] == "y"
            assert set(response.header) <= {"x", "date", "content-length", "content-type", "server"}
        peer.silent()
    assert len(raised) == 2


@both_transports
@every_evil
@pytest.mark.parametrize("shape", ["dict", "pairs", "list", "second"])
def test_cve_2023_37276_header_value(shape: str, evil: str, way: Way) -> None:
    header: Any = {
        "dict": {"X-Evil": evil},
        "pairs": [("X-Evil", evil)],
        "list": {"X-Evil": ["good", evil]},
        "second": {"good": "x", "set-cookie": ["a=b", evil]},
    }[shape]
    raises_before_a_byte(way, lambda stream: stream.respond(404, header))


@both_transports
@every_non_name
@pytest.mark.parametrize("shape", ["dict", "pairs"])
def test_cve_2023_37276_header_name(shape: str, evil: str, way: Way) -> None:
    raises_before_a_byte(way, lambda stream: stream.respond(404, {evil: "x"} if shape == "dict" else [("a", "b"), (evil, "x")]))


@both_transports
@every_evil
@pytest.mark.parametrize(
    "name", ["content-type", "location", "set-cookie", "connection", "date", "server", "content-length", "transfer-encoding"]
)
def test_gevent_775_fields_that_the_server_knows(name: str, evil: str, way: Way) -> None:
    raises_before_a_byte(way, lambda stream: stream.respond(404, {name: evil}))


STATUSES = [0, 99, 100, 101, 199, 1000, -200, 2**40, "200", "200 OK\r\nEvil: 1", 200.0, True, None, b"200"]


@both_transports
@pytest.mark.parametrize("status", STATUSES, ids=repr)
def test_cve_2026_34519_cve_2025_67724_status(status: Any, way: Way) -> None:
    """The reason was the hole in aiohttp and tornado. Ours comes of a table, and the status is an int."""
    raises_before_a_byte(way, lambda stream: stream.respond(status), MISTAKES)


@both_transports
def test_status_without_a_reason_of_its_own(way: Way) -> None:
    with way.serving(lambda stream: stream.respond(299)) as server, way.dial(server) as peer:
        peer.send(get())
        assert peer.response().status == 299


@both_transports
@pytest.mark.parametrize("bad", TYPES, ids=lambda value: type(value).__name__)
def test_header_values_of_other_types(bad: Any, way: Way) -> None:
    raises_before_a_byte(way, lambda stream: stream.respond(404, {"x": bad}), MISTAKES)
    raises_before_a_byte(way, lambda stream: stream.respond(404, {"x": ["good", bad]}), MISTAKES)


@pytest.mark.parametrize("bad", [b"x", 5, None, ("x",)], ids=repr)
def test_header_names_of_other_types(bad: Any) -> None:
    raises_before_a_byte(TCP, lambda stream: stream.respond(404, [(bad, "x")]), MISTAKES)


FRAMINGS: list[dict[str, Any]] = [
    {"content-length": "5", "transfer-encoding": "chunked"},
    {"content-length": ["5", "6"]},
    {"content-length": "5, 5"},
    {"content-length": "+5"},
    {"content-length": "-5"},
    {"content-length": -5},
    {"content-length": "5_0"},
    {"content-length": "0x5"},
    {"content-length": " 5"},
    {"content-length": ""},
    {"content-length": "\xb2"},
    {"content-length": "٥"},
    {"transfer-encoding": "gzip"},
    {"transfer-encoding": "gzip, chunked"},
    {"transfer-encoding": "chunked, chunked"},
    {"transfer-encoding": ["chunked", "chunked"]},
    {"transfer-encoding": "identity"},
    {"transfer-encoding": "xchunked"},
    {"transfer-encoding": ""},
]


@pytest.mark.parametrize("header", FRAMINGS, ids=repr)
def test_framing_that_peers_would_read_in_two_ways(header: dict[str, Any]) -> None:
    raises_before_a_byte(TCP, lambda stream: stream.respond(404, header))


@both_transports
@pytest.mark.parametrize("value", GOOD_VALUES)
def test_good_values_are_sent_as_they_are(value: Any, way: Way) -> None:
    def handler(stream: Any) -> None:
        stream.respond(200, {"X-Value": value})
        stream.close("x")

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(get())
        lines = [line for line in peer.response().lines if line.startswith("x-value:")]
    assert lines == [f"x-value: {each}" for each in (value if isinstance(value, list) else [value])]


@both_transports
@every_evil
@pytest.mark.parametrize("method", ["close", "closewrite"])
def test_cve_2023_37276_trailer_value(method: str, evil: str, way: Way) -> None:
    trailers_raise(way, {"X-Evil": evil}, method)


@both_transports
@every_non_name
def test_cve_2023_37276_trailer_name(evil: str, way: Way) -> None:
    trailers_raise(way, {evil: "x"}, "closewrite")


@both_transports
@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Host", "Set-Cookie", "content-type", "Trailer"])
def test_trailers_that_we_refuse_are_not_sent(name: str, way: Way) -> None:
    """RFC 9110, section 6.5.1."""
    trailers_raise(way, {name: "1"}, "closewrite")


def trailers_raise(way: Way, trailer: dict[str, str], method: str) -> None:
    """Closing with ``trailer`` raises ValueError, and sends neither it nor the body that it came with."""
    raised = []

    def handler(stream: Any) -> None:
        stream.respond(200)
        stream.write("begun")
        try:
            getattr(stream, method)("evil", trailer=trailer)
        except ValueError as exc:
            raised.append(exc)
        assert stream.closewrite("fine", trailer={"X-Good": "1"}) == (True, None)

    with way.serving(handler) as server, way.dial(server) as peer:
        for _ in range(2):
            peer.send(get())
            assert b"transfer-encoding: chunked" in peer.read("\r\n\r\n")
            body = b"5\r\nbegun\r\n4\r\nfine\r\n0\r\nx-good: 1\r\n\r\n"
            assert peer.read(len(body)).lower() == body
        peer.silent()
    assert len(raised) == 2


@both_transports
@pytest.mark.parametrize("bad", NOT_BYTES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("method", ["write", "close"])
def test_cve_2026_45736_bodies_of_other_types(method: str, bad: Any, way: Way) -> None:
    """TypeError, and nothing of it is sent."""

    def handler(stream: Any) -> None:
        stream.respond(200)
        with pytest.raises(TypeError):
            getattr(stream, method)(bad)
        stream.close("fine")

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(get())
        assert peer.response().body == b"fine"


@both_transports
@pytest.mark.parametrize("method", ["write", "close"])
def test_cve_2026_45736_views_are_sent_as_their_bytes(method: str, way: Way) -> None:
    """The length is that of the bytes, not of the items."""
    doubles = array.array("d", [1.0, 2.0])

    def handler(stream: Any) -> None:
        stream.respond(200)
        getattr(stream, method)(memoryview(doubles))
        stream.close()

    with way.serving(handler) as server, way.dial(server) as peer:
        for _ in range(2):
            peer.send(get())
            assert peer.response().body == doubles.tobytes()
        peer.silent()


# ---- one framing, and no more than it says --------------------------------------------------------------------------


@both_transports
@pytest.mark.parametrize("how", ["write", "close", "writes"])
@pytest.mark.parametrize("length", [0, 3])
def test_response_longer_than_its_length(length: int, how: str, way: Way, logs: Any) -> None:
    """What is too much isn't sent: it would be the next response. A body that falls short by that ends the connection."""
    logs.allow("ERROR http: ")
    evil = "abcHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": length})
        if how == "writes":
            stream.write("abc"[:length])
            assert not stream.write(evil)
        else:
            assert not getattr(stream, how)(evil)

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(get() + get("Connection: close"))
        responses = peer.rest().split(b"HTTP/1.1 200 OK\r\ndate: ")[1:]
    assert 1 <= len(responses) <= 2
    for response in responses:
        head, _, body = response.partition(b"\r\n\r\n")
        assert b"content-length: %d" % length in head
        assert body in (b"", b"abc"[:length])
    if len(responses) == 2:
        assert len(responses[0].partition(b"\r\n\r\n")[2]) == length


@both_transports
@pytest.mark.parametrize("how", ["write", "close", "nothing", "raise"])
def test_response_shorter_than_its_length(how: str, way: Way, logs: Any) -> None:
    """The connection ends, so that the next response isn't taken for the rest of this one."""
    logs.expect("ERROR ")

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": 100})
        if how in ("write", "close"):
            getattr(stream, how)("abc")
        elif how == "raise":
            stream.write("abc")
            raise KeyError("x")

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(get() + get())
        got = peer.rest()
    assert got.count(b"HTTP/1.1 ") == 1
    assert got.partition(b"\r\n\r\n")[2] == (b"" if how == "nothing" else b"abc")


@every_way
@pytest.mark.parametrize("how", ["close", "write", "length"])
def test_lua_head_keeps_the_length_and_sends_no_body(how: str, way: Way) -> None:
    """Upstream dropped content-length. The fields are those of a GET; no byte of the body is sent."""

    def handler(stream: Any) -> None:
        stream.respond(200, {"content-length": 35} if how != "close" else {})
        if how == "write":
            stream.write(SMUGGLED[:20])
            stream.close(SMUGGLED[20:])
        else:
            stream.close(SMUGGLED if how == "close" else None)

    with way.serving(handler) as server, way.dial(server) as peer:
        for _ in range(2):
            way.deliver_all(peer, get(first="HEAD /first HTTP/1.1"))
            response = peer.response("HEAD")
            assert response.header["content-length"] == "35"
        peer.silent()


@both_transports
@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("how", ["close", "write", "length"])
def test_statuses_without_a_body(how: str, status: int, way: Way, logs: Any) -> None:
    """A body would be the next response. 204 has no length either (RFC 9110, section 8.6)."""
    logs.allow("ERROR http: ")

    def handler(stream: Any) -> None:
        stream.respond(status, {"content-length": 35} if how == "length" else {})
        if how == "write":
            stream.write(SMUGGLED)
        stream.close(None if how == "length" else SMUGGLED)

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(get("Connection: close"))
        head, _, body = peer.rest().partition(b"\r\n\r\n")
    if status == 205:
        assert body in (b"", SMUGGLED, b"0\r\n\r\n") or body.endswith(b"0\r\n\r\n")
    else:
        assert body == b""
        assert b"transfer-encoding" not in head
    if status == 204:
        assert b"content-length" not in head


# ---- handlers that do it wrong --------------------------------------------------------------------------------------


@every_way
def test_lua_handler_that_raises(way: Way, logs: Any) -> None:
    """500 and the end, with nothing of the exception; upstream sent a bare FIN."""
    logs.expect(r"ERROR exception in the handler of POST /first:\n(.*\n)+.*secret")
    seen = []

    def handler(stream: Any) -> None:
        seen.append(stream.path)
        raise KeyError("secret")

    with way.serving(handler) as server, way.dial(server) as peer:
        way.deliver(peer, post("Content-Length: 35", body=SMUGGLED))
        response = peer.response()
        assert response.status == 500
        assert response.header["connection"] == "close"
        assert b"secret" not in response.body
        peer.eof()
    assert seen == ["/first"]


@every_way
def test_lua_handler_that_does_not_respond(way: Way, logs: Any) -> None:
    """500; upstream sent nothing and kept the connection."""
    logs.expect(HTTP_LOG)
    with way.serving(lambda stream: None) as server, way.dial(server) as peer:
        way.deliver_all(peer, get())
        assert peer.response().status == 500


@both_transports
@pytest.mark.parametrize("written", [False, True])
def test_handler_that_does_not_close(written: bool, way: Way) -> None:
    def handler(stream: Any) -> None:
        stream.respond(200)
        if written:
            stream.write("abc")

    with way.serving(handler) as server, way.dial(server) as peer:
        for _ in range(2):
            peer.send(get())
            assert peer.response().body == (b"abc" if written else b"")
        peer.silent()


@both_transports
def test_lua_stream_of_an_earlier_request(way: Way) -> None:
    """After its end a call gives an error pair, raises nothing, and touches neither the next request nor its response."""
    streams: list[Any] = []
    results: list[Any] = []

    def handler(stream: Any) -> None:
        if streams:
            old = streams[0]
            results.extend([old.read(1), old.readall(), old.respond(200), old.write("x"), old.close("x"), old.closewrite()])
            results.append(old.readall())
        streams.append(stream)
        stream.respond(200)
        stream.close(stream.readall()[0])

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(b"".join(post("Content-Length: 3", body=body) for body in ("one", "two")) + chunked("3\r\nsix\r\n0\r\n\r\n"))
        assert [peer.response().body for _ in range(3)] == [b"one", b"two", b"six"]
        peer.silent()
        old = streams[0]
        assert not old.write("late")
        assert old.read(1)[0] is None
        peer.silent()
    for first, second in results:
        assert not first
        assert second is None or isinstance(second, str)


@both_transports
def test_stream_of_a_lost_connection(way: Way, logs: Any) -> None:
    """Error pairs from every call, and none raises."""
    logs.allow("INFO ")
    results: list[Any] = []
    peers: list[Any] = []

    def handler(stream: Any) -> None:
        peers[0].reset()
        turn(3)
        data, err = stream.readall()
        assert data is None
        results.append(err)
        stream.respond(200)
        for _ in range(3):
            stream.write(b"x" * 1000)
            stream.flush()
        results.append(stream.write("x"))
        results.append(stream.close("x"))

    with way.serving(handler) as server:
        peers.append(way.dial(server))
        peers[0].send(post("Content-Length: 10"))
        while len(results) < 3:
            turn()
        peers[0].close()
    assert isinstance(results[0], str)
    assert not results[1]
    assert not results[2]


@both_transports
def test_error_answers_echo_nothing(way: Way, logs: Any) -> None:
    """The answer doesn't show what the client sent (Apache CVE-2012-0053); the log does."""
    logs.expect(HTTP_LOG)
    for data in (
        get(first="GET /<script>secret HTTP/1.1\t"),
        get("<script>secret : x"),
        get(host="Host: <script>secret"),
        get(first="GET <script>secret HTTP/1.1"),
        get(first="<script>secret / HTTP/1.1"),
        get("Expect: <script>secret"),
        post("Content-Length: <script>secret"),
        chunked("<script>secret\r\n"),
    ):
        with way.serving(Seen()) as server, way.dial(server) as peer:
            peer.send(data)
            got = peer.rest()
        assert b"secret" not in got
        assert re.search(rb"\r\ncontent-type: text/plain", got)


# ---- the code -------------------------------------------------------------------------------------------------------

ROOT = Path(silly.__file__).parent
SECRET = re.compile(r"passw|passphrase|secret|authorization|credential|signature|hmac", re.IGNORECASE)


def sources() -> list[Path]:
    examples = ROOT.parent / "examples"
    return [*ROOT.rglob("*.py"), *examples.rglob("*.py")]


def test_cve_2021_33880_secrets_are_compared_in_constant_time() -> None:
    """Nothing that is named as a secret is compared with ``==``, ``!=`` or ``in``; ``hmac.compare_digest`` does that."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Compare) or not any(
                isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)) for op in node.ops
            ):
                continue
            for operand in (node.left, *node.comparators):
                # The name of a header, alone or in a list of them, is no secret.
                constant = isinstance(operand, (ast.Constant, ast.Tuple, ast.Set, ast.List)) or (
                    isinstance(operand, ast.Name) and operand.id.isupper()
                )
                if not constant and SECRET.search(ast.unparse(operand)):
                    found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


PURE = {"isinstance", "len", "callable", "type", "all", "any", "issubclass"}


def test_cve_2025_69227_asserts_do_nothing() -> None:
    """An assert may look, never act: under ``-O`` it is gone."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                for each in ast.walk(node.test):
                    acts = isinstance(each, (ast.NamedExpr, ast.Await, ast.Yield))
                    if isinstance(each, ast.Call):
                        acts = not (isinstance(each.func, ast.Name) and each.func.id in PURE)
                    if acts:
                        found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize("options", [{"handler": None}, {"handler": 5}, {"handler": Seen(), "limits": {"body": 5}}])
def test_listen_mistakes_open_nothing(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        http.listen("127.0.0.1:0", **options)
