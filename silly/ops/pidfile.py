"""The file of ``--pid-file``, with the number of the process that is to be signalled.

The process keeps the file locked (flock) while it runs, so a file that a crash has left
is replaced, whatever its number means today. A file without a lock may be another
program's: its process counts if it is there, and began before the file was written.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import time

from .state import started_ago, stat_of

_SLACK = 2.0
"""Seconds by which the clocks of the two may differ."""


class Refused(Exception):
    """The file can't be taken: its process runs, or it is no such file. The text says
    which."""


_lock: int | None = None
"""The descriptor of our file."""
_path = ""


def look(path: str) -> None:
    """Raises Refused or OSError if ``take`` can't take the file now."""
    try:
        _, fd = _locked(path, os.O_RDWR)
    except FileNotFoundError:
        os.stat(os.path.dirname(os.path.abspath(path)))
    else:
        os.close(fd)


def take(path: str) -> None:
    """Writes this process's number to the file, which is removed at its end. Raises
    Refused, and OSError."""
    global _lock, _path
    _path, _lock = _locked(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(_lock, 0)
    os.pwrite(_lock, f"{os.getpid()}\n".encode(), 0)
    atexit.register(_remove)
    os.register_at_fork(after_in_child=_disown)


def _disown() -> None:
    """In a child of ``os.fork``, which may outlive us: the lock must not."""
    global _lock
    if _lock is not None:
        os.close(_lock)
        _lock = None


def _locked(path: str, flags: int) -> tuple[str, int]:
    path = os.path.abspath(path)  # the program may change its directory
    while True:
        fd = os.open(path, flags, 0o644)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = False
            except BlockingIOError:
                locked = True
            if _is_at(fd, path):
                _check(fd, path, locked)
                return path, fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was removed meanwhile: its owner has ended


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _check(fd: int, path: str, locked: bool) -> None:
    text = os.pread(fd, 32, 0).strip()
    if text and not text.isdigit():
        raise Refused(f"{path} has no number of a process, so it isn't replaced: name another --pid-file, or remove it")
    pid = int(text) if text and len(text) < 10 else None
    if locked:
        raise Refused(f"it runs already: process {pid} has {path}")
    if pid is None or pid in (0, os.getpid()) or not _is_alive(pid):
        return
    age = started_ago(pid)
    if age is None or time.time() - age <= os.fstat(fd).st_mtime + _SLACK:
        raise Refused(f"process {pid} of {path} runs already; if that is another program, remove the file")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    stat = stat_of(pid)
    return stat is None or stat[0] not in (b"Z", b"X")  # Z: killed, and nobody has waited for it


def _remove() -> None:
    if _lock is not None and _is_at(_lock, _path):
        os.unlink(_path)
