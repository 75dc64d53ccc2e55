"""The launcher:
``python -m silly [-h] [-v] [-l LEVEL] SCRIPT [ARG ...] [--key=value ...]``.

The script runs as the first task, with ``__name__ == "__main__"``. Then the loop runs
until ``silly.exit``, a signal, or until nothing is left to do. Arguments of the form
``--key=value`` after the script are settings (``silly.env.get("key")``); they are in
``sys.argv`` too.
"""

from __future__ import annotations

import os
import sys
import traceback
import types

from . import env, logger
from ._core import ending, scheduler
from ._ends import ENDS
from ._log import task
from ._version import version

USAGE = """\
usage: python -m silly [-h] [-v] [-l LEVEL] SCRIPT [ARG ...] [--key=value ...]

Runs SCRIPT as the first task, then serves until silly.exit(), a signal, or nothing is left to do.

  -h, --help      show this
  -v, --version   show the versions of silly, Python and greenlet, and whether code in C runs
  -l LEVEL        log lines from LEVEL on: debug, info (the default), warn, error
  --key=value     a setting for the script: silly.env.get("key")
"""

_LEVELS = {"debug": logger.DEBUG, "info": logger.INFO, "warn": logger.WARN, "error": logger.ERROR}


def _fail(text: str) -> int:
    print(f"silly: {text}", file=sys.stderr)
    return 2


def main(args: list[str]) -> int:
    """Runs the command line ``args``. Returns the exit status if no script runs."""
    while args and args[0].startswith("-"):
        option = args.pop(0)
        if option in ("-h", "--help"):
            print(USAGE, end="")
            return 0
        if option in ("-v", "--version"):
            print(_versions())
            return 0
        if option != "-l":
            return _fail(f"unknown option {option!r}\n{USAGE}")
        if not args or args[0] not in _LEVELS:
            return _fail(f"-l needs a level: {', '.join(_LEVELS)}")
        logger.setlevel(_LEVELS[args.pop(0)])
    if not args:
        return _fail(f"no script given\n{USAGE}")
    return _run_script(args)


def _versions() -> str:
    import greenlet

    return f"silly {version} (Python {sys.version.split()[0]}, greenlet {greenlet.__version__}, {_extensions()})"


def _extensions() -> str:
    """Says whether the C extensions are used, and if not, why."""
    if os.environ.get("SILLY_PURE") == "1":
        return "pure Python: SILLY_PURE=1"
    try:
        import silly._wire._speedups
        import silly.net._speedups  # noqa: F401
    except ModuleNotFoundError as exc:
        return f"slower Python code runs: {exc.name} was not built"
    except ImportError as exc:
        return f"slower Python code runs: {exc}"
    return "accelerated in C"


def _run_script(args: list[str]) -> int:  # noqa: RET503 - the last line never returns
    path = args[0]
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as exc:
        return _fail(f"can't open {path!r}: {exc.strerror}")
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as exc:
        print("".join(traceback.format_exception_only(exc)), end="", file=sys.stderr)
        return _fail(f"{path!r} is not a Python script")
    for arg in args[1:]:
        key, equals, value = arg.partition("=")
        if key.startswith("--") and len(key) > 2 and equals:
            env.set(key[2:], value)
    sys.argv[:] = args
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.abspath(path))
    module = types.ModuleType("__main__")
    module.__file__ = path
    module.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = module

    def script() -> None:
        try:
            exec(code, module.__dict__)
        except ENDS:
            raise
        except BaseException as exc:
            # Without the launcher's frames, which say nothing to the script's author.
            exc.__traceback__ = exc.__traceback__ and exc.__traceback__.tb_next
            scheduler.uncaught(task, f"{path}:", exc)
            ending.exit(1)

    script.__qualname__ = path
    ending.run(script, sys._getframe())
    # Nothing is left to do. This closes the connections that the script still holds,
    # after sending what was written.
    ending.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
