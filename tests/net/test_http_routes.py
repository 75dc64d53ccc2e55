"""``http.router``: which handler gets a request, and what is answered where none does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly.net import http, websocket
from silly.net.http import ServerStream
from silly.net.http.routes import Router, _Node, router

from ..helpers import FIN, TEXT, Peer, Raw, Response, asking, serving
from ..wire.strategies import STEADY


def answering(text: str) -> Callable[..., None]:
    """A handler that says who it is, and with what it was called."""

    def handler(stream: Any, **parameters: str) -> None:
        stream.respond(200)
        stream.close("|".join([text, *(f"{name}={value!r}" for name, value in parameters.items())]))

    return handler


@contextmanager
def routed(*routes: str, methods: str = "GET") -> Iterator[Raw]:
    """A connection to a server with these patterns, each of which answers with itself."""
    found = router()
    for pattern in routes:
        found.route(methods.split(), pattern, answering(pattern))
    with serving(found) as server, Raw.connect(server) as client:
        yield client


def ask(client: Raw, path: str, method: str = "GET", *fields: str) -> Response:
    client.request(path, method, *fields)
    return client.response(method)


def text(client: Raw, path: str, method: str = "GET") -> str | int:
    """What the handler answered, or the status where there was none."""
    got = ask(client, path, method)
    return got.body.decode() if got.status == 200 else got.status


class Stream:
    """A request without a connection: enough of a stream for a router."""

    def __init__(self, path: str, method: str = "GET", upgrade: str | None = None) -> None:
        self.method = method
        self.path = path
        self.header = {"upgrade": upgrade}
        self.status = 0
        self.sent: dict[str, str] = {}
        self.body = ""

    def respond(self, status: int, header: dict[str, str] | None = None) -> bool:
        self.status = status
        self.sent = dict(header or {})
        return True

    def closewrite(self, body: str = "") -> None:
        self.body = body

    close = closewrite
    answer = ServerStream.answer


def called(routes: Router, path: str, method: str = "GET", upgrade: str | None = None) -> Stream:
    stream = Stream(path, method, upgrade)
    routes(stream)  # type: ignore[arg-type]
    return stream


# ---- which route ----------------------------------------------------------------------------------------------------


def test_literals() -> None:
    with routed("/", "/a", "/a/", "/a/b", "/café", "/a b") as client:
        for path in ("/", "/a", "/a/", "/a/b"):
            assert text(client, path) == path
            assert text(client, path + "?x=/a/b") == path
        assert text(client, "/caf%C3%A9") == "/café"
        assert text(client, "/a%20b") == "/a b"
        assert text(client, "/%61/%62") == "/a/b"
        for path in ("/A", "/b", "/a/b/", "/a//b", "//a", "/a%2Fb", "/a/b/c", "/ab", "//"):
            assert text(client, path) == 404, path


def test_parameters() -> None:
    with routed("/users/{id}", "/users/{user_id}/posts/{post}", "/x/{a}/{b}/{c}") as client:
        assert text(client, "/users/5") == "/users/{id}|id='5'"
        assert text(client, "/users/a%20b") == "/users/{id}|id='a b'"
        assert text(client, "/users/%C3%A9") == "/users/{id}|id='é'"
        assert text(client, "/users/a%2Fb") == "/users/{id}|id='a/b'"
        assert text(client, "/users/%252F") == "/users/{id}|id='%2F'"
        assert text(client, "/users/{id}".replace("{", "%7B").replace("}", "%7D")) == "/users/{id}|id='{id}'"
        assert text(client, "/users/a+b") == "/users/{id}|id='a+b'"
        assert text(client, "/users/..") == "/users/{id}|id='..'"
        assert text(client, "/users/5/posts/7") == "/users/{user_id}/posts/{post}|user_id='5'|post='7'"
        assert text(client, "/x/1/2/3") == "/x/{a}/{b}/{c}|a='1'|b='2'|c='3'"
        for path in ("/users", "/users/", "/users//", "/users/5/", "/users/5/posts", "/users/5/posts/", "/users//posts/7"):
            assert text(client, path) == 404, path


def test_rest() -> None:
    with routed("/files/{path...}", "/{one}/more/{rest...}") as client:
        assert text(client, "/files/") == "/files/{path...}|path=''"
        assert text(client, "/files/a") == "/files/{path...}|path='a'"
        assert text(client, "/files/a/b%20c/") == "/files/{path...}|path='a/b c/'"
        assert text(client, "/files//") == "/files/{path...}|path='/'"
        assert text(client, "/files/a//b") == "/files/{path...}|path='a//b'"
        assert text(client, "/x/more/y/z") == "/{one}/more/{rest...}|one='x'|rest='y/z'"
        assert text(client, "/files/more/y") == "/files/{path...}|path='more/y'"  # text before {one}
        for path in ("/files", "/x/more", "/"):
            assert text(client, path) == 404, path


def test_everything() -> None:
    with routed("/{path...}") as client:
        for path in ("/", "/a", "/a/b/", "//"):
            assert text(client, path) == f"/{{path...}}|path={path[1:]!r}"


ORDER = {
    "/a/b": "/a/b",
    "/a/c": "/a/{x}|x='c'",
    "/c/b": "/{x}/b|x='c'",
    "/c/d": "/{x}/{y}|x='c'|y='d'",
    "/a/b/c": "/a/{x...}|x='b/c'",
    "/c/b/d": "/{x...}|x='c/b/d'",
    "/a/": "/a/{x...}|x=''",
    "/c": "/{x...}|x='c'",
    "/": "/{x...}|x=''",
}


@pytest.mark.parametrize("routes", list(permutations(["/a/b", "/a/{x}", "/{x}/b", "/{x}/{y}", "/a/{x...}", "/{x...}"]))[::37])
def test_the_most_specific_wins_whatever_the_order(routes: tuple[str, ...]) -> None:
    with routed(*routes) as client:
        assert {path: text(client, path) for path in ORDER} == ORDER


def test_a_literal_that_leads_nowhere() -> None:
    """Then the parameter beside it is tried, at every depth."""
    with routed("/a/b/c/d", "/a/{x}/c/e", "/{x}/b/c/f", "/{x}/{y}/{z}/g", "/a/b/{x...}") as client:
        assert text(client, "/a/b/c/d") == "/a/b/c/d"
        assert text(client, "/a/b/c/e") == "/a/b/{x...}|x='c/e'"  # decided at the second segment
        assert text(client, "/a/q/c/e") == "/a/{x}/c/e|x='q'"
        assert text(client, "/a/q/c/g") == "/{x}/{y}/{z}/g|x='a'|y='q'|z='c'"
        assert text(client, "/q/b/c/f") == "/{x}/b/c/f|x='q'"
        assert text(client, "/q/b/c/g") == "/{x}/{y}/{z}/g|x='q'|y='b'|z='c'"
        assert text(client, "/q/b/c/h") == 404


def test_routes_of_one_shape_name_their_own_parameters() -> None:
    found = router()
    found.get("/users/{id}", answering("get"))
    found.delete("/users/{user}", answering("delete"))
    with serving(found) as server, Raw.connect(server) as client:
        assert text(client, "/users/5") == "get|id='5'"
        assert text(client, "/users/5", "DELETE") == "delete|user='5'"


# ---- methods --------------------------------------------------------------------------------------------------------


def test_methods() -> None:
    found = router()
    registrations = {"GET": found.get, "POST": found.post, "PUT": found.put, "PATCH": found.patch, "DELETE": found.delete}
    for method, register in registrations.items():
        handler = answering(method)
        assert register("/a", handler) is handler
    found.route("BREW", "/a", answering("BREW"))
    found.route(["PROPFIND", "REPORT"], "/a", answering("both"))
    with serving(found) as server, Raw.connect(server) as client:
        for method in (*registrations, "BREW"):
            assert text(client, "/a", method) == method
        assert [text(client, "/a", method) for method in ("PROPFIND", "REPORT")] == ["both", "both"]
        got = ask(client, "/a", "MOVE")
        assert (got.status, got.header["allow"]) == (
            405,
            "BREW, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PROPFIND, PUT, REPORT",
        )
        assert ask(client, "/b", "MOVE").status == 404
        assert ask(client, "/a", "get").status == 405
    assert found.methods == {*registrations, "BREW", "PROPFIND", "REPORT"}


def test_head() -> None:
    found = router()
    found.get("/a", answering("get"))
    found.get("/b", answering("get"))
    found.head("/b", answering("a longer one"))
    found.post("/c", answering("post"))
    with serving(found) as server, Raw.connect(server) as client:
        got = ask(client, "/a", "HEAD")
        assert (got.status, got.header["content-length"], got.body) == (200, "3", b"")
        assert ask(client, "/b", "HEAD").header["content-length"] == "12"
        got = ask(client, "/c", "HEAD")
        assert (got.status, got.header["allow"]) == (405, "OPTIONS, POST")
        assert ask(client, "/d", "HEAD").status == 404
        assert text(client, "/a") == "get"


def test_options() -> None:
    found = router()
    found.get("/a", answering("get"))
    found.get("/b", answering("get"))
    found.options("/b", answering("own"))
    found.post("/{x}", answering("post"))
    found.head("/h", answering("head"))
    with serving(found) as server, Raw.connect(server) as client:
        for path, allowed in (("/a", "GET, HEAD, OPTIONS, POST"), ("/c", "OPTIONS, POST"), ("/h", "HEAD, OPTIONS, POST")):
            got = ask(client, path, "OPTIONS")
            assert (got.status, got.header["allow"], got.body) == (204, allowed, b"")
        assert text(client, "/b", "OPTIONS") == "own"
        assert ask(client, "/x/y", "OPTIONS").status == 404
        got = ask(client, "*", "OPTIONS")
        assert (got.status, got.header["allow"]) == (204, "GET, HEAD, OPTIONS, POST")


def test_options_of_a_server_without_routes() -> None:
    with serving(router()) as server, Raw.connect(server) as client:
        assert ask(client, "*", "OPTIONS").header["allow"] == "OPTIONS"
        assert ask(client, "/", "OPTIONS").status == 404
        assert ask(client, "/").status == 404


def test_another_pattern_may_have_the_method() -> None:
    """The most specific that has a route for it."""
    found = router()
    found.post("/users/me", answering("post me"))
    found.get("/users/{id}", answering("get"))
    found.delete("/{path...}", answering("delete"))
    with serving(found) as server, Raw.connect(server) as client:
        assert text(client, "/users/me", "POST") == "post me"
        assert text(client, "/users/me") == "get|id='me'"
        assert text(client, "/users/me", "DELETE") == "delete|path='users/me'"
        assert ask(client, "/users/me", "PUT").header["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
        assert ask(client, "/users/5", "PUT").header["allow"] == "DELETE, GET, HEAD, OPTIONS"


def test_connect_and_trace() -> None:
    found = router()
    assert found.methods == frozenset()
    found.get("/a", answering("get"))
    assert not found.methods & {"CONNECT", "TRACE"}
    found.route("TRACE", "/a", answering("trace"))
    found.route("CONNECT", "/{target}", answering("connect"))
    assert found.methods == {"GET", "TRACE", "CONNECT"}
    found.route("PUT", "/a", answering("put"))
    assert "PUT" in found.methods
    with serving(found) as server, Raw.connect(server) as client:
        assert text(client, "/a", "TRACE") == "trace"
        assert ask(client, "/b", "TRACE").status == 405
    stream = Stream("example.com:443", "CONNECT")
    got = []
    tunnels = router()
    tunnels.route("CONNECT", "/{target}", lambda stream, target: got.append(target))
    tunnels(stream)  # type: ignore[arg-type]
    assert got == ["example.com:443"]


def test_trace_without_a_route(logs: Any) -> None:
    logs.expect("TRACE")
    with routed("/{path...}") as client:
        assert ask(client, "/a", "TRACE").status == 501


# ---- WebSocket ------------------------------------------------------------------------------------------------------


def echo(stream: Any, **parameters: str) -> None:
    sock, _ = websocket.upgrade(stream)
    if sock is not None:
        sock.write("|".join(parameters.values()) or "hello", "text")


def test_websocket_beside_others() -> None:
    found = router()
    assert found.websocket("/chat", echo) is echo
    found.get("/chat", answering("page"))
    found.websocket("/rooms/{room}", echo)
    found.post("/rooms/{room}", answering("post"))
    assert found.methods == {"GET", "POST"}
    with serving(found) as server:
        with Peer.connect(server) as peer:
            peer.send(peer.upgrade_request())
            assert peer.response().status == 101
            assert peer.get() == (FIN | TEXT, b"hello")
        with Peer.connect(server) as peer:
            peer.send(peer.upgrade_request().replace(b"/chat", b"/rooms/a%20b").replace(b"websocket", b"WebSocket"))
            assert peer.response().status == 101
            assert peer.get() == (FIN | TEXT, b"a b")
        with Raw.connect(server) as client:
            assert text(client, "/chat") == "page"
            assert ask(client, "/chat", "HEAD").status == 200
            assert ask(client, "/chat", "GET", "Upgrade: h2c", "Connection: upgrade").body == b"page"
            got = ask(client, "/rooms/x")
            assert (got.status, got.header["upgrade"], got.header["connection"]) == (426, "websocket", "upgrade")
            got = ask(client, "/rooms/x", "HEAD")
            assert (got.status, got.header["allow"]) == (405, "GET, OPTIONS, POST")
            assert ask(client, "/rooms/x", "DELETE").header["allow"] == "GET, OPTIONS, POST"
            assert ask(client, "/rooms/x", "OPTIONS").header["allow"] == "GET, OPTIONS, POST"
            assert text(client, "/rooms/x", "POST") == "post|room='x'"
            assert ask(client, "/none").status == 404


def test_an_upgrade_to_a_route_of_get() -> None:
    """A server may ignore Upgrade (RFC 9110, section 7.8)."""
    with routed("/chat") as client:
        assert ask(client, "/chat", "GET", "Upgrade: websocket", "Connection: upgrade").body == b"/chat"


def test_a_bad_upgrade_is_the_handler_s(logs: Any) -> None:
    logs.expect("upgrade refused: no 'upgrade' among the options of Connection")
    found = router()
    found.websocket("/chat", echo)
    with serving(found) as server:
        with Raw.connect(server) as client:
            assert ask(client, "/chat", "POST", "Upgrade: websocket", "Connection: upgrade", "Content-Length: 0").status == 405
        with Raw.connect(server) as client:
            assert ask(client, "/chat", "GET", "Upgrade: websocket").status == 426


def test_which_websocket() -> None:
    found = router()
    found.websocket("/{x}", answering("any socket"))
    found.get("/a", answering("page"))
    found.websocket("/b", answering("socket"))
    found.get("/{x}", answering("any page"))
    assert called(found, "/a", upgrade="websocket").body == "page"
    assert called(found, "/b", upgrade="websocket").status == 200
    got = {(path, upgrade): "" for path in ("/a", "/b", "/c") for upgrade in (None, "websocket", "h2c, websocket", "h2c")}
    with serving(found) as server:
        for path, upgrade in got:
            fields = () if upgrade is None else (f"Upgrade: {upgrade}", "Connection: upgrade")
            with Raw.connect(server) as client:
                got[path, upgrade] = ask(client, path, "GET", *fields).body.decode().split("|")[0]
    for upgrade, expected in (
        (None, ["page", "any page", "any page"]),
        ("h2c", ["page", "any page", "any page"]),
        ("websocket", ["page", "socket", "any socket"]),
        ("h2c, websocket", ["page", "socket", "any socket"]),
    ):
        assert [got[path, upgrade] for path in ("/a", "/b", "/c")] == expected


def test_a_method_is_never_taken_for_a_websocket_route() -> None:
    """``websocket`` is a token, so a request may have it for its method."""
    router = http.router()
    called = []

    @router.websocket("/chat")
    def chat(stream: Any) -> None:
        called.append(stream.method)

    with asking(router) as client:
        client.request("/chat", "websocket")
        response = client.response()
    assert response.status == 405
    assert not called


# ---- bad requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/%", "/a/%4", "/%zz", "/%ff", "/a/%C3/%A9", "/%C0%AF", "/%ED%A0%80"])
def test_bad_paths(path: str) -> None:
    with routed("/{path...}", methods="GET POST") as client:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
            assert ask(client, path, method).status == 400
        assert text(client, "/fine") == "/{path...}|path='fine'"


def test_a_body_that_nobody_reads() -> None:
    with routed("/a") as client:
        client.request("/none", "POST", "Content-Length: 5", body="hello")
        assert client.response().status == 404
        client.request("/a", "POST", "Transfer-Encoding: chunked", body="5\r\nhello\r\n0\r\n\r\n")
        assert client.response().status == 405
        assert text(client, "/a") == "/a"


def test_a_request_that_was_answered_before() -> None:
    found = router()

    def handler(stream: Any) -> None:
        answering("before")(stream)
        found(stream)

    with serving(handler) as server, Raw.connect(server) as client:
        assert [text(client, path) for path in ("/a", "/%", "/b")] == ["before"] * 3


def test_a_handler_that_raises(logs: Any) -> None:
    logs.expect("exception in the handler of GET /a")

    def handler(stream: Any) -> None:
        raise KeyError("x")

    found = router()
    found.get("/a", handler)
    with serving(found) as server, Raw.connect(server) as client:
        assert ask(client, "/a").status == 500


# ---- registering ----------------------------------------------------------------------------------------------------


def test_decorators() -> None:
    found = router()

    @found.get("/a")
    def one(stream: Any) -> None:
        stream.respond(200)
        stream.close("one")

    @found.route(["POST", "PUT"], "/a/{x}")
    @found.delete("/b/{x}")
    def two(stream: Any, x: str) -> None:
        stream.respond(200)
        stream.close(x)

    @found.websocket("/a")
    def three(stream: Any) -> None:
        pass

    assert [each.__name__ for each in (one, two, three)] == ["one", "two", "three"]
    with serving(found) as server, Raw.connect(server) as client:
        assert text(client, "/a") == "one"
        assert [text(client, "/a/5", method) for method in ("POST", "PUT")] == ["5", "5"]
        assert text(client, "/b/6", "DELETE") == "6"


BAD_PATTERNS = [
    "",
    "a",
    "users/{id}",
    "*",
    "//",
    "/a//b",
    "//a",
    "/{}",
    "/{...}",
    "/{a",
    "/a}",
    "/{a}b",
    "/a{b}",
    "/{a}{b}",
    "/{{a}}",
    "/{a.b}",
    "/{a b}",
    "/{1}",
    "/{a-b}",
    "/{class}",
    "/{a..}",
    "/{a....}",
    "/{...a}",
    "/{a...}b",
    "/{a...}/b",
    "/{a...}/",
    "/{a...}/{b...}",
    "/{a}/{a}",
    "/{a}/b/{a...}",
    "/{",
    "/}",
    "/}{",
]


@pytest.mark.parametrize("pattern", BAD_PATTERNS)
def test_bad_patterns(pattern: str) -> None:
    found = router()
    for handler in (answering("x"), None):
        with pytest.raises(ValueError, match="bad pattern"):
            found.get(pattern, handler)
        with pytest.raises(ValueError, match="bad pattern"):
            found.websocket(pattern, handler)
    assert found.methods == frozenset()
    assert called(found, "/a").status == 404


def test_bad_arguments() -> None:
    found = router()
    bad: Any
    for bad in (None, b"/a", 5):
        with pytest.raises(TypeError, match="a pattern is str"):
            found.get(bad, answering("x"))
    for bad in ("x", 5, object()):
        with pytest.raises(TypeError, match="a handler is a function"):
            found.get("/a", bad)
        with pytest.raises(TypeError, match="a handler is a function"):
            found.get("/a")(bad)
    with pytest.raises(TypeError, match="a handler is a function"):
        found.get("/a")(None)
    for bad in ("", "get", "GET POST", "G/T", "websocket", [], [""], ["GET", "post"], "ГЕТ"):
        with pytest.raises(ValueError, match="method"):
            found.route(bad, "/a", answering("x"))
    for bad in ([None], [b"GET"], 5):
        with pytest.raises(TypeError):
            found.route(bad, "/a", answering("x"))
    assert found.methods == frozenset()


@pytest.mark.parametrize(
    ("first", "second"),
    [("/a", "/a"), ("/{x}", "/{y}"), ("/a/{x}/b", "/a/{y}/b"), ("/{x...}", "/{y...}"), ("/a/{x...}", "/a/{x...}"), ("/", "/")],
)
def test_two_routes_of_one_shape(first: str, second: str) -> None:
    found = router()
    found.get(first, answering("first"))
    with pytest.raises(ValueError, match="two routes for GET"):
        found.get(second, answering("second"))
    with pytest.raises(ValueError, match="two routes for GET"):
        found.route(["PUT", "GET"], second, answering("second"))
    with pytest.raises(ValueError, match="two routes for DELETE"):
        found.route(["DELETE", "DELETE"], second, answering("second"))
    assert found.methods == {"GET"}  # nothing of what was refused is there
    found.websocket(second, answering("socket"))
    with pytest.raises(ValueError, match="two routes for websocket"):
        found.websocket(first, answering("socket"))
    found.post(second, answering("post"))


@pytest.mark.parametrize(
    ("first", "second"), [("/a", "/a/"), ("/{x}", "/{x...}"), ("/{x}", "/a"), ("/a/{x}", "/a/"), ("/", "/{x...}")]
)
def test_shapes_that_differ(first: str, second: str) -> None:
    found = router()
    found.get(first, answering("first"))
    found.get(second, answering("second"))


def test_routes_may_come_later() -> None:
    found = router()
    with serving(found) as server, Raw.connect(server) as client:
        assert text(client, "/a") == 404
        found.get("/a", answering("a"))
        assert text(client, "/a") == "a"


# ---- the tree -------------------------------------------------------------------------------------------------------


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The nodes of the tree that a lookup comes to."""
    nodes: list[Any] = []
    real = _Node.matches

    def matches(node: Any, *args: Any) -> Any:
        nodes.append(node)
        return real(node, *args)

    monkeypatch.setattr(_Node, "matches", matches)
    return nodes


def test_the_number_of_routes_makes_no_difference(looked_at: list[Any]) -> None:
    found = router()
    for number in range(1000):
        found.get(f"/static/{number}/x", answering("x"))
        found.get(f"/{number}", answering("x"))
    for path, status, nodes in (("/static/999/x", 200, 4), ("/static/no/x", 404, 2), ("/" + "x/" * 4000, 404, 1)):
        looked_at.clear()
        assert called(found, path).status == status
        assert len(looked_at) == nodes


def test_a_tree_of_choices_is_walked_once(looked_at: list[Any]) -> None:
    """At each depth both ways are open, and none leads to the end: no node is looked at twice."""
    found = router()
    for bits in range(256):
        found.get("/".join(["", *("a" if bits >> at & 1 else f"{{p{at}}}" for at in range(8)), "end"]), answering("x"))
    assert called(found, "/a" * 8 + "/no").status == 404
    assert len(looked_at) == len(set(looked_at)) == 2**9 - 1


SEGMENTS = st.sampled_from(["a", "b", "", "{x}", "{y}", "{z...}"])
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


def fits(pattern: str, path: list[str]) -> tuple[int, ...] | None:
    """How specific the fit is, segment by segment; None for none. Written without a tree."""
    parts = pattern.split("/")[1:]
    kinds = []
    for number, part in enumerate(parts):
        if part.endswith("...}"):
            return (*kinds, 2) if len(path) > number else None
        if number >= len(path):
            return None
        if part.startswith("{"):
            if not path[number]:
                return None
            kinds.append(1)
        elif part == path[number]:
            kinds.append(0)
        else:
            return None
    return tuple(kinds) if len(path) == len(parts) else None


@STEADY
@given(st.lists(PATTERNS, max_size=8), st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=4))
def test_it_finds_what_a_search_through_all_finds(patterns: list[str], path: list[str]) -> None:
    found = router()
    known: dict[tuple[int, ...], str] = {}
    got = []
    for pattern in patterns:
        try:
            found.get(pattern, lambda stream, pattern=pattern, **parameters: got.append((pattern, parameters)))
        except ValueError:
            continue
        fit = fits(pattern, path)
        if fit is not None:
            assert fit not in known
            known[fit] = pattern
    stream = called(found, "/" + "/".join(quote(part, safe="") for part in path))
    if not known:
        assert (stream.status, got) == (404, [])
        return
    (pattern, parameters), *more = got
    assert not more
    assert pattern == known[min(known)]
    values = iter(parameters.values())
    rebuilt = [next(values) if part.startswith("{") else part for part in pattern.split("/")[1:]]
    assert "/".join(rebuilt) == "/".join(path)
