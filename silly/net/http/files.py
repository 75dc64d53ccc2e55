"""Static files: ``http.sendfile`` answers a request with a file below a directory.

    def handler(stream):
        header = {"cache-control": "max-age=60"}
        http.sendfile(stream, stream.path, "/srv/www", header=header)

Nothing outside of the directory can be reached. A path is decoded once and checked,
then opened segment by segment, each relative to the directory before it, and never
through a symbolic link. So no time passes between a check and an open in which an
attacker could replace a directory by a link.
"""

from __future__ import annotations

import errno as os_errno
import os
import re
from functools import cache
from stat import S_ISDIR, S_ISREG
from time import time
from typing import NamedTuple

from ..._core import scheduler
from ..._core.result import Result
from ..._log import http as logger
from ..._shown import shown
from ..._wire.conditional import UNSATISFIABLE, precondition, requested_range
from ..._wire.date import http_date
from ..._wire.error import ProtocolError
from ..._wire.header import Outgoing, compose, tokens
from ..._wire.negotiate import content_coding
from ..._wire.path import file_segments
from .h1 import ServerStream

_loop = scheduler.loop
_PREPARED = {"br": b".br", "gzip": b".gz"}
"""Content codings, the preferred one first, and the endings of their files' names."""

_DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", 0)
"""O_PATH, if the system has it: passing a directory needs no permission to list it."""
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Non-blocking, because opening a FIFO without a writer would wait."""

_ABSENT = {
    getattr(os_errno, name)
    # There is no such file; it is a symbolic link; it is a socket or device.
    for name in ("ENOENT", "ENOTDIR", "ELOOP", "EMLINK", "ENAMETOOLONG", "ENXIO", "ENODEV", "EOPNOTSUPP")
}
_FORBIDDEN = {os_errno.EACCES, os_errno.EPERM}
_BUSY = {os_errno.EMFILE, os_errno.ENFILE, os_errno.ENOMEM, os_errno.EAGAIN}

_TYPES = {
    ".avif": "image/avif",
    ".br": "application/octet-stream",
    ".bz2": "application/x-bzip2",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".m4a": "audio/mp4",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".svg": "image/svg+xml",
    ".svgz": "application/gzip",
    ".tgz": "application/gzip",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
}
"""Types that Python's own table lacks or has differently."""


@cache
def _types() -> dict[str, str]:
    """Content-Types by file name ending. The system's own table is not used, so they
    are the same on every system."""
    from mimetypes import MimeTypes  # here, since it takes milliseconds and few programs need it

    return {**MimeTypes().types_map[True], **_TYPES}


_OURS = frozenset(
    ("content-length", "transfer-encoding", "trailer", "content-range", "content-encoding")
    + ("accept-ranges", "etag", "last-modified")
)
"""Fields that follow from the file, or from the part of it that is sent."""
_REDIRECTED = re.compile(r"/(?!/)[!-\[\]-~]*")
"""Paths that may be sent back as a Location. Browsers read a host after "//", and read
a backslash as "/"."""


class _Representation(NamedTuple):
    """An open file to send. ``varies``: another request for the same path may get it in
    another coding."""

    fd: int
    status: os.stat_result
    coding: str | None
    varies: bool


def sendfile(
    stream: ServerStream,
    path: str,
    root: str | os.PathLike[str],
    *,
    header: Outgoing | None = None,
    index: str | None = "index.html",
) -> Result:
    """Answers the request with the file that ``path`` names below the directory
    ``root``, or with a status that says why it cannot.

        def handler(stream):
            http.sendfile(stream, stream.path, "/srv/www")

    * ``path``: percent-encoded, like ``stream.path``. An empty path is ``root`` itself;
      any other path that does not start with "/" is answered 404. If the path of a
      directory ends with "/", its file ``index`` is sent (404 if ``index`` is None);
      else the answer is a redirect to ``stream.path`` with "/". Hidden files
      (``.name``) are answered 404, and symbolic links below ``root`` are not followed.
    * ``header``: more fields for the file, or another Content-Type.

    Only GET and HEAD get the file; others get 405. Preconditions and one range of bytes
    work as RFC 9110, sections 13 and 14, say. If ``name.br`` or ``name.gz`` lies beside
    ``name`` and is not older, clients that accept the coding get it.

    Returns ``(True, None)`` if it answered, with whatever status. Returns
    ``(False, err)`` if the request was answered before, or if the file could not be
    sent whole: then the connection ends. Raises TypeError or ValueError for bad
    arguments, such as a field that follows from the file, but never because of ``path``
    or the file.

    The calling task opens and reads the file, so other tasks wait while the disk works.
    A file that is often requested is in the system's cache and takes some microseconds,
    less than handing it to a thread would.
    """
    if _loop.no_switch:
        scheduler.refuse("http.sendfile")
    fields = _check(path, root, header, index)
    if stream.method not in ("GET", "HEAD"):
        return stream.answer(405, "Method Not Allowed", {"allow": "GET, HEAD"})
    if not path:
        return _directory(stream, path, root, fields, index)
    if not path.startswith("/"):
        return stream.answer(404, "Not Found")
    try:
        *parents, name = file_segments(path)
    except ProtocolError as exc:
        return stream.answer(exc.code, exc.answer)
    if not name:
        if index is None:
            return stream.answer(404, "Not Found")
        name = index
    try:
        file = _find(root, parents, name, stream.header["accept-encoding"])
    except IsADirectoryError:
        if path.endswith("/"):
            return stream.answer(404, "Not Found")  # the index itself
        return _directory(stream, path, root, fields, index)
    except OSError as exc:
        return _failed(stream, exc)
    try:
        return _send(stream, file, name, fields)
    finally:
        os.close(file.fd)


def _check(path: str, root: str | os.PathLike[str], header: Outgoing | None, index: str | None) -> list[tuple[str, str]]:
    """Checks the arguments and returns the caller's fields, ready to send. Raises
    TypeError or ValueError."""
    if not isinstance(path, str):
        raise TypeError(f"http.sendfile needs a path, not {type(path).__name__}")
    if not isinstance(os.fspath(root), str):
        raise TypeError("http.sendfile needs a root that is str or a path object, not bytes")
    if index is not None and not isinstance(index, str):
        raise TypeError(f"index is the name of a file or None, not {type(index).__name__}")
    if index in ("", ".", "..") or (index and ("/" in index or "\0" in index)):
        raise ValueError(f"index is the name of a file or None, not {shown(index)}")
    fields = compose(header or ())
    for name, _ in fields:
        if name in _OURS:
            raise ValueError(f"the header {shown(name)} is decided by the file")
    return fields


def _failed(stream: ServerStream, exc: OSError) -> Result:
    """Answers that the file cannot be opened."""
    if exc.errno in _ABSENT:
        return stream.answer(404, "Not Found")
    if exc.errno in _FORBIDDEN:
        return stream.answer(403, "Forbidden")
    logger.limited("http.sendfile", f"http.sendfile: {shown(stream.path)}: {exc.strerror}", logger.ERROR)
    if exc.errno in _BUSY:
        return stream.answer(503, "Service Unavailable")
    return stream.answer(500, "Internal Server Error")


def _directory(
    stream: ServerStream, path: str, root: str | os.PathLike[str], fields: list[tuple[str, str]], index: str | None
) -> Result:
    """Answers a request for a directory whose path lacks the "/" at its end: relative
    links in its index need one."""
    if index is not None and stream.path.endswith("/"):
        # The caller passed another path than ``stream.path``, which does end with "/".
        return sendfile(stream, path + "/", root, header=fields, index=index)
    if index is None or not _REDIRECTED.fullmatch(stream.path):
        return stream.answer(404, "Not Found")
    query = stream.target.partition("?")[2]
    location = f"{stream.path}/?{query}" if query else stream.path + "/"
    return stream.answer(301, "Moved Permanently", {"location": location})


def _find(root: str | os.PathLike[str], parents: list[str], name: str, accepted: str | None) -> _Representation:
    """Opens the file ``name``, or a prepared coding of it. Raises IsADirectoryError for
    a directory, and other OSErrors."""
    try:
        directory = os.open(root, _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise OSError(os_errno.EIO, f"the root {shown(os.fspath(root))} is not a directory") from None
    try:
        # Names are bytes: on the disk they are UTF-8, whatever the locale.
        for parent in parents:
            inner = os.open(parent.encode(), _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        fd, status = _open(directory, name.encode())
        return _prepared(directory, name.encode(), _Representation(fd, status, None, False), accepted)
    finally:
        os.close(directory)


def _open(directory: int, name: bytes) -> tuple[int, os.stat_result]:
    """Opens a regular file in ``directory``. Raises OSError."""
    fd = os.open(name, _FILE, dir_fd=directory)
    status = os.fstat(fd)
    if S_ISREG(status.st_mode):
        return fd, status
    os.close(fd)
    code = os_errno.EISDIR if S_ISDIR(status.st_mode) else os_errno.ENOENT
    raise OSError(code, os.strerror(code))


def _prepared(directory: int, name: bytes, plain: _Representation, accepted: str | None) -> _Representation:
    """Returns ``plain``, or a file beside it with the same content in a coding that the
    peer prefers."""
    found: dict[str | None, _Representation] = {None: plain}
    for coding, ending in _PREPARED.items():
        try:
            fd, status = _open(directory, name + ending)
        except OSError:
            continue  # it is missing or may not be sent; ``plain`` is
        if status.st_mtime_ns >= plain.status.st_mtime_ns:
            found[coding] = _Representation(fd, status, coding, True)
        else:
            os.close(fd)
    chosen = found.pop(content_coding(accepted, [coding for coding in found if coding]))
    for other in found.values():
        os.close(other.fd)
    return chosen._replace(varies=True) if found else chosen


def _type(name: str) -> str:
    """The Content-Type for a file name's ending."""
    found = _types().get(os.path.splitext(name)[1].lower(), "application/octet-stream")
    return f"{found}; charset=utf-8" if found.startswith("text/") else found


def _send(stream: ServerStream, file: _Representation, name: str, fields: list[tuple[str, str]]) -> Result:
    """Answers with the file, or as the request's conditions and its Range say."""
    size = file.status.st_size
    now = int(time())
    # Never later than Date (RFC 9110, section 8.8.2.1).
    modified = max(0, min(file.status.st_mtime_ns // 10**9, now))
    etag = f'"{file.status.st_mtime_ns:x}-{size:x}-{file.status.st_ino:x}{"-" + file.coding if file.coding else ""}"'
    outcome = precondition(stream.method, stream.header, etag, modified, now)
    if outcome == 412:
        return stream.answer(412, "Precondition Failed")
    part = requested_range(stream.method, stream.header, etag, modified, size, now) if outcome == 200 else None
    if part == UNSATISFIABLE:
        return stream.answer(416, "Range Not Satisfiable", {"content-range": f"bytes */{size}"})
    ours = {"etag": etag, "last-modified": http_date(modified)}
    if file.varies:
        given = ", ".join([value for field, value in fields if field == "vary"])
        fields = [pair for pair in fields if pair[0] != "vary"]
        ours["vary"] = given if {"*", "accept-encoding"} & set(tokens(given)) else f"{given}, Accept-Encoding".lstrip(", ")
    if outcome == 304:
        result = stream.respond(304, [*ours.items(), *(pair for pair in fields if pair[0] != "content-type")])
        return stream.closewrite() if result else result
    ours |= {"accept-ranges": "bytes", "content-type": _type(name), "x-content-type-options": "nosniff"}
    if file.coding:
        ours["content-encoding"] = file.coding
    first, end = part or (0, size)
    if part:
        ours["content-range"] = f"bytes {first}-{end - 1}/{size}"
    for field, _ in fields:
        ours.pop(field, None)
    result = stream.respond(206 if part else 200, [*ours.items(), *fields, ("content-length", end - first)])
    return stream.sendfile(file.fd, first, end - first) if result else result
