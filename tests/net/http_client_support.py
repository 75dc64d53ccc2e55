"""What the tests of the HTTP client share: a server that speaks bytes, and counts what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from silly._core import scheduler
from silly.net import http

from ..helpers import WITHIN, Raw, raw_server
from .support import until


class Asked(NamedTuple):
    """A request as it came. ``connection``: the number of its connection, from 0."""

    method: str
    target: str
    lines: list[str]
    body: bytes
    trailer: bytes
    connection: int

    def all(self, name: str) -> list[str]:
        """The values of a field."""
        return [line.partition(": ")[2] for line in self.lines if line.startswith(f"{name}: ")]

    def one(self, name: str) -> str | None:
        """The value of a field that came once, or not at all."""
        values = self.all(name)
        if len(values) > 1:
            raise AssertionError(f"{name} came {len(values)} times")
        return values[0] if values else None


Answer = bytes | str | None
"""What a script gives: bytes to send, and then the next request; None to close."""


class Origin:
    """A server whose ``answer(asked)`` says what goes on the wire; an answer that is a callable gets the ``Raw``."""

    def __init__(self, answer: Callable[[Asked], Any]) -> None:
        self._answer = answer
        self.asked: list[Asked] = []
        self.connections = 0
        self.open: list[Raw] = []
        self.url = ""
        self.port = 0

    def script(self, conn: Any) -> None:
        number = self.connections
        self.connections += 1
        peer = Raw(conn)
        self.open.append(peer)
        try:
            while True:
                asked = read_request(conn, number)
                if asked is None:
                    return
                self.asked.append(asked)
                answer = self._answer(asked)
                if answer is None:
                    return
                if callable(answer):
                    if answer(peer) is not True:
                        return
                else:
                    conn.write(answer)
                    conn._stream.flush()
        finally:
            self.open.remove(peer)
            conn.close()


def read_request(conn: Any, number: int = 0) -> Asked | None:
    """The next request of a connection; None at its end, or the client's."""
    head, _ = conn.read("\r\n\r\n", WITHIN)
    if head is None:
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    if version != "HTTP/1.1":
        raise AssertionError(first)
    asked = Asked(method, target, lines, b"", b"", number)
    length, coding = asked.one("content-length"), asked.one("transfer-encoding")
    if length is not None and coding is not None:
        raise AssertionError(lines)
    if coding is not None:
        body = b""
        while True:
            line, err = conn.read("\r\n", WITHIN)
            if err is not None:
                return None
            size = int(line, 16)
            if not size:
                break
            piece, err = conn.read(size + 2, WITHIN)
            if err is not None:
                return None
            body += piece[:-2]
        trailer = b""
        while not trailer.endswith(b"\r\n\r\n") and trailer != b"\r\n":
            line, err = conn.read("\r\n", WITHIN)
            if err is not None:
                return None
            trailer += line
        return asked._replace(body=body, trailer=trailer)
    body, err = conn.read(int(length or 0), WITHIN)
    return None if err is not None else asked._replace(body=body)


@contextmanager
def origin(answer: Any) -> Iterator[Origin]:
    """A server on the loopback. ``answer``: bytes for every request, a list of answers in turn, or a function."""
    if isinstance(answer, (bytes, str)):
        fixed = answer
        server = Origin(lambda asked: fixed)
    elif isinstance(answer, list):
        rest = list(answer)
        server = Origin(lambda asked: rest.pop(0))
    else:
        server = Origin(answer)
    with raw_server(server.script) as listener:
        server.port = listener.port
        server.url = f"http://127.0.0.1:{listener.port}"
        yield server


def ok(body: bytes | str = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    """A response with a length."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + data


@contextmanager
def using(**options: Any) -> Iterator[Any]:
    """A client of its own."""
    client = http.newclient(**options)
    try:
        yield client
    finally:
        client.close()


def taken(pair: Any) -> Any:
    """The value of a pair that has no error."""
    value, err = pair
    if err is not None:
        raise AssertionError(err)
    return value


def error(pair: Any) -> Any:
    """The error of a pair that has one, a ``RequestError``."""
    value, err = pair
    if err is None or value:
        raise AssertionError(f"no error, but {value!r} {getattr(value, 'body', b'')!r}")
    if not isinstance(err, http.RequestError):
        raise AssertionError(f"a {type(err).__name__}: {err}")
    return err


def drained() -> None:
    """Waits for closed connections that linger: a server's may have megabytes to drop of an upload that it refused."""
    until(lambda: not scheduler.loop.work, within=30_000)
