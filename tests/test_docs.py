"""The code of the guides runs, and does what the guides say."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from silly import check, errno
from silly import signal as silly_signal
from silly._wire.deflate import Deflate
from silly._wire.limits import DEFAULT
from silly.net import tcp, websocket

from .children import Child
from .helpers import serving, spawn
from .net import authorities
from .net.support import until

DOCS = Path(__file__).resolve().parent.parent / "docs"


def defined(name: str, count: int) -> dict[str, Any]:
    """Runs the code of a guide, which must have ``count`` blocks, and returns the names that it defines."""
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    assert len(blocks) == count
    for block in blocks:
        exec(block, namespace)
    return namespace


def test_the_quick_start_of_the_readme(tmp_path: Path) -> None:
    """The server says where it listens, and the client's line prints what stands below it; with a free port."""
    text = (DOCS.parent / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?http\.listen.*?)```", text, re.DOTALL)
    start, client = re.findall(r"```console\n\$ (.*?)```", text, re.DOTALL)
    command, line = start.splitlines()
    assert command == "python -m silly app.py"
    assert "127.0.0.1:8080" in program
    (tmp_path / "app.py").write_text(program.replace(":8080", ":0"))
    with Child("-m", "silly", str(tmp_path / "app.py")) as server:
        until(lambda: server.said().endswith("\n"), 30_000)
        port = re.search(r":(\d+)$", server.said().rstrip("\n"))[1]  # type: ignore[index]
        assert re.sub(r"\d", "0", server.said()) == re.sub(r"\d", "0", line.replace(":8080", f":{port}")) + "\n"
        command, answer = client.splitlines()
        python, option, code = shlex.split(command)
        assert (python, option) == ("python", "-c")
        with Child(option, code.replace(":8080", f":{port}")) as other:
            assert other.line() == answer
            assert other.wait() == 0
            assert other.said() == ""


@pytest.fixture
def guide() -> dict[str, Any]:
    """The names that the code of docs/websocket.md defines."""
    return defined("websocket.md", 5)


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


def test_tls(capsys: pytest.CaptureFixture[str]) -> None:
    guide = defined("tls.md", 5)
    listener = check(guide["listen"]([authorities.server().entry], authorities.root().pem))
    with listener:
        addr = f"127.0.0.1:{listener.port}"
        assert guide["talk"](addr, authorities.root().pem) == b"somebody says hello\n"
        assert guide["talk"](addr, authorities.root().pem, authorities.client().entry) == b"CN=alice says hello\n"
        assert capsys.readouterr().out == "chat/2 ('localhost', '127.0.0.1')\n" * 2
        try:
            guide["reload_on_hangup"](listener)
            loaded = listener._accepted._configuration
            os.kill(os.getpid(), signal.SIGHUP)
            until(lambda: listener._accepted._configuration is not loaded)
        finally:
            silly_signal("SIGHUP", None)
        assert guide["talk"](addr, authorities.root().pem) == b"somebody says hello\n"


def test_starttls(logs: Any) -> None:
    guide = defined("tls.md", 5)
    entry, ca = authorities.server().entry, authorities.root().pem
    with check(tcp.listen("127.0.0.1:0", lambda conn: guide["serve"](conn, [entry]))) as listener:
        assert guide["ask"](listener.addr, "hello\n", ca) == b"you said hello\n"
        with check(tcp.connect(listener.addr)) as conn:
            conn.write("hello\n")
            assert conn.read("\n") == (b"first STARTTLS\n", None)
        logs.expect("INFO tls.upgrade .*: TLS: the certificate's issuer is not trusted")
        logs.expect("INFO tls: .*handshake failed")
        assert guide["ask"](listener.addr, "hello\n", authorities.stranger().pem) == errno.TLS
    with check(tcp.listen("127.0.0.1:0", lambda conn: conn.write("what?\n"))) as listener:
        assert guide["ask"](listener.addr, "hello\n", ca) == "the server offers no TLS"


def test_a_tls_connection_that_is_refused(logs: Any) -> None:
    logs.expect("INFO tls.connect .*: TLS: the certificate's issuer is not trusted")
    logs.expect("INFO tls: .*handshake failed")
    guide = defined("tls.md", 5)
    with check(guide["listen"]([authorities.server().entry], authorities.root().pem)) as listener:
        assert guide["talk"](f"127.0.0.1:{listener.port}", authorities.stranger().pem) == errno.TLS
