"""``--daemon``: the program goes on in the background.

Three processes take part. The one that was started waits for a second, which makes a
session of its own, without a terminal, and starts the third by exec: the program
itself, whose command line is the same but for ``--daemon``. So nothing with a loop is
forked. The program says through a pipe that it is ready; then the second and the first
end with status 0, and the program is a child of init. If it ends before, they end with
its status. Until it is ready its output goes where that of the first process goes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from .. import _log
from .._core import scheduler, signals
from .._log import task as logger
from . import logfile
from ._another import DAEMON_PIPE, command, status_of
from .options import Options
from .ready import when_ready

WORDS = 10.0
"""Seconds after which the first process says what it waits for."""


def start(options: Options, args: list[str]) -> int:
    """Starts the program in the background. Returns the status for the process that
    was started, when the program is ready or has ended."""
    reads, writes = os.pipe()
    argv = command(replace(options, daemon=False), args)
    if sys.stdout is not None:
        sys.stdout.flush()
    second = os.fork()
    if second == 0:
        _second(reads, writes, argv)
    os.close(writes)
    os.close(reads)

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(second, signal.SIGTERM)

    def say(*_: object) -> None:
        why = "its last line has not run, and it listens nowhere"
        print(f"silly: still waiting until {args[0]} is ready: {why}", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    signal.signal(signal.SIGALRM, say)
    signal.setitimer(signal.ITIMER_REAL, WORDS)
    status = os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])
    if status and options.log_path is not None:
        print(f"silly: {args[0]} has ended with status {status}: see above, or {options.log_path}", file=sys.stderr)
    return status_of(status)


def _second(reads: int, writes: int, argv: list[str]) -> NoReturn:
    """The second process."""
    try:
        os.setsid()
        third = os.fork()
        if third == 0:
            os.close(reads)
            os.set_inheritable(writes, True)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.execve(argv[0], argv, {**os.environ, DAEMON_PIPE: str(writes)})
        os.close(writes)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(third, signal.SIGTERM))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.read(reads, 1):
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(third, 0)[1])
        os._exit(status_of(status))
    except OSError as exc:
        os.write(2, f"silly: can't start in the background: {exc.strerror}\n".encode())
    finally:
        os._exit(1)


def tell_when_ready(log_path: str | None) -> None:
    """In the program itself: tells the process that waits when the program is ready."""
    fd = int(os.environ.pop(DAEMON_PIPE))
    os.set_inheritable(fd, False)
    when_ready(_teller(fd, log_path))
    signals.provide(signal.SIGHUP, _on_hangup)


def _on_hangup(number: int, _: object) -> None:
    scheduler.loop.post(logger.info, "SIGHUP: the program has no handler for it, and goes on")


def _teller(fd: int, log_path: str | None) -> Callable[[], None]:
    def tell() -> None:
        if log_path is None:
            for stream in sys.stdout, sys.stderr:
                if stream is not None:
                    with contextlib.suppress(OSError):  # nobody reads it any more
                        stream.flush()
        _log.in_turn(leave)  # the lines that wait are for who has started it

    def leave() -> None:
        if log_path is None:
            with contextlib.suppress(OSError):  # no descriptor is free
                logfile.take_places(os.devnull)
        with contextlib.suppress(BrokenPipeError):  # the process that waited was killed
            os.write(fd, b"r")
        os.close(fd)

    return tell
