"""Our HTTP client against third parties' servers: Python's ``http.server``, aiohttp, nginx, and answers that h11 makes."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import h11
import pytest

from silly import check, task
from silly._wire.lines import take
from silly.net import http, tcp
from silly.net.http import _clientstream

from ..helpers import turn
from ..net.support import Job
from ..proxies.support import missing, nginx, program

BIG = bytes(range(256)) * 12_000


def get(client: http.Client, url: str, **options: Any) -> http.Response:
    return check(client.get(url, **options))


def exercised(client: http.Client, url: str) -> None:
    """What every server here answers alike: ``/echo`` with the body, ``/moved`` with a redirect to ``/hello``, ``/gzip`` with
    compressed data, ``/big`` with much."""
    hello = get(client, f"{url}/hello")
    assert (hello.status, hello.text) == (200, "hello")
    moved = get(client, f"{url}/moved")
    assert (moved.url, moved.text) == (f"{url}/hello", "hello")
    assert get(client, f"{url}/big").body == BIG
    zipped = get(client, f"{url}/gzip")
    assert (zipped.body, zipped.header["content-encoding"]) == (BIG, "gzip")
    head = check(client.fetch("HEAD", f"{url}/big"))
    assert (head.status, head.body) == (200, b"")
    assert get(client, f"{url}/nothing-here").status == 404
    for size in (0, 1, 70_000, len(BIG)):
        assert check(client.post(f"{url}/echo", {"content-type": "x/y"}, BIG[:size])).body == BIG[:size]
        assert check(client.fetch("PUT", f"{url}/echo", {"Expect": "100-continue"}, BIG[:size])).body == BIG[:size]
    with check(client.request("GET", f"{url}/big")) as stream:
        stream.closewrite()
        assert b"".join(stream.pieces()) == BIG


def chunked_upload(client: http.Client, url: str) -> None:
    with check(client.request("POST", f"{url}/echo")) as stream:
        for at in range(0, len(BIG), 100_000):
            assert stream.write(BIG[at : at + 100_000])
        assert stream.closewrite()
        assert check(stream.readall()) == BIG


def many(client: http.Client, url: str) -> None:
    jobs = [Job(lambda: get(client, f"{url}/hello")) for _ in range(50)]
    assert all(job.result().text == "hello" for job in jobs)


# ---- Python's own ---------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, format: str, *args: Any) -> None:
        """Not on standard error."""

    def answer(self, status: int, body: bytes, **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.answer(302, b"gone", Location="/hello")
        elif self.path == "/gzip":
            self.answer(200, gzip.compress(BIG), Content_Encoding="gzip")
        elif self.path in ("/hello", "/big"):
            self.answer(200, b"hello" if self.path == "/hello" else BIG)
        else:
            self.answer(404, b"nothing")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.answer(200, self.rfile.read(int(self.headers["Content-Length"])))

    do_PUT = do_POST


class OldHandler(Handler):
    protocol_version = "HTTP/1.0"


class Server(ThreadingHTTPServer):
    daemon_threads = False  # the end of the test waits for them
    request_queue_size = 128


@contextmanager
def python_server(handler: type[Handler]) -> Iterator[str]:
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("handler", [Handler, OldHandler])
def test_http_server(handler: type[Handler], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clientstream, "EXPECT", 0.05)  # in HTTP/1.0 it says nothing
    with python_server(handler) as url, http.newclient(redirects=3) as client:
        exercised(client, url)
        many(client, url)


# ---- aiohttp --------------------------------------------------------------------------------------------------------


@contextmanager
def aiohttp_server() -> Iterator[str]:
    web = pytest.importorskip("aiohttp.web")

    async def app_handler(request: Any) -> Any:
        if request.path == "/moved":
            raise web.HTTPFound("/hello")
        if request.path == "/gzip":
            response = web.Response(body=BIG)
            response.enable_compression(web.ContentCoding.gzip)
            return response
        if request.path == "/echo":
            return web.Response(body=await request.read())
        if request.path == "/big":
            stream = web.StreamResponse()
            stream.enable_chunked_encoding()
            await stream.prepare(request)
            if request.method == "HEAD":
                return stream  # aiohttp sends what one writes even here, and it would be the start of the next answer
            for at in range(0, len(BIG), 50_000):
                await stream.write(BIG[at : at + 50_000])
            await stream.write_eof()
            return stream
        if request.path == "/hello":
            return web.Response(text="hello")
        raise web.HTTPNotFound

    async def serve() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{rest:.*}", app_handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(runner.addresses[0][1])
        up.set()
        await stopped.wait()
        await runner.cleanup()

    def run() -> None:
        loop = asyncio.new_event_loop()
        loops.append(loop)
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()

    port: list[int] = []
    loops: list[asyncio.AbstractEventLoop] = []
    up = threading.Event()
    stopped = asyncio.Event()
    thread = threading.Thread(target=run)
    thread.start()
    assert up.wait(10)
    try:
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        loops[0].call_soon_threadsafe(stopped.set)
        thread.join()


def test_aiohttp() -> None:
    with aiohttp_server() as url, http.newclient(redirects=3) as client:
        exercised(client, url)
        chunked_upload(client, url)
        many(client, url)


# ---- nginx ----------------------------------------------------------------------------------------------------------

CONFIGURATION = """
    server {
        listen unix:FOLDER/nginx;
        client_max_body_size 100k;
        root FOLDER;
        absolute_redirect off;
        gzip on; gzip_types *; gzip_min_length 1;
        keepalive_requests 5;
        location = /hello { return 200 hello; }
        location = /moved { return 301 /hello; }
        location = /limited { client_max_body_size 100k; proxy_pass http://unix:FOLDER/none; }
        location = /close { keepalive_timeout 0; return 200 closed; }
    }
"""


@contextmanager
def relayed(address: str) -> Iterator[tuple[str, list[int]]]:
    """A port of ours before a Unix domain socket, and the number of its connections."""
    count = [0]

    def pump(source: Any, target: Any) -> None:
        while True:
            data, _ = source.read(1)
            if data is None:
                target.close()
                return
            target.write(data + take(source._stream.buf, len(source._stream.buf)))

    def accept(conn: Any) -> None:
        count[0] += 1
        inner = check(tcp.connect(address))
        task.fork(lambda: pump(inner, conn))
        pump(conn, inner)

    listener = check(tcp.listen("127.0.0.1:0", accept))
    try:
        yield f"http://127.0.0.1:{listener.port}", count
    finally:
        listener.close()
        turn(5)


def test_nginx() -> None:
    if program("nginx") is None:
        pytest.skip(missing("nginx"))
    with nginx(CONFIGURATION, ["nginx"]) as proxy, relayed(f"unix:{proxy.at('nginx')}") as (url, count):
        (proxy.folder / "big.txt").write_bytes(BIG)
        with http.newclient(redirects=3) as client:
            for number in range(12):
                assert get(client, f"{url}/hello").text == "hello"
                assert count[0] == number // 5 + 1, "nginx ends a connection after five requests"
            assert get(client, f"{url}/moved").text == "hello"
            big = get(client, f"{url}/big.txt")
            assert (big.body, big.header["content-encoding"]) == (BIG, "gzip")
            assert big.header["transfer-encoding"] == "chunked"
            part = check(client.get(f"{url}/big.txt", {"Range": "bytes=10-19"}))
            assert (part.status, part.body) == (206, BIG[10:20])
            since = check(client.get(f"{url}/big.txt", {"If-None-Match": big.header["etag"] or ""}))
            assert since.status in (200, 304)
            for _ in range(2):
                assert get(client, f"{url}/close").text == "closed"
            assert get(client, f"{url}/../../etc/passwd").status in (400, 403, 404)
            assert check(client.fetch("HEAD", f"{url}/big.txt")).body == b""
            early = check(client.post(f"{url}/limited", None, BIG * 3))
            assert early.status == 413
            expecting = check(client.post(f"{url}/limited", {"Expect": "100-continue"}, BIG * 3))
            assert expecting.status == 413
            many(client, url)


# ---- h11 ------------------------------------------------------------------------------------------------------------


def with_h11(answer: Callable[[h11.Request, bytes, h11.Connection], list[bytes | None]]) -> Callable[[Any], None]:
    """A script for a connection: h11 reads the requests, strictly, and makes the answers."""

    def script(conn: Any) -> None:
        connection = h11.Connection(h11.SERVER)
        request, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                data, _ = conn.read(1, 10_000)
                connection.receive_data(b"" if data is None else data + take(conn._stream.buf, len(conn._stream.buf)))
            elif isinstance(event, h11.Request):
                request, body = event, b""
                if connection.they_are_waiting_for_100_continue:
                    conn.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                for data in answer(request, body, connection):
                    conn.write(data or b"")
                if connection.our_state is not h11.DONE:
                    conn.close()
                    return
                connection.start_next_cycle()
            else:
                assert isinstance(event, h11.ConnectionClosed)
                return

    return script


def h11_answer(request: h11.Request, body: bytes, connection: h11.Connection) -> list[bytes | None]:
    path = request.target.decode()
    fields: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {
        "/hello": (200, [], b"hello"),
        "/moved": (302, [("Location", "/hello")], b""),
        "/big": (200, [], BIG),
        "/gzip": (200, [("Content-Encoding", "gzip")], gzip.compress(BIG)),
        "/echo": (200, [("Content-Length", str(len(body)))], body),
    }
    status, headers, data = fields.get(path, (404, [("Connection", "close")], b"nothing"))
    out = [connection.send(h11.InformationalResponse(status_code=103, headers=[]))]
    out.append(connection.send(h11.Response(status_code=status, headers=headers)))
    if request.method != b"HEAD":
        for at in range(0, len(data), 65_536):
            out.append(connection.send(h11.Data(data[at : at + 65_536])))
    out.append(connection.send(h11.EndOfMessage()))
    return out


def test_h11() -> None:
    listener = check(tcp.listen("127.0.0.1:0", with_h11(h11_answer)))
    with listener, http.newclient(redirects=3) as client:
        url = f"http://127.0.0.1:{listener.port}"
        exercised(client, url)
        chunked_upload(client, url)
        many(client, url)
    turn(5)
