"""The code of docs/http.md runs, and does what the page says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from silly import check
from silly._wire.limits import DEFAULT
from silly.net import http, tcp
from silly.net.http import accesslog

from .helpers import Raw, serving, spawn

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "http.md").read_text()


@pytest.fixture
def guide() -> dict[str, Any]:
    """The names that the code of the guide defines."""
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 9
    for block in blocks:
        exec(block, namespace)
    yield namespace
    http.closeidle()


def test_server_and_client(guide: dict[str, Any], logs: Any) -> None:
    with serving(guide["handler"]) as server:
        url = f"http://127.0.0.1:{server.port}/?name=you"
        assert guide["fetch"](url) == (200, "text/plain", "Hello, you")
        response, err = http.post(url, None, "shout")
        assert err is None
        assert response.body == b"SHOUT"
        assert server.drain(5000) == (True, None)


def test_client_without_a_server(guide: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with serving(guide["handler"]) as server:
        port = server.port
    assert guide["fetch"](f"http://127.0.0.1:{port}/") is None
    assert capsys.readouterr().out == f"http GET http://127.0.0.1:{port}/: connect: Connection refused (111)\n"


def test_a_unix_socket(guide: dict[str, Any], tmp_path: Path) -> None:
    with check(guide["behind_a_proxy"](tmp_path / "s", (os.getuid(), os.getgid()))) as server:
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
        client = Raw(check(tcp.connect(server.addr)))
        client.request()
        assert client.response().body == b"Hello, World"
        client.close()


def test_a_client_that_tries_again(guide: dict[str, Any], monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    logs.allow("the handler did not respond")
    naps: list[int] = []
    monkeypatch.setattr("silly.time.sleep", naps.append)
    calls: list[str] = []

    def ends(stream: Any) -> None:
        calls.append(stream.method)
        stream.conn._stream.abort()

    with serving(guide["handler"]) as server:
        assert guide["deliver"](f"http://127.0.0.1:{server.port}/", "{}") == 200
    assert guide["deliver"](f"http://127.0.0.1:{server.port}/", "{}") is None
    assert naps == [100, 200, 400, 800, 1600], "nobody listens any more: five tries"
    with serving(ends) as server:
        assert guide["deliver"](f"http://127.0.0.1:{server.port}/", "{}") is None
    assert (calls, len(naps)) == (["POST"], 5)


def test_pieces(guide: dict[str, Any]) -> None:
    with serving(guide["upload"]) as server:
        status, body = guide["relay"](f"http://127.0.0.1:{server.port}/", [b"x" * 100_000] * 20)
        assert (status, body) == (200, b"2000000 bytes")


def test_the_fields_of_json() -> None:
    """The page names those of the access log, in order."""
    sentence = TEXT.split("A line of JSON has ", 1)[1].split("; what", 1)[0]
    entry = accesslog.Entry(0.0, "", None, None, "", "", 200, 0, 0.0, None, None)
    assert re.findall(r"`(\w+)`", sentence) == list(json.loads(accesslog._FORMS["json"](entry)))
    sentence = TEXT.split("JSON has more fields: ", 1)[1].split(". `ms`", 1)[0]
    assert re.findall(r"`(\w+)`", sentence) == list(accesslog.Account._fields)


def test_shut_down(guide: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    exits = []
    monkeypatch.setattr("silly.exit", lambda: exits.append(True))
    with serving(guide["handler"]) as server, Raw.connect(server) as client:
        client.request()
        assert client.response().status == 200
        guide["shut_down"](server)
        client.eof()
    assert exits == [True]
    assert capsys.readouterr().out == ""


def test_files_and_routes(guide: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("file")
    real = http.sendfile
    monkeypatch.setattr(http, "sendfile", lambda stream, path, root, **rest: real(stream, path, tmp_path, **rest))
    with serving(guide["static"]) as server:
        response, _ = http.get(f"http://127.0.0.1:{server.port}/a.txt")
        assert (response.status, response.text, response.header["cache-control"]) == (200, "file", "max-age=3600")
    with serving(guide["router"]) as server:
        base = f"http://127.0.0.1:{server.port}"
        assert http.get(f"{base}/users/7")[0].text == "user 7"
        assert http.fetch("PATCH", f"{base}/users/7", None, "x")[0].status == 204
        assert http.get(f"{base}/static/a.txt")[0].text == "file"
        assert http.post(f"{base}/users/7")[0].status == 405
        sock, err = guide["websocket"].connect(f"ws://127.0.0.1:{server.port}/rooms/tea")
        assert err is None
        assert sock.read() == ("welcome to tea", "text")
        closing = spawn(sock.close)
        closing.pop()


def test_the_table_names_the_defaults() -> None:
    table = TEXT.split("## Limits")[1]
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert len(named) == 16
    for name in named:
        assert hasattr(DEFAULT, name), name
