"""What tasks do while blows strike them (see ``blows``): each scenario checks that what they carry arrives whole, in order and
once, or that the connection has ended as it should. It runs in the main program, and leaves nothing behind.

The tasks go on after each blow. What takes something (``read``, ``pop``) is tried again; what gives something (``write``) is
done, as its page says: what a blocked write was given still goes out.
"""

from __future__ import annotations

import gzip
import os
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import silly
from silly import errno, task, time
from silly._core import scheduler
from silly.net import http, tcp, tls, websocket
from silly.sync import channel

from .blows import WITHIN, Blows, Job, again, done
from .helpers import Raw, chunks, turn
from .net import authorities
from .net.support import never_answers, until

Scenario = Callable[[Blows], None]
SCENARIOS: dict[str, Scenario] = {}

LIMITS = silly.Limits(unsent=32 * 1024, receive_mark=16 * 1024)
BUFFER = 32 * 1024


class Check(AssertionError):
    """Something was lost, doubled or mixed up."""


def check(holds: object, *what: object) -> None:
    """An assert that ``python -O`` keeps."""
    if not holds:
        raise Check(*what)


def scenario(func: Scenario) -> Scenario:
    SCENARIOS[func.__name__] = func
    return func


@contextmanager
def hurried() -> Iterator[None]:
    """Makes the library let others run much more often: what happens after 64 reads, or a megabyte, happens at once."""
    small: dict[str, float] = {
        "BURST": 2,
        "READS": 2,
        "LOOK": 0.001,
        "CHUNKS": 2,
        "FAIR_SHARE": 64 * 1024,
        "SHARE": 16 * 1024,
        "PIECE": 64 * 1024,
        "TOGETHER": 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("silly."):
                for constant, value in small.items():
                    if isinstance(getattr(module, constant, None), int | float):
                        patch.setattr(module, constant, value)
        yield


def narrow(conn: Any) -> None:
    """Gives the kernel little room for what ``conn`` sends."""
    sock = conn._stream.sock
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


def check_got(got: Any, sent: Any, whole: bool, *what: object) -> None:
    """``got`` must be what was ``sent``, or the beginning of it unless it must be ``whole``."""
    check(got == sent if whole else got == sent[: len(got)], *what, len(got), len(sent))


def must(result: Any) -> Any:
    """The value of a pair."""
    value, err = result
    check(value is not None, err)
    return value


# ---- streams -------------------------------------------------------------------------

LINES = [b"%d %b\n" % (number, b"x" * (number * 37 % 200)) for number in range(12)]
BLOB = bytes(range(256)) * 800
"""200 KB: more than the kernel and the limits take at once."""


def _echo(conn: Any) -> None:
    with conn:
        narrow(conn)
        while True:
            line, _ = again(conn.read, "\n")
            if line is None:
                return
            done(conn.write, line)
            if line == b"blob\n":
                data, err = again(conn.read, len(BLOB))
                check(data == BLOB, err)
                done(conn.write, data)


def _talk(connect: Callable[[], Any]) -> None:
    conn = must(again(connect))
    with conn:
        narrow(conn)
        for line in LINES:
            done(conn.write, line)
        got = [again(conn.read, "\n")[0] for _ in LINES]
        check(got == LINES, got)
        done(conn.write, b"blob\n")
        writer = Job(lambda: [done(conn.write, BLOB[at : at + 5000]) for at in range(0, len(BLOB), 5000)])
        check(again(conn.read, "\n")[0] == b"blob\n")
        check(again(conn.read, len(BLOB))[0] == BLOB)
        again(writer.result)


@scenario
def tcp_echo(blows: Blows) -> None:
    with must(tcp.listen("127.0.0.1:0", _echo, limits=LIMITS)) as listener:
        Job(lambda: _talk(lambda: tcp.connect(f"127.0.0.1:{listener.port}", limits=LIMITS))).result()


@scenario
def tls_echo(blows: Blows) -> None:
    entry, root = authorities.server().entry, authorities.root().pem
    ends: list[bool] = []

    def serve(conn: Any) -> None:
        _echo(conn)
        ends.append(True)

    def connect() -> Any:
        # A blow at the server's handshake ends the connection.
        while True:
            conn, err = tls.connect(f"localhost:{listener.port}", ca=root, limits=LIMITS)
            if conn is not None and conn.write(b"hello\n") and again(conn.read, "\n")[0] == b"hello\n":
                return conn, err
            if conn is not None:
                conn.close()
            check(blows.count, err)

    with must(tls.listen("127.0.0.1:0", [entry], serve, limits=LIMITS)) as listener:
        Job(lambda: _talk(connect)).result()


@scenario
def tls_upgrade(blows: Blows) -> None:
    """A blow at either end's handshake ends the connection, and so does one before it, where what was written is sent."""
    entry, root = authorities.server().entry, authorities.root().pem

    def serve(conn: Any) -> None:
        narrow(conn)
        if again(conn.read, "\n")[0] == b"STARTTLS\n":
            done(conn.write, BLOB)
            secure, err = tls.upgrade(conn, certs=[entry])
            check(conn.close() == (False, errno.CLOSED))
            check(secure is not None or blows.count, err)
            if secure is not None:
                _echo(secure)

    def connect() -> Any:
        while True:
            conn = must(again(tcp.connect, f"127.0.0.1:{listener.port}", limits=LIMITS))
            conn.write(b"STARTTLS\n")
            if again(conn.read, len(BLOB))[0] == BLOB:
                secure, err = again(tls.upgrade, conn, "localhost", ca=root)
                check(conn.close() == (False, errno.CLOSED))
                if secure is not None and secure.write(b"hello\n") and again(secure.read, "\n")[0] == b"hello\n":
                    return secure, err
                if secure is not None:
                    secure.close()
                check(blows.count, err)
            conn.close()

    with must(tcp.listen("127.0.0.1:0", serve, limits=LIMITS)) as listener:
        Job(lambda: _talk(connect)).result()


# ---- look-ups and connects -----------------------------------------------------------


@contextmanager
def _names(table: dict[str, list[Any]]) -> Iterator[None]:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in table:
            return real(host, port, *args, **kwargs)
        return [(family, socket.SOCK_STREAM, 6, "", sockaddr) for family, sockaddr in table[host]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@scenario
def connects(blows: Blows) -> None:
    """By a name with an address that never answers; and by one that only a look-up knows."""

    def work() -> None:
        with must(again(tcp.listen, "here.test:0", lambda conn: conn.write("hi\n"))) as listener:
            table["two.test"] = [(socket.AF_INET, dead), (socket.AF_INET, ("127.0.0.1", listener.port))]
            with must(again(tcp.connect, f"two.test:{listener.port}")) as conn:
                check(again(conn.read, "\n") == (b"hi\n", None))
        with tempfile.TemporaryDirectory() as folder:
            path = f"unix:{folder}/sock"
            owner = f"{os.getuid()}:{os.getgid()}"
            listen = lambda: tcp.listen(path, lambda conn: conn.write("hi\n"), owner=owner)  # noqa: E731
            with must(again(listen)), must(again(tcp.connect, path)) as conn:
                check(again(conn.read, "\n") == (b"hi\n", None))

    table: dict[str, list[Any]] = {"here.test": [(socket.AF_INET, ("127.0.0.1", 0))]}
    with never_answers() as dead, _names(table), pytest.MonkeyPatch.context() as patch:
        patch.setattr("silly.net._dial.STAGGER", 0.002)
        Job(work).result()


# ---- tasks and channels --------------------------------------------------------------


@scenario
def sleeping(blows: Blows) -> None:
    def work() -> None:
        again(time.sleep, 0)
        again(time.sleep, 0.0)
        again(time.sleep, 2)
        me = task.running()
        task.fork(lambda: _wake(me))
        check(again(task.wait) == "up")

    def _wake(me: Any) -> None:
        while task.status(me) is not None and not waits(me):
            again(time.sleep, 0)
        if task.status(me) is not None:
            task.wakeup(me, "up")

    def waits(me: Any) -> bool:
        return bool(me._what == "task.wait" and task.status(me) == "WAIT")

    Job(work).result()


@scenario
def channels(blows: Blows) -> None:
    def take() -> list[int]:
        got = []
        while (item := again(chan.pop)[0]) is not None:
            got.append(item)
        return got

    def give() -> None:
        for number in range(1, 20):
            chan.push(number)
            if number % 3:
                again(time.sleep, 0)
        chan.close()

    chan: Any = channel.new()
    taker = Job(take)
    Job(give).result()
    check(taker.result() == [*range(1, 20)])


@scenario
def joining(blows: Blows) -> None:
    def work() -> None:
        held = task.fork(lambda: again(chan.pop)[0])
        check(again(held.join, 1)[0] is None)
        others = [Job(lambda: again(held.join)) for _ in range(2)]
        again(time.sleep, 0)
        chan.push("done")
        check(again(held.join) == ("done", None))
        for other in others:
            check(again(other.result) == ("done", None))

    chan: Any = channel.new()
    Job(work).result()


# ---- WebSockets ----------------------------------------------------------------------

MESSAGES: list[str | bytes] = ["", "one", b"\x00" * 100, "w" * 5000, BLOB, b"three", BLOB[:70_000], "end"]


def _typ(message: str | bytes) -> Any:
    return "text" if isinstance(message, str) else "binary"


class _Chat:
    """A server of WebSockets, and a client; ``handler`` and ``talk`` are the tasks at the two ends."""

    def __init__(self, handler: Callable[[Any], None], talk: Callable[[Any], None], tls: bool, compression: bool) -> None:
        self._handler = handler
        self._talk = talk
        self._tls = tls
        self._compression = compression

    def run(self, blows: Blows) -> None:
        certs = [authorities.server().entry] if self._tls else None
        with must(http.listen("127.0.0.1:0", self._serve, certs=certs, limits=LIMITS)) as server:
            url = f"{'wss' if self._tls else 'ws'}://localhost:{server.port}/"
            Job(lambda: self._client(blows, url)).result()

    def _serve(self, stream: Any) -> None:
        sock, err = websocket.upgrade(stream, compression=self._compression)
        check(sock is not None, err)
        narrow(sock.conn)
        self._handler(sock)
        done(sock.close)

    def _client(self, blows: Blows, url: str) -> None:
        def connect() -> Any:
            return websocket.connect(url, compression=self._compression, ca=authorities.root().pem, limits=LIMITS)

        while (sock := again(connect)[0]) is None:
            check(blows.count)  # at the server's handshake
        narrow(sock.conn)
        self._talk(sock)
        done(sock.close)
        done(sock.close)


def _echo_messages(sock: Any) -> None:
    while True:
        data, typ = again(sock.read)
        if data is None or typ == "close":
            return
        if typ in ("text", "binary"):
            done(sock.write, data, typ)


def _some_of(got: list[Any], sent: list[Any], missing: int) -> None:
    """``got`` must be ``sent`` in its order, and at most ``missing`` of them may not be there."""
    left = iter(sent)
    check(all(any(each == other for other in left) for each in got), "not in order, or not whole")
    check(len(got) >= len(sent) - missing, len(got), len(sent), missing)


def _talk_messages(sock: Any) -> None:
    def write() -> None:
        for message in MESSAGES:
            done(sock.write, message, _typ(message))

    writer = Job(write)
    got = [again(sock.read)[0] for _ in MESSAGES]
    check(got == MESSAGES, [each if each is None else len(each) for each in got])
    again(writer.result)


def _chat(name: str, handler: Any, talk: Any, tls: bool = False, compression: bool = False) -> None:
    SCENARIOS[name] = lambda blows: _Chat(handler, talk, tls, compression).run(blows)


_chat("ws_echo", _echo_messages, _talk_messages)
_chat("wss_echo", _echo_messages, _talk_messages, tls=True)


def _count_messages(sock: Any) -> None:
    """Tells what has come: of each of two writers."""
    got: dict[str, list[str]] = {"a": [], "b": []}
    while (message := again(sock.read)[0]) not in (None, "end"):
        check(message[1:] == message[1] * (len(message) - 1), "two messages are mixed up")
        got[message[0]].append(message)
    text = " ".join(f"{name}:{','.join(str(len(each)) for each in each_of)}" for name, each_of in got.items())
    done(sock.write, text, "text")
    again(sock.read)


SIZES = [10, 140_000, 20, 70_000, 30, 66_000]


def _two_writers(sock: Any) -> None:
    lost = dict.fromkeys("ab", 0)

    def write(name: str) -> None:
        for size in SIZES:
            if not done(sock.write, name + name.upper() * (size - 1), "text"):
                lost[name] += 1

    writers = [Job(lambda name=name: write(name)) for name in "ab"]
    for writer in writers:
        again(writer.result)
    while not done(sock.write, "end", "text"):
        pass
    told = again(sock.read)[0]
    check(told is not None)
    for part in told.split(" "):
        name, _, sizes = part.partition(":")
        _some_of([int(size) for size in sizes.split(",") if size], SIZES, lost[name])


_chat("ws_turns", _count_messages, _two_writers)
_chat("ws_turns_compressed", _count_messages, _two_writers, compression=True)


def _echo_pieces(sock: Any) -> None:
    while True:
        pieces = sock.pieces()
        got: list[Any] = []
        while (piece := again(next, pieces, None)) is not None:
            got.append(piece)
        if pieces.err is not None or pieces.typ == "close":
            return
        _write_pieces(sock, got, pieces.typ)


def _write_pieces(sock: Any, pieces: list[Any], typ: Any) -> None:
    def enter() -> Any:
        return message.__enter__()

    message = sock.message(typ)
    again(enter)
    for piece in pieces:
        done(message.write, piece)
        done(message.flush)
    done(message.__exit__, None, None, None)


def _talk_pieces(sock: Any) -> None:
    pieces = [os.urandom(20_000) + bytes(10_000) for _ in range(6)]
    for typ, parts in (("text", ["ab\u20ac", "c" * 50_000, "", "d"]), ("binary", pieces)):
        writer = Job(lambda parts=parts, typ=typ: _write_pieces(sock, parts, typ))
        got, kind = again(sock.read)
        check(kind == typ, got if kind is None else kind)
        check(got == type(parts[0])().join(parts), len(got))
        again(writer.result)


_chat("ws_pieces", _echo_pieces, _talk_pieces)
_chat("ws_pieces_compressed", _echo_pieces, _talk_pieces, compression=True)


@scenario
def ws_compressed(blows: Blows) -> None:
    """A blow in the compressor drops the message: it goes out whole or not at all."""
    messages = [b"a" * 40_000, "b" * 100_000, b"c" * 300, bytes(90_000), b"d"]
    lost: list[Any] = []

    def write(sock: Any, message: str | bytes) -> None:
        if message == "end":
            while not done(sock.write, message, "text"):
                pass
        elif not done(sock.write, message, _typ(message)):
            lost.append(message)

    def echo(sock: Any) -> None:
        while (got := again(sock.read))[1] in ("text", "binary"):
            write(sock, got[0])

    def talk(sock: Any) -> None:
        writer = Job(lambda: [write(sock, message) for message in (*messages, "end")])
        got = []
        while (item := again(sock.read)[0]) not in (None, "end"):
            got.append(item)
        again(writer.result)
        check(item == "end")
        _some_of(got, messages, len(lost))

    _Chat(echo, talk, False, True).run(blows)


def _closing(sock: Any) -> None:
    """Closes while the peer still sends, with a second task that closes too."""
    second = Job(lambda: done(sock.close))
    done(sock.close)
    again(second.result)
    check(sock.conn._stream.closed)
    check(again(sock.read)[0] is None)


def _floods(sock: Any) -> None:
    for _ in range(30):
        done(sock.write, "x" * 1000, "text")
    while again(sock.read)[0] is not None:
        pass


_chat("ws_closing", _floods, _closing)
_chat("wss_closing", _floods, _closing, tls=True)


def _reads_late(sock: Any) -> None:
    """Reads when all was taken while nobody read."""
    while len(sock._session.taken) < 2 * len(LINES) and sock.conn.isalive():
        again(time.sleep, 1)
    _echo_messages(sock)


def _writes_much(sock: Any) -> None:
    messages = [b"%b %d" % (line, number) for line in LINES for number in range(3)]
    for message in messages:
        done(sock.write, message)
    got = [again(sock.read)[0] for _ in messages]
    check(got == messages, got)


_chat("ws_unread", _reads_late, _writes_much)


@scenario
def ws_refused(blows: Blows) -> None:
    """A client whose upgrade is refused, with a body."""

    def refuse(stream: Any) -> None:
        stream.respond(403)
        done(stream.write, "not ")
        again(time.sleep, 1)
        done(stream.closewrite, "here")

    def work(port: int) -> None:
        sock, err = again(websocket.connect, f"ws://127.0.0.1:{port}/")
        check(sock is None)
        if not blows.count:
            check(err.status == 403 and err.body == b"not here", err)

    with must(http.listen("127.0.0.1:0", refuse)) as server:
        Job(lambda: work(server.port)).result()


# ---- the HTTP server -----------------------------------------------------------------


def _bodies(stream: Any) -> None:
    """Answers each kind of request; goes on after each blow."""
    conn = stream.conn
    narrow(conn)
    match stream.path:
        case "/read":
            body = again(stream.readall)[0]
            stream.respond(200)
            done(stream.closewrite, b"%d" % zlib.crc32(body) if body is not None else b"?")
        case "/parts":
            crc = 0
            while (piece := again(stream.read, 1)[0]) is not None:
                crc = zlib.crc32(piece, crc)
            stream.respond(200)
            done(stream.closewrite, b"%d" % crc)
        case "/pieces":
            crc = 0
            pieces = stream.pieces()
            while (piece := again(next, pieces, None)) is not None:
                crc = zlib.crc32(piece, crc)
            stream.respond(200)
            done(stream.closewrite, b"%d" % crc)
        case "/chunked":
            stream.respond(200)
            for at in range(0, len(BLOB), 9000):
                done(stream.write, BLOB[at : at + 9000])
                done(stream.flush)
            done(stream.closewrite)
        case "/whole":
            stream.respond(200, {"content-length": len(BLOB)})
            done(stream.closewrite, BLOB)
        case "/file":
            with tempfile.TemporaryFile() as file:
                file.write(BLOB)
                file.flush()
                stream.respond(200, {"content-length": len(BLOB)})
                done(stream.sendfile, file.fileno(), 0, len(BLOB))
        case "/bad":
            again(stream.readall)
        case _:
            done(stream.answer, 200, "ok")


def _request(path: str, body: bytes = b"", *fields: str, method: str = "POST") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "host: test", *fields]
    if body and not any("transfer-encoding" in field for field in fields):
        head.append(f"content-length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


CRC = b"%d" % zlib.crc32(BLOB)
REQUESTS: list[tuple[bytes, bytes]] = [
    (_request("/read", BLOB), CRC),
    (_request("/", b"skipped" * 1000), b"ok\n"),
    (_request("/parts", BLOB[:10]), b"%d" % zlib.crc32(BLOB[:10])),
    (_request("/pieces", chunks(BLOB[:5000], 200), "transfer-encoding: chunked"), b"%d" % zlib.crc32(BLOB[:5000])),
    (_request("/read", BLOB[:100], "expect: 100-continue"), b"%d" % zlib.crc32(BLOB[:100])),
    *[(_request("/", method="GET"), b"ok\n")] * 4,
    (_request("/chunked", method="GET"), BLOB),
    (_request("/whole", method="GET"), BLOB),
    (_request("/file", method="GET"), BLOB),
]


def _serve_requests(blows: Blows, requests: list[tuple[bytes, bytes]], handler: Any = _bodies) -> None:
    """Sends the requests on one connection, from a thread of its own pace: the main program. What comes must be the right
    answers, in order. A blow between two requests ends the connection; then the rest comes on another one."""
    with must(http.listen("127.0.0.1:0", handler, limits=LIMITS)) as server:
        left = requests
        while left:
            left = left[_ask(blows, server, left) :]


def _ask(blows: Blows, server: Any, requests: list[tuple[bytes, bytes]]) -> int:
    """Sends ``requests`` on one connection; returns how many were answered before it ended, at least one."""
    client = Raw.connect(server)
    narrow(client.conn)
    with client:
        sender = task.fork(_send_all, client, requests)
        blows.spared.add(sender)
        for number, (_, answer) in enumerate(requests):
            got = _answer(client)
            if got is None:
                check(blows.count, "the connection ended")
                return max(number, 1)
            check(got == (200, answer) or (blows.count and got[0] == 503), number, got[0], len(got[1]))
        return len(requests)


def _send_all(client: Raw, requests: list[tuple[bytes, bytes]]) -> None:
    for request, _ in requests:
        if not client.conn.write(request):
            return
        client.conn._stream.flush()


def _answer(client: Raw) -> tuple[int, bytes] | None:
    """The next answer: its status and body; None if the connection ends before its head is whole."""
    conn = client.conn
    status = 100
    while status == 100:
        head, err = conn.read("\r\n\r\n", WITHIN)
        if head is None:
            check(err != errno.TIMEDOUT, err)
            return None
        lines = head.decode().lower().split("\r\n")
        status = int(lines[0].split(" ")[1])
    fields = dict(line.split(": ", 1) for line in lines[1:] if line)
    if fields.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            size, err = conn.read("\r\n", WITHIN)
            if size is None:
                return None
            piece, err = conn.read(int(size, 16) + 2, WITHIN)
            if piece is None:
                return None
            body += piece[:-2]
            if len(piece) == 2:
                return status, body
    got, err = conn.read(int(fields["content-length"]), WITHIN)
    return None if got is None else (status, got)


@scenario
def http_bodies(blows: Blows) -> None:
    _serve_requests(blows, REQUESTS)


@scenario
def http_slow_heads(blows: Blows) -> None:
    """Heads in pieces, a bad request, and a peer that ends in the middle."""

    def work(server: Any) -> None:
        for text in ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/9\r\n\r\n", "GET / HT"):
            with Raw.connect(server) as client:
                for at in range(0, len(text), 9):
                    client.conn.write(text[at : at + 9])
                    client.conn._stream.flush()
                    turn(2)
                if client.conn.isalive():
                    client.half_close()
                got = _answer(client)
                check(got in (None, (200, b"ok\n")) or (got is not None and got[0] in (400, 503)), got)

    with must(http.listen("127.0.0.1:0", _bodies, limits=LIMITS)) as server:
        work(server)


def _uncaught(stream: Any) -> None:
    narrow(stream.conn)
    if stream.path == "/read":
        body, _ = stream.readall()
        if body is not None:
            stream.respond(200)
            stream.closewrite(b"%d" % zlib.crc32(body))
    elif stream.path == "/file":
        with tempfile.TemporaryFile() as file:
            file.write(BLOB)
            file.flush()
            stream.respond(200, {"content-length": len(BLOB)})
            stream.sendfile(file.fileno(), 0, len(BLOB))
    else:
        stream.respond(200)
        for at in range(0, len(BLOB), 20_000):
            stream.write(BLOB[at : at + 20_000])
            time.sleep(0)
        stream.closewrite()


@scenario
def http_uncaught(blows: Blows) -> None:
    """Handlers that a blow ends: the answer is 503, or whole, or cut where the peer sees it."""
    requests = [
        (_request("/read", BLOB), CRC),
        (_request("/file", method="GET"), BLOB),
        (_request("/write", method="GET"), BLOB),
    ]
    _serve_requests(blows, requests, _uncaught)


@scenario
def http_drain(blows: Blows) -> None:
    hold: Any = channel.new()
    begun: Any = channel.new()

    def handler(stream: Any) -> None:
        begun.push(True)
        again(hold.pop)
        stream.answer(200, "ok")

    def drain() -> None:
        again(server.drain, WITHIN, notice=1)
        check(not server._connections)

    server = must(http.listen("127.0.0.1:0", handler))
    with Raw.connect(server) as client:
        client.request()
        until(lambda: len(begun) or not client.conn.isalive())
        job = Job(drain)
        turn(3)
        until(lambda: server._closing)
        hold.close()
        check(_answer(client) == (200, b"ok\n") or blows.count)
        job.result()


@scenario
def http_drain_of_the_queue(blows: Blows) -> None:
    """A connection that was not accepted when the drain began."""
    server = must(http.listen("127.0.0.1:0", lambda stream: stream.answer(200, "ok")))
    sock = socket.create_connection(("127.0.0.1", server.port))
    with Raw(must(tcp.adopt(sock))) as client:
        client.request()
        Job(lambda: again(server.drain, WITHIN)).result()
        check(_answer(client) == (200, b"ok\n") or blows.count)


# ---- the HTTP client -----------------------------------------------------------------


PACKED = gzip.compress(BLOB)


def _echo_requests(stream: Any) -> None:
    if stream.path == "/moved":
        stream.respond(302, {"location": "/zipped"})
        done(stream.closewrite)
    elif stream.path == "/zipped":
        stream.respond(200, {"content-encoding": "gzip"})
        done(stream.closewrite, PACKED)
    elif (body := again(stream.readall)[0]) is not None:
        stream.respond(200)
        for at in range(0, len(body), 70_000):
            done(stream.write, body[at : at + 70_000])
        done(stream.closewrite)


@contextmanager
def _asking() -> Iterator[tuple[Any, str]]:
    """A client with a server of its own, to which it keeps one connection."""
    server = must(http.listen("127.0.0.1:0", _echo_requests, limits=LIMITS))
    with server, http.newclient(max_per_host=1, limits=LIMITS) as client:
        yield client, f"http://127.0.0.1:{server.port}"
        check(all(not origin.using for origin in client._pool._origins.values()), "a place is lost")


@scenario
def http_gets(blows: Blows) -> None:
    """Two tasks share one connection; redirects. A blow at the server's end may break the connection."""

    def gets() -> None:
        for _ in range(3):
            response, err = again(client.get, f"{url}/moved", redirects=2)
            check(response.body == BLOB if response is not None and response.status == 200 else blows.count, err)

    with _asking() as (client, url):
        for job in [Job(gets) for _ in range(2)]:
            job.result()


def _uploads(header: dict[str, Any], whole: bool) -> Scenario:
    """Requests with bodies, in pieces or as a ``whole``: the server gets all of it, or the client an error."""

    def upload(blows: Blows, client: Any, url: str) -> None:
        for _ in range(2):  # the second one on the same connection
            stream, err = again(client.request, "PUT", f"{url}/echo", header)
            if stream is None:
                check(blows.count, err)
                continue
            with stream:
                size = BIG if whole else 60_000
                for at in range(0, BIG, size):
                    done(stream.closewrite if whole else stream.write, UPLOAD[at : at + size])
                if not whole:
                    done(stream.closewrite)
                again(stream.waitresponse)
                body = b""
                pieces = stream.pieces()
                while (piece := again(next, pieces, None)) is not None:
                    body += piece
                check(body == UPLOAD if pieces.err is None and stream.status == 200 else blows.count, pieces.err, len(body))

    def run(blows: Blows) -> None:
        with _asking() as (client, url):
            Job(lambda: upload(blows, client, url)).result()

    return run


UPLOAD = BLOB
BIG = len(UPLOAD)
SCENARIOS["http_upload_chunked"] = _uploads({}, False)
SCENARIOS["http_upload_length"] = _uploads({"content-length": BIG}, False)
SCENARIOS["http_upload_expect"] = _uploads({"expect": "100-continue"}, False)
SCENARIOS["http_upload_whole"] = _uploads({}, True)
SCENARIOS["http_upload_whole_expect"] = _uploads({"expect": "100-continue"}, True)


# ---- near the end of the process -----------------------------------------------------


@scenario
def leaving(blows: Blows) -> None:
    """Where nothing blocks any more, what would wait lets others run once."""
    limits = silly.Limits(unsent=1024)
    got: list[Any] = []

    def work() -> None:
        conn = must(again(tcp.connect, f"127.0.0.1:{listener.port}", limits=limits))
        again(time.sleep, 1)
        with conn, pytest.MonkeyPatch.context() as patch:
            patch.setattr(scheduler, "exiting", True)
            got.append(again(conn.read, 1))
            again(time.sleep, 5)
            got.append(again(channel.new().pop))
        again(time.sleep, 0)

    with must(tcp.listen("127.0.0.1:0", lambda conn: again(conn.read, 1))) as listener:
        Job(work).result()
    check(got == [(None, errno.CLOSED)] * 2, got)


def run(name: str, blows: Blows) -> None:
    """Runs a scenario, struck by ``blows``."""
    with ExitStack() as stack:
        stack.enter_context(hurried())
        stack.enter_context(blows.armed())
        SCENARIOS[name](blows)
        blows.ended = True
