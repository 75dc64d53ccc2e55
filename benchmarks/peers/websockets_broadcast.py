"""A server with websockets on uvloop that sends each message to all: websockets_broadcast.py PORT [CERT KEY]"""

import asyncio
import ssl
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


async def main(port: int, *cert_and_key: str) -> None:
    context = None
    if cert_and_key:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*cert_and_key)
    async with serve(handler, "127.0.0.1", port, compression=None, ssl=context):
        await asyncio.Future()


uvloop.run(main(int(sys.argv[1]), *sys.argv[2:]))
