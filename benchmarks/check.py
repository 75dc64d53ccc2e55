"""Whether the working tree is slower than another revision: `make bench-check BASE=revision` runs this.

    python benchmarks/check.py BASE [--new REVISION] [--pairs 20] [--tolerance 0.02] [--only TEXT]

Both are installed beside each other, C extensions included, for this interpreter and its packages. They run the echo, HTTP and
TCP loads of the benchmarks, and two of the loads over TLS, with the servers that are in this directory. A pair is one server
of each; they are under load by turns of a twentieth of a second, so that whatever makes the machine slow for a while does so
to both, and give one ratio new / base of CPU time a message. The next pair are new processes: the layout of memory, for one,
is another each time.

The verdict of a load comes from an interval that holds the median of these ratios, by the sign test: it needs no assumption
about the noise, which here is neither normal nor symmetrical. All loads together are right with 95 % confidence, so each
interval is wider than that (Bonferroni). A load is slower when its whole interval lies above 1 + tolerance, not slower when
it ends below; else the noise is too great to tell, which is said. Status 1 when a load is slower, 2 when it can't be run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.certificate import make_certificate
from harness.figures import NOT_SLOWER, SLOWER, UNDECIDED, Verdict, verdict
from harness.load import PATIENCE, Load, command_of, connected
from harness.processes import HERE, Server, ServerError, silly
from harness.programs import LoadError, tls_load_program
from suites import echo, http, tcp, tls

ROOT = HERE.parent
PACKAGE = ("silly", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
"""What the working tree is installed from."""
CONFIDENCE = 0.95
SLICE = 0.05
"""Seconds that one side is under load before the other is again."""
LOADS = [
    *[("ws_echo.py", "WebSocket echo", load) for load in echo.PLAIN_LOADS],
    *[("http_hello.py", "HTTP hello", load) for load in http.LOADS],
    *[("tcp_echo.py", "TCP line echo", load) for load in tcp.LOADS],
    ("ws_tls.py", "TLS", tls.WSS_64),
    ("tls_echo.py", "TLS", tls.LINES_64),
]


class CheckError(Exception):
    """The comparison can't be made."""


@dataclass(frozen=True)
class Installed:
    """A revision that is installed in ``site``; ``about`` is what it says of itself."""

    name: str
    site: Path
    about: str

    @property
    def env(self) -> dict[str, str]:
        """With this an interpreter imports it, not the one that is installed for all."""
        return {"PYTHONPATH": str(self.site)}


def output(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Runs a command that has to succeed; what it printed."""
    whole = {**os.environ, **(env or {})}
    done = subprocess.run(command, cwd=cwd, env=whole, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckError(f"{' '.join(map(str, command))} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


@contextmanager
def checked_out(revision: str | None, directory: Path) -> Iterator[Path]:
    """The files of a revision, in a worktree that is removed afterwards; None: those of the working tree, as they are."""
    if revision is None:
        directory.mkdir()
        listed = output("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PACKAGE)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).exists():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, directory / name)
        yield directory
        return
    commit = output("git", "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").strip()
    output("git", "worktree", "add", "--detach", directory, commit)
    try:
        yield directory
    finally:
        output("git", "worktree", "remove", "--force", directory)


def install(revision: str | None, directory: Path) -> Installed:
    """Installs a revision into a directory of its own, with its C extensions if it has some that can be built here."""
    site = directory / "site"
    with checked_out(revision, directory / "tree") as tree:
        # By pip, since that works for any layout. Without isolation: the packages of this interpreter build and run both.
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
        output(*pip, "--target", site, tree)
    env = {"PYTHONPATH": str(site)}
    where = output(sys.executable, "-P", "-c", "import silly; print(silly.__file__)", env=env).strip()
    if not Path(where).is_relative_to(site):
        raise CheckError(f"{revision or 'the working tree'} is not what would be measured, but {where}")
    return Installed(revision or "working tree", site, output(sys.executable, "-P", "-m", "silly", "-v", env=env).strip())


class Side:
    """One server of a pair, with its load connected."""

    def __init__(self, command: Sequence[str], load: Load, revision: Installed, stack: ExitStack) -> None:
        self._server = stack.enter_context(Server(command, revision.env))
        self._load = stack.enter_context(connected(command_of(load, self._server.port, SLICE), PATIENCE))
        self._cpu = 0.0
        self._messages = 0.0

    def turn(self) -> None:
        """Is under load for a slice of time."""
        before = self._server.cpu_seconds()
        self._messages += self._load.run()["messages"]
        self._cpu += self._server.cpu_seconds() - before

    def cost(self) -> float:
        """CPU microseconds a message."""
        return self._cpu / self._messages * 1e6


def run_pair(command: Sequence[str], load: Load, base: Installed, new: Installed, seconds: float) -> tuple[float, float]:
    """The cost of a message for each; which one goes first alternates."""
    with ExitStack() as stack:
        sides = [Side(command, load, revision, stack) for revision in (base, new)]
        for number in range(max(2, round(seconds / SLICE))):
            for side in sides if number % 2 == 0 else reversed(sides):
                side.turn()
        return sides[0].cost(), sides[1].cost()


def compare(
    command: Sequence[str], load: Load, base: Installed, new: Installed, options: argparse.Namespace, confidence: float
) -> tuple[float, float, Verdict]:
    """The median cost of both, and what the pairs say."""
    pairs = [run_pair(command, load, base, new, options.seconds) for _ in range(options.pairs)]
    before, after = (statistics.median(costs) for costs in zip(*pairs, strict=True))
    return before, after, verdict([cost / was for was, cost in pairs], options.tolerance, confidence)


def tls_options(directory: Path) -> list[str]:
    """The options of our servers for TLS. Raises LoadError when there can't be a load over TLS, or no certificate."""
    tls_load_program()
    cert, key = make_certificate(directory)
    return [f"--cert={cert}", f"--key={key}"]


def conclusion(verdicts: Sequence[tuple[str, Verdict]], tolerance: float) -> tuple[str, int]:
    """What to say in the end, and the status to end with."""
    slower = [name for name, each in verdicts if each.what == SLOWER]
    undecided = [name for name, each in verdicts if each.what == UNDECIDED]
    lines = []
    if slower:
        lines.append(f"Slower by more than {tolerance:.1%}: {'; '.join(slower)}.")
    if undecided:
        lines.append(
            f"The noise is too great to tell whether these are slower by more than {tolerance:.1%}: {'; '.join(undecided)}. "
            "More pairs, or a quieter machine, would tell."
        )
    if not lines:
        lines.append(f"No load is slower by more than {tolerance:.1%}.")
    return "\n".join(lines), 1 if slower else 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="the revision to compare with")
    parser.add_argument("--new", metavar="REVISION", help="compare this one, not the working tree")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of servers (20)")
    parser.add_argument("--seconds", type=float, default=0.5, help="under load of each server (0.5)")
    parser.add_argument("--tolerance", type=float, default=0.02, help="a slow-down that is of no interest (0.02: 2 %%)")
    parser.add_argument("--only", metavar="TEXT", help="the loads whose name contains this")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    loads = [each for each in LOADS if options.only is None or options.only in f"{each[1]}, {each[2].name}"]
    if not loads:
        raise CheckError(f"no load has {options.only!r} in its name")
    with tempfile.TemporaryDirectory() as directory:
        secure: list[str] = []
        try:
            secure = tls_options(Path(directory))
        except LoadError as exc:
            print(f"The loads over TLS are left out: {exc}")
            loads = [each for each in loads if not each[2].tls]
            if not loads:
                raise
        confidence = 1 - (1 - CONFIDENCE) / len(loads)
        base, new = Path(directory) / "base", Path(directory) / "new"
        base.mkdir()
        new.mkdir()
        before, after = install(options.base, base), install(options.new, new)
        for name, revision in (("base", before), ("new", after)):
            print(f"{name + ':':5} {revision.name}: {revision.about}")
        print(f"{options.pairs} pairs of {options.seconds:g} s; the interval of each has a confidence of {confidence:.1%}\n")
        print(f"{'CPU µs a message':62} {'base':>8} {'new':>8}   new / base")
        verdicts = []
        for script, kind, load in loads:
            command = silly(script, "--port={port}", *(secure if load.tls else ()))
            was, cost, each = compare(command, load, before, after, options, confidence)
            title = f"{kind}, {load.name}"
            verdicts.append((title, each))
            what = {SLOWER: "SLOWER", NOT_SLOWER: "not slower", UNDECIDED: "too noisy to tell"}[each.what]
            print(f"{title:62} {was:8.2f} {cost:8.2f}   {each.median:.3f} [{each.low:.3f}-{each.high:.3f}]  {what}", flush=True)
    text, status = conclusion(verdicts, options.tolerance)
    print(f"\n{text}")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CheckError, LoadError, ServerError) as exc:
        print(f"bench-check: {exc}", file=sys.stderr)
        sys.exit(2)
