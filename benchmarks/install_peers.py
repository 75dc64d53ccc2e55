"""Installs what the benchmarks compare ours with, for this interpreter: the extra `bench` of setup.cfg, and Node's ws.

A package that can't be installed is reported and left out; the others are still measured. The exit status is 1 then,
else 0.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata

from harness.processes import BUILD


def requirements(extra: str) -> list[str]:
    """What setup.cfg names in ``extra``."""
    named = [line.partition(";") for line in metadata.requires("silly-runtime") or ()]
    return [requirement.strip() for requirement, _, marker in named if f'"{extra}"' in marker.replace("'", '"')]


def install(packages: list[str]) -> str | None:
    """Installs ``packages``; what pip has to say when it fails."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if not done.returncode else (done.stderr.strip().splitlines() or ["it failed"])[-1]


def install_ws() -> str | None:
    """Installs Node's ws where there is Node; what npm has to say when it fails."""
    if not shutil.which("node"):
        return None  # the benchmarks report it
    if not shutil.which("npm"):
        return "there is no npm"
    options = ["--silent", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--prefix", str(BUILD)]
    BUILD.mkdir(exist_ok=True)
    done = subprocess.run(["npm", "install", *options, "ws"], capture_output=True, text=True, check=False)
    return None if not done.returncode else (done.stderr.strip().splitlines() or ["npm failed"])[-1]


def main() -> int:
    packages = requirements("bench")
    missing = {}
    if install(packages) is not None:
        # One that has no wheel here and can't be compiled must not keep the others out.
        missing = {package: reason for package in packages if (reason := install([package]))}
    reason = install_ws()
    if reason:
        missing["Node's ws"] = reason
    for package, reason in missing.items():
        print(f"benchmarks: {package} can't be installed, and is left out: {reason}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
