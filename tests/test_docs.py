"""The code of the guides runs, and does what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from silly import check
from silly._wire.deflate import Deflate
from silly._wire.limits import DEFAULT
from silly.net import websocket

from .helpers import serving, spawn

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture
def guide() -> dict[str, Any]:
    """What the code of docs/websocket.md defines."""
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "websocket.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(block, namespace)
    return namespace


def test_server_and_client(guide: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with serving(guide["handler"]) as server:
        assert guide["client"](f"ws://127.0.0.1:{server.port}/") == ("hello", "text")
        sock, err = websocket.connect(f"ws://127.0.0.1:{server.port}/")
        assert sock is None
        assert (err.status, err.body) == (401, b"who are you?")
    assert capsys.readouterr().out == "ended: 1000  closed by the peer: 1000\n"


def test_a_refused_client(guide: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    def handler(stream: Any) -> None:
        stream.respond(401, {"www-authenticate": "Bearer"})
        stream.close("no")

    with serving(handler) as server:
        assert guide["client"](f"ws://127.0.0.1:{server.port}/") is None
    assert capsys.readouterr().out == "refused: 401 Bearer b'no'\n"


def test_deadline_and_relay(guide: dict[str, Any]) -> None:
    def echo(stream: Any) -> None:
        sock = check(websocket.upgrade(stream))
        data, typ = sock.read()
        sock.write(data, typ)
        sock.read()

    with serving(echo) as server:
        one, other = (check(websocket.connect(f"ws://127.0.0.1:{server.port}/")) for _ in range(2))
        assert guide["impatient"](one) == "sock.read: the deadline of 50 ms ran out"
        one.write(b"x" * 300_000)
        relaying = spawn(lambda: guide["relay"](one, other))
        assert other.read(10_000) == (b"x" * 300_000, "binary")
        assert relaying.pop() == ((None,), None)
        one.close()
        other.close()


def test_the_tables_name_the_defaults() -> None:
    text = (DOCS / "websocket.md").read_text()
    for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert hasattr(DEFAULT, name) or hasattr(Deflate(), name), name
    options = Deflate()
    assert (options.server_max_window_bits, options.client_max_window_bits, options.threshold) == (12, 12, 256)
    assert (options.level, options.memory_level) == (6, 5)
