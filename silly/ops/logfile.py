"""The log file of ``--log-path``: it takes the places of stdout and stderr, so it gets
the log lines, what the program prints, what code in C and child processes say.

Lines are appended, so several processes may share the file. SIGUSR1 opens the path
again, after a tool such as logrotate has moved the file away. That is done by the
thread that writes the lines, between two of them, so none is lost, written twice or cut
in two. On a full disk they are lost, and counted; ``print`` doesn't fail then.
"""

from __future__ import annotations

import os
import sys
from io import BufferedWriter, TextIOWrapper
from typing import TextIO

from .. import _log
from .._log import task as logger
from .._stderr import Unfailing

_path: str | None = None


def take_over(path: str) -> None:
    """Opens the file at ``path``, and puts it in the place of stdout and stderr. Raises
    OSError."""
    global _path
    path = os.path.abspath(path)  # the program may change its directory
    for stream in sys.stdout, sys.stderr:
        if stream is not None:
            stream.flush()
    take_places(path)
    sys.stdout, sys.stderr = _stream(1), _stream(2)
    _path = path


def reopen() -> None:
    """Opens the path again, and those of access logs. Called in the loop."""
    if _path is not None:
        _log.in_turn(_reopen)
    access = sys.modules.get("silly.net.http.accesslog")
    if access is not None:
        access.reopen_all()


def _reopen() -> None:
    assert _path is not None
    try:
        take_places(_path)
    except OSError as exc:
        logger.error(f"the log file {_path} can't be opened again, so the file from before stays: {exc.strerror}")


def take_places(path: str) -> None:
    """Puts the file at ``path`` in the place of stdout and stderr. Raises OSError."""
    # Without O_NONBLOCK, to open a named pipe waits until somebody reads from it.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    os.set_blocking(fd, True)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def _stream(fd: int) -> TextIO:
    return TextIOWrapper(
        BufferedWriter(Unfailing(fd, _log.lose)),
        "utf-8",
        "backslashreplace" if fd == 2 else "surrogateescape",
        line_buffering=True,
    )
