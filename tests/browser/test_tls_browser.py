"""A browser on https and wss. It trusts the tests' authority, and verifies as ever: nothing is switched off."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.authorities import SERVER, YESTERDAY, Identity, issue, root, server, stranger

from .page import Page
from .process import ServerProcess
from .trust import trust

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
CLOSED = [{"type": "error"}, {"type": "close", "code": 1006, "reason": "", "wasClean": False}]
"""What a page sees of a WebSocket that didn't come about."""
NOT_TAKEN = "handshake failed: TLS: the peer rejects our certificate (tls alert certificate unknown)"
MOST_AHEAD = 6
"""The most connections for HTTP/1.1 that a browser has to a host."""
AUDIO = 30_000_000
"""Bytes: more than a browser reads ahead."""
UPLOAD = 40_000_000
"""Bytes: more than what is on its way, so that the answer comes in the midst of them."""


class TlsServer(ServerProcess):
    """``tls_server.py`` with its files and certificates."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "authority.pem").write_text(root().pem)
        self._put("good", server("silly.test", "other.test"))
        self._put("renewed", server("silly.test", "new.test"))
        self._put("wrong", server("wrong.test"))
        self._put("stranger", issue("server", stranger(), names=["silly.test"], usage=[SERVER]))
        self._put("expired", issue("server", root(), names=["silly.test"], usage=[SERVER], end=YESTERDAY))
        files = directory / "files"
        files.mkdir()
        (files / "image.png").write_bytes(png(30, 20))
        (files / "tone.wav").write_bytes(wav(AUDIO))
        super().__init__("tls_server.py", directory, f"--directory={directory}")

    def _put(self, name: str, identity: Identity) -> None:
        (self.directory / f"{name}.crt").write_text(identity.entry["cert"])
        (self.directory / f"{name}.key").write_text(identity.entry["key"])

    def url(self, path: str = "/", server: str = "good", host: str = "silly.test", scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.told[server]}{path}"

    def served(self, server: str = "good") -> list[dict[str, Any]]:
        """The access log; whole after ``stop``."""
        return [json.loads(line) for line in (self.directory / f"{server}.log").read_text().splitlines()]


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(range(width))) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def wav(size: int) -> bytes:
    """Silence, 48,000 bytes a second."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 48_000, 48_000, 1, 8)
    return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + form + struct.pack("<4sI", b"data", size) + b"\x80" * size


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[TlsServer]:
    process = TlsServer(tmp_path)
    yield process
    process.stop()


@pytest.fixture
def open_page(open_browser: Callable[..., Page], tmp_path: Path) -> Callable[[], Page]:
    """Starts a browser that trusts the tests' authority."""
    trust(tmp_path / "home", root().pem)
    return lambda: open_browser(Page, tmp_path / "home")


def check_log(text: str, *due: str) -> None:
    """Each of ``due`` is in the log, and nothing else but connections that a browser opens ahead and gives up, and the
    server's wait for those that are still there at its end.
    """
    lines = text.splitlines()
    for words in due:
        assert any(words in line for line in lines), text
    known = (*due, "handshake failed: the peer ended the TLS handshake", " drains: ", " has drained in ")
    assert [line for line in lines if not any(words in line for words in ("listening on ", *known))] == []


def test_requests(open_page, tls_server):
    page = open_page()
    page.driver.get(tls_server.url())
    assert page.driver.execute_script("return isSecureContext")
    told = page.call("get", "/told?x=%C3%A4")
    assert told["status"] == 200
    del told["value"]["from"]
    assert told["value"] == {
        "method": "GET",
        "query": {"x": "ä"},
        "scheme": "https",
        "host": f"silly.test:{tls_server.told['good']}",
        "origin": None,
        "alpn": "http/1.1",
        "certificate": False,
    }
    assert page.call("echoed", 2**20) == {"status": 200, "same": True}
    answers = page.call("together", 20)
    assert [answer["value"]["number"] for answer in answers] == list(range(20))
    assert 4 <= len({answer["value"]["from"] for answer in answers}) <= 6
    assert page.call("pieces") == [*(f"piece {number}" for number in range(5)), "the end"]
    assert page.console() == []
    # Answered while the body is on its way: the page gets that, not a broken connection.
    for _ in range(3):
        assert page.call("post", "/short", UPLOAD)["status"] == 413
        assert page.call("post", "/refused", UPLOAD) == {"status": 403, "text": "Forbidden\n"}
    assert page.call("get", "/told")["status"] == 200
    # Connections that come after others resume their sessions.
    assert [page.call("get", "/last")["value"] for _ in range(4)][1:] == [{"resumed": True}] * 3
    check_log(tls_server.stop(), "'/short': body longer than 1000 bytes")
    served = tls_server.served()
    assert {each["status"] for each in served if each["target"] == "/short"} == {413}
    assert {each["status"] for each in served if each["target"] == "/refused"} == {403}
    assert {each["status"] for each in served if each["target"] not in ("/short", "/refused")} == {200}


def test_files(open_page, tls_server):
    page = open_page()
    page.driver.get(tls_server.url())
    assert page.call("image", "/files/image.png") == [30, 20]
    page.driver.refresh()
    assert page.call("image", "/files/image.png") == [30, 20]
    assert page.call("part", "/files/image.png", "bytes=1-3") == {
        "status": 206,
        "range": f"bytes 1-3/{len(png(30, 20))}",
        "bytes": list(b"PNG"),
    }
    assert page.call("seek", "/files/tone.wav", 620) == [AUDIO / 48_000, 620]
    ranges = [field for path, field in page.call("get", "/ranges")["value"] if path == "tone.wav"]
    assert ranges[0] == "bytes=0-"
    assert 0.9 * AUDIO < int(ranges[-1].removeprefix("bytes=").partition("-")[0]) < AUDIO
    assert page.console() == []
    assert page.call("part", "/files/image.png", "bytes=99999-")["status"] == 416
    check_log(tls_server.stop())
    served = tls_server.served()
    for target in ("/", "/socket.js", "/files/image.png"):
        assert [each["status"] for each in served if each["target"] == target][:2] == [200, 304]


def test_websocket(open_page, tls_server):
    page = open_page()
    page.driver.get(tls_server.url())
    url = tls_server.url(scheme="wss")
    assert page.call("converse", url)["extensions"].startswith("permessage-deflate")
    assert page.call("converse", url + "?plain") == {"extensions": ""}
    assert page.console() == []
    # By another name the same server and port are another origin.
    page.driver.get(tls_server.url(host="other.test"))
    assert page.call("attempt", url) == CLOSED
    (line,) = page.console()
    assert "Unexpected response code: 403" in line
    assert page.call("attempt", tls_server.url(scheme="wss", host="other.test")) == [{"type": "open"}]
    other = tls_server.url(host="other.test")[:-1]
    check_log(tls_server.stop(), f"upgrade refused: Origin {other!r} is not this host")


def test_renewal_and_drain(open_page, tls_server):
    page = open_page()
    page.driver.get(tls_server.url())
    page.call("converse", tls_server.url(scheme="wss"))
    other = tls_server.url("/told", host="new.test")
    assert page.call("failure", other) == {"name": "TypeError"}
    (line,) = page.console()
    assert "net::ERR_CERT_COMMON_NAME_INVALID" in line
    assert page.call("post", "/renew", 0) == {"status": 200, "text": '{"renewed": [true, null]}'}
    # Only the new certificate has this name, so it is in use.
    assert page.call("get", other)["status"] == 200
    assert page.call("get", "/told")["status"] == 200
    assert page.call("still") == {"state": 1}
    assert page.console() == []
    assert page.call("post", "/drain", 0)["status"] == 200
    assert page.call("ended") == {"type": "close", "code": 1001, "reason": "", "wasClean": True}
    # Each connection that the browser had opened ahead may have a request yet.
    answers = [page.call("failure", "/told")]
    while answers[-1] == {"status": 200} and len(answers) <= MOST_AHEAD:
        answers.append(page.call("failure", "/told"))
    assert answers[-1] == {"name": "TypeError"}
    (line,) = page.console()
    assert "net::ERR_CONNECTION_REFUSED" in line
    check_log(tls_server.stop(), NOT_TAKEN)


def test_refused_certificates(open_page, open_browser, tls_server, tmp_path):
    page = open_page()
    page.driver.get(tls_server.url())
    for name, code in (("stranger", "AUTHORITY"), ("wrong", "COMMON_NAME"), ("expired", "DATE")):
        assert page.call("failure", tls_server.url("/told", name)) == {"name": "TypeError"}
        assert page.call("attempt", tls_server.url(server=name, scheme="wss")) == CLOSED
        lines = page.console()
        assert len(lines) == 2
        assert all(f"net::ERR_CERT_{code}_INVALID" in line for line in lines)
    page.driver.get(tls_server.url(server="wrong"))
    assert "NET::ERR_CERT_COMMON_NAME_INVALID" in page.find("body").text
    # A client that doesn't speak TLS gets an explanation.
    page.driver.get(tls_server.url(scheme="http"))
    assert page.find("body").text == "This port speaks TLS: use https://"
    # A browser that doesn't know the authority takes none of its certificates.
    unknowing = open_browser(Page, tmp_path / "empty")
    unknowing.driver.get("about:blank")  # the page at the start may not fetch
    attempt = "async (url) => fetch(url).then(() => ({}), ({ name }) => ({ name }))"
    assert unknowing.call(f"({attempt})", tls_server.url("/told")) == {"name": "TypeError"}
    (line,) = unknowing.console()
    assert "net::ERR_CERT_AUTHORITY_INVALID" in line
    check_log(tls_server.stop(), NOT_TAKEN, "plain HTTP on a port that speaks TLS: answered 400")
    assert not any(tls_server.served(name) for name in ("stranger", "wrong", "expired"))


def test_without_a_client_certificate(open_page, tls_server):
    page = open_page()
    page.driver.get(tls_server.url(server="request"))
    assert page.call("get", "/told")["value"]["certificate"] is False
    assert page.call("failure", tls_server.url("/told", "require")) == {"name": "TypeError"}
    check_log(tls_server.stop(), "the peer sent no client certificate, but one is required")
    assert tls_server.served("require") == []
