"""``http.sendfile``: what it answers, and that nothing outside of its root can be reached."""

from __future__ import annotations

import errno as os_errno
import gzip
import hashlib
import os
import resource
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly import check
from silly.net import tcp
from silly.net.http import files
from silly.net.http.files import sendfile

from ..helpers import Raw, Response, serving, turn
from ..wire.strategies import STEADY
from . import authorities, tls_support
from .support import Job, until

SECRET = b"the secret\n"
TEXT = b"hello world\n"
PAST = 1_000_000_000
"""When the files of the tests were changed: Sun, 09 Sep 2001 01:46:40 GMT."""
CHANGED = "Sun, 09 Sep 2001 01:46:40 GMT"


def write(path: Path, data: bytes = TEXT, at: int = PAST) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (at, at))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to serve, beside a secret."""
    write(tmp_path / "secret.txt", SECRET)
    write(tmp_path / "root" / "a.txt")
    write(tmp_path / "root" / "dir" / "index.html", b"<p>index\n")
    write(tmp_path / "root" / "dir" / "b.bin", bytes(range(100)))
    (tmp_path / "root" / "empty").mkdir()
    return tmp_path / "root"


@contextmanager
def files_of(root: Path | str, path: Callable[[Any], str] | None = None, tls: bool = False, **options: Any) -> Iterator[Any]:
    """A server of ``root``. ``path`` makes what is asked for from the stream."""
    server_options = {"certs": [authorities.server().entry]} if tls else {}

    def handler(stream: Any) -> None:
        sendfile(stream, stream.path if path is None else path(stream), root, **options)

    with serving(handler, limits=options.pop("limits", None), **server_options) as server:
        yield server


def ask(server: Any, path: str, *fields: str, method: str = "GET") -> Response:
    with Raw.connect(server) as client:
        client.request(path, method, *fields)
        return client.response(method)


def status(server: Any, path: str) -> int:
    return ask(server, path).status


# ---- plain answers --------------------------------------------------------------------------------------------------


def test_get_and_head(root: Path) -> None:
    with files_of(root) as server:
        got = ask(server, "/a.txt")
        assert (got.status, got.body) == (200, TEXT)
        header = got.header
        assert parsedate_to_datetime(header.pop("date"))
        assert header.pop("etag").count('"') == 2
        assert header == {
            "content-type": "text/plain; charset=utf-8",
            "content-length": "12",
            "last-modified": CHANGED,
            "accept-ranges": "bytes",
            "x-content-type-options": "nosniff",
        }
        head = ask(server, "/a.txt", method="HEAD")
        assert head.status == 200
        assert head.body == b""
        for name in (*header, "etag"):
            assert head.header[name] == ask(server, "/a.txt").header[name]


def test_requests_on_one_connection(root: Path) -> None:
    big = os.urandom(300_000)
    write(root / "big", big)
    with files_of(root) as server, Raw.connect(server) as client:
        asked = [("GET", "/a.txt"), ("GET", "/big"), ("HEAD", "/big"), ("GET", "/none"), ("GET", "/big"), ("GET", "/dir/")]
        for method, path in asked:
            client.request(path, method)
        expected = [TEXT, big, b"", b"Not Found\n", big, b"<p>index\n"]
        assert [client.response(method).body for method, _ in asked] == expected


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW", "get"])
def test_other_methods(root: Path, method: str) -> None:
    with files_of(root) as server:
        got = ask(server, "/a.txt", method=method)
        assert (got.status, got.header["allow"]) == (405, "GET, HEAD")
        assert ask(server, "/none", method=method).status == 405


def test_an_empty_file(root: Path) -> None:
    write(root / "none", b"")
    with files_of(root) as server:
        got = ask(server, "/none")
        assert (got.status, got.body, got.header["content-length"]) == (200, b"", "0")
        assert got.header["content-type"] == "application/octet-stream"
        assert ask(server, "/none", "Range: bytes=0-").status == 416
        assert ask(server, "/none", "Range: bytes=-5").status == 200


@pytest.mark.parametrize("tls", [False, True])
def test_a_big_file(root: Path, tls: bool) -> None:
    data = b"".join(hashlib.sha256(b"%d" % number).digest() * 512 for number in range(320))  # 5 MiB
    write(root / "big", data)
    with files_of(root, tls=tls) as server:
        conn = tls_support.connect(server) if tls else check(tcp.connect(server.addr))
        with Raw(conn) as client:
            client.request("/big")
            client.request("/a.txt")
            assert client.response().body == data
            assert client.response().body == TEXT


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.htm", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.csv", "text/csv; charset=utf-8"),
        ("a.md", "text/markdown; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("A.JS", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.min.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.js.map", "application/json"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.gif", "image/gif"),
        ("a.webp", "image/webp"),
        ("a.avif", "image/avif"),
        ("favicon.ico", "image/x-icon"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.pdf", "application/pdf"),
        ("a.zip", "application/zip"),
        ("a.mp4", "video/mp4"),
        ("a.webm", "video/webm"),
        ("a.gz", "application/gzip"),
        ("a.tar.gz", "application/gzip"),
        ("a.js.gz", "application/gzip"),
        ("a.svgz", "application/gzip"),
        ("a.js.br", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
        ("html", "application/octet-stream"),
        ("data:image,x", "application/octet-stream"),
    ],
)
def test_types(root: Path, name: str, expected: str) -> None:
    """By our own table, so the same everywhere; a compressed file that is asked for by its name is sent as what it is."""
    write(root / name)
    with files_of(root) as server:
        got = ask(server, "/" + name)
        assert got.header["content-type"] == expected
        assert "content-encoding" not in got.header


def test_names_that_need_escapes(root: Path) -> None:
    for name in ("a b.txt", "100%.txt", "%2e%2e", "café €.txt", "?#&;=+.txt", "~x", "-rf", "*", "C:", "\U0001f600", "a" * 255):
        write(root / name, name.encode())
        with files_of(root) as server:
            assert ask(server, "/" + quote(name)).body == name.encode(), name


# ---- nothing outside of the root ------------------------------------------------------------------------------------

ESCAPES = [
    "/../secret.txt",
    "/dir/../../secret.txt",
    "/dir/../a.txt",
    "/./a.txt",
    "/..",
    "/dir/..",
    "/%2e%2e/secret.txt",
    "/.%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%2fsecret.txt",
    "/dir%2f..%2f..%2fsecret.txt",
    "/dir%2Fb.bin",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/dir\\..\\..\\secret.txt",
    "/%252e%252e/secret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/%c0%af..%c0%afsecret.txt",
    "/%uff0e%uff0e/secret.txt",
    "/%EF%BC%8E%EF%BC%8E/secret.txt",
    "/%e2%80%a5/secret.txt",
    "/....//secret.txt",
    "/..;/secret.txt",
    "/..%00/secret.txt",
    "/../secret.txt%00.html",
    "/a.txt%00",
    "/a.txt%00.html",
    "/a.txt%0a",
    "/a.txt%20",
    "/a.txt/",
    "/a.txt/x",
    "/a.txt/../a.txt",
    "//a.txt",
    "/dir//b.bin",
    "//secret.txt",
    "//etc/passwd",
    "/%2fetc/passwd",
    "/etc/passwd",
    "/file:///etc/passwd",
    "/%",
    "/%4",
    "/%zz",
    "/%ff",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_escapes(root: Path, path: str) -> None:
    with files_of(root) as server:
        got = ask(server, path)
        assert got.status in (400, 404)
        assert b"secret" not in got.body


def test_whose_path_is_absolute(root: Path) -> None:
    """The full form of the target (RFC 9112, section 3.2.2) names the same paths."""
    with files_of(root) as server:
        assert ask(server, "http://elsewhere/a.txt").body == TEXT
        assert ask(server, "http://elsewhere/../secret.txt").status == 400


def test_hidden_files(root: Path) -> None:
    write(root / ".env")
    write(root / ".git" / "config")
    write(root / "dir" / ".htaccess")
    with files_of(root) as server:
        for path in ("/.env", "/.git/config", "/.git/", "/.git", "/dir/.htaccess", "/%2eenv"):
            assert status(server, path) == 404
    with files_of(root / ".git") as server:  # whoever wants to serve one names it as the root
        assert status(server, "/config") == 200


def test_the_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    with files_of(tmp_path / "link") as server:
        assert ask(server, "/a.txt").body == TEXT
    with files_of(str(tmp_path / "link") + "/") as server:
        assert ask(server, "/dir/").body == b"<p>index\n"


LINKS = {
    "absolute": lambda root, link: link.symlink_to(root.parent / "secret.txt"),
    "relative": lambda root, link: link.symlink_to("../secret.txt"),
    "to a file within": lambda root, link: link.symlink_to("a.txt"),
    "to a directory": lambda root, link: link.symlink_to(root.parent),
    "to a directory within": lambda root, link: link.symlink_to("dir"),
    "to itself": lambda root, link: link.symlink_to(link.name),
    "to nothing": lambda root, link: link.symlink_to("nowhere"),
    "to a link": lambda root, link: (root.with_name("hop").unlink(True), root.with_name("hop").symlink_to("secret.txt"))
    and link.symlink_to("../hop"),
    "to a device": lambda root, link: link.symlink_to("/dev/zero"),
    "to the root of all": lambda root, link: link.symlink_to("/"),
    "to a descriptor": lambda root, link: link.symlink_to("/proc/self/fd/0"),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_are_not_followed(root: Path, kind: str) -> None:
    LINKS[kind](root, root / "link")
    LINKS[kind](root, root / "empty" / "index.html")
    write(root / "c.txt")
    LINKS[kind](root, root / "c.txt.gz")
    with files_of(root) as server:
        for path in ("/link", "/link/", "/link/secret.txt", "/link/b.bin", "/link/index.html", "/link/etc/passwd", "/empty/"):
            assert status(server, path) == 404, path
        got = ask(server, "/c.txt", "Accept-Encoding: gzip")
        assert (got.status, got.body) == (200, TEXT)
        assert "content-encoding" not in got.header


def test_a_directory_exchanged_for_a_link(root: Path, tmp_path: Path) -> None:
    """As fast as two threads can: what comes is the file or nothing, and never what the link leads to."""
    outside = tmp_path / "outside"
    write(outside / "b.bin", SECRET)
    write(root / "real" / "b.bin")
    (tmp_path / "aside").symlink_to(outside)
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            os.rename(root / "real", tmp_path / "kept")
            os.rename(tmp_path / "aside", root / "real")
            os.rename(root / "real", tmp_path / "aside")
            os.rename(tmp_path / "kept", root / "real")

    thread = threading.Thread(target=exchange)
    seen = set()
    with files_of(root) as server, Raw.connect(server) as client:
        thread.start()
        try:
            for _ in range(400):
                client.request("/real/b.bin")
                seen.add(client.response()[::3])
        finally:
            stop.set()
            thread.join()
    assert {body for _, body in seen} <= {TEXT, b"Not Found\n"}


PARTS = ["..", ".", "/", "/", "%2f", "%2e", "\\", "%5c", "dir", "a.txt", "secret.txt", "%00", "link", "%"]


def test_no_path_leads_out(root: Path) -> None:
    (root / "link").symlink_to("..")
    (root / "dir" / "link").symlink_to("../../secret.txt")
    with files_of(root) as server, Raw.connect(server) as client:

        @STEADY
        @given(st.lists(st.sampled_from(PARTS), max_size=8))
        def ask_for(parts: list[str]) -> None:
            client.request("/" + "".join(parts))
            got = client.response()
            assert got.status in (200, 301, 400, 404)
            assert SECRET not in got.body
            assert got.header.get("location") in (None, "/dir/")

        ask_for()


# ---- what is no file ------------------------------------------------------------------------------------------------


def test_what_is_no_regular_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one must neither wait nor succeed: a FIFO without a writer, a socket, a device."""
    os.mkfifo(root / "fifo")
    os.mkfifo(root / "empty" / "index.html")
    write(root / "d.txt")
    os.mkfifo(root / "d.txt.gz")
    with socket.socket(socket.AF_UNIX) as sock:
        monkeypatch.chdir(root)  # a Unix domain socket's path is short
        sock.bind("socket")
        with files_of(root) as server:
            for path in ("/fifo", "/socket", "/empty/", "/fifo/", "/socket/x"):
                assert status(server, path) == 404, path
            assert ask(server, "/d.txt", "Accept-Encoding: gzip").body == TEXT
    with files_of("/dev") as server:
        for path in ("/null", "/zero", "/tty"):
            assert status(server, path) in (403, 404), path


def test_names_that_are_too_long(root: Path) -> None:
    with files_of(root) as server:
        assert status(server, "/" + "x" * 256) == 404
        assert status(server, "/dir/" + "x" * 5000) == 404
        assert status(server, "/" + "x/" * 2000) == 404
        assert status(server, "/dir" + "/dir" * 1500) == 404
        # Its siblings' names would be: it has none.
        write(root / ("y" * 254))
        assert ask(server, "/" + "y" * 254, "Accept-Encoding: gzip, br").body == TEXT


@pytest.mark.parametrize(
    ("code", "expected", "line"),
    [
        (os_errno.EACCES, 403, None),
        (os_errno.EPERM, 403, None),
        (os_errno.EMFILE, 503, "Too many open files"),
        (os_errno.ENFILE, 503, "Too many open files in system"),
        (os_errno.ENOMEM, 503, "Cannot allocate memory"),
        (os_errno.EIO, 500, "Input/output error"),
        (os_errno.ESTALE, 500, "Stale file handle"),
        (os_errno.ELOOP, 404, None),
        (os_errno.ENXIO, 404, None),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_system_s_errors(
    root: Path, logs: Any, monkeypatch: pytest.MonkeyPatch, code: int, expected: int, line: str | None, at: int
) -> None:
    """At the root, at a directory, at the file."""
    real = os.open
    calls = 0

    def fails(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            raise OSError(code, os.strerror(code))
        return real(path, flags, mode, dir_fd=dir_fd)

    if line is not None:
        logs.expect(f"^ERROR http.sendfile: '/dir/b.bin': {line}$")
    with files_of(root) as server, Raw.connect(server) as client:
        monkeypatch.setattr(files.os, "open", fails)
        client.request("/dir/b.bin")
        got = client.response()
        monkeypatch.undo()
        assert got.status == expected
        client.request("/a.txt")
        assert client.response().body == TEXT


def test_no_descriptor_is_left(root: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with files_of(root) as server, Raw.connect(server) as client:
        client.request("/a.txt")
        client.response()
        highest = os.open("/dev/null", os.O_RDONLY)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, before[1]))
        try:
            for path in ("/a.txt", "/dir/b.bin", "/dir/", "/dir", "/none", "/dir/none", "/a.txt/x", "/../x", "/dir/x/y") * 3:
                client.request(path)
                assert client.response().status in (200, 301, 400, 404), path
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_too_few_descriptors(root: Path, logs: Any) -> None:
    logs.expect("^ERROR http.sendfile: '/dir/b.bin': Too many open files$")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with files_of(root) as server, Raw.connect(server) as client:
        client.request("/dir/b.bin")
        client.response()
        highest = os.open("/dev/null", os.O_RDONLY)
        os.close(highest)
        seen = []
        for more in range(4):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, before[1]))
            try:
                client.request("/dir/b.bin")
                seen.append(client.response().status)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert seen[0] == 503
        assert seen[-1] == 200


@pytest.mark.parametrize("name", ["missing", "root/a.txt"])
def test_a_root_that_is_no_directory(root: Path, tmp_path: Path, logs: Any, name: str) -> None:
    logs.expect(f"^ERROR http.sendfile: '/a.txt': the root '.*/{name}' is not a directory$")
    with files_of(tmp_path / name) as server:
        assert status(server, "/a.txt") == 500


@pytest.fixture
def nobody(root: Path) -> Iterator[None]:
    """The test runs as a user who isn't root: root may read everything."""
    if os.geteuid():
        yield
        return
    above = [parent for parent in root.parents if not parent.stat().st_mode & 0o001]
    modes = [parent.stat().st_mode for parent in above]
    for parent in above:
        parent.chmod(0o755)
    os.seteuid(65534)
    yield
    os.seteuid(0)
    for parent, mode in zip(above, modes, strict=True):
        parent.chmod(mode)


def test_what_may_not_be_read(root: Path, request: pytest.FixtureRequest) -> None:
    write(root / "closed" / "a.txt")
    write(root / "searched" / "a.txt")
    write(root / "s.js")
    write(root / "s.js.gz").chmod(0)
    (root / "a.txt").chmod(0)
    (root / "closed").chmod(0)
    (root / "searched").chmod(0o711)
    request.getfixturevalue("nobody")
    with files_of(root) as server:
        for path in ("/a.txt", "/closed/a.txt", "/closed/", "/closed"):
            assert status(server, path) == 403, path
        # To go through a directory one needn't be allowed to list it.
        assert status(server, "/searched/a.txt") == 200
        assert "content-encoding" not in ask(server, "/s.js", "Accept-Encoding: gzip").header


# ---- directories ----------------------------------------------------------------------------------------------------


def test_directories(root: Path) -> None:
    write(root / "index.html", b"top\n")
    with files_of(root) as server:
        assert ask(server, "/").body == b"top\n"
        got = ask(server, "/dir/")
        assert (got.body, got.header["content-type"]) == (b"<p>index\n", "text/html; charset=utf-8")
        assert ask(server, "/dir/index.html").body == b"<p>index\n"
        assert status(server, "/empty/") == 404
        assert status(server, "/dir/index.html/") == 404
    with files_of(root, index="b.bin") as server:
        assert ask(server, "/dir/").body == bytes(range(100))
        assert status(server, "/") == 404
    with files_of(root, index="dir") as server:
        assert status(server, "/") == 404  # the index is a directory itself
    with files_of(root, index=None) as server:
        for path in ("/", "/dir/", "/dir", "/empty"):
            assert status(server, path) == 404
        assert status(server, "/dir/b.bin") == 200


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/dir", "/dir/"),
        ("/dir?", "/dir/"),
        ("/dir?a=1&b=/x", "/dir/?a=1&b=/x"),
        ("/dir??", "/dir/??"),
        ("/%64ir", "/%64ir/"),
        ("/empty", "/empty/"),
        ("http://elsewhere/dir?x", "/dir/?x"),
    ],
)
def test_redirects(root: Path, path: str, location: str) -> None:
    with files_of(root) as server:
        got = ask(server, path)
        assert (got.status, got.header["location"]) == (301, location)
        assert ask(server, path, method="HEAD").header["location"] == location


@pytest.mark.parametrize("path", ["//dir", "//evil.example", "//evil.example/dir", "/\\dir", "/\\evil.example", "///dir"])
def test_no_redirect_elsewhere(root: Path, path: str) -> None:
    """A Location that starts with "//" names a host; browsers take a backslash for a "/"."""
    (root / "evil.example").mkdir()
    for asked in (None, lambda stream: "/dir", lambda stream: "", lambda stream: stream.path[1:]):
        with files_of(root, asked) as server:
            got = ask(server, path)
            assert got.status in (400, 404)
            assert "location" not in got.header


def test_below_a_prefix(root: Path) -> None:
    write(root / "index.html", b"top\n")
    with files_of(root, lambda stream: stream.path.removeprefix("/static")) as server:
        assert ask(server, "/static/a.txt").body == TEXT
        assert ask(server, "/static/").body == b"top\n"
        assert ask(server, "/static?x").header["location"] == "/static/?x"
        assert ask(server, "/static/dir").header["location"] == "/static/dir/"
        assert status(server, "/statica.txt") == 404
        assert status(server, "/static-x/a.txt") == 404
        assert status(server, "/static/../secret.txt") == 400


def test_another_path_than_the_request_s(root: Path) -> None:
    """A redirect of what has its slash already would go round for ever."""
    with files_of(root, lambda stream: "/dir") as server:
        assert ask(server, "/help/").body == b"<p>index\n"
        assert ask(server, "/help").header["location"] == "/help/"
    with files_of(root / "dir", lambda stream: "") as server:
        assert ask(server, "/").body == b"<p>index\n"
    with files_of(root, lambda stream: "a.txt") as server:
        assert status(server, "/") == 404


# ---- conditions and ranges ------------------------------------------------------------------------------------------


def test_conditions(root: Path) -> None:
    with files_of(root, header={"cache-control": "max-age=60", "content-type": "text/x-own"}) as server:
        etag = ask(server, "/a.txt").header["etag"]
        for fields in ([f"If-None-Match: {etag}"], [f'If-None-Match: "x", W/{etag}'], [f"If-Modified-Since: {CHANGED}"]):
            got = ask(server, "/a.txt", *fields)
            assert (got.status, got.body) == (304, b"")
            assert got.header["etag"] == etag
            assert got.header["last-modified"] == CHANGED
            assert got.header["cache-control"] == "max-age=60"
            assert "content-type" not in got.header
            assert "accept-ranges" not in got.header
            assert ask(server, "/a.txt", *fields, method="HEAD").status == 304
        for field in ('If-None-Match: "x"', "If-Modified-Since: Sun, 09 Sep 2001 01:46:39 GMT", f"If-Match: {etag}"):
            assert status_of(server, field) == 200
        for field in ('If-Match: "x"', "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:39 GMT", f"If-Match: W/{etag}"):
            assert status_of(server, field) == 412
        assert ask(server, "/none", "If-None-Match: *").status == 404


def status_of(server: Any, field: str) -> int:
    return ask(server, "/a.txt", field).status


def test_the_entity_tag_changes_with_the_file(root: Path) -> None:
    with files_of(root) as server:
        seen = [ask(server, "/a.txt").header["etag"]]
        write(root / "a.txt", TEXT, PAST + 1)
        seen.append(ask(server, "/a.txt").header["etag"])
        write(root / "a.txt", TEXT + b"x", PAST + 1)
        seen.append(ask(server, "/a.txt").header["etag"])
        write(root / "new", TEXT + b"x", PAST + 1).replace(root / "a.txt")
        seen.append(ask(server, "/a.txt").header["etag"])
        assert len(set(seen)) == 4
        assert ask(server, "/a.txt").header["etag"] == seen[-1]
        assert all(tag.startswith('"') for tag in seen)


@pytest.mark.parametrize("at", [-(2**31), -1, 0, 4_000_000_000, 2**33])
def test_odd_times(root: Path, at: int) -> None:
    """A Last-Modified lies neither before the epoch nor after Date (RFC 9110, section 8.8.2.1)."""
    write(root / "a.txt", TEXT, at)
    with files_of(root) as server:
        header = ask(server, "/a.txt").header
        modified = parsedate_to_datetime(header["last-modified"])
        assert modified <= parsedate_to_datetime(header["date"])
        assert modified.timestamp() >= 0


@pytest.mark.parametrize(
    ("field", "code", "part"),
    [
        ("bytes=0-4", 206, (0, 5)),
        ("bytes=6-", 206, (6, 12)),
        ("bytes=-5", 206, (7, 12)),
        ("bytes=0-", 206, (0, 12)),
        ("bytes=11-100", 206, (11, 12)),
        ("bytes=-99999999999999999999999", 206, (0, 12)),
        ("bytes=12-", 416, None),
        ("bytes=99999999999999999999999-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=0-1,3-4", 200, None),
        ("bytes=0-0,-1", 200, None),
        ("bytes=" + ",".join(["0-"] * 1000), 200, None),
        ("bytes=5-1", 200, None),
        ("bytes=x-y", 200, None),
        ("lines=0-1", 200, None),
        ("bytes 0-1", 200, None),
    ],
)
def test_ranges(root: Path, field: str, code: int, part: tuple[int, int] | None) -> None:
    with files_of(root) as server:
        got = ask(server, "/a.txt", f"Range: {field}")
        assert got.status == code
        if code == 206:
            assert part is not None
            assert got.body == TEXT[part[0] : part[1]]
            assert got.header["content-range"] == f"bytes {part[0]}-{part[1] - 1}/12"
            assert got.header["etag"] == ask(server, "/a.txt").header["etag"]
        elif code == 416:
            assert got.header["content-range"] == "bytes */12"
        else:
            assert got.body == TEXT
            assert "content-range" not in got.header
        head = ask(server, "/a.txt", f"Range: {field}", method="HEAD")
        assert (head.status, head.header["content-length"]) == (200, "12")


def test_ranges_with_conditions(root: Path) -> None:
    with files_of(root) as server:
        etag = ask(server, "/a.txt").header["etag"]

        def outcome(*fields: str) -> int:
            return ask(server, "/a.txt", "Range: bytes=1-2", *fields).status

        assert outcome(f"If-Range: {etag}") == 206
        assert outcome(f"If-Range: {CHANGED}") == 206
        assert outcome('If-Range: "x"') == 200
        assert outcome(f"If-Range: W/{etag}") == 200
        assert outcome("If-Range: Sun, 09 Sep 2001 01:46:41 GMT") == 200
        assert outcome(f"If-None-Match: {etag}", f"If-Range: {etag}") == 304
        assert outcome('If-Match: "x"') == 412
        # A Range counts only where the answer would be 200 (section 13.2.2).
        assert ask(server, "/a.txt", "Range: bytes=99-", f"If-None-Match: {etag}").status == 304


def test_a_part_of_a_big_file(root: Path) -> None:
    data = os.urandom(3_000_000)
    write(root / "big", data)
    with files_of(root) as server:
        assert ask(server, "/big", "Range: bytes=1000000-2999998").body == data[1_000_000:-1]


# ---- prepared codings -----------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(root: Path) -> Path:
    """A script with both siblings, whose contents only say what they are."""
    write(root / "s.js", b"plain")
    write(root / "s.js.gz", b"gzipped")
    write(root / "s.js.br", b"brotli!!!", PAST + 1)
    return root


@pytest.mark.parametrize(
    ("accepted", "coding", "body"),
    [
        (None, None, b"plain"),
        ("", None, b"plain"),
        ("gzip", "gzip", b"gzipped"),
        ("gzip, deflate, br", "br", b"brotli!!!"),
        ("br;q=0.5, gzip;q=0.9", "gzip", b"gzipped"),
        ("br;q=0, gzip;q=0", None, b"plain"),
        ("*", "br", b"brotli!!!"),
        ("*, br;q=0", "gzip", b"gzipped"),
        ("identity", None, b"plain"),
        ("identity;q=0", None, b"plain"),
        ("identity;q=0, gzip", "gzip", b"gzipped"),
        ("deflate", None, b"plain"),
    ],
)
def test_prepared(prepared: Path, accepted: str | None, coding: str | None, body: bytes) -> None:
    with files_of(prepared) as server:
        fields = [] if accepted is None else [f"Accept-Encoding: {accepted}"]
        got = ask(server, "/s.js", *fields)
        assert (got.status, got.body, got.header.get("content-encoding")) == (200, body, coding)
        assert got.header["vary"] == "Accept-Encoding"
        assert got.header["content-type"] == "text/javascript; charset=utf-8"
        assert got.header["content-length"] == str(len(body))
        head = ask(server, "/s.js", *fields, method="HEAD")
        assert head.header["content-length"] == str(len(body))


def test_each_coding_has_its_own_tag(prepared: Path) -> None:
    with files_of(prepared) as server:
        tags = [ask(server, "/s.js", f"Accept-Encoding: {each}").header["etag"] for each in ("identity", "gzip", "br")]
        assert len(set(tags)) == 3
        for each, tag in zip(("identity", "gzip", "br"), tags, strict=True):
            got = ask(server, "/s.js", f"Accept-Encoding: {each}", f"If-None-Match: {tag}")
            assert (got.status, got.header["vary"]) == (304, "Accept-Encoding")
        # Another coding's tag is another representation's.
        assert ask(server, "/s.js", "Accept-Encoding: gzip", f"If-None-Match: {tags[0]}").status == 200
        assert ask(server, "/s.js", "Accept-Encoding: gzip", "Range: bytes=0-1", f"If-Range: {tags[0]}").body == b"gzipped"


def test_a_prepared_file_that_is_the_same_on_the_disk(root: Path) -> None:
    write(root / "s.js")
    os.link(root / "s.js", root / "s.js.gz")
    with files_of(root) as server:
        assert len({ask(server, "/s.js", f"Accept-Encoding: {each}").header["etag"] for each in ("identity", "gzip")}) == 2


def test_a_range_is_one_of_the_coded_bytes(prepared: Path) -> None:
    with files_of(prepared) as server:
        got = ask(server, "/s.js", "Accept-Encoding: gzip", "Range: bytes=4-5")
        assert (got.status, got.body, got.header["content-range"]) == (206, b"pe", "bytes 4-5/7")
        assert got.header["content-encoding"] == "gzip"
        got = ask(server, "/s.js", "Accept-Encoding: br", "Range: bytes=8-")
        assert got.body == b"!"


def test_prepared_files_that_do_not_count(prepared: Path) -> None:
    write(prepared / "s.js.gz", b"stale", PAST - 1)
    (prepared / "s.js.br").unlink()
    (prepared / "s.js.br").mkdir()
    with files_of(prepared) as server:
        got = ask(server, "/s.js", "Accept-Encoding: gzip, br")
        assert (got.body, got.header.get("vary")) == (b"plain", None)
        (prepared / "s.js").unlink()
        assert status(server, "/s.js") == 404  # alone they stand for nothing
        assert ask(server, "/s.js.gz").body == b"stale"


def test_prepared_index(root: Path) -> None:
    write(root / "dir" / "index.html.gz", b"gzipped")
    with files_of(root) as server:
        got = ask(server, "/dir/", "Accept-Encoding: gzip")
        assert (got.body, got.header["content-type"]) == (b"gzipped", "text/html; charset=utf-8")


# ---- the caller's fields --------------------------------------------------------------------------------------------


def test_more_fields(prepared: Path) -> None:
    more = [("Cache-Control", "no-cache"), ("set-cookie", ["a=1", "b=2"]), ("Content-Type", "text/x-own"), ("x-gone", None)]
    with files_of(prepared, header=more) as server:
        got = ask(server, "/a.txt")
        assert got.header["content-type"] == "text/x-own"
        assert got.header["cache-control"] == "no-cache"
        assert "set-cookie: a=1" in got.lines
        assert "set-cookie: b=2" in got.lines
        assert sum(line.startswith("content-type:") for line in got.lines) == 1
        assert "x-gone" not in got.header
        for path in ("/none", "/dir"):
            assert "cache-control" not in ask(server, path).header  # they are the file's
    with files_of(prepared, header={"x-content-type-options": ""}) as server:
        assert ask(server, "/a.txt").header["x-content-type-options"] == ""


@pytest.mark.parametrize(
    ("given_vary", "expected"),
    [
        ("Origin", "Origin, Accept-Encoding"),
        ("accept-encoding", "accept-encoding"),
        ("Origin, ACCEPT-ENCODING", "Origin, ACCEPT-ENCODING"),
        ("*", "*"),
        (["Origin", "Cookie"], "Origin, Cookie, Accept-Encoding"),
        ("", "Accept-Encoding"),
    ],
)
def test_vary_is_added_to(prepared: Path, given_vary: Any, expected: str) -> None:
    with files_of(prepared, header={"vary": given_vary}) as server:
        assert ask(server, "/s.js").header["vary"] == expected
        if isinstance(given_vary, str):
            assert ask(server, "/a.txt").header["vary"] == given_vary


class Answered:
    """Stands for a stream where arguments are looked at before it is."""

    method = "GET"
    path = "/a.txt"


@pytest.mark.parametrize(
    "name",
    ["Content-Length", "transfer-encoding", "Trailer", "content-range", "ETag", "Last-Modified"]
    + ["content-encoding", "accept-ranges"],
)
def test_fields_that_the_file_decides(root: Path, name: str) -> None:
    stream: Any = Answered()
    with pytest.raises(ValueError, match="is decided by the file"):
        sendfile(stream, "/a.txt", root, header={name: "5"})


def test_bad_arguments(root: Path) -> None:
    stream: Any = Answered()
    bad_path: Any
    for bad_path in (None, b"/a.txt", root):
        with pytest.raises(TypeError, match="needs a path"):
            sendfile(stream, bad_path, root)
    bad_root: Any
    for bad_root in (None, 3, b"/tmp"):
        with pytest.raises(TypeError):
            sendfile(stream, "/a.txt", bad_root)
    bad_index: Any
    for bad_index in (1, b"index.html", True):
        with pytest.raises(TypeError, match="index is the name"):
            sendfile(stream, "/a.txt", root, index=bad_index)
    for bad_index in ("", ".", "..", "a/b", "../x", "/", "a\0"):
        with pytest.raises(ValueError, match="index is the name"):
            sendfile(stream, "/a.txt", root, index=bad_index)
    for header in ({"x": "a\r\nb"}, {"x y": "a"}, {"x": "\u20ac"}):
        with pytest.raises(ValueError, match="bad"):
            sendfile(stream, "/a.txt", root, header=header)
    with pytest.raises(TypeError):
        sendfile(stream, "/a.txt", root, header={"x": 1.5})


# ---- what may happen meanwhile --------------------------------------------------------------------------------------


def test_results(root: Path) -> None:
    results = []

    def handler(stream: Any) -> None:
        results.append(sendfile(stream, stream.path, root))
        results.append(sendfile(stream, stream.path, root))

    with serving(handler) as server:
        for path in ("/a.txt", "/none", "/dir", "/../x", "/dir/"):
            ask(server, path)
    assert [bool(result) for result in results] == [True, False] * 5
    assert {result[1] for result in results[1::2]} == {"the request has been answered already"}


def test_a_file_that_becomes_shorter(root: Path) -> None:
    """The peer must see that the body isn't whole: the connection ends."""
    path = write(root / "big", bytes(20 * 1024 * 1024))
    results = []

    def handler(stream: Any) -> None:
        sending = Job(lambda: sendfile(stream, stream.path, root)).blocked()
        os.truncate(path, 10 * 1024 * 1024)
        results.append(sending)
        results.append(sending.result())

    with serving(handler) as server, Raw.connect(server) as client:
        client.request("/big")
        client.request("/big")
        head = client.read("\r\n\r\n")
        assert b"content-length: 20971520\r\n" in head
        assert len(client.rest()) == 10 * 1024 * 1024
    assert not results[1]
    assert "too early" in results[1][1]


def test_a_peer_that_goes_away(root: Path) -> None:
    write(root / "big", bytes(20 * 1024 * 1024))
    done = []
    with serving(lambda stream: done.append(sendfile(stream, stream.path, root))) as server:
        client = Raw.connect(server)
        client.request("/big")
        client.read(100_000)
        client.reset()
        until(lambda: done)
        assert not done[0]


def test_a_peer_that_takes_nothing(root: Path) -> None:
    write(root / "big", bytes(20 * 1024 * 1024))
    done = []

    def handler(stream: Any) -> None:
        done.append(sendfile(stream, stream.path, root))

    with serving(handler, limits={"write_timeout": 100}) as server, Raw.connect(server) as client:
        client.conn.limit(1)
        client.request("/big")
        until(lambda: done)
        assert not done[0]


def test_many_at_once(root: Path) -> None:
    """Slow readers of big files hold a descriptor each, and nobody else up."""
    data = os.urandom(4 * 1024 * 1024)
    write(root / "big", data)
    with files_of(root) as server:
        slow = [Raw.connect(server) for _ in range(20)]
        for client in slow:
            client.request("/big")
        turn(5)
        assert ask(server, "/a.txt").body == TEXT
        for client in slow[:10]:
            assert client.response().body == data
        for client in slow:
            client.close()


# ---- curl -----------------------------------------------------------------------------------------------------------

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


def curl(*arguments: str) -> bytes:
    """What curl prints; it runs in a thread, beside the loop."""
    found: list[subprocess.CompletedProcess[bytes]] = []
    command = ["curl", "--silent", "--show-error", "--max-time", "10", "--noproxy", "*", *arguments]
    thread = threading.Thread(target=lambda: found.append(subprocess.run(command, capture_output=True, check=False)))
    thread.start()
    until(lambda: not thread.is_alive(), 20_000)
    assert found[0].returncode == 0, found[0].stderr
    return found[0].stdout


@needs_curl
def test_curl(root: Path, tmp_path: Path) -> None:
    text = b"all work and no play\n" * 1000
    write(root / "t.txt", text)
    write(root / "t.txt.gz", gzip.compress(text))
    with files_of(root) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert curl(f"{url}/t.txt") == text
        assert curl("--compressed", f"{url}/t.txt") == text
        assert gzip.decompress(curl("-H", "Accept-Encoding: gzip", f"{url}/t.txt")) == text
        assert curl("-r", "5-9", f"{url}/t.txt") == text[5:10]
        assert curl("-r", "-9", f"{url}/t.txt") == text[-9:]
        assert curl("-L", f"{url}/dir") == b"<p>index\n"
        code = ("-o", "/dev/null", "-w", "%{http_code}")
        assert curl(*code, "-z", formatdate(PAST + 100, usegmt=True), f"{url}/t.txt") == b"304"
        assert curl(*code, "-z", formatdate(PAST - 100, usegmt=True), f"{url}/t.txt") == b"200"
        assert curl(*code, "--path-as-is", f"{url}/../secret.txt") == b"400"
        # Going on with a download, and not fetching again what is there.
        part = tmp_path / "part"
        part.write_bytes(text[:100])
        curl("-C", "-", "-o", str(part), f"{url}/t.txt")
        assert part.read_bytes() == text
        saved = tmp_path / "etag"
        assert curl(*code, "--etag-save", str(saved), f"{url}/t.txt") == b"200"
        assert curl(*code, "--etag-compare", str(saved), f"{url}/t.txt") == b"304"
