"""A restart under load, in short; ``make restart-bench`` is the long form. And the load itself counts what is lost."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from silly import time as silly_time
from silly.net import tcp

from ..children import in_thread

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")


@pytest.fixture(scope="module")
def modules() -> Iterator[SimpleNamespace]:
    """The harness, which belongs to no package that is installed."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from restart import scenarios, service, table

        yield SimpleNamespace(scenarios=scenarios, service=service, table=table)
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("harness", "restart"):
                del sys.modules[name]


@pytest.fixture
def restart(modules: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Does something to our server under load, and returns what came of it."""

    scenarios = modules.scenarios
    monkeypatch.setattr(scenarios, "BEFORE", 0.2)
    monkeypatch.setattr(scenarios, "AFTER", 0.3)

    def run(what: Any, workers: int, ends: bool = False) -> Any:
        scenario = scenarios.Scenario("short", "short", what, workers=workers, ends=ends)
        # The time-out is not what is tested: on a busy machine the load, too, has to wait.
        plan = scenarios.Plan(times=1, terms=2, pause=0.3, requests=100, sockets=50, timeout=20, quiet=0, pinned=False)
        result = in_thread(scenarios.run, modules.service.OURS, scenario, plan, tmp_path)
        if ends:
            # What comes between its last look and the close of its listener is reset by the kernel: it was not accepted.
            for reason in ("not connected: ECONNRESET", "reset on a new connection", "reset in the handshake"):
                result["event"]["lost"].pop(reason, None)
                result["event"]["ws_lost"].pop(reason, None)
        said = "\n".join([*result["event"]["examples"], (tmp_path / "log").read_text()])
        assert not modules.table.faults(scenario, result), said
        assert not any(result["statuses"])
        return result["event"]

    return run


@pytest.mark.timeout(180)
def test_workers_are_replaced_and_nothing_is_lost(modules: SimpleNamespace, restart: Any) -> None:
    def replace(*args: Any) -> None:
        modules.scenarios.sighup(*args)
        modules.scenarios.sigterms(*args)

    event = restart(replace, workers=2)
    assert event["whole"] + event["busy"] == event["requests"] > 50
    assert event["closed"]["1001"] >= 50  # SIGHUP closes them all


@pytest.mark.timeout(180)
def test_what_a_process_has_accepted_is_answered_when_it_ends(modules: SimpleNamespace, restart: Any) -> None:
    event = restart(modules.scenarios.alone, workers=1, ends=True)
    assert event["closed"] == {"1001": 50}


# ---- the load ---------------------------------------------------------------------------------------------------------


class Unfaithful:
    """A server that answers some requests as it should, and notes what the load should make of the others."""

    def __init__(self) -> None:
        self.due: Counter[str] = Counter()
        self.cut: set[bool] = set()
        """Where it has cut an answer: on a new connection (True), on a kept one."""
        self.sockets = 0
        self.listener, err = tcp.listen("127.0.0.1:0", self.serve)
        assert self.listener is not None, err

    def serve(self, conn: Any) -> None:
        with conn:
            first = True
            while (head := self.head(conn)) and self.answer(conn, head, first):
                first = False

    def head(self, conn: Any) -> str:
        lines = []
        while (line := conn.read("\n")[0]) and line != b"\r\n":
            lines.append(line.decode())
        return "".join(lines)

    def answer(self, conn: Any, head: str, first: bool) -> bool:
        """Whether the connection stays."""
        path, _, number = head.split(" ")[1].partition("?id=")
        if path == "/ws":
            return self.upgrade(conn, head)
        body = f"{number}\n" if path != "/parts" else "".join([f"{number} {part} ".ljust(4096, ".") for part in range(5)])
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        match int(number) % 8:
            case 0:
                self.due["lost" if first else "retried"] += 1
                return False
            case 1:
                self.due["lost"] += 1
                self.cut.add(first)
                conn.write(answer[:-1])
                return False
            case 2:
                self.due["lost"] += 1
                conn.write(answer[:-2] + "x\n")
                return False
            case 3:
                self.due["busy"] += 1
                answer = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
            case 4:
                self.due["lost"] += 1
                answer = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
            case _:
                self.due["whole"] += 1
        conn.write(answer)
        return "Connection: close" not in head

    def upgrade(self, conn: Any, head: str) -> bool:
        """Of three WebSockets, one is closed, one is cut, and one stays."""
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        conn.write(f"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")
        number, self.sockets = self.sockets, self.sockets + 1
        if number % 3 == 0:
            conn.write(b"\x88\x02\x03\xe9")
            conn.read(8)  # its closing frame: two bytes, the mask, the code
        elif number % 3 == 2:
            while (frame := conn.read(2)[0]) and frame[0] == 0x81:
                mask, text = conn.read(4)[0], conn.read(frame[1] & 127)[0]
                conn.write(b"\x81" + bytes([len(text)]) + bytes([byte ^ mask[at % 4] for at, byte in enumerate(text)]))
        return False


@pytest.mark.timeout(60)
def test_the_load_counts_what_is_lost() -> None:
    server = Unfaithful()
    with server.listener:
        port = server.listener.port
        command = [sys.executable, "-m", "restart.load", f"--port={port}", "--requests=300", "--sockets=2", "--timeout=20"]
        with subprocess.Popen(command, cwd=BENCHMARKS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdin is not None
            assert load.stdout is not None
            try:
                assert in_thread(load.stdout.readline) == "ready\n"
                while server.due["retried"] < 10 or len(server.cut) < 2:
                    silly_time.sleep(10)
                out, _ = in_thread(load.communicate)
            finally:
                load.kill()
    (window,) = json.loads(out)
    assert window["requests"] == window["whole"] + window["busy"] + sum(window["lost"].values())
    lost, retried = sum(window["lost"].values()), len(window["retried"])
    assert server.due == {"whole": window["whole"], "busy": window["busy"], "lost": lost, "retried": retried}
    assert set(window["lost"]) == {
        *("closed on a new connection", "cut on a new connection", "cut on a kept connection"),
        *("another body", "status HTTP/1.1 503 Busy"),
    }
    assert window["closed"] == {"1001": 2, "1006": 2}
    assert window["reconnected"] == 4
    assert not window["ws_lost"]
