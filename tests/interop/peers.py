"""Runs third parties in child processes while our loop turns in this one.

A ``Peer`` is a child that takes commands as lines of JSON on its standard input and says ``ok NAME RESULT`` for each that
went well; on a mismatch it prints what was wrong, and exits. A thread of its own reads what it prints and posts it to our
loop, so a task may wait for it without stopping the loop. Every wait is bounded: when time is up the child is killed, and
all that it printed is in the error.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from silly import time
from silly._core import scheduler, worker
from silly.sync import channel

HERE = Path(__file__).parent
WITHIN = 25_000
"""Milliseconds that bound a wait for a child. Children bound theirs by 15 s, to say what they waited for."""

_TIMED_OUT = object()
_numbers = itertools.count(1)


class PeerFailed(AssertionError):
    """A child found something wrong, died, or said nothing for too long."""


def environment() -> dict[str, str]:
    """Ours without what changes how Python runs, or sends requests for the loopback to a proxy."""
    dropped = {"PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONOPTIMIZE"}
    return {k: v for k, v in os.environ.items() if k not in dropped and not k.lower().endswith("_proxy")}


def python(script: str) -> list[str]:
    """The command that runs a Python script of this directory."""
    return [sys.executable, "-X", "utf8", str(HERE / script)]


def node(script: str) -> list[str]:
    """The command that runs a JavaScript file of this directory."""
    return ["node", str(HERE / script)]


def pop(chan: channel.Channel, what: str, within: int = WITHIN) -> Any:
    """``chan.pop()``, for ``within`` ms at most."""
    timer = time.after(within, lambda: chan.push(_TIMED_OUT))
    try:
        item, err = chan.pop()
    finally:
        time.cancel(timer)
    if item is _TIMED_OUT or err is not None:
        raise AssertionError(f"{what}: {err or f'nothing within {within} ms'}")
    return item


def in_thread(func: Callable[[], Any], within: int = WITHIN) -> Any:
    """What ``func()`` returns or raises, called in a worker thread while our loop turns. It must bound its own waits."""
    done = channel.new()
    worker.files.submit(scheduler.loop, func, (), lambda value, exc: done.push((value, exc)))
    value, exc = pop(done, "the thread", within + 5_000)
    if exc is not None:
        raise exc
    return value


def run(*argv: str, data: bytes | None = None, status: int = 0, within: int = WITHIN) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end, which must be with ``status``."""

    def call() -> subprocess.CompletedProcess[bytes]:
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        return subprocess.run(
            argv, capture_output=True, check=False, timeout=within / 1000, env=environment(), **stdin
        )

    try:
        done = in_thread(call, within)
    except subprocess.TimeoutExpired as exc:
        raise PeerFailed(f"{exc}\n{_tail(exc.stdout)}\n{_tail(exc.stderr)}") from None
    if done.returncode != status:
        raise PeerFailed(f"{argv} exited {done.returncode}\n{_tail(done.stdout)}\n{_tail(done.stderr)}")
    return done


def _tail(text: bytes | None) -> str:
    return (text or b"")[-4000:].decode("utf-8", "backslashreplace")


class Peer:
    """A child process: see the module's header. A context manager that ends it."""

    def __init__(self, argv: list[str]) -> None:
        self.name = next((Path(arg).stem for arg in argv if arg.endswith((".py", ".js"))), argv[0])
        self.argv = argv
        self._start()

    def _start(self) -> None:
        self.output: list[str] = []
        self._ports: list[int] = []
        self._lines = channel.new()
        self._status: int | None = None
        self._process = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            encoding="utf-8",
            errors="backslashreplace",
        )
        self._thread = threading.Thread(target=_pump, args=(self._process, self._lines), daemon=True)
        self._thread.start()

    def ports(self) -> list[int]:
        """Of a server: where it listens, first plain, then TLS if it does that."""
        if not self._ports:
            self._ports = self.expect("port")
        return self._ports

    def send(self, name: str, **args: Any) -> str:
        """Sends a command without waiting; returns what ``expect`` takes."""
        tag = f"{name}#{next(_numbers)}"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"tag": tag, "name": name, "args": args}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.expect(tag)  # which says what it died of
        return tag

    def run(self, name: str, *, within: int = WITHIN, **args: Any) -> Any:
        """Sends a command and returns its result."""
        return self.expect(self.send(name, **args), within)

    def expect(self, tag: str, within: int = WITHIN) -> Any:
        """Waits for the line ``ok TAG RESULT``, and returns the result."""
        with self._bounded(f"killed: no 'ok {tag}' within {within} ms", within):
            while True:
                line = self._next()
                if line is None:
                    raise PeerFailed(self._failure(tag))
                if line.startswith(f"ok {tag} "):
                    return json.loads(line.removeprefix(f"ok {tag} "))

    def wait(self, within: int = WITHIN) -> int:
        """Waits for its end; the exit status."""
        with self._bounded(f"killed: it did not end within {within} ms", within):
            while self._next() is not None:
                pass
        assert self._status is not None
        return self._status

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def _next(self) -> str | None:
        """The next line that it printed, or None when it has ended."""
        if self._status is not None:
            return None
        item, _ = self._lines.pop()
        if isinstance(item, int):
            self._status = item
            return None
        self.output.append(item)
        print(f"{self.name}: {item}")
        return str(item)

    @contextlib.contextmanager
    def _bounded(self, why: str, within: int) -> Iterator[None]:
        """Kills the child when the block takes longer than ``within`` ms."""
        timer = time.after(within, self._expired, why)
        scheduler.loop.work += 1  # the loop must not think that nothing can wake us once the timer has fired
        try:
            yield
        finally:
            scheduler.loop.work -= 1
            time.cancel(timer)

    def _expired(self, why: str) -> None:
        self.output.append(why)
        self._process.kill()

    def _failure(self, tag: str) -> str:
        how = f"exited {self._status}"
        if self._status is not None and self._status < 0:
            how = f"died of {signal.Signals(-self._status).name}"
        text = "\n".join(self.output[-100:])
        return f"{self.name} {how} before 'ok {tag}':\n{text}"

    def settle(self, failed: bool) -> None:
        """After a test: shows what was not read yet; a child that died, or that a failed test left busy, is replaced."""
        while len(self._lines):
            self._next()
        if failed or self._process.poll() is not None:
            self.close()
            self._start()

    def close(self) -> None:
        """Ends it. (The loop need not turn for that, so this may block the thread.)"""
        self._process.kill()
        self._process.wait(10)
        self._thread.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # what was left to flush

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self.close()
        if exc is not None and not isinstance(exc, PeerFailed):
            time.sleep(1)  # what the thread posted last
            while len(self._lines):
                self._next()
            exc.add_note("\n".join([f"{self.name} printed:", *self.output[-100:]]))


def _pump(process: subprocess.Popen[str], lines: channel.Channel) -> None:
    """In a thread: posts what the child prints, line by line, then its exit status."""
    assert process.stdout is not None
    for line in process.stdout:
        scheduler.loop.post(lines.push, line.rstrip("\n"))
    scheduler.loop.post(lines.push, process.wait())
