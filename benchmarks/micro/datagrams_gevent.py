"""What a datagram and its answer cost with gevent's sockets; see datagrams_silly.py."""

from __future__ import annotations

import gevent
import timing
from gevent import socket

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(server.getsockname())


def echo() -> None:
    while True:
        server.sendto(*server.recvfrom(65535))


def round_trips(count: int) -> None:
    for _ in range(count):
        client.send(b"x" * 32)
        client.recvfrom(65535)


echoing = gevent.spawn(echo)
timing.report({"a datagram of 32 bytes, and its answer": round_trips})
echoing.kill()
