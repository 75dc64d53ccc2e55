"""``bridge.socket`` under the standard library's clients, as docs/bridges.md shows: 50 tasks at once."""

from __future__ import annotations

import ftplib
import http.server
import imaplib
import smtplib
import socket as std
import ssl
import threading
import time as std_time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from silly import task, time

from ..net import authorities
from ..test_docs_bridges import section
from .support import WITHIN, loop, outcome, threaded

COUNT = 50


@pytest.fixture
def recipes() -> dict[str, Any]:
    """The names that the page defines."""
    names = section("Sockets")
    names["context"].load_verify_locations(cadata=authorities.root().pem)
    return names


@pytest.fixture
def server_side(tmp_path: Path) -> ssl.SSLContext:
    """The standard library's own context, for servers."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name, text in authorities.server().entry.items():
        (tmp_path / name).write_text(text)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    return context


class Together:
    """Lets the servers of all clients, which run in threads, wait for each other. If one client held up the others they would
    wait for ever. The loop must turn meanwhile."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(COUNT, self._look)

    def _look(self) -> None:
        turns = loop.turns
        end = std_time.monotonic() + WITHIN / 1000
        while loop.turns < turns + 3:
            assert std_time.monotonic() < end, "the loop stands still"
            std_time.sleep(0.001)

    def wait(self) -> None:
        self._barrier.wait(WITHIN / 1000)


@contextmanager
def ticking() -> Iterator[None]:
    """The loop turns every millisecond, if nobody holds it."""

    def tick() -> None:
        while True:
            time.sleep(1)

    ticker = task.fork(tick)
    yield
    ticker.cancel()
    ticker.join()


def all_at_once(func: Any) -> list[Any]:
    """The results of ``func(number)``, each called in a task."""
    with ticking():
        tasks = [task.fork(func, number) for number in range(COUNT)]
        return [outcome(t) for t in tasks]


@pytest.mark.parametrize("secure", [False, True])
def test_http(recipes: dict[str, Any], server_side: ssl.SSLContext, secure: bool) -> None:
    together = Together()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            together.wait()
            self.send_response(200)
            self.send_header("content-length", str(len(body) * 1000))
            self.end_headers()
            self.wfile.write(body * 1000)

        def log_message(self, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128

        def finish_request(self, request: Any, client_address: Any) -> None:
            if secure:
                request = server_side.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
            request.close()

    def ask(number: int) -> bytes:
        kind = recipes["HTTPSConnection" if secure else "HTTPConnection"]
        conn = kind("localhost" if secure else "127.0.0.1", server.server_port, timeout=10)
        got = b""
        for _ in range(2):  # the second on the same connection
            conn.request("POST", "/", b"%d" % number)
            got += conn.getresponse().read()
        conn.close()
        return got

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            assert all_at_once(ask) == [b"%d" % number * 2000 for number in range(COUNT)]
        finally:
            server.shutdown()
            thread.join()


class Mails:
    """A mail server that does what these tests need."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.got: list[str] = []
        self._context = context
        self._together = Together()

    def serve(self, sock: std.socket) -> None:
        lines = sock.makefile("rw", newline="")

        def say(text: str) -> None:
            lines.write(f"{text}\r\n")
            lines.flush()

        say("220 hello")
        while True:
            word = lines.readline().split()[0].upper()
            if word == "EHLO":
                say("250-test" if self._context is not None and not isinstance(sock, ssl.SSLSocket) else "250 test")
                if self._context is not None and not isinstance(sock, ssl.SSLSocket):
                    say("250 STARTTLS")
            elif word == "STARTTLS" and self._context is not None:
                say("220 go ahead")
                lines.close()
                sock = self._context.wrap_socket(sock, server_side=True)
                lines = sock.makefile("rw", newline="")
            elif word == "DATA":
                say("354 go ahead")
                text = ""
                while not text.endswith("\r\n.\r\n"):
                    text += lines.readline()
                self._together.wait()
                self.got.append(text)
                say("250 taken")
            else:
                say("221 bye" if word == "QUIT" else "250 fine")
            if word == "QUIT":
                lines.close()
                sock.close()
                return


@pytest.mark.parametrize("secure", [False, True])
def test_smtp(recipes: dict[str, Any], server_side: ssl.SSLContext, secure: bool) -> None:
    mails = Mails(server_side if secure else None)

    def send(number: int) -> None:
        text = f"{number}\r\n" + "a line\r\n" * 1000
        if secure:
            recipes["send"](("localhost", address[1]), "me@example.org", ["you@example.org"], text)
        else:
            with recipes["SMTP"](*address, timeout=10) as server:
                server.sendmail("me@example.org", ["you@example.org"], text)

    with threaded(mails.serve, COUNT) as address:
        all_at_once(send)
    assert sorted(int(text.split()[0]) for text in mails.got) == list(range(COUNT))
    assert {text.count("a line") for text in mails.got} == {1000}


def test_smtp_and_a_server_that_says_nothing(recipes: dict[str, Any]) -> None:
    """The library closes the socket, and tells why."""
    for ms, timeout, words in ((20, 10, "the deadline of 20 ms ran out"), (WITHIN, 0.02, "timed out")):
        closed = pytest.raises(smtplib.SMTPServerDisconnected, match=f"Connection unexpectedly closed: .*{words}")
        with threaded(lambda sock: sock.recv(1)) as address, time.deadline(ms), closed:
            recipes["SMTP"](*address, timeout=timeout)


def test_imap(recipes: dict[str, Any]) -> None:
    together = Together()

    def serve(sock: std.socket) -> None:
        with sock.makefile("rw", newline="") as lines:
            lines.write("* OK hello\r\n")
            lines.flush()
            for line in lines:
                tag, word, *_ = line.split()
                if word == "CAPABILITY":
                    lines.write("* CAPABILITY IMAP4rev1\r\n")
                elif word == "SELECT":
                    together.wait()
                    lines.write("* 3 EXISTS\r\n")
                elif word == "FETCH":
                    lines.write("* 1 FETCH (BODY[] {5}\r\nhello)\r\n")
                lines.write(f"{tag} OK done\r\n")
                lines.flush()
                if word == "LOGOUT":
                    return

    def read(number: int) -> Any:
        server: imaplib.IMAP4 = recipes["IMAP4"](*address, timeout=10)
        server.login("me", "secret")
        found = server.select()
        mail = server.fetch("1", "(BODY[])")
        server.logout()
        return found, mail

    with threaded(serve, COUNT) as address:
        results = all_at_once(read)
    assert results == [(("OK", [b"3"]), ("OK", [(b"1 (BODY[] {5}", b"hello"), b")"]))] * COUNT


def test_ftp(recipes: dict[str, Any]) -> None:
    together = Together()
    files: dict[str, bytes] = {}

    def serve(sock: std.socket) -> None:
        with sock.makefile("rw", newline="") as lines, std.create_server(("127.0.0.1", 0)) as data:

            def say(text: str) -> None:
                lines.write(f"{text}\r\n")
                lines.flush()

            say("220 hello")
            for line in lines:
                word, _, rest = line.strip().partition(" ")
                if word in ("RETR", "STOR"):
                    say("150 go ahead")
                    with data.accept()[0] as conn, conn.makefile("rwb") as file:
                        if word == "STOR":
                            files[rest] = file.read()
                        else:
                            together.wait()
                            file.write(files[rest])
                answers = {"USER": "331 who", "PASS": "230 in", "EPSV": f"229 at (|||{data.getsockname()[1]}|)"}
                answers["PASV"] = "227 (127,0,0,1,{},{})".format(*divmod(data.getsockname()[1], 256))
                say(answers.get(word, "226 done" if word in ("RETR", "STOR") else "200 fine"))

    def copy(number: int) -> bytes:
        got: list[bytes] = []
        ftp: ftplib.FTP = recipes["FTP"]()
        ftp.connect(*address, timeout=10)
        ftp.login()
        with open(__file__, "rb") as file:
            ftp.storbinary(f"STOR {number}", file)
        ftp.retrbinary(f"RETR {number}", got.append)
        ftp.quit()
        return b"".join(got)

    with threaded(serve, COUNT) as address:
        results = all_at_once(copy)
    assert set(results) == {Path(__file__).read_bytes()}
