"""Access logs: a line for each request, in the forms that other servers write.

    log = http.AccessLog("json", "/var/log/access.log")
    server, err = http.listen(addr=":8080", handler=handler, accesslog=log)

``accesslog="json"`` in place of a log writes to standard error.

A request only appends a tuple. Every ``FLUSH`` seconds a worker thread makes lines of
the tuples and writes them, so a slow disk delays no request. While the disk takes
nothing, at most ``MOST`` lines wait, fewer if they are long (``MOST_TEXT``); further
lines are dropped, and their number is logged.
"""

from __future__ import annotations

import json
import os
import re
import sys
from io import FileIO
from time import gmtime, time
from typing import IO, TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from ..._core import scheduler, worker
from ..._core.loop import monotonic
from ..._log import http as logger
from ..._log import release, say_waiting
from ..._shown import cut, said, shown
from ..._stderr import write_all, write_through
from ..._wire.date import MONTHS
from .._listener import host_of

if TYPE_CHECKING:
    from .h1 import ServerStream

FLUSH = 0.2
"""Seconds between two writes."""
MOST = 100_000
"""Lines that may wait for the disk."""
MOST_TEXT = 16 * 1024 * 1024
"""Characters of text from peers that waiting lines may hold: without this bound, lines
with long targets and header fields would take gigabytes."""

# A peer chooses the text. It must not end a line or a quotation, or control a terminal.
_ESCAPES = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0x100), ord('"'), ord("\\"))}

_loop = scheduler.loop
_with_paths: WeakSet[AccessLog] = WeakSet()


class Account(NamedTuple):
    """What a WebSocket did. ``close`` and ``cause`` are ``sock.closecode`` and
    ``sock.cause``; bytes are those of its frames, as they are on the connection."""

    close: int
    cause: str | None
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int


class Entry(NamedTuple):
    """What the log knows about a request that has been answered. ``when`` is in seconds
    since 1970, ``size`` in bytes, ``took`` in ms."""

    when: float
    remoteaddr: str
    host: str | None
    method: str | None
    target: str
    version: str
    status: int
    size: int
    took: float
    referer: str | None
    agent: str | None
    websocket: Account | None = None


class AccessLog:
    """An access log for ``http.listen``; several servers may share one. Use it in a
    ``with`` block to close it at the end.

        log = http.AccessLog("json", "access.log")
        server, err = http.listen(addr="127.0.0.1:0", handler=handler, accesslog=log)

    * ``form``: ``"common"``, ``"combined"`` (Apache's forms, in UTC) or ``"json"``
    * ``to``: a path, to which lines are appended; an open text file, which ``close``
      leaves open; or None for standard error
    * ``query``: whether the queries of targets and of ``Referer`` are logged. They may
      have secrets in them, such as a WebSocket's token, for which a browser can send no
      header.

    A line has the size of the response's body in bytes. JSON also has ``ms``, the time
    from the request's head to the end of its handler. If a request could not be parsed,
    ``-`` (in JSON null) stands in place of its line. The user and password of a URL are
    never logged.

    A WebSocket has its line when it has ended. Its size is the bytes of the frames that
    were sent, and the line has more fields: close code, messages, bytes, time, and in
    JSON the cause. ``docs/http.md`` shows one.

    Raises ValueError for another form, TypeError for another ``to`` or ``query``, and
    OSError if the file cannot be opened.
    """

    def __init__(
        self, form: str = "combined", to: str | os.PathLike[str] | IO[str] | None = None, *, query: bool = True
    ) -> None:
        if form not in _FORMS:
            raise ValueError(f"an access log's form is 'common', 'combined' or 'json', not {shown(form)}")
        if not isinstance(query, bool):
            raise TypeError(f"an access log's query is True or False, not {type(query).__name__}")
        self._line = _FORMS[form]
        self._query = query
        self._path: str | os.PathLike[str] | None = None
        self._file: FileIO | IO[str] | None = None
        if isinstance(to, (str, os.PathLike)):
            self._path = to
            self._file = _append_to(to)
            _with_paths.add(self)
        elif to is None or hasattr(to, "write"):
            self._file = to
        else:
            raise TypeError(f"an access log goes to a path or an open text file, not {type(to).__name__}")
        self._entries: list[Entry] = []
        self._text = 0
        self._dropped = 0
        self._due = False
        """Whether a write is due or under way."""
        self._writing = False
        self._closed = False
        self._done_with: list[FileIO | IO[str] | None] = []
        """Files to close when the write that is under way has ended."""

    def reopen(self) -> None:
        """Opens the path again, after a tool such as logrotate has moved the file away.
        Lines that wait go to the new file. Does nothing for a log without a path.
        Raises OSError.

            log.reopen()
        """
        if self._path is not None and not self._closed:
            before, self._file = self._file, _append_to(self._path)
            self._done_with.append(before)
            self._close_files()

    def close(self) -> None:
        """Ends the log. Lines that wait are still written; requests that end later are
        not logged. A file that was given open stays open.
        """
        self._closed = True
        self._close_files()

    def __enter__(self) -> AccessLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _close_files(self) -> None:
        """Closes the files that no write uses any more."""
        if self._closed and self._path is not None and not self._due:
            self._done_with.append(self._file)
            self._path = None
        while self._done_with and not self._writing:
            file = self._done_with.pop()
            if file is not None:
                file.close()

    def _add(self, stream: ServerStream, took: float) -> None:
        """Adds a request that was served in ``took`` ms; not one that got no answer."""
        status, size = stream._answered()
        if not status:
            return
        header = stream.header
        host, referer, agent = header["host"], header["referer"], header["user-agent"]
        target = stream.target
        if not self._query:
            target = target.partition("?")[0]
            referer = referer and referer.partition("?")[0].partition("#")[0]
        if referer and "@" in referer:
            referer = _without_user(referer)
        account = stream._account
        if account is not None:
            size = account.bytes_out
        line = stream.method, target, stream.version
        self._append(Entry(time(), stream.remoteaddr, host, *line, status, size, took, referer, agent, account))

    def _add_refused(self, remoteaddr: str, status: int, size: int) -> None:
        """Adds a connection or a bad request that was refused with ``status``."""
        self._append(Entry(time(), remoteaddr, None, None, "", "", status, size, 0.0, None, None))

    def _append(self, entry: Entry) -> None:
        if self._closed:
            return
        if len(self._entries) >= MOST or self._text >= MOST_TEXT:
            self._dropped += 1
            return
        cause = entry.websocket and entry.websocket.cause
        chosen = entry.target, entry.host, entry.method, entry.referer, entry.agent, cause
        self._text += sum([len(text) for text in chosen if text])
        self._entries.append(entry)
        if not self._due:
            self._due = True
            _loop.work += 1  # the process doesn't end before the lines are written
            _loop.timers.add(monotonic() + FLUSH, self._flush, internal=True)

    def _flush(self, _: None) -> None:
        entries, self._entries = self._entries, []
        self._text = 0
        dropped, self._dropped = self._dropped, 0
        if dropped:
            logger.error(f"access log: {dropped} lines were dropped, since they could not be written fast enough")
        try:
            worker.files.submit(_loop, self._write, (self._file, entries), self._written)
        except RuntimeError as exc:
            self._written(None, exc)  # the system gives us no thread now; the next write may get one
        else:
            self._writing = True

    def _write(self, file: FileIO | IO[str] | None, entries: list[Entry]) -> None:
        """Runs in a worker thread."""
        line = self._line
        lines = "".join([line(entry) for entry in entries])
        if isinstance(file, FileIO):
            write_all(file.fileno(), lines.encode("ascii"))
        elif file is None or file is sys.stderr:
            say_waiting(lines)
        else:
            write_through(file, lines)

    def _written(self, _: None, exc: BaseException | None) -> None:
        self._writing = False
        if exc is not None:
            # The traceback of a full disk says nothing.
            about = None if isinstance(exc, OSError) else exc
            logger.error(f"access log: lines were lost: {cut(said(exc))}", about)
            release(exc)
        if self._entries:
            _loop.timers.add(monotonic() + FLUSH, self._flush, internal=True)
        else:
            self._due = False
            _loop.work -= 1
        self._close_files()


def reopen_all() -> None:
    """Opens the paths of all logs again; the launcher calls it for SIGUSR1. A log whose
    path can't be opened keeps its file, and that is logged."""
    for log in list(_with_paths):
        try:
            log.reopen()
        except OSError as exc:
            logger.error(f"access log: {log._path!s} can't be opened again, so the file from before stays: {exc.strerror}")


def _append_to(path: str | os.PathLike[str]) -> FileIO:
    """Opens a file to append to. It is unbuffered: when the disk is full, a buffer
    would keep lines that were reported as lost, and fail again when it is closed."""
    return open(path, "ab", buffering=0)


def _quoted(value: str | None) -> str:
    return '"-"' if value is None else f'"{value.translate(_ESCAPES)}"'


_USER = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)[^/?#]*@")


def _without_user(url: str) -> str:
    """Returns ``url`` without its user and password. Its path and query may have an @.
    """
    begin = _USER.match(url)
    return url if begin is None else begin[1] + url[begin.end() :]


def _common(entry: Entry) -> str:
    return f"{_start(entry)}{_end(entry)}\n"


def _combined(entry: Entry) -> str:
    return f"{_start(entry)} {_quoted(entry.referer)} {_quoted(entry.agent)}{_end(entry)}\n"


def _end(entry: Entry) -> str:
    """Returns the fields that only a WebSocket's line has."""
    sock = entry.websocket
    if sock is None:
        return ""
    messages = f"messages={sock.messages_in}/{sock.messages_out} bytes={sock.bytes_in}/{sock.bytes_out}"
    return f" close={sock.close} {messages} ms={entry.took:.0f}"


def _start(entry: Entry) -> str:
    when = gmtime(entry.when)
    stamp = f"{when.tm_mday:02}/{MONTHS[when.tm_mon - 1]}/{when.tm_year}:{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02}"
    line = None if entry.method is None else f"{entry.method} {entry.target} {entry.version}"
    return f"{_remote_host(entry)} - - [{stamp} +0000] {_quoted(line)} {entry.status} {entry.size or '-'}"


def _remote_host(entry: Entry) -> str:
    """The peer's address without its port; ``-`` for a Unix domain socket."""
    return "-" if entry.remoteaddr.startswith("unix:") else host_of(entry.remoteaddr).strip("[]")


def _json(entry: Entry) -> str:
    when = gmtime(entry.when)
    day = f"{when.tm_year:04}-{when.tm_mon:02}-{when.tm_mday:02}"
    fields = {
        "time": f"{day}T{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02}.{int(entry.when % 1 * 1000):03}Z",
        "remote": entry.remoteaddr,
        "host": entry.host,
        "method": entry.method,
        "target": entry.target if entry.method is not None else None,
        "version": entry.version if entry.method is not None else None,
        "status": entry.status,
        "size": entry.size,
        "ms": round(entry.took, 3),
        "referer": entry.referer,
        "agent": entry.agent,
    }
    if entry.websocket is not None:
        fields |= entry.websocket._asdict()
    return json.dumps(fields) + "\n"


_FORMS = {"common": _common, "combined": _combined, "json": _json}
