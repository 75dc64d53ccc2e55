"""A server with websockets on uvloop that sends each message to all who are connected: websockets_broadcast.py PORT"""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

sockets: set[ServerConnection] = set()


async def handler(socket: ServerConnection) -> None:
    sockets.add(socket)
    try:
        async for message in socket:
            broadcast(sockets, message)
    finally:
        sockets.remove(socket)


async def main(port: int) -> None:
    async with serve(handler, "127.0.0.1", port, compression=None):
        await asyncio.Future()


uvloop.run(main(int(sys.argv[1])))
