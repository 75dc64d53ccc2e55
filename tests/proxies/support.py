"""nginx and HAProxy as child processes, and what talks to them.

A proxy runs in the foreground with a folder of its own for its configuration, its sockets and what else it writes; nothing
of the system's configuration is read. It listens on Unix domain sockets, so no two runs get in each other's way. Its
upstream, a server of the test, does too: it may come and go while the proxy stays.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from silly import check
from silly.net import http, tcp
from tests.helpers import Raw, turn
from tests.net.support import until

START_WITHIN = 10_000
"""Milliseconds; only a test that fails waits so long."""
END_WITHIN = 10
"""Seconds."""

PACKAGES = {"nginx": "nginx", "haproxy": "haproxy"}
"""Programs, and the Debian packages that have them."""


def program(name: str) -> str | None:
    """Where the program ``name`` is; Debian has servers in sbin, which users don't have in their path."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]))


def missing(name: str) -> str:
    """Why the tests with the program ``name`` are skipped, or ""."""
    if program(name) is not None:
        return ""
    return f"NO PROXY: {name} is not installed (Debian: apt install --no-install-recommends {PACKAGES[name]})"


class ProxyFailed(AssertionError):
    """A proxy refused its configuration, did not listen, or ended early."""


class Proxy:
    """A running proxy. ``folder`` is where its sockets are: ``at(name)`` is the path of one."""

    def __init__(self, folder: Path, argv: Sequence[str], sockets: Sequence[str]) -> None:
        self.folder = folder
        self._argv = argv
        self._output = (folder / "output").open("w+b")
        # A session of its own: its workers end with it, and a signal to the tests' group is not for it.
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
        )
        try:
            for name in sockets:
                until(lambda name=name: self._listens(self.at(name)), START_WITHIN)
        except BaseException:
            self.close()
            raise

    def at(self, name: str) -> str:
        """The path of its socket ``name``, or of the one on which it expects its upstream."""
        return str(self.folder / name)

    def check(self) -> None:
        """Raises ProxyFailed if it has ended."""
        if self._process.poll() is not None:
            raise ProxyFailed(f"{self._argv} exited {self._process.returncode}:\n{self.output()}")

    def _listens(self, path: str) -> bool:
        self.check()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(path) == 0

    def output(self) -> str:
        """What it logged."""
        self._output.flush()
        return (self.folder / "output").read_text("utf-8", "backslashreplace")[-10_000:]

    def close(self) -> None:
        """Ends it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(END_WITHIN)
            raise ProxyFailed(f"{self._argv} did not end:\n{self.output()}") from None
        finally:
            self._output.close()


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder whose name is short: the path of a socket has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="silly-") as name:
        yield Path(name)


NGINX = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr notice;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    lingering_close always;
{http}
}}
"""


@contextmanager
def nginx(http: str, sockets: Sequence[str]) -> Iterator[Proxy]:
    """Runs nginx. ``http``: the inside of its http block, where ``FOLDER`` stands for its folder; ``sockets``: those it
    opens."""
    with _private_folder() as folder:
        user = "user root;" if os.geteuid() == 0 else ""
        text = NGINX.format(user=user, http=http.replace("FOLDER", str(folder)))
        (folder / "nginx.conf").write_text(text)
        argv = [program("nginx") or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        yield from _running(folder, argv, sockets)


# With its usual buffer of 16 KiB, HAProxy 2.6.12 sometimes stops for good within a chunk of 64 KiB, in 2 of 1,400 chunked
# responses of 4 MiB on a busy machine: its buffer is full, the kernel's too, and it waits for nothing. With a buffer that is
# larger than the chunks 12,700 passed.
HAPROXY = """
global
    maxconn 1000
    nbthread 1
    tune.bufsize 131072
    log stderr format raw local0 notice
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    timeout tunnel 20s
    timeout http-keep-alive 20s
    option dontlognull
{rest}
"""


@contextmanager
def haproxy(rest: str, sockets: Sequence[str]) -> Iterator[Proxy]:
    """Runs HAProxy. ``rest``: its proxies, where ``FOLDER`` stands for its folder; ``sockets``: those it opens."""
    with haproxy_with(HAPROXY.format(rest=rest), sockets) as proxy:
        yield proxy


@contextmanager
def haproxy_with(text: str, sockets: Sequence[str]) -> Iterator[Proxy]:
    """Runs HAProxy with a whole configuration."""
    with _private_folder() as folder:
        (folder / "haproxy.cfg").write_text(text.replace("FOLDER", str(folder)))
        yield from _running(folder, [program("haproxy") or "haproxy", "-db", "-f", str(folder / "haproxy.cfg")], sockets)


def _running(folder: Path, argv: Sequence[str], sockets: Sequence[str]) -> Iterator[Proxy]:
    proxy = Proxy(folder, argv, sockets)
    try:
        yield proxy
    finally:
        proxy.close()


# ---- our server behind one --------------------------------------------------------------------------------------------


class Front(NamedTuple):
    """A proxy before our server."""

    name: str
    addr: str
    """Where clients connect."""
    back: str
    """Where our server is to listen."""
    proxy: Proxy


NGINX_SOCKETS = ("nginx", "nginx-streaming", "nginx-1.0")
EVERY = (*NGINX_SOCKETS, "haproxy")
KEEPING = ("nginx", "nginx-streaming", "haproxy")
"""Those that keep connections to the upstream, and pass upgrades."""


def front_at(proxy: Proxy, name: str) -> Front:
    """The front on the proxy's socket ``name``."""
    return Front(name, f"unix:{proxy.at(name)}", f"unix:{proxy.at('back')}", proxy)


@contextmanager
def behind(front: Front, handler: Callable[[Any], object], **options: Any) -> Iterator[http.Server]:
    """Our server, where the proxy expects its upstream."""
    server = check(http.listen(front.back, handler, **options))
    try:
        yield server
    finally:
        server.close()
        turn(3)


class Reply(NamedTuple):
    status: int
    header: dict[str, str]
    """Lower-case names."""
    body: bytes


class Client(Raw):
    """A client of a proxy, which speaks bytes."""

    @classmethod
    def connect(cls, front: Front) -> Client:
        return cls(check(tcp.connect(front.addr)))

    def reply(self, method: str = "GET") -> Reply:
        """Reads one response, with its body as its framing says."""
        first, *lines = self.read("\r\n\r\n").decode("latin-1")[:-4].split("\r\n")
        header = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status = int(first.split(" ")[1])
        return Reply(status, header, self.body(status, header, method))

    def ask(self, path: str = "/", method: str = "GET", *fields: str, body: str | bytes = b"") -> Reply:
        """A request and its response."""
        self.request(path, method, *fields, body=body)
        return self.reply(method)
