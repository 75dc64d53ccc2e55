"""The code of docs/ending.md runs, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from silly import check
from silly._core import ending
from silly.net import _stream, tcp
from silly.net.http import _health
from silly.sync import channel

from .children import Child
from .helpers import Peer, Raw, raw_server

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "ending.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
CODE = "".join(BLOCKS)


def test_the_page_names_the_times() -> None:
    plan = ending.Plan()
    assert f"takes {plan.drain / 1000 + ending.FINALLY:g} s at most" in TEXT
    assert f"for {plan.drain / 1000:g} s at most" in TEXT
    assert f"new connection has {_stream.NEWCOMER:g} s" in TEXT
    assert f"for {_health.CHECK / 1000:g} s at most" in TEXT
    assert f"is waited for {ending.QUIET:g} s" in TEXT
    assert len(BLOCKS) == 3


def test_presence(tmp_path: Path) -> None:
    lines: Any = channel.new()

    def presence(conn: tcp.Conn) -> None:
        lines.push(conn.read("\n")[0])
        conn.write("ok\n")
        conn.read(1)
        conn.close()

    script = tmp_path / "app.py"
    with raw_server(presence) as listener:
        code = CODE.replace("127.0.0.1:6400", listener.addr)
        script.write_text(f"{code}\nserver = silly.check(http.listen('127.0.0.1:0', room))\nprint(server.port, flush=True)\n")
        with Child("-m", "silly", str(script)) as child:
            client = Peer(check(tcp.connect(f"127.0.0.1:{child.line()}")))
            client.send(client.upgrade_request())
            assert client.response().status == 101
            assert lines.pop()[0] == b"here\n"
            child.process.terminate()
            assert client.get_close() == (1001, "")
            client.put_close(1001)
            assert lines.pop()[0] == b"gone\n"
            client.close()
            assert child.wait() == 0, child.errors()
            assert child.errors() == ""


def test_more_time(tmp_path: Path) -> None:
    """The command line of the page, with a handler that takes longer than a drain of 10 ms, and with shorter times."""
    command = next(line for line in TEXT.splitlines() if line.startswith("python -m silly --"))
    options = command.split()[3:-1]
    assert options == ["--notice", "5s", "--drain", "30s", "--spread", "10s"]
    options[1] = "10ms"
    script = tmp_path / "app.py"
    script.write_text(f"""{CODE}
from silly import time
from silly._core import ending
assert ending.plan == (10, 30_000, 10_000, 1001)
ending.plan = ending.plan._replace(spread=10)

@router.get("/slow")
def slow(stream):
    print("serves", flush=True)
    while not server._closing:
        time.sleep(1)
    time.sleep(100)
    stream.answer(200, "finished")

server = silly.check(http.listen("127.0.0.1:0", router))
print(server.port, flush=True)
""")
    with Child("-m", "silly", *options, str(script)) as child:
        client = Raw(check(tcp.connect(f"127.0.0.1:{child.line()}")))
        for path in ("/healthz", "/readyz"):
            client.request(path)
            assert client.response().status == 200
        client.request("/slow")
        assert child.line() == "serves"
        child.process.terminate()
        response = client.response()
        assert (response.body, response.header["connection"]) == (b"finished\n", "close")
        client.eof()
        client.close()
        assert child.wait() == 0, child.errors()
        assert child.errors() == ""
