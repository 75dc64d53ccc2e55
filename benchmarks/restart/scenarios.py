"""What is done to a server under load."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.processes import HERE, LOAD, ServerError, pin

from .service import Candidate, Service

BEFORE, AFTER = 0.5, 1.0
"""The window of an event opens so many seconds before it, and stays open so many seconds after it: a request that is under way
belongs to the window in which it was due."""


class Load:
    """The load's process. A context manager that ends it."""

    def __init__(self, port: str, requests: float, sockets: int, timeout: float) -> None:
        options = [f"--port={port}", f"--requests={requests}", f"--sockets={sockets}", f"--timeout={timeout}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "restart.load", *options],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _wait_for(self, line: str) -> None:
        assert self.process.stdout is not None
        got = self.process.stdout.readline()
        if got != line:
            raise ServerError(f"the load has failed: {got!r} came instead of {line!r}")

    def __enter__(self) -> Load:
        self._wait_for("ready\n")
        return self

    def window(self, name: str) -> None:
        """Opens another window."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"window {name}\n")
        self.process.stdin.flush()
        self._wait_for("begun\n")

    def end(self) -> dict[str, dict[str, Any]]:
        """Waits for what is under way. Returns the windows."""
        out, _ = self.process.communicate()
        if self.process.returncode:
            raise ServerError(f"the load ended with status {self.process.returncode}")
        return {window["window"]: window for window in json.loads(out)}

    def __exit__(self, *_exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@dataclass(frozen=True)
class Plan:
    """How often the events happen, and the load. ``pause``: between two SIGTERMs, on average, in s."""

    times: int = 5
    terms: int = 100
    pause: float = 0.5
    requests: float = 500
    sockets: int = 500
    timeout: float = 10
    quiet: float = 3
    pinned: bool = True


def sighup(service: Service, load: Load, plan: Plan) -> None:
    for _ in range(plan.times):
        time.sleep(BEFORE)
        old = service.workers()
        os.kill(service.pid, signal.SIGHUP)
        service.until_replaced(old)
        time.sleep(AFTER)


def deploy(service: Service, load: Load, plan: Plan) -> None:
    for _ in range(plan.times):
        time.sleep(BEFORE)
        service.stop()
        service.start()
        time.sleep(AFTER)


def sigterms(service: Service, load: Load, plan: Plan) -> None:
    # A second SIGTERM would end a worker at once, so that each gets one. It may hit a worker that still starts, but only while
    # more than half of them serve: else, on a slow machine, there would be nobody left at last.
    told: set[int] = set()
    for _ in range(plan.terms):
        time.sleep(random.expovariate(1 / plan.pause))
        service.until(lambda: len(service.serving() - told) * 2 > service.workers_due, "too few workers serve")
        pid = random.choice(sorted(service.workers() - told))
        told.add(pid)
        os.kill(pid, signal.SIGTERM)
    service.until_replaced(told)
    time.sleep(AFTER)


def kills(service: Service, load: Load, plan: Plan) -> None:
    for _ in range(plan.times):
        time.sleep(BEFORE + random.random())
        pid = random.choice(sorted(service.workers()))
        os.kill(pid, signal.SIGKILL)
        service.until_replaced({pid})
        time.sleep(AFTER)


def alone(service: Service, load: Load, plan: Plan) -> None:
    for _ in range(plan.times):
        time.sleep(BEFORE)
        service.stop()
        load.window("down")  # there is nobody to answer
        service.start()
        time.sleep(AFTER)
        load.window("event")


@dataclass(frozen=True)
class Scenario:
    """``orderly``: nothing may be lost. ``workers``: how many the server has. ``inherited``: it gets its socket. ``ends``: it
    leaves nobody behind who could answer, so that connections may be refused."""

    name: str
    title: str
    run: Callable[[Service, Load, Plan], None]
    orderly: bool = True
    workers: int = 4
    inherited: bool = False
    ends: bool = False


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("sighup", "SIGHUP, 4 workers", sighup),
        Scenario("deploy", "a deploy with systemd's socket, 4 workers", deploy, inherited=True),
        Scenario("deploy1", "a deploy with systemd's socket, 1 process", deploy, inherited=True, workers=1),
        Scenario("sigterms", "SIGTERMs to workers at random moments, 4 workers", sigterms),
        Scenario("alone", "SIGTERM, 1 process, no successor", alone, workers=1, ends=True),
        Scenario("kills", "kill -9 of a worker, 4 workers", kills, orderly=False),
    )
}


def outcome(service: Service, windows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The windows ``quiet`` and ``event``, with ``begun``: how many retried requests had reached the program already."""
    numbers = service.requests()
    for window in windows.values():
        retried = window.pop("retried")
        window["retried"] = len(retried)
        window["begun"] = sum(number in numbers for number in retried)
    return {"quiet": windows["quiet"], "event": windows["event"], "statuses": service.statuses}


def run(candidate: Candidate, scenario: Scenario, plan: Plan, directory: Path) -> dict[str, Any]:
    """Does it, and returns what came of it. What the server wrote stays in ``directory``.

    Raises ServerError if the server or the load doesn't do its part.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("begun", "log"):
        (directory / name).unlink(missing_ok=True)
    with Service(candidate, directory, scenario.workers, scenario.inherited, plan.pinned) as service:
        sockets = plan.sockets if candidate.websockets else 0
        with Load(service.port, plan.requests, sockets, plan.timeout) as load:
            if plan.pinned:
                pin(load.process.pid, LOAD)
            load.window("quiet")
            time.sleep(plan.quiet)
            load.window("event")
            scenario.run(service, load, plan)
            return outcome(service, load.end())
