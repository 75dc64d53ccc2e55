"""Who takes part in a comparison, and who can't here: a package that is not installed, or can't be imported, is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from .processes import BUILD, HERE, ServerError, silly
from .programs import LoadError, floor_program

OURS = "silly"
Figure = TypeVar("Figure")


@dataclass(frozen=True)
class Candidate:
    """``command`` starts it. It needs the Python packages ``modules``, and of Node the module ``node``."""

    name: str
    command: tuple[str, ...]
    modules: tuple[str, ...] = ()
    node: str = ""
    env: dict[str, str] = field(default_factory=dict)


def ours(script: str, *arguments: str) -> Candidate:
    """A server of ours."""
    return Candidate(OURS, silly(script, "--port={port}", *arguments))


def micro(name: str, script: str, *arguments: str, modules: str = "") -> Candidate:
    """A script of ``micro`` that measures itself. ``modules``: what it needs, separated by spaces."""
    return Candidate(name, (sys.executable, str(HERE / "micro" / script), *arguments), tuple(modules.split()))


def peer(name: str, script: str, modules: str, *arguments: str) -> Candidate:
    """A server of theirs, from ``peers``; ``modules`` are separated by spaces."""
    return Candidate(name, (sys.executable, str(HERE / "peers" / script), "{port}", *arguments), tuple(modules.split()))


def node(module: str, script: str, *arguments: str) -> Candidate:
    """A server on a module of Node."""
    command = ("node", str(HERE / "peers" / script), "{port}", *arguments)
    return Candidate(f"Node {module}", command, node=module, env={"NODE_PATH": str(BUILD / "node_modules")})


def floor() -> Candidate:
    """The least that an echo can cost one thread, in C."""
    return Candidate("C floor", (str(floor_program()), "{port}"))


def absent(candidate: Candidate) -> str | None:
    """Why it can't take part, or None."""
    if candidate.node:
        return _absent_node(candidate.node)
    return next((reason for module in candidate.modules if (reason := _absent_module(module))), None)


@cache
def _absent_module(module: str) -> str | None:
    done = subprocess.run([sys.executable, "-P", "-c", f"import {module}"], capture_output=True, text=True, check=False)
    if not done.returncode:
        return None
    lines = done.stderr.strip().splitlines()
    return f"{module} can't be imported: {lines[-1] if lines else f'status {done.returncode}'}"


@cache
def _absent_node(module: str) -> str | None:
    if not shutil.which("node"):
        return "there is no node"
    env = {**os.environ, "NODE_PATH": str(BUILD / "node_modules")}
    done = subprocess.run(["node", "-e", f"require('{module}')"], capture_output=True, text=True, env=env, check=False)
    return f"Node's module {module} is not installed" if done.returncode else None


def take_turns(
    candidates: Sequence[Candidate], measure: Callable[[Candidate], Figure], runs: int
) -> tuple[dict[str, list[Figure]], dict[str, str]]:
    """Measures each candidate ``runs`` times, by turns, each time with another one first. Returns the figures,
    and which candidates have none, and why.

    A candidate that fails once is left out from there on; if that is ours it is no comparison, and raises.
    """
    missing = {candidate.name: reason for candidate in candidates if (reason := absent(candidate))}
    present = [candidate for candidate in candidates if candidate.name not in missing]
    figures: dict[str, list[Figure]] = {candidate.name: [] for candidate in present}
    for turn in range(runs):
        first = turn % len(present)
        for candidate in present[first:] + present[:first]:
            if candidate.name in missing:
                continue
            try:
                figures[candidate.name].append(measure(candidate))
            except (LoadError, ServerError) as exc:
                if candidate.name == OURS:
                    raise
                missing[candidate.name] = f"failed: {exc}"
                del figures[candidate.name]
    return figures, missing
