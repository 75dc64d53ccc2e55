"""The echo server of websockets on uvloop: websockets_echo.py PORT [compression | CERT KEY]"""

import asyncio
import ssl
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, serve


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def main(port: int, *options: str) -> None:
    compression = "deflate" if options == ("compression",) else None
    context = None
    if len(options) == 2:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*options)
    async with serve(echo, "127.0.0.1", port, compression=compression, ssl=context):
        await asyncio.Future()


uvloop.run(main(int(sys.argv[1]), *sys.argv[2:]))
