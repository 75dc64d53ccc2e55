"""Other programs, whose pipes read and write like a connection.

    child, err = process.start(["sort"], stdin=process.PIPE, stdout=process.PIPE)
    with child:
        child.stdin.write("b\\na\\n")
        child.stdin.close()
        line, err = child.stdout.read("\\n")  # -> (b"a\\n", None)
        status, err = child.wait(1000)       # -> (0, None)

``run`` does all of that for a program that is to be called like a function. The
program is started by Python's ``subprocess.Popen``; no shell is used.

**Ends.** Leaving ``with child`` kills it. A child outside such a block goes on,
whatever happens to its ``Process``, and is reaped when it ends; if silly's own process
ends first, a line in the log says so.
"""

from __future__ import annotations

import io
import os
import signal as _signal
import termios
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from typing import NamedTuple, Protocol

from . import _process_arguments as arguments
from . import errno
from ._core import scheduler
from ._core.callers import check_timeout
from ._core.deadline import Timeout
from ._core.loop import READ, WRITE
from ._core.result import OK, Result, failure, returns_pair
from ._core.select import select
from ._process_child import ChildProcess
from ._shown import cut
from ._wire.limits import DEFAULT, Limits, check_limits
from ._wire.numbers import check_int
from .net import tcp
from .net._pipe_stream import PipeStream

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Conn", "Finished", "Process", "run", "start"]

Word = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""The types of an argument, and of a path."""

MOST = 64 * 1024 * 1024
"""The most bytes that ``run`` gathers of stdout, and of stderr, by default."""

_TAKE_TERMINAL = ': <"$0" && exec "$@"'
"""A terminal that the first process of a session opens becomes the one that controls
it, and this opens it. Python offers that only by a function that runs between ``fork``
and ``exec``, which may hang in a process with threads."""

_NAMES = ("stdin", "stdout", "stderr")
_SIZE = (24, 80)
"""Rows and columns of a terminal, by default."""
_WAYS = {"stdin": WRITE, "stdout": READ, "stderr": READ, "terminal": READ | WRITE}
_loop = scheduler.loop


class HasDescriptor(Protocol):
    """An object with a descriptor, such as a file."""

    def fileno(self) -> int: ...


File = int | HasDescriptor | None
"""What is given for stdin, stdout or stderr."""


class Conn(tcp.Conn):
    """The end of a pipe, or a terminal, with a child at the other end. It has all that
    ``tcp.Conn`` has.

    A pipe has one direction: reading from ``child.stdin`` and writing to
    ``child.stdout`` raise RuntimeError. A child may take as long as it likes to read:
    the limits ``write_timeout``, ``write_rate`` and ``linger`` don't count.
    """

    __slots__ = ()

    _stream: PipeStream

    def write(self, data: tcp.Data | Iterable[tcp.Data]) -> Result:
        """As ``tcp.Conn.write``. If the child has closed its end, or has ended, this
        write or the next returns ``errno.PIPE``.

            ok, err = child.stdin.write("hello\\n")  # -> (True, None)

        Raises RuntimeError for a pipe that the child writes to.
        """
        if _loop.no_switch:
            scheduler.refuse("conn.write")
        self._stream.check_way(WRITE)
        return super().write(data)


class Process:
    """A program that was started. ``pid`` is its number.

    ``with child`` kills it (SIGKILL) at its end, however the block is left, waits until
    it is reaped, 1 s at most, and closes its pipes. What it started itself goes on.
    """

    __slots__ = ("__weakref__", "_child", "_pipes", "_terminal", "pid")

    def __init__(self, child: ChildProcess, pid: int, pipes: dict[str, Conn], terminal: Conn | None) -> None:
        self._child = child
        self._pipes = pipes
        self._terminal = terminal
        """Both stdin and stdout in ``_pipes``, or None."""
        self.pid = pid

    @property
    def stdin(self) -> Conn:
        """What the child reads, if it was started with ``stdin=PIPE`` or ``pty=True``;
        else RuntimeError is raised. ``close()`` tells the child that this was all."""
        return self._pipe("stdin")

    @property
    def stdout(self) -> Conn:
        """What the child writes, if it was started with ``stdout=PIPE`` or
        ``pty=True``: then it is the same connection as ``stdin``. Else RuntimeError is
        raised."""
        return self._pipe("stdout")

    @property
    def stderr(self) -> Conn:
        """What the child writes as errors, if it was started with ``stderr=PIPE``; else
        RuntimeError is raised."""
        return self._pipe("stderr")

    def _pipe(self, name: str) -> Conn:
        try:
            return self._pipes[name]
        except KeyError:
            hint = f"start it with {name}=process.PIPE" if self._terminal is None else "what comes there is in child.stdout"
            raise RuntimeError(f"child.{name}: there is no such pipe; {hint}") from None

    @property
    def status(self) -> int | None:
        """The exit status, as ``wait`` returns it, or None: the child runs, or the loop
        has not seen its end yet."""
        return self._child.status

    @returns_pair("child.wait", "status")
    def wait(self, timeout: float | None = None) -> tuple[int, None] | tuple[None, str]:
        """Waits until the child has ended, at most ``timeout`` ms, without one as long
        as it takes.

            child.stdin.close()
            status, err = child.wait(1000)      # -> (0, None)

        Returns ``(status, None)``: the exit status, or minus the number of the signal
        that has ended it. It is 255, and a line is logged, if it can't be had: SIGCHLD
        is ignored, or other code has reaped the child. Or ``(None, err)``: a text,
        after the time-out or a ``time.deadline``. That, a cancel and ``task.select`` on
        its pipes leave the child as it is. Several tasks may wait.

        A child that writes to a pipe which nobody reads doesn't end: read its output
        first, to ``errno.EOF``. The output may come from what it has started, and go on
        after its end.

        Raises TypeError or ValueError for an invalid time-out.
        """
        if _loop.no_switch:
            scheduler.refuse("child.wait")
        if timeout is not None:
            check_timeout("child.wait", timeout)
        scheduler.check_thread()
        child = self._child
        if child.status is None:
            _, err = child.wait(timeout)
            if err is not None:
                return None, err
        assert child.status is not None
        return child.status, None

    def kill(self, signal: int | str = _signal.SIGKILL) -> Result:
        """Sends the child a signal: SIGKILL, or the one with this number or name.

            child.kill("SIGTERM")               # -> (True, None)

        Returns ``(True, None)``, also if it has ended, or ``(False, err)`` if the
        system refuses that, as for a child that has become another user. Doesn't wait
        for the end. Raises TypeError or ValueError for anything but a signal.
        """
        number = arguments.signal_number(signal)
        scheduler.check_thread()
        try:
            self._child.send_signal(number)
        except OSError as exc:
            return failure(f"child.kill: {errno.from_oserror(exc)}")
        return OK

    def resize(self, rows: int, columns: int) -> Result:
        """Sets the size of the child's terminal, in characters. It gets SIGWINCH.

            child, err = process.start(["sh"], pty=True, size=(25, 80))
            with child:
                child.resize(50, 132)           # -> (True, None)

        Returns ``(True, None)``, or ``(False, errno.CLOSED)`` if the terminal is
        closed. Raises RuntimeError if the child was not started with ``pty=True``, and
        ValueError for anything but two ints from 1 to 65,535.
        """
        size = arguments.size("child.resize", (rows, columns))
        terminal = self._terminal
        if terminal is None:
            raise RuntimeError("child.resize: the child has no terminal; start it with pty=True")
        scheduler.check_thread()
        if terminal._stream.sock is None:
            return failure(errno.CLOSED)
        termios.tcsetwinsize(terminal._stream.fd, size)
        return OK

    def __enter__(self) -> Process:
        self._child.held = True
        return self

    def __exit__(self, *exc: object) -> None:
        if _loop.no_switch:
            scheduler.refuse("with child")
        scheduler.check_thread(closes=True)
        if scheduler.in_child or scheduler.closed:
            return  # it is the parent's, or ``abort`` has killed it
        child = self._child
        self.kill()
        for pipe in self._pipes.values():
            pipe._stream.abort()
        if child.status is None:
            child.await_killed()

    def __repr__(self) -> str:
        status = self._child.status
        return f"<process {self._child.name}, {'running' if status is None else f'ended: {status}'}>"


@returns_pair("process.start", "child")
def start(
    args: Sequence[Word],
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    cwd: Word | None = None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    pty: bool = False,
    *,
    size: tuple[int, int] = _SIZE,
    limits: Limits = DEFAULT,
) -> tuple[Process, None] | tuple[None, str]:
    """Starts a program.

        child, err = process.start(["cat"], stdin=process.PIPE, stdout=process.PIPE)
        with child:
            child.stdin.write("hello\\n")
            line, err = child.stdout.read("\\n")  # -> (b"hello\\n", None)

    * ``args``: the program, which is looked for in ``PATH`` if its name has no slash,
      and its arguments. No shell looks at them.
    * ``stdin``, ``stdout``, ``stderr``: None for what this process has, ``PIPE`` for a
      pipe (``child.stdin``, …), ``DEVNULL``, or a descriptor or an open file.
      ``stderr`` may be ``STDOUT``: where stdout goes.
    * ``cwd``: the child's working directory.
    * ``env``: its whole environment; None for that of this process.
    * ``pty``: whether the three are one new pseudo-terminal, which controls the child's
      new session. ``child.stdin`` and ``child.stdout`` are then one connection.
      ``size`` is its rows and columns.
    * ``limits``: ``receive_mark``, ``delimited`` and ``unsent`` count.

    Returns ``(child, None)``, or ``(None, err)`` with why it can't be started: a text.
    Other descriptors are not passed on. Never waits for a task, but the loop stands
    still until the system has loaded the program, for a millisecond or so.

    Raises TypeError or ValueError for invalid arguments.
    """
    return _start("process.start", args, (stdin, stdout, stderr), cwd, env, pty, size, limits)


def _start(
    call: str,
    args: Sequence[Word],
    given: tuple[File, File, File],
    cwd: Word | None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None,
    pty: bool,
    size: tuple[int, int],
    limits: Limits,
) -> tuple[Process, None] | tuple[None, str]:
    """``start``, for ``call``, which errors name. ``given``: stdin, stdout, stderr."""
    scheduler.check_thread()
    check_limits(limits)
    command = arguments.command(call, args)
    folder = None if cwd is None else arguments.word(call, "cwd", cwd)
    variables = arguments.environment(call, env)
    files = [arguments.file(call, name, each) for name, each in zip(_NAMES, given, strict=True)]
    window = arguments.size(f"{call}: size", size)
    if pty and files != [None, None, None]:
        raise ValueError(f"{call}: with pty=True the terminal is stdin, stdout and stderr: leave them out")
    program = command[0]
    if files[1] is None and files[2] == STDOUT:
        files[2] = 1  # not ``sys.stdout``, which may be None, or another file
    streams: dict[str, PipeStream] = {}
    with ExitStack() as theirs, ExitStack() as undo:

        def connect(name: str, ours: int, other: int) -> None:
            """Makes the stream of a pipe, whose other end is the child's."""
            theirs.callback(os.close, other)
            file = io.FileIO(ours)  # for its ``close`` alone: the stream reads and writes the descriptor
            undo.callback(file.close)
            streams[name] = stream = PipeStream(file, _WAYS[name], limits)
            undo.callback(stream.abort)

        try:
            for each in files:
                if each is not None and each >= 0:
                    os.fstat(each)  # if it is closed, a pipe made here could get its number
            if pty:
                arguments.look_for(program, folder, variables)
                master, slave = os.openpty()
                connect("terminal", master, slave)
                termios.tcsetwinsize(slave, window)
                command = [b"/bin/sh", b"-c", _TAKE_TERMINAL.encode(), os.fsencode(os.ttyname(slave)), *command]
                files = [slave, slave, slave]
            for at, name in enumerate(_NAMES):
                if files[at] == PIPE:
                    reader, writer = os.pipe()
                    ours, other = (writer, reader) if name == "stdin" else (reader, writer)
                    connect(name, ours, other)
                    files[at] = other
            popen = Popen(command, 0, None, files[0], files[1], files[2], cwd=folder, env=variables, start_new_session=pty)
        except OSError as exc:
            return None, f"{call}: {arguments.why(exc, program, folder, variables)}"
        name = cut(os.fsdecode(program))
        child = ChildProcess(popen.pid, f"{os.path.basename(name)} ({popen.pid})")
        try:
            child.watch_end()
        except BaseException as exc:
            popen.kill()
            popen.wait()
            if isinstance(exc, (OSError, RuntimeError)):
                return None, f"{call}: {name}: the system refuses what waits for its end: {exc}"
            raise
        popen.returncode = 0  # it is the loop's from here on: ``Popen`` must not look for it, nor warn
        undo.pop_all()
    for name, stream in streams.items():
        stream.remoteaddr = f"{name} of {child.name}"
    pipes = {name: Conn(stream) for name, stream in streams.items()}
    terminal = pipes.pop("terminal", None)
    if terminal is not None:
        pipes["stdin"] = pipes["stdout"] = terminal
    return Process(child, popen.pid, pipes, terminal), None


class Finished(NamedTuple):
    """What ``run`` returns of a program that has ended."""

    status: int
    """The exit status, or minus the number of the signal that has ended it."""
    stdout: bytes
    stderr: bytes


@returns_pair("process.run", "finished")
def run(
    args: Sequence[Word],
    input: tcp.Data | None = None,
    timeout: float | None = None,
    cwd: Word | None = None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    *,
    most: int = MOST,
) -> tuple[Finished, None] | tuple[None, str]:
    """Runs a program to its end, and returns all of its output.

        done, err = process.run(["sort"], "b\\na\\n", 5000)
        done.status, done.stdout            # -> (0, b"a\\nb\\n")

    ``args``, ``cwd`` and ``env`` are those of ``start``. ``input`` is what the program
    reads; without it stdin is empty. Returns ``(Finished, None)``, whatever the status
    is, or ``(None, err)``, a text: it can't be started, has not ended within
    ``timeout`` ms (or a ``time.deadline``), or has written more than ``most`` bytes (64
    MiB) to stdout or stderr. It is killed then, and also where a cancel strikes.

    Raises TypeError or ValueError for invalid arguments.
    """
    if _loop.no_switch:
        scheduler.refuse("process.run")
    if timeout is not None:
        check_timeout("process.run", timeout)
    check_int("process.run: most, in bytes,", most)
    data = b"" if input is None else tcp.to_bytes(input)
    limits = Limits(unsent=max(len(data), 1))  # so the write doesn't wait
    stdin = PIPE if data else DEVNULL
    child, err = _start("process.run", args, (stdin, PIPE, PIPE), cwd, env, False, _SIZE, limits)
    if child is None:
        return None, f"{err}"
    with child, nullcontext() if timeout is None else Timeout(timeout):
        if data:
            child.stdin.write(data)
            child.stdin.close()
        output = {child.stdout: bytearray(), child.stderr: bytearray()}
        reading = [*output]
        while reading:
            conn, err = select(tuple(reading), None)
            if conn is None:
                return None, f"{err}".replace("task.select", "process.run", 1)
            buf = conn._stream.buf
            output[conn] += buf
            if not buf:
                reading.remove(conn)
            elif len(output[conn]) > most:
                return None, f"process.run: {conn.remoteaddr}: more than {most} bytes"
            buf.clear()
        status, err = child.wait()
        if status is None:
            return None, f"{err}".replace("child.wait", "process.run", 1)
        return Finished(status, bytes(output[child.stdout]), bytes(output[child.stderr])), None
