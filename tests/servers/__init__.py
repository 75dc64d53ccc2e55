"""Servers that tests start: other people's programs, each with a folder of its own, on loopback.

A module has one program and its context manager ``running``; ``fixtures`` has them as fixtures of a session. ``NoServer``
says why there is none: then its tests are skipped.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_WITHIN = 30
END_WITHIN = 10
"""Seconds; only a test that fails waits so long."""
LOOPBACK = "127.0.0.1"


class NoServer(Exception):
    """A program that tests need is not here. The text says how to install it."""


class ServerFailed(AssertionError):
    """A server did not start, or ended early."""


def program(name: str, package: str, *folders: str) -> str:
    """Where the program ``name`` of the Debian package ``package`` is: in the path, in sbin, or in ``folders``."""
    places = [*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise NoServer(f"NO SERVER: {name} is not installed (Debian: apt install --no-install-recommends {package})")
    return found


def user_for(name: str) -> str | None:
    """As whom to run a server that refuses to run as root: ``name`` if we are root, else None."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise NoServer(f"NO SERVER: we are root, and there is no user {name}") from None
    return name


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(address: int | str) -> bool:
    """Whether somebody listens on a port of loopback, or on a Unix domain socket."""
    tcp = isinstance(address, int)
    with socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, address) if tcp else address) == 0


@contextmanager
def folder(user: str | None = None) -> Iterator[Path]:
    """A folder that ``user`` owns. Its name is short: the path of a socket has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="silly-") as name:
        if user is not None:
            shutil.chown(name, user)
        yield Path(name)


class Server:
    """A running server. A context manager that ends it."""

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        ready: Callable[[], bool],
        user: str | None = None,
        end: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Starts ``argv`` in the folder ``cwd`` as ``user``, and waits until ``ready`` says so. ``end`` ends it."""
        self._argv, self._end = argv, end
        self._output = (cwd / "output").open("w+b")
        # A session of its own: a signal to the tests' group is not for it, and its children end with it.
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            start_new_session=True,
        )
        try:
            self._wait_until(ready)
        except BaseException:
            self.close()
            raise

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        give_up = time.monotonic() + START_WITHIN
        while not ready():
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() < give_up:
                    continue
                raise ServerFailed(f"{self._argv} is not ready after {START_WITHIN} s:\n{self.output()}") from None
            raise ServerFailed(f"{self._argv} exited {self.process.returncode}:\n{self.output()}")

    def output(self) -> str:
        """The end of what it logged."""
        return Path(self._output.name).read_text("utf-8", "backslashreplace")[-10_000:]

    def close(self) -> None:
        """Ends it."""
        if self.process.poll() is None:
            self.process.send_signal(self._end)
        try:
            self.process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(END_WITHIN)
            raise ServerFailed(f"{self._argv} did not end:\n{self.output()}") from None
        finally:
            self._output.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
