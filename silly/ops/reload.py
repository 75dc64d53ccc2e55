"""``python -m silly --reload app.py``, for development: starts the program anew when
its files change.

The program runs in a process of its own, a new one each time. This one watches the
Python files in the script's folder and below, the files of the modules that the program
has imported from elsewhere (it tells them through a pipe; see ``reloaded.py``), and
those of ``--env-file``. A change lets the program end as SIGTERM does, with a short
drain. A program that has ended, by an error or not, is started by the next change.

This process imports nothing of the program, and has no loop: it looks at the files'
times now and then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

from .._core.loop import monotonic
from .._log import task as logger
from .._shown import cut
from ._another import RELOAD_PIPE, command, in_words, status_of
from .options import Options

INTERVAL = 0.4
"""Seconds between two looks at the files."""
SHARE = 10
"""At least so many times what a look takes: where there are very many files."""
SETTLED = 0.2
"""Seconds without a change after which a storm of them is over."""
STORM = 5.0
"""The most seconds that a storm is waited for."""
DRAIN = 500
"""Milliseconds of drain, unless ``--drain`` is given."""
GRACE = 1.0
"""Seconds after the drain in which the program must have ended: developers wait."""
FROM_TERMINAL = 1.0
"""Seconds in which the program ends by a Ctrl-C that it has got from the terminal.
Another signal would count as a second one."""
MOST = 20_000
"""The most files that are watched."""

_SKIPPED = frozenset(("__pycache__", "node_modules", "site-packages"))
_PASSED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

Snapshot = dict[str, tuple[int, int, int]]
"""By path, what tells one version of a file from another."""


def run(options: Options, args: list[str]) -> int:
    """Runs the program until a signal ends this process, and returns its status."""
    return _Watcher(options, args).run()


class _Ended(BaseException):
    """A signal that ends this process has come."""


class _Watcher:
    def __init__(self, options: Options, args: list[str]) -> None:
        drain = options.drain if "drain" in options.given else min(DRAIN, options.drain)
        spread = min(options.spread, drain)
        one = replace(options, reload=False, pid_file=None, drain=drain, notice=0, spread=spread)
        self._command = command(one, args)
        self._patience = drain / 1000 + GRACE
        self._script = args[0]
        real = os.path.realpath(args[0])
        self._folder = real if os.path.isdir(real) else os.path.dirname(real)
        self._always = {os.path.abspath(each) for each in (args[0], *options.env_files)}
        self._told: set[str] = set()
        self._pipe = -1
        self._rest = b""
        self._child: subprocess.Popen[bytes] | None = None
        self._signals: list[int] = []
        """The signals to end that have come and nothing was done for."""
        self._sleeps = False
        """Whether a signal may end what goes on at once."""
        self._took = 0.0
        """Seconds that the latest look took."""
        self._full = False
        self._hung_up = False
        """Whether SIGHUP has come: the terminal may be gone. This process ends if the
        program does by that."""

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_end)
        for number in _PASSED:
            signal.signal(number, self._on_other)
        status = 0
        try:
            while True:
                seen = self._look()
                self._start()
                self._stop_after(self._changed(seen))
        except _Ended:
            status = self._leave()
        finally:
            if self._child is not None:
                self._child.kill()
                self._child.wait()
        return status

    # ---- the program -----------------------------------------------------------------

    def _start(self) -> None:
        self._pipe, writes = os.pipe()
        os.set_blocking(self._pipe, False)
        self._rest = b""
        try:
            env = {**os.environ, RELOAD_PIPE: str(writes)}
            self._child = subprocess.Popen(self._command, env=env, pass_fds=[writes])
        finally:
            os.close(writes)

    def _stop_after(self, changes: list[str]) -> None:
        """Says what has changed, and lets the program end."""
        others = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        logger.info(f"{cut(os.path.relpath(changes[0], self._folder))}{others} changed: {self._script} starts anew")
        if self._child is not None:
            self._child.terminate()
            self._wait(self._child, self._patience)
            self._child = None
        self._read()
        os.close(self._pipe)
        self._pipe = -1

    def _nap(self, seconds: float) -> None:
        """Sleeps. Raises _Ended as soon as a signal has come that ends this process."""
        self._sleeps = True
        if self._signals:
            raise _Ended
        time.sleep(seconds)
        self._sleeps = False

    def _wait(self, child: subprocess.Popen[bytes], seconds: float) -> int:
        """Waits until the program has ended, and then kills it. Returns its status."""
        until = monotonic() + seconds
        while child.poll() is None:
            if monotonic() > until:
                logger.warn(f"{self._script} has not ended within {seconds:.1f} s, and is killed")
                child.kill()
                break
            self._nap(0.02)
        return child.wait()

    def _leave(self) -> int:
        """Ends with the program, which may have got Ctrl-C from the terminal too."""
        child = self._child
        if child is None:
            return 0
        came = self._signals.pop(0)
        try:
            since = monotonic()
            while came == signal.SIGINT and child.poll() is None and monotonic() - since < FROM_TERMINAL:
                self._nap(0.02)
            child.terminate()
            status = self._wait(child, self._patience)
        except _Ended:  # once more
            child.kill()
            status = child.wait()
        return status_of(status)

    def _on_end(self, number: int, _: object) -> None:
        self._signals.append(number)
        if self._sleeps:
            self._sleeps = False
            raise _Ended

    def _on_other(self, number: int, frame: object) -> None:
        self._hung_up |= number == signal.SIGHUP
        if self._child is not None:
            self._child.send_signal(number)
        elif number == signal.SIGHUP:
            self._on_end(number, frame)

    # ---- the files -------------------------------------------------------------------

    def _changed(self, seen: Snapshot) -> list[str]:
        """Waits for a change, and until the storm of changes is over. Returns the files
        that have changed."""
        while True:
            self._nap(max(INTERVAL, SHARE * self._took))
            now = self._look()
            if changes := self._differences(seen, now):
                break
            seen = now  # with what the program has told meanwhile
            if self._child is not None and (status := self._child.poll()) is not None:
                self._child = None
                if self._hung_up and status == -signal.SIGHUP:
                    raise _Ended
                log = logger.error if status else logger.info
                log(f"{self._script} {in_words(status)}: it starts anew when a file changes")
        until = monotonic() + STORM
        while monotonic() < until:
            self._nap(SETTLED)
            then, now = now, self._look()
            more = self._differences(then, now)
            if not more:
                break
            changes += [each for each in more if each not in changes]
        return changes

    def _look(self) -> Snapshot:
        since = monotonic()
        self._read()
        snapshot: Snapshot = {}
        for path in (*self._always, *self._told, *self._below(self._folder)):
            if len(snapshot) >= MOST:
                if not self._full:
                    self._full = True
                    logger.warn(f"--reload watches {MOST} files, and no more: {self._folder} has too many")
                break
            try:
                info = os.stat(path)
            except OSError:
                snapshot[path] = (0, 0, 0)
            else:
                snapshot[path] = (info.st_mtime_ns, info.st_size, info.st_ino)
        self._took = monotonic() - since
        return snapshot

    def _read(self) -> None:
        """Reads what the program tells."""
        while self._pipe >= 0:
            try:
                data = os.read(self._pipe, 65536)
            except BlockingIOError:
                return
            *paths, self._rest = (self._rest + data).split(b"\0")
            self._told.update(map(os.fsdecode, paths))
            if not data:
                return

    def _below(self, folder: str) -> Iterator[str]:
        """Yields the Python files below ``folder``, without those of environments."""
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            return
        for entry in entries:
            if entry.name[0] == ".":
                continue  # Emacs marks a file that is edited by a link .#NAME
            if entry.name.endswith(".py"):
                yield entry.path
            elif entry.name not in _SKIPPED and entry.is_dir(follow_symlinks=False):
                yield from self._below(entry.path)

    def _differences(self, before: Snapshot, now: Snapshot) -> list[str]:
        """Returns the files that have changed, are new in the folder, or are gone. One
        that the program has told since is none of them."""
        if self._full:  # which are watched may change too
            return [path for path in now if before.get(path, now[path]) != now[path]]
        paths = [path for path in now if path in before or path not in self._told]
        return [path for path in (*paths, *(before.keys() - now.keys())) if before.get(path) != now.get(path)]
