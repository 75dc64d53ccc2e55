"""What a datagram and its answer cost with ours, both ends in one process."""

from __future__ import annotations

import timing

import silly
from silly import task
from silly.net import udp

server = silly.check(udp.bind("127.0.0.1:0"))
client = silly.check(udp.connect(server.addr))


def echo() -> None:
    while True:
        data, addr = server.recvfrom()
        if data is None:
            break
        server.sendto(data, addr)


def round_trips(count: int) -> None:
    for _ in range(count):
        client.sendto(b"x" * 32)
        client.recvfrom()


task.fork(echo)
timing.report({"a datagram of 32 bytes, and its answer": round_trips})
server.close()
client.close()
