"""The launcher's usage, and its hints for command lines of other programs: people who
know uvicorn, gunicorn, flask or python type what they are used to."""

from __future__ import annotations

import os
from collections.abc import Sequence

USAGE = """\
usage: python -m silly [-h] [-v] [-l LEVEL] SCRIPT [ARG ...] [--key=value ...]

Runs SCRIPT as the first task, then serves until silly.exit(), a signal, or nothing is left to do.
SCRIPT is what python runs: a file, a directory or a zip file with __main__.py, or - for standard input.

  -h, --help      show this
  -v, --version   show the versions of silly, Python and greenlet, and whether code in C runs
  -l LEVEL        log lines from LEVEL on: debug, info (the default), warn, error
  --key=value     a setting for the script: silly.env.get("key")
"""

_MODULE = "silly runs a file. End the module with silly.run(), and start it with: python -m"
_RELOAD = "silly does not watch files. Use another tool to restart it: watchfiles 'python -m silly {script}'"
_WORKERS = "Worker processes are started so: python -m silly --workers N {script}"
_APP = "silly runs a script, which calls http.listen itself, and imports no application object"

_OPTIONS = {
    "-m": f"{_MODULE} MODULE",
    "-c": "silly runs a file, or - for standard input: echo 'CODE' | python -m silly -",
    "--reload": _RELOAD,
    "--debug": f"Log lines from debug on: python -m silly -l debug {{script}}. {_RELOAD}",
    "-w": _WORKERS,
    "--threads": f"A process of silly has one thread. {_WORKERS}",
    "--worker-class": f"silly's tasks are greenlets already. {_WORKERS}",
    "-k": f"silly's tasks are greenlets already. {_WORKERS}",
    "--log-level": "Set the level of log lines so: python -m silly -l debug|info|warn|error {script}",
    "--app": _APP,
    "--app-dir": _APP,
    "--factory": _APP,
}
"""Hints for options of other programs that no setting of the script can replace."""

_PYTHON = frozenset(["-B", "-d", "-E", "-i", "-I", "-O", "-P", "-q", "-s", "-S", "-u", "-W", "-X"])
"""Options of Python."""

_SHORT = {"-b": "bind", "-H": "host", "-p": "port"}
"""Short options of other servers, and the settings that replace them."""


def unknown(option: str, others: Sequence[str]) -> str:
    """Returns what to write in place of ``option``, which stands before the script and
    is unknown. ``others`` follow it."""
    script = next((arg for arg in others if _is_file(arg)), None)
    name, equals, value = option.partition("=")
    if name in _OPTIONS:
        return _OPTIONS[name].format(script=script or "SCRIPT")
    if name[:2] in _PYTHON:
        return f"If it is an option of Python, it goes before -m: python {option} -m silly {script or 'SCRIPT'}"
    key = _SHORT.get(name) or name.lstrip("-") or "key"
    if not equals:
        value = others[0] if others and others[0] != script and others[0][:1] != "-" else "VALUE"
    return (
        f"Settings go after the script, as --key=value: python -m silly {script or 'SCRIPT'} --{key}={value}. "
        f"The script reads it by silly.env.get({key!r})"
    )


def missing(path: str, others: Sequence[str]) -> str:
    """Returns what to write in place of ``path``, which doesn't exist; "" without a
    hint. ``others`` follow it."""
    if not path:
        return "The name of the script is empty: is a variable of the shell not set?"
    module, colon, _ = path.partition(":")
    if colon and "/" not in path[len(module) :]:
        return f"{_APP}: python -m silly {_file_of(module) or 'SCRIPT'}"
    if (file := _file_of(path)) is not None:
        return f"Is it python -m silly {file}?"
    script = next((arg for arg in others if _is_file(arg)), None)
    if script is not None and path.isidentifier():
        return f"silly has no commands. Is it python -m silly {script}?"
    if "." in path and all(part.isidentifier() for part in path.split(".")) and not path.endswith(".py"):
        return f"If it is a module: {_MODULE} {path}"
    return ""


def _file_of(module: str) -> str | None:
    """Returns the script that ``module`` most likely means: a file without its ending,
    or a module's dotted name."""
    dotted = module.replace(".", os.sep)
    return next((each for each in (module, f"{module}.py", f"{dotted}.py", dotted) if _is_file(each)), None)


def _is_file(path: str) -> bool:
    return os.path.isfile(path) or os.path.isfile(os.path.join(path, "__main__.py"))
