"""The programs of docs/porting/udp.md: Lua and Python match line for line, and the Python runs as it stands, at free ports. And
every example of upstream's page of ``silly.net.udp``, told in our own words, does what upstream says."""

from __future__ import annotations

import re
from typing import Any

import pytest

import silly
from silly import check, errno, task, time
from silly.net import udp
from silly.sync import waitgroup

from .helpers import WITHIN, spawn, turn
from .test_porting_pages import Output, line_for_line, printed, sections

UDP = sections("udp.md")
PRINTS = {
    "A parrot": ["It says b'Ahoy!'", "It says b'Pieces of eight!'"],
    "Nobody home": ["None True", "The house keeps 8 bytes"],
    "A well that dries up": [
        "2 drops",
        "4 drops",
        f"False {errno.CLOSED}",
        f"Dry: {errno.CLOSED}",
        "False None 0",
    ],
}


def free() -> str:
    """A free address of the loopback."""
    with check(udp.bind("127.0.0.1:0")) as conn:
        return conn.addr


@pytest.mark.parametrize("title", UDP)
def test_line_for_line(title: str) -> None:
    line_for_line(*UDP[title])


@pytest.mark.parametrize("title", UDP)
def test_it_runs(title: str, capsys: Output) -> None:
    ports: dict[str, str] = {}

    def here(match: re.Match[str]) -> str:
        return ports.setdefault(match[0], free())

    exec(re.sub(r"127\.0\.0\.1:\d+", here, UDP[title][1]), {})
    printed(capsys, *PRINTS[title])


# ---- upstream's examples -------------------------------------------------------------


def test_the_complete_example() -> None:
    """A server that answers one client, each in a task of a waitgroup."""
    group, addr, seen = waitgroup.new(), free(), []
    server = check(udp.bind(addr))

    def serve() -> None:
        data, whence = server.recvfrom()
        if data is None:
            seen.append(whence)
            return
        seen.append(data.decode())
        server.sendto(data, whence)

    def visit() -> None:
        time.sleep(1)
        client = check(udp.connect(addr))
        client.sendto("Hello, UDP!")
        data, whence = client.recvfrom()
        if data is not None:
            seen.append(f"{data.decode()} from {whence}")
        client.close()

    group.fork(serve)
    group.fork(visit)
    group.wait()
    assert server.close() == (True, None)
    assert seen == ["Hello, UDP!", f"Hello, UDP! from {addr}"]


def test_the_example_of_bind() -> None:
    addr = free()
    sock, err = udp.bind(addr)
    assert sock is not None
    assert err is None
    assert udp.bind(addr) == (None, errno.ADDRINUSE)
    sock.close()


def test_the_example_of_connect() -> None:
    sock, err = udp.connect(free())
    assert sock is not None, err
    sock.close()


def test_the_example_of_sendto() -> None:
    """A bound socket names the address, a connected one needn't, and a list is one datagram."""
    server, err = udp.bind(":0")
    assert server is not None, err
    assert server.sendto("Hello", free()) == (True, None)
    client, err = udp.connect(f"127.0.0.1:{server.port}")
    assert client is not None, err
    with server, client:
        assert client.sendto("Hi there")
        assert client.sendto(["Header: ", "Value\n", "Body"])
        assert [server.recvfrom(WITHIN)[0] for _ in range(2)] == [b"Hi there", b"Header: Value\nBody"]


def test_the_example_of_recvfrom() -> None:
    """A task that echoes until the socket is closed."""
    sock = check(udp.bind(":0"))

    def echo() -> str:
        while True:
            data, addr = sock.recvfrom()
            if data is None:
                return addr
            sock.sendto(data, addr)

    ended = spawn(echo)
    with check(udp.connect(f"127.0.0.1:{sock.port}")) as client:
        for text in (b"one", b"two"):
            client.sendto(text)
            assert client.recvfrom(WITHIN)[0] == text
    sock.close()
    assert ended.pop()[0] == (errno.CLOSED,)


def test_the_examples_of_a_server_and_a_client_with_a_time_out(capsys: Output) -> None:
    """Five messages; the server answers all but the third, which the client gives up."""
    addr = free()
    sock = check(udp.bind(addr))

    def serve() -> None:
        while True:
            data, whence = sock.recvfrom()
            if data is None:
                print("Server error:", whence)
                break
            if not data.endswith(b"3"):
                sock.sendto(b"ACK: " + data, whence)
        sock.close()

    def talk(client: udp.Conn) -> None:
        for number in range(1, 6):
            client.sendto(f"Message {number}")
            data, err = client.recvfrom(WITHIN if number != 3 else 20)
            if data is None:
                if err == errno.TIMEDOUT:
                    print("No response for message", number)
                else:
                    print("Recv error:", err)
                    break
            else:
                print("Received:", data.decode())
        client.close()

    task.fork(serve)
    talk(check(udp.connect(addr)))
    sock.close()
    turn(2)
    printed(
        capsys,
        *[f"Received: ACK: Message {number}" if number != 3 else "No response for message 3" for number in range(1, 6)],
        f"Server error: {errno.CLOSED}",
    )


def test_the_example_of_several_receivers() -> None:
    """Upstream calls it a broadcast: one sender, two addresses."""
    group = waitgroup.new()
    addrs = [free(), free()]
    got: list[Any] = []

    def receive(addr: str) -> None:
        with check(udp.bind(addr)) as sock:
            got.append(sock.recvfrom()[0])

    def send() -> None:
        sock, err = udp.bind(":0")
        assert sock is not None, err
        for addr in addrs:
            assert sock.sendto("Broadcast message", addr) == (True, None)
        sock.close()

    for addr in addrs:
        group.fork(receive, addr)
    group.fork(send)
    group.wait()
    assert got == [b"Broadcast message"] * 2


def test_the_examples_of_addresses() -> None:
    """Names work here, which upstream refuses; what is no address raises."""
    for addr in ("127.0.0.1:0", "[::1]:0", ":0", "localhost:0"):
        sock, err = udp.bind(addr)
        if addr != "[::1]:0" or err not in (errno.ADDRNOTAVAIL, errno.AFNOSUPPORT):
            assert sock is not None, err
            sock.close()
    assert silly.pcall(udp.bind, "8080")[0] is False
