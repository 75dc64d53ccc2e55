"""A browser's own WebSocket against our server: compression, subprotocols, closes, origins.

The server is a process of its own, so that selenium may block this one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .page import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
WAIT = 20
"""Seconds; only bounds a test that fails."""
CODES = [(1000, ""), (1000, "done"), (3000, "registered"), (4000, "ä€😀"), (4999, "😀" * 30)]
"""What a page may close with."""
SERVER_CODES = [*CODES, (1001, "going away"), (1008, "policy"), (1011, "x" * 123), (1012, "restart")]


class Echo:
    """The server's process. ``first`` and ``second`` are its two origins."""

    def __init__(self, directory: Path) -> None:
        self._errors = open(directory / "echo.stderr", "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "silly", str(Path(__file__).with_name("websocket_server.py"))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        assert self._process.stdout is not None
        try:
            assert select.select([self._process.stdout], [], [], WAIT)[0], "it says nothing"
            line = self._process.stdout.readline()
            assert line, f"it ended; on stderr: {self.errors()}"
        except BaseException:
            self._end()
            raise
        self.first, self.second = (f"127.0.0.1:{port}" for port in json.loads(line))

    def errors(self) -> str:
        """What it has written on standard error."""
        self._errors.seek(0)
        return self._errors.read()

    def stop(self) -> str:
        """Ends it, as it must; what it has logged."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(WAIT)
            errors = self.errors()
        finally:
            self._end()
        assert self._process.returncode == 0, errors
        assert "Traceback" not in errors, errors
        assert "Warning" not in errors, errors
        return errors

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    server = Echo(tmp_path)
    yield server
    if server._process.poll() is None:
        server.stop()


def call(page: Page, function: str, *args: Any) -> Any:
    """What an asynchronous function of the page returns; a failure is one of the test."""
    script = f"const done = [...arguments].pop(); {function}(...[...arguments].slice(0, -1)).then(done, (e) => done(String(e)))"
    got = page.driver.execute_async_script(script, *args)
    assert not isinstance(got, str), got
    return got


def outcomes(page: Page) -> Any:
    """How the connections ended, as the server sees it; for the page's own origin."""
    return call(page, "(async () => (await fetch('/outcomes')).json())")


def test_compression_and_subprotocols(open_browser, echo):
    page = open_browser(Page)
    page.driver.get(f"http://{echo.first}/")
    got = call(page, "echoes", f"ws://{echo.first}/ws", ["chat", "mqtt", "chat.v2"])
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
    got = call(page, "echoes", f"ws://{echo.first}/ws?plain", [])
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
        got = call(page, "closes", url, code, reason, False)
        # Our answer to a close frame has its code alone.
        assert got == {"type": "close", "code": code, "reason": "", "wasClean": True}
    assert call(page, "closes", url, None, "", False)["code"] == 1005
    assert [each[:2] for each in outcomes(page)] == [list(each) for each in [*CODES, (1005, "")]]
    for code, reason in SERVER_CODES:
        got = call(page, "closes", url, code, reason, True)
        assert got == {"type": "close", "code": code, "reason": reason, "wasClean": True}
    assert page.console() == []


def test_origins(open_browser, echo):
    page = open_browser(Page)
    page.driver.get(f"http://{echo.second}/")
    refused = [{"type": "error"}, {"type": "close", "code": 1006, "reason": "", "wasClean": False}]
    assert call(page, "attempt", f"ws://{echo.first}/ws", []) == refused
    (line,) = page.console()
    assert "Unexpected response code: 403" in line
    for path in ("/listed", "/open"):
        opened, closed = call(page, "attempt", f"ws://{echo.first}{path}", ["chat"])
        assert opened == {"type": "open"}
        assert closed == {"type": "close", "code": 1000, "reason": "", "wasClean": True}
    page.driver.get(f"http://{echo.first}/")
    assert call(page, "attempt", f"ws://{echo.first}/listed", []) == refused
    assert call(page, "attempt", f"ws://{echo.first}/ws", [])[0] == {"type": "open"}
    # A page that offers subprotocols fails the connection itself when none is chosen.
    assert call(page, "attempt", f"ws://{echo.first}/ws", ["mqtt"]) == refused
    console = "\n".join(page.console())
    assert "403" in console
    assert "Sent non-empty 'Sec-WebSocket-Protocol' header but no response was received" in console
    assert f"upgrade refused: Origin 'http://{echo.second}' is not this host" in echo.stop()
