"""The programs in C: the loads, and the server that shows the least an echo can cost. Compiled when a source is newer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .processes import BUILD, HERE


class LoadError(Exception):
    """The load could not be made or run, or an answer was not the one that was due."""


def load_program() -> Path:
    """The load."""
    return _compiled("load", "load/load.c", "load/link_tcp.c")


def tls_load_program() -> Path:
    """The load over TLS. It needs the headers of OpenSSL beside the compiler."""
    try:
        return _compiled("load_tls", "load/load.c", "load/link_tls.c", libraries=("ssl", "crypto"))
    except LoadError as exc:
        raise LoadError(f"the load over TLS needs OpenSSL's headers (Debian: libssl-dev): {exc}") from None


def floor_program() -> Path:
    """The echo server in C."""
    return _compiled("floor", "peers/floor.c")


def _compiled(name: str, *files: str, libraries: tuple[str, ...] = ()) -> Path:
    sources, program = [HERE / file for file in files], BUILD / name
    used = [*sources, *(file for source in sources for file in source.parent.glob("*.h"))]
    if program.exists() and program.stat().st_mtime >= max(file.stat().st_mtime for file in used):
        return program
    compiler = next((each for each in ("cc", "gcc", "clang") if shutil.which(each)), None)
    if compiler is None:
        raise LoadError("the load is written in C, and there is no C compiler: install gcc or clang (Debian: build-essential)")
    BUILD.mkdir(exist_ok=True)
    command = [compiler, "-O2", "-o", *map(str, (program, *sources)), *(f"-l{library}" for library in libraries)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"{compiler} could not compile {name}:\n{done.stderr.strip()}")
    return program
