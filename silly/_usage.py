"""The launcher's usage, and its hints for command lines of other programs: people who
know uvicorn, gunicorn, flask, upstream or python type what they are used to."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

USAGE = """\
usage: python -m silly [OPTION ...] SCRIPT [ARG ...] [--key=value ...]

Runs SCRIPT as the first task, then serves until silly.exit(), a signal, or nothing is left to do.
SCRIPT is what python runs: a file, a directory or a zip file with __main__.py, or - for standard input.

  -h, --help              show this
  -v, --version           show the versions of silly, Python and greenlet, and whether code in C runs
  -l, --log-level LEVEL   log lines from LEVEL on: debug, info (the default), warn, error
  --log-path FILE         append log lines, stdout and stderr to FILE; SIGUSR1 opens it anew
  --env-file FILE         variables for the environment: lines of KEY=VALUE; may be given again
  --reload                for development: start the program anew when its files change

  --workers N             serve with N processes; SIGHUP replaces them one by one
  --max-rss SIZE          replace a worker that takes more memory: 512M, 2G
  --max-age TIME          replace a worker that is older: 12h
  --drain TIME            how long handlers may go on at the end (2s)
  --notice TIME           how long everything goes on before that, while /readyz says 503 (0)
  --spread TIME           close WebSockets over this time of the drain (0)

  -d, --daemon            run in the background; returns when the program is ready
  --pid-file FILE         write the number of the process there; refuses to start if that runs already

  --key=value             a setting for the script: silly.env.get("key")

TIME is in milliseconds, or has a unit: ms, s, m, h. Variables do the same: SILLY_WORKERS=4, SILLY_KEY=value.
docs/deploying.md says more.
"""

MORE = "python -m silly --help lists the options."
"""Stands behind a hint, which the whole usage would push out of the terminal."""

_MODULE = "silly runs a file. End the module with silly.run(), and start it with: python -m"
_APP = "silly runs a script, which calls http.listen itself, and imports no application object"
_GREENLETS = "Leave it out: one thread runs all tasks of a process, as greenlets. More processes: --workers N"
_ACCESS = "The script sets it: http.listen(accesslog=http.AccessLog(\"combined\", \"access.log\"))"
_TRUSTED = "The script sets it: http.listen(trusted=[\"10.0.0.0/8\"], forwarded=\"x-forwarded-for\")"
_AFFINITY = "silly has no such threads. Pin the process: taskset -c CPU python -m silly {script}"
_LUA = "Python finds modules beside the script, and in PYTHONPATH"

_OPTIONS = {
    "-m": f"{_MODULE} MODULE",
    "-c": "silly runs a file, or - for standard input: echo 'CODE' | python -m silly -",
    "--debug": "Log lines from debug on, and a new start when files change: python -m silly -l debug --reload {script}",
    "--reload-dir": "--reload watches the script's folder and what it imports: python -m silly --reload {script}",
    "-w": "python -m silly --workers N {script}",
    "-D": "python -m silly --daemon {script}",
    "--pid": "python -m silly --pid-file FILE {script}",
    "--pidfile": "python -m silly --pid-file FILE {script}",
    "--logpath": "python -m silly --log-path FILE {script}",
    "--log-file": "python -m silly --log-path FILE {script}",
    "--error-logfile": "python -m silly --log-path FILE {script}",
    "--loglevel": "python -m silly --log-level LEVEL {script}",
    "--graceful-timeout": "python -m silly --drain TIME {script}",
    "--timeout-graceful-shutdown": "python -m silly --drain TIME {script}, as in --drain 30s",
    "--max-requests": "Workers are replaced for their memory or age: python -m silly --workers N --max-rss 512M {script}",
    "--limit-max-requests": "Workers are replaced for their memory or age: python -m silly --workers N --max-rss 512M {script}",
    "--preload": "Leave it out: each worker loads the script itself, so that SIGHUP brings new code",
    "--timeout": "Leave it out: the log names a task that holds the loop. For the end: python -m silly --drain TIME {script}",
    "--threads": _GREENLETS,
    "--worker-class": _GREENLETS,
    "--worker-connections": "The script sets it: http.listen(limits=silly.Limits(connections=10_000))",
    "-k": _GREENLETS,
    "--access-logfile": _ACCESS,
    "--access-log": _ACCESS,
    "--forwarded-allow-ips": _TRUSTED,
    "--proxy-headers": _TRUSTED,
    "--uds": "The script sets it: http.listen(addr=\"unix:/run/app.sock\")",
    "--fd": "The script sets it: http.listen(addr=\"fd:3\")",
    "--app": _APP,
    "--app-dir": _APP,
    "--factory": _APP,
    "--lualib-path": _LUA,
    "--lualib-cpath": _LUA,
    "-L": _LUA,
    "-C": _LUA,
    "--socket-affinity": _AFFINITY,
    "--worker-affinity": _AFFINITY,
    "--timer-affinity": _AFFINITY,
    "-T": _AFFINITY,
}
"""Hints for options of other programs, and for upstream's that we lack."""

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
    from difflib import get_close_matches

    if close := get_close_matches(name, re.findall(r"^  .*?(--[a-z-]+)(?: |$)", USAGE, re.MULTILINE), 1, 0.8):
        return f"Is it {close[0]}?"
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
