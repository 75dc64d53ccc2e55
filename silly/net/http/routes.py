"""Routes: ``http.router`` gives requests to handlers by method and path.

    router = http.router()

    @router.get("/users/{id}")
    def user(stream, id):
        stream.respond(200)
        stream.closewrite(f"user {id}")

    router.get("/echo/{path...}", lambda stream, path: stream.answer(200, path))
    server, err = http.listen(addr=":8080", handler=router)

A pattern is compared with the percent-decoded path, segment by segment. ``{name}``
matches one segment that is not empty; ``{name...}`` at the end of a pattern matches the
rest of the path, which may be empty. If several patterns match, the first segment in
which they differ decides: text wins over ``{name}``, and ``{name}`` over ``{name...}``.
The order of registration does not matter.

The routes form a tree, so the time of a lookup depends on the depth of the path, not on
the number of routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from keyword import iskeyword
from typing import Any, NamedTuple, TypeVar, overload

from ..._core.result import OK
from ..._shown import shown
from ..._wire.error import ProtocolError
from ..._wire.header import TOKEN, tokens
from ..._wire.path import segments
from .._handler import check_handler, check_runs
from . import _health
from .h1 import ServerStream

RouteHandler = Callable[..., Any]
"""Called with the stream, and with the pattern's parameters by name."""

H = TypeVar("H", bound=RouteHandler)

_WEBSOCKET = "websocket upgrade"
"""Stored like a method. It is not a token, so no request has it for its method."""


class _Route(NamedTuple):
    handler: RouteHandler
    names: list[str]


_Found = tuple[dict[str, _Route], tuple[str, ...]]
"""Routes by method, and the values of the pattern's parameters."""


class _Node:
    """A node of the tree: what may follow certain first segments of a path."""

    __slots__ = ("literals", "parameter", "rest", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, _Route] = {}
        """By method: the routes of a path that ends here."""
        self.rest: dict[str, _Route] = {}
        """By method: the routes of any path that goes on."""

    def matches(self, path: list[str], at: int, values: tuple[str, ...] = ()) -> Iterator[_Found]:
        """Yields what matches ``path`` from segment ``at`` on, the most specific first.
        ``values`` are those of the parameters before it.

        Visits each node at most once, since only one sequence of segments leads to it.
        """
        if at == len(path):
            yield self.routes, values
            return
        segment = path[at]
        literal = self.literals.get(segment)
        if literal is not None:
            yield from literal.matches(path, at + 1, values)
        if self.parameter is not None and segment:
            yield from self.parameter.matches(path, at + 1, (*values, segment))
        if self.rest:
            yield self.rest, (*values, "/".join(path[at:]))


class Router:
    """Gives requests to handlers by method and path. ``http.router()`` makes one, and
    ``http.listen`` takes it as its handler.

        router = http.router()
        router.get("/", lambda stream: stream.answer(200, "Hello"))
        server, err = http.listen(addr="127.0.0.1:0", handler=router)

    If no pattern matches the path, the answer is 404. If the patterns that match have
    routes for other methods only, it is 405 with Allow. Without a route of its own,
    HEAD is served by the route of GET, and OPTIONS is answered with Allow. A path with
    a bad percent-escape, or one that is not UTF-8, is answered 400.

    A parameter is what the peer sent, decoded: it may contain "/" and control
    characters, or be "..". Do not make a file name of it: ``http.sendfile`` serves
    files.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self._methods: set[str] = set()

    @property
    def methods(self) -> frozenset[str]:
        """The methods that have routes. For a WebSocket route that is GET."""
        return frozenset("GET" if method == _WEBSOCKET else method for method in self._methods)

    # ---- registering -----------------------------------------------------------------

    @overload
    def route(self, methods: str | Sequence[str], pattern: str, handler: H) -> H: ...
    @overload
    def route(self, methods: str | Sequence[str], pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def route(self, methods: str | Sequence[str], pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route: a request with one of ``methods`` whose path matches
        ``pattern`` calls ``handler(stream, **parameters)``.

            @router.route(["PUT", "PATCH"], "/users/{id}")
            def change(stream, id):
                stream.answer(200, f"changed {id}")

        ``methods``: a str or a sequence of them, in upper case. Returns ``handler``;
        without one, a decorator that registers the function and returns it. The target
        of a CONNECT counts as a path of one segment, ``/{target}``. Raises ValueError
        for a bad pattern or method, if a pattern of the same shape (``/{id}`` and
        ``/{name}``) already has a route for the method, and if the handler doesn't take
        the stream and the names in the pattern. Raises TypeError for a handler that
        can't be called, or is an ``async def`` or a generator function.
        """
        try:
            several = (methods,) if isinstance(methods, str) else tuple(methods)
        except TypeError:
            raise TypeError(f"a route has a method or several, not {type(methods).__name__}") from None
        if not several:
            raise ValueError("a route needs a method")
        for method in several:
            if not isinstance(method, str):
                raise TypeError(f"a method is str, not {type(method).__name__}")
            if not TOKEN.fullmatch(method) or method != method.upper():
                raise ValueError(f"bad method {shown(method)}: methods are tokens in upper case")
        return self._add(several, pattern, handler)

    @overload
    def get(self, pattern: str, handler: H) -> H: ...
    @overload
    def get(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def get(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route for GET, like ``route``.

            @router.get("/users/{id}")
            def user(stream, id):
                stream.answer(200, f"user {id}")

        It serves HEAD too, unless the pattern has a route for HEAD.
        """
        return self._add(("GET",), pattern, handler)

    @overload
    def head(self, pattern: str, handler: H) -> H: ...
    @overload
    def head(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def head(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route for HEAD, like ``route``."""
        return self._add(("HEAD",), pattern, handler)

    @overload
    def post(self, pattern: str, handler: H) -> H: ...
    @overload
    def post(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def post(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route for POST, like ``route``.

            @router.post("/users")
            def create(stream):
                body, err = stream.readall()
                if body is not None:
                    stream.answer(201, "created")

        Returns the handler, or without one a decorator.
        """
        return self._add(("POST",), pattern, handler)

    @overload
    def put(self, pattern: str, handler: H) -> H: ...
    @overload
    def put(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def put(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route for PUT, like ``route``."""
        return self._add(("PUT",), pattern, handler)

    @overload
    def patch(self, pattern: str, handler: H) -> H: ...
    @overload
    def patch(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def patch(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route for PATCH, like ``route``."""
        return self._add(("PATCH",), pattern, handler)

    @overload
    def delete(self, pattern: str, handler: H) -> H: ...
    @overload
    def delete(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def delete(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route for DELETE, like ``route``."""
        return self._add(("DELETE",), pattern, handler)

    @overload
    def options(self, pattern: str, handler: H) -> H: ...
    @overload
    def options(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def options(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route for OPTIONS, like ``route``."""
        return self._add(("OPTIONS",), pattern, handler)

    @overload
    def websocket(self, pattern: str, handler: H) -> H: ...
    @overload
    def websocket(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def websocket(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Adds a route for GET requests with ``Upgrade: websocket``, like ``route``.
        The handler calls ``websocket.upgrade``.

            @router.websocket("/chat")
            def chat(stream):
                sock, err = websocket.upgrade(stream)
                if sock is not None:
                    sock.write("welcome", "text")

        Other GET requests need a route of their own, which may have the same pattern;
        without one they are answered 426.
        """
        return self._add((_WEBSOCKET,), pattern, handler)

    def health(
        self, alive: str | None = "/healthz", ready: str | None = "/readyz", check: Callable[[], object] | None = None
    ) -> None:
        """Adds two routes for GET and HEAD, for what starts, watches or balances this
        process.

            router.health(check=lambda: None if len(router.methods) else "no routes")

        * ``alive``: answers 200 as long as the loop turns. If not, restart the process.
        * ``ready``: answers 503 as soon as the process, or a server of it, has given
          notice or drains (``server.drain``), and if ``check()`` finds something. Else
          200. If not, send requests elsewhere.
        * ``check``: may wait, for 5 s at most. None, a true value or a pair without an
          error is good. False, a text or an error is not; peers see the text. What it
          raises is logged, and not shown.

        A path of None adds no route. Raises TypeError for a check that can't be called,
        and otherwise as ``route``.
        """
        if check is not None:
            check_runs("router.health: check", check)
        if alive is not None:
            self.get(alive, _health.alive)
        if ready is not None:
            self.get(ready, _health.Ready(check))

    def _add(self, methods: tuple[str, ...], pattern: str, handler: RouteHandler | None) -> RouteHandler:
        parts = _parse(pattern)
        if handler is None:
            return lambda decorated: self._add(methods, pattern, _callable(decorated))
        names = [text for kind, text in parts if kind != "literal"]
        check_handler(f"the route {shown(pattern)}", _callable(handler), "stream", names)
        node = self._root
        for kind, text in parts:
            if kind == "literal":
                node = node.literals.setdefault(text, _Node())
            elif kind == "parameter":
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
        routes = node.rest if parts[-1][0] == "rest" else node.routes
        for number, method in enumerate(methods):
            if method in routes or method in methods[:number]:
                raise ValueError(f"two routes for {method} with the shape of {shown(pattern)}")
        routes.update((method, _Route(handler, names)) for method in methods)
        self._methods.update(methods)
        return handler

    # ---- serving ---------------------------------------------------------------------

    def __call__(self, stream: ServerStream) -> None:
        """Serves a request: calls its handler, or answers 404, 405 and so on."""
        method = stream.method
        if stream.path == "*":
            # RFC 9110, section 9.3.7: the request is about the server as a whole.
            stream.answer(204, "", {"allow": _allow(self._methods)})
            return
        try:
            path = segments(stream.path if stream.path.startswith("/") else "/" + stream.path)
        except ProtocolError as exc:
            stream.answer(exc.code, exc.answer)
            return
        wanted = [method, "GET"] if method == "HEAD" else [method]
        if method == "GET" and "websocket" in tokens(stream.header["upgrade"]):
            wanted.insert(0, _WEBSOCKET)
        allowed: set[str] = set()
        for routes, values in self._root.matches(path, 0):
            for each in wanted:
                route = routes.get(each)
                if route is not None:
                    value = route.handler(stream, **dict(zip(route.names, values, strict=True)))
                    if value is not None and value is not OK:
                        stream._returned(route.handler, value)
                    return
            allowed.update(routes)
        if not allowed:
            stream.answer(404, "Not Found")
        elif method == "OPTIONS":
            stream.answer(204, "", {"allow": _allow(allowed)})
        elif method == "GET" and _WEBSOCKET in allowed:
            stream.answer(426, "Upgrade Required", {"upgrade": "websocket", "connection": "upgrade"})
        else:
            stream.answer(405, "Method Not Allowed", {"allow": _allow(allowed)})


def router() -> Router:
    """Returns a new ``Router`` without routes.

        router = http.router()
        router.get("/users/{id}", lambda stream, id: stream.answer(200, f"user {id}"))
        server, err = http.listen(addr="127.0.0.1:0", handler=router)

    Its methods add routes; ``http.listen`` takes it as the handler.
    """
    return Router()


def _allow(methods: set[str]) -> str:
    """The value of Allow for methods that have routes."""
    allowed = {"GET" if method == _WEBSOCKET else method for method in methods} | {"OPTIONS"}
    if "GET" in methods:
        allowed.add("HEAD")
    return ", ".join(sorted(allowed))


def _parse(pattern: str) -> list[tuple[str, str]]:
    """Splits a pattern into segments: pairs of a kind (``literal``, ``parameter`` or
    ``rest``) and a text or name."""
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern is str, such as '/users/{{id}}', not {type(pattern).__name__}")
    if not pattern.startswith("/"):
        raise ValueError(f"bad pattern {shown(pattern)}: it must start with '/'")
    *inner, last = pattern.split("/")[1:]
    if "" in inner:
        raise ValueError(f"bad pattern {shown(pattern)}: only its last segment can be empty")
    parts = []
    names: set[str] = set()
    for segment in (*inner, last):
        if "{" not in segment and "}" not in segment:
            parts.append(("literal", segment))
            continue
        name = segment[1:-1]
        kind = "rest" if name.endswith("...") else "parameter"
        name = name.removesuffix("...")
        bad = f"bad pattern {shown(pattern)}: {shown(segment)} is not a parameter"
        if segment != (f"{{{name}...}}" if kind == "rest" else f"{{{name}}}"):
            raise ValueError(f"{bad}: a parameter is a whole segment, such as {{name}}")
        if not name.isidentifier() or iskeyword(name):
            why = "is a keyword of Python" if iskeyword(name) else "is not a name in Python"
            raise ValueError(f"{bad}: {shown(name)} {why}: choose another name")
        if name in names:
            raise ValueError(f"bad pattern {shown(pattern)}: two parameters are named {shown(name)}: rename one")
        names.add(name)
        parts.append((kind, name))
    if any(kind == "rest" for kind, _ in parts[:-1]):
        raise ValueError(f"bad pattern {shown(pattern)}: '...' must come last")
    return parts


def _callable(handler: RouteHandler) -> RouteHandler:
    if not callable(handler):
        raise TypeError(f"a handler is a function, not {type(handler).__name__}")
    return handler
