"""The launcher:
``python -m silly [OPTION ...] SCRIPT [ARG ...] [--key=value ...]``.

The script runs as the first task, with ``__name__ == "__main__"``, and finds what it
would find if ``python SCRIPT`` ran it: the names of its module, ``sys.argv``, and
``sys.path``, whose first entry is the directory of the file that a link leads to. A
directory or a zip file with ``__main__.py``, a ``.pyc`` file, and ``-`` for standard
input run as well. Then the loop runs until ``silly.exit``, a signal, or until nothing
is left to do. Arguments of the form ``--key=value`` after the script are settings
(``silly.env.get("key")``); they are in ``sys.argv`` too.
"""

from __future__ import annotations

import builtins
import os
import pkgutil
import sys
import traceback
import types
from importlib.machinery import BuiltinImporter, ModuleSpec, SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from typing import Any

from . import _usage, env, logger
from ._core import ending, scheduler
from ._ends import ENDS
from ._log import task
from ._shown import traceback_of
from ._version import version
from .ops import ready
from .ops.options import BadOption, Options, check, knows, take, take_environment

_LEVELS = {"debug": logger.DEBUG, "info": logger.INFO, "warn": logger.WARN, "error": logger.ERROR}


class _Unfit(Exception):
    """The script can't run. The text says why."""


def _fail(text: str) -> int:
    print(f"silly: {text}", file=sys.stderr)
    return 2


def main(args: list[str]) -> int:
    """Runs the command line ``args``. Returns the exit status if no script runs."""
    options = Options()
    while args and args[0].startswith("-") and args[0] != "-":
        option = args.pop(0)
        if option == "--":
            break
        if option in ("-h", "--help"):
            print(_usage.USAGE, end="")
            return 0
        if option in ("-v", "-V", "--version"):
            print(_versions())
            return 0
        if not knows(option):
            return _fail(f"unknown option {option!r}\n{_usage.unknown(option, args)}\n{_usage.USAGE}")
        try:
            take(option, args, options)
        except BadOption as exc:
            return _fail(str(exc))
    if not args:
        return _fail(f"no script given\n{_usage.USAGE}")
    try:
        take_environment(options, os.environ)
        check(options)
    except BadOption as exc:
        return _fail(str(exc))
    logger.setlevel(_LEVELS[options.level])
    return _run_script(args)


def _versions() -> str:
    import greenlet

    return f"silly {version} (Python {sys.version.split()[0]}, greenlet {greenlet.__version__}, {_extensions()})"


def _extensions() -> str:
    """Says whether the C extensions are used, and if not, why."""
    if os.environ.get("SILLY_PURE") == "1":
        return "pure Python: SILLY_PURE=1"
    try:
        import silly._core._speedups
        import silly._wire._answer_speedups
        import silly._wire._chunked_speedups
        import silly._wire._head_speedups
        import silly._wire._speedups
        import silly.net._speedups
        import silly.net._tls_speedups  # noqa: F401
    except ModuleNotFoundError as exc:
        return f"slower Python code runs: {exc.name} was not built"
    except ImportError as exc:
        return f"slower Python code runs: {exc}"
    from .net import _tls_pipe

    return f"accelerated in C, TLS {_tls_pipe.in_words()}"


def _run_script(args: list[str]) -> int:  # noqa: RET503 - the last line never returns
    path = args[0]
    try:
        code, names, place = _load(path)
    except OSError as exc:
        hint = _usage.missing(path, args[1:]) if isinstance(exc, FileNotFoundError) else ""
        return _fail(f"can't open {path!r}: {exc.strerror or exc}" + (f"\n{hint}" if hint else ""))
    except _Unfit as exc:
        return _fail(str(exc))
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as exc:
        print("".join(traceback.format_exception_only(exc)), end="", file=sys.stderr)
        return _fail(f"{path!r} is not a Python script")
    for arg in args[1:]:
        key, equals, value = arg.partition("=")
        if key.startswith("--") and len(key) > 2 and equals:
            env.set(key[2:], value)
    sys.argv[:] = args
    if not sys.flags.safe_path:
        sys.path[0] = place
    elif names["__spec__"] is not None:
        sys.path.insert(0, place)
    module = types.ModuleType("__main__")
    module.__dict__.update(names, __builtins__=builtins)
    sys.modules["__main__"] = module

    def script() -> None:
        try:
            exec(code, module.__dict__)
            ready.script_ended()
        except ENDS:
            raise
        except BaseException as exc:
            # Without the launcher's frames, which say nothing to the script's author.
            tb = traceback_of(exc)
            BaseException.with_traceback(exc, tb and tb.tb_next)
            scheduler.uncaught(task, f"{path}:", exc)
            ending.exit(1)

    script.__qualname__ = path
    ending.run(script, sys._getframe())
    # Nothing is left to do. This closes the connections that the script still holds,
    # after sending what was written.
    ending.exit(0)



def _load(path: str) -> tuple[types.CodeType, dict[str, Any], str]:
    """Returns what Python would make of the script ``path``: its code, the names of its
    module, and the first entry of ``sys.path``.

    Raises OSError if it can't be read, _Unfit, and what ``compile`` raises.
    """
    if path == "-":
        if sys.stdin is None:
            raise _Unfit("there is no standard input to read the script from")
        code = compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True)
        return code, _names("<stdin>", BuiltinImporter), ""
    # Python makes it absolute, and changes nothing else.
    file = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    finder = pkgutil.get_importer(file) if path else None
    if finder is not None:
        return _load_main(path, file, finder.find_spec("__main__"))
    with open(path, "rb") as script:
        source = script.read()
    place = os.path.dirname(os.path.realpath(path))
    if source.startswith(MAGIC_NUMBER[2:], 2) or path.endswith(".pyc"):
        sourceless = SourcelessFileLoader("__main__", file)
        return _code(path, sourceless), _names(file, sourceless), place
    code = compile(source, file, "exec", dont_inherit=True)
    return code, _names(file, SourceFileLoader("__main__", file)), place


def _load_main(path: str, file: str, spec: ModuleSpec | None) -> tuple[types.CodeType, dict[str, Any], str]:
    """``_load`` for a directory or a zip file."""
    if spec is None:
        raise _Unfit(f"can't find __main__.py in {path!r}: silly runs a script, or a directory or a zip file with __main__.py")
    return _code(path, spec.loader), _names(spec.origin or file, spec.loader, spec), file


def _code(path: str, loader: Any) -> types.CodeType:
    try:
        code: types.CodeType = loader.get_code("__main__")
    except (ImportError, EOFError) as exc:
        raise _Unfit(f"can't run {path!r}: {exc}") from None
    return code


def _names(file: str, loader: object, spec: ModuleSpec | None = None) -> dict[str, Any]:
    """Returns the names that Python gives the module of a script. ``multiprocessing``
    needs them to find what to run in its processes, and ``pickle`` to find classes."""
    names: dict[str, Any] = {"__annotations__": {}} if sys.version_info < (3, 14) else {}
    return names | {
        "__file__": file,
        "__loader__": loader,
        "__spec__": spec,
        "__package__": None if spec is None else spec.parent,
        "__cached__": None if spec is None else spec.cached,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
