"""Datagrams: what comes in, and what may be sent."""

from typing import assert_type

import silly
from silly import task
from silly.net import udp


def echo(server: udp.Conn) -> str:
    while True:
        data, addr = server.recvfrom(1000)
        if data is None:
            return addr
        assert_type(data, bytes)
        server.sendto(data, addr)


def ask(lines: list[str]) -> int | None:
    client, err = udp.connect("127.0.0.1:8080", bindaddr="127.0.0.1")
    if client is None:
        print(err)
        return None
    with client:
        ok, why = client.sendto(lines)
        print(ok, why)
        client.sendto(memoryview(b"one"), "127.0.0.1:8080")
        client.sendto(5)  # wrong: arg-type, reportArgumentType
        client.sendto("x", 8080)  # wrong: arg-type, reportArgumentType
        which, _ = task.select(client, timeout=100)
        if which is not None:
            assert_type(which, udp.Conn)
        return client.dropped


def main() -> None:
    server = silly.check(udp.bind(":8080", broadcast=True, share=True, limits=silly.Limits(receive_mark=2**20)))
    server.join("239.1.2.3", "eth0")
    server.multicast(ttl="1")  # wrong: arg-type, reportArgumentType
    task.fork(echo, server)
