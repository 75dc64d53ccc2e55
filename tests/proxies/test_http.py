"""HTTP through nginx and HAProxy, with our server as their upstream."""

from __future__ import annotations

import hashlib
import select
import time as blocking_time

from silly import Limits, time
from silly.net.http import ServerStream
from silly.sync import channel
from tests.conftest import Logs
from tests.helpers import chunks
from tests.net.support import Job, turns

from .support import Client, Front, behind

MIB = 2**20
BIG = bytes(range(256)) * (4 * MIB // 256)
IDENTITY = hashlib.sha1(BIG).hexdigest()


def echo(stream: ServerStream) -> None:
    """Answers with what was asked."""
    body, _ = stream.readall()
    if body is None:
        return
    fields = {"x-method": stream.method, "x-path": stream.path, "x-from": stream.header["x-forwarded-for"]}
    stream.respond(200, fields)
    stream.closewrite(body)


def test_methods_and_bodies(front: Front) -> None:
    with behind(front, echo), Client.connect(front) as client:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
            reply = client.ask(f"/{method}?a=b", method)
            assert (reply.status, reply.header["x-method"], reply.header["x-path"]) == (200, method, f"/{method}")
            # A field like any other: whom to believe is the application's to know.
            assert reply.header["x-from"] == "192.0.2.1"
        for size in (0, 1, 1000, 65536, 300_000):
            body = BIG[:size]
            assert client.ask("/", "POST", f"Content-Length: {size}", body=body).body == body
            reply = client.ask("/", "POST", "Transfer-Encoding: chunked", body=chunks(body, 999))
            assert (reply.status, reply.body) == (200, body)


def test_responses_without_a_body(front: Front) -> None:
    def handler(stream: ServerStream) -> None:
        status = int(stream.path[1:])
        stream.respond(status, {"etag": '"1"', "x-method": stream.method})
        stream.closewrite("" if status == 304 else "hello")

    with behind(front, handler), Client.connect(front) as client:
        for _ in range(2):
            assert client.ask("/200", "HEAD").header["content-length"] == "5"
            assert client.ask("/204").status == 204
            assert client.ask("/304").header["etag"] == '"1"'
            assert client.ask("/304", "HEAD").status == 304
            assert client.ask("/200").body == b"hello"


def test_errors_pass(front: Front, logs: Logs) -> None:
    logs.expect(r"^ERROR exception in the handler of GET /raise")
    logs.expect(r"^INFO http: .* the handler did not respond")

    def handler(stream: ServerStream) -> None:
        if stream.path == "/raise":
            raise KeyError("lost")
        if stream.path != "/silent":
            stream.respond(int(stream.path[1:]), {"retry-after": 3})
            stream.closewrite(f"because {stream.path}")

    with behind(front, handler), Client.connect(front) as client:
        for status in (400, 401, 404, 409, 418, 429, 500, 502, 503, 504, 511):
            reply = client.ask(f"/{status}")
            assert (reply.status, reply.header["retry-after"], reply.body) == (status, "3", f"because /{status}".encode())
        assert client.ask("/raise").status == 500
        assert client.ask("/silent").status == 500
        assert client.ask("/404").status == 404


def test_big_bodies(front: Front) -> None:
    def handler(stream: ServerStream) -> None:
        if stream.method == "GET":
            stream.respond(200, {"content-length": len(BIG)} if stream.path == "/length" else {})
            for at in range(0, len(BIG), 65536):
                if not stream.write(BIG[at : at + 65536]):
                    return
        else:
            body, _ = stream.readall()
            stream.respond(200)
            stream.closewrite(hashlib.sha1(body or b"").hexdigest())

    with behind(front, handler), Client.connect(front) as client:
        for path in ("/length", "/chunked"):
            assert hashlib.sha1(client.ask(path).body).hexdigest() == IDENTITY
        assert client.ask("/", "POST", f"Content-Length: {len(BIG)}", body=BIG).body.decode() == IDENTITY
        assert client.ask("/", "POST", "Transfer-Encoding: chunked", body=chunks(BIG, 50_000)).body.decode() == IDENTITY


def test_continue(front: Front) -> None:
    with behind(front, echo), Client.connect(front) as client:
        for _ in range(2):
            client.request("/", "POST", "Content-Length: 5", "Expect: 100-continue")
            assert client.reply().status == 100
            client.send("hello")
            assert client.reply().body == b"hello"


def test_early_answer(front: Front) -> None:
    """An upload that nobody reads is answered at once, and the answer arrives."""

    def handler(stream: ServerStream) -> None:
        if stream.method == "POST":
            stream.respond(413)
            stream.closewrite("too much")
        else:
            stream.respond(200)

    with behind(front, handler):
        for fields, body in (("Content-Length: 4194304", BIG), ("Transfer-Encoding: chunked", chunks(BIG, 50_000))):
            with Client.connect(front) as client:
                sending = Job(lambda body=body, fields=fields, client=client: client.conn.write(_post(fields) + body))
                reply = client.reply()
                assert (reply.status, reply.body) == (413, b"too much")
                client.close()
                sending.result()
        with Client.connect(front) as client:
            assert client.ask().status == 200


def _post(fields: str) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n".encode()


def test_pipelining(front: Front) -> None:
    """In order, bodies among them."""
    with behind(front, echo), Client.connect(front) as client:
        requests = []
        for number in range(30):
            body = f"body {number}" * number
            if number % 3 == 0:
                requests.append(f"GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n")
            elif number % 3 == 1:
                requests.append(f"POST /{number} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n{body}")
            else:
                coded = chunks(body.encode(), 7).decode()
                requests.append(f"POST /{number} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{coded}")
        client.send("".join(requests))
        for number in range(30):
            reply = client.reply()
            assert reply.header["x-path"] == f"/{number}"
            assert reply.body.decode() == (f"body {number}" * number if number % 3 else "")


def test_streaming(front: Front) -> None:
    """A piece that was flushed arrives before the next is written, where the answer asks nginx for that."""
    go_on = channel.new()

    def handler(stream: ServerStream) -> None:
        stream.respond(200, {"x-accel-buffering": "no", "content-type": "text/event-stream"})
        for number in range(3):
            stream.write(f"data: {number}\n\n")
            stream.flush()
            go_on.pop()

    with behind(front, handler), Client.connect(front) as client:
        client.request()
        for number in range(3):
            assert client.read(f"data: {number}\n\n")
            go_on.push(True)


def test_connections_are_reused(keeping_front: Front) -> None:
    """Hundreds of requests of many clients come over as few connections as there are clients at a time."""
    connections = set()

    def handler(stream: ServerStream) -> None:
        connections.add(stream.conn)
        echo(stream)

    def ask() -> None:
        for number in range(10):
            with Client.connect(keeping_front) as client:
                for _ in range(5):
                    body = f"{client} {number}"
                    assert client.ask("/", "POST", f"Content-Length: {len(body)}", body=body).body.decode() == body

    with behind(keeping_front, handler):
        for job in [Job(ask) for _ in range(4)]:
            job.result()
    assert len(connections) <= 4


def test_client_leaves_an_upload(front: Front, logs: Logs) -> None:
    logs.allow(r"^INFO http: .* the request's body is incomplete")
    ends = channel.new()

    def handler(stream: ServerStream) -> None:
        if stream.method == "GET":
            stream.respond(200)
        else:
            ends.push(stream.read(1000))  # this much arrives
            ends.push(stream.readall())

    with behind(front, handler):
        for fields in ("Content-Length: 100000", "Transfer-Encoding: chunked"):
            for leave in (Client.reset, Client.close):
                client = Client.connect(front)
                client.send(_post(fields) + b"3e8\r\n" + b"x" * 1000)
                if front.name in ("nginx-streaming", "haproxy"):
                    (data, _), _ = ends.pop()
                    assert data is not None
                leave(client)
                if front.name in ("nginx-streaming", "haproxy"):
                    (data, _), _ = ends.pop()
                    assert data is None
        with Client.connect(front) as client:
            assert client.ask().status == 200


def test_client_leaves_a_download(front: Front) -> None:
    errors = channel.new()

    def handler(stream: ServerStream) -> None:
        if stream.path == "/":
            stream.respond(200)
            return
        stream.respond(200, {"x-accel-buffering": "no"})
        while True:
            ok, err = stream.write(BIG[:65536])
            if not ok:
                break
        errors.push(err)

    with behind(front, handler):
        for leave in (Client.reset, Client.close):
            client = Client.connect(front)
            client.request("/endless")
            client.read(100_000)
            leave(client)
            assert errors.pop()[0]
        with Client.connect(front) as client:
            assert client.ask().status == 200


def test_idle_connections_end(keeping_front: Front) -> None:
    """Who comes after we closed an idle connection, or while we do, gets an answer all the same."""
    connections = set()

    def handler(stream: ServerStream) -> None:
        connections.add(stream.conn)
        stream.respond(200)

    with behind(keeping_front, handler, limits=Limits(idle_timeout=1)), Client.connect(keeping_front) as client:
        for number in range(90):
            assert client.ask().status == 200
            turns(number % 30)
            if number % 3 == 0:
                time.sleep(1)
    assert len(connections) > 1


def test_request_that_came_in_time_is_served(keeping_front: Front) -> None:
    """The time of an idle connection may be over when we get to look at it: a request that has come by then is served. (The
    proxy must not ask a POST again, so that its client would get a 502.)"""
    connections = []

    def handler(stream: ServerStream) -> None:
        connections.append(stream.conn)
        echo(stream)

    with behind(keeping_front, handler, limits=Limits(idle_timeout=150)), Client.connect(keeping_front) as client:
        for number in range(3):
            client.request(f"/{number}", "POST", "Content-Length: 5", body="hello")
            if number:
                # These hold our loop, so that it finds both: the request, and that the time is over.
                select.select([connections[0]._stream.sock], [], [], 10)
                blocking_time.sleep(0.2)
            assert client.reply().header["x-path"] == f"/{number}"
    assert connections == connections[:1] * 3


def test_idle_connections_outlive_those_of_nginx() -> None:
    """nginx keeps an idle connection for 60 s (``keepalive_timeout`` of an upstream), so that it is nginx who ends it: a POST
    that comes just then is not asked again."""
    assert Limits().idle_timeout > 60_000


def test_drain(keeping_front: Front) -> None:
    """What runs is answered, and the next server gets what comes later, over new connections."""
    started, finish = channel.new(), channel.new()

    def slow(stream: ServerStream) -> None:
        if stream.path == "/slow":
            started.push(True)
            finish.pop()
        stream.respond(200)
        stream.closewrite("first")

    def second(stream: ServerStream) -> None:
        stream.respond(200)
        stream.closewrite("second")

    with Client.connect(keeping_front) as client, Client.connect(keeping_front) as other:
        with behind(keeping_front, slow) as server:
            assert other.ask().body == b"first"  # its upstream connection is idle after that
            client.request("/slow")
            started.pop()
            drained = Job(lambda server=server: server.drain(10_000))
            drained.blocked()
            with behind(keeping_front, second):
                assert other.ask().body == b"second"
                finish.push(True)
                assert client.reply().body == b"first"
                assert drained.result() == (True, None)
                for _ in range(5):
                    assert client.ask().body == b"second"
                    assert other.ask().body == b"second"
        with Client.connect(keeping_front) as third:
            assert third.ask().status in (502, 503)
