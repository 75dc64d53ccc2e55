"""A handler that can't serve is refused when it is given to a listener or a router: not by a 500 for each request, for ever."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from silly.net import http, tcp, tls

from ..helpers import asking
from . import authorities

# ---- what can't be called is refused when it is given ----------------------------------------------------------------


def user(stream: Any, id: str) -> None:
    stream.answer(200, f"user {id}")


async def asynchronous(stream: Any, **names: str) -> None:
    raise AssertionError("it never runs")


async def asynchronous_pieces(stream: Any, **names: str) -> Any:
    yield b"never"


def generator(stream: Any, **names: str) -> Iterator[bytes]:
    yield b"never"


class View:
    """Methods and instances that are handlers."""

    def __init__(self, *args: Any, **names: Any) -> None:
        if args:
            args[0].answer(200, str(names))

    def method(self, stream: Any, id: str) -> None:
        stream.answer(200, id)

    def any(self, stream: Any, **names: str) -> None:
        stream.answer(200, str(names))

    def __call__(self, stream: Any, id: str) -> None:
        stream.answer(200, id)

    async def asynchronous(self, stream: Any) -> None:
        raise AssertionError("it never runs")


class Small:
    def __init__(self, stream: Any) -> None:
        stream.answer(200)


class Asynchronous:
    async def __call__(self, stream: Any) -> None:
        raise AssertionError("it never runs")


@pytest.mark.parametrize("handler", [lambda stream: None, lambda stream, **names: None, lambda stream, stream_: None])
def test_a_route_parameter_named_stream_is_refused_when_it_is_registered(handler: Any) -> None:
    router = http.router()
    with pytest.raises(ValueError, match=r"the route '/\{stream\}': .* called as .*\(stream, stream=…\)"):
        router.get("/{stream}", handler)
    with pytest.raises(ValueError, match="Its parameter 'stream' is the stream: give the pattern's parameter another name"):
        router.get("/{stream}")(lambda stream, **names: None)
    assert router.methods == frozenset()


REFUSED = {
    # name: the pattern, the handler, the error, and a part of its text
    "first parameter": ("/{request}", lambda request, **names: 0, ValueError, "give the pattern's parameter another name"),
    "another name": ("/{user_id}", user, ValueError, r"as user\(stream, user_id=…\), but is defined as user\(stream, id\)"),
    "too few": ("/{id}/{part}", user, ValueError, "unexpected keyword argument 'part'"),
    "too many": ("/", user, ValueError, "missing a required argument: 'id'"),
    "no parameter": ("/users/<id>", user, ValueError, "only the stream, and what the pattern of a route names as {name}"),
    "no stream": ("/", lambda: 0, ValueError, "too many positional"),
    "only the parameter": ("/{id}", lambda id: 0, ValueError, "another name"),
    "positional only": ("/{id}", eval("lambda stream, id, /: 0"), ValueError, "'id'"),
    "method": ("/{name}", View().method, ValueError, r"View.method\(stream, id\)"),
    "self": ("/{self}", View().any, ValueError, "multiple values for argument 'self'"),
    "instance": ("/{name}", View(), ValueError, r"View.__call__\(stream, id\)"),
    "class": ("/{id}", Small, ValueError, "unexpected keyword argument 'id'"),
    "partial": ("/{name}", functools.partial(user, id="5"), ValueError, "unexpected keyword argument 'name'"),
    "async": ("/", asynchronous, TypeError, "asynchronous is an async function, which never runs here: write def"),
    "async generator": ("/", asynchronous_pieces, TypeError, "is an async function"),
    "async method": ("/", View().asynchronous, TypeError, "is an async function"),
    "async instance": ("/", Asynchronous(), TypeError, "is an async function"),
    "async partial": ("/", functools.partial(asynchronous, id=5), TypeError, "is an async function"),
    "generator": ("/", generator, TypeError, "generator has a yield, so a call of it would run nothing"),
    "no function": ("/", 5, TypeError, "a handler is a function, not int"),
    "result": ("/", "handler", TypeError, "a handler is a function, not str"),
    "keyword": ("/{class}", user, ValueError, "'class' is a keyword of Python: choose another name"),
    "no name": ("/{user-id}", user, ValueError, "'user-id' is not a name in Python: choose another name"),
    "empty name": ("/{}", user, ValueError, "'' is not a name in Python"),
    "duplicate": ("/{id}/{id}", user, ValueError, "two parameters are named 'id': rename one"),
    "part of a segment": ("/user-{id}", user, ValueError, "a parameter is a whole segment, such as {name}"),
    "no pattern": (user, user, TypeError, "a pattern is str, such as '/users/{id}', not function"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_answer_500_for_ever_is_refused(name: str) -> None:
    pattern, handler, kind, text = REFUSED[name]
    router = http.router()
    for register in (
        router.get,
        router.post,
        router.websocket,
        lambda pattern, handler: router.route(["GET", "PUT"], pattern, handler),
        lambda pattern, handler: router.get(pattern)(handler),
    ):
        with pytest.raises(kind, match=text if "{name}" not in text else None):
            register(pattern, handler)
    assert router.methods == frozenset()


@pytest.mark.parametrize("methods", [None, 5, "get", "G ET", "GET, POST", b"GET", [None], [], ["GET", "get"]])
def test_methods_that_no_request_has(methods: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="method"):
        http.router().route(methods, "/", lambda stream: None)
    if methods and not isinstance(methods, (int, str)):
        with pytest.raises((TypeError, ValueError), match="method"):
            http.listen(addr="127.0.0.1:0", handler=lambda stream: None, methods=methods)


def wrapped(func: Any) -> Any:
    """A decorator as everybody writes it: the function that it wraps takes another argument."""

    @functools.wraps(func)
    def wrapper(stream: Any, **names: str) -> None:
        func(stream, names.get("id", ""), "more")

    return wrapper


@wrapped
def decorated(stream: Any, id: str, more: str) -> None:
    stream.answer(200, id + more)


def claims(stream: Any, **names: str) -> None:
    stream.answer(200, str(names))


claims.__signature__ = "none"  # type: ignore[attr-defined]


class StaticCall:
    @staticmethod
    def __call__(stream: Any, id: str) -> None:
        stream.answer(200, id)


class ObjectCall:
    __call__ = View()


class OwnCall:
    """What an object has itself is not what a call runs."""

    def __init__(self) -> None:
        self.__call__ = View().asynchronous

    def __call__(self, stream: Any, id: str) -> None:  # type: ignore[no-redef]
        stream.answer(200, id)


class ClassWithCall:
    """Called, the class makes an object, and does not run its ``__call__``."""

    def __init__(self, stream: Any, id: str) -> None:
        stream.answer(200, id)

    @classmethod
    def __call__(cls, one: Any, two: Any, three: Any) -> None:
        raise AssertionError("it never runs")


class Bound:
    """A descriptor, as decorators of methods are."""

    def __get__(self, instance: object, owner: type) -> Any:
        return functools.partial(user)


class DescribedCall:
    __call__ = Bound()


class Unspeakable:
    @property
    def __signature__(self) -> Any:
        raise NameError("name 'ServerStream' is not defined")  # as of annotations in Python 3.14

    def __call__(self, stream: Any, id: str) -> None:
        stream.answer(200, id)


@wrapped
@functools.wraps(asynchronous)
def marked(stream: Any, id: str, more: str) -> None:
    stream.answer(200, id + more)


if hasattr(inspect, "markcoroutinefunction"):  # Python 3.12; ``functools.wraps`` copies the mark
    inspect.markcoroutinefunction(marked)


def calls_user(stream: Any, id: str) -> None:
    user(stream, id)


@pytest.mark.parametrize(
    "handler",
    [
        user,
        StaticCall(),
        functools.partial(StaticCall()),
        ObjectCall(),
        OwnCall(),
        ClassWithCall,
        DescribedCall(),
        Unspeakable(),
        marked,
        mock.Mock(side_effect=user),
        mock.Mock(spec=user, side_effect=user),
        mock.create_autospec(calls_user, side_effect=user),
        functools.singledispatch(calls_user),
        types.MethodType(lambda own, stream, id: user(stream, id), 5),
        View().method,
        View().any,
        View(),
        View,
        functools.partial(user),
        functools.partial(lambda first, stream, id: stream.answer(200, id), 1),
        functools.lru_cache(lambda stream, id: user(stream, id)),
        decorated,
        claims,
        lambda *args, **names: args[0].answer(200),
        lambda stream, id, more=5: stream.answer(200),
        lambda stream, *, id: stream.answer(200),
    ],
)
def test_what_can_be_called_is_taken(handler: Any) -> None:
    router = http.router()
    assert router.get("/{id}", handler) is handler
    with asking(router) as client:
        client.request("/7")
        assert client.response().status == 200


def test_names_of_a_callable_written_in_c_cannot_be_told() -> None:
    http.router().get("/{id}", {}.update)
    http.router().get("/{id}", type)


@pytest.mark.parametrize(
    ("handler", "kind", "text"),
    [
        (lambda: None, ValueError, "but is defined as .*: too many positional arguments. It gets only the (stream|conn)"),
        (user, ValueError, "missing a required argument: 'id'"),
        (asynchronous, TypeError, "asynchronous is an async function"),
        (generator, TypeError, "generator has a yield"),
        (5, TypeError, "a function that gets the (stream|connection)"),
    ],
)
def test_listeners_refuse_what_can_not_serve(handler: Any, kind: type[Exception], text: str) -> None:
    certs = [authorities.server().entry]
    listens: list[Callable[[], Any]] = [
        lambda: http.listen(addr="127.0.0.1:0", handler=handler),
        lambda: http.listen(addr="127.0.0.1:0", handler=handler, certs=certs),
        lambda: tcp.listen(addr="127.0.0.1:0", accept=handler),
        lambda: tls.listen(addr="127.0.0.1:0", accept=handler, certs=certs),
    ]
    for listen in listens:
        with pytest.raises(kind, match=text):
            listen()
