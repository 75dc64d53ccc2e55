"""Settings as arguments, or as one dict in their place: the same for every call that takes both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

import silly
from silly import check
from silly.net import http, tcp, tls
from silly.net._settings import settings

from .http_support import certs, hello


@settings("sample.call", "first")
def sample(
    before: str, first: str | Mapping[str, Any] = "one", second: int | None = None, *, third: tuple[int, ...] = ()
) -> list[object]:
    """What it does."""
    return [before, first, second, third]


def test_ordinary_arguments_are_passed_on() -> None:
    assert sample("a") == ["a", "one", None, ()]
    assert sample("a", "b", 2, third=(3,)) == ["a", "b", 2, (3,)]
    assert sample(before="a", first="b") == ["a", "b", None, ()]


def test_a_dict_gives_the_arguments() -> None:
    given = {"first": "b", "third": (3,)}
    assert sample("a", given) == ["a", "b", None, (3,)]
    assert sample("a", first=given) == ["a", "b", None, (3,)]
    assert sample(first=given, before="a") == ["a", "b", None, (3,)]
    assert sample("a", MappingProxyType(given)) == ["a", "b", None, (3,)]
    assert sample("a", {}) == ["a", "one", None, ()]
    assert given == {"first": "b", "third": (3,)}


def test_defaults_beside_a_dict_are_allowed() -> None:
    assert sample("a", {"first": "b"}, None, third=()) == ["a", "b", None, ()]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample("a", {}, 2), "^sample.call: settings in a dict and as arguments: use only one of the two$"),
        (lambda: sample("a", {}, third=(3,)), "settings in a dict"),
        (lambda: sample("a", {"second": 2}, 0), "settings in a dict"),
        (lambda: sample(first={}), "missing a required argument: 'before'"),
        (lambda: sample("a", {"other": 1}), r"sample\(\) got an unexpected keyword argument 'other'"),
        (lambda: sample("a", {"before": 1}), "multiple values for keyword argument 'before'"),
        (lambda: sample("a", {}, other=1), "unexpected keyword argument 'other'"),
        (lambda: sample("a", {}, 2, 3), "too many positional arguments"),
        (lambda: sample("a", "b", 2, 3), "positional argument"),
    ],
)
def test_mistakes(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_the_function_looks_as_it_was_written() -> None:
    assert list(inspect.signature(sample).parameters) == ["before", "first", "second", "third"]
    assert sample.__doc__ == "What it does."
    assert sample.__name__ == "sample"


LIMITS = silly.Limits(body=10)
LISTEN = {"addr": "127.0.0.1:0", "handler": hello}


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("tcp.listen", lambda: tcp.listen(LISTEN, backlog=5)),
        ("tcp.listen", lambda: tcp.listen(LISTEN, limits=LIMITS)),
        ("tcp.connect", lambda: tcp.connect("127.0.0.1:1", {"bind": "127.0.0.1"}, timeout=5)),
        ("tls.listen", lambda: tls.listen(LISTEN, certs=[{}])),
        ("tls.listen", lambda: tls.listen(LISTEN, alpnprotos=["http/1.1"])),
        ("tls.connect", lambda: tls.connect("127.0.0.1:1", {"timeout": 5}, verify=False)),
        ("tls.connect", lambda: tls.connect("127.0.0.1:1", hostname={}, limits=LIMITS)),
        ("http.listen", lambda: http.listen(LISTEN, certs=[{"cert": "x", "key": "y"}])),
        ("http.listen", lambda: http.listen(LISTEN, limits=LIMITS)),
        ("http.listen", lambda: http.listen(LISTEN, tls=True)),
        ("http.listen", lambda: http.listen(LISTEN, accesslog="common")),
        ("http.newclient", lambda: http.newclient({}, redirects=1)),
        ("http.newclient", lambda: http.newclient({}, limits=LIMITS)),
    ],
)
def test_other_settings_beside_a_dict_raise(what: str, call: Callable[[], Any]) -> None:
    """What stands beside it was dropped without a word: certificates and limits among it."""
    with pytest.raises(TypeError, match=f"^{what}: settings in a dict and as arguments: use only one of the two$"):
        call()


def test_a_reload_takes_a_dict_too() -> None:
    with check(http.listen("127.0.0.1:0", hello, certs=certs())) as server:
        assert server.reload({"certs": certs()})
        with pytest.raises(TypeError, match=r"^server\.reload: settings in a dict"):
            server.reload({"certs": certs()}, verify="require")
    with check(tls.listen("127.0.0.1:0", certs(), hello)) as listener:
        assert listener.reload({"certs": certs(), "alpnprotos": ["http/1.1"]})
        with pytest.raises(TypeError, match=r"^listener\.reload: settings in a dict"):
            listener.reload({"certs": certs()}, ciphers="ALL")


def test_a_client_takes_a_dict_or_arguments() -> None:
    with http.newclient({"redirects": 3}) as client:
        assert client._redirects == 3
    with pytest.raises(TypeError, match=r"^http\.newclient takes a dict or keyword arguments, not int$"):
        http.newclient(5)


@pytest.mark.parametrize(
    "option",
    [{"ca": "x.pem"}, {"verify": False}, {"timeout": 5}, {"redirects": 1}, {"connect_timeout": 7}, {"max_per_host": 3}],
)
def test_settings_both_ways(option: dict[str, Any]) -> None:
    """Those beside the dict got lost."""
    with pytest.raises(TypeError):
        http.newclient({"decode": False}, **option)
