"""Standard error, without ever waiting for it: a bounded queue, and a thread that
writes.

What takes our stderr may stop: a supervisor that drains no pipe, a terminal after
Ctrl-S, a disk. A write in the loop's thread would then stop every connection, and
SIGTERM too. Asking first doesn't help: another process may fill the pipe in between.
O_NONBLOCK doesn't either: it would change the descriptor for all processes that share
it, our parent too. So each line goes through the queue, in order, and the thread may
wait.

Lines may wait up to ``MOST`` bytes in all; those below WARNING get half of that, and
WARNING three quarters. What comes on top is counted, and the number stands where the
lines are missing.

The thread writes to the descriptor, past the text file's buffer: a thread that waits
within ``sys.stderr`` has its lock, and the interpreter could not end.

Two cases are written where they come, as ``print`` would. A replacement of
``sys.stderr`` without a descriptor of its own (a test's StringIO, a class) does what it
likes. And in a child of ``os.fork`` there is no thread, and no loop to hold up; most
children end by ``os._exit``, which would lose what waits.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from io import BufferedRandom, BufferedWriter, FileIO, TextIOWrapper
from queue import SimpleQueue
from time import monotonic
from typing import Any, NamedTuple

from ._ends import ENDS

MOST = 1024 * 1024
"""Bytes that may wait: some ten thousand lines."""
CHUNK = 64 * 1024
"""The most bytes of whole lines in one write, when several wait. A busy loop lets the
thread run once in 5 ms; with a write for each line it could not keep up."""
END = 0.5
"""The most seconds for which the process's end waits for the lines that are left."""


class Unfailing(FileIO):
    """A file whose writes raise nothing, so a full disk doesn't fail the code that
    prints: what can't be written is lost, and ``lost(lines)`` is called."""

    def __init__(self, fd: int, lost: Callable[[int], object]) -> None:
        super().__init__(fd, "w", closefd=False)
        self._lost = lost

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            self._lost(max(1, bytes(data).count(b"\n")))
            return len(memoryview(data))


def descriptor(stream: Any) -> int | None:
    """Returns the descriptor of a plain text file, to which its text may be written
    directly. None for anything that may treat the text in its own way."""
    if type(stream) is not TextIOWrapper:
        return None
    try:
        buffer = stream.buffer
        raw = getattr(buffer, "raw", buffer)
        plain = type(raw) in (FileIO, Unfailing) and type(buffer) in (FileIO, BufferedWriter, BufferedRandom)
        return stream.fileno() if plain else None
    except (OSError, ValueError):
        return None  # closed


def encoded(stream: TextIOWrapper, text: str) -> bytes:
    """Returns the bytes of ``text`` in ``stream``; what it can't show is escaped."""
    try:
        return text.encode(stream.encoding, stream.errors or "strict")
    except UnicodeError:
        return text.encode(stream.encoding, "backslashreplace")


def write_through(stream: Any, text: str) -> None:
    """Writes ``text`` to a text file, and waits until that is done. If it has a
    descriptor, it has no lock of the file meanwhile."""
    fd = descriptor(stream)
    if fd is None:
        stream.write(text)
        flush = getattr(stream, "flush", None)
        if flush is not None:
            flush()
        return
    if _writable(fd, 0.0):
        stream.flush()  # what others wrote there comes first
    write_all(fd, encoded(stream, text))


def write_all(fd: int, data: bytes) -> None:
    """Writes ``data`` to a descriptor, and waits until that is done."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            _writable(fd, None)  # somebody else has set O_NONBLOCK


def _writable(fd: int, timeout: float | None) -> bool:
    """Whether ``fd`` takes ``select.PIPE_BUF`` bytes, within ``timeout`` seconds."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


class _Text(NamedTuple):
    """What waits to be written: ``data``, which is ``lines`` lines."""

    stream: TextIOWrapper
    data: bytes
    lines: int


class Stderr:
    """The queue. ``lost_line(count)`` makes the line for ``count`` lost lines."""

    def __init__(self, lost_line: Callable[[int], str]) -> None:
        self._lost_line = lost_line
        self._in_child = False
        """Whether this is a child of ``os.fork``."""
        self._until: float | None = None
        """Until when the process's end waits, once it has begun."""
        self._reset()

    def _reset(self) -> None:
        self._lines: deque[_Text | Callable[[], object]] = deque()
        """What waits; a function is called when all before it is written."""
        self._guard = threading.RLock()  # reentrant: a finalizer or signal handler may log meanwhile
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._put = 0
        self._done = 0
        """The bytes that were ever queued, and those of them that wait no more."""
        self._lost = 0
        """How many lines were not written, and not reported as lost yet."""
        self._cut = False
        """Whether the latest write failed, perhaps within a line."""
        self._latest: TextIOWrapper | None = None

    def write(self, text: str, level: int) -> None:
        """Writes ``text``, whole lines of the ``logging`` level ``level``, to the
        present ``sys.stderr``, if there is one. Raises only ``ENDS``."""
        stream: Any = sys.stderr
        if stream is None:
            return
        if self._in_child or descriptor(stream) is None:
            self._write_here(stream, text)
            return
        data = encoded(stream, text)
        with self._guard:
            waiting = self._put - self._done
            if waiting and waiting + len(data) > _room(level):
                self._lost += 1
                return
            if self._lost and level < logging.WARNING:
                lost = self._take_lost()
                self._append(stream, encoded(stream, self._lost_line(lost)), lost)
            self._append(stream, data)
            self._start()
        self._calls.put(None)
        if self._until is not None:
            self.flush()

    def write_waiting(self, text: str) -> None:
        """Writes many lines in their turn, and waits until that is done, however long.
        For a thread that may. Raises what a replacement of ``sys.stderr`` raises."""
        stream: Any = sys.stderr
        if self._in_child or descriptor(stream) is None:
            write_through(stream, text)
            return
        for piece in _pieces(encoded(stream, text)):
            written = threading.Event()
            with self._guard:
                self._append(stream, piece, piece.count(b"\n"))
                self._lines.append(written.set)
                self._start()
            self._calls.put(None)
            while not written.wait(1.0):
                with self._guard:
                    self._start()  # if the system gave us no thread before

    def call(self, func: Callable[[], object]) -> None:
        """Calls ``func`` in the thread, when all that waits is written. It must raise
        nothing."""
        with self._guard:
            self._lines.append(func)
            self._start()
        self._calls.put(None)

    def lose(self, lines: int = 1) -> None:
        """Counts lines that could not be written, here or elsewhere, or not even be
        made."""
        with self._guard:
            self._lost += lines

    def flush(self) -> None:
        """Waits until everything is written, for at most ``END`` seconds."""
        until = monotonic() + END if self._until is None else self._until
        with self._guard:
            thread = self._thread
            if thread is None:
                self._drain(until)
                return
        if thread is not threading.current_thread() and (self._put != self._done or self._lost):
            written = threading.Event()
            self._lines.append(written.set)
            self._calls.put(None)
            written.wait(max(0.0, until - monotonic()))

    def end(self) -> None:
        """Begins the process's end: everything is flushed, and so is each line that
        still comes, for ``END`` seconds in all."""
        if self._until is None:
            self._until = monotonic() + END
        self.flush()

    def _append(self, stream: TextIOWrapper, data: bytes, lines: int = 1) -> None:
        self._put += len(data)
        self._lines.append(_Text(stream, data, lines))

    def _take_lost(self) -> int:
        """Returns how many lines were lost, to be reported now."""
        with self._guard:
            lost, self._lost = self._lost, 0
        return lost

    def _write_here(self, stream: Any, text: str) -> None:
        lost = self._take_lost()
        try:
            write_through(stream, self._lost_line(lost) + text if lost else text)
        except ENDS:
            raise
        except BaseException:
            self.lose(lost + 1)

    # ---- the thread ------------------------------------------------------------------

    def _start(self) -> None:
        """Starts the thread, if it does not run."""
        if self._thread is not None:
            return
        self._thread = thread = threading.Thread(target=self._work, name="silly-stderr", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system gives us none now, or the interpreter is ending. The next line
            # tries again; meanwhile stderr gets what it takes at once.
            self._thread = None
            self._drain(0.0)

    def _work(self) -> None:
        while True:
            self._calls.get()
            while self._lines:
                item = self._lines.popleft()
                if isinstance(item, _Text):
                    self._write_chunk(item)
                else:
                    self._tell_lost()
                    item()
                del item
            self._tell_lost()

    def _write_chunk(self, first: _Text) -> None:
        """Writes a line, with those behind it that fit in a chunk."""
        self._latest = stream = first.stream
        size = len(first.data)
        chunk = [first]
        while self._lines:
            following = self._lines[0]
            if not isinstance(following, _Text) or following.stream is not stream:
                break
            if size + len(following.data) > CHUNK:
                break
            size += len(following.data)
            chunk.append(following)
            self._lines.popleft()
        try:
            self._write_out(stream, b"".join([each.data for each in chunk]))
        except Exception:
            self.lose(sum([each.lines for each in chunk]))
        finally:
            self._done += size

    def _write_out(self, stream: TextIOWrapper, data: bytes) -> None:
        if self._cut:
            data = b"\n" + data
        self._cut = True
        # Asked now: the file may have been closed, and its descriptor be another's.
        write_all(stream.fileno(), data)
        self._cut = False

    def _tell_lost(self) -> None:
        stream = self._latest
        if not self._lost or stream is None:
            return
        lost = self._take_lost()
        try:
            self._write_out(stream, encoded(stream, self._lost_line(lost)))
        except Exception:
            self.lose(lost)

    def _drain(self, end: float) -> None:
        """Without a thread: writes what stderr takes without waiting, until ``end``.
        Only another process that fills the same pipe could still make it wait."""
        while self._lines:
            item = self._lines[0]
            if not isinstance(item, _Text):
                self._lines.popleft()  # put there while a thread was about to start
                item()
                continue
            piece = item.data[: select.PIPE_BUF]
            try:
                fd = item.stream.fileno()
                if not _writable(fd, max(0.0, end - monotonic())):
                    return
                write_all(fd, piece)
            except (OSError, ValueError):
                self._lost += item.lines
                piece = item.data
            self._done += len(piece)
            if len(piece) < len(item.data):
                self._lines[0] = item._replace(data=item.data[len(piece) :])
            else:
                self._lines.popleft()

    def after_fork(self) -> None:
        """Called in a child of ``os.fork``. What waits is the parent's to write, and so
        is its count of lost lines."""
        self._reset()
        self._in_child = True


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cuts lines into pieces of whole lines, of ``CHUNK`` bytes unless one is longer.
    """
    at = 0
    while at < len(data):
        end = (data.rfind(b"\n", at, at + CHUNK) + 1) or (data.find(b"\n", at + CHUNK) + 1) or len(data)
        yield data[at:end]
        at = end


def _room(level: int) -> int:
    """Returns how many bytes may wait for a line of ``level`` to be added."""
    if level < logging.WARNING:
        return MOST // 2
    return MOST if level >= logging.ERROR else MOST // 4 * 3
