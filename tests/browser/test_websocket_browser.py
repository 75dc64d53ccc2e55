"""A browser's own WebSocket against our server: compression, subprotocols, closes, origins.

The server is a process of its own, so that selenium may block this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .page import Page
from .process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
CODES = [(1000, ""), (1000, "done"), (3000, "registered"), (4000, "ä€😀"), (4999, "😀" * 30)]
"""What a page may close with."""
SERVER_CODES = [*CODES, (1001, "going away"), (1008, "policy"), (1011, "x" * 123), (1012, "restart")]


class Echo(ServerProcess):
    """``first`` and ``second`` are its two origins."""

    def __init__(self, directory: Path) -> None:
        super().__init__("websocket_server.py", directory)
        self.first, self.second = (f"127.0.0.1:{port}" for port in self.told)


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    server = Echo(tmp_path)
    yield server
    server.stop()


def outcomes(page: Page) -> Any:
    """How the connections ended, as the server sees it; for the page's own origin."""
    return page.call("(async () => (await fetch('/outcomes')).json())")


def test_compression_and_subprotocols(open_browser, echo):
    page = open_browser(Page)
    page.driver.get(f"http://{echo.first}/")
    got = page.call("echoes", f"ws://{echo.first}/ws", ["chat", "mqtt", "chat.v2"])
    assert got["extensions"].split(";")[0] == "permessage-deflate"
    assert got["protocol"] == "chat.v2"
    told = got["told"]
    assert told["extensions"].startswith("permessage-deflate")
    assert told["compression"] == {
        "server_no_context_takeover": False,
        "client_no_context_takeover": False,
        "server_max_window_bits": 12,
        "client_max_window_bits": 12,
    }
    assert told["subprotocol"] == "chat.v2"
    assert told["offered"].replace(" ", "").split(",") == ["chat", "mqtt", "chat.v2"]
    assert told["origin"] == f"http://{echo.first}"
    sizes, alike, noise = got["wire"]
    for direction in (1, 2):
        assert sizes[direction] < sizes[0] * 0.05
        assert alike[direction] < alike[0] * 0.2
        assert noise[0] < noise[direction] < noise[0] * 1.02
    assert got["latency"] > 0
    assert got["close"] == {"type": "close", "code": 1000, "reason": "", "wasClean": True}
    assert [each[:2] for each in outcomes(page)] == [[1000, "bye"]]
    # Without compression, and no subprotocol.
    got = page.call("echoes", f"ws://{echo.first}/ws?plain", [])
    assert (got["extensions"], got["protocol"]) == ("", "")
    assert got["told"]["compression"] is None
    assert got["told"]["subprotocol"] is None
    for sent, up, down in got["wire"]:
        assert sent < up < sent * 1.05
        assert sent < down < sent * 1.05
    assert page.console() == []
    echo.stop()


def test_closes(open_browser, echo):
    page = open_browser(Page)
    page.driver.get(f"http://{echo.first}/")
    url = f"ws://{echo.first}/ws"
    for code, reason in CODES:
        got = page.call("closes", url, code, reason, False)
        # Our answer to a close frame has its code alone.
        assert got == {"type": "close", "code": code, "reason": "", "wasClean": True}
    assert page.call("closes", url, None, "", False)["code"] == 1005
    assert [each[:2] for each in outcomes(page)] == [list(each) for each in [*CODES, (1005, "")]]
    for code, reason in SERVER_CODES:
        got = page.call("closes", url, code, reason, True)
        assert got == {"type": "close", "code": code, "reason": reason, "wasClean": True}
    assert page.console() == []


def test_origins(open_browser, echo):
    page = open_browser(Page)
    page.driver.get(f"http://{echo.second}/")
    refused = [{"type": "error"}, {"type": "close", "code": 1006, "reason": "", "wasClean": False}]
    assert page.call("attempt", f"ws://{echo.first}/ws", []) == refused
    (line,) = page.console()
    assert "Unexpected response code: 403" in line
    for path in ("/listed", "/open"):
        opened, closed = page.call("attempt", f"ws://{echo.first}{path}", ["chat"])
        assert opened == {"type": "open"}
        assert closed == {"type": "close", "code": 1000, "reason": "", "wasClean": True}
    page.driver.get(f"http://{echo.first}/")
    assert page.call("attempt", f"ws://{echo.first}/listed", []) == refused
    assert page.call("attempt", f"ws://{echo.first}/ws", [])[0] == {"type": "open"}
    # A page that offers subprotocols fails the connection itself when none is chosen.
    assert page.call("attempt", f"ws://{echo.first}/ws", ["mqtt"]) == refused
    console = "\n".join(page.console())
    assert "403" in console
    assert "Sent non-empty 'Sec-WebSocket-Protocol' header but no response was received" in console
    assert f"upgrade refused: Origin 'http://{echo.second}' is not this host" in echo.stop()
