"""Where and of what the figures are."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from .processes import HERE

PEERS = (
    *("aiofastnet", "aiohttp", "gevent", "gevent-websocket", "granian", "gunicorn", "h11", "httptools", "picows", "socketify"),
    *("tornado", "uvicorn", "uvloop", "websockets", "wsproto"),
)


def describe() -> dict[str, Any]:
    """The machine, the interpreter, what ``python -m silly -v`` says of ours, the revision, and the versions of the peers."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "silly": _output(sys.executable, "-P", "-m", "silly", "-v"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "load average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "peers": {name: version for name in PEERS if (version := _version(name))},
    }


def text(about: dict[str, Any]) -> str:
    """A description, in some lines."""
    peers = ", ".join([f"{name} {version}" for name, version in about["peers"].items()])
    busy = about["load average"] > 0.5
    warning = f"\nThe machine is busy: its load average is {about['load average']:.1f}. Expect noise." if busy else ""
    return (
        f"{about['silly']}\nrevision {about['revision']}, {about['date']}\n"
        f"{about['processors']} of {about['processor']}, {about['system']}, {about['python']}\n"
        f"peers: {peers or 'none'}{warning}"
    )


def _output(*command: str) -> str:
    if not shutil.which(command[0]):
        return f"unknown (there is no {command[0]})"
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    return done.stdout.strip() if not done.returncode else f"unknown ({done.stderr.strip()[-200:]})"


def _revision() -> str:
    return _output("git", "describe", "--always", "--dirty", "--abbrev=12")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
