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

import atexit
import builtins
import os
import pkgutil
import signal
import sys
import traceback
import types
from importlib.machinery import BuiltinImporter, ModuleSpec, SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from typing import Any

from . import _usage, env, logger
from ._core import ending, scheduler, signals
from ._ends import ENDS
from ._log import name_lines, task
from ._shown import shown, traceback_of
from ._version import version
from .ops import ready
from .ops._another import DAEMON_PIPE, LINK, RELOAD_PIPE
from .ops.options import LEVELS, BadOption, Options, check, knows, take, take_environment


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
            return _fail(f"unknown option {option!r}\n{_usage.unknown(option, args)}\n{_usage.MORE}")
        try:
            take(option, args, options)
        except BadOption as exc:
            return _fail(str(exc))
    if not args:
        return _fail(f"no script given\n{_usage.USAGE}")
    try:
        variables = _complete(options)
    except BadOption as exc:
        return _fail(str(exc))
    logger.setlevel(LEVELS.index(options.level))
    # Before there is a pid file: who reads it may send them.
    signals.provide(signal.SIGUSR1, _on_usr1)
    signals.provide(signal.SIGUSR2, _on_usr2)
    atexit.register(_ignore_signals)
    if options.daemon or options.reload:
        return _start_another(options, args)
    if not options.workers:  # each reads the files itself, at its start: they may have changed since
        for name, value in variables.items():
            os.environ.setdefault(name, value)
    ending.plan = ending.Plan(options.notice, options.drain, options.spread)
    return _run_script(args, options)


def _complete(options: Options) -> dict[str, str]:
    """Completes the options from the environment and from the files for it. Returns
    the variables of the files. Raises BadOption."""
    take_environment(options, os.environ)
    variables: dict[str, str] = {}
    if options.env_files:
        from .ops import envfile

        for path in options.env_files:
            variables |= envfile.read(path)
        take_environment(options, variables)
    check(options)
    return variables


def _start_another(options: Options, args: list[str]) -> int:
    """Starts the script in another process. Returns the status of this one."""
    if args[0] == "-":
        return _fail(f"{'--daemon' if options.daemon else '--reload'} needs a script in a file, not standard input")
    if options.reload:
        from .ops import reload

        return _take_pid_file(options) or reload.run(options, args)
    from .ops import daemon

    # What would fail is said here, where somebody reads it.
    return _take_pid_file(options, only_look=True) or daemon.start(options, args)


def _take_pid_file(options: Options, only_look: bool = False) -> int:
    """Takes the file of ``--pid-file``, or only looks whether that can be done. Returns
    0, or the exit status."""
    if options.pid_file is None:
        return 0
    from .ops import pidfile

    try:
        (pidfile.look if only_look else pidfile.take)(options.pid_file)
    except OSError as exc:
        return _fail(f"can't write the --pid-file {shown(options.pid_file)}: {exc.strerror}")
    except pidfile.Refused as exc:
        return _fail(str(exc))
    return 0


def _settle(options: Options) -> int:
    """Does what the options say of a process that goes on from here, which serves
    itself or starts workers. Returns 0, or the exit status."""
    if status := _take_pid_file(options):
        return status
    if options.log_path is not None:
        from .ops import logfile

        try:
            logfile.take_over(options.log_path)
        except OSError as exc:
            return _fail(f"can't open the --log-path {shown(options.log_path)}: {exc.strerror}")
    if DAEMON_PIPE in os.environ:
        from .ops import daemon

        daemon.tell_when_ready(options.log_path)
    if RELOAD_PIPE in os.environ:
        from .ops import reloaded

        reloaded.tell_files()
    return 0


def _on_usr1(number: int, frame: types.FrameType | None) -> None:
    def reopen() -> None:
        from .ops import logfile

        logfile.reopen()

    scheduler.loop.post(reopen)


def _on_usr2(number: int, frame: types.FrameType | None) -> None:
    from .ops import state

    state.on_signal(number, frame)


def _load_handlers() -> None:
    """Loads what the handlers need, as there may be no descriptor for that when they
    are called. It would only delay the start."""
    from .ops import logfile, state  # noqa: F401


def _ignore_signals() -> None:
    """At the end of the interpreter, which soon gives what has a handler its default
    action: a rotation of log files would then end the process, with another status."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)


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


def _run_script(args: list[str], options: Options) -> int:  # noqa: RET503 - the last line never returns
    path = args[0]
    if options.workers and path == "-":
        return _fail("--workers needs a script that each worker can read: a file, not standard input")
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
    if status := _settle(options):
        return status
    if options.workers:
        from .ops import master

        return master.run(options, args)
    link = None
    if LINK in os.environ:
        from .ops import worker

        try:
            link = worker.join(os.environ.pop(LINK))
        except worker.NoMaster as exc:
            return _fail(str(exc))
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
            ready.now()
        except ENDS:
            raise
        except BaseException as exc:
            # Without the launcher's frames, which say nothing to the script's author.
            tb = traceback_of(exc)
            BaseException.with_traceback(exc, tb and tb.tb_next)
            scheduler.uncaught(task, f"{path}:", exc)
            ending.exit(1)

    script.__qualname__ = path
    if "NOTIFY_SOCKET" in os.environ or "LISTEN_PID" in os.environ:
        from .ops import systemd

        systemd.begin()
    if link is not None:
        name_lines(f"worker {env.get('worker')}")
    ready.when_ready(_load_handlers)
    ending.run(script, sys._getframe())
    if link is not None:
        link.say("done")
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
