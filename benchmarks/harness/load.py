"""Loads: processes that keep a server busy and check its answers. most by ``load/load.c``.

All print "ready" when they have warmed the server up, run whenever they are sent a line and print what they measured as JSON,
and leave when their input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .processes import HERE, LOAD, Server, pin
from .programs import LoadError, load_program, tls_load_program

PATIENCE = 120.0
"""Seconds that a load may take beyond its run: 10,000 connections are not made in an instant."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of a server.

    ``mode``: ``text``, ``binary``, ``broadcast``, ``lines``, ``http``. ``depth`` messages of ``size`` bytes are in flight on
    each of the ``connections``; ``idle`` ones besides are silent. ``body`` is what HTTP's answer must have. ``compression``:
    a connection has one message in flight, over TCP, and none is idle.
    """

    name: str
    mode: str
    connections: int = 1
    depth: int = 1
    size: int = 64
    idle: int = 0
    body: str = ""
    path: str = "/"
    headers: str = ""
    tls: bool = False
    compression: bool = False


@dataclass(frozen=True)
class Measurement:
    """``cpu`` microseconds of the server a message; messages a second; what an answer took, in microseconds."""

    cpu: float
    rate: float
    p50: float
    p99: float


def command_of(load: Load, port: str, seconds: float) -> list[str]:
    """The command that runs ``load`` against ``port``."""
    if load.compression:
        sizes = [f"--connections={load.connections}", f"--size={load.size}", f"--seconds={seconds}"]
        return [sys.executable, str(HERE / "load" / "compressed.py"), load.mode, port, *sizes]
    program = tls_load_program() if load.tls else load_program()
    numbers = [port, load.connections, load.idle, load.depth, load.size, seconds]
    return [str(program), load.mode, *map(str, numbers), load.body, load.path, load.headers]


class RunningLoad:
    """A load that is connected and has warmed the server up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadError(f"the load failed: {self._process.communicate()[1].strip() or 'it took too long'}")
        return line

    def run(self) -> dict[str, float]:
        """Runs it once: messages, seconds, p50_us, p99_us. The server is idle when this returns, its connections still open."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        figures: dict[str, float] = json.loads(self.line())
        if not figures["messages"]:
            raise LoadError("the load failed: no message was answered")
        return figures


@contextmanager
def connected(command: Sequence[str], seconds: float) -> Iterator[RunningLoad]:
    """Starts a load, and waits until it has warmed the server up."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        pin(process.pid, LOAD)
        killer = threading.Timer(seconds + PATIENCE, process.kill)
        killer.start()
        load = RunningLoad(process)
        try:
            load.line()
            yield load
        finally:
            killer.cancel()
            process.kill()


def measure(server_command: Sequence[str], load: Load, seconds: float, env: dict[str, str] | None = None) -> Measurement:
    """Starts a server, runs ``load`` against it for ``seconds``, and says what a message cost the server."""
    with Server(server_command, env) as server, connected(command_of(load, server.port, seconds), seconds) as running:
        before = server.cpu_seconds()
        figures = running.run()
        cpu = server.cpu_seconds() - before
    messages = figures["messages"] * (load.connections if load.mode == "broadcast" else 1)
    return Measurement(cpu / messages * 1e6, messages / figures["seconds"], figures["p50_us"], figures["p99_us"])
