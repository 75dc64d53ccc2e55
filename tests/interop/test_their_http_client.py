"""Third parties' HTTP clients against our server: curl, ``http.client``, aiohttp."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from silly import Limits
from tests.conftest import Logs

from .conftest import Serve
from .http_app import DATA, DIGEST, PIECE, SIZE, app
from .peers import Peer, in_thread, run

Curl = Callable[..., CompletedProcess[bytes]]
VERSIONS = ["--http1.1", "--http1.0"]


@pytest.fixture
def curl() -> Curl:
    """``curl(arguments)``: curl, run to its end."""
    if shutil.which("curl") is None:
        pytest.skip("SKIPPED THIRD PARTY: curl is not on this machine")

    def call(*args: str, status: int = 0, data: bytes | None = None) -> CompletedProcess[bytes]:
        return run("curl", "-q", "-sS", "--max-time", "20", "--noproxy", "*", *args, status=status, data=data)

    return call


@pytest.fixture
def url(serve: Serve) -> str:
    """Where the app is served."""
    return f"http://{serve(app).address}"


@pytest.fixture
def upload(tmp_path: Path) -> str:
    """The large body, in a file."""
    path = tmp_path / "upload"
    path.write_bytes(DATA)
    return str(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_get(curl: Curl, url: str, version: str) -> None:
    got = curl(version, "-i", f"{url}/hello?name=W%C3%B6rld+%26+more")
    head, _, body = got.stdout.partition(b"\r\n\r\n")
    assert body.decode() == "Hello, Wörld & more"
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "content-type: text/plain; charset=utf-8" in lines
    assert f"content-length: {len(body)}" in lines
    assert ("connection: close" in lines) == (version == "--http1.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_head(curl: Curl, url: str, version: str) -> None:
    got = curl(version, "-I", f"{url}/hello").stdout.decode()
    assert got.startswith("HTTP/1.1 200 OK\r\n")
    assert "\r\ncontent-length: 12\r\n" in got
    assert got.endswith("\r\n\r\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_post(curl: Curl, url: str, version: str) -> None:
    told = json.loads(curl(version, "-d", "a=1&b=%20", "-H", "X-Extra: é; b", f"{url}/request").stdout)
    assert told["method"] == "POST"
    assert told["version"] == version.replace("--http", "HTTP/")
    assert told["body"] == "a=1&b=%20"
    assert told["header"]["content-length"] == "9"
    assert told["header"]["content-type"] == "application/x-www-form-urlencoded"
    assert told["header"]["x-extra"] == "é; b".encode().decode("latin-1")


def test_post_chunked(curl: Curl, url: str) -> None:
    chunked = ("-H", "Transfer-Encoding: chunked")
    told = json.loads(curl(*chunked, "-d", "in chunks", f"{url}/request").stdout)
    assert told["body"] == "in chunks"
    assert told["header"]["transfer-encoding"] == "chunked"
    assert "content-length" not in told["header"]
    for path in ("/echo", "/pieces"):
        assert curl(*chunked, "-T", "-", "-X", "POST", f"{url}{path}", data=b"").stdout == b""
        assert curl(*chunked, "-T", "-", "-X", "POST", f"{url}{path}", data=DATA[:300_000]).stdout == DATA[:300_000]


def test_methods(curl: Curl, url: str) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        assert json.loads(curl("-X", method, f"{url}/request").stdout)["method"] == method


def test_status(curl: Curl, url: str) -> None:
    for status in (200, 201, 204, 304, 400, 404, 500, 599):
        got = curl("-w", " %{http_code}", f"{url}/status?code={status}").stdout.decode()
        assert got == ("" if status in (204, 304) else "status") + f" {status}"


def test_expect_100_continue(curl: Curl, url: str) -> None:
    expect = ("-v", "--expect100-timeout", "15", "-H", "Expect: 100-continue")
    for framing in ([], ["-H", "Transfer-Encoding: chunked"]):
        got = curl(*expect, *framing, "-d", "awaited", f"{url}/echo")
        assert got.stdout == b"awaited"
        assert b"< HTTP/1.1 100 Continue" in got.stderr
        assert b"Done waiting for 100-continue" not in got.stderr


def test_expect_refused(curl: Curl, url: str, upload: str) -> None:
    expect = ("-v", "--expect100-timeout", "15", "-H", "Expect: 100-continue")
    got = curl(*expect, "--data-binary", f"@{upload}", "-w", " %{http_code} %{size_upload}", f"{url}/forbidden")
    assert got.stdout == b"no 403 0"
    assert b"100 Continue" not in got.stderr


def test_keepalive(curl: Curl, url: str) -> None:
    out = ("-w", " %{num_connects}\n")
    args: list[str] = []
    for more in ([f"{url}/peer"], ["-I", f"{url}/hello"], ["-d", "x", f"{url}/echo"], [f"{url}/status?code=304"]):
        args += [*out, *more, "--next", "-q", "-sS", "--noproxy", "*"]
    got = curl(*args, *out, f"{url}/peer").stdout.decode().splitlines()
    assert [line.split()[-1] for line in got if line.endswith((" 0", " 1"))] == ["1", "0", "0", "0", "0"]
    assert got[0].split()[0] == got[-1].split()[0]


def test_http10_keepalive(curl: Curl, url: str) -> None:
    args = ("--http1.0", "-H", "Connection: keep-alive", "-w", " %{num_connects}\n", f"{url}/peer")
    got = curl(*args, "--next", "-q", "-sS", "--noproxy", "*", *args).stdout.decode().split()
    assert (got[1], got[3]) == ("1", "0")
    assert got[0] == got[2]


@pytest.mark.parametrize("framing", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_upload(curl: Curl, url: str, upload: str, framing: list[str]) -> None:
    assert curl(*framing, "--data-binary", f"@{upload}", f"{url}/hash").stdout.decode() == DIGEST


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("query", ["", "?length=1"], ids=["chunked", "length"])
def test_download(curl: Curl, url: str, version: str, query: str) -> None:
    got = curl(version, f"{url}/download{query}").stdout
    assert len(got) == SIZE
    assert hashlib.sha256(got).hexdigest() == DIGEST


def test_upload_and_download_at_once(curl: Curl, url: str, upload: str) -> None:
    got = curl("-H", "Expect:", "--data-binary", f"@{upload}", f"{url}/pieces").stdout
    assert len(got) == SIZE
    assert hashlib.sha256(got).hexdigest() == DIGEST


@pytest.mark.parametrize("more", [["-H", "Expect:"], ["-H", "Expect:", "-H", "Transfer-Encoding: chunked"], []])
def test_upload_past_the_limit(curl: Curl, serve: Serve, upload: str, logs: Logs, more: list[str]) -> None:
    address = serve(app, limits=Limits(body=SIZE // 2)).address
    logs.expect("body longer than the limit 'body'")
    got = curl(*more, "--data-binary", f"@{upload}", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}/echo")
    assert got.stdout == b"413"


def test_unread_upload(curl: Curl, url: str, upload: str) -> None:
    """A handler that answers without reading, to a client that does not wait."""
    got = curl("-H", "Expect:", "--data-binary", f"@{upload}", "-w", " %{http_code}", f"{url}/forbidden")
    assert got.stdout == b"no 403"


def test_h2c_upgrade_is_ignored(curl: Curl, url: str) -> None:
    for more in ([], ["-d", "posted"], ["-I"]):
        got = curl("--http2", "-v", "-w", "%{http_version}", *more, f"{url}/{'echo' if '-d' in more else 'hello'}")
        assert b"> Upgrade: h2c" in got.stderr
        assert b"< HTTP/1.1 200 OK" in got.stderr
        assert got.stdout.endswith(b"posted1.1" if "-d" in more else b"\r\n1.1" if more else b"Hello, World1.1")
        assert b"101 Switching" not in got.stderr


def test_h2_without_asking(curl: Curl, url: str, logs: Logs) -> None:
    """HTTP/2's preface is no HTTP/1.1 request; the server goes on."""
    logs.expect("^INFO http: ")
    with pytest.raises(AssertionError, match="curl"):
        curl("--http2-prior-knowledge", f"{url}/hello")
    assert curl(f"{url}/hello").stdout == b"Hello, World"


def test_https(curl: Curl, serve: Serve, tls_files: dict[str, str], logs: Logs) -> None:
    served = serve(app, certs=[{"cert": tls_files["cert"], "key": tls_files["key"]}])
    url = f"https://{served.address}"
    for version in VERSIONS:
        got = curl(version, "--cacert", tls_files["ca"], f"{url}/download").stdout
        assert hashlib.sha256(got).hexdigest() == DIGEST
    # ALPN offers h2 first, which we don't have
    assert curl("--http2", "--cacert", tls_files["ca"], "-w", " %{http_version}", f"{url}/hello").stdout.endswith(b" 1.1")
    logs.expect("^INFO tls: .* handshake failed: ")
    curl(f"{url}/hello", status=60)


# ---- http.client, in a thread -----------------------------------------------------------------------------------------


def chunks() -> Iterator[bytes]:
    """The large body, in pieces."""
    for at in range(0, SIZE, PIECE):
        yield DATA[at : at + PIECE]


def test_http_client(serve: Serve) -> None:
    host, _, port = serve(app).address.partition(":")

    def talk() -> None:
        conn = http.client.HTTPConnection(host, int(port), timeout=15)

        def ask(method: str, path: str, status: int = 200, **options: object) -> tuple[bytes, http.client.HTTPResponse]:
            conn.request(method, path, **options)  # type: ignore[arg-type]
            response = conn.getresponse()
            body = response.read()
            assert response.status == status, (method, path, response.status, body)
            assert response.version == 11
            return body, response

        first, _ = ask("GET", "/peer")
        body, response = ask("GET", "/hello?name=W%C3%B6rld")
        assert body.decode() == "Hello, Wörld"
        assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
        body, response = ask("HEAD", "/hello")
        assert (body, response.getheader("Content-Length")) == (b"", "12")
        for path in ("/echo", "/pieces"):
            assert ask("POST", path, body=b"posted")[0] == b"posted"
            assert ask("POST", path, body=iter([b"po", b"", b"sted"]), encode_chunked=True)[0] == b"posted"
            assert ask("POST", path)[0] == b""
        assert ask("POST", "/hash", body=DATA)[0].decode() == DIGEST
        assert ask("POST", "/hash", body=chunks(), encode_chunked=True)[0].decode() == DIGEST
        for query in ("", "?length=1"):
            body, response = ask("GET", f"/download{query}")
            assert response.chunked != bool(query)
            assert hashlib.sha256(body).hexdigest() == DIGEST
        for status in (204, 304, 404, 500):
            assert ask("GET", f"/status?code={status}", status)[0] == (b"" if status in (204, 304) else b"status")
        assert ask("GET", "/nowhere", 404)[0] == b"nothing here"
        assert ask("GET", "/peer")[0] == first
        _, response = ask("GET", "/hello", headers={"Connection": "close"})
        assert response.will_close
        assert ask("GET", "/peer")[0] != first
        conn.close()

    in_thread(talk)


@pytest.mark.parametrize("client", ["aiohttp"], indirect=True)
def test_aiohttp(client: Peer, url: str) -> None:
    client.run("http", url=url, size=SIZE)
