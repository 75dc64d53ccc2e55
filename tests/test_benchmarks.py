"""The benchmarks work, and their statistics decide right. Nothing here looks at a time that was measured."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .children import in_thread

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")


@pytest.fixture(scope="module")
def modules() -> Iterator[SimpleNamespace]:
    """The modules under test, which belong to no package that is installed."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import check
        from harness import candidates, certificate, figures, load, processes, programs, results, servers, tables
        from suites import transfers

        yield SimpleNamespace(
            candidates=candidates,
            certificate=certificate,
            check=check,
            figures=figures,
            load=load,
            processes=processes,
            programs=programs,
            results=results,
            servers=servers,
            tables=tables,
            transfers=transfers,
        )
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in set(sys.modules) - before:
            if name == "check" or name.partition(".")[0] in ("harness", "suites"):
                del sys.modules[name]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs are compiled, anew for the tests."""
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("SKIPPED: the load of the benchmarks is not tested: there is no C compiler")
    return tmp_path_factory.mktemp("build")


@pytest.fixture
def measure(modules: SimpleNamespace, build: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a load against a server of ours, for a moment."""
    monkeypatch.setattr(modules.programs, "BUILD", build)

    def run(script: str, *arguments: str, **what: Any) -> Any:
        load = modules.load.Load(name="test", **what)
        return in_thread(modules.load.measure, modules.processes.silly(script, "--port={port}", *arguments), load, 0.05)

    return run


# ---- the loads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("ws_echo.py", {"mode": "text", "connections": 3, "depth": 4, "idle": 2}),
        ("ws_echo.py", {"mode": "binary", "size": 2**20}),
        ("ws_broadcast.py", {"mode": "broadcast", "connections": 5}),
        ("ws_deflate.py", {"mode": "text", "size": 1024, "compression": True}),
        ("http_hello.py", {"mode": "http", "path": "/hello", "body": "Hello from Silly!", "headers": "Accept: */*\r\n"}),
        ("tcp_echo.py", {"mode": "lines", "connections": 2, "depth": 16}),
    ],
)
def test_a_load_is_answered(measure: Any, script: str, what: dict[str, Any]) -> None:
    got = measure(script, **what)
    assert got.cpu > 0
    assert got.rate > 0
    assert 0 < got.p50 <= got.p99


@pytest.fixture
def secure(modules: SimpleNamespace, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of a server of ours for TLS, where there is a load for it."""
    monkeypatch.setattr(modules.programs, "BUILD", build)
    try:
        options: list[str] = modules.check.tls_options(tmp_path)
    except modules.programs.LoadError as exc:
        pytest.skip(f"SKIPPED: the load over TLS is not tested: {exc}")
    return options


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("ws_tls.py", {"mode": "text", "connections": 3, "depth": 4, "idle": 2}),
        ("ws_tls.py", {"mode": "binary", "connections": 2, "size": 2**20}),
        ("ws_broadcast.py", {"mode": "broadcast", "connections": 5}),
        ("tls_echo.py", {"mode": "lines", "connections": 2, "depth": 16}),
    ],
)
def test_a_load_over_tls_is_answered(measure: Any, secure: list[str], script: str, what: dict[str, Any]) -> None:
    got = measure(script, *secure, **what, tls=True)
    assert got.cpu > 0
    assert got.rate > 0


def test_without_openssl_s_headers_the_message_says_so(
    modules: SimpleNamespace, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'openssl/err.h: No such file or directory' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(modules.programs, "BUILD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(modules.programs.LoadError, match=r"OpenSSL's headers \(Debian: libssl-dev\)(?s:.*)err.h: No such file"):
        modules.programs.tls_load_program()


def test_the_floor_echoes(modules: SimpleNamespace, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules.programs, "BUILD", build)
    command = modules.candidates.floor().command
    for what in ({"mode": "text", "connections": 3, "depth": 16}, {"mode": "binary", "connections": 2, "size": 2**20}):
        load = modules.load.Load(name="test", **what)
        assert in_thread(modules.load.measure, command, load, 0.05).cpu > 0


@pytest.mark.parametrize(
    ("name", "tls"), [*[(name, False) for name in ("UPLOAD", "READALL", "CHUNKED", "WRITE", "BYTES", "FILE")], ("FILE", True)]
)
def test_a_transfer_is_measured(
    modules: SimpleNamespace, secure: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tls: bool
) -> None:
    transfers, file = modules.transfers, tmp_path / "file"
    monkeypatch.setattr(transfers, "QUICK_SIZE", 2**20)
    file.write_bytes(bytes(2**20))
    everybody = [modules.candidates.ours("http_transfers.py", f"--file={file}", *secure * tls)]
    monkeypatch.setattr(transfers, "candidates", lambda *_: everybody)
    settings = modules.servers.Settings(1, 0, tmp_path, 100, quick=True)
    pair = ["cert", "key"] * tls
    row = in_thread(transfers.transfer_row, getattr(transfers, name), settings, str(file), *pair)
    assert row.name.endswith(", TLS") == tls
    assert row.figures["silly"][0] > 0


def test_a_wrong_answer_ends_the_load(modules: SimpleNamespace, measure: Any) -> None:
    with pytest.raises(modules.programs.LoadError, match="not the response that was expected"):
        measure("http_hello.py", mode="http", path="/hello", body="Hello from somebody else!")
    with pytest.raises(modules.programs.LoadError, match="not what was expected, at byte 0"):
        measure("http_hello.py", mode="http", path="/hello", body="Hello from silly!"[::-1])
    with pytest.raises(modules.programs.LoadError, match="no upgrade"):
        measure("http_hello.py", mode="text")


def test_a_client_s_round_trips_are_measured() -> None:
    script = BENCHMARKS / "micro" / "waits_silly.py"
    command = [sys.executable, str(script), "5"]
    done = in_thread(lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False))
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    assert len(figures) == 5
    assert all(figure > 0 for figure in figures.values())


@pytest.mark.parametrize("name", ["datagrams_silly", "parsers_silly", "tasks_silly"])
def test_scripts_run_as_they_stand(name: str) -> None:
    start = "import runpy, timing; timing.LEAST, timing.REPEATS = 1e-4, 1; runpy.run_module(" + repr(name) + ")"
    command = [sys.executable, "-c", start]
    env = {**os.environ, "PYTHONPATH": str(BENCHMARKS / "micro")}
    done = in_thread(lambda: subprocess.run(command, capture_output=True, text=True, env=env, timeout=30, check=False))
    assert (done.returncode, done.stderr) == (0, "")
    assert all(figure > 0 for figure in json.loads(done.stdout).values())


@pytest.mark.parametrize("way", ["silly", "silly_asyncio", "blocking"])
def test_other_people_s_clients_are_measured(redis_server: Any, way: str) -> None:
    start = "import timing; timing.LEAST, timing.REPEATS = 1e-4, 1; import libraries"
    addresses = json.dumps({"redis": [redis_server.host, redis_server.port]})
    env = {**os.environ, "PYTHONPATH": str(BENCHMARKS / "micro")}
    command = [sys.executable, "-c", start, way, addresses]
    done = in_thread(lambda: subprocess.run(command, capture_output=True, text=True, env=env, timeout=30, check=False))
    assert (done.returncode, done.stderr) == (0, "")
    (figure,) = json.loads(done.stdout).values()
    assert figure > 0


def test_without_a_compiler_the_message_says_so(
    modules: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules.programs, "BUILD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(modules.programs.LoadError, match="there is no C compiler: install gcc"):
        modules.programs.load_program()


def test_a_server_that_ends_is_reported_with_its_last_output(modules: SimpleNamespace) -> None:
    with pytest.raises(modules.processes.ServerError, match=r"status 1: .*no such thing"):
        modules.processes.Server([sys.executable, "-c", "raise SystemExit('no such thing')"])


CHILDREN = """
import os, socket, subprocess, sys, time
WORK = '''
import os, time
memory = b"x" * 32 * 2**20
os.read(0, 1)
while time.process_time() < 0.3:
    pass
os.write(1, b"done")
time.sleep(60)
'''
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    pipe = subprocess.PIPE
    worker = subprocess.Popen([sys.executable, "-c", PARENT, WORK], stdin=pipe, stdout=pipe, bufsize=0)
    connection, _ = listener.accept()
    worker.stdin.write(connection.recv(1))
    connection.sendall(worker.stdout.read(4))
    time.sleep(60)
"""
"""A server whose work is done by a process that a process of it has started."""


def running(pid: int) -> bool:
    """Whether a process has not ended; one that nobody waits for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_processes_that_a_server_starts_are_counted_and_end_with_it(modules: SimpleNamespace, tmp_path: Path) -> None:
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    processes = modules.processes

    def run() -> list[int]:
        with processes.Server([sys.executable, str(script), "{port}"]) as server:
            with socket.create_connection(("127.0.0.1", int(server.port)), 30) as sock:
                while len(processes.family(server.process.pid)) < 3:
                    pass
                before = server.cpu_seconds()
                sock.sendall(b"x")
                assert sock.recv(4) == b"done"
                assert server.cpu_seconds() - before > 0.1
                assert server.memory("VmRSS") > 32 * 1024
                assert server.open_files() > 6
            family: list[int] = processes.family(server.process.pid)
            os.kill(family[-1], signal.SIGKILL)
            with pytest.raises(processes.ServerError, match="a process of the server has ended meanwhile"):
                while True:
                    server.cpu_seconds()
        return family

    family = in_thread(run)
    assert len(family) == 3
    while any(running(pid) for pid in family):
        pass


# ---- the statistics ---------------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_the_sign_test(modules: SimpleNamespace) -> None:
    interval = modules.figures.interval
    # The chance that all of n draws are on one side of the median is 2 / 2**n; for one or none of 9 it is 20 / 512.
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.95) == (float("-inf"), float("inf"))
    assert interval([6.0, 1.0, 3.0, 4.0, 5.0, 2.0], 0.95) == (1.0, 6.0)
    assert interval([float(n) for n in range(9)], 0.96) == (1.0, 7.0)
    assert interval([float(n) for n in range(9)], 0.97) == (0.0, 8.0)


def test_the_interval_holds_the_median_as_often_as_it_says(modules: SimpleNamespace) -> None:
    source = random.Random(1)
    hits = 0
    for _ in range(2000):
        low, high = modules.figures.interval([source.lognormvariate(0, 0.3) for _ in range(20)], 0.95)
        hits += low <= 1 <= high
    assert hits >= 1900


def pairs(source: random.Random, slower: float, noise: float, count: int = 20) -> list[float]:
    return [slower * source.lognormvariate(0, noise) for _ in range(count)]


def test_a_slow_down_is_found(modules: SimpleNamespace) -> None:
    source = random.Random(2)
    verdicts = [modules.figures.verdict(pairs(source, 1.10, 0.03), 0.02, 0.994).what for _ in range(200)]
    assert verdicts.count(modules.figures.SLOWER) >= 190


def test_noise_is_not_a_slow_down(modules: SimpleNamespace) -> None:
    source = random.Random(3)
    for noise in (0.01, 0.05, 0.3):
        verdicts = [modules.figures.verdict(pairs(source, 1.0, noise), 0.02, 0.994).what for _ in range(200)]
        assert verdicts.count(modules.figures.SLOWER) <= 2


def test_little_noise_shows_that_nothing_is_slower_and_much_noise_is_admitted(modules: SimpleNamespace) -> None:
    figures = modules.figures
    source = random.Random(4)
    quiet = [figures.verdict(pairs(source, 1.0, 0.005), 0.02, 0.994).what for _ in range(100)]
    assert quiet.count(figures.NOT_SLOWER) >= 95
    loud = [figures.verdict(pairs(source, 1.0, 0.2), 0.02, 0.994).what for _ in range(100)]
    assert loud.count(figures.UNDECIDED) >= 95
    assert figures.verdict([1.5, 1.5, 1.5], 0.02, 0.95).what == figures.UNDECIDED, "three pairs prove nothing"


def test_the_conclusion_fails_only_for_a_slow_down(modules: SimpleNamespace) -> None:
    check, figures = modules.check, modules.figures
    slower = "echo", figures.Verdict(1.1, 1.05, 1.2, figures.SLOWER)
    same = "http", figures.Verdict(1.0, 0.99, 1.01, figures.NOT_SLOWER)
    loud = "tcp", figures.Verdict(1.0, 0.8, 1.3, figures.UNDECIDED)
    assert check.conclusion([same], 0.02) == ("No load is slower by more than 2.0%.", 0)
    text, status = check.conclusion([slower, same, loud], 0.02)
    assert status == 1
    assert "Slower by more than 2.0%: echo." in text
    text, status = check.conclusion([same, loud], 0.02)
    assert status == 0
    assert "too great to tell whether these are slower by more than 2.0%: tcp." in text


def test_the_turns_of_a_pair_alternate(modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Side:
        def __init__(self, command: list[str], load: object, revision: str, stack: object) -> None:
            self.revision = revision

        def turn(self) -> None:
            order.append(self.revision)

        def cost(self) -> float:
            return {"old": 2.0, "fresh": 3.0}[self.revision]

    monkeypatch.setattr(modules.check, "Side", Side)
    options = argparse.Namespace(pairs=8, seconds=0.2, tolerance=0.02)
    base, new, verdict = modules.check.compare([], None, "old", "fresh", options, 0.95)
    assert order == ["old", "fresh", "fresh", "old"] * 2 * 8
    assert (base, new) == (2.0, 3.0)
    assert (verdict.median, verdict.what) == (1.5, modules.figures.SLOWER)


def test_a_pair_of_servers_is_run(modules: SimpleNamespace, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules.programs, "BUILD", build)
    installed = modules.check.Installed("working tree", BENCHMARKS.parent, "")
    load = modules.load.Load(name="test", mode="lines", connections=2)
    command = modules.processes.silly("tcp_echo.py", "--port={port}")
    costs = in_thread(modules.check.run_pair, command, load, installed, installed, 0.1)
    assert min(costs) > 0


# ---- results and candidates -------------------------------------------------------------------------------------------


def test_ratios_are_taken_turn_by_turn(modules: SimpleNamespace) -> None:
    # In the second turn the machine was half as fast for both.
    row = modules.results.Row("a load", "CPU µs", {"silly": [2.0, 4.0, 2.0], "other": [3.0, 6.0, 5.0]})
    assert row.ratio("other") == modules.figures.Summary(1.5, 1.5, 2.5)
    assert row.ratio("silly") is None
    text = modules.tables.table(row)
    assert "other  5.00 [3.00-6.00]" in text
    assert "1.50x ours [1.50-2.50]" in text


def test_results_are_merged_by_suite(modules: SimpleNamespace, tmp_path: Path) -> None:
    results = modules.results
    file = tmp_path / "results" / "results.json"
    old, new = (results.Row("a row", "CPU µs", {"silly": [figure]}, missing={"peer": "not here"}) for figure in (1.0, 2.0))
    results.merge(file, "echo", results.to_json([old], {"date": "then"}))
    results.merge(file, "http", results.to_json([old], {"date": "then"}))
    results.merge(file, "echo", results.to_json([new], {"date": "now"}))
    kept = results.read(file)
    assert {name: suite["about"]["date"] for name, suite in kept.items()} == {"echo": "now", "http": "then"}
    assert results.rows_of(kept["echo"]) == [new]
    assert results.rows_of(kept["http"]) == [old]
    assert json.loads(file.read_text())["suites"]["echo"]["rows"][0]["summaries"]["silly"]["median"] == 2.0


def test_a_missing_peer_is_named_and_left_out(modules: SimpleNamespace) -> None:
    candidates = modules.candidates
    ours = candidates.Candidate("silly", ("-",))
    peer = candidates.Candidate("peer", ("-",), ("no_such_package_here",))
    figures, missing = candidates.take_turns([ours, peer], lambda candidate: 1.0, 3)
    assert figures == {"silly": [1.0, 1.0, 1.0]}
    assert list(missing) == ["peer"]
    assert "No module named 'no_such_package_here'" in missing["peer"]
    text = modules.tables.table(modules.results.Row("a load", "CPU µs", figures, missing=missing))
    assert "peer   left out: no_such_package_here can't be imported" in text


def test_a_peer_that_fails_is_left_out_but_ours_is_not(modules: SimpleNamespace) -> None:
    candidates = modules.candidates
    everyone = [candidates.Candidate(name, ("-",)) for name in ("silly", "peer", "third")]

    def fails(who: str) -> Any:
        def measure(candidate: Any) -> str:
            if candidate.name == who:
                raise modules.processes.ServerError("it fell over")
            order.append(candidate.name)
            return candidate.name

        return measure

    order: list[str] = []
    figures, missing = candidates.take_turns(everyone, fails("peer"), 3)
    assert order == ["silly", "third", "third", "silly", "third", "silly"], "each turn begins with another one"
    assert figures == {"silly": ["silly"] * 3, "third": ["third"] * 3}
    assert missing == {"peer": "failed: it fell over"}
    with pytest.raises(modules.processes.ServerError):
        candidates.take_turns(everyone, fails("silly"), 3)


def test_an_unknown_suite_is_refused_with_the_names_of_those_there_are() -> None:
    command = [sys.executable, str(BENCHMARKS / "run.py"), "nonsense"]
    done = in_thread(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
    assert done.returncode == 2
    suites = "echo, tls, http, transfers, tcp, udp, client, tasks, libraries, start, "
    assert f"there is no suite nonsense; there are {suites}" in done.stderr
