"""``silly._shown``: how values are shown in log lines and errors; and that what may be long or secret is shown by it."""

from __future__ import annotations

import ast
import functools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import silly
from silly import _ends, errno, logger, task, testing, time
from silly._shown import MOST, name_of, said, shown
from silly._wire import header
from silly.net import http, tcp, tls, websocket

from .net import authorities
from .net.support import until

BIG = 2_000_000
LIMIT = 3 * MOST
"""Characters that no error is longer than: the value, and some words."""


class Raises:
    """Raises whatever is asked of it."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.__dict__["kind"] = kind

    def __getattr__(self, name: str) -> Any:
        raise self.__dict__["kind"]("no")

    def __repr__(self) -> str:
        raise self.__dict__["kind"]("no")

    def __call__(self, *_: Any) -> None:
        raise ValueError


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__"):
            raise ZeroDivisionError
        return type.__getattribute__(cls, name)


class Hidden(metaclass=Meta):
    """Not even the name of its type can be asked for in the usual way."""

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __call__(self, *_: Any) -> None:
        raise ValueError


class Odd(BaseException):
    """Neither an Exception nor an end."""


# ---- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["", "text", "'\n", b"x", bytearray(b"x"), 0, -5, True, None, 1.5, [], [1, "a"], (), (1,), (1, 2), set(), {1}, {}]
    + [{"a": [1, (2,)]}, frozenset(), frozenset([1]), range(3), errno],
)
def test_short_values_are_shown_as_by_repr(value: object) -> None:
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    ["s" * BIG, b"s" * BIG, bytearray(BIG), [1] * BIG, (1,) * BIG, dict.fromkeys(range(BIG // 20)), set(range(BIG // 20))]
    + [["s" * BIG] * 3, {"key": {"inner": "s" * BIG}}, {"k" * BIG: 1}, 10**BIG],
    ids=lambda value: type(value).__name__,
)
def test_a_long_value_is_cut_and_not_read_to_its_end(value: object) -> None:
    tracemalloc.start()
    try:
        text = shown(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(text) <= MOST + 1
    assert text.endswith(("…", " bits"))
    assert peak < 100_000, "no repr of all of it was made"


def test_a_value_within_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert shown(loop) == "[[[[[…]]]]]"


def test_a_long_repr_of_an_object_is_cut() -> None:
    class Loud:
        def __repr__(self) -> str:
            return "s" * BIG

    assert shown(Loud()) == "s" * MOST + "…"
    assert len(shown([Loud()] * 1000)) == MOST + 1


@pytest.mark.parametrize("kind", [ZeroDivisionError, Odd, RecursionError])
def test_a_repr_that_raises_harms_nothing(kind: type[BaseException]) -> None:
    assert shown(Raises(kind)) == said(Raises(kind)) == f"<Raises, which can't be shown: {kind.__name__}>"
    assert shown([Raises(kind)]) == f"<list, which can't be shown: {kind.__name__}>"
    assert shown(Hidden()) == "<Hidden, which can't be shown: ZeroDivisionError>"


@pytest.mark.parametrize("kind", _ends.ENDS)
@pytest.mark.parametrize("show", [shown, said, name_of])
def test_ends_pass(kind: type[BaseException], show: Callable[[object], str]) -> None:
    with pytest.raises(kind):
        show(Raises(kind))


def test_what_derives_from_a_container_has_its_own_repr() -> None:
    class Secrets(list[str]):
        def __repr__(self) -> str:
            return "<secrets>"

    assert shown(Secrets(["a"])) == "<secrets>"


# ---- names ----------------------------------------------------------------------------------------------------------


class Thing:
    def method(self, *_: Any) -> None:
        raise ValueError

    def __call__(self, *_: Any) -> None:
        raise ValueError

    def __repr__(self) -> str:
        return "my password is 1234"


def plain(*_: Any) -> None:
    raise ValueError


SECRET = "my password is 1234" + "s" * BIG
LAMBDA = lambda *_: 1 / 0  # noqa: E731
LINE = LAMBDA.__code__.co_firstlineno

NAMED: dict[str, tuple[Any, str]] = {
    "function": (plain, "plain"),
    "built-in": (len, "len"),
    "class": (Thing, "Thing"),
    "method": (Thing().method, "Thing.method"),
    "method of a built-in": ([].append, "list.append"),
    "lambda": (LAMBDA, f"<lambda> at {__file__}:{LINE}"),
    "partial": (functools.partial(plain, SECRET), "partial(plain, …)"),
    "partial of a method": (functools.partial(Thing().method, word=SECRET), "partial(Thing.method, …)"),
    "partial of a lambda": (functools.partial(LAMBDA, SECRET), f"partial(<lambda> at {__file__}:{LINE}, …)"),
    "partial of an object": (functools.partial(Thing(), SECRET), "partial(Thing.__call__, …)"),
    "object": (Thing(), "Thing.__call__"),
    "decorated": (functools.lru_cache(plain), "plain"),
    "an object that raises": (Raises(Odd), "Raises.__call__"),
    "a type that raises": (Hidden(), "Hidden.__call__"),
}


@pytest.mark.parametrize("what", NAMED)
def test_names(what: str) -> None:
    func, name = NAMED[what]
    assert name_of(func) == name


def test_a_long_name_is_cut() -> None:
    def func() -> None:
        """Does nothing."""

    func.__qualname__ = "f" * BIG
    assert name_of(func) == "f" * MOST + "…"
    assert name_of("no function" * BIG).endswith("…")


class Strange:
    """Its name is no text."""

    def __init__(self) -> None:
        self.__qualname__ = 5

    def __call__(self) -> None:
        """Does nothing."""


def test_a_name_that_is_no_text() -> None:
    assert name_of(Strange()) == "Strange.__call__"


PLACES: dict[str, Callable[[Any], object]] = {
    "task": lambda func: task.fork(func, "data"),
    "timer": lambda func: time.after(0, func, "data"),
    "callback": lambda func: silly._core.scheduler.loop.post(func, "data"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", [what for what in NAMED if what not in ("built-in", "class", "method of a built-in")])
def test_what_is_bound_to_a_function_that_raises_is_not_logged(place: str, what: str, logs: Any) -> None:
    """``fork(partial(f, secret, 2 MB))``."""
    func, name = NAMED[what]
    PLACES[place](func)
    logs.expect("ERROR exception in ")
    until(lambda: logs.lines)
    (line,) = logs.lines
    assert name in line
    assert "password" not in line
    assert len(line) < 4000


def test_texts_about_tasks_hold_no_arguments() -> None:
    one = task.fork(functools.partial(task.wakeup, task.running(), SECRET))
    texts = [repr(one), one.name(), str(task.inspect()[one]["name"])]
    assert task.wait() is SECRET
    assert all("partial(wakeup, …)" in text and len(text) < 500 for text in texts)


# ---- errors ---------------------------------------------------------------------------------------------------------

HUGE = "secret " * (BIG // 7)
CALLS: dict[str, Callable[[Any], object]] = {
    "logger.setlevel": logger.setlevel,
    "time.sleep": time.sleep,
    "tcp.listen": lambda x: tcp.listen(x, print),
    "tcp.connect": tcp.connect,
    "tcp.connect, bind": lambda x: tcp.connect("127.0.0.1:1", bind=x),
    "tls.listen": lambda x: tls.listen("127.0.0.1:0", [{"cert": x, "key": x}], print),
    "tls.connect, verify": lambda x: tls.connect("127.0.0.1:1", "a", verify=x),
    "tls.connect, ciphers": lambda x: tls.connect("127.0.0.1:1", "a", ciphers=x),
    "tls.connect, alpnprotos": lambda x: tls.connect("127.0.0.1:1", "a", alpnprotos=[x]),
    "tls.upgrade": lambda x: tls.upgrade(x, x),
    "tls.upgrade, verify": lambda x: tls.upgrade(testing.pair()[0], "a", verify=x),
    "tls.upgrade, ciphers": lambda x: tls.upgrade(testing.pair()[0], certs=[authorities.server().entry], ciphers=x),
    "http.get": http.get,
    "http.request, method": lambda x: http.request(x, "http://127.0.0.1:1/"),
    "http.get, name of a field": lambda x: http.get("http://127.0.0.1:1/", {x: "1"}),
    "http.AccessLog": http.AccessLog,
    "router.get": lambda x: http.router().get(x, print),
    "websocket.connect": websocket.connect,
    "websocket.connect, subprotocols": lambda x: websocket.connect("ws://127.0.0.1:1/", subprotocols=[x]),
    "silly.Limits": lambda x: silly.Limits(message=x),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_argument_of_2_mb_gives_a_short_error(call: str, logs: Any) -> None:
    """Raised or returned; and the line about it is as short."""
    logs.allow("")
    try:
        result = CALLS[call](HUGE)
        assert isinstance(result, tuple)
        text = str(result[1])
    except (TypeError, ValueError) as exc:
        text = str(exc)
    assert text
    assert len(text) < LIMIT
    assert all(len(line) < LIMIT for line in logs.lines)


def test_a_bad_value_of_a_header_is_not_shown() -> None:
    """It may be a password."""
    with pytest.raises(ValueError, match=r"^bad value for the header 'authorization': '\\n' at 11 can't be sent$"):
        header.compose({"Authorization": "Bearer 1234\n" + "5" * BIG})


def test_no_error_of_the_package_shows_a_whole_value() -> None:
    """``{value!r}`` stands only where the value is ours or cut before."""
    ours = {"name", "field.name", "__name__", "option", "path", "key", "char", "self[0]", "self[1]", "value"}
    ours |= {"self._listener", "self.closereason"}
    found = []
    for path in Path(silly.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
                text = ast.unparse(node.value)
                bounded = node.format_spec is not None or isinstance(node.value, ast.Subscript)
                if not bounded and text not in ours:
                    found.append(f"{path.name}: {text}")
    assert found == []
