"""Every example runs as its header says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

from silly import check, task, time
from silly.net import http, tcp, udp, websocket
from silly.sync import channel
from tests.children import Child
from tests.conftest import Logs
from tests.net.support import until

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


APPLICATIONS = {"chat.py", "console.py", "proxy.py"}


def example(name: str, *args: str) -> Child:
    return Child("-m", "silly", str(EXAMPLES / name), *args)


def address(line: str) -> str:
    """The address that a server printed."""
    found = re.search(r"127\.0\.0\.1:\d+", line)
    assert found, line
    return found.group()


def logged(server: Child) -> str:
    """The address where a server logs that it listens."""
    until(lambda: "listening on " in server.said(), 30_000)
    return address(server.said())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_say_how_to_run(path: Path) -> None:
    source = path.read_text()
    assert f"python -m silly examples/{path.name}" in source.split('"""')[1]
    if path.name not in APPLICATIONS:
        assert source.count("\n") < 60


def test_echo_server_and_client() -> None:
    with example("websocket_echo_server.py", "--addr=127.0.0.1:0") as server:
        addr = address(server.line())
        with example("websocket_echo_client.py", f"--url=ws://{addr}") as client:
            assert client.line() == "Connected to WebSocket server"
            assert client.line() == "Received: Echo: Hello, Server!"
            assert client.wait() == 0
        conn = check(tcp.connect(addr))
        conn.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        body, _err = conn.read("Not a WebSocket request")
        assert body is not None
        assert body.startswith(b"HTTP/1.1 200 OK\r\n")
        conn.close()
        assert server.stop() == 0


def test_echo_client_without_a_server() -> None:
    with example("websocket_echo_client.py", "--url=ws://127.0.0.1:1") as client:
        assert client.line().startswith("Connect failed: websocket.connect ws://127.0.0.1:1: Connection refused")
        assert client.wait() == 0


def test_ping_aware_client() -> None:
    pongs = channel.new()

    def handler(stream: http.ServerStream) -> None:
        sock, _err = websocket.upgrade(stream)
        assert sock is not None
        sock.write("are you there", "ping")
        sock.write("hello", "text")
        sock.write("bye", "text")
        sock.write(b"", "close")
        while True:
            data, typ = sock.read()
            if data is None or typ == "close":
                break
            pongs.push((data, typ))
        pongs.close()

    with check(http.listen(addr="127.0.0.1:0", handler=handler)) as server:
        with example("websocket_ping_client.py", f"--url=ws://{server.addr}") as client:
            assert client.line() == "Text: hello"
            assert client.line() == "Text: bye"
            assert client.wait() == 0
        assert pongs.pop() == ((b"are you there", "pong"), None)
        # Answered once, by the library: the pong by hand was taken as done.
        assert pongs.pop() == (None, "channel closed")


def test_broadcast_server() -> None:
    with example("websocket_broadcast_server.py", "--addr=127.0.0.1:0") as server:
        addr = address(server.line())
        ann = check(websocket.connect(f"ws://{addr}"))
        bob = check(websocket.connect(f"ws://{addr}"))
        # A ping's answer shows that the handler has bob on its list.
        bob.write("", "ping")
        assert bob.read() == (b"", "pong")
        ann.write("hello", "text")
        assert ann.read() == ("hello", "text")
        assert bob.read() == ("hello", "text")
        bob.close()
        ann.write("again", "text")
        assert ann.read() == ("again", "text")
        ann.close()
        conn = check(tcp.connect(addr))
        conn.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert conn.read("\r\n") == (b"HTTP/1.1 404 Not Found\r\n", None)
        conn.close()
        assert server.stop() == 0


def test_outbox_server() -> None:
    with example("websocket_outbox_server.py", "--addr=127.0.0.1:0") as server:
        addr = address(server.line())
        people = [check(websocket.connect(f"ws://{addr}")) for _ in range(3)]
        for sock in people:
            sock.write("", "ping")
            assert sock.read() == (b"", "pong")  # its outbox is there
        for number, sock in enumerate(people):
            sock.write(f"from {number}", "text")
            for other in people:
                if other is not sock:
                    assert other.read() == (f"from {number}", "text")
        people.pop().close()
        people[0].write("again", "text")
        assert people[1].read() == ("again", "text")
        for sock in people:
            sock.close()
        assert server.stop() == 0


def ready(stream: http.ServerStream) -> None:
    stream.answer(200, f"{stream.path} {stream.header['x-forwarded-proto']}")


def test_poll(tmp_path: Path, logs: Logs) -> None:
    logs.allow("GET '/never': the handler did not respond")
    tries: list[str] = []

    def handler(stream: http.ServerStream) -> None:
        tries.append(stream.path)
        if stream.path == "/busy" and tries.count("/busy") == 1:
            stream.respond(503, {"retry-after": "0"})
            stream.closewrite()
        elif stream.path == "/never":
            stream.conn.read(1)  # until it is cancelled there
        else:
            stream.answer(200, "here")

    with check(http.listen(addr="127.0.0.1:0", handler=handler)) as server:
        addr = server.addr
        urls = tmp_path / "urls.txt"
        urls.write_text("".join(f"http://{addr}/{path}\n" for path in ("one", "busy", "never", "two")))
        with example("poll.py", f"--urls={urls}", "--budget=1500") as client:
            lines = sorted(client.line() for _ in range(3))
            assert lines == [f"http://{addr}/{path}: 200" for path in ("busy", "one", "two")]
            assert client.line() == "3 answered, 1 given up"
            assert client.wait() == 1
        urls.write_text(f"http://{addr}/one")
        with example("poll.py", f"--urls={urls}") as client:
            assert [client.line(), client.line()] == [f"http://{addr}/one: 200", "1 answered"]
            assert client.wait() == 0


def test_console() -> None:
    def ping(sock: websocket.Socket) -> None:
        while sock.write("", "ping"):
            time.sleep(50)

    def service(conn: tcp.Conn) -> None:
        with conn:
            conn.write("welcome")
            while (data := conn.read(1)[0]) is not None and data != b"!":
                conn.write(data.upper())

    target = check(tcp.listen(addr="127.0.0.1:0", accept=service))
    with target, example("console.py", "--port=0", f"--target={target.addr}", "--idle=300") as server:
        addr = logged(server)
        client = http.newclient()

        def join() -> websocket.Socket:
            token = check(client.post(f"http://{addr}/token")).text.strip()
            sock = check(websocket.connect(f"ws://{addr}/console?token={token}"))
            assert check(client.get(f"http://{addr}/console?token={token}")).status == 403  # it is used up
            assert sock.read() == (b"welcome", "binary")
            return sock

        with join() as sock:
            sock.write("x", "text")
            assert sock.read() == (b"X", "binary")
            sock.write("!")
            assert sock.read()[1] == "close"
            assert (sock.closecode, sock.closereason) == (1000, "the target has ended")
        with join() as sock:
            task.fork(ping, sock)  # that is no use of the console
            while sock.read()[1] == "pong":
                pass
            assert (sock.closecode, sock.closereason) == (4000, "idle for too long")
        client.close()
        assert server.stop() == 0


def test_terminal() -> None:
    with example("terminal.py", "--port=0") as server:
        url = server.line().removeprefix("open ").rstrip("\n")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{40,}", url)
        client = http.newclient()
        assert "new WebSocket" in check(client.get(url)).text
        assert check(client.get(url[:-1])).status == 404
        sock, err = websocket.connect(url[:-1].replace("http", "ws"))
        assert sock is None
        assert err.status == 404
        with check(websocket.connect(url.replace("http", "ws"))) as sock:
            sock.write("tty; echo $((6 * 7)); exit\n", "text")
            shown = b""
            while (got := sock.read(10_000))[1] == "binary":
                shown += got[0] or b""
            assert got[1] == "close"
            assert re.search(rb"/dev/\S+\r\n42\r\n", shown), shown
        client.close()
        assert server.stop() == 0


def test_proxy() -> None:
    def handler(stream: http.ServerStream) -> None:
        if stream.header["upgrade"] != "websocket":
            ready(stream)
            return
        sock = check(websocket.upgrade(stream, subprotocols=["chat"], origins=False))
        data, typ = sock.read()
        assert data is not None
        sock.write(data, typ)
        sock.close(4001, "enough")

    behind = check(http.listen(addr="127.0.0.1:0", handler=handler))
    with behind, example("proxy.py", "--port=0", f"--upstream={behind.addr}") as server:
        addr = logged(server)
        client = http.newclient()
        assert check(client.get(f"http://{addr}/page?x=1")).text == "/page http\n"
        with check(websocket.connect(f"ws://{addr}/", subprotocols=["chat"])) as sock:
            assert sock.subprotocol == "chat"
            sock.write("hello", "text")
            assert sock.read() == ("hello", "text")
            assert sock.read()[1] == "close"
            assert (sock.closecode, sock.closereason) == (4001, "enough")
        behind.close()
        assert check(client.get(f"http://{addr}/")).status == 502
        client.close()
        assert server.stop() == 0


def test_wss_server(tmp_path: Path) -> None:
    authority = trustme.CA()
    cert = authority.issue_cert("localhost", "127.0.0.1")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    args = [f"--cert={tmp_path}/cert.pem", f"--key={tmp_path}/key.pem", "--addr=127.0.0.1:0"]
    with example("websocket_wss_server.py", *args) as server:
        addr = address(server.line())
        ca = authority.cert_pem.bytes().decode()
        sock = check(websocket.connect(f"wss://localhost:{addr.rpartition(':')[2]}/", ca=ca))
        assert sock.read() == ("Secure connection established", "text")
        assert sock.read() == (b"\x03\xe8", "close")
        sock.close()
        assert server.stop() == 0


def test_tcp_echo() -> None:
    with example("tcp_echo.py", "--addr=127.0.0.1:0") as server:
        conn = check(tcp.connect(logged(server)))
        conn.write("one\ntwo\n")
        assert conn.read("\n") == (b"one\n", None)
        assert conn.read("\n") == (b"two\n", None)
        conn.close()
        assert server.line().startswith("Connected: 127.0.0.1:")
        assert server.line().startswith("Ended: 127.0.0.1:")
        assert server.stop() == 0


def test_udp_echo() -> None:
    with example("udp_echo.py", "--addr=127.0.0.1:0") as server, check(udp.connect(address(server.line()))) as conn:
        conn.sendto("hello")
        assert conn.recvfrom() == (b"hello", conn.remoteaddr)
        assert server.line() == f"5 bytes from {conn.addr}"
        assert server.stop() == 0


def test_http_hello() -> None:
    with example("http_hello.py", "--addr=127.0.0.1:0") as server:
        conn = check(tcp.connect(logged(server)))
        conn.write("GET /?name=J%C3%BCrgen+B HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (conn.read("!\n")[0] or b"").endswith("\r\n\r\nHello, Jürgen B!\n".encode())
        conn.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (conn.read("abcde")[0] or b"").startswith(b"HTTP/1.1 200 OK\r\n")
        conn.close()
        assert server.stop() == 0


@pytest.mark.parametrize("launcher", [["-m", "silly"], []], ids=["launcher", "plain python"])
def test_pingpong_channel(launcher: list[str]) -> None:
    with Child(*launcher, str(EXAMPLES / "pingpong_channel.py")) as game:
        lines = [game.line() for _ in range(7)]
        assert lines == ["ping: 0", "pong: 1", "ping: 2", "pong: 3", "ping: 4", "pong: 5", "ping: game over"]
        assert game.wait() == 0


def test_site_and_get() -> None:
    with example("http_site.py", "--addr=127.0.0.1:0", f"--root={EXAMPLES}") as server:
        addr = logged(server)
        with example("http_get.py", f"--url=http://{addr}/api/visits/me") as client:
            assert client.line() == "200 OK"
            lines = [client.line() for _ in range(5)]
            assert "content-length: 2" in lines
            assert lines[-1] == "1"
            assert client.wait() == 0
        page = check(http.get(f"http://{addr}/"))
        assert page.body == (EXAMPLES / "chat.html").read_bytes()
        assert page.header["content-type"] == "text/html; charset=utf-8"
        assert check(http.get(f"http://{addr}/../setup.cfg")).status == 400
        sock = check(websocket.connect(f"ws://{addr}/echo"))
        sock.write("hello", "text")
        assert sock.read() == ("hello", "text")
        assert check(http.post(f"http://{addr}/drain")).status == 202
        http.closeidle()
        assert sock.read()[1] == "close"
        assert sock.closecode == 1001
        sock.close()
        assert server.wait() == 0


def test_get_without_a_server() -> None:
    with example("http_get.py", "--url=http://127.0.0.1:1/") as client:
        assert client.line() == "http GET http://127.0.0.1:1/: connect: Connection refused (111)"
        assert client.wait() == 1
