"""What a handler returns is not sent, and values of a wrong type are not either: each is told in words that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import silly
from silly import task
from silly._wire.http1 import status_line
from silly.net import http, tcp, websocket

from ..helpers import Raw, asking, raw_server, serving
from . import authorities
from .http_client_support import taken
from .support import turns, until
from .test_handlers import View, generator
from .tls_support import connect as tls_connect
from .tls_support import listening

# ---- what a handler returns ------------------------------------------------------------------------------------------


async def nothing() -> None:
    raise AssertionError("it never runs")


RETURNED = {
    "a dict": ({"a": 1}, r'call stream.answer\(200, json.dumps\(value\), \{"content-type": "application/json"\}\)'),
    "a list": ([1], r"call stream.answer\(200, json.dumps\(value\), "),
    "a tuple": (("text", 200), "call stream.answer, or stream.respond and stream.closewrite"),
    "a str": ("hello", r"call stream.answer\(200, text\)"),
    "a bytes": (b"hello", r"call stream.respond\(200\) and stream.closewrite\(data\)"),
    "an int": (200, "call stream.answer, or"),
    "a View": (View(), "call stream.answer, or"),
}


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("kind", RETURNED)
def test_a_handler_that_returns_a_dict_has_a_line_that_says_what_to_do(
    kind: str, secure: bool, routed: bool, logs: Any
) -> None:
    value, instead = RETURNED[kind]

    def view(stream: Any) -> Any:
        return value

    logs.expect(rf"^ERROR http: .*: GET '/': the handler \S*view returned {kind}, which is not sent: {instead}")
    handler: Any = view
    if routed:
        handler = http.router()
        handler.get("/", view)
    certs = [authorities.server().entry] if secure else None
    with serving(handler, certs=certs) as server, http.newclient(ca=authorities.root().pem) as client:
        response = taken(client.get(f"{'https' if secure else 'http'}://127.0.0.1:{server.port}/"))
    assert (response.status, response.text) == (500, "Internal Server Error\n")


def test_a_handler_that_returns_a_coroutine_or_a_generator(logs: Any) -> None:
    """An async function behind a decorator is no async function for Python."""
    logs.expect("ERROR .*: the handler .*lambda.* returned a coroutine, which never runs: write def instead of async def")
    logs.expect("ERROR .*: the handler .*lambda.* returned a generator, which never runs")
    for value in (nothing, lambda: generator(None)):
        with asking(lambda stream, value=value: value()) as client:
            client.request()
            assert client.response().status == 500


def test_a_body_that_is_returned_after_the_head(logs: Any) -> None:
    logs.expect("ERROR .* returned a str, which is not sent")

    def view(stream: Any) -> str:
        stream.respond(200)
        return "the body"

    with asking(view) as client:
        client.request()
        assert (client.response().status) == 200


def test_what_may_be_returned() -> None:
    """Results are, by every lambda; and anything once the response has ended."""

    def ended(stream: Any) -> Any:
        stream.answer(200, "x")
        return {"a": 1}

    def head(stream: Any) -> Any:
        return stream.respond(200)

    def number(stream: Any) -> Any:
        stream.respond(200)
        return 5

    for view in (lambda stream: stream.answer(200, "x"), head, number, ended):
        with asking(view) as client:
            client.request()
            assert client.response().status == 200


def test_a_websocket_handler_that_returns_a_value(logs: Any) -> None:
    logs.expect("ERROR .*: the handler .* returned a str, which is not sent")
    router = http.router()
    router.websocket("/chat", lambda stream: "hello")
    router.websocket("/fine", lambda stream: websocket.upgrade(stream))
    with serving(router) as server:
        assert "500" in str(websocket.connect(f"ws://127.0.0.1:{server.port}/chat")[1])
        sock = taken(websocket.connect(f"ws://127.0.0.1:{server.port}/fine"))
        sock.close()


@pytest.mark.parametrize("secure", [False, True])
def test_handlers_of_connections_that_return_a_value(secure: bool, logs: Any) -> None:
    values: list[Any] = [b"hello\n", "hello\n", nothing, (None, "an error"), silly.Result((True, None)), 5, None]

    def greet(conn: Any) -> Any:
        value = values.pop(0)
        conn.close()
        return value() if value is nothing else value

    for kind in ("bytes", "str"):
        logs.expect(rf"^ERROR .*greet.* returned a {kind}, which is not sent: call conn.write\(data\)$")
    logs.expect(r"^ERROR .*greet.* returned a coroutine, which never runs: write def")
    with listening(greet) if secure else raw_server(greet) as server:
        while values:
            left = len(values)
            conn = tls_connect(server) if secure else Raw.connect(server).conn
            until(lambda left=left: len(values) < left)
            conn.close()
        turns(3)


def test_a_task_that_is_an_async_function(logs: Any) -> None:
    logs.expect(r"^ERROR .*nothing.* returned a coroutine, which never runs")
    task.fork(nothing)
    task.fork(lambda: {"a": 1})  # the result of a task may be dropped
    turns(3)


# ---- values of a wrong type ------------------------------------------------------------------------------------------

DATA = {
    "dict": ({"a": 1}, "data to send is .*, not dict; json.dumps makes text of it"),
    "list": ([1], "not list; json.dumps makes text of it"),
    "tuple": ((1,), "not tuple; json.dumps makes text of it"),
    "int": (5, "not int; str makes text of it"),
    "float": (1.5, "not float; str makes text of it"),
    "generator": (iter(["a"]), "not list_iterator; send its pieces one by one"),
    "object": (View(), "data to send is str, bytes, bytearray or memoryview, not View"),
}


def waits(conn: Any) -> None:
    with conn:
        while conn.read(1, 5000)[0] is not None:
            pass


def mistakes(calls: list[tuple[Callable[[], Any], str]]) -> None:
    for call, text in calls:
        with pytest.raises(TypeError, match=text):
            call()


@pytest.mark.parametrize("name", DATA)
def test_data_of_a_wrong_type_is_refused_in_the_same_words_everywhere(name: str) -> None:
    value, text = DATA[name]

    def view(stream: Any) -> None:
        stream.respond(200)
        mistakes([(lambda: stream.write(value), text), (lambda: stream.closewrite(value), text)])
        stream.closewrite("fine")

    def chat(stream: Any) -> None:
        sock = taken(websocket.upgrade(stream))
        mistakes([(lambda: sock.write(value), text), (lambda: sock.write(value, "text"), text)])
        mistakes([(lambda: sock.close(1000, value), text)])
        with sock.message() as message:
            mistakes([(lambda: message.write(value), text)])

    router = http.router()
    router.route(["GET", "POST"], "/", view)
    router.websocket("/chat", chat)
    with serving(router) as server, http.newclient() as client:
        url = f"http://127.0.0.1:{server.port}/"
        assert taken(client.get(url)).text == "fine"
        mistakes([(lambda: client.post(url, None, value), text)])
        with taken(client.request("POST", url)) as stream:
            mistakes([(lambda: stream.write(value), text), (lambda: stream.closewrite(value), text)])
            stream.closewrite("fine")
            assert taken(stream.readall()) == b"fine"
        sock = taken(websocket.connect(f"ws://127.0.0.1:{server.port}/chat"))
        assert sock.read(5000) == (b"", "binary")
        mistakes([(lambda: sock.write(value), text)])
        sock.close()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "b"}, "not dict; json.dumps makes text of it"),
        ({}, "not dict"),
        (5, "not int; str makes text of it"),
        (None, "data to send is .*, not NoneType"),
        (["a", 5], "not int"),
        ([{}], "not dict"),
    ],
)
def test_a_tcp_connection_takes_no_dict(value: Any, text: str) -> None:
    """It sent the keys."""
    with raw_server(waits) as listener:
        conn = taken(tcp.connect(f"127.0.0.1:{listener.port}"))
        with conn:
            mistakes([(lambda: conn.write(value), text)])
            assert conn.unsentbytes() == 0
            assert conn.write(piece for piece in ("a", b"b")) == (True, None)


def refused(calls: dict[str, Callable[[Any], Any]], texts: dict[str, str]) -> None:
    """Each call of a stream raises an error in words, before anything is sent; the handler then answers."""
    for name, call in calls.items():

        def view(stream: Any, name: str = name, call: Callable[[Any], Any] = call) -> None:
            with pytest.raises((TypeError, ValueError), match=texts[name]):
                call(stream)
            stream.answer(200, json.dumps({"a": 1}), {"content-type": "application/json"})

        with asking(view) as client:
            client.request()
            response = client.response()
            assert (response.status, response.header["content-type"], json.loads(response.body)) == (
                200,
                "application/json",
                {"a": 1},
            )


def test_an_answer_that_is_a_dict_says_json() -> None:
    json_words = r"takes text, not {}: give it json.dumps\(…\), and the header {{'content-type': 'application/json'}}"
    values = {"dict": {"a": 1}, "dict ": {}, "list": [1], "list ": [], "tuple": (1, 2)}
    refused(
        {name: lambda stream, value=value: stream.answer(200, value) for name, value in values.items()},
        {name: json_words.format(name.strip()) for name in values},
    )
    many = [1]
    refused({"list": lambda stream: stream.answer(200, many)}, {"list": "not list"})
    assert many == [1], "it is not changed"


def test_answers_of_other_wrong_types() -> None:
    texts = {
        "bytes": "stream.answer takes text, not bytes: stream.respond and stream.closewrite send bytes",
        "empty": "not bytes",
        "int": "stream.answer takes text, not int$",
        "zero": "not int$",
        "generator": "not list_iterator$",
        "header str": "stream.answer: the header is a mapping of names to values, not str",
        "header pairs": "a mapping of names to values, not list",
        "status": "an HTTP status is an int from 100 to 999, not '200'",
        "text first": "an HTTP status is an int from 100 to 999, not 'hello'",
    }
    calls: dict[str, Callable[[Any], Any]] = {
        "bytes": lambda stream: stream.answer(200, b"x"),
        "empty": lambda stream: stream.answer(200, b""),
        "int": lambda stream: stream.answer(200, 5),
        "zero": lambda stream: stream.answer(200, 0),
        "generator": lambda stream: stream.answer(200, iter(["a"])),
        "header str": lambda stream: stream.answer(200, "x", "text/html"),
        "header pairs": lambda stream: stream.answer(200, "x", [("a", "b")]),
        "status": lambda stream: stream.answer("200", "x"),
        "text first": lambda stream: stream.answer("hello"),
    }
    refused(calls, texts)


HEADERS = {
    "str": ("text/plain", "header fields are a mapping such as {'content-type': 'text/plain'}, or pairs, not str"),
    "bytes": (b"a: b", "or pairs, not bytes"),
    "int": (5, "or pairs, not int"),
    "lines": (["a: b"], "a header field is a pair of a name and a value, not 'a: b'"),
    "three": ([("a", "b", "c")], "a pair of a name and a value, not"),
    "number": ([5], "a pair of a name and a value, not 5"),
    "name": ([([], "x")], "a header name is str, not list"),
    "bytes name": ({b"a": "x"}, "a header name is str, not bytes"),
    "bytes value": ({"a": b"x"}, "the value of the header 'a' is str, int or a list of them, not bytes"),
    "float value": ({"a": 1.5}, "not float"),
    "bool value": ({"a": True}, "not bool"),
    "dict value": ({"a": {"b": 1}}, "not dict"),
    "None in a list": ({"a": ["x", None]}, "not NoneType"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_a_wrong_type(name: str) -> None:
    header, text = HEADERS[name]
    refused({"respond": lambda stream: stream.respond(200, header)}, {"respond": text})
    url = "http://127.0.0.1:1/"
    with http.newclient() as client:
        mistakes([(lambda: client.get(url, header), text), (lambda: client.request("PUT", url, header), text)])
    mistakes([(lambda: websocket.connect(url.replace("http:", "ws:"), header), text)])

    def view(stream: Any) -> None:
        stream.respond(200)
        mistakes([(lambda: stream.closewrite("x", header), text)])
        stream.closewrite("y")

    with asking(view) as client:
        client.request()
        assert client.response().body == b"y"


def test_other_arguments_of_a_wrong_type() -> None:
    time_out = "a time-out is a number of milliseconds, not str"
    refused(
        {
            "fd": lambda stream: stream.sendfile("index.html", 0, 5),
            "file": lambda stream: stream.sendfile(object(), 0, 5),
            "read": lambda stream: stream.read(5, "1"),
            "readall": lambda stream: stream.readall(timeout="1"),
            "pieces": lambda stream: stream.pieces("1"),
        },
        {
            "fd": "stream.sendfile needs a file descriptor, such as file.fileno\\(\\), not str",
            "file": "a file descriptor, such as",
            "read": time_out,
            "readall": time_out,
            "pieces": time_out,
        },
    )
    with http.newclient() as client:
        mistakes([(lambda: client.get("http://127.0.0.1:1/", timeout="5 s"), time_out)])
    with raw_server(waits) as listener:
        conn = taken(tcp.connect(f"127.0.0.1:{listener.port}"))
        with conn:
            mistakes([(lambda: conn.read(1, "5"), time_out)])


def test_a_body_in_the_place_of_the_status_is_not_quoted_in_full() -> None:
    with pytest.raises(ValueError, match="an HTTP status is an int from 100 to 999, not ") as raised:
        status_line({"a": "x" * 100_000})  # type: ignore[arg-type]
    assert len(str(raised.value)) < 300


def test_a_task_that_is_a_generator(logs: Any) -> None:
    def numbers() -> Any:
        yield 1

    logs.expect(r"^ERROR .*numbers.* it contains yield; call a function for each piece instead$")
    task.fork(numbers)
    turns(3)
