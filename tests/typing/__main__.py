"""Checks ``program/``, a user's program in several files, with ``mypy --strict`` and pyright, against ``silly`` as it is
installed: copied into a virtual environment of its own, beside ``py.typed``.

A line that must be reported ends in ``# wrong:`` and the names of the errors, mypy's and pyright's (those begin with
"report"). Exactly these errors must come, else this says which are missing or too many, and ends with status 1. pyright
needs Node: without it, it is left out, and that is said; where SILLY_NEED_NODE is set, as in CI, that is an error.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import silly

PROGRAM = Path(__file__).parent / "program"
PATIENCE = 300
"""Seconds after which a checker is taken to hang."""
WRONG = re.compile(r"# wrong: ([\w, -]+)$")
MYPY = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*)  \[(?P<code>[\w-]+)\]$")

Errors = set[tuple[str, int, str]]
"""File, line, and name of the error."""


def expected() -> Errors:
    """What the comments of the program say."""
    found: Errors = set()
    for path in sorted(PROGRAM.glob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := WRONG.search(line):
                found.update((path.name, number, name) for name in match[1].split(", "))
    return found


def install(site: Path) -> Path:
    """A virtual environment that has ``silly``, and what is installed beside it here; its interpreter."""
    venv.create(site, with_pip=False, symlinks=True)
    python = site / "bin" / "python"
    packages = site / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    shutil.copytree(Path(silly.__file__).parent, packages / "silly", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(*command: str | Path, cwd: Path) -> str:
    """What a checker printed; its status says only whether it found something."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode not in (0, 1):
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def by_mypy(program: Path, python: Path) -> tuple[Errors, list[str]]:
    """The errors, and the lines that tell them."""
    options = ["--strict", "--no-incremental", "--config-file=", "--no-error-summary", "--python-executable", python]
    lines = run(sys.executable, "-m", "mypy", *options, ".", cwd=program).splitlines()
    found: Errors = set()
    for line in lines:
        if match := MYPY.match(line):
            found.add((Path(match["file"]).name, int(match["line"]), match["code"]))
        elif ": note: " not in line:
            sys.exit(f"mypy says what is not understood here: {line}")
    return found, lines


def by_pyright(program: Path, python: Path) -> tuple[Errors, list[str]]:
    """The same by pyright."""
    printed = run(sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", python, ".", cwd=program)
    found: Errors = set()
    lines = []
    for each in json.loads(printed)["generalDiagnostics"]:
        if each["severity"] != "error":
            continue
        name, line = Path(each["file"]).name, each["range"]["start"]["line"] + 1
        rule = each.get("rule", "syntax")
        found.add((name, line, rule))
        lines.append(f"{name}:{line}: {each['message']} [{rule}]")
    return found, lines


def compare(checker: str, wanted: Errors, found: Errors, lines: list[str]) -> bool:
    """Says where they differ; whether they don't."""
    missing, extra = wanted - found, found - wanted
    for name, number, error in sorted(missing):
        print(f"{checker} does not report: {name}:{number}: {error}")
    for name, number, error in sorted(extra):
        told = [line for line in lines if line.startswith(f"{name}:{number}:")]
        print(f"{checker} reports what is right: {name}:{number}: {error}", *told, sep="\n    ")
    if not missing and not extra:
        print(f"{checker}: {len(wanted)} errors where they must be, and no other")
    return not missing and not extra


def main() -> int:
    wanted = expected()
    with tempfile.TemporaryDirectory() as folder:
        python = install(Path(folder) / "site")
        program = Path(folder) / "program"
        shutil.copytree(PROGRAM, program, ignore=shutil.ignore_patterns("__pycache__"))
        of_mypy = {error for error in wanted if not error[2].startswith("report")}
        right = compare("mypy", of_mypy, *by_mypy(program, python))
        if shutil.which("node") is None:
            print("SKIPPED THIRD PARTY: pyright did not check tests/typing: no node on this machine")
            return 1 if os.environ.get("SILLY_NEED_NODE") or not right else 0
        right &= compare("pyright", wanted - of_mypy, *by_pyright(program, python))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
