"""Where requests begin and end on a connection, as our server, nginx, h11 and httptools see it.

Each observer takes the bytes of a connection and gives the requests that it took, bodies included, in order. It stops where
the observed one does: at what is refused, or where the connection is to end.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import h11
import httptools

from silly import Limits, check, errno
from silly._wire.lines import take
from silly.net import http, tcp
from tests.helpers import WITHIN, turn
from tests.net.support import Job

from .corpus import CASES


def sentinel(number: int) -> bytes:
    """The request that follows a case, with a path of its own."""
    return f"GET /sentinel-{number} HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n".encode()


class Seen(NamedTuple):
    """A request as somebody took it."""

    method: str
    path: str
    """A long one, as a long body, by its length and hash."""
    query: tuple[tuple[str, str], ...]
    host: str
    """In lower case, without the port and a final dot; "" without a host."""
    body: str
    """Latin-1."""

    def as_field(self) -> str:
        """As the value of a header field."""
        return base64.b64encode(json.dumps(self).encode()).decode()

    @classmethod
    def from_field(cls, value: bytes) -> Seen:
        method, path, query, host, body = json.loads(base64.b64decode(value))
        return cls(method, path, tuple((name, item) for name, item in query), host, body)


def seen(method: str, target: str, host: str, body: bytes) -> Seen:
    """``target`` as it stands in the request line; of one in absolute form the authority is the host (RFC 9112, 3.2.2)."""
    absolute = re.fullmatch(r"(?i)https?://([^/?]*)(.*)", target)
    if absolute is not None:
        host, target = absolute[1], absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    path, _, query = target.partition("?")
    pairs = tuple(sorted(dict(parse_qsl(query, keep_blank_values=True)).items()))
    host = re.sub(r":[0-9]*$", "", host.lower()).removesuffix(".")
    return Seen(method, _short(path), pairs, host, _short(body.decode("latin-1")))


def _short(text: str) -> str:
    return text if len(text) < 300 else f"{len(text)} characters {hashlib.sha1(text.encode()).hexdigest()}"


_SEEN = re.compile(rb"\r\n[Xx]-[Ss]een: ([A-Za-z0-9+/=]+)\r\n")
_STATUS = re.compile(rb"(?:^|\n|\})HTTP/1\.[01] ([2-5][0-9]{2})")


class Observed(NamedTuple):
    requests: list[Seen]
    status: int
    """Of the last response; 0 without one."""


def observed(answers: bytes) -> Observed:
    """What the responses tell of a connection: a recorder says in each which request it is for."""
    requests = [Seen.from_field(value) for value in _SEEN.findall(answers)]
    return Observed(requests, int((_STATUS.findall(answers) or [b"0"])[-1]))


def converse(addr: str, data: bytes, dribbled: int = 0, patience: int = 0) -> bytes:
    """Sends ``data``, its first ``dribbled`` bytes one by one, and gives all that comes back up to the other side's end.

    When nothing has come for ``patience`` ms it ends its own direction, so that a reader of an incomplete body learns
    that the rest won't come.
    """
    # With this limit a write returns when the kernel has taken all of it.
    conn = check(tcp.connect(addr, limits=Limits(unsent=1)))
    stream = conn._stream
    try:
        for at in range(dribbled):
            conn.write(data[at : at + 1])
            stream.flush()
            turn()
        conn.write(data[dribbled:])
        stream.flush()
        got = b""
        ended = False
        while True:
            first, err = conn.read(1, WITHIN if ended else patience)
            if first is not None:
                got += first + take(stream.buf, len(stream.buf))
            elif err != errno.TIMEDOUT:
                return got
            elif ended:
                raise AssertionError(f"no end within {WITHIN} ms after {data[:500]!r}; before that came {got[-500:]!r}")
            else:
                ended = True
                try:
                    stream.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # the other side has reset it
    finally:
        stream.abort()


HAPROXY_PATIENCE = 500
"""Milliseconds. HAProxy may drop what it has not read yet when the client ends its direction."""
AT_ONCE = 128
"""Connections at a time."""
DATA = [case.data + sentinel(number) for number, case in enumerate(CASES)]


def observe(
    addr: str, numbers: Iterable[int] = range(len(CASES)), *, dribbled: bool = False, patience: int = 0
) -> dict[int, Observed]:
    """What the server on ``addr`` makes of the cases with these numbers, their bytes sent whole or one by one."""
    got: dict[int, Observed] = {}
    rest = iter(numbers)

    def work() -> None:
        for number in rest:
            got[number] = observed(converse(addr, DATA[number], len(CASES[number].data) if dribbled else 0, patience))

    for job in [Job(work) for _ in range(AT_ONCE)]:
        job.result()
    return got


TAKES, REFUSES, OTHERWISE = "takes more", "takes less", "frames it otherwise"
"""What the other does, beside the one: takes requests that the one refuses, or refuses some that it takes, or sees other
requests or bodies than it does."""


def compare(one: list[Seen], other: list[Seen]) -> str:
    """The kind of the difference, or ""."""
    if one == other:
        return ""
    if other[: len(one)] == one:
        return TAKES
    if one[: len(other)] == other:
        return REFUSES
    return OTHERWISE


def within(served: list[Seen], taken: list[Seen]) -> bool:
    """Whether ``served`` is ``taken``, with some left out."""
    rest = iter(taken)
    return all(request in rest for request in served)


def recording(stream: http.ServerStream) -> None:
    """A handler of ours that reads the body, and tells what it got in its response."""
    body, _ = stream.readall()
    if body is not None:
        target = stream.path + "?" + urlencode(stream.query)
        request = seen(stream.method, target, stream.header["host"] or "", body)
        stream.respond(200, {"x-seen": request.as_field()})


@contextmanager
def recorder(addr: str) -> Iterator[None]:
    """An upstream on ``addr``: what reaches it has been framed anew by a proxy, in a plain form that a few lines read. It
    tells what it got in its response, and ends the connection. The host that the proxy sees is in X-Host."""

    def accepted(conn: tcp.Conn) -> None:
        with conn:
            head, _ = conn.read("\r\n\r\n", WITHIN)
            if head is None:
                return  # the proxy gave up
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            method, target, _ = first.split(" ")
            if method == "CONNECT":
                conn.write("HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = fields.get("content-length", "0").lstrip("0") or "0"
            if len(length) > 9:
                return  # HAProxy passes on lengths past 2^64, and reads less
            body = _chunks(conn) if "transfer-encoding" in fields else conn.read(int(length), WITHIN)[0]
            if body is None:
                return
            request = seen(method, target, fields.get("x-host", ""), body)
            answer = f"X-Seen: {request.as_field()}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            conn.write(f"HTTP/1.1 200 OK\r\n{answer}")

    listener = check(tcp.listen(addr, accepted))
    try:
        yield
    finally:
        listener.close()
        turn(3)


def _chunks(conn: tcp.Conn) -> bytes | None:
    """A chunked body with its trailers; None when the proxy gave up."""
    body = b""
    while True:
        line, _ = conn.read("\r\n", WITHIN)
        if line is None:
            return None
        if int(line, 16) == 0:
            break
        piece, _ = conn.read(int(line, 16), WITHIN)
        end, _ = conn.read(2, WITHIN)
        if piece is None or end != b"\r\n":
            return None
        body += piece
    while line != b"\r\n":
        line, _ = conn.read("\r\n", WITHIN)
        if line is None:
            return None
    return body


class H11:
    """A server with h11 that answers each request when it has the whole of it."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**17)

    def run(self, data: bytes) -> list[Seen]:
        connection = self._connection
        connection.receive_data(data)
        connection.receive_data(b"")
        try:
            while self._one():
                connection.start_next_cycle()
        except h11.RemoteProtocolError:
            pass
        return self.requests

    def _one(self) -> bool:
        """Whether another request may follow."""
        connection = self._connection
        head: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        if head is None:
            raise AssertionError("h11 tells the end of a request that has not begun")
        host = next((value.decode("latin-1") for name, value in head.headers if name == b"host"), "")
        self.requests.append(seen(head.method.decode(), head.target.decode("latin-1"), host, body))
        status = 501 if head.method == b"CONNECT" else 200
        connection.send(h11.Response(status_code=status, headers=[("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


class Llhttp:
    """A server with httptools, whose parser is llhttp, that takes no upgrade."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self._parser = httptools.HttpRequestParser(self)
        self._ended = False

    def run(self, data: bytes) -> list[Seen]:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                data = data[exc.args[0] :]
                if data and not self._ended:
                    continue
            except httptools.HttpParserError:
                pass
            return self.requests

    def on_message_begin(self) -> None:
        self._target = b""
        self._host = ""
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self._host = value.decode("latin-1").strip(" \t")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._ended:
            return
        method = self._parser.get_method().decode()
        self.requests.append(seen(method, self._target.decode("latin-1"), self._host, self._body))
        self._ended = not self._parser.should_keep_alive()
