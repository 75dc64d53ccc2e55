"""Calls that return ``(value, None)`` or ``(None, err)``: a pair that was not unpacked explains itself."""

from __future__ import annotations

import copy
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import silly
from silly import testing
from silly._core import scheduler
from silly._core.result import Pair
from silly.net import http, tcp, tls, udp, websocket

from .helpers import Raw, raw_server, serving
from .net import authorities
from .test_api import PUBLIC, documented

NOWHERE = "127.0.0.1:1"
UNBINDABLE = "unix:/no/such/folder/socket"


def ended() -> tcp.Conn:
    """A connection that is closed."""
    for conn in testing.pair():
        conn.close()
    return conn


CALLS: dict[str, tuple[str, Callable[[], Any]]] = {
    # name: the name of the value, a call that fails
    "tcp.listen": ("listener", lambda: tcp.listen(UNBINDABLE, print)),
    "tcp.connect": ("conn", lambda: tcp.connect(NOWHERE)),
    "tcp.adopt": ("conn", lambda: tcp.adopt(scheduler.loop.wakeup_fd.fileno())),
    "tls.listen": ("listener", lambda: tls.listen(UNBINDABLE, [authorities.server().entry], print)),
    "tls.connect": ("conn", lambda: tls.connect(NOWHERE)),
    "udp.bind": ("conn", lambda: udp.bind("203.0.113.1:0")),
    "udp.connect": ("conn", lambda: udp.connect(NOWHERE, "203.0.113.1")),
    "tls.upgrade": ("conn", lambda: tls.upgrade(ended(), "localhost")),
    "http.listen": ("server", lambda: http.listen(UNBINDABLE, print)),
    "http.request": ("stream", lambda: http.request("GET", f"http://{NOWHERE}/")),
    "http.get": ("response", lambda: http.get(f"http://{NOWHERE}/")),
    "http.post": ("response", lambda: http.post(f"http://{NOWHERE}/", body="x")),
    "http.fetch": ("response", lambda: http.fetch("GET", f"http://{NOWHERE}/")),
    "websocket.connect": ("sock", lambda: websocket.connect(f"ws://{NOWHERE}/")),
}

PLAIN = {"Conn.read", "Conn.readsome", "ServerStream.read", "ServerStream.readall", "ClientStream.read"}
PLAIN |= {"ClientStream.readall", "ClientStream.readheader", "wait", "Conn.recvfrom"}
"""They are called too often, or their result is never mistaken for an object."""


@pytest.mark.parametrize("call", CALLS)
def test_a_pair_that_was_not_unpacked_explains_itself(call: str, logs: Any) -> None:
    logs.allow(f"listen {UNBINDABLE}: ")
    name, func = CALLS[call]
    pair = func()
    explanation = f"{call} returns a pair: {name}, err = {call}(…)"
    with pytest.raises(AttributeError) as raised:
        pair.write("x")
    assert str(raised.value) == explanation
    with pytest.raises(TypeError) as wrong, pair:
        pass
    assert str(wrong.value) == explanation
    assert not hasattr(pair, "closed")


def test_a_pair_of_success_too() -> None:
    with raw_server(lambda conn: None) as listener:
        pair = tcp.connect(f"127.0.0.1:{listener.port}")
        with pytest.raises(AttributeError, match=r"^tcp.connect returns a pair: conn, err = tcp.connect\(…\)$"):
            pair.close()  # type: ignore[union-attr]
        silly.check(pair).close()


@pytest.mark.parametrize(
    ("what", "explanation"),
    [
        ("upgrade", "websocket.upgrade returns a pair: sock, err = websocket.upgrade(…)"),
        ("detach", "stream.detach returns a pair: conn, err = stream.detach(…)"),
    ],
)
def test_the_log_line_of_a_handler_that_did_not_unpack(what: str, explanation: str, logs: Any) -> None:
    logs.expect(f"AttributeError: {explanation.replace('(', '[(]').replace(')', '[)]')}")

    def handler(stream: Any) -> None:
        if what == "upgrade":
            websocket.upgrade(stream).read()  # type: ignore[union-attr]
        else:
            stream.detach().write("x")

    logs.allow("websocket: .*: upgrade refused")
    with serving(handler, methods=["CONNECT"]) as server, Raw.connect(server) as client:
        client.send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" if what == "detach" else "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.rest()


def test_it_is_a_tuple_in_everything_else() -> None:
    pair: Any = tcp.connect(NOWHERE)
    conn, err = pair
    assert conn is None
    assert isinstance(err, str)
    assert isinstance(pair, tuple)
    assert pair == (None, err)
    assert (None, err) == pair
    assert (len(pair), pair[1], pair[-2], list(pair), hash(pair)) == (2, err, None, [None, err], hash((None, err)))
    assert repr(pair) == f"(None, {err!r})"
    assert copy.copy(pair) == copy.deepcopy(pair) == (None, err)
    match pair:
        case None, str(text):
            assert text == err
        case _:
            pytest.fail("it did not match")
    with pytest.raises(silly.Error) as raised:
        silly.check(pair)
    assert raised.value.args == (err,)


def test_the_signatures_are_there_for_help() -> None:
    assert list(inspect.signature(websocket.connect).parameters)[:2] == ["url", "header"]
    assert (websocket.connect.__name__, websocket.connect.__module__) == ("connect", "silly.net.websocket._connect")
    assert "Connects to ``ws://``" in (websocket.connect.__doc__ or "")


def test_all_of_the_public_api_do_it() -> None:
    """By their annotations: whatever returns ``(value, None)`` or ``(None, err)`` explains itself, or is named here."""
    found = set()
    for module in PUBLIC:
        for name, value in documented(importlib.import_module(module)):
            if not inspect.isfunction(value):
                continue
            result = str(inspect.signature(value).return_annotation)
            if re.fullmatch(r"tuple\[.* \| tuple\[None, (str|E|RequestError)\]", result):
                found.add(name)
                explains = value.__code__.co_name == "paired"
                assert explains is (name not in PLAIN), (module, name)
    assert found >= {"connect", "listen", "upgrade", "Client.get", "ServerStream.detach", *PLAIN}


def test_pairs_are_made_once() -> None:
    """A class for each function, not for each call."""
    assert type(tcp.connect(NOWHERE)) is type(tcp.connect(NOWHERE))
    assert isinstance(tcp.connect(NOWHERE), Pair)
