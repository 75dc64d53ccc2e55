"""Routes (upstream has none): ``http.router`` gives requests to handlers by method and path.

    router = http.router()

    @router.get("/users/{id}")
    def user(stream, id):
        stream.respond(200)
        stream.close(f"user {id}")

    router.get("/files/{path...}", lambda stream, path: ...)
    router.websocket("/chat", chat)
    server, err = http.listen(addr=":8080", handler=router)

Patterns and paths are compared segment by segment, those of a path percent-decoded. ``{name}`` stands for one segment that is
not empty, ``{name...}`` at a pattern's end for any rest. Where several patterns fit, the first segment in which they differ
decides: text before ``{name}`` before ``{name...}``. In what order they were registered makes no difference.

The routes are a tree, so that a lookup takes as long as the path is deep, however many routes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from keyword import iskeyword
from typing import Any, NamedTuple, TypeVar, overload

from ..._wire.error import ProtocolError
from ..._wire.header import TOKEN, tokens
from ..._wire.path import segments
from .h1 import ServerStream

RouteHandler = Callable[..., Any]
"""Called with the stream, and with the pattern's parameters by name."""

H = TypeVar("H", bound=RouteHandler)

_WEBSOCKET = "websocket upgrade"
"""Stands for a method beside the others. It is no token, so no request can have it for its method."""


class _Route(NamedTuple):
    handler: RouteHandler
    names: list[str]


_Found = tuple[dict[str, _Route], tuple[str, ...]]
"""Routes by method, and the values of their parameters."""


class _Node:
    """What may follow some first segments of a path."""

    __slots__ = ("literals", "parameter", "rest", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, _Route] = {}
        """The routes, by method, of the path that ends here."""
        self.rest: dict[str, _Route] = {}
        """Those of any path that goes on."""

    def matches(self, path: list[str], at: int, values: tuple[str, ...] = ()) -> Iterator[_Found]:
        """What fits ``path`` from ``at`` on, the most specific first; ``values`` are those of the parameters before.

        A node is looked at once at most, since but one sequence of segments leads to it.
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
    """Routes requests; the handler to give to ``http.listen``. ``http.router()`` makes one.

    A path that no pattern fits is answered 404, one with patterns for other methods only 405 with Allow. HEAD is served by
    the route of GET, and OPTIONS answered with Allow, where they have no route of their own. A bad percent-escape, and what
    isn't UTF-8, is answered 400.

    A parameter is what the peer sent, decoded: it may hold "/" and control characters, or be "..". For files use
    ``http.sendfile``.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self._methods: set[str] = set()

    @property
    def methods(self) -> frozenset[str]:
        """The methods that have routes. A WebSocket's is GET."""
        return frozenset("GET" if method == _WEBSOCKET else method for method in self._methods)

    # ---- registering --------------------------------------------------------------------------------------------

    @overload
    def route(self, methods: str | Sequence[str], pattern: str, handler: H) -> H: ...
    @overload
    def route(self, methods: str | Sequence[str], pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def route(self, methods: str | Sequence[str], pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """Gives requests of ``methods`` (one, or several) whose path fits ``pattern`` to ``handler(stream, **parameters)``.

        Returns the handler; without one, a decorator for it. The target of a CONNECT counts as a path of one segment,
        ``/{target}``. Raises ValueError for a bad pattern or method, and when a pattern of the same shape has a route for the
        method already.
        """
        several = (methods,) if isinstance(methods, str) else tuple(methods)
        if not several:
            raise ValueError("a route needs a method")
        for method in several:
            if not isinstance(method, str):
                raise TypeError(f"a method is str, not {type(method).__name__}")
            if not TOKEN.fullmatch(method) or method != method.upper():
                raise ValueError(f"bad method {method!r}: methods are tokens, here in upper case")
        return self._add(several, pattern, handler)

    @overload
    def get(self, pattern: str, handler: H) -> H: ...
    @overload
    def get(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def get(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """``route`` for GET, and for HEAD where that has no route."""
        return self._add(("GET",), pattern, handler)

    @overload
    def head(self, pattern: str, handler: H) -> H: ...
    @overload
    def head(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def head(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """``route`` for HEAD."""
        return self._add(("HEAD",), pattern, handler)

    @overload
    def post(self, pattern: str, handler: H) -> H: ...
    @overload
    def post(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def post(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """``route`` for POST."""
        return self._add(("POST",), pattern, handler)

    @overload
    def put(self, pattern: str, handler: H) -> H: ...
    @overload
    def put(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def put(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """``route`` for PUT."""
        return self._add(("PUT",), pattern, handler)

    @overload
    def patch(self, pattern: str, handler: H) -> H: ...
    @overload
    def patch(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def patch(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """``route`` for PATCH."""
        return self._add(("PATCH",), pattern, handler)

    @overload
    def delete(self, pattern: str, handler: H) -> H: ...
    @overload
    def delete(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def delete(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """``route`` for DELETE."""
        return self._add(("DELETE",), pattern, handler)

    @overload
    def options(self, pattern: str, handler: H) -> H: ...
    @overload
    def options(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def options(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """``route`` for OPTIONS."""
        return self._add(("OPTIONS",), pattern, handler)

    @overload
    def websocket(self, pattern: str, handler: H) -> H: ...
    @overload
    def websocket(self, pattern: str, handler: None = None) -> Callable[[H], H]: ...
    def websocket(self, pattern: str, handler: RouteHandler | None = None) -> RouteHandler:
        """``route`` for GET requests that ask for ``Upgrade: websocket``; the handler upgrades.

        Other GET requests need a route of their own, also of the same pattern; without one they are answered 426.
        """
        return self._add((_WEBSOCKET,), pattern, handler)

    def _add(self, methods: tuple[str, ...], pattern: str, handler: RouteHandler | None) -> RouteHandler:
        parts = _parse(pattern)
        if handler is None:
            return lambda decorated: self._add(methods, pattern, _callable(decorated))
        _callable(handler)
        node = self._root
        for kind, text in parts:
            if kind == "literal":
                node = node.literals.setdefault(text, _Node())
            elif kind == "parameter":
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
        routes = node.rest if parts[-1][0] == "rest" else node.routes
        names = [text for kind, text in parts if kind != "literal"]
        for number, method in enumerate(methods):
            if method in routes or method in methods[:number]:
                raise ValueError(f"two routes for {method} with the shape of {pattern!r}")
        routes.update((method, _Route(handler, names)) for method in methods)
        self._methods.update(methods)
        return handler

    # ---- serving ------------------------------------------------------------------------------------------------

    def __call__(self, stream: ServerStream) -> None:
        """Serves a request."""
        method = stream.method
        if stream.path == "*":
            # RFC 9110, section 9.3.7: of the server as a whole.
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
                    route.handler(stream, **dict(zip(route.names, values, strict=True)))
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
    """A new ``Router`` without routes."""
    return Router()


def _allow(methods: set[str]) -> str:
    """The Allow field for what has routes."""
    allowed = {"GET" if method == _WEBSOCKET else method for method in methods} | {"OPTIONS"}
    if "GET" in methods:
        allowed.add("HEAD")
    return ", ".join(sorted(allowed))


def _parse(pattern: str) -> list[tuple[str, str]]:
    """The segments of a pattern: each its kind (``literal``, ``parameter`` or ``rest``) and its text or name."""
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern is str, not {type(pattern).__name__}")
    if not pattern.startswith("/"):
        raise ValueError(f"bad pattern {pattern!r}: it starts with '/'")
    *inner, last = pattern.split("/")[1:]
    if "" in inner:
        raise ValueError(f"bad pattern {pattern!r}: only its last segment can be empty")
    parts = []
    names: set[str] = set()
    for segment in (*inner, last):
        if "{" not in segment and "}" not in segment:
            parts.append(("literal", segment))
            continue
        name = segment[1:-1]
        kind = "rest" if name.endswith("...") else "parameter"
        name = name.removesuffix("...")
        if segment != (f"{{{name}...}}" if kind == "rest" else f"{{{name}}}") or not name.isidentifier() or iskeyword(name):
            raise ValueError(f"bad pattern {pattern!r}: {segment!r} is no parameter")
        if name in names:
            raise ValueError(f"bad pattern {pattern!r}: two parameters {name!r}")
        names.add(name)
        parts.append((kind, name))
    if any(kind == "rest" for kind, _ in parts[:-1]):
        raise ValueError(f"bad pattern {pattern!r}: '...' comes last")
    return parts


def _callable(handler: RouteHandler) -> RouteHandler:
    if not callable(handler):
        raise TypeError(f"a handler is a function, not {type(handler).__name__}")
    return handler
