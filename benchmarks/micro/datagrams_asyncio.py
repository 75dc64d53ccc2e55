"""What a datagram and its answer cost with asyncio: datagrams_asyncio.py [uvloop]; see datagrams_silly.py.

By its protocols, in which no task waits: its fastest way.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import timing


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Client(asyncio.DatagramProtocol):
    left = 0
    done: asyncio.Future[None]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.left -= 1
        if self.left:
            self.transport.sendto(data)
        else:
            self.done.set_result(None)


async def open_both() -> Client:
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    _, client = await loop.create_datagram_endpoint(Client, remote_addr=server.get_extra_info("sockname"))
    return client


async def ask(client: Client, count: int) -> None:
    client.left, client.done = count, asyncio.get_running_loop().create_future()
    client.transport.sendto(b"x" * 32)
    await client.done


if sys.argv[1:] == ["uvloop"]:
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
loop = asyncio.new_event_loop()
client = loop.run_until_complete(open_both())
timing.report({"a datagram of 32 bytes, and its answer": lambda count: loop.run_until_complete(ask(client, count))})
